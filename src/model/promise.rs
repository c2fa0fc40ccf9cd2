//! A promise to pay, and what became of it. Nobody ticks it off: it follows from what was paid since.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::codes::codes;
use super::{ItemId, Money, days_after};

/// An item of a promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromisedItem {
    pub item: ItemId,
    /// What was open on it when the promise was made.
    pub open_then: Decimal,
    /// It vanished from the ledger while open, which is not a payment.
    pub vanished: bool,
}

/// The debtor's promise to pay an amount by a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    pub number: i64,
    pub amount: Money,
    /// The business date on which it was recorded.
    pub made_on: NaiveDate,
    pub by_day: NaiveDate,
    /// So many days after `by_day` we still wait.
    pub tolerance_days: u32,
    pub items: Vec<PromisedItem>,
    pub reason: String,
    /// It was taken back by a person.
    pub withdrawn: bool,
    /// What had come in by the end of its last day, once that is over: as far as the ledger tells when something was
    /// paid, and else what has come in since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid_in_time: Option<Decimal>,
}

codes! {
    /// What became of a promise.
    PromiseState {
        Withdrawn = "withdrawn", "A person took it back, or wrote off what it was about.";
        Kept = "kept", "The whole amount was paid in time.";
        Running = "running", "Its last day, with the tolerance, is not over; its items are not demanded.";
        Partly = "partly", "Its last day is over and only a part was paid by then: broken for the rest.";
        Broken = "broken", "Its last day is over and nothing was paid by then.";
    }
}

/// A promise as it stands on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    pub state: PromiseState,
    /// By how much its items went down since it was made; once its last day is over, in time.
    pub paid: Money,
}

impl Promise {
    /// The last day on which we wait for it.
    #[must_use]
    pub fn last_day(&self) -> NaiveDate {
        days_after(self.by_day, self.tolerance_days)
    }

    /// How it stands, from what is open now after all credits; an item that is not open any more was paid, unless it
    /// vanished. Whoever pays after its last day did not keep it. What is open on an item that was written off is not
    /// waited for.
    #[must_use]
    pub fn standing(
        &self,
        open: &BTreeMap<&ItemId, Decimal>,
        is_written_off: impl Fn(&ItemId) -> bool,
        today: NaiveDate,
    ) -> Standing {
        let still_open = |one: &PromisedItem| {
            let unpaid = if one.vanished { one.open_then } else { Decimal::ZERO };
            open.get(&one.item).copied().unwrap_or(unpaid)
        };
        let paid_on = |one: &PromisedItem| (one.open_then - still_open(one)).max(Decimal::ZERO);
        // What is left of its items without what was given up: no more than that can still be paid.
        let to_come = |one: &PromisedItem| {
            let given_up = if is_written_off(&one.item) { still_open(one).min(one.open_then) } else { Decimal::ZERO };
            one.open_then - given_up
        };
        let awaited = if self.items.iter().any(|one| is_written_off(&one.item)) {
            self.amount.amount.min(self.items.iter().map(to_come).sum())
        } else {
            self.amount.amount
        };
        let paid_since: Decimal = self.items.iter().map(paid_on).sum();
        let in_time = self.paid_in_time.filter(|_| today > self.last_day());
        let paid = in_time.map_or(paid_since, |in_time| in_time.min(paid_since));
        let state = if self.withdrawn || paid < self.amount.amount && awaited <= Decimal::ZERO {
            PromiseState::Withdrawn
        } else if paid >= awaited {
            PromiseState::Kept
        } else if today <= self.last_day() {
            PromiseState::Running
        } else if paid > Decimal::ZERO {
            PromiseState::Partly
        } else {
            PromiseState::Broken
        };
        Standing { state, paid: Money::new(paid, self.amount.currency) }
    }

    /// `100.00 EUR promised by 2026-05-10, 2 days of tolerance; 60.00 EUR paid in time, partly`.
    #[must_use]
    pub fn tell(&self, standing: Standing) -> String {
        let tolerance = match self.tolerance_days {
            0 => String::new(),
            1 => ", 1 day of tolerance".to_owned(),
            days => format!(", {days} days of tolerance"),
        };
        let when = match standing.state {
            PromiseState::Partly | PromiseState::Broken => "in time",
            PromiseState::Withdrawn | PromiseState::Kept | PromiseState::Running => "since",
        };
        let (paid, state) = (standing.paid, standing.state.as_str());
        format!("{} promised by {}{tolerance}; {paid} paid {when}, {state}", self.amount, self.by_day)
    }
}
