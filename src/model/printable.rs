//! Text from elsewhere, for a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with control characters and the marks that turn a line around spelled out, as `\u001b`: a terminal would
/// obey them. JSON has the same form, so a document that holds them in its strings says what it said. Those in `kept`
/// are left as they are.
#[must_use]
pub fn printable(text: impl IntoIterator<Item = char>, kept: &[char]) -> String {
    let mut shown = String::new();
    for c in text {
        match c {
            c if kept.contains(&c) => shown.push(c),
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            c if c.is_control() || is_bidi_control(c) => drop(write!(shown, "\\u{:04x}", u32::from(c))),
            c => shown.push(c),
        }
    }
    shown
}

/// The text as one argument of a command that is to be copied: in quotes where a shell would read more into it.
#[must_use]
pub fn as_argument(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:,+@%=".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(format!("'{}'", text.replace('\'', r"'\''")))
    }
}

/// A control character or a mark of writing direction: a letter of ours has no use for one, and a reader cannot see it.
#[must_use]
pub fn is_unseen(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\t') || is_bidi_control(c)
}

/// Unicode's property `Bidi_Control` (UAX #9).
pub(super) fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
