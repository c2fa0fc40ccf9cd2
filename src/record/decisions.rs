//! One page of a run's conclusions: decisions that changed, cases, tasks and planned notices, in one transaction.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::model::{
    Actor, CaseChange, Contacting, Decision, EmailAddress, Event, EventKind, ItemCode, Ladder, OnUnknown, Snapshot,
    TaskKind, TaskRequest, Verdict,
};

use super::notices::plan;
use super::runs::RunStart;
use super::{RecordError, append, texts_stored};

/// A notice ready to be recorded: its content is frozen from here on.
#[derive(Debug, Clone)]
pub struct Planned {
    pub notice: Uuid,
    pub contacting: Contacting,
    pub on_unknown: OnUnknown,
    pub message_id: String,
    pub sender: EmailAddress,
    pub bytes: Vec<u8>,
    /// Random; makes the commitments in the log say nothing about what they commit to.
    pub salt: [u8; 32],
    pub valid_until: NaiveDate,
    pub as_of: Option<NaiveDate>,
    pub fingerprint: String,
    /// What the letter demands, as printed.
    pub letter: serde_json::Value,
}

/// What a run concluded for one account.
#[derive(Debug)]
pub struct PageWrite<'a> {
    pub snapshot: &'a Snapshot,
    pub decision: &'a Decision,
    pub ladder: &'a Ladder,
    pub planned: Option<&'a Planned>,
}

/// Writes a page of conclusions. Decisions equal to the account's previous one leave no row.
///
/// # Errors
/// When the database refuses; nothing of the page is written then, once the caller rolls back.
pub async fn write_page(
    connection: &mut PgConnection,
    run: &RunStart,
    actor: &Actor,
    page: &[PageWrite<'_>],
) -> Result<(), RecordError> {
    let mut events = Vec::new();
    write_decisions(connection, run, page).await?;
    for one in page {
        events.extend(write_case(connection, run, actor, one).await?);
        for task in &one.decision.tasks {
            events.extend(open_task(connection, run, actor, one.decision, task).await?);
        }
        if let Some(planned) = one.planned {
            events.push(plan(connection, run, actor, one.snapshot, one.decision, planned).await?);
        }
    }
    if !events.is_empty() {
        append(connection, &events).await?;
    }
    Ok(())
}

async fn write_decisions(
    connection: &mut PgConnection,
    run: &RunStart,
    page: &[PageWrite<'_>],
) -> Result<(), RecordError> {
    let accounts: Vec<String> = page.iter().map(|one| one.decision.account.to_string()).collect();
    let previous: BTreeMap<String, String> = sqlx::query!(
        r#"SELECT a.account_id AS "account_id!", d.identity_sha256
           FROM unnest($1::text[]) AS a (account_id)
           CROSS JOIN LATERAL (SELECT identity_sha256 FROM dunning.decision d
                               WHERE d.account_id = a.account_id ORDER BY decision_id DESC LIMIT 1) d"#,
        &accounts
    )
    .fetch_all(&mut *connection)
    .await?
    .into_iter()
    .map(|row| (row.account_id, row.identity_sha256))
    .collect();

    let mut ids = Vec::new();
    let mut kinds = Vec::new();
    let mut codes = Vec::new();
    let mut dates = Vec::new();
    let mut identities = Vec::new();
    let mut details = Vec::new();
    for one in page {
        let identity = hex::encode(Sha256::digest(one.decision.identity()));
        let account = one.decision.account.to_string();
        if previous.get(&account) == Some(&identity) {
            continue;
        }
        ids.push(account);
        kinds.push(one.decision.kind().as_str().to_owned());
        codes.push(one.decision.code().to_owned());
        dates.push(match &one.decision.verdict {
            Verdict::No { next_date, .. } => *next_date,
            Verdict::Contact(_) => None,
        });
        identities.push(identity);
        details.push(serde_json::to_value(one.decision).unwrap_or_default());
    }
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "INSERT INTO dunning.decision
             (run_id, creditor, account_id, business_date, kind, code, next_date, identity_sha256, detail)
         SELECT $1, $2, row.account_id, $3, row.kind, row.code, row.next_date, row.identity, row.detail
         FROM unnest($4::text[], $5::text[], $6::text[], $7::date[], $8::text[], $9::jsonb[])
             AS row (account_id, kind, code, next_date, identity, detail)",
        run.run.0,
        run.creditor.as_str(),
        run.business_date,
        &ids,
        &kinds,
        &codes,
        dates.as_slice() as &[Option<NaiveDate>],
        &identities,
        &details
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_case(
    connection: &mut PgConnection,
    run: &RunStart,
    actor: &Actor,
    one: &PageWrite<'_>,
) -> Result<Option<Event>, RecordError> {
    let account = one.decision.account.as_str();
    let (kind, facts) = match one.decision.case {
        CaseChange::None => return Ok(None),
        CaseChange::Open => {
            let body = serde_json::to_string(one.ladder).unwrap_or_default();
            let sha256 = texts_stored(connection, "ladder", &body).await?;
            let opened = sqlx::query!(
                "INSERT INTO dunning.debt_case (creditor, account_id, ladder_sha256, opened_on) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (account_id) WHERE closed_on IS NULL DO NOTHING",
                run.creditor.as_str(),
                account,
                sha256,
                run.business_date
            )
            .execute(&mut *connection)
            .await?;
            if opened.rows_affected() == 0 {
                return Ok(None);
            }
            (EventKind::CaseOpened, json!({ "ladder": one.ladder.name, "ladder_sha256": sha256 }))
        }
        CaseChange::Close => {
            sqlx::query!(
                "UPDATE dunning.debt_case SET closed_on = $2 WHERE account_id = $1 AND closed_on IS NULL",
                account,
                run.business_date
            )
            .execute(&mut *connection)
            .await?;
            (EventKind::CaseClosed, json!({}))
        }
    };
    Ok(Some(account_event(kind, run, actor, one.decision, facts)))
}

/// Opens a task unless one with the same cause is open; some are opened once and never again.
async fn open_task(
    connection: &mut PgConnection,
    run: &RunStart,
    actor: &Actor,
    decision: &Decision,
    task: &TaskRequest,
) -> Result<Option<Event>, RecordError> {
    // A mailbox is shared by many accounts: the task belongs to the creditor, once.
    let account = if task.kind == TaskKind::SharedMailbox { "" } else { decision.account.as_str() };
    let opened = sqlx::query_scalar!(
        "INSERT INTO dunning.task (creditor, account_id, kind, subject, text, opened_on)
         SELECT $1, $2, $3, $4, $5, $6
         WHERE NOT ($7 AND EXISTS (SELECT FROM dunning.task
                                   WHERE account_id = $2 AND kind = $3 AND subject = $4))
         ON CONFLICT (creditor, account_id, kind, subject) WHERE closed_at IS NULL DO NOTHING
         RETURNING task_id",
        run.creditor.as_str(),
        account,
        task.kind.as_str(),
        task.subject,
        task.text,
        run.business_date,
        task.kind.is_opened_once()
    )
    .fetch_optional(connection)
    .await?;
    let Some(id) = opened else { return Ok(None) };
    // The subject of a shared mailbox is an address: it stays out of the log.
    let subject = if task.kind == TaskKind::SharedMailbox { "" } else { task.subject.as_str() };
    let facts = json!({ "task": id.to_string(), "task_kind": task.kind.as_str(), "subject": subject });
    Ok(Some(account_event(task.kind.event(), run, actor, decision, facts)))
}

fn account_event(
    kind: EventKind,
    run: &RunStart,
    actor: &Actor,
    decision: &Decision,
    facts: serde_json::Value,
) -> Event {
    Event {
        creditor: Some(run.creditor.to_string()),
        account: Some(decision.account.to_string()),
        run: Some(run.run.to_string()),
        ..Event::new(kind, actor.clone(), facts)
    }
}

/// The demanded items with their own stage and what is to pay on each.
pub(super) fn demanded(decision: &Decision) -> Vec<(String, String, String, Decimal)> {
    decision
        .items
        .iter()
        .filter(|item| item.code == ItemCode::Demanded)
        .map(|item| {
            let stage = item.next_stage.as_ref().map_or_else(String::new, ToString::to_string);
            (item.item.to_string(), stage, item.open.currency.to_string(), item.to_pay().amount)
        })
        .collect()
}
