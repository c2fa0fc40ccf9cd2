//! Which notices a person sees first, and which accounts the next working day may bring a notice.

use chrono::NaiveDate;
use dunningd::decide::{expected_by, needs_approval};
use dunningd::model::{ApprovalCause, Country, PartyKind};

use crate::support::world::{World, t_plus};

/// Compares why a person has to see the notice of today's decision.
#[track_caller]
fn check(world: &World, expected: Option<ApprovalCause>) {
    assert_eq!(needs_approval(&world.policy, &world.snapshot, &world.decide()), expected);
}

#[test]
fn a_notice_waits_for_a_person_when_its_own_stage_asks_for_one() {
    let world = World::new().stage("firm", |stage| stage.approval = true).owes("A", 10, "100 EUR");
    check(&world, None);
    check(&world.clone().reminded("friendly", 7, &["A"]), Some(ApprovalCause::Stage));
    check(&world.paid(&["A"]), None);
}

/// A consumer in Poland, and an item due on that day which was written about before.
fn consumer(due: &str) -> World {
    let due: NaiveDate = due.parse().unwrap();
    World::new()
        .account(|account| account.party_kind = PartyKind::Consumer)
        .owes("A", 3, "100 EUR")
        .owes("B", 3, "100 EUR")
        .item("B", |item| item.due_date = Some(due))
        .reminded("friendly", 60, &["A", "B"])
        .reminded("firm", 40, &["A", "B"])
}

#[test]
fn a_person_looks_at_a_consumers_debt_once_the_years_of_limitation_are_over() {
    check(&consumer("2024-03-18"), None);
    check(&consumer("2024-03-18").on(1), Some(ApprovalCause::TimeBarred));
    check(&consumer("2024-03-17"), Some(ApprovalCause::TimeBarred));
    let kind = |kind: PartyKind| consumer("2023-03-17").account(|account| account.party_kind = kind);
    check(&kind(PartyKind::Unknown), Some(ApprovalCause::TimeBarred));
    check(&kind(PartyKind::Company), None);
    let within = |country: Option<Country>| consumer("2023-03-17").account(|account| account.country = country);
    check(&within(Country::parse("DE").ok()), None);
    // Where nobody knows his country, his creditor's says when to ask.
    check(&within(None), Some(ApprovalCause::TimeBarred));
}

#[test]
fn two_years_from_a_leap_day_end_with_its_month() {
    let on = |day: &str| World { today: day.parse().unwrap(), ..consumer("2024-02-29") };
    check(&on("2026-02-28"), None);
    check(&on("2026-03-01"), Some(ApprovalCause::TimeBarred));
}

#[test]
fn a_person_looks_at_an_old_item_that_was_never_written_about() {
    check(&World::new().owes("A", 180, "100 EUR"), None);
    check(&World::new().owes("A", 181, "100 EUR"), Some(ApprovalCause::NeverReminded));
    check(&World::new().owes("A", 181, "100 EUR").reminded("friendly", 7, &["A"]), None);
    // Only what the notice demands.
    let listed = World::new().policy(|policy| policy.item_grace_days = 3).owes("A", 4, "100 EUR");
    let listed = listed.owes("B", 300, "100 EUR").reminded("friendly", 30, &["B"]).reminded("firm", 6, &["B"]);
    check(&listed, None);
}

#[test]
fn the_next_working_day_may_bring_a_notice_to_whom_today_or_that_day_does() {
    let expected = |world: World, days: i64| expected_by(&world.decide(), t_plus(days));
    assert!(expected(World::new().owes("A", 3, "100 EUR"), 1));
    assert!(expected(World::new().owes("A", 2, "100 EUR"), 1));
    assert!(expected(World::new().owes("A", 2, "100 EUR"), 3));
    assert!(!expected(World::new().owes("A", 1, "100 EUR"), 1));
    assert!(!expected(World::new().owes("A", 30, "5 EUR"), 1));
}
