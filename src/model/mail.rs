//! A letter on its way to becoming bytes.

use chrono::{DateTime, FixedOffset};
use serde::{Deserialize, Serialize};

use super::printable::is_bidi_control;
use super::{EmailAddress, Language, ParseError};

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

/// A name as a header can hold it: one line of at most [`NAME_MAX`] characters, which no mail program decodes, obeys or
/// turns around.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DisplayName(String);

/// In characters: without a blank, a line of a message has room for no more than some hundreds.
const NAME_MAX: usize = 200;

impl DisplayName {
    /// # Errors
    /// When the text is empty or longer than [`NAME_MAX`], or holds control characters, marks that turn the direction of
    /// reading, or `=?`, with which encoded words begin (RFC 2047).
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        const WANTED: &str = "a name of 1 to 200 characters in one line that a mail can carry: without `=?`, and without \
                              marks that turn the direction of reading";
        let text = text.trim();
        let fits = !text.is_empty() && text.chars().count() <= NAME_MAX && !text.contains(ENCODED_WORD);
        if fits && !text.chars().any(misleads) { Ok(Self(text.to_owned())) } else { Err(ParseError::new(text, WANTED)) }
    }

    /// What is left of a text that somebody else wrote: white space becomes one blank, what misleads is left out, `=?` is
    /// taken apart, and what is too long is cut. None when nothing is left.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let spaced: String = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
        let shown: String = spaced.chars().filter(|c| !misleads(*c)).collect();
        let line =
            without_encoded_words(&shown.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "));
        let name = match line.char_indices().nth(NAME_MAX) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None => line,
        };
        (!name.is_empty()).then_some(Self(name))
    }

    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for DisplayName {
    type Error = ParseError;
    fn try_from(text: String) -> Result<Self, ParseError> {
        Self::of(&text).ok_or_else(|| ParseError::new(&text, "a name"))
    }
}

impl From<DisplayName> for String {
    fn from(name: DisplayName) -> String {
        name.0
    }
}

const ENCODED_WORD: &str = "=?";

/// The text with every `=?` taken apart: mail programs decode what begins so in a header (RFC 2047).
#[must_use]
pub fn without_encoded_words(text: &str) -> String {
    text.replace(ENCODED_WORD, "= ?")
}

/// Whether a character acts on whoever reads the line, instead of being read.
#[must_use]
pub fn misleads(c: char) -> bool {
    c.is_control() || is_bidi_control(c) || matches!(c, '\u{2028}' | '\u{2029}')
}

/// A name and an address, for a header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mailbox {
    pub name: Option<DisplayName>,
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
