//! Tasks of people: what is to be done, and what became of it.

use crate::support::command::Program;
use crate::support::shell::Office;

use super::shows;

const AS_OF: [&str; 2] = ["--as-of", "2026-03-10"];

/// One account to be called about two invoices, the script frozen by a scan.
async fn calling() -> (Office, Program) {
    let office = Office::new().await;
    office.account("B1", "en", "accounts@b1.test").await;
    office.invoice("J1", "B1", 31, "1200.00 EUR").await;
    office.invoice("J2", "B1", 7, "80.50 EUR").await;
    office.sql("UPDATE ledger.contact SET phone = '+44 20 7946 0018'").await;
    let program = Program::new(&office.database, office.smtp.address.port()).await;
    let friendly = "name = \"friendly\"\ndays = 5\n";
    program.replace("policy.toml", friendly, &format!("{friendly}channels = [\"call\"]\ntemplate = \"call\"\n"));
    program.run(&[&["scan"], &AS_OF[..]].concat()).await.done();
    (office, program)
}

#[tokio::test]
async fn a_call_is_listed_shown_tried_and_done() {
    let (office, program) = calling().await;
    let list = program.run(&["task", "list", "--kind", "make_call", "--account", "B1"]).await.done();
    let words: Vec<&str> = list.split_whitespace().collect();
    assert_eq!(words[..2], ["1", "2026-03-10"]);
    assert_eq!(words[3..].join(" "), "make_call B1 stage friendly: call the debtor, by 2026-03-17 at the latest");
    let none = program.run(&["task", "list", "--kind", "post_letter"]).await.done();
    assert_eq!(none, "Nothing waits for a person.\n");
    let json: serde_json::Value = serde_json::from_str(&program.run(&["task", "list", "--json"]).await.done()).unwrap();
    assert_eq!(json[0]["kind"], "make_call");
    assert!(json[0]["open_days"].is_number());

    program.run(&["note", "B1", "asks for Mrs Grey", "--by", "Carla"]).await.done();
    let show = [&["task", "show", "1"], &AS_OF[..]].concat();
    let shown = program.run(&show).await.done();
    // The note was written down on the machine's own day.
    let noted = shown.lines().find(|line| line.ends_with("asks for Mrs Grey")).unwrap();
    shows("task_show", &shown.replace(noted, "  [DAY]  note, by Carla: asks for Mrs Grey"));

    let needs = program.run(&["task", "done", "1"]).await.failed(2);
    assert_eq!(needs, "dunningd: task 1 is a make_call: it needs --outcome, what came of the call\n");
    let tried = program.run(&["task", "done", "1", "--outcome", "no_answer", "--on", "2026-03-10"]).await.done();
    assert_eq!(tried, "Nobody answered, 1 of 3 times. Task 1 stays open.\n");
    let early = program.run(&["task", "done", "1", "--outcome", "promise", "--on", "2026-03-09"]).await.failed(2);
    assert!(
        early.starts_with("dunningd: --on: the day must lie between 2026-03-10, when the task was opened,"),
        "{early}"
    );

    office.sql("UPDATE ledger.item SET open_amount = 200 WHERE item_id = 'J1'").await;
    let warned = program.run(&show).await.done();
    assert!(warned.contains("WARNING  item J1: 1200.00 EUR was to pay, now it is 200.00 EUR\n"), "{warned}");

    let done = [
        "task",
        "done",
        "1",
        "--outcome",
        "promise",
        "--on",
        "2026-03-11",
        "--note",
        "pays on Friday",
        "--by",
        "Carla",
    ];
    let said = program.run(&done).await.done();
    assert_eq!(said, "Task 1 is done; stage friendly is complete as of 2026-03-11.\n");
    assert_eq!(program.run(&done).await.failed(5), "dunningd: task 1 is closed already\n");
    assert_eq!(program.run(&["task", "show", "9"]).await.failed(4), "dunningd: there is no task 9\n");
    program.run(&["log", "verify"]).await.done();
}

#[tokio::test]
async fn a_task_that_stands_for_no_notice_is_closed_with_a_reason_and_comes_back_with_its_cause() {
    let office = Office::new().await;
    office.account("B2", "it", "non ha posta").await;
    office.invoice("J4", "B2", 9, "310.00 EUR").await;
    let program = Program::new(&office.database, office.smtp.address.port()).await;
    let scan = [&["scan"], &AS_OF[..]].concat();
    program.run(&scan).await.done();
    assert_eq!(office.tasks().await, ["B2 find_address"]);
    let refused = program.run(&["task", "drop", "1", "--reason", "x"]).await.failed(2);
    assert!(refused.contains("close it with `dunningd task done`"), "{refused}");
    let said = program.run(&["task", "done", "1", "--reason", "asked the branch"]).await.done();
    assert_eq!(said, "Task 1 is closed. The next scan opens it again if its cause persists.\n");
    assert_eq!(office.tasks().await, [""; 0]);
    program.run(&scan).await.done();
    assert_eq!(office.tasks().await, ["B2 find_address"]);
    program.run(&["log", "verify"]).await.done();
}
