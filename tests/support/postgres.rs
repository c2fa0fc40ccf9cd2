//! A database of its own for each test. PROVISIONAL: clones on a cluster at /tmp/devpg.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{Connection as _, Executor as _, PgConnection, PgPool};

pub(crate) struct Database {
    pub(crate) name: String,
    pub(crate) socket: PathBuf,
}

impl Database {
    /// A fresh database with roles and the current schema, empty ledger tables.
    pub(crate) async fn new() -> Self {
        static N: AtomicU32 = AtomicU32::new(0);
        let name = format!("t_{}_{}", std::process::id(), N.fetch_add(1, Ordering::Relaxed));
        let socket = PathBuf::from("/tmp/devpg");
        let mut c = PgConnection::connect("postgres:///postgres?host=/tmp/devpg&user=dunning").await.unwrap();
        c.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
        let database = Self { name, socket };
        let mut c = PgConnection::connect(&database.url("dunning")).await.unwrap();
        c.execute(sqlx::raw_sql(include_str!("../../deploy/roles.sql"))).await.unwrap();
        let mut c = PgConnection::connect(&database.url("dunningd_admin")).await.unwrap();
        dunningd::record::migrate(&mut c).await.unwrap();
        database
    }

    /// The connection URL for that role (`dunningd_app`, `dunningd_admin`, `dunningd_auditor`, or `dunning`, the superuser).
    pub(crate) fn url(&self, role: &str) -> String {
        format!("postgres:///{}?host={}&user={role}", self.name, self.socket.display())
    }

    /// A pool for that role.
    pub(crate) async fn pool(&self, role: &str) -> PgPool {
        PgPool::connect(&self.url(role)).await.unwrap()
    }
}
