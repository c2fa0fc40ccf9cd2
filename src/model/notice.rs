//! A notice on its way, and what is known about its end.

use serde::{Deserialize, Serialize};

/// Where a notice stands.
///
/// `planned -> awaiting_approval? -> queued -> claimed -> in_flight -> accepted | deferred | refused | unknown`;
/// `cancelled` from any state before `in_flight`; `bounced`, `delivered` and `replied` are later evidence. A notice that
/// a person performs goes `planned -> with_person -> done | lapsed`.
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
}

/// How one attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// A 2xx after the final dot.
    Accepted { reply: Reply },
    /// The relay or the recipient said "not now" (4xx), or nothing of the message was sent. `ours` when our own side
    /// or the relay as a whole is at fault (connect, TLS, AUTH, sender): such an attempt burns no try.
    Deferred { phase: Phase, reply: Option<Reply>, detail: String, ours: bool },
    /// A 5xx to the recipient, DATA or the message.
    Refused { phase: Phase, reply: Reply },
    /// Body bytes went out and no reply came.
    Unknown { phase: Phase, detail: String },
}

impl Outcome {
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
}
