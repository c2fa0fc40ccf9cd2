//! A daemon that dies leaves a state from which the next one goes on, at every point.

use std::time::Duration;

use dunningd::model::{Actor, Fault, Outcome, Phase as Place, Reply as Answer};
use dunningd::record::{self, ClaimedNotice, LastCheck, NextTry, Settled, Settlement};
use uuid::Uuid;

use crate::support::shell::{Office, Setup, day, day_plus};
use crate::support::smtp::{Phase, Reply};

async fn queued() -> Office {
    let office = Office::with(Setup::default().with("MAIL__CONNECTIONS", "1")).await;
    office.accounts(1).await;
    office.scan().await;
    office
}

/// What a worker does first, before it dies.
async fn claim(office: &Office) -> ClaimedNotice {
    let (attempt, token) = (office.shell.clock.new_id(), office.shell.clock.new_id());
    let mut connection = office.shell.pool.acquire().await.unwrap();
    record::claim(&mut connection, &[attempt], token, 150, &[]).await.unwrap().remove(0)
}

/// Whether the last check lets it go.
async fn passes(office: &Office, claimed: &ClaimedNotice) -> bool {
    let check = LastCheck { claimed, today: day(), payments_as_of: None };
    let mut connection = office.shell.pool.acquire().await.unwrap();
    record::in_flight_check(&mut connection, &[check], 900).await.unwrap() == [true]
}

fn accepted() -> Outcome {
    Outcome::Accepted { reply: Answer { code: 250, text: "2.0.0 Ok".into() } }
}

fn deferred(phase: Place) -> Outcome {
    let reply = Some(Answer { code: 451, text: "4.3.0 later".into() });
    Outcome::Deferred { phase, reply, detail: "later".into(), fault: Fault::Recipient }
}

fn actor() -> Actor {
    Actor { os_user: "tester".into(), person: "Tessa".into() }
}

/// Attempts that end in one group.
async fn settle(office: &Office, ended: &[(&ClaimedNotice, Outcome)]) -> Vec<Settled> {
    let next_try = NextTry::After(Duration::from_mins(5));
    let ended: Vec<Settlement<'_>> = ended
        .iter()
        .map(|(claimed, outcome)| Settlement { claimed, outcome, next_try, today: day(), from_journal: false })
        .collect();
    let mut transaction = office.shell.pool.begin().await.unwrap();
    let settled = record::settle(&mut transaction, &ended, Vec::new(), &actor()).await.unwrap();
    transaction.commit().await.unwrap();
    settled
}

async fn sweep(office: &Office) {
    let mut transaction = office.shell.pool.begin().await.unwrap();
    record::sweep(&mut transaction, &actor()).await.unwrap();
    transaction.commit().await.unwrap();
}

/// A notice that did not pass is somebody else's by now: nobody touches it.
async fn is_let_alone(office: &Office, claimed: &ClaimedNotice) {
    assert!(!passes(office, claimed).await);
    let check = LastCheck { claimed, today: day(), payments_as_of: None };
    let mut transaction = office.shell.pool.begin().await.unwrap();
    assert_eq!(record::stopped(&mut transaction, &check, &actor()).await.unwrap(), None);
    transaction.commit().await.unwrap();
}

async fn time_passes(office: &Office) {
    office.sql("UPDATE dunning.notice SET lease_until = clock_timestamp() - interval '1 second'").await;
}

#[tokio::test]
async fn a_claimed_notice_whose_lease_ran_out_is_claimed_again_with_one_try_burnt() {
    let office = queued().await;
    let dead = claim(&office).await;
    assert_eq!(office.deliver().await.accepted, 0, "the lease still runs");
    time_passes(&office).await;
    assert_eq!(office.deliver().await.accepted, 1);
    assert_eq!(office.smtp.received().len(), 1);
    // One for the crash, one for the reply.
    assert_eq!(office.lines("SELECT tries::text FROM dunning.notice").await, ["2"]);
    // Whoever held the first lease may not send any more.
    is_let_alone(&office, &dead).await;
    assert_eq!(office.notices().await, ["A01 friendly accepted"]);
    office.verified().await;
}

#[tokio::test]
async fn an_expired_lease_alone_is_enough_to_be_stopped() {
    let office = queued().await;
    let claimed = claim(&office).await;
    time_passes(&office).await;
    is_let_alone(&office, &claimed).await;
    assert_eq!(office.notices().await, ["A01 friendly claimed"]);
}

#[tokio::test]
async fn of_two_sessions_that_ask_about_one_notice_at_once_only_the_one_whose_claim_stands_may_send() {
    for first in ["the one that lost it", "the one that has it"] {
        let office = queued().await;
        let lost = claim(&office).await;
        time_passes(&office).await;
        let stands = claim(&office).await;
        let mut asked = [&lost, &stands];
        if first == "the one that has it" {
            asked.reverse();
        }
        let checks = asked.map(|claimed| LastCheck { claimed, today: day(), payments_as_of: None });
        let mut connection = office.shell.pool.acquire().await.unwrap();
        let passed = record::in_flight_check(&mut connection, &checks, 900).await.unwrap();
        assert_eq!(passed, asked.map(|claimed| claimed.attempt == stands.attempt), "{first} asks first");
    }
}

#[tokio::test]
async fn of_two_attempts_that_end_at_once_only_the_one_whose_claim_stands_settles_the_notice() {
    let office = queued().await;
    let lost = claim(&office).await;
    time_passes(&office).await;
    let stands = claim(&office).await;
    assert!(passes(&office, &stands).await);
    let refused = Outcome::Refused {
        phase: Place::RcptTo,
        reply: Some(Answer { code: 550, text: "5.1.1 unknown".into() }),
        detail: "refused".into(),
        fault: Fault::Recipient,
    };
    let settled = settle(&office, &[(&lost, refused), (&stands, accepted())]).await;
    assert_eq!(settled, [Settled::Overtaken, Settled::Recorded]);
    assert_eq!(office.notices().await, ["A01 friendly accepted"]);
    assert_eq!(office.lines("SELECT live::text FROM dunning.notice_item").await, ["true"]);
    let told =
        "SELECT kind FROM dunning.event WHERE kind ~ '^(notice_accepted|notice_refused|late_reply)' ORDER BY seq";
    assert_eq!(office.lines(told).await, ["notice_accepted", "late_reply"]);
    office.verified().await;
}

#[tokio::test]
async fn the_attempt_that_was_on_the_wire_is_the_unknown_one_although_an_earlier_claim_was_noted_after_it() {
    let office = queued().await;
    let mut connection = office.shell.pool.acquire().await.unwrap();
    let (attempt, token) = (office.shell.clock.new_id(), office.shell.clock.new_id());
    let ahead = record::claim_ahead(&mut connection, &[attempt], token, 150).await.unwrap().remove(0);
    drop(connection);
    time_passes(&office).await;
    let sends = claim(&office).await;
    assert!(passes(&office, &sends).await);
    assert_eq!(settle(&office, &[(&ahead, deferred(Place::RcptTo))]).await, [Settled::Overtaken]);
    time_passes(&office).await;
    sweep(&office).await;
    let attempts = "SELECT concat_ws(' ', number, outcome, detail) FROM dunning.attempt ORDER BY number";
    assert_eq!(office.lines(attempts).await, ["1 unknown instance_died", "2 deferred later"]);
    // Its journal turns up.
    assert_eq!(settle(&office, &[(&sends, accepted())]).await, [Settled::Recorded]);
    assert_eq!(office.notices().await, ["A01 friendly accepted"]);
    office.verified().await;
}

#[tokio::test]
async fn a_reply_that_comes_while_the_sweep_calls_its_notice_unknown_settles_it_all_the_same() {
    let office = queued().await;
    let sends = claim(&office).await;
    assert!(passes(&office, &sends).await);
    time_passes(&office).await;
    let mut sweeping = office.shell.pool.begin().await.unwrap();
    assert_eq!(record::sweep(&mut sweeping, &actor()).await.unwrap(), 1);
    let committing = async {
        let waits = "pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while office.count(waits).await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        sweeping.commit().await.unwrap();
    };
    let reply = [(&sends, accepted())];
    let (settled, ()) = tokio::join!(settle(&office, &reply), committing);
    assert_eq!(settled, [Settled::Recorded]);
    assert_eq!(office.notices().await, ["A01 friendly accepted"]);
    office.verified().await;
}

#[tokio::test]
async fn what_became_of_a_first_copy_says_nothing_of_a_second_one_unless_it_was_accepted() {
    for (outcome, state) in
        [(deferred(Place::Dot), "A01 friendly unknown instance_died"), (accepted(), "A01 friendly accepted")]
    {
        let office = queued().await;
        let first = claim(&office).await;
        assert!(passes(&office, &first).await);
        time_passes(&office).await;
        sweep(&office).await;
        // A day later it is sent once more, and that one dies as well.
        office.sql("UPDATE dunning.notice SET state = 'queued', reason = NULL").await;
        let second = claim(&office).await;
        assert!(passes(&office, &second).await);
        time_passes(&office).await;
        sweep(&office).await;
        settle(&office, &[(&first, outcome)]).await;
        assert_eq!(office.notices().await, [state]);
    }
}

#[tokio::test]
async fn a_notice_in_flight_is_reclaimed_by_nobody_and_becomes_unknown_when_its_time_is_over() {
    let mut office = queued().await;
    let claimed = claim(&office).await;
    assert!(passes(&office, &claimed).await);
    assert_eq!(office.deliver().await.accepted, 0);
    assert_eq!(office.notices().await, ["A01 friendly in_flight"]);
    assert_eq!(office.verdicts().await, ["A01 notice_pending"]);
    time_passes(&office).await;
    assert_eq!(office.deliver().await.accepted, 0);
    assert_eq!(office.notices().await, ["A01 friendly unknown instance_died"]);
    // Its attempt has an end as well.
    assert_eq!(
        office.lines("SELECT concat_ws(' ', outcome, detail) FROM dunning.attempt WHERE ended_at IS NOT NULL").await,
        ["unknown instance_died"]
    );
    assert_eq!(office.smtp.received().len(), 0);
    office.go_to(day_plus(1)).await;
    assert_eq!(office.verdicts().await, ["A01 previous_stage_incomplete"]);
    assert_eq!(office.tasks().await, ["A01 resolve_notice"]);
    office.verified().await;
}

#[tokio::test]
async fn a_notice_that_kills_every_worker_is_given_up_at_last() {
    let setup = Setup::default().with("MAIL__CONNECTIONS", "1").with("DISPATCH__MAX_TRIES", "3");
    let office = Office::with(setup).await;
    office.accounts(1).await;
    office.scan().await;
    for _ in 0..4 {
        claim(&office).await;
        time_passes(&office).await;
    }
    // Three crashes were enough; this reply is the last word.
    office.smtp.on(Phase::RcptTo, Reply::code(451, "4.7.1 later"));
    office.deliver().await;
    assert_eq!(office.notices().await, ["A01 friendly refused gave_up"]);
}

#[tokio::test]
async fn a_run_that_dies_before_its_release_is_made_good_by_the_next() {
    let office = Office::new().await;
    office.accounts(3).await;
    office.scan().await;
    // As it stood between two pages: the run open, two notices planned, the third account not reached.
    office
        .sql(
            "UPDATE dunning.run SET state = 'running', totals = NULL, digest = NULL, completed_at = NULL;
             UPDATE dunning.notice SET state = 'planned'",
        )
        .await;
    let third: Vec<Uuid> = sqlx::query_scalar("SELECT notice_id FROM dunning.notice WHERE account_id = 'A03'")
        .fetch_all(&office.hand)
        .await
        .unwrap();
    for table in ["message", "notice_item", "notice"] {
        office.sql(format!("DELETE FROM dunning.{table} WHERE notice_id = '{}'", third[0])).await;
    }
    assert_eq!(office.deliver().await.accepted, 0, "what was not released is not sent");
    let run = office.scan().await;
    assert_eq!((run.totals.contacted, run.queued), (3, 3));
    assert_eq!(
        office.notices().await,
        [
            "A01 friendly cancelled run_failed",
            "A02 friendly cancelled run_failed",
            "A01 friendly queued",
            "A02 friendly queued",
            "A03 friendly queued",
        ]
    );
    assert_eq!(
        office.lines("SELECT concat_ws(' ', state, reason) FROM dunning.run ORDER BY started_at").await,
        ["failed instance_died", "completed"]
    );
    assert_eq!(office.facts("run_failed").await, [r#"{"how":"instance_died"}"#]);
    assert_eq!(office.deliver().await.accepted, 3);
    office.verified().await;
}

#[tokio::test]
async fn a_dead_scheduled_run_does_not_keep_the_day_from_its_run() {
    let office = Office::new().await;
    office.accounts(1).await;
    let scheduled = dunningd::daemon::ScanRequest { scheduled: true, ..Office::request() };
    office.scan_as(&scheduled).await.unwrap();
    office.sql("UPDATE dunning.run SET state = 'running'; UPDATE dunning.notice SET state = 'planned'").await;
    assert_eq!(office.scan_as(&scheduled).await.unwrap().0.runs[0].queued, 1);
}
