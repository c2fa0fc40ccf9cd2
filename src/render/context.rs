//! A letter as the values that a template sees. The names are those of `contract`.

use serde_json::{Value, json};
use tera::Context;

use super::blocks::{self, Speaker};
use super::clean;
use super::greeting;
use super::markdown::{Block, placeholder};
use crate::model::{Amounts, Currency, Letter, LetterRow, Money, PartyKind, Tone};

/// Everything of the contract; debtor data as single harmless lines, blocks as placeholders.
pub(super) fn context(speaker: &Speaker<'_>, blocks: &[Block]) -> Context {
    let letter = speaker.letter;
    let items = oldest_first(letter, |_| true);
    let total: Amounts = letter.demands.iter().map(|demand| Money::new(demand.to_pay, demand.currency)).collect();
    let mut currencies: Vec<Currency> = Vec::new();
    for demand in &letter.demands {
        if !currencies.contains(&demand.currency) {
            currencies.push(demand.currency);
        }
    }
    let totals: Vec<Value> = currencies.iter().map(|currency| amount(total.get(*currency), *currency)).collect();
    let part_paid = items.iter().any(|(_, row)| row.to_pay != row.amount);
    let document = items.first().filter(|_| items.len() == 1).map(|(currency, row)| item(speaker, *currency, row));
    let next_stage = letter.next_tone.filter(|tone| *tone != Tone::Courtesy && *tone != Tone::Friendly);
    let line = |text: &Option<String>| text.as_deref().map(clean::line).filter(|text| !text.is_empty());
    let is_person = matches!(letter.party_kind, PartyKind::Consumer | PartyKind::Unknown);
    let salutation = line(&letter.salutation).map(|words| greeting::closed(letter.language, &words));
    let to_one_person = salutation.as_deref().and_then(greeting::to_one_person).unwrap_or(is_person);
    let by_name = salutation.as_deref().is_some_and(greeting::names_reader);
    let tax_ids = letter.creditor_tax_ids.iter().map(|(name, id)| format!("{name}: {id}"));

    let mut context = Context::new();
    context.insert("language", letter.language.code());
    context.insert("item_count", &items.len());
    context.insert("document", &document);
    context.insert("oldest", &items.first().map(|(currency, row)| item(speaker, *currency, row)));
    let shown = blocks::shown(letter);
    let printed: Vec<Value> = oldest_first(letter, |place| shown.contains(&place))
        .into_iter()
        .map(|(currency, row)| item(speaker, currency, row))
        .collect();
    context.insert("items", &printed);
    let missed = items.iter().find_map(|(_, row)| row.due_early);
    let missed = missed.map(|early| json!({ "no": early.missed, "due_date": early.missed_due }));
    context.insert("missed_instalment", &missed);
    context.insert("totals", &totals);
    context.insert("part_paid", &part_paid);
    context.insert("date", &letter.date);
    context.insert("payments_as_of", &letter.payments_as_of);
    context.insert("respond_by", &letter.respond_by);
    context.insert("reminded_on", &letter.reminded_on);
    context.insert("next_stage", &next_stage.map(Tone::as_str));
    context.insert("by_post", &letter.by_post);
    context.insert("escalated", &letter.escalated);
    context.insert("protocol_claim", &letter.protocol_claim);
    context.insert("salutation", &salutation);
    context.insert("to_one_person", &to_one_person);
    context.insert("by_name", &by_name);
    context.insert(
        "account",
        &json!({
            "id": clean::line(&letter.account_id),
            "name": clean::line(&letter.account_name),
            "kind": letter.party_kind.as_str(),
            "is_person": is_person,
            "address": letter.account_address.as_deref().map(clean::lines).filter(|text| !text.is_empty()),
            "tax_id": line(&letter.account_tax_id),
        }),
    );
    context.insert(
        "creditor",
        &json!({
            "name": clean::line(&letter.creditor_name),
            "email": clean::line(&letter.creditor_email),
            "phone": letter.creditor_phone.as_deref().map(clean::together).filter(|text| !text.is_empty()),
            "contact_person": line(&letter.contact_person),
            "address": joined(letter.creditor_address.iter().cloned()),
            "tax_ids": joined(tax_ids),
        }),
    );
    for block in blocks {
        let printed = if block.html.is_empty() { String::new() } else { placeholder(block.name) };
        context.insert_value(block.name, tera::Value::safe_string(&printed));
    }
    context
}

/// The demanded rows of all tables together, of those (table, row) that are wanted.
fn oldest_first(letter: &Letter, wanted: impl Fn((usize, usize)) -> bool) -> Vec<(Currency, &LetterRow)> {
    let mut items = Vec::new();
    for (d, demand) in letter.demands.iter().enumerate() {
        let rows = demand.rows.iter().enumerate().filter(|(r, _)| wanted((d, *r)));
        items.extend(rows.map(|(_, row)| (demand.currency, row)));
    }
    items.sort_by_key(|(_, row)| row.due_date);
    items
}

/// Several parts in one line; none when all are empty.
fn joined(parts: impl Iterator<Item = String>) -> Option<String> {
    let parts: Vec<String> = parts.map(|part| clean::line(&part)).filter(|part| !part.is_empty()).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn amount(amount: rust_decimal::Decimal, currency: Currency) -> Value {
    json!({ "amount": amount.to_string(), "currency": currency.code() })
}

fn item(speaker: &Speaker<'_>, currency: Currency, row: &LetterRow) -> Value {
    json!({
        "title": speaker.title(row),
        "kind": row.kind.as_str(),
        "no": clean::line(&row.document_no),
        "issue_date": row.issue_date,
        "due_date": row.due_date,
        "days_past_due": row.days_past_due,
        "plan_agreed_on": row.plan_agreed_on,
        "instalment_no": row.instalment_no,
        "instalment_count": row.instalment_count,
        "amount": amount(row.amount, currency),
        "open": amount(row.open, currency),
        "credited": amount(row.credited, currency),
        "to_pay": amount(row.to_pay, currency),
    })
}
