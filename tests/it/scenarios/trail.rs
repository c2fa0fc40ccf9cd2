//! What every question was told, and in which words it answered.

use std::path::Path;

use dunningd::config::{self, Source};
use dunningd::model::{
    Calendars, Cause, Channel, Check, ContactCap, Country, EmailKind, MailboxUse, NoticeState, OnMissed, PartyKind,
    Tone, Weekdays,
};
use rust_decimal::Decimal;

use crate::support::world::{World, check, check_items, check_tasks, email, t_plus};

fn one() -> World {
    World::new().owes("A", 30, "100 EUR")
}

fn checks(world: &World, rule: &str) -> Vec<Check> {
    world.decide().checks.into_iter().filter(|check| check.rule == rule).collect()
}

/// Compares every answer to the question of that name: `yes: …` or `no: …`.
#[track_caller]
fn told(world: &World, rule: &str, expected: &[&str]) {
    let answer = |check: Check| format!("{}: {}", if check.passed { "yes" } else { "no" }, check.inputs);
    let answers: Vec<String> = checks(world, rule).into_iter().map(answer).collect();
    assert_eq!(answers, expected);
}

#[test]
fn a_failed_notice_blocks_nothing_once_its_item_is_out_or_covered() {
    let failed = one().owes("B", 3, "100 EUR").notice(NoticeState::Refused, "friendly", 20, &["A"]);
    check(&failed, "hold previous_stage_incomplete");
    check(&failed.clone().disputed("A", Cause::Dispute), "contact friendly: demands B");
    check(&failed.unallocated("P", "100 EUR"), "contact friendly: demands B");
}

#[test]
fn a_promise_is_told_while_it_stands_and_concerns_an_item_that_is_known() {
    let running = one().promised("100 EUR", 5, 2, &["A"]);
    let words = "100.00 EUR promised by 2026-03-23, 2 days of tolerance; 0.00 EUR paid";
    told(&running, "promise", &[&format!("no: promise 1: {words} since, running")]);
    told(&running.on(8), "promise", &[&format!("yes: promise 1: {words} in time, broken")]);
    let mut elsewhere = running.clone();
    elsewhere.snapshot.promises[0].items[0].item = crate::support::world::item_id("Z");
    told(&elsewhere, "promise", &[]);
    let mut withdrawn = running;
    withdrawn.snapshot.promises[0].withdrawn = true;
    told(&withdrawn, "promise", &[]);
}

#[test]
fn a_plan_is_told_while_it_stands_and_passes_while_it_is_kept() {
    let world = one().planned(&[(10, "100 EUR")], 2, OnMissed::Instalment, &["A"]);
    let answers = |world: &World| checks(world, "plan").into_iter().map(|check| check.passed).collect::<Vec<_>>();
    assert_eq!(answers(&world), [true]);
    assert_eq!(answers(&world.clone().paid(&["A"]).owes("B", 3, "100 EUR")), [true]);
    assert_eq!(answers(&world.on(13)), [false]);
    let mut ended = world;
    ended.snapshot.plans[0].ended = true;
    assert_eq!(answers(&ended), [false; 0]);
}

#[test]
fn what_is_overdue_but_out_is_counted_without_credits_and_without_what_is_settled() {
    let world = one()
        .owes("B", 20, "100 EUR")
        .disputed("B", Cause::Dispute)
        .owes("C", 20, "100 EUR")
        .paid(&["C"])
        .owes("D", -20, "100 EUR")
        .owes("E", -20, "100 EUR")
        .disputed("E", Cause::Dispute)
        .owes("F", 0, "100 EUR")
        .item("F", |item| item.due_date = None)
        .credit_note("G", "10 EUR");
    told(&world, "not_overdue", &["yes: 1 of 2 open items overdue, 2 more are overdue but out"]);
    told(&world, "nothing_open", &["yes: 6 open items"]);
    told(&one(), "nothing_open", &["yes: 1 open item"]);
    told(&one(), "all_items_out", &["yes: no item is out"]);
    check(&World::new().owes("E", -20, "100 EUR").disputed("E", Cause::Dispute), "wait not_overdue");
}

#[test]
fn the_days_that_an_account_still_has_are_what_is_missing_to_the_least_arrears() {
    let world = World::new().owes("A", 5, "100 EUR").policy(|policy| policy.account_min_arrears_days = 9);
    check(&world, "wait account_min_arrears until T+4");
    told(&world, "account_min_arrears", &["no: oldest item 5 days late, policy asks for 9"]);
    told(&world.on(4), "account_min_arrears", &["yes: oldest item 9 days late, policy asks for 9"]);
    let younger_in_grace = world.policy(|policy| policy.item_grace_days = 12);
    check(&younger_in_grace, "wait in_grace until T+8");
}

fn shipped() -> Calendars {
    config::load_from(&Source::shipped(), Path::new("."), [], None).unwrap().config.policy.calendars
}

/// With the shipped calendars, for a debtor in that country.
fn in_the(debtor: &str) -> World {
    World::new()
        .policy(|policy| policy.calendars = shipped())
        .account(|account| account.country = Some(Country::parse(debtor).unwrap()))
}

#[test]
fn a_due_date_that_the_law_moved_is_told_while_the_item_is_open_and_its_day_has_passed() {
    let day = |text: &str| Some(text.parse().unwrap());
    let world = in_the("PL")
        .owes("A", 0, "100 EUR")
        .item("A", |item| item.due_date = day("2026-03-14"))
        .owes("B", 0, "100 EUR")
        .item("B", |item| item.due_date = day("2026-03-14"))
        .paid(&["B"])
        .owes("C", 2, "100 EUR")
        .owes("D", 0, "100 EUR")
        .item("D", |item| item.due_date = day("2026-03-28"));
    let moved = "yes: item A: due on 2026-03-14, no working day there, so on 2026-03-16";
    told(&world, "effective_due_date", &[moved]);
}

#[test]
fn an_item_that_is_held_for_a_time_is_looked_at_again_before_its_due_day_where_a_stage_comes_before_it() {
    let world = World::new().stage("friendly", |stage| stage.days = -3).owes("A", -5, "100 EUR");
    check(&world.clone().item("A", |item| item.hold_until = Some(t_plus(1))), "wait not_overdue until T+2");
    check(&world.clone().item("A", |item| item.hold_until = Some(t_plus(3))), "wait not_overdue until T+4");
    check(&world.item("A", |item| item.hold_until = Some(t_plus(20))), "wait not_overdue until T+21");
    let on_its_day = World::new().stage("friendly", |stage| stage.days = -3).owes("A", 0, "100 EUR");
    check(&on_its_day.item("A", |item| item.hold_until = Some(t_plus(0))), "wait not_overdue until T+10");
    let late = World::new().stage("friendly", |stage| stage.days = -3).owes("A", 5, "100 EUR");
    check(&late.item("A", |item| item.hold_until = Some(t_plus(1))), "skip all_items_out until T+5");
}

#[test]
fn nothing_that_waits_for_a_person_is_made_while_too_much_waits_already() {
    let waiting = |asked: bool, all: bool, waiting: u32| {
        let mut world = World::new().stage("friendly", |stage| stage.approval = asked).owes("A", 3, "100 EUR");
        world.snapshot.approvals.all = all;
        world.snapshot.approvals.waiting = waiting;
        world
    };
    check(&waiting(true, false, 199), "contact friendly: demands A");
    check(&waiting(true, false, 200), "hold approval_limit");
    check(&waiting(false, true, 201), "hold approval_limit");
    check(&waiting(false, true, 199), "contact friendly: demands A");
    check(&waiting(false, false, 500), "contact friendly: demands A");
    told(&waiting(false, false, 500), "approval_limit", &[]);
    let words = "no: 200 notices wait for approval, at most 200 may";
    told(&waiting(true, true, 200), "approval_limit", &[words]);
    // A notice that a person sees for what it demands waits like any other.
    let old = |number: u32| {
        let mut world = waiting(false, false, number).owes("B", 181, "100 EUR");
        world.snapshot.items.retain(|item| item.id.as_str() == "B");
        world
    };
    check(&old(199), "contact friendly: demands B");
    check(&old(200), "hold approval_limit");
    check(&old(200).reminded("friendly", 9, &["B"]), "contact firm: demands B");
    // What the notice does not demand asks for nobody: it is disputed, or there is nowhere to pay it.
    let beside = |amount: &str| waiting(false, false, 200).owes("B", 181, amount);
    check(&beside("100 EUR").disputed("B", Cause::Dispute), "contact friendly: demands A");
    let nowhere_to_pay = beside("100 USD").policy(|policy| {
        let usd = crate::support::world::money("1 USD").currency;
        policy.creditors.values_mut().for_each(|creditor| drop(creditor.bank_accounts.remove(&usd)));
    });
    check(&nowhere_to_pay, "contact friendly: demands A");
}

#[test]
fn the_cap_is_told_with_the_last_contact_wherever_it_was() {
    told(&one(), "contact_cap", &["yes: no contact counted yet, at most 1 per 5 days"]);
    let world = one().policy(|policy| policy.contact_caps.push(ContactCap { contacts: 2, days: 1 })).called(9);
    told(&world, "contact_cap", &["yes: last counted contact 2026-03-09, at most 1 per 5 days, 2 a day"]);
    let mut shared = world;
    let key = email("office@debtor.example").mailbox_key();
    let usage = MailboxUse { contacts: vec![t_plus(-6)], accounts: 2, ..MailboxUse::default() };
    shared.snapshot.mailboxes.insert(key, usage);
    told(&shared, "contact_cap", &["yes: last counted contact 2026-03-12, at most 1 per 5 days, 2 a day"]);
    told(&shared, "shared_mailbox", &["yes: 2 accounts use the mailbox"]);
    let mut alone = one();
    let usage = MailboxUse { notice_today: true, accounts: 1, ..MailboxUse::default() };
    alone.snapshot.mailboxes.insert(email("office@debtor.example").mailbox_key(), usage);
    told(&alone, "shared_mailbox", &["no: one account uses the mailbox; it has its notice for today"]);
}

#[test]
fn a_day_without_letters_says_whether_it_is_the_weekday_a_holiday_or_a_quiet_period() {
    let keys = |world: &World| {
        let mut world = world.clone();
        for key in ["send_days", "calendars", "quiet_period"] {
            world.policy.locations.insert(key.to_owned(), key.into());
        }
        let check = checks(&world, "outside_send_days").remove(0);
        (check.inputs.to_string(), check.location.unwrap().to_string())
    };
    let on = |world: &World, day: &str| World { today: day.parse().unwrap(), ..world.clone() };
    let world = in_the("IT").owes("A", 30, "100 EUR");
    let answer = |inputs: &str, key: &str| (inputs.to_owned(), key.to_owned());
    assert_eq!(keys(&on(&world, "2026-03-21")), answer("2026-03-21 is a Saturday", "send_days"));
    let italian = "2026-06-02 is a Tuesday, not a working day in IT";
    assert_eq!(keys(&on(&world, "2026-06-02")), answer(italian, "calendars"));
    let both = "2026-04-06 is a Monday, not a working day in IT and PL";
    assert_eq!(keys(&on(&world, "2026-04-06")), answer(both, "calendars"));
    assert_eq!(keys(&on(&world, "2026-08-10")), answer("2026-08-10 is a Monday", "send_days"));
    let final_due = world.stage("friendly", |stage| stage.tone = Tone::Final);
    let quiet = "2026-08-10 is a Monday, in a quiet period: nothing in the tone final";
    assert_eq!(keys(&on(&final_due, "2026-08-10")), answer(quiet, "quiet_period"));
}

#[test]
fn the_question_for_an_address_says_what_the_channel_needs_and_what_there_is() {
    told(&one(), "no_address", &["yes: contact office@debtor.example (dunning)"]);
    told(&one().contacts(&[]), "no_address", &["no: the account has no contact at all"]);
    let unwilling = one().contact(0, |contact| contact.no_email = true);
    let words = "no: 1 contact: 1 wants no e-mail, 0 hold something that is not one usable address";
    told(&unwilling, "no_address", &[words]);
    let unusable = one().contact(0, |contact| {
        contact.email = None;
        contact.unusable_email = true;
        contact.email_kind = EmailKind::Email;
    });
    let words = "no: 1 contact: 0 want no e-mail, 1 holds something that is not one usable address";
    told(&unusable, "no_address", &[words]);
    let by = |channel: Channel| World::new().stage("friendly", |s| s.channels = vec![channel]).owes("A", 3, "100 EUR");
    told(&by(Channel::Handover), "no_address", &["yes: a hand-over reaches nobody"]);
    told(&by(Channel::Call), "no_address", &["no: 1 contact: no telephone number"]);
    told(&by(Channel::Call).contacts(&[]), "no_address", &["no: the account has no contact at all"]);
    let phone = by(Channel::Call).contact(0, |contact| contact.phone = Some("+48 22 100 20 30".to_owned()));
    told(&phone, "no_address", &["yes: contact office@debtor.example (dunning)"]);
    told(&by(Channel::Letter), "no_address", &["no: the account has no postal address"]);
    let posted = by(Channel::Letter).account(|account| account.postal_address = Some("ul. Prosta 2".to_owned()));
    told(&posted, "no_address", &["yes: the account's postal address"]);
}

#[test]
fn a_currency_without_bank_account_is_named_and_what_cannot_be_paid_is_not_demanded() {
    told(&one(), "no_payment_account", &["yes: a bank account for every currency"]);
    let world = one().owes("B", 30, "100 CHF").owes("C", 30, "100 USD").policy(|policy| {
        policy.minimums.base = Some(Decimal::TEN);
        policy.minimums.rates.insert(crate::support::world::money("1 CHF").currency, Decimal::ONE);
        let usd = crate::support::world::money("1 USD").currency;
        policy.creditors.values_mut().for_each(|creditor| drop(creditor.bank_accounts.remove(&usd)));
    });
    check(&world, "contact friendly: demands A");
    check_items(&world, "A demanded, B no_payment_account, C no_payment_account");
    told(&world, "no_payment_account", &["yes: creditor us has no bank account in CHF, USD"]);
    check_tasks(&world, "add_bank_account CHF, add_bank_account USD");
}

#[test]
fn a_cap_of_the_law_is_told_with_its_source() {
    let person = one().account(|account| account.party_kind = PartyKind::Consumer);
    let answers = checks(&person, "contact_cap");
    assert!(answers[0].inputs.starts_with("no contact counted yet, at most 1 per 5 days; to a natural person"));
    let weekdays = person.policy(|policy| policy.calendars = Calendars::weekly(Weekdays::MONDAY_TO_FRIDAY));
    told(&weekdays, "outside_send_days", &["yes: 2026-03-18 is a Wednesday"]);
}

#[test]
fn what_is_held_is_announced_before_its_due_day_only_by_a_stage_that_is_enabled_and_only_while_something_is_left() {
    let held = |change: fn(&mut dunningd::model::Stage)| {
        let world = World::new().stage("friendly", |stage| stage.days = -3).stage("friendly", change);
        world.owes("A", -5, "100 EUR").item("A", |item| item.hold_until = Some(t_plus(1)))
    };
    check(&held(|_| ()), "wait not_overdue until T+2");
    check(&held(|stage| stage.enabled = false), "wait not_overdue until T+15");
    check(&held(|_| ()).credit_note_for("N", "A", "99 EUR"), "wait not_overdue until T+2");
    check(&held(|_| ()).credit_note_for("N", "A", "100 EUR"), "wait not_overdue");
}
