//! The questions about an account, in their fixed order: the first that says no gives the reason code.

use std::collections::BTreeSet;

use chrono::{Days, NaiveDate};
use rust_decimal::Decimal;

use crate::model::{
    Contact, Contacting, Creditor, Demands, HoldTarget, ItemCode, ItemId, Ladder, PastNotice, Policy, ReasonCode,
    SendingDay, Snapshot, Stage, TaskKind, TaskRequest, Tone, Verdict,
};

use super::explain::Trail;
use super::items::{self, Assessed};
use super::{ladder, recipient};

/// What is asked about.
pub(super) struct Question<'a> {
    pub(super) policy: &'a Policy,
    pub(super) snapshot: &'a Snapshot,
    pub(super) ladder: &'a Ladder,
    pub(super) today: NaiveDate,
}

/// A refusal, and the first day on which the answer may differ by itself.
pub(super) struct No {
    pub(super) code: ReasonCode,
    pub(super) next_date: Option<NaiveDate>,
}

/// How far a search for the next possible day looks ahead.
const LOOK_AHEAD_DAYS: u64 = 400;

impl Question<'_> {
    fn creditor(&self) -> Option<&Creditor> {
        self.policy.creditors.get(&self.snapshot.account.creditor)
    }
}

/// Asks every question in order. On a yes, `assessed` carries `Demanded` and `Information`.
pub(super) fn ask(q: &Question<'_>, assessed: &mut [Assessed<'_>], trail: &mut Trail<'_>) -> Result<Contacting, No> {
    stops(q, assessed, trail)?;
    anything_due(q, assessed, trail)?;
    let payable: BTreeSet<ItemId> = assessed
        .iter()
        .filter(|one| recipient::requisites(q.snapshot, q.creditor(), one.item).is_some())
        .map(|one| one.item.id.clone())
        .collect();
    let stage = notice_stage(q, assessed, &payable);
    let contact = recipient::recipient(q.snapshot, q.creditor(), stage.tone);
    contact_cap(q, contact, trail)?;
    mailbox(q, contact, trail)?;
    sending_day(q, trail)?;
    let contact = address(q, contact, trail)?;
    payment_account(q, assessed, &payable, trail)?;
    write_to(q, assessed, &payable, stage, contact, trail)
}

/// What stops an account whatever it owes.
fn stops(q: &Question<'_>, assessed: &[Assessed<'_>], trail: &mut Trail<'_>) -> Result<(), No> {
    let paused = q.snapshot.paused.as_ref();
    gate(trail, ReasonCode::Paused, paused.is_none(), paused.map_or("nothing is paused".into(), Clone::clone), None)?;

    let account = &q.snapshot.account;
    let by_ledger = match (account.hold_until, &account.hold_reason) {
        (Some(last), reason) => (q.today <= last).then_some((Some(last), reason.clone())),
        (None, Some(reason)) => Some((None, Some(reason.clone()))),
        (None, None) => None,
    };
    let by_person = || {
        let stops = |target: &HoldTarget| *target == HoldTarget::Account(account.id.clone());
        let hold = q.snapshot.holds.iter().filter(|hold| stops(&hold.target) && hold.covers(q.today));
        hold.max_by_key(|hold| (hold.until.is_none(), hold.until)).map(|h| (h.until, Some(h.reason.clone())))
    };
    let hold = by_ledger.or_else(by_person);
    let inputs = match &hold {
        None => "no hold on the account".to_owned(),
        Some((until, reason)) => format!(
            "held {}{}",
            until.map_or("until it is released".to_owned(), |last| format!("up to and including {last}")),
            reason.as_ref().map_or(String::new(), |reason| format!(": {reason}")),
        ),
    };
    let after = hold.as_ref().and_then(|(until, _)| *until).map(next_day);
    gate(trail, ReasonCode::AccountHold, hold.is_none(), inputs, after)?;

    let notices = &q.snapshot.history.notices;
    let pending = notices.iter().find(|notice| notice.state.is_pending());
    let inputs = pending.map_or("no notice is on its way".to_owned(), |notice| {
        format!("notice {} ({}) is {}", notice.id, notice.stage, notice.state.as_str())
    });
    gate(trail, ReasonCode::NoticePending, pending.is_none(), inputs, None)?;

    let failed = notices.iter().find(|notice| is_unresolved(q, assessed, notice));
    let inputs = failed.map_or("no notice failed without being resolved".to_owned(), |notice| {
        format!("notice {} ({}) is {} and unresolved", notice.id, notice.stage, notice.state.as_str())
    });
    gate(trail, ReasonCode::PreviousStageIncomplete, failed.is_none(), inputs, None)?;

    let deadline = notices
        .iter()
        .filter(|notice| notice.tone >= Tone::Final && notice.state.completes_stage())
        .filter(|notice| notice.items.iter().any(|(item, _)| still_owed(assessed, item)))
        .filter_map(|notice| notice.respond_by)
        .filter(|deadline| *deadline >= q.today)
        .max();
    let inputs = deadline.map_or("no deadline of a final or later notice is running".to_owned(), |deadline| {
        format!("a final or later notice gave time up to and including {deadline}")
    });
    gate(trail, ReasonCode::DeadlineRunning, deadline.is_none(), inputs, deadline.map(next_day))
}

/// A failed notice matters as long as one of its items is owed and has not completed that stage otherwise.
fn is_unresolved(q: &Question<'_>, assessed: &[Assessed<'_>], notice: &PastNotice) -> bool {
    notice.state.needs_resolution()
        && notice
            .items
            .iter()
            .any(|(item, stage)| still_owed(assessed, item) && !ladder::is_complete(q.snapshot, item, stage))
}

fn still_owed(assessed: &[Assessed<'_>], item: &ItemId) -> bool {
    assessed.iter().any(|one| &one.item.id == item && one.keeps_case_open())
}

/// Whether anything is owed, late and worth a letter, and whether a stage is due for it.
fn anything_due(q: &Question<'_>, assessed: &[Assessed<'_>], trail: &mut Trail<'_>) -> Result<(), No> {
    let open = assessed.iter().filter(|one| one.code != ItemCode::Settled).count();
    gate(trail, ReasonCode::NothingOpen, open > 0, format!("{open} open items"), None)?;

    let in_play: Vec<&Assessed<'_>> = assessed.iter().filter(|one| one.is_debit() && !one.code.is_out()).collect();
    let overdue = in_play.iter().filter(|one| one.is_overdue()).count();
    let out = assessed
        .iter()
        .filter(|one| one.is_debit() && one.code.is_out() && one.code != ItemCode::Settled)
        .filter(|one| one.is_overdue() || one.days.is_none())
        .count();
    let first_due = || {
        let first =
            q.ladder.stages.iter().filter(|stage| stage.enabled && stage.days > 0).map(|stage| stage.days).min();
        let due = in_play.iter().filter_map(|one| one.effective_due).min()?;
        Some(due + chrono::Duration::days(i64::from(first.unwrap_or(1))))
    };
    let inputs = format!("{overdue} of {} open items overdue, {out} more are overdue but out", in_play.len());
    gate(trail, ReasonCode::NotOverdue, overdue + out > 0, inputs, first_due())?;
    gate(trail, ReasonCode::AllItemsOut, overdue > 0, out_summary(assessed), None)?;

    let overdue: Vec<&Assessed<'_>> = in_play.into_iter().filter(|one| one.is_overdue()).collect();
    let covered = overdue.iter().all(|one| one.code == ItemCode::Covered);
    let remainder = items::overdue_remainder(assessed);
    gate(trail, ReasonCode::AccountInCredit, !covered, format!("{remainder} left after credits"), None)?;

    let worth: Vec<&&Assessed<'_>> =
        overdue.iter().filter(|one| !matches!(one.code, ItemCode::Covered | ItemCode::BelowMinimum)).collect();
    let minimums: Vec<String> = remainder
        .iter()
        .map(|money| {
            let minimum = q.policy.minimums.of(money.currency).unwrap_or_default();
            format!("{money} overdue, minimum {}", crate::model::Money::new(minimum, money.currency))
        })
        .collect();
    let key = remainder.iter().next().map(|money| format!("minimum.{}", money.currency));
    let passed = !worth.is_empty();
    trail.note(ReasonCode::BelowMinimum.as_str(), passed, minimums.join("; "), key.as_deref());
    if !passed {
        return Err(No { code: ReasonCode::BelowMinimum, next_date: None });
    }

    let oldest = worth.iter().filter_map(|one| one.days).max().unwrap_or_default();
    let past_grace = worth.iter().any(|one| one.code != ItemCode::InGrace);
    let grace_ends = worth.iter().filter_map(|one| items::end_of_grace(q.policy, one)).min();
    trail.note(
        ReasonCode::InGrace.as_str(),
        past_grace,
        format!("oldest item {oldest} days late, {} days of grace", q.policy.item_grace_days),
        Some("item_grace_days"),
    );
    if !past_grace {
        return Err(No { code: ReasonCode::InGrace, next_date: grace_ends });
    }

    let wanted = i64::from(q.policy.account_min_arrears_days);
    trail.note(
        ReasonCode::AccountMinArrears.as_str(),
        oldest >= wanted,
        format!("oldest item {oldest} days late, policy asks for {wanted}"),
        Some("account_min_arrears_days"),
    );
    if oldest < wanted {
        let missing = u64::try_from(wanted - oldest).unwrap_or(0);
        return Err(No { code: ReasonCode::AccountMinArrears, next_date: Some(q.today + Days::new(missing)) });
    }
    stage_due(q, &worth, trail)
}

/// Whether some item's next stage is due.
fn stage_due(q: &Question<'_>, worth: &[&&Assessed<'_>], trail: &mut Trail<'_>) -> Result<(), No> {
    let climbing: Vec<&&&Assessed<'_>> = worth.iter().filter(|one| one.is_active()).collect();
    let earliest = climbing.iter().filter(|one| one.next_stage.is_some()).min_by_key(|one| (one.due_on, &one.item.id));
    let inputs = earliest.map_or("every stage is complete".to_owned(), |one| {
        let (stage, due) =
            (one.next_stage.as_ref().map_or("", |(_, name)| name.as_str()), one.due_on.unwrap_or(q.today));
        format!("item {}: next stage {stage} due on {due}", one.item.id)
    });
    let location = earliest
        .and_then(|one| one.next_stage.as_ref())
        .and_then(|(n, _)| q.ladder.stages.get(*n))
        .map_or("", |stage| stage.location.as_str());
    let due = climbing.iter().any(|one| one.code == ItemCode::Reached);
    let waiting = |codes: &[ItemCode]| climbing.iter().any(|one| codes.contains(&one.code));
    let next_date = earliest.and_then(|one| one.due_on);
    let code = if waiting(&[ItemCode::TooSoon, ItemCode::FormalTooSoon]) {
        ReasonCode::TooSoon
    } else if waiting(&[ItemCode::BeforeFirstStage]) {
        ReasonCode::BeforeFirstStage
    } else {
        ReasonCode::LadderExhausted
    };
    trail.note_at(if due { "stage_due" } else { code.as_str() }, due, inputs, location);
    if due { Ok(()) } else { Err(No { code, next_date }) }
}

/// Step 6: the furthest next stage among the candidates that somebody can pay. Called when there is a candidate; when
/// none can be paid, the furthest of all, so that the questions before `no_payment_account` have a stage to ask about.
fn notice_stage<'a>(q: &Question<'a>, assessed: &[Assessed<'_>], payable: &BTreeSet<ItemId>) -> &'a Stage {
    let furthest = |must_be_payable: bool| {
        assessed
            .iter()
            .filter(|one| one.code == ItemCode::Reached && (!must_be_payable || payable.contains(&one.item.id)))
            .filter_map(|one| one.next_stage.as_ref().map(|(n, _)| *n))
            .max()
    };
    let position = furthest(true).or_else(|| furthest(false)).unwrap_or_default();
    &q.ladder.stages[position]
}

/// Step 9: counted contacts of the account, and of the mailbox over all accounts and creditors.
fn contact_cap(q: &Question<'_>, contact: Option<&Contact>, trail: &mut Trail<'_>) -> Result<(), No> {
    let history = &q.snapshot.history;
    let of_account: Vec<NaiveDate> =
        history.notices.iter().filter_map(|n| n.counted_on).chain(history.other_contacts.iter().copied()).collect();
    let key = contact.and_then(|contact| contact.email.as_ref()).map(crate::model::EmailAddress::mailbox_key);
    let of_mailbox = key.and_then(|key| q.snapshot.mailboxes.get(&key)).map(|usage| usage.contacts.as_slice());
    let allowed = |day: NaiveDate| {
        [of_account.as_slice(), of_mailbox.unwrap_or_default()].iter().all(|contacts| {
            q.policy.contact_caps.iter().all(|cap| {
                let within = contacts.iter().filter(|at| (day - **at).num_days() < i64::from(cap.days));
                within.count() < cap.contacts as usize
            })
        })
    };
    let last = of_account.iter().chain(of_mailbox.unwrap_or_default()).max();
    let inputs = format!(
        "last counted contact {}, at most {}",
        last.map_or("never".to_owned(), NaiveDate::to_string),
        q.policy
            .contact_caps
            .iter()
            .map(|c| format!("{} per {} days", c.contacts, c.days))
            .collect::<Vec<_>>()
            .join(", ")
    );
    let passed = allowed(q.today);
    trail.note(ReasonCode::ContactCap.as_str(), passed, inputs, Some("contact_cap"));
    if passed { Ok(()) } else { Err(No { code: ReasonCode::ContactCap, next_date: next_such_day(q.today, allowed) }) }
}

/// One notice per mailbox and creditor per day.
fn mailbox(q: &Question<'_>, contact: Option<&Contact>, trail: &mut Trail<'_>) -> Result<(), No> {
    let Some(usage) = mailbox_use(q, contact) else { return Ok(()) };
    let inputs = format!(
        "{} accounts use the mailbox{}",
        usage.accounts,
        if usage.notice_today { "; it has its notice for today" } else { "" }
    );
    gate(trail, ReasonCode::SharedMailbox, !usage.notice_today, inputs, Some(next_day(q.today)))
}

fn mailbox_use<'a>(q: &Question<'a>, contact: Option<&Contact>) -> Option<&'a crate::model::MailboxUse> {
    let key = contact?.email.as_ref()?.mailbox_key();
    q.snapshot.mailboxes.get(&key)
}

/// Step 10: a sending day in both countries.
fn sending_day(q: &Question<'_>, trail: &mut Trail<'_>) -> Result<(), No> {
    let countries: Vec<_> =
        q.creditor().map(|creditor| creditor.country).into_iter().chain(q.snapshot.account.country).collect();
    let on = |day: NaiveDate| -> Vec<SendingDay> {
        countries.iter().map(|country| q.policy.calendars.sending_day(*country, day)).collect()
    };
    let today = on(q.today);
    let missing = today.contains(&SendingDay::CalendarMissing);
    let inputs = format!("{} is a {}", q.today, q.today.format("%A"));
    let passed = today.iter().all(|day| *day == SendingDay::Yes);
    let code = if missing { ReasonCode::CalendarMissing } else { ReasonCode::OutsideSendDays };
    trail.note(code.as_str(), passed, inputs, Some("send_days"));
    if passed {
        return Ok(());
    }
    let next = next_such_day(q.today, |day| on(day).iter().all(|day| *day == SendingDay::Yes));
    Err(No { code, next_date: next.filter(|_| !missing) })
}

fn address<'a>(q: &Question<'_>, contact: Option<&'a Contact>, trail: &mut Trail<'_>) -> Result<&'a Contact, No> {
    let contacts = &q.snapshot.contacts;
    let inputs = match contact {
        Some(contact) => format!("contact {} ({})", contact.id, contact.role.as_str()),
        None => format!(
            "{} contacts: {} want no e-mail, {} hold something that is not one usable address",
            contacts.len(),
            contacts.iter().filter(|c| c.no_email).count(),
            contacts.iter().filter(|c| c.unusable_email).count()
        ),
    };
    trail.note(ReasonCode::NoAddress.as_str(), contact.is_some(), inputs, None);
    contact.ok_or(No { code: ReasonCode::NoAddress, next_date: None })
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

/// Steps 7 and 11: language, template, and what the notice demands.
fn write_to(
    q: &Question<'_>,
    assessed: &mut [Assessed<'_>],
    payable: &BTreeSet<ItemId>,
    stage: &Stage,
    contact: &Contact,
    trail: &mut Trail<'_>,
) -> Result<Contacting, No> {
    let no_template = || No { code: ReasonCode::NoTemplate, next_date: None };
    let language = recipient::language(q.policy, q.snapshot, contact, q.creditor());
    let found = language.filter(|(language, _)| q.policy.templates.has(&stage.template, *language));
    let inputs = match language {
        Some((language, why)) => format!("template {} in {language} ({why})", stage.template),
        None => "no listed language for recipient, account, country or creditor".to_owned(),
    };
    trail.note(ReasonCode::NoTemplate.as_str(), found.is_some(), inputs, Some("languages"));
    let (language, _) = found.ok_or_else(no_template)?;
    let recipient = contact.email.clone().ok_or(No { code: ReasonCode::NoAddress, next_date: None })?;

    let position = q.ladder.position(&stage.name).unwrap_or_default();
    let anchor = anchor(assessed, position).ok_or_else(no_template)?;
    for one in assessed.iter_mut() {
        let reached = one.next_stage.as_ref().map(|(n, _)| *n);
        let demanded = one.code == ItemCode::Reached
            && match stage.demands {
                Demands::AllOverdue => reached <= Some(position),
                Demands::Reached => reached == Some(position),
            };
        if demanded {
            one.code = ItemCode::Demanded;
        } else if (one.is_active() || one.code == ItemCode::InGrace) && payable.contains(&one.item.id) {
            one.code = ItemCode::Information;
        }
    }
    let demanded: Vec<&Assessed<'_>> = assessed.iter().filter(|one| one.code == ItemCode::Demanded).collect();
    trail.note_at(
        "contact",
        true,
        format!("stage {}, anchor item {anchor}, {} items demanded", stage.name, demanded.len()),
        &stage.location,
    );
    let accepted = || q.snapshot.history.notices.iter().filter(|notice| notice.state.completes_stage());
    let opened_on = q.snapshot.case.as_ref().map(|case| case.opened_on);
    let escalated = accepted().any(|n| n.tone > stage.tone && opened_on.is_some_and(|day| n.accepted_on >= Some(day)));
    let mut earlier: Vec<&PastNotice> = accepted()
        .filter(|notice| notice.items.iter().any(|(item, _)| demanded.iter().any(|one| &one.item.id == item)))
        .collect();
    earlier.sort_by_key(|notice| (notice.accepted_on, notice.id));
    Ok(Contacting {
        stage: stage.name.clone(),
        tone: stage.tone,
        template: stage.template.clone(),
        anchor,
        language,
        contact: contact.id.clone(),
        recipient,
        respond_by: stage
            .respond_within
            .map(|days| q.policy.calendars.roll_to_working_day(q.today + Days::new(u64::from(days)))),
        requisites: demanded
            .iter()
            .filter_map(|one| {
                let requisites = recipient::requisites(q.snapshot, q.creditor(), one.item)?;
                Some((one.item.id.clone(), requisites.clone()))
            })
            .collect(),
        next_tone: q.ladder.stages.iter().skip(position + 1).find(|next| next.enabled).map(|next| next.tone),
        escalated,
        references: earlier.into_iter().map(|notice| notice.message_id.clone()).collect(),
    })
}

/// The item that decides the tone: the older due date, then the larger remainder within one currency, then the id.
/// Remainders of different currencies are never compared: the winner of each currency goes on by id.
fn anchor(assessed: &[Assessed<'_>], position: usize) -> Option<ItemId> {
    let at_stage: Vec<&Assessed<'_>> = assessed
        .iter()
        .filter(|one| one.code == ItemCode::Reached && one.next_stage.as_ref().is_some_and(|(n, _)| *n == position))
        .collect();
    let oldest = at_stage.iter().map(|one| one.effective_due).min()?;
    let tied = || at_stage.iter().filter(|one| one.effective_due == oldest);
    let currencies: BTreeSet<_> = tied().map(|one| one.item.currency).collect();
    currencies
        .into_iter()
        .filter_map(|currency| {
            tied().filter(|one| one.item.currency == currency).min_by_key(|one| (-one.remaining(), &one.item.id))
        })
        .map(|one| one.item.id.clone())
        .min()
}

/// The tasks that should exist after this decision; recording them twice makes one.
pub(super) fn tasks(q: &Question<'_>, assessed: &[Assessed<'_>], verdict: &Verdict) -> Vec<TaskRequest> {
    let mut tasks = Vec::new();
    if let Verdict::No { code, .. } = verdict {
        let own = matches!(code, ReasonCode::NoPaymentAccount | ReasonCode::SharedMailbox);
        if let Some(kind) = code.task().filter(|_| !own) {
            tasks.push(TaskRequest { kind, subject: String::new(), text: code.meaning().to_owned() });
        }
    }
    let missing_accounts: BTreeSet<String> = assessed
        .iter()
        .filter(|one| one.code == ItemCode::NoPaymentAccount)
        .map(|one| one.item.currency.to_string())
        .collect();
    for currency in missing_accounts {
        tasks.push(TaskRequest {
            kind: TaskKind::AddBankAccount,
            text: format!("creditor {} has no bank account in {currency}", q.snapshot.account.creditor),
            subject: currency,
        });
    }
    for currency in items::currencies_without_minimum(q.policy, assessed) {
        tasks.push(TaskRequest {
            kind: TaskKind::FixData,
            subject: currency.to_string(),
            text: format!("the policy has neither a minimum nor a rate for {currency}"),
        });
    }
    for one in assessed {
        let fix = match one.code {
            ItemCode::BadData => one.item.bad_data.clone(),
            ItemCode::DataDueDateMissing => Some("the item has no due date".to_owned()),
            ItemCode::Withdrawn => Some("the item vanished while open and came back changed or late".to_owned()),
            _ => None,
        };
        if let Some(text) = fix {
            tasks.push(TaskRequest { kind: TaskKind::FixData, subject: one.item.id.to_string(), text });
        }
        if one.code == ItemCode::FormalTooSoon && !tasks.iter().any(|task| task.kind == TaskKind::FormalTooSoon) {
            tasks.push(TaskRequest {
                kind: TaskKind::FormalTooSoon,
                subject: String::new(),
                text: "more items reached the formal stage soon after a formal notice".to_owned(),
            });
        }
        if one.ladder_over && one.remaining() > Decimal::ZERO {
            tasks.push(TaskRequest {
                kind: TaskKind::AfterLastStage,
                subject: one.item.id.to_string(),
                text: "every stage is complete and the last deadline is over".to_owned(),
            });
        }
    }
    let contact = recipient::recipient(q.snapshot, q.creditor(), Tone::Friendly);
    if let Some(usage) = mailbox_use(q, contact).filter(|usage| usage.accounts > q.policy.accounts_per_mailbox) {
        let key = contact.and_then(|c| c.email.as_ref()).map(crate::model::EmailAddress::mailbox_key);
        tasks.push(TaskRequest {
            kind: TaskKind::SharedMailbox,
            subject: key.unwrap_or_default(),
            text: format!("{} accounts share one mailbox", usage.accounts),
        });
    }
    tasks
}

fn out_summary(assessed: &[Assessed<'_>]) -> String {
    let out: Vec<String> = assessed
        .iter()
        .filter(|one| one.is_debit() && one.code.is_out() && one.code != ItemCode::Settled)
        .map(|one| format!("item {}: {}", one.item.id, one.code.as_str()))
        .collect();
    if out.is_empty() { "no item is out".to_owned() } else { out.join(", ") }
}

fn gate(
    trail: &mut Trail<'_>,
    code: ReasonCode,
    passed: bool,
    inputs: String,
    next_date: Option<NaiveDate>,
) -> Result<(), No> {
    trail.note(code.as_str(), passed, inputs, None);
    if passed { Ok(()) } else { Err(No { code, next_date }) }
}

fn next_day(day: NaiveDate) -> NaiveDate {
    day + Days::new(1)
}

fn next_such_day(after: NaiveDate, allowed: impl Fn(NaiveDate) -> bool) -> Option<NaiveDate> {
    (1..=LOOK_AHEAD_DAYS).map(|ahead| after + Days::new(ahead)).find(|day| allowed(*day))
}
