//! What a person has to look at.

use std::collections::BTreeSet;

use rust_decimal::Decimal;

use crate::model::{CalendarMissing, EmailAddress, ItemCode, ReasonCode, TaskKind, TaskRequest, Tone, Verdict};

use super::gates::{self, Question};
use super::items::{self, Assessed};
use super::recipient;

/// The tasks that should exist after this decision; recording them twice makes one.
pub(super) fn tasks(
    q: &Question<'_>,
    assessed: &[Assessed<'_>],
    verdict: &Verdict,
    calendar_missing: Option<&CalendarMissing>,
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
            tasks.extend(calendar_missing.map(|missing| TaskRequest {
                kind: TaskKind::AddCalendar,
                subject: format!("{} {}", missing.country, missing.year),
                text: missing.to_string(),
            }));
        }
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
        .filter(|one| one.is_active() && recipient::requisites(q.snapshot, q.creditor(), one.item).is_none())
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
        if one.formal_waits && !tasks.iter().any(|task| task.kind == TaskKind::FormalTooSoon) {
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
    if let Some(usage) = gates::mailbox_use(q, contact).filter(|usage| usage.accounts > q.policy.accounts_per_mailbox) {
        let key = contact.and_then(|c| c.email.as_ref()).map(EmailAddress::mailbox_key);
        tasks.push(TaskRequest {
            kind: TaskKind::SharedMailbox,
            subject: key.unwrap_or_default(),
            text: format!("{} accounts share one mailbox", usage.accounts),
        });
    }
    tasks
}
