//! `explain`: a colleague's answer about each account, now and as a run recorded it.

use dunningd::demo;

use crate::support::command::Program;
use crate::support::shell::{Office, day_plus};

use super::shows;

/// The made-up ledger of the demonstration, on its day.
async fn demonstration() -> (Office, Program) {
    let office = Office::new().await;
    let program = Program::new(&office.database, office.smtp.address.port()).await;
    let ledger = program.write("ledger.csv", demo::LEDGER);
    let arguments = ["import", "csv", "--profile", "generic", "--payments-as-of", "2026-03-09", &ledger];
    program.run(&arguments).await.done();
    (office, program)
}

#[tokio::test]
async fn accounts_of_every_kind_are_explained() {
    let (_office, program) = demonstration().await;
    for account in ["IT002", "IT007", "IT009", "IT010", "IT011", "EN005", "EN006", "EN008", "PL011", "PL007"] {
        let said = program.run(&["explain", account, "--as-of", "2026-03-10"]).await.done();
        shows(&format!("explain_{account}"), &program.settled(&said));
    }
    let said = program.run(&["scan", "--dry-run", "--why", "--as-of", "2026-03-10"]).await.done();
    shows("scan_why_demo", &said);
}

#[tokio::test]
async fn what_a_run_concluded_is_told_from_its_own_record() {
    let mut office = Office::new().await;
    office.account("A1", "it", "conti@a1.test").await;
    office.invoice("I1", "A1", 2, "100.00 EUR").await;
    let first = office.scan().await.run.unwrap();
    office.go_to(day_plus(1)).await;
    let second = office.scan().await.run.unwrap();
    let program = Program::new(&office.database, office.smtp.address.port()).await;
    // What the account owes today must not show in what was concluded then.
    office.sql("UPDATE ledger.item SET open_amount = 60 WHERE item_id = 'I1'").await;

    let of = async |run: &str| program.run(&["explain", "A1", "--run", run]).await;
    let told = of(&first.to_string()).await.done();
    shows("explain_run", &program.settled(&told));
    let same = of(&second.to_string()).await.done();
    let begins = format!(
        "Run {second} of creditor tre_aquiloni for 2026-03-11 left no row for this account: it concluded the same as the \
         one before, or did not look at it. Recorded by run {first} on 2026-03-10:\n"
    );
    assert!(same.starts_with(&begins), "{same}");
    assert_eq!(same.split_once('\n').unwrap().1, told.split_once('\n').unwrap().1);

    // It left the ledger: what was concluded is told all the same.
    office.sql("DELETE FROM ledger.item; DELETE FROM ledger.contact; DELETE FROM ledger.account").await;
    let gone = of(&first.to_string()).await.done();
    assert!(gone.contains("Account A1 (no longer in the ledger)"), "{gone}");
    let json = program.run(&["explain", "A1", "--run", &first.to_string(), "--json"]).await.done();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["recorded"]["decision"]["remedies"][0]["code"], "before_first_stage");
    let nobody = "00000000-0000-7000-8000-000000000001";
    assert_eq!(of(nobody).await.failed(4), format!("dunningd: there is no run {nobody}\n"));
}
