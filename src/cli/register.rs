//! What people record: hold, release, dispute, hand-over, promise, call, note, waive, ladder, pause, resume.

use std::fmt::Write as _;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde_json::json;
use sqlx::Connection as _;

use crate::daemon::{LadderMove, Shell};
use crate::model::{
    AccountId, CallOutcome, Cause, CreditorId, Currency, Decision, Handover, ItemDecision, ItemId, Ladder, LadderName,
    Money, ReasonCode, StageName, Verdict, as_argument, counted,
};
use crate::record::NoteText;
use crate::{daemon, ledger, record};

use super::agreements::stops_plan;
use super::args::{
    CallArgs, Cli, DisputeArgs, HandoverArgs, HoldArgs, LadderArgs, NoteArgs, PromiseArgs, ReasonArgs, ReleaseArgs,
    RestoreArgs, WaiveArgs,
};
use super::connect;
use super::failure::{Exit, Failure};
use super::output::{say, say_part};
use super::scan::parsed;

/// A name that has to be given.
pub(super) fn name<T, E: std::fmt::Display>(text: &str, parse: impl Fn(&str) -> Result<T, E>) -> Result<T, Failure> {
    parse(text).map_err(|error| Failure::new(Exit::USAGE, error.to_string()))
}

pub(super) fn account(text: &str) -> Result<AccountId, Failure> {
    name(text, AccountId::parse)
}

/// What somebody records about an account.
pub(super) struct Entry {
    pub(super) shell: Shell,
    pub(super) account: AccountId,
    /// Where the account's creditor is.
    pub(super) today: NaiveDate,
}

impl Entry {
    pub(super) async fn about(cli: &Cli, of: &str, by: Option<&str>) -> Result<Self, Failure> {
        let shell = connect::shell(cli, by).await?;
        let account = account(of)?;
        let creditor = ledger::creditor_of(&mut *shell.pool.acquire().await?, &account).await?;
        let zone = creditor
            .and_then(|id| CreditorId::parse(&id).ok())
            .map_or(chrono_tz::Tz::UTC, |id| shell.live().config.policy.zone(&id));
        let today = shell.clock.today(zone);
        Ok(Self { shell, account, today })
    }
}

pub(super) async fn hold(cli: &Cli, args: &HoldArgs) -> Result<Exit, Failure> {
    let item = parsed(args.item.as_deref(), ItemId::parse)?;
    let Entry { shell, account, today } = Entry::about(cli, &args.account, args.why.by.as_deref()).await?;
    let mut transaction = shell.pool.begin().await?;
    if args.until.is_some_and(|last| last < today) {
        return Err(Failure::new(Exit::USAGE, format!("--until lies before today, {today}")));
    }
    let actor = &shell.actor;
    let id = record::place_hold(&mut transaction, &account, item.as_ref(), args.until, &args.why.reason, today, actor)
        .await?;
    transaction.commit().await?;
    let until = args.until.map_or("until it is released".to_owned(), |day| format!("up to and including {day}"));
    let target = item.map_or(format!("Account {account}"), |item| format!("Item {item} of account {account}"));
    tell(cli, &json!({ "hold": id }), &format!("{target} is on hold {until}."));
    Ok(Exit::DONE)
}

pub(super) async fn release(cli: &Cli, args: &ReleaseArgs) -> Result<Exit, Failure> {
    let item = parsed(args.item.as_deref(), ItemId::parse)?;
    let Entry { shell, account, .. } = Entry::about(cli, &args.account, args.why.by.as_deref()).await?;
    let mut transaction = shell.pool.begin().await?;
    let count =
        record::release_holds(&mut transaction, &account, item.as_ref(), &args.why.reason, &shell.actor).await?;
    transaction.commit().await?;
    tell(cli, &json!({ "released": count }), &format!("{} released.", counted(count, "hold")));
    Ok(Exit::DONE)
}

pub(super) async fn dispute(cli: &Cli, args: &DisputeArgs) -> Result<Exit, Failure> {
    let item = name(&args.item, ItemId::parse)?;
    let Entry { shell, account, today } = Entry::about(cli, &args.account, args.why.by.as_deref()).await?;
    let mut transaction = shell.pool.begin().await?;
    let (reason, actor) = (&args.why.reason, &shell.actor);
    let (json, text) = if let Some(cause) = args.cause {
        let id = record::dispute(&mut transaction, &account, &item, cause, reason, today, actor).await?;
        let text = format!("Item {item} is in dispute and will not be demanded until that is resolved.");
        let kind = shell.live().config.policy.cause(cause).task;
        let task = kind.map_or(String::new(), |kind| format!(" The next run opens a task: {}.", kind.as_str()));
        (json!({ "dispute": id, "item": item, "cause": cause }), text + &task)
    } else {
        record::end_dispute(&mut transaction, &account, &item, reason, actor).await?;
        (json!({ "item": item, "resolved": true }), format!("The dispute about item {item} is over."))
    };
    transaction.commit().await?;
    let text = if args.cause.is_some() { text + &stops_plan(&shell, &account, &item).await? } else { text };
    tell(cli, &json, &text);
    Ok(Exit::DONE)
}

pub(super) async fn handover(cli: &Cli, args: &HandoverArgs) -> Result<Exit, Failure> {
    let Entry { shell, account, today: since } = Entry::about(cli, &args.account, args.why.by.as_deref()).await?;
    let mut transaction = shell.pool.begin().await?;
    let (reason, actor) = (&args.why.reason, &shell.actor);
    let (json, text) = if let Some(to) = &args.to {
        let handover = Handover { to: to.to_string(), reason: reason.to_string(), since, number: 0, items: Vec::new() };
        let id = record::hand_over(&mut transaction, &account, &handover, actor).await?;
        let text = format!("Account {account} is handed over to {to}; dunningd does not write to it any more.");
        (json!({ "handover": id, "account": account, "to": &**to }), text)
    } else {
        record::take_back(&mut transaction, &account, reason, actor).await?;
        (json!({ "account": account, "back": true }), format!("Account {account} is ours again."))
    };
    transaction.commit().await?;
    tell(cli, &json, &text);
    Ok(Exit::DONE)
}

pub(super) async fn promise(cli: &Cli, args: &PromiseArgs) -> Result<Exit, Failure> {
    let shell = connect::shell(cli, args.by.as_deref()).await?;
    let account = account(&args.account)?;
    let reason = args.reason.as_deref().unwrap_or_default().to_owned();
    if let Some(number) = args.withdraw {
        let number = daemon::withdraw_promise(&shell, &account, number, &reason).await?;
        let json = json!({ "promise": number, "withdrawn": true });
        tell(cli, &json, &format!("Promise {number} is taken back; what it named can be demanded again."));
        return Ok(Exit::DONE);
    }
    let (Some(amount), Some(currency), Some(by_day)) = (args.amount, &args.currency, args.by_day) else {
        let promises = daemon::promises(&shell, &account).await?;
        let lines: Vec<String> = promises
            .iter()
            .map(|(promise, standing)| format!("{:>5}  {}", promise.number, promise.tell(*standing)))
            .collect();
        let rows: Vec<_> = promises.iter().map(|(promise, now)| json!({ "promise": promise, "now": now })).collect();
        let none = "No promise was recorded.".to_owned();
        tell(cli, &rows.into(), &if lines.is_empty() { none } else { lines.join("\n") });
        return Ok(Exit::DONE);
    };
    let amount = Money::new(amount, name(currency, Currency::parse)?);
    if amount.amount <= Decimal::ZERO || amount.amount.normalize().scale() > amount.currency.decimals() {
        return Err(Failure::new(Exit::USAGE, format!("--amount: {} is no amount of money", amount.amount)));
    }
    let items: Result<Vec<ItemId>, Failure> = args.item.iter().map(|item| name(item, ItemId::parse)).collect();
    let request = daemon::PromiseRequest { amount, by_day, tolerance_days: args.tolerance, items: items?, reason };
    let promise = daemon::promise(&shell, &account, &request).await?;
    let items: Vec<&str> = promise.items.iter().map(|one| one.item.as_str()).collect();
    let text = format!(
        "Promise {}: {amount} by {by_day}. Not demanded up to and including {}: {}.",
        promise.number,
        promise.last_day(),
        items.join(", ")
    );
    tell(cli, &serde_json::to_value(&promise).unwrap_or_default(), &text);
    Ok(Exit::DONE)
}

pub(super) async fn call(cli: &Cli, args: &CallArgs) -> Result<Exit, Failure> {
    let Entry { shell, account, today } = Entry::about(cli, &args.account, args.by.as_deref()).await?;
    let request = daemon::CallRequest {
        outcome: args.outcome,
        note: args.note.clone().map(String::from),
        item: parsed(args.item.as_deref(), ItemId::parse)?,
        no_cause: args.no_cause,
        called_on: today,
    };
    let (call, cause) = daemon::call(&shell, &account, &request).await?;
    let json = json!({ "call": call, "account": account, "outcome": args.outcome, "cause": cause });
    let more = after_call(args.outcome, cause, account.as_str());
    let text = format!("Call {call} to account {account} is recorded; it counts as a contact of {today}.{more}");
    tell(cli, &json, &text);
    Ok(Exit::DONE)
}

/// What was recorded with a call, and what is still to be.
pub(super) fn after_call(outcome: CallOutcome, cause: Option<Cause>, account: &str) -> String {
    match (cause, outcome) {
        (Some(cause), _) => format!("\nCause {} is recorded with it; --no-cause leaves it out.", cause.as_str()),
        (None, CallOutcome::Promise) => format!(
            "\nThe promise itself is not recorded yet: `dunningd promise {} --amount … --currency … --by-day … --reason …`.",
            as_argument(account)
        ),
        (None, _) => String::new(),
    }
}

pub(super) async fn note(cli: &Cli, args: &NoteArgs) -> Result<Exit, Failure> {
    let Entry { shell, account, today } = Entry::about(cli, &args.account, args.by.as_deref()).await?;
    let mut transaction = shell.pool.begin().await?;
    let text = NoteText { body: &args.text, salt: rand::random() };
    let note = record::add_note(&mut transaction, &account, text, today, &shell.actor).await?;
    transaction.commit().await?;
    let json = json!({ "note": note, "account": account });
    tell(cli, &json, &format!("Note {note} about account {account} is recorded."));
    Ok(Exit::DONE)
}

pub(super) async fn restore(cli: &Cli, args: &RestoreArgs) -> Result<Exit, Failure> {
    let item = name(&args.item, ItemId::parse)?;
    let Entry { shell, account, .. } = Entry::about(cli, &args.account, args.why.by.as_deref()).await?;
    let mut transaction = shell.pool.begin().await?;
    record::restore_item(&mut transaction, &account, &item, &args.why.reason, &shell.actor).await?;
    transaction.commit().await?;
    tell(cli, &json!({ "item": item, "restored": true }), &format!("Item {item} can be demanded again."));
    Ok(Exit::DONE)
}

pub(super) async fn waive(cli: &Cli, args: &WaiveArgs) -> Result<Exit, Failure> {
    let shell = connect::shell(cli, args.why.by.as_deref()).await?;
    let (account, item) = (account(&args.account)?, name(&args.item, ItemId::parse)?);
    let stage = name(&args.stage, StageName::parse)?;
    let waiver = daemon::waive(&shell, &account, &item, &stage, &args.why.reason).await?;
    let text = format!("Stage {stage} of item {item} counts as done on {}, the day it was due.", waiver.on);
    tell(cli, &serde_json::to_value(&waiver).unwrap_or_default(), &text);
    Ok(Exit::DONE)
}

pub(super) async fn ladder(cli: &Cli, args: &LadderArgs) -> Result<Exit, Failure> {
    let shell = connect::shell(cli, args.why.by.as_deref()).await?;
    let (account, to) = (account(&args.account)?, name(&args.to, LadderName::parse)?);
    let change = daemon::ladder_move(&shell, &account, &to).await?;
    if !cli.json {
        say_part!("{}", in_words(&account, &change));
    }
    if !args.dry_run {
        daemon::move_ladder(&shell, &account, &change, &args.why.reason).await?;
    }
    let text =
        if args.dry_run { "Nothing was changed." } else { "The case is moved; the log says so, with the reason." };
    tell(cli, &json!({ "account": account, "moved": !args.dry_run, "change": change }), text);
    Ok(Exit::DONE)
}

/// What moving a case changes: the stages, each item's next one, and today's answer.
fn in_words(account: &AccountId, change: &LadderMove) -> String {
    let stages = |ladder: &Ladder| {
        let enabled = ladder.stages.iter().filter(|stage| stage.enabled);
        enabled.map(|stage| format!("{} {:+}", stage.name, stage.days)).collect::<Vec<_>>().join(", ")
    };
    let (from, to) = (&change.from, &change.to);
    let mut out =
        format!("Account {account}, case of {}: from ladder {} to {}.\n", change.opened_on, from.name, to.name);
    let _ = writeln!(out, "  until now: {}", stages(from));
    let _ = writeln!(out, "  from now:  {}", stages(to));
    let next = |item: &ItemDecision| match (&item.next_stage, item.due_on) {
        (Some(stage), Some(day)) => format!("{stage} on {day}"),
        _ => "no further stage".to_owned(),
    };
    let items = change.before.items.iter().zip(&change.after.items);
    for (before, after) in items.filter(|(before, _)| before.is_overdue_debit() && !before.code.is_out()) {
        let _ = writeln!(out, "  item {}: {}, now {}", before.item, next(before), next(after));
    }
    let answer = |decision: &Decision| match &decision.verdict {
        Verdict::Contact(contacting) => format!("a {} notice is due", contacting.stage),
        Verdict::No { code, next_date } => {
            let until = next_date.map_or(String::new(), |day| format!(", next date {day}"));
            format!("no notice, {}{until}", code.as_str())
        }
    };
    let _ = writeln!(out, "  today: {}, now {}", answer(&change.before), answer(&change.after));
    if change.before.code() == ReasonCode::NoticePending.as_str() {
        let _ = writeln!(out, "  The notice that is on its way still goes out.");
    }
    out
}

pub(super) async fn pause(cli: &Cli, args: &ReasonArgs) -> Result<Exit, Failure> {
    let shell = connect::shell(cli, args.by.as_deref()).await?;
    let mut connection = shell.pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    let changed = record::pause(&mut transaction, &args.reason, &shell.actor).await?;
    transaction.commit().await?;
    let text = if changed {
        "Everything is paused. Nothing is sent until `dunningd resume`."
    } else {
        "Everything was paused already."
    };
    tell(cli, &json!({ "paused": true, "changed": changed }), text);
    Ok(Exit::DONE)
}

pub(super) async fn resume(cli: &Cli, args: &ReasonArgs) -> Result<Exit, Failure> {
    let shell = connect::shell(cli, args.by.as_deref()).await?;
    let mut connection = shell.pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    let changed = record::resume(&mut transaction, &args.reason, &shell.actor).await?;
    transaction.commit().await?;
    let text = if changed { "Everything goes on." } else { "Nothing was paused or stopped." };
    tell(cli, &json!({ "paused": false, "changed": changed }), text);
    Ok(Exit::DONE)
}

pub(super) fn tell(cli: &Cli, json: &serde_json::Value, text: &str) {
    if cli.json { say!("{json}") } else { say!("{text}") }
}
