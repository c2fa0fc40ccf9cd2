//! One run: one creditor, one business date. Guards first; then accounts are streamed, decided page by page, and each
//! page is written in one transaction.

mod guards;
mod letters;
mod look;
mod memory;
mod turns;
mod writer;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Days, NaiveDate, Utc};
use sha2::{Digest as _, Sha256};
use sqlx::{Connection as _, PgConnection, Postgres, Transaction};
use tokio::sync::{Mutex, mpsc};

use crate::clock::Clock;
use crate::config::{Mail, Recipients};
use crate::decide::{brake, decide, expected_by, ladder_of, needs_approval};
use crate::ledger::{self, Counted, Lanes, LedgerAccount, MailboxAccounts, Reader, View};
use crate::model::{
    AccountId, Approvals, CaseChange, Creditor, Decision, Event, Freshness, ItemCode, ItemId, Ladder, Mode, NoticeId,
    Released, RunId, RunTotals, Snapshot, Verdict,
};
use crate::record::{self, Identity, Planned, RecordError, RecordedDecisions, ReleaseOrder, RunEnd, RunStart};

use super::scan::{Page, RunReport, ScanError, ScanRequest, Spent};
use super::{Live, Shell};
pub(in crate::daemon) use look::Around;
use memory::Remembered;
use turns::short_hash;
use writer::Writer;

/// Pages without letters that may wait for whoever takes them next: they are small, and not all take equally long.
const PAGES_AHEAD: usize = 4;

/// One creditor, one business date.
pub(super) struct Run<'a> {
    shell: &'a Shell,
    live: &'a Live,
    creditor: &'a Creditor,
    request: &'a ScanRequest,
    /// Today's clock, or one that stands still on the day of `--as-of`.
    clock: Clock,
    today: NaiveDate,
}

/// The view of the database that a run decides about.
struct Looked {
    read: Transaction<'static, Postgres>,
    /// Its ledger against what was seen before.
    known: record::Comparison,
}

/// One account on its way through a page.
struct Concluded {
    snapshot: Snapshot,
    decision: Decision,
    planned: Option<Planned>,
    /// The ladder of the case that opens, if one does.
    opens_on: Option<Arc<Ladder>>,
    may_be_written_to: bool,
}

impl Concluded {
    fn is_contact(&self) -> bool {
        matches!(self.decision.verdict, Verdict::Contact(_))
    }
}

impl<'a> Run<'a> {
    pub(super) fn new(shell: &'a Shell, live: &'a Live, creditor: &'a Creditor, request: &'a ScanRequest) -> Self {
        let zone = creditor.time_zone;
        let clock = request.as_of.map_or(shell.clock, |day| Clock::fixed_on(day, zone));
        Self { shell, live, creditor, request, clock, today: clock.today(zone) }
    }

    pub(super) async fn perform(&self, each: &mut (dyn FnMut(&Decision) + Send)) -> Result<RunReport, ScanError> {
        let id = &self.creditor.id;
        if self.request.dry_run {
            return self.perform_as_leader(each).await;
        }
        let leader = record::lead(&self.shell.pool, id).await?.ok_or_else(|| ScanError::LockHeld(id.clone()))?;
        let performed = self.perform_as_leader(each).await;
        leader.release().await?;
        performed
    }

    async fn perform_as_leader(&self, each: &mut (dyn FnMut(&Decision) + Send)) -> Result<RunReport, ScanError> {
        let began = Instant::now();
        let dry = self.request.dry_run;
        let mut write = self.shell.pool.acquire().await?;
        let freshness = self.freshness(&mut write).await?;
        let start = self.start(&mut write, freshness).await?;
        let looked = match self.guard(&mut write, freshness).await {
            Ok(()) => {
                if !dry {
                    self.clear_up(&mut write).await?;
                }
                self.look_at_ledger().await
            }
            Err(refused) => Err(refused),
        };
        let looked = match looked {
            Ok(looked) => looked,
            Err(ScanError::Refused { creditor, code, detail }) => {
                if !dry {
                    let mut transaction = write.begin().await?;
                    record::refuse(&mut transaction, &start, &self.shell.actor, code, &detail).await?;
                    transaction.commit().await?;
                }
                return Err(ScanError::Refused { creditor, code, detail });
            }
            Err(other) => return Err(other),
        };
        let known = looked.known.clone();
        if !dry {
            let mut transaction = write.begin().await?;
            record::start(&mut transaction, &start, &self.shell.actor).await?;
            transaction.commit().await?;
            if let Some(reason) = self.request.accept_ledger.as_deref().filter(|_| known.is_doubtful()) {
                let mut transaction = write.begin().await?;
                record::accept_ledger(&mut transaction, &start, &known, reason, &self.shell.actor).await?;
                transaction.commit().await?;
            }
        }
        let looked = if dry { Ok(looked) } else { self.written_down(&mut write, &start, looked).await };
        let guards = began.elapsed();
        // The pages are written over a connection of their own, while this one is still busy.
        let remembering = async {
            if !dry && self.request.as_of.is_none() {
                record::remember_known_items(&mut write, &start, &known).await?;
            }
            drop(write);
            Ok(())
        };
        let accounts = async {
            match looked {
                Ok(looked) => self.accounts(&start, freshness, looked, each).await,
                Err(error) => Err(error),
            }
        };
        let (performed, remembered) = tokio::join!(accounts, remembering);
        match performed.and_then(|report| remembered.map(|()| report)) {
            Ok(mut report) => {
                report.spent.guards = guards;
                if !dry {
                    let mut write = self.shell.pool.acquire().await?;
                    let mut transaction = write.begin().await?;
                    record::still_running(&mut transaction, start.run).await?;
                    let (released, events) = self.release(&mut transaction, &start, &report).await?;
                    let unrecorded: Vec<&str> = report.failures.iter().map(|(account, _)| account.as_str()).collect();
                    let end = RunEnd {
                        totals: &report.totals,
                        digest: &report.digest,
                        decisions: std::mem::take(&mut report.recorded).fact(),
                        unrecorded: &unrecorded,
                        released: &released,
                        events,
                        at: self.shell.clock.wall(),
                    };
                    record::finish(&mut transaction, &start, &self.shell.actor, end).await?;
                    transaction.commit().await?;
                    report.run = Some(start.run);
                    report.queued = released.queued;
                    report.tasks = released.tasks;
                    report.released = Some(released);
                }
                Ok(report)
            }
            Err(error) => {
                // What broke the run is told to the caller; a second failure must not hide it.
                if !dry && let Err(second) = self.failed(&start, &error.to_string()).await {
                    tracing::warn!(error = %second, run.id = %start.run.0, "that the run failed could not be recorded");
                }
                Err(error)
            }
        }
    }

    /// Ends what is over, so that it is decided anew: runs that died, and notices that waited too long for a person.
    async fn clear_up(&self, write: &mut PgConnection) -> Result<(), ScanError> {
        let id = &self.creditor.id;
        let mut transaction = write.begin().await?;
        record::recover(&mut transaction, id, &self.shell.actor).await?;
        transaction.commit().await?;
        let mut transaction = write.begin().await?;
        record::expire_waiting(&mut transaction, id, self.today, &self.shell.actor).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Takes the view of the database that is decided about, whatever an import does from now on, and compares the ledger
    /// in it with what was seen before.
    async fn look_at_ledger(&self) -> Result<Looked, ScanError> {
        let mut read = self.shell.pool.begin_with(ledger::LOOK).await?;
        let known = self.guard_ledger(&mut read).await?;
        Ok(Looked { read, known })
    }

    /// Writes down which items vanished, came back or moved, where any did, and looks again: from then on the database says
    /// so to everybody.
    async fn written_down(
        &self,
        write: &mut PgConnection,
        start: &RunStart,
        looked: Looked,
    ) -> Result<Looked, ScanError> {
        if !looked.known.has_a_say() {
            return Ok(looked);
        }
        let Looked { read, known } = looked;
        read.rollback().await?;
        let mut transaction = write.begin().await?;
        record::apply_known_items(&mut transaction, start, &known, &self.shell.actor).await?;
        transaction.commit().await?;
        self.look_at_ledger().await
    }

    async fn failed(&self, start: &RunStart, reason: &str) -> Result<(), RecordError> {
        let mut transaction = self.shell.pool.begin().await?;
        record::fail(&mut transaction, start, reason, &self.shell.actor).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Asks the brakes and lets out what they let through.
    async fn release(
        &self,
        write: &mut PgConnection,
        start: &RunStart,
        report: &RunReport,
    ) -> Result<(Released, Vec<Event>), ScanError> {
        let policy = &self.live.config.policy;
        let own = own_accounts(self.creditor);
        let figures = record::run_figures(write, start, &own).await?;
        let order = ReleaseOrder {
            mode: record::mode(write).await?.mode,
            release: brake(&figures, &policy.brake),
            not_allowed: &report.not_allowed,
            valid_days: policy.approval.valid_days,
            per_hour: policy.brake.notices_per_hour,
            own: &own,
            forecast: report.forecast,
        };
        Ok(record::release_run(write, start, &order, &self.shell.actor).await?)
    }

    /// A ledger seen through `--as-of` is as fresh as that day.
    async fn freshness(&self, connection: &mut PgConnection) -> Result<Option<Freshness>, ScanError> {
        let now = self.clock.now();
        if self.request.as_of.is_some() {
            return Ok(Some(Freshness { invoices_as_of: now, payments_as_of: now }));
        }
        Ok(ledger::freshness(connection, &self.creditor.id).await?)
    }

    async fn start(&self, connection: &mut PgConnection, freshness: Option<Freshness>) -> Result<RunStart, ScanError> {
        let texts = &self.live.config.texts;
        let hash = |text: &str| hex::encode(Sha256::digest(text.as_bytes()));
        let templates = self.live.templates.sources();
        if !self.request.dry_run {
            record::texts_stored(connection, "policy", &texts.policy).await?;
            record::texts_stored(connection, "templates", &templates).await?;
            record::texts_stored(connection, "creditors", &texts.creditors).await?;
            record::texts_stored(connection, "calendars", &texts.calendars).await?;
        }
        Ok(RunStart {
            run: RunId(self.shell.clock.new_id()),
            creditor: self.creditor.id.clone(),
            business_date: self.today,
            scheduled: self.request.scheduled,
            as_of: self.request.as_of.is_some(),
            asked_by: (!self.request.scheduled).then(|| self.shell.actor.os_user.clone()),
            partial: self.request.account.is_some(),
            freshness,
            policy_sha256: hash(&texts.policy),
            templates_sha256: hash(&templates),
            creditors_sha256: hash(&texts.creditors),
            calendars_sha256: hash(&texts.calendars),
            started_at: self.shell.clock.wall(),
        })
    }

    /// Streams the accounts, decides page by page, and writes each page in one transaction.
    async fn accounts(
        &self,
        start: &RunStart,
        freshness: Option<Freshness>,
        looked: Looked,
        each: &mut (dyn FnMut(&Decision) + Send),
    ) -> Result<RunReport, ScanError> {
        let mut report = RunReport {
            creditor: self.creditor.id.clone(),
            business_date: self.today,
            run: None,
            totals: RunTotals::default(),
            queued: 0,
            released: None,
            tasks: 0,
            forecast: 0,
            not_allowed: Vec::new(),
            failures: Vec::new(),
            unreadable: Vec::new(),
            digest: String::new(),
            recorded: RecordedDecisions::default(),
            spent: Spent::default(),
        };
        let Looked { mut read, known: compared } = looked;
        let seen = &Seen::of(&compared);
        let mut spent = Spent::default();
        let view = View {
            creditor: self.creditor.id.clone(),
            as_of: self.request.as_of,
            account: self.request.account.clone(),
            counted: self.counted(&mut read).await?,
        };
        // The next page is read while this one is decided and the one before it is written.
        let reading = ledger::same_view(&self.shell.pool, &mut read).await?;
        let reading_items = match self.request.account {
            None => Some(ledger::same_view(&self.shell.pool, &mut read).await?),
            Some(_) => None,
        };
        let (pages, read_pages) = mpsc::channel(PAGES_AHEAD);
        let reader = tokio::spawn(read_ledger(reading, reading_items, view, self.today, self.request.page, pages));
        let stops = self.stops(&mut read).await?;
        let calendars = &self.live.config.policy.calendars;
        let next_working_day = calendars.add_working_days(self.creditor.country, self.today, 1);
        let next_working_day = next_working_day.unwrap_or(self.today + Days::new(1));
        let entered = record::entered_mailboxes(&mut read).await?;
        let known = Known {
            freshness,
            seen,
            stops,
            shared: Cow::Owned(self.shared_mailboxes(&mut read, &entered).await?),
            entered,
            without: None,
        };
        let mut memory = self.memory(&mut read, &known).await?;
        if self.request.account.is_none() {
            memory.pass_over_all(&mut read).await?;
        }
        let read = Arc::new(Mutex::new(read));
        let (remembered, mut remembered_pages) = mpsc::channel(PAGES_AHEAD);
        let memory = tokio::spawn(memory.run(Arc::clone(&read), read_pages, remembered));
        let writer = Writer {
            actor: self.shell.actor.clone(),
            start: start.clone(),
            connection: if self.request.dry_run { None } else { Some(self.shell.pool.acquire().await?) },
        };
        let (decided, decided_pages) = mpsc::channel(1);
        let (written, mut written_pages) = mpsc::channel(1);
        let writer = tokio::spawn(writer.run(decided_pages, written));
        let deciding = async {
            let mut so_far = SoFar::new(known.stops.approvals.waiting);
            while let Some(page) = remembered_pages.recv().await {
                let concluded = self.conclude(&read, page, &known, &mut so_far, &mut spent).await?;
                if decided.send(concluded).await.is_err() {
                    break;
                }
            }
            // Or the writing would wait for more.
            drop(decided);
            Ok::<(), ScanError>(())
        };
        let mut digest = Sha256::new();
        let (mut writes, mut freezing) = (Duration::ZERO, Duration::ZERO);
        let counting = async {
            while let Some(page) = written_pages.recv().await {
                writes += page.took;
                freezing += page.freezing;
                report.not_allowed.extend(page.not_allowed);
                report.failures.extend(page.failures);
                page.recorded.iter().for_each(|line| report.recorded.add(line));
                for one in &page.digests {
                    digest.update(one);
                }
                for decision in &page.decisions {
                    report.totals.count(decision);
                    report.forecast += u64::from(expected_by(decision, next_working_day));
                    each(decision);
                }
            }
            Ok::<(), ScanError>(())
        };
        let concluded = tokio::try_join!(deciding, counting);
        drop(written_pages);
        writer.await.map_err(|_| sqlx::Error::WorkerCrashed)??;
        concluded?;
        spent.history = memory.await.map_err(|_| sqlx::Error::WorkerCrashed)??;
        (spent.ledger, report.unreadable) = reader.await.map_err(|_| sqlx::Error::WorkerCrashed)??;
        report.totals.count_unreadable(report.unreadable.len());
        report.spent = Spent { writes, freezing, ..spent };
        report.digest = hex::encode(digest.finalize());
        Ok(report)
    }

    /// Decides about a page of accounts, and writes the letters.
    async fn conclude(
        &self,
        read: &Mutex<Transaction<'static, Postgres>>,
        page: Remembered,
        known: &Known<'_>,
        so_far: &mut SoFar,
        spent: &mut Spent,
    ) -> Result<Vec<Concluded>, ScanError> {
        let mut lap = Instant::now();
        let policy = &self.live.config.policy;
        let (mut concluded, mut letters) = (Vec::new(), Duration::ZERO);
        for mut snapshot in page.snapshots(known) {
            so_far.tell(&mut snapshot);
            let mut one = self.decided(snapshot);
            if let Some(key) = known.shared_key(&one.decision)
                && !self.has_its_turn(&mut *read.lock().await, &key, &mut one, known, so_far).await?
            {
                let Concluded { mut snapshot, .. } = one;
                snapshot.mailboxes.entry(key).or_default().notice_today = true;
                one = self.decided(snapshot);
            }
            if !self.request.decide_only {
                let mut composing = Instant::now();
                self.letters(slice::from_mut(&mut one));
                one.may_be_written_to = one.planned.as_ref().is_none_or(|planned| self.may_write_to(planned));
                letters += end_of_lap(&mut composing);
            }
            // What cannot be written takes no mailbox and waits for nobody.
            if one.is_contact() {
                let Concluded { snapshot, decision, .. } = &one;
                so_far.taken.extend(known.shared_key(decision).as_deref().map(short_hash));
                let waits = snapshot.approvals.all || needs_approval(policy, snapshot, decision).is_some();
                so_far.waiting = so_far.waiting.saturating_add(u32::from(waits));
            }
            concluded.push(one);
        }
        spent.decide += end_of_lap(&mut lap).saturating_sub(letters);
        spent.letters += letters;
        if !self.request.dry_run {
            self.fingerprints(&mut *read.lock().await, &mut concluded).await?;
        }
        spent.fingerprints += end_of_lap(&mut lap);
        Ok(concluded)
    }

    fn decided(&self, snapshot: Snapshot) -> Concluded {
        let policy = &self.live.config.policy;
        let decision = decide(policy, &snapshot, self.today);
        let opens_on = (decision.case == CaseChange::Open).then(|| ladder_of(policy, &snapshot));
        Concluded { snapshot, decision, planned: None, opens_on, may_be_written_to: true }
    }

    /// Items that are not due yet matter one by one where a ladder has a stage before the due day.
    async fn counted(&self, read: &mut PgConnection) -> Result<Option<Counted>, ScanError> {
        let policy = &self.live.config.policy;
        let pinned = record::pinned_ladders(read, &self.creditor.id).await?;
        let mut stages = policy.ladders.values().chain(&pinned).flat_map(|ladder| &ladder.stages);
        if stages.any(|stage| stage.enabled && stage.is_before_due()) {
            return Ok(None);
        }
        Ok(Some(Counted { currencies: policy.minimums.currencies().collect() }))
    }

    /// What stops every account, or may.
    async fn stops(&self, read: &mut PgConnection) -> Result<Stops, ScanError> {
        let paused = record::pause_state(read).await?.reason;
        let all = record::mode(read).await?.mode == Mode::ApproveAll;
        let waiting = record::waiting_for_approval(read, &self.creditor.id).await?;
        Ok(Stops { paused, approvals: Approvals { waiting, all } })
    }

    fn recipients(&self) -> Option<&Recipients> {
        match &self.live.config.service.mail {
            Mail::Smtp(smtp) => Some(&smtp.recipients),
            Mail::File { .. } => None,
        }
    }

    fn may_write_to(&self, planned: &Planned) -> bool {
        let to = planned.redirect_to.as_ref().or(planned.contacting.recipient.as_ref());
        self.recipients().zip(to).is_none_or(|(recipients, to)| recipients.allow(to))
    }

    /// Gives every notice what the ledger says about its claim now.
    async fn fingerprints(&self, read: &mut PgConnection, concluded: &mut [Concluded]) -> Result<(), ScanError> {
        let claims: Vec<(AccountId, Vec<ItemId>)> = concluded
            .iter()
            .filter(|one| one.planned.is_some())
            .map(|one| (one.snapshot.account.id.clone(), demanded(&one.decision)))
            .collect();
        if claims.is_empty() {
            return Ok(());
        }
        let prints = ledger::fingerprints(read, &claims, self.request.as_of, self.today).await?;
        for (one, print) in concluded.iter_mut().filter_map(|one| one.planned.as_mut()).zip(prints) {
            one.fingerprint = print;
        }
        Ok(())
    }
}

/// What is wrong with a database that nobody adopted, and what to do.
pub(super) fn not_adopted(identity: &Identity) -> String {
    format!(
        "the database {} (system {}) was never adopted on this machine; is it a copy? Nothing is sent from it, and only \
         `scan --dry-run` works, until `dunningd adopt --reason …`",
        identity.database_name, identity.system_identifier
    )
}

fn end_of_lap(lap: &mut Instant) -> Duration {
    let now = Instant::now();
    now.duration_since(std::mem::replace(lap, now))
}

fn demanded(decision: &Decision) -> Vec<ItemId> {
    let demanded = decision.items.iter().filter(|item| item.code == ItemCode::Demanded);
    demanded.map(|item| item.item.clone()).collect()
}

/// Items that came back, and items that are gone, against what was seen open before.
struct Seen<'a> {
    restored: HashSet<&'a str>,
    vanished: HashSet<&'a str>,
    /// Some item stands with another account than then.
    moved: bool,
}

impl<'a> Seen<'a> {
    fn of(known: &'a record::Comparison) -> Self {
        let ids = |items: &'a [(String, String)]| items.iter().map(|(_, item)| item.as_str()).collect();
        Self { restored: ids(&known.restored), vanished: ids(&known.vanished), moved: known.moved }
    }
}

/// What is known beside the ledger.
struct Known<'a> {
    freshness: Option<Freshness>,
    seen: &'a Seen<'a>,
    stops: Stops,
    /// Mailboxes that several accounts use.
    shared: Cow<'a, HashMap<String, MailboxAccounts>>,
    /// Those that a person entered for accounts: any other may use them too.
    entered: HashMap<String, BTreeSet<String>>,
    /// A notice that is looked at as if it did not exist.
    without: Option<NoticeId>,
}

/// What this run has concluded so far.
struct SoFar {
    /// Notices that wait for approval, with those of this run.
    waiting: u32,
    /// The hashes of shared mailboxes that get a notice.
    taken: HashSet<u64>,
    /// By the hash of a mailbox: the account whose turn it is there today.
    turns: HashMap<u64, AccountId>,
}

impl SoFar {
    fn new(waiting: u32) -> Self {
        Self { waiting, taken: HashSet::new(), turns: HashMap::new() }
    }

    fn tell(&self, snapshot: &mut Snapshot) {
        for (key, usage) in &mut snapshot.mailboxes {
            usage.notice_today |= self.taken.contains(&short_hash(key));
        }
        snapshot.approvals.waiting = self.waiting;
    }
}

/// Reads the ledger page by page, as long as somebody takes the pages. Returns how long the reading alone took.
async fn read_ledger(
    mut accounts: Transaction<'static, Postgres>,
    mut items: Option<Transaction<'static, Postgres>>,
    view: View,
    today: NaiveDate,
    page: Page,
    pages: mpsc::Sender<Vec<LedgerAccount>>,
) -> Result<(Duration, Vec<String>), sqlx::Error> {
    let mut spent = Duration::ZERO;
    let mut lap = Instant::now();
    let mut lanes = Lanes { accounts: &mut accounts, items: items.as_deref_mut() };
    let mut reader = Reader::open(&mut lanes, &view, today).await?;
    loop {
        let accounts = reader.page(&mut lanes, page.0).await?;
        spent += end_of_lap(&mut lap);
        if accounts.is_empty() || pages.send(accounts).await.is_err() {
            return Ok((spent, reader.unreadable()));
        }
        lap = Instant::now();
    }
}

/// What stops every account, or may.
struct Stops {
    paused: Option<String>,
    approvals: Approvals,
}

/// The creditor's own bank account per currency, as letters name them.
pub(super) fn own_accounts(creditor: &Creditor) -> Vec<(String, String)> {
    let accounts = creditor.bank_accounts.iter();
    accounts.map(|(currency, of)| (currency.to_string(), of.account.number().to_owned())).collect()
}

/// A moment in the creditor's zone, to the minute.
fn local(at: DateTime<Utc>, creditor: &Creditor) -> String {
    at.with_timezone(&creditor.time_zone).format("%Y-%m-%d %H:%M %Z").to_string()
}
