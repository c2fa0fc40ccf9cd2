//! The read side: the contract and its check, snapshots, and the CSV import into our own tables.

mod contract;
mod import;
mod profile;
mod snapshots;

pub use contract::{CheckOptions, ContractFinding, ContractReport, RELATIONS, RawItem, Severity, check, row_problem};
pub use import::{ImportError, ImportOptions, ImportReport, import_csv, import_csv_with_progress};
pub use profile::{Profile, ProfileError, SHIPPED_PROFILES, Scope};
pub use snapshots::{
    LedgerAccount, Reader, View, creditor_of, creditors, fingerprints, freshness, shared_mailboxes,
};
