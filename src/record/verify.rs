//! Verification: of the log as it is stored or exported, of what an export or a dossier holds besides, of proofs, and of
//! the notices' states against the log. Nothing here trusts the database that made them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::TryStreamExt as _;
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;

use crate::model::{Checkpoint, Edge, GENESIS, VerifierKey, chain_hash, leaf_hash};

use super::RecordError;
use super::decisions::{RecordedDecisions, decision_line};
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
    /// When the event was written, as the log writes times.
    at: String,
    commitment: String,
    /// The notice that it is about; empty for a note.
    notice: String,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Ended {
    notice: String,
    outcome: Option<String>,
    phase: Option<String>,
    reply_code: Option<String>,
}

/// An event that says what of an account was erased.
#[derive(Debug, Clone)]
struct Erased {
    seq: u64,
    account: String,
    classes: Vec<String>,
    /// What was settled or written from then on was left.
    before: Option<String>,
}

/// What the events read so far vouch for: messages and recipients by notice, notes by number, data of contacts by entry,
/// attempts and their replies; and what was erased.
#[derive(Debug, Clone, Default)]
pub struct Vouched {
    messages: BTreeMap<String, Sealed>,
    recipients: BTreeMap<String, Sealed>,
    notes: BTreeMap<String, Sealed>,
    contacts: BTreeMap<String, Sealed>,
    attempts: BTreeMap<String, (u64, Ended)>,
    replies: BTreeMap<String, Sealed>,
    /// How attempts that no event names may have ended: not carried out, or by an instance that died.
    unnamed: BTreeSet<Ended>,
    /// When the last event about a notice was written.
    last: BTreeMap<String, String>,
    erased: Vec<Erased>,
    /// How much of each kind was erased, by account and kind.
    counts: BTreeMap<(String, &'static str), u64>,
}

/// The time of an event, or the end of a retention, to the second; later ones sort behind earlier ones.
fn second(at: &str) -> Option<&str> {
    at.get(..19)
}

/// The outcome of the attempt that an event names.
fn outcome_told<'a>(kind: &str, reason: Option<&str>, facts: &'a Value) -> Option<&'a str> {
    match (kind, reason) {
        ("late_reply", _) => facts["outcome"].as_str(),
        ("notice_accepted", _) => Some("accepted"),
        ("notice_refused", None) | ("notice_unknown", Some("refused")) => Some("refused"),
        ("notice_unknown", None) => Some("unknown"),
        // Enough tries, or too late for another: the last one was deferred.
        _ => Some("deferred"),
    }
}

impl Vouched {
    pub(super) fn note_down(&mut self, seq: u64, stored: &Value) {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let event = &stored["event"];
        let at = text(&stored["at"]).unwrap_or_default();
        let facts = &event["facts"];
        let account = text(&event["account"]).unwrap_or_default();
        let notice = text(&event["notice"]).unwrap_or_default();
        let seal = |commitment: &Value| {
            let (account, at, notice) = (account.clone(), at.clone(), notice.clone());
            text(commitment).map(|commitment| Sealed { seq, account, at, commitment, notice })
        };
        let kind = event["kind"].as_str().unwrap_or_default();
        if kind == "notice_planned" {
            self.messages.extend(seal(&facts["message_commitment"]).map(|sealed| (notice.clone(), sealed)));
            self.recipients.extend(seal(&facts["recipient_commitment"]).map(|sealed| (notice.clone(), sealed)));
        }
        if let (Some(entry), Some(sealed)) = (text(&facts["entry"]), seal(&facts["data_commitment"])) {
            self.contacts.insert(entry, sealed);
        }
        if let (Some(note), Some(sealed)) = (text(&facts["note"]), seal(&facts["note_commitment"])) {
            self.notes.insert(note, sealed);
        }
        let reason = facts["reason"].as_str();
        if let Some(attempt) = text(&facts["attempt"]) {
            self.replies.remove(&attempt);
            self.replies.extend(seal(&facts["reply_commitment"]).map(|sealed| (attempt.clone(), sealed)));
            let outcome = outcome_told(kind, reason, facts).map(str::to_owned);
            let (phase, reply_code) = (text(&facts["phase"]), text(&facts["reply_code"]));
            self.attempts.insert(attempt, (seq, Ended { notice: notice.clone(), outcome, phase, reply_code }));
        } else if matches!(kind, "notice_cancelled" | "notice_unknown") {
            let outcome = if reason == Some("instance_died") { "unknown" } else { "cancelled" };
            let (outcome, phase, reply_code) = (Some(outcome.to_owned()), None, None);
            self.unnamed.insert(Ended { notice: notice.clone(), outcome, phase, reply_code });
        }
        if kind == "redacted" {
            // Contacts were not counted at first.
            for (what, uncounted) in [("messages", 0), ("notes", 0), ("replies", 0), ("contacts", u64::MAX)] {
                let count = facts[what].as_str().and_then(|count| count.parse().ok()).unwrap_or(uncounted);
                let sum = self.counts.entry((account.clone(), what)).or_default();
                *sum = sum.saturating_add(count);
            }
            let classes = facts["classes"].as_array().into_iter().flatten().filter_map(text).collect();
            self.erased.push(Erased { seq, account, classes, before: text(&facts["before"]) });
        }
        if !notice.is_empty() {
            self.last.insert(notice, at);
        }
    }

    /// Whether a later event says that such data of the account was erased, with what was over by then.
    fn is_erased(&self, sealed: &Sealed, classes: &[&str]) -> bool {
        let over = self.last.get(&sealed.notice).unwrap_or(&sealed.at);
        self.erased.iter().any(|erased| {
            erased.seq > sealed.seq
                && erased.account == sealed.account
                && erased.classes.iter().any(|class| classes.contains(&class.as_str()))
                && erased.before.as_ref().is_none_or(|before| second(over) < second(before))
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
        self.vouched.note_down(expected, &stored);
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
            if !checkpoint.signed_by_one_of(keys) {
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
/// or was erased as an event says; every attempt ended as they say; and nothing is there that they do not know.
#[derive(Debug)]
pub struct ContentsCheck<'a> {
    vouched: &'a Vouched,
    messages: BTreeMap<String, Sealed>,
    notes: BTreeMap<String, Sealed>,
    attempts: BTreeMap<String, (u64, Ended)>,
    salts: BTreeMap<String, Vec<u8>>,
    /// What was not there, by account and kind.
    missing: BTreeMap<(String, &'static str), u64>,
    contents: Contents,
}

impl<'a> ContentsCheck<'a> {
    /// Nothing was seen yet of what these events vouch for. Messages come first: they bring the salts of the replies.
    #[must_use]
    pub fn new(vouched: &'a Vouched) -> Self {
        let Vouched { messages, notes, attempts, .. } = vouched.clone();
        let (salts, missing) = (BTreeMap::new(), BTreeMap::new());
        Self { vouched, messages, notes, attempts, salts, missing, contents: Contents::default() }
    }

    /// `kind`: messages, notes, replies, contacts, as the events that erase count them.
    fn gone(&mut self, sealed: &Sealed, classes: &[&str], kind: &'static str) -> Result<(), Problem> {
        let one = match kind {
            "messages" => "its message is",
            "notes" => "its note is",
            "contacts" => "the data of its contact are",
            _ => "its reply is",
        };
        if !self.vouched.is_erased(sealed, classes) {
            let what = format!("{one} missing, and no event says that it was erased");
            return Err(Problem { seq: sealed.seq, what });
        }
        let key = (sealed.account.clone(), kind);
        let erased = self.vouched.counts.get(&key).copied().unwrap_or_default();
        let missing = self.missing.entry(key).or_default();
        *missing += 1;
        if *missing > erased {
            let what = format!(
                "{one} missing: of account {} {missing} {kind} are not there, and events say that {erased} were erased",
                sealed.account
            );
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
        let Some((salt, bytes)) = found else { return self.gone(&sealed, &["messages"], "messages") };
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
        let Some((salt, body)) = found else { return self.gone(&sealed, &["notes"], "notes") };
        if commitment(&salt, body.as_bytes()) != sealed.commitment {
            let what = "its note was altered: the log commits to other words".to_owned();
            return Err(Problem { seq: sealed.seq, what });
        }
        self.contents.notes += 1;
        Ok(())
    }

    /// Where the message of a notice goes, once the message itself was seen.
    ///
    /// # Errors
    /// When it is altered.
    pub fn recipient(&self, notice: &str, recipient: &str) -> Result<(), Problem> {
        let (Some(sealed), Some(salt)) = (self.vouched.recipients.get(notice), self.salts.get(notice)) else {
            return Ok(());
        };
        if commitment(salt, recipient.as_bytes()) != sealed.commitment {
            let what = "the recipient of its message was altered: the log commits to another".to_owned();
            return Err(Problem { seq: sealed.seq, what });
        }
        Ok(())
    }

    /// The data of all contacts that people entered, with their salts, by entry. They are in the database alone.
    ///
    /// # Errors
    /// The first that is missing, altered or unknown to the log.
    pub fn contacts(&mut self, mut found: BTreeMap<String, (Vec<u8>, String)>) -> Result<(), Problem> {
        for (entry, sealed) in &self.vouched.contacts {
            match found.remove(entry) {
                None => self.gone(sealed, &["messages"], "contacts")?,
                Some((salt, data)) if commitment(&salt, data.as_bytes()) != sealed.commitment => {
                    let what = "the data of its contact was altered: the log commits to other data".to_owned();
                    return Err(Problem { seq: sealed.seq, what });
                }
                Some(_) => {}
            }
        }
        found.keys().next().map_or(Ok(()), |entry| Err(unknown("entry of a contact", entry)))
    }

    /// An attempt, with what the relay answered. One that no event names is open yet, was not carried out, or is of an
    /// instance that died.
    ///
    /// # Errors
    /// When it is altered or unknown to the log, or the answer is missing, altered or unknown to the log.
    pub fn attempt(&mut self, line: AttemptLine) -> Result<(), Problem> {
        let AttemptLine { attempt, notice, outcome, phase, reply_code, reply_text, .. } = line;
        let ended = Ended { notice, outcome, phase, reply_code };
        match self.attempts.remove(&attempt) {
            Some((seq, told)) if told != ended => {
                let what = "its attempt was altered: the log tells another notice, outcome, phase or code".to_owned();
                return Err(Problem { seq, what });
            }
            Some(_) => {}
            None => {
                let open = Ended { outcome: None, phase: None, reply_code: None, notice: ended.notice.clone() };
                if ended != open && !self.vouched.unnamed.contains(&ended) {
                    return Err(unknown("such end of attempt", &attempt));
                }
            }
        }
        let Some(sealed) = self.vouched.replies.get(&attempt) else {
            return if reply_text.is_some() { Err(unknown("reply of attempt", &attempt)) } else { Ok(()) };
        };
        let Some(text) = reply_text else { return self.gone(sealed, &["messages", "smtp"], "replies") };
        let Some(salt) = self.salts.get(&ended.notice) else {
            let what = "there is a reply of its attempt, and what would tie it to the log was erased".to_owned();
            return Err(Problem { seq: sealed.seq, what });
        };
        if commitment(salt, text.as_bytes()) != sealed.commitment {
            let what = "the reply of its attempt was altered: the log commits to other words".to_owned();
            return Err(Problem { seq: sealed.seq, what });
        }
        self.contents.replies += 1;
        Ok(())
    }

    /// Nothing more comes.
    ///
    /// # Errors
    /// The first event that commits to something that was not there.
    pub fn finish(self) -> Result<Contents, Problem> {
        let first = |sealed: &BTreeMap<String, Sealed>| sealed.values().map(|sealed| sealed.seq).min();
        let attempt = self.attempts.values().map(|(seq, _)| *seq).min();
        for (seq, what) in [(first(&self.messages), "message"), (first(&self.notes), "note"), (attempt, "attempt")] {
            if let Some(seq) = seq {
                let what = format!("its {what} is not even named, and this event tells of one");
                return Err(Problem { seq, what });
            }
        }
        Ok(self.contents)
    }
}

/// Verifies the files of an export or a dossier, of those `names`, that lie beside the events. `read` gives a file by its name, `None` when
/// it is missing.
///
/// # Errors
/// The first thing that is missing, altered or unknown to the log, with the number of its event.
pub fn verify_contents(
    vouched: &Vouched,
    names: &BTreeSet<String>,
    read: impl Fn(&str) -> std::io::Result<Option<Vec<u8>>>,
) -> Result<Contents, Problem> {
    let read_file = |name: &str| read(name).map_err(|error| Problem::general(format_args!("{name}: {error}")));
    let table = |name: &str| {
        let bytes = read_file(name)?.ok_or_else(|| Problem::general(format_args!("{name} is missing")))?;
        String::from_utf8(bytes).map_err(|_| Problem::general(format_args!("{name} is not a text")))
    };
    let unreadable = |name: &str| Problem::general(format_args!("{name} holds a line that is not of an export"));
    let mut check = ContentsCheck::new(vouched);
    let mut told = BTreeSet::new();
    for line in table("messages.ndjson")?.lines() {
        let line: MessageLine = serde_json::from_str(line).map_err(|_| unreadable("messages.ndjson"))?;
        let found = match with_salt(line.file, line.salt, line.erased, "message", &line.notice)? {
            Some((salt, file)) if file == message_file(&line.notice) => {
                let bytes = read_file(&file)?;
                told.insert(file);
                bytes.map(|bytes| (salt, bytes))
            }
            Some((_, file)) => {
                return Err(Problem::general(format_args!("{file} is not the file of notice {}", line.notice)));
            }
            None => None,
        };
        check.message(&line.notice, found)?;
    }
    let is_message = |name: &&String| name.starts_with("messages/") && !told.contains(*name);
    if let Some(name) = names.iter().find(is_message) {
        return Err(Problem::general(format_args!("{name} is no message that messages.ndjson names")));
    }
    for line in table("notes.ndjson")?.lines() {
        let line: NoteLine = serde_json::from_str(line).map_err(|_| unreadable("notes.ndjson"))?;
        let found = with_salt(line.body, line.salt, line.erased, "note", &line.note)?;
        check.note(&line.note, found)?;
    }
    for line in table("attempts.ndjson")?.lines() {
        check.attempt(serde_json::from_str(line).map_err(|_| unreadable("attempts.ndjson"))?)?;
    }
    check.finish()
}

/// What a line gives, with the salt that ties it to the log; none where it says that it was erased. Anything between the
/// two could say what it likes.
fn with_salt(
    given: Option<String>,
    salt: Option<String>,
    erased: bool,
    what: &str,
    id: &str,
) -> Result<Option<(Vec<u8>, String)>, Problem> {
    match (given, salt.and_then(|salt| hex::decode(salt).ok()), erased) {
        (Some(given), Some(salt), false) => Ok(Some((salt, given))),
        (None, None, true) => Ok(None),
        _ => Err(Problem::general(format_args!("{what} {id} is neither whole nor erased"))),
    }
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

/// The first text that is not the one behind its hash: a policy, a template, a ladder.
///
/// # Errors
/// When the database refuses.
pub async fn verify_texts(connection: &mut PgConnection) -> Result<Option<Problem>, RecordError> {
    let altered = sqlx::query_scalar!(
        "SELECT sha256 FROM dunning.text WHERE sha256 <> encode(sha256(convert_to(body, 'UTF8')), 'hex')
         ORDER BY sha256 LIMIT 1"
    )
    .fetch_optional(connection)
    .await?;
    Ok(altered
        .map(|sha256| Problem::general(format_args!("the text {sha256} was altered: its words have another hash"))))
}

/// Runs whose rows of decisions, which say why somebody was not written to, are not those that were there when the run
/// ended. Returns one line per run. What a decision was based on is not among it. Needs columns for look-ups that hold.
///
/// # Errors
/// When the database refuses.
pub async fn verify_decisions(connection: &mut PgConnection) -> Result<Vec<String>, RecordError> {
    let told = sqlx::query!(
        r#"SELECT e.seq, event.said ->> 'run' AS "run!", event.said -> 'facts' -> 'decisions' AS "decisions!"
           FROM dunning.event e
           CROSS JOIN LATERAL (SELECT convert_from(e.bytes, 'UTF8')::jsonb -> 'event' AS said) event
           WHERE e.kind = 'run_completed' AND event.said -> 'facts' ? 'decisions' ORDER BY e.seq"#
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut found: BTreeMap<String, RecordedDecisions> = BTreeMap::new();
    let mut rows = sqlx::query!(
        r#"SELECT run_id::text AS "run!", account_id, business_date, kind, code, next_date FROM dunning.decision
           ORDER BY run_id, account_id COLLATE "C""#
    )
    .fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let line = decision_line(&row.account_id, row.business_date, &row.kind, &row.code, row.next_date);
        found.entry(row.run).or_default().add(&line);
    }
    let told = told.into_iter().filter(|row| found.remove(&row.run).unwrap_or_default().fact() != row.decisions);
    let line = |(run, seq)| format!("decisions of run {run} differ from what event {seq} says of them");
    Ok(told.map(|row| line((row.run, row.seq))).collect())
}

/// What each notice is and demands against the event that planned it, and the day of its acceptance against the event
/// that tells of it. Returns one line per contradiction. Needs columns for look-ups that hold.
///
/// # Errors
/// When the database refuses.
pub async fn verify_notices(connection: &mut PgConnection) -> Result<Vec<String>, RecordError> {
    let altered = sqlx::query_scalar!(
        r#"SELECT format('notice %s differs from what event %s says of it', n.notice_id, e.seq) AS "line!"
           FROM dunning.notice n JOIN dunning.event e USING (notice_id)
           CROSS JOIN LATERAL (SELECT convert_from(e.bytes, 'UTF8')::jsonb -> 'event' AS said) event
           CROSS JOIN LATERAL (SELECT said -> 'facts' AS facts) f
           WHERE e.kind = 'notice_planned'
             AND ((n.creditor, n.account_id, n.stage, n.message_id, n.copy_of::text)
                  IS DISTINCT FROM
                  (said ->> 'creditor', said ->> 'account', facts ->> 'stage', facts ->> 'message_id',
                   facts ->> 'copy_of')
               -- The copy of a letter is told in the words of the letter's own event.
               OR n.copy_of IS NULL AND
                  (n.run_id::text, n.language, n.channel, n.business_date::text, n.respond_by::text, n.fingerprint)
                  IS DISTINCT FROM
                  (said ->> 'run', facts ->> 'language', facts ->> 'channel', facts ->> 'business_date',
                   facts ->> 'respond_by', facts ->> 'fingerprint')
               OR n.copy_of IS NULL AND ARRAY(SELECT concat_ws('|', i.stage, i.currency, trim_scale(i.to_pay), i.item_id)
                        FROM dunning.notice_item i WHERE i.notice_id = n.notice_id ORDER BY 1)
                  IS DISTINCT FROM
                  ARRAY(SELECT concat_ws('|', i ->> 'stage', i ->> 'currency', trim_scale((i ->> 'to_pay')::numeric),
                                         i ->> 'item')
                        FROM jsonb_array_elements(facts -> 'items') AS i ORDER BY 1))
           UNION ALL
           SELECT format('notice %s was accepted on %s, but event %s says %s', n.notice_id,
                         coalesce(n.accepted_on::text, 'no day'), e.seq, e.day)
           FROM dunning.notice n
           CROSS JOIN LATERAL (
               SELECT seq, kind, convert_from(bytes, 'UTF8')::jsonb -> 'event' -> 'facts' ->> 'business_date' AS day
               FROM dunning.event e WHERE e.notice_id = n.notice_id AND e.kind <> 'late_reply'
               ORDER BY seq DESC LIMIT 1) e
           WHERE e.kind IN ('notice_accepted', 'notice_done', 'notice_lapsed') AND n.accepted_on::text IS DISTINCT FROM e.day
           ORDER BY 1"#
    )
    .fetch_all(connection)
    .await?;
    Ok(altered)
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
