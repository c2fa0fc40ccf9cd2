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
use crate::deliver::{DeliveryError, Envelope, FileTransport, Limits, ReadyForData, Relay, Session, Transport};
use crate::model::{CancelReason, CreditorId, Fault, Outcome, Permit, Phase, Reply, backoff};
use crate::record::{self, Checked, ClaimedNotice, LastCheck, NextTry, RecordError, Settled};

use super::approval::{Looked, look_again};
use super::breakers::{Breakers, Change, lessons};
use super::run::not_adopted;
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
    /// Why the rest of what is due was not tried now, and when it goes on.
    pub waiting: Option<String>,
    /// Why nothing may be sent from this database on this machine, when it may not.
    pub not_adopted: Option<String>,
}

impl Dispatched {
    /// Whether every notice that was tried was accepted.
    #[must_use]
    pub fn all_accepted(&self) -> bool {
        let all_tried = self.relay_error.is_none() && self.waiting.is_none() && self.not_adopted.is_none();
        self.deferred + self.refused + self.unknown == 0 && all_tried
    }

    pub(super) fn unusable(relay: &Relay, error: &DeliveryError) -> Self {
        Self {
            relay_error: Some(format!("{relay}: {error}")),
            credentials_refused: error.credentials_refused(),
            ..Self::default()
        }
    }

    fn attempts(&self) -> u64 {
        self.accepted + self.deferred + self.refused + self.unknown
    }

    pub(super) fn count(&mut self, outcome: &Outcome) {
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
        self.waiting = self.waiting.or(other.waiting);
        self.not_adopted = self.not_adopted.or(other.not_adopted);
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
    let identity = record::identity(&mut connection, &shell.host).await?;
    if !identity.adopted {
        return Ok(Dispatched { not_adopted: Some(not_adopted(&identity)), ..Dispatched::default() });
    }
    let mut transaction = connection.begin().await?;
    record::sweep(&mut transaction, &shell.actor).await?;
    transaction.commit().await?;
    let live = shell.live();
    let (limits, connections) = match &live.config.service.mail {
        Mail::Smtp(smtp) => {
            let limits = Limits { per_hour: smtp.per_hour, per_domain_per_hour: smtp.per_domain_per_hour };
            (limits, smtp.connections)
        }
        Mail::File { .. } => (Limits::default(), 1),
    };
    let breakers = Breakers {
        relay: match transport {
            Transport::Smtp(relay) => Some(relay.to_string()),
            Transport::File(_) => None,
        },
        dispatch: &live.config.service.dispatch,
        mail: &live.config.service.mail,
        actor: &shell.actor,
    };
    let relay_stopped = CancellationToken::new();
    let worker = Worker { shell, live: &live, stop, limits, breakers, relay_stopped };
    let waiting_domains = match worker.waiting_domains() {
        Ok(domains) => domains,
        Err(waiting) => return Ok(Dispatched { waiting: Some(waiting), ..Dispatched::default() }),
    };
    if !record::anything_due(&mut connection, &waiting_domains).await? {
        return Ok(Dispatched::default());
    }
    drop(connection);

    let mut done = Dispatched::default();
    let rounds = match transport {
        Transport::File(files) => vec![worker.as_files(files).await],
        Transport::Smtp(relay) => {
            let probe = match worker.ask_relay(relay).await? {
                Ok(permit) => permit == Permit::Probe,
                Err(waiting) => return Ok(Dispatched { waiting: Some(waiting), ..Dispatched::default() }),
            };
            // One session is tried before the others: a relay that refuses us is not asked once per worker.
            let first = match relay.connect().await {
                Ok(session) => session,
                Err(error) => {
                    worker.tell_of_no_session(&error).await?;
                    return Ok(Dispatched::unusable(relay, &error));
                }
            };
            tracing::debug!(%relay, offered = ?first.extensions(), "session open");
            let mut first = Some(first);
            if probe {
                done = worker.over(relay, first.take(), 1).await?;
                if worker.ask_relay(relay).await? != Ok(Permit::Go) {
                    return Ok(done);
                }
            }
            let kept = std::iter::once(first).chain((1..connections).map(|_| None));
            join_all(kept.map(|kept| worker.over(relay, kept, u64::MAX))).await
        }
    };
    rounds.into_iter().try_fold(done, |sum, round| Ok(sum.add(round?)))
}

struct Worker<'a> {
    shell: &'a Shell,
    live: &'a Live,
    stop: &'a CancellationToken,
    limits: Limits,
    breakers: Breakers<'a>,
    /// The relay has failed too often in this round.
    relay_stopped: CancellationToken,
}

impl Worker<'_> {
    /// Delivers over one connection after another, with at most so many attempts.
    async fn over(&self, relay: &Relay, mut kept: Option<Session>, at_most: u64) -> Result<Dispatched, RecordError> {
        let mut done = Dispatched::default();
        let in_flight = relay.timeouts().content() + IN_FLIGHT_MARGIN;
        while done.attempts() < at_most && !self.stop.is_cancelled() && !self.relay_stopped.is_cancelled() {
            let session = match self.session(relay, kept.take()).await {
                Ok(session) => session,
                Err(error) => {
                    done = done.add(Dispatched::unusable(relay, &error));
                    break;
                }
            };
            let Some(claimed) = self.claim(&mut done).await? else {
                session.quit().await;
                break;
            };
            if self.crashed_too_often(&claimed, &mut done).await? || !self.as_approved(&claimed, &mut done).await? {
                kept = Some(session);
                continue;
            }
            let id = claimed.attempt.to_string();
            let envelope = Envelope { from: &claimed.sender, to: &claimed.recipient, id: &id, bytes: &claimed.bytes };
            kept = match session.envelope(&envelope).await {
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
            fault: Fault::Content,
        };
        self.settle(claimed, &outcome, done).await?;
        Ok(true)
    }

    /// Whether a notice may go to its recipient from here and, where a person approved it, is still what he approved.
    /// Otherwise it is cancelled, or another one that demands less is in its place.
    async fn as_approved(&self, claimed: &ClaimedNotice, done: &mut Dispatched) -> Result<bool, RecordError> {
        if let Mail::Smtp(smtp) = &self.live.config.service.mail
            && !smtp.recipients.allow(&claimed.recipient)
        {
            let mut connection = self.shell.pool.acquire().await?;
            let mut transaction = connection.begin().await?;
            let reason = CancelReason::RecipientNotAllowed;
            record::cancel_notice(&mut transaction, claimed.notice, reason, &self.shell.actor).await?;
            transaction.commit().await?;
            done.cancelled += 1;
            return Ok(false);
        }
        if !claimed.approved {
            return Ok(true);
        }
        let why = "less is owed than was approved";
        // Rare, and large: kept out of the future of every delivery.
        let looked = Box::pin(look_again(self.shell, self.live, claimed.notice, self.today(claimed), why)).await?;
        if looked != Looked::AsApproved {
            done.cancelled += 1;
            tracing::info!(notice.id = %claimed.notice, account.id = claimed.account, ?looked, "approved notice changed");
        }
        Ok(looked == Looked::AsApproved)
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
                fault: Fault::Relay,
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
            let Some(claimed) = self.claim(&mut done).await? else { break };
            if self.crashed_too_often(&claimed, &mut done).await? || !self.as_approved(&claimed, &mut done).await? {
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

    /// The domains that have had their share; an error, in words, when nothing may go.
    fn waiting_domains(&self) -> Result<Vec<String>, String> {
        self.shell.pace().waiting_domains(self.limits, self.shell.clock.wall()).map_err(|at| {
            format!("the limit of letters an hour is reached; it goes on at {}", at.format("%H:%M:%S UTC"))
        })
    }

    /// Whether the relay may be asked now; an error, in words, when it failed too often.
    async fn ask_relay(&self, relay: &Relay) -> Result<Result<Permit, String>, RecordError> {
        let at_most = relay.timeouts().connecting() + self.live.config.service.dispatch.lease;
        let mut connection = self.shell.pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        let (permit, cause) = self.breakers.ask_relay(&mut transaction, self.shell.clock.wall(), at_most).await?;
        transaction.commit().await?;
        Ok(match permit {
            Permit::Wait(until) => {
                let until = until.format("%Y-%m-%d %H:%M:%S UTC");
                Err(format!("{relay} failed too often ({cause}); it is tried again at {until}"))
            }
            permit => Ok(permit),
        })
    }

    async fn tell_of_no_session(&self, error: &DeliveryError) -> Result<(), RecordError> {
        let mut connection = self.shell.pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        let lessons = lessons(&Outcome::from(error.clone()));
        let changes = self.breakers.tell(&mut transaction, None, lessons, self.shell.clock.wall()).await?;
        transaction.commit().await?;
        self.changed(&changes);
        Ok(())
    }

    fn changed(&self, changes: &[Change]) {
        changes.iter().for_each(Change::log);
        if changes.iter().any(Change::stops_the_relay) {
            self.relay_stopped.cancel();
        }
    }

    async fn claim(&self, done: &mut Dispatched) -> Result<Option<ClaimedNotice>, RecordError> {
        let waiting_domains = match self.waiting_domains() {
            Ok(domains) => domains,
            Err(waiting) => {
                done.waiting = Some(waiting);
                return Ok(None);
            }
        };
        let clock = self.shell.clock;
        let lease = u32::try_from(self.live.config.service.dispatch.lease.as_secs()).unwrap_or(u32::MAX);
        let mut connection = self.shell.pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        let (attempt, token) = (clock.new_id(), clock.new_id());
        let claimed = record::claim(&mut transaction, attempt, token, lease, &waiting_domains).await?;
        transaction.commit().await?;
        if let Some(claimed) = &claimed {
            let domain = claimed.recipient.domain().to_lowercase();
            self.shell.pace().took(&domain, self.limits, clock.wall());
        }
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
        claimed.as_of.unwrap_or_else(|| self.date_of(claimed, self.shell.clock.now()))
    }

    /// The date at that moment where the creditor is.
    fn date_of(&self, claimed: &ClaimedNotice, at: DateTime<Utc>) -> NaiveDate {
        let creditor = CreditorId::parse(&claimed.creditor).ok();
        let zone = creditor.map_or(chrono_tz::Tz::UTC, |id| self.live.config.policy.zone(&id));
        at.with_timezone(&zone).date_naive()
    }

    /// Records how an attempt ended. A database that is gone is asked again: what is known should not be lost.
    async fn settle(
        &self,
        claimed: &ClaimedNotice,
        outcome: &Outcome,
        done: &mut Dispatched,
    ) -> Result<(), RecordError> {
        done.count(outcome);
        let reply = outcome.reply();
        tracing::info!(notice.id = %claimed.notice, account.id = claimed.account, stage = claimed.stage,
            outcome = outcome.state().as_str(), fault = outcome.fault().map(Fault::as_str),
            reply.code = reply.map(Reply::code_text),
            reply.status = reply.and_then(Reply::status).map(|status| status.to_string()), "attempt ended");
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
        let (about, now) = (Some((claimed, today)), self.shell.clock.wall());
        let changes = self.breakers.tell(&mut transaction, about, lessons(outcome), now).await?;
        let settled = record::settle(&mut transaction, claimed, outcome, next_try, today, actor).await?;
        transaction.commit().await?;
        self.changed(&changes);
        Ok(settled)
    }

    fn next_try(&self, claimed: &ClaimedNotice, outcome: &Outcome) -> NextTry {
        let dispatch = &self.live.config.service.dispatch;
        let is_ours = outcome.fault().is_some_and(Fault::is_ours);
        if !is_ours && claimed.tries + 1 >= dispatch.max_tries {
            return NextTry::GiveUp;
        }
        let jitter = rand::random_range(0..1_000);
        let wait = backoff(claimed.tries, dispatch.retry_first, dispatch.retry_last, jitter);
        let wait = chrono::Duration::from_std(wait).unwrap_or_default();
        // Through `--as-of` the text's days are not those of the wall.
        if claimed.as_of.is_none() && self.date_of(claimed, self.shell.clock.now() + wait) > claimed.valid_until {
            return NextTry::TooLate;
        }
        NextTry::At(self.shell.clock.wall() + wait)
    }
}
