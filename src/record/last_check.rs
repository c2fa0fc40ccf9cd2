//! The last check: between RCPT and DATA everything is asked once more, and what does not hold any more is cancelled.

use std::ops::RangeInclusive;

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::model::{Actor, CancelReason, Event};

use super::attempts::{ClaimedNotice, event};
use super::resend::{back_to_unknown, stopped_as};
use super::{RecordError, append};

/// What the last check looks through.
#[derive(Debug, Clone)]
pub struct LastCheck<'a> {
    pub claimed: &'a ClaimedNotice,
    /// The business date of the domain clock in the creditor's zone.
    pub today: NaiveDate,
    /// Payments have to be imported up to a moment within these; `None` for a notice seen through `--as-of`.
    pub payments_as_of: Option<RangeInclusive<DateTime<Utc>>>,
}

impl LastCheck<'_> {
    fn payments(&self) -> (Option<DateTime<Utc>>, Option<DateTime<Utc>>) {
        self.payments_as_of.clone().map(RangeInclusive::into_inner).unzip()
    }
}

/// The last check: one statement that asks everything again and moves the notices to `in_flight` that pass. Called when
/// their sessions stand at RCPT-ok; after its commit the bodies have to follow within two seconds. Whether each one
/// passed, in the order of the questions; those that did not are for [`stopped`].
///
/// # Errors
/// When the database refuses; then nothing may be sent.
pub async fn in_flight_check(
    connection: &mut PgConnection,
    checks: &[LastCheck<'_>],
    in_flight_seconds: u32,
) -> Result<Vec<bool>, RecordError> {
    let notices: Vec<Uuid> = checks.iter().map(|check| check.claimed.notice).collect();
    let tokens: Vec<Uuid> = checks.iter().map(|check| check.claimed.token).collect();
    let attempts: Vec<Uuid> = checks.iter().map(|check| check.claimed.attempt).collect();
    let days: Vec<NaiveDate> = checks.iter().map(|check| check.today).collect();
    let (needed, at_most): (Vec<_>, Vec<_>) = checks.iter().map(LastCheck::payments).unzip();
    let accounts: Vec<&str> = checks.iter().map(|check| check.claimed.account.as_str()).collect();
    let demanded: Vec<&str> = checks.iter().map(|check| check.claimed.demanded.as_str()).collect();
    let as_of: Vec<Option<NaiveDate>> = checks.iter().map(|check| check.claimed.as_of).collect();
    let business_dates: Vec<NaiveDate> = checks.iter().map(|check| check.claimed.business_date).collect();
    let passed = sqlx::query_scalar!(
        r#"WITH passed AS (
             UPDATE dunning.notice n
             SET state = 'in_flight', counted_on = c.today, lease_until = clock_timestamp() + make_interval(secs => $5),
                 changed_at = clock_timestamp()
             FROM unnest($1::uuid[], $2::uuid[], $3::date[], $4::timestamptz[], $6::uuid[], $8::text[], $11::timestamptz[])
                 WITH ORDINALITY AS c (notice_id, token, today, needed, attempt_id, demanded, at_most, place)
             JOIN dunning.ledger_fingerprints($7, $8, $9, $10) l USING (place)
             WHERE n.notice_id = c.notice_id AND n.lease_token = c.token AND n.state = 'claimed'
               AND n.lease_until > clock_timestamp()
               AND n.valid_until >= c.today AND coalesce(upper(n.send_windows), 'infinity') > clock_timestamp()
               AND NOT EXISTS (SELECT FROM dunning.pause WHERE reason IS NOT NULL)
               AND NOT EXISTS (SELECT FROM dunning.control WHERE mode = 'shadow')
               AND (c.needed IS NULL
                    OR (SELECT min(f.payments_as_of::timestamptz) BETWEEN c.needed AND c.at_most
                               AND bool_and(isfinite(f.payments_as_of::timestamptz))
                        FROM ledger.freshness f WHERE f.creditor IS NULL OR f.creditor::text = n.creditor))
               AND n.fingerprint = l.fingerprint
               -- On its own day the fingerprint says so; on a later one, days that the ledger named may have come.
               AND (c.today <= n.business_date
                    OR coalesce(dunning.day_to_come(n.account_id, c.demanded::text[], n.business_date) > c.today, true))
               -- A call is a contact too, and the caps did not know of it. The copy of a letter is none of its own.
               AND (n.redirected OR n.copy_of IS NOT NULL
                    OR NOT EXISTS (SELECT FROM dunning.call k JOIN dunning.run r ON r.run_id = n.run_id
                                   WHERE k.account_id COLLATE "C" = n.account_id
                                     AND k.called_at > greatest(r.started_at, n.approved_at)))
               AND (n.redirected
                    -- What the function says too, where nobody recorded anything: it costs more to call than to answer.
                    OR NOT EXISTS (SELECT FROM dunning.account_in_register r WHERE r.account_id = n.account_id)
                       AND EXISTS (SELECT FROM ledger.contact t
                                   WHERE t.account_id::text COLLATE "C" = n.account_id AND NOT t.no_email::boolean
                                     AND lower(t.email::text) = n.recipient_key)
                    OR dunning.wants_mail(n.account_id, n.recipient_key))
             RETURNING n.notice_id, c.attempt_id),
         attempted AS (
             INSERT INTO dunning.attempt (attempt_id, notice_id, number, started_at)
             SELECT attempt_id, notice_id,
                 (SELECT count(*) + 1 FROM dunning.attempt a WHERE a.notice_id = passed.notice_id), clock_timestamp()
             FROM passed
             ON CONFLICT (attempt_id) DO NOTHING)
         SELECT attempt_id AS "attempt_id!" FROM passed"#,
        &notices,
        &tokens,
        &days,
        &needed as &[Option<DateTime<Utc>>],
        f64::from(in_flight_seconds),
        &attempts,
        &accounts as &[&str],
        &demanded as &[&str],
        &as_of as &[Option<NaiveDate>],
        &business_dates,
        &at_most as &[Option<DateTime<Utc>>]
    )
    .fetch_all(connection)
    .await?;
    // Two sessions may ask for one notice, when the first one's lease ended: only the claim that stands has passed.
    Ok(attempts.iter().map(|attempt| passed.contains(attempt)).collect())
}

/// Finds out why a notice did not pass the last check, and cancels it; `None` when it is somebody else's by now: then
/// nothing is changed. In the caller's transaction.
///
/// # Errors
/// When the database refuses.
pub async fn stopped(
    connection: &mut PgConnection,
    check: &LastCheck<'_>,
    actor: &Actor,
) -> Result<Option<CancelReason>, RecordError> {
    let reason = why_not(connection, check).await?;
    if let Some(reason) = reason {
        let event = stop(connection, check, reason, actor).await?;
        append(connection, &[event]).await?;
    }
    Ok(reason)
}

/// Which of the questions of the last check said no; `None` when the lease is lost.
async fn why_not(connection: &mut PgConnection, check: &LastCheck<'_>) -> Result<Option<CancelReason>, RecordError> {
    let claimed = check.claimed;
    let (needed, at_most) = check.payments();
    let row = sqlx::query!(
        r#"SELECT
               n.lease_token IS NOT DISTINCT FROM $2 AND n.state = 'claimed' AND n.lease_until > clock_timestamp()
                   AS "mine!",
               EXISTS (SELECT FROM dunning.pause WHERE reason IS NOT NULL)
               OR EXISTS (SELECT FROM dunning.control WHERE mode = 'shadow') AS "paused!",
               n.valid_until >= $3 AND coalesce(upper(n.send_windows), 'infinity') > clock_timestamp() AS "valid!",
               $4::timestamptz IS NULL
                   OR coalesce((SELECT min(f.payments_as_of::timestamptz) BETWEEN $4 AND $5
                                       AND bool_and(isfinite(f.payments_as_of::timestamptz))
                                FROM ledger.freshness f WHERE f.creditor IS NULL OR f.creditor::text = n.creditor),
                               false) AS "fresh!",
               EXISTS (SELECT FROM unnest(c.items) AS i (item_id) WHERE NOT starts_with(i.item_id, 'plan:')
                         AND NOT EXISTS (SELECT FROM ledger.item l WHERE l.item_id::text = i.item_id)) AS "gone!",
               EXISTS (SELECT FROM dunning.notice_item i JOIN ledger.item l ON l.item_id::text = i.item_id
                       WHERE i.notice_id = n.notice_id AND l.open_amount::numeric < i.to_pay)
               OR EXISTS (SELECT FROM dunning.message m
                       CROSS JOIN LATERAL json_array_elements(m.snapshot -> 'items') AS s (item)
                       JOIN ledger.item l ON l.item_id::text = s.item ->> 'id'
                       WHERE m.notice_id = n.notice_id AND l.item_id::text = ANY (c.items)
                         AND (l.open_amount::numeric < (s.item ->> 'open_amount')::numeric
                              OR dunning.is_settled(l.open_amount::numeric, l.settled_on::date, $3)))
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
                       WHERE l.item_id::text = ANY (c.items)
                         AND (l.disputed_since::date <= $3 OR l.disputed_since IS NULL AND l.dispute_reason::text ~ '\S'))
               OR EXISTS (SELECT FROM dunning.hold h WHERE h.item_id = ANY (c.items) AND h.cause IS NOT NULL
                         AND h.released_at IS NULL)
                   AS "disputed!",
               EXISTS (SELECT FROM dunning.write_off w WHERE w.item_id = ANY (c.items) AND w.undone_at IS NULL)
               OR EXISTS (SELECT FROM ledger.item l
                       WHERE l.item_id::text = ANY (c.items) AND l.written_off_on::date <= $3)
                   AS "written_off!",
               EXISTS (SELECT FROM dunning.plan p JOIN dunning.plan_item i USING (plan_id, version)
                       WHERE i.item_id = ANY (c.items) AND greatest(p.agreed_at, p.ended_at) > r.started_at)
                   AS "planned!",
               EXISTS (SELECT FROM dunning.cause k
                       WHERE k.account_id = n.account_id AND (k.item_id IS NULL OR k.item_id = ANY (c.items))
                         AND greatest(k.recorded_at, k.cleared_at) > r.started_at) AS "cause!",
               EXISTS (SELECT FROM dunning.contact_entry e
                       WHERE e.account_id = n.account_id AND greatest(e.entered_at, e.ended_at) > r.started_at)
               OR NOT (n.redirected OR dunning.wants_mail(n.account_id, n.recipient_key))
               OR EXISTS (SELECT FROM dunning.call k
                          WHERE k.account_id COLLATE "C" = n.account_id AND NOT n.redirected AND n.copy_of IS NULL
                            AND k.called_at > greatest(r.started_at, n.approved_at))
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
           WHERE n.notice_id = $1
           FOR UPDATE OF n"#,
        claimed.notice,
        claimed.token,
        check.today,
        needed,
        at_most
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

/// Cancels what the last check stopped. What was to be sent again is unknown, as it was before.
async fn stop(
    connection: &mut PgConnection,
    LastCheck { claimed, today, .. }: &LastCheck<'_>,
    reason: CancelReason,
    actor: &Actor,
) -> Result<Event, RecordError> {
    let paid_on = (reason == CancelReason::PaidBeforeSend).then_some(*today);
    let unknown = !back_to_unknown(connection, &[claimed.notice], paid_on).await?.is_empty();
    let reason = reason.as_str();
    sqlx::query!(
        "UPDATE dunning.notice SET state = $3, reason = $2, lease_token = NULL, changed_at = clock_timestamp()
         WHERE notice_id = $1",
        claimed.notice,
        reason,
        if unknown { "unknown" } else { "cancelled" }
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "UPDATE dunning.notice_item SET live = false WHERE notice_id = $1 AND NOT $2",
        claimed.notice,
        unknown
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "INSERT INTO dunning.attempt AS a (attempt_id, notice_id, number, started_at, ended_at, outcome, detail)
         SELECT $1, $3, (SELECT count(*) + 1 FROM dunning.attempt WHERE notice_id = $3), clock_timestamp(),
             clock_timestamp(), 'cancelled', $2
         ON CONFLICT (attempt_id) DO UPDATE
         SET outcome = excluded.outcome, detail = excluded.detail, ended_at = excluded.ended_at",
        claimed.attempt,
        reason,
        claimed.notice
    )
    .execute(&mut *connection)
    .await?;
    Ok(event(stopped_as(unknown), claimed, actor, json!({ "reason": reason })))
}
