//! What people record: holds, the pause, and what the log shows of it.

use dunningd::model::AccountId;
use dunningd::record;

use crate::support::command::Program;
use crate::support::shell::{Office, day};

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
    let (office, program) = office().await;
    // Placed on the machine's own day, which lies after the one that the scans look at.
    let that_day = "UPDATE dunning.hold SET since = '2026-03-10'";
    assert_eq!(verdict(&program, "A01").await, "A01 contact friendly in it: I01");
    let said = program.run(&["hold", "A01", "--reason", "complaint 17", "--by", "Carla"]).await.done();
    assert_eq!(said, "Account A01 is on hold until it is released.\n");
    assert_eq!(verdict(&program, "A01").await, "A01 contact friendly in it: I01");
    office.sql(that_day).await;
    assert_eq!(verdict(&program, "A01").await, "A01 hold account_hold: held until it is released: complaint 17");
    let said =
        program.run(&["hold", "A02", "--item", "I02", "--until", "2199-12-31", "--reason", "query"]).await.done();
    assert_eq!(said, "Item I02 of account A02 is on hold up to and including 2199-12-31.\n");
    office.sql(that_day).await;
    assert_eq!(
        verdict(&program, "A02").await,
        "A02 skip all_items_out: item I02: item_hold (up to and including 2199-12-31: query); next date 2200-01-01"
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
    assert!(first.contains("  hold=1 reason=complaint 17 since=20"), "{first}");
    assert!(lines.next().unwrap().contains("hold_released"));
    assert_eq!(lines.next(), None);
}

#[tokio::test]
async fn words_that_are_too_long_or_that_a_terminal_would_obey_are_refused() {
    let (office, program) = office().await;
    let events = office.events().await;
    let long = |count: usize| "ż".repeat(count);
    let said = program.run(&["hold", "A01", "--reason", &long(2_001)]).await.failed(2);
    let (refusal, _) = said.split_once('\n').unwrap();
    assert_eq!(
        refusal,
        format!(
            "error: --reason <REASON>: {:?} is not a reason (one line of 1 to 2,000 characters, none of them unseen: no control characters, no marks of direction)",
            long(80)
        )
    );
    let (reason, name, note) = (long(2_001), long(201), long(20_001));
    let refused: [&[&str]; 12] = [
        &["release", "A01", "--reason", &reason],
        &["dispute", "A01", "--item", "I01", "--cause", "dispute", "--reason", "clears\u{1b}[2Jthe screen"],
        &["waive", "A01", "--item", "I01", "--stage", "friendly", "--reason", &reason],
        &["promise", "A01", "--amount", "1", "--currency", "EUR", "--by-day", "2199-01-01", "--reason", &reason],
        &["pause", "--reason", "two\nlines"],
        &["outbox", "drop", "--all", "--reason", &reason],
        &["task", "drop", "1", "--reason", &reason],
        &["task", "done", "1", "--outcome", "other", "--note", &note],
        &["note", "A01", &note],
        &["note", "A01", "bell\u{7}"],
        &["handover", "A01", "--to", &name, "--reason", "x"],
        &["hold", "A01", "--reason", "x", "--by", &name],
    ];
    for arguments in refused {
        let said = program.run(arguments).await.failed(2);
        assert!(said.contains("\" is not a "), "{arguments:.40?}: {said:.300}");
    }
    assert_eq!(office.events().await, events);
    let most = program.run(&["hold", "A01", "--reason", &long(2_000), "--by", &long(200)]).await;
    assert_eq!(most.done(), "Account A01 is on hold until it is released.\n");
    let most = program.run(&["note", "A01", &long(20_000)]).await;
    assert_eq!(most.done(), "Note 1 about account A01 is recorded.\n");
    program.run(&["note", "A01", "two\nlines"]).await.done();
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
async fn a_day_that_nobody_will_see_is_2_wherever_one_is_asked_for() {
    let program = Program::bare().await;
    let asked = |line: &'static str| line.split(' ').collect::<Vec<_>>();
    for line in [
        "hold A01 --reason x --until",
        "promise A01 --amount 1 --currency EUR --reason x --by-day",
        "plan A01 --currency EUR --parts 2 --every month --reason x --from",
        "scan --as-of",
        "explain A01 --as-of",
        "explain A01 --on",
        "simulate --to 2026-01-01 --from",
        "simulate --from 2026-01-01 --to",
        "preview --account A01 --as-of",
        "task show 1 --as-of",
        "task done 1 --on",
        "import csv x.csv --profile generic --payments-as-of",
    ] {
        for day in ["+262142-12-31", "2201-01-01", "1899-12-31", "31.12.2026"] {
            let said = program.run(&[asked(line), vec![day]].concat()).await.failed(2);
            let wanted = format!("{day:?} is not a day such as 2026-05-31, between 1900-01-01 and 2200-12-31");
            assert!(said.contains(&wanted), "{line}: {said}");
        }
    }
    let plan = ["plan", "A01", "--currency", "EUR", "--reason", "x", "--instalment", "+262142-12-31=1"];
    let said = program.run(&plan).await.failed(2);
    assert!(said.contains("\"+262142-12-31\" is not a day such as"), "{said}");
}

#[tokio::test]
async fn what_somebody_wrote_does_not_steer_the_terminal() {
    let (office, program) = office().await;
    let reason = "x\u{1b}]0;mine\u{7}\u{9b}2J\u{7f}\r\u{202e}y\tz";
    let shown = r"x\u001b]0;mine\u0007\u009b2J\u007f\r\u202ey".to_owned() + "\tz";
    // Recorded before such words were refused.
    let mut transaction = office.shell.pool.begin().await.unwrap();
    let account = AccountId::parse("A01").unwrap();
    let actor = &office.shell.actor;
    record::place_hold(&mut transaction, &account, None, None, reason, day(), actor).await.unwrap();
    transaction.commit().await.unwrap();
    let said = program.run(&[&SCAN[..], &["--dry-run", "--account", "A01"]].concat()).await.done();
    assert!(said.contains(&format!("held until it is released: {shown}")), "{said:?}");
    let log = program.run(&["log", "show"]).await.done();
    assert!(log.ends_with(&format!("reason={shown} since=2026-03-10\n")), "{log:?}");
    let log = program.run(&["--json", "log", "show"]).await.done();
    assert!(!log.chars().any(|c| c.is_control() && c != '\n'), "{log:?}");
    let event: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert!(event.to_string().contains(&serde_json::json!(reason).to_string()), "{event}");
    let unknown = program.run(&["hold", "A02", "--item", "\u{9b}2J", "--reason", "x"]).await;
    assert!(!unknown.err.contains('\u{9b}'), "{unknown:?}");
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

#[tokio::test]
async fn a_plan_is_agreed_listed_explained_and_ended() {
    let (_office, program) = office().await;
    let agree = ["plan", "A01", "--currency", "EUR", "--parts", "3", "--every", "month", "--from", "2199-01-31"];
    let said = program.run(&[&agree[..], &["--reason", "by phone", "--by", "Carla"]].concat()).await.done();
    assert_eq!(
        said,
        "Plan 1, for I01; an instalment is missed once its day is over; then it alone is demanded:\n    \
         1  2199-01-31       33.33 EUR\n    2  2199-02-28       33.33 EUR\n    \
         3  2199-03-31       33.34 EUR\n"
    );
    let list = program.run(&["plan", "A01", "--list"]).await.done();
    assert!(list.starts_with("    1  version 1  3 instalments, 100.00 EUR, agreed on "), "{list}");
    assert!(list.ends_with("running; instalment 1 open: 33.33 EUR by 2199-01-31; an instalment is missed once its day is over; then it alone is demanded\n"), "{list}");
    let told = program.run(&["explain", "A01"]).await.done();
    assert!(told.contains("\nInstalment plans:\n  1.1  3 instalments, 100.00 EUR"), "{told}");
    assert!(told.contains("I01") && told.contains(": in_plan"), "{told}");
    let twice = program.run(&[&agree[..], &["--reason", "x", "--item", "I01"]].concat()).await.failed(5);
    assert_eq!(twice, "dunningd: item I01 is in plan 1 already; end or restructure that one\n");
    // A new version keeps the currency of its plan.
    let anew = ["plan", "A01", "--restructure", "1", "--instalment", "2199-05-31=100", "--reason", "x"];
    let said = program.run(&anew).await.done();
    assert_eq!(
        said,
        "Plan 1, version 2, for I01; an instalment is missed once its day is over; then it alone is demanded:\n    \
         1  2199-05-31      100.00 EUR\n"
    );
    let other = ["plan", "A01", "--restructure", "7", "--instalment", "2199-05-31=100", "--reason", "x"];
    assert_eq!(program.run(&other).await.failed(4), "dunningd: account A01 has no plan 7\n");
    let json = program.run(&["plan", "A01", "--list", "--json"]).await.done();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()[1]["now"]["state"], "running");
    let said = program.run(&["plan", "A01", "--end", "--reason", "broken off"]).await.done();
    assert_eq!(said, "Plan 1 has ended; what is open on its items goes on where it stood.\n");
    let none = program.run(&["plan", "A01", "--end", "--reason", "x"]).await.failed(4);
    assert_eq!(none, "dunningd: account A01 has no running plan\n");
    let odd = ["plan", "A01", "--currency", "EUR", "--instalment", "2199-01-31=90", "--reason", "x"];
    assert_eq!(
        program.run(&odd).await.failed(5),
        "dunningd: the instalments add up to 90.00 EUR, 10.00 EUR less than the 100.00 EUR that is open\n"
    );
    program.run(&["log", "verify"]).await.done();
}

#[tokio::test]
async fn a_cause_is_recorded_by_itself_or_with_a_call_shown_and_cleared() {
    let (_office, program) = office().await;
    let record = ["cause", "A01", "--item", "I01", "--cause", "says_paid", "--reason", "on Monday"];
    assert_eq!(
        program.run(&record).await.done(),
        "Cause says_paid is recorded for item I01 of account A01. It is held for 5 working days. The next run opens a \
         task: find_payment.\n"
    );
    assert_eq!(program.run(&record).await.failed(5), "dunningd: cause says_paid is recorded already\n");
    let call = program.run(&["call", "A02", "--outcome", "wants_plan"]).await.done();
    assert!(call.ends_with("\nCause cash_problem is recorded with it; --no-cause leaves it out.\n"), "{call}");
    let told = program.run(&["explain", "A01"]).await.done();
    assert!(told.contains("\nCauses:\n  says_paid since "), "{told}");
    assert!(told.contains(", item I01: on Monday\n"), "{told}");
    let clear = ["cause", "A01", "--item", "I01", "--clear", "--reason", "found"];
    assert_eq!(program.run(&clear).await.done(), "1 cause cleared for item I01 of account A01.\n");
    assert_eq!(program.run(&clear).await.failed(4), "dunningd: there is no such cause to clear on item I01\n");
}

#[tokio::test]
async fn a_contact_is_added_changed_listed_and_removed() {
    let (_office, program) = office().await;
    let add = ["contact", "A01", "--add", "--role", "dunning", "--email", "ada@debitore.example", "--reason", "x"];
    assert_eq!(
        program.run(&add).await.done(),
        "Contact own:1 of account A01 is recorded; the ledger stays as it is.\n"
    );
    program.run(&["contact", "A01", "--contact", "own:1", "--language", "pl", "--reason", "x"]).await.done();
    let list = program.run(&["contact", "A01", "--list"]).await.done();
    assert!(list.ends_with("own:1        dunning   ada@debitore.example, pl\n"), "{list}");
    for wrong in ["a@x.example; b@x.example", "mailto:a@x.example", "none@none"] {
        let change = ["contact", "A01", "--contact", "own:1", "--email", wrong, "--reason", "x"];
        let said = program.run(&change).await.failed(2);
        assert!(said.ends_with("is not one usable e-mail address such as office@example.com\n"), "{said}");
    }
    let nothing = program.run(&["contact", "A01", "--contact", "own:1", "--reason", "x"]).await.failed(2);
    assert!(nothing.contains("say what is to change"), "{nothing}");
    let remove = ["contact", "A01", "--contact", "own:1", "--remove", "--reason", "left"];
    assert_eq!(program.run(&remove).await.done(), "What was entered about contact own:1 is gone.\n");
    assert_eq!(program.run(&remove).await.failed(4), "dunningd: nothing of ours was entered about contact own:1\n");
}

#[tokio::test]
async fn an_item_is_written_off_and_stages_are_brought_in_from_a_file() {
    let (_office, program) = office().await;
    let off = ["write-off", "A01", "--item", "I01", "--reason", "bankrupt"];
    assert_eq!(program.run(&off).await.done(), "Item I01 is written off and not demanded any more.\n");
    assert_eq!(program.run(&off).await.failed(5), "dunningd: item I01 is written off already\n");
    let undo = [&off[..], &["--undo"]].concat();
    assert_eq!(program.run(&undo).await.done(), "Item I01 can be demanded again.\n");
    assert!(program.run(&undo).await.failed(4).starts_with("dunningd: item I01 has no write-off of ours"));

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("opening.csv");
    std::fs::write(&file, "item_id,stage,done_on,by\nI01,friendly,2026-03-09,Anna\n").unwrap();
    let import = ["import", "opening", file.to_str().unwrap()];
    let dry = program.run(&[&import[..], &["--dry-run"]].concat()).await.done();
    assert_eq!(dry, "1 stage on 1 account would count as done elsewhere; nothing was written.\n");
    assert_eq!(program.run(&import).await.done(), "1 stage on 1 account count as done elsewhere.\n");
    let told = program.run(&["explain", "A01"]).await.done();
    assert!(told.contains("  friendly of item I01: done elsewhere on 2026-03-09, by Anna\n"), "{told}");
    let again = program.run(&import).await.failed(3);
    assert!(again.starts_with("dunningd: nothing was imported, 1 finding\nline 2, column stage: "), "{again}");
}
