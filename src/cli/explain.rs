//! `explain`: why this account gets, or does not get, a letter.

use std::fmt::Write as _;

use chrono::NaiveDate;
use serde_json::json;

use crate::daemon;
use crate::decide::{needs_approval, plan_standings, standings};
use crate::model::{
    AccountId, ApprovalCause, Channel, Decision, Money, Policy, Promise, Snapshot, Standing, Verdict, counted,
};
use crate::record::{self, DecisionRow, JournalRow, NoticeRow};

use super::args::{Cli, ExplainArgs};
use super::connect;
use super::failure::{Exit, Failure};
use super::output::{say, say_part};
use super::scan::parsed;

pub(super) async fn explain(cli: &Cli, args: &ExplainArgs) -> Result<Exit, Failure> {
    let account = parsed(Some(&args.account), AccountId::parse)?
        .ok_or_else(|| Failure::new(Exit::USAGE, "an account is needed"))?;
    let shell = connect::shell(cli, None).await?;
    let live = shell.live();
    let policy = &live.config.policy;
    let mut connection = shell.pool.acquire().await?;
    let notices = record::notices_of(&mut connection, account.as_str()).await?;
    if let Some((recorded, said, day)) = recorded(&mut connection, args, &account).await? {
        // Whoever has left the ledger since is explained all the same.
        let now = match daemon::look_at(&shell, &account, None).await {
            Ok((snapshot, _)) => Some(snapshot),
            Err(daemon::ScanError::UnknownAccount(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let name = now.as_ref().map_or("no longer in the ledger", |snapshot| snapshot.account.name.as_str());
        let promises = now.as_ref().map_or(Vec::new(), |snapshot| standings(policy, snapshot, day));
        let notices: Vec<NoticeRow> = notices.into_iter().filter(|notice| notice.business_date <= day).collect();
        if cli.json {
            let told = json!({ "recorded": recorded, "said": said, "notices": notices, "promises": promises });
            say!("{told}");
        } else {
            say!("{said}");
            match &recorded.decision {
                Some(decision) => say_part!("{}", human(name, decision, None, &promises, &notices)),
                None => say!("What it was based on was erased; `dunningd log show` has the event that says so."),
            }
        }
        return Ok(Exit::DONE);
    }
    let (snapshot, decision) = daemon::look_at(&shell, &account, args.as_of).await?;
    let journal = record::journal(&mut connection, &account).await?;
    let promises = standings(policy, &snapshot, decision.business_date);
    if cli.json {
        let plans = plan_standings(policy, &snapshot, decision.business_date);
        say!(
            "{}",
            json!({
                "decision": decision, "notices": notices, "promises": promises, "journal": journal, "plans": plans,
                "causes": snapshot.causes, "write_offs": snapshot.write_offs, "waivers": snapshot.history.waivers,
            })
        );
    } else {
        let by_mode = snapshot.approvals.all.then_some(ApprovalCause::ApproveAll);
        let approval = needs_approval(policy, &snapshot, &decision).or(by_mode);
        say_part!("{}", human(&snapshot.account.name, &decision, approval, &promises, &notices));
        say_part!("{}", recorded_by_people(policy, &snapshot, &decision));
        say_part!("{}", calls_and_notes(&journal));
    }
    Ok(Exit::DONE)
}

/// The recorded decision that was asked for, where it comes from in words, and the day it is told for; none when the
/// question is what would be decided.
async fn recorded(
    connection: &mut sqlx::PgConnection,
    args: &ExplainArgs,
    account: &AccountId,
) -> Result<Option<(DecisionRow, String, NaiveDate)>, Failure> {
    if let Some(day) = args.on {
        let row = record::decision_on(connection, account, day).await?.ok_or_else(|| {
            Failure::new(Exit::NO_SUCH_THING, format!("no run up to {day} has looked at account {account}"))
        })?;
        let said = format!(
            "Recorded by run {} on {}; no later run up to {day} concluded anything else.",
            row.run_id, row.business_date
        );
        return Ok(Some((row, said, day)));
    }
    let Some(id) = args.run else { return Ok(None) };
    let run = record::run(connection, id)
        .await?
        .ok_or_else(|| Failure::new(Exit::NO_SUCH_THING, format!("there is no run {id}")))?;
    let what = format!("run {id} of creditor {} for {}", run.creditor, run.business_date);
    if run.state != "completed" {
        let why = run.reason.map_or(String::new(), |reason| format!(" ({reason})"));
        return Err(Failure::new(Exit::NO_SUCH_THING, format!("{what} is {}{why}; it concluded nothing", run.state)));
    }
    let row = record::decision_in(connection, account, id).await?.ok_or_else(|| {
        Failure::new(Exit::NO_SUCH_THING, format!("neither {what} nor a run before it has looked at account {account}"))
    })?;
    let said = if row.run_id == id {
        format!("Recorded by {what}.")
    } else {
        format!(
            "{} left no row for this account: it concluded the same as the one before, or did not look at it. Recorded \
             by run {} on {}:",
            capital(&what),
            row.run_id,
            row.business_date
        )
    };
    Ok(Some((row, said, run.business_date)))
}

/// `approval`: why a notice of this decision would wait for a person, where it would and that is known.
fn human(
    name: &str,
    decision: &Decision,
    approval: Option<ApprovalCause>,
    promises: &[(&Promise, Standing)],
    notices: &[NoticeRow],
) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "Account {} ({name}), creditor {}", decision.account, decision.creditor);
    let _ = write!(out, "On {}: ", decision.business_date.format("%A %Y-%m-%d"));
    match &decision.verdict {
        Verdict::Contact(contacting) => {
            let copy = contacting.recipient.as_ref().map(|to| format!(", with a copy to {to}")).unwrap_or_default();
            let how = match (contacting.channel, &contacting.recipient) {
                (Channel::Email, Some(to)) => format!("to {to}"),
                (Channel::Email, None) => "to nobody".to_owned(),
                (Channel::Call, _) => {
                    format!("a call to {} for a person to make", contacting.phone.as_deref().unwrap_or("nobody"))
                }
                (Channel::Letter, _) => format!("a letter for a person to post{copy}"),
                (Channel::Handover, _) => "a hand-over for a person to make".to_owned(),
            };
            let _ =
                writeln!(out, "a notice is due: stage {}, in {}, {how}.", contacting.stage, contacting.language.name());
            if let Some(deadline) = contacting.respond_by {
                let _ = writeln!(out, "It names a deadline: {deadline}.");
            }
            if let Some(cause) = approval {
                let _ = writeln!(out, "It waits until a person approves it. {}", cause.meaning());
            }
        }
        Verdict::No { code, next_date } => {
            let _ = writeln!(out, "no notice, `{}`. {}", code.as_str(), code.meaning());
            if let Some(day) = next_date {
                let _ = writeln!(out, "Next date: {}.", day.format("%A %Y-%m-%d"));
            }
        }
    }
    if !decision.remedies.is_empty() {
        let _ = writeln!(out, "\nWhat would change the answer:");
    }
    for remedy in &decision.remedies {
        let _ = writeln!(out, "  - {}", remedy.text);
    }
    let _ = writeln!(out, "\nWhat was asked, in order:");
    for check in &decision.checks {
        let location = check.location.as_ref().map_or(String::new(), |at| format!("  [{at}]"));
        // A passed question is named by what it is about; a failed one by its reason code.
        let (mark, name) = if check.passed { ("ok", about(&check.rule)) } else { ("no", &*check.rule) };
        let _ = writeln!(out, "  {mark}  {name:<26} {}{location}", check.inputs);
    }
    items(&mut out, decision);
    if !promises.is_empty() {
        let _ = writeln!(out, "\nPromises:");
    }
    for (promise, standing) in promises {
        let items: Vec<&str> = promise.items.iter().map(|one| one.item.as_str()).collect();
        let _ = writeln!(out, "  {}  {}, items {}", promise.made_on, promise.tell(*standing), items.join(", "));
    }
    if !notices.is_empty() {
        let _ = writeln!(out, "\nNotices:");
    }
    for notice in notices {
        let reason = notice.reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
        let _ = writeln!(
            out,
            "  {}  {:<10} {}{reason}, items {}",
            notice.business_date,
            notice.stage,
            notice.state,
            notice.items.join(", ")
        );
    }
    out
}

fn items(out: &mut String, decision: &Decision) {
    if !decision.items.is_empty() {
        let _ = writeln!(out, "\nItems:");
    }
    for item in &decision.items {
        // A credit is never late.
        let late = match item.days_past_due {
            _ if item.is_credit => String::new(),
            None => ", no due date".to_owned(),
            Some(d) if d > 0 => format!(", {} late", counted(d, "day")),
            Some(0) => ", due today".to_owned(),
            Some(d) => format!(", due in {}", counted(-d, "day")),
        };
        let by: Vec<&str> =
            decision.netted.iter().filter(|one| one.item == item.item).map(|one| one.credit.as_str()).collect();
        let credited = if by.is_empty() {
            String::new()
        } else {
            format!(", {} covered by {}", Money::new(item.credited, item.open.currency), by.join(", "))
        };
        let next = match (&item.next_stage, item.due_on) {
            (Some(stage), Some(day)) => format!(", next stage {stage} due on {day}"),
            _ => String::new(),
        };
        let _ = writeln!(
            out,
            "  {:<20} {:>14} open{credited}{late}: {}{next}",
            item.item.as_str(),
            item.open.to_string(),
            item.code.as_str()
        );
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn recorded_by_people(policy: &Policy, snapshot: &Snapshot, decision: &Decision) -> String {
    let mut out = String::new();
    let plans = plan_standings(policy, snapshot, decision.business_date);
    let plans = plans.iter().map(|(plan, now)| {
        let items: Vec<&str> = plan.items.iter().map(|one| one.item.as_str()).collect();
        format!("{}.{}  {}, items {}", plan.number, plan.version, plan.tell(now), items.join(", "))
    });
    section(&mut out, "Instalment plans", plans);
    section(&mut out, "Causes", snapshot.causes.iter().map(crate::model::RecordedCause::tell));
    let write_offs = snapshot.write_offs.iter().map(|off| format!("{}  item {}: {}", off.since, off.item, off.reason));
    section(&mut out, "Write-offs", write_offs);
    let stages = snapshot.history.waivers.iter().map(|one| match &one.elsewhere {
        Some(by) => format!("{} of item {}: done elsewhere on {}, by {by}", one.stage, one.item, one.on),
        None => format!("{} of item {}: waived as of {}: {}", one.stage, one.item, one.on, one.reason),
    });
    section(&mut out, "Stages done without a notice", stages);
    out
}

fn section(out: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    for (n, line) in lines.enumerate() {
        if n == 0 {
            let _ = writeln!(out, "\n{title}:");
        }
        let _ = writeln!(out, "  {line}");
    }
}

fn calls_and_notes(journal: &[JournalRow]) -> String {
    let mut out = String::new();
    if !journal.is_empty() {
        let _ = writeln!(out, "\nCalls and notes:");
    }
    for row in journal {
        let outcome = row.outcome.as_ref().map_or("note".to_owned(), |outcome| format!("call, {outcome}"));
        let text = row.text.as_ref().map_or(String::new(), |text| format!(": {text}"));
        let _ = writeln!(out, "  {}  {}, {outcome}{text}", row.day, row.person);
    }
    out
}

/// What a question is about, for one that was passed.
fn about(rule: &str) -> &str {
    match rule {
        "paused" => "pause",
        "handed_over" => "hand-over",
        "account_hold" => "hold on the account",
        "notice_pending" => "notice on its way",
        "previous_stage_incomplete" => "failed notices",
        "deadline_running" => "running deadline",
        "nothing_open" => "open items",
        "not_overdue" => "overdue items",
        "all_items_out" => "items that are out",
        "account_in_credit" => "credits",
        "below_minimum" => "minimum",
        "in_grace" => "grace",
        "account_min_arrears" => "arrears",
        "stage_due" => "stage",
        "effective_due_date" => "due date moved",
        "approval_limit" => "waiting for approval",
        "contact_cap" => "contact cap",
        "shared_mailbox" => "mailbox",
        "outside_send_days" | "calendar_missing" => "sending day",
        "no_address" => "address",
        "no_payment_account" => "bank account",
        "no_template" => "letter",
        other => other,
    }
}
