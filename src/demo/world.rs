//! Forty made-up accounts of two creditors on one frozen day, and the configuration to write to them.

use chrono::{DateTime, FixedOffset, NaiveDate};

use crate::config::{Part, Source};

/// The ledger of the demonstration, in the columns of the import profile `generic`.
pub const LEDGER: &str = include_str!("ledger.csv");

/// The day on which the demonstration takes place: a Tuesday, far from holidays.
#[must_use]
pub fn business_date() -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 3, 10).unwrap_or_default()
}

/// Payments are imported up to that morning.
#[must_use]
pub fn payments_as_of() -> DateTime<FixedOffset> {
    let six = chrono::NaiveTime::from_hms_opt(6, 0, 0).unwrap_or_default();
    business_date().and_time(six).and_utc().fixed_offset()
}

/// The shipped policy and creditors, with a service that reaches nothing but this machine.
#[must_use]
pub fn configuration(app_url: &str, admin_url: &str, relay_host: &str, relay_port: u16) -> Vec<Source> {
    let service = format!(
        "environment = \"test\"\n\
         [database]\nurl = {}\nadmin_url = {}\n\
         [mail]\ntransport = \"smtp\"\nhost = {}\nport = {relay_port}\nsecurity = \"plain\"\nconnections = 2\n",
        quoted(app_url),
        quoted(admin_url),
        quoted(relay_host),
    );
    Source::shipped()
        .into_iter()
        .map(|source| match source.part {
            Part::Service => Source::new(Part::Service, "dunningd.toml", service.clone()),
            Part::Policy | Part::Creditors | Part::Calendar => source,
        })
        .collect()
}

/// A TOML basic string; JSON's escapes are a subset of TOML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
