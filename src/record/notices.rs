//! Notices: planned with frozen content, released, and as people see them.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::json;
use sha2::Sha256;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::model::{
    Actor, Amounts, ApprovalCause, CancelReason, Channel, Currency, Decision, EmailAddress, Event, EventKind, Money,
    Snapshot,
};

use super::approvals::cancel_all;
use super::copy::CopyRows;
use super::decisions::{PageWrite, Planned, demanded};
use super::people::freeze;
use super::release::{Hours, let_out, remember_bank_accounts};
use super::runs::RunStart;
use super::{RecordError, append, inconsistent};

/// What the log says about personal data: HMAC-SHA256 under a salt that is erased together with the data.
pub(super) fn commitment(salt: &[u8], data: &[u8]) -> String {
    // A key of any length is valid for HMAC, so this cannot fail; an empty commitment would be visible in the log.
    Hmac::<Sha256>::new_from_slice(salt)
        .map(|mac| hex::encode(mac.chain_update(data).finalize().into_bytes()))
        .unwrap_or_default()
}

/// Records the notices of a page as `planned`, but for their messages; returns what the log says about each. The unique
/// index on live (item, stage) is the guard against doubles: a second notice for the same item and stage makes this fail.
pub(super) async fn plan(
    connection: &mut PgConnection,
    run: &RunStart,
    page: &[PageWrite<'_>],
) -> Result<BTreeMap<Uuid, serde_json::Value>, RecordError> {
    let mut facts = BTreeMap::new();
    let mut notices = Notices::default();
    let mut items = Items::default();
    for one in page {
        let Some(planned) = one.planned else { continue };
        let demanded = demanded(one.decision);
        let totals: Amounts = demanded
            .iter()
            .filter_map(|(_, _, currency, to_pay)| Some(Money::new(*to_pay, Currency::parse(currency).ok()?)))
            .collect();
        facts.insert(planned.notice, planned_facts(run, planned, &demanded, &totals));
        notices.push(one.decision.account.as_str(), planned, &totals);
        items.push(planned, one.snapshot, demanded);
    }
    if !facts.is_empty() {
        notices.insert(connection, run).await?;
        items.insert(connection).await?;
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
    let mut facts = json!({
        "stage": contacting.stage, "channel": contacting.channel.as_str(), "language": contacting.language.code(),
        "anchor": contacting.anchor,
        "business_date": run.business_date.to_string(),
        "not_before": not_before(planned).map(|at| at.to_rfc3339()),
        "respond_by": contacting.respond_by.map(|day| day.to_string()),
        "items": listed, "totals": totals, "message_id": planned.message_id, "fingerprint": planned.fingerprint,
        "message_commitment": commitment(&planned.salt, &planned.bytes),
        "recipient_commitment": commitment(&planned.salt, planned.to.as_bytes()),
    });
    // Said only where it is so: the log of an installation in production never has it.
    if planned.redirect_to.is_some()
        && let Some(facts) = facts.as_object_mut()
    {
        facts.insert("redirected".to_owned(), true.into());
    }
    facts
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
    message_ids: Vec<&'a str>,
    fingerprints: Vec<&'a str>,
    demanded: Vec<String>,
    on_unknown: Vec<&'a str>,
    /// As PostgreSQL writes a multirange; none: at any hour.
    send_windows: Vec<Option<String>>,
    not_before: Vec<Option<DateTime<Utc>>>,
    approvals: Vec<Option<&'a str>>,
    redirected: Vec<bool>,
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
        self.recipient_keys.push(if contacting.channel == Channel::Email {
            contacting.recipient.as_ref().map_or_else(String::new, EmailAddress::mailbox_key)
        } else {
            // The e-mail copy of a letter has a mailbox of its own.
            String::new()
        });
        self.message_ids.push(&planned.message_id);
        self.fingerprints.push(&planned.fingerprint);
        self.demanded.push(serde_json::to_string(totals).unwrap_or_default());
        self.on_unknown.push(planned.on_unknown.as_str());
        let hours = |(opens, closes): &(DateTime<Utc>, DateTime<Utc>)| {
            format!("[{},{})", opens.to_rfc3339(), closes.to_rfc3339())
        };
        let windows: Vec<String> = planned.send_windows.iter().map(hours).collect();
        self.send_windows.push((!windows.is_empty()).then(|| format!("{{{}}}", windows.join(","))));
        self.not_before.push(not_before(planned));
        self.approvals.push(planned.approval.map(ApprovalCause::as_str));
        self.redirected.push(planned.redirect_to.is_some());
    }

    async fn insert(&self, connection: &mut PgConnection, run: &RunStart) -> Result<(), RecordError> {
        sqlx::query!(
            "INSERT INTO dunning.notice (notice_id, run_id, creditor, account_id, stage, tone, language, state,
                 business_date, as_of, valid_until, respond_by, recipient_key, message_id, fingerprint,
                 demanded, on_unknown, send_windows, not_before, approval, redirected)
             SELECT row.notice_id, $1, $2, row.account_id, row.stage, row.tone, row.language, 'planned',
                 $3, row.as_of, row.valid_until, row.respond_by, row.recipient_key, row.message_id,
                 row.fingerprint, row.demanded::jsonb, row.on_unknown, row.send_windows::tstzmultirange, row.not_before,
                 row.approval, row.redirected
             FROM unnest($4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[], $9::date[], $10::date[],
                         $11::date[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[],
                         $18::timestamptz[], $19::text[], $20::bool[])
                 AS row (notice_id, account_id, stage, tone, language, as_of, valid_until, respond_by, recipient_key,
                         message_id, fingerprint, demanded, on_unknown, send_windows, not_before, approval,
                         redirected)",
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
            &self.message_ids as _,
            &self.fingerprints as _,
            &self.demanded,
            &self.on_unknown as _,
            &self.send_windows as _,
            &self.not_before as _,
            &self.approvals as _,
            &self.redirected
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
    bank_accounts: Vec<Option<String>>,
    /// The item itself names its bank account.
    named_by_itself: Vec<bool>,
}

impl Items {
    fn push(&mut self, planned: &Planned, snapshot: &Snapshot, demanded: Vec<(String, String, String, Decimal)>) {
        let requisites = &planned.contacting.requisites;
        let payees: BTreeMap<&str, &str> =
            requisites.iter().map(|(item, payee)| (item.as_str(), payee.account.number())).collect();
        let own = snapshot.items.iter().filter(|item| item.requisites.is_some());
        let own: BTreeSet<&str> = own.map(|item| item.id.as_str()).collect();
        for (item, stage, currency, to_pay) in demanded {
            self.notices.push(planned.notice);
            self.bank_accounts.push(payees.get(item.as_str()).map(|number| (*number).to_owned()));
            self.named_by_itself.push(own.contains(item.as_str()));
            self.ids.push(item);
            self.stages.push(stage);
            self.currencies.push(currency);
            self.amounts.push(to_pay);
        }
    }

    async fn insert(&self, connection: &mut PgConnection) -> Result<(), RecordError> {
        sqlx::query!(
            "INSERT INTO dunning.notice_item (notice_id, item_id, stage, currency, to_pay, bank_account, of_item)
             SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::numeric[], $6::text[], $7::bool[])",
            &self.notices,
            &self.ids,
            &self.stages,
            &self.currencies,
            &self.amounts,
            &self.bank_accounts as _,
            &self.named_by_itself
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// Freezes the messages of a page, in the transaction that plans its notices.
///
/// # Errors
/// When the database refuses.
pub async fn write_messages(connection: &mut PgConnection, page: &[PageWrite<'_>]) -> Result<(), RecordError> {
    let mut rows = CopyRows::default();
    for one in page {
        let Some(planned) = one.planned else { continue };
        let snapshot = serde_json::to_vec(one.snapshot).unwrap_or_default();
        rows.push(&[
            planned.notice.as_bytes(),
            planned.to.as_bytes(),
            planned.sender.as_str().as_bytes(),
            &planned.bytes,
            &planned.salt,
            &snapshot,
            planned.letter.as_bytes(),
        ]);
    }
    rows.copy(
        connection,
        "COPY dunning.message (notice_id, recipient, sender, bytes, salt, snapshot, letter) FROM STDIN (FORMAT binary)",
    )
    .await
}

/// What was approved: each item with its stage, and the most that may be demanded on it.
#[derive(Debug, Clone)]
pub struct ApprovedNotice {
    pub run: Uuid,
    pub creditor: String,
    pub account: String,
    pub stage: String,
    pub state: String,
    pub approval: Option<String>,
    pub approved_by: Option<String>,
    pub business_date: NaiveDate,
    pub as_of: Option<NaiveDate>,
    pub valid_until: NaiveDate,
    pub items: Vec<(String, String, Money)>,
    /// The ledger says about it what it said when it was made.
    unchanged: bool,
    /// The first later day on which one of its items is settled, written off or disputed, as the ledger says ahead.
    day_to_come: Option<NaiveDate>,
}

impl ApprovedNotice {
    /// Whether it is what was approved still.
    #[must_use]
    pub fn is_unchanged_on(&self, today: NaiveDate) -> bool {
        self.unchanged && self.day_to_come.is_none_or(|day| day > today)
    }
}

/// Reads a notice that waits for a person, or that one approved; `None` when there is no such notice.
///
/// # Errors
/// When the database refuses or holds something that does not parse.
pub async fn approved_notice(
    connection: &mut PgConnection,
    notice: Uuid,
) -> Result<Option<ApprovedNotice>, RecordError> {
    let row = sqlx::query!(
        r#"SELECT n.run_id, n.creditor, n.account_id, n.stage, n.state, n.approval, n.approved_by, n.business_date, n.as_of,
               n.valid_until,
               n.fingerprint = dunning.ledger_fingerprint(n.account_id, array_agg(i.item_id), n.as_of, n.business_date)
                   AS "unchanged!",
               dunning.day_to_come(n.account_id, array_agg(i.item_id), n.business_date) AS day_to_come,
               array_agg(i.item_id ORDER BY i.item_id) AS "items!", array_agg(i.stage ORDER BY i.item_id) AS "stages!",
               array_agg(i.currency ORDER BY i.item_id) AS "currencies!",
               array_agg(i.to_pay ORDER BY i.item_id) AS "amounts!: Vec<Decimal>"
           FROM dunning.notice n JOIN dunning.notice_item i USING (notice_id)
           WHERE n.notice_id = $1 GROUP BY n.notice_id"#,
        notice
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let items: Result<Vec<(String, String, Money)>, RecordError> = row
        .items
        .into_iter()
        .zip(row.stages)
        .zip(row.currencies.iter().zip(row.amounts))
        .map(|((item, stage), (currency, amount))| {
            let currency =
                Currency::parse(currency).map_err(|_| inconsistent("dunning.notice_item", "currency", currency))?;
            Ok((item, stage, Money::new(amount, currency)))
        })
        .collect();
    Ok(Some(ApprovedNotice {
        run: row.run_id,
        creditor: row.creditor,
        account: row.account_id,
        stage: row.stage,
        state: row.state,
        approval: row.approval,
        approved_by: row.approved_by,
        business_date: row.business_date,
        as_of: row.as_of,
        valid_until: row.valid_until,
        items: items?,
        unchanged: row.unchanged,
        day_to_come: row.day_to_come,
    }))
}

/// Puts a notice that demands less in the place of an approved one; the approval is its own from then on.
#[derive(Debug)]
pub struct Renewal<'a> {
    pub old: Uuid,
    pub run: &'a RunStart,
    pub snapshot: &'a Snapshot,
    pub decision: &'a Decision,
    pub planned: &'a Planned,
    pub approved_by: &'a str,
    pub reason: &'a str,
    /// The creditor's bank account per currency.
    pub own: &'a [(String, String)],
}

/// Cancels the old notice and lets out the new one, with the approval, in the caller's transaction: not before the hour
/// that the old one had, and in one that has a place. False when the old one did not wait any more: then nothing is
/// changed.
///
/// # Errors
/// When the database refuses, also because something else was recorded for the same items meanwhile.
pub async fn renew(
    connection: &mut PgConnection,
    renewal: &Renewal<'_>,
    hours: &mut Hours,
    actor: &Actor,
) -> Result<bool, RecordError> {
    let Renewal { old, run, snapshot, decision, planned, approved_by, reason, own } = renewal;
    let mut events = cancel_all(connection, &[*old], CancelReason::Renewed, None, actor).await?;
    if events.is_empty() {
        return Ok(false);
    }
    let digest = decision.digest();
    let write = PageWrite { snapshot, decision, digest, ladder: None, planned: Some(planned) };
    let page = [write];
    let facts = plan(connection, run, &page).await?.remove(&planned.notice).unwrap_or_default();
    write_messages(connection, &page).await?;
    let about = |kind, facts| Event {
        creditor: Some(run.creditor.to_string()),
        account: Some(decision.account.to_string()),
        run: Some(run.run.to_string()),
        notice: Some(planned.notice.to_string()),
        ..Event::new(kind, actor.clone(), facts)
    };
    if planned.contacting.channel != Channel::Email {
        freeze(connection, planned).await?;
    }
    events.push(about(EventKind::NoticePlanned, facts));
    sqlx::query!(
        "UPDATE dunning.notice n
         SET approved_by = $2, approved_at = clock_timestamp(), not_before = greatest(n.not_before, o.not_before)
         FROM dunning.notice o WHERE n.notice_id = $1 AND o.notice_id = $3",
        planned.notice,
        approved_by,
        old
    )
    .execute(&mut *connection)
    .await?;
    let given = let_out(connection, &[planned.notice], hours, actor).await?;
    remember_bank_accounts(connection, &[planned.notice], own).await?;
    let facts = json!({ "reason": reason, "stage": planned.contacting.stage, "in_place_of": old.to_string(),
        "approved_by": approved_by });
    events.push(about(EventKind::NoticeApproved, facts));
    events.extend(given);
    append(connection, &events).await?;
    Ok(true)
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

/// The totals that a notice demands, by currency, as its row has them.
pub(super) fn demanded_of(stored: serde_json::Value) -> Result<BTreeMap<String, String>, RecordError> {
    let text = stored.to_string();
    serde_json::from_value(stored).map_err(|_| inconsistent("dunning.notice", "demanded", &text))
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
    rows.into_iter()
        .map(|r| {
            Ok(NoticeRow {
                notice_id: r.notice_id,
                stage: r.stage,
                language: r.language,
                state: r.state,
                reason: r.reason,
                business_date: r.business_date,
                respond_by: r.respond_by,
                accepted_on: r.accepted_on,
                demanded: demanded_of(r.demanded)?,
                items: r.items,
                changed_at: r.changed_at,
            })
        })
        .collect()
}
