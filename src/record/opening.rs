//! Stages that were reached elsewhere: before dunningd, or beside it.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use serde_json::json;
use sqlx::PgConnection;

use crate::model::{AccountId, Actor, EventKind, ItemId, Waiver};

use super::register::account_event;
use super::{RecordError, append};

/// The accounts of those items, as far as the ledger knows them.
///
/// # Errors
/// When the database refuses.
pub async fn accounts_of(
    connection: &mut PgConnection,
    items: &[ItemId],
) -> Result<BTreeMap<String, (String, String)>, RecordError> {
    let ids: Vec<String> = items.iter().map(ToString::to_string).collect();
    let rows = sqlx::query!(
        r#"SELECT i.item_id::text AS "item!", a.account_id::text AS "account!", a.creditor::text AS "creditor!"
           FROM ledger.item i JOIN ledger.account a ON a.account_id::text = i.account_id::text WHERE i.item_id::text = ANY ($1)"#,
        &ids
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.item, (row.account, row.creditor))).collect())
}

/// The stages of one account that were reached elsewhere.
#[derive(Debug, Clone)]
pub struct Opening {
    pub creditor: String,
    pub account: AccountId,
    pub stages: Vec<Waiver>,
}

/// Records stages reached elsewhere, with one event per account.
///
/// # Errors
/// When one of them is complete already, or the database refuses.
pub async fn import_opening(
    connection: &mut PgConnection,
    openings: &[Opening],
    actor: &Actor,
) -> Result<(), RecordError> {
    let mut events = Vec::new();
    for Opening { creditor, account, stages } in openings {
        let items: Vec<String> = stages.iter().map(|one| one.item.to_string()).collect();
        let names: Vec<String> = stages.iter().map(|one| one.stage.to_string()).collect();
        let days: Vec<NaiveDate> = stages.iter().map(|one| one.on).collect();
        let reasons: Vec<String> = stages.iter().map(|one| one.reason.clone()).collect();
        let people: Vec<String> = stages.iter().map(|one| one.elsewhere.clone().unwrap_or_default()).collect();
        sqlx::query!(
            "INSERT INTO dunning.waiver (account_id, item_id, stage, waived_on, since, reason, waived_by, elsewhere)
             SELECT $1, r.item, r.stage, r.day, r.day, r.reason, r.person, true
             FROM unnest($2::text[], $3::text[], $4::date[], $5::text[], $6::text[])
                 AS r (item, stage, day, reason, person)",
            account.as_str(),
            &items,
            &names,
            &days,
            &reasons,
            &people
        )
        .execute(&mut *connection)
        .await?;
        let listed: Vec<_> = stages
            .iter()
            .map(|one| {
                json!({ "item": one.item, "stage": one.stage, "done_on": one.on.to_string(), "by": one.elsewhere, "reason": one.reason })
            })
            .collect();
        let facts = json!({ "stages": listed });
        events.push(account_event(EventKind::OpeningImported, creditor, account, actor, facts));
    }
    if !events.is_empty() {
        append(connection, &events).await?;
    }
    Ok(())
}
