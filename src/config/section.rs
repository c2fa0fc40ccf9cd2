//! Reads a tree section by section. A getter never fails: it notes what is wrong and goes on, so that one reading
//! finds everything; a key that no getter asked for is unknown.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use rust_decimal::Decimal;

use super::findings::{Finding, FindingCode};
use super::source::{Source, names_a_secret};
use super::suggest::closest;
use super::tree::{Entry, Node, Origin, Table, VARIABLE_PREFIX, Value};
use crate::model::{Currency, ParseError};

/// More than any amount or rate; one times the other can still be written.
const MOST: i64 = 1_000_000_000_000;

/// Everything noted while reading, with the texts it is about.
pub(super) struct Notes<'a> {
    pub(super) sources: &'a [Source],
    noted: RefCell<Vec<(Origin, Finding)>>,
    /// Set while a part of a document could not be read: then nothing can be called missing.
    incomplete: bool,
}

impl<'a> Notes<'a> {
    /// Nothing noted yet. `incomplete`: a text of this document could not be read, so nothing is called missing.
    pub(super) fn new(sources: &'a [Source], incomplete: bool) -> Self {
        Self { sources, noted: RefCell::default(), incomplete }
    }

    /// Notes a finding about that place.
    pub(super) fn add(&self, code: FindingCode, at: &Origin, message: impl Into<String>) {
        self.add_with(code, at, message, None);
    }

    /// Notes a finding with the word that was probably meant.
    pub(super) fn add_with(
        &self,
        code: FindingCode,
        at: &Origin,
        message: impl Into<String>,
        suggestion: Option<String>,
    ) {
        let finding = Finding { suggestion, ..Finding::new(code, at.place(self.sources), message) };
        self.noted.borrow_mut().push((at.clone(), finding));
    }

    /// Everything noted, in the order of reading.
    pub(super) fn into_findings(self) -> Vec<(Origin, Finding)> {
        self.noted.into_inner()
    }
}

/// A table being read.
pub(super) struct Section<'a> {
    pub(super) notes: &'a Notes<'a>,
    table: &'a Table,
    path: String,
    asked: BTreeSet<&'static str>,
    missing: Vec<(&'static str, &'static str)>,
}

impl<'a> Section<'a> {
    /// The whole document.
    pub(super) fn root(notes: &'a Notes<'a>, table: &'a Table) -> Self {
        Self::at(notes, table, String::new())
    }

    fn at(notes: &'a Notes<'a>, table: &'a Table, path: String) -> Self {
        Self { notes, table, path, asked: BTreeSet::new(), missing: Vec::new() }
    }

    /// Where the section begins.
    pub(super) fn origin(&self) -> &'a Origin {
        &self.table.at
    }

    /// Where each key inside stands, by its dotted name: `minimum.EUR` at `policy.toml:12`. The entries of a list of
    /// sections are numbered from 0; the list itself stands where its first entry does.
    pub(super) fn locations(&self) -> BTreeMap<String, Arc<str>> {
        let mut locations = BTreeMap::new();
        locate(self.table, &self.path, self.notes.sources, &mut locations);
        locations
    }

    /// The value of a key, if it is given.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Field<'a>> {
        self.asked.insert(key);
        let entry = self.table.entries.get(key)?;
        Some(self.field(key, entry))
    }

    /// The value of a key that has no default; `example` is what the finding proposes to add.
    pub(super) fn need(&mut self, key: &'static str, example: &'static str) -> Option<Field<'a>> {
        let field = self.get(key);
        if field.is_none() {
            self.missing.push((key, example));
        }
        field
    }

    /// A whole number within its limits, or the default.
    pub(super) fn number<T: TryFrom<i64>>(&mut self, key: &'static str, limits: RangeInclusive<i64>, default: T) -> T {
        self.get(key).and_then(|field| field.number(limits)).unwrap_or(default)
    }

    /// True, false, or the default.
    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        self.get(key).and_then(|field| field.flag()).unwrap_or(default)
    }

    /// One of several words, or the default.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)], default: T) -> T {
        self.get(key).and_then(|field| field.choice(words)).unwrap_or(default)
    }

    /// A text of one line, if it is given.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        self.get(key).and_then(|field| field.text()).map(str::to_owned)
    }

    /// A section inside this one, if it is given.
    pub(super) fn section(&mut self, key: &'static str) -> Option<Section<'a>> {
        self.get(key).and_then(|field| field.section())
    }

    /// The tables of `[[key]]`, none when it is not given.
    pub(super) fn sections(&mut self, key: &'static str) -> Vec<Section<'a>> {
        let Some(field) = self.get(key) else { return Vec::new() };
        if !matches!(field.node.value, Value::List(_)) {
            field.wrong_type(&format!("a list of sections: write `[[{}]]`", field.path));
            return Vec::new();
        }
        let fields = field.list().unwrap_or_default();
        fields.into_iter().filter_map(|field| field.section()).collect()
    }

    /// Every key nobody asked for yet: of a table whose keys are the operator's, such as currencies.
    pub(super) fn rest(mut self) -> Vec<Field<'a>> {
        self.note_missing(&BTreeSet::new());
        let entries = self.table.entries.iter().filter(|(key, _)| !self.asked.contains(key.as_str()));
        entries.map(|(key, entry)| self.field(key, entry)).collect()
    }

    /// Ends the reading: whatever nobody asked for is unknown.
    pub(super) fn close(self) {
        self.close_with(&[], "");
    }

    /// Ends the reading. The keys in `elsewhere` are known and have no meaning here, for the reason given.
    pub(super) fn close_with(mut self, elsewhere: &[&'static str], reason: &str) {
        let mut meant = BTreeSet::new();
        for (key, entry) in &self.table.entries {
            if self.asked.contains(key.as_str()) {
                continue;
            }
            if elsewhere.contains(&key.as_str()) {
                let message = format!("`{}` has no meaning here: {reason}", self.dotted(key));
                self.notes.add(FindingCode::Conflict, &entry.key_at, message);
            } else if let Some(known) = self.note_unknown(key, entry) {
                meant.insert(known);
            }
        }
        self.note_missing(&meant);
    }

    fn note_unknown(&self, key: &str, entry: &Entry) -> Option<&'static str> {
        let unset = self.asked.iter().copied().filter(|known| !self.table.entries.contains_key(*known));
        let suggestion = closest(key, unset).or_else(|| closest(key, self.asked.iter().copied()));
        let path = self.dotted(key);
        let mut set_by = Vec::new();
        variables_in(entry, &mut set_by);
        if names_a_secret(key) {
            let file_key = format!("{key}_file");
            let known = self.asked.contains(file_key.as_str());
            let there =
                if known { format!(", and name that file in `{}`", self.dotted(&file_key)) } else { String::new() };
            let message = format!(
                "`{path}` would hold a secret, and no secret belongs in the configuration: put it into a file that only \
                 the daemon can read{there}"
            );
            self.notes.add(FindingCode::SecretInline, &entry.key_at, message);
        } else if !matches!(entry.key_at, Origin::Variable { .. }) {
            let message = format!("`{path}` is not a key of this version: correct or remove it");
            self.notes.add_with(FindingCode::UnknownKey, &entry.key_at, message, suggestion.map(str::to_owned));
        }
        for name in set_by.into_iter().filter(|_| !names_a_secret(key)) {
            let message = format!("`{path}` does not exist, so this variable sets nothing: correct or unset it");
            let meant = suggestion.map(|known| self.renamed(name, key, known));
            self.notes.add_with(
                FindingCode::UnknownVariable,
                &Origin::Variable { name: name.to_owned() },
                message,
                meant,
            );
        }
        suggestion
    }

    /// The name of a variable with `key` of this section replaced by `known`.
    fn renamed(&self, variable: &str, key: &str, known: &str) -> String {
        let prefix = |key: &str| format!("{VARIABLE_PREFIX}{}", self.dotted(key).to_uppercase().replace('.', "__"));
        variable.replacen(&prefix(key), &prefix(known), 1)
    }

    /// A missing key whose misspelling was just reported is not reported again.
    fn note_missing(&mut self, meant: &BTreeSet<&str>) {
        for (key, example) in std::mem::take(&mut self.missing) {
            if !self.notes.incomplete && !meant.contains(key) {
                let message = format!("`{}` is missing: add `{key} = {example}`", self.dotted(key));
                self.notes.add(FindingCode::MissingKey, &self.table.at, message);
            }
        }
    }

    fn dotted(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn field(&self, key: &'a str, entry: &'a Entry) -> Field<'a> {
        Field { notes: self.notes, key, path: self.dotted(key), key_at: &entry.key_at, node: &entry.node }
    }
}

/// Every variable that sets something at or below that key.
fn variables_in<'a>(entry: &'a Entry, names: &mut Vec<&'a str>) {
    match (&entry.node.value, &entry.node.at) {
        (Value::Table(inner), _) => inner.entries.values().for_each(|inner| variables_in(inner, names)),
        (_, Origin::Variable { name }) => names.push(name),
        _ => {}
    }
}

fn locate(table: &Table, path: &str, sources: &[Source], locations: &mut BTreeMap<String, Arc<str>>) {
    for (key, entry) in &table.entries {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        locations.insert(path.clone(), entry.key_at.location(sources).into());
        match &entry.node.value {
            Value::Table(inner) => locate(inner, &path, sources, locations),
            Value::List(nodes) => {
                for (n, node) in nodes.iter().enumerate() {
                    if let Value::Table(inner) = &node.value {
                        let path = format!("{path}.{n}");
                        locations.insert(path.clone(), node.at.location(sources).into());
                        locate(inner, &path, sources, locations);
                    }
                }
            }
            _ => {}
        }
    }
}

/// A value being read.
#[derive(Clone)]
pub(super) struct Field<'a> {
    notes: &'a Notes<'a>,
    /// Without the sections around it.
    pub(super) key: &'a str,
    /// Dotted, as messages name it: `mail.timeouts.dot`.
    pub(super) path: String,
    /// Where the key stands.
    pub(super) key_at: &'a Origin,
    node: &'a Node,
}

impl<'a> Field<'a> {
    /// Where the value stands.
    pub(super) fn origin(&self) -> &'a Origin {
        &self.node.at
    }

    /// Notes a finding about the value.
    pub(super) fn note(&self, code: FindingCode, message: impl Into<String>) {
        self.notes.add(code, &self.node.at, message);
    }

    /// Notes a finding about the value with the word that was probably meant.
    pub(super) fn note_with(&self, code: FindingCode, message: impl Into<String>, suggestion: Option<String>) {
        self.notes.add_with(code, &self.node.at, message, suggestion);
    }

    fn wrong_type(&self, wanted: &str) {
        let message = format!("`{}` must be {wanted}, not {}", self.path, self.node.value.type_name());
        self.note(FindingCode::WrongType, message);
    }

    /// A text of one line, not empty.
    pub(super) fn text(&self) -> Option<&'a str> {
        let (Value::Text(text) | Value::Variable(text)) = &self.node.value else {
            self.wrong_type("a text in quotes");
            return None;
        };
        if text.trim().is_empty() || text.chars().any(char::is_control) {
            self.note(FindingCode::InvalidValue, format!("`{}` must be one line of text, not empty", self.path));
            return None;
        }
        Some(text)
    }

    /// A text that a parser of the model accepts; what it says otherwise becomes the finding.
    pub(super) fn parsed<T>(&self, parse: impl FnOnce(&str) -> Result<T, ParseError>) -> Option<T> {
        let text = self.text()?;
        parse(text).map_err(|wrong| self.note(FindingCode::InvalidValue, format!("`{}`: {wrong}", self.path))).ok()
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let known: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            let suggestion = closest(text, words.iter().map(|(word, _)| *word)).map(str::to_owned);
            let message = format!("`{}` must be {}", self.path, one_of(&known));
            self.note_with(FindingCode::UnknownValue, message, suggestion);
        }
        found
    }

    /// A whole number within its limits.
    pub(super) fn number<T: TryFrom<i64>>(&self, limits: RangeInclusive<i64>) -> Option<T> {
        let (digits, radix) = match &self.node.value {
            Value::Integer(digits, radix) => (digits, *radix),
            Value::Variable(text) => (text, 10),
            _ => {
                self.wrong_type("a whole number without quotes");
                return None;
            }
        };
        let number = i64::from_str_radix(digits.trim(), radix).ok();
        let within = number.filter(|number| limits.contains(number)).and_then(|number| T::try_from(number).ok());
        if within.is_none() {
            let (least, most) = (limits.start(), limits.end());
            let message = format!("`{}` must be a whole number from {least} to {most}", self.path);
            self.note(FindingCode::OutOfRange, message);
        }
        within
    }

    /// True or false.
    pub(super) fn flag(&self) -> Option<bool> {
        match &self.node.value {
            Value::Boolean(flag) => Some(*flag),
            Value::Variable(text) if text == "true" => Some(true),
            Value::Variable(text) if text == "false" => Some(false),
            _ => {
                self.wrong_type("true or false, without quotes");
                None
            }
        }
    }

    /// The entries of a list.
    pub(super) fn list(&self) -> Option<Vec<Field<'a>>> {
        let Value::List(nodes) = &self.node.value else {
            self.wrong_type("a list in square brackets");
            return None;
        };
        let field = |node: &'a Node| Field { node, key_at: &node.at, ..self.clone() };
        Some(nodes.iter().map(field).collect())
    }

    /// A section.
    pub(super) fn section(&self) -> Option<Section<'a>> {
        let Value::Table(table) = &self.node.value else {
            self.wrong_type(&format!("a section: write `[{}]`", self.path));
            return None;
        };
        Some(Section::at(self.notes, table, self.path.clone()))
    }

    /// An exact decimal above zero, written as a text.
    pub(super) fn decimal(&self) -> Option<Decimal> {
        if let Value::Integer(written, _) | Value::Float(written) = &self.node.value {
            let message = format!("`{}`: write the number in quotes, so that it stays exact: \"{written}\"", self.path);
            self.note(FindingCode::MoneyNotQuoted, message);
            return None;
        }
        let text = self.text()?;
        let plain = text.chars().all(|c| c.is_ascii_digit() || c == '.' || c == '-');
        let number = Decimal::from_str_exact(text).ok().filter(|number| plain && *number >= Decimal::ZERO);
        if number.is_none() {
            let message = format!(
                "`{}` must be a number of at least 0 in digits with a point and no thousands sign, such as \"1000.00\"",
                self.path
            );
            self.note(FindingCode::InvalidValue, message);
        }
        let within = number.filter(|number| *number <= Decimal::from(MOST));
        if number.is_some() && within.is_none() {
            self.note(FindingCode::OutOfRange, format!("`{}` must be at most {MOST}", self.path));
        }
        within
    }

    /// An amount with no more decimals than its currency has.
    pub(super) fn money(&self, currency: Currency) -> Option<Decimal> {
        let amount = self.decimal()?;
        if amount.normalize().scale() > currency.decimals() {
            let message = format!("`{}` has more decimals than {currency} ({})", self.path, currency.decimals());
            self.note(FindingCode::InvalidValue, message);
            return None;
        }
        Some(amount)
    }

    /// The key read as a currency code.
    pub(super) fn currency_key(&self) -> Option<Currency> {
        const USUAL: [&str; 9] = ["EUR", "GBP", "PLN", "RUB", "USD", "CHF", "CZK", "SEK", "NOK"];
        self.parsed_key(Currency::parse, USUAL)
    }

    /// The key read by a parser of the model; `usual` are the words a slip of the pen is compared with.
    pub(super) fn parsed_key<'c, T>(
        &self,
        parse: impl FnOnce(&str) -> Result<T, ParseError>,
        usual: impl IntoIterator<Item = &'c str>,
    ) -> Option<T> {
        let wrong = match parse(self.key) {
            Ok(parsed) => return Some(parsed),
            Err(wrong) => wrong,
        };
        let suggestion = closest(self.key, usual).map(str::to_owned);
        let message = format!("`{}`: {wrong}", self.path);
        self.notes.add_with(FindingCode::UnknownValue, self.key_at, message, suggestion);
        None
    }
}

/// `"a", "b" or "c"`.
fn one_of(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}
