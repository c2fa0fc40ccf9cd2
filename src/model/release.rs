//! Release: how far the daemon may go by itself, what brakes a run, and why a notice waits for a person.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Country;
use super::codes::codes;

codes! {
    /// How far the daemon may go by itself. A new installation begins in `approve_all`.
    Mode {
        Shadow = "shadow", "Everything is decided and recorded, and nothing is ever sent.";
        ApproveAll = "approve_all", "Every notice waits until a person approves it.";
        Live = "live", "What the brakes let through goes out by itself.";
    }
}

codes! {
    /// What keeps the notices of a run from going out by themselves.
    BrakeCode {
        NoticesPerRun = "notices_per_run", "The run has more notices than one run may send.";
        Forecast = "forecast", "The run has many more notices than the last one expected.";
        BankAccount = "bank_account", "Letters name another bank account than the last ones did.";
        FirstRuns = "first_runs", "The ledger has a history and nothing was ever sent: the first runs send a few, then more.";
    }
}

codes! {
    /// Why a notice waits until a person approves it.
    ApprovalCause {
        Stage = "stage", "Its stage asks for it.";
        NeverReminded = "never_reminded", "It demands something that is very late and that no letter of ours ever named.";
        TimeBarred = "time_barred", "It demands something from a consumer that may be time-barred.";
        ApproveAll = "approve_all", "Every notice waits, by the mode of the installation.";
        Brake = "brake", "Its run was braked.";
    }
}

codes! {
    /// What became of the notices of a run.
    ReleaseState {
        Shadow = "shadow", "Nothing was sent: the mode is shadow.";
        ApproveAll = "approve_all", "Every notice was put before a person.";
        Released = "released", "They went out by themselves.";
        Ramped = "ramped", "The oldest cases went out; the others are decided again the next day.";
        Held = "held", "A brake holds them until a person approves or drops them.";
        Approved = "approved", "A person let them go.";
        Dropped = "dropped", "A person dropped them.";
    }
}

/// `[brake]` of the policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrakePolicy {
    /// More notices in one run are held.
    pub notices_per_run: u64,
    /// More notices of a creditor than this in an hour are put off to the hours after it.
    pub notices_per_hour: u64,
    /// Percent of the last forecast that a run may reach, with `forecast_margin` on top.
    pub forecast_percent: u64,
    pub forecast_margin: u64,
    /// Notices of the first run against a ledger with a history; each run after it may send twice as many.
    pub first_run_notices: u64,
    /// An item more days late than this that no letter of ours ever named waits for a person.
    pub never_reminded_days: u32,
    /// Whole years after which a consumer's debt may be time-barred, per country.
    pub limitation_years: BTreeMap<Country, u32>,
}

/// `[approval]` of the policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalPolicy {
    /// So many notices may wait for a person; further ones are not made.
    pub waiting_limit: u32,
    /// Days after its planned day for which the text of a notice stays true that waits for a person.
    pub valid_days: u32,
    /// Whoever asked for a run by hand may also approve what it held, and its formal notices.
    pub same_person: bool,
}

/// What the brakes look at after the last account of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFigures {
    /// Notices that the run wants to send.
    pub notices: u64,
    /// What the last whole run before this date expected of it; none after an interruption or before the first one.
    pub forecast: Option<u64>,
    /// Whether any notice of a whole run of this creditor was ever accepted.
    pub accepted_before: bool,
    /// The last whole run that let notices out by itself, when that one was ramped.
    pub last_ramp: Option<LastRamp>,
    pub changed_accounts: Vec<ChangedAccount>,
}

/// A run that sent a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastRamp {
    pub limit: u64,
    /// It was of the same business date, which has sent so many already.
    pub sent_today: Option<u64>,
}

/// Letters name another bank account than the last ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedAccount {
    pub currency: String,
    pub old: String,
    pub new: String,
    /// Letters that it concerns, and the account of one of them.
    pub notices: u64,
    pub example: String,
}

/// A brake that took hold: which one, and what happened in words with the numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Braked {
    pub brake: BrakeCode,
    pub why: String,
}

/// What may go out of a run by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Release {
    All,
    /// The oldest cases, so many of the `base` that this day may send; the others are decided again the next day.
    Ramp {
        limit: u64,
        base: u64,
        braked: Braked,
    },
    /// Nothing, until a person approves.
    Hold(Vec<Braked>),
}

/// How the notices of a run left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Released {
    pub state: ReleaseState,
    pub braked: Vec<Braked>,
    pub queued: u64,
    /// Given to people as tasks.
    #[serde(default)]
    pub tasks: u64,
    /// Wait for a person.
    pub awaiting: u64,
    /// Not sent, by the mode or a ramp.
    pub cancelled: u64,
    /// Not sent because this installation may not write to these domains.
    pub not_allowed: u64,
}
