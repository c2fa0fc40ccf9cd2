//! What would change the answer: a sentence with the account's own values for every reason.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use dunningd::model::{
    Calendars, Cause, Dispute, HoldTarget, ItemCode, LadderName, MailboxUse, NoticeState, OnMissed, ReasonCode,
    Weekdays,
};

use crate::support::world::{World, email, item_id, t, t_plus};

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
            let ladder = world.policy.ladders.get_mut(&LadderName::default()).unwrap();
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
        (ItemCode::Disputed, ledger(|item| item.dispute = Some(Dispute { since: t(), reason: None }))),
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
