//! The totals of a run. Considered = contacted + every reason, in accounts and, per currency, in money.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Amounts, Decision, ItemCode, ReasonCode, Verdict};

/// Where an overdue item ended up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bucket {
    Demanded,
    Information,
    Out(ItemCode),
    Account(ReasonCode),
}

impl Bucket {
    /// The one text form: the reason code, or `demanded`, or `information`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Demanded => "demanded",
            Self::Information => "information",
            Self::Out(code) => code.as_str(),
            Self::Account(code) => code.as_str(),
        }
    }
}

/// A count of items and accounts, and the money in them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OverdueTotals {
    pub items: u64,
    pub accounts: u64,
    pub amounts: Amounts,
}

impl OverdueTotals {
    fn add(&mut self, other: &Self) {
        self.items += other.items;
        self.accounts += other.accounts;
        self.amounts.add_all(&other.amounts);
    }
}

/// What a run concluded, added up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunTotals {
    pub considered: u64,
    pub contacted: u64,
    /// Accounts per reason; `considered = contacted + sum(reasons)`.
    pub reasons: BTreeMap<String, u64>,
    /// Every debit past its due date, whatever became of it.
    pub overdue: OverdueTotals,
    /// The part of `overdue` that nobody disputes.
    pub undisputed: OverdueTotals,
    /// `overdue` by what became of it: `demanded`, `information`, or the reason.
    pub by_outcome: BTreeMap<String, OverdueTotals>,
}

impl RunTotals {
    /// Counts one more decision.
    pub fn count(&mut self, decision: &Decision) {
        self.considered += 1;
        match &decision.verdict {
            Verdict::Contact(_) => self.contacted += 1,
            Verdict::No { code, .. } => *self.reasons.entry(code.as_str().to_owned()).or_default() += 1,
        }
        let overdue: Vec<_> = decision.items.iter().filter(|item| item.is_overdue_debit()).collect();
        if overdue.is_empty() {
            return;
        }
        let totals = |items: &mut dyn Iterator<Item = &&super::ItemDecision>| {
            let mut sum = OverdueTotals::default();
            for item in items {
                sum.items += 1;
                sum.amounts.add(item.open);
            }
            sum.accounts = u64::from(sum.items > 0);
            sum
        };
        self.overdue.add(&totals(&mut overdue.iter()));
        self.undisputed.add(&totals(&mut overdue.iter().filter(|item| !item.disputed)));
        // By text: an item's reason and its account's reason may have the same name, and the account counts once.
        let bucket_of = |item: &super::ItemDecision| decision.bucket(item).as_str();
        let buckets: std::collections::BTreeSet<&str> = overdue.iter().map(|item| bucket_of(item)).collect();
        for bucket in buckets {
            let sum = totals(&mut overdue.iter().filter(|item| bucket_of(item) == bucket));
            self.by_outcome.entry(bucket.to_owned()).or_default().add(&sum);
        }
    }

    /// Counts accounts about which nothing can be concluded or written down: nobody can name them.
    pub fn count_unreadable(&mut self, accounts: usize) {
        let accounts = accounts as u64;
        if accounts > 0 {
            self.considered += accounts;
            *self.reasons.entry(ReasonCode::NotRecorded.as_str().to_owned()).or_default() += accounts;
        }
    }

    /// The totals of two runs together.
    pub fn add(&mut self, other: &Self) {
        self.considered += other.considered;
        self.contacted += other.contacted;
        for (code, count) in &other.reasons {
            *self.reasons.entry(code.clone()).or_default() += count;
        }
        self.overdue.add(&other.overdue);
        self.undisputed.add(&other.undisputed);
        for (bucket, sum) in &other.by_outcome {
            self.by_outcome.entry(bucket.clone()).or_default().add(sum);
        }
    }
}
