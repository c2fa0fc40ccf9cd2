//! Tasks of people: what is to be done, and what became of it.

use dunningd::deliver::{Ending, Journal};
use dunningd::model::{self, Outcome};

use crate::support::command::Program;
use crate::support::shell::{Office, Setup, day_plus};
use crate::support::smtp::{Phase, Reply};

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
    let amount = "\nAmount   280.50 EUR today; 1280.50 EUR when the words below were written\n";
    assert!(warned.contains(amount), "{warned}");
    let list = program.run(&["task", "list"]).await.done();
    assert!(list.ends_with("; the ledger or the register changed since, see `dunningd task show`\n"), "{list}");

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
    assert_eq!(
        said,
        "Task 1 is done; stage friendly is complete as of 2026-03-11.\nThe promise itself is not recorded yet: `dunningd \
         promise B1 --amount … --currency … --by-day … --reason …`.\n"
    );
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

/// One letter that the relay took without an answer, the office that sent it, and its notice.
async fn unanswered() -> (Office, Program, String) {
    let office = Office::with(Setup::default().with("MAIL__CONNECTIONS", "1")).await;
    office.accounts(1).await;
    office.scan().await;
    office.smtp.once(Phase::Dot, Reply::close());
    assert_eq!(office.deliver().await.unknown, 1);
    let program = Program::new(&office.database, office.smtp.address.port()).await;
    let notice = office.lines("SELECT notice_id::text FROM dunning.notice").await.remove(0);
    (office, program, notice)
}

/// With names in the place of ids, times and paths.
async fn named(office: &Office, program: &Program, text: &str) -> String {
    let mut text = text.replace(program.path("").to_str().unwrap().trim_end_matches('/'), "[FOLDER]");
    let ids = "SELECT unnest(ARRAY[notice_id::text, trim('<>' FROM message_id)]) FROM dunning.notice";
    for (id, name) in office.lines(ids).await.into_iter().zip(["[NOTICE]", "[MESSAGE-ID]"]) {
        text = text.replace(&id, name);
    }
    let times = office
        .lines(
            "SELECT to_char(t AT TIME ZONE 'UTC', f) FROM dunning.notice n JOIN dunning.attempt a USING (notice_id)
             CROSS JOIN LATERAL (VALUES (a.started_at, 'YYYY-MM-DD HH24:MI:SS'), (a.started_at, 'YYYY-MM-DD HH24:MI'),
                 (n.changed_at + interval '24 hours', 'YYYY-MM-DD HH24:MI')) AS v (t, f)",
        )
        .await;
    for (time, name) in times.into_iter().zip(["[TRIED]", "[TRIED]", "[AGAIN]"]) {
        text = text.replace(&time, name);
    }
    text.replace("after 1 s", "after 0 s")
}

#[tokio::test]
async fn a_task_about_an_unknown_shows_all_that_is_known_of_it_and_is_closed_by_its_resolution() {
    let (mut office, program, notice) = unanswered().await;
    office.go_to(day_plus(1)).await;
    office.scan().await;
    let list = program.run(&["task", "list", "--kind", "resolve_notice"]).await.done();
    let list = named(&office, &program, &list).await;
    assert!(
        list.ends_with(
            "resolve_notice   A01                      the friendly notice is unknown and unresolved ([NOTICE]); no answer at \
             dot, [TRIED] UTC\n"
        ),
        "{list}"
    );
    let bare = program.run(&["task", "show", "1", "--as-of", "2026-03-11"]).await.done();
    shows("task_show_unknown", &named(&office, &program, &bare).await);

    // What the relay and this machine know.
    let id = office.lines("SELECT trim('<>' FROM message_id) FROM dunning.notice").await.remove(0);
    let log = program.write(
        "mail.log",
        &format!(
            "Mar 10 09:00:00 mx postfix/smtpd[7]: 4F2A1: client=localhost\n\
             Mar 10 09:00:00 mx postfix/cleanup[8]: 4F2A1: message-id=<{id}>\n\
             Mar 10 09:00:00 mx postfix/cleanup[8]: 5B3C2: message-id=<another@test>\n\
             Mar 10 09:00:01 mx postfix/smtp[9]: 4F2A1: to=<conti@a01.test>, status=sent (250 2.0.0 Ok)\n"
        ),
    );
    let program = program.with("MAIL__RELAY_LOG", &log);
    let (attempt, at) =
        (office.lines("SELECT attempt_id::text FROM dunning.attempt").await.remove(0), "2026-03-10T09:00:01Z");
    let journal = Journal::open(&program.path("state")).unwrap();
    let reply = model::Reply { code: 250, text: "2.0.0 Ok: queued as 4F2A1".into() };
    let (notice_id, token) = (notice.parse().unwrap(), office.shell.clock.new_id());
    let (attempt, at, outcome) = (attempt.parse().unwrap(), at.parse().unwrap(), Outcome::Accepted { reply });
    journal.note(Ending { attempt, notice: notice_id, token, at, outcome }).unwrap();
    drop(journal);
    let shown = program.run(&["outbox", "show", &notice]).await.done();
    let known = shown.split_once("  1. ").unwrap().1;
    shows("outbox_show_unknown", &named(&office, &program, &format!("  1. {known}")).await);
    let json: serde_json::Value =
        serde_json::from_str(&program.run(&["task", "show", "1", "--json"]).await.done()).unwrap();
    assert_eq!(json["evidence"]["relay_log"]["lines"].as_array().unwrap().len(), 2);
    assert_eq!(
        json["evidence"]["journal"]["lines"][0],
        "2026-03-10 09:00:01 UTC accepted: 250 2.0.0 Ok: queued as 4F2A1"
    );
    assert_eq!(json["evidence"]["state"], "unknown");

    // A log that nobody can read is no reason to fail.
    let program = program.with("MAIL__RELAY_LOG", "/nowhere/mail.log");
    let shown = program.run(&["outbox", "show", &notice]).await.done();
    assert!(
        shown.contains("the relay's log (/nowhere/mail.log) cannot be read: No such file or directory (os error 2)\n"),
        "{shown}"
    );

    program
        .run(&["outbox", "resolve", &notice, "--accepted", "--reason", "status=sent in the relay's log"])
        .await
        .done();
    assert_eq!(program.run(&["task", "list"]).await.done(), "Nothing waits for a person.\n");
    let closed = program.run(&["task", "show", "1", "--as-of", "2026-03-11"]).await.done();
    assert!(closed.starts_with("Task 1 (resolve_notice), closed,") && !closed.contains("outbox resolve"), "{closed}");
    assert_eq!(office.notices().await, ["A01 friendly accepted resolved"]);
    assert_eq!(
        office.lines("SELECT kind FROM dunning.event ORDER BY seq DESC LIMIT 1").await,
        ["notice_resolved_accepted"]
    );
    office.verified().await;
}
