//! The write side: runs, decisions, notices, attempts, events, the register. With `ledger` the only place with SQL.
//!
//! Every function takes a connection: the caller owns the transaction. A change of state and its event commit
//! together, and `events::append` is the last statement before COMMIT, because it locks the head of the log.

mod attempts;
mod causes;
mod contacts;
mod decisions;
mod events;
mod export;
mod journal;
mod known;
mod migrate;
mod notices;
mod opening;
mod outbox;
mod past;
mod plans;
mod promises;
mod register;
mod runs;
mod status;
mod verify;

pub use attempts::{
    Checked, ClaimedNotice, LastCheck, NextTry, Settled, anything_due, claim, in_flight_check, settle, sweep,
};
pub use causes::{NewCause, clear_causes, record_cause, undo_write_off, write_off};
pub use contacts::{enter_contact, remove_contact};
pub use decisions::{PageWrite, Planned, write_page};
pub use events::{append, head, texts_stored};
pub use export::{EventLine, Message, event_lines, export_line, message_line, message_of, messages_of};
pub use journal::{Call, JournalRow, NoteText, add_note, journal, log_call};
pub use known::{Comparison, apply as apply_known_items, compare as compare_known_items};
pub use migrate::{SchemaState, migrate, schema_state};
pub use notices::{NoticeRow, notices_of, release_run};
pub use opening::{Opening, accounts_of, import_opening};
pub use outbox::{
    AttemptRow, OutboxRow, Resolution, ResolveError, TaskRow, Windowed, attempts_of, not_before, open_tasks, outbox,
    resolve, waiting, windowed,
};
pub use past::{Past, PastReader, mailboxes};
pub use plans::{agree_plan, end_plan, lock_register};
pub use promises::{promise, withdraw_promise};
pub use register::{
    PauseState, RegisterError, dispute, end_dispute, hand_over, known, pause, pause_state, place_hold, release_holds,
    resume, take_back, waive,
};
pub use runs::{
    LeaderLock, RunRow, RunStart, completed_run, fail, finish, latest_runs, lead, recover, refuse, scheduled_run,
    start, still_running,
};
pub use status::{DecisionRow, Status, decision_on, status};
pub use verify::{
    Commitments, Problem, Verified, verify_against_notices, verify_chain, verify_lines, verify_look_ups,
    verify_messages,
};

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
    /// Another run of the creditor has begun since.
    #[error("another run of this creditor took over; what this one concluded was not written")]
    TakenOver,
    /// A stored value does not parse.
    #[error("table {table}, column {column}: {value:?} is not valid")]
    Inconsistent { table: &'static str, column: &'static str, value: String },
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

fn inconsistent(table: &'static str, column: &'static str, value: &str) -> RecordError {
    RecordError::Inconsistent { table, column, value: value.to_owned() }
}
