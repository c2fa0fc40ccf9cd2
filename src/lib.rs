//! dunningd chases overdue invoices and can prove every contact.
//!
//! ```text
//!  ledger -> decide -> render -> record -> deliver -> record
//! ```
//!
//! `model` is the vocabulary, `decide` the pure core, `daemon` the one shell; `ARCHITECTURE.md` has the map.

pub mod clock;
pub mod files;
pub mod model;
pub mod decide;
pub mod claim;
pub mod ledger;
pub mod render;
pub mod deliver;
pub mod record;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod cli;
