//! What waits for a person: approved, dropped, or cancelled once its text is no longer true.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::model::{Actor, BrakeCode, CancelReason, CreditorId, Event, EventKind, ReleaseState};

use super::release::{Hours, let_out, remember_bank_accounts};
use super::resend::{back_to_unknown, stopped_as};
use super::{RecordError, append};

/// Which of the notices that wait for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    Notices(Vec<Uuid>),
    Run(Uuid),
    All,
}

/// A notice that waits for a person.
#[derive(Debug, Clone)]
pub struct WaitingNotice {
    pub notice: Uuid,
    pub run: Uuid,
    pub creditor: String,
    pub account: String,
    pub tone: String,
    /// A brake held its run, whatever else it waits for.
    pub braked: bool,
    pub as_of: Option<NaiveDate>,
    /// The login that asked for its run by hand.
    pub asked_by: Option<String>,
}

/// Why nothing could be approved or dropped.
#[derive(Debug, thiserror::Error)]
pub enum ApprovalError {
    #[error("there is no notice {0}")]
    NoSuchNotice(Uuid),
    #[error("there is no run {0}")]
    NoSuchRun(Uuid),
    #[error("notice {notice} is {state}; {wanted}")]
    NotInThatState { notice: Uuid, state: String, wanted: &'static str },
    #[error("nothing of it waits; `dunningd outbox list` shows what does")]
    NothingWaits,
    #[error(
        "{login} asked for the scan that made notice {notice}, and whoever asks does not approve what a brake held or a \
         formal notice: another login has to, or [approval] same_person in policy.toml allows it"
    )]
    SamePerson { login: String, notice: Uuid },
    #[error(
        "notice {notice} is of creditor {creditor}, who is no longer in creditors.toml: put him back, or drop it with \
         `dunningd outbox drop {notice}`"
    )]
    NoCreditor { creditor: String, notice: Uuid },
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl From<sqlx::Error> for ApprovalError {
    fn from(error: sqlx::Error) -> Self {
        Self::Record(error.into())
    }
}

/// Finds the notices that a person means, all of them in one of those states.
///
/// # Errors
/// When one of them does not exist or is in another state, when nothing is left, or the database refuses.
pub async fn waiting_notices(
    connection: &mut PgConnection,
    which: &Which,
    states: &[&str],
    wanted: &'static str,
) -> Result<Vec<WaitingNotice>, ApprovalError> {
    let states: Vec<String> = states.iter().map(|state| (*state).to_owned()).collect();
    match which {
        Which::Notices(ids) => {
            for id in ids {
                let state = sqlx::query_scalar!("SELECT state FROM dunning.notice WHERE notice_id = $1", id)
                    .fetch_optional(&mut *connection)
                    .await?
                    .ok_or(ApprovalError::NoSuchNotice(*id))?;
                if !states.contains(&state) {
                    return Err(ApprovalError::NotInThatState { notice: *id, state, wanted });
                }
            }
        }
        Which::Run(run) => {
            sqlx::query_scalar!("SELECT state FROM dunning.run WHERE run_id = $1", run)
                .fetch_optional(&mut *connection)
                .await?
                .ok_or(ApprovalError::NoSuchRun(*run))?;
        }
        Which::All => {}
    }
    let (ids, run) = match which {
        Which::Notices(ids) => (Some(ids.as_slice()), None),
        Which::Run(run) => (None, Some(*run)),
        Which::All => (None, None),
    };
    let rows = sqlx::query_as!(
        WaitingNotice,
        r#"SELECT n.notice_id AS notice, n.run_id AS run, n.creditor, n.account_id AS account, n.tone, n.as_of,
               r.asked_by, EXISTS (SELECT FROM jsonb_array_elements(r.brakes) b WHERE b ->> 'brake' <> $4) AS "braked!"
           FROM dunning.notice n JOIN dunning.run r USING (run_id)
           WHERE (n.waits_for = 'approval' OR n.waits_for = 'delivery') AND n.state = ANY ($1)
             AND ($2::uuid[] IS NULL OR n.notice_id = ANY ($2)) AND ($3::uuid IS NULL OR n.run_id = $3)
           ORDER BY n.created_at, n.notice_id"#,
        &states,
        ids,
        run,
        // A ramp holds nothing.
        BrakeCode::FirstRuns.as_str()
    )
    .fetch_all(connection)
    .await?;
    if rows.is_empty() { Err(ApprovalError::NothingWaits) } else { Ok(rows) }
}

/// Those of the notices beside which the debtor was, is or may be contacted otherwise since they were made, each with the
/// last day on which its text is true: a call, or another notice to the account or its mailbox. A letter and its e-mail
/// copy are one. Whether the caps still leave room for them, the rule has to say.
///
/// # Errors
/// When the database refuses.
pub async fn beside_contacts(
    connection: &mut PgConnection,
    notices: &[Uuid],
) -> Result<BTreeMap<Uuid, NaiveDate>, RecordError> {
    let rows = sqlx::query!(
        r#"SELECT n.notice_id, n.valid_until
           FROM dunning.notice n LEFT JOIN dunning.letter_copy c USING (notice_id)
           CROSS JOIN LATERAL (SELECT coalesce(c.recipient_key, n.recipient_key)) mailbox (key)
           WHERE n.notice_id = ANY ($1) AND (
               EXISTS (SELECT FROM dunning.call k WHERE k.account_id COLLATE "C" = n.account_id
                         AND (k.called_at > n.created_at OR k.called_on >= n.business_date))
               OR EXISTS (SELECT FROM dunning.notice o WHERE o.account_id COLLATE "C" = n.account_id
                            AND o.notice_id <> n.notice_id AND o.notice_id IS DISTINCT FROM n.copy_of
                            AND o.counted_on >= n.business_date)
               OR mailbox.key <> '' AND (
                   EXISTS (SELECT FROM dunning.notice o WHERE o.recipient_key = mailbox.key
                             AND o.notice_id <> n.notice_id
                             AND (o.counted_on >= n.business_date OR o.state IN ('planned', 'awaiting_approval', 'queued',
                                  'deferred', 'claimed', 'in_flight')))
                   OR EXISTS (SELECT FROM dunning.letter_copy d JOIN dunning.notice o USING (notice_id)
                              WHERE d.recipient_key = mailbox.key AND o.notice_id <> n.notice_id
                                AND o.state IN ('planned', 'awaiting_approval', 'with_person'))))"#,
        notices
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.notice_id, row.valid_until)).collect())
}

/// Approves notices about which nothing changed since they were made, and whose text is still true; gives those that it
/// approved. `today` is the business date of each. The others are left for [`super::notices::renew`] and a closer look.
///
/// # Errors
/// When the database refuses.
pub async fn approve(
    connection: &mut PgConnection,
    notices: &[(Uuid, NaiveDate)],
    hours: &mut Hours,
    own: &[(String, String)],
    reason: &str,
    actor: &Actor,
) -> Result<Vec<Uuid>, RecordError> {
    let (ids, days): (Vec<Uuid>, Vec<NaiveDate>) = notices.iter().copied().unzip();
    let rows = sqlx::query!(
        r#"UPDATE dunning.notice n
           SET approved_by = $3, approved_at = clock_timestamp()
           FROM unnest($1::uuid[], $2::date[]) AS meant (notice_id, today)
           WHERE n.notice_id = meant.notice_id AND n.state = 'awaiting_approval' AND n.valid_until >= meant.today
             AND n.fingerprint = dunning.ledger_fingerprint(n.account_id,
                     ARRAY(SELECT item_id FROM dunning.notice_item i WHERE i.notice_id = n.notice_id), n.as_of,
                     n.business_date)
             AND coalesce(dunning.day_to_come(n.account_id,
                     ARRAY(SELECT item_id FROM dunning.notice_item i WHERE i.notice_id = n.notice_id),
                     n.business_date) > meant.today, true)
           RETURNING n.notice_id, n.creditor, n.account_id, n.run_id, n.stage, n.approval, n.demanded"#,
        &ids,
        &days,
        actor.person
    )
    .fetch_all(&mut *connection)
    .await?;
    let approved: Vec<Uuid> = ids.iter().copied().filter(|id| rows.iter().any(|row| row.notice_id == *id)).collect();
    if approved.is_empty() {
        return Ok(approved);
    }
    let given = let_out(connection, &approved, hours, actor).await?;
    remember_bank_accounts(connection, &approved, own).await?;
    let mut events: Vec<Event> = rows
        .into_iter()
        .map(|row| Event {
            creditor: Some(row.creditor),
            account: Some(row.account_id),
            run: Some(row.run_id.to_string()),
            notice: Some(row.notice_id.to_string()),
            ..Event::new(
                EventKind::NoticeApproved,
                actor.clone(),
                json!({ "reason": reason, "stage": row.stage, "asked_for": row.approval, "up_to": row.demanded }),
            )
        })
        .collect();
    events.extend(given);
    append(connection, &events).await?;
    Ok(approved)
}

/// Drops notices before they go out.
///
/// # Errors
/// When the database refuses.
pub async fn drop_notices(
    connection: &mut PgConnection,
    notices: &[Uuid],
    reason: &str,
    actor: &Actor,
) -> Result<u64, RecordError> {
    let events = cancel_all(connection, notices, CancelReason::Dropped, Some(reason), actor).await?;
    if !events.is_empty() {
        append(connection, &events).await?;
    }
    Ok(events.len() as u64)
}

/// Cancels one notice for a reason of its own.
///
/// # Errors
/// When the database refuses.
pub async fn cancel_notice(
    connection: &mut PgConnection,
    notice: Uuid,
    reason: CancelReason,
    actor: &Actor,
) -> Result<(), RecordError> {
    let events = cancel_all(connection, &[notice], reason, None, actor).await?;
    if !events.is_empty() {
        append(connection, &events).await?;
    }
    Ok(())
}

/// Says that a person released or dropped what was held of a run. What a run let out by itself it did let out, whoever
/// approves the rest of it.
///
/// # Errors
/// When the database refuses.
pub async fn close_run(
    connection: &mut PgConnection,
    run: Uuid,
    to: ReleaseState,
    reason: &str,
    actor: &Actor,
) -> Result<(), RecordError> {
    let row = sqlx::query!(
        "UPDATE dunning.run SET release = CASE WHEN $2 = $3 AND release IN ($4, $5) THEN release ELSE $2 END
         WHERE run_id = $1 RETURNING creditor, brakes",
        run,
        to.as_str(),
        ReleaseState::Approved.as_str(),
        ReleaseState::Released.as_str(),
        ReleaseState::Ramped.as_str()
    )
    .fetch_one(&mut *connection)
    .await?;
    let kind = if to == ReleaseState::Dropped { EventKind::RunDropped } else { EventKind::RunApproved };
    let event = Event {
        creditor: Some(row.creditor),
        run: Some(run.to_string()),
        ..Event::new(kind, actor.clone(), json!({ "reason": reason, "brakes": row.brakes }))
    };
    append(connection, &[event]).await?;
    Ok(())
}

/// How many notices of a run wait for a person.
///
/// # Errors
/// When the database refuses.
pub async fn waiting_of_run(connection: &mut PgConnection, run: Uuid) -> Result<u64, RecordError> {
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM dunning.notice WHERE run_id = $1 AND waits_for = 'approval'"#,
        run
    )
    .fetch_one(connection)
    .await?;
    Ok(u64::try_from(count).unwrap_or_default())
}

/// How many notices of a creditor wait for a person.
///
/// # Errors
/// When the database refuses.
pub async fn waiting_for_approval(connection: &mut PgConnection, creditor: &CreditorId) -> Result<u32, RecordError> {
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM dunning.notice WHERE creditor = $1 AND waits_for = 'approval'"#,
        creditor.as_str()
    )
    .fetch_one(connection)
    .await?;
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Cancels what waited for a person, or for the relay, longer than its text is true, so that it is decided again. What
/// is sent once more stays what its first attempt left.
///
/// # Errors
/// When the database refuses.
pub async fn expire_waiting(
    connection: &mut PgConnection,
    creditor: &CreditorId,
    today: NaiveDate,
    actor: &Actor,
) -> Result<u64, RecordError> {
    let ids = sqlx::query_scalar!(
        "SELECT notice_id FROM dunning.notice
         WHERE creditor = $1 AND valid_until < $2
           AND (waits_for = 'approval'
                OR waits_for = 'delivery' AND state IN ('queued', 'deferred') AND as_of IS NULL)
         ORDER BY notice_id FOR UPDATE",
        creditor.as_str(),
        today
    )
    .fetch_all(&mut *connection)
    .await?;
    let events = cancel_all(connection, &ids, CancelReason::Expired, None, actor).await?;
    if !events.is_empty() {
        append(connection, &events).await?;
    }
    Ok(events.len() as u64)
}

/// Cancels notices that are not on the wire, and gives the events, which the caller appends last. What was to be sent
/// again is unknown, as it was before.
pub(super) async fn cancel_all(
    connection: &mut PgConnection,
    notices: &[Uuid],
    reason: CancelReason,
    why: Option<&str>,
    actor: &Actor,
) -> Result<Vec<Event>, RecordError> {
    if notices.is_empty() {
        return Ok(Vec::new());
    }
    let unknown = back_to_unknown(connection, notices, None).await?;
    let rows = sqlx::query!(
        "UPDATE dunning.notice SET state = CASE WHEN notice_id = ANY ($3) THEN 'unknown' ELSE 'cancelled' END, reason = $2,
             lease_token = NULL, changed_at = clock_timestamp()
         WHERE notice_id = ANY ($1) AND state IN ('planned', 'awaiting_approval', 'queued', 'deferred', 'claimed')
         RETURNING notice_id, creditor, account_id",
        notices,
        reason.as_str(),
        &unknown
    )
    .fetch_all(&mut *connection)
    .await?;
    let stopped: Vec<Uuid> = rows.iter().map(|row| row.notice_id).collect();
    let dead: Vec<Uuid> = stopped.iter().copied().filter(|notice| !unknown.contains(notice)).collect();
    sqlx::query!("UPDATE dunning.notice_item SET live = false WHERE notice_id = ANY ($1)", &dead)
        .execute(&mut *connection)
        .await?;
    sqlx::query!(
        "UPDATE dunning.attempt SET outcome = 'cancelled', detail = $2, ended_at = clock_timestamp()
         WHERE notice_id = ANY ($1) AND ended_at IS NULL",
        &stopped,
        reason.as_str()
    )
    .execute(connection)
    .await?;
    let facts = match why {
        Some(why) => json!({ "reason": reason.as_str(), "why": why }),
        None => json!({ "reason": reason.as_str() }),
    };
    Ok(rows
        .into_iter()
        .map(|row| {
            let kind = stopped_as(unknown.contains(&row.notice_id));
            Event {
                creditor: Some(row.creditor),
                account: Some(row.account_id),
                notice: Some(row.notice_id.to_string()),
                ..Event::new(kind, actor.clone(), facts.clone())
            }
        })
        .collect())
}
