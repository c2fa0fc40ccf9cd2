//! What leaves a run, and when: the mode, the database's identity, the figures that the brakes look at, and the notices
//! that a brake, the mode or a stage puts before a person.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::model::{
    Actor, CancelReason, ChangedAccount, CreditorId, Event, EventKind, LastRamp, Mode, Release, ReleaseState, Released,
    RunFigures,
};

use super::people::give_to_people;
use super::resend::{back_to_unknown, stopped_as};
use super::runs::RunStart;
use super::{RecordError, append, inconsistent};

/// How far the daemon may go, and who said so.
#[derive(Debug, Clone, Serialize)]
pub struct ModeState {
    pub mode: Mode,
    /// Missing as long as nobody changed what a new installation begins with.
    pub reason: Option<String>,
    pub since: Option<DateTime<Utc>>,
    pub by_person: Option<String>,
}

/// Reads the mode.
///
/// # Errors
/// When the database refuses.
pub async fn mode(connection: &mut PgConnection) -> Result<ModeState, RecordError> {
    let row = sqlx::query!("SELECT mode, reason, since, by_person FROM dunning.control").fetch_one(connection).await?;
    let mode = Mode::parse(&row.mode).ok_or_else(|| inconsistent("dunning.control", "mode", &row.mode))?;
    Ok(ModeState { mode, reason: row.reason, since: row.since, by_person: row.by_person })
}

/// Changes the mode; `false` when it is that one already. What is queued or waits already is not touched.
///
/// # Errors
/// When the database refuses.
pub async fn set_mode(
    connection: &mut PgConnection,
    to: Mode,
    reason: &str,
    actor: &Actor,
) -> Result<bool, RecordError> {
    let was = mode(connection).await?.mode;
    let changed = sqlx::query!(
        "UPDATE dunning.control SET mode = $1, reason = $2, since = clock_timestamp(), by_person = $3 WHERE mode <> $1",
        to.as_str(),
        reason,
        actor.person
    )
    .execute(&mut *connection)
    .await?;
    if changed.rows_affected() == 0 {
        return Ok(false);
    }
    let facts = json!({ "was": was.as_str(), "mode": to.as_str(), "reason": reason });
    append(connection, &[Event::new(EventKind::ModeChanged, actor.clone(), facts)]).await?;
    Ok(true)
}

/// Which database this is, seen from which machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// Of the database cluster: a dump that is restored elsewhere gets another one.
    pub system_identifier: String,
    pub database_name: String,
    pub host_id: String,
    /// Somebody said that it may send.
    pub adopted: bool,
}

/// Reads the identity of the database behind the connection, as that machine knows it.
///
/// # Errors
/// When the database refuses.
pub async fn identity(connection: &mut PgConnection, host_id: &str) -> Result<Identity, RecordError> {
    let row = sqlx::query!(
        r#"SELECT c.system_identifier::text AS "system_identifier!", current_database()::text AS "database_name!",
               EXISTS (SELECT FROM dunning.adoption a
                       WHERE a.system_identifier = c.system_identifier::text
                         AND a.database_name = current_database() AND a.host_id = $1) AS "adopted!"
           FROM pg_control_system() c"#,
        host_id
    )
    .fetch_one(connection)
    .await?;
    Ok(Identity {
        system_identifier: row.system_identifier,
        database_name: row.database_name,
        host_id: host_id.to_owned(),
        adopted: row.adopted,
    })
}

/// Says that this database may send from that machine; `false` when it may already.
///
/// # Errors
/// When the database refuses.
pub async fn adopt(
    connection: &mut PgConnection,
    host_id: &str,
    reason: &str,
    actor: &Actor,
) -> Result<bool, RecordError> {
    let identity = identity(connection, host_id).await?;
    let adopted = sqlx::query!(
        "INSERT INTO dunning.adoption (system_identifier, database_name, host_id, reason, adopted_by)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        identity.system_identifier,
        identity.database_name,
        identity.host_id,
        reason,
        actor.person
    )
    .execute(&mut *connection)
    .await?;
    if adopted.rows_affected() == 0 {
        return Ok(false);
    }
    let facts = json!({
        "system_identifier": identity.system_identifier, "database_name": identity.database_name,
        "host_id": identity.host_id, "reason": reason,
    });
    append(connection, &[Event::new(EventKind::DatabaseAdopted, actor.clone(), facts)]).await?;
    Ok(true)
}

/// Adopts a database that nobody ever adopted: the first migration does. `connection` is the administrator's.
///
/// # Errors
/// When the role cannot be taken or the database refuses.
pub async fn adopt_new(connection: &mut PgConnection, host_id: &str, actor: &Actor) -> Result<bool, RecordError> {
    sqlx::query("SET LOCAL ROLE dunningd_owner").execute(&mut *connection).await?;
    let adopted = sqlx::query_scalar!(r#"SELECT EXISTS (SELECT FROM dunning.adoption) AS "adopted!""#)
        .fetch_one(&mut *connection)
        .await?;
    if adopted { Ok(false) } else { adopt(connection, host_id, "first migration", actor).await }
}

/// How many notices of a creditor wait for a person.
///
/// # Errors
/// When the database refuses.
pub async fn waiting_for_approval(connection: &mut PgConnection, creditor: &CreditorId) -> Result<u32, RecordError> {
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM dunning.notice WHERE creditor = $1 AND state = 'awaiting_approval'"#,
        creditor.as_str()
    )
    .fetch_one(connection)
    .await?;
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Cancels what waited for a person longer than its text is true, so that it is decided again.
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
         WHERE creditor = $1 AND state = 'awaiting_approval' AND valid_until < $2 ORDER BY notice_id FOR UPDATE",
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
    let unknown = back_to_unknown(connection, notices, reason).await?;
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
    let ramp = sqlx::query!(
        r#"SELECT release, ramp_limit, business_date,
               (SELECT count(*) FROM dunning.notice n JOIN dunning.run r USING (run_id)
                WHERE n.creditor = $1 AND r.as_of = $2 AND n.business_date = $3
                  AND n.state NOT IN ('planned', 'awaiting_approval', 'cancelled')) AS "sent_today!"
           FROM dunning.run
           WHERE creditor = $1 AND as_of = $2 AND NOT partial AND state = 'completed' AND business_date <= $3
           ORDER BY business_date DESC, started_at DESC LIMIT 1"#,
        creditor,
        run.as_of,
        run.business_date
    )
    .fetch_optional(&mut *connection)
    .await?;
    let last_ramp = ramp.filter(|row| row.release.as_deref() == Some(ReleaseState::Ramped.as_str())).and_then(|row| {
        Some(LastRamp {
            limit: row.ramp_limit?.unsigned_abs(),
            sent_today: (row.business_date == run.business_date).then_some(row.sent_today.unsigned_abs()),
        })
    });
    let (currencies, accounts): (Vec<String>, Vec<String>) = own.iter().cloned().unzip();
    let changed = sqlx::query!(
        r#"SELECT named.currency AS "currency!", coalesce(before.bank_account, ours.bank_account) AS "old!",
               named.bank_account AS "new!", count(*) AS "notices!", min(n.account_id) AS "example!"
           FROM dunning.notice n JOIN dunning.message m USING (notice_id)
           CROSS JOIN LATERAL dunning.bank_accounts(m.letter) AS named
           LEFT JOIN dunning.requisites before
               ON before.creditor = n.creditor AND before.account_id = n.account_id AND before.currency = named.currency
           LEFT JOIN unnest($2::text[], $3::text[]) AS own (currency, bank_account)
               ON own.currency = named.currency AND own.bank_account = named.bank_account
           LEFT JOIN dunning.requisites ours
               ON ours.creditor = n.creditor AND ours.account_id = '' AND ours.currency = own.currency
           WHERE n.run_id = $1 AND n.state = 'planned'
             AND coalesce(before.bank_account, ours.bank_account) <> named.bank_account
           GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"#,
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

/// Lets the planned notices of a run leave it, or not. Gives what became of them and the events, which the caller
/// appends last.
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
        ReleaseState::ApproveAll => Some("approve_all"),
        ReleaseState::Held => Some("brake"),
        _ => None,
    };
    let mut awaiting = 0;
    if state != ReleaseState::Shadow {
        awaiting = sqlx::query!(
            "UPDATE dunning.notice
             SET state = 'awaiting_approval', approval = coalesce(approval, $2), valid_until = business_date + $3::int,
                 changed_at = clock_timestamp()
             WHERE run_id = $1 AND state = 'planned' AND ($2::text IS NOT NULL OR approval IS NOT NULL)",
            run.run.0,
            everybody_waits,
            i32::try_from(order.valid_days).unwrap_or(i32::MAX)
        )
        .execute(&mut *connection)
        .await?
        .rows_affected();
    }
    // The oldest case first; cases opened on the same day by the oldest thing they demand.
    let planned = sqlx::query_scalar!(
        r#"SELECT n.notice_id FROM dunning.notice n
           LEFT JOIN dunning.debt_case c ON c.account_id = n.account_id AND c.closed_on IS NULL
           LEFT JOIN LATERAL (SELECT min(l.due_date::date) AS oldest FROM dunning.notice_item i
                              JOIN ledger.item l ON l.item_id::text = i.item_id
                              WHERE i.notice_id = n.notice_id) due ON $2
           WHERE n.run_id = $1 AND n.state = 'planned'
           ORDER BY c.opened_on, due.oldest, n.account_id COLLATE "C""#,
        run.run.0,
        ramp_limit.is_some()
    )
    .fetch_all(&mut *connection)
    .await?;
    let limit = match (state, ramp_limit) {
        (ReleaseState::Shadow, _) => 0,
        (_, Some((limit, _))) => usize::try_from(limit).unwrap_or(usize::MAX),
        _ => usize::MAX,
    };
    let (out, kept) = planned.split_at(limit.min(planned.len()));
    let reason = if state == ReleaseState::Shadow { CancelReason::Shadow } else { CancelReason::Ramped };
    let cancelled = cancel_all(connection, kept, reason, None, actor).await?;
    let given = let_out(connection, out, order.per_hour, actor).await?;
    if !out.is_empty() {
        remember_bank_accounts(connection, out, order.own).await?;
    }
    let released = Released {
        state,
        braked,
        queued: (out.len() - given.len()) as u64,
        tasks: given.len() as u64,
        awaiting,
        cancelled: cancelled.len() as u64,
        not_allowed,
    };
    events.extend(cancelled);
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

/// Queues the e-mails among the notices in that order, so many in the first hour, as many in each hour after it, and
/// gives the others to people; returns the events of those, which the caller appends last.
pub(super) async fn let_out(
    connection: &mut PgConnection,
    notices: &[Uuid],
    per_hour: u64,
    actor: &Actor,
) -> Result<Vec<Event>, RecordError> {
    if notices.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query!(
        "UPDATE dunning.notice n
         SET state = 'queued', changed_at = clock_timestamp(),
             not_before = CASE WHEN o.n <= $2 THEN n.not_before
                               ELSE greatest(n.not_before, clock_timestamp() + make_interval(hours => ((o.n - 1) / $2)::int))
                          END
         FROM unnest($1::uuid[]) WITH ORDINALITY AS o (notice_id, n)
         WHERE n.notice_id = o.notice_id AND n.channel = 'email'",
        notices,
        i64::try_from(per_hour.max(1)).unwrap_or(i64::MAX)
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
             SELECT n.creditor, n.account_id, b.currency, b.bank_account
             FROM dunning.notice n JOIN dunning.message m USING (notice_id)
             CROSS JOIN LATERAL dunning.bank_accounts(m.letter) b
             WHERE n.notice_id = ANY ($1)),
         kept AS (
             SELECT DISTINCT ON (creditor, account_id, currency) * FROM named
             UNION ALL
             SELECT DISTINCT n.creditor, '', n.currency, n.bank_account FROM named n
             JOIN unnest($2::text[], $3::text[]) AS own (currency, bank_account)
                 ON own.currency = n.currency AND own.bank_account = n.bank_account)
         INSERT INTO dunning.requisites AS r (creditor, account_id, currency, bank_account)
         SELECT creditor, account_id, currency, bank_account FROM kept
         ON CONFLICT (creditor, account_id, currency)
             DO UPDATE SET bank_account = excluded.bank_account, since = clock_timestamp()
             WHERE r.bank_account <> excluded.bank_account",
        notices,
        &currencies,
        &accounts
    )
    .execute(connection)
    .await?;
    Ok(())
}

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
    pub approval: Option<String>,
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
        r#"SELECT n.notice_id AS notice, n.run_id AS run, n.creditor, n.account_id AS account, n.tone, n.approval, n.as_of,
               r.asked_by
           FROM dunning.notice n JOIN dunning.run r USING (run_id)
           WHERE n.state = ANY ($1) AND ($2::uuid[] IS NULL OR n.notice_id = ANY ($2))
             AND ($3::uuid IS NULL OR n.run_id = $3)
           ORDER BY n.created_at, n.notice_id"#,
        &states,
        ids,
        run
    )
    .fetch_all(connection)
    .await?;
    if rows.is_empty() { Err(ApprovalError::NothingWaits) } else { Ok(rows) }
}

/// Approves notices about which nothing changed since they were made, and whose text is still true; gives those that it
/// approved. `today` is the business date of each. The others are left for [`super::notices::renew`] and a closer look.
///
/// # Errors
/// When the database refuses.
pub async fn approve(
    connection: &mut PgConnection,
    notices: &[(Uuid, NaiveDate)],
    per_hour: u64,
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
    let given = let_out(connection, &approved, per_hour, actor).await?;
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

/// Says that a person released or dropped what was held of a run.
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
        "UPDATE dunning.run SET release = $2 WHERE run_id = $1 RETURNING creditor, brakes",
        run,
        to.as_str()
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
