//! A notice on its way, and what is known about its end.

use serde::{Deserialize, Serialize};

/// Where a notice stands.
///
/// `planned -> awaiting_approval? -> queued -> claimed -> in_flight -> accepted | deferred | refused | unknown`;
/// `cancelled` from any state before `in_flight`; `bounced`, `delivered` and `replied` are later evidence. A notice that
/// a person performs goes `planned -> with_person -> done | lapsed`; a letter that a run took back, `cancelled -> done` when
/// somebody says that it had been posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeState {
    Planned,
    AwaitingApproval,
    Queued,
    Claimed,
    InFlight,
    Accepted,
    /// Not accepted this time; the same bytes are tried again.
    Deferred,
    /// Not accepted, for good.
    Refused,
    /// Nobody knows. Never resent in silence, never counted, never escalated over.
    Unknown,
    Cancelled,
    Bounced,
    Delivered,
    Replied,
    /// A task for a person is open: a call to make, a letter to post, a file to hand over.
    WithPerson,
    /// A person did it.
    Done,
    /// Nobody did it in time: the stage is complete by policy, without a contact.
    Lapsed,
}

impl NoticeState {
    /// Every state.
    pub const ALL: [Self; 16] = [
        Self::Planned,
        Self::AwaitingApproval,
        Self::Queued,
        Self::Claimed,
        Self::InFlight,
        Self::Accepted,
        Self::Deferred,
        Self::Refused,
        Self::Unknown,
        Self::Cancelled,
        Self::Bounced,
        Self::Delivered,
        Self::Replied,
        Self::WithPerson,
        Self::Done,
        Self::Lapsed,
    ];

    /// The one text form, in the database, the log and the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::AwaitingApproval => "awaiting_approval",
            Self::Queued => "queued",
            Self::Claimed => "claimed",
            Self::InFlight => "in_flight",
            Self::Accepted => "accepted",
            Self::Deferred => "deferred",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
            Self::Cancelled => "cancelled",
            Self::Bounced => "bounced",
            Self::Delivered => "delivered",
            Self::Replied => "replied",
            Self::WithPerson => "with_person",
            Self::Done => "done",
            Self::Lapsed => "lapsed",
        }
    }

    /// The state of that text form, if there is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Still on its way: nothing else is sent to the account meanwhile.
    #[must_use]
    pub fn is_pending(self) -> bool {
        matches!(
            self,
            Self::Planned
                | Self::AwaitingApproval
                | Self::Queued
                | Self::Claimed
                | Self::InFlight
                | Self::Deferred
                | Self::WithPerson
        )
    }

    /// It completes the stage of the items it demanded.
    #[must_use]
    pub fn completes_stage(self) -> bool {
        matches!(self, Self::Accepted | Self::Delivered | Self::Replied | Self::Done | Self::Lapsed)
    }

    /// It failed, or nobody knows; a person or the policy has to resolve it before the account goes on.
    #[must_use]
    pub fn needs_resolution(self) -> bool {
        matches!(self, Self::Refused | Self::Unknown | Self::Bounced)
    }
}

/// The step of an SMTP conversation (RFC 5321) in which something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Connect,
    Greeting,
    Hello,
    StartTls,
    Auth,
    MailFrom,
    RcptTo,
    /// DATA up to its 354.
    Data,
    /// The message itself, up to the final dot.
    Body,
    /// Waiting for the reply to the final dot.
    Dot,
    /// Writing the file of the `file` transport.
    File,
}

impl Phase {
    /// The one text form.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Greeting => "greeting",
            Self::Hello => "hello",
            Self::StartTls => "start_tls",
            Self::Auth => "auth",
            Self::MailFrom => "mail_from",
            Self::RcptTo => "rcpt_to",
            Self::Data => "data",
            Self::Body => "body",
            Self::Dot => "dot",
            Self::File => "file",
        }
    }
}

/// What the relay answered, word for word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    pub code: u16,
    /// Lines joined by LF, without the codes: `2.0.0 Ok: queued as 4F2A`.
    pub text: String,
}

impl Reply {
    /// The three digits.
    #[must_use]
    pub fn code_text(&self) -> String {
        self.code.to_string()
    }

    /// The enhanced status code at the head of its first line, if there is one and it does not contradict the reply's
    /// own first digit (RFC 2034 §4).
    #[must_use]
    pub fn status(&self) -> Option<EnhancedStatus> {
        EnhancedStatus::parse(&self.text).filter(|status| u16::from(status.class) == self.code / 100)
    }
}

/// An enhanced status code (RFC 3463): `5.1.1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EnhancedStatus {
    /// 2, 4 or 5.
    pub class: u8,
    /// 1 address, 2 mailbox, 3 mail system, 4 network, 5 protocol, 6 content, 7 security or policy.
    pub subject: u16,
    pub detail: u16,
}

impl EnhancedStatus {
    /// The code that the text begins with.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split([' ', '\n']).next()?.split('.');
        let number = |part: Option<&str>| {
            let digits = part.filter(|part| (1..=3).contains(&part.len()))?;
            if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse::<u16>().ok() } else { None }
        };
        let class = number(parts.next()).filter(|class| matches!(class, 2 | 4 | 5))?;
        let status =
            Self { class: u8::try_from(class).ok()?, subject: number(parts.next())?, detail: number(parts.next())? };
        parts.next().is_none().then_some(status)
    }
}

impl std::fmt::Display for EnhancedStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// At whom a failure points: whom to ask, and whether it may cost the notice a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The relay, or the way to it: every notice would have failed.
    Relay,
    /// Our user name and password, or that we gave none.
    Login,
    /// The address that we send from, or what vouches for it (SPF, DKIM, DMARC, the right to relay).
    Sender,
    /// The recipient's address or mailbox.
    Recipient,
    /// What the message says, how it is written, or how large it is; a policy that it met.
    Content,
    /// Our own machine or database.
    Machine,
}

impl Fault {
    /// The one text form.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Login => "login",
            Self::Sender => "sender",
            Self::Recipient => "recipient",
            Self::Content => "content",
            Self::Machine => "machine",
        }
    }

    /// It is our own side that failed: the notice loses no try by it, and is never refused for it.
    #[must_use]
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Relay | Self::Login | Self::Sender | Self::Machine)
    }
}

/// How one attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// A 2xx after the final dot.
    Accepted { reply: Reply },
    /// The relay or the recipient said "not now" (4xx), nothing of the message was sent, or our own side is at fault,
    /// whatever the code.
    Deferred { phase: Phase, reply: Option<Reply>, detail: String, fault: Fault },
    /// A 5xx about the recipient, DATA or the message; without a reply, what no relay of ours could ever take.
    Refused { phase: Phase, reply: Option<Reply>, detail: String, fault: Fault },
    /// Body bytes went out and no reply came.
    Unknown { phase: Phase, detail: String },
}

impl Outcome {
    /// Whether the relay may have the message.
    #[must_use]
    pub fn may_be_sent(&self) -> bool {
        matches!(self, Self::Accepted { .. } | Self::Unknown { .. })
    }

    /// The state a notice is in after it.
    #[must_use]
    pub fn state(&self) -> NoticeState {
        match self {
            Self::Accepted { .. } => NoticeState::Accepted,
            Self::Deferred { .. } => NoticeState::Deferred,
            Self::Refused { .. } => NoticeState::Refused,
            Self::Unknown { .. } => NoticeState::Unknown,
        }
    }

    /// What the relay answered, if it did.
    #[must_use]
    pub fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Accepted { reply } => Some(reply),
            Self::Deferred { reply, .. } | Self::Refused { reply, .. } => reply.as_ref(),
            Self::Unknown { .. } => None,
        }
    }

    /// Whose fault it was that the message was not accepted.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::Deferred { fault, .. } | Self::Refused { fault, .. } => Some(*fault),
            Self::Accepted { .. } | Self::Unknown { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_stands_at_the_head_of_a_reply_and_agrees_with_its_code() {
        let cases = [
            (550, "5.1.1 <x>: unknown", Some("5.1.1")),
            (550, "5.1.1", Some("5.1.1")),
            (550, "5.7.515 Access denied\n5.7.1 more", Some("5.7.515")),
            (250, "2.0.0\nOk", Some("2.0.0")),
            (550, "4.1.1 contradiction", None),
            (550, "5.1 short", None),
            (550, "5.1.1.1 long", None),
            (550, "5.1.1000 far", None),
            (550, "5.1.+1 no", None),
            (550, "3.1.1 no", None),
            (550, "192.0.2.1 is listed", None),
            (550, "see 5.1.1", None),
            (550, "", None),
        ];
        for (code, text, status) in cases {
            let found = Reply { code, text: text.into() }.status().map(|status| status.to_string());
            assert_eq!(found.as_deref(), status, "{code} {text}");
        }
    }
}
