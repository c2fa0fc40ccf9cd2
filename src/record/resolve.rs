//! A person decides about a notice whose end is not known, or that failed for good.

use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::model::{Actor, CancelReason, Event, EventKind, NoticeState};

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
    #[error("notice {0} was refused by the relay, so it was not accepted; resolve it as not sent")]
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
            sqlx::query!("UPDATE dunning.notice_item SET live = true WHERE notice_id = $1", notice)
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
    pub next_try_at: Option<chrono::DateTime<chrono::Utc>>,
    /// Of the last attempt: phase, and the relay's code where it gave one.
    pub phase: Option<String>,
    pub reply_code: Option<i32>,
}

/// Every notice that is not at its end, oldest first.
///
/// # Errors
/// When the database refuses.
pub async fn outbox(connection: &mut PgConnection) -> Result<Vec<OutboxRow>, RecordError> {
    let rows = sqlx::query_as!(
        OutboxRow,
        r#"SELECT n.notice_id, n.account_id, n.stage, n.state, n.business_date, n.tries, n.next_try_at,
               a.phase AS "phase?", a.reply_code AS "reply_code?"
           FROM dunning.notice n
           LEFT JOIN LATERAL (SELECT phase, reply_code FROM dunning.attempt a
                              WHERE a.notice_id = n.notice_id ORDER BY number DESC LIMIT 1) a ON true
           WHERE n.state NOT IN ('accepted', 'cancelled', 'delivered', 'replied')
           ORDER BY n.created_at, n.notice_id"#
    )
    .fetch_all(connection)
    .await?;
    Ok(rows)
}
