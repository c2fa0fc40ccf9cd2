//! A private PostgreSQL in a temporary folder, reached over a unix socket.
//!
//! Three processes take part: this one, `postgres`, and a small shell that waits at the end of a pipe. When the pipe
//! closes, because the [`Cluster`] was dropped or because this process ended in whatever way, the shell stops
//! `postgres` and removes the folder. So there is one way to stop, and SIGKILL takes it too.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

/// The superuser of every private cluster.
const SUPERUSER: &str = "dunning";
const ROLES: &str = include_str!("../../deploy/roles.sql");
const OLDEST_MAJOR: u32 = 15;
/// `sun_path` holds 108 bytes, the last of them NUL.
const SOCKET_PATH_MAX: usize = 107;
const SOCKET_NAME: &str = ".s.PGSQL.5432";
const CONNECTIONS_MAX: u32 = 200;
const START_POLL: Duration = Duration::from_millis(10);
/// A minute: a loaded machine takes three seconds.
const START_POLLS_MAX: u32 = 6_000;

/// Reads the number of the process to look after, a line at a time (empty: none), until the pipe closes. Whether the
/// server is gone is asked of its file, not of its number: a dead process that nobody reaps keeps its number.
const SUPERVISOR: &str = r#"
trap '' HUP INT TERM
pid=
while read -r line; do pid=$line; done
for signal in INT QUIT KILL; do
    [ -n "$pid" ] && kill -s "$signal" "$pid" || break
    polls=0
    while [ "$polls" -lt 200 ] && [ -e "$1/data/postmaster.pid" ] && kill -s 0 "$pid"; do
        sleep 0.05
        polls=$((polls + 1))
    done
    [ -e "$1/data/postmaster.pid" ] || break
done
polls=0
while [ "$polls" -lt 100 ] && [ -e "$1" ]; do
    rm -rf -- "$1"
    [ -e "$1" ] && sleep 0.05
    polls=$((polls + 1))
done
"#;

/// What a private cluster is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterOptions {
    /// Whether a commit survives a crash of the machine. Tests do without, except those that claim it.
    pub durable: bool,
    /// Memory as a server of its own would have it, for measurements.
    pub roomy: bool,
}

/// Why there is no private cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error(
        "PostgreSQL's programs `initdb` and `postgres` are not in $PGBIN, /usr/lib/postgresql/*/bin or $PATH; \
         on Debian or Ubuntu install them with: apt-get install -y --no-install-recommends postgresql"
    )]
    NotInstalled,
    #[error(
        "{} is {found}, and PostgreSQL {OLDEST_MAJOR} or newer is needed; point $PGBIN at a newer one's bin folder",
        program.display()
    )]
    TooOld { program: PathBuf, found: String },
    #[error("PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it as")]
    NoUser,
    #[error("no folder for a private PostgreSQL ({tried}); set TMPDIR to one that its user can enter and write")]
    NoFolder { tried: String },
    #[error(
        "the folder {} is too long for a unix socket ({SOCKET_PATH_MAX} bytes with the socket's name); \
         set TMPDIR to a shorter one",
        folder.display()
    )]
    FolderTooLong { folder: PathBuf },
    #[error("cannot start {}", program.display())]
    Spawn { program: PathBuf, source: io::Error },
    #[error("`{program}` failed: {log}")]
    Failed { program: &'static str, log: String },
    #[error("the private PostgreSQL was started and did not become ready: {log}")]
    NotReady { log: String },
    #[error("cannot set up the private PostgreSQL")]
    Database(#[from] sqlx::Error),
    #[error("starting the private PostgreSQL was given up")]
    Abandoned(#[from] tokio::task::JoinError),
}

/// A running private PostgreSQL. Dropping it stops the server and removes its folder; so does the end of this process,
/// whichever way it comes. Nothing of the machine's own PostgreSQL is used but its programs.
///
/// Whoever can enter the folder may connect as any role: that is its owner and root.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    options: ClusterOptions,
    supervisor: Child,
    server: Option<Child>,
}

impl Cluster {
    /// Makes and starts a cluster: half a second on a quiet machine.
    ///
    /// The programs come from `$PGBIN`, else the newest `/usr/lib/postgresql/*/bin`, else `$PATH`. Root runs them as
    /// `postgres`, else as `nobody`. The folder is made in the folder for temporary files, else in `/tmp` or
    /// `/var/tmp`.
    ///
    /// # Errors
    /// When the programs are missing, too old or fail, or when there is no place for the folder. Nothing is left
    /// behind.
    pub async fn start(options: ClusterOptions) -> Result<Self, ClusterError> {
        tokio::task::spawn_blocking(move || Self::start_and_wait(options)).await?
    }

    /// The URL of that database for that role (`dunning` is the superuser). `psql` takes it as well.
    pub fn url(&self, database: &str, role: &str) -> String {
        Self::url_at(&self.folder, database, role)
    }

    /// The URL of a database of the cluster whose socket is in that folder.
    pub fn url_at(socket_dir: &Path, database: &str, role: &str) -> String {
        // Everything is named, so that PGPORT or PGSSLMODE in the environment change nothing.
        format!(
            "postgres:///{}?host={}&port=5432&user={}&sslmode=disable",
            percent_encoded(database.as_bytes()),
            percent_encoded(socket_dir.as_os_str().as_bytes()),
            percent_encoded(role.as_bytes()),
        )
    }

    /// The folder of the socket: what libpq calls the host.
    pub fn socket_dir(&self) -> &Path {
        &self.folder
    }

    /// Makes an empty database.
    ///
    /// # Errors
    /// When there is one of that name, or the server is gone.
    pub async fn create_database(&self, name: &str) -> Result<(), ClusterError> {
        let mut connection = PgConnection::connect(&self.url("postgres", SUPERUSER)).await?;
        let name = name.replace('"', "\"\"");
        connection.execute(AssertSqlSafe(format!(r#"CREATE DATABASE "{name}""#))).await?;
        Ok(connection.close().await?)
    }

    /// Makes the roles of dunningd and lets them into that database, which is then ready for `migrate`. Doing it again
    /// changes nothing.
    ///
    /// # Errors
    /// When there is no such database, or the server is gone.
    pub async fn prepare(&self, database: &str) -> Result<(), ClusterError> {
        let mut connection = PgConnection::connect(&self.url(database, SUPERUSER)).await?;
        connection.execute(sqlx::raw_sql(ROLES)).await?;
        Ok(connection.close().await?)
    }

    /// Ends the server as a crash would: no session is heard out, and nothing is written that was not. Blocks until it
    /// is gone. [`Cluster::go_on`] starts it again.
    ///
    /// # Errors
    /// When the server cannot be told.
    pub fn crash(&mut self) -> Result<(), ClusterError> {
        let Some(server) = &mut self.server else { return Ok(()) };
        let crashed = i32::try_from(server.id())
            .map_err(io::Error::other)
            .and_then(|pid| Ok(kill(Pid::from_raw(pid), Signal::SIGQUIT)?))
            .and_then(|()| server.wait());
        crashed.map(drop).map_err(|source| ClusterError::Spawn { program: "postgres".into(), source })
    }

    /// Starts a server that has ended. Blocks until it answers.
    ///
    /// # Errors
    /// When it does not start.
    pub fn go_on(&mut self) -> Result<(), ClusterError> {
        self.serve(&Programs::find()?, server_user()?.as_ref())
    }

    fn start_and_wait(options: ClusterOptions) -> Result<Self, ClusterError> {
        let programs = Programs::find()?;
        let user = server_user()?;
        let folder = make_folder(user.as_ref())?;
        let shell = Command::new("sh")
            .args(["-c", SUPERVISOR, "dunningd-cluster"])
            .arg(&folder)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C reaches the whole group in the foreground; it is ours to answer, not the shell's.
            .process_group(0)
            .spawn();
        let supervisor = match shell {
            Ok(child) => child,
            Err(source) => {
                // Nobody looks after the folder yet; it is empty.
                let _ = fs::remove_dir(&folder);
                return Err(ClusterError::Spawn { program: "sh".into(), source });
            }
        };
        let mut cluster = Self { folder, options, supervisor, server: None };
        cluster.init(&programs, user.as_ref())?;
        cluster.serve(&programs, user.as_ref())?;
        Ok(cluster)
    }

    fn init(&mut self, programs: &Programs, user: Option<&User>) -> Result<(), ClusterError> {
        let mut command = self.command(&programs.initdb, user)?;
        command.args(["-A", "trust", "-U", SUPERUSER, "-E", "UTF8", "--no-locale", "--no-instructions", "-D"]);
        command.arg(self.data());
        if !self.options.durable {
            command.arg("--no-sync");
        }
        let mut initdb = spawn(&mut command, &programs.initdb)?;
        self.look_after(Some(&initdb));
        let status = initdb.wait();
        self.look_after(None);
        match status {
            Ok(status) if status.success() => Ok(()),
            _ => Err(ClusterError::Failed { program: "initdb", log: self.log() }),
        }
    }

    fn serve(&mut self, programs: &Programs, user: Option<&User>) -> Result<(), ClusterError> {
        let mut command = self.command(&programs.postgres, user)?;
        command.arg("-D").arg(self.data());
        let mut socket_dir = OsString::from("unix_socket_directories=");
        // The setting is a list; quotes keep a folder with a comma or a blank in its name whole.
        socket_dir.push("\"");
        socket_dir.push(&self.folder);
        socket_dir.push("\"");
        command.arg("-c").arg(socket_dir);
        let connections = format!("max_connections={CONNECTIONS_MAX}");
        let always = [
            "listen_addresses=",
            "port=5432",
            "unix_socket_permissions=0700",
            "timezone=UTC",
            "log_timezone=UTC",
            "wal_level=minimal",
            "max_wal_senders=0",
            &connections,
        ];
        // Autovacuum would connect to a database that a test wants to drop or copy.
        let volatile = ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off"];
        let memory: &[&str] = if self.options.roomy {
            &["shared_buffers=1GB", "work_mem=64MB", "max_wal_size=4GB", "jit=off"]
        } else {
            &["shared_buffers=64MB"]
        };
        for setting in always.iter().chain(memory).chain(volatile.iter().filter(|_| !self.options.durable)) {
            command.args(["-c", setting]);
        }
        let server = spawn(&mut command, &programs.postgres)?;
        self.look_after(Some(&server));
        let server = self.server.insert(server);
        let pid_file = self.folder.join("data/postmaster.pid");
        for _ in 0..START_POLLS_MAX {
            // Its eighth line says how the server is doing; the socket is there before the server answers.
            let ready =
                fs::read_to_string(&pid_file).is_ok_and(|s| s.lines().nth(7).is_some_and(|l| l.trim() == "ready"));
            if ready {
                return Ok(());
            }
            if !matches!(server.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(START_POLL);
        }
        Err(ClusterError::NotReady { log: self.log() })
    }

    /// A command in the folder, as the server's user, with nothing of our environment, writing to the log.
    fn command(&self, program: &Path, user: Option<&User>) -> Result<Command, ClusterError> {
        let log = File::options().create(true).append(true).open(self.log_path());
        let log = log.and_then(|file| Ok((file.try_clone()?, file)));
        let (out, err) = log.map_err(|source| ClusterError::Spawn { program: program.into(), source })?;
        let mut command = Command::new(program);
        command.current_dir(&self.folder).env_clear().env("LC_ALL", "C");
        command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        if let Some(user) = user {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        Ok(command)
    }

    fn look_after(&mut self, process: Option<&Child>) {
        let pid = process.map(|p| p.id().to_string()).unwrap_or_default();
        if let Some(pipe) = &mut self.supervisor.stdin {
            // A shell that is gone cannot be told anything; the folder then stays, and nothing else is wrong.
            let _ = writeln!(pipe, "{pid}");
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// The last lines of the log, on one line.
    fn log(&self) -> String {
        let text = fs::read(self.log_path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let last = lines.get(lines.len().saturating_sub(5)..).unwrap_or_default();
        if last.is_empty() { "it said nothing".to_owned() } else { last.join("; ") }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        if let Some(server) = &mut self.server {
            let _ = server.wait();
        }
        let _ = self.supervisor.wait();
    }
}

struct Programs {
    initdb: PathBuf,
    postgres: PathBuf,
}

impl Programs {
    fn find() -> Result<Self, ClusterError> {
        let folders = match std::env::var_os("PGBIN") {
            Some(folder) if !folder.is_empty() => vec![PathBuf::from(folder)],
            _ => program_folders(),
        };
        let programs = folders
            .iter()
            .map(|folder| Self { initdb: folder.join("initdb"), postgres: folder.join("postgres") })
            .find(|programs| programs.initdb.is_file() && programs.postgres.is_file())
            .ok_or(ClusterError::NotInstalled)?;
        let said = Command::new(&programs.postgres).arg("--version").env_clear().env("LC_ALL", "C").output();
        let said = said.map_err(|source| ClusterError::Spawn { program: programs.postgres.clone(), source })?;
        let found = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        match major(&found) {
            Some(major) if major >= OLDEST_MAJOR => Ok(programs),
            _ => Err(ClusterError::TooOld { program: programs.postgres, found }),
        }
    }
}

/// Where the programs may be: Debian keeps each version in a folder of its own, outside the path.
fn program_folders() -> Vec<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    let path = std::env::var_os("PATH").unwrap_or_default();
    versions.into_iter().map(|(_, folder)| folder).chain(std::env::split_paths(&path)).collect()
}

/// The major version in `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`.
fn major(said: &str) -> Option<u32> {
    let version = said.split_whitespace().nth(2)?;
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// Whom to run the server as: root needs somebody else, everybody else is themselves.
fn server_user() -> Result<Option<User>, ClusterError> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    let known = ["postgres", "nobody"].into_iter().find_map(|name| User::from_name(name).ok().flatten());
    known.map(Some).ok_or(ClusterError::NoUser)
}

fn make_folder(user: Option<&User>) -> Result<PathBuf, ClusterError> {
    let name = format!("dunningd-pg-{:08x}", rand::random::<u32>());
    let mut tried = String::new();
    for parent in [std::env::temp_dir(), "/tmp".into(), "/var/tmp".into()] {
        let folder = parent.join(&name);
        match make_folder_at(&folder, user) {
            Ok(()) if folder.join(SOCKET_NAME).as_os_str().len() <= SOCKET_PATH_MAX => return Ok(folder),
            Ok(()) => {
                let _ = fs::remove_dir(&folder);
                return Err(ClusterError::FolderTooLong { folder });
            }
            Err(why) => {
                let comma = if tried.is_empty() { "" } else { ", " };
                let _ = write!(tried, "{comma}{}: {why}", parent.display());
            }
        }
    }
    Err(ClusterError::NoFolder { tried })
}

/// Nobody but the server's user and root may enter: that is what makes connecting without a password safe.
fn make_folder_at(folder: &Path, user: Option<&User>) -> io::Result<()> {
    let Some(user) = user else {
        return DirBuilder::new().mode(0o700).create(folder);
    };
    for above in folder.ancestors().skip(1) {
        if above.as_os_str() != OsStr::new("") && fs::metadata(above)?.permissions().mode() & 0o001 == 0 {
            return Err(io::Error::other(format!("user {} cannot enter {}", user.name, above.display())));
        }
    }
    DirBuilder::new().mode(0o700).create(folder)?;
    chown(folder, Some(user.uid.as_raw()), Some(user.gid.as_raw())).inspect_err(|_| {
        let _ = fs::remove_dir(folder);
    })
}

fn spawn(command: &mut Command, program: &Path) -> Result<Child, ClusterError> {
    command.spawn().map_err(|source| ClusterError::Spawn { program: program.into(), source })
}

fn percent_encoded(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _};

    use super::*;

    const VOLATILE: ClusterOptions = ClusterOptions { durable: false, roomy: false };

    #[test]
    fn the_major_version_is_read_from_what_postgres_says() {
        assert_eq!(major("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)"), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major("postgres"), None);
    }

    #[test]
    fn a_url_names_everything_and_survives_odd_folders() {
        let url = Cluster::url_at(Path::new("/tmp/a b&c"), "dev", "dunningd_app");
        assert_eq!(url, "postgres:///dev?host=/tmp/a%20b%26c&port=5432&user=dunningd_app&sslmode=disable");
    }

    #[tokio::test]
    async fn a_cluster_serves_its_roles_and_leaves_nothing() {
        for durable in [false, true] {
            let cluster = Cluster::start(ClusterOptions { durable, roomy: false }).await.unwrap();
            cluster.create_database("a \"quoted\" one").await.unwrap();
            cluster.prepare("a \"quoted\" one").await.unwrap();
            cluster.prepare("a \"quoted\" one").await.unwrap();
            let mut app = PgConnection::connect(&cluster.url("a \"quoted\" one", "dunningd_app")).await.unwrap();
            let settings: String = sqlx::query_scalar(
                "SELECT current_user || ' ' || current_setting('fsync') || ' ' || current_setting('listen_addresses')",
            )
            .fetch_one(&mut app)
            .await
            .unwrap();
            assert_eq!(settings, format!("dunningd_app {} ", if durable { "on" } else { "off" }));

            let folder = cluster.socket_dir().to_owned();
            assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
            drop(cluster);
            assert!(!folder.exists(), "{} is still there", folder.display());
            assert_eq!(processes_in(&folder), Vec::<String>::new());
        }
    }

    /// Set in the process that the test below starts and kills.
    const HOLDER: &str = "DUNNINGD_TEST_HOLDS_A_CLUSTER";

    fn hold_a_cluster() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let cluster = runtime.block_on(Cluster::start(VOLATILE)).unwrap();
        println!("folder={}", cluster.socket_dir().display());
        let _ = io::stdin().read_to_end(&mut Vec::new());
    }

    #[test]
    fn a_killed_process_leaves_nothing() {
        if std::env::var_os(HOLDER).is_some() {
            return hold_a_cluster();
        }
        let mut holder = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "demo::cluster::tests::a_killed_process_leaves_nothing", "--nocapture"])
            .env(HOLDER, "yes")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
        // The harness has printed the test's name on the same line.
        let folder = lines.map_while(Result::ok).find_map(|l| Some(PathBuf::from(l.split_once("folder=")?.1))).unwrap();
        assert!(!processes_in(&folder).is_empty());

        holder.kill().unwrap();
        holder.wait().unwrap();
        for _ in 0..200 {
            if !folder.exists() && processes_in(&folder).is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{} is left, with {:?}", folder.display(), processes_in(&folder));
    }

    /// The command lines that name that folder.
    fn processes_in(folder: &Path) -> Vec<String> {
        let wanted = folder.display().to_string();
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok());
        lines.filter(|line| line.contains(&wanted)).collect()
    }
}
