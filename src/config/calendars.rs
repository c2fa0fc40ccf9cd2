//! `calendars/*.csv`: which days of which years are worked in a country.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{Datelike as _, NaiveDate};

use super::findings::{Finding, FindingCode};
use super::source::{Part, Source};
use super::tree::Origin;
use crate::model::{Calendar, DayKind, Weekdays};

const HEADER: &str = "date,kind,name,source";

/// Every calendar by its name: the file's, without its folder and ending. What is wrong in one is found; it still
/// counts as there, so that the policy is not told that it lacks one.
pub(super) fn read(sources: &[Source], found: &mut Vec<(Origin, Finding)>) -> BTreeMap<String, Calendar> {
    let texts = sources.iter().enumerate().filter(|(_, source)| source.part == Part::Calendar);
    texts
        .map(|(index, source)| {
            let name = name_of(source).to_owned();
            (name.clone(), Reader { index, source, found }.read(name))
        })
        .collect()
}

fn name_of(source: &Source) -> &str {
    Path::new(&source.name).file_stem().and_then(|stem| stem.to_str()).unwrap_or(&source.name)
}

struct Reader<'a> {
    index: usize,
    source: &'a Source,
    found: &'a mut Vec<(Origin, Finding)>,
}

impl Reader<'_> {
    fn read(mut self, name: String) -> Calendar {
        let found_before = self.found.len();
        let mut years = None;
        let mut header_seen = false;
        let mut days = BTreeMap::new();
        // Spreadsheets begin a file with a mark that nobody sees.
        let text = self.source.text.trim_start_matches('\u{feff}');
        let mut start = self.source.text.len() - text.len();
        for line in text.split_inclusive('\n') {
            let row = line.trim_end();
            if let Some(comment) = row.strip_prefix('#') {
                if let Some(written) = comment.trim().strip_prefix("years:") {
                    years = parse_years(written);
                    if years.is_none() {
                        self.note(start, row, FindingCode::InvalidValue, "write the years as `# years: 2024-2027`");
                    }
                }
            } else if !header_seen && !row.is_empty() {
                header_seen = true;
                if row != HEADER {
                    let message = format!("the first row names the columns: write `{HEADER}`");
                    self.note(start, row, FindingCode::InvalidValue, message);
                    return Calendar { name, years, week: Weekdays::MONDAY_TO_FRIDAY, days };
                }
            } else if !row.is_empty() {
                self.row(start, row, years, &mut days);
            }
            start += line.len();
        }
        // A row that could not be read may be the one that seems to be missing.
        if self.found.len() == found_before {
            self.covered(years, &days);
        }
        // Without years it would hold for every one of them.
        Calendar { name, years: years.or(Some((1, 0))), week: Weekdays::MONDAY_TO_FRIDAY, days }
    }

    fn row(&mut self, start: usize, row: &str, years: Option<(i32, i32)>, days: &mut BTreeMap<NaiveDate, DayKind>) {
        let mut cells = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(row.as_bytes());
        let cells = cells.records().next().and_then(Result::ok).unwrap_or_default();
        let [Some(date), Some(kind), Some(_), Some(_), None] = [0, 1, 2, 3, 4].map(|n| cells.get(n)) else {
            let message = format!("a row has the four columns {HEADER}; a name with a comma stands in quotes");
            self.note(start, row, FindingCode::InvalidValue, message);
            return;
        };
        let Ok(day) = date.parse::<NaiveDate>() else {
            self.note(start, date, FindingCode::InvalidValue, "write the date as 2026-12-25");
            return;
        };
        let Some(parsed) = DayKind::parse(kind) else {
            let message = "`kind` must be \"holiday\" or \"working\"";
            self.note(start + date.len() + 1, kind, FindingCode::UnknownValue, message);
            return;
        };
        if years.is_some_and(|(first, last)| !(first..=last).contains(&day.year())) {
            let message = format!("{day} is not in the years that the head of the file names; correct one of them");
            self.note(start, date, FindingCode::OutOfRange, message);
        }
        if days.insert(day, parsed).is_some() {
            self.note(
                start,
                date,
                FindingCode::DuplicateName,
                format!("{day} stands here twice: remove one of the rows"),
            );
        }
    }

    /// A year that is said to be covered and has no row is one that somebody forgot to fill in.
    fn covered(&mut self, years: Option<(i32, i32)>, days: &BTreeMap<NaiveDate, DayKind>) {
        let Some((first, last)) = years else {
            let message = "nothing says which years this calendar covers: add `# years: 2024-2027` above the columns";
            self.note(0, self.source.text.lines().next().unwrap_or_default(), FindingCode::MissingKey, message);
            return;
        };
        let empty: Vec<String> = (first..=last)
            .filter(|year| !days.keys().any(|day| day.year() == *year))
            .map(|year| year.to_string())
            .collect();
        if !empty.is_empty() {
            let message = format!(
                "no day of {} is given, though the head says that the calendar covers it: add its days or correct the \
                 head",
                empty.join(", ")
            );
            let at = self.source.text.find("years:").unwrap_or_default();
            let shown = self.source.text.get(at..).and_then(|rest| rest.lines().next()).unwrap_or_default();
            self.note(at, shown, FindingCode::Conflict, message);
        }
    }

    fn note(&mut self, start: usize, shown: &str, code: FindingCode, message: impl Into<String>) {
        let end = start + shown.len();
        let finding = Finding::new(code, self.source.place(start, end), message);
        self.found.push((Origin::Text { source: self.index, start, end }, finding));
    }
}

/// `2024-2027`, or `2027`.
fn parse_years(written: &str) -> Option<(i32, i32)> {
    let written = written.trim();
    let (first, last) = written.split_once('-').unwrap_or((written, written));
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first <= last && first >= 1900 && last <= 2200).then_some((first, last))
}
