//! What would change the answer: a sentence with the account's own values for every reason.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use dunningd::model::{
    Calendars, Cause, Channel, ContactCap, ContactRole, Dispute, HoldTarget, ItemCode, LadderName, MailboxUse, NotDue,
    NoticeState, OnMissed, OnUnknown, ReasonCode, Weekdays,
};

use crate::support::world::{World, email, item_id, money, t, t_plus};

fn one() -> World {
    World::new().owes("A", 4, "100 EUR")
}

fn account() -> HoldTarget {
    HoldTarget::Account(World::new().snapshot.account.id)
}

/// The remedies of the decision, each as `code: text`, and as `code from T+7: text` where a day is known.
fn remedies(world: &World) -> Vec<String> {
    let decision = world.decide();
    let line = |one: &dunningd::model::Remedy| {
        let on = one.on.map_or(String::new(), |day| format!(" from {}", crate::support::world::day(day)));
        format!("{}{on}: {}", one.code, one.text)
    };
    decision.remedies.iter().map(line).collect()
}

/// Compares every remedy of the world's decision.
#[track_caller]
fn check(world: &World, expected: &[&str]) {
    assert_eq!(remedies(world), expected);
}

/// A world for each reason that a decision can give by itself.
fn worlds() -> Vec<(ReasonCode, World)> {
    let weekdays = |world: World| world.policy(|p| p.calendars = Calendars::weekly(Weekdays::MONDAY_TO_FRIDAY));
    let never_due = |name: &str| World::new().stage(name, |stage| stage.enabled = false);
    vec![
        (ReasonCode::Paused, {
            let mut w = one();
            w.snapshot.paused = Some("audit".into());
            w
        }),
        (ReasonCode::HandedOver, one().handed_over()),
        (ReasonCode::AccountHold, one().hold(account(), None)),
        (ReasonCode::NoticePending, one().notice(NoticeState::Queued, "friendly", 0, &["A"])),
        (ReasonCode::PreviousStageIncomplete, one().notice(NoticeState::Unknown, "friendly", 1, &["A"])),
        (ReasonCode::DeadlineRunning, World::new().owes("A", 21, "100 EUR").reminded("final", 1, &["A"]).naming(10)),
        (ReasonCode::NothingOpen, World::new()),
        (ReasonCode::NotOverdue, World::new().owes("A", -3, "100 EUR")),
        (ReasonCode::AllItemsOut, one().disputed("A", Cause::Dispute)),
        (ReasonCode::AccountInCredit, one().credit_note("C", "120 EUR")),
        (ReasonCode::BelowMinimum, World::new().owes("A", 4, "4 EUR")),
        (ReasonCode::InGrace, one().policy(|p| p.item_grace_days = 6)),
        (ReasonCode::AccountMinArrears, one().policy(|p| p.account_min_arrears_days = 6)),
        (ReasonCode::BeforeFirstStage, World::new().owes("A", 1, "100 EUR")),
        (ReasonCode::TooSoon, World::new().owes("A", 5, "100 EUR").reminded("friendly", 2, &["A"])),
        (ReasonCode::LadderExhausted, {
            let mut world = never_due("friendly").owes("A", 4, "100 EUR");
            let ladder = Arc::make_mut(world.policy.ladders.get_mut(&LadderName::default()).unwrap());
            ladder.stages.iter_mut().for_each(|stage| stage.enabled = false);
            world
        }),
        (ReasonCode::ContactCap, one().called(2)),
        (ReasonCode::SharedMailbox, {
            let mut world = one();
            let usage = MailboxUse { notice_today: true, accounts: 2, ..MailboxUse::default() };
            world.snapshot.mailboxes.insert(email("office@debtor.example").mailbox_key(), usage);
            world
        }),
        (ReasonCode::OutsideSendDays, weekdays(one()).on(3)),
        (ReasonCode::CalendarMissing, one().policy(|p| p.calendars.elsewhere = None)),
        (ReasonCode::NoAddress, one().contact(0, |contact| contact.no_email = true)),
        (
            ReasonCode::NoPaymentAccount,
            one().policy(|p| {
                p.creditors.values_mut().for_each(|creditor| creditor.bank_accounts.clear());
            }),
        ),
        (ReasonCode::NoTemplate, one().policy(|p| p.templates.0.clear())),
    ]
}

#[test]
fn every_reason_says_what_would_change_it() {
    let mut told = String::new();
    for (code, world) in worlds() {
        let decision = world.decide();
        assert_eq!(decision.code(), code.as_str());
        assert!(
            decision.remedies.iter().any(|one| one.code == code.as_str() || one.item.is_some()),
            "{}",
            code.as_str()
        );
        writeln!(told, "{}", code.as_str()).unwrap();
        for line in remedies(&world) {
            writeln!(told, "  {line}").unwrap();
        }
    }
    insta::with_settings!({ snapshot_path => "../../data/remedies", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("reasons", told);
    });
    for code in ReasonCode::ALL {
        assert!(code.remedy().ends_with('.'), "{}", code.as_str());
    }
    // What no world above shows comes about elsewhere: with approvals, or while a run is written.
    let shown: BTreeSet<ReasonCode> = worlds().into_iter().map(|(code, _)| code).collect();
    let others: Vec<&str> = ReasonCode::ALL.iter().filter(|code| !shown.contains(code)).map(|c| c.as_str()).collect();
    assert_eq!(others, ["approval_limit", "not_recorded"]);
}

/// The item `A` in that state beside one that is demanded.
fn beside(change: impl FnOnce(World) -> World) -> World {
    change(World::new().owes("A", 4, "100 EUR").owes("B", 4, "50 EUR"))
}

#[test]
fn every_item_that_is_out_says_what_would_bring_it_back() {
    let ledger = |change: fn(&mut dunningd::model::Item)| beside(|world| world.item("A", change));
    let worlds = vec![
        (ItemCode::Withdrawn, ledger(|item| item.withdrawn = true)),
        (ItemCode::BadData, ledger(|item| item.bad_data = Some("open_amount is more than amount".into()))),
        (ItemCode::DataDueDateMissing, ledger(|item| item.due_date = None)),
        (ItemCode::Assigned, ledger(|item| item.payee = Some("Factor".into()))),
        (ItemCode::WrittenOff, ledger(|item| item.written_off_on = Some(t()))),
        (ItemCode::WrittenOff, beside(|world| world.written_off("A"))),
        (ItemCode::Disputed, ledger(|item| item.dispute = Some(Dispute { since: Some(t()), reason: None }))),
        (ItemCode::Disputed, beside(|world| world.disputed("A", Cause::Dispute))),
        (ItemCode::Disputed, beside(|world| world.cause(Cause::Dispute, Some("A"), 0))),
        (ItemCode::ItemHold, ledger(|item| item.hold_until = Some(t_plus(2)))),
        (ItemCode::ItemHold, beside(|world| world.hold(HoldTarget::Item(item_id("A")), Some(3)))),
        (ItemCode::ItemHold, beside(|world| world.cause(Cause::SaysPaid, Some("A"), 0))),
        (ItemCode::DirectDebit, ledger(|item| item.direct_debit_on = Some(t()))),
        (ItemCode::PromiseRunning, beside(|world| world.promised("100 EUR", 5, 2, &["A"]))),
        (ItemCode::InPlan, beside(|world| world.planned(&[(5, "100 EUR")], 0, OnMissed::Instalment, &["A"]))),
        (ItemCode::BelowMinimum, World::new().owes("A", 4, "4 USD").owes("B", 4, "50 EUR")),
        (
            ItemCode::NoPaymentAccount,
            World::new().owes("A", 4, "40 USD").owes("B", 4, "50 EUR").policy(|p| {
                p.creditors
                    .values_mut()
                    .for_each(|creditor| creditor.bank_accounts.retain(|c, _| c.to_string() != "USD"));
            }),
        ),
    ];
    let mut told = String::new();
    for (code, world) in worlds {
        let decision = world.decide();
        let of_a = decision.items.iter().find(|item| item.item == item_id("A")).unwrap();
        assert_eq!(of_a.code, code);
        assert!(!decision.remedies.is_empty(), "{}", code.as_str());
        for line in remedies(&world) {
            writeln!(told, "{line}").unwrap();
        }
    }
    insta::with_settings!({ snapshot_path => "../../data/remedies", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("items", told);
    });
    for code in ItemCode::ALL.iter().filter(|code| code.is_out() && **code != ItemCode::Settled) {
        assert!(code.remedy().is_some(), "{}", code.as_str());
    }
}

#[test]
fn the_missing_amount_is_named_to_the_cent() {
    check(
        &World::new().owes("A", 4, "4.01 EUR").owes("B", 4, "3 USD"),
        &[
            "below_minimum: 5.99 EUR more overdue would reach the minimum of 10.00 EUR (policy.toml:minimum.EUR).",
            "below_minimum: 7.00 USD more overdue would reach the minimum of 10.00 USD.",
        ],
    );
    let credit = one().credit_note("C", "130.50 EUR");
    check(
        &credit,
        &[
            "account_in_credit: 40.50 EUR more would have to fall overdue: what is left of the credits, and the minimum \
           (policy.toml:minimum.EUR).",
        ],
    );
    assert_eq!(credit.owes("D", 4, "40.50 EUR").decide().code(), "contact");
    let short = World::new().owes("A", 4, "4.01 EUR");
    assert_eq!(short.clone().owes("C", 4, "5.98 EUR").decide().code(), "below_minimum");
    assert_eq!(short.owes("C", 4, "5.99 EUR").decide().code(), "contact");
}

#[test]
fn on_the_day_that_a_remedy_names_the_reason_is_gone() {
    for (code, world) in worlds() {
        for remedy in world.decide().remedies.iter().filter(|one| one.item.is_none()) {
            let Some(day) = remedy.on else { continue };
            let mut then = world.on((day - t()).num_days());
            then.snapshot.mailboxes.values_mut().for_each(|usage| usage.notice_today = false);
            assert_ne!(then.decide().code(), code.as_str(), "{}", remedy.text);
            let before = world.on((day - t()).num_days() - 1);
            assert_ne!(before.decide().code(), "contact", "{}", remedy.text);
        }
    }
}

#[test]
fn what_stops_an_account_is_said_alone() {
    check(
        &beside(|world| world.disputed("A", Cause::Dispute)).hold(account(), Some(2)),
        &[
            "account_hold from T+3: The hold is over on Saturday 2026-03-21.",
            "account_hold: `dunningd release K-1 --reason …` lifts what people placed.",
        ],
    );
}

#[test]
fn what_a_cause_holds_is_let_go_by_clearing_the_cause() {
    let world = one().cause(Cause::SaysPaid, None, 0);
    let clear = "account_hold: `dunningd cause K-1 --cause says_paid --clear --reason …`, once that is settled.";
    check(&world, &["account_hold from T+6: The hold is over on Tuesday 2026-03-24.", clear]);
    check(
        &world.policy(|p| p.calendars.elsewhere = None),
        &[clear, "account_hold: PL gets a calendar that covers 2026 (`[calendars]` in policy.toml)."],
    );
}

#[test]
fn a_day_without_letters_is_told_with_the_next_day_that_has_them() {
    let world = World::new().owes("A", 8, "100 EUR").reminded("friendly", 4, &["A"]);
    let day = "too_soon from T+3: Item A comes to stage firm (policy.toml:firm) on Saturday 2026-03-21";
    check(&world, &[&format!("{day}, 7 days after the last notice about it.")]);
    let weekdays = world.policy(|policy| policy.calendars = Calendars::weekly(Weekdays::MONDAY_TO_FRIDAY));
    let monday = "and letters go out again on Monday 2026-03-23";
    check(&weekdays, &[&format!("{day}, {monday}, 7 days after the last notice about it.")]);
}

#[test]
fn nothing_is_said_about_credits_and_about_what_is_not_overdue() {
    let world = one().owes("D", -20, "50 EUR").disputed("D", Cause::Dispute).credit_note("C", "10 EUR");
    check(&world.item("C", |note| note.bad_data = Some("wrong sign".to_owned())), &[]);
}

#[test]
fn of_items_that_wait_the_first_that_can_be_demanded_is_named_also_when_it_is_in_grace() {
    let world = World::new()
        .policy(|policy| policy.item_grace_days = 3)
        .owes("A", 8, "100 EUR")
        .reminded("friendly", 2, &["A"])
        .owes("B", 1, "100 EUR");
    check(
        &world,
        &["before_first_stage from T+3: Item B comes to stage friendly (policy.toml:friendly) on Saturday 2026-03-21."],
    );
}

#[test]
fn a_second_formal_notice_says_when_it_may_go() {
    let world = World::new()
        .owes("A", 70, "100 EUR")
        .owes("B", 70, "100 EUR")
        .reminded("friendly", 56, &["A", "B"])
        .reminded("firm", 49, &["A", "B"])
        .reminded("final", 39, &["A", "B"])
        .reminded("formal", 29, &["A"]);
    check(
        &world,
        &[
            "too_soon from T+1: Item B comes to stage formal (policy.toml:formal) on Thursday 2026-03-19, 40 days after the last notice about it.",
            "formal_too_soon from T+1: Item B: it comes to stage formal (policy.toml:formal) on Thursday 2026-03-19, 40 days after the last notice about it.",
        ],
    );
}

#[test]
fn only_what_holds_the_item_itself_is_lifted() {
    let on_b = HoldTarget::Item(item_id("B"));
    let world = beside(|world| world.item("A", |item| item.hold_until = Some(t_plus(2))).hold(on_b, None));
    check(
        &world,
        &[
            "item_hold from T+3: Item A: the hold is over on Saturday 2026-03-21.",
            "item_hold: Item A: the ledger lifts its own hold (`ledger.item.hold_until` and `hold_reason`).",
            "item_hold: Item B: `dunningd release K-1 --item B --reason …` lifts what people placed.",
        ],
    );
    let mut moved = beside(|world| world.hold(HoldTarget::Item(item_id("A")), None));
    moved.snapshot.holds[0].handed_over = Some(dunningd::model::AccountId::parse("K-0").unwrap());
    let back = "item_hold: Item A: `dunningd handover K-0 --back --reason …`, once that account is ours again.";
    check(&moved, &[back]);
    let over = one().hold(account(), Some(-1)).account(|account| account.hold_until = Some(t_plus(2)));
    check(
        &over,
        &[
            "account_hold from T+3: The hold is over on Saturday 2026-03-21.",
            "account_hold: The ledger lifts its own hold (`ledger.account.hold_until` and `hold_reason`).",
        ],
    );
}

#[test]
fn the_plan_and_the_promise_of_the_item_itself_are_named() {
    let plan = |world: World, item: &str| world.planned(&[(5, "50 EUR")], 0, OnMissed::Instalment, &[item]);
    let mut world = beside(|world| plan(plan(plan(world, "A"), "A"), "B"));
    world.snapshot.plans[0].ended = true;
    check(
        &world,
        &[
            "all_items_out from T+6: Item plan:2:1:1 can first be demanded on Tuesday 2026-03-24.",
            "in_plan: Item A: `dunningd plan K-1 --end 2 --reason …` ends the plan it is in.",
            "in_plan: Item B: `dunningd plan K-1 --end 3 --reason …` ends the plan it is in.",
        ],
    );
    let world = beside(|world| {
        let world = world.promised("100 EUR", 5, 0, &["A"]).promised("100 EUR", 9, 0, &["A"]);
        world.promised("50 EUR", 5, 0, &["B"])
    });
    let mut withdrawn = world;
    withdrawn.snapshot.promises[1].withdrawn = true;
    check(
        &withdrawn,
        &[
            "promise_running from T+6: Item A: on Tuesday 2026-03-24, if the promise was not kept by then; `dunningd promise K-1 --withdraw 1 --reason …` takes it back.",
            "promise_running from T+6: Item B: on Tuesday 2026-03-24, if the promise was not kept by then; `dunningd promise K-1 --withdraw 3 --reason …` takes it back.",
        ],
    );
}

#[test]
fn the_deadline_that_counts_is_of_a_final_notice_that_arrived() {
    let world = World::new()
        .owes("A", 40, "100 EUR")
        .reminded("final", 1, &["A"])
        .naming(10)
        .reminded("friendly", 5, &["A"])
        .naming(30)
        .notice(NoticeState::Cancelled, "formal", 0, &["A"])
        .naming(50)
        .reminded("final", 1, &["PAID"])
        .naming(60);
    check(
        &world,
        &[
            "deadline_running from T+10: On Saturday 2026-03-28: the final notice of 2026-03-17 gave time up to and including 2026-03-27 (policy.toml:final).",
            "deadline_running: Once nothing of what it demanded is owed any more (A).",
        ],
    );
}

#[test]
fn credits_are_told_in_the_currencies_that_they_cover() {
    check(
        &one().credit_note("C", "120 EUR").owes("U", -10, "50 USD"),
        &[
            "account_in_credit from T+13: Item U can first be demanded on Tuesday 2026-03-31.",
            "account_in_credit: 30.00 EUR more would have to fall overdue: what is left of the credits, and the minimum (policy.toml:minimum.EUR).",
        ],
    );
}

#[test]
fn of_several_caps_the_one_that_holds_longest_is_told_and_of_two_alike_that_of_the_account() {
    let monthly = ContactCap { contacts: 2, days: 30 };
    let world = one().called(2).called(12);
    check(
        &world.clone().policy(|policy| policy.contact_caps.push(monthly)),
        &[
            "contact_cap from T+18: The next contact is allowed on Sunday 2026-04-05: 2 in 30 days (policy.toml:contact_cap), the last was on 2026-03-16.",
        ],
    );
    check(
        &world.policy(|policy| policy.contact_caps.insert(0, monthly)),
        &[
            "contact_cap from T+18: The next contact is allowed on Sunday 2026-04-05: 2 in 30 days (policy.toml:contact_cap), the last was on 2026-03-16.",
        ],
    );
    let mut shared = one().called(2);
    let usage = MailboxUse { contacts: vec![t_plus(-2)], accounts: 2, ..MailboxUse::default() };
    shared.snapshot.mailboxes.insert(email("office@debtor.example").mailbox_key(), usage);
    check(
        &shared,
        &[
            "contact_cap from T+3: The next contact is allowed on Saturday 2026-03-21: 1 in 5 days (policy.toml:contact_cap), the last was on 2026-03-16.",
        ],
    );
    shared.snapshot.mailboxes.values_mut().for_each(|usage| usage.contacts = vec![t_plus(-1)]);
    check(
        &shared,
        &[
            "contact_cap from T+4: The next contact to the mailbox is allowed on Sunday 2026-03-22: 1 in 5 days (policy.toml:contact_cap), the last was on 2026-03-17.",
        ],
    );
}

#[test]
fn of_several_contacts_the_one_whose_address_is_to_be_mended_is_named() {
    let roles = [
        (ContactRole::Dunning, "first@debtor.example"),
        (ContactRole::Billing, "second@debtor.example"),
        (ContactRole::General, "third@debtor.example"),
    ];
    let unusable = |contact: &mut dunningd::model::Contact| {
        contact.email = None;
        contact.unusable_email = true;
    };
    let world = one().contacts(&roles).contact(0, |contact| contact.no_email = true).contact(0, unusable);
    let world = world.contact(1, |contact| contact.email = None).contact(2, unusable);
    check(
        &world,
        &[
            "no_address: The ledger gets one usable e-mail address for account K-1, such as contact third@debtor.example (`ledger.contact.email`).",
            "no_address: `dunningd contact K-1 --contact third@debtor.example --email … --reason …` enters one here, where the ledger cannot be mended soon.",
        ],
    );
}

#[test]
fn the_cap_of_a_mailbox_is_no_reason_against_a_call() {
    let world = one().called(4).stage("friendly", |stage| stage.channels = vec![Channel::Call]);
    let mut world = world.contact(0, |contact| contact.phone = Some("+48 22 100 20 30".to_owned()));
    let usage = MailboxUse { contacts: vec![t()], accounts: 1, ..MailboxUse::default() };
    world.snapshot.mailboxes.insert("office@debtor.example".to_owned(), usage);
    check(
        &world,
        &[
            "contact_cap from T+1: The next contact is allowed on Thursday 2026-03-19: 1 in 5 days (policy.toml:contact_cap), the last was on 2026-03-14.",
        ],
    );
}

#[test]
fn an_address_is_asked_for_where_the_stage_of_what_can_be_paid_needs_it() {
    let world = World::new()
        .stage("firm", |stage| stage.channels = vec![Channel::Letter])
        .owes("A", 12, "100 USD")
        .reminded("friendly", 9, &["A"])
        .owes("B", 4, "100 EUR")
        .contacts(&[]);
    check(
        &world,
        &["no_address: The ledger gets the postal address of account K-1 (`ledger.account.postal_address`)."],
    );
    let nowhere_to_pay = world.policy(|policy| {
        policy.creditors.values_mut().for_each(|creditor| creditor.bank_accounts.retain(|c, _| c.to_string() != "USD"));
    });
    check(
        &nowhere_to_pay,
        &[
            "no_address: The ledger gets a contact with an e-mail address for account K-1 (`ledger.contact`).",
            "no_address: `dunningd contact K-1 --add --role dunning --email … --reason …` enters one here, where the ledger cannot be mended soon.",
        ],
    );
}

#[test]
fn of_what_is_only_counted_the_first_day_is_told_where_no_item_comes_by_then() {
    let counted = |first_due: i64| {
        let mut world = World::new().owes("A", -5, "100 EUR");
        world.snapshot.not_due = NotDue { items: 2, first_due: Some(t_plus(first_due)) };
        world
    };
    check(
        &counted(4),
        &["not_overdue from T+7: An item that is not due yet can first be demanded on Wednesday 2026-03-25."],
    );
    let item = "not_overdue from T+8: Item A can first be demanded on Thursday 2026-03-26.";
    check(&counted(5), &[item]);
    check(&counted(6), &[item]);
    let later = counted(4).stage("friendly", |stage| stage.enabled = false);
    check(
        &later,
        &["not_overdue from T+14: An item that is not due yet can first be demanded on Wednesday 2026-04-01."],
    );
}

#[test]
fn an_item_that_falls_due_before_the_next_stage_of_another_is_named_too() {
    let world = World::new().owes("A", 8, "100 EUR").reminded("friendly", 2, &["A"]);
    let stage = "too_soon from T+5: Item A comes to stage firm (policy.toml:firm) on Monday 2026-03-23, 7 days after the last notice about it.";
    check(&world.clone().owes("C", -3, "100 EUR"), &[stage]);
    check(&world.clone().owes("C", -2, "100 EUR"), &[stage]);
    let sooner = world.owes("C", -1, "100 EUR");
    check(&sooner, &["too_soon from T+4: Item C can first be demanded on Sunday 2026-03-22.", stage]);
    assert_eq!(sooner.on(4).decide().code(), "contact");
}

#[test]
fn what_lifts_the_sum_over_the_minimum_is_named_with_its_day() {
    let small = World::new().owes("A", 30, "8 EUR");
    let world = small.clone().owes("B", -3, "5 EUR");
    let more = "below_minimum: 2.00 EUR more overdue would reach the minimum of 10.00 EUR (policy.toml:minimum.EUR).";
    let lifts = "below_minimum from T+4: Item A can first be demanded on Sunday 2026-03-22.";
    check(&world, &[lifts, more]);
    assert_eq!(world.on(4).decide().code(), "contact");
    assert_ne!(world.on(3).decide().code(), "contact");
    check(&small.clone().owes("B", -3, "1 EUR"), &[more]);
    let both = small.clone().owes("B", -3, "1 EUR").owes("C", -9, "1 EUR");
    check(&both, &["below_minimum from T+10: Item A can first be demanded on Saturday 2026-03-28.", more]);
    assert_eq!(both.on(10).decide().code(), "contact");
    // A scan only counts what is not due: not before the first of it is overdue.
    let mut counted = small;
    counted.snapshot.not_due = NotDue { items: 1, first_due: Some(t_plus(3)) };
    crate::support::world::check(&counted, "skip below_minimum until T+4");
}

#[test]
fn what_will_be_too_little_when_it_falls_due_may_be_lifted_by_what_is_only_counted() {
    let small = World::new().owes("A", 0, "8 EUR");
    let listed = small.clone().owes("B", -2, "5 EUR");
    crate::support::world::check(&listed, "wait not_overdue until T+3");
    assert_eq!(listed.on(3).decide().code(), "contact");
    let mut counted = small;
    counted.snapshot.not_due = NotDue { items: 1, first_due: Some(t_plus(2)) };
    crate::support::world::check(&counted, "wait not_overdue until T+3");
    // Nobody can say which item that would be.
    check(&counted, &["not_overdue from T+3: An open item passes its due date."]);
}

#[test]
fn an_item_whose_due_date_was_moved_is_announced_for_its_own_next_stage() {
    let world = World::new().owes("A", 4, "100 EUR").reminded("friendly", 1, &["A"]);
    let moved = world.item("A", |item| item.due_date = Some(t_plus(8)));
    check(&moved, &["not_overdue from T+18: Item A can first be demanded on Sunday 2026-04-05."]);
    assert_eq!(moved.on(18).decide().code(), "contact");
    assert_ne!(moved.on(17).decide().code(), "contact");
}

#[test]
fn what_is_covered_or_too_small_when_it_falls_due_is_not_announced() {
    crate::support::world::check(
        &World::new().owes("A", -5, "100 EUR").unallocated("P", "100 EUR"),
        "wait not_overdue",
    );
    crate::support::world::check(&World::new().owes("A", -5, "6.31 EUR"), "wait not_overdue");
    let two = World::new().owes("A", -5, "6.31 EUR").owes("B", -20, "6.31 EUR");
    check(&two, &["not_overdue from T+21: Item A can first be demanded on Wednesday 2026-04-08."]);
    assert_eq!(two.on(21).decide().code(), "contact");
    let part = World::new().owes("A", -5, "100 EUR").owes("B", -9, "50 EUR").unallocated("P", "100 EUR");
    check(&part, &["not_overdue from T+12: Item B can first be demanded on Monday 2026-03-30."]);
    assert_eq!(part.on(12).decide().code(), "contact");
}

#[test]
fn of_stops_that_overlap_each_is_named_and_the_last_one_ends_them() {
    let world = one().hold(HoldTarget::Item(item_id("A")), Some(3)).item("A", |item| item.direct_debit_on = Some(t()));
    let told = remedies(&world);
    assert_eq!(
        told,
        [
            "item_hold from T+4: Item A: the hold is over on Sunday 2026-03-22.",
            "item_hold: Item A: `dunningd release K-1 --item A --reason …` lifts what people placed.",
            "direct_debit from T+8: Item A: on Thursday 2026-03-26, 7 working days after the direct debit, if it is still open.",
        ]
    );
    crate::support::world::check(&world, "skip all_items_out until T+8");
    assert_eq!(world.on(8).decide().code(), "contact");
    let disputed = world.disputed("A", Cause::WrongDetails);
    crate::support::world::check(&disputed, "skip all_items_out");
    assert_eq!(remedies(&disputed)[1..], told);
}

#[test]
fn the_next_day_of_a_shared_mailbox_counts_the_notice_that_it_has_today() {
    let mut world = one();
    let usage = MailboxUse { notice_today: true, accounts: 2, ..MailboxUse::default() };
    world.snapshot.mailboxes.insert(email("office@debtor.example").mailbox_key(), usage);
    check(
        &world,
        &[
            "shared_mailbox from T+5: On Monday 2026-03-23: the mailbox already has its notice of today, which counts for the cap (policy.toml:contact_cap).",
        ],
    );
    crate::support::world::check(&world, "hold shared_mailbox until T+5");
    let daily = world.policy(|policy| policy.contact_caps.clear());
    crate::support::world::check(&daily, "hold shared_mailbox until T+1");
}

#[test]
fn what_would_have_to_fall_overdue_is_told_without_what_only_covers_items_that_come_later() {
    let coming = one().owes("B", -20, "80 EUR").unallocated("P", "150 EUR");
    check(
        &coming,
        &[
            "account_in_credit from T+23: Item B can first be demanded on Friday 2026-04-10.",
            "account_in_credit: 60.00 EUR more would have to fall overdue: what is left of the credits, and the minimum (policy.toml:minimum.EUR).",
        ],
    );
    assert_eq!(coming.clone().owes("C", 5, "59.99 EUR").decide().code(), "below_minimum");
    assert_eq!(coming.owes("C", 5, "60 EUR").decide().code(), "contact");
    // A credit note for an item that comes later stays with it.
    let own = one().owes("B", -20, "80 EUR").credit_note_for("N", "B", "30 EUR").unallocated("P", "100 EUR");
    assert_eq!(
        remedies(&own)[1],
        "account_in_credit: 10.00 EUR more would have to fall overdue, which is the minimum (policy.toml:minimum.EUR)."
    );
    assert_eq!(own.owes("C", 5, "10 EUR").decide().code(), "contact");
}

#[test]
fn a_task_that_stands_for_a_notice_is_done_or_dropped_or_lapses() {
    let call = one().notice(NoticeState::WithPerson, "friendly", 1, &["A"]).by(Channel::Call, Some(4));
    crate::support::world::check(&call, "wait notice_pending until T+5");
    check(
        &call,
        &[
            "notice_pending from T+5: On Monday 2026-03-23, when the task of the friendly stage has lapsed.",
            "notice_pending: Somebody makes the call and says so, `dunningd task done TASK`, or that nobody will, `dunningd task drop TASK --reason …`; `dunningd task list --account K-1` names the task.",
        ],
    );
    let letter = one().notice(NoticeState::WithPerson, "friendly", 1, &["A"]).by(Channel::Letter, None);
    check(
        &letter,
        &[
            "notice_pending: Somebody posts the letter and says so, `dunningd task done TASK`, or that nobody will, `dunningd task drop TASK --reason …`; `dunningd task list --account K-1` names the task.",
        ],
    );
}

#[test]
fn a_later_stage_that_does_not_apply_is_named_with_what_it_asks_for() {
    let world = World::new()
        .stage("formal", |stage| stage.when.min = [money("250 EUR")].into_iter().collect())
        .owes("A", 40, "100 EUR")
        .reminded("friendly", 37, &["A"])
        .reminded("firm", 30, &["A"])
        .reminded("final", 20, &["A"]);
    check(
        &world,
        &[
            "ladder_exhausted: Stage formal (policy.toml:formal) follows once it applies: 100.00 EUR overdue, it asks for 250.00 EUR.",
            "ladder_exhausted: A person decides what follows, such as `dunningd handover K-1 --to … --reason …`.",
        ],
    );
    let decision = world.decide();
    assert!(decision.checks.iter().any(|check| check.inputs == "no further stage applies"));
    assert_eq!(decision.tasks[0].text, "every stage that applies is complete and the last deadline is over");
    crate::support::world::check(&world.clone().owes("B", 2, "150 EUR"), "contact formal: demands A; also open B");
    let coming = world.owes("B", -5, "150 EUR");
    assert_eq!(remedies(&coming)[0], "ladder_exhausted from T+6: Item A can first be demanded on Tuesday 2026-03-24.");
    crate::support::world::check(&coming.on(6), "contact formal: demands A; also open B");
}

#[test]
fn a_case_that_keeps_an_older_ladder_says_so_and_how_it_is_moved() {
    let world = World::new().owes("A", 8, "100 EUR").reminded("friendly", 4, &["A"]);
    let changed = world.clone().stage("firm", |stage| stage.days = 12);
    let moves = "too_soon: The case keeps the ladder default as it was when the case began on 2026-03-14; `dunningd ladder K-1 --to default --reason …` moves it to today's.";
    assert_eq!(remedies(&changed)[1..], [moves]);
    assert_eq!(remedies(&world).len(), 1);
    let elsewhere = world.stage("firm", |stage| stage.location = "policy.toml:99".into());
    assert_eq!(remedies(&elsewhere).len(), 1);
}

#[test]
fn a_wait_that_a_cause_began_anew_is_counted_from_the_cause() {
    let world = World::new().owes("A", 30, "100 EUR").reminded("friendly", 12, &["A"]);
    let stage = "too_soon from T+5: Item A comes to stage firm (policy.toml:firm) on Monday 2026-03-23";
    check(
        &world.clone().cause(Cause::NotReceived, Some("A"), 2),
        &[&format!("{stage}, 7 days after the wait began anew on 2026-03-16 (cause not_received).")],
    );
    let before = World::new().owes("A", 30, "100 EUR").reminded("friendly", 2, &["A"]);
    check(
        &before.cause(Cause::NotReceived, Some("A"), 9),
        &[&format!("{stage}, 7 days after the last notice about it.")],
    );
}

#[test]
fn what_nobody_knows_and_is_sent_once_more_says_when() {
    let unknown = one().stage("friendly", |stage| stage.on_unknown = OnUnknown::ResendOnce);
    let unknown = unknown.notice(NoticeState::Unknown, "friendly", 1, &["A"]);
    assert_eq!(
        remedies(&unknown)[1..],
        [
            "previous_stage_incomplete: Where nothing becomes known within a day, the friendly notice is sent once more by itself (policy.toml:friendly), if it was not already."
        ]
    );
}

#[test]
fn a_command_to_copy_says_the_same_to_a_shell() {
    let name = "FT 2026/1 <O'Neill>";
    let world = World::new().owes(name, 4, "100 EUR").disputed(name, Cause::Dispute);
    check(
        &world,
        &["disputed: Item FT 2026/1 <O'Neill>: `dunningd dispute K-1 --item 'FT 2026/1 <O'\\''Neill>' --resolved \
           --reason …`, once it is settled."],
    );
}

#[test]
fn what_is_not_sent_is_sent_again_when_the_caps_allow() {
    let unknown = one().notice(NoticeState::Unknown, "friendly", 1, &["A"]);
    let number = unknown.snapshot.history.notices[0].id;
    let counted = unknown.called(1);
    let said = remedies(&counted).remove(0);
    assert_eq!(
        said,
        format!(
            "previous_stage_incomplete: `dunningd outbox resolve {number} --accepted --reason …` if it arrived, or \
             `--not-sent` to have it sent again as soon as the contact cap allows, on Sunday 2026-03-22."
        )
    );
}

#[test]
fn of_what_falls_due_and_what_is_released_the_earlier_demand_is_announced() {
    let world = World::new().owes("A", 0, "100 EUR").owes("H", 20, "100 EUR");
    let world = world.hold(HoldTarget::Item(item_id("H")), Some(1));
    crate::support::world::check(&world, "skip all_items_out until T+2");
    crate::support::world::check(&world.on(2), "contact friendly: demands H; also open A");
    let longer = World::new().owes("A", 0, "100 EUR").owes("H", 20, "100 EUR");
    let longer = longer.hold(HoldTarget::Item(item_id("H")), Some(3));
    crate::support::world::check(&longer, "skip all_items_out until T+3");
    crate::support::world::check(&longer.on(3), "contact friendly: demands A");
}

#[test]
fn what_is_only_counted_is_announced_for_its_own_first_stage_unless_its_sum_may_open_a_stage_to_another() {
    let counted = |world: World| {
        let mut world = world.owes("A", 8, "100 EUR").reminded("friendly", 2, &["A"]);
        world.snapshot.not_due = NotDue { items: 1, first_due: Some(t_plus(1)) };
        world
    };
    let stage = "too_soon from T+5: Item A comes to stage firm (policy.toml:firm) on Monday 2026-03-23, 7 days after the last notice about it.";
    let own = "too_soon from T+4: An item that is not due yet can first be demanded on Sunday 2026-03-22.";
    let plain = counted(World::new());
    crate::support::world::check(&plain, "wait too_soon until T+4");
    check(&plain, &[own, stage]);
    let asks = |on: bool| {
        counted(World::new().stage("formal", |formal| {
            formal.when.min = [money("250 EUR")].into_iter().collect();
            formal.enabled = on;
        }))
    };
    crate::support::world::check(&asks(false), "wait too_soon until T+4");
    check(&asks(false), &[own, stage]);
    crate::support::world::check(&asks(true), "wait too_soon until T+2");
    // Nobody can say which item that would be, or for what.
    check(&asks(true), &[stage]);
}

#[test]
fn a_mailbox_that_no_cap_holds_back_gets_its_next_notice_tomorrow() {
    let mut world = one().policy(|policy| policy.contact_caps.clear());
    let usage = MailboxUse { notice_today: true, accounts: 2, ..MailboxUse::default() };
    world.snapshot.mailboxes.insert(email("office@debtor.example").mailbox_key(), usage);
    check(&world, &["shared_mailbox from T+1: On Thursday 2026-03-19: the mailbox already has its notice of today."]);
}

#[test]
fn a_notice_that_waits_for_approval_is_decided_by_somebody_and_one_that_is_on_its_way_comes_to_its_end() {
    let waiting = one().notice(NoticeState::AwaitingApproval, "friendly", 0, &["A"]);
    let number = waiting.snapshot.history.notices[0].id;
    check(
        &waiting,
        &[&format!(
            "notice_pending: Somebody decides about the friendly notice, which waits for approval; `dunningd outbox show {number}`."
        )],
    );
    check(
        &one().notice(NoticeState::Queued, "friendly", 0, &["A"]),
        &[&format!(
            "notice_pending: The friendly notice that is on its way comes to its end; `dunningd outbox show {number}`."
        )],
    );
}

#[test]
fn a_credit_note_in_another_currency_covers_nothing_of_the_item_that_it_names() {
    let world = one().owes("B", -20, "80 EUR").credit_note_for("N", "B", "30 USD").unallocated("P", "150 EUR");
    assert_eq!(
        remedies(&world)[1],
        "account_in_credit: 60.00 EUR more would have to fall overdue: what is left of the credits, and the minimum (policy.toml:minimum.EUR)."
    );
    assert_eq!(world.clone().owes("C", 5, "59.99 EUR").decide().code(), "below_minimum");
    assert_eq!(world.owes("C", 5, "60 EUR").decide().code(), "contact");
}

#[test]
fn where_nobody_can_be_called_a_contact_with_a_telephone_is_asked_for() {
    let call = || one().stage("friendly", |stage| stage.channels = vec![Channel::Call]);
    let ledger =
        "no_address: The ledger gets a telephone number for a contact of account K-1 (`ledger.contact.phone`).";
    check(
        &call().contacts(&[]),
        &[
            ledger,
            "no_address: `dunningd contact K-1 --add --role dunning --email … --phone … --reason …` enters one here, where the ledger cannot be mended soon.",
        ],
    );
    check(
        &call(),
        &[
            ledger,
            "no_address: `dunningd contact K-1 --contact office@debtor.example --phone … --reason …` enters one here, where the ledger cannot be mended soon.",
        ],
    );
}

#[test]
fn a_cause_that_begins_no_wait_anew_leaves_the_count_from_the_last_notice() {
    let world = World::new().owes("A", 30, "100 EUR").reminded("friendly", 2, &["A"]);
    let stage = "too_soon from T+5: Item A comes to stage firm (policy.toml:firm) on Monday 2026-03-23, 7 days after the last notice about it.";
    check(&world.cause(Cause::CashProblem, Some("A"), 1), &[stage]);
}

#[test]
fn what_is_not_sent_is_sent_again_at_once_where_no_cap_is_in_the_way() {
    let said = |days_ago: i64| {
        let world = World::new().owes("A", 9, "100 EUR").notice(NoticeState::Unknown, "friendly", days_ago, &["A"]);
        (world.snapshot.history.notices[0].id, remedies(&world).remove(0))
    };
    let (number, at_once) = said(5);
    let resolve = format!(
        "previous_stage_incomplete: `dunningd outbox resolve {number} --accepted --reason …` if it arrived, or \
         `--not-sent` to have it sent again"
    );
    assert_eq!(at_once, format!("{resolve}."));
    assert_eq!(said(4).1, format!("{resolve} as soon as the contact cap allows, on Thursday 2026-03-19."));
}
