//! dunningd chases overdue invoices and can prove every contact.
//!
//! ```text
//!  ledger -> decide -> render -> record -> deliver -> record
//! ```
//!
//! `model` is the vocabulary, `decide` the pure core, `daemon` the one shell; `ARCHITECTURE.md` has the map.

pub mod clock;
pub mod model;
