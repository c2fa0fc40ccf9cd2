//! What the end of each attempt teaches about the relay, the sender and the letter, and when one of them has to wait.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::PgConnection;

use crate::config::{Dispatch, Mail};
use crate::model::{Actor, Breaker, BreakerKind, BreakerRule, Event, Fault, Outcome, Permit, Phase};
use crate::record::{self, ClaimedNotice, RecordError};

/// Failures of the relay, or of a sender, in a row.
const FAILURES: u32 = 3;
/// A letter that is refused waits for a person, but not for ever.
const LETTER_WAITS: Duration = Duration::from_hours(1);

/// What an attempt says about one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lesson {
    Works,
    /// With the cause: our own words and the relay's codes.
    Failed(String),
}

impl Lesson {
    pub(super) fn failed(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

/// A breaker that opened or closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    kind: BreakerKind,
    subject: String,
    now: Lesson,
    until: Option<DateTime<Utc>>,
}

impl Change {
    pub(super) fn stops_the_relay(&self) -> bool {
        self.kind == BreakerKind::Relay && self.until.is_some()
    }

    pub(super) fn log(&self) {
        let (kind, subject) = (self.kind.as_str(), &self.subject);
        if let (Lesson::Failed(cause), Some(until)) = (&self.now, self.until) {
            tracing::warn!(kind, subject, cause, %until, "sending stopped after repeated failures");
        } else {
            tracing::info!(kind, subject, "sending goes on");
        }
    }
}

/// What that outcome teaches. That a recipient is refused says nothing about the letter; that nobody answers after the
/// text says something about the relay.
pub(super) fn lessons(outcome: &Outcome) -> Vec<(BreakerKind, Lesson)> {
    use BreakerKind::{Content, Relay, Sender};
    let works = |kind| (kind, Lesson::Works);
    match outcome {
        Outcome::Accepted { .. } => vec![works(Relay), works(Sender), works(Content)],
        Outcome::Unknown { phase, detail } => vec![(Relay, Lesson::Failed(cause(*phase, outcome, detail)))],
        Outcome::Deferred { phase, detail, fault, .. } | Outcome::Refused { phase, detail, fault, .. } => {
            let failed = || Lesson::Failed(cause(*phase, outcome, detail));
            let for_good = matches!(outcome, Outcome::Refused { .. });
            match fault {
                Fault::Machine => Vec::new(),
                Fault::Relay | Fault::Login => vec![(Relay, failed())],
                Fault::Sender => vec![works(Relay), (Sender, failed())],
                // What was refused without asking the relay says nothing about it.
                Fault::Content if for_good && outcome.reply().is_none() => vec![(Content, failed())],
                Fault::Content if for_good => vec![works(Relay), works(Sender), (Content, failed())],
                _ if outcome.reply().is_none() => Vec::new(),
                Fault::Recipient | Fault::Content => vec![works(Relay), works(Sender)],
            }
        }
    }
}

/// Phase, code and status, which are the same for the same cause; our own words when there was no reply.
fn cause(phase: Phase, outcome: &Outcome, detail: &str) -> String {
    let phase = phase.as_str();
    match outcome.reply().map(|reply| (reply.code, reply.status())) {
        Some((code, Some(status))) => format!("{phase}: {code} {status}"),
        Some((code, None)) => format!("{phase}: {code}"),
        None => format!("{phase}: {detail}"),
    }
}

/// What was learnt before and now, together. Failures of a letter count in a row only with one cause.
fn learn(
    breaker: Breaker,
    kind: BreakerKind,
    rule: BreakerRule,
    now: DateTime<Utc>,
    cause: &str,
    jitter: u32,
) -> Breaker {
    let another = kind == BreakerKind::Content && breaker.until.is_none() && breaker.cause != cause;
    let before = if another { Breaker::default() } else { breaker };
    before.failed(rule, now, cause, jitter)
}

fn rule(kind: BreakerKind, dispatch: &Dispatch, mail: &Mail) -> BreakerRule {
    match (kind, mail) {
        (BreakerKind::Content, Mail::Smtp(smtp)) => {
            BreakerRule { failures: smtp.content_refusals, first: LETTER_WAITS, last: LETTER_WAITS }
        }
        _ => BreakerRule { failures: FAILURES, first: dispatch.retry_first, last: dispatch.retry_last },
    }
}

/// A worker's view of the breakers.
pub(super) struct Breakers<'a> {
    /// `host:port`; files have no relay that could fail.
    pub(super) relay: Option<String>,
    pub(super) dispatch: &'a Dispatch,
    pub(super) mail: &'a Mail,
    pub(super) actor: &'a Actor,
}

impl Breakers<'_> {
    /// Whether the relay may be asked now; if as a probe, then nobody else asks it for so long.
    pub(super) async fn ask_relay(
        &self,
        connection: &mut PgConnection,
        at_most: Duration,
    ) -> Result<(Permit, String), RecordError> {
        let Some(relay) = &self.relay else { return Ok((Permit::Go, String::new())) };
        let breaker = record::breaker(connection, BreakerKind::Relay, relay).await?;
        let now = record::now(connection).await?;
        let permit = breaker.permit(now);
        let cause = breaker.cause.clone();
        if permit == Permit::Probe {
            record::keep_breaker(connection, BreakerKind::Relay, relay, &breaker.probing(now, at_most)).await?;
        }
        Ok((permit, cause))
    }

    /// Records what was learnt, in the caller's transaction; returns what opened or closed by it. What is to be said of it
    /// in the log goes to `events`.
    pub(super) async fn tell(
        &self,
        connection: &mut PgConnection,
        about: Option<(&ClaimedNotice, NaiveDate)>,
        lessons: Vec<(BreakerKind, Lesson)>,
        events: &mut Vec<Event>,
    ) -> Result<Vec<Change>, RecordError> {
        let mut changes = Vec::new();
        if lessons.is_empty() {
            return Ok(changes);
        }
        // Its clock alone says when a wait is over: the machines' may differ.
        let now = record::now(connection).await?;
        for (kind, lesson) in lessons {
            let subject = match (kind, about) {
                (BreakerKind::Relay, _) => self.relay.clone(),
                (BreakerKind::Sender, Some((notice, _))) => Some(notice.creditor.clone()),
                (BreakerKind::Content, Some((notice, _))) => Some(notice.letter()),
                (_, None) => None,
            };
            let Some(subject) = subject else { continue };
            let until = match &lesson {
                Lesson::Works => {
                    if record::close_breaker(connection, kind, &subject).await? {
                        changes.push(Change { kind, subject, now: lesson, until: None });
                    }
                    continue;
                }
                Lesson::Failed(cause) => {
                    let before = record::breaker(connection, kind, &subject).await?;
                    let opened = before.opened;
                    let rule = rule(kind, self.dispatch, self.mail);
                    let after = learn(before, kind, rule, now, cause, rand::random_range(0..1_000));
                    record::keep_breaker(connection, kind, &subject, &after).await?;
                    if let (BreakerKind::Content, Some((notice, today)), true) = (kind, about, after.opened > opened) {
                        let text = format!("the relay refuses this letter ({cause}): look at its text, then `resume`");
                        let (creditor, actor) = (&notice.creditor, self.actor);
                        let asked =
                            record::ask_about_letter(connection, creditor, &subject, &text, today, actor).await?;
                        events.extend(asked);
                    }
                    after.until.filter(|_| after.opened > opened)
                }
            };
            if until.is_some() {
                changes.push(Change { kind, subject, now: lesson, until });
            }
        }
        Ok(changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Reply;

    fn refused(text: &str, fault: Fault) -> Outcome {
        let reply = Some(Reply { code: 550, text: text.into() });
        Outcome::Refused { phase: Phase::Dot, reply, detail: String::new(), fault }
    }

    fn deferred(reply: Option<u16>, fault: Fault) -> Outcome {
        let reply = reply.map(|code| Reply { code, text: String::new() });
        Outcome::Deferred { phase: Phase::RcptTo, reply, detail: "why".into(), fault }
    }

    #[test]
    fn each_end_of_an_attempt_teaches_about_what_it_reached() {
        let accepted = Outcome::Accepted { reply: Reply { code: 250, text: String::new() } };
        let unknown = Outcome::Unknown { phase: Phase::Dot, detail: "no answer".into() };
        let table = [
            (accepted, "relay works, sender works, content works"),
            (unknown, "relay failed dot: no answer"),
            (deferred(None, Fault::Relay), "relay failed rcpt_to: why"),
            (deferred(Some(530), Fault::Login), "relay failed rcpt_to: 530"),
            (deferred(Some(550), Fault::Sender), "relay works, sender failed rcpt_to: 550"),
            (deferred(Some(450), Fault::Recipient), "relay works, sender works"),
            (deferred(Some(450), Fault::Content), "relay works, sender works"),
            (deferred(None, Fault::Content), ""),
            (refused("5.1.1 x", Fault::Recipient), "relay works, sender works"),
            (refused("5.7.1 x", Fault::Content), "relay works, sender works, content failed dot: 550 5.7.1"),
        ];
        for (outcome, expected) in table {
            let found: Vec<String> = lessons(&outcome)
                .into_iter()
                .map(|(kind, lesson)| match lesson {
                    Lesson::Works => format!("{} works", kind.as_str()),
                    Lesson::Failed(cause) => format!("{} failed {cause}", kind.as_str()),
                })
                .collect();
            assert_eq!(found.join(", "), expected);
        }
    }

    #[test]
    fn refusals_of_a_letter_count_only_with_one_cause() {
        let rule = BreakerRule { failures: 2, first: LETTER_WAITS, last: LETTER_WAITS };
        let at = DateTime::UNIX_EPOCH;
        let fail = |breaker, cause| learn(breaker, BreakerKind::Content, rule, at, cause, 0);
        let mixed = ["550 5.7.1", "554 5.6.0", "550 5.7.1"].into_iter().fold(Breaker::default(), fail);
        assert_eq!(mixed.permit(at), Permit::Go);
        assert_eq!(fail(mixed, "550 5.7.1").permit(at), Permit::Wait(at + LETTER_WAITS));
    }
}
