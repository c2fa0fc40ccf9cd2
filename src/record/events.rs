//! The contact log: the one way in, and its head.

use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;

use crate::model::{Event, EventKind};

use super::RecordError;

/// Appends events; the last statement before COMMIT. Returns the number of the last one.
///
/// # Errors
/// When the database refuses.
pub async fn append(connection: &mut PgConnection, events: &[Event]) -> Result<i64, RecordError> {
    let lines: Vec<String> = events.iter().map(Event::canonical).collect();
    let seq = sqlx::query_scalar!(r#"SELECT dunning.append($1) AS "seq!""#, &lines).fetch_one(connection).await?;
    Ok(seq)
}

/// Number and chain hash of the last event.
///
/// # Errors
/// When the database refuses.
pub async fn head(connection: &mut PgConnection) -> Result<(i64, Vec<u8>), RecordError> {
    let row = sqlx::query!("SELECT seq, chain_hash FROM dunning.event_head").fetch_one(connection).await?;
    Ok((row.seq, row.chain_hash))
}

/// The time on the database's clock.
///
/// # Errors
/// When the database refuses.
pub async fn now(connection: &mut PgConnection) -> Result<DateTime<Utc>, RecordError> {
    Ok(sqlx::query_scalar!(r#"SELECT clock_timestamp() AS "now!""#).fetch_one(connection).await?)
}

/// The time on the database's clock, and the latest of the last ten thousand events since a person said that it is right;
/// none in an empty log. The last event alone would not do: one that was made after the clock went back hides it.
///
/// # Errors
/// When the database refuses.
pub async fn times(connection: &mut PgConnection) -> Result<(DateTime<Utc>, Option<DateTime<Utc>>), RecordError> {
    let row = sqlx::query!(
        r#"WITH recent AS MATERIALIZED (SELECT seq, kind, at FROM dunning.event ORDER BY seq DESC LIMIT 10000)
           SELECT clock_timestamp() AS "now!",
               (SELECT max(at) FROM recent
                WHERE seq >= coalesce((SELECT max(seq) FROM recent WHERE kind = $1), 0)) AS last_event"#,
        EventKind::ClockAccepted.as_str()
    )
    .fetch_one(connection)
    .await?;
    Ok((row.now, row.last_event))
}

/// The chain hash of the event of that number; `None` when the log is shorter.
///
/// # Errors
/// When the database refuses.
pub async fn chain_hash_at(connection: &mut PgConnection, seq: i64) -> Result<Option<Vec<u8>>, RecordError> {
    let hash = sqlx::query_scalar!("SELECT chain_hash FROM dunning.event WHERE seq = $1", seq);
    Ok(hash.fetch_optional(connection).await?)
}

/// Whether the log holds all these events, each with the chain hash, in hex, that it had.
///
/// # Errors
/// When the database refuses.
pub async fn holds(connection: &mut PgConnection, numbers: &[i64], hashes: &[String]) -> Result<bool, RecordError> {
    let held = sqlx::query_scalar!(
        r#"SELECT count(*) AS "held!" FROM unnest($1::bigint[], $2::text[]) AS s (seq, chain_hash)
           JOIN dunning.event e ON e.seq = s.seq AND encode(e.chain_hash, 'hex') = s.chain_hash"#,
        numbers,
        hashes
    );
    Ok(usize::try_from(held.fetch_one(connection).await?) == Ok(numbers.len()))
}

/// Keeps the text behind a hash and returns the hash (SHA-256, hex).
///
/// # Errors
/// When the database refuses.
pub async fn texts_stored(connection: &mut PgConnection, kind: &str, body: &str) -> Result<String, RecordError> {
    let sha256 = hex::encode(Sha256::digest(body.as_bytes()));
    sqlx::query!(
        "INSERT INTO dunning.text (sha256, kind, body) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        sha256,
        kind,
        body
    )
    .execute(connection)
    .await?;
    Ok(sha256)
}
