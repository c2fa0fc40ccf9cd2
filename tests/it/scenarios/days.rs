//! When something is due at all.

use chrono::{TimeZone as _, Utc};
use dunningd::clock::Clock;
use dunningd::model::{ReasonCode, Verdict, Weekdays};

use crate::support::world::{World, check, check_items, check_tasks, money, t, t_plus};

#[test]
fn nothing_is_late_on_the_due_day() {
    check(&World::new().owes("A", 0, "100 EUR"), "wait not_overdue until T+3");
}

#[test]
fn before_the_first_stage_nothing_is_sent() {
    check(&World::new().owes("A", 2, "100 EUR"), "wait before_first_stage until T+1");
}

#[test]
fn the_first_stage_is_due_on_its_day() {
    check(&World::new().owes("A", 3, "100 EUR"), "contact friendly: demands A");
}

#[test]
fn an_old_item_starts_with_the_first_stage_and_not_the_last() {
    check(&World::new().owes("A", 30, "100 EUR"), "contact friendly: demands A");
}

#[test]
fn an_item_in_grace_is_not_demanded() {
    let world = World::new().owes("A", 1, "100 EUR").policy(|policy| policy.item_grace_days = 3);
    check(&world, "wait in_grace until T+3");
    check_items(&world, "A in_grace");
}

#[test]
fn after_its_grace_an_item_counts_with_its_full_days() {
    let world = World::new().owes("A", 4, "100 EUR").policy(|policy| policy.item_grace_days = 3);
    check(&world, "contact friendly: demands A");
    assert_eq!(world.decide().items[0].days_past_due, Some(4));
}

#[test]
fn an_item_that_leaves_its_grace_before_its_first_stage_waits_for_the_stage() {
    let world = World::new().owes("A", 1, "100 EUR").policy(|policy| policy.item_grace_days = 1);
    check(&world, "wait in_grace until T+2");
    check(&world.on(1), "wait before_first_stage until T+2");
}

#[test]
fn an_account_is_not_contacted_before_its_oldest_item_is_late_enough() {
    let world = World::new().owes("A", 5, "100 EUR").policy(|policy| {
        policy.item_grace_days = 3;
        policy.account_min_arrears_days = 6;
    });
    check(&world, "wait account_min_arrears until T+1");
    let with_a_younger_one = world.owes("B", 1, "50 EUR").on(1);
    check(&with_a_younger_one, "contact friendly: demands A; also open B");
}

#[test]
fn the_local_date_decides_shortly_after_midnight() {
    let clock = Clock::fixed(Utc.with_ymd_and_hms(2026, 3, 17, 23, 30, 0).unwrap());
    let mut world = World::new().owes("A", 3, "100 EUR");
    world.today = clock.today(world.policy.zone(&world.snapshot.account.creditor));
    assert_eq!(world.today, t());
    check(&world, "contact friendly: demands A");
}

#[test]
fn the_local_date_decides_in_summer_time_too() {
    let clock = Clock::fixed(Utc.with_ymd_and_hms(2026, 6, 30, 22, 30, 0).unwrap());
    let today = clock.today(chrono_tz::Europe::Warsaw);
    assert_eq!(today.to_string(), "2026-07-01");
}

#[test]
fn gaps_are_whole_days_whatever_the_hour_of_the_last_letter() {
    let world = World::new().owes("A", 21, "100 EUR").reminded("friendly", 7, &["A"]);
    check(&world, "contact firm: demands A");
    check(&world.on(-1), "wait too_soon until T");
}

#[test]
fn an_item_without_due_date_is_left_out_and_the_others_go_on() {
    let world = World::new().owes("A", 3, "100 EUR").item("A", |item| item.due_date = None);
    check(&world, "skip all_items_out");
    let world = world.owes("B", 3, "100 EUR");
    check(&world, "contact friendly: demands B");
    check_items(&world, "A data_due_date_missing, B demanded");
    check_tasks(&world, "fix_data A");
}

#[test]
fn a_missing_due_date_is_told_before_what_else_is_wrong_with_the_item() {
    let world = World::new().owes("A", 3, "100 EUR").item("A", |item| {
        item.due_date = None;
        item.payee = Some("Factor S.A.".to_owned());
    });
    check_items(&world, "A data_due_date_missing");
}

#[test]
fn a_stage_on_the_due_day_itself_is_due_from_the_day_after() {
    let world = World::new().owes("A", 0, "100 EUR").stage("friendly", |stage| stage.days = 0);
    check(&world, "wait not_overdue until T+1");
    check(&world.on(1), "contact friendly: demands A");
}

#[test]
fn a_stage_before_the_due_day_lapses_once_that_day_has_passed() {
    let world = World::new().owes("A", 3, "100 EUR").stage("friendly", |stage| stage.days = -3);
    check(&world, "wait before_first_stage until T+7");
}

#[test]
fn a_stage_day_on_a_saturday_waits_for_monday() {
    let world = World::new()
        .owes("A", 0, "100 EUR")
        .policy(|policy| policy.calendars = dunningd::model::Calendars::weekly(Weekdays::MONDAY_TO_FRIDAY));
    check(&world.on(3), "wait outside_send_days until T+5");
    check(&world.on(5), "contact friendly: demands A");
}

#[test]
fn spacing_counts_from_the_day_of_sending_and_not_from_the_stage_day() {
    let mut world = World::new()
        .owes("A", 0, "100 EUR")
        .policy(|policy| policy.calendars = dunningd::model::Calendars::weekly(Weekdays::MONDAY_TO_FRIDAY));
    assert_eq!(world.live(20), ["T+5 friendly: A", "T+12 firm: A"]);
}

#[test]
fn a_deadline_on_a_day_off_moves_to_the_next_working_day() {
    let world = World::new()
        .owes("A", 3, "100 EUR")
        .stage("friendly", |stage| stage.respond_within = Some(10))
        .policy(|policy| policy.calendars = dunningd::model::Calendars::weekly(Weekdays::MONDAY_TO_FRIDAY));
    check(&world, "contact friendly by T+12: demands A");
}

#[test]
fn the_reason_that_comes_first_in_the_list_is_the_one_that_is_told() {
    let world = World::new().owes("A", 1, "5 EUR").policy(|policy| policy.item_grace_days = 3);
    check(&world, "skip below_minimum");
    let held = world.account(|account| account.hold_until = Some(t_plus(4)));
    check(&held, "hold account_hold until T+5");
}

#[test]
fn every_reason_is_told_with_what_went_into_it() {
    let decision = World::new().owes("A", 3, "5 EUR").decide();
    let Verdict::No { code: ReasonCode::BelowMinimum, .. } = decision.verdict else { panic!("{decision:?}") };
    let last = decision.checks.last().unwrap();
    assert_eq!((last.rule.as_str(), last.passed), ("below_minimum", false));
    assert_eq!(last.inputs, format!("{} overdue, minimum {}", money("5 EUR"), money("10 EUR")));
    assert_eq!(last.location.as_deref(), Some("policy.toml:minimum.EUR"));
}
