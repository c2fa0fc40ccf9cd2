//! What a person lets out. Approval means "these items, this stage, up to this amount": what shrank is written anew with
//! the smaller amount and stays approved; what grew or changed is cancelled and decided again.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use chrono::NaiveDate;
use serde::Serialize;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::model::{
    AccountId, ApprovalCause, CancelReason, Creditor, CreditorId, Decision, ItemCode, ItemId, NoticeId, ReasonCode,
    ReleaseState, Snapshot, StageName, Tone, Verdict,
};
use crate::record::{self, ApprovalError, ApprovedNotice, Hours, RecordError, Renewal, WaitingNotice, Which};
use crate::{decide, ledger};

use super::run::{Around, Run, own_accounts};
use super::scan::{ScanError, ScanRequest};
use super::{Live, Shell};

/// Notices approved in one transaction.
const BATCH: usize = 500;

/// What became of the notices that a person approved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Approved {
    /// They go out as they are.
    pub approved: u64,
    /// They go out with a smaller amount.
    pub renewed: u64,
    /// Something grew, changed or stopped them; the next scan decides again.
    pub void: u64,
    /// Their text was no longer true; the next scan decides again.
    pub expired: u64,
    /// The debtor was contacted meanwhile, or is about to be: they wait on.
    pub put_off: Vec<PutOff>,
    /// Notices of the run that was to be approved which wait on: it is approved when none does.
    pub run_waits_for: u64,
}

/// A notice that the caps on contacts leave no room for today.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PutOff {
    pub notice: Uuid,
    pub account: String,
    /// `last counted contact 2026-03-10, at most 1 per 7 days`.
    pub because: String,
    /// The first day with room for it, where one is known.
    pub until: Option<NaiveDate>,
    /// The last day on which its text is true.
    pub valid_until: NaiveDate,
}

/// Approves what waits for a person. A run is approved with the last of its notices, so that the log says so of no run of
/// which some wait on.
///
/// # Errors
/// When nothing of it waits, or one of them may not be approved by this login; nothing is approved then.
pub async fn approve(shell: &Shell, which: &Which, reason: &str) -> Result<Approved, ApprovalError> {
    let live = shell.live();
    let policy = &live.config.policy;
    let mut connection = shell.pool.acquire().await?;
    let wanted = "only one that waits for approval can be approved";
    let notices = record::waiting_notices(&mut connection, which, &["awaiting_approval"], wanted).await?;
    let login = &shell.actor.os_user;
    if let Some(own) = notices.iter().find(|notice| !policy.approval.same_person && asked_for(notice, login)) {
        return Err(ApprovalError::SamePerson { login: login.clone(), notice: own.notice });
    }
    let of_nobody = |notice: &&WaitingNotice| policy.creditors.keys().all(|id| id.as_str() != notice.creditor);
    if let Some(notice) = notices.iter().find(of_nobody) {
        return Err(ApprovalError::NoCreditor { creditor: notice.creditor.clone(), notice: notice.notice });
    }
    let mut done = Approved::default();
    let mut ledgers = Ledgers::default();
    for creditor in
        policy.creditors.values().filter(|one| notices.iter().any(|notice| notice.creditor == one.id.as_str()))
    {
        let alone = record::lock_hours(&shell.pool, &creditor.id).await?;
        let own = own_accounts(creditor);
        let per_hour = policy.brake.notices_per_hour;
        let mut hours = Hours::of(&mut connection, creditor.id.as_str(), per_hour).await?;
        let of_creditor = || notices.iter().filter(|notice| notice.creditor == creditor.id.as_str());
        let ids: Vec<Uuid> = of_creditor().map(|notice| notice.notice).collect();
        let beside = record::beside_contacts(&mut connection, &ids).await?;
        let (one_by_one, together): (Vec<_>, Vec<_>) = of_creditor()
            .map(|notice| (notice.notice, today(shell, creditor, notice.as_of)))
            .partition(|(notice, _)| beside.contains_key(notice));
        // One of them may leave no room for the next.
        for batch in together.chunks(BATCH).chain(one_by_one.chunks(1)) {
            let alone = of_creditor().find(|one| batch.iter().all(|(notice, _)| *notice == one.notice));
            if let Some((notice, valid_until)) = alone.and_then(|one| Some((one, *beside.get(&one.notice)?)))
                && let Some(put_off) = put_off(shell, &live, creditor, notice, valid_until, &mut ledgers).await?
            {
                done.put_off.push(put_off);
                continue;
            }
            let mut transaction = connection.begin().await?;
            let approved = record::approve(&mut transaction, batch, &mut hours, &own, reason, &shell.actor).await?;
            transaction.commit().await?;
            done.approved += approved.len() as u64;
            for (notice, today) in batch.iter().filter(|(notice, _)| !approved.contains(notice)) {
                match look_again(shell, &live, *notice, *today, &mut hours, reason, &mut ledgers).await? {
                    // It changed and changed back meanwhile: it waits on.
                    Looked::AsApproved => {}
                    Looked::Renewed => done.renewed += 1,
                    Looked::Expired => done.expired += 1,
                    Looked::Void => done.void += 1,
                }
            }
        }
        alone.release().await?;
    }
    if let Which::Run(run) = which {
        let mut transaction = connection.begin().await?;
        done.run_waits_for = record::waiting_of_run(&mut transaction, *run).await?;
        if done.run_waits_for == 0 {
            record::close_run(&mut transaction, *run, ReleaseState::Approved, reason, &shell.actor).await?;
        }
        transaction.commit().await?;
    }
    Ok(done)
}

/// The ledgers as a whole, by creditor and the day that they are seen on: each is looked at once, however many notices are.
/// What changes in them meanwhile is stopped by the last check.
#[derive(Default)]
pub(super) struct Ledgers(BTreeMap<(CreditorId, Option<NaiveDate>), Around>);

impl Ledgers {
    /// An account as if that notice did not exist.
    async fn look_at_without(
        &mut self,
        run: &Run<'_>,
        read: &mut PgConnection,
        account: &AccountId,
        notice: NoticeId,
    ) -> Result<(Snapshot, Decision), ScanError> {
        let around = match self.0.entry(run.looks_at()) {
            Entry::Occupied(looked) => looked.into_mut(),
            Entry::Vacant(to_look) => to_look.insert(run.look_around(read).await?),
        };
        run.look_at_without(read, around, account, notice).await
    }
}

/// Whether the account of a notice that waits for a person may be contacted today, as if that notice did not exist; if not,
/// why.
async fn put_off(
    shell: &Shell,
    live: &Live,
    creditor: &Creditor,
    waiting: &WaitingNotice,
    valid_until: NaiveDate,
    ledgers: &mut Ledgers,
) -> Result<Option<PutOff>, RecordError> {
    let Ok(account) = AccountId::parse(&waiting.account) else { return Ok(None) };
    let request =
        ScanRequest { account: Some(account.clone()), as_of: waiting.as_of, dry_run: true, ..ScanRequest::default() };
    let mut read = shell.pool.begin_with(ledger::LOOK).await?;
    let run = Run::new(shell, live, creditor, &request);
    let looked = ledgers.look_at_without(&run, &mut read, &account, NoticeId(waiting.notice)).await;
    let decision = match looked {
        Ok((_, decision)) => decision,
        Err(ScanError::Record(error)) => return Err(error),
        // What is gone from the ledger is stopped by its fingerprint.
        Err(_) => return Ok(None),
    };
    let Verdict::No { code: code @ (ReasonCode::ContactCap | ReasonCode::SharedMailbox), next_date } = decision.verdict
    else {
        return Ok(None);
    };
    let because = decision.checks.iter().rfind(|check| check.rule == code.as_str());
    Ok(Some(PutOff {
        notice: waiting.notice,
        account: waiting.account.clone(),
        because: because.map(|check| check.inputs.to_string()).unwrap_or_default(),
        until: next_date,
        valid_until,
    }))
}

/// Drops what waits for a person or in the queue; gives how many notices that were.
///
/// # Errors
/// When nothing of it waits, or the database refuses.
pub async fn drop_waiting(shell: &Shell, which: &Which, reason: &str) -> Result<u64, ApprovalError> {
    let mut connection = shell.pool.acquire().await?;
    let states: &[&str] = match which {
        Which::Notices(_) | Which::Run(_) => &["awaiting_approval", "queued", "deferred"],
        Which::All => &["awaiting_approval"],
    };
    let wanted = "only one that waits for approval or in the queue can be dropped";
    let notices = record::waiting_notices(&mut connection, which, states, wanted).await?;
    let ids: Vec<Uuid> = notices.iter().map(|notice| notice.notice).collect();
    let mut transaction = connection.begin().await?;
    let dropped = record::drop_notices(&mut transaction, &ids, reason, &shell.actor).await?;
    transaction.commit().await?;
    if let Which::Run(run) = which {
        let mut transaction = connection.begin().await?;
        record::close_run(&mut transaction, *run, ReleaseState::Dropped, reason, &shell.actor).await?;
        transaction.commit().await?;
    }
    Ok(dropped)
}

/// Whether that login asked for something that others have to approve.
fn asked_for(notice: &WaitingNotice, login: &str) -> bool {
    let formal = Tone::parse(&notice.tone).is_some_and(|tone| tone >= Tone::Formal);
    (notice.braked || formal) && notice.asked_by.as_deref() == Some(login)
}

/// The business date that a notice lives on.
fn today(shell: &Shell, creditor: &Creditor, as_of: Option<NaiveDate>) -> NaiveDate {
    as_of.unwrap_or_else(|| shell.clock.today(creditor.time_zone))
}

/// What a closer look at an approved notice showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looked {
    /// Nothing changed.
    AsApproved,
    /// Less is owed: another notice, approved too, is in its place.
    Renewed,
    Expired,
    Void,
}

/// Looks at an approved notice again, decides its account as if it did not exist, and puts another one in its place where
/// only less is owed; otherwise cancels it.
///
/// # Errors
/// When the database refuses.
pub(super) async fn look_again(
    shell: &Shell,
    live: &Live,
    notice: Uuid,
    today: NaiveDate,
    hours: &mut Hours,
    reason: &str,
    ledgers: &mut Ledgers,
) -> Result<Looked, RecordError> {
    let mut connection = shell.pool.acquire().await?;
    let Some(approved) = record::approved_notice(&mut connection, notice).await? else { return Ok(Looked::Void) };
    let expired = approved.valid_until < today;
    if approved.is_unchanged_on(today) && !expired {
        return Ok(Looked::AsApproved);
    }
    let renewed = if expired {
        Err(CancelReason::Expired)
    } else {
        decided_again(shell, live, notice, &approved, ledgers).await?
    };
    let mut transaction = connection.begin().await?;
    let looked = match renewed {
        Ok(renewal) => {
            let approved_by = approved.approved_by.as_deref().unwrap_or(&shell.actor.person);
            let renewal = Renewal {
                old: notice,
                run: &renewal.run,
                snapshot: &renewal.snapshot,
                decision: &renewal.decision,
                planned: &renewal.planned,
                approved_by,
                reason,
                own: &renewal.own,
            };
            let renewed = record::renew(&mut transaction, &renewal, hours, &shell.actor).await?;
            if renewed { Looked::Renewed } else { Looked::Void }
        }
        Err(why) => {
            record::cancel_notice(&mut transaction, notice, why, &shell.actor).await?;
            if expired { Looked::Expired } else { Looked::Void }
        }
    };
    transaction.commit().await?;
    Ok(looked)
}

/// A notice in the place of another.
struct Again {
    run: record::RunStart,
    snapshot: Snapshot,
    decision: Decision,
    planned: record::Planned,
    own: Vec<(String, String)>,
}

async fn decided_again(
    shell: &Shell,
    live: &Live,
    notice: Uuid,
    approved: &ApprovedNotice,
    ledgers: &mut Ledgers,
) -> Result<Result<Again, CancelReason>, RecordError> {
    let void = Ok(Err(CancelReason::ApprovalVoid));
    let creditor = CreditorId::parse(&approved.creditor).ok();
    let creditor = creditor.and_then(|id| live.config.policy.creditors.get(&id));
    let (Some(creditor), Ok(account)) = (creditor, AccountId::parse(&approved.account)) else { return void };
    let request =
        ScanRequest { account: Some(account.clone()), as_of: approved.as_of, dry_run: true, ..ScanRequest::default() };
    let mut read = shell.pool.begin_with(ledger::LOOK).await?;
    let run = Run::new(shell, live, creditor, &request);
    let looked = ledgers.look_at_without(&run, &mut read, &account, NoticeId(notice)).await;
    let (snapshot, decision) = match looked {
        Ok(looked) => looked,
        Err(ScanError::Record(error)) => return Err(error),
        Err(_) => return Ok(Err(CancelReason::WithdrawnBeforeSend)),
    };
    let contacting = match &decision.verdict {
        Verdict::Contact(contacting) if within(&decision, contacting.stage.as_str(), approved) => contacting,
        Verdict::Contact(_) => return void,
        Verdict::No { code, .. } => {
            let demanded: Vec<(ItemId, StageName)> = approved
                .items
                .iter()
                .filter_map(|(item, stage, _)| Some((ItemId::parse(item).ok()?, StageName::parse(stage).ok()?)))
                .collect();
            let of_items = decide::no_longer_right(&live.config.policy, &snapshot, &demanded, decision.business_date);
            return Ok(Err(stopped_by(*code, of_items)));
        }
    };
    let windows = run.send_windows(&snapshot, contacting.tone);
    if windows.as_ref().is_some_and(Vec::is_empty) {
        return Ok(Err(CancelReason::Expired));
    }
    let Ok(mut planned) = run.compose(&snapshot, &decision, contacting) else { return void };
    planned.send_windows = windows.unwrap_or_default().into_iter().map(|window| (window.from, window.to)).collect();
    planned.approval = approved.approval.as_deref().and_then(ApprovalCause::parse);
    planned.valid_until = run.valid_until(&snapshot, &decision, true);
    let items: Vec<_> = decision.items.iter().filter(|item| item.code == ItemCode::Demanded).collect();
    let claim = (account, items.iter().map(|item| item.item.clone()).collect());
    let prints = ledger::fingerprints(&mut read, &[claim], approved.as_of, decision.business_date).await?;
    planned.fingerprint = prints.into_iter().next().unwrap_or_default();
    let Some(start) = record::run_start(&mut read, approved.run).await? else { return void };
    let start = record::RunStart { business_date: decision.business_date, ..start };
    Ok(Ok(Again { run: start, snapshot, decision, planned, own: own_accounts(creditor) }))
}

/// Whether a decision demands nothing but what was approved: the same stage, no other items, no item with more.
fn within(decision: &Decision, stage: &str, approved: &ApprovedNotice) -> bool {
    let mut demanded = decision.items.iter().filter(|item| item.code == ItemCode::Demanded);
    stage == approved.stage
        && demanded.all(|item| {
            let next = item.next_stage.as_ref().map(StageName::as_str);
            let to_pay = item.to_pay();
            approved.items.iter().any(|(id, stage, up_to)| {
                id == item.item.as_str()
                    && Some(stage.as_str()) == next
                    && up_to.currency == to_pay.currency
                    && to_pay.amount <= up_to.amount
            })
        })
}

/// What stopped an approved notice whose account is not to be written to any more: what became of its items, where that
/// says it.
fn stopped_by(code: ReasonCode, of_items: Option<CancelReason>) -> CancelReason {
    match (code, of_items) {
        (ReasonCode::Paused, _) => CancelReason::Paused,
        (_, Some(reason)) => reason,
        (ReasonCode::NothingOpen | ReasonCode::AccountInCredit | ReasonCode::BelowMinimum, None) => {
            CancelReason::PaidBeforeSend
        }
        (_, None) => CancelReason::LedgerChanged,
    }
}
