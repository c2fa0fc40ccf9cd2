//! Between queueing and DATA the world goes on: what it says last counts.

use std::time::Duration;

use dunningd::model::{AccountId, Actor, ItemId};
use dunningd::record;

use crate::support::shell::{Office, Setup, day_plus};
use crate::support::smtp::{Phase, Reply};

fn clerk() -> Actor {
    Actor { os_user: "clerk".into(), person: "Carla".into() }
}

/// One account with one notice in the queue.
async fn queued() -> Office {
    let office = Office::new().await;
    office.accounts(1).await;
    assert_eq!(office.scan().await.queued, 1);
    office
}

/// The queued notice is stopped with that reason, nothing is sent, and the next scan of the day says that.
async fn is_stopped(office: &Office, reason: &str, then: &str) {
    let done = office.deliver().await;
    assert_eq!((done.cancelled, done.accepted), (1, 0), "{reason}");
    assert_eq!(office.notices().await, [format!("A01 friendly cancelled {reason}")]);
    assert_eq!(office.smtp.received().len(), 0);
    assert_eq!(office.count("dunning.notice_item WHERE live").await, 0);
    // It was not a contact: no cap counts it, no stage is done.
    assert_eq!(office.count("dunning.notice WHERE counted_on IS NOT NULL").await, 0);
    assert_eq!(office.verdicts().await, [format!("A01 {then}")]);
    office.verified().await;
}

#[tokio::test]
async fn a_payment_in_the_meantime_stops_the_notice() {
    let office = queued().await;
    office.sql("UPDATE ledger.item SET open_amount = 0, settled_on = '2026-03-10'").await;
    is_stopped(&office, "paid_before_send", "nothing_open").await;
}

#[tokio::test]
async fn a_payment_in_part_stops_the_notice_and_the_next_scan_demands_the_rest() {
    let office = queued().await;
    office.sql("UPDATE ledger.item SET open_amount = 40").await;
    is_stopped(&office, "paid_before_send", "contact").await;
    assert_eq!(office.deliver().await.accepted, 1);
    let text = String::from_utf8_lossy(&office.smtp.messages()[0].bytes).into_owned();
    assert!(text.contains("40,00") && !text.contains("Importo da pagare: 100"), "{text}");
    assert_eq!(office.lines("SELECT to_pay::text FROM dunning.notice_item WHERE live").await, ["40"]);
}

#[tokio::test]
async fn an_unallocated_payment_stops_the_notice() {
    let office = queued().await;
    office
        .sql(
            "INSERT INTO ledger.item (item_id, account_id, kind, document_no, issue_date, currency, amount, open_amount)
             VALUES ('P1', 'A01', 'payment', 'P1', '2026-03-10', 'EUR', -100, -100)",
        )
        .await;
    is_stopped(&office, "ledger_changed", "account_in_credit").await;
}

#[tokio::test]
async fn a_new_invoice_stops_nothing() {
    let office = queued().await;
    office.invoice("I99", "A01", -20, "50.00 EUR").await;
    assert_eq!(office.deliver().await.accepted, 1);
}

#[tokio::test]
async fn a_call_in_the_meantime_is_a_contact_and_stops_the_notice() {
    let office = queued().await;
    office
        .sql(
            "INSERT INTO dunning.call (creditor, account_id, outcome, called_on, called_by)
             SELECT creditor, account_id, 'no_answer', '2026-03-10', 'Ada' FROM ledger.account WHERE account_id = 'A01'",
        )
        .await;
    is_stopped(&office, "contact_before_send", "contact_cap").await;
}

#[tokio::test]
async fn a_hold_in_the_meantime_stops_the_notice() {
    let office = queued().await;
    let account = AccountId::parse("A01").unwrap();
    let mut transaction = office.shell.pool.begin().await.unwrap();
    record::place_hold(&mut transaction, &account, None, None, "reclamo", day_plus(0), &clerk()).await.unwrap();
    transaction.commit().await.unwrap();
    is_stopped(&office, "held_before_send", "account_hold").await;
}

#[tokio::test]
async fn a_hold_on_a_demanded_item_stops_the_notice() {
    let office = queued().await;
    let (account, item) = (AccountId::parse("A01").unwrap(), ItemId::parse("I01").unwrap());
    let mut transaction = office.shell.pool.begin().await.unwrap();
    let until = Some(day_plus(5));
    record::place_hold(&mut transaction, &account, Some(&item), until, "reclamo", day_plus(0), &clerk()).await.unwrap();
    transaction.commit().await.unwrap();
    is_stopped(&office, "held_before_send", "all_items_out").await;
}

#[tokio::test]
async fn a_hold_in_the_ledger_stops_the_notice() {
    let office = queued().await;
    office.sql("UPDATE ledger.account SET hold_until = '2026-03-12'").await;
    is_stopped(&office, "held_before_send", "account_hold").await;
}

#[tokio::test]
async fn a_dispute_in_the_meantime_stops_the_notice() {
    let office = queued().await;
    office.sql("UPDATE ledger.item SET disputed_since = '2026-03-10'").await;
    is_stopped(&office, "disputed_before_send", "all_items_out").await;
}

#[tokio::test]
async fn what_the_ledger_calls_settled_in_the_meantime_stops_the_notice_whatever_is_open() {
    let office = queued().await;
    office.sql("UPDATE ledger.item SET settled_on = '2026-03-10'").await;
    is_stopped(&office, "paid_before_send", "nothing_open").await;
}

#[tokio::test]
async fn a_notice_does_not_outlast_the_day_on_which_its_item_is_settled() {
    let mut office = Office::new().await;
    office.accounts(1).await;
    office.sql("UPDATE ledger.item SET settled_on = '2026-03-11'").await;
    assert_eq!(office.scan().await.queued, 1);
    office.go_to(day_plus(1)).await;
    is_stopped(&office, "paid_before_send", "nothing_open").await;
}

#[tokio::test]
async fn a_notice_does_not_outlast_the_day_on_which_its_item_is_written_off_or_disputed() {
    for (column, reason) in [("written_off_on", "written_off_before_send"), ("disputed_since", "disputed_before_send")]
    {
        let mut office = Office::new().await;
        office.accounts(1).await;
        office.sql(format!("UPDATE ledger.item SET {column} = '2026-03-11'")).await;
        assert_eq!(office.scan().await.queued, 1);
        office.go_to(day_plus(1)).await;
        is_stopped(&office, reason, "all_items_out").await;
    }
}

#[tokio::test]
async fn a_day_that_the_ledger_names_stops_nothing_before_it_comes_and_is_no_reason_for_what_does() {
    for column in ["settled_on", "written_off_on", "disputed_since"] {
        let mut office = Office::new().await;
        office.accounts(1).await;
        office.sql(format!("UPDATE ledger.item SET {column} = '2026-03-12'")).await;
        assert_eq!(office.scan().await.queued, 1);
        office.go_to(day_plus(1)).await;
        assert_eq!(office.deliver().await.accepted, 1, "{column}");

        let office = Office::new().await;
        office.accounts(1).await;
        office.sql(format!("UPDATE ledger.item SET {column} = '2026-03-12'")).await;
        assert_eq!(office.scan().await.queued, 1);
        office.sql("UPDATE ledger.item SET due_date = '2026-03-31'").await;
        is_stopped(&office, "ledger_changed", "not_overdue").await;
    }
}

#[tokio::test]
async fn a_dispute_without_a_day_stops_the_notice() {
    let office = queued().await;
    office.sql("UPDATE ledger.item SET dispute_reason = 'merce difettosa'").await;
    is_stopped(&office, "disputed_before_send", "all_items_out").await;
}

#[tokio::test]
async fn what_says_nothing_new_stops_nothing() {
    let office = queued().await;
    office.sql("UPDATE ledger.item SET dispute_reason = ' '").await;
    assert_eq!(office.deliver().await.accepted, 1);
}

#[tokio::test]
async fn a_write_off_in_the_meantime_stops_the_notice() {
    let office = queued().await;
    office.sql("UPDATE ledger.item SET written_off_on = '2026-03-10'").await;
    is_stopped(&office, "written_off_before_send", "all_items_out").await;
}

#[tokio::test]
async fn a_later_due_date_in_the_meantime_stops_the_notice() {
    let office = queued().await;
    office.sql("UPDATE ledger.item SET due_date = '2026-03-31'").await;
    is_stopped(&office, "ledger_changed", "not_overdue").await;
}

#[tokio::test]
async fn an_item_that_vanishes_in_the_meantime_is_not_called_paid() {
    let office = queued().await;
    office.sql("DELETE FROM ledger.item").await;
    is_stopped(&office, "withdrawn_before_send", "nothing_open").await;
}

#[tokio::test]
async fn payments_that_are_too_old_by_now_stop_the_notice() {
    let mut office = queued().await;
    // The relay was down over night, and this morning's payments are not imported.
    office.shell.clock = dunningd::clock::Clock::fixed_on(day_plus(1), chrono_tz::Europe::Rome);
    let done = office.deliver().await;
    assert_eq!(done.cancelled, 1);
    assert_eq!(office.notices().await, ["A01 friendly cancelled stale_ledger"]);
    office.go_to(day_plus(1)).await;
    assert_eq!(office.verdicts().await, ["A01 contact"]);
}

#[tokio::test]
async fn payments_known_up_to_a_day_that_has_not_come_or_never_comes_stop_the_notice() {
    for moment in ["2199-01-01", "infinity"] {
        let office = queued().await;
        office.sql(format!("UPDATE ledger.freshness SET payments_as_of = '{moment}'")).await;
        assert_eq!(office.deliver().await.cancelled, 1, "{moment}");
        assert_eq!(office.notices().await, ["A01 friendly cancelled stale_ledger"]);
        assert!(office.scan_as(&Office::request()).await.is_err());
    }
    // Of two sources the stalest counts, but none may say that.
    let office = queued().await;
    office.sql("INSERT INTO ledger.freshness VALUES ('bank', NULL, '2026-03-10 06:00Z', 'infinity')").await;
    assert_eq!(office.deliver().await.cancelled, 1);
}

#[tokio::test]
async fn nothing_goes_out_for_a_creditor_who_left_the_configuration() {
    let office = queued().await;
    office.sql("UPDATE dunning.notice SET creditor = 'quattro_aquiloni'").await;
    assert_eq!(office.deliver().await.cancelled, 1);
    assert_eq!(office.notices().await, ["A01 friendly cancelled creditor_removed"]);
    assert_eq!(office.smtp.messages().len(), 0);
    office.verified().await;
}

#[tokio::test]
async fn a_text_that_is_no_longer_true_is_not_sent() {
    let mut office = queued().await;
    office.go_to(day_plus(2)).await;
    office.sql("UPDATE dunning.pause SET reason = 'festa'").await;
    assert_eq!(office.deliver().await, dunningd::daemon::Dispatched::default());
    office.sql("UPDATE dunning.pause SET reason = NULL").await;
    office.go_to(day_plus(3)).await;
    assert_eq!(office.deliver().await.cancelled, 1);
    assert_eq!(office.notices().await, ["A01 friendly cancelled expired"]);
    assert_eq!(office.verdicts().await, ["A01 contact"]);
}

#[tokio::test]
async fn a_pause_keeps_the_queue_and_a_resume_lets_it_go() {
    let office = queued().await;
    let mut connection = office.shell.pool.acquire().await.unwrap();
    assert!(record::pause(&mut connection, "verifica", &clerk()).await.unwrap());
    assert!(!record::pause(&mut connection, "ancora", &clerk()).await.unwrap());
    assert_eq!(office.deliver().await, dunningd::daemon::Dispatched::default());
    assert_eq!(office.smtp.connections(), 0);
    assert_eq!(office.verdicts().await, ["A01 paused"]);
    assert!(record::resume(&mut connection, "verificato", &clerk()).await.unwrap());
    assert_eq!(office.deliver().await.accepted, 1);
    office.verified().await;
}

#[tokio::test]
async fn a_pause_stops_even_a_notice_whose_recipient_was_named_already() {
    let office = Office::with(Setup::default().with("MAIL__CONNECTIONS", "1")).await;
    office.accounts(20).await;
    office.scan().await;
    office.smtp.once(Phase::RcptTo, Reply::code(250, "2.1.5 Ok").after(Duration::from_millis(1_500)));
    let pause = async {
        // Others have been claimed ahead.
        while !office.smtp.commands().iter().any(|line| line.starts_with("RCPT"))
            || office.count("dunning.notice WHERE state = 'claimed'").await < 2
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut connection = office.shell.pool.acquire().await.unwrap();
        record::pause(&mut connection, "subito", &clerk()).await.unwrap();
    };
    let (done, ()) = tokio::join!(office.deliver(), pause);
    assert_eq!((done.cancelled, done.accepted), (1, 0));
    assert_eq!(office.notices().await[..2], ["A01 friendly cancelled paused", "A02 friendly queued"]);
    assert_eq!(office.count("dunning.notice WHERE state = 'queued'").await, 19);
    assert_eq!(office.smtp.received().len(), 0);
    // The session was not cut: the transaction was taken back.
    let commands = office.smtp.commands();
    let last: Vec<&str> = commands.iter().rev().take(2).map(String::as_str).collect();
    assert_eq!(last, ["QUIT", "RSET"]);
    office.verified().await;
}
