//! Every expected value of the locale tables: how money, dates, plurals and account numbers look and which are valid.

#![expect(clippy::unwrap_used, reason = "a broken table should stop the test")]

use std::path::{Path, PathBuf};

use chrono::NaiveDate;
use dunningd::config;
use dunningd::model::{BankAccount, Country, Currency};
use dunningd::render::locale::{self, DateStyle, Locale};
use rust_decimal::Decimal;

fn rows(name: &str) -> Vec<Vec<String>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/vectors").join(name);
    let mut reader = csv::Reader::from_path(path).unwrap();
    reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
}

fn locale_of(tag: &str) -> Locale {
    match tag.replace('_', "-").as_str() {
        "ru" => Locale::Ru,
        "pl" => Locale::Pl,
        "it" => Locale::It,
        "en" | "en-GB" => Locale::EnGb,
        "en-IE" => Locale::EnIe,
        other => panic!("no locale {other}"),
    }
}

/// `\u00a0` in the tables stands for the character.
fn unescape(text: &str) -> String {
    let mut parts = text.split(r"\u");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_at(4);
        out.push(char::from_u32(u32::from_str_radix(code, 16).unwrap()).unwrap());
        out.push_str(rest);
    }
    out
}

#[test]
fn money_is_written_as_the_table_says() {
    let rows = rows("money.csv");
    assert!(rows.len() > 70);
    for row in rows {
        let [tag, currency, amount, _, expected, ..] = row.as_slice() else { panic!("{row:?}") };
        let amount: Decimal = amount.parse().unwrap();
        let written = locale::money(locale_of(tag), amount, Currency::parse(currency).unwrap());
        assert_eq!(written, unescape(expected), "{row:?}");
    }
}

#[test]
fn dates_are_written_as_the_table_says() {
    let rows = rows("dates.csv");
    assert!(rows.len() > 60);
    for row in rows {
        let [tag, date, style, _, expected, ..] = row.as_slice() else { panic!("{row:?}") };
        let date: NaiveDate = date.parse().unwrap();
        let written = locale::date(locale_of(tag), date, DateStyle::parse(style).unwrap());
        assert_eq!(written, unescape(expected), "{row:?}");
    }
}

#[test]
fn working_days_are_those_of_the_table() {
    let rows = rows("holidays.csv");
    assert!(rows.len() > 35);
    let shipped = config::load_from(&config::Source::shipped(), Path::new("."), [], None).unwrap().config.policy;
    let text = config::Source::shipped();
    for row in rows {
        let [country, part, date, _, working, next, ..] = row.as_slice() else { panic!("{row:?}") };
        let file = if part.is_empty() { country.to_lowercase() } else { format!("gb-{}", part.to_lowercase()) };
        // Each country's file in its turn: the three of the United Kingdom exclude each other in one policy.
        let mut sources = text.clone();
        let policy = sources.iter_mut().find(|source| source.name == "policy.toml").unwrap();
        policy.text = policy
            .text
            .replace("GB = \"gb-eng\"", &format!("GB = \"{}\"", if part.is_empty() { "gb-eng" } else { &file }));
        let calendars = if part.is_empty() {
            shipped.calendars.clone()
        } else {
            config::load_from(&sources, Path::new("."), [], None).unwrap().config.policy.calendars
        };
        let country = Country::parse(country).unwrap();
        let date: NaiveDate = date.parse().unwrap();
        assert_eq!(calendars.is_working_day(country, date), Ok(working == "yes"), "{row:?}");
        assert_eq!(calendars.first_working_day(country, date), Ok(next.parse().unwrap()), "{row:?}");
    }
}

#[test]
fn plurals_are_those_of_the_table() {
    let rows = rows("plural.csv");
    assert!(rows.len() > 400);
    for row in rows {
        let [tag, number, category, ..] = row.as_slice() else { panic!("{row:?}") };
        assert_eq!(locale::plural(locale_of(tag), number).unwrap().as_str(), category, "{row:?}");
    }
}

#[test]
fn account_numbers_are_valid_where_the_table_says() {
    let mut seen = 0;
    for row in rows("iban.csv") {
        let [kind, value, _, expected, ..] = row.as_slice() else { panic!("{row:?}") };
        let iban = match kind.as_str() {
            "IBAN" => value.clone(),
            "NRB" => format!("PL{value}"),
            _ => continue,
        };
        seen += 1;
        assert_eq!(BankAccount::parse_iban(&iban).is_ok(), expected == "valid", "{row:?}");
    }
    assert!(seen > 10);
}

#[test]
fn currencies_without_a_sign_show_their_code() {
    let chf = Currency::parse("CHF").unwrap();
    let amount: Decimal = "-1234.5".parse().unwrap();
    assert_eq!(locale::money(Locale::EnGb, amount, chf), "-CHF\u{a0}1,234.50");
    assert_eq!(locale::money(Locale::It, amount, chf), "-1.234,50\u{a0}CHF");
}

#[test]
fn amounts_are_never_rounded() {
    let yen = Currency::parse("JPY").unwrap();
    assert_eq!(locale::money(Locale::EnGb, "1234".parse().unwrap(), yen), "JP¥1,234");
    assert_eq!(locale::money(Locale::EnGb, "1234.5".parse().unwrap(), yen), "JP¥1,234.5");
    let euro = Currency::parse("EUR").unwrap();
    assert_eq!(locale::money(Locale::It, "0.005".parse().unwrap(), euro), "0,005\u{a0}€");
}
