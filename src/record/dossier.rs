//! What is on record about one account, for its dossier.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::RecordError;

/// A notice with its outcome.
#[derive(Debug, Clone, Serialize)]
pub struct NoticeLine {
    pub notice_id: Uuid,
    pub stage: String,
    pub language: String,
    pub state: String,
    pub reason: Option<String>,
    pub business_date: NaiveDate,
    pub respond_by: Option<NaiveDate>,
    pub accepted_on: Option<NaiveDate>,
    pub message_id: String,
    /// Missing when it was erased; empty where a person does it.
    pub recipient: Option<String>,
    /// `I01: 100.00 EUR, friendly`.
    pub items: Vec<String>,
}

/// A decision of a run that differed from the one before it.
#[derive(Debug, Clone, Serialize)]
pub struct DecisionLine {
    pub business_date: NaiveDate,
    /// `contact`, `wait`, `skip` or `hold`.
    pub kind: String,
    /// `contact`, or the reason code.
    pub code: String,
    pub next_date: Option<NaiveDate>,
    /// The hash of the policy that it was made by.
    pub policy_sha256: String,
}

/// Something that a person recorded.
#[derive(Debug, Clone, Serialize)]
pub struct RegisterLine {
    pub at: DateTime<Utc>,
    /// `hold`, `dispute`, `cause`, `promise`, `waiver`, `write_off`, `handover`, `contact`, `call`, `note`, `legal_hold`.
    pub kind: String,
    pub item: Option<String>,
    pub words: String,
    pub person: String,
    pub ended_at: Option<DateTime<Utc>>,
    pub end_words: Option<String>,
}

/// One version of an instalment plan.
#[derive(Debug, Clone, Serialize)]
pub struct PlanLine {
    pub plan: i64,
    pub version: i32,
    pub agreed_on: NaiveDate,
    /// Days after which an instalment that is not paid counts as missed.
    pub tolerance_days: i32,
    /// `instalment` or `all`: what a missed one makes due.
    pub on_missed: String,
    /// `I01: 100 EUR`, what was open on each when it was agreed.
    pub items: Vec<String>,
    /// `1: 50 EUR by 2026-04-01`.
    pub instalments: Vec<String>,
    pub words: String,
    pub person: String,
    pub ended_on: Option<NaiveDate>,
    pub end_words: Option<String>,
}

/// An item that a notice demanded, as the ledger has it now.
#[derive(Debug, Clone, Serialize)]
pub struct DemandedLine {
    pub item: String,
    pub document_no: Option<String>,
    pub issue_date: Option<NaiveDate>,
    pub due_date: Option<NaiveDate>,
    /// `100.00 EUR`; none when the ledger does not have it any more.
    pub amount: Option<String>,
    pub open: Option<String>,
    pub settled_on: Option<NaiveDate>,
}

/// What runs and people recorded about one account.
#[derive(Debug, Clone, Serialize)]
pub struct Recorded {
    pub notices: Vec<NoticeLine>,
    pub decisions: Vec<DecisionLine>,
    pub register: Vec<RegisterLine>,
    pub plans: Vec<PlanLine>,
    pub demanded: Vec<DemandedLine>,
    /// Hashes of the policies, templates, creditors, calendars and ladders that were used.
    pub texts: Vec<String>,
}

/// Reads what is on record about an account.
///
/// # Errors
/// When the database refuses.
pub async fn recorded(connection: &mut PgConnection, account: &str) -> Result<Recorded, RecordError> {
    let notices = sqlx::query_as!(
        NoticeLine,
        r#"SELECT n.notice_id, n.stage, n.language, n.state, n.reason, n.business_date, n.respond_by, n.accepted_on,
               n.message_id, m.recipient AS "recipient?",
               ARRAY(SELECT i.item_id || ': ' || i.to_pay || ' ' || i.currency || ', ' || i.stage
                     FROM dunning.notice_item i WHERE i.notice_id = n.notice_id ORDER BY i.item_id) AS "items!"
           FROM dunning.notice n LEFT JOIN dunning.message m USING (notice_id)
           WHERE n.account_id = $1 ORDER BY n.created_at, n.notice_id"#,
        account
    )
    .fetch_all(&mut *connection)
    .await?;
    let demanded = sqlx::query_as!(
        DemandedLine,
        r#"SELECT d.item_id AS "item!", i.document_no::text, i.issue_date::date, i.due_date::date,
               i.amount::numeric || ' ' || i.currency::text AS amount,
               i.open_amount::numeric || ' ' || i.currency::text AS open, i.settled_on::date
           FROM (SELECT DISTINCT i.item_id FROM dunning.notice_item i JOIN dunning.notice n USING (notice_id)
                 WHERE n.account_id = $1) d
           LEFT JOIN ledger.item i ON i.item_id::text = d.item_id
           ORDER BY i.due_date::date, d.item_id"#,
        account
    )
    .fetch_all(&mut *connection)
    .await?;
    let decisions = sqlx::query_as!(
        DecisionLine,
        "SELECT d.business_date, d.kind, d.code, d.next_date, r.policy_sha256
         FROM dunning.decision d JOIN dunning.run r USING (run_id) WHERE d.account_id = $1 ORDER BY d.decision_id",
        account
    )
    .fetch_all(&mut *connection)
    .await?;
    let register = sqlx::query_as!(
        RegisterLine,
        r#"SELECT at AS "at!", kind AS "kind!", item, words AS "words!", person AS "person!", ended_at, end_words
           FROM (
               SELECT placed_at AS at, CASE WHEN cause IS NULL THEN 'hold' ELSE 'dispute' END AS kind, item_id AS item,
                   concat_ws(', ', cause, reason, 'until ' || until) AS words, placed_by AS person,
                   released_at AS ended_at, release_reason AS end_words
               FROM dunning.hold WHERE account_id = $1
               UNION ALL
               SELECT made_at, 'promise', (SELECT string_agg(item_id, ', ' ORDER BY item_id) FROM dunning.promise_item i
                                           WHERE i.promise_id = p.promise_id),
                   amount || ' ' || currency || ' by ' || by_day || ', ' || reason, made_by, withdrawn_at, withdrawn_reason
               FROM dunning.promise p WHERE account_id = $1
               UNION ALL
               SELECT waived_at, 'waiver', item_id, stage || ', ' || reason, waived_by, NULL, NULL
               FROM dunning.waiver WHERE account_id = $1
               UNION ALL
               SELECT handed_at, 'handover', NULL, 'to ' || handed_to || ', ' || reason, handed_by, back_at, back_reason
               FROM dunning.handover WHERE account_id = $1
               UNION ALL
               SELECT recorded_at, 'cause', item_id, concat_ws(', ', cause, reason), recorded_by, cleared_at, cleared_reason
               FROM dunning.cause WHERE account_id = $1
               UNION ALL
               SELECT written_off_at, 'write_off', item_id, reason, written_off_by, undone_at, undone_reason
               FROM dunning.write_off WHERE account_id = $1
               UNION ALL
               SELECT entered_at, 'contact', NULL,
                   concat_ws(', ', contact_id, role, CASE WHEN no_email THEN 'no e-mail' END,
                             language, CASE WHEN d.entry_id IS NULL THEN '(erased)' END, d.name, d.email, d.phone, reason),
                   entered_by, ended_at, ended_reason
               FROM dunning.contact_entry LEFT JOIN dunning.contact_data d USING (entry_id) WHERE account_id = $1
               UNION ALL
               SELECT called_at, 'call', NULL, concat_ws(': ', outcome, (SELECT coalesce(t.body, '(erased)')
                       FROM dunning.note LEFT JOIN dunning.note_text t USING (note_id) WHERE call_id = c.call_id LIMIT 1)),
                   called_by, NULL, NULL
               FROM dunning.call c WHERE account_id = $1
               UNION ALL
               SELECT noted_at, 'note', NULL, coalesce(t.body, '(erased)'), noted_by, NULL, NULL
               FROM dunning.note LEFT JOIN dunning.note_text t USING (note_id) WHERE account_id = $1 AND call_id IS NULL
               UNION ALL
               SELECT placed_at, 'legal_hold', NULL, reason, placed_by, lifted_at, lift_reason
               FROM dunning.legal_hold WHERE account_id = $1) lines
           ORDER BY at, kind"#,
        account
    )
    .fetch_all(&mut *connection)
    .await?;
    let plans = sqlx::query_as!(
        PlanLine,
        r#"SELECT p.plan_id AS plan, p.version, p.agreed_on, p.tolerance_days, p.on_missed,
               ARRAY(SELECT i.item_id || ': ' || i.open_then || ' ' || p.currency FROM dunning.plan_item i
                     WHERE (i.plan_id, i.version) = (p.plan_id, p.version) ORDER BY i.item_id) AS "items!",
               ARRAY(SELECT i.number || ': ' || i.amount || ' ' || p.currency || ' by ' || i.due_on
                     FROM dunning.plan_instalment i
                     WHERE (i.plan_id, i.version) = (p.plan_id, p.version) ORDER BY i.number) AS "instalments!",
               p.reason AS words, p.agreed_by AS person, p.ended_on, p.ended_reason AS end_words
           FROM dunning.plan p WHERE p.account_id = $1 ORDER BY p.plan_id, p.version"#,
        account
    )
    .fetch_all(&mut *connection)
    .await?;
    let texts = sqlx::query_scalar!(
        r#"SELECT sha256 AS "sha256!" FROM (
               SELECT policy_sha256 AS sha256, run_id FROM dunning.run
               UNION SELECT templates_sha256, run_id FROM dunning.run
               UNION SELECT creditors_sha256, run_id FROM dunning.run
               UNION SELECT calendars_sha256, run_id FROM dunning.run WHERE calendars_sha256 IS NOT NULL) texts
           WHERE run_id IN (SELECT run_id FROM dunning.decision WHERE account_id = $1
                            UNION SELECT run_id FROM dunning.notice WHERE account_id = $1)
           UNION SELECT ladder_sha256 FROM dunning.debt_case WHERE account_id = $1
           ORDER BY 1"#,
        account
    )
    .fetch_all(connection)
    .await?;
    Ok(Recorded { notices, decisions, register, plans, demanded, texts })
}

/// The text behind a hash.
///
/// # Errors
/// When the database refuses.
pub async fn text_of(connection: &mut PgConnection, sha256: &str) -> Result<Option<String>, RecordError> {
    let body = sqlx::query_scalar!("SELECT body FROM dunning.text WHERE sha256 = $1", sha256);
    Ok(body.fetch_optional(connection).await?)
}
