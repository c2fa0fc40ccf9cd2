//! The values of TOML texts and environment variables as one tree, in which every key and value knows its origin.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::findings::{Finding, FindingCode, Place};
use super::source::Source;

/// Where a key or value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// Bytes `start..end` of the text with that index.
    Text { source: usize, start: usize, end: usize },
    /// The text with that index as a whole.
    Whole { source: usize },
    /// The environment variable of that name.
    Variable { name: String },
}

impl Origin {
    /// The place as a finding shows it.
    pub(super) fn place(&self, sources: &[Source]) -> Place {
        let file = |source: usize| sources.get(source).map_or_else(String::new, |s| s.name.clone());
        match self {
            Self::Text { source, start, end } => match sources.get(*source) {
                Some(text) => text.place(*start, *end),
                None => Place::File { file: file(*source) },
            },
            Self::Whole { source } => Place::File { file: file(*source) },
            Self::Variable { name } => Place::Variable { variable: name.clone() },
        }
    }

    /// What findings are sorted by: texts in their order, line by line, then variables by name.
    pub(super) fn order(&self) -> (usize, usize, &str) {
        match self {
            Self::Text { source, start, .. } => (*source, *start, ""),
            Self::Whole { source } => (*source, 0, ""),
            Self::Variable { name } => (usize::MAX, 0, name),
        }
    }

    /// `policy.toml:12`, for explanations.
    pub(super) fn location(&self, sources: &[Source]) -> String {
        match self {
            Self::Text { source, start, .. } => sources.get(*source).map(|s| s.location(*start)).unwrap_or_default(),
            Self::Whole { source } => sources.get(*source).map(|s| s.location(0)).unwrap_or_default(),
            Self::Variable { name } => name.clone(),
        }
    }
}

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) at: Origin,
    pub(super) value: Value,
}

/// A value as TOML or the environment has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    /// Digits and their radix: kept as text until a reader says how large it may be.
    Integer(String, u32),
    /// As written; nothing in this configuration is a float.
    Float(String),
    Boolean(bool),
    Date,
    List(Vec<Node>),
    Table(Table),
    /// An environment variable: a text whose type its reader decides.
    Variable(String),
}

impl Value {
    /// The type with its article, for messages.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Variable(_) => "a text",
            Self::Integer(..) => "a whole number",
            Self::Float(_) => "a decimal number",
            Self::Boolean(_) => "true or false",
            Self::Date => "a date or time",
            Self::List(_) => "a list",
            Self::Table(_) => "a section",
        }
    }
}

/// Keys and their values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) at: Origin,
    pub(super) entries: BTreeMap<String, Entry>,
}

/// One key of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key_at: Origin,
    pub(super) node: Node,
}

impl Table {
    /// A table without keys.
    pub(super) fn empty(at: Origin) -> Self {
        Self { at, entries: BTreeMap::new() }
    }

    /// Takes over every key of `later`: tables key by key, everything else as a whole.
    pub(super) fn merge(&mut self, later: Self) {
        for (key, entry) in later.entries {
            match (self.entries.get_mut(&key).map(|e| &mut e.node.value), entry.node.value) {
                (Some(Value::Table(mine)), Value::Table(theirs)) => mine.merge(theirs),
                (_, value) => {
                    let node = Node { at: entry.node.at, value };
                    self.entries.insert(key, Entry { key_at: entry.key_at, node });
                }
            }
        }
    }
}

/// Reads one text. A syntax error leaves no table: what stands around a slip of the pen cannot be trusted enough to
/// judge it. A key written twice leaves one.
pub(super) fn parse(index: usize, source: &Source) -> (Option<Table>, Vec<(Origin, Finding)>) {
    let (document, errors) = DeTable::parse_recoverable(&source.text);
    let mut sound = true;
    let mut findings = Vec::new();
    for error in errors {
        let span = error.span().unwrap_or_default();
        let at = Origin::Text { source: index, start: span.start, end: span.end };
        let place = source.place(span.start, span.end);
        let finding = if error.message() == "duplicate key" {
            let message = "this key or section is written a second time in this file: keep one of the two";
            Finding::new(FindingCode::DuplicateKey, place, message)
        } else {
            sound = false;
            Finding::new(FindingCode::Syntax, place, format!("this is not valid TOML: {}", error.message()))
        };
        findings.push((at, finding));
    }
    let table = sound.then(|| table(index, Origin::Whole { source: index }, document.into_inner()));
    (table, findings)
}

fn table(index: usize, at: Origin, entries: DeTable<'_>) -> Table {
    let entries = entries
        .into_iter()
        .map(|(key, value)| {
            let span = key.span();
            let key_at = Origin::Text { source: index, start: span.start, end: span.end };
            (key.into_inner().into_owned(), Entry { key_at, node: node(index, value) })
        })
        .collect();
    Table { at, entries }
}

fn node(index: usize, value: Spanned<DeValue<'_>>) -> Node {
    let span = value.span();
    let at = Origin::Text { source: index, start: span.start, end: span.end };
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => Value::Integer(number.as_str().to_owned(), number.radix()),
        DeValue::Float(number) => Value::Float(number.as_str().to_owned()),
        DeValue::Boolean(flag) => Value::Boolean(flag),
        DeValue::Datetime(_) => Value::Date,
        DeValue::Array(items) => Value::List(items.into_iter().map(|item| node(index, item)).collect()),
        DeValue::Table(entries) => Value::Table(table(index, at.clone(), entries)),
    };
    Node { at, value }
}

/// The beginning of every variable that sets a key of the service configuration.
pub(super) const VARIABLE_PREFIX: &str = "DUNNINGD__";

/// The variables `DUNNINGD__SECTION__KEY` as a tree like that of a file; all other variables are left alone.
pub(super) fn variables(env: impl IntoIterator<Item = (String, String)>) -> Vec<Table> {
    let mut ours: Vec<(String, String)> =
        env.into_iter().filter(|(name, _)| name.starts_with(VARIABLE_PREFIX)).collect();
    ours.sort();
    ours.into_iter()
        .map(|(name, value)| {
            let at = Origin::Variable { name: name.clone() };
            let keys = name.strip_prefix(VARIABLE_PREFIX).unwrap_or(&name).to_lowercase();
            let leaf = Node { at: at.clone(), value: Value::Variable(value) };
            let tree = keys.rsplit("__").fold(leaf, |node, key| {
                let entry = Entry { key_at: at.clone(), node };
                let table = Table { at: at.clone(), entries: BTreeMap::from([(key.to_owned(), entry)]) };
                Node { at: at.clone(), value: Value::Table(table) }
            });
            match tree.value {
                Value::Table(table) => table,
                _ => Table::empty(at),
            }
        })
        .collect()
}
