//! Attempts: a notice is claimed under a lease, checked once more just before DATA, and settled with what is known.
//!
//! What each crash point leaves behind:
//! 1. before the claim: a queued notice; the next worker takes it;
//! 2. after the claim, before the check: a claimed notice whose lease runs out; it is claimed again, one try burnt;
//! 3. after the check: `in_flight`, which nobody reclaims; the sweep makes it `unknown` when its time is over;
//! 4. after the relay's reply, before the commit: as 3. What is not known to be accepted is never called so.

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::model::{Actor, CancelReason, EmailAddress, Event, EventKind, Fault, Outcome, Reply};

use super::notices::commitment;
use super::{RecordError, append, inconsistent};

/// A notice that this worker alone may send until its lease ends.
#[derive(Debug, Clone)]
pub struct ClaimedNotice {
    pub notice: Uuid,
    pub attempt: Uuid,
    token: Uuid,
    pub creditor: String,
    pub account: String,
    pub stage: String,
    pub language: String,
    pub message_id: String,
    pub sender: EmailAddress,
    pub recipient: EmailAddress,
    /// Frozen when the notice was recorded; every attempt sends exactly these.
    pub bytes: Vec<u8>,
    salt: Vec<u8>,
    pub as_of: Option<NaiveDate>,
    pub business_date: NaiveDate,
    /// The last day on which the text is true.
    pub valid_until: NaiveDate,
    /// Attempts so far that got a reply about the recipient or the content, or crashed while claimed.
    pub tries: u32,
    /// A person approved it.
    pub approved: bool,
    /// It goes to a mailbox of our own.
    pub redirected: bool,
}

impl ClaimedNotice {
    /// Which letter it is: `creditor/stage/language`.
    #[must_use]
    pub fn letter(&self) -> String {
        format!("{}/{}/{}", self.creditor, self.stage, self.language)
    }
}

/// Claims the next notice that is due and whose send window is open, with a lease of that many seconds by the database's
/// clock. Passed over are the domains that have to wait, and what waits behind a breaker; whoever claims when such a wait
/// is over is the probe, and the others wait on for as long as its lease.
///
/// # Errors
/// When the database refuses.
pub async fn claim(
    connection: &mut PgConnection,
    attempt: Uuid,
    token: Uuid,
    lease_seconds: u32,
    waiting_domains: &[String],
) -> Result<Option<ClaimedNotice>, RecordError> {
    let row = sqlx::query!(
        "WITH next AS (
             SELECT notice_id, state FROM dunning.notice
             WHERE (state IN ('queued', 'deferred') AND coalesce(next_try_at, '-infinity') <= clock_timestamp()
                    OR state = 'claimed' AND lease_until < clock_timestamp())
               AND coalesce(not_before, '-infinity') <= clock_timestamp()
               AND (send_windows IS NULL OR send_windows @> clock_timestamp()
                    OR upper(send_windows) <= clock_timestamp())
               AND NOT EXISTS (SELECT FROM dunning.pause WHERE reason IS NOT NULL)
               AND NOT dunning.waits_for_breaker(creditor, stage, language)
               AND split_part(recipient_key, '@', 2) <> ALL ($3)
             ORDER BY created_at, notice_id LIMIT 1 FOR UPDATE SKIP LOCKED)
         UPDATE dunning.notice n
         SET state = 'claimed', lease_token = $1, lease_until = clock_timestamp() + make_interval(secs => $2),
             tries = tries + CASE WHEN next.state = 'claimed' THEN 1 ELSE 0 END, changed_at = clock_timestamp()
         FROM next, dunning.message m
         WHERE n.notice_id = next.notice_id AND m.notice_id = n.notice_id
         RETURNING n.notice_id, n.creditor, n.account_id, n.stage, n.language, n.message_id, n.as_of, n.business_date,
             n.valid_until, n.tries, n.redirected, n.approved_at IS NOT NULL AS \"approved!\", m.sender, m.recipient,
             m.bytes, m.salt",
        token,
        f64::from(lease_seconds),
        waiting_domains
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    sqlx::query!(
        "INSERT INTO dunning.attempt (attempt_id, notice_id, number, started_at)
         SELECT $1, $2, count(*) + 1, clock_timestamp() FROM dunning.attempt WHERE notice_id = $2",
        attempt,
        row.notice_id
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "UPDATE dunning.breaker SET until = clock_timestamp() + make_interval(secs => $4), probing = true
         WHERE until <= clock_timestamp()
           AND (kind = 'sender' AND subject = $1 OR kind = 'content' AND subject = concat_ws('/', $1, $2::text, $3::text))",
        row.creditor,
        row.stage,
        row.language,
        f64::from(lease_seconds)
    )
    .execute(connection)
    .await?;
    let address = |text: &str, column| {
        EmailAddress::parse(text).map_err(|_| inconsistent("dunning.message", column, "an address that does not parse"))
    };
    Ok(Some(ClaimedNotice {
        notice: row.notice_id,
        attempt,
        token,
        creditor: row.creditor,
        account: row.account_id,
        stage: row.stage,
        language: row.language,
        message_id: row.message_id,
        sender: address(&row.sender, "sender")?,
        recipient: address(&row.recipient, "recipient")?,
        bytes: row.bytes,
        salt: row.salt,
        as_of: row.as_of,
        business_date: row.business_date,
        valid_until: row.valid_until,
        tries: u32::try_from(row.tries).unwrap_or(0),
        approved: row.approved,
        redirected: row.redirected,
    }))
}

/// Whether a notice could be claimed now.
///
/// # Errors
/// When the database refuses.
pub async fn anything_due(connection: &mut PgConnection, waiting_domains: &[String]) -> Result<bool, RecordError> {
    let due = sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT FROM dunning.notice
               WHERE (state IN ('queued', 'deferred') AND coalesce(next_try_at, '-infinity') <= clock_timestamp()
                      OR state = 'claimed' AND lease_until < clock_timestamp())
                 AND coalesce(not_before, '-infinity') <= clock_timestamp()
                 AND (send_windows IS NULL OR send_windows @> clock_timestamp()
                      OR upper(send_windows) <= clock_timestamp())
                 AND NOT EXISTS (SELECT FROM dunning.pause WHERE reason IS NOT NULL)
                 AND NOT dunning.waits_for_breaker(creditor, stage, language)
                 AND split_part(recipient_key, '@', 2) <> ALL ($1)) AS "due!""#,
        waiting_domains
    )
    .fetch_one(connection)
    .await?;
    Ok(due)
}

/// What the last check looks through.
#[derive(Debug, Clone)]
pub struct LastCheck<'a> {
    pub claimed: &'a ClaimedNotice,
    /// The business date of the domain clock in the creditor's zone.
    pub today: NaiveDate,
    /// Payments have to be imported up to this moment; `None` for a notice seen through `--as-of`.
    pub payments_not_before: Option<DateTime<Utc>>,
}

/// The answer of the last check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// The notice is `in_flight`: the message must follow.
    Send,
    /// It was cancelled and must not go out.
    Cancelled(CancelReason),
    /// It is somebody else's now; nothing was changed and nothing may be sent.
    LeaseLost,
}

/// The last check: one statement that asks everything again and moves the notice to `in_flight`. Called when the
/// session stands at RCPT-ok; after it the body has to follow within two seconds.
///
/// # Errors
/// When the database refuses; then nothing may be sent.
pub async fn in_flight_check(
    connection: &mut PgConnection,
    check: &LastCheck<'_>,
    in_flight_seconds: u32,
    actor: &Actor,
) -> Result<Checked, RecordError> {
    let claimed = check.claimed;
    let moved = sqlx::query!(
        "UPDATE dunning.notice n
         SET state = 'in_flight', counted_on = $3, lease_until = clock_timestamp() + make_interval(secs => $5),
             changed_at = clock_timestamp()
         WHERE n.notice_id = $1 AND n.lease_token = $2 AND n.state = 'claimed' AND n.lease_until > clock_timestamp()
           AND n.valid_until >= $3 AND coalesce(upper(n.send_windows), 'infinity') > clock_timestamp()
           AND NOT EXISTS (SELECT FROM dunning.pause WHERE reason IS NOT NULL)
           AND ($4::timestamptz IS NULL OR (SELECT min(f.payments_as_of::timestamptz) FROM ledger.freshness f
                                            WHERE f.creditor IS NULL OR f.creditor::text = n.creditor) >= $4)
           AND n.fingerprint = dunning.ledger_fingerprint(n.account_id,
                   ARRAY(SELECT item_id FROM dunning.notice_item i WHERE i.notice_id = n.notice_id), n.as_of,
                   n.business_date)",
        claimed.notice,
        claimed.token,
        check.today,
        check.payments_not_before,
        f64::from(in_flight_seconds)
    )
    .execute(&mut *connection)
    .await?;
    if moved.rows_affected() == 1 {
        return Ok(Checked::Send);
    }
    let Some(reason) = why_not(connection, check).await? else { return Ok(Checked::LeaseLost) };
    cancel(connection, claimed, reason, actor).await?;
    Ok(Checked::Cancelled(reason))
}

/// Which of the questions of the last check said no; `None` when the lease is lost.
async fn why_not(connection: &mut PgConnection, check: &LastCheck<'_>) -> Result<Option<CancelReason>, RecordError> {
    let claimed = check.claimed;
    let row = sqlx::query!(
        r#"SELECT
               n.lease_token IS NOT DISTINCT FROM $2 AND n.state = 'claimed' AND n.lease_until > clock_timestamp()
                   AS "mine!",
               EXISTS (SELECT FROM dunning.pause WHERE reason IS NOT NULL) AS "paused!",
               n.valid_until >= $3 AND coalesce(upper(n.send_windows), 'infinity') > clock_timestamp() AS "valid!",
               $4::timestamptz IS NULL OR coalesce((SELECT min(f.payments_as_of::timestamptz) FROM ledger.freshness f
                   WHERE f.creditor IS NULL OR f.creditor::text = n.creditor) >= $4, false) AS "fresh!",
               EXISTS (SELECT FROM unnest(c.items) AS i (item_id) WHERE NOT starts_with(i.item_id, 'plan:')
                         AND NOT EXISTS (SELECT FROM ledger.item l WHERE l.item_id::text = i.item_id)) AS "gone!",
               EXISTS (SELECT FROM dunning.notice_item i JOIN ledger.item l ON l.item_id::text = i.item_id
                       WHERE i.notice_id = n.notice_id AND l.open_amount::numeric < i.to_pay)
               OR EXISTS (SELECT FROM dunning.message m
                       CROSS JOIN LATERAL jsonb_array_elements(m.snapshot -> 'items') AS s (item)
                       JOIN ledger.item l ON l.item_id::text = s.item ->> 'id'
                       WHERE m.notice_id = n.notice_id AND l.item_id::text = ANY (c.items)
                         AND l.open_amount::numeric < (s.item ->> 'open_amount')::numeric)
                   AS "paid!",
               EXISTS (SELECT FROM dunning.handover o WHERE o.account_id = n.account_id AND o.back_at IS NULL)
                   AS "handed_over!",
               EXISTS (SELECT FROM dunning.hold h WHERE h.account_id = n.account_id AND h.released_at IS NULL
                         AND h.cause IS NULL
                         AND (h.until IS NULL OR h.until >= $3)
                         AND (h.item_id IS NULL OR h.item_id = ANY (c.items)))
               OR EXISTS (SELECT FROM ledger.account a WHERE a.account_id::text = n.account_id
                         AND (a.hold_until >= $3 OR a.hold_until IS NULL AND a.hold_reason IS NOT NULL))
               OR EXISTS (SELECT FROM ledger.item l WHERE l.item_id::text = ANY (c.items)
                           AND (l.hold_until >= $3 OR l.hold_until IS NULL AND l.hold_reason IS NOT NULL))
                   AS "held!",
               EXISTS (SELECT FROM ledger.item l
                       WHERE l.item_id::text = ANY (c.items) AND l.disputed_since IS NOT NULL)
               OR EXISTS (SELECT FROM dunning.hold h WHERE h.item_id = ANY (c.items) AND h.cause IS NOT NULL
                         AND h.released_at IS NULL)
                   AS "disputed!",
               EXISTS (SELECT FROM dunning.write_off w WHERE w.item_id = ANY (c.items) AND w.undone_at IS NULL)
               OR EXISTS (SELECT FROM ledger.item l
                       WHERE l.item_id::text = ANY (c.items) AND l.written_off_on IS NOT NULL)
                   AS "written_off!",
               EXISTS (SELECT FROM dunning.plan p JOIN dunning.plan_item i USING (plan_id, version)
                       WHERE i.item_id = ANY (c.items) AND greatest(p.agreed_at, p.ended_at) > r.started_at)
                   AS "planned!",
               EXISTS (SELECT FROM dunning.cause k
                       WHERE k.account_id = n.account_id AND (k.item_id IS NULL OR k.item_id = ANY (c.items))
                         AND greatest(k.recorded_at, k.cleared_at) > r.started_at) AS "cause!",
               EXISTS (SELECT FROM dunning.contact_entry e
                       WHERE e.account_id = n.account_id AND greatest(e.entered_at, e.ended_at) > r.started_at)
                   AS "contact!",
               EXISTS (SELECT FROM dunning.notice_item i JOIN dunning.waiver w USING (item_id, stage)
                       WHERE i.notice_id = n.notice_id) AS "waived!",
               EXISTS (SELECT FROM dunning.notice_item i JOIN dunning.promise_item j USING (item_id)
                       JOIN dunning.promise p USING (promise_id)
                       WHERE i.notice_id = n.notice_id AND p.withdrawn_at IS NULL
                         AND p.made_at > r.started_at)
                   AS "promised!"
           FROM dunning.notice n JOIN dunning.run r USING (run_id)
           CROSS JOIN LATERAL (SELECT dunning.behind(n.account_id,
               ARRAY(SELECT item_id FROM dunning.notice_item i WHERE i.notice_id = n.notice_id)) AS items) c
           WHERE n.notice_id = $1"#,
        claimed.notice,
        claimed.token,
        check.today,
        check.payments_not_before
    )
    .fetch_one(connection)
    .await?;
    Ok(if !row.mine {
        None
    } else if row.paused {
        Some(CancelReason::Paused)
    } else if !row.valid {
        Some(CancelReason::Expired)
    } else if !row.fresh {
        Some(CancelReason::StaleLedger)
    } else if row.gone {
        Some(CancelReason::WithdrawnBeforeSend)
    } else if row.paid {
        Some(CancelReason::PaidBeforeSend)
    } else if row.handed_over {
        Some(CancelReason::HandedOverBeforeSend)
    } else if row.held {
        Some(CancelReason::HeldBeforeSend)
    } else if row.disputed {
        Some(CancelReason::DisputedBeforeSend)
    } else if row.promised {
        Some(CancelReason::PromisedBeforeSend)
    } else if row.written_off {
        Some(CancelReason::WrittenOffBeforeSend)
    } else if row.planned {
        Some(CancelReason::PlannedBeforeSend)
    } else if row.cause {
        Some(CancelReason::CauseBeforeSend)
    } else if row.contact {
        Some(CancelReason::ContactBeforeSend)
    } else if row.waived {
        Some(CancelReason::WaivedBeforeSend)
    } else {
        Some(CancelReason::LedgerChanged)
    })
}

async fn cancel(
    connection: &mut PgConnection,
    claimed: &ClaimedNotice,
    reason: CancelReason,
    actor: &Actor,
) -> Result<(), RecordError> {
    let reason = reason.as_str();
    sqlx::query!(
        "UPDATE dunning.notice SET state = 'cancelled', reason = $2, lease_token = NULL, changed_at = clock_timestamp()
         WHERE notice_id = $1",
        claimed.notice,
        reason
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!("UPDATE dunning.notice_item SET live = false WHERE notice_id = $1", claimed.notice)
        .execute(&mut *connection)
        .await?;
    sqlx::query!(
        "UPDATE dunning.attempt SET outcome = 'cancelled', detail = $2, ended_at = clock_timestamp()
         WHERE attempt_id = $1",
        claimed.attempt,
        reason
    )
    .execute(&mut *connection)
    .await?;
    append(connection, &[event(EventKind::NoticeCancelled, claimed, actor, json!({ "reason": reason }))]).await?;
    Ok(())
}

/// What happens to a notice that was not accepted this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextTry {
    At(DateTime<Utc>),
    /// Enough tries: the notice counts as refused.
    GiveUp,
    /// By then its text would no longer be true: it is cancelled, and its account decided again.
    TooLate,
}

/// Whether an outcome could be recorded for a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    Recorded,
    /// The notice was taken out of this worker's hands meanwhile; what it says stands.
    Overtaken,
}

/// Records how an attempt ended: attempt, state, liveness and event in the caller's transaction.
///
/// # Errors
/// When the database refuses.
pub async fn settle(
    connection: &mut PgConnection,
    claimed: &ClaimedNotice,
    outcome: &Outcome,
    next_try: NextTry,
    today: NaiveDate,
    actor: &Actor,
) -> Result<Settled, RecordError> {
    let (phase, detail) = match outcome {
        Outcome::Accepted { .. } => ("dot", None),
        Outcome::Deferred { phase, detail, .. } | Outcome::Unknown { phase, detail } => (phase.as_str(), Some(detail)),
        // The relay's own words say it, where it said any.
        Outcome::Refused { phase, reply, detail, .. } => (phase.as_str(), reply.is_none().then_some(detail)),
    };
    let (reply, fault) = (outcome.reply(), outcome.fault());
    let burns_try = !fault.is_some_and(Fault::is_ours);
    let gave_up = matches!((outcome, next_try), (Outcome::Deferred { .. }, NextTry::GiveUp));
    let too_late = matches!((outcome, next_try), (Outcome::Deferred { .. }, NextTry::TooLate));
    let (state, kind) = match outcome {
        Outcome::Accepted { .. } => ("accepted", EventKind::NoticeAccepted),
        Outcome::Refused { .. } => ("refused", EventKind::NoticeRefused),
        Outcome::Deferred { .. } if gave_up => ("refused", EventKind::NoticeRefused),
        Outcome::Deferred { .. } if too_late => ("cancelled", EventKind::NoticeCancelled),
        Outcome::Deferred { .. } => ("deferred", EventKind::NoticeDeferred),
        Outcome::Unknown { .. } => ("unknown", EventKind::NoticeUnknown),
    };
    let next_at = match (outcome, next_try) {
        (Outcome::Deferred { .. }, NextTry::At(at)) => Some(at),
        _ => None,
    };
    let reason = match outcome {
        _ if gave_up => Some("gave_up"),
        _ if too_late => Some(CancelReason::Expired.as_str()),
        _ => None,
    };
    let accepted_on = matches!(outcome, Outcome::Accepted { .. }).then_some(today);
    let moved = sqlx::query!(
        "UPDATE dunning.notice
         SET state = $3, accepted_on = $4, next_try_at = $5, tries = tries + $6, reason = $7, lease_token = NULL,
             changed_at = clock_timestamp()
         WHERE notice_id = $1 AND lease_token = $2 AND state IN ('claimed', 'in_flight')",
        claimed.notice,
        claimed.token,
        state,
        accepted_on,
        next_at,
        i32::from(burns_try),
        reason
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "UPDATE dunning.attempt
         SET outcome = $2, phase = $3, reply_code = $4, reply_text = $5, detail = $6, ended_at = clock_timestamp()
         WHERE attempt_id = $1",
        claimed.attempt,
        outcome.state().as_str(),
        phase,
        reply.map(|reply| i32::from(reply.code)),
        reply.map(|reply| reply.text.clone()),
        detail
    )
    .execute(&mut *connection)
    .await?;
    if moved.rows_affected() == 0 {
        return Ok(Settled::Overtaken);
    }
    // What went to a mailbox of our own completes no stage: the next run may write again.
    if matches!(state, "refused" | "cancelled") || claimed.redirected && state != "deferred" {
        sqlx::query!("UPDATE dunning.notice_item SET live = false WHERE notice_id = $1", claimed.notice)
            .execute(&mut *connection)
            .await?;
    }
    // The words of a reply often hold the address: the log keeps its code and a commitment to the words.
    let facts = json!({
        "attempt": claimed.attempt.to_string(), "phase": phase, "stage": claimed.stage,
        "reply_code": reply.map(|reply| reply.code.to_string()),
        "reply_status": reply.and_then(Reply::status).map(|status| status.to_string()),
        "fault": fault.map(Fault::as_str), "reason": reason,
        "reply_commitment": reply.map(|reply| commitment(&claimed.salt, reply.text.as_bytes())),
        "message_commitment": commitment(&claimed.salt, &claimed.bytes),
        "message_id": claimed.message_id, "business_date": today.to_string(), "gave_up": gave_up,
    });
    append(connection, &[event(kind, claimed, actor, facts)]).await?;
    Ok(Settled::Recorded)
}

/// Notices left `in_flight` by an instance that died: nobody knows, so they become `unknown`.
///
/// # Errors
/// When the database refuses.
pub async fn sweep(connection: &mut PgConnection, actor: &Actor) -> Result<u64, RecordError> {
    let rows = sqlx::query!(
        "UPDATE dunning.notice SET state = 'unknown', reason = 'instance_died', lease_token = NULL,
             changed_at = clock_timestamp()
         WHERE state = 'in_flight' AND lease_until < clock_timestamp()
         RETURNING notice_id, creditor, account_id, stage"
    )
    .fetch_all(&mut *connection)
    .await?;
    let events: Vec<Event> = rows
        .iter()
        .map(|row| Event {
            creditor: Some(row.creditor.clone()),
            account: Some(row.account_id.clone()),
            notice: Some(row.notice_id.to_string()),
            ..Event::new(
                EventKind::NoticeUnknown,
                actor.clone(),
                json!({ "reason": "instance_died", "stage": row.stage }),
            )
        })
        .collect();
    if events.is_empty() {
        return Ok(0);
    }
    let ids: Vec<Uuid> = rows.iter().map(|row| row.notice_id).collect();
    sqlx::query!(
        "UPDATE dunning.attempt SET outcome = 'unknown', detail = 'instance_died', ended_at = clock_timestamp()
         WHERE notice_id = ANY ($1) AND ended_at IS NULL",
        &ids
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "UPDATE dunning.notice_item i SET live = false FROM dunning.notice n
         WHERE n.notice_id = i.notice_id AND n.redirected AND n.notice_id = ANY ($1)",
        &ids
    )
    .execute(&mut *connection)
    .await?;
    append(connection, &events).await?;
    Ok(ids.len() as u64)
}

fn event(kind: EventKind, claimed: &ClaimedNotice, actor: &Actor, facts: serde_json::Value) -> Event {
    Event {
        creditor: Some(claimed.creditor.clone()),
        account: Some(claimed.account.clone()),
        notice: Some(claimed.notice.to_string()),
        ..Event::new(kind, actor.clone(), facts)
    }
}
