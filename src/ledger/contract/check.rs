//! `ledger check`: every finding with its id, its count and the first objects it is about.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

use super::{queries, rows, shape};

/// What the check compares the ledger with.
#[derive(Debug, Clone)]
pub struct CheckOptions {
    pub now: DateTime<Utc>,
    /// The ids of `creditors.toml`.
    pub creditors: BTreeSet<String>,
    /// The creditors' own e-mail domains, lower case: a debtor is not reached there.
    pub own_domains: BTreeSet<String>,
    /// The currencies that policy and creditors know; empty: any of ISO 4217.
    pub currencies: BTreeSet<String>,
    /// The ladders of the policy; empty: any.
    pub ladders: BTreeSet<String>,
    pub depth: Depth,
}

/// How much the check looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Every finding.
    Everything,
    /// What can stop a run or quarantines rows, and no warnings about rows: much less to read.
    WhatStopsARun,
}

/// What a finding means for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The relations are not what the contract says: no run.
    BrokenShape,
    /// These items (or all items of these accounts) are quarantined.
    BrokenRow,
    /// Worth a look.
    Warning,
}

/// A kind of finding. The number never changes its meaning.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    severity: Severity,
    id: &'static str,
    name: &'static str,
    message: &'static str,
}

macro_rules! kinds {
    ($($konst:ident = $id:literal $severity:ident $name:literal: $message:literal;)*) => {
        $(pub(super) const $konst: Kind =
            Kind { severity: Severity::$severity, id: $id, name: $name, message: $message };)*
    };
}

kinds! {
    MISSING_RELATION = "E100" BrokenShape "missing_relation": "the contract requires this relation";
    MISSING_COLUMN = "E101" BrokenShape "missing_column": "the contract has this column; a view may give NULL::type";
    WRONG_TYPE = "E102" BrokenShape "wrong_type": "cast it in the view";
    NOT_READABLE = "E103" BrokenShape "not_readable": "this role may not SELECT from it";
    NULL_IN_REQUIRED = "E104" BrokenShape "null_in_required": "a required column is NULL";
    DUPLICATE_ID = "E105" BrokenShape "duplicate_id": "an id must name one row";
    ORPHAN_ITEM = "E201" BrokenRow "orphan_item": "its account does not exist";
    MISSING_VALUE = "E202" BrokenRow "missing_value": "a required value is missing or out of range";
    UNKNOWN_KIND = "E203" BrokenRow "unknown_kind": "kind is not one of the contract";
    UNKNOWN_CURRENCY = "E204" BrokenRow "unknown_currency": "currency is not in ISO 4217";
    WRONG_SIGN = "E205" BrokenRow "wrong_sign": "debits are positive, credit notes and payments negative";
    OPEN_ABOVE_AMOUNT = "E206" BrokenRow "open_above_amount": "more is open than the amount";
    DUE_DATE_MISSING = "E207" BrokenRow "due_date_missing": "only credits may lack a due date";
    DUE_BEFORE_ISSUE = "E208" BrokenRow "due_before_issue": "due before it was issued";
    INCOMPLETE_ACCOUNT = "E209" BrokenRow "incomplete_account": "creditor, name or party_kind is missing";
    UNKNOWN_PARTY_KIND = "E210" BrokenRow "unknown_party_kind": "party_kind is not one of the contract";
    UNREADABLE_DATE = "E211" BrokenRow "unreadable_date": "a date before 1900 or after 2200; only a hold may be endless";
    UNREADABLE_REQUISITES = "E212" BrokenRow "unreadable_requisites": "nobody knows where the money should go";
    RESERVED_ID = "E213" BrokenRow "reserved_id": "ids that begin with \"plan:\" name instalments of plans here";
    TOO_FINE = "E214" BrokenRow "amount_too_fine": "an amount has more decimals than its currency";
    UNREADABLE_ACCOUNT_ID = "E215" BrokenRow "unreadable_account_id": "an id has 1 to 200 printable characters";
    UNKNOWN_COLUMN = "W301" Warning "unknown_column": "not in the contract, ignored; a slip of the pen?";
    UNKNOWN_CREDITOR = "W302" Warning "unknown_creditor": "not in creditors.toml; these accounts are never contacted";
    ORPHAN_CONTACT = "W303" Warning "orphan_contact": "its account does not exist";
    INCOMPLETE_CONTACT = "W304" Warning "incomplete_contact": "its id cannot be read, role is unknown, or is_primary or no_email missing";
    UNUSABLE_EMAIL = "W305" Warning "unusable_email": "not exactly one address of the debtor; never written to";
    NO_USABLE_EMAIL = "W306" Warning "no_usable_email": "something is open, and there is nowhere to write to";
    SHARED_TAX_ID = "W307" Warning "shared_tax_id": "the same tax id on several accounts of one creditor";
    SHARED_MAILBOX = "W308" Warning "shared_mailbox": "the same mailbox on several accounts";
    DOCUMENT_TWICE = "W309" Warning "document_twice": "the same number, amount and due date twice for one account";
    UNKNOWN_TIME_ZONE = "W310" Warning "unknown_time_zone": "not in the IANA database; the country decides";
    UNKNOWN_LANGUAGE = "W311" Warning "unknown_language": "letters do not exist in it";
    UNKNOWN_COUNTRY = "W312" Warning "unknown_country": "not two upper-case letters of ISO 3166-1";
    CURRENCY_NOT_CONFIGURED = "W313" Warning "currency_not_configured": "no creditor or policy knows this currency";
    REFERS_TO_UNKNOWN = "W314" Warning "refers_to_unknown": "the item it refers to does not exist";
    CREDIT_EXCEEDS = "W315" Warning "credit_exceeds": "credit notes cancel more than the item's amount";
    STALE_PAYMENTS = "W316" Warning "stale_payments": "payments are known only up to more than four days ago";
    NO_FRESHNESS = "W317" Warning "no_freshness": "no row of ledger.freshness covers this creditor";
    FUTURE_PAYMENTS = "W318" Warning "future_payments": "payments_as_of lies in the future";
    UNREADABLE_FRESHNESS = "W319" Warning "unreadable_freshness": "a time before 1900 or after 2200; no run until it is mended";
    SETTLED_BUT_OPEN = "W320" Warning "settled_but_open": "settled, and something is open; never demanded";
    UNKNOWN_LADDER = "W321" Warning "unknown_ladder": "not in policy.toml; these accounts are not contacted";
}

/// How many objects a finding names.
const OBJECTS_SHOWN: usize = 10;

/// One kind of thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContractFinding {
    /// Such as `E101`; never changes its meaning.
    pub id: &'static str,
    /// Such as `missing_column`.
    pub name: &'static str,
    pub severity: Severity,
    pub message: &'static str,
    pub count: u64,
    /// The first ids, columns or relations, in order.
    pub objects: Vec<String>,
}

impl fmt::Display for ContractFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({}): {}: {}", self.id, self.name, self.count, self.message, self.objects.join(", "))?;
        if self.count > self.objects.len() as u64 { f.write_str(", …") } else { Ok(()) }
    }
}

/// Everything the check found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ContractReport {
    /// By severity, then id.
    pub findings: Vec<ContractFinding>,
    /// Items with something open, and accounts: the rows that a run works on.
    pub open_items: u64,
    pub accounts: u64,
    pub broken_items: u64,
    pub broken_accounts: u64,
}

impl ContractReport {
    /// Whether a relation or column is not what the contract says, or an id names two rows.
    #[must_use]
    pub fn broken_shape(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::BrokenShape)
    }

    /// Whether a run must not begin: a broken shape, or more than 1 % of the rows broken.
    #[must_use]
    pub fn stops_run(&self) -> bool {
        let (broken, rows) = (self.broken_items + self.broken_accounts, self.open_items + self.accounts);
        self.broken_shape() || broken * 100 > rows
    }
}

impl fmt::Display for ContractReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        writeln!(
            f,
            "accounts: {} ({} broken), open items: {} ({} broken)",
            self.accounts, self.broken_accounts, self.open_items, self.broken_items
        )
    }
}

/// Collects findings in bounded memory: a count and the first objects of each kind.
#[derive(Default)]
pub(super) struct Tally {
    found: BTreeMap<&'static Kind, (u64, BTreeSet<String>)>,
    pub(super) open_items: u64,
    pub(super) accounts: u64,
    pub(super) broken_items: u64,
    pub(super) broken_accounts: u64,
}

impl Tally {
    pub(super) fn add(&mut self, kind: &'static Kind, object: impl Into<String>) {
        self.add_many(kind, 1, object);
    }

    /// Notes `count` occurrences, one object of which is named.
    pub(super) fn add_many(&mut self, kind: &'static Kind, count: u64, object: impl Into<String>) {
        let (total, objects) = self.found.entry(kind).or_default();
        *total += count;
        let object = object.into();
        if objects.len() < OBJECTS_SHOWN || objects.last().is_some_and(|last| object < *last) {
            objects.insert(object);
        }
        if objects.len() > OBJECTS_SHOWN {
            objects.pop_last();
        }
    }

    fn has_broken_shape(&self) -> bool {
        self.found.keys().any(|kind| kind.severity == Severity::BrokenShape)
    }

    fn report(self) -> ContractReport {
        let findings = self.found.into_iter().map(|(kind, (count, objects))| ContractFinding {
            id: kind.id,
            name: kind.name,
            severity: kind.severity,
            message: kind.message,
            count,
            objects: objects.into_iter().collect(),
        });
        ContractReport {
            findings: findings.collect(),
            open_items: self.open_items,
            accounts: self.accounts,
            broken_items: self.broken_items,
            broken_accounts: self.broken_accounts,
        }
    }
}

/// Proves that the ledger keeps the contract: relations, columns and types first, then, when those are right, every
/// account, contact and open item. Reads only; run it inside the transaction whose view of the ledger matters.
///
/// # Errors
/// When the database fails. What is wrong with the ledger is in the report.
pub async fn check(connection: &mut PgConnection, options: &CheckOptions) -> Result<ContractReport, sqlx::Error> {
    let mut tally = Tally::default();
    let has_settlement = shape::check(connection, &mut tally).await?;
    // Without the columns there is nothing to ask the rows.
    if !tally.has_broken_shape() {
        let promised = shape::promised(connection).await?;
        queries::identities(connection, &promised, has_settlement, &mut tally).await?;
        match options.depth {
            Depth::Everything => {
                queries::check(connection, options, &mut tally).await?;
                rows::accounts(connection, options, "true", &mut tally).await?;
                rows::contacts(connection, options, &mut tally).await?;
                rows::items(connection, options, &promised, "true", &mut tally).await?;
            }
            Depth::WhatStopsARun => {
                rows::doubtful_accounts(connection, options, &mut tally).await?;
                rows::doubtful_items(connection, options, &promised, &mut tally).await?;
            }
        }
    }
    Ok(tally.report())
}
