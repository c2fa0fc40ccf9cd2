//! The contact log: show, export, verify.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::daemon;
use crate::model::{Checkpoint, VerifierKey, counted};
use crate::record::{self, Bundle, Chain, Contents, ContentsCheck, EventLine, Problem, Report, Verified};

use super::args::{Cli, LogExportArgs, LogShowArgs, LogVerifyArgs};
use super::connect;
use super::failure::{Exit, Failure};
use super::output::{say, say_part};

/// Events read at a time.
const BATCH: i64 = 1_000;
/// What is said of `--checkpoint` without `--key`.
const KEPT_UNCHECKED: &str = "The signatures of the checkpoints that you gave with --checkpoint were NOT checked: give the \
                              public key with --key.";

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
    let mut transaction = shell.pool.begin_with(crate::ledger::LOOK).await?;
    let Exported { events, messages, erased, checkpoints } = export_into(&mut transaction, &args.directory).await?;
    let folder = args.directory.display();
    if cli.json {
        say!(
            "{}",
            json!({ "events": events, "messages": messages, "erased": erased, "checkpoints": checkpoints,
                "directory": args.directory })
        );
    } else {
        say!("{events} events, {messages} messages and {checkpoints} checkpoints written into {folder}.");
        if erased > 0 {
            say!("{erased} more messages were erased; the events that say so are in it.");
        }
        say!("Anybody can verify them: dunningd log verify --from {folder}");
    }
    Ok(Exit::DONE)
}

/// How much an export holds.
pub(super) struct Exported {
    events: u64,
    messages: u64,
    erased: u64,
    checkpoints: u64,
}

/// Makes a file that nobody else may read.
pub(super) fn create(path: &Path) -> Result<File, Failure> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| {
        let said = match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                format!("{} exists already: delete it or name another; nothing was written", path.display())
            }
            _ => format!("{}: {error}", path.display()),
        };
        Failure::new(Exit::REFUSED, said)
    })
}

/// Writes an export into a new folder; docs/verify.md tells what is in it.
pub(super) async fn export_into(connection: &mut PgConnection, directory: &Path) -> Result<Exported, Failure> {
    let io = |error: std::io::Error| Failure::unexpected(format!("{}: {error}", directory.display()));
    if directory.exists() && fs::read_dir(directory).map_err(io)?.next().is_some() {
        return Err(Failure::new(Exit::REFUSED, format!("{} is not empty; nothing was written", directory.display())));
    }
    // Letters hold names and debts: nobody but the owner looks into an export.
    for folder in ["messages", "checkpoints"] {
        DirBuilder::new().recursive(true).mode(0o700).create(directory.join(folder)).map_err(io)?;
    }
    let mut exported = Exported { events: 0, messages: 0, erased: 0, checkpoints: 0 };
    let mut file = BufWriter::new(create(&directory.join("events.ndjson"))?);
    let mut after = 0;
    loop {
        let events = record::event_lines(connection, after, None, BATCH).await?;
        let Some(last) = events.last() else { break };
        after = last.seq;
        for event in &events {
            writeln!(file, "{}", record::export_line(event)).map_err(io)?;
            exported.events += 1;
        }
    }
    close(file).map_err(io)?;
    let mut list = BufWriter::new(create(&directory.join("messages.ndjson"))?);
    for notice in record::notices_made(connection, None).await? {
        let message = record::message_of(connection, notice).await?;
        writeln!(list, "{}", record::message_line(notice, message.as_ref())).map_err(io)?;
        if let Some(message) = message {
            let name = record::message_file(&notice.to_string());
            create(&directory.join(name))?.write_all(&message.bytes).map_err(io)?;
            exported.messages += 1;
        } else {
            exported.erased += 1;
        }
    }
    close(list).map_err(io)?;
    let mut list = BufWriter::new(create(&directory.join("notes.ndjson"))?);
    for note in record::notes(connection, None).await? {
        writeln!(list, "{}", record::note_line(&note)).map_err(io)?;
    }
    close(list).map_err(io)?;
    let mut list = BufWriter::new(create(&directory.join("attempts.ndjson"))?);
    for attempt in record::attempt_lines(connection, None).await? {
        writeln!(list, "{}", serde_json::to_string(&attempt).unwrap_or_default()).map_err(io)?;
    }
    close(list).map_err(io)?;
    let mut keys = BTreeSet::new();
    for checkpoint in record::checkpoints(connection).await? {
        let path = directory.join(record::checkpoint_file(checkpoint.size));
        create(&path)?.write_all(checkpoint.note.as_bytes()).map_err(io)?;
        keys.insert(checkpoint.verifier_key);
        exported.checkpoints += 1;
    }
    let keys: String = keys.into_iter().map(|key| key + "\n").collect();
    create(&directory.join("keys.txt"))?.write_all(keys.as_bytes()).map_err(io)?;
    Ok(exported)
}

fn close(file: BufWriter<File>) -> std::io::Result<()> {
    file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
}

pub(super) async fn verify(cli: &Cli, args: &LogVerifyArgs) -> Result<Exit, Failure> {
    let keys = args.key.iter().map(|key| VerifierKey::parse(key)).collect::<Result<Vec<_>, _>>();
    let keys = keys.map_err(|error| Failure::new(Exit::USAGE, format!("--key: {error}")))?;
    let mut kept = kept(&args.checkpoint, &keys)?;
    if let Some(path) = &args.proof {
        return verify_proof(cli, path, &keys, &kept);
    }
    let (report, growth) = if let Some(path) = &args.from {
        let bundle = open(path)?;
        let (report, _) = broken(record::verify_bundle(&bundle, &keys, &kept))?;
        let growth = match &args.against {
            Some(path) => {
                let later = open(path)?;
                broken(record::verify_bundle(&later, &keys, &kept))?;
                Some(broken(record::verify_growth(&bundle, &later))?)
            }
            None => None,
        };
        (report, growth)
    } else {
        let shell = connect::shell(cli, None).await?;
        let signed = daemon::signed_here(&shell).map_err(|error| Failure::new(Exit::CONFIG, error.to_string()))?;
        kept.extend(signed.clone());
        let mut transaction = shell.pool.begin_with(crate::ledger::LOOK).await?;
        let verified = verify_stored(&mut transaction, &keys, &kept).await;
        if verified.as_ref().is_err_and(Failure::is_broken_log) {
            // What somebody gave may be at fault; what the log itself shows is not.
            let signed: Vec<_> = signed.into_iter().collect();
            if let Err(failure) = verify_stored(&mut transaction, &[], &signed).await
                && failure.is_broken_log()
            {
                daemon::write_log_alarm(&shell, failure.message()).await?;
            }
        }
        (verified?, None)
    };
    if !keys.is_empty() && report.checkpoints == 0 && kept.is_empty() {
        let what = "the log holds together, but there is no checkpoint that the given key could have signed";
        return Err(Failure::new(Exit::LOG_BROKEN, what));
    }
    if cli.json {
        let mut value = serde_json::to_value(&report).unwrap_or_default();
        value["added"] = growth.into();
        value["signatures_checked_with"] = match (keys.is_empty(), report.checkpoints) {
            (true, 0) => None,
            (true, _) => Some("the key that came along"),
            (false, _) => Some("--key"),
        }
        .into();
        if !args.checkpoint.is_empty() {
            value["kept_signatures_checked"] = (!keys.is_empty()).into();
        }
        say!("{value}");
    } else {
        say_part!("{}", human_report(&report, &keys, args.from.is_some() && kept.is_empty()));
        if keys.is_empty() && !args.checkpoint.is_empty() {
            say!("{KEPT_UNCHECKED}");
        }
        if let Some(added) = growth {
            say!("The later export extends it by {added} events; nothing before them differs.");
        }
    }
    Ok(Exit::DONE)
}

fn human_report(report: &Report, keys: &[VerifierKey], alone: bool) -> String {
    let mut out = String::new();
    if let Some(log) = &report.log {
        let _ = writeln!(out, "The log holds together: {} events, no gap, head {}.", log.events, log.head);
    }
    if let Some((account, events, size)) = &report.account {
        let _ = writeln!(out, "{events} events of account {account} stand in the signed log of {size} events.");
    }
    if let Some(Contents { messages, notes, replies, erased }) = &report.contents {
        let _ = writeln!(out, "{messages} messages are byte for byte what the log commits to.");
        let _ = writeln!(out, "{notes} notes and {replies} replies of relays are what the log commits to.");
        if *erased > 0 {
            let _ =
                writeln!(out, "{erased} messages, notes, replies and entered contacts were erased, as the log says.");
        }
    }
    if report.checkpoints > 0 {
        let count = counted(report.checkpoints, "checkpoint");
        let _ = writeln!(out, "{count} signed this very log, up to event {}.", report.signed);
        if let Some(log) = report.log.as_ref().filter(|log| log.events > report.signed) {
            let _ = writeln!(out, "What comes after it, up to event {}, is signed by nobody yet.", log.events);
        }
        if keys.is_empty() {
            let along = report.keys.join(" ");
            let _ = writeln!(
                out,
                "Signatures were NOT checked against a key from elsewhere. They fit the key that came along; compare it \
                 with yours, or give yours with --key: {along}"
            );
        } else {
            let _ = writeln!(out, "Their signatures hold under the given key.");
        }
    }
    if alone && report.log.is_some() {
        if report.checkpoints == 0 {
            let _ = writeln!(out, "There is no checkpoint, so there was no signature to check.");
        }
        let _ = writeln!(
            out,
            "That nothing was cut off at the end shows in the head: compare it with one that you kept{}.",
            if report.checkpoints > 0 { ", or give a checkpoint that you kept with --checkpoint" } else { "" }
        );
    }
    out
}

fn open(path: &Path) -> Result<Bundle, Failure> {
    Bundle::open(path).map_err(|error| {
        let exit = if path.exists() { Exit::LOG_BROKEN } else { Exit::NO_SUCH_THING };
        Failure::new(exit, format!("{}: {error}", path.display()))
    })
}

/// Checkpoints that somebody kept outside; their signatures are checked where a key is given.
fn kept(paths: &[std::path::PathBuf], keys: &[VerifierKey]) -> Result<Vec<(String, Checkpoint)>, Failure> {
    paths
        .iter()
        .map(|path| {
            let name = path.display().to_string();
            let note = fs::read_to_string(path)
                .map_err(|error| Failure::new(Exit::NO_SUCH_THING, format!("{name}: {error}")))?;
            let unsigned =
                Checkpoint::parse(&note).map_err(|error| Failure::new(Exit::LOG_BROKEN, format!("{name}: {error}")))?;
            if keys.is_empty() {
                return Ok((name, unsigned));
            }
            Ok(broken(record::read_checkpoints([(name, note)], keys))?.remove(0))
        })
        .collect()
}

fn verify_proof(cli: &Cli, path: &Path, keys: &[VerifierKey], kept: &[(String, Checkpoint)]) -> Result<Exit, Failure> {
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::new(Exit::NO_SUCH_THING, format!("{}: {error}", path.display())))?;
    let proved = broken(record::verify_proof(&text, keys))?;
    for (name, checkpoint) in kept {
        if *checkpoint != proved.checkpoint && proved.since.as_ref() != Some(checkpoint) {
            let what = format!("{name} is neither the checkpoint of this proof nor the one that it begins with");
            return Err(Failure::new(Exit::LOG_BROKEN, what));
        }
    }
    let size = proved.checkpoint.size;
    let since = proved.since.map(|since| since.size);
    if cli.json {
        say!("{}", json!({ "account": proved.account, "events": proved.events, "size": size, "since": since }));
        return Ok(Exit::DONE);
    }
    say!("{} events of account {} stand in the signed log of {size} events.", proved.events, proved.account);
    if let Some(since) = since {
        say!("That log only grew since the checkpoint of {since} events.");
    }
    if keys.is_empty() {
        say!("Signatures were NOT checked against a key from elsewhere; give yours with --key.");
    } else {
        say!("Its signature holds under the given key.");
    }
    Ok(Exit::DONE)
}

/// [`verify_database`], where contradictions are a failure too.
async fn verify_stored(
    connection: &mut PgConnection,
    keys: &[VerifierKey],
    kept: &[(String, Checkpoint)],
) -> Result<Report, Failure> {
    let (report, contradictions) = verify_database(connection, keys, kept).await?;
    if contradictions.is_empty() {
        return Ok(report);
    }
    let told =
        format!("the log holds together, but what stands beside it contradicts it:\n{}", contradictions.join("\n"));
    Err(Failure::new(Exit::LOG_BROKEN, told))
}

/// The log as stored with its checkpoints, what it commits to, and every notice's state against its last event.
pub(super) async fn verify_database(
    connection: &mut PgConnection,
    keys: &[VerifierKey],
    kept: &[(String, Checkpoint)],
) -> Result<(Report, Vec<String>), Failure> {
    let rows = record::checkpoints(connection).await?;
    let along: BTreeSet<String> = rows.iter().map(|row| row.verifier_key.clone()).collect();
    let own: Vec<VerifierKey> = along.iter().filter_map(|key| VerifierKey::parse(key).ok()).collect();
    let notes = rows.iter().map(|row| (record::checkpoint_file(row.size), row.note.clone()));
    let mut checkpoints = broken(record::read_checkpoints(notes, if keys.is_empty() { &own } else { keys }))?;
    let count = checkpoints.len() as u64;
    let signed = checkpoints.iter().map(|(_, one)| one.size).max().unwrap_or_default();
    if let Some((_, one)) = checkpoints.iter().find(|(name, one)| *name != record::checkpoint_file(one.size)) {
        let what = format!("a checkpoint of {} events is kept under another size", one.size);
        return broken(Err(Problem { seq: one.size, what }));
    }
    checkpoints.extend(kept.iter().cloned());

    let mut chain = Chain::new(checkpoints);
    let mut after = 0;
    loop {
        let events = record::event_lines(connection, after, None, BATCH).await?;
        let Some(last) = events.last() else { break };
        after = last.seq;
        for event in &events {
            let (leaf, hash) = (hex::encode(&event.leaf_hash), hex::encode(&event.chain_hash));
            broken(chain.add(&event.seq.to_string(), &event.bytes, &leaf, &hash))?;
        }
    }
    let Verified { events, head: reached } = chain.verified();
    let (seq, head) = record::head(connection).await?;
    if seq.to_string() != events.to_string() || hex::encode(&head) != reached {
        return Err(Failure::new(
            Exit::LOG_BROKEN,
            format!("the log ends at event {events}, but its head is {seq}: its tail was cut or altered"),
        ));
    }
    let (verified, vouched) = broken(chain.finish())?;
    if let Some(problem) = record::verify_look_ups(connection).await? {
        return broken(Err(problem));
    }
    if let Some(problem) = record::verify_texts(connection).await? {
        return broken(Err(problem));
    }
    let mut contradictions = record::verify_against_notices(connection).await?;
    contradictions.extend(record::verify_notices(connection).await?);
    contradictions.extend(record::verify_decisions(connection).await?);
    contradictions.extend(record::verify_register(connection).await?);
    let mut check = ContentsCheck::new(&vouched);
    if contradictions.is_empty() {
        for notice in record::notices_made(connection, None).await? {
            let (id, message) = (notice.to_string(), record::message_of(connection, notice).await?);
            let recipient = message.as_ref().map(|message| message.recipient.clone());
            broken(check.message(&id, message.map(|message| (message.salt, message.bytes))))?;
            if let Some(recipient) = recipient {
                broken(check.recipient(&id, &recipient))?;
            }
        }
        broken(check.contacts(record::contact_data_kept(connection).await?))?;
        for note in record::notes(connection, None).await? {
            broken(check.note(&note.note.to_string(), note.words))?;
        }
        for attempt in record::attempt_lines(connection, None).await? {
            broken(check.attempt(attempt))?;
        }
    }
    let contents = if contradictions.is_empty() { Some(broken(check.finish())?) } else { None };
    let keys = along.into_iter().collect();
    Ok((Report { log: Some(verified), account: None, checkpoints: count, signed, keys, contents }, contradictions))
}

fn broken<T>(verified: Result<T, Problem>) -> Result<T, Failure> {
    verified.map_err(|problem| {
        Failure::new(Exit::LOG_BROKEN, format!("the log does not hold together: {problem}"))
            .with(&json!({ "seq": problem.seq.to_string() }))
    })
}
