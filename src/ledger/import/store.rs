//! The database side: a staging table filled by COPY, then everything else set by set.

use std::fmt::Write as _;
use std::io;

use chrono::{DateTime, FixedOffset, NaiveDate, TimeDelta};
use csv::StringRecord;
use futures_util::TryStreamExt as _;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::ImportError;
use super::report::{Reject, Rejects};
use super::row::{Layout, Row};
use crate::ledger::contract::{ACCOUNT, CONTACT, Column, FRESHNESS, ITEM, Relation};
use crate::ledger::profile::{Profile, WhenRowsDisagree};

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

/// The last day of which something is known at that moment. At midnight a day is over, and none of the next is known.
pub(super) fn last_day(moment: DateTime<FixedOffset>) -> NaiveDate {
    (moment - TimeDelta::microseconds(1)).date_naive()
}

/// Writes a row in COPY's text format.
pub(super) fn copy_line(buffer: &mut String, row: u64, record: &StringRecord, good: &Row) {
    let mut original = csv::WriterBuilder::new().from_writer(Vec::new());
    let line = match original.write_record(record).ok().and_then(|()| original.into_inner().ok()) {
        Some(bytes) => String::from_utf8(bytes).unwrap_or_default(),
        None => String::new(),
    };
    let as_of = good.as_of.map(|moment| moment.to_rfc3339());
    let as_of_on = good.as_of.map(|moment| last_day(moment).to_string());
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
pub(super) struct Side {
    pub(super) relation: &'static Relation,
    letter: char,
    pub(super) key: &'static str,
    /// The mapped columns, the key among them.
    pub(super) columns: Vec<&'static Column>,
    only_new: Vec<&'static str>,
}

impl Side {
    fn new(relation: &'static Relation, letter: char, layout: &Layout<'_>) -> Self {
        let mut columns: Vec<_> = layout.fields().filter(|(of, _)| *of == letter).map(|(_, column)| column).collect();
        if letter != 'a' && !columns.is_empty() {
            columns.extend(relation.columns.iter().filter(|column| column.name == "account_id"));
        }
        // Every relation's own id is its first column.
        Self { relation, letter, key: relation.columns[0].name, columns, only_new: layout.only_new.clone() }
    }

    /// The staging column behind a column: contacts and items belong to the account of their row.
    pub(super) fn staged(&self, column: &Column) -> String {
        let letter = if column.name == "account_id" { 'a' } else { self.letter };
        format!("{letter}_{}", column.name)
    }

    pub(super) fn list(&self, of: impl Fn(&Column) -> String) -> String {
        self.columns.iter().map(|column| of(column)).collect::<Vec<_>>().join(", ")
    }

    /// What the file says about what the key names.
    pub(super) fn values(&self) -> impl Iterator<Item = &&'static Column> {
        self.columns.iter().filter(|column| column.name != self.key && !self.only_new.contains(&column.name))
    }
}

/// The staging table of one import: one row per record, the columns of account, contact and item side by side.
pub(super) struct Staging {
    pub(super) account: Side,
    pub(super) contact: Side,
    pub(super) item: Side,
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
                             RETURNING s.row_no, s.record, '{name}.' || (CASE{field} END) AS field,
                             CASE{value} END AS value,
                             '{name} ' || f.{key} || ': ' || (CASE{field} END) || ' is '
                             || coalesce('\"' || (CASE{first} END) || '\"', 'empty') || ' in row ' || f.first_row
                             || '; correct the file, or set when_rows_disagree = \"keep_first\"' AS reason"
                        ),
                    )
                    .await?;
            }
            WhenRowsDisagree::KeepFirst => {
                // What the ledger says stands for the rows that are not in this file.
                let differs = |column: &Column| {
                    format!(
                        "({} OR (h.account_id IS NOT NULL AND t.{1} IS DISTINCT FROM f.{1}))",
                        differs(column),
                        column.name
                    )
                };
                let flags: Vec<String> =
                    side.values().map(|column| format!("bool_or({}) AS {}", differs(column), column.name)).collect();
                let any: Vec<String> = side.values().map(|column| differs(column)).collect();
                run(
                    connection,
                    format!(
                        "CREATE TEMPORARY TABLE import_{name}_differs ON COMMIT DROP AS
                         SELECT f.{key} AS differing, {} FROM pg_temp.import_row s
                         JOIN pg_temp.import_{name} f ON s.{staged_key} = f.{key}
                         LEFT JOIN ledger.{name} t ON t.{key} = f.{key}
                         LEFT JOIN (SELECT DISTINCT i.account_id FROM ledger.item i
                                    LEFT JOIN pg_temp.import_row r ON r.i_item_id = i.item_id
                                    WHERE r.i_item_id IS NULL) h ON h.account_id = t.account_id
                         GROUP BY f.{key} HAVING bool_or({})",
                        flags.join(", "),
                        any.join(" OR ")
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
                        "{name}s whose rows disagree: {count}; kept what the ledger had, else the first row ({}{})",
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
        if !self.contact.columns.is_empty() {
            found
                .delete(
                    connection,
                    "DELETE FROM pg_temp.import_row s
                     USING pg_temp.import_account f, ledger.contact c, ledger.account a
                     WHERE s.a_account_id = f.account_id AND c.contact_id = s.c_contact_id
                       AND a.account_id = c.account_id AND a.creditor <> f.creditor
                     RETURNING s.row_no, s.record, 'contact.contact_id' AS field, s.c_contact_id AS value,
                               'this contact id belongs to creditor ' || a.creditor || ' in the ledger, here to '
                               || f.creditor || '; make ids unique in the profile, such as \"' || f.creditor
                               || '-{…}\"' AS reason"
                        .to_owned(),
                )
                .await?;
            run(
                connection,
                "DELETE FROM pg_temp.import_contact c USING pg_temp.import_account f, ledger.contact t, ledger.account a
                 WHERE f.account_id = c.account_id AND t.contact_id = c.contact_id AND a.account_id = t.account_id
                   AND a.creditor <> f.creditor"
                    .to_owned(),
            )
            .await?;
        }
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
}

/// Runs a statement made of the contract's own names; no text of a file or profile is ever part of one.
pub(super) async fn run(connection: &mut PgConnection, statement: String) -> Result<u64, sqlx::Error> {
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
