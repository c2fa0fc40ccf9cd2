//! The service: run, reload, status.

use std::io::IsTerminal as _;
use std::process::Command;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Log, LogFormat};
use crate::daemon::{self, ServeError, Shell};
use crate::model::{ReleaseState, counted};
use crate::record::{BreakerRow, RunRow, SchemaState};

use super::args::{AcceptArgs, Cli};
use super::connect;
use super::failure::{Exit, Failure};
use super::output::say;
use super::release::in_words;
use super::setup::readable;

pub(super) async fn run(cli: &Cli, args: &AcceptArgs) -> Result<Exit, Failure> {
    let shell = Arc::new(connect::shell(cli, Some("dunningd run")).await?);
    start_log(&shell.live().config.service.log)?;
    accept(&shell, args).await?;
    let load = || connect::load(cli);
    daemon::serve(shell, load).await.map_err(|error| match error {
        ServeError::Schema(SchemaState::Current) => Failure::unexpected("the schema is current"),
        ServeError::Schema(_) | ServeError::Transport(_) => Failure::new(Exit::CONFIG, error.to_string()),
        ServeError::Record(error) => error.into(),
        ServeError::State(error) => error.into(),
        ServeError::Clock(trouble) => Failure::new(Exit::REFUSED, trouble.to_string()),
        other => Failure::unexpected(other.to_string()),
    })?;
    Ok(Exit::DONE)
}

/// Goes on with a database that was restored, or whose clock went back, where that is asked for.
pub(super) async fn accept(shell: &Shell, args: &AcceptArgs) -> Result<(), Failure> {
    match &args.reason {
        Some(reason) if args.accept_database => Ok(daemon::accept_database(shell, reason).await?),
        Some(reason) if args.accept_clock => Ok(daemon::accept_clock(shell, reason).await?),
        _ => Ok(()),
    }
}

/// The service log: to journald under systemd, as text on a terminal, else as JSON. No debtor's name or address.
fn start_log(log: &Log) -> Result<(), Failure> {
    // The bell tells of itself what nobody needs.
    let filter = EnvFilter::new(format!("tokio_cron_scheduler=error,{}", log.filter));
    let registry = tracing_subscriber::registry().with(filter);
    let journald = std::env::var_os("JOURNAL_STREAM").is_some();
    let format = match log.format {
        LogFormat::Auto if journald => LogFormat::Journald,
        LogFormat::Auto if std::io::stderr().is_terminal() => LogFormat::Text,
        LogFormat::Auto => LogFormat::Json,
        chosen => chosen,
    };
    match format {
        LogFormat::Journald => {
            let layer = tracing_journald::layer()
                .map_err(|error| Failure::unexpected(format!("journald: {error}")))?
                .with_field_prefix(Some("DUNNING".to_owned()));
            registry.with(layer).init();
        }
        LogFormat::Text => registry.with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr)).init(),
        LogFormat::Json | LogFormat::Auto => {
            registry.with(tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr)).init();
        }
    }
    Ok(())
}

/// What the service would refuse is told here, and not only to its log.
pub(super) fn reload(cli: &Cli) -> Result<Exit, Failure> {
    readable(&connect::load(cli)?)?;
    let asked = Command::new("systemctl").args(["reload", "dunningd.service"]).status().map_err(|error| {
        Failure::new(Exit::UNAVAILABLE, format!("systemctl: {error}; send SIGHUP to the service instead"))
    })?;
    if asked.success() {
        Ok(Exit::DONE)
    } else {
        Err(Failure::new(Exit::UNAVAILABLE, "systemctl could not reload dunningd.service; see its message above"))
    }
}

pub(super) async fn status(cli: &Cli) -> Result<Exit, Failure> {
    let shell = connect::shell(cli, None).await?;
    let status = daemon::status(&shell).await?;
    if cli.json {
        say!("{}", serde_json::to_value(&status).unwrap_or_default());
        return Ok(Exit::DONE);
    }
    match (&status.pause.reason, &status.pause.by_person, status.pause.since) {
        (Some(reason), Some(person), Some(since)) => {
            say!("PAUSED by {person} since {}: {reason}", since.format("%Y-%m-%d %H:%M UTC"));
        }
        _ => say!("not paused"),
    }
    for one in &status.breakers {
        say!("{}", failing(one, shell.clock.wall()));
    }
    say!("mode {}", in_words(status.mode.mode));
    if !status.identity.adopted {
        say!(
            "NOT ADOPTED: the database {} may not send from this machine; is it a copy? `dunningd adopt --reason …`",
            status.identity.database_name
        );
    }
    for creditor in shell.live().config.policy.creditors.keys() {
        match status.runs.iter().find(|run| run.creditor == creditor.as_str()) {
            Some(run) => {
                let number = |key: &str| run.totals.as_ref().and_then(|t| t[key].as_u64()).unwrap_or_default();
                say!(
                    "creditor {creditor}: last run {} {}{}, considered {}, contacted {}",
                    run.business_date,
                    run.state,
                    run.reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})")),
                    number("considered"),
                    number("contacted")
                );
                if run.awaiting > 0 {
                    held(run);
                }
            }
            None => say!("creditor {creditor}: no run yet"),
        }
    }
    let list = |counts: &std::collections::BTreeMap<String, i64>| {
        let parts: Vec<String> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
        if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
    };
    say!("notices: {}", list(&status.notices));
    say!("promises: {} running", status.promises_running);
    say!("open tasks: {}", list(&status.tasks));
    say!("log: {} events, head {}", status.log_events, status.log_head);
    Ok(Exit::DONE)
}

/// What failed, and when it is tried again.
fn failing(breaker: &BreakerRow, now: DateTime<Utc>) -> String {
    let BreakerRow { kind, subject, failures, cause, until, .. } = breaker;
    let in_a_row = format!("after {} in a row: {cause}", counted(*failures, "failure"));
    match until {
        Some(until) if *until > now => {
            format!("STOPPED {kind} {subject} until {} {in_a_row}", until.format("%Y-%m-%d %H:%M UTC"))
        }
        Some(_) => format!("STOPPED {kind} {subject}, tried again with the next letter, {in_a_row}"),
        None => format!("FAILING {kind} {subject}, {in_a_row}"),
    }
}

/// A run whose notices wait: why, and what to do.
fn held(run: &RunRow) {
    say!("  {} of its notices wait for a person: `dunningd outbox list`", run.awaiting);
    for braked in run.brakes.as_array().into_iter().flatten() {
        let text = |key: &str| braked[key].as_str().unwrap_or_default();
        say!("  BRAKED {}: {}", text("brake"), text("why"));
    }
    if run.release.as_deref() == Some(ReleaseState::Held.as_str()) {
        say!(
            "  HELD: `dunningd outbox approve --run {0} --reason …` or `outbox drop --run {0} --reason …`",
            run.run_id
        );
    }
}
