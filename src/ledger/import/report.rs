//! What an import did, for people and for programs; and the file of the rows that it did not take.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use chrono::{DateTime, FixedOffset};
use serde::Serialize;

use crate::ledger::profile::Scope;
use crate::model::printable;

/// How many rejected rows a report shows; all of them are in the reject file.
pub(in crate::ledger::import) const REJECTS_SHOWN: usize = 20;

/// Reasons may quote values of other rows.
const REASON_SHOWN: usize = 400;

/// Longer values are cut in messages.
const VALUE_SHOWN: usize = 60;

/// A row that was not imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reject {
    /// The line of the file on which the record begins.
    pub row: u64,
    /// The file's column, where one is to blame.
    pub column: Option<String>,
    /// Cut to a readable length, control characters escaped.
    pub value: Option<String>,
    /// Why, and what to do.
    pub reason: String,
}

impl Reject {
    pub(super) fn new(row: u64, column: Option<&str>, value: Option<&str>, reason: impl Into<String>) -> Self {
        Self {
            row,
            column: column.map(str::to_owned),
            value: value.map(|value| cut(value, VALUE_SHOWN)),
            reason: cut(&reason.into(), REASON_SHOWN),
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row {}", self.row)?;
        if let Some(column) = &self.column {
            write!(f, ", {}", cut(column, VALUE_SHOWN))?;
        }
        if let Some(value) = &self.value {
            write!(f, " = \"{value}\"")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// Something about the file as a whole, so that its rows cannot be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct StructureError {
    /// The line of the file, where it is about one.
    pub row: Option<u64>,
    pub column: Option<String>,
    pub message: String,
}

impl fmt::Display for StructureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(row) = self.row {
            write!(f, "row {row}")?;
            if let Some(column) = &self.column {
                write!(f, ", {}", cut(column, VALUE_SHOWN))?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.message)
    }
}

/// How many rows of a relation are new, changed or already as the file has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub new: u64,
    pub changed: u64,
    pub unchanged: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} new, {} changed, {} unchanged", self.new, self.changed, self.unchanged)
    }
}

/// Up to when a creditor's payments are now known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Covered {
    pub creditor: String,
    pub payments_as_of: DateTime<FixedOffset>,
}

/// What an import did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImportReport {
    pub file: PathBuf,
    pub profile: String,
    pub scope: Scope,
    /// Nothing was written.
    pub dry_run: bool,
    /// Records below the header.
    pub rows: u64,
    pub accounts: Counts,
    pub contacts: Counts,
    pub items: Counts,
    /// Items that were open, are absent from a file of all open items, and are therefore settled.
    pub closed: u64,
    /// Items of these creditors that the file does not mention and that were left alone.
    pub absent: u64,
    pub covered: Vec<Covered>,
    /// Rows that were not imported.
    pub rejected: u64,
    /// The first of them, by row.
    pub rejects: Vec<Reject>,
    /// Where all of them are.
    pub reject_file: Option<PathBuf>,
    pub notes: Vec<String>,
}

impl fmt::Display for ImportReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} rows, profile {} ({})", self.file.display(), self.rows, self.profile, self.scope.as_str())?;
        if self.rejected == 0 {
            writeln!(f, "  rejected  none")?;
        } else {
            writeln!(f, "  rejected  {}", self.rejected)?;
        }
        for reject in &self.rejects {
            writeln!(f, "    {reject}")?;
        }
        if self.rejects.len() == REJECTS_SHOWN {
            match &self.reject_file {
                Some(path) => writeln!(f, "    these are the first {REJECTS_SHOWN}; all are in {}", path.display())?,
                None => writeln!(f, "    these are the first {REJECTS_SHOWN}; --reject-file writes all of them")?,
            }
        } else if let Some(path) = &self.reject_file {
            writeln!(f, "    also in {}", path.display())?;
        }
        for (name, counts) in [("accounts", self.accounts), ("contacts", self.contacts), ("items", self.items)] {
            writeln!(f, "  {name:<9} {counts}")?;
        }
        if self.scope == Scope::FullOpenItems {
            writeln!(f, "  closed    {} (absent from a file of all open items)", self.closed)?;
        }
        for covered in &self.covered {
            writeln!(f, "  payments  of {} up to {}", covered.creditor, covered.payments_as_of.to_rfc3339())?;
        }
        for note in &self.notes {
            writeln!(f, "  note      {note}")?;
        }
        if self.dry_run {
            writeln!(f, "  dry run: nothing was written")?;
        }
        Ok(())
    }
}

/// A text on one line that cannot disturb a terminal, cut.
pub(super) fn cut(text: &str, length: usize) -> String {
    let mut shown = printable(text.chars().take(length), &[]);
    if text.chars().nth(length).is_some() {
        shown.push('…');
    }
    shown
}

/// Collects rejects: the first ones for the report, all of them for the file.
pub(super) struct Rejects {
    first: Vec<Reject>,
    rows: u64,
    last_row: Option<u64>,
    file: Option<RejectFile>,
}

impl Rejects {
    pub(super) fn new(path: Option<&Path>, header: &[String]) -> Self {
        let file = path.map(|path| RejectFile { path: path.to_owned(), header: header.to_owned(), writer: None });
        Self { first: Vec::new(), rows: 0, last_row: None, file }
    }

    /// Notes one; `record` is the row as the file has it.
    pub(super) fn add<'c>(&mut self, reject: Reject, record: impl Iterator<Item = &'c str>) -> io::Result<()> {
        // Several findings about one row come one after the other.
        if self.last_row.replace(reject.row) != Some(reject.row) {
            self.rows += 1;
        }
        if let Some(file) = &mut self.file {
            file.write(&reject, record)?;
        }
        // Rows found by comparing rows come later than rows that are wrong by themselves.
        let at = self.first.partition_point(|known| known.row <= reject.row);
        if at < REJECTS_SHOWN {
            self.first.insert(at, reject);
            self.first.truncate(REJECTS_SHOWN);
        }
        Ok(())
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Puts the file in its place, if anything was rejected.
    pub(super) fn finish(self) -> io::Result<(u64, Vec<Reject>, Option<PathBuf>)> {
        let written = match self.file {
            Some(file) => file.finish()?,
            None => None,
        };
        Ok((self.rows, self.first, written))
    }
}

/// A cell as the file had it, so that the row can be imported again once it is corrected: formulas too, which only its
/// writer can tell from what they look like. Control characters, with which no row is accepted, are spelled out.
fn shown(cell: &str) -> String {
    let mut text = String::new();
    for c in cell.chars() {
        if c.is_control() && !matches!(c, '\n' | '\r' | '\t') {
            text.push_str(&printable([c], &[]));
        } else {
            text.push(c);
        }
    }
    text
}

/// What we say about a row, as words that no spreadsheet takes for a formula.
fn told(text: &str) -> String {
    let text = printable(text.chars(), &[]);
    if text.trim_start().starts_with(['=', '+', '-', '@']) { format!("'{text}") } else { text }
}

struct RejectFile {
    path: PathBuf,
    header: Vec<String>,
    writer: Option<csv::Writer<BufWriter<File>>>,
}

impl RejectFile {
    fn partial(&self) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.partial", std::process::id()));
        self.path.with_file_name(name)
    }

    fn write<'c>(&mut self, reject: &Reject, record: impl Iterator<Item = &'c str>) -> io::Result<()> {
        if self.writer.is_none() {
            // It holds debtors' data.
            let partial = self.partial();
            // Left behind by an import of the same number that was killed.
            drop(fs::remove_file(&partial));
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(partial)?;
            let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(BufWriter::new(file));
            for name in ["row", "column", "value", "reason"] {
                writer.write_field(name)?;
            }
            for name in &self.header {
                writer.write_field(shown(name))?;
            }
            writer.write_record(None::<&[u8]>)?;
            self.writer = Some(writer);
        }
        if let Some(writer) = &mut self.writer {
            writer.write_field(reject.row.to_string())?;
            writer.write_field(told(reject.column.as_deref().unwrap_or_default()))?;
            writer.write_field(told(reject.value.as_deref().unwrap_or_default()))?;
            writer.write_field(told(&reject.reason))?;
            for cell in record {
                writer.write_field(shown(cell))?;
            }
            writer.write_record(None::<&[u8]>)?;
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<Option<PathBuf>> {
        let Some(writer) = self.writer.take() else { return Ok(None) };
        let mut buffer = writer.into_inner().map_err(|error| io::Error::other(error.to_string()))?;
        buffer.flush()?;
        buffer.get_ref().sync_all()?;
        fs::rename(self.partial(), &self.path)?;
        Ok(Some(self.path.clone()))
    }
}

impl Drop for RejectFile {
    /// An import that stopped half-way leaves no half file.
    fn drop(&mut self) {
        if self.writer.take().is_some() {
            drop(fs::remove_file(self.partial()));
        }
    }
}
