//! A scan: every account of a creditor is looked at, decided on, and, when it is to be contacted, given a notice with
//! frozen content. Dry or live, the decisions are the same.

use std::time::{Duration, Instant};

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use serde_json::json;
use sqlx::Connection as _;
use uuid::Uuid;

use crate::decide::standings;
use crate::ledger;
use crate::model::{
    AccountId, Creditor, CreditorId, Decision, Event, EventKind, Mode, Policy, PromiseState, RefusalCode, Released,
    RunId, RunTotals, Snapshot,
};
use crate::record::{self, RecordError, RecordedDecisions, Status};

use super::run::{Run, not_adopted};
use super::schedule::{ClockTrouble, clock_trouble};
use super::{Live, Shell};

/// What to scan.
#[derive(Debug, Clone, Default)]
pub struct ScanRequest {
    /// Only this creditor; else each configured one.
    pub creditor: Option<CreditorId>,
    /// Only this account.
    pub account: Option<AccountId>,
    /// Sees the ledger as it stood on that day, and is that day.
    pub as_of: Option<NaiveDate>,
    pub dry_run: bool,
    /// Why the ledger of the one creditor is right although too many items are gone or open again: goes on with it, and
    /// the log says so.
    pub accept_ledger: Option<String>,
    /// Begun by the schedule: once per creditor and date.
    pub scheduled: bool,
    /// Accounts read, decided and written at a time. What is concluded does not depend on it.
    pub page: Page,
    /// For the benchmarks: a dry run that decides and writes no letters, so it never finds one that cannot be made.
    pub decide_only: bool,
}

/// How many accounts are on a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page(pub usize);

impl Default for Page {
    fn default() -> Self {
        Self(125)
    }
}

/// What one run concluded.
#[derive(Debug, Clone, Serialize)]
pub struct RunReport {
    pub creditor: CreditorId,
    pub business_date: NaiveDate,
    /// Missing for a dry run, which leaves no row.
    pub run: Option<RunId>,
    pub totals: RunTotals,
    /// Notices released to be delivered.
    pub queued: u64,
    /// How the notices left the run; missing for a dry run.
    pub released: Option<Released>,
    /// Notices given to people as tasks.
    pub tasks: u64,
    /// How many contacts are expected of the next working day.
    pub forecast: u64,
    #[serde(skip)]
    pub(super) not_allowed: Vec<Uuid>,
    /// Accounts whose conclusion could not be recorded, with the error.
    pub failures: Vec<(AccountId, String)>,
    /// Accounts whose ids are none that we can hold, as they can be shown.
    pub unreadable: Vec<String>,
    pub digest: String,
    #[serde(skip)]
    pub(super) recorded: RecordedDecisions,
    #[serde(skip)]
    pub spent: Spent,
}

/// Where the time of a run went, for the benchmarks. Reading, deciding and writing go on at the same time, so the parts
/// are more than the whole.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    /// Locks, guards, and remembering the items seen.
    pub guards: Duration,
    pub ledger: Duration,
    pub history: Duration,
    pub decide: Duration,
    /// Letters: rendering, message bytes.
    pub letters: Duration,
    /// What the ledger says about each claim, to be compared before it is sent.
    pub fingerprints: Duration,
    pub writes: Duration,
    /// Of the writes: the frozen messages, each with its bytes, snapshot and letter.
    pub freezing: Duration,
}

/// What a scan concluded.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ScanReport {
    pub dry_run: bool,
    pub as_of: Option<NaiveDate>,
    /// How far the daemon may go by itself.
    pub mode: Option<Mode>,
    /// Set when this database may not send from this machine: why not, and what to do.
    pub not_adopted: Option<String>,
    pub runs: Vec<RunReport>,
    /// Creditors whose run a guard refused while others had theirs, with the words of the guard.
    pub refused: Vec<String>,
    /// All runs together; currencies stay apart.
    pub total: RunTotals,
    /// Items that the ledger check quarantined.
    pub quarantined: u64,
    /// How long the ledger check took, for the benchmarks.
    #[serde(skip)]
    pub checked_in: Duration,
}

/// Why a scan did not happen.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// A guard said no; nothing was decided or marked.
    #[error("creditor {creditor}: the run was refused: {}: {detail}", code.as_str())]
    Refused { creditor: CreditorId, code: RefusalCode, detail: String },
    #[error("the ledger breaks its contract; nothing was decided")]
    Contract(Box<ledger::ContractReport>),
    #[error(transparent)]
    Clock(#[from] ClockTrouble),
    #[error("creditor {0}: another run holds the lock")]
    LockHeld(CreditorId),
    #[error("there is no creditor {0} in creditors.toml")]
    UnknownCreditor(String),
    #[error("the ledger has no account {0}")]
    UnknownAccount(AccountId),
    #[error("sending with --as-of is refused when environment is \"production\"; add --dry-run")]
    AsOfInProduction,
    #[error("{0} lies in the future; add --dry-run to see what that day would bring")]
    AsOfInFuture(NaiveDate),
    #[error(
        "the ledger of one creditor is accepted at a time, and creditors.toml has several: add {}",
        .0.iter().map(|id| format!("`--creditor {id}`")).collect::<Vec<_>>().join(" or ")
    )]
    WhoseLedger(Vec<CreditorId>),
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl From<sqlx::Error> for ScanError {
    fn from(error: sqlx::Error) -> Self {
        Self::Record(error.into())
    }
}

/// Scans. `each` is told every decision, in account order within a creditor.
///
/// # Errors
/// As [`ScanError`]; runs of creditors before the failing one stand. A guard that refuses one creditor's run is an error
/// only when no other creditor has a run: nobody waits for a ledger that is not theirs.
pub async fn scan(
    shell: &Shell,
    request: &ScanRequest,
    each: &mut (dyn FnMut(&Decision) + Send),
) -> Result<ScanReport, ScanError> {
    let live = shell.live();
    if request.as_of.is_some()
        && !request.dry_run
        && live.config.service.environment == crate::config::Environment::Production
    {
        return Err(ScanError::AsOfInProduction);
    }
    let all = &live.config.policy.creditors;
    // The day begins first where the sun does.
    let today = all.values().map(|creditor| shell.clock.today(creditor.time_zone)).max();
    let today = today.unwrap_or_else(|| shell.clock.today(chrono_tz::Tz::UTC));
    if let Some(day) = request.as_of.filter(|day| !request.dry_run && *day > today) {
        return Err(ScanError::AsOfInFuture(day));
    }
    if request.accept_ledger.is_some() && request.creditor.is_none() && all.len() > 1 {
        return Err(ScanError::WhoseLedger(all.keys().cloned().collect()));
    }
    if !request.dry_run {
        check_clocks(shell).await??;
    }
    let mut request = request.clone();
    if let Some(account) = &request.account {
        let mut connection = shell.pool.acquire().await?;
        let creditor = ledger::creditor_of(&mut connection, account).await?;
        let creditor = creditor.ok_or_else(|| ScanError::UnknownAccount(account.clone()))?;
        request.creditor =
            Some(CreditorId::parse(&creditor).map_err(|_| ScanError::UnknownCreditor(creditor.clone()))?);
    }
    let creditors: Vec<Creditor> = match &request.creditor {
        Some(id) => vec![
            live.config.policy.creditors.get(id).cloned().ok_or_else(|| ScanError::UnknownCreditor(id.to_string()))?,
        ],
        None => live.config.policy.creditors.values().cloned().collect(),
    };
    let began = Instant::now();
    let contract = check_contract(shell, &live).await?;
    let (mode, not_adopted) = standing(shell).await?;
    let checked_in = began.elapsed();

    let mut report = ScanReport {
        dry_run: request.dry_run,
        as_of: request.as_of,
        mode: Some(mode),
        not_adopted,
        quarantined: contract.broken_items,
        checked_in,
        ..ScanReport::default()
    };
    let mut first_refusal = None;
    for creditor in &creditors {
        match Run::new(shell, &live, creditor, &request).perform(each).await {
            Ok(run) => {
                report.total.add(&run.totals);
                report.runs.push(run);
            }
            Err(refusal @ ScanError::Refused { .. }) => {
                report.refused.push(refusal.to_string());
                first_refusal = first_refusal.or(Some(refusal));
            }
            Err(other) => return Err(other),
        }
    }
    first_refusal.filter(|_| report.runs.is_empty()).map_or(Ok(report), Err)
}

/// Whether the clocks of this machine and of the database can be believed.
///
/// # Errors
/// When the database refuses.
pub async fn check_clocks(shell: &Shell) -> Result<Result<(), ClockTrouble>, RecordError> {
    let mut connection = shell.pool.acquire().await?;
    let (database, last_event) = record::times(&mut connection).await?;
    Ok(clock_trouble(shell.clock.wall(), database, last_event).map_or(Ok(()), Err))
}

/// Goes on after the database's clock went back, because a person says that it is right now; the log says that too.
///
/// # Errors
/// When the database refuses.
pub async fn accept_clock(shell: &Shell, reason: &str) -> Result<(), RecordError> {
    let mut connection = shell.pool.acquire().await?;
    let (database, last_event) = record::times(&mut connection).await?;
    let Some(ClockTrouble::Back { .. }) = clock_trouble(shell.clock.wall(), database, last_event) else {
        return Ok(());
    };
    let facts = json!({ "reason": reason, "last_event_at": last_event.map(|at| at.to_rfc3339()) });
    let mut transaction = connection.begin().await?;
    // From now on this is the last event, and its time is that of the clock.
    record::append(&mut transaction, &[Event::new(EventKind::ClockAccepted, shell.actor.clone(), facts)]).await?;
    Ok(transaction.commit().await?)
}

/// How far the daemon may go, and why nothing may be sent from this database on this machine, if so.
///
/// # Errors
/// When the database refuses.
pub async fn standing(shell: &Shell) -> Result<(Mode, Option<String>), RecordError> {
    let mut connection = shell.pool.acquire().await?;
    let mode = record::mode(&mut connection).await?.mode;
    let identity = record::identity(&mut connection, &shell.host).await?;
    Ok((mode, (!identity.adopted).then(|| not_adopted(&identity))))
}

async fn check_contract(shell: &Shell, live: &Live) -> Result<ledger::ContractReport, ScanError> {
    let mut connection = shell.pool.acquire().await?;
    let mut options = check_options(&live.config.policy, shell.clock.now());
    options.depth = ledger::Depth::WhatStopsARun;
    let report = ledger::check(&mut connection, &options).await?;
    if !report.stops_run() {
        return Ok(report);
    }
    // Whoever has to mend the ledger wants to see everything.
    options.depth = ledger::Depth::Everything;
    Err(ScanError::Contract(Box::new(ledger::check(&mut connection, &options).await?)))
}

/// What the ledger is compared with: our creditors, and the currencies that the policy has a minimum or a rate for.
#[must_use]
pub fn check_options(policy: &Policy, now: DateTime<Utc>) -> ledger::CheckOptions {
    ledger::CheckOptions {
        now,
        depth: ledger::Depth::Everything,
        creditors: policy.creditors.keys().map(ToString::to_string).collect(),
        own_domains: policy.creditors.values().map(|creditor| creditor.sender.domain().to_owned()).collect(),
        currencies: policy.minimums.currencies().map(|currency| currency.to_string()).collect(),
        ladders: policy.ladders.keys().map(ToString::to_string).collect(),
    }
}

/// The state of everything, in counts, with what the rule has to say about it.
///
/// # Errors
/// As [`scan`].
pub async fn status(shell: &Shell) -> Result<Status, ScanError> {
    let live = shell.live();
    let policy = &live.config.policy;
    let today = policy.creditors.values().map(|c| (c.id.clone(), shell.clock.today(c.time_zone))).collect();
    let mut read = shell.pool.begin_with(ledger::LOOK).await?;
    let mut status = record::status(&mut read, &today, &shell.host).await?;
    let promises = record::promises_beside_credits(&mut read, &today).await?;
    for creditor in policy.creditors.values() {
        let own: Vec<_> = promises.iter().filter(|one| one.creditor == creditor.id).collect();
        if own.is_empty() {
            continue;
        }
        let request = ScanRequest { dry_run: true, ..ScanRequest::default() };
        let run = Run::new(shell, &live, creditor, &request);
        let accounts: Vec<AccountId> = own.iter().map(|one| one.account.clone()).collect();
        let numbers: Vec<i64> = own.iter().flat_map(|one| &one.numbers).copied().collect();
        for snapshot in run.look(&mut read, &accounts).await? {
            let standings = standings(policy, &snapshot, shell.clock.today(creditor.time_zone));
            let running = standings
                .iter()
                .filter(|(promise, now)| now.state == PromiseState::Running && numbers.contains(&promise.number));
            status.promises_running += i64::try_from(running.count()).unwrap_or_default();
        }
    }
    Ok(status)
}

/// One account as a scan would see it now, and what it would decide: for `explain` and `preview`. Writes nothing.
///
/// # Errors
/// As [`scan`].
pub async fn look_at(
    shell: &Shell,
    account: &AccountId,
    as_of: Option<NaiveDate>,
) -> Result<(Snapshot, Decision), ScanError> {
    let live = shell.live();
    let mut read = shell.pool.begin_with(ledger::LOOK).await?;
    let creditor = ledger::creditor_of(&mut read, account).await?;
    let creditor = creditor.ok_or_else(|| ScanError::UnknownAccount(account.clone()))?;
    let id = CreditorId::parse(&creditor).map_err(|_| ScanError::UnknownCreditor(creditor.clone()))?;
    let creditor = live.config.policy.creditors.get(&id).ok_or(ScanError::UnknownCreditor(creditor))?;
    let request = ScanRequest { account: Some(account.clone()), as_of, dry_run: true, ..ScanRequest::default() };
    let run = Run::new(shell, &live, creditor, &request);
    run.look_at(&mut read, account).await
}
