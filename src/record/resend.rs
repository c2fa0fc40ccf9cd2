//! Sending once more what nobody knows to be accepted, where the policy of its stage says so.
//!
//! The same notice goes through everything that any notice goes through, with the same bytes and Message-ID. Its first
//! attempt stays what it is: perhaps accepted. So a notice that was to be sent again never counts as refused, and is
//! cancelled only when nothing is left to pay; whatever else stops it leaves it unknown, for a person.

use chrono::NaiveDate;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::model::{Actor, Event, EventKind, Mode, OnUnknown};

use super::approvals::beside_contacts;
use super::settle::close_resolve_tasks;
use super::{RecordError, append};

/// The time in which a journal, a bounce or a person may still tell what became of it.
pub(super) const WAIT_HOURS: i32 = 24;

/// Queues the unknown notices whose stage lets them be sent once more, and of which nothing became known for a day. Each
/// one only once, none in the mode `shadow`, and none beside which the debtor was, is or may be contacted otherwise: the
/// caps allowed one contact, so a person has to say. Returns how many.
///
/// # Errors
/// When the database refuses.
pub async fn resend(connection: &mut PgConnection, actor: &Actor) -> Result<u64, RecordError> {
    let mut notices = sqlx::query_scalar!(
        "SELECT n.notice_id FROM dunning.notice n
         WHERE n.waits_for = 'news' AND n.on_unknown = $1 AND n.resend_of IS NULL AND NOT n.redirected
           AND n.changed_at < clock_timestamp() - make_interval(hours => $2)
           AND NOT EXISTS (SELECT FROM dunning.pause WHERE reason IS NOT NULL)
           AND NOT EXISTS (SELECT FROM dunning.control WHERE mode = $3)
         FOR UPDATE OF n",
        OnUnknown::ResendOnce.as_str(),
        WAIT_HOURS,
        Mode::Shadow.as_str()
    )
    .fetch_all(&mut *connection)
    .await?;
    if notices.is_empty() {
        return Ok(0);
    }
    let beside = beside_contacts(connection, &notices).await?;
    notices.retain(|notice| !beside.contains_key(notice));
    let rows = sqlx::query!(
        r#"UPDATE dunning.notice n
           SET state = 'queued', reason = NULL, resend_of = a.attempt_id, next_try_at = NULL,
               changed_at = clock_timestamp()
           FROM dunning.attempt a
           WHERE n.notice_id = ANY ($1)
             AND a.attempt_id = (SELECT attempt_id FROM dunning.attempt
                                 WHERE notice_id = n.notice_id AND outcome = 'unknown' ORDER BY number DESC LIMIT 1)
           RETURNING n.notice_id, n.creditor, n.account_id, n.stage, n.message_id, a.attempt_id"#,
        &notices
    )
    .fetch_all(&mut *connection)
    .await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let tasks: Vec<String> = rows.iter().map(|row| row.notice_id.to_string()).collect();
    close_resolve_tasks(connection, &tasks).await?;
    let events: Vec<Event> = rows
        .into_iter()
        .map(|row| Event {
            creditor: Some(row.creditor),
            account: Some(row.account_id),
            notice: Some(row.notice_id.to_string()),
            ..Event::new(
                EventKind::NoticeQueuedAgain,
                actor.clone(),
                json!({ "resend_of": row.attempt_id.to_string(), "stage": row.stage, "message_id": row.message_id }),
            )
        })
        .collect();
    append(connection, &events).await?;
    Ok(events.len() as u64)
}

/// Whether the notice of that attempt is being sent again just now.
///
/// # Errors
/// When the database refuses.
pub async fn is_sent_again(connection: &mut PgConnection, attempt: Uuid) -> Result<bool, RecordError> {
    let on_the_wire = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM dunning.notice WHERE resend_of = $1 AND state = 'in_flight') AS "is!""#,
        attempt
    );
    Ok(on_the_wire.fetch_one(connection).await?)
}

/// Which of these notices, if any, go back to `unknown` when they are stopped. Those that something paid stopped on
/// `paid_on` end instead when nothing is left to pay then, also of what is behind an instalment.
pub(super) async fn back_to_unknown(
    connection: &mut PgConnection,
    notices: &[Uuid],
    paid_on: Option<NaiveDate>,
) -> Result<Vec<Uuid>, RecordError> {
    let stopped = sqlx::query_scalar!(
        "SELECT n.notice_id FROM dunning.notice n
         WHERE n.notice_id = ANY ($1) AND n.resend_of IS NOT NULL
           AND ($2::date IS NULL OR EXISTS (
               SELECT FROM unnest(dunning.behind(n.account_id,
                   ARRAY(SELECT item_id FROM dunning.notice_item WHERE notice_id = n.notice_id))) AS i (item_id)
               LEFT JOIN ledger.item l ON l.item_id::text = i.item_id
               WHERE NOT starts_with(i.item_id, 'plan:')
                 AND NOT coalesce(l.open_amount::numeric <= 0
                                  OR dunning.is_settled(l.open_amount::numeric, l.settled_on::date, $2), false)))",
        notices,
        paid_on
    )
    .fetch_all(connection)
    .await?;
    Ok(stopped)
}

/// The event of a notice that was stopped before it was sent.
pub(super) fn stopped_as(unknown: bool) -> EventKind {
    if unknown { EventKind::NoticeUnknown } else { EventKind::NoticeCancelled }
}
