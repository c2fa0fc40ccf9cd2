//! `import csv` against a real database: all of it or nothing, and a clear word about every row.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, FixedOffset};
use dunningd::ledger::{ACCOUNT, CONTACT, ITEM};
use dunningd::ledger::{Counts, ImportError, ImportOptions, ImportReport, import_csv};
use dunningd::ledger::{Profile, Scope};
use sqlx::PgPool;

use crate::support::postgres::Database;

fn sample() -> Profile {
    Profile::load(Path::new("config/profiles/accounts_receivable_sample.toml")).unwrap()
}

fn generic() -> Profile {
    Profile::load(Path::new("config/profiles/generic.toml")).unwrap()
}

fn data(name: &str) -> PathBuf {
    Path::new("tests/data/import").join(name)
}

fn moment(text: &str) -> DateTime<FixedOffset> {
    DateTime::parse_from_rfc3339(text).unwrap()
}

fn options() -> ImportOptions {
    ImportOptions { payments_as_of: Some(moment("2014-01-01T06:00:00+01:00")), ..ImportOptions::default() }
}

/// A database with one pool for the importing role.
async fn world() -> (Database, PgPool) {
    let database = Database::new().await;
    let pool = database.pool("dunningd_admin").await;
    (database, pool)
}

async fn import(pool: &PgPool, file: &Path, options: &ImportOptions) -> Result<ImportReport, ImportError> {
    import_csv(&mut pool.acquire().await.unwrap(), &sample(), file, options).await
}

/// Writes a file and imports it with the generic profile.
async fn import_text(pool: &PgPool, text: &str, options: &ImportOptions) -> Result<ImportReport, ImportError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    import_csv(&mut pool.acquire().await.unwrap(), &generic(), file.path(), options).await
}

/// One line per row of a query that gives one text.
async fn lines(database: &Database, query: &'static str) -> Vec<String> {
    sqlx::query_scalar(query).fetch_all(&database.pool("dunning").await).await.unwrap()
}

const EVERYTHING: &str = "SELECT 'account ' || a::text FROM ledger.account a UNION ALL SELECT 'contact ' || c::text \
     FROM ledger.contact c UNION ALL SELECT 'item ' || i::text FROM ledger.item i \
     UNION ALL SELECT 'freshness ' || source FROM ledger.freshness ORDER BY 1";

/// Imports a file that is refused: what is said, with nothing left in the tables.
async fn refusal(name: &str) -> String {
    let (database, pool) = world().await;
    let error = import(&pool, &data(name), &options()).await.unwrap_err();
    assert!(lines(&database, EVERYTHING).await.is_empty());
    said(&error)
}

fn said(error: &ImportError) -> String {
    match error {
        ImportError::Rejected(report) => report.rejects.iter().fold(String::new(), |mut text, reject| {
            writeln!(text, "{reject}").unwrap();
            text
        }),
        other => other.to_string(),
    }
}

fn counts(new: u64, changed: u64, unchanged: u64) -> Counts {
    Counts { new, changed, unchanged }
}

#[tokio::test]
async fn a_clean_file_fills_accounts_contacts_items_and_freshness() {
    let (database, pool) = world().await;
    let report = import(&pool, &data("clean.csv"), &options()).await.unwrap();
    assert_eq!(
        report.to_string(),
        "tests/data/import/clean.csv: 4 rows, profile accounts_receivable_sample (full_history)
  rejected  none
  accounts  3 new, 0 changed, 0 unchanged
  contacts  3 new, 0 changed, 0 unchanged
  items     4 new, 0 changed, 0 unchanged
  payments  of tre_aquiloni up to 2014-01-01T05:00:00+00:00
  payments  of trzy_latawce up to 2014-01-01T05:00:00+00:00
"
    );
    assert_eq!(
        lines(
            &database,
            "SELECT concat_ws('|', account_id, creditor, name, party_kind, country, language) \
             FROM ledger.account ORDER BY account_id"
        )
        .await,
        [
            "1001-ALPHA|tre_aquiloni|Debtor 1001-ALPHA|company|IT|it",
            "1002-BRAVO|trzy_latawce|Debtor 1002-BRAVO|company|PL|pl",
            "1003-DELTA|trzy_latawce|Debtor 1003-DELTA|company|RU|ru",
        ]
    );
    assert_eq!(
        lines(
            &database,
            "SELECT concat_ws('|', item_id, account_id, kind, document_no, issue_date, due_date, currency, amount, \
             open_amount, coalesce(settled_on::text, '-'), coalesce(disputed_since::text, '-')) \
             FROM ledger.item ORDER BY item_id"
        )
        .await,
        [
            "0000000101|1001-ALPHA|invoice|0000000101|2013-01-02|2013-02-01|EUR|78|0|2013-01-15|-",
            "0000000102|1002-BRAVO|invoice|0000000102|2013-01-26|2013-02-25|EUR|61.74|61.74|-|2013-01-26",
            "0000000103|1003-DELTA|invoice|0000000103|2013-07-03|2013-08-02|EUR|65.88|65.88|-|-",
            "0000000104|1001-ALPHA|invoice|0000000104|2013-03-02|2013-04-01|EUR|100.1|100.1|-|-",
        ]
    );
    assert_eq!(
        lines(
            &database,
            "SELECT concat_ws('|', contact_id, role, email, is_primary, no_email) FROM ledger.contact ORDER BY 1"
        )
        .await[0],
        "1001-ALPHA|billing|ap+1001-ALPHA@debtor.test|t|f"
    );
}

#[tokio::test]
async fn the_same_items_written_differently_change_nothing() {
    let (_database, pool) = world().await;
    import(&pool, &data("clean.csv"), &options()).await.unwrap();
    let report = import(&pool, &data("twin.csv"), &options()).await.unwrap();
    assert_eq!(report.rejects, []);
    assert_eq!(report.items, counts(1, 0, 4));
    assert_eq!(report.accounts, counts(0, 0, 3));
    assert_eq!(report.contacts, counts(0, 0, 3));
    assert_eq!(
        report.notes,
        ["accounts whose rows disagree: 1; kept what the ledger had, else the first row (1001-ALPHA)"]
    );
}

#[tokio::test]
async fn what_the_ledger_says_of_an_account_stands_for_its_rows_that_are_not_in_the_file() {
    let (database, pool) = world().await;
    import(&pool, &data("clean.csv"), &options()).await.unwrap();
    let report = import(&pool, &data("one_more.csv"), &options()).await.unwrap();
    assert_eq!((report.rejected, report.items, report.accounts), (0, counts(1, 0, 0), counts(0, 0, 1)));
    assert_eq!(report.notes.len(), 2);
    assert_eq!(
        lines(&database, "SELECT creditor || country FROM ledger.account WHERE account_id = '1001-ALPHA'").await,
        ["tre_aquiloniIT"]
    );
}

#[tokio::test]
async fn without_a_ledger_the_first_row_of_an_account_wins() {
    let (database, pool) = world().await;
    import(&pool, &data("twin.csv"), &options()).await.unwrap();
    assert_eq!(lines(&database, "SELECT country FROM ledger.account WHERE account_id = '1001-ALPHA'").await, ["GB"]);
}

#[tokio::test]
async fn a_dry_run_counts_everything_and_writes_nothing() {
    let (database, pool) = world().await;
    let report = import(&pool, &data("clean.csv"), &ImportOptions { dry_run: true, ..options() }).await.unwrap();
    assert_eq!(report.items, counts(4, 0, 0));
    assert!(report.to_string().ends_with("  dry run: nothing was written\n"));
    assert!(lines(&database, EVERYTHING).await.is_empty());
}

#[tokio::test]
async fn a_byte_order_mark_and_carriage_returns_do_not_matter() {
    let (_database, pool) = world().await;
    let report = import(&pool, &data("bom.csv"), &options()).await.unwrap();
    assert_eq!(report.items, counts(4, 0, 0));
}

#[tokio::test]
async fn a_bad_date_shows_what_a_good_one_looks_like() {
    assert_eq!(
        refusal("bad_date.csv").await,
        "row 3, InvoiceDate = \"31.12.2012\": not a date like 12/31/2024 (date_format = \"%m/%d/%Y\"); \
         correct the profile or the file\n"
    );
}

#[tokio::test]
async fn a_decimal_comma_is_recognised() {
    assert_eq!(
        refusal("decimal_comma.csv").await,
        "row 2, InvoiceAmount = \"1234,56\": looks like a decimal comma, and the profile says decimal = \".\"; \
         correct the profile or the file\n"
    );
}

#[tokio::test]
async fn a_missing_column_is_named_with_the_one_that_was_meant() {
    assert_eq!(
        refusal("missing_column.csv").await,
        "the header has no column \"InvoiceAmount\"; did you mean \"Invoice Amount\"? It has: countryCode, customerID, \
         PaperlessDate, invoiceNumber, InvoiceDate, DueDate, Invoice Amount, Disputed, SettledDate, PaperlessBill, \
         DaysToSettle, DaysLate. Correct the header or the profile"
    );
}

#[tokio::test]
async fn a_wrong_delimiter_is_recognised() {
    assert_eq!(
        refusal("wrong_delimiter.csv").await,
        "the header has one column; is the delimiter ';'? (the profile says ',')"
    );
}

#[tokio::test]
async fn a_wrong_encoding_shows_both_readings() {
    assert_eq!(
        refusal("cp1251.csv").await,
        "row 3, customerID: byte 1 of the value is not UTF-8. It reads \"ООО Ромашка\" as cp1251 and \
         \"ÎÎÎ Đîěŕřęŕ\" as cp1250; set `encoding` in the profile to the one that makes sense"
    );
}

#[tokio::test]
async fn a_duplicate_id_names_both_rows() {
    assert_eq!(
        refusal("duplicate_id.csv").await,
        "row 4, invoiceNumber = \"0000000101\": the same item id as in row 2; an id names one item\n"
    );
}

#[tokio::test]
async fn a_negative_invoice_is_rejected() {
    assert_eq!(
        refusal("negative_invoice.csv").await,
        "row 2, InvoiceAmount = \"-78\": amount -78 of an invoice must be positive; correct it in the file\n"
    );
}

#[tokio::test]
async fn an_empty_file_is_no_ledger() {
    assert_eq!(refusal("empty.csv").await, "the file is empty; not even a header is in it");
}

#[tokio::test]
async fn a_line_of_a_hundred_megabytes_fails_fast() {
    let (database, pool) = world().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("long.csv");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(&std::fs::read(data("clean.csv")).unwrap()).unwrap();
    file.write_all(b"\"").unwrap();
    let chunk = vec![b'x'; 1 << 20];
    for _ in 0..100 {
        file.write_all(&chunk).unwrap();
    }
    let begun = Instant::now();
    let error = import(&pool, &path, &options()).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(10), "took {:?}", begun.elapsed());
    assert_eq!(
        error.to_string(),
        "row 6: this record is longer than 1 MiB; is a quote not closed, or is it no CSV file?"
    );
    assert!(lines(&database, EVERYTHING).await.is_empty());
}

#[tokio::test]
async fn every_rejected_row_is_listed_and_written_to_the_reject_file() {
    let (database, pool) = world().await;
    let directory = tempfile::tempdir().unwrap();
    let rejects = directory.path().join("rejects.csv");
    let with_file = ImportOptions { reject_file: Some(rejects.clone()), ..options() };
    let error = import(&pool, &data("many.csv"), &with_file).await.unwrap_err();
    assert_eq!(error.to_string(), "4 of 5 rows were rejected, nothing was imported");
    assert_eq!(
        said(&error),
        "row 3: has 4 fields, the header has 12; is a delimiter inside a value that is not quoted?
row 5, countryCode = \"999\": not in [lookup.countryCode] of the profile (391, 406, 770, 818, 897); add it there
row 5, Disputed = \"Maybe\": neither in `is` nor in `is_not` of the profile (Yes, No); add it to one of them
row 6, customerID: empty, and the ledger requires account.account_id
row 6, DueDate = \"2013-02-01\": due on 2013-02-01, before it was issued on 2013-02-02; correct it in the file
row 7, DueDate = \"2013-02-01\": due on 2013-02-01, before it was issued on 2013-02-02; correct it in the file
"
    );
    assert!(lines(&database, EVERYTHING).await.is_empty());
    let kept: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(kept, ["rejects.csv"]);

    assert_eq!(
        std::fs::read_to_string(&rejects).unwrap().lines().take(2).collect::<Vec<_>>(),
        [
            "row,column,value,reason,countryCode,customerID,PaperlessDate,invoiceNumber,InvoiceDate,DueDate,\
             InvoiceAmount,Disputed,SettledDate,PaperlessBill,DaysToSettle,DaysLate",
            "3,,,\"has 4 fields, the header has 12; is a delimiter inside a value that is not quoted?\",\
             391,1001-ALPHA,102,1/2/2013",
        ]
    );

    let allowed = ImportOptions { allow_rejects: true, ..with_file };
    let report = import(&pool, &data("many.csv"), &allowed).await.unwrap();
    assert_eq!((report.rejected, report.items), (4, counts(1, 0, 0)));
}

#[tokio::test]
async fn the_reject_file_has_no_formula_of_ours_and_no_control_character_and_can_be_imported_again() {
    let (database, pool) = world().await;
    let directory = tempfile::tempdir().unwrap();
    let rejects = directory.path().join("rejects.csv");
    let with_file = ImportOptions { reject_file: Some(rejects.clone()), allow_rejects: true, ..options() };
    let text = file(&[
        "1,A1,acme,=1+1,company,invoice,1,2024-01-01,2024-01-31,EUR,100,=HYPERLINK(A1)",
        "2,A1,acme,=1+1,company,invoice,\u{1b}[31m2,2024-01-01,2024-01-31,EUR,100,100",
        "3,A1,acme,=1+1,company,credit_note,3,2024-01-01,,EUR,-50,-50.x",
    ]);
    import_text(&pool, &text, &with_file).await.unwrap_err();
    let written = std::fs::read_to_string(&rejects).unwrap();
    assert_eq!(
        written,
        "row,column,value,reason,item_id,account_id,creditor,account_name,party_kind,kind,document_no,issue_date,\
         due_date,currency,amount,open_amount\n\
         2,open_amount,'=HYPERLINK(A1),not an amount like 1234.56; write digits only,\
         1,A1,acme,=1+1,company,invoice,1,2024-01-01,2024-01-31,EUR,100,=HYPERLINK(A1)\n\
         3,document_no,\\u001b[31m2,holds a control character; remove it,\
         2,A1,acme,=1+1,company,invoice,\\u001b[31m2,2024-01-01,2024-01-31,EUR,100,100\n\
         4,open_amount,'-50.x,not an amount like 1234.56; write digits only,\
         3,A1,acme,=1+1,company,credit_note,3,2024-01-01,,EUR,-50,-50.x\n"
    );
    let corrected =
        written.replace(",=HYPERLINK(A1)", ",100").replace(",\\u001b[31m2,", ",2,").replace(",-50.x\n", ",-50\n");
    let report = import_text(&pool, &corrected, &options()).await.unwrap();
    assert_eq!((report.rejected, report.items), (0, counts(3, 0, 0)));
    assert_eq!(
        lines(&database, "SELECT concat_ws(' ', document_no, open_amount) FROM ledger.item ORDER BY item_id").await,
        ["1 100", "2 100", "3 -50"]
    );
    assert_eq!(lines(&database, "SELECT name FROM ledger.account").await, ["=1+1"]);
}

const HEADER: &str = "item_id,account_id,creditor,account_name,party_kind,kind,document_no,issue_date,due_date,\
    currency,amount,open_amount";

/// A row under [`HEADER`] for account A1 of creditor acme.
fn row(id: &str, open: &str) -> String {
    format!("{id},A1,acme,Alpha,company,invoice,{id},2024-01-01,2024-01-31,EUR,100,{open}")
}

fn file(rows: &[&str]) -> String {
    format!("{HEADER}\n{}\n", rows.join("\n"))
}

#[tokio::test]
async fn an_item_absent_from_a_file_of_all_open_items_is_settled_as_of_the_payments() {
    let (database, pool) = world().await;
    let both = file(&[&row("1", "100"), &row("2", "50")]);
    let open_items = ImportOptions { scope: Some(Scope::FullOpenItems), ..options() };
    import_text(&pool, &both, &open_items).await.unwrap();

    let later = ImportOptions { payments_as_of: Some(moment("2024-03-01T00:30:00+02:00")), ..open_items };
    let report = import_text(&pool, &file(&[&row("1", "100")]), &later).await.unwrap();
    assert_eq!((report.closed, report.items), (1, counts(0, 0, 1)));
    let state =
        "SELECT concat_ws('|', item_id, open_amount, coalesce(settled_on::text, '-')) FROM ledger.item ORDER BY 1";
    assert_eq!(lines(&database, state).await, ["1|100|-", "2|0|2024-03-01"]);

    // At midnight the day is over, and nothing of the next one is known.
    import_text(&pool, &both, &later).await.unwrap();
    let midnight = ImportOptions { payments_as_of: Some(moment("2024-03-03T00:00:00+02:00")), ..later.clone() };
    import_text(&pool, &file(&[&row("1", "100")]), &midnight).await.unwrap();
    assert_eq!(lines(&database, state).await, ["1|100|-", "2|0|2024-03-02"]);

    // It comes back: open again, and not settled.
    let report = import_text(&pool, &both, &midnight).await.unwrap();
    assert_eq!((report.closed, report.items), (0, counts(0, 1, 1)));
    assert_eq!(lines(&database, state).await, ["1|100|-", "2|50|-"]);
}

#[tokio::test]
async fn a_file_that_lacks_too_many_of_the_open_items_closes_none_of_them() {
    let (database, pool) = world().await;
    let open_items = ImportOptions { scope: Some(Scope::FullOpenItems), ..options() };
    let rows: Vec<String> = (10..60).map(|n| row(&n.to_string(), "100")).collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    import_text(&pool, &file(&rows), &open_items).await.unwrap();
    let later = ImportOptions { payments_as_of: Some(moment("2014-01-02T06:00:00+01:00")), ..open_items };
    let mut cut: Vec<&str> = rows[..24].to_vec();
    let (changed, new) = (row("10", "60"), row("99", "100"));
    cut[0] = &changed;
    cut.push(&new);
    let error = import_text(&pool, &file(&cut), &later).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the file lacks 26 of the 50 open items of creditor acme (limit 25), and would close all of them as paid; is it \
         cut off, or a file of changes (--scope delta)? Nothing was imported. If they are all settled, add --allow-shrunk"
    );
    let open = "SELECT count(*) || ' ' || sum(open_amount) FROM ledger.item WHERE open_amount <> 0";
    assert_eq!(lines(&database, open).await, ["50 5000"]);
    let known = "SELECT payments_as_of::date::text FROM ledger.freshness";
    assert_eq!(lines(&database, known).await, ["2014-01-01"]);

    // Half of them may be paid.
    let report = import_text(&pool, &file(&rows[..25]), &later).await.unwrap();
    assert_eq!(report.closed, 25);
}

#[tokio::test]
async fn nothing_is_closed_while_rows_are_rejected() {
    let (database, pool) = world().await;
    let open_items = ImportOptions { scope: Some(Scope::FullOpenItems), allow_rejects: true, ..options() };
    import_text(&pool, &file(&[&row("1", "100"), &row("2", "50")]), &open_items).await.unwrap();
    let report = import_text(&pool, &file(&[&row("1", "100"), &row("2", "500")]), &open_items).await.unwrap();
    assert_eq!((report.closed, report.rejected), (0, 1));
    assert_eq!(
        report.notes,
        [
            "nothing was closed, because rows were rejected: they may be the absent ones",
            "payments of acme are not taken as known up to this file's moment, because rows were rejected and any of them \
             may be a payment; import them, corrected, with the rest"
        ]
    );
    assert_eq!(lines(&database, "SELECT open_amount::text FROM ledger.item ORDER BY item_id").await, ["100", "50"]);
}

#[tokio::test]
async fn payments_are_not_known_up_to_the_moment_of_a_file_with_rejected_rows() {
    let (database, pool) = world().await;
    let on = |day: &str| ImportOptions {
        payments_as_of: Some(moment(&format!("2024-02-{day}T06:00:00Z"))),
        scope: Some(Scope::Delta),
        allow_rejects: true,
        ..ImportOptions::default()
    };
    let freshness = "SELECT to_char(payments_as_of AT TIME ZONE 'UTC', 'DD') FROM ledger.freshness";
    let (good, bad) = (file(&[&row("1", "100")]), file(&[&row("1", "100"), &row("2", "500")]));
    import_text(&pool, &bad, &on("01")).await.unwrap();
    assert!(lines(&database, freshness).await.is_empty());
    import_text(&pool, &good, &on("02")).await.unwrap();
    import_text(&pool, &bad, &on("03")).await.unwrap();
    assert_eq!(lines(&database, freshness).await, ["02"]);
}

#[tokio::test]
async fn creditors_neither_close_nor_take_each_others_items() {
    let (_database, pool) = world().await;
    let open_items = ImportOptions { scope: Some(Scope::FullOpenItems), ..options() };
    import_text(&pool, &file(&[&row("1", "100")]), &open_items).await.unwrap();
    let other = file(&["9,B1,other,Beta,company,invoice,9,2024-01-01,2024-01-31,EUR,100,100"]);
    assert_eq!(import_text(&pool, &other, &open_items).await.unwrap().closed, 0);
    let taken = file(&["1,B1,other,Beta,company,invoice,1,2024-01-01,2024-01-31,EUR,100,100"]);
    assert_eq!(
        said(&import_text(&pool, &taken, &open_items).await.unwrap_err()),
        "row 2, item_id = \"1\": this item id belongs to creditor acme in the ledger, here to other; make ids unique \
         in the profile, such as \"other-{…}\"\n"
    );
    let contact = |row: &str| format!("{HEADER},contact_id,role,email\n{row},C1,billing,a@alpha.example\n");
    import_text(&pool, &contact(&row("1", "100")), &options()).await.unwrap();
    let taken = contact("9,B1,other,Beta,company,invoice,9,2024-01-01,2024-01-31,EUR,100,100");
    assert_eq!(
        said(&import_text(&pool, &taken, &options()).await.unwrap_err()),
        "row 2, contact_id = \"C1\": this contact id belongs to creditor acme in the ledger, here to other; make ids \
         unique in the profile, such as \"other-{…}\"\n"
    );
}

#[tokio::test]
async fn an_item_absent_from_a_full_history_is_reported_and_left_alone() {
    let (_database, pool) = world().await;
    let history = ImportOptions { scope: Some(Scope::FullHistory), ..options() };
    import_text(&pool, &file(&[&row("1", "100"), &row("2", "50")]), &history).await.unwrap();
    let report = import_text(&pool, &file(&[&row("1", "100")]), &history).await.unwrap();
    assert_eq!((report.closed, report.absent), (0, 1));
    assert_eq!(report.notes, ["items of these creditors that are not in the file: 1; left alone"]);
}

#[tokio::test]
async fn a_column_that_the_file_lacks_leaves_the_ledger_as_it_is() {
    let (database, pool) = world().await;
    let long = format!("{HEADER},tax_id,contact_id,role,email\n{},IT01,C1,billing,a@alpha.example\n", row("1", "100"));
    import_text(&pool, &long, &options()).await.unwrap();
    let short = file(&[&row("1", "40").replace("Alpha", "Alpha Ltd")]);
    let report = import_text(&pool, &short, &options()).await.unwrap();
    assert_eq!((report.accounts, report.items, report.contacts), (counts(0, 1, 0), counts(0, 1, 0), counts(0, 0, 0)));
    let state = "SELECT concat_ws('|', a.name, a.tax_id, c.email, c.is_primary) \
         FROM ledger.account a JOIN ledger.contact c USING (account_id)";
    assert_eq!(lines(&database, state).await, ["Alpha Ltd|IT01|a@alpha.example|f"]);
}

#[tokio::test]
async fn who_wants_no_mail_is_not_forgotten_by_a_file_that_does_not_speak_of_it() {
    let (database, pool) = world().await;
    let contact = |id: &str| format!("{},{id},billing,a@alpha.example", row(&id.replace('C', ""), "100"));
    let said = format!("{HEADER},contact_id,role,email,no_email\n{},true\n", contact("C1"));
    import_text(&pool, &said, &options()).await.unwrap();
    let silent = format!("{HEADER},contact_id,role,email\n{}\n{}\n", contact("C1"), contact("C2"));
    let report = import_text(&pool, &silent, &options()).await.unwrap();
    assert_eq!(report.contacts, counts(1, 0, 1));
    let state = "SELECT concat_ws('|', contact_id, no_email) FROM ledger.contact ORDER BY 1";
    assert_eq!(lines(&database, state).await, ["C1|t", "C2|f"]);
}

#[tokio::test]
async fn a_quote_that_is_not_closed_takes_no_rows_along() {
    let (database, pool) = world().await;
    let payment = row("P", "-90").replace("invoice", "payment").replace("EUR,100", "EUR,-90");
    for end in ["\"ok\"", "ok"] {
        let text = format!(
            "{HEADER},comment\n{},ok\n{},\"see mail\n{payment},ok\n{},{end}\n",
            row("1", "100"),
            row("2", "100"),
            row("3", "100")
        );
        let refused = said(&import_text(&pool, &text, &options()).await.unwrap_err());
        let reason = "a line in it looks like a row of the file; is a quote not closed?";
        assert!(refused.starts_with("row 3, comment = ") && refused.contains(reason), "{refused}");
    }
    assert!(lines(&database, EVERYTHING).await.is_empty());
    let honest = format!("{HEADER},comment\n{},\"first line,\nsecond, and more\"\n", row("1", "100"));
    assert_eq!(import_text(&pool, &honest, &options()).await.unwrap().rows, 1);
}

#[tokio::test]
async fn a_column_that_is_named_twice_or_almost_right_is_told() {
    let (_database, pool) = world().await;
    let twice = format!("{HEADER},item_hold_reason,item_hold_reason\n{},,legal\n", row("1", "100"));
    let error = said(&import_text(&pool, &twice, &options()).await.unwrap_err());
    assert!(error.starts_with("the header has the column \"item_hold_reason\" more than once: "), "{error}");
    let slip = format!("{HEADER},Disputed_since,colour\n{},2024-01-05,red\n", row("1", "100"));
    let report = import_text(&pool, &slip, &options()).await.unwrap();
    assert_eq!(report.notes, ["the column \"Disputed_since\" is not read; did you mean \"disputed_since\"?"]);
}

#[tokio::test]
async fn rows_that_disagree_about_an_account_are_rejected_by_default() {
    let (_database, pool) = world().await;
    let text = file(&[&row("1", "100"), &row("2", "100").replace("Alpha", "Alfa")]);
    assert_eq!(
        said(&import_text(&pool, &text, &options()).await.unwrap_err()),
        "row 3, account_name = \"Alfa\": account A1: name is \"Alpha\" in row 2; correct the file, or set \
         when_rows_disagree = \"keep_first\"\n"
    );
}

#[tokio::test]
async fn what_the_payments_cover_is_never_guessed() {
    let (_database, pool) = world().await;
    assert_eq!(
        import(&pool, &data("clean.csv"), &ImportOptions::default()).await.unwrap_err().to_string(),
        "it is not known up to when this file knows payments: give --payments-as-of, or payments_as_of in the \
         profile's [import]"
    );
    let text = format!(
        "{HEADER},payments_as_of\n{},2024-02-02T06:00:00Z\n{},2024-02-01T06:00:00Z\n",
        row("1", "100"),
        row("2", "100")
    );
    let report = import_text(&pool, &text, &ImportOptions::default()).await.unwrap();
    assert_eq!(report.covered[0].payments_as_of, moment("2024-02-02T06:00:00Z"));
}

#[tokio::test]
async fn somebody_elses_ledger_is_left_alone() {
    let (database, pool) = world().await;
    let owner = database.pool("dunning").await;
    sqlx::raw_sql(
        "ALTER TABLE ledger.item RENAME TO item_data; CREATE VIEW ledger.item AS SELECT * FROM ledger.item_data",
    )
    .execute(&owner)
    .await
    .unwrap();
    assert_eq!(
        import(&pool, &data("clean.csv"), &options()).await.unwrap_err().to_string(),
        "ledger.item is not a table of dunningd (it is a view, or belongs to somebody else); import csv fills only \
         the tables that `dunningd migrate` created"
    );
}

#[tokio::test]
async fn two_imports_do_not_interleave() {
    let (_database, pool) = world().await;
    let mut other = pool.begin().await.unwrap();
    sqlx::query("SELECT pg_advisory_xact_lock(x'696d706f7274'::bigint)").execute(&mut *other).await.unwrap();
    assert_eq!(
        import(&pool, &data("clean.csv"), &options()).await.unwrap_err().to_string(),
        "another import is running; nothing was imported"
    );
}

#[test]
fn a_wrong_profile_is_told_everything_at_once() {
    let text = r#"[file]
delimeter = ","
encoding = "latin1"
decimal = "."
date_format = "dd/mm/yyyy"

[import]
scope = "everything"

[lookup.land]
Italia = { country = "IT" }

[account]
account_id = "{customer"
creditor = "acme"
name = "{name}"
party_kind = { lookup = "lnad", gives = "kind" }
contry = { lookup = "land", gives = "contry" }

[item]
item_id = "{no:10}"
account_id = "{customer}"
kind = "invoice"
document_no = "{no}"
issue_date = "{issued}"
currency = "EUR"
amount = 10.5
"#;
    assert_eq!(
        Profile::parse("p", "p.toml", text).unwrap_err().to_string(),
        r#"p.toml:2:1: unknown key "file.delimeter"; did you mean "delimiter"?
p.toml:2:1: file: `delimiter` is missing
p.toml:3:12: encoding = "latin1" is not "utf-8", "cp1250" or "cp1251"
p.toml:5:15: "dd/mm/yyyy" does not describe a date; use %d (day), %m (month) and %Y (year), such as "%d.%m.%Y"
p.toml:8:9: scope = "everything" is not "full_open_items", "full_history" or "delta"
p.toml:14:14: a brace that has no partner; write {{ or }} for a brace of its own
p.toml:17:25: there is no [lookup.lnad]; did you mean "land"?
p.toml:18:1: unknown key "account.contry"; did you mean "country"?
p.toml:20:2: [item] lacks open_amount, which the ledger requires; add open_amount = "{NAME OF THE COLUMN}"
p.toml:21:11: `:10` is not a padding such as :0>10 (zeros on the left, 10 wide; at most 200) or : <8
p.toml:22:1: unknown key "item.account_id"; contacts and items get it from [account]
p.toml:27:10: a text is wanted here, not float; write it in quotes"#
    );
    assert_eq!(
        Profile::parse("p", "p.toml", "[file\n").unwrap_err().to_string(),
        "p.toml:1:6: unclosed table, expected `]`"
    );
}

#[tokio::test]
async fn a_file_without_a_header_in_cp1251_with_decimal_commas_is_read_as_its_profile_says() {
    let (database, pool) = world().await;
    let profile = r#"
[file]
delimiter = ";"
encoding = "cp1251"
decimal = ","
thousands = " "
date_format = "%d.%m.%Y"
columns = ["no", "customer", "issued", "due", "sum", "rest", "mail"]

[import]
scope = "delta"

[account]
account_id = "{customer}"
creditor = "acme"
name = "{customer}"
party_kind = "company"

[contact]
contact_id = "{mail}"
role = "billing"
email = "{mail}"
no_email = { when = "mail", is = ["нет"], is_not = ["a@beta.example"] }

[item]
item_id = "{no}"
kind = "invoice"
document_no = "{no}"
issue_date = "{issued}"
due_date = "{due}"
currency = "RUB"
amount = "{sum}"
open_amount = "{rest}"
"#;
    let profile = Profile::parse("bank", "bank.toml", profile).unwrap();
    let text = "1;ООО «Ромашка»;01.02.2024;02.03.2024;1 234,56;1\u{a0}234,50;\r\n\
                2;\"Бета\";01.02.2024;02.03.2024;7,00;0;a@beta.example";
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&encoding_rs::WINDOWS_1251.encode(text).0).unwrap();
    let report = import_csv(&mut pool.acquire().await.unwrap(), &profile, file.path(), &options()).await.unwrap();
    assert_eq!((report.accounts, report.contacts), (counts(2, 0, 0), counts(1, 0, 0)));
    assert_eq!(
        lines(
            &database,
            "SELECT concat_ws('|', account_id, issue_date, amount, open_amount) FROM ledger.item ORDER BY item_id"
        )
        .await,
        ["ООО «Ромашка»|2024-02-01|1234.56|1234.5", "Бета|2024-02-01|7|0"]
    );
}

#[tokio::test]
async fn control_characters_and_line_breaks_are_shown_escaped() {
    let (_database, pool) = world().await;
    let text =
        file(&[&row("1", "100").replace("Alpha", "Al\u{1b}[31mpha"), &row("2", "1").replace("Alpha", "\"A\nB\"")]);
    assert_eq!(
        said(&import_text(&pool, &text, &options()).await.unwrap_err()),
        "row 2, account_name = \"Al\\u001b[31mpha\": holds a control character; remove it
row 3, account_name = \"A\\nB\": holds a line break; remove it
"
    );
}

#[test]
fn the_generic_profile_maps_the_whole_contract() {
    let text = std::fs::read_to_string("config/profiles/generic.toml").unwrap();
    for relation in [ACCOUNT, CONTACT, ITEM] {
        let section = text.split(&format!("\n[{}]", relation.name)).nth(1).unwrap();
        let section = section.split("\n[").next().unwrap();
        for column in relation.columns.iter().filter(|c| relation.name == "account" || c.name != "account_id") {
            assert!(section.contains(&format!("\n{} = ", column.name)), "{}.{}", relation.name, column.name);
        }
    }
}

#[tokio::test]
async fn each_fault_of_a_row_has_its_own_words() {
    let (_database, pool) = world().await;
    let fault = async |find: &str, replace: &str| {
        let text = file(&[&row("1", "60").replace(find, replace)]);
        said(&import_text(&pool, &text, &options()).await.unwrap_err())
    };
    assert_eq!(fault("EUR", "eur").await, "row 2, currency = \"eur\": not an ISO 4217 currency code such as EUR\n");
    assert_eq!(
        fault(",60", ",101").await,
        "row 2, open_amount = \"101\": open amount 101 is more than the amount 100; correct it in the file\n"
    );
    assert_eq!(
        fault("invoice", "credit_note").await,
        "row 2, amount = \"100\": amount 100 of a credit note must be negative; correct it in the file\n"
    );
    assert_eq!(
        fault("2024-01-31", "2023-12-31").await,
        "row 2, due_date = \"2023-12-31\": due on 2023-12-31, before it was issued on 2024-01-01; correct it in the \
         file\n"
    );
    assert_eq!(fault("2024-01-31", "").await, "row 2, due_date: due_date is missing; correct it in the file\n");
    assert_eq!(fault("Alpha", " ").await, "row 2, account_name: empty, and the ledger requires account.name\n");
    assert_eq!(
        fault(",60", ",60.001").await,
        "row 2, open_amount = \"60.001\": open_amount 60.001 has more than the 2 decimals of EUR; is it a thousands \
         separator, or not rounded?\n"
    );
    for grouped in ["1,260.00", "1,260,000"] {
        assert_eq!(
            fault(",60", &format!(",\"{grouped}\"")).await,
            format!(
                "row 2, open_amount = \"{grouped}\": groups its digits by ','; say thousands = \",\" in [file] of the \
                 profile, or correct the file\n"
            )
        );
    }
    assert_eq!(fault("Alpha", "\"Alpha").await, "row 2: has 4 fields, the header has 12; is a quote not closed?\n");
    assert_eq!(
        fault("company", "Ltd").await,
        "row 2, party_kind = \"Ltd\": none of company, sole_trader, consumer, public_body, public_healthcare, unknown\n"
    );
    assert_eq!(
        import_text(&pool, &format!("{HEADER}\n"), &options()).await.unwrap_err().to_string(),
        "the file has a header and no rows"
    );
}
