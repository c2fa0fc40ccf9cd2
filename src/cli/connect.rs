//! From the configuration to a shell that can work.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use nix::unistd::{Uid, User, getuid};
use secrecy::ExposeSecret as _;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, PgPool};

use crate::clock::Clock;
use crate::config::Secret;
use crate::daemon::{Live, LoadError, Shell, load_live};
use crate::model::{Actor, Users, counted};
use crate::record::{SchemaState, schema_state};

use super::args::Cli;
use super::failure::{Exit, Failure};

/// Of each connection of the application. A process that is stopped, or a machine that is gone, gives up what it locked:
/// everybody waits for the head of the log, and the next leader for the lock of the last one.
const SESSION: [(&str, &str); 4] = [
    ("idle_in_transaction_session_timeout", "10s"),
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
];
/// The user that the service runs as where it was installed as described.
const SERVICE_USER: &str = "dunningd";
/// What the kernel says of a process that no login began, such as a service (proc(5)).
const NO_SESSION: u32 = u32::MAX;
/// How long a connection may take to come.
const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// Reads the configuration, with the environment's variables.
pub(super) fn load(cli: &Cli) -> Result<Live, LoadError> {
    load_with_policy(cli, None)
}

/// The same with that file instead of `policy.toml`.
pub(super) fn load_with_policy(cli: &Cli, policy: Option<&Path>) -> Result<Live, LoadError> {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let variables: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    load_live(&cli.config, policy, variables, credentials.as_deref())
}

/// A shell on the application's role, over a database whose schema is current.
pub(super) async fn shell(cli: &Cli, by: Option<&str>) -> Result<Shell, Failure> {
    let live = load(cli)?;
    let database = &live.config.service.database;
    let options = options(&database.url, database.password.as_ref())?.options(SESSION);
    // A pool would try until its time is over and then tell nothing but that.
    connect(&options).await?.close().await?;
    let pool = PgPoolOptions::new()
        .max_connections(database.max_connections)
        .acquire_timeout(CONNECT_TIMEOUT)
        .connect_lazy_with(options);
    current_schema(&pool).await?;
    Ok(Shell::new(pool, live, Clock::system(), actor(by)))
}

async fn current_schema(pool: &PgPool) -> Result<(), Failure> {
    let mut connection = pool.acquire().await?;
    let state = schema_state(&mut connection).await.map_err(|error| Failure::unexpected(error.to_string()))?;
    match state {
        SchemaState::Current => Ok(()),
        SchemaState::Behind(count) => Err(Failure::new(
            Exit::CONFIG,
            format!("the database schema is behind by {}; run `dunningd migrate`", counted(count, "migration")),
        )),
        SchemaState::Closed => Err(Failure::new(
            Exit::CONFIG,
            "this role may not use the database's schema dunning: in a new database run `dunningd migrate`; in one that \
             was restored the grants are missing",
        )),
        SchemaState::Ahead => Err(Failure::new(
            Exit::CONFIG,
            "the database schema is newer than this program; install the version that migrated it, or a newer one",
        )),
    }
}

/// A connection on the administrator's role.
pub(super) async fn admin(live: &Live) -> Result<PgConnection, Failure> {
    let database = &live.config.service.database;
    let url = database.admin_url.as_deref().ok_or_else(|| {
        Failure::new(Exit::CONFIG, "dunningd.toml has no [database] admin_url; migrate and import need that role")
    })?;
    connect(&options(url, database.admin_password.as_ref())?).await
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, Failure> {
    tokio::time::timeout(CONNECT_TIMEOUT, options.connect())
        .await
        .map_err(|_| {
            let (place, seconds) = (place(options), CONNECT_TIMEOUT.as_secs());
            let said = format!(
                "{place} did not answer within {seconds} seconds: see whether it runs there and lets this machine in, and \
                 [database] in dunningd.toml. Nothing was done."
            );
            Failure::new(Exit::UNAVAILABLE, said)
        })?
        .map_err(|error| unavailable(options, &error))
}

/// Which database it is and where, as a person looks for it; never with a password.
fn place(options: &PgConnectOptions) -> String {
    let name = options.get_database().map_or(String::new(), |name| format!(" {name}"));
    let host = match options.get_socket() {
        Some(folder) => folder.display().to_string(),
        None => options.get_host().to_owned(),
    };
    format!("the database{name} at {host}, port {},", options.get_port())
}

fn options(url: &str, password: Option<&Secret>) -> Result<PgConnectOptions, Failure> {
    let mut options = PgConnectOptions::from_str(url)
        .map_err(|error| Failure::new(Exit::CONFIG, format!("the database URL: {error}")))?
        .application_name("dunningd")
        .disable_statement_logging();
    if let Some(password) = password {
        let secret = password.read().map_err(|error| Failure::new(Exit::CONFIG, error.to_string()))?;
        options = options.password(secret.expose_secret());
    }
    Ok(options)
}

fn unavailable(options: &PgConnectOptions, error: &sqlx::Error) -> Failure {
    let reason = error.as_database_error().map_or_else(|| error.to_string(), |db| db.message().to_owned());
    Failure::new(
        Exit::UNAVAILABLE,
        format!("{} cannot be reached: {reason}; see [database] in dunningd.toml. Nothing was done.", place(options)),
    )
}

/// The login, and the person it is said to be.
pub(super) fn actor(by: Option<&str>) -> Actor {
    let user = |uid| User::from_uid(uid).ok().flatten();
    let session = std::fs::read_to_string("/proc/self/loginuid").ok().and_then(|uid| uid.trim().parse().ok());
    let users = Users {
        session: session.filter(|uid| *uid != NO_SESSION),
        sudo: std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok()),
        process: getuid().as_raw(),
        service: User::from_name(SERVICE_USER).ok().flatten().map(|user| user.uid.as_raw()),
    };
    let login = users.login();
    let os_user = user(Uid::from_raw(login)).map_or_else(|| login.to_string(), |user| user.name);
    Actor { person: by.map_or_else(|| os_user.clone(), str::to_owned), os_user }
}
