//! Calls and notes. Their words are personal data: they stand in a side table, and the log holds a commitment.

use chrono::NaiveDate;
use serde::Serialize;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::model::{AccountId, Actor, CallOutcome, Cause, Event, EventKind, ItemId};

use super::causes::{NewCause, take_down};
use super::notices::commitment;
use super::register::{RegisterError, account_event, known};
use super::{RecordError, append};

/// What a person wrote down.
#[derive(Debug, Clone, Copy)]
pub struct NoteText<'a> {
    pub body: &'a str,
    /// Random; makes the commitment in the log say nothing about the words.
    pub salt: [u8; 32],
}

/// A call that a person made.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    pub outcome: CallOutcome,
    pub text: Option<NoteText<'a>>,
    /// What it was about.
    pub item: Option<&'a ItemId>,
    /// Why nothing is paid, as the call told.
    pub cause: Option<Cause>,
    pub called_on: NaiveDate,
}

/// Records a call; it counts as a contact of that day. Its cause is recorded with it, unless that one stands already.
/// Returns the call's number.
///
/// # Errors
/// When the ledger does not know the account or item, or the database refuses.
pub async fn log_call(
    connection: &mut PgConnection,
    account: &AccountId,
    made: &Call<'_>,
    actor: &Actor,
) -> Result<i64, RegisterError> {
    let (call, events) = record_call(connection, account, made, None, actor).await?;
    append(connection, &events).await?;
    Ok(call)
}

/// Records a call that a person made, by himself or because a notice asked for it; gives the events, which the caller
/// appends last.
pub(super) async fn record_call(
    connection: &mut PgConnection,
    account: &AccountId,
    made: &Call<'_>,
    notice: Option<Uuid>,
    actor: &Actor,
) -> Result<(i64, Vec<Event>), RegisterError> {
    let Call { outcome, called_on, .. } = *made;
    let creditor = known(connection, account, made.item).await?;
    let call = sqlx::query_scalar!(
        "INSERT INTO dunning.call (creditor, account_id, outcome, called_on, called_by, notice_id)
         VALUES ($1, $2, $3, $4, $5, $6) RETURNING call_id",
        creditor,
        account.as_str(),
        outcome.as_str(),
        called_on,
        actor.person,
        notice
    )
    .fetch_one(&mut *connection)
    .await?;
    let mut facts = json!({ "call": call.to_string(), "outcome": outcome, "called_on": called_on.to_string() });
    if let Some(text) = made.text {
        let note = write_down(connection, &creditor, account, Some(call), text, called_on, actor).await?;
        facts["note"] = note.to_string().into();
        facts["note_commitment"] = commitment(&text.salt, text.body.as_bytes()).into();
    }
    let mut events = vec![account_event(EventKind::CallLogged, &creditor, account, actor, facts)];
    if let Some(cause) = made.cause {
        let reason = format!("call {call}");
        let told = NewCause { item: made.item, cause, reason: &reason, since: called_on };
        events.extend(take_down(connection, &creditor, account, &told, actor).await?.map(|(_, event)| event));
    }
    Ok((call, events))
}

/// Records a note about an account; returns its number.
///
/// # Errors
/// When the ledger does not know the account, or the database refuses.
pub async fn add_note(
    connection: &mut PgConnection,
    account: &AccountId,
    text: NoteText<'_>,
    noted_on: NaiveDate,
    actor: &Actor,
) -> Result<i64, RegisterError> {
    let creditor = known(connection, account, None).await?;
    let note = write_down(connection, &creditor, account, None, text, noted_on, actor).await?;
    let facts = json!({ "note": note.to_string(), "note_commitment": commitment(&text.salt, text.body.as_bytes()) });
    append(connection, &[account_event(EventKind::NoteAdded, &creditor, account, actor, facts)]).await?;
    Ok(note)
}

async fn write_down(
    connection: &mut PgConnection,
    creditor: &str,
    account: &AccountId,
    call: Option<i64>,
    text: NoteText<'_>,
    noted_on: NaiveDate,
    actor: &Actor,
) -> Result<i64, RecordError> {
    let note = sqlx::query_scalar!(
        "INSERT INTO dunning.note (creditor, account_id, call_id, noted_on, noted_by)
         VALUES ($1, $2, $3, $4, $5) RETURNING note_id",
        creditor,
        account.as_str(),
        call,
        noted_on,
        actor.person
    )
    .fetch_one(&mut *connection)
    .await?;
    sqlx::query!(
        "INSERT INTO dunning.note_text (note_id, body, salt) VALUES ($1, $2, $3)",
        note,
        text.body,
        &text.salt[..]
    )
    .execute(connection)
    .await?;
    Ok(note)
}

/// A call or a note as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JournalRow {
    pub day: NaiveDate,
    pub person: String,
    /// Of a call.
    pub outcome: Option<String>,
    /// Missing when nothing was written down, or when it was erased.
    pub text: Option<String>,
}

/// The calls and notes of an account, latest first.
///
/// # Errors
/// When the database refuses.
pub async fn journal(connection: &mut PgConnection, account: &AccountId) -> Result<Vec<JournalRow>, RecordError> {
    let rows = sqlx::query_as!(
        JournalRow,
        r#"SELECT coalesce(c.called_on, n.noted_on) AS "day!", coalesce(c.called_by, n.noted_by) AS "person!",
               c.outcome AS "outcome?", t.body AS "text?"
           FROM (SELECT * FROM dunning.call WHERE account_id COLLATE "C" = $1) c
           FULL JOIN (SELECT * FROM dunning.note WHERE account_id COLLATE "C" = $1) n USING (call_id)
           LEFT JOIN dunning.note_text t USING (note_id)
           ORDER BY coalesce(c.called_at, n.noted_at) DESC, c.call_id DESC, n.note_id DESC"#,
        account.as_str()
    )
    .fetch_all(connection)
    .await?;
    Ok(rows)
}
