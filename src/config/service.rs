//! How the daemon runs: `dunningd.toml`, `conf.d/*.toml` and the environment, one struct per section.

use std::fs::Metadata;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::NaiveTime;
use secrecy::SecretString;
use tracing_subscriber::EnvFilter;

use super::findings::{Finding, FindingCode, Place};
use super::mail::{self, Mail};
use super::section::{Field, Notes, Section};
use super::tree::Origin;
use crate::files;
use crate::model::{EmailAddress, ParseError, Timeouts};

/// Whether letters may reach debtors at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Environment {
    /// The one installation that writes to debtors: no `scan --as-of` may send.
    Production,
    /// Everything else: trials, copies, development.
    Test,
}

/// The service configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// `environment`: `"production"` or `"test"`. No default: a copied file must not begin to write to debtors.
    pub environment: Environment,
    /// `[database]`
    pub database: Database,
    /// `[mail]`
    pub mail: Mail,
    /// `[dispatch]`
    pub dispatch: Dispatch,
    /// `[state]`
    pub state: State,
    /// `[schedule]`
    pub schedule: Schedule,
    /// `[freshness]`
    pub freshness: FreshnessRule,
    /// `[log]`
    pub log: Log,
    /// `[digest]`
    pub digest: Digest,
}

impl Service {
    /// The keys that a service keeps as it found them when it started, and that say something else here.
    #[must_use]
    pub fn kept_until_restart(&self, started: &Self) -> Vec<&'static str> {
        let (database, old) = (&self.database, &started.database);
        let changed = [
            ("database.url", database.url != old.url),
            ("the place of the database's password", database.password != old.password),
            ("database.max_connections", database.max_connections != old.max_connections),
            ("schedule.poll_seconds", self.schedule.poll != started.schedule.poll),
            ("log.format", self.log.format != started.log.format),
            ("log.filter", self.log.filter != started.log.filter),
        ];
        changed.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
    }
}

/// `[database]`: the one Postgres database that holds the ledger and our own tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// `url`: a Postgres URL of the role that serves `run` and `scan`, without a password. No default.
    pub url: String,
    /// `admin_url`: a Postgres URL of the role for `migrate` and `import`, without a password. Default: none, and
    /// those commands are refused.
    pub admin_url: Option<String>,
    /// `password_file` or `password_credential`: the password of `url`. Default: none (peer authentication).
    pub password: Option<Secret>,
    /// `admin_password_file` or `admin_password_credential`: the password of `admin_url`. Default: none.
    pub admin_password: Option<Secret>,
    /// `max_connections`: the most connections of this daemon, 7 to 200. Default 12.
    pub max_connections: u32,
}

/// `[dispatch]`: claiming and retrying.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispatch {
    /// `lease_seconds`: how long a worker may hold a notice before DATA. Longer than the timeouts of MAIL FROM and
    /// RCPT TO and 20 s for the rest, else another worker could claim it meanwhile. Default 150 s.
    pub lease: Duration,
    /// `retry_first_minutes`: the wait after the first temporary refusal; it doubles each time. Default 5 min.
    pub retry_first: Duration,
    /// `retry_last_minutes`: the longest wait between two tries. Default 67 min.
    pub retry_last: Duration,
    /// `max_tries`: tries that got a reply about the recipient or the content, 1 to 100. Default 12.
    pub max_tries: u32,
}

/// `[state]`: what the daemon keeps on this machine besides the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// `directory`: where the journal of the relay's replies lies. Default: what systemd names in `STATE_DIRECTORY`,
    /// else `/var/lib/dunningd`.
    pub directory: PathBuf,
    /// Where that is said.
    at: Place,
}

/// `[schedule]`: the hours of a day in which runs begin, in each creditor's own zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// `earliest`: a run of the day begins at this time at the earliest. Default 06:00.
    pub earliest: NaiveTime,
    /// `latest`: a run that could not begin before this time is left to the next day. Default 18:00.
    pub latest: NaiveTime,
    /// `poll_seconds`: how often the daemon asks whether a run is due, 1 to 3600. Default 60 s.
    pub poll: Duration,
}

/// `[freshness]`: how recent the payments in the ledger must be for a run to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreshnessRule {
    /// `mode = "previous_working_day"` (default): the creditor's previous working day must be covered.
    PreviousWorkingDay,
    /// `mode = "max_age"`: no older than this.
    MaxAge {
        /// `max_age_hours`: 1 to 720. No default.
        hours: u32,
    },
}

/// `[log]`: what the daemon tells the operator, never names of debtors; and the key that signs the contact log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// `format`. Default `"auto"`.
    pub format: LogFormat,
    /// `filter`: levels by module as `tracing` reads them, such as `info,dunningd=debug`. Default `info`.
    pub filter: String,
    /// `signing_key_file` or `signing_key_credential`: the key that signs checkpoints of the contact log, as `dunningd
    /// log keygen` writes it. Default: none, and no checkpoints are made.
    pub signing_key: Option<Secret>,
    /// `checkpoint_to`: the auditors who get the newest checkpoint once a day. Default: none.
    pub checkpoint_to: Vec<EmailAddress>,
}

/// `[digest]`: who is told about each run, and alarmed when none completes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Digest {
    /// `to`: addresses. Default: none, and nobody is told.
    pub to: Vec<EmailAddress>,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogFormat {
    /// `text` on a terminal, `journald` under systemd, else `json`.
    Auto,
    /// Lines for a person.
    Text,
    /// One JSON object a line.
    Json,
    /// The journal's own protocol.
    Journald,
}

/// Where a secret is kept. Its text is read when it is needed and never part of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// `…_file`: a file whose first line is the secret.
    File(PathBuf),
    /// `…_credential`: a systemd credential (`LoadCredential=`) of that name, and its file when systemd gave one.
    Credential {
        /// The name given to `LoadCredential=`.
        name: String,
        /// None when the process was not given a credentials directory.
        file: Option<PathBuf>,
    },
}

/// Why a secret could not be read. Names the place, never the content.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file of the secret cannot be read.
    #[error("the secret in {} cannot be read: {reason}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the operating system said.
        #[source]
        reason: std::io::Error,
    },
    /// Others may look into the file of the secret, or change it.
    #[error(
        "the secret in {} is open to others: its mode is {mode:04o}. Take that from them: `chmod 600`; a file of root may \
         have 640", file.display()
    )]
    Exposed {
        /// The file.
        file: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file of the secret holds nothing.
    #[error("the secret in {} is empty", .0.display())]
    Empty(PathBuf),
    /// A credential was named and systemd gave no directory of credentials.
    #[error("the credential `{0}` is only there under systemd: add `LoadCredential={0}:…` to the unit, or name a file")]
    NoCredentials(String),
}

impl Secret {
    /// The secret itself: the file's first line, without its line end.
    ///
    /// # Errors
    /// When the file cannot be read, is open to others, or its first line is empty, or there is no credentials directory.
    pub fn read(&self) -> Result<SecretString, SecretError> {
        let file = match self {
            Self::File(file) | Self::Credential { file: Some(file), .. } => file,
            Self::Credential { name, file: None } => return Err(SecretError::NoCredentials(name.clone())),
        };
        let unreadable = |reason| SecretError::Unreadable { file: file.clone(), reason };
        let mut opened = files::open(file).map_err(unreadable)?;
        let metadata = opened.metadata().map_err(unreadable)?;
        if is_exposed(&metadata) {
            return Err(SecretError::Exposed { file: file.clone(), mode: metadata.mode() & 0o7777 });
        }
        let mut text = String::new();
        opened.read_to_string(&mut text).map_err(unreadable)?;
        match text.lines().next() {
            Some(line) if !line.is_empty() => Ok(SecretString::from(line.to_owned())),
            _ => Err(SecretError::Empty(file.clone())),
        }
    }
}

/// Whether others than its owner may do anything with the file of a secret. One of root may be read by its group: so root
/// shares it with a service, and so systemd shows a credential. The rule is that of PostgreSQL for private keys.
fn is_exposed(file: &Metadata) -> bool {
    let forbidden = if file.uid() == 0 { 0o037 } else { 0o077 };
    file.mode() & forbidden != 0
}

/// What the reader knows besides the text: where relative paths begin and where credentials lie.
#[derive(Clone, Copy)]
pub(super) struct Surroundings<'a> {
    pub(super) dir: &'a Path,
    pub(super) credentials_dir: Option<&'a Path>,
    /// What systemd names in `STATE_DIRECTORY`.
    pub(super) state_dir: Option<&'a Path>,
}

impl Surroundings<'_> {
    /// A path, relative ones from the folder of the configuration.
    pub(super) fn path(self, section: &mut Section<'_>, key: &'static str) -> Option<PathBuf> {
        section.text(key).map(|text| self.dir.join(text))
    }

    /// `<file_key>` or `<credential_key>`, never both.
    pub(super) fn secret(
        self,
        section: &mut Section<'_>,
        file_key: &'static str,
        credential_key: &'static str,
    ) -> Option<Secret> {
        let file = self.path(section, file_key);
        let credential = section.get(credential_key);
        if let (Some(_), Some(field)) = (&file, &credential) {
            let message = format!("`{}`: the secret has two places; keep this key or `{file_key}`", field.path);
            field.note(FindingCode::Conflict, message);
        }
        let name = credential.and_then(|field| {
            field.text().filter(|name| {
                let plain = !name.contains('/') && !name.starts_with('.');
                if !plain {
                    field.note(FindingCode::InvalidValue, format!("`{}` is a name, not a path", field.path));
                }
                plain
            })
        });
        let credential = name.map(|name| Secret::Credential {
            name: name.to_owned(),
            file: self.credentials_dir.map(|dir| dir.join(name)),
        });
        file.map(Secret::File).or(credential)
    }
}

/// Reads the merged service document; none when something without a default could not be read.
pub(super) fn read(mut root: Section<'_>, around: Surroundings<'_>) -> Option<Service> {
    let words = [("production", Environment::Production), ("test", Environment::Test)];
    let environment = root.need("environment", "\"test\"").and_then(|field| field.choice(&words));
    let database = root.need("database", "{ url = \"postgres:///dunningd\" }").and_then(|field| field.section());
    let database = database.and_then(|section| read_database(section, around));
    let mail = root.need("mail", "{ transport = \"smtp\", host = \"…\" }").and_then(|field| field.section());
    let mail = mail.and_then(|section| mail::read(section, around, environment));
    let holding = mail.as_ref().and_then(|read| read.holding.as_ref());
    let dispatch = if let Some(section) = root.section("dispatch") {
        Dispatch::read(section, holding)
    } else {
        check_lease(root.notes, Dispatch::default().lease, None, holding);
        Dispatch::default()
    };
    let state = State::read(&mut root, around);
    let schedule = root.section("schedule").map_or_else(Schedule::default, Schedule::read);
    let freshness = root.section("freshness").map_or(Some(FreshnessRule::PreviousWorkingDay), FreshnessRule::read);
    let log = root.section("log").map_or_else(Log::default, |section| Log::read(section, around));
    let digest = root.section("digest").map_or_else(Digest::default, Digest::read);
    root.close();
    Some(Service {
        environment: environment?,
        database: database?,
        mail: mail?.mail,
        dispatch,
        state,
        schedule,
        freshness: freshness?,
        log,
        digest,
    })
}

fn read_database(mut section: Section<'_>, around: Surroundings<'_>) -> Option<Database> {
    let url = section.need("url", "\"postgres:///dunningd\"");
    let url = url.and_then(|field| database_url(&field, "password_file"));
    let admin_url = section.get("admin_url").and_then(|field| database_url(&field, "admin_password_file"));
    let password = around.secret(&mut section, "password_file", "password_credential");
    let admin_password = around.secret(&mut section, "admin_password_file", "admin_password_credential");
    let max_connections = section.number("max_connections", 7..=200, 12);
    section.close();
    Some(Database { url: url?, admin_url, password, admin_password, max_connections })
}

/// A Postgres URL without a secret. The finding never repeats the value.
fn database_url(field: &Field<'_>, password_key: &str) -> Option<String> {
    let url = field.text()?;
    let Some(rest) = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://")) else {
        let message = format!("`{}` must begin with postgres://, such as postgres:///dunningd", field.path);
        field.note(FindingCode::InvalidValue, message);
        return None;
    };
    // A password may itself hold a slash, so the last `@` decides, not the first.
    let user = rest.rfind('@').map_or("", |at| &rest[..at]);
    if user.contains(':') || rest.to_lowercase().contains("password=") {
        let message = format!(
            "`{}` holds a password: put it into a file that only the daemon can read, and name the file in \
             `database.{password_key}`",
            field.path
        );
        field.note(FindingCode::SecretInline, message);
        return None;
    }
    Some(url.to_owned())
}

/// What a lease must outlast.
pub(super) struct Holding {
    pub(super) timeouts: Timeouts,
    /// Where the timeout of MAIL FROM or RCPT TO is set, if it is.
    pub(super) at: Option<Origin>,
}

/// So long a notice may lie that was claimed ahead, before a session takes it.
const AHEAD: Duration = Duration::from_secs(5);
/// The time kept for the last check between RCPT TO and DATA.
const CHECK: Duration = Duration::from_secs(5);

impl Default for Dispatch {
    fn default() -> Self {
        Self { lease: Duration::from_secs(150), retry_first: minutes(5), retry_last: minutes(67), max_tries: 12 }
    }
}

impl Dispatch {
    fn read(mut section: Section<'_>, holding: Option<&Holding>) -> Self {
        let notes = section.notes;
        let usual = Self::default();
        let lease_at = section.get("lease_seconds");
        let lease = lease_at.as_ref().and_then(|field| field.number::<u32>(10..=3600)).map_or(usual.lease, seconds);
        let retry_first = section.number("retry_first_minutes", 1..=1440, 5);
        let last_at = section.get("retry_last_minutes");
        let retry_last = last_at.as_ref().and_then(|field| field.number(1..=1440)).unwrap_or(67);
        let max_tries = section.number("max_tries", 1..=100, usual.max_tries);
        if let Some(field) = last_at.filter(|_| retry_last < retry_first) {
            let message = format!("`{}` must not be shorter than the first wait ({retry_first} minutes)", field.path);
            field.note(FindingCode::OutOfRange, message);
        }
        section.close();
        check_lease(notes, lease, lease_at.map(|field| field.origin().clone()), holding);
        Self { lease, retry_first: minutes(retry_first), retry_last: minutes(retry_last), max_tries }
    }
}

/// Another worker may claim a notice once its lease ends; so the lease must outlast everything its holder may wait for.
fn check_lease(notes: &Notes<'_>, lease: Duration, at: Option<Origin>, holding: Option<&Holding>) {
    let Some(Holding { timeouts, at: set_at }) = holding else { return };
    let least = AHEAD + timeouts.envelope() + CHECK;
    let Some(origin) = at.or_else(|| set_at.clone()).filter(|_| lease <= least) else { return };
    let message = format!(
        "the lease of {} s must be longer than the timeouts of MAIL FROM and RCPT TO together ({} s), {} s claimed \
         ahead, {} s for a reset and {} s for the last check: set `dispatch.lease_seconds` to more than {}, or shorten \
         those timeouts",
        lease.as_secs(),
        (timeouts.mail_from + timeouts.rcpt_to).as_secs(),
        AHEAD.as_secs(),
        timeouts.reset.as_secs(),
        CHECK.as_secs(),
        least.as_secs()
    );
    notes.add(FindingCode::LeaseTooShort, &origin, message);
}

impl State {
    fn read(root: &mut Section<'_>, around: Surroundings<'_>) -> Self {
        let sources = root.notes.sources;
        let mut at = root.origin().place(sources);
        let named = root.section("state").and_then(|mut section| {
            if let Some(field) = section.get("directory") {
                at = field.origin().place(sources);
            }
            let directory = around.path(&mut section, "directory");
            section.close();
            directory
        });
        let given = around.state_dir.unwrap_or(Path::new("/var/lib/dunningd"));
        Self { directory: named.unwrap_or_else(|| given.to_owned()), at }
    }

    /// What is wrong with going on here after `running`: the journal is kept where it was opened, and everybody else
    /// would look for it here.
    #[must_use]
    pub fn moved_from(&self, running: &Self) -> Option<Finding> {
        let message = format!(
            "the service keeps its journal of replies in {}: a reload cannot move it; restart the service, or leave \
             `state.directory` as it was",
            running.directory.display()
        );
        let moved = self.directory != running.directory;
        moved.then(|| Finding::new(FindingCode::NeedsRestart, self.at.clone(), message))
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self { earliest: hour(6), latest: hour(18), poll: minutes(1) }
    }
}

impl Schedule {
    fn read(mut section: Section<'_>) -> Self {
        let usual = Self::default();
        let earliest = section.get("earliest").and_then(|field| field.parsed(time)).unwrap_or(usual.earliest);
        let latest_at = section.get("latest");
        let latest = latest_at.as_ref().and_then(|field| field.parsed(time)).unwrap_or(usual.latest);
        if latest <= earliest {
            let message = format!("the latest time must come after the earliest ({})", earliest.format("%H:%M"));
            let at = latest_at.map_or(section.origin(), |field| field.origin());
            section.notes.add(FindingCode::OutOfRange, at, message);
        }
        let poll = seconds(section.number("poll_seconds", 1..=3600, 60));
        section.close();
        Self { earliest, latest, poll }
    }
}

impl FreshnessRule {
    fn read(mut section: Section<'_>) -> Option<Self> {
        let mode = section.choice("mode", &[("previous_working_day", false), ("max_age", true)], false);
        if mode {
            let hours = section.need("max_age_hours", "30").and_then(|field| field.number(1..=720));
            section.close();
            return Some(Self::MaxAge { hours: hours? });
        }
        section.close_with(&["max_age_hours"], "it belongs to `mode = \"max_age\"`");
        Some(Self::PreviousWorkingDay)
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Auto, filter: "info".to_owned(), signing_key: None, checkpoint_to: Vec::new() }
    }
}

impl Log {
    fn read(mut section: Section<'_>, around: Surroundings<'_>) -> Self {
        let usual = Self::default();
        let words = [
            ("auto", LogFormat::Auto),
            ("text", LogFormat::Text),
            ("json", LogFormat::Json),
            ("journald", LogFormat::Journald),
        ];
        let format = section.choice("format", &words, usual.format);
        let filter = section.get("filter").and_then(|field| field.parsed(filter)).unwrap_or(usual.filter);
        let signing_key = around.secret(&mut section, "signing_key_file", "signing_key_credential");
        let auditors = section.get("checkpoint_to");
        if let Some(field) = auditors.as_ref().filter(|_| signing_key.is_none()) {
            let message = format!(
                "`{}`: without a key no checkpoint is made: make one with `dunningd log keygen` and name it in \
                 `signing_key_file` or `signing_key_credential`",
                field.path
            );
            field.note(FindingCode::Conflict, message);
        }
        let checkpoint_to = addresses(auditors);
        section.close();
        Self { format, filter, signing_key, checkpoint_to }
    }
}

impl Digest {
    fn read(mut section: Section<'_>) -> Self {
        let to = addresses(section.get("to"));
        section.close();
        Self { to }
    }
}

/// A list of addresses, each of which stands in it once.
fn addresses(list: Option<Field<'_>>) -> Vec<EmailAddress> {
    let mut addresses: Vec<EmailAddress> = Vec::new();
    for field in &list.and_then(|field| field.list()).unwrap_or_default() {
        let Some(address) = field.parsed(EmailAddress::parse) else { continue };
        if addresses.contains(&address) {
            field.note(FindingCode::Conflict, format!("`{address}` stands in the list twice: remove one"));
        } else {
            addresses.push(address);
        }
    }
    addresses
}

fn filter(text: &str) -> Result<String, ParseError> {
    let wanted = "a list of levels by module such as \"info,dunningd=debug\"";
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|_| ParseError::new(text, wanted))
}

pub(super) fn time(text: &str) -> Result<NaiveTime, ParseError> {
    NaiveTime::parse_from_str(text, "%H:%M").map_err(|_| ParseError::new(text, "a time of day such as \"06:00\""))
}

pub(super) fn hour(hour: u32) -> NaiveTime {
    NaiveTime::from_hms_opt(hour, 0, 0).unwrap_or_default()
}

pub(super) fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(u64::from(seconds))
}

fn minutes(minutes: u32) -> Duration {
    seconds(minutes * 60)
}
