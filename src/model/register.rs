//! What people record about an account: holds, disputes, which are holds with a cause, hand-overs and calls.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use super::codes::codes;
use super::{AccountId, ItemId};

codes! {
    /// Why something is unpaid, as far as a person knows.
    Cause {
        NotReceived = "not_received", "The goods, the service or the invoice did not arrive.";
        CashProblem = "cash_problem", "The debtor cannot pay for now.";
        WrongDetails = "wrong_details", "The invoice names a wrong amount, order, address or tax id.";
        Dissatisfied = "dissatisfied", "The debtor is not satisfied with what was delivered.";
        Dispute = "dispute", "The debtor disputes the claim itself.";
        SaysPaid = "says_paid", "The debtor says that it is paid.";
        Withholding = "withholding", "The debtor keeps a part back, for tax or as security.";
        Insolvency = "insolvency", "Insolvency proceedings are open or announced.";
        Represented = "represented", "Somebody else speaks for the debtor.";
        WrongParty = "wrong_party", "It is owed by somebody else.";
        Deceased = "deceased", "The debtor has died.";
        Unwilling = "unwilling", "The debtor could pay and does not want to.";
        Unknown = "unknown", "Nobody knows yet.";
    }
}

codes! {
    /// What came of a call. A promise or a dispute is recorded by its own command as well.
    CallOutcome {
        NoAnswer = "no_answer", "Nobody answered.";
        NotReceived = "not_received", "The goods, the service or the invoice did not arrive.";
        Promise = "promise", "The debtor promised to pay.";
        Dispute = "dispute", "The debtor disputes the claim.";
        WrongDetails = "wrong_details", "The invoice names a wrong amount, order, address or tax id.";
        WantsPlan = "wants_plan", "The debtor asks to pay in instalments.";
        Refuses = "refuses", "The debtor does not want to pay.";
        SaysPaid = "says_paid", "The debtor says that it is paid.";
        Other = "other", "Something else; the note says what.";
    }
}

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
    /// Makes a hold on an item a dispute.
    #[serde(default)]
    pub cause: Option<Cause>,
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

/// The account was given to somebody else, who pursues it: no automatic contact any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    pub to: String,
    pub reason: String,
    /// The business date on which it was recorded.
    pub since: NaiveDate,
}
