//! What holds whatever the policy, the debtor and the weather.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{Days, Duration, NaiveDate};
use dunningd::decide::ladder_of;
use dunningd::model::{
    Amounts, Decision, HoldTarget, Item, ItemCode, ItemDecision, ItemId, LadderName, NotDue, NoticeState, PastNotice,
    RunTotals, StageName, Verdict,
};
use proptest::prelude::*;
use rust_decimal::Decimal;

use super::lives::{DAYS, Life, life};
use crate::support::world::{World, completed_by, summary};

fn cases() -> ProptestConfig {
    ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() }
}

fn item_of<'a>(world: &'a World, id: &ItemId) -> &'a Item {
    world.snapshot.items.iter().find(|item| item.id == *id).unwrap()
}

/// Said in the plainest way, and not as the program says it.
fn may_be_demanded(world: &World, decision: &Decision, item: &Item, stage_days: i32) -> bool {
    let today = world.today;
    let held = item.hold_until.map_or(item.hold_reason.is_some(), |last| last >= today)
        || world.snapshot.holds.iter().any(|hold| {
            hold.target == HoldTarget::Item(item.id.clone()) && hold.until.is_none_or(|last| last >= today)
        });
    let promised = world.snapshot.promises.iter().any(|promise| {
        let paid: Decimal = promise
            .items
            .iter()
            .filter_map(|one| world.snapshot.items.iter().find(|item| item.id == one.item).map(|item| (one, item)))
            .map(|(one, item)| (one.open_then - item_decision(decision, &item.id).to_pay().amount).max(Decimal::ZERO))
            .sum();
        !promise.withdrawn
            && promise.items.iter().any(|one| one.item == item.id)
            && paid < promise.amount.amount
            && today <= promise.by_day + Days::new(promise.tolerance_days.into())
    });
    let collected = item.direct_debit_on.is_some_and(|day| {
        let bank = dunningd::model::Country::parse("PL").unwrap();
        world.policy.calendars.add_working_days(bank, day, 7).unwrap() >= today
    });
    let late = item.due_date.map_or(0, |due| (today - due).num_days());
    !item.kind.is_credit()
        && item.open_amount > Decimal::ZERO
        && !item.withdrawn
        && item.bad_data.is_none()
        && item.payee.is_none()
        && item.written_off_on.is_none_or(|day| day > today)
        && item.dispute.is_none()
        && !held
        && !promised
        && !collected
        && if stage_days < 0 { late <= 0 } else { late > i64::from(world.policy.item_grace_days) }
}

fn is_payable(world: &World, item: &Item) -> bool {
    let bank = &world.policy.creditors[&world.snapshot.account.creditor].bank_accounts;
    item.requisites.is_some() || bank.contains_key(&item.currency)
}

fn has_completed(world: &World, item: &ItemId, stage: &StageName) -> bool {
    let history = &world.snapshot.history;
    history.notices.iter().any(|notice| {
        notice.state == NoticeState::Accepted && notice.items.iter().any(|(of, at)| of == item && at == stage)
    }) || history.waivers.iter().any(|waiver| waiver.item == *item && waiver.stage == *stage)
}

/// What is overdue and not out; of a note before the due day, what is coming due.
fn remainder(decision: &Decision) -> Amounts {
    let left = |overdue: bool| {
        let items = decision.items.iter().filter(|item| !item.is_credit && !item.code.is_out());
        items.filter(move |item| item.is_overdue_debit() == overdue).map(ItemDecision::to_pay)
    };
    let demands_overdue = decision.items.iter().any(|i| i.code == ItemCode::Demanded && i.is_overdue_debit());
    left(demands_overdue).collect()
}

fn item_decision<'a>(decision: &'a Decision, id: &ItemId) -> &'a ItemDecision {
    decision.items.iter().find(|item| item.item == *id).unwrap()
}

fn position(world: &World, stage: &StageName) -> usize {
    ladder_of(&world.policy, &world.snapshot).position(stage).unwrap()
}

/// What must be true of every decision.
fn check_decision(world: &World, decision: &Decision) {
    check_netting(world, decision);
    let codes = |code: ItemCode| decision.items.iter().filter(move |item| item.code == code);
    let Verdict::Contact(contacting) = &decision.verdict else {
        assert_eq!(codes(ItemCode::Demanded).chain(codes(ItemCode::Information)).count(), 0);
        let Verdict::No { next_date, .. } = decision.verdict else { unreachable!() };
        assert!(next_date.is_none_or(|next| next > world.today), "the next date is not in the future");
        return;
    };

    assert!(world.snapshot.handover.is_none(), "an account that was handed over is written to");
    let completes = completed_by(decision);
    assert!(!completes.is_empty(), "a notice without a demand");
    assert_eq!(completes.len(), codes(ItemCode::Demanded).count());
    let overdue = remainder(decision);
    let before_due = completes.iter().any(|(id, _)| !item_decision(decision, id).is_overdue_debit());
    assert!(
        !before_due
            || decision
                .items
                .iter()
                .all(|item| !item.is_overdue_debit() || item.code.is_out() || item.to_pay().amount.is_zero()),
        "a note before the due day although something is overdue"
    );
    let ladder = ladder_of(&world.policy, &world.snapshot);
    for (id, stage) in &completes {
        let item = item_of(world, id);
        let stage_days = ladder.stages[ladder.position(stage).unwrap()].days;
        assert!(may_be_demanded(world, decision, item, stage_days), "{id} may not be demanded");
        assert!(is_payable(world, item), "{id} cannot be paid");
        assert!(contacting.requisites.iter().any(|(of, _)| of == id), "{id} has no payment account in the letter");
        assert!(!has_completed(world, id, stage), "{id} has {stage} behind it");
        let lower = &ladder.stages[..ladder.position(stage).unwrap()];
        let skipped = lower.iter().find(|lower| {
            lower.enabled
                && lower.days >= 0
                && (lower.when.min.is_empty()
                    || world
                        .policy
                        .minimums
                        .of_stage(&lower.when.min, item.currency)
                        .is_some_and(|least| overdue.get(item.currency) >= least))
                && !has_completed(world, id, &lower.name)
        });
        assert!(skipped.is_none(), "{id} skips {:?} on its way to {stage}", skipped.map(|stage| &stage.name));
        let stage = &ladder.stages[ladder.position(stage).unwrap()];
        let stage_day = item.due_date.unwrap() + Duration::days(stage.days.into());
        assert!(stage_day <= world.today, "{id} is demanded before its stage day");
        for notice in world.snapshot.history.notices.iter().filter(|n| n.state == NoticeState::Accepted) {
            if notice.items.iter().any(|(of, _)| of == id) {
                let quiet_until = notice.accepted_on.unwrap() + Days::new(world.policy.bounce_window_days.into());
                assert!(quiet_until <= world.today, "{id} is demanded while its last notice may still bounce");
                assert!(
                    notice.respond_by.is_none_or(|last| last < world.today),
                    "{id} is demanded within its deadline"
                );
            }
        }
        let minimum = world.policy.minimums.of(item.currency).unwrap();
        assert!(overdue.get(item.currency) >= minimum, "{id} is not worth a letter");
    }
    let furthest = completes.iter().map(|(_, stage)| position(world, stage)).max();
    assert_eq!(Some(position(world, &contacting.stage)), furthest, "the tone is not the furthest item's");
    assert!(completes.iter().any(|(id, stage)| *id == contacting.anchor && *stage == contacting.stage));
    for item in codes(ItemCode::Information) {
        assert!(item.is_overdue_debit() && item.to_pay().amount > Decimal::ZERO, "{} is listed", item.item);
    }

    let counted: Vec<NaiveDate> = world.snapshot.history.notices.iter().filter_map(|n| n.counted_on).collect();
    let contacts = || counted.iter().chain(&world.snapshot.history.other_contacts);
    for cap in &world.policy.contact_caps {
        let first = world.today - Days::new(u64::from(cap.days) - 1);
        assert!(contacts().filter(|at| **at >= first).count() < cap.contacts as usize, "over {cap:?}");
    }
    let recipient =
        world.snapshot.contacts.iter().find(|contact| Some(&contact.id) == contacting.contact.as_ref()).unwrap();
    assert!(!recipient.no_email);
    assert!(world.snapshot.account.hold_until.is_none_or(|last| last < world.today));
    let unresolved = |notice: &&PastNotice| {
        let owed = |item: &ItemId| {
            decision.items.iter().any(|one| {
                one.item == *item && one.is_overdue_debit() && !one.code.is_out() && one.to_pay().amount > Decimal::ZERO
            })
        };
        matches!(notice.state, NoticeState::Unknown | NoticeState::Refused | NoticeState::Bounced)
            && notice.items.iter().any(|(item, stage)| owed(item) && !has_completed(world, item, stage))
    };
    assert!(
        !world.snapshot.history.notices.iter().any(|notice| unresolved(&notice)),
        "a failed notice was passed over"
    );
}

/// No item goes below zero, no credit is used twice, no currency pays for another.
fn check_netting(world: &World, decision: &Decision) {
    let mut used: BTreeMap<&ItemId, Decimal> = BTreeMap::new();
    let mut received: BTreeMap<&ItemId, Decimal> = BTreeMap::new();
    for netted in &decision.netted {
        assert!(netted.amount > Decimal::ZERO);
        *used.entry(&netted.credit).or_default() += netted.amount;
        *received.entry(&netted.item).or_default() += netted.amount;
        assert_eq!(item_of(world, &netted.credit).currency, item_of(world, &netted.item).currency);
    }
    for (credit, used) in used {
        assert!(used <= -item_of(world, credit).open_amount, "{credit} is used twice");
    }
    for item in decision.items.iter().filter(|item| !item.is_credit) {
        assert_eq!(item.credited, received.get(&item.item).copied().unwrap_or_default());
        assert!(item.to_pay().amount >= Decimal::ZERO, "{} goes below zero", item.item);
    }
}

/// The same account with its plain items that are not due only counted, where that is allowed.
fn counted(world: &World) -> Option<World> {
    let mut other = world.clone();
    let ladder = ladder_of(&world.policy, &world.snapshot);
    let snapshot = &mut other.snapshot;
    let recorded = !snapshot.holds.is_empty()
        || !snapshot.promises.is_empty()
        || !snapshot.plans.is_empty()
        || !snapshot.causes.is_empty()
        || !snapshot.write_offs.is_empty()
        || snapshot.handover.is_some();
    if recorded
        || snapshot.items.iter().any(|item| item.kind.is_credit())
        || ladder.stages.iter().any(|stage| stage.enabled && stage.is_before_due())
    {
        return None;
    }
    let at_stake = |item: &Item| {
        snapshot.history.notices.iter().any(|notice| {
            !notice.state.completes_stage()
                && notice.state != NoticeState::Cancelled
                && notice.items.iter().any(|(of, _)| *of == item.id)
        })
    };
    let is_plain = |item: &Item| {
        item.due_date.is_some_and(|due| due >= world.today)
            && item.open_amount > Decimal::ZERO
            && !item.withdrawn
            && item.bad_data.is_none()
            && item.written_off_on.is_none()
            && item.dispute.is_none()
            && item.hold_until.is_none()
            && item.hold_reason.is_none()
            && item.payee.is_none()
            && item.direct_debit_on.is_none()
            && item.requisites.is_none()
            && !at_stake(item)
    };
    let (plain, listed): (Vec<Item>, Vec<Item>) = snapshot.items.iter().cloned().partition(is_plain);
    snapshot.not_due =
        NotDue { items: plain.len() as u64, first_due: plain.iter().filter_map(|item| item.due_date).min() };
    snapshot.items = listed;
    Some(other)
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn every_decision_of_a_life_keeps_the_rule(life in life()) {
        life.live(|world, decision| {
            check_decision(world, decision);
            for (item, stage) in completed_by(decision) {
                let twice = world.snapshot.history.notices.iter().any(|notice| {
                    notice.state != NoticeState::Cancelled
                        && notice.items.iter().any(|(of, at)| *of == item && *at == stage)
                });
                assert!(!twice, "{item} gets {stage} twice");
            }
        });
    }

    #[test]
    fn the_order_of_rows_changes_nothing(life in life(), turn in 0_usize..5) {
        let mut n = 0;
        life.live(|world, decision| {
            n += 1;
            if n % 3 != 0 {
                return;
            }
            let mut other = world.clone();
            let snapshot = &mut other.snapshot;
            shuffle(&mut snapshot.items, turn);
            shuffle(&mut snapshot.contacts, turn);
            shuffle(&mut snapshot.holds, turn);
            shuffle(&mut snapshot.promises, turn);
            shuffle(&mut snapshot.history.notices, turn);
            shuffle(&mut snapshot.history.waivers, turn);
            snapshot.history.other_contacts.reverse();
            assert_eq!(&other.decide(), decision);
            assert_eq!(&world.decide(), decision);
        });
    }

    #[test]
    fn what_is_not_due_gives_the_same_answer_counted_or_listed(life in life()) {
        life.live(|world, decision| {
            let Some(counted) = counted(world) else { return };
            let counted = counted.decide();
            assert_eq!(counted.code(), decision.code());
            assert_eq!((counted.case, &counted.tasks), (decision.case, &decision.tasks));
            // What is only counted has no amounts and no history: its day is the first that is possible.
            if let (Verdict::No { next_date: at_least, .. }, Verdict::No { next_date, .. }) =
                (&counted.verdict, &decision.verdict)
            {
                assert!(next_date.is_none() || at_least <= next_date, "{at_least:?} and {next_date:?}");
            } else {
                assert_eq!(counted.digest(), decision.digest());
            }
        });
    }

    #[test]
    fn every_account_and_every_overdue_amount_is_counted_once(lives in proptest::collection::vec(life(), 1..3)) {
        let mut totals = RunTotals::default();
        let (mut considered, mut overdue) = (0, Amounts::default());
        for life in lives {
            life.live(|_, decision| {
                totals.count(decision);
                considered += 1;
                let late = decision.items.iter().filter(|item| item.is_overdue_debit());
                overdue.add_all(&late.map(|item| item.open).collect());
            });
        }
        prop_assert_eq!(totals.considered, considered);
        prop_assert_eq!(totals.considered, totals.contacted + totals.reasons.values().sum::<u64>());
        let mut amounts = Amounts::default();
        totals.by_outcome.values().for_each(|sum| amounts.add_all(&sum.amounts));
        prop_assert_eq!(&amounts, &totals.overdue.amounts);
        prop_assert_eq!(&amounts, &overdue);
        prop_assert_eq!(totals.by_outcome.values().map(|sum| sum.items).sum::<u64>(), totals.overdue.items);
        prop_assert!(totals.by_outcome.values().all(|sum| sum.accounts <= considered));
    }

    #[test]
    fn nothing_is_sent_before_the_date_that_was_told(life in life(), at in 0_i64..DAYS) {
        let mut life = Life { world: without_thresholds(life.world), ..life };
        life.world.snapshot.items.iter_mut().for_each(|item| item.written_off_on = None);
        let mut n = -1;
        life.live(|world, decision| {
            n += 1;
            let Verdict::No { next_date: Some(next), .. } = decision.verdict else { return };
            if n != at {
                return;
            }
            for ahead in 1..(next - world.today).num_days() {
                let later = World { today: world.today + Duration::days(ahead), ..world.clone() };
                let earlier = later.decide();
                assert!(!matches!(earlier.verdict, Verdict::Contact(_)), "{} but {}", summary(decision), summary(&earlier));
            }
        });
    }

    #[test]
    fn a_day_without_a_run_changes_dates_and_not_the_order_of_stages(life in life(), missed in 0_i64..DAYS) {
        let quiet = Life { fates: Vec::new(), payments: Vec::new(), ..life };
        let quiet = Life { world: without_thresholds(quiet.world), ..quiet };
        let stages = |missed: Option<i64>| {
            let mut life = quiet.clone();
            let mut seen: BTreeMap<ItemId, Vec<StageName>> = BTreeMap::new();
            for day in 0..DAYS {
                if missed == Some(day) {
                    life.world.today += Duration::days(1);
                    continue;
                }
                let decision = life.world.decide();
                for (item, stage) in completed_by(&decision) {
                    seen.entry(item).or_default().push(stage);
                }
                life.evening(&decision);
            }
            seen
        };
        let (always, once_missed) = (stages(None), stages(Some(missed)));
        for (item, stages) in &always {
            let other = once_missed.get(item).map_or(&[][..], Vec::as_slice);
            prop_assert!(stages.iter().zip(other).all(|(a, b)| a == b), "{}: {:?} and {:?}", item, stages, other);
        }
    }
}

fn shuffle<T>(rows: &mut [T], turn: usize) {
    rows.rotate_left(turn.min(rows.len()));
    rows.reverse();
}

/// What depends on a sum changes with each item that falls due, by design.
fn without_thresholds(mut world: World) -> World {
    let ladder = Arc::make_mut(world.policy.ladders.get_mut(&LadderName::default()).unwrap());
    ladder.stages.iter_mut().for_each(|stage| stage.when.min = Amounts::default());
    world.policy.minimums.by_currency.values_mut().for_each(|minimum| *minimum = Decimal::ZERO);
    world.policy.minimums.base = Some(Decimal::ZERO);
    world
}
