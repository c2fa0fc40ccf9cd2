//! What is known about a notice that a person has to resolve.

use std::path::{Path, PathBuf};

use serde::Serialize;
use uuid::Uuid;

use crate::config::Mail;
use crate::deliver;
use crate::model::Reply;
use crate::record::{self, AttemptRow, RecordError, Unresolved};

use super::Shell;

/// Everything at hand that tells what became of a notice: personal data, for people who may see it.
#[derive(Debug, Clone, Serialize)]
pub struct Evidence {
    #[serde(flatten)]
    pub notice: Unresolved,
    pub attempts: Vec<AttemptRow>,
    /// What the journal of replies on this machine holds; none where letters become files.
    pub journal: Option<Looked>,
    /// What the relay's log says, where `[mail] relay_log` names it.
    pub relay_log: Option<Looked>,
}

/// What a file said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Looked {
    pub path: PathBuf,
    /// Why it could not be read.
    pub unreadable: Option<String>,
    pub lines: Vec<String>,
}

impl Looked {
    fn of(path: &Path, lines: std::io::Result<Vec<String>>) -> Self {
        let (lines, unreadable) = lines.map_or_else(|why| (Vec::new(), Some(why.to_string())), |lines| (lines, None));
        Self { path: path.to_owned(), unreadable, lines }
    }
}

/// What is known about a notice of which it is not known, or not said, what became of it; `None` about any other.
///
/// # Errors
/// When the database refuses. A file that cannot be read is part of the answer.
pub async fn evidence(shell: &Shell, notice: Uuid) -> Result<Option<Evidence>, RecordError> {
    let mut connection = shell.pool.acquire().await?;
    let Some(unresolved) = record::unresolved(&mut connection, notice).await? else { return Ok(None) };
    let attempts = record::attempts_of(&mut connection, notice).await?;
    let live = shell.live();
    let (journal, relay_log) = match &live.config.service.mail {
        Mail::File { .. } => (None, None),
        Mail::Smtp(smtp) => {
            let directory = &live.config.service.state.directory;
            let log = smtp.relay_log.as_ref();
            let log = log.map(|path| Looked::of(path, deliver::relay_log(path, &unresolved.message_id)));
            (Some(Looked::of(directory, journal_lines(directory, notice))), log)
        }
    };
    Ok(Some(Evidence { notice: unresolved, attempts, journal, relay_log }))
}

fn journal_lines(directory: &Path, notice: Uuid) -> std::io::Result<Vec<String>> {
    let endings = deliver::endings_of(directory, notice)?;
    let line = |ending: deliver::Ending| {
        let reply =
            ending.outcome.reply().map_or_else(String::new, |reply: &Reply| format!(": {} {}", reply.code, reply.text));
        format!("{} {}{reply}", ending.at.format("%Y-%m-%d %H:%M:%S UTC"), ending.outcome.state().as_str())
    };
    Ok(endings.into_iter().map(line).collect())
}
