//! `policy.toml`: whom the daemon writes to, and when.

use std::collections::{BTreeMap, BTreeSet};

use chrono::Weekday;
use rust_decimal::Decimal;

use super::findings::FindingCode;
use super::ladder;
use super::section::{Field, Section};
use crate::model::{
    Calendars, ContactCap, Country, CreditNetting, Currency, Language, Minimums, Policy, Retention, TemplateCatalog,
    Weekdays,
};

/// Reads the policy document, without creditors and templates. Whatever could not be read has its default, and a
/// finding.
pub(super) fn read(mut root: Section<'_>) -> Policy {
    let locations = root.locations();
    let languages = languages(&mut root);
    let country_languages = country_languages(&mut root, &languages);
    let ladders = root.section("ladder");
    let ladders = ladder::read(ladders, &root);
    let minimums = minimums(&mut root);
    let contact_caps = contact_caps(&mut root);
    let retention = retention(&mut root);
    let calendars = Calendars::weekly(send_days(&mut root));
    let netting = [("oldest_first", CreditNetting::OldestFirst), ("per_contract", CreditNetting::PerContract)];
    let policy = Policy {
        creditors: BTreeMap::new(),
        templates: TemplateCatalog::default(),
        calendars,
        languages,
        country_languages,
        ladders,
        minimums,
        item_grace_days: root.number("item_grace_days", 0..=365, 0),
        account_min_arrears_days: root.number("account_min_arrears_days", 0..=365, 0),
        contact_caps,
        bounce_window_days: root.number("bounce_window_days", 0..=30, 2),
        direct_debit_wait_days: root.number("direct_debit_wait_days", 0..=60, 7),
        formal_gap_days: root.number("formal_gap_days", 1..=365, 30),
        credit_netting: root.choice("credit_netting", &netting, CreditNetting::OldestFirst),
        accounts_per_mailbox: root.number("accounts_per_mailbox", 1..=1000, 3),
        rows_in_letter: root.number("rows_in_letter", 1..=200, 10),
        valid_days: root.number("valid_days", 0..=14, 2),
        restore_days: root.number("restore_days", 0..=90, 7),
        retention,
        locations,
    };
    root.close();
    policy
}

fn languages(root: &mut Section<'_>) -> BTreeSet<Language> {
    let Some(field) = root.get("languages") else { return Language::ALL.into_iter().collect() };
    let fields = field.list().unwrap_or_default();
    if fields.is_empty() {
        field.note(FindingCode::InvalidValue, "at least one language is needed: write `languages = [\"en\"]`");
    }
    let read: BTreeSet<Language> = fields.iter().filter_map(language).collect();
    // With one of them unreadable, nobody can say which language is missing from the list.
    if read.len() < fields.len() { Language::ALL.into_iter().collect() } else { read }
}

/// One of the languages that letters exist in, by its code.
pub(super) fn language(field: &Field<'_>) -> Option<Language> {
    field.choice(&Language::ALL.map(|language| (language.code(), language)))
}

fn country_languages(root: &mut Section<'_>, languages: &BTreeSet<Language>) -> BTreeMap<Country, Language> {
    let fields = root.section("country_languages").map(Section::rest).unwrap_or_default();
    let row = |field: &Field<'_>| {
        let country = field.parsed_key(Country::parse, ["IT", "PL", "GB", "RU"]);
        let language = language(field)?;
        if !languages.contains(&language) {
            field.note(FindingCode::Conflict, format!("`{language}` is not among `languages`: add it there"));
        }
        Some((country?, language))
    };
    fields.iter().filter_map(row).collect()
}

fn minimums(root: &mut Section<'_>) -> Minimums {
    let mut base_currency = None;
    let mut base = None;
    let mut by_currency = BTreeMap::new();
    if let Some(mut section) = root.section("minimum") {
        let currency_field = section.get("base_currency");
        base_currency = currency_field.as_ref().and_then(|field| field.parsed(Currency::parse));
        let base_field = section.get("base");
        base = match (&base_field, base_currency) {
            (Some(field), Some(currency)) => field.money(currency),
            (Some(field), None) => field.decimal(),
            (None, _) => None,
        };
        if let (Some(field), None) | (None, Some(field)) = (&base_field, &currency_field) {
            let message = format!("`{}`: `base` and `base_currency` need each other", field.path);
            field.note(FindingCode::Conflict, message);
        }
        for field in section.rest() {
            if let Some(currency) = field.currency_key() {
                by_currency.extend(field.money(currency).map(|amount| (currency, amount)));
            }
        }
    }
    let mut rates: BTreeMap<Currency, Decimal> =
        base_currency.map(|currency| (currency, Decimal::ONE)).into_iter().collect();
    if let Some(section) = root.section("rates") {
        let notes = section.notes;
        let at = section.origin();
        let fields = section.rest();
        if base_currency.is_none() && !fields.is_empty() {
            let message = "rates need an amount to convert: add `base` and `base_currency` to `[minimum]`";
            notes.add(FindingCode::Conflict, at, message);
        }
        for field in fields {
            let (Some(currency), Some(rate)) = (field.currency_key(), field.decimal()) else { continue };
            if rate.is_zero() {
                field.note(FindingCode::OutOfRange, format!("`{}` must be above 0", field.path));
            } else if Some(currency) == base_currency && rate != Decimal::ONE {
                field.note(FindingCode::Conflict, format!("`{}`: {currency} is the base, its rate is 1", field.path));
            }
            rates.insert(currency, rate);
        }
    }
    Minimums { by_currency, base, rates }
}

fn contact_caps(root: &mut Section<'_>) -> Vec<ContactCap> {
    let Some(field) = root.get("contact_cap") else {
        return vec![ContactCap { contacts: 1, days: 7 }, ContactCap { contacts: 4, days: 30 }];
    };
    let cap = |mut section: Section<'_>| {
        let contacts = section.need("contacts", "1").and_then(|field| field.number(1..=1000));
        let days = section.need("days", "7").and_then(|field| field.number(1..=365));
        section.close();
        Some(ContactCap { contacts: contacts?, days: days? })
    };
    let caps = root.sections("contact_cap");
    if caps.is_empty() {
        field
            .note(FindingCode::Doubtful, "without a cap nothing but the ladder limits how often a debtor is contacted");
    }
    caps.into_iter().filter_map(cap).collect()
}

fn retention(root: &mut Section<'_>) -> Retention {
    let Some(mut section) = root.section("retention") else { return Retention::default() };
    let mut months = |key| section.get(key).and_then(|field| field.number(1..=1200));
    let retention = Retention {
        messages_months: months("messages_months"),
        notes_months: months("notes_months"),
        smtp_months: months("smtp_months"),
    };
    section.close();
    retention
}

fn send_days(root: &mut Section<'_>) -> Weekdays {
    const WORDS: [(&str, Weekday); 7] = [
        ("monday", Weekday::Mon),
        ("tuesday", Weekday::Tue),
        ("wednesday", Weekday::Wed),
        ("thursday", Weekday::Thu),
        ("friday", Weekday::Fri),
        ("saturday", Weekday::Sat),
        ("sunday", Weekday::Sun),
    ];
    let Some(field) = root.get("send_days") else { return Weekdays::MONDAY_TO_FRIDAY };
    let fields = field.list().unwrap_or_default();
    if fields.is_empty() {
        field.note(FindingCode::InvalidValue, "at least one day is needed: nobody would ever be contacted");
    }
    fields.iter().filter_map(|field| field.choice(&WORDS)).collect()
}
