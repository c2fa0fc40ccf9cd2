//! Notices are claimed a little ahead of the sessions that ask for them; what nobody came for is let go.

use std::collections::VecDeque;
use std::iter::repeat_with;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::clock::since_boot;
use crate::deliver::Limits;
use crate::record::{self, ClaimedNotice, RecordError};

use super::lane::{Lane, in_time};
use super::{AT_ONCE, Desk, FIRST_WAIT, TRIES};

/// What was claimed ahead is let go after this time, or a third of its lease: then no session came for it.
const AHEAD_STAYS: Duration = Duration::from_secs(5);
/// So many are claimed ahead where there are fewer sessions.
const AHEAD_LEAST: usize = 8;

/// A session is free: the answer is its notice. Nothing is due when it is dropped.
pub(in crate::daemon::dispatch) type ClaimAsk = oneshot::Sender<ClaimedNotice>;

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

impl Desk<'_> {
    /// How many notices are claimed ahead when there are so many sessions. Where letters are counted, each one changes who
    /// may go next.
    fn room_ahead(&self, sessions: usize) -> usize {
        if self.journal.is_some() && self.limits == Limits::default() { (4 * sessions).max(AHEAD_LEAST) } else { 0 }
    }

    /// Claims for the sessions that are free, and ahead for those that soon will be. Whatever ends the round, what no
    /// session has begun is let go.
    pub(in crate::daemon::dispatch) async fn claims(
        &self,
        mut asks: mpsc::Receiver<ClaimAsk>,
        stop: &CancellationToken,
        sessions: usize,
    ) {
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
        for _ in 1..TRIES {
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
}

async fn finished<'c>(claiming: &mut Option<Claiming<'c>>) -> (Lane<'c>, Result<Claim, RecordError>) {
    match claiming {
        Some(claiming) => claiming.await,
        None => std::future::pending().await,
    }
}
