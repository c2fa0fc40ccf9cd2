//! Items that vanish, return, or make no sense.

use std::io::Write as _;
use std::path::Path;

use dunningd::daemon::{self, ScanRequest, SimulationRequest};
use dunningd::ledger::{ImportOptions, Profile, import_csv};
use dunningd::model::{AccountId, ItemId};
use dunningd::record::{self, RegisterError};
use mail_parser::MessageParser;
use sqlx::{Connection as _, PgConnection};

use crate::support::shell::{Office, Setup, day, day_plus};

const TAKE_AWAY: &str = "CREATE TABLE public.aside AS SELECT * FROM ledger.item WHERE item_id = 'I01';
                         DELETE FROM ledger.item WHERE item_id = 'I01'";
const BRING_BACK: &str = "INSERT INTO ledger.item SELECT * FROM public.aside";

/// One account whose item will be due for a letter only after it was seen.
async fn seen() -> Office {
    let mut office = Office::new().await;
    office.account("A01", "it", "conti@a01.test").await;
    office.invoice("I01", "A01", 3, "100.00 EUR").await;
    assert_eq!(office.verdicts().await, ["A01 before_first_stage"]);
    office.go_to(day_plus(2)).await;
    office
}

#[tokio::test]
async fn an_item_that_vanishes_is_withdrawn_and_not_dunned() {
    let office = seen().await;
    office.sql(TAKE_AWAY).await;
    assert_eq!(office.verdicts().await, ["A01 nothing_open"]);
    assert_eq!(
        office.lines("SELECT concat_ws(' ', item_id, state, withdrawn_on) FROM dunning.known_item").await,
        ["I01 withdrawn 2026-03-12"]
    );
    assert_eq!(office.count("dunning.event WHERE kind = 'item_withdrawn' AND account_id = 'A01'").await, 1);
    // Once, however often it is looked for.
    office.scan().await;
    assert_eq!(office.count("dunning.event WHERE kind = 'item_withdrawn'").await, 1);
    office.verified().await;
}

#[tokio::test]
async fn an_item_that_is_back_unchanged_within_seven_days_is_taken_up_again() {
    let mut office = seen().await;
    office.sql(TAKE_AWAY).await;
    office.scan().await;
    office.go_to(day_plus(9)).await;
    office.sql(BRING_BACK).await;
    assert_eq!(office.verdicts().await, ["A01 contact"]);
    assert_eq!(office.count("dunning.event WHERE kind = 'item_restored'").await, 1);
    assert_eq!(office.lines("SELECT state FROM dunning.known_item").await, ["open"]);
    assert_eq!(office.deliver().await.accepted, 1);
    office.verified().await;
}

#[tokio::test]
async fn an_item_that_comes_back_changed_waits_for_a_person() {
    let mut office = seen().await;
    office.sql(TAKE_AWAY).await;
    office.scan().await;
    office.sql(BRING_BACK).await;
    office.sql("UPDATE ledger.item SET amount = 120, open_amount = 120").await;
    office.go_to(day_plus(3)).await;
    assert_eq!(office.verdicts().await, ["A01 all_items_out"]);
    office.go_to(day_plus(6)).await;
    assert_eq!(office.verdicts().await, ["A01 all_items_out"]);
    assert_eq!(office.tasks().await, ["A01 fix_data"]);
    assert_eq!(office.count("dunning.event WHERE kind = 'item_restored'").await, 0);

    // Who knows why it was gone takes it up again, and it is demanded as the ledger has it.
    let (account, item) = (AccountId::parse("A01").unwrap(), ItemId::parse("I01").unwrap());
    let mut transaction = office.shell.pool.begin().await.unwrap();
    record::restore_item(&mut transaction, &account, &item, "moved by the ERP", &office.shell.actor).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(office.verdicts().await, ["A01 contact"]);
    assert_eq!(office.tasks().await, [""; 0]);
    assert_eq!(office.lines("SELECT to_pay::text FROM dunning.notice_item").await, ["120"]);
    let mut connection = office.shell.pool.acquire().await.unwrap();
    let again = record::restore_item(&mut connection, &account, &item, "again", &office.shell.actor).await;
    assert!(matches!(again, Err(RegisterError::NotWithdrawn(_))));
    office.verified().await;
}

/// As versions before 0027 opened it: about one item, which is its subject.
async fn of_an_older_version(office: &Office, account: &str, subject: &str) {
    office
        .sql(format!(
            "INSERT INTO dunning.task (creditor, account_id, kind, subject, text, opened_on)
             VALUES ('tre_aquiloni', '{account}', 'fix_data', '{subject}', 'it is broken', '2026-03-01')"
        ))
        .await;
}

#[tokio::test]
async fn a_task_about_one_withdrawn_item_ends_when_that_item_is_taken_up_again() {
    let mut office = seen().await;
    office.sql(TAKE_AWAY).await;
    office.scan().await;
    office.sql(BRING_BACK).await;
    of_an_older_version(&office, "A01", "I01").await;
    of_an_older_version(&office, "A01", "I02").await;
    office.go_to(day_plus(3)).await;
    let (account, item) = (AccountId::parse("A01").unwrap(), ItemId::parse("I01").unwrap());
    let mut transaction = office.shell.pool.begin().await.unwrap();
    record::restore_item(&mut transaction, &account, &item, "moved by the ERP", &office.shell.actor).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(office.lines(BAD_OPEN).await, ["I02: it is broken"]);
}

#[tokio::test]
async fn the_task_about_all_broken_items_of_an_account_takes_the_place_of_those_about_one_each() {
    let office = in_a_crowd(2).await;
    office.invoice("I03", "A01", 6, "100.00 EUR").await;
    office.scan().await;
    for (account, subject) in [("A01", "I01"), ("A01", "I03"), ("A01", "plan 1"), ("A01", "CHF"), ("A02", "I02")] {
        of_an_older_version(&office, account, subject).await;
    }
    office.sql("UPDATE ledger.item SET amount = -70, open_amount = -70 WHERE item_id = 'I01'").await;
    office.scan().await;
    let open = [
        "CHF: it is broken",
        "I02: it is broken",
        "bad_data: I01: amount -70 of an invoice must be positive",
        "plan 1: it is broken",
    ];
    let in_order = format!("{BAD_OPEN} ORDER BY subject COLLATE \"C\"");
    assert_eq!(office.lines(&in_order).await, open);
    let closed = office.facts("task_closed").await;
    assert!(closed.len() == 2 && closed.iter().all(|one| one.contains("listed_anew")), "{closed:?}");
    office.scan().await;
    assert_eq!(office.lines(&in_order).await, open);
    assert_eq!(office.facts("task_closed").await.len(), 2);
    office.verified().await;
}

#[tokio::test]
async fn an_item_that_comes_back_too_late_waits_for_a_person() {
    let mut office = seen().await;
    office.sql(TAKE_AWAY).await;
    office.scan().await;
    office.go_to(day_plus(10)).await;
    office.sql(BRING_BACK).await;
    assert_eq!(office.verdicts().await, ["A01 all_items_out"]);
    assert_eq!(office.tasks().await, ["A01 fix_data"]);
}

#[tokio::test]
async fn when_too_many_items_vanish_at_once_the_run_is_refused_and_nothing_is_marked() {
    let mut office = Office::new().await;
    office.accounts(24).await;
    office.scan().await;
    office.deliver().await;
    office.go_to(day_plus(1)).await;
    office.sql("DELETE FROM ledger.item WHERE item_id > 'I03'").await;
    let error = office.scan_as(&Office::request()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "creditor tre_aquiloni: the run was refused: ledger_shrunk: 21 of 24 open items are gone at once (limit 20); \
         look at the source of the ledger; if it is right, `dunningd scan --creditor tre_aquiloni --accept-ledger \
         --reason …` goes on with it once"
    );
    assert_eq!(office.count("dunning.known_item WHERE state <> 'open'").await, 0);
    assert_eq!(office.count("dunning.event WHERE kind = 'item_withdrawn'").await, 0);
    assert_eq!(
        office.lines("SELECT concat_ws(' ', state, reason) FROM dunning.run ORDER BY started_at").await,
        ["completed", "refused ledger_shrunk"]
    );
    // Twenty are a bad day and no broken source.
    office.invoice("I04", "A04", 6, "100.00 EUR").await;
    office.scan().await;
    assert_eq!(office.count("dunning.known_item WHERE state = 'withdrawn'").await, 20);
    office.verified().await;
}

#[tokio::test]
async fn when_too_many_settled_items_are_open_again_the_run_is_refused() {
    let mut office = Office::new().await;
    office.accounts(21).await;
    office.sql("UPDATE ledger.item SET open_amount = 0, settled_on = '2026-03-09'").await;
    office.scan().await;
    office.go_to(day_plus(1)).await;
    office.sql("UPDATE ledger.item SET open_amount = 100, settled_on = NULL").await;
    let error = office.scan_as(&Office::request()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "creditor tre_aquiloni: the run was refused: ledger_reopened: 21 settled items are open again (limit 20); look \
         at the source of the ledger; if it is right, `dunningd scan --creditor tre_aquiloni --accept-ledger \
         --reason …` goes on with it once"
    );
}

/// The run goes on with that ledger once, because a person says that it is right; the log says who, why and what.
async fn is_accepted(office: &mut Office, facts: &str) {
    let accepted =
        ScanRequest { accept_ledger: Some("the ERP was moved to a new year".to_owned()), ..Office::request() };
    office.scan_as(&accepted).await.unwrap();
    let said = office.facts("ledger_accepted").await;
    assert_eq!(said.len(), 1);
    assert!(said[0].contains(facts) && said[0].contains("the ERP was moved to a new year"), "{}", said[0]);
    assert_eq!(
        office.lines("SELECT concat_ws(' ', state, reason) FROM dunning.run ORDER BY started_at DESC LIMIT 1").await,
        ["completed"]
    );
    // From now on this is what the ledger is compared with.
    office.go_to(day_plus(2)).await;
    office.scan_as(&accepted).await.unwrap();
    office.scan().await;
    assert_eq!(office.count("dunning.event WHERE kind = 'ledger_accepted'").await, 1);
    office.verified().await;
}

#[tokio::test]
async fn a_person_may_accept_a_ledger_that_lost_many_items_and_they_are_withdrawn() {
    let mut office = Office::new().await;
    office.accounts(24).await;
    office.scan().await;
    office.go_to(day_plus(1)).await;
    office.sql("DELETE FROM ledger.item WHERE item_id > 'I03'").await;
    assert!(office.scan_as(&Office::request()).await.is_err());
    is_accepted(&mut office, r#""limit":"20","open_before":"24""#).await;
    assert_eq!(office.count("dunning.known_item WHERE state = 'withdrawn'").await, 21);
    assert_eq!(office.count("dunning.event WHERE kind = 'item_withdrawn'").await, 21);
}

#[tokio::test]
async fn a_person_may_accept_a_ledger_in_which_many_items_are_open_again_and_they_are_demanded() {
    let mut office = Office::new().await;
    office.accounts(21).await;
    office.sql("UPDATE ledger.item SET open_amount = 0, settled_on = '2026-03-09'").await;
    office.scan().await;
    office.go_to(day_plus(1)).await;
    office.sql("UPDATE ledger.item SET open_amount = 100, settled_on = NULL").await;
    assert!(office.scan_as(&Office::request()).await.is_err());
    is_accepted(&mut office, r#""reopened":"21""#).await;
    assert_eq!(office.count("dunning.notice").await, 21);
}

#[tokio::test]
async fn a_row_with_the_wrong_sign_is_quarantined_and_everyone_else_goes_on() {
    let office = Office::new().await;
    office.accounts(1).await;
    // Enough good rows that one bad one is no broken ledger.
    for n in 10..=60 {
        office.account(&format!("B{n}"), "it", &format!("conti@b{n}.test")).await;
        office.invoice(&format!("J{n}"), &format!("B{n}"), 6, "100.00 EUR").await;
        office.invoice(&format!("K{n}"), &format!("B{n}"), 0, "100.00 EUR").await;
    }
    office.invoice("I02", "A01", 20, "-70.00 EUR").await;
    let (report, _) = office.scan_as(&Office::request()).await.unwrap();
    assert_eq!((report.quarantined, report.runs[0].queued), (1, 52));
    assert_eq!(office.tasks().await, ["A01 fix_data"]);
    // It is neither demanded nor taken for a credit.
    assert_eq!(office.lines("SELECT to_pay::text FROM dunning.notice_item WHERE item_id = 'I01'").await, ["100"]);
    assert_eq!(office.count("dunning.notice_item WHERE item_id = 'I02'").await, 0);
    office.scan().await;
    assert_eq!(office.tasks().await, ["A01 fix_data"]);
    assert_eq!(office.lines(BAD).await, ["bad_data: I02: amount -70 of an invoice must be positive"]);
}

const BAD_OPEN: &str = "SELECT subject || ': ' || text FROM dunning.task WHERE kind = 'fix_data' AND closed_at IS NULL";
const BAD: &str = "SELECT subject || ': ' || text FROM dunning.task WHERE kind = 'fix_data' ORDER BY account_id, 1";

/// Enough good rows that two bad ones are no broken ledger.
async fn in_a_crowd(accounts: u32) -> Office {
    let office = Office::new().await;
    office.account("B00", "it", "conti@b00.test").await;
    office
        .sql(
            "INSERT INTO ledger.item (item_id, account_id, kind, document_no, issue_date, due_date, currency, amount,
                                      open_amount)
             SELECT 'J' || n, 'B00', 'invoice', 'J' || n, '2026-03-01', '2026-04-30', 'EUR', 100, 100
             FROM generate_series(1, 300) n",
        )
        .await;
    office.accounts(accounts).await;
    office
}

#[tokio::test]
async fn a_hold_until_infinity_holds_until_it_is_cleared_and_any_other_endless_date_is_bad_data() {
    let office = in_a_crowd(5).await;
    office
        .sql(
            "UPDATE ledger.item SET hold_until = 'infinity' WHERE item_id = 'I01';
             UPDATE ledger.account SET hold_until = 'infinity', hold_reason = 'in causa' WHERE account_id = 'A02';
             UPDATE ledger.item SET direct_debit_on = 'infinity' WHERE item_id = 'I03';
             UPDATE ledger.account SET hold_until = '-infinity' WHERE account_id = 'A04'",
        )
        .await;
    let (report, decisions) = office.scan_as(&Office::request()).await.unwrap();
    let told = |account: &str| {
        let one = decisions.iter().find(|one| one.account.as_str() == account).unwrap();
        let stop = one.checks.iter().find(|check| !check.passed).map_or("", |check| &*check.inputs);
        format!("{} {}: {stop}", one.account, one.code())
    };
    assert_eq!(told("A01"), "A01 all_items_out: item I01: item_hold (until it is released: no reason given)");
    assert_eq!(told("A02"), "A02 account_hold: held until it is released: in causa");
    assert_eq!(told("A03"), "A03 all_items_out: item I03: bad_data");
    assert_eq!(told("A04"), "A04 all_items_out: item I04: bad_data");
    assert_eq!(told("A05"), "A05 contact: ");
    assert_eq!(report.quarantined, 1);
    assert_eq!(
        office.lines("SELECT account_id || ' ' || text FROM dunning.task ORDER BY 1").await,
        ["A03 I03: direct_debit_on is out of range", "A04 I04: its account's hold_until is out of range"]
    );
    let look = dunningd::daemon::look_at(&office.shell, &"A03".parse().unwrap(), None).await.unwrap();
    assert_eq!(look.1.code(), "all_items_out");
}

#[tokio::test]
async fn nothing_is_demanded_while_a_credit_of_the_account_cannot_be_read() {
    let office = in_a_crowd(5).await;
    // As in a view of the operator's own, where any text may stand.
    office.sql("ALTER TABLE ledger.item DROP CONSTRAINT IF EXISTS item_kind_check").await;
    office
        .sql(
            r"INSERT INTO ledger.item (item_id, account_id, kind, document_no, issue_date, currency, amount, open_amount)
              VALUES ('P1', 'A01', 'payment', 'P1', '2026-03-01', 'EUR', 90, 90),
                     ('P5', 'A05', 'storno', 'P5', '2026-03-01', 'EUR', -90, -90),
                     (E'P\t2', 'A02', 'payment', 'P2', '2026-03-01', 'EUR', -90, -90),
                     ('P3', 'A03', 'credit_note', 'P3', '2026-03-01', 'EUR', -90.123456789, -90.123456789)",
        )
        .await;
    let decisions = office.scan_as(&Office::request()).await.unwrap().1;
    let told: Vec<String> = decisions.iter().map(|one| format!("{} {}", one.account, one.code())).collect();
    let out = "all_items_out";
    let accounts = [("A01", out), ("A02", out), ("A03", out), ("A04", "contact"), ("A05", out), ("B00", "not_overdue")];
    assert_eq!(told, accounts.map(|(account, code)| format!("{account} {code}")));
    let because = "its account may owe less: a credit cannot be read";
    let unknown = r#"kind "storno" is none of invoice, debit_note, fee, credit_note, payment"#;
    assert_eq!(
        office.lines(BAD).await,
        [
            format!(
                "bad_data: I01: {because}, P1 (amount 90 of a payment must be negative); P1: amount 90 of a payment must be \
                 negative"
            ),
            format!("bad_data: I02: {because}, an item without an id that can be read"),
            format!(
                "bad_data: I03: {because}, P3 (amount is missing or out of range); P3: amount is missing or out of range"
            ),
            format!("bad_data: I05: {because}, P5 ({unknown}); P5: {unknown}"),
        ]
    );
}

/// What a run says about each account, and what reading one account to its last item says, which is the same.
async fn told(office: &Office) -> Vec<String> {
    let decisions = office.scan_as(&ScanRequest { dry_run: true, ..Office::request() }).await.unwrap().1;
    for one in &decisions {
        let (_, read) = daemon::look_at(&office.shell, &one.account, None).await.unwrap();
        assert_eq!((one.code(), &one.tasks), (read.code(), &read.tasks), "{}", one.account);
    }
    decisions.iter().map(|one| format!("{} {}", one.account, one.code())).collect()
}

#[tokio::test]
async fn what_the_ledger_calls_settled_by_today_is_not_demanded_whatever_it_says_is_open() {
    let office = Office::new().await;
    office.accounts(3).await;
    office.account("A04", "it", "conti@a04.test").await;
    office.invoice("I04", "A04", -20, "100.00 EUR").await;
    office
        .sql(
            "UPDATE ledger.item i SET settled_on = day::date
             FROM (VALUES ('I01', '2026-03-02'), ('I02', '2026-03-10'), ('I03', '2026-03-11'), ('I04', '2026-03-10'))
                 known (id, day)
             WHERE i.item_id = id",
        )
        .await;
    assert_eq!(told(&office).await, ["A01 nothing_open", "A02 nothing_open", "A03 contact", "A04 nothing_open"]);
    let as_of = ScanRequest { as_of: Some(day()), dry_run: true, ..Office::request() };
    let then = office.scan_as(&as_of).await.unwrap().1;
    let then: Vec<String> = then.iter().map(|one| format!("{} {}", one.account, one.code())).collect();
    assert_eq!(then, told(&office).await);

    office.scan().await;
    let known = "SELECT item_id || ' ' || state FROM dunning.known_item ORDER BY 1";
    assert_eq!(office.lines(known).await, ["I01 settled", "I02 settled", "I03 open", "I04 settled"]);
}

#[tokio::test]
async fn a_credit_counts_as_long_as_something_of_it_is_open() {
    let office = Office::new().await;
    office.accounts(1).await;
    office
        .sql(
            "INSERT INTO ledger.item (item_id, account_id, kind, document_no, issue_date, currency, amount, open_amount,
                                      settled_on)
             VALUES ('P1', 'A01', 'payment', 'P1', '2026-03-01', 'EUR', -100, -100, '2026-03-05')",
        )
        .await;
    assert_eq!(told(&office).await, ["A01 account_in_credit"]);
}

#[tokio::test]
async fn a_dispute_of_which_only_the_reason_is_known_is_a_dispute() {
    let office = Office::new().await;
    office.accounts(3).await;
    office
        .sql(
            "UPDATE ledger.item SET dispute_reason = 'merce difettosa' WHERE item_id = 'I01';
             UPDATE ledger.item SET dispute_reason = ' ' WHERE item_id = 'I02';
             UPDATE ledger.item SET dispute_reason = 'ancora no', disputed_since = '2026-03-20' WHERE item_id = 'I03'",
        )
        .await;
    assert_eq!(told(&office).await, ["A01 all_items_out", "A02 contact", "A03 contact"]);
    let (_, decision) = daemon::look_at(&office.shell, &AccountId::parse("A01").unwrap(), None).await.unwrap();
    let why = decision.checks.iter().find(|check| !check.passed).map_or("", |check| &*check.inputs);
    assert_eq!(why, "item I01: disputed (says the ledger: merce difettosa)");
    assert!(decision.items[0].disputed);
}

#[tokio::test]
async fn an_amount_finer_than_its_currency_has_coins_for_is_bad_data() {
    let office = in_a_crowd(3).await;
    office
        .sql(
            "UPDATE ledger.item SET amount = 100.005, open_amount = 100.005 WHERE item_id = 'I01';
             UPDATE ledger.item SET amount = 100.0000, open_amount = 99.9900 WHERE item_id = 'I02';
             UPDATE ledger.item SET open_amount = 99.999 WHERE item_id = 'J7'",
        )
        .await;
    assert_eq!(told(&office).await, ["A01 all_items_out", "A02 contact", "A03 contact", "B00 not_overdue"]);
    office.scan().await;
    assert_eq!(
        office.lines("SELECT subject || ': ' || text FROM dunning.task WHERE kind = 'fix_data' ORDER BY 1").await,
        [
            "bad_data: I01: amount 100.005 has more than the 2 decimals of EUR",
            "bad_data: J7: open_amount 99.999 has more than the 2 decimals of EUR"
        ]
    );
}

#[tokio::test]
async fn nobody_is_written_to_by_a_ladder_that_the_policy_does_not_have() {
    let mut office = Office::new().await;
    office.accounts(4).await;
    office.invoice("I05", "A01", 9, "70.00 EUR").await;
    office
        .sql(
            "UPDATE ledger.account SET ladder = 'vip' WHERE account_id = 'A01';
             UPDATE ledger.account SET ladder = 'Grandi clienti' WHERE account_id = 'A02';
             UPDATE ledger.account SET ladder = 'default' WHERE account_id = 'A03';
             UPDATE ledger.account SET ladder = ' ' WHERE account_id = 'A04'",
        )
        .await;
    assert_eq!(told(&office).await, ["A01 all_items_out", "A02 all_items_out", "A03 contact", "A04 contact"]);
    office.scan().await;
    assert_eq!(
        office.lines("SELECT account_id || ' ' || subject || ': ' || text FROM dunning.task ORDER BY 1").await,
        [
            "A01 ladder: the ledger names the ladder \"vip\", which policy.toml does not have (it has default): correct \
             ledger.account.ladder, or add that ladder to the policy",
            "A02 ladder: the ledger names the ladder \"Grandi clienti\", which policy.toml does not have (it has default): \
             correct ledger.account.ladder, or add that ladder to the policy",
        ]
    );
    assert_eq!(office.count("dunning.debt_case WHERE account_id IN ('A01', 'A02')").await, 0);
    // An open case keeps the ladder that it started with.
    office.deliver().await;
    office.sql("UPDATE ledger.account SET ladder = 'vip' WHERE account_id = 'A03'").await;
    office.go_to(day_plus(9)).await;
    assert_eq!(office.verdicts().await[2], "A03 contact");
    office.sql("UPDATE ledger.account SET ladder = NULL").await;
    assert_eq!(office.verdicts().await[0], "A01 contact");
}

#[tokio::test]
async fn an_account_that_cannot_be_read_is_counted_and_not_contacted() {
    let office = in_a_crowd(2).await;
    office.account("A03", "it", "conti@a03.test").await;
    office.invoice("I03", "A03", 6, "100.00 EUR").await;
    office
        .sql(
            r"ALTER TABLE ledger.account ALTER COLUMN name DROP NOT NULL;
              UPDATE ledger.account SET name = NULL WHERE account_id = 'A02';
              UPDATE ledger.account SET account_id = E'A\t3' WHERE account_id = 'A03';
              UPDATE ledger.item SET account_id = E'A\t3' WHERE account_id = 'A03'",
        )
        .await;
    let (report, decisions) = office.scan_as(&Office::request()).await.unwrap();
    let told: Vec<String> = decisions.iter().map(|one| format!("{} {}", one.account, one.code())).collect();
    assert_eq!(told, ["A01 contact", "A02 all_items_out", "B00 not_overdue"]);
    let totals = &report.total;
    assert_eq!((totals.considered, totals.contacted), (4, 1));
    assert_eq!(totals.considered, totals.contacted + totals.reasons.values().sum::<u64>());
    assert_eq!(totals.reasons.get("not_recorded"), Some(&1));
    assert_eq!(
        office.lines("SELECT subject || ': ' || text FROM dunning.task WHERE account_id = 'A02'").await,
        ["bad_data: I02: its account's name is missing"]
    );
    office.verified().await;
}

#[tokio::test]
async fn one_more_broken_row_of_an_account_makes_no_second_task_but_one_that_names_both() {
    let office = in_a_crowd(1).await;
    let bad = |item: &str, amount: u32| format!("{item}: amount -{amount} of an invoice must be positive");
    office.invoice("I02", "A01", 20, "-70.00 EUR").await;
    office.scan().await;
    assert_eq!(office.lines(BAD).await, [format!("bad_data: {}", bad("I02", 70))]);
    office.invoice("I03", "A01", 20, "-80.00 EUR").await;
    let both = format!("bad_data: {}; {}", bad("I02", 70), bad("I03", 80));
    for _ in 0..2 {
        office.scan().await;
        assert_eq!(office.lines(BAD_OPEN).await, [both.as_str()]);
        assert_eq!(office.count("dunning.event WHERE kind = 'task_opened'").await, 2);
        assert_eq!(office.count("dunning.event WHERE kind = 'task_closed'").await, 1);
    }
    office.verified().await;
}

#[tokio::test]
async fn blanks_in_a_view_say_nothing() {
    let office = in_a_crowd(3).await;
    office
        .sql(
            "UPDATE ledger.item SET hold_reason = '', payee = ' ', payment_reference = '' WHERE item_id = 'I01';
             UPDATE ledger.account SET hold_reason = ' ' WHERE account_id = 'A02';
             UPDATE ledger.item SET hold_reason = '', hold_until = 'infinity' WHERE item_id = 'I03'",
        )
        .await;
    let decisions = office.scan_as(&Office::request()).await.unwrap().1;
    let told: Vec<String> = decisions.iter().map(|one| format!("{} {}", one.account, one.code())).collect();
    assert_eq!(told, ["A01 contact", "A02 contact", "A03 all_items_out", "B00 not_overdue"]);
}

#[tokio::test]
async fn money_is_never_asked_for_to_an_account_that_was_not_understood() {
    let office = in_a_crowd(2).await;
    office
        .sql(
            r#"UPDATE ledger.account SET requisites = '{"holder": "Tre Aquiloni", "iban": "IT00"}' WHERE account_id = 'A01'"#,
        )
        .await;
    office.invoice("I03", "A01", 6, "70.00 EUR").await;
    office
        .sql(
            r#"UPDATE ledger.item SET requisites = '{"holder": "Tre Aquiloni", "number": "12"}' WHERE item_id = 'I03'"#,
        )
        .await;
    assert_eq!(office.verdicts().await, ["A01 contact", "A02 contact", "B00 not_overdue"]);
    assert_eq!(office.lines("SELECT item_id FROM dunning.notice_item ORDER BY 1").await, ["I02", "I03"]);
    assert_eq!(office.tasks().await, ["A01 fix_data"]);
}

#[tokio::test]
async fn a_source_that_was_imported_at_no_time_refuses_the_run() {
    for time in ["infinity", "-infinity"] {
        let office = Office::new().await;
        office.accounts(1).await;
        office.sql(format!("INSERT INTO ledger.freshness VALUES ('banca', NULL, '{time}', '{time}')")).await;
        let error = office.scan_as(&Office::request()).await.unwrap_err();
        assert!(error.to_string().contains("stale_ledger"), "{error}");
    }
}

#[tokio::test]
async fn too_many_broken_rows_stop_the_run() {
    let office = Office::new().await;
    office.accounts(10).await;
    office.sql("UPDATE ledger.item SET currency = 'EURO' WHERE item_id = 'I05'").await;
    let error = office.scan_as(&Office::request()).await.unwrap_err();
    assert_eq!(error.to_string(), "the ledger breaks its contract; nothing was decided");
    assert_eq!(office.count("dunning.run").await, 0);
}

#[tokio::test]
async fn one_open_items_file_without_an_item_closes_it() {
    let office = Office::new().await;
    let folder = tempfile::tempdir().unwrap();
    let header = "account_id,creditor,account_name,party_kind,country,email,role,contact_id,is_primary,no_email,item_id,\
                  kind,document_no,issue_date,due_date,currency,amount,open_amount\n";
    let row = |n: u32| {
        format!(
            "A{n},tre_aquiloni,Debitore {n},company,IT,conti@a{n}.test,billing,A{n}-1,true,false,I{n},invoice,FT {n},\
             2026-02-01,2026-03-04,EUR,100.00,100.00\n"
        )
    };
    let profile = Profile::load(Path::new("config/profiles/generic.toml")).unwrap();
    let mut admin = PgConnection::connect(&office.database.url("dunningd_admin")).await.unwrap();
    for rows in [vec![row(1), row(2)], vec![row(1)]] {
        let path = folder.path().join("open.csv");
        let mut file = std::fs::File::create(&path).unwrap();
        write!(file, "{header}{}", rows.concat()).unwrap();
        let options = ImportOptions {
            payments_as_of: Some("2026-03-10T06:00:00+00:00".parse().unwrap()),
            scope: Some(dunningd::ledger::Scope::FullOpenItems),
            ..ImportOptions::default()
        };
        import_csv(&mut admin, &profile, &path, &options).await.unwrap();
    }
    assert_eq!(office.verdicts().await, ["A1 contact", "A2 nothing_open"]);
}

#[tokio::test]
async fn an_operator_may_keep_vanished_items_out_for_good() {
    let setup = Setup::default().policy("restore_days = 7", "restore_days = 0");
    let mut office = Office::with(setup).await;
    office.account("A01", "it", "conti@a01.test").await;
    office.invoice("I01", "A01", 3, "100.00 EUR").await;
    office.scan().await;
    office.sql(TAKE_AWAY).await;
    office.scan().await;
    office.go_to(day_plus(2)).await;
    office.sql(BRING_BACK).await;
    assert_eq!(office.verdicts().await, ["A01 all_items_out"]);
}

#[tokio::test]
async fn every_column_of_an_account_and_an_item_is_read_as_itself() {
    let office = Office::new().await;
    office.account("A01", "it", "conti@a01.test").await;
    office.invoice("I01", "A01", 3, "100.00 EUR").await;
    let of_account = ["tax_id", "postal_address", "party_id", "parent_id", "owner", "segment", "ladder", "hold_reason"];
    let of_item = [
        "hold_reason",
        "payment_reference",
        "customer_reference",
        "contract_no",
        "refers_to",
        "payee",
        "document_url",
        "pay_url",
    ];
    // Every text is the name of its column.
    let named =
        |columns: &[&str]| columns.iter().map(|name| format!("{name} = '{name}'")).collect::<Vec<_>>().join(", ");
    let requisites = |holder: &str| serde_json::json!({ "holder": holder, "number": "12-34-56 12345678" });
    office
        .sql(&format!(
            "UPDATE ledger.account SET {}, hold_until = '2026-03-31', requisites = '{}';
             UPDATE ledger.item SET {}, instalment_no = 2, instalment_count = 4, written_off_on = '2026-03-02',
                 disputed_since = '2026-03-03', dispute_reason = 'dispute_reason', hold_until = '2026-03-04',
                 direct_debit_on = '2026-03-05', requisites = '{}'",
            named(&of_account),
            requisites("of the account"),
            named(&of_item),
            requisites("of the item"),
        ))
        .await;
    let (snapshot, _) = dunningd::daemon::look_at(&office.shell, &"A01".parse().unwrap(), None).await.unwrap();
    let account = serde_json::to_value(&snapshot.account).unwrap();
    let item = serde_json::to_value(&snapshot.items[0]).unwrap();
    for (read, columns) in [(&account, of_account.as_slice()), (&item, of_item.as_slice())] {
        for column in columns {
            assert_eq!(read[column], **column, "{column}");
        }
    }
    assert_eq!(account["hold_until"], "2026-03-31");
    assert_eq!(account["requisites"]["holder"], "of the account");
    assert_eq!(item["instalment"], serde_json::json!({ "number": 2, "count": 4 }));
    assert_eq!(item["written_off_on"], "2026-03-02");
    assert_eq!(item["dispute"], serde_json::json!({ "since": "2026-03-03", "reason": "dispute_reason" }));
    assert_eq!(item["hold_until"], "2026-03-04");
    assert_eq!(item["direct_debit_on"], "2026-03-05");
    assert_eq!(item["requisites"]["holder"], "of the item");
    assert_eq!(snapshot.items[0].bad_data, None);
}

/// The operator's keys are numbers in one table and texts in another; what else is a text in the contract is a uuid or an
/// enum.
const MIXED_KEYS: &str = "
    DROP INDEX ledger.item_in_order, ledger.contact_in_order;
    ALTER TABLE ledger.item ALTER account_id TYPE bigint USING account_id::bigint;
    ALTER TABLE ledger.contact ALTER account_id TYPE int USING account_id::int;
    CREATE TYPE public.kind AS ENUM ('invoice', 'debit_note', 'fee', 'credit_note', 'payment');
    ALTER TABLE ledger.item ALTER kind TYPE public.kind USING kind::public.kind, ALTER payee TYPE bigint USING NULL,
        ALTER hold_reason TYPE uuid USING NULL;
    ALTER TABLE ledger.account ALTER hold_reason TYPE public.kind USING NULL";

#[tokio::test]
async fn keys_that_are_numbers_in_one_relation_and_texts_in_another_are_the_same_keys() {
    let mut office = Office::new().await;
    for account in ["101", "102"] {
        office.account(account, "it", "sede@gruppo.test").await;
        office.invoice(&format!("I{account}"), account, 6, "100.00 EUR").await;
    }
    office.account("103", "it", "conti@a03.test").await;
    office.invoice("I103", "103", -2, "100.00 EUR").await;
    office.sql(MIXED_KEYS).await;
    assert_eq!(office.verdicts().await, ["101 contact", "102 shared_mailbox", "103 not_overdue"]);
    assert_eq!(office.deliver().await.accepted, 1);
    // One that leaves its account is noticed, before the run and in it.
    office.sql("UPDATE ledger.item SET account_id = 103 WHERE item_id = 'I102'").await;
    let dry = ScanRequest { dry_run: true, ..Office::request() };
    for request in [&dry, &Office::request()] {
        let (_, decisions) = office.scan_as(request).await.unwrap();
        assert_eq!(decisions[2].code(), "contact");
    }
    assert_eq!(
        office.lines("SELECT earlier_accounts::text FROM dunning.known_item WHERE item_id = 'I102'").await,
        ["{102}"]
    );
    assert_eq!(office.deliver().await.accepted, 1);
    let item = ItemId::parse("I103").unwrap();
    let mut connection = office.shell.pool.acquire().await.unwrap();
    let owners = record::accounts_of(&mut connection, &[item]).await.unwrap();
    assert_eq!(owners["I103"].0, "103");
    drop(connection);
    office.go_to(day_plus(60)).await;
    let past = SimulationRequest { creditor: None, from: day(), to: day_plus(30), paid_within_days: 7 };
    let live = office.shell.live();
    let report = daemon::simulate(&office.shell, &live.config.policy, None, &past, &mut || {}).await.unwrap();
    assert_eq!(report.base.accounts, 3);
    office.verified().await;
}

#[tokio::test]
async fn no_name_in_the_ledger_keeps_a_letter_from_going_out() {
    let office = Office::new().await;
    office.accounts(5).await;
    office
        .sql(
            r"UPDATE ledger.contact SET name = E'Ada\r\n\tBcc: all@a01.test' WHERE account_id = 'A01';
              UPDATE ledger.contact SET name = '=?utf-8?q?Ada?=' WHERE account_id = 'A02';
              UPDATE ledger.item SET document_no = '=?utf-8?q?FT?=' WHERE account_id = 'A02';
              UPDATE ledger.contact SET name = E'A\u0007d\u202ea' WHERE account_id = 'A03';
              UPDATE ledger.contact SET name = repeat('x', 5000) WHERE account_id = 'A04';
              UPDATE ledger.contact SET name = E'\u200f \n' WHERE account_id = 'A05'",
        )
        .await;
    assert_eq!(office.scan().await.queued, 5);
    assert_eq!(office.deliver().await.accepted, 5);
    let mut written: Vec<String> = office
        .smtp
        .messages()
        .iter()
        .map(|message| {
            let parsed = MessageParser::default().parse(&message.bytes).unwrap();
            assert_eq!(parsed.header_values("Bcc").count(), 0);
            let to = parsed.to().unwrap().first().unwrap();
            format!("{} {}", to.address().unwrap(), to.name().unwrap_or("-"))
        })
        .collect();
    written.sort();
    assert_eq!(
        written,
        [
            "conti@a01.test Ada Bcc: all@a01.test".to_owned(),
            "conti@a02.test = ?utf-8?q?Ada?=".to_owned(),
            "conti@a03.test Ada".to_owned(),
            format!("conti@a04.test {}…", "x".repeat(200)),
            "conti@a05.test Debitore A05".to_owned(),
        ]
    );
    office.verified().await;
}

#[tokio::test]
async fn a_number_of_instalments_that_nobody_can_hold_and_an_account_without_a_creditor_stop_nobody_else() {
    let office = in_a_crowd(1).await;
    office.sql("ALTER TABLE ledger.item ALTER instalment_no TYPE bigint, ALTER instalment_count TYPE bigint").await;
    office.sql("UPDATE ledger.item SET instalment_no = 3000000000, instalment_count = 3000000000").await;
    office.sql("ALTER TABLE ledger.account ALTER creditor DROP NOT NULL").await;
    office.sql("INSERT INTO ledger.account (account_id, name, party_kind) VALUES ('Z1', 'Nobody''s', 'company')").await;
    assert_eq!(told(&office).await[0], "A01 contact");
    let mut connection = office.shell.pool.acquire().await.unwrap();
    let creditors = dunningd::ledger::creditors(&mut connection).await.unwrap();
    assert_eq!(creditors.len(), 1, "{creditors:?}");
    let nobody_s = AccountId::parse("Z1").unwrap();
    assert_eq!(dunningd::ledger::creditor_of(&mut connection, &nobody_s).await.unwrap(), None);
}
