//! Mails to the operator: what they tell, and where each of them stands. Written before they are sent; the unique key
//! of the table keeps any of them from coming twice.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::model::{CancelReason, CreditorId, EmailAddress, Outcome, RunTotals};

use super::breakers::{BreakerRow, open_breakers};
use super::{RecordError, head, inconsistent, whole};

/// So many of something, the oldest of them since that day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingSince {
    pub what: String,
    pub count: i64,
    pub since: NaiveDate,
}

/// What became of letters since the last digest, and how many are on their way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivered {
    pub accepted: i64,
    pub refused: i64,
    pub expired: i64,
    pub queued: i64,
}

/// What a digest tells about a run and about everything that waits for a person.
#[derive(Debug, Clone, PartialEq)]
pub struct DigestFacts {
    pub creditor: CreditorId,
    pub run: Uuid,
    pub business_date: NaiveDate,
    pub started_at: DateTime<Utc>,
    pub completed_at: DateTime<Utc>,
    pub payments_as_of: Option<DateTime<Utc>>,
    pub totals: RunTotals,
    /// Tasks opened on the business date, per kind.
    pub tasks_opened: BTreeMap<String, i64>,
    /// Open tasks per kind.
    pub tasks_open: Vec<WaitingSince>,
    /// Notices that wait for approval, per business date, oldest first.
    pub approvals: Vec<WaitingSince>,
    /// Notices that nobody has resolved, per state: unknown, refused, bounced.
    pub unresolved: Vec<WaitingSince>,
    pub delivered: Delivered,
    /// What stops the creditor's letters.
    pub stopped: Vec<BreakerRow>,
    /// Number of the last event of the contact log, and its chain hash.
    pub log_events: i64,
    pub log_head: String,
}

/// The last completed run of the schedule of each creditor, when it ended within these two days.
///
/// # Errors
/// When the database refuses.
pub async fn runs_to_tell(
    connection: &mut PgConnection,
    creditor: &CreditorId,
    completed_before: DateTime<Utc>,
) -> Result<Option<(Uuid, NaiveDate)>, RecordError> {
    let row = sqlx::query!(
        "SELECT run_id, business_date FROM dunning.run
         WHERE creditor = $1 AND state = 'completed' AND scheduled
           AND completed_at BETWEEN $2::timestamptz - interval '2 days' AND $2
         ORDER BY business_date DESC LIMIT 1",
        creditor.as_str(),
        completed_before
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| (row.run_id, row.business_date)))
}

/// The scheduled runs of that day that were refused or failed: state, and reason of a refusal.
///
/// # Errors
/// When the database refuses.
pub async fn runs_in_trouble(
    connection: &mut PgConnection,
    creditor: &CreditorId,
    day: NaiveDate,
) -> Result<Vec<(String, Option<String>)>, RecordError> {
    let rows = sqlx::query!(
        "SELECT DISTINCT state, reason FROM dunning.run
         WHERE creditor = $1 AND business_date = $2 AND scheduled AND state IN ('refused', 'failed')
         ORDER BY state, reason",
        creditor.as_str(),
        day
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.state, row.reason)).collect())
}

/// The day of the first run that the schedule ever began, completed or not.
///
/// # Errors
/// When the database refuses.
pub async fn first_scheduled_run(
    connection: &mut PgConnection,
    creditor: &CreditorId,
) -> Result<Option<NaiveDate>, RecordError> {
    let first = sqlx::query_scalar!(
        "SELECT min(business_date) FROM dunning.run WHERE creditor = $1 AND scheduled",
        creditor.as_str()
    )
    .fetch_one(connection)
    .await?;
    Ok(first)
}

/// Reads what a digest tells; `None` when that run is not completed.
///
/// # Errors
/// When the database refuses or holds totals that do not parse.
pub async fn digest_facts(
    connection: &mut PgConnection,
    creditor: &CreditorId,
    run: Uuid,
) -> Result<Option<DigestFacts>, RecordError> {
    let row = sqlx::query!(
        r#"SELECT business_date, started_at, completed_at AS "completed_at!", payments_as_of, totals AS "totals!"
           FROM dunning.run WHERE run_id = $1 AND state = 'completed'"#,
        run
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let totals: RunTotals =
        serde_json::from_value(row.totals).map_err(|_| inconsistent("dunning.run", "totals", &run.to_string()))?;
    let opened = sqlx::query!(
        r#"SELECT kind, count(*) AS "count!" FROM dunning.task WHERE creditor = $1 AND opened_on = $2 GROUP BY kind"#,
        creditor.as_str(),
        row.business_date
    )
    .fetch_all(&mut *connection)
    .await?;
    let tasks_open = sqlx::query_as!(
        WaitingSince,
        r#"SELECT kind AS what, count(*) AS "count!", min(opened_on) AS "since!" FROM dunning.task
           WHERE creditor = $1 AND closed_at IS NULL GROUP BY kind ORDER BY kind"#,
        creditor.as_str()
    )
    .fetch_all(&mut *connection)
    .await?;
    let approvals = sqlx::query_as!(
        WaitingSince,
        r#"SELECT 'awaiting_approval' AS "what!", count(*) AS "count!", business_date AS since FROM dunning.notice
           WHERE creditor = $1 AND waits_for = 'approval' GROUP BY business_date ORDER BY business_date"#,
        creditor.as_str()
    )
    .fetch_all(&mut *connection)
    .await?;
    let unresolved = sqlx::query_as!(
        WaitingSince,
        r#"SELECT state AS what, count(*) AS "count!", min(business_date) AS "since!" FROM dunning.notice
           WHERE creditor = $1 AND unresolved GROUP BY state ORDER BY state"#,
        creditor.as_str()
    )
    .fetch_all(&mut *connection)
    .await?;
    let delivered = sqlx::query_as!(
        Delivered,
        r#"SELECT count(*) FILTER (WHERE n.state = 'accepted' AND n.changed_at > since.at) AS "accepted!",
               count(*) FILTER (WHERE n.state = 'refused' AND n.changed_at > since.at) AS "refused!",
               count(*) FILTER (WHERE n.state = 'cancelled' AND n.reason = $3 AND n.changed_at > since.at) AS "expired!",
               count(*) FILTER (WHERE n.waits_for = 'delivery') AS "queued!"
           FROM dunning.notice n
           CROSS JOIN (SELECT coalesce(max(completed_at), '-infinity') AS at FROM dunning.run
                       WHERE creditor = $1 AND state = 'completed' AND scheduled AND business_date < $2) since
           WHERE n.creditor = $1 AND n.channel = 'email'"#,
        creditor.as_str(),
        row.business_date,
        CancelReason::Expired.as_str()
    )
    .fetch_one(&mut *connection)
    .await?;
    let mut stopped = open_breakers(connection).await?;
    stopped.retain(|breaker| breaker.concerns(creditor));
    let (log_events, log_head) = head(connection).await?;
    Ok(Some(DigestFacts {
        creditor: creditor.clone(),
        run,
        business_date: row.business_date,
        started_at: row.started_at,
        completed_at: row.completed_at,
        payments_as_of: row.payments_as_of,
        totals,
        tasks_opened: opened.into_iter().map(|row| (row.kind, row.count)).collect(),
        tasks_open,
        approvals,
        unresolved,
        delivered,
        stopped,
        log_events,
        log_head: hex::encode(log_head),
    }))
}

/// What makes a mail to the operator the one it is.
#[derive(Debug, Clone, Copy)]
pub struct OperatorMailKey<'a> {
    /// `digest`, `alarm` or `checkpoint`.
    pub kind: &'static str,
    pub creditor: &'a CreditorId,
    pub business_date: NaiveDate,
    pub cause: &'a str,
    pub recipient: &'a EmailAddress,
}

/// Whether that mail was written already, sent or not.
///
/// # Errors
/// When the database refuses.
pub async fn is_operator_mail_written(
    connection: &mut PgConnection,
    key: OperatorMailKey<'_>,
) -> Result<bool, RecordError> {
    let written = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM dunning.operator_mail
                          WHERE kind = $1 AND creditor = $2 AND business_date = $3 AND cause = $4 AND recipient = $5)
               AS "written!""#,
        key.kind,
        key.creditor.as_str(),
        key.business_date,
        key.cause,
        key.recipient.as_str()
    )
    .fetch_one(connection)
    .await?;
    Ok(written)
}

/// A mail to the operator that is to be sent.
#[derive(Debug, Clone)]
pub struct OperatorMail {
    pub mail: Uuid,
    pub sender: EmailAddress,
    pub recipient: EmailAddress,
    pub message_id: String,
    pub bytes: Vec<u8>,
    pub tries: u32,
}

/// Writes a mail, unless another daemon did so meanwhile.
///
/// # Errors
/// When the database refuses.
pub async fn write_operator_mail(
    connection: &mut PgConnection,
    key: OperatorMailKey<'_>,
    mail: &OperatorMail,
) -> Result<(), RecordError> {
    sqlx::query!(
        "INSERT INTO dunning.operator_mail
             (mail_id, kind, creditor, business_date, cause, recipient, sender, message_id, bytes)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT ON CONSTRAINT one_mail_per_cause_and_day DO NOTHING",
        mail.mail,
        key.kind,
        key.creditor.as_str(),
        key.business_date,
        key.cause,
        key.recipient.as_str(),
        mail.sender.as_str(),
        mail.message_id,
        mail.bytes
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether the time of a mail has come.
///
/// # Errors
/// When the database refuses.
pub async fn is_operator_mail_due(connection: &mut PgConnection) -> Result<bool, RecordError> {
    let due = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM dunning.operator_mail
                          WHERE state = 'queued' AND next_try_at <= clock_timestamp()
                             OR state = 'in_flight' AND changed_at < clock_timestamp() - interval '1 hour') AS "due!""#
    );
    Ok(due.fetch_one(connection).await?)
}

/// The mails whose time has come. One whose sender died on the wire is `unknown` from now on: it is never sent again.
///
/// # Errors
/// When the database refuses or holds an address that does not parse.
pub async fn operator_mails_due(connection: &mut PgConnection) -> Result<Vec<OperatorMail>, RecordError> {
    sqlx::query!(
        "UPDATE dunning.operator_mail SET state = 'unknown', detail = 'its sender died', changed_at = clock_timestamp()
         WHERE state = 'in_flight' AND changed_at < clock_timestamp() - interval '1 hour'"
    )
    .execute(&mut *connection)
    .await?;
    let rows = sqlx::query!(
        "SELECT mail_id, sender, recipient, message_id, bytes, tries FROM dunning.operator_mail
         WHERE state = 'queued' AND next_try_at <= clock_timestamp() ORDER BY created_at LIMIT 100"
    )
    .fetch_all(connection)
    .await?;
    let address =
        |text: &str, column| EmailAddress::parse(text).map_err(|_| inconsistent("dunning.operator_mail", column, text));
    rows.into_iter()
        .map(|row| {
            Ok(OperatorMail {
                mail: row.mail_id,
                sender: address(&row.sender, "sender")?,
                recipient: address(&row.recipient, "recipient")?,
                message_id: row.message_id,
                bytes: row.bytes,
                tries: whole("dunning.operator_mail", "tries", row.tries)?,
            })
        })
        .collect()
}

/// Takes a mail for sending, just before its first byte; false when another daemon has it.
///
/// # Errors
/// When the database refuses.
pub async fn take_operator_mail(connection: &mut PgConnection, mail: Uuid) -> Result<bool, RecordError> {
    let taken = sqlx::query!(
        "UPDATE dunning.operator_mail SET state = 'in_flight', changed_at = clock_timestamp()
         WHERE mail_id = $1 AND state = 'queued'",
        mail
    )
    .execute(connection)
    .await?;
    Ok(taken.rows_affected() == 1)
}

/// Records how a try ended, by who made it: after he took the mail, or before. Another daemon's try is not his to end.
/// Without `next_try_at` none is made again.
///
/// # Errors
/// When the database refuses.
pub async fn settle_operator_mail(
    connection: &mut PgConnection,
    mail: Uuid,
    taken: bool,
    outcome: &Outcome,
    next_try_at: Option<DateTime<Utc>>,
) -> Result<(), RecordError> {
    let (state, detail) = match outcome {
        Outcome::Accepted { reply } => ("accepted", reply.text.clone()),
        Outcome::Refused { reply, detail, .. } => {
            ("refused", reply.as_ref().map_or_else(|| detail.clone(), |reply| reply.text.clone()))
        }
        Outcome::Deferred { detail, .. } if next_try_at.is_none() => ("refused", detail.clone()),
        Outcome::Deferred { detail, .. } => ("queued", detail.clone()),
        Outcome::Unknown { detail, .. } => ("unknown", detail.clone()),
    };
    sqlx::query!(
        "UPDATE dunning.operator_mail SET state = $2, detail = $3, tries = tries + 1,
             next_try_at = coalesce($4, next_try_at), changed_at = clock_timestamp()
         WHERE mail_id = $1 AND state = $5",
        mail,
        state,
        detail,
        next_try_at,
        if taken { "in_flight" } else { "queued" }
    )
    .execute(connection)
    .await?;
    Ok(())
}
