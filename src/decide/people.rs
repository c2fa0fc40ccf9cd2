//! Notices that people perform: which are right no longer, and which nobody did in time.

use std::borrow::Cow;
use std::collections::BTreeMap;

use chrono::NaiveDate;

use crate::model::{
    CancelReason, ItemCode, Ladder, NoticeId, NoticeState, PastNotice, Policy, Snapshot, StageName, TakenBack,
};

use super::items::{self, Assessed};

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
        let cancelled = no_longer_right(snapshot, ladder, assessed, notice, today).or_else(expired);
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

/// The first reason, in the order of their codes, for which nobody should act on a notice any more. A part payment is
/// none: the person sees today's balance with the task.
fn no_longer_right(
    snapshot: &Snapshot,
    ladder: &Ladder,
    assessed: &[Assessed<'_>],
    notice: &PastNotice,
    today: NaiveDate,
) -> Option<CancelReason> {
    let codes: BTreeMap<_, ItemCode> = assessed.iter().map(|one| (&one.item.id, one.code)).collect();
    let is_before_due =
        |name: &StageName| ladder.stages.iter().any(|stage| stage.name == *name && stage.is_before_due());
    let of_items = notice.items.iter().filter_map(|(item, stage)| {
        let waived = snapshot.history.waivers.iter().any(|one| one.item == *item && one.stage == *stage);
        match codes.get(item) {
            Some(ItemCode::Withdrawn) => Some(CancelReason::WithdrawnBeforeSend),
            None if notice.vanished => Some(CancelReason::WithdrawnBeforeSend),
            None | Some(ItemCode::Settled | ItemCode::Covered) => Some(CancelReason::PaidBeforeSend),
            Some(ItemCode::Disputed) => Some(CancelReason::DisputedBeforeSend),
            Some(ItemCode::ItemHold) => Some(CancelReason::HeldBeforeSend),
            Some(ItemCode::PromiseRunning) => Some(CancelReason::PromisedBeforeSend),
            Some(code) if code.is_out() => Some(CancelReason::LedgerChanged),
            Some(ItemCode::NotOverdue) if !is_before_due(stage) => Some(CancelReason::LedgerChanged),
            Some(_) if waived => Some(CancelReason::WaivedBeforeSend),
            Some(_) => None,
        }
    });
    let handed_over = snapshot.handover.is_some().then_some(CancelReason::HandedOverBeforeSend);
    let held = items::account_hold(snapshot, today).is_some().then_some(CancelReason::HeldBeforeSend);
    of_items.chain(handed_over).chain(held).min()
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
