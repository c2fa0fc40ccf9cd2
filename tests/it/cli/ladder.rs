//! `ladder`: an open case moves to another ladder; `simulate`: what is printed.

use crate::support::command::Program;
use crate::support::shell::{Office, Setup, day_plus};

use super::shows;

const GENTLE: (&str, &str) = (
    "# No reaction: still polite, more definite.",
    "[[ladder.gentle.stage]]\nname = \"friendly\"\ndays = 10\n\n[[ladder.gentle.stage]]\nname = \"final\"\ndays = 40\n\n\
     # No reaction: still polite, more definite.",
);

#[tokio::test]
async fn an_open_case_moves_to_another_ladder_and_says_first_what_changes() {
    let mut office = Office::with(Setup::default().policy(GENTLE.0, GENTLE.1)).await;
    office.account("A1", "it", "conti@a1.test").await;
    office.invoice("I1", "A1", 6, "100.00 EUR").await;
    let creditor = "UPDATE ledger.item SET due_date = current_date - 6, issue_date = current_date - 36;
                    UPDATE ledger.freshness SET invoices_as_of = now(), payments_as_of = now()";
    office.sql(creditor).await;
    // The program lives on the machine's day.
    let today: String = office.lines("SELECT current_date::text").await.remove(0);
    let program = Program::new(&office.database, office.smtp.address.port()).await;
    program.replace("policy.toml", GENTLE.0, GENTLE.1);
    let ladder = |to: &'static str, more: &'static [&'static str]| {
        [&["ladder", "A1", "--to", to, "--reason", "long-standing customer", "--by", "Carla"], more].concat()
    };
    assert_eq!(
        program.run(&ladder("gentle", &[])).await.failed(4),
        "dunningd: account A1 has no open case, so it climbs no ladder; its next case takes the one that the ledger names\n"
    );
    office.shell.clock = dunningd::clock::Clock::fixed_on(today.parse().unwrap(), chrono_tz::Europe::Rome);
    office.scan().await;

    let said = program.run(&ladder("gentle", &["--dry-run"])).await.done();
    assert!(said.ends_with("Nothing was changed.\n"), "{said}");
    assert!(!office.events().await.contains(&"case_moved".to_owned()));
    let told = program.run(&ladder("gentle", &[])).await.done();
    let due = |days: i64| (today.parse::<chrono::NaiveDate>().unwrap() + chrono::Duration::days(days)).to_string();
    let settled = told.replace(&due(-1), "[T-1]").replace(&due(4), "[T+4]").replace(&today, "[T]");
    // Whether today is a sending day decides whether a notice is on its way.
    let settled: Vec<&str> = settled.lines().filter(|line| !line.contains("today:") && !line.contains("way")).collect();
    shows("ladder", &settled.join("\n"));
    let event = "SELECT convert_from(bytes, 'UTF8')::jsonb -> 'event' ->> 'person' FROM dunning.event WHERE kind = 'case_moved'";
    assert_eq!(office.lines(event).await, ["Carla"]);
    assert_eq!(
        program.run(&ladder("gentle", &[])).await.failed(5),
        "dunningd: account A1 climbs ladder gentle already, with the stages of today's policy\n"
    );
    assert_eq!(
        program.run(&ladder("harsh", &[])).await.failed(4),
        "dunningd: the policy has no ladder harsh; it has default, gentle\n"
    );
    office.verified().await;
}

#[tokio::test]
async fn a_simulation_is_printed_for_people_for_tables_and_for_machines() {
    let office = Office::new().await;
    office.accounts(2).await;
    office.invoice("I9", "A01", -20, "70.00 EUR").await;
    let program = Program::new(&office.database, office.smtp.address.port()).await;
    let patient = std::fs::read_to_string(program.config().join("policy.toml")).unwrap();
    let patient = program.write("patient.toml", &patient.replace("days = 5\n", "days = 12\n"));
    let to = day_plus(60).to_string();
    let simulate = |more: &[&str]| {
        let arguments = [&["simulate", "--from", "2026-03-10", "--to", &to], more].concat();
        arguments.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let run = async |more: &[&str]| {
        let arguments = simulate(more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        program.run(&arguments).await.done()
    };
    shows("simulate", &run(&[]).await);
    shows("simulate_by_day", &run(&["--csv", "--by", "day"]).await);
    shows("simulate_compare", &run(&["--compare", &patient]).await);
    let json: serde_json::Value = serde_json::from_str(&run(&["--json", "--compare", &patient]).await).unwrap();
    assert_eq!(json["base"]["stages"], serde_json::json!(["friendly", "firm", "final", "formal", "handover"]));
    assert_eq!(json["accounts_differ"], 2);
    assert_eq!(json["base"]["reasons"]["ladder_exhausted"]["accounts"], 1);
}
