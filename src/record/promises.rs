//! Promises to pay. What became of one is never written down: it follows from the ledger.

use rust_decimal::Decimal;
use serde_json::json;
use sqlx::PgConnection;

use crate::model::{AccountId, Actor, EventKind, Promise};

use super::append;
use super::register::{RegisterError, account_event, known};

/// Records a promise with what is open on its items; returns its number.
///
/// # Errors
/// When the ledger does not know the account, or the database refuses.
pub async fn promise(
    connection: &mut PgConnection,
    account: &AccountId,
    promise: &Promise,
    actor: &Actor,
) -> Result<i64, RegisterError> {
    let creditor = known(connection, account, None).await?;
    let number = sqlx::query_scalar!(
        "INSERT INTO dunning.promise
             (creditor, account_id, amount, currency, made_on, by_day, tolerance_days, reason, made_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING promise_id",
        creditor,
        account.as_str(),
        promise.amount.amount,
        promise.amount.currency.code(),
        promise.made_on,
        promise.by_day,
        i32::try_from(promise.tolerance_days).unwrap_or(i32::MAX),
        promise.reason,
        actor.person
    )
    .fetch_one(&mut *connection)
    .await?;
    let items: Vec<String> = promise.items.iter().map(|one| one.item.to_string()).collect();
    let open: Vec<Decimal> = promise.items.iter().map(|one| one.open_then).collect();
    sqlx::query!(
        "INSERT INTO dunning.promise_item (promise_id, item_id, open_then)
         SELECT $1, * FROM unnest($2::text[], $3::numeric[])",
        number,
        &items,
        &open
    )
    .execute(&mut *connection)
    .await?;
    let listed: Vec<serde_json::Value> =
        promise.items.iter().map(|one| json!({ "item": one.item, "open": one.open_then.to_string() })).collect();
    let facts = json!({
        "promise": number.to_string(), "amount": promise.amount.amount.to_string(),
        "currency": promise.amount.currency, "made_on": promise.made_on.to_string(), "by_day": promise.by_day.to_string(),
        "tolerance_days": promise.tolerance_days, "items": listed, "reason": promise.reason,
    });
    append(connection, &[account_event(EventKind::PromiseMade, &creditor, account, actor, facts)]).await?;
    Ok(number)
}

/// Takes a promise back.
///
/// # Errors
/// When the account has no such promise, it was taken back before, or the database refuses.
pub async fn withdraw_promise(
    connection: &mut PgConnection,
    account: &AccountId,
    number: i64,
    reason: &str,
    actor: &Actor,
) -> Result<(), RegisterError> {
    let creditor = known(connection, account, None).await?;
    let withdrawn = sqlx::query!(
        "UPDATE dunning.promise SET withdrawn_by = $3, withdrawn_at = clock_timestamp(), withdrawn_reason = $4
         WHERE account_id = $1 AND promise_id = $2 AND withdrawn_at IS NULL",
        account.as_str(),
        number,
        actor.person,
        reason
    )
    .execute(&mut *connection)
    .await?;
    if withdrawn.rows_affected() == 0 {
        return Err(RegisterError::NoSuchPromise { account: account.to_string(), which: format!("promise {number}") });
    }
    let facts = json!({ "promise": number.to_string(), "reason": reason });
    append(connection, &[account_event(EventKind::PromiseWithdrawn, &creditor, account, actor, facts)]).await?;
    Ok(())
}
