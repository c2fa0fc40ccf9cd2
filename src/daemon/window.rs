//! The hours in which a notice may go out: the policy's send window in the debtor's zone, and the law's for natural
//! persons, the stricter of the two. Only the hour is deferred; the day was decided.

use chrono::{DateTime, Duration, NaiveDate, Utc};

use crate::model::{Account, ContactLaw, Creditor, Hours, Policy, zone_of};

use super::schedule::instant;

/// A stretch of time in which a notice may go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendWindow {
    pub from: DateTime<Utc>,
    /// Not itself within.
    pub to: DateTime<Utc>,
}

/// The send windows of the sending days from `first` to `last` that are not `quiet`, each in the debtor's zone (his own,
/// else his country's, else the creditor's), none of them beginning before the review of a notice planned `now` is over.
/// None when neither policy nor law knows an hour, nobody reviews and each day is a sending day: then a notice may go out
/// at once. Empty when every hour is past.
#[must_use]
pub fn send_windows(
    policy: &Policy,
    creditor: &Creditor,
    account: &Account,
    (first, last): (NaiveDate, NaiveDate),
    quiet: impl Fn(NaiveDate) -> bool,
    now: DateTime<Utc>,
) -> Option<Vec<SendWindow>> {
    let country = account.country.unwrap_or(creditor.country);
    let laws = || ContactLaw::of(account.party_kind, Some(country));
    let hours = policy.send_window.into_iter().chain(laws().filter_map(ContactLaw::hours)).reduce(Hours::within);
    let days = || first.iter_days().take_while(|day| *day <= last);
    let countries: Vec<_> = account.country.into_iter().chain([creditor.country]).collect();
    let sending = |day: &NaiveDate| policy.calendars.is_sending_day(&countries, *day) == Ok(true) && !quiet(*day);
    if hours.is_none() && policy.review_window_minutes == 0 && days().all(|day| sending(&day)) {
        return None;
    }
    let reviewed = now + Duration::minutes(i64::from(policy.review_window_minutes));
    let zone = account.time_zone.or_else(|| account.country.and_then(zone_of)).unwrap_or(creditor.time_zone);
    let everywhere: Vec<_> = match account.time_zone {
        Some(_) => Vec::new(),
        None => laws().flat_map(ContactLaw::hours_everywhere).collect(),
    };
    let window = |day: NaiveDate| {
        let (from, to) = match hours {
            Some(hours) => (instant(zone, day, hours.from), instant(zone, day, hours.to)),
            None => {
                (instant(zone, day, chrono::NaiveTime::MIN), instant(zone, day.succ_opt()?, chrono::NaiveTime::MIN))
            }
        };
        let (from, to) = everywhere.iter().fold((from.max(reviewed), to), |(from, to), (zone, hours)| {
            (from.max(instant(*zone, day, hours.from)), to.min(instant(*zone, day, hours.to)))
        });
        (from < to).then_some(SendWindow { from, to })
    };
    Some(days().filter(sending).filter_map(window).collect())
}
