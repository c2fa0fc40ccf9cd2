//! Calls, letters and hand-overs: from the decision to the task of a person, and back.

use dunningd::daemon::{self, EntryError};
use dunningd::model::CallOutcome;
use dunningd::record::{self, NoteText, Resolution, TaskEnd, TaskEntry, TaskError};
use mail_parser::MessageParser;

use crate::support::shell::{Office, Setup, day, day_plus};
use crate::support::smtp::{Phase, Reply};

const FRIENDLY: &str = "name = \"friendly\"\ndays = 5\n";
const FIRM: &str = "name = \"firm\"\ndays = 14\n";
const CALL: &str = "name = \"friendly\"\ndays = 5\nchannels = [\"call\"]\ntemplate = \"call\"\n";
const LETTER: &str = "name = \"friendly\"\ndays = 5\nchannels = [\"letter\", \"email\"]\n";
const FORMAL: &str = "name = \"friendly\"\ntone = \"formal\"\ntemplate = \"formal\"\ndays = 5\nchannels = [\"letter\", \"email\"]\n\
                      respond_within = 14\nrespond_within_of_persons = { GB = 30 }\n";
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
    TaskEntry { on: None, today: day(), outcome: None, item: None, no_cause: false, to: None, reason: None, note: None }
}

async fn done(office: &Office, entry: TaskEntry<'_>) -> Result<TaskEnd, TaskError> {
    daemon::task_done(&office.shell, 1, &entry).await.map_err(|error| match error {
        EntryError::Task(error) => error,
        other => panic!("{other}"),
    })
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
async fn what_a_call_tells_of_its_cause_is_recorded_with_it_and_stops_what_the_policy_says() {
    let mut office = after_a_scan(CALL).await;
    let item = dunningd::model::ItemId::parse("I01").unwrap();
    let said = TaskEntry { outcome: Some(CallOutcome::Dispute), item: Some(&item), ..entry() };
    assert_eq!(done(&office, said).await.unwrap(), TaskEnd::Closed);
    assert_eq!(
        office.lines("SELECT concat_ws(' ', cause, item_id, since) FROM dunning.cause").await,
        ["dispute I01 2026-03-10"]
    );
    office.go_to(day_plus(20)).await;
    assert_eq!(office.verdicts().await, ["A01 all_items_out"]);
    assert_eq!(office.tasks().await, ["A01 settle_dispute"]);
    office.verified().await;

    let office = after_a_scan(CALL).await;
    let said = TaskEntry { outcome: Some(CallOutcome::Dispute), no_cause: true, ..entry() };
    assert_eq!(done(&office, said).await.unwrap(), TaskEnd::Closed);
    assert_eq!(office.count("dunning.cause").await, 0);
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

/// One account with an item whose second stage is a call, and one that the call takes along.
async fn calling_about_two() -> Office {
    let firm = "name = \"firm\"\ndays = 14\n";
    let call = "name = \"firm\"\ndays = 14\nchannels = [\"call\"]\ntemplate = \"call\"\nattempts = 1\n";
    let mut office = Office::with(Setup::default().policy(firm, call)).await;
    office.accounts(1).await;
    office.invoice("I02", "A01", -3, "50.00 EUR").await;
    office.sql("UPDATE ledger.contact SET phone = '+39 06 1234567'").await;
    office.scan().await;
    assert_eq!(office.deliver().await.accepted, 1);
    office.go_to(day_plus(9)).await;
    assert_eq!(office.verdicts().await, ["A01 contact"]);
    let items = "SELECT item_id || ' ' || i.stage FROM dunning.notice_item i JOIN dunning.notice n USING (notice_id)
                 WHERE n.state = 'with_person' ORDER BY 1";
    assert_eq!(office.lines(items).await, ["I01 firm", "I02 friendly"]);
    office
}

#[tokio::test]
async fn who_was_never_called_is_reminded_in_writing_of_what_the_call_took_along() {
    let mut office = calling_about_two().await;
    office.go_to(day_plus(17)).await;
    assert_eq!(office.verdicts().await, ["A01 contact"]);
    let letters = ["A01 friendly accepted", "A01 firm lapsed policy", "A01 friendly queued"];
    assert_eq!(office.notices().await, letters);
    office.verified().await;
}

#[tokio::test]
async fn who_never_answered_is_reminded_in_writing_of_what_the_calls_took_along() {
    let mut office = calling_about_two().await;
    let said = TaskEntry { outcome: Some(CallOutcome::NoAnswer), on: None, today: day_plus(9), ..entry() };
    assert_eq!(done(&office, said).await.unwrap(), TaskEnd::Closed);
    office.go_to(day_plus(16)).await;
    assert_eq!(office.verdicts().await, ["A01 contact"]);
    let letters = ["A01 friendly accepted", "A01 firm done no_answer", "A01 friendly queued"];
    assert_eq!(office.notices().await, letters);
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
    let sent = office.smtp.messages();
    assert_eq!(sent.len(), 1);
    let copy = MessageParser::default().parse(&sent[0].bytes).unwrap();
    let copy = copy.body_text(0).unwrap().replace("\r\n", "\n");
    let says_so = "Copia per conoscenza. L'originale della presente è stato spedito per posta.\n\n";
    let words = copy.strip_prefix(says_so).unwrap_or_else(|| panic!("{copy}"));
    let paper = office
        .lines("SELECT convert_from(bytes, 'UTF8') FROM dunning.message JOIN dunning.notice USING (notice_id) WHERE state = 'done'")
        .await;
    assert!(paper[0].trim_end().ends_with(words.trim_end()), "{}", paper[0]);
    assert_eq!(office.notices().await, ["A01 friendly done", "A01 friendly accepted"]);
    assert_eq!(office.count("dunning.notice_item WHERE live").await, 1);
    assert_eq!(office.verdicts().await, ["A01 too_soon"]);
    office.verified().await;
}

#[tokio::test]
async fn the_copy_of_a_letter_keeps_the_hours_of_the_letter() {
    let office = after_a_scan(LETTER).await;
    office
        .sql(
            "UPDATE dunning.notice SET not_before = now() + interval '1 hour',
                 send_windows = tstzmultirange(tstzrange(now() + interval '1 hour', now() + interval '9 hours'))",
        )
        .await;
    assert_eq!(done(&office, entry()).await.unwrap(), TaskEnd::CopyQueued);
    assert_eq!(office.deliver().await.accepted, 0);
    assert_eq!(office.notices().await, ["A01 friendly done", "A01 friendly queued"]);
    // Two hours later.
    office
        .sql(
            "UPDATE dunning.notice SET not_before = not_before - interval '2 hours',
                 send_windows = tstzmultirange(tstzrange(lower(send_windows) - interval '2 hours', upper(send_windows)))",
        )
        .await;
    assert_eq!(office.deliver().await.accepted, 1);
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
async fn a_letter_of_which_something_was_paid_is_not_posted_but_made_anew() {
    let office = after_a_scan(LETTER).await;
    office.sql("UPDATE ledger.item SET open_amount = 40").await;
    let refused = done(&office, entry()).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "task 1: do not post it any more. Something it demands was paid, in full or in part. Item I01: 100.00 EUR was \
         demanded, 40.00 EUR is to pay. The next scan takes the task back and decides anew; if it was posted before that, \
         say when with --on"
    );
    assert_eq!(office.notices().await, ["A01 friendly with_person"]);
    assert_eq!(office.verdicts().await, ["A01 contact"]);
    assert_eq!(office.notices().await, ["A01 friendly cancelled paid_before_send", "A01 friendly with_person"]);
    assert_eq!(office.lines("SELECT to_pay::text FROM dunning.notice_item WHERE live").await, ["40"]);
    assert_eq!(office.tasks().await, ["A01 post_letter"]);
    office.verified().await;
}

#[tokio::test]
async fn no_copy_goes_out_of_a_letter_that_was_paid_meanwhile() {
    let office = after_a_scan(LETTER).await;
    assert_eq!(done(&office, entry()).await.unwrap(), TaskEnd::CopyQueued);
    office.sql("UPDATE ledger.item SET open_amount = 0, settled_on = '2026-03-10'").await;
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
    let late = done(&office, TaskEntry { on: None, today: day_plus(6), ..entry() }).await.unwrap_err();
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
    let posted = TaskEntry { on: Some(day_plus(5)), today: day_plus(6), ..entry() };
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
    let late = done(&office, TaskEntry { on: None, today: day_plus(3), ..entry() }).await;
    assert!(matches!(late, Err(TaskError::TooLate { last, .. }) if last == day_plus(2)));
}

#[tokio::test]
async fn a_letter_that_was_posted_before_something_was_paid_counts_and_its_copy_stays_away() {
    let mut office = after_a_scan(LETTER).await;
    office.go_to(day_plus(2)).await;
    office
        .sql(
            "UPDATE ledger.item SET open_amount = 40;
             INSERT INTO ledger.settlement VALUES ('I01', '2026-03-12', 60)",
        )
        .await;
    let told = |on| TaskEntry { on, today: day_plus(2), ..entry() };
    assert!(matches!(done(&office, told(None)).await, Err(TaskError::NotRight { .. })));
    assert_eq!(done(&office, told(Some(day_plus(1)))).await.unwrap(), TaskEnd::CopyQueued);
    assert!(!office.facts("notice_done").await[0].contains("not_right"));
    assert_eq!(office.deliver().await.cancelled, 1);
    assert_eq!(office.notices().await, ["A01 friendly done", "A01 friendly cancelled paid_before_send"]);
    office.verified().await;
}

/// A posted letter that nobody has entered, when 60 EUR of its 100 come in.
async fn posted_and_part_paid(stage: &'static str) -> Office {
    let office = after_a_scan(stage).await;
    office.sql("UPDATE ledger.item SET open_amount = 40").await;
    office
}

/// What is said two days later, after the scan of the next day.
fn told_later(on: chrono::NaiveDate) -> TaskEntry<'static> {
    TaskEntry { on: Some(on), today: day_plus(2), ..entry() }
}

#[tokio::test]
async fn on_which_day_a_letter_was_posted_is_a_fact_whatever_is_known_now() {
    for (on, today) in [(day(), day()), (day_plus(1), day_plus(1)), (day(), day_plus(1))] {
        let mut office = posted_and_part_paid(LETTER).await;
        office.go_to(today).await;
        let posted = TaskEntry { on: Some(on), today, ..entry() };
        assert_eq!(done(&office, posted).await.unwrap(), TaskEnd::CopyQueued);
        let facts = office.facts("notice_done").await;
        assert!(facts[0].contains(r#""not_right":"paid_before_send""#), "{facts:?}");
        assert_eq!(office.deliver().await.cancelled, 1, "its copy");
        assert_eq!(office.verdicts().await, ["A01 too_soon"]);
        assert_eq!(office.tasks().await, [""; 0]);
        office.verified().await;
    }
}

#[tokio::test]
async fn a_posted_letter_that_a_scan_took_back_counts_once_it_is_told_and_takes_away_what_took_its_place() {
    let mut office = posted_and_part_paid(LETTER).await;
    office.go_to(day_plus(1)).await;
    assert_eq!(office.verdicts().await, ["A01 contact"]);
    assert_eq!(office.notices().await, ["A01 friendly cancelled paid_before_send", "A01 friendly with_person"]);
    office.go_to(day_plus(2)).await;

    let refused = done(&office, TaskEntry { today: day_plus(2), ..entry() }).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "task 1 was taken back on 2026-03-11: Something it demands was paid, in full or in part. If it was posted by then, \
         say when with --on; if it was later, write it down with `dunningd note`"
    );
    let later = done(&office, told_later(day_plus(2))).await;
    assert!(matches!(later, Err(TaskError::TakenBack { on, .. }) if on == day_plus(1)));
    assert_eq!(done(&office, told_later(day_plus(1))).await.unwrap(), TaskEnd::DoneBefore { cancelled: 1 });
    assert_eq!(office.notices().await, ["A01 friendly done", "A01 friendly cancelled done_before"]);
    assert_eq!(office.tasks().await, [""; 0]);
    let counted = "SELECT concat_ws(' ', accepted_on, counted_on, live, to_pay) FROM dunning.notice
                   JOIN dunning.notice_item USING (notice_id) WHERE state = 'done'";
    assert_eq!(office.lines(counted).await, ["2026-03-11 2026-03-11 t 100"]);
    assert_eq!(office.count("dunning.notice_item WHERE live").await, 1);
    let facts = office.facts("notice_done").await;
    assert!(facts[0].contains(r#""taken_back":"paid_before_send""#), "{facts:?}");
    office.verified().await;
    let mut hand = office.hand.acquire().await.unwrap();
    assert_eq!(record::verify_notices(&mut hand).await.unwrap(), [""; 0]);
    drop(hand);

    // The stage is done, and the letter was a contact of its day.
    assert_eq!(office.deliver().await.accepted, 0);
    assert_eq!(office.verdicts().await, ["A01 too_soon"]);
    assert!(matches!(done(&office, told_later(day_plus(1))).await, Err(TaskError::Closed(1))));
    office.verified().await;
}

#[tokio::test]
async fn a_letter_whose_place_another_took_that_left_is_not_entered_as_posted() {
    let mut office = posted_and_part_paid(LETTER).await;
    office.go_to(day_plus(1)).await;
    office.scan().await;
    let second = TaskEntry { today: day_plus(1), ..entry() };
    daemon::task_done(&office.shell, 2, &second).await.unwrap();
    let before = office.notices().await;
    let refused = done(&office, told_later(day())).await.unwrap_err();
    assert!(matches!(&refused, TaskError::Replaced { state, .. } if state == "done"));
    let said = refused.to_string();
    assert!(said.ends_with("write down with `dunningd note` that it was posted too"), "{said}");
    assert_eq!(office.notices().await, before);
    office.verified().await;
}

#[tokio::test]
async fn a_letter_that_a_person_dropped_was_not_posted() {
    let office = after_a_scan(LETTER).await;
    let mut transaction = office.shell.pool.begin().await.unwrap();
    record::task_drop(&mut transaction, 1, "the lawyer writes", &office.shell.actor).await.unwrap();
    transaction.commit().await.unwrap();
    assert!(matches!(done(&office, TaskEntry { on: Some(day()), ..entry() }).await, Err(TaskError::Closed(1))));
}

#[tokio::test]
async fn a_letter_that_was_posted_in_time_counts_though_a_scan_found_its_text_expired() {
    let mut office = after_a_scan(LETTER).await;
    office.go_to(day_plus(7)).await;
    office.scan().await;
    assert_eq!(office.notices().await, ["A01 friendly cancelled expired", "A01 friendly with_person"]);
    let told = |on| TaskEntry { on: Some(on), today: day_plus(7), ..entry() };
    assert!(matches!(done(&office, told(day_plus(6))).await, Err(TaskError::TooLate { .. })));
    assert_eq!(done(&office, told(day_plus(5))).await.unwrap(), TaskEnd::DoneBefore { cancelled: 1 });
    assert_eq!(office.notices().await, ["A01 friendly done", "A01 friendly cancelled done_before"]);
    assert_eq!(office.verdicts().await, ["A01 too_soon"]);
    office.verified().await;
}

#[tokio::test]
async fn what_took_the_place_of_a_posted_letter_is_taken_out_of_the_queue_and_away_from_approval() {
    let in_queue = "UPDATE dunning.notice SET channel = 'email', state = 'queued' WHERE state = 'awaiting_approval'";
    for (how, state) in [("", "awaiting_approval"), (in_queue, "queued")] {
        let mut office = posted_and_part_paid(LETTER).await;
        office.sql("UPDATE dunning.control SET mode = 'approve_all'").await;
        office.go_to(day_plus(1)).await;
        office.scan().await;
        office.sql(how).await;
        let taken_back = "A01 friendly cancelled paid_before_send".to_owned();
        assert_eq!(office.notices().await, [taken_back, format!("A01 friendly {state}")]);
        assert_eq!(done(&office, told_later(day())).await.unwrap(), TaskEnd::DoneBefore { cancelled: 1 });
        assert_eq!(office.deliver().await.accepted, 0);
        assert_eq!(office.notices().await, ["A01 friendly done", "A01 friendly cancelled done_before"]);
        office.verified().await;
    }
}

#[tokio::test]
async fn a_letter_about_something_else_that_was_made_because_a_posted_one_was_not_known_waits_its_turn() {
    let mut office = after_a_scan(LETTER).await;
    office.sql("UPDATE ledger.item SET open_amount = 0, settled_on = '2026-03-10'").await;
    office.invoice("I02", "A01", 6, "50.00 EUR").await;
    office.go_to(day_plus(1)).await;
    office.scan().await;
    assert_eq!(office.notices().await, ["A01 friendly cancelled paid_before_send", "A01 friendly with_person"]);
    assert_eq!(done(&office, told_later(day())).await.unwrap(), TaskEnd::DoneBefore { cancelled: 1 });
    assert_eq!(office.notices().await, ["A01 friendly done", "A01 friendly cancelled done_before"]);
    assert_eq!(office.tasks().await, [""; 0]);
    assert_eq!(office.verdicts().await, ["A01 contact_cap"]);
    office.verified().await;
}

#[tokio::test]
async fn that_a_letter_was_posted_can_be_told_although_its_account_has_left_the_ledger() {
    let mut office = after_a_scan(LETTER).await;
    office.sql("DELETE FROM ledger.item; DELETE FROM ledger.contact; DELETE FROM ledger.account").await;
    office.go_to(day_plus(1)).await;
    let told = TaskEntry { on: Some(day()), today: day_plus(1), ..entry() };
    assert_eq!(done(&office, told).await.unwrap(), TaskEnd::CopyQueued);
    assert_eq!(office.notices().await[0], "A01 friendly done");
    office.verified().await;
}

#[tokio::test]
async fn a_hand_over_that_a_scan_took_back_is_recorded_once_it_is_told() {
    let mut office = posted_and_part_paid(HANDOVER).await;
    office.go_to(day_plus(1)).await;
    office.scan().await;
    let given = TaskEntry { to: Some("Studio Legale"), reason: Some("no answer"), ..told_later(day()) };
    assert_eq!(done(&office, given).await.unwrap(), TaskEnd::DoneBefore { cancelled: 1 });
    assert_eq!(office.notices().await, ["A01 friendly done", "A01 friendly cancelled done_before"]);
    assert_eq!(office.verdicts().await, ["A01 handed_over"]);
    office.verified().await;
}

#[tokio::test]
async fn nothing_is_handed_over_of_which_something_was_paid() {
    let office = after_a_scan(HANDOVER).await;
    office.sql("UPDATE ledger.item SET open_amount = 40").await;
    let given = || TaskEntry { to: Some("Studio Legale"), reason: Some("no answer"), ..entry() };
    let refused = done(&office, given()).await.unwrap_err().to_string();
    assert!(refused.starts_with("task 1: do not hand it over any more. ") && refused.contains("if it was handed over"));
    assert_eq!(office.verdicts().await, ["A01 contact"]);
    assert_eq!(office.notices().await, ["A01 friendly cancelled paid_before_send", "A01 friendly with_person"]);
    assert_eq!(office.count("dunning.handover").await, 0);
    office.verified().await;
}

#[tokio::test]
async fn a_letter_that_presses_is_not_posted_into_a_quiet_period_and_a_milder_one_is() {
    let from_firm_on = || Setup::default().policy(FRIENDLY, "name = \"friendly\"\ndays = 5\nenabled = false\n");
    let firm = from_firm_on().policy(FIRM, "name = \"firm\"\ndays = 14\nchannels = [\"letter\", \"email\"]\n");
    let last = from_firm_on()
        .policy(FIRM, "name = \"firm\"\ndays = 14\nenabled = false\n")
        .policy("name = \"final\"\ndays = 28\n", "name = \"final\"\ndays = 28\nchannels = [\"letter\", \"email\"]\n");
    for (setup, post_by) in [(last, day_plus(147)), (firm, day_plus(151))] {
        let mut office = Office::with(setup).await;
        office.accounts(1).await;
        office.sql("UPDATE ledger.account SET postal_address = 'Via Roma 1, 00184 Roma'").await;
        // Two days before the Italian August.
        office.go_to(day_plus(146)).await;
        assert_eq!(office.scan().await.tasks, 1);
        let mut connection = office.shell.pool.acquire().await.unwrap();
        let task = record::task_detail(&mut connection, 1).await.unwrap().unwrap();
        assert_eq!(task.notice.unwrap().post_by, Some(post_by));
        drop(connection);
        office.verified().await;
    }
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
async fn a_copy_of_unknown_outcome_goes_out_once_more_for_the_letter_is_the_same_contact() {
    let (mut office, _) = after_a_copy(Reply::close()).await;
    office.sql("UPDATE dunning.notice SET changed_at = changed_at - interval '25 hours'").await;
    office.go_to(day_plus(1)).await;
    assert_eq!(office.deliver().await.accepted, 1);
    assert_eq!(office.notices().await, ["A01 friendly done", "A01 friendly accepted"]);
    office.verified().await;
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
            let closed = TaskEntry { on: None, today: day_plus(n), reason: Some("written off"), ..entry() };
            assert_eq!(done(&office, closed).await.unwrap(), TaskEnd::Closed);
        }
    }
    let asked = "SELECT concat_ws(' ', subject, closed_at IS NOT NULL) FROM dunning.task ORDER BY task_id";
    assert_eq!(office.lines(asked).await, ["I01 t", "I02 f"]);
    assert_eq!(office.events().await.iter().filter(|kind| *kind == "task_opened").count(), 2);
}

/// A debtor of that country, language and kind, who can be reached by post and by e-mail.
async fn debtor(office: &Office, country: &str, language: &str, kind: &str) {
    office.accounts(1).await;
    office
        .sql(format!(
            "UPDATE ledger.account SET postal_address = 'somewhere', country = '{country}', language = '{language}',
                 party_kind = '{kind}'"
        ))
        .await;
}

async fn formal_to(country: &str, language: &str, kind: &str) -> Office {
    let office = Office::with(Setup::default().policy(FRIENDLY, FORMAL)).await;
    debtor(&office, country, language, kind).await;
    office.scan().await;
    office
}

const TASK: &str = "SELECT text FROM dunning.task WHERE kind = 'post_letter'";

#[tokio::test]
async fn whoever_posts_a_formal_letter_is_told_how_its_country_wants_it_sent_and_what_proves_it() {
    let told = [
        (
            "IT",
            "it",
            "print, sign and send it by PEC, from your PEC mailbox to the debtor's, or by raccomandata A/R; keep the ricevuta \
             di accettazione and that of avvenuta consegna, or the receipt and the avviso di ricevimento",
        ),
        (
            "PL",
            "pl",
            "print, sign and post it as list polecony za potwierdzeniem odbioru; keep a copy, the proof of posting and the \
             confirmation of receipt",
        ),
        (
            "RU",
            "ru",
            "print, sign and post it as заказное письмо с уведомлением о вручении and with опись вложения, with copies of the \
             documents and of the authority of whoever signs; keep a copy, the receipt with its track number, the опись \
             and the уведомление",
        ),
        ("GB", "en", "print, sign and post it first class; keep a copy and the certificate of posting"),
        (
            "DE",
            "en",
            "print, sign and post it by registered mail with advice of delivery; keep a copy, the receipt and the advice",
        ),
    ];
    for (country, language, how) in told {
        let office = formal_to(country, language, "company").await;
        assert_eq!(office.lines(TASK).await, [format!("stage friendly: {how}")], "{country}");
    }
    // What is no demand in law goes by any post.
    let office = after_a_scan(LETTER).await;
    assert_eq!(office.lines(TASK).await, ["stage friendly: print and post the letter"]);
}

#[tokio::test]
async fn a_claim_against_a_person_in_great_britain_is_the_one_of_the_protocol_and_goes_by_post_only() {
    for kind in ["consumer", "sole_trader"] {
        let office = formal_to("GB", "en", kind).await;
        assert_eq!(office.notices().await, ["A01 friendly with_person"], "{kind}");
        assert_eq!(
            office.lines(TASK).await,
            ["stage friendly: print, sign and post it first class on the day that it bears or the next, with the \
                 Information Sheet, the Reply Form and the Financial Statement of the Pre-Action Protocol for Debt \
                 Claims; keep a copy and the certificate of posting"]
        );
        let text = office.lines("SELECT convert_from(bytes, 'UTF8') FROM dunning.message").await.remove(0);
        for part in ["Letter of claim", "Information Sheet", "Reply Form", "Financial Statement", "10 April 2026"] {
            assert!(text.contains(part), "{kind}, {part}: {text}");
        }
        // It is dated the day on which it is posted, or the one before.
        let last = office.lines("SELECT valid_until::text FROM dunning.notice").await;
        assert_eq!(last, [day_plus(1).to_string()]);
        assert_eq!(office.count("dunning.letter_copy").await, 0);
        assert_eq!(done(&office, entry()).await.unwrap(), TaskEnd::Closed);
        assert_eq!(office.deliver().await.accepted, 0);
        office.verified().await;
    }
}

#[tokio::test]
async fn without_what_the_protocol_asks_for_nothing_goes_to_a_person_in_great_britain() {
    let stage = |change: (&str, &str)| -> &'static str { FORMAL.replacen(change.0, change.1, 1).leak() };
    let refused = [
        // The Information Sheet and the forms are English, and so is the only letter that names them.
        (FORMAL, "it", "must name the Information Sheet"),
        (stage(("{ GB = 30 }", "{ IT = 30 }")), "en", "must leave 30 days to reply"),
        (stage(("[\"letter\", \"email\"]", "[\"email\"]")), "en", "is posted, not sent by e-mail"),
    ];
    for (policy, language, why) in refused {
        let office = Office::with(Setup::default().policy(FRIENDLY, policy)).await;
        debtor(&office, "GB", language, "consumer").await;
        assert_eq!(office.verdicts().await, ["A01 no_template"], "{why}");
        assert_eq!(office.tasks().await, ["A01 write_template"]);
        let text = office.lines("SELECT text FROM dunning.task").await.remove(0);
        assert!(text.contains(why), "{text}");
        assert_eq!(office.notices().await, [""; 0]);
    }
}
