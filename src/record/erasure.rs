//! Erasing personal data, and what stands against it. The database deletes and writes the event in one call, so nobody
//! can do the one without the other.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::PgConnection;

use crate::model::{AccountId, Actor, EmailAddress, EventKind};

use super::register::account_event;
use super::{RecordError, append};

/// What is to be erased, and why.
#[derive(Debug, Clone, Copy)]
pub struct Erasure<'a> {
    /// `messages`, `notes`, `smtp`.
    pub classes: &'a [&'a str],
    /// Leaves what is younger; without it everything goes.
    pub before: Option<DateTime<Utc>>,
    pub reason: &'a str,
    /// The provision that asks for it or allows it: `GDPR art. 17(1)`.
    pub legal_ground: &'a str,
}

impl Erasure<'_> {
    /// Everything personal.
    pub const ALL: &'static [&'static str] = &["messages", "notes", "smtp"];
}

/// Why nothing was erased.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    #[error("neither the ledger nor the log knows an account {0}")]
    NoSuchAccount(String),
    #[error("account {0} has notices on their way or of unknown outcome; see `dunningd outbox list`, then erase")]
    OnTheirWay(String),
    #[error("account {0} is under a legal hold; `dunningd legal-hold` with --lift ends it")]
    LegalHold(String),
    #[error("account {0} is not under a legal hold")]
    NoLegalHold(String),
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl From<sqlx::Error> for EraseError {
    fn from(error: sqlx::Error) -> Self {
        Self::Record(error.into())
    }
}

/// Erases personal data of an account, in the caller's transaction, as its last statement. Returns the number of the
/// event that says so, or none when there was nothing older than `before`.
///
/// # Errors
/// While notices are on their way or a legal hold stands; when nobody knows the account; or when the database refuses.
pub async fn erase(
    connection: &mut PgConnection,
    account: &AccountId,
    erasure: &Erasure<'_>,
    actor: &Actor,
) -> Result<Option<i64>, EraseError> {
    let creditor = creditor_ever(connection, account).await?;
    let classes: Vec<String> = erasure.classes.iter().map(|class| (*class).to_owned()).collect();
    // The function runs as the owner of our tables, who may not look into the ledger, and cannot tell every mailbox.
    let known = sqlx::query!(
        r#"SELECT NOT EXISTS (SELECT FROM ledger.account WHERE account_id::text = $1) AS "gone!",
               ARRAY(SELECT email::text FROM ledger.contact WHERE account_id::text = $1 AND email IS NOT NULL
                     UNION SELECT email FROM dunning.contact_data JOIN dunning.contact_entry USING (entry_id)
                     WHERE account_id = $1 AND email IS NOT NULL) AS "emails!""#,
        account.as_str()
    )
    .fetch_one(&mut *connection)
    .await?;
    let mailboxes: Vec<String> = known.emails.iter().filter_map(|email| mailbox(email)).collect();
    let erased = sqlx::query_scalar!(
        "SELECT dunning.erase($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        account.as_str(),
        creditor,
        &classes,
        erasure.before,
        &mailboxes,
        known.gone,
        erasure.reason,
        erasure.legal_ground,
        actor.os_user,
        actor.person
    )
    .fetch_one(connection)
    .await;
    erased.map_err(|error| match error.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref() {
        Some("DU001") => EraseError::OnTheirWay(account.to_string()),
        Some("DU002") => EraseError::LegalHold(account.to_string()),
        _ => error.into(),
    })
}

/// The creditor of an account that may have left the ledger since.
async fn creditor_ever(connection: &mut PgConnection, account: &AccountId) -> Result<String, EraseError> {
    let creditor = sqlx::query_scalar!(
        r#"SELECT coalesce((SELECT creditor::text FROM ledger.account WHERE account_id::text = $1),
                           (SELECT creditor FROM dunning.notice WHERE account_id = $1 LIMIT 1),
                           (SELECT creditor FROM dunning.decision WHERE account_id = $1 LIMIT 1),
                           (SELECT creditor FROM dunning.note WHERE account_id = $1 LIMIT 1),
                           (SELECT creditor FROM dunning.contact_entry WHERE account_id = $1 LIMIT 1),
                           (SELECT creditor FROM dunning.task WHERE account_id = $1 LIMIT 1))"#,
        account.as_str()
    )
    .fetch_one(connection)
    .await?;
    creditor.ok_or_else(|| EraseError::NoSuchAccount(account.to_string()))
}

/// The accounts that have something of that class from before that moment, and no legal hold.
///
/// # Errors
/// When the database refuses.
pub async fn expired(
    connection: &mut PgConnection,
    class: &str,
    before: DateTime<Utc>,
) -> Result<Vec<String>, RecordError> {
    let named = if class == "messages" { named_by_tasks(connection, before).await? } else { Vec::new() };
    let accounts = sqlx::query_scalar!(
        r#"SELECT DISTINCT n.account_id AS "account!" FROM (
               SELECT account_id FROM dunning.notice JOIN dunning.message USING (notice_id)
               WHERE $1 = 'messages' AND changed_at < $2
                 AND state IN ('accepted', 'refused', 'cancelled', 'bounced', 'delivered', 'replied', 'done', 'lapsed')
               UNION ALL
               SELECT d.account_id FROM dunning.decision d JOIN dunning.run USING (run_id)
               WHERE $1 = 'messages' AND d.detail IS NOT NULL AND started_at < $2
               UNION ALL
               SELECT e.account_id FROM dunning.contact_entry e JOIN dunning.contact_data USING (entry_id)
               WHERE $1 = 'messages'
                 AND (e.ended_at < $2
                      OR e.ended_at IS NULL AND e.entered_at < $2
                         AND NOT EXISTS (SELECT FROM ledger.account a WHERE a.account_id::text = e.account_id)
                         AND dunning.last_seen(e.account_id) < $2 - interval '1 day')
               UNION ALL
               SELECT account_id FROM dunning.task
               WHERE $1 = 'messages' AND account_id <> '' AND text <> '' AND closed_at < $2
               UNION ALL
               SELECT * FROM unnest($3::text[])
               UNION ALL
               SELECT account_id FROM dunning.note JOIN dunning.note_text USING (note_id)
               WHERE $1 = 'notes' AND noted_at < $2
               UNION ALL
               SELECT account_id FROM dunning.notice JOIN dunning.attempt a USING (notice_id)
               WHERE $1 = 'smtp' AND changed_at < $2 AND (a.reply_text IS NOT NULL OR a.detail IS NOT NULL)
                 AND state IN ('accepted', 'refused', 'cancelled', 'bounced', 'delivered', 'replied', 'done', 'lapsed')) n
           WHERE NOT EXISTS (SELECT FROM dunning.legal_hold h WHERE h.account_id = n.account_id AND h.lifted_at IS NULL)
           ORDER BY 1"#,
        class,
        before,
        &named
    )
    .fetch_all(connection)
    .await?;
    Ok(accounts)
}

/// The accounts whose mailbox is named by a task that was closed before that moment.
async fn named_by_tasks(connection: &mut PgConnection, before: DateTime<Utc>) -> Result<Vec<String>, RecordError> {
    let subjects = sqlx::query_scalar!(
        "SELECT subject FROM dunning.task WHERE kind = 'shared_mailbox' AND text <> '' AND closed_at < $1",
        before
    )
    .fetch_all(&mut *connection)
    .await?;
    if subjects.is_empty() {
        return Ok(Vec::new());
    }
    let contacts = sqlx::query!(
        r#"SELECT account_id::text AS "account!", email::text AS "email!" FROM ledger.contact
           WHERE email IS NOT NULL
             AND (dunning.mailbox_key(email::text) IS NULL OR dunning.mailbox_key(email::text) = ANY ($1))"#,
        &subjects
    )
    .fetch_all(connection)
    .await?;
    let subjects: BTreeSet<String> = subjects.into_iter().collect();
    let named = contacts.into_iter().filter(|one| mailbox(&one.email).is_some_and(|key| subjects.contains(&key)));
    Ok(named.map(|one| one.account).collect())
}

/// The key of the mailbox that a text of the ledger says; none when it says none.
fn mailbox(email: &str) -> Option<String> {
    EmailAddress::parse(email).ok().map(|address| address.mailbox_key())
}

/// Keeps everything about an account, whoever asks to have it erased. Returns its number; the one that stands, when
/// there is one.
///
/// # Errors
/// When nobody knows the account, or the database refuses.
pub async fn place_legal_hold(
    connection: &mut PgConnection,
    account: &AccountId,
    reason: &str,
    actor: &Actor,
) -> Result<i64, EraseError> {
    let creditor = creditor_ever(connection, account).await?;
    let placed = sqlx::query_scalar!(
        "INSERT INTO dunning.legal_hold (creditor, account_id, reason, placed_by) VALUES ($1, $2, $3, $4)
         ON CONFLICT (account_id) WHERE lifted_at IS NULL DO NOTHING RETURNING legal_hold_id",
        creditor,
        account.as_str(),
        reason,
        actor.person
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(id) = placed else {
        let standing = sqlx::query_scalar!(
            "SELECT legal_hold_id FROM dunning.legal_hold WHERE account_id = $1 AND lifted_at IS NULL",
            account.as_str()
        );
        return Ok(standing.fetch_one(connection).await?);
    };
    let facts = json!({ "legal_hold": id.to_string(), "reason": reason });
    append(connection, &[account_event(EventKind::LegalHoldPlaced, &creditor, account, actor, facts)]).await?;
    Ok(id)
}

/// Ends the legal hold of an account.
///
/// # Errors
/// When there is none, or the database refuses.
pub async fn lift_legal_hold(
    connection: &mut PgConnection,
    account: &AccountId,
    reason: &str,
    actor: &Actor,
) -> Result<i64, EraseError> {
    let row = sqlx::query!(
        "UPDATE dunning.legal_hold SET lifted_by = $2, lifted_at = clock_timestamp(), lift_reason = $3
         WHERE account_id = $1 AND lifted_at IS NULL RETURNING legal_hold_id, creditor",
        account.as_str(),
        actor.person,
        reason
    )
    .fetch_optional(&mut *connection)
    .await?
    .ok_or_else(|| EraseError::NoLegalHold(account.to_string()))?;
    let facts = json!({ "legal_hold": row.legal_hold_id.to_string(), "reason": reason });
    append(connection, &[account_event(EventKind::LegalHoldLifted, &row.creditor, account, actor, facts)]).await?;
    Ok(row.legal_hold_id)
}
