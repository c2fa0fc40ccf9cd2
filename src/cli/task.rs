//! Tasks: what waits for a person, what there is to know about it, and what became of it.

use std::fmt::Write as _;

use chrono::NaiveDate;
use serde_json::json;
use sqlx::Connection as _;
use uuid::Uuid;

use crate::daemon::{self, Shell};
use crate::decide::standings;
use crate::model::{
    AccountId, Amounts, Channel, CreditorId, Decision, ItemDecision, ItemId, Money, Promise, Snapshot, Standing,
    TakenBack, TaskKind,
};
use crate::record::{self, JournalRow, NoteText, NoticeRow, TaskDetail, TaskEnd, TaskEntry, TaskNotice};

use super::args::{Cli, TaskDoneArgs, TaskDropArgs, TaskListArgs, TaskShowArgs};
use super::failure::{Exit, Failure};
use super::output::{say, say_part};
use super::register::after_call;
use super::scan::parsed;
use super::{connect, outbox};

/// Today, where that creditor is.
fn today(shell: &Shell, creditor: &str) -> NaiveDate {
    let zone = CreditorId::parse(creditor).map_or(chrono_tz::Tz::UTC, |id| shell.live().config.policy.zone(&id));
    shell.clock.today(zone)
}

pub(super) async fn list(cli: &Cli, args: &TaskListArgs) -> Result<Exit, Failure> {
    let shell = connect::shell(cli, None).await?;
    let mut connection = shell.pool.acquire().await?;
    let tasks = record::open_tasks(&mut connection, args.kind, args.account.as_deref()).await?;
    let tasks: Vec<_> = tasks
        .into_iter()
        .map(|task| ((today(&shell, &task.creditor) - task.opened_on).num_days().max(0), task))
        .filter(|(days, _)| *days >= args.open_for)
        .collect();
    if cli.json {
        let rows: Vec<_> = tasks
            .iter()
            .map(|(days, task)| {
                let mut row = serde_json::to_value(task).unwrap_or_default();
                row["open_days"] = json!(days);
                row
            })
            .collect();
        say!("{}", json!(rows));
        return Ok(Exit::DONE);
    }
    if tasks.is_empty() {
        say!("Nothing waits for a person.");
    }
    for (days, task) in tasks {
        // The notice of a call or a letter is shown with the task.
        let performed = matches!(task.kind.as_str(), "make_call" | "post_letter" | "hand_over");
        let mut about =
            if task.subject.is_empty() || performed { String::new() } else { format!(" ({})", task.subject) };
        if let Some(tried) = task.tried_at {
            let answer = task.reply_code.map_or("no answer".to_owned(), |code| code.to_string());
            let phase = task.phase.as_deref().unwrap_or("an unknown point");
            let _ = write!(about, "; {answer} at {phase}, {}", tried.format("%Y-%m-%d %H:%M UTC"));
        }
        if task.changed {
            about.push_str("; the ledger or the register changed since, see `dunningd task show`");
        }
        say!(
            "{:>6}  {}  {:>4}  {:<16} {:<24} {}{about}",
            task.task_id,
            task.opened_on,
            format!("{days}d"),
            task.kind,
            if task.account_id.is_empty() { &task.creditor } else { &task.account_id },
            task.text
        );
    }
    Ok(Exit::DONE)
}

/// An account as it stands now, beside what a task was made from.
struct Now {
    snapshot: Snapshot,
    decision: Decision,
    promises: Vec<(Promise, Standing)>,
    notices: Vec<NoticeRow>,
    journal: Vec<JournalRow>,
}

impl Now {
    async fn of(shell: &Shell, account: &str, as_of: Option<NaiveDate>) -> Result<Option<Self>, Failure> {
        let Ok(account) = AccountId::parse(account) else { return Ok(None) };
        let (snapshot, decision) = match daemon::look_at(shell, &account, as_of).await {
            Ok(seen) => seen,
            Err(daemon::ScanError::UnknownAccount(_)) => return Ok(None),
            Err(other) => return Err(other.into()),
        };
        let mut connection = shell.pool.acquire().await?;
        let notices = record::notices_of(&mut connection, account.as_str()).await?;
        let journal = record::journal(&mut connection, &account).await?;
        let promises = standings(&shell.live().config.policy, &snapshot, decision.business_date);
        let promises = promises.into_iter().map(|(promise, standing)| (promise.clone(), standing)).collect();
        Ok(Some(Self { snapshot, decision, promises, notices, journal }))
    }

    /// What a person must know before acting on that notice.
    fn warnings(&self, notice: &TaskNotice) -> Vec<String> {
        let mut warnings = Vec::new();
        let taken_back = self.decision.taken_back.iter().find(|(id, _)| id.0 == notice.notice_id);
        match taken_back.map(|(_, became)| became) {
            Some(TakenBack::Cancelled(reason)) => warnings
                .push(format!("do not do this any more: {} The next scan takes the task back.", reason.meaning())),
            Some(TakenBack::Lapsed(last)) => {
                warnings.push(format!("it was to be done by {last}; the next scan counts it as lapsed"));
            }
            None => {
                let over = notice.post_by.filter(|last| *last < self.decision.business_date);
                warnings.extend(over.map(|last| {
                    format!(
                        "do not post this any more: its text was true until {last}. A later scan takes the task back."
                    )
                }));
            }
        }
        for (item, then) in &notice.items {
            match self.decision.items.iter().find(|one| one.item.as_str() == item) {
                None => warnings.push(format!("item {item} is gone from the ledger")),
                Some(now) if now.to_pay().amount != *then => {
                    let then = Money::new(*then, now.to_pay().currency);
                    warnings.push(format!("item {item}: {then} was to pay, now it is {}", now.to_pay()));
                }
                Some(_) => {}
            }
        }
        warnings
    }
}

pub(super) async fn show(cli: &Cli, args: &TaskShowArgs) -> Result<Exit, Failure> {
    let shell = connect::shell(cli, None).await?;
    let mut connection = shell.pool.acquire().await?;
    let task = record::task_detail(&mut connection, args.task)
        .await?
        .ok_or_else(|| Failure::new(Exit::NO_SUCH_THING, format!("there is no task {}", args.task)))?;
    drop(connection);
    let now = Now::of(&shell, &task.account_id, args.as_of).await?;
    let unresolved = Uuid::parse_str(&task.subject).ok().filter(|_| task.kind == TaskKind::ResolveNotice.as_str());
    let evidence = match unresolved {
        Some(notice) => daemon::evidence(&shell, notice).await?,
        None => None,
    };
    let open = task.notice.as_ref().filter(|_| task.open);
    let warnings = open.zip(now.as_ref()).map(|(notice, now)| now.warnings(notice)).unwrap_or_default();
    if cli.json {
        let account = now.as_ref().map(|now| {
            json!({ "name": now.snapshot.account.name, "contacts": now.snapshot.contacts, "items": now.decision.items,
                    "promises": now.promises, "notices": now.notices,
                    "journal": now.journal })
        });
        say!("{}", json!({ "task": task, "warnings": warnings, "account": account, "evidence": evidence }));
    } else {
        say_part!("{}", human(&task, now.as_ref(), &warnings));
        say_part!("{}", evidence.as_ref().map(outbox::told).unwrap_or_default());
    }
    Ok(Exit::DONE)
}

fn human(task: &TaskDetail, now: Option<&Now>, warnings: &[String]) -> String {
    let mut out = String::new();
    let state = if task.open { "open" } else { "closed" };
    let _ = writeln!(out, "Task {} ({}), {state}, of {}: {}", task.task_id, task.kind, task.opened_on, task.text);
    for warning in warnings {
        let _ = writeln!(out, "WARNING  {warning}");
    }
    if let Some(now) = now {
        let _ = writeln!(out, "Account  {} ({})", task.account_id, now.snapshot.account.name);
    }
    let Some(notice) = &task.notice else {
        if !task.subject.is_empty() {
            let _ = writeln!(out, "About    {}", task.subject);
        }
        return out;
    };
    match Channel::parse(&notice.channel) {
        Some(Channel::Call) => {
            let _ = writeln!(out, "Call     {}, tried {} of {} times", notice.to, notice.tried, notice.attempts);
        }
        Some(Channel::Letter) => {
            let _ = writeln!(out, "Post to  {}", clean_lines(&notice.to));
            let copy = notice.copy_to.as_ref();
            let _ = writeln!(out, "Copy     {}", copy.map_or("none", String::as_str));
            if let Some(last) = notice.post_by {
                let _ = writeln!(out, "Post by  {last}, the last day on which its text is true");
            }
        }
        _ => {}
    }
    let _ = writeln!(out, "Amount   {}", amount(task, notice, now));
    if let Some(day) = notice.respond_by {
        let _ = writeln!(out, "Deadline {day}");
    }
    if let Some(now) = now {
        out.push_str(&account_now(now, notice));
    }
    let _ = writeln!(out, "\n{}\n{}", "-".repeat(72), notice.script.trim_end());
    out
}

/// What is to pay on the demanded items, and what was when the words below were written, where that is something else.
fn amount(task: &TaskDetail, notice: &TaskNotice, now: Option<&Now>) -> String {
    let written: Vec<String> =
        notice.demanded.iter().map(|(currency, amount)| format!("{amount} {currency}")).collect();
    let written = written.join(", ");
    let Some(now) = now.filter(|_| task.open) else { return written };
    let demanded = now.decision.items.iter().filter(|one| notice.items.iter().any(|(id, _)| id == one.item.as_str()));
    let today: Amounts = demanded.filter(|one| !one.code.is_out()).map(ItemDecision::to_pay).collect();
    let today = today.to_string();
    if today == written { written } else { format!("{today} today; {written} when the words below were written") }
}

/// One line, however the ledger writes an address.
fn clean_lines(text: &str) -> String {
    text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(", ")
}

/// The demanded items, and what was said and written before.
fn account_now(now: &Now, notice: &TaskNotice) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "\nItems on {}:", now.decision.business_date);
    for (item, _) in &notice.items {
        let document = now.snapshot.items.iter().find(|one| one.id.as_str() == item);
        let Some((one, document)) = now.decision.items.iter().find(|one| one.item.as_str() == item).zip(document)
        else {
            continue;
        };
        let days = one.days_past_due.unwrap_or_default();
        let _ = writeln!(
            out,
            "  {:<20} {:<20} {:>14} to pay, {days} days late",
            item,
            document.document_no,
            one.to_pay().to_string()
        );
    }
    let before: Vec<&NoticeRow> = now.notices.iter().filter(|one| one.notice_id != notice.notice_id).collect();
    if !before.is_empty() || !now.journal.is_empty() {
        let _ = writeln!(out, "\nBefore:");
    }
    for one in before {
        let _ = writeln!(out, "  {}  {} {}, items {}", one.business_date, one.stage, one.state, one.items.join(", "));
    }
    for entry in &now.journal {
        let what = entry.outcome.as_ref().map_or("note".to_owned(), |outcome| format!("call: {outcome}"));
        let words = entry.text.as_ref().map_or(String::new(), |text| format!(": {text}"));
        let _ = writeln!(out, "  {}  {what}, by {}{words}", entry.day, entry.person);
    }
    if !now.promises.is_empty() {
        let _ = writeln!(out, "\nPromises:");
    }
    for (promise, standing) in &now.promises {
        let _ = writeln!(out, "  {}  {}", promise.made_on, promise.tell(*standing));
    }
    out
}

pub(super) async fn done(cli: &Cli, args: &TaskDoneArgs) -> Result<Exit, Failure> {
    let shell = connect::shell(cli, args.by.as_deref()).await?;
    let mut connection = shell.pool.acquire().await?;
    let task = record::task_detail(&mut connection, args.task).await?;
    let today = today(&shell, task.as_ref().map_or("", |task| task.creditor.as_str()));
    let item = parsed(args.item.as_deref(), ItemId::parse)?;
    let entry = TaskEntry {
        on: args.on,
        today,
        outcome: args.outcome,
        item: item.as_ref(),
        no_cause: args.no_cause,
        to: args.to.as_deref(),
        reason: args.reason.as_deref(),
        note: args.note.as_deref().map(|body| NoteText { body, salt: rand::random() }),
    };
    drop(connection);
    let end = daemon::task_done(&shell, args.task, &entry).await?;
    let number = args.task;
    let (kind, account) =
        task.as_ref().map_or((None, String::new()), |task| (TaskKind::parse(&task.kind), task.account_id.clone()));
    let stage = task.and_then(|task| task.notice).map(|notice| notice.stage);
    let text = match (end, stage) {
        (TaskEnd::StaysOpen { tried, attempts }, _) => {
            format!("Nobody answered, {tried} of {attempts} times. Task {number} stays open.")
        }
        (TaskEnd::Closed, Some(stage)) => {
            format!("Task {number} is done; stage {stage} is complete as of {}.", entry.day())
        }
        (TaskEnd::DoneBefore { cancelled }, stage) => format!(
            "Task {number} is done after all; stage {} is complete as of {}.{}",
            stage.unwrap_or_default(),
            entry.day(),
            if cancelled == 0 { "" } else { " What took its place is cancelled." }
        ),
        (TaskEnd::CopyQueued, stage) => format!(
            "Task {number} is done; stage {} is complete as of {}. The e-mail copy is in the queue.",
            stage.unwrap_or_default(),
            entry.day()
        ),
        (TaskEnd::Closed, None) if kind.is_some_and(TaskKind::is_about_a_cause) => {
            format!("Task {number} is closed; what it is about stands as it was recorded.")
        }
        (TaskEnd::Closed, None) if kind.is_some_and(TaskKind::is_opened_once) => format!("Task {number} is closed."),
        (TaskEnd::Closed, None) => {
            format!("Task {number} is closed. The next scan opens it again if its cause persists.")
        }
    };
    let text = text + &args.outcome.map_or(String::new(), |outcome| after_call(outcome, entry.cause(), &account));
    let closed = !matches!(end, TaskEnd::StaysOpen { .. });
    if cli.json {
        say!("{}", json!({ "task": number, "closed": closed, "on": entry.day(), "cause": entry.cause() }));
    } else {
        say!("{text}");
    }
    Ok(Exit::DONE)
}

pub(super) async fn drop_task(cli: &Cli, args: &TaskDropArgs) -> Result<Exit, Failure> {
    let shell = connect::shell(cli, args.why.by.as_deref()).await?;
    let mut connection = shell.pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    record::task_drop(&mut transaction, args.task, &args.why.reason, &shell.actor).await?;
    transaction.commit().await?;
    let number = args.task;
    if cli.json {
        say!("{}", json!({ "task": number, "dropped": true }));
    } else {
        say!("Task {number} is dropped; its stage is not done, and the next scan decides again.");
    }
    Ok(Exit::DONE)
}
