//! What waits: for a person, or for its hour; and how far the daemon may go by itself.

use chrono::NaiveDate;
use clap::{Args, Subcommand};

use crate::model::{CallOutcome, Called, Mode, NoteWords, Reason, TaskKind, parse_day};

use super::ReasonArgs;
use super::register::{codes, words};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum TaskCommand {
    /// List open tasks, oldest first
    List(TaskListArgs),
    /// Show a task: what to do, what to say, and how the account stands now
    Show(TaskShowArgs),
    /// Say that a task is done; a call says what came of it, a hand-over whom it went to
    Done(TaskDoneArgs),
    /// Drop a call, a letter or a hand-over: its stage is not done, and the next scan decides again
    Drop(TaskDropArgs),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct TaskListArgs {
    /// Only tasks of this kind, such as `make_call`
    #[arg(long, value_parser = codes(TaskKind::ALL, TaskKind::as_str, TaskKind::parse))]
    pub(in crate::cli) kind: Option<TaskKind>,
    /// Only this account
    #[arg(long)]
    pub(in crate::cli) account: Option<String>,
    /// Only tasks that have been open for so many days
    #[arg(long, value_name = "DAYS", default_value_t = 0)]
    pub(in crate::cli) open_for: i64,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct TaskShowArgs {
    /// The task's number, as `dunningd task list` names it
    #[arg(value_name = "NUMBER")]
    pub(in crate::cli) task: i64,
    /// See the ledger as it stood on that day
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = parse_day)]
    pub(in crate::cli) as_of: Option<NaiveDate>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct TaskDoneArgs {
    /// The task's number, as `dunningd task list` names it
    #[arg(value_name = "NUMBER")]
    pub(in crate::cli) task: i64,
    /// The day on which it was done [default: today]; said of a letter or a hand-over, it
    /// is recorded even if a run took it back on that day or later
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = parse_day)]
    pub(in crate::cli) on: Option<NaiveDate>,
    /// What came of the call; the cause that it tells is recorded as well, a promise by its own command
    #[arg(long, value_parser = codes(CallOutcome::ALL, CallOutcome::as_str, CallOutcome::parse))]
    pub(in crate::cli) outcome: Option<CallOutcome>,
    /// What the call was about, for the cause [default: the whole account]
    #[arg(long, requires = "outcome")]
    pub(in crate::cli) item: Option<String>,
    /// Leave out the cause that the outcome tells
    #[arg(long, requires = "outcome")]
    pub(in crate::cli) no_cause: bool,
    /// What was said in the call; kept apart from the log, so that it can be erased
    #[arg(long, value_parser = words(NoteWords::parse))]
    pub(in crate::cli) note: Option<NoteWords>,
    /// Whom the account was handed over to; kept in the log for ever
    #[arg(long, value_parser = words(Called::parse))]
    pub(in crate::cli) to: Option<Called>,
    /// Why; kept in the log for ever, so no names of debtors' people
    #[arg(long, value_parser = words(Reason::parse))]
    pub(in crate::cli) reason: Option<Reason>,
    /// Who did it [default: your login name]
    #[arg(long, value_name = "PERSON", value_parser = words(Called::parse))]
    pub(in crate::cli) by: Option<Called>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct TaskDropArgs {
    /// The task's number, as `dunningd task list` names it
    #[arg(value_name = "NUMBER")]
    pub(in crate::cli) task: i64,
    #[command(flatten)]
    pub(in crate::cli) why: ReasonArgs,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum OutboxCommand {
    /// List every notice that is not at its end
    List,
    /// Show a notice: its text, what it demands of whom, each attempt, and what the relay answered
    Show {
        /// The notice's id, as `dunningd outbox list` names it
        notice: uuid::Uuid,
    },
    /// Let notices go out that wait for a person: these items, this stage, up to this amount
    Approve(WhichArgs),
    /// Keep notices from going out; the next scan decides again
    Drop(WhichArgs),
    /// Say what became of notices that are unknown, refused or bounced
    Resolve(ResolveArgs),
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["notices", "run", "all"]))]
pub(in crate::cli) struct WhichArgs {
    /// These notices
    #[arg(value_name = "NOTICE")]
    pub(in crate::cli) notices: Vec<uuid::Uuid>,
    /// Every one of that run
    #[arg(long, value_name = "RUN")]
    pub(in crate::cli) run: Option<uuid::Uuid>,
    /// Every one that waits
    #[arg(long)]
    pub(in crate::cli) all: bool,
    #[command(flatten)]
    pub(in crate::cli) why: ReasonArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ModeArgs {
    /// Change it to this one
    #[arg(value_parser = codes(Mode::ALL, Mode::as_str, Mode::parse), requires = "reason")]
    pub(in crate::cli) to: Option<Mode>,
    /// Why; kept in the log for ever, so no names of debtors' people
    #[arg(long, requires = "to", value_parser = words(Reason::parse))]
    pub(in crate::cli) reason: Option<Reason>,
    /// Who decided it [default: your login name]
    #[arg(long, value_name = "PERSON", requires = "to", value_parser = words(Called::parse))]
    pub(in crate::cli) by: Option<Called>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(in crate::cli) struct ResolveWhat {
    /// It did go out: the stage counts as of the day of the attempt
    #[arg(long)]
    pub(in crate::cli) accepted: bool,
    /// It did not go out: the stage may be sent again
    #[arg(long)]
    pub(in crate::cli) not_sent: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ResolveArgs {
    /// The notices' ids, as `dunningd outbox list` names them
    #[arg(value_name = "NOTICE", required = true)]
    pub(in crate::cli) notices: Vec<uuid::Uuid>,
    #[command(flatten)]
    pub(in crate::cli) what: ResolveWhat,
    #[command(flatten)]
    pub(in crate::cli) why: ReasonArgs,
}
