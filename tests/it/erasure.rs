//! What is erased, by request and by the end of retention: nothing personal is left, and what else is missing is noticed.

#![expect(clippy::unwrap_used, reason = "what tests call fails like a test")]

use std::time::Duration;

use chrono::{DateTime, SubsecRound as _, Utc};
use dunningd::clock::Clock;
use dunningd::daemon;
use dunningd::model::AccountId;
use dunningd::record::{self, Erasure};

use super::evidence::{Files, accepted, dossier, edit, export, read_folder, rejected, signed, text};
use super::log::program;
use crate::support::shell::{Office, Setup, day_plus};

fn now() -> DateTime<Utc> {
    Clock::system().now()
}

/// The next whole second has begun: what was told before it is older than it.
async fn next_second() -> DateTime<Utc> {
    let next = now().trunc_subsecs(0) + chrono::Duration::seconds(1);
    let left = (next - now()).to_std().unwrap_or_default();
    tokio::time::sleep(left + Duration::from_millis(20)).await;
    next
}

async fn end_retention_of(office: &Office, account: &str, before: DateTime<Utc>) -> Option<i64> {
    let erasure = Erasure {
        classes: &["messages"],
        before: Some(before),
        reason: "kept for 36 months",
        legal_ground: "GDPR art. 5(1)(e)",
    };
    let account = AccountId::parse(account).unwrap();
    let mut connection = office.shell.pool.acquire().await.unwrap();
    record::erase(&mut connection, &account, &erasure, &office.shell.actor).await.unwrap()
}

#[tokio::test]
async fn a_retention_licenses_the_absence_of_nothing_that_it_left() {
    let (mut office, program, key) = signed().await;
    office.account("A05", "it", "conti@a05.test").await;
    office.invoice("I05", "A05", 6, "100.00 EUR").await;
    office.scan().await;
    assert_eq!(office.deliver().await.accepted, 1);
    let before = next_second().await;
    office.go_to(day_plus(15)).await;
    office.scan().await;
    office.deliver().await;
    assert_eq!(office.count("dunning.notice WHERE account_id = 'A05' AND state = 'accepted'").await, 2);
    end_retention_of(&office, "A05", before).await.unwrap();
    assert_eq!(office.count("dunning.message JOIN dunning.notice USING (notice_id) WHERE account_id = 'A05'").await, 1);
    // Of this one nothing was erased but what was decided about it: its letter is of unknown outcome.
    end_retention_of(&office, "A02", before).await.unwrap();
    assert_eq!(office.count("dunning.message JOIN dunning.notice USING (notice_id) WHERE account_id = 'A02'").await, 1);
    program.run(&["log", "anchor"]).await.done();
    program.run(&["log", "verify"]).await.done();
    accepted(&export(&program, "honest").await, &key);
    office.sql("CREATE TABLE public.message AS TABLE dunning.message").await;
    let of = "WHERE notice_id IN (SELECT notice_id FROM dunning.notice WHERE account_id =";
    for (account, harm, told) in [
        (
            "A05",
            "UPDATE dunning.attempt SET reply_text = NULL",
            "its message is missing, and no event says that it was erased",
        ),
        (
            "A02",
            "SELECT",
            "its message is missing: of account A02 1 messages are not there, and events say that 0 were erased",
        ),
    ] {
        office.sql("CREATE TABLE public.attempt AS TABLE dunning.attempt").await;
        office.sql(format!("DELETE FROM dunning.message {of} '{account}')")).await;
        let harm = if harm == "SELECT" { harm.to_owned() } else { format!("{harm} {of} '{account}')") };
        office.sql(harm).await;
        let said = program.run(&["log", "verify"]).await.failed(6);
        assert!(said.contains(told), "{said}");
        rejected("a message that a retention had left", &export(&program, account).await, &key);
        office
            .sql(
                "INSERT INTO dunning.message SELECT * FROM public.message ON CONFLICT DO NOTHING;
                 UPDATE dunning.attempt a SET reply_text = k.reply_text FROM public.attempt k
                 WHERE k.attempt_id = a.attempt_id;
                 DROP TABLE public.attempt",
            )
            .await;
        program.run(&["log", "verify"]).await.done();
    }
}

#[tokio::test]
async fn erasing_leaves_nothing_personal_and_everything_still_verifies() {
    let (office, program, key) = signed().await;
    let note = program.run(&["log", "anchor"]).await.done();
    let kept = program.write("kept.txt", &note);
    let proof = program.path("before.proof").to_str().unwrap().to_owned();
    program.run(&["log", "prove", "A01", "--out", &proof]).await.done();

    let why = ["--reason", "richiesta dell'interessata", "--by", "DPO"];
    let erase = [&["erase", "A01"][..], &why].concat();
    let said = program.run(&erase).await.done();
    let event = office.verified().await;
    assert!(said.contains(&format!("is erased here; event {event} says so.")), "{said}");
    let told = office.lines(format!("SELECT convert_from(bytes, 'UTF8') FROM dunning.event WHERE seq = {event}")).await;
    for fact in [
        r#""classes":["messages","notes","smtp"]"#,
        r#""legal_ground":"GDPR art. 17(1)""#,
        r#""messages":"1""#,
        r#""notes":"1""#,
        r#""reason":"richiesta dell'interessata""#,
        r#""person":"DPO""#,
    ] {
        assert!(told[0].contains(fact), "{fact} in {}", told[0]);
    }
    // No table of ours holds an address, a name or a word any more. The ledger is the operator's.
    let tables = office.lines("SELECT tablename::text FROM pg_tables WHERE schemaname = 'dunning' ORDER BY 1").await;
    assert!(tables.len() > 20);
    for table in tables {
        let rows = office.lines(format!("SELECT t::text FROM dunning.{table} t")).await.join("\n");
        for personal in ["conti@a01.test", "Ada A01", "Debitore A01", "sig.ra Conti"] {
            assert!(!rows.contains(personal), "{personal} in {table}: {rows}");
        }
    }
    program.run(&["log", "verify", "--key", &key, "--checkpoint", &kept]).await.done();
    program.run(&["log", "verify", "--proof", &proof, "--key", &key]).await.done();
    program.run(&["log", "anchor"]).await.done();
    let folder = program.path("after").to_str().unwrap().to_owned();
    let said = program.run(&["log", "export", &folder]).await.done();
    assert!(said.contains("1 more messages were erased; the events that say so are in it."), "{said}");
    let mut files = Files::new();
    read_folder(&program.path("after"), "", &mut files);
    assert!(text(&files, "messages.ndjson").contains(r#""erased":true"#));
    assert!(
        accepted(&files, &key)
            .contains("3 messages, notes, replies and entered contacts were erased, as the log says.\n")
    );
    // What is gone cannot be filled in again with other words.
    let id = office.lines("SELECT notice_id::text FROM dunning.notice WHERE account_id = 'A01'").await.remove(0);
    let attempt =
        office.lines(format!("SELECT attempt_id::text FROM dunning.attempt WHERE notice_id = '{id}'")).await.remove(0);
    let letter = format!("messages/{id}.eml");
    let filled = |name: &str, from: &str, to: &str| {
        let mut files = files.clone();
        edit(&mut files, name, |all| all.replace(from, to));
        files.insert(letter.clone(), b"Subject: another letter\r\n\r\n".to_vec());
        files
    };
    let line = format!(r#""notice":"{id}","erased":true"#);
    for (what, files) in [
        ("a letter beside the word erased", filled("messages.ndjson", &line, &format!(r#"{line},"file":"{letter}""#))),
        ("a letter that no line names", filled("messages.ndjson", "\n", "\n ")),
        ("words beside the word erased", {
            let mut files = files.clone();
            edit(&mut files, "notes.ndjson", |all| {
                all.replacen("\"erased\":true", "\"erased\":true,\"body\":\"He pays\"", 1)
            });
            files
        }),
        ("a reply without its salt", {
            let mut files = files.clone();
            edit(&mut files, "attempts.ndjson", |all| {
                let forged = |line: &str| {
                    let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
                    if line["attempt"] == attempt.as_str() {
                        line["reply_text"] = "2.0.0 read by the debtor in person".into();
                    }
                    format!("{line}\n")
                };
                all.lines().map(forged).collect()
            });
            files
        }),
    ] {
        rejected(what, &files, &key);
    }
    office.sql(format!("UPDATE dunning.attempt SET reply_text = '2.0.0 forged' WHERE attempt_id = '{attempt}'")).await;
    let said = program.run(&["log", "verify"]).await.failed(6);
    assert!(said.contains("there is a reply of its attempt, and what would tie it to the log was erased"), "{said}");
    office.sql(format!("UPDATE dunning.attempt SET reply_text = NULL WHERE attempt_id = '{attempt}'")).await;

    let files = dossier(&program, "A01", "case.zip").await;
    accepted(&files, &key);
    assert!(text(&files, "index.html").contains("(erased)"));
    let said = program.run(&["explain", "A01", "--on", "2026-03-10"]).await.done();
    assert!(said.contains("What it was based on was erased"), "{said}");
}

#[tokio::test]
async fn what_is_on_its_way_or_under_a_legal_hold_is_not_erased() {
    let (office, program, _) = signed().await;
    let why = ["--reason", "verifica"];
    let of = |command: &'static str, account: &'static str| [&[command, account][..], &why].concat();
    let said = program.run(&of("erase", "A02")).await.failed(5);
    assert!(said.contains("account A02 has notices on their way or of unknown outcome"), "{said}");
    program.run(&of("legal-hold", "A01")).await.done();
    let said = program.run(&of("erase", "A01")).await.failed(5);
    assert!(said.contains("account A01 is under a legal hold"), "{said}");
    let lift = [&["legal-hold", "A01", "--lift"][..], &why].concat();
    program.run(&lift).await.done();
    let said = program.run(&lift).await.failed(4);
    assert_eq!(said, "dunningd: account A01 is not under a legal hold\n");
    program.run(&of("erase", "A01")).await.done();
    let said = program.run(&of("erase", "A99")).await.failed(4);
    assert_eq!(said, "dunningd: neither the ledger nor the log knows an account A99\n");
    let kinds = office.events().await;
    assert_eq!(kinds[kinds.len() - 3..], ["legal_hold_placed", "legal_hold_lifted", "redacted"]);
}

#[tokio::test]
async fn what_was_kept_long_enough_goes_class_by_class_and_a_legal_hold_stands_above_it() {
    let setup = Setup::default()
        .policy("# notes_months = 36", "notes_months = 2")
        .policy("# smtp_months = 36", "smtp_months = 1");
    let mut office = Office::with(setup).await;
    office.accounts(3).await;
    office.scan().await;
    office.deliver().await;
    let program = program(&office).await;
    for account in ["A01", "A02"] {
        program.run(&["note", account, "Parole"]).await.done();
    }
    program.run(&["legal-hold", "A02", "--reason", "causa pendente"]).await.done();
    assert_eq!(daemon::end_retention(&office.shell).await.unwrap(), 0);
    office.go_to(now().date_naive() + chrono::Months::new(3)).await;
    assert_eq!(daemon::end_retention(&office.shell).await.unwrap(), 3);
    assert_eq!(office.count("dunning.note_text").await, 1);
    assert_eq!(office.count("dunning.attempt WHERE reply_text IS NOT NULL").await, 1);
    assert_eq!(office.count("dunning.message").await, 3);
    assert_eq!(daemon::end_retention(&office.shell).await.unwrap(), 0);
    program.run(&["log", "verify"]).await.done();
}

#[tokio::test]
async fn the_mailbox_of_an_account_that_never_got_a_notice_is_erased_from_the_task_about_it() {
    let mut office = Office::new().await;
    for (n, address) in
        [(1, "Sede@gruppo.test"), (2, "Sede@gruppo.test"), (3, "Sede@gruppo.test"), (4, "sede@gruppo.test")]
    {
        office.account(&format!("A0{n}"), "it", address).await;
        office.invoice(&format!("I0{n}"), &format!("A0{n}"), 6, "100.00 EUR").await;
    }
    office.scan().await;
    office.deliver().await;
    let subject = "SELECT subject FROM dunning.task WHERE kind = 'shared_mailbox'";
    assert_eq!(office.lines(subject).await, ["sede@gruppo.test"]);
    let program = program(&office).await;
    let never = "SELECT account_id::text FROM ledger.account a WHERE NOT EXISTS
                 (SELECT FROM dunning.notice n WHERE n.account_id = a.account_id) ORDER BY 1";
    let never = office.lines(never).await;
    assert_eq!(never.len(), 3);
    let erase = |account: &str| ["erase", account, "--reason", "richiesta"].map(str::to_owned);
    let said = erase(&never[0]);
    program.run(&said.iter().map(String::as_str).collect::<Vec<_>>()).await.done();
    assert_eq!(office.lines(subject).await, [""]);

    // Of one that has left the ledger, what was decided about it tells the mailbox.
    office.go_to(day_plus(1)).await;
    office.scan().await;
    office.sql(format!("DELETE FROM ledger.contact WHERE account_id = '{}'", never[1])).await;
    assert_eq!(office.count("dunning.task WHERE kind = 'shared_mailbox' AND subject = 'sede@gruppo.test'").await, 1);
    let said = erase(&never[1]);
    program.run(&said.iter().map(String::as_str).collect::<Vec<_>>()).await.done();
    assert_eq!(office.count("dunning.task WHERE kind = 'shared_mailbox' AND subject <> ''").await, 0);
    program.run(&["log", "verify"]).await.done();
}

#[tokio::test]
async fn retention_reaches_contacts_and_tasks_that_end_later_and_accounts_that_left_the_ledger() {
    let mut office = Office::with(Setup::default().policy("# messages_months = 120", "messages_months = 2")).await;
    office.accounts(3).await;
    let program = program(&office).await;
    for account in ["A01", "A02", "A03"] {
        let add = [
            "contact",
            account,
            "--add",
            "--role",
            "dunning",
            "--email",
            "ada@a03.test",
            "--phone",
            "+39 02 5550",
            "--reason",
            "al telefono",
        ];
        program.run(&add).await.done();
    }
    program.run(&["contact", "A01", "--contact", "own:1", "--remove", "--reason", "cambiato"]).await.done();
    office
        .sql(
            "INSERT INTO dunning.task (creditor, account_id, kind, subject, text, opened_on, closed_at)
             SELECT creditor, account_id, 'note', 'x', 'Ada A03 richiama', '2026-03-01', clock_timestamp()
             FROM ledger.account WHERE account_id = 'A03';
             DELETE FROM ledger.item WHERE account_id = 'A02'; DELETE FROM ledger.contact WHERE account_id = 'A02';
             DELETE FROM ledger.account WHERE account_id = 'A02'",
        )
        .await;
    let entries =
        "SELECT e.account_id FROM dunning.contact_data JOIN dunning.contact_entry e USING (entry_id) ORDER BY 1";
    assert_eq!(daemon::end_retention(&office.shell).await.unwrap(), 0);
    assert_eq!(office.lines(entries).await, ["A01", "A02", "A03"]);
    office.go_to(now().date_naive() + chrono::Months::new(3)).await;
    // The entry that ended, the account that is gone, and the words of a task; what counts still is kept.
    assert_eq!(daemon::end_retention(&office.shell).await.unwrap(), 3);
    assert_eq!(office.lines(entries).await, ["A03"]);
    assert_eq!(office.lines("SELECT text FROM dunning.task").await, [""]);
    assert_eq!(daemon::end_retention(&office.shell).await.unwrap(), 0);
    program.run(&["log", "verify"]).await.done();
    // What is taken out besides is not what was erased.
    office.sql("DELETE FROM dunning.contact_data").await;
    let said = program.run(&["log", "verify"]).await.failed(6);
    assert!(said.contains("the data of its contact are missing: of account A03 1 contacts are not there, and events say that 0 were erased"), "{said}");
}

#[tokio::test]
async fn an_address_that_was_corrected_and_erased_does_not_give_way_to_the_ledgers() {
    let office = Office::new().await;
    office.accounts(1).await;
    let program = program(&office).await;
    let correct = ["contact", "A01", "--contact", "A01-1", "--email", "ada@giusto.test", "--reason", "un estraneo"];
    program.run(&correct).await.done();
    program.run(&["erase", "A01", "--reason", "richiesta"]).await.done();
    assert_eq!(office.verdicts().await, ["A01 no_address"]);
    assert_eq!(office.tasks().await, ["A01 find_address"]);
    assert_eq!(office.deliver().await.accepted, 0);
    let listed = program.run(&["contact", "A01", "--list"]).await.done();
    assert_eq!(listed, "A01-1        billing   no usable address, what was entered was erased\n");
    let said = program.run(&["explain", "A01"]).await.done();
    let way_out = "What was entered here about contact A01-1 was erased, and it may have been another address: \
                   `dunningd contact A01 --contact A01-1 --remove --reason …` goes back to the ledger's.";
    assert!(said.split_whitespace().collect::<Vec<_>>().join(" ").contains(way_out), "{said}");
    let language = ["contact", "A01", "--contact", "A01-1", "--language", "pl", "--reason", "x"];
    let refused = program.run(&language).await.failed(5);
    assert!(refused.starts_with("dunningd: what was entered about contact A01-1 was erased"), "{refused}");
    program.run(&["contact", "A01", "--contact", "A01-1", "--remove", "--reason", "controllato"]).await.done();
    assert_eq!(office.verdicts().await, ["A01 contact"]);
    program.run(&["log", "verify"]).await.done();
}
