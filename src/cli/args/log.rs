//! The contact log, and what is on record about one account: shown, proved, erased.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::model::Reason;

use super::ReasonArgs;
use super::register::words;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum LogCommand {
    /// Print events
    Show(LogShowArgs),
    /// Write the log, and every message exactly as sent, into a folder
    Export(LogExportArgs),
    /// Verify the log, or an export, a dossier or a proof alone
    Verify(LogVerifyArgs),
    /// Make the key that signs checkpoints, and print the public one
    Keygen(LogKeygenArgs),
    /// Sign the log as it is now: a checkpoint for whoever keeps it outside
    Anchor(LogAnchorArgs),
    /// Prove that the events of one account stand in the signed log, without showing others
    Prove(LogProveArgs),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct LogKeygenArgs {
    /// The name of this log, such as example.com/dunning; it stands in every checkpoint
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) origin: String,
    /// A new file for the secret key, which only you can read
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) out: PathBuf,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct LogAnchorArgs {
    /// Write the checkpoint into a new file instead of printing it
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct LogProveArgs {
    /// The account's id in the ledger
    pub(in crate::cli) account: String,
    /// A new file for the proof
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) out: PathBuf,
    /// Prove as well that the log only grew since this checkpoint
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) since: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DossierArgs {
    /// The account's id in the ledger
    pub(in crate::cli) account: String,
    /// A new zip file
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) out: PathBuf,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct EraseArgs {
    /// The account's id in the ledger
    pub(in crate::cli) account: String,
    /// The provision that asks for it; kept in the log for ever
    #[arg(long, value_name = "TEXT", default_value = "GDPR art. 17(1)", value_parser = words(Reason::parse))]
    pub(in crate::cli) legal_ground: Reason,
    #[command(flatten)]
    pub(in crate::cli) why: ReasonArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct LegalHoldArgs {
    /// The account's id in the ledger
    pub(in crate::cli) account: String,
    /// It ends
    #[arg(long)]
    pub(in crate::cli) lift: bool,
    #[command(flatten)]
    pub(in crate::cli) why: ReasonArgs,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct LogShowArgs {
    /// Only events about this account
    #[arg(long)]
    pub(in crate::cli) account: Option<String>,
    /// Only events after this number
    #[arg(long, default_value_t = 0)]
    pub(in crate::cli) after: i64,
    /// At most so many
    #[arg(long, default_value_t = 1000)]
    pub(in crate::cli) limit: i64,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct LogExportArgs {
    /// A new or empty folder; docs/verify.md tells what comes into it
    pub(in crate::cli) directory: PathBuf,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct LogVerifyArgs {
    /// An export's folder, its events.ndjson alone, or a dossier; then no database is needed
    #[arg(long, value_name = "PATH")]
    pub(in crate::cli) from: Option<PathBuf>,
    /// A later export, which must extend the one given with --from
    #[arg(long, value_name = "PATH", requires = "from")]
    pub(in crate::cli) against: Option<PathBuf>,
    /// A proof instead, as `log prove` writes it
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    pub(in crate::cli) proof: Option<PathBuf>,
    /// The log's public key, from elsewhere; may be given several times, for a log whose key was changed
    #[arg(long, value_name = "KEY")]
    pub(in crate::cli) key: Vec<String>,
    /// A checkpoint that you kept: the log must hold what it signed; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) checkpoint: Vec<PathBuf>,
}
