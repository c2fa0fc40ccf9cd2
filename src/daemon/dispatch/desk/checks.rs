//! The last check, of all sessions that wait for it together.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::Connection as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::clock::since_boot;
use crate::model::CancelReason;
use crate::record::{self, ClaimedNotice, LastCheck, RecordError};

use super::lane::{Lane, Work, in_time};
use super::{AT_ONCE, Desk};
use crate::daemon::schedule::{payments_at_most, payments_needed};

/// How long a session waits at most until half of all are there: one statement for four costs the server far less than
/// four for one.
const GATHER: Duration = Duration::from_millis(2);

/// The answer of the last check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::daemon::dispatch) enum Checked {
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
pub(in crate::daemon::dispatch) struct CheckAsk {
    pub(in crate::daemon::dispatch) claimed: Arc<ClaimedNotice>,
    /// The answer, and when it was true at the earliest, by [`since_boot`].
    pub(in crate::daemon::dispatch) answer: oneshot::Sender<(Checked, Duration)>,
}

impl Desk<'_> {
    /// Performs the last check for the sessions that wait for it, of so many in all.
    pub(in crate::daemon::dispatch) async fn checks(&self, mut asks: mpsc::Receiver<CheckAsk>, sessions: usize) {
        let mut lane = Lane::of(&self.shell.pool, false);
        let mut asked = Vec::new();
        while asks.recv_many(&mut asked, AT_ONCE).await > 0 {
            let until = Instant::now() + GATHER;
            while asked.len() < sessions.div_ceil(2)
                && timeout_at(until, asks.recv_many(&mut asked, AT_ONCE)).await.is_ok_and(|count| count > 0)
            {
            }
            let group = std::mem::take(&mut asked);
            if self.lost.load(Ordering::Relaxed) {
                unanswered(group);
                continue;
            }
            match self.check(&group, &mut lane).await {
                Ok((passed, at)) => self.answer(group, &passed, at, &mut lane, Checked::LeaseLost).await,
                // One account that cannot be asked about must not stop the others. What the statement without an answer
                // had moved already does not pass again.
                Err(error) if group.len() > 1 && error.is_an_answer() => {
                    for one in group {
                        let alone = vec![one];
                        if self.lost.load(Ordering::Relaxed) {
                            unanswered(alone);
                            continue;
                        }
                        match self.check(&alone, &mut lane).await {
                            Ok((passed, at)) => self.answer(alone, &passed, at, &mut lane, Checked::Unanswered).await,
                            Err(error) => self.give_up(alone, error),
                        }
                    }
                }
                Err(error) => self.give_up(group, error),
            }
        }
    }

    fn give_up(&self, asked: Vec<CheckAsk>, error: RecordError) {
        self.fail(error);
        unanswered(asked);
    }

    async fn check(&self, asked: &[CheckAsk], lane: &mut Lane<'_>) -> Result<(Vec<bool>, Duration), RecordError> {
        let began = since_boot();
        let checks: Vec<LastCheck<'_>> = asked.iter().map(|ask| self.look_at(&ask.claimed)).collect();
        let work = in_time(self.work(lane)).await?;
        // Once the statement runs, later ends of attempts may be committed after it.
        let written = self.take_written();
        let passed = in_time(self.check_over(&checks, lane, work)).await;
        // A statement that wrote nothing waits for no disk.
        if passed.as_ref().is_ok_and(|passed| passed.contains(&true)) {
            self.outlasts(written);
        } else {
            self.written().splice(..0, written);
        }
        Ok((passed?, began))
    }

    async fn check_over(
        &self,
        checks: &[LastCheck<'_>],
        lane: &mut Lane<'_>,
        mut work: Work,
    ) -> Result<Vec<bool>, RecordError> {
        let seconds = u32::try_from(self.in_flight.as_secs()).unwrap_or(u32::MAX);
        let passed = record::in_flight_check(&mut work, checks, seconds).await?;
        lane.done(work).await?;
        Ok(passed)
    }

    fn look_at<'b>(&self, claimed: &'b ClaimedNotice) -> LastCheck<'b> {
        let config = &self.live.config;
        let payments_as_of = claimed.as_of.is_none().then(|| {
            let now = self.shell.clock.now();
            let needed = self.creditor(claimed).and_then(|creditor| {
                payments_needed(config.service.freshness, &config.policy.calendars, creditor, now).ok()
            });
            // Without a calendar nobody can say that an older moment is enough.
            needed.unwrap_or(now)..=payments_at_most(now)
        });
        LastCheck { claimed, today: self.today(claimed), payments_as_of }
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
                Err(error) => self.give_up(vec![ask], error),
            }
        }
    }

    async fn stopped(&self, claimed: &ClaimedNotice, lane: &mut Lane<'_>) -> Result<Option<CancelReason>, RecordError> {
        let reason = in_time(async {
            let mut work = self.work(lane).await?;
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
}

fn unanswered(asked: Vec<CheckAsk>) {
    for ask in asked {
        let _ = ask.answer.send((Checked::Unanswered, since_boot()));
    }
}
