//! Verification: of an export alone, and of the notices' states against the log.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;

use crate::model::{GENESIS, chain_hash, leaf_hash};

use super::RecordError;
use super::export::{ExportLine, MessageLine};

/// What an event commits its message to, by notice: event number and commitment.
pub type Commitments = BTreeMap<String, (u64, String)>;

/// A log that holds together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Number of events; they run from 1 without a gap.
    pub events: u64,
    /// Chain hash of the last one, hex.
    pub head: String,
}

/// The first thing that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{what}", if *seq == 0 { String::new() } else { format!("event {seq}: ") })]
pub struct Problem {
    /// The number of the event, or the number that should stand there; 0 when it is about none.
    pub seq: u64,
    pub what: String,
}

/// A verification in progress: lines go in, in order.
#[derive(Debug)]
struct Chain {
    events: u64,
    head: [u8; 32],
    commitments: Commitments,
}

impl Chain {
    fn add(&mut self, line: &str) -> Result<(), Problem> {
        let expected = self.events + 1;
        let problem = |what: &str| Problem { seq: expected, what: what.to_owned() };
        let line: ExportLine = serde_json::from_str(line)
            .map_err(|_| problem("the line is not an exported event; it was altered or cut"))?;
        if line.seq != expected.to_string() {
            return Err(problem(&format!(
                "number {expected} is missing; the line says {}",
                line.seq.chars().take(20).collect::<String>()
            )));
        }
        let bytes = BASE64_STANDARD.decode(&line.bytes).map_err(|_| problem("its bytes are not base64"))?;
        let leaf = leaf_hash(&bytes);
        if hex::encode(leaf) != line.leaf {
            return Err(problem("its bytes were altered: they do not give the leaf hash"));
        }
        let stored: Value = serde_json::from_slice(&bytes).map_err(|_| problem("its bytes are not JSON"))?;
        if stored.get("seq").and_then(Value::as_str) != Some(line.seq.as_str()) {
            return Err(problem("its bytes carry another number"));
        }
        self.head = chain_hash(self.head, leaf);
        if hex::encode(self.head) != line.chain {
            return Err(problem("the chain breaks here: an event before it was altered, added, removed or moved"));
        }
        self.events = expected;
        let event = &stored["event"];
        if let (Some("notice_planned"), Some(notice), Some(commitment)) =
            (event["kind"].as_str(), event["notice"].as_str(), event["facts"]["message_commitment"].as_str())
        {
            self.commitments.insert(notice.to_owned(), (expected, commitment.to_owned()));
        }
        Ok(())
    }
}

/// Verifies the lines of an export, alone: numbers without gaps, leaf hashes, chain.
///
/// # Errors
/// The first thing that does not hold, with its number.
pub fn verify_lines<I: IntoIterator<Item = std::io::Result<String>>>(lines: I) -> Result<Verified, Problem> {
    verify_chain(lines).map(|(verified, _)| verified)
}

/// As [`verify_lines`], and what the events commit their messages to.
///
/// # Errors
/// The first thing that does not hold, with its number; a log without a single event is cut.
pub fn verify_chain<I: IntoIterator<Item = std::io::Result<String>>>(
    lines: I,
) -> Result<(Verified, Commitments), Problem> {
    let mut chain = Chain { events: 0, head: GENESIS, commitments: BTreeMap::new() };
    for line in lines {
        let line = line.map_err(|error| Problem { seq: chain.events + 1, what: error.to_string() })?;
        if line.trim().is_empty() {
            continue;
        }
        chain.add(&line)?;
    }
    if chain.events == 0 {
        return Err(Problem { seq: 1, what: "there is not a single event; every log begins with one".to_owned() });
    }
    let verified = Verified { events: chain.events, head: hex::encode(chain.head) };
    Ok((verified, chain.commitments))
}

/// Verifies the messages of an export against what the log commits them to: each line of messages.ndjson with the
/// bytes of its file. Returns how many there are.
///
/// # Errors
/// The first message that is missing, altered or unknown to the log, with the number of its event.
pub fn verify_messages(
    commitments: &Commitments,
    lines: impl IntoIterator<Item = std::io::Result<String>>,
    read: impl Fn(&str) -> std::io::Result<Vec<u8>>,
) -> Result<u64, Problem> {
    let mut count = 0;
    for line in lines {
        let unreadable = |what: String| Problem { seq: 0, what };
        let line = line.map_err(|error| unreadable(format!("messages.ndjson: {error}")))?;
        let line: MessageLine = serde_json::from_str(&line)
            .map_err(|_| unreadable("messages.ndjson holds a line that is not of an export".to_owned()))?;
        let Some((seq, commitment)) = commitments.get(&line.notice) else {
            return Err(unreadable(format!("the log knows no notice {}, and messages.ndjson does", line.notice)));
        };
        let problem = |what: String| Problem { seq: *seq, what };
        let bytes = read(&line.file).map_err(|error| problem(format!("its message {}: {error}", line.file)))?;
        let salt = hex::decode(&line.salt).map_err(|_| problem("the salt of its message is not hex".to_owned()))?;
        if super::notices::commitment(&salt, &bytes) != *commitment {
            return Err(problem(format!("its message {} was altered: the log commits to other bytes", line.file)));
        }
        count += 1;
    }
    Ok(count)
}

/// The first event whose columns for look-ups say something else than its bytes: whoever changes them hides an event
/// from those who look for it, and the chain does not notice. Needs a log whose chain holds.
///
/// # Errors
/// When the database refuses.
pub async fn verify_look_ups(connection: &mut PgConnection) -> Result<Option<Problem>, RecordError> {
    let seq = sqlx::query_scalar!(
        r#"SELECT e.seq FROM dunning.event e, LATERAL (SELECT convert_from(e.bytes, 'UTF8')::jsonb AS line) stored
           WHERE (line -> 'event' ->> 'kind', line -> 'event' ->> 'account', line -> 'event' ->> 'notice', line ->> 'at')
                 IS DISTINCT FROM
                 (e.kind, e.account_id, e.notice_id::text, to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
           ORDER BY e.seq LIMIT 1"#
    )
    .fetch_optional(connection)
    .await?;
    Ok(seq.map(|seq| Problem {
        seq: u64::try_from(seq).unwrap_or_default(),
        what: "its columns for look-ups differ from its bytes".to_owned(),
    }))
}

/// Compares every notice's state with its last event. Returns one line per contradiction.
///
/// # Errors
/// When the database refuses.
pub async fn verify_against_notices(connection: &mut PgConnection) -> Result<Vec<String>, RecordError> {
    let rows = sqlx::query!(
        r#"SELECT n.notice_id, n.state, e.kind AS "kind?", e.seq AS "seq?" FROM dunning.notice n
           LEFT JOIN LATERAL (SELECT kind, seq FROM dunning.event e
                              WHERE e.notice_id = n.notice_id ORDER BY seq DESC LIMIT 1) e ON true
           ORDER BY n.notice_id"#
    )
    .fetch_all(connection)
    .await?;
    let told: BTreeMap<&str, &[&str]> = [
        ("notice_planned", &["planned", "awaiting_approval", "queued", "claimed", "in_flight"][..]),
        ("notice_approved", &["queued", "claimed", "in_flight"][..]),
        ("notice_deferred", &["deferred", "claimed", "in_flight"][..]),
        ("notice_accepted", &["accepted"][..]),
        ("notice_refused", &["refused"][..]),
        ("notice_unknown", &["unknown"][..]),
        ("notice_cancelled", &["cancelled"][..]),
        ("notice_resolved_accepted", &["accepted"][..]),
        ("notice_resolved_not_sent", &["cancelled"][..]),
    ]
    .into();
    Ok(rows
        .into_iter()
        .filter_map(|row| match (row.kind, row.seq) {
            (Some(kind), Some(seq)) => {
                let fits = told.get(kind.as_str()).is_some_and(|states| states.contains(&row.state.as_str()));
                (!fits).then(|| format!("notice {} is {}, but event {seq} says {kind}", row.notice_id, row.state))
            }
            _ => Some(format!("notice {} is {}, but the log does not know it", row.notice_id, row.state)),
        })
        .collect())
}
