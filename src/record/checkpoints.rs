//! Signed checkpoints: made, kept, read back.

use serde::Serialize;
use sqlx::PgConnection;

use crate::model::{Checkpoint, CheckpointKey, Edge, GENESIS, VerifierKey, chain_hash, leaf_hash};

use super::export::event_lines;
use super::verify::Problem;
use super::{RecordError, head, inconsistent};

/// Two daemons that make a checkpoint at the same time do it one after the other.
const CHECKPOINT_LOCK: i64 = 0x6475_6e6e_6370;
/// Events read at a time.
const BATCH: i64 = 1_000;

/// A checkpoint as kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckpointRow {
    pub size: u64,
    /// Exactly as signed.
    pub note: String,
    pub verifier_key: String,
}

/// Why no checkpoint was made. Nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("there is no event yet, so there is nothing to sign")]
    Empty,
    /// The log is not the one that the last checkpoint signed, or does not hold together since.
    #[error("the log contradicts its last checkpoint, so nothing was signed: {0}")]
    Contradiction(Problem),
    /// The log does not extend the checkpoint that this machine remembers, whatever the database says was signed.
    #[error(
        "the log does not extend the one of {size} events that this machine signed last, so nothing was signed: {problem}. \
         Was the database restored, or rewritten? Look into it; if it is to count, begin once with `--accept-database \
         --reason …`"
    )]
    Forgotten { size: u64, problem: Problem },
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl From<sqlx::Error> for CheckpointError {
    fn from(error: sqlx::Error) -> Self {
        Self::Record(error.into())
    }
}

/// Where a tree ends.
struct End {
    edge: Edge,
    head: [u8; 32],
}

/// One after the other, until the caller's transaction ends.
///
/// # Errors
/// When the database refuses.
pub async fn lock_checkpoints(connection: &mut PgConnection) -> Result<(), RecordError> {
    sqlx::query!("SELECT pg_advisory_xact_lock($1)", CHECKPOINT_LOCK).execute(connection).await?;
    Ok(())
}

/// Signs the log as it is now and keeps the checkpoint, in the caller's transaction, which holds the lock of
/// [`lock_checkpoints`]; gives the last one when nothing was appended since by the same key. It begins where the last one ended, so it
/// reads only what came after it: `log verify` is what reads everything.
///
/// `remembered`: what was signed last as this machine has it from elsewhere than this database, which the log has to
/// extend. Where the database tells another last one, nothing of that is believed, and everything is read.
///
/// # Errors
/// As [`CheckpointError`].
pub async fn make_checkpoint(
    connection: &mut PgConnection,
    key: &CheckpointKey,
    remembered: Option<&Checkpoint>,
) -> Result<CheckpointRow, CheckpointError> {
    let (mut at, last) = last_end(connection).await?;
    let told = (at.edge.size(), at.edge.root());
    if let Some(signed) = remembered.filter(|signed| (signed.size, signed.root) != told) {
        at = extending(connection, signed)
            .await?
            .map_err(|problem| CheckpointError::Forgotten { size: signed.size, problem })?;
        if at.edge.size() < told.0 {
            at = read_on(connection, at, told.0).await?.map_err(CheckpointError::Contradiction)?;
            if at.edge.root() != told.1 {
                return Err(contradiction(told.0, "the last checkpoint signed another log"));
            }
        }
    }
    let (size, chain) = head(connection).await?;
    let size = u64::try_from(size).unwrap_or_default();
    if size < at.edge.size() {
        return Err(contradiction(size + 1, "it is missing: the tail of the log was cut off"));
    }
    if size == 0 {
        return Err(CheckpointError::Empty);
    }
    // One of another key says nothing to who knows only this one; it is told, and the older one stays kept.
    if let Some(last) = last.filter(|last| last.size == size && last.verifier_key == key.verifier().to_string()) {
        return Ok(last);
    }
    let at = read_on(connection, at, size).await?.map_err(CheckpointError::Contradiction)?;
    if chain != at.head {
        return Err(contradiction(size, "the head of the log is not its chain hash"));
    }
    let row = CheckpointRow { size, note: key.sign(size, at.edge.root()), verifier_key: key.verifier().to_string() };
    let edge: Vec<Vec<u8>> = at.edge.roots().iter().map(|root| root.to_vec()).collect();
    sqlx::query!(
        "INSERT INTO dunning.checkpoint (size, note, verifier_key, edge, chain_hash) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (size) DO NOTHING",
        i64::try_from(size).unwrap_or(i64::MAX),
        row.note,
        row.verifier_key,
        &edge,
        &at.head[..]
    )
    .execute(connection)
    .await?;
    Ok(row)
}

/// The end of the tree with the events up to that one, or what does not hold together on the way.
async fn read_on(connection: &mut PgConnection, mut at: End, size: u64) -> Result<Result<End, Problem>, RecordError> {
    let problem = |seq, what: &str| Ok(Err(Problem { seq, what: what.to_owned() }));
    while at.edge.size() < size {
        let after = i64::try_from(at.edge.size()).unwrap_or(i64::MAX);
        let events = event_lines(connection, after, None, BATCH).await?;
        if events.is_empty() {
            return problem(at.edge.size() + 1, "it is missing");
        }
        for event in events.iter().take(usize::try_from(size - at.edge.size()).unwrap_or(usize::MAX)) {
            let number = at.edge.size() + 1;
            let leaf = leaf_hash(&event.bytes);
            at.head = chain_hash(at.head, leaf);
            if event.seq.to_string() != number.to_string() || event.chain_hash != at.head || event.leaf_hash != leaf {
                return problem(number, "the chain breaks here");
            }
            at.edge.push(leaf);
        }
    }
    Ok(Ok(at))
}

/// The end of the tree that a checkpoint signed, or what keeps the log from extending it. Reads all of it up to there.
async fn extending(connection: &mut PgConnection, signed: &Checkpoint) -> Result<Result<End, Problem>, RecordError> {
    let end = read_on(connection, End { edge: Edge::default(), head: GENESIS }, signed.size).await?;
    let what = "at least one event up to this one is not the one that was signed";
    Ok(end.and_then(|end| {
        if end.edge.root() == signed.root { Ok(end) } else { Err(Problem { seq: signed.size, what: what.to_owned() }) }
    }))
}

/// Whether the log extends a checkpoint. Reads all of it up to there.
///
/// # Errors
/// When the database refuses.
pub async fn extends_checkpoint(connection: &mut PgConnection, signed: &Checkpoint) -> Result<bool, RecordError> {
    Ok(extending(connection, signed).await?.is_ok())
}

/// The end of the tree that the last checkpoint signed, compared with its signature and with the log.
async fn last_end(connection: &mut PgConnection) -> Result<(End, Option<CheckpointRow>), CheckpointError> {
    let row = sqlx::query!(
        r#"SELECT c.size, c.note, c.verifier_key, c.edge, c.chain_hash, e.chain_hash AS "chain_now?"
           FROM dunning.checkpoint c LEFT JOIN dunning.event e ON e.seq = c.size ORDER BY c.size DESC LIMIT 1"#
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok((End { edge: Edge::default(), head: GENESIS }, None)) };
    let wrong = |column| inconsistent("dunning.checkpoint", column, "altered");
    let size = u64::try_from(row.size).unwrap_or_default();
    let checkpoint = Checkpoint::parse(&row.note).map_err(|_| wrong("note"))?;
    let key = VerifierKey::parse(&row.verifier_key).map_err(|_| wrong("verifier_key"))?;
    let roots: Option<Vec<[u8; 32]>> = row.edge.into_iter().map(|root| root.try_into().ok()).collect();
    let edge = roots.and_then(|roots| Edge::new(size, roots)).ok_or_else(|| wrong("edge"))?;
    if checkpoint.size != size || !checkpoint.signed_by(&key) || checkpoint.root != edge.root() {
        return Err(wrong("note").into());
    }
    let head = row.chain_hash.clone().try_into().map_err(|_| wrong("chain_hash"))?;
    match row.chain_now {
        None => return Err(contradiction(size, "it is missing, and the last checkpoint signed it")),
        Some(chain) if chain != row.chain_hash => {
            return Err(contradiction(
                size,
                "its chain hash is not the one of the last checkpoint: the log was rewritten",
            ));
        }
        Some(_) => {}
    }
    Ok((End { edge, head }, Some(CheckpointRow { size, note: row.note, verifier_key: row.verifier_key })))
}

fn contradiction(seq: u64, what: &str) -> CheckpointError {
    CheckpointError::Contradiction(Problem { seq, what: what.to_owned() })
}

/// Every checkpoint, smallest first.
///
/// # Errors
/// When the database refuses.
pub async fn checkpoints(connection: &mut PgConnection) -> Result<Vec<CheckpointRow>, RecordError> {
    let rows = sqlx::query!("SELECT size, note, verifier_key FROM dunning.checkpoint ORDER BY size")
        .fetch_all(connection)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| CheckpointRow {
            size: u64::try_from(row.size).unwrap_or_default(),
            note: row.note,
            verifier_key: row.verifier_key,
        })
        .collect())
}

/// The newest checkpoint, if there is one.
///
/// # Errors
/// When the database refuses.
pub async fn last_checkpoint(connection: &mut PgConnection) -> Result<Option<CheckpointRow>, RecordError> {
    let row = sqlx::query!("SELECT size, note, verifier_key FROM dunning.checkpoint ORDER BY size DESC LIMIT 1")
        .fetch_optional(connection)
        .await?;
    Ok(row.map(|row| CheckpointRow {
        size: u64::try_from(row.size).unwrap_or_default(),
        note: row.note,
        verifier_key: row.verifier_key,
    }))
}

/// Whether events wait for a checkpoint, or are gone that the last one signed, and that is older than a day; or there is
/// none.
///
/// # Errors
/// When the database refuses.
pub async fn checkpoint_is_due(connection: &mut PgConnection) -> Result<bool, RecordError> {
    let due = sqlx::query_scalar!(
        r#"SELECT (SELECT seq FROM dunning.event_head) <> (SELECT coalesce(max(size), 0) FROM dunning.checkpoint)
               AND NOT EXISTS (SELECT FROM dunning.checkpoint WHERE made_at > clock_timestamp() - interval '1 day')
               AS "due!""#
    )
    .fetch_one(connection)
    .await?;
    Ok(due)
}
