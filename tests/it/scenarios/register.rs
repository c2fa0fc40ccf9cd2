//! What people record about an account, and what the rule makes of it.

use dunningd::model::{Cause, CauseHold, CauseRule, Country, ItemKind};

use rust_decimal::Decimal;

use crate::support::world::{World, check, check_items, check_tasks, item_id, summary, t_plus};

fn one() -> World {
    World::new().owes("A", 30, "100 EUR")
}

/// What the question of that name was told.
fn inputs(world: &World, rule: &str) -> String {
    let decision = world.decide();
    decision.checks.iter().find(|check| check.rule == rule).unwrap().inputs.to_string()
}

#[test]
fn a_dispute_that_we_recorded_takes_its_item_out_and_the_others_go_on() {
    let world = one().owes("B", 3, "50 EUR").disputed("A", Cause::NotReceived);
    check(&world, "contact friendly: demands B");
    check_items(&world, "A disputed, B demanded");
    assert_eq!(world.contacting().anchor, item_id("B"));
    let only = one().disputed("A", Cause::NotReceived);
    check(&only, "skip all_items_out");
    check(&only.on(400), "skip all_items_out");
    assert_eq!(inputs(&only, "all_items_out"), "item A: disputed (since 2026-03-18, not_received: two boxes missing)");
    assert!(only.decide().items[0].disputed);
}

#[test]
fn a_case_whose_items_are_all_disputed_is_closed() {
    let world = one().reminded("friendly", 10, &["A"]).disputed("A", Cause::WrongDetails);
    assert_eq!(world.decide().case, dunningd::model::CaseChange::Close);
}

#[test]
fn an_account_that_was_handed_over_is_never_written_to_again() {
    let world = one().handed_over();
    check(&world, "hold handed_over");
    assert_eq!(inputs(&world, "handed_over"), "handed over to Collector on 2026-03-18: no answer for months");
    let with_new_items = world.owes("B", 3, "500 EUR").owes("C", -50, "20 EUR");
    for days in 0..400 {
        check(&with_new_items.on(days), "hold handed_over");
    }
    let mut paused = with_new_items;
    paused.snapshot.paused = Some("first".to_owned());
    check(&paused, "hold paused");
}

#[test]
fn while_a_promise_runs_its_items_are_out_up_to_and_including_the_last_day_of_tolerance() {
    let world = one().reminded("friendly", 12, &["A"]).promised("100 EUR", 5, 2, &["A"]);
    check(&world, "skip all_items_out until T+8");
    check(&world.on(7), "skip all_items_out until T+8");
    check_items(&world, "A promise_running");
    let running = "100.00 EUR promised by 2026-03-23, 2 days of tolerance; 0.00 EUR paid since, running";
    assert_eq!(inputs(&world, "promise"), format!("promise 1: {running}"));
    assert_eq!(inputs(&world, "all_items_out"), format!("item A: promise_running ({running})"));
}

#[test]
fn after_a_broken_promise_the_stage_comes_that_was_due_and_not_the_first() {
    let world = one().reminded("friendly", 12, &["A"]).promised("100 EUR", 5, 2, &["A"]).on(8);
    check(&world, "contact firm: demands A");
    assert!(inputs(&world, "promise").ends_with("0.00 EUR paid in time, broken"));
    // Its items were out, so its case was closed: what was sent before it counts all the same.
    let mut closed = world;
    closed.snapshot.case = None;
    check(&closed, "contact firm: demands A");
}

#[test]
fn a_promise_kept_in_part_is_broken_for_the_rest() {
    let paid = |open: i64| {
        let world = one().reminded("friendly", 12, &["A"]).promised("100 EUR", 5, 2, &["A"]);
        world.item("A", |item| item.open_amount = Decimal::from(open))
    };
    check(&paid(40).on(7), "skip all_items_out until T+8");
    check(&paid(40).on(8), "contact firm: demands A");
    assert!(inputs(&paid(40).on(8), "promise").ends_with("60.00 EUR paid in time, partly"));
    // Paying more than was open, or opening it again, is no negative payment.
    assert!(inputs(&paid(130).on(8), "promise").ends_with("0.00 EUR paid in time, broken"));
    check(&paid(0), "skip nothing_open");
}

#[test]
fn a_promise_that_is_kept_early_runs_no_longer_and_the_rest_goes_on() {
    let world = one().reminded("friendly", 12, &["A"]).promised("60 EUR", 5, 2, &["A"]);
    check(&world, "skip all_items_out until T+8");
    let kept = world.item("A", |item| item.open_amount = Decimal::from(40));
    check(&kept, "contact firm: demands A");
    assert!(inputs(&kept, "promise").ends_with("60.00 EUR paid since, kept"));
}

#[test]
fn what_came_in_and_is_not_allocated_yet_keeps_a_promise_and_so_does_a_credit_note() {
    let world = one().promised("100 EUR", 5, 2, &["A"]);
    for paid in [world.clone().unallocated("P", "100 EUR"), world.clone().credit_note_for("N", "A", "100 EUR")] {
        check(&paid.on(8), "skip account_in_credit");
        assert!(inputs(&paid.on(8), "promise").ends_with("100.00 EUR paid since, kept"));
        check_tasks(&paid.on(8), "");
    }
    let part = world.unallocated("P", "60 EUR");
    assert!(inputs(&part, "promise").ends_with("60.00 EUR paid since, running"));
    check_tasks(&part.on(8), "promise_broken promise 1");
    assert!(inputs(&part.on(8), "promise").ends_with("60.00 EUR paid in time, partly"));
    check(&part.on(8), "contact friendly: demands A");
    assert_eq!(part.on(8).decide().items[0].to_pay().amount, Decimal::from(40));
}

#[test]
fn money_that_counts_for_a_promise_does_not_pay_another_item_too() {
    let world = one().owes("B", 10, "100 EUR").promised("100 EUR", 5, 2, &["A"]).unallocated("P", "60 EUR");
    check(&world, "contact friendly: demands B");
    check_items(&world, "A promise_running, B demanded, P credit");
    assert_eq!(world.decide().items[1].to_pay().amount, Decimal::from(100));
    // What is older than the promised item is paid first.
    let younger = one().owes("B", 10, "100 EUR").promised("100 EUR", 5, 2, &["B"]).unallocated("P", "60 EUR");
    assert!(inputs(&younger, "promise").ends_with("0.00 EUR paid since, running"));
    assert_eq!(younger.decide().items[0].to_pay().amount, Decimal::from(40));
}

#[test]
fn whoever_pays_after_the_last_day_of_a_promise_did_not_keep_it() {
    let mut late = one().owes("B", 3, "50 EUR").promised("100 EUR", 5, 2, &["A"]).paid(&["A"]).on(8);
    assert!(inputs(&late, "promise").ends_with("100.00 EUR paid since, kept"));
    late.snapshot.promises[0].paid_in_time = Some(Decimal::from(30));
    assert!(inputs(&late, "promise").ends_with("30.00 EUR paid in time, partly"));
    // A payment that was booked after it does not count, and one that was booked on it does.
    let credit = |day: i64| {
        let world = one().promised("100 EUR", 5, 2, &["A"]).unallocated("P", "100 EUR");
        world.item("P", |payment| payment.issue_date = t_plus(day)).on(10)
    };
    assert!(inputs(&credit(7), "promise").ends_with("100.00 EUR paid since, kept"));
    assert!(inputs(&credit(8), "promise").ends_with("0.00 EUR paid in time, broken"));
    check(&credit(8), "skip account_in_credit");
}

#[test]
fn a_promise_about_one_item_does_not_stop_the_others() {
    let world = one().owes("B", 3, "10 EUR").promised("10 EUR", 30, 0, &["B"]);
    check(&world, "contact friendly: demands A");
    check_items(&world, "A demanded, B promise_running");
}

#[test]
fn an_item_that_vanished_was_not_paid_and_one_that_is_settled_was() {
    let world = one().owes("B", 10, "50 EUR").promised("150 EUR", 5, 0, &["A", "B"]);
    let mut gone = world.clone();
    gone.snapshot.items.retain(|item| item.id.as_str() != "A");
    assert!(inputs(&gone, "promise").ends_with("100.00 EUR paid since, running"));
    gone.snapshot.promises[0].items[0].vanished = true;
    assert!(inputs(&gone, "promise").ends_with("0.00 EUR paid since, running"));
}

#[test]
fn a_promise_that_was_taken_back_stops_nothing_and_of_two_the_longer_one_counts() {
    let two = one().promised("50 EUR", 3, 0, &["A"]).promised("100 EUR", 9, 0, &["A"]);
    check(&two, "skip all_items_out until T+10");
    let mut turned = two.clone();
    turned.snapshot.promises.reverse();
    assert_eq!(summary(&turned.decide()), summary(&two.decide()));
    let mut back = two;
    back.snapshot.promises[1].withdrawn = true;
    check(&back, "skip all_items_out until T+4");
    back.snapshot.promises[0].withdrawn = true;
    check(&back, "contact friendly: demands A");
}

#[test]
fn what_we_wrote_off_is_out_and_says_why() {
    let world = one().owes("B", 3, "50 EUR").written_off("A");
    check(&world, "contact friendly: demands B");
    check_items(&world, "A written_off, B demanded");
    let only = one().written_off("A");
    check(&only, "skip all_items_out");
    assert_eq!(inputs(&only, "all_items_out"), "item A: written_off (since 2026-03-18: not worth a lawsuit)");
}

#[test]
fn an_invoice_that_did_not_arrive_is_sent_again_and_the_wait_begins_anew() {
    let world = one().reminded("friendly", 12, &["A"]).cause(Cause::NotReceived, Some("A"), 0);
    check(&world, "wait too_soon until T+7");
    check(&world.on(7), "contact firm: demands A");
    check_tasks(&world, "send_copy cause 1");
    check(&one().cause(Cause::NotReceived, None, 0), "wait before_first_stage until T+3");
    check(
        &one().owes("B", 3, "50 EUR").cause(Cause::NotReceived, Some("A"), 0),
        "contact friendly: demands B; also open A",
    );
}

#[test]
fn who_says_it_is_paid_is_left_alone_for_five_working_days() {
    let world = one().cause(Cause::SaysPaid, Some("A"), 0);
    // Every day is a working day in this world.
    let last = world.policy.calendars.add_working_days(Country::parse("PL").unwrap(), world.today, 5).unwrap();
    let days = (last - world.today).num_days();
    check_items(&world.on(days), "A item_hold");
    check(&world.on(days + 1), "contact friendly: demands A");
    check_tasks(&world, "find_payment cause 1");
}

#[test]
fn a_cause_whose_last_day_no_calendar_tells_goes_on_and_asks_for_the_calendar() {
    let mut world = one().cause(Cause::SaysPaid, Some("A"), 0);
    world.policy.calendars.elsewhere = None;
    check_items(&world, "A item_hold");
    check_tasks(&world, "add_calendar PL 2026, find_payment cause 1");
    check_items(&world.on(100), "A item_hold");
}

#[test]
fn a_cause_holds_what_it_was_recorded_on() {
    let two = || one().owes("B", 3, "50 EUR");
    for cause in [Cause::WrongDetails, Cause::Dispute] {
        check(&two().cause(cause, Some("A"), 0), "contact friendly: demands B");
        check(&two().cause(cause, None, 0), "hold account_hold");
        check(&two().cause(cause, None, 0).on(400), "hold account_hold");
    }
    check_items(&two().cause(Cause::Dispute, Some("A"), 0), "A disputed, B demanded");
    let reason = "item A: item_hold (until it is released: cause wrong_details: told by phone)";
    assert_eq!(inputs(&one().cause(Cause::WrongDetails, Some("A"), 0), "all_items_out"), reason);
    for cause in [Cause::CashProblem, Cause::Withholding, Cause::Unknown, Cause::Unwilling] {
        check(&two().cause(cause, None, 0), "contact friendly: demands A, B");
    }
}

#[test]
fn the_policy_says_what_follows_from_a_cause() {
    let rule = CauseRule { hold: CauseHold::Account, ..CauseRule::NOTHING };
    let world = one().owes("B", 3, "50 EUR").cause(Cause::Unknown, Some("A"), 0);
    check(&world, "contact friendly: demands A, B");
    check(&world.policy(|policy| policy.causes = [(Cause::Unknown, rule)].into()), "hold account_hold");
}

#[test]
fn who_does_not_want_to_pay_waits_half_as_long_between_stages() {
    let world = World::new().owes("A", 3, "100 EUR").reminded("friendly", 0, &["A"]);
    check(&world, "wait too_soon until T+7");
    check(&world.clone().cause(Cause::Unwilling, None, 0), "wait too_soon until T+4");
    // The caps hold all the same.
    check(&world.cause(Cause::Unwilling, None, 0).on(4), "wait contact_cap until T+5");
}

#[test]
fn a_broken_promise_is_a_task_while_something_of_it_is_owed() {
    let world = one().promised("100 EUR", 5, 2, &["A"]);
    check_tasks(&world.on(7), "");
    check_tasks(&world.on(8), "promise_broken promise 1");
    check_tasks(&one().promised("100 EUR", 5, 2, &["A"]).handed_over().on(8), "");
    check_tasks(&world.paid(&["A"]).on(8), "");
}

#[test]
fn money_that_comes_in_after_a_hand_over_is_a_task_for_each_change() {
    let world = one().owes("B", -20, "50 EUR").handed_over();
    check_tasks(&world, "");
    let paid = world.item("A", |item| item.open_amount = Decimal::from(70));
    check_tasks(&paid, "payment_after_handover handover 1: 30.00 EUR");
    check(&paid, "hold handed_over");
    // What somebody allocates later is the same money.
    let unallocated = paid.unallocated("P", "20 EUR");
    check_tasks(&unallocated, "payment_after_handover handover 1: 50.00 EUR");
    let mut allocated = unallocated.item("B", |item| item.open_amount = Decimal::from(30));
    allocated.snapshot.items.retain(|item| item.id.as_str() != "P");
    check_tasks(&allocated, "payment_after_handover handover 1: 50.00 EUR");
    check_tasks(&allocated.owes("F", -1, "40 EUR"), "payment_after_handover handover 1: 50.00 EUR");
}

#[test]
fn a_stage_done_elsewhere_counts_from_its_day() {
    let mut world = one().waived("friendly", 5, "A");
    world.snapshot.history.waivers[0].elsewhere = Some("old system".to_owned());
    check(&world, "wait too_soon until T+2");
    check(&world.on(2), "contact firm: demands A");
}

#[test]
fn a_write_off_keeps_the_history_and_taking_it_back_goes_on_where_it_stood() {
    let world = one().reminded("friendly", 12, &["A"]).written_off("A");
    check(&world, "skip all_items_out");
    let decision = world.decide();
    assert_eq!(decision.case, dunningd::model::CaseChange::Close);
    assert_eq!(decision.items[0].reminded_on, Some(t_plus(-12)));
    let mut back = world;
    back.happen(&decision);
    back.snapshot.write_offs.clear();
    check(&back, "contact firm: demands A");
}

#[test]
fn a_new_fee_changes_nothing_for_an_account_that_was_handed_over() {
    let fee = one().handed_over().owes("F", 40, "15 EUR").item("F", |item| item.kind = ItemKind::Fee);
    check(&fee, "hold handed_over");
    check_tasks(&fee, "");
    check_tasks(&fee.paid(&["A"]), "payment_after_handover handover 1: 100.00 EUR");
}

#[test]
fn a_cause_is_a_task_only_while_something_that_it_concerns_is_owed() {
    let world = one().owes("B", 3, "50 EUR").cause(Cause::SaysPaid, Some("A"), 0);
    check_tasks(&world, "find_payment cause 1");
    check_tasks(&world.paid(&["A"]), "");
    let of_account = one().cause(Cause::SaysPaid, None, 0).credit_note("G", "10 EUR");
    check_tasks(&of_account, "find_payment cause 1");
    check_tasks(&of_account.paid(&["A"]), "");
}

#[test]
fn a_broken_promise_about_what_vanished_is_no_task() {
    let mut world = one().owes("B", 3, "50 EUR").promised("100 EUR", 5, 0, &["A"]).on(6);
    check_tasks(&world, "promise_broken promise 1");
    world.snapshot.items.retain(|item| item.id.as_str() != "A");
    world.snapshot.promises[0].items[0].vanished = true;
    check_tasks(&world, "");
}

#[test]
fn a_cause_about_the_debtor_holds_the_whole_account_also_when_it_was_recorded_on_an_item() {
    let two = || World::new().owes("A", 5, "100 EUR").owes("B", 5, "100 EUR");
    for cause in [Cause::Insolvency, Cause::Represented, Cause::WrongParty, Cause::Deceased] {
        check(&two().cause(cause, Some("A"), 1), "hold account_hold");
    }
    check(&two().cause(Cause::WrongDetails, Some("A"), 1), "contact friendly: demands B");
}

#[test]
fn what_was_booked_by_the_last_day_of_a_promise_counts_for_it_and_what_was_booked_later_never_does() {
    let paid = |amount: &str, day: i64| {
        let world = one().promised("100 EUR", 5, 2, &["A"]).unallocated("P", "60 EUR").unallocated("Q", amount);
        let world = world.item("P", |payment| payment.issue_date = t_plus(7));
        world.item("Q", |payment| payment.issue_date = t_plus(day))
    };
    assert!(inputs(&paid("40 EUR", 7).on(10), "promise").ends_with("100.00 EUR paid since, kept"));
    assert!(inputs(&paid("40 EUR", 8).on(10), "promise").ends_with("60.00 EUR paid in time, partly"));
    // A payment dated ahead does not keep it for a day, only to break it on the next.
    assert!(inputs(&paid("40 EUR", 8).on(7), "promise").ends_with("60.00 EUR paid since, running"));
}

#[test]
fn a_dispute_that_a_person_recorded_leaves_the_task_that_its_cause_has_in_the_policy() {
    let world = World::new().owes("A", 3, "100 EUR").owes("B", 3, "100 EUR").disputed("A", Cause::Dispute);
    check_tasks(&world, "settle_dispute dispute 1");
    check_tasks(&world.paid(&["A"]), "");
}

#[test]
fn a_promise_about_what_was_written_off_is_not_broken() {
    let state = |world: &World| {
        let standings = dunningd::decide::standings(&world.policy, &world.snapshot, crate::support::world::t());
        standings[0].1.state.as_str()
    };
    let made = || World::new().owes("A", 30, "100 EUR").owes("B", 30, "50 EUR");
    // All of it: nobody waits for it any more. A part: the rest was promised still.
    assert_eq!(state(&made().promised("100 EUR", -5, 0, &["A"])), "broken");
    assert_eq!(state(&made().promised("100 EUR", -5, 0, &["A"]).written_off("A")), "withdrawn");
    assert_eq!(state(&made().promised("150 EUR", -5, 0, &["A", "B"]).written_off("A")), "broken");
    assert_eq!(state(&made().promised("150 EUR", -5, 0, &["A", "B"]).written_off("A").paid(&["B"])), "kept");
    // Less than is left was promised: it may have been about the rest.
    assert_eq!(state(&made().promised("40 EUR", 5, 0, &["A", "B"]).written_off("A")), "running");
}
