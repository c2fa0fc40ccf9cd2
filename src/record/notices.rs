//! Notices: planned with frozen content, released, and as people see them.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::json;
use sha2::Sha256;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::model::{
    Actor, Amounts, ApprovalCause, CancelReason, Currency, Decision, Event, EventKind, Money, OnUnknown, Snapshot,
};

use super::decisions::{Planned, demanded};
use super::release::{cancel_all, remember_bank_accounts};
use super::runs::RunStart;
use super::{RecordError, append, inconsistent};

/// What the log says about personal data: HMAC-SHA256 under a salt that is erased together with the data.
pub(super) fn commitment(salt: &[u8], data: &[u8]) -> String {
    // A key of any length is valid for HMAC, so this cannot fail; an empty commitment would be visible in the log.
    Hmac::<Sha256>::new_from_slice(salt)
        .map(|mac| hex::encode(mac.chain_update(data).finalize().into_bytes()))
        .unwrap_or_default()
}

/// Records a notice as `planned`; returns its event. The unique index on live (item, stage) is the guard against
/// doubles: a second notice for the same item and stage makes this fail.
pub(super) async fn plan(
    connection: &mut PgConnection,
    run: &RunStart,
    actor: &Actor,
    snapshot: &Snapshot,
    decision: &Decision,
    planned: &Planned,
) -> Result<Event, RecordError> {
    let contacting = &planned.contacting;
    let items = demanded(decision);
    let totals: Amounts = items
        .iter()
        .filter_map(|(_, _, currency, to_pay)| Some(Money::new(*to_pay, Currency::parse(currency).ok()?)))
        .collect();
    let totals = serde_json::to_value(&totals).unwrap_or_default();
    sqlx::query!(
        "INSERT INTO dunning.notice (notice_id, run_id, creditor, account_id, stage, tone, language, state,
             business_date, as_of, valid_until, respond_by, recipient_key, sender_domain, message_id, fingerprint,
             demanded, on_unknown, approval, redirected)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 'planned', $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
        planned.notice,
        run.run.0,
        run.creditor.as_str(),
        decision.account.as_str(),
        contacting.stage.as_str(),
        contacting.tone.as_str(),
        contacting.language.code(),
        run.business_date,
        planned.as_of,
        planned.valid_until,
        contacting.respond_by,
        contacting.recipient.mailbox_key(),
        planned.sender.domain(),
        planned.message_id,
        planned.fingerprint,
        totals,
        match planned.on_unknown {
            OnUnknown::Review => "review",
            OnUnknown::ResendOnce => "resend_once",
        },
        planned.approval.map(ApprovalCause::as_str),
        planned.redirect_to.is_some()
    )
    .execute(&mut *connection)
    .await?;

    let ids: Vec<String> = items.iter().map(|(item, ..)| item.clone()).collect();
    let stages: Vec<String> = items.iter().map(|(_, stage, ..)| stage.clone()).collect();
    let currencies: Vec<String> = items.iter().map(|(_, _, currency, _)| currency.clone()).collect();
    let amounts: Vec<Decimal> = items.iter().map(|(.., amount)| *amount).collect();
    sqlx::query!(
        "INSERT INTO dunning.notice_item (notice_id, item_id, stage, currency, to_pay)
         SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[], $5::numeric[])",
        planned.notice,
        &ids,
        &stages,
        &currencies,
        &amounts
    )
    .execute(&mut *connection)
    .await?;

    sqlx::query!(
        "INSERT INTO dunning.message (notice_id, recipient, sender, bytes, salt, snapshot, letter)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        planned.notice,
        planned.recipient().as_str(),
        planned.sender.as_str(),
        planned.bytes,
        &planned.salt[..],
        serde_json::to_value(snapshot).unwrap_or_default(),
        planned.letter
    )
    .execute(connection)
    .await?;

    let listed: Vec<serde_json::Value> = items
        .iter()
        .map(|(item, stage, currency, to_pay)| {
            json!({ "item": item, "stage": stage, "currency": currency, "to_pay": to_pay.to_string() })
        })
        .collect();
    let mut facts = json!({
        "stage": contacting.stage, "language": contacting.language.code(), "anchor": contacting.anchor,
        "business_date": run.business_date.to_string(),
        "respond_by": contacting.respond_by.map(|day| day.to_string()),
        "items": listed, "totals": totals, "message_id": planned.message_id, "fingerprint": planned.fingerprint,
        "message_commitment": commitment(&planned.salt, &planned.bytes),
        "recipient_commitment": commitment(&planned.salt, planned.recipient().as_str().as_bytes()),
    });
    // Said only where it is so: the log of an installation in production never has it.
    if planned.redirect_to.is_some()
        && let Some(facts) = facts.as_object_mut()
    {
        facts.insert("redirected".to_owned(), true.into());
    }
    Ok(Event {
        creditor: Some(run.creditor.to_string()),
        account: Some(decision.account.to_string()),
        run: Some(run.run.to_string()),
        notice: Some(planned.notice.to_string()),
        ..Event::new(EventKind::NoticePlanned, actor.clone(), facts)
    })
}

/// What was approved: each item with its stage, and the most that may be demanded on it.
#[derive(Debug, Clone)]
pub struct ApprovedNotice {
    pub run: Uuid,
    pub creditor: String,
    pub account: String,
    pub stage: String,
    pub state: String,
    pub approval: Option<String>,
    pub approved_by: Option<String>,
    pub business_date: NaiveDate,
    pub as_of: Option<NaiveDate>,
    pub valid_until: NaiveDate,
    pub items: Vec<(String, String, Money)>,
    /// The ledger says about it what it said when it was made.
    pub unchanged: bool,
}

/// Reads a notice that waits for a person, or that one approved; `None` when there is no such notice.
///
/// # Errors
/// When the database refuses or holds something that does not parse.
pub async fn approved_notice(
    connection: &mut PgConnection,
    notice: Uuid,
) -> Result<Option<ApprovedNotice>, RecordError> {
    let row = sqlx::query!(
        r#"SELECT n.run_id, n.creditor, n.account_id, n.stage, n.state, n.approval, n.approved_by, n.business_date, n.as_of,
               n.valid_until,
               n.fingerprint = dunning.ledger_fingerprint(n.account_id, array_agg(i.item_id), n.as_of, n.business_date)
                   AS "unchanged!",
               array_agg(i.item_id ORDER BY i.item_id) AS "items!", array_agg(i.stage ORDER BY i.item_id) AS "stages!",
               array_agg(i.currency ORDER BY i.item_id) AS "currencies!",
               array_agg(i.to_pay ORDER BY i.item_id) AS "amounts!: Vec<Decimal>"
           FROM dunning.notice n JOIN dunning.notice_item i USING (notice_id)
           WHERE n.notice_id = $1 GROUP BY n.notice_id"#,
        notice
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let items: Result<Vec<(String, String, Money)>, RecordError> = row
        .items
        .into_iter()
        .zip(row.stages)
        .zip(row.currencies.iter().zip(row.amounts))
        .map(|((item, stage), (currency, amount))| {
            let currency =
                Currency::parse(currency).map_err(|_| inconsistent("dunning.notice_item", "currency", currency))?;
            Ok((item, stage, Money::new(amount, currency)))
        })
        .collect();
    Ok(Some(ApprovedNotice {
        run: row.run_id,
        creditor: row.creditor,
        account: row.account_id,
        stage: row.stage,
        state: row.state,
        approval: row.approval,
        approved_by: row.approved_by,
        business_date: row.business_date,
        as_of: row.as_of,
        valid_until: row.valid_until,
        items: items?,
        unchanged: row.unchanged,
    }))
}

/// Puts a notice that demands less in the place of an approved one; the approval is its own from then on.
#[derive(Debug)]
pub struct Renewal<'a> {
    pub old: Uuid,
    pub run: &'a RunStart,
    pub snapshot: &'a Snapshot,
    pub decision: &'a Decision,
    pub planned: &'a Planned,
    pub approved_by: &'a str,
    pub reason: &'a str,
    /// The creditor's bank account per currency.
    pub own: &'a [(String, String)],
}

/// Cancels the old notice and queues the new one, with the approval, in the caller's transaction.
///
/// # Errors
/// When the database refuses, also because something else was recorded for the same items meanwhile.
pub async fn renew(connection: &mut PgConnection, renewal: &Renewal<'_>, actor: &Actor) -> Result<(), RecordError> {
    let Renewal { old, run, snapshot, decision, planned, approved_by, reason, own } = renewal;
    let mut events = cancel_all(connection, &[*old], CancelReason::Renewed, None, actor).await?;
    if events.is_empty() {
        return Ok(());
    }
    events.push(plan(connection, run, actor, snapshot, decision, planned).await?);
    sqlx::query!(
        "UPDATE dunning.notice SET state = 'queued', approved_by = $2, approved_at = clock_timestamp()
         WHERE notice_id = $1",
        planned.notice,
        approved_by
    )
    .execute(&mut *connection)
    .await?;
    remember_bank_accounts(connection, &[planned.notice], own).await?;
    let facts = json!({ "reason": reason, "stage": planned.contacting.stage, "in_place_of": old.to_string(),
        "approved_by": approved_by });
    events.push(Event {
        creditor: Some(run.creditor.to_string()),
        account: Some(decision.account.to_string()),
        run: Some(run.run.to_string()),
        notice: Some(planned.notice.to_string()),
        ..Event::new(EventKind::NoticeApproved, actor.clone(), facts)
    });
    append(connection, &events).await?;
    Ok(())
}

/// A notice as people see it.
#[derive(Debug, Clone, Serialize)]
pub struct NoticeRow {
    pub notice_id: Uuid,
    pub stage: String,
    pub language: String,
    pub state: String,
    pub reason: Option<String>,
    pub business_date: NaiveDate,
    pub respond_by: Option<NaiveDate>,
    pub accepted_on: Option<NaiveDate>,
    pub demanded: BTreeMap<String, String>,
    pub items: Vec<String>,
    pub changed_at: DateTime<Utc>,
}

/// The notices of an account, latest first.
///
/// # Errors
/// When the database refuses.
pub async fn notices_of(connection: &mut PgConnection, account: &str) -> Result<Vec<NoticeRow>, RecordError> {
    let rows = sqlx::query!(
        r#"SELECT n.notice_id, n.stage, n.language, n.state, n.reason, n.business_date, n.respond_by, n.accepted_on,
               n.demanded, n.changed_at, array_agg(i.item_id ORDER BY i.item_id) AS "items!"
           FROM dunning.notice n JOIN dunning.notice_item i USING (notice_id)
           WHERE n.account_id COLLATE "C" = $1
           GROUP BY n.notice_id ORDER BY n.business_date DESC, n.created_at DESC"#,
        account
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|r| NoticeRow {
            notice_id: r.notice_id,
            stage: r.stage,
            language: r.language,
            state: r.state,
            reason: r.reason,
            business_date: r.business_date,
            respond_by: r.respond_by,
            accepted_on: r.accepted_on,
            demanded: serde_json::from_value(r.demanded).unwrap_or_default(),
            items: r.items,
            changed_at: r.changed_at,
        })
        .collect())
}
