//! The file: bytes to decoded records, in bounded memory whatever the file holds.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use csv::{ByteRecord, ReaderBuilder, StringRecord, Terminator};

use super::report::{StructureError, cut};
use super::{ImportError, structure};
use crate::ledger::profile::{Encoding, Profile, did_you_mean};

/// No honest record is longer; without a limit one unclosed quote would read the rest of the file into memory.
pub(super) const MAX_RECORD_BYTES: usize = 1024 * 1024;

/// The records of a file, one after the other.
pub(super) struct Records {
    reader: csv::Reader<Normalised>,
    encoding: Encoding,
    delimiter: u8,
    bytes: ByteRecord,
    /// The current record, decoded; its cells are not trimmed.
    pub(super) record: StringRecord,
    /// The names of the columns, in the file's order.
    pub(super) header: Vec<String>,
    positions: HashMap<String, usize>,
}

impl Records {
    /// Opens the file and reads its header.
    pub(super) fn open(path: &Path, profile: &Profile) -> Result<Self, ImportError> {
        let file = File::open(path).map_err(|source| ImportError::Io { path: path.to_owned(), source })?;
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(profile.file.delimiter)
            .terminator(Terminator::Any(b'\n'))
            .from_reader(Normalised::new(file));
        let mut records = Self {
            reader,
            encoding: profile.file.encoding,
            delimiter: profile.file.delimiter,
            bytes: ByteRecord::new(),
            record: StringRecord::new(),
            header: Vec::new(),
            positions: HashMap::new(),
        };
        records.header = match &profile.file.columns {
            Some(columns) => columns.clone(),
            None => match records.next()? {
                Some(_) => records.record.iter().map(|name| name.trim().to_owned()).collect(),
                None => return Err(structure("the file is empty; not even a header is in it")),
            },
        };
        for (position, name) in records.header.iter().enumerate() {
            records.positions.entry(name.clone()).or_insert(position);
        }
        Ok(records)
    }

    /// Reads the next record and says on which line of the file it begins.
    pub(super) fn next(&mut self) -> Result<Option<u64>, ImportError> {
        self.reader.get_mut().since_record = 0;
        let before = self.reader.position().line();
        match self.reader.read_byte_record(&mut self.bytes) {
            Ok(false) => return Ok(None),
            Ok(true) => {}
            Err(error) => return Err(unreadable(error, before)),
        }
        // Counted from the end: blank lines before a record are skipped by the reader.
        let inside = self.bytes.as_slice().split(|byte| *byte == b'\n').skip(1).count() as u64;
        // A quote that is never closed takes the end of the file with it.
        let row = self.reader.position().line().saturating_sub(inside + 1).max(before);
        self.decode(row)?;
        Ok(Some(row))
    }

    /// The trimmed text of a column of the current record; empty when the file has no such column.
    pub(super) fn cell(&self, column: &str) -> &str {
        self.value_of(column).unwrap_or_default().trim()
    }

    /// The column whose value in the current record has a line with as many delimiters as a row, mapped or not: a quote that
    /// is never closed takes rows along, and payments among them.
    pub(super) fn swallowing(&self) -> Option<&str> {
        let (delimiter, cells) = (char::from(self.delimiter), self.header.len());
        let is_row = |line: &str| cells > 2 && line.matches(delimiter).count() + 1 >= cells;
        let at = self.record.iter().position(|cell| cell.contains('\n') && cell.split('\n').skip(1).any(is_row))?;
        self.header.get(at).map(String::as_str)
    }

    /// The text of a column of the current record; none when the file has no such column.
    pub(super) fn value_of(&self, column: &str) -> Option<&str> {
        self.positions.get(column).and_then(|at| self.record.get(*at))
    }

    /// Whether the file has a column of that name.
    pub(super) fn has(&self, column: &str) -> bool {
        self.positions.contains_key(column)
    }

    /// How far the file was read.
    pub(super) fn bytes_read(&self) -> u64 {
        self.reader.get_ref().bytes_read
    }

    /// Refuses a header in which a needed column is missing or named twice.
    pub(super) fn require<'c>(
        &self,
        columns: impl Iterator<Item = &'c str>,
        profile: &Profile,
    ) -> Result<(), ImportError> {
        for column in columns {
            match self.header.iter().filter(|name| *name == column).count() {
                1 => {}
                0 => {
                    if let [only] = self.header.as_slice()
                        && let Some(other) = [';', ',', '\t', '|'].into_iter().find(|sign| only.contains(*sign))
                    {
                        return Err(structure(format!(
                            "the header has one column; is the delimiter {other:?}? (the profile says {:?})",
                            char::from(profile.file.delimiter)
                        )));
                    }
                    let near = did_you_mean(column, self.header.iter().map(String::as_str))
                        .map_or_else(|| ".".to_owned(), |near| format!("; did you mean {near:?}?"));
                    let found = self.named();
                    return Err(structure(format!(
                        "the header has no column {column:?}{near} It has: {found}. Correct the header or the profile"
                    )));
                }
                _ => return Err(self.twice(column)),
            }
        }
        Ok(())
    }

    /// Refuses a header in which a column that is read is named twice.
    pub(super) fn require_once<'c>(&self, columns: impl Iterator<Item = &'c str>) -> Result<(), ImportError> {
        let times = |column: &str| self.header.iter().filter(|name| *name == column).count();
        columns.filter(|column| times(column) > 1).try_for_each(|column| Err(self.twice(column)))
    }

    fn twice(&self, column: &str) -> ImportError {
        structure(format!("the header has the column {column:?} more than once: {}", self.named()))
    }

    fn named(&self) -> String {
        self.header.iter().map(|name| cut(name, 40)).collect::<Vec<_>>().join(", ")
    }

    /// Columns of the file that nothing reads, each with one that the profile reads and the file lacks, which was probably
    /// meant.
    pub(super) fn probably_meant<'c>(&self, read: &[&'c str]) -> Vec<(&str, &'c str)> {
        let unread = self.header.iter().filter(|name| !read.contains(&name.as_str()));
        let lacking = || read.iter().copied().filter(|column| !self.has(column));
        unread.filter_map(|name| Some((name.as_str(), did_you_mean(name, lacking())?))).collect()
    }

    fn decode(&mut self, row: u64) -> Result<(), ImportError> {
        let encoding = match self.encoding {
            Encoding::Utf8 => {
                let bytes = std::mem::take(&mut self.bytes);
                return match StringRecord::from_byte_record(bytes) {
                    Ok(record) => {
                        // The buffers change places, so that no record allocates.
                        let used = std::mem::replace(&mut self.record, record);
                        self.bytes = used.into_byte_record();
                        Ok(())
                    }
                    Err(error) => {
                        let at = error.utf8_error();
                        let (field, offset) = (at.field(), at.valid_up_to());
                        Err(self.not_utf8(row, field, offset, &error.into_byte_record()))
                    }
                };
            }
            Encoding::Cp1250 => encoding_rs::WINDOWS_1250,
            Encoding::Cp1251 => encoding_rs::WINDOWS_1251,
        };
        self.record.clear();
        for bytes in &self.bytes {
            self.record.push_field(&encoding.decode_without_bom_handling(bytes).0);
        }
        Ok(())
    }

    fn not_utf8(&self, row: u64, field: usize, offset: usize, record: &ByteRecord) -> ImportError {
        let value = record.get(field).unwrap_or_default();
        let read_as =
            |encoding: &'static encoding_rs::Encoding| cut(&encoding.decode_without_bom_handling(value).0, 40);
        ImportError::Structure(StructureError {
            row: Some(row),
            column: self.header.get(field).cloned(),
            message: format!(
                "byte {} of the value is not UTF-8. It reads {:?} as cp1251 and {:?} as cp1250; \
                 set `encoding` in the profile to the one that makes sense",
                offset + 1,
                read_as(encoding_rs::WINDOWS_1251),
                read_as(encoding_rs::WINDOWS_1250),
            ),
        })
    }
}

fn unreadable(error: csv::Error, row: u64) -> ImportError {
    let message = match error.into_kind() {
        csv::ErrorKind::Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<Refused>()) {
            Some(Refused::TooLong) => {
                "this record is longer than 1 MiB; is a quote not closed, or is it no CSV file?".to_owned()
            }
            Some(Refused::Utf16) => "the file is UTF-16; save it as UTF-8".to_owned(),
            None => format!("the file cannot be read further: {error}"),
        },
        other => format!("the file cannot be read further: {other:?}"),
    };
    ImportError::Structure(StructureError { row: Some(row), column: None, message })
}

#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("record too long")]
    TooLong,
    #[error("UTF-16")]
    Utf16,
}

/// The file without its byte order mark, with `\n` at the end of every line, and with an end to its patience: it
/// refuses to go on when nobody made a record out of the last mebibyte.
struct Normalised {
    file: File,
    input: Box<[u8]>,
    output: Vec<u8>,
    /// How much of `output` was handed out.
    taken: usize,
    held_return: bool,
    ended: bool,
    last: u8,
    bytes_read: u64,
    since_record: usize,
}

impl Normalised {
    fn new(file: File) -> Self {
        let input = vec![0; 64 * 1024].into_boxed_slice();
        Self {
            file,
            input,
            output: Vec::new(),
            taken: 0,
            held_return: false,
            ended: false,
            last: b'\n',
            bytes_read: 0,
            since_record: 0,
        }
    }

    fn refill(&mut self) -> io::Result<()> {
        self.output.clear();
        self.taken = 0;
        let mut length = self.file.read(&mut self.input)?;
        let mut start = 0;
        if self.bytes_read == 0 {
            // A pipe may give the first bytes one by one.
            while length > 0 && length < 3 {
                let more = self.file.read(&mut self.input[length..])?;
                if more == 0 {
                    break;
                }
                length += more;
            }
            match &self.input[..length] {
                [0xEF, 0xBB, 0xBF, ..] => start = 3,
                [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => return Err(io::Error::other(Refused::Utf16)),
                _ => {}
            }
        }
        self.bytes_read += length as u64;
        for &byte in &self.input[start..length] {
            if std::mem::take(&mut self.held_return) && byte != b'\n' {
                self.output.push(b'\r');
            }
            if byte == b'\r' {
                self.held_return = true;
            } else {
                self.output.push(byte);
            }
        }
        if let Some(last) = self.output.last() {
            self.last = *last;
        }
        self.ended = length == 0;
        if self.ended && self.last != b'\n' {
            self.output.push(b'\n');
        }
        Ok(())
    }
}

impl Read for Normalised {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.since_record > MAX_RECORD_BYTES {
            return Err(io::Error::other(Refused::TooLong));
        }
        // A chunk of nothing but a carriage return or a byte order mark is not the end of the file.
        while self.taken == self.output.len() && !self.ended {
            self.refill()?;
        }
        let length = into.len().min(self.output.len() - self.taken);
        into[..length].copy_from_slice(&self.output[self.taken..self.taken + length]);
        self.taken += length;
        self.since_record += length;
        Ok(length)
    }
}
