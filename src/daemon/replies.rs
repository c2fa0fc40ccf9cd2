//! The journal of replies and the database: which of them knows more.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::deliver::{Ending, Journal, JournalError, LogHead};
use crate::model::{Event, EventKind};
use crate::record::{self, RecordError, Settled};

use super::Shell;
use super::dispatch::Desk;
use super::signed::{SignedError, forget, last_signed};

/// Why nothing can be delivered from this machine.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The database was restored from an older state, or is another one: what it calls queued may have been sent.
    #[error(
        "the contact log is not the one that this machine last saw. Seen: {} events, head {}. Now: {now}. Was the database \
         restored, or is it another one? What it calls queued may have been sent already: look into it, then begin once \
         with `--accept-database --reason …`",
        seen.events, seen.chain_hash
    )]
    LogDiffers { seen: LogHead, now: String },
    /// The database has lost the last commits: what went out under them it would send again.
    #[error(
        "the journal of replies knows {count} letters that went out by attempts which the database has lost, such as notice \
         {notice}: {outcome} on {at}. Did the database fail over, or was it restored? It would send them again: begin once \
         with `--accept-database --reason …`, which first records what the journal knows"
    )]
    AttemptsLost { count: usize, notice: Uuid, outcome: &'static str, at: DateTime<Utc> },
    #[error(transparent)]
    Signed(#[from] SignedError),
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl From<sqlx::Error> for StateError {
    fn from(error: sqlx::Error) -> Self {
        Self::Record(error.into())
    }
}

/// The journal of this process, which has seen nothing of the contact log that the database does not hold.
///
/// # Errors
/// When it cannot be kept, or the database has lost events since.
pub async fn journal(shell: &Shell, connection: &mut PgConnection) -> Result<Arc<Journal>, StateError> {
    let journal = opened(shell).await?;
    if journal.head().is_none() {
        journal.saw(head(connection).await?)?;
    }
    compared(&journal, connection).await?;
    Ok(journal)
}

/// Whether the database holds what this machine has seen of it.
///
/// # Errors
/// What it has lost, or that it refuses.
pub(super) async fn compared(journal: &Journal, connection: &mut PgConnection) -> Result<(), StateError> {
    let Some(seen) = journal.head() else { return Ok(()) };
    let there = record::chain_hash_at(connection, seen.events).await?.map(hex::encode);
    if seen.events == 0 || there.as_ref() == Some(&seen.chain_hash) {
        let lost = lost(journal, connection).await?;
        let Some(first) = lost.first() else { return Ok(()) };
        let (count, outcome) = (lost.len(), first.outcome.state().as_str());
        return Err(StateError::AttemptsLost { count, notice: first.notice, outcome, at: first.at });
    }
    let now = match there {
        Some(other) => format!("event {} has the head {other}", seen.events),
        None => format!("{} events", head(connection).await?.events),
    };
    Err(StateError::LogDiffers { seen, now })
}

/// Goes on with a contact log that is not the one last seen, or not the one last signed, because a person says so; the log
/// says that too.
///
/// # Errors
/// When the journal or the last checkpoint cannot be kept, or the database refuses.
pub async fn accept_database(shell: &Shell, reason: &str) -> Result<(), StateError> {
    let mut connection = shell.pool.acquire().await?;
    let differs = match journal(shell, &mut connection).await {
        Ok(_) => false,
        Err(StateError::LogDiffers { .. } | StateError::AttemptsLost { .. }) => true,
        Err(error) => return Err(error),
    };
    let live = shell.live();
    let directory = &live.config.service.state.directory;
    let mut signed = last_signed(directory)?;
    if let Some(last) = &signed
        && record::extends_checkpoint(&mut connection, last).await?
    {
        signed = None;
    }
    if !differs && signed.is_none() {
        return Ok(());
    }
    let journal = opened(shell).await?;
    let (seen, now) = (journal.head().unwrap_or_default(), head(&mut connection).await?);
    let lost = lost(&journal, &mut connection).await?;
    let mut facts = json!({
        "reason": reason, "seen_events": seen.events.to_string(), "seen_head": seen.chain_hash,
        "found_events": now.events.to_string(), "found_head": now.chain_hash,
        "attempts_restored": lost.len().to_string(),
    });
    if let Some(signed) = &signed {
        facts["signed_events"] = signed.size.to_string().into();
        facts["signed_root"] = hex::encode(signed.root).into();
    }
    let mut transaction = connection.begin().await?;
    for Ending { notice, attempt, token, at, .. } in &lost {
        record::restore_attempt(&mut transaction, *notice, *attempt, *token, *at).await?;
    }
    record::append(&mut transaction, &[Event::new(EventKind::DatabaseAccepted, shell.actor.clone(), facts)]).await?;
    transaction.commit().await?;
    if signed.is_some() {
        forget(directory)?;
    }
    journal.goes_on_from(head(&mut connection).await?)?;
    Ok(journal.sync()?)
}

/// The ends that the database was not told of attempts by which a letter may have gone out, and which it does not know.
async fn lost(journal: &Journal, connection: &mut PgConnection) -> Result<Vec<Ending>, RecordError> {
    let mut lost = Vec::new();
    for ending in journal.unsettled().into_iter().filter(|ending| ending.outcome.may_be_sent()) {
        if !record::knows_attempt(connection, ending.attempt).await? {
            lost.push(ending);
        }
    }
    Ok(lost)
}

async fn opened(shell: &Shell) -> Result<Arc<Journal>, JournalError> {
    let mut journal = shell.journal.lock().await;
    if let Some(journal) = &*journal {
        journal.ready()?;
        return Ok(Arc::clone(journal));
    }
    let opened = Arc::new(Journal::open(&shell.live().config.service.state.directory)?);
    *journal = Some(Arc::clone(&opened));
    Ok(opened)
}

async fn head(connection: &mut PgConnection) -> Result<LogHead, RecordError> {
    let (events, chain_hash) = record::head(connection).await?;
    Ok(LogHead { events, chain_hash: hex::encode(chain_hash) })
}

/// Settles what the journal knows and the database was not told, because a process or the database died in between.
///
/// # Errors
/// When the database refuses.
pub(super) async fn replay(
    shell: &Shell,
    desk: &Desk<'_>,
    journal: &Journal,
    connection: &mut PgConnection,
) -> Result<(), RecordError> {
    let unsettled = journal.unsettled();
    if unsettled.is_empty() {
        return Ok(());
    }
    let mut settled_now = Vec::new();
    for ending in &unsettled {
        let mut transaction = connection.begin().await?;
        if record::is_sent_again(&mut transaction, ending.attempt).await? {
            // What the journal knows settles it if nobody learns what becomes of the second copy.
            continue;
        }
        let open = record::open_attempt(&mut transaction, ending.notice, ending.attempt, ending.token).await?;
        if let Some(claimed) = open {
            let settlement = desk.settlement(&claimed, &ending.outcome, Some(ending.at));
            let settled = record::settle(&mut transaction, &[settlement], Vec::new(), &shell.actor).await?;
            transaction.commit().await?;
            let stands = settled != [Settled::Recorded];
            tracing::warn!(notice.id = %ending.notice, outcome = ending.outcome.state().as_str(), at = %ending.at,
                settled_otherwise = stands,
                "the journal of replies knew the end of an attempt that the database did not");
        }
        settled_now.push(ending.attempt);
    }
    // What the database knew already it may have learnt by a commit that did not wait for the disk.
    let mut transaction = connection.begin().await?;
    record::write_through(&mut transaction).await?;
    transaction.commit().await?;
    journal.settled(settled_now);
    Ok(())
}
