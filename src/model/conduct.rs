//! What law and practice allow towards natural persons, and where the clocks of a country stand. Data with its source:
//! the policy may be stricter, never more lenient.

use chrono::NaiveTime;
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::{ContactCap, Country, PartyKind};

/// A stretch of the day, in local time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hours {
    pub from: NaiveTime,
    /// Not itself within.
    pub to: NaiveTime,
}

impl Hours {
    /// What both allow; may be empty, and then `from` is not before `to`.
    #[must_use]
    pub fn within(self, other: Self) -> Self {
        Self { from: self.from.max(other.from), to: self.to.min(other.to) }
    }
}

/// Rules of contact with natural persons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContactLaw {
    /// None: everywhere.
    pub country: Option<Country>,
    /// Every counted contact counts, whatever its channel.
    pub caps: &'static [ContactCap],
    /// Hours of working days in the debtor's zone, from and to; no letter goes out on other days.
    pub hours: Option<((u32, u32), (u32, u32))>,
    /// Where it is written.
    pub source: &'static str,
}

const fn cap(contacts: u32, days: u32) -> ContactCap {
    ContactCap { contacts, days }
}

/// Valid as of 2026.
const CONTACT_LAWS: [ContactLaw; 3] = [
    ContactLaw {
        country: None,
        caps: &[cap(1, 1), cap(2, 7), cap(8, 30)],
        hours: None,
        source: "our own rule for natural persons, the strictest of the countries' laws",
    },
    ContactLaw {
        country: Some(Country::RU),
        // Messages; of calls 1 a day, 2 a week and 8 a month, which the rule above keeps for every contact.
        caps: &[cap(2, 1), cap(4, 7), cap(16, 30)],
        hours: Some(((8, 0), (22, 0))),
        source: "Federal Law 230-FZ, article 7",
    },
    ContactLaw {
        country: Some(Country::IT),
        caps: &[],
        // Monday to Friday; the code speaks of calls.
        hours: Some(((8, 30), (21, 0))),
        source: "code of conduct of UNIREC and the consumer associations",
    },
];

/// The zone of a country's clocks, for a debtor without one of his own: of several, the zone of its capital.
const ZONES: [(Country, Tz); 6] = [
    (Country::RU, Tz::Europe__Moscow),
    (Country::PL, Tz::Europe__Warsaw),
    (Country::IT, Tz::Europe__Rome),
    (Country::GB, Tz::Europe__London),
    (Country::DE, Tz::Europe__Berlin),
    (Country::IE, Tz::Europe__Dublin),
];

impl ContactLaw {
    /// What holds for a debtor of that kind in that country; nothing for companies and public bodies. A debtor of
    /// unknown kind may be a natural person.
    pub fn of(kind: PartyKind, country: Option<Country>) -> impl Iterator<Item = &'static Self> {
        let natural = matches!(kind, PartyKind::Consumer | PartyKind::Unknown);
        CONTACT_LAWS.iter().filter(move |law| natural && (law.country.is_none() || law.country == country))
    }

    /// The hours in which it allows a contact.
    #[must_use]
    pub fn hours(&self) -> Option<Hours> {
        let ((from, from_minute), (to, to_minute)) = self.hours?;
        let from = NaiveTime::from_hms_opt(from, from_minute, 0)?;
        Some(Hours { from, to: NaiveTime::from_hms_opt(to, to_minute, 0)? })
    }
}

/// The zone of a country's clocks, where we know one.
#[must_use]
pub fn zone_of(country: Country) -> Option<Tz> {
    ZONES.iter().find(|(known, _)| *known == country).map(|(_, zone)| *zone)
}
