//! Delivery: claim, envelope, last check, DATA, and what became of it.
//!
//! A worker claims only with a session that is connected and logged in. Between the last check and the first byte of
//! the body lie at most two seconds. From the body on nothing is cancelled: the attempt runs to its end or its
//! timeout, also while the daemon stops.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use futures_util::future::join_all;
use sqlx::{Connection as _, PgConnection};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::Mail;
use crate::deliver::{DeliveryError, FileTransport, ReadyForData, Relay, Session, Transport};
use crate::model::{CreditorId, Outcome, Phase, Reply};
use crate::record::{self, Checked, ClaimedNotice, LastCheck, NextTry, RecordError, Settled};

use super::schedule::payments_needed;
use super::{Live, Shell};

/// What a round of delivery did.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Dispatched {
    pub accepted: u64,
    pub deferred: u64,
    pub refused: u64,
    pub unknown: u64,
    /// Stopped by the last check.
    pub cancelled: u64,
    /// Why the relay could not be used, when it could not. No notice lost a try by it.
    pub relay_error: Option<String>,
    /// The relay refused our user name or password: trying again soon may lock the account.
    pub credentials_refused: bool,
}

impl Dispatched {
    /// Whether every notice that was tried was accepted.
    #[must_use]
    pub fn all_accepted(&self) -> bool {
        self.deferred + self.refused + self.unknown == 0 && self.relay_error.is_none()
    }

    fn unusable(relay: &Relay, error: &DeliveryError) -> Self {
        Self {
            relay_error: Some(format!("{relay}: {error}")),
            credentials_refused: error.credentials_refused(),
            ..Self::default()
        }
    }

    fn count(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Accepted { .. } => self.accepted += 1,
            Outcome::Deferred { .. } => self.deferred += 1,
            Outcome::Refused { .. } => self.refused += 1,
            Outcome::Unknown { .. } => self.unknown += 1,
        }
    }

    fn add(mut self, other: Self) -> Self {
        self.accepted += other.accepted;
        self.deferred += other.deferred;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.cancelled += other.cancelled;
        self.relay_error = self.relay_error.or(other.relay_error);
        self.credentials_refused |= other.credentials_refused;
        self
    }
}

/// A connection is closed after so many messages, or so much time, so that no relay has to close it on us.
const MESSAGES_PER_SESSION: u32 = 100;
const SESSION_AGE: Duration = Duration::from_mins(5);
/// From the last check to the first byte of the body.
const CHECK_STAYS_TRUE: Duration = Duration::from_secs(2);
/// Beyond the timeouts of the content phases, before an `in_flight` notice counts as abandoned.
const IN_FLIGHT_MARGIN: Duration = Duration::from_mins(1);
/// How often the end of an attempt is offered to a database that does not answer.
const SETTLE_TRIES: u32 = 6;

/// Delivers what is due until nothing is left or `stop` is cancelled; then no new notice is claimed.
///
/// # Errors
/// When the database refuses or is gone. What was in flight then is settled by the sweep as `unknown`.
pub async fn dispatch(
    shell: &Shell,
    transport: &Transport,
    stop: &CancellationToken,
) -> Result<Dispatched, RecordError> {
    let mut connection = shell.pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    record::sweep(&mut transaction, &shell.actor).await?;
    transaction.commit().await?;
    if !record::anything_due(&mut connection).await? {
        return Ok(Dispatched::default());
    }
    drop(connection);

    let live = shell.live();
    let worker = Worker { shell, live: &live, stop };
    let rounds = match transport {
        Transport::File(files) => vec![worker.as_files(files).await],
        Transport::Smtp(relay) => {
            // One session is tried before the others: a relay that refuses us is not asked once per worker.
            let first = match relay.connect().await {
                Ok(session) => session,
                Err(error) => return Ok(Dispatched::unusable(relay, &error)),
            };
            let connections = match &live.config.service.mail {
                Mail::Smtp(smtp) => smtp.connections,
                Mail::File { .. } => 1,
            };
            let kept = std::iter::once(Some(first)).chain((1..connections).map(|_| None));
            join_all(kept.map(|kept| worker.over(relay, kept))).await
        }
    };
    rounds.into_iter().try_fold(Dispatched::default(), |sum, round| Ok(sum.add(round?)))
}

/// When a notice is tried again: the first wait doubled with each try, up to the last, with up to a tenth more so that
/// a relay that was down is not met by everything at once. `jitter` is 0 to 999.
#[must_use]
pub fn retry_at(now: DateTime<Utc>, tries: u32, first: Duration, last: Duration, jitter: u32) -> DateTime<Utc> {
    let wait = first.saturating_mul(2_u32.saturating_pow(tries.min(20))).min(last);
    let more = wait / 10 * jitter.min(999) / 1_000;
    now + chrono::Duration::from_std(wait + more).unwrap_or_default()
}

struct Worker<'a> {
    shell: &'a Shell,
    live: &'a Live,
    stop: &'a CancellationToken,
}

impl Worker<'_> {
    async fn over(&self, relay: &Relay, mut kept: Option<Session>) -> Result<Dispatched, RecordError> {
        let mut done = Dispatched::default();
        let in_flight = relay.timeouts().content() + IN_FLIGHT_MARGIN;
        while !self.stop.is_cancelled() {
            let session = match self.session(relay, kept.take()).await {
                Ok(session) => session,
                Err(error) => {
                    done = done.add(Dispatched::unusable(relay, &error));
                    break;
                }
            };
            let Some(claimed) = self.claim().await? else {
                session.quit().await;
                break;
            };
            if self.crashed_too_often(&claimed, &mut done).await? {
                kept = Some(session);
                continue;
            }
            kept = match session.envelope(&claimed.sender, &claimed.recipient).await {
                Ok(ready) => self.with_envelope(&claimed, ready, in_flight, &mut done).await?,
                Err((session, outcome)) => {
                    self.settle(&claimed, &outcome, &mut done).await?;
                    session
                }
            };
        }
        if let Some(session) = kept {
            session.quit().await;
        }
        Ok(done)
    }

    /// A notice whose every attempt ended with the end of its worker is given up before it ends one more.
    async fn crashed_too_often(&self, claimed: &ClaimedNotice, done: &mut Dispatched) -> Result<bool, RecordError> {
        if claimed.tries < self.live.config.service.dispatch.max_tries {
            return Ok(false);
        }
        let outcome = Outcome::Deferred {
            phase: Phase::Connect,
            reply: None,
            detail: "every attempt ended with the end of its worker".to_owned(),
            ours: false,
        };
        self.settle(claimed, &outcome, done).await?;
        Ok(true)
    }

    /// The session in hand as long as it is young enough, else a new one.
    async fn session(&self, relay: &Relay, kept: Option<Session>) -> Result<Session, DeliveryError> {
        match kept {
            Some(session) if session.accepted() < MESSAGES_PER_SESSION && session.age() < SESSION_AGE => {
                return Ok(session);
            }
            Some(old) => old.quit().await,
            None => {}
        }
        relay.connect().await
    }

    /// RCPT is accepted: last check, then the message.
    async fn with_envelope(
        &self,
        claimed: &ClaimedNotice,
        ready: ReadyForData,
        in_flight: Duration,
        done: &mut Dispatched,
    ) -> Result<Option<Session>, RecordError> {
        let allowed = self.last_check(claimed, in_flight).await?;
        let checked_at = Instant::now();
        if !allowed {
            done.cancelled += 1;
            return Ok(ready.reset().await);
        }
        if checked_at.elapsed() > CHECK_STAYS_TRUE {
            let session = ready.reset().await;
            let outcome = Outcome::Deferred {
                phase: Phase::Data,
                reply: None,
                detail: "the machine stood still between the last check and DATA".to_owned(),
                ours: true,
            };
            self.settle(claimed, &outcome, done).await?;
            return Ok(session);
        }
        let (session, outcome) = ready.data(&claimed.bytes).await;
        self.settle(claimed, &outcome, done).await?;
        Ok(session)
    }

    async fn as_files(&self, files: &FileTransport) -> Result<Dispatched, RecordError> {
        let mut done = Dispatched::default();
        while !self.stop.is_cancelled() {
            let Some(claimed) = self.claim().await? else { break };
            if self.crashed_too_often(&claimed, &mut done).await? {
                continue;
            }
            if self.last_check(&claimed, IN_FLIGHT_MARGIN).await? {
                let outcome = files.deliver(&claimed.message_id, &claimed.bytes).await;
                self.settle(&claimed, &outcome, &mut done).await?;
            } else {
                done.cancelled += 1;
            }
        }
        Ok(done)
    }

    async fn claim(&self) -> Result<Option<ClaimedNotice>, RecordError> {
        let clock = self.shell.clock;
        let lease = u32::try_from(self.live.config.service.dispatch.lease.as_secs()).unwrap_or(u32::MAX);
        let mut connection = self.shell.pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        let claimed = record::claim(&mut transaction, clock.new_id(), clock.new_id(), lease).await?;
        transaction.commit().await?;
        Ok(claimed)
    }

    /// Whether the notice may still go out; otherwise it is cancelled with its reason.
    async fn last_check(&self, claimed: &ClaimedNotice, in_flight: Duration) -> Result<bool, RecordError> {
        let config = &self.live.config;
        let creditor = CreditorId::parse(&claimed.creditor).ok().and_then(|id| config.policy.creditors.get(&id));
        let needed = creditor.filter(|_| claimed.as_of.is_none()).map(|creditor| {
            let now = self.shell.clock.now();
            // Without a calendar nobody can say that an older moment is enough.
            payments_needed(config.service.freshness, &config.policy.calendars, creditor, now).unwrap_or(now)
        });
        let check = LastCheck { claimed, today: self.today(claimed), payments_not_before: needed };
        let seconds = u32::try_from(in_flight.as_secs()).unwrap_or(u32::MAX);
        let mut connection = self.shell.pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        let checked = record::in_flight_check(&mut transaction, &check, seconds, &self.shell.actor).await?;
        transaction.commit().await?;
        let reason = match checked {
            Checked::Send => return Ok(true),
            Checked::Cancelled(reason) => reason.as_str(),
            Checked::LeaseLost => "lease_lost",
        };
        tracing::info!(notice.id = %claimed.notice, account.id = claimed.account, reason,
            "notice stopped by the last check");
        Ok(false)
    }

    /// The business date that the notice lives on.
    fn today(&self, claimed: &ClaimedNotice) -> NaiveDate {
        claimed.as_of.unwrap_or_else(|| {
            let creditor = CreditorId::parse(&claimed.creditor).ok();
            let zone = creditor.map_or(chrono_tz::Tz::UTC, |id| self.live.config.policy.zone(&id));
            self.shell.clock.today(zone)
        })
    }

    /// Records how an attempt ended. A database that is gone is asked again: what is known should not be lost.
    async fn settle(
        &self,
        claimed: &ClaimedNotice,
        outcome: &Outcome,
        done: &mut Dispatched,
    ) -> Result<(), RecordError> {
        done.count(outcome);
        let reply = match outcome {
            Outcome::Accepted { reply } | Outcome::Refused { reply, .. } => Some(reply),
            Outcome::Deferred { reply, .. } => reply.as_ref(),
            Outcome::Unknown { .. } => None,
        };
        tracing::info!(notice.id = %claimed.notice, account.id = claimed.account, stage = claimed.stage,
            outcome = outcome.state().as_str(), reply.code = reply.map(Reply::code_text), "attempt ended");
        let next_try = self.next_try(claimed, outcome);
        let today = self.today(claimed);
        let mut wait = Duration::from_millis(100);
        for _ in 1..SETTLE_TRIES {
            match self.settle_once(claimed, outcome, next_try, today).await {
                Ok(settled) => {
                    if settled == Settled::Overtaken {
                        tracing::warn!(notice.id = %claimed.notice, "the notice was taken out of this worker's hands");
                    }
                    return Ok(());
                }
                Err(error) => {
                    tracing::warn!(notice.id = %claimed.notice, %error, "the end of the attempt is not recorded yet");
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                }
            }
        }
        self.settle_once(claimed, outcome, next_try, today).await.map(|_| ())
    }

    async fn settle_once(
        &self,
        claimed: &ClaimedNotice,
        outcome: &Outcome,
        next_try: NextTry,
        today: NaiveDate,
    ) -> Result<Settled, RecordError> {
        let mut connection = self.shell.pool.acquire().await?;
        let connection: &mut PgConnection = &mut connection;
        let mut transaction = connection.begin().await?;
        let actor = &self.shell.actor;
        let settled = record::settle(&mut transaction, claimed, outcome, next_try, today, actor).await?;
        transaction.commit().await?;
        Ok(settled)
    }

    fn next_try(&self, claimed: &ClaimedNotice, outcome: &Outcome) -> NextTry {
        let dispatch = &self.live.config.service.dispatch;
        let ours = matches!(outcome, Outcome::Deferred { ours: true, .. });
        if !ours && claimed.tries + 1 >= dispatch.max_tries {
            return NextTry::GiveUp;
        }
        let jitter = rand::random_range(0..1_000);
        let wall = self.shell.clock.wall();
        NextTry::At(retry_at(wall, claimed.tries, dispatch.retry_first, dispatch.retry_last, jitter))
    }
}
