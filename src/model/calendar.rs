//! Which days count: working days and quiet periods of each country, sending days, effective due dates, deadlines.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{Datelike, Days, NaiveDate, Weekday};
use serde::{Deserialize, Serialize};

use super::{Country, ParseError, Tone};

/// The days between which a date is taken for one: no invoice is older, and nobody waits longer.
pub const FIRST_DAY: NaiveDate = day(1900, 1, 1);
pub const LAST_DAY: NaiveDate = day(2200, 12, 31);

const fn day(year: i32, month: u32, day: u32) -> NaiveDate {
    match NaiveDate::from_ymd_opt(year, month, day) {
        Some(day) => day,
        None => NaiveDate::MIN,
    }
}

/// A day that somebody wrote: `2026-05-31`.
///
/// # Errors
/// When it is none, or lies before [`FIRST_DAY`] or after [`LAST_DAY`].
pub fn parse_day(text: &str) -> Result<NaiveDate, ParseError> {
    let day = text.parse().ok().filter(|day| (FIRST_DAY..=LAST_DAY).contains(day));
    day.ok_or_else(|| ParseError::new(text, "a day such as 2026-05-31, between 1900-01-01 and 2200-12-31"))
}

/// The day so many days later; the last one that can be written where there is no such day.
#[must_use]
pub fn days_after(day: NaiveDate, days: impl Into<u64>) -> NaiveDate {
    day.checked_add_days(Days::new(days.into())).unwrap_or(NaiveDate::MAX)
}

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

/// What a calendar says about a day that differs from its weekday.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DayKind {
    /// Not a working day.
    Holiday,
    /// A day of the weekend that is worked.
    Working,
}

impl DayKind {
    /// The kind of that text form, if there is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "holiday" => Some(Self::Holiday),
            "working" => Some(Self::Working),
            _ => None,
        }
    }
}

/// The working days of one country.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calendar {
    /// As the policy names it: `gb-eng`.
    pub name: String,
    /// The first and the last year that it knows; none when it holds for every year.
    pub years: Option<(i32, i32)>,
    /// Days of the week that are worked unless a row says otherwise.
    pub week: Weekdays,
    pub days: BTreeMap<NaiveDate, DayKind>,
}

impl Calendar {
    /// The same week all year long, in every year.
    #[must_use]
    pub fn weekly(week: Weekdays) -> Self {
        Self { name: "weekdays".to_owned(), years: None, week, days: BTreeMap::new() }
    }

    /// Whether that day is worked; none when the calendar does not cover its year.
    #[must_use]
    pub fn is_working_day(&self, day: NaiveDate) -> Option<bool> {
        let covered = self.years.is_none_or(|(first, last)| (first..=last).contains(&day.year()));
        covered.then(|| self.days.get(&day).map_or(self.week.contains(day.weekday()), |kind| *kind == DayKind::Working))
    }
}

/// Nothing tells which days of a year are worked in a country. Whatever depends on it is left undone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct CalendarMissing {
    pub country: Country,
    pub year: i32,
    /// The calendar that the country uses and that does not cover the year; none when it uses none.
    pub calendar: Option<String>,
}

impl std::fmt::Display for CalendarMissing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { country, year, calendar } = self;
        match calendar {
            Some(name) => write!(
                f,
                "the calendar of {country} does not cover {year}: add the days of that year to calendars/{name}.csv"
            ),
            None => write!(
                f,
                "{country} has no calendar: add it to [calendars] in policy.toml, with a file in calendars/ that covers \
                 {year}, or as \"weekdays\""
            ),
        }
    }
}

/// What becomes of a due date that is not a working day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DueDateRule {
    /// It stays.
    Unmoved,
    /// The debt is due on the next working day.
    NextWorkingDay,
}

/// The same days of every year, in which nobody is pressed: no stage of tone `final` or later, no deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuietPeriod {
    pub country: Country,
    /// Month and day of its first day.
    pub from: (u32, u32),
    /// Month and day of its last day; before `from` when it lasts into the next year.
    pub to: (u32, u32),
}

impl QuietPeriod {
    /// Whether that day lies in it, in whichever year.
    #[must_use]
    pub fn covers(&self, day: NaiveDate) -> bool {
        let at = (day.month(), day.day());
        if self.from <= self.to { self.from <= at && at <= self.to } else { self.from <= at || at <= self.to }
    }
}

/// How far a search for a day looks: no country rests longer.
const SEARCH_DAYS: u64 = 60;

/// The days of every country that matters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calendars {
    /// Days of the week on which the operator lets letters go out at all.
    pub send_days: Weekdays,
    pub by_country: BTreeMap<Country, Arc<Calendar>>,
    /// For a country without one of its own. The configuration never sets it: there such a country has none.
    pub elsewhere: Option<Arc<Calendar>>,
    /// A country without a row: unmoved.
    pub due_dates: BTreeMap<Country, DueDateRule>,
    pub quiet: Vec<QuietPeriod>,
}

impl Calendars {
    /// The same working week in every country and year: no holidays, no quiet periods, no due date moved.
    #[must_use]
    pub fn weekly(working_days: Weekdays) -> Self {
        Self {
            send_days: Weekdays::EVERY_DAY,
            by_country: BTreeMap::new(),
            elsewhere: Some(Arc::new(Calendar::weekly(working_days))),
            due_dates: BTreeMap::new(),
            quiet: Vec::new(),
        }
    }

    /// Due dates that move where no policy says otherwise.
    #[must_use]
    pub fn usual_due_dates() -> BTreeMap<Country, DueDateRule> {
        // PL: Civil Code, article 115: a holiday or a Saturday. RU: Civil Code, article 193: a non-working day.
        [Country::PL, Country::RU].map(|country| (country, DueDateRule::NextWorkingDay)).into()
    }

    /// Quiet periods where no policy says otherwise: the summer and winter breaks in which offices are closed.
    #[must_use]
    pub fn usual_quiet_periods() -> Vec<QuietPeriod> {
        vec![
            QuietPeriod { country: Country::IT, from: (8, 5), to: (8, 25) },
            QuietPeriod { country: Country::IT, from: (12, 24), to: (1, 6) },
            QuietPeriod { country: Country::PL, from: (12, 24), to: (1, 1) },
            QuietPeriod { country: Country::RU, from: (12, 31), to: (1, 11) },
        ]
    }

    /// Whether that day is worked in that country.
    ///
    /// # Errors
    /// When no calendar says so.
    pub fn is_working_day(&self, country: Country, day: NaiveDate) -> Result<bool, CalendarMissing> {
        let calendar = self.by_country.get(&country).or(self.elsewhere.as_ref());
        calendar.and_then(|calendar| calendar.is_working_day(day)).ok_or_else(|| CalendarMissing {
            country,
            year: day.year(),
            calendar: calendar.map(|calendar| calendar.name.clone()),
        })
    }

    /// Whether a letter may go out on that day: the operator sends on it, and every one of the countries works.
    ///
    /// # Errors
    /// When no calendar says so, and the others do not rule the day out.
    pub fn is_sending_day(&self, countries: &[Country], day: NaiveDate) -> Result<bool, CalendarMissing> {
        let worked: Vec<_> = countries.iter().map(|country| self.is_working_day(*country, day)).collect();
        if !self.send_days.contains(day.weekday()) || worked.contains(&Ok(false)) {
            return Ok(false);
        }
        worked.into_iter().find(Result::is_err).unwrap_or(Ok(true))
    }

    /// Whether nothing in that tone goes out on that day: in a quiet period, from final on.
    #[must_use]
    pub fn keeps_quiet(&self, country: Country, tone: Tone, day: NaiveDate) -> bool {
        tone >= Tone::Final && self.is_quiet(country, day)
    }

    /// Whether that day lies in a quiet period of that country.
    #[must_use]
    pub fn is_quiet(&self, country: Country, day: NaiveDate) -> bool {
        self.quiet.iter().any(|period| period.country == country && period.covers(day))
    }

    /// The due date moved by the debtor country's rule when it is not a working day there.
    ///
    /// # Errors
    /// When no calendar says whether it is one.
    pub fn effective_due_date(
        &self,
        country: Option<Country>,
        due_date: NaiveDate,
    ) -> Result<NaiveDate, CalendarMissing> {
        match country.map(|country| (country, self.due_dates.get(&country))) {
            Some((country, Some(DueDateRule::NextWorkingDay))) => self.first_working_day(country, due_date),
            _ => Ok(due_date),
        }
    }

    /// A deadline: the day itself when it is a working day outside every quiet period of the country, else the next
    /// such day.
    ///
    /// # Errors
    /// When no calendar says which day that is.
    pub fn deadline(&self, country: Country, day: NaiveDate) -> Result<NaiveDate, CalendarMissing> {
        first_day(day, |at| Ok(!self.is_quiet(country, at) && self.is_working_day(country, at)?))
    }

    /// The day itself when it is a working day, else the next one.
    ///
    /// # Errors
    /// When no calendar says which day that is.
    pub fn first_working_day(&self, country: Country, day: NaiveDate) -> Result<NaiveDate, CalendarMissing> {
        first_day(day, |at| self.is_working_day(country, at))
    }

    /// The day that many working days after `day` (itself not counted).
    ///
    /// # Errors
    /// When no calendar says which day that is.
    pub fn add_working_days(&self, country: Country, day: NaiveDate, count: u32) -> Result<NaiveDate, CalendarMissing> {
        (0..count).try_fold(day, |at, _| self.first_working_day(country, days_after(at, 1_u32)))
    }

    /// The last working day before `day`.
    ///
    /// # Errors
    /// When no calendar says which day that is.
    pub fn previous_working_day(&self, country: Country, day: NaiveDate) -> Result<NaiveDate, CalendarMissing> {
        for back in 1..=SEARCH_DAYS {
            if self.is_working_day(country, day - Days::new(back))? {
                return Ok(day - Days::new(back));
            }
        }
        Ok(day - Days::new(1))
    }
}

/// The first such day from `day` on; `day` itself when there is none in sight, as in a week without working days.
fn first_day(
    day: NaiveDate,
    is_one: impl Fn(NaiveDate) -> Result<bool, CalendarMissing>,
) -> Result<NaiveDate, CalendarMissing> {
    for ahead in 0..=SEARCH_DAYS {
        let at = days_after(day, ahead);
        if is_one(at)? {
            return Ok(at);
        }
    }
    Ok(day)
}
