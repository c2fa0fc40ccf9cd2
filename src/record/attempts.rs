//! Attempts: a notice is claimed under a lease, checked once more just before DATA, and settled with what is known.
//!
//! What each crash point leaves behind:
//! 1. before the claim: a queued notice; the next worker takes it;
//! 2. after the claim, before the check: a claimed notice whose lease runs out; it is claimed again, and one try is burnt
//!    if an attempt had begun: one begins with the claim of [`claim`], which is for a session that waits; that of
//!    [`claim_ahead`] has none before the check. What such a claim loses in a crash is claimed for a session the next
//!    time, so that whatever kills its worker again and again is given up all the same;
//! 3. after the check: `in_flight`, which nobody reclaims; the sweep makes it `unknown` when its time is over;
//! 4. after the relay's reply, before the commit: as 3, and the journal of replies on the machine that heard it settles
//!    the notice once that machine works again, before or after the sweep. Without it, what is not known to be accepted
//!    is never called so.
//!
//! Workers ask in groups: one statement claims, checks or settles for all of them.

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::model::{Actor, EmailAddress, Event, EventKind};

use super::{RecordError, append, inconsistent, whole};

/// What delivery asks of the planner, after `SET` or `SET LOCAL`.
macro_rules! settings {
    ($set:literal) => {
        concat!($set, " plan_cache_mode TO force_generic_plan; ", $set, " enable_seqscan TO off; ", $set, " jit TO off")
    };
}

const SETTINGS: &str = settings!("SET");
const SETTINGS_FORGETTABLE: &str = concat!(settings!("SET"), "; SET synchronous_commit TO off");
/// Begins a transaction of delivery on a connection that goes back to others, with what [`set_up`] sets.
pub const BEGIN: &str = concat!("BEGIN; ", settings!("SET LOCAL"));
/// The same, when what it does may be forgotten if the database crashes.
pub const BEGIN_FORGETTABLE: &str = concat!("BEGIN; ", settings!("SET LOCAL"), "; SET LOCAL synchronous_commit TO off");

/// Sets up a connection that delivery keeps to itself. Its statements ask for few rows by their keys, again and again: a
/// plan that looks them up is made once for each connection, and stays right however full the tables become. What is done
/// over a forgettable one a crash of the database may undo.
///
/// # Errors
/// When the database refuses.
pub async fn set_up(connection: &mut PgConnection, forgettable: bool) -> Result<(), RecordError> {
    sqlx::raw_sql(if forgettable { SETTINGS_FORGETTABLE } else { SETTINGS }).execute(connection).await?;
    Ok(())
}

/// A notice that this worker alone may send until its lease ends.
#[derive(Debug, Clone)]
pub struct ClaimedNotice {
    pub notice: Uuid,
    pub attempt: Uuid,
    /// Names the claim; whoever holds another one may neither send nor settle.
    pub token: Uuid,
    pub creditor: String,
    pub account: String,
    pub stage: String,
    pub language: String,
    pub message_id: String,
    pub sender: EmailAddress,
    pub recipient: EmailAddress,
    /// Frozen when the notice was recorded; every attempt sends exactly these.
    pub bytes: Vec<u8>,
    pub(super) salt: Vec<u8>,
    /// The items that it demands, as the text of an array.
    pub(super) demanded: String,
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
    /// The attempt whose end nobody knows, when this is the one time that the notice is sent again.
    pub resend_of: Option<Uuid>,
}

impl ClaimedNotice {
    /// Which letter it is: `creditor/stage/language`.
    #[must_use]
    pub fn letter(&self) -> String {
        format!("{}/{}/{}", self.creditor, self.stage, self.language)
    }
}

/// Claims the next notices that are due and whose send window is open, one for each of these attempts, with a lease of
/// that many seconds by the database's clock. Passed over are the domains that have to wait, and what waits behind a
/// breaker; when such a wait is over one notice alone is claimed as the probe, and the others wait on for as long as its
/// lease. In the order in which they were made.
///
/// # Errors
/// When the database refuses.
pub async fn claim(
    connection: &mut PgConnection,
    attempts: &[Uuid],
    token: Uuid,
    lease_seconds: u32,
    waiting_domains: &[String],
) -> Result<Vec<ClaimedNotice>, RecordError> {
    claim_as(connection, attempts, token, lease_seconds, waiting_domains, false).await
}

/// Claims for sessions that will ask soon: the attempts begin later, or the notices are let go. Nothing while a breaker
/// is there, and nothing whose lease ran out.
///
/// # Errors
/// When the database refuses.
pub async fn claim_ahead(
    connection: &mut PgConnection,
    attempts: &[Uuid],
    token: Uuid,
    lease_seconds: u32,
) -> Result<Vec<ClaimedNotice>, RecordError> {
    claim_as(connection, attempts, token, lease_seconds, &[], true).await
}

/// Asks what `dunning.claimable` says, in words of its own: it is asked for every letter.
async fn claim_as(
    connection: &mut PgConnection,
    attempts: &[Uuid],
    token: Uuid,
    lease_seconds: u32,
    waiting_domains: &[String],
    ahead: bool,
) -> Result<Vec<ClaimedNotice>, RecordError> {
    let rows = sqlx::query_as!(
        Row,
        r#"WITH due AS (
             SELECT n.notice_id, n.state, n.created_at, m.sender, m.recipient, m.salt
             FROM dunning.notice n JOIN dunning.message m USING (notice_id)
             WHERE n.waits_for = 'delivery'
               AND (n.state IN ('queued', 'deferred') AND coalesce(n.next_try_at, '-infinity') <= clock_timestamp()
                    OR n.state = 'claimed' AND n.lease_until < clock_timestamp() AND NOT $5)
               AND coalesce(n.not_before, '-infinity') <= clock_timestamp()
               AND (n.send_windows IS NULL OR n.send_windows @> clock_timestamp()
                    OR upper(n.send_windows) <= clock_timestamp())
               AND NOT EXISTS (SELECT FROM dunning.pause WHERE reason IS NOT NULL)
               AND NOT EXISTS (SELECT FROM dunning.control WHERE mode = 'shadow')
               AND NOT (EXISTS (SELECT FROM dunning.breaker WHERE kind <> 'relay')
                        AND dunning.waits_for_breaker(n.creditor, n.stage, n.language))
               AND split_part(n.recipient_key, '@', 2) <> ALL ($4)
             ORDER BY n.created_at, n.notice_id
             LIMIT CASE WHEN $5 AND EXISTS (SELECT FROM dunning.breaker) THEN 0
                        WHEN EXISTS (SELECT FROM dunning.breaker WHERE kind <> 'relay' AND until <= clock_timestamp()) THEN 1
                        ELSE cardinality($1::uuid[]) END
             FOR UPDATE OF n SKIP LOCKED),
         next AS (
             SELECT due.*, a.attempt_id
             FROM (SELECT *, row_number() OVER (ORDER BY created_at, notice_id) AS place FROM due) due
             JOIN unnest($1::uuid[]) WITH ORDINALITY AS a (attempt_id, place) USING (place)),
         claimed AS (
             UPDATE dunning.notice n
             SET state = 'claimed', lease_token = $2, lease_until = clock_timestamp() + make_interval(secs => $3),
                 changed_at = clock_timestamp(),
                 tries = CASE WHEN next.state = 'claimed'
                              THEN n.tries + coalesce((SELECT (a.ended_at IS NULL)::int FROM dunning.attempt a
                                                       WHERE a.notice_id = n.notice_id ORDER BY a.number DESC LIMIT 1), 0)
                              ELSE n.tries END
             FROM next WHERE n.notice_id = next.notice_id
             RETURNING n.notice_id, n.lease_token, n.creditor, n.account_id, n.stage, n.language, n.message_id, n.as_of,
                 n.business_date, n.valid_until, n.tries, n.redirected, n.resend_of, n.approved_at, n.created_at,
                 next.attempt_id, next.sender, next.recipient, next.salt),
         attempted AS (
             INSERT INTO dunning.attempt (attempt_id, notice_id, number, started_at)
             SELECT next.attempt_id, next.notice_id,
                 (SELECT count(*) + 1 FROM dunning.attempt a WHERE a.notice_id = next.notice_id), clock_timestamp()
             FROM next WHERE NOT $5),
         probing AS (
             UPDATE dunning.breaker b SET until = clock_timestamp() + make_interval(secs => $3), probing = true
             FROM claimed c
             WHERE b.until <= clock_timestamp()
               AND (b.kind = 'sender' AND b.subject = c.creditor
                    OR b.kind = 'content' AND b.subject = concat_ws('/', c.creditor, c.stage, c.language)))
         SELECT c.notice_id, c.attempt_id AS "attempt_id!", c.lease_token AS "token!", c.creditor, c.account_id, c.stage,
             c.language, c.message_id, c.as_of, c.business_date, c.valid_until, c.tries, c.redirected,
             c.resend_of, c.approved_at IS NOT NULL AS "approved!", c.sender, c.recipient, c.salt,
             -- Last of all: whatever is carried through an update is copied on its way.
             (SELECT m.bytes FROM dunning.message m WHERE m.notice_id = c.notice_id) AS "bytes!",
             ARRAY(SELECT i.item_id FROM dunning.notice_item i WHERE i.notice_id = c.notice_id)::text AS "demanded!"
         FROM claimed c
         ORDER BY c.created_at, c.notice_id"#,
        attempts,
        token,
        f64::from(lease_seconds),
        waiting_domains,
        ahead
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(ClaimedNotice::try_from).collect()
}

/// Lets notices go that were claimed ahead and not begun: they are what they were before, and no try is burnt. What has
/// become somebody else's meanwhile stays that.
///
/// # Errors
/// When the database refuses.
pub async fn release_claims(connection: &mut PgConnection, claimed: &[ClaimedNotice]) -> Result<(), RecordError> {
    let notices: Vec<Uuid> = claimed.iter().map(|one| one.notice).collect();
    let tokens: Vec<Uuid> = claimed.iter().map(|one| one.token).collect();
    sqlx::query!(
        "UPDATE dunning.notice n
         SET state = CASE WHEN n.next_try_at IS NULL THEN 'queued' ELSE 'deferred' END, lease_token = NULL,
             lease_until = NULL, changed_at = clock_timestamp()
         FROM unnest($1::uuid[], $2::uuid[]) AS c (notice_id, token)
         WHERE n.notice_id = c.notice_id AND n.lease_token = c.token AND n.state = 'claimed'",
        &notices,
        &tokens
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The claim under which an attempt was made whose end the database was not told; `None` when it says something else by
/// now. An attempt that ended before its last check may not be known at all: then its claim has to stand.
///
/// # Errors
/// When the database refuses.
pub async fn open_attempt(
    connection: &mut PgConnection,
    notice: Uuid,
    attempt: Uuid,
    token: Uuid,
) -> Result<Option<ClaimedNotice>, RecordError> {
    let row = sqlx::query_as!(
        Row,
        r#"SELECT n.notice_id, $1::uuid AS "attempt_id!", $2::uuid AS "token!", n.creditor, n.account_id, n.stage, n.language,
               n.message_id, n.as_of, n.business_date, n.valid_until, n.tries, n.redirected,
               n.resend_of, n.approved_at IS NOT NULL AS "approved!", m.sender, m.recipient, m.bytes, m.salt,
               ARRAY(SELECT i.item_id FROM dunning.notice_item i WHERE i.notice_id = n.notice_id)::text AS "demanded!"
           FROM dunning.notice n JOIN dunning.message m USING (notice_id)
           LEFT JOIN dunning.attempt a ON a.attempt_id = $1 AND a.notice_id = n.notice_id
           WHERE n.notice_id = $3
             AND CASE WHEN a.attempt_id IS NULL THEN n.lease_token = $2 AND n.state = 'claimed'
                      ELSE a.ended_at IS NULL OR a.detail = 'instance_died' END"#,
        attempt,
        token,
        notice
    )
    .fetch_optional(connection)
    .await?;
    row.map(ClaimedNotice::try_from).transpose()
}

/// Whether the database holds that attempt, whatever became of it.
///
/// # Errors
/// When the database refuses.
pub async fn knows_attempt(connection: &mut PgConnection, attempt: Uuid) -> Result<bool, RecordError> {
    let known = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM dunning.attempt WHERE attempt_id = $1) AS "known!""#,
        attempt
    );
    Ok(known.fetch_one(connection).await?)
}

/// Puts an attempt back that the database has lost, with its notice as it was then, so that its end can be recorded. A
/// notice that came to an end since keeps it; one that is not there any more is passed over.
///
/// # Errors
/// When the database refuses.
pub async fn restore_attempt(
    connection: &mut PgConnection,
    notice: Uuid,
    attempt: Uuid,
    token: Uuid,
    at: DateTime<Utc>,
) -> Result<(), RecordError> {
    sqlx::query!(
        "WITH restored AS (
             INSERT INTO dunning.attempt (attempt_id, notice_id, number, started_at)
             SELECT $1, notice_id, (SELECT count(*) + 1 FROM dunning.attempt WHERE notice_id = $2), $4
             FROM dunning.message WHERE notice_id = $2
             RETURNING notice_id)
         UPDATE dunning.notice n
         SET state = 'in_flight', lease_token = $3, lease_until = clock_timestamp(), changed_at = clock_timestamp(),
             counted_on = coalesce(n.counted_on, n.as_of, greatest(n.business_date, $4::date))
         FROM restored r
         WHERE n.notice_id = r.notice_id AND n.state IN ('planned', 'awaiting_approval', 'queued', 'deferred', 'claimed')",
        attempt,
        notice,
        token,
        at
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// As the database gives it.
struct Row {
    notice_id: Uuid,
    attempt_id: Uuid,
    token: Uuid,
    creditor: String,
    account_id: String,
    stage: String,
    language: String,
    message_id: String,
    as_of: Option<NaiveDate>,
    business_date: NaiveDate,
    valid_until: NaiveDate,
    tries: i32,
    redirected: bool,
    resend_of: Option<Uuid>,
    approved: bool,
    sender: String,
    recipient: String,
    bytes: Vec<u8>,
    salt: Vec<u8>,
    demanded: String,
}

impl TryFrom<Row> for ClaimedNotice {
    type Error = RecordError;

    fn try_from(row: Row) -> Result<Self, RecordError> {
        let address = |text: &str, column| {
            EmailAddress::parse(text)
                .map_err(|_| inconsistent("dunning.message", column, "an address that does not parse"))
        };
        Ok(Self {
            notice: row.notice_id,
            attempt: row.attempt_id,
            token: row.token,
            sender: address(&row.sender, "sender")?,
            recipient: address(&row.recipient, "recipient")?,
            creditor: row.creditor,
            account: row.account_id,
            stage: row.stage,
            language: row.language,
            message_id: row.message_id,
            bytes: row.bytes,
            salt: row.salt,
            demanded: row.demanded,
            as_of: row.as_of,
            business_date: row.business_date,
            valid_until: row.valid_until,
            tries: whole("dunning.notice", "tries", row.tries)?,
            approved: row.approved,
            redirected: row.redirected,
            resend_of: row.resend_of,
        })
    }
}

/// Whether a notice could be claimed now.
///
/// # Errors
/// When the database refuses.
pub async fn anything_due(connection: &mut PgConnection, waiting_domains: &[String]) -> Result<bool, RecordError> {
    let due = sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT FROM dunning.claimable
               WHERE split_part(recipient_key, '@', 2) <> ALL ($1)) AS "due!""#,
        waiting_domains
    )
    .fetch_one(connection)
    .await?;
    Ok(due)
}

/// Whether another notice was accepted since an earlier attempt at this one ended.
///
/// # Errors
/// When the database refuses.
pub async fn others_were_accepted(connection: &mut PgConnection, notice: Uuid) -> Result<bool, RecordError> {
    let were = sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT FROM dunning.attempt o
               WHERE o.outcome = 'accepted' AND o.notice_id <> $1
                 AND o.ended_at > (SELECT min(ended_at) FROM dunning.attempt WHERE notice_id = $1)) AS "were!""#,
        notice
    );
    Ok(were.fetch_one(connection).await?)
}

/// Writes something that changes nothing, so that the commit of this transaction waits until everything that was committed
/// before outlasts a crash of the database.
///
/// # Errors
/// When the database refuses.
pub async fn write_through(connection: &mut PgConnection) -> Result<(), RecordError> {
    sqlx::query!("SELECT only_row FROM dunning.pause FOR UPDATE").fetch_one(connection).await?;
    Ok(())
}

/// Notices left `in_flight` by an instance that died: nobody knows, so they become `unknown`.
///
/// # Errors
/// When the database refuses.
pub async fn sweep(connection: &mut PgConnection, actor: &Actor) -> Result<u64, RecordError> {
    let rows = sqlx::query!(
        "UPDATE dunning.notice SET state = 'unknown', reason = 'instance_died', lease_token = NULL,
             changed_at = clock_timestamp()
         WHERE waits_for = 'delivery' AND state = 'in_flight' AND lease_until < clock_timestamp()
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
        // Only the last open one may have come to the message: an earlier one lost its claim before.
        "UPDATE dunning.attempt a
         SET outcome = CASE WHEN later.number IS NULL THEN 'unknown' ELSE 'deferred' END,
             detail = CASE WHEN later.number IS NULL THEN 'instance_died' ELSE 'lease_lost' END,
             ended_at = clock_timestamp()
         FROM dunning.attempt open
         LEFT JOIN LATERAL (SELECT l.number FROM dunning.attempt l
                            WHERE l.notice_id = open.notice_id AND l.number > open.number AND l.ended_at IS NULL
                            LIMIT 1) later ON true
         WHERE open.notice_id = ANY ($1) AND open.ended_at IS NULL AND a.attempt_id = open.attempt_id",
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

pub(super) fn event(kind: EventKind, claimed: &ClaimedNotice, actor: &Actor, facts: serde_json::Value) -> Event {
    Event {
        creditor: Some(claimed.creditor.clone()),
        account: Some(claimed.account.clone()),
        notice: Some(claimed.notice.to_string()),
        ..Event::new(kind, actor.clone(), facts)
    }
}
