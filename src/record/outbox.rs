//! What is not at its end: notices on their way, attempts and open tasks as people see them, and what a person decides
//! about a notice whose end is not known or that failed for good.

use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::model::{Actor, CancelReason, Event, EventKind, Mode, NoticeState, OnUnknown, Reply, TaskKind, counted};

use super::approvals::beside_contacts;
use super::resend::WAIT_HOURS;
use super::{RecordError, append, inconsistent};

/// What a person knows about a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// It did arrive: the stage is complete as of the day of the attempt.
    Accepted,
    /// It did not go out: the stage may be sent again.
    NotSent,
}

/// Why a notice could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error("there is no notice {0}")]
    NoSuchNotice(Uuid),
    #[error("notice {notice} is {state}; only an unknown, refused or bounced one can be resolved")]
    NothingToResolve { notice: Uuid, state: String },
    #[error("notice {0} was refused, so it was not accepted; resolve it as not sent")]
    WasRefused(Uuid),
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl From<sqlx::Error> for ResolveError {
    fn from(error: sqlx::Error) -> Self {
        Self::Record(error.into())
    }
}

/// Resolves a notice, with a reason and an event, in the caller's transaction.
///
/// # Errors
/// When there is no such notice, nothing to resolve about it, or the database refuses.
pub async fn resolve(
    connection: &mut PgConnection,
    notice: Uuid,
    resolution: Resolution,
    reason: &str,
    actor: &Actor,
) -> Result<(), ResolveError> {
    let row =
        sqlx::query!("SELECT state, creditor, account_id FROM dunning.notice WHERE notice_id = $1 FOR UPDATE", notice)
            .fetch_optional(&mut *connection)
            .await?
            .ok_or(ResolveError::NoSuchNotice(notice))?;
    let state = NoticeState::parse(&row.state).ok_or_else(|| inconsistent("dunning.notice", "state", &row.state))?;
    if !state.needs_resolution() {
        return Err(ResolveError::NothingToResolve { notice, state: row.state });
    }
    if state == NoticeState::Refused && resolution == Resolution::Accepted {
        return Err(ResolveError::WasRefused(notice));
    }
    match resolution {
        Resolution::Accepted => {
            sqlx::query!(
                "UPDATE dunning.notice SET state = 'accepted', accepted_on = coalesce(counted_on, business_date),
                     reason = 'resolved', changed_at = clock_timestamp() WHERE notice_id = $1",
                notice
            )
            .execute(&mut *connection)
            .await?;
            sqlx::query!(
                "UPDATE dunning.notice_item i SET live = NOT n.redirected FROM dunning.notice n
                 WHERE n.notice_id = i.notice_id AND i.notice_id = $1 AND n.copy_of IS NULL",
                notice
            )
            .execute(&mut *connection)
            .await?;
        }
        Resolution::NotSent => {
            sqlx::query!(
                "UPDATE dunning.notice SET state = 'cancelled', reason = $2, changed_at = clock_timestamp()
                 WHERE notice_id = $1",
                notice,
                CancelReason::ResolvedNotSent.as_str()
            )
            .execute(&mut *connection)
            .await?;
            sqlx::query!("UPDATE dunning.notice_item SET live = false WHERE notice_id = $1", notice)
                .execute(&mut *connection)
                .await?;
        }
    }
    sqlx::query!(
        "UPDATE dunning.task SET closed_at = clock_timestamp()
         WHERE account_id = $1 AND kind = 'resolve_notice' AND subject = $2 AND closed_at IS NULL",
        row.account_id,
        notice.to_string()
    )
    .execute(&mut *connection)
    .await?;
    let kind = match resolution {
        Resolution::Accepted => EventKind::NoticeResolvedAccepted,
        Resolution::NotSent => EventKind::NoticeResolvedNotSent,
    };
    let event = Event {
        creditor: Some(row.creditor),
        account: Some(row.account_id),
        notice: Some(notice.to_string()),
        ..Event::new(kind, actor.clone(), json!({ "was": state.as_str(), "reason": reason }))
    };
    append(connection, &[event]).await?;
    Ok(())
}

/// A notice that is on its way or needs a person.
#[derive(Debug, Clone, serde::Serialize)]
pub struct OutboxRow {
    pub notice_id: Uuid,
    pub account_id: String,
    pub stage: String,
    pub state: String,
    pub business_date: chrono::NaiveDate,
    pub tries: i32,
    /// Why it came to that state, where there is more to say.
    pub reason: Option<String>,
    pub next_try_at: Option<chrono::DateTime<chrono::Utc>>,
    /// Where its send window is closed now, or its hour of a ramp is not there yet: when it may go at the earliest.
    pub not_before: Option<chrono::DateTime<chrono::Utc>>,
    /// Of the last attempt: phase, and the relay's code where it gave one.
    pub phase: Option<String>,
    pub reply_code: Option<i32>,
    /// How it ended, in our words.
    pub detail: Option<String>,
    /// Why a person has to agree, where one has to.
    pub approval: Option<String>,
    pub approved_by: Option<String>,
    pub valid_until: chrono::NaiveDate,
    pub created_at: chrono::DateTime<chrono::Utc>,
    pub run_id: Uuid,
}

/// Every notice that is not at its end: first those that wait for a person, then the others, each oldest first.
///
/// # Errors
/// When the database refuses.
pub async fn outbox(connection: &mut PgConnection) -> Result<Vec<OutboxRow>, RecordError> {
    let rows = sqlx::query_as!(
        OutboxRow,
        r#"SELECT n.notice_id, n.account_id, n.stage, n.state, n.business_date, n.tries, n.reason, n.next_try_at,
               greatest((SELECT min(lower(w)) FROM unnest(n.send_windows) w
                         WHERE NOT n.send_windows @> clock_timestamp() AND lower(w) > clock_timestamp()),
                        CASE WHEN n.not_before > clock_timestamp() THEN n.not_before END) AS "not_before?",
               a.phase AS "phase?", a.reply_code AS "reply_code?", a.detail AS "detail?",
               n.approval, n.approved_by, n.valid_until, n.created_at, n.run_id
           FROM dunning.notice n
           LEFT JOIN LATERAL (SELECT phase, reply_code, detail FROM dunning.attempt a
                              WHERE a.notice_id = n.notice_id ORDER BY number DESC LIMIT 1) a ON true
           -- Each of them by an index: what has come to its end is not looked at.
           WHERE n.notice_id IN (
               SELECT notice_id FROM dunning.notice WHERE waits_for = 'delivery' OR waits_for = 'approval' OR unresolved
               UNION ALL
               SELECT p.notice_id FROM dunning.run r JOIN dunning.notice p USING (run_id)
               WHERE r.state = 'running' AND p.state = 'planned')
           ORDER BY n.state <> 'awaiting_approval', n.created_at, n.notice_id"#
    )
    .fetch_all(connection)
    .await?;
    Ok(rows)
}

/// From when a notice that waits for its send window may go out.
///
/// # Errors
/// When the database refuses.
pub async fn not_before(
    connection: &mut PgConnection,
    notice: Uuid,
) -> Result<Option<chrono::DateTime<chrono::Utc>>, RecordError> {
    let opens = sqlx::query_scalar!(
        "SELECT min(lower(w)) FROM dunning.notice n CROSS JOIN LATERAL unnest(n.send_windows) w
         WHERE n.notice_id = $1 AND n.state IN ('planned', 'awaiting_approval', 'queued', 'deferred')
           AND NOT n.send_windows @> clock_timestamp() AND lower(w) > clock_timestamp()",
        notice
    )
    .fetch_one(connection)
    .await?;
    Ok(opens)
}

/// A notice of which it is not known, or not said, what became of it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Unresolved {
    #[serde(rename = "notice")]
    pub notice_id: Uuid,
    pub stage: String,
    pub state: String,
    pub reason: Option<String>,
    pub message_id: String,
    pub changed_at: chrono::DateTime<chrono::Utc>,
    /// When it goes out once more by itself.
    pub resend_at: Option<chrono::DateTime<chrono::Utc>>,
    /// It would go out once more, had the debtor not been contacted otherwise since it was made.
    pub beside_contact: bool,
    /// It went out once more already, or was to.
    pub resent: bool,
}

/// A notice that is unknown, refused, bounced or still on the wire; `None` when it is anything else.
///
/// # Errors
/// When the database refuses.
pub async fn unresolved(connection: &mut PgConnection, notice: Uuid) -> Result<Option<Unresolved>, RecordError> {
    let row = sqlx::query!(
        r#"SELECT notice_id, stage, state, reason, message_id, changed_at, resend_of IS NOT NULL AS "resent!",
               CASE WHEN state = 'unknown' AND on_unknown = $2 AND resend_of IS NULL AND NOT redirected
                         AND NOT EXISTS (SELECT FROM dunning.control WHERE mode = $4)
                    THEN changed_at + make_interval(hours => $3) END AS "resend_at?"
           FROM dunning.notice WHERE notice_id = $1 AND state IN ('in_flight', 'unknown', 'refused', 'bounced')"#,
        notice,
        OnUnknown::ResendOnce.as_str(),
        WAIT_HOURS,
        Mode::Shadow.as_str()
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let beside_contact = row.resend_at.is_some() && !beside_contacts(connection, &[notice]).await?.is_empty();
    Ok(Some(Unresolved {
        notice_id: row.notice_id,
        stage: row.stage,
        state: row.state,
        reason: row.reason,
        message_id: row.message_id,
        changed_at: row.changed_at,
        resend_at: row.resend_at.filter(|_| !beside_contact),
        beside_contact,
        resent: row.resent,
    }))
}

/// One attempt, with the relay's own words: personal data, for people who may see it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct AttemptRow {
    pub number: i32,
    pub started_at: chrono::DateTime<chrono::Utc>,
    pub ended_at: Option<chrono::DateTime<chrono::Utc>>,
    pub outcome: Option<String>,
    pub phase: Option<String>,
    pub reply_code: Option<i32>,
    /// The enhanced status code (RFC 3463) in the reply, if it held one.
    pub reply_status: Option<String>,
    pub reply_text: Option<String>,
    pub detail: Option<String>,
}

/// The attempts of a notice, in order.
///
/// # Errors
/// When the database refuses.
pub async fn attempts_of(connection: &mut PgConnection, notice: Uuid) -> Result<Vec<AttemptRow>, RecordError> {
    let rows = sqlx::query!(
        "SELECT number, started_at, ended_at, outcome, phase, reply_code, reply_text, detail FROM dunning.attempt
         WHERE notice_id = $1 ORDER BY number",
        notice
    )
    .fetch_all(connection)
    .await?;
    let status = |code: Option<i32>, text: Option<&String>| {
        let reply = Reply { code: u16::try_from(code?).ok()?, text: text?.clone() };
        reply.status().map(|status| status.to_string())
    };
    let row = rows.into_iter().map(|row| AttemptRow {
        number: row.number,
        started_at: row.started_at,
        ended_at: row.ended_at,
        outcome: row.outcome,
        phase: row.phase,
        reply_code: row.reply_code,
        reply_status: status(row.reply_code, row.reply_text.as_ref()),
        reply_text: row.reply_text,
        detail: row.detail,
    });
    Ok(row.collect())
}

/// An open task.
#[derive(Debug, Clone, serde::Serialize)]
pub struct TaskRow {
    pub task_id: i64,
    pub creditor: String,
    /// Empty when it is about no single account.
    pub account_id: String,
    pub kind: String,
    pub subject: String,
    pub text: String,
    pub opened_on: chrono::NaiveDate,
    /// Of the notice to resolve: when it was tried last, how far that came, and the relay's code where it gave one.
    pub tried_at: Option<chrono::DateTime<chrono::Utc>>,
    pub phase: Option<String>,
    pub reply_code: Option<i32>,
    /// Of a call, letter or hand-over: something about what it demands changed since it was made.
    pub changed: bool,
}

/// Every open task, oldest first; of one kind and of one account when named.
///
/// # Errors
/// When the database refuses.
pub async fn open_tasks(
    connection: &mut PgConnection,
    kind: Option<TaskKind>,
    account: Option<&str>,
) -> Result<Vec<TaskRow>, RecordError> {
    let rows = sqlx::query_as!(
        TaskRow,
        r#"SELECT t.task_id, t.creditor, t.account_id, t.kind, t.subject, t.text, t.opened_on,
               a.started_at AS "tried_at?", a.phase AS "phase?", a.reply_code AS "reply_code?",
               coalesce(n.fingerprint <> dunning.ledger_fingerprint(n.account_id,
                   ARRAY(SELECT item_id FROM dunning.notice_item i WHERE i.notice_id = n.notice_id), n.as_of,
                   n.business_date), false) AS "changed!"
           FROM dunning.task t
           LEFT JOIN dunning.notice n
               ON n.notice_id = CASE WHEN t.kind IN ('make_call', 'post_letter', 'hand_over') THEN t.subject::uuid END
           LEFT JOIN LATERAL (SELECT started_at, phase, reply_code FROM dunning.attempt a
                              WHERE a.notice_id = CASE WHEN t.kind = $3 THEN t.subject::uuid END
                              ORDER BY number DESC LIMIT 1) a ON true
           WHERE t.closed_at IS NULL AND ($1::text IS NULL OR t.kind = $1) AND ($2::text IS NULL OR t.account_id = $2)
           ORDER BY t.opened_on, t.task_id"#,
        kind.map(TaskKind::as_str),
        account,
        TaskKind::ResolveNotice.as_str()
    )
    .fetch_all(connection)
    .await?;
    Ok(rows)
}

/// Notices whose send window is closed now.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Windowed {
    pub notices: i64,
    /// When the next window of one of them opens.
    pub not_before: chrono::DateTime<chrono::Utc>,
}

/// How many notices wait for their send window, if any do.
///
/// # Errors
/// When the database refuses.
pub async fn windowed(connection: &mut PgConnection) -> Result<Option<Windowed>, RecordError> {
    let row = sqlx::query!(
        r#"SELECT count(DISTINCT n.notice_id) AS "notices!", min(lower(w)) AS not_before
           FROM dunning.notice n CROSS JOIN LATERAL unnest(n.send_windows) w
           WHERE n.waits_for = 'delivery' AND n.state IN ('queued', 'deferred') AND NOT n.send_windows @> clock_timestamp()
             AND lower(w) > clock_timestamp()"#
    )
    .fetch_one(connection)
    .await?;
    Ok(row.not_before.map(|not_before| Windowed { notices: row.notices, not_before }))
}

/// What waits behind a breaker or for its next try, in words; what could be delivered now is not in it.
///
/// # Errors
/// When the database refuses.
pub async fn held_back(connection: &mut PgConnection) -> Result<Option<String>, RecordError> {
    let rows = sqlx::query!(
        r#"SELECT concat(b.kind, ' ', b.subject, ' (', b.cause, ')') AS "behind!", b.subject IS NOT NULL AS "stopped!",
               count(*) AS "notices!", min(coalesce(b.until, n.next_try_at)) AS "goes_on!"
           FROM dunning.notice n
           LEFT JOIN dunning.breaker b
               ON b.until > clock_timestamp()
               AND (b.kind = 'sender' AND b.subject = n.creditor
                    OR b.kind = 'content' AND b.subject = concat_ws('/', n.creditor, n.stage, n.language))
           WHERE n.waits_for = 'delivery' AND n.state IN ('queued', 'deferred')
             AND (b.subject IS NOT NULL OR n.next_try_at > clock_timestamp())
             AND coalesce(n.not_before, '-infinity') <= clock_timestamp()
             AND (n.send_windows IS NULL OR n.send_windows @> clock_timestamp())
           GROUP BY 1, 2 ORDER BY 2 DESC, 1"#
    )
    .fetch_all(connection)
    .await?;
    let words = rows.into_iter().map(|row| {
        let letters = counted(row.notices.unsigned_abs(), "letter");
        let at = row.goes_on.format("%Y-%m-%d %H:%M UTC");
        if row.stopped {
            format!("{letters} behind the stopped {}, until {at}", row.behind)
        } else {
            format!("{letters} for their next try, the first at {at}")
        }
    });
    Ok(Some(words.collect::<Vec<_>>().join("; ")).filter(|words| !words.is_empty()))
}

/// What could be delivered now, and why it was not: the distinct words of the last attempts, with how many notices.
///
/// # Errors
/// When the database refuses.
pub async fn waiting(connection: &mut PgConnection) -> Result<Vec<(String, i64)>, RecordError> {
    let rows = sqlx::query!(
        r#"SELECT coalesce(nullif(concat_ws(' ', a.phase || ':', a.reply_code::text, a.detail), ''), 'not tried yet') AS "why!",
               count(*) AS "count!"
           FROM dunning.claimable n
           LEFT JOIN LATERAL (SELECT phase, reply_code, detail FROM dunning.attempt a
                              WHERE a.notice_id = n.notice_id ORDER BY number DESC LIMIT 1) a ON true
           GROUP BY 1 ORDER BY 2 DESC, 1"#
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.why, row.count)).collect())
}
