//! Pages on their way into the database, beside whoever decides the next one.

use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::{Connection as _, PgConnection, Postgres};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::daemon::ScanError;
use crate::model::{AccountId, Actor, Decision, ReasonCode};
use crate::record::{self, PageWrite, RecordError, RunStart};

use super::Concluded;

/// Writes the pages of a run; a dry run only passes them on.
pub(super) struct Writer {
    pub(super) actor: Actor,
    pub(super) start: RunStart,
    /// None for a dry run.
    pub(super) connection: Option<PoolConnection<Postgres>>,
}

/// A page that is written.
pub(super) struct Written {
    pub(super) decisions: Vec<Decision>,
    /// Of each of them, made here, beside whoever decides.
    pub(super) digests: Vec<[u8; 32]>,
    /// The lines of what was recorded, as the log commits to them.
    pub(super) recorded: Vec<String>,
    /// Notices to addresses that this installation may not write to.
    pub(super) not_allowed: Vec<Uuid>,
    /// Accounts whose conclusion could not be recorded, with the error.
    pub(super) failures: Vec<(AccountId, String)>,
    pub(super) took: Duration,
    /// Of that, for the frozen messages.
    pub(super) freezing: Duration,
}

impl Writer {
    /// Writes as long as pages come and somebody wants to hear of them.
    pub(super) async fn run(
        mut self,
        mut pages: mpsc::Receiver<Vec<Concluded>>,
        written: mpsc::Sender<Written>,
    ) -> Result<(), ScanError> {
        while let Some(mut page) = pages.recv().await {
            let began = Instant::now();
            let mut digests: Vec<_> = page.iter().map(|one| one.decision.digest()).collect();
            let Page { failures, recorded, freezing } = match &mut self.connection {
                Some(connection) => write_page(connection, &self.start, &self.actor, &mut page, &mut digests).await?,
                None => Page::default(),
            };
            let not_allowed = page.iter().filter(|one| !one.may_be_written_to);
            let not_allowed = not_allowed.filter_map(|one| Some(one.planned.as_ref()?.notice)).collect();
            let decisions = page.into_iter().map(|one| one.decision).collect();
            let took = began.elapsed();
            let page = Written { decisions, digests, recorded, not_allowed, failures, took, freezing };
            if written.send(page).await.is_err() {
                break;
            }
        }
        Ok(())
    }
}

impl Concluded {
    fn to_write(&self, digest: [u8; 32]) -> PageWrite<'_> {
        let (ladder, planned) = (self.opens_on.as_ref(), self.planned.as_ref());
        PageWrite { snapshot: &self.snapshot, decision: &self.decision, digest, ladder, planned }
    }
}

/// What came of writing a page.
#[derive(Default)]
struct Page {
    failures: Vec<(AccountId, String)>,
    recorded: Vec<String>,
    /// How long the messages took.
    freezing: Duration,
}

/// Writes a page in one transaction. When that fails, each account is written alone, so that one row that cannot be
/// written keeps nobody else from being; what was concluded for that one does not count.
async fn write_page(
    connection: &mut PgConnection,
    start: &RunStart,
    actor: &Actor,
    concluded: &mut [Concluded],
    digests: &mut [[u8; 32]],
) -> Result<Page, ScanError> {
    let page: Vec<PageWrite<'_>> = concluded.iter().zip(&*digests).map(|(one, digest)| one.to_write(*digest)).collect();
    match write_together(connection, start, actor, &page).await {
        Ok((recorded, freezing)) => return Ok(Page { recorded, freezing, ..Page::default() }),
        Err(RecordError::TakenOver) => return Err(RecordError::TakenOver.into()),
        Err(_) => {}
    }
    let mut page = Page::default();
    for (one, digest) in concluded.iter_mut().zip(digests) {
        let alone = write_together(connection, start, actor, &[one.to_write(*digest)]).await;
        let error = match alone {
            Ok((recorded, freezing)) => {
                page.recorded.extend(recorded);
                page.freezing += freezing;
                continue;
            }
            Err(error) => error,
        };
        // Without a database nothing can be said about a single account: the run ends.
        connection.ping().await?;
        one.decision.withdraw(ReasonCode::NotRecorded, &error.to_string());
        *digest = one.decision.digest();
        let mut failure = error.to_string();
        if let Err(second) = write_tasks(connection, start, actor, &one.to_write(*digest)).await {
            failure = format!("{failure}; and its task could not be opened: {second}");
        }
        page.failures.push((one.decision.account.clone(), failure));
    }
    Ok(page)
}

async fn write_tasks(
    connection: &mut PgConnection,
    start: &RunStart,
    actor: &Actor,
    one: &PageWrite<'_>,
) -> Result<(), RecordError> {
    let mut transaction = connection.begin().await?;
    record::still_running(&mut transaction, start.run).await?;
    record::write_tasks(&mut transaction, start, actor, one).await?;
    transaction.commit().await?;
    Ok(())
}

/// Returns what was recorded, and how long the messages took.
async fn write_together(
    connection: &mut PgConnection,
    start: &RunStart,
    actor: &Actor,
    page: &[PageWrite<'_>],
) -> Result<(Vec<String>, Duration), RecordError> {
    let mut transaction = connection.begin().await?;
    record::still_running(&mut transaction, start.run).await?;
    let (events, recorded) = record::write_page(&mut transaction, start, actor, page).await?;
    let lap = Instant::now();
    record::write_messages(&mut transaction, page).await?;
    let freezing = lap.elapsed();
    if !events.is_empty() {
        record::append(&mut transaction, &events).await?;
    }
    transaction.commit().await?;
    Ok((recorded, freezing))
}
