//! What leaves a run, and when: the figures that the brakes look at, and the notices that they let out or put before a
//! person.

use std::collections::BTreeMap;

use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use crate::model::{
    Actor, ApprovalCause, CancelReason, ChangedAccount, Event, EventKind, LastRamp, Mode, Release, ReleaseState,
    Released, RunFigures,
};

use super::approvals::cancel_all;
use super::people::give_to_people;
use super::runs::{RunStart, lock_hours_here};
use super::{RecordError, append};

/// What the brakes look at, for the notices that the run has planned. `own`: the creditor's bank account per currency.
///
/// # Errors
/// When the database refuses.
pub async fn run_figures(
    connection: &mut PgConnection,
    run: &RunStart,
    own: &[(String, String)],
) -> Result<RunFigures, RecordError> {
    let creditor = run.creditor.as_str();
    let planned = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM dunning.notice WHERE run_id = $1 AND state = 'planned'"#,
        run.run.0
    )
    .fetch_one(&mut *connection)
    .await?;
    let accepted_before = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM dunning.notice n JOIN dunning.run r USING (run_id)
                          WHERE n.creditor = $1 AND n.accepted_on IS NOT NULL AND NOT n.redirected AND NOT r.partial)
               AS "accepted!""#,
        creditor
    )
    .fetch_one(&mut *connection)
    .await?;
    let forecast = sqlx::query_scalar!(
        "SELECT forecast FROM dunning.run
         WHERE creditor = $1 AND as_of = $2 AND NOT partial AND state = 'completed' AND business_date < $3
         ORDER BY business_date DESC, started_at DESC LIMIT 1",
        creditor,
        run.as_of,
        run.business_date
    )
    .fetch_optional(&mut *connection)
    .await?
    .flatten();
    // What a person let out or dropped, and what a mode or a brake kept, says nothing about how far the ramp has come.
    let ramp = sqlx::query!(
        r#"SELECT release, ramp_limit, business_date,
               (SELECT count(*) FROM dunning.notice n JOIN dunning.run r USING (run_id)
                WHERE n.creditor = $1 AND r.as_of = $2 AND n.business_date = $3
                  AND n.state NOT IN ('planned', 'awaiting_approval', 'cancelled')) AS "sent_today!"
           FROM dunning.run
           WHERE creditor = $1 AND as_of = $2 AND NOT partial AND state = 'completed' AND business_date <= $3
             AND (release = $4 OR ramp_limit IS NOT NULL)
           ORDER BY business_date DESC, started_at DESC LIMIT 1"#,
        creditor,
        run.as_of,
        run.business_date,
        ReleaseState::Released.as_str()
    )
    .fetch_optional(&mut *connection)
    .await?;
    let last_ramp = ramp.and_then(|row| {
        Some(LastRamp {
            limit: row.ramp_limit?.unsigned_abs(),
            sent_today: (row.business_date == run.business_date).then_some(row.sent_today.unsigned_abs()),
        })
    });
    let (currencies, accounts): (Vec<String>, Vec<String>) = own.iter().cloned().unzip();
    // What was never named before in that currency, to this account or by this creditor; what an item names itself, only
    // where that item was demanded before under another number.
    let changed = sqlx::query!(
        r#"WITH new AS MATERIALIZED (
               SELECT n.notice_id, n.creditor, n.account_id, i.item_id, i.currency, i.bank_account, i.of_item
               FROM dunning.notice n JOIN dunning.notice_item i USING (notice_id)
               WHERE n.run_id = $1 AND n.state = 'planned'
                 AND NOT EXISTS (SELECT FROM dunning.requisites r
                                 WHERE r.creditor = n.creditor AND r.account_id = n.account_id
                                   AND r.currency = i.currency AND r.bank_account = i.bank_account)
                 AND NOT EXISTS (SELECT FROM dunning.requisites r
                                 WHERE r.creditor = n.creditor AND r.account_id = ''
                                   AND r.currency = i.currency AND r.bank_account = i.bank_account)),
           compared AS (
               SELECT new.*, CASE WHEN new.of_item
                   THEN (SELECT CASE WHEN bool_and(i.bank_account <> new.bank_account) THEN max(i.bank_account) END
                         FROM dunning.notice_item i
                         WHERE i.item_id = new.item_id AND i.live AND i.notice_id <> new.notice_id)
                   ELSE (SELECT r.bank_account FROM dunning.requisites r
                         WHERE r.creditor = new.creditor AND r.currency = new.currency
                           AND (r.account_id = new.account_id OR r.account_id = '' AND own.currency IS NOT NULL)
                         ORDER BY r.account_id DESC, r.since DESC LIMIT 1)
                   END AS old
               FROM new LEFT JOIN unnest($2::text[], $3::text[]) AS own (currency, bank_account)
                   ON own.currency = new.currency AND own.bank_account = new.bank_account)
           SELECT currency AS "currency!", old AS "old!", bank_account AS "new!",
               count(DISTINCT notice_id) AS "notices!", min(account_id) AS "example!"
           FROM compared WHERE old IS NOT NULL GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"#,
        run.run.0,
        &currencies,
        &accounts
    )
    .fetch_all(connection)
    .await?;
    Ok(RunFigures {
        notices: planned.unsigned_abs(),
        forecast: forecast.map(i64::unsigned_abs),
        accepted_before,
        last_ramp,
        changed_accounts: changed
            .into_iter()
            .map(|row| ChangedAccount {
                currency: row.currency,
                old: row.old,
                new: row.new,
                notices: row.notices.unsigned_abs(),
                example: row.example,
            })
            .collect(),
    })
}

/// By what the planned notices of a run leave it.
#[derive(Debug)]
pub struct ReleaseOrder<'a> {
    pub mode: Mode,
    /// What the brakes say. Only the mode `live` asks them; `approve_all` shows what they say.
    pub release: Release,
    /// Notices whose recipient this installation may not write to.
    pub not_allowed: &'a [Uuid],
    /// Days for which the text stays true of what waits for a person.
    pub valid_days: u32,
    pub per_hour: u64,
    /// The creditor's bank account per currency.
    pub own: &'a [(String, String)],
    /// What the run expects of the next working day.
    pub forecast: u64,
}

/// Lets the planned notices of a run leave it, or not. Gives what became of them and the events, which [`finish`] appends
/// with those of the notices that stay.
///
/// [`finish`]: super::runs::finish
///
/// # Errors
/// When the database refuses.
pub async fn release_run(
    connection: &mut PgConnection,
    run: &RunStart,
    order: &ReleaseOrder<'_>,
    actor: &Actor,
) -> Result<(Released, Vec<Event>), RecordError> {
    let mut events = cancel_all(connection, order.not_allowed, CancelReason::RecipientNotAllowed, None, actor).await?;
    let not_allowed = events.len() as u64;
    let (state, braked, ramp_limit) = match (order.mode, &order.release) {
        (Mode::Shadow, _) => (ReleaseState::Shadow, Vec::new(), None),
        (Mode::ApproveAll, Release::Hold(braked)) => (ReleaseState::ApproveAll, braked.clone(), None),
        (Mode::ApproveAll, _) => (ReleaseState::ApproveAll, Vec::new(), None),
        (Mode::Live, Release::All) => (ReleaseState::Released, Vec::new(), None),
        (Mode::Live, Release::Ramp { limit, base, braked }) => {
            (ReleaseState::Ramped, vec![braked.clone()], Some((*limit, *base)))
        }
        (Mode::Live, Release::Hold(braked)) => (ReleaseState::Held, braked.clone(), None),
    };
    let everybody_waits = match state {
        ReleaseState::ApproveAll if braked.is_empty() => Some(ApprovalCause::ApproveAll),
        ReleaseState::ApproveAll | ReleaseState::Held => Some(ApprovalCause::Brake),
        _ => None,
    };
    let mut awaiting = 0;
    if state != ReleaseState::Shadow {
        awaiting = sqlx::query!(
            "UPDATE dunning.notice
             SET state = 'awaiting_approval', approval = coalesce(approval, $2),
                 -- A letter has had the time of one who approves from the start. What a brake alone holds names days to
                 -- answer that run from the day on which it was to go: later it is decided anew.
                 valid_until = CASE WHEN channel = 'letter' OR $4 AND approval IS NULL AND respond_by IS NOT NULL
                                    THEN valid_until ELSE business_date + $3::int END,
                 changed_at = clock_timestamp()
             WHERE run_id = $1 AND state = 'planned' AND ($2::text IS NOT NULL OR approval IS NOT NULL)",
            run.run.0,
            everybody_waits.map(ApprovalCause::as_str),
            i32::try_from(order.valid_days).unwrap_or(i32::MAX),
            state == ReleaseState::Held
        )
        .execute(&mut *connection)
        .await?
        .rows_affected();
    }
    let limit = match (state, ramp_limit) {
        (ReleaseState::Shadow, _) => Some(0),
        (_, ramp_limit) => ramp_limit.map(|(limit, _)| limit),
    };
    // The oldest case first; cases opened on the same day by the oldest thing they demand.
    sqlx::query(
        r#"DECLARE dunning_released NO SCROLL CURSOR FOR
           SELECT n.notice_id FROM dunning.notice n
           LEFT JOIN dunning.debt_case c ON c.account_id = n.account_id AND c.closed_on IS NULL
           LEFT JOIN LATERAL (SELECT min(l.due_date::date) AS oldest FROM dunning.notice_item i
                              JOIN ledger.item l ON l.item_id::text = i.item_id
                              WHERE i.notice_id = n.notice_id) due ON $2::bigint IS NOT NULL
           WHERE n.run_id = $1 AND n.state = 'planned'
           ORDER BY c.opened_on, due.oldest, n.account_id COLLATE "C" LIMIT $2"#,
    )
    .bind(run.run.0)
    .bind(limit.map(|limit| i64::try_from(limit).unwrap_or(i64::MAX)))
    .execute(&mut *connection)
    .await?;
    lock_hours_here(connection, &run.creditor).await?;
    let mut hours = Hours::of(connection, run.creditor.as_str(), order.per_hour).await?;
    let mut out = 0;
    let mut given = Vec::new();
    loop {
        let fetch = AssertSqlSafe(format!("FETCH FORWARD {AT_ONCE} FROM dunning_released"));
        let some: Vec<Uuid> = sqlx::query_scalar(fetch).fetch_all(&mut *connection).await?;
        if some.is_empty() {
            break;
        }
        out += some.len();
        given.extend(let_out(connection, &some, &mut hours, actor).await?);
        remember_bank_accounts(connection, &some, order.own).await?;
    }
    let cancelled = if limit.is_some() { keep_back(connection, run, state).await? } else { 0 };
    let released = Released {
        state,
        braked,
        queued: (out - given.len()) as u64,
        tasks: given.len() as u64,
        awaiting,
        cancelled,
        not_allowed,
    };
    events.extend(given);
    sqlx::query!(
        "UPDATE dunning.run SET release = $2, brakes = $3, ramp_limit = $4, forecast = $5 WHERE run_id = $1",
        run.run.0,
        state.as_str(),
        serde_json::to_value(&released.braked).unwrap_or_default(),
        ramp_limit.map(|(_, base)| i64::try_from(base).unwrap_or(i64::MAX)),
        i64::try_from(order.forecast).unwrap_or(i64::MAX)
    )
    .execute(connection)
    .await?;
    Ok((released, events))
}

/// So many notices leave a run at a time: what is held of them in memory does not depend on how many there are.
const AT_ONCE: usize = 2000;

/// Why notices stay in a run that is released so.
fn reason_to_stay(state: ReleaseState) -> CancelReason {
    if state == ReleaseState::Shadow { CancelReason::Shadow } else { CancelReason::Ramped }
}

/// Cancels the notices that are still planned. Nobody ever tried to deliver one. Gives their number; the log hears of
/// them by [`append_kept_back`].
async fn keep_back(connection: &mut PgConnection, run: &RunStart, state: ReleaseState) -> Result<u64, RecordError> {
    let kept = sqlx::query!(
        "WITH kept AS (
             UPDATE dunning.notice SET state = 'cancelled', reason = $2, changed_at = clock_timestamp()
             WHERE run_id = $1 AND state = 'planned' RETURNING notice_id),
         dead AS (
             UPDATE dunning.notice_item i SET live = false FROM kept WHERE i.notice_id = kept.notice_id)
         SELECT count(*) AS \"kept!\" FROM kept",
        run.run.0,
        reason_to_stay(state).as_str()
    )
    .fetch_one(connection)
    .await?;
    Ok(kept.kept.unsigned_abs())
}

/// Appends the events of the notices that [`keep_back`] cancelled: in account order, and some at a time.
///
/// # Errors
/// When the database refuses.
pub(super) async fn append_kept_back(
    connection: &mut PgConnection,
    run: &RunStart,
    state: ReleaseState,
    actor: &Actor,
) -> Result<(), RecordError> {
    let reason = reason_to_stay(state).as_str();
    sqlx::query(
        r#"DECLARE dunning_kept_back NO SCROLL CURSOR FOR
           SELECT notice_id, account_id FROM dunning.notice
           WHERE run_id = $1 AND state = 'cancelled' AND reason = $2
           ORDER BY account_id COLLATE "C", notice_id"#,
    )
    .bind(run.run.0)
    .bind(reason)
    .execute(&mut *connection)
    .await?;
    loop {
        let fetch = AssertSqlSafe(format!("FETCH FORWARD {AT_ONCE} FROM dunning_kept_back"));
        let some: Vec<(Uuid, String)> = sqlx::query_as(fetch).fetch_all(&mut *connection).await?;
        if some.is_empty() {
            return Ok(());
        }
        let events = some.into_iter().map(|(notice, account)| Event {
            creditor: Some(run.creditor.to_string()),
            account: Some(account),
            notice: Some(notice.to_string()),
            ..Event::new(EventKind::NoticeCancelled, actor.clone(), json!({ "reason": reason }))
        });
        append(connection, &events.collect::<Vec<_>>()).await?;
    }
}

/// The hours from now on, with how many notices of a creditor go out in each of them.
#[derive(Debug)]
pub struct Hours {
    per_hour: u64,
    taken: BTreeMap<u64, u64>,
    /// Every hour before this one is full.
    first_free: u64,
}

impl Hours {
    /// The hours as the queue has them.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn of(connection: &mut PgConnection, creditor: &str, per_hour: u64) -> Result<Self, RecordError> {
        let rows = sqlx::query!(
            r#"SELECT hour AS "hour!", count(*) AS "notices!"
               FROM dunning.notice n
               CROSS JOIN LATERAL (SELECT greatest(n.not_before, n.next_try_at,
                       (SELECT min(lower(w)) FROM unnest(n.send_windows) w
                        WHERE NOT n.send_windows @> clock_timestamp() AND lower(w) > clock_timestamp())) AS at) goes
               CROSS JOIN LATERAL (SELECT floor(coalesce(greatest(
                       extract(epoch FROM goes.at - clock_timestamp()) / 3600, 0), 0))::bigint AS hour) h
               WHERE n.waits_for = 'delivery' AND n.state <> 'in_flight' AND n.creditor = $1
               GROUP BY 1"#,
            creditor
        )
        .fetch_all(connection)
        .await?;
        let taken = rows.into_iter().map(|row| (row.hour.unsigned_abs(), row.notices.unsigned_abs())).collect();
        Ok(Self { per_hour: per_hour.max(1), taken, first_free: 0 })
    }

    /// Without a limit: what goes out has its hour already.
    #[must_use]
    pub fn any() -> Self {
        Self { per_hour: u64::MAX, taken: BTreeMap::new(), first_free: 0 }
    }

    /// Takes a place in the first hour, from that one on, that has one.
    fn take(&mut self, earliest: u64) -> u64 {
        while self.is_full(self.first_free) {
            self.first_free += 1;
        }
        let mut hour = earliest.max(self.first_free);
        while self.is_full(hour) {
            hour += 1;
        }
        *self.taken.entry(hour).or_default() += 1;
        hour
    }

    fn is_full(&self, hour: u64) -> bool {
        self.taken.get(&hour).is_some_and(|taken| *taken >= self.per_hour)
    }
}

/// Queues the e-mails among the notices in that order, each in the first hour that has a place, and gives the others to
/// people; returns the events of those, which the caller appends last.
pub(super) async fn let_out(
    connection: &mut PgConnection,
    notices: &[Uuid],
    hours: &mut Hours,
    actor: &Actor,
) -> Result<Vec<Event>, RecordError> {
    if notices.is_empty() {
        return Ok(Vec::new());
    }
    let emails = sqlx::query!(
        r#"SELECT n.notice_id,
               floor(coalesce(greatest(extract(epoch FROM n.not_before - clock_timestamp()) / 3600, 0), 0))::bigint
                   AS "earliest!"
           FROM unnest($1::uuid[]) WITH ORDINALITY AS o (notice_id, n) JOIN dunning.notice n USING (notice_id)
           WHERE n.channel = 'email' ORDER BY o.n"#,
        notices
    )
    .fetch_all(&mut *connection)
    .await?;
    let (ids, places): (Vec<Uuid>, Vec<i32>) = emails
        .into_iter()
        .map(|row| (row.notice_id, i32::try_from(hours.take(row.earliest.unsigned_abs())).unwrap_or(i32::MAX)))
        .unzip();
    sqlx::query!(
        "UPDATE dunning.notice n
         SET state = 'queued', changed_at = clock_timestamp(),
             not_before = greatest(n.not_before,
                 CASE WHEN o.hour > 0 THEN clock_timestamp() + make_interval(hours => o.hour) END)
         FROM unnest($1::uuid[], $2::int[]) AS o (notice_id, hour)
         WHERE n.notice_id = o.notice_id",
        &ids,
        &places
    )
    .execute(&mut *connection)
    .await?;
    give_to_people(connection, notices, actor).await
}

/// Keeps the bank accounts that these letters name, so that a change is noticed.
pub(super) async fn remember_bank_accounts(
    connection: &mut PgConnection,
    notices: &[Uuid],
    own: &[(String, String)],
) -> Result<(), RecordError> {
    let (currencies, accounts): (Vec<String>, Vec<String>) = own.iter().cloned().unzip();
    sqlx::query!(
        "WITH named AS (
             SELECT DISTINCT n.creditor, n.account_id, i.currency, i.bank_account, i.of_item
             FROM dunning.notice n JOIN dunning.notice_item i USING (notice_id)
             WHERE n.notice_id = ANY ($1) AND i.bank_account IS NOT NULL)
         INSERT INTO dunning.requisites (creditor, account_id, currency, bank_account)
         SELECT creditor, account_id, currency, bank_account FROM named WHERE NOT of_item
         UNION
         SELECT creditor, '', currency, bank_account FROM named
         JOIN unnest($2::text[], $3::text[]) AS own (currency, bank_account) USING (currency, bank_account)
         ON CONFLICT DO NOTHING",
        notices,
        &currencies,
        &accounts
    )
    .execute(connection)
    .await?;
    Ok(())
}
