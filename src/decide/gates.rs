//! The questions about an account, in their fixed order: the first that says no gives the reason code.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::BTreeSet;

use chrono::{Datelike as _, NaiveDate};
use rust_decimal::Decimal;

use crate::model::{
    CalendarMissing, Channel, Contact, ContactCap, ContactLaw, Contacting, Country, Creditor, EmailAddress, Entered,
    ItemCode, ItemId, Ladder, MailboxUse, Money, PastNotice, Plan, PlanStanding, PlanState, Policy, Promise,
    PromiseState, ReasonCode, Snapshot, Stage, Standing, Tone, counted, days_after, is_plan_stage,
};

use super::brake::{self, Claimed};
use super::explain::Trail;
use super::items::{self, Assessed};
use super::ladder::{PassedOver, Past};
use super::recipient::Reach;
use super::{ladder, notice, promises, recipient, register};

/// What is asked about.
pub(super) struct Question<'a> {
    pub(super) policy: &'a Policy,
    pub(super) snapshot: &'a Snapshot,
    /// The same without what plans and causes add to it on that day.
    pub(super) as_read: &'a Snapshot,
    pub(super) ladder: &'a Ladder,
    pub(super) past: &'a Past<'a>,
    pub(super) promises: &'a [(&'a Promise, Standing)],
    pub(super) plans: &'a [(&'a Plan, PlanStanding)],
    pub(super) passed_over: &'a BTreeSet<PassedOver>,
    pub(super) today: NaiveDate,
    /// What [`coming`] found.
    pub(super) coming: OnceCell<Option<Coming>>,
}

/// A refusal, and the day before which no contact follows by itself, unless the ledger or a person changes something.
pub(super) struct No {
    pub(super) code: ReasonCode,
    pub(super) next_date: Option<NaiveDate>,
}

/// How far a search for the next possible day looks ahead.
const LOOK_AHEAD_DAYS: u64 = 400;

/// On how many days, each with an item that falls due or is no longer out, the account is looked at ahead.
const LOOK_AHEAD_CHANGES: usize = 60;

impl Question<'_> {
    pub(super) fn creditor(&self) -> Option<&Creditor> {
        self.policy.creditors.get(&self.snapshot.account.creditor)
    }

    /// The country whose working days and quiet periods the debtor lives by: his own, else the creditor's.
    pub(super) fn debtor_country(&self) -> Option<Country> {
        self.policy.country_of(&self.snapshot.account)
    }
}

/// Asks every question in order. On a yes, `assessed` carries `Demanded` and `Information`.
pub(super) fn ask(q: &Question<'_>, assessed: &mut [Assessed<'_>], trail: &mut Trail<'_>) -> Result<Contacting, No> {
    stops(q, assessed, trail)?;
    anything_due(q, assessed, trail)?;
    let payable: BTreeSet<ItemId> =
        assessed.iter().filter(|one| recipient::is_payable(q, one.item)).map(|one| one.item.id.clone()).collect();
    let stage = notice::stage(q, assessed);
    let reach = recipient::reach(q.snapshot, q.creditor(), stage);
    approval_limit(q, waits_for_a_person(q, assessed, &payable, stage), trail)?;
    // Nobody is contacted by a hand-over.
    if stage.channel() != Channel::Handover {
        contact_cap(q, reach.email, trail)?;
    }
    mailbox(q, reach.email, trail)?;
    sending_day(q, stage, trail)?;
    address(q, stage, &reach, trail)?;
    payment_account(q, assessed, &payable, trail)?;
    notice::write_to(q, assessed, &payable, stage, &reach, trail)
}

/// What stops an account whatever it owes.
fn stops(q: &Question<'_>, assessed: &[Assessed<'_>], trail: &mut Trail<'_>) -> Result<(), No> {
    let paused = q.snapshot.paused.as_ref();
    gate(trail, ReasonCode::Paused, paused.is_none(), told(paused.cloned(), "nothing is paused"), None)?;

    let handover = q.snapshot.handover.as_ref();
    let inputs =
        handover.map(|handover| format!("handed over to {} on {}: {}", handover.to, handover.since, handover.reason));
    gate(trail, ReasonCode::HandedOver, handover.is_none(), told(inputs, "not handed over"), None)?;

    let hold = items::account_hold(q.snapshot, q.today);
    let inputs = hold.map(|(last, reason)| {
        let until = last.map_or("until it is released".to_owned(), |last| format!("up to and including {last}"));
        format!("held {until}: {reason}")
    });
    let after = hold.and_then(|(last, _)| last).map(next_day);
    gate(trail, ReasonCode::AccountHold, hold.is_none(), told(inputs, "no hold on the account"), after)?;

    let notices = &q.snapshot.history.notices;
    let pending = notices.iter().filter(|notice| notice.state.is_pending()).min_by_key(|notice| notice.id);
    let inputs = pending.map(|notice| format!("notice {} ({}) is {}", notice.id, notice.stage, notice.state.as_str()));
    let lapsed = pending.and_then(|notice| notice.lapses_on).map(next_day);
    gate(trail, ReasonCode::NoticePending, pending.is_none(), told(inputs, "no notice is on its way"), lapsed)?;

    let failed = unresolved(q, assessed).min_by_key(|notice| notice.id);
    let inputs = failed
        .map(|notice| format!("notice {} ({}) is {} and unresolved", notice.id, notice.stage, notice.state.as_str()));
    let inputs = told(inputs, "no notice failed without being resolved");
    gate(trail, ReasonCode::PreviousStageIncomplete, failed.is_none(), inputs, None)?;

    let deadline = notices
        .iter()
        .filter(|notice| notice.tone >= Tone::Final && notice.was_heard())
        .filter(|notice| notice.items.iter().any(|(item, _)| still_owed(assessed, item)))
        .filter_map(|notice| notice.respond_by)
        .filter(|deadline| *deadline >= q.today)
        .max();
    let inputs = deadline.map(|deadline| format!("a final or later notice gave time up to and including {deadline}"));
    let inputs = told(inputs, "no deadline of a final or later notice is running");
    gate(trail, ReasonCode::DeadlineRunning, deadline.is_none(), inputs, deadline.map(next_day))
}

/// Notices that failed without being resolved. One matters as long as one of its items is owed and has not completed
/// that stage otherwise.
pub(super) fn unresolved<'a>(
    q: &'a Question<'_>,
    assessed: &'a [Assessed<'_>],
) -> impl Iterator<Item = &'a PastNotice> {
    q.snapshot.history.notices.iter().filter(|notice| {
        let open = |(item, stage): &(_, _)| is_owed(assessed, item) && !q.past.is_complete(item, stage);
        notice.state.needs_resolution() && notice.items.iter().any(open)
    })
}

/// Assessed items are in the order of their ids.
fn position(assessed: &[Assessed<'_>], item: &ItemId) -> Option<usize> {
    assessed.binary_search_by(|one| one.item.id.cmp(item)).ok()
}

/// Also before its due day, when a courtesy note may have gone wrong.
fn is_owed(assessed: &[Assessed<'_>], item: &ItemId) -> bool {
    position(assessed, item)
        .map(|n| &assessed[n])
        .is_some_and(|one| one.is_debit() && !one.code.is_out() && one.remaining() > Decimal::ZERO)
}

pub(super) fn still_owed(assessed: &[Assessed<'_>], item: &ItemId) -> bool {
    position(assessed, item).is_some_and(|n| assessed[n].keeps_case_open())
}

/// Whether anything is owed, late and worth a letter, and whether a stage is due for it.
fn anything_due(q: &Question<'_>, assessed: &[Assessed<'_>], trail: &mut Trail<'_>) -> Result<(), No> {
    let not_due = usize::try_from(q.snapshot.not_due.items).unwrap_or(usize::MAX);
    let open = assessed.iter().filter(|one| one.code != ItemCode::Settled).count() + not_due;
    gate(trail, ReasonCode::NothingOpen, open > 0, counted(open, "open item"), None)?;

    let concerns = |promise: &Promise| promise.items.iter().any(|one| position(assessed, &one.item).is_some());
    for (promise, standing) in q.promises.iter().filter(|(promise, _)| !promise.withdrawn && concerns(promise)) {
        let inputs = format!("promise {}: {}", promise.number, promise.tell(*standing));
        trail.note("promise", standing.state != PromiseState::Running, inputs, None);
    }

    for cause in &q.snapshot.causes {
        trail.note("cause", true, cause.tell(), Some(&format!("cause.{}", cause.cause.as_str())));
    }
    for (plan, standing) in q.plans.iter().filter(|(_, standing)| standing.state != PlanState::Ended) {
        let on_time = matches!(standing.state, PlanState::Running | PlanState::Kept);
        trail.note("plan", on_time, format!("plan {}: {}", plan.number, plan.tell(standing)), None);
    }
    due_dates(assessed, trail)?;
    let announced = assessed.iter().find(|one| one.code == ItemCode::Reached && !one.is_overdue());
    if let Some((position, stage)) = announced.and_then(|one| one.next_stage.as_ref()) {
        let at = q.ladder.stages.get(*position).map(|stage| &stage.location);
        trail.note_at("stage_due", true, format!("nothing is overdue, and {stage} is due for what is coming due"), at);
        return Ok(());
    }

    let in_play: Vec<&Assessed<'_>> = assessed.iter().filter(|one| one.is_debit() && !one.code.is_out()).collect();
    let out: Vec<&Assessed<'_>> = assessed
        .iter()
        .filter(|one| one.is_debit() && one.code.is_out() && one.code != ItemCode::Settled)
        .filter(|one| one.is_overdue() || one.days.is_none())
        .collect();
    let overdue: Vec<&Assessed<'_>> = in_play.iter().copied().filter(|one| one.is_overdue()).collect();
    let others = coming(q, assessed).map(|coming| coming.on);

    let more = match out.len() {
        0 => String::new(),
        1 => ", 1 more is overdue but out".to_owned(),
        more => format!(", {more} more are overdue but out"),
    };
    let inputs = format!("{} of {}{more}", overdue.len(), counted(in_play.len() + not_due, "open item") + " overdue");
    gate(trail, ReasonCode::NotOverdue, !(overdue.is_empty() && out.is_empty()), inputs, others)?;
    gate(trail, ReasonCode::AllItemsOut, !overdue.is_empty(), out_summary(&out), others)?;

    let covered = overdue.iter().all(|one| one.code == ItemCode::Covered);
    let remainder = items::overdue_remainder(assessed);
    gate(trail, ReasonCode::AccountInCredit, !covered, format!("{remainder} left after credits{more}"), others)?;

    let worth: Vec<&Assessed<'_>> =
        overdue.into_iter().filter(|one| !matches!(one.code, ItemCode::Covered | ItemCode::BelowMinimum)).collect();
    let minimums: Vec<String> = remainder
        .iter()
        .map(|money| {
            let minimum = q.policy.minimums.of(money.currency).unwrap_or_default();
            format!("{money} overdue, minimum {}", Money::new(minimum, money.currency))
        })
        .collect();
    let key = remainder.iter().next().map(|money| items::minimum_key(q.policy, money.currency));
    let passed = !worth.is_empty();
    trail.note(ReasonCode::BelowMinimum.as_str(), passed, minimums.join("; "), key.as_deref());
    if !passed {
        return Err(No { code: ReasonCode::BelowMinimum, next_date: others });
    }

    let oldest = worth.iter().filter_map(|one| one.days).max().unwrap_or_default();
    let past_grace = worth.iter().any(|one| one.code != ItemCode::InGrace);
    let earliest = worth.iter().filter_map(|one| one.due_on.or(items::end_of_grace(q.policy, one))).min();
    trail.note(
        ReasonCode::InGrace.as_str(),
        past_grace,
        format!("oldest item {oldest} days late, {} days of grace", q.policy.item_grace_days),
        Some("item_grace_days"),
    );
    if !past_grace {
        return Err(No { code: ReasonCode::InGrace, next_date: sooner(earliest, others) });
    }

    let wanted = i64::from(q.policy.account_min_arrears_days);
    trail.note(
        ReasonCode::AccountMinArrears.as_str(),
        oldest >= wanted,
        format!("oldest item {oldest} days late, policy asks for {wanted}"),
        Some("account_min_arrears_days"),
    );
    if oldest < wanted {
        let late_enough = days_after(q.today, u32::try_from(wanted - oldest).unwrap_or(0));
        let next_date = sooner(earliest.max(Some(late_enough)), others);
        return Err(No { code: ReasonCode::AccountMinArrears, next_date });
    }
    stage_due(q, &worth, others, trail)
}

/// Whether it is known when everything is due, and which due dates a law moved.
fn due_dates(assessed: &[Assessed<'_>], trail: &mut Trail<'_>) -> Result<(), No> {
    let mut unknown = assessed.iter().filter(|one| one.code == ItemCode::CalendarMissing);
    if let Some((one, missing)) = unknown.find_map(|one| Some((one, one.calendar_missing.as_ref()?))) {
        return Err(calendar_missing(missing, &format!("item {}", one.item.id), trail));
    }
    for one in assessed.iter().filter(|one| one.code != ItemCode::Settled && one.past_contractual_due) {
        if let Some((due, moved)) = one.item.due_date.zip(one.effective_due).filter(|(due, moved)| due != moved) {
            let inputs = format!("item {}: due on {due}, no working day there, so on {moved}", one.item.id);
            trail.note("effective_due_date", true, inputs, Some("effective_due_date"));
        }
    }
    Ok(())
}

/// The refusal when no calendar answers.
pub(super) fn calendar_missing(missing: &CalendarMissing, asked_for: &str, trail: &mut Trail<'_>) -> No {
    let inputs = format!("{asked_for}: {missing}");
    trail.note(ReasonCode::CalendarMissing.as_str(), false, inputs, Some("calendars"));
    trail.remember(missing.clone());
    No { code: ReasonCode::CalendarMissing, next_date: None }
}

/// The first demand that comes about because something falls due or is no longer out.
#[derive(Clone)]
pub(super) struct Coming {
    pub(super) on: NaiveDate,
    pub(super) what: Comes,
}

#[derive(Clone)]
pub(super) enum Comes {
    Item(ItemId),
    /// An item that is only counted.
    NotDue,
    /// More that is overdue, by an item that is only counted: what is demanded then may be another one.
    MoreOverdue,
}

/// When an item that is not overdue yet, or out for a time, can first be demanded, or lets another one be demanded by
/// lifting what is overdue over the minimum.
pub(super) fn coming(q: &Question<'_>, assessed: &[Assessed<'_>]) -> Option<Coming> {
    let find = || {
        let announced =
            assessed.iter().filter_map(|one| Some((first_announcement(q, one)?, one.item.id.clone()))).min();
        let mut first = announced;
        let debits = assessed.iter().filter(|one| one.is_debit());
        let days = debits.flat_map(|one| {
            let overdue = one.effective_due.map(next_day);
            one.stops.iter().filter_map(|stop| stop.over_on).chain(one.released_on).chain(overdue)
        });
        let changes: BTreeSet<NaiveDate> = days.collect();
        let mut lifts = may_be_lifted(q, assessed);
        for day in changes.range(next_day(q.today)..).copied().take(LOOK_AHEAD_CHANGES) {
            if first.as_ref().is_some_and(|(known, _)| *known <= day) {
                break;
            }
            let (demand, would_lift) = look_ahead(q, day);
            lifts |= would_lift;
            first = first.into_iter().chain(demand).min();
        }
        let listed = first.map(|(on, item)| Coming { on, what: Comes::Item(item) });
        let counted = if lifts {
            first_overdue_of_not_due(q).map(|on| Coming { on, what: Comes::MoreOverdue })
        } else {
            first_demand_of_not_due(q).map(|on| Coming { on, what: Comes::NotDue })
        };
        listed.into_iter().chain(counted).min_by_key(|coming| coming.on)
    };
    q.coming.get_or_init(find).clone()
}

/// The day of an item's stage before its due day, if one comes.
fn first_announcement(q: &Question<'_>, one: &Assessed<'_>) -> Option<NaiveDate> {
    if one.code == ItemCode::NotOverdue {
        return one.due_on;
    }
    let (due, released_on) = (one.effective_due?, one.released_on?);
    let own = q.ladder.stages.iter().filter(|stage| is_plan_stage(&stage.name) == one.item.part_of_plan.is_some());
    let stages = own.filter(|stage| stage.enabled && stage.is_before_due());
    let day = stages.map(|stage| items::add_days(due, stage.days).max(released_on)).min();
    day.filter(|day| one.item.due_date >= Some(*day) && one.remaining() > Decimal::ZERO)
}

/// The first demand from that day on, if nothing else falls due, and whether more that does would let something be
/// demanded: the account as it stands then, with what credits cover and whether it is worth a letter.
fn look_ahead(q: &Question<'_>, day: NaiveDate) -> (Option<(NaiveDate, ItemId)>, bool) {
    let plans = register::plan_standings(q.policy, q.as_read, day);
    let promises = promises::standings(q.policy, q.as_read, day);
    let snapshot = register::with_entries(q.policy, q.as_read, &plans, day);
    let (mut assessed, _) = items::assess(q.policy, &snapshot, &promises, &plans, day);
    ladder::climb(q.policy, &snapshot, q.ladder, q.past, &mut assessed, day);
    let would_lift = may_be_lifted(q, &assessed);
    let worth = || assessed.iter().filter(|one| one.is_active() || one.code == ItemCode::InGrace);
    let Some(oldest) = worth().filter_map(|one| one.effective_due).min() else { return (None, would_lift) };
    let late_enough = days_after(oldest, q.policy.account_min_arrears_days);
    let demands = worth().filter_map(|one| Some((one.due_on?.max(late_enough).max(day), one.item.id.clone())));
    (demands.min(), would_lift)
}

/// The day on which the first of the items that are only counted is overdue.
fn first_overdue_of_not_due(q: &Question<'_>) -> Option<NaiveDate> {
    let due = q.snapshot.not_due.first_due?;
    Some(next_day(q.policy.calendars.effective_due_date(q.debtor_country(), due).unwrap_or(due)))
}

/// Whether more that falls due may let something else be demanded: what is too little, alone or for a stage, or may be
/// once it is no longer out.
fn may_be_lifted(q: &Question<'_>, assessed: &[Assessed<'_>]) -> bool {
    let too_little = |one: &Assessed<'_>| one.code == ItemCode::BelowMinimum || one.released_on.is_some();
    let for_a_stage = q.ladder.stages.iter().any(|stage| stage.enabled && !stage.when.min.is_empty());
    assessed.iter().any(|one| one.is_debit() && (too_little(one) || for_a_stage && one.keeps_case_open()))
}

/// When the first of the items that are only counted can be demanded: no plan, no stage before the due day. Of two of
/// them the one that is due first is demanded first.
fn first_demand_of_not_due(q: &Question<'_>) -> Option<NaiveDate> {
    let due = q.snapshot.not_due.first_due?;
    let effective_due = q.policy.calendars.effective_due_date(q.debtor_country(), due).unwrap_or(due);
    let stages = q.ladder.stages.iter().filter(|stage| stage.enabled && !stage.is_before_due());
    let first = stages.filter(|stage| !is_plan_stage(&stage.name)).map(|stage| stage.days).min()?;
    Some(items::add_days(effective_due, first).max(items::after_grace(q.policy, effective_due)))
}

fn sooner(a: Option<NaiveDate>, b: Option<NaiveDate>) -> Option<NaiveDate> {
    a.into_iter().chain(b).min()
}

/// Whether some item's next stage is due. An item in grace waits for its first stage like any other.
fn stage_due(
    q: &Question<'_>,
    worth: &[&Assessed<'_>],
    others: Option<NaiveDate>,
    trail: &mut Trail<'_>,
) -> Result<(), No> {
    let location = |position: usize| q.ladder.stages.get(position).map(|stage| &stage.location);
    for passed in q.passed_over {
        trail.note_at("stage_applies", false, passed.why.clone(), location(passed.position));
    }
    let earliest = worth
        .iter()
        .filter_map(|one| Some((one.due_on?, &one.item.id, one.next_stage.as_ref()?, one.reminded_on)))
        .min_by_key(|(due, id, ..)| (*due, *id));
    let over = if q.passed_over.is_empty() { "every stage is complete" } else { "no further stage applies" };
    let inputs = earliest.map_or(over.to_owned(), |(due, id, (_, stage), reminded_on)| {
        let before = reminded_on.map_or(String::new(), |day| format!("last written about on {day}, "));
        format!("item {id}: {before}next stage {stage} due on {due}")
    });
    let due = worth.iter().any(|one| one.code == ItemCode::Reached);
    // The reason is that of the item whose day is told.
    let code = match earliest.and_then(|(_, id, ..)| worth.iter().find(|one| one.item.id == *id)).map(|one| one.code) {
        Some(ItemCode::TooSoon | ItemCode::FormalTooSoon) => ReasonCode::TooSoon,
        Some(_) => ReasonCode::BeforeFirstStage,
        None => ReasonCode::LadderExhausted,
    };
    let rule = if due { "stage_due" } else { code.as_str() };
    trail.note_at(rule, due, inputs, earliest.and_then(|(_, _, (position, _), _)| location(*position)));
    if due {
        return Ok(());
    }
    Err(No { code, next_date: sooner(earliest.map(|(due, ..)| due), others) })
}

/// Whether a person has to see the notice before it goes out, whatever the mode.
pub(super) fn waits_for_a_person(
    q: &Question<'_>,
    assessed: &[Assessed<'_>],
    payable: &BTreeSet<ItemId>,
    stage: &Stage,
) -> bool {
    let position = q.ladder.position(&stage.name).unwrap_or_default();
    let demanded = assessed
        .iter()
        .filter(|one| payable.contains(&one.item.id) && notice::is_demanded(stage, position, one))
        .map(|one| Claimed {
            // An instalment has no limitation of its own.
            due_date: one.item.due_date.filter(|_| one.item.part_of_plan.is_none()),
            is_reminded: one.reminded_on.is_some(),
            days_late: one.days,
        });
    stage.approval || brake::cause_to_look(q.policy, &q.snapshot.account, demanded, q.today).is_some()
}

/// What would wait for a person is not made while too much waits already. Where nobody is asked, nothing is said.
fn approval_limit(q: &Question<'_>, by_itself: bool, trail: &mut Trail<'_>) -> Result<(), No> {
    let approvals = q.snapshot.approvals;
    if !by_itself && !approvals.all {
        return Ok(());
    }
    let limit = q.policy.approval.waiting_limit;
    let waiting = if approvals.waiting == 1 {
        "1 notice waits".to_owned()
    } else {
        format!("{} notices wait", approvals.waiting)
    };
    let inputs = format!("{waiting} for approval, at most {limit} may");
    let passed = approvals.waiting < limit;
    trail.note(ReasonCode::ApprovalLimit.as_str(), passed, inputs, Some("approval.waiting_limit"));
    if passed { Ok(()) } else { Err(No { code: ReasonCode::ApprovalLimit, next_date: None }) }
}

/// Step 9: counted contacts of the account, and of the mailbox over all accounts and creditors.
fn contact_cap(q: &Question<'_>, email: Option<&EmailAddress>, trail: &mut Trail<'_>) -> Result<(), No> {
    let history = &q.snapshot.history;
    let of_account: Vec<NaiveDate> =
        history.notices.iter().filter_map(|n| n.counted_on).chain(history.other_contacts.iter().copied()).collect();
    let key = email.map(EmailAddress::mailbox_key);
    let of_mailbox = key.and_then(|key| q.snapshot.mailboxes.get(&key)).map(|usage| usage.contacts.as_slice());
    let account = &q.snapshot.account;
    let laws: Vec<&ContactLaw> =
        ContactLaw::of(account.party_kind, q.debtor_country()).filter(|law| !law.caps.is_empty()).collect();
    let allowed = |day: NaiveDate| {
        [of_account.as_slice(), of_mailbox.unwrap_or_default()].iter().all(|contacts| {
            caps(q).all(|cap| {
                let within = contacts.iter().filter(|at| (day - **at).num_days() < i64::from(cap.days));
                within.count() < cap.contacts as usize
            })
        })
    };
    let last = of_account.iter().chain(of_mailbox.unwrap_or_default()).max();
    let told = |caps: &[ContactCap]| {
        let each = caps.iter().map(|c| match c.days {
            1 => format!("{} a day", c.contacts),
            days => format!("{} per {days} days", c.contacts),
        });
        each.collect::<Vec<_>>().join(", ")
    };
    let person: Vec<String> = laws
        .iter()
        .map(|law| format!("; to a natural person never more than {} ({})", told(law.caps), law.source))
        .collect();
    let inputs = format!(
        "{}, at most {}{}",
        last.map_or("no contact counted yet".to_owned(), |day| format!("last counted contact {day}")),
        told(&q.policy.contact_caps),
        person.concat()
    );
    let passed = allowed(q.today);
    trail.note(ReasonCode::ContactCap.as_str(), passed, inputs, Some("contact_cap"));
    if passed { Ok(()) } else { Err(No { code: ReasonCode::ContactCap, next_date: next_such_day(q.today, allowed) }) }
}

/// One notice per mailbox and creditor per day.
fn mailbox(q: &Question<'_>, email: Option<&EmailAddress>, trail: &mut Trail<'_>) -> Result<(), No> {
    let Some(usage) = mailbox_use(q, email) else { return Ok(()) };
    let inputs = format!(
        "{} the mailbox{}",
        if usage.accounts == 1 { "one account uses".to_owned() } else { format!("{} accounts use", usage.accounts) },
        if usage.notice_today { "; it has its notice for today" } else { "" }
    );
    // The notice of today is a contact of the mailbox as soon as it is sent.
    let contacts = || usage.contacts.iter().copied().filter(|day| *day != q.today).chain([q.today]);
    let allowed = |day: NaiveDate| {
        caps(q).all(|cap| {
            let within = contacts().filter(|at| (day - *at).num_days() < i64::from(cap.days));
            within.count() < cap.contacts as usize
        })
    };
    gate(trail, ReasonCode::SharedMailbox, !usage.notice_today, inputs, next_such_day(q.today, allowed))
}

/// The caps on contacts, of the policy and of the law.
fn caps<'a>(q: &Question<'a>) -> impl Iterator<Item = &'a ContactCap> {
    let account = &q.snapshot.account;
    let laws = ContactLaw::of(account.party_kind, q.debtor_country());
    q.policy.contact_caps.iter().chain(laws.flat_map(|law| law.caps))
}

pub(super) fn mailbox_use<'a>(q: &Question<'a>, email: Option<&EmailAddress>) -> Option<&'a MailboxUse> {
    q.snapshot.mailboxes.get(&email?.mailbox_key())
}

/// Step 10: a sending day in both countries, and no quiet period for a stage that presses.
fn sending_day(q: &Question<'_>, stage: &Stage, trail: &mut Trail<'_>) -> Result<(), No> {
    let calendars = &q.policy.calendars;
    let countries: Vec<_> =
        q.creditor().map(|creditor| creditor.country).into_iter().chain(q.snapshot.account.country).collect();
    let quiet = |day: NaiveDate| is_quiet(q, stage.tone, day);
    let today = match calendars.is_sending_day(&countries, q.today) {
        Ok(today) => today,
        Err(missing) => return Err(calendar_missing(&missing, &q.today.to_string(), trail)),
    };
    let (why, key) = why_no_sending_day(q, stage.tone);
    let passed = today && !quiet(q.today);
    let inputs = format!("{} is a {}{why}", q.today, q.today.format("%A"));
    trail.note(ReasonCode::OutsideSendDays.as_str(), passed, inputs, Some(key));
    if passed {
        return Ok(());
    }
    let free = |day: NaiveDate| calendars.is_sending_day(&countries, day) == Ok(true) && !quiet(day);
    Err(No { code: ReasonCode::OutsideSendDays, next_date: next_such_day(q.today, free) })
}

/// Nothing in the tone final or later goes out in a quiet period.
fn is_quiet(q: &Question<'_>, tone: Tone, day: NaiveDate) -> bool {
    q.debtor_country().is_some_and(|country| q.policy.calendars.keeps_quiet(country, tone, day))
}

/// What makes today no sending day, in words, and the key of the policy that says so; the words are empty when the
/// weekday says it all.
pub(super) fn why_no_sending_day(q: &Question<'_>, tone: Tone) -> (String, &'static str) {
    let calendars = &q.policy.calendars;
    let countries = q.creditor().map(|creditor| creditor.country).into_iter().chain(q.snapshot.account.country);
    let off = countries.filter(|country| calendars.is_working_day(*country, q.today) == Ok(false));
    let off: BTreeSet<String> = off.map(|country| country.to_string()).collect();
    if !calendars.send_days.contains(q.today.weekday()) {
        (String::new(), "send_days")
    } else if !off.is_empty() {
        (format!(", not a working day in {}", off.into_iter().collect::<Vec<_>>().join(" and ")), "calendars")
    } else if is_quiet(q, tone, q.today) {
        (format!(", in a quiet period: nothing in the tone {}", tone.as_str()), "quiet_period")
    } else {
        (String::new(), "send_days")
    }
}

/// The first sending day from that day on, itself included.
pub(super) fn next_sending_day(q: &Question<'_>, from: NaiveDate) -> Option<NaiveDate> {
    let countries: Vec<_> =
        q.creditor().map(|creditor| creditor.country).into_iter().chain(q.snapshot.account.country).collect();
    let sends = |day| q.policy.calendars.is_sending_day(&countries, day) == Ok(true);
    if sends(from) { Some(from) } else { next_such_day(from, sends) }
}

/// Where the stage's channel reaches the debtor: a mailbox, a number to call, an address to post to.
fn address(q: &Question<'_>, stage: &Stage, reach: &Reach<'_>, trail: &mut Trail<'_>) -> Result<(), No> {
    let contacts = &q.snapshot.contacts;
    let (channel, posted) = (stage.channel(), q.snapshot.account.postal_address.is_some());
    let found = match channel {
        Channel::Email => reach.email.is_some(),
        Channel::Call => reach.phone.is_some(),
        Channel::Letter => posted,
        Channel::Handover => true,
    };
    let inputs = match reach.contact {
        _ if channel == Channel::Handover => "a hand-over reaches nobody".to_owned(),
        _ if channel == Channel::Letter && posted => "the account's postal address".to_owned(),
        _ if channel == Channel::Letter => "the account has no postal address".to_owned(),
        Some(contact) => format!("contact {} ({})", contact.id, contact.role.as_str()),
        None if contacts.is_empty() => "the account has no contact at all".to_owned(),
        None if channel == Channel::Call => format!("{}: no telephone number", counted(contacts.len(), "contact")),
        None => unreachable_by_mail(contacts),
    };
    gate(trail, ReasonCode::NoAddress, found, inputs, None)
}

/// `2 contacts: 1 wants no e-mail, 1 holds something that is not one usable address`.
fn unreachable_by_mail(contacts: &[Contact]) -> String {
    let unwilling = contacts.iter().filter(|contact| contact.no_email).count();
    let unusable = contacts.iter().filter(|contact| contact.unusable_email).count();
    let verb = |count: usize, verb: &str| if count == 1 { format!("1 {verb}s") } else { format!("{count} {verb}") };
    let erased = contacts.iter().filter(|contact| contact.entered == Entered::Erased).count();
    let erased = if erased == 0 { String::new() } else { format!(", of {erased} what we entered was erased") };
    format!(
        "{}: {} no e-mail, {} something that is not one usable address{erased}",
        counted(contacts.len(), "contact"),
        verb(unwilling, "want"),
        verb(unusable, "hold")
    )
}

/// A currency without a bank account drops out; the letter goes on with the others.
fn payment_account(
    q: &Question<'_>,
    assessed: &mut [Assessed<'_>],
    payable: &BTreeSet<ItemId>,
    trail: &mut Trail<'_>,
) -> Result<(), No> {
    for one in assessed.iter_mut().filter(|one| one.is_active() && !payable.contains(&one.item.id)) {
        one.code = ItemCode::NoPaymentAccount;
    }
    let dropped: BTreeSet<String> = assessed
        .iter()
        .filter(|one| one.code == ItemCode::NoPaymentAccount)
        .map(|one| one.item.currency.to_string())
        .collect();
    let left = assessed.iter().any(|one| one.code == ItemCode::Reached);
    let inputs = if dropped.is_empty() {
        "a bank account for every currency".to_owned()
    } else {
        format!(
            "creditor {} has no bank account in {}",
            q.snapshot.account.creditor,
            dropped.into_iter().collect::<Vec<_>>().join(", ")
        )
    };
    gate(trail, ReasonCode::NoPaymentAccount, left, inputs, None)
}

fn out_summary(out: &[&Assessed<'_>]) -> String {
    let out: Vec<String> = out
        .iter()
        .map(|one| {
            let because = one.because.as_ref().map_or(String::new(), |because| format!(" ({because})"));
            format!("item {}: {}{because}", one.item.id, one.code.as_str())
        })
        .collect();
    if out.is_empty() { "no item is out".to_owned() } else { out.join(", ") }
}

/// The inputs where there is something to tell, else what is said of all others.
fn told(inputs: Option<String>, otherwise: &'static str) -> Cow<'static, str> {
    inputs.map_or(Cow::Borrowed(otherwise), Cow::Owned)
}

fn gate(
    trail: &mut Trail<'_>,
    code: ReasonCode,
    passed: bool,
    inputs: impl Into<Cow<'static, str>>,
    next_date: Option<NaiveDate>,
) -> Result<(), No> {
    trail.note(code.as_str(), passed, inputs, None);
    if passed { Ok(()) } else { Err(No { code, next_date }) }
}

fn next_day(day: NaiveDate) -> NaiveDate {
    days_after(day, 1_u32)
}

fn next_such_day(after: NaiveDate, allowed: impl Fn(NaiveDate) -> bool) -> Option<NaiveDate> {
    (1..=LOOK_AHEAD_DAYS).map(|ahead| days_after(after, ahead)).find(|day| allowed(*day))
}
