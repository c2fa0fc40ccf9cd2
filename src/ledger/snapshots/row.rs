//! Rows of the cursors as values. The statements cast every column to the type that is read here, so it is not compared
//! again for every value.

use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::postgres::types::PgRecordDecoder;
use sqlx::{Row as _, ValueRef as _};

use crate::ledger::contract::{RawItem, requisites, row_problem, unreadable_date};
use crate::model::{
    Account, AccountId, Contact, ContactId, ContactRole, Country, CreditorId, Currency, Dispute, EmailAddress,
    EmailKind, Entered, Instalment, Item, ItemId, ItemKind, NotDue, PartyKind,
};

/// Where the columns of `accounts_sql` stand: a name would be looked up for every row.
mod account_at {
    pub(super) const ACCOUNT_ID: usize = 0;
    pub(super) const CREDITOR: usize = 1;
    pub(super) const NAME: usize = 2;
    pub(super) const PARTY_KIND: usize = 3;
    pub(super) const COUNTRY: usize = 4;
    pub(super) const LANGUAGE: usize = 5;
    pub(super) const TIME_ZONE: usize = 6;
    pub(super) const NOT_DUE_ITEMS: usize = 7;
    pub(super) const NOT_DUE_FIRST: usize = 8;
    pub(super) const SELDOM: usize = 9;
}

/// Where the columns of `contacts_sql` stand.
mod contact_at {
    pub(super) const CONTACT_ID: usize = 0;
    pub(super) const ROLE: usize = 2;
    pub(super) const NAME: usize = 3;
    pub(super) const SALUTATION: usize = 4;
    pub(super) const EMAIL: usize = 5;
    pub(super) const PHONE: usize = 6;
    pub(super) const LANGUAGE: usize = 7;
    pub(super) const IS_PRIMARY: usize = 8;
    pub(super) const NO_EMAIL: usize = 9;
    pub(super) const EMAIL_KIND: usize = 10;
}

/// Where the columns of `item_columns` stand.
mod item_at {
    pub(super) const ITEM_ID: usize = 0;
    pub(super) const KIND: usize = 2;
    pub(super) const DOCUMENT_NO: usize = 3;
    pub(super) const ISSUE_DATE: usize = 4;
    pub(super) const DUE_DATE: usize = 5;
    pub(super) const CURRENCY: usize = 6;
    pub(super) const AMOUNT: usize = 7;
    pub(super) const OPEN_AMOUNT: usize = 8;
    pub(super) const PAYMENT_REFERENCE: usize = 9;
    pub(super) const SELDOM: usize = 10;
}

/// The record of `accounts_sql`, in its order.
#[derive(Default)]
struct SeldomOfAccount {
    tax_id: Option<String>,
    postal_address: Option<String>,
    party_id: Option<String>,
    parent_id: Option<String>,
    owner: Option<String>,
    segment: Option<String>,
    ladder: Option<String>,
    requisites: Option<Value>,
    hold_until: Option<NaiveDate>,
    hold_reason: Option<String>,
    unreadable_hold: bool,
}

impl SeldomOfAccount {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        let Some(mut record) = record(row, account_at::SELDOM)? else { return Ok(Self::default()) };
        let mut read = || {
            Ok(Self {
                tax_id: record.try_decode()?,
                postal_address: record.try_decode()?,
                party_id: record.try_decode()?,
                parent_id: record.try_decode()?,
                owner: record.try_decode()?,
                segment: record.try_decode()?,
                ladder: record.try_decode()?,
                requisites: record.try_decode()?,
                hold_until: record.try_decode()?,
                hold_reason: record.try_decode()?,
                unreadable_hold: record.try_decode()?,
            })
        };
        read().map_err(sqlx::Error::Decode)
    }
}

/// The record of `item_columns`, in its order.
#[derive(Default)]
struct SeldomOfItem {
    instalment_no: Option<i32>,
    instalment_count: Option<i32>,
    written_off_on: Option<NaiveDate>,
    disputed_since: Option<NaiveDate>,
    dispute_reason: Option<String>,
    hold_until: Option<NaiveDate>,
    hold_reason: Option<String>,
    customer_reference: Option<String>,
    contract_no: Option<String>,
    refers_to: Option<String>,
    payee: Option<String>,
    document_url: Option<String>,
    pay_url: Option<String>,
    direct_debit_on: Option<NaiveDate>,
    requisites: Option<Value>,
    unreadable_date: Option<String>,
}

impl SeldomOfItem {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        let Some(mut record) = record(row, item_at::SELDOM)? else { return Ok(Self::default()) };
        let mut read = || {
            Ok(Self {
                instalment_no: record.try_decode()?,
                instalment_count: record.try_decode()?,
                written_off_on: record.try_decode()?,
                disputed_since: record.try_decode()?,
                dispute_reason: record.try_decode()?,
                hold_until: record.try_decode()?,
                hold_reason: record.try_decode()?,
                customer_reference: record.try_decode()?,
                contract_no: record.try_decode()?,
                refers_to: record.try_decode()?,
                payee: record.try_decode()?,
                document_url: record.try_decode()?,
                pay_url: record.try_decode()?,
                direct_debit_on: record.try_decode()?,
                requisites: record.try_decode()?,
                unreadable_date: record.try_decode()?,
            })
        };
        read().map_err(sqlx::Error::Decode)
    }

    fn instalment(&self) -> Option<Instalment> {
        let number = u32::try_from(self.instalment_no?).ok()?;
        let count = u32::try_from(self.instalment_count?).ok()?;
        (count > 1).then_some(Instalment { number, count })
    }
}

/// Blanks say nothing: views often have them in place of NULL.
fn said(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.trim().is_empty())
}

/// A reason without a day is a dispute of which nobody knows since when.
fn dispute(since: Option<NaiveDate>, reason: Option<String>) -> Option<Dispute> {
    (since.is_some() || reason.is_some()).then_some(Dispute { since, reason })
}

fn record(row: &PgRow, column: usize) -> Result<Option<PgRecordDecoder<'_>>, sqlx::Error> {
    let value = row.try_get_raw(column)?;
    if value.is_null() {
        return Ok(None);
    }
    PgRecordDecoder::new(value).map(Some).map_err(sqlx::Error::Decode)
}

/// An account with what its row says in a way that we cannot read.
pub(in crate::ledger) struct ReadAccount {
    pub(in crate::ledger) account: Account,
    pub(in crate::ledger) problem: AccountProblem,
    /// What is open besides the items that are read.
    pub(in crate::ledger) not_due: NotDue,
}

/// What is wrong with the row of an account: its items cannot be demanded.
#[derive(Default)]
pub(in crate::ledger) struct AccountProblem {
    /// Nobody knows whom a letter would be for.
    name: Option<String>,
    /// Nobody knows whether a hold stops the account.
    hold: Option<String>,
    /// Nobody knows where the money should go, except for items that say it themselves.
    requisites: Option<String>,
    /// Nobody knows what is owed: money that came in, or was credited, cannot be read.
    credit: Option<String>,
}

impl AccountProblem {
    /// Before [`quarantine`](Self::quarantine), of each item.
    pub(in crate::ledger) fn look_at(&mut self, item: &ReadItem) {
        let unreadable = match item {
            ReadItem::Open { item, may_be_credit: true } => {
                item.bad_data.as_ref().map(|problem| format!("{} ({problem})", item.id))
            }
            ReadItem::Nameless => Some("an item without an id that can be read".to_owned()),
            ReadItem::Open { .. } | ReadItem::Settled => None,
        };
        if let Some(item) = unreadable {
            self.credit.get_or_insert(format!("its account may owe less: a credit cannot be read, {item}"));
        }
    }

    pub(in crate::ledger) fn quarantine(&self, item: &mut Item) {
        let unpayable = || self.requisites.clone().filter(|_| item.requisites.is_none());
        if item.bad_data.is_none() {
            item.bad_data =
                self.name.clone().or_else(|| self.hold.clone()).or_else(unpayable).or_else(|| self.credit.clone());
        }
    }
}

/// What the row of an item says.
#[expect(clippy::large_enum_variant, reason = "it is taken apart where it is made")]
pub(in crate::ledger) enum ReadItem {
    Open {
        item: Item,
        /// It is one, or nobody knows what it is and its amounts are those of one.
        may_be_credit: bool,
    },
    /// Nothing is open.
    Settled,
    /// Something is open, and no word can be said of it: its id is none, or none that we can hold. It may be a credit.
    Nameless,
}

/// `None` when its id is none that we can hold: the contract check has named the row.
pub(in crate::ledger) fn read_account(row: &PgRow) -> Result<Option<ReadAccount>, sqlx::Error> {
    let text = |column: usize| row.try_get_unchecked::<Option<String>, _>(column);
    let id = text(account_at::ACCOUNT_ID)?.and_then(|id| AccountId::parse(&id).ok());
    let creditor = text(account_at::CREDITOR)?.and_then(|id| CreditorId::parse(&id).ok());
    let (Some(id), Some(creditor)) = (id, creditor) else { return Ok(None) };
    let name = said(text(account_at::NAME)?);
    let seldom = SeldomOfAccount::read(row)?;
    let requisites = requisites(seldom.requisites);
    let of_account = |what: &str| format!("its account's {what}");
    let problem = AccountProblem {
        name: name.is_none().then(|| of_account("name is missing")),
        hold: seldom.unreadable_hold.then(|| of_account(&unreadable_date("hold_until"))),
        requisites: requisites.as_ref().err().map(|problem| of_account(problem)),
        credit: None,
    };
    let account = Account {
        id,
        creditor,
        name: name.unwrap_or_default(),
        party_kind: text(account_at::PARTY_KIND)?
            .and_then(|kind| PartyKind::parse(&kind))
            .unwrap_or(PartyKind::Unknown),
        country: text(account_at::COUNTRY)?.and_then(|code| Country::parse(&code).ok()),
        language: text(account_at::LANGUAGE)?,
        time_zone: text(account_at::TIME_ZONE)?.and_then(|zone| zone.parse().ok()),
        tax_id: seldom.tax_id,
        postal_address: seldom.postal_address,
        party_id: seldom.party_id,
        parent_id: seldom.parent_id.and_then(|id| AccountId::parse(&id).ok()),
        owner: seldom.owner,
        segment: seldom.segment,
        ladder: said(seldom.ladder),
        requisites: requisites.ok().flatten(),
        hold_until: seldom.hold_until,
        hold_reason: said(seldom.hold_reason),
    };
    let not_due = NotDue {
        items: row.try_get_unchecked::<i64, _>(account_at::NOT_DUE_ITEMS)?.unsigned_abs(),
        first_due: row.try_get_unchecked(account_at::NOT_DUE_FIRST)?,
    };
    Ok(Some(ReadAccount { account, problem, not_due }))
}

pub(in crate::ledger) fn read_contacts(rows: &[PgRow]) -> Result<Vec<Contact>, sqlx::Error> {
    Ok(rows.iter().map(contact).collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

fn contact(row: &PgRow) -> Result<Option<Contact>, sqlx::Error> {
    let text = |column: usize| row.try_get_unchecked::<Option<String>, _>(column);
    let id = text(contact_at::CONTACT_ID)?.and_then(|id| ContactId::parse(&id).ok());
    let role = text(contact_at::ROLE)?.and_then(|role| ContactRole::parse(&role));
    let (Some(id), Some(role)) = (id, role) else { return Ok(None) };
    let email = said(text(contact_at::EMAIL)?);
    let usable = email.as_deref().and_then(|email| EmailAddress::parse(email).ok());
    Ok(Some(Contact {
        id,
        role,
        name: text(contact_at::NAME)?,
        salutation: text(contact_at::SALUTATION)?,
        unusable_email: email.is_some() && usable.is_none(),
        email: usable,
        phone: text(contact_at::PHONE)?,
        language: text(contact_at::LANGUAGE)?,
        is_primary: row.try_get_unchecked::<Option<bool>, _>(contact_at::IS_PRIMARY)?.unwrap_or(false),
        // Not knowing whether somebody wants e-mail counts as a no.
        no_email: row.try_get_unchecked::<Option<bool>, _>(contact_at::NO_EMAIL)?.unwrap_or(true),
        email_kind: if text(contact_at::EMAIL_KIND)?.as_deref() == Some("pec") {
            EmailKind::Pec
        } else {
            EmailKind::Email
        },
        entered: Entered::Nothing,
    }))
}

pub(in crate::ledger) fn item(row: &PgRow, today: NaiveDate) -> Result<ReadItem, sqlx::Error> {
    let text = |column: usize| row.try_get_unchecked::<Option<String>, _>(column);
    let date = |column: usize| row.try_get_unchecked::<Option<NaiveDate>, _>(column);
    let kind = text(item_at::KIND)?;
    let currency = text(item_at::CURRENCY)?;
    let amount: Option<Decimal> = row.try_get_unchecked(item_at::AMOUNT)?;
    let open: Option<Decimal> = row.try_get_unchecked(item_at::OPEN_AMOUNT)?;
    let issue_date = date(item_at::ISSUE_DATE)?;
    if open.is_some_and(|open| open.is_zero()) {
        return Ok(ReadItem::Settled);
    }
    let Some(id) = text(item_at::ITEM_ID)?.and_then(|id| ItemId::parse(&id).ok()) else {
        return Ok(ReadItem::Nameless);
    };
    let seldom = SeldomOfItem::read(row)?;
    let instalment = seldom.instalment();
    let requisites = requisites(seldom.requisites);
    let document_no = text(item_at::DOCUMENT_NO)?;
    let due_date = date(item_at::DUE_DATE)?;
    let raw = RawItem {
        item_id: id.as_str(),
        kind: kind.as_deref(),
        document_no: document_no.as_deref(),
        currency: currency.as_deref(),
        amount,
        open_amount: open,
        issue_date,
        // A missing due date has a code of its own.
        due_date: due_date.or(issue_date),
        unreadable_date: seldom.unreadable_date.as_deref(),
    };
    let bad_data = row_problem(&raw).or_else(|| requisites.as_ref().err().cloned());
    let currency = currency.and_then(|code| Currency::parse(&code).ok());
    // Quarantined items still need a currency to be counted in; XXX is ISO 4217's "no currency".
    let Some(currency) = currency.or_else(|| Currency::parse("XXX").ok()) else { return Ok(ReadItem::Nameless) };
    let kind = kind.and_then(|kind| ItemKind::parse(&kind));
    let is_negative = |amount: Option<Decimal>| amount.is_some_and(|amount| amount.is_sign_negative());
    let may_be_credit = kind.map_or_else(|| is_negative(amount) || is_negative(open), ItemKind::is_credit);
    let item = Item {
        id,
        kind: kind.unwrap_or(ItemKind::Invoice),
        document_no: document_no.unwrap_or_default(),
        instalment,
        issue_date: issue_date.unwrap_or(today),
        due_date,
        currency,
        amount: amount.unwrap_or_default(),
        open_amount: open.unwrap_or_default(),
        written_off_on: seldom.written_off_on,
        dispute: dispute(seldom.disputed_since, said(seldom.dispute_reason)).filter(|one| one.stands_on(today)),
        hold_until: seldom.hold_until,
        hold_reason: said(seldom.hold_reason),
        payment_reference: said(text(item_at::PAYMENT_REFERENCE)?),
        customer_reference: said(seldom.customer_reference),
        contract_no: said(seldom.contract_no),
        refers_to: seldom.refers_to.and_then(|id| ItemId::parse(&id).ok()),
        payee: said(seldom.payee),
        document_url: seldom.document_url,
        pay_url: seldom.pay_url,
        direct_debit_on: seldom.direct_debit_on,
        requisites: requisites.ok().flatten(),
        withdrawn: false,
        bad_data,
        part_of_plan: None,
    };
    Ok(ReadItem::Open { item, may_be_credit })
}
