//! Runs: what is decided, written and sent, and what is refused.

use std::time::Duration;

use dunningd::daemon::{self, Page, ScanError, ScanRequest};
use dunningd::model::{CreditorId, Decision, RefusalCode};
use mail_parser::{MessageParser, MimeHeaders as _};

use crate::support::shell::{Office, Setup, day, day_plus};

/// Every table of ours, with the number of its rows.
async fn row_counts(office: &Office) -> Vec<String> {
    let tables =
        office.lines("SELECT tablename::text FROM pg_tables WHERE schemaname = 'dunning' ORDER BY tablename").await;
    let mut counts = Vec::new();
    for table in tables {
        counts.push(format!("{table} {}", office.count(&format!("dunning.{table}")).await));
    }
    counts
}

#[tokio::test]
async fn one_scan_and_one_delivery_send_one_mail_per_account_and_the_log_verifies() {
    let office = Office::new().await;
    office.accounts(3).await;
    let run = office.scan().await;
    assert_eq!((run.totals.considered, run.totals.contacted, run.queued), (3, 3, 3));
    let done = office.deliver().await;
    assert_eq!((done.accepted, done.all_accepted()), (3, true));
    let mut to: Vec<String> = office.smtp.messages().into_iter().flat_map(|message| message.to).collect();
    to.sort();
    assert_eq!(to, ["conti@a01.test", "conti@a02.test", "conti@a03.test"]);
    assert_eq!(office.notices().await, ["A01 friendly accepted", "A02 friendly accepted", "A03 friendly accepted"]);
    // run_started, three cases and plans, run_completed, three replies.
    assert_eq!(office.verified().await, 11);
}

#[tokio::test]
async fn the_relay_gets_exactly_the_bytes_that_were_frozen() {
    let office = Office::new().await;
    office.accounts(2).await;
    // A line that begins with a dot is the one thing that a transport changes on the way.
    office.sql("UPDATE ledger.item SET payment_reference = '.a' || item_id").await;
    office.scan().await;
    office.deliver().await;
    for message in office.smtp.messages() {
        let frozen: Vec<u8> = sqlx::query_scalar("SELECT bytes FROM dunning.message WHERE recipient = $1")
            .bind(&message.to[0])
            .fetch_one(&office.hand)
            .await
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&message.bytes), String::from_utf8_lossy(&frozen));
        assert_eq!(message.from, "solleciti@tre-aquiloni.test");
    }
    assert_eq!(office.smtp.messages().len(), 2);
}

#[tokio::test]
async fn a_second_scan_of_the_same_day_sends_nothing_and_gives_a_reason_for_each_account() {
    let office = Office::new().await;
    office.accounts(3).await;
    office.scan().await;
    assert_eq!(office.verdicts().await, ["A01 notice_pending", "A02 notice_pending", "A03 notice_pending"]);
    office.deliver().await;
    assert_eq!(office.verdicts().await, ["A01 too_soon", "A02 too_soon", "A03 too_soon"]);
    assert_eq!(office.deliver().await.accepted, 0);
    assert_eq!(office.smtp.received().len(), 3);
    office.verified().await;
}

#[tokio::test]
async fn what_is_not_due_is_only_counted_and_every_answer_is_the_one_that_reading_it_gives() {
    let office = Office::new().await;
    office.accounts(8).await;
    for n in 1..=8 {
        office.invoice(&format!("N{n:02}"), &format!("A{n:02}"), -10, "50.00 EUR").await;
        office.invoice(&format!("O{n:02}"), &format!("A{n:02}"), -20, "60.00 EUR").await;
    }
    office
        .sql(
            "INSERT INTO ledger.item (item_id, account_id, kind, document_no, issue_date, currency, amount, open_amount)
             VALUES ('C02', 'A02', 'credit_note', 'NC 2', '2026-03-01', 'EUR', -30, -30);
             UPDATE ledger.item SET disputed_since = '2026-03-01' WHERE item_id = 'N03';
             UPDATE ledger.item SET payee = 'Factoring Nord' WHERE item_id = 'N04';
             UPDATE ledger.item SET hold_until = '2026-12-31', hold_reason = 'asked for' WHERE item_id = 'N05';
             UPDATE ledger.item SET open_amount = 0, settled_on = '2026-03-09' WHERE item_id = 'I06';
             UPDATE ledger.item SET direct_debit_on = due_date WHERE item_id = 'N07';
             INSERT INTO dunning.cause (creditor, account_id, cause, reason, since, recorded_by)
             VALUES ('tre_aquiloni', 'A08', 'cash_problem', 'says so', '2026-03-01', 'Tessa')",
        )
        .await;
    let listed = |decision: &Decision| decision.items.iter().map(|one| one.item.to_string()).collect::<Vec<_>>();
    for listed_of_first in [["I01"], ["I01"]] {
        let (_, decisions) = office.scan_as(&ScanRequest { dry_run: true, ..Office::request() }).await.unwrap();
        assert_eq!(decisions.len(), 8);
        for scanned in &decisions {
            let (snapshot, read) = daemon::look_at(&office.shell, &scanned.account, None).await.unwrap();
            assert_eq!(snapshot.not_due.items, 0, "one account is read to its last item");
            assert_eq!(scanned.verdict, read.verdict, "{}", scanned.account);
            assert_eq!((scanned.case, &scanned.tasks), (read.case, &read.tasks), "{}", scanned.account);
            assert_eq!(scanned.digest(), read.digest(), "{}", scanned.account);
        }
        assert_eq!(listed(&decisions[0]), listed_of_first);
        let none: [&str; 0] = [];
        assert_eq!(listed(&decisions[5]), none);
        assert_eq!(decisions[5].code(), "not_overdue");
        assert_eq!(listed(&decisions[1]), ["C02", "I02", "N02", "O02"]);
        assert_eq!(listed(&decisions[2]), ["I03", "N03"]);
        assert_eq!(listed(&decisions[3]), ["I04", "N04"]);
        assert_eq!(listed(&decisions[4]), ["I05", "N05"]);
        assert_eq!(listed(&decisions[6]), ["I07", "N07"]);
        assert_eq!(listed(&decisions[7]), ["I08", "N08", "O08"]);
        office.scan().await;
    }
}

#[tokio::test]
async fn an_item_of_a_notice_on_its_way_is_read_also_when_its_due_date_moved() {
    let office = Office::new().await;
    office.accounts(1).await;
    office.scan().await;
    office.sql("UPDATE ledger.item SET due_date = '2026-04-30'").await;
    let (_, decisions) = office.scan_as(&ScanRequest { dry_run: true, ..Office::request() }).await.unwrap();
    assert_eq!(decisions[0].items.len(), 1);
    office.sql("UPDATE dunning.notice SET state = 'cancelled'").await;
    let (_, decisions) = office.scan_as(&ScanRequest { dry_run: true, ..Office::request() }).await.unwrap();
    assert_eq!((decisions[0].items.len(), decisions[0].code()), (0, "not_overdue"));
}

#[tokio::test]
async fn where_a_ladder_writes_before_the_due_day_every_item_is_read() {
    let before_due = ("days = -3\nenabled = false", "days = -3\nenabled = true");
    let office = Office::with(Setup { policy: vec![before_due], ..Setup::default() }).await;
    office.accounts(1).await;
    office.invoice("N01", "A01", -10, "50.00 EUR").await;
    let (_, decisions) = office.scan_as(&ScanRequest { dry_run: true, ..Office::request() }).await.unwrap();
    assert_eq!(decisions[0].items.len(), 2);
}

#[tokio::test]
async fn a_scan_every_minute_leaves_one_row_per_changed_decision() {
    let office = Office::new().await;
    office.accounts(1).await;
    for _ in 0..5 {
        office.scan().await;
        office.deliver().await;
    }
    assert_eq!(office.smtp.received().len(), 1);
    assert_eq!(office.lines("SELECT code FROM dunning.decision ORDER BY decision_id").await, ["contact", "too_soon"]);
}

#[tokio::test]
async fn a_dry_run_decides_like_a_live_one_and_writes_nothing() {
    let office = Office::new().await;
    office.accounts(3).await;
    // One of each: held, below the minimum, without an address, in a language without letters, with a shared mailbox.
    office.account("B1", "de", "conti@a01.test").await;
    office.invoice("J1", "B1", 20, "500.00 EUR").await;
    office.account("B2", "it", "presso@b2.test, altro@b2.test").await;
    office.invoice("J2", "B2", 20, "500.00 EUR").await;
    office.account("B3", "it", "conti@b3.test").await;
    office.invoice("J3", "B3", 20, "5.00 EUR").await;
    office.sql("UPDATE ledger.account SET hold_reason = 'reclamo' WHERE account_id = 'A02'").await;
    let before = row_counts(&office).await;
    let dry = ScanRequest { dry_run: true, ..Office::request() };
    let (dry_report, dry_decisions) = office.scan_as(&dry).await.unwrap();
    assert_eq!(row_counts(&office).await, before);
    let (live_report, live_decisions) = office.scan_as(&Office::request()).await.unwrap();
    assert_eq!(dry_decisions, live_decisions);
    let (dry_run, live_run) = (&dry_report.runs[0], &live_report.runs[0]);
    assert_eq!((&dry_run.digest, &dry_run.totals), (&live_run.digest, &live_run.totals));
    assert_eq!((dry_run.run, dry_run.queued, live_run.queued), (None, 0, 2));
    let codes: Vec<&str> = live_decisions.iter().map(dunningd::model::Decision::code).collect();
    assert_eq!(codes, ["shared_mailbox", "account_hold", "contact", "contact", "no_address", "below_minimum"]);
}

#[tokio::test]
async fn a_business_date_before_the_last_completed_run_is_refused() {
    let mut office = Office::new().await;
    office.accounts(1).await;
    office.go_to(day_plus(1)).await;
    office.scan().await;
    office.go_to(day()).await;
    let error = office.scan_as(&Office::request()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "creditor tre_aquiloni: the run was refused: before_last_run: the business date 2026-03-10 is before the last \
         completed run, 2026-03-11; is the clock right?"
    );
}

#[tokio::test]
async fn forty_days_of_scans_send_each_item_each_stage_once_and_in_order() {
    let mut office = Office::new().await;
    office.account("A1", "it", "conti@alfa.test").await;
    office.account("A2", "pl", "kasa@beta.test").await;
    office.invoice("I1", "A1", 0, "400.00 EUR").await;
    office.invoice("I2", "A1", -9, "300.00 EUR").await;
    office.invoice("I3", "A2", -2, "700.00 EUR").await;
    for n in 0..=40 {
        office.go_to(day_plus(n)).await;
        office.scan().await;
        office.deliver().await;
    }
    let sent = office
        .lines(
            "SELECT concat_ws(' ', n.accepted_on, n.account_id, n.stage, string_agg(i.item_id || ':' || i.stage, ','
                 ORDER BY i.item_id))
             FROM dunning.notice n JOIN dunning.notice_item i USING (notice_id) WHERE n.state = 'accepted'
             GROUP BY n.notice_id ORDER BY n.accepted_on, n.account_id",
        )
        .await;
    // The 15th of March is a Sunday. I1 could be firm on the 25th, but the cap lets one letter a week through, and four
    // in thirty days: the fifth waits from the 14th to the 15th of April.
    assert_eq!(
        sent,
        [
            "2026-03-16 A1 friendly I1:friendly",
            "2026-03-17 A2 friendly I3:friendly",
            "2026-03-24 A1 friendly I2:friendly",
            "2026-03-26 A2 firm I3:firm",
            "2026-03-31 A1 firm I1:firm",
            "2026-04-07 A1 firm I2:firm",
            "2026-04-09 A2 final I3:final",
            "2026-04-15 A1 final I1:final",
        ]
    );
    let repeated = "(SELECT item_id, stage FROM dunning.notice_item GROUP BY 1, 2 HAVING count(*) > 1) AS twice";
    assert_eq!(office.count(repeated).await, 0);
    office.verified().await;
}

#[tokio::test]
async fn two_thousand_open_invoices_are_one_mail_with_ten_rows_totals_and_all_of_them_attached() {
    let office = Office::new().await;
    office.account("A1", "en", "accounts@alpha.test").await;
    office
        .sql(format!(
            "INSERT INTO ledger.item (item_id, account_id, kind, document_no, issue_date, due_date, currency, amount,
                                      open_amount)
             SELECT 'I' || to_char(n, 'FM0000'), 'A1', 'invoice', 'INV-' || to_char(n, 'FM0000'), date '{0}' - 70 - n / 20,
                    date '{0}' - 40 - n / 20, 'EUR', 10 + n / 100.0, 10 + n / 100.0
             FROM generate_series(1, 2602) AS n",
            day()
        ))
        .await;
    let run = office.scan().await;
    assert_eq!(run.queued, 1);
    assert_eq!(office.count("dunning.notice_item").await, 2602);
    assert_eq!(office.deliver().await.accepted, 1);
    let received = office.smtp.messages();
    assert_eq!(received.len(), 1);
    let message = MessageParser::default().parse(&received[0].bytes).unwrap();
    assert_eq!(message.subject(), Some("Payment reminder: 2,602 open items"));
    let text = message.body_text(0).unwrap();
    let printed: Vec<&str> = text.split_whitespace().filter(|word| word.starts_with("INV-")).collect();
    // The three that fell due first, and of the twenty that follow them the seven lowest ids.
    let oldest: Vec<String> = (2580..=2586).chain(2600..=2602).map(|n| format!("INV-{n}")).collect();
    let mut sorted = printed.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, oldest);
    // 2602 × 10 + (1 + … + 2602) / 100
    assert!(text.contains("59,885.03"), "{text}");
    assert_eq!(message.attachment_count(), 1);
    let file = message.attachment(0).unwrap();
    assert_eq!(file.attachment_name(), Some("open-items-A1.csv"));
    let rows = String::from_utf8_lossy(file.contents()).lines().filter(|line| line.contains("INV-")).count();
    assert_eq!(rows, 2602);
}

#[tokio::test]
async fn one_account_that_cannot_be_recorded_keeps_nobody_else_from_it() {
    let office = Office::new().await;
    office.accounts(4).await;
    office
        .sql(
            "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN RAISE EXCEPTION 'no room for this row'; END $$;
             CREATE TRIGGER refuse BEFORE INSERT ON dunning.notice_item FOR EACH ROW WHEN (NEW.item_id = 'I02')
             EXECUTE FUNCTION public.refuse()",
        )
        .await;
    let run = office.scan().await;
    let failures: Vec<String> = run.failures.iter().map(|(account, error)| format!("{account}: {error}")).collect();
    assert_eq!(failures, ["A02: database: no room for this row (P0001)"]);
    assert_eq!(office.tasks().await, ["A02 not_recorded"]);
    assert_eq!(run.queued, 3);
    assert_eq!(office.deliver().await.accepted, 3);
    assert_eq!(office.count("dunning.decision WHERE account_id = 'A02'").await, 0);
    let told = "SELECT (convert_from(bytes, 'UTF8')::jsonb -> 'event' -> 'facts' -> 'unrecorded')::text
                FROM dunning.event WHERE kind = 'run_completed'";
    assert_eq!(office.lines(told).await, [r#"["A02"]"#]);
    office.verified().await;

    // Whatever was in the way is gone: the account is decided on as if nothing had been.
    office.sql("DROP TRIGGER refuse ON dunning.notice_item").await;
    assert_eq!(office.verdicts().await, ["A01 too_soon", "A02 contact", "A03 too_soon", "A04 too_soon"]);
}

#[tokio::test]
async fn stale_payments_refuse_the_whole_run() {
    let office = Office::new().await;
    office.accounts(2).await;
    // The creditor's last working day was Monday; of two sources one has not all of its payments.
    office
        .sql(
            "INSERT INTO ledger.freshness (source, creditor, invoices_as_of, payments_as_of)
             SELECT 'old bank', creditor, invoices_as_of, '2026-03-09 22:59Z' FROM ledger.freshness",
        )
        .await;
    let error = office.scan_as(&Office::request()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "creditor tre_aquiloni: the run was refused: stale_ledger: payments are known up to 2026-03-09 23:59 CET, and \
         2026-03-10 00:00 CET is needed; import newer payments and scan again (stale in ledger.freshness: old bank; a \
         source that imports no more has to leave it)"
    );
    assert_eq!(office.lines("SELECT concat_ws(' ', state, reason) FROM dunning.run").await, ["refused stale_ledger"]);
    assert_eq!(office.events().await, ["run_refused"]);
    assert_eq!(office.count("dunning.decision").await + office.count("dunning.known_item").await, 0);
    office.sql("UPDATE ledger.freshness SET payments_as_of = '2026-03-09 23:00Z'").await;
    assert_eq!(office.scan().await.queued, 2);
}

#[tokio::test]
async fn a_schedule_that_asks_every_minute_is_refused_once_per_reason() {
    let office = Office::new().await;
    office.accounts(1).await;
    let scheduled = ScanRequest { scheduled: true, ..Office::request() };
    office.sql("UPDATE ledger.freshness SET payments_as_of = '2026-03-09 22:59Z'").await;
    for _ in 0..3 {
        assert!(matches!(
            office.scan_as(&scheduled).await,
            Err(ScanError::Refused { code: RefusalCode::StaleLedger, .. })
        ));
    }
    assert_eq!(office.events().await, ["run_refused"]);
    // A person who asks is answered, and that is written down.
    office.scan_as(&Office::request()).await.unwrap_err();
    assert_eq!(office.count("dunning.run").await, 2);
    office.sql("UPDATE ledger.freshness SET payments_as_of = '2026-03-09 23:00Z'").await;
    assert_eq!(office.scan_as(&scheduled).await.unwrap().0.runs[0].queued, 1);
    office.verified().await;
}

#[tokio::test]
async fn a_ledger_that_loses_half_of_it_while_a_run_begins_is_not_believed() {
    let mut office = Office::new().await;
    office.accounts(50).await;
    office.scan().await;
    office.go_to(day_plus(1)).await;
    // The run has looked at the ledger, and waits to write down which item is gone before it looks again.
    office.sql("DELETE FROM ledger.item WHERE item_id = 'I01'").await;
    let mut import = office.hand.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE dunning.known_item IN SHARE MODE; DELETE FROM ledger.item WHERE item_id > 'I25'")
        .execute(&mut *import)
        .await
        .unwrap();
    let request = Office::request();
    let import = async {
        while office.count("pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()").await
            == 0
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        import.commit().await.unwrap();
    };
    let (scanned, ()) = tokio::join!(office.scan_as(&request), import);
    assert_eq!(
        scanned.unwrap_err().to_string(),
        "creditor tre_aquiloni: the run was refused: ledger_shrunk: 25 of 49 open items are gone at once (limit 20); look \
         at the source of the ledger; if it is right, `dunningd scan --creditor tre_aquiloni --accept-ledger --reason …` \
         goes on with it once"
    );
    assert_eq!(office.count("dunning.run WHERE state = 'failed'").await, 1);
    assert_eq!(office.count("dunning.known_item WHERE state = 'open'").await, 49);
    assert_eq!(office.count("dunning.debt_case WHERE closed_on IS NULL").await, 50);
    assert_eq!(office.events().await.last().unwrap(), "run_failed");
    office.verified().await;
}

#[tokio::test]
async fn a_ledger_that_does_not_say_how_current_it_is_refuses_the_run() {
    let office = Office::new().await;
    office.accounts(1).await;
    office.sql("UPDATE ledger.freshness SET creditor = 'trzy_latawce'").await;
    let error = office.scan_as(&Office::request()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "creditor tre_aquiloni: the run was refused: stale_ledger: ledger.freshness has no row for this creditor, or one \
         with a time that cannot be, so nobody knows which payments are in"
    );
}

#[tokio::test]
async fn each_letter_is_in_the_language_of_its_account() {
    let office = Office::new().await;
    for (id, language) in [("A1", "it-CH"), ("A2", "pl"), ("A3", "ru"), ("A4", "en-GB"), ("A5", "de")] {
        office.account(id, language, &format!("conti@{}.test", id.to_lowercase())).await;
        office.invoice(&format!("I{id}"), id, 6, "100.00 EUR").await;
    }
    office.scan().await;
    office.deliver().await;
    let mut mails: Vec<(String, String, String)> = Vec::new();
    for received in office.smtp.messages() {
        let message = MessageParser::default().parse(&received.bytes).unwrap();
        let language = message.header_raw("Content-Language").unwrap().trim().to_owned();
        mails.push((received.to[0].clone(), language, message.subject().unwrap().to_owned()));
    }
    mails.sort();
    let mails: Vec<String> = mails.iter().map(|(to, language, subject)| format!("{to} {language} {subject}")).collect();
    // German is not among the languages of the policy: the account's country decides.
    assert_eq!(
        mails,
        [
            "conti@a1.test it Fattura n. FT IA1: promemoria di pagamento",
            "conti@a2.test pl Faktura nr FT IA2: przypomnienie o płatności",
            "conti@a3.test ru Счёт № FT IA3: напоминание об оплате",
            "conti@a4.test en Invoice FT IA4: payment reminder",
            "conti@a5.test it Fattura n. FT IA5: promemoria di pagamento",
        ]
    );
}

#[tokio::test]
async fn the_second_stage_answers_the_first() {
    let mut office = Office::new().await;
    office.accounts(1).await;
    office.scan().await;
    office.deliver().await;
    office.go_to(day_plus(13)).await;
    office.scan().await;
    office.deliver().await;
    // The day before is Easter Monday.
    office.go_to(day_plus(28)).await;
    office.scan().await;
    office.deliver().await;
    let mails = office.smtp.messages();
    assert_eq!(office.notices().await, ["A01 friendly accepted", "A01 firm accepted", "A01 final accepted"]);
    let headers = |n: usize| {
        let message = MessageParser::default().parse(&mails[n].bytes).unwrap();
        let raw =
            |name: &str| message.header_raw(name).map(|value| value.split_whitespace().collect::<Vec<_>>().join(" "));
        (raw("In-Reply-To"), raw("References"))
    };
    let (first, second) = (mails[0].message_id.clone(), mails[1].message_id.clone());
    assert_eq!(headers(0), (None, None));
    assert_eq!(headers(1), (Some(first.clone()), Some(first.clone())));
    assert_eq!(headers(2), (Some(second.clone()), Some(format!("{first} {second}"))));
}

#[tokio::test]
async fn forty_accounts_with_one_mailbox_are_one_notice_and_one_task() {
    let mut office = Office::new().await;
    for n in 1..=40 {
        office.account(&format!("A{n:02}"), "it", "Sede@gruppo.test").await;
        office.invoice(&format!("I{n:02}"), &format!("A{n:02}"), 6, "100.00 EUR").await;
    }
    let run = office.scan().await;
    assert_eq!((run.queued, run.totals.reasons.get("shared_mailbox")), (1, Some(&39)));
    assert_eq!(office.deliver().await.accepted, 1);
    assert_eq!(office.tasks().await, ["shared_mailbox"]);
    // The same day once more, and the next: the mailbox has had its letter.
    assert_eq!(office.scan().await.queued, 0);
    office.go_to(day_plus(1)).await;
    assert_eq!(office.scan().await.queued, 0);
    office.go_to(day_plus(7)).await;
    assert_eq!(office.scan().await.queued, 1);
    assert_eq!(office.tasks().await, ["shared_mailbox"]);
}

#[tokio::test]
async fn who_has_waited_longest_for_a_shared_mailbox_comes_first() {
    let mut sent = Vec::new();
    for page in [Page(1), Page::default()] {
        let mut office = Office::new().await;
        // Written in an order that is not theirs.
        for n in [2, 3, 1] {
            office.account(&format!("A{n:02}"), "it", "sede@gruppo.test").await;
            office.invoice(&format!("I{n:02}"), &format!("A{n:02}"), 6, "100.00 EUR").await;
        }
        for week in 0..4 {
            office.go_to(day_plus(7 * week)).await;
            office.scan_as(&ScanRequest { page, ..Office::request() }).await.unwrap();
            office.deliver().await;
        }
        sent.push(office.notices().await);
        assert_eq!(
            sent[0],
            ["A01 friendly accepted", "A02 friendly accepted", "A03 friendly accepted", "A01 firm accepted"]
        );
    }
    assert_eq!(sent[0], sent[1]);
}

#[tokio::test]
async fn the_task_about_a_shared_mailbox_counts_who_owes() {
    // Settled says the ledger, whatever is open; on the first day that was still to come.
    for (as_of, owing) in [(None, 4), (Some(day()), 6)] {
        let mut office = Office::new().await;
        for n in 1..=6 {
            office.account(&format!("A{n:02}"), "it", "sede@gruppo.test").await;
            office.invoice(&format!("I{n:02}"), &format!("A{n:02}"), 6, "100.00 EUR").await;
        }
        office
            .sql(
                "UPDATE ledger.item SET settled_on = '2026-03-11' WHERE item_id > 'I04';
                 UPDATE ledger.item SET open_amount = 0 WHERE item_id = 'I06'",
            )
            .await;
        office.go_to(day_plus(1)).await;
        office.scan_as(&ScanRequest { as_of, ..Office::request() }).await.unwrap();
        let told = [format!("{owing} accounts share one mailbox")];
        assert_eq!(office.lines("SELECT text FROM dunning.task").await, told);
    }
    let office = Office::new().await;
    for n in 1..=6 {
        office.account(&format!("A{n:02}"), "it", "sede@gruppo.test").await;
    }
    office.invoice("I01", "A01", 6, "100.00 EUR").await;
    office.scan().await;
    assert_eq!(office.tasks().await, [""; 0]);
}

#[tokio::test]
async fn a_mailbox_that_a_person_entered_is_shared_like_one_of_the_ledger() {
    for change in [
        "INSERT INTO dunning.contact_data (entry_id, email, salt) VALUES (1, 'CONTI@A01.test', '')",
        "UPDATE ledger.contact SET email = 'conti@a01.test', no_email = true WHERE account_id = 'A02';
         INSERT INTO dunning.contact_data (entry_id, salt) VALUES (1, '')",
    ] {
        let office = Office::new().await;
        office.accounts(2).await;
        office
            .sql(
                "INSERT INTO dunning.contact_entry (creditor, account_id, contact_id, no_email, reason, since, entered_by)
                 VALUES ('tre_aquiloni', 'A02', 'A02-1', false, 'telephone', '2026-03-10', 'Carla')",
            )
            .await;
        office.sql(change).await;
        assert_eq!(office.verdicts().await, ["A01 contact", "A02 shared_mailbox"], "{change}");
    }
}

#[tokio::test]
async fn what_is_decided_and_its_digest_do_not_depend_on_how_many_accounts_are_on_a_page() {
    let mut found = Vec::new();
    for page in [Page(1), Page(7), Page::default()] {
        let office = Office::new().await;
        office.accounts(20).await;
        // Three that share a mailbox, perhaps on different pages, and one that cannot be reached.
        for id in ["B1", "B2", "B3"] {
            office.account(id, "it", "sede@gruppo.test").await;
            office.invoice(&format!("I{id}"), id, 6, "100.00 EUR").await;
        }
        office.account("C1", "it", "nobody").await;
        office.invoice("IC1", "C1", 6, "100.00 EUR").await;
        let dry = ScanRequest { page, dry_run: true, ..Office::request() };
        let (before, foreseen) = office.scan_as(&dry).await.unwrap();
        let (report, decisions) = office.scan_as(&ScanRequest { page, ..Office::request() }).await.unwrap();
        assert_eq!((&before.runs[0].digest, foreseen), (&report.runs[0].digest, decisions.clone()));
        let events = office.lines("SELECT concat_ws(' ', kind, account_id) FROM dunning.event ORDER BY seq").await;
        found.push((report.runs[0].digest.clone(), report.runs[0].totals.clone(), decisions, events));
    }
    assert_eq!(found[0].0.len(), 64);
    assert_eq!((found[0].1.considered, found[0].1.contacted), (24, 21));
    assert!(found.iter().all(|one| *one == found[0]));
}

#[tokio::test]
async fn the_second_scan_of_a_day_writes_its_run_and_nothing_else() {
    let office = Office::new().await;
    office.accounts(3).await;
    office.scan().await;
    // What the first one queued makes a decision of its own.
    office.scan().await;
    let before = row_counts(&office).await;
    office.scan().await;
    let after = row_counts(&office).await;
    let changed: Vec<&String> = after.iter().filter(|table| !before.contains(table)).collect();
    assert_eq!(changed, ["event 12", "run 3"], "its beginning and its end are events");
    assert_eq!(office.count("dunning.known_item WHERE xmax <> 0").await, 0, "no row was so much as locked");
}

#[tokio::test]
async fn a_scan_of_one_account_says_nothing_about_the_others_and_is_not_the_run_of_the_day() {
    let office = Office::new().await;
    office.accounts(3).await;
    let one = ScanRequest { account: Some(dunningd::model::AccountId::parse("A02").unwrap()), ..Office::request() };
    let (report, decisions) = office.scan_as(&one).await.unwrap();
    assert_eq!((report.total.considered, decisions.len(), report.runs[0].queued), (1, 1, 1));
    let creditor = CreditorId::parse("tre_aquiloni").unwrap();
    let mut connection = office.shell.pool.acquire().await.unwrap();
    let scheduled = dunningd::record::scheduled_run(&mut connection, &creditor).await.unwrap();
    assert_eq!(scheduled, None, "the schedule still owes the day its run");
    assert_eq!(office.scan().await.queued, 2);
    let unknown = ScanRequest { account: Some(dunningd::model::AccountId::parse("Z9").unwrap()), ..Office::request() };
    let error = office.scan_as(&unknown).await.unwrap_err();
    assert!(matches!(&error, ScanError::UnknownAccount(_)), "{error}");
}

#[tokio::test]
async fn two_scans_of_one_creditor_do_not_run_at_once() {
    let office = Office::new().await;
    office.accounts(1).await;
    let creditor = CreditorId::parse("tre_aquiloni").unwrap();
    let lock = dunningd::record::lead(&office.shell.pool, &creditor).await.unwrap().unwrap();
    let error = office.scan_as(&Office::request()).await.unwrap_err();
    assert_eq!(error.to_string(), "creditor tre_aquiloni: another run holds the lock");
    // A dry run disturbs nobody, and nobody disturbs it.
    let dry = ScanRequest { dry_run: true, ..Office::request() };
    assert_eq!(office.scan_as(&dry).await.unwrap().0.total.contacted, 1);
    drop(lock);
}

#[tokio::test]
async fn a_scheduled_run_happens_once_per_date() {
    let office = Office::new().await;
    office.accounts(1).await;
    let scheduled = ScanRequest { scheduled: true, ..Office::request() };
    office.scan_as(&scheduled).await.unwrap();
    let error = office.scan_as(&scheduled).await.unwrap_err();
    assert!(error.to_string().contains("run_once_per_scheduled_date"), "{error}");
    // By hand it may be repeated.
    assert_eq!(office.scan().await.totals.considered, 1);
}

#[tokio::test]
async fn a_letter_can_become_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup { files: Some(folder.path().to_owned()), ..Setup::default() };
    let office = Office::with(setup).await;
    office.accounts(2).await;
    office.scan().await;
    assert_eq!(office.deliver().await.accepted, 2);
    assert_eq!(office.smtp.connections(), 0);
    let mut files = 0;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let id = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let frozen: Vec<u8> = sqlx::query_scalar(
            "SELECT bytes FROM dunning.message JOIN dunning.notice USING (notice_id) WHERE message_id = '<' || $1 || '>'",
        )
        .bind(&id)
        .fetch_one(&office.hand)
        .await
        .unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), frozen);
        files += 1;
    }
    assert_eq!(files, 2);
    office.verified().await;
}

#[tokio::test]
async fn the_scanning_role_can_write_nothing_in_the_ledger() {
    let office = Office::new().await;
    office.accounts(1).await;
    for statement in [
        "INSERT INTO ledger.settlement VALUES ('I01', '2026-03-10', 1)",
        "UPDATE ledger.item SET open_amount = 0",
        "DELETE FROM ledger.contact",
        "TRUNCATE ledger.freshness",
        "CREATE TABLE ledger.mine ()",
        "DROP TABLE ledger.account",
    ] {
        let error = sqlx::query(statement).execute(&office.shell.pool).await.unwrap_err();
        assert_eq!(error.as_database_error().unwrap().code().as_deref(), Some("42501"), "{statement}");
    }
}

#[tokio::test]
async fn holds_that_cannot_be_read_stop_the_run_and_nothing_is_sent_as_if_there_were_none() {
    let office = Office::new().await;
    office.accounts(2).await;
    office.sql("ALTER TABLE dunning.hold RENAME TO out_of_reach").await;
    assert!(office.scan_as(&Office::request()).await.is_err());
    assert_eq!(office.count("dunning.notice").await, 0);
    assert_eq!(office.deliver().await.accepted, 0);
    office.sql("ALTER TABLE dunning.out_of_reach RENAME TO hold").await;
    assert_eq!(office.scan().await.queued, 2);
}
