//! Names of things. Each is parsed once; a value that exists is valid.

use std::borrow::Borrow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a text is not the thing it should be. Says what was read and what is wanted; never panics.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not {wanted}")]
pub struct ParseError {
    /// What was read.
    pub value: String,
    /// What it should have been, with an article: "an ISO 4217 currency code such as EUR".
    pub wanted: &'static str,
}

impl ParseError {
    pub(crate) fn new(value: &str, wanted: &'static str) -> Self {
        Self { value: value.chars().take(80).collect(), wanted }
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $wanted:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// # Errors
            /// When the text is empty, longer than 200 characters or holds control characters.
            pub fn parse(text: &str) -> Result<Self, ParseError> {
                if text.is_empty() || text.chars().count() > 200 || text.chars().any(char::is_control) {
                    return Err(ParseError::new(text, $wanted));
                }
                Ok(Self(text.to_owned()))
            }

            /// The text form.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        // It is compared and hashed as its text is.
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseError;
            fn try_from(text: String) -> Result<Self, ParseError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = ParseError;
            fn from_str(text: &str) -> Result<Self, ParseError> {
                Self::parse(text)
            }
        }
    };
}

text_id!(
    /// A debtor of one creditor, as the ledger names it.
    AccountId,
    "an account id (1 to 200 printable characters)"
);
text_id!(
    /// One of our legal entities, as `creditors.toml` names it.
    CreditorId,
    "a creditor id (1 to 200 printable characters)"
);
text_id!(
    /// One due date of one document, as the ledger names it.
    ItemId,
    "an item id (1 to 200 printable characters)"
);
text_id!(
    /// One person or mailbox at a debtor, as the ledger names it.
    ContactId,
    "a contact id (1 to 200 printable characters)"
);

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident, $wanted:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// # Errors
            /// When the text is not 1 to 40 of `a-z`, `0-9` and `_`, beginning with a letter.
            pub fn parse(text: &str) -> Result<Self, ParseError> {
                let fits = text.len() <= 40
                    && text.starts_with(|c: char| c.is_ascii_lowercase())
                    && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
                if fits { Ok(Self(text.to_owned())) } else { Err(ParseError::new(text, $wanted)) }
            }

            /// The text form.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseError;
            fn try_from(text: String) -> Result<Self, ParseError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

name_id!(
    /// The name of a stage, such as `friendly`; also the folder of its templates by default.
    StageName,
    "a stage name (a-z, 0-9 and _, beginning with a letter)"
);
name_id!(
    /// The name of a ladder; `default` is the one an account climbs unless the ledger says otherwise.
    LadderName,
    "a ladder name (a-z, 0-9 and _, beginning with a letter)"
);

impl Default for LadderName {
    /// The ladder of every account for which the ledger names none.
    fn default() -> Self {
        Self("default".to_owned())
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub uuid::Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

uuid_id!(
    /// A notice. UUID version 7, made by the shell.
    NoticeId
);
uuid_id!(
    /// A run. UUID version 7, made by the shell.
    RunId
);

/// A country, ISO 3166-1 alpha-2, upper case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Country([u8; 2]);

impl Country {
    pub(crate) const DE: Self = Self(*b"DE");
    pub(crate) const GB: Self = Self(*b"GB");
    pub(crate) const IE: Self = Self(*b"IE");
    pub(crate) const IT: Self = Self(*b"IT");
    pub(crate) const PL: Self = Self(*b"PL");
    pub(crate) const RU: Self = Self(*b"RU");

    /// # Errors
    /// When the text is not two upper-case letters.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        match text.as_bytes() {
            [a, b] if a.is_ascii_uppercase() && b.is_ascii_uppercase() => Ok(Self([*a, *b])),
            _ => Err(ParseError::new(text, "an ISO 3166-1 country code such as IT")),
        }
    }

    /// The two letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("??")
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TryFrom<String> for Country {
    type Error = ParseError;
    fn try_from(text: String) -> Result<Self, ParseError> {
        Self::parse(&text)
    }
}

impl From<Country> for String {
    fn from(country: Country) -> String {
        country.as_str().to_owned()
    }
}

/// A language that letters can be written in. The set is closed: each needs its own filters, words and templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// English (United Kingdom).
    En,
    /// Italian.
    It,
    /// Polish.
    Pl,
    /// Russian.
    Ru,
}

impl Language {
    /// Every language, in the order of their codes.
    pub const ALL: [Self; 4] = [Self::En, Self::It, Self::Pl, Self::Ru];

    /// The primary subtag of a BCP 47 tag decides: `it-CH` is Italian.
    ///
    /// # Errors
    /// When the primary subtag is none of `en`, `it`, `pl`, `ru`.
    pub fn parse(tag: &str) -> Result<Self, ParseError> {
        let primary = tag.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
        Self::ALL
            .into_iter()
            .find(|language| language.code() == primary)
            .ok_or_else(|| ParseError::new(tag, "a language that letters exist in (en, it, pl or ru)"))
    }

    /// The two-letter code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::It => "it",
            Self::Pl => "pl",
            Self::Ru => "ru",
        }
    }

    /// Its name in English.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::En => "English",
            Self::It => "Italian",
            Self::Pl => "Polish",
            Self::Ru => "Russian",
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// One e-mail address that a letter may go to: exactly one mailbox, no display name, no `mailto:`, no placeholder.
/// The domain is kept in A-labels (RFC 5890), lower case; the local part as written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EmailAddress(String);

impl EmailAddress {
    const WANTED: &'static str = "one usable e-mail address such as office@example.com";

    /// # Errors
    /// When the text is not exactly one deliverable mailbox (several addresses, `mailto:`, control characters, a
    /// placeholder such as `none@none`, a domain without a dot, over 254 octets: RFC 5321 §4.5.3.1.3).
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError::new(text, Self::WANTED);
        let text = text.trim();
        let (local, domain) = text.rsplit_once('@').ok_or_else(wrong)?;
        let local_fits = !local.is_empty()
            && local.len() <= 64
            && !local.starts_with('.')
            && !local.ends_with('.')
            && !local.contains("..")
            && local.chars().all(|c| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c));
        let domain = idna::domain_to_ascii_strict(domain).map_err(|_| wrong())?;
        let labels: Vec<&str> = domain.split('.').collect();
        let domain_fits = labels.len() >= 2
            && labels.iter().all(|label| {
                !label.is_empty()
                    && label.len() <= 63
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            })
            && labels.last().is_some_and(|top| top.chars().any(|c| c.is_ascii_alphabetic()));
        let lower = local.to_lowercase();
        let placeholder = ["none", "noemail", "no-email", "no_email", "brak", "n/a", "na", "unknown", "test", "xxx"]
            .contains(&lower.as_str())
            && (labels.first().is_some_and(|l| ["none", "noemail", "brak", "unknown", "xxx", "na"].contains(l))
                || lower == "noemail"
                || lower == "no-email"
                || lower == "no_email"
                || lower == "brak");
        let address = format!("{local}@{domain}");
        if local_fits && domain_fits && !placeholder && address.len() <= 254 { Ok(Self(address)) } else { Err(wrong()) }
    }

    /// The address with its domain in A-labels.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The domain in A-labels, lower case.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, domain)| domain)
    }

    /// Whether a relay must offer SMTPUTF8 (RFC 6531) for it: only a non-ASCII local part needs that.
    #[must_use]
    pub fn needs_smtputf8(&self) -> bool {
        !self.0.is_ascii()
    }

    /// What is compared to see that two accounts share a mailbox. Local parts are compared without case: strictly
    /// they may differ (RFC 5321 §2.4), in practice two such spellings are one person.
    #[must_use]
    pub fn mailbox_key(&self) -> String {
        self.0.to_lowercase()
    }
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for EmailAddress {
    type Error = ParseError;
    fn try_from(text: String) -> Result<Self, ParseError> {
        Self::parse(&text)
    }
}

impl From<EmailAddress> for String {
    fn from(address: EmailAddress) -> String {
        address.0
    }
}
