//! One line of the contact log, its canonical form and its hashes.
//!
//! The stored bytes of an event are `{"at":"…","event":<canonical JSON>,"seq":"N","v":"1"}`. The leaf hash is
//! SHA-256(0x00 || bytes) (RFC 6962 §2.1), the chain hash SHA-256(previous chain hash || leaf hash), beginning with 32
//! zero bytes. In the canonical form keys are sorted and every amount, id and time is a string, so no reader rounds.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The chain hash before the first event.
pub const GENESIS: [u8; 32] = [0; 32];

/// What an event tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    RunStarted,
    RunCompleted,
    RunRefused,
    /// It broke off, or its process died; its notices are cancelled by the next one.
    RunFailed,
    RunApproved,
    RunDropped,
    CaseOpened,
    CaseClosed,
    CaseMoved,
    NoticePlanned,
    NoticeApproved,
    NoticeCancelled,
    NoticeAccepted,
    NoticeDeferred,
    NoticeRefused,
    NoticeUnknown,
    /// Nobody knows what became of it, and its stage lets it be sent once more.
    NoticeQueuedAgain,
    /// The end of an attempt became known after its notice had been settled otherwise, which stands.
    LateReply,
    NoticeResolvedAccepted,
    NoticeResolvedNotSent,
    NoticeDone,
    NoticeLapsed,
    HoldPlaced,
    HoldReleased,
    DisputeRecorded,
    DisputeResolved,
    StageWaived,
    CallLogged,
    NoteAdded,
    PromiseMade,
    PromiseWithdrawn,
    AccountHandedOver,
    AccountTakenBack,
    PlanAgreed,
    PlanRestructured,
    PlanEnded,
    CauseRecorded,
    CauseCleared,
    ContactEntered,
    ContactRemoved,
    WrittenOff,
    WriteOffUndone,
    OpeningImported,
    PromiseBroken,
    PaymentAfterHandover,
    Paused,
    Resumed,
    ModeChanged,
    DatabaseAdopted,
    /// The log is shorter than, or not the one that, this machine last saw; a person said that it counts.
    DatabaseAccepted,
    /// The database's clock went back behind the last event; a person said that it is right now.
    ClockAccepted,
    /// Too many items vanished from the ledger at once, or were open again; a person said that it is right.
    LedgerAccepted,
    TaskOpened,
    TaskClosed,
    ItemWithdrawn,
    ItemRestored,
    /// Items stand with other accounts than before.
    ItemsMoved,
    LegalHoldPlaced,
    LegalHoldLifted,
    /// Personal data was deleted; written by the function of the database that deletes it.
    Redacted,
}

impl EventKind {
    /// The one text form.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RunStarted => "run_started",
            Self::RunCompleted => "run_completed",
            Self::RunRefused => "run_refused",
            Self::RunFailed => "run_failed",
            Self::RunApproved => "run_approved",
            Self::RunDropped => "run_dropped",
            Self::CaseOpened => "case_opened",
            Self::CaseClosed => "case_closed",
            Self::CaseMoved => "case_moved",
            Self::NoticePlanned => "notice_planned",
            Self::NoticeApproved => "notice_approved",
            Self::NoticeCancelled => "notice_cancelled",
            Self::NoticeAccepted => "notice_accepted",
            Self::NoticeDeferred => "notice_deferred",
            Self::NoticeRefused => "notice_refused",
            Self::NoticeUnknown => "notice_unknown",
            Self::NoticeQueuedAgain => "notice_queued_again",
            Self::LateReply => "late_reply",
            Self::NoticeResolvedAccepted => "notice_resolved_accepted",
            Self::NoticeResolvedNotSent => "notice_resolved_not_sent",
            Self::NoticeDone => "notice_done",
            Self::NoticeLapsed => "notice_lapsed",
            Self::HoldPlaced => "hold_placed",
            Self::HoldReleased => "hold_released",
            Self::DisputeRecorded => "dispute_recorded",
            Self::DisputeResolved => "dispute_resolved",
            Self::StageWaived => "stage_waived",
            Self::CallLogged => "call_logged",
            Self::NoteAdded => "note_added",
            Self::PromiseMade => "promise_made",
            Self::PromiseWithdrawn => "promise_withdrawn",
            Self::AccountHandedOver => "account_handed_over",
            Self::AccountTakenBack => "account_taken_back",
            Self::PlanAgreed => "plan_agreed",
            Self::PlanRestructured => "plan_restructured",
            Self::PlanEnded => "plan_ended",
            Self::CauseRecorded => "cause_recorded",
            Self::CauseCleared => "cause_cleared",
            Self::ContactEntered => "contact_entered",
            Self::ContactRemoved => "contact_removed",
            Self::WrittenOff => "written_off",
            Self::WriteOffUndone => "write_off_undone",
            Self::OpeningImported => "opening_imported",
            Self::PromiseBroken => "promise_broken",
            Self::PaymentAfterHandover => "payment_after_handover",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::ModeChanged => "mode_changed",
            Self::DatabaseAdopted => "database_adopted",
            Self::DatabaseAccepted => "database_accepted",
            Self::ClockAccepted => "clock_accepted",
            Self::LedgerAccepted => "ledger_accepted",
            Self::TaskOpened => "task_opened",
            Self::TaskClosed => "task_closed",
            Self::ItemWithdrawn => "item_withdrawn",
            Self::ItemRestored => "item_restored",
            Self::ItemsMoved => "items_moved",
            Self::LegalHoldPlaced => "legal_hold_placed",
            Self::LegalHoldLifted => "legal_hold_lifted",
            Self::Redacted => "redacted",
        }
    }
}

/// Who did it: the database's session user is added by the database itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The operating-system user: the login from which the command was given, where the system knows it, else the user of
    /// the process.
    pub os_user: String,
    /// The person it is said to be (`--by`), or the daemon.
    pub person: String,
}

/// By which users the system knows whoever gave a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Users {
    /// Of the session, as the kernel keeps it from the login on, whatever user one becomes afterwards (`pam_loginuid`).
    pub session: Option<u32>,
    /// What sudo says in `SUDO_UID`: only a variable of the environment.
    pub sudo: Option<u32>,
    /// Of the process.
    pub process: u32,
    /// The user of the service, which nobody logs in as.
    pub service: Option<u32>,
}

impl Users {
    /// Whose login it is. What sudo says counts only where nobody is but by sudo, as root or as the service: anybody else
    /// may write into his own environment.
    #[must_use]
    pub fn login(self) -> u32 {
        let by_sudo = || self.sudo.filter(|_| self.process == 0 || Some(self.process) == self.service);
        self.session.or_else(by_sudo).unwrap_or(self.process)
    }
}

/// What happened, before the database gives it its number and time.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub kind: EventKind,
    pub actor: Actor,
    pub creditor: Option<String>,
    pub account: Option<String>,
    pub notice: Option<String>,
    pub run: Option<String>,
    /// Facts of this kind of event. No names, addresses or message text: those stand in the side table.
    pub facts: Value,
}

impl Event {
    /// An event about nothing in particular yet.
    #[must_use]
    pub fn new(kind: EventKind, actor: Actor, facts: Value) -> Self {
        Self { kind, actor, creditor: None, account: None, notice: None, run: None, facts }
    }

    /// The canonical JSON that is chained.
    #[must_use]
    pub fn canonical(&self) -> String {
        let text = |text: &String| quoted(text.as_str());
        // In the order of their names.
        let members = [
            ("account", self.account.as_ref().map(text)),
            ("creditor", self.creditor.as_ref().map(text)),
            ("facts", Some(canonical(&self.facts))),
            ("kind", Some(quoted(self.kind.as_str()))),
            ("notice", self.notice.as_ref().map(text)),
            ("os_user", Some(quoted(&self.actor.os_user))),
            ("person", Some(quoted(&self.actor.person))),
            ("run", self.run.as_ref().map(text)),
        ];
        let members: Vec<String> =
            members.into_iter().filter_map(|(name, json)| Some(format!("\"{name}\":{}", json?))).collect();
        format!("{{{}}}", members.join(","))
    }
}

/// JSON with sorted keys, no white space, and every number written as a string.
#[must_use]
pub fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write_canonical(value, &mut out);
    out
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => {
            let _ = write!(out, "\"{number}\"");
        }
        Value::String(text) => out.push_str(&quoted(text)),
        Value::Array(values) => {
            out.push('[');
            for (n, value) in values.iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                write_canonical(value, out);
            }
            out.push(']');
        }
        Value::Object(object) => {
            let mut entries: Vec<(&String, &Value)> = object.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            out.push('{');
            for (n, (key, value)) in entries.into_iter().enumerate() {
                if n > 0 {
                    out.push(',');
                }
                out.push_str(&quoted(key));
                out.push(':');
                write_canonical(value, out);
            }
            out.push('}');
        }
    }
}

/// A text as JSON has it.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// SHA-256(0x00 || bytes), the leaf hash of RFC 6962 §2.1.
#[must_use]
pub fn leaf_hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update([0]).chain_update(bytes).finalize().into()
}

/// SHA-256(previous chain hash || leaf hash).
#[must_use]
pub fn chain_hash(previous: [u8; 32], leaf: [u8; 32]) -> [u8; 32] {
    Sha256::new().chain_update(previous).chain_update(leaf).finalize().into()
}
