//! What can be said on the command line.

mod log;
mod queue;
mod register;

use std::path::PathBuf;

use chrono::{DateTime, FixedOffset, NaiveDate};
use clap::{Args, Parser, Subcommand};

use crate::model::{Called, FIRST_DAY, LAST_DAY, Reason, parse_day};

pub(super) use log::{
    DossierArgs, EraseArgs, LegalHoldArgs, LogAnchorArgs, LogCommand, LogExportArgs, LogKeygenArgs, LogProveArgs,
    LogShowArgs, LogVerifyArgs,
};
pub(super) use queue::{
    ModeArgs, OutboxCommand, ResolveArgs, TaskCommand, TaskDoneArgs, TaskDropArgs, TaskListArgs, TaskShowArgs,
    WhichArgs,
};
use register::words;
pub(super) use register::{
    CallArgs, CauseArgs, ContactArgs, DisputeArgs, HandoverArgs, HoldArgs, NoteArgs, OpeningArgs, PlanArgs,
    PromiseArgs, ReleaseArgs, RestoreArgs, WaiveArgs, WriteOffArgs,
};

/// Chases overdue invoices, can prove every contact, and says why it made none.
#[derive(Debug, Parser)]
#[command(name = "dunningd", version, max_term_width = 100, arg_required_else_help = true)]
pub(super) struct Cli {
    /// The folder of dunningd.toml, policy.toml, creditors.toml and templates/
    #[arg(long, global = true, env = "DUNNINGD_CONFIG", value_name = "DIR", default_value = "/etc/dunningd")]
    pub(super) config: PathBuf,

    /// Print JSON
    #[arg(long, global = true)]
    pub(super) json: bool,

    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the main job in a world of its own: private database, made-up accounts, a mail server
    Demo(DemoArgs),
    /// Write a commented configuration with its templates into a new folder
    Init {
        /// A new or empty folder
        directory: PathBuf,
    },
    /// Create the schema or bring it up to date
    Migrate,
    /// Check configuration and templates; shows every finding at once
    Check,
    /// Run as a service: scan by schedule, deliver, until SIGTERM
    Run(AcceptArgs),
    /// Check the configuration, then make the running service read it again
    Reload,
    /// Show runs, queue, tasks and the head of the log
    Status,
    /// Decide for every account, and queue the notices that are due
    Scan(ScanArgs),
    /// Say why an account gets, or does not get, a letter
    Explain(ExplainArgs),
    /// Replay the past under a policy, or two; writes nothing
    Simulate(SimulateArgs),
    /// Show a letter without sending it
    Preview(PreviewArgs),
    /// Look at templates
    Template {
        #[command(subcommand)]
        command: TemplateCommand,
    },
    /// Stop contacts to an account, or about one item
    Hold(HoldArgs),
    /// Lift the holds that people placed on an account or an item
    Release(ReleaseArgs),
    /// Record that the debtor disputes an item, or that this is settled
    Dispute(DisputeArgs),
    /// Give an account to somebody else: no automatic contact any more; or take it back
    Handover(HandoverArgs),
    /// Record what the debtor promised to pay by a day; or list promises, or take one back
    Promise(PromiseArgs),
    /// Record an instalment plan, a new version of one, or its end; or list plans
    Plan(PlanArgs),
    /// Record why an account or an item is unpaid, or that this is settled
    Cause(CauseArgs),
    /// Say more about a contact than the ledger does, or add one
    Contact(ContactArgs),
    /// Write an item off: it is not demanded any more
    WriteOff(WriteOffArgs),
    /// Take an item up again that vanished from the ledger while open, and came back
    Restore(RestoreArgs),
    /// Record a call that was made; it counts as a contact
    Call(CallArgs),
    /// Write something down about an account; no letter ever says it
    Note(NoteArgs),
    /// Declare the next stage of an item done without a contact
    Waive(WaiveArgs),
    /// Move an account's open case to another ladder of the policy; says first what that changes
    Ladder(LadderArgs),
    /// Stop everything at once
    Pause(ReasonArgs),
    /// Go on after a pause
    Resume(ReasonArgs),
    /// Show or change how far the daemon may go by itself: shadow, approve_all or live
    Mode(ModeArgs),
    /// Say that this database may send from this machine, although it is a copy or has moved
    Adopt(ReasonArgs),
    /// Fill the built-in ledger, or bring in stages that were reached elsewhere
    Import {
        #[command(subcommand)]
        command: ImportCommand,
    },
    /// Look at the ledger's contract
    Ledger {
        #[command(subcommand)]
        command: LedgerCommand,
    },
    /// What waits for a person
    Task {
        #[command(subcommand)]
        command: TaskCommand,
    },
    /// Notices on their way, and those that need a person
    Outbox {
        #[command(subcommand)]
        command: OutboxCommand,
    },
    /// Read, export and verify the contact log
    Log {
        #[command(subcommand)]
        command: LogCommand,
    },
    /// Everything on record about one account, with its proofs, for a lawyer or a court
    Dossier(DossierArgs),
    /// Delete what is personal about an account; the log says so and still verifies
    Erase(EraseArgs),
    /// Keep everything about an account, whoever asks to have it erased; or end that
    LegalHold(LegalHoldArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

#[derive(Debug, Args)]
pub(super) struct AcceptArgs {
    /// Go on although the contact log is not the one that this machine last saw: the database was restored
    #[arg(long, requires = "reason", group = "accepted")]
    pub(super) accept_database: bool,
    /// Go on although the database's clock went back behind the last event of the contact log: it is right now
    #[arg(long, requires = "reason", group = "accepted")]
    pub(super) accept_clock: bool,
    /// Why that is right; it goes into the log
    #[arg(long, value_name = "TEXT", requires = "accepted", value_parser = words(Reason::parse))]
    pub(super) reason: Option<Reason>,
}

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Where mails and the exported log go [default: a new folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub(super) output: Option<PathBuf>,
    /// Keep the private database running until Enter is pressed
    #[arg(long)]
    pub(super) keep: bool,
    /// Deliver to this relay on this machine instead of the demo's own mail server
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) relay: Option<String>,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct ScanArgs {
    /// Decide and show, write nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Deliver what is queued as well
    #[arg(long, conflicts_with = "dry_run")]
    pub(super) deliver: bool,
    #[command(flatten)]
    pub(super) accept: AcceptArgs,
    /// Go on with one creditor's ledger as it is although too many items are gone from it or open again: it is right,
    /// this once; --creditor says whose, where there are several
    #[arg(long, requires = "reason", group = "accepted", conflicts_with_all = ["dry_run", "as_of", "account"])]
    pub(super) accept_ledger: bool,
    /// See the ledger as it stood on that day, and be that day; in production only with --dry-run
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = parse_day)]
    pub(super) as_of: Option<NaiveDate>,
    /// Only this creditor
    #[arg(long)]
    pub(super) creditor: Option<String>,
    /// Only this account
    #[arg(long)]
    pub(super) account: Option<String>,
    /// Say for each account what was decided, and why
    #[arg(long)]
    pub(super) why: bool,
}

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The account's id in the ledger
    pub(super) account: String,
    /// See the ledger as it stood on that day, and be that day
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = parse_day, conflicts_with = "on")]
    pub(super) as_of: Option<NaiveDate>,
    /// What the runs up to that day concluded and recorded, instead of what would be concluded now
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = parse_day)]
    pub(super) on: Option<NaiveDate>,
    /// What that run concluded and recorded; `dunningd log show` names runs
    #[arg(long, value_name = "ID", conflicts_with_all = ["as_of", "on"])]
    pub(super) run: Option<uuid::Uuid>,
}

#[derive(Debug, Args)]
pub(super) struct SimulateArgs {
    /// The first day
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = parse_day)]
    pub(super) from: NaiveDate,
    /// The last day
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = parse_day)]
    pub(super) to: NaiveDate,
    /// Try this file instead of policy.toml
    #[arg(long, value_name = "FILE")]
    pub(super) policy: Option<PathBuf>,
    /// Try this file as well, and say what differs
    #[arg(long, value_name = "FILE")]
    pub(super) compare: Option<PathBuf>,
    /// Only this creditor
    #[arg(long)]
    pub(super) creditor: Option<String>,
    /// Count a contact as not needed when an item that it demands was paid in full within so many days after it
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    pub(super) paid_within: u32,
    /// Rows of the table and of the CSV
    #[arg(long, value_enum, default_value_t = SimulateBy::Month)]
    pub(super) by: SimulateBy,
    /// Print contacts per month (or day) and stage as CSV
    #[arg(long, conflicts_with = "json")]
    pub(super) csv: bool,
}

/// What a row of a simulation's table stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum SimulateBy {
    Month,
    Day,
}

#[derive(Debug, Args)]
pub(super) struct PreviewArgs {
    /// The template, such as `friendly`; with --account the stage that is due is shown
    pub(super) template: Option<String>,
    /// en, it, pl or ru
    #[arg(long)]
    pub(super) lang: Option<String>,
    /// The letter that this account would get today
    #[arg(long)]
    pub(super) account: Option<String>,
    /// With --account: the ledger as it stood on that day
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = parse_day, requires = "account")]
    pub(super) as_of: Option<NaiveDate>,
    /// A sample situation; `dunningd template list` names them
    #[arg(long, conflicts_with = "account")]
    pub(super) fixture: Option<String>,
    /// Write the HTML part into this new file, which only you can read
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum TemplateCommand {
    /// List templates, languages and sample situations
    List,
    /// Show the variables and filters that a template can use
    Vars,
}

#[derive(Debug, Args)]
pub(super) struct LadderArgs {
    /// The account's id in the ledger
    pub(super) account: String,
    /// A ladder of today's policy; the same name takes the stages that it has today
    #[arg(long, value_name = "NAME")]
    pub(super) to: String,
    /// Only say what would change
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) why: ReasonArgs,
}

#[derive(Debug, Args)]
pub(super) struct ReasonArgs {
    /// Why; kept in the log for ever, so no names of debtors' people
    #[arg(long, value_parser = words(Reason::parse))]
    pub(super) reason: Reason,
    /// Who decided it [default: your login name]
    #[arg(long, value_name = "PERSON", value_parser = words(Called::parse))]
    pub(super) by: Option<Called>,
}

#[derive(Debug, Subcommand)]
pub(super) enum ImportCommand {
    /// From a CSV file, by a profile
    Csv(ImportArgs),
    /// Stages reached elsewhere, from a CSV file with the columns item_id,stage,done_on,by
    Opening(OpeningArgs),
}

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The CSV file
    pub(super) file: PathBuf,
    /// A profile's name (a file in profiles/ of the configuration) or a path
    #[arg(long)]
    pub(super) profile: String,
    /// Do everything, then undo it
    #[arg(long)]
    pub(super) dry_run: bool,
    /// full_open_items, full_history or delta, instead of the profile's
    #[arg(long)]
    pub(super) scope: Option<String>,
    /// Up to when the file knows payments: 2026-11-20T18:00:00+01:00, or a day, which means all of it where the
    /// first creditor of creditors.toml is
    #[arg(long, value_name = "TIME", value_parser = PaymentsAsOf::parse)]
    pub(super) payments_as_of: Option<PaymentsAsOf>,
    /// Import the good rows although others are rejected
    #[arg(long)]
    pub(super) allow_rejects: bool,
    /// Close what the file lacks although it lacks more than half of the open items: it is not cut off
    #[arg(long)]
    pub(super) allow_shrunk: bool,
    /// Write rejected rows here, into a new file [default: the file's name with .rejects.csv, or .rejects-2.csv …]
    #[arg(long, value_name = "FILE")]
    pub(super) reject_file: Option<PathBuf>,
}

/// Up to when payments are known.
#[derive(Debug, Clone, Copy)]
pub(super) enum PaymentsAsOf {
    Moment(DateTime<FixedOffset>),
    /// The whole of that day.
    Day(NaiveDate),
}

impl PaymentsAsOf {
    fn parse(text: &str) -> Result<Self, String> {
        match DateTime::parse_from_rfc3339(text) {
            Ok(at) if (FIRST_DAY..=LAST_DAY).contains(&at.date_naive()) => Ok(Self::Moment(at)),
            _ => parse_day(text)
                .map(Self::Day)
                .map_err(|error| format!("{error}, nor a time such as 2026-11-20T18:00:00+01:00")),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum LedgerCommand {
    /// Prove names, types and sense of the ledger; lists every finding
    Check,
    /// Print the columns that the ledger has to provide
    Contract,
}
