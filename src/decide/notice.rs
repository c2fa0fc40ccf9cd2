//! The notice itself: its stage, what it demands, in which language, and where the money should go.

use std::collections::BTreeSet;

use chrono::NaiveDate;

use crate::model::{
    Channel, Contacting, Country, Demands, ItemCode, ItemId, PROTOCOL_DAYS_TO_POST, PartyKind, PastNotice, Policy,
    ReasonCode, Stage, Tone, counted, days_after, is_plan_stage, is_protocol_claim,
};

use super::explain::Trail;
use super::gates::{No, Question};
use super::items::{self, Assessed};
use super::recipient::{self, Reach};
use super::{gates, ladder};

/// Step 6: the furthest next stage among the candidates that somebody can pay. Called when there is a candidate; when
/// none can be paid, the furthest of all, so that the questions before `no_payment_account` have a stage to ask about.
pub(super) fn stage<'a>(q: &Question<'a>, assessed: &[Assessed<'_>]) -> &'a Stage {
    let furthest = |must_be_payable: bool| {
        assessed
            .iter()
            .filter(|one| one.code == ItemCode::Reached && (!must_be_payable || recipient::is_payable(q, one.item)))
            .filter_map(|one| one.next_stage.as_ref().map(|(n, _)| *n))
            .max()
    };
    let position = furthest(true).or_else(|| furthest(false)).unwrap_or_default();
    &q.ladder.stages[position]
}

/// Steps 7 and 11: language, template, and what the notice demands.
pub(super) fn write_to(
    q: &Question<'_>,
    assessed: &mut [Assessed<'_>],
    payable: &BTreeSet<ItemId>,
    stage: &Stage,
    reach: &Reach<'_>,
    trail: &mut Trail<'_>,
) -> Result<Contacting, No> {
    let no_template = || No { code: ReasonCode::NoTemplate, next_date: None };
    let language = recipient::language(q.policy, q.snapshot, stage, reach.contact, q.creditor());
    let found = language.filter(|(language, _)| q.policy.templates.has(&stage.template, *language));
    let inputs = match language {
        Some((language, why)) => format!("template {} in {language} ({why})", stage.template),
        None => "no listed language for recipient, account, country or creditor".to_owned(),
    };
    trail.note(ReasonCode::NoTemplate.as_str(), found.is_some(), inputs, Some("languages"));
    let (language, _) = found.ok_or_else(no_template)?;

    let calendars = &q.policy.calendars;
    let days = stage.days_to_respond(q.snapshot.account.country, q.snapshot.account.party_kind);
    let leaves_by = leaves_by(q, assessed, payable, stage);
    let respond_by = match days.map(|days| days_after(leaves_by, days)).zip(q.debtor_country()) {
        None => None,
        Some((day, country)) => match calendars.deadline(country, day) {
            Ok(day) => Some(day),
            Err(missing) => return Err(gates::calendar_missing(&missing, &format!("the deadline of {day}"), trail)),
        },
    };
    // Those who do it work where the creditor is.
    let lapses_on = match stage.lapse_after_working_days.zip(q.creditor()) {
        None => None,
        Some((days, creditor)) => match calendars.add_working_days(creditor.country, q.today, days) {
            Ok(day) => Some(day),
            Err(missing) => return Err(gates::calendar_missing(&missing, "the day on which the task lapses", trail)),
        },
    };

    let position = q.ladder.position(&stage.name).unwrap_or_default();
    let anchor = anchor(assessed, position).ok_or_else(no_template)?;
    for one in assessed.iter_mut() {
        if is_demanded(stage, position, one) {
            one.code = ItemCode::Demanded;
        } else if (one.is_active() || one.code == ItemCode::InGrace) && payable.contains(&one.item.id) {
            one.code = ItemCode::Information;
        }
    }
    let overdue = items::overdue_remainder(assessed);
    let later = || q.ladder.stages.iter().skip(position + 1).filter(|next| !is_plan_stage(&next.name));
    let follows =
        |one: &Assessed<'_>| later().find(|next| ladder::applies(q, next, &overdue, one)).map(|next| next.tone);
    let demanded: Vec<&Assessed<'_>> = assessed.iter().filter(|one| one.code == ItemCode::Demanded).collect();
    trail.note_at(
        "contact",
        true,
        format!("stage {}, anchor item {anchor}, {} demanded", stage.name, counted(demanded.len(), "item")),
        Some(&stage.location),
    );
    let accepted = || q.snapshot.history.notices.iter().filter(|notice| notice.state.completes_stage());
    let opened_on = q.snapshot.case.as_ref().map(|case| case.opened_on);
    let written = || accepted().filter(|notice| notice.was_written());
    let in_this_case = |n: &PastNotice| opened_on.is_some_and(|day| n.accepted_on >= Some(day));
    // A case may have closed in between, while what was demanded more sharply was disputed.
    let is_owed = |n: &PastNotice| n.items.iter().any(|(item, _)| gates::still_owed(assessed, item));
    let by_us = written().any(|n| n.tone > stage.tone && (in_this_case(n) || is_owed(n)));
    let is_sharper = |name| q.ladder.position(name).is_some_and(|n| q.ladder.stages[n].tone > stage.tone);
    let mut elsewhere = q.snapshot.history.waivers.iter().filter(|waiver| waiver.elsewhere.is_some());
    let escalated =
        by_us || elsewhere.any(|waiver| is_sharper(&waiver.stage) && gates::still_owed(assessed, &waiver.item));
    let mut earlier: Vec<&PastNotice> = accepted()
        .filter(|notice| !notice.message_id.is_empty())
        .filter(|notice| notice.items.iter().any(|(item, _)| demanded.iter().any(|one| &one.item.id == item)))
        .collect();
    earlier.sort_by_key(|notice| (notice.accepted_on, notice.id));
    Ok(Contacting {
        stage: stage.name.clone(),
        tone: stage.tone,
        template: stage.template.clone(),
        anchor,
        language,
        channel: stage.channel(),
        contact: reach.contact.map(|contact| contact.id.clone()),
        recipient: reach.email.cloned(),
        phone: reach.phone.map(str::to_owned),
        lapses_on,
        respond_by,
        requisites: demanded
            .iter()
            .filter_map(|one| {
                let requisites = recipient::requisites(q.snapshot, q.creditor(), one.item)?;
                Some((one.item.id.clone(), requisites.clone()))
            })
            .collect(),
        // A consequence that holds for some of them only is no consequence of this letter.
        next_tone: {
            let mut tones = demanded.iter().map(|one| follows(one));
            let first = tones.next().flatten();
            first.filter(|_| tones.all(|tone| tone == first))
        },
        escalated,
        references: earlier.into_iter().map(|notice| notice.message_id.clone()).collect(),
    })
}

/// The last day on which the notice may leave, from which the debtor has his days to answer. One that goes out by itself
/// leaves today.
fn leaves_by(q: &Question<'_>, assessed: &[Assessed<'_>], payable: &BTreeSet<ItemId>, stage: &Stage) -> NaiveDate {
    let by_a_person = match stage.channel() {
        Channel::Letter => true,
        Channel::Email => q.snapshot.approvals.all || gates::waits_for_a_person(q, assessed, payable, stage),
        Channel::Call | Channel::Handover => false,
    };
    if !by_a_person {
        return q.today;
    }
    let kind = q.snapshot.account.party_kind;
    days_after(q.today, days_with_a_person(q.policy, stage.tone, q.debtor_country(), kind))
}

/// For how many days after its own a notice may leave that a person posts or approves.
#[must_use]
pub fn days_with_a_person(policy: &Policy, tone: Tone, country: Option<Country>, kind: PartyKind) -> u32 {
    let days = policy.approval.valid_days;
    if is_protocol_claim(tone, country, kind) { days.min(PROTOCOL_DAYS_TO_POST) } else { days }
}

/// Whether a notice of that stage demands an item that can be paid.
pub(super) fn is_demanded(stage: &Stage, position: usize, one: &Assessed<'_>) -> bool {
    let reached = one.next_stage.as_ref().map(|(n, _)| *n);
    one.code == ItemCode::Reached
        && match stage.demands {
            Demands::AllOverdue => reached <= Some(position),
            Demands::Reached => reached == Some(position),
        }
}

/// The item that decides the tone: the older due date, then the larger remainder within one currency, then the id.
/// Remainders of different currencies are never compared: the winner of each currency goes on by id.
fn anchor(assessed: &[Assessed<'_>], position: usize) -> Option<ItemId> {
    let at_stage: Vec<&Assessed<'_>> = assessed
        .iter()
        .filter(|one| one.code == ItemCode::Reached && one.next_stage.as_ref().is_some_and(|(n, _)| *n == position))
        .collect();
    let age = |one: &Assessed<'_>| (one.effective_due, one.item.due_date);
    let oldest = at_stage.iter().map(|one| age(one)).min()?;
    let tied = || at_stage.iter().filter(|one| age(one) == oldest);
    let currencies: BTreeSet<_> = tied().map(|one| one.item.currency).collect();
    currencies
        .into_iter()
        .filter_map(|currency| {
            tied().filter(|one| one.item.currency == currency).min_by_key(|one| (-one.remaining(), &one.item.id))
        })
        .map(|one| one.item.id.clone())
        .min()
}
