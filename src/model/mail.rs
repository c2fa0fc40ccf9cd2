//! A letter on its way to becoming bytes.

use chrono::{DateTime, FixedOffset};
use serde::{Deserialize, Serialize};

use super::{EmailAddress, Language};

/// A file that goes with a letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// ASCII, so that every mail client shows it.
    pub file_name: String,
    /// Such as `text/csv; charset=utf-8`.
    pub content_type: String,
    pub bytes: Vec<u8>,
}

/// What a letter says, in both its forms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rendered {
    pub subject: String,
    /// Complete: every fact of the HTML is in it. Lines end in LF.
    pub text: String,
    /// Empty for a message that is text alone.
    pub html: String,
    pub attachments: Vec<Attachment>,
}

/// A name and an address, for a header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mailbox {
    pub name: Option<String>,
    pub address: EmailAddress,
}

/// Everything besides the content that a message of RFC 5322 needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    pub from: Mailbox,
    pub reply_to: Mailbox,
    pub to: Mailbox,
    /// With its angle brackets.
    pub message_id: String,
    /// Message-IDs of the earlier stages of the same case, oldest first; the last one is answered.
    pub references: Vec<String>,
    pub date: DateTime<FixedOffset>,
    pub language: Language,
}
