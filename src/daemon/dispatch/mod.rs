//! Delivery: claim, envelope, last check, DATA, and what became of it.
//!
//! A worker claims only with a session that is connected and logged in. Between the last check and the first byte of
//! the message lie at most two seconds. From the body on nothing is cancelled: the attempt runs to its end or its
//! timeout, also while the daemon stops. What the relay said is in the journal before the worker goes on; the database
//! hears of it in groups.

mod desk;
mod worker;

use std::time::Duration;

use sqlx::Connection as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::Mail;
use crate::deliver::{DeliveryError, Limits, Relay, Transport};
use crate::model::NoticeState;
use crate::record::{self, RecordError};

use super::Shell;
use super::breakers::Breakers;
use super::replies::{StateError, journal, replay};
use super::run::not_adopted;

pub(super) use desk::Desk;
use worker::Worker;

/// What a round of delivery did.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Dispatched {
    pub accepted: u64,
    pub deferred: u64,
    pub refused: u64,
    pub unknown: u64,
    /// Stopped by the last check.
    pub cancelled: u64,
    /// Not accepted, and before the next try their text would no longer be true.
    pub expired: u64,
    /// Why the relay could not be used, when it could not. No notice lost a try by it.
    pub relay_error: Option<String>,
    /// The relay refused our user name or password: trying again soon may lock the account.
    pub credentials_refused: bool,
    /// Why the rest of what is due was not tried now, and when it goes on.
    pub waiting: Option<String>,
    /// Why nothing may be sent from this database on this machine, when it may not.
    pub not_adopted: Option<String>,
    /// Why nothing was claimed, or no more: replies cannot be kept, or the contact log is not the one last seen.
    pub stopped: Option<String>,
}

impl Dispatched {
    /// Whether every notice that was tried was accepted.
    #[must_use]
    pub fn all_accepted(&self) -> bool {
        let hindrances = [&self.relay_error, &self.waiting, &self.not_adopted, &self.stopped];
        let all_tried = hindrances.iter().all(|why| why.is_none());
        self.deferred + self.refused + self.unknown + self.expired == 0 && all_tried
    }

    pub(super) fn unusable(relay: &Relay, error: &DeliveryError) -> Self {
        Self {
            relay_error: Some(format!("{relay}: {error}")),
            credentials_refused: error.credentials_refused(),
            ..Self::default()
        }
    }

    fn attempts(&self) -> u64 {
        self.accepted + self.deferred + self.refused + self.unknown + self.expired
    }

    /// `state`: what an attempt made of its notice.
    pub(super) fn count(&mut self, state: NoticeState) {
        match state {
            NoticeState::Accepted => self.accepted += 1,
            NoticeState::Refused => self.refused += 1,
            NoticeState::Unknown => self.unknown += 1,
            NoticeState::Cancelled => self.expired += 1,
            _ => self.deferred += 1,
        }
    }

    fn add(mut self, other: Self) -> Self {
        self.accepted += other.accepted;
        self.deferred += other.deferred;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.cancelled += other.cancelled;
        self.expired += other.expired;
        self.relay_error = self.relay_error.or(other.relay_error);
        self.credentials_refused |= other.credentials_refused;
        self.waiting = self.waiting.or(other.waiting);
        self.not_adopted = self.not_adopted.or(other.not_adopted);
        self.stopped = self.stopped.or(other.stopped);
        self
    }
}

/// Beyond the timeouts of the content phases, before an `in_flight` notice counts as abandoned.
const IN_FLIGHT_MARGIN: Duration = Duration::from_mins(1);
/// What the database was not told yet, beyond what is on the wire.
const UNSETTLED: usize = 256;

/// Delivers what is due until nothing is left or `stop` is cancelled; then no new notice is claimed. First it settles
/// what the journal of replies knows and the database does not.
///
/// # Errors
/// When the database refuses or is gone. What is known then is in the journal; what was in flight without a reply is
/// settled by the sweep as `unknown`.
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
    let live = shell.live();
    let (limits, connections) = match &live.config.service.mail {
        Mail::Smtp(smtp) => {
            let limits = Limits { per_hour: smtp.per_hour, per_domain_per_hour: smtp.per_domain_per_hour };
            (limits, smtp.connections)
        }
        Mail::File { .. } => (Limits::default(), 1),
    };
    let (relay, journal, in_flight) = match transport {
        Transport::Smtp(relay) => match journal(shell, &mut connection).await {
            Ok(journal) => (Some(relay), Some(journal), relay.timeouts().content() + IN_FLIGHT_MARGIN),
            Err(StateError::Record(error)) => return Err(error),
            Err(other) => return Ok(Dispatched { stopped: Some(other.to_string()), ..Dispatched::default() }),
        },
        // Nobody receives a file: what is not known about it can be looked up.
        Transport::File(_) => (None, None, IN_FLIGHT_MARGIN),
    };
    let breakers = Breakers {
        relay: relay.map(ToString::to_string),
        dispatch: &live.config.service.dispatch,
        mail: &live.config.service.mail,
        actor: &shell.actor,
    };
    let desk = Desk::new(shell, &live, limits, breakers, journal.as_ref(), in_flight);
    if let Some(journal) = &journal {
        replay(shell, &desk, journal, &mut connection).await?;
    }
    let mut transaction = connection.begin().await?;
    record::sweep(&mut transaction, &shell.actor).await?;
    transaction.commit().await?;
    let mut transaction = connection.begin().await?;
    record::resend(&mut transaction, &shell.actor).await?;
    transaction.commit().await?;
    let waiting_domains = match desk.waiting_domains() {
        Ok(domains) => domains,
        Err(waiting) => return Ok(Dispatched { waiting: Some(waiting), ..Dispatched::default() }),
    };
    if !record::anything_due(&mut connection, &waiting_domains).await? {
        return Ok(Dispatched::default());
    }
    drop(connection);

    let (claims, asked_claims) = mpsc::channel(UNSETTLED);
    let (checks, asked_checks) = mpsc::channel(UNSETTLED);
    let (endings, asked_endings) = mpsc::channel(UNSETTLED);
    let worker = Worker { desk: &desk, stop, claims, checks, endings };
    // The desk closes when the last worker has gone.
    let work = Box::pin(async move { worker.deliver(transport, connections).await });
    let claims = Box::pin(desk.claims(asked_claims, stop, connections as usize));
    let checks = Box::pin(desk.checks(asked_checks, connections as usize));
    let (done, (), (), ()) = tokio::join!(work, claims, checks, Box::pin(desk.settlements(asked_endings)));
    if let Some(journal) = &journal
        && let Err(error) = journal.tidy()
    {
        tracing::error!(%error, "the journal of replies could not begin anew");
    }
    desk.concluded(done?)
}
