//! The filters of templates: typed values become the words of one language. A float never gets in: amounts and decimals
//! arrive as text.

use chrono::NaiveDate;
use rust_decimal::Decimal;
use tera::{Kwargs, State, Tera, TeraResult, Value};

use super::labels;
use super::locale::{self, DateStyle, Locale, LocaleError, NBSP};
use super::words;
use crate::model::{BankAccount, Currency, Language};

/// Adds the filters of that language.
pub(super) fn register(tera: &mut Tera, language: Language) {
    let locale = Locale::from(language);
    tera.register_filter("money", move |value: &Value, _: Kwargs, _: &State| {
        amounts("money", locale, value, |amount, currency| Ok(locale::money(locale, amount, currency)))
    });
    tera.register_filter("words", move |value: &Value, _: Kwargs, _: &State| {
        amounts("words", locale, value, |amount, currency| words::in_words(locale, amount, currency))
    });
    tera.register_filter("date", move |value: &Value, kwargs: Kwargs, _: &State| date(locale, value, &kwargs));
    tera.register_filter("number", move |value: &Value, _: Kwargs, _: &State| -> TeraResult<String> {
        locale::number(locale, &digits("number", value)?).map_err(tera::Error::message)
    });
    tera.register_filter("plural", move |value: &Value, kwargs: Kwargs, _: &State| plural(locale, value, &kwargs));
    tera.register_filter("days", move |value: &Value, _: Kwargs, _: &State| days(locale, value));
    tera.register_filter("iban", |value: &str, _: Kwargs, _: &State| iban(value));
    tera.register_filter("upper_first", |value: &str, _: Kwargs, _: &State| labels::upper_first(value));
}

fn wrong(filter: &str, wanted: &str, value: &Value) -> tera::Error {
    if value.is_none() {
        return tera::Error::message(format!(
            "`{filter}` wants {wanted}, and here is none: ask `{{% if ... %}}` first"
        ));
    }
    tera::Error::message(format!("`{filter}` wants {wanted}, this is {}: {value}", value.name()))
}

/// One amount or several, each written by `write`.
fn amounts(
    filter: &str,
    locale: Locale,
    value: &Value,
    write: impl Fn(Decimal, Currency) -> Result<String, LocaleError>,
) -> TeraResult<String> {
    let one = |value: &Value| -> Option<(Decimal, Currency)> {
        let amount: Decimal = value.get_from_path("amount")?.as_str()?.parse().ok()?;
        let currency = Currency::parse(value.get_from_path("currency")?.as_str()?).ok()?;
        Some((amount, currency))
    };
    let several = value.as_array().unwrap_or(std::slice::from_ref(value));
    let amounts: Option<Vec<(Decimal, Currency)>> = several.iter().map(one).collect();
    let amounts = amounts.ok_or_else(|| wrong(filter, "an amount", value))?;
    let written: Result<Vec<String>, LocaleError> =
        amounts.into_iter().map(|(amount, currency)| write(amount, currency)).collect();
    written.map(|written| locale::list(locale, &written)).map_err(tera::Error::message)
}

fn date(locale: Locale, value: &Value, kwargs: &Kwargs) -> TeraResult<String> {
    let style = kwargs.get::<&str>("style")?.unwrap_or("long");
    let style = DateStyle::parse(style).ok_or_else(|| {
        tera::Error::message(format!("{style:?} is no style of a date: known are short, medium, long and full"))
    })?;
    let day: Option<NaiveDate> = value.as_str().and_then(|text| text.parse().ok());
    day.map(|day| locale::date(locale, day, style)).ok_or_else(|| wrong("date", "a date", value))
}

/// The exact digits of a whole number or of a decimal in a text.
fn digits(filter: &str, value: &Value) -> TeraResult<String> {
    if let Some(text) = value.as_str() {
        Ok(text.to_owned())
    } else {
        value
            .as_i128()
            .map(|n| n.to_string())
            .ok_or_else(|| wrong(filter, "a whole number or a decimal in a text", value))
    }
}

fn plural(locale: Locale, value: &Value, kwargs: &Kwargs) -> TeraResult<String> {
    let form = locale::plural(locale, &digits("plural", value)?).map_err(tera::Error::message)?;
    let other = kwargs.must_get::<&str>("other")?;
    Ok(kwargs.get::<&str>(form.as_str())?.unwrap_or(other).to_owned())
}

/// The number and its word, kept on one line. The form is the one of counting: not for use after a preposition.
fn days(locale: Locale, value: &Value) -> TeraResult<String> {
    use locale::Plural::{Few, Many, One, Other};
    let digits = digits("days", value)?;
    let form = locale::plural(locale, &digits).map_err(tera::Error::message)?;
    let word = match (locale, form) {
        (Locale::Ru, One) => "день",
        (Locale::Ru, Many) => "дней",
        (Locale::Ru, Few | Other) => "дня",
        (Locale::Pl, One) => "dzień",
        (Locale::Pl, Few | Many) => "dni",
        (Locale::Pl, Other) => "dnia",
        (Locale::It, One) => "giorno",
        (Locale::It, Few | Many | Other) => "giorni",
        (Locale::EnGb | Locale::EnIe, One) => "day",
        (Locale::EnGb | Locale::EnIe, Few | Many | Other) => "days",
    };
    let number = locale::number(locale, &digits).map_err(tera::Error::message)?;
    Ok(format!("{number}{NBSP}{word}"))
}

/// An IBAN in groups of four, any other number as it is.
pub(super) fn iban(text: &str) -> String {
    match BankAccount::parse_iban(text) {
        Ok(BankAccount::Iban(iban)) => {
            let groups: Vec<&str> =
                iban.as_bytes().chunks(4).map(|group| std::str::from_utf8(group).unwrap_or_default()).collect();
            groups.join(&NBSP.to_string())
        }
        Ok(BankAccount::Number(number)) => number,
        Err(_) => text.to_owned(),
    }
}
