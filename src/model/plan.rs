//! An agreed instalment plan. Its instalments stand for its items: each is an item of its own in the eyes of the rule.

use std::collections::BTreeMap;

use chrono::{Months, NaiveDate};
use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Serialize};

use super::codes::codes;
use super::{Currency, Instalment, Item, ItemId, ItemKind, Money, PromisedItem, StageName, counted, days_after};

/// The one stage of an instalment.
pub const PLAN_STAGE: &str = "plan_missed";

/// Ids of the ledger must not look like those of instalments.
pub const PLAN_ITEM_PREFIX: &str = "plan:";

codes! {
    /// What a missed instalment makes due.
    OnMissed {
        Instalment = "instalment", "Only the missed instalment is demanded.";
        All = "all", "The plan is broken: all the rest falls due with the missed instalment.";
    }
}

codes! {
    /// What became of a plan.
    PlanState {
        Ended = "ended", "A person ended it, or a newer version took its place.";
        Kept = "kept", "All its instalments are paid.";
        Running = "running", "No instalment is missed.";
        Missed = "missed", "An instalment was not paid in full by its day and the tolerance.";
        Broken = "broken", "An instalment was missed, and so all the rest fell due.";
    }
}

codes! {
    /// How far apart the parts of a plan are.
    Every {
        Month = "month", "A month.";
        Quarter = "quarter", "Three months.";
    }
}

impl PlanState {
    /// Whether its instalments stand in the place of its items.
    #[must_use]
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Running | Self::Missed | Self::Broken)
    }
}

/// One payment of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanInstalment {
    pub number: u32,
    pub due_on: NaiveDate,
    pub amount: Decimal,
}

/// One version of an instalment plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub number: i64,
    pub version: u32,
    pub currency: Currency,
    /// The business date on which this version was agreed.
    pub agreed_on: NaiveDate,
    /// So many days after an instalment's day we still wait.
    pub tolerance_days: u32,
    pub on_missed: OnMissed,
    /// What was open on each item when this version was agreed.
    pub items: Vec<PromisedItem>,
    /// In the order of their days.
    pub instalments: Vec<PlanInstalment>,
    pub reason: String,
    pub ended: bool,
}

/// Of which plan an item is an instalment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartOfPlan {
    pub plan: i64,
    pub agreed_on: NaiveDate,
    /// Days past due up to which we wait.
    pub tolerance_days: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_early: Option<DueEarly>,
}

/// Why an instalment is due before its day: the plan is broken, so all the rest fell due with the one that was missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DueEarly {
    /// The day that was agreed for it.
    pub agreed_due: NaiveDate,
    /// The number of the missed instalment, and its day.
    pub missed: u32,
    pub missed_due: NaiveDate,
}

/// A plan as it stands on a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanStanding {
    pub state: PlanState,
    /// By how much its items went down since it was agreed, and what nobody allocated yet but counts for it.
    pub paid: Money,
    /// What the items leave of each instalment, oldest first; paid ones are not listed.
    pub left: Vec<PlanInstalment>,
    /// The first instalment of which something is still to be paid, and how much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<PlanInstalment>,
}

/// What is open on each item, less the credit notes that refer to it.
#[must_use]
pub fn open_after_credit_notes(items: &[Item]) -> BTreeMap<&ItemId, Decimal> {
    let mut open: BTreeMap<&ItemId, Decimal> =
        items.iter().filter(|item| !item.kind.is_credit()).map(|item| (&item.id, item.open_amount)).collect();
    let currencies: BTreeMap<&ItemId, Currency> = items.iter().map(|item| (&item.id, item.currency)).collect();
    for note in items.iter().filter(|item| item.kind.is_credit() && item.is_sound()) {
        let target = note.refers_to.as_ref().filter(|id| currencies.get(id) == Some(&note.currency));
        if let Some(left) = target.and_then(|id| open.get_mut(id)) {
            *left = (*left + note.open_amount).max(Decimal::ZERO);
        }
    }
    open
}

impl Plan {
    /// What is left of it: what its items went down by is set against the oldest instalments first. An item that is not
    /// open any more was paid, unless it vanished. Whether an instalment is missed, [`Plan::judged`] says.
    #[must_use]
    pub fn standing(&self, open: &BTreeMap<&ItemId, Decimal>) -> PlanStanding {
        let paid_on = |one: &PromisedItem| {
            let unpaid = if one.vanished { one.open_then } else { Decimal::ZERO };
            (one.open_then - open.get(&one.item).copied().unwrap_or(unpaid)).max(Decimal::ZERO)
        };
        let paid: Decimal = self.items.iter().map(paid_on).sum();
        let mut rest = paid;
        let mut left = Vec::new();
        for one in &self.instalments {
            let covered = rest.min(one.amount);
            rest -= covered;
            if covered < one.amount {
                left.push(PlanInstalment { amount: one.amount - covered, ..one.clone() });
            }
        }
        let state = match (self.ended, left.is_empty()) {
            (true, _) => PlanState::Ended,
            (false, true) => PlanState::Kept,
            (false, false) => PlanState::Running,
        };
        let next = left.first().cloned();
        PlanStanding { state, paid: Money::new(paid, self.currency), left, next }
    }

    /// How it stands when credits that nobody allocated yet count for its instalments, each so much, and each instalment
    /// is due on its effective day.
    #[must_use]
    pub fn judged(
        &self,
        standing: PlanStanding,
        credited: impl Fn(&PlanInstalment) -> Decimal,
        effective_due: impl Fn(NaiveDate) -> NaiveDate,
        today: NaiveDate,
    ) -> PlanStanding {
        if standing.state != PlanState::Running {
            return standing;
        }
        let covered: Decimal = standing.left.iter().map(&credited).sum();
        let to_pay = |one: &PlanInstalment| PlanInstalment { amount: one.amount - credited(one), ..one.clone() };
        let next = standing.left.iter().map(to_pay).find(|one| one.amount > Decimal::ZERO);
        let last = |one: &PlanInstalment| days_after(effective_due(one.due_on), self.tolerance_days);
        let state = match (next.as_ref().is_some_and(|one| today > last(one)), self.on_missed) {
            (false, _) => PlanState::Running,
            (true, OnMissed::Instalment) => PlanState::Missed,
            (true, OnMissed::All) => PlanState::Broken,
        };
        let paid = Money::new(standing.paid.amount + covered, self.currency);
        PlanStanding { state, paid, next, ..standing }
    }

    /// The id of the item that an instalment is in the eyes of the rule. It tells plan, version and number, so that each
    /// instalment is demanded once.
    #[must_use]
    pub fn item_id(&self, instalment: &PlanInstalment) -> Option<ItemId> {
        ItemId::parse(&format!("{PLAN_ITEM_PREFIX}{}:{}:{}", self.number, self.version, instalment.number)).ok()
    }

    /// The item that an instalment is in the eyes of the rule.
    #[must_use]
    pub fn item(&self, left: &PlanInstalment, standing: &PlanStanding) -> Option<Item> {
        let agreed = self.instalments.iter().find(|one| one.number == left.number)?;
        // When a missed instalment makes all the rest due, the rest is due since that instalment was.
        let missed = standing.next.as_ref().filter(|_| standing.state == PlanState::Broken);
        let due_early = missed.filter(|missed| missed.due_on < left.due_on).map(|missed| DueEarly {
            agreed_due: left.due_on,
            missed: missed.number,
            missed_due: missed.due_on,
        });
        let due_on = due_early.map_or(left.due_on, |early| early.missed_due);
        Some(Item {
            id: self.item_id(left)?,
            kind: ItemKind::Invoice,
            document_no: self.number.to_string(),
            instalment: Some(Instalment {
                number: left.number,
                count: u32::try_from(self.instalments.len()).unwrap_or(u32::MAX),
            }),
            issue_date: self.agreed_on,
            due_date: Some(due_on),
            currency: self.currency,
            amount: agreed.amount,
            open_amount: left.amount,
            written_off_on: None,
            dispute: None,
            hold_until: None,
            hold_reason: None,
            payment_reference: None,
            customer_reference: None,
            contract_no: None,
            refers_to: None,
            payee: None,
            document_url: None,
            pay_url: None,
            direct_debit_on: None,
            requisites: None,
            withdrawn: false,
            bad_data: None,
            part_of_plan: Some(PartOfPlan {
                plan: self.number,
                agreed_on: self.agreed_on,
                tolerance_days: self.tolerance_days,
                due_early,
            }),
        })
    }

    /// `an instalment is missed 2 days after its day; then all the rest falls due`.
    #[must_use]
    pub fn terms(&self) -> String {
        let due = match self.on_missed {
            OnMissed::Instalment => "it alone is demanded",
            OnMissed::All => "all the rest falls due",
        };
        let missed = match self.tolerance_days {
            0 => "once its day is over".to_owned(),
            days => format!("{} after its day", counted(days, "day")),
        };
        format!("an instalment is missed {missed}; then {due}")
    }

    /// `4 instalments, 400.00 EUR, agreed on 2026-05-02; 100.00 EUR paid since, running; next 100.00 EUR on 2026-06-30`.
    #[must_use]
    pub fn tell(&self, standing: &PlanStanding) -> String {
        let total = Money::new(self.instalments.iter().map(|one| one.amount).sum(), self.currency);
        let next = standing.next.as_ref().filter(|_| standing.state != PlanState::Ended).map_or(String::new(), |one| {
            format!("; instalment {} open: {} by {}", one.number, Money::new(one.amount, self.currency), one.due_on)
        });
        format!(
            "{} instalments, {total}, agreed on {}; {} paid since, {}{next}",
            self.instalments.len(),
            self.agreed_on,
            standing.paid,
            standing.state.as_str()
        )
    }
}

/// The name of the stage of an instalment.
#[must_use]
pub fn is_plan_stage(stage: &StageName) -> bool {
    stage.as_str() == PLAN_STAGE
}

/// Equal parts of an amount, rounded down to the smallest unit of the currency; what is left over is in the last one.
#[must_use]
pub fn equal_parts(total: Money, parts: u32, every: Every, from: NaiveDate) -> Vec<PlanInstalment> {
    let months = match every {
        Every::Month => 1,
        Every::Quarter => 3,
    };
    let part = (total.amount / Decimal::from(parts.max(1)))
        .round_dp_with_strategy(total.currency.decimals(), RoundingStrategy::ToZero);
    (1..=parts)
        .map(|number| {
            let last = number == parts;
            let amount = if last { total.amount - part * Decimal::from(parts - 1) } else { part };
            let later = Months::new(months * (number - 1));
            let due_on = from.checked_add_months(later).unwrap_or(NaiveDate::MAX);
            PlanInstalment { number, due_on, amount }
        })
        .collect()
}
