//! What is known about accounts from before: cases, notices, what people recorded, withdrawn items, mailboxes.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use rust_decimal::Decimal;
use sqlx::PgConnection;

use crate::model::{
    AccountId, Case, Cause, Channel, CreditorId, Currency, Handover, History, Hold, HoldTarget, ItemId, Ladder,
    MailboxUse, Money, NoticeId, NoticeState, PastNotice, Promise, PromisedItem, StageName, Tone, Waiver,
};

use super::{RecordError, inconsistent};

/// What happened to one account.
#[derive(Debug, Clone, Default)]
pub struct Past {
    pub case: Option<Case>,
    pub history: History,
    pub holds: Vec<Hold>,
    pub handover: Option<Handover>,
    pub promises: Vec<Promise>,
    /// Items that vanished while open and are not taken up again by themselves.
    pub withdrawn: BTreeSet<ItemId>,
}

/// Reads the pasts of accounts, page by page, within one transaction: it asks once for what is the same on every page.
pub struct PastReader {
    recorded: Recorded,
    /// By the hash of their text.
    ladders: BTreeMap<String, Ladder>,
}

/// The tables that hold anything at all.
#[expect(clippy::struct_excessive_bools, reason = "each table is empty or not, independently of the others")]
struct Recorded {
    waivers: bool,
    holds: bool,
    handovers: bool,
    promises: bool,
    calls: bool,
    withdrawn: bool,
}

impl PastReader {
    /// # Errors
    /// When the database refuses.
    pub async fn open(connection: &mut PgConnection) -> Result<Self, RecordError> {
        let recorded = sqlx::query_as!(
            Recorded,
            r#"SELECT EXISTS (SELECT FROM dunning.waiver) AS "waivers!",
                   EXISTS (SELECT FROM dunning.hold WHERE released_at IS NULL) AS "holds!",
                   EXISTS (SELECT FROM dunning.handover WHERE back_at IS NULL) AS "handovers!",
                   EXISTS (SELECT FROM dunning.promise) AS "promises!",
                   EXISTS (SELECT FROM dunning.call) AS "calls!",
                   EXISTS (SELECT FROM dunning.known_item WHERE state = 'withdrawn') AS "withdrawn!""#
        )
        .fetch_one(connection)
        .await?;
        Ok(Self { recorded, ladders: BTreeMap::new() })
    }

    /// The past of those accounts, as far as it lies on or before `today`.
    ///
    /// # Errors
    /// When the database refuses or holds something that does not parse.
    pub async fn page(
        &mut self,
        connection: &mut PgConnection,
        accounts: &[AccountId],
        today: NaiveDate,
    ) -> Result<BTreeMap<AccountId, Past>, RecordError> {
        let ids: Vec<String> = accounts.iter().map(AccountId::to_string).collect();
        let mut pasts: BTreeMap<AccountId, Past> =
            accounts.iter().map(|account| (account.clone(), Past::default())).collect();
        self.cases(connection, &ids, today, &mut pasts).await?;
        notices(connection, &ids, today, &mut pasts).await?;
        register(connection, &self.recorded, &ids, today, &mut pasts).await?;
        Ok(pasts)
    }

    async fn cases(
        &mut self,
        connection: &mut PgConnection,
        ids: &[String],
        today: NaiveDate,
        pasts: &mut BTreeMap<AccountId, Past>,
    ) -> Result<(), RecordError> {
        let cases = sqlx::query!(
            "SELECT account_id, opened_on, ladder_sha256 FROM dunning.debt_case
             WHERE account_id = ANY ($1) AND opened_on <= $2 AND (closed_on IS NULL OR closed_on > $2)",
            ids,
            today
        )
        .fetch_all(&mut *connection)
        .await?;
        for row in cases {
            let ladder = match self.ladders.entry(row.ladder_sha256) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    let body = sqlx::query_scalar!("SELECT body FROM dunning.text WHERE sha256 = $1", new.key())
                        .fetch_one(&mut *connection)
                        .await?;
                    let ladder = serde_json::from_str(&body)
                        .map_err(|_| inconsistent("dunning.text", "body", &row.account_id))?;
                    new.insert(ladder)
                }
            };
            if let Some(past) = of(pasts, &row.account_id) {
                past.case = Some(Case { ladder: ladder.clone(), opened_on: row.opened_on });
            }
        }
        Ok(())
    }
}

async fn notices(
    connection: &mut PgConnection,
    ids: &[String],
    today: NaiveDate,
    pasts: &mut BTreeMap<AccountId, Past>,
) -> Result<(), RecordError> {
    // Notice by notice, so that the items are found by their index whatever the planner knows about the tables.
    let notices = sqlx::query!(
        r#"SELECT n.notice_id, n.account_id, n.stage, n.tone, n.state, n.business_date, n.counted_on, n.accepted_on,
               n.respond_by, n.recipient_key, n.message_id, n.channel, n.lapses_on,
               n.copy_of IS NOT NULL AS "copy!", i.items AS "items!", i.stages AS "stages!"
           FROM dunning.notice n
           CROSS JOIN LATERAL (SELECT array_agg(item_id ORDER BY item_id) AS items,
                                      array_agg(stage ORDER BY item_id) AS stages
                               FROM dunning.notice_item WHERE notice_id = n.notice_id) i
           WHERE n.account_id COLLATE "C" = ANY ($1) AND n.business_date <= $2 AND n.state <> 'cancelled'
             AND i.items IS NOT NULL
             -- What went to a mailbox of our own was no contact, whatever came of it.
             AND NOT (n.redirected
                      AND n.state IN ('accepted', 'refused', 'unknown', 'bounced', 'delivered', 'replied'))
           ORDER BY n.notice_id"#,
        ids,
        today
    )
    .fetch_all(connection)
    .await?;
    for row in notices {
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
            counted_on: row.counted_on.filter(|day| *day <= today && !row.copy),
            accepted_on: row.accepted_on.filter(|day| *day <= today),
            lapses_on: row.lapses_on,
            respond_by: row.respond_by,
            items: if row.copy { Vec::new() } else { items? },
            vanished: false,
            mailbox: row.recipient_key,
            message_id: row.message_id,
        };
        if let Some(past) = of(pasts, &row.account_id) {
            past.history.notices.push(notice);
        }
    }
    Ok(())
}

/// What people recorded, and the items that are withdrawn.
async fn register(
    connection: &mut PgConnection,
    recorded: &Recorded,
    ids: &[String],
    today: NaiveDate,
    pasts: &mut BTreeMap<AccountId, Past>,
) -> Result<(), RecordError> {
    if recorded.waivers {
        waivers(connection, ids, today, pasts).await?;
    }
    if recorded.holds {
        holds(connection, ids, pasts).await?;
    }
    if recorded.handovers {
        handovers(connection, ids, pasts).await?;
    }
    if recorded.promises {
        promises(connection, ids, today, pasts).await?;
    }
    if recorded.calls {
        calls(connection, ids, today, pasts).await?;
    }
    if recorded.withdrawn {
        withdrawn(connection, ids, pasts).await?;
    }
    Ok(())
}

async fn waivers(
    connection: &mut PgConnection,
    ids: &[String],
    today: NaiveDate,
    pasts: &mut BTreeMap<AccountId, Past>,
) -> Result<(), RecordError> {
    let waivers = sqlx::query!(
        "SELECT account_id, item_id, stage, waived_on, reason FROM dunning.waiver
         WHERE account_id = ANY ($1) AND since <= $2",
        ids,
        today
    )
    .fetch_all(connection)
    .await?;
    for row in waivers {
        let waiver = Waiver {
            item: item_id(&row.item_id)?,
            stage: stage_name(&row.stage)?,
            on: row.waived_on,
            reason: row.reason,
        };
        if let Some(past) = of(pasts, &row.account_id) {
            past.history.waivers.push(waiver);
        }
    }
    Ok(())
}

async fn holds(
    connection: &mut PgConnection,
    ids: &[String],
    pasts: &mut BTreeMap<AccountId, Past>,
) -> Result<(), RecordError> {
    let holds = sqlx::query!(
        r#"SELECT account_id, item_id, until, reason, cause, since FROM dunning.hold
           WHERE account_id COLLATE "C" = ANY ($1) AND released_at IS NULL"#,
        ids
    )
    .fetch_all(connection)
    .await?;
    for row in holds {
        let target = match &row.item_id {
            Some(item) => HoldTarget::Item(item_id(item)?),
            None => HoldTarget::Account(account_id(&row.account_id)?),
        };
        let cause = row
            .cause
            .map(|text| Cause::parse(&text).ok_or_else(|| inconsistent("dunning.hold", "cause", &text)))
            .transpose()?;
        if let Some(past) = of(pasts, &row.account_id) {
            past.holds.push(Hold { target, until: row.until, reason: row.reason, cause, since: row.since });
        }
    }
    Ok(())
}

async fn handovers(
    connection: &mut PgConnection,
    ids: &[String],
    pasts: &mut BTreeMap<AccountId, Past>,
) -> Result<(), RecordError> {
    let handovers = sqlx::query!(
        r#"SELECT account_id, handed_to, reason, since FROM dunning.handover
           WHERE account_id COLLATE "C" = ANY ($1) AND back_at IS NULL"#,
        ids
    )
    .fetch_all(connection)
    .await?;
    for row in handovers {
        if let Some(past) = of(pasts, &row.account_id) {
            past.handover = Some(Handover { to: row.handed_to, reason: row.reason, since: row.since });
        }
    }
    Ok(())
}

async fn promises(
    connection: &mut PgConnection,
    ids: &[String],
    today: NaiveDate,
    pasts: &mut BTreeMap<AccountId, Past>,
) -> Result<(), RecordError> {
    let promises = sqlx::query!(
        r#"SELECT p.promise_id, p.account_id, p.amount, p.currency, p.made_on, p.by_day, p.tolerance_days, p.reason,
               p.withdrawn_at IS NOT NULL AS "withdrawn!",
               array_agg(i.item_id ORDER BY i.item_id) AS "items!",
               array_agg(i.open_then ORDER BY i.item_id) AS "open!: Vec<Decimal>"
           FROM dunning.promise p JOIN dunning.promise_item i USING (promise_id)
           WHERE p.account_id COLLATE "C" = ANY ($1) AND p.made_on <= $2
           GROUP BY p.promise_id"#,
        ids,
        today
    )
    .fetch_all(connection)
    .await?;
    for row in promises {
        let currency =
            Currency::parse(&row.currency).map_err(|_| inconsistent("dunning.promise", "currency", &row.currency))?;
        let items: Result<Vec<PromisedItem>, RecordError> = row
            .items
            .iter()
            .zip(row.open)
            .map(|(item, open_then)| Ok(PromisedItem { item: item_id(item)?, open_then, vanished: false }))
            .collect();
        let promise = Promise {
            number: row.promise_id,
            amount: Money::new(row.amount, currency),
            made_on: row.made_on,
            by_day: row.by_day,
            tolerance_days: u32::try_from(row.tolerance_days).unwrap_or(0),
            items: items?,
            reason: row.reason,
            withdrawn: row.withdrawn,
        };
        if let Some(past) = of(pasts, &row.account_id) {
            past.promises.push(promise);
        }
    }
    Ok(())
}

async fn calls(
    connection: &mut PgConnection,
    ids: &[String],
    today: NaiveDate,
    pasts: &mut BTreeMap<AccountId, Past>,
) -> Result<(), RecordError> {
    let calls = sqlx::query!(
        r#"SELECT account_id, called_on FROM dunning.call WHERE account_id COLLATE "C" = ANY ($1) AND called_on <= $2"#,
        ids,
        today
    )
    .fetch_all(connection)
    .await?;
    for row in calls {
        if let Some(past) = of(pasts, &row.account_id) {
            past.history.other_contacts.push(row.called_on);
        }
    }
    Ok(())
}

async fn withdrawn(
    connection: &mut PgConnection,
    ids: &[String],
    pasts: &mut BTreeMap<AccountId, Past>,
) -> Result<(), RecordError> {
    let withdrawn = sqlx::query!(
        "SELECT account_id, item_id FROM dunning.known_item WHERE account_id = ANY ($1) AND state = 'withdrawn'",
        ids
    )
    .fetch_all(connection)
    .await?;
    for row in withdrawn {
        let item = item_id(&row.item_id)?;
        if let Some(past) = of(pasts, &row.account_id) {
            past.withdrawn.insert(item);
        }
    }
    Ok(())
}

/// What is known about those mailboxes over all accounts and creditors.
///
/// # Errors
/// When the database refuses.
pub async fn mailboxes(
    connection: &mut PgConnection,
    keys: &[String],
    creditor: &CreditorId,
    today: NaiveDate,
) -> Result<BTreeMap<String, MailboxUse>, RecordError> {
    let mut uses: BTreeMap<String, MailboxUse> =
        keys.iter().map(|key| (key.clone(), MailboxUse { accounts: 1, ..MailboxUse::default() })).collect();
    let rows = sqlx::query!(
        r#"SELECT recipient_key,
               coalesce(array_agg(counted_on) FILTER (WHERE counted_on BETWEEN $3::date - 400 AND $3 AND NOT redirected), '{}') AS "contacts!",
               coalesce(bool_or(creditor = $2 AND business_date = $3), false) AS "today!"
           FROM dunning.notice WHERE recipient_key = ANY ($1) AND state <> 'cancelled' AND business_date <= $3
           GROUP BY recipient_key"#,
        keys,
        creditor.as_str(),
        today
    )
    .fetch_all(connection)
    .await?;
    for row in rows {
        if let Some(usage) = uses.get_mut(&row.recipient_key) {
            usage.contacts = row.contacts;
            usage.notice_today = row.today;
        }
    }
    Ok(uses)
}

fn of<'a>(pasts: &'a mut BTreeMap<AccountId, Past>, account: &str) -> Option<&'a mut Past> {
    pasts.get_mut(&AccountId::parse(account).ok()?)
}

fn item_id(text: &str) -> Result<ItemId, RecordError> {
    ItemId::parse(text).map_err(|_| inconsistent("dunning.notice_item", "item_id", text))
}

fn account_id(text: &str) -> Result<AccountId, RecordError> {
    AccountId::parse(text).map_err(|_| inconsistent("dunning.hold", "account_id", text))
}

fn stage_name(text: &str) -> Result<StageName, RecordError> {
    StageName::parse(text).map_err(|_| inconsistent("dunning.notice_item", "stage", text))
}
