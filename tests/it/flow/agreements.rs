//! Plans, causes, contacts, write-offs and stages done elsewhere, from the entry to the next scan and the last check.

use chrono::NaiveDate;
use dunningd::daemon::{self, CallRequest, ContactRequest, Parts, PlanRequest, PromiseRequest};
use dunningd::model::{
    AccountId, CallOutcome, Cause, ContactEntry, ContactId, ContactRole, Currency, EmailAddress, Every, Handover,
    ItemId, Money, OnMissed,
};
use dunningd::record::{self, NewCause};
use rust_decimal::Decimal;

use crate::support::shell::{Office, day, day_plus};
use crate::support::smtp::{Phase, Reply};

fn account() -> AccountId {
    AccountId::parse("A01").unwrap()
}

fn item() -> ItemId {
    ItemId::parse("I01").unwrap()
}

/// One account with one invoice of 100 EUR whose first stage is due.
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

async fn is_stopped(office: &Office, stage: &str, reason: &str) {
    assert_eq!(office.deliver().await.cancelled, 1);
    assert_eq!(office.notices().await.last().unwrap(), &format!("A01 {stage} cancelled {reason}"));
    office.verified().await;
}

fn request(parts: &[(u64, i64)]) -> PlanRequest {
    let each = parts.iter().map(|(days, amount)| (day_plus(*days), Decimal::from(*amount))).collect();
    PlanRequest {
        currency: Currency::parse("EUR").unwrap(),
        items: Vec::new(),
        parts: Parts::Each(each),
        tolerance_days: Some(2),
        on_missed: Some(OnMissed::Instalment),
        restructure: None,
        reason: "accordo telefonico".to_owned(),
    }
}

async fn agree(office: &Office, request: &PlanRequest) -> Result<String, String> {
    let plan = daemon::agree_plan(&office.shell, &account(), request).await;
    plan.map(|plan| format!("{}.{}", plan.number, plan.version)).map_err(|error| error.to_string())
}

async fn plans(office: &Office) -> Vec<String> {
    let plans = daemon::plans(&office.shell, &account()).await.unwrap();
    plans.iter().map(|(plan, now)| format!("{}.{} {}", plan.number, plan.version, now.state.as_str())).collect()
}

#[tokio::test]
async fn a_missed_instalment_is_written_about_once_and_its_plan_is_kept_when_all_is_paid() {
    let mut office = one().await;
    assert_eq!(agree(&office, &request(&[(5, 40), (20, 60)])).await, Ok("1.1".to_owned()));
    assert_eq!(office.verdicts().await, ["A01 all_items_out"]);
    office.go_to(day_plus(7)).await;
    assert_eq!(office.verdicts().await, ["A01 before_first_stage"]);
    office.go_to(day_plus(8)).await;
    office.scan().await;
    assert_eq!(office.deliver().await.accepted, 1);
    assert_eq!(office.notices().await, ["A01 plan_missed accepted"]);
    assert_eq!(office.lines("SELECT item_id || ' ' || to_pay FROM dunning.notice_item").await, ["plan:1:1:1 40"]);
    let agreed = "SELECT letter #>> '{demands,0,rows,0,plan_agreed_on}' FROM dunning.message";
    assert_eq!(office.lines(agreed).await, ["2026-03-10"]);
    assert_eq!(plans(&office).await, ["1.1 missed"]);
    office.go_to(day_plus(9)).await;
    office.scan().await;
    assert_eq!(office.deliver().await.accepted, 0);
    office.sql("UPDATE ledger.item SET open_amount = 60").await;
    assert_eq!(plans(&office).await, ["1.1 running"]);
    office.sql("UPDATE ledger.item SET open_amount = 0, settled_on = '2026-03-19'").await;
    assert_eq!(plans(&office).await, ["1.1 kept"]);
    assert_eq!(office.verdicts().await, ["A01 nothing_open"]);
    office.verified().await;
}

#[tokio::test]
async fn a_plan_stands_still_over_an_item_that_is_written_off_and_a_task_says_so_until_it_is_agreed_anew() {
    let mut office = one().await;
    office.invoice("I02", "A01", 6, "50.00 EUR").await;
    let terms = PlanRequest { on_missed: Some(OnMissed::All), ..request(&[(5, 40), (20, 110)]) };
    assert_eq!(agree(&office, &terms).await, Ok("1.1".to_owned()));
    let mut connection = office.shell.pool.acquire().await.unwrap();
    let item = ItemId::parse("I02").unwrap();
    record::write_off(&mut connection, &account(), &item, "Kulanz", day_plus(1), &office.shell.actor).await.unwrap();
    drop(connection);
    for days in [8, 9] {
        office.go_to(day_plus(days)).await;
        assert_eq!(office.verdicts().await, ["A01 all_items_out"]);
        assert_eq!(office.tasks().await, ["A01 propose_plan"]);
    }
    assert_eq!(
        office.lines("SELECT text FROM dunning.task").await,
        [
            "plan 1 stands still, because its item I02 is written off: agree on it anew (`dunningd plan A01 --restructure 1 \
          …`), or end it"
        ]
    );
    // What is written off is left out, and what was agreed besides stays.
    let anew = PlanRequest { tolerance_days: None, on_missed: None, restructure: Some(1), ..request(&[(30, 100)]) };
    assert_eq!(agree(&office, &anew).await, Ok("1.2".to_owned()));
    let terms = "SELECT concat_ws(' ', on_missed, tolerance_days) FROM dunning.plan ORDER BY version";
    assert_eq!(office.lines(terms).await, ["all 2", "all 2"]);
    assert_eq!(office.lines("SELECT item_id FROM dunning.plan_item WHERE version = 2").await, ["I01"]);
    office.verified().await;
}

#[tokio::test]
async fn a_plan_over_a_queued_item_and_a_payment_of_a_demanded_instalment_stop_the_notice() {
    let mut office = queued().await;
    agree(&office, &request(&[(5, 40), (20, 60)])).await.unwrap();
    is_stopped(&office, "friendly", "planned_before_send").await;
    office.go_to(day_plus(8)).await;
    assert_eq!(office.scan().await.queued, 1);
    office.sql("UPDATE ledger.item SET open_amount = 80").await;
    is_stopped(&office, "plan_missed", "paid_before_send").await;
    assert_eq!(office.scan().await.queued, 1);
    assert_eq!(office.lines("SELECT to_pay::text FROM dunning.notice_item WHERE live").await, ["20"]);
    daemon::end_plan(&office.shell, &account(), None, "disdetta").await.unwrap();
    is_stopped(&office, "plan_missed", "planned_before_send").await;
    assert_eq!(office.verdicts().await, ["A01 contact"]);
    assert_eq!(plans(&office).await, ["1.1 ended"]);
}

#[tokio::test]
async fn a_notice_about_an_instalment_does_not_outlast_the_day_that_the_ledger_names_for_an_item_behind_it() {
    for (column, reason) in [
        ("settled_on", "paid_before_send"),
        ("written_off_on", "written_off_before_send"),
        ("disputed_since", "disputed_before_send"),
    ] {
        let mut office = one().await;
        agree(&office, &request(&[(5, 40), (20, 60)])).await.unwrap();
        office.sql(format!("UPDATE ledger.item SET {column} = '2026-03-19'")).await;
        office.go_to(day_plus(8)).await;
        assert_eq!(office.scan().await.queued, 1);
        office.go_to(day_plus(9)).await;
        is_stopped(&office, "plan_missed", reason).await;
        assert_ne!(office.verdicts().await, ["A01 contact"]);
    }
}

#[tokio::test]
async fn a_notice_about_an_instalment_is_not_sent_again_when_all_of_its_plan_was_paid_and_left_to_a_person_before() {
    for (open, state) in [(0, "cancelled"), (80, "unknown")] {
        let mut office = one().await;
        agree(&office, &request(&[(5, 40), (20, 60)])).await.unwrap();
        office.go_to(day_plus(8)).await;
        office.scan().await;
        office.sql("UPDATE dunning.notice SET on_unknown = 'resend_once'").await;
        office.smtp.once(Phase::Dot, Reply::close());
        assert_eq!(office.deliver().await.unknown, 1);
        office.sql(format!("UPDATE ledger.item SET open_amount = {open}")).await;
        office.sql("UPDATE dunning.notice SET changed_at = changed_at - interval '25 hours'").await;
        office.go_to(day_plus(9)).await;
        assert_eq!(office.deliver().await.cancelled, 1);
        assert_eq!(office.notices().await, [format!("A01 plan_missed {state} paid_before_send")]);
        office.verified().await;
    }
}

#[tokio::test]
async fn a_restructured_plan_is_a_new_version_over_what_is_open_and_the_old_one_is_kept() {
    let mut office = one().await;
    agree(&office, &request(&[(5, 40), (20, 60)])).await.unwrap();
    office.sql("UPDATE ledger.item SET open_amount = 70").await;
    office.go_to(day_plus(8)).await;
    let mut changed = request(&[(30, 35), (60, 35)]);
    changed.restructure = Some(1);
    assert_eq!(agree(&office, &changed).await, Ok("1.2".to_owned()));
    assert_eq!(plans(&office).await, ["1.1 ended", "1.2 running"]);
    assert_eq!(office.verdicts().await, ["A01 all_items_out"]);
    changed.restructure = Some(9);
    assert_eq!(agree(&office, &changed).await.unwrap_err(), "account A01 has no running plan 9");
    assert_eq!(office.count("dunning.event WHERE kind IN ('plan_agreed', 'plan_restructured')").await, 2);
    office.verified().await;
}

#[tokio::test]
async fn a_plan_that_does_not_fit_is_refused() {
    let office = one().await;
    let refused = async |parts: &[(u64, i64)]| agree(&office, &request(parts)).await.unwrap_err();
    assert_eq!(refused(&[(5, 40), (20, 50)]).await, {
        "the instalments add up to 90.00 EUR, 10.00 EUR less than the 100.00 EUR that is open"
    });
    assert_eq!(refused(&[(5, 40), (5, 60)]).await, "two instalments are due on 2026-03-15; make them one");
    assert_eq!(refused(&[(5, 110), (6, -10)]).await, "instalment 2: -10 EUR is no amount of money");
    assert_eq!(refused(&[(5, 40), (5 + 11_000, 60)]).await, {
        "the last instalment, of 2056-04-26, lies more than 30 years after the first, of 2026-03-15; correct the days"
    });
    let from = NaiveDate::from_ymd_opt(2198, 3, 10).unwrap();
    let parts = Parts::Equal { parts: 20, every: Every::Quarter, from };
    assert_eq!(agree(&office, &PlanRequest { parts, ..request(&[]) }).await.unwrap_err(), {
        "instalment 13 would be due on 2201-03-10; no day after 2200-12-31 can be agreed"
    });
    let many: Vec<_> = (1..=121).map(|day| (day, 1)).collect();
    assert_eq!(refused(&many).await, "a plan has at most 120 instalments, and these are 121; make them fewer");
    let promise = PromiseRequest {
        amount: Money::new(Decimal::from(50), Currency::parse("EUR").unwrap()),
        by_day: day_plus(5),
        tolerance_days: 0,
        items: vec![item()],
        reason: "x".to_owned(),
    };
    agree(&office, &request(&[(5, 100)])).await.unwrap();
    assert_eq!(refused(&[(5, 100)]).await, "nothing in EUR is overdue that a plan could be made of");
    let promised = async |items: &[ItemId]| {
        let request = PromiseRequest { items: items.to_vec(), ..promise.clone() };
        daemon::promise(&office.shell, &account(), &request).await.unwrap_err().to_string()
    };
    assert_eq!(promised(&[item()]).await, "item I01 is in plan 1 already; end or restructure that one");
    assert_eq!(promised(&[]).await, "nothing can be promised on what is overdue in EUR: all is in plan 1");
}

#[tokio::test]
async fn of_two_clerks_at_once_one_gets_the_promise() {
    let office = one().await;
    let second = office.second_shell().await;
    let promise = PromiseRequest {
        amount: Money::new(Decimal::from(50), Currency::parse("EUR").unwrap()),
        by_day: day_plus(5),
        tolerance_days: 0,
        items: vec![item()],
        reason: "x".to_owned(),
    };
    let account = account();
    let (a, b) =
        tokio::join!(daemon::promise(&office.shell, &account, &promise), daemon::promise(&second, &account, &promise));
    assert_eq!([a.is_ok(), b.is_ok()].iter().filter(|done| **done).count(), 1);
    assert_eq!(office.count("dunning.promise").await, 1);
}

#[tokio::test]
async fn a_broken_promise_is_told_once() {
    let mut office = one().await;
    let promise = PromiseRequest {
        amount: Money::new(Decimal::from(100), Currency::parse("EUR").unwrap()),
        by_day: day_plus(2),
        tolerance_days: 0,
        items: Vec::new(),
        reason: "x".to_owned(),
    };
    daemon::promise(&office.shell, &account(), &promise).await.unwrap();
    for n in 3..6 {
        office.go_to(day_plus(n)).await;
        office.scan().await;
        office.sql("UPDATE dunning.task SET closed_at = clock_timestamp()").await;
    }
    assert_eq!(office.count("dunning.task WHERE kind = 'promise_broken'").await, 1);
    assert_eq!(office.count("dunning.event WHERE kind = 'promise_broken'").await, 1);
    office.verified().await;
}

async fn cause(office: &Office, cause: Cause) -> Result<i64, String> {
    let mut transaction = office.shell.pool.begin().await.unwrap();
    let actor = &office.shell.actor;
    let told = NewCause { item: Some(&item()), cause, reason: "x", since: day() };
    let id = record::record_cause(&mut transaction, &account(), &told, actor).await;
    transaction.commit().await.unwrap();
    id.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_cause_in_the_meantime_stops_the_notice_and_opens_its_task_once() {
    let office = queued().await;
    cause(&office, Cause::WrongDetails).await.unwrap();
    assert_eq!(cause(&office, Cause::WrongDetails).await.unwrap_err(), "cause wrong_details is recorded already");
    is_stopped(&office, "friendly", "cause_before_send").await;
    assert_eq!(office.verdicts().await, ["A01 all_items_out"]);
    office.scan().await;
    office.sql("UPDATE dunning.task SET closed_at = clock_timestamp()").await;
    office.scan().await;
    assert_eq!(office.count("dunning.task WHERE kind = 'correct_invoice'").await, 1);
    let mut connection = office.shell.pool.acquire().await.unwrap();
    let actor = &office.shell.actor;
    record::clear_causes(&mut connection, &account(), Some(&item()), None, "corretta", actor).await.unwrap();
    let again = record::clear_causes(&mut connection, &account(), Some(&item()), None, "x", actor).await;
    assert_eq!(again.unwrap_err().to_string(), "there is no such cause to clear on item I01");
    assert_eq!(office.verdicts().await, ["A01 contact"]);
    office.verified().await;
}

#[tokio::test]
async fn a_call_records_the_cause_that_it_told_unless_that_is_left_out() {
    let office = one().await;
    let mut call =
        CallRequest { outcome: CallOutcome::Refuses, note: None, item: None, no_cause: true, called_on: day() };
    assert_eq!(daemon::call(&office.shell, &account(), &call).await.unwrap(), (1, None));
    call.no_cause = false;
    for number in [2, 3] {
        assert_eq!(daemon::call(&office.shell, &account(), &call).await.unwrap(), (number, Some(Cause::Unwilling)));
    }
    assert_eq!(office.lines("SELECT concat_ws(' ', cause, reason) FROM dunning.cause").await, ["unwilling call 2"]);
    office.verified().await;
}

#[tokio::test]
async fn a_write_off_in_the_meantime_stops_the_notice_and_can_be_undone() {
    let office = queued().await;
    let mut connection = office.shell.pool.acquire().await.unwrap();
    let actor = &office.shell.actor;
    record::write_off(&mut connection, &account(), &item(), "fallito", day(), actor).await.unwrap();
    let again = record::write_off(&mut connection, &account(), &item(), "x", day(), actor).await.unwrap_err();
    assert_eq!(again.to_string(), "item I01 is written off already");
    is_stopped(&office, "friendly", "written_off_before_send").await;
    assert_eq!(office.verdicts().await, ["A01 all_items_out"]);
    record::undo_write_off(&mut connection, &account(), &item(), "errore", actor).await.unwrap();
    assert_eq!(office.verdicts().await, ["A01 contact"]);
    assert_eq!(office.count("ledger.item WHERE written_off_on IS NOT NULL").await, 0);
    office.verified().await;
}

fn entry(id: &str, email: &str) -> ContactEntry {
    ContactEntry {
        contact: ContactId::parse(id).unwrap(),
        role: None,
        email: Some(EmailAddress::parse(email).unwrap()),
        no_email: None,
        language: None,
        phone: None,
        name: None,
        erased: false,
    }
}

async fn enter(office: &Office, entry: ContactEntry, is_new: bool) -> Result<String, String> {
    let request = ContactRequest { entry, is_new, reason: "indirizzo nuovo".to_owned() };
    let id = daemon::enter_contact(&office.shell, &account(), &request).await;
    id.map(|id| id.to_string()).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_corrected_address_stops_the_letter_to_the_old_one_and_stays_out_of_the_log_and_the_ledger() {
    let office = queued().await;
    let contact = office.lines("SELECT contact_id FROM ledger.contact").await.remove(0);
    enter(&office, entry(&contact, "nuovo@debitore.test"), false).await.unwrap();
    is_stopped(&office, "friendly", "contact_before_send").await;
    office.scan().await;
    assert_eq!(office.deliver().await.accepted, 1);
    assert_eq!(office.lines("SELECT recipient FROM dunning.message m JOIN dunning.notice n USING (notice_id) WHERE n.state = 'accepted'").await, ["nuovo@debitore.test"]);
    assert_eq!(office.count("dunning.event WHERE convert_from(bytes, 'UTF8') LIKE '%nuovo@%'").await, 0);
    assert_eq!(office.count("ledger.contact WHERE email LIKE 'nuovo@%'").await, 0);
    assert_eq!(enter(&office, entry("Z", "a@b.example"), false).await.unwrap_err(), "account A01 has no contact Z");
    office.sql("DELETE FROM dunning.contact_data").await;
    office.verified().await;
}

#[tokio::test]
async fn an_address_that_takes_no_mail_fails_the_contact_opens_a_task_and_leaves_the_stage_to_another_address() {
    for words in ["5.1.1 no such mailbox", "5.1.1 the address is on the suppression list"] {
        let mut office = queued().await;
        office.smtp.on_recipient(Phase::RcptTo, "conti@a01.test", Reply::code(550, words));
        assert_eq!(office.deliver().await.refused, 1);
        // Not counted, not in the queue, not escalated over.
        assert_eq!(office.notices().await, ["A01 friendly refused"]);
        assert_eq!(office.count("dunning.notice WHERE counted_on IS NOT NULL OR accepted_on IS NOT NULL").await, 0);
        for n in [1, 10, 30] {
            office.go_to(day_plus(n)).await;
            assert_eq!(office.verdicts().await, ["A01 previous_stage_incomplete"]);
            assert_eq!(office.deliver().await.refused, 0);
        }
        assert_eq!(office.tasks().await, ["A01 resolve_notice"]);
        let contact = office.lines("SELECT contact_id FROM ledger.contact").await.remove(0);
        enter(&office, entry(&contact, "nuovo@debitore.test"), false).await.unwrap();
        let notice = sqlx::query_scalar("SELECT notice_id FROM dunning.notice").fetch_one(&office.hand).await.unwrap();
        let mut connection = office.shell.pool.acquire().await.unwrap();
        let resolution = record::Resolution::NotSent;
        record::resolve(&mut connection, notice, resolution, "new address", &office.shell.actor).await.unwrap();
        assert_eq!(office.tasks().await, [""; 0]);
        office.scan().await;
        assert_eq!(office.deliver().await.accepted, 1);
        assert_eq!(office.smtp.messages()[0].to, ["nuovo@debitore.test"]);
        assert_eq!(office.notices().await[1..], ["A01 friendly accepted"]);
        office.verified().await;
    }
}

#[tokio::test]
async fn an_address_that_is_not_to_be_written_to_any_more_takes_its_letter_out_of_the_queue() {
    let office = queued().await;
    let contact = office.lines("SELECT contact_id FROM ledger.contact").await.remove(0);
    let silent = ContactEntry { email: None, no_email: Some(true), ..entry(&contact, "conti@a01.test") };
    enter(&office, silent, false).await.unwrap();
    is_stopped(&office, "friendly", "contact_before_send").await;
    assert_eq!(office.smtp.received_count(), 0);
    assert_eq!(office.verdicts().await, ["A01 no_address"]);
    assert_eq!(office.tasks().await, ["A01 find_address"]);
    assert_eq!(office.count("dunning.notice WHERE state <> 'cancelled'").await, 0);
}

#[tokio::test]
async fn a_contact_of_ours_is_written_to_and_one_entry_keeps_what_another_said() {
    let office = one().await;
    office.sql("DELETE FROM ledger.contact").await;
    assert_eq!(office.verdicts().await, ["A01 no_address"]);
    let new = ContactEntry { role: Some(ContactRole::Dunning), ..entry("new", "ada@debitore.test") };
    assert_eq!(enter(&office, new, true).await.unwrap(), "own:1");
    assert_eq!(office.verdicts().await, ["A01 contact"]);
    let language = ContactEntry { email: None, language: Some("pl".to_owned()), ..entry("own:1", "a@b.example") };
    enter(&office, language, false).await.unwrap();
    let (snapshot, _) = daemon::look_at(&office.shell, &account(), None).await.unwrap();
    let contact = &snapshot.contacts[0];
    assert_eq!(
        (contact.email.as_ref().map(EmailAddress::as_str), contact.language.as_deref()),
        (Some("ada@debitore.test"), Some("pl"))
    );
    let mut connection = office.shell.pool.acquire().await.unwrap();
    let id = ContactId::parse("own:1").unwrap();
    record::remove_contact(&mut connection, &account(), &id, "x", &office.shell.actor).await.unwrap();
    is_stopped(&office, "friendly", "contact_before_send").await;
    assert_eq!(office.verdicts().await, ["A01 no_address"]);
    office.verified().await;
}

async fn import(office: &Office, rows: &str) -> Result<(usize, usize), String> {
    let file = format!("item_id,stage,done_on,by\n{rows}");
    daemon::import_opening(&office.shell, file.as_bytes(), false).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn stages_done_elsewhere_count_from_their_day() {
    let mut office = one().await;
    let rows = "I01,friendly,2026-03-09,Anna\n";
    let dry = daemon::import_opening(&office.shell, format!("item_id,stage,done_on,by\n{rows}").as_bytes(), true).await;
    assert_eq!((dry.unwrap(), office.count("dunning.waiver").await), ((1, 1), 0));
    assert_eq!(import(&office, rows).await, Ok((1, 1)));
    assert_eq!(office.verdicts().await, ["A01 too_soon"]);
    assert_eq!(import(&office, rows).await.unwrap_err(), {
        "nothing was imported, 1 finding\nline 2, column stage: stage friendly of item I01 is complete or on its way already"
    });
    office.go_to(day_plus(8)).await;
    office.scan().await;
    assert_eq!(office.deliver().await.accepted, 1);
    assert_eq!(office.notices().await, ["A01 firm accepted"]);
    assert_eq!(office.count("dunning.event WHERE kind = 'opening_imported'").await, 1);
    office.verified().await;
}

#[tokio::test]
async fn a_file_of_stages_with_one_wrong_row_imports_nothing() {
    let office = one().await;
    assert_eq!(import(&office, "I01,friendly,2026-03-09,Anna\nI09,friendly,2026-03-09,Anna\nI01,firm,2099-01-01,Anna\nI01,last,2026-03-09,Anna\n").await.unwrap_err(), {
        "nothing was imported, 3 findings\n\
         line 3, column item_id: the ledger has no item I09\n\
         line 4, column done_on: 2099-01-01 lies in the future\n\
         line 5, column stage: ladder default has no stage last, only courtesy, friendly, firm, call, final, formal, handover"
    });
    assert_eq!(import(&office, "I01,firm,2026-03-09,Anna\n").await.unwrap_err(), {
        "nothing was imported, 1 finding\n\
         line 2, column stage: stage friendly comes before firm and is neither complete nor in the file"
    });
    assert_eq!(import(&office, "I01,firm,9/3/2026,\n").await.unwrap_err(), {
        "nothing was imported, 2 findings\n\
         line 2, column done_on: \"9/3/2026\" is not a day such as 2026-05-31, between 1900-01-01 and 2200-12-31\n\
         line 2, column by: it is empty: say who did it"
    });
    assert_eq!(office.count("dunning.waiver").await + office.count("dunning.event").await, 0);
}

#[tokio::test]
async fn money_after_a_hand_over_is_told_once_per_change_and_nobody_is_written_to() {
    let mut office = one().await;
    let handover =
        Handover { to: "Recupero".to_owned(), reason: "x".to_owned(), since: day(), number: 0, items: vec![] };
    let mut transaction = office.shell.pool.begin().await.unwrap();
    record::hand_over(&mut transaction, &account(), &handover, &office.shell.actor).await.unwrap();
    transaction.commit().await.unwrap();
    office.scan().await;
    assert_eq!(office.tasks().await, [""; 0]);
    for (n, open) in [(1, 60), (2, 60), (3, 50)] {
        office.go_to(day_plus(n)).await;
        office.sql(format!("UPDATE ledger.item SET open_amount = {open}")).await;
        office.scan().await;
        office.sql("UPDATE dunning.task SET closed_at = clock_timestamp()").await;
    }
    let told = office.lines("SELECT subject FROM dunning.task ORDER BY task_id").await;
    assert_eq!(told, ["handover 1: 40.00 EUR", "handover 1: 50.00 EUR"]);
    assert_eq!(office.count("dunning.event WHERE kind = 'payment_after_handover'").await, 2);
    assert_eq!(office.count("dunning.notice").await, 0);
    office.verified().await;
}

#[tokio::test]
async fn what_people_did_not_record_leaves_the_fingerprint_as_it_was() {
    let office = one().await;
    office.scan().await;
    // The definition before this version, on the same rows.
    let old = include_str!("../../../migrations/0003_register.sql");
    let old = &old[old.find("CREATE OR REPLACE FUNCTION").unwrap()..];
    let old = &old[..old.find("$fingerprint$;").unwrap() + "$fingerprint$;".len()];
    office.sql(old.replace("dunning.ledger_fingerprint", "dunning.old_fingerprint")).await;
    let same = "SELECT (fingerprint = dunning.old_fingerprint(account_id, ARRAY['I01'], as_of, business_date))::text
                FROM dunning.notice";
    assert_eq!(office.lines(same).await, ["true"]);
}

#[tokio::test]
async fn the_fingerprints_of_a_group_are_those_that_notices_were_queued_with_before() {
    let office = Office::new().await;
    office.accounts(12).await;
    // The definition before this version, one claim at a time.
    let old = include_str!("../../../migrations/0014_speed.sql");
    let old = &old[old.find("CREATE OR REPLACE FUNCTION").unwrap()..];
    let old = &old[..old.find("$fingerprint$;").unwrap() + "$fingerprint$;".len()];
    office.sql(old.replace("ledger_fingerprint", "old_fingerprint")).await;
    // Each account but the last has an entry of another kind.
    office
        .sql(
            "INSERT INTO dunning.hold (account_id, reason, since, placed_by) VALUES ('A01', 'x', '2026-03-10', 'x');
             INSERT INTO dunning.hold (account_id, item_id, until, reason, since, placed_by)
                 VALUES ('A02', 'I02', '2026-03-12', 'x', '2026-03-10', 'x');
             INSERT INTO dunning.waiver (account_id, item_id, stage, waived_on, reason, waived_by, since)
                 VALUES ('A03', 'I03', 'friendly', '2026-03-10', 'x', 'x', '2026-03-10');
             INSERT INTO dunning.handover (creditor, account_id, handed_to, reason, since, handed_by)
                 VALUES ('tre_aquiloni', 'A04', 'x', 'x', '2026-03-10', 'x');
             WITH p AS (INSERT INTO dunning.promise (creditor, account_id, amount, currency, made_on, by_day,
                     tolerance_days, reason, made_by)
                 VALUES ('tre_aquiloni', 'A05', 1, 'EUR', '2026-03-10', '2026-03-20', 1, 'x', 'x') RETURNING promise_id)
                 INSERT INTO dunning.promise_item (promise_id, item_id, open_then) SELECT promise_id, 'I05', 1 FROM p;
             INSERT INTO dunning.write_off (creditor, account_id, item_id, reason, since, written_off_by)
                 VALUES ('tre_aquiloni', 'A06', 'I06', 'x', '2026-03-10', 'x');
             INSERT INTO dunning.cause (creditor, account_id, cause, reason, since, recorded_by)
                 VALUES ('tre_aquiloni', 'A07', 'x', 'x', '2026-03-10', 'x');
             INSERT INTO dunning.contact_entry (creditor, account_id, contact_id, reason, since, entered_by)
                 VALUES ('tre_aquiloni', 'A08', 'c', 'x', '2026-03-10', 'x');
             WITH p AS (INSERT INTO dunning.plan (version, creditor, account_id, currency, agreed_on, tolerance_days,
                     on_missed, reason, agreed_by)
                 VALUES (1, 'tre_aquiloni', 'A09', 'EUR', '2026-03-10', 1, 'all', 'x', 'x') RETURNING plan_id)
                 INSERT INTO dunning.plan_item (plan_id, version, item_id, open_then) SELECT plan_id, 1, 'I09', 1 FROM p;
             UPDATE ledger.item SET open_amount = 1, disputed_since = '2026-03-11' WHERE item_id = 'I10';
             UPDATE ledger.account SET hold_reason = 'x' WHERE account_id = 'A11'",
        )
        .await;
    let differing = "
        WITH claims AS (
            SELECT a.account_id, ARRAY['I' || substr(a.account_id, 2), 'plan:' || p.plan_id || ':1:1', 'odd \"id\", {x}']
                AS items, d.as_of, '2026-03-10'::date AS at_date
            FROM ledger.account a, dunning.plan p, (VALUES (NULL::date), ('2026-03-10')) d (as_of)),
        many AS (SELECT array_agg(account_id) AS accounts, array_agg(items::text) AS demanded, array_agg(as_of) AS as_ofs,
                     array_agg(at_date) AS at_dates, array_agg(dunning.old_fingerprint(account_id, items, as_of, at_date)) AS old,
                     array_agg(dunning.ledger_fingerprint(account_id, items, as_of, at_date)) AS alone
                 FROM claims)
        SELECT concat_ws(' ', count(*), count(*) FILTER (WHERE f.fingerprint = many.old[f.place]),
                   count(*) FILTER (WHERE f.fingerprint = many.alone[f.place]), count(DISTINCT f.fingerprint))
        FROM many, dunning.ledger_fingerprints(accounts, demanded, as_ofs, at_dates) f";
    // The one that is disputed since tomorrow was not so yesterday.
    assert_eq!(office.lines(differing).await, ["24 24 24 13"]);
}
