//! What people record, where it depends on what a scan would see.

use chrono::NaiveDate;
use rust_decimal::Decimal;
use sqlx::Connection as _;

use crate::decide::standings;
use crate::model::{
    AccountId, Decision, ItemId, Money, Promise, PromiseState, PromisedItem, Snapshot, StageName, Standing, Waiver,
};
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
    let waiver = Waiver { item: item.clone(), stage: stage.clone(), on, reason: reason.to_owned(), elsewhere: None };
    let mut transaction = connection.begin().await?;
    record::waive(&mut transaction, account, &waiver, decision.business_date, &shell.actor).await?;
    transaction.commit().await?;
    Ok(waiver)
}

/// What a debtor promised.
#[derive(Debug, Clone)]
pub struct PromiseRequest {
    pub amount: Money,
    pub by_day: NaiveDate,
    pub tolerance_days: u32,
    /// Empty for everything in that currency that is overdue and could be demanded.
    pub items: Vec<ItemId>,
    pub reason: String,
}

/// Records a promise, with what is open on its items today.
///
/// # Errors
/// When an item cannot be promised or is promised already, when more is promised than is open, or as [`look_at`].
pub async fn promise(shell: &Shell, account: &AccountId, request: &PromiseRequest) -> Result<Promise, EntryError> {
    let (snapshot, decision) = look_at(shell, account, None).await?;
    let today = decision.business_date;
    if request.by_day < today {
        return Err(RegisterError::DayIsOver(today).into());
    }
    let mut connection = shell.pool.acquire().await?;
    for item in &request.items {
        record::known(&mut connection, account, Some(item)).await?;
    }
    let items = promised_items(&snapshot, &decision, request)?;
    let open = Money::new(items.iter().map(|one| one.open_then).sum(), request.amount.currency);
    if request.amount.amount > open.amount {
        return Err(RegisterError::MoreThanOpen { promised: request.amount, open }.into());
    }
    let mut promise = Promise {
        number: 0,
        amount: request.amount,
        made_on: today,
        by_day: request.by_day,
        tolerance_days: request.tolerance_days,
        items,
        reason: request.reason.clone(),
        withdrawn: false,
    };
    let mut transaction = connection.begin().await?;
    promise.number = record::promise(&mut transaction, account, &promise, &shell.actor).await?;
    transaction.commit().await?;
    Ok(promise)
}

fn promised_items(
    snapshot: &Snapshot,
    decision: &Decision,
    request: &PromiseRequest,
) -> Result<Vec<PromisedItem>, RegisterError> {
    let currency = request.amount.currency;
    let chosen: Vec<&ItemId> = if request.items.is_empty() {
        let overdue = decision.items.iter().filter(|one| one.is_overdue_debit() && !one.code.is_out());
        overdue.filter(|one| one.open.currency == currency).map(|one| &one.item).collect()
    } else {
        request.items.iter().collect()
    };
    if chosen.is_empty() {
        return Err(RegisterError::NothingToPromise(format!("an account without overdue items in {currency}")));
    }
    let running = standings(snapshot, decision.business_date);
    let running: Vec<&Promise> =
        running.iter().filter(|(_, now)| now.state == PromiseState::Running).map(|(promise, _)| *promise).collect();
    let mut items: Vec<PromisedItem> = Vec::new();
    for id in chosen {
        if let Some(other) = running.iter().find(|promise| promise.items.iter().any(|one| one.item == *id)) {
            return Err(RegisterError::AlreadyPromised { item: id.clone(), number: other.number });
        }
        let found = snapshot.items.iter().find(|item| item.id == *id);
        let found = found.filter(|item| item.currency == currency && item.open_amount > Decimal::ZERO);
        let item = found.ok_or_else(|| {
            RegisterError::NothingToPromise(format!("item {id}: nothing is open on it in {currency}"))
        })?;
        if items.iter().all(|one| one.item != *id) {
            items.push(PromisedItem { item: id.clone(), open_then: item.open_amount, vanished: false });
        }
    }
    Ok(items)
}

/// Every promise of an account, with how it stands today.
///
/// # Errors
/// As [`look_at`].
pub async fn promises(shell: &Shell, account: &AccountId) -> Result<Vec<(Promise, Standing)>, EntryError> {
    let (snapshot, decision) = look_at(shell, account, None).await?;
    let all = standings(&snapshot, decision.business_date);
    Ok(all.into_iter().map(|(promise, standing)| (promise.clone(), standing)).collect())
}

/// Takes a running promise back; without a number, the only one. Returns its number.
///
/// # Errors
/// When there is no such promise, it is not running, or several are and none was named, or as [`look_at`].
pub async fn withdraw_promise(
    shell: &Shell,
    account: &AccountId,
    number: Option<i64>,
    reason: &str,
) -> Result<i64, EntryError> {
    let promises = promises(shell, account).await?;
    let is_running = |(_, now): &&(Promise, Standing)| now.state == PromiseState::Running;
    let running: Vec<i64> = promises.iter().filter(is_running).map(|(promise, _)| promise.number).collect();
    let number = match (number, running.as_slice()) {
        (Some(number), _) => number,
        (None, [only]) => *only,
        (None, []) => {
            let (account, which) = (account.to_string(), "running promise".to_owned());
            return Err(RegisterError::NoSuchPromise { account, which }.into());
        }
        (None, several) => {
            let several: Vec<String> = several.iter().map(ToString::to_string).collect();
            return Err(RegisterError::WhichPromise(several.join(", ")).into());
        }
    };
    if let Some((_, now)) = promises.iter().find(|(promise, _)| promise.number == number)
        && now.state != PromiseState::Running
    {
        return Err(RegisterError::NotRunning { number, state: now.state }.into());
    }
    let mut connection = shell.pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    record::withdraw_promise(&mut transaction, account, number, reason, &shell.actor).await?;
    transaction.commit().await?;
    Ok(number)
}
