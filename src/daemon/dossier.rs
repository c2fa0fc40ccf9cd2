//! The dossier of one account: everything on record about it, with the proof that the log holds it, as files for people
//! and for machines. The same log gives the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use chrono::NaiveDate;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::decide::standings;
use crate::model::{AccountId, Amounts, Item, ItemCode, Money, ReasonCode};
use crate::record::{self, RecordError};
use crate::render;

use super::Shell;
use super::scan::{ScanError, look_at};
use super::upkeep::{AnchorError, anchor};

/// What the dossier proves, and what not. Plain English, because it goes to strangers.
const LIMITS: &str = include_str!("limits.txt");

/// Why there is no dossier.
#[derive(Debug, thiserror::Error)]
pub enum DossierError {
    #[error("the log knows nothing about an account {0}")]
    NothingRecorded(AccountId),
    #[error(transparent)]
    Anchor(#[from] AnchorError),
    #[error(transparent)]
    Look(#[from] ScanError),
    #[error("the page for people: {0}")]
    Page(String),
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl From<sqlx::Error> for DossierError {
    fn from(error: sqlx::Error) -> Self {
        Self::Record(error.into())
    }
}

/// The files of a dossier, by name. A checkpoint of the log as it is now is made first.
///
/// # Errors
/// As [`DossierError`].
pub async fn dossier(shell: &Shell, account: &AccountId) -> Result<BTreeMap<String, Vec<u8>>, DossierError> {
    let checkpoint = anchor(shell).await?;
    let statement = statement(shell, account).await?;
    let mut read = shell.pool.begin_with(crate::ledger::LOOK).await?;
    let proof = record::prove(&mut read, account.as_str(), &checkpoint, None).await?;
    if proof.events.is_empty() {
        return Err(DossierError::NothingRecorded(account.clone()));
    }
    let recorded = record::recorded(&mut read, account.as_str()).await?;
    let mut attempts = record::attempt_lines(&mut read, Some(account.as_str())).await?;

    let mut files = BTreeMap::new();
    // What came after the checkpoint is not proved by it.
    let stored: Vec<Value> = proof.events.iter().map(record::ProvedEvent::stored).collect();
    let proved = |path: fn(&Value) -> &Value| -> BTreeSet<String> {
        stored.iter().filter_map(|stored| path(&stored["event"]).as_str().map(str::to_owned)).collect()
    };
    let planned = proved(|event| &event["notice"]);
    let noted = proved(|event| &event["facts"]["note"]);
    let attempted = proved(|event| &event["facts"]["attempt"]);
    attempts.retain(|line| line.reply_text.is_none() || attempted.contains(&line.attempt));
    let mut messages = String::new();
    for notice in record::notices_made(&mut read, Some(account.as_str())).await? {
        if !planned.contains(&notice.to_string()) {
            continue;
        }
        let message = record::message_of(&mut read, notice).await?;
        let _ = writeln!(messages, "{}", record::message_line(notice, message.as_ref()));
        if let Some(message) = message {
            files.insert(record::message_file(&notice.to_string()), message.bytes);
        }
    }
    files.insert("messages.ndjson".to_owned(), messages.into_bytes());
    let mut notes = record::notes(&mut read, Some(account.as_str())).await?;
    notes.retain(|note| noted.contains(&note.note.to_string()));
    files.insert("notes.ndjson".to_owned(), lines(notes.iter().map(record::note_line)));
    let attempt_lines = attempts.iter().map(|line| serde_json::to_string(line).unwrap_or_default());
    files.insert("attempts.ndjson".to_owned(), lines(attempt_lines));
    let named: Vec<String> = stored.iter().map(Value::to_string).collect();
    for sha256 in recorded.texts.iter().filter(|sha256| named.iter().any(|text| text.contains(sha256.as_str()))) {
        if let Some(body) = record::text_of(&mut read, sha256).await? {
            files.insert(format!("texts/{sha256}.txt"), body.into_bytes());
        }
    }
    read.commit().await?;

    let decisions: Vec<Value> = recorded
        .decisions
        .iter()
        .map(|line| {
            let mut value = serde_json::to_value(line).unwrap_or_default();
            value["meaning"] = ReasonCode::parse(&line.code).map(ReasonCode::meaning).into();
            value
        })
        .collect();
    let index = json!({
        "v": "1",
        "account": account,
        "statement": statement,
        "notices": recorded.notices,
        "attempts": attempts,
        "decisions": decisions,
        "register": recorded.register,
        "plans": recorded.plans,
        "demanded": recorded.demanded,
        "timeline": stored.iter().map(told).collect::<Vec<_>>(),
        "checkpoint": { "events": checkpoint.size.to_string(), "note": checkpoint.note, "key": checkpoint.verifier_key },
        "limits": LIMITS,
    });
    let page = render::dossier_page(&index).map_err(DossierError::Page)?;
    files.insert("index.html".to_owned(), page.into_bytes());
    files.insert("index.json".to_owned(), pretty(&index));
    files.insert("proof.json".to_owned(), pretty(&proof));
    files.insert("checkpoint.txt".to_owned(), checkpoint.note.into_bytes());
    files.insert("keys.txt".to_owned(), format!("{}\n", checkpoint.verifier_key).into_bytes());
    files.insert("LIMITS.txt".to_owned(), LIMITS.as_bytes().to_vec());
    let manifest = lines(files.iter().map(|(name, bytes)| format!("{}  {name}", hex::encode(Sha256::digest(bytes)))));
    files.insert("MANIFEST.sha256".to_owned(), manifest);
    Ok(files)
}

fn lines(lines: impl Iterator<Item = String>) -> Vec<u8> {
    lines.fold(String::new(), |text, line| text + &line + "\n").into_bytes()
}

fn pretty(value: &impl serde::Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// What is owed today, as the ledger has it; nothing when the account left the ledger.
async fn statement(shell: &Shell, account: &AccountId) -> Result<Value, ScanError> {
    let (snapshot, decision) = match look_at(shell, account, None).await {
        Ok(seen) => seen,
        Err(ScanError::UnknownAccount(_)) => return Ok(Value::Null),
        Err(error) => return Err(error),
    };
    let (mut open, mut overdue) = (Amounts::default(), Amounts::default());
    let mut items = Vec::new();
    for item in &snapshot.items {
        let decided = decision.items.iter().find(|one| one.item == item.id);
        open.add(item.open());
        if let Some(one) = decided.filter(|one| one.is_overdue_debit()) {
            overdue.add(one.to_pay());
        }
        let code = decided.map(|one| one.code);
        items.push(json!({
            "item": item.id, "document_no": item.document_no, "kind": item.kind, "issue_date": item.issue_date,
            "due_date": item.due_date, "amount": item.amount.to_string(), "open": item.open_amount.to_string(),
            "currency": item.currency.code(), "days_past_due": decided.and_then(|one| one.days_past_due),
            "code": code.map(ItemCode::as_str), "meaning": code.map(ItemCode::meaning), "ledger_says": ledger_says(item),
        }));
    }
    let promises: Vec<Value> = standings(&shell.live().config.policy, &snapshot, decision.business_date)
        .into_iter()
        .map(|(promise, standing)| json!({ "made_on": promise.made_on, "words": promise.tell(standing) }))
        .collect();
    let total = |amounts: &Amounts| amounts.iter().map(|money: Money| money.to_string()).collect::<Vec<_>>();
    Ok(json!({
        "date": decision.business_date,
        "payments_as_of": snapshot.freshness.map(|freshness| freshness.payments_as_of),
        "name": snapshot.account.name, "creditor": snapshot.account.creditor,
        "items": items, "promises": promises, "open": total(&open), "overdue_after_credits": total(&overdue),
    }))
}

/// The hold and the dispute that the ledger itself names.
fn ledger_says(item: &Item) -> Option<String> {
    let day = |day: Option<NaiveDate>, word: &str| day.map_or(String::new(), |day| format!(" {word} {day}"));
    let words = |reason: &Option<String>| reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
    let dispute = item.dispute.as_ref().map(|one| format!("disputed{}{}", day(one.since, "since"), words(&one.reason)));
    let hold = (item.hold_until.is_some() || item.hold_reason.is_some())
        .then(|| format!("held{}{}", day(item.hold_until, "until"), words(&item.hold_reason)));
    let said: Vec<String> = dispute.into_iter().chain(hold).collect();
    (!said.is_empty()).then(|| said.join("; "))
}

/// One line of the timeline.
fn told(stored: &Value) -> Value {
    let event = &stored["event"];
    let facts = event["facts"].as_object().into_iter().flatten().filter_map(|(key, value)| {
        let told = value.as_str().map(str::to_owned).or_else(|| value.is_boolean().then(|| value.to_string()))?;
        let hash = key.ends_with("commitment") || key.ends_with("sha256") || key == "fingerprint";
        (!hash && told != "false").then(|| format!("{}: {told}", key.replace('_', " ")))
    });
    let words: Vec<String> = facts.collect();
    json!({
        "seq": stored["seq"], "at": stored["at"], "kind": event["kind"], "person": event["person"],
        "words": words.join("; "),
    })
}
