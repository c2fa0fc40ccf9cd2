//! The daily work: import, scan, explain, preview.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};

use crate::support::command::Program;
use crate::support::shell::Office;
use crate::support::smtp::{Phase, Reply};

use super::shows;

/// The day of the fixture: on the machine's own clock no test could rely on.
const AS_OF: [&str; 2] = ["--as-of", "2026-03-10"];

/// Accounts of every kind: to be written to, held, too little, without an address, in credit.
async fn office() -> (Office, Program) {
    let office = Office::new().await;
    office.accounts(2).await;
    office.account("B1", "en", "accounts@b1.test").await;
    office.invoice("J1", "B1", 31, "1200.00 EUR").await;
    office.invoice("J2", "B1", 7, "80.50 EUR").await;
    office.invoice("J3", "B1", -4, "99.00 EUR").await;
    office.account("B2", "it", "non ha posta").await;
    office.invoice("J4", "B2", 9, "310.00 EUR").await;
    office.account("B3", "it", "conti@b3.test").await;
    office.invoice("J5", "B3", 9, "4.00 EUR").await;
    office
        .sql("UPDATE ledger.account SET hold_until = '2026-03-20', hold_reason = 'reclamo' WHERE account_id = 'A02'")
        .await;
    let program = Program::new(&office.database, office.smtp.address.port()).await;
    (office, program)
}

fn scan<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["scan"], &AS_OF[..], more].concat()
}

#[tokio::test]
async fn a_scan_says_why_for_each_account() {
    let (office, program) = office().await;
    let dry = program.run(&scan(&["--dry-run", "--why"])).await.done();
    shows("scan_why", &dry);
    assert_eq!(office.count("dunning.run").await, 0);
    let live = program.run(&scan(&["--why", "--deliver"])).await.done();
    let with_delivery = dry.replace(", dry run: nothing was written", "")
        + "delivery: 2 accepted by the relay, 0 deferred, 0 refused, 0 unknown, 0 stopped by the last check\n";
    // One line more: what was queued.
    assert_eq!(live.replace("  queued     4 notices\n", ""), live);
    assert_eq!(live.replace("  queued     2 notices\n", ""), with_delivery);
    assert_eq!(office.smtp.messages().len(), 2);
    program.run(&["log", "verify"]).await.done();
}

#[tokio::test]
async fn several_notices_are_resolved_at_once_each_by_itself() {
    let office = Office::new().await;
    office.accounts(4).await;
    office.scan().await;
    office.smtp.on(Phase::RcptTo, Reply::code(550, "5.1.1 no such user"));
    assert_eq!(office.deliver().await.refused, 4);
    let ids = office.lines("SELECT notice_id::text FROM dunning.notice ORDER BY created_at, notice_id").await;
    let program = Program::new(&office.database, office.smtp.address.port()).await;
    let resolve = |which: &[&'static str], ids: &[String]| {
        let words = ["outbox", "resolve"].into_iter().chain(which.iter().copied()).map(str::to_owned);
        words.chain(ids.iter().cloned()).collect::<Vec<String>>()
    };
    let not_sent = ["--not-sent", "--reason", "our address was on a blocklist"];
    let words = resolve(&not_sent, &ids[..2]);
    let said = program.run(&words.iter().map(String::as_str).collect::<Vec<_>>()).await.done();
    let told = |id: &String| format!("Notice {id} counts as not sent; the next scan may write again.\n");
    assert_eq!(said, ids[..2].iter().map(told).collect::<String>());
    // What cannot be resolved keeps the others from nothing.
    let words = resolve(&not_sent, &ids[1..]);
    let said = program.run(&words.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let state = "is cancelled; only an unknown, refused or bounced one can be resolved";
    assert_eq!((said.exit, said.err), (5, format!("dunningd: notice {} {state}\n", ids[1])));
    assert_eq!(office.count("dunning.notice WHERE reason = 'resolved_not_sent'").await, 4);
    assert_eq!(office.count("dunning.event WHERE kind = 'notice_resolved_not_sent'").await, 4);
}

#[tokio::test]
async fn a_scan_tells_what_waits_behind_a_breaker_and_for_its_next_try() {
    let (office, program) = office().await;
    office
        .sql(
            "INSERT INTO dunning.breaker (kind, subject, failures, opened, cause, until, probing)
             VALUES ('sender', 'tre_aquiloni', 3, 1, 'mail_from: 550 5.1.8', '2100-01-01 01:30Z', false)",
        )
        .await;
    let said = program.run(&scan(&["--deliver"])).await;
    let told = "the rest waits: 2 letters behind the stopped sender tre_aquiloni (mail_from: 550 5.1.8), until \
                2100-01-01 01:30 UTC\n";
    assert_eq!((said.exit, said.err.as_str()), (3, ""));
    assert!(said.out.contains(told), "{}", said.out);
    office.sql("DELETE FROM dunning.breaker").await;
    office.smtp.on_recipient(Phase::RcptTo, "conti@a01.test", Reply::code(451, "4.7.1 greylisted"));
    program.run(&scan(&["--deliver"])).await;
    let said = program.run(&scan(&["--deliver"])).await;
    assert_eq!(said.exit, 3);
    let told = "the rest waits: 1 letter for their next try, the first at 20";
    assert!(said.out.contains(told), "{}", said.out);
}

#[tokio::test]
async fn what_is_given_up_counts_as_refused_and_the_list_says_so() {
    let (office, program) = office().await;
    office.smtp.on(Phase::RcptTo, Reply::code(450, "4.2.0 later"));
    let program = program.with("DISPATCH__MAX_TRIES", "1");
    let said = program.run(&scan(&["--deliver"])).await;
    let told = "delivery: 0 accepted by the relay, 0 deferred, 2 refused, 0 unknown, 0 stopped by the last check\n";
    assert!(said.exit == 3 && said.out.contains(told), "{}", said.out);
    let list = program.run(&["outbox", "list"]).await.done();
    assert!(list.contains("refused   of 2026-03-10, 1 tries, gave up, last answer 450 at rcpt_to\n"), "{list}");
    let words = "the database did not answer the last check";
    office.sql(format!("UPDATE dunning.attempt SET phase = 'data', reply_code = NULL, detail = '{words}'")).await;
    let list = program.run(&["outbox", "list"]).await.done();
    assert!(list.contains(&format!(", last attempt ended at data: {words}\n")), "{list}");
}

#[tokio::test]
async fn a_scan_as_json_is_one_value() {
    let (_office, program) = office().await;
    let said = program.run(&scan(&["--why", "--deliver", "--json"])).await.done();
    let value: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(value["total"]["considered"], 5);
    assert_eq!(value["delivery"]["accepted"], 2);
    assert_eq!(value["decisions"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn an_account_is_explained() {
    let (_office, program) = office().await;
    let of = |account| [&["explain", account], &AS_OF[..]].concat();
    shows("explain_contact", &program.run(&of("B1")).await.done());
    shows("explain_hold", &program.run(&of("A02")).await.done());
    shows("explain_no_address", &program.run(&of("B2")).await.done());
    program.run(&scan(&["--deliver"])).await.done();
    shows("explain_after_a_notice", &program.run(&of("B1")).await.done());
    assert_eq!(program.run(&of("Z9")).await.failed(4), "dunningd: the ledger has no account Z9\n");
}

#[tokio::test]
async fn a_letter_is_previewed_as_it_would_be_sent() {
    let (office, program) = office().await;
    let html = program.path("letter.html");
    let arguments = [&["preview", "--account", "B1", "--html", html.to_str().unwrap()], &AS_OF[..]].concat();
    let said = program.run(&arguments).await.done();
    shows("preview", &program.settled(&said));
    assert!(fs::read_to_string(&html).unwrap().contains("<html"));
    assert_eq!(fs::metadata(&html).unwrap().mode() & 0o777, 0o600);
    let refused = program.run(&[&["preview", "--account", "B3"], &AS_OF[..]].concat()).await.failed(5);
    assert_eq!(
        refused,
        "dunningd: account B3 gets no letter on 2026-03-10: below_minimum: What is overdue is less than the least amount \
         worth a letter. See `dunningd explain B3`.\n"
    );
    let unknown = program.run(&["preview", "friendly", "--fixture", "none_such"]).await.failed(4);
    assert!(unknown.starts_with("dunningd: there is no sample situation none_such; there are bare, "), "{unknown}");
    assert_eq!(
        program.run(&["preview", "nonsense", "--lang", "pl"]).await.failed(4),
        "dunningd: there is no template nonsense in pl; `dunningd template list` names those that are\n"
    );
    assert_eq!(office.count("dunning.notice").await, 0);
}

#[tokio::test]
async fn a_preview_is_written_over_nothing_that_is_there() {
    let program = Program::bare().await;
    let (kept, link) = (program.path("kept.html"), program.path("link.html"));
    fs::write(&kept, "kept").unwrap();
    symlink(&kept, &link).unwrap();
    for file in [&kept, &link] {
        let said = program.run(&["preview", "friendly", "--html", file.to_str().unwrap()]).await.failed(5);
        let expected =
            format!("dunningd: {} exists already: delete it or name another; nothing was written\n", file.display());
        assert_eq!(said, expected);
    }
    assert_eq!(fs::read_to_string(&kept).unwrap(), "kept");
}

#[tokio::test]
async fn whoever_stops_reading_an_answer_from_the_database_ends_the_command_in_peace() {
    let (_office, program) = office().await;
    program.run(&scan(&["--deliver"])).await.done();
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["explain", "A01"],
        &["explain", "A01", "--json"],
        &["task", "list"],
        &["task", "list", "--json"],
        &["outbox", "list"],
        &["outbox", "list", "--json"],
        &["log", "show"],
        &["log", "show", "--json"],
        &["log", "verify"],
        &["log", "verify", "--json"],
        &["ledger", "check"],
        &["ledger", "check", "--json"],
        &scan(&["--dry-run", "--why"]),
        &scan(&["--dry-run", "--json"]),
    ] {
        let (exit, said) = program.unread(arguments).await;
        assert!([0, 3].contains(&exit) && said.is_empty(), "{arguments:?}: {exit} {said}");
    }
}

#[tokio::test]
async fn what_root_writes_into_the_state_directory_belongs_to_the_owner_of_the_directory() {
    const SERVICE: u32 = 65534;
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let (_office, program) = office().await;
    let state = program.path("state");
    fs::create_dir(&state).unwrap();
    // Left behind by an earlier version that root ran.
    fs::write(state.join("journal.0.lock"), "").unwrap();
    chown(&state, Some(SERVICE), Some(SERVICE)).unwrap();
    program.run(&scan(&["--deliver"])).await.done();
    let files: Vec<_> = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap()).collect();
    assert!(files.len() > 1, "{files:?}");
    for file in files {
        let metadata = file.metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (SERVICE, SERVICE), "{file:?}");
    }
}

#[tokio::test]
async fn a_relay_that_cannot_be_reached_is_69_and_the_notices_stay_queued() {
    let (office, program) = office().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let program_without = Program::new(&office.database, nobody).await;
    let said = program_without.run(&scan(&["--deliver"])).await;
    assert_eq!((said.exit, said.err.as_str()), (69, ""));
    assert!(
        said.out.ends_with(&format!(
            "delivery: 0 accepted by the relay, 0 deferred, 0 refused, 0 unknown, 0 stopped by the last check\n\
             the relay cannot be used: 127.0.0.1:{nobody}: connect: connection refused\n\
             What is queued stays queued, and no notice lost a try.\n\
             2 waiting: not tried yet\n"
        )),
        "{}",
        said.out
    );
    assert_eq!(office.notices().await, ["A01 friendly queued", "B1 friendly queued"]);
    let said = program.run(&scan(&["--deliver"])).await.done();
    assert!(said.contains("delivery: 2 accepted by the relay"), "{said}");
}

#[tokio::test]
async fn a_refused_recipient_ends_with_3() {
    let (office, program) = office().await;
    office.smtp.on_recipient(Phase::RcptTo, "conti@a01.test", Reply::code(550, "5.1.1 no such user"));
    let said = program.run(&scan(&["--deliver"])).await;
    assert_eq!(said.exit, 3);
    assert!(said.out.contains("delivery: 1 accepted by the relay, 0 deferred, 1 refused,"), "{}", said.out);
}

#[tokio::test]
async fn an_account_that_cannot_be_recorded_ends_with_3_and_is_named() {
    let (office, program) = office().await;
    office
        .sql(
            "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN RAISE EXCEPTION 'no room for this row'; END $$;
             CREATE TRIGGER refuse BEFORE INSERT ON dunning.notice_item FOR EACH ROW WHEN (NEW.item_id = 'J1')
             EXECUTE FUNCTION public.refuse()",
        )
        .await;
    let said = program.run(&scan(&["--deliver"])).await;
    assert_eq!(said.exit, 3, "{}", said.err);
    let warning = "  warning    account B1 could not be recorded: database: no room for this row (P0001)\n";
    assert!(said.out.contains(warning), "{}", said.out);
    assert_eq!(office.smtp.messages().len(), 1);
}

#[tokio::test]
async fn what_a_guard_refuses_ends_with_5() {
    let (office, program) = office().await;
    office.sql("UPDATE ledger.freshness SET payments_as_of = '2026-03-01 06:00Z'").await;
    let said = program.run(&["scan", "--creditor", "tre_aquiloni"]).await.failed(5);
    assert!(
        said.starts_with(
            "dunningd: creditor tre_aquiloni: the run was refused: stale_ledger: payments are known up to "
        ),
        "{said}"
    );
    assert_eq!(office.lines("SELECT concat_ws(' ', state, reason) FROM dunning.run").await, ["refused stale_ledger"]);
}

#[tokio::test]
async fn a_creditor_whose_ledger_is_stale_does_not_keep_the_others_from_their_run() {
    let (office, program) = office().await;
    office
        .sql(
            "INSERT INTO ledger.freshness VALUES ('banca', 'tre_aquiloni', now(), '2026-03-01 06:00Z');
             UPDATE ledger.freshness SET payments_as_of = now(), invoices_as_of = now() WHERE source = 'erp'",
        )
        .await;
    let said = program.run(&["scan"]).await;
    assert_eq!(said.exit, 5, "{said:?}");
    assert!(
        said.err.starts_with("dunningd: creditor tre_aquiloni: the run was refused: stale_ledger:"),
        "{}",
        said.err
    );
    assert_eq!(
        office.lines("SELECT concat_ws(' ', creditor, state) FROM dunning.run ORDER BY 1").await,
        ["tre_aquiloni refused", "trzy_latawce completed"]
    );
}

#[tokio::test]
async fn a_run_that_holds_the_lock_is_75() {
    let (office, program) = office().await;
    let creditor = dunningd::model::CreditorId::parse("tre_aquiloni").unwrap();
    let lock = dunningd::record::lead(&office.shell.pool, &creditor).await.unwrap();
    let said = program.run(&scan(&["--creditor", "tre_aquiloni"])).await.failed(75);
    assert_eq!(said, "dunningd: creditor tre_aquiloni: another run holds the lock\n");
    drop(lock);
}

#[tokio::test]
async fn a_ledger_without_a_column_is_65() {
    let (office, program) = office().await;
    office.sql("ALTER TABLE ledger.item DROP COLUMN open_amount CASCADE").await;
    let said = program.run(&scan(&[])).await.failed(65);
    assert!(said.starts_with("dunningd: the ledger breaks its contract; nothing was decided\n\n"), "{said}");
    assert!(said.contains("open_amount"), "{said}");
}

#[tokio::test]
async fn no_such_creditor_or_account_is_4() {
    let (_office, program) = office().await;
    assert_eq!(
        program.run(&["scan", "--creditor", "nessuno"]).await.failed(4),
        "dunningd: there is no creditor nessuno in creditors.toml\n"
    );
    assert_eq!(program.run(&["scan", "--account", "Z9"]).await.failed(4), "dunningd: the ledger has no account Z9\n");
}

#[tokio::test]
async fn sending_as_of_a_day_is_refused_in_production() {
    let office = Office::new().await;
    let program = Program::new(&office.database, office.smtp.address.port()).await;
    program.replace("dunningd.toml", "environment = \"test\"", "environment = \"production\"");
    program.replace("dunningd.toml", "allow_domains = [\"test\"]\n", "");
    // The sample's companies are refused there.
    let creditor = "[[creditor]]\nid = \"tre_aquiloni\"\nname = \"Vera S.r.l.\"\naddress = [\"Milano\"]\ncountry = \"IT\"\n\
                    time_zone = \"Europe/Rome\"\nlanguage = \"it\"\nsender = \"conti@vera-srl.eu\"\n\
                    [creditor.bank.EUR]\niban = \"DE89 3704 0044 0532 0130 00\"\n";
    std::fs::write(program.config().join("creditors.toml"), creditor).unwrap();
    let said = program.run(&scan(&[])).await.failed(5);
    assert_eq!(said, "dunningd: sending with --as-of is refused when environment is \"production\"; add --dry-run\n");
}

// --- import ------------------------------------------------------------------------------------------------------------

const HEADER: &str = "account_id,creditor,account_name,party_kind,country,email,role,contact_id,is_primary,no_email,\
                      item_id,kind,document_no,issue_date,due_date,currency,amount,open_amount\n";

fn row(n: u32, amount: &str) -> String {
    format!(
        "A{n},tre_aquiloni,Debitore {n},company,IT,conti@a{n}.test,billing,A{n}-1,true,false,I{n},invoice,FT {n},\
         2026-02-01,2026-03-04,EUR,{amount},{amount}\n"
    )
}

async fn empty() -> (Office, Program) {
    let office = Office::new().await;
    let program = Program::new(&office.database, office.smtp.address.port()).await;
    (office, program)
}

fn import(file: &str) -> [&str; 7] {
    ["import", "csv", "--profile", "generic", "--payments-as-of", "2026-03-09", file]
}

#[tokio::test]
async fn a_good_file_is_imported() {
    let (office, program) = empty().await;
    let file = program.write("open.csv", &[HEADER, &row(1, "100.00"), &row(2, "60.00")].concat());
    let said = program.run(&import(&file)).await.done();
    shows("import_good", &program.settled(&said));
    assert_eq!(office.count("ledger.item").await, 2);
    let said = program.run(&scan(&["--deliver"])).await.done();
    assert!(said.contains("delivery: 2 accepted by the relay"), "{said}");
}

#[tokio::test]
async fn one_bad_row_keeps_the_whole_file_out_and_is_written_down() {
    let (office, program) = empty().await;
    let file = program.write("open.csv", &[HEADER, &row(1, "100.00"), &row(2, "sixty")].concat());
    let said = program.run(&import(&file)).await.failed(3);
    shows("import_rejected", &program.settled(&said));
    assert_eq!(office.count("ledger.item").await, 0);
    let rejects = std::fs::read_to_string(program.path("open.rejects.csv")).unwrap();
    assert!(rejects.contains("sixty") && !rejects.contains("FT 1"), "{rejects}");

    let arguments = [&import(&file)[..], &["--allow-rejects"]].concat();
    let said = program.run(&arguments).await;
    assert_eq!((said.exit, said.err.as_str()), (3, ""));
    assert_eq!(office.count("ledger.item").await, 1);
    // What somebody may be mending stays what it is.
    assert_eq!(std::fs::read_to_string(program.path("open.rejects.csv")).unwrap(), rejects);
    assert_eq!(std::fs::read_to_string(program.path("open.rejects-2.csv")).unwrap(), rejects);
    let arguments = [&import(&file)[..], &["--dry-run", "--reject-file", &file]].concat();
    let said = program.run(&arguments).await.failed(2);
    assert!(said.contains("open.csv: there is such a file already, and it is not replaced"), "{said}");
    assert!(std::fs::read_to_string(program.path("open.csv")).unwrap().contains("FT 1"));
}

#[tokio::test]
async fn a_file_that_was_cut_off_closes_nothing_unless_somebody_says_that_all_of_it_is_settled() {
    let (office, program) = empty().await;
    let rows: Vec<String> = (1..=30).map(|n| row(n, "100.00")).collect();
    let file = program.write("open.csv", &[HEADER, &rows.concat()].concat());
    let whole = [&import(&file)[..], &["--scope", "full_open_items"]].concat();
    program.run(&whole).await.done();
    let cut = program.write("cut.csv", &[HEADER, &rows[..4].concat()].concat());
    let cut = [&import(&cut)[..], &["--scope", "full_open_items"]].concat();
    let said = program.run(&cut).await.failed(5);
    assert_eq!(
        said,
        "dunningd: the file lacks 26 of the 30 open items of creditor tre_aquiloni (limit 20), and would close all of them \
         as paid; is it cut off, or a file of changes (--scope delta)? Nothing was imported. If they are all settled, add \
         --allow-shrunk\n"
    );
    assert_eq!(office.count("ledger.item WHERE open_amount <> 0").await, 30);
    let said = program.run(&[&cut[..], &["--allow-shrunk"]].concat()).await.done();
    assert!(said.contains("closed    26 "), "{said}");
    assert_eq!(office.count("ledger.item WHERE open_amount <> 0").await, 4);
}

#[tokio::test]
async fn a_ledger_is_accepted_with_a_reason_and_for_a_run_that_writes() {
    let (_office, program) = office().await;
    for arguments in [
        &["scan", "--accept-ledger"][..],
        &["scan", "--accept-ledger", "--reason", "it is right", "--dry-run"],
        &["scan", "--accept-ledger", "--reason", "it is right", "--accept-clock"],
        &["scan", "--accept-ledger", "--reason", "it is right", "--account", "A01"],
        &["run", "--accept-ledger", "--reason", "it is right"],
    ] {
        assert_eq!(program.run(arguments).await.exit, 2, "{arguments:?}");
    }
}

#[tokio::test]
async fn the_ledger_of_one_creditor_is_accepted_at_a_time() {
    let (office, program) = office().await;
    let accept = ["--accept-ledger", "--reason", "it is right"];
    assert_eq!(
        program.run(&[&["scan"], &accept[..]].concat()).await.failed(5),
        "dunningd: the ledger of one creditor is accepted at a time, and creditors.toml has several: add \
         `--creditor tre_aquiloni` or `--creditor trzy_latawce`\n"
    );
    assert_eq!(office.count("dunning.run").await, 0);
    let named = ["scan", "--creditor", "trzy_latawce"];
    office.sql("UPDATE ledger.freshness SET payments_as_of = now(), invoices_as_of = now()").await;
    program.run(&[&named, &accept[..]].concat()).await.done();
    // Where there is one, it need not be named.
    let creditors = std::fs::read_to_string(program.config().join("creditors.toml")).unwrap();
    let first =
        creditors.match_indices("\n[[creditor]]").nth(1).map_or(&creditors[..], |(second, _)| &creditors[..second]);
    std::fs::write(program.config().join("creditors.toml"), first).unwrap();
    program.run(&[&["scan"], &accept[..]].concat()).await.done();
    assert_eq!(
        office.lines("SELECT creditor FROM dunning.run WHERE state = 'completed' ORDER BY started_at").await,
        ["trzy_latawce", "tre_aquiloni"]
    );
}

#[tokio::test]
async fn an_account_whose_id_is_none_ends_with_3_and_is_named() {
    let (office, program) = office().await;
    office
        .sql(
            r"INSERT INTO ledger.account (account_id, creditor, name, party_kind)
              VALUES (E'Z\t1', 'tre_aquiloni', 'Zeta', 'company');
              INSERT INTO ledger.item (item_id, account_id, kind, document_no, issue_date, due_date, currency, amount,
                                       open_amount)
              SELECT 'F' || n, 'B1', 'invoice', n::text, '2026-03-01', '2026-05-31', 'EUR', 1, 1
              FROM generate_series(1, 100) n",
        )
        .await;
    let said = program.run(&scan(&[])).await;
    assert_eq!((said.exit, said.err.as_str()), (3, ""));
    assert!(said.out.contains("considered 6 = contacted 2 + not contacted 4"), "{}", said.out);
    let named = "warning    account \"Z\\t1\" was not looked at: an id has 1 to 200 printable characters; mend it in the ledger";
    assert!(said.out.contains(named), "{}", said.out);
}

#[tokio::test]
async fn without_knowing_up_to_when_payments_are_in_nothing_is_imported() {
    let (office, program) = empty().await;
    let file = program.write("open.csv", &[HEADER, &row(1, "100.00")].concat());
    let said = program.run(&["import", "csv", "--profile", "generic", &file]).await.failed(2);
    assert!(said.contains("--payments-as-of"), "{said}");
    assert_eq!(office.count("ledger.item").await, 0);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named() {
    let (office, program) = empty().await;
    let missing = program.run(&import("nowhere.csv")).await.failed(4);
    assert_eq!(missing, "dunningd: nowhere.csv: No such file or directory (os error 2); nothing was imported\n");
    let folder = program.path("folder.csv");
    std::fs::create_dir(&folder).unwrap();
    let said = program.run(&import(folder.to_str().unwrap())).await.failed(4);
    assert_eq!(said, format!("dunningd: {}: is a directory, not a file; nothing was imported\n", folder.display()));
    let locked = program.write("locked.csv", HEADER);
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o000)).unwrap();
    // Root reads everything.
    if std::fs::read(&locked).is_err() {
        let said = program.run(&import(&locked)).await.failed(4);
        assert!(said.contains("locked.csv") && said.contains("Permission denied"), "{said}");
    }
    let profile = ["import", "csv", "--profile", "none_such", "--payments-as-of", "2026-03-09", &locked];
    let said = program.run(&profile).await.failed(4);
    assert!(said.starts_with("dunningd: there is no import profile none_such; shipped are "), "{said}");
    assert_eq!(office.count("ledger.item").await, 0);
}

#[tokio::test]
async fn a_csv_file_that_is_none_is_told_what_is_wrong() {
    let (office, program) = empty().await;
    let file = program.write("open.csv", "account_id;creditor\nA1;tre_aquiloni\n");
    let said = program.run(&import(&file)).await.failed(3);
    shows("import_wrong_delimiter", &program.settled(&said));
    let file = program.write("empty.csv", "");
    let said = program.run(&import(&file)).await.failed(3);
    assert!(said.contains("empty"), "{said}");
    assert_eq!(office.count("ledger.item").await, 0);
}

#[tokio::test]
async fn the_ledger_is_checked_and_its_contract_printed() {
    let (_office, program) = office().await;
    let said = program.run(&["ledger", "check"]).await;
    // An account that cannot be written to, and payments that are too old for the machine's own clock.
    assert_eq!(said.exit, 3, "{said:?}");
    assert!(said.out.contains("B2"), "{}", said.out);
    let contract = program.run(&["ledger", "contract"]).await.done();
    shows("ledger_contract", &contract);
}

#[tokio::test]
async fn an_approval_that_the_caps_leave_no_room_for_names_the_day() {
    let office = Office::new().await;
    office.accounts(2).await;
    office.sql("UPDATE dunning.control SET mode = 'approve_all'").await;
    let program = Program::new(&office.database, office.smtp.address.port()).await;
    program.run(&[&["scan"], &AS_OF[..]].concat()).await.done();
    office
        .sql(
            "INSERT INTO dunning.call (creditor, account_id, outcome, called_on, called_by)
             VALUES ('tre_aquiloni', 'A01', 'other', '2026-03-10', 'Carla')",
        )
        .await;
    let approve = ["outbox", "approve", "--all", "--reason", "looked at"];
    let notice = "SELECT notice_id::text FROM dunning.notice WHERE account_id = 'A01'";
    let notice = office.lines(notice).await.remove(0);
    let put_off = format!(
        "Notice {notice} (account A01) not approved: last counted contact 2026-03-10, at most 1 per 7 days, 4 per 30 days. \
         Its text is true until 2026-03-15 only; a scan from 2026-03-17 on decides again.\n"
    );
    let said = program.run(&approve).await.done();
    assert_eq!(said, format!("1 notice approved and queued.\n{put_off}"));
    let nothing = program.run(&approve).await;
    assert_eq!((nothing.exit, nothing.out), (5, format!("0 notices approved and queued.\n{put_off}")));
    let run = office.lines("SELECT run_id::text FROM dunning.run").await.remove(0);
    let nothing = program.run(&["outbox", "approve", "--run", &run, "--reason", "looked at"]).await;
    let open = format!("Run {run} is not approved yet: 1 notice of it waits on.\n");
    assert_eq!((nothing.exit, nothing.out), (5, format!("0 notices approved and queued.\n{put_off}{open}")));
}
