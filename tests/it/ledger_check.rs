//! `ledger check` against a real database: what breaks the contract, by id, count and object.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

use std::collections::BTreeSet;
use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use dunningd::ledger::{CheckOptions, ContractReport, Depth, RELATIONS, Severity, check};
use sqlx::AssertSqlSafe;

use crate::support::postgres::Database;

fn options() -> CheckOptions {
    let now: DateTime<Utc> = "2024-06-10T08:00:00Z".parse().unwrap();
    let set = |names: &[&str]| -> BTreeSet<String> { names.iter().map(|name| (*name).to_owned()).collect() };
    CheckOptions {
        now,
        creditors: set(&["acme"]),
        own_domains: set(&["acme.example"]),
        currencies: set(&["EUR", "PLN"]),
        ladders: set(&["default", "vip"]),
        depth: Depth::Everything,
    }
}

/// A ledger with one good account, contact and item.
async fn ledger() -> Database {
    let database = Database::new().await;
    run(
        &database,
        "INSERT INTO ledger.freshness VALUES ('erp', NULL, '2024-06-10 06:00Z', '2024-06-10 06:00Z');
         INSERT INTO ledger.account (account_id, creditor, name, party_kind, country, language, time_zone, tax_id)
         VALUES ('A1', 'acme', 'Alpha', 'company', 'IT', 'it-CH', 'Europe/Rome', 'IT01');
         INSERT INTO ledger.contact (contact_id, account_id, role, email, is_primary, no_email)
         VALUES ('C1', 'A1', 'billing', 'ap@alpha.example', true, false);
         INSERT INTO ledger.item (item_id, account_id, kind, document_no, issue_date, due_date, currency, amount,
                                  open_amount)
         VALUES ('I1', 'A1', 'invoice', '1', '2024-01-01', '2024-01-31', 'EUR', 100, 60)",
    )
    .await;
    database
}

async fn run(database: &Database, statements: impl Into<String>) {
    sqlx::raw_sql(AssertSqlSafe(statements.into())).execute(&database.pool("dunning").await).await.unwrap();
}

async fn checked(database: &Database) -> ContractReport {
    let pool = database.pool("dunningd_app").await;
    let mut connection = pool.acquire().await.unwrap();
    let whole = check(&mut connection, &options()).await.unwrap();
    // What runs before a scan looks at less, and sees the same rows and the same reasons to stop.
    let before_a_scan = CheckOptions { depth: Depth::WhatStopsARun, ..options() };
    let quick = check(&mut connection, &before_a_scan).await.unwrap();
    let seen = |report: &ContractReport| {
        let counts = [report.open_items, report.broken_items, report.accounts, report.broken_accounts];
        let broken = report.findings.iter().filter(|finding| finding.severity != Severity::Warning);
        (counts, broken.cloned().collect::<Vec<_>>())
    };
    assert_eq!(seen(&quick), seen(&whole));
    whole
}

#[tokio::test]
async fn a_good_ledger_has_no_findings() {
    let report = checked(&ledger().await).await;
    assert_eq!(report.to_string(), "accounts: 1 (0 broken), open items: 1 (0 broken)\n");
    assert!(!report.stops_run());
}

#[tokio::test]
async fn a_broken_shape_is_listed_and_stops_the_run() {
    let database = ledger().await;
    run(
        &database,
        "ALTER TABLE ledger.item DROP COLUMN payee;
         ALTER TABLE ledger.item ALTER COLUMN amount TYPE double precision;
         ALTER TABLE ledger.item ADD COLUMN paye text;
         ALTER TABLE ledger.item ALTER COLUMN due_date TYPE timestamptz;
         ALTER TABLE ledger.freshness ALTER COLUMN payments_as_of TYPE timestamp;
         DROP TABLE ledger.contact;
         DROP TABLE ledger.settlement;
         REVOKE SELECT ON ledger.account FROM dunningd_app",
    )
    .await;
    let report = checked(&database).await;
    assert!(report.stops_run());
    assert_eq!(
        report.to_string(),
        "E100 missing_relation (1): the contract requires this relation: ledger.contact
E101 missing_column (1): the contract has this column; a view may give NULL::type: item.payee
E102 wrong_type (3): cast it in the view: freshness.payments_as_of is timestamp without time zone, not timestamp with \
         time zone, item.amount is double precision, not numeric, item.due_date is timestamp with time zone, not date
E103 not_readable (1): this role may not SELECT from it: ledger.account
W301 unknown_column (1): not in the contract, ignored; a slip of the pen?: item.paye
accounts: 0 (0 broken), open items: 0 (0 broken)
"
    );
}

#[tokio::test]
async fn views_with_other_types_of_the_same_family_keep_the_contract() {
    let database = ledger().await;
    let mut statements = String::from("CREATE DOMAIN public.code AS varchar(20);\n");
    for relation in RELATIONS {
        let columns: Vec<String> = relation
            .columns
            .iter()
            .map(|column| match column.name {
                "creditor" | "currency" => format!("{0}::public.code AS {0}", column.name),
                "account_id" | "name" => format!("{0}::varchar(80) AS {0}", column.name),
                "instalment_no" => format!("{0}::bigint AS {0}", column.name),
                "issue_date" => format!("{0}::timestamp AS {0}", column.name),
                "requisites" => format!("{0}::json AS {0}", column.name),
                name => name.to_owned(),
            })
            .collect();
        let name = relation.name;
        let _ = writeln!(
            statements,
            "ALTER TABLE ledger.{name} RENAME TO {name}_data;
             CREATE VIEW ledger.{name} AS SELECT {} FROM ledger.{name}_data;
             GRANT SELECT ON ledger.{name} TO dunningd_app;",
            columns.join(", ")
        );
    }
    run(&database, statements).await;
    assert_eq!(checked(&database).await.to_string(), "accounts: 1 (0 broken), open items: 1 (0 broken)\n");
}

#[tokio::test]
async fn a_duplicate_id_and_a_null_identity_are_a_broken_shape() {
    let database = ledger().await;
    run(
        &database,
        "ALTER TABLE ledger.item DROP CONSTRAINT item_pkey;
         ALTER TABLE ledger.item ALTER COLUMN item_id DROP NOT NULL;
         INSERT INTO ledger.item SELECT (i).* FROM ledger.item i;
         INSERT INTO ledger.item (account_id, kind, document_no, issue_date, due_date, currency, amount, open_amount)
         VALUES ('A1', 'invoice', '2', '2024-01-01', '2024-01-31', 'EUR', 100, 60)",
    )
    .await;
    let report = checked(&database).await;
    assert!(report.broken_shape());
    assert_eq!(
        report.to_string(),
        "E104 null_in_required (1): a required column is NULL: item.item_id
E105 duplicate_id (1): an id must name one row: item I1
accounts: 1 (0 broken), open items: 2 (0 broken)
"
    );
}

#[tokio::test]
async fn every_broken_row_is_found_under_its_own_id() {
    let database = ledger().await;
    run(
        &database,
        "ALTER TABLE ledger.item ALTER COLUMN amount DROP NOT NULL;
         ALTER TABLE ledger.account ALTER COLUMN name DROP NOT NULL;
         INSERT INTO ledger.account (account_id, creditor, name, party_kind) VALUES
             ('B1', 'acme', NULL, 'company'), ('B2', 'acme', 'Beta', 'Ltd');
         INSERT INTO ledger.item (item_id, account_id, kind, document_no, issue_date, due_date, currency, amount,
                                  open_amount) VALUES
             ('orphan', 'nobody', 'invoice', '10', '2024-01-01', '2024-01-31', 'EUR', 100, 100),
             ('null', 'A1', 'invoice', '11', '2024-01-01', '2024-01-31', 'EUR', NULL, 100),
             ('nan', 'A1', 'invoice', '12', '2024-01-01', '2024-01-31', 'EUR', 'NaN', 100),
             ('endless', 'A1', 'invoice', '13', '-infinity', '2024-01-31', 'EUR', 100, 100),
             ('kind', 'A1', 'bill', '14', '2024-01-01', '2024-01-31', 'EUR', 100, 100),
             ('currency', 'A1', 'invoice', '15', '2024-01-01', '2024-01-31', 'eur', 100, 100),
             ('sign', 'A1', 'invoice', '16', '2024-01-01', '2024-01-31', 'EUR', -100, -100),
             ('credit', 'A1', 'credit_note', '17', '2024-01-01', NULL, 'EUR', 100, 100),
             ('open', 'A1', 'invoice', '18', '2024-01-01', '2024-01-31', 'EUR', 100, 101),
             ('no_due', 'A1', 'invoice', '19', '2024-01-01', NULL, 'EUR', 100, 100),
             ('early', 'A1', 'invoice', '20', '2024-01-01', '2023-12-31', 'EUR', 100, 100),
             ('fine', 'A1', 'invoice', '29', '2024-01-01', '2024-01-31', 'EUR', 100.0000, 60.0050),
             ('yen', 'A1', 'payment', '30', '2024-01-01', NULL, 'JPY', -100.5, -100),
             ('settled', 'A1', 'invoice', '21', '2024-01-01', '2023-12-31', 'eur', -100, 0);
         INSERT INTO ledger.account (account_id, creditor, name, party_kind) VALUES
             (E'B\t6', 'acme', 'Zeta', 'company'), (repeat('B7', 101), 'acme', 'Theta', 'company');
         INSERT INTO ledger.account (account_id, creditor, name, party_kind, hold_until, requisites) VALUES
             ('B3', 'acme', 'Gamma', 'company', '-infinity', NULL),
             ('B4', 'acme', 'Delta', 'company', 'infinity', '{\"holder\": \"Delta\", \"iban\": \"IT00\"}'),
             ('B5', 'acme', 'Eta', 'company', '9999-12-31', '{\"holder\": \"Eta\", \"number\": \"12\"}');
         INSERT INTO ledger.item (item_id, account_id, kind, document_no, issue_date, due_date, currency, amount,
                                  open_amount, hold_until, disputed_since, direct_debit_on, written_off_on, settled_on,
                                  requisites) VALUES
             ('held', 'A1', 'invoice', '22', '2024-01-01', '2024-01-31', 'EUR', 9, 9, 'infinity', NULL, NULL, NULL, NULL, NULL),
             ('d1', 'A1', 'invoice', '23', '2024-01-01', '2024-01-31', 'EUR', 9, 9, '0001-01-01', NULL, NULL, NULL, NULL, NULL),
             ('d2', 'A1', 'invoice', '24', '2024-01-01', '2024-01-31', 'EUR', 9, 9, NULL, 'infinity', NULL, NULL, NULL, NULL),
             ('d3', 'A1', 'invoice', '25', '2024-01-01', '2024-01-31', 'EUR', 9, 9, NULL, NULL, '-infinity', NULL, NULL, NULL),
             ('d4', 'A1', 'invoice', '26', '2024-01-01', '2024-01-31', 'EUR', 9, 9, NULL, NULL, NULL, 'infinity', NULL, NULL),
             ('d5', 'A1', 'payment', '27', '2024-01-01', NULL, 'EUR', -9, -9, NULL, NULL, NULL, NULL, 'infinity', NULL),
             ('payee', 'A1', 'invoice', '28', '2024-01-01', '2024-01-31', 'EUR', 9, 9, NULL, NULL, NULL, NULL, NULL, '{}')",
    )
    .await;
    let report = checked(&database).await;
    assert!(!report.broken_shape());
    assert!(report.stops_run());
    assert_eq!(
        report.to_string(),
        "E201 orphan_item (1): its account does not exist: orphan
E202 missing_value (3): a required value is missing or out of range: endless, nan, null
E203 unknown_kind (1): kind is not one of the contract: kind
E204 unknown_currency (1): currency is not in ISO 4217: currency
E205 wrong_sign (2): debits are positive, credit notes and payments negative: credit, sign
E206 open_above_amount (1): more is open than the amount: open
E207 due_date_missing (1): only credits may lack a due date: no_due
E208 due_before_issue (1): due before it was issued: early
E209 incomplete_account (1): creditor, name or party_kind is missing: B1
E210 unknown_party_kind (1): party_kind is not one of the contract: B2
E211 unreadable_date (6): a date before 1900 or after 2200; only a hold may be endless: B3, d1, d2, d3, d4, d5
E212 unreadable_requisites (2): nobody knows where the money should go: B4, payee
E214 amount_too_fine (2): an amount has more decimals than its currency: fine, yen
E215 unreadable_account_id (2): an id has 1 to 200 printable characters: \"B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7B7\
B7B7…\", \"B\\t6\"
accounts: 8 (6 broken), open items: 21 (19 broken)
"
    );
}

#[tokio::test]
async fn warnings_name_what_is_worth_a_look() {
    let database = ledger().await;
    run(
        &database,
        "UPDATE ledger.freshness SET payments_as_of = '2024-06-01 06:00Z';
         INSERT INTO ledger.freshness VALUES ('bank', 'acme', '2024-06-10 06:00Z', '2024-06-11 06:00Z'),
             ('shop', 'acme', 'infinity', '2024-06-10 06:00Z');
         INSERT INTO ledger.account (account_id, creditor, name, party_kind, country, language, time_zone, tax_id)
         VALUES
             ('B1', 'acme', 'Beta', 'company', 'it', 'xx', 'Europe/Roma', ' IT01 '),
             ('B2', 'acne', 'Gamma', 'company', NULL, NULL, NULL, '');
         UPDATE ledger.account a SET ladder = named
         FROM (VALUES ('A1', 'vip'), ('B1', 'Grandi clienti'), ('B2', ' ')) l (id, named) WHERE account_id = id;
         INSERT INTO ledger.contact (contact_id, account_id, role, email, is_primary, no_email) VALUES
             ('orphan', 'nobody', 'billing', 'x@x.example', true, false),
             ('role', 'A1', 'boss', 'boss@alpha.example', true, false),
             ('two', 'B1', 'billing', 'a@beta.example; b@beta.example', true, false),
             ('mailto', 'B1', 'billing', 'mailto:a@beta.example', true, false),
             ('none', 'B1', 'billing', 'none@none.com', true, false),
             ('own', 'B1', 'billing', 'sales@ACME.example', true, false),
             ('shared', 'B1', 'general', 'AP@alpha.example ', true, true);
         INSERT INTO ledger.item (item_id, account_id, kind, document_no, issue_date, due_date, currency, amount,
                                  open_amount, refers_to) VALUES
             ('I2', 'A1', 'invoice', '1', '2024-01-01', '2024-01-31', 'EUR', 100, 60, NULL),
             ('I3', 'B1', 'invoice', '3', '2024-01-01', '2024-01-31', 'USD', 100, 60, NULL),
             ('K1', 'A1', 'credit_note', 'K1', '2024-01-01', NULL, 'EUR', -150, -150, 'I1'),
             ('K2', 'A1', 'credit_note', 'K2', '2024-01-01', NULL, 'EUR', -10, -10, 'I9');
         UPDATE ledger.item SET settled_on = '2024-06-10' WHERE item_id = 'I3';
         UPDATE ledger.item SET settled_on = '2024-06-11' WHERE item_id = 'I2'",
    )
    .await;
    let report = checked(&database).await;
    assert!(!report.stops_run());
    assert_eq!(
        report.to_string(),
        "W302 unknown_creditor (1): not in creditors.toml; these accounts are never contacted: B2
W303 orphan_contact (1): its account does not exist: orphan
W304 incomplete_contact (1): its id cannot be read, role is unknown, or is_primary or no_email missing: role
W305 unusable_email (4): not exactly one address of the debtor; never written to: mailto, none, own, two
W306 no_usable_email (1): something is open, and there is nowhere to write to: B1
W307 shared_tax_id (1): the same tax id on several accounts of one creditor: A1 and 1 more
W308 shared_mailbox (1): the same mailbox on several accounts: A1 and 1 more
W309 document_twice (1): the same number, amount and due date twice for one account: I1 and I2
W310 unknown_time_zone (1): not in the IANA database; the country decides: B1
W311 unknown_language (1): letters do not exist in it: B1
W312 unknown_country (1): not two upper-case letters of ISO 3166-1: B1
W313 currency_not_configured (1): no creditor or policy knows this currency: I3
W314 refers_to_unknown (1): the item it refers to does not exist: K2
W315 credit_exceeds (1): credit notes cancel more than the item's amount: I1
W316 stale_payments (1): payments are known only up to more than four days ago: erp (all creditors)
W318 future_payments (1): payments_as_of lies in the future: bank (acme)
W319 unreadable_freshness (1): a time before 1900 or after 2200; no run until it is mended: shop (acme)
W320 settled_but_open (1): settled, and something is open; never demanded: I3
W321 unknown_ladder (1): not in policy.toml; these accounts are not contacted: B1
accounts: 3 (0 broken), open items: 5 (0 broken)
"
    );
}

#[tokio::test]
async fn one_broken_row_in_a_hundred_is_quarantined_and_two_stop_the_run() {
    let database = ledger().await;
    // 1 account and 99 open items are a hundred rows.
    run(
        &database,
        "INSERT INTO ledger.item (item_id, account_id, kind, document_no, issue_date, due_date, currency, amount,
                                  open_amount)
         SELECT 'N' || lpad(n::text, 2, '0'), 'A1', 'invoice', 'N' || n, '2024-01-01', '2024-01-31',
                CASE WHEN n = 1 THEN 'eur' ELSE 'EUR' END, 100, 60
         FROM generate_series(1, 98) n",
    )
    .await;
    let report = checked(&database).await;
    assert_eq!((report.broken_items, report.open_items, report.accounts), (1, 99, 1));
    assert!(!report.stops_run());
    run(&database, "UPDATE ledger.item SET currency = 'eur' WHERE item_id = 'N02'").await;
    assert!(checked(&database).await.stops_run());
}

#[tokio::test]
async fn a_finding_names_the_first_ten_objects_and_counts_all() {
    let database = ledger().await;
    run(
        &database,
        "INSERT INTO ledger.item (item_id, account_id, kind, document_no, issue_date, due_date, currency, amount,
                                  open_amount)
         SELECT 'N' || lpad(n::text, 2, '0'), 'A1', 'invoice', 'N' || n, '2024-01-01', '2024-01-31', 'eur', 100, 60
         FROM generate_series(1, 12) n",
    )
    .await;
    assert_eq!(
        checked(&database).await.findings[0].to_string(),
        "E204 unknown_currency (12): currency is not in ISO 4217: N01, N02, N03, N04, N05, N06, N07, N08, N09, N10, …"
    );
}

#[tokio::test]
async fn a_creditor_without_freshness_is_named() {
    let database = ledger().await;
    run(&database, "UPDATE ledger.freshness SET creditor = 'other'").await;
    assert_eq!(
        checked(&database).await.findings[0].to_string(),
        "W317 no_freshness (1): no row of ledger.freshness covers this creditor: acme"
    );
}
