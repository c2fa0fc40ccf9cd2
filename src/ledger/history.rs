//! Accounts with everything that was open on them on any day of a span: the ledger as it stood on each of those days is
//! derived from it in memory, by the rule of `dunning.open_as_of`.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use crate::model::{Account, Contact, CreditorId, Item};

use super::contract::{RawItem, amount_sql, date_sql, row_problem};
use super::snapshots::{
    Cursor, ReadAccount, ReadItem, accounts_sql, contacts_sql, item, item_columns, read_account, read_contacts,
};

/// One account over a span of days.
#[derive(Debug, Clone)]
pub struct AccountHistory {
    pub account: Account,
    pub contacts: Vec<Contact>,
    /// In the order of their ids.
    pub items: Vec<ItemHistory>,
}

/// One item over a span of days.
#[derive(Debug, Clone)]
pub struct ItemHistory {
    /// As it was when nothing of it was paid.
    pub item: Item,
    /// What is open on it today.
    pub open_now: Decimal,
    pub settled_on: Option<NaiveDate>,
    /// Which part was paid when; empty when the ledger does not say.
    pub bookings: Vec<(NaiveDate, Decimal)>,
}

impl AccountHistory {
    /// The items with something open at the end of that day.
    #[must_use]
    pub fn items_on(&self, day: NaiveDate) -> Vec<Item> {
        self.items.iter().filter_map(|item| item.on(day)).collect()
    }

    /// The days on which the ledger looks different from the day before.
    #[must_use]
    pub fn changes(&self) -> BTreeSet<NaiveDate> {
        let mut days = BTreeSet::new();
        for one in &self.items {
            days.insert(one.item.issue_date);
            days.extend(one.settled_on);
            days.extend(one.item.dispute.as_ref().and_then(|dispute| dispute.since));
            days.extend(one.bookings.iter().map(|(day, _)| *day));
        }
        days
    }
}

impl ItemHistory {
    /// What was open at the end of that day; zero before it was issued and after it was settled.
    #[must_use]
    pub fn open_on(&self, day: NaiveDate) -> Decimal {
        if self.item.issue_date > day || self.settled_on.is_some_and(|settled| settled <= day) {
            Decimal::ZERO
        } else if !self.bookings.is_empty() {
            let booked: Decimal = self.bookings.iter().filter(|(on, _)| *on <= day).map(|(_, amount)| *amount).sum();
            self.item.amount - booked
        } else if self.settled_on.is_some() {
            self.item.amount
        } else {
            self.open_now
        }
    }

    /// Whether it was in dispute at the end of that day.
    #[must_use]
    pub fn disputed_on(&self, day: NaiveDate) -> bool {
        self.item.dispute.as_ref().is_some_and(|dispute| dispute.stands_on(day))
    }

    fn on(&self, day: NaiveDate) -> Option<Item> {
        let open = self.open_on(day);
        if open.is_zero() {
            return None;
        }
        let mut item = self.item.clone();
        item.open_amount = open;
        item.dispute = item.dispute.filter(|dispute| dispute.stands_on(day));
        if item.bad_data.is_none() && open != item.amount {
            item.bad_data = row_problem(&RawItem {
                item_id: item.id.as_str(),
                kind: Some(item.kind.as_str()),
                document_no: Some(&item.document_no),
                currency: Some(&item.currency.to_string()),
                amount: Some(item.amount),
                open_amount: Some(open.normalize()),
                issue_date: Some(item.issue_date),
                due_date: item.due_date.or(Some(item.issue_date)),
                unreadable_date: None,
            });
        }
        Some(item)
    }
}

/// Streams the accounts of a creditor with their histories. The connection must stay inside one transaction from
/// `open` on.
pub struct HistoryReader {
    accounts: Cursor,
    contacts: Cursor,
    items: Cursor,
    bookings: Option<Cursor>,
    last: NaiveDate,
}

/// Items that were issued by the last day and not settled before the first.
fn items_sql() -> String {
    format!(
        r#"SELECT {columns}, {open} AS open_now, {settled} AS settled_on
        FROM ledger.item i JOIN ledger.account a ON a.account_id::text = i.account_id::text
        WHERE a.creditor::text = $1 AND i.issue_date::date <= $3 AND (i.settled_on IS NULL OR i.settled_on::date > $2)
        ORDER BY i.account_id::text COLLATE "C", i.item_id::text COLLATE "C""#,
        columns = item_columns("i.amount"),
        open = amount_sql("i.open_amount"),
        settled = date_sql("i.settled_on"),
    )
}

fn bookings_sql() -> String {
    format!(
        r#"SELECT i.account_id::text, i.item_id::text, {booked_on} AS booked_on, {amount} AS amount
        FROM ledger.settlement s JOIN ledger.item i ON i.item_id::text = s.item_id::text
        JOIN ledger.account a ON a.account_id::text = i.account_id::text
        WHERE a.creditor::text = $1 AND i.issue_date::date <= $3 AND (i.settled_on IS NULL OR i.settled_on::date > $2)
        ORDER BY i.account_id::text COLLATE "C", i.item_id::text COLLATE "C""#,
        booked_on = date_sql("s.booked_on"),
        amount = amount_sql("s.amount"),
    )
}

impl HistoryReader {
    /// Opens the cursors over that span of days.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn open(
        connection: &mut PgConnection,
        creditor: &CreditorId,
        first: NaiveDate,
        last: NaiveDate,
    ) -> Result<Self, sqlx::Error> {
        let settlements: bool = sqlx::query_scalar("SELECT to_regclass('ledger.settlement') IS NOT NULL")
            .fetch_one(&mut *connection)
            .await?;
        // Not the names of the snapshots' cursors: a connection keeps the columns of a FETCH that it prepared.
        let mut cursors = Vec::new();
        for (name, account_at, select) in [
            ("dunning_past_accounts", 0, accounts_sql("$2::date <= $3::date", None)),
            ("dunning_past_contacts", 1, contacts_sql("$2::date <= $3::date")),
            ("dunning_past_items", 1, items_sql()),
        ] {
            cursors.push(Cursor::declare_over(connection, name, account_at, select, creditor, first, last).await?);
        }
        let bookings = if settlements {
            Some(
                Cursor::declare_over(connection, "dunning_past_bookings", 0, bookings_sql(), creditor, first, last)
                    .await?,
            )
        } else {
            None
        };
        let [accounts, contacts, items] =
            <[Cursor; 3]>::try_from(cursors).map_err(|_| sqlx::Error::Protocol("a cursor is missing".into()))?;
        Ok(Self { accounts, contacts, items, bookings, last })
    }

    /// The next account; none at the end.
    ///
    /// # Errors
    /// When the database refuses, or a column has a type that the contract does not allow.
    pub async fn next(&mut self, connection: &mut PgConnection) -> Result<Option<AccountHistory>, sqlx::Error> {
        while let Some(row) = self.accounts.pop(connection).await? {
            let key: &str = row.try_get(0)?;
            let contacts = self.contacts.take(connection, key).await?;
            let items = self.items.take(connection, key).await?;
            let bookings = match &mut self.bookings {
                Some(cursor) => cursor.take(connection, key).await?,
                None => Vec::new(),
            };
            let Some(ReadAccount { account, mut problem, .. }) = read_account(&row)? else { continue };
            let mut histories = Vec::with_capacity(items.len());
            for row in &items {
                let read = item(row, self.last)?;
                problem.look_at(&read);
                if let ReadItem::Open { item, .. } = read {
                    histories.push(Self::history(row, item)?);
                }
            }
            for one in &mut histories {
                problem.quarantine(&mut one.item);
            }
            attach(&mut histories, &bookings)?;
            return Ok(Some(AccountHistory { account, contacts: read_contacts(&contacts)?, items: histories }));
        }
        Ok(None)
    }

    fn history(row: &PgRow, item: Item) -> Result<ItemHistory, sqlx::Error> {
        let settled_on = row.try_get("settled_on")?;
        let open_now: Option<Decimal> = row.try_get("open_now")?;
        let mut history =
            ItemHistory { open_now: open_now.unwrap_or(item.amount), settled_on, bookings: Vec::new(), item };
        if open_now.is_none() && history.item.bad_data.is_none() {
            history.item.bad_data = Some("open_amount is missing".to_owned());
        }
        Ok(history)
    }
}

/// Both are in the order of item ids.
fn attach(items: &mut [ItemHistory], bookings: &[PgRow]) -> Result<(), sqlx::Error> {
    for row in bookings {
        let id: &str = row.try_get("item_id")?;
        let day: Option<NaiveDate> = row.try_get("booked_on")?;
        let amount: Option<Decimal> = row.try_get("amount")?;
        let Some(booking) = day.zip(amount) else { continue };
        if let Ok(at) = items.binary_search_by(|one| one.item.id.as_str().as_bytes().cmp(id.as_bytes())) {
            items[at].bookings.push(booking);
        }
    }
    Ok(())
}
