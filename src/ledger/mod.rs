//! The read side: the contract and its check, snapshots, and the CSV import into our own tables.

mod contract;
mod facts;
mod history;
mod import;
mod profile;
mod snapshots;

pub use contract::{
    ACCOUNT, CONTACT, CheckOptions, ContractFinding, ContractReport, Depth, FRESHNESS, ITEM, RELATIONS, RawItem,
    SETTLEMENT, Severity, check, row_problem,
};
pub use facts::{
    LOOK, MailboxAccounts, creditor_of, creditors, fingerprints, freshness, same_view, shared_mailboxes, stale_sources,
};
pub use history::{AccountHistory, HistoryReader, ItemHistory};
pub use import::{
    Counts, Covered, ImportError, ImportOptions, ImportReport, OpeningProblem, OpeningRow, Reject, StructureError,
    import_csv, import_csv_with_progress, read_opening,
};
pub use profile::{Profile, ProfileError, SHIPPED_PROFILES, Scope};
pub use snapshots::{Counted, Lanes, LedgerAccount, Reader, View};
