//! Import profiles: how one kind of CSV file maps onto the ledger contract. A profile that exists is valid.

mod parse;
mod source;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;

pub(super) use source::{Lookup, Source, Template};

use super::contract::Column;
use crate::files;

/// A valid profile.
#[derive(Debug, Clone)]
pub struct Profile {
    /// The file name without `.toml`; also the source in `ledger.freshness`.
    pub name: String,
    pub(super) file: FileFormat,
    pub(super) scope: Scope,
    pub(super) when_rows_disagree: WhenRowsDisagree,
    pub(super) payments_as_of: Option<Template>,
    pub(super) account: Vec<Mapped>,
    /// Empty when the file knows no contacts.
    pub(super) contact: Vec<Mapped>,
    pub(super) item: Vec<Mapped>,
    /// By the column whose values are looked up.
    pub(super) lookups: BTreeMap<String, Lookup>,
}

/// What the file looks like.
#[derive(Debug, Clone)]
pub(super) struct FileFormat {
    pub(super) delimiter: u8,
    pub(super) encoding: Encoding,
    pub(super) values: ValueFormat,
    /// The columns of a file without a header row.
    pub(super) columns: Option<Vec<String>>,
    /// Columns that the file may lack.
    pub(super) optional_columns: Vec<String>,
}

/// How amounts and dates are written.
#[derive(Debug, Clone)]
pub(super) struct ValueFormat {
    pub(super) decimal: char,
    pub(super) thousands: Option<char>,
    pub(super) date_format: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Utf8,
    Cp1250,
    Cp1251,
}

/// What a file says about the items that it does not contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Every open item: one that is absent is no longer open.
    FullOpenItems,
    /// Every item there ever was: one that is absent is strange, and is reported.
    FullHistory,
    /// What changed: absent items say nothing.
    Delta,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 3] = [Self::FullOpenItems, Self::FullHistory, Self::Delta];

    /// The one text form.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FullOpenItems => "full_open_items",
            Self::FullHistory => "full_history",
            Self::Delta => "delta",
        }
    }

    /// The scope of that text form, if there is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

/// What happens when two rows of one account (or contact) say different things about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WhenRowsDisagree {
    Reject,
    KeepFirst,
}

/// Where one field of the contract gets its value from.
#[derive(Debug, Clone)]
pub(super) struct Mapped {
    pub(super) column: &'static Column,
    pub(super) source: Source,
}

/// One thing that is wrong with a profile, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The profile's file, as it was given.
    pub file: String,
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    pub message: String,
    /// What to do, such as `did you mean "delimiter"?`.
    pub hint: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        self.hint.iter().try_for_each(|hint| write!(f, "; {hint}"))
    }
}

/// Everything that is wrong with a profile; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
pub struct ProfileError {
    pub findings: Vec<Finding>,
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, finding) in self.findings.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{finding}")?;
        }
        Ok(())
    }
}

/// The profiles that come with the program: file name and text.
pub const SHIPPED_PROFILES: [(&str, &str); 2] = [
    ("generic.toml", include_str!("../../config/profiles/generic.toml")),
    ("accounts_receivable_sample.toml", include_str!("../../config/profiles/accounts_receivable_sample.toml")),
];

impl Profile {
    /// Reads a profile; its name is the file's.
    ///
    /// # Errors
    /// When the file cannot be read (a finding at 1:1), or is not a valid profile: all findings at once.
    pub fn load(path: &Path) -> Result<Self, ProfileError> {
        let file = path.display().to_string();
        let text = files::text(path).map_err(|error| ProfileError {
            findings: vec![Finding {
                file: file.clone(),
                line: 1,
                column: 1,
                message: format!("cannot be read: {error}"),
                hint: None,
            }],
        })?;
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        Self::parse(&name, &file, &text)
    }

    /// Reads a profile from its text; `file` is what findings call it.
    ///
    /// # Errors
    /// When it is not a valid profile: all findings at once.
    pub fn parse(name: &str, file: &str, text: &str) -> Result<Self, ProfileError> {
        parse::profile(name, file, text)
    }

    /// The file's column to name when a field such as `item.item_id` is wrong; the field itself when no column is
    /// behind it.
    pub(super) fn blamed_column<'f>(&'f self, field: &'f str) -> &'f str {
        let (relation, name) = field.split_once('.').unwrap_or(("item", field));
        let fields = match relation {
            "account" => &self.account,
            "contact" => &self.contact,
            _ => &self.item,
        };
        let mapped = fields.iter().find(|mapped| mapped.column.name == name);
        mapped.and_then(|mapped| mapped.source.blamed_column()).unwrap_or(field)
    }
}

/// What an empty or unmapped value means, where its absence has one obvious meaning.
pub(super) fn default_of(column: &Column) -> Option<&'static str> {
    ["is_primary", "no_email"].contains(&column.name).then_some("false")
}

/// The candidate that was probably meant, if one is close.
pub(super) fn did_you_mean<'c>(wrong: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let fold = |text: &str| text.to_lowercase().replace([' ', '_', '-'], "");
    let wrong = fold(wrong);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&wrong, &fold(candidate)), candidate))
        .filter(|(distance, _)| *distance <= (wrong.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
