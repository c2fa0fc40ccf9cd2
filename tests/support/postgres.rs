//! A database of its own for each test, copied from a migrated template in one cluster.
//!
//! The cluster is the one whose socket folder `DUNNINGD_TEST_POSTGRES` names (`./dev test` starts it for the whole
//! run), else one that the first test starts and that ends with this process.

#![expect(clippy::unwrap_used, reason = "a test without its database has failed")]

use std::path::PathBuf;

use dunningd::demo::{Cluster, ClusterOptions};
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, PgPool};
use tokio::sync::OnceCell;
use uuid::Uuid;

const ROLES: &str = include_str!("../../deploy/roles.sql");
/// Held while the template is made, so that the processes of one test run make it once.
const TEMPLATE_LOCK: i64 = 0x6475_6e6e_696e_6764;

struct Server {
    socket: PathBuf,
    template: String,
    /// Never dropped: the cluster ends with the process.
    _own: Option<Cluster>,
}

/// A database with roles and the current schema and no rows. Dropped with the value.
pub(crate) struct Database {
    pub(crate) name: String,
    pub(crate) socket: PathBuf,
    /// A server that is nobody else's, and keeps what it was told.
    pub(crate) own: Option<Cluster>,
}

impl Database {
    /// A fresh database with roles and the current schema, empty ledger tables.
    pub(crate) async fn new() -> Self {
        static SERVER: OnceCell<Server> = OnceCell::const_new();
        let server = SERVER.get_or_init(Server::new).await;
        let database =
            Self { name: format!("t_{}", Uuid::now_v7().simple()), socket: server.socket.clone(), own: None };
        let (name, template) = (&database.name, &server.template);
        let mut connection = connect(&Cluster::url_at(&server.socket, "postgres", "dunning")).await;
        // The default strategy writes every page to the log: 36 ms and more instead of 10.
        run(&mut connection, format!("CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")).await;
        // Rights on a database are the one thing a copy does not take along.
        let acl =
            "UPDATE pg_database SET datacl = (SELECT datacl FROM pg_database WHERE datname = $2) WHERE datname = $1";
        sqlx::query(acl).bind(name).bind(template).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        database
    }

    /// The same on a server of its own, which may crash.
    pub(crate) async fn that_may_crash() -> Self {
        let cluster = Cluster::start(ClusterOptions { durable: true, roomy: false }).await.unwrap();
        let name = "dunning".to_owned();
        cluster.create_database(&name).await.unwrap();
        cluster.prepare(&name).await.unwrap();
        let database = Self { name, socket: cluster.socket_dir().to_owned(), own: Some(cluster) };
        let mut admin = connect(&database.url("dunningd_admin")).await;
        dunningd::record::migrate(&mut admin).await.unwrap();
        admin.close().await.unwrap();
        database
    }

    /// The connection URL for that role (`dunningd_app`, `dunningd_admin`, `dunningd_auditor`, or `dunning`, the superuser).
    pub(crate) fn url(&self, role: &str) -> String {
        Cluster::url_at(&self.socket, &self.name, role)
    }

    /// A pool for that role.
    pub(crate) async fn pool(&self, role: &str) -> PgPool {
        PgPool::connect(&self.url(role)).await.unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if self.own.is_some() {
            return;
        }
        let url = Cluster::url_at(&self.socket, "postgres", "dunning");
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // A thread with a runtime of its own: the test's runtime cannot be blocked on from inside. A failure costs
        // 8 MB until the cluster ends, and must not hide why the test failed.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async { PgConnection::connect(&url).await?.execute(AssertSqlSafe(sql)).await })?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        });
        let _ = dropping.join();
    }
}

impl Server {
    async fn new() -> Self {
        let given = std::env::var_os("DUNNINGD_TEST_POSTGRES").filter(|dir| !dir.is_empty());
        let (socket, own) = if let Some(dir) = given {
            (PathBuf::from(dir), None)
        } else {
            let cluster = Cluster::start(ClusterOptions { durable: false, roomy: false }).await.unwrap();
            (cluster.socket_dir().to_owned(), Some(cluster))
        };
        let server = Self { socket, template: template_name(), _own: own };
        server.make_template().await;
        server
    }

    async fn make_template(&self) {
        let mut connection = connect(&Cluster::url_at(&self.socket, "postgres", "dunning")).await;
        sqlx::query("SELECT pg_advisory_lock($1)").bind(TEMPLATE_LOCK).execute(&mut connection).await.unwrap();
        let made: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)")
            .bind(&self.template)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        if !made {
            // Under another name until it is whole: whoever finds the template may copy it.
            let draft = format!("{}_draft", self.template);
            run(&mut connection, format!("DROP DATABASE IF EXISTS {draft} WITH (FORCE)")).await;
            run(&mut connection, format!("CREATE DATABASE {draft}")).await;
            let mut superuser = connect(&Cluster::url_at(&self.socket, &draft, "dunning")).await;
            superuser.execute(sqlx::raw_sql(ROLES)).await.unwrap();
            superuser.close().await.unwrap();
            let mut admin = connect(&Cluster::url_at(&self.socket, &draft, "dunningd_admin")).await;
            dunningd::record::migrate(&mut admin).await.unwrap();
            admin.close().await.unwrap();
            // A backend that is on its way out still counts as connected, and a template must not be in use.
            sqlx::query("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1")
                .bind(&draft)
                .execute(&mut connection)
                .await
                .unwrap();
            run(&mut connection, format!("ALTER DATABASE {draft} ALLOW_CONNECTIONS false")).await;
            run(&mut connection, format!("ALTER DATABASE {draft} RENAME TO {}", self.template)).await;
        }
        connection.close().await.unwrap();
    }
}

/// Other migrations, another template.
fn template_name() -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut hash = Sha256::new();
    hash.update(ROLES);
    for file in files {
        hash.update(file.file_name().unwrap().as_encoded_bytes());
        hash.update(std::fs::read(&file).unwrap());
    }
    format!("template_{}", &hex::encode(hash.finalize())[..16])
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

async fn run(connection: &mut PgConnection, sql: String) {
    connection.execute(AssertSqlSafe(sql)).await.unwrap();
}
