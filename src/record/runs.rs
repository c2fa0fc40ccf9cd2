//! Runs: one evaluation of all accounts of a creditor for one business date, under one leader.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use sqlx::{PgConnection, PgPool, Postgres, pool::PoolConnection};
use uuid::Uuid;

use crate::model::{
    Actor, CancelReason, CreditorId, Event, EventKind, Freshness, RefusalCode, Released, RunId, RunTotals,
};

use super::approvals::cancel_all;
use super::release::append_kept_back;
use super::{RecordError, append, inconsistent};

/// A right that one process holds at a time. A crash gives it up with its connection.
pub struct SessionLock {
    connection: PoolConnection<Postgres>,
    key: String,
}

impl SessionLock {
    /// Gives the right up, so that whoever asks next gets it at once.
    ///
    /// # Errors
    /// When the database is gone, which gives it up too.
    pub async fn release(mut self) -> Result<(), RecordError> {
        // Said in words: a server may notice a closed connection a moment later.
        sqlx::query_scalar!("SELECT pg_advisory_unlock(hashtextextended($1, 0))", self.key)
            .fetch_one(&mut *self.connection)
            .await?;
        self.connection.close().await?;
        Ok(())
    }
}

/// Takes the right to scan a creditor; `None` when another run holds it.
///
/// # Errors
/// When the database refuses.
pub async fn lead(pool: &PgPool, creditor: &CreditorId) -> Result<Option<SessionLock>, RecordError> {
    let mut connection = pool.acquire().await?;
    let key = format!("dunningd scan {creditor}");
    let held = sqlx::query_scalar!(r#"SELECT pg_try_advisory_lock(hashtextextended($1, 0)) AS "held!""#, key)
        .fetch_one(&mut *connection)
        .await?;
    if !held {
        return Ok(None);
    }
    // Never handed back with the lock on it: a pooled connection would keep it for the next user.
    connection.close_on_drop();
    Ok(Some(SessionLock { connection, key }))
}

/// Takes the right to say in which hours a creditor's notices leave, and waits for it: two that count the same hours at
/// once would fill them twice. A run takes it for its last transaction.
///
/// # Errors
/// When the database refuses.
pub async fn lock_hours(pool: &PgPool, creditor: &CreditorId) -> Result<SessionLock, RecordError> {
    let mut connection = pool.acquire().await?;
    let key = hours_key(creditor);
    connection.close_on_drop();
    sqlx::query_scalar!("SELECT pg_advisory_lock(hashtextextended($1, 0))", key).fetch_one(&mut *connection).await?;
    Ok(SessionLock { connection, key })
}

/// The same until the end of the caller's transaction.
pub(super) async fn lock_hours_here(connection: &mut PgConnection, creditor: &CreditorId) -> Result<(), RecordError> {
    sqlx::query_scalar!("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", hours_key(creditor))
        .fetch_one(connection)
        .await?;
    Ok(())
}

fn hours_key(creditor: &CreditorId) -> String {
    format!("dunningd hours {creditor}")
}

/// What a run is made with.
#[derive(Debug, Clone)]
pub struct RunStart {
    pub run: RunId,
    pub creditor: CreditorId,
    pub business_date: NaiveDate,
    pub scheduled: bool,
    pub as_of: bool,
    /// The login that asked for it; none when the schedule did.
    pub asked_by: Option<String>,
    /// It looks at some accounts only.
    pub partial: bool,
    pub freshness: Option<Freshness>,
    pub policy_sha256: String,
    pub templates_sha256: String,
    pub creditors_sha256: String,
    pub calendars_sha256: String,
    /// Wall time.
    pub started_at: DateTime<Utc>,
}

/// Opens the row of a run, with its event.
///
/// # Errors
/// When the database refuses, also because a scheduled run of that date exists.
pub async fn start(connection: &mut PgConnection, run: &RunStart, actor: &Actor) -> Result<(), RecordError> {
    insert(connection, run, "running", None).await?;
    append(connection, &[run_event(EventKind::RunStarted, run, actor, serde_json::json!({}))]).await?;
    Ok(())
}

/// Reads back what a run was made with, for a notice that is recorded for it later; `None` when there is no such run.
///
/// # Errors
/// When the database refuses.
pub async fn run_start(connection: &mut PgConnection, run: Uuid) -> Result<Option<RunStart>, RecordError> {
    let row = sqlx::query!(
        "SELECT creditor, business_date, scheduled, as_of, asked_by, partial, invoices_as_of, payments_as_of,
             policy_sha256, templates_sha256, creditors_sha256, calendars_sha256, started_at
         FROM dunning.run WHERE run_id = $1",
        run
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let creditor =
        CreditorId::parse(&row.creditor).map_err(|_| inconsistent("dunning.run", "creditor", &row.creditor))?;
    let freshness = row.invoices_as_of.zip(row.payments_as_of);
    Ok(Some(RunStart {
        run: RunId(run),
        creditor,
        business_date: row.business_date,
        scheduled: row.scheduled,
        as_of: row.as_of,
        asked_by: row.asked_by,
        partial: row.partial,
        freshness: freshness.map(|(invoices_as_of, payments_as_of)| Freshness { invoices_as_of, payments_as_of }),
        policy_sha256: row.policy_sha256,
        templates_sha256: row.templates_sha256,
        creditors_sha256: row.creditors_sha256,
        calendars_sha256: row.calendars_sha256.unwrap_or_default(),
        started_at: row.started_at,
    }))
}

/// Records that a run was refused before it looked at any account, with the reason. The schedule asks again every
/// minute: what it was told already is not told twice.
///
/// # Errors
/// When the database refuses.
pub async fn refuse(
    connection: &mut PgConnection,
    run: &RunStart,
    actor: &Actor,
    code: RefusalCode,
    detail: &str,
) -> Result<(), RecordError> {
    if run.scheduled {
        let told = sqlx::query_scalar!(
            r#"SELECT EXISTS (
                   SELECT FROM (SELECT state, reason FROM dunning.run
                                WHERE creditor = $1 AND business_date = $2 AND scheduled
                                ORDER BY started_at DESC LIMIT 1) last
                   WHERE last.state = 'refused' AND last.reason = $3) AS "told!""#,
            run.creditor.as_str(),
            run.business_date,
            code.as_str()
        )
        .fetch_one(&mut *connection)
        .await?;
        if told {
            return Ok(());
        }
    }
    insert(connection, run, "refused", Some(code.as_str())).await?;
    let facts = serde_json::json!({ "code": code.as_str(), "detail": detail });
    append(connection, &[run_event(EventKind::RunRefused, run, actor, facts)]).await?;
    Ok(())
}

async fn insert(
    connection: &mut PgConnection,
    run: &RunStart,
    state: &str,
    reason: Option<&str>,
) -> Result<(), RecordError> {
    sqlx::query!(
        "INSERT INTO dunning.run (run_id, creditor, business_date, scheduled, as_of, state, reason, invoices_as_of,
             payments_as_of, policy_sha256, templates_sha256, creditors_sha256, calendars_sha256, started_at, asked_by,
             partial)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
        run.run.0,
        run.creditor.as_str(),
        run.business_date,
        run.scheduled,
        run.as_of,
        state,
        reason,
        run.freshness.map(|f| f.invoices_as_of),
        run.freshness.map(|f| f.payments_as_of),
        run.policy_sha256,
        run.templates_sha256,
        run.creditors_sha256,
        run.calendars_sha256,
        run.started_at,
        run.asked_by,
        run.partial
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) fn run_event(kind: EventKind, run: &RunStart, actor: &Actor, mut facts: serde_json::Value) -> Event {
    if let Some(object) = facts.as_object_mut() {
        object.insert("business_date".into(), run.business_date.to_string().into());
        object.insert("policy_sha256".into(), run.policy_sha256.clone().into());
        object.insert("templates_sha256".into(), run.templates_sha256.clone().into());
        object.insert("creditors_sha256".into(), run.creditors_sha256.clone().into());
        object.insert("calendars_sha256".into(), run.calendars_sha256.clone().into());
        if let Some(freshness) = run.freshness {
            object.insert("payments_as_of".into(), freshness.payments_as_of.to_rfc3339().into());
        }
    }
    Event {
        creditor: Some(run.creditor.to_string()),
        run: Some(run.run.to_string()),
        ..Event::new(kind, actor.clone(), facts)
    }
}

/// Keeps a run from being taken over until this transaction ends; refuses when it was taken over already. Whoever held
/// the leader's lock may be dead while the server still writes his last page: whoever comes next waits for it here, in
/// [`recover`].
///
/// # Errors
/// `TakenOver` when the run is over, or when the database refuses.
pub async fn still_running(connection: &mut PgConnection, run: RunId) -> Result<(), RecordError> {
    let state = sqlx::query_scalar!("SELECT state FROM dunning.run WHERE run_id = $1 FOR NO KEY UPDATE", run.0)
        .fetch_optional(connection)
        .await?;
    if state.as_deref() == Some("running") { Ok(()) } else { Err(RecordError::TakenOver) }
}

/// What a run ends with.
#[derive(Debug)]
pub struct RunEnd<'a> {
    pub totals: &'a RunTotals,
    /// Over every account's decision.
    pub digest: &'a str,
    /// [`RecordedDecisions::fact`](super::RecordedDecisions::fact).
    pub decisions: serde_json::Value,
    /// The accounts whose decision is in both and could not be written.
    pub unrecorded: &'a [&'a str],
    pub released: &'a Released,
    /// What became of single notices by the release.
    pub events: Vec<Event>,
    /// Wall time.
    pub at: DateTime<Utc>,
}

/// Closes a run.
///
/// # Errors
/// When the database refuses.
pub async fn finish(
    connection: &mut PgConnection,
    run: &RunStart,
    actor: &Actor,
    end: RunEnd<'_>,
) -> Result<(), RecordError> {
    let json = serde_json::to_value(end.totals).unwrap_or_default();
    sqlx::query!(
        "UPDATE dunning.run SET state = 'completed', totals = $2, digest = $3, completed_at = $4 WHERE run_id = $1",
        run.run.0,
        json,
        end.digest,
        end.at
    )
    .execute(&mut *connection)
    .await?;
    let facts = serde_json::json!({
        "totals": json, "digest": end.digest, "decisions": end.decisions, "unrecorded": end.unrecorded, "released": end.released,
    });
    if end.released.cancelled > 0 {
        append_kept_back(connection, run, end.released.state, actor).await?;
    }
    let mut events = end.events;
    events.push(run_event(EventKind::RunCompleted, run, actor, facts));
    append(connection, &events).await?;
    Ok(())
}

/// Marks a run that broke off, with its event. What broke it may quote the database: that stays in the row.
///
/// # Errors
/// When the database refuses.
pub async fn fail(
    connection: &mut PgConnection,
    run: &RunStart,
    reason: &str,
    actor: &Actor,
) -> Result<(), RecordError> {
    sqlx::query!("UPDATE dunning.run SET state = 'failed', reason = $2 WHERE run_id = $1", run.run.0, reason)
        .execute(&mut *connection)
        .await?;
    append(connection, &[failed(&run.creditor, run.run.0, "broke_off", actor)]).await?;
    Ok(())
}

fn failed(creditor: &CreditorId, run: Uuid, how: &str, actor: &Actor) -> Event {
    Event {
        creditor: Some(creditor.to_string()),
        run: Some(run.to_string()),
        ..Event::new(EventKind::RunFailed, actor.clone(), serde_json::json!({ "how": how }))
    }
}

/// Business date of the last completed run of today's kind (not one with `--as-of`).
///
/// # Errors
/// When the database refuses.
pub async fn completed_run(
    connection: &mut PgConnection,
    creditor: &CreditorId,
) -> Result<Option<NaiveDate>, RecordError> {
    let last = sqlx::query_scalar!(
        "SELECT max(business_date) FROM dunning.run WHERE creditor = $1 AND state = 'completed' AND NOT as_of",
        creditor.as_str()
    )
    .fetch_one(connection)
    .await?;
    Ok(last)
}

/// Business date of the last completed run that the schedule began. What a person scans by hand, perhaps one account
/// only, does not stand in for the run of the day.
///
/// # Errors
/// When the database refuses.
pub async fn scheduled_run(
    connection: &mut PgConnection,
    creditor: &CreditorId,
) -> Result<Option<NaiveDate>, RecordError> {
    let last = sqlx::query_scalar!(
        "SELECT max(business_date) FROM dunning.run WHERE creditor = $1 AND state = 'completed' AND scheduled",
        creditor.as_str()
    )
    .fetch_one(connection)
    .await?;
    Ok(last)
}

/// A run as `status` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct RunRow {
    pub run_id: Uuid,
    pub creditor: String,
    pub business_date: NaiveDate,
    pub state: String,
    pub reason: Option<String>,
    pub payments_as_of: Option<DateTime<Utc>>,
    pub started_at: DateTime<Utc>,
    pub totals: Option<serde_json::Value>,
    /// What became of its notices, and what braked it.
    pub release: Option<String>,
    pub brakes: serde_json::Value,
    /// Its notices that wait for a person.
    pub awaiting: i64,
}

/// The latest run of each creditor; one with `--as-of`, or of one account, is no run of the day.
///
/// # Errors
/// When the database refuses.
pub async fn latest_runs(connection: &mut PgConnection) -> Result<Vec<RunRow>, RecordError> {
    let rows = sqlx::query_as!(
        RunRow,
        r#"SELECT DISTINCT ON (creditor) run_id, creditor, business_date, state, reason, payments_as_of, started_at, totals,
               release, brakes,
               (SELECT count(*) FROM dunning.notice n
                WHERE n.run_id = r.run_id AND n.state = 'awaiting_approval') AS "awaiting!"
           FROM dunning.run r WHERE NOT as_of AND NOT partial ORDER BY creditor, started_at DESC"#
    )
    .fetch_all(connection)
    .await?;
    Ok(rows)
}

/// That run, if there is one.
///
/// # Errors
/// When the database refuses.
pub async fn run(connection: &mut PgConnection, run: Uuid) -> Result<Option<RunRow>, RecordError> {
    let row = sqlx::query_as!(
        RunRow,
        r#"SELECT run_id, creditor, business_date, state, reason, payments_as_of, started_at, totals, release, brakes,
               (SELECT count(*) FROM dunning.notice n
                WHERE n.run_id = r.run_id AND n.state = 'awaiting_approval') AS "awaiting!"
           FROM dunning.run r WHERE run_id = $1"#,
        run
    )
    .fetch_optional(connection)
    .await?;
    Ok(row)
}

/// Clears up after a run that died: its row is marked failed, and its notices, which were never released, are
/// cancelled. The caller holds the leader's lock, so no such run is alive.
///
/// # Errors
/// When the database refuses.
pub async fn recover(connection: &mut PgConnection, creditor: &CreditorId, actor: &Actor) -> Result<u64, RecordError> {
    let died = sqlx::query_scalar!(
        "UPDATE dunning.run SET state = 'failed', reason = 'instance_died' WHERE creditor = $1 AND state = 'running'
         RETURNING run_id",
        creditor.as_str()
    )
    .fetch_all(&mut *connection)
    .await?;
    let planned = sqlx::query_scalar!(
        "SELECT n.notice_id FROM dunning.notice n JOIN dunning.run r USING (run_id)
         WHERE r.creditor = $1 AND r.state = 'failed' AND n.state = 'planned' ORDER BY n.notice_id FOR UPDATE OF n",
        creditor.as_str()
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut events = cancel_all(connection, &planned, CancelReason::RunFailed, None, actor).await?;
    let cancelled = events.len() as u64;
    events.extend(died.into_iter().map(|run| failed(creditor, run, "instance_died", actor)));
    if !events.is_empty() {
        append(connection, &events).await?;
    }
    Ok(cancelled)
}
