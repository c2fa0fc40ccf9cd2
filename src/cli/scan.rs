//! `scan`: decide for every account, and say what was concluded.

use std::fmt::Write as _;

use serde_json::json;

use crate::daemon::{self, Dispatched, RunReport, ScanReport, ScanRequest};
use crate::model::{
    AccountId, CancelReason, CreditorId, Decision, ReasonCode, ReleaseState, Released, RunTotals, Verdict, counted,
};
use crate::record;

use super::args::{Cli, ScanArgs};
use super::connect;
use super::failure::{Exit, Failure};
use super::output::{complain, say, say_part};
use super::release::in_words;
use super::service::accept;

pub(super) async fn scan(cli: &Cli, args: &ScanArgs) -> Result<Exit, Failure> {
    let request = ScanRequest {
        creditor: parsed(args.creditor.as_deref(), CreditorId::parse)?,
        account: parsed(args.account.as_deref(), AccountId::parse)?,
        as_of: args.as_of,
        dry_run: args.dry_run,
        accept_ledger: args.accept.reason.as_ref().filter(|_| args.accept_ledger).map(ToString::to_string),
        ..ScanRequest::default()
    };
    let shell = connect::shell(cli, None).await?;
    accept(&shell, &args.accept).await?;
    let mut decisions = Vec::new();
    let json = cli.json;
    let report = daemon::scan(&shell, &request, &mut |decision| match (args.why, json) {
        (true, true) => decisions.push(why_json(decision)),
        (true, false) => say!("{}", why_line(decision)),
        (false, _) => {}
    })
    .await?;
    let mut interrupted = false;
    let dispatched = if args.deliver {
        let transport = daemon::transport(&shell.live().config.service.mail)?;
        let stop = daemon::stop_on_signals().map_err(|error| Failure::unexpected(error.to_string()))?;
        let mut dispatched = daemon::dispatch(&shell, &transport, &stop).await?;
        if dispatched.waiting.is_none() {
            dispatched.waiting = record::held_back(&mut *shell.pool.acquire().await?).await?;
        }
        interrupted = stop.is_cancelled();
        Some(dispatched)
    } else {
        None
    };
    if let Some(error) = if args.dry_run { None } else { daemon::anchor_after_run(&shell).await } {
        complain(format_args!("no checkpoint of the log: {error}"));
    }
    let windowed = if args.deliver { record::windowed(&mut *shell.pool.acquire().await?).await? } else { None };
    let waiting = if args.deliver { record::waiting(&mut *shell.pool.acquire().await?).await? } else { Vec::new() };
    if json {
        let mut value = serde_json::to_value(&report).unwrap_or_default();
        if args.why {
            value["decisions"] = decisions.into();
        }
        if let Some(dispatched) = &dispatched {
            value["delivery"] = serde_json::to_value(dispatched).unwrap_or_default();
            value["send_window"] = serde_json::to_value(&windowed).unwrap_or_default();
            value["waiting"] = serde_json::to_value(&waiting).unwrap_or_default();
        }
        say!("{value}");
    } else {
        if args.why {
            say!();
        }
        say_part!("{}", human(&report, dispatched.as_ref()));
        if let Some(windowed) = &windowed {
            let opens = windowed.not_before.format("%Y-%m-%d %H:%M UTC");
            say!("{} wait for their send window; the first opens {opens}", windowed.notices);
        }
        for (why, count) in &waiting {
            say!("{count} waiting: {why}");
        }
        for refusal in &report.refused {
            complain(format_args!("{refusal}"));
        }
    }
    let relay_down = dispatched.as_ref().is_some_and(|done| done.relay_error.is_some());
    let failed = !waiting.is_empty()
        || report.quarantined > 0
        || report.runs.iter().any(|run| !run.failures.is_empty() || !run.unreadable.is_empty())
        || dispatched.as_ref().is_some_and(|done| !done.all_accepted());
    let may_not = dispatched.as_ref().is_some_and(|done| done.not_adopted.is_some() || done.stopped.is_some());
    Ok(if interrupted {
        Exit::INTERRUPTED
    } else if !report.refused.is_empty() || may_not {
        Exit::REFUSED
    } else if relay_down {
        Exit::UNAVAILABLE
    } else if failed {
        Exit::FINDINGS
    } else {
        Exit::DONE
    })
}

/// A name given on the command line.
pub(super) fn parsed<T, E: std::fmt::Display>(
    text: Option<&str>,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Option<T>, Failure> {
    text.map(|text| parse(text).map_err(|error| Failure::new(Exit::USAGE, error.to_string()))).transpose()
}

/// One account in one line: what, why, since what, until when.
pub(super) fn why_line(decision: &Decision) -> String {
    let mut line = format!("{:<24} {:<8} ", decision.account.as_str(), decision.kind().as_str());
    match &decision.verdict {
        Verdict::Contact(contacting) => {
            let demanded: Vec<&str> = decision
                .items
                .iter()
                .filter(|item| item.code == crate::model::ItemCode::Demanded)
                .map(|item| item.item.as_str())
                .collect();
            let shown = demanded.iter().take(5).copied().collect::<Vec<_>>().join(", ");
            let more = demanded.len().saturating_sub(5);
            let _ = write!(line, "{} in {}: {shown}", contacting.stage, contacting.language);
            if more > 0 {
                let _ = write!(line, " and {more} more");
            }
        }
        Verdict::No { code, next_date } => {
            let inputs = decision.checks.last().map_or("", |check| &*check.inputs);
            let _ = write!(line, "{}: {inputs}", code.as_str());
            if let Some(day) = next_date {
                let _ = write!(line, "; next date {day}");
            }
        }
    }
    line
}

fn why_json(decision: &Decision) -> serde_json::Value {
    let (stage, next_date) = match &decision.verdict {
        Verdict::Contact(contacting) => (Some(&contacting.stage), None),
        Verdict::No { next_date, .. } => (None, *next_date),
    };
    json!({
        "account": decision.account, "creditor": decision.creditor, "kind": decision.kind().as_str(),
        "code": decision.code(), "stage": stage, "next_date": next_date, "items": decision.items,
        "reason": decision.checks.last().map(|check| &check.inputs), "remedies": decision.remedies,
    })
}

/// The report for people.
pub(super) fn human(report: &ScanReport, dispatched: Option<&Dispatched>) -> String {
    let mut out = String::new();
    if let Some(mode) = report.mode {
        let _ = writeln!(out, "mode {}", in_words(mode));
    }
    if let Some(why) = &report.not_adopted {
        let _ = writeln!(out, "NOTHING IS SENT: {why}");
    }
    for run in &report.runs {
        let _ = writeln!(
            out,
            "creditor {}, business date {}{}{}",
            run.creditor,
            run.business_date,
            if report.as_of.is_some() { ", ledger as of that day" } else { "" },
            if report.dry_run { ", dry run: nothing was written" } else { "" }
        );
        totals(&mut out, &run.totals);
        notes(&mut out, run);
    }
    if report.runs.len() > 1 {
        let _ = writeln!(out, "all creditors");
        totals(&mut out, &report.total);
    }
    if report.quarantined > 0 {
        let _ =
            writeln!(out, "warning: {} ledger rows are quarantined; see `dunningd ledger check`", report.quarantined);
    }
    if let Some(done) = dispatched {
        let _ = writeln!(
            out,
            "delivery: {} accepted by the relay, {} deferred, {} refused, {} unknown, {} stopped by the last check",
            done.accepted, done.deferred, done.refused, done.unknown, done.cancelled
        );
        if done.expired > 0 {
            let _ = writeln!(out, "expired before their next try, and decided anew by the next scan: {}", done.expired);
        }
        if let Some(why) = &done.not_adopted {
            let _ = writeln!(out, "NOTHING WAS SENT: {why}");
        }
        if let Some(why) = &done.stopped {
            let _ = writeln!(out, "NOTHING MORE WAS SENT: {why}");
        }
        if let Some(waiting) = &done.waiting {
            let _ = writeln!(out, "the rest waits: {waiting}");
        }
        if let Some(error) = &done.relay_error {
            let _ = writeln!(out, "the relay cannot be used: {error}");
            let _ = writeln!(out, "What is queued stays queued, and no notice lost a try.");
        }
    }
    out
}

fn totals(out: &mut String, totals: &RunTotals) {
    let not_contacted = totals.considered - totals.contacted;
    let _ = writeln!(
        out,
        "  considered {} = contacted {} + not contacted {not_contacted}",
        totals.considered, totals.contacted
    );
    for (code, count) in &totals.reasons {
        let meaning = ReasonCode::parse(code).map_or("", ReasonCode::meaning);
        let _ = writeln!(out, "    {count:>7}  {code:<26} {meaning}");
    }
    let overdue = &totals.overdue;
    let _ = writeln!(
        out,
        "  overdue    {} of {}: {}; undisputed {}: {}",
        counted(overdue.items, "item"),
        counted(overdue.accounts, "account"),
        overdue.amounts,
        counted(totals.undisputed.items, "item"),
        totals.undisputed.amounts
    );
    for (bucket, sum) in &totals.by_outcome {
        let _ = writeln!(out, "    {:>7}  {bucket:<26} {}", sum.items, sum.amounts);
    }
}

fn notes(out: &mut String, run: &RunReport) {
    if let Some(released) = &run.released {
        leaving(out, run, released);
    }
    if run.tasks > 0 {
        let _ = writeln!(out, "  to people  {}; see `dunningd task list`", counted(run.tasks, "task"));
    }
    for (account, error) in &run.failures {
        let _ = writeln!(out, "  warning    account {account} could not be recorded: {error}");
    }
    for id in &run.unreadable {
        let _ = writeln!(
            out,
            "  warning    account {id} was not looked at: an id has 1 to 200 printable characters; mend it in the ledger"
        );
    }
}

/// How the notices left the run, and what to do about those that did not.
fn leaving(out: &mut String, run: &RunReport, released: &Released) {
    if released.queued > 0 {
        let _ = writeln!(out, "  queued     {}", counted(released.queued, "notice"));
    }
    if released.awaiting > 0 {
        let _ = writeln!(
            out,
            "  waiting    {} for a person: `dunningd outbox list`, then `outbox approve` or `outbox drop`",
            counted(released.awaiting, "notice")
        );
    }
    if released.not_allowed > 0 {
        let _ = writeln!(
            out,
            "  cancelled  {}: this installation may not write to these domains; see `allow_domains` and \
             `redirect_to` in [mail] of dunningd.toml",
            counted(released.not_allowed, "notice")
        );
    }
    if released.cancelled > 0 {
        let why = match released.state {
            ReleaseState::Shadow => CancelReason::Shadow,
            _ => CancelReason::Ramped,
        };
        let _ = writeln!(out, "  not sent   {}: {}", counted(released.cancelled, "notice"), why.meaning());
    }
    for braked in &released.braked {
        let _ = writeln!(out, "  BRAKED     {}: {}", braked.brake.as_str(), braked.why);
    }
    if released.state == ReleaseState::Held
        && let Some(id) = run.run
    {
        let _ =
            writeln!(out, "  HELD       look at it, then `dunningd outbox approve --run {id} --reason …`, or drop it:");
        let _ = writeln!(out, "             `dunningd outbox drop --run {id} --reason …`");
    }
}
