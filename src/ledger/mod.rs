//! The read side: the contract and its check, snapshots, and the CSV import into our own tables.

pub mod contract;
pub mod import;
pub mod profile;
