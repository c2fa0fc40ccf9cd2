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
    Actor, Amounts, Channel, Currency, Decision, EmailAddress, Event, EventKind, Money, OnUnknown, RunId, Snapshot,
};

use super::RecordError;
use super::decisions::{Planned, demanded};
use super::runs::RunStart;

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
             demanded, on_unknown)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 'planned', $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
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
        // The e-mail copy of a letter has a mailbox of its own.
        if contacting.channel == Channel::Email {
            contacting.recipient.as_ref().map_or_else(String::new, EmailAddress::mailbox_key)
        } else {
            String::new()
        },
        planned.sender.domain(),
        planned.message_id,
        planned.fingerprint,
        totals,
        match planned.on_unknown {
            OnUnknown::Review => "review",
            OnUnknown::ResendOnce => "resend_once",
        }
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
        planned.to,
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
    let facts = json!({
        "stage": contacting.stage, "channel": contacting.channel.as_str(), "language": contacting.language.code(), "anchor": contacting.anchor,
        "business_date": run.business_date.to_string(),
        "respond_by": contacting.respond_by.map(|day| day.to_string()),
        "items": listed, "totals": totals, "message_id": planned.message_id, "fingerprint": planned.fingerprint,
        "message_commitment": commitment(&planned.salt, &planned.bytes),
        "recipient_commitment": commitment(&planned.salt, planned.to.as_bytes()),
    });
    Ok(Event {
        creditor: Some(run.creditor.to_string()),
        account: Some(decision.account.to_string()),
        run: Some(run.run.to_string()),
        notice: Some(planned.notice.to_string()),
        ..Event::new(EventKind::NoticePlanned, actor.clone(), facts)
    })
}

/// Lets the planned e-mails of a run go out.
///
/// # Errors
/// When the database refuses.
pub async fn release_run(connection: &mut PgConnection, run: RunId) -> Result<u64, RecordError> {
    let released = sqlx::query!(
        "UPDATE dunning.notice SET state = 'queued', changed_at = clock_timestamp() WHERE run_id = $1 AND state = 'planned'
         AND channel = 'email'",
        run.0
    )
    .execute(connection)
    .await?;
    Ok(released.rows_affected())
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
