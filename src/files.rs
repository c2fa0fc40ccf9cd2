//! Files, opened so that nobody waits for a pipe in their place, and in folders of our own no link leads elsewhere and
//! what root makes belongs to whoever the folder is of.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::unistd::geteuid;

/// Opens a file that people named, to read. Links are followed: whoever names a file may name it so.
///
/// # Errors
/// When it cannot be read, or is a folder, a pipe or a device.
pub fn open(path: &Path) -> io::Result<File> {
    regular(OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?)
}

/// The text of a file that people named.
///
/// # Errors
/// As [`open`], and when it is not UTF-8.
pub fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

/// Opens a file in a folder of our own, to read.
///
/// # Errors
/// As [`open`], and when it is a symbolic link.
pub fn open_own(path: &Path) -> io::Result<File> {
    let own = OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
    regular(OpenOptions::new().read(true).custom_flags(own.bits()).open(path).map_err(link_told)?)
}

/// Makes a file in a folder of our own in the place of a leftover of that name, for the owner of the folder alone.
///
/// # Errors
/// When the folder cannot be written, or somebody else makes such a file at the same time.
pub fn create_own(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    give_to_owner(&file, path)?;
    Ok(file)
}

/// Opens a file in a folder of our own to be locked, and makes it if need be.
///
/// # Errors
/// As [`open_own`], and when the folder cannot be written.
pub fn open_lock(path: &Path) -> io::Result<File> {
    let own = OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600).custom_flags(own.bits());
    let file = regular(options.open(path).map_err(link_told)?)?;
    give_to_owner(&file, path)?;
    Ok(file)
}

fn regular(file: File) -> io::Result<File> {
    let kind = file.metadata()?.file_type();
    let what = match kind {
        kind if kind.is_file() => return Ok(file),
        kind if kind.is_dir() => "a folder",
        kind if kind.is_fifo() => "a named pipe",
        _ => "a device",
    };
    Err(io::Error::other(format!("it is {what}, not a file")))
}

fn link_told(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) if code == nix::errno::Errno::ELOOP as i32 => {
            io::Error::other("it is a symbolic link, and here none is followed: put the file itself there")
        }
        _ => error,
    }
}

/// What root makes in the folder of a service would lock the service out.
fn give_to_owner(file: &File, path: &Path) -> io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (owner, now) = (fs::metadata(folder)?, file.metadata()?);
    let is_given = (now.uid(), now.gid()) == (owner.uid(), owner.gid());
    // A file with a second name may be somebody else's, linked here by whoever may write into the folder.
    if is_given || now.nlink() != 1 {
        return Ok(());
    }
    fchown(file, Some(owner.uid()), Some(owner.gid()))
}
