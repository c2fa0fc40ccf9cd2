//! What the end of each attempt teaches about the relay, the sender and the letter, and when one of them has to wait.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::PgConnection;

use crate::config::{Dispatch, Mail};
use crate::deliver::names_the_recipient;
use crate::model::{Actor, Breaker, BreakerKind, BreakerRule, Event, Fault, Outcome, Permit, Phase};
use crate::record::{self, ClaimedNotice, RecordError};

/// Failures of the relay, or of a sender, in a row.
const FAILURES: u32 = 3;
/// The relay refuses recipients of so many domains in a row, with one code.
const IN_A_ROW: &str = ", at one domain after another: is our address on a blocklist, or a quota of ours used up?";
/// A letter that is refused waits for a person, but not for ever.
const LETTER_WAITS: Duration = Duration::from_hours(1);

/// What an attempt says about one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lesson {
    Works,
    /// With the cause: our own words and the relay's codes.
    Failed(String),
    /// It was let through at MAIL, which says nothing of what the relay has against it later.
    Reached,
    /// A refusal that may be about it, or about one recipient; with the cause.
    Doubt(String),
}

impl Lesson {
    pub(super) fn failed(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Doubt(_))
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
        if let (Lesson::Failed(cause) | Lesson::Doubt(cause), Some(until)) = (&self.now, self.until) {
            tracing::warn!(kind, subject, cause, %until, "sending stopped after repeated failures");
        } else {
            tracing::info!(kind, subject, "sending goes on");
        }
    }
}

/// What was learnt.
#[derive(Debug, Default)]
pub(super) struct Learnt {
    /// What opened or closed by it.
    pub(super) changes: Vec<Change>,
    /// The refusal is one of several in a row that are about us: it is not the notice's.
    pub(super) ours: bool,
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
                Fault::Recipient | Fault::Content if matches!(phase, Phase::Body | Phase::Dot) => {
                    vec![works(Relay), works(Sender)]
                }
                Fault::Recipient | Fault::Content => match outcome.reply() {
                    None => Vec::new(),
                    Some(reply) if for_good && !names_the_recipient(reply) => {
                        vec![works(Relay), (Sender, Lesson::Doubt(cause(*phase, outcome, detail) + IN_A_ROW))]
                    }
                    Some(_) => vec![works(Relay), (Sender, Lesson::Reached)],
                },
            }
        }
    }
}

/// What an attempt counts as that the relay refused for something it has against us.
pub(super) fn about_us(outcome: &Outcome) -> Outcome {
    match outcome {
        Outcome::Refused { phase, reply, .. } => Outcome::Deferred {
            phase: *phase,
            reply: reply.clone(),
            detail: "the relay refuses one domain after another".to_owned(),
            fault: Fault::Sender,
        },
        other => other.clone(),
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

/// What was learnt before and now, together. Failures of a letter, and doubts, count in a row only with one cause.
fn learn(
    breaker: Breaker,
    lesson: &Lesson,
    kind: BreakerKind,
    rule: BreakerRule,
    now: DateTime<Utc>,
    cause: &str,
    jitter: u32,
) -> Breaker {
    let by_cause = kind == BreakerKind::Content || matches!(lesson, Lesson::Doubt(_));
    let another = by_cause && breaker.until.is_none() && breaker.cause != cause;
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

    /// Records what was learnt, in the caller's transaction. What is to be said of it in the log goes to `events`.
    pub(super) async fn tell(
        &self,
        connection: &mut PgConnection,
        about: Option<(&ClaimedNotice, NaiveDate)>,
        lessons: Vec<(BreakerKind, Lesson)>,
        events: &mut Vec<Event>,
    ) -> Result<Learnt, RecordError> {
        let mut learnt = Learnt::default();
        if lessons.is_empty() {
            return Ok(learnt);
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
            let before = record::breaker(connection, kind, &subject).await?;
            let cause = match &lesson {
                Lesson::Reached if !before.cause.starts_with(Phase::MailFrom.as_str()) => continue,
                Lesson::Works | Lesson::Reached => {
                    if record::close_breaker(connection, kind, &subject).await? {
                        learnt.changes.push(Change { kind, subject, now: lesson, until: None });
                    }
                    continue;
                }
                Lesson::Failed(cause) => cause,
                Lesson::Doubt(cause) => {
                    learnt.ours = before.until.is_some();
                    let counts = match about {
                        Some((notice, _)) if before.until.is_none() => {
                            record::is_another_domain(connection, &subject, notice.notice, cause).await?
                        }
                        _ => true,
                    };
                    if !counts {
                        continue;
                    }
                    cause
                }
            };
            let opened = before.opened;
            let rule = rule(kind, self.dispatch, self.mail);
            let after = learn(before, &lesson, kind, rule, now, cause, rand::random_range(0..1_000));
            record::keep_breaker(connection, kind, &subject, &after).await?;
            if let (Lesson::Doubt(_), Some((notice, _))) = (&lesson, about) {
                learnt.ours |= after.until.is_some();
                record::refused_in_a_row(connection, &subject, notice.notice, after.failures == 1).await?;
            }
            if let (BreakerKind::Content, Some((notice, today)), true) = (kind, about, after.opened > opened) {
                let text = format!("the relay refuses this letter ({cause}): look at its text, then `resume`");
                let (creditor, actor) = (&notice.creditor, self.actor);
                events.extend(record::ask_about_letter(connection, creditor, &subject, &text, today, actor).await?);
            }
            let until = after.until.filter(|_| after.opened > opened);
            if until.is_some() {
                learnt.changes.push(Change { kind, subject, now: lesson, until });
            }
        }
        Ok(learnt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Reply;

    fn refused(phase: Phase, text: &str, fault: Fault) -> Outcome {
        let reply = Some(Reply { code: 550, text: text.into() });
        Outcome::Refused { phase, reply, detail: String::new(), fault }
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
            (deferred(Some(450), Fault::Recipient), "relay works, sender reached"),
            (deferred(None, Fault::Content), ""),
            (refused(Phase::Dot, "5.1.1 x", Fault::Recipient), "relay works, sender works"),
            (refused(Phase::RcptTo, "5.1.1 x", Fault::Recipient), "relay works, sender reached"),
            (refused(Phase::RcptTo, "5.7.1 x", Fault::Recipient), "relay works, sender doubted rcpt_to: 550 5.7.1"),
            (
                refused(Phase::Dot, "5.7.1 x", Fault::Content),
                "relay works, sender works, content failed dot: 550 5.7.1",
            ),
        ];
        for (outcome, expected) in table {
            let found: Vec<String> = lessons(&outcome)
                .into_iter()
                .map(|(kind, lesson)| match lesson {
                    Lesson::Works => format!("{} works", kind.as_str()),
                    Lesson::Failed(cause) => format!("{} failed {cause}", kind.as_str()),
                    Lesson::Reached => format!("{} reached", kind.as_str()),
                    Lesson::Doubt(cause) => format!("{} doubted {}", kind.as_str(), cause.replace(IN_A_ROW, "")),
                })
                .collect();
            assert_eq!(found.join(", "), expected);
        }
    }

    #[test]
    fn refusals_of_a_letter_count_only_with_one_cause() {
        let rule = BreakerRule { failures: 2, first: LETTER_WAITS, last: LETTER_WAITS };
        let at = DateTime::UNIX_EPOCH;
        let fail = |breaker, cause: &str| {
            learn(breaker, &Lesson::Failed(cause.to_owned()), BreakerKind::Content, rule, at, cause, 0)
        };
        let mixed = ["550 5.7.1", "554 5.6.0", "550 5.7.1"].into_iter().fold(Breaker::default(), fail);
        assert_eq!(mixed.permit(at), Permit::Go);
        assert_eq!(fail(mixed, "550 5.7.1").permit(at), Permit::Wait(at + LETTER_WAITS));
    }
}
