//! What leaves a run, and when: modes, brakes, approval.

use std::collections::BTreeMap;
use std::time::Duration;

use dunningd::daemon::{self, Approved, Parts, PlanRequest, PromiseRequest, PutOff, ScanError, ScanRequest};
use dunningd::model::{
    AccountId, Actor, BrakeCode, Cause, Currency, ItemId, Mode, Money, OnMissed, RefusalCode, ReleaseState, StageName,
};
use dunningd::record::{self, ApprovalError, NewCause, TaskEnd, TaskEntry, Which};

use crate::support::shell::{CREDITOR, Office, Setup, day, day_plus};

/// Somebody else than who scans.
async fn approve(office: &mut Office, which: &Which) -> Result<Approved, ApprovalError> {
    let tester = std::mem::replace(&mut office.shell.actor, Actor { os_user: "chief".into(), person: "Chiara".into() });
    let done = daemon::approve(&office.shell, which, "looked at").await;
    office.shell.actor = tester;
    done
}

async fn mode(office: &Office, mode: Mode) {
    let mut transaction = office.shell.pool.begin().await.unwrap();
    record::set_mode(&mut transaction, mode, "a trial", &office.shell.actor).await.unwrap();
    transaction.commit().await.unwrap();
}

/// One account whose notice waits for a person.
async fn waiting() -> Office {
    let office = Office::new().await;
    office.accounts(1).await;
    mode(&office, Mode::ApproveAll).await;
    let released = office.scan().await.released.unwrap();
    assert_eq!((released.state, released.queued, released.awaiting), (ReleaseState::ApproveAll, 0, 1));
    assert_eq!(office.deliver().await.accepted, 0);
    office
}

#[tokio::test]
async fn what_the_ledger_says_is_settled_from_today_on_is_not_approved_any_more() {
    for day_to_come in ["settled_on", "written_off_on", "disputed_since"] {
        let mut office = Office::new().await;
        office.accounts(1).await;
        office.sql(format!("UPDATE ledger.item SET {day_to_come} = '2026-03-11'")).await;
        mode(&office, Mode::ApproveAll).await;
        assert_eq!(office.scan().await.released.unwrap().awaiting, 1);
        office.go_to(day_plus(1)).await;
        let done = approve(&mut office, &Which::All).await.unwrap();
        assert_eq!((done.approved, done.void), (0, 1), "{day_to_come}");
        assert_eq!(office.count("dunning.notice WHERE state = 'cancelled'").await, 1);
    }
}

#[tokio::test]
async fn a_call_after_the_scan_puts_the_approval_off() {
    let mut office = waiting().await;
    let call = record::Call {
        outcome: dunningd::model::CallOutcome::Other,
        text: None,
        item: None,
        cause: None,
        called_on: day(),
    };
    let mut transaction = office.shell.pool.begin().await.unwrap();
    let account = AccountId::parse("A01").unwrap();
    record::log_call(&mut transaction, &account, &call, &office.shell.actor).await.unwrap();
    transaction.commit().await.unwrap();
    let done = approve(&mut office, &Which::All).await.unwrap();
    let notice = office.lines("SELECT notice_id::text FROM dunning.notice").await.remove(0).parse().unwrap();
    let put_off = PutOff {
        notice,
        account: "A01".to_owned(),
        because: "last counted contact 2026-03-10, at most 1 per 7 days, 4 per 30 days".to_owned(),
        until: Some(day_plus(7)),
        valid_until: day_plus(5),
    };
    assert_eq!(done, Approved { put_off: vec![put_off], ..Approved::default() });
    assert_eq!(office.notices().await, ["A01 friendly awaiting_approval"]);
    office.verified().await;
}

#[tokio::test]
async fn a_run_is_approved_once_nothing_of_it_waits_any_more() {
    let mut office = Office::new().await;
    office.accounts(4).await;
    mode(&office, Mode::ApproveAll).await;
    let run = Which::Run(office.scan().await.run.unwrap().0);
    office
        .sql(
            "INSERT INTO dunning.call (creditor, account_id, outcome, called_on, called_by)
             SELECT 'tre_aquiloni', account, 'other', '2026-03-10', 'Carla' FROM unnest(ARRAY['A02', 'A04']) account",
        )
        .await;
    let release = "SELECT release FROM dunning.run";
    let done = approve(&mut office, &run).await.unwrap();
    let put_off: Vec<&str> = done.put_off.iter().map(|one| one.account.as_str()).collect();
    assert_eq!((done.approved, put_off), (2, vec!["A02", "A04"]));
    assert_eq!(office.count("dunning.event WHERE kind = 'notice_approved'").await, 2);
    assert_eq!(office.count("dunning.event WHERE kind = 'run_approved'").await, 0);
    assert_eq!(office.lines(release).await, ["approve_all"]);
    // Somebody entered the calls with the wrong account.
    office.sql("DELETE FROM dunning.call").await;
    assert_eq!(approve(&mut office, &run).await.unwrap(), Approved { approved: 2, ..Approved::default() });
    assert_eq!(office.count("dunning.event WHERE kind = 'run_approved'").await, 1);
    assert_eq!(office.lines(release).await, ["approved"]);
    assert_eq!(office.deliver().await.accepted, 4);
    office.verified().await;
}

#[tokio::test]
async fn a_new_installation_approves_everything() {
    let database = crate::support::postgres::Database::new().await;
    let mut connection = database.pool("dunningd_app").await.acquire().await.unwrap();
    assert_eq!(record::mode(&mut connection).await.unwrap().mode, Mode::ApproveAll);
}

#[tokio::test]
async fn what_is_approved_goes_out_with_its_frozen_bytes() {
    let mut office = waiting().await;
    assert_eq!(approve(&mut office, &Which::All).await.unwrap(), Approved { approved: 1, ..Approved::default() });
    assert_eq!(office.deliver().await.accepted, 1);
    assert_eq!(office.notices().await, ["A01 friendly accepted"]);
    assert_eq!(office.lines("SELECT approved_by FROM dunning.notice").await, ["Chiara"]);
    office.verified().await;
}

#[tokio::test]
async fn what_is_dropped_never_goes_out() {
    let office = waiting().await;
    assert_eq!(daemon::drop_waiting(&office.shell, &Which::All, "not this one").await.unwrap(), 1);
    assert_eq!(office.deliver().await.accepted, 0);
    assert_eq!(office.notices().await, ["A01 friendly cancelled dropped"]);
    assert_eq!(office.smtp.messages().len(), 0);
    office.verified().await;
}

#[tokio::test]
async fn a_part_payment_before_the_approval_sends_the_smaller_amount() {
    let mut office = waiting().await;
    office.sql("UPDATE ledger.item SET open_amount = 40").await;
    assert_eq!(approve(&mut office, &Which::All).await.unwrap(), Approved { renewed: 1, ..Approved::default() });
    assert_eq!(office.deliver().await.accepted, 1);
    assert_eq!(office.notices().await, ["A01 friendly cancelled renewed", "A01 friendly accepted"]);
    assert_eq!(office.lines("SELECT to_pay::text FROM dunning.notice_item WHERE live").await, ["40"]);
    office.verified().await;
}

#[tokio::test]
async fn what_somebody_drops_while_it_is_looked_at_again_is_not_told_as_renewed() {
    let mut office = waiting().await;
    office.sql("UPDATE ledger.item SET open_amount = 40").await;
    // Deciding again reads the contacts; they are free when the notice is gone.
    let mut dropping = office.hand.begin().await.unwrap();
    let hand = office.hand.clone();
    sqlx::raw_sql("LOCK TABLE ledger.contact").execute(&mut *dropping).await.unwrap();
    let dropped = async {
        let waits = "SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND usename = 'dunningd_app' AND wait_event_type = 'Lock'";
        while sqlx::query_scalar::<_, i64>(waits).fetch_one(&hand).await.unwrap() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let gone = "UPDATE dunning.notice SET state = 'cancelled', reason = 'dropped';
                    UPDATE dunning.notice_item SET live = false";
        sqlx::raw_sql(gone).execute(&mut *dropping).await.unwrap();
        dropping.commit().await.unwrap();
    };
    let (done, ()) = tokio::join!(approve(&mut office, &Which::All), dropped);
    assert_eq!(done.unwrap(), Approved { void: 1, ..Approved::default() });
    assert_eq!(office.notices().await, ["A01 friendly cancelled dropped"]);
}

#[tokio::test]
async fn a_part_payment_after_the_approval_sends_the_smaller_amount() {
    let mut office = waiting().await;
    approve(&mut office, &Which::All).await.unwrap();
    office.sql("UPDATE ledger.item SET open_amount = 40").await;
    let done = office.deliver().await;
    assert_eq!((done.accepted, done.cancelled), (1, 1));
    let text = String::from_utf8_lossy(&office.smtp.messages()[0].bytes).into_owned();
    assert!(text.contains("40,00") && !text.contains("Importo da pagare: 100"), "{text}");
    assert_eq!(office.notices().await, ["A01 friendly cancelled renewed", "A01 friendly accepted"]);
    office.verified().await;
}

#[tokio::test]
async fn a_part_payment_before_the_approval_puts_the_smaller_letter_before_whoever_posts_it() {
    let setup = Setup::default().policy(
        "name = \"friendly\"\ndays = 5\n",
        "name = \"friendly\"\ndays = 5\nchannels = [\"letter\", \"email\"]\napproval = true\n",
    );
    let mut office = Office::with(setup).await;
    office.accounts(1).await;
    office.sql("UPDATE ledger.account SET postal_address = 'Via Roma 1, 20100 Milano'").await;
    assert_eq!(office.scan().await.released.unwrap().awaiting, 1);
    office.sql("UPDATE ledger.item SET open_amount = 40").await;
    assert_eq!(approve(&mut office, &Which::All).await.unwrap(), Approved { renewed: 1, ..Approved::default() });
    assert_eq!(office.notices().await, ["A01 friendly cancelled renewed", "A01 friendly with_person"]);
    assert_eq!(office.tasks().await, ["A01 post_letter"]);
    let letter = "SELECT recipient || E'\\n' || convert_from(bytes, 'UTF8') FROM dunning.message m
                  JOIN dunning.notice n USING (notice_id) WHERE n.state = 'with_person'";
    let letter = office.lines(letter).await.remove(0);
    assert!(letter.starts_with("Via Roma 1, 20100 Milano\n") && letter.contains("40,00"), "{letter}");
    let mut transaction = office.shell.pool.begin().await.unwrap();
    let done = TaskEntry {
        on: None,
        today: day(),
        outcome: None,
        item: None,
        no_cause: false,
        to: None,
        reason: None,
        note: None,
    };
    let end = record::task_done(&mut transaction, 1, &done, None, &office.shell.actor).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(end, TaskEnd::CopyQueued);
    assert_eq!(office.deliver().await.accepted, 1);
    let copy = String::from_utf8_lossy(&office.smtp.messages()[0].bytes).into_owned();
    assert!(copy.contains("40,00") && !copy.contains("Importo da pagare: 100"), "{copy}");
    office.verified().await;
}

#[tokio::test]
async fn what_stopped_a_notice_while_it_waited_is_what_it_is_cancelled_for() {
    let account = AccountId::parse("A01").unwrap();
    let item = ItemId::parse("I01").unwrap();
    let entries: [(&str, &str); 6] = [
        ("UPDATE ledger.item SET disputed_since = '2026-03-10'", "disputed_before_send"),
        ("UPDATE ledger.item SET written_off_on = '2026-03-10'", "written_off_before_send"),
        ("UPDATE ledger.item SET hold_reason = 'we talk'", "held_before_send"),
        ("UPDATE ledger.account SET hold_reason = 'we talk'", "held_before_send"),
        ("UPDATE ledger.item SET open_amount = 1", "paid_before_send"),
        ("UPDATE ledger.item SET due_date = '2026-03-20'", "ledger_changed"),
    ];
    let is_cancelled = async |mut office: Office, reason: &str| {
        assert_eq!(approve(&mut office, &Which::All).await.unwrap(), Approved { void: 1, ..Approved::default() });
        assert_eq!(office.notices().await, [format!("A01 friendly cancelled {reason}")]);
        office.verified().await;
    };
    for (entry, reason) in entries {
        let office = waiting().await;
        office.sql(entry).await;
        is_cancelled(office, reason).await;
    }

    let office = waiting().await;
    let mut transaction = office.shell.pool.begin().await.unwrap();
    let (cause, clerk) = (Cause::WrongDetails, &office.shell.actor);
    record::dispute(&mut transaction, &account, &item, cause, "manca il DDT", day(), clerk).await.unwrap();
    transaction.commit().await.unwrap();
    is_cancelled(office, "disputed_before_send").await;

    let office = waiting().await;
    let promise = PromiseRequest {
        amount: Money::new(100.into(), Currency::parse("EUR").unwrap()),
        by_day: day_plus(5),
        tolerance_days: 2,
        items: Vec::new(),
        reason: "ha telefonato".to_owned(),
    };
    daemon::promise(&office.shell, &account, &promise).await.unwrap();
    is_cancelled(office, "promised_before_send").await;

    let office = waiting().await;
    let plan = PlanRequest {
        currency: Currency::parse("EUR").unwrap(),
        items: Vec::new(),
        parts: Parts::Each(vec![(day_plus(5), 100.into())]),
        tolerance_days: Some(2),
        on_missed: Some(OnMissed::Instalment),
        restructure: None,
        reason: "accordo".to_owned(),
    };
    daemon::agree_plan(&office.shell, &account, &plan).await.unwrap();
    is_cancelled(office, "planned_before_send").await;

    let office = waiting().await;
    daemon::waive(&office.shell, &account, &item, &StageName::parse("friendly").unwrap(), "x").await.unwrap();
    is_cancelled(office, "waived_before_send").await;

    for item in [None, Some(&item)] {
        let office = waiting().await;
        let cause = NewCause { item, cause: Cause::SaysPaid, reason: "lo dice", since: day() };
        let mut transaction = office.shell.pool.begin().await.unwrap();
        record::record_cause(&mut transaction, &account, &cause, &office.shell.actor).await.unwrap();
        transaction.commit().await.unwrap();
        is_cancelled(office, "cause_before_send").await;
    }
}

#[tokio::test]
async fn an_amount_that_grew_voids_the_approval() {
    let mut office = waiting().await;
    approve(&mut office, &Which::All).await.unwrap();
    office.sql("UPDATE ledger.item SET amount = 140, open_amount = 140").await;
    assert_eq!(office.deliver().await.accepted, 0);
    assert_eq!(office.notices().await, ["A01 friendly cancelled approval_void"]);
    assert_eq!(office.scan().await.released.unwrap().awaiting, 1);
    office.verified().await;
}

#[tokio::test]
async fn what_waited_longer_than_its_text_is_true_is_decided_again() {
    let mut office = waiting().await;
    office.go_to(day_plus(5)).await;
    assert_eq!(office.verdicts().await, ["A01 notice_pending"]);
    office.go_to(day_plus(6)).await;
    assert_eq!(office.verdicts().await, ["A01 contact"]);
    assert_eq!(office.notices().await, ["A01 friendly cancelled expired", "A01 friendly awaiting_approval"]);
}

#[tokio::test]
async fn a_stage_that_asks_for_approval_waits_in_every_mode() {
    let setup = Setup::default().policy("name = \"friendly\"\n", "name = \"friendly\"\napproval = true\n");
    let mut office = Office::with(setup).await;
    office.accounts(1).await;
    assert_eq!(office.scan().await.released.unwrap().awaiting, 1);
    assert_eq!(office.lines("SELECT approval FROM dunning.notice").await, ["stage"]);
    approve(&mut office, &Which::All).await.unwrap();
    assert_eq!(office.deliver().await.accepted, 1);
}

#[tokio::test]
async fn more_than_the_policy_allows_do_not_wait() {
    let setup = Setup::default().policy("waiting_limit = 200", "waiting_limit = 2");
    let office = Office::with(setup).await;
    office.accounts(3).await;
    mode(&office, Mode::ApproveAll).await;
    assert_eq!(office.verdicts().await, ["A01 contact", "A02 contact", "A03 approval_limit"]);
}

#[tokio::test]
async fn what_was_released_before_waits_while_the_mode_is_shadow() {
    let office = Office::new().await;
    office.accounts(2).await;
    office.scan().await;
    office.sql("UPDATE dunning.control SET mode = 'shadow'").await;
    assert_eq!(office.deliver().await.accepted, 0);
    assert_eq!(office.count("dunning.claimable").await, 0);
    assert_eq!(office.notices().await, ["A01 friendly queued", "A02 friendly queued"]);
    office.sql("UPDATE dunning.control SET mode = 'live'").await;
    assert_eq!(office.deliver().await.accepted, 2);
}

#[tokio::test]
async fn the_mode_shadow_decides_and_sends_nothing() {
    let office = Office::new().await;
    office.accounts(2).await;
    mode(&office, Mode::Shadow).await;
    let run = office.scan().await;
    assert_eq!((run.totals.contacted, run.released.unwrap().cancelled), (2, 2));
    assert_eq!(office.deliver().await.accepted, 0);
    assert_eq!(office.notices().await, ["A01 friendly cancelled shadow", "A02 friendly cancelled shadow"]);
    // No stage is done by it.
    assert_eq!(office.verdicts().await, ["A01 contact", "A02 contact"]);
    office.verified().await;
}

#[tokio::test]
async fn what_a_brake_holds_is_decided_anew_before_the_days_to_answer_that_it_names_are_used_up() {
    // Of the two letters one names a last day, which runs from the day on which it was to go.
    for (days, valid_until) in [("", "2026-03-15"), ("respond_within = 10\n", "2026-03-12")] {
        let friendly = format!("name = \"friendly\"\n{days}").leak();
        let setup = Setup::default()
            .policy("notices_per_run = 2000", "notices_per_run = 1")
            .policy("name = \"friendly\"\n", friendly);
        let office = Office::with(setup).await;
        office.accounts(1).await;
        assert_eq!(office.scan().await.queued, 1);
        assert_eq!(office.deliver().await.accepted, 1);
        for n in ["02", "03"] {
            office.account(&format!("A{n}"), "it", &format!("conti@a{n}.test")).await;
            office.invoice(&format!("I{n}"), &format!("A{n}"), 6, "100.00 EUR").await;
        }
        assert_eq!(office.scan().await.released.unwrap().state, ReleaseState::Held);
        let kept = "SELECT DISTINCT concat_ws(' ', approval, valid_until) FROM dunning.notice
                    WHERE state = 'awaiting_approval'";
        assert_eq!(office.lines(kept).await, [format!("brake {valid_until}")]);
    }
}

#[tokio::test]
async fn a_run_with_one_notice_too_many_is_held_until_somebody_else_approves_it() {
    let setup = Setup::default().policy("notices_per_run = 2000", "notices_per_run = 2");
    let mut office = Office::with(setup).await;
    office.accounts(2).await;
    assert_eq!(office.scan().await.queued, 2);
    assert_eq!(office.deliver().await.accepted, 2);
    for n in 3..=5 {
        office.account(&format!("A{n:02}"), "it", &format!("conti@a{n:02}.test")).await;
        office.invoice(&format!("I{n:02}"), &format!("A{n:02}"), 6, "100.00 EUR").await;
    }
    let run = office.scan().await;
    let released = run.released.unwrap();
    assert_eq!((released.state, released.awaiting, released.queued), (ReleaseState::Held, 3, 0));
    assert_eq!(released.braked[0].brake, BrakeCode::NoticesPerRun);
    assert_eq!(released.braked[0].why, "3 notices, and a run may send 2 (policy.toml, brake.notices_per_run)");
    // A scan of one account does not put it out of sight.
    let one = ScanRequest { account: Some(AccountId::parse("A01").unwrap()), ..Office::request() };
    daemon::scan(&office.shell, &one, &mut |_| {}).await.unwrap();
    let mut connection = office.shell.pool.acquire().await.unwrap();
    let status = record::status(&mut connection, &BTreeMap::new(), &office.shell.host).await.unwrap();
    drop(connection);
    let latest: Vec<_> = status.runs.iter().map(|row| (row.run_id, row.release.as_deref(), row.awaiting)).collect();
    assert_eq!(latest, [(run.run.unwrap().0, Some("held"), 3)]);
    let which = Which::Run(run.run.unwrap().0);
    let own = daemon::approve(&office.shell, &which, "mine").await.unwrap_err();
    assert!(matches!(own, ApprovalError::SamePerson { .. }), "{own}");
    assert_eq!(approve(&mut office, &which).await.unwrap().approved, 3);
    assert_eq!(office.deliver().await.accepted, 3);
    office.verified().await;
}

#[tokio::test]
async fn whoever_asked_for_a_run_does_not_approve_a_changed_bank_account_in_any_mode() {
    for installation in [Mode::Live, Mode::ApproveAll] {
        let mut office = Office::new().await;
        office.accounts(2).await;
        office.scan().await;
        office.deliver().await;
        mode(&office, installation).await;
        office.bank_account_was("OLD").await;
        office.go_to(day_plus(9)).await;
        let run = office.scan().await;
        let released = run.released.unwrap();
        assert_eq!((released.awaiting, released.braked[0].brake), (2, BrakeCode::BankAccount));
        assert_eq!(office.lines("SELECT approval FROM dunning.notice WHERE approval IS NOT NULL").await, ["brake"; 2]);
        let notice =
            office.lines("SELECT notice_id::text FROM dunning.notice WHERE approval = 'brake'").await.remove(0);
        for which in [Which::All, Which::Run(run.run.unwrap().0), Which::Notices(vec![notice.parse().unwrap()])] {
            let own = daemon::approve(&office.shell, &which, "mine").await.unwrap_err();
            assert!(matches!(own, ApprovalError::SamePerson { .. }), "{own}");
        }
        assert_eq!(approve(&mut office, &Which::All).await.unwrap().approved, 2);
        assert_eq!(office.deliver().await.accepted, 2);
        office.verified().await;
    }
}

#[tokio::test]
async fn the_first_run_sends_a_part_and_the_next_day_twice_as_many() {
    let setup = Setup::default().policy("first_run_notices = 100", "first_run_notices = 2");
    let mut office = Office::with(setup).await;
    office.accounts(7).await;
    office.sql("UPDATE ledger.item SET due_date = due_date - 1 WHERE item_id = 'I07'").await;
    let released = office.scan().await.released.unwrap();
    assert_eq!((released.state, released.queued, released.cancelled), (ReleaseState::Ramped, 2, 5));
    assert_eq!(office.deliver().await.accepted, 2);
    // The oldest first.
    assert_eq!(office.count("dunning.notice WHERE state = 'accepted' AND account_id IN ('A07', 'A01')").await, 2);
    // Again on the same day: nothing more.
    assert_eq!(office.scan().await.released.unwrap().queued, 0);
    office.go_to(day_plus(1)).await;
    let released = office.scan().await.released.unwrap();
    assert_eq!((released.state, released.queued), (ReleaseState::Ramped, 4));
    office.verified().await;
}

#[tokio::test]
async fn a_ramp_goes_on_where_it_was_after_days_on_which_nothing_went_out_by_itself() {
    let setup = Setup::default().policy("first_run_notices = 100", "first_run_notices = 1");
    let mut office = Office::with(setup).await;
    office.accounts(8).await;
    let released = office.scan().await.released.unwrap();
    assert_eq!((released.state, released.queued, released.cancelled), (ReleaseState::Ramped, 1, 7));
    office.deliver().await;
    let own = office.bank_account_was("OLD").await;
    office.go_to(day_plus(1)).await;
    let run = office.scan().await;
    assert_eq!(run.released.unwrap().state, ReleaseState::Held);
    assert_eq!(daemon::drop_waiting(&office.shell, &Which::Run(run.run.unwrap().0), "who is it?").await.unwrap(), 7);
    office.bank_account_was(&own).await;
    office.go_to(day_plus(2)).await;
    mode(&office, Mode::Shadow).await;
    office.scan().await;
    office.go_to(day_plus(3)).await;
    mode(&office, Mode::ApproveAll).await;
    office.scan().await;
    daemon::drop_waiting(&office.shell, &Which::All, "not yet").await.unwrap();
    mode(&office, Mode::Live).await;
    let released = office.scan().await.released.unwrap();
    assert_eq!((released.state, released.queued), (ReleaseState::Ramped, 2));
    office.deliver().await;
    office.go_to(day_plus(6)).await;
    let released = office.scan().await.released.unwrap();
    assert_eq!((released.state, released.queued, released.cancelled), (ReleaseState::Ramped, 4, 1));
    office.verified().await;
}

#[tokio::test]
async fn approving_a_part_of_a_ramped_run_does_not_end_the_ramp() {
    let setup = Setup::default()
        .policy("first_run_notices = 100", "first_run_notices = 1")
        .policy("never_reminded_days = 180", "never_reminded_days = 8");
    let mut office = Office::with(setup).await;
    office.accounts(5).await;
    office.sql("UPDATE ledger.item SET due_date = due_date - 5 WHERE item_id = 'I05'").await;
    let run = office.scan().await;
    assert_eq!(run.released.unwrap().state, ReleaseState::Ramped);
    approve(&mut office, &Which::Run(run.run.unwrap().0)).await.unwrap();
    assert_eq!(office.deliver().await.accepted, 2);
    assert_eq!(office.lines("SELECT release FROM dunning.run").await, ["ramped"]);
    office.go_to(day_plus(1)).await;
    let released = office.scan().await.released.unwrap();
    assert_eq!((released.state, released.queued), (ReleaseState::Ramped, 2));
}

#[tokio::test]
async fn notices_beyond_an_hours_number_wait_for_the_next_hours() {
    let setup = Setup::default().policy("notices_per_hour = 500", "notices_per_hour = 2");
    let office = Office::with(setup).await;
    office.accounts(3).await;
    assert_eq!(office.scan().await.queued, 3);
    assert_eq!(office.deliver().await.accepted, 2);
    assert_eq!(office.count("dunning.notice WHERE not_before > now() + interval '50 minutes'").await, 1);
}

/// How many notices in the queue go out in each hour from now on, each notice in its own.
async fn by_hour(office: &Office) -> Vec<String> {
    let hours = "SELECT count(*)::text FROM dunning.notice WHERE state = 'queued'
                 GROUP BY round(coalesce(extract(epoch FROM not_before - now()), 0) / 3600)
                 ORDER BY round(coalesce(extract(epoch FROM not_before - now()), 0) / 3600)";
    office.lines(hours).await
}

/// So many accounts `A1001`… with one invoice each, six days late.
async fn many_accounts(office: &Office, count: u32) {
    let last = 1000 + count;
    office
        .sql(format!(
            "INSERT INTO ledger.account (account_id, creditor, name, party_kind, country, language)
             SELECT 'A' || n, '{CREDITOR}', 'Debitore', 'company', 'IT', 'it' FROM generate_series(1001, {last}) n;
             INSERT INTO ledger.contact (contact_id, account_id, role, name, email, is_primary, no_email)
             SELECT 'A' || n, 'A' || n, 'billing', 'Ada', 'conti@a' || n || '.test', true, false
             FROM generate_series(1001, {last}) n;
             INSERT INTO ledger.item (item_id, account_id, kind, document_no, issue_date, due_date, currency, amount,
                                      open_amount)
             SELECT 'I' || n, 'A' || n, 'invoice', 'FT ' || n, '2026-02-01', '2026-03-04', 'EUR', 100, 100
             FROM generate_series(1001, {last}) n"
        ))
        .await;
}

#[tokio::test]
async fn thousands_of_notices_are_kept_back_or_let_out_each_once_and_share_their_hours() {
    let setup = Setup::default()
        .policy("notices_per_run = 2000", "notices_per_run = 5000")
        .policy("first_run_notices = 100", "first_run_notices = 2020")
        .policy("notices_per_hour = 500", "notices_per_hour = 1000");
    let office = Office::with(setup).await;
    many_accounts(&office, 2030).await;
    mode(&office, Mode::Shadow).await;
    assert_eq!(office.scan().await.released.unwrap().cancelled, 2030);
    assert_eq!(office.count("dunning.notice WHERE state = 'cancelled' AND reason = 'shadow'").await, 2030);
    let told =
        "(SELECT notice_id FROM dunning.event WHERE kind = 'notice_cancelled' GROUP BY 1 HAVING count(*) = 1) one";
    assert_eq!(office.count(told).await, 2030);
    office.verified().await;

    mode(&office, Mode::Live).await;
    let released = office.scan().await.released.unwrap();
    assert_eq!((released.queued, released.cancelled), (2020, 10));
    assert_eq!(office.count("dunning.notice WHERE state = 'queued'").await, 2020);
    assert_eq!(by_hour(&office).await, ["1000", "1000", "20"]);
    let last = "SELECT max(account_id) FROM dunning.notice WHERE state = 'queued'";
    assert_eq!(office.lines(last).await, ["A3020"], "the oldest cases first, then by account");
    office.verified().await;
}

#[tokio::test]
async fn an_hour_has_its_number_of_notices_however_many_approvals_let_them_out() {
    let setup = Setup::default()
        .policy("notices_per_hour = 500", "notices_per_hour = 200")
        .policy("waiting_limit = 200", "waiting_limit = 2000");
    let mut office = Office::with(setup).await;
    many_accounts(&office, 620).await;
    mode(&office, Mode::ApproveAll).await;
    assert_eq!(office.scan().await.released.unwrap().awaiting, 620);
    let first: Vec<uuid::Uuid> = office
        .lines("SELECT notice_id::text FROM dunning.notice ORDER BY created_at, notice_id LIMIT 90")
        .await
        .iter()
        .map(|id| id.parse().unwrap())
        .collect();
    // What shrank meanwhile takes its place like any other.
    office.sql("UPDATE ledger.item SET open_amount = 40 WHERE item_id = 'I1001'").await;
    approve(&mut office, &Which::Notices(first)).await.unwrap();
    assert_eq!(by_hour(&office).await, ["90"]);
    approve(&mut office, &Which::All).await.unwrap();
    assert_eq!(by_hour(&office).await, ["200", "200", "200", "20"]);
}

#[tokio::test]
async fn two_approvals_at_once_do_not_fill_the_same_hour_twice() {
    let setup = Setup::default().policy("notices_per_hour = 500", "notices_per_hour = 1");
    let mut office = Office::with(setup).await;
    office.accounts(2).await;
    mode(&office, Mode::ApproveAll).await;
    assert_eq!(office.scan().await.released.unwrap().awaiting, 2);
    office.shell.actor = Actor { os_user: "chief".into(), person: "Chiara".into() };
    let ids = office.lines("SELECT notice_id::text FROM dunning.notice ORDER BY account_id").await;
    let which: Vec<Which> = ids.iter().map(|id| Which::Notices(vec![id.parse().unwrap()])).collect();
    // The first has counted the hours, and waits for its notice.
    let mut other = office.hand.begin().await.unwrap();
    sqlx::query("SELECT FROM dunning.notice WHERE account_id = 'A01' FOR UPDATE").execute(&mut *other).await.unwrap();
    let let_go = async {
        while office.count("pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()").await
            == 0
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let second = daemon::approve(&office.shell, &which[1], "looked at");
        let second = tokio::time::timeout(Duration::from_millis(500), second).await;
        other.rollback().await.unwrap();
        second
    };
    let (first, second) = tokio::join!(daemon::approve(&office.shell, &which[0], "looked at"), let_go);
    assert_eq!(first.unwrap().approved, 1);
    if second.is_err() {
        daemon::approve(&office.shell, &which[1], "looked at").await.unwrap();
    }
    assert_eq!(by_hour(&office).await, ["1", "1"]);
}

#[tokio::test]
async fn what_waits_for_a_creditor_who_left_the_configuration_can_only_be_dropped() {
    let mut office = waiting().await;
    office.sql("UPDATE dunning.notice SET creditor = 'quattro_aquiloni'").await;
    let notice = office.lines("SELECT notice_id::text FROM dunning.notice").await.remove(0);
    let error = approve(&mut office, &Which::All).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "notice {notice} is of creditor quattro_aquiloni, who is no longer in creditors.toml: put him back, or drop it \
             with `dunningd outbox drop {notice}`"
        )
    );
    daemon::drop_waiting(&office.shell, &Which::All, "gone").await.unwrap();
    assert_eq!(office.notices().await, ["A01 friendly cancelled dropped"]);
}

#[tokio::test]
async fn a_changed_bank_account_holds_the_next_run_and_shows_old_and_new() {
    let mut office = Office::new().await;
    office.accounts(2).await;
    assert_eq!(office.scan().await.queued, 2);
    assert_eq!(office.deliver().await.accepted, 2);
    let old = office.lines("SELECT bank_account FROM dunning.requisites WHERE account_id = 'A01'").await.remove(0);
    let new = "PL61109010140000071219812874";
    office
        .sql(format!(
            "UPDATE ledger.account SET requisites = '{{\"holder\": \"Tre Aquiloni\", \"iban\": \"{new}\"}}'
             WHERE account_id = 'A01'"
        ))
        .await;
    office.go_to(day_plus(9)).await;
    let run = office.scan().await;
    let released = run.released.unwrap();
    assert_eq!((released.state, released.braked[0].brake), (ReleaseState::Held, BrakeCode::BankAccount));
    let why = &released.braked[0].why;
    assert!(why.contains(new) && why.contains(&old) && why.contains("A01"), "{why}");
    approve(&mut office, &Which::Run(run.run.unwrap().0)).await.unwrap();
    let kept = "SELECT bank_account FROM dunning.requisites WHERE account_id = 'A01' ORDER BY since";
    assert_eq!(office.lines(kept).await, [old.as_str(), new]);
}

/// Three numbers with valid check digits.
const IBANS: [&str; 3] = ["PL61109010140000071219812874", "PL27114020040000300201355387", "GB29NWBK60161331926819"];

/// That item, or account, has a bank account of its own.
async fn is_paid_to(office: &Office, relation: &str, id: &str, iban: &str) {
    office
        .sql(format!(
            "UPDATE ledger.{relation} SET requisites = '{{\"holder\": \"Tre Aquiloni\", \"iban\": \"{iban}\"}}'
             WHERE {relation}_id = '{id}'"
        ))
        .await;
}

/// One account with two items, each paid to a number of its own, that were demanded on the first day.
async fn two_payees() -> Office {
    let office = Office::new().await;
    office.accounts(1).await;
    office.invoice("I02", "A01", 6, "200.00 EUR").await;
    is_paid_to(&office, "item", "I01", IBANS[0]).await;
    is_paid_to(&office, "item", "I02", IBANS[1]).await;
    assert_eq!(office.scan().await.queued, 1);
    assert_eq!(office.deliver().await.accepted, 1);
    office
}

#[tokio::test]
async fn a_letter_with_one_of_two_payees_left_is_no_change_of_a_bank_account() {
    let mut office = two_payees().await;
    office.sql("UPDATE ledger.item SET open_amount = 0, settled_on = '2026-03-11' WHERE item_id = 'I01'").await;
    office.go_to(day_plus(9)).await;
    let released = office.scan().await.released.unwrap();
    assert_eq!((released.state, released.queued), (ReleaseState::Released, 1));
}

#[tokio::test]
async fn an_item_that_is_paid_to_another_number_than_before_holds_the_run() {
    let mut office = two_payees().await;
    is_paid_to(&office, "item", "I02", IBANS[2]).await;
    office.go_to(day_plus(9)).await;
    let released = office.scan().await.released.unwrap();
    assert_eq!((released.state, released.braked[0].brake), (ReleaseState::Held, BrakeCode::BankAccount));
    let why = &released.braked[0].why;
    assert!(why.contains(&format!("the bank account {} instead of {}", IBANS[2], IBANS[1])), "{why}");
}

#[tokio::test]
async fn a_new_item_with_a_number_of_its_own_is_no_change_but_an_old_one_that_gets_one_is() {
    let mut office = Office::new().await;
    office.accounts(2).await;
    office.scan().await;
    office.deliver().await;
    office.invoice("I99", "A01", -3, "100.00 EUR").await;
    is_paid_to(&office, "item", "I99", IBANS[0]).await;
    office.go_to(day_plus(9)).await;
    let released = office.scan().await.released.unwrap();
    assert_eq!((released.state, released.queued), (ReleaseState::Released, 2));
    office.deliver().await;
    is_paid_to(&office, "item", "I02", IBANS[1]).await;
    office.go_to(day_plus(23)).await;
    let released = office.scan().await.released.unwrap();
    assert_eq!((released.state, released.braked.len()), (ReleaseState::Held, 1));
    assert!(released.braked[0].why.contains(IBANS[1]) && released.braked[0].why.contains("A02"));
}

#[tokio::test]
async fn a_new_number_of_the_creditor_is_approved_once_and_not_again_for_every_account() {
    let mut office = Office::new().await;
    office.accounts(1).await;
    office.account("B01", "it", "conti@b01.test").await;
    office.invoice("J01", "B01", 4, "100.00 EUR").await;
    office.scan().await;
    office.deliver().await;
    office.go_to(day_plus(1)).await;
    office.scan().await;
    office.deliver().await;
    office.bank_account_was("OLD").await;
    office.go_to(day_plus(9)).await;
    assert_eq!(office.scan().await.released.unwrap().state, ReleaseState::Held);
    approve(&mut office, &Which::All).await.unwrap();
    office.go_to(day_plus(10)).await;
    let released = office.scan().await.released.unwrap();
    assert_eq!((released.state, released.queued), (ReleaseState::Released, 1));
}

#[tokio::test]
async fn a_database_that_nobody_adopted_only_decides_dry() {
    let mut office = Office::new().await;
    office.accounts(1).await;
    assert_eq!(office.scan().await.queued, 1);
    let here = std::mem::replace(&mut office.shell.host, "another machine".to_owned());
    let refused = office.scan_as(&Office::request()).await.unwrap_err();
    assert!(matches!(refused, ScanError::Refused { code: RefusalCode::NotAdopted, .. }), "{refused}");
    assert!(office.deliver().await.not_adopted.is_some());
    assert_eq!(office.smtp.messages().len(), 0);
    let dry = daemon::ScanRequest { dry_run: true, ..Office::request() };
    assert!(office.scan_as(&dry).await.unwrap().0.not_adopted.is_some());
    let mut transaction = office.shell.pool.begin().await.unwrap();
    record::adopt(&mut transaction, &office.shell.host, "moved", &office.shell.actor).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(office.deliver().await.accepted, 1);
    office.shell.host = here;
    office.verified().await;
}

#[tokio::test]
async fn outside_production_only_named_domains_are_written_to() {
    let office = Office::new().await;
    office.accounts(1).await;
    office.account("B1", "it", "conti@b1.example.com").await;
    office.invoice("J1", "B1", 6, "100.00 EUR").await;
    let released = office.scan().await.released.unwrap();
    assert_eq!((released.queued, released.not_allowed), (1, 1));
    assert_eq!(office.deliver().await.accepted, 1);
    assert_eq!(office.notices().await, ["A01 friendly accepted", "B1 friendly cancelled recipient_not_allowed"]);
    office.verified().await;
}
