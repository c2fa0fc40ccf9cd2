//! Generated policies, debtors and histories, lived through day by day.

use std::fmt;
use std::rc::Rc;

use chrono::Duration;
use dunningd::model::{
    Calendars, Cause, ContactCap, ContactRole, CreditNetting, Currency, Decision, Demands, Dispute, HoldTarget, Money,
    NoticeState, PartyKind, Waiver, Weekdays,
};
use proptest::prelude::*;
use rust_decimal::Decimal;

use crate::support::world::{World, item_id, requisites, t, t_plus};

/// What is peculiar about an item; the number is a day relative to `T`.
#[derive(Debug, Clone, Copy)]
enum Flaw {
    None,
    Disputed,
    DisputedByUs,
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
pub(super) struct Change(Rc<dyn Fn(World) -> World>);

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
pub(super) enum Fate {
    Accepted,
    Unknown,
    Refused,
    Bounced,
    NeverSent,
}

#[derive(Debug, Clone)]
pub(super) struct Life {
    pub(super) world: World,
    pub(super) fates: Vec<Fate>,
    pub(super) resolved_after: i64,
    /// On that day (from `T`) that share of an item is paid.
    pub(super) payments: Vec<(i64, usize, u8)>,
    /// On that day something is promised.
    pub(super) promises: Vec<(i64, Change)>,
    /// On that day the next stage of an item is waived.
    pub(super) waivers: Vec<(i64, usize)>,
}

pub(super) const DAYS: i64 = 45;

fn flaw() -> impl Strategy<Value = Flaw> {
    let day = -20_i64..40;
    prop_oneof![
        12 => Just(Flaw::None),
        1 => Just(Flaw::Disputed),
        1 => Just(Flaw::DisputedByUs),
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
                    Flaw::Disputed => item.dispute = Some(Dispute { since: Some(t_plus(-5)), reason: None }),
                    Flaw::HeldByLedger(Some(last)) => item.hold_until = Some(t_plus(last)),
                    Flaw::HeldByLedger(None) => item.hold_reason = Some("held".to_owned()),
                    Flaw::Assigned => item.payee = Some("Factor".to_owned()),
                    Flaw::WrittenOff(day) => item.written_off_on = Some(t_plus(day)),
                    Flaw::Withdrawn => item.withdrawn = true,
                    Flaw::Bad => item.bad_data = Some("open more than amount".to_owned()),
                    Flaw::NoDueDate => item.due_date = None,
                    Flaw::DirectDebit(day) => item.direct_debit_on = Some(t_plus(day)),
                    Flaw::OwnRequisites => item.requisites = Some(requisites("own")),
                    Flaw::None | Flaw::DisputedByUs | Flaw::HeldByPerson(_) => {}
                }
            });
            match flaw {
                Flaw::DisputedByUs => world.disputed(&id, Cause::Dissatisfied),
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
        handed_over in prop::bool::weighted(0.03),
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
            let world = if handed_over { world.handed_over() } else { world };
            waived.into_iter().fold(world, |world, (item, stage, ago)| {
                world.waived(["friendly", "firm", "final", "formal"][stage], ago, &format!("I{item}"))
            })
        })
    }
}

prop_compose! {
    /// What was promised, on which items, by which day, with how much tolerance; and whether it was taken back.
    fn promise()(
        euros in 1_i64..1_500,
        items in proptest::collection::btree_set(0_usize..6, 1..4),
        by in 0_i64..30,
        tolerance in 0_u32..6,
        withdrawn in prop::bool::weighted(0.1),
    ) -> Change {
        Change::new(move |world: World| {
            let items: Vec<String> = items.iter().map(|n| format!("I{n}")).collect();
            let items: Vec<&str> = items.iter().map(String::as_str).collect();
            let by = by + (world.today - t()).num_days();
            let mut world = world.promised(&format!("{euros} EUR"), by, tolerance, &items);
            world.snapshot.promises.last_mut().unwrap().withdrawn = withdrawn;
            world
        })
    }
}

fn items() -> impl Strategy<Value = Vec<Change>> {
    (0_usize..=6).prop_flat_map(|count| (0..count).map(item).collect::<Vec<_>>())
}

prop_compose! {
    pub(super) fn life()(
        items in items(),
        policy in policy(),
        account in account(),
        promises in proptest::collection::vec((0_i64..DAYS / 2, promise()), 0..3),
        waivers in proptest::collection::vec((0_i64..DAYS, 0_usize..6), 0..3),
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
        Life { world, fates, resolved_after, payments, promises, waivers }
    }
}

impl Life {
    /// Before a run: the ledger moves, and people record what was agreed and resolve what failed.
    fn morning(&mut self, day: i64) {
        for (_, item, quarters) in self.payments.iter().filter(|(on, ..)| *on == day) {
            if let Some(item) = self.world.snapshot.items.get_mut(*item) {
                let rest = item.open_amount * Decimal::from(4 - *quarters) / Decimal::from(4);
                item.open_amount = rest.round_dp(2);
            }
        }
        for (_, change) in self.promises.iter().filter(|(on, _)| *on == day) {
            self.world = change.0(self.world.clone());
        }
        for (_, item) in self.waivers.iter().filter(|(on, _)| *on == day) {
            let seen = self.world.decide().items.into_iter().find(|one| one.item == item_id(&format!("I{item}")));
            if let Some((item, Some(stage), Some(on))) = seen.map(|one| (one.item, one.next_stage, one.due_on)) {
                self.world.snapshot.history.waivers.push(Waiver {
                    item,
                    stage,
                    on,
                    reason: "agreed".to_owned(),
                    elsewhere: None,
                });
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
    pub(super) fn evening(&mut self, decision: &Decision) {
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
    pub(super) fn live(mut self, mut see: impl FnMut(&World, &Decision)) {
        for day in 0..DAYS {
            self.morning(day);
            let decision = self.world.decide();
            see(&self.world, &decision);
            self.evening(&decision);
        }
    }
}
