//! When a run is due: a pure function of what was done and what time it is. The bell only rings.

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeZone as _, Utc};
use chrono_tz::Tz;

use crate::config::{FreshnessRule, Schedule};
use crate::model::{CalendarMissing, Calendars, Creditor};

/// Whether a creditor's run is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// For this business date.
    Now(NaiveDate),
    /// Not before this moment, as far as the clock decides.
    Later(DateTime<Utc>),
}

/// Whether a run is due: the date in the creditor's zone has no run yet, and the hour is one in which runs begin. A
/// missed day is not made up for by a second run: today's run sees everything that yesterday's would have seen. A day
/// has one date in a zone however often its hours repeat, so no change of the clocks doubles or skips a run.
#[must_use]
pub fn run_due(last_completed: Option<NaiveDate>, now: DateTime<Utc>, zone: Tz, schedule: &Schedule) -> Due {
    let local = now.with_timezone(&zone);
    let today = local.date_naive();
    let done = last_completed.is_some_and(|day| day >= today);
    let hour = local.time();
    if !done && hour >= schedule.earliest && hour <= schedule.latest {
        return Due::Now(today);
    }
    let day = if !done && hour < schedule.earliest { today } else { today + Days::new(1) };
    Due::Later(instant(zone, day, schedule.earliest))
}

/// Whether two working days have gone by without a completed run, `last` being the day of the last one. A day has gone
/// by when it is over, or its hours for a run are.
#[must_use]
pub fn runs_missing(
    last: NaiveDate,
    now: DateTime<Utc>,
    creditor: &Creditor,
    calendars: &Calendars,
    schedule: &Schedule,
) -> bool {
    let local = now.with_timezone(&creditor.time_zone);
    let today = local.date_naive();
    let gone_by = if local.time() > schedule.latest { Some(today) } else { today.pred_opt() };
    // Without a calendar two days are two days: rather one alarm too many.
    let second = calendars.add_working_days(creditor.country, last, 2).unwrap_or(last + Days::new(2));
    gone_by.is_some_and(|day| second <= day)
}

/// Up to when payments must be known for a run at that moment: never dun a customer who may have paid on the
/// previous working day of the creditor's bank.
///
/// # Errors
/// When no calendar says which day that was.
pub fn payments_needed(
    rule: FreshnessRule,
    calendars: &Calendars,
    creditor: &Creditor,
    now: DateTime<Utc>,
) -> Result<DateTime<Utc>, CalendarMissing> {
    match rule {
        FreshnessRule::MaxAge { hours } => Ok(now - chrono::Duration::hours(i64::from(hours))),
        FreshnessRule::PreviousWorkingDay => {
            let today = now.with_timezone(&creditor.time_zone).date_naive();
            let covered = calendars.previous_working_day(creditor.country, today)?;
            Ok(instant(creditor.time_zone, covered + Days::new(1), NaiveTime::MIN))
        }
    }
}

/// The latest moment up to which payments can be said to be known: a statement that ends later was never made by a bank; a
/// day given for its end is the most.
#[must_use]
pub(super) fn payments_at_most(now: DateTime<Utc>) -> DateTime<Utc> {
    now + chrono::Duration::days(1)
}

/// Why the clocks cannot be believed: stages would come in a storm, or not at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClockTrouble {
    /// More than any two zones can be.
    #[error(
        "this machine's clock says {host}, and the database's says {database}: they are more than \
         {CLOCKS_APART_HOURS} hours apart; set the one that is wrong"
    )]
    Apart { host: DateTime<Utc>, database: DateTime<Utc> },
    /// One of the two was wrong, and leases, waits and the log are in its terms.
    #[error(
        "the database's clock says {database}, and the last event of the contact log is of {last_event}: the clock \
         went back. Set it; or, if it was wrong then and is right now, begin once with `--accept-clock --reason …`"
    )]
    Back { database: DateTime<Utc>, last_event: DateTime<Utc> },
}

/// Local times of different zones taken for each other differ by 26 hours at most.
const CLOCKS_APART_HOURS: i64 = 26;
/// A clock is set right by less now and then.
const CLOCK_BACK_SECONDS: i64 = 60;

/// What is wrong with the clocks of this machine and the database, after the last event of the log.
#[must_use]
pub fn clock_trouble(
    host: DateTime<Utc>,
    database: DateTime<Utc>,
    last_event: Option<DateTime<Utc>>,
) -> Option<ClockTrouble> {
    if (host - database).abs() > chrono::Duration::hours(CLOCKS_APART_HOURS) {
        return Some(ClockTrouble::Apart { host, database });
    }
    let last_event = last_event?;
    let back = last_event - database > chrono::Duration::seconds(CLOCK_BACK_SECONDS);
    back.then_some(ClockTrouble::Back { database, last_event })
}

/// A local time as a moment. One that the clocks skip is taken an hour later; of one that comes twice, the first.
pub(super) fn instant(zone: Tz, day: NaiveDate, time: NaiveTime) -> DateTime<Utc> {
    let local = day.and_time(time);
    zone.from_local_datetime(&local)
        .earliest()
        .or_else(|| zone.from_local_datetime(&(local + chrono::Duration::hours(1))).earliest())
        .map_or_else(|| local.and_utc(), |at| at.to_utc())
}
