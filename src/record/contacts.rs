//! What people know better about contacts than the ledger. Addresses, numbers and names stand in a side table, and the
//! log holds a commitment.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::NaiveDate;
use serde_json::json;
use sqlx::PgConnection;

use crate::model::{AccountId, Actor, ContactEntry, ContactId, EmailAddress, EventKind};

use super::notices::commitment;
use super::register::{RegisterError, account_event, known};
use super::{RecordError, append};

/// The id of a contact that the ledger does not have, for the n-th of an account.
fn own_id(number: i64) -> String {
    format!("own:{number}")
}

/// What the log commits to of a contact.
fn contact_data(email: Option<&str>, phone: Option<&str>, name: Option<&str>) -> String {
    json!({ "email": email, "phone": phone, "name": name }).to_string()
}

/// The mailboxes of contacts that a person entered or changed, each with the accounts for which he did.
///
/// # Errors
/// When the database refuses.
pub async fn entered_mailboxes(
    connection: &mut PgConnection,
) -> Result<HashMap<String, BTreeSet<String>>, RecordError> {
    let rows = sqlx::query!(
        r#"SELECT e.account_id, coalesce(d.email, c.email::text) AS "email!"
           FROM dunning.contact_entry e LEFT JOIN dunning.contact_data d USING (entry_id)
           LEFT JOIN ledger.contact c ON c.account_id::text = e.account_id AND c.contact_id::text = e.contact_id
           WHERE e.ended_at IS NULL AND coalesce(d.email, c.email::text) IS NOT NULL"#
    )
    .fetch_all(connection)
    .await?;
    let mut entered: HashMap<String, BTreeSet<String>> = HashMap::new();
    for row in rows {
        if let Ok(email) = EmailAddress::parse(&row.email) {
            entered.entry(email.mailbox_key()).or_default().insert(row.account_id);
        }
    }
    Ok(entered)
}

/// The data of every contact that was entered and not erased, with its salt, by entry.
///
/// # Errors
/// When the database refuses.
pub async fn contact_data_kept(
    connection: &mut PgConnection,
) -> Result<BTreeMap<String, (Vec<u8>, String)>, RecordError> {
    let rows = sqlx::query!("SELECT entry_id, email, phone, name, salt FROM dunning.contact_data")
        .fetch_all(connection)
        .await?;
    let data = |email: Option<String>, phone: Option<String>, name: Option<String>| {
        contact_data(email.as_deref(), phone.as_deref(), name.as_deref())
    };
    Ok(rows
        .into_iter()
        .map(|row| (row.entry_id.to_string(), (row.salt, data(row.email, row.phone, row.name))))
        .collect())
}

/// Enters what is known about a contact, in place of what was entered before; without an id, a contact that the ledger
/// does not have. Returns its id.
///
/// # Errors
/// When the ledger does not know the account, or the database refuses.
pub async fn enter_contact(
    connection: &mut PgConnection,
    account: &AccountId,
    entry: &ContactEntry,
    is_new: bool,
    salt: [u8; 32],
    (reason, since): (&str, NaiveDate),
    actor: &Actor,
) -> Result<ContactId, RegisterError> {
    let creditor = known(connection, account, None).await?;
    let contact = if is_new {
        let count = sqlx::query_scalar!(
            r#"SELECT count(DISTINCT contact_id) + 1 AS "next!" FROM dunning.contact_entry
               WHERE account_id = $1 AND role IS NOT NULL"#,
            account.as_str()
        )
        .fetch_one(&mut *connection)
        .await?;
        ContactId::parse(&own_id(count)).unwrap_or_else(|_| entry.contact.clone())
    } else {
        entry.contact.clone()
    };
    end(connection, account, &contact, reason, actor).await?;
    let id = sqlx::query_scalar!(
        "INSERT INTO dunning.contact_entry
             (creditor, account_id, contact_id, role, no_email, language, reason, since, entered_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING entry_id",
        creditor,
        account.as_str(),
        contact.as_str(),
        entry.role.map(crate::model::ContactRole::as_str),
        entry.no_email,
        entry.language,
        reason,
        since,
        actor.person
    )
    .fetch_one(&mut *connection)
    .await?;
    let email = entry.email.as_ref().map(crate::model::EmailAddress::as_str);
    sqlx::query!(
        "INSERT INTO dunning.contact_data (entry_id, email, phone, name, salt) VALUES ($1, $2, $3, $4, $5)",
        id,
        email,
        entry.phone,
        entry.name,
        &salt[..]
    )
    .execute(&mut *connection)
    .await?;
    let data = contact_data(email, entry.phone.as_deref(), entry.name.as_deref());
    let facts = json!({
        "entry": id.to_string(), "contact": contact, "role": entry.role, "no_email": entry.no_email,
        "language": entry.language, "since": since, "reason": reason, "data_commitment": commitment(&salt, data.as_bytes()),
    });
    append(connection, &[account_event(EventKind::ContactEntered, &creditor, account, actor, facts)]).await?;
    Ok(contact)
}

/// Takes back what was entered about a contact: the ledger's words count again, and a contact of ours is gone.
///
/// # Errors
/// When nothing was entered about it, or the database refuses.
pub async fn remove_contact(
    connection: &mut PgConnection,
    account: &AccountId,
    contact: &ContactId,
    reason: &str,
    actor: &Actor,
) -> Result<(), RegisterError> {
    let creditor = known(connection, account, None).await?;
    if !end(connection, account, contact, reason, actor).await? {
        return Err(RegisterError::NoContactEntry(contact.to_string()));
    }
    let facts = json!({ "contact": contact, "reason": reason });
    append(connection, &[account_event(EventKind::ContactRemoved, &creditor, account, actor, facts)]).await?;
    Ok(())
}

async fn end(
    connection: &mut PgConnection,
    account: &AccountId,
    contact: &ContactId,
    reason: &str,
    actor: &Actor,
) -> Result<bool, RegisterError> {
    let ended = sqlx::query!(
        "UPDATE dunning.contact_entry SET ended_by = $3, ended_at = clock_timestamp(), ended_reason = $4
         WHERE account_id = $1 AND contact_id = $2 AND ended_at IS NULL",
        account.as_str(),
        contact.as_str(),
        actor.person,
        reason
    )
    .execute(connection)
    .await?;
    Ok(ended.rows_affected() > 0)
}
