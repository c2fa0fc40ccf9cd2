//! What a credit controller records, and what becomes of it in the next scan and in the last check.

use dunningd::daemon::{self, EntryError, PromiseRequest};
use dunningd::model::{
    AccountId, Actor, BreakerKind, CallOutcome, Cause, Currency, Handover, ItemId, Money, StageName,
};
use dunningd::record::{self, Call, NoteText, RegisterError};
use uuid::Uuid;

use crate::support::shell::{Office, Setup, day, day_plus};
use crate::support::smtp::{Phase, Reply};

fn account(id: &str) -> AccountId {
    AccountId::parse(id).unwrap()
}

fn item(id: &str) -> ItemId {
    ItemId::parse(id).unwrap()
}

fn clerk() -> Actor {
    Actor { os_user: "clerk".into(), person: "Carla".into() }
}

/// One account with one invoice whose first stage is due.
async fn one() -> Office {
    let office = Office::new().await;
    office.accounts(1).await;
    office
}

/// The same, with its notice in the queue.
async fn queued() -> Office {
    let office = one().await;
    assert_eq!(office.scan().await.queued, 1);
    office
}

/// The last check stops the queued notice with that reason, and the next scan says why there is none.
async fn is_stopped(office: &Office, reason: &str, then: &str) {
    assert_eq!(office.deliver().await.cancelled, 1);
    assert_eq!(office.notices().await, [format!("A01 friendly cancelled {reason}")]);
    assert_eq!(office.smtp.received().len(), 0);
    assert_eq!(office.verdicts().await, [format!("A01 {then}")]);
    office.verified().await;
}

async fn waive(office: &Office, stage: &str) -> Result<String, String> {
    let stage = StageName::parse(stage).unwrap();
    let waived = daemon::waive(&office.shell, &account("A01"), &item("I01"), &stage, "accordo telefonico").await;
    waived.map(|waiver| waiver.on.to_string()).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_waiver_counts_from_the_day_the_stage_was_due_and_lets_the_next_one_come() {
    let mut office = one().await;
    assert_eq!(waive(&office, "firm").await.unwrap_err(), {
        "stage firm is not the next one of item I01: that is friendly, due on 2026-03-09"
    });
    assert_eq!(waive(&office, "friendly").await.unwrap(), "2026-03-09");
    assert_eq!(office.verdicts().await, ["A01 too_soon"]);
    assert!(waive(&office, "friendly").await.unwrap_err().contains("that is firm, due on 2026-03-18"));
    office.go_to(day_plus(7)).await;
    assert_eq!(office.verdicts().await, ["A01 too_soon"]);
    office.go_to(day_plus(8)).await;
    office.scan().await;
    assert_eq!(office.deliver().await.accepted, 1);
    assert_eq!(office.notices().await, ["A01 firm accepted"]);
    let told = "SELECT concat_ws(' ', convert_from(bytes, 'UTF8')::json #>> '{event,facts,stage}',
                    convert_from(bytes, 'UTF8')::json #>> '{event,facts,reason}',
                    convert_from(bytes, 'UTF8')::json #>> '{event,person}')
                FROM dunning.event WHERE kind = 'stage_waived'";
    assert_eq!(office.lines(told).await, ["friendly accordo telefonico Tessa"]);
    office.verified().await;
}

#[tokio::test]
async fn a_stage_of_an_unknown_notice_is_not_waived() {
    let office = queued().await;
    office.smtp.once(Phase::Dot, Reply::close());
    assert_eq!(office.deliver().await.unknown, 1);
    let error = waive(&office, "friendly").await.unwrap_err();
    assert!(error.starts_with("stage friendly of item I01 is in notice "), "{error}");
    assert!(error.ends_with(", which is unknown; resolve that one first"), "{error}");
    assert_eq!(office.count("dunning.waiver").await, 0);
    office.sql("UPDATE dunning.notice SET state = 'in_flight'").await;
    assert!(waive(&office, "friendly").await.unwrap_err().contains("which is in_flight"));
}

#[tokio::test]
async fn a_waiver_in_the_meantime_stops_the_notice() {
    let office = queued().await;
    waive(&office, "friendly").await.unwrap();
    is_stopped(&office, "waived_before_send", "too_soon").await;
}

#[tokio::test]
async fn nothing_is_waived_for_what_the_ledger_does_not_know_or_what_is_paid() {
    let office = one().await;
    let stage = StageName::parse("friendly").unwrap();
    let shell = &office.shell;
    let unknown_item = daemon::waive(shell, &account("A01"), &item("I99"), &stage, "x").await.unwrap_err();
    assert!(matches!(unknown_item, EntryError::Record(RegisterError::NoSuchItem { .. })));
    let unknown_account = daemon::waive(shell, &account("B01"), &item("I01"), &stage, "x").await.unwrap_err();
    assert!(matches!(unknown_account, EntryError::Look(daemon::ScanError::UnknownAccount(_))));
    office.sql("UPDATE ledger.item SET open_amount = 0, settled_on = '2026-03-09'").await;
    assert_eq!(waive(&office, "friendly").await.unwrap_err(), {
        "stage friendly is not the next one of item I01: Nothing is open on it."
    });
}

async fn dispute(office: &Office) -> Result<i64, RegisterError> {
    let mut transaction = office.shell.pool.begin().await.unwrap();
    let (account, item, cause) = (account("A01"), item("I01"), Cause::NotReceived);
    let id = record::dispute(&mut transaction, &account, &item, cause, "manca il DDT", day(), &clerk()).await?;
    transaction.commit().await.unwrap();
    Ok(id)
}

#[tokio::test]
async fn a_dispute_takes_the_item_out_until_it_is_resolved() {
    let office = one().await;
    dispute(&office).await.unwrap();
    assert!(matches!(dispute(&office).await, Err(RegisterError::AlreadyDisputed(_))));
    assert_eq!(office.verdicts().await, ["A01 all_items_out"]);
    // A hold is not a dispute, and neither ends the other.
    let mut connection = office.shell.pool.acquire().await.unwrap();
    let released = record::release_holds(&mut connection, &account("A01"), Some(&item("I01")), "x", &clerk()).await;
    assert!(matches!(released, Err(RegisterError::NothingToRelease(_))));
    record::end_dispute(&mut connection, &account("A01"), &item("I01"), "DDT inviato", &clerk()).await.unwrap();
    let again = record::end_dispute(&mut connection, &account("A01"), &item("I01"), "x", &clerk()).await;
    assert!(matches!(again, Err(RegisterError::NoDispute(_))));
    assert_eq!(office.verdicts().await, ["A01 contact"]);
    assert_eq!(office.count("dunning.hold WHERE released_by = 'Carla'").await, 1);
    assert_eq!(office.count("dunning.event WHERE kind IN ('dispute_recorded', 'dispute_resolved')").await, 2);
    office.verified().await;
}

#[tokio::test]
async fn a_dispute_of_ours_in_the_meantime_stops_the_notice() {
    let office = queued().await;
    dispute(&office).await.unwrap();
    is_stopped(&office, "disputed_before_send", "all_items_out").await;
}

async fn hand_over(office: &Office) -> Result<i64, RegisterError> {
    let handover = Handover {
        to: "Recupero S.r.l.".to_owned(),
        reason: "moroso".to_owned(),
        since: day(),
        number: 0,
        items: Vec::new(),
    };
    let mut transaction = office.shell.pool.begin().await.unwrap();
    let id = record::hand_over(&mut transaction, &account("A01"), &handover, &clerk()).await?;
    transaction.commit().await.unwrap();
    Ok(id)
}

#[tokio::test]
async fn an_account_that_was_handed_over_gets_nothing_also_for_new_invoices_until_it_is_taken_back() {
    let mut office = one().await;
    hand_over(&office).await.unwrap();
    assert!(matches!(hand_over(&office).await, Err(RegisterError::AlreadyHandedOver(_))));
    office.invoice("I99", "A01", -20, "50.00 EUR").await;
    for n in [0, 30, 60, 90] {
        office.go_to(day_plus(n)).await;
        assert_eq!(office.verdicts().await, ["A01 handed_over"]);
        office.deliver().await;
    }
    assert_eq!(office.smtp.received().len(), 0);
    let mut connection = office.shell.pool.acquire().await.unwrap();
    record::take_back(&mut connection, &account("A01"), "accordo fallito", &clerk()).await.unwrap();
    let again = record::take_back(&mut connection, &account("A01"), "x", &clerk()).await;
    assert!(matches!(again, Err(RegisterError::NotHandedOver(_))));
    assert_eq!(office.verdicts().await, ["A01 contact"]);
    assert_eq!(office.count("dunning.handover WHERE back_by = 'Carla'").await, 1);
    assert_eq!(office.count("dunning.event WHERE kind IN ('account_handed_over', 'account_taken_back')").await, 2);
    office.verified().await;
}

#[tokio::test]
async fn a_hand_over_in_the_meantime_stops_the_notice() {
    let office = queued().await;
    hand_over(&office).await.unwrap();
    is_stopped(&office, "handed_over_before_send", "handed_over").await;
}

/// Promised by the fifth day from the first one, with two days of tolerance.
async fn promise(office: &Office, amount: u32, items: &[&str]) -> Result<i64, String> {
    let request = PromiseRequest {
        amount: Money::new(amount.into(), Currency::parse("EUR").unwrap()),
        by_day: day_plus(5),
        tolerance_days: 2,
        items: items.iter().map(|id| item(id)).collect(),
        reason: "il titolare ha telefonato".to_owned(),
    };
    let promise = daemon::promise(&office.shell, &account("A01"), &request).await;
    promise.map(|promise| promise.number).map_err(|error| error.to_string())
}

/// Each promise as `1 running 0.00 EUR`.
async fn promises(office: &Office) -> Vec<String> {
    let all = daemon::promises(&office.shell, &account("A01")).await.unwrap();
    all.iter().map(|(promise, now)| format!("{} {} {}", promise.number, now.state.as_str(), now.paid)).collect()
}

async fn running(office: &Office) -> i64 {
    daemon::status(&office.shell).await.unwrap().promises_running
}

#[tokio::test]
async fn a_broken_promise_lets_the_stage_come_that_was_due() {
    let mut office = one().await;
    office.scan().await;
    office.deliver().await;
    // The second stage would be due on the ninth day, within the promise.
    office.go_to(day_plus(3)).await;
    promise(&office, 100, &[]).await.unwrap();
    assert_eq!((promises(&office).await, running(&office).await), (vec!["1 running 0.00 EUR".to_owned()], 1));
    for n in 4..=7 {
        office.go_to(day_plus(n)).await;
        assert_eq!(office.verdicts().await, ["A01 all_items_out"]);
    }
    office.sql("UPDATE ledger.item SET open_amount = 40").await;
    office.go_to(day_plus(8)).await;
    assert_eq!((promises(&office).await, running(&office).await), (vec!["1 partly 60.00 EUR".to_owned()], 0));
    assert_eq!(office.verdicts().await, ["A01 too_soon"]);
    office.go_to(day_plus(9)).await;
    office.scan().await;
    assert_eq!(office.deliver().await.accepted, 1);
    assert_eq!(office.notices().await, ["A01 friendly accepted", "A01 firm accepted"]);
    assert_eq!(office.events().await.iter().filter(|kind| *kind == "promise_made").count(), 1);
    office.verified().await;
}

#[tokio::test]
async fn what_came_in_and_is_not_allocated_yet_counts_for_a_promise_in_the_status_too() {
    let mut office = one().await;
    office.scan().await;
    office.deliver().await;
    promise(&office, 100, &[]).await.unwrap();
    assert_eq!((promises(&office).await, running(&office).await), (vec!["1 running 0.00 EUR".to_owned()], 1));
    let paid = async |amount: i64| {
        office
            .sql(format!(
                "DELETE FROM ledger.item WHERE item_id = 'P1';
                 INSERT INTO ledger.item (item_id, account_id, kind, document_no, issue_date, currency, amount, open_amount)
                 VALUES ('P1', 'A01', 'payment', 'P1', '2026-03-11', 'EUR', -{amount}, -{amount})"
            ))
            .await;
        (promises(&office).await, running(&office).await)
    };
    assert_eq!(paid(60).await, (vec!["1 running 60.00 EUR".to_owned()], 1));
    assert_eq!(paid(100).await, (vec!["1 kept 100.00 EUR".to_owned()], 0));
    office.go_to(day_plus(8)).await;
    assert_eq!((promises(&office).await, running(&office).await), (vec!["1 kept 100.00 EUR".to_owned()], 0));
}

#[tokio::test]
async fn a_credit_without_an_account_in_a_view_of_the_operator_hides_no_promise_from_the_status() {
    let office = one().await;
    promise(&office, 100, &[]).await.unwrap();
    office
        .sql("ALTER TABLE ledger.item DROP CONSTRAINT IF EXISTS item_account_id_fkey, ALTER account_id DROP NOT NULL")
        .await;
    unallocated(&office, 60, "2026-03-10").await;
    office.sql("UPDATE ledger.item SET account_id = NULL WHERE item_id = 'P1'").await;
    assert_eq!(running(&office).await, 1);
}

#[tokio::test]
async fn a_promise_is_kept_when_its_items_are_paid_and_broken_when_they_only_vanish() {
    let mut office = one().await;
    office.invoice("I02", "A01", 3, "50.00 EUR").await;
    office.invoice("I03", "A01", 3, "30.00 USD").await;
    office.scan().await;
    office.deliver().await;
    promise(&office, 150, &[]).await.unwrap();
    office.sql("UPDATE ledger.item SET open_amount = 0, settled_on = '2026-03-11' WHERE item_id = 'I01'").await;
    office.go_to(day_plus(1)).await;
    assert_eq!(promises(&office).await, ["1 running 100.00 EUR"]);
    office.sql("DELETE FROM ledger.item WHERE item_id = 'I02'").await;
    // The same before and after the scan that marks it as withdrawn.
    assert_eq!((promises(&office).await, running(&office).await), (vec!["1 running 100.00 EUR".to_owned()], 1));
    office.scan().await;
    assert_eq!((promises(&office).await, running(&office).await), (vec!["1 running 100.00 EUR".to_owned()], 1));
    office.sql("DELETE FROM ledger.item WHERE item_id = 'I01'").await;
    assert_eq!(promises(&office).await, ["1 running 100.00 EUR"]);
    office.go_to(day_plus(8)).await;
    assert_eq!(promises(&office).await, ["1 partly 100.00 EUR"]);
}

#[tokio::test]
async fn a_promise_whose_items_were_paid_after_its_last_day_stays_broken() {
    let settled_on = async |settled: &str| {
        let mut office = one().await;
        promise(&office, 100, &[]).await.unwrap();
        office.go_to(day_plus(8)).await;
        assert_eq!(promises(&office).await, ["1 broken 0.00 EUR"]);
        office.go_to(day_plus(12)).await;
        office.sql(format!("UPDATE ledger.item SET open_amount = 0, settled_on = '{settled}'")).await;
        promises(&office).await
    };
    // Its last day, with the tolerance, is the seventh: 17 March.
    assert_eq!(settled_on("2026-03-17").await, ["1 kept 100.00 EUR"]);
    assert_eq!(settled_on("2026-03-18").await, ["1 broken 0.00 EUR"]);
}

/// Money that came in on that day and is not allocated yet.
async fn unallocated(office: &Office, amount: u32, issued: &str) {
    office
        .sql(format!(
            "INSERT INTO ledger.item (item_id, account_id, kind, document_no, issue_date, currency, amount, open_amount)
             VALUES ('P1', 'A01', 'payment', 'P1', '{issued}', 'EUR', -{amount}, -{amount})"
        ))
        .await;
}

#[tokio::test]
async fn money_that_came_in_by_the_last_day_keeps_a_promise_also_when_it_is_allocated_later() {
    let mut office = one().await;
    promise(&office, 100, &[]).await.unwrap();
    office.go_to(day_plus(8)).await;
    unallocated(&office, 100, "2026-03-16").await;
    assert_eq!(promises(&office).await, ["1 kept 100.00 EUR"]);
    assert_eq!(office.verdicts().await, ["A01 account_in_credit"]);
    office.go_to(day_plus(12)).await;
    office.sql("UPDATE ledger.item SET open_amount = 0, settled_on = '2026-03-20'").await;
    assert_eq!(promises(&office).await, ["1 kept 100.00 EUR"]);
}

#[tokio::test]
async fn no_more_can_be_promised_than_is_open_after_credits() {
    let office = one().await;
    unallocated(&office, 30, "2026-03-01").await;
    assert_eq!(promise(&office, 100, &[]).await.unwrap_err(), {
        "100.00 EUR is more than the 70.00 EUR that is open on the promised items"
    });
    office.sql("UPDATE ledger.item SET kind = 'credit_note', refers_to = 'I01' WHERE item_id = 'P1'").await;
    assert!(promise(&office, 71, &[]).await.is_err());
    promise(&office, 70, &[]).await.unwrap();
    assert_eq!(promises(&office).await, ["1 running 0.00 EUR"]);
    office.sql("UPDATE ledger.item SET open_amount = 0 WHERE item_id = 'P1'").await;
    office.sql("UPDATE ledger.item SET open_amount = 70 WHERE item_id = 'I01'").await;
    assert_eq!(promises(&office).await, ["1 running 0.00 EUR"]);
}

#[tokio::test]
async fn a_promise_in_the_meantime_stops_the_notice() {
    let office = queued().await;
    promise(&office, 100, &[]).await.unwrap();
    is_stopped(&office, "promised_before_send", "all_items_out").await;
}

#[tokio::test]
async fn a_promise_about_another_item_stops_nothing() {
    let office = one().await;
    office.invoice("I02", "A01", -20, "50.00 EUR").await;
    office.scan().await;
    promise(&office, 50, &["I02"]).await.unwrap();
    assert_eq!(office.deliver().await.accepted, 1);
}

#[tokio::test]
async fn what_cannot_be_promised_is_refused() {
    let mut office = one().await;
    assert_eq!(promise(&office, 101, &[]).await.unwrap_err(), {
        "101.00 EUR is more than the 100.00 EUR that is open on the promised items"
    });
    assert_eq!(promise(&office, 10, &["I09"]).await.unwrap_err(), "account A01 has no item I09");
    let number = promise(&office, 40, &["I01", "I01"]).await.unwrap();
    assert_eq!(promise(&office, 40, &["I01"]).await.unwrap_err(), {
        format!("item I01 is promised already, in promise {number}; withdraw that one first")
    });
    assert_eq!(office.count("dunning.promise_item").await, 1);
    let withdraw = async |office: &Office, number| {
        let account = account("A01");
        let done = daemon::withdraw_promise(&office.shell, &account, number, "ha cambiato idea").await;
        done.map_err(|error| error.to_string())
    };
    assert_eq!(withdraw(&office, Some(99)).await.unwrap_err(), "account A01 has no promise 99");
    assert_eq!(withdraw(&office, None).await, Ok(number));
    assert_eq!(withdraw(&office, None).await.unwrap_err(), "account A01 has no running promise");
    assert!(withdraw(&office, Some(number)).await.unwrap_err().contains("is withdrawn; only a running one"));
    assert_eq!(promises(&office).await, [format!("{number} withdrawn 0.00 EUR")]);
    assert_eq!(office.verdicts().await, ["A01 contact"]);
    office.go_to(day_plus(6)).await;
    assert_eq!(promise(&office, 40, &[]).await.unwrap_err(), "the day of the promise lies before today, 2026-03-16");
    office.verified().await;
}

#[tokio::test]
async fn a_call_counts_for_the_contact_cap_and_its_words_stay_out_of_the_log() {
    let mut office = one().await;
    let words = NoteText { body: "Ada è in ferie fino al 15", salt: [7; 32] };
    let mut transaction = office.shell.pool.begin().await.unwrap();
    let made = Call { outcome: CallOutcome::NotReceived, text: Some(words), item: None, cause: None, called_on: day() };
    record::log_call(&mut transaction, &account("A01"), &made, &clerk()).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(office.verdicts().await, ["A01 contact_cap"]);
    let mut connection = office.shell.pool.acquire().await.unwrap();
    let second = NoteText { body: "richiamare", salt: [8; 32] };
    record::add_note(&mut connection, &account("A01"), second, day(), &clerk()).await.unwrap();
    let no_note = Call { outcome: CallOutcome::NoAnswer, text: None, ..made };
    record::log_call(&mut connection, &account("A01"), &no_note, &clerk()).await.unwrap();
    let unknown = record::add_note(&mut connection, &account("B01"), second, day(), &clerk()).await;
    assert!(matches!(unknown, Err(RegisterError::NoSuchAccount(_))));
    let journal = record::journal(&mut connection, &account("A01")).await.unwrap();
    let seen: Vec<_> = journal.iter().map(|row| (row.outcome.as_deref(), row.text.as_deref())).collect();
    assert_eq!(
        seen,
        [
            (Some("no_answer"), None),
            (None, Some("richiamare")),
            (Some("not_received"), Some("Ada è in ferie fino al 15")),
        ]
    );
    let told = "SELECT convert_from(bytes, 'UTF8') FROM dunning.event WHERE kind IN ('call_logged', 'note_added')";
    let told = office.lines(told).await;
    assert_eq!(told.len(), 3);
    assert!(told.iter().all(|event| !event.contains("ferie") && !event.contains("richiamare")), "{told:?}");
    assert_eq!(told.iter().filter(|event| event.contains("note_commitment")).count(), 2);
    // Erasing the words leaves the log as it was.
    office.sql("DELETE FROM dunning.note_text").await;
    office.verified().await;
    // A week later the letter goes out, and says nothing of it.
    office.go_to(day_plus(7)).await;
    office.scan().await;
    assert_eq!(office.deliver().await.accepted, 1);
    let letter = String::from_utf8_lossy(&office.smtp.messages()[0].bytes).into_owned();
    assert!(!letter.contains("ferie") && !letter.contains("richiamare"));
}

#[tokio::test]
async fn the_application_can_neither_change_nor_delete_what_people_recorded() {
    let office = one().await;
    promise(&office, 100, &[]).await.unwrap();
    for statement in [
        "UPDATE dunning.promise SET amount = 1",
        "UPDATE dunning.promise_item SET open_then = 1",
        "UPDATE dunning.waiver SET reason = 'y'",
        "UPDATE dunning.handover SET handed_to = 'y'",
        "UPDATE dunning.call SET outcome = 'y'",
        "UPDATE dunning.note_text SET body = 'y'",
        "DELETE FROM dunning.promise_item",
        "DELETE FROM dunning.hold",
        "DELETE FROM dunning.call",
        "DELETE FROM dunning.note",
    ] {
        let refused = sqlx::query(statement).execute(&office.shell.pool).await.unwrap_err();
        let code = refused.as_database_error().and_then(|error| error.code().map(std::borrow::Cow::into_owned));
        assert_eq!(code.as_deref(), Some("42501"), "{statement}");
    }
}

// --- ladders -----------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_moved_case_keeps_its_completed_stages_by_name_and_climbs_on_by_the_other_days() {
    let marker = "# No reaction: still polite, more definite.";
    let gentle = "[[ladder.gentle.stage]]\nname = \"friendly\"\ndays = 10\n\n[[ladder.gentle.stage]]\nname = \"final\"\n\
                  days = 40\n\n# No reaction: still polite, more definite.";
    let mut office = Office::with(Setup::default().policy(marker, gentle)).await;
    office.accounts(1).await;
    office.scan().await;
    office.deliver().await;
    let account = AccountId::parse("A01").unwrap();
    let to = dunningd::model::LadderName::parse("gentle").unwrap();
    office.go_to(day_plus(7)).await;
    let change = daemon::ladder_move(&office.shell, &account, &to).await.unwrap();
    let next = |decision: &dunningd::model::Decision| {
        let item = &decision.items[0];
        format!("{} {}", item.next_stage.as_ref().unwrap(), item.due_on.unwrap())
    };
    // Six days late on the first day: firm by the one ladder, final thirty days after friendly by the other.
    let due = (format!("firm {}", day_plus(9)), format!("final {}", day_plus(34)));
    assert_eq!((next(&change.before), next(&change.after)), due);
    daemon::move_ladder(&office.shell, &account, &change, "long-standing customer").await.unwrap();
    assert_eq!(office.events().await.last().map(String::as_str), Some("case_moved"));

    office.go_to(day_plus(9)).await;
    assert_eq!(office.verdicts().await, ["A01 too_soon"], "firm is no stage of this ladder");
    office.go_to(day_plus(34)).await;
    assert_eq!(office.verdicts().await, ["A01 contact"]);
    assert_eq!(office.notices().await, ["A01 friendly accepted", "A01 final queued"]);
    office.verified().await;
}

#[tokio::test]
async fn a_row_that_makes_no_sense_is_told_and_not_taken_for_nothing() {
    let office = Office::new().await;
    office.accounts(1).await;
    office.scan().await;
    let mut connection = office.shell.pool.acquire().await.unwrap();
    office.sql("UPDATE dunning.notice SET demanded = '[\"EUR\"]'").await;
    let error = record::notices_of(&mut connection, "A01").await.unwrap_err();
    assert_eq!(error.to_string(), r#"table dunning.notice, column demanded: "[\"EUR\"]" is not valid"#);
    office.sql("UPDATE dunning.notice SET tries = -1").await;
    let error = record::claim(&mut connection, &[Uuid::now_v7()], Uuid::now_v7(), 60, &[]).await.unwrap_err();
    assert_eq!(error.to_string(), r#"table dunning.notice, column tries: "-1" is not valid"#);
    office.sql("INSERT INTO dunning.breaker VALUES ('sender', 'x', -2, 0, 'x', NULL, false)").await;
    let error = record::breaker(&mut connection, BreakerKind::Sender, "x").await.unwrap_err();
    assert_eq!(error.to_string(), r#"table dunning.breaker, column failures: "-2" is not valid"#);
}
