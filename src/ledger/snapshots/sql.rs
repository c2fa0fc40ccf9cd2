//! The statements behind the cursors.

use chrono::NaiveDate;

use super::Counted;
use crate::ledger::contract::{
    amount_sql, date_sql, hold_reason_sql, plain_debit_sql, unreadable_date_sql, unreadable_hold_sql,
};
use crate::model::{Currency, PLAN_ITEM_PREFIX};

/// What `$2` and `$3` mean: a day and an account.
pub(super) const ONE_ACCOUNT: &str = "($2::date IS NULL OR true) AND ($3::text IS NULL OR a.account_id::text = $3)";

/// The accounts, each with the items that are only counted. What few accounts say stands in one record, which is NULL
/// for all others.
pub(in crate::ledger) fn accounts_sql(condition: &str, counted: Option<&str>) -> String {
    let not_due = counted.unwrap_or("(SELECT NULL, 0::bigint, NULL::date WHERE false)");
    format!(
        r#"SELECT a.account_id::text, a.creditor::text, a.name::text, a.party_kind::text, a.country::text,
            a.language::text, a.time_zone::text, coalesce(n.items, 0), n.first_due,
            CASE WHEN num_nonnulls(a.tax_id, a.postal_address, a.party_id, a.parent_id, a.owner, a.segment, a.ladder,
                                   a.requisites, a.hold_until, a.hold_reason) > 0
            THEN ROW(a.tax_id::text, a.postal_address::text, a.party_id::text, a.parent_id::text, a.owner::text,
                     a.segment::text, a.ladder::text, a.requisites::jsonb, {hold_until}, {hold_reason},
                     {unreadable_hold}) END
        FROM ledger.account a
        LEFT JOIN {not_due} n (account_id, items, first_due) ON n.account_id = a.account_id::text
        WHERE a.creditor::text = $1 AND {condition}
        ORDER BY a.account_id::text COLLATE "C""#,
        hold_until = date_sql("a.hold_until"),
        hold_reason = hold_reason_sql("a"),
        unreadable_hold = unreadable_hold_sql("a"),
    )
}

pub(in crate::ledger) fn contacts_sql(condition: &str) -> String {
    format!(
        r#"SELECT c.contact_id::text, c.account_id::text, c.role::text, c.name::text, c.salutation::text, c.email::text,
            c.phone::text, c.language::text, c.is_primary::boolean, c.no_email::boolean, c.email_kind::text
        FROM ledger.contact c JOIN ledger.account a ON a.account_id::text = c.account_id::text
        WHERE a.creditor::text = $1 AND {condition}
        ORDER BY c.account_id::text COLLATE "C", c.contact_id::text COLLATE "C""#
    )
}

/// The open items of a whole ledger, with what decides whether one is only counted. Where the ledger has no other
/// creditor, nobody asks for every item whose it is.
fn open_items(alone: bool, today: NaiveDate) -> String {
    let (of_creditor, is_ours) = if alone {
        ("", "$1::text IS NOT NULL")
    } else {
        ("JOIN ledger.account a ON a.account_id::text = i.account_id::text", "a.creditor::text = $1")
    };
    format!(
        "FROM ledger.item i {of_creditor}
         LEFT JOIN (SELECT account_id FROM dunning.account_with_entries
                    UNION SELECT account_id::text FROM ledger.item WHERE open_amount < 0) listed
             ON listed.account_id = i.account_id::text
         LEFT JOIN dunning.item_at_stake stake ON stake.item_id = i.item_id::text
         WHERE {is_ours} AND $2::date IS NULL AND $3::text IS NULL AND {is_open}",
        is_open = is_open(today),
    )
}

/// The items that are only counted, for each account. A credit reduces other items, so its account's are all read.
pub(super) fn counted_sql(counted: &Counted, alone: bool, today: NaiveDate) -> String {
    let (open_items, is_counted) = (open_items(alone, today), is_counted(counted, today));
    format!("(SELECT i.account_id::text, count(*), min(i.due_date::date) {open_items} AND {is_counted} GROUP BY 1)")
}

/// The others, one by one.
pub(super) fn listed_sql(counted: &Counted, alone: bool, today: NaiveDate) -> String {
    let (open_items, is_counted) = (open_items(alone, today), is_counted(counted, today));
    format!(
        r#"SELECT {columns} {open_items} AND NOT {is_counted}
        ORDER BY i.account_id::text COLLATE "C", i.item_id::text COLLATE "C""#,
        columns = item_columns("i.open_amount"),
    )
}

/// The condition on an item, named `i`, for something being to pay, or to be credited, on that day.
fn is_open(today: NaiveDate) -> String {
    format!("NOT dunning.is_settled(i.open_amount::numeric, i.settled_on::date, date '{today}')")
}

/// The condition on [`open_items`] for being only counted.
fn is_counted(counted: &Counted, today: NaiveDate) -> String {
    format!(
        "(i.due_date::date >= date '{today}' AND {plain} AND i.written_off_on IS NULL AND i.disputed_since IS NULL
          AND i.dispute_reason IS NULL AND i.hold_until IS NULL AND i.hold_reason IS NULL AND i.payee IS NULL AND i.direct_debit_on IS NULL
          AND i.requisites IS NULL AND NOT starts_with(i.item_id::text, '{PLAN_ITEM_PREFIX}')
          AND listed.account_id IS NULL AND stake.item_id IS NULL)",
        plain = plain_debit_sql(counted.currencies.iter().map(Currency::code)),
    )
}

/// What is open on an item depends on the day that is looked at. Amounts and dates that we cannot hold come as NULL,
/// which makes the row bad data and not the end of the run.
pub(super) fn items_sql(as_of: bool, today: NaiveDate) -> String {
    let is_open = format!("{} AND $2::date IS NULL", is_open(today));
    let (open, condition) = if as_of {
        (
            "dunning.open_as_of(i.item_id::text, i.amount::numeric, i.open_amount::numeric, i.settled_on::date, $2)",
            "i.issue_date::date <= $2 AND (i.settled_on IS NULL OR i.settled_on::date > $2)",
        )
    } else {
        ("i.open_amount", is_open.as_str())
    };
    format!(
        r#"SELECT {columns}
        FROM ledger.item i JOIN ledger.account a ON a.account_id::text = i.account_id::text
        WHERE a.creditor::text = $1 AND {condition} AND ($3::text IS NULL OR i.account_id::text = $3)
        ORDER BY i.account_id::text COLLATE "C", i.item_id::text COLLATE "C""#,
        columns = item_columns(open),
    )
}

/// A number of instalments as one that we can hold, or NULL.
fn number_sql(column: &str) -> String {
    format!("CASE WHEN {column} BETWEEN 0 AND 1000000 THEN {column}::int END")
}

/// The columns of an item; `open` is what is open. What few items say stands in one record, which is NULL for all
/// others.
pub(in crate::ledger) fn item_columns(open: &str) -> String {
    format!(
        "i.item_id::text, i.account_id::text, i.kind::text, i.document_no::text, {issue_date} AS issue_date,
            {due_date} AS due_date, i.currency::text, {amount} AS amount, {open_amount} AS open_amount,
            i.payment_reference::text,
            CASE WHEN num_nonnulls(i.instalment_no, i.instalment_count, i.settled_on, i.written_off_on, i.disputed_since,
                                   i.dispute_reason, i.hold_until, i.hold_reason, i.customer_reference, i.contract_no,
                                   i.refers_to, i.payee, i.document_url, i.pay_url, i.direct_debit_on, i.requisites) > 0
            THEN ROW({instalment_no}, {instalment_count}, {written_off_on}, {disputed_since},
                     i.dispute_reason::text, {hold_until}, {hold_reason}, i.customer_reference::text,
                     i.contract_no::text, i.refers_to::text, i.payee::text, i.document_url::text, i.pay_url::text,
                     {direct_debit_on}, i.requisites::jsonb, {unreadable_date}) END",
        instalment_no = number_sql("i.instalment_no"),
        instalment_count = number_sql("i.instalment_count"),
        issue_date = date_sql("i.issue_date"),
        due_date = date_sql("i.due_date"),
        amount = amount_sql("i.amount"),
        open_amount = amount_sql(open),
        written_off_on = date_sql("i.written_off_on"),
        disputed_since = date_sql("i.disputed_since"),
        hold_until = date_sql("i.hold_until"),
        hold_reason = hold_reason_sql("i"),
        direct_debit_on = date_sql("i.direct_debit_on"),
        unreadable_date = unreadable_date_sql(),
    )
}
