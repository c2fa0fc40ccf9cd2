//! Several items of one account.

use dunningd::claim;
use dunningd::model::{CaseChange, Cause, ItemCode, LetterRow, RunTotals, Verdict};
use rust_decimal::Decimal;

use crate::support::world::{World, check, check_items, check_tasks, item_id, summary, t_plus, with_code};

/// A and B, 60 and 35 days late, with a final notice 12 days ago by their own ladders; C is 21 and D 3 days late.
fn four() -> World {
    World::new()
        .owes("A", 60, "100 EUR")
        .owes("B", 35, "100 EUR")
        .owes("C", 21, "100 EUR")
        .owes("D", 3, "100 EUR")
        .reminded("friendly", 29, &["A", "B"])
        .reminded("firm", 22, &["A", "B"])
        .reminded("final", 12, &["A", "B"])
        .reminded("friendly", 18, &["C"])
        .reminded("firm", 11, &["C"])
}

#[test]
fn the_reason_is_that_of_the_item_whose_date_is_told() {
    let world = World::new().owes("A", 4, "100 EUR").owes("B", 1, "100 EUR").reminded("friendly", 1, &["A"]);
    check_items(&world, "A too_soon, B before_first_stage");
    check(&world, "wait before_first_stage until T+2");
    check(&world.paid(&["B"]), "wait too_soon until T+6");
}

#[test]
fn credits_that_cover_what_is_demanded_are_not_said_to_cover_what_is_out() {
    let world = World::new().owes("A", 4, "100 EUR").owes("B", 6, "70 EUR").disputed("B", Cause::Dispute);
    let world = world.unallocated("P", "100 EUR");
    check(&world, "skip account_in_credit");
    let checks = world.decide().checks;
    let told = checks.iter().find(|check| check.rule == "account_in_credit").unwrap();
    assert_eq!(told.inputs, "nothing left after credits, 1 more is overdue but out");
}

#[test]
fn what_is_disputed_with_the_account_is_no_undisputed_money() {
    let world = World::new().owes("A", 4, "100 EUR").owes("B", 6, "70 EUR");
    let undisputed = |world: &World| {
        let mut totals = RunTotals::default();
        totals.count(&world.decide());
        totals.undisputed.items
    };
    assert_eq!(undisputed(&world), 2);
    assert_eq!(undisputed(&world.clone().disputed("B", Cause::Dispute)), 1);
    assert_eq!(undisputed(&world.clone().cause(Cause::Dispute, Some("B"), 0)), 1);
    assert_eq!(undisputed(&world.cause(Cause::Dispute, None, 0)), 0);
}

#[test]
fn the_item_that_is_furthest_along_goes_on_when_others_are_paid() {
    check(&four().paid(&["B", "C"]), "contact formal: demands A; also open D");
    let demanding_all = four().paid(&["B", "C"]);
    let demanding_all = demanding_all.stage("formal", |stage| stage.demands = dunningd::model::Demands::AllOverdue);
    // The case keeps the ladder it began with.
    check(&demanding_all, "contact formal: demands A; also open D");
}

#[test]
fn paying_the_oldest_item_does_not_restart_the_others() {
    check(&four().paid(&["A"]), "contact formal: demands B; also open C, D");
}

#[test]
fn an_item_that_is_left_alone_starts_with_the_first_stage() {
    check(&four().paid(&["A", "B", "C"]), "contact friendly in neutral words: demands D");
}

#[test]
fn an_older_invoice_that_arrives_late_resets_nothing_and_respects_the_cap() {
    let world = World::new().owes("A", 10, "100 EUR").reminded("friendly", 2, &["A"]).owes("OLD", 80, "100 EUR");
    check(&world, "wait contact_cap until T+3");
    check(&world.on(3), "contact friendly: demands OLD; also open A");
}

#[test]
fn when_everything_is_paid_the_case_closes_and_the_next_one_starts_anew() {
    let mut world = World::new().owes("A", 100, "100 EUR");
    assert_eq!(world.live(20), ["T friendly: A", "T+7 firm: A", "T+17 final: A"]);
    world = world.paid(&["A"]);
    let closing = world.decide();
    assert_eq!(summary(&closing), "skip nothing_open");
    world.happen(&closing);
    assert_eq!(world.snapshot.case, None);
    let mut world = world.owes("B", -90, "100 EUR");
    assert_eq!(world.live(85), ["T+93 friendly: B", "T+100 firm: B"]);
    assert_eq!(world.snapshot.case.as_ref().unwrap().opened_on, t_plus(91));
    assert_eq!(world.snapshot.history.notices.len(), 5);
}

#[test]
fn a_case_opens_on_the_first_overdue_day_and_stays_open_for_what_is_below_the_minimum() {
    let mut world = World::new().owes("A", 0, "5 EUR");
    world.live(1);
    assert_eq!(world.snapshot.case, None);
    world.live(5);
    assert_eq!(world.snapshot.case.as_ref().unwrap().opened_on, t_plus(1));
    let mut disputed = world.item("A", |item| item.hold_reason = Some("under review".to_owned()));
    disputed.live(1);
    assert_eq!(disputed.snapshot.case, None);
}

#[test]
fn among_equals_the_larger_amount_is_the_anchor_and_then_the_id() {
    let world = World::new().owes("A", 5, "50 EUR").owes("C", 5, "90 EUR").owes("B", 5, "90 EUR");
    assert_eq!(world.contacting().anchor, item_id("B"));
    let older = world.clone().owes("D", 6, "10 EUR");
    assert_eq!(older.contacting().anchor, item_id("D"));
    let mut shuffled = world.clone();
    for _ in 0..3 {
        shuffled.snapshot.items.rotate_left(1);
        assert_eq!(shuffled.decide(), world.decide());
    }
}

#[test]
fn the_anchor_is_one_of_those_that_came_furthest_and_are_due() {
    let world = World::new()
        .owes("A", 40, "100 EUR")
        .owes("B", 12, "100 EUR")
        .owes("C", 30, "100 EUR")
        .reminded("friendly", 9, &["B"])
        .reminded("friendly", 6, &["C"]);
    check_items(&world, "A demanded, B demanded, C information");
    assert_eq!(world.contacting().anchor, item_id("B"));
}

#[test]
fn amounts_of_two_currencies_are_not_compared_to_find_the_anchor() {
    let world = World::new().owes("A", 5, "50 EUR").owes("B", 5, "9000 PLN");
    assert_eq!(world.contacting().anchor, item_id("A"));
}

#[test]
fn credits_that_cover_everything_overdue_leave_nothing_to_ask_for() {
    let world = World::new().owes("A", 30, "100 EUR").unallocated("P", "60 EUR").credit_note("G", "40 EUR");
    check(&world, "skip account_in_credit");
    check_items(&world, "A covered, G credit, P credit");
}

#[test]
fn unallocated_money_is_shown_as_received() {
    let world = World::new().owes("A", 30, "100 EUR").unallocated("P", "40 EUR");
    check(&world, "contact friendly: demands A");
    let decision = world.decide();
    assert_eq!(decision.items[0].open.to_string(), "100.00 EUR");
    assert_eq!(decision.items[0].credited, Decimal::from(40));
    assert_eq!(decision.items[0].to_pay().to_string(), "60.00 EUR");
}

#[test]
fn a_cancelled_credit_note_is_ignored_and_an_open_one_counts() {
    let world = World::new().owes("A", 30, "100 EUR").credit_note("G", "95 EUR");
    check(&world, "skip below_minimum");
    check(&world.paid(&["G"]), "contact friendly: demands A");
}

#[test]
fn a_credit_note_goes_to_the_invoice_it_cancels_and_the_oldest_is_still_demanded() {
    let world = World::new().owes("OLD", 60, "100 EUR").owes("NEW", 5, "100 EUR");
    let world = world.credit_note_for("G", "NEW", "100 EUR");
    check(&world, "contact friendly: demands OLD");
    check_items(&world, "G credit, NEW covered, OLD demanded");
}

#[test]
fn what_is_left_of_a_credit_note_reduces_the_oldest_invoice() {
    let world = World::new().owes("OLD", 60, "100 EUR").owes("NEW", 5, "30 EUR");
    let decision = world.credit_note_for("G", "NEW", "50 EUR").decide();
    let netted: Vec<String> = decision.netted.iter().map(|n| format!("{} on {}", n.amount, n.item)).collect();
    assert_eq!(netted, ["30 on NEW", "20 on OLD"]);
}

#[test]
fn a_letter_names_the_credits_that_cover_each_item() {
    let world = World::new().owes("OLD", 60, "70 EUR").owes("NEW", 5, "120 EUR");
    let world = world.credit_note_for("G", "NEW", "50 EUR").unallocated("P", "30 EUR");
    let world = world.item("G", |item| item.issue_date = t_plus(-3)).item("P", |item| item.issue_date = t_plus(-9));
    let world = world.credit_note("H", "90 EUR").item("H", |item| item.issue_date = t_plus(-9));
    let (decision, contacting) = (world.decide(), world.contacting());
    let rows = claim::demands(&world.snapshot, &decision, &contacting).remove(0).rows;
    let told = |row: &LetterRow| {
        let credits = row.credits.iter().map(|one| format!("{} of {} of {}", one.amount, one.whole, one.document_no));
        format!("{}: {} less {}", row.document_no, row.open, credits.collect::<Vec<_>>().join(", "))
    };
    let rows: Vec<String> = rows.iter().map(told).collect();
    // The rest of H covers the oldest.
    assert_eq!(rows, ["FV/NEW: 120 less 20 of 90 of FV/H, 30 of 30 of FV/P, 50 of 50 of FV/G"]);
}

#[test]
fn a_credit_note_for_a_paid_invoice_reduces_the_oldest_that_is_open() {
    let world = World::new().owes("A", 5, "100 EUR").paid(&["A"]).owes("B", 4, "100 EUR");
    let decision = world.credit_note_for("N", "A", "30 EUR").decide();
    let netted: Vec<String> =
        decision.netted.iter().map(|one| format!("{} to {}: {}", one.credit, one.item, one.amount)).collect();
    assert_eq!(netted, ["N to B: 30"]);
}

#[test]
fn a_credit_note_for_a_disputed_invoice_stays_with_it() {
    let world = World::new().owes("A", 60, "100 EUR").owes("B", 60, "100 EUR").credit_note_for("G", "B", "100 EUR");
    let world = world.item("B", |item| item.hold_reason = Some("storno".to_owned()));
    check(&world, "contact friendly: demands A");
    assert_eq!(world.decide().items[0].credited, Decimal::ZERO);
}

#[test]
fn credits_may_stay_within_their_contract() {
    let contract =
        |number: &'static str| move |item: &mut dunningd::model::Item| item.contract_no = Some(number.into());
    let world = World::new()
        .owes("A", 60, "100 EUR")
        .owes("B", 30, "100 EUR")
        .unallocated("P", "100 EUR")
        .item("A", contract("one"))
        .item("B", contract("two"))
        .item("P", contract("two"));
    check_items(&world, "A covered, B demanded, P credit");
    let by_contract = world.policy(|policy| policy.credit_netting = dunningd::model::CreditNetting::PerContract);
    check_items(&by_contract, "A demanded, B covered, P credit");
}

#[test]
fn a_contact_by_hand_counts_for_the_cap_and_completes_nothing() {
    let world = World::new().owes("A", 10, "100 EUR").owes("B", 10, "100 EUR").owes("C", 10, "100 EUR").called(3);
    check(&world, "wait contact_cap until T+2");
    check(&world.on(2), "contact friendly: demands A, B, C");
}

#[test]
fn thousands_of_invoices_make_one_notice() {
    let world = (0..2602).fold(World::new(), |world, n| world.owes(&format!("I{n:04}"), 3 + n % 90, "10 EUR"));
    let decision = world.decide();
    assert!(matches!(decision.verdict, Verdict::Contact(_)));
    assert_eq!(with_code(&decision, ItemCode::Demanded).len(), 2602);
    let mut world = world;
    assert_eq!(world.live(30).len(), 4);
}

#[test]
fn a_payment_account_of_the_item_or_the_debtor_serves_where_we_have_none() {
    use crate::support::world::requisites;
    let world = World::new().owes("A", 5, "100 CHF").owes("B", 5, "100 EUR").policy(|policy| {
        policy.minimums.by_currency.insert(crate::support::world::money("1 CHF").currency, Decimal::TEN);
    });
    check(&world, "contact friendly: demands B");
    let own = world.clone().item("A", |item| item.requisites = Some(requisites("of the item")));
    check(&own, "contact friendly: demands A, B");
    let virtual_account = world.account(|account| account.requisites = Some(requisites("virtual")));
    check(&virtual_account, "contact friendly: demands A, B");
    let paid_to: Vec<String> = virtual_account
        .item("A", |item| item.requisites = Some(requisites("of the item")))
        .contacting()
        .requisites
        .iter()
        .map(|(item, to)| format!("{item} {}", to.account.as_str()))
        .collect();
    assert_eq!(paid_to, ["A of the item", "B virtual"]);
}

#[test]
fn an_item_that_nobody_can_pay_does_not_set_the_tone() {
    let world = World::new()
        .owes("A", 60, "100 CHF")
        .owes("B", 5, "100 EUR")
        .policy(|policy| {
            policy.minimums.by_currency.insert(crate::support::world::money("1 CHF").currency, Decimal::TEN);
        })
        .reminded("friendly", 27, &["A"])
        .reminded("firm", 20, &["A"]);
    check(&world, "contact friendly in neutral words: demands B");
    check_items(&world, "A no_payment_account, B demanded");
}

#[test]
fn a_letter_refers_to_earlier_letters_about_the_same_items_only() {
    let world = World::new()
        .owes("A", 20, "100 EUR")
        .owes("B", 20, "100 EUR")
        .reminded("friendly", 15, &["B"])
        .reminded("friendly", 9, &["A"]);
    check(&world, "contact firm: demands A, B");
    let only_b = world.on(-3);
    check(&only_b, "contact firm: demands B; also open A");
    assert_eq!(only_b.contacting().references, ["<1@creditor.example>"]);
    let reminded: Vec<_> = world.decide().items.iter().map(|item| item.reminded_on).collect();
    assert_eq!(reminded, [Some(t_plus(-9)), Some(t_plus(-15))]);
}

#[test]
fn credits_that_cover_everything_overdue_open_no_case() {
    let world = World::new().owes("A", 30, "100 EUR").unallocated("P", "100 EUR");
    assert_eq!(world.decide().case, CaseChange::None);
    assert_eq!(world.case_since(10).decide().case, CaseChange::Close);
}

#[test]
fn a_credit_note_in_another_currency_reduces_nothing() {
    let world = World::new().owes("A", 30, "100 EUR").credit_note_for("G", "A", "60 USD");
    check_items(&world, "A demanded, G credit");
    assert_eq!(world.decide().items[0].to_pay().to_string(), "100.00 EUR");
}

#[test]
fn a_currency_without_minimum_matters_only_where_something_in_it_would_be_demanded() {
    let world = World::new().owes("A", 30, "100 EUR").owes("B", 30, "100 CHF").owes("C", -10, "100 CHF");
    check_tasks(&world, "fix_data CHF");
    check_tasks(&world.disputed("B", Cause::Dispute).credit_note("G", "10 CHF"), "settle_dispute dispute 1");
}

#[test]
fn after_a_contact_by_hand_about_one_of_three_items_all_three_climb_from_where_they_stood() {
    let mut world = World::new()
        .owes("A", 10, "100 EUR")
        .owes("B", 10, "100 EUR")
        .owes("C", 10, "100 EUR")
        .reminded("friendly", 7, &["A", "B"])
        .called(0);
    assert_eq!(world.live(13), ["T+5 firm: A B C", "T+12 firm: C"]);
}

#[test]
fn a_copied_invoice_has_no_history_of_its_own() {
    let world = World::new().owes("A", 15, "100 EUR").reminded("friendly", 12, &["A"]).reminded("firm", 5, &["A"]);
    let copied = world.owes("A-2", 15, "100 EUR").paid(&["A"]);
    check(&copied, "contact friendly in neutral words: demands A-2");
    assert_eq!(copied.decide().items[1].reminded_on, None);
    assert_eq!(copied.contacting().references, [""; 0]);
}

#[test]
fn a_day_on_which_nothing_is_due_changes_no_stage() {
    let mut world = World::new().owes("A", 5, "100 EUR").reminded("friendly", 2, &["A"]);
    let history = world.snapshot.history.clone();
    assert_eq!(world.live(5), [""; 0]);
    assert_eq!(world.snapshot.history, history);
    check(&world, "contact firm: demands A");
}

#[test]
fn a_due_date_that_is_edited_later_counts_from_then_on_and_the_history_stays() {
    let world = World::new().owes("A", 10, "100 EUR").reminded("friendly", 7, &["A"]);
    check(&world, "contact firm: demands A");
    let later = |days: i64| world.clone().item("A", |item| item.due_date = Some(t_plus(days)));
    check(&later(5), "wait not_overdue until T+15");
    assert_eq!(later(5).decide().case, CaseChange::Close);
    check(&later(-4), "wait too_soon until T+6");
    check(&later(-4).on(6), "contact firm: demands A");
    check(&later(-40), "contact firm: demands A");
}

#[test]
fn an_account_on_a_ladder_that_the_policy_does_not_have_is_not_written_to_and_somebody_is_told() {
    let astray = |world: World| world.account(|account| account.ladder = Some("harsh".to_owned()));
    let world = astray(World::new().owes("A", 9, "100 EUR"));
    check(&world, "skip all_items_out");
    check_items(&world, "A bad_data");
    check_tasks(&world, "fix_data ladder");
    // What is broken by itself is told as that, and a case keeps the ladder that it began with.
    check_tasks(&world.item("A", |item| item.bad_data = Some("no amount".to_owned())), "fix_data bad_data");
    let begun = astray(World::new().owes("A", 10, "100 EUR").reminded("friendly", 7, &["A"]));
    check(&begun, "contact firm: demands A");
    check_tasks(&begun, "");
}

#[test]
fn of_many_kinds_of_fault_the_first_are_told_and_the_others_counted() {
    let broken = |count: usize| {
        (1..=count).fold(World::new(), |world, n| {
            let id = format!("A{n:02}");
            world.owes(&id, 9, "100 EUR").item(&id, |item| item.bad_data = Some(format!("fault {n}")))
        })
    };
    let told = |count| broken(count).decide().tasks[0].text.clone();
    let all: Vec<String> = (1..=20).map(|n| format!("A{n:02}: fault {n}")).collect();
    assert_eq!(told(20), all.join("; "));
    assert_eq!(told(22), format!("{}; and 2 items more", all.join("; ")));
}
