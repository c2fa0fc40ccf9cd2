//! Where workers meet the database: what several ask while one statement runs is asked together by the next.

use std::iter::repeat_with;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::pool::PoolConnection;
use sqlx::{Connection as _, PgPool, Postgres};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::since_boot;
use crate::deliver::{Journal, Limits, LogHead};
use crate::model::{CreditorId, Fault, Outcome, backoff};
use crate::record::{self, Checked, ClaimedNotice, LastCheck, NextTry, RecordError, Settled, Settlement};

use super::super::breakers::{Breakers, Change, lessons};
use super::super::schedule::payments_needed;
use super::super::{Live, Shell};
use super::Dispatched;

/// In one statement.
const AT_ONCE: usize = 256;
/// How long ends of attempts that nobody waits for gather for one transaction.
const GATHER: Duration = Duration::from_millis(20);
/// A pool of so many connections can spare three for the length of a round: a scan takes four.
const CAN_SPARE: u32 = 8;
/// How often the ends of attempts are offered to a database that does not answer.
const SETTLE_TRIES: u32 = 6;

/// A session is free: the answer is its notice. Nothing is due when it is dropped.
pub(super) type ClaimAsk = oneshot::Sender<Arc<ClaimedNotice>>;

/// A session stands at RCPT-ok: may its message follow?
pub(super) struct CheckAsk {
    pub(super) claimed: Arc<ClaimedNotice>,
    /// The answer, and when it was true at the earliest, by [`since_boot`].
    pub(super) answer: oneshot::Sender<(Checked, Duration)>,
}

/// An attempt has ended, and the journal has it.
pub(super) struct EndAsk {
    pub(super) claimed: Arc<ClaimedNotice>,
    pub(super) outcome: Outcome,
    /// Told when the database knows.
    pub(super) answer: oneshot::Sender<()>,
    /// Somebody waits for that.
    pub(super) awaited: bool,
}

/// A connection for one group after another. Where the pool is small it goes back to it in between.
struct Kept<'a> {
    pool: &'a PgPool,
    connection: Option<PoolConnection<Postgres>>,
}

impl<'a> Kept<'a> {
    fn of(pool: &'a PgPool) -> Self {
        Self { pool, connection: None }
    }

    async fn take(&mut self) -> Result<PoolConnection<Postgres>, RecordError> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => Ok(self.pool.acquire().await?),
        }
    }

    /// After a failure it is not put back: the pool looks at it before it gives it to anybody.
    fn put(&mut self, connection: PoolConnection<Postgres>) {
        if self.pool.options().get_max_connections() >= CAN_SPARE {
            self.connection = Some(connection);
        }
    }
}

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
        Self { shell, live, limits, breakers, journal, in_flight, halted, told, written }
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

    /// The database failed: nothing new begins.
    fn fail(&self, error: RecordError) {
        self.halted.cancel();
        self.told().error.get_or_insert(error);
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
        self.shell.pace().waiting_domains(self.limits, self.shell.clock.wall()).map_err(|at| {
            format!("the limit of letters an hour is reached; it goes on at {}", at.format("%H:%M:%S UTC"))
        })
    }

    /// Claims for as many sessions as are free.
    pub(super) async fn claims(&self, mut asks: mpsc::Receiver<ClaimAsk>) {
        let mut kept = Kept::of(&self.shell.pool);
        let mut free = Vec::new();
        while asks.recv_many(&mut free, AT_ONCE).await > 0 {
            match self.claim(free.len(), &mut kept).await {
                Ok(claimed) => {
                    for (session, claimed) in free.drain(..).zip(claimed) {
                        let _ = session.send(Arc::new(claimed));
                    }
                }
                Err(error) => self.fail(error),
            }
            free.clear();
        }
    }

    async fn claim(&self, wanted: usize, kept: &mut Kept<'_>) -> Result<Vec<ClaimedNotice>, RecordError> {
        if let Some(Err(error)) = self.journal.map(|journal| journal.ready()) {
            self.stop(&error);
        }
        let mut claimed = Vec::new();
        if self.halted.is_cancelled() {
            return Ok(claimed);
        }
        let mut connection = kept.take().await?;
        let clock = self.shell.clock;
        let lease = u32::try_from(self.live.config.service.dispatch.lease.as_secs()).unwrap_or(u32::MAX);
        // A claim that a crash of the database forgets was not followed by a last check: nothing was sent under it.
        let mut transaction = connection.begin_with(record::BEGIN_FORGETTABLE).await?;
        let token = clock.new_id();
        while claimed.len() < wanted {
            let waiting_domains = match self.waiting_domains() {
                Ok(domains) => domains,
                Err(waiting) => {
                    self.told().waiting = Some(waiting);
                    break;
                }
            };
            // Where letters are counted, each one changes who may go next.
            let at_once = if self.limits == Limits::default() { wanted - claimed.len() } else { 1 };
            let attempts: Vec<_> = repeat_with(|| clock.new_id()).take(at_once).collect();
            let found = record::claim(&mut transaction, &attempts, token, lease, &waiting_domains).await?;
            let count = found.len();
            for one in &found {
                self.shell.pace().took(&one.recipient.domain().to_lowercase(), self.limits, clock.wall());
            }
            claimed.extend(found);
            if count == 0 {
                break;
            }
        }
        transaction.commit().await?;
        kept.put(connection);
        Ok(claimed)
    }

    /// Performs the last check for the sessions that wait for it.
    pub(super) async fn checks(&self, mut asks: mpsc::Receiver<CheckAsk>) {
        let mut kept = Kept::of(&self.shell.pool);
        let mut asked = Vec::new();
        while asks.recv_many(&mut asked, AT_ONCE).await > 0 {
            let group = std::mem::take(&mut asked);
            match self.check(&group, &mut kept).await {
                Ok(answers) => tell(group, answers),
                Err(error) if group.len() == 1 => self.fail(error),
                // One account that cannot be asked about must not stop the others.
                Err(_) => {
                    for one in group {
                        let alone = vec![one];
                        match self.check(&alone, &mut kept).await {
                            Ok(answers) => tell(alone, answers),
                            Err(error) => self.fail(error),
                        }
                    }
                }
            }
        }
    }

    async fn check(&self, asked: &[CheckAsk], kept: &mut Kept<'_>) -> Result<(Vec<Checked>, Duration), RecordError> {
        let began = since_boot();
        let config = &self.live.config;
        let checks: Vec<LastCheck<'_>> = asked
            .iter()
            .map(|ask| {
                let claimed = &*ask.claimed;
                let creditor = CreditorId::parse(&claimed.creditor).ok();
                let creditor = creditor.and_then(|id| config.policy.creditors.get(&id));
                let payments_not_before = creditor.filter(|_| claimed.as_of.is_none()).map(|creditor| {
                    let now = self.shell.clock.now();
                    // Without a calendar nobody can say that an older moment is enough.
                    payments_needed(config.service.freshness, &config.policy.calendars, creditor, now).unwrap_or(now)
                });
                LastCheck { claimed, today: self.today(claimed), payments_not_before }
            })
            .collect();
        let seconds = u32::try_from(self.in_flight.as_secs()).unwrap_or(u32::MAX);
        let mut connection = kept.take().await?;
        let mut transaction = connection.begin_with(record::BEGIN).await?;
        let answers = record::in_flight_check(&mut transaction, &checks, seconds, &self.shell.actor).await?;
        // A transaction that wrote nothing waits for no disk.
        let wrote = answers.iter().any(|answer| *answer != Checked::LeaseLost);
        let written = if wrote { self.take_written() } else { Vec::new() };
        transaction.commit().await?;
        self.outlasts(written);
        kept.put(connection);
        Ok((answers, began))
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

    /// Tells the database how attempts ended, some milliseconds' worth at a time.
    pub(super) async fn settlements(&self, mut asks: mpsc::Receiver<EndAsk>) {
        let mut kept = Kept::of(&self.shell.pool);
        let mut ended = Vec::new();
        while asks.recv_many(&mut ended, AT_ONCE).await > 0 {
            if !ended.iter().any(|one| one.awaited) && !asks.is_closed() {
                tokio::time::sleep(GATHER).await;
                while ended.len() < AT_ONCE
                    && let Ok(one) = asks.try_recv()
                {
                    ended.push(one);
                }
            }
            self.settle(&ended, &mut kept).await;
            for one in ended.drain(..) {
                let _ = one.answer.send(());
            }
        }
        if let Err(error) = self.make_last(&mut kept).await {
            self.fail(error);
        }
    }

    /// A database that is gone is asked again: what is known should not be lost. Meanwhile nothing new begins. What it
    /// does not take at last stays in the journal.
    async fn settle(&self, ended: &[EndAsk], kept: &mut Kept<'_>) {
        let mut wait = Duration::from_millis(100);
        for tried in 1..=SETTLE_TRIES {
            self.sync().await;
            let Err(error) = self.settle_once(ended, kept).await else { return };
            self.halted.cancel();
            if tried == SETTLE_TRIES {
                tracing::error!(%error, count = ended.len(), "the ends of attempts could not be recorded");
                self.fail(error);
                return;
            }
            tracing::warn!(%error, count = ended.len(), "the ends of attempts are not recorded yet");
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
    }

    /// The database must not know what this machine could forget.
    async fn sync(&self) {
        let Some(journal) = self.journal else { return };
        let journal = Arc::clone(journal);
        match spawn_blocking(move || journal.sync()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.stop(&error),
            Err(error) => self.stop(&error),
        }
    }

    async fn settle_once(&self, ended: &[EndAsk], kept: &mut Kept<'_>) -> Result<(), RecordError> {
        let now = self.shell.clock.wall();
        let mut connection = kept.take().await?;
        // What is forgotten if the database crashes is in the journal.
        let begin = if self.journal.is_some() { record::BEGIN_FORGETTABLE } else { record::BEGIN };
        let mut transaction = connection.begin_with(begin).await?;
        let mut changes = Vec::new();
        let mut taught = record::any_breaker(&mut transaction).await?;
        for one in ended {
            let mut learnt = lessons(&one.outcome);
            // Where nothing has failed there is nothing to make good.
            learnt.retain(|(_, lesson)| taught || lesson.failed());
            taught |= !learnt.is_empty();
            let about = Some((&*one.claimed, self.today(&one.claimed)));
            changes.extend(self.breakers.tell(&mut transaction, about, learnt, now).await?);
        }
        let settlements: Vec<Settlement<'_>> =
            ended.iter().map(|one| self.settlement(&one.claimed, &one.outcome, false)).collect();
        let settled = record::settle(&mut transaction, &settlements, &self.shell.actor).await?;
        transaction.commit().await?;
        self.changed(&changes);
        for (one, _) in ended.iter().zip(settled).filter(|(_, settled)| *settled == Settled::Overtaken) {
            let outcome = one.outcome.state().as_str();
            tracing::warn!(notice.id = %one.claimed.notice, outcome, "the notice was settled otherwise meanwhile");
        }
        if self.journal.is_some() {
            let (events, chain_hash) = record::head(&mut connection).await?;
            let attempts = ended.iter().map(|one| one.claimed.attempt).collect();
            let head = LogHead { events, chain_hash: hex::encode(chain_hash) };
            self.written.lock().unwrap_or_else(PoisonError::into_inner).push(Written { attempts, head });
        }
        kept.put(connection);
        Ok(())
    }

    fn take_written(&self) -> Vec<Written> {
        std::mem::take(&mut *self.written.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A later commit of the database has waited for the disk: this it does not forget any more.
    fn outlasts(&self, written: Vec<Written>) {
        let Some(journal) = self.journal else { return };
        for Written { attempts, head } in written {
            journal.settled(attempts);
            if let Err(error) = journal.saw(head) {
                self.stop(&error);
            }
        }
    }

    /// Waits for the disk of the database where the last ends of attempts have not done so.
    async fn make_last(&self, kept: &mut Kept<'_>) -> Result<(), RecordError> {
        let written = self.take_written();
        if written.is_empty() {
            return Ok(());
        }
        let mut connection = kept.take().await?;
        let mut transaction = connection.begin().await?;
        record::write_through(&mut transaction).await?;
        transaction.commit().await?;
        self.outlasts(written);
        kept.put(connection);
        Ok(())
    }

    pub(in crate::daemon) fn settlement<'b>(
        &self,
        claimed: &'b ClaimedNotice,
        outcome: &'b Outcome,
        from_journal: bool,
    ) -> Settlement<'b> {
        let next_try = self.next_try(claimed, outcome);
        Settlement { claimed, outcome, next_try, today: self.today(claimed), from_journal }
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

fn tell(asked: Vec<CheckAsk>, (answers, at): (Vec<Checked>, Duration)) {
    for (ask, checked) in asked.into_iter().zip(answers) {
        let _ = ask.answer.send((checked, at));
    }
}
