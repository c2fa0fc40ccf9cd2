//! Which machine this is.

use sha2::{Digest as _, Sha256};

/// The machine's id, hashed: `/etc/machine-id` is not to be told to others (machine-id(5)). Where there is none, the name
/// of the machine.
#[must_use]
pub fn host_id() -> String {
    let read = ["/etc/machine-id", "/var/lib/dbus/machine-id"].into_iter().find_map(|path| {
        let text = std::fs::read_to_string(path).ok()?;
        Some(text.trim().to_owned()).filter(|id| !id.is_empty())
    });
    let id = read.unwrap_or_else(super::live::host_name);
    let mut hash = Sha256::new();
    hash.update("dunningd ");
    hash.update(id);
    hex::encode(hash.finalize()).chars().take(32).collect()
}
