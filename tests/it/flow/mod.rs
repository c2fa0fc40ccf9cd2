//! From the ledger to the relay and into the log: a real database, a real SMTP conversation, a clock that stands still.

#![expect(clippy::unwrap_used, reason = "what tests call fails like a test")]

mod agreements;
mod as_of;
mod calendar;
mod channels;
mod claimable;
mod crash;
mod daemons;
mod digest;
mod forgetful;
mod killed_delivery;
mod killed_scan;
mod last_check;
mod ledger;
mod matrix;
mod moves;
mod register;
mod release;
mod relay;
mod runs;
mod simulate;
mod unknown;
