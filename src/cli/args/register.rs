//! What a credit controller says: holds, disputes, promises, plans, causes, contacts, calls.

use std::path::PathBuf;

use chrono::NaiveDate;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use rust_decimal::Decimal;

use crate::model::{
    CallOutcome, Called, Cause, ContactRole, Every, NoteWords, OnMissed, ParseError, Reason, parse_day,
};

use super::ReasonArgs;

#[derive(Debug, Args)]
pub(in crate::cli) struct HoldArgs {
    /// The account's id in the ledger
    pub(in crate::cli) account: String,
    /// Only this item
    #[arg(long)]
    pub(in crate::cli) item: Option<String>,
    /// The last day of the hold; without it the hold lasts until it is released
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = parse_day)]
    pub(in crate::cli) until: Option<NaiveDate>,
    #[command(flatten)]
    pub(in crate::cli) why: ReasonArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ReleaseArgs {
    /// The account's id in the ledger
    pub(in crate::cli) account: String,
    /// Only holds on this item
    #[arg(long)]
    pub(in crate::cli) item: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) why: ReasonArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DisputeArgs {
    /// The account's id in the ledger
    pub(in crate::cli) account: String,
    /// The item's id in the ledger
    #[arg(long)]
    pub(in crate::cli) item: String,
    /// Why it is unpaid; docs/reason-codes.md tells what each means
    #[arg(long, value_parser = codes(Cause::ALL, Cause::as_str, Cause::parse), required_unless_present = "resolved")]
    pub(in crate::cli) cause: Option<Cause>,
    /// It is settled: the item is demanded again
    #[arg(long, conflicts_with = "cause")]
    pub(in crate::cli) resolved: bool,
    #[command(flatten)]
    pub(in crate::cli) why: ReasonArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct HandoverArgs {
    /// The account's id in the ledger
    pub(in crate::cli) account: String,
    /// Who pursues it now: a collector, a lawyer, a colleague; kept in the log for ever
    #[arg(long, required_unless_present = "back", value_parser = words(Called::parse))]
    pub(in crate::cli) to: Option<Called>,
    /// It is ours again
    #[arg(long, conflicts_with = "to")]
    pub(in crate::cli) back: bool,
    #[command(flatten)]
    pub(in crate::cli) why: ReasonArgs,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["amount", "list", "withdraw"]))]
pub(in crate::cli) struct PromiseArgs {
    /// The account's id in the ledger
    pub(in crate::cli) account: String,
    /// How much: 100.00
    #[arg(long, requires_all = ["currency", "by_day", "reason"], value_parser = amount)]
    pub(in crate::cli) amount: Option<Decimal>,
    /// The currency, such as EUR
    #[arg(long, value_name = "CODE", requires = "amount")]
    pub(in crate::cli) currency: Option<String>,
    /// The day by which it is to be paid
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = parse_day, requires = "amount")]
    pub(in crate::cli) by_day: Option<NaiveDate>,
    /// So many days after it we still wait
    #[arg(long, value_name = "DAYS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=90))]
    pub(in crate::cli) tolerance: u32,
    /// The items it is about; may be given several times [default: everything overdue in that currency]
    #[arg(long, requires = "amount")]
    pub(in crate::cli) item: Vec<String>,
    /// Show every promise of the account and what became of it
    #[arg(long)]
    pub(in crate::cli) list: bool,
    /// Take back a running promise: the only one, or that number
    #[arg(long, value_name = "NUMBER", num_args = 0..=1, requires = "reason")]
    #[expect(clippy::option_option, reason = "clap tells a flag without its value like this")]
    pub(in crate::cli) withdraw: Option<Option<i64>>,
    /// Why; kept in the log for ever, so no names of debtors' people
    #[arg(long, value_parser = words(Reason::parse))]
    pub(in crate::cli) reason: Option<Reason>,
    /// Who decided it [default: your login name]
    #[arg(long, value_name = "PERSON", value_parser = words(Called::parse))]
    pub(in crate::cli) by: Option<Called>,
}

/// An amount such as `1234.50`.
fn amount(text: &str) -> Result<Decimal, String> {
    text.parse()
        .map_err(|_| "write an amount such as 1234.50, with a point and nothing between the thousands".to_owned())
}

/// A day with its amount: `2026-05-31=100.00`.
fn instalment(text: &str) -> Result<(NaiveDate, Decimal), String> {
    let wrong = || format!("{text:?} is not a day and an amount such as 2026-05-31=100.00");
    let (day, amount) = text.split_once('=').ok_or_else(wrong)?;
    let day = parse_day(day).map_err(|error| error.to_string())?;
    Ok((day, self::amount(amount)?))
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["instalment", "parts", "list", "end"]))]
pub(in crate::cli) struct PlanArgs {
    /// The account's id in the ledger
    pub(in crate::cli) account: String,
    /// The currency, such as EUR; a new version keeps that of its plan
    #[arg(long, value_name = "CODE", required_unless_present_any = ["restructure", "list", "end"])]
    pub(in crate::cli) currency: Option<String>,
    /// The items it is about; may be given several times [default: everything overdue in that currency]
    #[arg(long)]
    pub(in crate::cli) item: Vec<String>,
    /// One instalment, as a day and an amount; may be given several times
    #[arg(long, value_name = "YYYY-MM-DD=AMOUNT", value_parser = instalment, requires = "reason")]
    pub(in crate::cli) instalment: Vec<(NaiveDate, Decimal)>,
    /// So many equal parts; what cannot be divided is in the last one
    #[arg(long, value_name = "N", requires_all = ["every", "from", "reason"],
        value_parser = clap::value_parser!(u32).range(1..=120))]
    pub(in crate::cli) parts: Option<u32>,
    /// How far the parts lie from each other
    #[arg(long, requires = "parts", value_parser = codes(Every::ALL, Every::as_str, Every::parse))]
    pub(in crate::cli) every: Option<Every>,
    /// The day of the first part
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = parse_day, requires = "parts")]
    pub(in crate::cli) from: Option<NaiveDate>,
    /// So many days after an instalment's day we still wait [default: 0; of a new version, those of its plan]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(..=90))]
    pub(in crate::cli) tolerance: Option<u32>,
    /// What a missed instalment makes due: itself, or all the rest [default: instalment; of a new version, as its plan]
    #[arg(long, value_parser = codes(OnMissed::ALL, OnMissed::as_str, OnMissed::parse))]
    pub(in crate::cli) on_missed: Option<OnMissed>,
    /// A new version of that plan, over what is open now
    #[arg(long, value_name = "NUMBER")]
    pub(in crate::cli) restructure: Option<i64>,
    /// Show every version of every plan of the account and what became of it
    #[arg(long)]
    pub(in crate::cli) list: bool,
    /// End a running plan, the only one or that number: its items go on where they stood
    #[arg(long, value_name = "NUMBER", num_args = 0..=1, requires = "reason")]
    #[expect(clippy::option_option, reason = "clap tells a flag without its value like this")]
    pub(in crate::cli) end: Option<Option<i64>>,
    /// Why; kept in the log for ever, so no names of debtors' people
    #[arg(long, value_parser = words(Reason::parse))]
    pub(in crate::cli) reason: Option<Reason>,
    /// Who decided it [default: your login name]
    #[arg(long, value_name = "PERSON", value_parser = words(Called::parse))]
    pub(in crate::cli) by: Option<Called>,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["cause", "clear"]))]
pub(in crate::cli) struct CauseArgs {
    /// The account's id in the ledger
    pub(in crate::cli) account: String,
    /// Only this item
    #[arg(long)]
    pub(in crate::cli) item: Option<String>,
    /// Why it is unpaid; docs/reason-codes.md tells what each means, policy.toml what follows
    #[arg(long, value_parser = codes(Cause::ALL, Cause::as_str, Cause::parse))]
    pub(in crate::cli) cause: Option<Cause>,
    /// It is settled: clears that cause, or every one recorded there
    #[arg(long)]
    pub(in crate::cli) clear: bool,
    #[command(flatten)]
    pub(in crate::cli) why: ReasonArgs,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["contact", "add", "list"]))]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(in crate::cli) struct ContactArgs {
    /// The account's id in the ledger
    pub(in crate::cli) account: String,
    /// The contact, as the ledger or --list names it
    #[arg(long, value_name = "ID", requires = "reason")]
    pub(in crate::cli) contact: Option<String>,
    /// A contact that the ledger does not have
    #[arg(long, requires_all = ["role", "email", "reason"])]
    pub(in crate::cli) add: bool,
    /// Show the contacts of the account, the ledger's and ours
    #[arg(long)]
    pub(in crate::cli) list: bool,
    /// Take back what was entered about the contact
    #[arg(long, requires = "contact", conflicts_with_all = ["email", "no_email", "language", "phone", "name"])]
    pub(in crate::cli) remove: bool,
    /// What the contact is for
    #[arg(long, requires = "add", value_parser = codes(&ContactRole::ALL, ContactRole::as_str, ContactRole::parse))]
    pub(in crate::cli) role: Option<ContactRole>,
    /// One address
    #[arg(long)]
    pub(in crate::cli) email: Option<String>,
    /// The person wants no e-mail
    #[arg(long, conflicts_with = "email")]
    pub(in crate::cli) no_email: bool,
    /// en, it, pl or ru
    #[arg(long)]
    pub(in crate::cli) language: Option<String>,
    /// The telephone number
    #[arg(long, value_parser = words(Called::parse))]
    pub(in crate::cli) phone: Option<Called>,
    /// The person's name
    #[arg(long, value_parser = words(Called::parse))]
    pub(in crate::cli) name: Option<Called>,
    /// Why; kept in the log for ever, so no names of debtors' people
    #[arg(long, value_parser = words(Reason::parse))]
    pub(in crate::cli) reason: Option<Reason>,
    /// Who decided it [default: your login name]
    #[arg(long, value_name = "PERSON", value_parser = words(Called::parse))]
    pub(in crate::cli) by: Option<Called>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct WriteOffArgs {
    /// The account's id in the ledger
    pub(in crate::cli) account: String,
    /// The item's id in the ledger
    #[arg(long)]
    pub(in crate::cli) item: String,
    /// It is demanded again
    #[arg(long)]
    pub(in crate::cli) undo: bool,
    #[command(flatten)]
    pub(in crate::cli) why: ReasonArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RestoreArgs {
    /// The account's id in the ledger
    pub(in crate::cli) account: String,
    /// The item's id in the ledger
    #[arg(long)]
    pub(in crate::cli) item: String,
    #[command(flatten)]
    pub(in crate::cli) why: ReasonArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct OpeningArgs {
    /// The CSV file
    pub(in crate::cli) file: PathBuf,
    /// Check everything, write nothing
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    /// Who imports it [default: your login name]
    #[arg(long, value_name = "PERSON", value_parser = words(Called::parse))]
    pub(in crate::cli) by: Option<Called>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CallArgs {
    /// The account's id in the ledger
    pub(in crate::cli) account: String,
    /// What came of it; the cause that it tells is recorded as well, a promise by its own command
    #[arg(long, value_parser = codes(CallOutcome::ALL, CallOutcome::as_str, CallOutcome::parse))]
    pub(in crate::cli) outcome: CallOutcome,
    /// What was said; kept apart from the log, so that it can be erased
    #[arg(long, value_parser = words(NoteWords::parse))]
    pub(in crate::cli) note: Option<NoteWords>,
    /// What it was about, for the cause [default: the whole account]
    #[arg(long)]
    pub(in crate::cli) item: Option<String>,
    /// Leave out the cause that the outcome tells
    #[arg(long)]
    pub(in crate::cli) no_cause: bool,
    /// Who called [default: your login name]
    #[arg(long, value_name = "PERSON", value_parser = words(Called::parse))]
    pub(in crate::cli) by: Option<Called>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct NoteArgs {
    /// The account's id in the ledger
    pub(in crate::cli) account: String,
    /// What to write down; kept apart from the log, so that it can be erased
    #[arg(value_parser = words(NoteWords::parse))]
    pub(in crate::cli) text: NoteWords,
    /// Who writes it [default: your login name]
    #[arg(long, value_name = "PERSON", value_parser = words(Called::parse))]
    pub(in crate::cli) by: Option<Called>,
}

/// One of the codes of a list.
pub(super) fn codes<T: Copy + Send + Sync + 'static>(
    all: &[T],
    text: fn(T) -> &'static str,
    parse: fn(&str) -> Option<T>,
) -> impl TypedValueParser<Value = T> {
    let names: Vec<&'static str> = all.iter().map(|code| text(*code)).collect();
    PossibleValuesParser::new(names).try_map(move |name| parse(&name).ok_or("not in the list"))
}

/// What a person says in words. A refusal repeats their beginning only.
pub(super) fn words<T: Clone + Send + Sync + 'static>(
    parse: fn(&str) -> Result<T, ParseError>,
) -> impl TypedValueParser<Value = T> {
    Words(parse)
}

#[derive(Clone)]
struct Words<T>(fn(&str) -> Result<T, ParseError>);

impl<T: Clone + Send + Sync + 'static> TypedValueParser for Words<T> {
    type Value = T;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<T, clap::Error> {
        (self.0)(&value.to_string_lossy()).map_err(|error| {
            let place = argument.map_or(String::new(), |argument| format!("{argument}: "));
            clap::Error::raw(ErrorKind::ValueValidation, format!("{place}{error}\n")).with_cmd(command)
        })
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct WaiveArgs {
    /// The account's id in the ledger
    pub(in crate::cli) account: String,
    /// The item's id in the ledger
    #[arg(long)]
    pub(in crate::cli) item: String,
    /// The item's next stage, such as `friendly`; `dunningd explain` names it
    #[arg(long)]
    pub(in crate::cli) stage: String,
    #[command(flatten)]
    pub(in crate::cli) why: ReasonArgs,
}
