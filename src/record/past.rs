//! What is known about accounts from before: cases, notices, what people recorded, withdrawn items, mailboxes.

mod cases;
mod in_order;
mod notices;
mod register;

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use sqlx::PgConnection;

use crate::model::{
    AccountId, Case, ContactEntry, CreditorId, Handover, History, Hold, HoldTarget, ItemId, Money, PastNotice, Plan,
    Promise, PromisedItem, RecordedCause, StageName, WriteOff,
};

use super::{RecordError, inconsistent};
use cases::Ladders;
use in_order::InOrder;
use register::register;

pub use cases::pinned_ladders;
pub use notices::mailboxes;

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
    /// as it was about them; a plan was agreed with somebody else, so nobody but a person can say what is left of it. What
    /// was handed over stays with whom it went to. `items`: each with the day on which it moved, where that is known.
    fn take_over(&mut self, account: &AccountId, from: &Self, items: &BTreeMap<ItemId, Option<NaiveDate>>) {
        let of = |item: &ItemId| items.contains_key(item);
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
        if let Some(handover) = &from.handover {
            let gone = items.iter().filter(|(item, moved_on)| went_along(handover, item, **moved_on));
            self.holds.extend(gone.map(|(item, _)| Hold {
                number: 0,
                target: HoldTarget::Item(item.clone()),
                until: None,
                reason: format!(
                    "handed over to {} on {}, with account {account}: {}",
                    handover.to, handover.since, handover.reason
                ),
                cause: None,
                since: handover.since,
                handed_over: Some(account.clone()),
            }));
        }
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

/// Whether an item was handed over with the account: open then, or not there yet. What had left before was not.
fn went_along(handover: &Handover, item: &ItemId, moved_on: Option<NaiveDate>) -> bool {
    handover.items.iter().any(|one| one.item == *item)
        || moved_on.map_or(handover.items.is_empty(), |moved_on| moved_on > handover.since)
}

/// An item that stands with another account than before.
struct Move {
    item: ItemId,
    to: AccountId,
    from: AccountId,
    /// Unknown for moves before such days were kept.
    on: Option<NaiveDate>,
}

/// Reads the pasts of accounts, page by page, within one transaction: it asks once for what is the same on every page.
pub struct PastReader {
    recorded: Recorded,
    ladders: Ladders,
    /// Cases and notices of a whole ledger.
    in_order: Option<(InOrder, InOrder)>,
    /// Moves that no run has written down yet.
    unwritten: Vec<Move>,
    as_of: Option<NaiveDate>,
}

/// All rows are wanted, by plans that do not depend on what the server knows about tables that have just been filled.
const ONE_PASS: &str = "SET LOCAL cursor_tuple_fraction TO 1; SET LOCAL enable_nestloop TO off; SET LOCAL jit TO off";
/// A few rows are wanted again and again: planned once, for any of them, they are found by their index.
const LOOK_UPS: &str = "SET LOCAL enable_nestloop TO on; SET LOCAL plan_cache_mode TO force_generic_plan";

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

/// Accounts that are asked about together, and what has been found.
struct Page<'a> {
    connection: &'a mut PgConnection,
    ids: Vec<String>,
    today: NaiveDate,
    as_of: Option<NaiveDate>,
    pasts: BTreeMap<AccountId, Past>,
}

impl<'a> Page<'a> {
    fn new<'i>(
        connection: &'a mut PgConnection,
        accounts: impl IntoIterator<Item = &'i AccountId>,
        today: NaiveDate,
        as_of: Option<NaiveDate>,
    ) -> Self {
        let pasts: BTreeMap<AccountId, Past> =
            accounts.into_iter().map(|account| (account.clone(), Past::default())).collect();
        Self { connection, ids: pasts.keys().map(AccountId::to_string).collect(), today, as_of, pasts }
    }

    /// `None` for an account that is not asked about.
    fn past(&mut self, account: &str) -> Option<&mut Past> {
        self.pasts.get_mut(account)
    }
}

impl PastReader {
    /// `as_of` passes over what was recorded after that day. Without it all counts that is recorded by now, whatever day
    /// it was by the clock of the machine on which it was.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn open(connection: &mut PgConnection, as_of: Option<NaiveDate>) -> Result<Self, RecordError> {
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
        Ok(Self { recorded, ladders: Ladders::new(), in_order: None, unwritten: Vec::new(), as_of })
    }

    /// From now on the pages are those of the creditor's whole ledger, in account order, as it was on that day: what
    /// most accounts have is read in one pass and not looked up for each page.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn pass_over_all(
        &mut self,
        connection: &mut PgConnection,
        creditor: &CreditorId,
        today: NaiveDate,
    ) -> Result<(), RecordError> {
        sqlx::raw_sql(ONE_PASS).execute(&mut *connection).await?;
        let cases = cases::all_cases(connection, creditor, today).await?;
        let notices = notices::all_notices(connection, creditor, today).await?;
        sqlx::raw_sql(LOOK_UPS).execute(connection).await?;
        self.in_order = Some((cases, notices));
        Ok(())
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
               FROM ledger.item l JOIN ledger.account a ON a.account_id::text = l.account_id::text
               JOIN dunning.known_item k ON k.item_id = l.item_id::text
               CROSS JOIN LATERAL unnest(array_append(k.earlier_accounts, k.account_id)) AS earlier (account)
               WHERE a.creditor::text = $1 AND k.account_id <> l.account_id::text"#,
            creditor.as_str()
        )
        .fetch_all(connection)
        .await?;
        for row in rows {
            // Later than whatever is recorded.
            self.unwritten.push(moved(&row.item, &row.to, &row.from, Some(NaiveDate::MAX))?);
        }
        Ok(())
    }

    /// The past of those accounts on that day. What a person ended since is not brought back.
    ///
    /// # Errors
    /// When the database refuses or holds something that does not parse.
    pub async fn page(
        &mut self,
        connection: &mut PgConnection,
        accounts: &[AccountId],
        today: NaiveDate,
    ) -> Result<BTreeMap<AccountId, Past>, RecordError> {
        let mut page = Page::new(connection, accounts, today, self.as_of);
        let (cases, notices) = match (&mut self.in_order, accounts.last()) {
            (Some((cases, notices)), Some(last)) => (
                cases.up_to(page.connection, last.as_str()).await?,
                notices.up_to(page.connection, last.as_str()).await?,
            ),
            _ => (cases::cases(&mut page).await?, notices::notices(&mut page).await?),
        };
        cases::take(&mut page, &mut self.ladders, &cases).await?;
        notices::take(&mut page, &notices)?;
        register(&mut page, &self.recorded).await?;
        if self.recorded.moved || !self.unwritten.is_empty() {
            self.moves(&mut page).await?;
        }
        Ok(page.pasts)
    }

    /// Items that came from other accounts bring along what is known about them.
    async fn moves(&self, page: &mut Page<'_>) -> Result<(), RecordError> {
        let rows = sqlx::query!(
            r#"SELECT k.item_id, k.account_id, k.moved_on, earlier.account AS "from!"
               FROM dunning.known_item k CROSS JOIN LATERAL unnest(k.earlier_accounts) AS earlier (account)
               WHERE k.earlier_accounts IS NOT NULL AND (k.account_id = ANY ($1) OR k.earlier_accounts && $1)"#,
            &page.ids
        )
        .fetch_all(&mut *page.connection)
        .await?;
        let written: Result<Vec<Move>, RecordError> =
            rows.iter().map(|row| moved(&row.item_id, &row.account_id, &row.from, row.moved_on)).collect();
        let mut came: BTreeMap<(&AccountId, &AccountId), BTreeMap<ItemId, Option<NaiveDate>>> = BTreeMap::new();
        let written = written?;
        for one in written.iter().chain(&self.unwritten) {
            if let Some(past) = page.pasts.get_mut(&one.from) {
                past.moved_away.insert(one.item.clone());
            }
            if page.pasts.contains_key(&one.to) {
                came.entry((&one.to, &one.from)).or_default().insert(one.item.clone(), one.on);
            }
        }
        if came.is_empty() {
            return Ok(());
        }
        let from = came.keys().map(|(_, from)| *from);
        let mut before = Page::new(&mut *page.connection, from, page.today, page.as_of);
        let notices = notices::notices(&mut before).await?;
        notices::take(&mut before, &notices)?;
        register(&mut before, &self.recorded).await?;
        let before = before.pasts;
        for ((to, account), items) in came {
            if let Some((past, from)) = page.pasts.get_mut(to).zip(before.get(account)) {
                past.take_over(account, from, &items);
            }
        }
        Ok(())
    }
}

fn moved(item: &str, to: &str, from: &str, on: Option<NaiveDate>) -> Result<Move, RecordError> {
    Ok(Move { item: item_id(item)?, to: account_id(to)?, from: account_id(from)?, on })
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
