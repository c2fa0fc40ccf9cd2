//! Promises: how each stands, and which items the running ones take out.

use std::borrow::Cow;
use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::Decimal;

use crate::model::{Item, ItemId, Policy, Promise, PromiseState, Snapshot, Standing};

use super::register;

/// Every promise of an account with how it stands on that day, in the order of their numbers. What came in and is not
/// allocated yet counts, and so does a credit note; what is dated after its last day never does.
#[must_use]
pub fn standings<'a>(policy: &Policy, snapshot: &'a Snapshot, today: NaiveDate) -> Vec<(&'a Promise, Standing)> {
    let mut open: BTreeMap<NaiveDate, BTreeMap<&ItemId, Decimal>> = BTreeMap::new();
    let is_written_off = |id: &ItemId| {
        let of_ledger = |item: &Item| item.id == *id && item.written_off_on.is_some_and(|day| day <= today);
        snapshot.write_offs.iter().any(|one| one.item == *id) || snapshot.items.iter().any(of_ledger)
    };
    let standing = |promise: &'a Promise| {
        let last = promise.last_day();
        let open = open.entry(last).or_insert_with(|| open_after_credits(policy, snapshot, last, today));
        (promise, promise.standing(open, is_written_off, today))
    };
    let mut all: Vec<_> = snapshot.promises.iter().map(standing).collect();
    all.sort_by_key(|(promise, _)| promise.number);
    all
}

/// What is open on each item after the credits that were issued by that day.
fn open_after_credits<'a>(
    policy: &Policy,
    snapshot: &'a Snapshot,
    issued_by: NaiveDate,
    today: NaiveDate,
) -> BTreeMap<&'a ItemId, Decimal> {
    let is_late = |item: &Item| item.kind.is_credit() && item.issue_date > issued_by;
    let mut known = Cow::Borrowed(snapshot);
    if snapshot.items.iter().any(is_late) {
        known.to_mut().items.retain(|item| !is_late(item));
    }
    let credited = register::credited(policy, &known, &register::plans_by_items(&known), today);
    let debits = snapshot.items.iter().filter(|item| !item.kind.is_credit());
    debits.map(|item| (&item.id, item.open_amount - credited.get(&item.id).copied().unwrap_or_default())).collect()
}

/// By item, the running promise that lasts longest.
pub(super) fn running<'a>(standings: &[(&'a Promise, Standing)]) -> BTreeMap<&'a ItemId, (&'a Promise, Standing)> {
    let mut running: Vec<_> =
        standings.iter().filter(|(_, standing)| standing.state == PromiseState::Running).copied().collect();
    running.sort_by_key(|(promise, _)| (promise.last_day(), promise.number));
    let items = |(promise, standing): (&'a Promise, Standing)| {
        promise.items.iter().map(move |one| (&one.item, (promise, standing)))
    };
    running.into_iter().flat_map(items).collect()
}
