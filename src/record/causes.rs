//! Causes and write-offs, each with person and reason.

use chrono::NaiveDate;
use serde_json::json;
use sqlx::PgConnection;

use crate::model::{AccountId, Actor, Cause, Event, EventKind, ItemId};

use super::append;
use super::register::{RegisterError, account_event, known, numbers, target};

/// Why an account, or one of its items, is unpaid.
#[derive(Debug, Clone, Copy)]
pub struct NewCause<'a> {
    pub item: Option<&'a ItemId>,
    pub cause: Cause,
    pub reason: &'a str,
    pub since: NaiveDate,
}

/// Records why an account or an item is unpaid; returns its number.
///
/// # Errors
/// When the ledger does not know the account or item, the cause is recorded already, or the database refuses.
pub async fn record_cause(
    connection: &mut PgConnection,
    account: &AccountId,
    told: &NewCause<'_>,
    actor: &Actor,
) -> Result<i64, RegisterError> {
    let creditor = known(connection, account, told.item).await?;
    let taken = take_down(connection, &creditor, account, told, actor).await?;
    let (id, event) = taken.ok_or(RegisterError::CauseKnown(told.cause))?;
    append(connection, &[event]).await?;
    Ok(id)
}

/// Its number and its event; nothing when the same cause stands on the same target already.
pub(super) async fn take_down(
    connection: &mut PgConnection,
    creditor: &str,
    account: &AccountId,
    told: &NewCause<'_>,
    actor: &Actor,
) -> Result<Option<(i64, Event)>, RegisterError> {
    let NewCause { item, cause, reason, since } = *told;
    let id = sqlx::query_scalar!(
        "INSERT INTO dunning.cause (creditor, account_id, item_id, cause, reason, since, recorded_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (account_id, coalesce(item_id, ''), cause) WHERE cleared_at IS NULL DO NOTHING RETURNING cause_id",
        creditor,
        account.as_str(),
        item.map(ItemId::as_str),
        cause.as_str(),
        reason,
        since,
        actor.person
    )
    .fetch_optional(connection)
    .await?;
    Ok(id.map(|id| {
        let facts = json!({ "cause": cause, "number": id.to_string(), "item": item, "since": since, "reason": reason });
        (id, account_event(EventKind::CauseRecorded, creditor, account, actor, facts))
    }))
}

/// Clears the causes recorded on exactly that target: all of them, or one. Returns how many.
///
/// # Errors
/// When there is none, or the database refuses.
pub async fn clear_causes(
    connection: &mut PgConnection,
    account: &AccountId,
    item: Option<&ItemId>,
    cause: Option<Cause>,
    reason: &str,
    actor: &Actor,
) -> Result<u64, RegisterError> {
    let creditor = known(connection, account, item).await?;
    let cleared = sqlx::query_scalar!(
        "UPDATE dunning.cause SET cleared_by = $4, cleared_at = clock_timestamp(), cleared_reason = $5
         WHERE item_id IS NOT DISTINCT FROM $2 AND (item_id IS NOT NULL OR account_id = $1) AND cause = coalesce($3, cause)
           AND cleared_at IS NULL RETURNING cause_id",
        account.as_str(),
        item.map(ItemId::as_str),
        cause.map(Cause::as_str),
        actor.person,
        reason
    )
    .fetch_all(&mut *connection)
    .await?;
    if cleared.is_empty() {
        return Err(RegisterError::NoCause(target(account, item)));
    }
    let numbers = numbers(&cleared);
    let facts = json!({ "numbers": numbers, "item": item, "reason": reason });
    append(connection, &[account_event(EventKind::CauseCleared, &creditor, account, actor, facts)]).await?;
    Ok(cleared.len() as u64)
}

/// Writes an item off: it is not demanded any more. The ledger stays as it is.
///
/// # Errors
/// When the ledger does not know the account or item, it is written off already, or the database refuses.
pub async fn write_off(
    connection: &mut PgConnection,
    account: &AccountId,
    item: &ItemId,
    reason: &str,
    since: NaiveDate,
    actor: &Actor,
) -> Result<i64, RegisterError> {
    let creditor = known(connection, account, Some(item)).await?;
    let id = sqlx::query_scalar!(
        "INSERT INTO dunning.write_off (creditor, account_id, item_id, reason, since, written_off_by)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (item_id) WHERE undone_at IS NULL DO NOTHING RETURNING write_off_id",
        creditor,
        account.as_str(),
        item.as_str(),
        reason,
        since,
        actor.person
    )
    .fetch_optional(&mut *connection)
    .await?
    .ok_or_else(|| RegisterError::AlreadyWrittenOff(item.clone()))?;
    let facts = json!({ "write_off": id.to_string(), "item": item, "since": since, "reason": reason });
    append(connection, &[account_event(EventKind::WrittenOff, &creditor, account, actor, facts)]).await?;
    Ok(id)
}

/// Undoes a write-off of ours.
///
/// # Errors
/// When there is none, or the database refuses.
pub async fn undo_write_off(
    connection: &mut PgConnection,
    account: &AccountId,
    item: &ItemId,
    reason: &str,
    actor: &Actor,
) -> Result<(), RegisterError> {
    let creditor = known(connection, account, Some(item)).await?;
    let id = sqlx::query_scalar!(
        "UPDATE dunning.write_off SET undone_by = $2, undone_at = clock_timestamp(), undone_reason = $3
         WHERE item_id = $1 AND undone_at IS NULL RETURNING write_off_id",
        item.as_str(),
        actor.person,
        reason
    )
    .fetch_optional(&mut *connection)
    .await?
    .ok_or_else(|| RegisterError::NotWrittenOff(item.clone()))?;
    let facts = json!({ "write_off": id.to_string(), "item": item, "reason": reason });
    append(connection, &[account_event(EventKind::WriteOffUndone, &creditor, account, actor, facts)]).await?;
    Ok(())
}
