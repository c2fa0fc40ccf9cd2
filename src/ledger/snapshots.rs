//! Accounts with their contacts and items, streamed in account order out of one transaction.
//!
//! Three server-side cursors over the operator's relations, each ordered by `account_id COLLATE "C"`, are merged here:
//! memory holds one page, whatever the size of the ledger.

mod cursor;
mod row;
mod sql;

use std::iter;

use chrono::NaiveDate;
use sqlx::{PgConnection, Row as _};

use super::facts::is_alone;
use crate::model::{Account, AccountId, Contact, CreditorId, Currency, Item, NotDue, printable};

pub(super) use cursor::Cursor;
pub(super) use row::{ReadAccount, ReadItem, item, read_account, read_contacts};
use sql::{ONE_ACCOUNT, counted_sql, items_sql, listed_sql};
pub(super) use sql::{accounts_sql, contacts_sql, item_columns};

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

/// The connections that a ledger is read over, each inside a REPEATABLE READ transaction of the same view.
pub struct Lanes<'c> {
    pub accounts: &'c mut PgConnection,
    /// For a whole ledger: the server sorts its items while it sorts its accounts.
    pub items: Option<&'c mut PgConnection>,
}

/// Streams accounts. The connections must stay inside one transaction from `open` on.
pub struct Reader {
    accounts: Cursor,
    contacts: Cursor,
    items: Cursor,
    today: NaiveDate,
    unreadable: Vec<String>,
}

/// A page ends early when its accounts have more items than so many each, so that a few large accounts side by side do
/// not fill the memory.
const ITEMS_PER_ACCOUNT: usize = 8;

/// A whole ledger is read to its end, by plans that do not depend on what the server knows about tables that have just
/// been filled: joined row by row, as is quick for few rows, it would take hours.
const WHOLE_LEDGER: &str =
    "SET LOCAL cursor_tuple_fraction TO 1; SET LOCAL enable_nestloop TO off; SET LOCAL jit TO off";

impl Reader {
    /// Opens the cursors.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn open(lanes: &mut Lanes<'_>, view: &View, today: NaiveDate) -> Result<Self, sqlx::Error> {
        let Lanes { accounts: connection, items: of_items } = lanes;
        if view.account.is_none() {
            for connection in iter::once(&mut *connection).chain(&mut *of_items) {
                sqlx::raw_sql(WHOLE_LEDGER).execute(&mut **connection).await?;
            }
        }
        let counted = view.counted.as_ref().filter(|_| view.as_of.is_none() && view.account.is_none());
        let (not_due, items) = match counted {
            Some(counted) => {
                let alone = is_alone(connection, &view.creditor).await?;
                (Some(counted_sql(counted, alone, today)), listed_sql(counted, alone, today))
            }
            None => (None, items_sql(view.as_of.is_some(), today)),
        };
        let of_accounts = accounts_sql(ONE_ACCOUNT, not_due.as_deref());
        let mut accounts = Cursor::declare(connection, "dunning_accounts", 0, of_accounts, view).await?;
        let mut contacts = Cursor::declare(connection, "dunning_contacts", 1, contacts_sql(ONE_ACCOUNT), view).await?;
        let mut items =
            Cursor::declare(of_items.as_deref_mut().unwrap_or(connection), "dunning_items", 1, items, view).await?;
        if let Some(of_items) = of_items {
            // With the first row the server is done with its sorting.
            let of_accounts = async {
                accounts.fill(connection).await?;
                contacts.fill(connection).await
            };
            tokio::try_join!(of_accounts, items.fill(of_items))?;
        }
        Ok(Self { accounts, contacts, items, today, unreadable: Vec::new() })
    }

    /// The accounts passed over so far because their ids are none that we can hold, as they can be shown.
    #[must_use]
    pub fn unreadable(self) -> Vec<String> {
        self.unreadable
    }

    /// The next accounts, at most `size`, and fewer where they have many items; empty at the end.
    ///
    /// # Errors
    /// When the database refuses, or a column has a type that the contract does not allow.
    pub async fn page(&mut self, lanes: &mut Lanes<'_>, size: usize) -> Result<Vec<LedgerAccount>, sqlx::Error> {
        let Lanes { accounts: connection, items: of_items } = lanes;
        let mut page: Vec<LedgerAccount> = Vec::new();
        let mut items_read = 0;
        while page.len() < size && items_read < size.saturating_mul(ITEMS_PER_ACCOUNT) {
            let Some(row) = self.accounts.pop(connection).await? else { break };
            let key: &str = row.try_get(0)?;
            let contacts = self.contacts.take(connection, key).await?;
            let items = self.items.take(of_items.as_deref_mut().unwrap_or(connection), key).await?;
            let Some(ReadAccount { account, mut problem, not_due }) = read_account(&row)? else {
                self.unreadable.push(shown_id(key));
                continue;
            };
            let mut open = Vec::with_capacity(items.len());
            for row in &items {
                let read = item(row, self.today)?;
                problem.look_at(&read);
                if let ReadItem::Open { item, .. } = read {
                    open.push(item);
                }
            }
            for item in &mut open {
                problem.quarantine(item);
            }
            let items = open;
            items_read += items.len();
            page.push(LedgerAccount { account, contacts: read_contacts(&contacts)?, items, not_due });
        }
        Ok(page)
    }
}

/// An id that is none that we can hold, on one line that cannot disturb a terminal, cut.
pub(super) fn shown_id(id: &str) -> String {
    const SHOWN: usize = 60;
    let more = if id.chars().nth(SHOWN).is_some() { "…" } else { "" };
    format!("\"{}{more}\"", printable(id.chars().take(SHOWN), &[]))
}
