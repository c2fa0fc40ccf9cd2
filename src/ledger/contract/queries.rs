//! What SQL can tell by itself: counts over the whole relation, the first objects by id.

use chrono::TimeDelta;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::check::{
    CREDIT_EXCEEDS, CheckOptions, DOCUMENT_TWICE, DUPLICATE_ID, FUTURE_PAYMENTS, Kind, NO_FRESHNESS, NULL_IN_REQUIRED,
    ORPHAN_CONTACT, REFERS_TO_UNKNOWN, SHARED_MAILBOX, SHARED_TAX_ID, STALE_PAYMENTS, Tally, UNREADABLE_FRESHNESS,
};
use super::item::unreadable_freshness_sql;
use super::shape::Promised;

/// Long enough for the longest weekend: the freshness gate of a run is exact, this is a hint.
const STALE_AFTER: TimeDelta = TimeDelta::days(4);

/// Required columns whose NULL leaves nothing to quarantine.
const IDENTITIES: [(&str, &[&str]); 5] = [
    ("account", &["account_id"]),
    ("contact", &["contact_id"]),
    ("item", &["item_id"]),
    ("freshness", &["source", "invoices_as_of", "payments_as_of"]),
    ("settlement", &["item_id", "booked_on", "amount"]),
];

/// Each query gives one text per object.
const QUERIES: [(&Kind, &str); 6] = [
    (
        &ORPHAN_CONTACT,
        "SELECT c.contact_id::text FROM ledger.contact c
         LEFT JOIN ledger.account a ON a.account_id::text = c.account_id::text WHERE a.account_id IS NULL",
    ),
    (
        &SHARED_TAX_ID,
        "SELECT min(account_id::text) || ' and ' || (count(*) - 1) || ' more' FROM ledger.account
         WHERE btrim(tax_id::text) <> '' GROUP BY creditor::text, btrim(tax_id::text) HAVING count(*) > 1",
    ),
    (
        &SHARED_MAILBOX,
        "SELECT min(account_id::text) || ' and ' || (count(DISTINCT account_id::text) - 1) || ' more'
         FROM ledger.contact
         WHERE email::text LIKE '%@%'
         GROUP BY coalesce(dunning.mailbox_key(email::text), lower(email::text)) HAVING count(DISTINCT account_id::text) > 1",
    ),
    (
        &DOCUMENT_TWICE,
        "SELECT min(item_id::text) || ' and ' || max(item_id::text) FROM ledger.item WHERE open_amount <> 0
         GROUP BY account_id::text, kind::text, document_no::text, currency::text, amount, due_date, instalment_no
         HAVING count(DISTINCT item_id::text) > 1",
    ),
    (
        &REFERS_TO_UNKNOWN,
        "SELECT c.item_id::text FROM ledger.item c LEFT JOIN ledger.item r ON r.item_id::text = c.refers_to::text
         WHERE btrim(c.refers_to::text) <> '' AND c.open_amount <> 0 AND r.item_id IS NULL",
    ),
    (
        &CREDIT_EXCEEDS,
        "SELECT r.item_id::text FROM ledger.item c JOIN ledger.item r ON r.item_id::text = c.refers_to::text
         WHERE c.kind::text = 'credit_note' GROUP BY r.item_id::text, r.amount
         HAVING bool_or(c.open_amount <> 0) AND -sum(c.amount) > r.amount",
    ),
];

/// Ids that are missing, or name two rows. Nothing is asked that the database guarantees.
pub(super) async fn identities(
    connection: &mut PgConnection,
    promised: &Promised,
    has_settlement: bool,
    tally: &mut Tally,
) -> Result<(), sqlx::Error> {
    for (relation, columns) in IDENTITIES.iter().filter(|(relation, _)| has_settlement || *relation != "settlement") {
        let columns: Vec<&str> =
            columns.iter().copied().filter(|column| !promised.is_not_null(relation, column)).collect();
        if columns.is_empty() {
            continue;
        }
        let counts: Vec<String> =
            columns.iter().map(|column| format!("count(*) FILTER (WHERE {column} IS NULL)")).collect();
        let statement = format!("SELECT {} FROM ledger.{relation}", counts.join(", "));
        let row = sqlx::query(AssertSqlSafe(statement)).fetch_one(&mut *connection).await?;
        for (at, column) in columns.iter().enumerate() {
            let count: i64 = row.try_get(at)?;
            if count > 0 {
                tally.add_many(&NULL_IN_REQUIRED, count.unsigned_abs(), format!("{relation}.{column}"));
            }
        }
    }
    for (relation, column) in [("account", "account_id"), ("contact", "contact_id"), ("item", "item_id")] {
        if !promised.is_unique(relation, column) {
            let query = format!(
                "SELECT '{relation} ' || {column}::text FROM ledger.{relation} GROUP BY {column}::text HAVING count(*) > 1"
            );
            objects(connection, &DUPLICATE_ID, &query, tally).await?;
        }
    }
    Ok(())
}

async fn objects(
    connection: &mut PgConnection,
    kind: &'static Kind,
    query: &str,
    tally: &mut Tally,
) -> Result<(), sqlx::Error> {
    // One total with the first objects; the rest stays in the database.
    let statement =
        format!("SELECT object, count(*) OVER () FROM ({query}) found (object) ORDER BY object COLLATE \"C\" LIMIT 10");
    let rows: Vec<(Option<String>, i64)> = sqlx::query_as(AssertSqlSafe(statement)).fetch_all(connection).await?;
    for (n, (object, total)) in rows.into_iter().enumerate() {
        let count = if n == 0 { total.unsigned_abs() } else { 0 };
        tally.add_many(kind, count, object.unwrap_or_else(|| "(no id)".to_owned()));
    }
    Ok(())
}

/// What several rows together show.
pub(super) async fn check(
    connection: &mut PgConnection,
    options: &CheckOptions,
    tally: &mut Tally,
) -> Result<(), sqlx::Error> {
    for (kind, query) in QUERIES {
        objects(connection, kind, query, tally).await?;
    }
    freshness(connection, options, tally).await
}

async fn freshness(
    connection: &mut PgConnection,
    options: &CheckOptions,
    tally: &mut Tally,
) -> Result<(), sqlx::Error> {
    let kinds = [&UNREADABLE_FRESHNESS, &STALE_PAYMENTS, &FUTURE_PAYMENTS];
    let rows: Vec<(Option<String>, Option<String>, Option<i32>)> = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT source::text, creditor::text,
                CASE WHEN {} THEN 0 WHEN payments_as_of < $1 THEN 1 WHEN payments_as_of > $2 THEN 2 END
         FROM ledger.freshness LIMIT 1000",
        unreadable_freshness_sql()
    )))
    .bind(options.now - STALE_AFTER)
    .bind(options.now)
    .fetch_all(connection)
    .await?;
    for creditor in &options.creditors {
        if rows.iter().all(|(_, of, ..)| of.as_ref().is_some_and(|of| of != creditor)) {
            tally.add(&NO_FRESHNESS, creditor);
        }
    }
    for (source, creditor, kind) in rows {
        let object = format!("{} ({})", source.unwrap_or_default(), creditor.as_deref().unwrap_or("all creditors"));
        if let Some(kind) = kind.and_then(|kind| kinds.get(usize::try_from(kind).ok()?)) {
            tally.add(kind, object);
        }
    }
    Ok(())
}
