//! Notices that people perform: which are right no longer, and which nobody did in time.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::Decimal;

use crate::model::{
    CancelReason, Channel, HoldTarget, Item, ItemCode, ItemId, Ladder, NoticeId, NoticeState, PLAN_ITEM_PREFIX,
    PastNotice, Policy, Snapshot, StageName, TakenBack,
};

use super::items::{self, Assessed};
use super::register;

/// The notices that are a person's task no longer. One whose demand is right no longer is cancelled, and the same
/// decision says anew what is due; one whose time is over lapses.
pub(super) fn taken_back(
    policy: &Policy,
    snapshot: &Snapshot,
    ladder: &Ladder,
    assessed: &[Assessed<'_>],
    today: NaiveDate,
) -> Vec<(NoticeId, TakenBack)> {
    let open = snapshot.history.notices.iter().filter(|notice| notice.state == NoticeState::WithPerson);
    open.filter_map(|notice| {
        let lapsed = || notice.lapses_on.filter(|last| *last < today).map(TakenBack::Lapsed);
        let expired = || is_expired(policy, snapshot, notice, today).then_some(CancelReason::Expired);
        let frozen = (notice.channel != Channel::Call).then_some(&notice.to_pay);
        let demand = Demand { items: &notice.items, frozen, vanished: notice.vanished };
        let cancelled = no_longer_right(policy, snapshot, ladder, assessed, &demand, today).or_else(expired);
        let cancelled = cancelled.map(TakenBack::Cancelled);
        Some((notice.id, cancelled.or_else(lapsed)?))
    })
    .collect()
}

/// Whether a letter can be posted no more. Whoever posted it on the last day has the next working day to say so.
fn is_expired(policy: &Policy, snapshot: &Snapshot, notice: &PastNotice, today: NaiveDate) -> bool {
    notice.post_by.is_some_and(|last| {
        let creditor = policy.creditors.get(&snapshot.account.creditor);
        let said_by = creditor.and_then(|one| policy.calendars.add_working_days(one.country, last, 1).ok());
        today > said_by.unwrap_or(last)
    })
}

/// What a notice demands.
pub(super) struct Demand<'a> {
    pub(super) items: &'a [(ItemId, StageName)],
    /// What stands on its paper for each item. None where nothing does: a caller sees today's balance with the task.
    pub(super) frozen: Option<&'a BTreeMap<ItemId, Decimal>>,
    /// Something of it is gone from the ledger without being settled.
    pub(super) vanished: bool,
}

/// The first reason, in the order of their codes, for which nobody should act on a notice any more.
pub(super) fn no_longer_right(
    policy: &Policy,
    snapshot: &Snapshot,
    ladder: &Ladder,
    assessed: &[Assessed<'_>],
    notice: &Demand<'_>,
    today: NaiveDate,
) -> Option<CancelReason> {
    let codes: BTreeMap<_, &Assessed<'_>> = assessed.iter().map(|one| (&one.item.id, one)).collect();
    let is_before_due =
        |name: &StageName| ladder.stages.iter().any(|stage| stage.name == *name && stage.is_before_due());
    let of_items = notice.items.iter().filter_map(|(item, stage)| {
        let waived = snapshot.history.waivers.iter().any(|one| one.item == *item && one.stage == *stage);
        let Some(one) = codes.get(item) else {
            return Some(match plan_has_ended(snapshot, item) {
                true => CancelReason::PlannedBeforeSend,
                false if notice.vanished => CancelReason::WithdrawnBeforeSend,
                false => CancelReason::PaidBeforeSend,
            });
        };
        match one.code {
            ItemCode::Withdrawn => Some(CancelReason::WithdrawnBeforeSend),
            ItemCode::Settled | ItemCode::Covered => Some(CancelReason::PaidBeforeSend),
            ItemCode::Disputed => Some(CancelReason::DisputedBeforeSend),
            ItemCode::ItemHold => Some(held(policy, snapshot, &behind(snapshot, one.item), today)),
            ItemCode::PromiseRunning => Some(CancelReason::PromisedBeforeSend),
            ItemCode::WrittenOff => Some(CancelReason::WrittenOffBeforeSend),
            ItemCode::InPlan => Some(CancelReason::PlannedBeforeSend),
            code if code.is_out() => Some(CancelReason::LedgerChanged),
            ItemCode::NotOverdue if !is_before_due(stage) => Some(CancelReason::LedgerChanged),
            _ if waived => Some(CancelReason::WaivedBeforeSend),
            _ => match one.remaining().cmp(notice.frozen?.get(item)?) {
                Ordering::Less => Some(CancelReason::PaidBeforeSend),
                Ordering::Equal => None,
                Ordering::Greater => Some(CancelReason::LedgerChanged),
            },
        }
    });
    let handed_over = snapshot.handover.is_some().then_some(CancelReason::HandedOverBeforeSend);
    let on_account = items::account_hold(snapshot, today).map(|_| held(policy, snapshot, &[], today));
    of_items.chain(handed_over).chain(on_account).min()
}

/// Whether it is an instalment of a plan that a person ended or agreed anew.
fn plan_has_ended(snapshot: &Snapshot, item: &ItemId) -> bool {
    snapshot.plans.iter().filter(|plan| plan.ended).any(|plan| {
        let prefix = format!("{PLAN_ITEM_PREFIX}{}:{}:", plan.number, plan.version);
        item.as_str().starts_with(&prefix)
    })
}

/// The item itself; of an instalment, the items of its plan.
fn behind<'a>(snapshot: &'a Snapshot, item: &'a Item) -> Vec<&'a Item> {
    let Some(part) = &item.part_of_plan else { return vec![item] };
    let plans = snapshot.plans.iter().filter(|plan| plan.number == part.plan && !plan.ended);
    let planned: Vec<&ItemId> = plans.flat_map(|plan| &plan.items).map(|one| &one.item).collect();
    snapshot.items.iter().filter(|item| planned.contains(&&item.id)).collect()
}

/// Whether the hold on those items, or on the account when none is named, was placed as one or follows from a cause.
fn held(policy: &Policy, snapshot: &Snapshot, items: &[&Item], today: NaiveDate) -> CancelReason {
    let account = &snapshot.account;
    let targets: Vec<HoldTarget> = match items {
        [] => vec![HoldTarget::Account(account.id.clone())],
        items => items.iter().map(|item| HoldTarget::Item(item.id.clone())).collect(),
    };
    let on_target = snapshot.holds.iter().filter(|hold| targets.contains(&hold.target));
    let ours = on_target.filter(|hold| hold.cause.is_none() && hold.covers(today));
    let placed = ours.into_iter().any(|hold| register::told_by(policy, snapshot, hold, today).is_none());
    let in_force =
        |until: Option<NaiveDate>, reason: &Option<String>| until.map_or(reason.is_some(), |last| today <= last);
    let by_ledger = match items {
        [] => in_force(account.hold_until, &account.hold_reason),
        items => items.iter().any(|item| in_force(item.hold_until, &item.hold_reason)),
    };
    if placed || by_ledger { CancelReason::HeldBeforeSend } else { CancelReason::CauseBeforeSend }
}

/// What is known once those notices are taken back.
pub(super) fn afterwards<'a>(
    snapshot: &'a Snapshot,
    taken_back: &[(NoticeId, TakenBack)],
    today: NaiveDate,
) -> Cow<'a, Snapshot> {
    let mut known = Cow::Borrowed(snapshot);
    for (id, became) in taken_back {
        // Nor does its copy go out.
        for usage in known.to_mut().mailboxes.values_mut().filter(|usage| usage.copies.contains(id)) {
            usage.copies.retain(|copied| copied != id);
            if let Some(counted) = usage.contacts.iter().position(|day| *day == today) {
                usage.contacts.swap_remove(counted);
            }
        }
        for notice in known.to_mut().history.notices.iter_mut().filter(|notice| notice.id == *id) {
            match became {
                TakenBack::Cancelled(_) => notice.state = NoticeState::Cancelled,
                TakenBack::Lapsed(day) => {
                    notice.state = NoticeState::Lapsed;
                    notice.accepted_on = Some(*day);
                }
            }
        }
    }
    known
}
