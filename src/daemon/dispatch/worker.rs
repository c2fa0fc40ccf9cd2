//! One worker: a session, and one notice after another over it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use sqlx::Connection as _;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::clock::since_boot;
use crate::config::Mail;
use crate::deliver::{DeliveryError, Ending, Envelope, FileTransport, ReadyForData, Relay, Session, Transport};
use crate::model::{CancelReason, Fault, Outcome, Permit, Phase, Reply};
use crate::record::{self, ClaimedNotice, RecordError};

use super::super::approval::{Ledgers, Looked, look_again};
use super::super::breakers::lessons;
use super::Dispatched;
use super::desk::{CheckAsk, Checked, ClaimAsk, Desk, EndAsk};

/// A connection is closed after so many messages, or so much time, so that no relay has to close it on us.
const MESSAGES_PER_SESSION: u32 = 100;
const SESSION_AGE: Duration = Duration::from_mins(5);
/// From before the last check to the first byte of the message.
const CHECK_STAYS_TRUE: Duration = Duration::from_secs(2);

/// What the last check means for the message.
enum Word {
    /// It follows, as long as what was true at that moment, by [`since_boot`], may be acted upon.
    Send(Duration),
    /// It does not; the outcome, if that is left to be settled.
    Not(Option<Outcome>),
}

pub(super) struct Worker<'a> {
    pub(super) desk: &'a Desk<'a>,
    pub(super) stop: &'a CancellationToken,
    pub(super) claims: mpsc::Sender<ClaimAsk>,
    pub(super) checks: mpsc::Sender<CheckAsk>,
    pub(super) endings: mpsc::Sender<EndAsk>,
}

impl Worker<'_> {
    pub(super) async fn deliver(&self, transport: &Transport, connections: u32) -> Result<Dispatched, RecordError> {
        let relay = match transport {
            Transport::File(files) => return self.as_files(files).await,
            Transport::Smtp(relay) => relay,
        };
        let probe = match self.ask_relay(relay).await? {
            Ok(permit) => permit == Permit::Probe,
            Err(waiting) => return Ok(Dispatched { waiting: Some(waiting), ..Dispatched::default() }),
        };
        // One session is tried before the others: a relay that refuses us is not asked once per worker.
        let connected = tokio::select! {
            connected = relay.connect() => connected,
            // Nothing is on the wire of a session that is not open yet.
            () = self.stop.cancelled() => return Ok(Dispatched::default()),
        };
        let first = match connected {
            Ok(session) => session,
            Err(error) => {
                self.tell_of_no_session(&error).await?;
                return Ok(Dispatched::unusable(relay, &error));
            }
        };
        tracing::debug!(%relay, offered = ?first.extensions(), "session open");
        let mut done = Dispatched::default();
        let mut first = Some(first);
        if probe {
            done = self.over(relay, first.take(), 1).await?;
            if self.ask_relay(relay).await? != Ok(Permit::Go) {
                return Ok(done);
            }
        }
        let kept = std::iter::once(first).chain((1..connections).map(|_| None));
        // Each is woken by itself, and all come to their end before an error is told.
        let rounds: FuturesUnordered<_> = kept.map(|kept| self.over(relay, kept, u64::MAX)).collect();
        let rounds = rounds.collect::<Vec<_>>().await.into_iter().collect::<Result<Vec<Dispatched>, RecordError>>()?;
        // A relay that takes fewer connections than we make is none that cannot be used.
        let works = !self.desk.halted.is_cancelled() && rounds.iter().any(|round| round.relay_error.is_none());
        let mut sum = rounds.into_iter().fold(done, Dispatched::add);
        if works
            && !sum.credentials_refused
            && let Some(error) = sum.relay_error.take()
        {
            tracing::warn!(error, "a connection beside the others could not be used");
        }
        Ok(sum)
    }

    /// Delivers over one connection after another, with at most so many attempts.
    async fn over(&self, relay: &Relay, mut kept: Option<Session>, at_most: u64) -> Result<Dispatched, RecordError> {
        let mut done = Dispatched::default();
        while done.attempts() < at_most && !self.stop.is_cancelled() && !self.desk.halted.is_cancelled() {
            let session = tokio::select! {
                session = self.session(relay, kept.take()) => session,
                // Nothing is on the wire of a session that is not open yet.
                () = self.stop.cancelled() => break,
            };
            let session = match session {
                Ok(session) => session,
                Err(error) => {
                    done = done.add(Dispatched::unusable(relay, &error));
                    break;
                }
            };
            let Some(claimed) = self.claim().await else {
                session.quit().await;
                break;
            };
            if self.crashed_too_often(&claimed, &mut done).await || !self.as_approved(&claimed, &mut done).await? {
                kept = Some(session);
                continue;
            }
            let id = claimed.attempt.to_string();
            let envelope = Envelope { from: &claimed.sender, to: &claimed.recipient, id: &id, bytes: &claimed.bytes };
            let (session, outcome) = match session.envelope(&envelope).await {
                Ok(ready) => self.with_envelope(&claimed, ready, &mut done).await,
                Err((session, outcome)) => (session, Some(outcome)),
            };
            kept = session;
            if let Some(outcome) = outcome {
                self.ended(&claimed, outcome, at_most == 1, &mut done).await;
            }
        }
        if let Some(session) = kept {
            session.quit().await;
        }
        Ok(done)
    }

    async fn claim(&self) -> Option<Arc<ClaimedNotice>> {
        let (answer, claimed) = oneshot::channel();
        self.claims.send(answer).await.ok()?;
        claimed.await.ok().map(Arc::new)
    }

    /// A notice that is claimed with all its tries used is given up before one more: their workers ended before they
    /// could say so, or `max_tries` was lowered since.
    async fn crashed_too_often(&self, claimed: &Arc<ClaimedNotice>, done: &mut Dispatched) -> bool {
        if claimed.tries < self.desk.live.config.service.dispatch.max_tries {
            return false;
        }
        let outcome = Outcome::Deferred {
            phase: Phase::Connect,
            reply: None,
            detail: "it was tried as often as dispatch.max_tries allows".to_owned(),
            fault: Fault::Content,
        };
        self.ended(claimed, outcome, false, done).await;
        true
    }

    /// Whether a notice may go to its recipient from here, its creditor is still served and, where a person approved it, it
    /// is still what he approved. Otherwise it is cancelled, or another one that demands less is in its place.
    async fn as_approved(&self, claimed: &ClaimedNotice, done: &mut Dispatched) -> Result<bool, RecordError> {
        let Desk { shell, live, .. } = self.desk;
        let refused = if self.desk.creditor(claimed).is_none() {
            Some(CancelReason::CreditorRemoved)
        } else if let Mail::Smtp(smtp) = &live.config.service.mail {
            (!smtp.recipients.allow(&claimed.recipient)).then_some(CancelReason::RecipientNotAllowed)
        } else {
            None
        };
        if let Some(reason) = refused {
            let mut connection = shell.pool.acquire().await?;
            let mut transaction = connection.begin().await?;
            record::cancel_notice(&mut transaction, claimed.notice, reason, &shell.actor).await?;
            transaction.commit().await?;
            done.cancelled += 1;
            return Ok(false);
        }
        // What is sent again is what was approved then: if it does not hold any more, the last check says so.
        if !claimed.approved || claimed.resend_of.is_some() {
            return Ok(true);
        }
        let why = "less is owed than was approved";
        // Rare, and large: kept out of the future of every delivery.
        let (today, mut hours) = (self.desk.today(claimed), record::Hours::any());
        let looked =
            Box::pin(look_again(shell, live, claimed.notice, today, &mut hours, why, &mut Ledgers::default())).await?;
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

    /// RCPT is accepted: last check, then the message. Without an outcome it was not sent, and is not to be settled.
    async fn with_envelope(
        &self,
        claimed: &Arc<ClaimedNotice>,
        ready: ReadyForData,
        done: &mut Dispatched,
    ) -> (Option<Session>, Option<Outcome>) {
        match self.last_check(claimed, done).await {
            Some(Word::Send(at)) => {
                let (session, outcome) = ready.data(&claimed.bytes, || is_fresh(at)).await;
                (session, Some(outcome))
            }
            Some(Word::Not(outcome)) => (ready.reset().await, outcome),
            // Dropped, the session hangs up.
            None => (None, None),
        }
    }

    /// Whether the message may follow; none when there is nobody to ask.
    async fn last_check(&self, claimed: &Arc<ClaimedNotice>, done: &mut Dispatched) -> Option<Word> {
        let (answer, checked) = oneshot::channel();
        self.checks.send(CheckAsk { claimed: Arc::clone(claimed), answer }).await.ok()?;
        let (checked, at) = checked.await.ok()?;
        let reason = match checked {
            Checked::Send if is_fresh(at) => return Some(Word::Send(at)),
            Checked::Send => return Some(Word::Not(Some(too_late()))),
            Checked::Unanswered => return Some(Word::Not(Some(unanswered()))),
            Checked::Cancelled(reason) => reason.as_str(),
            Checked::LeaseLost => "lease_lost",
        };
        tracing::info!(notice.id = %claimed.notice, account.id = claimed.account, reason,
            "notice stopped by the last check");
        done.cancelled += 1;
        Some(Word::Not(None))
    }

    /// Notes how an attempt ended: on this machine at once, in the database soon. Only what was accepted is not waited
    /// for, unless it was the probe; anything else may decide what comes next.
    async fn ended(&self, claimed: &Arc<ClaimedNotice>, outcome: Outcome, probe: bool, done: &mut Dispatched) {
        if let Some(journal) = self.desk.journal {
            let (attempt, notice, token) = (claimed.attempt, claimed.notice, claimed.token);
            let at = self.desk.shell.clock.wall();
            if let Err(error) = journal.note(Ending { attempt, notice, token, at, outcome: outcome.clone() }) {
                self.desk.stop(&error);
            }
        }
        let state = outcome.state();
        let reply = outcome.reply();
        tracing::info!(notice.id = %claimed.notice, account.id = claimed.account, stage = claimed.stage,
            outcome = outcome.state().as_str(), fault = outcome.fault().map(Fault::as_str),
            reply.code = reply.map(Reply::code_text),
            reply.status = reply.and_then(Reply::status).map(|status| status.to_string()), "attempt ended");
        let awaited = probe || !matches!(outcome, Outcome::Accepted { .. });
        let (answer, settled) = oneshot::channel();
        let ended = EndAsk { claimed: Arc::clone(claimed), outcome, answer, awaited };
        // Of what nobody waits for, or could be recorded, the relay's answer is what is known.
        let known = if self.endings.send(ended).await.is_ok() && awaited { settled.await.ok() } else { None };
        done.count(known.unwrap_or(state));
    }

    async fn as_files(&self, files: &FileTransport) -> Result<Dispatched, RecordError> {
        let mut done = Dispatched::default();
        while !self.stop.is_cancelled() && !self.desk.halted.is_cancelled() {
            let Some(claimed) = self.claim().await else { break };
            if self.crashed_too_often(&claimed, &mut done).await || !self.as_approved(&claimed, &mut done).await? {
                continue;
            }
            let outcome = match self.last_check(&claimed, &mut done).await {
                Some(Word::Send(_)) => Some(files.deliver(&claimed.message_id, &claimed.bytes).await),
                Some(Word::Not(outcome)) => outcome,
                None => break,
            };
            if let Some(outcome) = outcome {
                self.ended(&claimed, outcome, false, &mut done).await;
            }
        }
        Ok(done)
    }

    /// Whether the relay may be asked now; an error, in words, when it failed too often.
    async fn ask_relay(&self, relay: &Relay) -> Result<Result<Permit, String>, RecordError> {
        let Desk { shell, live, breakers, .. } = self.desk;
        let at_most = relay.timeouts().connecting() + live.config.service.dispatch.lease;
        let mut connection = shell.pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        let (permit, cause) = breakers.ask_relay(&mut transaction, at_most).await?;
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
        let Desk { shell, breakers, .. } = self.desk;
        let mut connection = shell.pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        let lessons = lessons(&Outcome::from(error.clone()));
        // Only of the relay, about which nobody is asked.
        let learnt = breakers.tell(&mut transaction, None, lessons, &mut Vec::new()).await?;
        transaction.commit().await?;
        self.desk.changed(&learnt.changes);
        Ok(())
    }
}

/// Whether what was true then may still be acted upon.
fn is_fresh(at: Duration) -> bool {
    since_boot().saturating_sub(at) <= CHECK_STAYS_TRUE
}

/// The message was not sent, whatever the database holds of the question.
fn unanswered() -> Outcome {
    Outcome::Deferred {
        phase: Phase::Data,
        reply: None,
        detail: "the database did not answer the last check".to_owned(),
        fault: Fault::Machine,
    }
}

fn too_late() -> Outcome {
    Outcome::Deferred {
        phase: Phase::Data,
        reply: None,
        detail: "the machine stood still between the last check and DATA".to_owned(),
        fault: Fault::Relay,
    }
}
