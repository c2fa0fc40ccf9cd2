//! The climb: which stages an item has completed, which one is next, and from which day it is due.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;

use crate::model::{
    Amounts, Cause, CauseRule, Channel, ItemCode, ItemId, Ladder, Money, PartyKind, Policy, Snapshot, Stage, StageName,
    Tone, Waiver, days_after, is_plan_stage,
};

use super::gates::Question;
use super::items::{self, Assessed};

/// What the history says about every item.
pub(super) struct Past<'a>(BTreeMap<&'a ItemId, PastOfItem<'a>>);

#[derive(Default)]
struct PastOfItem<'a> {
    completed: BTreeMap<&'a StageName, Completed>,
    /// The completed stages that the debtor heard of from us.
    heard: BTreeSet<&'a StageName>,
    /// Stages at which a notice that nobody heard took it along.
    taken_along: BTreeSet<&'a StageName>,
    /// The day of the last notice that named this very item and that the debtor has in writing.
    reminded_on: Option<NaiveDate>,
}

/// A stage that an item has behind it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Completed {
    on: NaiveDate,
    respond_by: Option<NaiveDate>,
    /// Accepted mail may still bounce; a waiver cannot.
    may_bounce: bool,
}

impl<'a> Past<'a> {
    /// An item completes a stage by a notice that demanded it for that stage and was accepted without bouncing, or was done
    /// by a person; by one of that very stage that lapsed by policy; or by a person's waiver.
    pub(super) fn of(snapshot: &'a Snapshot) -> Self {
        let mut items: BTreeMap<&ItemId, PastOfItem<'_>> = BTreeMap::new();
        for notice in &snapshot.history.notices {
            let Some(on) = notice.accepted_on else { continue };
            let respond_by = notice.respond_by.filter(|_| notice.was_heard());
            // One that bounced was sent in vain.
            for (item, stage) in notice.items.iter().filter(|_| notice.state.completes_stage()) {
                let past = items.entry(item).or_default();
                if !notice.completes(stage) {
                    past.taken_along.insert(stage);
                    continue;
                }
                past.reminded_on = past.reminded_on.max(Some(on).filter(|_| notice.was_written()));
                if notice.was_heard() {
                    past.heard.insert(stage);
                }
                let may_bounce = notice.channel == Channel::Email;
                let done = Completed { on, respond_by, may_bounce };
                past.completed.entry(stage).and_modify(|known| *known = done.max(*known)).or_insert(done);
            }
        }
        // A notice that went out tells more than a waiver of the same stage; of two waivers the earlier one counts.
        let mut waivers: Vec<&Waiver> = snapshot.history.waivers.iter().collect();
        waivers.sort_by_key(|waiver| waiver.on);
        for waiver in waivers {
            let done = Completed { on: waiver.on, respond_by: None, may_bounce: false };
            items.entry(&waiver.item).or_default().completed.entry(&waiver.stage).or_insert(done);
        }
        Self(items)
    }

    /// Whether an item has that stage behind it.
    pub(super) fn is_complete(&self, item: &ItemId, stage: &StageName) -> bool {
        self.completed(item, stage).is_some()
    }

    fn completed(&self, item: &ItemId, stage: &StageName) -> Option<&Completed> {
        self.0.get(item)?.completed.get(stage)
    }

    /// Whether a notice that nobody heard took an item along at that stage, and the debtor heard of a later one since: he
    /// is not reminded of it in a milder tone.
    fn is_behind(&self, item: &ItemId, ladder: &Ladder, position: usize) -> bool {
        let stages = &ladder.stages;
        self.0.get(item).is_some_and(|past| {
            past.taken_along.contains(&stages[position].name)
                && stages[position..].iter().any(|later| past.heard.contains(&later.name))
        })
    }
}

/// An enabled stage that some item went past because its conditions are not met.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PassedOver {
    pub(super) position: usize,
    pub(super) why: String,
}

/// Step 5: every item that is left gets its next stage and the day it is due. An item in grace gets them too, for the
/// explanation, and keeps its code.
pub(super) fn climb(
    policy: &Policy,
    snapshot: &Snapshot,
    ladder: &Ladder,
    past: &Past<'_>,
    assessed: &mut [Assessed<'_>],
    today: NaiveDate,
) -> BTreeSet<PassedOver> {
    let overdue = items::overdue_remainder(assessed);
    let last_formal = last_formal(snapshot, ladder);
    let mut passed_over = BTreeSet::new();
    for one in assessed.iter_mut() {
        let id = &one.item.id;
        one.reminded_on = past.0.get(id).and_then(|past| past.reminded_on);
        if !matches!(one.code, ItemCode::Reached | ItemCode::InGrace) {
            continue;
        }
        let in_grace = one.code == ItemCode::InGrace;
        let completed: Vec<Option<&Completed>> =
            ladder.stages.iter().map(|stage| past.completed(id, &stage.name)).collect();
        let open = |(n, stage): &(usize, &Stage)| {
            // A stage before the due day lapses once that day has passed, and only overdue items get here.
            let own = is_plan_stage(&stage.name) == one.item.part_of_plan.is_some();
            let done = completed[*n].is_some() || past.is_behind(id, ladder, *n);
            own && !done && stage.enabled && !stage.is_before_due()
        };
        let next = ladder.stages.iter().enumerate().filter(open).find(|(position, stage)| {
            let unmet = unmet(policy, stage, snapshot, &overdue, one);
            unmet.map(|why| passed_over.insert(PassedOver { position: *position, why })).is_none()
        });
        let Some((position, stage)) = next else {
            if !in_grace {
                one.code = ItemCode::LadderExhausted;
                let mut done = completed.iter().flatten().peekable();
                let over = |done: &&Completed| done.respond_by.is_none_or(|last| last < today) && done.on < today;
                one.ladder_over = done.peek().is_some() && done.all(over);
            }
            continue;
        };
        let causes = causes(policy, snapshot, one);
        let effective_due = one.effective_due.unwrap_or(today);
        let (due_on, is_first) = due_on(policy, ladder, &completed, position, one, &causes, effective_due);
        one.next_stage = Some((position, stage.name.clone()));
        one.due_on = Some(due_on);
        if in_grace {
            one.due_on = items::end_of_grace(policy, one).max(one.due_on);
        } else if due_on > today {
            one.code = if is_first { ItemCode::BeforeFirstStage } else { ItemCode::TooSoon };
        } else if let Some(allowed) = last_formal
            .filter(|_| stage.tone == Tone::Formal)
            .map(|last| days_after(last, policy.formal_gap_days))
            .filter(|allowed| *allowed > today)
        {
            one.code = ItemCode::FormalTooSoon;
            one.due_on = Some(allowed);
            one.formal_waits = true;
        }
    }
    passed_over
}

/// The day from which a stage is due for an item with those stages complete, and whether nothing comes before it.
fn due_on(
    policy: &Policy,
    ladder: &Ladder,
    completed: &[Option<&Completed>],
    position: usize,
    one: &Assessed<'_>,
    causes: &[(NaiveDate, CauseRule)],
    effective_due: NaiveDate,
) -> (NaiveDate, bool) {
    let stage = &ladder.stages[position];
    let previous = (0..position).rev().find_map(|n| completed[n].map(|done| (n, done)));
    let days = days_of(stage, one);
    let mut due_on = items::add_days(effective_due, days);
    let by_days = days - previous.as_ref().map_or(0, |(n, _)| ladder.stages[*n].days);
    let gap = stage.gap.filter(|_| previous.is_some()).unwrap_or_else(|| u32::try_from(by_days).unwrap_or(0));
    if let Some((_, done)) = previous {
        due_on = due_on.max(days_after(done.on, gap));
        let hurried = causes.iter().map(|(_, rule)| rule.gap_percent).filter(|percent| *percent < 100).min();
        if let Some(percent) = hurried {
            due_on = due_on.min(days_after(done.on, (u64::from(gap) * u64::from(percent)).div_ceil(100)));
        }
    }
    for (since, _) in causes.iter().filter(|(_, rule)| rule.restart_wait) {
        due_on = due_on.max(days_after(*since, gap));
    }
    for done in completed.iter().flatten() {
        if let Some(deadline) = done.respond_by {
            due_on = due_on.max(days_after(deadline, 1_u32));
        }
        if done.may_bounce {
            due_on = due_on.max(days_after(done.on, policy.bounce_window_days));
        }
    }
    (due_on, previous.is_none())
}

/// Stages before the due day. They lapse once the one that letters print has passed, count nothing as overdue, and wait while anything is: the
/// account hears of that first.
pub(super) fn announce(
    policy: &Policy,
    snapshot: &Snapshot,
    ladder: &Ladder,
    past: &Past<'_>,
    assessed: &mut [Assessed<'_>],
    today: NaiveDate,
) {
    let stages = || ladder.stages.iter().enumerate().filter(|(_, stage)| stage.enabled && stage.is_before_due());
    let Some((_, first)) = stages().next() else { return };
    if assessed.iter().any(Assessed::keeps_case_open) {
        return;
    }
    let within = |one: &Assessed<'_>| one.effective_due.is_some_and(|due| items::add_days(due, first.days) <= today);
    let coming: Amounts = assessed
        .iter()
        .filter(|one| one.is_coming_due() && within(one))
        .map(|one| Money::new(one.remaining(), one.item.currency))
        .collect();
    for one in assessed.iter_mut().filter(|one| one.is_coming_due()) {
        let Some(due) = one.effective_due else { continue };
        let completed: Vec<Option<&Completed>> =
            ladder.stages.iter().map(|stage| past.completed(&one.item.id, &stage.name)).collect();
        let Some((position, stage)) = stages().find(|(n, _)| completed[*n].is_none()) else { continue };
        let (day, _) = due_on(policy, ladder, &completed, position, one, &[], due);
        if one.item.due_date.is_none_or(|printed| day > printed) {
            continue;
        }
        let currency = one.item.currency;
        let worth = policy.minimums.of(currency).is_some_and(|minimum| coming.get(currency) >= minimum);
        if day > today {
            one.due_on = Some(day);
        } else if worth && unmet(policy, stage, snapshot, &coming, one).is_none() {
            one.due_on = Some(day);
            one.code = ItemCode::Reached;
        } else {
            continue;
        }
        one.next_stage = Some((position, stage.name.clone()));
    }
}

/// The days past due from which a stage is due for an item: an instalment waits for as long as its plan says.
pub(super) fn days_of(stage: &Stage, one: &Assessed<'_>) -> i32 {
    let tolerance = one.item.part_of_plan.as_ref().map(|part| i32::try_from(part.tolerance_days).unwrap_or(i32::MAX));
    tolerance.map_or(stage.days, |days| days.saturating_add(1))
}

/// The causes about an item, each with its day and what follows from it. An instalment has its own pace.
fn causes(policy: &Policy, snapshot: &Snapshot, one: &Assessed<'_>) -> Vec<(NaiveDate, CauseRule)> {
    let concerning = snapshot.causes.iter().filter(|cause| cause.concerns(&one.item.id));
    let rules = concerning.map(|cause| (cause.since, policy.cause(cause.cause)));
    rules.filter(|_| one.item.part_of_plan.is_none()).collect()
}

/// The last day on which a cause let the wait for an item's next stage begin anew, and the cause.
pub(super) fn restarted_on(policy: &Policy, snapshot: &Snapshot, one: &Assessed<'_>) -> Option<(NaiveDate, Cause)> {
    let concerning = snapshot.causes.iter().filter(|cause| cause.concerns(&one.item.id));
    let restart = concerning.filter(|cause| policy.cause(cause.cause).restart_wait && one.item.part_of_plan.is_none());
    restart.map(|cause| (cause.since, cause.cause)).max()
}

/// Whether a stage may follow for that item: enabled, and its conditions met as things stand.
pub(super) fn applies(q: &Question<'_>, stage: &Stage, overdue: &Amounts, one: &Assessed<'_>) -> bool {
    stage.enabled && unmet(q.policy, stage, q.snapshot, overdue, one).is_none()
}

/// Why an enabled stage does not apply to an item; none when it does.
fn unmet(policy: &Policy, stage: &Stage, snapshot: &Snapshot, overdue: &Amounts, one: &Assessed<'_>) -> Option<String> {
    let account = &snapshot.account;
    let wanted = &stage.when;
    let (currency, kind) = (one.item.currency, account.party_kind);
    let (have, least) = (overdue.get(currency), policy.minimums.of_stage(&wanted.min, currency));
    if stage.tone >= Tone::Formal && kind == PartyKind::Unknown {
        Some(format!("stage {}: not automatic while the party kind is unknown", stage.name))
    } else if !wanted.min.is_empty() && least.is_none_or(|least| have < least) {
        let have = Money::new(have, currency);
        let least = least.map_or_else(
            || format!("an amount that nothing says in {currency}"),
            |least| match wanted.min.row(currency) {
                Some(_) => Money::new(least, currency).to_string(),
                None => format!("{} ({} by rates)", Money::new(least, currency), wanted.min),
            },
        );
        Some(format!("stage {}: {have} overdue, it asks for {least}", stage.name))
    } else if !wanted.party_kinds.is_empty() && !wanted.party_kinds.contains(&kind) {
        Some(format!("stage {}: not for party kind {}", stage.name, kind.as_str()))
    } else if !wanted.segments.is_empty() && !account.segment.as_ref().is_some_and(|s| wanted.segments.contains(s)) {
        let segment = account.segment.as_deref().unwrap_or("none");
        Some(format!("stage {}: not for segment {segment}", stage.name))
    } else {
        None
    }
}

/// One that failed for good or that nobody performed does not count: the debtor has no formal notice yet. One that somebody else sent does.
fn last_formal(snapshot: &Snapshot, ladder: &Ladder) -> Option<NaiveDate> {
    let notices = snapshot.history.notices.iter();
    let ours = notices.filter(|n| n.tone == Tone::Formal && n.was_heard()).filter_map(|n| n.accepted_on);
    let is_formal =
        |name: &StageName| ladder.stages.iter().any(|stage| stage.name == *name && stage.tone == Tone::Formal);
    let waivers = snapshot.history.waivers.iter();
    let elsewhere = waivers.filter(|waiver| waiver.elsewhere.is_some() && is_formal(&waiver.stage)).map(|one| one.on);
    ours.chain(elsewhere).max()
}
