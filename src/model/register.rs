//! What people record about an account: holds now; promises, plans and causes have their place here.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use super::{AccountId, ItemId};

/// What a hold stops.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldTarget {
    Account(AccountId),
    Item(ItemId),
}

/// A stop with a reason, recorded by a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub target: HoldTarget,
    /// Last day; without one it holds until it is released.
    pub until: Option<NaiveDate>,
    pub reason: String,
    /// The business date on which it was recorded.
    pub since: NaiveDate,
}

impl Hold {
    /// Whether it stops anything on that day: the last day is still held.
    #[must_use]
    pub fn covers(&self, day: NaiveDate) -> bool {
        self.until.is_none_or(|last| day <= last)
    }
}
