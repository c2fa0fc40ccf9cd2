//! What is wrong with a configuration: every finding at once, each with its place and what to do about it.

use std::fmt;

use serde::Serialize;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $id:literal $name:literal,)*) => {
        /// The kind of a finding. Ids are stable: documents and scripts refer to them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum FindingCode {
            $($(#[$doc])* $variant,)*
        }

        impl FindingCode {
            /// Every kind, in the order of the ids.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable id, such as `C012`.
            #[must_use]
            pub fn id(self) -> &'static str {
                match self {
                    $(Self::$variant => $id,)*
                }
            }

            /// The name in words, such as `unknown_key`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

codes! {
    /// A file that must exist does not.
    FileMissing = "C001" "file_missing",
    /// A file exists and cannot be read, or is not UTF-8.
    FileUnreadable = "C002" "file_unreadable",
    /// The text is not TOML. Nothing else in that file is judged.
    Syntax = "C003" "syntax",
    /// A key or section is written twice in one file.
    DuplicateKey = "C010" "duplicate_key",
    /// A key without a default is not given.
    MissingKey = "C011" "missing_key",
    /// A key that nothing reads.
    UnknownKey = "C012" "unknown_key",
    /// A number where a text is wanted, and the like.
    WrongType = "C013" "wrong_type",
    /// A word that is none of those the key accepts.
    UnknownValue = "C014" "unknown_value",
    /// A number or a date outside its limits.
    OutOfRange = "C015" "out_of_range",
    /// A text that is not what the key wants: an address, a time, a zone.
    InvalidValue = "C016" "invalid_value",
    /// Money or a rate as a bare number, which TOML would read inexactly.
    MoneyNotQuoted = "C017" "money_not_quoted",
    /// An environment variable that sets nothing.
    UnknownVariable = "C018" "unknown_variable",
    /// Two keys that exclude or need each other.
    Conflict = "C019" "conflict",
    /// A secret written into the configuration itself.
    SecretInline = "C020" "secret_inline",
    /// Mail without encryption to another machine.
    PlainOffLoopback = "C021" "plain_off_loopback",
    /// A lease that can end while its holder still waits for the mail server.
    LeaseTooShort = "C022" "lease_too_short",
    /// No ladder `default`, or a ladder in which nothing can happen.
    LadderIncomplete = "C030" "ladder_incomplete",
    /// Stages whose days do not rise.
    DaysNotRising = "C031" "days_not_rising",
    /// Two stages, creditors or list entries of one name.
    DuplicateName = "C032" "duplicate_name",
    /// Something that this version cannot do yet.
    NotInThisVersion = "C033" "not_in_this_version",
    /// A currency with a bank account and neither a minimum nor a rate.
    NoMinimum = "C034" "no_minimum",
    /// A bank account that does not exist: wrong length or check digits.
    InvalidIban = "C035" "invalid_iban",
    /// An address of the shipped sample in a production configuration.
    Placeholder = "C036" "placeholder",
    /// Something that a reload cannot change.
    NeedsRestart = "C037" "needs_restart",
    /// Allowed, and probably not what was meant.
    Doubtful = "C040" "doubtful",
}

/// Whether a finding stops the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration is used.
    Warning,
}

/// Where a finding is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Place {
    /// A stretch of one line of a file.
    Line {
        /// The file as it was named when it was read.
        file: String,
        /// From 1.
        line: usize,
        /// From 1, in characters, not bytes.
        column: usize,
        /// The line itself; whatever looks like a secret is replaced by `***`.
        source: String,
        /// How many characters the finding is about, at least 1.
        width: usize,
    },
    /// A file as a whole.
    File {
        /// The file as it was named when it was read.
        file: String,
    },
    /// An environment variable. Its value is never repeated.
    Variable {
        /// The name of the variable.
        variable: String,
    },
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The stable id of its kind, such as `C012`.
    pub id: &'static str,
    /// The name of its kind, such as `unknown_key`.
    pub name: &'static str,
    /// Whether it stops the daemon.
    pub severity: Severity,
    /// Where it is.
    #[serde(flatten)]
    pub place: Place,
    /// What is wrong and what to do. Never repeats a secret.
    pub message: String,
    /// The word that was probably meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

impl Finding {
    /// An error of that kind.
    pub(super) fn new(code: FindingCode, place: Place, message: impl Into<String>) -> Self {
        Self {
            id: code.id(),
            name: code.name(),
            severity: if code == FindingCode::Doubtful { Severity::Warning } else { Severity::Error },
            place,
            message: message.into(),
            suggestion: None,
        }
    }
}

/// Of a line, a person is shown no more characters than these.
const SHOWN: usize = 160;

/// The part of a line around a place, and how many of its characters are before that.
fn around(line: &str, before: usize) -> (String, usize) {
    let all = line.chars().count();
    let from = if all > SHOWN { before.saturating_sub(SHOWN / 2) } else { 0 };
    let mut shown: String = line.chars().skip(from).take(SHOWN).collect();
    if from > 0 {
        shown.insert(0, '…');
    }
    if from + SHOWN < all {
        shown.push('…');
    }
    (shown, before - from + usize::from(from > 0))
}

impl fmt::Display for Finding {
    /// Several lines, for a person: what, where, the line itself, and a caret under the place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        writeln!(f, "{severity}[{} {}]: {}", self.id, self.name, self.message)?;
        let hint = self.suggestion.as_ref().map(|word| format!("did you mean `{word}`?"));
        match &self.place {
            Place::Line { file, line, column, source, width } => {
                let gutter = " ".repeat(line.to_string().len());
                let (source, before) = around(source, column - 1);
                // Tabs stay tabs, so that the caret stands under its place whatever their width.
                let lead: String = source.chars().take(before).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
                writeln!(f, "{gutter}--> {file}:{line}:{column}")?;
                writeln!(f, "{gutter} |")?;
                writeln!(f, "{line} | {source}")?;
                let width = (*width).min(source.chars().count().saturating_sub(before)).max(1);
                write!(f, "{gutter} | {lead}{}", "^".repeat(width))?;
                hint.map_or(Ok(()), |hint| write!(f, " {hint}"))?;
                writeln!(f)
            }
            Place::File { file } => {
                writeln!(f, " --> {file}")?;
                hint.map_or(Ok(()), |hint| writeln!(f, "     {hint}"))
            }
            Place::Variable { variable } => {
                writeln!(f, " --> environment variable {variable}")?;
                hint.map_or(Ok(()), |hint| writeln!(f, "     {hint}"))
            }
        }
    }
}

/// Every finding of one reading, in the order of the files and their lines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Findings(pub Vec<Finding>);

impl Findings {
    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The findings in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Finding> {
        self.0.iter()
    }

    /// Whether any of them stops the daemon.
    #[must_use]
    pub fn refuses(&self) -> bool {
        self.0.iter().any(|finding| finding.severity == Severity::Error)
    }
}

impl<'a> IntoIterator for &'a Findings {
    type Item = &'a Finding;
    type IntoIter = std::slice::Iter<'a, Finding>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Findings {
    /// The findings for a person, an empty line between two.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, finding) in self.0.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            finding.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Findings {}
