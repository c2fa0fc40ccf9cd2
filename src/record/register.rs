//! What people record: holds, disputes, waivers, hand-overs and the pause. Each change is an event with person and
//! reason.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::model::{
    AccountId, Actor, Cause, Event, EventKind, Handover, ItemId, Ladder, LadderName, Money, NoticeState, PromiseState,
    StageName, Waiver,
};

use super::breakers::close_all_breakers;
use super::{RecordError, append, inconsistent, json_text, texts_stored};

/// Why something could not be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    #[error("the ledger has no account {0}")]
    NoSuchAccount(String),
    #[error("account {account} has no item {item}")]
    NoSuchItem { account: String, item: String },
    #[error("there is no hold to release on {0}")]
    NothingToRelease(String),
    #[error("item {item} is promised already, in promise {number}; withdraw that one first")]
    AlreadyPromised { item: ItemId, number: i64 },
    #[error("nothing can be promised on {0}")]
    NothingToPromise(String),
    #[error("{promised} is more than the {open} that is open on the promised items")]
    MoreThanOpen { promised: Money, open: Money },
    #[error("the day of the promise lies before today, {0}")]
    DayIsOver(NaiveDate),
    #[error("account {account} has no {which}")]
    NoSuchPromise { account: String, which: String },
    #[error("promise {number} is {}; only a running one can be withdrawn", state.as_str())]
    NotRunning { number: i64, state: PromiseState },
    #[error("several promises are running; say which one: {0}")]
    WhichPromise(String),
    #[error("item {0} is not withdrawn: it did not vanish from the ledger, or was taken up again")]
    NotWithdrawn(ItemId),
    #[error("account {0} is handed over already")]
    AlreadyHandedOver(String),
    #[error("account {0} is not handed over")]
    NotHandedOver(String),
    #[error("item {0} is in dispute already; end that dispute first")]
    AlreadyDisputed(ItemId),
    #[error("item {0} has no dispute of ours; what the ledger says is ended there")]
    NoDispute(ItemId),
    #[error("stage {stage} of item {item} is in notice {notice}, which is {state}; resolve that one first")]
    OnItsWay { item: ItemId, stage: StageName, notice: Uuid, state: &'static str },
    #[error("stage {stage} is not the next one of item {item}: {instead}")]
    NotTheNextStage { item: ItemId, stage: StageName, instead: String },
    #[error("account {0} has no open case, so it climbs no ladder; its next case takes the one that the ledger names")]
    NoOpenCase(String),
    #[error("the policy has no ladder {name}; it has {known}")]
    NoSuchLadder { name: LadderName, known: String },
    #[error("account {account} climbs ladder {name} already, with the stages of today's policy")]
    ClimbsAlready { account: String, name: LadderName },
    #[error("account {account} has no {which}")]
    NoSuchPlan { account: String, which: String },
    #[error("several plans are running; say which one: {0}")]
    WhichPlan(String),
    #[error("item {item} is in plan {number} already; end or restructure that one")]
    AlreadyPlanned { item: ItemId, number: i64 },
    #[error("{0}")]
    UnfitPlan(String),
    #[error("cause {} is recorded already", .0.as_str())]
    CauseKnown(Cause),
    #[error("there is no such cause to clear on {0}")]
    NoCause(String),
    #[error("item {0} is written off already")]
    AlreadyWrittenOff(ItemId),
    #[error("item {0} has no write-off of ours; what the ledger says is undone there")]
    NotWrittenOff(ItemId),
    #[error("account {account} has no contact {contact}")]
    NoSuchContact { account: String, contact: String },
    #[error("nothing of ours was entered about contact {0}")]
    NoContactEntry(String),
    #[error(
        "what was entered about contact {0} was erased, and it may have been another address: say --email or --no-email as \
         well, or go back to the ledger's words with --remove"
    )]
    EntryErased(String),
    #[error("{0} is the creditor's own domain; a letter would come back to ourselves")]
    OwnDomain(String),
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl From<sqlx::Error> for RegisterError {
    fn from(error: sqlx::Error) -> Self {
        Self::Record(error.into())
    }
}

/// Places a hold on an account or one of its items.
///
/// # Errors
/// When the ledger does not know the account or item, or the database refuses.
pub async fn place_hold(
    connection: &mut PgConnection,
    account: &AccountId,
    item: Option<&ItemId>,
    until: Option<NaiveDate>,
    reason: &str,
    since: NaiveDate,
    actor: &Actor,
) -> Result<i64, RegisterError> {
    let creditor = known(connection, account, item).await?;
    let id = sqlx::query_scalar!(
        "INSERT INTO dunning.hold (account_id, item_id, until, reason, since, placed_by)
         VALUES ($1, $2, $3, $4, $5, $6) RETURNING hold_id",
        account.as_str(),
        item.map(ItemId::as_str),
        until,
        reason,
        since,
        actor.person
    )
    .fetch_one(&mut *connection)
    .await?;
    let facts = json!({ "hold": id.to_string(), "item": item, "since": since, "until": until, "reason": reason });
    append(connection, &[account_event(EventKind::HoldPlaced, &creditor, account, actor, facts)]).await?;
    Ok(id)
}

/// Releases every hold that people placed on an account or one of its items.
///
/// # Errors
/// When there is none, or the database refuses.
pub async fn release_holds(
    connection: &mut PgConnection,
    account: &AccountId,
    item: Option<&ItemId>,
    reason: &str,
    actor: &Actor,
) -> Result<u64, RegisterError> {
    let creditor = known(connection, account, item).await?;
    let holds = end_holds(connection, account, item, false, reason, actor).await?;
    if holds.is_empty() {
        return Err(RegisterError::NothingToRelease(target(account, item)));
    }
    let facts = json!({ "holds": holds, "item": item, "reason": reason });
    append(connection, &[account_event(EventKind::HoldReleased, &creditor, account, actor, facts)]).await?;
    Ok(holds.len() as u64)
}

/// Ends the holds on exactly that target, or its disputes; returns their numbers. Those on an item are its own, also when
/// they were placed while it stood with another account.
async fn end_holds(
    connection: &mut PgConnection,
    account: &AccountId,
    item: Option<&ItemId>,
    disputes: bool,
    reason: &str,
    actor: &Actor,
) -> Result<Vec<String>, RecordError> {
    let ended = sqlx::query_scalar!(
        "UPDATE dunning.hold SET released_by = $4, released_at = clock_timestamp(), release_reason = $5
         WHERE item_id IS NOT DISTINCT FROM $2 AND (item_id IS NOT NULL OR account_id = $1) AND (cause IS NOT NULL) = $3
           AND released_at IS NULL
         RETURNING hold_id",
        account.as_str(),
        item.map(ItemId::as_str),
        disputes,
        actor.person,
        reason
    )
    .fetch_all(connection)
    .await?;
    Ok(numbers(&ended))
}

/// What an entry is about, in words.
pub(super) fn target(account: &AccountId, item: Option<&ItemId>) -> String {
    item.map_or_else(|| format!("account {account}"), |item| format!("item {item}"))
}

/// As the log writes them.
pub(super) fn numbers(ids: &[i64]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

/// Moves the open case of an account to another ladder. What was completed stays so, by the names of the stages.
///
/// # Errors
/// When the account has no open case, or the database refuses.
pub async fn move_case(
    connection: &mut PgConnection,
    account: &AccountId,
    (from, to): (&LadderName, &Ladder),
    reason: &str,
    actor: &Actor,
) -> Result<(), RegisterError> {
    let creditor = known(connection, account, None).await?;
    let body = json_text(to)?;
    let sha256 = texts_stored(connection, "ladder", &body).await?;
    let case = sqlx::query!(
        "SELECT case_id, ladder_sha256 FROM dunning.debt_case WHERE account_id = $1 AND closed_on IS NULL FOR UPDATE",
        account.as_str()
    )
    .fetch_optional(&mut *connection)
    .await?
    .ok_or_else(|| RegisterError::NoOpenCase(account.to_string()))?;
    sqlx::query!("UPDATE dunning.debt_case SET ladder_sha256 = $2 WHERE case_id = $1", case.case_id, sha256)
        .execute(&mut *connection)
        .await?;
    let facts = json!({
        "from": from, "from_sha256": case.ladder_sha256, "to": to.name, "to_sha256": sha256, "reason": reason,
    });
    append(connection, &[account_event(EventKind::CaseMoved, &creditor, account, actor, facts)]).await?;
    Ok(())
}

/// Records that the debtor disputes an item: a hold with a cause, until a person ends it.
///
/// # Errors
/// When the ledger does not know the account or item, a dispute of ours is open, or the database refuses.
pub async fn dispute(
    connection: &mut PgConnection,
    account: &AccountId,
    item: &ItemId,
    cause: Cause,
    reason: &str,
    since: NaiveDate,
    actor: &Actor,
) -> Result<i64, RegisterError> {
    let creditor = known(connection, account, Some(item)).await?;
    let id = sqlx::query_scalar!(
        "INSERT INTO dunning.hold (account_id, item_id, cause, reason, since, placed_by)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (item_id) WHERE cause IS NOT NULL AND released_at IS NULL DO NOTHING RETURNING hold_id",
        account.as_str(),
        item.as_str(),
        cause.as_str(),
        reason,
        since,
        actor.person
    )
    .fetch_optional(&mut *connection)
    .await?
    .ok_or_else(|| RegisterError::AlreadyDisputed(item.clone()))?;
    let facts = json!({ "hold": id.to_string(), "item": item, "cause": cause, "since": since, "reason": reason });
    append(connection, &[account_event(EventKind::DisputeRecorded, &creditor, account, actor, facts)]).await?;
    Ok(id)
}

/// Ends the dispute that a person of ours recorded about an item.
///
/// # Errors
/// When there is none, or the database refuses.
pub async fn end_dispute(
    connection: &mut PgConnection,
    account: &AccountId,
    item: &ItemId,
    reason: &str,
    actor: &Actor,
) -> Result<(), RegisterError> {
    let creditor = known(connection, account, Some(item)).await?;
    let holds = end_holds(connection, account, Some(item), true, reason, actor).await?;
    if holds.is_empty() {
        return Err(RegisterError::NoDispute(item.clone()));
    }
    let facts = json!({ "holds": holds, "item": item, "reason": reason });
    append(connection, &[account_event(EventKind::DisputeResolved, &creditor, account, actor, facts)]).await?;
    Ok(())
}

/// Declares a stage of an item done without a contact, as of the date it was due.
///
/// # Errors
/// When the ledger does not know the account or item, when it is not known what became of a notice of that stage, or
/// when the database refuses.
pub async fn waive(
    connection: &mut PgConnection,
    account: &AccountId,
    waiver: &Waiver,
    since: NaiveDate,
    actor: &Actor,
) -> Result<(), RegisterError> {
    let creditor = known(connection, account, Some(&waiver.item)).await?;
    // Locked, so that the last check of such a notice comes before or after us as a whole.
    let notices = sqlx::query!(
        "SELECT n.notice_id, n.state FROM dunning.notice n JOIN dunning.notice_item i USING (notice_id)
         WHERE i.item_id = $1 AND i.stage = $2 AND i.live ORDER BY n.notice_id FOR UPDATE OF n",
        waiver.item.as_str(),
        waiver.stage.as_str()
    )
    .fetch_all(&mut *connection)
    .await?;
    for row in notices {
        let state =
            NoticeState::parse(&row.state).ok_or_else(|| inconsistent("dunning.notice", "state", &row.state))?;
        if matches!(state, NoticeState::InFlight | NoticeState::Unknown) {
            return Err(RegisterError::OnItsWay {
                item: waiver.item.clone(),
                stage: waiver.stage.clone(),
                notice: row.notice_id,
                state: state.as_str(),
            });
        }
    }
    let recorded = sqlx::query!(
        "INSERT INTO dunning.waiver (account_id, item_id, stage, waived_on, reason, since, waived_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        account.as_str(),
        waiver.item.as_str(),
        waiver.stage.as_str(),
        waiver.on,
        waiver.reason,
        since,
        actor.person
    )
    .execute(&mut *connection)
    .await?;
    if recorded.rows_affected() == 0 {
        return Err(RegisterError::NotTheNextStage {
            item: waiver.item.clone(),
            stage: waiver.stage.clone(),
            instead: "it was waived already".to_owned(),
        });
    }
    let facts = json!({
        "item": waiver.item, "stage": waiver.stage, "due_on": waiver.on.to_string(), "since": since, "reason": waiver.reason,
    });
    append(connection, &[account_event(EventKind::StageWaived, &creditor, account, actor, facts)]).await?;
    Ok(())
}

/// Records that somebody else pursues the account from now on: no automatic contact until it is taken back.
///
/// # Errors
/// When the ledger does not know the account, it is handed over already, or the database refuses.
pub async fn hand_over(
    connection: &mut PgConnection,
    account: &AccountId,
    handover: &Handover,
    actor: &Actor,
) -> Result<i64, RegisterError> {
    let (id, event) = record_handover(connection, account, handover, actor).await?;
    append(connection, &[event]).await?;
    Ok(id)
}

/// Records a hand-over; gives the event, which the caller appends last.
pub(super) async fn record_handover(
    connection: &mut PgConnection,
    account: &AccountId,
    handover: &Handover,
    actor: &Actor,
) -> Result<(i64, Event), RegisterError> {
    let creditor = known(connection, account, None).await?;
    let id = sqlx::query_scalar!(
        "INSERT INTO dunning.handover (creditor, account_id, handed_to, reason, since, handed_by)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (account_id) WHERE back_at IS NULL DO NOTHING
         RETURNING handover_id",
        creditor,
        account.as_str(),
        handover.to,
        handover.reason,
        handover.since,
        actor.person
    )
    .fetch_optional(&mut *connection)
    .await?
    .ok_or_else(|| RegisterError::AlreadyHandedOver(account.to_string()))?;
    sqlx::query!(
        "INSERT INTO dunning.handover_item (handover_id, item_id, currency, open_then)
         SELECT $1, item_id::text, currency::text, open_amount::numeric FROM ledger.item
         WHERE account_id::text = $2 AND NOT dunning.is_settled(open_amount::numeric, settled_on::date, $3)",
        id,
        account.as_str(),
        handover.since
    )
    .execute(&mut *connection)
    .await?;
    let facts =
        json!({ "handover": id.to_string(), "to": handover.to, "since": handover.since, "reason": handover.reason });
    Ok((id, account_event(EventKind::AccountHandedOver, &creditor, account, actor, facts)))
}

/// Takes an account back that was handed over.
///
/// # Errors
/// When the ledger does not know the account, it is not handed over, or the database refuses.
pub async fn take_back(
    connection: &mut PgConnection,
    account: &AccountId,
    reason: &str,
    actor: &Actor,
) -> Result<(), RegisterError> {
    let taken = sqlx::query!(
        "UPDATE dunning.handover SET back_by = $2, back_at = clock_timestamp(), back_reason = $3
         WHERE account_id = $1 AND back_at IS NULL RETURNING handover_id, creditor",
        account.as_str(),
        actor.person,
        reason
    )
    .fetch_optional(&mut *connection)
    .await?;
    // The ledger may not have the account any more, and what left it is held until it is taken back.
    let Some(taken) = taken else {
        known(connection, account, None).await?;
        return Err(RegisterError::NotHandedOver(account.to_string()));
    };
    let facts = json!({ "handover": taken.handover_id.to_string(), "reason": reason });
    append(connection, &[account_event(EventKind::AccountTakenBack, &taken.creditor, account, actor, facts)]).await?;
    Ok(())
}

/// The creditor of an account, when the ledger knows account and item.
///
/// # Errors
/// When it does not, or the database refuses.
pub async fn known(
    connection: &mut PgConnection,
    account: &AccountId,
    item: Option<&ItemId>,
) -> Result<String, RegisterError> {
    let creditor = sqlx::query_scalar!(
        r#"SELECT creditor::text AS "creditor!" FROM ledger.account WHERE account_id::text = $1"#,
        account.as_str()
    )
    .fetch_optional(&mut *connection)
    .await?
    .ok_or_else(|| RegisterError::NoSuchAccount(account.to_string()))?;
    if let Some(item) = item {
        let found = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM ledger.item WHERE item_id::text = $1 AND account_id::text = $2) AS "found!""#,
            item.as_str(),
            account.as_str()
        )
        .fetch_one(connection)
        .await?;
        if !found {
            return Err(RegisterError::NoSuchItem { account: account.to_string(), item: item.to_string() });
        }
    }
    Ok(creditor)
}

pub(super) fn account_event(
    kind: EventKind,
    creditor: &str,
    account: &AccountId,
    actor: &Actor,
    facts: serde_json::Value,
) -> Event {
    Event {
        creditor: Some(creditor.to_owned()),
        account: Some(account.to_string()),
        ..Event::new(kind, actor.clone(), facts)
    }
}

/// Whether everything is stopped.
#[derive(Debug, Clone, Serialize)]
pub struct PauseState {
    /// Set while paused.
    pub reason: Option<String>,
    pub since: Option<DateTime<Utc>>,
    pub by_person: Option<String>,
}

/// Reads the pause.
///
/// # Errors
/// When the database refuses.
pub async fn pause_state(connection: &mut PgConnection) -> Result<PauseState, RecordError> {
    let state =
        sqlx::query_as!(PauseState, "SELECT reason, since, by_person FROM dunning.pause").fetch_one(connection).await?;
    Ok(state)
}

/// Stops everything at once; `false` when it is stopped already.
///
/// # Errors
/// When the database refuses.
pub async fn pause(connection: &mut PgConnection, reason: &str, actor: &Actor) -> Result<bool, RecordError> {
    let changed = sqlx::query!(
        "UPDATE dunning.pause SET reason = $1, since = clock_timestamp(), by_person = $2 WHERE reason IS NULL",
        reason,
        actor.person
    )
    .execute(&mut *connection)
    .await?;
    if changed.rows_affected() == 0 {
        return Ok(false);
    }
    append(connection, &[Event::new(EventKind::Paused, actor.clone(), json!({ "reason": reason }))]).await?;
    Ok(true)
}

/// Lets everything go on, also what waits behind a breaker; `false` when nothing was stopped.
///
/// # Errors
/// When the database refuses.
pub async fn resume(connection: &mut PgConnection, reason: &str, actor: &Actor) -> Result<bool, RecordError> {
    let changed =
        sqlx::query!("UPDATE dunning.pause SET reason = NULL, since = NULL, by_person = NULL WHERE reason IS NOT NULL")
            .execute(&mut *connection)
            .await?;
    let breakers = close_all_breakers(connection).await?;
    if changed.rows_affected() == 0 && breakers == 0 {
        return Ok(false);
    }
    let facts = json!({ "reason": reason, "breakers": breakers.to_string() });
    append(connection, &[Event::new(EventKind::Resumed, actor.clone(), facts)]).await?;
    Ok(true)
}
