//! What law and practice allow towards natural persons, and where the clocks of a country stand. Data with its source:
//! the policy may be stricter, never more lenient.

use chrono::NaiveTime;
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::{ContactCap, Country, PartyKind, Tone};

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

    /// Whether there is no moment in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.from >= self.to
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
    /// Where its clocks do not all show the same: the zones furthest west and furthest east. The hours of a debtor whose
    /// own zone nobody knows are those that it is in both.
    pub furthest_zones: &'static [Tz],
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
        furthest_zones: &[],
        source: "our own rule for natural persons, the strictest of the countries' laws",
    },
    ContactLaw {
        country: Some(Country::RU),
        // Messages; of calls 1 a day, 2 a week and 8 a month, which the rule above keeps for every contact.
        caps: &[cap(2, 1), cap(4, 7), cap(16, 30)],
        hours: Some(((8, 0), (22, 0))),
        furthest_zones: &[Tz::Europe__Kaliningrad, Tz::Asia__Kamchatka],
        source: "Federal Law 230-FZ, article 7",
    },
    ContactLaw {
        country: Some(Country::IT),
        caps: &[],
        // Monday to Friday; the code speaks of calls.
        hours: Some(((8, 30), (21, 0))),
        furthest_zones: &[],
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

    /// The hours that it must be everywhere in the country before a debtor is contacted whose own zone nobody knows.
    pub fn hours_everywhere(&self) -> impl Iterator<Item = (Tz, Hours)> {
        self.hours().into_iter().flat_map(|hours| self.furthest_zones.iter().map(move |zone| (*zone, hours)))
    }
}

/// Whether a letter is a claim under the Pre-Action Protocol for Debt Claims (England and Wales, in force since 1 October
/// 2017): a formal one to a natural person or a sole trader in Great Britain, of which the ledger does not tell the
/// parts. A debtor of unknown kind may be a natural person.
#[must_use]
pub fn is_protocol_claim(tone: Tone, country: Option<Country>, kind: PartyKind) -> bool {
    tone == Tone::Formal
        && country == Some(Country::GB)
        && matches!(kind, PartyKind::Consumer | PartyKind::SoleTrader | PartyKind::Unknown)
}

/// Days from its date in which a claim under that Protocol may be answered (paragraph 4.1), and after which it may still
/// be posted (paragraph 3.2).
pub const PROTOCOL_DAYS_TO_REPLY: u64 = 30;
pub const PROTOCOL_DAYS_TO_POST: u32 = 1;

/// What whoever posts a letter in that tone has to do, so that it counts as what it is and can be proved.
#[must_use]
pub fn how_to_post(tone: Tone, country: Option<Country>, protocol_claim: bool) -> &'static str {
    if tone < Tone::Formal {
        return "print and post the letter";
    }
    if protocol_claim {
        return "print, sign and post it first class on the day that it bears or the next, with the Information Sheet, the \
                Reply Form and the Financial Statement of the Pre-Action Protocol for Debt Claims; keep a copy and the \
                certificate of posting";
    }
    match country {
        // Civil Code, articles 1219 and 1335.
        Some(Country::IT) => {
            "print, sign and send it by PEC, from your PEC mailbox to the debtor's, or by raccomandata A/R; keep the \
             ricevuta di accettazione and that of avvenuta consegna, or the receipt and the avviso di ricevimento"
        }
        // Civil Code, article 61.
        Some(Country::PL) => {
            "print, sign and post it as list polecony za potwierdzeniem odbioru; keep a copy, the proof of posting and \
             the confirmation of receipt"
        }
        // Code of Arbitration Procedure, article 4, part 5.
        Some(Country::RU) => {
            "print, sign and post it as заказное письмо с уведомлением о вручении and with опись вложения, with copies of \
             the documents and of the authority of whoever signs; keep a copy, the receipt with its track number, the \
             опись and the уведомление"
        }
        Some(Country::GB) => "print, sign and post it first class; keep a copy and the certificate of posting",
        _ => {
            "print, sign and post it by registered mail with advice of delivery; keep a copy, the receipt and the advice"
        }
    }
}

/// The zone of a country's clocks, where we know one.
#[must_use]
pub fn zone_of(country: Country) -> Option<Tz> {
    ZONES.iter().find(|(known, _)| *known == country).map(|(_, zone)| *zone)
}
