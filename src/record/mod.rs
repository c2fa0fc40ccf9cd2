//! The write side: runs, decisions, notices, attempts, events, the register. With `ledger` the only place with SQL.
//!
//! Every function takes a connection: the caller owns the transaction. A change of state and its event commit
//! together, and `events::append` is the last statement before COMMIT, because it locks the head of the log.

mod approvals;
mod attempts;
mod breakers;
mod bundle;
mod causes;
mod checkpoints;
mod contacts;
mod copy;
mod decisions;
mod dossier;
mod erasure;
mod digest;
mod events;
mod export;
mod journal;
mod known;
mod last_check;
mod migrate;
mod mode;
mod notices;
mod opening;
mod outbox;
mod past;
mod people;
mod plans;
mod promises;
mod proof;
mod register;
mod release;
mod resend;
mod runs;
mod settle;
mod status;
mod verify;
mod verify_register;

pub use approvals::{
    ApprovalError, WaitingNotice, Which, approve, beside_contacts, cancel_notice, close_run, drop_notices,
    expire_waiting, waiting_for_approval, waiting_notices, waiting_of_run,
};
pub use attempts::{
    BEGIN, BEGIN_FORGETTABLE, ClaimedNotice, anything_due, claim, claim_ahead, knows_attempt, open_attempt,
    others_were_accepted, release_claims, restore_attempt, set_up, sweep, write_through,
};
pub use breakers::{
    BreakerRow, any_breaker, ask_about_letter, breaker, breakers, breakers_of_an_hour, close_breaker,
    forget_other_relays, is_another_domain, keep_breaker, open_breakers, refused_in_a_row,
};
pub use bundle::{Bundle, Report, checkpoint_file, verify_bundle, verify_growth};
pub use causes::{NewCause, clear_causes, record_cause, undo_write_off, write_off};
pub use checkpoints::{
    CheckpointError, CheckpointRow, checkpoint_is_due, checkpoints, extends_checkpoint, last_checkpoint,
    lock_checkpoints, make_checkpoint,
};
pub use contacts::{contact_data_kept, enter_contact, entered_mailboxes, remove_contact};
pub use decisions::{PageWrite, Planned, PlannedCopy, RecordedDecisions, decision_line, write_page, write_tasks};
pub use digest::{
    Delivered, DigestFacts, OperatorMail, OperatorMailKey, WaitingSince, digest_facts, first_scheduled_run,
    is_operator_mail_due, is_operator_mail_written, operator_mails_due, runs_in_trouble, runs_to_tell,
    settle_operator_mail, take_operator_mail, write_operator_mail,
};
pub use dossier::{DecisionLine, Recorded, RegisterLine, recorded, text_of};
pub use erasure::{EraseError, Erasure, erase, expired, lift_legal_hold, place_legal_hold};
pub use events::{append, chain_hash_at, head, holds, now, texts_stored, times};
pub use export::{
    AttemptLine, EventLine, Message, Note, attempt_lines, event_lines, export_line, message_file, message_line,
    message_of, note_line, notes, notices_made,
};
pub use journal::{Call, JournalRow, NoteText, add_note, journal, log_call};
pub use known::{
    Comparison, accept as accept_ledger, apply as apply_known_items, compare as compare_known_items,
    remember as remember_known_items, restore as restore_item,
};
pub use last_check::{LastCheck, in_flight_check, stopped};
pub use migrate::{SchemaState, migrate, schema_state};
pub use mode::{Identity, ModeState, adopt, adopt_new, identity, mode, set_mode};
pub use notices::{ApprovedNotice, NoticeRow, Renewal, approved_notice, notices_of, renew, write_messages};
pub use opening::{Opening, accounts_of, import_opening};
pub use outbox::{
    AttemptRow, OutboxRow, Resolution, ResolveError, TaskRow, Unresolved, Windowed, attempts_of, held_back, not_before,
    open_tasks, outbox, resolve, unresolved, waiting, windowed,
};
pub use past::{Past, PastReader, mailboxes, pinned_ladders};
pub use people::{
    Paper, TaskDetail, TaskEnd, TaskEntry, TaskError, TaskNotice, lock_paper, task_detail, task_done, task_drop,
};
pub use plans::{agree_plan, end_plan, lock_register};
pub use promises::{promise, withdraw_promise};
pub use proof::{Proof, Proved, ProvedEvent, prove, verify_proof};
pub use register::{
    PauseState, RegisterError, dispute, end_dispute, hand_over, known, move_case, pause, pause_state, place_hold,
    release_holds, resume, take_back, waive,
};
pub use release::{Hours, ReleaseOrder, release_run, run_figures};
pub use resend::{is_sent_again, resend};
pub use runs::{
    RunEnd, RunRow, RunStart, SessionLock, completed_run, fail, finish, latest_runs, lead, lock_hours, recover, refuse,
    run, run_start, scheduled_run, start, still_running,
};
pub use settle::{NextTry, Settled, Settlement, settle};
pub use status::{
    DecisionRow, PromisesBesideCredits, Status, decision_in, decision_on, promises_beside_credits, status,
};
pub use verify::{
    Chain, Contents, ContentsCheck, Problem, Verified, Vouched, read_checkpoints, verify_against_notices,
    verify_contents, verify_decisions, verify_lines, verify_look_ups, verify_notices, verify_texts,
};
pub use verify_register::verify_register;

/// An advisory lock, a missing row, a value that does not parse: what the database held was not what this program
/// writes.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The database refused or is gone.
    #[error("{}", database_message(.0))]
    Database(sqlx::Error),
    /// The one guard against doubles said no. Decisions see a pending notice before it comes to that, except in a scan
    /// that looks at a day before the notice's own.
    #[error("a notice for one of these items and its stage exists already")]
    Doubled,
    /// It lost its last commits, or is another one than before.
    #[error("the database does not hold what it was told before")]
    Forgot,
    /// Another run of the creditor has begun since.
    #[error("another run of this creditor took over; what this one concluded was not written")]
    TakenOver,
    /// A stored value does not parse.
    #[error("table {table}, column {column}: {value:?} is not valid")]
    Inconsistent { table: &'static str, column: &'static str, value: String },
}

impl RecordError {
    /// Whether the database answered that something is wrong with what it was asked. Else nobody knows whether it is there,
    /// or the same one.
    #[must_use]
    pub fn is_an_answer(&self) -> bool {
        let Self::Database(error) = self else { return !matches!(self, Self::Forgot) };
        // PostgreSQL, appendix A: connection, transaction state, resources, intervention, system, internal.
        let lost = ["08", "25", "53", "57", "58", "XX"];
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        code.is_some_and(|code| !lost.iter().any(|class| code.starts_with(class)))
    }
}

/// The message of a database error without PostgreSQL's source lines, and without values of the row.
#[must_use]
pub fn database_message(error: &sqlx::Error) -> String {
    match error.as_database_error() {
        Some(db) => format!("database: {}{}", db.message(), db.code().map_or(String::new(), |c| format!(" ({c})"))),
        None => format!("database: {error}"),
    }
}

impl From<sqlx::Error> for RecordError {
    fn from(error: sqlx::Error) -> Self {
        let constraint = error.as_database_error().and_then(|db| db.constraint());
        if constraint == Some("one_live_notice_per_item_and_stage") { Self::Doubled } else { Self::Database(error) }
    }
}

/// A number that the database keeps with a sign, and that has none.
fn whole(table: &'static str, column: &'static str, value: i32) -> Result<u32, RecordError> {
    u32::try_from(value).map_err(|_| inconsistent(table, column, &value.to_string()))
}

/// The text of what is kept for ever as one.
fn json_text(value: &impl serde::Serialize) -> Result<String, RecordError> {
    serde_json::to_string(value).map_err(|error| RecordError::Database(sqlx::Error::Encode(Box::new(error))))
}

fn inconsistent(table: &'static str, column: &'static str, value: &str) -> RecordError {
    RecordError::Inconsistent { table, column, value: value.to_owned() }
}
