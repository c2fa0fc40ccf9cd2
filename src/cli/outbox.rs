//! The outbox: notices on their way, and those that need a person.

use sqlx::Connection as _;

use crate::record::{self, Resolution, ResolveError};

use super::args::{Cli, ResolveArgs};
use super::connect;
use super::failure::{Exit, Failure};
use super::output::say;

pub(super) async fn list(cli: &Cli) -> Result<Exit, Failure> {
    let shell = connect::shell(cli, None).await?;
    let mut connection = shell.pool.acquire().await?;
    let rows = record::outbox(&mut connection).await?;
    if cli.json {
        say!("{}", serde_json::to_value(&rows).unwrap_or_default());
        return Ok(Exit::DONE);
    }
    if rows.is_empty() {
        say!("Nothing is on its way, and nothing needs a person.");
    }
    for row in rows {
        let last = match (&row.phase, row.reply_code) {
            (Some(phase), Some(code)) => format!(", last answer {code} at {phase}"),
            (Some(phase), None) => format!(", last attempt ended at {phase} without an answer"),
            (None, _) => String::new(),
        };
        let next =
            row.next_try_at.map_or(String::new(), |at| format!(", next try {}", at.format("%Y-%m-%d %H:%M UTC")));
        let window =
            row.not_before.map_or(String::new(), |at| format!(", not before {}", at.format("%Y-%m-%d %H:%M UTC")));
        say!(
            "{}  {:<24} {:<10} {:<9} of {}, {} tries{last}{next}{window}",
            row.notice_id,
            row.account_id,
            row.stage,
            row.state,
            row.business_date,
            row.tries
        );
    }
    Ok(Exit::DONE)
}

pub(super) async fn show(cli: &Cli, notice: uuid::Uuid) -> Result<Exit, Failure> {
    let shell = connect::shell(cli, None).await?;
    let mut connection = shell.pool.acquire().await?;
    let message = record::message_of(&mut connection, notice)
        .await?
        .ok_or_else(|| Failure::new(Exit::NO_SUCH_THING, format!("there is no notice {notice}, or it was erased")))?;
    let attempts = record::attempts_of(&mut connection, notice).await?;
    let not_before = record::not_before(&mut connection, notice).await?;
    if cli.json {
        say!(
            "{}",
            serde_json::json!({ "notice": notice, "recipient": message.recipient, "letter": message.letter,
                "not_before": not_before, "attempts": attempts })
        );
        return Ok(Exit::DONE);
    }
    say!("Notice {notice} to {}", message.recipient);
    if let Some(at) = not_before {
        say!("It goes out from {} on.", at.format("%Y-%m-%d %H:%M UTC"));
    }
    if attempts.is_empty() {
        say!("It was not tried yet.");
    }
    for attempt in attempts {
        let answer = match (attempt.reply_code, &attempt.reply_text, &attempt.detail) {
            (Some(code), Some(text), _) => format!("{code} {text}"),
            (_, _, Some(detail)) => detail.clone(),
            _ => "no end is known yet".to_owned(),
        };
        say!(
            "  {}. {}  {} at {}: {answer}",
            attempt.number,
            attempt.started_at.format("%Y-%m-%d %H:%M:%S UTC"),
            attempt.outcome.as_deref().unwrap_or("running"),
            attempt.phase.as_deref().unwrap_or("-")
        );
    }
    Ok(Exit::DONE)
}

pub(super) async fn tasks(cli: &Cli) -> Result<Exit, Failure> {
    let shell = connect::shell(cli, None).await?;
    let mut connection = shell.pool.acquire().await?;
    let tasks = record::open_tasks(&mut connection).await?;
    if cli.json {
        say!("{}", serde_json::to_value(&tasks).unwrap_or_default());
        return Ok(Exit::DONE);
    }
    if tasks.is_empty() {
        say!("Nothing waits for a person.");
    }
    for task in tasks {
        let about = if task.subject.is_empty() { String::new() } else { format!(" ({})", task.subject) };
        say!(
            "{:>6}  {}  {:<18} {:<24} {}{about}",
            task.task_id,
            task.opened_on,
            task.kind,
            if task.account_id.is_empty() { &task.creditor } else { &task.account_id },
            task.text
        );
    }
    Ok(Exit::DONE)
}

pub(super) async fn resolve(cli: &Cli, args: &ResolveArgs) -> Result<Exit, Failure> {
    let shell = connect::shell(cli, args.why.by.as_deref()).await?;
    let resolution = if args.what.accepted { Resolution::Accepted } else { Resolution::NotSent };
    let mut connection = shell.pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    record::resolve(&mut transaction, args.notice, resolution, &args.why.reason, &shell.actor).await.map_err(
        |error| match error {
            ResolveError::Record(error) => error.into(),
            ResolveError::NoSuchNotice(_) => Failure::new(Exit::NO_SUCH_THING, error.to_string()),
            other => Failure::new(Exit::REFUSED, other.to_string()),
        },
    )?;
    transaction.commit().await?;
    let said = match resolution {
        Resolution::Accepted => "counts as accepted on the day of its attempt",
        Resolution::NotSent => "counts as not sent; the next scan may write again",
    };
    if cli.json {
        say!("{}", serde_json::json!({ "notice": args.notice, "accepted": args.what.accepted }));
    } else {
        say!("Notice {} {said}.", args.notice);
    }
    Ok(Exit::DONE)
}
