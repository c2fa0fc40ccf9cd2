//! A real Postfix with folders of its own, on a port of this machine, that puts every letter into one Maildir.

#![expect(clippy::unwrap_used, reason = "a relay that cannot be set up fails its test")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};

/// Whoever writes into the Maildir.
const WRITER: &str = "nobody";

const MASTER: &str = "
127.0.0.1:$port inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
showq unix n - n - - showq
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
";

/// A letter in the Maildir.
pub(crate) struct Delivered {
    pub(crate) message_id: String,
    pub(crate) to: String,
    /// What Postfix called it when it took it: two copies under one name are Postfix's own doing.
    pub(crate) queue_id: String,
}

/// Killed and removed when dropped.
pub(crate) struct Postfix {
    folder: tempfile::TempDir,
    pub(crate) port: u16,
}

impl Postfix {
    /// Why there can be none on this machine, if so.
    pub(crate) fn missing() -> Option<&'static str> {
        let installed =
            Command::new("postconf").arg("mail_version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !installed.is_ok_and(|status| status.success()) {
            return Some("Postfix is not installed (apt-get install postfix)");
        }
        (!Uid::effective().is_root()).then_some("only root can start a Postfix")
    }

    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let postfix = Self { folder, port };
        let user = |name| User::from_name(name).unwrap().unwrap();
        let (own, writer) = (user("postfix"), user(WRITER));
        for name in ["etc", "queue", "data", "mail"] {
            fs::create_dir(postfix.path(name)).unwrap();
        }
        fs::set_permissions(postfix.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        // What a killed one left half-made is told there by a program without rights, or the next one does not start.
        fs::write(postfix.path("log"), "").unwrap();
        for name in ["data", "log"] {
            chown(postfix.path(name), Some(own.uid.as_raw()), None).unwrap();
        }
        chown(postfix.path("mail"), Some(writer.uid.as_raw()), None).unwrap();
        let (root, uid, gid) = (postfix.folder.path().display(), writer.uid, writer.gid);
        let main = format!(
            "compatibility_level = 3.6\nmyhostname = relay.test\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\n\
             queue_directory = {root}/queue\ndata_directory = {root}/data\nmaillog_file = {root}/log\n\
             maillog_file_prefixes = {root}\nmydestination =\nmynetworks = 127.0.0.0/8\nenable_long_queue_ids = yes\n\
             virtual_mailbox_domains = static:all\nvirtual_mailbox_maps = static:all/\nvirtual_mailbox_base = {root}/mail\n\
             virtual_uid_maps = static:{uid}\nvirtual_gid_maps = static:{gid}\nvirtual_minimum_uid = 1\n\
             smtp_dns_support_level = disabled\nsmtpd_peername_lookup = no\nalias_maps =\nalias_database =\n\
             minimal_backoff_time = 1s\nmaximal_backoff_time = 1s\nqueue_run_delay = 1s\n\
             smtpd_client_connection_count_limit = 0\n"
        );
        fs::write(postfix.path("etc/main.cf"), main).unwrap();
        fs::write(postfix.path("etc/master.cf"), MASTER.replace("$port", &port.to_string())).unwrap();
        postfix.go_on();
        postfix
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts it, also after it was killed, and waits until somebody answers on its port.
    pub(crate) fn go_on(&self) {
        let started = Command::new("postfix").arg("-c").arg(self.path("etc")).arg("start").output().unwrap();
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
        let answers = || std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok();
        while !answers() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills all its processes at once: the signal reaches one after the other, so they are stopped before, or one would
    /// see another one die and tell its client so.
    pub(crate) fn kill(&self) {
        let Some(master) = self.master() else { return };
        let group = Pid::from_raw(-master);
        kill(group, Signal::SIGSTOP).unwrap();
        while anyone_goes_on(master) {
            std::thread::sleep(Duration::from_millis(1));
        }
        kill(group, Signal::SIGKILL).unwrap();
        while self.master().is_some() {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Its first process, which leads a group of its own: by its file, and only if that speaks of a process in our folder.
    fn master(&self) -> Option<i32> {
        let pid: i32 = fs::read_to_string(self.path("queue/pid/master.pid")).ok()?.trim().parse().ok()?;
        let works_in = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
        (works_in == self.path("queue").canonicalize().ok()?).then_some(pid)
    }

    /// Every letter, once nothing is left in the queue.
    pub(crate) fn delivered(&self) -> Vec<Delivered> {
        while ["maildrop", "incoming", "active", "deferred"]
            .iter()
            .any(|name| holds_files(&self.path("queue").join(name)))
        {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.letters()
    }

    /// How many letters have arrived by now.
    pub(crate) fn count(&self) -> usize {
        let folder = fs::read_dir(self.path("mail/all/new"));
        folder.map_or(0, Iterator::count)
    }

    fn letters(&self) -> Vec<Delivered> {
        let folder = fs::read_dir(self.path("mail/all/new")).into_iter().flatten();
        folder.map(|entry| letter(&fs::read_to_string(entry.unwrap().path()).unwrap())).collect()
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether a process of that group neither stands still nor is dead.
fn anyone_goes_on(group: i32) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // Behind the name, which is in brackets: state, parent, group.
        let mut rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ');
        let state = rest.next();
        rest.nth(1) == Some(&group.to_string()) && !matches!(state, Some("T" | "Z" | "X"))
    })
}

/// Whether a whole letter waits there. What Postfix was killed over while it took it lies there as well, without the mark
/// of completeness, and is nobody's.
fn holds_files(folder: &Path) -> bool {
    fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
        let path = entry.path();
        let Ok(found) = fs::metadata(&path) else { return true };
        if found.is_dir() { holds_files(&path) } else { found.permissions().mode() & 0o100 != 0 }
    })
}

fn letter(text: &str) -> Delivered {
    let after = |start: &str| {
        let found = text.split_once(start).map(|(_, rest)| rest);
        found.and_then(|rest| rest.split(['\n', ' ']).next()).unwrap_or_default().trim_end().to_owned()
    };
    let to = after("\nDelivered-To: ");
    let to = if to.is_empty() { after("Delivered-To: ") } else { to };
    Delivered { message_id: after("\nMessage-ID: "), to, queue_id: after(" id ") }
}
