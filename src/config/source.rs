//! The texts a configuration is read from, and how a place in them is shown.

use super::findings::Place;

/// Which of the readers a text belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// How the daemon runs. Several texts are merged in their order, later ones winning key by key.
    Service,
    /// Whom it writes to and when.
    Policy,
    /// For whom it writes.
    Creditors,
    /// The working days of a country, under the name of its file.
    Calendar,
}

/// One text of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Which reader it belongs to.
    pub part: Part,
    /// The file as findings name it, such as `config/policy.toml`.
    pub name: String,
    /// Its content.
    pub text: String,
}

/// The creditors of the sample.
pub(super) const SHIPPED_CREDITORS: &str = include_str!("../../config/creditors.toml");

macro_rules! calendars {
    ($($name:literal),* $(,)?) => {
        &[$((concat!("calendars/", $name), include_str!(concat!("../../config/calendars/", $name)))),*]
    };
}

/// The calendars of this version.
const SHIPPED_CALENDARS: &[(&str, &str)] =
    calendars!["de.csv", "gb-eng.csv", "gb-nir.csv", "gb-sct.csv", "ie.csv", "it.csv", "pl.csv", "ru.csv"];

impl Source {
    /// A text of that part under that name.
    pub fn new(part: Part, name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { part, name: name.into(), text: text.into() }
    }

    /// The configuration this version ships: a trial set that writes mails into files.
    #[must_use]
    pub fn shipped() -> Vec<Self> {
        let mut sources = vec![
            Self::new(Part::Service, "dunningd.toml", include_str!("../../config/dunningd.toml")),
            Self::new(Part::Policy, "policy.toml", include_str!("../../config/policy.toml")),
            Self::new(Part::Creditors, "creditors.toml", SHIPPED_CREDITORS),
        ];
        sources.extend(Self::shipped_calendars());
        sources
    }

    /// The calendars this version ships.
    pub(super) fn shipped_calendars() -> impl Iterator<Item = Self> {
        SHIPPED_CALENDARS.iter().map(|(name, text)| Self::new(Part::Calendar, *name, *text))
    }

    /// The line, from 1, in which that byte stands.
    pub(super) fn line_at(&self, byte: usize) -> usize {
        self.before(byte).matches('\n').count() + 1
    }

    /// The name without its folders, with a line: `policy.toml:12`.
    pub(super) fn location(&self, byte: usize) -> String {
        format!("{}:{}", self.file_name(), self.line_at(byte))
    }

    /// The name without its folders.
    pub(super) fn file_name(&self) -> &str {
        self.name.rsplit(['/', '\\']).next().unwrap_or(&self.name)
    }

    /// The stretch from `start` to `end` (bytes), cut at the end of its first line.
    pub(super) fn place(&self, start: usize, end: usize) -> Place {
        let line = self.line_at(start);
        let before = self.before(start);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let raw = self.text.get(line_start..).unwrap_or_default().lines().next().unwrap_or_default();
        let source = self.masked(line_start, raw);

        let column = before.get(line_start..).unwrap_or_default().chars().count();
        let covered = self.text.get(start..end).unwrap_or_default().lines().next().unwrap_or_default();
        let shown = source.chars().count();
        // Masking may have shortened the line: the caret then stands at its end.
        let column = column.min(shown);
        let width = covered.chars().count().min(shown - column).max(1);
        Place::Line { file: self.name.clone(), line, column: column + 1, source, width }
    }

    fn before(&self, byte: usize) -> &str {
        let mut end = byte.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        &self.text[..end]
    }

    /// The line with whatever looks like a secret replaced. Judged by the letters alone, because the line may belong
    /// to a text that is not TOML at all.
    fn masked(&self, line_start: usize, line: &str) -> String {
        // A secret over several lines: whatever follows it in its section may be a part of it.
        let opens = |earlier: &str| ["\"\"\"", "'''"].iter().any(|quotes| earlier.matches(quotes).count() == 1);
        let section = self.text[..line_start].lines().rev().take_while(|earlier| !earlier.starts_with('['));
        if section.into_iter().any(|earlier| opens(earlier) && secret_value_at(earlier).is_some()) {
            return "***".to_owned();
        }
        let shown = match secret_value_at(line) {
            Some(at) => format!("{} ***", &line[..at]),
            None => line.to_owned(),
        };
        mask_url(&shown)
    }
}

/// Words in a key whose value is never shown.
const SECRET_WORDS: [&str; 6] = ["password", "passwd", "passphrase", "secret", "token", "pwd"];

/// Whether a key of that name would hold a secret itself, not the place of one.
pub(super) fn names_a_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    let says_where = key.ends_with("_file") || key.ends_with("_credential");
    !says_where && SECRET_WORDS.iter().any(|word| key.contains(word))
}

/// Where a value begins (in bytes) whose key names a secret: after the `=`, or after a first word that is not followed
/// by one (`password: …` is no TOML, and no less secret).
fn secret_value_at(line: &str) -> Option<usize> {
    let first = line.trim_start();
    let word = &first[..first.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(first.len())];
    if names_a_secret(word) {
        let after = line.len() - first.len() + word.len();
        let sign = line[after..].trim_start();
        return Some(if sign.starts_with(['=', ':']) { line.len() - sign.len() + 1 } else { after });
    }
    line.match_indices('=').map(|(at, _)| at).find_map(|at| {
        let key = line[..at].trim_end().trim_end_matches(['"', '\'']);
        let start = key.rfind(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-')).map_or(0, |dot| dot + 1);
        names_a_secret(key.get(start..).unwrap_or(key)).then_some(at + 1)
    })
}

/// `scheme://user:***@host`: the password of a URL is what stands between the colon and the last `@`; also where the
/// scheme was mistyped.
fn mask_url(line: &str) -> String {
    let authority = line.find("://").map_or(0, |at| at + 3);
    let Some(at) = line[authority..].rfind('@').map(|at| authority + at) else { return line.to_owned() };
    // Without a scheme it may be no URL at all, but words about an address.
    let is_secret = |colon: &usize| {
        authority > 0 || !line[authority + colon..at].contains(' ') && !line[..*colon].ends_with("mailto")
    };
    match line[authority..at].find(':').filter(is_secret) {
        Some(colon) => format!("{}:***{}", &line[..authority + colon], &line[at..]),
        None => line.to_owned(),
    }
}
