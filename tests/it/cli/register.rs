//! What people record: holds, the pause, and what the log shows of it.

use crate::support::command::Program;
use crate::support::shell::Office;

async fn office() -> (Office, Program) {
    let office = Office::new().await;
    office.accounts(2).await;
    let program = Program::new(&office.database, office.smtp.address.port()).await;
    (office, program)
}

const SCAN: [&str; 4] = ["scan", "--as-of", "2026-03-10", "--why"];

/// What a scan says first about that account.
async fn verdict(program: &Program, account: &str) -> String {
    let said = program.run(&[&SCAN[..], &["--dry-run", "--account", account]].concat()).await.done();
    said.lines().next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_hold_is_placed_shown_and_released() {
    let (_office, program) = office().await;
    assert_eq!(verdict(&program, "A01").await, "A01 contact friendly in it: I01");
    let said = program.run(&["hold", "A01", "--reason", "complaint 17", "--by", "Carla"]).await.done();
    assert_eq!(said, "Account A01 is on hold until it is released.\n");
    assert_eq!(verdict(&program, "A01").await, "A01 hold account_hold: held until it is released: complaint 17");
    let said =
        program.run(&["hold", "A02", "--item", "I02", "--until", "2999-12-31", "--reason", "query"]).await.done();
    assert_eq!(said, "Item I02 of account A02 is on hold up to and including 2999-12-31.\n");
    assert_eq!(
        verdict(&program, "A02").await,
        "A02 skip all_items_out: item I02: item_hold (up to and including 2999-12-31: query); next date 3000-01-01"
    );

    let said = program.run(&["release", "A01", "--reason", "settled"]).await.done();
    assert_eq!(said, "1 hold released.\n");
    assert_eq!(verdict(&program, "A01").await, "A01 contact friendly in it: I01");
    let said = program.run(&["release", "A01", "--reason", "settled"]).await.failed(4);
    assert_eq!(said, "dunningd: there is no hold to release on account A01\n");
    program.run(&["release", "A02", "--item", "I02", "--reason", "answered"]).await.done();
    assert_eq!(verdict(&program, "A02").await, "A02 contact friendly in it: I02");

    let log = program.run(&["log", "show", "--account", "A01"]).await.done();
    let mut lines = log.lines();
    let first = lines.next().unwrap();
    assert!(
        first.contains("hold_placed") && first.contains("by Carla (") && first.contains(", dunningd_app)"),
        "{first}"
    );
    assert!(first.ends_with("hold=1 reason=complaint 17"), "{first}");
    assert!(lines.next().unwrap().contains("hold_released"));
    assert_eq!(lines.next(), None);
    program.run(&["log", "verify"]).await.done();
}

#[tokio::test]
async fn a_hold_on_what_is_not_there_is_4_and_one_that_is_over_is_2() {
    let (office, program) = office().await;
    let unknown = program.run(&["hold", "Z9", "--reason", "x"]).await.failed(4);
    assert_eq!(unknown, "dunningd: the ledger has no account Z9\n");
    let unknown = program.run(&["hold", "A01", "--item", "I02", "--reason", "x"]).await.failed(4);
    assert_eq!(unknown, "dunningd: account A01 has no item I02\n");
    let over = program.run(&["hold", "A01", "--until", "2020-01-01", "--reason", "x"]).await.failed(2);
    assert!(over.starts_with("dunningd: --until lies before today, "), "{over}");
    let unknown = program.run(&["release", "Z9", "--reason", "x"]).await.failed(4);
    assert_eq!(unknown, "dunningd: the ledger has no account Z9\n");
    assert_eq!(office.count("dunning.event").await + office.count("dunning.hold").await, 0);
}

#[tokio::test]
async fn a_pause_stops_everything_and_a_resume_lets_it_go_on() {
    let (office, program) = office().await;
    let paused = program.run(&["pause", "--reason", "bank change", "--by", "Carla"]).await.done();
    assert_eq!(paused, "Everything is paused. Nothing is sent until `dunningd resume`.\n");
    let again = program.run(&["pause", "--reason", "again"]).await.done();
    assert_eq!(again, "Everything was paused already.\n");
    let status = program.run(&["status"]).await.done();
    let first = status.lines().next().unwrap();
    assert!(first.starts_with("PAUSED by Carla since ") && first.ends_with(" UTC: bank change"), "{first}");
    assert_eq!(verdict(&program, "A01").await, "A01 hold paused: bank change");
    let said = program.run(&["scan", "--as-of", "2026-03-10", "--deliver"]).await.done();
    assert!(said.contains("contacted 0"), "{said}");
    assert_eq!(program.run(&["resume", "--reason", "done"]).await.done(), "Everything goes on.\n");
    assert_eq!(program.run(&["resume", "--reason", "done"]).await.done(), "Nothing was paused or stopped.\n");
    let said = program.run(&["scan", "--as-of", "2026-03-10", "--deliver"]).await.done();
    assert!(said.contains("delivery: 2 accepted by the relay"), "{said}");
    assert_eq!(office.smtp.messages().len(), 2);
}

#[tokio::test]
async fn the_status_tells_runs_queue_tasks_and_the_head_of_the_log() {
    let (office, program) = office().await;
    let status = program.run(&["status"]).await.done();
    assert_eq!(
        status,
        format!(
            "not paused\nmode live: What the brakes let through goes out by itself.\n\
             creditor tre_aquiloni: no run yet\ncreditor trzy_latawce: no run yet\nnotices: none\n\
             promises: 0 running\nopen tasks: none\nlog: 0 events, head {}\n",
            "0".repeat(64)
        )
    );
    office.sql("UPDATE ledger.contact SET email = 'x' WHERE account_id = 'A02'").await;
    program.run(&["scan", "--as-of", "2026-03-10"]).await.done();
    let status = program.run(&["status"]).await.done();
    assert_eq!(
        program.settled(&status),
        "not paused\n\
         mode live: What the brakes let through goes out by itself.\n\
         creditor tre_aquiloni: no run yet\n\
         creditor trzy_latawce: no run yet\n\
         notices: 1 queued\n\
         promises: 0 running\n\
         open tasks: 1 find_address\n\
         log: 8 events, head [HASH]\n"
    );
    let json = program.run(&["status", "--json"]).await.done();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["notices"]["queued"], 1);
}

#[tokio::test]
async fn the_log_is_shown_in_parts() {
    let (_office, program) = office().await;
    program.run(&["scan", "--as-of", "2026-03-10", "--creditor", "tre_aquiloni", "--deliver"]).await.done();
    let all = program.run(&["log", "show"]).await.done();
    let kinds: Vec<&str> = all.lines().map(|line| line.split_whitespace().nth(2).unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "run_started",
            "case_opened",
            "notice_planned",
            "case_opened",
            "notice_planned",
            "run_completed",
            "notice_accepted",
            "notice_accepted"
        ]
    );
    let some = program.run(&["log", "show", "--after", "2", "--limit", "2"]).await.done();
    assert_eq!(some.lines().collect::<Vec<_>>(), all.lines().skip(2).take(2).collect::<Vec<_>>());
    let json = program.run(&["log", "show", "--account", "A02", "--json"]).await.done();
    for line in json.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["event"]["account"], "A02");
    }
    assert_eq!(json.lines().count(), 3);
}
