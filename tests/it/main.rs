//! The one integration-test binary.

#[path = "../support/mod.rs"]
mod support;

mod brake;
mod cli;
mod config;
mod deliver;
mod erasure;
mod evidence;
mod flow;
mod import;
mod ledger_check;
mod log;
mod merkle;
mod reasons;
mod render;
mod scenarios;
mod tidy;
mod vectors;
mod words;
