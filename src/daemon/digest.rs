//! Mails to the operator: a digest of each run of the schedule, and alarms; to auditors the newest checkpoint of the log.
//! They go over the same relay as letters, on a connection of their own, and never stand in the way of one.

use std::fmt::Write as _;

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use tokio_util::sync::CancellationToken;

use crate::deliver::{self, Envelope, Session, Transport};
use crate::model::{
    Attachment, Creditor, CreditorId, DisplayName, EmailAddress, Fault, Language, Mail, Mailbox, Outcome, ReasonCode,
    RefusalCode, Rendered, backoff, counted,
};
use crate::record::{
    self, CheckpointRow, Delivered, DigestFacts, OperatorMail, OperatorMailKey, RecordError, WaitingSince,
};

use super::Shell;
use super::dispatch::Dispatched;
use super::schedule::runs_missing;

/// A subject and a text in plain English.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorText {
    pub subject: String,
    pub text: String,
}

/// What an alarm is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alarm {
    /// Two working days went by without a completed run.
    NoRun,
    /// A guard refused the run, with its code.
    Refused(String),
    /// The run broke off.
    Failed,
    /// The shape of the ledger is not what the contract says.
    Contract,
}

impl Alarm {
    /// The one text form.
    #[must_use]
    pub fn cause(&self) -> String {
        match self {
            Self::NoRun => "no_run".to_owned(),
            Self::Refused(code) => format!("refused {code}"),
            Self::Failed => "failed".to_owned(),
            Self::Contract => "contract".to_owned(),
        }
    }
}

/// What a digest says. `quarantined`: rows that the ledger check put aside, when that is known.
#[must_use]
pub fn digest_text(facts: &DigestFacts, zone: Tz, quarantined: Option<u64>) -> OperatorText {
    let (totals, today) = (&facts.totals, facts.business_date);
    let opened: i64 = facts.tasks_opened.values().sum();
    let subject = format!(
        "[dunningd] {} {today}: {} of {} contacted, {} opened",
        facts.creditor,
        totals.contacted,
        counted(totals.considered, "account"),
        counted(u64::try_from(opened).unwrap_or_default(), "task")
    );
    let mut out = String::new();
    let took = (facts.completed_at - facts.started_at).num_seconds().max(0);
    let _ = writeln!(out, "Run of {} for creditor {}.", weekday(today), facts.creditor);
    let _ = writeln!(
        out,
        "Completed at {}, in {}:{:02}:{:02}; payments are known {}.",
        local(facts.completed_at, zone),
        took / 3_600,
        took / 60 % 60,
        took % 60,
        facts.payments_as_of.map_or("up to nobody knows when".to_owned(), |at| format!("up to {}", local(at, zone)))
    );
    let _ = writeln!(out, "Run {}", facts.run);

    let not_contacted = totals.considered - totals.contacted;
    let _ = writeln!(out, "\nAccounts");
    let _ = writeln!(
        out,
        "  considered {} = contacted {} + not contacted {not_contacted}",
        totals.considered, totals.contacted
    );
    for (code, count) in &totals.reasons {
        let _ = writeln!(out, "  {count:>7}  {code:<26} {}", ReasonCode::parse(code).map_or("", ReasonCode::meaning));
    }
    let overdue = &totals.overdue;
    let (items, accounts) = (counted(overdue.items, "item"), counted(overdue.accounts, "account"));
    let _ = writeln!(out, "\nMoney overdue");
    let _ = writeln!(out, "  {items} of {accounts}: {}", overdue.amounts);
    for (bucket, sum) in &totals.by_outcome {
        let _ = writeln!(out, "  {:>7}  {bucket:<26} {}", sum.items, sum.amounts);
    }

    let _ = writeln!(out, "\nTasks");
    let kinds: Vec<String> = facts.tasks_opened.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let _ =
        writeln!(out, "  opened on {today}: {}", if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") });
    waiting(&mut out, "  open: none", &facts.tasks_open, today);
    let _ = writeln!(out, "\nNotices that wait for approval");
    waiting(&mut out, "  none", &facts.approvals, today);
    let _ = writeln!(out, "\nNotices that nobody has resolved");
    waiting(&mut out, "  none", &facts.unresolved, today);
    let Delivered { accepted, refused, expired, queued } = facts.delivered;
    let _ = writeln!(out, "\nDelivery");
    let _ = writeln!(
        out,
        "  {accepted} accepted, {refused} refused, {expired} expired since the last digest; {queued} queued"
    );
    for one in &facts.stopped {
        let since = one.open_since.map_or(String::new(), |at| format!(" since {}", local(at, zone)));
        let _ = writeln!(out, "  STOPPED {} {}{since}: {}", one.kind, one.subject, one.cause);
    }
    let _ = writeln!(out, "\nLedger rows put aside");
    let _ = match quarantined {
        None => writeln!(out, "  not known; `dunningd ledger check` tells"),
        Some(0) => writeln!(out, "  none"),
        Some(count) => writeln!(out, "  {count}; `dunningd ledger check` names them"),
    };
    let _ = writeln!(out, "\nContact log");
    let _ = writeln!(out, "  {} events, head {}", facts.log_events, facts.log_head);
    OperatorText { subject, text: out }
}

fn waiting(out: &mut String, none: &str, rows: &[WaitingSince], today: NaiveDate) {
    if rows.is_empty() {
        let _ = writeln!(out, "{none}");
    }
    for row in rows {
        let age = match (today - row.since).num_days() {
            0 => "since today".to_owned(),
            1 => "oldest 1 day".to_owned(),
            days => format!("oldest {days} days"),
        };
        let _ = writeln!(out, "  {:>7}  {:<26} {age}", row.count, row.what);
    }
}

/// What an alarm says. `last`: the day of the last completed run of the schedule.
#[must_use]
pub fn alarm_text(creditor: &CreditorId, day: NaiveDate, alarm: &Alarm, last: Option<NaiveDate>) -> OperatorText {
    let (what, meaning, advice) = match alarm {
        Alarm::NoRun => (
            "no completed run for two working days".to_owned(),
            "The schedule has written to nobody since the last one, and will not until a run completes.",
            "`dunningd status` tells how the last run ended; the service log tells why none began.",
        ),
        Alarm::Refused(code) => (
            format!("the run was refused, {code}"),
            RefusalCode::parse(code).map_or("", RefusalCode::meaning),
            "Nothing was decided and nobody was written to. Once the cause is gone the service begins the run by itself, \
             within the hours of its schedule.",
        ),
        Alarm::Failed => (
            "the run broke off".to_owned(),
            "What it had planned is cancelled or will be by the next run; nothing of it was sent.",
            "The service tries again by itself, within the hours of its schedule; the service log tells what happened.",
        ),
        Alarm::Contract => (
            "the ledger breaks its contract".to_owned(),
            "A relation or a column is missing or has changed, so nothing can be decided.",
            "`dunningd ledger check` names every finding. The service begins the run by itself once they are mended.",
        ),
    };
    let mut out = String::new();
    let _ = writeln!(out, "Creditor {creditor}, {}: {what}.", weekday(day));
    let _ = writeln!(out, "{meaning}\n");
    let _ = writeln!(out, "{advice}\n");
    let last = last.map_or("none yet".to_owned(), weekday);
    let _ = writeln!(out, "Last completed run of the schedule: {last}.");
    let _ = writeln!(out, "This alarm comes once a day as long as its cause lasts.");
    OperatorText { subject: format!("[dunningd] ALARM {creditor} {day}: {what}"), text: out }
}

/// A run that ended longer ago than this without a digest lost the daemon that would have written it.
const WRITTEN_WITHIN: chrono::Duration = chrono::Duration::minutes(5);

/// Writes the digest of a run that has just ended, with the rows that its ledger check put aside; or, with `None`, of
/// one whose daemon died before it could.
///
/// # Errors
/// When the database refuses.
pub async fn write_digest(shell: &Shell, creditor: &Creditor, ended: Option<u64>) -> Result<(), RecordError> {
    let live = shell.live();
    if live.config.service.digest.to.is_empty() {
        return Ok(());
    }
    let mut connection = shell.pool.acquire().await?;
    let before = shell.clock.wall() - ended.map_or(WRITTEN_WITHIN, |_| chrono::Duration::zero());
    let Some((run, day)) = record::runs_to_tell(&mut connection, &creditor.id, before).await? else { return Ok(()) };
    let told = Told {
        kind: "digest",
        creditor,
        business_date: day,
        cause: "run_completed",
        to: &live.config.service.digest.to,
    };
    if is_written(&mut connection, &told).await? {
        return Ok(());
    }
    let Some(facts) = record::digest_facts(&mut connection, &creditor.id, run).await? else { return Ok(()) };
    let text = digest_text(&facts, creditor.time_zone, ended);
    write(shell, &told, text, Vec::new()).await
}

/// Writes the alarms there is cause for today; `contract` when the ledger's shape kept the run from beginning.
///
/// # Errors
/// When the database refuses.
pub async fn write_alarms(shell: &Shell, creditor: &Creditor, contract: bool) -> Result<(), RecordError> {
    let live = shell.live();
    if live.config.service.digest.to.is_empty() {
        return Ok(());
    }
    let (id, zone) = (&creditor.id, creditor.time_zone);
    let today = shell.clock.today(zone);
    let mut connection = shell.pool.acquire().await?;
    let last = record::scheduled_run(&mut connection, id).await?;
    let mut alarms = Vec::new();
    if contract {
        alarms.push(Alarm::Contract);
    }
    for (state, reason) in record::runs_in_trouble(&mut connection, id, today).await? {
        let alarm = if state == "refused" { Alarm::Refused(reason.unwrap_or_default()) } else { Alarm::Failed };
        if !alarms.contains(&alarm) {
            alarms.push(alarm);
        }
    }
    // Without any completed run yet: since the day before the first that was tried.
    let first = record::first_scheduled_run(&mut connection, id).await?;
    let since = last.or_else(|| first.and_then(|day| day.pred_opt()));
    let (calendars, schedule) = (&live.config.policy.calendars, &live.config.service.schedule);
    if since.is_some_and(|day| runs_missing(day, shell.clock.now(), creditor, calendars, schedule)) {
        alarms.push(Alarm::NoRun);
    }
    for alarm in alarms {
        let cause = alarm.cause();
        let told =
            Told { kind: "alarm", creditor, business_date: today, cause: &cause, to: &live.config.service.digest.to };
        if !is_written(&mut connection, &told).await? {
            write(shell, &told, alarm_text(id, today, &alarm, last), Vec::new()).await?;
        }
    }
    Ok(())
}

/// What an alarm about the contact log says.
#[must_use]
pub fn log_alarm_text(day: NaiveDate, finding: &str) -> OperatorText {
    let text = format!(
        "The contact log does not hold together. It was found on {}:\n\n\
         \x20 {finding}\n\n\
         Somebody changed it, or the database was restored or damaged. No checkpoint is signed as long as that lasts.\n\
         Change nothing in the database before somebody has looked into it. `dunningd log verify` reads all of the log;\n\
         `dunningd log verify --checkpoint FILE`, with a checkpoint that was kept elsewhere, tells whether the log still is\n\
         the one that was signed. `dunningd pause --reason …` stops all letters.\n\n\
         This alarm comes once a day as long as its cause lasts.\n",
        weekday(day)
    );
    OperatorText { subject: format!("[dunningd] ALARM {day}: the contact log does not hold together"), text }
}

/// Writes the alarm about what was found of the contact log, once a day for each finding.
///
/// # Errors
/// When the database refuses.
pub async fn write_log_alarm(shell: &Shell, finding: &str) -> Result<(), RecordError> {
    let live = shell.live();
    let to = &live.config.service.digest.to;
    // It is about no creditor; it comes from the first one's address.
    let Some(creditor) = live.config.policy.creditors.values().next().filter(|_| !to.is_empty()) else { return Ok(()) };
    let today = shell.clock.today(creditor.time_zone);
    let cause = format!("log {finding}");
    let told = Told { kind: "alarm", creditor, business_date: today, cause: &cause, to };
    if is_written(&mut *shell.pool.acquire().await?, &told).await? {
        return Ok(());
    }
    write(shell, &told, log_alarm_text(today, finding), Vec::new()).await
}

/// What an alarm about delivery says.
#[must_use]
pub fn delivery_alarm_text(day: NaiveDate, what: &str, cause: &str, advice: &str) -> OperatorText {
    let text = format!(
        "Delivery stands still: {what}.\n\n  {cause}\n\n\
         What is queued stays queued, no letter is lost by it, and what expires meanwhile is decided anew.\n{advice}\n\n\
         `dunningd status` tells how it stands now; the service log tells more.\n"
    );
    OperatorText { subject: format!("[dunningd] ALARM {day}: {what}"), text }
}

/// Writes an alarm about each breaker that has been open for an hour: one for each time that it opened.
///
/// # Errors
/// When the database refuses.
pub async fn write_delivery_alarms(shell: &Shell) -> Result<(), RecordError> {
    let live = shell.live();
    let to = &live.config.service.digest.to;
    if to.is_empty() {
        return Ok(());
    }
    let mut connection = shell.pool.acquire().await?;
    for open in record::breakers_of_an_hour(&mut connection).await? {
        let mut creditors = live.config.policy.creditors.values();
        let (Some(creditor), Some(since)) = (creditors.find(|one| open.concerns(&one.id)), open.open_since) else {
            continue;
        };
        let cause = format!("breaker {} {} {}", open.kind, open.subject, since.to_rfc3339());
        let day = since.with_timezone(&creditor.time_zone).date_naive();
        let told = Told { kind: "alarm", creditor, business_date: day, cause: &cause, to };
        if is_written(&mut connection, &told).await? {
            continue;
        }
        let what = format!("the {} {} has been stopped for an hour", open.kind, open.subject);
        let why = format!("since {}, {} failures: {}", local(since, creditor.time_zone), open.failures, open.cause);
        let advice =
            "Once the cause is gone it goes on by itself, with one letter first; `dunningd resume` tries at once.";
        write(shell, &told, delivery_alarm_text(day, &what, &why, advice), Vec::new()).await?;
    }
    Ok(())
}

/// Writes the alarm that nothing may be sent from here, once a day.
///
/// # Errors
/// When the database refuses.
pub async fn write_stopped_alarm(shell: &Shell, why: &str) -> Result<(), RecordError> {
    let live = shell.live();
    let to = &live.config.service.digest.to;
    let Some(creditor) = live.config.policy.creditors.values().next().filter(|_| !to.is_empty()) else { return Ok(()) };
    let today = shell.clock.today(creditor.time_zone);
    let told = Told { kind: "alarm", creditor, business_date: today, cause: "delivery stopped", to };
    if is_written(&mut *shell.pool.acquire().await?, &told).await? {
        return Ok(());
    }
    let advice = "This alarm comes once a day as long as its cause lasts.";
    let text = delivery_alarm_text(today, "nothing is sent from this machine", why, advice);
    write(shell, &told, text, Vec::new()).await
}

/// What an auditor gets with a checkpoint.
#[must_use]
pub fn checkpoint_text(checkpoint: &CheckpointRow, day: NaiveDate) -> OperatorText {
    let CheckpointRow { size, note, verifier_key } = checkpoint;
    let events = counted(*size, "event");
    let text = format!(
        "The contact log held {events} when this checkpoint of it was signed. Keep this mail where\n\
         nobody who runs the installation can change it: with the file that came along,\n\n\
         \x20 dunningd log verify --checkpoint checkpoint-{size}.txt --key <public key>\n\n\
         shows at any later time whether one of these events was changed, taken out or moved. The\n\
         same without dunningd: docs/verify.md.\n\n\
         The checkpoint, as it stands in the file:\n\n{note}\n\
         It is signed with the key of which this is the public part. You should have been given that\n\
         in another way; compare them.\n\n{verifier_key}\n"
    );
    OperatorText { subject: format!("[dunningd] checkpoint of the contact log {day}: {events}"), text }
}

/// Writes the newest checkpoint to the auditors, once a day.
///
/// # Errors
/// When the database refuses.
pub async fn write_checkpoint(shell: &Shell) -> Result<(), RecordError> {
    let live = shell.live();
    let to = &live.config.service.log.checkpoint_to;
    // It is about no creditor; it comes from the first one's address.
    let Some(creditor) = live.config.policy.creditors.values().next().filter(|_| !to.is_empty()) else { return Ok(()) };
    let today = shell.clock.today(creditor.time_zone);
    let told = Told { kind: "checkpoint", creditor, business_date: today, cause: "daily", to };
    let mut connection = shell.pool.acquire().await?;
    if is_written(&mut connection, &told).await? {
        return Ok(());
    }
    let Some(checkpoint) = record::last_checkpoint(&mut connection).await? else { return Ok(()) };
    let file = Attachment {
        file_name: format!("checkpoint-{}.txt", checkpoint.size),
        content_type: "text/plain; charset=utf-8".to_owned(),
        bytes: checkpoint.note.clone().into_bytes(),
    };
    write(shell, &told, checkpoint_text(&checkpoint, today), vec![file]).await
}

/// One mail for each address, once.
struct Told<'a> {
    kind: &'static str,
    creditor: &'a Creditor,
    business_date: NaiveDate,
    cause: &'a str,
    to: &'a [EmailAddress],
}

impl<'a> Told<'a> {
    fn key(&self, recipient: &'a EmailAddress) -> OperatorMailKey<'a> {
        let Self { kind, creditor, business_date, cause, .. } = *self;
        OperatorMailKey { kind, creditor: &creditor.id, business_date, cause, recipient }
    }
}

async fn is_written(connection: &mut sqlx::PgConnection, told: &Told<'_>) -> Result<bool, RecordError> {
    for recipient in told.to {
        if !record::is_operator_mail_written(connection, told.key(recipient)).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn write(
    shell: &Shell,
    told: &Told<'_>,
    OperatorText { subject, text }: OperatorText,
    attachments: Vec<Attachment>,
) -> Result<(), RecordError> {
    let Told { kind, creditor, to, .. } = *told;
    let content = Rendered { subject, text, html: String::new(), attachments };
    let mut connection = shell.pool.acquire().await?;
    for recipient in to {
        let mail = shell.clock.new_id();
        let message_id = format!("<o.{mail}@{}>", creditor.sender.domain());
        let from = Mailbox { name: DisplayName::of("dunningd"), address: creditor.sender.clone() };
        let envelope = Mail {
            reply_to: from.clone(),
            from,
            to: Mailbox { name: None, address: recipient.clone() },
            message_id: message_id.clone(),
            references: Vec::new(),
            date: shell.clock.now().with_timezone(&creditor.time_zone).fixed_offset(),
            language: Language::En,
        };
        let bytes = match deliver::build(&envelope, &content) {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::error!(kind, %error, "a mail to the operator cannot be made");
                continue;
            }
        };
        let sender = creditor.sender.clone();
        let written = OperatorMail { mail, sender, recipient: recipient.clone(), message_id, bytes, tries: 0 };
        record::write_operator_mail(&mut connection, told.key(recipient), &written).await?;
    }
    Ok(())
}

/// Sends the mails to the operator whose time has come, until `stop` is cancelled. With a relay that cannot be used they stay queued.
///
/// # Errors
/// When the database refuses.
pub async fn send_operator_mails(
    shell: &Shell,
    transport: &Transport,
    stop: &CancellationToken,
) -> Result<Dispatched, RecordError> {
    let due = record::operator_mails_due(&mut *shell.pool.acquire().await?).await?;
    let mut done = Dispatched::default();
    let mut session: Option<Session> = None;
    for mail in &due {
        if stop.is_cancelled() {
            break;
        }
        let (taken, outcome) = match transport {
            Transport::File(files) => {
                if !record::take_operator_mail(&mut *shell.pool.acquire().await?, mail.mail).await? {
                    continue;
                }
                (true, files.deliver(&mail.message_id, &mail.bytes).await)
            }
            Transport::Smtp(relay) => {
                let connected = if let Some(session) = session.take() {
                    session
                } else {
                    let connected = tokio::select! {
                        connected = relay.connect() => connected,
                        () = stop.cancelled() => break,
                    };
                    match connected {
                        Ok(session) => session,
                        Err(error) => {
                            return Ok(Dispatched { accepted: done.accepted, ..Dispatched::unusable(relay, &error) });
                        }
                    }
                };
                let id = mail.mail.to_string();
                let envelope = Envelope { from: &mail.sender, to: &mail.recipient, id: &id, bytes: &mail.bytes };
                match connected.envelope(&envelope).await {
                    Err((kept, outcome)) => {
                        session = kept;
                        (false, outcome)
                    }
                    Ok(ready) => {
                        if !record::take_operator_mail(&mut *shell.pool.acquire().await?, mail.mail).await? {
                            session = ready.reset().await;
                            continue;
                        }
                        let (kept, outcome) = ready.data(&mail.bytes, || true).await;
                        session = kept;
                        (true, outcome)
                    }
                }
            }
        };
        done.count(outcome.state());
        tracing::info!(mail.id = %mail.mail, outcome = outcome.state().as_str(), "mail to the operator");
        settle(shell, mail, taken, &outcome).await?;
    }
    if let Some(session) = session {
        session.quit().await;
    }
    Ok(done)
}

async fn settle(shell: &Shell, mail: &OperatorMail, taken: bool, outcome: &Outcome) -> Result<(), RecordError> {
    let live = shell.live();
    let dispatch = &live.config.service.dispatch;
    let jitter = rand::random_range(0..1_000);
    let wait = backoff(mail.tries, dispatch.retry_first, dispatch.retry_last, jitter);
    let is_ours = outcome.fault().is_some_and(Fault::is_ours);
    let once_more = is_ours || mail.tries + 1 < dispatch.max_tries;
    let again = once_more.then(|| shell.clock.wall() + chrono::Duration::from_std(wait).unwrap_or_default());
    record::settle_operator_mail(&mut *shell.pool.acquire().await?, mail.mail, taken, outcome, again).await
}

fn weekday(day: NaiveDate) -> String {
    day.format("%A %Y-%m-%d").to_string()
}

fn local(at: DateTime<Utc>, zone: Tz) -> String {
    at.with_timezone(&zone).format("%Y-%m-%d %H:%M %Z").to_string()
}
