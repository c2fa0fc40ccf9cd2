//! What relays answered, on this machine's own disk before the database is told: whoever dies between a 250 and its
//! commit leaves it here, and the next start settles the notice by it.
//!
//! A line is `<first 16 hex digits of SHA-256> <JSON>\n`; behind the last one lie the zeros of the room that is kept free.
//! A line is written when its reply arrives; [`Journal::sync`] makes all lines so far outlast a crash of the machine.
//! Each process has a file of its own, `journal.0` to `journal.15`, and takes over what dead ones left. The lines hold what
//! relays said, addresses included: once everything in a file is settled, the file begins anew.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::files;
use crate::model::Outcome;

/// Processes on one directory at a time.
const FILES: usize = 16;
/// Kept free beyond the last line: more than everything that can be on the wire at once will write.
const ROOM: u64 = 2 * 1024 * 1024;
/// Of the words of a reply; what is longer is cut.
const REPLY_KEPT: usize = 1_000;
const SUM: usize = 16;

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    pub attempt: Uuid,
    pub notice: Uuid,
    /// Of the claim under which it was sent.
    pub token: Uuid,
    pub at: DateTime<Utc>,
    pub outcome: Outcome,
}

/// How far the contact log had come when it was last seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogHead {
    /// Its number of events.
    pub events: i64,
    /// The chain hash of the last one, in hex.
    pub chain_hash: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Ending(Ending),
    Head(LogHead),
}

/// Why replies cannot be kept. As long as that lasts nothing may be claimed.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error(
        "{} cannot be used for the journal of replies: {source}; [state] `directory` of dunningd.toml names another place",
        path.display()
    )]
    Unusable { path: PathBuf, source: io::Error },
    #[error("{} serves {FILES} processes already; let each machine and each installation have its own", .0.display())]
    Crowded(PathBuf),
    #[error("the journal of replies broke off earlier ({0}); restart once its disk works")]
    Broken(String),
}

impl JournalError {
    /// Whether its disk is full or fails, which may pass; anything else is how it is set up.
    #[must_use]
    pub fn is_of_the_disk(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        let Self::Unusable { source, .. } = self else { return false };
        matches!(source.kind(), StorageFull | QuotaExceeded)
            || source.raw_os_error() == Some(nix::errno::Errno::EIO as i32)
    }
}

/// The journal of this process. Dropped, it leaves its file to the next one.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// Holds the lock on this process's number for as long as the journal lives.
    _lock: File,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: Arc<File>,
    /// Where the next line goes, and how far room is kept.
    end: u64,
    room: u64,
    unsettled: BTreeMap<Uuid, Ending>,
    /// Lines other than one head are in the file.
    used: bool,
    head: Option<LogHead>,
    broken: Option<String>,
}

/// What a file held.
#[derive(Default)]
struct Found {
    endings: Vec<Ending>,
    head: Option<LogHead>,
    /// Lines that do not add up, with good ones behind them.
    corrupt: Vec<usize>,
}

impl Journal {
    /// Opens the journal in that directory, which is made if need be, and takes over what dead processes left there.
    ///
    /// # Errors
    /// When the directory cannot be written, has no room, or serves too many processes.
    pub fn open(directory: &Path) -> Result<Self, JournalError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            |source| JournalError::Unusable { path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(unusable(directory))?;
        let mut own = None;
        let mut all = Found::default();
        let mut left = Vec::new();
        for number in 0..FILES {
            let path = directory.join(format!("journal.{number}"));
            if own.is_some() && !path.exists() {
                continue;
            }
            let lock_path = beside(&path, "lock");
            let Some(lock) = locked(&lock_path).map_err(unusable(&lock_path))? else { continue };
            let found = read(&path).map_err(unusable(&path))?;
            for line in &found.corrupt {
                tracing::error!(file = %path.display(), line, "a line of the journal of replies does not add up");
            }
            all.endings.extend(found.endings);
            all.head = later(all.head, found.head);
            match own {
                None => own = Some((path, lock)),
                Some(_) => left.push((path, lock)),
            }
        }
        let Some((path, lock)) = own else { return Err(JournalError::Crowded(directory.to_owned())) };
        let unsettled: BTreeMap<Uuid, Ending> = all.endings.into_iter().map(|one| (one.attempt, one)).collect();
        let (file, end) = rewritten(&path, all.head.as_ref(), unsettled.values()).map_err(unusable(&path))?;
        for (path, _lock) in left {
            fs::remove_file(&path).map_err(unusable(&path))?;
        }
        let used = !unsettled.is_empty();
        let inner =
            Inner { file: Arc::new(file), end, room: end + ROOM, unsettled, used, head: all.head, broken: None };
        Ok(Self { path, _lock: lock, inner: Mutex::new(inner) })
    }

    /// Makes sure that what may be on the wire at once can be written down.
    ///
    /// # Errors
    /// When it cannot: the disk is full, or an earlier line could not be written.
    pub fn ready(&self) -> Result<(), JournalError> {
        let mut inner = self.lock();
        if let Some(broken) = &inner.broken {
            return Err(JournalError::Broken(broken.clone()));
        }
        if inner.room < inner.end + ROOM / 2 {
            // Never over lines: these may have outgrown their room.
            let from = inner.room.max(inner.end);
            let more = inner.end + ROOM - from;
            allocate(&inner.file, from, more).map_err(|source| self.unusable(source))?;
            inner.room = from + more;
        }
        Ok(())
    }

    /// Writes down how an attempt ended. It outlasts this process from now on.
    ///
    /// # Errors
    /// When it cannot be written; the journal is broken then.
    pub fn note(&self, ending: Ending) -> Result<(), JournalError> {
        let mut inner = self.lock();
        inner.used = true;
        let ending = shortened(ending);
        self.write(&mut inner, &Line::Ending(ending.clone()))?;
        inner.unsettled.insert(ending.attempt, ending);
        Ok(())
    }

    /// Makes every line so far outlast a crash of the machine. Blocks.
    ///
    /// # Errors
    /// When the disk refuses; the journal is broken then, because nobody knows what is on the disk.
    pub fn sync(&self) -> Result<(), JournalError> {
        let file = Arc::clone(&self.lock().file);
        file.sync_data().map_err(|source| {
            self.lock().broken = Some(source.to_string());
            self.unusable(source)
        })
    }

    /// What the database was not told, oldest attempt first.
    #[must_use]
    pub fn unsettled(&self) -> Vec<Ending> {
        self.lock().unsettled.values().cloned().collect()
    }

    /// The database knows how these attempts ended.
    pub fn settled(&self, attempts: impl IntoIterator<Item = Uuid>) {
        let mut inner = self.lock();
        for attempt in attempts {
            inner.unsettled.remove(&attempt);
        }
    }

    /// How far the contact log had come when it was last seen, by any process on this directory that has ended.
    #[must_use]
    pub fn head(&self) -> Option<LogHead> {
        self.lock().head.clone()
    }

    /// The contact log has come so far. An earlier head says nothing new.
    ///
    /// # Errors
    /// When it cannot be written; the journal is broken then.
    pub fn saw(&self, head: LogHead) -> Result<(), JournalError> {
        if self.head().is_some_and(|seen| seen.events >= head.events) {
            return Ok(());
        }
        self.goes_on_from(head)
    }

    /// The contact log has come so far, because a person says that this counts, although it was further before.
    ///
    /// # Errors
    /// When it cannot be written; the journal is broken then.
    pub fn goes_on_from(&self, head: LogHead) -> Result<(), JournalError> {
        let mut inner = self.lock();
        inner.used = true;
        self.write(&mut inner, &Line::Head(head.clone()))?;
        inner.head = Some(head);
        Ok(())
    }

    /// Begins the file anew once everything in it is settled.
    ///
    /// # Errors
    /// When the disk refuses; the old file stays.
    pub fn tidy(&self) -> Result<(), JournalError> {
        let mut inner = self.lock();
        if !inner.unsettled.is_empty() || !inner.used || inner.broken.is_some() {
            return Ok(());
        }
        let (file, end) = rewritten(&self.path, inner.head.as_ref(), []).map_err(|source| self.unusable(source))?;
        inner.file = Arc::new(file);
        (inner.end, inner.room, inner.used) = (end, end + ROOM, false);
        Ok(())
    }

    fn write(&self, inner: &mut Inner, line: &Line) -> Result<(), JournalError> {
        if let Some(broken) = &inner.broken {
            return Err(JournalError::Broken(broken.clone()));
        }
        let text = written(line);
        match (&*inner.file).write_all(text.as_bytes()) {
            Ok(()) => {
                inner.end += text.len() as u64;
                Ok(())
            }
            Err(source) => {
                inner.broken = Some(source.to_string());
                Err(self.unusable(source))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unusable(&self, source: io::Error) -> JournalError {
        JournalError::Unusable { path: self.path.clone(), source }
    }
}

/// What the journals in that directory hold about a notice, by time. Changes nothing, also while daemons write.
///
/// # Errors
/// When they cannot be read.
pub fn endings_of(directory: &Path, notice: Uuid) -> io::Result<Vec<Ending>> {
    fs::read_dir(directory)?;
    let mut endings = Vec::new();
    for number in 0..FILES {
        let found = read(&directory.join(format!("journal.{number}")))?;
        endings.extend(found.endings.into_iter().filter(|ending| ending.notice == notice));
    }
    endings.sort_by_key(|ending| ending.at);
    Ok(endings)
}

/// `journal.0.lock` beside `journal.0`.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// The lock file, held; `None` when another process holds it.
fn locked(path: &Path) -> io::Result<Option<File>> {
    let file = files::open_lock(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

fn later(one: Option<LogHead>, other: Option<LogHead>) -> Option<LogHead> {
    [one, other].into_iter().flatten().max_by_key(|head| head.events)
}

fn written(line: &Line) -> String {
    let json = serde_json::to_string(line).unwrap_or_default();
    format!("{} {json}\n", sum(&json))
}

fn sum(json: &str) -> String {
    let mut sum = hex::encode(Sha256::digest(json.as_bytes()));
    sum.truncate(SUM);
    sum
}

fn parsed(line: &[u8]) -> Option<Line> {
    let (sum_of, json) = std::str::from_utf8(line).ok()?.split_once(' ')?;
    if sum(json) == sum_of { serde_json::from_str(json).ok() } else { None }
}

/// What does not add up at the very end was being written when its process died.
fn read(path: &Path) -> io::Result<Found> {
    let mut bytes = Vec::new();
    match files::open_own(path) {
        Ok(mut file) => file.read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::default()),
        Err(error) => return Err(error),
    };
    let whole = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(whole);
    let mut found = Found::default();
    let mut doubtful = Vec::new();
    for (number, line) in bytes.split(|&byte| byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        match parsed(line) {
            Some(line) => {
                found.corrupt.append(&mut doubtful);
                match line {
                    Line::Ending(ending) => found.endings.push(ending),
                    // The last one counts: a person may have accepted a shorter log.
                    Line::Head(head) => found.head = Some(head),
                }
            }
            None => doubtful.push(number + 1),
        }
    }
    Ok(found)
}

/// A new file in the place of the old one, with the head, these endings, and room; and where its next line goes.
fn rewritten<'a>(
    path: &Path,
    head: Option<&LogHead>,
    endings: impl IntoIterator<Item = &'a Ending>,
) -> io::Result<(File, u64)> {
    let draft = beside(path, "new");
    let mut file = files::create_own(&draft)?;
    let mut text = head.map_or_else(String::new, |head| written(&Line::Head(head.clone())));
    for ending in endings {
        text += &written(&Line::Ending(ending.clone()));
    }
    let end = text.len() as u64;
    allocate(&file, 0, end + ROOM)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok((file, end))
}

/// Keeps room, filled with zeros: written over, it is on the disk as soon as its bytes are. In room that was only set
/// aside the file system would have to note with each line that it is used now.
fn allocate(file: &File, from: u64, length: u64) -> io::Result<()> {
    let zeros = vec![0; 64 * 1024];
    let mut written = 0;
    while written < length {
        let part = usize::try_from(length - written).unwrap_or(zeros.len()).min(zeros.len());
        file.write_all_at(&zeros[..part], from + written)?;
        written += part as u64;
    }
    Ok(())
}

fn shortened(mut ending: Ending) -> Ending {
    let reply = match &mut ending.outcome {
        Outcome::Accepted { reply } => Some(reply),
        Outcome::Deferred { reply, .. } | Outcome::Refused { reply, .. } => reply.as_mut(),
        Outcome::Unknown { .. } => None,
    };
    if let Some(reply) = reply
        && let Some((at, _)) = reply.text.char_indices().nth(REPLY_KEPT)
    {
        reply.text.truncate(at);
    }
    ending
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::model::Reply;

    fn ending(n: u128) -> Ending {
        let outcome = Outcome::Accepted { reply: Reply { code: 250, text: format!("2.0.0 Ok\nqueued as {n}") } };
        let (notice, token) = (Uuid::from_u128(n + 1_000), Uuid::from_u128(n + 2_000));
        Ending { attempt: Uuid::from_u128(n), notice, token, at: DateTime::UNIX_EPOCH, outcome }
    }

    fn head(events: i64) -> LogHead {
        LogHead { events, chain_hash: format!("{events:064x}") }
    }

    fn bytes(folder: &Path) -> Vec<u8> {
        let bytes = fs::read(folder.join("journal.0")).unwrap();
        let end = bytes.iter().position(|&byte| byte == 0).unwrap();
        bytes[..end].to_vec()
    }

    #[test]
    fn what_was_noted_and_not_settled_is_found_by_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        for n in 1..=3 {
            journal.ready().unwrap();
            journal.note(ending(n)).unwrap();
        }
        journal.saw(head(7)).unwrap();
        journal.settled([ending(2).attempt]);
        journal.sync().unwrap();
        drop(journal);
        // The file still holds the second: whether a line is settled is for the database to say.
        let journal = Journal::open(folder.path()).unwrap();
        assert_eq!(journal.unsettled(), [ending(1), ending(2), ending(3)]);
        assert_eq!(journal.head(), Some(head(7)));
        journal.settled([1, 2, 3].map(|n| ending(n).attempt));
        journal.tidy().unwrap();
        assert_eq!(String::from_utf8(bytes(folder.path())).unwrap(), written(&Line::Head(head(7))));
    }

    #[test]
    fn a_head_that_was_seen_is_given_up_for_an_earlier_one_by_a_person_alone() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        for (events, seen) in [(7, 7), (6, 7), (9, 9)] {
            journal.saw(head(events)).unwrap();
            assert_eq!(journal.head(), Some(head(seen)));
        }
        journal.goes_on_from(head(5)).unwrap();
        assert_eq!(journal.head(), Some(head(5)));
    }

    #[test]
    fn a_torn_last_line_is_passed_over_and_one_in_the_middle_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        for n in 1..=3 {
            journal.note(ending(n)).unwrap();
        }
        drop(journal);
        let path = folder.path().join("journal.0");
        let whole = bytes(folder.path());
        for cut in 1..written(&Line::Ending(ending(3))).len() {
            fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let found = read(&path).unwrap();
            // Only the line end may be missing.
            let expected = if cut == 1 { 3 } else { 2 };
            assert_eq!((found.endings.len(), found.corrupt.len()), (expected, 0), "{cut} bytes less");
        }
        let mut spoilt = whole.clone();
        spoilt[written(&Line::Ending(ending(1))).len() + 40] ^= 1;
        fs::write(&path, &spoilt).unwrap();
        let found = read(&path).unwrap();
        assert_eq!((found.endings, found.corrupt), (vec![ending(1), ending(3)], vec![2]));
    }

    #[test]
    fn a_second_process_has_a_file_of_its_own_which_the_next_one_takes_over() {
        let folder = tempfile::tempdir().unwrap();
        let first = Journal::open(folder.path()).unwrap();
        let second = Journal::open(folder.path()).unwrap();
        first.note(ending(1)).unwrap();
        second.note(ending(2)).unwrap();
        second.saw(head(9)).unwrap();
        drop(second);
        assert_eq!(first.unsettled(), [ending(1)]);
        drop(first);
        let next = Journal::open(folder.path()).unwrap();
        assert_eq!(next.unsettled(), [ending(1), ending(2)]);
        assert_eq!(next.head(), Some(head(9)));
        assert!(!folder.path().join("journal.1").exists());
    }

    #[test]
    fn links_in_the_place_of_its_files_lead_nowhere() {
        let outside = tempfile::tempdir().unwrap();
        let kept = outside.path().join("kept");
        fs::write(&kept, "kept").unwrap();
        for (name, opens) in [("journal.0.new", true), ("journal.0", false), ("journal.0.lock", false)] {
            let folder = tempfile::tempdir().unwrap();
            symlink(&kept, folder.path().join(name)).unwrap();
            let opened = Journal::open(folder.path());
            assert_eq!(opened.is_ok(), opens, "{name}");
            if let Err(error) = opened {
                assert!(error.to_string().contains("it is a symbolic link"), "{error}");
            }
            assert_eq!(fs::read_to_string(&kept).unwrap(), "kept", "{name}");
        }
    }

    #[test]
    fn room_is_kept_ahead_and_a_place_that_cannot_be_written_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        let long = Outcome::Accepted { reply: Reply { code: 250, text: "ж".repeat(1_000_000) } };
        for n in 0..2_000 {
            journal.ready().unwrap();
            journal.note(Ending { outcome: long.clone(), ..ending(n) }).unwrap();
        }
        let size = fs::metadata(folder.path().join("journal.0")).unwrap().len();
        assert!(size >= bytes(folder.path()).len() as u64 + ROOM / 2, "{size}");
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = Journal::open(&file).unwrap_err().to_string();
        assert!(error.contains("[state]"), "{error}");
    }
}
