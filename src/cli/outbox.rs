//! The outbox: notices on their way, and those that need a person.

use std::fmt::Write as _;

use sqlx::Connection as _;
use uuid::Uuid;

use crate::daemon::{self, Evidence, Looked, Shell};
use crate::deliver;
use crate::model::{ApprovalCause, NoticeState, counted};
use crate::record::{self, AttemptRow, Resolution, ResolveError};

use super::args::{Cli, ResolveArgs};
use super::connect;
use super::failure::{Exit, Failure};
use super::output::{complain, say, say_part};

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
    let now = shell.clock.wall();
    for row in rows {
        let waits = row.approval.as_ref().filter(|_| row.state == NoticeState::AwaitingApproval.as_str());
        if let Some(cause) = waits {
            let age = counted((now - row.created_at).num_days().max(0), "day");
            say!(
                "{}  {:<24} {:<10} WAITS for approval ({cause}), {age} old, true until {}",
                row.notice_id,
                row.account_id,
                row.stage,
                row.valid_until
            );
            continue;
        }
        let last = match (&row.phase, row.reply_code, &row.detail) {
            (Some(phase), Some(code), _) => format!(", last answer {code} at {phase}"),
            (Some(phase), None, Some(detail)) => format!(", last attempt ended at {phase}: {detail}"),
            (Some(phase), None, None) => format!(", last attempt ended at {phase} without an answer"),
            (None, ..) => String::new(),
        };
        let next =
            row.next_try_at.map_or(String::new(), |at| format!(", next try {}", at.format("%Y-%m-%d %H:%M UTC")));
        let window =
            row.not_before.map_or(String::new(), |at| format!(", not before {}", at.format("%Y-%m-%d %H:%M UTC")));
        let why = row.reason.as_ref().map_or(String::new(), |reason| format!(", {}", reason.replace('_', " ")));
        say!(
            "{}  {:<24} {:<10} {:<9} of {}, {} tries{why}{last}{next}{window}",
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

pub(super) async fn show(cli: &Cli, notice: Uuid) -> Result<Exit, Failure> {
    let shell = connect::shell(cli, None).await?;
    let mut connection = shell.pool.acquire().await?;
    let message = record::message_of(&mut connection, notice)
        .await?
        .ok_or_else(|| Failure::new(Exit::NO_SUCH_THING, format!("there is no notice {notice}, or it was erased")))?;
    let attempts = record::attempts_of(&mut connection, notice).await?;
    let stands = record::approved_notice(&mut connection, notice).await?;
    let not_before = record::not_before(&mut connection, notice).await?;
    drop(connection);
    let evidence = daemon::evidence(&shell, notice).await?;
    let (subject, text) = deliver::text_of(&message.bytes);
    if cli.json {
        say!(
            "{}",
            serde_json::json!({ "notice": notice, "recipient": message.recipient, "subject": subject, "text": text,
                "letter": message.letter, "not_before": not_before, "attempts": attempts, "evidence": evidence })
        );
        return Ok(Exit::DONE);
    }
    say!("Notice {notice} to {}", message.recipient.lines().collect::<Vec<_>>().join(", "));
    if let Some(at) = not_before {
        say!("It goes out from {} on.", at.format("%Y-%m-%d %H:%M UTC"));
    }
    if let Some(stands) = stands {
        say!("  account {}, stage {}, {}", stands.account, stands.stage, stands.state);
        if let Some(cause) = stands.approval.as_deref().and_then(ApprovalCause::parse) {
            let by = stands.approved_by.map_or(String::new(), |person| format!(" Approved by {person}."));
            say!("  approval: {}{by} Its text is true until {}.", cause.meaning(), stands.valid_until);
        }
        for (item, stage, amount) in stands.items {
            say!("  demands item {item} at stage {stage}: {amount}");
        }
    }
    say!("\nSubject: {subject}\n\n{}\n", text.trim_end());
    if attempts.is_empty() {
        say!("It was not tried yet.");
    }
    match evidence {
        Some(evidence) => say_part!("{}", told(&evidence)),
        None => say_part!("{}", tried(&attempts)),
    }
    Ok(Exit::DONE)
}

/// The attempts, a line each.
fn tried(attempts: &[AttemptRow]) -> String {
    let mut out = String::new();
    for attempt in attempts {
        let answer = match (attempt.reply_code, &attempt.reply_text, &attempt.detail) {
            (Some(code), Some(text), _) => format!("{code} {text}"),
            (_, _, Some(detail)) => detail.clone(),
            _ => "no end is known yet".to_owned(),
        };
        let seconds = attempt.ended_at.map(|ended| (ended - attempt.started_at).num_seconds().max(0));
        let took = seconds.map_or(String::new(), |seconds| format!(" after {seconds} s"));
        let _ = writeln!(
            out,
            "  {}. {}  {} at {}{took}: {answer}",
            attempt.number,
            attempt.started_at.format("%Y-%m-%d %H:%M:%S UTC"),
            attempt.outcome.as_deref().unwrap_or("running"),
            attempt.phase.as_deref().unwrap_or("-")
        );
    }
    out
}

/// What is known about a notice that a person has to resolve, and how that is done.
pub(super) fn told(evidence: &Evidence) -> String {
    let mut out = tried(&evidence.attempts);
    let Evidence { notice, journal, relay_log, .. } = evidence;
    let _ = writeln!(out, "  Message-ID {}", notice.message_id);
    for (what, looked) in [("the journal of replies", journal), ("the relay's log", relay_log)] {
        let Some(Looked { path, unreadable, lines }) = looked else { continue };
        let path = path.display();
        match unreadable {
            Some(why) => {
                let _ = writeln!(out, "  {what} ({path}) cannot be read: {why}");
            }
            None if lines.is_empty() => {
                let _ = writeln!(out, "  {what} ({path}) says nothing about it");
            }
            None => {
                let _ = writeln!(out, "  {what} ({path}):");
            }
        }
        for line in lines {
            let _ = writeln!(out, "    {line}");
        }
    }
    let id = notice.notice_id;
    let next = match NoticeState::parse(&notice.state) {
        Some(NoticeState::InFlight) => {
            "It is on the wire; what is not known when its time is over becomes a task.".to_owned()
        }
        Some(NoticeState::Refused) => {
            format!("Mend what was refused, then `dunningd outbox resolve {id} --not-sent --reason …`.")
        }
        _ => format!(
            "Look for it in the relay's log and among the bounces, or ask the debtor; then \
             `dunningd outbox resolve {id} --accepted --reason …`, or `--not-sent` and the next scan may write again."
        ),
    };
    let _ = writeln!(out, "{next}");
    if let Some(at) = notice.resend_at {
        let _ =
            writeln!(out, "Unless somebody does, it goes out once more from {} on.", at.format("%Y-%m-%d %H:%M UTC"));
    } else if notice.beside_contact {
        let _ = writeln!(out, "It does not go out once more by itself: the debtor was contacted otherwise since.");
    } else if notice.resent {
        let _ = writeln!(out, "It was to go out once more already, and does not a third time.");
    }
    out
}

/// Each by itself: what cannot be resolved is told, and keeps the others from nothing.
pub(super) async fn resolve(cli: &Cli, args: &ResolveArgs) -> Result<Exit, Failure> {
    let shell = connect::shell(cli, args.why.by.as_deref()).await?;
    let resolution = if args.what.accepted { Resolution::Accepted } else { Resolution::NotSent };
    let said = match resolution {
        Resolution::Accepted => "counts as accepted on the day of its attempt",
        Resolution::NotSent => "counts as not sent; the next scan may write again",
    };
    let (mut done, mut exit) = (Vec::new(), Exit::DONE);
    for notice in &args.notices {
        match resolve_one(&shell, *notice, resolution, &args.why.reason).await {
            Ok(()) if cli.json => {
                done.push(serde_json::json!({ "notice": notice, "accepted": args.what.accepted }));
            }
            Ok(()) => say!("Notice {notice} {said}."),
            Err(failure) if args.notices.len() == 1 => return Err(failure),
            Err(failure) => {
                if cli.json {
                    done.push(serde_json::json!({ "notice": notice, "error": failure.message() }));
                } else {
                    complain(format_args!("{}", failure.message()));
                }
                exit = failure.exit;
            }
        }
    }
    if cli.json {
        let value = if args.notices.len() == 1 { done.remove(0) } else { done.into() };
        say!("{value}");
    }
    Ok(exit)
}

async fn resolve_one(shell: &Shell, notice: Uuid, resolution: Resolution, reason: &str) -> Result<(), Failure> {
    let mut connection = shell.pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    record::resolve(&mut transaction, notice, resolution, reason, &shell.actor).await.map_err(|error| match error {
        ResolveError::Record(error) => error.into(),
        ResolveError::NoSuchNotice(_) => Failure::new(Exit::NO_SUCH_THING, error.to_string()),
        other => Failure::new(Exit::REFUSED, other.to_string()),
    })?;
    Ok(transaction.commit().await?)
}
