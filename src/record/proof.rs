//! Proofs about one account: its events, each with its way up to the root that a checkpoint signed, and nothing about
//! anybody else. `docs/verify.md` has the format.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgConnection;

use crate::model::{Checkpoint, Hash, Prover, VerifierKey, extends, includes, leaf_hash};

use super::checkpoints::CheckpointRow;
use super::verify::{Problem, Vouched};
use super::{RecordError, inconsistent};

/// The events of an account with their inclusion proofs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    v: String,
    pub account: String,
    /// The public key that came along; whoever checks takes it from elsewhere.
    pub key: String,
    /// The signed note.
    pub checkpoint: String,
    pub events: Vec<ProvedEvent>,
    /// An older checkpoint that somebody kept, and the proof that the log only grew since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<Since>,
}

/// One event, as stored, and its way up: base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvedEvent {
    pub seq: String,
    bytes: String,
    proof: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Since {
    checkpoint: String,
    proof: Vec<String>,
}

impl ProvedEvent {
    /// The event as it was stored.
    #[must_use]
    pub fn stored(&self) -> Value {
        let bytes = BASE64_STANDARD.decode(&self.bytes).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }
}

/// Proves every event of an account up to a checkpoint, with the beginnings of the runs that decided about it; and,
/// when somebody kept an older checkpoint, that the log only grew since.
///
/// It reads the leaf hash of every event up to the checkpoint once, and keeps the few that the proofs name.
///
/// # Errors
/// When the database refuses, or the log is not the one that was signed.
pub async fn prove(
    connection: &mut PgConnection,
    account: &str,
    row: &CheckpointRow,
    since: Option<(&str, &Checkpoint)>,
) -> Result<Proof, RecordError> {
    let rewritten = || inconsistent("dunning.event", "leaf_hash", "not the log that was signed");
    let size = i64::try_from(row.size).unwrap_or(i64::MAX);
    let events = sqlx::query!(
        "SELECT seq, bytes FROM dunning.event
         WHERE seq <= $2 AND (account_id = $1
             OR kind = 'run_started' AND convert_from(bytes, 'UTF8')::jsonb -> 'event' ->> 'run' IN (
                 SELECT run_id::text FROM dunning.decision WHERE account_id = $1
                 UNION SELECT run_id::text FROM dunning.notice WHERE account_id = $1))
         ORDER BY seq",
        account,
        size
    )
    .fetch_all(&mut *connection)
    .await?;
    let number = |seq: i64| u64::try_from(seq - 1).unwrap_or_default();
    let mut prover =
        Prover::new(row.size, events.iter().map(|event| number(event.seq)), since.map(|(_, old)| old.size));
    let mut leaves =
        sqlx::query_scalar!("SELECT leaf_hash FROM dunning.event WHERE seq <= $1 ORDER BY seq", size).fetch(connection);
    while let Some(leaf) = leaves.try_next().await? {
        prover.push(leaf.try_into().map_err(|_| rewritten())?);
    }
    let signed = Checkpoint::parse(&row.note).map_err(|_| inconsistent("dunning.checkpoint", "note", "altered"))?;
    if prover.root() != Some(signed.root) {
        return Err(rewritten());
    }
    let events: Option<Vec<ProvedEvent>> = events
        .iter()
        .map(|event| {
            let proof = prover.inclusion(number(event.seq))?;
            Some(ProvedEvent {
                seq: event.seq.to_string(),
                bytes: BASE64_STANDARD.encode(&event.bytes),
                proof: encoded(&proof),
            })
        })
        .collect();
    let since = match since {
        Some((note, old)) => Some(Since {
            checkpoint: note.to_owned(),
            proof: encoded(&prover.consistency(old.size).ok_or_else(rewritten)?),
        }),
        None => None,
    };
    Ok(Proof {
        v: "1".to_owned(),
        account: account.to_owned(),
        key: row.verifier_key.clone(),
        checkpoint: row.note.clone(),
        events: events.ok_or_else(rewritten)?,
        since,
    })
}

fn encoded(proof: &[Hash]) -> Vec<String> {
    proof.iter().map(|hash| BASE64_STANDARD.encode(hash)).collect()
}

fn decoded(proof: &[String]) -> Option<Vec<Hash>> {
    proof.iter().map(|hash| BASE64_STANDARD.decode(hash).ok()?.try_into().ok()).collect()
}

/// A proof that holds.
#[derive(Debug, Clone)]
pub struct Proved {
    pub account: String,
    pub events: u64,
    /// The log that holds them.
    pub checkpoint: Checkpoint,
    /// The older checkpoint that the log was shown to have grown from.
    pub since: Option<Checkpoint>,
    pub vouched: Vouched,
    /// The stored bytes of every proved event, for whoever looks a hash up in them.
    pub texts: Vec<String>,
}

/// Verifies a proof. `keys`: without one the key that came along is used, which shows only that nothing was damaged.
///
/// # Errors
/// The first thing that does not hold, with the number of its event.
pub fn verify_proof(text: &str, keys: &[VerifierKey]) -> Result<Proved, Problem> {
    let proof: Proof =
        serde_json::from_str(text).map_err(|error| Problem::general(format_args!("this is not a proof: {error}")))?;
    let along = VerifierKey::parse(&proof.key).map_err(Problem::general)?;
    let keys = if keys.is_empty() { std::slice::from_ref(&along) } else { keys };
    let signed = |what: &str, note: &str| {
        let checkpoint = Checkpoint::parse(note).map_err(|error| Problem::general(format_args!("{what}: {error}")))?;
        if checkpoint.signed_by_one_of(keys) {
            Ok(checkpoint)
        } else {
            Err(Problem::general(format_args!("{what}: no signature of it holds under the given key")))
        }
    };
    let checkpoint = signed("the checkpoint", &proof.checkpoint)?;
    let mut proved = Proved {
        account: proof.account.clone(),
        events: 0,
        checkpoint: checkpoint.clone(),
        since: None,
        vouched: Vouched::default(),
        texts: Vec::new(),
    };
    let mut last = 0;
    for event in &proof.events {
        let seq: u64 = event.seq.parse().unwrap_or_default();
        let problem = |what: &str| Problem { seq, what: what.to_owned() };
        let bytes = BASE64_STANDARD.decode(&event.bytes).map_err(|_| problem("its bytes are not base64"))?;
        let path = decoded(&event.proof).ok_or_else(|| problem("its proof is not made of hashes"))?;
        if seq == 0 || !includes(checkpoint.root, checkpoint.size, seq - 1, leaf_hash(&bytes), &path) {
            return Err(problem("it is not in the signed log under this number: altered, or moved"));
        }
        let text = String::from_utf8(bytes).map_err(|_| problem("its bytes are not a text"))?;
        let stored: Value = serde_json::from_str(&text).map_err(|_| problem("its bytes are not JSON"))?;
        if stored["seq"] != event.seq.as_str() || seq <= last {
            return Err(problem("its bytes carry another number, or it stands here twice or out of order"));
        }
        last = seq;
        let body = &stored["event"];
        let own = body["account"] == proof.account.as_str();
        if !own && body["kind"] != "run_started" {
            return Err(problem("it is about another account"));
        }
        proved.events += u64::from(own);
        proved.vouched.note_down(seq, &stored);
        proved.texts.push(text);
    }
    if let Some(since) = &proof.since {
        let old = signed("the older checkpoint", &since.checkpoint)?;
        let path = decoded(&since.proof).unwrap_or_default();
        if !extends(old.root, old.size, checkpoint.root, checkpoint.size, &path) {
            let what = format!("the log did not only grow since the checkpoint of {} events", old.size);
            return Err(Problem::general(what));
        }
        proved.since = Some(old);
    }
    Ok(proved)
}
