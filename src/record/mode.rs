//! How far the daemon may go: the mode, and from which machine this database may be sent from.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;
use sqlx::PgConnection;

use crate::model::{Actor, Event, EventKind, Mode};

use super::{RecordError, append, inconsistent};

/// How far the daemon may go, and who said so.
#[derive(Debug, Clone, Serialize)]
pub struct ModeState {
    pub mode: Mode,
    /// Missing as long as nobody changed what a new installation begins with.
    pub reason: Option<String>,
    pub since: Option<DateTime<Utc>>,
    pub by_person: Option<String>,
}

/// Reads the mode.
///
/// # Errors
/// When the database refuses.
pub async fn mode(connection: &mut PgConnection) -> Result<ModeState, RecordError> {
    let row = sqlx::query!("SELECT mode, reason, since, by_person FROM dunning.control").fetch_one(connection).await?;
    let mode = Mode::parse(&row.mode).ok_or_else(|| inconsistent("dunning.control", "mode", &row.mode))?;
    Ok(ModeState { mode, reason: row.reason, since: row.since, by_person: row.by_person })
}

/// Changes the mode; `false` when it is that one already. What is queued or waits already stays where it is; in
/// `shadow` nobody claims it.
///
/// # Errors
/// When the database refuses.
pub async fn set_mode(
    connection: &mut PgConnection,
    to: Mode,
    reason: &str,
    actor: &Actor,
) -> Result<bool, RecordError> {
    let was = mode(connection).await?.mode;
    let changed = sqlx::query!(
        "UPDATE dunning.control SET mode = $1, reason = $2, since = clock_timestamp(), by_person = $3 WHERE mode <> $1",
        to.as_str(),
        reason,
        actor.person
    )
    .execute(&mut *connection)
    .await?;
    if changed.rows_affected() == 0 {
        return Ok(false);
    }
    let facts = json!({ "was": was.as_str(), "mode": to.as_str(), "reason": reason });
    append(connection, &[Event::new(EventKind::ModeChanged, actor.clone(), facts)]).await?;
    Ok(true)
}

/// Which database this is, seen from which machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// Of the database cluster: a dump that is restored elsewhere gets another one.
    pub system_identifier: String,
    pub database_name: String,
    pub host_id: String,
    /// Somebody said that it may send.
    pub adopted: bool,
}

/// Reads the identity of the database behind the connection, as that machine knows it.
///
/// # Errors
/// When the database refuses.
pub async fn identity(connection: &mut PgConnection, host_id: &str) -> Result<Identity, RecordError> {
    let row = sqlx::query!(
        r#"SELECT c.system_identifier::text AS "system_identifier!", current_database()::text AS "database_name!",
               EXISTS (SELECT FROM dunning.adoption a
                       WHERE a.system_identifier = c.system_identifier::text
                         AND a.database_name = current_database() AND a.host_id = $1) AS "adopted!"
           FROM pg_control_system() c"#,
        host_id
    )
    .fetch_one(connection)
    .await?;
    Ok(Identity {
        system_identifier: row.system_identifier,
        database_name: row.database_name,
        host_id: host_id.to_owned(),
        adopted: row.adopted,
    })
}

/// Says that this database may send from that machine; `false` when it may already.
///
/// # Errors
/// When the database refuses.
pub async fn adopt(
    connection: &mut PgConnection,
    host_id: &str,
    reason: &str,
    actor: &Actor,
) -> Result<bool, RecordError> {
    let identity = identity(connection, host_id).await?;
    let adopted = sqlx::query!(
        "INSERT INTO dunning.adoption (system_identifier, database_name, host_id, reason, adopted_by)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        identity.system_identifier,
        identity.database_name,
        identity.host_id,
        reason,
        actor.person
    )
    .execute(&mut *connection)
    .await?;
    if adopted.rows_affected() == 0 {
        return Ok(false);
    }
    let facts = json!({
        "system_identifier": identity.system_identifier, "database_name": identity.database_name,
        "host_id": identity.host_id, "reason": reason,
    });
    append(connection, &[Event::new(EventKind::DatabaseAdopted, actor.clone(), facts)]).await?;
    Ok(true)
}

/// Adopts a database that nobody ever adopted: the first migration does. `connection` is the administrator's.
///
/// # Errors
/// When the role cannot be taken or the database refuses.
pub async fn adopt_new(connection: &mut PgConnection, host_id: &str, actor: &Actor) -> Result<bool, RecordError> {
    sqlx::query("SET LOCAL ROLE dunningd_owner").execute(&mut *connection).await?;
    let adopted = sqlx::query_scalar!(r#"SELECT EXISTS (SELECT FROM dunning.adoption) AS "adopted!""#)
        .fetch_one(&mut *connection)
        .await?;
    if adopted { Ok(false) } else { adopt(connection, host_id, "first migration", actor).await }
}
