//! Calendars and send windows around a run: what is stored, what waits, and what refuses.

use chrono::{DateTime, Utc};
use dunningd::clock::Clock;
use dunningd::config::{Findings, FreshnessRule};
use dunningd::daemon::{self, Live, SendWindow, payments_needed, send_windows};
use dunningd::model::{Calendars, Country, Hours, PartyKind, Weekdays};
use dunningd::record::Which;
use dunningd::render::TemplateSet;

use crate::support::shell::{Office, Setup};
use crate::support::world::World;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// The windows of a notice planned at that moment of that day, valid two days longer.
fn windows(world: &World, day: &str, now: &str) -> Vec<String> {
    windows_around(world, day, now, "")
}

/// The same, where one of the days is quiet.
fn windows_around(world: &World, day: &str, now: &str, quiet: &str) -> Vec<String> {
    let day: chrono::NaiveDate = day.parse().unwrap();
    let creditor = world.policy.creditors.values().next().unwrap();
    let days = (day, day + chrono::Days::new(2));
    let quiet = |day: chrono::NaiveDate| day.to_string() == quiet;
    let found = send_windows(&world.policy, creditor, &world.snapshot.account, days, quiet, at(now)).unwrap();
    let told = |window: &SendWindow| format!("{} to {}", window.from.format("%d %H:%M"), window.to.format("%d %H:%M"));
    found.iter().map(told).collect()
}

fn nine_to_six(country: &str) -> World {
    let time = |hour| chrono::NaiveTime::from_hms_opt(hour, 0, 0).unwrap();
    World::new()
        .policy(|policy| {
            policy.send_window = Some(Hours { from: time(9), to: time(18) });
            policy.calendars = Calendars::weekly(Weekdays::MONDAY_TO_FRIDAY);
        })
        .account(|account| account.country = Some(Country::parse(country).unwrap()))
}

#[test]
fn the_window_is_open_by_the_clocks_of_the_debtor() {
    // Wednesday in March: London is at UTC, Kaliningrad at +2, Moscow at +3, Vladivostok at +10.
    let night = "2026-03-18T01:30:00Z";
    let week = |first: &str, last: &str| [18, 19, 20].map(|day| format!("{day} {first} to {day} {last}"));
    assert_eq!(windows(&nine_to_six("GB"), "2026-03-18", night), week("09:00", "18:00"));
    assert_eq!(windows(&nine_to_six("RU"), "2026-03-18", night), week("06:00", "15:00"));
    let kaliningrad = nine_to_six("RU").account(|account| account.time_zone = Some(chrono_tz::Europe::Kaliningrad));
    assert_eq!(windows(&kaliningrad, "2026-03-18", night), week("07:00", "16:00"));
    let vladivostok = nine_to_six("RU").account(|account| account.time_zone = Some(chrono_tz::Asia::Vladivostok));
    assert_eq!(windows(&vladivostok, "2026-03-18", night)[0], "18 01:30 to 18 08:00");
    // A country whose zone we do not know: the creditor's, in Warsaw.
    assert_eq!(windows(&nine_to_six("BR"), "2026-03-18", night), week("08:00", "17:00"));
}

#[test]
fn a_review_comes_before_the_window_and_a_late_notice_waits_for_the_next_sending_day() {
    let world = nine_to_six("PL").policy(|policy| policy.review_window_minutes = 120);
    assert_eq!(windows(&world, "2026-03-18", "2026-03-18T09:00:00Z")[0], "18 11:00 to 18 17:00");
    assert_eq!(windows(&world, "2026-03-18", "2026-03-18T15:00:00Z")[0], "19 08:00 to 19 17:00");
    // Friday evening: the letter would no longer be true on Monday.
    assert_eq!(windows(&world, "2026-03-20", "2026-03-20T15:00:00Z"), Vec::<String>::new());
}

#[test]
fn no_window_opens_on_a_quiet_day_whether_or_not_there_are_hours() {
    let night = "2026-03-18T01:30:00Z";
    let found = windows_around(&nine_to_six("GB"), "2026-03-18", night, "2026-03-19");
    assert_eq!(found, ["18 09:00 to 18 18:00", "20 09:00 to 20 18:00"]);
    let at_any_hour = nine_to_six("GB").policy(|policy| {
        policy.send_window = None;
        policy.review_window_minutes = 0;
    });
    let found = windows_around(&at_any_hour, "2026-03-18", night, "2026-03-20");
    assert_eq!(found, ["18 01:30 to 19 00:00", "19 00:00 to 20 00:00"]);
}

#[test]
fn the_window_keeps_its_local_hours_when_the_clocks_change() {
    let every_day =
        |country| nine_to_six(country).policy(|policy| policy.calendars = Calendars::weekly(Weekdays::EVERY_DAY));
    let spring = windows(&every_day("PL"), "2026-03-28", "2026-03-28T00:00:00Z");
    assert_eq!(spring, ["28 08:00 to 28 17:00", "29 07:00 to 29 16:00", "30 07:00 to 30 16:00"]);
    let autumn = windows(&every_day("GB"), "2026-10-24", "2026-10-24T00:00:00Z");
    assert_eq!(autumn, ["24 08:00 to 24 17:00", "25 09:00 to 25 18:00", "26 09:00 to 26 18:00"]);
    // A window that begins in the hour that the clocks skip begins an hour later.
    let early = every_day("PL").policy(|policy| {
        policy.send_window =
            policy.send_window.map(|hours| Hours { from: chrono::NaiveTime::from_hms_opt(2, 30, 0).unwrap(), ..hours });
    });
    assert_eq!(windows(&early, "2026-03-29", "2026-03-28T20:00:00Z")[0], "29 01:30 to 29 16:00");
}

#[test]
fn the_law_narrows_the_window_for_natural_persons_only() {
    let world = |country| {
        let time = |hour| chrono::NaiveTime::from_hms_opt(hour, 0, 0).unwrap();
        nine_to_six(country).policy(|policy| policy.send_window = Some(Hours { from: time(7), to: time(23) }))
    };
    let person = |country| {
        world(country).account(|account| {
            account.party_kind = PartyKind::Consumer;
            account.time_zone = account.country.and_then(dunningd::model::zone_of);
        })
    };
    let night = "2026-03-18T01:00:00Z";
    assert_eq!(windows(&world("RU"), "2026-03-18", night)[0], "18 04:00 to 18 20:00");
    assert_eq!(windows(&person("RU"), "2026-03-18", night)[0], "18 05:00 to 18 19:00");
    assert_eq!(windows(&person("IT"), "2026-03-18", night)[0], "18 07:30 to 18 20:00");
    let without_window = person("RU").policy(|policy| policy.send_window = None);
    assert_eq!(windows(&without_window, "2026-03-18", night)[0], "18 05:00 to 18 19:00");
}

#[test]
fn a_person_of_whom_nobody_knows_where_in_russia_he_lives_is_written_to_while_it_is_day_from_kaliningrad_to_kamchatka()
{
    let person = |hours: Option<(u32, u32)>, kind| {
        let time = |hour| chrono::NaiveTime::from_hms_opt(hour, 0, 0).unwrap();
        nine_to_six("RU")
            .policy(|policy| policy.send_window = hours.map(|(from, to)| Hours { from: time(from), to: time(to) }))
            .account(|account| account.party_kind = kind)
    };
    let first = |world: &World| windows(world, "2026-03-18", "2026-03-18T01:00:00Z").first().cloned();
    // Eight in the morning in Kaliningrad, ten in the evening in Kamchatka.
    assert_eq!(first(&person(None, PartyKind::Consumer)), Some("18 06:00 to 18 10:00".into()));
    assert_eq!(first(&person(Some((9, 18)), PartyKind::Unknown)), Some("18 06:00 to 18 10:00".into()));
    assert_eq!(first(&person(Some((10, 12)), PartyKind::Consumer)), Some("18 07:00 to 18 09:00".into()));
    assert_eq!(first(&person(Some((14, 18)), PartyKind::Consumer)), None);
    assert_eq!(first(&person(Some((14, 18)), PartyKind::Company)), Some("18 11:00 to 18 15:00".into()));
}

#[tokio::test]
async fn a_notice_goes_out_in_its_window_and_is_cancelled_when_the_last_one_is_over() {
    let office = Office::new().await;
    office.accounts(2).await;
    office.scan().await;
    // The clock of the fixture stands still: nothing is deferred by itself.
    assert_eq!(office.count("dunning.notice WHERE send_windows IS NULL AND not_before IS NULL").await, 2);
    let window = |account: &str, ranges: &str| {
        format!("UPDATE dunning.notice SET send_windows = tstzmultirange({ranges}) WHERE account_id = '{account}'")
    };
    let past = "tstzrange(now() - interval '3 h', now() - interval '1 h')";
    let ahead = "tstzrange(now() + interval '1 h', now() + interval '3 h')";
    office.sql(window("A01", &format!("{past}, {ahead}"))).await;
    office.sql(window("A02", past)).await;
    office.deliver().await;
    assert_eq!(office.notices().await, ["A01 friendly queued", "A02 friendly cancelled expired"]);
    let mut connection = office.shell.pool.acquire().await.unwrap();
    let row = dunningd::record::outbox(&mut connection).await.unwrap().remove(0);
    assert!(row.not_before.unwrap() > Clock::system().wall());
    assert_eq!(dunningd::record::windowed(&mut connection).await.unwrap().unwrap().notices, 1);
    drop(connection);

    office.sql(window("A01", "tstzrange(now() - interval '1 h', now() + interval '1 h')")).await;
    assert_eq!(office.deliver().await.accepted, 1);
    office.verified().await;
}

/// One account with an invoice eight days late, today, and every day is a sending day.
async fn by_a_running_clock() -> Office {
    let mut office = Office::new().await;
    office.accounts(1).await;
    office
        .sql(
            "UPDATE ledger.item SET issue_date = current_date - 40, due_date = current_date - 8;
                UPDATE ledger.freshness SET invoices_as_of = now(), payments_as_of = now()",
        )
        .await;
    let mut config = office.shell.live().config.clone();
    config.policy.calendars = Calendars::weekly(Weekdays::EVERY_DAY);
    let live = Live { config, templates: TemplateSet::builtin().unwrap(), warnings: Findings::default() };
    office.shell.live.store(std::sync::Arc::new(live));
    office.shell.clock = Clock::system();
    office
}

#[tokio::test]
async fn by_a_running_clock_a_notice_is_planned_for_the_hours_of_its_debtor() {
    let office = by_a_running_clock().await;
    assert_eq!(office.scan().await.queued, 1);
    let fits = "not_before = lower(send_windows) AND not_before >= created_at + interval '119 min'
        AND (not_before AT TIME ZONE 'Europe/Rome')::time BETWEEN '09:00' AND '18:00'
        AND (upper(send_windows) AT TIME ZONE 'Europe/Rome')::time = '18:00'";
    assert_eq!(office.count(&format!("dunning.notice WHERE {fits}")).await, 1);
    assert_eq!(office.deliver().await.accepted, 0);
}

#[tokio::test]
async fn what_is_written_anew_for_a_part_payment_keeps_to_the_hours_and_to_its_place_among_the_hours() {
    let office = by_a_running_clock().await;
    office.sql("UPDATE dunning.control SET mode = 'approve_all'").await;
    office.scan().await;
    // The hour of a ramp.
    office.sql("UPDATE dunning.notice SET not_before = now() + interval '30 h'").await;
    office.sql("UPDATE ledger.item SET open_amount = 40").await;
    let done = daemon::approve(&office.shell, &Which::All, "looked at").await.unwrap();
    assert_eq!(done.renewed, 1);
    assert_eq!(office.notices().await, ["A01 friendly cancelled renewed", "A01 friendly queued"]);
    let fits = "state = 'queued' AND not_before > now() + interval '29 h'
        AND lower(send_windows) >= created_at + interval '119 min'
        AND (lower(send_windows) AT TIME ZONE 'Europe/Rome')::time BETWEEN '09:00' AND '18:00'
        AND (upper(send_windows) AT TIME ZONE 'Europe/Rome')::time = '18:00'";
    assert_eq!(office.count(&format!("dunning.notice WHERE {fits}")).await, 1);
    assert_eq!(office.deliver().await.accepted, 0);
}

#[tokio::test]
async fn a_run_keeps_the_calendars_it_was_made_with() {
    let office = Office::new().await;
    office.accounts(1).await;
    office.scan().await;
    let kept = office
        .lines("SELECT left(t.body, 6) FROM dunning.run r JOIN dunning.text t ON t.sha256 = r.calendars_sha256")
        .await;
    assert_eq!(kept, ["de.csv"]);
    let told = "dunning.event e JOIN dunning.run r
        ON position(r.calendars_sha256 in convert_from(e.bytes, 'UTF8')) > 0 WHERE e.kind LIKE 'run_%'";
    assert_eq!(office.count(told).await, 2);
}

#[tokio::test]
async fn accounts_of_a_country_without_calendar_share_one_task() {
    let office = Office::with(Setup::default().policy("IE = \"ie\"\n", "")).await;
    office.accounts(2).await;
    office.sql("UPDATE ledger.account SET country = 'IE'").await;
    assert_eq!(office.verdicts().await, ["A01 calendar_missing", "A02 calendar_missing"]);
    assert_eq!(office.tasks().await, ["add_calendar"]);
}

#[tokio::test]
async fn without_a_calendar_of_the_creditors_bank_the_run_is_refused() {
    let office = Office::with(Setup::default().policy("IE = \"ie\"\nIT = \"it\"\n", "IE = \"ie\"\n")).await;
    office.accounts(1).await;
    let error = office.scan_as(&Office::request()).await.unwrap_err().to_string();
    assert!(error.contains("IT has no calendar: add it to [calendars] in policy.toml"), "{error}");
}

#[tokio::test]
async fn payments_are_needed_up_to_the_previous_working_day_of_the_bank() {
    let office = Office::new().await;
    let policy = office.shell.live().config.policy.clone();
    let needed = |creditor: &str, now: &str| {
        let creditor = policy.creditors.values().find(|one| one.id.as_str() == creditor).unwrap();
        payments_needed(FreshnessRule::PreviousWorkingDay, &policy.calendars, creditor, at(now)).unwrap().to_rfc3339()
    };
    // The Tuesday after Easter, and the first working day after Epiphany.
    assert_eq!(needed("tre_aquiloni", "2026-04-07T06:00:00Z"), "2026-04-03T22:00:00+00:00");
    assert_eq!(needed("trzy_latawce", "2026-01-07T06:00:00Z"), "2026-01-05T23:00:00+00:00");
}
