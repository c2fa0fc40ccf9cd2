//! What there is to know about a task before somebody does it.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::model::TaskKind;
use crate::record::RecordError;
use crate::record::notices::demanded_of;

/// A task as people see it, open or closed.
#[derive(Debug, Clone, Serialize)]
pub struct TaskDetail {
    pub task_id: i64,
    pub creditor: String,
    /// Empty when it is about no single account.
    pub account_id: String,
    pub kind: String,
    pub subject: String,
    pub text: String,
    pub opened_on: NaiveDate,
    pub open: bool,
    /// For a call, a letter or a hand-over.
    pub notice: Option<TaskNotice>,
}

/// What a person performs: personal data, for people who may see it.
#[derive(Debug, Clone, Serialize)]
pub struct TaskNotice {
    pub notice_id: Uuid,
    pub stage: String,
    pub channel: String,
    pub language: String,
    pub state: String,
    pub lapses_on: Option<NaiveDate>,
    /// Of a letter: the last day to post it.
    pub post_by: Option<NaiveDate>,
    pub respond_by: Option<NaiveDate>,
    /// Calls to make before nobody answering is enough, and calls made so far.
    pub attempts: i32,
    pub tried: i64,
    /// What it demanded when it was frozen, per currency.
    pub demanded: BTreeMap<String, String>,
    /// Each demanded item with what was to pay on it then.
    pub items: Vec<(String, Decimal)>,
    /// The number to call, or the address to post to.
    pub to: String,
    /// Where the e-mail copy goes once the letter is posted.
    pub copy_to: Option<String>,
    /// The script, letter or summary, frozen.
    pub script: String,
}

/// A task by its number.
///
/// # Errors
/// When the database refuses.
pub async fn task_detail(connection: &mut PgConnection, task: i64) -> Result<Option<TaskDetail>, RecordError> {
    let row = sqlx::query!(
        r#"SELECT creditor, account_id, kind, subject, text, opened_on, closed_at IS NULL AS "open!"
           FROM dunning.task WHERE task_id = $1"#,
        task
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let performs = TaskKind::parse(&row.kind)
        .is_some_and(|kind| matches!(kind, TaskKind::MakeCall | TaskKind::PostLetter | TaskKind::HandOver));
    let notice = match Uuid::parse_str(&row.subject) {
        Ok(id) if performs => task_notice(connection, id).await?,
        _ => None,
    };
    Ok(Some(TaskDetail {
        task_id: task,
        creditor: row.creditor,
        account_id: row.account_id,
        kind: row.kind,
        subject: row.subject,
        text: row.text,
        opened_on: row.opened_on,
        open: row.open,
        notice,
    }))
}

async fn task_notice(connection: &mut PgConnection, notice: Uuid) -> Result<Option<TaskNotice>, RecordError> {
    let row = sqlx::query!(
        r#"SELECT n.stage, n.channel, n.language, n.state, n.lapses_on, n.respond_by, n.attempts, n.demanded,
               CASE WHEN n.channel = 'letter' THEN least(n.valid_until, n.respond_by) END AS post_by,
               (SELECT count(*) FROM dunning.call k WHERE k.notice_id = n.notice_id) AS "tried!",
               m.recipient AS "to?", m.bytes AS "bytes?", c.recipient AS "copy_to?",
               array_agg(i.item_id ORDER BY i.item_id) AS "items!",
               array_agg(i.to_pay ORDER BY i.item_id) AS "to_pay!: Vec<Decimal>"
           FROM dunning.notice n JOIN dunning.notice_item i USING (notice_id)
           LEFT JOIN dunning.message m USING (notice_id) LEFT JOIN dunning.letter_copy c USING (notice_id)
           WHERE n.notice_id = $1 GROUP BY n.notice_id, m.notice_id, c.notice_id"#,
        notice
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(TaskNotice {
        notice_id: notice,
        stage: row.stage,
        channel: row.channel,
        language: row.language,
        state: row.state,
        lapses_on: row.lapses_on,
        post_by: row.post_by,
        respond_by: row.respond_by,
        attempts: row.attempts,
        tried: row.tried,
        demanded: demanded_of(row.demanded)?,
        items: row.items.into_iter().zip(row.to_pay).collect(),
        to: row.to.unwrap_or_default(),
        copy_to: row.copy_to,
        script: String::from_utf8_lossy(&row.bytes.unwrap_or_default()).into_owned(),
    }))
}
