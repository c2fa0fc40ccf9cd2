//! Notices of the past, by account and by mailbox.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use uuid::Uuid;

use super::in_order::InOrder;
use super::{Page, item_id, stage_name};
use crate::model::{Channel, CreditorId, ItemId, MailboxUse, NoticeId, NoticeState, PastNotice, StageName, Tone};
use crate::record::{RecordError, inconsistent};

/// Where the columns of [`select`] stand.
mod at {
    pub(super) const ACCOUNT: usize = 0;
    pub(super) const NOTICE: usize = 1;
    pub(super) const ITEM: usize = 2;
    pub(super) const ITEM_STAGE: usize = 3;
    pub(super) const STAGE: usize = 4;
    pub(super) const TONE: usize = 5;
    pub(super) const STATE: usize = 6;
    pub(super) const BUSINESS_DATE: usize = 7;
    pub(super) const COUNTED_ON: usize = 8;
    pub(super) const ACCEPTED_ON: usize = 9;
    pub(super) const RESPOND_BY: usize = 10;
    pub(super) const MAILBOX: usize = 11;
    pub(super) const MESSAGE_ID: usize = 12;
    pub(super) const CHANNEL: usize = 13;
    pub(super) const LAPSES_ON: usize = 14;
    pub(super) const POST_BY: usize = 15;
    pub(super) const IS_COPY: usize = 16;
    pub(super) const TO_PAY: usize = 17;
    pub(super) const UNANSWERED: usize = 18;
}

/// A row for each item of each notice; `$1` is the last day that counts. `items` joins the items of a notice as `i`,
/// `$2` says which accounts.
fn select(items: &str, accounts: &str) -> String {
    format!(
        r"SELECT n.account_id, n.notice_id, i.item_id, i.stage, n.stage, n.tone, n.state, n.business_date, n.counted_on,
              n.accepted_on, n.respond_by, n.recipient_key, n.message_id, n.channel, n.lapses_on,
              CASE WHEN n.channel = 'letter' THEN least(n.valid_until, n.respond_by) END, n.copy_of IS NOT NULL,
              CASE WHEN n.state = 'with_person' THEN i.to_pay END, n.state = 'done' AND n.reason IS NOT DISTINCT FROM 'no_answer'
          FROM dunning.notice n {items}
          WHERE {accounts} AND n.business_date <= $1
            -- One that reached the relay's door was a contact, though nothing else follows from it.
            AND (n.state <> 'cancelled' OR n.counted_on IS NOT NULL)
            -- What went to a mailbox of our own was no contact, whatever came of it.
            AND NOT (n.redirected
                     AND n.state IN ('accepted', 'refused', 'unknown', 'bounced', 'delivered', 'replied', 'cancelled'))"
    )
}

/// The notices of those accounts.
pub(super) async fn notices(page: &mut Page<'_>) -> Result<Vec<PgRow>, RecordError> {
    // Notice by notice, so that the items are found by their index whatever the planner knows about the tables.
    let select = select(
        "CROSS JOIN LATERAL (SELECT item_id, stage, to_pay FROM dunning.notice_item WHERE notice_id = n.notice_id OFFSET 0) i",
        r#"n.account_id COLLATE "C" = ANY ($2)"#,
    );
    Ok(sqlx::query(AssertSqlSafe(format!("{select} ORDER BY n.notice_id, i.item_id")))
        .bind(page.today)
        .bind(&page.ids)
        .fetch_all(&mut *page.connection)
        .await?)
}

/// The notices of all accounts of a creditor's ledger, in account order.
pub(super) async fn all_notices(
    connection: &mut PgConnection,
    creditor: &CreditorId,
    today: NaiveDate,
) -> Result<InOrder, sqlx::Error> {
    let select = select(
        "JOIN dunning.notice_item i ON i.notice_id = n.notice_id",
        "n.account_id IN (SELECT account_id::text FROM ledger.account WHERE creditor::text = $2)",
    );
    let order = r#"n.account_id COLLATE "C", n.notice_id, i.item_id"#;
    sqlx::query(AssertSqlSafe(format!("DECLARE dunning_past_notices NO SCROLL CURSOR FOR {select} ORDER BY {order}")))
        .bind(today)
        .bind(creditor.as_str())
        .execute(connection)
        .await?;
    Ok(InOrder::new("FETCH FORWARD 1000 FROM dunning_past_notices"))
}

/// Takes them into the pasts of the page. The rows of a notice follow each other, and notices of an account are in the
/// order of their ids.
pub(super) fn take(page: &mut Page<'_>, rows: &[PgRow]) -> Result<(), RecordError> {
    for rows in rows.chunk_by(|a, b| {
        let id = |row: &PgRow| row.try_get_unchecked::<Uuid, _>(at::NOTICE).ok();
        id(a) == id(b)
    }) {
        let Some(first) = rows.first() else { continue };
        let as_of = page.as_of;
        if let Some(past) = page.past(first.try_get_unchecked(at::ACCOUNT)?) {
            past.history.notices.push(notice(first, rows, as_of)?);
        }
    }
    Ok(())
}

fn notice(row: &PgRow, items: &[PgRow], as_of: Option<NaiveDate>) -> Result<PastNotice, RecordError> {
    let text = |column: usize| row.try_get_unchecked::<&str, _>(column);
    let day = |column: usize| row.try_get_unchecked::<Option<NaiveDate>, _>(column);
    let (state, tone, channel) = (text(at::STATE)?, text(at::TONE)?, text(at::CHANNEL)?);
    let state = NoticeState::parse(state).ok_or_else(|| inconsistent("dunning.notice", "state", state))?;
    let tone = Tone::parse(tone).ok_or_else(|| inconsistent("dunning.notice", "tone", tone))?;
    let channel = Channel::parse(channel).ok_or_else(|| inconsistent("dunning.notice", "channel", channel))?;
    let is_copy: bool = row.try_get_unchecked(at::IS_COPY)?;
    let demands = !is_copy && state != NoticeState::Cancelled;
    let item = |row: &PgRow| {
        Ok((item_id(row.try_get_unchecked(at::ITEM)?)?, stage_name(row.try_get_unchecked(at::ITEM_STAGE)?)?))
    };
    let mut to_pay = BTreeMap::new();
    for row in items {
        if let Some(amount) = row.try_get_unchecked::<Option<Decimal>, _>(at::TO_PAY)? {
            to_pay.insert(item(row)?.0, amount);
        }
    }
    let items: Result<Vec<(ItemId, StageName)>, RecordError> = items.iter().filter(|_| demands).map(item).collect();
    Ok(PastNotice {
        id: NoticeId(row.try_get_unchecked(at::NOTICE)?),
        stage: stage_name(text(at::STAGE)?)?,
        tone,
        channel,
        state,
        decided_on: row.try_get_unchecked(at::BUSINESS_DATE)?,
        counted_on: day(at::COUNTED_ON)?.filter(|day| as_of.is_none_or(|as_of| *day <= as_of) && !is_copy),
        accepted_on: day(at::ACCEPTED_ON)?.filter(|day| as_of.is_none_or(|as_of| *day <= as_of)),
        lapses_on: day(at::LAPSES_ON)?,
        post_by: day(at::POST_BY)?,
        respond_by: day(at::RESPOND_BY)?,
        items: items?,
        to_pay,
        unanswered: row.try_get_unchecked(at::UNANSWERED)?,
        vanished: false,
        mailbox: row.try_get_unchecked(at::MAILBOX)?,
        message_id: row.try_get_unchecked(at::MESSAGE_ID)?,
    })
}

/// What is known about those mailboxes over all accounts and creditors. What is on its way to one counts as a contact of
/// the day for which it was decided, or of today, also when it is sent once more; what waits for approval is none yet, and
/// is asked about again when somebody approves it. `as_of` passes over what came after that day; `without` is a notice
/// that is looked at as if it did not exist.
///
/// # Errors
/// When the database refuses.
pub async fn mailboxes(
    connection: &mut PgConnection,
    keys: &[String],
    creditor: &CreditorId,
    today: NaiveDate,
    as_of: Option<NaiveDate>,
    without: Option<NoticeId>,
) -> Result<BTreeMap<String, MailboxUse>, RecordError> {
    let mut uses: BTreeMap<String, MailboxUse> =
        keys.iter().map(|key| (key.clone(), MailboxUse { accounts: 1, ..MailboxUse::default() })).collect();
    let rows = sqlx::query!(
        r#"SELECT recipient_key,
               coalesce(array_agg(contact) FILTER (WHERE contact >= $3::date - 400
                                                     AND ($5::date IS NULL OR contact <= $5)), '{}') AS "contacts!",
               coalesce(bool_or(today), false) AS "today!",
               coalesce(array_agg(copied) FILTER (WHERE copied IS NOT NULL), '{}') AS "copies!"
           FROM (SELECT recipient_key,
                     CASE WHEN redirected THEN NULL
                          WHEN counted_on IS NOT NULL
                               AND (resend_of IS NULL OR state NOT IN ('queued', 'deferred', 'claimed'))
                          THEN counted_on
                          WHEN state IN ('planned', 'queued', 'deferred', 'claimed', 'in_flight')
                          THEN greatest(business_date, $3) END AS contact,
                     creditor = $2 AND state <> 'cancelled'
                         AND (business_date = $3
                              OR resend_of IS NOT NULL AND (counted_on = $3 OR state IN ('queued', 'deferred', 'claimed')))
                         AND ($4::uuid IS NULL OR state <> 'awaiting_approval') AS today, NULL::uuid AS copied
                 FROM dunning.notice
                 WHERE recipient_key = ANY ($1) AND (state <> 'cancelled' OR counted_on IS NOT NULL)
                   AND ($5::date IS NULL OR business_date <= $5) AND notice_id IS DISTINCT FROM $4
                 UNION ALL
                 -- The e-mail copies of letters that are still to be posted.
                 SELECT c.recipient_key, CASE WHEN NOT n.redirected THEN greatest(n.business_date, $3) END, false,
                     CASE WHEN NOT n.redirected THEN n.notice_id END
                 FROM dunning.letter_copy c JOIN dunning.notice n USING (notice_id)
                 WHERE c.recipient_key = ANY ($1) AND n.state IN ('planned', 'with_person')
                   AND ($5::date IS NULL OR n.business_date <= $5) AND n.notice_id IS DISTINCT FROM $4) used
           GROUP BY recipient_key"#,
        keys,
        creditor.as_str(),
        today,
        without.map(|notice| notice.0),
        as_of
    )
    .fetch_all(connection)
    .await?;
    for row in rows {
        if let Some(usage) = row.recipient_key.and_then(|key| uses.get_mut(&key)) {
            usage.contacts = row.contacts;
            usage.notice_today = row.today;
            usage.copies = row.copies.into_iter().map(NoticeId).collect();
        }
    }
    Ok(uses)
}
