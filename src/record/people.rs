//! Notices that people perform: given to them as tasks, done, dropped, taken back.

mod detail;

use chrono::NaiveDate;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::model::{
    AccountId, Actor, CallOutcome, CancelReason, Cause, Channel, Country, Decision, Event, EventKind, Handover, ItemId,
    NoticeId, NoticeState, RunId, TakenBack, TaskKind, Tone, how_to_post,
};

use super::approvals::cancel_all;
use super::decisions::Planned;
use super::journal::{Call, NoteText, record_call};
use super::notices::commitment;
use super::register::{RegisterError, record_handover};
use super::{RecordError, append, inconsistent};

pub use detail::{TaskDetail, TaskNotice, task_detail};

/// Why a task could not be ended.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    #[error("there is no task {0}")]
    NoSuchTask(i64),
    #[error("task {0} is closed already")]
    Closed(i64),
    #[error("task {task} is about a notice that is {state}; there is nothing left to do")]
    NotWithPerson { task: i64, state: String },
    #[error("task {task} is a {}: it needs {what}", kind.as_str())]
    Needs { task: i64, kind: TaskKind, what: &'static str },
    #[error("task {task} is a {}: {what}", kind.as_str())]
    NotFor { task: i64, kind: TaskKind, what: &'static str },
    #[error(
        "task {task}: the text of this letter was true until {last}; if it was posted by then, say when with --on; else do \
         not post it: drop the task (`dunningd task drop {task} --reason …`), and the next scan makes a new letter where \
         one is due"
    )]
    TooLate { task: i64, last: NaiveDate },
    #[error(
        "task {task}: do not {} any more. {} {amounts}The next scan takes the task back and decides anew; if it was {} \
         before that, say when with --on",
        acts(*kind).0, reason.meaning(), acts(*kind).1
    )]
    NotRight {
        task: i64,
        kind: TaskKind,
        reason: CancelReason,
        /// What was demanded and what is to pay, in sentences; empty where the amounts are the same.
        amounts: String,
    },
    #[error(
        "task {task} was taken back on {on}: {} If it was {} by then, say when with --on; if it was later, write it down with \
         `dunningd note`",
        reason.meaning(), acts(*kind).1
    )]
    TakenBack { task: i64, kind: TaskKind, on: NaiveDate, reason: CancelReason },
    #[error(
        "task {task}: notice {notice} took the place of this one and is {state} already, so nothing was recorded; write down \
         with `dunningd note` that it was {} too",
        acts(*kind).1
    )]
    Replaced { task: i64, kind: TaskKind, notice: Uuid, state: String },
    #[error("--on: the day must lie between {first}, when the task was opened, and today, {last}")]
    Outside { first: NaiveDate, last: NaiveDate },
    #[error(transparent)]
    Register(#[from] RegisterError),
}

/// `post it`, and `posted`.
fn acts(kind: TaskKind) -> (&'static str, &'static str) {
    match kind {
        TaskKind::HandOver => ("hand it over", "handed over"),
        _ => ("post it", "posted"),
    }
}

impl From<RecordError> for TaskError {
    fn from(error: RecordError) -> Self {
        Self::Register(error.into())
    }
}

impl From<sqlx::Error> for TaskError {
    fn from(error: sqlx::Error) -> Self {
        Self::Register(error.into())
    }
}

/// What a person says about a task that is done.
#[derive(Debug, Clone, Copy)]
pub struct TaskEntry<'a> {
    /// The day on which it was done, where the person says so: that it was done then is a fact, whatever is known now.
    pub on: Option<NaiveDate>,
    /// Where the creditor is.
    pub today: NaiveDate,
    /// Of a call.
    pub outcome: Option<CallOutcome>,
    /// What the call was about, for the cause that it tells; none for the whole account.
    pub item: Option<&'a ItemId>,
    /// Leaves the cause out that the outcome tells.
    pub no_cause: bool,
    /// Whom a hand-over went to.
    pub to: Option<&'a str>,
    pub reason: Option<&'a str>,
    /// What was said in a call.
    pub note: Option<NoteText<'a>>,
}

impl TaskEntry<'_> {
    /// Why nothing is paid, as the call told.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        self.outcome.and_then(CallOutcome::cause).filter(|_| !self.no_cause)
    }

    /// The day that counts.
    #[must_use]
    pub fn day(&self) -> NaiveDate {
        self.on.unwrap_or(self.today)
    }
}

/// What became of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskEnd {
    Closed,
    /// The letter was posted, and its e-mail copy is in the queue.
    CopyQueued,
    /// A run had taken it back; so many notices that took its place are cancelled.
    DoneBefore {
        cancelled: usize,
    },
    /// Nobody answered; another call is to be made.
    StaysOpen {
        tried: i64,
        attempts: i32,
    },
}

/// What a notice that a person performs needs besides what every notice has.
pub(super) async fn freeze(connection: &mut PgConnection, planned: &Planned) -> Result<(), RecordError> {
    let contacting = &planned.contacting;
    sqlx::query!(
        "UPDATE dunning.notice SET channel = $2, lapses_on = $3, attempts = $4 WHERE notice_id = $1",
        planned.notice,
        contacting.channel.as_str(),
        contacting.lapses_on,
        i32::try_from(planned.attempts).unwrap_or(i32::MAX)
    )
    .execute(&mut *connection)
    .await?;
    let copied_to = planned.redirect_to.as_ref().or(contacting.recipient.as_ref());
    if let (Some(copy), Some(recipient)) = (&planned.copy, copied_to) {
        sqlx::query!(
            "INSERT INTO dunning.letter_copy (notice_id, copy_id, recipient, recipient_key, message_id, bytes)
             VALUES ($1, $2, $3, $4, $5, $6)",
            planned.notice,
            copy.notice,
            recipient.as_str(),
            recipient.mailbox_key(),
            copy.message_id,
            copy.bytes
        )
        .execute(connection)
        .await?;
    }
    Ok(())
}

/// Gives those of the notices that a person performs to people, each as a task. Returns the events, which the caller
/// appends last.
pub(super) async fn give_to_people(
    connection: &mut PgConnection,
    notices: &[Uuid],
    actor: &Actor,
) -> Result<Vec<Event>, RecordError> {
    let notices = sqlx::query!(
        r#"WITH given AS (
               UPDATE dunning.notice SET state = 'with_person', changed_at = clock_timestamp()
               WHERE notice_id = ANY ($1) AND state IN ('planned', 'awaiting_approval') AND channel <> 'email'
               RETURNING notice_id, run_id, creditor, account_id, stage, tone, channel, business_date, lapses_on)
           SELECT given.*, m.snapshot -> 'account' ->> 'country' AS country,
               coalesce((m.letter ->> 'protocol_claim')::boolean, false) AS "protocol_claim!"
           FROM given LEFT JOIN dunning.message m USING (notice_id)"#,
        notices
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut events = Vec::new();
    for notice in notices {
        let kind = Channel::parse(&notice.channel)
            .and_then(Channel::task)
            .ok_or_else(|| inconsistent("dunning.notice", "channel", &notice.channel))?;
        let tone = Tone::parse(&notice.tone).ok_or_else(|| inconsistent("dunning.notice", "tone", &notice.tone))?;
        let country = notice.country.and_then(|country| Country::parse(&country).ok());
        let what = match kind {
            TaskKind::MakeCall => "call the debtor",
            TaskKind::PostLetter => how_to_post(tone, country, notice.protocol_claim),
            _ => "hand the account over",
        };
        let until = notice.lapses_on.map_or(String::new(), |last| format!(", by {last} at the latest"));
        let task = sqlx::query_scalar!(
            "INSERT INTO dunning.task (creditor, account_id, kind, subject, text, opened_on)
             VALUES ($1, $2, $3, $4, $5, $6) RETURNING task_id",
            notice.creditor,
            notice.account_id,
            kind.as_str(),
            notice.notice_id.to_string(),
            format!("stage {}: {what}{until}", notice.stage),
            notice.business_date
        )
        .fetch_one(&mut *connection)
        .await?;
        let facts = json!({
            "task": task.to_string(), "task_kind": kind.as_str(), "subject": notice.notice_id.to_string(),
        });
        events.push(Event {
            creditor: Some(notice.creditor),
            account: Some(notice.account_id),
            run: Some(notice.run_id.to_string()),
            ..Event::new(EventKind::TaskOpened, actor.clone(), facts)
        });
    }
    Ok(events)
}

/// Ends the notices of an account that are no person's task any more, and closes their tasks; returns the events. One
/// that a person ended meanwhile stays what it is.
pub(super) async fn take_back(
    connection: &mut PgConnection,
    run: RunId,
    actor: &Actor,
    decision: &Decision,
) -> Result<Vec<Event>, RecordError> {
    let mut events = Vec::new();
    for (notice, became) in &decision.taken_back {
        let (state, kind, reason, on) = match became {
            TakenBack::Cancelled(reason) => (NoticeState::Cancelled, EventKind::NoticeCancelled, reason.as_str(), None),
            TakenBack::Lapsed(day) => (NoticeState::Lapsed, EventKind::NoticeLapsed, "policy", Some(*day)),
        };
        let ended = sqlx::query!(
            "UPDATE dunning.notice SET state = $2, reason = $3, accepted_on = $4, changed_at = clock_timestamp()
             WHERE notice_id = $1 AND state = 'with_person'",
            notice.0,
            state.as_str(),
            reason,
            on
        )
        .execute(&mut *connection)
        .await?;
        if ended.rows_affected() == 0 {
            continue;
        }
        match state {
            NoticeState::Cancelled => not_live(connection, notice.0).await?,
            _ => only_its_own_stage(connection, notice.0).await?,
        }
        let about = |kind, facts| Event {
            creditor: Some(decision.creditor.to_string()),
            account: Some(decision.account.to_string()),
            run: Some(run.to_string()),
            ..Event::new(kind, actor.clone(), facts)
        };
        let mut facts = json!({ "reason": reason });
        if let Some(day) = on {
            facts["business_date"] = day.to_string().into();
        }
        events.push(Event { notice: Some(notice.to_string()), ..about(kind, facts) });
        for task in close_tasks_of(connection, notice.0).await? {
            events.push(about(EventKind::TaskClosed, json!({ "task": task.to_string(), "reason": state.as_str() })));
        }
    }
    Ok(events)
}

/// Cancels a notice that is with a person.
async fn cancel(connection: &mut PgConnection, notice: Uuid, reason: CancelReason) -> Result<(), RecordError> {
    sqlx::query!(
        "UPDATE dunning.notice SET state = 'cancelled', reason = $2, changed_at = clock_timestamp()
         WHERE notice_id = $1",
        notice,
        reason.as_str()
    )
    .execute(&mut *connection)
    .await?;
    not_live(connection, notice).await
}

async fn not_live(connection: &mut PgConnection, notice: Uuid) -> Result<(), RecordError> {
    sqlx::query!("UPDATE dunning.notice_item SET live = false WHERE notice_id = $1", notice)
        .execute(connection)
        .await?;
    Ok(())
}

/// What nobody heard completes its own stage alone: items that it took along at an earlier one may be written to about it.
async fn only_its_own_stage(connection: &mut PgConnection, notice: Uuid) -> Result<(), RecordError> {
    sqlx::query!(
        "UPDATE dunning.notice_item i SET live = false FROM dunning.notice n
         WHERE n.notice_id = $1 AND i.notice_id = n.notice_id AND i.stage <> n.stage",
        notice
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Closes the open tasks of people to perform that notice; returns their numbers.
async fn close_tasks_of(connection: &mut PgConnection, notice: Uuid) -> Result<Vec<i64>, RecordError> {
    let closed = sqlx::query_scalar!(
        "UPDATE dunning.task SET closed_at = clock_timestamp()
         WHERE subject = $1 AND kind IN ('make_call', 'post_letter', 'hand_over') AND closed_at IS NULL
         RETURNING task_id",
        notice.to_string()
    )
    .fetch_all(connection)
    .await?;
    Ok(closed)
}

/// A task, locked.
struct Locked {
    number: i64,
    creditor: String,
    account: String,
    kind: TaskKind,
    subject: String,
    opened_on: NaiveDate,
    closed: bool,
}

impl Locked {
    fn event(&self, kind: EventKind, actor: &Actor, facts: serde_json::Value) -> Event {
        let account = Some(self.account.clone()).filter(|account| !account.is_empty());
        Event { creditor: Some(self.creditor.clone()), account, ..Event::new(kind, actor.clone(), facts) }
    }

    fn account(&self) -> Result<AccountId, RecordError> {
        AccountId::parse(&self.account).map_err(|_| inconsistent("dunning.task", "account_id", &self.account))
    }

    /// The notice that it asks a person to perform; none for a task of another kind.
    async fn notice(&self, connection: &mut PgConnection) -> Result<Option<Performed>, TaskError> {
        if self.closed {
            return Err(TaskError::Closed(self.number));
        }
        if !matches!(self.kind, TaskKind::MakeCall | TaskKind::PostLetter | TaskKind::HandOver) {
            return Ok(None);
        }
        let id = self.notice_id()?;
        let row = sqlx::query!(
            "SELECT state, stage, attempts, CASE WHEN channel = 'letter' THEN least(valid_until, respond_by) END AS post_by
             FROM dunning.notice WHERE notice_id = $1 FOR UPDATE",
            id
        )
        .fetch_one(connection)
        .await?;
        if row.state != NoticeState::WithPerson.as_str() {
            return Err(TaskError::NotWithPerson { task: self.number, state: row.state });
        }
        let (stage, attempts, post_by) = (row.stage, row.attempts, row.post_by);
        Ok(Some(Performed { id, stage, attempts, post_by, taken_back: None }))
    }

    fn is_paper(&self) -> bool {
        matches!(self.kind, TaskKind::PostLetter | TaskKind::HandOver)
    }

    fn notice_id(&self) -> Result<Uuid, RecordError> {
        Uuid::parse_str(&self.subject).map_err(|_| inconsistent("dunning.task", "subject", &self.subject))
    }

    /// The paper that a run took back, if it did so on or after the day on which a person says that it left the house.
    async fn taken_back(&self, connection: &mut PgConnection, on: Option<NaiveDate>) -> Result<Performed, TaskError> {
        let (task, kind) = (self.number, self.kind);
        if !self.is_paper() {
            return Err(TaskError::Closed(task));
        }
        let id = self.notice_id()?;
        let row = sqlx::query!(
            r#"SELECT n.stage, n.attempts, n.reason AS "reason!", r.business_date,
                   CASE WHEN n.channel = 'letter' THEN least(n.valid_until, n.respond_by) END AS post_by
               FROM dunning.notice n
               CROSS JOIN LATERAL (SELECT bytes FROM dunning.event e
                                   WHERE e.notice_id = n.notice_id AND e.kind = 'notice_cancelled'
                                   ORDER BY seq DESC LIMIT 1) e
               -- What a person dropped, no run took back.
               JOIN dunning.run r ON r.run_id::text = convert_from(e.bytes, 'UTF8')::jsonb -> 'event' ->> 'run'
               WHERE n.notice_id = $1 AND n.state = 'cancelled' FOR UPDATE OF n"#,
            id
        )
        .fetch_optional(connection)
        .await?
        .ok_or(TaskError::Closed(task))?;
        let reason =
            CancelReason::parse(&row.reason).ok_or_else(|| inconsistent("dunning.notice", "reason", &row.reason))?;
        if on.is_none_or(|on| on > row.business_date) {
            return Err(TaskError::TakenBack { task, kind, on: row.business_date, reason });
        }
        let (stage, attempts, post_by) = (row.stage, row.attempts, row.post_by);
        Ok(Performed { id, stage, attempts, post_by, taken_back: Some(reason) })
    }

    async fn close(&self, connection: &mut PgConnection) -> Result<(), RecordError> {
        sqlx::query!("UPDATE dunning.task SET closed_at = clock_timestamp() WHERE task_id = $1", self.number)
            .execute(connection)
            .await?;
        Ok(())
    }
}

struct Performed {
    id: Uuid,
    stage: String,
    attempts: i32,
    /// Of a letter: the last day on which its text is true.
    post_by: Option<NaiveDate>,
    /// Why a run took it back.
    taken_back: Option<CancelReason>,
}

async fn locked(connection: &mut PgConnection, task: i64) -> Result<Locked, TaskError> {
    let row = sqlx::query!(
        r#"SELECT creditor, account_id, kind, subject, opened_on, closed_at IS NOT NULL AS "closed!"
           FROM dunning.task WHERE task_id = $1 FOR UPDATE"#,
        task
    )
    .fetch_optional(connection)
    .await?
    .ok_or(TaskError::NoSuchTask(task))?;
    let kind = TaskKind::parse(&row.kind).ok_or_else(|| inconsistent("dunning.task", "kind", &row.kind))?;
    Ok(Locked {
        number: task,
        creditor: row.creditor,
        account: row.account_id,
        kind,
        subject: row.subject,
        opened_on: row.opened_on,
        closed: row.closed,
    })
}

/// A letter or a hand-over that a person performs.
#[derive(Debug, Clone)]
pub struct Paper {
    pub kind: TaskKind,
    pub account: AccountId,
    pub notice: NoticeId,
}

/// The paper that an open task is about, locked: nobody takes it back before this transaction ends. None for any other
/// task.
///
/// # Errors
/// When there is no such task, its notice is with nobody any more, or the database refuses.
pub async fn lock_paper(connection: &mut PgConnection, task: i64) -> Result<Option<Paper>, TaskError> {
    let locked = locked(connection, task).await?;
    if locked.closed || !locked.is_paper() {
        return Ok(None);
    }
    let Some(notice) = locked.notice(connection).await? else { return Ok(None) };
    Ok(Some(Paper { kind: locked.kind, account: locked.account()?, notice: NoticeId(notice.id) }))
}

/// A person says that a task is done. A call is recorded with its outcome; the stage of a notice is complete as of that
/// day, except that nobody answered and more calls are to be made. A paper that a run took back had been done all the
/// same when a person says on which day; what took its place is cancelled. `not_right` is why the rule would have taken
/// it back by then.
///
/// # Errors
/// When there is no such open task or paper taken back, when something is missing that its kind needs, or the database
/// refuses.
pub async fn task_done(
    connection: &mut PgConnection,
    task: i64,
    entry: &TaskEntry<'_>,
    not_right: Option<CancelReason>,
    actor: &Actor,
) -> Result<TaskEnd, TaskError> {
    let locked = locked(connection, task).await?;
    let (kind, on) = (locked.kind, entry.day());
    let notice = if locked.closed {
        Some(locked.taken_back(connection, entry.on).await?)
    } else {
        locked.notice(connection).await?
    };
    check_entry(&locked, entry)?;
    let Some(notice) = notice else {
        let facts = json!({ "task": task.to_string(), "task_kind": kind.as_str(), "reason": entry.reason });
        locked.close(connection).await?;
        append(connection, &[locked.event(EventKind::TaskClosed, actor, facts)]).await?;
        return Ok(TaskEnd::Closed);
    };
    if let Some(last) = notice.post_by.filter(|last| *last < on) {
        return Err(TaskError::TooLate { task, last });
    }
    let mut events = Vec::new();
    if let Some(outcome) = entry.outcome {
        let account = locked.account()?;
        let made = Call { outcome, text: entry.note, item: entry.item, cause: entry.cause(), called_on: on };
        events = record_call(connection, &account, &made, Some(notice.id), actor).await?.1;
        if outcome == CallOutcome::NoAnswer {
            let tried =
                sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM dunning.call WHERE notice_id = $1"#, notice.id)
                    .fetch_one(&mut *connection)
                    .await?;
            if tried < i64::from(notice.attempts) {
                append(connection, &events).await?;
                return Ok(TaskEnd::StaysOpen { tried, attempts: notice.attempts });
            }
            only_its_own_stage(connection, notice.id).await?;
        }
    }
    if let (Some(to), Some(reason)) = (entry.to, entry.reason) {
        let (to, reason) = (to.to_owned(), reason.to_owned());
        let handover = Handover { to, reason, since: on, number: 0, items: Vec::new() };
        events.push(record_handover(connection, &locked.account()?, &handover, actor).await?.1);
    }
    let mut cancelled = 0;
    if notice.taken_back.is_some() {
        let instead = cancel_instead(connection, &locked, &notice, actor).await?;
        cancelled = instead.iter().filter(|event| event.kind == EventKind::NoticeCancelled).count();
        events.extend(instead);
        live_again(connection, notice.id).await?;
    }
    sqlx::query!(
        "UPDATE dunning.notice SET state = 'done', accepted_on = $2, counted_on = $3, reason = $4,
             changed_at = clock_timestamp() WHERE notice_id = $1",
        notice.id,
        on,
        Some(on).filter(|_| kind == TaskKind::PostLetter),
        entry.outcome.map(CallOutcome::as_str)
    )
    .execute(&mut *connection)
    .await?;
    let mut done = json!({
        "stage": notice.stage, "business_date": on.to_string(), "outcome": entry.outcome, "reason": entry.reason,
    });
    for (key, why) in [("not_right", not_right), ("taken_back", notice.taken_back)] {
        if let Some(why) = why {
            done[key] = why.as_str().into();
        }
    }
    events.push(Event { notice: Some(notice.id.to_string()), ..locked.event(EventKind::NoticeDone, actor, done) });
    if notice.taken_back.is_some() {
        append(connection, &events).await?;
        return Ok(TaskEnd::DoneBefore { cancelled });
    }
    locked.close(connection).await?;
    let closed = json!({ "task": task.to_string(), "task_kind": kind.as_str(), "reason": "done" });
    events.push(locked.event(EventKind::TaskClosed, actor, closed));
    let copy = queue_copy(connection, &locked, &notice, actor).await?;
    let end = if copy.is_some() { TaskEnd::CopyQueued } else { TaskEnd::Closed };
    events.extend(copy);
    append(connection, &events).await?;
    Ok(end)
}

/// Cancels what took the place of a paper that had been done, while nobody outside the house has it; returns the events.
///
/// # Errors
/// When one of them left already, or the database refuses.
async fn cancel_instead(
    connection: &mut PgConnection,
    task: &Locked,
    notice: &Performed,
    actor: &Actor,
) -> Result<Vec<Event>, TaskError> {
    let rows = sqlx::query!(
        r#"WITH instead AS MATERIALIZED (
               SELECT i.notice_id, bool_or(i.stage = own.stage) AS same_stage
               FROM dunning.notice_item own
               JOIN dunning.notice_item i ON i.item_id = own.item_id AND i.live AND i.notice_id <> own.notice_id
               WHERE own.notice_id = $1 GROUP BY i.notice_id),
           -- Nothing else was made for the account while this one was with a person.
           made_since AS MATERIALIZED (
               SELECT n.notice_id FROM dunning.notice own
               JOIN dunning.notice n ON n.account_id = own.account_id AND n.notice_id <> own.notice_id
                   AND n.created_at > own.created_at AND n.copy_of IS NULL
                   AND n.state IN ('planned', 'awaiting_approval', 'queued', 'deferred', 'with_person')
               WHERE own.notice_id = $1)
           SELECT n.notice_id, n.account_id, n.creditor, n.state, coalesce(same_stage, false) AS "same_stage!",
               n.resend_of IS NOT NULL AS "sent_before!"
           FROM dunning.notice n LEFT JOIN instead USING (notice_id)
           WHERE instead.notice_id IS NOT NULL OR n.notice_id IN (SELECT notice_id FROM made_since)
           ORDER BY n.notice_id FOR UPDATE OF n"#,
        notice.id
    )
    .fetch_all(&mut *connection)
    .await?;
    let (mut with_person, mut in_house) = (Vec::new(), Vec::new());
    for row in rows {
        match NoticeState::parse(&row.state) {
            Some(NoticeState::WithPerson) => with_person.push(row),
            Some(
                NoticeState::Planned | NoticeState::AwaitingApproval | NoticeState::Queued | NoticeState::Deferred,
            ) if !row.sent_before => {
                in_house.push(row.notice_id);
            }
            // Nobody did it, so it went nowhere; and what it did for another stage stands beside this.
            Some(NoticeState::Lapsed) => {}
            Some(state) if !row.same_stage && !state.is_pending() => {}
            _ => {
                let (task, kind) = (task.number, task.kind);
                return Err(TaskError::Replaced { task, kind, notice: row.notice_id, state: row.state });
            }
        }
    }
    let reason = CancelReason::DoneBefore;
    let mut events = cancel_all(connection, &in_house, reason, None, actor).await?;
    for row in with_person {
        cancel(connection, row.notice_id, reason).await?;
        let about = |kind, facts| Event {
            creditor: Some(row.creditor.clone()),
            account: Some(row.account_id.clone()),
            ..Event::new(kind, actor.clone(), facts)
        };
        let cancelled = about(EventKind::NoticeCancelled, json!({ "reason": reason.as_str() }));
        events.push(Event { notice: Some(row.notice_id.to_string()), ..cancelled });
        for task in close_tasks_of(connection, row.notice_id).await? {
            let facts = json!({ "task": task.to_string(), "reason": reason.as_str() });
            events.push(about(EventKind::TaskClosed, facts));
        }
    }
    Ok(events)
}

/// What was done holds its stages again, where nothing else does.
async fn live_again(connection: &mut PgConnection, notice: Uuid) -> Result<(), RecordError> {
    sqlx::query!(
        "UPDATE dunning.notice_item own SET live = true
         WHERE own.notice_id = $1
           AND NOT EXISTS (SELECT FROM dunning.notice_item i
                           WHERE i.item_id = own.item_id AND i.stage = own.stage AND i.live AND i.notice_id <> $1)",
        notice
    )
    .execute(connection)
    .await?;
    Ok(())
}

fn check_entry(task: &Locked, entry: &TaskEntry<'_>) -> Result<(), TaskError> {
    let (number, kind) = (task.number, task.kind);
    let needs = |what| Err(TaskError::Needs { task: number, kind, what });
    let not_for = |what| Err(TaskError::NotFor { task: number, kind, what });
    match kind {
        TaskKind::MakeCall if entry.outcome.is_none() => return needs("--outcome, what came of the call"),
        TaskKind::HandOver if entry.to.is_none() || entry.reason.is_none() => {
            return needs("--to, whom the account went to, and --reason");
        }
        TaskKind::MakeCall | TaskKind::PostLetter | TaskKind::HandOver => {}
        _ if entry.reason.is_none() => return needs("--reason, what was done about it"),
        _ => {}
    }
    if kind != TaskKind::MakeCall && (entry.outcome.is_some() || entry.note.is_some()) {
        return not_for("only a call has an --outcome and a --note");
    }
    if kind != TaskKind::HandOver && entry.to.is_some() {
        return not_for("only a hand-over has --to");
    }
    if entry.day() < task.opened_on || entry.day() > entry.today {
        return Err(TaskError::Outside { first: task.opened_on, last: entry.today });
    }
    Ok(())
}

/// The e-mail copy of a letter that was posted: a notice of its own that completes nothing. The last check lets it go
/// only as long as what it says is still true, and that is as long as the letter, and in the hours of the letter. Returns
/// its event.
async fn queue_copy(
    connection: &mut PgConnection,
    task: &Locked,
    notice: &Performed,
    actor: &Actor,
) -> Result<Option<Event>, TaskError> {
    let copy = sqlx::query!(
        r#"WITH copy AS (
               INSERT INTO dunning.notice (notice_id, run_id, creditor, account_id, stage, tone, language, state,
                   business_date, as_of, valid_until, respond_by, recipient_key, message_id, fingerprint,
                   demanded, on_unknown, send_windows, not_before, redirected, copy_of)
               SELECT c.copy_id, n.run_id, n.creditor, n.account_id, n.stage, n.tone, n.language, 'queued',
                   n.business_date, n.as_of, least(n.valid_until, n.respond_by), n.respond_by, c.recipient_key, c.message_id,
                   n.fingerprint, n.demanded, n.on_unknown, n.send_windows, n.not_before, n.redirected, n.notice_id
               FROM dunning.notice n JOIN dunning.letter_copy c USING (notice_id) WHERE n.notice_id = $1
               RETURNING notice_id, message_id),
           items AS (
               INSERT INTO dunning.notice_item (notice_id, item_id, stage, live, currency, to_pay)
               SELECT copy.notice_id, i.item_id, i.stage, false, i.currency, i.to_pay
               FROM copy, dunning.notice_item i WHERE i.notice_id = $1)
           INSERT INTO dunning.message (notice_id, recipient, sender, bytes, salt, snapshot, letter)
           SELECT copy.notice_id, c.recipient, m.sender, c.bytes, m.salt, m.snapshot, m.letter
           FROM copy, dunning.letter_copy c JOIN dunning.message m USING (notice_id) WHERE c.notice_id = $1
           RETURNING notice_id, recipient, bytes, salt,
               (SELECT message_id FROM copy) AS "message_id!", (SELECT stage FROM dunning.notice WHERE notice_id = $1) AS "stage!""#,
        notice.id
    )
    .fetch_optional(connection)
    .await?;
    Ok(copy.map(|copy| {
        let facts = json!({
            "copy_of": notice.id.to_string(), "stage": copy.stage, "message_id": copy.message_id,
            "message_commitment": commitment(&copy.salt, &copy.bytes),
            "recipient_commitment": commitment(&copy.salt, copy.recipient.as_bytes()),
        });
        Event { notice: Some(copy.notice_id.to_string()), ..task.event(EventKind::NoticePlanned, actor, facts) }
    }))
}

/// A person drops a task: its notice is cancelled, the stage is not done, and the next run decides again.
///
/// # Errors
/// When there is no such open task, it is about no notice, or the database refuses.
pub async fn task_drop(connection: &mut PgConnection, task: i64, reason: &str, actor: &Actor) -> Result<(), TaskError> {
    let locked = locked(connection, task).await?;
    let kind = locked.kind;
    let Some(notice) = locked.notice(connection).await? else {
        let what = "it stands for no notice; close it with `dunningd task done`";
        return Err(TaskError::NotFor { task, kind, what });
    };
    cancel(connection, notice.id, CancelReason::Dropped).await?;
    locked.close(connection).await?;
    let cancelled = json!({ "reason": CancelReason::Dropped.as_str(), "because": reason });
    let closed = json!({ "task": task.to_string(), "task_kind": kind.as_str(), "reason": reason });
    let events = [
        Event { notice: Some(notice.id.to_string()), ..locked.event(EventKind::NoticeCancelled, actor, cancelled) },
        locked.event(EventKind::TaskClosed, actor, closed),
    ];
    append(connection, &events).await?;
    Ok(())
}
