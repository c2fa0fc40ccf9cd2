//! `explain`: why this account gets, or does not get, a letter.

use std::fmt::Write as _;

use serde_json::json;

use crate::daemon;
use crate::decide::{plan_standings, standings};
use crate::model::{AccountId, Decision, Money, Promise, ReasonCode, Snapshot, Standing, Verdict};
use crate::record::{self, JournalRow, NoticeRow};

use super::args::{Cli, ExplainArgs};
use super::connect;
use super::failure::{Exit, Failure};
use super::output::{say, say_part};
use super::scan::parsed;

pub(super) async fn explain(cli: &Cli, args: &ExplainArgs) -> Result<Exit, Failure> {
    let account = parsed(Some(&args.account), AccountId::parse)?
        .ok_or_else(|| Failure::new(Exit::USAGE, "an account is needed"))?;
    let shell = connect::shell(cli, None).await?;
    let (snapshot, decision) = daemon::look_at(&shell, &account, args.as_of).await?;
    let mut connection = shell.pool.acquire().await?;
    let notices = record::notices_of(&mut connection, account.as_str()).await?;
    let journal = record::journal(&mut connection, &account).await?;
    let name = &snapshot.account.name;
    let Some(day) = args.on else {
        let promises = standings(&snapshot, decision.business_date);
        if cli.json {
            let plans = plan_standings(&snapshot, decision.business_date);
            say!(
                "{}",
                json!({
                    "decision": decision, "notices": notices, "promises": promises, "journal": journal, "plans": plans,
                    "causes": snapshot.causes, "write_offs": snapshot.write_offs, "waivers": snapshot.history.waivers,
                })
            );
        } else {
            say_part!("{}", human(name, &decision, &promises, &notices));
            say_part!("{}", recorded_by_people(&snapshot, &decision));
            say_part!("{}", calls_and_notes(&journal));
        }
        return Ok(Exit::DONE);
    };
    let recorded = record::decision_on(&mut connection, &account, day).await?.ok_or_else(|| {
        Failure::new(Exit::NO_SUCH_THING, format!("no run up to {day} has looked at account {account}"))
    })?;
    let notices: Vec<NoticeRow> = notices.into_iter().filter(|notice| notice.business_date <= day).collect();
    let promises = standings(&snapshot, day);
    if cli.json {
        say!("{}", json!({ "recorded": recorded, "notices": notices, "promises": promises }));
    } else {
        say!(
            "Recorded by run {} on {}; no later run up to {day} concluded anything else.",
            recorded.run_id,
            recorded.business_date
        );
        say_part!("{}", human(name, &recorded.decision, &promises, &notices));
    }
    Ok(Exit::DONE)
}

fn human(name: &str, decision: &Decision, promises: &[(&Promise, Standing)], notices: &[NoticeRow]) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "Account {} ({name}), creditor {}", decision.account, decision.creditor);
    let _ = write!(out, "On {}: ", decision.business_date);
    match &decision.verdict {
        Verdict::Contact(contacting) => {
            let _ = writeln!(
                out,
                "a notice is due: stage {}, in {}, to {}.",
                contacting.stage, contacting.language, contacting.recipient
            );
            if let Some(deadline) = contacting.respond_by {
                let _ = writeln!(out, "It names a deadline: {deadline}.");
            }
        }
        Verdict::No { code, next_date } => {
            let _ = writeln!(out, "no notice, `{}`. {}", code.as_str(), code.meaning());
            match (next_date, code.kind()) {
                (Some(day), _) => {
                    let _ = writeln!(out, "By itself the answer can change on {day}.");
                }
                (None, crate::model::DecisionKind::Hold) => {
                    let _ = writeln!(out, "The answer changes when a person acts: {}", remedy(*code));
                }
                (None, _) => {}
            }
        }
    }
    let _ = writeln!(out, "\nWhat was asked, in order:");
    for check in &decision.checks {
        let location = check.location.as_ref().map_or(String::new(), |at| format!("  [{at}]"));
        // A passed question is named by what it is about; a failed one by its reason code.
        let (mark, name) = if check.passed { ("ok", about(&check.rule)) } else { ("no", check.rule.as_str()) };
        let _ = writeln!(out, "  {mark}  {name:<26} {}{location}", check.inputs);
    }
    if !decision.items.is_empty() {
        let _ = writeln!(out, "\nItems:");
    }
    for item in &decision.items {
        let late = item.days_past_due.map_or("no due date".to_owned(), |days| match days {
            d if d > 0 => format!("{d} days late"),
            0 => "due today".to_owned(),
            d => format!("due in {} days", -d),
        });
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
            "  {:<20} {:>14} open{credited}, {late}: {}{next}",
            item.item.as_str(),
            item.open.to_string(),
            item.code.as_str()
        );
    }
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

fn recorded_by_people(snapshot: &Snapshot, decision: &Decision) -> String {
    let mut out = String::new();
    let plans = plan_standings(snapshot, decision.business_date);
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
        "contact_cap" => "contact cap",
        "shared_mailbox" => "mailbox",
        "outside_send_days" | "calendar_missing" => "sending day",
        "no_address" => "address",
        "no_payment_account" => "bank account",
        "no_template" => "letter",
        other => other,
    }
}

/// What a person can do about a reason that does not go away by itself.
fn remedy(code: ReasonCode) -> &'static str {
    match code {
        ReasonCode::Paused => "`dunningd resume`.",
        ReasonCode::HandedOver => "`dunningd handover --back`, when it is ours again.",
        ReasonCode::AccountHold => "`dunningd release`, or the ledger's own hold is lifted.",
        ReasonCode::NoAddress => "the ledger gets a contact with one usable e-mail address.",
        ReasonCode::NoPaymentAccount => "creditors.toml gets a bank account in that currency.",
        ReasonCode::NoTemplate => "the letter is written or mended, then `dunningd check`.",
        ReasonCode::CalendarMissing => "the calendar of that year is added.",
        ReasonCode::PreviousStageIncomplete => "`dunningd outbox resolve`, once it is known what became of the notice.",
        _ => "see the task that was opened for it.",
    }
}
