//! The outbox: notices on their way, and those that need a person.

use sqlx::Connection as _;

use crate::record::{self, Resolution, ResolveError};

use super::args::{Cli, ResolveArgs};
use super::connect;
use super::failure::{Exit, Failure};

pub(super) async fn list(cli: &Cli) -> Result<Exit, Failure> {
    let shell = connect::shell(cli, None).await?;
    let mut connection = shell.pool.acquire().await?;
    let rows = record::outbox(&mut connection).await?;
    if cli.json {
        println!("{}", serde_json::to_value(&rows).unwrap_or_default());
        return Ok(Exit::DONE);
    }
    if rows.is_empty() {
        println!("Nothing is on its way, and nothing needs a person.");
    }
    for row in rows {
        let last = match (&row.phase, row.reply_code) {
            (Some(phase), Some(code)) => format!(", last answer {code} at {phase}"),
            (Some(phase), None) => format!(", last attempt ended at {phase} without an answer"),
            (None, _) => String::new(),
        };
        let next =
            row.next_try_at.map_or(String::new(), |at| format!(", next try {}", at.format("%Y-%m-%d %H:%M UTC")));
        println!(
            "{}  {:<24} {:<10} {:<9} of {}, {} tries{last}{next}",
            row.notice_id, row.account_id, row.stage, row.state, row.business_date, row.tries
        );
    }
    Ok(Exit::DONE)
}

pub(super) async fn resolve(cli: &Cli, args: &ResolveArgs) -> Result<Exit, Failure> {
    let shell = connect::shell(cli, args.why.by.as_deref()).await?;
    let resolution = if args.accepted { Resolution::Accepted } else { Resolution::NotSent };
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
        println!("{}", serde_json::json!({ "notice": args.notice, "accepted": args.accepted }));
    } else {
        println!("Notice {} {said}.", args.notice);
    }
    Ok(Exit::DONE)
}
