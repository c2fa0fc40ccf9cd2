//! A policy tried on the past: exact tables, and nothing written.

use dunningd::daemon::{self, ScanRequest, SimulationReport, SimulationRequest};
use dunningd::model::{CreditorId, Policy};

use crate::support::shell::{CREDITOR, Office, Setup, day, day_plus};

fn request(days: u64) -> SimulationRequest {
    SimulationRequest {
        creditor: Some(CreditorId::parse(CREDITOR).unwrap()),
        from: day(),
        to: day_plus(days),
        paid_within_days: 7,
    }
}

async fn simulate(office: &Office, other: Option<&Policy>, days: u64) -> SimulationReport {
    let live = office.shell.live();
    daemon::simulate(&office.shell, &live.config.policy, other, &request(days), &mut || {}).await.unwrap()
}

/// One account that pays late, one in parts, one that disputes, one that never pays, one that owes nothing.
async fn ledger(office: &Office) {
    for id in ["A1", "A2", "A3", "A4", "A5"] {
        office.account(id, "it", &format!("conti@{}.test", id.to_lowercase())).await;
    }
    office.invoice("I1", "A1", -5, "100.00 EUR").await;
    office.invoice("I2", "A2", 6, "100.00 EUR").await;
    office.invoice("I3", "A3", 6, "100.00 EUR").await;
    office.invoice("I4", "A4", -5, "100.00 EUR").await;
    office
        .sql(
            "UPDATE ledger.item SET open_amount = 0, settled_on = '2026-03-27' WHERE item_id = 'I1';
             UPDATE ledger.item SET open_amount = 0, settled_on = '2026-03-20' WHERE item_id = 'I2';
             UPDATE ledger.item SET disputed_since = '2026-03-12' WHERE item_id = 'I3';
             INSERT INTO ledger.settlement VALUES ('I2', '2026-03-09', 30), ('I2', '2026-03-20', 70)",
        )
        .await;
}

fn table(report: &SimulationReport) -> Vec<String> {
    let months = report.base.by_month.iter();
    months.flat_map(|(m, stages)| stages.iter().map(move |(stage, count)| format!("{m} {stage} {count}"))).collect()
}

#[tokio::test]
async fn the_past_is_replayed_with_every_notice_accepted() {
    let mut office = Office::new().await;
    ledger(&office).await;
    office.go_to(day_plus(180)).await;
    let report = simulate(&office, None, 60).await;
    assert_eq!(table(&report), ["2026-03 firm 2", "2026-03 friendly 4", "2026-04 final 1"], "{:?}", report.base);
    let stages: Vec<&str> = report.base.stages.iter().map(dunningd::model::StageName::as_str).collect();
    assert_eq!(stages, ["friendly", "firm", "final", "formal", "handover"], "as they are climbed");
    let base = &report.base;
    assert_eq!(base.by_day.values().flat_map(|stages| stages.values()).sum::<u64>(), base.contacts);
    assert_eq!((base.accounts, base.contacted_accounts, base.contacts), (5, 4, 7));
    assert_eq!((base.after_settlement, base.disputed_demanded, base.doubled), (0, 0, 0));
}

#[tokio::test]
async fn a_simulated_day_is_what_a_scan_as_of_that_day_decides() {
    let mut office = Office::new().await;
    ledger(&office).await;
    office.go_to(day_plus(180)).await;
    for n in 0..=40 {
        let request = ScanRequest { as_of: Some(day_plus(n)), ..Office::request() };
        office.scan_as(&request).await.unwrap();
        office.deliver().await;
    }
    let notices = "SELECT concat_ws(' ', business_date, stage) FROM dunning.notice ORDER BY business_date, stage";
    let scanned = office.lines(notices).await;
    let live = office.shell.live();
    let mut policy = live.config.policy.clone();
    // Nothing is ever late enough: every contact becomes a difference, and so is listed.
    policy.account_min_arrears_days = 10_000;
    let report = simulate(&office, Some(&policy), 40).await;
    let contacts = report.differences.iter().flat_map(|one| &one.base);
    let mut simulated: Vec<String> = contacts.map(|one| format!("{} {}", one.on, one.stage)).collect();
    simulated.sort();
    assert_eq!(simulated, scanned);
}

#[tokio::test]
async fn two_policies_differ_in_the_accounts_that_they_treat_differently() {
    let office = Office::new().await;
    ledger(&office).await;
    let patient = Office::with(Setup::default().policy("item_grace_days = 0", "item_grace_days = 12")).await;
    let live = patient.shell.live();
    let same = simulate(&office, Some(&office.shell.live().config.policy), 60).await;
    assert_eq!((same.accounts_differ, same.differences.len()), (0, 0));
    assert_eq!(same.other, Some(same.base));
    let report = simulate(&office, Some(&live.config.policy), 60).await;
    let names: Vec<&str> = report.differences.iter().map(|one| one.account.as_str()).collect();
    assert_eq!(names, ["A1", "A2", "A3", "A4"]);
    assert_eq!(report.accounts_differ, 4);
}

#[tokio::test]
async fn a_simulation_needs_no_right_to_write() {
    let mut office = Office::new().await;
    ledger(&office).await;
    let expected = simulate(&office, None, 60).await;
    let name = office.database.name.clone();
    office.sql(format!("ALTER DATABASE {name} SET default_transaction_read_only = on")).await;
    office.shell = office.second_shell().await;
    assert!(office.scan_as(&Office::request()).await.is_err(), "a scan writes, and cannot");
    assert_eq!(simulate(&office, None, 60).await, expected);
    assert_eq!(office.count("dunning.run").await + office.count("dunning.notice").await, 0);
    assert_eq!(office.count("dunning.decision").await + office.count("dunning.event").await, 0);
}
