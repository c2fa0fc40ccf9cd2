//! Items that move to another account, and mailboxes that several accounts share: what is known stays known.

use dunningd::daemon::ScanRequest;
use dunningd::model::{AccountId, Handover, ItemId};
use dunningd::record;

use crate::support::shell::{CREDITOR, Office, Setup, day_plus};

/// One account with one invoice of 100 EUR whose first stage is due, and another account without any.
async fn two() -> Office {
    let office = Office::new().await;
    office.accounts(1).await;
    office.account("A02", "it", "conti@a02.test").await;
    office
}

const MOVE: &str = "UPDATE ledger.item SET account_id = 'A02' WHERE item_id = 'I01'";

/// What a dry run says, and then a run: they agree.
async fn check(office: &Office, expected: &[&str]) {
    let (_, decisions) = office.scan_as(&ScanRequest { dry_run: true, ..Office::request() }).await.unwrap();
    let dry: Vec<String> = decisions.iter().map(|one| format!("{} {}", one.account, one.code())).collect();
    assert_eq!(dry, expected, "dry run");
    assert_eq!(office.verdicts().await, expected, "run");
    assert_eq!(office.verdicts().await, expected, "next run");
}

#[tokio::test]
async fn an_item_that_vanished_is_not_demanded_because_it_came_back_with_another_account() {
    let mut office = two().await;
    office.sql("UPDATE ledger.item SET due_date = '2026-03-07'").await;
    office.scan().await;
    office.sql("CREATE TABLE public.aside AS SELECT * FROM ledger.item; DELETE FROM ledger.item").await;
    office.scan().await;
    office.go_to(day_plus(2)).await;
    office.sql("INSERT INTO ledger.item SELECT * FROM public.aside").await;
    office.sql(MOVE).await;
    check(&office, &["A01 nothing_open", "A02 all_items_out"]).await;
    assert_eq!(office.tasks().await, ["A02 fix_data"]);
    assert_eq!(office.count("dunning.event WHERE kind = 'item_restored'").await, 0);
    office.verified().await;
}

#[tokio::test]
async fn a_dispute_moves_with_its_item_and_is_resolved_where_the_item_is() {
    let office = two().await;
    office.scan().await;
    assert_eq!(office.deliver().await.accepted, 1);
    office
        .sql(
            "INSERT INTO dunning.hold (account_id, item_id, cause, reason, since, placed_by)
             VALUES ('A01', 'I01', 'dissatisfied', 'merce difettosa', '2026-03-10', 'Tessa'),
                    ('A01', NULL, NULL, 'in esame', '2026-03-10', 'Tessa')",
        )
        .await;
    office.sql(MOVE).await;
    check(&office, &["A01 account_hold", "A02 all_items_out"]).await;
    let mut connection = office.shell.pool.acquire().await.unwrap();
    let (account, item) = (AccountId::parse("A02").unwrap(), ItemId::parse("I01").unwrap());
    record::end_dispute(&mut connection, &account, &item, "sostituita", &office.shell.actor).await.unwrap();
    drop(connection);
    check(&office, &["A01 account_hold", "A02 too_soon"]).await;
}

#[tokio::test]
async fn a_stage_that_an_item_has_behind_it_is_not_repeated_by_its_next_account() {
    let mut office = two().await;
    office.scan().await;
    assert_eq!(office.deliver().await.accepted, 1);
    office.go_to(day_plus(1)).await;
    office.sql(MOVE).await;
    check(&office, &["A01 nothing_open", "A02 too_soon"]).await;
    assert_eq!(office.notices().await, ["A01 friendly accepted"]);
    assert_eq!(
        office.facts("items_moved").await,
        [r#"{"count":"1","items":[{"from":"A01","item":"I01","to":"A02"}]}"#]
    );
    // And back again.
    office.sql("UPDATE ledger.item SET account_id = 'A01'").await;
    check(&office, &["A01 too_soon", "A02 nothing_open"]).await;
    office.verified().await;
}

async fn hand_over(office: &Office, since: chrono::NaiveDate) {
    let (to, reason) = ("Studio Legale".to_owned(), "moroso".to_owned());
    let handover = Handover { to, reason, since, number: 0, items: Vec::new() };
    let mut transaction = office.shell.pool.begin().await.unwrap();
    let account = AccountId::parse("A01").unwrap();
    record::hand_over(&mut transaction, &account, &handover, &office.shell.actor).await.unwrap();
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn what_leaves_an_account_that_was_handed_over_stays_with_whom_it_went_to() {
    let mut office = two().await;
    office.invoice("I02", "A02", 6, "50.00 EUR").await;
    office.sql("UPDATE ledger.item SET due_date = '2026-06-01' WHERE item_id = 'I02'").await;
    office.scan().await;
    assert_eq!(office.deliver().await.accepted, 1);
    office.go_to(day_plus(1)).await;
    hand_over(&office, day_plus(1)).await;
    office.go_to(day_plus(13)).await;
    // One that was open then, and one that came later.
    office.invoice("I03", "A01", 6, "70.00 EUR").await;
    office.scan().await;
    office.sql("UPDATE ledger.item SET account_id = 'A02'").await;
    let account = AccountId::parse("A02").unwrap();
    let look = async |office: &Office| dunningd::daemon::look_at(&office.shell, &account, None).await.unwrap().1;
    assert_eq!(look(&office).await.code(), "all_items_out", "before a run wrote the move down");
    check(&office, &["A01 handed_over", "A02 all_items_out"]).await;
    let decision = look(&office).await;
    let told = "item I01: item_hold (until it is released: handed over to Studio Legale on 2026-03-11, with account A01: moroso)";
    assert!(decision.checks.iter().any(|check| check.inputs.contains(told)), "{:?}", decision.checks);
    let back = "dunningd handover A01 --back --reason …";
    assert!(decision.remedies.iter().any(|remedy| remedy.text.contains(back)), "{:?}", decision.remedies);

    let mut connection = office.shell.pool.acquire().await.unwrap();
    let from = AccountId::parse("A01").unwrap();
    record::take_back(&mut connection, &from, "accordo fallito", &office.shell.actor).await.unwrap();
    drop(connection);
    assert_eq!(office.verdicts().await, ["A01 nothing_open", "A02 contact"]);
    office.verified().await;
}

#[tokio::test]
async fn an_account_that_has_left_the_ledger_can_be_taken_back_or_what_left_it_would_be_held_for_ever() {
    let mut office = two().await;
    office.scan().await;
    assert_eq!(office.deliver().await.accepted, 1);
    office.go_to(day_plus(1)).await;
    hand_over(&office, day_plus(1)).await;
    office.go_to(day_plus(13)).await;
    office.sql(MOVE).await;
    office
        .sql("DELETE FROM ledger.contact WHERE account_id = 'A01'; DELETE FROM ledger.account WHERE account_id = 'A01'")
        .await;
    check(&office, &["A02 all_items_out"]).await;
    let mut connection = office.shell.pool.acquire().await.unwrap();
    let from = AccountId::parse("A01").unwrap();
    record::take_back(&mut connection, &from, "accordo fallito", &office.shell.actor).await.unwrap();
    let again = record::take_back(&mut connection, &from, "accordo fallito", &office.shell.actor).await;
    assert_eq!(again.unwrap_err().to_string(), "the ledger has no account A01");
    drop(connection);
    assert_eq!(office.verdicts().await, ["A02 contact"]);
    office.verified().await;
}

#[tokio::test]
async fn what_had_left_an_account_before_it_was_handed_over_goes_on() {
    let mut office = two().await;
    office.invoice("I03", "A01", 6, "70.00 EUR").await;
    office.scan().await;
    assert_eq!(office.deliver().await.accepted, 1);
    office.go_to(day_plus(1)).await;
    office.sql(MOVE).await;
    office.scan().await;
    office.go_to(day_plus(9)).await;
    hand_over(&office, day_plus(9)).await;
    assert_eq!(office.verdicts().await, ["A01 handed_over", "A02 contact"]);
}

#[tokio::test]
async fn a_look_at_another_day_knows_where_an_item_comes_from_before_a_run_wrote_it_down() {
    let mut office = two().await;
    office.scan().await;
    assert_eq!(office.deliver().await.accepted, 1);
    office.go_to(day_plus(1)).await;
    office.sql(MOVE).await;
    let (account, day) = (AccountId::parse("A02").unwrap(), Some(day_plus(1)));
    let (_, decision) = dunningd::daemon::look_at(&office.shell, &account, day).await.unwrap();
    assert_eq!(decision.code(), "too_soon");
    let request = ScanRequest { as_of: day, dry_run: true, ..Office::request() };
    let (_, decisions) = office.scan_as(&request).await.unwrap();
    let codes: Vec<&str> = decisions.iter().map(dunningd::model::Decision::code).collect();
    assert_eq!(codes, ["nothing_open", "too_soon"]);
}

#[tokio::test]
async fn a_notice_on_its_way_keeps_its_item_waiting_in_the_next_account() {
    let office = two().await;
    assert_eq!(office.scan().await.queued, 1);
    office.sql(MOVE).await;
    assert_eq!(office.verdicts().await, ["A01 notice_pending", "A02 notice_pending"]);
    assert_eq!(office.deliver().await.cancelled, 1);
    assert_eq!(office.verdicts().await, ["A01 nothing_open", "A02 contact"]);
    office.verified().await;
}

#[tokio::test]
async fn what_two_creditors_send_to_one_mailbox_counts_together_before_it_is_sent() {
    let office = two().await;
    office.invoice("I02", "A02", 6, "100.00 EUR").await;
    office
        .sql(
            "UPDATE ledger.account SET creditor = 'trzy_latawce' WHERE account_id = 'A02';
             UPDATE ledger.contact SET email = 'conti@a01.test'",
        )
        .await;
    let of_all = ScanRequest { creditor: None, ..Office::request() };
    let codes = |decisions: Vec<dunningd::model::Decision>| -> Vec<String> {
        decisions.iter().map(|one| format!("{} {}", one.account, one.code())).collect()
    };
    assert_eq!(codes(office.scan_as(&of_all).await.unwrap().1), ["A01 contact", "A02 contact_cap"]);
    assert_eq!(office.deliver().await.accepted, 1);
    assert_eq!(codes(office.scan_as(&of_all).await.unwrap().1), ["A01 too_soon", "A02 contact_cap"]);
}

#[tokio::test]
async fn what_waits_for_approval_is_no_contact_of_its_mailbox_yet() {
    let mut office = two().await;
    office.invoice("I02", "A02", 6, "100.00 EUR").await;
    office
        .sql("UPDATE ledger.contact SET email = 'conti@a01.test'; UPDATE dunning.control SET mode = 'approve_all'")
        .await;
    assert_eq!(office.verdicts().await, ["A01 contact", "A02 shared_mailbox"]);
    office.go_to(day_plus(1)).await;
    assert_eq!(office.verdicts().await, ["A01 notice_pending", "A02 contact"]);
    // Of the two, one may go now.
    office.shell.actor = dunningd::model::Actor { os_user: "chief".into(), person: "Chiara".into() };
    let done = dunningd::daemon::approve(&office.shell, &dunningd::record::Which::All, "looked at").await.unwrap();
    assert_eq!((done.approved, done.put_off.len()), (1, 1));
    assert_eq!(office.notices().await, ["A01 friendly queued", "A02 friendly awaiting_approval"]);
    let [put_off] = &done.put_off[..] else { panic!("{done:?}") };
    assert_eq!(put_off.because, "last counted contact 2026-03-11, at most 1 per 7 days, 4 per 30 days");
    assert_eq!((put_off.account.as_str(), put_off.until), ("A02", Some(day_plus(8))));
    office.verified().await;
}

#[tokio::test]
async fn a_contact_that_reached_the_relay_counts_also_when_it_was_cancelled_in_the_end() {
    let office = two().await;
    office.invoice("I02", "A02", 6, "100.00 EUR").await;
    office.sql("UPDATE ledger.contact SET email = 'conti@a01.test'").await;
    office.scan_as(&ScanRequest { account: AccountId::parse("A01").ok(), ..Office::request() }).await.unwrap();
    let cancelled = |counted_on: &str| {
        format!(
            "UPDATE dunning.notice SET state = 'cancelled', reason = 'expired', counted_on = {counted_on};
             UPDATE dunning.notice_item SET live = false"
        )
    };
    office.sql(cancelled("'2026-03-10'")).await;
    assert_eq!(office.verdicts().await, ["A01 contact_cap", "A02 contact_cap"]);
    office.sql(cancelled("NULL")).await;
    assert_eq!(office.verdicts().await, ["A01 contact", "A02 shared_mailbox"]);
}

#[tokio::test]
async fn the_copy_of_a_letter_that_is_to_be_posted_counts_for_its_mailbox() {
    let setup = Setup::default()
        .policy("name = \"friendly\"\ndays = 5", "name = \"friendly\"\ndays = 5\nchannels = [\"letter\", \"email\"]");
    let office = Office::with(setup).await;
    office.accounts(2).await;
    office.sql("UPDATE ledger.contact SET email = 'conti@a01.test'").await;
    office.sql("UPDATE ledger.account SET postal_address = 'Via Roma 1' WHERE account_id = 'A01'").await;
    office.scan_as(&ScanRequest { account: AccountId::parse("A01").ok(), ..Office::request() }).await.unwrap();
    assert_eq!(office.notices().await, ["A01 friendly with_person"]);
    office.sql("UPDATE ledger.account SET postal_address = 'Via Roma 1'").await;
    assert_eq!(office.verdicts().await, ["A01 notice_pending", "A02 contact_cap"]);
}

#[tokio::test]
async fn a_plan_with_an_item_that_vanished_or_moved_is_written_about_no_more() {
    let mut office = two().await;
    office.invoice("I02", "A01", 6, "50.00 EUR").await;
    office
        .sql(format!(
            "INSERT INTO dunning.plan (plan_id, version, creditor, account_id, currency, agreed_on, tolerance_days,
                                       on_missed, reason, agreed_by)
             VALUES (1, 1, '{CREDITOR}', 'A01', 'EUR', '2026-03-10', 0, 'instalment', 'accordo', 'Tessa');
             INSERT INTO dunning.plan_item VALUES (1, 1, 'I01', 100), (1, 1, 'I02', 50);
             INSERT INTO dunning.plan_instalment VALUES (1, 1, 1, '2026-03-11', 100), (1, 1, 2, '2026-03-12', 50)"
        ))
        .await;
    assert_eq!(office.verdicts().await, ["A01 all_items_out", "A02 nothing_open"]);
    office.go_to(day_plus(6)).await;
    office.sql("UPDATE ledger.item SET open_amount = 0, settled_on = '2026-03-11' WHERE item_id = 'I01'").await;
    office
        .sql("CREATE TABLE public.aside AS SELECT * FROM ledger.item; DELETE FROM ledger.item WHERE item_id = 'I02'")
        .await;
    check(&office, &["A01 all_items_out", "A02 nothing_open"]).await;
    assert_eq!(office.lines("SELECT kind || ' ' || subject FROM dunning.task").await, ["fix_data plan 1"]);
    office.sql("INSERT INTO ledger.item SELECT * FROM public.aside WHERE item_id = 'I02'").await;
    assert_eq!(office.verdicts().await, ["A01 contact", "A02 nothing_open"]);
    // The notice of the missed instalment stops at the last check, and what was agreed with one is not asked of another.
    office.sql("UPDATE ledger.item SET account_id = 'A02' WHERE item_id = 'I02'").await;
    assert_eq!(office.deliver().await.cancelled, 1);
    check(&office, &["A01 all_items_out", "A02 all_items_out"]).await;
}

/// Four accounts whose mailbox is written in these ways: one mailbox of too many accounts, found again by who erases.
async fn is_one_mailbox(spellings: [&str; 4], key: &str) {
    let office = Office::new().await;
    for (n, email) in spellings.iter().enumerate() {
        office.account(&format!("A0{n}"), "it", email).await;
        office.invoice(&format!("I0{n}"), &format!("A0{n}"), 6, "100.00 EUR").await;
    }
    office.account("A05", "it", "altra@gruppo.test").await;
    office.invoice("I05", "A05", 6, "100.00 EUR").await;
    office.scan().await;
    let subjects = "SELECT subject FROM dunning.task WHERE kind = 'shared_mailbox'";
    assert_eq!(office.lines(subjects).await, [key]);
    assert_eq!(office.count("dunning.notice").await, 2);
    office.deliver().await;
    // Nothing but the mailbox ties the others to the task.
    office
        .sql("UPDATE dunning.decision SET detail = NULL; UPDATE dunning.task SET closed_at = clock_timestamp()")
        .await;
    let mut connection = office.shell.pool.acquire().await.unwrap();
    let later = office.shell.clock.now() + chrono::Duration::days(9999);
    let old = record::expired(&mut connection, "messages", later).await.unwrap();
    assert_eq!(old, ["A00", "A01", "A02", "A03", "A05"]);
    let never = "SELECT account_id FROM ledger.account a WHERE account_id <> 'A05' AND NOT EXISTS
                 (SELECT FROM dunning.notice n WHERE n.account_id = a.account_id) ORDER BY 1";
    let never = office.lines(never).await.remove(2);
    let all = record::Erasure {
        classes: record::Erasure::ALL,
        before: None,
        reason: "richiesta",
        legal_ground: "GDPR art. 17(1)",
    };
    let account = AccountId::parse(&never).unwrap();
    record::erase(&mut connection, &account, &all, &office.shell.actor).await.unwrap();
    assert_eq!(office.lines(subjects).await, [""]);
}

#[tokio::test]
async fn a_mailbox_is_one_however_its_domain_and_the_space_around_it_are_written() {
    is_one_mailbox(
        ["info@müller.test", "Info@xn--mller-kva.test", "info@MÜLLER.test", "\u{a0}info@XN--mller-kva.test "],
        "info@xn--mller-kva.test",
    )
    .await;
    is_one_mailbox(
        ["\u{a0}sede@gruppo.test", "Sede@GRUPPO.test\t", "sede@ｇruppo.test", "\u{2003}sede@gruppo.test"],
        "sede@gruppo.test",
    )
    .await;
    is_one_mailbox(
        ["Übung@gruppo.test", "übung@gruppo.test", "ÜBUNG@gruppo.test", "übung@GRUPPO.test"],
        "übung@gruppo.test",
    )
    .await;
}
