//! What people recorded, in the terms of the rule: instalments of plans are items, and a cause that stops is a hold.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use rust_decimal::Decimal;

use crate::model::{
    Amounts, CalendarMissing, Cause, CauseHold, Channel, Demands, Handover, Hold, HoldTarget, Item, ItemId, Money,
    OnUnknown, PLAN_STAGE, Plan, PlanInstalment, PlanStanding, Policy, RecordedCause, Snapshot, Stage, StageCondition,
    StageName, Tone, open_after_credit_notes,
};

use super::items;

/// Every plan of an account with how it stands on that day, in the order of numbers and versions. What came in and is
/// not allocated yet counts before an instalment is called missed.
#[must_use]
pub fn plan_standings<'a>(policy: &Policy, snapshot: &'a Snapshot, today: NaiveDate) -> Vec<(&'a Plan, PlanStanding)> {
    let mut all = plans_by_items(snapshot);
    if all.is_empty() {
        return all;
    }
    let credited = credited(policy, snapshot, &all, today);
    let country = policy.country_of(&snapshot.account);
    let effective_due = |day| policy.calendars.effective_due_date(country, day).unwrap_or(day);
    for (plan, standing) in &mut all {
        let of = |one: &PlanInstalment| plan.item_id(one).and_then(|id| credited.get(&id).copied()).unwrap_or_default();
        *standing = plan.judged(standing.clone(), of, effective_due, today);
    }
    all
}

/// The same by what its items went down alone.
pub(super) fn plans_by_items(snapshot: &Snapshot) -> Vec<(&Plan, PlanStanding)> {
    if snapshot.plans.is_empty() {
        return Vec::new();
    }
    let open = open_after_credit_notes(&snapshot.items);
    let mut all: Vec<_> = snapshot.plans.iter().map(|plan| (plan, plan.standing(&open))).collect();
    all.sort_by_key(|(plan, _)| (plan.number, plan.version));
    all
}

/// What credits cover of each item and instalment of those plans.
pub(super) fn credited(
    policy: &Policy,
    snapshot: &Snapshot,
    plans: &[(&Plan, PlanStanding)],
    today: NaiveDate,
) -> BTreeMap<ItemId, Decimal> {
    let seen = with_entries(policy, snapshot, plans, today);
    let (assessed, _) = items::assess(policy, &seen, &[], plans, today);
    assessed.into_iter().map(|one| (one.item.id.clone(), one.credited)).collect()
}

/// The snapshot as the rule sees it: with an item for every unpaid instalment of a plan, and a hold for every cause
/// that stops something that day. A letter is made of this one.
#[must_use]
pub fn seen<'a>(policy: &Policy, snapshot: &'a Snapshot, today: NaiveDate) -> Cow<'a, Snapshot> {
    with_entries(policy, snapshot, &plan_standings(policy, snapshot, today), today)
}

/// The same where it is known how its plans stand.
pub(super) fn with_entries<'a>(
    policy: &Policy,
    snapshot: &'a Snapshot,
    plans: &[(&Plan, PlanStanding)],
    today: NaiveDate,
) -> Cow<'a, Snapshot> {
    let holds: Vec<Hold> = snapshot.causes.iter().filter_map(|cause| hold(policy, snapshot, cause, today)).collect();
    let alive = plans.iter().filter(|(_, standing)| standing.state.is_alive());
    let instalments: Vec<_> = alive
        .flat_map(|(plan, standing)| {
            let contract_no = contract_of(plan, snapshot);
            let item = |left| plan.item(left, standing).map(|item| Item { contract_no: contract_no.clone(), ..item });
            standing.left.iter().filter_map(item).collect::<Vec<_>>()
        })
        .collect();
    if holds.is_empty() && instalments.is_empty() {
        return Cow::Borrowed(snapshot);
    }
    let mut seen = snapshot.clone();
    seen.holds.extend(holds);
    seen.items.extend(instalments);
    Cow::Owned(seen)
}

/// The contract that all the items of a plan belong to: credits for that contract count for its instalments.
fn contract_of(plan: &Plan, snapshot: &Snapshot) -> Option<String> {
    let planned = snapshot.items.iter().filter(|item| plan.items.iter().any(|one| one.item == item.id));
    let contracts: BTreeSet<Option<&String>> = planned.map(|item| item.contract_no.as_ref()).collect();
    contracts.first().copied().flatten().filter(|_| contracts.len() == 1).cloned()
}

/// What a cause stops that day, if anything.
pub(super) fn hold(policy: &Policy, snapshot: &Snapshot, recorded: &RecordedCause, today: NaiveDate) -> Option<Hold> {
    let rule = policy.cause(recorded.cause);
    let target = match (rule.hold, &recorded.item) {
        (CauseHold::None, _) => return None,
        (CauseHold::Item, Some(item)) => HoldTarget::Item(item.clone()),
        (CauseHold::Item, None) | (CauseHold::Account, _) => HoldTarget::Account(snapshot.account.id.clone()),
    };
    let end = last_day(policy, snapshot, recorded);
    // As long as nobody can tell the last day, it is not over.
    let until = end.as_ref().ok().copied().flatten();
    let unknown = end.err().map_or(String::new(), |missing| format!("; {missing}"));
    let is_dispute = recorded.cause == Cause::Dispute && matches!(target, HoldTarget::Item(_));
    let hold = Hold {
        number: 0,
        target,
        until,
        reason: if is_dispute {
            recorded.reason.clone()
        } else {
            format!("cause {}: {}{unknown}", recorded.cause.as_str(), recorded.reason)
        },
        cause: is_dispute.then_some(Cause::Dispute),
        since: recorded.since,
        handed_over: None,
    };
    hold.covers(today).then_some(hold)
}

/// The recorded cause that a hold comes from.
pub(super) fn told_by<'a>(
    policy: &Policy,
    snapshot: &'a Snapshot,
    held: &Hold,
    today: NaiveDate,
) -> Option<&'a RecordedCause> {
    snapshot.causes.iter().find(|cause| hold(policy, snapshot, cause, today).as_ref() == Some(held))
}

/// The last day on which a cause stops something, in working days of the creditor; none when it does until it is cleared.
pub(super) fn last_day(
    policy: &Policy,
    snapshot: &Snapshot,
    recorded: &RecordedCause,
) -> Result<Option<NaiveDate>, CalendarMissing> {
    let creditor = policy.creditors.get(&snapshot.account.creditor);
    let country = creditor.map(|creditor| creditor.country).or(snapshot.account.country);
    let days = policy.cause(recorded.cause).hold_working_days;
    let last = |(country, days)| policy.calendars.add_working_days(country, recorded.since, days);
    country.zip(days).map(last).transpose()
}

/// By item, the plan that it is in.
pub(super) fn in_plans<'a>(
    plans: &'a [(&'a Plan, PlanStanding)],
) -> BTreeMap<&'a ItemId, &'a (&'a Plan, PlanStanding)> {
    let alive = plans.iter().filter(|(_, standing)| standing.state.is_alive());
    alive.flat_map(|one| one.0.items.iter().map(move |item| (&item.item, one))).collect()
}

/// The first item of a plan that is gone without being settled.
pub(super) fn vanished(plan: &Plan) -> Option<&ItemId> {
    plan.items.iter().filter(|one| one.vanished).map(|one| &one.item).min()
}

/// The one stage of instalments. It stands after the stages of the ladder, so that a missed instalment is written about
/// first and alone; the day on which it is due is each plan's own.
pub(super) fn plan_stage() -> Option<Stage> {
    Some(Stage {
        name: StageName::parse(PLAN_STAGE).ok()?,
        tone: Tone::Firm,
        days: 1,
        channels: vec![Channel::Email],
        completes_on: None,
        template: PLAN_STAGE.to_owned(),
        enabled: true,
        gap: None,
        respond_within: None,
        respond_within_by_country: BTreeMap::new(),
        respond_within_of_persons: BTreeMap::new(),
        lapse_after_working_days: None,
        attempts: 1,
        approval: false,
        demands: Demands::Reached,
        when: StageCondition::default(),
        on_unknown: OnUnknown::Review,
        location: "".into(),
    })
}

/// What came in since the account was handed over, per currency: invoices that went down, and money not yet allocated.
/// What somebody allocates later changes nothing.
pub(super) fn paid_since(handover: &Handover, snapshot: &Snapshot) -> Amounts {
    // Nobody knows what was open when an older version recorded it.
    if handover.items.is_empty() {
        return Amounts::default();
    }
    let open: BTreeMap<&ItemId, Decimal> = snapshot.items.iter().map(|item| (&item.id, item.open_amount)).collect();
    let known: BTreeSet<&ItemId> = handover.items.iter().map(|one| &one.item).collect();
    let change = |one: &crate::model::HandoverItem| {
        let unpaid = if one.vanished { one.open_then } else { Decimal::ZERO };
        Money::new(one.open_then - open.get(&one.item).copied().unwrap_or(unpaid), one.currency)
    };
    let payments = snapshot.items.iter().filter(|item| item.kind.is_credit() && !known.contains(&item.id));
    handover.items.iter().map(change).chain(payments.map(|item| Money::new(-item.open_amount, item.currency))).collect()
}
