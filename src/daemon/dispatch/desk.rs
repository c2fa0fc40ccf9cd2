//! Where workers meet the database: what several ask while one statement runs is asked together by the next.

mod checks;
mod claims;
mod lane;
mod settlements;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::since_boot;
use crate::deliver::{Journal, Limits, LogHead};
use crate::model::{Creditor, CreditorId};
use crate::record::{self, ClaimedNotice, RecordError};

use super::super::breakers::{Breakers, Change};
use super::super::replies::{StateError, compared};
use super::super::{Live, Shell};
use super::Dispatched;

use lane::{Lane, Work};

pub(super) use checks::{CheckAsk, Checked};
pub(super) use claims::ClaimAsk;
pub(super) use settlements::EndAsk;

/// In one statement.
const AT_ONCE: usize = 256;
/// How often a database that does not answer is told something again, and how long after the first time.
const TRIES: u32 = 6;
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// What one round of delivery shares.
pub(in crate::daemon) struct Desk<'a> {
    pub(super) shell: &'a Shell,
    pub(super) live: &'a Live,
    limits: Limits,
    pub(super) breakers: Breakers<'a>,
    pub(super) journal: Option<&'a Arc<Journal>>,
    in_flight: Duration,
    /// Nothing more is claimed in this round: the relay failed too often, or the database or the journal did.
    pub(super) halted: CancellationToken,
    /// Something failed lately: nothing is claimed ahead, because each end of an attempt decides who may go next.
    failing: AtomicBool,
    /// The database was lost from sight: it may be another one when it comes back, and what is on the wire is in no journal
    /// yet. Nothing more passes the last check in this round.
    lost: AtomicBool,
    /// A pause came: who has not begun keeps his place in the queue.
    paused: AtomicBool,
    told: Mutex<Told>,
    written: Mutex<Vec<Written>>,
}

/// Ends of attempts that the database knows and may forget again if it crashes: until the next commit that waits for the
/// disk they stay in the journal.
struct Written {
    attempts: Vec<Uuid>,
    head: LogHead,
}

/// Why a round ends before its time.
#[derive(Default)]
struct Told {
    waiting: Option<String>,
    stopped: Option<String>,
    error: Option<RecordError>,
}

impl<'a> Desk<'a> {
    pub(super) fn new(
        shell: &'a Shell,
        live: &'a Live,
        limits: Limits,
        breakers: Breakers<'a>,
        journal: Option<&'a Arc<Journal>>,
        in_flight: Duration,
    ) -> Self {
        let (halted, told, written) = (CancellationToken::new(), Mutex::default(), Mutex::default());
        let (failing, lost, paused) = (AtomicBool::new(false), AtomicBool::new(false), AtomicBool::new(false));
        Self { shell, live, limits, breakers, journal, in_flight, halted, failing, lost, paused, told, written }
    }

    /// What the round did, with why it ended.
    pub(super) fn concluded(self, mut done: Dispatched) -> Result<Dispatched, RecordError> {
        let told = self.told.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = told.error {
            return Err(error);
        }
        done.waiting = done.waiting.or(told.waiting);
        done.stopped = done.stopped.or(told.stopped);
        Ok(done)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The database failed: nothing new begins. That it forgot something is told already.
    fn fail(&self, error: RecordError) {
        self.failed(&error);
        if matches!(error, RecordError::Forgot) {
            return;
        }
        self.told().error.get_or_insert(error);
    }

    fn failed(&self, error: &RecordError) {
        self.halted.cancel();
        if !error.is_an_answer() {
            self.lost.store(true, Ordering::Relaxed);
        }
    }

    /// Replies cannot be kept: nothing new begins.
    pub(super) fn stop(&self, why: &impl ToString) {
        self.halted.cancel();
        self.told().stopped.get_or_insert(why.to_string());
    }

    pub(super) fn changed(&self, changes: &[Change]) {
        changes.iter().for_each(Change::log);
        if changes.iter().any(Change::stops_the_relay) {
            self.halted.cancel();
        }
    }

    /// The domains that have had their share; an error, in words, when nothing may go.
    pub(super) fn waiting_domains(&self) -> Result<Vec<String>, String> {
        self.shell.pace().waiting_domains(self.limits, since_boot()).map_err(|wait| {
            let at = self.shell.clock.wall() + wait;
            format!("the limit of letters an hour is reached; it goes on at {}", at.format("%H:%M:%S UTC"))
        })
    }

    /// Who demands; none when the configuration does not know him any more.
    pub(super) fn creditor(&self, claimed: &ClaimedNotice) -> Option<&'a Creditor> {
        let id = CreditorId::parse(&claimed.creditor).ok()?;
        self.live.config.policy.creditors.get(&id)
    }

    /// The business date that the notice lives on.
    pub(super) fn today(&self, claimed: &ClaimedNotice) -> NaiveDate {
        claimed.as_of.unwrap_or_else(|| self.date_of(claimed, self.shell.clock.now()))
    }

    /// The date at that moment where the creditor is.
    fn date_of(&self, claimed: &ClaimedNotice, at: DateTime<Utc>) -> NaiveDate {
        let creditor = CreditorId::parse(&claimed.creditor).ok();
        let zone = creditor.map_or(chrono_tz::Tz::UTC, |id| self.live.config.policy.zone(&id));
        at.with_timezone(&zone).date_naive()
    }

    fn take_written(&self) -> Vec<Written> {
        std::mem::take(&mut *self.written())
    }

    fn written(&self) -> MutexGuard<'_, Vec<Written>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A lane at work on the database that was told what this process told. A connection ends with its server, so one that
    /// is open still need not be asked: a server that crashed, or took another one's place, is asked when it is connected to.
    async fn work(&self, lane: &mut Lane<'_>) -> Result<Work, RecordError> {
        let known = lane.is_open();
        let mut work = lane.work().await?;
        if !known {
            self.look_for_what_was_told(&mut work).await?;
        }
        Ok(work)
    }

    /// A database that crashed may have lost the commits that did not wait for its disk: what they told stays in the journal,
    /// which tells it again when the next round begins. One that lost more is left alone.
    async fn look_for_what_was_told(&self, connection: &mut PgConnection) -> Result<(), RecordError> {
        let Some(journal) = self.journal else { return Ok(()) };
        let (numbers, hashes): (Vec<i64>, Vec<String>) =
            self.written().iter().map(|one| (one.head.events, one.head.chain_hash.clone())).unzip();
        if !record::holds(connection, &numbers, &hashes).await? {
            self.take_written();
            self.halted.cancel();
            tracing::warn!("the database has lost its last commits; the journal of replies tells them again");
        }
        match compared(journal, connection).await {
            Ok(()) => Ok(()),
            Err(StateError::Record(error)) => Err(error),
            Err(other) => {
                self.stop(&other);
                Err(RecordError::Forgot)
            }
        }
    }

    /// A later commit of the same server has waited for the disk: this it does not forget any more.
    fn outlasts(&self, written: Vec<Written>) {
        let Some(journal) = self.journal else { return };
        for Written { attempts, head } in written {
            journal.settled(attempts);
            if let Err(error) = journal.saw(head) {
                self.stop(&error);
            }
        }
    }
}
