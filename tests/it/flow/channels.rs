//! Calls, letters and hand-overs: from the decision to the task of a person, and back.

use dunningd::model::CallOutcome;
use dunningd::record::{self, NoteText, Resolution, TaskEnd, TaskEntry, TaskError};

use crate::support::shell::{Office, Setup, day, day_plus};
use crate::support::smtp::{Phase, Reply};

const FRIENDLY: &str = "name = \"friendly\"\ndays = 5\n";
const CALL: &str = "name = \"friendly\"\ndays = 5\nchannels = [\"call\"]\ntemplate = \"call\"\n";
const LETTER: &str = "name = \"friendly\"\ndays = 5\nchannels = [\"letter\", \"email\"]\n";
const HANDOVER: &str = "name = \"friendly\"\ndays = 5\nchannels = [\"handover\"]\ntemplate = \"handover\"\n";

/// One account with one invoice whose first stage is that, scanned on the first day.
async fn after_a_scan(stage: &'static str) -> Office {
    letters(Setup::default().policy(FRIENDLY, stage)).await
}

async fn letters(setup: Setup) -> Office {
    let office = Office::with(setup).await;
    office.accounts(1).await;
    office
        .sql(
            "UPDATE ledger.contact SET phone = '+39 06 1234567';
             UPDATE ledger.account SET postal_address = 'Via Roma 1, 00184 Roma'",
        )
        .await;
    let run = office.scan().await;
    assert_eq!((run.queued, run.tasks), (0, 1));
    assert_eq!(office.notices().await, ["A01 friendly with_person"]);
    office
}

/// What a person says today about the only task.
fn entry() -> TaskEntry<'static> {
    TaskEntry { on: day(), today: day(), outcome: None, to: None, reason: None, note: None }
}

async fn done(office: &Office, entry: TaskEntry<'_>) -> Result<TaskEnd, TaskError> {
    let mut transaction = office.shell.pool.begin().await.unwrap();
    let end = record::task_done(&mut transaction, 1, &entry, &office.shell.actor).await?;
    transaction.commit().await.unwrap();
    Ok(end)
}

async fn called(office: &Office, outcome: CallOutcome) -> TaskEnd {
    done(office, TaskEntry { outcome: Some(outcome), ..entry() }).await.unwrap()
}

#[tokio::test]
async fn a_call_is_a_task_with_its_script_and_nothing_is_sent() {
    let office = after_a_scan(CALL).await;
    assert_eq!(office.tasks().await, ["A01 make_call"]);
    assert_eq!(office.deliver().await.accepted, 0);
    assert_eq!(office.smtp.received().len(), 0);
    let script = office.lines("SELECT recipient || E'\\n' || convert_from(bytes, 'UTF8') FROM dunning.message").await;
    assert!(script[0].starts_with("+39 06 1234567\nTelefonata: fattura n. FT I01\n"), "{}", script[0]);
    assert_eq!(office.verdicts().await, ["A01 notice_pending"]);
    assert_eq!(office.tasks().await, ["A01 make_call"]);
    office.verified().await;
}

#[tokio::test]
async fn a_call_that_was_made_is_recorded_once_and_completes_its_stage() {
    let mut office = after_a_scan(CALL).await;
    let note = NoteText { body: "paga venerdì", salt: [7; 32] };
    let said = TaskEntry { outcome: Some(CallOutcome::Promise), note: Some(note), ..entry() };
    assert_eq!(done(&office, said).await.unwrap(), TaskEnd::Closed);
    assert_eq!(office.notices().await, ["A01 friendly done promise"]);
    assert_eq!(office.tasks().await, [""; 0]);
    assert_eq!(office.count("dunning.call WHERE notice_id IS NOT NULL").await, 1);
    assert_eq!(office.count("dunning.notice WHERE counted_on IS NOT NULL").await, 0);
    assert!(matches!(done(&office, entry()).await, Err(TaskError::Closed(1))));
    assert_eq!(office.verdicts().await, ["A01 too_soon"]);
    office.go_to(day_plus(9)).await;
    office.scan().await;
    assert_eq!(office.deliver().await.accepted, 1);
    assert_eq!(office.notices().await, ["A01 friendly done promise", "A01 firm accepted"]);
    office.verified().await;
}

#[tokio::test]
async fn nobody_answering_leaves_the_task_open_until_it_was_tried_often_enough() {
    let office = after_a_scan(CALL).await;
    assert_eq!(called(&office, CallOutcome::NoAnswer).await, TaskEnd::StaysOpen { tried: 1, attempts: 3 });
    assert_eq!(called(&office, CallOutcome::NoAnswer).await, TaskEnd::StaysOpen { tried: 2, attempts: 3 });
    assert_eq!(office.notices().await, ["A01 friendly with_person"]);
    assert_eq!(called(&office, CallOutcome::NoAnswer).await, TaskEnd::Closed);
    assert_eq!(office.notices().await, ["A01 friendly done no_answer"]);
    assert_eq!(office.count("dunning.call").await, 3);
    office.verified().await;
}

#[tokio::test]
async fn what_was_paid_meanwhile_takes_the_task_away() {
    let office = after_a_scan(CALL).await;
    office.sql("UPDATE ledger.item SET open_amount = 0, settled_on = '2026-03-10'").await;
    assert_eq!(office.verdicts().await, ["A01 nothing_open"]);
    assert_eq!(office.notices().await, ["A01 friendly cancelled paid_before_send"]);
    assert_eq!(office.tasks().await, [""; 0]);
    assert_eq!(office.count("dunning.notice_item WHERE live").await, 0);
    let events = office.events().await;
    assert!(
        events.ends_with(&[
            "notice_cancelled".into(),
            "task_closed".into(),
            "case_closed".into(),
            "run_completed".into()
        ]),
        "{events:?}"
    );
    office.verified().await;
}

#[tokio::test]
async fn a_call_that_nobody_made_lapses_and_the_ladder_goes_on() {
    let mut office = after_a_scan(CALL).await;
    office.go_to(day_plus(7)).await;
    assert_eq!(office.verdicts().await, ["A01 notice_pending"]);
    office.go_to(day_plus(8)).await;
    assert_eq!(office.verdicts().await, ["A01 too_soon"]);
    assert_eq!(office.notices().await, ["A01 friendly lapsed policy"]);
    assert_eq!(office.tasks().await, [""; 0]);
    assert_eq!(office.count("dunning.notice_item WHERE live").await, 1);
    office.verified().await;
}

#[tokio::test]
async fn a_dropped_task_leaves_its_stage_undone() {
    let office = after_a_scan(CALL).await;
    let mut transaction = office.shell.pool.begin().await.unwrap();
    record::task_drop(&mut transaction, 1, "the lawyer calls", &office.shell.actor).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(office.notices().await, ["A01 friendly cancelled dropped"]);
    assert_eq!(office.verdicts().await, ["A01 contact"]);
    assert_eq!(office.notices().await, ["A01 friendly cancelled dropped", "A01 friendly with_person"]);
    office.verified().await;
}

#[tokio::test]
async fn the_email_copy_of_a_letter_goes_out_once_it_was_posted_and_completes_nothing() {
    let office = after_a_scan(LETTER).await;
    assert_eq!(office.tasks().await, ["A01 post_letter"]);
    assert_eq!(office.deliver().await.accepted, 0);
    assert_eq!(done(&office, entry()).await.unwrap(), TaskEnd::CopyQueued);
    assert_eq!(office.notices().await, ["A01 friendly done", "A01 friendly queued"]);
    assert_eq!(office.deliver().await.accepted, 1);
    assert_eq!(office.smtp.messages().len(), 1);
    assert_eq!(office.notices().await, ["A01 friendly done", "A01 friendly accepted"]);
    assert_eq!(office.count("dunning.notice_item WHERE live").await, 1);
    assert_eq!(office.verdicts().await, ["A01 too_soon"]);
    office.verified().await;
}

#[tokio::test]
async fn the_copy_of_a_letter_goes_to_our_own_mailbox_where_everything_does() {
    let setup = Setup { redirect_to: Some("trial@tre-aquiloni.test"), ..Setup::default() };
    let office = letters(setup.policy(FRIENDLY, LETTER)).await;
    assert_eq!(done(&office, entry()).await.unwrap(), TaskEnd::CopyQueued);
    assert_eq!(office.deliver().await.accepted, 1);
    assert_eq!(office.smtp.messages()[0].to, ["trial@tre-aquiloni.test"]);
    assert_eq!(office.notices().await, ["A01 friendly done", "A01 friendly accepted"]);
    office.verified().await;
}

#[tokio::test]
async fn no_copy_goes_out_of_a_letter_that_was_paid_meanwhile() {
    let office = after_a_scan(LETTER).await;
    office.sql("UPDATE ledger.item SET open_amount = 0, settled_on = '2026-03-10'").await;
    assert_eq!(done(&office, entry()).await.unwrap(), TaskEnd::CopyQueued);
    assert_eq!(office.deliver().await.cancelled, 1);
    assert_eq!(office.notices().await, ["A01 friendly done", "A01 friendly cancelled paid_before_send"]);
    office.verified().await;
}

#[tokio::test]
async fn a_letter_whose_text_is_no_longer_true_is_not_posted_but_made_anew() {
    let mut office = after_a_scan(LETTER).await;
    let mut connection = office.shell.pool.acquire().await.unwrap();
    let task = record::task_detail(&mut connection, 1).await.unwrap().unwrap();
    assert_eq!(task.notice.unwrap().post_by, Some(day_plus(5)));
    drop(connection);
    // Day 5 is a Sunday: whoever posted it until then says so on Monday.
    office.go_to(day_plus(6)).await;
    assert_eq!(office.verdicts().await, ["A01 notice_pending"]);
    let late = done(&office, TaskEntry { on: day_plus(6), today: day_plus(6), ..entry() }).await.unwrap_err();
    assert_eq!(
        late.to_string(),
        "task 1: the text of this letter was true until 2026-03-15; if it was posted by then, say when with --on; else \
         do not post it: drop the task (`dunningd task drop 1 --reason …`), and the next scan makes a new letter where \
         one is due"
    );
    assert_eq!(office.notices().await, ["A01 friendly with_person"]);
    office.go_to(day_plus(7)).await;
    assert_eq!(office.verdicts().await, ["A01 contact"]);
    assert_eq!(office.notices().await, ["A01 friendly cancelled expired", "A01 friendly with_person"]);
    assert_eq!(office.tasks().await, ["A01 post_letter"]);
    office.verified().await;
}

#[tokio::test]
async fn a_letter_that_was_posted_in_time_counts_though_it_is_told_later_and_its_copy_stays_away() {
    let mut office = after_a_scan(LETTER).await;
    office.go_to(day_plus(6)).await;
    let posted = TaskEntry { on: day_plus(5), today: day_plus(6), ..entry() };
    assert_eq!(done(&office, posted).await.unwrap(), TaskEnd::CopyQueued);
    assert_eq!(office.lines("SELECT accepted_on::text FROM dunning.notice WHERE state = 'done'").await, ["2026-03-15"]);
    assert_eq!(office.deliver().await.cancelled, 1);
    assert_eq!(office.notices().await, ["A01 friendly done", "A01 friendly cancelled expired"]);
    office.verified().await;
}

#[tokio::test]
async fn a_letter_is_not_posted_after_the_day_by_which_it_asks_for_an_answer() {
    let mut office = after_a_scan(LETTER).await;
    office.sql("UPDATE dunning.notice SET respond_by = '2026-03-12'").await;
    office.go_to(day_plus(3)).await;
    let late = done(&office, TaskEntry { on: day_plus(3), today: day_plus(3), ..entry() }).await;
    assert!(matches!(late, Err(TaskError::TooLate { last, .. }) if last == day_plus(2)));
}

/// A posted letter whose e-mail copy ended with that answer to the final dot.
async fn after_a_copy(answer: Reply) -> (Office, uuid::Uuid) {
    let office = after_a_scan(LETTER).await;
    done(&office, entry()).await.unwrap();
    office.smtp.once(Phase::Dot, answer);
    office.deliver().await;
    assert_eq!(office.tasks().await, [""; 0]);
    assert_eq!(office.verdicts().await, ["A01 too_soon"], "the letter was posted");
    assert_eq!(office.tasks().await, ["A01 resolve_notice"]);
    let copy = office.lines("SELECT notice_id::text FROM dunning.notice WHERE copy_of IS NOT NULL").await.remove(0);
    (office, copy.parse().unwrap())
}

async fn resolve(office: &Office, notice: uuid::Uuid, resolution: Resolution) {
    let mut transaction = office.shell.pool.begin().await.unwrap();
    record::resolve(&mut transaction, notice, resolution, "asked the debtor", &office.shell.actor).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(office.verdicts().await, ["A01 too_soon"]);
    assert_eq!(office.tasks().await, [""; 0]);
    assert_eq!(office.count("dunning.notice_item WHERE live").await, 1, "the letter alone holds its stage");
    office.verified().await;
}

#[tokio::test]
async fn a_person_says_that_a_copy_of_unknown_outcome_was_accepted() {
    let (office, copy) = after_a_copy(Reply::close()).await;
    assert_eq!(office.notices().await, ["A01 friendly done", "A01 friendly unknown"]);
    resolve(&office, copy, Resolution::Accepted).await;
    assert_eq!(office.notices().await, ["A01 friendly done", "A01 friendly accepted resolved"]);
}

#[tokio::test]
async fn a_person_takes_note_of_a_copy_that_was_refused() {
    let (office, copy) = after_a_copy(Reply::code(550, "5.1.1 no such user")).await;
    resolve(&office, copy, Resolution::NotSent).await;
    assert_eq!(office.notices().await, ["A01 friendly done", "A01 friendly cancelled resolved_not_sent"]);
}

#[tokio::test]
async fn a_hand_over_says_to_whom_and_ends_the_automatic_contact() {
    let office = after_a_scan(HANDOVER).await;
    assert_eq!(office.tasks().await, ["A01 hand_over"]);
    assert!(matches!(done(&office, entry()).await, Err(TaskError::Needs { .. })));
    let given = TaskEntry { to: Some("Studio Legale"), reason: Some("no answer"), ..entry() };
    assert_eq!(done(&office, given).await.unwrap(), TaskEnd::Closed);
    assert_eq!(office.verdicts().await, ["A01 handed_over"]);
    office.verified().await;
}

#[tokio::test]
async fn after_the_last_stage_a_person_is_asked_once_for_ever() {
    let setup = Setup::default()
        .policy("name = \"firm\"\ndays = 14\n", "name = \"firm\"\ndays = 14\nenabled = false\n")
        .policy("name = \"final\"\ndays = 28\n", "name = \"final\"\ndays = 28\nenabled = false\n");
    let mut office = Office::with(setup).await;
    office.accounts(1).await;
    office.invoice("I02", "A01", -20, "50.00 EUR").await;
    office.scan().await;
    assert_eq!(office.deliver().await.accepted, 1);
    for n in 1..=50 {
        office.go_to(day_plus(n)).await;
        office.scan().await;
        office.deliver().await;
        if n == 10 {
            assert_eq!(office.tasks().await, ["A01 after_last_stage"]);
            let closed = TaskEntry { on: day_plus(n), today: day_plus(n), reason: Some("written off"), ..entry() };
            assert_eq!(done(&office, closed).await.unwrap(), TaskEnd::Closed);
        }
    }
    let asked = "SELECT concat_ws(' ', subject, closed_at IS NOT NULL) FROM dunning.task ORDER BY task_id";
    assert_eq!(office.lines(asked).await, ["I01 t", "I02 f"]);
    assert_eq!(office.events().await.iter().filter(|kind| *kind == "task_opened").count(), 2);
}
