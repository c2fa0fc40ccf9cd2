//! What is agreed and found out: plan, cause, contact, write-off, opening.

use serde_json::json;
use sqlx::Connection as _;

use crate::daemon::{ContactRequest, Parts, PlanRequest, Shell};
use crate::model::{
    AccountId, CauseHold, ContactEntry, ContactId, Currency, EmailAddress, Entered, ItemId, Language, Money, Plan,
    as_argument, counted,
};
use crate::record::NewCause;
use crate::{daemon, record};

use super::args::{CauseArgs, Cli, ContactArgs, OpeningArgs, PlanArgs, WriteOffArgs};
use super::connect;
use super::failure::{Exit, Failure};
use super::register::{Entry, account, name, tell};
use super::scan::parsed;

pub(super) async fn plan(cli: &Cli, args: &PlanArgs) -> Result<Exit, Failure> {
    let shell = connect::shell(cli, args.by.as_deref()).await?;
    let account = account(&args.account)?;
    let reason = args.reason.as_deref().unwrap_or_default().to_owned();
    if let Some(number) = args.end {
        let number = daemon::end_plan(&shell, &account, number, &reason).await?;
        let text = format!("Plan {number} has ended; what is open on its items goes on where it stood.");
        tell(cli, &json!({ "plan": number, "ended": true }), &text);
        return Ok(Exit::DONE);
    }
    if args.list {
        let plans = daemon::plans(&shell, &account).await?;
        let lines: Vec<String> = plans
            .iter()
            .map(|(plan, now)| {
                format!("{:>5}  version {}  {}; {}", plan.number, plan.version, plan.tell(now), plan.terms())
            })
            .collect();
        let rows: Vec<_> = plans.iter().map(|(plan, now)| json!({ "plan": plan, "now": now })).collect();
        let none = "No plan was recorded.".to_owned();
        tell(cli, &rows.into(), &if lines.is_empty() { none } else { lines.join("\n") });
        return Ok(Exit::DONE);
    }
    let parts = match (args.parts, args.every, args.from) {
        (Some(parts), Some(every), Some(from)) => Parts::Equal { parts, every, from },
        _ => Parts::Each(args.instalment.clone()),
    };
    let items: Result<Vec<ItemId>, Failure> = args.item.iter().map(|item| name(item, ItemId::parse)).collect();
    let currency = match (&args.currency, args.restructure) {
        (None, Some(number)) => currency_of(&shell, &account, number).await?,
        (code, _) => name(code.as_deref().unwrap_or_default(), Currency::parse)?,
    };
    let request = PlanRequest {
        currency,
        items: items?,
        parts,
        tolerance_days: args.tolerance,
        on_missed: args.on_missed,
        restructure: args.restructure,
        reason,
    };
    let plan = daemon::agree_plan(&shell, &account, &request).await?;
    tell(cli, &serde_json::to_value(&plan).unwrap_or_default(), &agreed(&plan));
    Ok(Exit::DONE)
}

async fn currency_of(shell: &Shell, account: &AccountId, number: i64) -> Result<Currency, Failure> {
    let plans = daemon::plans(shell, account).await?;
    let plan = plans.iter().map(|(plan, _)| plan).find(|plan| plan.number == number);
    plan.map(|plan| plan.currency)
        .ok_or_else(|| Failure::new(Exit::NO_SUCH_THING, format!("account {account} has no plan {number}")))
}

fn agreed(plan: &Plan) -> String {
    let items: Vec<&str> = plan.items.iter().map(|one| one.item.as_str()).collect();
    let version = if plan.version > 1 { format!(", version {}", plan.version) } else { String::new() };
    let lines: Vec<String> = plan
        .instalments
        .iter()
        .map(|one| {
            format!("  {:>3}  {}  {:>14}", one.number, one.due_on, Money::new(one.amount, plan.currency).to_string())
        })
        .collect();
    format!("Plan {}{version}, for {}; {}:\n{}", plan.number, items.join(", "), plan.terms(), lines.join("\n"))
}

pub(super) async fn cause(cli: &Cli, args: &CauseArgs) -> Result<Exit, Failure> {
    let item = parsed(args.item.as_deref(), ItemId::parse)?;
    let Entry { shell, account, today } = Entry::about(cli, &args.account, args.why.by.as_deref()).await?;
    let mut transaction = shell.pool.begin().await?;
    let (reason, actor) = (&args.why.reason, &shell.actor);
    let target = item.as_ref().map_or(format!("account {account}"), |item| format!("item {item} of account {account}"));
    let (json, text) = if let Some(cause) = args.cause.filter(|_| !args.clear) {
        let told = NewCause { item: item.as_ref(), cause, reason, since: today };
        let id = record::record_cause(&mut transaction, &account, &told, actor).await?;
        let rule = shell.live().config.policy.cause(cause);
        let held = match (rule.hold, rule.hold_working_days) {
            (CauseHold::None, _) => String::new(),
            (_, None) => " It is held until the cause is cleared.".to_owned(),
            (_, Some(days)) => format!(" It is held for {days} working days."),
        };
        let task = rule.task.map_or(String::new(), |task| format!(" The next run opens a task: {}.", task.as_str()));
        let text = format!("Cause {} is recorded for {target}.{held}{task}", cause.as_str());
        (json!({ "number": id, "cause": cause, "item": item }), text)
    } else {
        let count = record::clear_causes(&mut transaction, &account, item.as_ref(), args.cause, reason, actor).await?;
        (json!({ "cleared": count }), format!("{} cleared for {target}.", counted(count, "cause")))
    };
    transaction.commit().await?;
    tell(cli, &json, &text);
    Ok(Exit::DONE)
}

pub(super) async fn contact(cli: &Cli, args: &ContactArgs) -> Result<Exit, Failure> {
    let shell = connect::shell(cli, args.by.as_deref()).await?;
    let account = account(&args.account)?;
    let reason = args.reason.as_deref().unwrap_or_default().to_owned();
    if args.list {
        let (snapshot, _) = daemon::look_at(&shell, &account, None).await?;
        let lines: Vec<String> = snapshot
            .contacts
            .iter()
            .map(|contact| {
                let email = contact.email.as_ref().map_or("no usable address", EmailAddress::as_str);
                let refuses = if contact.no_email { ", wants no e-mail" } else { "" };
                let erased = if contact.entered == Entered::Erased { ", what was entered was erased" } else { "" };
                let language = contact.language.as_ref().map_or(String::new(), |language| format!(", {language}"));
                format!("{:<12} {:<9} {email}{language}{refuses}{erased}", contact.id.as_str(), contact.role.as_str())
            })
            .collect();
        let none = "The account has no contact.".to_owned();
        let text = if lines.is_empty() { none } else { lines.join("\n") };
        tell(cli, &serde_json::to_value(&snapshot.contacts).unwrap_or_default(), &text);
        return Ok(Exit::DONE);
    }
    let id = name(args.contact.as_deref().unwrap_or("new"), ContactId::parse)?;
    if args.remove {
        let mut connection = shell.pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        record::remove_contact(&mut transaction, &account, &id, &reason, &shell.actor).await?;
        transaction.commit().await?;
        tell(cli, &json!({ "contact": id, "removed": true }), &format!("What was entered about contact {id} is gone."));
        return Ok(Exit::DONE);
    }
    let email = args.email.as_deref().map(|text| name(text, EmailAddress::parse)).transpose()?;
    let language = args.language.as_deref().map(|text| name(text, Language::parse)).transpose()?;
    let nothing = email.is_none() && language.is_none() && args.phone.is_none() && args.name.is_none();
    if nothing && !args.no_email {
        let what = "say what is to change: --email, --no-email, --language, --phone or --name";
        return Err(Failure::new(Exit::USAGE, what));
    }
    let request = ContactRequest {
        entry: ContactEntry {
            contact: id,
            role: args.role,
            // Whoever gives an address wants to be written to.
            no_email: if args.no_email { Some(true) } else { email.as_ref().map(|_| false) },
            email,
            language: language.map(|language| language.code().to_owned()),
            phone: args.phone.clone().map(String::from),
            name: args.name.clone().map(String::from),
            erased: false,
        },
        is_new: args.add,
        reason,
    };
    let id = daemon::enter_contact(&shell, &account, &request).await?;
    let text = format!("Contact {id} of account {account} is recorded; the ledger stays as it is.");
    tell(cli, &json!({ "contact": id, "account": account }), &text);
    Ok(Exit::DONE)
}

/// What a stop of an item means for the plan that it is in, if there is one.
pub(super) async fn stops_plan(shell: &Shell, account: &AccountId, item: &ItemId) -> Result<String, Failure> {
    let plans = daemon::plans(shell, account).await?;
    let plan = plans.iter().find(|(plan, now)| now.state.is_alive() && plan.items.iter().any(|one| one.item == *item));
    Ok(plan.map_or(String::new(), |(plan, _)| {
        format!(
            "\nPlan {0} stands still as a whole, because the item is in it: agree on it anew (`dunningd plan {1} \
             --restructure {0} …`), or end it.",
            plan.number,
            as_argument(account.as_str())
        )
    }))
}

pub(super) async fn write_off(cli: &Cli, args: &WriteOffArgs) -> Result<Exit, Failure> {
    let item = name(&args.item, ItemId::parse)?;
    let Entry { shell, account, today } = Entry::about(cli, &args.account, args.why.by.as_deref()).await?;
    let mut transaction = shell.pool.begin().await?;
    let (reason, actor) = (&args.why.reason, &shell.actor);
    let (json, text) = if args.undo {
        record::undo_write_off(&mut transaction, &account, &item, reason, actor).await?;
        (json!({ "item": item, "undone": true }), format!("Item {item} can be demanded again."))
    } else {
        let id = record::write_off(&mut transaction, &account, &item, reason, today, actor).await?;
        (json!({ "write_off": id, "item": item }), format!("Item {item} is written off and not demanded any more."))
    };
    transaction.commit().await?;
    let text = if args.undo { text } else { text + &stops_plan(&shell, &account, &item).await? };
    tell(cli, &json, &text);
    Ok(Exit::DONE)
}

pub(super) async fn opening(cli: &Cli, args: &OpeningArgs) -> Result<Exit, Failure> {
    let shell = connect::shell(cli, args.by.as_deref()).await?;
    let file = std::fs::read(&args.file).map_err(|error| {
        Failure::new(Exit::NO_SUCH_THING, format!("{}: {error}; nothing was imported", args.file.display()))
    })?;
    let (stages, accounts) = daemon::import_opening(&shell, &file, args.dry_run).await?;
    let done =
        if args.dry_run { "would count as done elsewhere; nothing was written" } else { "count as done elsewhere" };
    let text = format!("{} on {} {done}.", counted(stages, "stage"), counted(accounts, "account"));
    tell(cli, &json!({ "stages": stages, "accounts": accounts, "dry_run": args.dry_run }), &text);
    Ok(Exit::DONE)
}
