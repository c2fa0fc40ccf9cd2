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
    /// Missing when it was erased.
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
    /// `hold`, `dispute`, `promise`, `waiver`, `handover`, `call`, `note`, `legal_hold`.
    pub kind: String,
    pub item: Option<String>,
    pub words: String,
    pub person: String,
    pub ended_at: Option<DateTime<Utc>>,
    pub end_words: Option<String>,
}

/// Everything on record about one account.
#[derive(Debug, Clone, Serialize)]
pub struct Recorded {
    pub notices: Vec<NoticeLine>,
    pub decisions: Vec<DecisionLine>,
    pub register: Vec<RegisterLine>,
    /// Hashes of the policies, templates, creditors and ladders that were used.
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
               SELECT called_at, 'call', NULL, concat_ws(': ', outcome, (SELECT body FROM dunning.note JOIN dunning.note_text t
                                                                         USING (note_id) WHERE call_id = c.call_id LIMIT 1)),
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
    let texts = sqlx::query_scalar!(
        r#"SELECT sha256 AS "sha256!" FROM (
               SELECT policy_sha256 AS sha256, run_id FROM dunning.run
               UNION SELECT templates_sha256, run_id FROM dunning.run
               UNION SELECT creditors_sha256, run_id FROM dunning.run) texts
           WHERE run_id IN (SELECT run_id FROM dunning.decision WHERE account_id = $1
                            UNION SELECT run_id FROM dunning.notice WHERE account_id = $1)
           UNION SELECT ladder_sha256 FROM dunning.debt_case WHERE account_id = $1
           ORDER BY 1"#,
        account
    )
    .fetch_all(connection)
    .await?;
    Ok(Recorded { notices, decisions, register, texts })
}

/// The text behind a hash.
///
/// # Errors
/// When the database refuses.
pub async fn text_of(connection: &mut PgConnection, sha256: &str) -> Result<Option<String>, RecordError> {
    let body = sqlx::query_scalar!("SELECT body FROM dunning.text WHERE sha256 = $1", sha256);
    Ok(body.fetch_optional(connection).await?)
}
