//! What takes an item or an account out.

use dunningd::model::{AccountId, Dispute, HoldTarget, Item};

use crate::support::world::{World, check, check_items, check_tasks, item_id, summary, t, t_plus};

fn one() -> World {
    World::new().owes("A", 30, "100 EUR")
}

fn account() -> HoldTarget {
    HoldTarget::Account(AccountId::parse("K-1").unwrap())
}

#[test]
fn a_hold_covers_its_last_day() {
    let by_ledger = one().account(|account| account.hold_until = Some(t()));
    check(&by_ledger, "hold account_hold until T+1");
    check(&by_ledger.on(1), "contact friendly: demands A");
    let by_person = one().hold(account(), Some(0));
    check(&by_person, "hold account_hold until T+1");
    check(&by_person.on(1), "contact friendly: demands A");
}

#[test]
fn a_hold_without_last_day_lasts_until_it_is_cleared() {
    check(&one().account(|account| account.hold_reason = Some("legal".to_owned())), "hold account_hold");
    check(&one().hold(account(), None), "hold account_hold");
}

#[test]
fn days_at_the_end_of_the_calendar_stop_no_scan() {
    let never = chrono::NaiveDate::MAX;
    let then = format!("T+{}", (never - t()).num_days());
    let mut held = one().hold(account(), Some(0));
    held.snapshot.holds[0].until = Some(never);
    check(&held, &format!("hold account_hold until {then}"));
    let item = one().item("A", |item| item.hold_until = Some(never));
    check(&item, "skip all_items_out");
    let mut promised = one().promised("100 EUR", 5, 90, &["A"]);
    promised.snapshot.promises[0].by_day = never;
    check_items(&promised, "A promise_running");
    let due = one().owes("B", 30, "100 EUR").item("B", |item| item.due_date = Some(never));
    check_items(&due, "A demanded, B not_overdue");
    let debit = one().item("A", |item| item.direct_debit_on = Some(never));
    check_items(&debit, "A direct_debit");
}

#[test]
fn of_two_holds_the_longer_one_counts() {
    let short_by_ledger = one().account(|account| account.hold_until = Some(t_plus(2)));
    check(&short_by_ledger.clone().hold(account(), Some(9)), "hold account_hold until T+10");
    check(&short_by_ledger.hold(account(), None), "hold account_hold");
}

#[test]
fn an_item_hold_says_when_it_ends() {
    let by_ledger = one().item("A", |item| item.hold_until = Some(t_plus(4)));
    check(&by_ledger, "skip all_items_out until T+5");
    check_items(&by_ledger, "A item_hold");
    check(&by_ledger.on(5), "contact friendly: demands A");
    check(&one().hold(HoldTarget::Item(item_id("A")), Some(4)), "skip all_items_out until T+5");
    check(&one().hold(HoldTarget::Item(item_id("A")), None), "skip all_items_out");
    check(&one().hold(HoldTarget::Item(item_id("B")), None), "contact friendly: demands A");
}

#[test]
fn a_disputed_invoice_is_neither_anchor_nor_in_the_letter() {
    let world = one().owes("B", 3, "50 EUR").item("A", |item| {
        item.dispute = Some(Dispute { since: Some(t_plus(-10)), reason: Some("quantity".to_owned()) });
    });
    check(&world, "contact friendly: demands B");
    check_items(&world, "A disputed, B demanded");
    assert_eq!(world.contacting().anchor, item_id("B"));
}

#[test]
fn a_written_off_invoice_is_out_from_its_day() {
    let world = one().item("A", |item| item.written_off_on = Some(t_plus(1)));
    check(&world, "contact friendly: demands A");
    check(&world.on(1), "skip all_items_out");
    check_items(&world.on(1), "A written_off");
}

#[test]
fn an_invoice_that_we_collect_ourselves_waits_until_that_has_failed() {
    let world = one().item("A", |item| item.direct_debit_on = Some(t()));
    check(&world, "skip all_items_out until T+8");
    check_items(&world.on(7), "A direct_debit");
    check(&world.on(8), "contact friendly: demands A");
}

#[test]
fn an_assigned_invoice_is_not_ours_to_demand() {
    let world = one().item("A", |item| item.payee = Some("Factor S.A.".to_owned()));
    check(&world, "skip all_items_out");
    check_items(&world, "A assigned");
}

#[test]
fn an_invoice_that_vanished_is_not_dunned_again_without_a_person() {
    let world = one().owes("B", 30, "100 EUR").item("A", |item| item.withdrawn = true);
    check(&world, "contact friendly: demands B");
    check_items(&world, "A withdrawn, B demanded");
    check_tasks(&world, "fix_data withdrawn");
}

#[test]
fn one_bad_row_is_quarantined_and_the_others_go_on() {
    let world = one().owes("B", 30, "100 EUR").item("A", |item| item.bad_data = Some("wrong sign".to_owned()));
    check(&world, "contact friendly: demands B");
    check_items(&world, "A bad_data, B demanded");
    check_tasks(&world, "fix_data bad_data");
}

#[test]
fn what_is_to_be_mended_on_an_account_is_one_task_per_cause_that_lists_its_items() {
    let bad = |text: &str| {
        let text = text.to_owned();
        move |item: &mut Item| item.bad_data = Some(text)
    };
    let world = one()
        .owes("B", 30, "100 EUR")
        .item("A", bad("wrong sign"))
        .owes("C", 30, "100 EUR")
        .item("C", bad("unknown currency"))
        .owes("D", 30, "100 EUR")
        .item("D", bad("wrong sign"))
        .owes("E", 30, "100 EUR")
        .item("E", |item| item.due_date = None);
    check_tasks(&world, "fix_data bad_data, fix_data data_due_date_missing");
    let texts: Vec<String> = world.decide().tasks.into_iter().map(|task| task.text).collect();
    assert_eq!(texts, ["A, D: wrong sign; C: unknown currency", "E: the item has no due date"]);

    let mut many = one();
    for n in 10..40 {
        many = many.owes(&format!("B{n}"), 30, "100 EUR").item(&format!("B{n}"), bad("wrong sign"));
    }
    check_tasks(&many, "fix_data bad_data");
    let text = many.decide().tasks.remove(0).text;
    assert!(text.starts_with("B10, B11, ") && text.ends_with(", B29 and 10 more: wrong sign"), "{text}");
}

#[test]
fn an_account_hold_in_mid_case_changes_no_stage_and_lifting_it_goes_on_with_spacing() {
    let world = one().reminded("friendly", 6, &["A"]);
    let held = world.clone().hold(account(), Some(20));
    check(&held.on(10), "hold account_hold until T+21");
    check(&held.on(21), "contact firm: demands A");
    check(&world, "wait too_soon until T+1");
}

#[test]
fn a_pause_comes_before_everything_else() {
    let mut world = one().hold(account(), None);
    world.snapshot.paused = Some("wrong bank account in the letters".to_owned());
    let decision = world.decide();
    assert_eq!(summary(&decision), "hold paused");
    assert_eq!(decision.checks[0].inputs, "wrong bank account in the letters");
}

#[test]
fn an_item_due_later_says_when_the_account_is_looked_at_again() {
    check(&one().paid(&["A"]).owes("B", -10, "100 EUR"), "wait not_overdue until T+13");
    let small = World::new().owes("A", 30, "5 EUR").owes("B", -10, "100 EUR");
    check(&small, "skip below_minimum until T+11");
    check(&small.on(11), "contact friendly: demands A; also open B");
}
