//! Relations, columns and types.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

use super::check::{MISSING_COLUMN, MISSING_RELATION, NOT_READABLE, Tally, UNKNOWN_COLUMN, WRONG_TYPE};
use super::{Family, RELATIONS};

/// Compares the catalogue with the contract. Says whether the optional `ledger.settlement` exists.
pub(super) async fn check(connection: &mut PgConnection, tally: &mut Tally) -> Result<bool, sqlx::Error> {
    let relations: Vec<(String, bool)> = sqlx::query_as(
        "SELECT c.relname::text,
                has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'ledger' AND c.relkind IN ('r', 'p', 'v', 'm', 'f')",
    )
    .fetch_all(&mut *connection)
    .await?;
    // A domain counts as the type behind it.
    let columns: Vec<(String, String, String, bool)> = sqlx::query_as(
        "SELECT c.relname::text, a.attname::text,
                pg_catalog.format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL), t.typtype = 'e'
         FROM pg_catalog.pg_class c
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
         JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
         WHERE n.nspname = 'ledger' AND c.relkind IN ('r', 'p', 'v', 'm', 'f')",
    )
    .fetch_all(&mut *connection)
    .await?;
    let columns: BTreeMap<(&str, &str), (&str, bool)> = columns
        .iter()
        .map(|(relation, column, type_name, is_enum)| {
            ((relation.as_str(), column.as_str()), (type_name.as_str(), *is_enum))
        })
        .collect();
    let mut has_settlement = false;
    for relation in RELATIONS {
        let object = format!("ledger.{}", relation.name);
        match relations.iter().find(|(name, _)| name == relation.name) {
            None if relation.required => tally.add(&MISSING_RELATION, object),
            None => {}
            Some((_, readable)) => {
                has_settlement |= !relation.required;
                if !readable {
                    tally.add(&NOT_READABLE, object);
                }
                for column in relation.columns {
                    match columns.get(&(relation.name, column.name)) {
                        None => tally.add(&MISSING_COLUMN, format!("{}.{}", relation.name, column.name)),
                        Some((type_name, is_enum)) if !fits(column.family, type_name, *is_enum) => {
                            let wanted = column.family.sql_type();
                            tally.add(
                                &WRONG_TYPE,
                                format!("{}.{} is {type_name}, not {wanted}", relation.name, column.name),
                            );
                        }
                        Some(_) => {}
                    }
                }
                for (_, name) in columns.keys().filter(|(of, _)| *of == relation.name) {
                    if relation.columns.iter().all(|column| column.name != *name) {
                        tally.add(&UNKNOWN_COLUMN, format!("{}.{name}", relation.name));
                    }
                }
            }
        }
    }
    Ok(has_settlement)
}

/// What the database itself guarantees about columns, so that no row has to be asked: (relation, column). Tables may;
/// views promise nothing.
#[derive(Default)]
pub(super) struct Promised {
    pub(super) not_null: BTreeSet<(String, String)>,
    /// No two rows have the same value.
    pub(super) unique: BTreeSet<(String, String)>,
}

impl Promised {
    pub(super) fn is_not_null(&self, relation: &str, column: &str) -> bool {
        self.not_null.contains(&(relation.to_owned(), column.to_owned()))
    }

    pub(super) fn is_unique(&self, relation: &str, column: &str) -> bool {
        self.unique.contains(&(relation.to_owned(), column.to_owned()))
    }
}

/// Reads from the catalogue what the operator's tables guarantee.
pub(super) async fn promised(connection: &mut PgConnection) -> Result<Promised, sqlx::Error> {
    // An index of a parent table says nothing about its children's rows.
    let columns: Vec<(String, String, bool, bool)> = sqlx::query_as(
        "SELECT c.relname::text, a.attname::text, a.attnotnull,
                EXISTS (SELECT FROM pg_catalog.pg_index x
                        WHERE x.indrelid = c.oid AND x.indisunique AND x.indisvalid AND x.indimmediate
                          AND x.indnkeyatts = 1 AND x.indkey[0] = a.attnum AND x.indpred IS NULL)
         FROM pg_catalog.pg_class c
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
         WHERE n.nspname = 'ledger' AND c.relkind = 'r' AND NOT c.relhassubclass AND a.attnotnull",
    )
    .fetch_all(connection)
    .await?;
    let mut promised = Promised::default();
    for (relation, column, not_null, unique) in columns {
        if unique {
            promised.unique.insert((relation.clone(), column.clone()));
        }
        if not_null {
            promised.not_null.insert((relation, column));
        }
    }
    Ok(promised)
}

/// Whether a column of that type can be cast to the contract's without loss. Binary floats cannot: 0.1 is not in them.
fn fits(family: Family, type_name: &str, is_enum: bool) -> bool {
    let is_integer = matches!(type_name, "smallint" | "integer" | "bigint");
    match family {
        // Keys of an ERP are often numbers.
        Family::Text => {
            is_enum
                || is_integer
                || matches!(type_name, "text" | "character varying" | "character" | "name" | "uuid")
                || type_name.ends_with("citext")
        }
        Family::Integer => is_integer,
        Family::Numeric => is_integer || type_name == "numeric",
        // A moment is a day only in some zone, and midnight in Warsaw is the day before in UTC.
        Family::Date => matches!(type_name, "date" | "timestamp without time zone"),
        // Without its zone a moment is none.
        Family::Timestamp => type_name == "timestamp with time zone",
        Family::Boolean => type_name == "boolean",
        Family::Json => matches!(type_name, "json" | "jsonb"),
    }
}
