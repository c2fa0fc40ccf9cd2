//! What is asked of a ledger as a whole, and about single claims in it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, Transaction};

use super::contract::unreadable_freshness_sql;
use crate::model::{AccountId, CreditorId, EmailAddress, Freshness, ItemId};

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

/// The sources that speak for the creditor and know payments only up to a moment before that one, the stalest first.
///
/// # Errors
/// When the database refuses.
pub async fn stale_sources(
    connection: &mut PgConnection,
    creditor: &CreditorId,
    needed: DateTime<Utc>,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT source::text FROM ledger.freshness
         WHERE (creditor IS NULL OR creditor::text = $1) AND payments_as_of::timestamptz < $2
         ORDER BY payments_as_of::timestamptz, source::text",
    )
    .bind(creditor.as_str())
    .bind(needed)
    .fetch_all(connection)
    .await
}

/// The accounts of a creditor that use one mailbox.
#[derive(Debug, Clone, Default)]
pub struct MailboxAccounts {
    /// In the order of their ids.
    pub accounts: Vec<String>,
    /// How many of them owe anything.
    pub owing: u32,
}

/// Mailboxes that several accounts of a creditor use, and those of `also` that any does; keys as
/// `EmailAddress::mailbox_key` makes them from a usable address. What the ledger calls settled by `today` is owed by nobody;
/// `as_of` sees what was owed on that day, and what is.
///
/// # Errors
/// When the database refuses.
pub async fn shared_mailboxes(
    connection: &mut PgConnection,
    creditor: &CreditorId,
    also: impl IntoIterator<Item = String>,
    today: NaiveDate,
    as_of: Option<NaiveDate>,
) -> Result<HashMap<String, MailboxAccounts>, sqlx::Error> {
    // The server groups what it can tell a key of. What it cannot stands behind a line feed, which begins no key.
    let (accounts, is_ours) = if is_alone(connection, creditor).await? {
        ("", "$1::text IS NOT NULL")
    } else {
        ("JOIN ledger.account a ON a.account_id::text = c.account_id::text", "a.creditor::text = $1")
    };
    let found: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!(
        r#"SELECT mailbox
           FROM (SELECT coalesce(dunning.mailbox_key(c.email::text), E'\n' || c.email::text) COLLATE "C" AS mailbox,
                     c.account_id::text COLLATE "C" AS account
                 FROM ledger.contact c {accounts}
                 WHERE {is_ours} AND c.email IS NOT NULL AND NOT c.no_email::boolean) used
           GROUP BY mailbox HAVING min(account) < max(account) OR starts_with(mailbox, E'\n')"#
    )))
    .bind(creditor.as_str())
    .fetch_all(&mut *connection)
    .await?;
    let told_here = found.into_iter().filter_map(|found| match found.strip_prefix('\n') {
        None => Some(found),
        Some(text) => key_of(text),
    });
    let wanted: BTreeSet<String> = also.into_iter().chain(told_here).collect();
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    let shared = accounts_of_mailboxes(connection, creditor, &wanted).await?;
    if shared.is_empty() {
        return Ok(HashMap::new());
    }
    let all: Vec<&str> = shared.values().flatten().map(String::as_str).collect();
    let owing: BTreeSet<String> = sqlx::query_scalar(
        r#"SELECT DISTINCT i.account_id::text FROM ledger.item i
           WHERE i.account_id::text COLLATE "C" = ANY ($1)
             AND (i.open_amount::numeric > 0
                      AND NOT dunning.is_settled(i.open_amount::numeric, i.settled_on::date, $3)
                  OR i.settled_on::date > $2)"#,
    )
    .bind(all)
    .bind(as_of)
    .bind(today)
    .fetch_all(connection)
    .await?
    .into_iter()
    .collect();
    let counted = shared.into_iter().map(|(key, accounts)| {
        let owing = u32::try_from(accounts.intersection(&owing).count()).unwrap_or(u32::MAX);
        (key, MailboxAccounts { accounts: accounts.into_iter().collect(), owing })
    });
    Ok(counted.collect())
}

/// Whether every account of the ledger is the creditor's.
pub(super) async fn is_alone(connection: &mut PgConnection, creditor: &CreditorId) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT NOT EXISTS (SELECT FROM ledger.account WHERE creditor::text IS DISTINCT FROM $1)")
        .bind(creditor.as_str())
        .fetch_one(connection)
        .await
}

fn key_of(text: &str) -> Option<String> {
    EmailAddress::parse(text).ok().map(|address| address.mailbox_key())
}

/// The accounts that use each of those mailboxes, however it is written.
async fn accounts_of_mailboxes(
    connection: &mut PgConnection,
    creditor: &CreditorId,
    keys: &BTreeSet<String>,
) -> Result<BTreeMap<String, BTreeSet<String>>, sqlx::Error> {
    let wanted: Vec<&str> = keys.iter().map(String::as_str).collect();
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT c.email::text, c.account_id::text
         FROM ledger.contact c JOIN ledger.account a ON a.account_id::text = c.account_id::text
         WHERE a.creditor::text = $1 AND NOT c.no_email::boolean
           AND (dunning.mailbox_key(c.email::text) IS NULL AND c.email IS NOT NULL
                OR dunning.mailbox_key(c.email::text) = ANY ($2))",
    )
    .bind(creditor.as_str())
    .bind(wanted)
    .fetch_all(connection)
    .await?;
    let mut accounts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (email, account) in rows {
        if let Some(key) = key_of(&email) {
            accounts.entry(key).or_default().insert(account);
        }
    }
    Ok(accounts)
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
    sqlx::query_as(
        "SELECT creditor::text, count(*) FROM ledger.account WHERE creditor IS NOT NULL GROUP BY 1 ORDER BY 1",
    )
    .fetch_all(connection)
    .await
}

/// The creditor of an account; `None` when the ledger does not know it.
///
/// # Errors
/// When the database refuses.
pub async fn creditor_of(connection: &mut PgConnection, account: &AccountId) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT creditor::text FROM ledger.account WHERE account_id::text = $1 AND creditor IS NOT NULL")
        .bind(account.as_str())
        .fetch_optional(connection)
        .await
}
