//! The journal of replies and the database: which of them knows more.

use std::sync::Arc;

use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use crate::deliver::{Journal, JournalError, LogHead};
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
    let Some(seen) = journal.head() else {
        journal.saw(head(connection).await?)?;
        return Ok(journal);
    };
    let there = record::chain_hash_at(connection, seen.events).await?.map(hex::encode);
    if seen.events == 0 || there.as_ref() == Some(&seen.chain_hash) {
        return Ok(journal);
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
    let seen = match journal(shell, &mut connection).await {
        Ok(_) => None,
        Err(StateError::LogDiffers { seen, .. }) => Some(seen),
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
    if seen.is_none() && signed.is_none() {
        return Ok(());
    }
    let now = head(&mut connection).await?;
    let mut facts = json!({
        "reason": reason, "found_events": now.events.to_string(), "found_head": now.chain_hash,
    });
    if let Some(seen) = &seen {
        facts["seen_events"] = seen.events.to_string().into();
        facts["seen_head"] = seen.chain_hash.clone().into();
    }
    if let Some(signed) = &signed {
        facts["signed_events"] = signed.size.to_string().into();
        facts["signed_root"] = hex::encode(signed.root).into();
    }
    let mut transaction = connection.begin().await?;
    record::append(&mut transaction, &[Event::new(EventKind::DatabaseAccepted, shell.actor.clone(), facts)]).await?;
    transaction.commit().await?;
    if signed.is_some() {
        forget(directory)?;
    }
    let journal = opened(shell).await?;
    journal.saw(head(&mut connection).await?)?;
    Ok(journal.sync()?)
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
            let settlement = desk.settlement(&claimed, &ending.outcome, true);
            let settled = record::settle(&mut transaction, &[settlement], &shell.actor).await?;
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
