//! The contact log as lines for people and machines, and messages exactly as sent.
//!
//! docs/verify.md has the formats, for those who check them without this program.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use super::RecordError;

/// One event as stored.
#[derive(Debug, Clone)]
pub struct EventLine {
    pub seq: i64,
    pub bytes: Vec<u8>,
    pub leaf_hash: Vec<u8>,
    pub chain_hash: Vec<u8>,
    pub at: DateTime<Utc>,
}

/// The export's line for one event.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExportLine {
    pub(super) seq: String,
    pub(super) bytes: String,
    pub(super) leaf: String,
    pub(super) chain: String,
}

/// The export's line for one event, without a line end.
#[must_use]
pub fn export_line(event: &EventLine) -> String {
    let line = ExportLine {
        seq: event.seq.to_string(),
        bytes: BASE64_STANDARD.encode(&event.bytes),
        leaf: hex::encode(&event.leaf_hash),
        chain: hex::encode(&event.chain_hash),
    };
    serde_json::to_string(&line).unwrap_or_default()
}

/// Up to `limit` events after `after`, in order; of one account when named.
///
/// # Errors
/// When the database refuses.
pub async fn event_lines(
    connection: &mut PgConnection,
    after: i64,
    account: Option<&str>,
    limit: i64,
) -> Result<Vec<EventLine>, RecordError> {
    let rows = sqlx::query_as!(
        EventLine,
        "SELECT seq, bytes, leaf_hash, chain_hash, at FROM dunning.event
         WHERE seq > $1 AND ($2::text IS NULL OR account_id = $2) ORDER BY seq LIMIT $3",
        after,
        account,
        limit
    )
    .fetch_all(connection)
    .await?;
    Ok(rows)
}

/// A message as recorded: personal data, erasable.
#[derive(Debug, Clone)]
pub struct Message {
    pub recipient: String,
    /// Frozen when the notice was recorded, exactly as every attempt sends them.
    pub bytes: Vec<u8>,
    /// Opens the commitments that the log holds about this message.
    pub salt: Vec<u8>,
    /// The letter that the bytes were made from.
    pub letter: serde_json::Value,
}

/// The line of messages.ndjson for one notice: with the salt anybody can tie the file to the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MessageLine {
    pub(super) notice: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) salt: Option<String>,
    /// Its content was erased; an event says so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) erased: bool,
}

/// The file of a message in an export.
#[must_use]
pub fn message_file(notice: &str) -> String {
    format!("messages/{notice}.eml")
}

/// The line of messages.ndjson for one notice, without a line end; without its message when that was erased.
#[must_use]
pub fn message_line(notice: Uuid, message: Option<&Message>) -> String {
    let line = MessageLine {
        notice: notice.to_string(),
        file: message.map(|_| message_file(&notice.to_string())),
        salt: message.map(|message| hex::encode(&message.salt)),
        erased: message.is_none(),
    };
    serde_json::to_string(&line).unwrap_or_default()
}

/// The notices of an export, of one account when named, in the order they were made.
///
/// # Errors
/// When the database refuses.
pub async fn notices_made(connection: &mut PgConnection, account: Option<&str>) -> Result<Vec<Uuid>, RecordError> {
    let ids = sqlx::query_scalar!(
        "SELECT notice_id FROM dunning.notice WHERE $1::text IS NULL OR account_id = $1 ORDER BY created_at, notice_id",
        account
    )
    .fetch_all(connection)
    .await?;
    Ok(ids)
}

/// The message of a notice; `None` when there is no such notice or its message was erased.
///
/// # Errors
/// When the database refuses.
pub async fn message_of(connection: &mut PgConnection, notice: Uuid) -> Result<Option<Message>, RecordError> {
    let message = sqlx::query_as!(
        Message,
        "SELECT recipient, bytes, salt, letter FROM dunning.message WHERE notice_id = $1",
        notice
    )
    .fetch_optional(connection)
    .await?;
    Ok(message)
}

/// One line of notes.ndjson: the words of a note, or that they were erased.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoteLine {
    pub(super) note: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) body: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) salt: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) erased: bool,
}

/// The words of a note; personal data, erasable.
#[derive(Debug, Clone)]
pub struct Note {
    pub note: i64,
    /// Salt and words; missing when they were erased.
    pub words: Option<(Vec<u8>, String)>,
}

/// The line of notes.ndjson for one note, without a line end.
#[must_use]
pub fn note_line(note: &Note) -> String {
    let words = note.words.clone();
    let line = NoteLine {
        note: note.note.to_string(),
        erased: words.is_none(),
        salt: words.as_ref().map(|(salt, _)| hex::encode(salt)),
        body: words.map(|(_, body)| body),
    };
    serde_json::to_string(&line).unwrap_or_default()
}

/// Every note, of one account when named.
///
/// # Errors
/// When the database refuses.
pub async fn notes(connection: &mut PgConnection, account: Option<&str>) -> Result<Vec<Note>, RecordError> {
    let rows = sqlx::query!(
        r#"SELECT n.note_id, t.body AS "body?", t.salt AS "salt?"
           FROM dunning.note n LEFT JOIN dunning.note_text t USING (note_id)
           WHERE $1::text IS NULL OR n.account_id = $1 ORDER BY n.note_id"#,
        account
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| Note { note: row.note_id, words: row.salt.zip(row.body) }).collect())
}

/// One line of attempts.ndjson: a try to deliver, with what the relay answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttemptLine {
    pub attempt: String,
    pub notice: String,
    pub number: String,
    pub started_at: String,
    pub ended_at: Option<String>,
    pub outcome: Option<String>,
    pub phase: Option<String>,
    pub reply_code: Option<String>,
    /// The relay's own words; missing when it said nothing, or when they were erased.
    pub reply_text: Option<String>,
    /// What we noticed ourselves. The log does not commit to it.
    pub detail: Option<String>,
}

/// Every attempt, of one account when named, in the order of their notices.
///
/// # Errors
/// When the database refuses.
pub async fn attempt_lines(
    connection: &mut PgConnection,
    account: Option<&str>,
) -> Result<Vec<AttemptLine>, RecordError> {
    let rows = sqlx::query!(
        "SELECT a.attempt_id, a.notice_id, a.number, a.started_at, a.ended_at, a.outcome, a.phase, a.reply_code,
             a.reply_text, a.detail
         FROM dunning.attempt a JOIN dunning.notice n USING (notice_id)
         WHERE $1::text IS NULL OR n.account_id = $1 ORDER BY n.created_at, n.notice_id, a.number",
        account
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| AttemptLine {
            attempt: row.attempt_id.to_string(),
            notice: row.notice_id.to_string(),
            number: row.number.to_string(),
            started_at: row.started_at.to_rfc3339(),
            ended_at: row.ended_at.map(|at| at.to_rfc3339()),
            outcome: row.outcome,
            phase: row.phase,
            reply_code: row.reply_code.map(|code| code.to_string()),
            reply_text: row.reply_text,
            detail: row.detail,
        })
        .collect())
}
