//! Items that were seen open: to notice when one vanishes without being paid.

use chrono::NaiveDate;
use serde_json::json;
use sqlx::PgConnection;

use crate::model::{Actor, CreditorId, Event, EventKind};

use super::runs::RunStart;
use super::{RecordError, append};

/// The ledger of today against what was seen before. Computing it changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Items that were open when last seen.
    pub open_before: i64,
    /// Items that were open when last seen and are gone: (account, item).
    pub vanished: Vec<(String, String)>,
    /// Settled items that are open again.
    pub reopened: i64,
    /// Withdrawn items that came back unchanged in time: (account, item).
    pub restored: Vec<(String, String)>,
}

/// Compares the creditor's ledger with what was seen before. `restore_days`: a withdrawn item that comes back
/// unchanged within so many days is taken up again.
///
/// # Errors
/// When the database refuses.
pub async fn compare(
    connection: &mut PgConnection,
    creditor: &CreditorId,
    today: NaiveDate,
    restore_days: u32,
) -> Result<Comparison, RecordError> {
    let totals = sqlx::query!(
        r#"SELECT count(*) FILTER (WHERE k.state = 'open') AS "open_before!",
               count(*) FILTER (WHERE k.state = 'settled' AND l.open_amount::numeric <> 0) AS "reopened!"
           FROM dunning.known_item k LEFT JOIN ledger.item l ON l.item_id::text = k.item_id
           WHERE k.creditor = $1"#,
        creditor.as_str()
    )
    .fetch_one(&mut *connection)
    .await?;
    let vanished = sqlx::query!(
        "SELECT k.account_id, k.item_id FROM dunning.known_item k
         WHERE k.creditor = $1 AND k.state = 'open'
           AND NOT EXISTS (SELECT FROM ledger.item l WHERE l.item_id::text = k.item_id)
         ORDER BY k.item_id",
        creditor.as_str()
    )
    .fetch_all(&mut *connection)
    .await?;
    let restored = sqlx::query!(
        "SELECT k.account_id, k.item_id FROM dunning.known_item k JOIN ledger.item l ON l.item_id::text = k.item_id
         WHERE k.creditor = $1 AND k.state = 'withdrawn' AND k.withdrawn_on >= $2::date - $3::int
           AND k.fingerprint = concat_ws('|', trim_scale(l.amount::numeric), trim_scale(l.open_amount::numeric),
                                         l.currency, l.due_date)
         ORDER BY k.item_id",
        creditor.as_str(),
        today,
        i32::try_from(restore_days).unwrap_or(i32::MAX)
    )
    .fetch_all(connection)
    .await?;
    Ok(Comparison {
        open_before: totals.open_before,
        vanished: vanished.into_iter().map(|row| (row.account_id, row.item_id)).collect(),
        reopened: totals.reopened,
        restored: restored.into_iter().map(|row| (row.account_id, row.item_id)).collect(),
    })
}

/// Remembers today's ledger: marks the vanished withdrawn, the restored open, and keeps the rest up to date.
///
/// # Errors
/// When the database refuses.
pub async fn apply(
    connection: &mut PgConnection,
    run: &RunStart,
    comparison: &Comparison,
    actor: &Actor,
) -> Result<(), RecordError> {
    let ids = |pairs: &[(String, String)]| pairs.iter().map(|(_, item)| item.clone()).collect::<Vec<_>>();
    sqlx::query!(
        "UPDATE dunning.known_item SET state = 'withdrawn', withdrawn_on = $2 WHERE item_id = ANY ($1)",
        &ids(&comparison.vanished),
        run.business_date
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "UPDATE dunning.known_item SET state = 'open', withdrawn_on = NULL WHERE item_id = ANY ($1)",
        &ids(&comparison.restored)
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "INSERT INTO dunning.known_item AS k (item_id, creditor, account_id, state, fingerprint, seen_on)
         SELECT l.item_id::text, a.creditor::text, l.account_id::text,
                CASE WHEN l.open_amount::numeric = 0 THEN 'settled' ELSE 'open' END,
                concat_ws('|', trim_scale(l.amount::numeric), trim_scale(l.open_amount::numeric), l.currency, l.due_date),
                $2
         FROM ledger.item l JOIN ledger.account a ON a.account_id = l.account_id
         WHERE a.creditor::text = $1
         ON CONFLICT (item_id) DO UPDATE
         SET creditor = excluded.creditor, account_id = excluded.account_id, state = excluded.state,
             fingerprint = excluded.fingerprint, seen_on = excluded.seen_on
         WHERE k.state <> 'withdrawn'
           AND (k.state, k.fingerprint, k.creditor, k.account_id)
               IS DISTINCT FROM (excluded.state, excluded.fingerprint, excluded.creditor, excluded.account_id)",
        run.creditor.as_str(),
        run.business_date
    )
    .execute(&mut *connection)
    .await?;
    let events: Vec<Event> =
        [(EventKind::ItemWithdrawn, &comparison.vanished), (EventKind::ItemRestored, &comparison.restored)]
            .into_iter()
            .flat_map(|(kind, pairs)| {
                pairs.iter().map(move |(account, item)| Event {
                    creditor: Some(run.creditor.to_string()),
                    account: Some(account.clone()),
                    run: Some(run.run.to_string()),
                    ..Event::new(kind, actor.clone(), json!({ "item": item }))
                })
            })
            .collect();
    if !events.is_empty() {
        append(connection, &events).await?;
    }
    Ok(())
}
