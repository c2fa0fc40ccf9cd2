//! How attempts ended: from the journal into the database, some milliseconds' worth at a time.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::Connection as _;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;

use crate::deliver::LogHead;
use crate::model::{Fault, NoticeState, Outcome, Phase, backoff};
use crate::record::{self, ClaimedNotice, NextTry, RecordError, Settled, Settlement};

use super::lane::{Lane, in_time};
use super::{AT_ONCE, Desk, FIRST_WAIT, TRIES, Written};
use crate::daemon::breakers::{about_us, lessons};

/// How long ends of attempts that nobody waits for gather for one transaction.
const GATHER: Duration = Duration::from_millis(20);

/// An attempt has ended, and the journal has it.
pub(in crate::daemon::dispatch) struct EndAsk {
    pub(in crate::daemon::dispatch) claimed: Arc<ClaimedNotice>,
    pub(in crate::daemon::dispatch) outcome: Outcome,
    /// Told what became of the notice when the database knows.
    pub(in crate::daemon::dispatch) answer: oneshot::Sender<NoticeState>,
    /// Somebody waits for that.
    pub(in crate::daemon::dispatch) awaited: bool,
}

impl Desk<'_> {
    /// Tells the database how attempts ended, some milliseconds' worth at a time.
    pub(in crate::daemon::dispatch) async fn settlements(&self, mut asks: mpsc::Receiver<EndAsk>) {
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
            let states = self.settle(&ended, &mut lane).await;
            for (one, state) in ended.drain(..).zip(states.into_iter().flatten()) {
                let _ = one.answer.send(state);
            }
        }
        drop(lane);
        if let Err(error) = in_time(self.make_last()).await {
            self.fail(error);
        }
    }

    /// A database that is gone is asked again: what is known should not be lost. Meanwhile nothing new begins. What it
    /// does not take at last stays in the journal. Gives what became of the notices.
    async fn settle(&self, ended: &[EndAsk], lane: &mut Lane<'_>) -> Option<Vec<NoticeState>> {
        let mut wait = FIRST_WAIT;
        for tried in 1..=TRIES {
            self.sync().await;
            let error = match in_time(self.settle_once(ended, lane)).await {
                Ok(states) => return Some(states),
                Err(error) => error,
            };
            self.failed(&error);
            if matches!(error, RecordError::Forgot) {
                return None;
            }
            if tried == TRIES {
                tracing::error!(%error, count = ended.len(), "the ends of attempts could not be recorded");
                self.fail(error);
                return None;
            }
            tracing::warn!(%error, count = ended.len(), "the ends of attempts are not recorded yet");
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        None
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

    async fn settle_once(&self, ended: &[EndAsk], lane: &mut Lane<'_>) -> Result<Vec<NoticeState>, RecordError> {
        let mut work = self.work(lane).await?;
        let mut transaction = work.begin().await?;
        let (mut changes, mut events, mut outcomes) = (Vec::new(), Vec::new(), Vec::new());
        let mut taught = record::any_breaker(&mut transaction).await?;
        for one in ended {
            let mut learnt = lessons(&one.outcome);
            // Where nothing has failed there is nothing to make good.
            learnt.retain(|(_, lesson)| taught || lesson.failed());
            taught |= !learnt.is_empty();
            let about = Some((&*one.claimed, self.today(&one.claimed)));
            let learnt = self.breakers.tell(&mut transaction, about, learnt, &mut events).await?;
            changes.extend(learnt.changes);
            let outcome = Cow::Borrowed(&one.outcome);
            outcomes.push(if learnt.ours { Cow::Owned(about_us(&one.outcome)) } else { outcome });
        }
        let mut settlements: Vec<Settlement<'_>> =
            ended.iter().zip(&outcomes).map(|(one, outcome)| self.settlement(&one.claimed, outcome, None)).collect();
        // What fails by our fault until its text is no longer true, with no try burnt, while others are accepted, would go
        // round for ever: a person looks at it.
        for late in settlements.iter_mut().filter(|one| one.next_try == NextTry::TooLate) {
            if late.outcome.fault().is_some_and(Fault::is_ours)
                && record::others_were_accepted(&mut transaction, late.claimed.notice).await?
            {
                late.next_try = NextTry::GiveUp;
            }
        }
        let settled = record::settle(&mut transaction, &settlements, events, &self.shell.actor).await?;
        transaction.commit().await?;
        let head = if self.journal.is_some() { Some(record::head(&mut work).await?) } else { None };
        lane.done(work).await?;
        self.failing.store(taught, Ordering::Relaxed);
        self.changed(&changes);
        let states = settlements.iter().map(Settlement::becomes).collect();
        for (one, _) in ended.iter().zip(settled).filter(|(_, settled)| *settled == Settled::Overtaken) {
            let outcome = one.outcome.state().as_str();
            tracing::warn!(notice.id = %one.claimed.notice, outcome, "the notice was settled otherwise meanwhile");
        }
        if let Some((events, chain_hash)) = head {
            let attempts = ended.iter().map(|one| one.claimed.attempt).collect();
            let head = LogHead { events, chain_hash: hex::encode(chain_hash) };
            self.written().push(Written { attempts, head });
        }
        Ok(states)
    }

    /// Waits for the disk of the database where the last ends of attempts have not done so.
    async fn make_last(&self) -> Result<(), RecordError> {
        if self.written().is_empty() {
            return Ok(());
        }
        let mut transaction = self.shell.pool.begin().await?;
        self.look_for_what_was_told(&mut transaction).await?;
        let written = self.take_written();
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
        // What the relay has against us may be against one recipient after all: the others go first.
        let times = if has_something_against_us(outcome) { u32::MAX } else { claimed.tries };
        let wait = backoff(times, dispatch.retry_first, dispatch.retry_last, jitter);
        // Through `--as-of` the text's days are not those of the wall.
        if claimed.as_of.is_none() && self.date_of(claimed, self.shell.clock.now() + wait) > claimed.valid_until {
            return NextTry::TooLate;
        }
        NextTry::After(wait)
    }
}

fn has_something_against_us(outcome: &Outcome) -> bool {
    let Outcome::Deferred { phase: Phase::RcptTo | Phase::Data, reply: Some(reply), fault: Fault::Sender, .. } =
        outcome
    else {
        return false;
    };
    reply.code >= 500
}
