//! `simulate`: what a policy would have done to the past, and how another one differs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use indicatif::{ProgressBar, ProgressStyle};

use crate::daemon::{self, SimulatedContact, SimulationReport, SimulationRequest, SimulationTotals};
use crate::model::{CreditorId, ReasonCode, StageName};

use super::args::{Cli, SimulateArgs, SimulateBy};
use super::connect;
use super::failure::{Exit, Failure};
use super::output::{say, say_part};
use super::scan::parsed;

/// What a simulation leaves out; said with every result.
const LEFT_OUT: &str = "each notice is taken as accepted on its day; it begins without earlier notices, and caps over \
several accounts on one mailbox and what people recorded here (holds, waivers, pauses) are left out";

pub(super) async fn simulate(cli: &Cli, args: &SimulateArgs) -> Result<Exit, Failure> {
    if args.from > args.to {
        return Err(Failure::new(Exit::USAGE, format!("--from {} is after --to {}", args.from, args.to)));
    }
    let request = SimulationRequest {
        creditor: parsed(args.creditor.as_deref(), CreditorId::parse)?,
        from: args.from,
        to: args.to,
        paid_within_days: args.paid_within,
    };
    let shell = connect::shell(cli, None).await?;
    let base = connect::load_with_policy(cli, args.policy.as_deref())?;
    let other = args.compare.as_deref().map(|file| connect::load_with_policy(cli, Some(file))).transpose()?;
    // Drawn on a terminal only.
    let bar = ProgressBar::new(daemon::accounts_to_simulate(&shell, &request).await?).with_style(
        ProgressStyle::with_template("{wide_bar} {pos}/{len} accounts")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let other = other.as_ref().map(|live| &live.config.policy);
    let report = daemon::simulate(&shell, &base.config.policy, other, &request, &mut || bar.inc(1)).await;
    bar.finish_and_clear();
    let report = report?;
    if cli.json {
        let mut value = serde_json::to_value(&report).unwrap_or_default();
        value["left_out"] = LEFT_OUT.into();
        say!("{value}");
    } else if args.csv {
        say_part!("{}", csv(&report, args.by));
    } else {
        say_part!("{}", human(&report, args.by));
    }
    let kept = report.base.keeps_its_word() && report.other.as_ref().is_none_or(SimulationTotals::keeps_its_word);
    Ok(if kept { Exit::DONE } else { Exit::FINDINGS })
}

/// Days or months, each with its contacts per stage.
fn rows(totals: &SimulationTotals, by: SimulateBy) -> Vec<(String, &BTreeMap<StageName, u64>)> {
    match by {
        SimulateBy::Month => totals.by_month.iter().map(|(month, stages)| (month.clone(), stages)).collect(),
        SimulateBy::Day => totals.by_day.iter().map(|(day, stages)| (day.to_string(), stages)).collect(),
    }
}

fn noun(by: SimulateBy) -> &'static str {
    match by {
        SimulateBy::Month => "month",
        SimulateBy::Day => "day",
    }
}

fn csv(report: &SimulationReport, by: SimulateBy) -> String {
    let mut out = format!("policy,{},stage,contacts\n", noun(by));
    let policies = [("base", Some(&report.base)), ("compare", report.other.as_ref())];
    for (name, totals) in policies.into_iter().filter_map(|(name, totals)| Some((name, totals?))) {
        for (row, counts) in rows(totals, by) {
            for (stage, count) in totals.stages.iter().filter_map(|stage| Some((stage, counts.get(stage)?))) {
                let _ = writeln!(out, "{name},{row},{stage},{count}");
            }
        }
    }
    out
}

fn human(report: &SimulationReport, by: SimulateBy) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "simulated {} to {}: {LEFT_OUT}", report.from, report.to);
    let _ = writeln!(out, "nothing was written\n");
    let Some(other) = &report.other else {
        table(&mut out, &report.base, by);
        facts(&mut out, &report.base, report.paid_within_days);
        return out;
    };
    for (name, totals) in [("policy", &report.base), ("compared with", other)] {
        let _ = writeln!(out, "{name}");
        table(&mut out, totals, by);
        facts(&mut out, totals, report.paid_within_days);
        let _ = writeln!(out);
    }
    let more = i128::from(other.contacts) - i128::from(report.base.contacts);
    let _ = writeln!(out, "contacts {more:+}, {} accounts differ", report.accounts_differ);
    for one in &report.differences {
        let _ = writeln!(out, "  {:<24} {} | {}", one.account, line(&one.base), line(&one.other));
    }
    let unnamed = report.accounts_differ - report.differences.len() as u64;
    if unnamed > 0 {
        let _ = writeln!(out, "  and {unnamed} more");
    }
    out
}

fn line(contacts: &[SimulatedContact]) -> String {
    if contacts.is_empty() {
        return "none".to_owned();
    }
    contacts.iter().map(|one| format!("{} {}", one.on, one.stage)).collect::<Vec<_>>().join(", ")
}

fn table(out: &mut String, totals: &SimulationTotals, by: SimulateBy) {
    let _ = write!(out, "  {:<10}", noun(by));
    for stage in &totals.stages {
        let _ = write!(out, " {:>10}", stage.as_str());
    }
    let _ = writeln!(out, " {:>10}", "all");
    for (row, counts) in rows(totals, by) {
        let _ = write!(out, "  {row:<10}");
        for stage in &totals.stages {
            let _ = write!(out, " {:>10}", counts.get(stage).copied().unwrap_or_default());
        }
        let _ = writeln!(out, " {:>10}", counts.values().sum::<u64>());
    }
    let _ = write!(out, "  {:<10}", "all");
    for stage in &totals.stages {
        let _ = write!(out, " {:>10}", totals.by_day.values().filter_map(|counts| counts.get(stage)).sum::<u64>());
    }
    let _ = writeln!(out, " {:>10}", totals.contacts);
}

fn facts(out: &mut String, totals: &SimulationTotals, paid_within_days: u32) {
    let days = |days: Option<i64>| days.map_or("none".to_owned(), |days| days.to_string());
    let paid_anyway = format!("of them a demanded item was paid within {paid_within_days} days anyway");
    for (value, what) in [
        (totals.accounts.to_string(), "accounts"),
        (totals.contacted_accounts.to_string(), "accounts contacted"),
        (totals.contacts.to_string(), "contacts"),
        (totals.paid_anyway.to_string(), paid_anyway.as_str()),
        (days(totals.median_days_past_due), "days past due at the first contact of a case, median"),
        (days(totals.p90_days_past_due), "days past due at the first contact of a case, nine of ten at most"),
        (totals.after_settlement.to_string(), "settled items demanded (must be 0)"),
        (totals.disputed_demanded.to_string(), "disputed items demanded (must be 0)"),
        (totals.doubled.to_string(), "items demanded twice for one stage (must be 0)"),
    ] {
        let _ = writeln!(out, "  {value:>10}  {what}");
    }
    let _ = writeln!(out, "  days without a contact, and the accounts that had them, per reason");
    for (code, counted) in &totals.reasons {
        let meaning = ReasonCode::parse(code).map_or("", ReasonCode::meaning);
        let _ = writeln!(out, "  {:>10} {:>6}  {code:<26} {meaning}", counted.days, counted.accounts);
    }
}
