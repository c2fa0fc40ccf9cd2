//! What is owed: the rows and totals of a letter, per currency and payee.
//!
//! Each total is the sum of its printed rows, and the rows are the items that the decision demands: so what is printed
//! adds up, and what is printed is what is logged.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::Decimal;

use crate::model::{
    AppliedCredit, Contacting, Decision, Demand, InformationRow, Item, ItemCode, ItemDecision, ItemId, LetterRow,
    Payee, Snapshot,
};

/// The tables of a letter: one per currency and payee, each with its rows in the order of their due dates.
#[must_use]
pub fn demands(snapshot: &Snapshot, decision: &Decision, contacting: &Contacting) -> Vec<Demand> {
    let payees: BTreeMap<&ItemId, &Payee> = contacting.requisites.iter().map(|(item, payee)| (item, payee)).collect();
    let mut tables: BTreeMap<(String, &Payee), Demand> = BTreeMap::new();
    let credits = credits(snapshot, decision);
    for (item, decided) in with_code(snapshot, decision, ItemCode::Demanded) {
        let row = row(item, decided, &credits, decision.business_date);
        let (Some(payee), Some(row)) = (payees.get(&item.id), row) else { continue };
        let table = tables.entry((item.currency.to_string(), payee)).or_insert_with(|| Demand {
            currency: item.currency,
            payee: (*payee).clone(),
            rows: Vec::new(),
            open: Decimal::ZERO,
            credited: Decimal::ZERO,
            to_pay: Decimal::ZERO,
        });
        table.open += row.open;
        table.credited += row.credited;
        table.to_pay += row.to_pay;
        table.rows.push(row);
    }
    let mut tables: Vec<Demand> = tables.into_values().collect();
    for table in &mut tables {
        table.rows.sort_by(|a, b| (a.due_date, &a.document_no).cmp(&(b.due_date, &b.document_no)));
    }
    tables
}

/// Overdue items that the letter lists without demanding them, oldest first.
#[must_use]
pub fn information(snapshot: &Snapshot, decision: &Decision) -> Vec<InformationRow> {
    let credits = credits(snapshot, decision);
    let mut rows: Vec<InformationRow> = with_code(snapshot, decision, ItemCode::Information)
        .filter_map(|(item, decided)| Some((item.currency, row(item, decided, &credits, decision.business_date)?)))
        .collect();
    rows.sort_by(|(_, a), (_, b)| (a.due_date, &a.document_no).cmp(&(b.due_date, &b.document_no)));
    rows
}

fn with_code<'a>(
    snapshot: &'a Snapshot,
    decision: &'a Decision,
    code: ItemCode,
) -> impl Iterator<Item = (&'a Item, &'a ItemDecision)> {
    let items: BTreeMap<&ItemId, &Item> = snapshot.items.iter().map(|item| (&item.id, item)).collect();
    decision
        .items
        .iter()
        .filter(move |decided| decided.code == code)
        .filter_map(move |decided| Some((*items.get(&decided.item)?, decided)))
}

/// What covers each item, by date, then by number.
fn credits<'a>(snapshot: &'a Snapshot, decision: &'a Decision) -> BTreeMap<&'a ItemId, Vec<AppliedCredit>> {
    let items: BTreeMap<&ItemId, &Item> = snapshot.items.iter().map(|item| (&item.id, item)).collect();
    let mut applied: BTreeMap<&ItemId, Vec<AppliedCredit>> = BTreeMap::new();
    for netted in &decision.netted {
        let Some(credit) = items.get(&netted.credit) else { continue };
        applied.entry(&netted.item).or_default().push(AppliedCredit {
            kind: credit.kind,
            document_no: credit.document_no.clone(),
            issue_date: credit.issue_date,
            amount: netted.amount,
            whole: -credit.open_amount,
        });
    }
    for credits in applied.values_mut() {
        credits.sort_by(|a, b| (a.issue_date, &a.document_no).cmp(&(b.issue_date, &b.document_no)));
    }
    applied
}

fn row(
    item: &Item,
    decided: &ItemDecision,
    credits: &BTreeMap<&ItemId, Vec<AppliedCredit>>,
    today: NaiveDate,
) -> Option<LetterRow> {
    let due_early = item.part_of_plan.as_ref().and_then(|part| part.due_early);
    let due_date = due_early.map(|early| early.agreed_due).or(item.due_date)?;
    let days_past_due = match due_early {
        Some(early) => (today - early.agreed_due).num_days().max(0),
        None => decided.days_past_due.unwrap_or_default(),
    };
    Some(LetterRow {
        kind: item.kind,
        document_no: item.document_no.clone(),
        instalment_no: item.instalment.map(|part| part.number),
        instalment_count: item.instalment.map(|part| part.count),
        issue_date: item.issue_date,
        due_date,
        days_past_due,
        amount: item.amount,
        open: item.open_amount,
        credited: decided.credited,
        credits: credits.get(&item.id).cloned().unwrap_or_default(),
        to_pay: item.open_amount - decided.credited,
        payment_reference: item.payment_reference.clone(),
        customer_reference: item.customer_reference.clone(),
        contract_no: item.contract_no.clone(),
        pay_url: item.pay_url.clone(),
        document_url: item.document_url.clone(),
        plan_agreed_on: item.part_of_plan.as_ref().map(|part| part.agreed_on),
        due_early,
        reminded_on: decided.reminded_on,
    })
}
