//! Items: which are out, what credits cover, and what is left that is worth a letter.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use rust_decimal::Decimal;

use crate::model::{
    Amounts, CalendarMissing, Cause, CreditNetting, Currency, Hold, HoldTarget, Item, ItemCode, ItemDecision, ItemId,
    LadderName, Money, Netted, Plan, PlanStanding, Policy, Promise, Snapshot, StageName, Standing, days_after,
};

use super::{promises, register};

/// One item on its way through the rule.
#[expect(clippy::struct_excessive_bools, reason = "four independent findings about one item")]
pub(super) struct Assessed<'a> {
    pub(super) item: &'a Item,
    pub(super) code: ItemCode,
    pub(super) effective_due: Option<NaiveDate>,
    pub(super) days: Option<i64>,
    pub(super) credited: Decimal,
    /// Position of the next stage in the ladder, and its name.
    pub(super) next_stage: Option<(usize, StageName)>,
    pub(super) due_on: Option<NaiveDate>,
    pub(super) reminded_on: Option<NaiveDate>,
    /// The last stage is complete and the deadline it named is over.
    pub(super) ladder_over: bool,
    /// Its formal stage is due too soon after the account's last formal notice.
    pub(super) formal_waits: bool,
    /// By the ledger or by a person of ours.
    pub(super) disputed: bool,
    /// For an item that is out: the first day on which it no longer is, where that is known.
    pub(super) released_on: Option<NaiveDate>,
    /// Everything that takes it out and that a person or a day ends, the first of them being its code.
    pub(super) stops: Vec<Stop>,
    /// For an item that is out, where the code alone does not tell it: days, amounts and reasons.
    pub(super) because: Option<String>,
    /// Why nobody can tell when it is due, or how long a direct debit takes.
    pub(super) calendar_missing: Option<CalendarMissing>,
    pub(super) past_contractual_due: bool,
    pub(super) in_plan: bool,
}

impl Assessed<'_> {
    pub(super) fn remaining(&self) -> Decimal {
        self.item.open_amount - self.credited
    }

    pub(super) fn is_debit(&self) -> bool {
        !self.item.kind.is_credit()
    }

    pub(super) fn is_overdue(&self) -> bool {
        self.days.is_some_and(|days| days > 0)
    }

    /// A debit that nothing takes out and that is not overdue, at most due today. Whatever day the law moved it to, nobody
    /// is told of what is coming due on a day that is over.
    pub(super) fn is_coming_due(&self) -> bool {
        let in_time = self.code == ItemCode::NotOverdue && !self.past_contractual_due;
        in_time && self.is_debit() && self.remaining() > Decimal::ZERO
    }

    /// An overdue debit that nothing takes out: disputed or settled items do not keep a case open.
    pub(super) fn keeps_case_open(&self) -> bool {
        self.is_debit() && self.is_overdue() && !self.code.is_out() && self.remaining() > Decimal::ZERO
    }

    /// It takes part in the climb: overdue, not out, not covered, worth a letter, past its grace.
    pub(super) fn is_active(&self) -> bool {
        matches!(
            self.code,
            ItemCode::BeforeFirstStage
                | ItemCode::TooSoon
                | ItemCode::LadderExhausted
                | ItemCode::FormalTooSoon
                | ItemCode::NoPaymentAccount
                | ItemCode::Reached
        )
    }

    pub(super) fn into_decision(self) -> ItemDecision {
        ItemDecision {
            item: self.item.id.clone(),
            code: self.code,
            is_credit: !self.is_debit(),
            disputed: self.disputed,
            days_past_due: self.days,
            past_contractual_due: self.past_contractual_due,
            in_plan: self.in_plan,
            open: self.item.open(),
            credited: self.credited,
            next_stage: self.next_stage.map(|(_, name)| name),
            due_on: self.due_on,
            reminded_on: self.reminded_on,
        }
    }
}

/// Steps 1 to 4 of the rule: items out, net, minimum, grace. What is left carries `Reached` until the ladder says more.
pub(super) fn assess<'a>(
    policy: &Policy,
    snapshot: &'a Snapshot,
    promises: &[(&Promise, Standing)],
    plans: &[(&Plan, PlanStanding)],
    today: NaiveDate,
) -> (Vec<Assessed<'a>>, Vec<Netted>) {
    let promised = promises::running(promises);
    let planned = register::in_plans(plans);
    let mut assessed: Vec<Assessed<'a>> = snapshot
        .items
        .iter()
        .map(|item| {
            let past_contractual_due = item.due_date.is_some_and(|due| due < today);
            let country = policy.country_of(&snapshot.account);
            let moved = item.due_date.map(|due| policy.calendars.effective_due_date(country, due)).transpose();
            let agreed = (planned.get(&item.id).copied(), promised.get(&item.id).copied());
            let out = out(policy, snapshot, item, agreed, today);
            // No rule moves a due date forward: before the contractual one nothing is overdue under any calendar.
            let due_unknown = moved.as_ref().err().filter(|_| past_contractual_due).cloned();
            let effective_due = moved.unwrap_or(item.due_date);
            Assessed {
                item,
                code: out.code,
                effective_due,
                days: effective_due.map(|due| (today - due).num_days()),
                credited: Decimal::ZERO,
                next_stage: None,
                due_on: None,
                reminded_on: None,
                ladder_over: false,
                formal_waits: false,
                disputed: item.dispute.is_some() || dispute(snapshot, item).is_some() || told_disputed(snapshot, item),
                released_on: out.released_on,
                stops: out.stops,
                because: out.because,
                calendar_missing: out.calendar_missing.or(due_unknown),
                past_contractual_due,
                in_plan: agreed.0.is_some(),
            }
        })
        .collect();
    assessed.sort_by(|a, b| a.item.id.cmp(&b.item.id));

    stop_instalments(&mut assessed, plans);
    let netted = net(policy, &mut assessed);
    for one in assessed.iter_mut().filter(|one| one.code == ItemCode::Reached) {
        if one.calendar_missing.is_some() && one.past_contractual_due {
            one.code = ItemCode::CalendarMissing;
        } else if !one.is_overdue() {
            one.code = ItemCode::NotOverdue;
        } else if one.remaining() <= Decimal::ZERO {
            one.code = ItemCode::Covered;
        } else if let Some(named) = unknown_ladder(policy, snapshot) {
            // Whoever climbs no ladder has no case either.
            (one.code, one.because) = (ItemCode::BadData, Some(named));
        }
    }
    let remainder = overdue_remainder(&assessed);
    for one in assessed.iter_mut().filter(|one| one.code == ItemCode::Reached) {
        let currency = one.item.currency;
        one.code = match policy.minimums.of(currency) {
            None => ItemCode::BadData,
            Some(minimum) if remainder.get(currency) < minimum => ItemCode::BelowMinimum,
            // A plan has a tolerance of its own.
            Some(_)
                if one.item.part_of_plan.is_none()
                    && one.days.is_some_and(|days| days <= i64::from(policy.item_grace_days)) =>
            {
                ItemCode::InGrace
            }
            Some(_) => ItemCode::Reached,
        };
    }
    (assessed, netted)
}

/// What is wrong with the ladder that the ledger names for the account, unless a case pins another.
pub(super) fn unknown_ladder(policy: &Policy, snapshot: &Snapshot) -> Option<String> {
    let named = snapshot.account.ladder.as_deref().filter(|named| policy.ladder(Some(named)).is_none());
    named.filter(|_| snapshot.case.is_none()).map(|named| {
        let known: Vec<&str> = policy.ladders.keys().map(LadderName::as_str).collect();
        format!("the ledger names the ladder {named:?}, which policy.toml does not have (it has {})", known.join(", "))
    })
}

/// Whatever stops an item of a plan, other than the plan itself, stops its instalments too: nobody can say which part of
/// them it is. So does an item that is gone: it was not paid, and is not demanded again without a person.
fn stop_instalments(assessed: &mut [Assessed<'_>], plans: &[(&Plan, PlanStanding)]) {
    for (plan, _) in plans.iter().filter(|(_, standing)| standing.state.is_alive()) {
        let gone = register::vanished(plan).map(|item| (ItemCode::Withdrawn, None, format!("{item} {VANISHED}")));
        let stopped = assessed
            .iter()
            .filter(|one| one.code.is_out() && !matches!(one.code, ItemCode::InPlan | ItemCode::Settled))
            .find(|one| plan.items.iter().any(|item| item.item == one.item.id));
        let stopped = stopped.map(|stopped| {
            let because = stopped.because.as_ref().map_or(String::new(), |because| format!(", {because}"));
            (stopped.code, stopped.released_on, format!("{} of the plan{because}", stopped.item.id))
        });
        let Some((code, released_on, because)) = gone.or(stopped) else { continue };
        let because = format!("item {because}");
        let instalments = assessed.iter_mut().filter(|one| one.code == ItemCode::Reached);
        for one in instalments.filter(|one| one.item.part_of_plan.as_ref().is_some_and(|part| part.plan == plan.number))
        {
            (one.code, one.released_on, one.because) = (code, released_on, Some(because.clone()));
        }
    }
}

/// What happened to an item that a plan cannot go on without.
pub(super) const VANISHED: &str = "of the plan is gone from the account without being settled";

/// What is overdue and not out, less credits, per currency.
pub(super) fn overdue_remainder(assessed: &[Assessed<'_>]) -> Amounts {
    assessed
        .iter()
        .filter(|one| one.keeps_case_open())
        .map(|one| Money::new(one.remaining(), one.item.currency))
        .collect()
}

/// Something that takes an item out as long as it lasts.
#[derive(Clone)]
pub(super) struct Stop {
    pub(super) code: ItemCode,
    /// The first day without it, where that is known.
    pub(super) over_on: Option<NaiveDate>,
    because: String,
}

/// What takes an item out, if anything does.
struct Out {
    code: ItemCode,
    released_on: Option<NaiveDate>,
    stops: Vec<Stop>,
    because: Option<String>,
    calendar_missing: Option<CalendarMissing>,
}

/// The plan that an item is in, and the promise that was made about it.
type Agreed<'a> = (Option<&'a (&'a Plan, PlanStanding)>, Option<(&'a Promise, Standing)>);

/// Step 1: the first reason that takes an item out, and the first day without any where that is known. A credit carries
/// `Credit`, since nothing is demanded for it.
fn out(policy: &Policy, snapshot: &Snapshot, item: &Item, agreed: Agreed<'_>, today: NaiveDate) -> Out {
    let (collecting, wait_unknown) = match direct_debit(policy, snapshot, item) {
        Ok(last) => (last.filter(|last| today <= *last), None),
        Err(missing) => (None, Some(missing)),
    };
    // A credit that came back is money that the ledger says came in: whether a person has looked or not, it is not demanded.
    let withdrawn = item.withdrawn && !item.kind.is_credit();
    let code = if item.bad_data.is_some() && !withdrawn {
        // What is open may be what cannot be read.
        ItemCode::BadData
    } else if item.open_amount.is_zero() {
        ItemCode::Settled
    } else if withdrawn {
        ItemCode::Withdrawn
    } else if item.due_date.is_none() && !item.kind.is_credit() {
        ItemCode::DataDueDateMissing
    } else if item.payee.is_some() {
        ItemCode::Assigned
    } else if item.written_off_on.is_some_and(|day| day <= today) {
        ItemCode::WrittenOff
    } else if let Some(off) = snapshot.write_offs.iter().find(|off| off.item == item.id) {
        let because = Some(format!("since {}: {}", off.since, off.reason));
        return Out {
            code: ItemCode::WrittenOff,
            released_on: None,
            stops: Vec::new(),
            because,
            calendar_missing: None,
        };
    } else if item.kind.is_credit() {
        ItemCode::Credit
    } else {
        return stopped(stops(snapshot, item, collecting, agreed, today), wait_unknown);
    };
    Out { code, released_on: None, stops: Vec::new(), because: None, calendar_missing: wait_unknown }
}

/// Out as long as one of those lasts: nobody knows how long where one has no known end.
fn stopped(stops: Vec<Stop>, wait_unknown: Option<CalendarMissing>) -> Out {
    let Some(first) = stops.first() else {
        let (code, calendar_missing) = (ItemCode::Reached, wait_unknown);
        return Out { code, released_on: None, stops, because: None, calendar_missing };
    };
    let ends: Option<Vec<NaiveDate>> = stops.iter().map(|stop| stop.over_on).collect();
    Out {
        code: first.code,
        released_on: ends.and_then(|ends| ends.into_iter().max()),
        because: Some(first.because.clone()),
        stops,
        calendar_missing: None,
    }
}

/// What stops an item for a time or until a person says otherwise, in the order of the codes.
fn stops(
    snapshot: &Snapshot,
    item: &Item,
    collecting: Option<NaiveDate>,
    (planned, promised): Agreed<'_>,
    today: NaiveDate,
) -> Vec<Stop> {
    let by_person = holds_on(snapshot, item).filter(|hold| hold.cause.is_none());
    let hold = held(today, (item.hold_until, item.hold_reason.as_deref()), by_person);
    let disputed = match (&item.dispute, dispute(snapshot, item)) {
        (Some(by_ledger), _) => {
            let reason = by_ledger.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
            let since = by_ledger.since.map_or(String::new(), |day| format!("since {day}, "));
            Some(format!("{since}says the ledger{reason}"))
        }
        (None, by_person) => {
            by_person.map(|(cause, hold)| format!("since {}, {}: {}", hold.since, cause.as_str(), hold.reason))
        }
    };
    let stop = |code, last: Option<NaiveDate>, because| Stop {
        code,
        over_on: last.map(|last| days_after(last, 1_u32)),
        because,
    };
    [
        disputed.map(|because| stop(ItemCode::Disputed, None, because)),
        hold.map(|(last, reason)| stop(ItemCode::ItemHold, last, format!("{}: {reason}", until(last)))),
        collecting.map(|last| stop(ItemCode::DirectDebit, Some(last), until(Some(last)))),
        planned.map(|(plan, standing)| {
            stop(ItemCode::InPlan, None, format!("plan {}: {}", plan.number, plan.tell(standing)))
        }),
        promised.map(|(promise, standing)| {
            stop(ItemCode::PromiseRunning, Some(promise.last_day()), promise.tell(standing))
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The last day of the wait for a direct debit, in working days of the creditor's bank.
fn direct_debit(policy: &Policy, snapshot: &Snapshot, item: &Item) -> Result<Option<NaiveDate>, CalendarMissing> {
    let creditor = policy.creditors.get(&snapshot.account.creditor);
    let Some((day, creditor)) = item.direct_debit_on.zip(creditor) else { return Ok(item.direct_debit_on) };
    policy.calendars.add_working_days(creditor.country, day, policy.direct_debit_wait_days).map(Some)
}

fn until(last: Option<NaiveDate>) -> String {
    last.map_or("until it is released".to_owned(), |last| format!("up to and including {last}"))
}

pub(super) fn holds_on<'a>(snapshot: &'a Snapshot, item: &'a Item) -> impl Iterator<Item = &'a Hold> {
    snapshot.holds.iter().filter(|hold| matches!(&hold.target, HoldTarget::Item(id) if *id == item.id))
}

/// The hold on the account that lasts longest: its last day, and its reason.
pub(super) fn account_hold(snapshot: &Snapshot, today: NaiveDate) -> Option<(Option<NaiveDate>, &str)> {
    let account = &snapshot.account;
    let by_person =
        snapshot.holds.iter().filter(|hold| matches!(&hold.target, HoldTarget::Account(id) if *id == account.id));
    held(today, (account.hold_until, account.hold_reason.as_deref()), by_person)
}

/// Whether a dispute was recorded as the cause why it is unpaid, of it or of all that the account owes.
fn told_disputed(snapshot: &Snapshot, item: &Item) -> bool {
    snapshot.causes.iter().any(|cause| cause.cause == Cause::Dispute && cause.concerns(&item.id))
}

/// The dispute that a person of ours recorded. There is one at a time; of several the first counts.
pub(super) fn dispute<'a>(snapshot: &'a Snapshot, item: &'a Item) -> Option<(Cause, &'a Hold)> {
    let disputes = holds_on(snapshot, item).filter_map(|hold| Some((hold.cause?, hold)));
    disputes.min_by_key(|(cause, hold)| (hold.since, *cause, &hold.reason))
}

/// The hold that lasts longest, by the ledger or by a person: its last day, and its reason. A reason without a last day
/// holds until it is cleared.
fn held<'a>(
    today: NaiveDate,
    by_ledger: (Option<NaiveDate>, Option<&'a str>),
    by_person: impl Iterator<Item = &'a Hold>,
) -> Option<(Option<NaiveDate>, &'a str)> {
    let by_ledger = match by_ledger {
        (Some(last), reason) => (today <= last).then_some((Some(last), reason.unwrap_or("no reason given"))),
        (None, reason) => reason.map(|reason| (None, reason)),
    };
    let by_person = by_person.filter(|hold| hold.covers(today)).map(|hold| (hold.until, hold.reason.as_str()));
    by_person.chain(by_ledger).max_by_key(|(last, reason)| (last.is_none(), *last, *reason))
}

/// Step 2. A credit note goes to the item it refers to, whatever became of that item; what is left of it, and every
/// other credit, reduces the oldest items that are not out. A promised item is among them: what comes in keeps the
/// promise. No item goes below zero.
fn net(policy: &Policy, assessed: &mut [Assessed<'_>]) -> Vec<Netted> {
    let position: BTreeMap<ItemId, usize> = assessed.iter().enumerate().map(|(n, a)| (a.item.id.clone(), n)).collect();
    let credits: Vec<usize> = (0..assessed.len()).filter(|n| assessed[*n].code == ItemCode::Credit).collect();
    let mut left: BTreeMap<usize, Decimal> = credits.iter().map(|n| (*n, -assessed[*n].item.open_amount)).collect();
    let mut netted = Vec::new();

    for credit in &credits {
        let target = assessed[*credit].item.refers_to.as_ref().and_then(|id| position.get(id)).copied();
        let fits = target.is_some_and(|n| assessed[n].is_debit() && same_currency(assessed, n, *credit));
        if let (Some(target), true) = (target, fits) {
            apply(assessed, &mut left, *credit, target, &mut netted);
        }
    }

    let takes_part = |one: &Assessed<'_>| matches!(one.code, ItemCode::Reached | ItemCode::PromiseRunning);
    let mut oldest_first: Vec<usize> = (0..assessed.len()).filter(|n| takes_part(&assessed[*n])).collect();
    // Stable: equal due dates stay in the order of their ids.
    oldest_first.sort_by_key(|n| (assessed[*n].effective_due, assessed[*n].item.due_date));
    // What names no contract is for the oldest items, whatever theirs, once every contract has its own.
    for within_contract in [policy.credit_netting == CreditNetting::PerContract, false] {
        for credit in &credits {
            for target in &oldest_first {
                if left.get(credit).is_none_or(|amount| *amount <= Decimal::ZERO) {
                    break;
                }
                let contract = &assessed[*credit].item.contract_no;
                let fits = contract == &assessed[*target].item.contract_no
                    || !within_contract && (contract.is_none() || policy.credit_netting == CreditNetting::OldestFirst);
                if fits && same_currency(assessed, *target, *credit) {
                    apply(assessed, &mut left, *credit, *target, &mut netted);
                }
            }
        }
    }
    netted
}

fn same_currency(assessed: &[Assessed<'_>], a: usize, b: usize) -> bool {
    assessed[a].item.currency == assessed[b].item.currency
}

fn apply(
    assessed: &mut [Assessed<'_>],
    left: &mut BTreeMap<usize, Decimal>,
    credit: usize,
    target: usize,
    netted: &mut Vec<Netted>,
) {
    let available = left.get(&credit).copied().unwrap_or_default();
    let amount = available.min(assessed[target].remaining());
    if amount > Decimal::ZERO {
        left.insert(credit, available - amount);
        assessed[target].credited += amount;
        netted.push(Netted {
            credit: assessed[credit].item.id.clone(),
            item: assessed[target].item.id.clone(),
            amount,
        });
    }
}

/// Currencies in which something is overdue and the policy has neither a minimum nor a rate.
pub(super) fn currencies_without_minimum(policy: &Policy, assessed: &[Assessed<'_>]) -> BTreeSet<Currency> {
    assessed
        .iter()
        .filter(|one| one.is_debit() && one.code == ItemCode::BadData && one.item.bad_data.is_none())
        .map(|one| one.item.currency)
        .filter(|currency| policy.minimums.of(*currency).is_none())
        .collect()
}

/// The key of the policy that the minimum of a currency comes from.
pub(super) fn minimum_key(policy: &Policy, currency: Currency) -> String {
    let own_row = format!("minimum.{currency}");
    if policy.minimums.by_currency.contains_key(&currency) { own_row } else { "minimum.base".to_owned() }
}

/// The first day on which an item counts.
pub(super) fn end_of_grace(policy: &Policy, one: &Assessed<'_>) -> Option<NaiveDate> {
    one.effective_due.map(|due| after_grace(policy, due))
}

/// The first day on which an item counts that was due on that day.
pub(super) fn after_grace(policy: &Policy, effective_due: NaiveDate) -> NaiveDate {
    days_after(effective_due, policy.item_grace_days + 1)
}

/// The day so many days after another, or before it.
pub(super) fn add_days(day: NaiveDate, days: i32) -> NaiveDate {
    match u32::try_from(days) {
        Ok(later) => days_after(day, later),
        Err(_) => day.checked_sub_days(chrono::Days::new(days.unsigned_abs().into())).unwrap_or(NaiveDate::MIN),
    }
}
