//! Items that were seen open: to notice when one vanishes without being paid.

use chrono::NaiveDate;
use serde_json::json;
use sqlx::PgConnection;

use crate::model::{AccountId, Actor, CreditorId, Event, EventKind, ItemCode, ItemId, TaskKind, changes_at_once};

use super::register::{RegisterError, account_event, known};
use super::runs::{RunStart, run_event};
use super::{RecordError, append};

/// The ledger of today against what was seen before. Computing it changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Items that were open when last seen.
    pub open_before: i64,
    /// How many of them are gone.
    pub vanished_count: i64,
    /// Those that are gone: (account, item); none when they are more than [`Self::limit`] and nobody accepted that.
    pub vanished: Vec<(String, String)>,
    /// Settled items that are open again.
    pub reopened: i64,
    /// Withdrawn items that came back unchanged in time: (account, item).
    pub restored: Vec<(String, String)>,
    /// Whether some item stands with another account than when it was last seen.
    pub moved: bool,
    /// Whether some item is new, or looks different from when it was last seen.
    pub changed: bool,
}

impl Comparison {
    /// How many items may vanish or open again at once.
    #[must_use]
    pub fn limit(&self) -> i64 {
        changes_at_once(self.open_before)
    }

    /// Whether the ledger is believed only when a person says that it is right.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        self.vanished_count.max(self.reopened) > self.limit()
    }

    /// Whether [`apply`] has anything to write down.
    #[must_use]
    pub fn has_a_say(&self) -> bool {
        self.moved || !self.vanished.is_empty() || !self.restored.is_empty()
    }
}

/// So many moved items are named in the log; the rest of an account that was split or merged is counted. Where each one
/// comes from stands in `known_item`.
const MOVES_NAMED: usize = 100;

/// Compares the creditor's ledger with what was seen before. `restore_days`: a withdrawn item that comes back
/// unchanged within so many days is taken up again. `accepted`: a person says that the ledger is right, however many
/// items are gone.
///
/// # Errors
/// When the database refuses.
pub async fn compare(
    connection: &mut PgConnection,
    creditor: &CreditorId,
    today: NaiveDate,
    restore_days: u32,
    accepted: bool,
) -> Result<Comparison, RecordError> {
    // Seen from the ledger's side: one pass that the server may share among its processes.
    let seen = sqlx::query!(
        r#"SELECT count(*) FILTER (WHERE k.state = 'open' AND k.creditor = $1) AS "open!",
               count(*) FILTER (WHERE k.state = 'settled' AND k.creditor = $1
                   AND NOT dunning.is_settled(l.open_amount::numeric, l.settled_on::date, $2))
                   AS "reopened!",
               count(*) FILTER (WHERE k.item_id IS NULL
                   OR k.state <> 'withdrawn'
                   AND (k.state, k.fingerprint, k.creditor, k.account_id) IS DISTINCT FROM
                       (CASE WHEN dunning.is_settled(l.open_amount::numeric, l.settled_on::date, $2)
                             THEN 'settled' ELSE 'open' END,
                        concat_ws('|', trim_scale(l.amount::numeric), trim_scale(l.open_amount::numeric), l.currency,
                                  l.due_date), a.creditor::text, l.account_id::text)) AS "changed!",
               count(*) FILTER (WHERE k.account_id <> l.account_id::text) AS "moved!"
           FROM ledger.item l JOIN ledger.account a ON a.account_id::text = l.account_id::text
           LEFT JOIN dunning.known_item k ON k.item_id = l.item_id::text
           WHERE a.creditor::text = $1"#,
        creditor.as_str(),
        today
    )
    .fetch_one(&mut *connection)
    .await?;
    let before = sqlx::query!(
        r#"SELECT count(*) FILTER (WHERE state = 'open') AS "open!",
               count(*) FILTER (WHERE state = 'withdrawn') AS "withdrawn!"
           FROM dunning.known_item WHERE creditor = $1"#,
        creditor.as_str()
    )
    .fetch_one(&mut *connection)
    .await?;
    let mut comparison = Comparison {
        open_before: before.open,
        reopened: seen.reopened,
        changed: seen.changed > 0,
        moved: seen.moved > 0,
        ..Comparison::default()
    };
    if seen.open != before.open {
        let limit = if accepted { i64::MAX } else { comparison.limit() };
        let vanished = sqlx::query!(
            r#"SELECT k.account_id, k.item_id, count(*) OVER () AS "all!" FROM dunning.known_item k
               WHERE k.creditor = $1 AND k.state = 'open'
                 AND NOT EXISTS (SELECT FROM ledger.item l WHERE l.item_id::text = k.item_id)
               ORDER BY k.item_id LIMIT $2"#,
            creditor.as_str(),
            limit
        )
        .fetch_all(&mut *connection)
        .await?;
        comparison.vanished_count = vanished.first().map_or(0, |row| row.all);
        if comparison.vanished_count <= limit {
            comparison.vanished = vanished.into_iter().map(|row| (row.account_id, row.item_id)).collect();
        }
    }
    if before.withdrawn > 0 {
        let restored = sqlx::query!(
            "SELECT k.account_id, k.item_id FROM dunning.known_item k JOIN ledger.item l ON l.item_id::text = k.item_id
             WHERE k.creditor = $1 AND k.state = 'withdrawn' AND k.withdrawn_on >= $2::date - $3::int
               -- With another account it is not what it was.
               AND k.account_id = l.account_id::text AND (k.moved_on IS NULL OR k.moved_on < k.withdrawn_on)
               AND k.fingerprint = concat_ws('|', trim_scale(l.amount::numeric), trim_scale(l.open_amount::numeric),
                                             l.currency, l.due_date)
             ORDER BY k.item_id",
            creditor.as_str(),
            today,
            i32::try_from(restore_days).unwrap_or(i32::MAX)
        )
        .fetch_all(connection)
        .await?;
        comparison.restored = restored.into_iter().map(|row| (row.account_id, row.item_id)).collect();
    }
    Ok(comparison)
}

/// Records that a person believes this ledger, for one run.
///
/// # Errors
/// When the database refuses.
pub async fn accept(
    connection: &mut PgConnection,
    run: &RunStart,
    comparison: &Comparison,
    reason: &str,
    actor: &Actor,
) -> Result<(), RecordError> {
    let facts = json!({
        "reason": reason, "open_before": comparison.open_before, "vanished": comparison.vanished_count,
        "reopened": comparison.reopened, "limit": comparison.limit(),
    });
    append(connection, &[run_event(EventKind::LedgerAccepted, run, actor, facts)]).await?;
    Ok(())
}

/// Remembers what has a say in the decisions of today's run: marks the vanished withdrawn, the restored open, and notes
/// where the moved come from.
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
    if !comparison.vanished.is_empty() {
        sqlx::query!(
            "UPDATE dunning.known_item SET state = 'withdrawn', withdrawn_on = $2 WHERE item_id = ANY ($1)",
            &ids(&comparison.vanished),
            run.business_date
        )
        .execute(&mut *connection)
        .await?;
    }
    if !comparison.restored.is_empty() {
        sqlx::query!(
            "UPDATE dunning.known_item SET state = 'open', withdrawn_on = NULL WHERE item_id = ANY ($1)",
            &ids(&comparison.restored)
        )
        .execute(&mut *connection)
        .await?;
    }
    let mut moved = Vec::new();
    if comparison.moved {
        moved = sqlx::query!(
            r#"UPDATE dunning.known_item k
             SET account_id = l.account_id::text, creditor = a.creditor::text, moved_on = $2,
                 earlier_accounts = array_append(array_remove(k.earlier_accounts, l.account_id::text), k.account_id)
             FROM ledger.item l JOIN ledger.account a ON a.account_id::text = l.account_id::text
             WHERE l.item_id::text = k.item_id AND a.creditor::text = $1 AND k.account_id <> l.account_id::text
             RETURNING k.item_id, k.account_id, k.earlier_accounts[cardinality(k.earlier_accounts)] AS "from!""#,
            run.creditor.as_str(),
            run.business_date
        )
        .fetch_all(&mut *connection)
        .await?;
    }
    let mut events: Vec<Event> =
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
    if !moved.is_empty() {
        let named = moved
            .iter()
            .take(MOVES_NAMED)
            .map(|row| json!({ "item": row.item_id, "from": row.from, "to": row.account_id }));
        let facts = json!({ "count": moved.len(), "items": named.collect::<Vec<_>>() });
        events.push(Event {
            creditor: Some(run.creditor.to_string()),
            run: Some(run.run.to_string()),
            ..Event::new(EventKind::ItemsMoved, actor.clone(), facts)
        });
    }
    if !events.is_empty() {
        append(connection, &events).await?;
    }
    Ok(())
}

/// A person takes a withdrawn item up again, as the ledger has it now. The task about it is done with that.
///
/// # Errors
/// When the ledger does not know the account or the item, it is not withdrawn, or the database refuses.
pub async fn restore(
    connection: &mut PgConnection,
    account: &AccountId,
    item: &ItemId,
    reason: &str,
    actor: &Actor,
) -> Result<(), RegisterError> {
    let creditor = known(connection, account, Some(item)).await?;
    let restored = sqlx::query_scalar!(
        "UPDATE dunning.known_item SET state = 'open', withdrawn_on = NULL
         WHERE item_id = $1 AND state = 'withdrawn' RETURNING item_id",
        item.as_str()
    )
    .fetch_optional(&mut *connection)
    .await?;
    if restored.is_none() {
        return Err(RegisterError::NotWithdrawn(item.clone()));
    }
    // It may name other items too: for these the next scan opens it anew. Older versions opened one for each item.
    sqlx::query!(
        "UPDATE dunning.task SET closed_at = clock_timestamp()
         WHERE kind = $1 AND account_id = $2 AND subject IN ($3, $4) AND closed_at IS NULL",
        TaskKind::FixData.as_str(),
        account.as_str(),
        ItemCode::Withdrawn.as_str(),
        item.as_str()
    )
    .execute(&mut *connection)
    .await?;
    let facts = json!({ "item": item, "reason": reason });
    append(connection, &[account_event(EventKind::ItemRestored, &creditor, account, actor, facts)]).await?;
    Ok(())
}

/// Remembers how every item of today's ledger looks, for the runs to come: in one statement of its own, which no decision
/// of today's run asks about. To be called after [`apply`]; done again, it changes nothing.
///
/// # Errors
/// When the database refuses.
pub async fn remember(
    connection: &mut PgConnection,
    run: &RunStart,
    comparison: &Comparison,
) -> Result<(), RecordError> {
    if !comparison.changed && comparison.restored.is_empty() {
        return Ok(());
    }
    // Only what differs: a conflict locks its row, and writes, even where it changes nothing.
    sqlx::query!(
        "INSERT INTO dunning.known_item AS k (item_id, creditor, account_id, state, fingerprint, seen_on)
         SELECT now.item_id, now.creditor, now.account_id, now.state, now.fingerprint, $2
         FROM (SELECT l.item_id::text AS item_id, a.creditor::text AS creditor, l.account_id::text AS account_id,
                      CASE WHEN dunning.is_settled(l.open_amount::numeric, l.settled_on::date, $2)
                           THEN 'settled' ELSE 'open' END AS state,
                      concat_ws('|', trim_scale(l.amount::numeric), trim_scale(l.open_amount::numeric),
                                l.currency, l.due_date) AS fingerprint
               FROM ledger.item l JOIN ledger.account a ON a.account_id::text = l.account_id::text
               WHERE a.creditor::text = $1) now
         LEFT JOIN dunning.known_item o ON o.item_id = now.item_id
         WHERE o.item_id IS NULL
            OR o.state <> 'withdrawn'
           -- What opened again after this run compared is for the next one to see.
           AND ($3 OR NOT (o.state = 'settled' AND now.state = 'open'))
           AND (o.state, o.fingerprint, o.creditor, o.account_id)
               IS DISTINCT FROM (now.state, now.fingerprint, now.creditor, now.account_id)
         ON CONFLICT (item_id) DO UPDATE
         SET creditor = excluded.creditor, account_id = excluded.account_id, state = excluded.state,
             fingerprint = excluded.fingerprint, seen_on = excluded.seen_on",
        run.creditor.as_str(),
        run.business_date,
        comparison.reopened > 0
    )
    .execute(connection)
    .await?;
    Ok(())
}
