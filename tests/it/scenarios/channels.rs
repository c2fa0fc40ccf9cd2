//! Stages that a person performs, and the stage before the due day.

use std::sync::Arc;

use dunningd::model::{
    Calendars, Cause, Channel, Country, HoldTarget, ItemCode, MailboxUse, NoticeState, OnMissed, PartyKind, TakenBack,
    Tone, Weekdays,
};

use crate::support::world::{World, check, check_items, check_tasks, completed_by, day, item_id, t, t_plus, with_code};

/// `firm` is a call that lapses after five working days.
fn calling() -> World {
    World::new()
        .stage("firm", |stage| {
            stage.channels = vec![Channel::Call];
            stage.lapse_after_working_days = Some(5);
            stage.attempts = 3;
        })
        .contact(0, |contact| contact.phone = Some("+48 22 100 20 30".to_owned()))
}

/// One item whose call is due.
fn to_call() -> World {
    calling().owes("A", 10, "100 EUR").reminded("friendly", 7, &["A"])
}

/// The same, with the call open since that many days.
fn call_open(days: i64) -> World {
    to_call().notice(NoticeState::WithPerson, "firm", days, &["A"]).by(Channel::Call, Some(7 - days))
}

/// What became of the tasks of people: `lapsed T-1`, `cancelled paid_before_send`.
fn taken_back(world: &World) -> Vec<String> {
    let told = |became: TakenBack| match became {
        TakenBack::Cancelled(reason) => format!("cancelled {}", reason.as_str()),
        TakenBack::Lapsed(on) => format!("lapsed {}", day(on)),
    };
    world.decide().taken_back.into_iter().map(|(_, became)| told(became)).collect()
}

#[test]
fn a_call_is_decided_like_a_letter_and_reaches_a_telephone() {
    let world = to_call();
    check(&world, "contact firm: demands A");
    let contacting = world.contacting();
    assert_eq!(contacting.channel, Channel::Call);
    assert_eq!(contacting.phone.as_deref(), Some("+48 22 100 20 30"));
    assert_eq!(contacting.recipient, None);
    assert_eq!(contacting.lapses_on.map(day).as_deref(), Some("T+5"));
    assert_eq!(completed_by(&world.decide()), [(item_id("A"), contacting.stage)]);
}

#[test]
fn a_call_needs_a_number_and_no_mailbox() {
    let without = to_call().contact(0, |contact| contact.phone = None);
    check(&without, "hold no_address");
    check_tasks(&without, "find_address");
    assert_eq!(without.decide().tasks[0].text, "1 contact: no telephone number");
    assert_eq!(
        without.decide().remedies[0].text,
        "The ledger gets a telephone number for a contact of account K-1 (`ledger.contact.phone`)."
    );
    check(&to_call().contact(0, |contact| contact.email = None), "contact firm: demands A");
}

#[test]
fn nothing_else_happens_while_a_call_is_open() {
    check(&call_open(1), "wait notice_pending until T+7");
    assert_eq!(taken_back(&call_open(1)), [""; 0]);
}

#[test]
fn after_a_call_the_next_stage_counts_from_the_day_it_was_made() {
    let late = calling().owes("A", 20, "100 EUR").reminded("friendly", 17, &["A"]);
    let called = late.notice(NoticeState::Done, "firm", 4, &["A"]).by(Channel::Call, None);
    check(&called, "wait too_soon until T+6");
    check(&called.on(6), "contact final: demands A");
}

#[test]
fn a_call_cannot_bounce_and_is_no_letter() {
    let called = to_call()
        .notice(NoticeState::Done, "firm", 0, &["A"])
        .by(Channel::Call, None)
        .policy(|policy| policy.bounce_window_days = 30);
    let decision = called.decide();
    assert_eq!(decision.items[0].reminded_on.map(day).as_deref(), Some("T-7"));
    assert_eq!(decision.items[0].due_on.map(day).as_deref(), Some("T+23"));
}

#[test]
fn a_call_that_nobody_made_lapses_after_its_last_day_and_the_ladder_goes_on() {
    let world = call_open(6);
    check(&world.on(1), "wait notice_pending until T+2");
    assert_eq!(taken_back(&world.on(2)), ["lapsed T+1"]);
    check(&world.on(2), "wait too_soon until T+11");
}

/// A call about A, whose second stage it is, that took B along, whose first it is; its last day was yesterday.
fn call_for_two() -> World {
    let world = calling().owes("A", 17, "100 EUR").owes("B", 10, "50 EUR").reminded("friendly", 14, &["A"]);
    let mut world = world.notice(NoticeState::WithPerson, "firm", 7, &["A"]).by(Channel::Call, Some(-1));
    let call = world.snapshot.history.notices.last_mut().unwrap();
    call.items.push((item_id("B"), crate::support::world::stage_name("friendly")));
    call.respond_by = Some(t_plus(5));
    world
}

#[test]
fn a_call_that_nobody_made_completes_its_own_stage_and_no_earlier_one() {
    let world = call_for_two();
    assert_eq!(taken_back(&world), ["lapsed T-1"]);
    check(&world, "contact friendly: demands B; also open A");
    check_items(&world, "A information, B demanded");
}

#[test]
fn what_a_call_took_along_comes_to_no_stage_below_one_that_the_debtor_heard_of_since() {
    let mut world = calling().owes("B", 23, "50 EUR").notice(NoticeState::Lapsed, "firm", 19, &["A"]);
    let call = world.snapshot.history.notices.last_mut().unwrap();
    call.items.push((item_id("B"), crate::support::world::stage_name("friendly")));
    check(&world, "contact friendly: demands B");
    check(&world.clone().notice(NoticeState::Lapsed, "firm", 13, &["B"]), "contact friendly: demands B");
    let heard = world.reminded("firm", 13, &["B"]).reminded("final", 3, &["B"]);
    check(&heard, "wait too_soon until T+7");
    check(&heard.on(7), "contact formal: demands B");
}

#[test]
fn only_what_was_taken_along_unheard_before_a_later_stage_was_heard_is_behind() {
    let next = |world: &World| world.decide().items[0].next_stage.as_ref().map(ToString::to_string);
    let owing = || calling().owes("B", 23, "50 EUR");
    let passed_over = owing().reminded("friendly", 17, &["B"]).reminded("final", 3, &["B"]);
    assert_eq!(next(&passed_over).as_deref(), Some("firm"), "no notice had it");
    let bounced = owing().notice(NoticeState::Bounced, "friendly", 19, &["B"]).reminded("final", 3, &["B"]);
    assert_eq!(next(&bounced).as_deref(), Some("friendly"), "a notice had it and bounced");
    let mut heard_before = owing().owes("C", 40, "50 EUR").reminded("friendly", 17, &["B"]).notice(
        NoticeState::Lapsed,
        "final",
        9,
        &["C"],
    );
    let call = heard_before.snapshot.history.notices.last_mut().unwrap();
    call.items.push((item_id("B"), crate::support::world::stage_name("firm")));
    assert_eq!(next(&heard_before).as_deref(), Some("firm"), "only an earlier one was heard");
}

#[test]
fn a_letter_waits_for_ever() {
    let world = to_call().notice(NoticeState::WithPerson, "firm", 200, &["A"]).by(Channel::Letter, None);
    check(&world, "wait notice_pending");
}

/// A letter that was to be posted up to and including `T`.
fn to_post() -> World {
    let mut world = to_call().notice(NoticeState::WithPerson, "firm", 1, &["A"]).by(Channel::Letter, None);
    world.snapshot.history.notices.last_mut().unwrap().post_by = Some(t());
    world
}

#[test]
fn a_letter_that_was_not_posted_in_time_is_made_anew_once_a_working_day_to_say_so_has_passed() {
    let world = to_post();
    check(&world.on(1), "wait notice_pending");
    assert_eq!(taken_back(&world.on(1)), [""; 0]);
    for day in [2, 3] {
        assert_eq!(taken_back(&world.on(day)), ["cancelled expired"]);
        check(&world.on(day), "contact firm: demands A");
    }
    // T+2 is a Friday.
    let mut world = world.policy(|policy| policy.calendars = Calendars::weekly(Weekdays::MONDAY_TO_FRIDAY));
    world.snapshot.history.notices.last_mut().unwrap().post_by = Some(t_plus(2));
    check(&world.on(5), "wait notice_pending");
    assert_eq!(taken_back(&world.on(6)), ["cancelled expired"]);
}

#[test]
fn a_letter_that_is_taken_back_takes_the_contact_of_its_copy_back() {
    let copied = |letters: usize, contacts: &[i64]| {
        let mut world = World::new().owes("A", 10, "100 EUR").owes("B", 10, "100 EUR").owes("C", 3, "100 EUR");
        for item in ["A", "B"].into_iter().take(letters) {
            world = world.reminded("friendly", 7, &[item]);
            world = world.notice(NoticeState::WithPerson, "firm", 1, &[item]).by(Channel::Letter, None);
        }
        let letters = world.snapshot.history.notices.iter().filter(|n| n.state == NoticeState::WithPerson);
        let usage = MailboxUse {
            contacts: contacts.iter().map(|ago| t_plus(-ago)).collect(),
            accounts: 1,
            copies: letters.map(|notice| notice.id).collect(),
            ..MailboxUse::default()
        };
        world.snapshot.mailboxes.insert("office@debtor.example".to_owned(), usage);
        world
    };
    check(&copied(1, &[9, 0]), "wait notice_pending");
    check(&copied(1, &[9, 0]).paid(&["A"]), "contact friendly: demands B, C");
    check(&copied(1, &[4, 0]).paid(&["A"]), "wait contact_cap until T+1");
    check(&copied(1, &[0, 0]).paid(&["A"]), "wait contact_cap until T+5");
    check(&copied(2, &[0, 0]).paid(&["A", "B"]), "contact friendly: demands C");
}

#[test]
fn a_copy_that_failed_is_for_a_person_and_stops_nothing_while_something_is_overdue() {
    let mut world = World::new().owes("A", 10, "100 EUR").reminded("friendly", 7, &["A"]);
    world = world.notice(NoticeState::Refused, "friendly", 7, &[]);
    check(&world, "contact firm: demands A");
    check_tasks(&world, "resolve_notice 00000000-0000-7000-8000-000000000002");
    assert_eq!(world.decide().tasks[0].text, "the e-mail copy of the friendly letter is refused and unresolved");
    check_tasks(&world.paid(&["A"]), "");
}

#[test]
fn a_call_is_taken_back_when_its_item_is_paid_disputed_held_or_promised() {
    let cancelled = |world: World, reason: &str, then: &str| {
        assert_eq!(taken_back(&world), [format!("cancelled {reason}")]);
        check(&world, then);
    };
    cancelled(call_open(1).paid(&["A"]), "paid_before_send", "skip nothing_open");
    cancelled(call_open(1).unallocated("P", "100 EUR"), "paid_before_send", "skip account_in_credit");
    cancelled(call_open(1).disputed("A", Cause::Dispute), "disputed_before_send", "skip all_items_out");
    cancelled(call_open(1).hold(HoldTarget::Item(item_id("A")), None), "held_before_send", "skip all_items_out");
    let account = call_open(1).snapshot.account.id;
    cancelled(call_open(1).hold(HoldTarget::Account(account), None), "held_before_send", "hold account_hold");
    cancelled(call_open(1).promised("100 EUR", 5, 0, &["A"]), "promised_before_send", "skip all_items_out until T+6");
    cancelled(call_open(1).handed_over(), "handed_over_before_send", "hold handed_over");
    cancelled(call_open(1).waived("firm", 0, "A"), "waived_before_send", "wait too_soon until T+10");
}

#[test]
fn a_call_is_taken_back_when_its_item_is_no_longer_overdue() {
    let later = |days: i64| call_open(1).item("A", |item| item.due_date = Some(t_plus(days)));
    assert_eq!(taken_back(&later(0)), ["cancelled ledger_changed"]);
    check(&later(0), "wait not_overdue until T+10");
    assert_eq!(taken_back(&later(-1)), [""; 0]);
    check(&later(-1), "wait notice_pending until T+7");
}

#[test]
fn a_call_before_the_due_day_stays_with_its_person_while_the_item_is_not_due() {
    let world = courteous().owes("A", -2, "100 EUR");
    let world = world.notice(NoticeState::WithPerson, "courtesy", 1, &["A"]).by(Channel::Call, Some(4));
    assert_eq!(taken_back(&world), [""; 0]);
    check(&world, "wait notice_pending until T+5");
}

#[test]
fn a_call_about_two_items_is_made_anew_about_the_one_that_is_left() {
    let world = calling().owes("A", 10, "100 EUR").owes("B", 10, "100 EUR").reminded("friendly", 7, &["A", "B"]);
    let world = world.notice(NoticeState::WithPerson, "firm", 1, &["A", "B"]).by(Channel::Call, Some(4));
    let world = world.paid(&["B"]);
    assert_eq!(taken_back(&world), ["cancelled paid_before_send"]);
    check(&world, "contact firm: demands A");
}

#[test]
fn a_part_payment_leaves_the_call_open() {
    let world = call_open(1).item("A", |item| item.open_amount /= rust_decimal::Decimal::TWO);
    assert_eq!(taken_back(&world), [""; 0]);
    check(&world, "wait notice_pending until T+7");
}

/// A letter or a hand-over of 100 EUR, open since yesterday.
fn paper_open(channel: Channel) -> World {
    let posted = |account: &mut dunningd::model::Account| account.postal_address = Some("ul. Długa 1".to_owned());
    let world = World::new().stage("firm", |stage| stage.channels = vec![channel]).account(posted);
    let world = world.owes("A", 10, "100 EUR").reminded("friendly", 7, &["A"]);
    world.notice(NoticeState::WithPerson, "firm", 1, &["A"]).by(channel, None)
}

#[test]
fn a_paper_that_demands_more_or_less_than_is_owed_is_taken_back_and_what_is_owed_is_said_anew() {
    for channel in [Channel::Letter, Channel::Handover] {
        let world = paper_open(channel);
        check(&world, "wait notice_pending");
        let part_paid = world.clone().item("A", |item| item.open_amount = 40.into());
        assert_eq!(taken_back(&part_paid), ["cancelled paid_before_send"]);
        check(&part_paid, "contact firm: demands A");
        assert_eq!(part_paid.decide().items[0].to_pay().amount, 40.into());
        for credited in [world.clone().unallocated("P", "60 EUR"), world.clone().credit_note_for("G", "A", "60 EUR")] {
            assert_eq!(taken_back(&credited), ["cancelled paid_before_send"]);
            check(&credited, "contact firm: demands A");
        }
        let grown = world.item("A", |item| item.open_amount = 140.into());
        assert_eq!(taken_back(&grown), ["cancelled ledger_changed"]);
        check(&grown, "contact firm: demands A");
    }
}

#[test]
fn calls_that_were_made_count_for_the_cap_once_each() {
    let called = to_call().notice(NoticeState::Done, "firm", 4, &["A"]).by(Channel::Call, None).called(4);
    check(&called.clone().owes("B", 3, "100 EUR"), "wait contact_cap until T+1");
    let posted = to_call().notice(NoticeState::Done, "firm", 4, &["A"]).by(Channel::Letter, None);
    check(&posted.owes("B", 3, "100 EUR"), "wait contact_cap until T+1");
}

#[test]
fn a_letter_needs_a_postal_address_and_copies_to_the_mailbox_when_there_is_one() {
    let world = World::new().owes("A", 3, "100 EUR").stage("friendly", |stage| {
        stage.channels = vec![Channel::Letter, Channel::Email];
    });
    let without = world.clone().account(|account| account.postal_address = None);
    check(&without, "hold no_address");
    assert_eq!(without.decide().tasks[0].text, "the account has no postal address");
    assert_eq!(
        without.decide().remedies[0].text,
        "The ledger gets the postal address of account K-1 (`ledger.account.postal_address`)."
    );
    let world = world.account(|account| account.postal_address = Some("ul. Długa 1, Warszawa".to_owned()));
    let contacting = world.contacting();
    assert_eq!(contacting.channel, Channel::Letter);
    assert_eq!(contacting.recipient.unwrap().as_str(), "office@debtor.example");
    let without = world.contacts(&[]).contacting();
    assert_eq!((without.contact, without.recipient), (None, None));
}

#[test]
fn a_hand_over_reaches_nobody_and_counts_as_no_contact() {
    let world = World::new().owes("A", 3, "100 EUR").called(1).contacts(&[]);
    let world = world.stage("friendly", |stage| {
        stage.channels = vec![Channel::Handover];
    });
    check(&world, "contact friendly: demands A");
}

#[test]
fn the_days_to_answer_are_those_of_the_country_and_longer_for_natural_persons() {
    let world = World::new().owes("A", 3, "100 EUR").stage("friendly", |stage| {
        stage.respond_within = Some(14);
        stage.respond_within_by_country = [(Country::parse("PL").unwrap(), 7)].into();
        stage.respond_within_of_persons = [(Country::parse("GB").unwrap(), 30)].into();
    });
    let answer = |world: &World, country: &str, kind: PartyKind| {
        let country = Country::parse(country).ok();
        let world = world.clone().account(|account| (account.country, account.party_kind) = (country, kind));
        (world.contacting().respond_by.unwrap() - t()).num_days()
    };
    assert_eq!(answer(&world, "PL", PartyKind::Company), 7);
    assert_eq!(answer(&world, "PL", PartyKind::Consumer), 7);
    assert_eq!(answer(&world, "GB", PartyKind::Company), 14);
    assert_eq!(answer(&world, "GB", PartyKind::SoleTrader), 30);
    assert_eq!(answer(&world, "", PartyKind::Company), 14);
}

#[test]
fn the_days_to_answer_run_from_the_last_day_on_which_a_person_may_post_or_approve_it() {
    let world = World::new().owes("A", 3, "100 EUR").policy(|policy| policy.approval.valid_days = 5);
    let world = world.stage("friendly", |stage| stage.respond_within = Some(14));
    let answer = |world: &World| (world.contacting().respond_by.unwrap() - t()).num_days();
    assert_eq!(answer(&world), 14, "it leaves today");
    assert_eq!(answer(&world.clone().stage("friendly", |stage| stage.approval = true)), 19);
    let mut waits = world.clone();
    waits.snapshot.approvals.all = true;
    assert_eq!(answer(&waits), 19, "every notice waits");
    let by = |channel| {
        let world = world.clone().account(|account| account.postal_address = Some("Via Roma 1".to_owned()));
        let world = world.contact(0, |contact| contact.phone = Some("+39 06 1234567".to_owned()));
        world.stage("friendly", |stage| stage.channels = vec![channel])
    };
    assert_eq!(answer(&by(Channel::Letter)), 19);
    assert_eq!(answer(&by(Channel::Call)), 14);
    // Of the deadline that a letter names, whoever gets it on the last day has all his days; a claim under the Protocol is
    // posted on its own day or the next.
    let claim = by(Channel::Letter).stage("friendly", |stage| stage.tone = Tone::Formal);
    let in_britain = |kind| {
        move |account: &mut dunningd::model::Account| {
            (account.country, account.party_kind) = (Country::parse("GB").ok(), kind);
        }
    };
    assert_eq!(answer(&claim.clone().account(in_britain(PartyKind::Consumer))), 15);
    assert_eq!(answer(&claim.account(in_britain(PartyKind::Company))), 19);
}

/// With a courtesy note three days before the due day.
fn courteous() -> World {
    let mut world = World::new();
    let ladder = Arc::make_mut(world.policy.ladders.values_mut().next().unwrap());
    let mut courtesy = ladder.stages[0].clone();
    courtesy.name = dunningd::model::StageName::parse("courtesy").unwrap();
    "friendly".clone_into(&mut courtesy.template);
    (courtesy.tone, courtesy.days) = (Tone::Courtesy, -3);
    ladder.stages.insert(0, courtesy);
    world
}

#[test]
fn a_courtesy_note_goes_out_before_the_due_day_and_opens_no_case() {
    let mut world = courteous().owes("A", -5, "100 EUR").owes("B", -40, "100 EUR");
    check(&world, "wait not_overdue until T+2");
    assert_eq!(world.live(12), ["T+2 courtesy: A", "T+8 friendly: A"]);
    let world = courteous().owes("A", -3, "100 EUR").owes("B", -40, "100 EUR");
    let decision = world.decide();
    assert_eq!(decision.case, dunningd::model::CaseChange::None);
    assert_eq!(with_code(&decision, ItemCode::Demanded), ["A"]);
    check_items(&world, "A demanded, B not_overdue");
}

#[test]
fn a_courtesy_note_still_goes_out_on_the_due_day_and_lapses_with_it() {
    check(&courteous().owes("A", 0, "100 EUR"), "contact courtesy: demands A");
    check(&courteous().owes("A", 1, "100 EUR"), "wait before_first_stage until T+2");
}

#[test]
fn nothing_waits_for_the_deadline_of_a_call_that_nobody_made() {
    let mut world = calling().stage("firm", |stage| stage.tone = Tone::Final).owes("A", 24, "100 EUR");
    world = world.reminded("friendly", 21, &["A"]).notice(NoticeState::Lapsed, "firm", 10, &["A"]);
    world = world.by(Channel::Call, None);
    world.snapshot.history.notices.last_mut().unwrap().respond_by = Some(t_plus(8));
    check(&world, "contact final: demands A");
}

#[test]
fn who_owes_something_overdue_hears_of_that_first() {
    let world = courteous().owes("A", -2, "100 EUR").owes("B", 3, "100 EUR");
    check(&world, "contact friendly: demands B");
    check(&world.clone().reminded("friendly", 1, &["B"]), "wait too_soon until T+5");
    check(&world.disputed("B", Cause::Dispute), "contact courtesy: demands A");
}

#[test]
fn a_courtesy_note_is_worth_the_minimum_and_speaks_of_nothing_that_is_out() {
    check(&courteous().owes("A", -2, "9 EUR"), "wait not_overdue");
    let disputed = courteous().owes("A", -2, "100 EUR").disputed("A", Cause::Dispute);
    check(&disputed, "wait not_overdue");
}

#[test]
fn what_credits_cover_is_not_announced_before_its_due_day() {
    let world = World::new().stage("friendly", |stage| stage.days = -3);
    let world = world.owes("A", -3, "100 EUR").owes("B", -3, "50 EUR").credit_note_for("G", "B", "50 EUR");
    check(&world, "contact friendly: demands A");
    check_items(&world, "A demanded, B not_overdue, G credit");
}

#[test]
fn the_minimum_before_the_due_day_is_compared_with_what_falls_due_soon() {
    let world = World::new().stage("friendly", |stage| stage.days = -3);
    let world = world.owes("A", -3, "5 EUR").owes("B", -20, "100 EUR");
    check(&world, "wait not_overdue until T+17");
    check(&world.owes("C", -3, "5 EUR"), "contact friendly: demands A, C");
}

#[test]
fn a_second_stage_before_the_due_day_lapses_when_its_gap_reaches_beyond_that_day() {
    let two = || World::new().stage("friendly", |s| s.days = -10).stage("firm", |s| s.days = -3);
    let in_time = two().owes("A", -2, "100 EUR").reminded("friendly", 5, &["A"]);
    check(&in_time, "wait not_overdue until T+2");
    check(&in_time.on(2), "contact firm: demands A");
    let too_late = two().owes("A", -2, "100 EUR").reminded("friendly", 4, &["A"]);
    check(&too_late, "wait not_overdue until T+26");
    check(&too_late.on(2), "wait not_overdue until T+26");
}

#[test]
fn a_call_is_taken_back_when_its_item_is_out_for_another_reason() {
    let reason = |world: World| taken_back(&world);
    assert_eq!(reason(call_open(1).written_off("A")), ["cancelled written_off_before_send"]);
    let plan = |world: World| world.planned(&[(10, "100 EUR")], 2, OnMissed::Instalment, &["A"]);
    assert_eq!(reason(plan(call_open(1))), ["cancelled planned_before_send"]);
    assert_eq!(
        reason(call_open(1).item("A", |item| item.payee = Some("Factor".to_owned()))),
        ["cancelled ledger_changed"]
    );
    assert_eq!(reason(call_open(1).item("A", |item| item.withdrawn = true)), ["cancelled withdrawn_before_send"]);
    let mut gone = call_open(1);
    gone.snapshot.items.clear();
    assert_eq!(reason(gone.clone()), ["cancelled paid_before_send"]);
    gone.snapshot.history.notices.iter_mut().for_each(|notice| notice.vanished = true);
    assert_eq!(reason(gone), ["cancelled withdrawn_before_send"]);
}

#[test]
fn a_call_that_a_cause_stops_is_taken_back_for_the_cause_and_not_for_a_hold() {
    for item in [None, Some("A")] {
        let told = call_open(1).cause(Cause::SaysPaid, item, 0);
        assert_eq!(taken_back(&told), ["cancelled cause_before_send"]);
        let target =
            item.map_or(HoldTarget::Account(told.snapshot.account.id.clone()), |id| HoldTarget::Item(item_id(id)));
        assert_eq!(taken_back(&told.clone().hold(target, None)), ["cancelled held_before_send"]);
        let by_ledger =
            told.account(|account| account.hold_until = Some(t())).item("A", |item| item.hold_until = Some(t()));
        assert_eq!(taken_back(&by_ledger), ["cancelled held_before_send"]);
    }
}

#[test]
fn a_letter_about_an_instalment_is_taken_back_for_what_became_of_its_plan_and_of_the_items_behind_it() {
    let world = calling().owes("A", 12, "100 EUR").planned(&[(-10, "100 EUR")], 2, OnMissed::Instalment, &["A"]);
    let mut world = world.notice(NoticeState::WithPerson, "firm", 1, &[]).by(Channel::Letter, None);
    let instalment = (item_id("plan:1:1:1"), crate::support::world::stage_name("plan_missed"));
    world.snapshot.history.notices[0].items = vec![instalment];
    assert_eq!(taken_back(&world), [""; 0]);
    assert_eq!(taken_back(&world.clone().unallocated("P", "100 EUR")), ["cancelled paid_before_send"]);
    assert_eq!(taken_back(&world.clone().cause(Cause::SaysPaid, Some("A"), 0)), ["cancelled cause_before_send"]);
    let held = HoldTarget::Item(item_id("A"));
    assert_eq!(taken_back(&world.clone().hold(held, None)), ["cancelled held_before_send"]);
    world.snapshot.plans[0].ended = true;
    assert_eq!(taken_back(&world), ["cancelled planned_before_send"]);
}

#[test]
fn a_waiver_of_another_item_or_stage_leaves_a_call_alone() {
    assert_eq!(taken_back(&call_open(1).waived("final", 0, "A")), [""; 0]);
    assert_eq!(taken_back(&call_open(1).owes("B", 10, "100 EUR").waived("firm", 0, "B")), [""; 0]);
}

#[test]
fn where_nothing_can_be_paid_the_questions_are_about_the_stage_that_is_due() {
    let world = to_call().contact(0, |contact| contact.phone = None).policy(|policy| {
        policy.creditors.values_mut().for_each(|creditor| creditor.bank_accounts.clear());
    });
    check(&world, "hold no_address");
    check(&world.contact(0, |contact| contact.phone = Some("+48 22 100 20 30".to_owned())), "hold no_payment_account");
}

#[test]
fn a_call_is_taken_back_for_a_cause_whatever_else_is_held_or_was_held_before() {
    let told = call_open(1).owes("B", 10, "100 EUR").cause(Cause::SaysPaid, Some("A"), 0);
    let on = |item: &str| HoldTarget::Item(item_id(item));
    assert_eq!(taken_back(&told.clone().hold(on("B"), None)), ["cancelled cause_before_send"]);
    assert_eq!(taken_back(&told.clone().hold(on("A"), Some(-1))), ["cancelled cause_before_send"]);
    assert_eq!(taken_back(&told.hold(on("A"), Some(0))), ["cancelled held_before_send"]);
}

#[test]
fn a_letter_about_an_instalment_is_not_taken_back_for_a_hold_on_what_another_plan_is_about() {
    let late = [(-10, "100 EUR")];
    let world = calling().owes("A", 12, "100 EUR").owes("B", 12, "100 EUR");
    let world = world.planned(&late, 2, OnMissed::Instalment, &["A"]).planned(&late, 2, OnMissed::Instalment, &["B"]);
    let mut world = world.notice(NoticeState::WithPerson, "firm", 1, &[]).by(Channel::Letter, None);
    let instalment = (item_id("plan:1:1:1"), crate::support::world::stage_name("plan_missed"));
    world.snapshot.history.notices[0].items = vec![instalment];
    let held = world.hold(HoldTarget::Item(item_id("B")), None);
    assert_eq!(taken_back(&held), [""; 0]);
    assert_eq!(taken_back(&held.clone().cause(Cause::SaysPaid, Some("A"), 0)), ["cancelled cause_before_send"]);
    let both = held.hold(HoldTarget::Item(item_id("A")), None);
    assert_eq!(taken_back(&both), ["cancelled held_before_send"]);
}

#[test]
fn a_letter_has_a_copy_where_its_stage_says_so_and_a_claim_against_a_person_in_britain_has_none() {
    let formal = |channels: Vec<Channel>| {
        World::new()
            .stage("firm", |stage| (stage.tone, stage.channels) = (Tone::Formal, channels))
            .account(|account| account.postal_address = Some("ul. Lipowa 3, 00-316 Warszawa".to_owned()))
            .owes("A", 10, "100 EUR")
            .reminded("friendly", 7, &["A"])
    };
    let copied_to = |world: &World| world.contacting().recipient.map(|email| email.to_string());
    let with_copy = formal(vec![Channel::Letter, Channel::Email]);
    assert_eq!(copied_to(&with_copy).as_deref(), Some("office@debtor.example"));
    assert_eq!(copied_to(&formal(vec![Channel::Letter])), None);
    let person_in_britain = with_copy.account(|account| {
        (account.country, account.party_kind) = (Country::parse("GB").ok(), PartyKind::Consumer);
    });
    assert_eq!(copied_to(&person_in_britain), None);
}
