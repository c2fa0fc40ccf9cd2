//! One installation, ready to work: a database with an empty ledger, the shipped policy and creditors, a clock that
//! stands still, and a scripted relay.
//!
//! ```ignore
//! let mut office = Office::new().await;
//! office.account("A1", "it", "conti@alfa.test").await;
//! office.invoice("I1", "A1", 6, "100.00 EUR").await;
//! office.scan().await;
//! assert_eq!(office.deliver().await.accepted, 1);
//! ```

#![expect(clippy::unwrap_used, reason = "an installation that cannot be set up fails its test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chrono::{Days, NaiveDate};
use chrono_tz::Europe::Rome;
use dunningd::clock::Clock;
use dunningd::config::{self, Part, Source};
use dunningd::daemon::{self, Dispatched, Live, RunReport, ScanError, ScanReport, ScanRequest, Shell};
use dunningd::demo;
use dunningd::model::{Actor, CreditorId, Decision};
use dunningd::record;
use dunningd::render::TemplateSet;
use sqlx::{AssertSqlSafe, PgPool};
use tokio_util::sync::CancellationToken;

use super::postgres::Database;
use super::smtp::{Options, SmtpServer};

/// The creditor that owns every account of the fixture.
pub(crate) const CREDITOR: &str = "tre_aquiloni";

/// The day on which everything begins: a Tuesday, far from holidays.
pub(crate) fn day() -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 3, 10).unwrap()
}

/// That many days later.
pub(crate) fn day_plus(days: u64) -> NaiveDate {
    day() + Days::new(days)
}

pub(crate) struct Office {
    pub(crate) smtp: SmtpServer,
    pub(crate) shell: Shell,
    /// The state directory of this machine.
    pub(crate) state: tempfile::TempDir,
    /// A superuser: what the operator's own systems, time and crashes do to the tables.
    pub(crate) hand: PgPool,
    /// Last, so that the pools are gone before the database is.
    pub(crate) database: Database,
}

/// What differs from the shipped configuration.
#[derive(Default)]
pub(crate) struct Setup {
    /// Replacements in the text of `policy.toml`.
    pub(crate) policy: Vec<(&'static str, &'static str)>,
    /// Letters become files in that folder.
    pub(crate) files: Option<PathBuf>,
    /// Variables as the environment would give them.
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) relay: Options,
    /// Text at the end of `dunningd.toml`.
    pub(crate) service: &'static str,
    /// Everything goes to that mailbox of our own.
    pub(crate) redirect_to: Option<&'static str>,
}

impl Setup {
    /// With that variable: `("MAIL__CONNECTIONS", "1")`.
    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self.variables.push((format!("DUNNINGD__{key}"), value.to_owned()));
        self
    }

    /// With that text of `policy.toml` replaced.
    pub(crate) fn policy(mut self, old: &'static str, new: &'static str) -> Self {
        self.policy.push((old, new));
        self
    }
}

impl Office {
    pub(crate) async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        Self::on(Database::new().await, setup).await
    }

    /// On that database.
    pub(crate) async fn on(database: Database, setup: Setup) -> Self {
        let smtp = SmtpServer::with(setup.relay.clone()).await;
        let state = tempfile::tempdir().unwrap();
        let live = live(&database, &smtp, &state, &setup);
        let pool = database.pool("dunningd_app").await;
        let hand = database.pool("dunning").await;
        let shell = Shell::new(pool, live, Clock::fixed_on(day(), Rome), actor());
        let office = Self { smtp, shell, state, hand, database };
        office.fresh(day()).await;
        office.adopted().await;
        office.sql("UPDATE dunning.control SET mode = 'live'").await;
        office
    }

    /// The database may send from this machine; the log does not hear of it.
    async fn adopted(&self) {
        self.sql(format!(
            "INSERT INTO dunning.adoption (system_identifier, database_name, host_id, reason, adopted_by)
             SELECT system_identifier::text, current_database(), '{}', 'fixture', 'fixture' FROM pg_control_system()",
            self.shell.host
        ))
        .await;
    }

    /// A second daemon on the same database and relay.
    pub(crate) async fn second_shell(&self) -> Shell {
        let pool = self.database.pool("dunningd_app").await;
        let live = live(&self.database, &self.smtp, &self.state, &Setup::default());
        Shell::new(pool, live, self.shell.clock, actor())
    }

    // --- the world outside --------------------------------------------------------------------------------------------

    /// Statements of the superuser.
    pub(crate) async fn sql(&self, statements: impl Into<String>) {
        sqlx::raw_sql(AssertSqlSafe(statements.into())).execute(&self.hand).await.unwrap();
    }

    /// One text per row.
    pub(crate) async fn lines(&self, query: impl Into<String>) -> Vec<String> {
        sqlx::query_scalar(AssertSqlSafe(query.into())).fetch_all(&self.hand).await.unwrap()
    }

    /// How many rows: `dunning.notice WHERE state = 'queued'`.
    pub(crate) async fn count(&self, rows: &str) -> i64 {
        let query = AssertSqlSafe(format!("SELECT count(*) FROM {rows}"));
        sqlx::query_scalar(query).fetch_one(&self.hand).await.unwrap()
    }

    /// Payments are imported up to six in the morning of that day.
    pub(crate) async fn fresh(&self, day: NaiveDate) {
        self.sql(format!(
            "INSERT INTO ledger.freshness VALUES ('erp', NULL, '{day} 06:00Z', '{day} 06:00Z')
             ON CONFLICT (source, creditor) DO UPDATE
             SET invoices_as_of = excluded.invoices_as_of, payments_as_of = excluded.payments_as_of"
        ))
        .await;
    }

    /// A company in Italy with one mailbox.
    pub(crate) async fn account(&self, id: &str, language: &str, email: &str) {
        self.sql(format!(
            "INSERT INTO ledger.account (account_id, creditor, name, party_kind, country, language, time_zone)
             VALUES ('{id}', '{CREDITOR}', 'Debitore {id}', 'company', 'IT', '{language}', 'Europe/Rome');
             INSERT INTO ledger.contact (contact_id, account_id, role, name, email, is_primary, no_email)
             VALUES ('{id}-1', '{id}', 'billing', 'Ada {id}', '{email}', true, false)"
        ))
        .await;
    }

    /// An invoice that is so many days late on the first day: `100.00 EUR`.
    pub(crate) async fn invoice(&self, id: &str, account: &str, days_late: i64, amount: &str) {
        let due = day() - chrono::Duration::days(days_late);
        let issued = due - chrono::Duration::days(30);
        let (amount, currency) = amount.split_once(' ').unwrap();
        self.sql(format!(
            "INSERT INTO ledger.item (item_id, account_id, kind, document_no, issue_date, due_date, currency, amount,
                                      open_amount)
             VALUES ('{id}', '{account}', 'invoice', 'FT {id}', '{issued}', '{due}', '{currency}', {amount}, {amount})"
        ))
        .await;
    }

    /// So many accounts `A01`… with one invoice each, six days late.
    pub(crate) async fn accounts(&self, count: u32) {
        for n in 1..=count {
            self.account(&format!("A{n:02}"), "it", &format!("conti@a{n:02}.test")).await;
            self.invoice(&format!("I{n:02}"), &format!("A{n:02}"), 6, "100.00 EUR").await;
        }
    }

    /// The letters so far named that account as the creditor's own; gives the one that they did name.
    pub(crate) async fn bank_account_was(&self, number: &str) -> String {
        let own = self.lines("SELECT bank_account FROM dunning.requisites WHERE account_id = ''").await.remove(0);
        self.sql(format!("UPDATE dunning.requisites SET bank_account = '{number}' WHERE bank_account = '{own}'")).await;
        own
    }

    /// It is ten in the morning of that day, and the ledger was imported.
    pub(crate) async fn go_to(&mut self, day: NaiveDate) {
        self.shell.clock = Clock::fixed_on(day, Rome);
        self.fresh(day).await;
    }

    // --- the daemon ---------------------------------------------------------------------------------------------------

    pub(crate) fn request() -> ScanRequest {
        ScanRequest { creditor: Some(CreditorId::parse(CREDITOR).unwrap()), ..ScanRequest::default() }
    }

    pub(crate) async fn scan_as(&self, request: &ScanRequest) -> Result<(ScanReport, Vec<Decision>), ScanError> {
        let mut decisions = Vec::new();
        let report = daemon::scan(&self.shell, request, &mut |decision| decisions.push(decision.clone())).await?;
        Ok((report, decisions))
    }

    /// The run of the creditor.
    pub(crate) async fn scan(&self) -> RunReport {
        self.scan_as(&Self::request()).await.unwrap().0.runs.remove(0)
    }

    /// What a scan says about each account, as `A01 contact` or `A01 too_soon`.
    pub(crate) async fn verdicts(&self) -> Vec<String> {
        let (_, decisions) = self.scan_as(&Self::request()).await.unwrap();
        decisions.iter().map(|one| format!("{} {}", one.account, one.code())).collect()
    }

    pub(crate) async fn deliver(&self) -> Dispatched {
        deliver(&self.shell).await
    }

    /// Each notice as `A01 friendly accepted`, in the order they were made.
    pub(crate) async fn notices(&self) -> Vec<String> {
        self.lines(
            "SELECT concat_ws(' ', account_id, stage, state, reason) FROM dunning.notice ORDER BY created_at, notice_id",
        )
        .await
    }

    /// Open tasks as `A01 resolve_notice`.
    pub(crate) async fn tasks(&self) -> Vec<String> {
        self.lines(
            "SELECT trim(concat_ws(' ', account_id, kind)) FROM dunning.task WHERE closed_at IS NULL ORDER BY task_id",
        )
        .await
    }

    /// The kinds of events, in order.
    pub(crate) async fn events(&self) -> Vec<String> {
        self.lines("SELECT kind FROM dunning.event ORDER BY seq").await
    }

    /// The facts of the events of that kind, in order, as the log has them.
    pub(crate) async fn facts(&self, kind: &str) -> Vec<String> {
        let facts = "SELECT (convert_from(bytes, 'UTF8')::json -> 'event' -> 'facts')::text FROM dunning.event";
        self.lines(format!("{facts} WHERE kind = '{kind}' ORDER BY seq")).await
    }

    /// The log holds together, and no notice contradicts it. Returns the number of events.
    pub(crate) async fn verified(&self) -> u64 {
        let mut connection = self.shell.pool.acquire().await.unwrap();
        let events = record::event_lines(&mut connection, 0, None, i64::MAX).await.unwrap();
        let lines = events.iter().map(|event| Ok(record::export_line(event)));
        let (verified, _) = record::verify_lines(lines, Vec::new()).unwrap();
        let (seq, head) = record::head(&mut connection).await.unwrap();
        assert_eq!((seq.to_string(), hex::encode(head)), (verified.events.to_string(), verified.head));
        assert_eq!(record::verify_against_notices(&mut connection).await.unwrap(), Vec::<String>::new());
        verified.events
    }
}

/// Puts the shipped templates into a folder of configuration.
pub(crate) fn link_templates(folder: &std::path::Path) {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/templates");
    std::os::unix::fs::symlink(shipped, folder.join("templates")).unwrap();
}

/// Delivers what is due.
pub(crate) async fn deliver(shell: &Shell) -> Dispatched {
    let transport = daemon::transport(&shell.live().config.service.mail).unwrap();
    daemon::dispatch(shell, &transport, &CancellationToken::new()).await.unwrap()
}

fn actor() -> Actor {
    Actor { os_user: "tester".into(), person: "Tessa".into() }
}

fn live(database: &Database, smtp: &SmtpServer, state: &tempfile::TempDir, setup: &Setup) -> Live {
    let (app, admin) = (database.url("dunningd_app"), database.url("dunningd_admin"));
    let mut sources = demo::configuration(&app, &admin, "127.0.0.1", smtp.address.port());
    for source in sources.iter_mut().filter(|source| source.part == Part::Policy) {
        for (old, new) in &setup.policy {
            assert!(source.text.contains(old), "policy.toml has no {old}");
            *source = Source::new(Part::Policy, source.name.clone(), source.text.replace(old, new));
        }
    }
    for source in sources.iter_mut().filter(|source| source.part == Part::Service) {
        source.text += setup.service;
        if let Some(mailbox) = setup.redirect_to {
            let debtors = "allow_domains = [\"test\"]";
            assert!(source.text.contains(debtors), "dunningd.toml names no {debtors}");
            source.text = source.text.replace(debtors, &format!("redirect_to = \"{mailbox}\""));
        }
    }
    if let Some(folder) = &setup.files {
        for source in sources.iter_mut().filter(|source| source.part == Part::Service) {
            let mail = source.text.find("[mail]").unwrap();
            source.text.truncate(mail);
            let folder = folder.display().to_string();
            source.text += "[mail]\ntransport = \"file\"\n";
            source.text += &["directory = \"", &folder, "\"\n"].concat();
        }
    }
    let mut variables: BTreeMap<String, String> = setup.variables.iter().cloned().collect();
    let state = state.path().display().to_string();
    variables.entry("DUNNINGD__STATE__DIRECTORY".to_owned()).or_insert(state);
    let loaded = config::load_from(&sources, Path::new("."), variables, None).unwrap_or_else(|e| panic!("{e}"));
    Live::new(loaded, TemplateSet::builtin().unwrap()).unwrap_or_else(|e| panic!("{:?}", e.templates))
}
