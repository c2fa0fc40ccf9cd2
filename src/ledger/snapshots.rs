//! Accounts with their contacts and items, streamed in account order out of one transaction.
//!
//! Three server-side cursors over the operator's relations, each ordered by `account_id COLLATE "C"`, are merged here:
//! memory holds one page, whatever the size of the ledger.

use std::collections::VecDeque;

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use crate::model::{
    Account, AccountId, Contact, ContactId, ContactRole, Country, CreditorId, Currency, Dispute, EmailAddress,
    EmailKind, Freshness, Instalment, Item, ItemId, ItemKind, LadderName, PLAN_ITEM_PREFIX, PartyKind, Requisites,
};

use super::contract::{RawItem, amount_sql, date_sql, row_problem};

/// Which ledger is looked at.
#[derive(Debug, Clone)]
pub struct View {
    pub creditor: CreditorId,
    /// The ledger as it stood at the end of that day; `None` for today's.
    pub as_of: Option<NaiveDate>,
    /// Only this account.
    pub account: Option<AccountId>,
}

/// One account as the ledger describes it.
#[derive(Debug, Clone)]
pub struct LedgerAccount {
    pub account: Account,
    pub contacts: Vec<Contact>,
    /// Items with something open, in the order of their ids.
    pub items: Vec<Item>,
}

/// Streams accounts. The connection must stay inside one transaction from `open` on.
pub struct Reader {
    accounts: Cursor,
    contacts: Cursor,
    items: Cursor,
    today: NaiveDate,
}

/// Rows fetched from a cursor at a time.
const FETCH: usize = 2_000;

pub(super) struct Cursor {
    name: &'static str,
    rows: VecDeque<(String, PgRow)>,
    exhausted: bool,
}

impl Cursor {
    async fn declare(
        connection: &mut PgConnection,
        name: &'static str,
        select: String,
        view: &View,
    ) -> Result<Self, sqlx::Error> {
        sqlx::query(AssertSqlSafe(format!("DECLARE {name} NO SCROLL CURSOR FOR {select}")))
            .bind(view.creditor.as_str())
            .bind(view.as_of)
            .bind(view.account.as_ref().map(AccountId::as_str))
            .execute(connection)
            .await?;
        Ok(Self { name, rows: VecDeque::new(), exhausted: false })
    }

    /// A cursor over a span of days: `$2` and `$3` are the first and the last.
    pub(super) async fn declare_over(
        connection: &mut PgConnection,
        name: &'static str,
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
        Ok(Self { name, rows: VecDeque::new(), exhausted: false })
    }

    /// Takes the next row, with its account.
    pub(super) async fn pop(&mut self, connection: &mut PgConnection) -> Result<Option<(String, PgRow)>, sqlx::Error> {
        self.peek(connection).await?;
        Ok(self.rows.pop_front())
    }

    /// The next row without taking it.
    async fn peek(&mut self, connection: &mut PgConnection) -> Result<Option<&str>, sqlx::Error> {
        if self.rows.is_empty() && !self.exhausted {
            let fetch = AssertSqlSafe(format!("FETCH FORWARD {FETCH} FROM {}", self.name));
            let rows = sqlx::query(fetch).fetch_all(connection).await?;
            self.exhausted = rows.len() < FETCH;
            for row in rows {
                self.rows.push_back((row.try_get::<String, _>("account_id")?, row));
            }
        }
        Ok(self.rows.front().map(|(key, _)| key.as_str()))
    }

    /// The rows of that account; rows of accounts before it belong to nobody here and are passed over.
    pub(super) async fn take(
        &mut self,
        connection: &mut PgConnection,
        account: &str,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        let mut taken = Vec::new();
        while let Some(key) = self.peek(connection).await? {
            match key.as_bytes().cmp(account.as_bytes()) {
                std::cmp::Ordering::Greater => break,
                std::cmp::Ordering::Equal => taken.extend(self.rows.pop_front().map(|(_, row)| row)),
                std::cmp::Ordering::Less => {
                    self.rows.pop_front();
                }
            }
        }
        Ok(taken)
    }
}

/// What `$2` and `$3` mean: a day and an account.
const ONE_ACCOUNT: &str = "($2::date IS NULL OR true) AND ($3::text IS NULL OR a.account_id::text = $3)";

pub(super) fn accounts_sql(condition: &str) -> String {
    format!(
        r#"SELECT a.account_id::text, a.creditor::text, a.name::text, a.party_kind::text, a.country::text,
            a.language::text, a.time_zone::text, a.tax_id::text, a.postal_address::text, a.party_id::text,
            a.parent_id::text, a.owner::text, a.segment::text, a.ladder::text, a.requisites::jsonb,
            a.hold_until::date, a.hold_reason::text
        FROM ledger.account a
        WHERE a.creditor::text = $1 AND {condition}
        ORDER BY a.account_id::text COLLATE "C""#
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
            {amount} AS amount, {open_amount} AS open_amount, i.written_off_on::date, i.disputed_since::date,
            i.dispute_reason::text, i.hold_until::date, i.hold_reason::text, i.payment_reference::text,
            i.customer_reference::text, i.contract_no::text, i.refers_to::text, i.payee::text, i.document_url::text,
            i.pay_url::text, i.direct_debit_on::date, i.requisites::jsonb",
        issue_date = date_sql("i.issue_date"),
        due_date = date_sql("i.due_date"),
        amount = amount_sql("i.amount"),
        open_amount = amount_sql(open),
    )
}

impl Reader {
    /// Opens the cursors. `connection` is inside a REPEATABLE READ transaction, which decides what they see.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn open(connection: &mut PgConnection, view: &View, today: NaiveDate) -> Result<Self, sqlx::Error> {
        Ok(Self {
            accounts: Cursor::declare(connection, "dunning_accounts", accounts_sql(ONE_ACCOUNT), view).await?,
            contacts: Cursor::declare(connection, "dunning_contacts", contacts_sql(ONE_ACCOUNT), view).await?,
            items: Cursor::declare(connection, "dunning_items", items_sql(view.as_of.is_some()), view).await?,
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
            let Some((key, row)) = self.accounts.pop(connection).await? else { break };
            let contacts = self.contacts.take(connection, &key).await?;
            let items = self.items.take(connection, &key).await?;
            let Some(account) = read_account(&row)? else { continue };
            let items: Result<Vec<Option<Item>>, sqlx::Error> = items.iter().map(|row| item(row, self.today)).collect();
            page.push(LedgerAccount {
                account,
                contacts: read_contacts(&contacts)?,
                items: items?.into_iter().flatten().collect(),
            });
        }
        Ok(page)
    }
}

/// `None` when a required column is empty: the contract check has named the row.
pub(super) fn read_account(row: &PgRow) -> Result<Option<Account>, sqlx::Error> {
    let text = |column: &str| row.try_get::<Option<String>, _>(column);
    let id = text("account_id")?.and_then(|id| AccountId::parse(&id).ok());
    let creditor = text("creditor")?.and_then(|id| CreditorId::parse(&id).ok());
    let (Some(id), Some(creditor), Some(name)) = (id, creditor, text("name")?) else { return Ok(None) };
    Ok(Some(Account {
        id,
        creditor,
        name,
        party_kind: text("party_kind")?.and_then(|kind| PartyKind::parse(&kind)).unwrap_or(PartyKind::Unknown),
        country: text("country")?.and_then(|code| Country::parse(&code).ok()),
        language: text("language")?,
        time_zone: text("time_zone")?.and_then(|zone| zone.parse().ok()),
        tax_id: text("tax_id")?,
        postal_address: text("postal_address")?,
        party_id: text("party_id")?,
        parent_id: text("parent_id")?.and_then(|id| AccountId::parse(&id).ok()),
        owner: text("owner")?,
        segment: text("segment")?,
        ladder: text("ladder")?.and_then(|name| LadderName::parse(&name).ok()),
        requisites: requisites(row)?.ok().flatten(),
        hold_until: row.try_get("hold_until")?,
        hold_reason: text("hold_reason")?,
    }))
}

pub(super) fn read_contacts(rows: &[PgRow]) -> Result<Vec<Contact>, sqlx::Error> {
    Ok(rows.iter().map(contact).collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

fn contact(row: &PgRow) -> Result<Option<Contact>, sqlx::Error> {
    let text = |column: &str| row.try_get::<Option<String>, _>(column);
    let id = text("contact_id")?.and_then(|id| ContactId::parse(&id).ok());
    let role = text("role")?.and_then(|role| ContactRole::parse(&role));
    let (Some(id), Some(role)) = (id, role) else { return Ok(None) };
    let email = text("email")?.filter(|email| !email.trim().is_empty());
    let usable = email.as_deref().and_then(|email| EmailAddress::parse(email).ok());
    Ok(Some(Contact {
        id,
        role,
        name: text("name")?,
        salutation: text("salutation")?,
        unusable_email: email.is_some() && usable.is_none(),
        email: usable,
        phone: text("phone")?,
        language: text("language")?,
        is_primary: row.try_get::<Option<bool>, _>("is_primary")?.unwrap_or(false),
        // Not knowing whether somebody wants e-mail counts as a no.
        no_email: row.try_get::<Option<bool>, _>("no_email")?.unwrap_or(true),
        email_kind: if text("email_kind")?.as_deref() == Some("pec") { EmailKind::Pec } else { EmailKind::Email },
    }))
}

pub(super) fn item(row: &PgRow, today: NaiveDate) -> Result<Option<Item>, sqlx::Error> {
    let text = |column: &str| row.try_get::<Option<String>, _>(column);
    let date = |column: &str| row.try_get::<Option<NaiveDate>, _>(column);
    let Some(id) = text("item_id")?.and_then(|id| ItemId::parse(&id).ok()) else { return Ok(None) };
    let kind = text("kind")?;
    let currency = text("currency")?;
    let amount: Option<Decimal> = row.try_get("amount")?;
    let open: Option<Decimal> = row.try_get("open_amount")?;
    let issue_date = date("issue_date")?;
    if open.is_some_and(|open| open.is_zero()) {
        return Ok(None);
    }
    let requisites = requisites(row)?;
    let document_no = text("document_no")?;
    let due_date = date("due_date")?;
    let raw = RawItem {
        kind: kind.as_deref(),
        document_no: document_no.as_deref(),
        currency: currency.as_deref(),
        amount,
        open_amount: open,
        issue_date,
        // A missing due date has a code of its own.
        due_date: due_date.or(issue_date),
    };
    let reserved = || {
        id.as_str().starts_with(PLAN_ITEM_PREFIX).then(|| {
            format!("item_id begins with {PLAN_ITEM_PREFIX:?}, which is how instalments of plans are named here")
        })
    };
    let bad_data = row_problem(&raw).or_else(|| requisites.as_ref().err().cloned()).or_else(reserved);
    let instalment =
        match (row.try_get::<Option<i32>, _>("instalment_no")?, row.try_get::<Option<i32>, _>("instalment_count")?) {
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
        written_off_on: date("written_off_on")?,
        dispute: date("disputed_since")?
            .filter(|since| *since <= today)
            .map(|since| Ok::<_, sqlx::Error>(Dispute { since, reason: text("dispute_reason")? }))
            .transpose()?,
        hold_until: date("hold_until")?,
        hold_reason: text("hold_reason")?,
        payment_reference: text("payment_reference")?,
        customer_reference: text("customer_reference")?,
        contract_no: text("contract_no")?,
        refers_to: text("refers_to")?.and_then(|id| ItemId::parse(&id).ok()),
        payee: text("payee")?,
        document_url: text("document_url")?,
        pay_url: text("pay_url")?,
        direct_debit_on: date("direct_debit_on")?,
        requisites: requisites.ok().flatten(),
        withdrawn: false,
        bad_data,
        part_of_plan: None,
    }))
}

/// Requisites of a row; the inner error says what is wrong with them. Money must never go to an account that was not
/// understood.
fn requisites(row: &PgRow) -> Result<Result<Option<Requisites>, String>, sqlx::Error> {
    let json: Option<serde_json::Value> = row.try_get("requisites")?;
    Ok(match json.filter(|json| !json.is_null()) {
        None => Ok(None),
        Some(json) => {
            serde_json::from_value::<Requisites>(json).map(Some).map_err(|error| format!("requisites: {error}"))
        }
    })
}

/// How current the creditor's ledger is: the stalest of its sources. `None` when no source speaks for it.
///
/// # Errors
/// When the database refuses.
pub async fn freshness(connection: &mut PgConnection, creditor: &CreditorId) -> Result<Option<Freshness>, sqlx::Error> {
    let (invoices, payments): (Option<DateTime<Utc>>, Option<DateTime<Utc>>) = sqlx::query_as(
        "SELECT min(invoices_as_of::timestamptz), min(payments_as_of::timestamptz) FROM ledger.freshness
         WHERE creditor IS NULL OR creditor::text = $1",
    )
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
        "SELECT lower(trim(c.email::text)), count(DISTINCT c.account_id)
         FROM ledger.contact c JOIN ledger.account a ON a.account_id = c.account_id
         WHERE a.creditor::text = $1 AND c.email IS NOT NULL AND NOT c.no_email::boolean
         GROUP BY 1 HAVING count(DISTINCT c.account_id) > 1",
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
        "SELECT dunning.ledger_fingerprint(claim.account, ARRAY(SELECT jsonb_array_elements_text(claim.items)), $3, $4)
         FROM unnest($1::text[], $2::jsonb[]) WITH ORDINALITY AS claim (account, items, n) ORDER BY claim.n",
    )
    .bind(accounts)
    .bind(items)
    .bind(as_of)
    .bind(business_date)
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
