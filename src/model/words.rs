//! What people say in their own words: bounded, and nothing that a terminal or a log would obey.

use std::fmt;
use std::ops::Deref;

use super::{ParseError, is_unseen};

/// `1 item`, `2 items`.
#[must_use]
pub fn counted<N: fmt::Display + PartialEq + From<u8> + Copy>(count: N, noun: &str) -> String {
    let ending = if count == N::from(1) { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident, at most $most:literal, beside $kept:expr, $wanted:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name(String);

        impl $name {
            /// # Errors
            /// When nothing is said, too much is, or it holds control characters.
            pub fn parse(text: &str) -> Result<Self, ParseError> {
                let kept: &[char] = &$kept;
                let text = text.replace("\r\n", "\n");
                let strange = |c: char| (c.is_control() || is_unseen(c)) && !kept.contains(&c);
                if text.trim().is_empty() || text.chars().count() > $most || text.contains(strange) {
                    return Err(ParseError::new(&text, $wanted));
                }
                Ok(Self(text))
            }
        }

        impl Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(words: $name) -> String {
                words.0
            }
        }
    };
}

words!(
    /// Why a person decided something. It stands in the log for ever, so it is short.
    Reason, at most 2_000, beside [],
    "a reason (one line of 1 to 2,000 characters, none of them unseen: no control characters, no marks of direction)"
);
words!(
    /// What a person wrote down about an account. It is kept apart from the log.
    NoteWords, at most 20_000, beside ['\n', '\t'],
    "a note (1 to 20,000 characters, none of them unseen but line ends and tabs)"
);
words!(
    /// Who or what somebody is called: a person, a collector, a telephone number.
    Called, at most 200, beside [],
    "a name or number (one line of 1 to 200 characters, none of them unseen: no control characters, no marks of direction)"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_as_long_as_their_kind_may_be_and_hold_nothing_strange() {
        for (longest, parses) in [
            (2_000, (|text| Reason::parse(text).is_ok()) as fn(&str) -> bool),
            (20_000, |text| NoteWords::parse(text).is_ok()),
            (200, |text| Called::parse(text).is_ok()),
        ] {
            assert!(parses("complaint 17") && parses(&"ż".repeat(longest)), "{longest}");
            for wrong in ["", "  ", "a\u{1b}[2Jb", "a\u{0}b", "a\u{9b}b", "a\u{202e}b", &"ż".repeat(longest + 1)] {
                assert!(!parses(wrong), "{longest}: {wrong:.20?}");
            }
        }
        assert!(Reason::parse("two\nlines").is_err() && Called::parse("a\tb").is_err());
        assert_eq!(&*NoteWords::parse("two\r\nlines\tof it").unwrap(), "two\nlines\tof it");
    }
}
