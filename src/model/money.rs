//! Money: exact decimals, always with their currency. Currencies are never added to each other.

use std::collections::BTreeMap;
use std::fmt;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::ParseError;

/// A currency of ISO 4217, as its three letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency {
    letters: [u8; 3],
    decimals: u8,
}

impl Currency {
    /// # Errors
    /// When the text is not the upper-case code of a currency in ISO 4217.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let wrong = || ParseError::new(text, "an ISO 4217 currency code such as EUR");
        let known = iso_currency::Currency::from_code(text).ok_or_else(wrong)?;
        let letters: [u8; 3] = text.as_bytes().try_into().map_err(|_| wrong())?;
        let decimals = known.exponent().and_then(|digits| u8::try_from(digits).ok()).unwrap_or(2);
        Ok(Self { letters, decimals })
    }

    /// The three letters.
    #[must_use]
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.letters).unwrap_or("???")
    }

    /// Digits after the decimal sign: 2 for EUR, 0 for JPY (ISO 4217, "minor unit").
    #[must_use]
    pub fn decimals(&self) -> u32 {
        u32::from(self.decimals)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl TryFrom<String> for Currency {
    type Error = ParseError;
    fn try_from(text: String) -> Result<Self, ParseError> {
        Self::parse(&text)
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> String {
        currency.code().to_owned()
    }
}

/// An amount in one currency. May be negative (a credit).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    /// Exact; serialised as a string.
    pub amount: Decimal,
    /// Its currency.
    pub currency: Currency,
}

impl Money {
    /// An amount in a currency.
    #[must_use]
    pub fn new(amount: Decimal, currency: Currency) -> Self {
        Self { amount, currency }
    }
}

impl fmt::Display for Money {
    /// The one text form of logs and the command line: `1234.50 EUR`, with the currency's own number of decimals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", plain(self.amount, self.currency), self.currency)
    }
}

/// The amount with at least the decimals of its currency and no more than it has: `545.47`, `100.00`, `1600`.
fn plain(amount: Decimal, currency: Currency) -> Decimal {
    let mut amount = amount.normalize();
    if amount.scale() < currency.decimals() {
        amount.rescale(currency.decimals());
    }
    amount
}

/// Sums per currency. There is no way to get one number out of two currencies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Amounts(BTreeMap<Currency, Decimal>);

impl Amounts {
    /// Adds to the sum of that currency.
    pub fn add(&mut self, money: Money) {
        *self.0.entry(money.currency).or_default() += money.amount;
    }

    /// Adds every sum of `other` to the one of the same currency.
    pub fn add_all(&mut self, other: &Self) {
        for money in other.iter() {
            self.add(money);
        }
    }

    /// The sum in that currency, zero when there is none.
    #[must_use]
    pub fn get(&self, currency: Currency) -> Decimal {
        self.0.get(&currency).copied().unwrap_or_default()
    }

    /// The sum in that currency; none when nothing was ever added in it.
    #[must_use]
    pub fn row(&self, currency: Currency) -> Option<Decimal> {
        self.0.get(&currency).copied()
    }

    /// The sums, in the order of their currency codes.
    pub fn iter(&self) -> impl Iterator<Item = Money> + '_ {
        self.0.iter().map(|(currency, amount)| Money::new(*amount, *currency))
    }

    /// Whether nothing was ever added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Money> for Amounts {
    fn from_iter<I: IntoIterator<Item = Money>>(iter: I) -> Self {
        let mut sums = Self::default();
        for money in iter {
            sums.add(money);
        }
        sums
    }
}

impl fmt::Display for Amounts {
    /// `545.47 EUR, 120.00 PLN`, or `nothing`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing");
        }
        for (n, money) in self.iter().enumerate() {
            if n > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{money}")?;
        }
        Ok(())
    }
}

impl Serialize for Amounts {
    /// An object of strings: `{"EUR":"545.47"}`.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(c, a)| (c.code(), plain(*a, *c).to_string())))
    }
}

impl<'de> Deserialize<'de> for Amounts {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::<Currency, Decimal>::deserialize(deserializer).map(Self)
    }
}
