//! What a reply, or the lack of one, means for a message.

use crate::model::{Outcome, Phase, Reply};

/// Why there is no session with the relay. Nothing was sent; it is never the recipient's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", phase.as_str())]
pub struct DeliveryError {
    pub phase: Phase,
    /// What the relay answered, if it was an answer that ended it.
    pub reply: Option<Reply>,
    /// In our words: no address, no password and nothing the relay wrote.
    pub detail: String,
}

impl DeliveryError {
    pub(super) fn new(phase: Phase, detail: impl Into<String>) -> Self {
        Self { phase, reply: None, detail: detail.into() }
    }

    pub(super) fn answered(phase: Phase, reply: Reply) -> Self {
        Self { phase, detail: format!("the relay answered {}", reply.code), reply: Some(reply) }
    }

    /// The relay refused user name and password for good (RFC 4954 §6): trying again may lock them.
    #[must_use]
    pub fn credentials_refused(&self) -> bool {
        self.phase == Phase::Auth && self.reply.as_ref().is_some_and(|reply| reply.code / 100 == 5)
    }
}

impl From<DeliveryError> for Outcome {
    fn from(error: DeliveryError) -> Self {
        Self::Deferred { phase: error.phase, reply: error.reply, detail: error.detail, ours: true }
    }
}

/// What that reply in that phase means; `None` when the conversation goes on (RFC 5321 §4.2.1, §4.3.2).
///
/// Only a 2xx to the final dot is `Accepted`. Once body bytes flow, a reply that is neither 2xx, 4xx nor 5xx, or a 2xx
/// before the dot was written ([`Phase::Body`]), leaves the end `Unknown`; earlier it is merely a relay out of order.
#[must_use]
pub fn classify(phase: Phase, reply: &Reply) -> Option<Outcome> {
    let deferred = |ours| {
        Some(Outcome::Deferred {
            phase,
            reply: Some(reply.clone()),
            detail: format!("the relay answered {}", reply.code),
            ours,
        })
    };
    let refused = || Some(Outcome::Refused { phase, reply: reply.clone() });
    match (phase, reply.code) {
        (Phase::Greeting | Phase::StartTls, 220)
        | (Phase::Hello, 250)
        | (Phase::Auth | Phase::MailFrom | Phase::RcptTo, 200..=299)
        | (Phase::Data, 354) => None,
        (Phase::RcptTo | Phase::Data | Phase::Body | Phase::Dot, 400..=499) => deferred(false),
        (Phase::RcptTo | Phase::Data | Phase::Body | Phase::Dot, 500..=599) => refused(),
        (Phase::Dot, 200..=299) => Some(Outcome::Accepted { reply: reply.clone() }),
        (Phase::Body | Phase::Dot, code) => {
            Some(Outcome::Unknown { phase, detail: format!("the relay answered {code}, which means nothing here") })
        }
        _ => deferred(true),
    }
}

/// What it means that no reply came.
pub(super) fn no_reply(phase: Phase, detail: String) -> Outcome {
    match phase {
        Phase::Body | Phase::Dot => Outcome::Unknown { phase, detail },
        _ => Outcome::Deferred { phase, reply: None, detail, ours: true },
    }
}

/// Whether the same connection may be used after that reply: not after 421 (RFC 5321 §3.8), not after nonsense.
pub(super) fn goes_on_after(reply: &Reply) -> bool {
    matches!(reply.code, 200..=299 | 400..=599) && reply.code != 421
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+` accepted, `>` goes on, `o` deferred by our side, `d` deferred, `r` refused, `?` unknown.
    fn mark(phase: Phase, code: u16) -> char {
        match classify(phase, &Reply { code, text: String::new() }) {
            None => '>',
            Some(Outcome::Accepted { .. }) => '+',
            Some(Outcome::Deferred { ours: true, .. }) => 'o',
            Some(Outcome::Deferred { .. }) => 'd',
            Some(Outcome::Refused { .. }) => 'r',
            Some(Outcome::Unknown { .. }) => '?',
        }
    }

    #[test]
    fn every_reply_in_every_phase_has_one_meaning() {
        let codes = [220, 235, 250, 251, 334, 354, 421, 450, 452, 535, 550, 571, 599];
        let table = [
            (Phase::Connect, "ooooooooooooo"),
            (Phase::Greeting, ">oooooooooooo"),
            (Phase::Hello, "oo>oooooooooo"),
            (Phase::StartTls, ">oooooooooooo"),
            (Phase::Auth, ">>>>ooooooooo"),
            (Phase::MailFrom, ">>>>ooooooooo"),
            (Phase::RcptTo, ">>>>oodddrrrr"),
            (Phase::Data, "ooooo>dddrrrr"),
            (Phase::Body, "??????dddrrrr"),
            (Phase::Dot, "++++??dddrrrr"),
            (Phase::File, "ooooooooooooo"),
        ];
        for (phase, marks) in table {
            let found: String = codes.iter().map(|&code| mark(phase, code)).collect();
            assert_eq!(found, marks, "{}", phase.as_str());
        }
    }

    #[test]
    fn silence_is_unknown_only_once_the_body_flows() {
        for phase in [Phase::Connect, Phase::Auth, Phase::RcptTo, Phase::Data] {
            assert!(matches!(no_reply(phase, String::new()), Outcome::Deferred { ours: true, .. }));
        }
        for phase in [Phase::Body, Phase::Dot] {
            assert!(matches!(no_reply(phase, String::new()), Outcome::Unknown { .. }));
        }
    }
}
