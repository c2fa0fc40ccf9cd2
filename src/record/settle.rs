//! How attempts ended: the end of an attempt, its notice's state and the event, together.

use std::collections::HashSet;
use std::time::Duration;

use chrono::NaiveDate;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::model::{Actor, CancelReason, Event, EventKind, Fault, NoticeState, Outcome, Phase, Reply, TaskKind};

use super::attempts::{ClaimedNotice, event};
use super::notices::commitment;
use super::{RecordError, append};

/// What happens to a notice that was not accepted this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextTry {
    /// By the database's clock, which alone says what is due.
    After(Duration),
    /// Enough tries: the notice counts as refused.
    GiveUp,
    /// By then its text would no longer be true: it is cancelled, and its account decided again.
    TooLate,
}

/// Whether an outcome could be recorded for a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    Recorded,
    /// The notice was settled otherwise meanwhile, which stands; the log tells what became known late.
    Overtaken,
}

/// The end of an attempt, to be recorded.
#[derive(Debug, Clone)]
pub struct Settlement<'a> {
    pub claimed: &'a ClaimedNotice,
    pub outcome: &'a Outcome,
    pub next_try: NextTry,
    /// The business date on which it is accepted, if it is.
    pub today: NaiveDate,
    /// It was in the journal of an instance that died.
    pub from_journal: bool,
}

/// What a settlement makes of its notice.
struct After {
    state: NoticeState,
    kind: EventKind,
    next_try: Option<Duration>,
    reason: Option<&'static str>,
}

impl Settlement<'_> {
    /// What it makes of the notice.
    #[must_use]
    pub fn becomes(&self) -> NoticeState {
        self.after().state
    }

    fn after(&self) -> After {
        let plain = |state, kind| After { state, kind, next_try: None, reason: None };
        let failed = |reason| After { reason, ..plain(NoticeState::Unknown, EventKind::NoticeUnknown) };
        match (self.outcome, self.next_try) {
            (Outcome::Accepted { .. }, _) => plain(NoticeState::Accepted, EventKind::NoticeAccepted),
            // Its first attempt may have been accepted.
            (Outcome::Refused { .. }, _) if self.claimed.resend_of.is_some() => failed(Some("refused")),
            (Outcome::Deferred { .. }, NextTry::GiveUp) if self.claimed.resend_of.is_some() => failed(Some("gave_up")),
            (Outcome::Deferred { .. }, NextTry::TooLate) if self.claimed.resend_of.is_some() => {
                failed(Some(CancelReason::Expired.as_str()))
            }
            (Outcome::Refused { .. }, _) => plain(NoticeState::Refused, EventKind::NoticeRefused),
            (Outcome::Unknown { .. }, _) => plain(NoticeState::Unknown, EventKind::NoticeUnknown),
            (Outcome::Deferred { .. }, NextTry::After(wait)) => {
                After { next_try: Some(wait), ..plain(NoticeState::Deferred, EventKind::NoticeDeferred) }
            }
            (Outcome::Deferred { .. }, NextTry::GiveUp) => {
                After { reason: Some("gave_up"), ..plain(NoticeState::Refused, EventKind::NoticeRefused) }
            }
            (Outcome::Deferred { .. }, NextTry::TooLate) => {
                let reason = Some(CancelReason::Expired.as_str());
                After { reason, ..plain(NoticeState::Cancelled, EventKind::NoticeCancelled) }
            }
        }
    }

    /// Whether the database may not know yet that the attempt began.
    fn may_be_new(&self) -> bool {
        matches!(self.outcome, Outcome::Deferred { .. } | Outcome::Refused { .. })
    }

    fn phase_and_detail(&self) -> (&'static str, Option<&str>) {
        match self.outcome {
            Outcome::Accepted { .. } => (Phase::Dot.as_str(), None),
            Outcome::Deferred { phase, detail, .. } | Outcome::Unknown { phase, detail } => {
                (phase.as_str(), Some(detail))
            }
            // The relay's own words say it, where it said any.
            Outcome::Refused { phase, reply, detail, .. } => (phase.as_str(), reply.is_none().then_some(detail)),
        }
    }

    /// The words of a reply often hold the address: the log keeps its code and a commitment to the words.
    fn event(&self, actor: &Actor) -> Event {
        let After { kind, reason, .. } = self.after();
        event(kind, self.claimed, actor, self.facts(reason))
    }

    /// What the attempt came to, of a notice that was settled otherwise meanwhile.
    fn late_event(&self, actor: &Actor) -> Event {
        let mut facts = self.facts(None);
        facts["outcome"] = self.outcome.state().as_str().into();
        event(EventKind::LateReply, self.claimed, actor, facts)
    }

    fn facts(&self, reason: Option<&str>) -> serde_json::Value {
        let (claimed, reply) = (self.claimed, self.outcome.reply());
        let mut facts = json!({
            "attempt": claimed.attempt.to_string(), "phase": self.phase_and_detail().0, "stage": claimed.stage,
            "reply_code": reply.map(|reply| reply.code.to_string()),
            "reply_status": reply.and_then(Reply::status).map(|status| status.to_string()),
            "fault": self.outcome.fault().map(Fault::as_str), "reason": reason,
            "reply_commitment": reply.map(|reply| commitment(&claimed.salt, reply.text.as_bytes())),
            "message_commitment": commitment(&claimed.salt, &claimed.bytes),
            "message_id": claimed.message_id, "business_date": self.today.to_string(),
            "gave_up": reason == Some("gave_up"),
        });
        if self.from_journal {
            facts["from_journal"] = true.into();
        }
        if let Some(first) = claimed.resend_of.filter(|first| *first != claimed.attempt) {
            facts["resend_of"] = first.to_string().into();
        }
        facts
    }
}

/// Records how attempts ended: attempts, states, liveness and events in the caller's transaction, with what else is to be
/// said of them. A notice that the sweep
/// called `unknown` meanwhile, because its instance was thought dead, is settled as well: now it is known. The answers
/// come in the order of the settlements.
///
/// # Errors
/// When the database refuses.
pub async fn settle(
    connection: &mut PgConnection,
    settlements: &[Settlement<'_>],
    mut events: Vec<Event>,
    actor: &Actor,
) -> Result<Vec<Settled>, RecordError> {
    let mut moved = move_notices(connection, settlements).await?;
    if moved.len() < settlements.len() {
        // Where the sweep was quicker by a moment, what it wrote can only be seen by another statement.
        let is_moved = |one: &Settlement<'_>| moved.iter().any(|row| row.attempt == one.claimed.attempt);
        let others: Vec<Settlement<'_>> = settlements.iter().filter(|one| !is_moved(one)).cloned().collect();
        moved.extend(move_notices(connection, &others).await?);
    }
    let (mut attempts, mut outcomes, mut phases) = (Vec::new(), Vec::new(), Vec::new());
    let (mut codes, mut texts, mut details) = (Vec::new(), Vec::new(), Vec::new());
    for one in settlements {
        let (phase, detail) = one.phase_and_detail();
        let reply = one.outcome.reply();
        attempts.push(one.claimed.attempt);
        outcomes.push(one.outcome.state().as_str().to_owned());
        phases.push(phase.to_owned());
        codes.push(reply.map(|reply| i32::from(reply.code)));
        texts.push(reply.map(|reply| reply.text.clone()));
        details.push(detail.map(str::to_owned));
    }
    // What ended before its last check may have been claimed ahead: then nothing tells yet that it began.
    let unsent: Vec<&Settlement<'_>> = settlements.iter().filter(|one| one.may_be_new()).collect();
    if !unsent.is_empty() {
        let attempts: Vec<Uuid> = unsent.iter().map(|one| one.claimed.attempt).collect();
        let notices: Vec<Uuid> = unsent.iter().map(|one| one.claimed.notice).collect();
        sqlx::query!(
            "INSERT INTO dunning.attempt (attempt_id, notice_id, number, started_at)
             SELECT e.attempt_id, e.notice_id,
                 (SELECT count(*) + 1 FROM dunning.attempt a WHERE a.notice_id = e.notice_id), clock_timestamp()
             FROM unnest($1::uuid[], $2::uuid[]) AS e (attempt_id, notice_id)
             WHERE EXISTS (SELECT FROM dunning.message m WHERE m.notice_id = e.notice_id)
             ON CONFLICT DO NOTHING",
            &attempts,
            &notices
        )
        .execute(&mut *connection)
        .await?;
    }
    // What was stored already, because a commit of which nobody heard went through, is not news. Where the letter was
    // erased meanwhile, what the relay said of it is not kept either.
    let noted = sqlx::query_scalar!(
        "UPDATE dunning.attempt a
         SET outcome = e.outcome, phase = e.phase, reply_code = e.code, reply_text = e.words, detail = e.detail,
             ended_at = clock_timestamp()
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::int[], $5::text[], $6::text[])
             AS e (attempt_id, outcome, phase, code, words, detail)
         WHERE a.attempt_id = e.attempt_id
           AND (a.ended_at IS NULL OR (a.outcome, a.phase, a.reply_code, a.reply_text, a.detail)
                                      IS DISTINCT FROM (e.outcome, e.phase, e.code, e.words, e.detail))
           AND EXISTS (SELECT FROM dunning.message m WHERE m.notice_id = a.notice_id)
         RETURNING a.attempt_id",
        &attempts,
        &outcomes,
        &phases,
        &codes as &[Option<i32>],
        &texts as &[Option<String>],
        &details as &[Option<String>]
    )
    .fetch_all(&mut *connection)
    .await?;
    // One that lost its claim may end together with the one that has it now.
    let recorded_now: HashSet<Uuid> = moved.iter().map(|row| row.attempt).collect();
    let recorded = |one: &Settlement<'_>| recorded_now.contains(&one.claimed.attempt);
    // What went to a mailbox of our own completes no stage: the next run may write again.
    let dead: Vec<Uuid> = settlements
        .iter()
        .filter(|one| {
            let state = one.after().state;
            matches!(state, NoticeState::Refused | NoticeState::Cancelled)
                || one.claimed.redirected && state != NoticeState::Deferred
        })
        .filter(|one| recorded(one))
        .map(|one| one.claimed.notice)
        .collect();
    if !dead.is_empty() {
        sqlx::query!("UPDATE dunning.notice_item SET live = false WHERE notice_id = ANY ($1)", &dead)
            .execute(&mut *connection)
            .await?;
    }
    let known_now: Vec<String> = moved.iter().filter(|row| row.was_unknown).map(|row| row.notice.to_string()).collect();
    if !known_now.is_empty() {
        close_resolve_tasks(connection, &known_now).await?;
    }
    let late = |one: &&Settlement<'_>| !recorded(one) && noted.contains(&one.claimed.attempt);
    events.extend(settlements.iter().filter(|one| recorded(one)).map(|one| one.event(actor)));
    events.extend(settlements.iter().filter(late).map(|one| one.late_event(actor)));
    if !events.is_empty() {
        append(connection, &events).await?;
    }
    let answer = |one| if recorded(one) { Settled::Recorded } else { Settled::Overtaken };
    Ok(settlements.iter().map(answer).collect())
}

/// A notice that was settled.
struct Moved {
    notice: Uuid,
    attempt: Uuid,
    was_unknown: bool,
}

/// Settles the notices of those attempts whose claim stands, or of which nobody knew how they ended.
async fn move_notices(
    connection: &mut PgConnection,
    settlements: &[Settlement<'_>],
) -> Result<Vec<Moved>, RecordError> {
    let (mut notices, mut tokens, mut attempts, mut states) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut accepted_on, mut waits, mut burnt, mut reasons) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for one in settlements {
        let after = one.after();
        notices.push(one.claimed.notice);
        tokens.push(one.claimed.token);
        attempts.push(one.claimed.attempt);
        states.push(after.state.as_str().to_owned());
        accepted_on.push(matches!(one.outcome, Outcome::Accepted { .. }).then_some(one.today));
        waits.push(after.next_try.map(|wait| wait.as_secs_f64()));
        burnt.push(i32::from(!one.outcome.fault().is_some_and(Fault::is_ours)));
        reasons.push(after.reason.map(str::to_owned));
    }
    let moved = sqlx::query_as!(
        Moved,
        r#"WITH e AS (
             SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::date[], $6::float8[], $7::int[],
                                  $8::text[])
                 AS e (notice_id, token, attempt_id, state, accepted_on, wait, burnt, reason)),
         old AS (
             SELECT e.*, n.state = 'unknown' AS was_unknown FROM dunning.notice n JOIN e USING (notice_id)
             WHERE n.lease_token = e.token AND n.state IN ('claimed', 'in_flight')
                OR n.state = 'unknown' AND n.reason = 'instance_died' AND NOT n.redirected
                   AND EXISTS (SELECT FROM dunning.attempt a
                               WHERE a.attempt_id = e.attempt_id AND a.notice_id = n.notice_id
                                 AND a.detail = 'instance_died'
                                 -- Of one that was sent again only an acceptance says what became of the notice.
                                 AND (e.state = 'accepted'
                                      OR NOT EXISTS (SELECT FROM dunning.attempt l
                                                     WHERE l.notice_id = a.notice_id AND l.number > a.number)))
                -- Accepted at first, as a journal tells when it is in the queue again: then that is enough.
                OR n.resend_of = e.attempt_id AND e.state = 'accepted'
                   AND n.state IN ('queued', 'deferred', 'claimed', 'unknown')
             FOR UPDATE OF n)
         UPDATE dunning.notice n
         SET state = old.state, accepted_on = old.accepted_on, next_try_at = clock_timestamp() + make_interval(secs => old.wait), tries = n.tries + old.burnt,
             reason = old.reason, lease_token = NULL, changed_at = clock_timestamp()
         FROM old WHERE n.notice_id = old.notice_id
         RETURNING n.notice_id AS notice, old.attempt_id AS "attempt!", old.was_unknown AS "was_unknown!""#,
        &notices,
        &tokens,
        &attempts,
        &states,
        &accepted_on as &[Option<NaiveDate>],
        &waits as &[Option<f64>],
        &burnt,
        &reasons as &[Option<String>]
    )
    .fetch_all(connection);
    Ok(moved.await?)
}

/// Nobody has to find out any more what became of these notices.
pub(super) async fn close_resolve_tasks(connection: &mut PgConnection, notices: &[String]) -> Result<(), RecordError> {
    sqlx::query!(
        "UPDATE dunning.task SET closed_at = clock_timestamp()
         WHERE kind = $1 AND subject = ANY ($2) AND closed_at IS NULL",
        TaskKind::ResolveNotice.as_str(),
        notices
    )
    .execute(connection)
    .await?;
    Ok(())
}
