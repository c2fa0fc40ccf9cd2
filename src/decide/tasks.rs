//! What a person has to look at.

use std::collections::{BTreeMap, BTreeSet};

use rust_decimal::Decimal;

use crate::model::{
    CalendarMissing, EmailAddress, HoldTarget, ItemCode, PromiseState, ReasonCode, TaskKind, TaskRequest, Tone,
    Verdict, as_argument, counted,
};

use super::explain::Trail;
use super::gates::{self, Question};
use super::items::{self, Assessed};
use super::{recipient, register};

/// So many items, or ways in which they are broken, does a task name.
const LISTED: usize = 20;

/// The tasks that should exist after this decision; recording them twice makes one.
pub(super) fn tasks(
    q: &Question<'_>,
    assessed: &[Assessed<'_>],
    verdict: &Verdict,
    trail: &Trail<'_>,
) -> Vec<TaskRequest> {
    let mut tasks = Vec::new();
    match verdict {
        Verdict::No { code: ReasonCode::PreviousStageIncomplete, .. } => {
            let failed = gates::unresolved(q, assessed).map(|notice| TaskRequest {
                kind: TaskKind::ResolveNotice,
                subject: notice.id.to_string(),
                text: format!("the {} notice is {} and unresolved", notice.stage, notice.state.as_str()),
            });
            tasks.extend(failed);
            tasks.sort();
        }
        Verdict::No { code: ReasonCode::CalendarMissing, .. } => {
            tasks.extend(trail.calendar_missing().map(add_calendar));
        }
        Verdict::No { code: code @ ReasonCode::NoAddress, .. } => tasks.extend(code.task().map(|kind| TaskRequest {
            kind,
            subject: String::new(),
            text: trail.said(code.as_str()).unwrap_or(code.meaning()).to_owned(),
        })),
        // These two have a currency or a mailbox for a subject and follow below.
        Verdict::No { code: ReasonCode::NoPaymentAccount | ReasonCode::SharedMailbox, .. } | Verdict::Contact(_) => {}
        Verdict::No { code, .. } => tasks.extend(code.task().map(|kind| TaskRequest {
            kind,
            subject: String::new(),
            text: code.meaning().to_owned(),
        })),
    }
    let missing_accounts: BTreeSet<String> = assessed
        .iter()
        .filter(|one| one.is_active() && !recipient::is_payable(q, one.item))
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
    // Told once, and only where it keeps something from being demanded.
    let no_ladder = |one: &Assessed<'_>| one.code == ItemCode::BadData && one.item.bad_data.is_none();
    if let Some(named) = items::unknown_ladder(q.policy, q.snapshot).filter(|_| assessed.iter().any(no_ladder)) {
        tasks.push(TaskRequest {
            kind: TaskKind::FixData,
            subject: "ladder".to_owned(),
            text: format!("{named}: correct ledger.account.ladder, or add that ladder to the policy"),
        });
    }
    tasks.extend(to_mend(assessed));
    for one in assessed {
        if one.formal_waits && !tasks.iter().any(|task| task.kind == TaskKind::FormalTooSoon) {
            tasks.push(TaskRequest {
                kind: TaskKind::FormalTooSoon,
                subject: String::new(),
                text: "more items reached the formal stage soon after a formal notice".to_owned(),
            });
        }
        let subject = exhausted(one);
        if one.ladder_over && !tasks.iter().any(|task| task.kind == TaskKind::AfterLastStage && task.subject == subject)
        {
            tasks.push(TaskRequest {
                kind: TaskKind::AfterLastStage,
                subject,
                text: if q.passed_over.is_empty() {
                    "every stage is complete and the last deadline is over".to_owned()
                } else {
                    "every stage that applies is complete and the last deadline is over".to_owned()
                },
            });
        }
    }
    if assessed.iter().any(Assessed::keeps_case_open) {
        tasks.extend(unresolved_copies(q));
    }
    tasks.extend(recorded(q, assessed));
    let email = recipient::recipient(q.snapshot, q.creditor(), Tone::Friendly).and_then(|c| c.email.as_ref());
    if let Some(usage) = gates::mailbox_use(q, email).filter(|usage| usage.accounts > q.policy.accounts_per_mailbox) {
        let key = email.map(EmailAddress::mailbox_key);
        tasks.push(TaskRequest {
            kind: TaskKind::SharedMailbox,
            subject: key.unwrap_or_default(),
            text: format!("{} accounts share one mailbox", usage.accounts),
        });
    }
    tasks
}

/// Of a broken plan what fell due early is exhausted as one.
fn exhausted(one: &Assessed<'_>) -> String {
    match &one.item.part_of_plan {
        Some(part) if part.due_early.is_some() => format!("plan {}, agreed on {}", part.plan, part.agreed_on),
        _ => one.item.id.to_string(),
    }
}

/// Items that a person has to mend in the ledger: one task for each way in which they are broken.
fn to_mend(assessed: &[Assessed<'_>]) -> impl Iterator<Item = TaskRequest> {
    let mut causes: BTreeMap<&'static str, BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
    // What stops an instalment is told of the item behind it.
    for one in assessed.iter().filter(|one| one.item.part_of_plan.is_none()) {
        let what = match one.code {
            ItemCode::BadData => one.item.bad_data.as_deref(),
            ItemCode::DataDueDateMissing => Some("the item has no due date"),
            ItemCode::Withdrawn => Some("the item vanished while open and came back changed or late"),
            _ => None,
        };
        if let Some(what) = what {
            causes.entry(one.code.as_str()).or_default().entry(what).or_default().push(one.item.id.as_str());
        }
    }
    causes.into_iter().map(|(cause, broken)| {
        let mut broken: Vec<(&str, Vec<&str>)> = broken.into_iter().collect();
        for (_, items) in &mut broken {
            items.sort_unstable();
        }
        broken.sort_by(|(_, a), (_, b)| a.cmp(b));
        let told: Vec<String> =
            broken.iter().take(LISTED).map(|(what, items)| format!("{}: {what}", listed(items))).collect();
        let untold: usize = broken.iter().skip(LISTED).map(|(_, items)| items.len()).sum();
        let rest = if untold > 0 { format!("; and {} more", counted(untold, "item")) } else { String::new() };
        let text = format!("{}{rest}", told.join("; "));
        TaskRequest { kind: TaskKind::FixData, subject: cause.to_owned(), text }
    })
}

/// The first items by their ids, and how many there are besides.
fn listed(items: &[&str]) -> String {
    let first: Vec<&str> = items.iter().take(LISTED).copied().collect();
    let more = items.len().saturating_sub(LISTED);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", first.join(", "))
}

/// E-mail copies of posted letters that failed without being resolved: they demand nothing by themselves and stop nothing.
fn unresolved_copies(q: &Question<'_>) -> impl Iterator<Item = TaskRequest> {
    let copies = q.snapshot.history.notices.iter().filter(|notice| notice.items.is_empty());
    copies.filter(|copy| copy.state.needs_resolution()).map(|copy| TaskRequest {
        kind: TaskKind::ResolveNotice,
        subject: copy.id.to_string(),
        text: format!("the e-mail copy of the {} letter is {} and unresolved", copy.stage, copy.state.as_str()),
    })
}

fn add_calendar(missing: &CalendarMissing) -> TaskRequest {
    TaskRequest {
        kind: TaskKind::AddCalendar,
        subject: format!("{} {}", missing.country, missing.year),
        text: missing.to_string(),
    }
}

/// Tasks about what people recorded. Each is opened once.
fn recorded(q: &Question<'_>, assessed: &[Assessed<'_>]) -> Vec<TaskRequest> {
    let owed = |one: &Assessed<'_>| one.is_debit() && one.item.open_amount > Decimal::ZERO;
    let mut tasks = Vec::new();
    for cause in &q.snapshot.causes {
        let kind = q.policy.cause(cause.cause).task;
        // Without the calendar it would stop for ever.
        tasks.extend(register::last_day(q.policy, q.snapshot, cause).err().as_ref().map(add_calendar));
        let concerned = assessed.iter().any(|one| owed(one) && cause.concerns(&one.item.id));
        tasks.extend(kind.filter(|_| concerned).map(|kind| TaskRequest {
            kind,
            subject: format!("cause {}", cause.number),
            text: format!("{} {}", kind.meaning(), cause.tell()),
        }));
    }
    let mut disputes: Vec<_> = q.snapshot.holds.iter().filter_map(|hold| Some((hold, hold.cause?))).collect();
    disputes.sort_by_key(|(hold, _)| hold.number);
    for (hold, cause) in disputes {
        let HoldTarget::Item(item) = &hold.target else { continue };
        let disputed = hold.covers(q.today) && assessed.iter().any(|one| owed(one) && one.item.id == *item);
        let kind = q.policy.cause(cause).task.filter(|_| disputed && hold.number > 0);
        tasks.extend(kind.map(|kind| TaskRequest {
            kind,
            subject: format!("dispute {}", hold.number),
            text: format!("{} {} since {}, item {item}: {}", kind.meaning(), cause.as_str(), hold.since, hold.reason),
        }));
    }
    for (plan, _) in q.plans.iter().filter(|(_, standing)| standing.state.is_alive()) {
        tasks.extend(register::vanished(plan).map(|item| TaskRequest {
            kind: TaskKind::FixData,
            subject: format!("plan {}", plan.number),
            text: format!("item {item} {}; agree on plan {} anew, or end it", items::VANISHED, plan.number),
        }));
        let given_up = |one: &&Assessed<'_>| {
            one.code == ItemCode::WrittenOff && plan.items.iter().any(|item| item.item == one.item.id)
        };
        tasks.extend(assessed.iter().find(given_up).map(|one| TaskRequest {
            kind: TaskKind::ProposePlan,
            subject: format!("plan {} version {}", plan.number, plan.version),
            text: format!(
                "plan {} stands still, because its item {} is written off: agree on it anew (`dunningd plan {} \
                 --restructure {} …`), or end it",
                plan.number,
                one.item.id,
                as_argument(q.snapshot.account.id.as_str()),
                plan.number
            ),
        }));
    }
    for (promise, standing) in q.promises {
        let is_broken = matches!(standing.state, PromiseState::Broken | PromiseState::Partly);
        let is_owed = assessed.iter().any(|one| owed(one) && promise.items.iter().any(|item| item.item == one.item.id));
        // Once somebody else pursues the account, it is his to ask.
        if is_broken && is_owed && q.snapshot.handover.is_none() {
            tasks.push(TaskRequest {
                kind: TaskKind::PromiseBroken,
                subject: format!("promise {}", promise.number),
                text: promise.tell(*standing),
            });
        }
    }
    if let Some(handover) = &q.snapshot.handover {
        for paid in register::paid_since(handover, q.snapshot).iter().filter(|paid| paid.amount > Decimal::ZERO) {
            tasks.push(TaskRequest {
                kind: TaskKind::PaymentAfterHandover,
                subject: format!("handover {}: {paid}", handover.number),
                text: format!("{paid} came in since the account was handed over to {}", handover.to),
            });
        }
    }
    tasks
}
