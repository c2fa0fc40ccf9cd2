//! The table of reason codes is generated from the enums, so that nobody meets a code that is not in it.

use std::fmt::Write as _;
use std::path::Path;

use dunningd::model::{
    ApprovalCause, BrakeCode, CallOutcome, CancelReason, Cause, ItemCode, Mode, PlanState, PromiseState, ReasonCode,
    RefusalCode, ReleaseState, TaskKind,
};

fn table(out: &mut String, title: &str, intro: &str, rows: impl Iterator<Item = (String, &'static str)>) {
    let _ = write!(out, "\n## {title}\n\n{intro}\n\n| code | meaning |\n|---|---|\n");
    for (code, meaning) in rows {
        let _ = writeln!(out, "| {code} | {meaning} |");
    }
}

/// A table of codes that also says what would change the answer.
fn with_remedies(out: &mut String, title: &str, intro: &str, rows: impl Iterator<Item = [String; 3]>) {
    let _ = write!(out, "\n## {title}\n\n{intro}\n\n| code | meaning | what would change it |\n|---|---|---|\n");
    for [code, meaning, remedy] in rows {
        let _ = writeln!(out, "| {code} | {meaning} | {remedy} |");
    }
}

fn generated() -> String {
    let mut out = String::from(
        "# Reason codes\n\nEvery \"no\" of dunningd has a code. This page is generated from the program; \
         `UPDATE_EXPECT=1 ./dev test reason_codes` writes it anew. `dunningd explain ACCOUNT` says what would change the \
         answer with the account's own days and amounts.\n",
    );
    with_remedies(
        &mut out,
        "Accounts",
        "Why an account was not contacted in a run: the first that applies, in this order.",
        ReasonCode::ALL.iter().map(|c| {
            [format!("`{}` ({})", c.as_str(), c.kind().as_str()), c.meaning().to_owned(), c.remedy().to_owned()]
        }),
    );
    with_remedies(
        &mut out,
        "Items",
        "What became of one item.",
        ItemCode::ALL
            .iter()
            .map(|c| [format!("`{}`", c.as_str()), c.meaning().to_owned(), c.remedy().unwrap_or_default().to_owned()]),
    );
    table(
        &mut out,
        "Refused runs",
        "Why a whole run was refused (exit code 5); nothing was decided and nothing marked.",
        RefusalCode::ALL.iter().map(|c| (format!("`{}`", c.as_str()), c.meaning())),
    );
    table(
        &mut out,
        "Cancelled notices",
        "Why a notice that was recorded did not go out after all.",
        CancelReason::ALL.iter().map(|c| (format!("`{}`", c.as_str()), c.meaning())),
    );
    table(
        &mut out,
        "Modes",
        "How far the daemon may go by itself: `dunningd mode`.",
        Mode::ALL.iter().map(|c| (format!("`{}`", c.as_str()), c.meaning())),
    );
    table(
        &mut out,
        "Brakes",
        "What keeps the notices of a run from going out by themselves.",
        BrakeCode::ALL.iter().map(|c| (format!("`{}`", c.as_str()), c.meaning())),
    );
    table(
        &mut out,
        "Release",
        "What became of the notices of a run.",
        ReleaseState::ALL.iter().map(|c| (format!("`{}`", c.as_str()), c.meaning())),
    );
    table(
        &mut out,
        "Approval",
        "Why a notice waits until a person approves it: `dunningd outbox approve`.",
        ApprovalCause::ALL.iter().map(|c| (format!("`{}`", c.as_str()), c.meaning())),
    );
    table(
        &mut out,
        "Causes",
        "Why something is unpaid, as far as a person knows: `dunningd cause` and `dunningd dispute`. What follows stands in `policy.toml`.",
        Cause::ALL.iter().map(|c| (format!("`{}`", c.as_str()), c.meaning())),
    );
    table(
        &mut out,
        "Promises",
        "What became of a promise, from what was paid since: `dunningd promise --list`.",
        PromiseState::ALL.iter().map(|c| (format!("`{}`", c.as_str()), c.meaning())),
    );
    table(
        &mut out,
        "Plans",
        "What became of an instalment plan, from what was paid since: `dunningd plan --list`.",
        PlanState::ALL.iter().map(|c| (format!("`{}`", c.as_str()), c.meaning())),
    );
    table(
        &mut out,
        "Tasks",
        "What a person has to do: `dunningd task list`.",
        TaskKind::ALL.iter().map(|c| (format!("`{}`", c.as_str()), c.meaning())),
    );
    table(
        &mut out,
        "Calls",
        "What came of a call: `dunningd call --outcome`, or `task done --outcome`.",
        CallOutcome::ALL.iter().map(|c| (format!("`{}`", c.as_str()), c.meaning())),
    );
    out
}

#[test]
fn the_table_of_reason_codes_lists_every_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reason-codes.md");
    let generated = generated();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), generated, "UPDATE_EXPECT=1 writes it anew");
}
