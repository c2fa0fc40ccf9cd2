//! Instalment plans: what they stop, what a missed instalment does, and how items return to their ladder.

use dunningd::model::{
    Calendars, CaseChange, Cause, CreditNetting, Currency, Every, HoldTarget, Money, OnMissed, Weekdays, equal_parts,
};
use proptest::prelude::*;
use rust_decimal::Decimal;

use crate::support::world::{World, check, check_items, check_tasks, day, item_id, t, t_plus};

const PARTS: [(i64, &str); 4] = [(10, "100 EUR"), (40, "100 EUR"), (70, "100 EUR"), (100, "100 EUR")];

/// 400 EUR, friendly behind it, and a plan of four instalments agreed today with two days of tolerance.
fn planned(on_missed: OnMissed) -> World {
    World::new().owes("A", 12, "300 EUR").owes("B", 12, "100 EUR").reminded("friendly", 9, &["A", "B"]).planned(
        &PARTS,
        2,
        on_missed,
        &["A", "B"],
    )
}

fn open(world: World, a: i64, b: i64) -> World {
    world.item("A", |item| item.open_amount = Decimal::from(a)).item("B", |item| item.open_amount = Decimal::from(b))
}

#[test]
fn a_plan_takes_its_items_out_and_nothing_is_sent_while_it_is_kept() {
    let world = planned(OnMissed::Instalment);
    check(&world, "skip all_items_out until T+13");
    check_items(
        &world,
        "A in_plan, B in_plan, plan:1:1:1 not_overdue, plan:1:1:2 not_overdue, plan:1:1:3 not_overdue, plan:1:1:4 not_overdue",
    );
    assert_eq!(world.decide().case, CaseChange::Close);
    for days in 0..13 {
        assert_ne!(world.on(days).decide().code(), "contact", "T+{days}");
    }
    // What was paid is set against the oldest instalments first.
    let paid = open(world, 180, 100);
    check_items(&paid, "A in_plan, B in_plan, plan:1:1:2 not_overdue, plan:1:1:3 not_overdue, plan:1:1:4 not_overdue");
    assert_eq!(paid.decide().items[2].open, Money::new(Decimal::from(80), Currency::parse("EUR").unwrap()));
}

#[test]
fn a_missed_instalment_is_demanded_alone_on_the_day_after_its_tolerance_and_once() {
    let mut world = open(planned(OnMissed::Instalment), 200, 100);
    check(&world.on(42), "wait before_first_stage until T+43");
    world.today = t_plus(43);
    check(&world, "contact plan_missed: demands plan:1:1:2");
    assert_eq!(world.contacting().next_tone, None);
    let diary = world.live(20);
    assert_eq!(diary, ["T+43 plan_missed: plan:1:1:2"]);
    check_tasks(&world, "after_last_stage plan:1:1:2");
}

#[test]
fn when_the_plan_says_so_all_the_rest_falls_due_with_a_missed_instalment() {
    let world = open(planned(OnMissed::All), 200, 100);
    check(&world.on(42), "wait before_first_stage until T+43");
    check(&world.on(43), "contact plan_missed: demands plan:1:1:2, plan:1:1:3, plan:1:1:4");
    assert!(world.on(43).decide().checks.iter().any(|check| check.rule == "plan" && check.inputs.contains("broken")));
    // What fell due early is exhausted as one.
    let mut world = world.on(43);
    assert_eq!(world.live(20), ["T+43 plan_missed: plan:1:1:2 plan:1:1:3 plan:1:1:4"]);
    check_tasks(&world, "after_last_stage plan:1:1:2, after_last_stage plan 1, agreed on 2026-03-18");
}

#[test]
fn a_plan_that_was_broken_and_paid_up_leaves_a_task_when_it_is_missed_again() {
    let mut world = open(planned(OnMissed::All), 200, 100).on(43);
    assert_eq!(world.live(20), ["T+43 plan_missed: plan:1:1:2 plan:1:1:3 plan:1:1:4"]);
    let mut world = open(world, 100, 100);
    check_items(&world, "A in_plan, B in_plan, plan:1:1:3 not_overdue, plan:1:1:4 not_overdue");
    world.today = t_plus(300);
    assert_eq!(world.live(20), [""; 0]);
    check_tasks(&world, "after_last_stage plan:1:1:3, after_last_stage plan 1, agreed on 2026-03-18");
}

#[test]
fn an_item_of_a_plan_that_ended_or_was_kept_goes_on_where_it_stood() {
    let mut world = planned(OnMissed::Instalment).on(5);
    world.snapshot.plans[0].ended = true;
    check(&world, "contact firm: demands A, B");
    let kept = open(planned(OnMissed::Instalment), 0, 0);
    check(&kept, "skip nothing_open");
    // What the plan was not about is demanded as before.
    let more = open(planned(OnMissed::Instalment), 0, 0).owes("C", 12, "50 EUR").on(5);
    check(&more, "contact friendly: demands C");
}

#[test]
fn a_missed_instalment_is_written_about_before_other_items_and_does_not_stop_them() {
    let world = open(planned(OnMissed::Instalment), 200, 100).owes("C", -10, "50 EUR");
    check(&world.on(13), "contact friendly: demands C");
    check(&world.on(43), "contact plan_missed: demands plan:1:1:2; also open C");
    let mut sent = world.on(43);
    let decision = sent.decide();
    sent.happen(&decision);
    sent.today = t_plus(48);
    check(&sent, "contact friendly in neutral words: demands C; also open plan:1:1:2");
}

#[test]
fn whatever_stops_an_item_of_a_plan_stops_its_instalments() {
    let late = open(planned(OnMissed::Instalment), 200, 100).on(43);
    check(&late.clone().disputed("A", Cause::WrongDetails), "skip all_items_out");
    check(&late.clone().hold(HoldTarget::Item(item_id("B")), None), "skip all_items_out");
    check(&late.clone().written_off("A"), "skip all_items_out");
    check(&late.clone().cause(Cause::WrongDetails, Some("A"), 0), "skip all_items_out");
    check(&late.item("A", |item| item.withdrawn = true), "skip all_items_out");
}

#[test]
fn an_item_of_a_plan_that_vanishes_stops_its_instalments_until_a_person_agrees_anew() {
    let mut world = planned(OnMissed::Instalment).paid(&["A"]).on(103);
    world.snapshot.items.retain(|item| item.id.as_str() != "B");
    // What is not there is paid, as long as nobody says otherwise.
    check(&world, "skip nothing_open");
    world.snapshot.plans[0].items[1].vanished = true;
    check(&world, "skip all_items_out");
    check_items(&world, "A settled, plan:1:1:4 withdrawn");
    check_tasks(&world, "fix_data plan 1");
    let decision = world.decide();
    assert_eq!(
        decision.tasks[0].text,
        "item B of the plan is gone from the account without being settled; agree on plan 1 anew, or end it"
    );
    assert_eq!(
        decision.remedies[0].text,
        "Item plan:1:1:4: its plan is agreed anew without what is gone; `dunningd plan K-1 --end 1 --reason …` ends it."
    );
    world.snapshot.plans[0].ended = true;
    check(&world, "skip nothing_open");
    check_tasks(&world, "");
}

#[test]
fn what_stops_an_instalment_is_said_of_the_item_behind_it_whatever_became_of_other_plans() {
    let told = |world: &World| world.decide().remedies.into_iter().map(|one| one.text).collect::<Vec<_>>();
    let late = open(planned(OnMissed::Instalment), 200, 100).on(43).disputed("A", Cause::WrongDetails);
    check_items(&late, "A disputed, B in_plan, plan:1:1:2 disputed, plan:1:1:3 disputed, plan:1:1:4 disputed");
    let behind = [
        "Item A: `dunningd dispute K-1 --item A --resolved --reason …`, once it is settled.",
        "Item A: `dunningd plan K-1 --end 1 --reason …` ends the plan it is in.",
        "Item B: `dunningd plan K-1 --end 1 --reason …` ends the plan it is in.",
    ];
    assert_eq!(told(&late), behind);
    // The version before had an item that vanished.
    let mut anew = late;
    let mut before = anew.snapshot.plans[0].clone();
    (before.ended, before.items[1].vanished) = (true, true);
    anew.snapshot.plans[0].version = 2;
    anew.snapshot.plans.insert(0, before);
    check(&anew, "skip all_items_out");
    assert_eq!(told(&anew), behind);
    // So has another plan.
    let mut another = anew.owes("C", 12, "50 EUR").planned(&[(60, "50 EUR")], 2, OnMissed::Instalment, &["C"]);
    another.snapshot.items.retain(|item| item.id.as_str() != "C");
    another.snapshot.plans[2].items[0].vanished = true;
    assert_eq!(told(&another), behind);
}

#[test]
fn a_credit_note_for_an_item_of_a_plan_pays_the_oldest_instalments_and_nothing_twice() {
    let world = planned(OnMissed::Instalment).credit_note_for("N", "A", "250 EUR").on(43);
    check(&world, "skip all_items_out until T+73");
    check(&world.on(73), "contact plan_missed: demands plan:1:1:3");
    assert_eq!(world.on(73).decide().items[3].to_pay().amount, Decimal::from(50));
}

#[test]
fn what_is_overdue_counts_the_instalments_and_not_the_items_behind_them() {
    let decision = open(planned(OnMissed::Instalment), 200, 100).on(43).decide();
    let overdue: Vec<&str> =
        decision.items.iter().filter(|item| item.is_overdue_debit()).map(|item| item.item.as_str()).collect();
    assert_eq!(overdue, ["plan:1:1:2"]);
}

proptest! {
    #[test]
    fn equal_parts_add_up_to_the_amount(cents in 1000_i64..10_000_000, parts in 1_u32..=36) {
        for (code, scale) in [("EUR", 2), ("JPY", 0)] {
            let total = Money::new(Decimal::new(cents, scale), Currency::parse(code).unwrap());
            let all = equal_parts(total, parts, Every::Month, t());
            prop_assert_eq!(all.iter().map(|one| one.amount).sum::<Decimal>(), total.amount);
            prop_assert!(all.iter().all(|one| one.amount > Decimal::ZERO && one.amount.normalize().scale() <= scale));
            prop_assert!(all.windows(2).all(|pair| pair[0].due_on < pair[1].due_on));
        }
    }

    /// Whatever was paid, and whatever the day: what is left of the instalments is what is left of the items, an item
    /// in a plan is never demanded, and of the instalments only missed ones.
    #[test]
    fn instalments_and_items_agree(paid_a in 0_i64..=300, paid_b in 0_i64..=100, days in 0_i64..200, all in any::<bool>()) {
        let on_missed = if all { OnMissed::All } else { OnMissed::Instalment };
        let world = open(planned(on_missed), 300 - paid_a, 100 - paid_b).on(days);
        let decision = world.decide();
        let left: Decimal =
            decision.items.iter().filter(|i| i.item.as_str().starts_with("plan:")).map(|i| i.open.amount).sum();
        prop_assert_eq!(left, Decimal::from(400 - paid_a - paid_b));
        for item in decision.items.iter().filter(|item| item.code.as_str() == "demanded") {
            prop_assert!(item.item.as_str().starts_with("plan:"), "{}", item.item);
            prop_assert!(item.days_past_due > Some(2));
        }
    }
}

#[test]
fn the_last_of_equal_parts_holds_what_cannot_be_divided() {
    let total = Money::new(Decimal::new(10_000, 2), Currency::parse("EUR").unwrap());
    let parts = equal_parts(total, 3, Every::Quarter, t());
    let told: Vec<String> = parts.iter().map(|one| format!("{} {}", one.due_on, one.amount)).collect();
    assert_eq!(told, ["2026-03-18 33.33", "2026-06-18 33.33", "2026-09-18 33.34"]);
}

#[test]
fn what_stops_an_item_outside_the_plan_does_not_stop_its_instalments() {
    let late = open(planned(OnMissed::Instalment), 200, 100).owes("C", 12, "50 EUR").on(43);
    check(&late.disputed("C", Cause::Dispute), "contact plan_missed: demands plan:1:1:2");
}

/// 300 EUR, long overdue, and a plan of three instalments with two days of tolerance, the first due in ten days.
fn three(on_missed: OnMissed) -> World {
    let parts = [(10, "100 EUR"), (40, "100 EUR"), (70, "100 EUR")];
    World::new().owes("A", 12, "300 EUR").reminded("friendly", 9, &["A"]).planned(&parts, 2, on_missed, &["A"])
}

#[track_caller]
fn told(world: &World, expected: &str) {
    let decision = world.decide();
    let told: Vec<&str> =
        decision.checks.iter().filter(|check| check.rule == "plan").map(|check| &*check.inputs).collect();
    assert_eq!(told, [format!("plan 1: 3 instalments, 300.00 EUR, agreed on 2026-03-18; {expected}")]);
}

#[test]
fn what_came_in_and_is_not_allocated_yet_pays_the_oldest_instalments() {
    for on_missed in OnMissed::ALL {
        let world = three(*on_missed).unallocated("P", "100 EUR").on(13);
        check(&world, "skip account_in_credit until T+43");
        check_items(&world, "A in_plan, P credit, plan:1:1:1 covered, plan:1:1:2 not_overdue, plan:1:1:3 not_overdue");
        told(&world, "100.00 EUR paid since, running; instalment 2 open: 100.00 EUR by 2026-04-27");
        let all = three(*on_missed).unallocated("P", "300 EUR");
        for day in [0, 13, 43, 100] {
            assert_ne!(all.on(day).decide().code(), "contact", "T+{day}");
            told(&all.on(day), "300.00 EUR paid since, running");
        }
    }
}

#[test]
fn what_the_unallocated_money_does_not_cover_is_missed_and_all_the_rest_with_it_where_the_plan_says_so() {
    let part = three(OnMissed::Instalment).unallocated("P", "60 EUR").on(13);
    check(&part, "contact plan_missed: demands plan:1:1:1");
    assert_eq!(part.decide().items[2].to_pay().amount, Decimal::from(40));
    let all = three(OnMissed::All).unallocated("P", "160 EUR");
    told(&all.on(42), "160.00 EUR paid since, running; instalment 2 open: 40.00 EUR by 2026-04-27");
    check(&all.on(43), "contact plan_missed: demands plan:1:1:2, plan:1:1:3");
    told(&all.on(43), "160.00 EUR paid since, broken; instalment 2 open: 40.00 EUR by 2026-04-27");
    let amounts: Vec<Decimal> = all.on(43).decide().items[2..].iter().map(|one| one.to_pay().amount).collect();
    assert_eq!(amounts, [0, 40, 100].map(Decimal::from));
}

#[test]
fn money_for_the_contract_of_the_planned_items_counts_where_credits_stay_within_their_contract() {
    let world = three(OnMissed::All).unallocated("P", "100 EUR").on(13);
    let world = world.policy(|policy| policy.credit_netting = CreditNetting::PerContract);
    let of = |id: &str, world: World| world.item(id, |item| item.contract_no = Some("V-7".to_owned()));
    check(&of("P", of("A", world.clone())), "skip account_in_credit until T+43");
    // What names no contract is for whatever is owed.
    check(&of("A", world.clone()), "skip account_in_credit until T+43");
    let elsewhere = of("A", world).item("P", |item| item.contract_no = Some("V-8".to_owned()));
    check(&elsewhere, "contact plan_missed: demands plan:1:1:1, plan:1:1:2, plan:1:1:3");
}

#[test]
fn an_instalment_that_falls_due_on_a_saturday_is_missed_after_the_next_working_day() {
    // 2026-03-28 is a Saturday; in Poland that makes it due on Monday.
    let weekdays = |world: World| world.policy(|p| p.calendars = Calendars::weekly(Weekdays::MONDAY_TO_FRIDAY));
    let mut world = weekdays(three(OnMissed::All)).policy(|p| p.calendars.due_dates = Calendars::usual_due_dates());
    world.snapshot.plans[0].tolerance_days = 0;
    let open = "instalment 1 open: 100.00 EUR by 2026-03-28";
    for day in 10..=12 {
        told(&world.on(day), &format!("0.00 EUR paid since, running; {open}"));
    }
    told(&world.on(13), &format!("0.00 EUR paid since, broken; {open}"));
    check(&world.on(13), "contact plan_missed: demands plan:1:1:1, plan:1:1:2, plan:1:1:3");
}

#[test]
fn what_falls_due_with_a_missed_instalment_is_printed_with_the_days_that_were_agreed() {
    let world = three(OnMissed::All).unallocated("P", "160 EUR").on(43);
    let printed = |world: &World| -> Vec<String> {
        let (decision, contacting) = (world.decide(), world.contacting());
        let seen = dunningd::decide::seen(&world.policy, &world.snapshot, world.today);
        let rows = dunningd::claim::demands(&seen, &decision, &contacting).into_iter().flat_map(|table| table.rows);
        rows.map(|row| {
            format!("{} due {}, {} days late", row.instalment_no.unwrap(), day(row.due_date), row.days_past_due)
        })
        .collect()
    };
    assert_eq!(printed(&world), ["2 due T+40, 3 days late", "3 due T+70, 0 days late"]);
    assert_eq!(printed(&world.on(75)), ["2 due T+40, 35 days late", "3 due T+70, 5 days late"]);
}
