//! Stages reached elsewhere, brought in from a file: all of it, or nothing.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::Connection as _;

use crate::ledger::{OpeningProblem, OpeningRow, read_opening};
use crate::model::{AccountId, CreditorId, ItemId, Ladder, Stage, StageName, Waiver, counted};
use crate::record::{self, Opening, Past, PastReader, RecordError};

use super::Shell;
use super::scan::{ScanError, look_at};

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum OpeningError {
    #[error("{}", told(.0))]
    Problems(Vec<OpeningProblem>),
    #[error(transparent)]
    Look(#[from] ScanError),
}

impl From<sqlx::Error> for OpeningError {
    fn from(error: sqlx::Error) -> Self {
        Self::Look(error.into())
    }
}

impl From<RecordError> for OpeningError {
    fn from(error: RecordError) -> Self {
        Self::Look(error.into())
    }
}

fn told(problems: &[OpeningProblem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    format!("nothing was imported, {}\n{}", counted(problems.len(), "finding"), lines.join("\n"))
}

/// Imports the stages of a file. Returns how many, and on how many accounts. A dry run writes nothing.
///
/// # Errors
/// When any row is wrong, with all that is; or as [`look_at`].
pub async fn import_opening(shell: &Shell, file: &[u8], dry_run: bool) -> Result<(usize, usize), OpeningError> {
    let rows = read_opening(file).map_err(OpeningError::Problems)?;
    let mut connection = shell.pool.acquire().await?;
    let items: Vec<ItemId> = rows.iter().map(|row| row.item.clone()).collect();
    let owners = record::accounts_of(&mut connection, &items).await?;
    let mut problems = Vec::new();
    let mut accounts: BTreeMap<(AccountId, String), Vec<&OpeningRow>> = BTreeMap::new();
    for row in &rows {
        match owners.get(row.item.as_str()).and_then(|(account, by)| Some((AccountId::parse(account).ok()?, by))) {
            Some((account, creditor)) => accounts.entry((account, creditor.clone())).or_default().push(row),
            None => problems.push(problem(row, "item_id", format!("the ledger has no item {}", row.item))),
        }
    }
    let mut entries = Vec::new();
    let mut pasts = PastReader::open(&mut connection, None).await?;
    for ((account, creditor), rows) in &accounts {
        let today = {
            let live = shell.live();
            let zone = CreditorId::parse(creditor).map(|id| live.config.policy.zone(&id));
            shell.clock.today(zone.unwrap_or(chrono_tz::Tz::UTC))
        };
        let (snapshot, _) = look_at(shell, account, None).await?;
        let ladder = crate::decide::ladder_of(&shell.live().config.policy, &snapshot);
        let mut past = pasts.page(&mut connection, std::slice::from_ref(account), today).await?;
        let done = done(&past.remove(account).unwrap_or_default());
        let future = rows.iter().filter(|row| row.done_on > today);
        problems.extend(future.map(|row| problem(row, "done_on", format!("{} lies in the future", row.done_on))));
        problems.extend(unfit(rows, &ladder, &done));
        let stages: Vec<Waiver> = rows
            .iter()
            .map(|row| Waiver {
                item: row.item.clone(),
                stage: row.stage.clone(),
                on: row.done_on,
                reason: "done elsewhere".to_owned(),
                elsewhere: Some(row.by.to_string()),
            })
            .collect();
        entries.push(Opening { creditor: creditor.clone(), account: account.clone(), stages });
    }
    if !problems.is_empty() {
        problems.sort();
        return Err(OpeningError::Problems(problems));
    }
    let count = (rows.len(), entries.len());
    if !dry_run {
        let mut transaction = connection.begin().await?;
        record::import_opening(&mut transaction, &entries, &shell.actor).await?;
        transaction.commit().await?;
    }
    Ok(count)
}

fn problem(row: &OpeningRow, column: &'static str, text: String) -> OpeningProblem {
    OpeningProblem { line: row.line, column, text }
}

/// The stages that items have behind them.
fn done(past: &Past) -> BTreeSet<(ItemId, StageName)> {
    let sent = past.history.notices.iter().flat_map(|notice| {
        let done = |stage| notice.state.is_pending() || notice.completes(stage);
        notice.items.iter().filter(move |(_, stage)| done(stage)).cloned()
    });
    sent.chain(past.history.waivers.iter().map(|one| (one.item.clone(), one.stage.clone()))).collect()
}

/// Stages that the ladder does not have, that are done, or that leave a lower one out.
fn unfit(rows: &[&OpeningRow], ladder: &Ladder, done: &BTreeSet<(ItemId, StageName)>) -> Vec<OpeningProblem> {
    let mut problems = Vec::new();
    let mut named: BTreeSet<(ItemId, StageName)> = BTreeSet::new();
    let all: BTreeSet<(ItemId, StageName)> = rows.iter().map(|row| (row.item.clone(), row.stage.clone())).collect();
    for row in rows {
        let key = (row.item.clone(), row.stage.clone());
        let Some(position) = ladder.position(&row.stage) else {
            let stages: Vec<&str> = ladder.stages.iter().map(|stage| stage.name.as_str()).collect();
            let text = format!("ladder {} has no stage {}, only {}", ladder.name, row.stage, stages.join(", "));
            problems.push(problem(row, "stage", text));
            continue;
        };
        if done.contains(&key) {
            let text = format!("stage {} of item {} is complete or on its way already", row.stage, row.item);
            problems.push(problem(row, "stage", text));
        } else if !named.insert(key) {
            problems.push(problem(row, "stage", format!("stage {} of item {} stands here twice", row.stage, row.item)));
        }
        let lower = ladder.stages.iter().take(position).filter(|stage| stage.enabled && stage.days >= 0);
        let is_left_out = |stage: &&Stage| {
            let key = (row.item.clone(), stage.name.clone());
            !done.contains(&key) && !all.contains(&key)
        };
        if let Some(left_out) = lower.into_iter().find(is_left_out) {
            let text =
                format!("stage {} comes before {} and is neither complete nor in the file", left_out.name, row.stage);
            problems.push(problem(row, "stage", text));
        }
    }
    problems
}
