//! Accounts with their contacts and items, streamed in account order out of one transaction.
//!
//! Three server-side cursors over the operator's relations, each ordered by `account_id COLLATE "C"`, are merged here:
//! memory holds one page, whatever the size of the ledger.

use std::collections::VecDeque;

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, Row as _, Transaction};

use crate::model::{
    Account, AccountId, Contact, ContactId, ContactRole, Country, CreditorId, Currency, Dispute, EmailAddress,
    EmailKind, Freshness, Instalment, Item, ItemId, ItemKind, LadderName, NotDue, PLAN_ITEM_PREFIX, PartyKind,
};

use super::contract::{
    RawItem, amount_sql, date_sql, hold_reason_sql, plain_debit_sql, requisites, row_problem, unreadable_date,
    unreadable_date_sql, unreadable_freshness_sql, unreadable_hold_sql,
};

/// Which ledger is looked at.
#[derive(Debug, Clone)]
pub struct View {
    pub creditor: CreditorId,
    /// The ledger as it stood at the end of that day; `None` for today's.
    pub as_of: Option<NaiveDate>,
    /// Only this account.
    pub account: Option<AccountId>,
    /// Counts the plain items that are not due yet instead of reading them; none reads every open item.
    pub counted: Option<Counted>,
}

/// Which items are counted: debits that keep the contract, are not due, and about which neither the ledger nor anybody
/// of ours says anything else. Only for a ledger as it is now, and a ladder without stages before the due day.
#[derive(Debug, Clone)]
pub struct Counted {
    /// The currencies that the policy knows.
    pub currencies: Vec<Currency>,
}

/// One account as the ledger describes it.
#[derive(Debug, Clone)]
pub struct LedgerAccount {
    pub account: Account,
    pub contacts: Vec<Contact>,
    /// Items with something open, in the order of their ids.
    pub items: Vec<Item>,
    /// What is open besides.
    pub not_due: NotDue,
}

/// Streams accounts. The connection must stay inside one transaction from `open` on.
pub struct Reader {
    accounts: Cursor,
    contacts: Cursor,
    items: Cursor,
    today: NaiveDate,
}

/// A whole ledger is read to its end, by plans that do not depend on what the server knows about tables that have just
/// been filled: joined row by row, as is quick for few rows, it would take hours.
const WHOLE_LEDGER: &str =
    "SET LOCAL cursor_tuple_fraction TO 1; SET LOCAL enable_nestloop TO off; SET LOCAL jit TO off";

/// Rows fetched from a cursor at a time.
const FETCH: usize = 2_000;

pub(super) struct Cursor {
    name: &'static str,
    rows: VecDeque<PgRow>,
    /// Where the account stands in its rows.
    account_at: usize,
    exhausted: bool,
}

impl Cursor {
    async fn declare(
        connection: &mut PgConnection,
        name: &'static str,
        account_at: usize,
        select: String,
        view: &View,
    ) -> Result<Self, sqlx::Error> {
        sqlx::query(AssertSqlSafe(format!("DECLARE {name} NO SCROLL CURSOR FOR {select}")))
            .bind(view.creditor.as_str())
            .bind(view.as_of)
            .bind(view.account.as_ref().map(AccountId::as_str))
            .execute(connection)
            .await?;
        Ok(Self { name, rows: VecDeque::new(), account_at, exhausted: false })
    }

    /// A cursor over a span of days: `$2` and `$3` are the first and the last.
    pub(super) async fn declare_over(
        connection: &mut PgConnection,
        name: &'static str,
        account_at: usize,
        select: String,
        creditor: &CreditorId,
        first: NaiveDate,
        last: NaiveDate,
    ) -> Result<Self, sqlx::Error> {
        sqlx::query(AssertSqlSafe(format!("DECLARE {name} NO SCROLL CURSOR FOR {select}")))
            .bind(creditor.as_str())
            .bind(first)
            .bind(last)
            .execute(connection)
            .await?;
        Ok(Self { name, rows: VecDeque::new(), account_at, exhausted: false })
    }

    /// Takes the next row.
    pub(super) async fn pop(&mut self, connection: &mut PgConnection) -> Result<Option<PgRow>, sqlx::Error> {
        self.fill(connection).await?;
        Ok(self.rows.pop_front())
    }

    async fn fill(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.rows.is_empty() && !self.exhausted {
            let fetch = AssertSqlSafe(format!("FETCH FORWARD {FETCH} FROM {}", self.name));
            self.rows = sqlx::query(fetch).fetch_all(connection).await?.into();
            self.exhausted = self.rows.len() < FETCH;
        }
        Ok(())
    }

    /// The rows of that account; rows of accounts before it belong to nobody here and are passed over.
    pub(super) async fn take(
        &mut self,
        connection: &mut PgConnection,
        account: &str,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        let mut taken = Vec::new();
        loop {
            self.fill(connection).await?;
            let Some(row) = self.rows.front() else { return Ok(taken) };
            match row.try_get_unchecked::<&str, _>(self.account_at)?.as_bytes().cmp(account.as_bytes()) {
                std::cmp::Ordering::Greater => return Ok(taken),
                std::cmp::Ordering::Equal => taken.extend(self.rows.pop_front()),
                std::cmp::Ordering::Less => drop(self.rows.pop_front()),
            }
        }
    }
}

/// Where the columns of [`accounts_sql`] stand: a name would be looked up for every row.
mod account_at {
    pub(super) const ACCOUNT_ID: usize = 0;
    pub(super) const CREDITOR: usize = 1;
    pub(super) const NAME: usize = 2;
    pub(super) const PARTY_KIND: usize = 3;
    pub(super) const COUNTRY: usize = 4;
    pub(super) const LANGUAGE: usize = 5;
    pub(super) const TIME_ZONE: usize = 6;
    pub(super) const TAX_ID: usize = 7;
    pub(super) const POSTAL_ADDRESS: usize = 8;
    pub(super) const PARTY_ID: usize = 9;
    pub(super) const PARENT_ID: usize = 10;
    pub(super) const OWNER: usize = 11;
    pub(super) const SEGMENT: usize = 12;
    pub(super) const LADDER: usize = 13;
    pub(super) const REQUISITES: usize = 14;
    pub(super) const HOLD_UNTIL: usize = 15;
    pub(super) const HOLD_REASON: usize = 16;
    pub(super) const UNREADABLE_HOLD: usize = 17;
    pub(super) const NOT_DUE_ITEMS: usize = 18;
    pub(super) const NOT_DUE_FIRST: usize = 19;
}

/// Where the columns of [`contacts_sql`] stand.
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

/// Where the columns of [`item_columns`] stand.
mod item_at {
    pub(super) const ITEM_ID: usize = 0;
    pub(super) const KIND: usize = 2;
    pub(super) const DOCUMENT_NO: usize = 3;
    pub(super) const INSTALMENT_NO: usize = 4;
    pub(super) const INSTALMENT_COUNT: usize = 5;
    pub(super) const ISSUE_DATE: usize = 6;
    pub(super) const DUE_DATE: usize = 7;
    pub(super) const CURRENCY: usize = 8;
    pub(super) const AMOUNT: usize = 9;
    pub(super) const OPEN_AMOUNT: usize = 10;
    pub(super) const WRITTEN_OFF_ON: usize = 11;
    pub(super) const DISPUTED_SINCE: usize = 12;
    pub(super) const DISPUTE_REASON: usize = 13;
    pub(super) const HOLD_UNTIL: usize = 14;
    pub(super) const HOLD_REASON: usize = 15;
    pub(super) const PAYMENT_REFERENCE: usize = 16;
    pub(super) const CUSTOMER_REFERENCE: usize = 17;
    pub(super) const CONTRACT_NO: usize = 18;
    pub(super) const REFERS_TO: usize = 19;
    pub(super) const PAYEE: usize = 20;
    pub(super) const DOCUMENT_URL: usize = 21;
    pub(super) const PAY_URL: usize = 22;
    pub(super) const DIRECT_DEBIT_ON: usize = 23;
    pub(super) const REQUISITES: usize = 24;
    pub(super) const UNREADABLE_DATE: usize = 25;
}

/// What `$2` and `$3` mean: a day and an account.
const ONE_ACCOUNT: &str = "($2::date IS NULL OR true) AND ($3::text IS NULL OR a.account_id::text = $3)";

/// The accounts, each with the items that are only counted.
pub(super) fn accounts_sql(condition: &str, counted: Option<&str>) -> String {
    let not_due = counted.unwrap_or("(SELECT NULL, 0::bigint, NULL::date WHERE false)");
    format!(
        r#"SELECT a.account_id::text, a.creditor::text, a.name::text, a.party_kind::text, a.country::text,
            a.language::text, a.time_zone::text, a.tax_id::text, a.postal_address::text, a.party_id::text,
            a.parent_id::text, a.owner::text, a.segment::text, a.ladder::text, a.requisites::jsonb,
            {hold_until}, {hold_reason}, {unreadable_hold}, coalesce(n.items, 0), n.first_due
        FROM ledger.account a
        LEFT JOIN {not_due} n (account_id, items, first_due) ON n.account_id = a.account_id::text
        WHERE a.creditor::text = $1 AND {condition}
        ORDER BY a.account_id::text COLLATE "C""#,
        hold_until = date_sql("a.hold_until"),
        hold_reason = hold_reason_sql("a"),
        unreadable_hold = unreadable_hold_sql("a"),
    )
}

pub(super) fn contacts_sql(condition: &str) -> String {
    format!(
        r#"SELECT c.contact_id::text, c.account_id::text, c.role::text, c.name::text, c.salutation::text, c.email::text,
            c.phone::text, c.language::text, c.is_primary::boolean, c.no_email::boolean, c.email_kind::text
        FROM ledger.contact c JOIN ledger.account a ON a.account_id = c.account_id
        WHERE a.creditor::text = $1 AND {condition}
        ORDER BY c.account_id::text COLLATE "C", c.contact_id::text COLLATE "C""#
    )
}

/// The open items of a whole ledger, with what decides whether one is only counted. Where the ledger has no other
/// creditor, nobody asks for every item whose it is.
fn open_items(alone: bool) -> String {
    let (of_creditor, is_ours) = if alone {
        ("", "$1::text IS NOT NULL")
    } else {
        ("JOIN ledger.account a ON a.account_id = i.account_id", "a.creditor::text = $1")
    };
    format!(
        "FROM ledger.item i {of_creditor}
         LEFT JOIN (SELECT account_id FROM dunning.account_with_entries
                    UNION SELECT account_id::text FROM ledger.item WHERE open_amount < 0) listed
             ON listed.account_id = i.account_id::text
         LEFT JOIN dunning.item_at_stake stake ON stake.item_id = i.item_id::text
         WHERE {is_ours} AND $2::date IS NULL AND $3::text IS NULL AND i.open_amount::numeric <> 0"
    )
}

/// The items that are only counted, for each account. A credit reduces other items, so its account's are all read.
fn counted_sql(counted: &Counted, alone: bool, today: NaiveDate) -> String {
    let (open_items, is_counted) = (open_items(alone), is_counted(counted, today));
    format!("(SELECT i.account_id::text, count(*), min(i.due_date::date) {open_items} AND {is_counted} GROUP BY 1)")
}

/// The others, one by one.
fn listed_sql(counted: &Counted, alone: bool, today: NaiveDate) -> String {
    let (open_items, is_counted) = (open_items(alone), is_counted(counted, today));
    format!(
        r#"SELECT {columns} {open_items} AND NOT {is_counted}
        ORDER BY i.account_id::text COLLATE "C", i.item_id::text COLLATE "C""#,
        columns = item_columns("i.open_amount"),
    )
}

/// The condition on [`open_items`] for being only counted.
fn is_counted(counted: &Counted, today: NaiveDate) -> String {
    format!(
        "(i.due_date::date >= date '{today}' AND {plain} AND i.written_off_on IS NULL AND i.disputed_since IS NULL
          AND i.hold_until IS NULL AND i.hold_reason IS NULL AND i.payee IS NULL AND i.direct_debit_on IS NULL
          AND i.requisites IS NULL AND NOT starts_with(i.item_id::text, '{PLAN_ITEM_PREFIX}')
          AND listed.account_id IS NULL AND stake.item_id IS NULL)",
        plain = plain_debit_sql(counted.currencies.iter().map(Currency::code)),
    )
}

/// What is open on an item depends on the day that is looked at. Amounts and dates that we cannot hold come as NULL,
/// which makes the row bad data and not the end of the run.
fn items_sql(as_of: bool) -> String {
    let (open, condition) = if as_of {
        (
            "dunning.open_as_of(i.item_id::text, i.amount::numeric, i.open_amount::numeric, i.settled_on::date, $2)",
            "i.issue_date::date <= $2 AND (i.settled_on IS NULL OR i.settled_on::date > $2)",
        )
    } else {
        ("i.open_amount", "i.open_amount::numeric <> 0 AND $2::date IS NULL")
    };
    format!(
        r#"SELECT {columns}
        FROM ledger.item i JOIN ledger.account a ON a.account_id = i.account_id
        WHERE a.creditor::text = $1 AND {condition} AND ($3::text IS NULL OR i.account_id::text = $3)
        ORDER BY i.account_id::text COLLATE "C", i.item_id::text COLLATE "C""#,
        columns = item_columns(open),
    )
}

/// The columns that [`item`] reads; `open` is what is open.
pub(super) fn item_columns(open: &str) -> String {
    format!(
        "i.item_id::text, i.account_id::text, i.kind::text, i.document_no::text, i.instalment_no::int,
            i.instalment_count::int, {issue_date} AS issue_date, {due_date} AS due_date, i.currency::text,
            {amount} AS amount, {open_amount} AS open_amount, {written_off_on}, {disputed_since},
            i.dispute_reason::text, {hold_until}, {hold_reason}, i.payment_reference::text,
            i.customer_reference::text, i.contract_no::text, i.refers_to::text, i.payee::text, i.document_url::text,
            i.pay_url::text, {direct_debit_on}, i.requisites::jsonb, {unreadable_date}",
        issue_date = date_sql("i.issue_date"),
        due_date = date_sql("i.due_date"),
        amount = amount_sql("i.amount"),
        open_amount = amount_sql(open),
        written_off_on = date_sql("i.written_off_on"),
        disputed_since = date_sql("i.disputed_since"),
        hold_until = date_sql("i.hold_until"),
        hold_reason = hold_reason_sql("i"),
        direct_debit_on = date_sql("i.direct_debit_on"),
        unreadable_date = unreadable_date_sql(),
    )
}

impl Reader {
    /// Opens the cursors. `connection` is inside a REPEATABLE READ transaction, which decides what they see.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn open(connection: &mut PgConnection, view: &View, today: NaiveDate) -> Result<Self, sqlx::Error> {
        if view.account.is_none() {
            sqlx::raw_sql(WHOLE_LEDGER).execute(&mut *connection).await?;
        }
        let counted = view.counted.as_ref().filter(|_| view.as_of.is_none() && view.account.is_none());
        let (not_due, items) = match counted {
            Some(counted) => {
                let alone = is_alone(connection, &view.creditor).await?;
                (Some(counted_sql(counted, alone, today)), listed_sql(counted, alone, today))
            }
            None => (None, items_sql(view.as_of.is_some())),
        };
        let accounts = accounts_sql(ONE_ACCOUNT, not_due.as_deref());
        Ok(Self {
            accounts: Cursor::declare(connection, "dunning_accounts", 0, accounts, view).await?,
            contacts: Cursor::declare(connection, "dunning_contacts", 1, contacts_sql(ONE_ACCOUNT), view).await?,
            items: Cursor::declare(connection, "dunning_items", 1, items, view).await?,
            today,
        })
    }

    /// The next accounts, at most `size`; empty at the end.
    ///
    /// # Errors
    /// When the database refuses, or a column has a type that the contract does not allow.
    pub async fn page(
        &mut self,
        connection: &mut PgConnection,
        size: usize,
    ) -> Result<Vec<LedgerAccount>, sqlx::Error> {
        let mut page = Vec::new();
        while page.len() < size {
            let Some(row) = self.accounts.pop(connection).await? else { break };
            let key: &str = row.try_get(0)?;
            let contacts = self.contacts.take(connection, key).await?;
            let items = self.items.take(connection, key).await?;
            let Some(ReadAccount { account, problem }) = read_account(&row)? else { continue };
            let items: Result<Vec<Option<Item>>, sqlx::Error> = items.iter().map(|row| item(row, self.today)).collect();
            let mut items: Vec<Item> = items?.into_iter().flatten().collect();
            for item in &mut items {
                problem.quarantine(item);
            }
            page.push(LedgerAccount {
                account,
                contacts: read_contacts(&contacts)?,
                items,
                not_due: NotDue {
                    items: row.try_get::<i64, _>(account_at::NOT_DUE_ITEMS)?.unsigned_abs(),
                    first_due: row.try_get(account_at::NOT_DUE_FIRST)?,
                },
            });
        }
        Ok(page)
    }
}

/// Whether every account of the ledger is the creditor's.
async fn is_alone(connection: &mut PgConnection, creditor: &CreditorId) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT NOT EXISTS (SELECT FROM ledger.account WHERE creditor::text IS DISTINCT FROM $1)")
        .bind(creditor.as_str())
        .fetch_one(connection)
        .await
}

// The statements cast every column to the type that is read here, so it is not compared again for every value.

/// An account with what its row says in a way that we cannot read.
pub(super) struct ReadAccount {
    pub(super) account: Account,
    pub(super) problem: AccountProblem,
}

/// What is wrong with the row of an account: its items cannot be demanded.
#[derive(Default)]
pub(super) struct AccountProblem {
    /// Nobody knows whether a hold stops the account.
    hold: Option<String>,
    /// Nobody knows where the money should go, except for items that say it themselves.
    requisites: Option<String>,
}

impl AccountProblem {
    pub(super) fn quarantine(&self, item: &mut Item) {
        let unpayable = || self.requisites.clone().filter(|_| item.requisites.is_none());
        if item.bad_data.is_none() {
            item.bad_data = self.hold.clone().or_else(unpayable);
        }
    }
}

/// `None` when a required column is empty: the contract check has named the row.
pub(super) fn read_account(row: &PgRow) -> Result<Option<ReadAccount>, sqlx::Error> {
    let text = |column: usize| row.try_get_unchecked::<Option<String>, _>(column);
    let id = text(account_at::ACCOUNT_ID)?.and_then(|id| AccountId::parse(&id).ok());
    let creditor = text(account_at::CREDITOR)?.and_then(|id| CreditorId::parse(&id).ok());
    let (Some(id), Some(creditor), Some(name)) = (id, creditor, text(account_at::NAME)?) else { return Ok(None) };
    let requisites = requisites(row, account_at::REQUISITES)?;
    let unreadable_hold: bool = row.try_get_unchecked(account_at::UNREADABLE_HOLD)?;
    let of_account = |what: &str| format!("its account's {what}");
    let problem = AccountProblem {
        hold: unreadable_hold.then(|| of_account(&unreadable_date("hold_until"))),
        requisites: requisites.as_ref().err().map(|problem| of_account(problem)),
    };
    let account = Account {
        id,
        creditor,
        name,
        party_kind: text(account_at::PARTY_KIND)?
            .and_then(|kind| PartyKind::parse(&kind))
            .unwrap_or(PartyKind::Unknown),
        country: text(account_at::COUNTRY)?.and_then(|code| Country::parse(&code).ok()),
        language: text(account_at::LANGUAGE)?,
        time_zone: text(account_at::TIME_ZONE)?.and_then(|zone| zone.parse().ok()),
        tax_id: text(account_at::TAX_ID)?,
        postal_address: text(account_at::POSTAL_ADDRESS)?,
        party_id: text(account_at::PARTY_ID)?,
        parent_id: text(account_at::PARENT_ID)?.and_then(|id| AccountId::parse(&id).ok()),
        owner: text(account_at::OWNER)?,
        segment: text(account_at::SEGMENT)?,
        ladder: text(account_at::LADDER)?.and_then(|name| LadderName::parse(&name).ok()),
        requisites: requisites.ok().flatten(),
        hold_until: row.try_get_unchecked(account_at::HOLD_UNTIL)?,
        hold_reason: text(account_at::HOLD_REASON)?,
    };
    Ok(Some(ReadAccount { account, problem }))
}

pub(super) fn read_contacts(rows: &[PgRow]) -> Result<Vec<Contact>, sqlx::Error> {
    Ok(rows.iter().map(contact).collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

fn contact(row: &PgRow) -> Result<Option<Contact>, sqlx::Error> {
    let text = |column: usize| row.try_get_unchecked::<Option<String>, _>(column);
    let id = text(contact_at::CONTACT_ID)?.and_then(|id| ContactId::parse(&id).ok());
    let role = text(contact_at::ROLE)?.and_then(|role| ContactRole::parse(&role));
    let (Some(id), Some(role)) = (id, role) else { return Ok(None) };
    let email = text(contact_at::EMAIL)?.filter(|email| !email.trim().is_empty());
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
    }))
}

pub(super) fn item(row: &PgRow, today: NaiveDate) -> Result<Option<Item>, sqlx::Error> {
    let text = |column: usize| row.try_get_unchecked::<Option<String>, _>(column);
    let date = |column: usize| row.try_get_unchecked::<Option<NaiveDate>, _>(column);
    let Some(id) = text(item_at::ITEM_ID)?.and_then(|id| ItemId::parse(&id).ok()) else { return Ok(None) };
    let kind = text(item_at::KIND)?;
    let currency = text(item_at::CURRENCY)?;
    let amount: Option<Decimal> = row.try_get_unchecked(item_at::AMOUNT)?;
    let open: Option<Decimal> = row.try_get_unchecked(item_at::OPEN_AMOUNT)?;
    let issue_date = date(item_at::ISSUE_DATE)?;
    if open.is_some_and(|open| open.is_zero()) {
        return Ok(None);
    }
    let requisites = requisites(row, item_at::REQUISITES)?;
    let document_no = text(item_at::DOCUMENT_NO)?;
    let due_date = date(item_at::DUE_DATE)?;
    let unreadable_date: Option<String> = text(item_at::UNREADABLE_DATE)?;
    let raw = RawItem {
        kind: kind.as_deref(),
        document_no: document_no.as_deref(),
        currency: currency.as_deref(),
        amount,
        open_amount: open,
        issue_date,
        // A missing due date has a code of its own.
        due_date: due_date.or(issue_date),
        unreadable_date: unreadable_date.as_deref(),
    };
    let reserved = || {
        id.as_str().starts_with(PLAN_ITEM_PREFIX).then(|| {
            format!("item_id begins with {PLAN_ITEM_PREFIX:?}, which is how instalments of plans are named here")
        })
    };
    let bad_data = row_problem(&raw).or_else(|| requisites.as_ref().err().cloned()).or_else(reserved);
    let instalment = match (
        row.try_get_unchecked::<Option<i32>, _>(item_at::INSTALMENT_NO)?,
        row.try_get_unchecked::<Option<i32>, _>(item_at::INSTALMENT_COUNT)?,
    ) {
        (Some(number), Some(count)) => u32::try_from(number)
            .ok()
            .zip(u32::try_from(count).ok())
            .filter(|(_, count)| *count > 1)
            .map(|(number, count)| Instalment { number, count }),
        _ => None,
    };
    let currency = currency.and_then(|code| Currency::parse(&code).ok());
    // Quarantined items still need a currency to be counted in; XXX is ISO 4217's "no currency".
    let Some(currency) = currency.or_else(|| Currency::parse("XXX").ok()) else { return Ok(None) };
    Ok(Some(Item {
        id,
        kind: kind.and_then(|kind| ItemKind::parse(&kind)).unwrap_or(ItemKind::Invoice),
        document_no: document_no.unwrap_or_default(),
        instalment,
        issue_date: issue_date.unwrap_or(today),
        due_date,
        currency,
        amount: amount.unwrap_or_default(),
        open_amount: open.unwrap_or_default(),
        written_off_on: date(item_at::WRITTEN_OFF_ON)?,
        dispute: date(item_at::DISPUTED_SINCE)?
            .filter(|since| *since <= today)
            .map(|since| Ok::<_, sqlx::Error>(Dispute { since, reason: text(item_at::DISPUTE_REASON)? }))
            .transpose()?,
        hold_until: date(item_at::HOLD_UNTIL)?,
        hold_reason: text(item_at::HOLD_REASON)?,
        payment_reference: text(item_at::PAYMENT_REFERENCE)?,
        customer_reference: text(item_at::CUSTOMER_REFERENCE)?,
        contract_no: text(item_at::CONTRACT_NO)?,
        refers_to: text(item_at::REFERS_TO)?.and_then(|id| ItemId::parse(&id).ok()),
        payee: text(item_at::PAYEE)?,
        document_url: text(item_at::DOCUMENT_URL)?,
        pay_url: text(item_at::PAY_URL)?,
        direct_debit_on: date(item_at::DIRECT_DEBIT_ON)?,
        requisites: requisites.ok().flatten(),
        withdrawn: false,
        bad_data,
        part_of_plan: None,
    }))
}

/// Begins a transaction that only looks, at one moment of the database. It locks nothing that anybody waits for, so it
/// may stand idle for as long as its reader takes.
pub const LOOK: &str =
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL idle_in_transaction_session_timeout TO 0";

/// Opens a second transaction that sees exactly what `transaction` sees.
///
/// # Errors
/// When the database refuses.
pub async fn same_view(
    pool: &PgPool,
    transaction: &mut PgConnection,
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let snapshot: String = sqlx::query_scalar("SELECT pg_export_snapshot()").fetch_one(transaction).await?;
    let mut second = pool.begin_with(LOOK).await?;
    // The server made it: digits, letters and dashes.
    sqlx::raw_sql(AssertSqlSafe(format!("SET TRANSACTION SNAPSHOT '{snapshot}'"))).execute(&mut *second).await?;
    Ok(second)
}

/// How current the creditor's ledger is: the stalest of its sources. `None` when no source speaks for it, or one says a
/// time that never was or never comes: nobody knows what such a source has imported.
///
/// # Errors
/// When the database refuses.
pub async fn freshness(connection: &mut PgConnection, creditor: &CreditorId) -> Result<Option<Freshness>, sqlx::Error> {
    let (invoices, payments): (Option<DateTime<Utc>>, Option<DateTime<Utc>>) = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT CASE WHEN NOT unreadable THEN invoices END, CASE WHEN NOT unreadable THEN payments END
         FROM (SELECT min(invoices_as_of::timestamptz), min(payments_as_of::timestamptz), bool_or({})
               FROM ledger.freshness WHERE creditor IS NULL OR creditor::text = $1) said (invoices, payments, unreadable)",
        unreadable_freshness_sql()
    )))
    .bind(creditor.as_str())
    .fetch_one(connection)
    .await?;
    Ok(invoices.zip(payments).map(|(invoices_as_of, payments_as_of)| Freshness { invoices_as_of, payments_as_of }))
}

/// Mailboxes that several accounts of a creditor use, with the number of accounts; keys as
/// `EmailAddress::mailbox_key` makes them from a usable address.
///
/// # Errors
/// When the database refuses.
pub async fn shared_mailboxes(
    connection: &mut PgConnection,
    creditor: &CreditorId,
) -> Result<Vec<(String, u32)>, sqlx::Error> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT mailbox, count(*)
         FROM (SELECT DISTINCT lower(trim(c.email::text)) AS mailbox, c.account_id
               FROM ledger.contact c JOIN ledger.account a ON a.account_id = c.account_id
               WHERE a.creditor::text = $1 AND c.email IS NOT NULL AND NOT c.no_email::boolean) used
         GROUP BY mailbox HAVING count(*) > 1",
    )
    .bind(creditor.as_str())
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|(key, count)| (key, u32::try_from(count).unwrap_or(u32::MAX))).collect())
}

/// What the ledger says about each claim now, in one hash per account: compared again just before DATA.
///
/// # Errors
/// When the database refuses.
pub async fn fingerprints(
    connection: &mut PgConnection,
    claims: &[(AccountId, Vec<ItemId>)],
    as_of: Option<NaiveDate>,
    business_date: NaiveDate,
) -> Result<Vec<String>, sqlx::Error> {
    let accounts: Vec<&str> = claims.iter().map(|(account, _)| account.as_str()).collect();
    let items: Vec<serde_json::Value> =
        claims.iter().map(|(_, items)| items.iter().map(ItemId::as_str).collect()).collect();
    sqlx::query_scalar(
        "SELECT f.fingerprint
         FROM dunning.ledger_fingerprints($1,
             ARRAY(SELECT ARRAY(SELECT jsonb_array_elements_text(claim.items))::text
                   FROM unnest($2::jsonb[]) WITH ORDINALITY AS claim (items, place) ORDER BY claim.place),
             $3, $4) f
         ORDER BY f.place",
    )
    .bind(&accounts)
    .bind(items)
    .bind(vec![as_of; claims.len()])
    .bind(vec![business_date; claims.len()])
    .fetch_all(connection)
    .await
}

/// The creditors that the ledger names, with their number of accounts.
///
/// # Errors
/// When the database refuses.
pub async fn creditors(connection: &mut PgConnection) -> Result<Vec<(String, i64)>, sqlx::Error> {
    sqlx::query_as("SELECT creditor::text, count(*) FROM ledger.account GROUP BY 1 ORDER BY 1")
        .fetch_all(connection)
        .await
}

/// The creditor of an account; `None` when the ledger does not know it.
///
/// # Errors
/// When the database refuses.
pub async fn creditor_of(connection: &mut PgConnection, account: &AccountId) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT creditor::text FROM ledger.account WHERE account_id::text = $1")
        .bind(account.as_str())
        .fetch_optional(connection)
        .await
}
