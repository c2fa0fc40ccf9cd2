//! The failure matrix between claim and commit: one test per row, each named after what happens in it. What is true in
//! the world afterwards is what the relay saw; what the database says must agree with it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveTime, TimeZone as _};
use dunningd::config::Schedule;
use dunningd::daemon::{self, Dispatched, Due, Live};
use dunningd::deliver::{Ending, Journal, LogHead};
use dunningd::model::{self, Actor, Fault, Outcome};
use dunningd::record::{self, ClaimedNotice, LastCheck, Resolution};
use dunningd::render::TemplateSet;
use tokio_util::sync::CancellationToken;

use crate::support::command::{Program, write_secret};
use crate::support::shell::{Office, Setup, day, day_plus, deliver};
use crate::support::smtp::{Options, Phase, Reply, SmtpServer};

fn one_connection() -> Setup {
    Setup::default().with("MAIL__CONNECTIONS", "1")
}

async fn queued_with(accounts: u32, setup: Setup) -> Office {
    let office = Office::with(setup).await;
    office.accounts(accounts).await;
    assert_eq!(office.scan().await.queued, u64::from(accounts));
    office
}

async fn queued(accounts: u32) -> Office {
    queued_with(accounts, one_connection()).await
}

/// Each notice as `queued 0`: its state, the tries it lost, why.
async fn notices(office: &Office) -> Vec<String> {
    office.lines("SELECT concat_ws(' ', state, tries, reason) FROM dunning.notice ORDER BY created_at, notice_id").await
}

/// What waits after repeated failures, as `relay 3 greeting: closed`.
async fn stopped(office: &Office) -> Vec<String> {
    let mut connection = office.shell.pool.acquire().await.unwrap();
    let open = record::open_breakers(&mut connection).await.unwrap();
    open.iter().map(|one| format!("{} {} {}", one.kind, one.failures, one.cause)).collect()
}

/// The waits between tries are over, and those of what was stopped.
async fn time_passes(office: &Office) {
    office
        .sql(
            "UPDATE dunning.notice SET next_try_at = clock_timestamp() WHERE state = 'deferred';
             UPDATE dunning.breaker SET until = clock_timestamp() WHERE until IS NOT NULL",
        )
        .await;
}

async fn leases_end(office: &Office) {
    office.sql("UPDATE dunning.notice SET lease_until = clock_timestamp() - interval '1 second'").await;
}

fn tessa() -> Actor {
    Actor { os_user: "tester".into(), person: "Tessa".into() }
}

async fn resume(office: &Office) -> bool {
    let mut transaction = office.shell.pool.begin().await.unwrap();
    let resumed = record::resume(&mut transaction, "repaired", &tessa()).await.unwrap();
    transaction.commit().await.unwrap();
    resumed
}

/// What the last event of that kind says under that key.
async fn fact(office: &Office, kind: &str, key: &str) -> Vec<String> {
    let query = format!(
        "SELECT coalesce(convert_from(bytes, 'UTF8')::jsonb -> 'event' -> 'facts' ->> '{key}', '-')
         FROM dunning.event WHERE kind = '{kind}' ORDER BY seq DESC LIMIT 1"
    );
    office.lines(query).await
}

/// Connecting fails like that until it is repaired: nothing is sent, no try is lost, after the third failure in a row
/// the relay is left alone, then one letter goes first and the others follow.
async fn is_left_alone(office: &Office, phase: Phase, failure: Reply, works: Reply, cause: &str) {
    office.smtp.on(phase, failure);
    for _ in 0..3 {
        assert!(office.deliver().await.relay_error.is_some());
    }
    assert_eq!(stopped(office).await, [format!("relay 3 {cause}")]);
    let connections = office.smtp.connections();
    let waits = office.deliver().await;
    assert!(waits.waiting.as_ref().is_some_and(|why| why.contains(cause)), "{waits:?}");
    assert!(!waits.all_accepted());
    assert_eq!(office.smtp.connections(), connections, "nobody knocks meanwhile");
    assert_eq!(notices(office).await, ["queued 0", "queued 0"]);
    assert_eq!(office.count("dunning.attempt").await, 0);
    // The first wait is five minutes, the second ten.
    let minutes = "SELECT round(extract(epoch FROM until - changed_at) / 60)::text FROM dunning.breaker";
    assert_eq!(office.lines(minutes).await, ["5"]);
    time_passes(office).await;
    assert!(office.deliver().await.relay_error.is_some());
    assert_eq!(office.lines("SELECT opened::text FROM dunning.breaker").await, ["2"]);

    office.smtp.on(phase, works);
    time_passes(office).await;
    assert_eq!(office.deliver().await, Dispatched { accepted: 2, ..Dispatched::default() });
    assert_eq!(stopped(office).await, [""; 0]);
    office.verified().await;
}

#[tokio::test]
async fn p02_a_relay_that_cannot_be_reached_is_left_alone_for_a_while_and_costs_no_try() {
    let office = queued(2).await;
    let cause = "greeting: the relay closed the connection";
    is_left_alone(&office, Phase::Greeting, Reply::close(), Reply::code(220, "test ESMTP"), cause).await;
}

#[tokio::test]
async fn p03_a_relay_whose_certificate_does_not_convince_gets_no_letter() {
    let elsewhere = SmtpServer::with(Options { start_tls: true, ..Options::default() }).await;
    let setup = Setup { relay: Options { start_tls: true, ..Options::default() }, ..one_connection() }
        .with("MAIL__SECURITY", "starttls")
        .with("MAIL__CA_FILE", elsewhere.ca_file().to_str().unwrap());
    let office = queued_with(1, setup).await;
    for _ in 0..3 {
        let error = office.deliver().await.relay_error.unwrap();
        assert!(error.contains("start_tls: ") && error.contains("certificate"), "{error}");
    }
    assert!(office.deliver().await.waiting.is_some());
    assert_eq!(notices(&office).await, ["queued 0"]);
    assert!(!office.smtp.commands().iter().any(|line| line.starts_with("MAIL")));
    office.verified().await;
}

#[tokio::test]
async fn p04_a_relay_that_cannot_check_the_password_now_is_asked_later() {
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    write_secret(&password, "right-2957\n");
    let relay = Options {
        mechanisms: vec!["PLAIN"],
        login: Some(("dunning".into(), "right-2957".into())),
        ..Options::default()
    };
    let setup = Setup { relay, ..one_connection() }
        .with("MAIL__USERNAME", "dunning")
        .with("MAIL__PASSWORD_FILE", password.to_str().unwrap());
    let office = queued_with(2, setup).await;
    let (failure, works) = (Reply::code(454, "4.7.0 not now"), Reply::code(235, "2.7.0 welcome"));
    is_left_alone(&office, Phase::Auth, failure, works, "auth: 454 4.7.0").await;
}

#[tokio::test]
async fn p05_a_refused_sender_stops_the_creditor_and_not_the_notices() {
    let office = queued(5).await;
    office.smtp.on(Phase::MailFrom, Reply::code(550, "5.1.8 no such domain"));
    assert_eq!(office.deliver().await, Dispatched { deferred: 3, ..Dispatched::default() });
    assert_eq!(stopped(&office).await, ["sender 3 mail_from: 550 5.1.8"]);
    assert_eq!(notices(&office).await, ["deferred 0", "deferred 0", "deferred 0", "queued 0", "queued 0"]);
    assert_eq!(office.deliver().await, Dispatched::default(), "neither is the relay asked nor a notice claimed");
    assert_eq!(fact(&office, "notice_deferred", "fault").await, ["sender"]);
    // One goes first; it fails again, and the wait begins anew.
    time_passes(&office).await;
    assert_eq!(office.deliver().await.deferred, 1);
    assert_eq!(office.lines("SELECT opened::text FROM dunning.breaker").await, ["2"]);
    office.smtp.on(Phase::MailFrom, Reply::code(250, "2.1.0 Ok"));
    assert!(resume(&office).await);
    time_passes(&office).await;
    assert_eq!(office.deliver().await.accepted, 5);
    office.verified().await;
}

#[tokio::test]
async fn p05_what_vouches_for_the_sender_is_our_side_also_after_the_text() {
    let office = queued(1).await;
    office.smtp.once(Phase::Dot, Reply::code(550, "5.7.26 neither SPF nor DKIM passes"));
    assert_eq!(office.deliver().await.deferred, 1);
    assert_eq!(notices(&office).await, ["deferred 0"]);
}

/// Every letter is refused like that: it counts as what the relay has against us, and all of them go out once that is over.
async fn is_about_us(reply: Reply, ends: &[&str]) {
    let office = queued(6).await;
    office.smtp.on(Phase::RcptTo, reply);
    for _ in 0..5 {
        office.deliver().await;
        // Each probe is another letter: what is refused may be about its recipient after all.
        office.sql("UPDATE dunning.breaker SET until = clock_timestamp() WHERE until IS NOT NULL").await;
    }
    let refused = ends.iter().filter(|end| end.starts_with("refused")).count() as u64;
    assert_eq!(notices(&office).await, ends);
    let open = stopped(&office).await.remove(0);
    assert!(open.starts_with("sender ") && open.contains(" rcpt_to: "), "{open}");
    office.smtp.on(Phase::RcptTo, Reply::code(250, "2.1.5 Ok"));
    time_passes(&office).await;
    // One goes first.
    assert_eq!(office.deliver().await.accepted + office.deliver().await.accepted, 6 - refused);
    assert_eq!(stopped(&office).await, [""; 0]);
    office.verified().await;
}

#[tokio::test]
async fn p07_a_relay_that_says_our_address_is_on_a_blocklist_refuses_nobody() {
    let reply = Reply::code(554, "5.7.1 Service unavailable; Client host [203.0.113.9] blocked using zen.spamhaus.org");
    is_about_us(reply, &["deferred 0", "deferred 0", "deferred 0", "deferred 0", "deferred 0", "deferred 0"]).await;
}

#[tokio::test]
async fn p07_a_refusal_at_three_domains_in_a_row_is_about_us_whatever_it_says() {
    let ends = ["refused 1", "refused 1", "deferred 0", "deferred 0", "deferred 0", "deferred 0"];
    is_about_us(Reply::code(554, "5.7.1 we take nothing"), &ends).await;
    is_about_us(Reply::code(550, "no"), &ends).await;
}

#[tokio::test]
async fn p07_refusals_that_name_the_recipient_or_stand_between_acceptances_are_his() {
    let office = queued(5).await;
    office.smtp.on(Phase::RcptTo, Reply::code(550, "5.1.1 no such user"));
    assert_eq!(office.deliver().await, Dispatched { refused: 5, ..Dispatched::default() });
    assert_eq!(stopped(&office).await, [""; 0]);
    let office = queued(5).await;
    for account in ["a01", "a02", "a04", "a05"] {
        let refusal = Reply::code(550, "5.7.1 not for us");
        office.smtp.on_recipient(Phase::RcptTo, &format!("conti@{account}.test"), refusal);
    }
    assert_eq!(office.deliver().await, Dispatched { accepted: 1, refused: 4, ..Dispatched::default() });
    assert_eq!(stopped(&office).await, [""; 0]);
}

#[tokio::test]
async fn p07_a_domain_that_refuses_all_its_mailboxes_is_one_domain() {
    let office = queued_with(0, one_connection()).await;
    for n in 1..=4 {
        office.account(&format!("A{n}"), "it", &format!("conti{n}@one.test")).await;
        office.invoice(&format!("I{n}"), &format!("A{n}"), 6, "100.00 EUR").await;
    }
    office.scan().await;
    office.smtp.on(Phase::RcptTo, Reply::code(550, "5.7.1 not for us"));
    assert_eq!(office.deliver().await, Dispatched { refused: 4, ..Dispatched::default() });
    assert_eq!(stopped(&office).await, [""; 0]);
}

#[tokio::test]
async fn p08_what_fails_until_it_expires_while_others_are_accepted_becomes_a_task() {
    let mut office = queued(2).await;
    office.smtp.on_recipient(Phase::RcptTo, "conti@a01.test", Reply::code(451, "4.3.0 temporary failure"));
    assert_eq!(office.deliver().await, Dispatched { accepted: 1, deferred: 1, ..Dispatched::default() });
    office.go_to(day_plus(60)).await;
    time_passes(&office).await;
    assert_eq!(office.deliver().await, Dispatched { refused: 1, ..Dispatched::default() });
    assert_eq!(notices(&office).await, ["refused 0 gave_up", "accepted 1"]);
    office.scan().await;
    assert_eq!(office.tasks().await, ["A01 resolve_notice"]);
    office.verified().await;
}

#[tokio::test]
async fn p08_what_expires_while_the_relay_takes_nothing_is_decided_anew() {
    let mut office = queued(2).await;
    office.smtp.on(Phase::RcptTo, Reply::code(451, "4.3.0 temporary failure"));
    assert_eq!(office.deliver().await, Dispatched { deferred: 2, ..Dispatched::default() });
    office.go_to(day_plus(60)).await;
    time_passes(&office).await;
    // It is the third failure in a row, after which the relay is left alone.
    assert_eq!(office.deliver().await, Dispatched { expired: 1, ..Dispatched::default() });
    assert_eq!(notices(&office).await, ["cancelled 0 expired", "deferred 0"]);
    office.verified().await;
}

#[tokio::test]
async fn p26_what_expired_in_an_outage_is_decided_anew_by_the_first_run() {
    let mut office = queued(2).await;
    office.smtp.on(Phase::RcptTo, Reply::code(451, "4.7.1 greylisted"));
    office.deliver().await;
    office.smtp.stop().await;
    office.go_to(day_plus(3)).await;
    // What was written then is not pending any more: the account is written to at once, as it stands now.
    assert_eq!(office.scan().await.queued, 2);
    assert_eq!(notices(&office).await, ["cancelled 1 expired", "cancelled 1 expired", "queued 0", "queued 0"]);
    office.verified().await;
}

#[tokio::test]
async fn p24_a_stop_does_not_wait_for_a_relay_that_says_nothing() {
    let office = queued(1).await;
    office.smtp.on(Phase::Greeting, Reply::stall());
    let stop = CancellationToken::new();
    let transport = daemon::transport(&office.shell.live().config.service.mail).unwrap();
    let delivering = daemon::dispatch(&office.shell, &transport, &stop);
    let stopping = async {
        while office.smtp.connections() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stop.cancel();
    };
    let both = async { tokio::join!(delivering, stopping).0.unwrap() };
    let done = tokio::time::timeout(Duration::from_secs(5), both).await.unwrap();
    assert_eq!(done, Dispatched::default());
    assert_eq!(notices(&office).await, ["queued 0"]);
}

#[tokio::test]
async fn p13_a_relay_that_takes_one_connection_at_a_time_works() {
    let office = queued_with(8, Setup::default().with("MAIL__CONNECTIONS", "2")).await;
    office.smtp.on_nth(Phase::Greeting, 2, Reply::code(421, "4.7.0 too many connections").then_close());
    let done = office.deliver().await;
    assert_eq!(done, Dispatched { accepted: 8, ..Dispatched::default() });
    assert!(done.all_accepted());
}

#[tokio::test]
async fn p06_a_greylisted_recipient_is_tried_again_with_the_same_bytes() {
    let office = queued(1).await;
    office.smtp.once(Phase::RcptTo, Reply::code(451, "4.7.1 greylisted"));
    assert_eq!(office.deliver().await.deferred, 1);
    assert_eq!(notices(&office).await, ["deferred 1"]);
    let frozen: Vec<u8> =
        sqlx::query_scalar("SELECT bytes FROM dunning.message").fetch_one(&office.hand).await.unwrap();
    time_passes(&office).await;
    assert_eq!(office.deliver().await.accepted, 1);
    let [message] = &office.smtp.received()[..] else { panic!("one message") };
    assert_eq!(message.bytes, frozen);
    // Each attempt has a name of its own, by which later news of it is known.
    let named = |line: &String| line.split_once("ENVID=").map(|(_, id)| id.to_owned());
    let said: Vec<String> = office.smtp.commands().iter().filter_map(named).collect();
    assert_eq!(said, office.lines("SELECT attempt_id::text FROM dunning.attempt ORDER BY number").await);
    office.verified().await;
}

#[tokio::test]
async fn p06_a_notice_whose_next_try_would_come_too_late_for_its_text_is_decided_again_at_once() {
    let setup =
        one_connection().with("DISPATCH__RETRY_FIRST_MINUTES", "1440").with("DISPATCH__RETRY_LAST_MINUTES", "1440");
    let mut office = queued_with(1, setup).await;
    office.smtp.on_nth(Phase::RcptTo, 1, Reply::code(451, "4.7.1 greylisted"));
    office.smtp.on_nth(Phase::RcptTo, 2, Reply::code(451, "4.7.1 greylisted"));
    assert_eq!(office.deliver().await.deferred, 1);
    assert_eq!(notices(&office).await, ["deferred 1"]);
    // Its text is true until today.
    office.go_to(day_plus(2)).await;
    time_passes(&office).await;
    assert_eq!(office.deliver().await, Dispatched { expired: 1, ..Dispatched::default() });
    assert_eq!(notices(&office).await, ["cancelled 2 expired"]);
    assert_eq!(office.count("dunning.notice_item WHERE live").await, 0);
    assert_eq!(fact(&office, "notice_cancelled", "reason").await, ["expired"]);
    assert_eq!(office.verdicts().await, ["A01 contact"]);
    assert_eq!(office.deliver().await.accepted, 1);
    office.verified().await;
}

#[tokio::test]
async fn p07_a_refused_recipient_ends_its_notice_and_touches_no_other() {
    let mut office = queued(2).await;
    office.smtp.on_recipient(Phase::RcptTo, "conti@a01.test", Reply::code(550, "5.1.1 <conti@a01.test>: unknown"));
    assert_eq!(office.deliver().await, Dispatched { refused: 1, accepted: 1, ..Dispatched::default() });
    assert_eq!(notices(&office).await, ["refused 1", "accepted 1"]);
    assert_eq!(fact(&office, "notice_refused", "reply_status").await, ["5.1.1"]);
    assert_eq!(fact(&office, "notice_refused", "fault").await, ["recipient"]);
    let mut connection = office.shell.pool.acquire().await.unwrap();
    let notice = sqlx::query_scalar("SELECT notice_id FROM dunning.notice WHERE state = 'refused'");
    let notice = notice.fetch_one(&office.hand).await.unwrap();
    let [attempt] = &record::attempts_of(&mut connection, notice).await.unwrap()[..] else { panic!("one attempt") };
    assert_eq!((attempt.reply_code, attempt.reply_status.as_deref()), (Some(550), Some("5.1.1")));
    drop(connection);
    office.go_to(day_plus(1)).await;
    assert_eq!(office.verdicts().await[0], "A01 previous_stage_incomplete");
    assert_eq!(office.tasks().await, ["A01 resolve_notice"]);
    // The log names no address.
    assert_eq!(office.count("dunning.event WHERE position('a01.test' IN convert_from(bytes, 'UTF8')) > 0").await, 0);
    office.verified().await;
}

#[tokio::test]
async fn p07_a_right_to_relay_that_has_lapsed_gives_up_no_recipient() {
    let office = queued(5).await;
    office.smtp.on(Phase::RcptTo, Reply::code(554, "5.7.1 <them>: Relay access denied"));
    assert_eq!(office.deliver().await, Dispatched { deferred: 3, ..Dispatched::default() });
    assert_eq!(stopped(&office).await, ["sender 3 rcpt_to: 554 5.7.1"]);
    assert_eq!(office.count("dunning.notice WHERE tries > 0 OR state = 'refused'").await, 0);
}

#[tokio::test]
async fn p08_an_answer_to_data_other_than_354_counts_like_one_to_the_recipient() {
    for (code, text, expected) in [
        (451, "4.2.0 later", "deferred 1"),
        (554, "5.1.1 no valid recipients", "refused 1"),
        (503, "5.5.1 bad sequence", "deferred 0"),
        // It is out of order, and the recipient has no part in that.
        (250, "2.0.0 Ok", "deferred 0"),
    ] {
        let office = queued(1).await;
        office.smtp.once(Phase::Data, Reply::code(code, text));
        office.deliver().await;
        assert_eq!(notices(&office).await, [expected], "{code} {text}");
        assert_eq!(office.smtp.received().len(), 0);
        office.verified().await;
    }
}

#[tokio::test]
async fn p09_a_link_lost_before_the_text_is_no_loss_and_one_lost_within_it_leaves_an_unknown() {
    for (phase, reply, expected) in [
        (Phase::Data, Reply::close(), "deferred 0"),
        (Phase::Data, Reply::reset(), "deferred 0"),
        (Phase::Body, Reply::close(), "unknown 1"),
        (Phase::Body, Reply::reset(), "unknown 1"),
    ] {
        let office = queued(1).await;
        office.smtp.once(phase, reply);
        office.deliver().await;
        assert_eq!(notices(&office).await, [expected], "{phase:?}");
        time_passes(&office).await;
        office.deliver().await;
        // What is unknown is not sent again.
        assert_eq!(office.smtp.received().len(), usize::from(phase == Phase::Data));
        office.verified().await;
    }
}

/// A worker that got as far as the last check and died.
async fn died_in_flight(office: &Office) -> ClaimedNotice {
    let (attempt, token) = (office.shell.clock.new_id(), office.shell.clock.new_id());
    let mut connection = office.shell.pool.acquire().await.unwrap();
    let claimed = record::claim(&mut connection, &[attempt], token, 150, &[]).await.unwrap().remove(0);
    let check = LastCheck { claimed: &claimed, today: day(), payments_as_of: None };
    assert_eq!(record::in_flight_check(&mut connection, &[check], 900).await.unwrap(), [true]);
    claimed
}

/// The time for an answer is over, and another daemon has noticed.
async fn swept(office: &Office) {
    leases_end(office).await;
    let mut transaction = office.shell.pool.begin().await.unwrap();
    assert_eq!(record::sweep(&mut transaction, &tessa()).await.unwrap(), 1);
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn p10_a_reply_that_the_database_was_not_told_is_settled_from_the_journal_before_or_after_the_sweep() {
    let reply = |code, text: &str| model::Reply { code, text: text.into() };
    let (phase, detail, fault) = (model::Phase::RcptTo, String::new(), Fault::Recipient);
    let accepted = Outcome::Accepted { reply: reply(250, "2.0.0 Ok: queued as 7") };
    let refused = Some(reply(550, "5.1.1 unknown"));
    let refused = Outcome::Refused { phase, reply: refused, detail: detail.clone(), fault };
    let deferred = Outcome::Deferred { phase, reply: Some(reply(451, "4.7.1 later")), detail, fault };
    for (outcome, expected) in [(accepted, "accepted 1"), (refused, "refused 1"), (deferred, "deferred 1")] {
        for late in [false, true] {
            let office = queued(1).await;
            let claimed = died_in_flight(&office).await;
            let journal = Journal::open(office.state.path()).unwrap();
            let (attempt, notice, token) = (claimed.attempt, claimed.notice, claimed.token);
            let at = office.shell.clock.wall();
            journal.note(Ending { attempt, notice, token, at, outcome: outcome.clone() }).unwrap();
            drop(journal);
            if late {
                swept(&office).await;
                assert_eq!(notices(&office).await, ["unknown 0 instance_died"]);
            }
            assert_eq!(office.deliver().await, Dispatched::default());
            assert_eq!(notices(&office).await, [expected]);
            let kind = format!("notice_{}", expected.split(' ').next().unwrap());
            assert_eq!(fact(&office, &kind, "from_journal").await, ["true"]);
            assert_eq!(
                office.lines("SELECT outcome FROM dunning.attempt").await,
                [expected.split(' ').next().unwrap()]
            );
            assert_eq!(office.smtp.received().len(), 0);
            let events = office.verified().await;
            office.deliver().await;
            assert_eq!(office.verified().await, events, "once");
        }
    }
}

#[tokio::test]
async fn p10_what_was_accepted_after_all_is_no_task_any_more() {
    let mut office = queued(1).await;
    let claimed = died_in_flight(&office).await;
    swept(&office).await;
    office.go_to(day_plus(1)).await;
    office.scan().await;
    assert_eq!(office.tasks().await, ["A01 resolve_notice"]);
    let journal = Journal::open(office.state.path()).unwrap();
    let (attempt, notice, token) = (claimed.attempt, claimed.notice, claimed.token);
    let outcome = Outcome::Accepted { reply: model::Reply { code: 250, text: "2.0.0 Ok".into() } };
    journal.note(Ending { attempt, notice, token, at: office.shell.clock.wall(), outcome }).unwrap();
    drop(journal);
    office.deliver().await;
    assert_eq!(office.notices().await, ["A01 friendly accepted"]);
    assert_eq!(office.tasks().await, [""; 0]);
}

#[tokio::test]
async fn p11_silence_after_the_final_dot_leaves_unknowns_and_a_relay_that_keeps_silent_is_left_alone() {
    let office = queued_with(5, one_connection().with("MAIL__TIMEOUTS__DOT", "1")).await;
    office.smtp.on(Phase::Dot, Reply::stall());
    assert_eq!(office.deliver().await, Dispatched { unknown: 3, ..Dispatched::default() });
    assert_eq!(stopped(&office).await, ["relay 3 dot: no answer within 1 s"]);
    let expected = ["unknown 1", "unknown 1", "unknown 1", "queued 0", "queued 0"];
    assert_eq!(notices(&office).await, expected);
    // The relay has them all, and nobody here claims to know.
    assert_eq!(office.smtp.received().len(), 3);
    office.smtp.on(Phase::Dot, Reply::code(250, "2.0.0 Ok"));
    time_passes(&office).await;
    assert_eq!(office.deliver().await.accepted, 2);
    assert_eq!(office.smtp.received().len(), 5);
    office.verified().await;
}

#[tokio::test]
async fn p12_a_letter_that_is_refused_again_and_again_waits_and_the_others_go_on() {
    let office = Office::with(one_connection().with("MAIL__CONTENT_REFUSALS", "2")).await;
    office.accounts(4).await;
    office.account("B01", "en", "accounts@b01.test").await;
    office.invoice("J01", "B01", 6, "100.00 EUR").await;
    assert_eq!(office.scan().await.queued, 5);
    for n in 1..=4 {
        let to = format!("conti@a{n:02}.test");
        office.smtp.on_recipient(Phase::Dot, &to, Reply::code(554, "5.7.1 looks like spam"));
    }
    assert_eq!(office.deliver().await, Dispatched { refused: 2, accepted: 1, ..Dispatched::default() });
    assert_eq!(notices(&office).await, ["refused 1", "refused 1", "queued 0", "queued 0", "accepted 1"]);
    assert_eq!(stopped(&office).await, ["content 2 dot: 554 5.7.1"]);
    assert_eq!(office.lines("SELECT subject FROM dunning.breaker").await, ["tre_aquiloni/friendly/it"]);
    assert_eq!(office.tasks().await, ["check_letter"]);
    assert_eq!(office.events().await.last().unwrap(), "notice_accepted");
    assert_eq!(office.deliver().await, Dispatched::default());
    for n in 3..=4 {
        office.smtp.on_recipient(Phase::Dot, &format!("conti@a{n:02}.test"), Reply::code(250, "2.0.0 Ok"));
    }
    assert!(resume(&office).await);
    assert!(!resume(&office).await);
    assert_eq!(office.tasks().await, [""; 0]);
    assert_eq!(office.deliver().await.accepted, 2);
    office.verified().await;
}

#[tokio::test]
async fn p12_while_the_end_of_a_letter_waits_for_its_notice_the_head_of_the_log_is_free() {
    let office = queued_with(2, one_connection().with("MAIL__CONTENT_REFUSALS", "2")).await;
    let spam = Reply::code(554, "5.7.1 looks like spam");
    office.smtp.on(Phase::Dot, spam.after(Duration::from_millis(1_500)));
    // With the end of the second letter its breaker opens, and a task of which the log hears.
    let holds = async {
        while office.smtp.received().len() < 2 || office.count("dunning.notice WHERE state = 'refused'").await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut other = office.hand.begin().await.unwrap();
        let second = "SELECT FROM dunning.notice WHERE state = 'in_flight' FOR UPDATE";
        assert_eq!(sqlx::query(second).fetch_all(&mut *other).await.unwrap().len(), 1);
        while office.count(WAITING).await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Whoever has the notice goes on to the log: the other way round the two would wait for each other.
        let head = sqlx::query("SELECT FROM dunning.event_head FOR UPDATE NOWAIT").fetch_one(&mut *other).await;
        head.unwrap();
        other.rollback().await.unwrap();
    };
    let (done, ()) = tokio::join!(office.deliver(), holds);
    assert_eq!(done, Dispatched { refused: 2, ..Dispatched::default() });
    assert_eq!(office.tasks().await, ["check_letter"]);
    office.verified().await;
}

#[tokio::test]
async fn p12_a_refusal_for_now_after_the_text_is_tried_again() {
    let office = queued(1).await;
    office.smtp.once(Phase::Dot, Reply::code(451, "4.7.1 try later"));
    assert_eq!(office.deliver().await.deferred, 1);
    assert_eq!(notices(&office).await, ["deferred 1"]);
    time_passes(&office).await;
    assert_eq!(office.deliver().await.accepted, 1);
    let received = office.smtp.received();
    assert_eq!(received[0].bytes, received[1].bytes);
}

#[tokio::test]
async fn p13_a_relay_that_leaves_after_the_dot_has_not_taken_it_if_it_says_so_and_else_nobody_knows() {
    for (reply, expected) in [
        (Reply::code(421, "4.7.0 closing").then_close(), "deferred 1"),
        (Reply::code(421, "4.3.2 shutting down").then_close(), "deferred 0"),
        (Reply::close(), "unknown 1"),
        (Reply::reset(), "unknown 1"),
        (Reply::raw(b"250-2.0.0 half an ans").then_close(), "unknown 1"),
    ] {
        let office = queued(1).await;
        office.smtp.once(Phase::Dot, reply);
        office.deliver().await;
        assert_eq!(notices(&office).await, [expected]);
        office.verified().await;
    }
}

/// Connections of this office's daemon that wait for a lock. Other tests have databases of their own on the same server.
const WAITING: &str = "pg_stat_activity
                       WHERE datname = current_database() AND usename = 'dunningd_app' AND wait_event_type = 'Lock'";
/// Every connection of the application is cut.
const CUT: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE datname = current_database() AND usename = 'dunningd_app'";

#[tokio::test]
async fn p14_a_connection_cut_while_the_end_is_recorded_loses_and_doubles_nothing() {
    let office = queued(1).await;
    let mut head = office.hand.begin().await.unwrap();
    sqlx::query("SELECT FROM dunning.event_head FOR UPDATE").execute(&mut *head).await.unwrap();
    let cut = async {
        while office.smtp.received().is_empty() || office.count(WAITING).await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        office.lines(format!("SELECT terminated::text FROM ({CUT}) AS t (terminated)")).await;
        head.rollback().await.unwrap();
    };
    let (done, ()) = tokio::join!(office.deliver(), cut);
    assert_eq!(done, Dispatched { accepted: 1, ..Dispatched::default() });
    assert_eq!(notices(&office).await, ["accepted 1"]);
    assert_eq!(office.events().await.iter().filter(|kind| *kind == "notice_accepted").count(), 1);
    assert_eq!(office.smtp.received().len(), 1);
    office.verified().await;
}

#[tokio::test]
async fn p15_without_the_database_there_is_no_last_check_and_nothing_is_sent() {
    let office = queued(1).await;
    office.smtp.once(Phase::RcptTo, Reply::code(250, "2.1.5 Ok").after(Duration::from_millis(1_500)));
    let gone = async {
        while !office.smtp.commands().iter().any(|line| line.starts_with("RCPT")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        office
            .sql(
                "DO $$ BEGIN EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC, dunningd_app',
                                            current_database()); END $$",
            )
            .await;
        office.lines(format!("SELECT terminated::text FROM ({CUT}) AS t (terminated)")).await;
    };
    let transport = daemon::transport(&office.shell.live().config.service.mail).unwrap();
    let stop = CancellationToken::new();
    let (done, ()) = tokio::join!(daemon::dispatch(&office.shell, &transport, &stop), gone);
    assert!(done.is_err());
    assert!(!office.smtp.commands().iter().any(|line| line == "DATA"));
    assert_eq!(notices(&office).await, ["claimed 0"]);
    office
        .sql(
            "DO $$ BEGIN EXECUTE format('GRANT CONNECT ON DATABASE %I TO PUBLIC', current_database()); END $$;
             UPDATE dunning.notice SET lease_until = clock_timestamp() - interval '1 second'",
        )
        .await;
    assert_eq!(office.deliver().await, Dispatched::default());
    // The journal knew that the text was not sent.
    assert_eq!(notices(&office).await, ["deferred 0"]);
    assert_eq!(fact(&office, "notice_deferred", "fault").await, ["machine"]);
    time_passes(&office).await;
    assert_eq!(office.deliver().await.accepted, 1);
    assert_eq!(office.smtp.received().len(), 1);
    office.verified().await;
}

/// The application loses its database, and cannot come back.
async fn database_goes(office: &Office) {
    let revoke = "DO $$ BEGIN EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC, dunningd_app',
                                             current_database()); END $$";
    office.sql(revoke).await;
    office.lines(format!("SELECT terminated::text FROM ({CUT}) AS t (terminated)")).await;
}

async fn database_comes_back(office: &Office) {
    let grant = "DO $$ BEGIN EXECUTE format('GRANT CONNECT ON DATABASE %I TO PUBLIC', current_database()); END $$";
    office.sql(grant).await;
}

#[tokio::test]
async fn p16_an_acceptance_that_the_database_is_not_there_to_hear_is_kept_until_it_is() {
    let office = queued(2).await;
    office.smtp.on(Phase::Dot, Reply::code(250, "2.0.0 Ok").after(Duration::from_millis(300)));
    let gone = async {
        while office.smtp.received().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        database_goes(&office).await;
    };
    let transport = daemon::transport(&office.shell.live().config.service.mail).unwrap();
    let stop = CancellationToken::new();
    let (done, ()) = tokio::join!(daemon::dispatch(&office.shell, &transport, &stop), gone);
    assert!(done.is_err());
    assert_eq!(office.smtp.received().len(), 1, "nothing more is claimed meanwhile");
    // The second was claimed ahead, and nobody was there to hear that it is let go.
    assert_eq!(notices(&office).await, ["in_flight 0", "claimed 0"]);
    database_comes_back(&office).await;
    assert_eq!(office.deliver().await.accepted, 0);
    assert_eq!(notices(&office).await, ["accepted 1", "deferred 0"]);
    time_passes(&office).await;
    assert_eq!(office.deliver().await.accepted, 1);
    assert_eq!(notices(&office).await, ["accepted 1", "accepted 1"]);
    assert_eq!(office.smtp.received().len(), 2);
    office.verified().await;
}

#[tokio::test]
async fn p18_two_daemons_on_one_database_and_one_machine_send_each_notice_once() {
    let office = queued_with(40, Setup::default().with("MAIL__CONNECTIONS", "4")).await;
    let other = office.second_shell().await;
    let (one, two) = tokio::join!(office.deliver(), deliver(&other));
    assert_eq!(one.accepted + two.accepted, 40);
    assert_eq!((one.cancelled, two.cancelled), (0, 0));
    let mut ids: Vec<String> = office.smtp.received().into_iter().map(|message| message.message_id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), office.smtp.received().len()), (40, 40));
    office.verified().await;
}

#[tokio::test]
async fn p19_who_slept_through_its_lease_may_not_send_any_more() {
    let office = queued(1).await;
    let other = office.second_shell().await;
    office.smtp.once(Phase::RcptTo, Reply::code(250, "2.1.5 Ok").after(Duration::from_millis(1_500)));
    let meanwhile = async {
        while !office.smtp.commands().iter().any(|line| line.starts_with("RCPT")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        office.sql("UPDATE dunning.notice SET lease_until = clock_timestamp() - interval '1 second'").await;
        deliver(&other).await
    };
    let (sleeper, other) = tokio::join!(office.deliver(), meanwhile);
    assert_eq!((sleeper.accepted, sleeper.cancelled, other.accepted), (0, 1, 1));
    assert_eq!(office.smtp.received().len(), 1);
    assert_eq!(office.notices().await, ["A01 friendly accepted"]);
    office.verified().await;
}

#[tokio::test]
async fn p19_who_sleeps_on_the_wire_is_called_unknown_and_tells_the_truth_when_it_wakes() {
    let office = queued(1).await;
    office.smtp.once(Phase::Dot, Reply::code(250, "2.0.0 Ok").after(Duration::from_millis(1_500)));
    let meanwhile = async {
        while office.smtp.received().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        swept(&office).await;
        assert_eq!(office.notices().await, ["A01 friendly unknown instance_died"]);
        assert_eq!(deliver(&office.second_shell().await).await, Dispatched::default());
    };
    tokio::join!(office.deliver(), meanwhile);
    assert_eq!(office.notices().await, ["A01 friendly accepted"]);
    assert_eq!(office.smtp.received().len(), 1);
    office.verified().await;
}

#[tokio::test]
async fn p22_whoever_cannot_keep_replies_claims_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let office = queued_with(1, one_connection().with("STATE__DIRECTORY", file.to_str().unwrap())).await;
    let why = office.deliver().await.stopped.unwrap();
    assert!(why.contains("[state] `directory`"), "{why}");
    assert_eq!(notices(&office).await, ["queued 0"]);
    assert_eq!(office.smtp.connections(), 0);
}

#[tokio::test]
async fn p30_a_database_that_was_restored_from_yesterday_sends_nothing_until_a_person_accepts_it() {
    let office = queued(1).await;
    let before = office.verified().await;
    assert_eq!(office.deliver().await.accepted, 1);
    let after = office.verified().await;
    office
        .sql(format!(
            "DELETE FROM dunning.event WHERE seq > {before};
             UPDATE dunning.event_head h SET seq = e.seq, chain_hash = e.chain_hash FROM dunning.event e
             WHERE e.seq = {before};
             DELETE FROM dunning.attempt;
             UPDATE dunning.notice SET state = 'queued', accepted_on = NULL, counted_on = NULL, tries = 0"
        ))
        .await;
    let why = office.deliver().await.stopped.unwrap();
    assert!(why.contains(&format!("Seen: {after} events")) && why.contains(&format!("Now: {before} events")), "{why}");
    assert_eq!(notices(&office).await, ["queued 0"]);
    daemon::accept_database(&office.shell, "restored after the fire; the outbox was looked through").await.unwrap();
    assert_eq!(fact(&office, "database_accepted", "seen_events").await, [after.to_string()]);
    assert_eq!(office.deliver().await.accepted, 1);
    office.verified().await;
}

/// The database fails over to a copy that had not heard of the last commits: no event among them, so the log is the same.
async fn fails_over_without(office: &Office, notice: &str) {
    office
        .sql(format!(
            "DELETE FROM dunning.attempt;
             UPDATE dunning.notice SET state = '{notice}', lease_token = NULL, counted_on = NULL, tries = 0"
        ))
        .await;
}

#[tokio::test]
async fn p30_what_went_out_by_an_attempt_that_the_database_lost_is_not_sent_again() {
    let office = queued(1).await;
    let claimed = died_in_flight(&office).await;
    let at = office.shell.clock.wall();
    let outcome = Outcome::Accepted { reply: model::Reply { code: 250, text: "2.0.0 Ok: queued as 7".into() } };
    let (attempt, notice, token) = (claimed.attempt, claimed.notice, claimed.token);
    let journal = Journal::open(office.state.path()).unwrap();
    let (events, chain_hash) = record::head(&mut office.shell.pool.acquire().await.unwrap()).await.unwrap();
    journal.saw(LogHead { events, chain_hash: hex::encode(chain_hash) }).unwrap();
    journal.note(Ending { attempt, notice, token, at, outcome }).unwrap();
    drop(journal);
    fails_over_without(&office, "queued").await;

    let why = office.deliver().await.stopped.unwrap();
    let known =
        format!("knows 1 letters that went out by attempts which the database has lost, such as notice {notice}");
    assert!(why.contains(&known) && why.contains("accepted on") && why.contains("--accept-database"), "{why}");
    assert_eq!(notices(&office).await, ["queued 0"]);

    daemon::accept_database(&office.shell, "failed over to the second machine").await.unwrap();
    assert_eq!(fact(&office, "database_accepted", "attempts_restored").await, ["1"]);
    assert_eq!(office.deliver().await, Dispatched::default());
    assert_eq!(notices(&office).await, ["accepted 1"]);
    assert_eq!(fact(&office, "notice_accepted", "from_journal").await, ["true"]);
    assert_eq!(office.smtp.received().len(), 0);
    office.verified().await;
}

#[tokio::test]
async fn p30_an_end_before_the_text_of_an_attempt_that_the_database_lost_stops_nobody() {
    let office = queued(1).await;
    let claimed = died_in_flight(&office).await;
    let (phase, fault) = (model::Phase::RcptTo, Fault::Recipient);
    let reply = Some(model::Reply { code: 451, text: "4.7.1 later".into() });
    let outcome = Outcome::Deferred { phase, reply, detail: String::new(), fault };
    let (attempt, notice, token) = (claimed.attempt, claimed.notice, claimed.token);
    let journal = Journal::open(office.state.path()).unwrap();
    journal.note(Ending { attempt, notice, token, at: office.shell.clock.wall(), outcome }).unwrap();
    drop(journal);
    fails_over_without(&office, "queued").await;
    assert_eq!(office.deliver().await.accepted, 1);
    assert_eq!(office.smtp.received().len(), 1);
}

#[tokio::test]
async fn p10_what_the_journal_tells_days_later_counts_from_the_day_it_happened() {
    let mut office = queued(1).await;
    let claimed = died_in_flight(&office).await;
    let outcome = Outcome::Accepted { reply: model::Reply { code: 250, text: "2.0.0 Ok".into() } };
    let (attempt, notice, token) = (claimed.attempt, claimed.notice, claimed.token);
    let at = day().and_hms_opt(9, 0, 0).unwrap().and_utc();
    let journal = Journal::open(office.state.path()).unwrap();
    journal.note(Ending { attempt, notice, token, at, outcome }).unwrap();
    drop(journal);
    office.go_to(day_plus(3)).await;
    office.deliver().await;
    let accepted = "SELECT accepted_on::text FROM dunning.notice";
    assert_eq!(office.lines(accepted).await, [day().to_string()]);
    assert_eq!(fact(&office, "notice_accepted", "business_date").await, [day().to_string()]);
}

#[tokio::test]
async fn p19_the_late_end_of_an_attempt_that_lost_its_claim_says_nothing_about_the_one_after_it() {
    let office = queued(1).await;
    let (first, token) = (office.shell.clock.new_id(), office.shell.clock.new_id());
    let mut connection = office.shell.pool.acquire().await.unwrap();
    let claimed = record::claim(&mut connection, &[first], token, 150, &[]).await.unwrap().remove(0);
    drop(connection);
    leases_end(&office).await;
    died_in_flight(&office).await;
    swept(&office).await;
    let ends = "SELECT concat_ws(' ', number, outcome, detail) FROM dunning.attempt ORDER BY number";
    assert_eq!(office.lines(ends).await, ["1 deferred lease_lost", "2 unknown instance_died"]);

    let (phase, fault) = (model::Phase::RcptTo, Fault::Recipient);
    let reply = Some(model::Reply { code: 451, text: "4.7.1 later".into() });
    let outcome = Outcome::Deferred { phase, reply, detail: String::new(), fault };
    let journal = Journal::open(office.state.path()).unwrap();
    let at = office.shell.clock.wall();
    journal.note(Ending { attempt: first, notice: claimed.notice, token, at, outcome }).unwrap();
    drop(journal);
    assert_eq!(office.deliver().await, Dispatched::default());
    assert_eq!(notices(&office).await, ["unknown 1 instance_died"]);
    assert_eq!(office.smtp.received().len(), 0);
    office.verified().await;
}

#[tokio::test]
async fn p20_the_first_wait_for_another_try_is_five_minutes_and_a_little() {
    let office = queued(1).await;
    office.smtp.once(Phase::RcptTo, Reply::code(451, "4.7.1 greylisted"));
    assert_eq!(office.deliver().await.deferred, 1);
    let minutes = "SELECT round(extract(epoch FROM next_try_at - changed_at) / 60)::text FROM dunning.notice";
    let waited = office.lines(minutes).await;
    assert!(["5", "6"].contains(&waited[0].as_str()), "{waited:?}");
}

#[tokio::test]
async fn p17_who_wants_no_mail_any_more_gets_none_though_his_letter_was_queued() {
    let stopped = [
        "UPDATE ledger.contact SET no_email = true",
        "UPDATE ledger.contact SET email = 'somebody.else@example.test'",
        "DELETE FROM ledger.contact",
    ];
    for change in stopped {
        let office = queued(1).await;
        office.sql(change).await;
        assert_eq!(office.deliver().await.cancelled, 1, "{change}");
        assert_eq!(notices(&office).await, ["cancelled 0 contact_before_send"], "{change}");
        assert_eq!(office.smtp.received().len(), 0);
        office.verified().await;
    }
    let office = queued(1).await;
    office.sql("UPDATE ledger.contact SET email = ' ' || upper(email) || chr(160)").await;
    assert_eq!(office.deliver().await.accepted, 1, "the same mailbox, written otherwise");
}

#[tokio::test]
async fn p14_a_last_check_whose_answer_was_lost_is_no_unknown_letter() {
    let office = queued(1).await;
    loses_the_answer_of_the_last_check(&office).await;
    assert!(!office.smtp.commands().iter().any(|line| line == "DATA"));
    assert_eq!(stopped(&office).await, [""; 0], "the relay is not to blame");
    office.verified().await;
}

#[tokio::test]
async fn p14_a_letter_whose_last_check_had_no_answer_becomes_no_file_until_it_is_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let files = || std::fs::read_dir(folder.path()).unwrap().count();
    let office = queued_with(1, Setup { files: Some(folder.path().to_owned()), ..Setup::default() }).await;
    loses_the_answer_of_the_last_check(&office).await;
    assert_eq!(files(), 0);
    office.sql("DROP TRIGGER lingers ON dunning.notice").await;
    time_passes(&office).await;
    assert_eq!(office.deliver().await, Dispatched { accepted: 1, ..Dispatched::default() });
    assert_eq!(files(), 1);
    office.verified().await;
}

/// The connection is cut while the last check of the only notice commits: nobody hears what became of it.
async fn loses_the_answer_of_the_last_check(office: &Office) {
    // The commit waits for a lock of its own; whoever asked is gone before it has it.
    office
        .sql(
            "CREATE FUNCTION dunning.lingers() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN IF new.state = 'in_flight' THEN PERFORM pg_advisory_xact_lock(2957); END IF; RETURN new; END $$;
             CREATE CONSTRAINT TRIGGER lingers AFTER UPDATE ON dunning.notice DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION dunning.lingers()",
        )
        .await;
    let mut lock = office.hand.acquire().await.unwrap();
    sqlx::query("SELECT pg_advisory_lock(2957)").execute(&mut *lock).await.unwrap();
    let cut = async {
        while office.count(WAITING).await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        office.lines(format!("SELECT terminated::text FROM ({CUT}) AS t (terminated)")).await;
        sqlx::query("SELECT pg_advisory_unlock(2957)").execute(&mut *lock).await.unwrap();
    };
    let transport = daemon::transport(&office.shell.live().config.service.mail).unwrap();
    let stop = CancellationToken::new();
    let (done, ()) = tokio::join!(daemon::dispatch(&office.shell, &transport, &stop), cut);
    assert!(done.is_err());
    assert_eq!(notices(office).await, ["deferred 0"]);
    assert_eq!(fact(office, "notice_deferred", "fault").await, ["machine"]);
}

#[tokio::test]
async fn p30_the_command_line_ends_with_5_until_the_database_is_accepted() {
    let office = queued(1).await;
    let program = Program::new(&office.database, office.smtp.address.port()).await;
    let state = Journal::open(&program.path("state")).unwrap();
    state.saw(LogHead { events: 1_000, chain_hash: "ab".repeat(32) }).unwrap();
    drop(state);
    let said = program.run(&["run"]).await;
    assert_eq!(said.exit, 5, "{}", said.err);
    assert!(said.err.contains("Seen: 1000 events") && said.err.contains("--accept-database --reason"), "{}", said.err);
    let said = program.run(&["scan", "--deliver"]).await;
    assert_eq!(said.exit, 5, "{}", said.err);
    assert_eq!(office.smtp.connections(), 0);
    let accepted = ["scan", "--deliver", "--accept-database", "--reason", "restored, and looked through"];
    assert!(!program.run(&accepted).await.out.contains("NOTHING MORE WAS SENT"));
    assert_eq!(fact(&office, "database_accepted", "reason").await, ["restored, and looked through"]);
}

#[tokio::test]
async fn p22_a_relay_whose_disk_is_full_is_at_fault_itself() {
    for (phase, code) in [(Phase::MailFrom, 452), (Phase::RcptTo, 452), (Phase::Dot, 452), (Phase::Dot, 552)] {
        let office = queued(1).await;
        let text = format!("{}.3.1 insufficient system storage", code / 100);
        office.smtp.once(phase, Reply::code(code, &text));
        assert_eq!(office.deliver().await.deferred, 1);
        assert_eq!(notices(&office).await, ["deferred 0"], "{phase:?} {code}");
        assert_eq!(fact(&office, "notice_deferred", "fault").await, ["relay"]);
    }
}

#[tokio::test]
async fn p24_asked_to_stop_the_daemon_finishes_the_letter_on_the_wire_and_begins_no_other() {
    let office = queued(2).await;
    office.smtp.once(Phase::Dot, Reply::code(250, "2.0.0 Ok").after(Duration::from_millis(1_500)));
    let transport = daemon::transport(&office.shell.live().config.service.mail).unwrap();
    let stop = CancellationToken::new();
    let stopping = async {
        while office.smtp.received().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.cancel();
    };
    let (done, ()) = tokio::join!(daemon::dispatch(&office.shell, &transport, &stop), stopping);
    assert_eq!(done.unwrap(), Dispatched { accepted: 1, ..Dispatched::default() });
    assert_eq!(notices(&office).await, ["accepted 1", "queued 0"]);
}

#[tokio::test]
async fn p25_a_letter_that_no_relay_of_ours_can_take_ends_at_once_and_the_rest_goes_on() {
    let setup =
        Setup { relay: Options { extensions: vec!["SIZE 100000".into()], ..Options::default() }, ..one_connection() };
    let office = queued_with(3, setup).await;
    office
        .sql(
            "UPDATE dunning.message SET bytes = bytes || convert_to(repeat(repeat('x', 70) || E'\\r\\n', 2000), 'UTF8')
             WHERE notice_id = (SELECT notice_id FROM dunning.notice WHERE account_id = 'A02')",
        )
        .await;
    assert_eq!(office.deliver().await, Dispatched { accepted: 2, refused: 1, ..Dispatched::default() });
    assert_eq!(notices(&office).await, ["accepted 1", "refused 1", "accepted 1"]);
    let words = "SELECT coalesce(reply_text, detail) FROM dunning.attempt WHERE outcome = 'refused'";
    let words = office.lines(words).await.remove(0);
    assert!(
        words.starts_with("the message has ") && words.ends_with(", and the relay takes at most 100000"),
        "{words}"
    );
}

#[tokio::test]
async fn p25_a_letter_whose_body_comes_out_empty_is_not_sent_and_the_rest_goes_on() {
    let office = Office::with(one_connection()).await;
    office.accounts(2).await;
    // Right for every sample situation, so it loads.
    reword(&office, |text| {
        let (head, body) = text[4..].split_once("\n---\n").unwrap();
        format!("---\n{head}\n---\n{{% if account.name != \"Debitore A01\" %}}{body}{{% endif %}}\n")
    });
    assert_eq!(office.verdicts().await, ["A01 no_template", "A02 contact"]);
    assert_eq!(office.deliver().await, Dispatched { accepted: 1, ..Dispatched::default() });
    assert_eq!(office.smtp.messages()[0].to, ["conti@a02.test"]);
    assert_eq!(office.notices().await, ["A02 friendly accepted"]);
    assert_eq!(office.tasks().await, ["A01 write_template"]);
    // With the letter mended the same stage comes.
    reword(&office, |text| text);
    assert_eq!(office.verdicts().await, ["A01 contact", "A02 too_soon"]);
    office.verified().await;
}

#[tokio::test]
async fn p25_who_cannot_be_written_to_takes_neither_the_turn_of_a_mailbox_nor_a_place_before_the_one_who_approves() {
    let nameless = |text: String| {
        let (head, body) = text[4..].split_once("\n---\n").unwrap();
        format!("---\n{head}\n---\n{{% if account.name != \"Debitore A01\" %}}{body}{{% endif %}}\n")
    };
    // A01 has waited longest, day after day.
    let mut office = Office::with(one_connection()).await;
    for (id, item, days) in [("A01", "I01", 9), ("A02", "I02", 6), ("A03", "I03", 6)] {
        office.account(id, "it", "sede@gruppo.test").await;
        office.invoice(item, id, days, "100.00 EUR").await;
    }
    reword(&office, nameless);
    assert_eq!(office.verdicts().await, ["A01 no_template", "A02 contact", "A03 shared_mailbox"]);
    assert_eq!(office.deliver().await.accepted, 1);
    office.go_to(day_plus(7)).await;
    assert_eq!(office.verdicts().await, ["A01 no_template", "A02 too_soon", "A03 contact"]);
    assert_eq!(office.tasks().await, ["A01 write_template"]);
    office.verified().await;

    let office = Office::with(Setup::default().policy("waiting_limit = 200", "waiting_limit = 1")).await;
    office.accounts(3).await;
    office.sql("UPDATE dunning.control SET mode = 'approve_all'").await;
    reword(&office, nameless);
    assert_eq!(office.verdicts().await, ["A01 no_template", "A02 contact", "A03 approval_limit"]);
}

#[tokio::test]
async fn p26_a_backlog_goes_out_no_faster_than_an_hour_allows() {
    let office = queued_with(5, one_connection().with("MAIL__PER_HOUR", "20")).await;
    let done = office.deliver().await;
    assert_eq!(done.accepted, 2);
    assert!(done.waiting.as_ref().is_some_and(|why| why.starts_with("the limit of letters an hour is reached")));
    assert_eq!(notices(&office).await, ["accepted 1", "accepted 1", "queued 0", "queued 0", "queued 0"]);
    let connections = office.smtp.connections();
    assert_eq!(office.deliver().await.accepted, 0);
    assert_eq!(office.smtp.connections(), connections, "nobody knocks for nothing");
}

#[tokio::test]
async fn p26_a_domain_that_has_had_its_share_holds_up_no_other() {
    let office = Office::with(one_connection().with("MAIL__PER_DOMAIN_PER_HOUR", "1")).await;
    for (account, mailbox) in [("A01", "a@uno.test"), ("A02", "b@uno.test"), ("A03", "c@due.test")] {
        office.account(account, "it", mailbox).await;
        office.invoice(&account.replace('A', "I"), account, 6, "100.00 EUR").await;
    }
    assert_eq!(office.scan().await.queued, 3);
    assert_eq!(office.deliver().await.accepted, 2);
    assert_eq!(notices(&office).await, ["accepted 1", "queued 0", "accepted 1"]);
}

#[tokio::test]
async fn p27_a_relay_that_offers_it_is_asked_for_news_of_success_where_the_operator_wants_it() {
    for (setting, expected) in [("true", "NOTIFY=SUCCESS,FAILURE,DELAY"), ("false", "NOTIFY=FAILURE,DELAY")] {
        let office = queued_with(1, one_connection().with("MAIL__NOTIFY_SUCCESS", setting)).await;
        assert_eq!(office.deliver().await.accepted, 1);
        let said = office.smtp.commands().into_iter().find(|line| line.starts_with("RCPT")).unwrap();
        assert_eq!(said, format!("RCPT TO:<conti@a01.test> {expected} ORCPT=rfc822;conti@a01.test"));
    }
}

#[tokio::test]
async fn p32_new_templates_between_two_tries_change_nothing_that_is_on_its_way() {
    let office = queued(1).await;
    office.smtp.once(Phase::Dot, Reply::code(451, "4.7.1 later"));
    assert_eq!(office.deliver().await.deferred, 1);
    reword(&office, |text| text + "\nUna riga nuova.\n");
    time_passes(&office).await;
    assert_eq!(office.deliver().await.accepted, 1);
    let received = office.smtp.received();
    assert_eq!(received[0].bytes, received[1].bytes);
}

/// From now on the Italian `friendly` letter reads like that.
fn reword(office: &Office, change: impl FnOnce(String) -> String) {
    let folder = tempfile::tempdir().unwrap();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("templates"), folder.path());
    let letter = folder.path().join("friendly/it.md");
    std::fs::write(&letter, change(std::fs::read_to_string(&letter).unwrap())).unwrap();
    let templates = TemplateSet::load(folder.path()).unwrap_or_else(|findings| panic!("{findings:?}"));
    let live = office.shell.live();
    let (config, warnings) = (live.config.clone(), live.warnings.clone());
    office.shell.live.store(Arc::new(Live { config, templates, warnings }));
}

#[tokio::test]
async fn p00_who_dies_before_it_claims_leaves_everything_to_the_next_and_nothing_twice() {
    let office = queued(2).await;
    // As a scan leaves it that was killed in the middle: its run open, its notices not released.
    office
        .sql(
            "UPDATE dunning.run SET state = 'running', totals = NULL, digest = NULL, completed_at = NULL;
             UPDATE dunning.notice SET state = 'planned'",
        )
        .await;
    assert_eq!(office.deliver().await, Dispatched::default());
    assert_eq!(office.scan().await.queued, 2);
    assert_eq!(office.scan().await.queued, 0, "whose notice is pending gets no other");
    assert_eq!(office.deliver().await.accepted, 2);
    assert_eq!(office.count("dunning.notice_item WHERE live").await, 2);
    office.verified().await;
}

#[tokio::test]
async fn p01_who_dies_after_the_claim_costs_one_try_and_nothing_more() {
    let office = queued(1).await;
    let (attempt, token) = (office.shell.clock.new_id(), office.shell.clock.new_id());
    let mut connection = office.shell.pool.acquire().await.unwrap();
    assert_eq!(record::claim(&mut connection, &[attempt], token, 150, &[]).await.unwrap().len(), 1);
    drop(connection);
    assert_eq!(office.deliver().await, Dispatched::default(), "the lease still runs");
    leases_end(&office).await;
    assert_eq!(office.deliver().await.accepted, 1);
    assert_eq!(notices(&office).await, ["accepted 2"]);
    assert_eq!(office.smtp.received().len(), 1);
    office.verified().await;
}

/// So many were claimed for sessions that had not asked yet, by a worker that died.
async fn died_with_claims_ahead(office: &Office, count: usize) -> Vec<ClaimedNotice> {
    let attempts: Vec<_> = (0..count).map(|_| office.shell.clock.new_id()).collect();
    let mut connection = office.shell.pool.acquire().await.unwrap();
    let claimed = record::claim_ahead(&mut connection, &attempts, office.shell.clock.new_id(), 150).await.unwrap();
    assert_eq!(claimed.len(), count);
    claimed
}

#[tokio::test]
async fn p01_what_was_claimed_ahead_by_who_died_waits_for_its_lease_and_costs_no_try() {
    let office = queued(2).await;
    died_with_claims_ahead(&office, 2).await;
    assert_eq!(office.count("dunning.attempt").await, 0);
    assert_eq!(office.deliver().await, Dispatched::default(), "the lease still runs");
    leases_end(&office).await;
    assert_eq!(office.deliver().await.accepted, 2);
    assert_eq!(notices(&office).await, ["accepted 1", "accepted 1"]);
    assert_eq!(office.smtp.received().len(), 2);
    office.verified().await;
}

#[tokio::test]
async fn p01_what_a_crash_has_taken_once_is_claimed_for_a_session_only_so_that_the_next_crash_counts() {
    let office = queued(1).await;
    died_with_claims_ahead(&office, 1).await;
    leases_end(&office).await;
    let ids = || [office.shell.clock.new_id()];
    let mut connection = office.shell.pool.acquire().await.unwrap();
    let token = office.shell.clock.new_id();
    assert_eq!(record::claim_ahead(&mut connection, &ids(), token, 150).await.unwrap().len(), 0);
    for tries in 0..3 {
        let claimed = record::claim(&mut connection, &ids(), token, 150, &[]).await.unwrap();
        assert_eq!(claimed[0].tries, tries);
        leases_end(&office).await;
    }
}

#[tokio::test]
async fn p10_a_refusal_of_a_notice_that_was_claimed_ahead_is_settled_from_the_journal() {
    let office = queued(1).await;
    let claimed = died_with_claims_ahead(&office, 1).await.remove(0);
    let (attempt, notice, token) = (claimed.attempt, claimed.notice, claimed.token);
    let reply = Some(model::Reply { code: 550, text: "5.1.1 unknown".into() });
    let (phase, fault) = (model::Phase::RcptTo, Fault::Recipient);
    let outcome = Outcome::Refused { phase, reply, detail: String::new(), fault };
    let journal = Journal::open(office.state.path()).unwrap();
    journal.note(Ending { attempt, notice, token, at: office.shell.clock.wall(), outcome }).unwrap();
    drop(journal);
    assert_eq!(office.deliver().await, Dispatched::default());
    assert_eq!(notices(&office).await, ["refused 1"]);
    assert_eq!(
        office.lines("SELECT concat_ws(' ', attempt_id, number, outcome) FROM dunning.attempt").await,
        [format!("{attempt} 1 refused")]
    );
    office.verified().await;
}

#[tokio::test]
async fn p24_what_was_claimed_ahead_is_let_go_as_soon_as_the_daemon_is_asked_to_stop() {
    let office = queued(30).await;
    office.smtp.once(Phase::Dot, Reply::code(250, "2.0.0 Ok").after(Duration::from_secs(2)));
    let transport = daemon::transport(&office.shell.live().config.service.mail).unwrap();
    let stop = CancellationToken::new();
    let stopping = async {
        let claimed = "dunning.notice WHERE state = 'claimed'";
        while office.smtp.received().is_empty() || office.count(claimed).await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.cancel();
        while office.count(claimed).await > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(office.count("dunning.notice WHERE state = 'in_flight'").await, 1, "the letter on the wire goes on");
    };
    let (done, ()) = tokio::join!(daemon::dispatch(&office.shell, &transport, &stop), stopping);
    assert_eq!(done.unwrap(), Dispatched { accepted: 1, ..Dispatched::default() });
    let states = office.lines("SELECT concat_ws(' ', state, tries, lease_token) FROM dunning.notice").await;
    assert_eq!(states.iter().filter(|one| *one == "queued 0").count(), 29, "{states:?}");
    assert_eq!(office.count("dunning.attempt").await, 1);
    office.verified().await;
}

#[tokio::test]
async fn p02_what_was_claimed_ahead_is_let_go_when_the_relay_fails() {
    for reply in [Reply::code(452, "4.3.1 insufficient system storage"), Reply::close()] {
        let office = queued(30).await;
        let greylisted = Reply::code(451, "4.7.1 greylisted");
        // One goes, so that others are claimed ahead.
        office.smtp.on(Phase::MailFrom, reply);
        office.smtp.on_nth(Phase::MailFrom, 1, Reply::code(250, "2.1.0 Ok"));
        office.smtp.on_nth(Phase::MailFrom, 2, Reply::code(250, "2.1.0 Ok"));
        office.smtp.on_nth(Phase::RcptTo, 2, greylisted);
        assert_eq!(office.deliver().await, Dispatched { accepted: 1, deferred: 4, ..Dispatched::default() });
        let states =
            "SELECT concat_ws(' ', count(*), state, tries) FROM dunning.notice GROUP BY state, tries ORDER BY 1";
        assert_eq!(office.lines(states).await, ["1 accepted 1", "1 deferred 1", "25 queued 0", "3 deferred 0"]);
        assert_eq!(office.count("dunning.attempt").await, 5);
        time_passes(&office).await;
        office.smtp.on(Phase::MailFrom, Reply::code(250, "2.1.0 Ok"));
        assert_eq!(office.deliver().await.accepted, 29);
        office.verified().await;
    }
}

#[tokio::test]
async fn p02_what_was_claimed_ahead_is_let_go_when_no_session_can_be_opened_any_more() {
    let office = queued(30).await;
    office.smtp.on_nth(Phase::MailFrom, 3, Reply::close());
    office.smtp.on_nth(Phase::Greeting, 2, Reply::close());
    let done = tokio::time::timeout(Duration::from_secs(20), office.deliver()).await.unwrap();
    assert!(done.relay_error.is_some(), "{done:?}");
    assert_eq!(done.accepted, 2);
    assert_eq!(office.count("dunning.notice WHERE state = 'claimed'").await, 0);
    assert_eq!(office.count("dunning.notice WHERE state = 'queued' AND tries = 0").await, 27);
}

#[tokio::test]
async fn p11_a_session_that_waits_for_its_relay_keeps_no_others_letters() {
    let office = queued_with(20, Setup::default().with("MAIL__CONNECTIONS", "2")).await;
    office.smtp.once(Phase::Dot, Reply::code(250, "2.0.0 Ok").after(Duration::from_secs(3)));
    let others = async {
        while office.count("dunning.notice WHERE state = 'accepted'").await < 19 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(office.count("dunning.notice WHERE state = 'in_flight'").await, 1);
    };
    let (done, ()) = tokio::join!(office.deliver(), others);
    assert_eq!(done.accepted, 20);
}

#[tokio::test]
async fn p11_what_was_claimed_ahead_is_let_go_when_every_session_waits() {
    let office = queued(20).await;
    office.smtp.once(Phase::Dot, Reply::code(250, "2.0.0 Ok").after(Duration::from_secs(15)));
    let others = async {
        let claimed = "dunning.notice WHERE state = 'claimed'";
        while office.smtp.received().is_empty() || office.count(claimed).await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        while office.count(claimed).await > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(office.count("dunning.notice WHERE state = 'in_flight'").await, 1);
        assert_eq!(deliver(&office.second_shell().await).await.accepted, 19, "another daemon has them");
    };
    let (done, ()) = tokio::join!(office.deliver(), others);
    assert_eq!(done.accepted, 1);
    assert_eq!(office.count("dunning.notice WHERE state = 'accepted' AND tries = 1").await, 20);
    office.verified().await;
}

#[tokio::test]
async fn p17_a_payment_before_the_last_check_stops_the_letter_and_one_after_it_is_too_late() {
    for (phase, expected, sent) in [(Phase::RcptTo, "cancelled 0 paid_before_send", 0), (Phase::Dot, "accepted 1", 1)] {
        let office = queued(1).await;
        office.smtp.once(phase, Reply::code(250, "2.0.0 Ok").after(Duration::from_millis(1_500)));
        let payment = async {
            let said = |line: &String| line.starts_with("RCPT");
            while !office.smtp.commands().iter().any(said) || phase == Phase::Dot && office.smtp.received().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            office.sql("UPDATE ledger.item SET open_amount = 0, settled_on = '2026-03-10'").await;
        };
        tokio::join!(office.deliver(), payment);
        assert_eq!(notices(&office).await, [expected]);
        assert_eq!(office.smtp.received().len(), sent);
        office.verified().await;
    }
}

#[tokio::test]
async fn p19_a_relay_that_hesitates_at_data_until_the_last_check_is_old_gets_no_text() {
    let office = queued(1).await;
    office.smtp.once(Phase::Data, Reply::code(354, "go ahead").after(Duration::from_millis(2_200)));
    assert_eq!(office.deliver().await.deferred, 1);
    assert_eq!(office.smtp.received().len(), 0);
    assert_eq!(notices(&office).await, ["deferred 0"]);
    let detail = office.lines("SELECT concat_ws(' ', phase, detail) FROM dunning.attempt").await;
    assert_eq!(detail, ["data the last check was too old when the relay answered DATA"]);
    time_passes(&office).await;
    assert_eq!(office.deliver().await.accepted, 1);
    office.verified().await;
}

/// The log and everything that it vouches for hold together, as `log verify` says it.
async fn proved(office: &Office) {
    let program = Program::new(&office.database, office.smtp.address.port()).await;
    let said = program.run(&["log", "verify"]).await;
    assert_eq!(said.exit, 0, "{}{}", said.out, said.err);
}

#[tokio::test]
async fn p19_what_a_sleeper_hears_when_another_has_sent_is_in_the_log_and_changes_nothing() {
    let office = queued(1).await;
    let other = office.second_shell().await;
    office.smtp.once(Phase::RcptTo, Reply::code(550, "5.1.1 no such user").after(Duration::from_millis(1_500)));
    let meanwhile = async {
        while !office.smtp.commands().iter().any(|line| line.starts_with("RCPT")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        office.sql("UPDATE dunning.notice SET lease_until = clock_timestamp() - interval '1 second'").await;
        deliver(&other).await
    };
    let (_, other) = tokio::join!(office.deliver(), meanwhile);
    assert_eq!(other.accepted, 1);
    assert_eq!(office.notices().await, ["A01 friendly accepted"]);
    assert_eq!(fact(&office, "late_reply", "outcome").await, ["refused"]);
    assert_eq!(office.count("dunning.attempt WHERE reply_text = '5.1.1 no such user'").await, 1);
    office.verified().await;
    proved(&office).await;
}

#[tokio::test]
async fn p19_an_acceptance_after_a_person_said_not_sent_is_told_by_the_log_however_it_becomes_known() {
    for from_journal in [false, true] {
        let office = queued(1).await;
        let notice = "SELECT notice_id::text FROM dunning.notice";
        let resolved = async {
            swept(&office).await;
            let mut transaction = office.shell.pool.begin().await.unwrap();
            let id = office.lines(notice).await.remove(0).parse().unwrap();
            let not_sent = Resolution::NotSent;
            record::resolve(&mut transaction, id, not_sent, "the relay knows nothing of it", &tessa()).await.unwrap();
            transaction.commit().await.unwrap();
        };
        if from_journal {
            let claimed = died_in_flight(&office).await;
            resolved.await;
            let journal = Journal::open(office.state.path()).unwrap();
            let outcome = Outcome::Accepted { reply: model::Reply { code: 250, text: "2.0.0 Ok".into() } };
            let (attempt, notice, token) = (claimed.attempt, claimed.notice, claimed.token);
            journal.note(Ending { attempt, notice, token, at: office.shell.clock.wall(), outcome }).unwrap();
            drop(journal);
            assert_eq!(office.deliver().await.accepted, 0);
        } else {
            office.smtp.once(Phase::Dot, Reply::code(250, "2.0.0 Ok").after(Duration::from_millis(1_500)));
            let meanwhile = async {
                while office.smtp.received().is_empty() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                resolved.await;
            };
            tokio::join!(office.deliver(), meanwhile);
        }
        assert_eq!(office.notices().await, ["A01 friendly cancelled resolved_not_sent"]);
        assert_eq!(fact(&office, "late_reply", "outcome").await, ["accepted"]);
        assert_eq!(office.events().await.iter().filter(|kind| *kind == "late_reply").count(), 1);
        office.verified().await;
        proved(&office).await;
    }
}

#[tokio::test]
async fn p20_a_clock_that_went_back_stops_everything_until_a_person_says_that_it_is_right() {
    let office = queued(1).await;
    office.sql("UPDATE dunning.event SET at = clock_timestamp() + interval '2 hours'").await;
    let why = office.scan_as(&Office::request()).await.unwrap_err();
    assert!(matches!(why, daemon::ScanError::Clock(daemon::ClockTrouble::Back { .. })), "{why}");
    let program = Program::new(&office.database, office.smtp.address.port()).await;
    let said = program.run(&["run"]).await;
    assert_eq!(said.exit, 5, "{}", said.err);
    let words =
        "the clock went back. Set it; or, if it was wrong then and is right now, begin once with `--accept-clock";
    assert!(said.err.contains(words), "{}", said.err);
    assert_eq!(office.smtp.connections(), 0);
    // What people record goes on, and makes nothing good.
    assert_eq!(program.run(&["hold", "A09", "--reason", "no such account"]).await.exit, 4);
    assert_eq!(program.run(&["pause", "--reason", "the clock"]).await.exit, 0);
    assert_eq!(program.run(&["run"]).await.exit, 5);
    let accepted = ["scan", "--account", "A01", "--accept-clock", "--reason", "the machine lived in summer"];
    let said = program.run(&accepted).await;
    assert!(!said.err.contains("--accept-clock"), "{}", said.err);
    assert_eq!(fact(&office, "clock_accepted", "reason").await, ["the machine lived in summer"]);
    assert!(daemon::check_clocks(&office.shell).await.unwrap().is_ok());
}

#[test]
fn p20_clocks_may_differ_by_what_zones_differ_and_the_log_by_what_a_clock_is_set_right() {
    let at = |seconds| DateTime::UNIX_EPOCH + chrono::Duration::seconds(seconds);
    for (host, database, last_event, trouble) in [
        (0, 0, None, false),
        (26 * 3_600, 0, Some(0), false),
        (26 * 3_600 + 1, 0, None, true),
        (0, 26 * 3_600 + 1, None, true),
        (0, 0, Some(60), false),
        (0, 0, Some(61), true),
        // A daemon that was down for a month is no clock that went wrong.
        (720 * 3_600, 720 * 3_600, Some(0), false),
    ] {
        let found = daemon::clock_trouble(at(host), at(database), last_event.map(at));
        assert_eq!(found.is_some(), trouble, "{host} {database} {last_event:?}");
    }
}

#[test]
fn p21_a_run_that_was_missed_is_made_up_for_once_on_the_day_itself() {
    let rome = chrono_tz::Europe::Rome;
    let hour = |hour| NaiveTime::from_hms_opt(hour, 0, 0).unwrap();
    let schedule = Schedule { earliest: hour(6), latest: hour(18), poll: Duration::from_mins(1) };
    let at = |day: u64, hour: u32| {
        let local = rome.from_local_datetime(&day_plus(day).and_hms_opt(hour, 0, 0).unwrap()).unwrap();
        daemon::run_due(Some(day_plus(0)), local.to_utc(), rome, &schedule)
    };
    assert!(matches!(at(1, 5), Due::Later(_)), "before its hour");
    assert_eq!(at(1, 6), Due::Now(day_plus(1)));
    assert_eq!(at(1, 11), Due::Now(day_plus(1)), "down at six, up at eleven");
    assert!(matches!(at(1, 19), Due::Later(_)), "too late for letters of the day");
    assert_eq!(at(4, 11), Due::Now(day_plus(4)), "down for three days: one run, of today");
    assert!(matches!(at(0, 11), Due::Later(_)), "done already");
}

#[tokio::test]
async fn p31_a_copy_of_the_database_sends_nothing_until_somebody_adopts_it() {
    let mut office = queued(1).await;
    office.shell.host = "the machine of the tests".to_owned();
    let why = office.deliver().await.not_adopted.unwrap();
    assert!(why.contains("is it a copy?"), "{why}");
    let why = office.scan_as(&Office::request()).await.unwrap_err();
    assert!(matches!(why, daemon::ScanError::Refused { code: model::RefusalCode::NotAdopted, .. }), "{why}");
    assert_eq!((office.smtp.connections(), notices(&office).await), (0, vec!["queued 0".to_owned()]));
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let copied = to.join(path.file_name().unwrap());
        if path.is_dir() {
            std::fs::create_dir(&copied).unwrap();
            copy(&path, &copied);
        } else {
            std::fs::copy(&path, &copied).unwrap();
        }
    }
}
