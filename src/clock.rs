//! The only place that asks the time or makes an id.

use chrono::{DateTime, Days, NaiveDate, NaiveTime, SubsecRound as _, TimeZone as _, Utc};
use chrono_tz::Tz;
use uuid::Uuid;

/// The domain clock: the machine's, or one that stands still at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    fixed: Option<DateTime<Utc>>,
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self { fixed: None }
    }

    /// A clock that stands still at that moment.
    #[must_use]
    pub fn fixed(at: DateTime<Utc>) -> Self {
        Self { fixed: Some(at) }
    }

    /// A clock that stands still at ten in the morning of that day in that zone: within every send window.
    #[must_use]
    pub fn fixed_on(day: NaiveDate, zone: Tz) -> Self {
        let ten = NaiveTime::from_hms_opt(10, 0, 0).unwrap_or_default();
        let local = zone.from_local_datetime(&day.and_time(ten)).earliest();
        Self::fixed(local.map_or_else(|| day.and_time(ten).and_utc(), |at| at.to_utc()))
    }

    /// The end of that day in that zone: the first moment of the next one.
    #[must_use]
    pub fn midnight_after(day: NaiveDate, zone: Tz) -> DateTime<Utc> {
        let next = (day + Days::new(1)).and_time(NaiveTime::MIN);
        zone.from_local_datetime(&next).earliest().map_or_else(|| next.and_utc(), |at| at.to_utc())
    }

    /// The domain time: business dates, completions, deadlines, the Date header.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.fixed.unwrap_or_else(|| self.wall())
    }

    /// Whether the domain time never passes.
    #[must_use]
    pub fn stands_still(&self) -> bool {
        self.fixed.is_some()
    }

    /// The time on the wall to the microsecond, also when the domain clock stands still: leases, SMTP and event times.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the time")]
    pub fn wall(&self) -> DateTime<Utc> {
        // The database keeps microseconds, and rounds them here and cuts them there.
        Utc::now().trunc_subsecs(6)
    }

    /// The domain date in that zone.
    #[must_use]
    pub fn today(&self, zone: Tz) -> NaiveDate {
        self.now().with_timezone(&zone).date_naive()
    }

    /// A new id, ordered by time (UUID version 7).
    #[must_use]
    pub fn new_id(&self) -> Uuid {
        Uuid::now_v7()
    }
}

/// How long this machine has run, the time it slept included: for spans that must not seem short because it slept.
#[must_use]
pub fn since_boot() -> std::time::Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map_or(std::time::Duration::MAX, Into::into)
}
