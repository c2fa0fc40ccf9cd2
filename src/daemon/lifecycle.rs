//! The service: ready when everything was checked, reload on SIGHUP, drain on SIGTERM. Nothing else knows signals.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;

use crate::deliver::Transport;
use crate::model::{Creditor, CreditorId};
use crate::record::{self, BreakerRow, RecordError, SchemaState};

use super::digest::{
    send_operator_mails, write_alarms, write_checkpoint, write_delivery_alarms, write_digest, write_stopped_alarm,
};
use super::dispatch::Dispatched;
use super::live::{Live, LoadError, TransportError, destination, transport};
use super::replies::{StateError, journal};
use super::schedule::{ClockTrouble, Due, run_due};
use super::upkeep::{anchor_after_run, anchor_when_due, end_retention};
use super::{ScanError, ScanRequest, Shell, check_clocks, dispatch, scan, standing};

/// Why the service could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("the database schema is {0:?}; run `dunningd migrate` first")]
    Schema(SchemaState),
    #[error("the database: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Clock(#[from] ClockTrouble),
    #[error("the schedule: {0}")]
    Schedule(#[from] JobSchedulerError),
    #[error("signals: {0}")]
    Signals(#[from] std::io::Error),
}

impl From<sqlx::Error> for ServeError {
    fn from(error: sqlx::Error) -> Self {
        Self::Record(error.into())
    }
}

/// How a process ends that did not wait for what it was doing, as shells have it: 128 and the number of SIGINT.
const INTERRUPTED: i32 = 130;
/// Between two looks at the queue, for notices whose time has come.
const DISPATCH_EVERY: Duration = Duration::from_secs(5);
/// After the relay refused our login: asking every half minute would lock the account.
const AFTER_REFUSED_LOGIN: Duration = Duration::from_mins(15);
/// After the relay failed, or the schedule could not be read.
const AFTER_FAILURE: Duration = Duration::from_secs(30);
/// Between two looks at whether the daemon that runs a creditor's run has died of it.
const LEADER_LOST_AFTER: Duration = Duration::from_secs(3);
/// Between two looks at whether a checkpoint is due or something has been kept long enough.
const UPKEEP_EVERY: Duration = Duration::from_mins(10);

/// Runs until SIGTERM or SIGINT; then nothing new is claimed, and what is on the wire is finished. A second signal
/// ends the process at once.
///
/// `load` reads the configuration anew; it is put in force only when all of it is valid.
///
/// # Errors
/// When the schema is not current, the clocks cannot be believed, the transport cannot be made, the database is gone at
/// the start, replies cannot be kept, or the contact log is not the one that this machine last saw.
pub async fn serve(shell: Arc<Shell>, load: impl Fn() -> Result<Live, LoadError> + Send) -> Result<(), ServeError> {
    // Before anybody is told that we are ready: a SIGHUP that nobody awaits ends the process.
    let awaited = Signals::await_all()?;
    let mut connection = shell.pool.acquire().await?;
    match record::schema_state(&mut connection).await? {
        SchemaState::Current => {}
        other => return Err(ServeError::Schema(other)),
    }
    check_clocks(&shell).await??;
    let mail = transport(&shell.live().config.service.mail)?;
    if let Transport::Smtp(_) = mail {
        journal(&shell, &mut connection).await?;
    }
    drop(connection);
    forget_other_relays(&shell, &mail).await?;

    let stop = CancellationToken::new();
    let bell = Arc::new(Notify::new());
    let queued = Arc::new(Notify::new());
    // What was left at the last end goes on at once.
    queued.notify_one();
    let mut scheduler = ring(&bell, shell.live().config.service.schedule.poll).await?;
    let (mode, not_adopted) = standing(&shell).await?;
    notify(&[NotifyState::Ready, NotifyState::Status("running")]);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        letters = destination(&shell.live().config.service),
        mode = mode.as_str(),
        release = mode.meaning(),
        "ready"
    );
    if let Some(why) = not_adopted {
        tracing::error!(why, "NOTHING IS SENT from this database");
    }

    let told = Notify::new();
    let scans = Box::pin(scan_loop(&shell, &bell, &queued, &told, &stop));
    let digests = Box::pin(digest_loop(&shell, &told, &stop));
    let deliveries = delivering(Arc::clone(&shell), Arc::clone(&queued), stop.clone());
    let signals = signal_loop(&shell, &stop, awaited, load);
    let upkeep = Box::pin(upkeep_loop(&shell, &stop));
    tokio::join!(scans, deliveries, digests, signals, upkeep);
    scheduler.shutdown().await?;
    tracing::info!("stopped");
    Ok(())
}

fn relay_of(transport: &Transport) -> Option<String> {
    match transport {
        Transport::Smtp(relay) => Some(relay.to_string()),
        Transport::File(_) => None,
    }
}

async fn forget_other_relays(shell: &Shell, transport: &Transport) -> Result<(), RecordError> {
    let mut connection = shell.pool.acquire().await?;
    record::forget_other_relays(&mut connection, relay_of(transport).as_deref()).await
}

/// The bell: it only rings, so often; whether a run is due is decided elsewhere.
async fn ring(bell: &Arc<Notify>, every: Duration) -> Result<JobScheduler, JobSchedulerError> {
    let scheduler = JobScheduler::new().await?;
    let rung = Arc::clone(bell);
    scheduler
        .add(Job::new_repeated_async(every, move |_, _| {
            let rung = Arc::clone(&rung);
            Box::pin(async move { rung.notify_one() })
        })?)
        .await?;
    scheduler.start().await?;
    // Once at the start, so that a run missed while the daemon was down is made up for at once.
    bell.notify_one();
    Ok(scheduler)
}

async fn scan_loop(shell: &Shell, bell: &Notify, queued: &Notify, told: &Notify, stop: &CancellationToken) {
    let mut led_elsewhere = false;
    // What keeps each creditor's run from happening, as it was told.
    let mut trouble: BTreeMap<CreditorId, String> = BTreeMap::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = bell.notified() => {}
            () = tokio::time::sleep(LEADER_LOST_AFTER), if led_elsewhere => {}
        }
        led_elsewhere = false;
        let live = shell.live();
        for creditor in live.config.policy.creditors.values() {
            if stop.is_cancelled() {
                return;
            }
            let due = async {
                let mut connection = shell.pool.acquire().await.map_err(RecordError::from)?;
                let last = record::scheduled_run(&mut connection, &creditor.id).await?;
                let schedule = &live.config.service.schedule;
                let due = run_due(last, shell.clock.now(), creditor.time_zone, schedule);
                if let Due::Now(_) = due {
                    // Asked before anything dear is begun; the run itself asks again.
                    match record::lead(&shell.pool, &creditor.id).await? {
                        Some(lock) => lock.release().await?,
                        None => return Ok(None),
                    }
                }
                Ok::<Option<Due>, RecordError>(Some(due))
            };
            match due.await {
                Ok(Some(Due::Now(_))) => {}
                Ok(None) => {
                    led_elsewhere = true;
                    continue;
                }
                Ok(Some(Due::Later(_))) => {
                    trouble.remove(&creditor.id);
                    tell(shell, creditor, told, None, false).await;
                    continue;
                }
                Err(error) => {
                    tracing::error!(%error, "the schedule cannot be read");
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(AFTER_FAILURE) => {}
                    }
                    continue;
                }
            }
            let request =
                ScanRequest { creditor: Some(creditor.id.clone()), scheduled: true, ..ScanRequest::default() };
            let (mut quarantined, mut contract) = (None, false);
            match scan(shell, &request, &mut |_| {}).await {
                Ok(report) => {
                    trouble.remove(&creditor.id);
                    quarantined = Some(report.quarantined);
                    for run in &report.runs {
                        tracing::info!(creditor = %run.creditor, business_date = %run.business_date,
                            considered = run.totals.considered, contacted = run.totals.contacted,
                            failures = run.failures.len() + run.unreadable.len(), "run completed");
                        for braked in run.released.iter().flat_map(|released| &released.braked) {
                            tracing::warn!(creditor = %run.creditor, brake = braked.brake.as_str(), why = braked.why,
                                "braked; see `dunningd status`");
                        }
                    }
                    queued.notify_one();
                    if let Some(error) = Box::pin(anchor_after_run(shell)).await {
                        tracing::error!(%error, "no checkpoint of the log after the run");
                    }
                }
                Err(ScanError::LockHeld(_)) => led_elsewhere = true,
                Err(error) => {
                    contract = matches!(error, ScanError::Contract(_));
                    let why = error.to_string();
                    if trouble.get(&creditor.id) == Some(&why) {
                        tracing::debug!(creditor = %creditor.id, %error, "run did not happen");
                    } else {
                        tracing::error!(creditor = %creditor.id, %error, "run did not happen; this is told again only \
                            when the reason changes, or on another day");
                        trouble.insert(creditor.id.clone(), why);
                    }
                }
            }
            tell(shell, creditor, told, quarantined, contract).await;
        }
    }
}

/// Writes what the operator is to be told. Whatever keeps it from being written is told to the service log only: no
/// letter waits for it.
async fn tell(shell: &Shell, creditor: &Creditor, told: &Notify, quarantined: Option<u64>, contract: bool) {
    let written = async {
        write_digest(shell, creditor, quarantined).await?;
        write_alarms(shell, creditor, contract).await
    };
    match written.await {
        Ok(()) => told.notify_one(),
        Err(error) => tracing::error!(creditor = %creditor.id, %error, "the operator cannot be told"),
    }
}

async fn digest_loop(shell: &Shell, told: &Notify, stop: &CancellationToken) {
    let mut refused = false;
    // What keeps the mails from being sent, as it was told.
    let mut trouble = None;
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => return,
            () = told.notified(), if !refused => {}
            () = tokio::time::sleep(if refused { AFTER_REFUSED_LOGIN } else { AFTER_FAILURE }) => {}
        }
        let (why, login) = match tell_operator(shell, stop).await {
            Ok(done) => (done.relay_error, done.credentials_refused),
            Err(error) => (Some(error.to_string()), false),
        };
        refused = login;
        if let Some(error) = why.as_ref().filter(|_| why != trouble) {
            tracing::error!(
                error,
                "mails to the operator stay queued; this is told again only when the reason changes"
            );
        }
        trouble = why;
    }
}

/// Sends what is to be told, unless the relay failed too often just now.
async fn tell_operator(shell: &Shell, stop: &CancellationToken) -> Result<Dispatched, ServeError> {
    let live = shell.live();
    if live.config.service.digest.to.is_empty() && live.config.service.log.checkpoint_to.is_empty() {
        return Ok(Dispatched::default());
    }
    write_delivery_alarms(shell).await?;
    let mut connection = shell.pool.acquire().await?;
    if !record::is_operator_mail_due(&mut connection).await? {
        return Ok(Dispatched::default());
    }
    let transport = transport(&live.config.service.mail)?;
    if let Some(relay) = relay_of(&transport) {
        let now = record::now(&mut connection).await?;
        let open = record::open_breakers(&mut connection).await?;
        let waits = |one: &BreakerRow| one.subject == relay && one.until.is_some_and(|until| until > now);
        if let Some(open) = open.iter().find(|one| waits(one)) {
            let why = format!("{relay} failed too often ({})", open.cause);
            return Ok(Dispatched { relay_error: Some(why), ..Dispatched::default() });
        }
    }
    drop(connection);
    Ok(send_operator_mails(shell, &transport, stop).await?)
}

/// Once a day a checkpoint, its mail to the auditors, and the end of what was kept long enough.
async fn upkeep_loop(shell: &Shell, stop: &CancellationToken) {
    let mut cleared_on = None;
    while !stop.is_cancelled() {
        if let Err(error) = anchor_when_due(shell).await {
            tracing::error!(%error, "no checkpoint of the log");
        }
        if let Err(error) = write_checkpoint(shell).await {
            tracing::error!(%error, "the auditors cannot be told");
        }
        let today = shell.clock.today(chrono_tz::Tz::UTC);
        if cleared_on != Some(today) {
            match end_retention(shell).await {
                Ok(0) => cleared_on = Some(today),
                Ok(count) => {
                    tracing::info!(count, "personal data was kept long enough and is erased");
                    cleared_on = Some(today);
                }
                Err(error) => tracing::error!(%error, "what was kept long enough could not be erased"),
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(UPKEEP_EVERY) => {}
        }
    }
}

/// On a worker thread, which waits for the relay and the database itself: this one would have to be woken for each answer.
async fn delivering(shell: Arc<Shell>, queued: Arc<Notify>, stop: CancellationToken) {
    let ended = tokio::spawn(async move { dispatch_loop(&shell, &queued, &stop).await }).await;
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

async fn dispatch_loop(shell: &Shell, queued: &Notify, stop: &CancellationToken) {
    let mut wait = DISPATCH_EVERY;
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => return,
            () = queued.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
        wait = DISPATCH_EVERY;
        let transport = match transport(&shell.live().config.service.mail) {
            Ok(transport) => transport,
            Err(error) => {
                tracing::error!(%error, "mail cannot be delivered");
                wait = AFTER_FAILURE;
                continue;
            }
        };
        match dispatch(shell, &transport, stop).await {
            Ok(done) => {
                if let Some(why) = &done.not_adopted {
                    tracing::error!(why, "NOTHING IS SENT from this database");
                    wait = AFTER_FAILURE;
                }
                if let Some(why) = &done.stopped {
                    tracing::error!(why, "NOTHING IS SENT");
                    wait = AFTER_FAILURE;
                }
                if let Some(why) = done.not_adopted.as_ref().or(done.stopped.as_ref())
                    && let Err(error) = write_stopped_alarm(shell, why).await
                {
                    tracing::error!(%error, "the operator cannot be told");
                }
                if let Some(error) = &done.relay_error {
                    tracing::error!(error, "the relay cannot be used; nothing lost a try by it");
                    wait = if done.credentials_refused { AFTER_REFUSED_LOGIN } else { AFTER_FAILURE };
                }
            }
            Err(error) => {
                // The database; it may be back in a moment, and asking it costs little.
                tracing::error!(%error, "delivery stopped");
            }
        }
    }
}

async fn signal_loop(
    shell: &Shell,
    stop: &CancellationToken,
    awaited: Signals,
    load: impl Fn() -> Result<Live, LoadError>,
) {
    let Signals { mut terminate, mut interrupt, mut hang_up } = awaited;
    let started = shell.live();
    let watchdog = sd_notify::watchdog_enabled().map(|limit| limit / 2);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => {
                reloading();
                let loaded = load().and_then(|live| live.in_place_of(&shell.live())).map(|live| {
                    let mail = transport(&live.config.service.mail);
                    (live, mail)
                });
                match loaded {
                    Ok((_, Err(error))) => {
                        tracing::error!(%error, "mail could not be delivered with the new configuration; the old one stays \
                            in force");
                    }
                    Ok((live, Ok(mail))) => {
                        let kept = live.config.service.kept_until_restart(&started.config.service);
                        shell.live.store(Arc::new(live));
                        tracing::info!("configuration reloaded");
                        if let Err(error) = forget_other_relays(shell, &mail).await {
                            tracing::warn!(%error, "what failed of another relay is not forgotten yet");
                        }
                        if !kept.is_empty() {
                            let keys = kept.join(", ");
                            tracing::warn!(keys, "changed, and kept as they were when the service started: restart it");
                        }
                    }
                    Err(error) => {
                        for finding in error.findings() {
                            tracing::error!("{}", finding.trim_end());
                        }
                        tracing::error!("the new configuration is not valid; the old one stays in force");
                    }
                }
                notify(&[NotifyState::Ready]);
            }
            () = alive(watchdog) => notify(&[NotifyState::Watchdog]),
        }
    }
    notify(&[NotifyState::Stopping, NotifyState::Status("finishing what is on the wire")]);
    tracing::info!("stopping: nothing new is claimed, what is on the wire is finished");
    stop.cancel();
    // The loops end by themselves now; a second signal ends the process without waiting for them.
    tokio::spawn(async move {
        asked_to_end(&mut terminate, &mut interrupt).await;
        std::process::exit(INTERRUPTED);
    });
}

/// Cancelled by the first signal that asks this process to end, for work that must come to its own end: what is on the wire
/// is finished. The second one ends it at once.
///
/// # Errors
/// When signals cannot be awaited.
pub fn stop_on_signals() -> std::io::Result<CancellationToken> {
    let Signals { mut terminate, mut interrupt, .. } = Signals::await_all()?;
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        asked_to_end(&mut terminate, &mut interrupt).await;
        stopped.cancel();
        asked_to_end(&mut terminate, &mut interrupt).await;
        std::process::exit(INTERRUPTED);
    });
    Ok(stop)
}

async fn asked_to_end(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// The signals that mean something to the service.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn await_all() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}

/// Ends when systemd wants to hear from us; never without a watchdog.
async fn alive(every: Option<Duration>) {
    match every {
        Some(every) => tokio::time::sleep(every).await,
        None => std::future::pending().await,
    }
}

fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(at) => notify(&[NotifyState::Reloading, at]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

/// Without systemd there is nobody to tell, and that is no fault.
fn notify(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_bell_rings_at_the_start_and_so_often_whether_or_not_that_divides_an_hour() {
        for seconds in [1, 45, 61, 119, 3_600] {
            let bell = Arc::new(Notify::new());
            let mut scheduler = ring(&bell, Duration::from_secs(seconds)).await.unwrap();
            bell.notified().await;
            let next = scheduler.time_till_next_job().await.unwrap().unwrap();
            assert!(next.as_secs().abs_diff(seconds) <= 2, "{seconds}: {next:?}");
            scheduler.shutdown().await.unwrap();
        }
    }
}
