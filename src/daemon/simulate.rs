//! A policy tried on the past: the ledger replayed day by day in virtual time with the same `decide`, each notice taken
//! as accepted on its day. Reads only, one account at a time, all its days at once.
//!
//! It begins without any history of ours, and an account is alone with its mailbox: caps over several accounts, and
//! holds, waivers and pauses recorded by people, are left out.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::decide::{decide, ladder_of};
use crate::ledger::{self, AccountHistory, HistoryReader};
use crate::model::{
    AccountId, Case, CaseChange, Contacting, CreditorId, Decision, EmailAddress, Freshness, History, ItemCode, ItemId,
    MailboxUse, NoticeId, NoticeState, PastNotice, Policy, ReasonCode, Snapshot, StageName, Verdict,
};

use super::{ScanError, Shell};

/// What to replay.
#[derive(Debug, Clone)]
pub struct SimulationRequest {
    /// Only this creditor; else each configured one.
    pub creditor: Option<CreditorId>,
    pub from: NaiveDate,
    pub to: NaiveDate,
    /// A contact was not needed when a demanded item was paid in full within so many days after it.
    pub paid_within_days: u32,
}

/// One contact that a policy would have made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SimulatedContact {
    pub on: NaiveDate,
    pub stage: StageName,
    /// What it demands, each item with the stage it completes.
    pub items: Vec<(ItemId, StageName)>,
}

/// What a policy would have done to one account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replay {
    pub contacts: Vec<SimulatedContact>,
    /// Days from the first overdue day of a case to its first contact. A case that was overdue on the first day of the
    /// span has none: nobody knows since when.
    pub days_to_contact: Vec<i64>,
    /// Days on which only the contact cap stood between the account and a notice.
    pub cap_days: u64,
}

/// What a policy would have done, added up.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SimulationTotals {
    pub accounts: u64,
    pub contacted_accounts: u64,
    pub contacts: u64,
    /// Contacts per month (`2013-07`) and stage.
    pub by_month: BTreeMap<String, BTreeMap<String, u64>>,
    /// Contacts with a demanded item that was paid in full within the asked days anyway.
    pub paid_anyway: u64,
    /// Demanded items that were settled already; must be 0.
    pub after_settlement: u64,
    /// Demanded items that were in dispute; must be 0.
    pub disputed_demanded: u64,
    /// Items demanded twice for one stage; must be 0.
    pub doubled: u64,
    /// Median of the days from the first overdue day of a case to its first contact.
    pub median_days_to_contact: Option<i64>,
    pub cap_days: u64,
    pub cap_accounts: u64,
    /// For the median, in bounded memory.
    #[serde(skip)]
    days_to_contact: BTreeMap<i64, u64>,
}

/// An account that two policies treat differently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub account: AccountId,
    pub base: Vec<SimulatedContact>,
    pub other: Vec<SimulatedContact>,
}

/// What one policy, or two, would have done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SimulationReport {
    pub from: NaiveDate,
    pub to: NaiveDate,
    pub paid_within_days: u32,
    pub base: SimulationTotals,
    pub other: Option<SimulationTotals>,
    /// Accounts that the two policies contact on different days, in different stages or about different items.
    pub accounts_differ: u64,
    /// The first of them.
    pub differences: Vec<Difference>,
}

/// Accounts that a comparison names.
const DIFFERENCES_SHOWN: usize = 50;

/// Replays the ledger under one policy, or two. `progress` is told each account done.
///
/// # Errors
/// When the creditor is not configured or the database refuses.
pub async fn simulate(
    shell: &Shell,
    base: &Policy,
    other: Option<&Policy>,
    request: &SimulationRequest,
    progress: &mut (dyn FnMut() + Send),
) -> Result<SimulationReport, ScanError> {
    let creditors: Vec<&CreditorId> = match &request.creditor {
        Some(id) if base.creditors.contains_key(id) => vec![id],
        Some(id) => return Err(ScanError::UnknownCreditor(id.to_string())),
        None => base.creditors.keys().collect(),
    };
    let mut report = SimulationReport {
        from: request.from,
        to: request.to,
        paid_within_days: request.paid_within_days,
        base: SimulationTotals::default(),
        other: other.map(|_| SimulationTotals::default()),
        accounts_differ: 0,
        differences: Vec::new(),
    };
    for creditor in creditors {
        let mut read = shell.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let mut reader = HistoryReader::open(&mut read, creditor, request.from, request.to).await?;
        while let Some(history) = reader.next(&mut read).await? {
            let first = replay(base, &history, request.from, request.to);
            report.base.add(&history, &first, request.paid_within_days);
            if let (Some(policy), Some(totals)) = (other, &mut report.other) {
                let second = replay(policy, &history, request.from, request.to);
                totals.add(&history, &second, request.paid_within_days);
                if first.contacts != second.contacts {
                    report.accounts_differ += 1;
                    if report.differences.len() < DIFFERENCES_SHOWN {
                        let account = history.account.id.clone();
                        report.differences.push(Difference { account, base: first.contacts, other: second.contacts });
                    }
                }
            }
            progress();
        }
    }
    report.base.finish();
    if let Some(totals) = &mut report.other {
        totals.finish();
    }
    Ok(report)
}

/// How many accounts a simulation looks at.
///
/// # Errors
/// When the database refuses.
pub async fn accounts_to_simulate(shell: &Shell, request: &SimulationRequest) -> Result<u64, ScanError> {
    let mut connection = shell.pool.acquire().await?;
    let all = ledger::creditors(&mut connection).await?;
    let wanted = all.iter().filter(|(id, _)| request.creditor.as_ref().is_none_or(|one| one.as_str() == id));
    Ok(wanted.map(|(_, count)| count.unsigned_abs()).sum())
}

/// All days of one account. Pure: the same history and policy always give the same contacts.
#[must_use]
pub fn replay(policy: &Policy, history: &AccountHistory, from: NaiveDate, to: NaiveDate) -> Replay {
    let changes = history.changes();
    let mut done = Replay::default();
    let mut snapshot = Snapshot {
        account: history.account.clone(),
        contacts: history.contacts.clone(),
        items: Vec::new(),
        case: None,
        history: History::default(),
        holds: Vec::new(),
        handover: None,
        plans: Vec::new(),
        causes: Vec::new(),
        write_offs: Vec::new(),
        promises: Vec::new(),
        mailboxes: BTreeMap::new(),
        paused: None,
        freshness: None,
    };
    for email in history.contacts.iter().filter_map(|contact| contact.email.as_ref()) {
        snapshot.mailboxes.insert(email.mailbox_key(), MailboxUse { accounts: 1, ..MailboxUse::default() });
    }
    // The first overdue day of a case that has had no contact yet.
    let mut waiting_since = None;
    for today in from.iter_days().take_while(|day| *day <= to) {
        if today == from || changes.contains(&today) {
            snapshot.items = history.items_on(today);
        }
        // Nothing open and no case to close: the answer is known.
        if snapshot.items.is_empty() && snapshot.case.is_none() {
            continue;
        }
        let end = end_of(today);
        snapshot.freshness = Some(Freshness { invoices_as_of: end, payments_as_of: end });
        let decision = decide(policy, &snapshot, today);
        match decision.case {
            CaseChange::Open => {
                snapshot.case = Some(Case { ladder: ladder_of(policy, &snapshot), opened_on: today });
                waiting_since = (today > from).then_some(today);
            }
            CaseChange::Close => {
                snapshot.case = None;
                waiting_since = None;
            }
            CaseChange::None => {}
        }
        match &decision.verdict {
            Verdict::Contact(contacting) => {
                let items = demanded(&decision);
                done.days_to_contact.extend(waiting_since.take().map(|since| (today - since).num_days()));
                accept(&mut snapshot, contacting, &items, today);
                done.contacts.push(SimulatedContact { on: today, stage: contacting.stage.clone(), items });
            }
            Verdict::No { code: ReasonCode::ContactCap, .. } => done.cap_days += 1,
            Verdict::No { .. } => {}
        }
    }
    done
}

fn end_of(day: NaiveDate) -> DateTime<Utc> {
    day.succ_opt().unwrap_or(day).and_time(NaiveTime::MIN).and_utc()
}

fn demanded(decision: &Decision) -> Vec<(ItemId, StageName)> {
    let demanded = decision.items.iter().filter(|one| one.code == ItemCode::Demanded);
    demanded.filter_map(|one| Some((one.item.clone(), one.next_stage.clone()?))).collect()
}

/// The notice arrives on the day it was decided.
fn accept(snapshot: &mut Snapshot, contacting: &Contacting, items: &[(ItemId, StageName)], today: NaiveDate) {
    let number = snapshot.history.notices.len() as u128 + 1;
    let mailbox = EmailAddress::mailbox_key(&contacting.recipient);
    if let Some(usage) = snapshot.mailboxes.get_mut(&mailbox) {
        usage.contacts.push(today);
    }
    snapshot.history.notices.push(PastNotice {
        id: NoticeId(Uuid::from_u128(number)),
        stage: contacting.stage.clone(),
        tone: contacting.tone,
        state: NoticeState::Accepted,
        decided_on: today,
        counted_on: Some(today),
        accepted_on: Some(today),
        respond_by: contacting.respond_by,
        items: items.to_vec(),
        mailbox,
        message_id: format!("<simulated.{number}@localhost>"),
    });
}

impl SimulationTotals {
    /// Whether nobody was demanded what he had paid or disputes, and nothing twice.
    #[must_use]
    pub fn keeps_its_word(&self) -> bool {
        self.after_settlement == 0 && self.disputed_demanded == 0 && self.doubled == 0
    }

    /// The claims about settled and disputed items are checked against the ledger itself, not against the snapshots
    /// that the decisions were made from.
    fn add(&mut self, history: &AccountHistory, replay: &Replay, paid_within_days: u32) {
        self.accounts += 1;
        self.contacted_accounts += u64::from(!replay.contacts.is_empty());
        self.contacts += replay.contacts.len() as u64;
        self.cap_days += replay.cap_days;
        self.cap_accounts += u64::from(replay.cap_days > 0);
        for days in &replay.days_to_contact {
            *self.days_to_contact.entry(*days).or_default() += 1;
        }
        let mut seen = HashSet::new();
        for contact in &replay.contacts {
            let month = format!("{:04}-{:02}", contact.on.year(), contact.on.month());
            *self.by_month.entry(month).or_default().entry(contact.stage.to_string()).or_default() += 1;
            let named: BTreeSet<&ItemId> = contact.items.iter().map(|(item, _)| item).collect();
            let items = || history.items.iter().filter(|one| named.contains(&one.item.id));
            let settled =
                |day: NaiveDate| items().filter(move |one| one.settled_on.is_some_and(|on| on <= day)).count();
            let before = settled(contact.on);
            let soon = contact.on + chrono::Days::new(u64::from(paid_within_days));
            self.after_settlement += before as u64;
            self.paid_anyway += u64::from(settled(soon) > before);
            self.disputed_demanded += items().filter(|one| one.disputed_on(contact.on)).count() as u64;
            self.doubled += contact.items.iter().filter(|one| !seen.insert(*one)).count() as u64;
        }
    }

    fn finish(&mut self) {
        let count: u64 = self.days_to_contact.values().sum();
        let mut before = 0;
        self.median_days_to_contact = self.days_to_contact.iter().find_map(|(days, more)| {
            before += more;
            (before * 2 >= count).then_some(*days)
        });
    }
}
