//! What strangers are given: checkpoints, proofs, dossiers; and what is erased or must be kept.

use std::fs;
use std::io::{Cursor, Write as _};
use std::path::Path;

use serde_json::json;
use sqlx::Connection as _;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::daemon::{self, AnchorError, DossierError};
use crate::model::{AccountId, Checkpoint, CheckpointKey};
use crate::record::{self, CheckpointError, EraseError, Erasure};

use super::args::{Cli, DossierArgs, EraseArgs, LegalHoldArgs, LogAnchorArgs, LogKeygenArgs, LogProveArgs};
use super::connect;
use super::failure::{Exit, Failure};
use super::log::create;
use super::output::{say, say_part};

pub(super) fn keygen(cli: &Cli, args: &LogKeygenArgs) -> Result<Exit, Failure> {
    let key = CheckpointKey::new(&args.origin, rand::random())
        .map_err(|error| Failure::new(Exit::USAGE, format!("--origin: {error}")))?;
    write(&args.out, format!("{}\n", key.secret_text()).as_bytes())?;
    let public = key.verifier().to_string();
    if cli.json {
        say!("{}", json!({ "key": public, "file": args.out }));
    } else {
        say!("{public}");
        say!("This is the public key: give it to your auditors. The secret one is in {}.", args.out.display());
    }
    Ok(Exit::DONE)
}

/// Writes a new file that nobody else may read.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut file = create(path)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(|error| Failure::unexpected(format!("{}: {error}", path.display())))
}

pub(super) async fn anchor(cli: &Cli, args: &LogAnchorArgs) -> Result<Exit, Failure> {
    let shell = connect::shell(cli, None).await?;
    let checkpoint = daemon::anchor(&shell).await?;
    if let Some(path) = &args.out {
        write(path, checkpoint.note.as_bytes())?;
    }
    if cli.json {
        say!("{}", serde_json::to_value(&checkpoint).unwrap_or_default());
    } else if let Some(path) = &args.out {
        say!("The checkpoint of {} events is in {}.", checkpoint.size, path.display());
    } else {
        say_part!("{}", checkpoint.note);
    }
    Ok(Exit::DONE)
}

fn account(text: &str) -> Result<AccountId, Failure> {
    AccountId::parse(text).map_err(|error| Failure::new(Exit::USAGE, error.to_string()))
}

pub(super) async fn prove(cli: &Cli, args: &LogProveArgs) -> Result<Exit, Failure> {
    let account = account(&args.account)?;
    let since = args.since.as_deref().map(read_checkpoint).transpose()?;
    let shell = connect::shell(cli, None).await?;
    let checkpoint = daemon::anchor(&shell).await?;
    if since.as_ref().is_some_and(|(_, old)| old.size > checkpoint.size) {
        let what = format!("the log has only {} events, fewer than the checkpoint given with --since", checkpoint.size);
        return Err(Failure::new(Exit::LOG_BROKEN, what));
    }
    let mut connection = shell.pool.acquire().await?;
    let since = since.as_ref().map(|(note, old)| (note.as_str(), old));
    let proof = record::prove(&mut connection, account.as_str(), &checkpoint, since).await?;
    if proof.events.is_empty() {
        return Err(Failure::new(Exit::NO_SUCH_THING, format!("the log knows nothing about an account {account}")));
    }
    write(&args.out, format!("{}\n", serde_json::to_string(&proof).unwrap_or_default()).as_bytes())?;
    if cli.json {
        say!(
            "{}",
            json!({ "account": account, "events": proof.events.len(), "size": checkpoint.size, "file": args.out })
        );
    } else {
        let file = args.out.display();
        say!("{} events, proved to stand in the log of {} events, are in {file}.", proof.events.len(), checkpoint.size);
        say!("Anybody can verify them: dunningd log verify --proof {file} --key {}", checkpoint.verifier_key);
    }
    Ok(Exit::DONE)
}

fn read_checkpoint(path: &Path) -> Result<(String, Checkpoint), Failure> {
    let note = fs::read_to_string(path)
        .map_err(|error| Failure::new(Exit::NO_SUCH_THING, format!("{}: {error}", path.display())))?;
    let checkpoint =
        Checkpoint::parse(&note).map_err(|error| Failure::new(Exit::USAGE, format!("{}: {error}", path.display())))?;
    Ok((note, checkpoint))
}

pub(super) async fn dossier(cli: &Cli, args: &DossierArgs) -> Result<Exit, Failure> {
    let account = account(&args.account)?;
    let shell = connect::shell(cli, None).await?;
    let files = daemon::dossier(&shell, &account).await?;
    // Stored, and with one time for all: the same files give the same bytes everywhere.
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default())
        .unix_permissions(0o644);
    let mut packed = ZipWriter::new(Cursor::new(Vec::new()));
    let failed = |error: &dyn std::fmt::Display| Failure::unexpected(format!("{}: {error}", args.out.display()));
    for (name, bytes) in &files {
        packed.start_file(name.as_str(), options).map_err(|error| failed(&error))?;
        packed.write_all(bytes).map_err(|error| failed(&error))?;
    }
    write(&args.out, &packed.finish().map_err(|error| failed(&error))?.into_inner())?;
    if cli.json {
        say!("{}", json!({ "account": account, "files": files.keys().collect::<Vec<_>>(), "file": args.out }));
    } else {
        say!("The dossier of account {account}, {} files, is in {}.", files.len(), args.out.display());
    }
    Ok(Exit::DONE)
}

pub(super) async fn erase(cli: &Cli, args: &EraseArgs) -> Result<Exit, Failure> {
    let account = account(&args.account)?;
    let shell = connect::shell(cli, args.why.by.as_deref()).await?;
    let erasure =
        Erasure { classes: Erasure::ALL, before: None, reason: &args.why.reason, legal_ground: &args.legal_ground };
    let mut connection = shell.pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    let event = record::erase(&mut transaction, &account, &erasure, &shell.actor).await?;
    transaction.commit().await?;
    if cli.json {
        say!("{}", json!({ "account": account, "event": event }));
    } else {
        say!(
            "What was personal about account {account} is erased here; event {} says so. The ledger itself, backups and \
             exports are not ours to erase.",
            event.unwrap_or_default()
        );
    }
    Ok(Exit::DONE)
}

pub(super) async fn legal_hold(cli: &Cli, args: &LegalHoldArgs) -> Result<Exit, Failure> {
    let account = account(&args.account)?;
    let shell = connect::shell(cli, args.why.by.as_deref()).await?;
    let mut connection = shell.pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    let (reason, actor) = (&*args.why.reason, &shell.actor);
    let id = if args.lift {
        record::lift_legal_hold(&mut transaction, &account, reason, actor).await?
    } else {
        record::place_legal_hold(&mut transaction, &account, reason, actor).await?
    };
    transaction.commit().await?;
    if cli.json {
        say!("{}", json!({ "account": account, "legal_hold": id, "lifted": args.lift }));
    } else if args.lift {
        say!("Account {account} is not under a legal hold any more.");
    } else {
        say!("Account {account} is under a legal hold: nothing about it is erased until it is lifted.");
    }
    Ok(Exit::DONE)
}

impl From<AnchorError> for Failure {
    fn from(error: AnchorError) -> Self {
        let exit = match error {
            AnchorError::Checkpoint(CheckpointError::Record(error)) => return error.into(),
            AnchorError::Checkpoint(CheckpointError::Empty) => Exit::NO_SUCH_THING,
            AnchorError::Checkpoint(CheckpointError::Contradiction(_) | CheckpointError::Forgotten { .. }) => {
                Exit::LOG_BROKEN
            }
            AnchorError::NoKey | AnchorError::Secret(_) | AnchorError::Key(_) | AnchorError::Signed(_) => Exit::CONFIG,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<DossierError> for Failure {
    fn from(error: DossierError) -> Self {
        match error {
            DossierError::NothingRecorded(_) => Self::new(Exit::NO_SUCH_THING, error.to_string()),
            DossierError::Anchor(error) => error.into(),
            DossierError::Look(error) => error.into(),
            DossierError::Record(error) => error.into(),
            DossierError::Page(_) => Self::unexpected(error.to_string()),
        }
    }
}

impl From<EraseError> for Failure {
    fn from(error: EraseError) -> Self {
        match error {
            EraseError::Record(error) => error.into(),
            EraseError::NoSuchAccount(_) | EraseError::NoLegalHold(_) => {
                Self::new(Exit::NO_SUCH_THING, error.to_string())
            }
            EraseError::OnTheirWay(_) | EraseError::LegalHold(_) => Self::new(Exit::REFUSED, error.to_string()),
        }
    }
}
