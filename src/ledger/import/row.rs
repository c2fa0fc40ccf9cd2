//! One record of the file becomes one row of the staging table, or is rejected with everything that is wrong with it.

use std::collections::BTreeMap;

use chrono::{DateTime, FixedOffset};

use super::ImportError;
use super::report::Reject;
use super::source::Records;
use super::values::{self, Parsed};
use crate::ledger::contract::{ACCOUNT, CONTACT, Column, ITEM, RawItem, Relation, Rule, problem};
use crate::ledger::profile::{Mapped, Profile, Template, default_of};

/// How the profile's fields meet this file's columns.
pub(super) struct Layout<'p> {
    profile: &'p Profile,
    pub(super) account: Vec<&'p Mapped>,
    pub(super) contact: Vec<&'p Mapped>,
    pub(super) item: Vec<&'p Mapped>,
    /// Columns that the file says nothing about: new rows get the default, and the others keep what they have.
    pub(super) only_new: Vec<&'static str>,
    has_as_of: bool,
}

/// A good row: the values in the order of [`Layout::fields`], in PostgreSQL's spelling.
pub(super) struct Row {
    pub(super) values: Vec<Option<String>>,
    pub(super) as_of: Option<DateTime<FixedOffset>>,
}

impl<'p> Layout<'p> {
    /// Fits the profile to the file. A field whose optional column the file lacks is not mapped at all: what the
    /// ledger says there stays.
    pub(super) fn new(profile: &'p Profile, records: &Records) -> Result<Self, ImportError> {
        let may_lack = |name: &str| profile.file.optional_columns.iter().any(|optional| optional == name);
        let every = || profile.account.iter().chain(&profile.contact).chain(&profile.item);
        let missing = |mapped: &Mapped| mapped.source.columns().into_iter().any(|name| !records.has(name));
        // The identity of the contact decides whether there are contacts.
        let contacts =
            profile.contact.first().is_some_and(|id| !missing(id) || id.source.columns().iter().any(|c| !may_lack(c)));
        let needed = every().flat_map(|mapped| {
            let must = mapped.column.required
                && default_of(mapped.column).is_none()
                && (contacts || !is_contact(profile, mapped));
            mapped.source.columns().into_iter().filter(move |name| must || !may_lack(name))
        });
        let as_of_columns: Vec<&str> = profile.payments_as_of.iter().flat_map(Template::columns).collect();
        let has_as_of = as_of_columns.iter().all(|name| records.has(name)) && profile.payments_as_of.is_some();
        records.require(needed.chain(as_of_columns.into_iter().filter(|name| !may_lack(name))), profile)?;
        records.require_once(every().flat_map(|mapped| mapped.source.columns()))?;
        let only_new = every().filter(|field| missing(field) && default_of(field.column).is_some());
        let only_new = only_new.map(|field| field.column.name).collect();
        let mapped = |fields: &'p [Mapped]| {
            fields.iter().filter(|field| !missing(field) || default_of(field.column).is_some()).collect()
        };
        Ok(Self {
            profile,
            account: mapped(&profile.account),
            contact: if contacts { mapped(&profile.contact) } else { Vec::new() },
            item: mapped(&profile.item),
            only_new,
            has_as_of,
        })
    }

    /// Columns of the file that are not read although another name was probably meant, in words.
    pub(super) fn slips(&self, records: &Records) -> Vec<String> {
        let Profile { account, contact, item, payments_as_of, .. } = self.profile;
        let fields = account.iter().chain(contact).chain(item).flat_map(|mapped| mapped.source.columns());
        let read: Vec<&str> = fields.chain(payments_as_of.iter().flat_map(Template::columns)).collect();
        let slips = records.probably_meant(&read).into_iter();
        slips.map(|(name, meant)| format!("the column {name:?} is not read; did you mean {meant:?}?")).collect()
    }

    /// Whether each row says up to when payments are known.
    pub(super) fn has_as_of(&self) -> bool {
        self.has_as_of
    }

    /// Every mapped field with the letter of its relation.
    pub(super) fn fields(&self) -> impl Iterator<Item = (char, &'static Column)> {
        let of = |letter: char, fields: &'_ [&'p Mapped]| -> Vec<(char, &'static Column)> {
            fields.iter().map(|mapped| (letter, mapped.column)).collect()
        };
        of('a', &self.account).into_iter().chain(of('c', &self.contact)).chain(of('i', &self.item))
    }

    /// Reads the current record.
    pub(super) fn read(&self, row: u64, records: &Records) -> Result<Row, Vec<Reject>> {
        if records.record.len() != records.header.len() {
            return Err(vec![Reject::new(
                row,
                None,
                None,
                format!(
                    "has {} fields, the header has {}; is {}?",
                    records.record.len(),
                    records.header.len(),
                    if records.record.iter().any(|value| value.contains('\n')) {
                        "a quote not closed"
                    } else {
                        "a delimiter inside a value that is not quoted"
                    }
                ),
            )]);
        }
        if let Some(column) = records.swallowing() {
            let reason = "a line in it looks like a row of the file; is a quote not closed?";
            return Err(vec![Reject::new(row, Some(column), records.value_of(column), reason)]);
        }
        let mut reader = RowReader { layout: self, records, row, rejects: Vec::new() };
        let mut values = Vec::with_capacity(self.account.len() + self.contact.len() + self.item.len());
        reader.relation(&ACCOUNT, &self.account, &mut values);
        reader.contact(&mut values);
        reader.item(&mut values);
        let as_of = reader.as_of();
        if reader.rejects.is_empty() { Ok(Row { values, as_of }) } else { Err(reader.rejects) }
    }
}

fn is_contact(profile: &Profile, mapped: &Mapped) -> bool {
    profile.contact.iter().any(|contact| std::ptr::eq(contact, mapped))
}

struct RowReader<'l, 'p> {
    layout: &'l Layout<'p>,
    records: &'l Records,
    row: u64,
    rejects: Vec<Reject>,
}

impl RowReader<'_, '_> {
    fn reject(&mut self, column: Option<&str>, value: Option<&str>, reason: impl Into<String>) {
        // One wrong cell may feed several fields; it is said once.
        if column.is_none() || self.rejects.iter().all(|known| known.column.as_deref() != column) {
            self.rejects.push(Reject::new(self.row, column, value, reason));
        }
    }

    fn value(&mut self, relation: &Relation, mapped: &Mapped) -> Option<Parsed> {
        let column = mapped.source.blamed_column().unwrap_or(mapped.column.name);
        let text = match mapped.source.value(&|name: &str| self.records.cell(name), &self.layout.profile.lookups) {
            Ok(text) => text,
            Err(fault) => {
                self.reject(Some(&fault.column), Some(&fault.value), fault.reason);
                return None;
            }
        };
        if text.is_empty() {
            if let Some(default) = default_of(mapped.column) {
                return Some(Parsed::Text(default.to_owned()));
            }
            if mapped.column.required {
                let field = format!("{}.{}", relation.name, mapped.column.name);
                self.reject(Some(column), None, format!("empty, and the ledger requires {field}"));
            }
            return None;
        }
        let parsed = values::parse(&text, mapped.column.family, &self.layout.profile.file.values);
        let parsed =
            parsed.and_then(|parsed| values::check_meaning(relation.name, mapped.column.name, &text).map(|()| parsed));
        match parsed {
            Ok(parsed) => Some(parsed),
            Err(reason) => {
                self.reject(Some(column), Some(&text), reason);
                None
            }
        }
    }

    fn relation(&mut self, relation: &Relation, fields: &[&Mapped], values: &mut Vec<Option<String>>) {
        for mapped in fields {
            let value = self.value(relation, mapped);
            values.push(value.map(Parsed::into_sql));
        }
    }

    /// A row without a contact id has no contact.
    fn contact(&mut self, values: &mut Vec<Option<String>>) {
        let fields = &self.layout.contact;
        let Some(id) = fields.first() else { return };
        let id = id.source.value(&|name: &str| self.records.cell(name), &self.layout.profile.lookups);
        if id.as_deref() == Ok("") {
            values.extend(fields.iter().map(|_| None));
        } else {
            self.relation(&CONTACT, fields, values);
        }
    }

    fn item(&mut self, values: &mut Vec<Option<String>>) {
        let before = self.rejects.len();
        let parsed: BTreeMap<&str, Option<Parsed>> =
            self.layout.item.iter().map(|mapped| (mapped.column.name, self.value(&ITEM, mapped))).collect();
        if self.rejects.len() == before {
            self.item_rules(&parsed);
        }
        let mut parsed = parsed;
        for mapped in &self.layout.item {
            values.push(parsed.remove(mapped.column.name).flatten().map(Parsed::into_sql));
        }
    }

    fn item_rules(&mut self, parsed: &BTreeMap<&str, Option<Parsed>>) {
        let get = |name: &str| parsed.get(name).and_then(Option::as_ref);
        let text = |name: &str| match get(name) {
            Some(Parsed::Text(text)) => Some(text.as_str()),
            _ => None,
        };
        let amount = |name: &str| match get(name) {
            Some(Parsed::Amount(amount)) => Some(*amount),
            _ => None,
        };
        let date = |name: &str| match get(name) {
            Some(Parsed::Date(date)) => Some(*date),
            _ => None,
        };
        let raw = RawItem {
            item_id: text("item_id").unwrap_or_default(),
            kind: text("kind"),
            document_no: text("document_no"),
            currency: text("currency"),
            amount: amount("amount"),
            open_amount: amount("open_amount"),
            issue_date: date("issue_date"),
            due_date: date("due_date"),
            unreadable_date: None,
        };
        if let Some(problem) = problem(&raw) {
            let value = parsed.get(problem.column).and_then(Clone::clone).map(Parsed::into_sql);
            let column = self.layout.profile.blamed_column(problem.column);
            let advice = match problem.rule {
                Rule::TooFine => "is it a thousands separator, or not rounded?",
                _ => "correct it in the file",
            };
            self.reject(Some(column), value.as_deref(), format!("{}; {advice}", problem.text));
        }
    }

    fn as_of(&mut self) -> Option<DateTime<FixedOffset>> {
        let template = self.layout.profile.payments_as_of.as_ref().filter(|_| self.layout.has_as_of)?;
        let text = template.fill(&|name: &str| self.records.cell(name));
        if text.is_empty() {
            return None;
        }
        match values::moment(&text) {
            Ok(moment) => Some(moment),
            Err(reason) => {
                let column = template.columns().next().unwrap_or("payments_as_of").to_owned();
                self.reject(Some(&column), Some(&text), reason);
                None
            }
        }
    }
}
