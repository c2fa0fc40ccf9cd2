//! The functional core: what is due for one account on one day, and why. No IO, cannot fail.
//!
//! The rule in one sentence: every item climbs the ladder one stage per notice and never skips one; one notice per
//! account at a time; the notice speaks in the tone of the item that is furthest along among those whose next stage is
//! due.
//!
//! `register` puts what people recorded into the terms of the rule, `items` takes items out and nets credits, `promises`
//! says which of them were promised, `people` what became of the tasks of people, `ladder` finds each item's next stage,
//! `gates` asks the questions in their fixed order, `recipient` finds the person, language and bank account, `notice`
//! says what is demanded, `tasks` what a person has to look at, `remedies` what would change the answer, and `explain`
//! writes down every answer. `brake` says what of a whole run may go out by itself.

mod brake;
mod explain;
mod gates;
mod items;
mod ladder;
mod notice;
mod people;
mod promises;
mod recipient;
mod register;
mod remedies;
mod tasks;

use std::sync::Arc;

use chrono::NaiveDate;

use crate::model::{
    CancelReason, CaseChange, Decision, ItemId, Ladder, LadderName, Policy, Snapshot, Stage, StageName, Verdict,
};

use explain::Trail;
use items::Assessed;
use ladder::Past;

pub use brake::{brake, expected_by, needs_approval};
pub use notice::days_with_a_person;
pub use promises::standings;
pub use register::{plan_standings, seen};

/// Decides what is due for one account on one business date.
///
/// The same inputs always give the same decision; the order of rows in the snapshot does not matter.
#[must_use]
pub fn decide(policy: &Policy, snapshot: &Snapshot, today: NaiveDate) -> Decision {
    let plans = register::plan_standings(policy, snapshot, today);
    let promises = promises::standings(policy, snapshot, today);
    let as_read = snapshot;
    let snapshot = &*register::with_entries(policy, snapshot, &plans, today);
    let mut ladder = ladder_of(policy, snapshot);
    if snapshot.items.iter().any(|item| item.part_of_plan.is_some()) {
        Arc::make_mut(&mut ladder).stages.extend(register::plan_stage());
    }
    let (mut assessed, netted) = items::assess(policy, snapshot, &promises, &plans, today);
    let taken_back = people::taken_back(policy, snapshot, &ladder, &assessed, today);
    let snapshot = &*people::afterwards(snapshot, &taken_back, today);
    let past = Past::of(snapshot);
    let passed_over = ladder::climb(policy, snapshot, &ladder, &past, &mut assessed, today);
    ladder::announce(policy, snapshot, &ladder, &past, &mut assessed, today);

    let mut trail = Trail::new(policy);
    let question = gates::Question {
        policy,
        snapshot,
        as_read,
        ladder: &ladder,
        past: &past,
        promises: &promises,
        plans: &plans,
        passed_over: &passed_over,
        today,
        coming: std::cell::OnceCell::new(),
    };
    let verdict = match gates::ask(&question, &mut assessed, &mut trail) {
        Ok(contacting) => Verdict::Contact(Box::new(contacting)),
        Err(no) => Verdict::No { code: no.code, next_date: no.next_date },
    };

    let overdue = assessed.iter().any(Assessed::keeps_case_open);
    let case = match (&snapshot.case, overdue) {
        (None, true) => CaseChange::Open,
        (Some(_), false) => CaseChange::Close,
        _ => CaseChange::None,
    };
    let tasks = tasks::tasks(&question, &assessed, &verdict, &trail);
    let remedies = remedies::remedies(&question, &assessed, &verdict, trail.calendar_missing());
    Decision {
        account: snapshot.account.id.clone(),
        creditor: snapshot.account.creditor.clone(),
        business_date: today,
        verdict,
        items: assessed.into_iter().map(Assessed::into_decision).collect(),
        netted,
        case,
        taken_back,
        tasks,
        checks: trail.into_checks(),
        remedies,
    }
}

fn as_of_today(policy: &Policy, pinned: &Arc<Ladder>) -> Arc<Ladder> {
    let Some(current) = policy.ladders.get(&pinned.name) else { return Arc::clone(pinned) };
    let of_today = |stage: &Stage| current.stages.iter().find(|one| one.name == stage.name);
    let differs = |stage: &Stage, today: &Stage| {
        (&stage.when, stage.approval, stage.on_unknown, &stage.location)
            != (&today.when, today.approval, today.on_unknown, &today.location)
    };
    let mut ladder = Arc::clone(pinned);
    if pinned.stages.iter().any(|stage| of_today(stage).is_some_and(|today| differs(stage, today))) {
        for stage in &mut Arc::make_mut(&mut ladder).stages {
            let Some(today) = of_today(stage) else { continue };
            stage.when.clone_from(&today.when);
            (stage.approval, stage.on_unknown) = (today.approval, today.on_unknown);
            stage.location = Arc::clone(&today.location);
        }
    }
    ladder
}

/// Why a notice that demands those items, each for a stage, is right no longer, if what is known of them says so.
#[must_use]
pub fn no_longer_right(
    policy: &Policy,
    snapshot: &Snapshot,
    items: &[(ItemId, StageName)],
    today: NaiveDate,
) -> Option<CancelReason> {
    let ladder = ladder_of(policy, snapshot);
    let plans = register::plan_standings(policy, snapshot, today);
    let promises = promises::standings(policy, snapshot, today);
    let seen = register::with_entries(policy, snapshot, &plans, today);
    let (assessed, _) = items::assess(policy, &seen, &promises, &plans, today);
    let demand = people::Demand { items, frozen: None, vanished: false };
    people::no_longer_right(policy, &seen, &ladder, &assessed, &demand, today)
}

/// The ladder an account climbs: the one its open case started with, else the one the policy has for it today. One
/// without stages where the ledger names a ladder that the policy does not have. A case keeps stages, days and gaps; who
/// has to agree, from which amount on and for whom a stage applies, and what follows from an unknown outcome, is as the
/// policy has it today.
#[must_use]
pub fn ladder_of(policy: &Policy, snapshot: &Snapshot) -> Arc<Ladder> {
    let pinned = snapshot.case.as_ref().map(|case| as_of_today(policy, &case.ladder));
    let ladder = pinned.or_else(|| policy.ladder(snapshot.account.ladder.as_deref()).cloned());
    ladder.unwrap_or_else(|| {
        let name = snapshot.account.ladder.as_deref().and_then(|name| LadderName::parse(name).ok());
        Arc::new(Ladder { name: name.unwrap_or_default(), stages: Vec::new() })
    })
}
