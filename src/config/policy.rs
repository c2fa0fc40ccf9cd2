//! `policy.toml`: whom the daemon writes to, and when.

use std::collections::{BTreeMap, BTreeSet};

use chrono::Weekday;
use rust_decimal::Decimal;

use super::findings::FindingCode;
use super::ladder;
use super::section::{Field, Section};
use crate::model::{
    Calendars, Cause, CauseHold, CauseRule, ContactCap, Country, CreditNetting, Currency, Language, Minimums, Policy,
    TaskKind, TemplateCatalog, Weekdays,
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
    let causes = causes(&mut root);
    let contact_caps = contact_caps(&mut root);
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
        causes,
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

/// `[cause.<cause>]`: what follows from a recorded cause. A key that is not given keeps its shipped value.
fn causes(root: &mut Section<'_>) -> BTreeMap<Cause, CauseRule> {
    let mut rules = BTreeMap::new();
    let names: Vec<&str> = Cause::ALL.iter().map(|cause| cause.as_str()).collect();
    for field in root.section("cause").map(Section::rest).unwrap_or_default() {
        let Some(cause) = Cause::parse(field.key) else {
            let message = format!("`{}` is no cause; known are {}", field.key, names.join(", "));
            let near = super::suggest::closest(field.key, names.iter().copied()).map(str::to_owned);
            root.notes.add_with(FindingCode::UnknownKey, field.key_at, message, near);
            continue;
        };
        let Some(mut section) = field.section() else { continue };
        let shipped = CauseRule::shipped(cause);
        let holds: Vec<(&str, CauseHold)> = CauseHold::ALL.iter().map(|hold| (hold.as_str(), *hold)).collect();
        let tasks = TaskKind::ALL.iter().filter(|task| task.is_about_a_cause());
        let mut tasks: Vec<(&str, Option<TaskKind>)> = tasks.map(|task| (task.as_str(), Some(*task))).collect();
        tasks.push(("none", None));
        let hold = section.choice("hold", &holds, shipped.hold);
        // Another hold is another rule: the shipped length belongs to the shipped hold.
        let shipped_days = shipped.hold_working_days.filter(|_| hold == shipped.hold);
        let days_field = section.get("hold_working_days");
        if let Some(field) = days_field.as_ref().filter(|_| hold == CauseHold::None) {
            field.note(FindingCode::Conflict, format!("`{}` without a hold: set `hold`, or remove it", field.path));
        }
        let rule = CauseRule {
            hold,
            // 0 says: without end.
            hold_working_days: match days_field.and_then(|field| field.number(0..=250)) {
                Some(0) => None,
                Some(days) => Some(days),
                None => shipped_days,
            },
            task: section.choice("task", &tasks, shipped.task),
            restart_wait: section.flag("restart_wait", shipped.restart_wait),
            gap_percent: section.number("gap_percent", 10..=100, shipped.gap_percent),
        };
        section.close();
        rules.insert(cause, rule);
    }
    rules
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
