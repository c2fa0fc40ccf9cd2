//! Breakers: what has failed so often that it waits. One row from the first failure to the next success, shared by
//! every daemon on the database.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::model::{Actor, Breaker, BreakerKind, CreditorId, Event, EventKind, TaskKind};

use super::{RecordError, whole};

/// Something that failed since it worked last. Once it has a time, it lets nothing through, or one probe at a time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BreakerRow {
    pub kind: String,
    pub subject: String,
    /// In a row.
    pub failures: i32,
    /// Of the last failure.
    pub cause: String,
    pub until: Option<DateTime<Utc>>,
    /// Since when it has a time.
    pub open_since: Option<DateTime<Utc>>,
}

impl BreakerRow {
    /// Whether it has to do with that creditor's letters.
    #[must_use]
    pub fn concerns(&self, creditor: &CreditorId) -> bool {
        self.kind == BreakerKind::Relay.as_str() || self.subject.split('/').next() == Some(creditor.as_str())
    }
}

/// Whether anything has failed since its last success.
///
/// # Errors
/// When the database refuses.
pub async fn any_breaker(connection: &mut PgConnection) -> Result<bool, RecordError> {
    let any = sqlx::query_scalar!(r#"SELECT EXISTS (SELECT FROM dunning.breaker) AS "any!""#);
    Ok(any.fetch_one(connection).await?)
}

/// Reads a breaker, and keeps others from changing it until the transaction ends.
///
/// # Errors
/// When the database refuses.
pub async fn breaker(connection: &mut PgConnection, kind: BreakerKind, subject: &str) -> Result<Breaker, RecordError> {
    let row = sqlx::query!(
        "SELECT failures, opened, cause, until, probing FROM dunning.breaker WHERE kind = $1 AND subject = $2
         FOR UPDATE",
        kind.as_str(),
        subject
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(Breaker::default()) };
    Ok(Breaker {
        failures: whole("dunning.breaker", "failures", row.failures)?,
        opened: whole("dunning.breaker", "opened", row.opened)?,
        cause: row.cause,
        until: row.until,
        probing: row.probing,
    })
}

/// Keeps a breaker in which something has failed.
///
/// # Errors
/// When the database refuses.
pub async fn keep_breaker(
    connection: &mut PgConnection,
    kind: BreakerKind,
    subject: &str,
    breaker: &Breaker,
) -> Result<(), RecordError> {
    sqlx::query!(
        "INSERT INTO dunning.breaker AS b (kind, subject, failures, opened, cause, until, probing, open_since)
         VALUES ($1, $2, $3, $4, $5, $6, $7, CASE WHEN $6::timestamptz IS NOT NULL THEN clock_timestamp() END)
         ON CONFLICT (kind, subject) DO UPDATE
         SET failures = excluded.failures, opened = excluded.opened, cause = excluded.cause, until = excluded.until,
             probing = excluded.probing, changed_at = clock_timestamp(),
             open_since = CASE WHEN excluded.until IS NOT NULL THEN coalesce(b.open_since, clock_timestamp()) END",
        kind.as_str(),
        subject,
        i32::try_from(breaker.failures).unwrap_or(i32::MAX),
        i32::try_from(breaker.opened).unwrap_or(i32::MAX),
        breaker.cause,
        breaker.until,
        breaker.probing
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether none of the notices that were refused in a row with that cause went to the domain of this one.
///
/// # Errors
/// When the database refuses.
pub async fn is_another_domain(
    connection: &mut PgConnection,
    creditor: &str,
    notice: Uuid,
    cause: &str,
) -> Result<bool, RecordError> {
    let another = sqlx::query_scalar!(
        r#"SELECT NOT EXISTS (
               SELECT FROM dunning.breaker b JOIN dunning.notice o ON o.notice_id = ANY (b.refused)
               JOIN dunning.notice n ON split_part(n.recipient_key, '@', 2) = split_part(o.recipient_key, '@', 2)
               WHERE b.kind = $4 AND b.subject = $1 AND b.cause = $3 AND n.notice_id = $2) AS "another!""#,
        creditor,
        notice,
        cause,
        BreakerKind::Sender.as_str()
    );
    Ok(another.fetch_one(connection).await?)
}

/// Remembers a notice as one of those that were refused in a row, or as the first of them.
///
/// # Errors
/// When the database refuses.
pub async fn refused_in_a_row(
    connection: &mut PgConnection,
    creditor: &str,
    notice: Uuid,
    first: bool,
) -> Result<(), RecordError> {
    sqlx::query!(
        "UPDATE dunning.breaker SET refused = CASE WHEN $3 THEN ARRAY[$2::uuid] ELSE (refused || $2::uuid)[1:3] END
         WHERE kind = $4 AND subject = $1",
        creditor,
        notice,
        first,
        BreakerKind::Sender.as_str()
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Closes a breaker, because what it protects works; `true` when it was open. The task about it is done with that.
///
/// # Errors
/// When the database refuses.
pub async fn close_breaker(
    connection: &mut PgConnection,
    kind: BreakerKind,
    subject: &str,
) -> Result<bool, RecordError> {
    let opened = sqlx::query_scalar!(
        "DELETE FROM dunning.breaker WHERE kind = $1 AND subject = $2 RETURNING opened",
        kind.as_str(),
        subject
    )
    .fetch_optional(&mut *connection)
    .await?;
    let was_open = opened.is_some_and(|opened| opened > 0);
    if was_open {
        close_tasks(connection, Some(subject)).await?;
    }
    Ok(was_open)
}

/// Closes every breaker, because a person says so; how many were open.
///
/// # Errors
/// When the database refuses.
pub(super) async fn close_all_breakers(connection: &mut PgConnection) -> Result<usize, RecordError> {
    let opened =
        sqlx::query_scalar!("DELETE FROM dunning.breaker RETURNING opened").fetch_all(&mut *connection).await?;
    close_tasks(connection, None).await?;
    Ok(opened.into_iter().filter(|&opened| opened > 0).count())
}

async fn close_tasks(connection: &mut PgConnection, subject: Option<&str>) -> Result<(), RecordError> {
    sqlx::query!(
        "UPDATE dunning.task SET closed_at = clock_timestamp()
         WHERE kind = $1 AND ($2::text IS NULL OR subject = $2) AND closed_at IS NULL",
        TaskKind::CheckLetter.as_str(),
        subject
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Asks a person to look at a letter that the relay keeps refusing: one task for as long as that lasts. Returns its event.
///
/// # Errors
/// When the database refuses.
pub async fn ask_about_letter(
    connection: &mut PgConnection,
    creditor: &str,
    subject: &str,
    text: &str,
    today: NaiveDate,
    actor: &Actor,
) -> Result<Option<Event>, RecordError> {
    let kind = TaskKind::CheckLetter.as_str();
    let opened = sqlx::query_scalar!(
        "INSERT INTO dunning.task (creditor, account_id, kind, subject, text, opened_on)
         VALUES ($1, '', $2, $3, $4, $5)
         ON CONFLICT (creditor, account_id, kind, subject) WHERE closed_at IS NULL DO NOTHING
         RETURNING task_id",
        creditor,
        kind,
        subject,
        text,
        today
    )
    .fetch_optional(connection)
    .await?;
    Ok(opened.map(|id| {
        let facts = json!({ "task": id.to_string(), "task_kind": kind, "subject": subject });
        Event { creditor: Some(creditor.to_owned()), ..Event::new(EventKind::TaskOpened, actor.clone(), facts) }
    }))
}

/// Every breaker that is not closed.
///
/// # Errors
/// When the database refuses.
pub async fn open_breakers(connection: &mut PgConnection) -> Result<Vec<BreakerRow>, RecordError> {
    let mut rows = breakers(connection).await?;
    rows.retain(|row| row.until.is_some());
    Ok(rows)
}

/// Everything that failed since it worked last.
///
/// # Errors
/// When the database refuses.
pub async fn breakers(connection: &mut PgConnection) -> Result<Vec<BreakerRow>, RecordError> {
    let rows = sqlx::query_as!(
        BreakerRow,
        "SELECT kind, subject, failures, cause, until, open_since FROM dunning.breaker ORDER BY kind, subject"
    )
    .fetch_all(connection)
    .await?;
    Ok(rows)
}

/// The breakers that have been open for an hour or longer.
///
/// # Errors
/// When the database refuses.
pub async fn breakers_of_an_hour(connection: &mut PgConnection) -> Result<Vec<BreakerRow>, RecordError> {
    let rows = sqlx::query_as!(
        BreakerRow,
        "SELECT kind, subject, failures, cause, until, open_since FROM dunning.breaker
         WHERE open_since <= clock_timestamp() - interval '1 hour' ORDER BY kind, subject"
    )
    .fetch_all(connection)
    .await?;
    Ok(rows)
}

/// Forgets what failed of relays that are no longer asked.
///
/// # Errors
/// When the database refuses.
pub async fn forget_other_relays(connection: &mut PgConnection, relay: Option<&str>) -> Result<(), RecordError> {
    sqlx::query!(
        "DELETE FROM dunning.breaker WHERE kind = $1 AND subject IS DISTINCT FROM $2",
        BreakerKind::Relay.as_str(),
        relay
    )
    .execute(connection)
    .await?;
    Ok(())
}
