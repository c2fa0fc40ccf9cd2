//! The contact log as lines for people and machines, and messages exactly as sent.
//!
//! An export is NDJSON, one line per event in order:
//! `{"seq":"N","bytes":"<base64 of the stored bytes>","leaf":"<hex>","chain":"<hex>"}`. Beside it lie the messages, and
//! messages.ndjson with `{"notice":…,"file":…,"salt":"<hex>"}`: HMAC-SHA256(salt, file) is the `message_commitment` of
//! the notice's `notice_planned` event.

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

/// The notices whose messages an export carries, of one account when named, in the order they were made.
///
/// # Errors
/// When the database refuses.
pub async fn messages_of(connection: &mut PgConnection, account: Option<&str>) -> Result<Vec<Uuid>, RecordError> {
    let ids = sqlx::query_scalar!(
        "SELECT notice_id FROM dunning.notice JOIN dunning.message USING (notice_id)
         WHERE $1::text IS NULL OR account_id = $1 ORDER BY created_at, notice_id",
        account
    )
    .fetch_all(connection)
    .await?;
    Ok(ids)
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

/// The line of messages.ndjson for one message: with its salt anybody can tie the file to the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MessageLine {
    pub(super) notice: String,
    pub(super) file: String,
    pub(super) salt: String,
}

/// The line of messages.ndjson for one message, without a line end.
#[must_use]
pub fn message_line(notice: Uuid, file: &str, message: &Message) -> String {
    let line = MessageLine { notice: notice.to_string(), file: file.to_owned(), salt: hex::encode(&message.salt) };
    serde_json::to_string(&line).unwrap_or_default()
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
