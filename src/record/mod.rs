//! The write side: runs, decisions, notices, attempts, events. With `ledger` the only place with SQL.

mod migrate;

pub use migrate::{SchemaState, migrate, schema_state};
