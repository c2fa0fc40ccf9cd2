//! What the relay's own log says about a message, when it lies on this machine.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::Path;

use crate::files;

/// Of the end of the log. A relay that writes more than this a day keeps its log elsewhere.
const LOOKED_AT: u64 = 64 * 1024 * 1024;
/// A message leaves a handful of lines; one that is tried for days leaves many.
const AT_MOST: usize = 40;

/// The lines about the message with that Message-ID: those that name it, and, as Postfix and Exim write, those of the
/// queue ids under which it was taken. The last ones of them, from the end of the log.
///
/// # Errors
/// When the log cannot be read.
pub fn relay_log(path: &Path, message_id: &str) -> io::Result<Vec<String>> {
    let mut file = files::open(path)?;
    let skipped = file.metadata()?.len().saturating_sub(LOOKED_AT);
    file.seek(SeekFrom::Start(skipped))?;
    let id = message_id.trim_matches(['<', '>']);
    let mut found = Vec::new();
    let mut queue_ids: BTreeSet<String> = BTreeSet::new();
    for line in BufReader::new(file).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        let names_it = line.contains(id);
        if names_it {
            queue_ids.extend(queue_id(&line).map(str::to_owned));
        }
        if names_it || queue_id(&line).is_some_and(|id| queue_ids.contains(id)) {
            found.push(line.trim_end().to_owned());
        }
    }
    found.drain(..found.len().saturating_sub(AT_MOST));
    Ok(found)
}

/// The queue id of a line: `… postfix/cleanup[12]: 4F2A: message-id=…` or Exim's `2026-03-10 10:00:00 1abc-0002-XY <= …`.
fn queue_id(line: &str) -> Option<&str> {
    let of_postfix = line.split_once("]: ").and_then(|(_, rest)| rest.split_once(": ")).map(|(id, _)| id);
    let of_exim = || line.split(' ').nth(2).filter(|word| word.contains('-'));
    of_postfix.or_else(of_exim).filter(|id| id.len() > 3 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'))
}
