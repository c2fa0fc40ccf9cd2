//! What is known about accounts from before: cases, notices, what people recorded, withdrawn items, mailboxes.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;

use crate::model::{
    AccountId, Case, Cause, Channel, ContactEntry, ContactId, ContactRole, CreditorId, Currency, EmailAddress,
    Handover, HandoverItem, History, Hold, HoldTarget, ItemId, Ladder, MailboxUse, Money, NoticeId, NoticeState,
    OnMissed, PastNotice, Plan, PlanInstalment, Promise, PromisedItem, RecordedCause, StageName, Tone, Waiver,
    WriteOff,
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
    pub plans: Vec<Plan>,
    pub causes: Vec<RecordedCause>,
    pub write_offs: Vec<WriteOff>,
    /// In the order in which they were entered.
    pub contacts: Vec<ContactEntry>,
    /// Items that vanished while open and are not taken up again by themselves.
    pub withdrawn: BTreeSet<ItemId>,
    /// Items that stand with another account now.
    pub moved_away: BTreeSet<ItemId>,
}

impl Past {
    /// Takes over what is known about those items from the account that they stood with before. A promise counts as far
    /// as it was about them; a plan was agreed with somebody else, so nobody but a person can say what is left of it.
    fn take_over(&mut self, from: &Self, items: &BTreeSet<ItemId>) {
        let of = |item: &ItemId| items.contains(item);
        self.withdrawn.extend(from.withdrawn.iter().filter(|item| of(item)).cloned());
        for notice in &from.history.notices {
            let own: Vec<_> = notice.items.iter().filter(|(item, _)| of(item)).cloned().collect();
            if !own.is_empty() {
                // When its time is over it lapses with the account that it was made for.
                self.history.notices.push(PastNotice { items: own, lapses_on: None, ..notice.clone() });
            }
        }
        self.history.waivers.extend(from.history.waivers.iter().filter(|one| of(&one.item)).cloned());
        let on_item = |hold: &&Hold| matches!(&hold.target, HoldTarget::Item(item) if of(item));
        self.holds.extend(from.holds.iter().filter(on_item).cloned());
        self.causes.extend(from.causes.iter().filter(|one| one.item.as_ref().is_some_and(of)).cloned());
        self.write_offs.extend(from.write_offs.iter().filter(|one| of(&one.item)).cloned());
        for promise in &from.promises {
            let own: Vec<PromisedItem> = promise.items.iter().filter(|one| of(&one.item)).cloned().collect();
            if !own.is_empty() {
                let open_then = own.iter().map(|one| one.open_then).sum();
                let amount = Money::new(promise.amount.amount.min(open_then), promise.amount.currency);
                self.promises.push(Promise { items: own, amount, ..promise.clone() });
            }
        }
        for plan in from.plans.iter().filter(|plan| plan.items.iter().any(|one| of(&one.item))) {
            let items = plan.items.iter().map(|one| PromisedItem { vanished: true, ..one.clone() }).collect();
            self.plans.push(Plan { items, ..plan.clone() });
        }
    }
}

/// An item that stands with another account than before.
struct Move {
    item: ItemId,
    to: AccountId,
    from: AccountId,
}

/// Reads the pasts of accounts, page by page, within one transaction: it asks once for what is the same on every page.
pub struct PastReader {
    recorded: Recorded,
    /// By the hash of their text.
    ladders: BTreeMap<String, Arc<Ladder>>,
    /// Moves that no run has written down yet.
    unwritten: Vec<Move>,
}

/// The tables that hold anything at all.
#[expect(clippy::struct_excessive_bools, reason = "each table is empty or not, independently of the others")]
struct Recorded {
    waivers: bool,
    holds: bool,
    handovers: bool,
    promises: bool,
    plans: bool,
    causes: bool,
    write_offs: bool,
    contacts: bool,
    calls: bool,
    withdrawn: bool,
    moved: bool,
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
                   EXISTS (SELECT FROM dunning.plan) AS "plans!",
                   EXISTS (SELECT FROM dunning.cause WHERE cleared_at IS NULL) AS "causes!",
                   EXISTS (SELECT FROM dunning.write_off WHERE undone_at IS NULL) AS "write_offs!",
                   EXISTS (SELECT FROM dunning.contact_entry WHERE ended_at IS NULL) AS "contacts!",
                   EXISTS (SELECT FROM dunning.call) AS "calls!",
                   EXISTS (SELECT FROM dunning.known_item WHERE state = 'withdrawn') AS "withdrawn!",
                   EXISTS (SELECT FROM dunning.known_item WHERE earlier_accounts IS NOT NULL) AS "moved!""#
        )
        .fetch_one(connection)
        .await?;
        Ok(Self { recorded, ladders: BTreeMap::new(), unwritten: Vec::new() })
    }

    /// Looks for items that moved since a run last wrote down with which account they stand.
    ///
    /// # Errors
    /// When the database refuses or holds something that does not parse.
    pub async fn look_for_moves(
        &mut self,
        connection: &mut PgConnection,
        creditor: &CreditorId,
    ) -> Result<(), RecordError> {
        let rows = sqlx::query!(
            r#"SELECT l.item_id::text AS "item!", l.account_id::text AS "to!", earlier.account AS "from!"
               FROM ledger.item l JOIN ledger.account a ON a.account_id = l.account_id
               JOIN dunning.known_item k ON k.item_id = l.item_id::text
               CROSS JOIN LATERAL unnest(array_append(k.earlier_accounts, k.account_id)) AS earlier (account)
               WHERE a.creditor::text = $1 AND k.account_id <> l.account_id::text"#,
            creditor.as_str()
        )
        .fetch_all(connection)
        .await?;
        for row in rows {
            self.unwritten.push(moved(&row.item, &row.to, &row.from)?);
        }
        Ok(())
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
        if self.recorded.moved || !self.unwritten.is_empty() {
            self.moves(connection, &ids, today, &mut pasts).await?;
        }
        Ok(pasts)
    }

    /// Items that came from other accounts bring along what is known about them.
    async fn moves(
        &self,
        connection: &mut PgConnection,
        ids: &[String],
        today: NaiveDate,
        pasts: &mut BTreeMap<AccountId, Past>,
    ) -> Result<(), RecordError> {
        let rows = sqlx::query!(
            r#"SELECT k.item_id, k.account_id, earlier.account AS "from!"
               FROM dunning.known_item k CROSS JOIN LATERAL unnest(k.earlier_accounts) AS earlier (account)
               WHERE k.earlier_accounts IS NOT NULL AND (k.account_id = ANY ($1) OR k.earlier_accounts && $1)"#,
            ids
        )
        .fetch_all(&mut *connection)
        .await?;
        let written: Result<Vec<Move>, RecordError> =
            rows.iter().map(|row| moved(&row.item_id, &row.account_id, &row.from)).collect();
        let mut came: BTreeMap<(&AccountId, &AccountId), BTreeSet<ItemId>> = BTreeMap::new();
        let written = written?;
        for one in written.iter().chain(&self.unwritten) {
            if let Some(past) = pasts.get_mut(&one.from) {
                past.moved_away.insert(one.item.clone());
            }
            if pasts.contains_key(&one.to) {
                came.entry((&one.to, &one.from)).or_default().insert(one.item.clone());
            }
        }
        if came.is_empty() {
            return Ok(());
        }
        let mut before: BTreeMap<AccountId, Past> =
            came.keys().map(|(_, from)| ((*from).clone(), Past::default())).collect();
        let ids: Vec<String> = before.keys().map(AccountId::to_string).collect();
        notices(connection, &ids, today, &mut before).await?;
        register(connection, &self.recorded, &ids, today, &mut before).await?;
        for ((to, from), items) in came {
            if let Some((past, from)) = pasts.get_mut(to).zip(before.get(from)) {
                past.take_over(from, &items);
            }
        }
        Ok(())
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
                    let ladder = ladder(new.key(), &body)?;
                    new.insert(Arc::new(ladder))
                }
            };
            if let Some(past) = of(pasts, &row.account_id) {
                past.case = Some(Case { ladder: Arc::clone(ladder), opened_on: row.opened_on });
            }
        }
        Ok(())
    }
}

/// The ladders that the creditor's open cases have kept.
///
/// # Errors
/// When the database refuses or holds a text that is no ladder.
pub async fn pinned_ladders(
    connection: &mut PgConnection,
    creditor: &CreditorId,
) -> Result<Vec<Arc<Ladder>>, RecordError> {
    let texts = sqlx::query!(
        "SELECT t.sha256, t.body FROM dunning.text t
         JOIN (SELECT DISTINCT ladder_sha256 FROM dunning.debt_case WHERE creditor = $1 AND closed_on IS NULL) c
             ON c.ladder_sha256 = t.sha256",
        creditor.as_str()
    )
    .fetch_all(connection)
    .await?;
    texts.iter().map(|row| Ok(Arc::new(ladder(&row.sha256, &row.body)?))).collect()
}

/// The ladder behind a hash: other words than those that a case has kept decide nothing.
fn ladder(sha256: &str, body: &str) -> Result<Ladder, RecordError> {
    if hex::encode(Sha256::digest(body)) != sha256 {
        return Err(inconsistent("dunning.text", "sha256", sha256));
    }
    serde_json::from_str(body).map_err(|_| inconsistent("dunning.text", "body", sha256))
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
            post_by: row.post_by,
            respond_by: row.respond_by,
            items: if row.copy || state == NoticeState::Cancelled { Vec::new() } else { items? },
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
    if recorded.plans {
        plans(connection, ids, today, pasts).await?;
    }
    if recorded.causes {
        causes(connection, ids, today, pasts).await?;
    }
    if recorded.write_offs {
        write_offs(connection, ids, today, pasts).await?;
    }
    if recorded.contacts {
        contacts(connection, ids, today, pasts).await?;
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
        "SELECT account_id, item_id, stage, waived_on, reason, waived_by, elsewhere FROM dunning.waiver
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
            elsewhere: row.elsewhere.then_some(row.waived_by),
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
        r#"SELECT h.handover_id, h.account_id, h.handed_to, h.reason, h.since,
               array_remove(array_agg(i.item_id ORDER BY i.item_id), NULL) AS "items!",
               array_remove(array_agg(i.currency ORDER BY i.item_id), NULL) AS "currencies!",
               array_remove(array_agg(i.open_then ORDER BY i.item_id), NULL) AS "open!: Vec<Decimal>"
           FROM dunning.handover h LEFT JOIN dunning.handover_item i USING (handover_id)
           WHERE h.account_id COLLATE "C" = ANY ($1) AND h.back_at IS NULL GROUP BY h.handover_id"#,
        ids
    )
    .fetch_all(connection)
    .await?;
    for row in handovers {
        let items: Result<Vec<HandoverItem>, RecordError> = row
            .items
            .iter()
            .zip(&row.currencies)
            .zip(row.open)
            .map(|((item, code), open_then)| {
                Ok(HandoverItem { item: item_id(item)?, currency: currency(code)?, open_then, vanished: false })
            })
            .collect();
        let handover = Handover {
            to: row.handed_to,
            reason: row.reason,
            since: row.since,
            number: row.handover_id,
            items: items?,
        };
        if let Some(past) = of(pasts, &row.account_id) {
            past.handover = Some(handover);
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
        let currency = currency(&row.currency)?;
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

async fn plans(
    connection: &mut PgConnection,
    ids: &[String],
    today: NaiveDate,
    pasts: &mut BTreeMap<AccountId, Past>,
) -> Result<(), RecordError> {
    let rows = sqlx::query!(
        r#"SELECT p.plan_id, p.version, p.account_id, p.currency, p.agreed_on, p.tolerance_days, p.on_missed, p.reason,
               coalesce(p.ended_on <= $2, false) AS "ended!", items.ids AS "items!",
               items.open AS "open!: Vec<Decimal>", parts.numbers AS "numbers!", parts.days AS "days!",
               parts.amounts AS "amounts!: Vec<Decimal>"
           FROM dunning.plan p
           CROSS JOIN LATERAL (SELECT array_agg(i.item_id ORDER BY i.item_id) AS ids,
                                   array_agg(i.open_then ORDER BY i.item_id) AS open
                               FROM dunning.plan_item i
                               WHERE i.plan_id = p.plan_id AND i.version = p.version) items
           CROSS JOIN LATERAL (SELECT array_agg(i.number ORDER BY i.number) AS numbers,
                                   array_agg(i.due_on ORDER BY i.number) AS days,
                                   array_agg(i.amount ORDER BY i.number) AS amounts
                               FROM dunning.plan_instalment i
                               WHERE i.plan_id = p.plan_id AND i.version = p.version) parts
           WHERE p.account_id COLLATE "C" = ANY ($1) AND p.agreed_on <= $2"#,
        ids,
        today
    )
    .fetch_all(connection)
    .await?;
    for row in rows {
        let items: Result<Vec<PromisedItem>, RecordError> = row
            .items
            .iter()
            .zip(row.open)
            .map(|(item, open_then)| Ok(PromisedItem { item: item_id(item)?, open_then, vanished: false }))
            .collect();
        let instalments = row.numbers.iter().zip(row.days).zip(row.amounts);
        let plan = Plan {
            number: row.plan_id,
            version: u32::try_from(row.version).unwrap_or(0),
            currency: currency(&row.currency)?,
            agreed_on: row.agreed_on,
            tolerance_days: u32::try_from(row.tolerance_days).unwrap_or(0),
            on_missed: OnMissed::parse(&row.on_missed)
                .ok_or_else(|| inconsistent("dunning.plan", "on_missed", &row.on_missed))?,
            items: items?,
            instalments: instalments
                .map(|((number, due_on), amount)| PlanInstalment {
                    number: u32::try_from(*number).unwrap_or(0),
                    due_on,
                    amount,
                })
                .collect(),
            reason: row.reason,
            ended: row.ended,
        };
        if let Some(past) = of(pasts, &row.account_id) {
            past.plans.push(plan);
        }
    }
    Ok(())
}

async fn causes(
    connection: &mut PgConnection,
    ids: &[String],
    today: NaiveDate,
    pasts: &mut BTreeMap<AccountId, Past>,
) -> Result<(), RecordError> {
    let causes = sqlx::query!(
        r#"SELECT cause_id, account_id, item_id, cause, reason, since FROM dunning.cause
           WHERE account_id COLLATE "C" = ANY ($1) AND since <= $2 AND cleared_at IS NULL ORDER BY cause_id"#,
        ids,
        today
    )
    .fetch_all(connection)
    .await?;
    for row in causes {
        let recorded = RecordedCause {
            number: row.cause_id,
            cause: Cause::parse(&row.cause).ok_or_else(|| inconsistent("dunning.cause", "cause", &row.cause))?,
            item: row.item_id.as_deref().map(item_id).transpose()?,
            reason: row.reason,
            since: row.since,
        };
        if let Some(past) = of(pasts, &row.account_id) {
            past.causes.push(recorded);
        }
    }
    Ok(())
}

async fn write_offs(
    connection: &mut PgConnection,
    ids: &[String],
    today: NaiveDate,
    pasts: &mut BTreeMap<AccountId, Past>,
) -> Result<(), RecordError> {
    let write_offs = sqlx::query!(
        r#"SELECT account_id, item_id, reason, since FROM dunning.write_off
           WHERE account_id COLLATE "C" = ANY ($1) AND since <= $2 AND undone_at IS NULL ORDER BY write_off_id"#,
        ids,
        today
    )
    .fetch_all(connection)
    .await?;
    for row in write_offs {
        let write_off = WriteOff { item: item_id(&row.item_id)?, reason: row.reason, since: row.since };
        if let Some(past) = of(pasts, &row.account_id) {
            past.write_offs.push(write_off);
        }
    }
    Ok(())
}

async fn contacts(
    connection: &mut PgConnection,
    ids: &[String],
    today: NaiveDate,
    pasts: &mut BTreeMap<AccountId, Past>,
) -> Result<(), RecordError> {
    let rows = sqlx::query!(
        r#"SELECT e.account_id, e.contact_id, e.role, e.no_email, e.language, d.email AS "email?", d.phone AS "phone?",
               d.name AS "name?"
           FROM dunning.contact_entry e LEFT JOIN dunning.contact_data d USING (entry_id)
           WHERE e.account_id COLLATE "C" = ANY ($1) AND e.since <= $2 AND e.ended_at IS NULL ORDER BY e.entry_id"#,
        ids,
        today
    )
    .fetch_all(connection)
    .await?;
    for row in rows {
        let role = |text: String| {
            ContactRole::parse(&text).ok_or_else(|| inconsistent("dunning.contact_entry", "role", &text))
        };
        let entry = ContactEntry {
            contact: ContactId::parse(&row.contact_id)
                .map_err(|_| inconsistent("dunning.contact_entry", "contact_id", &row.contact_id))?,
            role: row.role.map(role).transpose()?,
            email: row
                .email
                .map(|text| EmailAddress::parse(&text))
                .transpose()
                .map_err(|_| inconsistent("dunning.contact_data", "email", "an address that does not parse"))?,
            no_email: row.no_email,
            language: row.language,
            phone: row.phone,
            name: row.name,
        };
        if let Some(past) = of(pasts, &row.account_id) {
            past.contacts.push(entry);
        }
    }
    Ok(())
}

fn currency(text: &str) -> Result<Currency, RecordError> {
    Currency::parse(text).map_err(|_| inconsistent("dunning.promise", "currency", text))
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

fn of<'a>(pasts: &'a mut BTreeMap<AccountId, Past>, account: &str) -> Option<&'a mut Past> {
    pasts.get_mut(&AccountId::parse(account).ok()?)
}

fn moved(item: &str, to: &str, from: &str) -> Result<Move, RecordError> {
    Ok(Move { item: item_id(item)?, to: account_id(to)?, from: account_id(from)? })
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
