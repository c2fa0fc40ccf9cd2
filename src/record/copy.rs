//! Rows in the binary form of COPY: what is large goes to the server once, as it stands, and is taken apart by nobody.

use sqlx::PgConnection;

use super::RecordError;

/// Before the first row: signature, flags, and no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// After the last row.
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();

/// Rows of one table, none of whose values is NULL.
#[derive(Debug, Default)]
pub(super) struct CopyRows {
    rows: Vec<u8>,
}

impl CopyRows {
    /// Adds a row; each value as its type's binary form has it: text, bytea and json as they are, uuid as its 16 bytes.
    pub(super) fn push(&mut self, row: &[&[u8]]) {
        // A length that does not fit is one that the server refuses.
        self.rows.extend(i16::try_from(row.len()).unwrap_or(i16::MAX).to_be_bytes());
        for value in row {
            self.rows.extend(i32::try_from(value.len()).unwrap_or(i32::MAX).to_be_bytes());
            self.rows.extend_from_slice(value);
        }
    }

    /// Gives the rows to the server. `statement`: COPY of a table, with its columns, from STDIN in binary.
    pub(super) async fn copy(&self, connection: &mut PgConnection, statement: &str) -> Result<(), RecordError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let mut copy = connection.copy_in_raw(statement).await?;
        for part in [HEADER, &self.rows, &TRAILER] {
            copy.send(part).await?;
        }
        copy.finish().await?;
        Ok(())
    }
}
