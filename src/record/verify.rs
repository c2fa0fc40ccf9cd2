//! Verification: of the log as it is stored or exported, of what an export or a dossier holds besides, of proofs, and of
//! the notices' states against the log. Nothing here trusts the database that made them.

use std::collections::BTreeMap;
use std::fmt::Display;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;

use crate::model::{Checkpoint, Edge, GENESIS, VerifierKey, chain_hash, leaf_hash};

use super::RecordError;
use super::export::{AttemptLine, ExportLine, MessageLine, NoteLine, message_file};
use super::notices::commitment;

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

impl Problem {
    /// A problem that is about no event.
    pub(super) fn general(what: impl Display) -> Self {
        Self { seq: 0, what: what.to_string() }
    }
}

/// A value outside the log that an event vouches for.
#[derive(Debug, Clone)]
struct Sealed {
    seq: u64,
    account: String,
    commitment: String,
    /// The notice of a reply.
    notice: String,
    /// Phase and code of a reply, which the event tells itself.
    told: (Option<String>, Option<String>),
}

/// What the events read so far vouch for: messages by notice, notes by number, replies by attempt; and what was erased.
#[derive(Debug, Clone, Default)]
pub struct Vouched {
    messages: BTreeMap<String, Sealed>,
    notes: BTreeMap<String, Sealed>,
    replies: BTreeMap<String, Sealed>,
    erased: Vec<(u64, String, Vec<String>)>,
}

impl Vouched {
    pub(super) fn note_down(&mut self, seq: u64, event: &Value) {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let facts = &event["facts"];
        let account = text(&event["account"]).unwrap_or_default();
        let notice = text(&event["notice"]).unwrap_or_default();
        let told = (text(&facts["phase"]), text(&facts["reply_code"]));
        let seal = |commitment: &Value| {
            let (account, notice, told) = (account.clone(), notice.clone(), told.clone());
            text(commitment).map(|commitment| Sealed { seq, account, commitment, notice, told })
        };
        if event["kind"] == "notice_planned" {
            self.messages.extend(seal(&facts["message_commitment"]).map(|sealed| (notice.clone(), sealed)));
        }
        if let (Some(note), Some(sealed)) = (text(&facts["note"]), seal(&facts["note_commitment"])) {
            self.notes.insert(note, sealed);
        }
        if let (Some(attempt), Some(sealed)) = (text(&facts["attempt"]), seal(&facts["reply_commitment"])) {
            self.replies.insert(attempt, sealed);
        }
        if event["kind"] == "redacted" {
            let classes = facts["classes"].as_array().into_iter().flatten().filter_map(text).collect();
            self.erased.push((seq, account, classes));
        }
    }

    /// Whether a later event says that such data of the account was erased.
    fn is_erased(&self, sealed: &Sealed, classes: &[&str]) -> bool {
        self.erased.iter().any(|(seq, account, erased)| {
            *seq > sealed.seq
                && *account == sealed.account
                && erased.iter().any(|class| classes.contains(&class.as_str()))
        })
    }
}

/// A verification in progress: events go in, in order.
#[derive(Debug, Default)]
pub struct Chain {
    events: u64,
    head: [u8; 32],
    edge: Edge,
    vouched: Vouched,
    /// Checkpoints to meet on the way, by size, each with what to call it.
    ahead: BTreeMap<u64, Vec<(String, Checkpoint)>>,
    /// The largest checkpoint that was met.
    signed: u64,
}

impl Chain {
    /// From the first event on; the log must have the roots that these checkpoints signed.
    #[must_use]
    pub fn new(checkpoints: impl IntoIterator<Item = (String, Checkpoint)>) -> Self {
        let mut ahead: BTreeMap<u64, Vec<(String, Checkpoint)>> = BTreeMap::new();
        for (name, checkpoint) in checkpoints {
            ahead.entry(checkpoint.size).or_default().push((name, checkpoint));
        }
        Self { head: GENESIS, ahead, ..Self::default() }
    }

    /// A line of events.ndjson.
    ///
    /// # Errors
    /// What does not hold about it, with the number that should stand there.
    pub fn add_line(&mut self, line: &str) -> Result<(), Problem> {
        let line: ExportLine = serde_json::from_str(line)
            .map_err(|_| self.problem("the line is not an exported event; it was altered or cut"))?;
        let bytes = BASE64_STANDARD.decode(&line.bytes);
        if line.seq == (self.events + 1).to_string() && bytes.is_err() {
            return Err(self.problem("its bytes are not base64"));
        }
        self.add(&line.seq, &bytes.unwrap_or_default(), &line.leaf, &line.chain)
    }

    /// An event with its number, stored bytes, and leaf and chain hash in hex.
    ///
    /// # Errors
    /// What does not hold about it, with the number that should stand there.
    pub fn add(&mut self, seq: &str, bytes: &[u8], leaf_said: &str, chain_said: &str) -> Result<(), Problem> {
        let expected = self.events + 1;
        if seq != expected.to_string() {
            let said: String = seq.chars().take(20).collect();
            return Err(self.problem(&format!("number {expected} is missing; the line says {said}")));
        }
        let leaf = leaf_hash(bytes);
        if hex::encode(leaf) != leaf_said {
            return Err(self.problem("its bytes were altered: they do not give the leaf hash"));
        }
        let stored: Value = serde_json::from_slice(bytes).map_err(|_| self.problem("its bytes are not JSON"))?;
        if stored["seq"].as_str() != Some(seq) {
            return Err(self.problem("its bytes carry another number"));
        }
        let head = chain_hash(self.head, leaf);
        if hex::encode(head) != chain_said {
            return Err(self.problem("the chain breaks here: an event before it was altered, added, removed or moved"));
        }
        self.head = head;
        self.events = expected;
        self.edge.push(leaf);
        self.vouched.note_down(expected, &stored["event"]);
        for (name, checkpoint) in self.ahead.remove(&expected).unwrap_or_default() {
            if checkpoint.root != self.edge.root() {
                let what = format!(
                    "{name} signed another log: between this event and event {expected} at least one is not the one \
                     that was signed"
                );
                return Err(Problem { seq: self.signed + 1, what });
            }
            self.signed = expected;
        }
        Ok(())
    }

    fn problem(&self, what: &str) -> Problem {
        Problem { seq: self.events + 1, what: what.to_owned() }
    }

    /// Number of events so far, and the chain hash of the last one.
    #[must_use]
    pub fn verified(&self) -> Verified {
        Verified { events: self.events, head: hex::encode(self.head) }
    }

    /// The end of the log.
    ///
    /// # Errors
    /// A checkpoint of more events than there are: the tail was cut off.
    pub fn finish(self) -> Result<(Verified, Vouched), Problem> {
        if let Some((name, checkpoint)) = self.ahead.values().flatten().next() {
            return Err(self.problem(&format!(
                "it is missing: the log ends before it, and {name} signed {} events; its tail was cut off",
                checkpoint.size
            )));
        }
        Ok((self.verified(), self.vouched))
    }
}

/// Reads the checkpoints of a log and checks their signatures: each must be signed by one of the keys and, when it lies
/// under the name of a size, have that size.
///
/// # Errors
/// The first one that does not hold.
pub fn read_checkpoints(
    notes: impl IntoIterator<Item = (String, String)>,
    keys: &[VerifierKey],
) -> Result<Vec<(String, Checkpoint)>, Problem> {
    notes
        .into_iter()
        .map(|(name, note)| {
            let checkpoint = Checkpoint::parse(&note).map_err(|_| {
                Problem::general(format_args!("{name} is not a signed checkpoint; it was altered or cut"))
            })?;
            if !keys.iter().any(|key| checkpoint.signed_by(key)) {
                return Err(Problem::general(format_args!("{name}: no signature of it holds under the given key")));
            }
            Ok((name, checkpoint))
        })
        .collect()
}

/// Verifies the lines of an export, alone: numbers without gaps, leaf hashes, chain, and the given checkpoints.
///
/// # Errors
/// The first thing that does not hold, with its number; a log without a single event is cut.
pub fn verify_lines<I: IntoIterator<Item = std::io::Result<String>>>(
    lines: I,
    checkpoints: Vec<(String, Checkpoint)>,
) -> Result<(Verified, Vouched), Problem> {
    let mut chain = Chain::new(checkpoints);
    for line in lines {
        let line = line.map_err(|error| chain.problem(&error.to_string()))?;
        if !line.trim().is_empty() {
            chain.add_line(&line)?;
        }
    }
    if chain.events == 0 {
        return Err(Problem { seq: 1, what: "there is not a single event; every log begins with one".to_owned() });
    }
    chain.finish()
}

/// How much of what lies beside the events is what they commit to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Contents {
    pub messages: u64,
    pub notes: u64,
    pub replies: u64,
    /// Messages, notes and replies that were erased, as events say.
    pub erased: u64,
}

/// Compares what lies beside the events with them: every message, note and reply that they commit to is there, unaltered,
/// or was erased as an event says; and nothing is there that they do not know.
#[derive(Debug)]
pub struct ContentsCheck<'a> {
    vouched: &'a Vouched,
    messages: BTreeMap<String, Sealed>,
    notes: BTreeMap<String, Sealed>,
    replies: BTreeMap<String, Sealed>,
    salts: BTreeMap<String, Vec<u8>>,
    contents: Contents,
}

impl<'a> ContentsCheck<'a> {
    /// Nothing was seen yet of what these events vouch for. Messages come first: they bring the salts of the replies.
    #[must_use]
    pub fn new(vouched: &'a Vouched) -> Self {
        let Vouched { messages, notes, replies, .. } = vouched.clone();
        Self { vouched, messages, notes, replies, salts: BTreeMap::new(), contents: Contents::default() }
    }

    fn gone(&mut self, sealed: &Sealed, classes: &[&str], what: &str) -> Result<(), Problem> {
        if !self.vouched.is_erased(sealed, classes) {
            let what = format!("its {what} is missing, and no event says that it was erased");
            return Err(Problem { seq: sealed.seq, what });
        }
        self.contents.erased += 1;
        Ok(())
    }

    /// The message of a notice, with its salt and bytes; none when it is not there.
    ///
    /// # Errors
    /// When it is missing, altered or unknown to the log.
    pub fn message(&mut self, notice: &str, found: Option<(Vec<u8>, Vec<u8>)>) -> Result<(), Problem> {
        let sealed = self.messages.remove(notice).ok_or_else(|| unknown("notice", notice))?;
        let Some((salt, bytes)) = found else { return self.gone(&sealed, &["messages"], "message") };
        if commitment(&salt, &bytes) != sealed.commitment {
            let what = format!("its message {} was altered: the log commits to other bytes", message_file(notice));
            return Err(Problem { seq: sealed.seq, what });
        }
        self.salts.insert(notice.to_owned(), salt);
        self.contents.messages += 1;
        Ok(())
    }

    /// The words of a note, with their salt; none when they are not there.
    ///
    /// # Errors
    /// When they are missing, altered or unknown to the log.
    pub fn note(&mut self, note: &str, found: Option<(Vec<u8>, String)>) -> Result<(), Problem> {
        let sealed = self.notes.remove(note).ok_or_else(|| unknown("note", note))?;
        let Some((salt, body)) = found else { return self.gone(&sealed, &["notes"], "note") };
        if commitment(&salt, body.as_bytes()) != sealed.commitment {
            let what = "its note was altered: the log commits to other words".to_owned();
            return Err(Problem { seq: sealed.seq, what });
        }
        self.contents.notes += 1;
        Ok(())
    }

    /// An attempt, with what the relay answered.
    ///
    /// # Errors
    /// When the answer is missing, altered or unknown to the log.
    pub fn attempt(&mut self, line: AttemptLine) -> Result<(), Problem> {
        let Some(sealed) = self.replies.remove(&line.attempt) else {
            return if line.reply_text.is_some() { Err(unknown("reply of attempt", &line.attempt)) } else { Ok(()) };
        };
        let problem = |what: &str| Problem { seq: sealed.seq, what: what.to_owned() };
        if sealed.notice != line.notice || sealed.told != (line.phase, line.reply_code) {
            return Err(problem("its attempt was altered: the log tells another notice, phase or code"));
        }
        let (Some(text), Some(salt)) = (line.reply_text, self.salts.get(&line.notice)) else {
            return self.gone(&sealed, &["messages", "smtp"], "reply");
        };
        if commitment(salt, text.as_bytes()) != sealed.commitment {
            return Err(problem("the reply of its attempt was altered: the log commits to other words"));
        }
        self.contents.replies += 1;
        Ok(())
    }

    /// Nothing more comes.
    ///
    /// # Errors
    /// The first event that commits to something that was not there.
    pub fn finish(self) -> Result<Contents, Problem> {
        for (sealed, what) in [(self.messages, "message"), (self.notes, "note"), (self.replies, "attempt")] {
            if let Some(seq) = sealed.values().map(|sealed| sealed.seq).min() {
                let what = format!("its {what} is not even named, and this event commits to one");
                return Err(Problem { seq, what });
            }
        }
        Ok(self.contents)
    }
}

/// Verifies the files of an export or a dossier that lie beside the events. `read` gives a file by its name, `None` when
/// it is missing.
///
/// # Errors
/// The first thing that is missing, altered or unknown to the log, with the number of its event.
pub fn verify_contents(
    vouched: &Vouched,
    read: impl Fn(&str) -> std::io::Result<Option<Vec<u8>>>,
) -> Result<Contents, Problem> {
    let read_file = |name: &str| read(name).map_err(|error| Problem::general(format_args!("{name}: {error}")));
    let table = |name: &str| {
        let bytes = read_file(name)?.ok_or_else(|| Problem::general(format_args!("{name} is missing")))?;
        String::from_utf8(bytes).map_err(|_| Problem::general(format_args!("{name} is not a text")))
    };
    let unreadable = |name: &str| Problem::general(format_args!("{name} holds a line that is not of an export"));
    let mut check = ContentsCheck::new(vouched);
    for line in table("messages.ndjson")?.lines() {
        let line: MessageLine = serde_json::from_str(line).map_err(|_| unreadable("messages.ndjson"))?;
        let found = match (line.file.filter(|_| !line.erased), line.salt.and_then(|salt| hex::decode(salt).ok())) {
            (Some(file), Some(salt)) => read_file(&file)?.map(|bytes| (salt, bytes)),
            _ => None,
        };
        check.message(&line.notice, found)?;
    }
    for line in table("notes.ndjson")?.lines() {
        let line: NoteLine = serde_json::from_str(line).map_err(|_| unreadable("notes.ndjson"))?;
        let found = line.salt.and_then(|salt| hex::decode(salt).ok()).zip(line.body.filter(|_| !line.erased));
        check.note(&line.note, found)?;
    }
    for line in table("attempts.ndjson")?.lines() {
        check.attempt(serde_json::from_str(line).map_err(|_| unreadable("attempts.ndjson"))?)?;
    }
    check.finish()
}

fn unknown(what: &str, id: &str) -> Problem {
    Problem::general(format_args!("the log knows no {what} {id}"))
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

/// Compares every notice's state with its last event (what became known late changes none). Returns one line per contradiction.
///
/// # Errors
/// When the database refuses.
pub async fn verify_against_notices(connection: &mut PgConnection) -> Result<Vec<String>, RecordError> {
    let rows = sqlx::query!(
        r#"SELECT n.notice_id, n.state, e.kind AS "kind?", e.seq AS "seq?" FROM dunning.notice n
           LEFT JOIN LATERAL (SELECT kind, seq FROM dunning.event e
                              WHERE e.notice_id = n.notice_id AND e.kind <> 'late_reply' ORDER BY seq DESC LIMIT 1) e ON true
           ORDER BY n.notice_id"#
    )
    .fetch_all(connection)
    .await?;
    let told: BTreeMap<&str, &[&str]> = [
        ("notice_planned", &["planned", "awaiting_approval", "with_person", "queued", "claimed", "in_flight"][..]),
        ("notice_approved", &["queued", "with_person", "claimed", "in_flight"][..]),
        ("notice_deferred", &["deferred", "claimed", "in_flight"][..]),
        ("notice_accepted", &["accepted"][..]),
        ("notice_refused", &["refused"][..]),
        ("notice_unknown", &["unknown"][..]),
        ("notice_queued_again", &["queued", "claimed", "in_flight"][..]),
        ("notice_done", &["done"][..]),
        ("notice_lapsed", &["lapsed"][..]),
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
