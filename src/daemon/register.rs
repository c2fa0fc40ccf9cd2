//! What people record, where it depends on what a scan would see.

use std::sync::Arc;

use chrono::{Months, NaiveDate};
use rust_decimal::Decimal;
use serde::Serialize;
use sqlx::Connection as _;

use crate::decide::{decide, plan_standings, standings};
use crate::model::{
    AccountId, CallOutcome, CancelReason, Cause, ContactEntry, ContactId, Currency, Decision, Every, ItemCode,
    ItemDecision, ItemId, LAST_DAY, Ladder, LadderName, Money, NoticeId, OnMissed, PLAN_ITEM_PREFIX, Plan,
    PlanInstalment, PlanStanding, Policy, Promise, PromiseState, PromisedItem, Snapshot, StageName, Standing,
    TakenBack, Waiver, equal_parts, open_after_credit_notes,
};
use crate::record::{self, Call, NoteText, PastReader, RecordError, RegisterError, TaskEnd, TaskEntry, TaskError};

use super::Shell;
use super::scan::{ScanError, look_at};

/// Why something was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    #[error(transparent)]
    Look(#[from] ScanError),
    #[error(transparent)]
    Record(#[from] RegisterError),
    #[error(transparent)]
    Task(#[from] TaskError),
}

impl From<RecordError> for EntryError {
    fn from(error: RecordError) -> Self {
        Self::Record(error.into())
    }
}

impl From<sqlx::Error> for EntryError {
    fn from(error: sqlx::Error) -> Self {
        Self::Record(RecordError::from(error).into())
    }
}

/// Declares the next stage of an item done without a contact. The rule says on which date it was due.
///
/// # Errors
/// When the stage is not the item's next one, when a notice of it is in flight or unknown, or as [`look_at`].
pub async fn waive(
    shell: &Shell,
    account: &AccountId,
    item: &ItemId,
    stage: &StageName,
    reason: &str,
) -> Result<Waiver, EntryError> {
    let (_, decision) = look_at(shell, account, None).await?;
    let mut connection = shell.pool.acquire().await?;
    record::known(&mut connection, account, Some(item)).await?;
    let seen = decision.items.iter().find(|one| one.item == *item);
    let next = seen.and_then(|one| Some((one.next_stage.as_ref()?, one.due_on?)));
    let refused = |instead: String| {
        let (item, stage) = (item.clone(), stage.clone());
        EntryError::from(RegisterError::NotTheNextStage { item, stage, instead })
    };
    let on = match (next, seen) {
        (Some((next, due_on)), _) if next == stage => due_on,
        (Some((next, due_on)), _) => return Err(refused(format!("that is {next}, due on {due_on}"))),
        (None, Some(one)) => return Err(refused(one.code.meaning().to_owned())),
        (None, None) => return Err(refused("Nothing is open on it.".to_owned())),
    };
    let waiver = Waiver { item: item.clone(), stage: stage.clone(), on, reason: reason.to_owned(), elsewhere: None };
    let mut transaction = connection.begin().await?;
    record::waive(&mut transaction, account, &waiver, decision.business_date, &shell.actor).await?;
    transaction.commit().await?;
    Ok(waiver)
}

/// Records that a task of a person is done. Whether a paper was still right on the day on which it left the house, the
/// rule says, once nobody can take it back any more; on which day it left, the person says.
///
/// # Errors
/// When no day is said and the paper demands what is not owed any more, as [`record::task_done`], or as [`look_at`].
pub async fn task_done(shell: &Shell, task: i64, entry: &TaskEntry<'_>) -> Result<TaskEnd, EntryError> {
    let mut transaction = shell.pool.begin().await?;
    let mut not_right = None;
    if let Some(paper) = record::lock_paper(&mut transaction, task).await? {
        let as_of = entry.on.filter(|on| *on < entry.today);
        match look_at(shell, &paper.account, as_of).await {
            Ok((snapshot, decision)) => {
                let reason = decision.taken_back.iter().find_map(|(notice, became)| match became {
                    TakenBack::Cancelled(reason) if *notice == paper.notice => Some(*reason),
                    _ => None,
                });
                // Whether its time was over, the record knows.
                not_right = reason.filter(|reason| *reason != CancelReason::Expired);
                if let Some(reason) = not_right.filter(|_| entry.on.is_none()) {
                    let amounts = changed_amounts(&snapshot, &decision, paper.notice);
                    return Err(TaskError::NotRight { task, kind: paper.kind, reason, amounts }.into());
                }
            }
            // What was done was done, also where the account has left the ledger since.
            Err(ScanError::UnknownAccount(_) | ScanError::UnknownCreditor(_)) if entry.on.is_some() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let end = record::task_done(&mut transaction, task, entry, not_right, &shell.actor).await?;
    transaction.commit().await?;
    Ok(end)
}

/// `Item A: 100.00 EUR was demanded, 40.00 EUR is to pay. `
fn changed_amounts(snapshot: &Snapshot, decision: &Decision, notice: NoticeId) -> String {
    let notice = snapshot.history.notices.iter().find(|one| one.id == notice);
    let demanded = notice.into_iter().flat_map(|notice| &notice.to_pay);
    let changed = demanded.filter_map(|(item, then)| {
        let now = decision.items.iter().find(|one| one.item == *item)?.to_pay();
        let then = Money::new(*then, now.currency);
        (now != then).then(|| format!("Item {item}: {then} was demanded, {now} is to pay. "))
    });
    changed.collect()
}

/// What moving an open case to another ladder changes.
#[derive(Debug, Clone, Serialize)]
pub struct LadderMove {
    pub opened_on: NaiveDate,
    pub from: Arc<Ladder>,
    pub to: Arc<Ladder>,
    /// What is decided today on the one ladder, and on the other.
    pub before: Decision,
    pub after: Decision,
}

/// Says what moving the account's open case would change. Writes nothing.
///
/// # Errors
/// When the policy has no such ladder, the account has no open case or climbs that ladder already, or as [`look_at`].
pub async fn ladder_move(shell: &Shell, account: &AccountId, to: &LadderName) -> Result<LadderMove, EntryError> {
    let (mut snapshot, before) = look_at(shell, account, None).await?;
    let live = shell.live();
    let policy = &live.config.policy;
    let ladder = policy.ladders.get(to).ok_or_else(|| {
        let known = policy.ladders.keys().map(LadderName::as_str).collect::<Vec<_>>().join(", ");
        EntryError::from(RegisterError::NoSuchLadder { name: to.clone(), known })
    })?;
    let Some(case) = snapshot.case.as_mut() else {
        return Err(RegisterError::NoOpenCase(account.to_string()).into());
    };
    if case.ladder.is_same_as(ladder) {
        return Err(RegisterError::ClimbsAlready { account: account.to_string(), name: to.clone() }.into());
    }
    let opened_on = case.opened_on;
    let from = std::mem::replace(&mut case.ladder, Arc::clone(ladder));
    let after = decide(policy, &snapshot, before.business_date);
    Ok(LadderMove { opened_on, from, to: Arc::clone(ladder), before, after })
}

/// Moves the account's open case, as [`ladder_move`] said.
///
/// # Errors
/// When the case was closed meanwhile, or the database refuses.
pub async fn move_ladder(
    shell: &Shell,
    account: &AccountId,
    change: &LadderMove,
    reason: &str,
) -> Result<(), EntryError> {
    let mut connection = shell.pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    record::move_case(&mut transaction, account, (&change.from.name, &change.to), reason, &shell.actor).await?;
    transaction.commit().await?;
    Ok(())
}

/// What a debtor promised.
#[derive(Debug, Clone)]
pub struct PromiseRequest {
    pub amount: Money,
    pub by_day: NaiveDate,
    pub tolerance_days: u32,
    /// Empty for everything in that currency that is overdue and could be demanded.
    pub items: Vec<ItemId>,
    pub reason: String,
}

/// Records a promise, with what is open on its items today.
///
/// # Errors
/// When an item cannot be promised or is promised already, when more is promised than is open, or as [`look_at`].
pub async fn promise(shell: &Shell, account: &AccountId, request: &PromiseRequest) -> Result<Promise, EntryError> {
    let mut connection = shell.pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    // Two people at once: the second waits here, and then sees the promise of the first.
    record::lock_register(&mut transaction, account).await.map_err(RegisterError::from)?;
    let (snapshot, decision) = look_at(shell, account, None).await?;
    let today = decision.business_date;
    if request.by_day < today {
        return Err(RegisterError::DayIsOver(today).into());
    }
    for item in &request.items {
        record::known(&mut transaction, account, Some(item)).await?;
    }
    let items = promised_items(&shell.live().config.policy, &snapshot, &decision, request)?;
    let open = Money::new(items.iter().map(|one| one.open_then).sum(), request.amount.currency);
    if request.amount.amount > open.amount {
        return Err(RegisterError::MoreThanOpen { promised: request.amount, open }.into());
    }
    let mut promise = Promise {
        number: 0,
        amount: request.amount,
        made_on: today,
        by_day: request.by_day,
        tolerance_days: request.tolerance_days,
        items,
        reason: request.reason.clone(),
        withdrawn: false,
        paid_in_time: None,
    };
    promise.number = record::promise(&mut transaction, account, &promise, &shell.actor).await?;
    transaction.commit().await?;
    Ok(promise)
}

fn promised_items(
    policy: &Policy,
    snapshot: &Snapshot,
    decision: &Decision,
    request: &PromiseRequest,
) -> Result<Vec<PromisedItem>, RegisterError> {
    let currency = request.amount.currency;
    let chosen: Vec<&ItemId> = if request.items.is_empty() {
        let overdue = decision.items.iter().filter(|one| one.is_overdue_debit() && !one.code.is_out());
        let overdue = overdue.filter(|one| !one.item.as_str().starts_with(PLAN_ITEM_PREFIX));
        let owed = overdue.filter(|one| one.open.currency == currency && one.to_pay().amount > Decimal::ZERO);
        owed.map(|one| &one.item).collect()
    } else {
        request.items.iter().collect()
    };
    let planned = running_plans(policy, snapshot, decision.business_date);
    if chosen.is_empty() {
        let in_plan = planned.iter().find(|(plan, _)| plan.currency == currency);
        return Err(RegisterError::NothingToPromise(match in_plan {
            Some((plan, _)) => format!("what is overdue in {currency}: all is in plan {}", plan.number),
            None => format!("an account without overdue items in {currency}"),
        }));
    }
    let running = standings(policy, snapshot, decision.business_date);
    let running: Vec<&Promise> =
        running.iter().filter(|(_, now)| now.state == PromiseState::Running).map(|(promise, _)| *promise).collect();
    let mut items: Vec<PromisedItem> = Vec::new();
    for id in chosen {
        if let Some(plan) = planned.iter().find(|(plan, _)| plan.items.iter().any(|one| one.item == *id)) {
            return Err(RegisterError::AlreadyPlanned { item: id.clone(), number: plan.0.number });
        }
        if let Some(other) = running.iter().find(|promise| promise.items.iter().any(|one| one.item == *id)) {
            return Err(RegisterError::AlreadyPromised { item: id.clone(), number: other.number });
        }
        let found = decision.items.iter().find(|one| one.item == *id && !one.is_credit);
        let open = found.map(ItemDecision::to_pay).filter(|open| open.currency == currency && !open.amount.is_zero());
        let open = open.ok_or_else(|| {
            RegisterError::NothingToPromise(format!("item {id}: nothing is open on it in {currency} after credits"))
        })?;
        if items.iter().all(|one| one.item != *id) {
            items.push(PromisedItem { item: id.clone(), open_then: open.amount, vanished: false });
        }
    }
    Ok(items)
}

/// Every promise of an account, with how it stands today.
///
/// # Errors
/// As [`look_at`].
pub async fn promises(shell: &Shell, account: &AccountId) -> Result<Vec<(Promise, Standing)>, EntryError> {
    let (snapshot, decision) = look_at(shell, account, None).await?;
    let all = standings(&shell.live().config.policy, &snapshot, decision.business_date);
    Ok(all.into_iter().map(|(promise, standing)| (promise.clone(), standing)).collect())
}

/// Takes a running promise back; without a number, the only one. Returns its number.
///
/// # Errors
/// When there is no such promise, it is not running, or several are and none was named, or as [`look_at`].
pub async fn withdraw_promise(
    shell: &Shell,
    account: &AccountId,
    number: Option<i64>,
    reason: &str,
) -> Result<i64, EntryError> {
    let promises = promises(shell, account).await?;
    let is_running = |(_, now): &&(Promise, Standing)| now.state == PromiseState::Running;
    let running: Vec<i64> = promises.iter().filter(is_running).map(|(promise, _)| promise.number).collect();
    let number = match (number, running.as_slice()) {
        (Some(number), _) => number,
        (None, [only]) => *only,
        (None, []) => {
            let (account, which) = (account.to_string(), "running promise".to_owned());
            return Err(RegisterError::NoSuchPromise { account, which }.into());
        }
        (None, several) => {
            let several: Vec<String> = several.iter().map(ToString::to_string).collect();
            return Err(RegisterError::WhichPromise(several.join(", ")).into());
        }
    };
    if let Some((_, now)) = promises.iter().find(|(promise, _)| promise.number == number)
        && now.state != PromiseState::Running
    {
        return Err(RegisterError::NotRunning { number, state: now.state }.into());
    }
    let mut connection = shell.pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    record::withdraw_promise(&mut transaction, account, number, reason, &shell.actor).await?;
    transaction.commit().await?;
    Ok(number)
}

/// What was agreed: in words of its own, or in equal parts.
#[derive(Debug, Clone)]
pub enum Parts {
    Each(Vec<(NaiveDate, Decimal)>),
    Equal { parts: u32, every: Every, from: NaiveDate },
}

/// An instalment plan as a person asks for it.
#[derive(Debug, Clone)]
pub struct PlanRequest {
    pub currency: Currency,
    /// Empty for everything in that currency that is overdue, or for the items of the version before.
    pub items: Vec<ItemId>,
    pub parts: Parts,
    /// None: none, or those of the version before.
    pub tolerance_days: Option<u32>,
    /// None: the instalment alone, or as in the version before.
    pub on_missed: Option<OnMissed>,
    /// The plan that this is a new version of.
    pub restructure: Option<i64>,
    pub reason: String,
}

fn running_plans<'a>(policy: &Policy, snapshot: &'a Snapshot, today: NaiveDate) -> Vec<(&'a Plan, PlanStanding)> {
    let all = plan_standings(policy, snapshot, today);
    all.into_iter().filter(|(_, now)| now.state.is_alive()).collect()
}

/// Records a plan, or a new version of one, over what is open on its items today.
///
/// # Errors
/// When an item cannot be in it or is in another, the instalments do not add up to what is open, or as [`look_at`].
pub async fn agree_plan(shell: &Shell, account: &AccountId, request: &PlanRequest) -> Result<Plan, EntryError> {
    let mut connection = shell.pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    record::lock_register(&mut transaction, account).await.map_err(RegisterError::from)?;
    let (snapshot, decision) = look_at(shell, account, None).await?;
    let today = decision.business_date;
    for item in &request.items {
        record::known(&mut transaction, account, Some(item)).await?;
    }
    let live = shell.live();
    let policy = &live.config.policy;
    let running = running_plans(policy, &snapshot, today);
    let before = match request.restructure {
        None => None,
        Some(number) => {
            Some(running.iter().map(|(plan, _)| *plan).find(|plan| plan.number == number).ok_or_else(|| {
                RegisterError::NoSuchPlan { account: account.to_string(), which: format!("running plan {number}") }
            })?)
        }
    };
    let items = planned_items(policy, &snapshot, &decision, request, before, &running)?;
    let open = Money::new(items.iter().map(|one| one.open_then).sum(), request.currency);
    let instalments = instalments(&request.parts, open, today)?;
    let mut plan = Plan {
        number: before.map_or(0, |plan| plan.number),
        version: before.map_or(1, |plan| plan.version + 1),
        currency: request.currency,
        agreed_on: today,
        tolerance_days: request.tolerance_days.or(before.map(|plan| plan.tolerance_days)).unwrap_or_default(),
        on_missed: request.on_missed.or(before.map(|plan| plan.on_missed)).unwrap_or(OnMissed::Instalment),
        items,
        instalments,
        reason: request.reason.clone(),
        ended: false,
    };
    plan.number = record::agree_plan(&mut transaction, account, &plan, &shell.actor).await?;
    transaction.commit().await?;
    Ok(plan)
}

fn planned_items(
    policy: &Policy,
    snapshot: &Snapshot,
    decision: &Decision,
    request: &PlanRequest,
    before: Option<&Plan>,
    running: &[(&Plan, PlanStanding)],
) -> Result<Vec<PromisedItem>, RegisterError> {
    let (currency, today) = (request.currency, decision.business_date);
    let open = open_after_credit_notes(&snapshot.items);
    let is_open = |id: &ItemId| open.get(id).is_some_and(|open| *open > Decimal::ZERO);
    let code_of = |id: &ItemId| decision.items.iter().find(|one| one.item == *id).map(|one| one.code);
    let is_written_off = |id: &ItemId| code_of(id) == Some(ItemCode::WrittenOff);
    let chosen: Vec<ItemId> = match before {
        _ if !request.items.is_empty() => request.items.clone(),
        Some(plan) => {
            plan.items.iter().map(|one| one.item.clone()).filter(|id| is_open(id) && !is_written_off(id)).collect()
        }
        None => decision
            .items
            .iter()
            .filter(|one| one.is_overdue_debit() && !one.code.is_out() && one.open.currency == currency)
            .map(|one| one.item.clone())
            .filter(|id| open.contains_key(id))
            .collect(),
    };
    if chosen.is_empty() {
        return Err(RegisterError::UnfitPlan(format!("nothing in {currency} is overdue that a plan could be made of")));
    }
    let promised = standings(policy, snapshot, today);
    let mut items: Vec<PromisedItem> = Vec::new();
    for id in chosen {
        let others = running.iter().filter(|(plan, _)| before.is_none_or(|before| before.number != plan.number));
        if let Some((plan, _)) = others.into_iter().find(|(plan, _)| plan.items.iter().any(|one| one.item == id)) {
            return Err(RegisterError::AlreadyPlanned { item: id, number: plan.number });
        }
        let mut promised = promised.iter().filter(|(_, now)| now.state == PromiseState::Running);
        if let Some((promise, _)) = promised.find(|(promise, _)| promise.items.iter().any(|one| one.item == id)) {
            return Err(RegisterError::AlreadyPromised { item: id, number: promise.number });
        }
        if let Some(code) = code_of(&id).filter(|code| code.is_out() && *code != ItemCode::InPlan) {
            return Err(RegisterError::UnfitPlan(format!(
                "item {id} cannot be in a plan: {} Name those that can, each with --item.",
                code.meaning()
            )));
        }
        let found = snapshot.items.iter().find(|item| item.id == id && item.currency == currency && is_open(&item.id));
        let open_then = found.and_then(|item| open.get(&item.id)).copied().ok_or_else(|| {
            RegisterError::UnfitPlan(format!("item {id} cannot be in a plan: nothing is open on it in {currency}"))
        })?;
        if items.iter().all(|one| one.item != id) {
            items.push(PromisedItem { item: id, open_then, vanished: false });
        }
    }
    Ok(items)
}

/// Of a plan: monthly over ten years, or quarterly over thirty.
const INSTALMENTS_MAX: usize = 120;
/// From the first instalment of a plan to its last one: more is a slip of the pen.
const PLAN_YEARS_MAX: u32 = 30;

fn instalments(parts: &Parts, open: Money, today: NaiveDate) -> Result<Vec<PlanInstalment>, RegisterError> {
    let unfit = |text: String| Err(RegisterError::UnfitPlan(text));
    let instalments = match parts {
        Parts::Equal { parts, every, from } => equal_parts(open, *parts, *every, *from),
        Parts::Each(each) => {
            let mut each = each.clone();
            each.sort_by_key(|(day, _)| *day);
            (1..).zip(each).map(|(number, (due_on, amount))| PlanInstalment { number, due_on, amount }).collect()
        }
    };
    if instalments.len() > INSTALMENTS_MAX {
        let count = instalments.len();
        return unfit(format!(
            "a plan has at most {INSTALMENTS_MAX} instalments, and these are {count}; make them fewer"
        ));
    }
    if let Some(late) = instalments.iter().find(|one| one.due_on > LAST_DAY) {
        let (number, day) = (late.number, late.due_on);
        return unfit(format!("instalment {number} would be due on {day}; no day after {LAST_DAY} can be agreed"));
    }
    if let (Some(first), Some(last)) = (instalments.first(), instalments.last())
        && first.due_on.checked_add_months(Months::new(12 * PLAN_YEARS_MAX)).is_some_and(|end| last.due_on > end)
    {
        return unfit(format!(
            "the last instalment, of {}, lies more than {PLAN_YEARS_MAX} years after the first, of {}; correct the days",
            last.due_on, first.due_on
        ));
    }
    if let Some(early) = instalments.iter().find(|one| one.due_on < today) {
        return unfit(format!("the day {} of instalment {} lies before today, {today}", early.due_on, early.number));
    }
    if let Some(twice) = instalments.windows(2).find(|pair| matches!(pair, [a, b] if a.due_on == b.due_on)) {
        let day = twice.first().map(|one| one.due_on.to_string()).unwrap_or_default();
        return unfit(format!("two instalments are due on {day}; make them one"));
    }
    let fits =
        |one: &PlanInstalment| one.amount > Decimal::ZERO && one.amount.normalize().scale() <= open.currency.decimals();
    if let Some(wrong) = instalments.iter().find(|one| !fits(one)) {
        return unfit(format!("instalment {}: {} {} is no amount of money", wrong.number, wrong.amount, open.currency));
    }
    let sum = Money::new(instalments.iter().map(|one| one.amount).sum(), open.currency);
    if sum.amount != open.amount {
        let difference = Money::new((sum.amount - open.amount).abs(), open.currency);
        let which = if sum.amount > open.amount { "more" } else { "less" };
        return unfit(format!("the instalments add up to {sum}, {difference} {which} than the {open} that is open"));
    }
    Ok(instalments)
}

/// Every version of every plan of an account, with how it stands today.
///
/// # Errors
/// As [`look_at`].
pub async fn plans(shell: &Shell, account: &AccountId) -> Result<Vec<(Plan, PlanStanding)>, EntryError> {
    let (snapshot, decision) = look_at(shell, account, None).await?;
    let all = plan_standings(&shell.live().config.policy, &snapshot, decision.business_date);
    Ok(all.into_iter().map(|(plan, standing)| (plan.clone(), standing)).collect())
}

/// Ends a plan; without a number, the only running one. Its items go on where they stood. Returns its number.
///
/// # Errors
/// When there is no such plan, or several are running and none was named, or as [`look_at`].
pub async fn end_plan(
    shell: &Shell,
    account: &AccountId,
    number: Option<i64>,
    reason: &str,
) -> Result<i64, EntryError> {
    let (snapshot, decision) = look_at(shell, account, None).await?;
    let running: Vec<i64> = running_plans(&shell.live().config.policy, &snapshot, decision.business_date)
        .iter()
        .map(|(plan, _)| plan.number)
        .collect();
    let number = match (number, running.as_slice()) {
        (Some(number), _) => number,
        (None, [only]) => *only,
        (None, []) => {
            let (account, which) = (account.to_string(), "running plan".to_owned());
            return Err(RegisterError::NoSuchPlan { account, which }.into());
        }
        (None, several) => {
            let several: Vec<String> = several.iter().map(ToString::to_string).collect();
            return Err(RegisterError::WhichPlan(several.join(", ")).into());
        }
    };
    let mut connection = shell.pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    record::end_plan(&mut transaction, account, number, decision.business_date, reason, &shell.actor).await?;
    transaction.commit().await?;
    Ok(number)
}

/// What is entered about a contact.
#[derive(Debug, Clone)]
pub struct ContactRequest {
    /// Its contact's id counts only for one that is known already.
    pub entry: ContactEntry,
    pub is_new: bool,
    pub reason: String,
}

/// Enters what a person knows about a contact, over the ledger's words and over what was entered before.
///
/// # Errors
/// When the account has no such contact, the address is the creditor's own, or as [`look_at`].
pub async fn enter_contact(
    shell: &Shell,
    account: &AccountId,
    request: &ContactRequest,
) -> Result<ContactId, EntryError> {
    let mut connection = shell.pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    record::lock_register(&mut transaction, account).await.map_err(RegisterError::from)?;
    let (snapshot, decision) = look_at(shell, account, None).await?;
    let today = decision.business_date;
    let id = &request.entry.contact;
    if !request.is_new && snapshot.contacts.iter().all(|contact| contact.id != *id) {
        return Err(RegisterError::NoSuchContact { account: account.to_string(), contact: id.to_string() }.into());
    }
    let own = shell.live().config.policy.creditors.get(&decision.creditor).map(|one| one.sender.domain().to_owned());
    if let Some(email) = request.entry.email.as_ref().filter(|email| Some(email.domain()) == own.as_deref()) {
        return Err(RegisterError::OwnDomain(email.domain().to_owned()).into());
    }
    let mut pasts = PastReader::open(&mut transaction, None).await?;
    let pasts = pasts.page(&mut transaction, std::slice::from_ref(account), today).await?;
    let before = pasts.get(account).and_then(|past| past.contacts.iter().find(|entry| entry.contact == *id).cloned());
    let before = before.filter(|_| !request.is_new);
    let told = request.entry.email.is_some() || request.entry.no_email == Some(true);
    if before.as_ref().is_some_and(|before| before.erased) && !told {
        return Err(RegisterError::EntryErased(id.to_string()).into());
    }
    let entry = match before {
        Some(before) => request.entry.clone().over(before),
        None => request.entry.clone(),
    };
    let why = (request.reason.as_str(), today);
    let id =
        record::enter_contact(&mut transaction, account, &entry, request.is_new, rand::random(), why, &shell.actor)
            .await?;
    transaction.commit().await?;
    Ok(id)
}

/// A call that a person made.
#[derive(Debug, Clone)]
pub struct CallRequest {
    pub outcome: CallOutcome,
    pub note: Option<String>,
    /// What it was about, for the cause.
    pub item: Option<ItemId>,
    /// Leaves the cause out that the outcome tells.
    pub no_cause: bool,
    pub called_on: NaiveDate,
}

/// Records a call and the cause that it told, unless that one is recorded already. Returns the call's number and the
/// cause.
///
/// # Errors
/// When the ledger does not know account or item, or the database refuses.
pub async fn call(
    shell: &Shell,
    account: &AccountId,
    request: &CallRequest,
) -> Result<(i64, Option<Cause>), EntryError> {
    let mut connection = shell.pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    let cause = request.outcome.cause().filter(|_| !request.no_cause);
    let made = Call {
        outcome: request.outcome,
        text: request.note.as_deref().map(|body| NoteText { body, salt: rand::random() }),
        item: request.item.as_ref(),
        cause,
        called_on: request.called_on,
    };
    let number = record::log_call(&mut transaction, account, &made, &shell.actor).await?;
    transaction.commit().await?;
    Ok((number, cause))
}
