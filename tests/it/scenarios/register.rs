//! What people record about an account, and what the rule makes of it.

use dunningd::model::Cause;

use crate::support::world::{World, check, check_items, item_id};

fn one() -> World {
    World::new().owes("A", 30, "100 EUR")
}

/// What the question of that name was told.
fn inputs(world: &World, rule: &str) -> String {
    let decision = world.decide();
    decision.checks.iter().find(|check| check.rule == rule).unwrap().inputs.clone()
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
