//! Open cases, and the ladders that they have kept.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use chrono::NaiveDate;
use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::Page;
use super::in_order::InOrder;
use crate::model::{Case, CreditorId, Ladder};
use crate::record::{RecordError, inconsistent};

/// By the hash of their text.
pub(super) type Ladders = BTreeMap<String, Arc<Ladder>>;

/// `$1` is the day that is looked at, `$2` says which accounts.
fn select(accounts: &str) -> String {
    format!(
        "SELECT account_id, opened_on, ladder_sha256 FROM dunning.debt_case
         WHERE {accounts} AND opened_on <= $1 AND (closed_on IS NULL OR closed_on > $1)"
    )
}

/// The cases of those accounts.
pub(super) async fn cases(page: &mut Page<'_>) -> Result<Vec<PgRow>, RecordError> {
    let select = select("account_id = ANY ($2)");
    let rows = sqlx::query(AssertSqlSafe(select)).bind(page.today).bind(&page.ids);
    Ok(rows.fetch_all(&mut *page.connection).await?)
}

/// The cases of all accounts of a creditor's ledger, in account order.
pub(super) async fn all_cases(
    connection: &mut PgConnection,
    creditor: &CreditorId,
    today: NaiveDate,
) -> Result<InOrder, sqlx::Error> {
    let select = select("account_id IN (SELECT account_id::text FROM ledger.account WHERE creditor::text = $2)");
    sqlx::query(AssertSqlSafe(format!(
        r#"DECLARE dunning_past_cases NO SCROLL CURSOR FOR {select} ORDER BY account_id COLLATE "C""#
    )))
    .bind(today)
    .bind(creditor.as_str())
    .execute(connection)
    .await?;
    Ok(InOrder::new("FETCH FORWARD 1000 FROM dunning_past_cases"))
}

/// Takes them into the pasts of the page.
pub(super) async fn take(page: &mut Page<'_>, ladders: &mut Ladders, rows: &[PgRow]) -> Result<(), RecordError> {
    for row in rows {
        let sha256: &str = row.try_get_unchecked(2)?;
        let ladder = match ladders.entry(sha256.to_owned()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let body = sqlx::query_scalar!("SELECT body FROM dunning.text WHERE sha256 = $1", sha256)
                    .fetch_one(&mut *page.connection)
                    .await?;
                new.insert(Arc::new(ladder(sha256, &body)?))
            }
        };
        if let Some(past) = page.past(row.try_get_unchecked(0)?) {
            past.case = Some(Case { ladder: Arc::clone(ladder), opened_on: row.try_get_unchecked(1)? });
        }
    }
    Ok(())
}

/// The ladders that the creditor's open cases have kept.
///
/// # Errors
/// When the database refuses or holds a text that is no ladder.
pub async fn pinned_ladders(
    connection: &mut PgConnection,
    creditor: &CreditorId,
) -> Result<Vec<Arc<Ladder>>, RecordError> {
    let texts = sqlx::query!(
        "SELECT t.sha256, t.body FROM dunning.text t
         JOIN (SELECT DISTINCT ladder_sha256 FROM dunning.debt_case WHERE creditor = $1 AND closed_on IS NULL) c
             ON c.ladder_sha256 = t.sha256",
        creditor.as_str()
    )
    .fetch_all(connection)
    .await?;
    texts.iter().map(|row| Ok(Arc::new(ladder(&row.sha256, &row.body)?))).collect()
}

/// The ladder behind a hash: other words than those that a case has kept decide nothing.
fn ladder(sha256: &str, body: &str) -> Result<Ladder, RecordError> {
    if hex::encode(Sha256::digest(body)) != sha256 {
        return Err(inconsistent("dunning.text", "sha256", sha256));
    }
    serde_json::from_str(body).map_err(|_| inconsistent("dunning.text", "body", sha256))
}
