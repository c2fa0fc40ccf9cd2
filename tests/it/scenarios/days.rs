//! When something is due at all.

use std::path::Path;

use chrono::{Duration, NaiveDate, TimeZone as _, Utc};
use dunningd::clock::Clock;
use dunningd::config::{self, Source};
use dunningd::model::{Calendars, Country, PartyKind, ReasonCode, RunTotals, Verdict, Weekdays};

use crate::support::world::{World, check, check_items, check_tasks, money, t, t_plus};

#[test]
fn nothing_is_late_on_the_due_day() {
    check(&World::new().owes("A", 0, "100 EUR"), "wait not_overdue until T+3");
}

#[test]
fn before_the_first_stage_nothing_is_sent() {
    check(&World::new().owes("A", 2, "100 EUR"), "wait before_first_stage until T+1");
}

#[test]
fn the_first_stage_is_due_on_its_day() {
    check(&World::new().owes("A", 3, "100 EUR"), "contact friendly: demands A");
}

#[test]
fn an_old_item_starts_with_the_first_stage_and_not_the_last() {
    check(&World::new().owes("A", 30, "100 EUR"), "contact friendly: demands A");
}

#[test]
fn an_item_in_grace_is_not_demanded() {
    let world = World::new().owes("A", 1, "100 EUR").policy(|policy| policy.item_grace_days = 3);
    check(&world, "wait in_grace until T+3");
    check_items(&world, "A in_grace");
}

#[test]
fn after_its_grace_an_item_counts_with_its_full_days() {
    let world = World::new().owes("A", 4, "100 EUR").policy(|policy| policy.item_grace_days = 3);
    check(&world, "contact friendly: demands A");
    assert_eq!(world.decide().items[0].days_past_due, Some(4));
}

#[test]
fn an_item_that_leaves_its_grace_before_its_first_stage_waits_for_the_stage() {
    let world = World::new().owes("A", 1, "100 EUR").policy(|policy| policy.item_grace_days = 1);
    check(&world, "wait in_grace until T+2");
    check(&world.on(1), "wait before_first_stage until T+2");
}

#[test]
fn an_account_is_not_contacted_before_its_oldest_item_is_late_enough() {
    let world = World::new().owes("A", 5, "100 EUR").policy(|policy| {
        policy.item_grace_days = 3;
        policy.account_min_arrears_days = 6;
    });
    check(&world, "wait account_min_arrears until T+1");
    let with_a_younger_one = world.owes("B", 1, "50 EUR").on(1);
    check(&with_a_younger_one, "contact friendly: demands A; also open B");
}

#[test]
fn the_local_date_decides_shortly_after_midnight() {
    let clock = Clock::fixed(Utc.with_ymd_and_hms(2026, 3, 17, 23, 30, 0).unwrap());
    let mut world = World::new().owes("A", 3, "100 EUR");
    world.today = clock.today(world.policy.zone(&world.snapshot.account.creditor));
    assert_eq!(world.today, t());
    check(&world, "contact friendly: demands A");
}

#[test]
fn the_local_date_decides_in_summer_time_too() {
    let clock = Clock::fixed(Utc.with_ymd_and_hms(2026, 6, 30, 22, 30, 0).unwrap());
    let today = clock.today(chrono_tz::Europe::Warsaw);
    assert_eq!(today.to_string(), "2026-07-01");
}

#[test]
fn the_local_date_never_goes_back_and_skips_no_day_when_the_clocks_change() {
    for (from, dates) in [
        ((2026, 3, 28), ["2026-03-28", "2026-03-29", "2026-03-30"]),
        ((2026, 10, 24), ["2026-10-24", "2026-10-25", "2026-10-26"]),
    ] {
        let noon = Utc.with_ymd_and_hms(from.0, from.1, from.2, 12, 0, 0).unwrap();
        let every_minute = (0..48 * 60).map(|minutes| Clock::fixed(noon + Duration::minutes(minutes)));
        let mut seen: Vec<String> =
            every_minute.map(|clock| clock.today(chrono_tz::Europe::Warsaw).to_string()).collect();
        seen.dedup();
        assert_eq!(seen, dates);
    }
}

#[test]
fn gaps_are_whole_days_whatever_the_hour_of_the_last_letter() {
    let world = World::new().owes("A", 21, "100 EUR").reminded("friendly", 7, &["A"]);
    check(&world, "contact firm: demands A");
    check(&world.on(-1), "wait too_soon until T");
}

#[test]
fn an_item_without_due_date_is_left_out_and_the_others_go_on() {
    let world = World::new().owes("A", 3, "100 EUR").item("A", |item| item.due_date = None);
    check(&world, "skip all_items_out");
    let world = world.owes("B", 3, "100 EUR");
    check(&world, "contact friendly: demands B");
    check_items(&world, "A data_due_date_missing, B demanded");
    check_tasks(&world, "fix_data data_due_date_missing");
}

#[test]
fn a_missing_due_date_is_told_before_what_else_is_wrong_with_the_item() {
    let world = World::new().owes("A", 3, "100 EUR").item("A", |item| {
        item.due_date = None;
        item.payee = Some("Factor S.A.".to_owned());
    });
    check_items(&world, "A data_due_date_missing");
}

#[test]
fn a_stage_on_the_due_day_itself_is_due_from_the_day_after() {
    let world = World::new().owes("A", 0, "100 EUR").stage("friendly", |stage| stage.days = 0);
    check(&world, "wait not_overdue until T+1");
    check(&world.on(1), "contact friendly: demands A");
}

#[test]
fn a_stage_before_the_due_day_lapses_once_that_day_has_passed() {
    let world = World::new().owes("A", 3, "100 EUR").stage("friendly", |stage| stage.days = -3);
    check(&world, "wait before_first_stage until T+7");
}

#[test]
fn a_stage_day_on_a_saturday_waits_for_monday() {
    let world = World::new()
        .owes("A", 0, "100 EUR")
        .policy(|policy| policy.calendars = dunningd::model::Calendars::weekly(Weekdays::MONDAY_TO_FRIDAY));
    check(&world.on(3), "wait outside_send_days until T+5");
    check(&world.on(5), "contact friendly: demands A");
}

#[test]
fn spacing_counts_from_the_day_of_sending_and_not_from_the_stage_day() {
    let mut world = World::new()
        .owes("A", 0, "100 EUR")
        .policy(|policy| policy.calendars = dunningd::model::Calendars::weekly(Weekdays::MONDAY_TO_FRIDAY));
    assert_eq!(world.live(20), ["T+5 friendly: A", "T+12 firm: A"]);
}

#[test]
fn a_deadline_on_a_day_off_moves_to_the_next_working_day() {
    let world = World::new()
        .owes("A", 3, "100 EUR")
        .stage("friendly", |stage| stage.respond_within = Some(10))
        .policy(|policy| policy.calendars = dunningd::model::Calendars::weekly(Weekdays::MONDAY_TO_FRIDAY));
    check(&world, "contact friendly by T+12: demands A");
}

#[test]
fn the_reason_that_comes_first_in_the_list_is_the_one_that_is_told() {
    let world = World::new().owes("A", 1, "5 EUR").policy(|policy| policy.item_grace_days = 3);
    check(&world, "skip below_minimum");
    let held = world.account(|account| account.hold_until = Some(t_plus(4)));
    check(&held, "hold account_hold until T+5");
}

#[test]
fn every_reason_is_told_with_what_went_into_it() {
    let decision = World::new().owes("A", 3, "5 EUR").decide();
    let Verdict::No { code: ReasonCode::BelowMinimum, .. } = decision.verdict else { panic!("{decision:?}") };
    let last = decision.checks.last().unwrap();
    assert_eq!((&*last.rule, last.passed), ("below_minimum", false));
    assert_eq!(last.inputs, format!("{} overdue, minimum {}", money("5 EUR"), money("10 EUR")));
    assert_eq!(last.location.as_deref(), Some("policy.toml:minimum.EUR"));
}

fn date(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn country(code: &str) -> Country {
    Country::parse(code).unwrap()
}

fn shipped() -> Calendars {
    config::load_from(&Source::shipped(), Path::new("."), [], None).unwrap().config.policy.calendars
}

/// With the shipped calendars; the creditor is Polish, and the debtor lives there.
fn in_the(debtor: &str) -> World {
    World::new()
        .policy(|policy| policy.calendars = shipped())
        .account(|account| account.country = Some(country(debtor)))
}

/// The decision of that day, with every date told as it stands in the calendar.
#[track_caller]
fn check_on(world: &World, day: &str, expected: &str) {
    let world = World { today: date(day), ..world.clone() };
    let decision = world.decide();
    let said = match &decision.verdict {
        Verdict::Contact(contacting) => {
            format!("{}{}", contacting.stage, contacting.respond_by.map_or(String::new(), |by| format!(" by {by}")))
        }
        Verdict::No { code, next_date } => {
            format!("{}{}", code.as_str(), next_date.map_or(String::new(), |day| format!(" until {day}")))
        }
    };
    assert_eq!(said, expected, "{:#?}", decision.checks);
}

#[test]
fn a_stage_day_on_a_holiday_of_either_country_waits_for_a_day_that_both_work() {
    // 2 June is a holiday in Italy only, 4 June in Poland only.
    let world = in_the("IT").owes("A", 0, "100 EUR").item("A", |item| item.due_date = Some(date("2026-05-30")));
    check_on(&world, "2026-06-02", "outside_send_days until 2026-06-03");
    check_on(&world, "2026-06-04", "outside_send_days until 2026-06-05");
    check_on(&world, "2026-06-05", "friendly");
}

#[test]
fn a_saturday_that_is_worked_is_a_sending_day_when_the_policy_sends_on_it() {
    let calendars = shipped();
    let ru = country("RU");
    assert_eq!(calendars.is_working_day(ru, date("2024-04-27")), Ok(true));
    assert_eq!(calendars.is_sending_day(&[ru], date("2024-04-27")), Ok(false));
    let every_day = Calendars { send_days: Weekdays::EVERY_DAY, ..calendars };
    assert_eq!(every_day.is_sending_day(&[ru], date("2024-04-27")), Ok(true));
    assert_eq!(every_day.is_sending_day(&[ru], date("2024-05-04")), Ok(false));
}

#[test]
fn a_due_date_on_a_day_off_moves_where_the_debtors_law_says_so() {
    let calendars = shipped();
    for (debtor, due, effective) in [
        ("PL", "2026-04-04", "2026-04-07"),
        ("PL", "2026-12-24", "2026-12-28"),
        ("RU", "2026-01-01", "2026-01-12"),
        ("RU", "2024-04-27", "2024-04-27"),
        ("IT", "2026-04-04", "2026-04-04"),
        ("GB", "2026-12-25", "2026-12-25"),
    ] {
        assert_eq!(
            calendars.effective_due_date(Some(country(debtor)), date(due)),
            Ok(date(effective)),
            "{debtor} {due}"
        );
    }
    assert_eq!(calendars.effective_due_date(None, date("2026-04-04")), Ok(date("2026-04-04")));
}

#[test]
fn stages_count_from_the_effective_due_date_and_totals_from_the_contractual_one() {
    let world = in_the("PL").owes("A", 0, "100 PLN").item("A", |item| item.due_date = Some(date("2026-04-04")));
    check_on(&world, "2026-04-07", "not_overdue until 2026-04-10");
    check_on(&world, "2026-04-09", "before_first_stage until 2026-04-10");
    check_on(&world, "2026-04-10", "friendly");

    let totals = |world: &World, day: &str| {
        let mut totals = RunTotals::default();
        totals.count(&World { today: date(day), ..world.clone() }.decide());
        let outcomes: Vec<String> =
            totals.by_outcome.iter().map(|(code, sum)| format!("{code} {}", sum.items)).collect();
        assert_eq!(totals.overdue.items, totals.by_outcome.values().map(|sum| sum.items).sum::<u64>());
        format!("{}: {}", totals.overdue.items, outcomes.join(", "))
    };
    assert_eq!(totals(&world, "2026-04-04"), "0: ");
    assert_eq!(totals(&world, "2026-04-07"), "1: not_overdue 1");
    let with_an_older_one = world.owes("B", 0, "70 PLN");
    assert_eq!(totals(&with_an_older_one, "2026-04-07"), "2: demanded 1, not_overdue 1");
    // Also where the account waits for another reason.
    let held = with_an_older_one.account(|account| account.hold_reason = Some("a court case".to_owned()));
    assert_eq!(totals(&held, "2026-04-07"), "2: account_hold 1, not_overdue 1");
}

#[test]
fn where_nobody_knows_the_debtors_country_his_creditors_days_count() {
    let world = in_the("PL").owes("A", 0, "100 PLN").item("A", |item| item.due_date = Some(date("2026-04-04")));
    let world = world.policy(|policy| {
        policy.creditors.values_mut().for_each(|creditor| creditor.country = country("PL"));
    });
    let unknown = world.account(|account| account.country = None);
    check_on(&unknown, "2026-04-09", "before_first_stage until 2026-04-10");
    check_on(&unknown, "2026-04-10", "friendly");
}

#[test]
fn nothing_is_announced_once_the_day_that_the_letter_prints_is_over() {
    // Due on the Saturday before Easter, so effectively on Tuesday.
    let world = in_the("PL").stage("friendly", |stage| stage.days = -5);
    let world = world.owes("A", 0, "100 PLN").item("A", |item| item.due_date = Some(date("2026-04-04")));
    check_on(&world, "2026-04-02", "friendly");
    check_on(&world, "2026-04-07", "not_overdue until 2026-04-17");
    let late = world.stage("friendly", |stage| stage.days = -1);
    check_on(&late, "2026-04-02", "not_overdue until 2026-04-17");
    let held = late.item("A", |item| item.hold_until = Some(date("2026-04-01")));
    check_on(&held, "2026-04-01", "not_overdue until 2026-04-17");
}

#[test]
fn a_year_without_a_calendar_stops_the_account_with_one_task_for_the_country_and_year() {
    let world = in_the("FR").owes("A", 5, "100 EUR");
    check(&world, "hold calendar_missing");
    check_tasks(&world, "add_calendar FR 2026");

    let world = in_the("PL").owes("A", 0, "100 EUR").item("A", |item| item.due_date = Some(date("2027-12-25")));
    let later = World { today: date("2028-01-10"), ..world.clone() };
    check(&later, "hold calendar_missing");
    check_tasks(&later, "add_calendar PL 2028");
    // A deadline in a year that nobody knows is not named.
    let world = world.item("A", |item| item.due_date = Some(date("2027-12-17")));
    let world = world.stage("friendly", |stage| stage.respond_within = Some(14));
    check_on(&world, "2027-12-20", "calendar_missing");
}

#[test]
fn a_due_date_in_an_unknown_year_is_not_guessed_and_one_that_lies_ahead_stops_nobody() {
    let world = in_the("PL").owes("A", 0, "100 EUR").item("A", |item| item.due_date = Some(date("2011-01-06")));
    check(&world, "hold calendar_missing");
    check_items(&world, "A calendar_missing");
    check_tasks(&world, "add_calendar PL 2011");
    let world = in_the("PL").owes("A", 5, "100 EUR").owes("B", 0, "50 EUR");
    check(&world.item("B", |item| item.due_date = Some(date("2028-01-06"))), "contact friendly: demands A");
}

#[test]
fn a_deadline_on_a_holiday_moves_to_the_next_working_day_of_the_debtor() {
    let world = in_the("PL").owes("A", 5, "100 EUR").stage("friendly", |stage| stage.respond_within = Some(19));
    check(&world, "contact friendly by T+20: demands A");
    // Good Friday is worked in Italy; the debtor without a country goes by the creditor's.
    let world = world.stage("friendly", |stage| stage.respond_within = Some(16));
    check(
        &world.clone().account(|account| account.country = Some(country("IT"))),
        "contact friendly by T+16: demands A",
    );
    check(
        &world.clone().account(|account| account.country = Some(country("GB"))),
        "contact friendly by T+20: demands A",
    );
    check(&world.account(|account| account.country = None), "contact friendly by T+16: demands A");
}

#[test]
fn in_a_quiet_period_nobody_gets_a_final_letter_and_milder_ones_go() {
    let world = in_the("IT")
        .owes("A", 0, "100 EUR")
        .item("A", |item| item.due_date = Some(date("2026-06-01")))
        .stage("friendly", |stage| stage.respond_within = Some(9));
    check_on(&world, "2026-08-04", "friendly by 2026-08-26");
    check_on(&world, "2026-08-05", "friendly by 2026-08-26");
    let days_ago = |day: &str| (t() - date(day)).num_days();
    let warned =
        world.reminded("friendly", days_ago("2026-06-10"), &["A"]).reminded("firm", days_ago("2026-06-20"), &["A"]);
    check_on(&warned, "2026-08-04", "final");
    check_on(&warned, "2026-08-05", "outside_send_days until 2026-08-26");
    check_on(&warned, "2026-08-25", "outside_send_days until 2026-08-26");
    check_on(&warned, "2026-08-26", "final");
    // From Christmas Eve to Epiphany, over the end of the year; the next day is worked in both countries.
    check_on(&warned, "2026-12-23", "final");
    check_on(&warned, "2026-12-28", "outside_send_days until 2027-01-07");
}

#[test]
fn a_direct_debit_is_waited_for_in_working_days_of_the_creditors_bank() {
    let world = in_the("GB").owes("A", 0, "100 EUR").item("A", |item| {
        item.due_date = Some(date("2026-03-25"));
        item.direct_debit_on = Some(date("2026-03-31"));
    });
    // Seven Polish working days from 31 March: Good Friday counts, Easter Monday does not.
    check_on(&world, "2026-04-10", "all_items_out until 2026-04-11");
    check_on(&world, "2026-04-13", "friendly");
}

#[test]
fn a_natural_person_in_russia_is_protected_by_the_law_whatever_the_policy_allows() {
    let world = in_the("RU")
        .owes("A", 5, "100 EUR")
        .account(|account| account.party_kind = PartyKind::Consumer)
        .policy(|policy| policy.contact_caps = Vec::new());
    check(&world.clone().called(0), "wait contact_cap until T+1");
    let twice = world.clone().called(1).called(2);
    check(&twice, "wait contact_cap until T+5");
    let told = twice.decide().checks.into_iter().find(|check| check.rule == "contact_cap").unwrap().inputs;
    assert!(told.contains("4 per 7 days, 16 per 30 days (Federal Law 230-FZ, article 7)"), "{told}");
    check(&twice.account(|account| account.party_kind = PartyKind::Company), "contact friendly: demands A");
    let often = [9, 12, 15, 18, 21, 24, 27, 29].iter().fold(world, |world, days| world.called(*days));
    check(&often, "wait contact_cap until T+1");
}
