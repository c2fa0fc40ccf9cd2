//! Rows of a cursor in account order, for a reader that comes by in the same order.

use std::collections::VecDeque;

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

/// Its first column is the account.
pub(super) struct InOrder {
    fetch: &'static str,
    rows: VecDeque<PgRow>,
    exhausted: bool,
}

impl InOrder {
    /// `fetch` is the statement that brings the next rows of an open cursor, and none at its end.
    pub(super) fn new(fetch: &'static str) -> Self {
        Self { fetch, rows: VecDeque::new(), exhausted: false }
    }

    /// The rows up to that account, which nobody has taken yet.
    pub(super) async fn up_to(
        &mut self,
        connection: &mut PgConnection,
        account: &str,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        let mut taken = Vec::new();
        loop {
            if self.rows.is_empty() && !self.exhausted {
                self.rows = sqlx::query(self.fetch).fetch_all(&mut *connection).await?.into();
                self.exhausted = self.rows.is_empty();
            }
            let Some(row) = self.rows.front() else { return Ok(taken) };
            if row.try_get_unchecked::<&str, _>(0)?.as_bytes() > account.as_bytes() {
                return Ok(taken);
            }
            taken.extend(self.rows.pop_front());
        }
    }
}
