//! What holds whatever the policy, the debtor and the weather: generated worlds, lived through day by day.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use chrono::{Days, Duration, NaiveDate};
use dunningd::decide::ladder_of;
use dunningd::model::{
    Amounts, Calendars, ContactCap, ContactRole, CreditNetting, Currency, Decision, Demands, Dispute, HoldTarget, Item,
    ItemCode, ItemDecision, ItemId, LadderName, Money, NoticeState, PartyKind, PastNotice, RunTotals, StageName,
    Verdict, Weekdays,
};
use proptest::prelude::*;
use rust_decimal::Decimal;

use crate::support::world::{World, completed_by, item_id, requisites, summary, t_plus};

/// What is peculiar about an item; the number is a day relative to `T`.
#[derive(Debug, Clone, Copy)]
enum Flaw {
    None,
    Disputed,
    HeldByLedger(Option<i64>),
    HeldByPerson(Option<i64>),
    Assigned,
    WrittenOff(i64),
    Withdrawn,
    Bad,
    NoDueDate,
    DirectDebit(i64),
    OwnRequisites,
}

/// A change to a generated world.
#[derive(Clone)]
struct Change(Rc<dyn Fn(World) -> World>);

impl Change {
    fn new(change: impl Fn(World) -> World + 'static) -> Self {
        Self(Rc::new(change))
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("change")
    }
}

/// What became of a notice; failures are resolved some days later.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Accepted,
    Unknown,
    Refused,
    Bounced,
    NeverSent,
}

#[derive(Debug, Clone)]
struct Life {
    world: World,
    fates: Vec<Fate>,
    resolved_after: i64,
    /// On that day (from `T`) that share of an item is paid.
    payments: Vec<(i64, usize, u8)>,
}

const DAYS: i64 = 45;

fn flaw() -> impl Strategy<Value = Flaw> {
    let day = -20_i64..40;
    prop_oneof![
        12 => Just(Flaw::None),
        1 => Just(Flaw::Disputed),
        1 => proptest::option::of(day.clone()).prop_map(Flaw::HeldByLedger),
        1 => proptest::option::of(day.clone()).prop_map(Flaw::HeldByPerson),
        1 => Just(Flaw::Assigned),
        1 => day.clone().prop_map(Flaw::WrittenOff),
        1 => Just(Flaw::Withdrawn),
        1 => Just(Flaw::Bad),
        1 => Just(Flaw::NoDueDate),
        1 => day.prop_map(Flaw::DirectDebit),
        1 => Just(Flaw::OwnRequisites),
    ]
}

prop_compose! {
    /// Kind, days late on `T`, cents, currency, peculiarity, the item a credit refers to, contract.
    fn item(n: usize)(
        kind in 0_u8..10,
        late in -30_i64..80,
        cents in prop_oneof![1 => Just(0_i64), 4 => 1_i64..3_000, 8 => 3_000_i64..200_000],
        currency in prop_oneof![6 => Just("EUR"), 2 => Just("USD"), 1 => Just("JPY"), 1 => Just("CHF")],
        flaw in flaw(),
        refers_to in proptest::option::of(0_usize..6),
        contract in proptest::option::of(0_u8..2),
    ) -> Change {
        Change::new(move |world: World| {
            let id = format!("I{n}");
            let amount = format!("{} {currency}", Decimal::new(cents, 2));
            let world = match (kind, refers_to) {
                (0, Some(to)) => world.credit_note_for(&id, &format!("I{to}"), &amount),
                (0, None) => world.credit_note(&id, &amount),
                (1, _) => world.unallocated(&id, &amount),
                _ => world.owes(&id, late, &amount),
            };
            let world = world.item(&id, |item| {
                item.contract_no = contract.map(|contract| contract.to_string());
                match flaw {
                    Flaw::Disputed => item.dispute = Some(Dispute { since: t_plus(-5), reason: None }),
                    Flaw::HeldByLedger(Some(last)) => item.hold_until = Some(t_plus(last)),
                    Flaw::HeldByLedger(None) => item.hold_reason = Some("held".to_owned()),
                    Flaw::Assigned => item.payee = Some("Factor".to_owned()),
                    Flaw::WrittenOff(day) => item.written_off_on = Some(t_plus(day)),
                    Flaw::Withdrawn => item.withdrawn = true,
                    Flaw::Bad => item.bad_data = Some("open more than amount".to_owned()),
                    Flaw::NoDueDate => item.due_date = None,
                    Flaw::DirectDebit(day) => item.direct_debit_on = Some(t_plus(day)),
                    Flaw::OwnRequisites => item.requisites = Some(requisites("own")),
                    Flaw::None | Flaw::HeldByPerson(_) => {}
                }
            });
            match flaw {
                Flaw::HeldByPerson(last) => world.hold(HoldTarget::Item(item_id(&id)), last),
                _ => world,
            }
        })
    }
}

prop_compose! {
    fn stage(n: usize)(
        enabled in prop::bool::weighted(0.85),
        gap in proptest::option::weighted(0.3, 0_u32..15),
        respond_within in proptest::option::weighted(0.4, 1_u32..16),
        all in any::<bool>(),
        least in proptest::option::weighted(0.3, 1_i64..500),
    ) -> Change {
        Change::new(move |world: World| {
            world.stage(["friendly", "firm", "final", "formal"][n], |stage| {
                stage.enabled = enabled;
                stage.gap = gap;
                stage.respond_within = respond_within;
                stage.demands = if all { Demands::AllOverdue } else { Demands::Reached };
                let eur = Currency::parse("EUR").unwrap();
                stage.when.min = least.map(|least| Money::new(Decimal::from(least), eur)).into_iter().collect();
            })
        })
    }
}

prop_compose! {
    fn policy()(
        stages in (stage(0), stage(1), stage(2), stage(3)),
        first_days in prop_oneof![6 => Just(3_i32), 1 => Just(0), 1 => Just(-3)],
        grace in 0_u32..6,
        arrears in 0_u32..9,
        caps in proptest::collection::vec((1_u32..4, 1_u32..15), 0..3),
        bounce in 0_u32..4,
        formal_gap in 0_u32..31,
        weekdays_only in any::<bool>(),
        per_contract in any::<bool>(),
        unpayable in proptest::option::of(prop_oneof![Just("EUR"), Just("USD")]),
    ) -> Change {
        Change::new(move |world: World| {
            let world = [&stages.0, &stages.1, &stages.2, &stages.3].into_iter().fold(world, |world, change| change.0(world));
            world.stage("friendly", |stage| stage.days = first_days).policy(|policy| {
                policy.item_grace_days = grace;
                policy.account_min_arrears_days = arrears;
                policy.contact_caps = caps.iter().map(|(contacts, days)| ContactCap { contacts: *contacts, days: *days }).collect();
                policy.bounce_window_days = bounce;
                policy.formal_gap_days = formal_gap;
                policy.calendars = Calendars::weekly(if weekdays_only { Weekdays::MONDAY_TO_FRIDAY } else { Weekdays::EVERY_DAY });
                policy.credit_netting = if per_contract { CreditNetting::PerContract } else { CreditNetting::OldestFirst };
                policy.minimums.base = Some(Decimal::TEN);
                policy.minimums.rates.insert(Currency::parse("JPY").unwrap(), Decimal::from(160));
                if let Some(code) = unpayable {
                    let currency = Currency::parse(code).unwrap();
                    policy.creditors.values_mut().for_each(|creditor| drop(creditor.bank_accounts.remove(&currency)));
                }
            })
        })
    }
}

prop_compose! {
    fn account()(
        kind in 0_usize..PartyKind::ALL.len(),
        hold in proptest::option::weighted(0.1, -5_i64..20),
        call in proptest::option::weighted(0.2, 0_i64..10),
        waived in proptest::option::weighted(0.2, (0_usize..6, 0_usize..4, 0_i64..20)),
        silent in 0_usize..8,
    ) -> Change {
        Change::new(move |world: World| {
            let world = world
                .contacts(&[
                    (ContactRole::Legal, "legal@debtor.example"),
                    (ContactRole::Billing, "one@debtor.example"),
                    (ContactRole::Billing, "two@debtor.example"),
                ])
                .account(|account| {
                    account.party_kind = PartyKind::ALL[kind];
                    account.hold_until = hold.map(t_plus);
                });
            let world = if silent < 3 { world.contact(silent, |contact| contact.no_email = true) } else { world };
            let world = call.into_iter().fold(world, World::called);
            waived.into_iter().fold(world, |world, (item, stage, ago)| {
                world.waived(["friendly", "firm", "final", "formal"][stage], ago, &format!("I{item}"))
            })
        })
    }
}

fn items() -> impl Strategy<Value = Vec<Change>> {
    (0_usize..=6).prop_flat_map(|count| (0..count).map(item).collect::<Vec<_>>())
}

prop_compose! {
    fn life()(
        items in items(),
        policy in policy(),
        account in account(),
        fates in proptest::collection::vec(
            prop_oneof![
                8 => Just(Fate::Accepted),
                1 => Just(Fate::Unknown),
                1 => Just(Fate::Refused),
                1 => Just(Fate::Bounced),
                1 => Just(Fate::NeverSent),
            ],
            20,
        ),
        resolved_after in 1_i64..6,
        payments in proptest::collection::vec((0_i64..DAYS, 0_usize..6, 1_u8..=4), 0..3),
    ) -> Life {
        let changes = [&account, &policy].into_iter().chain(&items);
        let world = changes.fold(World::new(), |world, change| change.0(world));
        Life { world, fates, resolved_after, payments }
    }
}

impl Life {
    /// Before a run: the ledger moves, and a person resolves what failed.
    fn morning(&mut self, day: i64) {
        for (_, item, quarters) in self.payments.iter().filter(|(on, ..)| *on == day) {
            if let Some(item) = self.world.snapshot.items.get_mut(*item) {
                let rest = item.open_amount * Decimal::from(4 - *quarters) / Decimal::from(4);
                item.open_amount = rest.round_dp(2);
            }
        }
        for notice in &mut self.world.snapshot.history.notices {
            if (self.world.today - notice.decided_on).num_days() >= self.resolved_after {
                match notice.state {
                    NoticeState::Unknown => {
                        notice.state = NoticeState::Accepted;
                        notice.accepted_on = Some(notice.decided_on);
                    }
                    NoticeState::Refused | NoticeState::Bounced => notice.state = NoticeState::Cancelled,
                    _ => {}
                }
            }
        }
    }

    /// After a run: the notice meets its fate.
    fn evening(&mut self, decision: &Decision) {
        let known = self.world.snapshot.history.notices.len();
        self.world.happen(decision);
        if let Some(notice) = self.world.snapshot.history.notices.get_mut(known) {
            let fate = self.fates.get(known).copied().unwrap_or(Fate::Accepted);
            notice.state = match fate {
                Fate::Accepted => NoticeState::Accepted,
                Fate::Unknown => NoticeState::Unknown,
                Fate::Refused => NoticeState::Refused,
                Fate::Bounced => NoticeState::Bounced,
                Fate::NeverSent => NoticeState::Cancelled,
            };
            notice.accepted_on = notice.accepted_on.filter(|_| matches!(fate, Fate::Accepted | Fate::Bounced));
            notice.counted_on = notice.counted_on.filter(|_| fate != Fate::NeverSent);
        }
        self.world.today += Duration::days(1);
    }

    /// Every day with the world as the decision saw it.
    fn live(mut self, mut see: impl FnMut(&World, &Decision)) {
        for day in 0..DAYS {
            self.morning(day);
            let decision = self.world.decide();
            see(&self.world, &decision);
            self.evening(&decision);
        }
    }
}

fn cases() -> ProptestConfig {
    ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() }
}

fn item_of<'a>(world: &'a World, id: &ItemId) -> &'a Item {
    world.snapshot.items.iter().find(|item| item.id == *id).unwrap()
}

/// Said in the plainest way, and not as the program says it.
fn may_be_demanded(world: &World, item: &Item) -> bool {
    let today = world.today;
    let held = item.hold_until.map_or(item.hold_reason.is_some(), |last| last >= today)
        || world.snapshot.holds.iter().any(|hold| {
            hold.target == HoldTarget::Item(item.id.clone()) && hold.until.is_none_or(|last| last >= today)
        });
    let collected = item.direct_debit_on.is_some_and(|day| world.policy.calendars.add_working_days(day, 7) >= today);
    let late = item.due_date.map_or(0, |due| (today - due).num_days());
    !item.kind.is_credit()
        && item.open_amount > Decimal::ZERO
        && !item.withdrawn
        && item.bad_data.is_none()
        && item.payee.is_none()
        && item.written_off_on.is_none_or(|day| day > today)
        && item.dispute.is_none()
        && !held
        && !collected
        && late > i64::from(world.policy.item_grace_days)
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

fn overdue_remainder(decision: &Decision) -> Amounts {
    let left = decision.items.iter().filter(|item| item.is_overdue_debit() && !item.code.is_out());
    left.map(ItemDecision::to_pay).collect()
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

    let completes = completed_by(decision);
    assert!(!completes.is_empty(), "a notice without a demand");
    assert_eq!(completes.len(), codes(ItemCode::Demanded).count());
    let overdue = overdue_remainder(decision);
    let ladder = ladder_of(&world.policy, &world.snapshot);
    for (id, stage) in &completes {
        let item = item_of(world, id);
        assert!(may_be_demanded(world, item), "{id} may not be demanded");
        assert!(is_payable(world, item), "{id} cannot be paid");
        assert!(contacting.requisites.iter().any(|(of, _)| of == id), "{id} has no payment account in the letter");
        assert!(!has_completed(world, id, stage), "{id} has {stage} behind it");
        let lower = &ladder.stages[..ladder.position(stage).unwrap()];
        let skipped = lower.iter().find(|lower| {
            lower.enabled
                && lower.days >= 0
                && overdue.get(item.currency) >= lower.when.min.get(item.currency)
                && !has_completed(world, id, &lower.name)
        });
        assert!(skipped.is_none(), "{id} skips {:?} on its way to {stage}", skipped.map(|stage| &stage.name));
        let stage = &ladder.stages[ladder.position(stage).unwrap()];
        let stage_day = item.due_date.unwrap() + Duration::days(stage.days.into());
        assert!(stage_day <= world.today, "{id} is demanded before its stage day");
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
    let recipient = world.snapshot.contacts.iter().find(|contact| contact.id == contacting.contact).unwrap();
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
            shuffle(&mut snapshot.history.notices, turn);
            shuffle(&mut snapshot.history.waivers, turn);
            snapshot.history.other_contacts.reverse();
            assert_eq!(&other.decide(), decision);
            assert_eq!(&world.decide(), decision);
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
    let ladder = world.policy.ladders.get_mut(&LadderName::default()).unwrap();
    ladder.stages.iter_mut().for_each(|stage| stage.when.min = Amounts::default());
    world.policy.minimums.by_currency.values_mut().for_each(|minimum| *minimum = Decimal::ZERO);
    world.policy.minimums.base = Some(Decimal::ZERO);
    world
}
