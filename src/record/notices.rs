//! Notices: planned with frozen content, released, and as people see them.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::json;
use sha2::Sha256;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::model::{Amounts, Currency, Money, OnUnknown, RunId, Snapshot};

use super::RecordError;
use super::decisions::{PageWrite, Planned, demanded};
use super::runs::RunStart;

/// What the log says about personal data: HMAC-SHA256 under a salt that is erased together with the data.
pub(super) fn commitment(salt: &[u8], data: &[u8]) -> String {
    // A key of any length is valid for HMAC, so this cannot fail; an empty commitment would be visible in the log.
    Hmac::<Sha256>::new_from_slice(salt)
        .map(|mac| hex::encode(mac.chain_update(data).finalize().into_bytes()))
        .unwrap_or_default()
}

/// Records the notices of a page as `planned`; returns what the log says about each. The unique index on live (item,
/// stage) is the guard against doubles: a second notice for the same item and stage makes this fail.
pub(super) async fn plan(
    connection: &mut PgConnection,
    run: &RunStart,
    page: &[PageWrite<'_>],
) -> Result<BTreeMap<Uuid, serde_json::Value>, RecordError> {
    let mut facts = BTreeMap::new();
    let mut notices = Notices::default();
    let mut items = Items::default();
    let mut messages = Messages::default();
    for one in page {
        let Some(planned) = one.planned else { continue };
        let demanded = demanded(one.decision);
        let totals: Amounts = demanded
            .iter()
            .filter_map(|(_, _, currency, to_pay)| Some(Money::new(*to_pay, Currency::parse(currency).ok()?)))
            .collect();
        facts.insert(planned.notice, planned_facts(run, planned, &demanded, &totals));
        notices.push(one.decision.account.as_str(), planned, &totals);
        messages.push(planned, one.snapshot);
        items.push(planned.notice, demanded);
    }
    if !facts.is_empty() {
        notices.insert(connection, run).await?;
        items.insert(connection).await?;
        messages.insert(connection).await?;
    }
    Ok(facts)
}

fn planned_facts(
    run: &RunStart,
    planned: &Planned,
    demanded: &[(String, String, String, Decimal)],
    totals: &Amounts,
) -> serde_json::Value {
    let contacting = &planned.contacting;
    let listed: Vec<serde_json::Value> = demanded
        .iter()
        .map(|(item, stage, currency, to_pay)| {
            json!({ "item": item, "stage": stage, "currency": currency, "to_pay": to_pay.to_string() })
        })
        .collect();
    json!({
        "stage": contacting.stage, "language": contacting.language.code(), "anchor": contacting.anchor,
        "business_date": run.business_date.to_string(),
        "not_before": not_before(planned).map(|at| at.to_rfc3339()),
        "respond_by": contacting.respond_by.map(|day| day.to_string()),
        "items": listed, "totals": totals, "message_id": planned.message_id, "fingerprint": planned.fingerprint,
        "message_commitment": commitment(&planned.salt, &planned.bytes),
        "recipient_commitment": commitment(&planned.salt, contacting.recipient.as_str().as_bytes()),
    })
}

/// The rows of `dunning.notice`, column by column.
#[derive(Default)]
struct Notices<'a> {
    ids: Vec<Uuid>,
    accounts: Vec<&'a str>,
    stages: Vec<&'a str>,
    tones: Vec<&'a str>,
    languages: Vec<&'a str>,
    as_ofs: Vec<Option<NaiveDate>>,
    valid_until: Vec<NaiveDate>,
    respond_by: Vec<Option<NaiveDate>>,
    recipient_keys: Vec<String>,
    sender_domains: Vec<&'a str>,
    message_ids: Vec<&'a str>,
    fingerprints: Vec<&'a str>,
    demanded: Vec<String>,
    on_unknown: Vec<&'a str>,
    /// As PostgreSQL writes a multirange; none: at any hour.
    send_windows: Vec<Option<String>>,
    not_before: Vec<Option<DateTime<Utc>>>,
}

/// The first moment at which it may go out, where there is one.
fn not_before(planned: &Planned) -> Option<DateTime<Utc>> {
    planned.send_windows.iter().map(|(opens, _)| *opens).min()
}

impl<'a> Notices<'a> {
    fn push(&mut self, account: &'a str, planned: &'a Planned, totals: &Amounts) {
        let contacting = &planned.contacting;
        self.ids.push(planned.notice);
        self.accounts.push(account);
        self.stages.push(contacting.stage.as_str());
        self.tones.push(contacting.tone.as_str());
        self.languages.push(contacting.language.code());
        self.as_ofs.push(planned.as_of);
        self.valid_until.push(planned.valid_until);
        self.respond_by.push(contacting.respond_by);
        self.recipient_keys.push(contacting.recipient.mailbox_key());
        self.sender_domains.push(planned.sender.domain());
        self.message_ids.push(&planned.message_id);
        self.fingerprints.push(&planned.fingerprint);
        self.demanded.push(serde_json::to_string(totals).unwrap_or_default());
        self.on_unknown.push(match planned.on_unknown {
            OnUnknown::Review => "review",
            OnUnknown::ResendOnce => "resend_once",
        });
        let hours = |(opens, closes): &(DateTime<Utc>, DateTime<Utc>)| {
            format!("[{},{})", opens.to_rfc3339(), closes.to_rfc3339())
        };
        let windows: Vec<String> = planned.send_windows.iter().map(hours).collect();
        self.send_windows.push((!windows.is_empty()).then(|| format!("{{{}}}", windows.join(","))));
        self.not_before.push(not_before(planned));
    }

    async fn insert(&self, connection: &mut PgConnection, run: &RunStart) -> Result<(), RecordError> {
        sqlx::query!(
            "INSERT INTO dunning.notice (notice_id, run_id, creditor, account_id, stage, tone, language, state,
                 business_date, as_of, valid_until, respond_by, recipient_key, sender_domain, message_id, fingerprint,
                 demanded, on_unknown, send_windows, not_before)
             SELECT row.notice_id, $1, $2, row.account_id, row.stage, row.tone, row.language, 'planned',
                 $3, row.as_of, row.valid_until, row.respond_by, row.recipient_key, row.sender_domain, row.message_id,
                 row.fingerprint, row.demanded::jsonb, row.on_unknown, row.send_windows::tstzmultirange, row.not_before
             FROM unnest($4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[], $9::date[], $10::date[],
                         $11::date[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[],
                         $18::text[], $19::timestamptz[])
                 AS row (notice_id, account_id, stage, tone, language, as_of, valid_until, respond_by, recipient_key,
                         sender_domain, message_id, fingerprint, demanded, on_unknown, send_windows, not_before)",
            run.run.0,
            run.creditor.as_str(),
            run.business_date,
            &self.ids,
            &self.accounts as _,
            &self.stages as _,
            &self.tones as _,
            &self.languages as _,
            &self.as_ofs as _,
            &self.valid_until,
            &self.respond_by as _,
            &self.recipient_keys,
            &self.sender_domains as _,
            &self.message_ids as _,
            &self.fingerprints as _,
            &self.demanded,
            &self.on_unknown as _,
            &self.send_windows as _,
            &self.not_before as _
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// The rows of `dunning.notice_item`, column by column.
#[derive(Default)]
struct Items {
    notices: Vec<Uuid>,
    ids: Vec<String>,
    stages: Vec<String>,
    currencies: Vec<String>,
    amounts: Vec<Decimal>,
}

impl Items {
    fn push(&mut self, notice: Uuid, demanded: Vec<(String, String, String, Decimal)>) {
        for (item, stage, currency, to_pay) in demanded {
            self.notices.push(notice);
            self.ids.push(item);
            self.stages.push(stage);
            self.currencies.push(currency);
            self.amounts.push(to_pay);
        }
    }

    async fn insert(&self, connection: &mut PgConnection) -> Result<(), RecordError> {
        sqlx::query!(
            "INSERT INTO dunning.notice_item (notice_id, item_id, stage, currency, to_pay)
             SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::numeric[])",
            &self.notices,
            &self.ids,
            &self.stages,
            &self.currencies,
            &self.amounts
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// The rows of `dunning.message`, column by column.
#[derive(Default)]
struct Messages<'a> {
    notices: Vec<Uuid>,
    recipients: Vec<&'a str>,
    senders: Vec<&'a str>,
    bytes: Vec<&'a [u8]>,
    salts: Vec<&'a [u8]>,
    snapshots: Vec<String>,
    letters: Vec<&'a str>,
}

impl<'a> Messages<'a> {
    fn push(&mut self, planned: &'a Planned, snapshot: &Snapshot) {
        self.notices.push(planned.notice);
        self.recipients.push(planned.contacting.recipient.as_str());
        self.senders.push(planned.sender.as_str());
        self.bytes.push(&planned.bytes);
        self.salts.push(&planned.salt);
        self.snapshots.push(serde_json::to_string(snapshot).unwrap_or_default());
        self.letters.push(&planned.letter);
    }

    async fn insert(&self, connection: &mut PgConnection) -> Result<(), RecordError> {
        sqlx::query!(
            "INSERT INTO dunning.message (notice_id, recipient, sender, bytes, salt, snapshot, letter)
             SELECT row.notice_id, row.recipient, row.sender, row.bytes, row.salt, row.snapshot::jsonb,
                 row.letter::jsonb
             FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::bytea[], $6::text[], $7::text[])
                 AS row (notice_id, recipient, sender, bytes, salt, snapshot, letter)",
            &self.notices,
            &self.recipients as _,
            &self.senders as _,
            &self.bytes as _,
            &self.salts as _,
            &self.snapshots,
            &self.letters as _
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// Lets the planned notices of a run go out.
///
/// # Errors
/// When the database refuses.
pub async fn release_run(connection: &mut PgConnection, run: RunId) -> Result<u64, RecordError> {
    let released = sqlx::query!(
        "UPDATE dunning.notice SET state = 'queued', changed_at = clock_timestamp() WHERE run_id = $1 AND state = 'planned'",
        run.0
    )
    .execute(connection)
    .await?;
    Ok(released.rows_affected())
}

/// A notice as people see it.
#[derive(Debug, Clone, Serialize)]
pub struct NoticeRow {
    pub notice_id: Uuid,
    pub stage: String,
    pub language: String,
    pub state: String,
    pub reason: Option<String>,
    pub business_date: NaiveDate,
    pub respond_by: Option<NaiveDate>,
    pub accepted_on: Option<NaiveDate>,
    pub demanded: BTreeMap<String, String>,
    pub items: Vec<String>,
    pub changed_at: DateTime<Utc>,
}

/// The notices of an account, latest first.
///
/// # Errors
/// When the database refuses.
pub async fn notices_of(connection: &mut PgConnection, account: &str) -> Result<Vec<NoticeRow>, RecordError> {
    let rows = sqlx::query!(
        r#"SELECT n.notice_id, n.stage, n.language, n.state, n.reason, n.business_date, n.respond_by, n.accepted_on,
               n.demanded, n.changed_at, array_agg(i.item_id ORDER BY i.item_id) AS "items!"
           FROM dunning.notice n JOIN dunning.notice_item i USING (notice_id)
           WHERE n.account_id COLLATE "C" = $1
           GROUP BY n.notice_id ORDER BY n.business_date DESC, n.created_at DESC"#,
        account
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|r| NoticeRow {
            notice_id: r.notice_id,
            stage: r.stage,
            language: r.language,
            state: r.state,
            reason: r.reason,
            business_date: r.business_date,
            respond_by: r.respond_by,
            accepted_on: r.accepted_on,
            demanded: serde_json::from_value(r.demanded).unwrap_or_default(),
            items: r.items,
            changed_at: r.changed_at,
        })
        .collect())
}
