//! One account replayed over its past: each notice accepted on its day, contacts counted, settled items gone.

use chrono::NaiveDate;
use dunningd::daemon::{Replay, replay};
use dunningd::ledger::{AccountHistory, ItemHistory};
use dunningd::model::{Dispute, ReasonCode};
use rust_decimal::Decimal;

use crate::support::world::{World, day, t, t_plus};

/// The world's items as a history in which nothing was paid, changed as the case says.
fn history(world: &World, change: impl Fn(&mut ItemHistory)) -> AccountHistory {
    let items = world.snapshot.items.iter().map(|item| {
        let mut one =
            ItemHistory { open_now: item.open_amount, settled_on: None, bookings: Vec::new(), item: item.clone() };
        change(&mut one);
        one
    });
    let (account, contacts) = (world.snapshot.account.clone(), world.snapshot.contacts.clone());
    AccountHistory { account, contacts, items: items.collect() }
}

fn over(world: &World, days: i64, change: impl Fn(&mut ItemHistory)) -> Replay {
    replay(&world.policy, &history(world, change), t(), t_plus(days))
}

/// Compares the contacts, each as `T+3 friendly: A`.
#[track_caller]
fn check(replay: &Replay, expected: &[&str]) {
    let line = |one: &dunningd::daemon::SimulatedContact| {
        let items: Vec<String> = one.items.iter().map(|(item, _)| item.to_string()).collect();
        format!("{} {}: {}", day(one.on), one.stage, items.join(" "))
    };
    assert_eq!(replay.contacts.iter().map(line).collect::<Vec<_>>(), expected);
}

fn settled(on: NaiveDate) -> impl Fn(&mut ItemHistory) {
    move |one| {
        one.settled_on = Some(on);
        one.open_now = Decimal::ZERO;
    }
}

#[test]
fn each_notice_is_accepted_on_its_day_and_the_next_stage_follows_by_its_gap() {
    let done = over(&World::new().owes("A", 0, "100 EUR"), 40, |_| {});
    check(&done, &["T+3 friendly: A", "T+10 firm: A", "T+20 final: A", "T+30 formal: A"]);
    assert_eq!(done.first_contacts, [3]);
    assert_eq!(done.reasons[&ReasonCode::LadderExhausted], 10);
}

#[test]
fn accepted_notices_count_for_the_cap() {
    // B comes to its first stage the day after A: the cap of one contact in five days holds it back for four days.
    let done = over(&World::new().owes("A", 0, "100 EUR").owes("B", -1, "50 EUR"), 9, |_| {});
    check(&done, &["T+3 friendly: A", "T+8 friendly: B"]);
    assert_eq!(done.reasons[&ReasonCode::ContactCap], 4);
}

#[test]
fn a_settled_item_is_gone_from_the_day_it_was_settled() {
    let world = World::new().owes("A", 0, "100 EUR");
    check(&over(&world, 40, settled(t_plus(10))), &["T+3 friendly: A"]);
    check(&over(&world, 40, settled(t_plus(11))), &["T+3 friendly: A", "T+10 firm: A"]);
    check(&over(&world, 40, settled(t_plus(3))), &[]);
}

#[test]
fn a_part_payment_below_the_minimum_ends_the_climb() {
    let world = World::new().owes("A", 0, "100 EUR");
    let done = over(&world, 40, |one| one.bookings = vec![(t_plus(8), Decimal::from(95))]);
    check(&done, &["T+3 friendly: A"]);
    assert_eq!(done.reasons[&ReasonCode::BelowMinimum], 33);
}

#[test]
fn a_dispute_counts_from_its_day() {
    let world = World::new().owes("A", 0, "100 EUR");
    let done = over(&world, 40, |one| one.item.dispute = Some(Dispute { since: Some(t_plus(10)), reason: None }));
    check(&done, &["T+3 friendly: A"]);
}

#[test]
fn a_case_that_was_overdue_before_the_span_tells_nothing_about_the_first_contact() {
    let done = over(&World::new().owes("A", 9, "100 EUR"), 2, |_| {});
    check(&done, &["T friendly: A"]);
    assert_eq!(done.first_contacts, Vec::<i64>::new());
}
