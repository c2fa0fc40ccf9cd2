//! What is remembered about the accounts of a page, and the snapshot of each that it makes with what the ledger says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::NaiveDate;
use sqlx::{PgConnection, Postgres, Transaction};
use tokio::sync::{Mutex, mpsc};

use crate::daemon::scan::ScanError;
use crate::ledger::LedgerAccount;
use crate::model::{AccountId, CreditorId, EmailAddress, ItemId, MailboxUse, NoticeId, Snapshot};
use crate::record::{self, Past, PastReader};

use super::{Known, Run, end_of_lap};

/// Looks for what is remembered, page by page.
pub(super) struct Memory {
    creditor: CreditorId,
    today: NaiveDate,
    as_of: Option<NaiveDate>,
    /// A notice that is looked at as if it did not exist.
    without: Option<NoticeId>,
    pasts: PastReader,
}

/// Accounts of the ledger with what is remembered about them.
pub(super) struct Remembered {
    page: Vec<LedgerAccount>,
    pasts: BTreeMap<AccountId, Past>,
    uses: BTreeMap<String, MailboxUse>,
}

impl Run<'_> {
    pub(super) async fn memory(&self, read: &mut PgConnection, known: &Known<'_>) -> Result<Memory, ScanError> {
        let (creditor, as_of) = (self.creditor.id.clone(), self.request.as_of);
        let mut pasts = PastReader::open(read, as_of).await?;
        // Items may have moved since a run last wrote that down. Through `--as-of` nobody compares, and nothing is written.
        if known.seen.moved || as_of.is_some() {
            pasts.look_for_moves(read, &creditor).await?;
        }
        Ok(Memory { creditor, today: self.today, as_of, without: known.without, pasts })
    }
}

impl Memory {
    /// From now on the pages are those of the whole ledger, in account order.
    pub(super) async fn pass_over_all(&mut self, read: &mut PgConnection) -> Result<(), ScanError> {
        Ok(self.pasts.pass_over_all(read, &self.creditor, self.today).await?)
    }

    /// Remembers as long as pages come and somebody wants them. Returns how long that took.
    pub(super) async fn run(
        mut self,
        read: Arc<Mutex<Transaction<'static, Postgres>>>,
        mut pages: mpsc::Receiver<Vec<LedgerAccount>>,
        remembered: mpsc::Sender<Remembered>,
    ) -> Result<Duration, ScanError> {
        let mut spent = Duration::ZERO;
        while let Some(page) = pages.recv().await {
            let mut read = read.lock().await;
            let mut lap = Instant::now();
            let page = self.page(&mut read, page).await?;
            spent += end_of_lap(&mut lap);
            drop(read);
            if remembered.send(page).await.is_err() {
                break;
            }
        }
        Ok(spent)
    }

    pub(super) async fn page(
        &mut self,
        read: &mut PgConnection,
        mut page: Vec<LedgerAccount>,
    ) -> Result<Remembered, ScanError> {
        let ids: Vec<AccountId> = page.iter().map(|one| one.account.id.clone()).collect();
        let pasts = self.pasts.page(read, &ids, self.today).await?;
        for one in &mut page {
            let entries = pasts.get(&one.account.id).map(|past| past.contacts.as_slice()).unwrap_or_default();
            for entry in entries {
                entry.apply(&mut one.contacts);
            }
        }
        // Nobody is written to about nothing.
        let owes = |one: &&LedgerAccount| {
            let has_plan = || pasts.get(&one.account.id).is_some_and(|past| !past.plans.is_empty());
            !one.items.is_empty() || has_plan()
        };
        let keys: Vec<String> = page
            .iter()
            .filter(owes)
            .flat_map(|one| &one.contacts)
            .filter_map(|contact| contact.email.as_ref())
            .map(EmailAddress::mailbox_key)
            .collect();
        let uses = record::mailboxes(read, &keys, &self.creditor, self.today, self.as_of, self.without).await?;
        Ok(Remembered { page, pasts, uses })
    }
}

impl Remembered {
    pub(super) fn snapshots(self, known: &Known<'_>) -> impl Iterator<Item = Snapshot> {
        let Self { page, mut pasts, uses } = self;
        page.into_iter().map(move |one| {
            let past = pasts.remove(&one.account.id).unwrap_or_default();
            snapshot(one, past, &uses, known)
        })
    }
}

fn snapshot(one: LedgerAccount, mut past: Past, uses: &BTreeMap<String, MailboxUse>, known: &Known<'_>) -> Snapshot {
    let Known { seen, shared, .. } = known;
    let LedgerAccount { account, contacts, mut items, not_due } = one;
    for item in &mut items {
        item.withdrawn = past.withdrawn.contains(&item.id) && !seen.restored.contains(item.id.as_str());
    }
    let vanished = |item: &ItemId| {
        let withdrawn = past.withdrawn.contains(item) && !seen.restored.contains(item.as_str());
        withdrawn || past.moved_away.contains(item) || seen.vanished.contains(item.as_str())
    };
    let promised = past.promises.iter_mut().flat_map(|promise| &mut promise.items);
    for one in promised.chain(past.plans.iter_mut().flat_map(|plan| &mut plan.items)) {
        one.vanished |= vanished(&one.item);
    }
    for one in past.handover.iter_mut().flat_map(|handover| &mut handover.items) {
        one.vanished = vanished(&one.item);
    }
    for notice in &mut past.history.notices {
        notice.vanished = notice.items.iter().any(|(item, _)| vanished(item));
    }
    let mailboxes = contacts
        .iter()
        .filter_map(|contact| contact.email.as_ref())
        .map(|email| {
            let key = email.mailbox_key();
            let mut usage = uses.get(&key).cloned().unwrap_or_default();
            usage.accounts = shared.get(&key).map_or(1, |used| used.owing.max(1));
            (key, usage)
        })
        .collect();
    Snapshot {
        account,
        contacts,
        items,
        not_due,
        case: past.case,
        history: past.history,
        holds: past.holds,
        handover: past.handover,
        promises: past.promises,
        plans: past.plans,
        causes: past.causes,
        write_offs: past.write_offs,
        mailboxes,
        paused: known.stops.paused.clone(),
        freshness: known.freshness,
        approvals: known.stops.approvals,
    }
}
