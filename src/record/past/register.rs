//! What people recorded about the accounts of a page, and the items that are withdrawn.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use super::{Page, Recorded, account_id, item_id, stage_name};
use crate::model::{
    Cause, ContactEntry, ContactId, ContactRole, Currency, EmailAddress, Handover, HandoverItem, Hold, HoldTarget,
    Money, OnMissed, Plan, PlanInstalment, Promise, PromisedItem, RecordedCause, Waiver, WriteOff,
};
use crate::record::{RecordError, inconsistent, whole};

/// Reads it into the pasts of the page.
pub(super) async fn register(page: &mut Page<'_>, recorded: &Recorded) -> Result<(), RecordError> {
    if recorded.waivers {
        waivers(page).await?;
    }
    if recorded.holds {
        holds(page).await?;
    }
    if recorded.handovers {
        handovers(page).await?;
    }
    if recorded.promises {
        promises(page).await?;
    }
    if recorded.plans {
        plans(page).await?;
    }
    if recorded.causes {
        causes(page).await?;
    }
    if recorded.write_offs {
        write_offs(page).await?;
    }
    if recorded.contacts {
        contacts(page).await?;
    }
    if recorded.calls {
        calls(page).await?;
    }
    if recorded.withdrawn {
        withdrawn(page).await?;
    }
    Ok(())
}

async fn waivers(page: &mut Page<'_>) -> Result<(), RecordError> {
    let waivers = sqlx::query!(
        "SELECT account_id, item_id, stage, waived_on, reason, waived_by, elsewhere FROM dunning.waiver
         WHERE account_id = ANY ($1) AND ($2::date IS NULL OR since <= $2)",
        &page.ids,
        page.as_of
    )
    .fetch_all(&mut *page.connection)
    .await?;
    for row in waivers {
        let waiver = Waiver {
            item: item_id(&row.item_id)?,
            stage: stage_name(&row.stage)?,
            on: row.waived_on,
            reason: row.reason,
            elsewhere: row.elsewhere.then_some(row.waived_by),
        };
        if let Some(past) = page.past(&row.account_id) {
            past.history.waivers.push(waiver);
        }
    }
    Ok(())
}

async fn holds(page: &mut Page<'_>) -> Result<(), RecordError> {
    let holds = sqlx::query!(
        r#"SELECT hold_id, account_id, item_id, until, reason, cause, since FROM dunning.hold
           WHERE account_id COLLATE "C" = ANY ($1) AND ($2::date IS NULL OR since <= $2) AND released_at IS NULL"#,
        &page.ids,
        page.as_of
    )
    .fetch_all(&mut *page.connection)
    .await?;
    for row in holds {
        let target = match &row.item_id {
            Some(item) => HoldTarget::Item(item_id(item)?),
            None => HoldTarget::Account(account_id(&row.account_id)?),
        };
        let cause = row
            .cause
            .map(|text| Cause::parse(&text).ok_or_else(|| inconsistent("dunning.hold", "cause", &text)))
            .transpose()?;
        if let Some(past) = page.past(&row.account_id) {
            let (number, until, reason, since) = (row.hold_id, row.until, row.reason, row.since);
            past.holds.push(Hold { number, target, until, reason, cause, since, handed_over: None });
        }
    }
    Ok(())
}

async fn handovers(page: &mut Page<'_>) -> Result<(), RecordError> {
    let handovers = sqlx::query!(
        r#"SELECT h.handover_id, h.account_id, h.handed_to, h.reason, h.since,
               array_remove(array_agg(i.item_id ORDER BY i.item_id), NULL) AS "items!",
               array_remove(array_agg(i.currency ORDER BY i.item_id), NULL) AS "currencies!",
               array_remove(array_agg(i.open_then ORDER BY i.item_id), NULL) AS "open!: Vec<Decimal>"
           FROM dunning.handover h LEFT JOIN dunning.handover_item i USING (handover_id)
           WHERE h.account_id COLLATE "C" = ANY ($1) AND ($2::date IS NULL OR h.since <= $2) AND h.back_at IS NULL
           GROUP BY h.handover_id"#,
        &page.ids,
        page.as_of
    )
    .fetch_all(&mut *page.connection)
    .await?;
    for row in handovers {
        let items: Result<Vec<HandoverItem>, RecordError> = row
            .items
            .iter()
            .zip(&row.currencies)
            .zip(row.open)
            .map(|((item, code), open_then)| {
                Ok(HandoverItem { item: item_id(item)?, currency: currency(code)?, open_then, vanished: false })
            })
            .collect();
        let handover = Handover {
            to: row.handed_to,
            reason: row.reason,
            since: row.since,
            number: row.handover_id,
            items: items?,
        };
        if let Some(past) = page.past(&row.account_id) {
            past.handover = Some(handover);
        }
    }
    Ok(())
}

async fn promises(page: &mut Page<'_>) -> Result<(), RecordError> {
    let promises = sqlx::query!(
        r#"SELECT p.promise_id, p.account_id, p.amount, p.currency, p.made_on, p.by_day, p.tolerance_days, p.reason,
               p.withdrawn_at IS NOT NULL AS "withdrawn!", p.by_day + p.tolerance_days < $2 AS "over!",
               array_agg(i.item_id ORDER BY i.item_id) AS "items!",
               array_agg(i.open_then ORDER BY i.item_id) AS "open!: Vec<Decimal>"
           FROM dunning.promise p JOIN dunning.promise_item i USING (promise_id)
           WHERE p.account_id COLLATE "C" = ANY ($1) AND ($3::date IS NULL OR p.made_on <= $3)
           GROUP BY p.promise_id"#,
        &page.ids,
        page.today,
        page.as_of
    )
    .fetch_all(&mut *page.connection)
    .await?;
    let over = promises.iter().filter(|row| row.over && !row.withdrawn).map(|row| row.promise_id).collect();
    let in_time = paid_in_time(page, over).await?;
    for row in promises {
        let currency = currency(&row.currency)?;
        let promise = Promise {
            number: row.promise_id,
            amount: Money::new(row.amount, currency),
            made_on: row.made_on,
            by_day: row.by_day,
            tolerance_days: whole("dunning.promise", "tolerance_days", row.tolerance_days)?,
            items: promised(&row.items, row.open)?,
            reason: row.reason,
            withdrawn: row.withdrawn,
            paid_in_time: in_time.get(&row.promise_id).copied(),
        };
        if let Some(past) = page.past(&row.account_id) {
            past.promises.push(promise);
        }
    }
    Ok(())
}

/// What had come in on each of those promises by the end of its last day: what its items had gone down by, and what
/// nobody had allocated. Where the ledger does not tell when something was paid, what is open today counts.
async fn paid_in_time(page: &mut Page<'_>, promises: Vec<i64>) -> Result<BTreeMap<i64, Decimal>, RecordError> {
    if promises.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows = sqlx::query!(
        r#"SELECT p.promise_id, round(least(max(promised.open_then), sum(paid.amount) + max(credit.amount)), 6) AS "paid!"
           FROM (SELECT promise_id, account_id, currency, by_day + tolerance_days AS last_day FROM dunning.promise
                 WHERE promise_id = ANY ($1)) p
           JOIN dunning.promise_item i USING (promise_id)
           LEFT JOIN ledger.item l ON l.item_id::text = i.item_id
           CROSS JOIN LATERAL (SELECT greatest(i.open_then - greatest(coalesce(dunning.open_as_of(i.item_id,
                   l.amount::numeric, l.open_amount::numeric, l.settled_on::date, p.last_day), 0), 0), 0)) paid (amount)
           CROSS JOIN LATERAL (SELECT sum(j.open_then) FROM dunning.promise_item j
                               WHERE j.promise_id = p.promise_id) promised (open_then)
           CROSS JOIN LATERAL (SELECT coalesce(sum(greatest(-dunning.open_as_of(c.item_id::text, c.amount::numeric,
                   c.open_amount::numeric, c.settled_on::date, p.last_day), 0)), 0) FROM ledger.item c
               WHERE c.account_id::text = p.account_id AND c.currency::text = p.currency AND c.amount::numeric < 0
                 AND c.issue_date::date <= p.last_day) credit (amount)
           GROUP BY p.promise_id"#,
        &promises
    )
    .fetch_all(&mut *page.connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.promise_id, row.paid)).collect())
}

async fn plans(page: &mut Page<'_>) -> Result<(), RecordError> {
    let rows = sqlx::query!(
        r#"SELECT p.plan_id, p.version, p.account_id, p.currency, p.agreed_on, p.tolerance_days, p.on_missed, p.reason,
               p.ended_on IS NOT NULL AND ($2::date IS NULL OR p.ended_on <= $2) AS "ended!", items.ids AS "items!",
               items.open AS "open!: Vec<Decimal>", parts.numbers AS "numbers!", parts.days AS "days!",
               parts.amounts AS "amounts!: Vec<Decimal>"
           FROM dunning.plan p
           CROSS JOIN LATERAL (SELECT array_agg(i.item_id ORDER BY i.item_id) AS ids,
                                   array_agg(i.open_then ORDER BY i.item_id) AS open
                               FROM dunning.plan_item i
                               WHERE i.plan_id = p.plan_id AND i.version = p.version) items
           CROSS JOIN LATERAL (SELECT array_agg(i.number ORDER BY i.number) AS numbers,
                                   array_agg(i.due_on ORDER BY i.number) AS days,
                                   array_agg(i.amount ORDER BY i.number) AS amounts
                               FROM dunning.plan_instalment i
                               WHERE i.plan_id = p.plan_id AND i.version = p.version) parts
           WHERE p.account_id COLLATE "C" = ANY ($1) AND ($2::date IS NULL OR p.agreed_on <= $2)"#,
        &page.ids,
        page.as_of
    )
    .fetch_all(&mut *page.connection)
    .await?;
    for row in rows {
        let instalments = row.numbers.iter().zip(row.days).zip(row.amounts);
        let plan = Plan {
            number: row.plan_id,
            version: whole("dunning.plan", "version", row.version)?,
            currency: currency(&row.currency)?,
            agreed_on: row.agreed_on,
            tolerance_days: whole("dunning.plan", "tolerance_days", row.tolerance_days)?,
            on_missed: OnMissed::parse(&row.on_missed)
                .ok_or_else(|| inconsistent("dunning.plan", "on_missed", &row.on_missed))?,
            items: promised(&row.items, row.open)?,
            instalments: instalments
                .map(|((number, due_on), amount)| {
                    let number = whole("dunning.plan_instalment", "number", *number)?;
                    Ok(PlanInstalment { number, due_on, amount })
                })
                .collect::<Result<_, RecordError>>()?,
            reason: row.reason,
            ended: row.ended,
        };
        if let Some(past) = page.past(&row.account_id) {
            past.plans.push(plan);
        }
    }
    Ok(())
}

async fn causes(page: &mut Page<'_>) -> Result<(), RecordError> {
    let causes = sqlx::query!(
        r#"SELECT cause_id, account_id, item_id, cause, reason, since FROM dunning.cause
           WHERE account_id COLLATE "C" = ANY ($1) AND ($2::date IS NULL OR since <= $2) AND cleared_at IS NULL
           ORDER BY cause_id"#,
        &page.ids,
        page.as_of
    )
    .fetch_all(&mut *page.connection)
    .await?;
    for row in causes {
        let recorded = RecordedCause {
            number: row.cause_id,
            cause: Cause::parse(&row.cause).ok_or_else(|| inconsistent("dunning.cause", "cause", &row.cause))?,
            item: row.item_id.as_deref().map(item_id).transpose()?,
            reason: row.reason,
            since: row.since,
        };
        if let Some(past) = page.past(&row.account_id) {
            past.causes.push(recorded);
        }
    }
    Ok(())
}

async fn write_offs(page: &mut Page<'_>) -> Result<(), RecordError> {
    let write_offs = sqlx::query!(
        r#"SELECT account_id, item_id, reason, since FROM dunning.write_off
           WHERE account_id COLLATE "C" = ANY ($1) AND ($2::date IS NULL OR since <= $2) AND undone_at IS NULL
           ORDER BY write_off_id"#,
        &page.ids,
        page.as_of
    )
    .fetch_all(&mut *page.connection)
    .await?;
    for row in write_offs {
        let write_off = WriteOff { item: item_id(&row.item_id)?, reason: row.reason, since: row.since };
        if let Some(past) = page.past(&row.account_id) {
            past.write_offs.push(write_off);
        }
    }
    Ok(())
}

async fn contacts(page: &mut Page<'_>) -> Result<(), RecordError> {
    let rows = sqlx::query!(
        r#"SELECT e.account_id, e.contact_id, e.role, e.no_email, e.language, d.email AS "email?", d.phone AS "phone?",
               d.name AS "name?", d.entry_id IS NULL AS "erased!"
           FROM dunning.contact_entry e LEFT JOIN dunning.contact_data d USING (entry_id)
           WHERE e.account_id COLLATE "C" = ANY ($1) AND ($2::date IS NULL OR e.since <= $2) AND e.ended_at IS NULL
           ORDER BY e.entry_id"#,
        &page.ids,
        page.as_of
    )
    .fetch_all(&mut *page.connection)
    .await?;
    for row in rows {
        let role = |text: String| {
            ContactRole::parse(&text).ok_or_else(|| inconsistent("dunning.contact_entry", "role", &text))
        };
        let entry = ContactEntry {
            contact: ContactId::parse(&row.contact_id)
                .map_err(|_| inconsistent("dunning.contact_entry", "contact_id", &row.contact_id))?,
            role: row.role.map(role).transpose()?,
            email: row
                .email
                .map(|text| EmailAddress::parse(&text))
                .transpose()
                .map_err(|_| inconsistent("dunning.contact_data", "email", "an address that does not parse"))?,
            no_email: row.no_email,
            language: row.language,
            phone: row.phone,
            name: row.name,
            erased: row.erased,
        };
        if let Some(past) = page.past(&row.account_id) {
            past.contacts.push(entry);
        }
    }
    Ok(())
}

async fn calls(page: &mut Page<'_>) -> Result<(), RecordError> {
    let calls = sqlx::query!(
        r#"SELECT account_id, called_on FROM dunning.call
           WHERE account_id COLLATE "C" = ANY ($1) AND ($2::date IS NULL OR called_on <= $2)"#,
        &page.ids,
        page.as_of
    )
    .fetch_all(&mut *page.connection)
    .await?;
    for row in calls {
        if let Some(past) = page.past(&row.account_id) {
            past.history.other_contacts.push(row.called_on);
        }
    }
    Ok(())
}

async fn withdrawn(page: &mut Page<'_>) -> Result<(), RecordError> {
    let withdrawn = sqlx::query!(
        "SELECT account_id, item_id FROM dunning.known_item WHERE account_id = ANY ($1) AND state = 'withdrawn'",
        &page.ids
    )
    .fetch_all(&mut *page.connection)
    .await?;
    for row in withdrawn {
        let item = item_id(&row.item_id)?;
        if let Some(past) = page.past(&row.account_id) {
            past.withdrawn.insert(item);
        }
    }
    Ok(())
}

fn promised(items: &[String], open: Vec<Decimal>) -> Result<Vec<PromisedItem>, RecordError> {
    let items = items.iter().zip(open);
    items.map(|(item, open_then)| Ok(PromisedItem { item: item_id(item)?, open_then, vanished: false })).collect()
}

fn currency(text: &str) -> Result<Currency, RecordError> {
    Currency::parse(text).map_err(|_| inconsistent("dunning.promise", "currency", text))
}
