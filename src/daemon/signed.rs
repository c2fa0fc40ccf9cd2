//! The checkpoint that this machine signed last, on its own disk: whoever rewrites the database does not rewrite that.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::files;
use crate::model::Checkpoint;

use super::Shell;

/// Exactly as signed, in the `[state]` directory.
const FILE: &str = "checkpoint";

/// Why it is not known what was signed last. As long as that lasts nothing is signed.
#[derive(Debug, thiserror::Error)]
pub enum SignedError {
    #[error(
        "{} cannot be used for the checkpoint that was signed last: {source}; [state] `directory` of dunningd.toml names \
         another place", path.display()
    )]
    Unusable { path: PathBuf, source: io::Error },
    #[error(
        "{} is not the checkpoint that was written there; compare the log with one that somebody kept (`dunningd log verify \
         --checkpoint FILE`), and put that in its place", .0.display()
    )]
    Altered(PathBuf),
}

/// What was signed last on this machine; none where nothing was yet.
///
/// # Errors
/// When the file cannot be read, or holds something else.
pub(super) fn last_signed(directory: &Path) -> Result<Option<Checkpoint>, SignedError> {
    let path = directory.join(FILE);
    let read = || -> io::Result<String> {
        let mut note = String::new();
        files::open_own(&path)?.read_to_string(&mut note)?;
        Ok(note)
    };
    match read() {
        Ok(note) => Checkpoint::parse(&note).map(Some).map_err(|_| SignedError::Altered(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SignedError::Unusable { path, source }),
    }
}

/// What this machine signed last, by the name of its file: whatever the database says, its log has to extend that. None
/// for a person who may not look into the `[state]` directory.
///
/// # Errors
/// When the file cannot be read for another reason, or holds something else.
pub fn signed_here(shell: &Shell) -> Result<Option<(String, Checkpoint)>, SignedError> {
    let directory = &shell.live().config.service.state.directory;
    match last_signed(directory) {
        Ok(signed) => Ok(signed.map(|signed| (directory.join(FILE).display().to_string(), signed))),
        Err(SignedError::Unusable { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        Err(error) => Err(error),
    }
}

/// Keeps a signed note in the place of the last one. It outlasts a crash of the machine from now on.
///
/// # Errors
/// When the disk refuses; the last one stays.
pub(super) fn remember(directory: &Path, note: &str) -> Result<(), SignedError> {
    let path = directory.join(FILE);
    let write = || {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let draft = directory.join(format!("{FILE}.new"));
        let mut file = files::create_own(&draft)?;
        file.write_all(note.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|source| SignedError::Unusable { path: path.clone(), source })
}

/// Begins anew with whatever is signed next.
///
/// # Errors
/// When the disk refuses.
pub(super) fn forget(directory: &Path) -> Result<(), SignedError> {
    let path = directory.join(FILE);
    fs::remove_file(&path).map_err(|source| SignedError::Unusable { path, source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_in_the_place_of_its_files_lead_nowhere() {
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let kept = outside.path().join("kept");
        fs::write(&kept, "kept").unwrap();
        symlink(&kept, folder.path().join("checkpoint.new")).unwrap();
        remember(folder.path(), "signed").unwrap();
        assert_eq!(fs::read_to_string(&kept).unwrap(), "kept");
        let path = folder.path().join("checkpoint");
        assert_eq!(fs::read_to_string(&path).unwrap(), "signed");
        fs::remove_file(&path).unwrap();
        symlink(&kept, &path).unwrap();
        let error = last_signed(folder.path()).unwrap_err().to_string();
        assert!(error.contains("it is a symbolic link"), "{error}");
    }
}
