//! Accounts that share a mailbox: it gets one notice a day, and whoever has waited longest comes first.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::slice;

use chrono::NaiveDate;
use sqlx::PgConnection;

use crate::daemon::scan::ScanError;
use crate::ledger::{self, MailboxAccounts};
use crate::model::{AccountId, Decision, EmailAddress, ItemCode, Verdict};

use super::{Concluded, Known, Run, SoFar};

impl Run<'_> {
    pub(super) async fn shared_mailboxes(
        &self,
        read: &mut PgConnection,
        entered: &HashMap<String, BTreeSet<String>>,
    ) -> Result<HashMap<String, MailboxAccounts>, sqlx::Error> {
        ledger::shared_mailboxes(read, &self.creditor.id, entered.keys().cloned(), self.today, self.request.as_of).await
    }

    /// Whether a contact is the one that its mailbox gets today. Of those that share one, whoever has waited longest comes
    /// first, and of those the first by id, in whatever order they are read; what cannot be written takes nobody's turn.
    /// Who is asked about alone waits for nobody.
    pub(super) async fn has_its_turn(
        &self,
        read: &mut PgConnection,
        key: &str,
        one: &mut Concluded,
        known: &Known<'_>,
        so_far: &mut SoFar,
    ) -> Result<bool, ScanError> {
        if self.request.account.is_some() {
            return Ok(true);
        }
        let mailbox = short_hash(key);
        if let Some(turn) = so_far.turns.get(&mailbox).filter(|turn| **turn >= one.snapshot.account.id) {
            return Ok(*turn == one.snapshot.account.id);
        }
        self.letters(slice::from_mut(one));
        if !one.is_contact() {
            return Ok(true);
        }
        let Concluded { snapshot, decision, .. } = &*one;
        let this = &snapshot.account.id;
        // About those before it the run has concluded.
        let others: Vec<AccountId> = known.accounts_of(key).into_iter().filter(|other| other > this).collect();
        let looked = self.look_one_by_one(read, &others, known).await?;
        let decided = looked.into_iter().map(|mut snapshot| {
            so_far.tell(&mut snapshot);
            self.decided(snapshot)
        });
        let mut rivals: Vec<Concluded> =
            decided.filter(|one| known.shared_key(&one.decision).as_deref() == Some(key)).collect();
        self.letters(&mut rivals);
        let rivals = rivals.iter().filter(|one| one.planned.is_some());
        let waiting = rivals.map(|one| (waits_since(&one.decision), &one.snapshot.account.id));
        let turn = waiting.chain([(waits_since(decision), this)]).min().map_or(this, |(_, first)| first);
        let is_this = turn == this;
        let turn = turn.clone();
        so_far.turns.insert(mailbox, turn);
        Ok(is_this)
    }
}

impl Known<'_> {
    /// The mailbox that a contact goes to, where other accounts may use it too.
    pub(super) fn shared_key(&self, decision: &Decision) -> Option<String> {
        let Verdict::Contact(contacting) = &decision.verdict else { return None };
        let key = contacting.recipient.as_ref().map(EmailAddress::mailbox_key);
        key.filter(|key| self.shared.contains_key(key) || self.entered.contains_key(key))
    }

    /// The accounts that use a mailbox, in the order of their ids.
    fn accounts_of(&self, key: &str) -> Vec<AccountId> {
        let ledger = self.shared.get(key).into_iter().flat_map(|used| &used.accounts);
        let all: BTreeSet<&String> = ledger.chain(self.entered.get(key).into_iter().flatten()).collect();
        all.into_iter().filter_map(|id| AccountId::parse(id).ok()).collect()
    }
}

/// The day since which the longest waiting of the demanded items is due for its stage.
fn waits_since(decision: &Decision) -> Option<NaiveDate> {
    decision.items.iter().filter(|item| item.code == ItemCode::Demanded).filter_map(|item| item.due_on).min()
}

/// Of a mailbox, so that a run remembers all it wrote to in little memory. Two mailboxes with one hash would cost one of
/// them a day: with 100,000 letters in a run the odds of that are below one in a thousand million.
pub(super) fn short_hash(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}
