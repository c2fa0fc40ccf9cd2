//! A policy tried on the past: the ledger replayed day by day in virtual time with the same `decide`, each notice taken
//! as accepted on its day. Reads only, one account at a time, all its days at once.
//!
//! It begins without any history of ours, and an account is alone with its mailbox: caps over several accounts, and
//! holds, waivers and pauses recorded by people, are left out. Nothing waits for a person whom a mode asks: days to answer
//! that in mode `approve_all` run from the last day to approve run from the day itself.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::decide::{decide, ladder_of};
use crate::ledger::{self, AccountHistory, HistoryReader};
use crate::model::{
    AccountId, Approvals, Case, CaseChange, Channel, Contacting, CreditorId, Decision, EmailAddress, Freshness,
    History, ItemCode, ItemId, MailboxUse, NotDue, NoticeId, NoticeState, PastNotice, Policy, ReasonCode, Snapshot,
    StageName, Verdict,
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
    /// Days past due of the oldest demanded item at the first contact of each case. A case that was overdue on the first
    /// day of the span has none: it may have begun long before.
    pub first_contacts: Vec<i64>,
    /// Days per reason on which there was no contact; days with nothing open and no case are not looked at.
    pub reasons: BTreeMap<ReasonCode, u64>,
}

/// How often a reason kept a contact back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ReasonDays {
    pub accounts: u64,
    /// Over all accounts.
    pub days: u64,
}

/// What a policy would have done, added up.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SimulationTotals {
    pub accounts: u64,
    pub contacted_accounts: u64,
    pub contacts: u64,
    /// The enabled stages of the policy in the order of their days, ladders together.
    pub stages: Vec<StageName>,
    /// Contacts per month (`2013-07`) and stage.
    pub by_month: BTreeMap<String, BTreeMap<StageName, u64>>,
    /// Contacts per day and stage.
    pub by_day: BTreeMap<NaiveDate, BTreeMap<StageName, u64>>,
    /// Contacts with a demanded item that was paid in full within the asked days anyway.
    pub paid_anyway: u64,
    /// Demanded items that were settled already; must be 0.
    pub after_settlement: u64,
    /// Demanded items that were in dispute; must be 0.
    pub disputed_demanded: u64,
    /// Items demanded twice for one stage; must be 0.
    pub doubled: u64,
    /// Days past due of the oldest demanded item at the first contact of a case: half of the cases had theirs by then.
    pub median_days_past_due: Option<i64>,
    /// The same, for nine of ten cases.
    pub p90_days_past_due: Option<i64>,
    /// Why there was no contact, by the text form of the code. `contact_cap` counts what the cap held back.
    pub reasons: BTreeMap<String, ReasonDays>,
    /// For the quantiles, in bounded memory.
    #[serde(skip)]
    first_contacts: BTreeMap<i64, u64>,
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
        base: SimulationTotals::of(base),
        other: other.map(SimulationTotals::of),
        accounts_differ: 0,
        differences: Vec::new(),
    };
    for creditor in creditors {
        let mut read = shell.pool.begin_with(ledger::LOOK).await?;
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
    let mut replaying = Replaying::new(policy, history, from);
    for today in from.iter_days().take_while(|day| *day <= to) {
        if today == from || changes.contains(&today) {
            replaying.snapshot.items = history.items_on(today);
        }
        replaying.live(today);
    }
    replaying.done
}

/// One account on its way through the days.
struct Replaying<'a> {
    policy: &'a Policy,
    snapshot: Snapshot,
    from: NaiveDate,
    /// The case began within the span and has had no contact yet.
    awaits_first_contact: bool,
    done: Replay,
}

impl<'a> Replaying<'a> {
    fn new(policy: &'a Policy, history: &AccountHistory, from: NaiveDate) -> Self {
        let mut snapshot = Snapshot {
            account: history.account.clone(),
            contacts: history.contacts.clone(),
            items: Vec::new(),
            not_due: NotDue::default(),
            case: None,
            history: History::default(),
            holds: Vec::new(),
            handover: None,
            plans: Vec::new(),
            causes: Vec::new(),
            write_offs: Vec::new(),
            promises: Vec::new(),
            approvals: Approvals::default(),
            mailboxes: BTreeMap::new(),
            paused: None,
            freshness: None,
        };
        for email in history.contacts.iter().filter_map(|contact| contact.email.as_ref()) {
            snapshot.mailboxes.insert(email.mailbox_key(), MailboxUse { accounts: 1, ..MailboxUse::default() });
        }
        Self { policy, snapshot, from, awaits_first_contact: false, done: Replay::default() }
    }

    /// One day with what the ledger shows on it: decided, and a notice accepted at once.
    fn live(&mut self, today: NaiveDate) {
        // Nothing open and no case to close: the answer is known.
        if self.snapshot.items.is_empty() && self.snapshot.case.is_none() {
            return;
        }
        let end = end_of(today);
        self.snapshot.freshness = Some(Freshness { invoices_as_of: end, payments_as_of: end });
        let decision = decide(self.policy, &self.snapshot, today);
        match decision.case {
            CaseChange::Open => {
                let ladder = ladder_of(self.policy, &self.snapshot);
                self.snapshot.case = Some(Case { ladder, opened_on: today });
                self.awaits_first_contact = today > self.from;
            }
            CaseChange::Close => {
                self.snapshot.case = None;
                self.awaits_first_contact = false;
            }
            CaseChange::None => {}
        }
        match &decision.verdict {
            Verdict::Contact(contacting) => {
                if std::mem::take(&mut self.awaits_first_contact) {
                    let demanded = decision.items.iter().filter(|one| one.code == ItemCode::Demanded);
                    self.done.first_contacts.extend(demanded.filter_map(|one| one.days_past_due).max());
                }
                let items = demanded(&decision);
                accept(&mut self.snapshot, contacting, &items, today);
                self.done.contacts.push(SimulatedContact { on: today, stage: contacting.stage.clone(), items });
            }
            Verdict::No { code, .. } => *self.done.reasons.entry(*code).or_default() += 1,
        }
    }
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
    let mailbox = contacting.recipient.as_ref().map(EmailAddress::mailbox_key).unwrap_or_default();
    let by_email = contacting.channel == Channel::Email;
    if let Some(usage) = snapshot.mailboxes.get_mut(&mailbox) {
        usage.contacts.push(today);
    }
    snapshot.history.notices.push(PastNotice {
        id: NoticeId(Uuid::from_u128(number)),
        stage: contacting.stage.clone(),
        tone: contacting.tone,
        channel: contacting.channel,
        state: if by_email { NoticeState::Accepted } else { NoticeState::Done },
        decided_on: today,
        counted_on: (contacting.channel != Channel::Handover).then_some(today),
        accepted_on: Some(today),
        lapses_on: None,
        post_by: None,
        respond_by: contacting.respond_by,
        items: items.to_vec(),
        to_pay: BTreeMap::new(),
        unanswered: false,
        vanished: false,
        mailbox,
        message_id: if by_email { format!("<simulated.{number}@localhost>") } else { String::new() },
    });
}

impl SimulationTotals {
    fn of(policy: &Policy) -> Self {
        let stages = policy.ladders.values().flat_map(|ladder| &ladder.stages).filter(|stage| stage.enabled);
        let mut stages: Vec<_> = stages.map(|stage| (stage.days, stage.tone, &stage.name)).collect();
        stages.sort();
        let mut order: Vec<StageName> = Vec::new();
        for (.., name) in stages {
            if !order.contains(name) {
                order.push(name.clone());
            }
        }
        Self { stages: order, ..Self::default() }
    }

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
        for (code, days) in &replay.reasons {
            let counted = self.reasons.entry(code.as_str().to_owned()).or_default();
            counted.accounts += 1;
            counted.days += days;
        }
        for days in &replay.first_contacts {
            *self.first_contacts.entry(*days).or_default() += 1;
        }
        let mut seen = HashSet::new();
        for contact in &replay.contacts {
            let month = format!("{:04}-{:02}", contact.on.year(), contact.on.month());
            *self.by_month.entry(month).or_default().entry(contact.stage.clone()).or_default() += 1;
            *self.by_day.entry(contact.on).or_default().entry(contact.stage.clone()).or_default() += 1;
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
        self.median_days_past_due = self.first_contacts_within(1, 2);
        self.p90_days_past_due = self.first_contacts_within(9, 10);
    }

    /// The least number of days within which that part of the cases had their first contact.
    fn first_contacts_within(&self, part: u64, of: u64) -> Option<i64> {
        let count: u64 = self.first_contacts.values().sum();
        let mut so_far = 0;
        self.first_contacts.iter().find_map(|(days, more)| {
            so_far += more;
            (so_far * of >= count * part).then_some(*days)
        })
    }
}
