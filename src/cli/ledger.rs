//! The ledger: import, check, contract.

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};

use chrono::{DateTime, FixedOffset};

use crate::clock::Clock;
use crate::daemon;
use crate::ledger::{self, ImportError, ImportOptions, Profile, RELATIONS, Scope};

use super::args::{Cli, ImportArgs, PaymentsAsOf};
use super::connect;
use super::failure::{Exit, Failure};
use super::output::{say, say_part};

pub(super) async fn import(cli: &Cli, args: &ImportArgs) -> Result<Exit, Failure> {
    let live = connect::load(cli)?;
    let profile = profile(cli, &args.profile)?;
    let scope = match args.scope.as_deref() {
        None => None,
        Some(text) => Some(Scope::parse(text).ok_or_else(|| {
            let known = Scope::ALL.map(Scope::as_str).join(", ");
            Failure::new(Exit::USAGE, format!("--scope {text:?} is none of {known}"))
        })?),
    };
    let reject_file = match &args.reject_file {
        None => free_name(&args.file),
        Some(named) if named.exists() => {
            let message = format!(
                "--reject-file {}: there is such a file already, and it is not replaced; name another one",
                named.display()
            );
            return Err(Failure::new(Exit::USAGE, message));
        }
        Some(named) => named.clone(),
    };
    let options = ImportOptions {
        scope,
        payments_as_of: args.payments_as_of.map(|as_of| end_of(as_of, &live)),
        dry_run: args.dry_run,
        allow_rejects: args.allow_rejects,
        allow_shrunk: args.allow_shrunk,
        reject_file: Some(reject_file),
    };
    let unreadable = |why: String| {
        Failure::new(Exit::NO_SUCH_THING, format!("{}: {why}; nothing was imported", args.file.display()))
    };
    let metadata = std::fs::metadata(&args.file).map_err(|error| unreadable(error.to_string()))?;
    if metadata.is_dir() {
        return Err(unreadable("is a directory, not a file".to_owned()));
    }
    let size = metadata.len();
    let mut connection = connect::admin(&live).await?;
    // Drawn on a terminal only.
    let bar = ProgressBar::new(size).with_style(
        ProgressStyle::with_template("{wide_bar} {percent}%").unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let imported = ledger::import_csv_with_progress(&mut connection, &profile, &args.file, &options, &mut |bytes| {
        bar.set_position(bytes);
    })
    .await;
    bar.finish_and_clear();
    match imported {
        Ok(report) => {
            if cli.json {
                say!("{}", serde_json::to_value(&report).unwrap_or_default());
            } else {
                say_part!("{report}");
                for covered in &report.covered {
                    if !live.config.policy.creditors.keys().any(|known| known.as_str() == covered.creditor) {
                        say!("  warning   creditor {} is not in creditors.toml: its accounts are in no run", covered.creditor);
                    }
                }
            }
            Ok(if report.rejected > 0 { Exit::FINDINGS } else { Exit::DONE })
        }
        Err(ImportError::Rejected(report)) => Err(Failure::new(
            Exit::FINDINGS,
            format!(
                "{} of {} rows were rejected; nothing was imported. Mend them, or add --allow-rejects to import the rest.\n\n{report}",
                report.rejected, report.rows
            ),
        )
        .with(&report)),
        Err(ImportError::Structure(error)) => {
            Err(Failure::new(Exit::FINDINGS, format!("{}: {error}; nothing was imported", args.file.display())))
        }
        Err(error) => Err(import_failure(error)),
    }
}

/// Where rejected rows go when nobody says: beside the file, and never over what somebody may have mended there.
fn free_name(file: &Path) -> PathBuf {
    let name = |n: u32| file.with_extension(if n == 1 { "rejects.csv".to_owned() } else { format!("rejects-{n}.csv") });
    (1..u32::MAX).map(name).find(|name| !name.exists()).unwrap_or_else(|| name(1))
}

fn import_failure(error: ImportError) -> Failure {
    let exit = match &error {
        ImportError::PaymentsAsOfUnknown => Exit::USAGE,
        ImportError::Profile(_) => Exit::CONFIG,
        ImportError::NotBuiltIn(_) | ImportError::Shrunk { .. } => Exit::REFUSED,
        ImportError::Busy => Exit::LOCKED,
        ImportError::Io { .. } => Exit::NO_SUCH_THING,
        ImportError::Rejected(_) | ImportError::Structure(_) => Exit::FINDINGS,
        ImportError::Database(_) => Exit::UNEXPECTED,
    };
    match error {
        ImportError::Database(error) => error.into(),
        other => Failure::new(exit, other.to_string()),
    }
}

/// A day is over at midnight where the creditor is: that is what "known up to and including that day" means.
fn end_of(as_of: PaymentsAsOf, live: &daemon::Live) -> DateTime<FixedOffset> {
    match as_of {
        PaymentsAsOf::Moment(at) => at,
        PaymentsAsOf::Day(day) => {
            let zone = live.config.policy.creditors.values().next().map_or(chrono_tz::Tz::UTC, |c| c.time_zone);
            Clock::midnight_after(day, zone).with_timezone(&zone).fixed_offset()
        }
    }
}

/// A path, or the name of a file in profiles/ of the configuration, or of a profile that comes with the program.
fn profile(cli: &Cli, name: &str) -> Result<Profile, Failure> {
    let config = |error: ledger::ProfileError| Failure::new(Exit::CONFIG, error.to_string());
    let own = cli.config.join("profiles").join(format!("{name}.toml"));
    if Path::new(name).is_file() {
        Profile::load(Path::new(name)).map_err(config)
    } else if own.is_file() {
        Profile::load(&own).map_err(config)
    } else {
        shipped_profile(name)
    }
}

/// A profile that comes with the program.
pub(super) fn shipped_profile(name: &str) -> Result<Profile, Failure> {
    let file = format!("{name}.toml");
    let Some((_, text)) = ledger::SHIPPED_PROFILES.iter().find(|(shipped, _)| *shipped == file) else {
        let known: Vec<&str> =
            ledger::SHIPPED_PROFILES.iter().map(|(name, _)| name.trim_end_matches(".toml")).collect();
        return Err(Failure::new(
            Exit::NO_SUCH_THING,
            format!("there is no import profile {name}; shipped are {}, or give a path", known.join(", ")),
        ));
    };
    Profile::parse(name, &file, text).map_err(|error| Failure::new(Exit::CONFIG, error.to_string()))
}

pub(super) async fn check(cli: &Cli) -> Result<Exit, Failure> {
    let shell = connect::shell(cli, None).await?;
    let mut connection = shell.pool.acquire().await?;
    let options = daemon::check_options(&shell.live().config.policy, shell.clock.now());
    let report = ledger::check(&mut connection, &options).await?;
    if cli.json {
        say!("{}", serde_json::to_value(&report).unwrap_or_default());
    } else {
        say_part!("{report}");
    }
    Ok(if report.stops_run() {
        Exit::CONTRACT
    } else if report.findings.is_empty() {
        Exit::DONE
    } else {
        Exit::FINDINGS
    })
}

pub(super) fn contract(cli: &Cli) -> Exit {
    if cli.json {
        let relations: Vec<_> = RELATIONS
            .iter()
            .map(|relation| {
                let columns: Vec<_> = relation
                    .columns
                    .iter()
                    .map(|c| serde_json::json!({ "name": c.name, "type": c.family.sql_type(), "required": c.required }))
                    .collect();
                serde_json::json!({ "name": relation.name, "required": relation.required, "columns": columns })
            })
            .collect();
        say!("{}", serde_json::Value::from(relations));
        return Exit::DONE;
    }
    for relation in RELATIONS {
        say!("ledger.{}{}", relation.name, if relation.required { "" } else { " (optional)" });
        for column in relation.columns {
            let required = if column.required { "required" } else { "" };
            say!("  {:<20} {:<12} {required}", column.name, column.family.sql_type());
        }
    }
    Exit::DONE
}
