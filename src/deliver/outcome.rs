//! What a reply, or the lack of one, means for a message.

use crate::model::{EnhancedStatus, Fault, Outcome, Phase, Reply};

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
        Self { phase, detail: answered(&reply), reply: Some(reply) }
    }

    /// The relay refused user name and password for good (RFC 4954 §6): trying again may lock them.
    #[must_use]
    pub fn credentials_refused(&self) -> bool {
        self.phase == Phase::Auth && self.reply.as_ref().is_some_and(|reply| reply.code / 100 == 5)
    }
}

impl From<DeliveryError> for Outcome {
    fn from(error: DeliveryError) -> Self {
        let fault = if error.credentials_refused() { Fault::Login } else { Fault::Relay };
        Self::Deferred { phase: error.phase, reply: error.reply, detail: error.detail, fault }
    }
}

fn answered(reply: &Reply) -> String {
    format!("the relay answered {}", reply.code)
}

/// What that reply in that phase means; `None` when the conversation goes on (RFC 5321 §4.2.1, §4.3.2).
///
/// Only a 2xx to the final dot is `Accepted`. Once body bytes flow, a reply that is neither 2xx, 4xx nor 5xx, or a 2xx
/// before the dot was written ([`Phase::Body`]), leaves the end `Unknown`; earlier it is merely a relay out of order.
/// What is our own fault is never `Refused`, whatever the code: the next notice would fare no better.
#[must_use]
pub fn classify(phase: Phase, reply: &Reply) -> Option<Outcome> {
    match (phase, reply.code) {
        (Phase::Greeting | Phase::StartTls, 220)
        | (Phase::Hello, 250)
        | (Phase::Auth | Phase::MailFrom | Phase::RcptTo, 200..=299)
        | (Phase::Data, 354) => return None,
        (Phase::Dot, 200..=299) => return Some(Outcome::Accepted { reply: reply.clone() }),
        (Phase::Body | Phase::Dot, code) if !(400..=599).contains(&code) => {
            let detail = format!("the relay answered {code}, which means nothing here");
            return Some(Outcome::Unknown { phase, detail });
        }
        _ => {}
    }
    let fault = fault(phase, reply);
    let (reply, detail) = (Some(reply.clone()), answered(reply));
    let for_good = reply.as_ref().is_some_and(|reply| reply.code >= 500);
    Some(if for_good && !fault.is_ours() {
        Outcome::Refused { phase, reply, detail, fault }
    } else {
        Outcome::Deferred { phase, reply, detail, fault }
    })
}

/// At whom a negative reply points. Questions in order: is it the relay as a whole, is it us, is it the message, and
/// else it is what the phase is about.
fn fault(phase: Phase, reply: &Reply) -> Fault {
    let status = reply.status();
    let content_flowed = matches!(phase, Phase::Body | Phase::Dot);
    match phase {
        Phase::Auth if reply.code >= 500 => return Fault::Login,
        Phase::Connect | Phase::Greeting | Phase::Hello | Phase::StartTls | Phase::Auth | Phase::File => {
            return Fault::Relay;
        }
        Phase::MailFrom | Phase::RcptTo | Phase::Data | Phase::Body | Phase::Dot => {}
    }
    // One that answers what means nothing here.
    if reply.code < 400 {
        return Fault::Relay;
    }
    // A relay that hangs up (RFC 5321 §3.8). After the dot it may be the message that makes it do so.
    if reply.code == 421 && phase != Phase::Dot {
        return Fault::Relay;
    }
    // RFC 4954 §6 and RFC 3207 §4, in whatever phase: we did not log in, or not well enough.
    if matches!(reply.code, 530 | 534 | 535 | 538) || status.is_some_and(is_about_login) {
        return Fault::Login;
    }
    if status.is_some_and(is_about_size) {
        return Fault::Content;
    }
    if is_about_the_relay(reply, status) {
        return Fault::Relay;
    }
    if phase == Phase::MailFrom || status.is_some_and(is_about_sender) || !content_flowed && names_the_sender(reply) {
        return Fault::Sender;
    }
    match status {
        Some(EnhancedStatus { subject: 1 | 2, .. }) => Fault::Recipient,
        _ if content_flowed => Fault::Content,
        _ => Fault::Recipient,
    }
}

/// RFC 3463 §3.8, RFC 4954 §6: credentials are invalid, too weak, expired or disabled.
fn is_about_login(status: EnhancedStatus) -> bool {
    status.subject == 7 && matches!(status.detail, 8 | 9 | 11 | 13 | 14)
}

/// RFC 3463 §3.4: the message is too big for the system. Its being too big for the mailbox, 5.2.3, is the recipient's.
fn is_about_size(status: EnhancedStatus) -> bool {
    (status.class, status.subject, status.detail) == (5, 3, 4)
}

/// Disk full, not accepting, wrongly set up (RFC 3463 §3.4), or a dispute about the protocol itself. `5.3.0` is what
/// some relays say of an unknown user, and so is `550 5.5.0`.
fn is_about_the_relay(reply: &Reply, status: Option<EnhancedStatus>) -> bool {
    match status {
        Some(
            EnhancedStatus { class: 4, subject: 3, .. } | EnhancedStatus { class: 5, subject: 3, detail: 1 | 2 | 5 },
        ) => true,
        Some(_) => matches!(reply.code, 500 | 502 | 503 | 504 | 555),
        None => matches!(reply.code, 452 | 500 | 502 | 503 | 504 | 555),
    }
}

/// The sender's address (RFC 3463 §3.2, RFC 7505 §4.2), what vouches for it (RFC 7372), how much it sends, and what large
/// providers say of whoever connects: no right to send as it, not authenticated, a banned address or tenant. Three of
/// their codes for access that is denied are about the recipient.
fn is_about_sender(status: EnhancedStatus) -> bool {
    match status.subject {
        1 => matches!(status.detail, 7 | 8 | 90),
        4 => status.detail == 5,
        7 => matches!(status.detail, 20..=27 | 60 | 500..=503 | 506 | 508..=511 | 513..=799),
        _ => false,
    }
}

/// What relays say before the text, under `5.7.1` or no status at all, of who may not send by them.
const ABOUT_SENDER: [&str; 21] = [
    "sender address",
    "relay access denied",
    "relaying denied",
    "relay not permitted",
    "unable to relay",
    "client host",
    "blocked using",
    "blocklist",
    "block list",
    "blacklist",
    "black list",
    "spamhaus",
    "banned",
    "sender quota",
    "sending quota",
    "quota of sender",
    "sending limit",
    "rate limit",
    "limit exceeded",
    "exceeded threshold",
    "administrative prohibition",
];

/// Words beside which it is the mailbox that has a limit or a ban.
const ABOUT_MAILBOX: [&str; 5] = ["mailbox", "storage", "size limit", "recipient limit", "banned recipient"];

/// Many relays keep what they have against the sender until RCPT and say it under `5.7.1` or no status at all, which
/// may as well be about the recipient. Their words tell, and doubt is decided against ourselves: nobody is given up
/// because our own right to relay has lapsed.
fn names_the_sender(reply: &Reply) -> bool {
    let text = reply.text.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|words| text.contains(words));
    let by_words = reply.status().is_none_or(|status| status.subject == 7);
    // An account that is suspended may be the one that does not receive any more.
    let suspended = says(&["suspended"]) && says(&["sending", "sender", "outgoing", "your account"]);
    by_words && !says(&ABOUT_MAILBOX) && (says(&ABOUT_SENDER) || suspended)
}

/// Whether a refusal before the text says that the mailbox or its domain is not there or does not receive. Another one may
/// as well be about us.
#[must_use]
pub fn names_the_recipient(reply: &Reply) -> bool {
    let text = reply.text.to_ascii_lowercase();
    let words = [
        "user unknown",
        "unknown user",
        "no such user",
        "no such recipient",
        "no such mailbox",
        "user not found",
        "recipient not found",
        "mailbox not found",
        "mailbox unavailable",
        "does not exist",
        "doesn't exist",
        "unknown recipient",
        "recipient unknown",
        "unrouteable address",
        "mailbox full",
        "over quota",
    ];
    reply.status().is_some_and(|status| matches!(status.subject, 1 | 2))
        || words.iter().any(|words| text.contains(words))
}

/// What it means that no reply came.
pub(super) fn no_reply(phase: Phase, detail: String) -> Outcome {
    match phase {
        Phase::Body | Phase::Dot => Outcome::Unknown { phase, detail },
        _ => Outcome::Deferred { phase, reply: None, detail, fault: Fault::Relay },
    }
}

/// Whether the same connection may be used after that reply: not after 421 (RFC 5321 §3.8), not after nonsense.
pub(super) fn goes_on_after(reply: &Reply) -> bool {
    matches!(reply.code, 200..=299 | 400..=599) && reply.code != 421
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+` accepted, `>` goes on, `?` unknown; otherwise whose fault it is: `o` the relay, `l` login, `s` sender, `r`
    /// recipient, `c` content, as a capital when it is refused for good.
    fn mark(phase: Phase, code: u16, text: &str) -> char {
        let (fault, for_good) = match classify(phase, &Reply { code, text: text.into() }) {
            None => return '>',
            Some(Outcome::Accepted { .. }) => return '+',
            Some(Outcome::Unknown { .. }) => return '?',
            Some(Outcome::Deferred { fault, .. }) => (fault, false),
            Some(Outcome::Refused { fault, .. }) => (fault, true),
        };
        let mark = match fault {
            Fault::Relay => 'o',
            Fault::Login => 'l',
            Fault::Sender => 's',
            Fault::Recipient => 'r',
            Fault::Content => 'c',
            Fault::Machine => 'm',
        };
        if for_good { mark.to_ascii_uppercase() } else { mark }
    }

    #[test]
    fn every_reply_in_every_phase_has_one_meaning() {
        let codes = [220, 235, 250, 251, 334, 354, 421, 450, 451, 452, 503, 530, 535, 550, 552, 554, 571, 599];
        let table = [
            (Phase::Connect, "oooooooooooooooooo"),
            (Phase::Greeting, ">ooooooooooooooooo"),
            (Phase::Hello, "oo>ooooooooooooooo"),
            (Phase::StartTls, ">ooooooooooooooooo"),
            (Phase::Auth, ">>>>oooooollllllll"),
            (Phase::MailFrom, ">>>>ooossoollsssss"),
            (Phase::RcptTo, ">>>>ooorroollRRRRR"),
            (Phase::Data, "ooooo>orroollRRRRR"),
            (Phase::Body, "??????occoollCCCCC"),
            (Phase::Dot, "++++??cccoollCCCCC"),
            (Phase::File, "oooooooooooooooooo"),
        ];
        for (phase, marks) in table {
            let found: String = codes.iter().map(|&code| mark(phase, code, "")).collect();
            assert_eq!(found, marks, "{}", phase.as_str());
        }
    }

    #[test]
    fn an_enhanced_status_says_whose_fault_it_is() {
        // In the order MAIL, RCPT, DATA, in mid-body, after the dot.
        let phases = [Phase::MailFrom, Phase::RcptTo, Phase::Data, Phase::Body, Phase::Dot];
        let table = [
            (550, "5.1.1 no such user", "sRRRR"),
            (450, "4.1.1 not now", "srrrr"),
            (553, "5.1.3 bad syntax", "sRRRR"),
            (553, "5.1.7 <us>: bad sender", "sssss"),
            (550, "5.1.8 <us>: Sender address rejected: Domain not found", "sssss"),
            (450, "4.1.8 <us>: Sender address rejected: Domain not found", "sssss"),
            (552, "5.2.2 mailbox full", "sRRRR"),
            (452, "4.2.2 mailbox full", "srrrr"),
            (552, "5.2.3 too long for this mailbox", "sRRRR"),
            (553, "5.3.0 no such user here", "sRRCC"),
            (452, "4.3.1 insufficient system storage", "ooooo"),
            (552, "5.3.1 system full", "ooooo"),
            (451, "4.3.0 queue file write error", "ooooo"),
            (450, "4.3.2 not accepting", "ooooo"),
            (554, "5.3.2 not accepting", "ooooo"),
            (552, "5.3.4 too big", "CCCCC"),
            (554, "5.3.5 mail loops back to me", "ooooo"),
            (451, "4.4.3 no answer from the name server", "srrcc"),
            (550, "5.5.0 mailbox unavailable", "sRRCC"),
            (503, "5.5.1 bad sequence", "ooooo"),
            (555, "5.5.4 unsupported option", "ooooo"),
            (554, "5.6.0 not MIME", "sRRCC"),
            (554, "5.6.1 this media is not taken", "sRRCC"),
            (550, "5.7.1 spam", "sRRCC"),
            (451, "4.7.1 greylisted", "srrcc"),
            (554, "5.7.1 <them>: Relay access denied", "sssCC"),
            (550, "5.7.1 Relaying denied", "sssCC"),
            (550, "5.7.54 SMTP; Unable to relay recipient", "sssCC"),
            (553, "5.7.1 <us>: Sender address rejected: not owned by user", "sssCC"),
            (550, "relay not permitted", "sssCC"),
            (550, "5.7.23 SPF", "sssss"),
            (550, "5.7.26 neither SPF nor DKIM", "sssss"),
            (550, "5.7.515 not authenticated to the standard", "sssss"),
            (550, "5.7.60 may not send as this sender", "sssss"),
            (554, "5.7.1 Service unavailable; Client host [203.0.113.9] blocked using zen.spamhaus.org", "sssCC"),
            (554, "5.7.1 <mx.test[203.0.113.9]>: Client host rejected: Access denied", "sssCC"),
            (450, "4.7.1 Client host rejected: cannot find your hostname, [203.0.113.9]", "ssscc"),
            (550, "5.7.1 our IP is on a blacklist", "sssCC"),
            (550, "5.7.511 Access denied, banned sender", "sssss"),
            (550, "5.7.606 Access denied, banned sending IP [203.0.113.9]", "sssss"),
            (550, "5.7.705 Access denied, tenant has exceeded threshold", "sssss"),
            (451, "4.7.650 the mail server has been temporarily rate limited", "sssss"),
            (550, "5.7.505 Access denied, banned recipient", "sRRCC"),
            (550, "5.4.5 Daily user sending limit exceeded", "sssss"),
            (550, "5.1.90 you have reached your daily limit for message recipients", "sssss"),
            (554, "5.7.1 Sender rate limit exceeded", "sssCC"),
            (550, "5.7.0 the sending account is suspended", "sssCC"),
            (550, "Your account has been suspended", "sssCC"),
            (550, "Administrative prohibition", "sssCC"),
            (550, "sending quota reached, try tomorrow", "sssCC"),
            (552, "5.2.2 mailbox over quota", "sRRRR"),
            (452, "4.2.2 mailbox size limit exceeded", "srrrr"),
            (550, "mailbox size limit exceeded", "sRRCC"),
            (550, "storage limit exceeded", "sRRCC"),
            (550, "5.2.1 this account is suspended", "sRRRR"),
            (550, "5.7.1 <them>: account suspended", "sRRCC"),
            (530, "5.7.0 must issue STARTTLS first", "lllll"),
            (550, "5.7.8 who are you?", "lllll"),
            (525, "5.7.13 account disabled", "lllll"),
            (421, "4.7.0 try again later, closing", "ooooc"),
        ];
        for (code, text, marks) in table {
            let found: String = phases.iter().map(|&phase| mark(phase, code, text)).collect();
            assert_eq!(found, marks, "{code} {text}");
        }
    }

    #[test]
    fn a_refusal_names_the_recipient_by_its_status_or_its_words_or_may_be_about_us() {
        let table = [
            ("5.1.1 <them>: Recipient address rejected", true),
            ("5.2.1 disabled", true),
            ("User unknown", true),
            ("5.7.1 <them>: user unknown", true),
            ("552 mailbox over quota", true),
            ("5.7.1 refused by policy", false),
            ("go away", false),
        ];
        for (text, expected) in table {
            assert_eq!(names_the_recipient(&Reply { code: 550, text: text.into() }), expected, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_reply_whatever_makes_our_own_fault_final_or_an_acceptance_of_anything_but_the_dot(
            phase in 0..11_usize, code in 200..600_u16, status in "([245]\\.[0-7]\\.[0-9]{1,2} )?[a-zA-Z ]{0,30}",
        ) {
            let phase = [
                Phase::Connect, Phase::Greeting, Phase::Hello, Phase::StartTls, Phase::Auth, Phase::MailFrom,
                Phase::RcptTo, Phase::Data, Phase::Body, Phase::Dot, Phase::File,
            ][phase];
            match classify(phase, &Reply { code, text: status }) {
                Some(Outcome::Accepted { .. }) => proptest::prop_assert!(phase == Phase::Dot && code / 100 == 2),
                Some(Outcome::Refused { fault, .. }) => proptest::prop_assert!(!fault.is_ours() && code / 100 == 5),
                Some(Outcome::Unknown { .. }) => proptest::prop_assert!(code < 400),
                Some(Outcome::Deferred { fault, .. }) => proptest::prop_assert!(fault.is_ours() || code < 500),
                None => proptest::prop_assert!(code < 400),
            }
        }
    }

    #[test]
    fn silence_is_unknown_only_once_the_body_flows() {
        for phase in [Phase::Connect, Phase::Auth, Phase::RcptTo, Phase::Data] {
            assert!(matches!(no_reply(phase, String::new()), Outcome::Deferred { fault: Fault::Relay, .. }));
        }
        for phase in [Phase::Body, Phase::Dot] {
            assert!(matches!(no_reply(phase, String::new()), Outcome::Unknown { .. }));
        }
    }
}
