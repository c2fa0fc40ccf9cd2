//! The database side: a staging table filled by COPY, then everything else set by set.

use std::fmt::Write as _;
use std::io;

use chrono::{DateTime, FixedOffset, NaiveDate, Utc};
use csv::StringRecord;
use futures_util::TryStreamExt as _;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::report::{Counts, Covered, ImportReport, Reject, Rejects};
use super::row::{Layout, Row};
use super::{ImportError, structure};
use crate::ledger::contract::{ACCOUNT, CONTACT, Column, FRESHNESS, ITEM, Relation};
use crate::ledger::profile::{Profile, Scope, WhenRowsDisagree};

/// The key of the advisory lock that keeps imports apart: "import" in ASCII.
const LOCK_KEY: i64 = 0x0000_696d_706f_7274;

/// Refuses to touch relations that are not our own tables, and becomes their owner.
pub(super) async fn require_built_in(connection: &mut PgConnection) -> Result<(), ImportError> {
    for relation in [&ACCOUNT, &CONTACT, &ITEM, &FRESHNESS] {
        let ours: Option<bool> = sqlx::query_scalar(
            "SELECT c.relkind IN ('r', 'p') AND c.relowner = 'dunningd_owner'::regrole
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = 'ledger' AND c.relname = $1",
        )
        .bind(relation.name)
        .fetch_optional(&mut *connection)
        .await?;
        let name = relation.name;
        match ours {
            Some(true) => {}
            Some(false) => {
                return Err(ImportError::NotBuiltIn(format!(
                    "ledger.{name} is not a table of dunningd (it is a view, or belongs to somebody else); \
                     import csv fills only the tables that `dunningd migrate` created"
                )));
            }
            None => {
                return Err(ImportError::NotBuiltIn(format!(
                    "there is no ledger.{name}; `dunningd migrate` creates it when no schema `ledger` exists"
                )));
            }
        }
    }
    sqlx::query("SET LOCAL ROLE dunningd_owner").execute(&mut *connection).await?;
    Ok(())
}

/// Keeps other imports out until the end of the transaction.
pub(super) async fn lock(connection: &mut PgConnection) -> Result<(), ImportError> {
    let free: bool =
        sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)").bind(LOCK_KEY).fetch_one(connection).await?;
    if free { Ok(()) } else { Err(ImportError::Busy) }
}

/// Writes a row in COPY's text format.
pub(super) fn copy_line(buffer: &mut String, row: u64, record: &StringRecord, good: &Row) {
    let mut original = csv::WriterBuilder::new().from_writer(Vec::new());
    let line = match original.write_record(record).ok().and_then(|()| original.into_inner().ok()) {
        Some(bytes) => String::from_utf8(bytes).unwrap_or_default(),
        None => String::new(),
    };
    let as_of = good.as_of.map(|moment| moment.to_rfc3339());
    let as_of_on = good.as_of.map(|moment| moment.date_naive().to_string());
    // Writing to a string cannot fail.
    let _ = write!(buffer, "{row}");
    let fixed = [Some(line.as_str()), as_of.as_deref(), as_of_on.as_deref()];
    for value in fixed.into_iter().chain(good.values.iter().map(Option::as_deref)) {
        buffer.push('\t');
        match value {
            None => buffer.push_str("\\N"),
            Some(text) => {
                for c in text.chars() {
                    match c {
                        '\\' => buffer.push_str("\\\\"),
                        '\t' => buffer.push_str("\\t"),
                        '\n' => buffer.push_str("\\n"),
                        '\r' => buffer.push_str("\\r"),
                        // Only the original record may hold it; text in PostgreSQL cannot.
                        '\0' => buffer.push(' '),
                        other => buffer.push(other),
                    }
                }
            }
        }
    }
    buffer.push('\n');
}

/// One of the three relations as this file maps it.
struct Side {
    relation: &'static Relation,
    letter: char,
    key: &'static str,
    /// The mapped columns, the key among them.
    columns: Vec<&'static Column>,
}

impl Side {
    fn new(relation: &'static Relation, letter: char, layout: &Layout<'_>) -> Self {
        let mut columns: Vec<_> = layout.fields().filter(|(of, _)| *of == letter).map(|(_, column)| column).collect();
        if letter != 'a' && !columns.is_empty() {
            columns.extend(relation.columns.iter().filter(|column| column.name == "account_id"));
        }
        // Every relation's own id is its first column.
        Self { relation, letter, key: relation.columns[0].name, columns }
    }

    /// The staging column behind a column: contacts and items belong to the account of their row.
    fn staged(&self, column: &Column) -> String {
        let letter = if column.name == "account_id" { 'a' } else { self.letter };
        format!("{letter}_{}", column.name)
    }

    fn list(&self, of: impl Fn(&Column) -> String) -> String {
        self.columns.iter().map(|column| of(column)).collect::<Vec<_>>().join(", ")
    }

    fn values(&self) -> impl Iterator<Item = &&'static Column> {
        self.columns.iter().filter(|column| column.name != self.key)
    }
}

/// The staging table of one import: one row per record, the columns of account, contact and item side by side.
pub(super) struct Staging {
    account: Side,
    contact: Side,
    item: Side,
    fields: Vec<(char, &'static Column)>,
}

impl Staging {
    pub(super) async fn create(connection: &mut PgConnection, layout: &Layout<'_>) -> Result<Self, sqlx::Error> {
        let fields: Vec<_> = layout.fields().collect();
        let columns: Vec<String> = fields
            .iter()
            .map(|(letter, column)| format!(", {letter}_{} {}", column.name, column.family.sql_type()))
            .collect();
        let columns = columns.concat();
        run(
            connection,
            format!(
                "CREATE TEMPORARY TABLE import_row (row_no bigint NOT NULL, record text NOT NULL, as_of timestamptz, \
                 as_of_on date{columns}) ON COMMIT DROP"
            ),
        )
        .await?;
        Ok(Self {
            account: Side::new(&ACCOUNT, 'a', layout),
            contact: Side::new(&CONTACT, 'c', layout),
            item: Side::new(&ITEM, 'i', layout),
            fields,
        })
    }

    pub(super) fn copy_statement(&self) -> String {
        let fields: Vec<String> =
            self.fields.iter().map(|(letter, column)| format!(", {letter}_{}", column.name)).collect();
        format!("COPY pg_temp.import_row (row_no, record, as_of, as_of_on{}) FROM STDIN", fields.concat())
    }

    /// Rejects rows that contradict other rows or the ledger, and makes one row of what several say about one account
    /// or contact.
    pub(super) async fn compare(
        &self,
        connection: &mut PgConnection,
        profile: &Profile,
        rejects: &mut Rejects,
        notes: &mut Vec<String>,
        reject_error: &(dyn Fn(io::Error) -> ImportError + Sync),
    ) -> Result<(), ImportError> {
        let mut found = Found { profile, rejects, reject_error };
        run(connection, "ANALYZE pg_temp.import_row".to_owned()).await?;
        found
            .delete(
                connection,
                "DELETE FROM pg_temp.import_row s
                 USING (SELECT row_no, min(row_no) OVER (PARTITION BY i_item_id) AS first FROM pg_temp.import_row) t
                 WHERE s.row_no = t.row_no AND t.row_no > t.first
                 RETURNING s.row_no, s.record, 'item.item_id' AS field, s.i_item_id AS value,
                           'the same item id as in row ' || t.first || '; an id names one item' AS reason"
                    .to_owned(),
            )
            .await?;
        for side in [&self.account, &self.contact] {
            if !side.columns.is_empty() {
                self.one_row_each(connection, side, profile.when_rows_disagree, &mut found, notes).await?;
            }
        }
        self.keep_creditors_apart(connection, &mut found).await
    }

    async fn one_row_each(
        &self,
        connection: &mut PgConnection,
        side: &Side,
        when_rows_disagree: WhenRowsDisagree,
        found: &mut Found<'_>,
        notes: &mut Vec<String>,
    ) -> Result<(), ImportError> {
        let (name, key) = (side.relation.name, side.key);
        let staged_key = format!("{}_{key}", side.letter);
        let columns = side.list(|column| format!("{} AS {}", side.staged(column), column.name));
        run(
            connection,
            format!(
                "CREATE TEMPORARY TABLE import_{name} ON COMMIT DROP AS
                 SELECT DISTINCT ON ({staged_key}) row_no AS first_row, {columns} FROM pg_temp.import_row
                 WHERE {staged_key} IS NOT NULL ORDER BY {staged_key}, row_no"
            ),
        )
        .await?;
        run(connection, format!("ALTER TABLE pg_temp.import_{name} ADD PRIMARY KEY ({key})")).await?;
        run(connection, format!("ANALYZE pg_temp.import_{name}")).await?;

        let differs = |column: &Column| format!("s.{} IS DISTINCT FROM f.{}", side.staged(column), column.name);
        let any: Vec<String> = side.values().map(|column| differs(column)).collect();
        if any.is_empty() {
            return Ok(());
        }
        let any = any.join(" OR ");
        match when_rows_disagree {
            WhenRowsDisagree::Reject => {
                let case = |of: &dyn Fn(&Column) -> String| {
                    side.values()
                        .map(|column| format!(" WHEN {} THEN {}", differs(column), of(column)))
                        .collect::<Vec<_>>()
                        .concat()
                };
                let field = case(&|column| format!("'{}'", column.name));
                let value = case(&|column| format!("s.{}::text", side.staged(column)));
                let first = case(&|column| format!("f.{}::text", column.name));
                found
                    .delete(
                        connection,
                        format!(
                            "DELETE FROM pg_temp.import_row s USING pg_temp.import_{name} f
                             WHERE s.{staged_key} = f.{key} AND ({any})
                             RETURNING s.row_no, s.record, '{name}.' || (CASE{field} END) AS field, CASE{value} END AS value,
                             '{name} ' || f.{key} || ': ' || (CASE{field} END) || ' is '
                             || coalesce('\"' || (CASE{first} END) || '\"', 'empty') || ' in row ' || f.first_row
                             || '; correct the file, or set when_rows_disagree = \"keep_first\"' AS reason"
                        ),
                    )
                    .await?;
            }
            WhenRowsDisagree::KeepFirst => {
                let flags: Vec<String> =
                    side.values().map(|column| format!("bool_or({}) AS {}", differs(column), column.name)).collect();
                run(
                    connection,
                    format!(
                        "CREATE TEMPORARY TABLE import_{name}_differs ON COMMIT DROP AS
                         SELECT f.{key} AS differing, {} FROM pg_temp.import_row s
                         JOIN pg_temp.import_{name} f ON s.{staged_key} = f.{key}
                         GROUP BY f.{key} HAVING bool_or({any})",
                        flags.join(", ")
                    ),
                )
                .await?;
                let kept: Vec<String> = side
                    .values()
                    .map(|column| {
                        let c = column.name;
                        format!("{c} = CASE WHEN d.{c} THEN t.{c} ELSE f.{c} END")
                    })
                    .collect();
                run(
                    connection,
                    format!(
                        "UPDATE pg_temp.import_{name} f SET {}
                         FROM pg_temp.import_{name}_differs d, ledger.{name} t
                         WHERE d.differing = f.{key} AND t.{key} = f.{key}",
                        kept.join(", ")
                    ),
                )
                .await?;
                let (count, some): (i64, Option<Vec<String>>) = sqlx::query_as(AssertSqlSafe(format!(
                    "SELECT count(*), (array_agg(differing ORDER BY differing COLLATE \"C\"))[1:3]
                     FROM pg_temp.import_{name}_differs"
                )))
                .fetch_one(&mut *connection)
                .await?;
                if count > 0 {
                    notes.push(format!(
                        "{count} {name}s whose rows disagree; kept what the ledger had, else the first row ({}{})",
                        some.unwrap_or_default().join(", "),
                        if count > 3 { ", …" } else { "" }
                    ));
                }
            }
        }
        Ok(())
    }

    /// Two creditors that number alike must not overwrite each other's debtors.
    async fn keep_creditors_apart(
        &self,
        connection: &mut PgConnection,
        found: &mut Found<'_>,
    ) -> Result<(), ImportError> {
        found
            .delete(
                connection,
                "DELETE FROM pg_temp.import_row s USING pg_temp.import_account f, ledger.account a
                 WHERE s.a_account_id = f.account_id AND a.account_id = f.account_id AND a.creditor <> f.creditor
                 RETURNING s.row_no, s.record, 'account.account_id' AS field, s.a_account_id AS value,
                           'this account id belongs to creditor ' || a.creditor || ' in the ledger, here to '
                           || f.creditor || '; make ids unique in the profile, such as \"' || f.creditor
                           || '-{…}\"' AS reason"
                    .to_owned(),
            )
            .await?;
        found
            .delete(
                connection,
                "DELETE FROM pg_temp.import_row s
                 USING pg_temp.import_account f, ledger.item i, ledger.account a
                 WHERE s.a_account_id = f.account_id AND i.item_id = s.i_item_id AND a.account_id = i.account_id
                   AND a.creditor <> f.creditor
                 RETURNING s.row_no, s.record, 'item.item_id' AS field, s.i_item_id AS value,
                           'this item id belongs to creditor ' || a.creditor || ' in the ledger, here to '
                           || f.creditor || '; make ids unique in the profile, such as \"' || f.creditor
                           || '-{…}\"' AS reason"
                    .to_owned(),
            )
            .await?;
        run(
            connection,
            "DELETE FROM pg_temp.import_account f USING ledger.account a
             WHERE a.account_id = f.account_id AND a.creditor <> f.creditor"
                .to_owned(),
        )
        .await?;
        if !self.contact.columns.is_empty() {
            run(
                connection,
                "DELETE FROM pg_temp.import_contact c
                 WHERE NOT EXISTS (SELECT FROM pg_temp.import_account a WHERE a.account_id = c.account_id)"
                    .to_owned(),
            )
            .await?;
        }
        Ok(())
    }

    /// Brings the ledger up to what the file says, and counts.
    pub(super) async fn write(
        &self,
        connection: &mut PgConnection,
        report: &mut ImportReport,
        payments_as_of: Option<DateTime<FixedOffset>>,
    ) -> Result<(), ImportError> {
        report.covered = covered(connection, payments_as_of).await?;
        report.accounts = upsert(connection, &self.account, "pg_temp.import_account").await?;
        if !self.contact.columns.is_empty() {
            report.contacts = upsert(connection, &self.contact, "pg_temp.import_contact").await?;
        }
        let items = self.item.list(|column| format!("{} AS {}", self.item.staged(column), column.name));
        report.items = upsert(connection, &self.item, &format!("(SELECT {items} FROM pg_temp.import_row)")).await?;
        self.absent(connection, report).await?;
        for covered in &report.covered {
            let earlier: Option<DateTime<Utc>> = sqlx::query_scalar(
                "SELECT payments_as_of FROM ledger.freshness
                 WHERE source = $1 AND creditor = $2 AND payments_as_of > $3",
            )
            .bind(&report.profile)
            .bind(&covered.creditor)
            .bind(covered.payments_as_of)
            .fetch_optional(&mut *connection)
            .await?;
            if let Some(earlier) = earlier {
                report.notes.push(format!(
                    "payments of {} were known up to {}; this file is older",
                    covered.creditor,
                    earlier.to_rfc3339()
                ));
            }
            sqlx::query(
                "INSERT INTO ledger.freshness (source, creditor, invoices_as_of, payments_as_of) VALUES ($1, $2, $3, $3)
                 ON CONFLICT (source, creditor)
                 DO UPDATE SET invoices_as_of = excluded.invoices_as_of, payments_as_of = excluded.payments_as_of",
            )
            .bind(&report.profile)
            .bind(&covered.creditor)
            .bind(covered.payments_as_of)
            .execute(&mut *connection)
            .await?;
        }
        Ok(())
    }

    async fn absent(&self, connection: &mut PgConnection, report: &mut ImportReport) -> Result<(), ImportError> {
        const ABSENT: &str = "FROM ledger.account a, pg_temp.import_creditor c
             WHERE a.account_id = i.account_id AND c.creditor = a.creditor
               AND NOT EXISTS (SELECT FROM pg_temp.import_row s WHERE s.i_item_id = i.item_id)";
        // An item that was rejected is not absent, and its id may be what is wrong with it.
        let may_close = report.scope == Scope::FullOpenItems && report.rejected == 0;
        if may_close {
            report.closed = run(
                connection,
                format!(
                    "UPDATE ledger.item i SET open_amount = 0, settled_on = c.as_of_on {ABSENT} AND i.open_amount <> 0"
                ),
            )
            .await?;
            return Ok(());
        }
        if report.scope == Scope::Delta {
            return Ok(());
        }
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(format!(
            "SELECT count(*) FROM ledger.item i, LATERAL (SELECT {ABSENT}) present"
        )))
        .fetch_one(&mut *connection)
        .await?;
        report.absent = count.unsigned_abs();
        if report.scope == Scope::FullOpenItems {
            report.notes.push("nothing was closed, because rows were rejected: they may be the absent ones".to_owned());
        } else if count > 0 {
            report.notes.push(format!("{count} items of these creditors are not in the file; they were left alone"));
        }
        Ok(())
    }
}

/// Up to when payments are known, per creditor of the file.
async fn covered(
    connection: &mut PgConnection,
    payments_as_of: Option<DateTime<FixedOffset>>,
) -> Result<Vec<Covered>, ImportError> {
    sqlx::query(
        "CREATE TEMPORARY TABLE import_creditor ON COMMIT DROP AS
         SELECT f.creditor, max(s.as_of) AS as_of, max(s.as_of_on) AS as_of_on
         FROM pg_temp.import_row s JOIN pg_temp.import_account f ON f.account_id = s.a_account_id
         GROUP BY f.creditor",
    )
    .execute(&mut *connection)
    .await?;
    if let Some(moment) = payments_as_of {
        sqlx::query("UPDATE pg_temp.import_creditor SET as_of = $1, as_of_on = $2")
            .bind(moment)
            .bind(moment.date_naive())
            .execute(&mut *connection)
            .await?;
    }
    let rows: Vec<(String, Option<DateTime<Utc>>, Option<NaiveDate>)> =
        sqlx::query_as("SELECT creditor, as_of, as_of_on FROM pg_temp.import_creditor ORDER BY creditor COLLATE \"C\"")
            .fetch_all(&mut *connection)
            .await?;
    rows.into_iter()
        .map(|(creditor, as_of, _)| match as_of {
            Some(moment) => Ok(Covered { creditor, payments_as_of: moment.fixed_offset() }),
            None => Err(structure(format!(
                "no row of creditor {creditor} says up to when payments are known; fill the column or give --payments-as-of"
            ))),
        })
        .collect()
}

/// Updates what differs, inserts what is new. Columns that the profile does not map keep their values.
async fn upsert(connection: &mut PgConnection, side: &Side, from: &str) -> Result<Counts, sqlx::Error> {
    let (name, key) = (side.relation.name, side.key);
    let mut sets: Vec<String> = side.values().map(|column| format!("{0} = s.{0}", column.name)).collect();
    let mut differs: Vec<String> =
        side.values().map(|column| format!("t.{0} IS DISTINCT FROM s.{0}", column.name)).collect();
    let reopens = name == "item" && side.columns.iter().all(|column| column.name != "settled_on");
    if reopens {
        // A file of open items has no such column; an item that is open again is not settled.
        sets.push("settled_on = CASE WHEN s.open_amount = 0 THEN t.settled_on END".to_owned());
        differs.push("(s.open_amount <> 0 AND t.settled_on IS NOT NULL)".to_owned());
    }
    let all: i64 =
        sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {from} s"))).fetch_one(&mut *connection).await?;
    let changed = if sets.is_empty() {
        0
    } else {
        let (sets, differs) = (sets.join(", "), differs.join(" OR "));
        run(
            connection,
            format!("UPDATE ledger.{name} t SET {sets} FROM {from} s WHERE t.{key} = s.{key} AND ({differs})"),
        )
        .await?
    };
    let columns = side.list(|column| column.name.to_owned());
    let new = run(
        connection,
        format!(
            "INSERT INTO ledger.{name} ({columns}) SELECT {columns} FROM {from} s
             WHERE NOT EXISTS (SELECT FROM ledger.{name} t WHERE t.{key} = s.{key})"
        ),
    )
    .await?;
    Ok(Counts { new, changed, unchanged: all.unsigned_abs().saturating_sub(new + changed) })
}

/// Runs a statement made of the contract's own names; no text of a file or profile is ever part of one.
async fn run(connection: &mut PgConnection, statement: String) -> Result<u64, sqlx::Error> {
    Ok(sqlx::query(AssertSqlSafe(statement)).execute(connection).await?.rows_affected())
}

/// Takes what the database found wrong to the rejects.
struct Found<'r> {
    profile: &'r Profile,
    rejects: &'r mut Rejects,
    reject_error: &'r (dyn Fn(io::Error) -> ImportError + Sync),
}

impl Found<'_> {
    /// Runs a DELETE that returns row_no, record, field, value and reason.
    async fn delete(&mut self, connection: &mut PgConnection, statement: String) -> Result<(), ImportError> {
        let mut rows = sqlx::query(AssertSqlSafe(statement)).fetch(connection);
        while let Some(row) = rows.try_next().await? {
            let (reject, record) = self.rejected(&row)?;
            self.rejects.add(reject, record.iter()).map_err(self.reject_error)?;
        }
        Ok(())
    }

    fn rejected(&self, row: &PgRow) -> Result<(Reject, StringRecord), sqlx::Error> {
        let line: String = row.try_get("record")?;
        let mut record = StringRecord::new();
        // What we wrote ourselves can be read back.
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(line.as_bytes());
        if reader.read_record(&mut record).is_err() {
            record.clear();
        }
        let number: i64 = row.try_get("row_no")?;
        let field: Option<String> = row.try_get("field")?;
        let value: Option<String> = row.try_get("value")?;
        let reason: String = row.try_get("reason")?;
        Ok((
            Reject::new(
                number.unsigned_abs(),
                field.as_deref().map(|field| self.profile.blamed_column(field)),
                value.as_deref(),
                reason,
            ),
            record,
        ))
    }
}
