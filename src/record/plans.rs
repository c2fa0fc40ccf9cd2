//! Instalment plans. What became of one is never written down: it follows from the ledger.

use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde_json::json;
use sqlx::PgConnection;

use crate::model::{AccountId, Actor, EventKind, Plan};

use super::register::{RegisterError, account_event, known};
use super::{RecordError, append};

/// Records a plan; returns its number. A plan that has a number already is a new version, which takes the place of the
/// one before.
///
/// # Errors
/// When the ledger does not know the account, the version before has ended, or the database refuses.
pub async fn agree_plan(
    connection: &mut PgConnection,
    account: &AccountId,
    plan: &Plan,
    actor: &Actor,
) -> Result<i64, RegisterError> {
    let creditor = known(connection, account, None).await?;
    let is_new = plan.version == 1;
    if !is_new {
        end(connection, account, plan.number, plan.agreed_on, &plan.reason, actor).await?;
    }
    let version = i32::try_from(plan.version).unwrap_or(i32::MAX);
    let number = sqlx::query_scalar!(
        "INSERT INTO dunning.plan (plan_id, version, creditor, account_id, currency, agreed_on, tolerance_days,
             on_missed, reason, agreed_by)
         VALUES (coalesce($1, nextval(pg_get_serial_sequence('dunning.plan', 'plan_id'))), $2, $3, $4, $5, $6, $7, $8,
             $9, $10) RETURNING plan_id",
        (!is_new).then_some(plan.number),
        version,
        creditor,
        account.as_str(),
        plan.currency.code(),
        plan.agreed_on,
        i32::try_from(plan.tolerance_days).unwrap_or(i32::MAX),
        plan.on_missed.as_str(),
        plan.reason,
        actor.person
    )
    .fetch_one(&mut *connection)
    .await?;
    let items: Vec<String> = plan.items.iter().map(|one| one.item.to_string()).collect();
    let open: Vec<Decimal> = plan.items.iter().map(|one| one.open_then).collect();
    sqlx::query!(
        "INSERT INTO dunning.plan_item (plan_id, version, item_id, open_then)
         SELECT $1, $2, * FROM unnest($3::text[], $4::numeric[])",
        number,
        version,
        &items,
        &open
    )
    .execute(&mut *connection)
    .await?;
    let numbers: Vec<i32> = plan.instalments.iter().map(|one| i32::try_from(one.number).unwrap_or(i32::MAX)).collect();
    let days: Vec<NaiveDate> = plan.instalments.iter().map(|one| one.due_on).collect();
    let amounts: Vec<Decimal> = plan.instalments.iter().map(|one| one.amount).collect();
    sqlx::query!(
        "INSERT INTO dunning.plan_instalment (plan_id, version, number, due_on, amount)
         SELECT $1, $2, * FROM unnest($3::int[], $4::date[], $5::numeric[])",
        number,
        version,
        &numbers,
        &days,
        &amounts
    )
    .execute(&mut *connection)
    .await?;
    let items: Vec<_> =
        plan.items.iter().map(|one| json!({ "item": one.item, "open": one.open_then.to_string() })).collect();
    let instalments: Vec<_> = plan
        .instalments
        .iter()
        .map(|one| json!({ "number": one.number, "due_on": one.due_on, "amount": one.amount.to_string() }))
        .collect();
    let facts = json!({
        "plan": number.to_string(), "version": plan.version, "agreed_on": plan.agreed_on, "currency": plan.currency, "items": items,
        "instalments": instalments, "tolerance_days": plan.tolerance_days, "on_missed": plan.on_missed,
        "reason": plan.reason,
    });
    let kind = if is_new { EventKind::PlanAgreed } else { EventKind::PlanRestructured };
    append(connection, &[account_event(kind, &creditor, account, actor, facts)]).await?;
    Ok(number)
}

/// Ends a plan: its items go on where they stood.
///
/// # Errors
/// When the account has no such plan, it has ended before, or the database refuses.
pub async fn end_plan(
    connection: &mut PgConnection,
    account: &AccountId,
    number: i64,
    ended_on: NaiveDate,
    reason: &str,
    actor: &Actor,
) -> Result<(), RegisterError> {
    let creditor = known(connection, account, None).await?;
    end(connection, account, number, ended_on, reason, actor).await?;
    let facts = json!({ "plan": number.to_string(), "ended_on": ended_on, "reason": reason });
    append(connection, &[account_event(EventKind::PlanEnded, &creditor, account, actor, facts)]).await?;
    Ok(())
}

async fn end(
    connection: &mut PgConnection,
    account: &AccountId,
    number: i64,
    ended_on: NaiveDate,
    reason: &str,
    actor: &Actor,
) -> Result<(), RegisterError> {
    let ended = sqlx::query!(
        "UPDATE dunning.plan SET ended_on = $3, ended_by = $4, ended_at = clock_timestamp(), ended_reason = $5
         WHERE account_id = $1 AND plan_id = $2 AND ended_at IS NULL",
        account.as_str(),
        number,
        ended_on,
        actor.person,
        reason
    )
    .execute(connection)
    .await?;
    if ended.rows_affected() == 0 {
        return Err(RegisterError::NoSuchPlan {
            account: account.to_string(),
            which: format!("running plan {number}"),
        });
    }
    Ok(())
}

/// Nobody else records anything about the account that depends on what runs there, until the transaction ends.
///
/// # Errors
/// When the database refuses.
pub async fn lock_register(connection: &mut PgConnection, account: &AccountId) -> Result<(), RecordError> {
    sqlx::query!("SELECT pg_advisory_xact_lock(hashtextextended('dunning.register|' || $1, 0))", account.as_str())
        .execute(connection)
        .await?;
    Ok(())
}
