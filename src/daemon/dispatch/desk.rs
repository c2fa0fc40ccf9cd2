//! Where workers meet the database: what several ask while one statement runs is asked together by the next. Notices are
//! claimed a little ahead of the sessions that ask for them; what nobody came for is let go.

use std::collections::VecDeque;
use std::iter::repeat_with;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sqlx::pool::PoolConnection;
use sqlx::{Connection as _, PgConnection, PgPool, Postgres, Transaction};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::since_boot;
use crate::deliver::{Journal, Limits, LogHead};
use crate::model::{CancelReason, CreditorId, Fault, Outcome, backoff};
use crate::record::{self, ClaimedNotice, LastCheck, NextTry, RecordError, Settled, Settlement};

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
/// Of a database that is there.
const ANSWERS_WITHIN: Duration = Duration::from_mins(1);
/// What was claimed ahead is let go after this time, or a third of its lease: then no session came for it.
const AHEAD_STAYS: Duration = Duration::from_secs(5);
/// So many are claimed ahead where there are fewer sessions.
const AHEAD_LEAST: usize = 8;
/// How often the ends of attempts are offered to a database that does not answer, and how long after the first time.
const SETTLE_TRIES: u32 = 6;
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// A session is free: the answer is its notice. Nothing is due when it is dropped.
pub(super) type ClaimAsk = oneshot::Sender<ClaimedNotice>;

/// The answer of the last check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checked {
    /// The notice is `in_flight`: the message must follow.
    Send,
    /// It was cancelled and must not go out.
    Cancelled(CancelReason),
    /// It is somebody else's now; nothing was changed and nothing may be sent.
    LeaseLost,
    /// The database did not answer: nothing may be sent, although it may think so.
    Unanswered,
}

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

/// A connection for one group after another, set up for that, and closed when the round ends. Where the pool is small each
/// group borrows one for the length of a transaction.
struct Lane<'a> {
    pool: &'a PgPool,
    forgettable: bool,
    own: Option<PoolConnection<Postgres>>,
}

/// A lane at work: each statement commits by itself, or all of them with [`Lane::done`].
enum Work {
    Own(PoolConnection<Postgres>),
    Borrowed(Transaction<'static, Postgres>),
}

impl<'a> Lane<'a> {
    /// What a forgettable one does a crash of the database may undo.
    fn of(pool: &'a PgPool, forgettable: bool) -> Self {
        Self { pool, forgettable, own: None }
    }

    async fn work(&mut self) -> Result<Work, RecordError> {
        if let Some(own) = self.own.take() {
            return Ok(Work::Own(own));
        }
        if self.pool.options().get_max_connections() < CAN_SPARE {
            let begin = if self.forgettable { record::BEGIN_FORGETTABLE } else { record::BEGIN };
            return Ok(Work::Borrowed(self.pool.begin_with(begin).await?));
        }
        let mut own = self.pool.acquire().await?;
        // Nobody else gets it with these settings.
        own.close_on_drop();
        record::set_up(&mut own, self.forgettable).await?;
        Ok(Work::Own(own))
    }

    /// After a failure this is not called, and the connection is gone.
    async fn done(&mut self, work: Work) -> Result<(), RecordError> {
        match work {
            Work::Own(own) => self.own = Some(own),
            Work::Borrowed(transaction) => transaction.commit().await?,
        }
        Ok(())
    }
}

impl Deref for Work {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        match self {
            Self::Own(own) => own,
            Self::Borrowed(transaction) => transaction,
        }
    }
}

impl DerefMut for Work {
    fn deref_mut(&mut self) -> &mut PgConnection {
        match self {
            Self::Own(own) => own,
            Self::Borrowed(transaction) => transaction,
        }
    }
}

/// A claim that is under way.
type Claiming<'c> = BoxFuture<'c, (Lane<'c>, Result<Claim, RecordError>)>;

/// What a claim found, for sessions that wait, or ahead when there are none.
struct Claim {
    sessions: Vec<ClaimAsk>,
    /// Before the leases began, by [`since_boot`].
    at: Duration,
    found: Vec<ClaimedNotice>,
    /// There may be more to claim.
    more: bool,
}

/// Claimed for sessions that will ask soon, each with when its lease began at the earliest.
#[derive(Default)]
struct Ahead(VecDeque<(Duration, ClaimedNotice)>);

impl Ahead {
    /// For as many sessions as there are notices, and the other way round.
    fn hand_out(&mut self, free: &mut Vec<ClaimAsk>) {
        let count = free.len().min(self.0.len());
        for (session, (_, claimed)) in free.drain(..count).zip(self.0.drain(..count)) {
            let _ = session.send(claimed);
        }
    }

    /// Those that have been kept for that long.
    fn older_than(&mut self, stays: Duration) -> Vec<ClaimedNotice> {
        let now = since_boot();
        let old = self.0.iter().take_while(|(at, _)| now.saturating_sub(*at) >= stays).count();
        self.0.drain(..old).map(|(_, one)| one).collect()
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
    /// Something failed lately: nothing is claimed ahead, because each end of an attempt decides who may go next.
    failing: AtomicBool,
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
        let (halted, failing, paused) = (CancellationToken::new(), AtomicBool::new(false), AtomicBool::new(false));
        let (told, written) = (Mutex::default(), Mutex::default());
        Self { shell, live, limits, breakers, journal, in_flight, halted, failing, paused, told, written }
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
        self.shell.pace().waiting_domains(self.limits, since_boot()).map_err(|wait| {
            let at = self.shell.clock.wall() + wait;
            format!("the limit of letters an hour is reached; it goes on at {}", at.format("%H:%M:%S UTC"))
        })
    }

    /// How many notices are claimed ahead when there are so many sessions. Where letters are counted, each one changes who
    /// may go next.
    fn room_ahead(&self, sessions: usize) -> usize {
        if self.journal.is_some() && self.limits == Limits::default() { (2 * sessions).max(AHEAD_LEAST) } else { 0 }
    }

    /// Claims for the sessions that are free, and ahead for those that soon will be. Whatever ends the round, what no
    /// session has begun is let go.
    pub(super) async fn claims(&self, mut asks: mpsc::Receiver<ClaimAsk>, stop: &CancellationToken, sessions: usize) {
        let room = self.room_ahead(sessions);
        let stays = AHEAD_STAYS.min(self.live.config.service.dispatch.lease / 3);
        let mut lane = Some(Lane::of(&self.shell.pool, true));
        let mut claiming: Option<Claiming<'_>> = None;
        let (mut free, mut ahead, mut unwanted) = (Vec::new(), Ahead::default(), Vec::new());
        let (mut more, mut closed) = (false, false);
        loop {
            if let Some(Err(error)) = self.journal.map(|journal| journal.ready()) {
                self.stop(&error);
            }
            let ends = closed || stop.is_cancelled() || self.halted.is_cancelled();
            let one_by_one = self.failing.load(Ordering::Relaxed) || self.paused.load(Ordering::Relaxed);
            let given_up = ahead.older_than(if ends || one_by_one { Duration::ZERO } else { stays });
            // Until a session asks.
            more &= given_up.is_empty();
            unwanted.extend(given_up);
            if ends {
                free.clear();
            }
            ahead.hand_out(&mut free);
            if let Some(mut idle) = lane.take() {
                if !unwanted.is_empty() {
                    self.release(&mut idle, &std::mem::take(&mut unwanted)).await;
                }
                let wanted = room.saturating_sub(ahead.0.len());
                if !free.is_empty() {
                    claiming = Some(self.claim(idle, std::mem::take(&mut free), 0).boxed());
                } else if more && !ends && !one_by_one && wanted > 0 && wanted >= room / 2 {
                    claiming = Some(self.claim(idle, Vec::new(), wanted).boxed());
                } else {
                    lane = Some(idle);
                }
            }
            if closed && claiming.is_none() {
                return;
            }
            let oldest = ahead.0.front().map(|(at, _)| (*at + stays).saturating_sub(since_boot()));
            tokio::select! {
                (idle, claim) = finished(&mut claiming) => {
                    claiming = None;
                    lane = Some(idle);
                    match claim {
                        Ok(claim) => {
                            more = claim.more;
                            if claim.sessions.is_empty() {
                                ahead.0.extend(claim.found.into_iter().map(|one| (claim.at, one)));
                            } else {
                                for (session, claimed) in claim.sessions.into_iter().zip(claim.found) {
                                    let _ = session.send(claimed);
                                }
                            }
                        }
                        Err(error) => self.fail(error),
                    }
                }
                count = asks.recv_many(&mut free, AT_ONCE), if !closed => closed = count == 0,
                () = stop.cancelled(), if !ends => {}
                () = self.halted.cancelled(), if !ends => {}
                () = tokio::time::sleep(oldest.unwrap_or_default()), if oldest.is_some() => {}
            }
        }
    }

    async fn claim<'c>(
        &'c self,
        mut lane: Lane<'c>,
        sessions: Vec<ClaimAsk>,
        ahead: usize,
    ) -> (Lane<'c>, Result<Claim, RecordError>) {
        let at = since_boot();
        let found = in_time(self.claim_over(&mut lane, sessions.len(), ahead)).await;
        let claim = found.map(|found| {
            let more = found.len() >= sessions.len() + ahead;
            Claim { sessions, at, found, more }
        });
        (lane, claim)
    }

    async fn claim_over(
        &self,
        lane: &mut Lane<'_>,
        wanted: usize,
        ahead: usize,
    ) -> Result<Vec<ClaimedNotice>, RecordError> {
        let clock = self.shell.clock;
        let lease = u32::try_from(self.live.config.service.dispatch.lease.as_secs()).unwrap_or(u32::MAX);
        let token = clock.new_id();
        let attempts = |count| -> Vec<_> { repeat_with(|| clock.new_id()).take(count).collect() };
        let mut work = lane.work().await?;
        let mut claimed = Vec::new();
        if ahead > 0 {
            claimed = record::claim_ahead(&mut work, &attempts(ahead), token, lease).await?;
        }
        while claimed.len() < wanted {
            let waiting_domains = match self.waiting_domains() {
                Ok(domains) => domains,
                Err(waiting) => {
                    self.told().waiting = Some(waiting);
                    break;
                }
            };
            let at_once = if self.limits == Limits::default() { wanted } else { 1 };
            let found = record::claim(&mut work, &attempts(at_once), token, lease, &waiting_domains).await?;
            let full = found.len() == at_once;
            for one in &found {
                self.shell.pace().took(&one.recipient.domain().to_lowercase(), self.limits, since_boot());
            }
            claimed.extend(found);
            if !full {
                break;
            }
        }
        lane.done(work).await?;
        Ok(claimed)
    }

    /// What a database that is gone does not hear of in time is free again when its lease ends.
    async fn release(&self, lane: &mut Lane<'_>, claimed: &[ClaimedNotice]) {
        let mut wait = FIRST_WAIT;
        for _ in 1..SETTLE_TRIES {
            if in_time(self.release_once(lane, claimed)).await.is_ok() {
                return;
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        if let Err(error) = in_time(self.release_once(lane, claimed)).await {
            tracing::warn!(%error, count = claimed.len(), "notices that were claimed ahead wait for their lease to end");
        }
    }

    async fn release_once(&self, lane: &mut Lane<'_>, claimed: &[ClaimedNotice]) -> Result<(), RecordError> {
        let mut work = lane.work().await?;
        record::release_claims(&mut work, claimed).await?;
        lane.done(work).await
    }

    /// Performs the last check for the sessions that wait for it.
    pub(super) async fn checks(&self, mut asks: mpsc::Receiver<CheckAsk>) {
        let mut lane = Lane::of(&self.shell.pool, false);
        let mut asked = Vec::new();
        while asks.recv_many(&mut asked, AT_ONCE).await > 0 {
            let group = std::mem::take(&mut asked);
            match self.check(&group, &mut lane).await {
                Ok((passed, at)) => self.answer(group, &passed, at, &mut lane, Checked::LeaseLost).await,
                // One account that cannot be asked about must not stop the others. What the statement without an answer
                // had moved already does not pass again.
                Err(_) if group.len() > 1 => {
                    for one in group {
                        let alone = vec![one];
                        match self.check(&alone, &mut lane).await {
                            Ok((passed, at)) => self.answer(alone, &passed, at, &mut lane, Checked::Unanswered).await,
                            Err(error) => self.unanswered(alone, error),
                        }
                    }
                }
                Err(error) => self.unanswered(group, error),
            }
        }
    }

    fn unanswered(&self, asked: Vec<CheckAsk>, error: RecordError) {
        self.fail(error);
        for ask in asked {
            let _ = ask.answer.send((Checked::Unanswered, since_boot()));
        }
    }

    async fn check(&self, asked: &[CheckAsk], lane: &mut Lane<'_>) -> Result<(Vec<bool>, Duration), RecordError> {
        let began = since_boot();
        let checks: Vec<LastCheck<'_>> = asked.iter().map(|ask| self.look_at(&ask.claimed)).collect();
        // Once the statement runs, later ends of attempts may be committed after it.
        let written = self.take_written();
        let passed = in_time(self.check_over(&checks, lane)).await;
        // A statement that wrote nothing waits for no disk.
        if passed.as_ref().is_ok_and(|passed| passed.contains(&true)) {
            self.outlasts(written);
        } else {
            self.written().splice(..0, written);
        }
        Ok((passed?, began))
    }

    async fn check_over(&self, checks: &[LastCheck<'_>], lane: &mut Lane<'_>) -> Result<Vec<bool>, RecordError> {
        let seconds = u32::try_from(self.in_flight.as_secs()).unwrap_or(u32::MAX);
        let mut work = lane.work().await?;
        let passed = record::in_flight_check(&mut work, checks, seconds).await?;
        lane.done(work).await?;
        Ok(passed)
    }

    fn look_at<'b>(&self, claimed: &'b ClaimedNotice) -> LastCheck<'b> {
        let config = &self.live.config;
        let creditor = CreditorId::parse(&claimed.creditor).ok();
        let creditor = creditor.and_then(|id| config.policy.creditors.get(&id));
        let payments_not_before = creditor.filter(|_| claimed.as_of.is_none()).map(|creditor| {
            let now = self.shell.clock.now();
            // Without a calendar nobody can say that an older moment is enough.
            payments_needed(config.service.freshness, &config.policy.calendars, creditor, now).unwrap_or(now)
        });
        LastCheck { claimed, today: self.today(claimed), payments_not_before }
    }

    /// Those that passed first: their time runs. The others are looked into; `not_ours` is said of those that are not the
    /// asking session's.
    async fn answer(
        &self,
        asked: Vec<CheckAsk>,
        passed: &[bool],
        at: Duration,
        lane: &mut Lane<'_>,
        not_ours: Checked,
    ) {
        let mut others = Vec::new();
        for (ask, passed) in asked.into_iter().zip(passed) {
            if *passed {
                let _ = ask.answer.send((Checked::Send, at));
            } else {
                others.push(ask);
            }
        }
        for ask in others {
            match self.stopped(&ask.claimed, lane).await {
                Ok(reason) => drop(ask.answer.send((reason.map_or(not_ours, Checked::Cancelled), at))),
                Err(error) => self.unanswered(vec![ask], error),
            }
        }
    }

    async fn stopped(&self, claimed: &ClaimedNotice, lane: &mut Lane<'_>) -> Result<Option<CancelReason>, RecordError> {
        let reason = in_time(async {
            let mut work = lane.work().await?;
            let mut transaction = work.begin().await?;
            let reason = record::stopped(&mut transaction, &self.look_at(claimed), &self.shell.actor).await?;
            transaction.commit().await?;
            lane.done(work).await?;
            Ok(reason)
        });
        let reason = reason.await?;
        if reason == Some(CancelReason::Paused) {
            self.paused.store(true, Ordering::Relaxed);
        }
        Ok(reason)
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
        // What is forgotten if the database crashes is in the journal.
        let mut lane = Lane::of(&self.shell.pool, self.journal.is_some());
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
            self.settle(&ended, &mut lane).await;
            for one in ended.drain(..) {
                let _ = one.answer.send(());
            }
        }
        drop(lane);
        if let Err(error) = in_time(self.make_last()).await {
            self.fail(error);
        }
    }

    /// A database that is gone is asked again: what is known should not be lost. Meanwhile nothing new begins. What it
    /// does not take at last stays in the journal.
    async fn settle(&self, ended: &[EndAsk], lane: &mut Lane<'_>) {
        let mut wait = FIRST_WAIT;
        for tried in 1..=SETTLE_TRIES {
            self.sync().await;
            let Err(error) = in_time(self.settle_once(ended, lane)).await else { return };
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

    async fn settle_once(&self, ended: &[EndAsk], lane: &mut Lane<'_>) -> Result<(), RecordError> {
        let mut work = lane.work().await?;
        let mut transaction = work.begin().await?;
        let mut changes = Vec::new();
        let mut taught = record::any_breaker(&mut transaction).await?;
        for one in ended {
            let mut learnt = lessons(&one.outcome);
            // Where nothing has failed there is nothing to make good.
            learnt.retain(|(_, lesson)| taught || lesson.failed());
            taught |= !learnt.is_empty();
            let about = Some((&*one.claimed, self.today(&one.claimed)));
            changes.extend(self.breakers.tell(&mut transaction, about, learnt).await?);
        }
        let settlements: Vec<Settlement<'_>> =
            ended.iter().map(|one| self.settlement(&one.claimed, &one.outcome, None)).collect();
        let settled = record::settle(&mut transaction, &settlements, &self.shell.actor).await?;
        transaction.commit().await?;
        let head = if self.journal.is_some() { Some(record::head(&mut work).await?) } else { None };
        lane.done(work).await?;
        self.failing.store(taught, Ordering::Relaxed);
        self.changed(&changes);
        for (one, _) in ended.iter().zip(settled).filter(|(_, settled)| *settled == Settled::Overtaken) {
            let outcome = one.outcome.state().as_str();
            tracing::warn!(notice.id = %one.claimed.notice, outcome, "the notice was settled otherwise meanwhile");
        }
        if let Some((events, chain_hash)) = head {
            let attempts = ended.iter().map(|one| one.claimed.attempt).collect();
            let head = LogHead { events, chain_hash: hex::encode(chain_hash) };
            self.written().push(Written { attempts, head });
        }
        Ok(())
    }

    fn take_written(&self) -> Vec<Written> {
        std::mem::take(&mut *self.written())
    }

    fn written(&self) -> MutexGuard<'_, Vec<Written>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
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
    async fn make_last(&self) -> Result<(), RecordError> {
        let written = self.take_written();
        if written.is_empty() {
            return Ok(());
        }
        let mut transaction = self.shell.pool.begin().await?;
        record::write_through(&mut transaction).await?;
        transaction.commit().await?;
        self.outlasts(written);
        Ok(())
    }

    /// `noted_at`: when the journal heard of it, where it comes from there.
    pub(in crate::daemon) fn settlement<'b>(
        &self,
        claimed: &'b ClaimedNotice,
        outcome: &'b Outcome,
        noted_at: Option<DateTime<Utc>>,
    ) -> Settlement<'b> {
        let next_try = self.next_try(claimed, outcome);
        let at = noted_at.unwrap_or_else(|| self.shell.clock.now());
        let today = claimed.as_of.unwrap_or_else(|| self.date_of(claimed, at));
        Settlement { claimed, outcome, next_try, today, from_journal: noted_at.is_some() }
    }

    fn next_try(&self, claimed: &ClaimedNotice, outcome: &Outcome) -> NextTry {
        let dispatch = &self.live.config.service.dispatch;
        let is_ours = outcome.fault().is_some_and(Fault::is_ours);
        if !is_ours && claimed.tries + 1 >= dispatch.max_tries {
            return NextTry::GiveUp;
        }
        let jitter = rand::random_range(0..1_000);
        let wait = backoff(claimed.tries, dispatch.retry_first, dispatch.retry_last, jitter);
        // Through `--as-of` the text's days are not those of the wall.
        if claimed.as_of.is_none() && self.date_of(claimed, self.shell.clock.now() + wait) > claimed.valid_until {
            return NextTry::TooLate;
        }
        NextTry::After(wait)
    }
}

/// A database that does not answer for so long is gone: its machine may have vanished without a word, and nothing else
/// would tell.
async fn in_time<T>(asking: impl Future<Output = Result<T, RecordError>>) -> Result<T, RecordError> {
    let gone = || std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer within a minute");
    timeout(ANSWERS_WITHIN, asking).await.unwrap_or_else(|_| Err(sqlx::Error::Io(gone()).into()))
}

async fn finished<'c>(claiming: &mut Option<Claiming<'c>>) -> (Lane<'c>, Result<Claim, RecordError>) {
    match claiming {
        Some(claiming) => claiming.await,
        None => std::future::pending().await,
    }
}
