//! Who is owed: our own legal entities.

use std::collections::BTreeMap;

use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::{Country, CreditorId, Currency, DisplayName, EmailAddress, Language, ParseError};

/// Where to pay: what a debtor types into his bank's form.
///
/// As JSON: `{"holder": …, "iban": … or "number": …, "bic": …, "bank": …, "more": [["БИК", "044525225"]]}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "RequisitesText", into = "RequisitesText")]
pub struct Requisites {
    /// Whose account it is.
    pub holder: String,
    pub account: BankAccount,
    pub bic: Option<String>,
    pub bank: Option<String>,
    /// Further lines as the country needs them, printed as they are: `("БИК", "044525225")`.
    pub more: Vec<(String, String)>,
}

/// A number that money is sent to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BankAccount {
    /// Valid by ISO 13616: length of its country and check digits. No spaces, upper case.
    Iban(String),
    /// A national number, such as a Russian 20-digit account or `12-34-56 12345678`.
    Number(String),
}

/// The text form of `Requisites`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RequisitesText {
    holder: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iban: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    number: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bic: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bank: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    more: Vec<(String, String)>,
}

impl TryFrom<RequisitesText> for Requisites {
    type Error = ParseError;

    fn try_from(text: RequisitesText) -> Result<Self, ParseError> {
        let account = match (text.iban, text.number) {
            (Some(iban), None) => BankAccount::parse_iban(&iban)?,
            (None, Some(number)) if !number.trim().is_empty() => BankAccount::Number(number),
            _ => return Err(ParseError::new(&text.holder, "the holder of exactly one iban or number")),
        };
        Ok(Self { holder: text.holder, account, bic: text.bic, bank: text.bank, more: text.more })
    }
}

impl From<Requisites> for RequisitesText {
    fn from(requisites: Requisites) -> Self {
        let (iban, number) = match requisites.account {
            BankAccount::Iban(iban) => (Some(iban), None),
            BankAccount::Number(number) => (None, Some(number)),
        };
        Self {
            holder: requisites.holder,
            iban,
            number,
            bic: requisites.bic,
            bank: requisites.bank,
            more: requisites.more,
        }
    }
}

/// Lengths of the IBAN per country (ISO 13616 registry), for the countries that trade with ours; another country's
/// number is accepted between 15 and 34 characters when its check digits hold.
const IBAN_LENGTHS: [(&str, usize); 40] = [
    ("AD", 24),
    ("AT", 20),
    ("BE", 16),
    ("BG", 22),
    ("CH", 21),
    ("CY", 28),
    ("CZ", 24),
    ("DE", 22),
    ("DK", 18),
    ("EE", 20),
    ("ES", 24),
    ("FI", 18),
    ("FR", 27),
    ("GB", 22),
    ("GI", 23),
    ("GR", 27),
    ("HR", 21),
    ("HU", 28),
    ("IE", 22),
    ("IS", 26),
    ("IT", 27),
    ("LI", 21),
    ("LT", 20),
    ("LU", 20),
    ("LV", 21),
    ("MC", 27),
    ("MD", 24),
    ("ME", 22),
    ("MK", 19),
    ("MT", 31),
    ("NL", 18),
    ("NO", 15),
    ("PL", 28),
    ("PT", 25),
    ("RO", 24),
    ("RS", 22),
    ("SE", 24),
    ("SI", 19),
    ("SK", 24),
    ("SM", 27),
];

impl BankAccount {
    /// The number, whatever kind it is of.
    #[must_use]
    pub fn number(&self) -> &str {
        match self {
            Self::Iban(number) | Self::Number(number) => number,
        }
    }

    /// An IBAN as people write it, with or without spaces.
    ///
    /// # Errors
    /// When the country is unknown to ISO 3166, the length is not the country's, or the check digits (ISO 7064 mod
    /// 97-10) do not hold.
    pub fn parse_iban(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError::new(text, "a valid IBAN");
        let iban: String = text.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_uppercase();
        let head_fits = iban.is_ascii()
            && iban.len() >= 5
            && iban[..2].bytes().all(|b| b.is_ascii_uppercase())
            && iban[2..4].bytes().all(|b| b.is_ascii_digit())
            && iban.bytes().all(|b| b.is_ascii_alphanumeric());
        if !head_fits || isocountry(&iban[..2]).is_none() {
            return Err(wrong());
        }
        let length_fits = match IBAN_LENGTHS.iter().find(|(country, _)| *country == &iban[..2]) {
            Some((_, length)) => iban.len() == *length,
            None => (15..=34).contains(&iban.len()),
        };
        let remainder = iban[4..].bytes().chain(iban[..4].bytes()).fold(0_u32, |rest, byte| {
            let value = char::from(byte).to_digit(36).unwrap_or(0);
            if value < 10 { (rest * 10 + value) % 97 } else { (rest * 100 + value) % 97 }
        });
        if length_fits && remainder == 1 { Ok(Self::Iban(iban)) } else { Err(wrong()) }
    }

    /// The number as stored: an IBAN without spaces.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Iban(text) | Self::Number(text) => text,
        }
    }
}

/// `XX` and the other user-assigned codes of ISO 3166-1 are no countries.
fn isocountry(code: &str) -> Option<()> {
    let user_assigned =
        code == "AA" || code == "ZZ" || code.starts_with('X') && code != "XK" || ("QM"..="QZ").contains(&code);
    (!user_assigned).then_some(())
}

/// One of our legal entities that is owed money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Creditor {
    pub id: CreditorId,
    pub name: String,
    /// Lines of the postal address, printed in the letter's foot.
    pub address: Vec<String>,
    pub country: Country,
    /// Its business dates are days in this zone.
    pub time_zone: Tz,
    /// The language of a letter when neither recipient, account nor country decides.
    pub language: Language,
    /// Printed as they are: `("P. IVA", "07643520567")`.
    pub tax_ids: Vec<(String, String)>,
    /// What a recipient sees as the sender.
    pub sender_name: DisplayName,
    pub sender: EmailAddress,
    pub reply_to: EmailAddress,
    pub phone: Option<String>,
    /// The person a debtor may ask.
    pub contact_person: Option<String>,
    pub bank_accounts: BTreeMap<Currency, Requisites>,
}
