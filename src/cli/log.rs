//! The contact log: show, export, verify.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::model::GENESIS;
use crate::record::{self, EventLine, Verified};

use super::args::{Cli, LogExportArgs, LogShowArgs, LogVerifyArgs};
use super::connect;
use super::failure::{Exit, Failure};
use super::output::say;

/// Events read at a time.
const BATCH: i64 = 1_000;

pub(super) async fn show(cli: &Cli, args: &LogShowArgs) -> Result<Exit, Failure> {
    let shell = connect::shell(cli, None).await?;
    let mut connection = shell.pool.acquire().await?;
    let events = record::event_lines(&mut connection, args.after, args.account.as_deref(), args.limit).await?;
    for event in &events {
        if cli.json {
            say!("{}", String::from_utf8_lossy(&event.bytes));
        } else {
            say!("{}", human(event));
        }
    }
    Ok(Exit::DONE)
}

fn human(event: &EventLine) -> String {
    let stored: Value = serde_json::from_slice(&event.bytes).unwrap_or_default();
    let body = &stored["event"];
    let text = |key: &str| body[key].as_str().unwrap_or("-").to_owned();
    let facts = body["facts"].as_object().map_or(String::new(), |facts| {
        facts
            .iter()
            .filter(|(key, value)| !value.is_null() && !key.ends_with("commitment") && !key.ends_with("sha256"))
            .map(|(key, value)| format!("{key}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
            .collect::<Vec<_>>()
            .join(" ")
    });
    format!(
        "{:>6}  {}  {:<18} {:<16} by {} ({}, {})  {facts}",
        event.seq,
        event.at.format("%Y-%m-%dT%H:%M:%SZ"),
        text("kind"),
        text("account"),
        text("person"),
        text("os_user"),
        text("session_user"),
    )
}

pub(super) async fn export(cli: &Cli, args: &LogExportArgs) -> Result<Exit, Failure> {
    let shell = connect::shell(cli, None).await?;
    let mut transaction = shell.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let (events, messages) = export_into(&mut transaction, &args.directory).await?;
    if cli.json {
        say!("{}", json!({ "events": events, "messages": messages, "directory": args.directory }));
    } else {
        say!("{events} events and {messages} messages written into {}.", args.directory.display());
        say!("Anybody can verify them: dunningd log verify --from {}", args.directory.display());
    }
    Ok(Exit::DONE)
}

/// Writes events.ndjson and messages/<notice>.eml; returns how many of each.
pub(super) async fn export_into(connection: &mut PgConnection, directory: &Path) -> Result<(u64, u64), Failure> {
    let io = |error: std::io::Error| Failure::unexpected(format!("{}: {error}", directory.display()));
    if directory.exists() && fs::read_dir(directory).map_err(io)?.next().is_some() {
        return Err(Failure::new(Exit::REFUSED, format!("{} is not empty; nothing was written", directory.display())));
    }
    let folder = directory.join("messages");
    // Letters hold names and debts: nobody but the owner looks into an export.
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(io)?;
    let create = |path: &Path| OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io);
    let mut file = BufWriter::new(create(&directory.join("events.ndjson"))?);
    let (mut after, mut count) = (0, 0_u64);
    loop {
        let events = record::event_lines(connection, after, None, BATCH).await?;
        let Some(last) = events.last() else { break };
        after = last.seq;
        for event in &events {
            writeln!(file, "{}", record::export_line(event)).map_err(io)?;
            count += 1;
        }
    }
    close(file).map_err(io)?;
    let mut list = BufWriter::new(create(&directory.join("messages.ndjson"))?);
    let mut messages = 0;
    for notice in record::messages_of(connection, None).await? {
        if let Some(message) = record::message_of(connection, notice).await? {
            let name = format!("messages/{notice}.eml");
            create(&directory.join(&name))?.write_all(&message.bytes).map_err(io)?;
            writeln!(list, "{}", record::message_line(notice, &name, &message)).map_err(io)?;
            messages += 1;
        }
    }
    close(list).map_err(io)?;
    Ok((count, messages))
}

fn close(file: BufWriter<File>) -> std::io::Result<()> {
    file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
}

pub(super) async fn verify(cli: &Cli, args: &LogVerifyArgs) -> Result<Exit, Failure> {
    let (verified, messages, contradictions) = if let Some(path) = &args.from {
        let (verified, messages) = verify_export(path)?;
        (verified, messages, Vec::new())
    } else {
        let shell = connect::shell(cli, None).await?;
        let mut transaction = shell.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let (verified, contradictions) = verify_database(&mut transaction).await?;
        (verified, None, contradictions)
    };
    if !contradictions.is_empty() {
        return Err(Failure::new(
            Exit::LOG_BROKEN,
            format!("the log holds together, but notices contradict it:\n{}", contradictions.join("\n")),
        ));
    }
    if cli.json {
        say!("{}", json!({ "events": verified.events, "head": verified.head, "messages": messages }));
    } else {
        say!("The log holds together: {} events, no gap, head {}.", verified.events, verified.head);
        if let Some(messages) = messages {
            say!("{messages} messages are byte for byte what the log commits to.");
        }
        if args.from.is_some() {
            say!("That nothing was cut off at the end shows in the head: compare it with one that you kept.");
        }
    }
    Ok(Exit::DONE)
}

/// An export alone: its folder with the messages, or only its events.
fn verify_export(path: &Path) -> Result<(Verified, Option<u64>), Failure> {
    let folder = path.is_dir().then_some(path);
    let lines = |file: &Path| {
        let opened = File::open(file)
            .map_err(|error| Failure::new(Exit::NO_SUCH_THING, format!("{}: {error}", file.display())))?;
        Ok::<_, Failure>(BufReader::new(opened).lines())
    };
    let events = folder.map_or_else(|| path.to_owned(), |folder| folder.join("events.ndjson"));
    let (verified, commitments) = broken(record::verify_chain(lines(&events)?))?;
    let messages = folder
        .map(|folder| {
            let read = |name: &str| fs::read(folder.join(name));
            broken(record::verify_messages(&commitments, lines(&folder.join("messages.ndjson"))?, read))
        })
        .transpose()?;
    Ok((verified, messages))
}

/// The log as stored, and every notice's state against its last event.
pub(super) async fn verify_database(connection: &mut PgConnection) -> Result<(Verified, Vec<String>), Failure> {
    let mut lines = Vec::new();
    let mut after = 0;
    loop {
        let events = record::event_lines(connection, after, None, BATCH).await?;
        let Some(last) = events.last() else { break };
        after = last.seq;
        lines.extend(events.iter().map(|event| Ok(record::export_line(event))));
    }
    // A database that was just migrated has no event yet.
    let verified = if lines.is_empty() {
        Verified { events: 0, head: hex::encode(GENESIS) }
    } else {
        broken(record::verify_lines(lines))?
    };
    let (seq, head) = record::head(connection).await?;
    if seq.to_string() != verified.events.to_string() || hex::encode(&head) != verified.head {
        return Err(Failure::new(
            Exit::LOG_BROKEN,
            format!("the log ends at event {}, but its head is {seq}: its tail was cut or altered", verified.events),
        ));
    }
    if let Some(problem) = record::verify_look_ups(connection).await? {
        return broken(Err(problem));
    }
    Ok((verified, record::verify_against_notices(connection).await?))
}

fn broken<T>(verified: Result<T, record::Problem>) -> Result<T, Failure> {
    verified.map_err(|problem| {
        Failure::new(Exit::LOG_BROKEN, format!("the log does not hold together: {problem}"))
            .with(&json!({ "seq": problem.seq.to_string() }))
    })
}
