//! dunningd chases overdue invoices and can prove every contact.
//!
//! ```text
//!  ledger -> decide -> render -> record -> deliver -> record
//! ```
//!
//! `model` is the vocabulary, `decide` the pure core, `daemon` the one shell; `ARCHITECTURE.md` has the map.

pub mod claim;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod decide;
pub mod deliver;
pub mod demo;
pub mod ledger;
pub mod model;
pub mod record;
pub mod render;
