//! Release: the mode, the adoption of a database, and what a person lets out or drops.

use sqlx::Connection as _;

use crate::daemon::{self, PutOff};
use crate::model::{Mode, counted};
use crate::record::{self, ApprovalError, Which};

use super::args::{Cli, ModeArgs, ReasonArgs, WhichArgs};
use super::connect;
use super::failure::{Exit, Failure};
use super::output::say;

/// The mode in words, and what to do next.
pub(super) fn in_words(mode: Mode) -> String {
    let next = match mode {
        Mode::Shadow => " Next: `dunningd mode approve_all --reason …`.",
        Mode::ApproveAll => " Next: `dunningd outbox list`, `outbox approve`; `dunningd mode live --reason …`.",
        Mode::Live => "",
    };
    format!("{}: {}{next}", mode.as_str(), mode.meaning())
}

pub(super) async fn mode(cli: &Cli, args: &ModeArgs) -> Result<Exit, Failure> {
    let shell = connect::shell(cli, args.by.as_deref()).await?;
    let mut connection = shell.pool.acquire().await?;
    if let (Some(to), Some(reason)) = (args.to, &args.reason) {
        let mut transaction = connection.begin().await?;
        let changed = record::set_mode(&mut transaction, to, reason, &shell.actor).await?;
        transaction.commit().await?;
        if cli.json {
            say!("{}", serde_json::json!({ "mode": to, "changed": changed }));
        } else {
            say!("The mode {} {}", if changed { "is now" } else { "was already" }, in_words(to));
        }
        return Ok(Exit::DONE);
    }
    let state = record::mode(&mut connection).await?;
    if cli.json {
        say!("{}", serde_json::to_value(&state).unwrap_or_default());
        return Ok(Exit::DONE);
    }
    say!("The mode is {}", in_words(state.mode));
    if let (Some(person), Some(since), Some(reason)) = (&state.by_person, state.since, &state.reason) {
        say!("Set by {person} on {}: {reason}", since.format("%Y-%m-%d %H:%M UTC"));
    }
    Ok(Exit::DONE)
}

pub(super) async fn adopt(cli: &Cli, args: &ReasonArgs) -> Result<Exit, Failure> {
    let shell = connect::shell(cli, args.by.as_deref()).await?;
    let mut connection = shell.pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    let adopted = record::adopt(&mut transaction, &shell.host, &args.reason, &shell.actor).await?;
    transaction.commit().await?;
    let identity = record::identity(&mut connection, &shell.host).await?;
    if cli.json {
        say!("{}", serde_json::json!({ "adopted": adopted, "identity": identity }));
    } else {
        let (name, system) = (&identity.database_name, &identity.system_identifier);
        let may = if adopted { "may send from this machine now" } else { "might send from this machine already" };
        say!("The database {name} (system {system}) {may}.");
    }
    Ok(Exit::DONE)
}

impl From<ApprovalError> for Failure {
    fn from(error: ApprovalError) -> Self {
        match error {
            ApprovalError::Record(error) => error.into(),
            ApprovalError::NoSuchNotice(_) | ApprovalError::NoSuchRun(_) | ApprovalError::NothingWaits => {
                Self::new(Exit::NO_SUCH_THING, error.to_string())
            }
            refused => Self::new(Exit::REFUSED, refused.to_string()),
        }
    }
}

fn which(args: &WhichArgs) -> Which {
    match args.run {
        Some(run) => Which::Run(run),
        None if args.all => Which::All,
        None => Which::Notices(args.notices.clone()),
    }
}

pub(super) async fn approve(cli: &Cli, args: &WhichArgs) -> Result<Exit, Failure> {
    let shell = connect::shell(cli, args.why.by.as_deref()).await?;
    let which = which(args);
    let done = daemon::approve(&shell, &which, &args.why.reason).await?;
    let something_approved = done.approved + done.renewed > 0;
    let something_refused = done.void + done.expired > 0 || !done.put_off.is_empty();
    let exit = if something_refused && !something_approved { Exit::REFUSED } else { Exit::DONE };
    if cli.json {
        say!("{}", serde_json::to_value(&done).unwrap_or_default());
        return Ok(exit);
    }
    say!("{} approved and queued.", counted(done.approved, "notice"));
    if done.renewed > 0 {
        say!(
            "{} approved and queued with a smaller amount: something was paid since.",
            counted(done.renewed, "notice")
        );
    }
    if done.void > 0 {
        say!("{} not approved: something grew or changed; the next scan decides again.", counted(done.void, "notice"));
    }
    if done.expired > 0 {
        say!(
            "{} not approved: the text is no longer true; the next scan decides again.",
            counted(done.expired, "notice")
        );
    }
    for PutOff { notice, account, because, until, valid_until } in &done.put_off {
        let when = match until {
            None => "It waits on.".to_owned(),
            Some(day) if day <= valid_until => format!("It waits on, and can be approved from {day} on."),
            Some(day) => format!("Its text is true until {valid_until} only; a scan from {day} on decides again."),
        };
        say!("Notice {notice} (account {account}) not approved: {because}. {when}");
    }
    if let Which::Run(run) = which
        && done.run_waits_for > 0
    {
        let wait = if done.run_waits_for == 1 { "waits" } else { "wait" };
        say!("Run {run} is not approved yet: {} of it {wait} on.", counted(done.run_waits_for, "notice"));
    }
    Ok(exit)
}

pub(super) async fn drop_waiting(cli: &Cli, args: &WhichArgs) -> Result<Exit, Failure> {
    let shell = connect::shell(cli, args.why.by.as_deref()).await?;
    let dropped = daemon::drop_waiting(&shell, &which(args), &args.why.reason).await?;
    if cli.json {
        say!("{}", serde_json::json!({ "dropped": dropped }));
    } else {
        say!("{} dropped. The next scan decides again; `dunningd hold` stops an account.", counted(dropped, "notice"));
    }
    Ok(Exit::DONE)
}
