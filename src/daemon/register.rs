//! What people record, where it depends on what a scan would see.

use sqlx::Connection as _;

use crate::model::{AccountId, ItemId, StageName, Waiver};
use crate::record::{self, RecordError, RegisterError};

use super::Shell;
use super::scan::{ScanError, look_at};

/// Why something was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    #[error(transparent)]
    Look(#[from] ScanError),
    #[error(transparent)]
    Record(#[from] RegisterError),
}

impl From<sqlx::Error> for EntryError {
    fn from(error: sqlx::Error) -> Self {
        Self::Record(RecordError::from(error).into())
    }
}

/// Declares the next stage of an item done without a contact. The rule says on which date it was due.
///
/// # Errors
/// When the stage is not the item's next one, when a notice of it is in flight or unknown, or as [`look_at`].
pub async fn waive(
    shell: &Shell,
    account: &AccountId,
    item: &ItemId,
    stage: &StageName,
    reason: &str,
) -> Result<Waiver, EntryError> {
    let (_, decision) = look_at(shell, account, None).await?;
    let mut connection = shell.pool.acquire().await?;
    record::known(&mut connection, account, Some(item)).await?;
    let seen = decision.items.iter().find(|one| one.item == *item);
    let next = seen.and_then(|one| Some((one.next_stage.as_ref()?, one.due_on?)));
    let refused = |instead: String| {
        let (item, stage) = (item.clone(), stage.clone());
        EntryError::from(RegisterError::NotTheNextStage { item, stage, instead })
    };
    let on = match (next, seen) {
        (Some((next, due_on)), _) if next == stage => due_on,
        (Some((next, due_on)), _) => return Err(refused(format!("that is {next}, due on {due_on}"))),
        (None, Some(one)) => return Err(refused(one.code.meaning().to_owned())),
        (None, None) => return Err(refused("Nothing is open on it.".to_owned())),
    };
    let waiver = Waiver { item: item.clone(), stage: stage.clone(), on, reason: reason.to_owned() };
    let mut transaction = connection.begin().await?;
    record::waive(&mut transaction, account, &waiver, decision.business_date, &shell.actor).await?;
    transaction.commit().await?;
    Ok(waiver)
}
