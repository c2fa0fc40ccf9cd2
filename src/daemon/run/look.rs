//! Accounts looked at by themselves, as a run would see them: for people, approvals and turns. Nothing is written.

use std::borrow::Cow;
use std::collections::HashMap;
use std::slice;

use chrono::NaiveDate;
use sqlx::{Connection as _, PgConnection};

use crate::daemon::scan::ScanError;
use crate::decide::decide;
use crate::ledger::{Lanes, MailboxAccounts, Reader, View};
use crate::model::{AccountId, Approvals, CreditorId, Decision, NoticeId, Snapshot};
use crate::record;

use super::{Concluded, Known, Run, Seen};

/// What is asked of the whole ledger, and is dear: once, however many accounts are looked at.
pub(in crate::daemon) struct Around {
    /// Against what was seen before.
    compared: record::Comparison,
    /// Mailboxes that several accounts use.
    shared: HashMap<String, MailboxAccounts>,
}

impl Run<'_> {
    /// One account as this run would see it, and what it would decide. Writes nothing.
    pub(in crate::daemon) async fn look_at(
        &self,
        read: &mut PgConnection,
        account: &AccountId,
    ) -> Result<(Snapshot, Decision), ScanError> {
        let around = self.look_around(read).await?;
        let snapshot = self.look_at_one(read, &around, account, None).await?;
        let mut one = [self.decided(snapshot)];
        // What cannot be written is not sent, and that is the answer then.
        self.letters(&mut one);
        let [Concluded { snapshot, decision, .. }] = one;
        Ok((snapshot, decision))
    }

    async fn look_at_one(
        &self,
        read: &mut PgConnection,
        around: &Around,
        account: &AccountId,
        without: Option<NoticeId>,
    ) -> Result<Snapshot, ScanError> {
        let snapshots = self.look_within(read, around, slice::from_ref(account), without).await?;
        snapshots.into_iter().next().ok_or_else(|| ScanError::UnknownAccount(account.clone()))
    }

    /// Those accounts as this run would see them, without any that the ledger does not have.
    pub(in crate::daemon) async fn look(
        &self,
        read: &mut PgConnection,
        accounts: &[AccountId],
    ) -> Result<Vec<Snapshot>, ScanError> {
        let around = self.look_around(read).await?;
        self.look_within(read, &around, accounts, None).await
    }

    /// Whose ledger it is, and as of which day if not of today.
    pub(in crate::daemon) fn looks_at(&self) -> (CreditorId, Option<NaiveDate>) {
        (self.creditor.id.clone(), self.request.as_of)
    }

    /// The ledger as a whole.
    pub(in crate::daemon) async fn look_around(&self, read: &mut PgConnection) -> Result<Around, ScanError> {
        let restore_days = self.live.config.policy.restore_days;
        let compared = match self.request.as_of {
            None => record::compare_known_items(read, &self.creditor.id, self.today, restore_days, false).await?,
            Some(_) => record::Comparison::default(),
        };
        Ok(Around { compared, shared: self.shared_mailboxes(read, &HashMap::new()).await? })
    }

    async fn look_within(
        &self,
        read: &mut PgConnection,
        around: &Around,
        accounts: &[AccountId],
        without: Option<NoticeId>,
    ) -> Result<Vec<Snapshot>, ScanError> {
        let freshness = self.freshness(read).await?;
        let seen = Seen::of(&around.compared);
        let stops = self.stops(read).await?;
        let known = Known {
            freshness,
            seen: &seen,
            stops,
            shared: Cow::Borrowed(&around.shared),
            entered: HashMap::new(),
            without,
        };
        self.look_one_by_one(read, accounts, &known).await
    }

    pub(super) async fn look_one_by_one(
        &self,
        read: &mut PgConnection,
        accounts: &[AccountId],
        known: &Known<'_>,
    ) -> Result<Vec<Snapshot>, ScanError> {
        let (creditor, as_of) = (&self.creditor.id, self.request.as_of);
        let mut memory = self.memory(read, known).await?;
        let mut looked = Vec::new();
        for account in accounts {
            let view = View { creditor: creditor.clone(), as_of, account: Some(account.clone()), counted: None };
            // Its end closes the cursors.
            let mut one = read.begin().await?;
            let mut lanes = Lanes { accounts: &mut one, items: None };
            let page = Reader::open(&mut lanes, &view, self.today).await?.page(&mut lanes, 1).await?;
            looked.extend(memory.page(&mut one, page).await?.snapshots(known));
            one.rollback().await?;
        }
        Ok(looked)
    }

    /// One account of the ledger that was looked at as a whole, as if that notice did not exist.
    pub(in crate::daemon) async fn look_at_without(
        &self,
        read: &mut PgConnection,
        around: &Around,
        account: &AccountId,
        notice: NoticeId,
    ) -> Result<(Snapshot, Decision), ScanError> {
        let mut snapshot = self.look_at_one(read, around, account, Some(notice)).await?;
        snapshot.history.notices.retain(|one| one.id != notice);
        // It has its place among what may wait already.
        snapshot.approvals = Approvals::default();
        let decision = decide(&self.live.config.policy, &snapshot, self.today);
        Ok((snapshot, decision))
    }
}
