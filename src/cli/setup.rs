//! Setting up: init, migrate, check, completions, manual page.

use std::fs;
use std::path::Path;

use clap::CommandFactory as _;
use sqlx::Connection as _;

use crate::config::SecretError;
use crate::daemon::{self, AnchorError, TransportError};
use crate::model::counted;
use crate::render;
use crate::{config, ledger, record};

use super::args::Cli;
use super::connect;
use super::failure::{Exit, Failure};
use super::output::{say, say_part};

pub(super) fn init(directory: &Path) -> Result<Exit, Failure> {
    let io = |error: std::io::Error| Failure::unexpected(format!("{}: {error}", directory.display()));
    if directory.exists() && fs::read_dir(directory).map_err(io)?.next().is_some() {
        return Err(Failure::new(Exit::REFUSED, format!("{} is not empty; nothing was written", directory.display())));
    }
    let files = config::Source::shipped()
        .into_iter()
        .map(|source| (source.name, source.text))
        .chain(ledger::SHIPPED_PROFILES.iter().map(|(name, text)| (format!("profiles/{name}"), (*text).to_owned())))
        .chain(render::FILES.iter().map(|(name, text)| (format!("templates/{name}"), (*text).to_owned())));
    let mut count = 0;
    for (name, text) in files {
        let path = directory.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(io)?;
        }
        fs::write(&path, text).map_err(io)?;
        count += 1;
    }
    say!("{count} files written into {}.", directory.display());
    say!(
        "Edit dunningd.toml, creditors.toml and policy.toml there, then: dunningd --config {} check",
        directory.display()
    );
    Ok(Exit::DONE)
}

pub(super) async fn migrate(cli: &Cli) -> Result<Exit, Failure> {
    let live = connect::load(cli)?;
    let mut connection = connect::admin(&live).await?;
    let applied = record::migrate(&mut connection).await.map_err(|error| {
        Failure::unexpected(format!("{error}; did a superuser run deploy/roles.sql in this database?"))
    })?;
    let mut transaction = connection.begin().await?;
    let adopted = record::adopt_new(&mut transaction, &daemon::host_id(), &connect::actor(None)).await?;
    transaction.commit().await?;
    if cli.json {
        say!("{}", serde_json::json!({ "applied": applied, "adopted": adopted }));
    } else if applied == 0 {
        say!("The schema is current.");
    } else {
        say!("{} applied.", counted(applied, "migration"));
    }
    if adopted && !cli.json {
        say!("This database may send from this machine; a copy of it, or another machine, needs `dunningd adopt`.");
    }
    Ok(Exit::DONE)
}

pub(super) fn check(cli: &Cli) -> Result<Exit, Failure> {
    let live = connect::load(cli)?;
    readable(&live)?;
    let policy = &live.config.policy;
    let service = &live.config.service;
    if cli.json {
        let templates = policy.templates.0.len();
        say!(
            "{}",
            serde_json::json!({ "warnings": live.warnings, "unwritable": live.unwritable(), "templates": templates })
        );
    } else {
        if !live.warnings.is_empty() {
            say!("{}", live.warnings);
        }
        for letter in live.unwritable() {
            say!("warning: {letter}\n");
        }
        say!("{} is valid.", cli.config.display());
        say!("  letters    {}", daemon::destination(service));
        match daemon::signing_key(service) {
            Ok(key) => say!("  log        signed; public key {}", key.verifier()),
            Err(AnchorError::NoKey) => say!("  log        not signed: [log] names no key, so there are no checkpoints"),
            // A credential is only there under systemd.
            Err(error) => say!("  log        {error}"),
        }
        say!("  creditors  {}", names(policy.creditors.keys()));
        say!("  languages  {}", names(policy.languages.iter()));
        for ladder in policy.ladders.values() {
            let stages: Vec<String> = ladder
                .stages
                .iter()
                .map(|s| format!("{} {:+}{}", s.name, s.days, if s.enabled { "" } else { " (off)" }))
                .collect();
            say!("  ladder     {}: {}", ladder.name, stages.join(", "));
        }
        say!("  templates  {} letters", policy.templates.0.len());
    }
    Ok(Exit::DONE)
}

/// Files that the configuration names are read once: what is missing now would be missing at the first letter.
/// Credentials come from systemd, and only there.
pub(super) fn readable(live: &daemon::Live) -> Result<(), Failure> {
    let database = &live.config.service.database;
    let passwords = [database.password.as_ref(), database.admin_password.as_ref()];
    for secret in passwords.into_iter().flatten() {
        match secret.read() {
            Ok(_) | Err(SecretError::NoCredentials(_)) => {}
            Err(error) => return Err(Failure::new(Exit::CONFIG, error.to_string())),
        }
    }
    match daemon::signing_key(&live.config.service) {
        Ok(_) | Err(AnchorError::NoKey | AnchorError::Secret(SecretError::NoCredentials(_))) => {}
        Err(error) => return Err(error.into()),
    }
    match daemon::transport(&live.config.service.mail) {
        Ok(_) | Err(TransportError::Secret(SecretError::NoCredentials(_))) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn names<T: ToString>(names: impl Iterator<Item = T>) -> String {
    names.map(|name| name.to_string()).collect::<Vec<_>>().join(", ")
}

pub(super) fn completions(shell: clap_complete::Shell) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "dunningd", &mut script);
    say_part!("{}", String::from_utf8_lossy(&script));
    Exit::DONE
}

pub(super) fn man() -> Result<Exit, Failure> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(|error| Failure::unexpected(error.to_string()))?;
    say_part!("{}", String::from_utf8_lossy(&page));
    Ok(Exit::DONE)
}
