//! The ledger as it stood, and a clock that stands on that day.

use dunningd::daemon::ScanRequest;
use mail_parser::MessageParser;

use crate::support::shell::{Office, day, day_plus};

#[tokio::test]
async fn a_scan_as_of_a_day_sees_the_ledger_of_that_day_and_counts_its_stages_on_it() {
    let mut office = Office::new().await;
    // Looked at from today, half a year later, everything is paid.
    office.account("A1", "it", "conti@alfa.test").await;
    office.invoice("I1", "A1", 6, "100.00 EUR").await;
    office.invoice("I2", "A1", 8, "80.00 EUR").await;
    office
        .sql(
            "UPDATE ledger.item SET open_amount = 0, settled_on = '2026-03-20' WHERE item_id = 'I1';
             UPDATE ledger.item SET open_amount = 0, settled_on = '2026-04-30' WHERE item_id = 'I2';
             INSERT INTO ledger.settlement VALUES ('I2', '2026-03-09', 30), ('I2', '2026-04-30', 50)",
        )
        .await;
    office.go_to(day_plus(180)).await;
    assert_eq!(office.verdicts().await, ["A1 nothing_open"]);

    let mut sent = Vec::new();
    for n in 0..=20 {
        let request = ScanRequest { as_of: Some(day_plus(n)), ..Office::request() };
        office.scan_as(&request).await.unwrap();
        let done = office.deliver().await;
        if done.accepted > 0 {
            sent.push(day_plus(n).to_string());
        }
    }
    assert_eq!(sent, ["2026-03-10", "2026-03-19"]);
    let notices = office
        .lines(
            "SELECT concat_ws(' ', n.stage, n.business_date, n.accepted_on, n.counted_on,
                 string_agg(i.item_id || '=' || i.to_pay, ',' ORDER BY i.item_id))
             FROM dunning.notice n JOIN dunning.notice_item i USING (notice_id)
             GROUP BY n.notice_id ORDER BY n.business_date",
        )
        .await;
    assert_eq!(
        notices,
        [
            "friendly 2026-03-10 2026-03-10 2026-03-10 I1=100,I2=50",
            "firm 2026-03-19 2026-03-19 2026-03-19 I1=100,I2=50",
        ]
    );
    let message = office.smtp.messages().remove(0);
    let message = MessageParser::default().parse(&message.bytes).unwrap();
    assert_eq!(message.date().unwrap().to_rfc3339(), "2026-03-10T10:00:00+01:00");
    // Nothing of today's ledger was touched by it.
    assert_eq!(office.count("dunning.known_item WHERE state = 'withdrawn'").await, 0);
    office.verified().await;
}

#[tokio::test]
async fn freshness_and_the_last_run_do_not_bind_a_scan_as_of_a_day() {
    let mut office = Office::new().await;
    office.accounts(1).await;
    office.go_to(day_plus(1)).await;
    office.scan().await;
    office.deliver().await;
    office.sql("DELETE FROM ledger.freshness").await;
    let request = ScanRequest { as_of: Some(day()), dry_run: true, ..Office::request() };
    let (report, _) = office.scan_as(&request).await.unwrap();
    assert_eq!(report.runs[0].business_date, day());
    // On that day the letter of the day after was still to come.
    assert_eq!(report.total.contacted, 1);
}

#[tokio::test]
async fn in_production_nothing_is_sent_as_of_another_day() {
    // The shipped creditors have invented addresses, which production refuses.
    let office = Office::new().await;
    office.accounts(1).await;
    let mut live = std::sync::Arc::into_inner(office.shell.live.swap(Office::new().await.shell.live())).unwrap();
    live.config.service.environment = dunningd::config::Environment::Production;
    office.shell.live.store(std::sync::Arc::new(live));
    let request = ScanRequest { as_of: Some(day()), ..Office::request() };
    let error = office.scan_as(&request).await.unwrap_err();
    assert_eq!(error.to_string(), "sending with --as-of is refused when environment is \"production\"; add --dry-run");
    assert_eq!(office.count("dunning.run").await, 0);
    let dry = ScanRequest { dry_run: true, ..request };
    assert_eq!(office.scan_as(&dry).await.unwrap().0.total.contacted, 1);
}

#[tokio::test]
async fn what_came_after_the_day_does_not_count() {
    let office = Office::new().await;
    office.accounts(1).await;
    office.sql("UPDATE ledger.item SET disputed_since = '2026-04-01'").await;
    let request = ScanRequest { as_of: Some(day()), ..Office::request() };
    office.scan_as(&request).await.unwrap();
    assert_eq!(office.deliver().await.accepted, 1);
}

#[tokio::test]
async fn a_write_off_after_the_day_does_not_count_either() {
    let office = Office::new().await;
    office.accounts(1).await;
    office.sql("UPDATE ledger.item SET written_off_on = '2026-04-01'").await;
    let request = ScanRequest { as_of: Some(day()), ..Office::request() };
    office.scan_as(&request).await.unwrap();
    assert_eq!(office.deliver().await.accepted, 1);
}

#[tokio::test]
async fn a_hold_and_a_hand_over_of_a_later_day_do_not_count() {
    let mut office = Office::new().await;
    office.accounts(2).await;
    office.go_to(day_plus(30)).await;
    office
        .sql(
            "INSERT INTO dunning.hold (account_id, reason, since, placed_by)
             VALUES ('A01', 'a court case', '2026-04-01', 'Carla');
             INSERT INTO dunning.handover (creditor, account_id, handed_to, reason, since, handed_by)
             VALUES ('tre_aquiloni', 'A02', 'Studio Legale', 'no answer', '2026-04-01', 'Carla')",
        )
        .await;
    assert_eq!(office.verdicts().await, ["A01 account_hold", "A02 handed_over"]);
    let request = ScanRequest { as_of: Some(day()), dry_run: true, ..Office::request() };
    assert_eq!(office.scan_as(&request).await.unwrap().0.total.contacted, 2);
}

#[tokio::test]
async fn what_was_recorded_where_the_clock_is_a_day_ahead_counts_at_once_and_not_for_the_day_before() {
    let office = Office::new().await;
    office.accounts(10).await;
    office
        .sql(
            "INSERT INTO dunning.hold (account_id, reason, since, placed_by) VALUES ('A01', 'x', '2026-03-11', 'x');
             INSERT INTO dunning.handover (creditor, account_id, handed_to, reason, since, handed_by)
                 VALUES ('tre_aquiloni', 'A02', 'x', 'x', '2026-03-11', 'x');
             INSERT INTO dunning.waiver (account_id, item_id, stage, waived_on, reason, waived_by, since)
                 VALUES ('A03', 'I03', 'friendly', '2026-03-11', 'x', 'x', '2026-03-11');
             WITH p AS (INSERT INTO dunning.promise (creditor, account_id, amount, currency, made_on, by_day,
                     tolerance_days, reason, made_by)
                 VALUES ('tre_aquiloni', 'A04', 100, 'EUR', '2026-03-11', '2026-03-20', 1, 'x', 'x') RETURNING promise_id)
                 INSERT INTO dunning.promise_item (promise_id, item_id, open_then) SELECT promise_id, 'I04', 100 FROM p;
             INSERT INTO dunning.write_off (creditor, account_id, item_id, reason, since, written_off_by)
                 VALUES ('tre_aquiloni', 'A05', 'I05', 'x', '2026-03-11', 'x');
             INSERT INTO dunning.cause (creditor, account_id, cause, reason, since, recorded_by)
                 VALUES ('tre_aquiloni', 'A06', 'insolvency', 'x', '2026-03-11', 'x');
             INSERT INTO dunning.contact_entry (creditor, account_id, contact_id, no_email, reason, since, entered_by)
                 VALUES ('tre_aquiloni', 'A07', 'A07-1', true, 'x', '2026-03-11', 'x');
             INSERT INTO dunning.call (creditor, account_id, outcome, called_on, called_by)
                 VALUES ('tre_aquiloni', 'A08', 'no_answer', '2026-03-11', 'x');
             WITH p AS (INSERT INTO dunning.plan (version, creditor, account_id, currency, agreed_on, tolerance_days,
                     on_missed, reason, agreed_by)
                 VALUES (1, 'tre_aquiloni', 'A09', 'EUR', '2026-03-11', 1, 'all', 'x', 'x') RETURNING plan_id),
             part AS (INSERT INTO dunning.plan_instalment (plan_id, version, number, due_on, amount)
                 SELECT plan_id, 1, 1, '2026-03-31', 100 FROM p)
                 INSERT INTO dunning.plan_item (plan_id, version, item_id, open_then) SELECT plan_id, 1, 'I09', 100 FROM p;
             WITH p AS (INSERT INTO dunning.plan (version, creditor, account_id, currency, agreed_on, tolerance_days,
                     on_missed, reason, agreed_by, ended_on, ended_by, ended_at, ended_reason)
                 VALUES (1, 'tre_aquiloni', 'A10', 'EUR', '2026-03-01', 1, 'all', 'x', 'x', '2026-03-11', 'x',
                     clock_timestamp(), 'x') RETURNING plan_id),
             part AS (INSERT INTO dunning.plan_instalment (plan_id, version, number, due_on, amount)
                 SELECT plan_id, 1, 1, '2026-03-31', 100 FROM p)
                 INSERT INTO dunning.plan_item (plan_id, version, item_id, open_then) SELECT plan_id, 1, 'I10', 100 FROM p",
        )
        .await;
    let verdicts = async |as_of| {
        let request = ScanRequest { as_of, dry_run: true, ..Office::request() };
        let (_, decisions) = office.scan_as(&request).await.unwrap();
        decisions.iter().map(|one| format!("{} {}", one.account, one.code())).collect::<Vec<_>>()
    };
    assert_eq!(
        verdicts(None).await,
        [
            "A01 account_hold",
            "A02 handed_over",
            "A03 too_soon",
            "A04 all_items_out",
            "A05 all_items_out",
            "A06 account_hold",
            "A07 no_address",
            "A08 contact_cap",
            "A09 all_items_out",
            "A10 contact",
        ]
    );
    let mut contacts: Vec<String> = (1..=9).map(|n| format!("A{n:02} contact")).collect();
    contacts.push("A10 all_items_out".to_owned());
    assert_eq!(verdicts(Some(day())).await, contacts);
}

#[tokio::test]
async fn a_contact_counts_for_its_mailbox_whatever_day_it_was_where_it_was_made() {
    let office = Office::new().await;
    office.accounts(1).await;
    office.scan().await;
    assert_eq!(office.deliver().await.accepted, 1);
    office.account("A02", "it", "conti@a01.test").await;
    office.invoice("I02", "A02", 6, "100.00 EUR").await;
    office.sql("UPDATE dunning.notice SET creditor = 'quattro_aquiloni', counted_on = '2026-03-11'").await;
    assert_eq!(office.verdicts().await[1], "A02 contact_cap");
}
