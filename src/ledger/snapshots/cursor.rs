//! A server-side cursor in account order.

use std::collections::VecDeque;

use chrono::NaiveDate;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::View;
use crate::model::{AccountId, CreditorId};

/// Rows fetched from a cursor at a time.
const FETCH: usize = 2_000;

pub(in crate::ledger) struct Cursor {
    name: &'static str,
    rows: VecDeque<PgRow>,
    /// Where the account stands in its rows.
    account_at: usize,
    exhausted: bool,
}

impl Cursor {
    pub(super) async fn declare(
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
    pub(in crate::ledger) async fn declare_over(
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
    pub(in crate::ledger) async fn pop(&mut self, connection: &mut PgConnection) -> Result<Option<PgRow>, sqlx::Error> {
        self.fill(connection).await?;
        Ok(self.rows.pop_front())
    }

    /// Fetches the next rows when there are none at hand.
    pub(super) async fn fill(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.rows.is_empty() && !self.exhausted {
            let fetch = AssertSqlSafe(format!("FETCH FORWARD {FETCH} FROM {}", self.name));
            self.rows = sqlx::query(fetch).fetch_all(connection).await?.into();
            self.exhausted = self.rows.len() < FETCH;
        }
        Ok(())
    }

    /// The rows of that account; rows of accounts before it belong to nobody here and are passed over.
    pub(in crate::ledger) async fn take(
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
