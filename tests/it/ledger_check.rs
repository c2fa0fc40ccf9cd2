//! ledger_check
