//! How much is worth a letter, in which currency.

use dunningd::model::{Currency, Money};
use rust_decimal::Decimal;

use crate::support::world::{World, check, check_items, check_tasks};

#[test]
fn the_minimum_is_compared_with_what_is_left_to_pay() {
    let world = World::new().owes("A", 30, "155 EUR").item("A", |item| item.open_amount = Decimal::from(5));
    check(&world, "skip below_minimum");
}

#[test]
fn the_minimum_itself_is_enough() {
    check(&World::new().owes("A", 30, "10 EUR"), "contact friendly: demands A");
    check(&World::new().owes("A", 30, "9.99 EUR"), "skip below_minimum");
}

#[test]
fn the_minimum_is_compared_with_everything_overdue_also_what_is_in_grace() {
    let world = World::new().policy(|policy| policy.item_grace_days = 3).owes("A", 30, "6 EUR").owes("B", 2, "4 EUR");
    check(&world, "contact friendly: demands A; also open B");
}

#[test]
fn what_is_disputed_does_not_count_for_the_minimum() {
    let world = World::new().owes("A", 30, "6 EUR").owes("B", 30, "100 EUR");
    let world = world.item("B", |item| {
        let since = item.issue_date;
        item.dispute = Some(dunningd::model::Dispute { since: Some(since), reason: None });
    });
    check(&world, "skip below_minimum");
}

#[test]
fn a_minimum_without_a_row_of_its_own_is_converted_at_the_operators_rate() {
    let yen = |amount: &str| {
        World::new().owes("A", 30, amount).policy(|policy| {
            policy.minimums.base = Some(Decimal::TEN);
            policy.minimums.rates.insert(Currency::parse("JPY").unwrap(), Decimal::from(160));
        })
    };
    check(&yen("1599 JPY"), "skip below_minimum");
    check(&yen("1600 JPY"), "contact friendly: demands A");
}

#[test]
fn a_currency_below_its_minimum_drops_out() {
    let world = World::new().owes("A", 30, "9.49 EUR").owes("B", 30, "120 USD");
    check(&world, "contact friendly: demands B");
    check_items(&world, "A below_minimum, B demanded");
}

#[test]
fn two_currencies_go_into_one_letter_and_are_never_added() {
    let world = World::new().owes("A", 30, "50 EUR").owes("B", 30, "120 USD");
    check(&world, "contact friendly: demands A, B");
    let mut totals = dunningd::model::RunTotals::default();
    totals.count(&world.decide());
    let demanded: Vec<String> = totals.by_outcome["demanded"].amounts.iter().map(|m: Money| m.to_string()).collect();
    assert_eq!(demanded, ["50.00 EUR", "120.00 USD"]);
}

#[test]
fn without_a_bank_account_for_the_currency_nothing_is_sent() {
    let world = World::new().owes("A", 30, "100 EUR").policy(|policy| {
        policy.creditors.values_mut().for_each(|creditor| creditor.bank_accounts.clear());
    });
    check(&world, "hold no_payment_account");
    check_tasks(&world, "add_bank_account EUR");
}

#[test]
fn an_account_is_counted_once_when_an_item_and_the_account_have_the_same_reason() {
    let world = World::new().owes("A", 30, "100 EUR").owes("B", 1, "100 EUR").policy(|policy| {
        policy.item_grace_days = 3;
        policy.creditors.values_mut().for_each(|creditor| creditor.bank_accounts.clear());
    });
    check(&world, "hold no_payment_account");
    check_items(&world, "A no_payment_account, B in_grace");
    let mut totals = dunningd::model::RunTotals::default();
    totals.count(&world.decide());
    let sum = &totals.by_outcome["no_payment_account"];
    assert_eq!((sum.accounts, sum.items), (1, 2));
}

#[test]
fn after_a_part_payment_the_rest_is_demanded_and_the_history_stays() {
    let world = World::new().owes("A", 10, "100 EUR").reminded("friendly", 7, &["A"]);
    let world = world.item("A", |item| item.open_amount = Decimal::from(60));
    check(&world, "contact firm: demands A");
    assert_eq!(world.decide().items[0].to_pay().to_string(), "60.00 EUR");
}

#[test]
fn under_netting_per_contract_a_payment_without_a_contract_goes_to_the_oldest_items_after_the_others() {
    let world = World::new()
        .owes("A", 6, "100 EUR")
        .owes("B", 8, "100 EUR")
        .unallocated("P1", "50 EUR")
        .unallocated("P2", "80 EUR")
        .item("A", |item| item.contract_no = Some("C-1".to_owned()))
        .item("B", |item| item.contract_no = Some("C-2".to_owned()))
        .item("P2", |item| item.contract_no = Some("C-2".to_owned()))
        .policy(|policy| policy.credit_netting = dunningd::model::CreditNetting::PerContract);
    let told: Vec<String> =
        world.decide().netted.iter().map(|one| format!("{} {} {}", one.credit, one.item, one.amount)).collect();
    assert_eq!(told, ["P2 B 80", "P1 B 20", "P1 A 30"]);
}

#[test]
fn a_credit_that_came_back_changed_still_reduces_what_is_owed() {
    let world =
        World::new().owes("A", 20, "100 EUR").unallocated("P", "90 EUR").item("P", |item| item.withdrawn = true);
    assert_eq!(world.decide().items[0].to_pay().to_string(), "10.00 EUR");
    check_items(&world.unallocated("Q", "20 EUR"), "A covered, P credit, Q credit");
}

#[test]
fn of_two_items_that_the_law_makes_due_on_one_day_the_older_document_is_paid_first() {
    let on = |text: &str| text.parse().ok();
    let world = World::new()
        .owes("A", 10, "200 EUR")
        .owes("B", 10, "100 EUR")
        .account(|account| account.country = dunningd::model::Country::parse("PL").ok())
        .item("A", |item| item.due_date = on("2026-04-07"))
        .item("B", |item| item.due_date = on("2026-04-04"))
        .unallocated("P", "60 EUR");
    let decision = World { today: "2026-04-17".parse().unwrap(), ..world }.decide();
    let told: Vec<String> =
        decision.netted.iter().map(|one| format!("{} {} {}", one.credit, one.item, one.amount)).collect();
    assert_eq!(told, ["P B 60"]);
}
