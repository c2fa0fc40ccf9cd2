//! `import csv`: a file of somebody's ledger into our own tables, all of it or nothing, in one transaction.
//!
//! ```text
//!  file -> source (records) -> row (values, rules) -> COPY into a staging table
//!       -> store (compare) -> apply (upsert, close)
//! ```

mod apply;
mod opening;
mod report;
mod row;
mod source;
mod store;
mod values;

use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, FixedOffset};
use sqlx::{Connection as _, PgConnection};

pub use opening::{OpeningProblem, OpeningRow, read_opening};
pub use report::{Counts, Covered, ImportReport, Reject, StructureError};

use self::report::Rejects;
use self::row::Layout;
use self::source::Records;
use self::store::Staging;
use super::profile::{Profile, ProfileError, Scope};

/// What the operator says about one import.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Instead of the profile's scope.
    pub scope: Option<Scope>,
    /// Up to when the file knows payments; instead of the profile's column. Never the time of the file.
    pub payments_as_of: Option<DateTime<FixedOffset>>,
    /// Do everything, then undo it.
    pub dry_run: bool,
    /// Import the good rows although others are rejected.
    pub allow_rejects: bool,
    /// Close what a file of all open items lacks, however much it is.
    pub allow_shrunk: bool,
    /// Where rejected rows go.
    pub reject_file: Option<PathBuf>,
}

/// How many of so many open items a file of all of them may lack, since what is paid is not in it: half of them, which is
/// what a month brings in, and never so few that a small ledger is refused.
fn may_lack(open: i64) -> i64 {
    20.max(open / 2)
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Rows were rejected, and that was not allowed, or none was left.
    #[error("{} of {} rows were rejected, nothing was imported", .0.rejected, .0.rows)]
    Rejected(Box<ImportReport>),
    /// The file as a whole is not what the profile describes.
    #[error("{0}")]
    Structure(StructureError),
    /// It would close more of a creditor's open items than are paid between two imports.
    #[error(
        "the file lacks {absent} of the {open} open items of creditor {creditor} (limit {}), and would close all of them as \
         paid; is it cut off, or a file of changes (--scope delta)? Nothing was imported. If they are all settled, add \
         --allow-shrunk",
        may_lack(*.open)
    )]
    Shrunk { creditor: String, absent: i64, open: i64 },
    /// Neither the command nor the profile says up to when payments are known.
    #[error(
        "it is not known up to when this file knows payments: give --payments-as-of, \
         or payments_as_of in the profile's [import]"
    )]
    PaymentsAsOfUnknown,
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// `ledger` is the operator's own, or not there.
    #[error("{0}")]
    NotBuiltIn(String),
    /// Another import is at work.
    #[error("another import is running; nothing was imported")]
    Busy,
    #[error("{}", database_message(.0))]
    Database(#[from] sqlx::Error),
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// The server's own words; the library would add a line of PostgreSQL's source.
fn database_message(error: &sqlx::Error) -> String {
    error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
}

fn structure(message: impl Into<String>) -> ImportError {
    ImportError::Structure(StructureError { row: None, column: None, message: message.into() })
}

/// What is sent to the server at once.
const COPY_BYTES: usize = 256 * 1024;

/// Imports a CSV file into the built-in ledger tables. `connection` belongs to `dunningd_admin` or another member of
/// `dunningd_owner`. One transaction: after an error nothing has changed.
///
/// # Errors
/// See [`ImportError`].
pub async fn import_csv(
    connection: &mut PgConnection,
    profile: &Profile,
    file: &Path,
    options: &ImportOptions,
) -> Result<ImportReport, ImportError> {
    import_csv_with_progress(connection, profile, file, options, &mut |_| {}).await
}

/// As [`import_csv`]; `progress` is called now and then with the number of bytes read so far.
///
/// # Errors
/// See [`ImportError`].
pub async fn import_csv_with_progress(
    connection: &mut PgConnection,
    profile: &Profile,
    file: &Path,
    options: &ImportOptions,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<ImportReport, ImportError> {
    let mut records = Records::open(file, profile)?;
    let layout = Layout::new(profile, &records)?;
    if options.payments_as_of.is_none() && !layout.has_as_of() {
        return Err(ImportError::PaymentsAsOfUnknown);
    }
    let mut rejects = Rejects::new(options.reject_file.as_deref(), &records.header);
    let reject_error = |source| ImportError::Io { path: options.reject_file.clone().unwrap_or_default(), source };

    let mut transaction = connection.begin().await?;
    store::require_built_in(&mut transaction).await?;
    store::lock(&mut transaction).await?;
    let staging = Staging::create(&mut transaction, &layout).await?;

    let rows = load(&mut transaction, &staging, &layout, &mut records, &mut rejects, progress, &reject_error).await?;
    if rows == 0 {
        return Err(structure("the file has a header and no rows"));
    }
    let mut notes = layout.slips(&records);
    staging.compare(&mut transaction, profile, &mut rejects, &mut notes, &reject_error).await?;

    let rejected = rejects.rows();
    let (rejected_rows, first_rejects, reject_file) = rejects.finish().map_err(&reject_error)?;
    let mut report = ImportReport {
        file: file.to_owned(),
        profile: profile.name.clone(),
        scope: options.scope.unwrap_or(profile.scope),
        dry_run: options.dry_run,
        rows,
        accounts: Counts::default(),
        contacts: Counts::default(),
        items: Counts::default(),
        closed: 0,
        absent: 0,
        covered: Vec::new(),
        rejected: rejected_rows,
        rejects: first_rejects,
        reject_file,
        notes,
    };
    if rejected > 0 && (!options.allow_rejects || rejected == rows) {
        transaction.rollback().await?;
        return Err(ImportError::Rejected(Box::new(report)));
    }
    staging.write(&mut transaction, &mut report, options).await?;
    if options.dry_run {
        transaction.rollback().await?;
    } else {
        transaction.commit().await?;
    }
    Ok(report)
}

/// Streams the file into the staging table; gives the number of records.
async fn load(
    connection: &mut PgConnection,
    staging: &Staging,
    layout: &Layout<'_>,
    records: &mut Records,
    rejects: &mut Rejects,
    progress: &mut (dyn FnMut(u64) + Send),
    reject_error: &(dyn Fn(io::Error) -> ImportError + Sync),
) -> Result<u64, ImportError> {
    let mut copy = connection.copy_in_raw(&staging.copy_statement()).await?;
    let mut buffer = String::with_capacity(COPY_BYTES * 2);
    let mut rows = 0;
    loop {
        let row = match records.next() {
            Ok(Some(row)) => row,
            Ok(None) => break,
            Err(error) => {
                copy.abort("the file cannot be read").await?;
                return Err(error);
            }
        };
        rows += 1;
        match layout.read(row, records) {
            Ok(good) => store::copy_line(&mut buffer, row, &records.record, &good),
            Err(findings) => {
                for reject in findings {
                    if let Err(error) = rejects.add(reject, records.record.iter()) {
                        copy.abort("the reject file cannot be written").await?;
                        return Err(reject_error(error));
                    }
                }
            }
        }
        if buffer.len() >= COPY_BYTES {
            copy.send(buffer.as_bytes()).await?;
            buffer.clear();
            progress(records.bytes_read());
        }
    }
    copy.send(buffer.as_bytes()).await?;
    copy.finish().await?;
    progress(records.bytes_read());
    Ok(rows)
}
