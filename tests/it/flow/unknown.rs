//! What nobody knows to be accepted: sent once more where the stage says so, else left to a person.

use chrono::NaiveDate;
use dunningd::daemon::Dispatched;
use dunningd::deliver::{Ending, Journal};
use dunningd::model::{self, AccountId, Actor, CallOutcome, Outcome};
use dunningd::record::{self, Call, ClaimedNotice, LastCheck, Resolution};
use uuid::Uuid;

use crate::support::shell::{Office, Setup, day, day_plus, deliver};
use crate::support::smtp::{Phase, Reply};

fn tessa() -> Actor {
    Actor { os_user: "tester".into(), person: "Tessa".into() }
}

/// One notice in the queue.
async fn queued_with(setup: Setup) -> Office {
    let office = Office::with(setup.with("MAIL__CONNECTIONS", "1")).await;
    office.accounts(1).await;
    assert_eq!(office.scan().await.queued, 1);
    office
}

/// The relay took the first letter, and died before it could say so.
async fn first_reply_swallowed() -> Office {
    first_reply_swallowed_with(Setup::default()).await
}

async fn first_reply_swallowed_with(setup: Setup) -> Office {
    let office = queued_with(setup).await;
    office.smtp.once(Phase::Dot, Reply::close());
    assert_eq!(office.deliver().await, Dispatched { unknown: 1, ..Dispatched::default() });
    office
}

/// So many hours pass by the database's clock, and it is that day.
async fn hours_pass(office: &mut Office, hours: u32, day: NaiveDate) {
    office.sql(format!("UPDATE dunning.notice SET changed_at = changed_at - interval '{hours} hours'")).await;
    office.go_to(day).await;
}

/// The same, until the letter is in the queue again; the relay cannot be reached meanwhile.
async fn queued_again() -> Office {
    queued_again_with(Setup::default()).await
}

async fn queued_again_with(setup: Setup) -> Office {
    let mut office = first_reply_swallowed_with(setup).await;
    hours_pass(&mut office, 25, day_plus(1)).await;
    office.smtp.once(Phase::Greeting, Reply::close());
    assert!(office.deliver().await.relay_error.is_some());
    assert_eq!(office.notices().await, ["A01 friendly queued"]);
    office
}

/// What events say they send again: the kind, and whether the attempt that they name is the first.
async fn resends(office: &Office) -> Vec<String> {
    office
        .lines(
            "SELECT concat_ws(' ', e.kind, a.number) FROM dunning.event e
             CROSS JOIN LATERAL (SELECT convert_from(e.bytes, 'UTF8')::jsonb -> 'event' -> 'facts' ->> 'resend_of') AS f (id)
             JOIN dunning.attempt a ON a.attempt_id = f.id::uuid ORDER BY e.seq",
        )
        .await
}

/// Nothing more of it happens by itself: a person has to look.
async fn is_left_to_a_person(office: &mut Office, reason: &str) {
    assert_eq!(office.notices().await, [format!("A01 friendly unknown{reason}")]);
    assert_eq!(office.count("dunning.notice_item WHERE live").await, 1, "no other notice may take its place");
    let sent = office.smtp.received_count();
    for n in 2..6 {
        hours_pass(office, 25, day_plus(n)).await;
        assert_eq!(office.verdicts().await, ["A01 previous_stage_incomplete"]);
        assert_eq!(office.deliver().await, Dispatched::default());
    }
    assert_eq!(office.smtp.received_count(), sent);
    assert_eq!(office.tasks().await, ["A01 resolve_notice"]);
    office.verified().await;
}

#[tokio::test]
async fn what_was_accepted_twice_has_one_message_id_and_an_event_that_says_so() {
    let mut office = first_reply_swallowed().await;
    hours_pass(&mut office, 25, day_plus(1)).await;
    assert_eq!(office.deliver().await, Dispatched { accepted: 1, ..Dispatched::default() });
    let [first, second] = &office.smtp.received()[..] else { panic!("twice") };
    // The relay took both, and said so once.
    assert_eq!(first.bytes, second.bytes);
    assert_eq!(first.message_id, second.message_id);
    assert_eq!(first.to, second.to);
    assert_eq!(resends(&office).await, ["notice_queued_again 1", "notice_accepted 1"]);
    assert_eq!(
        office.lines("SELECT concat_ws(' ', number, outcome, phase) FROM dunning.attempt ORDER BY number").await,
        ["1 unknown dot", "2 accepted dot"]
    );
    // One notice, one contact, one stage.
    assert_eq!(office.notices().await, ["A01 friendly accepted"]);
    assert_eq!(office.count("dunning.notice_item WHERE live").await, 1);
    for n in 2..8 {
        hours_pass(&mut office, 25, day_plus(n)).await;
        assert_eq!(office.deliver().await, Dispatched::default());
    }
    office.verified().await;
}

#[tokio::test]
async fn a_day_is_left_for_somebody_to_tell_what_became_of_it() {
    let mut office = first_reply_swallowed().await;
    hours_pass(&mut office, 23, day_plus(1)).await;
    assert_eq!(office.verdicts().await, ["A01 previous_stage_incomplete"]);
    assert_eq!(office.tasks().await, ["A01 resolve_notice"]);
    assert_eq!(office.deliver().await, Dispatched::default());
    hours_pass(&mut office, 2, day_plus(1)).await;
    assert_eq!(office.deliver().await.accepted, 1);
    assert_eq!(office.tasks().await, [""; 0]);
    office.verified().await;
}

#[tokio::test]
async fn what_a_person_resolved_is_not_sent_again() {
    for resolution in [Resolution::Accepted, Resolution::NotSent] {
        let mut office = first_reply_swallowed().await;
        let notice: Uuid =
            sqlx::query_scalar("SELECT notice_id FROM dunning.notice").fetch_one(&office.hand).await.unwrap();
        let mut transaction = office.shell.pool.begin().await.unwrap();
        record::resolve(&mut transaction, notice, resolution, "they called", &tessa()).await.unwrap();
        transaction.commit().await.unwrap();
        hours_pass(&mut office, 25, day_plus(1)).await;
        assert_eq!(office.deliver().await, Dispatched::default());
        assert_eq!(resends(&office).await, [""; 0]);
        office.verified().await;
    }
}

#[tokio::test]
async fn a_second_unknown_is_left_to_a_person() {
    let mut office = first_reply_swallowed().await;
    office.smtp.once(Phase::Dot, Reply::close());
    hours_pass(&mut office, 25, day_plus(1)).await;
    assert_eq!(office.deliver().await, Dispatched { unknown: 1, ..Dispatched::default() });
    is_left_to_a_person(&mut office, "").await;
}

#[tokio::test]
async fn what_is_refused_the_second_time_may_have_been_accepted_the_first_time() {
    let mut office = first_reply_swallowed().await;
    office.smtp.once(Phase::RcptTo, Reply::code(550, "5.1.1 unknown"));
    hours_pass(&mut office, 25, day_plus(1)).await;
    office.deliver().await;
    is_left_to_a_person(&mut office, " refused").await;
}

#[tokio::test]
async fn the_second_time_is_tried_again_as_long_as_the_relay_says_later() {
    let mut office = first_reply_swallowed().await;
    office.smtp.once(Phase::RcptTo, Reply::code(451, "4.7.1 later"));
    hours_pass(&mut office, 25, day_plus(1)).await;
    assert_eq!(office.deliver().await.deferred, 1);
    office.sql("UPDATE dunning.notice SET next_try_at = clock_timestamp()").await;
    assert_eq!(office.deliver().await.accepted, 1);
    office.verified().await;
}

#[tokio::test]
async fn what_was_paid_meanwhile_is_cancelled_and_not_sent_again() {
    for entry in [
        "UPDATE ledger.item SET open_amount = 0, settled_on = '2026-03-11'",
        "UPDATE ledger.item SET settled_on = '2026-03-11'",
    ] {
        let mut office = first_reply_swallowed().await;
        office.sql(entry).await;
        hours_pass(&mut office, 25, day_plus(1)).await;
        assert_eq!(office.deliver().await, Dispatched { cancelled: 1, ..Dispatched::default() });
        assert_eq!(office.notices().await, ["A01 friendly cancelled paid_before_send"], "{entry}");
        assert_eq!(office.verdicts().await, ["A01 nothing_open"]);
        assert_eq!(office.smtp.received_count(), 1);
        office.verified().await;
    }
}

#[tokio::test]
async fn what_was_paid_in_part_or_held_meanwhile_is_left_to_a_person() {
    for (entry, reason) in [
        ("UPDATE ledger.item SET open_amount = 40", " paid_before_send"),
        ("UPDATE ledger.item SET hold_reason = 'we talk'", " held_before_send"),
        ("UPDATE ledger.item SET disputed_since = '2026-03-11'", " disputed_before_send"),
    ] {
        let mut office = first_reply_swallowed().await;
        office.sql(entry).await;
        hours_pass(&mut office, 25, day_plus(1)).await;
        assert_eq!(office.deliver().await.cancelled, 1);
        assert_eq!(office.smtp.received_count(), 1);
        assert_eq!(office.notices().await, [format!("A01 friendly unknown{reason}")]);
        assert_eq!(office.count("dunning.notice_item WHERE live").await, 1);
        // Nothing else is written in its place.
        assert_ne!(office.verdicts().await, ["A01 contact"]);
        office.verified().await;
    }
}

#[tokio::test]
async fn what_is_not_true_any_more_is_not_sent_again() {
    let mut office = first_reply_swallowed().await;
    hours_pass(&mut office, 80, day_plus(3)).await;
    assert_eq!(office.deliver().await.cancelled, 1);
    is_left_to_a_person(&mut office, " expired").await;
}

#[tokio::test]
async fn a_pause_keeps_everything_from_being_sent_again() {
    let mut office = first_reply_swallowed().await;
    office.sql("UPDATE dunning.pause SET reason = 'audit'").await;
    hours_pass(&mut office, 25, day_plus(1)).await;
    assert_eq!(office.deliver().await, Dispatched::default());
    assert_eq!(office.notices().await, ["A01 friendly unknown"]);
    office.sql("UPDATE dunning.pause SET reason = NULL").await;
    assert_eq!(office.deliver().await.accepted, 1);
    office.verified().await;
}

#[tokio::test]
async fn in_the_mode_shadow_nothing_is_queued_again() {
    let mut office = first_reply_swallowed().await;
    office.sql("UPDATE dunning.control SET mode = 'shadow'").await;
    hours_pass(&mut office, 25, day_plus(1)).await;
    assert_eq!(office.deliver().await, Dispatched::default());
    assert_eq!(office.notices().await, ["A01 friendly unknown"]);
    assert!(!tells_when_it_goes_out_again(&office).await);
    office.sql("UPDATE dunning.control SET mode = 'live'").await;
    assert!(tells_when_it_goes_out_again(&office).await);
    assert_eq!(office.deliver().await.accepted, 1);
    office.verified().await;
}

async fn tells_when_it_goes_out_again(office: &Office) -> bool {
    let mut connection = office.shell.pool.acquire().await.unwrap();
    let notice: Uuid = sqlx::query_scalar("SELECT notice_id FROM dunning.notice WHERE account_id = 'A01'")
        .fetch_one(&office.hand)
        .await
        .unwrap();
    record::unresolved(&mut connection, notice).await.unwrap().unwrap().resend_at.is_some()
}

#[tokio::test]
async fn whoever_was_contacted_otherwise_meanwhile_is_not_sent_the_letter_again() {
    let mut office = first_reply_swallowed().await;
    let made = Call { outcome: CallOutcome::NoAnswer, text: None, item: None, cause: None, called_on: day_plus(1) };
    let mut connection = office.shell.pool.acquire().await.unwrap();
    assert!(tells_when_it_goes_out_again(&office).await);
    record::log_call(&mut connection, &AccountId::parse("A01").unwrap(), &made, &tessa()).await.unwrap();
    assert!(!tells_when_it_goes_out_again(&office).await);
    hours_pass(&mut office, 25, day_plus(1)).await;
    assert_eq!(office.deliver().await, Dispatched::default());
    is_left_to_a_person(&mut office, "").await;

    // Another account uses the mailbox.
    let setup = Setup::default().policy("contacts = 1\ndays = 7", "contacts = 1\ndays = 1");
    let mut office = first_reply_swallowed_with(setup).await;
    office.account("A02", "it", "conti@a01.test").await;
    office.invoice("I02", "A02", 6, "100.00 EUR").await;
    hours_pass(&mut office, 25, day_plus(1)).await;
    assert_eq!(office.verdicts().await, ["A01 previous_stage_incomplete", "A02 contact"]);
    assert_eq!(office.deliver().await, Dispatched { accepted: 1, ..Dispatched::default() });
    assert_eq!(office.notices().await, ["A01 friendly unknown", "A02 friendly accepted"]);
    assert!(!tells_when_it_goes_out_again(&office).await);
    office.verified().await;
}

#[tokio::test]
async fn a_letter_in_the_queue_again_is_the_contact_of_its_mailbox_on_that_day() {
    for (cap, code) in [("contacts = 1\ndays = 1", "contact_cap"), ("contacts = 2\ndays = 7", "shared_mailbox")] {
        let office = queued_again_with(Setup::default().policy("contacts = 1\ndays = 7", cap)).await;
        office.account("A02", "it", "conti@a01.test").await;
        office.invoice("I02", "A02", 6, "100.00 EUR").await;
        assert_eq!(office.verdicts().await[1], format!("A02 {code}"));
        assert_eq!(office.deliver().await.accepted, 1);
        assert_eq!(office.verdicts().await[1], format!("A02 {code}"));
        office.verified().await;
    }
}

#[tokio::test]
async fn a_stage_with_review_is_never_sent_again() {
    let review = "name = \"friendly\"\ndays = 5\non_unknown = \"review\"\n";
    let mut office = queued_with(Setup::default().policy("name = \"friendly\"\ndays = 5\n", review)).await;
    office.smtp.once(Phase::Dot, Reply::close());
    office.deliver().await;
    is_left_to_a_person(&mut office, "").await;
}

#[tokio::test]
async fn a_letter_that_a_person_drops_before_it_goes_out_again_stays_unknown() {
    let mut office = queued_again().await;
    let notice: Uuid =
        sqlx::query_scalar("SELECT notice_id FROM dunning.notice").fetch_one(&office.hand).await.unwrap();
    let mut transaction = office.shell.pool.begin().await.unwrap();
    record::drop_notices(&mut transaction, &[notice], "they have it", &tessa()).await.unwrap();
    transaction.commit().await.unwrap();
    is_left_to_a_person(&mut office, " dropped").await;
}

/// A worker that got as far as the last check and died; later the sweep came.
async fn died_in_flight(office: &Office) -> ClaimedNotice {
    let (attempt, token) = (office.shell.clock.new_id(), office.shell.clock.new_id());
    let mut connection = office.shell.pool.acquire().await.unwrap();
    let claimed = record::claim(&mut connection, &[attempt], token, 150, &[]).await.unwrap().remove(0);
    let check = LastCheck { claimed: &claimed, today: day(), payments_as_of: None };
    assert_eq!(record::in_flight_check(&mut connection, &[check], 900).await.unwrap(), [true]);
    office.sql("UPDATE dunning.notice SET lease_until = clock_timestamp() - interval '1 second'").await;
    claimed
}

#[tokio::test]
async fn a_journal_that_comes_back_late_ends_the_wish_to_send_again() {
    let mut office = queued_with(Setup::default()).await;
    let claimed = died_in_flight(&office).await;
    assert_eq!(office.deliver().await, Dispatched::default());
    assert_eq!(office.notices().await, ["A01 friendly unknown instance_died"]);
    hours_pass(&mut office, 25, day_plus(1)).await;
    office.smtp.once(Phase::Greeting, Reply::close());
    assert!(office.deliver().await.relay_error.is_some());
    assert_eq!(office.notices().await, ["A01 friendly queued"]);
    // What the dead process left is found only now.
    let journal = Journal::open(office.state.path()).unwrap();
    let (attempt, notice, token) = (claimed.attempt, claimed.notice, claimed.token);
    let outcome = Outcome::Accepted { reply: model::Reply { code: 250, text: "2.0.0 Ok".into() } };
    journal.note(Ending { attempt, notice, token, at: office.shell.clock.wall(), outcome }).unwrap();
    drop(journal);
    assert_eq!(deliver(&office.second_shell().await).await, Dispatched::default());
    assert_eq!(office.notices().await, ["A01 friendly accepted"]);
    assert_eq!(office.smtp.received_count(), 0);
    office.verified().await;
}
