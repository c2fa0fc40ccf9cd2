//! `import opening`: stages reached elsewhere, as rows of `item_id,stage,done_on,by`.

use std::fmt;

use chrono::NaiveDate;

use crate::model::{Called, ItemId, StageName, parse_day};

/// The columns, by which the file is known.
const COLUMNS: [&str; 4] = ["item_id", "stage", "done_on", "by"];

/// One stage of one item that somebody did elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpeningRow {
    /// The line of the file.
    pub line: u64,
    pub item: ItemId,
    pub stage: StageName,
    pub done_on: NaiveDate,
    pub by: Called,
}

/// What is wrong with a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpeningProblem {
    pub line: u64,
    pub column: &'static str,
    pub text: String,
}

impl fmt::Display for OpeningProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.text)
    }
}

/// Reads the file.
///
/// # Errors
/// Every row that is not one, each with line and column.
pub fn read_opening(text: &[u8]) -> Result<Vec<OpeningRow>, Vec<OpeningProblem>> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text);
    let broken = |line, text: String| vec![OpeningProblem { line, column: "item_id", text }];
    let header = reader.headers().map_err(|error| broken(1, error.to_string()))?;
    let wanted = COLUMNS.join(",");
    // Spreadsheets write a byte order mark before the first name.
    if !header.iter().map(|name| name.trim_start_matches('\u{feff}')).eq(COLUMNS) {
        return Err(broken(1, format!("the first line must be {wanted}")));
    }
    let mut rows = Vec::new();
    let mut problems = Vec::new();
    for record in reader.records() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                problems.push(OpeningProblem { line, column: "item_id", text: error.to_string() });
                continue;
            }
        };
        let line = record.position().map_or(0, csv::Position::line);
        let mut wrong = |column, text: String| problems.push(OpeningProblem { line, column, text });
        let field = |n: usize| record.get(n).unwrap_or_default();
        let item = ItemId::parse(field(0)).map_err(|error| wrong("item_id", error.to_string())).ok();
        let stage = StageName::parse(field(1)).map_err(|error| wrong("stage", error.to_string())).ok();
        let done_on = parse_day(field(2)).map_err(|error| wrong("done_on", error.to_string())).ok();
        let by = Called::parse(field(3)).map_err(|error| match field(3) {
            "" => wrong("by", "it is empty: say who did it".to_owned()),
            _ => wrong("by", error.to_string()),
        });
        if let (Some(item), Some(stage), Some(done_on), Ok(by)) = (item, stage, done_on, by) {
            rows.push(OpeningRow { line, item, stage, done_on, by });
        }
    }
    if problems.is_empty() { Ok(rows) } else { Err(problems) }
}
