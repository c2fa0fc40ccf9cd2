//! The climb: which stages an item has completed, which one is next, and from which day it is due.

use chrono::{Days, NaiveDate};

use crate::model::{ItemCode, ItemId};
use crate::model::{Ladder, PartyKind, PastNotice, Policy, Snapshot, Stage, StageName, Tone};

use super::items::{Assessed, overdue_remainder};

/// A stage that an item has behind it.
struct Completed {
    on: NaiveDate,
    respond_by: Option<NaiveDate>,
    /// Accepted mail may still bounce; a waiver cannot.
    may_bounce: bool,
}

/// Step 5: every item that is left gets its next stage and the day it is due.
pub(super) fn climb(
    policy: &Policy,
    snapshot: &Snapshot,
    ladder: &Ladder,
    assessed: &mut [Assessed<'_>],
    today: NaiveDate,
) {
    let remainder = overdue_remainder(assessed);
    let last_formal = last_formal(snapshot);
    for one in assessed.iter_mut() {
        one.reminded_on = reminded_on(snapshot, &one.item.id);
        if one.code != ItemCode::Reached {
            continue;
        }
        let in_currency = remainder.get(one.item.currency);
        let applies = |stage: &Stage| {
            let wanted = &stage.when;
            stage.enabled
                // A stage before the due day lapses once that day has passed, and only overdue items get here.
                && stage.days > 0
                && !(stage.tone >= Tone::Formal && snapshot.account.party_kind == PartyKind::Unknown)
                && in_currency >= wanted.min.get(one.item.currency)
                && (wanted.party_kinds.is_empty() || wanted.party_kinds.contains(&snapshot.account.party_kind))
                && (wanted.segments.is_empty()
                    || snapshot.account.segment.as_ref().is_some_and(|segment| wanted.segments.contains(segment)))
        };
        let completed: Vec<Option<Completed>> =
            ladder.stages.iter().map(|stage| completion(snapshot, &one.item.id, &stage.name)).collect();
        let next = ladder.stages.iter().enumerate().find(|(n, stage)| completed[*n].is_none() && applies(stage));
        let Some((position, stage)) = next else {
            one.code = ItemCode::LadderExhausted;
            let over = |done: &Completed| done.respond_by.is_none_or(|deadline| deadline < today) && done.on < today;
            one.ladder_over = completed.iter().flatten().all(over) && completed.iter().flatten().next().is_some();
            continue;
        };
        let mut due_on = one.effective_due.map_or(today, |due| add_days(due, stage.days));
        let previous = (0..position).rev().find_map(|n| completed[n].as_ref().map(|done| (n, done)));
        if let Some((n, done)) = previous {
            let by_days = u32::try_from(stage.days - ladder.stages[n].days).unwrap_or(0);
            due_on = due_on.max(done.on + Days::new(u64::from(stage.gap.unwrap_or(by_days))));
        }
        for done in completed.iter().flatten() {
            if let Some(deadline) = done.respond_by {
                due_on = due_on.max(deadline + Days::new(1));
            }
            if done.may_bounce {
                due_on = due_on.max(done.on + Days::new(u64::from(policy.bounce_window_days)));
            }
        }
        let formal_again = (stage.tone >= Tone::Formal)
            .then(|| last_formal.map(|last| last + Days::new(u64::from(policy.formal_gap_days))))
            .flatten()
            .filter(|allowed| *allowed > due_on.max(today));
        one.next_stage = Some((position, stage.name.clone()));
        one.code = if due_on <= today && formal_again.is_some() {
            ItemCode::FormalTooSoon
        } else if due_on <= today {
            ItemCode::Reached
        } else if previous.is_some() {
            ItemCode::TooSoon
        } else {
            ItemCode::BeforeFirstStage
        };
        one.due_on = Some(formal_again.map_or(due_on, |allowed| allowed.max(due_on)));
    }
}

/// Whether and when an item completed a stage: by an accepted notice that demanded it for that stage and did not
/// bounce, or by a person's waiver.
fn completion(snapshot: &Snapshot, item: &ItemId, stage: &StageName) -> Option<Completed> {
    let by_notice = snapshot
        .history
        .notices
        .iter()
        .filter(|notice| notice.state.completes_stage() && names(notice, item, stage))
        .filter_map(|notice| {
            notice.accepted_on.map(|on| Completed { on, respond_by: notice.respond_by, may_bounce: true })
        })
        .max_by_key(|done| done.on);
    let by_waiver = || {
        let waiver = snapshot.history.waivers.iter().find(|waiver| &waiver.item == item && &waiver.stage == stage);
        waiver.map(|waiver| Completed { on: waiver.on, respond_by: None, may_bounce: false })
    };
    by_notice.or_else(by_waiver)
}

/// Whether an item has that stage behind it.
pub(super) fn is_complete(snapshot: &Snapshot, item: &ItemId, stage: &StageName) -> bool {
    completion(snapshot, item, stage).is_some()
}

fn names(notice: &PastNotice, item: &ItemId, stage: &StageName) -> bool {
    notice.items.iter().any(|(of, at)| of == item && at == stage)
}

/// The day of the last accepted notice that named this very item.
fn reminded_on(snapshot: &Snapshot, item: &ItemId) -> Option<NaiveDate> {
    let notices = snapshot.history.notices.iter().filter(|notice| notice.state.completes_stage());
    notices.filter(|notice| notice.items.iter().any(|(of, _)| of == item)).filter_map(|notice| notice.accepted_on).max()
}

fn last_formal(snapshot: &Snapshot) -> Option<NaiveDate> {
    let notices = snapshot.history.notices.iter().filter(|notice| notice.tone >= Tone::Formal);
    notices.filter_map(|notice| notice.counted_on.or(notice.accepted_on)).max()
}

fn add_days(day: NaiveDate, days: i32) -> NaiveDate {
    day + chrono::Duration::days(i64::from(days))
}
