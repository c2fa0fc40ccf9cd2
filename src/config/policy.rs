//! `policy.toml`: whom the daemon writes to, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{NaiveDate, NaiveTime, Weekday};
use rust_decimal::Decimal;

use super::findings::FindingCode;
use super::ladder;
use super::section::{Field, Section};
use super::service;
use super::suggest::closest;
use crate::model::{
    ApprovalPolicy, BrakePolicy, Calendar, Calendars, Cause, CauseHold, CauseRule, ContactCap, ContactLaw, Country,
    CreditNetting, Currency, DueDateRule, Hours, Ladder, LadderName, Language, Minimums, ParseError, PartyKind, Policy,
    QuietPeriod, Retention, TaskKind, TemplateCatalog, Weekdays,
};

/// Reads the policy document, without creditors and templates. Whatever could not be read has its default, and a
/// finding.
pub(super) fn read(mut root: Section<'_>, known: &BTreeMap<String, Calendar>) -> Policy {
    let locations = root.locations();
    let languages = languages(&mut root);
    let country_languages = country_languages(&mut root, &languages);
    let minimums = minimums(&mut root);
    let ladders = root.section("ladder");
    let ladders = ladder::read(ladders, &root, &minimums);
    let causes = causes(&mut root);
    let contact_caps = contact_caps(&mut root);
    let retention = retention(&mut root);
    let calendars = calendars(&mut root, known);
    let valid_days = root.number("valid_days", 0..=14, 2);
    let (send_window, review_window_minutes) = send_window(&mut root, &calendars, valid_days);
    too_late(&mut root, "account_min_arrears_days", 1, &ladders);
    too_late(&mut root, "item_grace_days", 0, &ladders);
    let brake = root.section("brake").map_or_else(shipped_brake, brake_policy);
    let approval = root.section("approval").map_or_else(shipped_approval, approval_policy);
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
        valid_days,
        send_window,
        review_window_minutes,
        restore_days: root.number("restore_days", 0..=90, 7),
        brake,
        approval,
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
    Minimums { by_currency, base, base_currency, rates }
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

fn calendars(root: &mut Section<'_>, known: &BTreeMap<String, Calendar>) -> Calendars {
    const USUAL: [(Country, &str); 6] = [
        (Country::DE, "de"),
        (Country::GB, "gb-eng"),
        (Country::IE, "ie"),
        (Country::IT, "it"),
        (Country::PL, "pl"),
        (Country::RU, "ru"),
    ];
    let shared: BTreeMap<&str, Arc<Calendar>> =
        known.iter().map(|(name, calendar)| (name.as_str(), Arc::new(calendar.clone()))).collect();
    let named = |name: &str| match name {
        WEEKDAYS => Some(Arc::new(Calendar::weekly(Weekdays::MONDAY_TO_FRIDAY))),
        _ => shared.get(name).cloned(),
    };
    let by_country = match root.section("calendars") {
        None => USUAL.iter().filter_map(|(country, name)| Some((*country, named(name)?))).collect(),
        Some(section) => {
            let row = |field: &Field<'_>| {
                let country = country_key(field);
                let text = field.text()?;
                let calendar = named(text);
                if calendar.is_none() {
                    let message = format!(
                        "`{}`: there is no calendars/{text}.csv: add it, or write \"{WEEKDAYS}\" when Monday to Friday \
                         are worked and no holiday is to be known",
                        field.path
                    );
                    let names = shared.keys().copied().chain([WEEKDAYS]);
                    field.note_with(FindingCode::UnknownValue, message, closest(text, names).map(str::to_owned));
                }
                Some((country?, calendar?))
            };
            section.rest().iter().filter_map(row).collect()
        }
    };
    Calendars {
        send_days: send_days(root),
        by_country,
        elsewhere: None,
        due_dates: due_dates(root),
        quiet: quiet_periods(root),
    }
}

/// In `[calendars]`: Monday to Friday in every year, and no holiday is known.
const WEEKDAYS: &str = "weekdays";

fn country_key(field: &Field<'_>) -> Option<Country> {
    field.parsed_key(Country::parse, ["IT", "PL", "GB", "RU", "DE", "IE"])
}

fn due_dates(root: &mut Section<'_>) -> BTreeMap<Country, DueDateRule> {
    const WORDS: [(&str, DueDateRule); 2] =
        [("unmoved", DueDateRule::Unmoved), ("next_working_day", DueDateRule::NextWorkingDay)];
    let fields = root.section("effective_due_date").map(Section::rest).unwrap_or_default();
    let mut rules = Calendars::usual_due_dates();
    for field in fields {
        let (country, rule) = (country_key(&field), field.choice(&WORDS));
        rules.extend(country.zip(rule));
    }
    rules
}

fn quiet_periods(root: &mut Section<'_>) -> Vec<QuietPeriod> {
    if root.get("quiet_period").is_none() {
        return Calendars::usual_quiet_periods();
    }
    let notes = root.notes;
    let periods: Vec<_> = root.sections("quiet_period").into_iter().filter_map(quiet_period).collect();
    let mut countries = BTreeSet::new();
    for (field, QuietPeriod { country, .. }) in &periods {
        let is_quiet = |day| periods.iter().any(|(_, one)| one.country == *country && one.covers(day));
        if countries.insert(*country) && leap_year().all(is_quiet) {
            let message = format!(
                "every day of the year is in a quiet period of {country}: nothing in the tone final or later would ever be \
                 sent there"
            );
            notes.add(FindingCode::Doubtful, field.origin(), message);
        }
    }
    periods.into_iter().map(|(_, period)| period).collect()
}

/// A period, with where its country stands.
fn quiet_period(mut section: Section<'_>) -> Option<(Field<'_>, QuietPeriod)> {
    let country_field = section.need("country", "\"IT\"");
    let country = country_field.as_ref().and_then(|field| field.parsed(Country::parse));
    let from = section.need("from", "\"08-05\"").and_then(|field| field.parsed(day_of_year));
    let to = section.need("to", "\"08-25\"").and_then(|field| field.parsed(day_of_year));
    section.close();
    Some((country_field?, QuietPeriod { country: country?, from: from?, to: to? }))
}

/// Every day that a year may have.
fn leap_year() -> impl Iterator<Item = NaiveDate> {
    NaiveDate::from_ymd_opt(2024, 1, 1).into_iter().flat_map(|first| first.iter_days().take(366))
}

/// `08-05`: a month and a day of every year.
fn day_of_year(text: &str) -> Result<(u32, u32), ParseError> {
    let (month, day) = text.split_once('-').unwrap_or_default();
    let day = month.parse().ok().zip(day.parse().ok());
    // A leap year has every day.
    day.filter(|(month, day)| NaiveDate::from_ymd_opt(2024, *month, *day).is_some())
        .ok_or_else(|| ParseError::new(text, "a month and a day such as \"08-05\""))
}

/// The hours in which letters go out, none when it is the whole day; and the minutes for a review before.
fn send_window(root: &mut Section<'_>, calendars: &Calendars, valid_days: u32) -> (Option<Hours>, u32) {
    let nine_to_six = (service::hour(9), service::hour(18));
    let Some(mut section) = root.section("send_window") else {
        return (Some(Hours { from: nine_to_six.0, to: nine_to_six.1 }), REVIEW_MINUTES);
    };
    let (from_field, to_field) = (section.get("from"), section.get("to"));
    let from = from_field.as_ref().and_then(|field| field.parsed(service::time)).unwrap_or(nine_to_six.0);
    let to = to_field.as_ref().and_then(|field| field.parsed(end_of_hours)).unwrap_or(nine_to_six.1);
    let hours_field = to_field.or(from_field);
    if let Some(field) = hours_field.as_ref().filter(|_| from >= to) {
        field.note(FindingCode::Conflict, "`send_window.to` must be after `send_window.from`");
    }
    let review_field = section.get("review_window_minutes");
    let review = review_field.as_ref().and_then(|field| field.number(0..=1440)).unwrap_or(REVIEW_MINUTES);
    section.close();
    let hours = Hours { from, to };
    for (field, country) in hours_field.iter().flat_map(|field| calendars.by_country.keys().map(move |c| (field, *c))) {
        let legal = ContactLaw::of(PartyKind::Consumer, Some(country)).filter_map(ContactLaw::hours);
        for legal in legal.filter(|legal| from < to && hours.within(*legal).is_empty()) {
            let message = format!(
                "in {country} natural persons are written to from {} to {} only, and `send_window` is closed then: no \
                 consumer, and no debtor of unknown kind, would ever be written to there",
                legal.from.format("%H:%M"),
                legal.to.format("%H:%M")
            );
            field.note(FindingCode::Doubtful, message);
        }
    }
    // Also what is planned at midnight would only be let go when the hours of its day are over.
    let open_until = (to - NaiveTime::MIN).num_minutes();
    if let Some(field) = review_field.filter(|_| valid_days == 0 && i64::from(review) >= open_until) {
        let message = format!(
            "`{}`: the review ends after the send window of the day, and with `valid_days = 0` a letter is true on that day \
             only: none would ever go out without approval; shorten the review, or raise `valid_days`",
            field.path
        );
        field.note(FindingCode::Doubtful, message);
    }
    let whole_day = from == NaiveTime::MIN && to == LAST_MOMENT;
    ((!whole_day).then_some(hours), review)
}

const REVIEW_MINUTES: u32 = 120;

/// The end of the day, as a time of it.
const LAST_MOMENT: NaiveTime = match NaiveTime::from_hms_opt(23, 59, 59) {
    Some(time) => time,
    None => NaiveTime::MIN,
};

fn end_of_hours(text: &str) -> Result<NaiveTime, ParseError> {
    if text == "24:00" { Ok(LAST_MOMENT) } else { service::time(text) }
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
    let days: Vec<Weekday> = fields.iter().filter_map(|field| field.choice(&WORDS)).collect();
    let is_worked = |day: &Weekday| Weekdays::MONDAY_TO_FRIDAY.contains(*day);
    if !days.is_empty() && days.len() == fields.len() && !days.iter().any(is_worked) {
        let message = "letters go out on working days only, and none of these days is one: nobody would ever be \
                       contacted; add one from Monday to Friday";
        field.note(FindingCode::InvalidValue, message);
    }
    days.into_iter().collect()
}

/// A wait that outlasts a whole ladder, by so many days, is one that nobody meant.
fn too_late(root: &mut Section<'_>, key: &'static str, beyond: i64, ladders: &BTreeMap<LadderName, Arc<Ladder>>) {
    let Some(field) = root.get(key) else { return };
    let wait = root.number::<u32>(key, 0..=365, 0);
    for ladder in ladders.values() {
        let last = ladder.stages.iter().filter(|stage| stage.enabled).map(|stage| stage.days).max();
        if let Some(last) = last.filter(|last| *last > 0 && i64::from(wait) >= i64::from(*last) + beyond) {
            let message = format!(
                "`{key}` outlasts ladder `{}`, whose last stage is due at {last} days: none of its stages would come on \
                 its day; shorten the wait, or move the stages",
                ladder.name
            );
            field.note(FindingCode::Doubtful, message);
        }
    }
}

fn shipped_brake() -> BrakePolicy {
    BrakePolicy {
        notices_per_run: 2_000,
        notices_per_hour: 500,
        forecast_percent: 150,
        forecast_margin: 20,
        first_run_notices: 100,
        never_reminded_days: 180,
        limitation_years: SHIPPED_LIMITATION
            .into_iter()
            .filter_map(|(c, y)| Some((Country::parse(c).ok()?, y)))
            .collect(),
    }
}

/// The shortest ordinary periods, as recalled and not checked against the codes; a lawyer of the country confirms them.
const SHIPPED_LIMITATION: [(&str, u32); 4] = [("GB", 6), ("IT", 5), ("PL", 2), ("RU", 3)];

fn brake_policy(mut section: Section<'_>) -> BrakePolicy {
    let usual = shipped_brake();
    let brake = BrakePolicy {
        notices_per_run: section.number("notices_per_run", 1..=1_000_000, usual.notices_per_run),
        notices_per_hour: section.number("notices_per_hour", 1..=1_000_000, usual.notices_per_hour),
        forecast_percent: section.number("forecast_percent", 100..=1_000, usual.forecast_percent),
        forecast_margin: section.number("forecast_margin", 0..=100_000, usual.forecast_margin),
        first_run_notices: section.number("first_run_notices", 1..=1_000_000, usual.first_run_notices),
        never_reminded_days: section.number("never_reminded_days", 1..=3_650, usual.never_reminded_days),
        limitation_years: section.section("limitation_years").map_or(usual.limitation_years, |section| {
            let fields = section.rest();
            let row = |field: &Field<'_>| {
                Some((field.parsed_key(Country::parse, ["IT", "PL", "GB", "RU"])?, field.number(1..=30)?))
            };
            fields.iter().filter_map(row).collect()
        }),
    };
    section.close();
    brake
}

fn shipped_approval() -> ApprovalPolicy {
    ApprovalPolicy { waiting_limit: 200, valid_days: 5, same_person: false }
}

fn approval_policy(mut section: Section<'_>) -> ApprovalPolicy {
    let usual = shipped_approval();
    let approval = ApprovalPolicy {
        waiting_limit: section.number("waiting_limit", 1..=100_000, usual.waiting_limit),
        valid_days: section.number("valid_days", 0..=14, usual.valid_days),
        same_person: section.flag("same_person", usual.same_person),
    };
    section.close();
    approval
}
