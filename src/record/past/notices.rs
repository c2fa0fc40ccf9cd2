//! Notices of the past, by account and by mailbox.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use sqlx::PgConnection;

use super::{Page, item_id, stage_name};
use crate::model::{Channel, CreditorId, ItemId, MailboxUse, NoticeId, NoticeState, PastNotice, StageName, Tone};
use crate::record::{RecordError, inconsistent};

/// Reads them into the pasts of the page.
pub(super) async fn notices(page: &mut Page<'_>) -> Result<(), RecordError> {
    // Notice by notice, so that the items are found by their index whatever the planner knows about the tables.
    let rows = sqlx::query!(
        r#"SELECT n.notice_id, n.account_id, n.stage, n.tone, n.state, n.business_date, n.counted_on, n.accepted_on,
               n.respond_by, n.recipient_key, n.message_id, n.channel, n.lapses_on,
               CASE WHEN n.channel = 'letter' THEN least(n.valid_until, n.respond_by) END AS post_by,
               n.copy_of IS NOT NULL AS "copy!", i.items AS "items!", i.stages AS "stages!"
           FROM dunning.notice n
           CROSS JOIN LATERAL (SELECT array_agg(item_id ORDER BY item_id) AS items,
                                      array_agg(stage ORDER BY item_id) AS stages
                               FROM dunning.notice_item WHERE notice_id = n.notice_id) i
           WHERE n.account_id COLLATE "C" = ANY ($1) AND n.business_date <= $2
             -- One that reached the relay's door was a contact, though nothing else follows from it.
             AND (n.state <> 'cancelled' OR n.counted_on IS NOT NULL)
             AND i.items IS NOT NULL
             -- What went to a mailbox of our own was no contact, whatever came of it.
             AND NOT (n.redirected
                      AND n.state IN ('accepted', 'refused', 'unknown', 'bounced', 'delivered', 'replied', 'cancelled'))
           ORDER BY n.notice_id"#,
        &page.ids,
        page.today
    )
    .fetch_all(&mut *page.connection)
    .await?;
    for row in rows {
        let state =
            NoticeState::parse(&row.state).ok_or_else(|| inconsistent("dunning.notice", "state", &row.state))?;
        let tone = Tone::parse(&row.tone).ok_or_else(|| inconsistent("dunning.notice", "tone", &row.tone))?;
        let items: Result<Vec<(ItemId, StageName)>, RecordError> =
            row.items.iter().zip(&row.stages).map(|(item, stage)| Ok((item_id(item)?, stage_name(stage)?))).collect();
        let channel =
            Channel::parse(&row.channel).ok_or_else(|| inconsistent("dunning.notice", "channel", &row.channel))?;
        let notice = PastNotice {
            id: NoticeId(row.notice_id),
            stage: stage_name(&row.stage)?,
            tone,
            channel,
            state,
            decided_on: row.business_date,
            counted_on: row.counted_on.filter(|day| *day <= page.today && !row.copy),
            accepted_on: row.accepted_on.filter(|day| *day <= page.today),
            lapses_on: row.lapses_on,
            post_by: row.post_by,
            respond_by: row.respond_by,
            items: if row.copy || state == NoticeState::Cancelled { Vec::new() } else { items? },
            vanished: false,
            mailbox: row.recipient_key,
            message_id: row.message_id,
        };
        page.past(&row.account_id)?.history.notices.push(notice);
    }
    Ok(())
}

/// What is known about those mailboxes over all accounts and creditors. What is on its way to one counts as a contact of
/// the day for which it was decided, or of today; `without` is a notice that is looked at as if it did not exist.
///
/// # Errors
/// When the database refuses.
pub async fn mailboxes(
    connection: &mut PgConnection,
    keys: &[String],
    creditor: &CreditorId,
    today: NaiveDate,
    without: Option<NoticeId>,
) -> Result<BTreeMap<String, MailboxUse>, RecordError> {
    let mut uses: BTreeMap<String, MailboxUse> =
        keys.iter().map(|key| (key.clone(), MailboxUse { accounts: 1, ..MailboxUse::default() })).collect();
    let rows = sqlx::query!(
        r#"SELECT recipient_key,
               coalesce(array_agg(contact) FILTER (WHERE contact BETWEEN $3::date - 400 AND $3), '{}') AS "contacts!",
               coalesce(bool_or(today), false) AS "today!",
               coalesce(array_agg(copied) FILTER (WHERE copied IS NOT NULL), '{}') AS "copies!"
           FROM (SELECT recipient_key,
                     CASE WHEN redirected THEN NULL
                          WHEN counted_on IS NOT NULL THEN counted_on
                          WHEN state IN ('planned', 'awaiting_approval', 'queued', 'deferred', 'claimed', 'in_flight')
                          THEN greatest(business_date, $3) END AS contact,
                     creditor = $2 AND business_date = $3 AND state <> 'cancelled' AS today, NULL::uuid AS copied
                 FROM dunning.notice
                 WHERE recipient_key = ANY ($1) AND (state <> 'cancelled' OR counted_on IS NOT NULL)
                   AND business_date <= $3 AND notice_id IS DISTINCT FROM $4
                 UNION ALL
                 -- The e-mail copies of letters that are still to be posted.
                 SELECT c.recipient_key, CASE WHEN NOT n.redirected THEN greatest(n.business_date, $3) END, false,
                     CASE WHEN NOT n.redirected THEN n.notice_id END
                 FROM dunning.letter_copy c JOIN dunning.notice n USING (notice_id)
                 WHERE c.recipient_key = ANY ($1) AND n.state IN ('planned', 'awaiting_approval', 'with_person')
                   AND n.business_date <= $3 AND n.notice_id IS DISTINCT FROM $4) used
           GROUP BY recipient_key"#,
        keys,
        creditor.as_str(),
        today,
        without.map(|notice| notice.0)
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
