//! The program as a person runs it: what it says, exactly, and with which code it ends.

#![expect(clippy::unwrap_used, reason = "what tests call fails like a test")]

mod explain;
mod ladder;
mod register;
mod service;
mod setup;
mod task;
mod work;

/// Compares with a file of `tests/data/cli`; `INSTA_UPDATE=always` writes it.
fn shows(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/cli"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}
