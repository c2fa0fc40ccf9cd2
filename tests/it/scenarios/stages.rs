//! Which stage comes next, and what blocks it.

use dunningd::decide::{ladder_of, needs_approval};
use dunningd::model::{
    ApprovalCause, Cause, Currency, Demands, NoticeState, OnUnknown, PartyKind, StageCondition, Tone,
};
use rust_decimal::Decimal;

use crate::support::world::{World, check, check_items, check_tasks, money, stage_name};

#[test]
fn a_long_silence_is_caught_up_stage_by_stage() {
    let mut world = World::new().owes("A", 100, "100 EUR");
    assert_eq!(world.live(60), ["T friendly: A", "T+7 firm: A", "T+17 final: A", "T+27 formal: A"]);
    let world = World::new().owes("A", 101, "100 EUR").reminded("friendly", 1, &["A"]);
    check(&world, "wait too_soon until T+6");
}

#[test]
fn a_refused_notice_blocks_the_next_stage_until_somebody_looks() {
    let world = World::new().owes("A", 30, "100 EUR").notice(NoticeState::Refused, "friendly", 20, &["A"]);
    check(&world, "hold previous_stage_incomplete");
    check_tasks(&world, "resolve_notice 00000000-0000-7000-8000-000000000001");
}

#[test]
fn a_bounced_notice_completes_nothing_and_blocks_too() {
    let world = World::new().owes("A", 30, "100 EUR").notice(NoticeState::Bounced, "friendly", 20, &["A"]);
    check(&world, "hold previous_stage_incomplete");
}

#[test]
fn a_failed_notice_blocks_no_longer_once_its_items_are_paid() {
    let world = World::new().owes("A", 30, "100 EUR").owes("B", 3, "100 EUR");
    let failed = world.notice(NoticeState::Refused, "friendly", 20, &["A"]);
    check(&failed, "hold previous_stage_incomplete");
    check(&failed.paid(&["A"]), "contact friendly: demands B");
}

#[test]
fn a_notice_resolved_as_not_sent_is_sent_again_at_the_same_stage() {
    let world = World::new().owes("A", 30, "100 EUR").notice(NoticeState::Cancelled, "friendly", 20, &["A"]);
    check(&world, "contact friendly: demands A");
}

#[test]
fn nothing_else_is_sent_while_a_notice_is_on_its_way() {
    let world = World::new().owes("A", 30, "100 EUR").notice(NoticeState::Deferred, "friendly", 20, &["A"]);
    check(&world, "wait notice_pending");
}

#[test]
fn after_a_waiver_the_next_stage_comes_on_its_own_day() {
    let world = World::new().owes("A", 9, "100 EUR").waived("friendly", 6, "A");
    check(&world, "wait too_soon until T+1");
    check(&world.on(1), "contact firm: demands A");
}

#[test]
fn a_waiver_resolves_a_refused_notice_for_the_item_it_names() {
    let refused = World::new().owes("A", 9, "100 EUR").notice(NoticeState::Refused, "friendly", 6, &["A"]);
    check(&refused.waived("friendly", 6, "A"), "wait too_soon until T+1");
    let two = World::new().owes("A", 9, "100 EUR").owes("B", 9, "100 EUR");
    let two = two.notice(NoticeState::Refused, "friendly", 6, &["A", "B"]).waived("friendly", 6, "A");
    check(&two, "hold previous_stage_incomplete");
}

#[test]
fn an_unknown_notice_resolved_as_accepted_counts_from_its_own_day() {
    let world = World::new().owes("A", 20, "100 EUR");
    check(&world.clone().notice(NoticeState::Unknown, "friendly", 17, &["A"]), "hold previous_stage_incomplete");
    check(&world.notice(NoticeState::Accepted, "friendly", 17, &["A"]), "contact firm: demands A");
}

#[test]
fn the_next_stage_waits_for_the_deadline_that_was_named() {
    let world =
        World::new().owes("A", 20, "100 EUR").reminded("friendly", 17, &["A"]).reminded("firm", 10, &["A"]).naming(14);
    check(&world, "wait too_soon until T+5");
    check(&world.on(5), "contact final: demands A");
}

#[test]
fn after_the_last_stage_a_person_is_told_once_the_deadline_is_over() {
    let world = climbed(&["A"], 0);
    check(&world, "skip ladder_exhausted");
    check_tasks(&world, "");
    check_tasks(&world.on(1), "after_last_stage A");
    let with_deadline = climbed(&["A"], 0).naming(10);
    check(&with_deadline.on(10), "wait deadline_running until T+11");
    check_tasks(&with_deadline.on(10), "");
    check_tasks(&with_deadline.on(11), "after_last_stage A");
}

#[test]
fn an_exhausted_item_asks_for_a_person_also_while_newer_items_go_on() {
    let world = climbed(&["A"], 40).owes("B", 3, "100 EUR");
    check(&world, "contact friendly in neutral words: demands B; also open A");
    check_tasks(&world, "after_last_stage A");
    check_items(&world, "A information, B demanded");
}

/// An item 70 days late with every stage behind it; the last one so many days before `T`.
fn climbed(items: &[&str], formal_days_ago: i64) -> World {
    let world = items.iter().fold(World::new(), |world, id| world.owes(id, 70, "100 EUR"));
    world
        .reminded("friendly", formal_days_ago + 27, items)
        .reminded("firm", formal_days_ago + 20, items)
        .reminded("final", formal_days_ago + 10, items)
        .reminded("formal", formal_days_ago, items)
}

#[test]
fn a_case_keeps_its_ladder_and_takes_todays_minimum() {
    let open = World::new().owes("A", 9, "100 EUR").reminded("friendly", 6, &["A"]);
    let slower = open.stage("firm", |stage| stage.days = 15);
    check(&slower, "wait too_soon until T+1");
    let dearer = slower.policy(|policy| policy.minimums.by_currency.values_mut().for_each(|min| *min *= Decimal::TEN));
    check(&dearer.item("A", |item| item.open_amount = Decimal::TEN), "skip below_minimum");
}

#[test]
fn a_case_takes_todays_conditions_approvals_and_answers_to_an_unknown_outcome() {
    let open = World::new().owes("A", 30, "100 EUR").reminded("friendly", 27, &["A"]).reminded("firm", 20, &["A"]);
    check(&open, "contact final: demands A");
    let waits = |world: &World| needs_approval(&world.policy, &world.snapshot, &world.decide());
    assert_eq!(waits(&open), None);
    let changed = open.clone().stage("final", |stage| {
        (stage.approval, stage.on_unknown) = (true, OnUnknown::ResendOnce);
        stage.location = "policy.toml:99".into();
    });
    assert_eq!(waits(&changed), Some(ApprovalCause::Stage));
    let ladder = ladder_of(&changed.policy, &changed.snapshot);
    assert_eq!(ladder.stages[2].on_unknown, OnUnknown::ResendOnce);
    // Also where no stage is what it was.
    let all_changed = ["friendly", "firm", "final", "formal"].into_iter().fold(open, |world, name| {
        world.stage(name, |stage| (stage.approval, stage.location) = (true, "policy.toml:99".into()))
    });
    assert_eq!(waits(&all_changed), Some(ApprovalCause::Stage));
    let dearer = changed.stage("final", |stage| {
        stage.when = StageCondition { min: [money("500 EUR")].into_iter().collect(), ..StageCondition::default() };
    });
    check(&dearer, "contact formal: demands A");
    let checks = dearer.decide().checks;
    let passed_over = checks.iter().find(|check| check.rule == "stage_applies").unwrap();
    assert_eq!(passed_over.location.as_deref(), Some("policy.toml:99"));
    // A stage that the policy no longer has, and a ladder that it no longer has, stay what they were.
    let mut gone = dearer;
    std::sync::Arc::make_mut(gone.policy.ladders.values_mut().next().unwrap()).stages.remove(2);
    check(&gone, "contact final: demands A");
    gone.policy.ladders.clear();
    check(&gone, "contact final: demands A");
}

#[test]
fn a_disabled_stage_is_left_out_and_its_days_go_to_the_gap() {
    let mut world = World::new().owes("A", 3, "100 EUR").stage("firm", |stage| stage.enabled = false);
    assert_eq!(world.live(30), ["T friendly: A", "T+17 final: A", "T+27 formal: A"]);
}

#[test]
fn an_explicit_gap_wins_over_the_difference_of_days() {
    let mut world = World::new().owes("A", 60, "100 EUR").stage("firm", |stage| stage.gap = Some(12));
    assert_eq!(world.live(20), ["T friendly: A", "T+12 firm: A"]);
}

#[test]
fn a_stage_whose_condition_is_unmet_acts_as_disabled_and_says_why() {
    let world = World::new().owes("A", 40, "40 EUR").stage("final", |stage| {
        stage.when = StageCondition { min: [money("50 EUR")].into_iter().collect(), ..StageCondition::default() };
    });
    let world = world.reminded("friendly", 27, &["A"]).reminded("firm", 20, &["A"]);
    check(&world, "contact formal: demands A");
    let checks = world.decide().checks;
    let passed_over = checks.iter().find(|check| check.rule == "stage_applies").unwrap();
    assert_eq!(passed_over.inputs, "stage final: 40.00 EUR overdue, it asks for 50.00 EUR");
    assert_eq!(passed_over.location.as_deref(), Some("policy.toml:final"));
    check(&world.owes("B", 1, "10 EUR"), "contact final: demands A; also open B");
}

#[test]
fn a_stage_may_be_for_one_kind_of_party_or_one_segment() {
    let only_companies = |stage: &mut dunningd::model::Stage| {
        stage.when.party_kinds = [PartyKind::Company].into();
    };
    let world = World::new().owes("A", 40, "40 EUR").stage("friendly", only_companies);
    check(&world, "contact friendly: demands A");
    check(&world.account(|account| account.party_kind = PartyKind::PublicBody), "contact firm: demands A");
    let segment = World::new().owes("A", 40, "40 EUR").stage("friendly", |s| s.when.segments = ["gold".into()].into());
    check(&segment, "contact firm: demands A");
    check(&segment.account(|account| account.segment = Some("gold".into())), "contact friendly: demands A");
}

#[test]
fn an_unknown_party_gets_no_automatic_formal_notice() {
    let world = World::new().account(|account| account.party_kind = PartyKind::Unknown).owes("A", 60, "100 EUR");
    let mut living = world.clone();
    assert_eq!(living.live(60), ["T friendly: A", "T+7 firm: A", "T+17 final: A"]);
    check(&living, "skip ladder_exhausted");
    check_tasks(&living, "after_last_stage A");
}

#[test]
fn a_letter_names_only_a_consequence_that_can_follow() {
    let final_due =
        |world: World| world.owes("A", 60, "100 EUR").reminded("friendly", 17, &["A"]).reminded("firm", 10, &["A"]);
    assert_eq!(final_due(World::new()).contacting().next_tone, Some(Tone::Formal));
    let unknown = World::new().account(|account| account.party_kind = PartyKind::Unknown);
    assert_eq!(final_due(unknown).contacting().next_tone, None);
    let too_small = World::new().stage("formal", |stage| stage.when.min = [money("250 EUR")].into_iter().collect());
    assert_eq!(final_due(too_small).contacting().next_tone, None);
}

#[test]
fn a_letter_over_several_items_names_only_a_consequence_that_follows_for_each() {
    let two = |least: &str| {
        let world = World::new().owes("A", 60, "100 EUR").owes("B", 60, "100 PLN");
        let world = world.policy(|policy| {
            policy.minimums.by_currency.insert(Currency::parse("PLN").unwrap(), Decimal::ONE);
        });
        let world = world.stage("formal", |stage| {
            stage.when.min = [money("50 EUR"), money(least)].into_iter().collect();
        });
        world.reminded("friendly", 17, &["A", "B"]).reminded("firm", 10, &["A", "B"])
    };
    let both = two("50 PLN");
    check(&both, "contact final: demands A, B");
    assert_eq!(both.contacting().next_tone, Some(Tone::Formal));
    let one = two("500 PLN");
    check(&one, "contact final: demands A, B");
    assert_eq!(one.contacting().next_tone, None);
}

#[test]
fn a_new_item_beside_an_escalated_one_is_written_about_in_neutral_words() {
    let world = climbed(&["A"], 10).owes("B", 3, "100 EUR");
    check(&world, "contact friendly in neutral words: demands B; also open A");
}

#[test]
fn a_case_that_closed_and_opened_again_does_not_make_the_words_for_a_new_item_less_neutral() {
    let world = climbed(&["A"], 10).owes("B", 3, "100 EUR").case_since(2);
    check(&world, "contact friendly in neutral words: demands B; also open A");
}

#[test]
fn nothing_is_sent_while_the_deadline_of_a_final_notice_runs() {
    let world = World::new()
        .owes("A", 60, "100 EUR")
        .owes("B", 3, "100 EUR")
        .reminded("friendly", 27, &["A"])
        .reminded("firm", 20, &["A"])
        .reminded("final", 10, &["A"])
        .naming(14);
    check(&world, "wait deadline_running until T+5");
    check(&world.clone().paid(&["A"]), "contact friendly in neutral words: demands B");
    check(&world.on(5), "contact formal: demands A; also open B");
}

#[test]
fn a_deadline_of_an_early_stage_holds_back_only_its_own_items() {
    let world =
        World::new().owes("A", 10, "100 EUR").owes("B", 3, "100 EUR").reminded("friendly", 7, &["A"]).naming(14);
    check(&world, "contact friendly: demands B; also open A");
}

#[test]
fn the_next_stage_waits_until_a_bounce_can_no_longer_come() {
    let world = World::new().policy(|policy| policy.bounce_window_days = 9).owes("A", 21, "100 EUR").reminded(
        "friendly",
        7,
        &["A"],
    );
    check(&world, "wait too_soon until T+2");
}

#[test]
fn a_second_formal_notice_waits_and_goes_to_a_person() {
    let world = climbed(&["A"], 29)
        .owes("B", 70, "100 EUR")
        .reminded("friendly", 56, &["B"])
        .reminded("firm", 49, &["B"])
        .reminded("final", 39, &["B"]);
    check(&world, "wait too_soon until T+1");
    check_items(&world, "A ladder_exhausted, B formal_too_soon");
    check_tasks(&world, "after_last_stage A, formal_too_soon");
    check(&world.on(1), "contact formal: demands B; also open A");
    let beside_another = world.owes("C", 3, "100 EUR");
    check(&beside_another, "contact friendly in neutral words: demands C; also open A, B");
    check_tasks(&beside_another, "after_last_stage A, formal_too_soon");
}

#[test]
fn a_formal_notice_that_somebody_else_sent_keeps_the_next_one_waiting() {
    let mut world = World::new()
        .owes("A", 70, "100 EUR")
        .owes("B", 70, "100 EUR")
        .reminded("friendly", 56, &["B"])
        .reminded("firm", 49, &["B"])
        .reminded("final", 39, &["B"])
        .waived("formal", 29, "A");
    check(&world, "contact formal: demands B; also open A");
    world.snapshot.history.waivers[0].elsewhere = Some("Kancelaria".to_owned());
    world = world.paid(&["A"]);
    check(&world, "wait too_soon until T+1");
    check_items(&world, "A settled, B formal_too_soon");
    check(&world.on(1), "contact formal: demands B");
    world.snapshot.history.waivers[0].stage = stage_name("final");
    check(&world, "contact formal: demands B");
}

#[test]
fn a_stage_asks_for_as_much_in_a_currency_without_a_row_as_in_the_base_currency() {
    let owing = |amount: &str| {
        let world = World::new().stage("final", |stage| {
            stage.when.min = [money("50 EUR"), money("250 PLN")].into_iter().collect();
        });
        let mut world = world.stage("formal", |stage| stage.enabled = false);
        world.policy.minimums.base_currency = Currency::parse("EUR").ok();
        world.policy.minimums.rates = [("EUR", "1"), ("USD", "1.10")]
            .map(|(code, rate)| (Currency::parse(code).unwrap(), rate.parse().unwrap()))
            .into();
        let world = world.owes("A", 40, amount);
        world.reminded("friendly", 30, &["A"]).reminded("firm", 20, &["A"])
    };
    check(&owing("49.99 EUR"), "skip ladder_exhausted");
    check(&owing("50 EUR"), "contact final: demands A");
    check(&owing("55 USD"), "contact final: demands A");
    check(&owing("250 PLN"), "contact final: demands A");
    let short = owing("54.99 USD");
    let passed_over = short.decide().checks.into_iter().find(|check| check.rule == "stage_applies").unwrap();
    assert_eq!(
        passed_over.inputs,
        "stage final: 54.99 USD overdue, it asks for 55.00 USD (50.00 EUR, 250.00 PLN by rates)"
    );
}

#[test]
fn a_formal_notice_that_failed_does_not_keep_the_next_one_waiting() {
    let world = World::new()
        .owes("A", 70, "100 EUR")
        .reminded("friendly", 37, &["A"])
        .reminded("firm", 30, &["A"])
        .reminded("final", 20, &["A"])
        .notice(NoticeState::Cancelled, "formal", 10, &["A"]);
    check(&world, "contact formal: demands A");
}

#[test]
fn a_handover_is_no_second_formal_notice() {
    let world = World::new().stage("formal", |stage| {
        stage.tone = Tone::Handover;
        stage.gap = Some(5);
    });
    let world = world.owes("A", 70, "100 EUR").stage("final", |stage| stage.tone = Tone::Formal);
    let world = world.reminded("friendly", 27, &["A"]).reminded("firm", 17, &["A"]).reminded("final", 6, &["A"]);
    check(&world, "contact formal: demands A");
}

#[test]
fn a_stage_that_demands_everything_takes_the_younger_items_along() {
    let world = World::new()
        .stage("final", |stage| stage.demands = Demands::AllOverdue)
        .owes("A", 20, "100 EUR")
        .owes("B", 3, "100 EUR")
        .owes("C", 2, "100 EUR")
        .reminded("friendly", 17, &["A"])
        .reminded("firm", 10, &["A"]);
    check(&world, "contact final: demands A, B; also open C");
    let decision = world.decide();
    let stages: Vec<String> =
        crate::support::world::completed_by(&decision).iter().map(|(item, stage)| format!("{item} {stage}")).collect();
    assert_eq!(stages, ["A final", "B friendly"]);
}

#[test]
fn a_year_of_unpaid_invoices_shows_every_item_every_stage_in_order() {
    let mut world = (0..73).fold(World::new(), |world, n| world.owes(&format!("I{n:02}"), -5 * n, "100 EUR"));
    let diary = world.live(365);
    let notices = &world.snapshot.history.notices;
    let ladder = ["friendly", "firm", "final", "formal"];
    let days = [3, 10, 20, 30];
    for item in &world.snapshot.items {
        let seen: Vec<(&str, i64)> = notices
            .iter()
            .flat_map(|notice| notice.items.iter().map(move |(of, stage)| (of, stage, notice.decided_on)))
            .filter(|(of, ..)| **of == item.id)
            .map(|(_, stage, on)| (stage.as_str(), (on - item.due_date.unwrap()).num_days()))
            .collect();
        assert!(
            seen.iter().map(|(stage, _)| *stage).eq(ladder.iter().take(seen.len()).copied()),
            "{}: {seen:?}",
            item.id
        );
        assert!(seen.iter().zip(days).all(|((_, late), day)| *late >= day), "{}: {seen:?}", item.id);
        let oldest_quarter = item.due_date < Some(crate::support::world::t_plus(90));
        assert!(!oldest_quarter || seen.len() == 4, "{} is left behind: {seen:?}\n{diary:#?}", item.id);
    }
    let formal: Vec<_> = notices.iter().filter(|notice| notice.tone == Tone::Formal).map(|n| n.decided_on).collect();
    assert!(formal.windows(2).all(|pair| (pair[1] - pair[0]).num_days() >= 30), "{formal:?}");
    assert!(notices.windows(2).all(|pair| (pair[1].decided_on - pair[0].decided_on).num_days() >= 5));
}

#[test]
fn a_currency_without_minimum_and_rate_goes_to_a_person() {
    let world = World::new().owes("A", 3, "100 CHF").owes("B", 3, "100 EUR");
    check(&world, "contact friendly: demands B");
    check_items(&world, "A bad_data, B demanded");
    check_tasks(&world, "fix_data CHF");
    let with_rate = world.policy(|policy| {
        policy.minimums.base = Some(Decimal::TEN);
        policy.minimums.rates.insert(Currency::parse("CHF").unwrap(), Decimal::ONE);
    });
    check_items(&with_rate, "A no_payment_account, B demanded");
    check_tasks(&with_rate, "add_bank_account CHF");
}

#[test]
fn of_several_that_say_the_same_the_order_of_rows_decides_nothing() {
    let world = World::new()
        .owes("A", 30, "100 EUR")
        .owes("B", 30, "100 EUR")
        .owes("C", 30, "100 EUR")
        .waived("friendly", 27, "C")
        .waived("friendly", 2, "C");
    let failed = world.clone().notice(NoticeState::Refused, "friendly", 20, &["A"]).notice(
        NoticeState::Unknown,
        "friendly",
        10,
        &["B"],
    );
    let pending = world.clone().notice(NoticeState::Queued, "friendly", 20, &["A"]).notice(
        NoticeState::Deferred,
        "friendly",
        10,
        &["B"],
    );
    for world in [world, failed, pending] {
        let mut turned = world.clone();
        turned.snapshot.history.notices.reverse();
        turned.snapshot.history.waivers.reverse();
        assert_eq!(turned.decide(), world.decide());
    }
}

#[test]
fn of_two_notices_of_one_stage_the_later_one_counts() {
    let world = World::new().owes("A", 30, "100 EUR").reminded("friendly", 12, &["A"]).reminded("friendly", 5, &["A"]);
    check(&world, "wait too_soon until T+2");
    let mut turned = world.clone();
    turned.snapshot.history.notices.reverse();
    check(&turned, "wait too_soon until T+2");
    let with_deadline = World::new().owes("A", 30, "100 EUR").reminded("friendly", 12, &["A"]).naming(20);
    check(&with_deadline.reminded("friendly", 12, &["A"]), "wait too_soon until T+9");
}

#[test]
fn a_cause_that_hurries_nothing_leaves_the_stage_on_its_own_day() {
    let world = World::new().stage("firm", |stage| stage.gap = Some(2)).owes("A", 5, "100 EUR");
    let world = world.reminded("friendly", 2, &["A"]).policy(|policy| policy.contact_caps.clear());
    check(&world.clone().cause(Cause::CashProblem, None, 0), "wait too_soon until T+5");
    check(&world.cause(Cause::Unwilling, None, 0), "contact firm: demands A");
}

#[test]
fn an_account_that_was_escalated_elsewhere_gets_neutral_words_as_long_as_that_is_owed() {
    let mut world = World::new().owes("A", 5, "100 EUR").owes("B", 40, "100 EUR");
    for stage in ["friendly", "firm", "final"] {
        world = world.waived(stage, 5, "B");
    }
    check(&world, "contact friendly: demands A; also open B");
    for waiver in &mut world.snapshot.history.waivers {
        waiver.elsewhere = Some("former software".to_owned());
    }
    check(&world, "contact friendly in neutral words: demands A; also open B");
    check(&world.paid(&["B"]), "contact friendly: demands A");
}

#[test]
fn what_was_done_elsewhere_in_the_same_tone_softens_no_words() {
    let mut world = World::new().owes("A", 5, "100 EUR").owes("B", 8, "100 EUR").waived("friendly", 5, "B");
    world.snapshot.history.waivers[0].elsewhere = Some("former software".to_owned());
    check(&world, "contact friendly: demands A; also open B");
    let mut sharper = world.waived("firm", 1, "B");
    sharper.snapshot.history.waivers[1].elsewhere = Some("former software".to_owned());
    check(&sharper, "contact friendly in neutral words: demands A; also open B");
}
