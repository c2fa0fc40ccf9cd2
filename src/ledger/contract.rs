//! The ledger contract, version 1: the relations that the operator provides, and the proof that they are as promised.

mod check;
mod item;
mod queries;
mod rows;
mod shape;

pub use check::{CheckOptions, ContractFinding, ContractReport, Depth, Severity, check};
pub use item::{RawItem, row_problem};
pub(super) use item::{Rule, problem};
pub(in crate::ledger) use item::{
    amount_sql, date_sql, hold_reason_sql, plain_debit_sql, requisites, unreadable_date, unreadable_date_sql,
    unreadable_freshness_sql, unreadable_hold_sql,
};

/// The types that a column may have: the contract names one, and its relatives are cast to it without loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Text,
    Integer,
    Numeric,
    Date,
    Timestamp,
    Boolean,
    Json,
}

impl Family {
    /// The type of the contract, as PostgreSQL calls it.
    #[must_use]
    pub fn sql_type(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "integer",
            Self::Numeric => "numeric",
            Self::Date => "date",
            Self::Timestamp => "timestamp with time zone",
            Self::Boolean => "boolean",
            Self::Json => "jsonb",
        }
    }
}

/// One column of a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    pub family: Family,
    /// Never NULL.
    pub required: bool,
}

/// One relation of schema `ledger`.
#[derive(Debug, Clone, Copy)]
pub struct Relation {
    /// Without the schema.
    pub name: &'static str,
    pub columns: &'static [Column],
    /// Whether it must exist.
    pub required: bool,
}

const fn required(name: &'static str, family: Family) -> Column {
    Column { name, family, required: true }
}

const fn optional(name: &'static str, family: Family) -> Column {
    Column { name, family, required: false }
}

use Family::{Boolean, Date, Integer, Json, Numeric, Text, Timestamp};

/// The debtors.
pub const ACCOUNT: Relation = Relation {
    name: "account",
    required: true,
    columns: &[
        required("account_id", Text),
        required("creditor", Text),
        required("name", Text),
        required("party_kind", Text),
        optional("country", Text),
        optional("language", Text),
        optional("time_zone", Text),
        optional("tax_id", Text),
        optional("postal_address", Text),
        optional("party_id", Text),
        optional("parent_id", Text),
        optional("owner", Text),
        optional("segment", Text),
        optional("ladder", Text),
        optional("requisites", Json),
        optional("hold_until", Date),
        optional("hold_reason", Text),
    ],
};

/// The people and mailboxes at them.
pub const CONTACT: Relation = Relation {
    name: "contact",
    required: true,
    columns: &[
        required("contact_id", Text),
        required("account_id", Text),
        required("role", Text),
        optional("name", Text),
        optional("salutation", Text),
        optional("email", Text),
        optional("phone", Text),
        optional("language", Text),
        required("is_primary", Boolean),
        required("no_email", Boolean),
        optional("email_kind", Text),
    ],
};

/// What is owed.
pub const ITEM: Relation = Relation {
    name: "item",
    required: true,
    columns: &[
        required("item_id", Text),
        required("account_id", Text),
        required("kind", Text),
        required("document_no", Text),
        optional("instalment_no", Integer),
        optional("instalment_count", Integer),
        required("issue_date", Date),
        // Null only for credits.
        optional("due_date", Date),
        required("currency", Text),
        required("amount", Numeric),
        required("open_amount", Numeric),
        optional("settled_on", Date),
        optional("written_off_on", Date),
        optional("disputed_since", Date),
        optional("dispute_reason", Text),
        optional("hold_until", Date),
        optional("hold_reason", Text),
        optional("payment_reference", Text),
        optional("customer_reference", Text),
        optional("contract_no", Text),
        optional("refers_to", Text),
        optional("payee", Text),
        optional("document_path", Text),
        optional("document_url", Text),
        optional("pay_url", Text),
        optional("direct_debit_on", Date),
        optional("requisites", Json),
    ],
};

/// Up to when invoices and payments were imported.
pub const FRESHNESS: Relation = Relation {
    name: "freshness",
    required: true,
    columns: &[
        required("source", Text),
        optional("creditor", Text),
        required("invoices_as_of", Timestamp),
        required("payments_as_of", Timestamp),
    ],
};

/// Which part was paid when.
pub const SETTLEMENT: Relation = Relation {
    name: "settlement",
    required: false,
    columns: &[required("item_id", Text), required("booked_on", Date), required("amount", Numeric)],
};

/// Every relation of the contract, in the order of the documentation.
pub const RELATIONS: [&Relation; 5] = [&ACCOUNT, &CONTACT, &ITEM, &FRESHNESS, &SETTLEMENT];
