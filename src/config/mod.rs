//! Configuration: one typed struct per section; every finding with file, line and column.
//!
//! ```text
//!  texts, variables -> tree (merged, every value knows its origin) -> section readers -> Config, or every finding
//! ```

mod calendars;
mod creditors;
mod findings;
mod ladder;
mod mail;
mod policy;
mod section;
mod service;
mod source;
mod suggest;
mod tree;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use findings::{Finding, FindingCode, Findings, Place, Severity};
pub use mail::{Mail, Recipients, Security, Smtp};
pub use service::{
    Database, Digest, Dispatch, Environment, FreshnessRule, Log, LogFormat, Schedule, Secret, SecretError, Service,
    State,
};
pub use source::{Part, Source};

use crate::files;
use crate::model::Policy;
use section::{Notes, Section};
use service::Surroundings;
use tree::{Origin, Table};

/// A configuration that can be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// How the daemon runs.
    pub service: Service,
    /// Whom it writes to, when, and for whom. Its templates are empty: they are the caller's to fill.
    pub policy: Policy,
    /// The texts all of it was read from, for hashes.
    pub texts: Texts,
}

/// The texts of a configuration. Variables are not among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts {
    /// `dunningd.toml`, then every text of `conf.d` in its order: name and content.
    pub service: Vec<(String, String)>,
    /// The content of `policy.toml`.
    pub policy: String,
    /// The content of `creditors.toml`.
    pub creditors: String,
    /// Every calendar in the order of their names, each after a line with its name.
    pub calendars: String,
}

/// A configuration that can be run, and what is doubtful in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Findings that do not stop the daemon.
    pub warnings: Findings,
}

/// Reads the folder `dir`: `dunningd.toml`, `conf.d/*.toml` in the order of their names, `policy.toml`,
/// `creditors.toml`, `calendars/*.csv` (without that folder the shipped ones), then the variables `DUNNINGD__SECTION__KEY` of `env`. `credentials_dir` is what systemd names in
/// `CREDENTIALS_DIRECTORY`.
///
/// # Errors
/// Every finding of every file at once, when one of them stops the daemon.
pub fn load(
    dir: &Path,
    env: impl IntoIterator<Item = (String, String)>,
    credentials_dir: Option<&Path>,
) -> Result<Loaded, Findings> {
    load_with_policy(dir, None, env, credentials_dir)
}

/// Like [`load`], with that file instead of the folder's `policy.toml`.
///
/// # Errors
/// As [`load`].
pub fn load_with_policy(
    dir: &Path,
    policy: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
    credentials_dir: Option<&Path>,
) -> Result<Loaded, Findings> {
    let (sources, unread) = read_files(dir, policy);
    assemble(sources, unread, dir, env, credentials_dir)
}

/// Like [`load`], from texts already in memory. Service texts are merged in their order; relative paths begin at
/// `dir`. Without a calendar among the texts the shipped ones are used.
///
/// # Errors
/// As [`load`].
pub fn load_from(
    sources: &[Source],
    dir: &Path,
    env: impl IntoIterator<Item = (String, String)>,
    credentials_dir: Option<&Path>,
) -> Result<Loaded, Findings> {
    assemble(sources.to_vec(), Vec::new(), dir, env, credentials_dir)
}

/// A file that should have been a text of that part.
struct Unread {
    part: Part,
    finding: Finding,
}

fn read_files(dir: &Path, policy: Option<&Path>) -> (Vec<Source>, Vec<Unread>) {
    let mut unread = Vec::new();
    let mut files = vec![(Part::Service, dir.join("dunningd.toml"))];
    let drop_ins = dir.join("conf.d");
    match files_in(&drop_ins, "toml") {
        Ok(found) => files.extend(found.into_iter().map(|file| (Part::Service, file))),
        Err(error) => unread.push(Unread { part: Part::Service, finding: unreadable(&drop_ins, &error) }),
    }
    files.push((Part::Policy, policy.map_or_else(|| dir.join("policy.toml"), Path::to_path_buf)));
    files.push((Part::Creditors, dir.join("creditors.toml")));
    let calendars = dir.join("calendars");
    match files_in(&calendars, "csv") {
        Ok(found) => files.extend(found.into_iter().map(|file| (Part::Calendar, file))),
        Err(error) => unread.push(Unread { part: Part::Calendar, finding: unreadable(&calendars, &error) }),
    }

    let mut sources = Vec::new();
    for (part, file) in files {
        match files::text(&file) {
            Ok(text) => sources.push(Source::new(part, file.display().to_string(), text)),
            Err(error) => unread.push(Unread { part, finding: unreadable(&file, &error) }),
        }
    }
    (sources, unread)
}

/// The files of a folder with that ending in the order of their names; none when there is no such folder.
fn files_in(folder: &Path, ending: &str) -> std::io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == ending) {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn unreadable(file: &Path, error: &std::io::Error) -> Finding {
    let place = Place::File { file: file.display().to_string() };
    if error.kind() == std::io::ErrorKind::NotFound {
        let message = "this file is missing: `dunningd init` writes a commented one";
        return Finding::new(FindingCode::FileMissing, place, message);
    }
    let message = match error.kind() {
        std::io::ErrorKind::InvalidData => "this file is not UTF-8: save it as UTF-8".to_owned(),
        _ => format!("this file cannot be read: {error}"),
    };
    Finding::new(FindingCode::FileUnreadable, place, message)
}

/// The texts of one part, merged in their order.
struct Document {
    table: Table,
    /// Whether every text of the part could be read. Otherwise nothing in it can be called missing.
    complete: bool,
}

impl Document {
    fn parse(part: Part, sources: &[Source], found: &mut Vec<(Origin, Finding)>) -> Self {
        let mut table: Option<Table> = None;
        let mut complete = true;
        for (index, source) in sources.iter().enumerate().filter(|(_, source)| source.part == part) {
            let (read, findings) = tree::parse(index, source);
            complete &= read.is_some();
            found.extend(findings);
            match (read, &mut table) {
                (Some(later), Some(table)) => table.merge(later),
                (Some(first), None) => table = Some(first),
                (None, _) => {}
            }
        }
        let complete = complete && table.is_some();
        Self { table: table.unwrap_or_else(|| Table::empty(Origin::Whole { source: sources.len() })), complete }
    }
}

fn assemble(
    mut sources: Vec<Source>,
    mut unread: Vec<Unread>,
    dir: &Path,
    env: impl IntoIterator<Item = (String, String)>,
    credentials_dir: Option<&Path>,
) -> Result<Loaded, Findings> {
    for (part, name) in
        [(Part::Service, "dunningd.toml"), (Part::Policy, "policy.toml"), (Part::Creditors, "creditors.toml")]
    {
        if !sources.iter().any(|source| source.part == part) && !unread.iter().any(|unread| unread.part == part) {
            let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
            unread.push(Unread { part, finding: unreadable(&dir.join(name), &missing) });
        }
    }
    if !sources.iter().any(|source| source.part == Part::Calendar) {
        sources.extend(Source::shipped_calendars());
    }
    let sources = sources.as_slice();
    let mut found: Vec<(Origin, Finding)> = Vec::new();

    let mut document = Document::parse(Part::Service, sources, &mut found);
    document.complete &= !unread.iter().any(|unread| unread.part == Part::Service);
    let env: Vec<(String, String)> = env.into_iter().collect();
    // systemd separates several by colons; the first one is ours.
    let state_dir = env.iter().find(|(key, _)| key == "STATE_DIRECTORY");
    let state_dir = state_dir.and_then(|(_, value)| value.split(':').next()).map(PathBuf::from);
    for table in tree::variables(env) {
        document.table.merge(table);
    }
    let notes = Notes::new(sources, !document.complete);
    let around = Surroundings { dir, credentials_dir, state_dir: state_dir.as_deref() };
    let service = service::read(Section::root(&notes, &document.table), around);
    found.extend(notes.into_findings());

    let calendars = calendars::read(sources, &mut found);
    let document = Document::parse(Part::Policy, sources, &mut found);
    let mut policy = None;
    if document.complete {
        let notes = Notes::new(sources, false);
        policy = Some(policy::read(Section::root(&notes, &document.table), &calendars));
        found.extend(notes.into_findings());
    }

    let document = Document::parse(Part::Creditors, sources, &mut found);
    let mut creditors = BTreeMap::new();
    if document.complete {
        let notes = Notes::new(sources, false);
        let environment = service.as_ref().map(|service| service.environment);
        creditors = creditors::read(Section::root(&notes, &document.table), environment, policy.as_ref());
        found.extend(notes.into_findings());
    }

    found.sort_by(|(a, _), (b, _)| a.order().cmp(&b.order()));
    let missing = unread.into_iter().map(|unread| unread.finding);
    let findings = Findings(missing.chain(found.into_iter().map(|(_, finding)| finding)).collect());
    match (service, policy) {
        (Some(service), Some(policy)) if !findings.refuses() => {
            let policy = Policy { creditors, ..policy };
            let config = Config { service, policy, texts: Texts::of(sources) };
            Ok(Loaded { config, warnings: findings })
        }
        _ => Err(findings),
    }
}

impl Texts {
    fn of(sources: &[Source]) -> Self {
        let first = |part| sources.iter().find(|source| source.part == part).map(|source| source.text.clone());
        let service = sources.iter().filter(|source| source.part == Part::Service);
        Self {
            service: service.map(|source| (source.name.clone(), source.text.clone())).collect(),
            policy: first(Part::Policy).unwrap_or_default(),
            creditors: first(Part::Creditors).unwrap_or_default(),
            calendars: sources
                .iter()
                .filter(|source| source.part == Part::Calendar)
                .map(|source| format!("{}\n{}\n", source.file_name(), source.text))
                .collect::<Vec<_>>()
                .concat(),
        }
    }
}
