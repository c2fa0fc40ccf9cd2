//! One page of a run's conclusions: decisions that changed, cases, tasks and planned notices, in one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::model::{
    Actor, ApprovalCause, CaseChange, Channel, Contacting, Decision, EmailAddress, Event, EventKind, ItemCode, Ladder,
    OnUnknown, Snapshot, TaskKind, TaskRequest, Verdict,
};

use super::notices::plan;
use super::people;
use super::runs::RunStart;
use super::{RecordError, append, json_text, texts_stored};

/// A notice ready to be recorded: its content is frozen from here on.
#[derive(Debug, Clone)]
pub struct Planned {
    pub notice: Uuid,
    /// The e-mail copy of a letter to post.
    pub copy: Option<PlannedCopy>,
    /// Calls that nobody answered after which it is done.
    pub attempts: u32,
    pub contacting: Contacting,
    /// The address it is sent to, the number to call or the address to post to; empty for a hand-over.
    pub to: String,
    pub on_unknown: OnUnknown,
    /// Empty when it is no e-mail.
    pub message_id: String,
    pub sender: EmailAddress,
    /// The message, or the text for a person.
    pub bytes: Vec<u8>,
    /// Random; makes the commitments in the log say nothing about what they commit to.
    pub salt: [u8; 32],
    /// The hours in which it may go out, each from and to; empty: at any hour.
    pub send_windows: Vec<(DateTime<Utc>, DateTime<Utc>)>,
    pub valid_until: NaiveDate,
    pub as_of: Option<NaiveDate>,
    pub fingerprint: String,
    /// What the letter demands, as printed: JSON.
    pub letter: String,
    /// Why a person has to agree before it goes out.
    pub approval: Option<ApprovalCause>,
    /// A mailbox of our own that gets it instead of the debtor.
    pub redirect_to: Option<EmailAddress>,
}

/// The e-mail copy of a letter, frozen with it.
#[derive(Debug, Clone)]
pub struct PlannedCopy {
    pub notice: Uuid,
    pub message_id: String,
    pub bytes: Vec<u8>,
}

/// What a run concluded for one account.
#[derive(Debug)]
pub struct PageWrite<'a> {
    pub snapshot: &'a Snapshot,
    pub decision: &'a Decision,
    /// [`Decision::digest`].
    pub digest: [u8; 32],
    /// The ladder that a new case keeps; none where no case opens.
    pub ladder: Option<&'a Arc<Ladder>>,
    pub planned: Option<&'a Planned>,
}

/// Writes a page of conclusions, in a number of statements that does not depend on how many accounts are on it, but for
/// the messages of its notices ([`super::write_messages`]). Decisions equal to the account's previous one leave no row.
/// Returns the events, which the caller appends last: in account order; those of one account as case, tasks, notice. And
/// the [`decision_line`] of each row of a decision.
///
/// # Errors
/// When the database refuses; nothing of the page is written then, once the caller rolls back.
pub async fn write_page(
    connection: &mut PgConnection,
    run: &RunStart,
    actor: &Actor,
    page: &[PageWrite<'_>],
) -> Result<(Vec<Event>, Vec<String>), RecordError> {
    let recorded = write_decisions(connection, run, page).await?;
    // Before anything is planned: what is taken back frees its items and stages for it.
    let mut taken_back = BTreeMap::new();
    for one in page.iter().filter(|one| !one.decision.taken_back.is_empty()) {
        let events = people::take_back(connection, run.run, actor, one.decision).await?;
        taken_back.insert(one.decision.account.as_str(), events);
    }
    let mut cases = write_cases(connection, run, page).await?;
    let mut tasks = open_tasks(connection, run, page).await?;
    let mut notices = plan(connection, run, page).await?;
    let mut events = Vec::new();
    for one in page {
        let account = one.decision.account.as_str();
        events.extend(taken_back.remove(account).unwrap_or_default());
        let mut add = |kind, notice: Option<Uuid>, facts| {
            events.push(Event {
                creditor: Some(run.creditor.to_string()),
                account: Some(account.to_owned()),
                run: Some(run.run.to_string()),
                notice: notice.map(|id| id.to_string()),
                ..Event::new(kind, actor.clone(), facts)
            });
        };
        if let Some((kind, facts)) = cases.remove(account) {
            add(kind, None, facts);
        }
        for (kind, facts) in tasks_opened(one.decision, &mut tasks) {
            add(kind, None, facts);
        }
        if let Some((id, facts)) = one.planned.and_then(|planned| notices.remove_entry(&planned.notice)) {
            add(EventKind::NoticePlanned, Some(id), facts);
            if let Some(planned) = one.planned.filter(|planned| planned.contacting.channel != Channel::Email) {
                people::freeze(connection, planned).await?;
            }
        }
    }
    Ok((events, recorded))
}

/// What the log commits to of the row of a decision: nothing personal, so that it holds when the rest is erased.
#[must_use]
pub fn decision_line(
    account: &str,
    business_date: NaiveDate,
    kind: &str,
    code: &str,
    next_date: Option<NaiveDate>,
) -> String {
    json!([account, business_date, kind, code, next_date]).to_string()
}

/// The rows of decisions that a run left, in account order, in one hash: SHA-256 over each [`decision_line`] with a line
/// feed.
#[derive(Debug, Clone, Default)]
pub struct RecordedDecisions {
    rows: u64,
    hash: Sha256,
}

impl RecordedDecisions {
    pub fn add(&mut self, line: &str) {
        self.rows += 1;
        self.hash.update(line.as_bytes());
        self.hash.update(b"\n");
    }

    /// As the event of the end of the run has it.
    #[must_use]
    pub fn fact(self) -> serde_json::Value {
        json!({ "rows": self.rows.to_string(), "sha256": hex::encode(self.hash.finalize()) })
    }
}

/// Opens the tasks of a conclusion that could not be written.
///
/// # Errors
/// When the database refuses.
pub async fn write_tasks(
    connection: &mut PgConnection,
    run: &RunStart,
    actor: &Actor,
    one: &PageWrite<'_>,
) -> Result<(), RecordError> {
    let mut tasks = open_tasks(connection, run, std::slice::from_ref(one)).await?;
    let event = |(kind, facts)| Event {
        creditor: Some(run.creditor.to_string()),
        account: Some(one.decision.account.to_string()),
        run: Some(run.run.to_string()),
        ..Event::new(kind, actor.clone(), facts)
    };
    let events: Vec<Event> = tasks_opened(one.decision, &mut tasks).into_iter().map(event).collect();
    if events.is_empty() { Ok(()) } else { append(connection, &events).await.map(|_| ()) }
}

/// What the log says about the tasks of a decision that are new, which it takes out of `tasks`, and about those whose
/// place they take: whoever asked first opened one.
fn tasks_opened(decision: &Decision, tasks: &mut OpenedTasks) -> Vec<(EventKind, serde_json::Value)> {
    let mut told = Vec::new();
    for task in &decision.tasks {
        let key = task_key(decision, task);
        for id in tasks.replaced.remove(&key).unwrap_or_default() {
            let facts = json!({ "task": id.to_string(), "task_kind": task.kind.as_str(), "reason": "listed_anew" });
            told.push((EventKind::TaskClosed, facts));
        }
        if let Some(id) = tasks.opened.remove(&key) {
            // The subject of a shared mailbox is an address: it stays out of the log.
            let subject = if task.kind == TaskKind::SharedMailbox { "" } else { task.subject.as_str() };
            let facts = json!({ "task": id.to_string(), "task_kind": task.kind.as_str(), "subject": subject });
            told.push((task.kind.event(), facts));
        }
    }
    told
}

async fn write_decisions(
    connection: &mut PgConnection,
    run: &RunStart,
    page: &[PageWrite<'_>],
) -> Result<Vec<String>, RecordError> {
    let accounts: Vec<String> = page.iter().map(|one| one.decision.account.to_string()).collect();
    let previous: BTreeMap<String, String> = sqlx::query!(
        r#"SELECT a.account_id AS "account_id!", d.identity_sha256
           FROM unnest($1::text[]) AS a (account_id)
           CROSS JOIN LATERAL (SELECT identity_sha256 FROM dunning.decision d
                               WHERE d.account_id = a.account_id ORDER BY decision_id DESC LIMIT 1) d"#,
        &accounts
    )
    .fetch_all(&mut *connection)
    .await?
    .into_iter()
    .map(|row| (row.account_id, row.identity_sha256))
    .collect();

    let mut ids = Vec::new();
    let mut kinds = Vec::new();
    let mut codes = Vec::new();
    let mut dates = Vec::new();
    let mut identities = Vec::new();
    let mut details = Vec::new();
    for one in page {
        let identity = hex::encode(one.digest);
        let account = one.decision.account.to_string();
        if previous.get(&account) == Some(&identity) {
            continue;
        }
        ids.push(account);
        kinds.push(one.decision.kind().as_str().to_owned());
        codes.push(one.decision.code().to_owned());
        dates.push(match &one.decision.verdict {
            Verdict::No { next_date, .. } => *next_date,
            Verdict::Contact(_) => None,
        });
        identities.push(identity);
        details.push(serde_json::to_string(one.decision).unwrap_or_default());
    }
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query!(
        "INSERT INTO dunning.decision
             (run_id, creditor, account_id, business_date, kind, code, next_date, identity_sha256, detail)
         SELECT $1, $2, row.account_id, $3, row.kind, row.code, row.next_date, row.identity, row.detail::json
         FROM unnest($4::text[], $5::text[], $6::text[], $7::date[], $8::text[], $9::text[])
             AS row (account_id, kind, code, next_date, identity, detail)",
        run.run.0,
        run.creditor.as_str(),
        run.business_date,
        &ids,
        &kinds,
        &codes,
        dates.as_slice() as &[Option<NaiveDate>],
        &identities,
        &details
    )
    .execute(connection)
    .await?;
    let rows = ids.iter().zip(&kinds).zip(&codes).zip(&dates);
    Ok(rows
        .map(|(((account, kind), code), next_date)| decision_line(account, run.business_date, kind, code, *next_date))
        .collect())
}

/// Opens and closes cases; what the log says about each account whose case changed.
async fn write_cases(
    connection: &mut PgConnection,
    run: &RunStart,
    page: &[PageWrite<'_>],
) -> Result<BTreeMap<String, (EventKind, serde_json::Value)>, RecordError> {
    let mut changed = BTreeMap::new();
    let closing: Vec<&str> = page
        .iter()
        .filter(|one| one.decision.case == CaseChange::Close)
        .map(|one| one.decision.account.as_str())
        .collect();
    if !closing.is_empty() {
        sqlx::query!(
            "UPDATE dunning.debt_case SET closed_on = $2 WHERE account_id = ANY ($1) AND closed_on IS NULL",
            &closing as _,
            run.business_date
        )
        .execute(&mut *connection)
        .await?;
        changed.extend(closing.iter().map(|account| ((*account).to_owned(), (EventKind::CaseClosed, json!({})))));
    }

    // With the hash of its text. The cases of a page share a few ladders.
    let mut kept: Vec<(&Arc<Ladder>, String)> = Vec::new();
    let mut accounts = Vec::new();
    let mut hashes = Vec::new();
    for one in page.iter().filter(|one| one.decision.case == CaseChange::Open) {
        let Some(ladder) = one.ladder else { continue };
        let known = kept.iter().find(|(known, _)| Arc::ptr_eq(known, ladder)).map(|(_, hash)| hash.clone());
        let hash = if let Some(hash) = known {
            hash
        } else {
            let body = json_text(&**ladder)?;
            let hash = texts_stored(connection, "ladder", &body).await?;
            kept.push((ladder, hash.clone()));
            hash
        };
        accounts.push(one.decision.account.as_str());
        hashes.push(hash);
    }
    if accounts.is_empty() {
        return Ok(changed);
    }
    let opened = sqlx::query!(
        "INSERT INTO dunning.debt_case (creditor, account_id, ladder_sha256, opened_on)
         SELECT $1, row.account_id, row.ladder_sha256, $2
         FROM unnest($3::text[], $4::text[]) WITH ORDINALITY AS row (account_id, ladder_sha256, n) ORDER BY row.n
         ON CONFLICT (account_id) WHERE closed_on IS NULL DO NOTHING
         RETURNING account_id, ladder_sha256",
        run.creditor.as_str(),
        run.business_date,
        &accounts as _,
        &hashes
    )
    .fetch_all(connection)
    .await?;
    let names: BTreeMap<&str, &Ladder> = kept.iter().map(|(ladder, hash)| (hash.as_str(), &***ladder)).collect();
    for row in opened {
        let name = names.get(row.ladder_sha256.as_str()).map(|ladder| &ladder.name);
        let facts = json!({ "ladder": name, "ladder_sha256": row.ladder_sha256 });
        changed.insert(row.account_id, (EventKind::CaseOpened, facts));
    }
    Ok(changed)
}

/// What makes two requests the same task: account, kind and subject.
type TaskKey = (String, &'static str, String);

fn task_key(decision: &Decision, task: &TaskRequest) -> TaskKey {
    // A mailbox is shared by many accounts, and so is a calendar: the task belongs to the creditor, once.
    let of_creditor = matches!(task.kind, TaskKind::SharedMailbox | TaskKind::AddCalendar);
    let account = if of_creditor { "" } else { decision.account.as_str() };
    (account.to_owned(), task.kind.as_str(), task.subject.clone())
}

/// The numbers of tasks that are new, and of those whose place they take.
#[derive(Default)]
struct OpenedTasks {
    opened: BTreeMap<TaskKey, i64>,
    replaced: BTreeMap<TaskKey, BTreeSet<i64>>,
}

/// Opens tasks unless one with the same cause is open; some are opened once and never again. The words of a task never
/// change: one that lists what is broken is closed when today's list is another, and a new one is opened; and so are those
/// about one item each, as older versions opened them.
async fn open_tasks(
    connection: &mut PgConnection,
    run: &RunStart,
    page: &[PageWrite<'_>],
) -> Result<OpenedTasks, RecordError> {
    let mut accounts = Vec::new();
    let mut kinds = Vec::new();
    let mut subjects = Vec::new();
    let mut texts = Vec::new();
    let mut once = Vec::new();
    let mut names = BTreeMap::new();
    for (decision, task) in page.iter().flat_map(|one| one.decision.tasks.iter().map(|task| (one.decision, task))) {
        let (account, kind, subject) = task_key(decision, task);
        names.insert(kind, kind);
        accounts.push(account);
        kinds.push(kind);
        subjects.push(subject);
        texts.push(task.text.as_str());
        once.push(task.kind.is_opened_once());
    }
    if accounts.is_empty() {
        return Ok(OpenedTasks::default());
    }
    let key = |account, kind: &str, subject, id| Some(((account, *names.get(kind)?, subject), id));
    let mut replaced: BTreeMap<TaskKey, BTreeSet<i64>> = BTreeMap::new();
    if kinds.contains(&TaskKind::FixData.as_str()) {
        let lists = [ItemCode::BadData, ItemCode::DataDueDateMissing, ItemCode::Withdrawn];
        let lists = lists.map(|code| code.as_str().to_owned());
        let closed = sqlx::query!(
            r#"UPDATE dunning.task t SET closed_at = clock_timestamp()
               FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS row (account_id, kind, subject, text)
               WHERE t.closed_at IS NULL AND t.creditor = $1 AND t.kind = $6
                 AND (t.account_id, t.kind) = (row.account_id, row.kind)
                 AND (t.subject = row.subject AND t.text <> row.text
                      OR row.subject = ANY ($7)
                     AND EXISTS (SELECT FROM dunning.known_item k WHERE k.item_id = t.subject))
               RETURNING t.task_id, t.account_id, t.kind, row.subject AS "subject!""#,
            run.creditor.as_str(),
            &accounts,
            &kinds as _,
            &subjects,
            &texts as _,
            TaskKind::FixData.as_str(),
            &lists
        )
        .fetch_all(&mut *connection)
        .await?;
        let closed = closed.into_iter().filter_map(|row| key(row.account_id, &row.kind, row.subject, row.task_id));
        for (key, task) in closed {
            replaced.entry(key).or_default().insert(task);
        }
    }
    let opened = sqlx::query!(
        "INSERT INTO dunning.task (creditor, account_id, kind, subject, text, opened_on)
         SELECT $1, row.account_id, row.kind, row.subject, row.text, $2
         FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::boolean[]) WITH ORDINALITY
             AS row (account_id, kind, subject, text, once, n)
         WHERE NOT (row.once AND EXISTS (SELECT FROM dunning.task t WHERE t.account_id = row.account_id
                                           AND t.kind = row.kind AND t.subject = row.subject))
         ORDER BY row.n
         ON CONFLICT (creditor, account_id, kind, subject) WHERE closed_at IS NULL DO NOTHING
         RETURNING task_id, account_id, kind, subject",
        run.creditor.as_str(),
        run.business_date,
        &accounts,
        &kinds as _,
        &subjects,
        &texts as _,
        &once
    )
    .fetch_all(connection)
    .await?;
    let opened =
        opened.into_iter().filter_map(|row| key(row.account_id, &row.kind, row.subject, row.task_id)).collect();
    Ok(OpenedTasks { opened, replaced })
}

/// The demanded items with their own stage and what is to pay on each.
pub(super) fn demanded(decision: &Decision) -> Vec<(String, String, String, Decimal)> {
    decision
        .items
        .iter()
        .filter(|item| item.code == ItemCode::Demanded)
        .map(|item| {
            let stage = item.next_stage.as_ref().map_or_else(String::new, ToString::to_string);
            (item.item.to_string(), stage, item.open.currency.to_string(), item.to_pay().amount)
        })
        .collect()
}
