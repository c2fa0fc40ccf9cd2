//! What `status` and `explain` read back.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::model::{AccountId, CreditorId, Decision};

use super::breakers::{BreakerRow, breakers};
use super::mode::{Identity, ModeState, identity, mode};
use super::register::{PauseState, pause_state};
use super::runs::{RunRow, latest_runs};
use super::{RecordError, head, inconsistent};

/// The state of everything, in counts.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    pub pause: PauseState,
    /// What failed since it worked last; with a time, what waits after repeated failures.
    pub breakers: Vec<BreakerRow>,
    pub mode: ModeState,
    /// Which database this is, and whether it may send.
    pub identity: Identity,
    /// The latest run of each creditor.
    pub runs: Vec<RunRow>,
    /// Notices per state.
    pub notices: BTreeMap<String, i64>,
    /// Promises whose day, with the tolerance, is not over and that are not paid yet, of accounts without credits.
    pub promises_running: i64,
    /// Open tasks per kind.
    pub tasks: BTreeMap<String, i64>,
    /// Number and chain hash of the last event.
    pub log_events: i64,
    pub log_head: String,
}

/// Reads the state of everything. `today` is the business date of each creditor.
///
/// # Errors
/// When the database refuses.
pub async fn status(
    connection: &mut PgConnection,
    today: &BTreeMap<CreditorId, NaiveDate>,
    host_id: &str,
) -> Result<Status, RecordError> {
    let creditors: Vec<String> = today.keys().map(ToString::to_string).collect();
    let days: Vec<NaiveDate> = today.values().copied().collect();
    // The same question as `Promise::standing` asks about one: what is gone without being settled was not paid. Where an
    // account has credits, `promises_beside_credits` tells, and the rule has to say what they cover.
    let promises_running = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!"
           FROM dunning.promise p JOIN unnest($1::text[], $2::date[]) AS day (creditor, today) USING (creditor)
           WHERE p.withdrawn_at IS NULL AND p.by_day + p.tolerance_days >= day.today
             AND p.account_id NOT IN (SELECT account_id::text FROM ledger.item
                                      WHERE open_amount < 0 AND account_id IS NOT NULL)
             AND p.amount > (SELECT coalesce(sum(greatest(i.open_then - CASE
                                    WHEN dunning.is_settled(l.open_amount::numeric, l.settled_on::date, day.today) THEN 0
                                    ELSE coalesce(l.open_amount::numeric,
                                        CASE WHEN k.state IN ('open', 'withdrawn') THEN i.open_then ELSE 0 END)
                                    END, 0)), 0)
                             FROM dunning.promise_item i
                             LEFT JOIN ledger.item l ON l.item_id::text = i.item_id
                             LEFT JOIN dunning.known_item k ON k.item_id = i.item_id
                             WHERE i.promise_id = p.promise_id)"#,
        &creditors,
        &days
    )
    .fetch_one(&mut *connection)
    .await?;
    let notices = sqlx::query!(r#"SELECT state, count(*) AS "count!" FROM dunning.notice GROUP BY state"#)
        .fetch_all(&mut *connection)
        .await?;
    let tasks =
        sqlx::query!(r#"SELECT kind, count(*) AS "count!" FROM dunning.task WHERE closed_at IS NULL GROUP BY kind"#)
            .fetch_all(&mut *connection)
            .await?;
    let (log_events, log_head) = head(connection).await?;
    Ok(Status {
        pause: pause_state(connection).await?,
        breakers: breakers(connection).await?,
        mode: mode(connection).await?,
        identity: identity(connection, host_id).await?,
        runs: latest_runs(connection).await?,
        notices: notices.into_iter().map(|row| (row.state, row.count)).collect(),
        promises_running,
        tasks: tasks.into_iter().map(|row| (row.kind, row.count)).collect(),
        log_events,
        log_head: hex::encode(log_head),
    })
}

/// The promises whose day, with the tolerance, is not over, of an account with credits.
#[derive(Debug)]
pub struct PromisesBesideCredits {
    pub creditor: CreditorId,
    pub account: AccountId,
    pub numbers: Vec<i64>,
}

/// The promises that [`status`] does not count. `today` is the business date of each creditor.
///
/// # Errors
/// When the database refuses or holds something that does not parse.
pub async fn promises_beside_credits(
    connection: &mut PgConnection,
    today: &BTreeMap<CreditorId, NaiveDate>,
) -> Result<Vec<PromisesBesideCredits>, RecordError> {
    let creditors: Vec<String> = today.keys().map(ToString::to_string).collect();
    let days: Vec<NaiveDate> = today.values().copied().collect();
    let rows = sqlx::query!(
        r#"SELECT p.creditor, p.account_id, array_agg(p.promise_id) AS "numbers!"
           FROM dunning.promise p JOIN unnest($1::text[], $2::date[]) AS day (creditor, today) USING (creditor)
           WHERE p.withdrawn_at IS NULL AND p.by_day + p.tolerance_days >= day.today
             AND p.account_id IN (SELECT account_id::text FROM ledger.item WHERE open_amount < 0)
           GROUP BY 1, 2 ORDER BY 1, 2"#,
        &creditors,
        &days
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            let wrong = |column| inconsistent("dunning.promise", column, &row.account_id);
            let creditor = CreditorId::parse(&row.creditor).map_err(|_| wrong("creditor"))?;
            let account = AccountId::parse(&row.account_id).map_err(|_| wrong("account_id"))?;
            Ok(PromisesBesideCredits { creditor, account, numbers: row.numbers })
        })
        .collect()
}

/// A recorded decision.
#[derive(Debug, Clone, Serialize)]
pub struct DecisionRow {
    pub run_id: Uuid,
    /// The run that concluded it first; later runs that concluded the same left no row.
    pub business_date: NaiveDate,
    /// Missing when its reasoning was erased.
    pub decision: Option<Decision>,
}

/// What the runs up to that day concluded last about an account; `None` when no run had seen it.
///
/// # Errors
/// When the database refuses or holds a decision that does not parse.
pub async fn decision_on(
    connection: &mut PgConnection,
    account: &AccountId,
    day: NaiveDate,
) -> Result<Option<DecisionRow>, RecordError> {
    let row = sqlx::query!(
        "SELECT run_id, business_date, detail FROM dunning.decision
         WHERE account_id = $1 AND business_date <= $2 ORDER BY decision_id DESC LIMIT 1",
        account.as_str(),
        day
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| decision_row(account, row.run_id, row.business_date, row.detail)).transpose()
}

/// What a run concluded about an account: its own row, or the last one that a run before it left, since a decision
/// equal to the previous one leaves none.
///
/// # Errors
/// When the database refuses or holds a decision that does not parse.
pub async fn decision_in(
    connection: &mut PgConnection,
    account: &AccountId,
    run: Uuid,
) -> Result<Option<DecisionRow>, RecordError> {
    let row = sqlx::query!(
        "SELECT d.run_id, d.business_date, d.detail
         FROM dunning.decision d JOIN dunning.run r USING (run_id) JOIN dunning.run asked ON asked.run_id = $2
         WHERE d.account_id = $1 AND d.creditor = asked.creditor AND r.started_at <= asked.started_at
         ORDER BY d.decision_id DESC LIMIT 1",
        account.as_str(),
        run
    )
    .fetch_optional(connection)
    .await?;
    row.map(|row| decision_row(account, row.run_id, row.business_date, row.detail)).transpose()
}

fn decision_row(
    account: &AccountId,
    run_id: Uuid,
    business_date: NaiveDate,
    detail: Option<serde_json::Value>,
) -> Result<DecisionRow, RecordError> {
    let decision = detail.map(serde_json::from_value).transpose();
    let decision = decision.map_err(|_| inconsistent("dunning.decision", "detail", account.as_str()))?;
    Ok(DecisionRow { run_id, business_date, decision })
}
