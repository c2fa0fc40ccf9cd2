//! Messages into a folder.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::files;
use crate::model::{Fault, Outcome, Phase, Reply};

/// Writes each message to `<directory>/<message-id>.eml`.
///
/// There is no relay here that answers: `Accepted` means that the whole file stands in the folder and is on disk, and
/// the reply is ours, `250 file: <name>`. Who sends such files on answers for the rest.
#[derive(Debug, Clone)]
pub struct FileTransport {
    directory: PathBuf,
}

impl FileTransport {
    /// Into that folder, which is made, for its owner alone, when the first message comes.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Writes the message. The same bytes under the same Message-ID again are accepted again; other bytes never replace
    /// what stands there, and are `Deferred` by a fault of the content, so that a person sees it.
    ///
    /// The writing is not cut off when the future is dropped. A failure before the file has its name is `Deferred`; one
    /// after it, when it may or may not outlast a power cut, is `Unknown`.
    pub async fn deliver(&self, message_id: &str, bytes: &[u8]) -> Outcome {
        let (directory, name, bytes) = (self.directory.clone(), file_name(message_id), bytes.to_owned());
        match tokio::task::spawn_blocking(move || write(&directory, &name, &bytes)).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Unknown { phase: Phase::File, detail: "writing the file was cut off".into() },
        }
    }
}

/// The Message-ID without its brackets; what might mean something in a path becomes `%` and its octets in hexadecimal.
fn file_name(message_id: &str) -> String {
    let id = message_id.trim_start_matches('<').trim_end_matches('>');
    let mut name = String::new();
    for (at, byte) in id.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'@' | b'_' | b'-' | b'+' => name.push(char::from(byte)),
            b'.' if at > 0 => name.push('.'),
            _ => {
                name.push('%');
                name.push_str(&hex::encode([byte]));
            }
        }
    }
    name.push_str(".eml");
    name
}

/// Letters hold names and debts: nobody but the owner looks into a folder that we make.
fn make(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

fn write(directory: &Path, name: &str, bytes: &[u8]) -> Outcome {
    let deferred = |detail: String, fault| Outcome::Deferred { phase: Phase::File, reply: None, detail, fault };
    let accepted = || Outcome::Accepted { reply: Reply { code: 250, text: format!("file: {name}") } };
    let path = directory.join(name);
    // Hidden, and with another ending, so that nobody who collects messages takes half of one.
    let unfinished = directory.join(format!(".{name}.{}.part", std::process::id()));

    let named =
        make(directory).and_then(|()| write_new(&unfinished, bytes)).and_then(|()| fs::hard_link(&unfinished, &path));
    // Left behind it does no harm.
    let _ = fs::remove_file(&unfinished);
    match named {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match fs::read(&path) {
            Ok(found) if found == bytes => {}
            Ok(_) => return deferred("a file of that name holds another message".into(), Fault::Content),
            Err(error) => return deferred(error.kind().to_string(), Fault::Relay),
        },
        Err(error) => return deferred(error.kind().to_string(), Fault::Relay),
    }
    match File::open(directory).and_then(|directory| directory.sync_all()) {
        Ok(()) => accepted(),
        Err(error) => Outcome::Unknown { phase: Phase::File, detail: error.kind().to_string() },
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Letters hold names and debts: for their owner alone, also in a folder that others may look into. What stands there
    // is of an earlier process that had the same number.
    let mut file = files::create_own(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::file_name;

    #[test]
    fn a_message_id_cannot_leave_the_folder() {
        assert_eq!(file_name("<n.0190@example.com>"), "n.0190@example.com.eml");
        assert_eq!(file_name("<../../etc/x@example.com>"), "%2e.%2f..%2fetc%2fx@example.com.eml");
        assert_eq!(file_name("<>"), ".eml");
    }
}
