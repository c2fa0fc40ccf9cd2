//! From the file's way of writing amounts and dates to the database's.

use chrono::{DateTime, Datelike, FixedOffset, NaiveDate};
use rust_decimal::{Decimal, dec};

use crate::ledger::contract::Family;
use crate::ledger::profile::ValueFormat;
use crate::model::{
    AccountId, ContactId, ContactRole, Country, CreditorId, Currency, FIRST_DAY, ItemId, ItemKind, LAST_DAY,
    LadderName, PartyKind, Requisites,
};

/// A value in PostgreSQL's own spelling, with what the row's rules need to see of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parsed {
    Text(String),
    Amount(Decimal),
    Date(NaiveDate),
}

impl Parsed {
    pub(super) fn into_sql(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Amount(amount) => amount.to_string(),
            Self::Date(date) => date.to_string(),
        }
    }
}

/// Reads a value for a column of that family. The error says why not, and what to do.
pub(super) fn parse(text: &str, family: Family, format: &ValueFormat) -> Result<Parsed, String> {
    match family {
        Family::Numeric => amount(text, format).map(Parsed::Amount),
        Family::Date => date(text, format).map(Parsed::Date),
        Family::Integer => match text.parse::<i32>() {
            Ok(number) => Ok(Parsed::Text(number.to_string())),
            Err(_) => Err("not a whole number".to_owned()),
        },
        Family::Boolean => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "1" => Ok(Parsed::Text("true".to_owned())),
            "false" | "no" | "0" => Ok(Parsed::Text("false".to_owned())),
            _ => Err("neither yes nor no; use `when` in the profile to say what it means".to_owned()),
        },
        Family::Json => match serde_json::from_str::<Requisites>(text) {
            Ok(_) => Ok(Parsed::Text(text.to_owned())),
            Err(error) => Err(format!("not a bank account in JSON: {error}")),
        },
        Family::Text | Family::Timestamp => {
            if text.chars().any(|c| c.is_control() && c != '\n') {
                return Err("holds a control character; remove it".to_owned());
            }
            Ok(Parsed::Text(text.to_owned()))
        }
    }
}

/// Refuses a text that has no meaning in its field.
pub(super) fn check_meaning(relation: &str, field: &str, text: &str) -> Result<(), String> {
    fn to_reason<T>(parsed: Result<T, crate::model::ParseError>) -> Result<(), String> {
        parsed.map(|_| ()).map_err(|error| format!("not {}", error.wanted))
    }
    let known = |found: bool, names: &[&str]| {
        if found { Ok(()) } else { Err(format!("none of {}", names.join(", "))) }
    };
    if text.contains('\n') && field != "postal_address" {
        return Err("holds a line break; remove it".to_owned());
    }
    match (relation, field) {
        (_, "account_id" | "parent_id") => to_reason(AccountId::parse(text)),
        ("account", "creditor") => to_reason(CreditorId::parse(text)),
        ("account", "country") => to_reason(Country::parse(text)),
        ("account", "ladder") => to_reason(LadderName::parse(text)),
        ("account", "party_kind") => known(PartyKind::parse(text).is_some(), &PartyKind::ALL.map(PartyKind::as_str)),
        ("account", "time_zone") => match text.parse::<chrono_tz::Tz>() {
            Ok(_) => Ok(()),
            Err(_) => Err("not an IANA time zone such as Europe/Rome".to_owned()),
        },
        ("contact", "contact_id") => to_reason(ContactId::parse(text)),
        ("contact", "role") => known(ContactRole::parse(text).is_some(), &ContactRole::ALL.map(ContactRole::as_str)),
        ("contact", "email_kind") => known(["email", "pec"].contains(&text), &["email", "pec"]),
        ("item", "item_id" | "refers_to") => to_reason(ItemId::parse(text)),
        ("item", "kind") => known(ItemKind::parse(text).is_some(), &ItemKind::ALL.map(ItemKind::as_str)),
        ("item", "currency") => to_reason(Currency::parse(text)),
        _ => Ok(()),
    }
}

/// A moment with its offset, such as `2024-12-31T06:00:00+01:00`.
pub(super) fn moment(text: &str) -> Result<DateTime<FixedOffset>, String> {
    DateTime::parse_from_rfc3339(text)
        .map_err(|_| "not a moment with its offset like 2024-12-31T06:00:00+01:00 (RFC 3339)".to_owned())
}

/// What the ledger can hold (see `amount_sql`): no amount of money has more digits.
const AMOUNT_LIMIT: Decimal = dec!(100_000_000_000_000_000_000);

fn amount(text: &str, format: &ValueFormat) -> Result<Decimal, String> {
    let other = if format.decimal == '.' { ',' } else { '.' };
    let plain = match plain_number(text, format) {
        Some(plain) => plain,
        // 1,234.50 and 1,234,567; but 1.234,50 and 1234,50 have the other decimal sign.
        None if format.thousands.is_none()
            && text.contains(other)
            && (text.matches(other).count() > 1 || text.rfind(format.decimal) > text.find(other)) =>
        {
            return Err(format!(
                "groups its digits by {other:?}; say thousands = \"{other}\" in [file] of the profile, or correct the file"
            ));
        }
        None if text.contains(other) && format.thousands != Some(other) => {
            let kind = if other == ',' { "comma" } else { "point" };
            return Err(format!(
                "looks like a decimal {kind}, and the profile says decimal = \"{}\"; correct the profile or the file",
                format.decimal
            ));
        }
        None => return Err(format!("not an amount like 1234{}56; write digits only", format.decimal)),
    };
    let number = Decimal::from_str_exact(&plain).ok().filter(|number| number.abs() < AMOUNT_LIMIT);
    number.map(|number| number.normalize()).ok_or_else(|| "too many digits for an amount".to_owned())
}

/// The number with a point and without thousands separators, or `None` when its signs are not where they belong.
fn plain_number(text: &str, format: &ValueFormat) -> Option<String> {
    let (sign, digits) = match text.strip_prefix(['-', '\u{2212}']) {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = match digits.split_once(format.decimal) {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (digits, None),
    };
    let whole = match format.thousands {
        Some(separator) => {
            // Exports that group with spaces mostly mean the unbreakable one.
            let is_separator = |c: char| c == separator || (separator == ' ' && matches!(c, '\u{a0}' | '\u{202f}'));
            let groups: Vec<&str> = whole.split(is_separator).collect();
            let (first, rest) = groups.split_first()?;
            if !rest.is_empty() && (first.is_empty() || first.len() > 3 || rest.iter().any(|group| group.len() != 3)) {
                return None;
            }
            groups.concat()
        }
        None => whole.to_owned(),
    };
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(&whole) || fraction.is_some_and(|fraction| !all_digits(fraction)) {
        return None;
    }
    Some(match fraction {
        Some(fraction) => format!("{sign}{whole}.{fraction}"),
        None => format!("{sign}{whole}"),
    })
}

fn date(text: &str, format: &ValueFormat) -> Result<NaiveDate, String> {
    match NaiveDate::parse_from_str(text, &format.date_format) {
        // `%Y` also takes "24" for the year 24.
        Ok(date) if (FIRST_DAY..=LAST_DAY).contains(&date) => Ok(date),
        Ok(date) if date.year() >= 1000 => {
            Err(format!("is before {FIRST_DAY} or after {LAST_DAY}; leave the field empty where there is no day"))
        }
        _ => {
            let example = NaiveDate::from_ymd_opt(2024, 12, 31)
                .map(|day| day.format(&format.date_format).to_string())
                .unwrap_or_default();
            Err(format!(
                "not a date like {example} (date_format = {:?}); correct the profile or the file",
                format.date_format
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(decimal: char, thousands: Option<char>) -> ValueFormat {
        ValueFormat { decimal, thousands, date_format: "%m/%d/%Y".to_owned() }
    }

    fn reads(text: &str, decimal: char, thousands: Option<char>) -> Option<String> {
        amount(text, &format(decimal, thousands)).ok().map(|amount| amount.to_string())
    }

    #[test]
    fn amounts_are_read_exactly_or_not_at_all() {
        assert_eq!(reads("78.0", '.', None).as_deref(), Some("78"));
        assert_eq!(reads("-1,234.50", '.', Some(',')).as_deref(), Some("-1234.5"));
        assert_eq!(reads("1\u{a0}234,56", ',', Some(' ')).as_deref(), Some("1234.56"));
        for wrong in ["", "-", "1.", ".5", "1e5", "NaN", "12 EUR", "1,23.00", "1,2345.00", "(5)", "0x10", "1.2.3"] {
            assert_eq!(reads(wrong, '.', Some(',')), None, "{wrong:?}");
        }
        assert_eq!(reads("1,234", '.', None), None);
        assert_eq!(reads("99999999999999999999999999999999", '.', None), None);
    }

    #[test]
    fn a_two_digit_year_is_not_the_year_24() {
        assert_eq!(date("2/1/2013", &format('.', None)), Ok(NaiveDate::from_ymd_opt(2013, 2, 1).unwrap()));
        assert_eq!(
            date("12/31/24", &format('.', None)).unwrap_err(),
            "not a date like 12/31/2024 (date_format = \"%m/%d/%Y\"); correct the profile or the file"
        );
        assert_eq!(
            date("12/31/9999", &format('.', None)).unwrap_err(),
            "is before 1900-01-01 or after 2200-12-31; leave the field empty where there is no day"
        );
    }
}
