//! From the staging table to the ledger: update, insert, close, and what the payments now cover.

use chrono::{DateTime, FixedOffset, Utc};
use sqlx::{AssertSqlSafe, PgConnection};

use super::report::{Counts, Covered, ImportReport};
use super::store::{Side, Staging, last_day, run};
use super::{ImportError, ImportOptions, structure};
use crate::ledger::profile::Scope;

impl Staging {
    /// Brings the ledger up to what the file says, and counts.
    pub(super) async fn write(
        &self,
        connection: &mut PgConnection,
        report: &mut ImportReport,
        options: &ImportOptions,
    ) -> Result<(), ImportError> {
        report.covered = covered(connection, options.payments_as_of).await?;
        // An item that was rejected is not absent, and its id may be what is wrong with it.
        let may_close = report.scope == Scope::FullOpenItems && report.rejected == 0;
        if may_close && !options.allow_shrunk {
            refuse_shrunk(connection).await?;
        }
        report.accounts = upsert(connection, &self.account, "pg_temp.import_account").await?;
        if !self.contact.columns.is_empty() {
            report.contacts = upsert(connection, &self.contact, "pg_temp.import_contact").await?;
        }
        let items = self.item.list(|column| format!("{} AS {}", self.item.staged(column), column.name));
        report.items = upsert(connection, &self.item, &format!("(SELECT {items} FROM pg_temp.import_row)")).await?;
        self.absent(connection, report, may_close).await?;
        if report.rejected > 0 {
            for Covered { creditor, .. } in report.covered.drain(..) {
                report.notes.push(format!(
                    "payments of {creditor} are not taken as known up to this file's moment, because rows were rejected and \
                     any of them may be a payment; import them, corrected, with the rest"
                ));
            }
        }
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

    async fn absent(
        &self,
        connection: &mut PgConnection,
        report: &mut ImportReport,
        may_close: bool,
    ) -> Result<(), ImportError> {
        const ABSENT: &str = "FROM ledger.account a, pg_temp.import_creditor c
             WHERE a.account_id = i.account_id AND c.creditor = a.creditor
               AND NOT EXISTS (SELECT FROM pg_temp.import_row s WHERE s.i_item_id = i.item_id)";
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
            report.notes.push(format!("items of these creditors that are not in the file: {count}; left alone"));
        }
        Ok(())
    }
}

/// A file that lacks so many of a creditor's open items is more likely cut off than all of them paid.
async fn refuse_shrunk(connection: &mut PgConnection) -> Result<(), ImportError> {
    let counts: Vec<(String, i64, i64)> = sqlx::query_as(
        "SELECT c.creditor, count(*) FILTER (WHERE s.i_item_id IS NULL), count(*)
         FROM ledger.item i JOIN ledger.account a ON a.account_id = i.account_id
         JOIN pg_temp.import_creditor c ON c.creditor = a.creditor
         LEFT JOIN pg_temp.import_row s ON s.i_item_id = i.item_id
         WHERE i.open_amount <> 0 GROUP BY c.creditor ORDER BY c.creditor COLLATE \"C\"",
    )
    .fetch_all(connection)
    .await?;
    match counts.into_iter().find(|(_, absent, open)| *absent > super::may_lack(*open)) {
        Some((creditor, absent, open)) => Err(ImportError::Shrunk { creditor, absent, open }),
        None => Ok(()),
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
            .bind(last_day(moment))
            .execute(&mut *connection)
            .await?;
    }
    let rows: Vec<(String, Option<DateTime<Utc>>)> =
        sqlx::query_as("SELECT creditor, as_of FROM pg_temp.import_creditor ORDER BY creditor COLLATE \"C\"")
            .fetch_all(&mut *connection)
            .await?;
    rows.into_iter()
        .map(|(creditor, as_of)| match as_of {
            Some(moment) => Ok(Covered { creditor, payments_as_of: moment.fixed_offset() }),
            None => Err(structure(format!(
                "no row of creditor {creditor} says up to when payments are known; fill the column \
                 or give --payments-as-of"
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
