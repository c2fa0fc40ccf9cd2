//! Promises: how each stands, and which items the running ones take out.

use std::collections::BTreeMap;

use chrono::NaiveDate;

use crate::model::{ItemId, Promise, PromiseState, Snapshot, Standing};

/// Every promise of an account with how it stands on that day, in the order of their numbers.
#[must_use]
pub fn standings(snapshot: &Snapshot, today: NaiveDate) -> Vec<(&Promise, Standing)> {
    if snapshot.promises.is_empty() {
        return Vec::new();
    }
    let open = snapshot.items.iter().map(|item| (&item.id, item.open_amount)).collect();
    let mut all: Vec<_> = snapshot.promises.iter().map(|promise| (promise, promise.standing(&open, today))).collect();
    all.sort_by_key(|(promise, _)| promise.number);
    all
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
