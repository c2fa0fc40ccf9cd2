//! Numbers, money, dates and plurals as people of a language write them.
//!
//! Plural categories come from CLDR through ICU4X. Numbers, currency patterns and dates are CLDR's too, but in tables of
//! our own: ICU4X cannot force the grouping of four digits, has no stable currency formatter, and its dates move between
//! CLDR releases (`г.` after U+202F or a space, a comma after an English weekday) while a letter has to look the same
//! after an upgrade.

use std::fmt;
use std::str::FromStr as _;
use std::sync::LazyLock;

use chrono::{Datelike as _, NaiveDate};
use fixed_decimal::Decimal as Digits;
use icu_locale_core::locale;
use icu_plurals::{PluralCategory, PluralRules, PluralRulesPreferences};
use rust_decimal::Decimal;

use crate::model::{Currency, Language};

/// U+00A0: keeps an amount and its currency on one line.
pub const NBSP: char = '\u{a0}';
/// U+202F: stands between a Russian year and `г.`.
const NNBSP: char = '\u{202f}';

/// A language together with the country whose habits decide where the language leaves a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Locale {
    EnGb,
    EnIe,
    It,
    Pl,
    Ru,
}

impl From<Language> for Locale {
    fn from(language: Language) -> Self {
        match language {
            Language::En => Self::EnGb,
            Language::It => Self::It,
            Language::Pl => Self::Pl,
            Language::Ru => Self::Ru,
        }
    }
}

/// A value that cannot be written down, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LocaleError(pub String);

/// How much of a date is written. Letters use `Long`: `01/03/2026` means two different days in London and New York.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DateStyle {
    Short,
    Medium,
    Long,
    Full,
}

impl DateStyle {
    /// The style of that name: `short`, `medium`, `long` or `full`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "short" => Some(Self::Short),
            "medium" => Some(Self::Medium),
            "long" => Some(Self::Long),
            "full" => Some(Self::Full),
            _ => None,
        }
    }
}

/// The grammatical form that a number asks for (CLDR plural categories).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plural {
    One,
    Few,
    Many,
    Other,
}

impl Plural {
    /// The name in CLDR, which is also the argument of the filter `plural`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Few => "few",
            Self::Many => "many",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Plural {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

type Rules = Result<PluralRules, LocaleError>;

fn rules_of(locale: &icu_locale_core::Locale) -> Rules {
    PluralRules::try_new_cardinal(PluralRulesPreferences::from(locale))
        .map_err(|e| LocaleError(format!("no plural rules for {locale}: {e}")))
}

static EN: LazyLock<Rules> = LazyLock::new(|| rules_of(&locale!("en")));
static IT: LazyLock<Rules> = LazyLock::new(|| rules_of(&locale!("it")));
static PL: LazyLock<Rules> = LazyLock::new(|| rules_of(&locale!("pl")));
static RU: LazyLock<Rules> = LazyLock::new(|| rules_of(&locale!("ru")));

/// A number with the groups and the decimal sign of the language; digits after the decimal sign are kept as given.
///
/// # Errors
/// When the text is not a plain decimal number such as `-1234.50`.
pub fn number(locale: Locale, text: &str) -> Result<String, LocaleError> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if all_digits(whole) && all_digits(fraction) {
        Ok(grouped(locale, text))
    } else {
        Err(LocaleError(format!("{text:?} is not a number")))
    }
}

fn grouped(locale: Locale, text: &str) -> String {
    let (sign, unsigned) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (whole, fraction) = unsigned.split_once('.').map_or((unsigned, None), |(whole, part)| (whole, Some(part)));
    let (group, decimal) = match locale {
        Locale::EnGb | Locale::EnIe => (',', '.'),
        Locale::It => ('.', ','),
        Locale::Pl | Locale::Ru => (NBSP, ','),
    };
    let mut written = sign.to_owned();
    for (n, digit) in whole.chars().enumerate() {
        // CLDR leaves four digits ungrouped in Polish and Italian; next to `12 345,00` that looks like a mistake.
        if n > 0 && (whole.len() - n).is_multiple_of(3) {
            written.push(group);
        }
        written.push(digit);
    }
    if let Some(fraction) = fraction {
        written.push(decimal);
        written.push_str(fraction);
    }
    written
}

/// The plural category of an exact decimal. `1.0` is not `1`: visible fraction digits count.
///
/// # Errors
/// When the text is not a decimal number.
pub fn plural(locale: Locale, text: &str) -> Result<Plural, LocaleError> {
    let rules: &Rules = match locale {
        Locale::EnGb | Locale::EnIe => &EN,
        Locale::It => &IT,
        Locale::Pl => &PL,
        Locale::Ru => &RU,
    };
    let rules = rules.as_ref().map_err(Clone::clone)?;
    let digits = Digits::from_str(text).map_err(|_| LocaleError(format!("{text:?} is not a number")))?;
    Ok(match rules.category_for(&digits) {
        PluralCategory::One => Plural::One,
        PluralCategory::Few => Plural::Few,
        PluralCategory::Many => Plural::Many,
        PluralCategory::Zero | PluralCategory::Two | PluralCategory::Other => Plural::Other,
    })
}

/// An amount with its currency: `1 234,50 zł`, `£1,234.50`. Never rounds: it has at least the digits of the currency,
/// and more where the amount itself has more.
#[must_use]
pub fn money(locale: Locale, amount: Decimal, currency: Currency) -> String {
    let symbol = symbol(locale, currency);
    let written = grouped(locale, &exact(amount.abs(), currency).to_string());
    let sign = if amount.is_sign_negative() && !amount.is_zero() { "-" } else { "" };
    match locale {
        Locale::EnGb | Locale::EnIe => {
            // CLDR "currency spacing": letters are set off from digits, signs are not.
            let gap = if symbol.ends_with(char::is_alphabetic) { NBSP.to_string() } else { String::new() };
            format!("{sign}{symbol}{gap}{written}")
        }
        Locale::It | Locale::Pl | Locale::Ru => format!("{sign}{written}{NBSP}{symbol}"),
    }
}

/// The amount with the decimals of its currency, or more where it has more.
pub(super) fn exact(amount: Decimal, currency: Currency) -> Decimal {
    let mut amount = amount.normalize();
    if amount.scale() < currency.decimals() {
        amount.rescale(currency.decimals());
    }
    amount
}

/// The sign of the currency in that language, else its code (CLDR, `symbol`).
fn symbol(locale: Locale, currency: Currency) -> String {
    let table = match locale {
        Locale::EnGb | Locale::EnIe => EN_SYMBOLS,
        Locale::It => IT_SYMBOLS,
        Locale::Pl => PL_SYMBOLS,
        Locale::Ru => RU_SYMBOLS,
    };
    let code = currency.code();
    let own = table.iter().chain(SYMBOLS).find(|(c, _)| *c == code).map(|(_, symbol)| *symbol);
    own.unwrap_or(code).to_owned()
}

/// The same in all four languages.
const SYMBOLS: &[(&str, &str)] =
    &[("EUR", "€"), ("XAF", "FCFA"), ("XCD", "EC$"), ("XOF", "F\u{202f}CFA"), ("XPF", "CFPF")];
const EN_SYMBOLS: &[(&str, &str)] = &[
    ("AUD", "A$"),
    ("BRL", "R$"),
    ("CAD", "CA$"),
    ("CNY", "CN¥"),
    ("GBP", "£"),
    ("HKD", "HK$"),
    ("ILS", "₪"),
    ("INR", "₹"),
    ("JPY", "JP¥"),
    ("KRW", "₩"),
    ("MXN", "MX$"),
    ("NZD", "NZ$"),
    ("PHP", "₱"),
    ("TWD", "NT$"),
    ("USD", "US$"),
    ("VND", "₫"),
];
const IT_SYMBOLS: &[(&str, &str)] = &[
    ("AUD", "A$"),
    ("CAD", "CA$"),
    ("CNY", "CN¥"),
    ("GBP", "£"),
    ("ILS", "₪"),
    ("NZD", "NZ$"),
    ("PHP", "₱"),
    ("THB", "฿"),
];
const PL_SYMBOLS: &[(&str, &str)] = &[("BRL", "R$"), ("PLN", "zł")];
const RU_SYMBOLS: &[(&str, &str)] = &[
    ("AUD", "A$"),
    ("BRL", "R$"),
    ("CAD", "CA$"),
    ("CNY", "CN¥"),
    ("GBP", "£"),
    ("HKD", "HK$"),
    ("ILS", "₪"),
    ("INR", "₹"),
    ("JPY", "¥"),
    ("KRW", "₩"),
    ("MXN", "MX$"),
    ("NZD", "NZ$"),
    ("RUB", "₽"),
    ("THB", "฿"),
    ("TMT", "ТМТ"),
    ("TWD", "NT$"),
    ("UAH", "₴"),
    ("USD", "$"),
    ("VND", "₫"),
];

/// The words of a calendar, in the grammatical case that a date asks for.
struct Names {
    months: [&'static str; 12],
    short_months: [&'static str; 12],
    /// Monday first.
    weekdays: [&'static str; 7],
}

const EN_NAMES: Names = Names {
    months: [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ],
    short_months: ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sept", "Oct", "Nov", "Dec"],
    weekdays: ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"],
};
const IT_NAMES: Names = Names {
    months: [
        "gennaio",
        "febbraio",
        "marzo",
        "aprile",
        "maggio",
        "giugno",
        "luglio",
        "agosto",
        "settembre",
        "ottobre",
        "novembre",
        "dicembre",
    ],
    short_months: ["gen", "feb", "mar", "apr", "mag", "giu", "lug", "ago", "set", "ott", "nov", "dic"],
    weekdays: ["lunedì", "martedì", "mercoledì", "giovedì", "venerdì", "sabato", "domenica"],
};
const PL_NAMES: Names = Names {
    months: [
        "stycznia",
        "lutego",
        "marca",
        "kwietnia",
        "maja",
        "czerwca",
        "lipca",
        "sierpnia",
        "września",
        "października",
        "listopada",
        "grudnia",
    ],
    short_months: ["sty", "lut", "mar", "kwi", "maj", "cze", "lip", "sie", "wrz", "paź", "lis", "gru"],
    weekdays: ["poniedziałek", "wtorek", "środa", "czwartek", "piątek", "sobota", "niedziela"],
};
const RU_NAMES: Names = Names {
    months: [
        "января",
        "февраля",
        "марта",
        "апреля",
        "мая",
        "июня",
        "июля",
        "августа",
        "сентября",
        "октября",
        "ноября",
        "декабря",
    ],
    short_months: ["янв.", "февр.", "мар.", "апр.", "мая", "июн.", "июл.", "авг.", "сент.", "окт.", "нояб.", "дек."],
    weekdays: ["понедельник", "вторник", "среда", "четверг", "пятница", "суббота", "воскресенье"],
};

/// A date in that style: `1 марта 2026 г.`, `1 marca 2026`, `1 marzo 2026`, `1 March 2026`.
#[must_use]
pub fn date(locale: Locale, date: NaiveDate, style: DateStyle) -> String {
    let (day, month, year) = (date.day(), date.month(), date.year());
    let names = match locale {
        Locale::EnGb | Locale::EnIe => &EN_NAMES,
        Locale::It => &IT_NAMES,
        Locale::Pl => &PL_NAMES,
        Locale::Ru => &RU_NAMES,
    };
    let month_name = |names: &[&'static str; 12]| names[date.month0() as usize];
    let with = |month: &str| match locale {
        Locale::Ru => format!("{day} {month} {year}{NNBSP}г."),
        Locale::EnGb | Locale::EnIe | Locale::It | Locale::Pl => format!("{day} {month} {year}"),
    };
    match style {
        DateStyle::Short => match locale {
            Locale::EnGb | Locale::EnIe => format!("{day:02}/{month:02}/{year}"),
            Locale::It => format!("{day:02}/{month:02}/{:02}", year.rem_euclid(100)),
            Locale::Pl => format!("{day}.{month:02}.{year}"),
            Locale::Ru => format!("{day:02}.{month:02}.{year}"),
        },
        DateStyle::Medium => with(month_name(&names.short_months)),
        DateStyle::Long => with(month_name(&names.months)),
        DateStyle::Full => {
            let weekday = names.weekdays[date.weekday().num_days_from_monday() as usize];
            let comma = if matches!(locale, Locale::It | Locale::EnIe) { "" } else { "," };
            format!("{weekday}{comma} {}", with(month_name(&names.months)))
        }
    }
}

/// The parts of an enumeration joined as the language does: `a, b and c`.
#[must_use]
pub fn list(locale: Locale, parts: &[String]) -> String {
    let and = match locale {
        Locale::EnGb | Locale::EnIe => " and ",
        Locale::It => " e ",
        Locale::Pl => " i ",
        Locale::Ru => " и ",
    };
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{}{and}{last}", first.join(", ")),
    }
}
