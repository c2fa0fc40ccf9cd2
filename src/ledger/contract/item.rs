//! The one rule for what bad data in an item row is, for the check, the snapshots and the import alike.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::Decimal;

use crate::model::{Currency, FIRST_DAY, ItemKind, LAST_DAY, PLAN_ITEM_PREFIX, Requisites};

/// An item row as it was read. `None` is what the ledger does not say, or says in a way that we cannot hold (an amount
/// of more than 28 digits, NaN, an endless date): [`amount_sql`] and [`date_sql`] read it so.
#[derive(Debug, Clone, Copy, Default)]
pub struct RawItem<'r> {
    pub item_id: &'r str,
    pub kind: Option<&'r str>,
    pub document_no: Option<&'r str>,
    pub currency: Option<&'r str>,
    pub amount: Option<Decimal>,
    pub open_amount: Option<Decimal>,
    pub issue_date: Option<NaiveDate>,
    pub due_date: Option<NaiveDate>,
    /// The column of another date that says something which we cannot hold: [`unreadable_date_sql`] finds it.
    pub unreadable_date: Option<&'r str>,
}

/// The SQL that reads an amount as a number that we can hold, or as NULL.
#[must_use]
pub(in crate::ledger) fn amount_sql(column: &str) -> String {
    format!(
        "CASE WHEN abs({column}::numeric) < 1e20 AND scale(trim_scale({column}::numeric)) <= 8 \
         THEN trim_scale({column}::numeric) END"
    )
}

/// The SQL that reads a date as one that we can hold, or as NULL: `infinity` is none.
#[must_use]
pub(in crate::ledger) fn date_sql(column: &str) -> String {
    format!("CASE WHEN {column}::date BETWEEN date '{FIRST_DAY}' AND date '{LAST_DAY}' THEN {column}::date END")
}

/// The SQL that reads why a hold stands: one until `infinity`, or a day that nobody will see, has no last day and holds
/// until it is cleared, which takes a reason.
#[must_use]
pub(in crate::ledger) fn hold_reason_sql(relation: &str) -> String {
    format!(
        "CASE WHEN {relation}.hold_until::date > date '{LAST_DAY}' \
         THEN coalesce(nullif(trim({relation}.hold_reason::text), ''), 'no reason given') \
         ELSE {relation}.hold_reason::text END"
    )
}

/// The SQL that names the first column of an item, named `i`, whose date is none that we can hold; NULL when there is
/// none. Issue and due date are read by [`date_sql`], and a hold may be endless.
#[must_use]
pub(in crate::ledger) fn unreadable_date_sql() -> String {
    let outside = |column: &str| {
        format!("WHEN i.{column}::date NOT BETWEEN date '{FIRST_DAY}' AND date '{LAST_DAY}' THEN '{column}' ")
    };
    let dates = ["settled_on", "written_off_on", "disputed_since", "direct_debit_on"].map(outside).concat();
    format!("CASE {dates}{} END", unreadable_hold_case("i"))
}

/// The SQL that is true for an account whose hold has a last day that we cannot hold.
#[must_use]
pub(in crate::ledger) fn unreadable_hold_sql(account: &str) -> String {
    format!("((CASE {} END) IS NOT NULL)", unreadable_hold_case(account))
}

fn unreadable_hold_case(relation: &str) -> String {
    format!("WHEN {relation}.hold_until::date < date '{FIRST_DAY}' THEN 'hold_until'")
}

/// The SQL that is true for a row of `ledger.freshness` that says a time that we cannot hold.
#[must_use]
pub(in crate::ledger) fn unreadable_freshness_sql() -> String {
    ["invoices_as_of", "payments_as_of"]
        .map(|column| format!("{column}::timestamptz NOT BETWEEN date '{FIRST_DAY}' AND date '{LAST_DAY}'"))
        .join(" OR ")
}

/// What is wrong with a date that [`unreadable_date_sql`] names.
#[must_use]
pub(in crate::ledger) fn unreadable_date(column: &str) -> String {
    format!("{column} is out of range")
}

/// The SQL that is true for a debit, named `i`, in one of those currencies, of which [`problem`] has nothing to say. It
/// is a part of what `problem` accepts, so that the rule stays in one place: rows for which it is not true are read.
#[must_use]
pub(in crate::ledger) fn plain_debit_sql<'c>(currencies: impl Iterator<Item = &'c str>) -> String {
    let quoted = |codes: Vec<&str>| codes.iter().map(|code| format!("'{code}'")).collect::<Vec<_>>().join(", ");
    let debits = ItemKind::ALL.into_iter().filter(|kind| !kind.is_credit()).map(ItemKind::as_str).collect();
    let mut by_decimals: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    for (code, currency) in currencies.filter_map(|code| Some((code, Currency::parse(code).ok()?))) {
        by_decimals.entry(currency.decimals()).or_default().push(code);
    }
    let fine_enough = by_decimals.into_iter().map(|(decimals, codes)| {
        // The written decimals are looked at first: to count those that are not zero takes longer.
        let amounts = ["i.amount::numeric", "i.open_amount::numeric"];
        let fine = amounts.map(|one| format!("(scale({one}) <= {decimals} OR min_scale({one}) <= {decimals})"));
        format!("i.currency::text IN ({}) AND {}", quoted(codes), fine.join(" AND "))
    });
    let fine_enough = fine_enough.collect::<Vec<_>>().join(" OR ");
    // Nothing is plain when no currency is known.
    let fine_enough = if fine_enough.is_empty() { "false" } else { &fine_enough };
    format!(
        "coalesce(i.item_id::text <> '' AND NOT starts_with(i.item_id::text, '{PLAN_ITEM_PREFIX}')
                  AND i.kind::text IN ({}) AND ({fine_enough})
                  AND i.document_no::text <> '' AND i.open_amount > 0 AND i.open_amount <= i.amount
                  AND i.amount < 1e20
                  AND i.issue_date::date >= date '{FIRST_DAY}' AND i.due_date::date >= i.issue_date::date
                  AND i.due_date::date <= date '{LAST_DAY}', false)",
        quoted(debits)
    )
}

/// Requisites as a row says them. Money must never go to an account that was not understood.
///
/// # Errors
/// What is wrong with them.
pub(in crate::ledger) fn requisites(json: Option<serde_json::Value>) -> Result<Option<Requisites>, String> {
    let said = json.filter(|json| !json.is_null());
    said.map(serde_json::from_value).transpose().map_err(|error| format!("requisites: {error}"))
}

/// What is wrong with a row, by the column that shows it.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::ledger) struct RowProblem {
    pub(in crate::ledger) rule: Rule,
    pub(in crate::ledger) column: &'static str,
    pub(in crate::ledger) text: String,
}

/// The rules, in the order in which they are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::ledger) enum Rule {
    Missing,
    UnreadableDate,
    UnknownKind,
    UnknownCurrency,
    ReservedId,
    WrongSign,
    OpenAboveAmount,
    DueDateMissing,
    DueBeforeIssue,
    TooFine,
}

/// Why the row is bad data, or `None` when it is fine: something required is missing, kind or currency unknown, sign
/// wrong for the kind, more open than the amount, no due date on a debit, due before it was issued, or an amount
/// finer than the currency's minor unit.
#[must_use]
pub fn row_problem(row: &RawItem<'_>) -> Option<String> {
    problem(row).map(|problem| problem.text)
}

pub(in crate::ledger) fn problem(row: &RawItem<'_>) -> Option<RowProblem> {
    let found = |rule, column, text: String| Some(RowProblem { rule, column, text });
    let missing = |column: &'static str| found(Rule::Missing, column, format!("{column} is missing"));
    if row.item_id.starts_with(PLAN_ITEM_PREFIX) {
        let text =
            format!("item_id begins with {PLAN_ITEM_PREFIX:?}, which is how instalments of plans are named here");
        return found(Rule::ReservedId, "item_id", text);
    }
    let Some(kind) = row.kind else { return missing("kind") };
    let Some(kind) = ItemKind::parse(kind) else {
        let known = ItemKind::ALL.map(ItemKind::as_str).join(", ");
        return found(Rule::UnknownKind, "kind", format!("kind {kind:?} is none of {known}"));
    };
    if row.document_no.is_none_or(str::is_empty) {
        return missing("document_no");
    }
    let Some(currency) = row.currency else { return missing("currency") };
    let Ok(currency) = Currency::parse(currency) else {
        return found(
            Rule::UnknownCurrency,
            "currency",
            format!("currency {currency:?} is not in ISO 4217 (such as EUR)"),
        );
    };
    let unreadable =
        |column: &'static str| found(Rule::Missing, column, format!("{column} is missing or out of range"));
    let Some(amount) = row.amount else { return unreadable("amount") };
    let Some(open) = row.open_amount else { return unreadable("open_amount") };
    let Some(issue_date) = row.issue_date else { return unreadable("issue_date") };
    if let Some(column) = row.unreadable_date {
        return found(Rule::UnreadableDate, "dates", unreadable_date(column));
    }
    let wrong_sign = |value: Decimal| {
        if kind.is_credit() { value > Decimal::ZERO } else { value < Decimal::ZERO }
    };
    for (column, value) in [("amount", amount), ("open_amount", open)] {
        if wrong_sign(value) {
            let side = if kind.is_credit() { "negative" } else { "positive" };
            let article = if kind == ItemKind::Invoice { "an" } else { "a" };
            let kind = kind.as_str().replace('_', " ");
            return found(Rule::WrongSign, column, format!("{column} {value} of {article} {kind} must be {side}"));
        }
    }
    if open.abs() > amount.abs() {
        return found(
            Rule::OpenAboveAmount,
            "open_amount",
            format!("open amount {open} is more than the amount {amount}"),
        );
    }
    if !kind.is_credit() {
        let Some(due_date) = row.due_date else {
            return found(Rule::DueDateMissing, "due_date", "due_date is missing".to_owned());
        };
        if due_date < issue_date {
            return found(
                Rule::DueBeforeIssue,
                "due_date",
                format!("due on {due_date}, before it was issued on {issue_date}"),
            );
        }
    }
    let decimals = currency.decimals();
    for (column, value) in [("amount", amount), ("open_amount", open)] {
        if value.scale() > decimals {
            return found(
                Rule::TooFine,
                column,
                format!("{column} {value} has more than the {decimals} decimals of {currency}"),
            );
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use rust_decimal::dec;

    use super::*;

    fn good() -> RawItem<'static> {
        RawItem {
            item_id: "I1",
            kind: Some("invoice"),
            document_no: Some("2024/1"),
            currency: Some("EUR"),
            amount: Some(dec!(100)),
            open_amount: Some(dec!(60)),
            issue_date: NaiveDate::from_ymd_opt(2024, 5, 1),
            due_date: NaiveDate::from_ymd_opt(2024, 5, 31),
            unreadable_date: None,
        }
    }

    #[test]
    fn each_rule_has_its_own_words() {
        let says = |row: RawItem<'_>| row_problem(&row).unwrap_or_default();
        assert_eq!(row_problem(&good()), None);
        assert_eq!(
            says(RawItem { item_id: "plan:9:1:1", ..good() }),
            "item_id begins with \"plan:\", which is how instalments of plans are named here"
        );
        assert_eq!(says(RawItem { kind: None, ..good() }), "kind is missing");
        assert_eq!(
            says(RawItem { kind: Some("bill"), ..good() }),
            "kind \"bill\" is none of invoice, debit_note, fee, credit_note, payment"
        );
        assert_eq!(
            says(RawItem { currency: Some("eur"), ..good() }),
            "currency \"eur\" is not in ISO 4217 (such as EUR)"
        );
        assert_eq!(says(RawItem { amount: Some(dec!(-1)), ..good() }), "amount -1 of an invoice must be positive");
        assert_eq!(
            says(RawItem { kind: Some("credit_note"), ..good() }),
            "amount 100 of a credit note must be negative"
        );
        assert_eq!(
            says(RawItem { open_amount: Some(dec!(101)), ..good() }),
            "open amount 101 is more than the amount 100"
        );
        assert_eq!(
            says(RawItem { open_amount: Some(dec!(59.995)), ..good() }),
            "open_amount 59.995 has more than the 2 decimals of EUR"
        );
        assert_eq!(
            says(RawItem { currency: Some("JPY"), amount: Some(dec!(100.5)), ..good() }),
            "amount 100.5 has more than the 0 decimals of JPY"
        );
        assert_eq!(says(RawItem { due_date: None, ..good() }), "due_date is missing");
        assert_eq!(
            says(RawItem { unreadable_date: Some("direct_debit_on"), ..good() }),
            "direct_debit_on is out of range"
        );
        assert_eq!(
            says(RawItem { due_date: NaiveDate::from_ymd_opt(2024, 4, 30), ..good() }),
            "due on 2024-04-30, before it was issued on 2024-05-01"
        );
        let credit = RawItem {
            kind: Some("payment"),
            amount: Some(dec!(-5)),
            open_amount: Some(dec!(-5)),
            due_date: None,
            ..good()
        };
        assert_eq!(row_problem(&credit), None);
    }
}
