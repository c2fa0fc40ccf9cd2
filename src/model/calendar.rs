//! Which days count: sending days, working days, and the effective due date.

use chrono::{Datelike, Days, NaiveDate, Weekday};
use serde::{Deserialize, Serialize};

use super::Country;

/// A set of days of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weekdays(u8);

impl Weekdays {
    /// Monday to Friday.
    pub const MONDAY_TO_FRIDAY: Self = Self(0b001_1111);
    /// Every day.
    pub const EVERY_DAY: Self = Self(0b111_1111);

    /// Whether that day is in the set.
    #[must_use]
    pub fn contains(self, day: Weekday) -> bool {
        self.0 & (1 << day.num_days_from_monday()) != 0
    }
}

impl FromIterator<Weekday> for Weekdays {
    fn from_iter<I: IntoIterator<Item = Weekday>>(days: I) -> Self {
        Self(days.into_iter().fold(0, |set, day| set | 1 << day.num_days_from_monday()))
    }
}

/// Whether a letter may go out on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendingDay {
    Yes,
    No,
    /// No calendar covers that year for that country.
    CalendarMissing,
}

/// The calendars of every country. Until holiday files exist, one working week serves them all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calendars {
    working_days: Weekdays,
}

impl Calendars {
    /// The same working week in every country.
    #[must_use]
    pub fn weekly(working_days: Weekdays) -> Self {
        Self { working_days }
    }

    /// Whether a letter may go out to (or from) that country on that day.
    #[must_use]
    pub fn sending_day(&self, _country: Country, day: NaiveDate) -> SendingDay {
        if self.is_working_day(day) { SendingDay::Yes } else { SendingDay::No }
    }

    /// The due date moved by the debtor country's rule when it falls on a non-working day. No country's rule moves it
    /// until its holiday calendar exists: a Saturday alone does not tell the next working day.
    #[must_use]
    pub fn effective_due_date(&self, _country: Option<Country>, due_date: NaiveDate) -> NaiveDate {
        due_date
    }

    /// The day itself when it is a working day, else the next one.
    #[must_use]
    pub fn roll_to_working_day(&self, day: NaiveDate) -> NaiveDate {
        let mut rolled = day;
        for _ in 0..7 {
            if self.is_working_day(rolled) {
                return rolled;
            }
            rolled = rolled + Days::new(1);
        }
        day
    }

    /// The day that many working days after `day` (itself not counted).
    #[must_use]
    pub fn add_working_days(&self, day: NaiveDate, count: u32) -> NaiveDate {
        (0..count).fold(day, |at, _| self.roll_to_working_day(at + Days::new(1)))
    }

    /// The last working day before `day`.
    #[must_use]
    pub fn previous_working_day(&self, day: NaiveDate) -> NaiveDate {
        (1..=7).map(|back| day - Days::new(back)).find(|at| self.is_working_day(*at)).unwrap_or(day - Days::new(1))
    }

    fn is_working_day(&self, day: NaiveDate) -> bool {
        self.working_days.contains(day.weekday())
    }
}
