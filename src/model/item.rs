//! What is owed: one due date of one document.

use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{Currency, ItemId, Money, PartOfPlan, Requisites};

/// What an item is. Credit notes and payments carry negative amounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemKind {
    Invoice,
    DebitNote,
    Fee,
    CreditNote,
    /// Received but not yet allocated to an invoice.
    Payment,
}

impl ItemKind {
    /// Every kind, in the order of the contract.
    pub const ALL: [Self; 5] = [Self::Invoice, Self::DebitNote, Self::Fee, Self::CreditNote, Self::Payment];

    /// The one text form.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invoice => "invoice",
            Self::DebitNote => "debit_note",
            Self::Fee => "fee",
            Self::CreditNote => "credit_note",
            Self::Payment => "payment",
        }
    }

    /// The kind of that text form, if there is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Whether its amounts are negative.
    #[must_use]
    pub fn is_credit(self) -> bool {
        matches!(self, Self::CreditNote | Self::Payment)
    }
}

/// Which part of a document this item is: 2 of 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instalment {
    pub number: u32,
    pub count: u32,
}

/// A dispute: a hold on an item with a cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispute {
    /// None when only the reason is known: then it stood on every day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<NaiveDate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Dispute {
    /// Whether it stood at the end of that day.
    #[must_use]
    pub fn stands_on(&self, day: NaiveDate) -> bool {
        self.since.is_none_or(|since| since <= day)
    }
}

/// One due date of one document, as the ledger describes it on the day of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    pub id: ItemId,
    pub kind: ItemKind,
    pub document_no: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instalment: Option<Instalment>,
    pub issue_date: NaiveDate,
    /// Missing only on credits; missing on a debit is bad data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_date: Option<NaiveDate>,
    pub currency: Currency,
    pub amount: Decimal,
    /// What is still open; negative on credits.
    pub open_amount: Decimal,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_off_on: Option<NaiveDate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispute: Option<Dispute>,
    /// Last day of the hold; a reason without a day holds until it is cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_until: Option<NaiveDate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_reference: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_reference: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract_no: Option<String>,
    /// The item that a credit note cancels: netted there first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refers_to: Option<ItemId>,
    /// Set when the claim was assigned, to a factor for example: not ours to demand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payee: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pay_url: Option<String>,
    /// The day on which we collect it ourselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct_debit_on: Option<NaiveDate>,
    /// Where this item is paid to, instead of the account's or the creditor's account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requisites: Option<Requisites>,
    /// It vanished from the ledger while open and came back changed or late: a person has to look first.
    pub withdrawn: bool,
    /// The row breaks the contract; says how. Such an item is quarantined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad_data: Option<String>,
    /// It is an instalment of a plan of ours and stands for the items of that plan; no row of the ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_of_plan: Option<PartOfPlan>,
}

impl Item {
    /// Whether its row can be believed and is ours.
    pub(super) fn is_sound(&self) -> bool {
        (!self.withdrawn || self.kind.is_credit())
            && self.bad_data.is_none()
            && self.payee.is_none()
            && self.written_off_on.is_none()
    }

    /// What is still open.
    #[must_use]
    pub fn open(&self) -> Money {
        Money::new(self.open_amount, self.currency)
    }
}
