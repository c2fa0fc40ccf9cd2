//! How a command ends: exit codes and what is said when it did not do what was asked.

use serde::Serialize;
use serde_json::Value;

use super::output::{complain, say};
use crate::daemon::{EntryError, LoadError, OpeningError, ScanError, StateError, TransportError};
use crate::model::counted;
use crate::record::{RecordError, RegisterError, TaskError};

/// An exit code; the list is in the README.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exit(pub(super) u8);

impl Exit {
    pub(super) const DONE: Self = Self(0);
    pub(super) const UNEXPECTED: Self = Self(1);
    pub(super) const USAGE: Self = Self(2);
    /// Findings, or some sends failed.
    pub(super) const FINDINGS: Self = Self(3);
    /// No such account, item, notice, event.
    pub(super) const NO_SUCH_THING: Self = Self(4);
    /// Refused by a guard.
    pub(super) const REFUSED: Self = Self(5);
    pub(super) const LOG_BROKEN: Self = Self(6);
    /// The ledger breaks its contract.
    pub(super) const CONTRACT: Self = Self(65);
    /// Database or SMTP unavailable.
    pub(super) const UNAVAILABLE: Self = Self(69);
    /// Another run holds the lock.
    pub(super) const LOCKED: Self = Self(75);
    /// A signal asked it to end; what was on the wire was finished.
    pub(super) const INTERRUPTED: Self = Self(130);
    /// Configuration or template error, or the schema is behind.
    pub(super) const CONFIG: Self = Self(78);
}

/// A command that did not do what was asked.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    message: String,
    detail: Value,
}

impl Failure {
    pub(super) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), detail: Value::Null }
    }

    /// With what a machine may want to know besides the message.
    pub(super) fn with(mut self, detail: &impl Serialize) -> Self {
        self.detail = serde_json::to_value(detail).unwrap_or_default();
        self
    }

    pub(super) fn unexpected(message: impl Into<String>) -> Self {
        Self::new(Exit::UNEXPECTED, message)
    }

    pub(super) fn is_broken_log(&self) -> bool {
        self.exit == Exit::LOG_BROKEN
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// Says it on stderr; as JSON on stdout when that was asked for.
    pub(super) fn print(&self, json: bool) {
        if json {
            let value = serde_json::json!({ "error": self.message, "exit": self.exit.0, "detail": self.detail });
            say!("{value}");
        } else {
            complain(format_args!("{}", self.message.trim_end()));
        }
    }
}

impl From<RecordError> for Failure {
    fn from(error: RecordError) -> Self {
        let exit = match &error {
            RecordError::Database(inner) if unreachable(inner) => Exit::UNAVAILABLE,
            _ => Exit::UNEXPECTED,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Record(error) => error.into(),
            StateError::LogDiffers { .. } | StateError::AttemptsLost { .. } => {
                Self::new(Exit::REFUSED, error.to_string())
            }
            StateError::Journal(error) if error.is_of_the_disk() => {
                Self::new(Exit::UNAVAILABLE, format!("{error}; or free some space there, and look at its disk"))
            }
            StateError::Journal(_) | StateError::Signed(_) => Self::new(Exit::CONFIG, error.to_string()),
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        RecordError::from(error).into()
    }
}

/// Whether the database is gone or does not let us in, rather than refusing one statement.
fn unreachable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => true,
        // Class 28: invalid authorization; 3D: no such database; 57P: shut down; 53: out of connections.
        sqlx::Error::Database(db) => {
            db.code().is_some_and(|code| ["28", "3D", "57P", "53", "08"].iter().any(|class| code.starts_with(class)))
        }
        _ => false,
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        let parts: Vec<String> = error.findings().collect();
        let count = counted(parts.len(), "finding");
        Self::new(
            Exit::CONFIG,
            format!("the configuration is refused, {count}; nothing was done\n\n{}", parts.join("\n")),
        )
        .with(&serde_json::json!({ "config": error.config, "templates": error.templates }))
    }
}

impl From<TransportError> for Failure {
    fn from(error: TransportError) -> Self {
        Self::new(Exit::CONFIG, error.to_string())
    }
}

impl From<RegisterError> for Failure {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::Record(error) => error.into(),
            RegisterError::NoSuchAccount(_)
            | RegisterError::NoSuchItem { .. }
            | RegisterError::NothingToRelease(_)
            | RegisterError::NoDispute(_)
            | RegisterError::NotHandedOver(_)
            | RegisterError::NoOpenCase(_)
            | RegisterError::NoSuchLadder { .. }
            | RegisterError::NoSuchPlan { .. }
            | RegisterError::NoCause(_)
            | RegisterError::NotWrittenOff(_)
            | RegisterError::NotWithdrawn(_)
            | RegisterError::NoSuchContact { .. }
            | RegisterError::NoContactEntry(_)
            | RegisterError::NoSuchPromise { .. } => Self::new(Exit::NO_SUCH_THING, error.to_string()),
            RegisterError::DayIsOver(_) | RegisterError::WhichPromise(_) | RegisterError::WhichPlan(_) => {
                Self::new(Exit::USAGE, error.to_string())
            }
            refused => Self::new(Exit::REFUSED, refused.to_string()),
        }
    }
}

impl From<TaskError> for Failure {
    fn from(error: TaskError) -> Self {
        match error {
            TaskError::Register(error) => error.into(),
            TaskError::NoSuchTask(_) => Self::new(Exit::NO_SUCH_THING, error.to_string()),
            TaskError::Needs { .. } | TaskError::NotFor { .. } | TaskError::Outside { .. } => {
                Self::new(Exit::USAGE, error.to_string())
            }
            TaskError::Closed(_)
            | TaskError::NotWithPerson { .. }
            | TaskError::TooLate { .. }
            | TaskError::TakenBack { .. }
            | TaskError::Replaced { .. }
            | TaskError::NotRight { .. } => Self::new(Exit::REFUSED, error.to_string()),
        }
    }
}

impl From<EntryError> for Failure {
    fn from(error: EntryError) -> Self {
        match error {
            EntryError::Look(error) => error.into(),
            EntryError::Record(error) => error.into(),
            EntryError::Task(error) => error.into(),
        }
    }
}

impl From<OpeningError> for Failure {
    fn from(error: OpeningError) -> Self {
        match error {
            OpeningError::Look(error) => error.into(),
            wrong @ OpeningError::Problems(_) => Self::new(Exit::FINDINGS, wrong.to_string()),
        }
    }
}

impl From<ScanError> for Failure {
    fn from(error: ScanError) -> Self {
        let exit = match &error {
            ScanError::Refused { .. }
            | ScanError::AsOfInProduction
            | ScanError::AsOfInFuture(_)
            | ScanError::WhoseLedger(_)
            | ScanError::Clock(_) => Exit::REFUSED,
            ScanError::Contract(_) => Exit::CONTRACT,
            ScanError::LockHeld(_) => Exit::LOCKED,
            ScanError::UnknownCreditor(_) | ScanError::UnknownAccount(_) => Exit::NO_SUCH_THING,
            ScanError::Record(_) => Exit::UNEXPECTED,
        };
        match error {
            ScanError::Record(error) => error.into(),
            ScanError::Contract(report) => {
                Self::new(exit, format!("the ledger breaks its contract; nothing was decided\n\n{report}"))
                    .with(&report)
            }
            other => Self::new(exit, other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::deliver::JournalError;

    #[test]
    fn a_full_disk_is_waited_for_and_a_wrong_place_is_not() {
        let ends = |source: io::Error| {
            let error = JournalError::Unusable { path: "/var/lib/dunningd".into(), source };
            Failure::from(StateError::Journal(error))
        };
        let full = ends(io::ErrorKind::StorageFull.into());
        assert_eq!(full.exit, Exit::UNAVAILABLE);
        assert!(full.message().ends_with("; or free some space there, and look at its disk"), "{}", full.message());
        assert_eq!(ends(io::Error::from_raw_os_error(5)).exit, Exit::UNAVAILABLE);
        assert_eq!(ends(io::ErrorKind::PermissionDenied.into()).exit, Exit::CONFIG);
    }
}
