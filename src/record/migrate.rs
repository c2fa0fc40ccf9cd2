//! The schema: bringing it up to date, and checking that it is.

use std::sync::LazyLock;

use sqlx::migrate::{Migrate as _, MigrateError, Migrator};
use sqlx::{Connection as _, PgConnection};

static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrator = sqlx::migrate!();
    migrator.dangerous_set_table_name("dunning.migration");
    migrator.create_schema("dunning");
    migrator
});

/// How the database's schema stands to this program's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaState {
    Current,
    /// So many migrations are missing; `dunningd migrate` applies them.
    Behind(usize),
    /// The database was migrated by a newer program.
    Ahead,
    /// It is there, and this role may not look into it.
    Closed,
}

/// Applies the missing migrations under an advisory lock, as `dunningd_owner`. `connection` belongs to
/// `dunningd_admin` or another member of that role.
///
/// # Errors
/// When the role cannot be taken, the database is gone, or a migration fails; a failed one leaves nothing behind.
pub async fn migrate(connection: &mut PgConnection) -> Result<usize, MigrateError> {
    sqlx::query("SET ROLE dunningd_owner").execute(&mut *connection).await?;
    // The administrator inherits nothing: only as the owner may it look into the schema.
    let before = match schema_state(connection).await? {
        SchemaState::Behind(count) => count,
        SchemaState::Current | SchemaState::Ahead | SchemaState::Closed => 0,
    };
    MIGRATOR.run(&mut *connection).await?;
    sqlx::query("GRANT SELECT ON dunning.migration TO dunningd_app, dunningd_auditor")
        .execute(&mut *connection)
        .await?;
    sqlx::query("RESET ROLE").execute(&mut *connection).await?;
    Ok(before)
}

/// Compares the applied migrations with this program's; changes nothing.
///
/// # Errors
/// When the database is gone.
pub async fn schema_state(connection: &mut PgConnection) -> Result<SchemaState, MigrateError> {
    connection.ping().await?;
    // Without USAGE on the schema even the name of a table in it is refused.
    let exists: Option<bool> = sqlx::query_scalar(
        "SELECT CASE WHEN to_regnamespace('dunning') IS NULL THEN false
                     WHEN NOT has_schema_privilege('dunning', 'USAGE') THEN NULL
                     ELSE to_regclass('dunning.migration') IS NOT NULL END",
    )
    .fetch_one(&mut *connection)
    .await?;
    match exists {
        None => return Ok(SchemaState::Closed),
        Some(false) => return Ok(SchemaState::Behind(MIGRATOR.migrations.len())),
        Some(true) => {}
    }
    let applied = connection.list_applied_migrations("dunning.migration").await?;
    let known: Vec<i64> = MIGRATOR.iter().map(|m| m.version).collect();
    if applied.iter().any(|m| !known.contains(&m.version)) {
        return Ok(SchemaState::Ahead);
    }
    let missing = known.len() - applied.len();
    Ok(if missing == 0 { SchemaState::Current } else { SchemaState::Behind(missing) })
}
