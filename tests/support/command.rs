//! The program itself, as a person runs it: a configuration folder made by `init`, and what it says.

#![expect(clippy::unwrap_used, reason = "a program that cannot be started fails its test")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::{Child, Command};

use super::postgres::Database;

/// What a command said, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) exit: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// What it said on stdout, of a command that did what was asked.
    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert_eq!((self.exit, self.err.as_str()), (0, ""), "{}", self.out);
        self.out
    }

    /// What it said on stderr, of a command that ended with that code and printed nothing else.
    #[track_caller]
    pub(crate) fn failed(self, exit: i32) -> String {
        assert_eq!((self.exit, self.out.as_str()), (exit, ""), "{}", self.err);
        self.err
    }
}

/// The program with its configuration.
pub(crate) struct Program {
    folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Program {
    /// Configured by `init`, with nothing around it.
    pub(crate) async fn bare() -> Self {
        let program = Self { folder: tempfile::tempdir().unwrap(), variables: Vec::new() };
        let config = program.config();
        program.run(&["init", config.to_str().unwrap()]).await.done();
        program
    }

    /// On that database, with a relay on that port of this machine.
    pub(crate) async fn new(database: &Database, relay: u16) -> Self {
        let program = Self::bare().await;
        program.replace("dunningd.toml", "transport = \"file\"", "transport = \"smtp\"");
        program.replace(
            "dunningd.toml",
            "directory = \"mail\"",
            "host = \"127.0.0.1\"\nsecurity = \"plain\"\nallow_domains = [\"test\"]",
        );
        let state = program.path("state").to_str().unwrap().to_owned();
        let named = format!("directory = \"{state}\"");
        program.replace("dunningd.toml", "# directory = \"/var/lib/dunningd\"", &named);
        program
            .with("MAIL__PORT", &relay.to_string())
            .with("MAIL__CONNECTIONS", "1")
            .with("DATABASE__URL", &database.url("dunningd_app"))
            .with("DATABASE__ADMIN_URL", &database.url("dunningd_admin"))
    }

    /// With that key in the environment: `("MAIL__PORT", "25")`.
    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self.variables.push((format!("DUNNINGD__{key}"), value.to_owned()));
        self
    }

    /// With no run of its own: what a test sees does not hang on the hour at which it is made.
    pub(crate) fn without_schedule(self) -> Self {
        self.with("SCHEDULE__EARLIEST", "00:00").with("SCHEDULE__LATEST", "00:01")
    }

    /// The folder of the configuration.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    /// A path beside the configuration.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file beside the configuration that nobody else may read.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        write_secret(&path, text);
        path.to_str().unwrap().to_owned()
    }

    /// Changes a file of the configuration.
    pub(crate) fn replace(&self, file: &str, old: &str, new: &str) {
        let path = self.config().join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(old), "{file} has no {old}");
        fs::write(path, text.replacen(old, new, 1)).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dunningd"));
        // Nothing of the environment of whoever runs the tests, and lines as wide as on a usual terminal.
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("COLUMNS", "100");
        command.envs(self.variables.iter().map(|(key, value)| (key, value)));
        command.arg("--config").arg(self.config()).args(arguments).current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Runs it to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Said {
        let ended = self.command(arguments).output().await.unwrap();
        Said {
            exit: ended.status.code().unwrap(),
            out: String::from_utf8(ended.stdout).unwrap(),
            err: String::from_utf8(ended.stderr).unwrap(),
        }
    }

    /// Runs it with nobody who reads what it says on stdout: its exit code, and what it said on stderr.
    pub(crate) async fn unread(&self, arguments: &[&str]) -> (i32, String) {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = self.command(arguments).stdout(writer).spawn().unwrap().wait_with_output().await.unwrap();
        (ended.status.code().unwrap(), String::from_utf8(ended.stderr).unwrap())
    }

    /// Starts it and lets it run.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    /// A text without what differs from run to run: the folder, ids, hashes and the time on the wall.
    pub(crate) fn settled(&self, text: &str) -> String {
        settled(text, self.folder.path())
    }
}

/// Writes a file that nobody else may read.
pub(crate) fn write_secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

fn settled(text: &str, folder: &Path) -> String {
    let text = text.replace(folder.to_str().unwrap(), "[FOLDER]");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == ':';
        let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
        let (token, after) = if end == 0 { rest.split_at(first.len_utf8()) } else { rest.split_at(end) };
        let hex = |part: &str| part.bytes().all(|b| b.is_ascii_hexdigit());
        out.push_str(match token.len() {
            36 if token.split('-').count() == 5 && token.split('-').all(hex) => "[ID]",
            64 if hex(token) => "[HASH]",
            20 if token.ends_with('Z') && token.contains('T') && token.contains(':') => "[TIME]",
            _ => token,
        });
        rest = after;
    }
    out
}
