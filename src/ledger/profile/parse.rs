//! From TOML to a valid profile, with every finding and its place.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::ops::Range;

use chrono::NaiveDate;
use chrono::format::{Item, StrftimeItems};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::source::{Lookup, Source, Template};
use super::{
    Encoding, FileFormat, Finding, Mapped, Profile, ProfileError, Scope, ValueFormat, WhenRowsDisagree, default_of,
    did_you_mean,
};
use crate::ledger::contract::{ACCOUNT, CONTACT, Column, ITEM, Relation};

pub(super) fn profile(name: &str, file: &str, text: &str) -> Result<Profile, ProfileError> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { file, text, findings: Vec::new() };
    for error in errors {
        reader.find(error.span().unwrap_or(0..0), error.message().to_owned(), None);
    }
    // A text that is not TOML gives sections that seem to be missing; only the cause is worth reading.
    let profile = if reader.findings.is_empty() { reader.profile(name, root.get_ref()) } else { None };
    match profile {
        Some(profile) if reader.findings.is_empty() => Ok(profile),
        _ => {
            reader.findings.sort_by_key(|finding| (finding.line, finding.column));
            Err(ProfileError { findings: reader.findings })
        }
    }
}

struct Reader<'t> {
    file: &'t str,
    text: &'t str,
    findings: Vec<Finding>,
}

type Value<'d> = &'d Spanned<DeValue<'d>>;

impl Reader<'_> {
    fn find(&mut self, span: Range<usize>, message: String, hint: Option<String>) {
        let before = &self.text[..span.start.min(self.text.len())];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        self.findings.push(Finding {
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message,
            hint,
        });
    }

    fn profile(&mut self, name: &str, root: &DeTable<'_>) -> Option<Profile> {
        self.known_keys(root, "", &["file", "import", "account", "contact", "item", "lookup"]);
        let lookups = self.lookups(root);
        let file = self.section(root, "file", true).map(|table| self.file_format(table));
        let import = self.section(root, "import", true).map(|table| self.import(table));
        let account = self.relation(root, &ACCOUNT, true, &lookups);
        let contact = self.relation(root, &CONTACT, false, &lookups);
        let item = self.relation(root, &ITEM, true, &lookups);
        let (scope, when_rows_disagree, payments_as_of) = import??;
        Some(Profile {
            name: name.to_owned(),
            file: file??,
            scope,
            when_rows_disagree,
            payments_as_of,
            account,
            contact,
            item,
            lookups,
        })
    }

    fn file_format(&mut self, table: &DeTable<'_>) -> Option<FileFormat> {
        let keys = ["delimiter", "encoding", "decimal", "thousands", "date_format", "columns", "optional_columns"];
        self.known_keys(table, "file.", &keys);
        let delimiter = self.one_of(
            table,
            "file",
            "delimiter",
            |text| match text.as_bytes() {
                [byte] if byte.is_ascii() && !byte.is_ascii_alphanumeric() && *byte != b'"' => Some(*byte),
                _ => None,
            },
            "one character such as \",\", \";\" or \"\\t\"",
        );
        let encoding = self.one_of(
            table,
            "file",
            "encoding",
            |text| match text {
                "utf-8" => Some(Encoding::Utf8),
                "cp1250" => Some(Encoding::Cp1250),
                "cp1251" => Some(Encoding::Cp1251),
                _ => None,
            },
            "\"utf-8\", \"cp1250\" or \"cp1251\"",
        );
        let decimal = self.one_of(
            table,
            "file",
            "decimal",
            |text| match text {
                "." => Some('.'),
                "," => Some(','),
                _ => None,
            },
            "\".\" or \",\"",
        );
        let thousands = if entry(table, "thousands").is_some() {
            let sign = self.one_of(
                table,
                "file",
                "thousands",
                |text| match text {
                    "." | "," | " " | "'" => text.chars().next(),
                    _ => None,
                },
                "\".\", \",\", \" \" or \"'\"; leave it out when the file has none",
            );
            if let (Some(sign), Some(value)) = (sign, entry(table, "thousands"))
                && Some(sign) == decimal
            {
                self.find(value.span(), "thousands and decimal are the same sign".to_owned(), None);
            }
            sign
        } else {
            None
        };
        let date_format = self.text_of(table, "file", "date_format");
        if let (Some(format), Some(value)) = (&date_format, entry(table, "date_format"))
            && !is_date_format(format)
        {
            self.find(
                value.span(),
                format!("{format:?} does not describe a date"),
                Some("use %d (day), %m (month) and %Y (year), such as \"%d.%m.%Y\"".to_owned()),
            );
        }
        let columns = self.texts_of(table, "columns");
        let optional_columns = self.texts_of(table, "optional_columns").unwrap_or_default();
        Some(FileFormat {
            delimiter: delimiter?,
            encoding: encoding?,
            values: ValueFormat { decimal: decimal?, thousands, date_format: date_format? },
            columns,
            optional_columns,
        })
    }

    fn import(&mut self, table: &DeTable<'_>) -> Option<(Scope, WhenRowsDisagree, Option<Template>)> {
        self.known_keys(table, "import.", &["scope", "when_rows_disagree", "payments_as_of"]);
        let scope =
            self.one_of(table, "import", "scope", Scope::parse, "\"full_open_items\", \"full_history\" or \"delta\"");
        let disagree = if entry(table, "when_rows_disagree").is_some() {
            self.one_of(
                table,
                "import",
                "when_rows_disagree",
                |text| match text {
                    "reject" => Some(WhenRowsDisagree::Reject),
                    "keep_first" => Some(WhenRowsDisagree::KeepFirst),
                    _ => None,
                },
                "\"reject\" or \"keep_first\"",
            )
        } else {
            Some(WhenRowsDisagree::Reject)
        };
        let payments_as_of = entry(table, "payments_as_of").and_then(|value| self.template(value));
        Some((scope?, disagree?, payments_as_of))
    }

    /// The `[lookup.COLUMN]` tables. Every row of one gives the same attributes.
    fn lookups(&mut self, root: &DeTable<'_>) -> BTreeMap<String, Lookup> {
        let mut lookups = BTreeMap::new();
        let Some(tables) = self.section(root, "lookup", false) else { return lookups };
        for (column, table) in tables {
            let Some(table) = self.table(table) else { continue };
            let mut lookup = Lookup::new();
            let mut attributes: Option<BTreeSet<String>> = None;
            for (key, row) in table {
                let Some(cells) = self.table(row) else { continue };
                let mut values = BTreeMap::new();
                for (attribute, value) in cells {
                    if let Some(text) = self.text(value) {
                        values.insert(attribute.get_ref().to_string(), text);
                    }
                }
                let names: BTreeSet<String> = values.keys().cloned().collect();
                let expected = attributes.get_or_insert_with(|| names.clone());
                if let Some(odd) = expected.symmetric_difference(&names).next() {
                    self.find(
                        key.span(),
                        format!("{odd:?} is given by some rows of [lookup.{}] and not by others", column.get_ref()),
                        Some("give the same attributes in every row".to_owned()),
                    );
                }
                lookup.insert(key.get_ref().to_string(), values);
            }
            lookups.insert(column.get_ref().to_string(), lookup);
        }
        lookups
    }

    /// One of `[account]`, `[contact]` and `[item]`.
    fn relation(
        &mut self,
        root: &DeTable<'_>,
        relation: &'static Relation,
        needed: bool,
        lookups: &BTreeMap<String, Lookup>,
    ) -> Vec<Mapped> {
        let Some(table) = self.section(root, relation.name, needed) else { return Vec::new() };
        // Contacts and items belong to the account of their row.
        let is_ours = |column: &Column| relation.name == "account" || column.name != "account_id";
        let names: Vec<&str> = relation.columns.iter().filter(|c| is_ours(c)).map(|column| column.name).collect();
        self.known_keys(table, &format!("{}.", relation.name), &names);
        let mut mapped = Vec::new();
        for column in relation.columns.iter().filter(|column| is_ours(column)) {
            if let Some(value) = entry(table, column.name) {
                if let Some(source) = self.source(value, column, lookups) {
                    mapped.push(Mapped { column, source });
                }
            } else if let Some(default) = default_of(column) {
                mapped.push(Mapped { column, source: Source::Template(Template::constant(default)) });
            } else if column.required {
                let place = section_span(root, relation.name);
                self.find(
                    place,
                    format!("[{}] lacks {}, which the ledger requires", relation.name, column.name),
                    Some(format!("add {} = \"{{NAME OF THE COLUMN}}\"", column.name)),
                );
            }
        }
        mapped
    }

    fn source(&mut self, value: Value<'_>, column: &Column, lookups: &BTreeMap<String, Lookup>) -> Option<Source> {
        let Some(table) = value.get_ref().as_table() else {
            return self.template(value).map(Source::Template);
        };
        let has = |key: &str| entry(table, key).is_some();
        if has("lookup") {
            self.known_keys(table, "", &["lookup", "gives"]);
            let from = self.text_of(table, column.name, "lookup")?;
            let gives = self.text_of(table, column.name, "gives")?;
            match lookups.get(&from) {
                None => {
                    let hint = did_you_mean(&from, lookups.keys().map(String::as_str)).map_or_else(
                        || "add it, one row per value".to_owned(),
                        |near| format!("did you mean {near:?}?"),
                    );
                    self.find(entry(table, "lookup")?.span(), format!("there is no [lookup.{from}]"), Some(hint));
                }
                Some(rows) => {
                    let attributes: BTreeSet<&str> = rows.values().flat_map(|r| r.keys().map(String::as_str)).collect();
                    if !attributes.contains(gives.as_str()) {
                        let hint = did_you_mean(&gives, attributes).map(|near| format!("did you mean {near:?}?"));
                        self.find(entry(table, "gives")?.span(), format!("[lookup.{from}] gives no {gives:?}"), hint);
                    }
                }
            }
            return Some(Source::Lookup { column: from, gives });
        }
        let then_default = (column.family == crate::ledger::contract::Family::Boolean).then_some("true");
        let otherwise_default = if then_default.is_some() { "false" } else { "" };
        if has("when") {
            self.known_keys(table, "", &["when", "is", "is_not", "then", "otherwise"]);
            let when = self.text_of(table, column.name, "when")?;
            let mut list = |key: &str| {
                let texts = self.texts_of(table, key);
                if texts.is_none() && !has(key) {
                    let message = format!("{}: `when` needs `{key}`, a list of values", column.name);
                    self.find(value.span(), message, None);
                }
                texts
            };
            let (is, is_not) = (list("is"), list("is_not"));
            let then = self.branch(value, table, "then", then_default)?;
            let otherwise = self.branch(value, table, "otherwise", Some(otherwise_default))?;
            return Some(Source::When { column: when, is: is?, is_not: is_not?, then, otherwise });
        }
        if has("when_filled") {
            self.known_keys(table, "", &["when_filled", "then", "otherwise"]);
            let when = self.text_of(table, column.name, "when_filled")?;
            let then = self.branch(value, table, "then", then_default)?;
            let otherwise = self.branch(value, table, "otherwise", Some(otherwise_default))?;
            return Some(Source::WhenFilled { column: when, then, otherwise });
        }
        self.find(
            value.span(),
            format!("{}: a table here begins with `lookup`, `when` or `when_filled`", column.name),
            None,
        );
        None
    }

    fn branch(&mut self, value: Value<'_>, table: &DeTable<'_>, key: &str, default: Option<&str>) -> Option<Template> {
        match (entry(table, key), default) {
            (Some(value), _) => self.template(value),
            (None, Some(default)) => Some(Template::constant(default)),
            (None, None) => {
                self.find(value.span(), format!("`{key}` is missing"), None);
                None
            }
        }
    }

    fn template(&mut self, value: Value<'_>) -> Option<Template> {
        let text = self.text(value)?;
        match Template::parse(&text) {
            Ok(template) => Some(template),
            Err(wrong) => {
                self.find(value.span(), wrong, None);
                None
            }
        }
    }

    /// A text; whole numbers and booleans stand for their own spelling.
    fn text(&mut self, value: Value<'_>) -> Option<String> {
        match value.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            DeValue::Boolean(truth) => Some(truth.to_string()),
            DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
            other => {
                let hint = (other.is_float() || other.is_datetime()).then(|| "write it in quotes".to_owned());
                self.find(value.span(), format!("a text is wanted here, not {}", other.type_str()), hint);
                None
            }
        }
    }

    fn text_of(&mut self, table: &DeTable<'_>, owner: &str, key: &str) -> Option<String> {
        if let Some(value) = entry(table, key) {
            return self.text(value);
        }
        let place = table.keys().map(Spanned::span).min_by_key(|span| span.start).unwrap_or(0..0);
        self.find(place, format!("{owner}: `{key}` is missing"), None);
        None
    }

    fn texts_of(&mut self, table: &DeTable<'_>, key: &str) -> Option<Vec<String>> {
        let value = entry(table, key)?;
        let Some(list) = value.get_ref().as_array() else {
            self.find(value.span(), format!("`{key}` is a list of texts, such as [\"a\", \"b\"]"), None);
            return None;
        };
        list.iter().map(|one| self.text(one)).collect()
    }

    fn one_of<T>(
        &mut self,
        table: &DeTable<'_>,
        owner: &str,
        key: &str,
        read: impl Fn(&str) -> Option<T>,
        wanted: &str,
    ) -> Option<T> {
        let text = self.text_of(table, owner, key)?;
        let found = read(&text);
        if found.is_none()
            && let Some(value) = entry(table, key)
        {
            self.find(value.span(), format!("{key} = {text:?} is not {wanted}"), None);
        }
        found
    }

    fn section<'d>(&mut self, root: &'d DeTable<'d>, name: &str, needed: bool) -> Option<&'d DeTable<'d>> {
        if let Some(value) = entry(root, name) {
            return self.table(value);
        }
        if needed {
            self.find(0..0, format!("the section [{name}] is missing"), None);
        }
        None
    }

    fn table<'d>(&mut self, value: Value<'d>) -> Option<&'d DeTable<'d>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.find(value.span(), "a table is wanted here".to_owned(), None);
        }
        table
    }

    fn known_keys(&mut self, table: &DeTable<'_>, prefix: &str, known: &[&str]) {
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                let hint = if name == "account_id" {
                    Some("contacts and items get it from [account]".to_owned())
                } else {
                    did_you_mean(name, known.iter().copied()).map(|near| format!("did you mean {near:?}?"))
                };
                self.find(key.span(), format!("unknown key \"{prefix}{name}\""), hint);
            }
        }
    }
}

fn entry<'d>(table: &'d DeTable<'d>, name: &str) -> Option<Value<'d>> {
    table.iter().find(|(key, _)| key.get_ref() == name).map(|(_, value)| value)
}

fn section_span(root: &DeTable<'_>, name: &str) -> Range<usize> {
    root.keys().find(|key| key.get_ref() == name).map_or(0..0, Spanned::span)
}

/// Whether a date written in that format can be read back.
fn is_date_format(format: &str) -> bool {
    if StrftimeItems::new(format).any(|item| item == Item::Error) {
        return false;
    }
    let Some(day) = NaiveDate::from_ymd_opt(2024, 12, 31) else { return false };
    let mut written = String::new();
    write!(written, "{}", day.format(format)).is_ok() && NaiveDate::parse_from_str(&written, format) == Ok(day)
}
