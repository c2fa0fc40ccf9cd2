//! What keeps the log provable and free of what must not be kept: checkpoints, and the end of retention.

use chrono::{Months, NaiveTime};
use sqlx::Connection as _;

use crate::config::{SecretError, Service};
use crate::model::{AccountId, CheckpointKey, ParseError, Retention};
use crate::record::{self, CheckpointError, CheckpointRow, EraseError, Erasure, RecordError};

use super::Shell;
use super::digest::write_log_alarm;
use super::signed::{SignedError, last_signed, remember};

/// Why there is no new checkpoint. Nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    #[error(
        "dunningd.toml names no [log] signing_key_file; make a key with `dunningd log keygen` and name it there, then \
         checkpoints can be signed"
    )]
    NoKey,
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("the signing key of the log: {0}")]
    Key(#[from] ParseError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Signed(#[from] SignedError),
}

impl AnchorError {
    /// What shows that the log, or what was kept of it, is not what was written.
    fn finding(&self) -> Option<String> {
        match self {
            Self::Checkpoint(
                CheckpointError::Contradiction(_)
                | CheckpointError::Forgotten { .. }
                | CheckpointError::Record(RecordError::Inconsistent { .. }),
            )
            | Self::Signed(SignedError::Altered(_)) => Some(self.to_string()),
            _ => None,
        }
    }
}

impl From<sqlx::Error> for AnchorError {
    fn from(error: sqlx::Error) -> Self {
        Self::Checkpoint(error.into())
    }
}

/// The key that signs the log.
///
/// # Errors
/// When there is none, or it cannot be read.
pub fn signing_key(service: &Service) -> Result<CheckpointKey, AnchorError> {
    use secrecy::ExposeSecret as _;
    let secret = service.log.signing_key.as_ref().ok_or(AnchorError::NoKey)?;
    Ok(CheckpointKey::parse(secret.read()?.expose_secret())?)
}

/// Signs the log as it is now, and keeps the checkpoint: in the database, and on this machine.
///
/// # Errors
/// As [`AnchorError`]; a log that contradicts its last checkpoint, or the one that this machine signed last, is not signed.
pub async fn anchor(shell: &Shell) -> Result<CheckpointRow, AnchorError> {
    let live = shell.live();
    let key = signing_key(&live.config.service)?;
    let directory = &live.config.service.state.directory;
    let mut connection = shell.pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    record::lock_checkpoints(&mut transaction).await.map_err(CheckpointError::from)?;
    let remembered = last_signed(directory)?;
    let row = record::make_checkpoint(&mut transaction, &key, remembered.as_ref()).await?;
    // Before the database knows it: nothing that was signed is ever contradicted.
    if remembered.is_none_or(|last| last.size < row.size) {
        remember(directory, &row.note)?;
    }
    transaction.commit().await?;
    Ok(row)
}

/// A checkpoint after a run. The run stands, whatever comes of it; a failure is told to the operator.
pub async fn anchor_after_run(shell: &Shell) -> Option<AnchorError> {
    shell.live().config.service.log.signing_key.as_ref()?;
    let error = watched_anchor(shell).await.err();
    error.filter(|error| !matches!(error, AnchorError::Checkpoint(CheckpointError::Empty)))
}

/// The same, and the operator is alarmed when the log turns out to be broken.
async fn watched_anchor(shell: &Shell) -> Result<CheckpointRow, AnchorError> {
    let anchored = anchor(shell).await;
    if let Some(finding) = anchored.as_ref().err().and_then(AnchorError::finding)
        && let Err(error) = write_log_alarm(shell, &finding).await
    {
        tracing::error!(%error, "the operator cannot be told that the log is broken");
    }
    anchored
}

/// A checkpoint when the last one is older than a day.
///
/// # Errors
/// As [`anchor`].
pub async fn anchor_when_due(shell: &Shell) -> Result<(), AnchorError> {
    if shell.live().config.service.log.signing_key.is_some()
        && record::checkpoint_is_due(&mut *shell.pool.acquire().await?).await.map_err(CheckpointError::from)?
    {
        watched_anchor(shell).await?;
    }
    Ok(())
}

/// Erases what is older than the policy keeps it. Returns how many times something of an account was erased.
///
/// # Errors
/// When the database refuses; what was erased until then stays erased.
pub async fn end_retention(shell: &Shell) -> Result<u64, RecordError> {
    let Retention { messages_months, notes_months, smtp_months } = shell.live().config.policy.retention;
    let today = shell.clock.today(chrono_tz::Tz::UTC);
    let mut count = 0;
    for (class, months) in [("messages", messages_months), ("notes", notes_months), ("smtp", smtp_months)] {
        let Some(day) = months.and_then(|months| today.checked_sub_months(Months::new(months))) else { continue };
        let before = day.and_time(NaiveTime::MIN).and_utc();
        let reason = format!("kept for {} months", months.unwrap_or_default());
        let erasure = Erasure {
            classes: &[class],
            before: Some(before),
            reason: &reason,
            legal_ground: "storage limitation, GDPR art. 5(1)(e)",
        };
        let mut connection = shell.pool.acquire().await?;
        for account in record::expired(&mut connection, class, before).await? {
            let Ok(account) = AccountId::parse(&account) else { continue };
            let mut transaction = connection.begin().await?;
            match record::erase(&mut transaction, &account, &erasure, &shell.actor).await {
                Ok(erased) => {
                    transaction.commit().await?;
                    count += u64::from(erased.is_some());
                }
                Err(EraseError::Record(error)) => return Err(error),
                // Somebody placed a legal hold meanwhile.
                Err(_) => transaction.rollback().await?,
            }
        }
    }
    Ok(count)
}
