//! What a letter is about, as data: the only thing a template can see.

use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{Currency, DueEarly, ItemKind, Language, PartyKind, Requisites, StageName, Tone};

/// One printed line: an item with what is open, what credits cover, and what is left to pay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LetterRow {
    pub kind: ItemKind,
    pub document_no: String,
    /// `2` of `4`, when the document has parts.
    pub instalment_no: Option<u32>,
    pub instalment_count: Option<u32>,
    pub issue_date: NaiveDate,
    /// The contractual due date, not the effective one; of an instalment the day that was agreed for it.
    pub due_date: NaiveDate,
    pub days_past_due: i64,
    /// The amount of the document.
    pub amount: Decimal,
    /// Open before credits.
    pub open: Decimal,
    /// Covered by credit notes and unallocated payments; zero or positive.
    pub credited: Decimal,
    /// The credits that make up `credited`, by date, then by number; empty where nobody knows which they are.
    #[serde(default)]
    pub credits: Vec<AppliedCredit>,
    /// `open - credited`.
    pub to_pay: Decimal,
    pub payment_reference: Option<String>,
    pub customer_reference: Option<String>,
    pub contract_no: Option<String>,
    pub pay_url: Option<String>,
    pub document_url: Option<String>,
    /// It is an instalment of a plan that was agreed on that day.
    pub plan_agreed_on: Option<NaiveDate>,
    /// It is demanded before that day, because an earlier instalment was missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_early: Option<DueEarly>,
    /// The day of the last accepted notice that named this very item.
    pub reminded_on: Option<NaiveDate>,
}

/// A credit note or payment of which something covers a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppliedCredit {
    pub kind: ItemKind,
    pub document_no: String,
    pub issue_date: NaiveDate,
    /// What covers this row.
    pub amount: Decimal,
    /// What is open on it, as a positive amount.
    pub whole: Decimal,
}

/// Where a table of demands is paid to.
pub type Payee = Requisites;

/// One table of a letter: one currency, one payee. `open - credited = to_pay`, and each total is the sum of its rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Demand {
    pub currency: Currency,
    pub payee: Payee,
    /// Every demanded row, oldest due date first.
    pub rows: Vec<LetterRow>,
    pub open: Decimal,
    pub credited: Decimal,
    pub to_pay: Decimal,
}

/// One letter to one account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is true or not, independently of the others")]
pub struct Letter {
    pub language: Language,
    pub stage: StageName,
    pub tone: Tone,
    /// The folder under `templates/`.
    pub template: String,

    pub creditor_name: String,
    pub creditor_address: Vec<String>,
    pub creditor_tax_ids: Vec<(String, String)>,
    pub creditor_email: String,
    pub creditor_phone: Option<String>,
    pub contact_person: Option<String>,

    pub account_id: String,
    pub account_name: String,
    pub account_address: Option<String>,
    pub account_tax_id: Option<String>,
    pub party_kind: PartyKind,
    /// A claim under the Pre-Action Protocol for Debt Claims ([`super::is_protocol_claim`]).
    #[serde(default)]
    pub protocol_claim: bool,
    /// The operator's own words for this contact; else the template's default is used.
    pub salutation: Option<String>,

    /// The day printed on the letter: its planned send day.
    pub date: NaiveDate,
    /// Payments are known up to this day.
    pub payments_as_of: NaiveDate,
    /// The deadline that this letter names.
    pub respond_by: Option<NaiveDate>,
    /// The day of the last accepted notice that named every one of the demanded items.
    pub reminded_on: Option<NaiveDate>,
    /// The next enabled stage after this one: the only consequence a letter may name.
    pub next_tone: Option<Tone>,
    /// The account has been written to in a firmer tone already: the letter speaks of its new items neutrally.
    pub escalated: bool,
    /// Rows printed; with more, the oldest are printed and all attached as CSV. None prints all: what a person posts or
    /// reads out has no file beside it.
    pub rows_in_letter: Option<u32>,
    /// It goes out on paper, to which no file can be attached.
    #[serde(default)]
    pub by_post: bool,
    /// It is the e-mail that repeats a posted letter, and says so before the words of the letter.
    #[serde(default)]
    pub copy_of_post: bool,

    pub demands: Vec<Demand>,
    /// Overdue, but not demanded by this letter: "also open".
    pub information: Vec<InformationRow>,
}

/// An item that a letter lists without demanding it.
pub type InformationRow = (Currency, LetterRow);
