//! What the operator is told: the exact words, once each, over a real relay, and never in the way of a letter.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use dunningd::config::Schedule;
use dunningd::daemon::{
    self, Alarm, Dispatched, ScanRequest, alarm_text, checkpoint_text, delivery_alarm_text, digest_text,
    log_alarm_text, runs_missing,
};
use dunningd::model::{
    Amounts, Calendars, CheckpointKey, Creditor, CreditorId, Currency, Fault, Money, Outcome, OverdueTotals, RunTotals,
    Weekdays,
};
use dunningd::record::{self, BreakerRow, CheckpointRow, Delivered, DigestFacts, WaitingSince};
use mail_parser::{MessageParser, MimeHeaders as _};
use rust_decimal::Decimal;
use tokio_util::sync::CancellationToken;

use crate::support::command::{Program, write_secret};
use crate::support::shell::{CREDITOR, Office, Setup, day, day_plus};
use crate::support::smtp::{Phase, Reply};

fn shows(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/digest"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn sum(items: u64, accounts: u64, amounts: &[(&str, i64)]) -> OverdueTotals {
    let money =
        |(currency, cents): &(&str, i64)| Money::new(Decimal::new(*cents, 2), Currency::parse(currency).unwrap());
    OverdueTotals { items, accounts, amounts: amounts.iter().map(money).collect::<Amounts>() }
}

/// A busy morning.
fn facts() -> DigestFacts {
    let waits = |what: &str, count, days_ago: i64| WaitingSince {
        what: what.to_owned(),
        count,
        since: day() - chrono::Duration::days(days_ago),
    };
    DigestFacts {
        creditor: CreditorId::parse(CREDITOR).unwrap(),
        run: "01952b0e-0000-7000-8000-000000000001".parse().unwrap(),
        business_date: day(),
        started_at: at("2026-03-10T05:00:01Z"),
        completed_at: at("2026-03-10T05:01:13Z"),
        payments_as_of: Some(at("2026-03-10T04:30:00Z")),
        totals: RunTotals {
            considered: 120,
            contacted: 17,
            reasons: BTreeMap::from([("too_soon".to_owned(), 90), ("no_address".to_owned(), 13)]),
            overdue: sum(140, 120, &[("EUR", 4_512_075), ("GBP", 12_000)]),
            undisputed: sum(139, 120, &[("EUR", 4_500_000), ("GBP", 12_000)]),
            by_outcome: BTreeMap::from([
                ("demanded".to_owned(), sum(20, 17, &[("EUR", 812_075), ("GBP", 12_000)])),
                ("too_soon".to_owned(), sum(120, 103, &[("EUR", 3_700_000)])),
            ]),
        },
        tasks_opened: BTreeMap::from([("find_address".to_owned(), 2)]),
        tasks_open: vec![waits("find_address", 13, 40), waits("resolve_notice", 1, 0)],
        approvals: vec![waits("awaiting_approval", 2, 3), waits("awaiting_approval", 5, 1)],
        unresolved: vec![waits("unknown", 1, 1)],
        delivered: Delivered { accepted: 14, refused: 1, expired: 2, queued: 3 },
        stopped: vec![BreakerRow {
            kind: "sender".to_owned(),
            subject: CREDITOR.to_owned(),
            failures: 4,
            cause: "mail_from: 550 5.1.8".to_owned(),
            until: Some(at("2026-03-10T05:10:00Z")),
            open_since: Some(at("2026-03-10T03:10:00Z")),
        }],
        log_events: 4711,
        log_head: "ab".repeat(32),
    }
}

#[test]
fn a_digest_says_it_all_in_one_page() {
    let text = digest_text(&facts(), chrono_tz::Europe::Rome, Some(3));
    shows("digest", &format!("{}\n\n{}", text.subject, text.text));
    let quiet = DigestFacts {
        totals: RunTotals { considered: 1, ..RunTotals::default() },
        tasks_opened: BTreeMap::new(),
        tasks_open: Vec::new(),
        approvals: Vec::new(),
        unresolved: Vec::new(),
        delivered: Delivered::default(),
        stopped: Vec::new(),
        payments_as_of: None,
        ..facts()
    };
    let text = digest_text(&quiet, chrono_tz::Europe::Rome, Some(0));
    shows("digest_quiet", &format!("{}\n\n{}", text.subject, text.text));
    assert!(
        digest_text(&quiet, chrono_tz::Europe::Rome, None).text.contains("  not known; `dunningd ledger check` tells")
    );
}

#[test]
fn an_alarm_says_what_happened_and_what_to_do() {
    let creditor = CreditorId::parse(CREDITOR).unwrap();
    let alarms = [Alarm::NoRun, Alarm::Refused("stale_ledger".into()), Alarm::Failed, Alarm::Contract];
    let mut told = String::new();
    for (n, alarm) in alarms.iter().enumerate() {
        let text = alarm_text(&creditor, day(), alarm, (n > 0).then(|| day_plus(0) - chrono::Duration::days(1)));
        writeln!(told, "{}\n\n{}", text.subject, text.text).unwrap();
    }
    let text = log_alarm_text(day(), "the log does not hold together: event 7: its bytes are not JSON");
    writeln!(told, "{}\n\n{}", text.subject, text.text).unwrap();
    let text = delivery_alarm_text(
        day(),
        "the relay mail.example.com:587 has been stopped for an hour",
        "since 2026-03-10 04:10 CET, 5 failures: auth: 535 5.7.8",
        "Once the cause is gone it goes on by itself, with one letter first; `dunningd resume` tries at once.",
    );
    writeln!(told, "{}\n\n{}", text.subject, text.text).unwrap();
    shows("alarms", &told);
}

/// One that always signs the same.
fn key() -> CheckpointKey {
    CheckpointKey::new("tre-aquiloni.test/dunning", [7; 32]).unwrap()
}

#[test]
fn a_checkpoint_comes_with_what_it_is_good_for() {
    let checkpoint =
        CheckpointRow { size: 4711, note: key().sign(4711, [0xab; 32]), verifier_key: key().verifier().to_string() };
    let text = checkpoint_text(&checkpoint, day());
    shows("checkpoint", &format!("{}\n\n{}", text.subject, text.text));
}

#[test]
fn two_working_days_without_a_run_are_missing_ones() {
    let calendars = Calendars::weekly(Weekdays::MONDAY_TO_FRIDAY);
    let missing = |last: &str, now: &str| {
        let policy =
            dunningd::config::load_from(&dunningd::config::Source::shipped(), std::path::Path::new("."), [], None);
        let creditor = &policy.unwrap().config.policy.creditors[&CreditorId::parse(CREDITOR).unwrap()];
        runs_missing(last.parse().unwrap(), at(now), creditor, &calendars, &Schedule::default())
    };
    // The last run was on Tuesday the 10th: Wednesday and Thursday are gone by on Thursday after six in the evening.
    assert!(!missing("2026-03-10", "2026-03-11T20:00:00Z"));
    assert!(!missing("2026-03-10", "2026-03-12T16:00:00Z"));
    assert!(missing("2026-03-10", "2026-03-12T17:01:00Z"));
    assert!(missing("2026-03-10", "2026-03-13T05:00:00Z"));
    // The last run was on a Friday: the weekend does not count.
    assert!(!missing("2026-03-13", "2026-03-16T20:00:00Z"));
    assert!(!missing("2026-03-13", "2026-03-17T05:00:00Z"));
    assert!(missing("2026-03-13", "2026-03-17T17:01:00Z"));
}

// --- over the relay ----------------------------------------------------------------------------------------------------

async fn office() -> Office {
    let setup = Setup {
        service: "[digest]\nto = [\"desk@tre-aquiloni.test\", \"boss@tre-aquiloni.test\"]\n",
        ..Setup::default()
    };
    let office = Office::with(setup).await;
    office.accounts(2).await;
    office
}

fn scheduled() -> ScanRequest {
    ScanRequest { scheduled: true, ..Office::request() }
}

fn creditor(office: &Office) -> Creditor {
    office.shell.live().config.policy.creditors[&CreditorId::parse(CREDITOR).unwrap()].clone()
}

async fn send(office: &Office) -> Dispatched {
    let transport = daemon::transport(&office.shell.live().config.service.mail).unwrap();
    daemon::send_operator_mails(&office.shell, &transport, &CancellationToken::new()).await.unwrap()
}

/// Each mail as `digest run_completed desk accepted`.
async fn mails(office: &Office) -> Vec<String> {
    office
        .lines(
            "SELECT concat_ws(' ', business_date, kind, cause, split_part(recipient, '@', 1), state)
             FROM dunning.operator_mail ORDER BY business_date, kind, cause, recipient DESC",
        )
        .await
}

#[tokio::test]
async fn each_run_of_the_schedule_is_told_once_to_everybody_on_the_list() {
    let office = office().await;
    office.scan_as(&scheduled()).await.unwrap();
    for _ in 0..2 {
        daemon::write_digest(&office.shell, &creditor(&office), Some(0)).await.unwrap();
        send(&office).await;
    }
    assert_eq!(
        mails(&office).await,
        ["2026-03-10 digest run_completed desk accepted", "2026-03-10 digest run_completed boss accepted"]
    );
    let sent = office.smtp.messages();
    assert_eq!(sent.len(), 2);
    let parsed = MessageParser::default().parse(&sent[0].bytes).unwrap();
    assert_eq!(parsed.subject(), Some("[dunningd] tre_aquiloni 2026-03-10: 2 of 2 accounts contacted, 0 tasks opened"));
    assert_eq!(sent[0].from, "solleciti@tre-aquiloni.test");
    let text = parsed.body_text(0).unwrap();
    let head =
        office.lines("SELECT concat(seq, ' events, head ', encode(chain_hash, 'hex')) FROM dunning.event_head").await;
    assert!(text.contains("  considered 2 = contacted 2 + not contacted 0") && text.contains(&head[0]), "{text}");
    assert_eq!(parsed.html_body_count(), 1, "the text alone");
    let bytes = String::from_utf8(sent[0].bytes.clone()).unwrap();
    assert!(!bytes.contains("Debitore") && !bytes.contains("conti@"), "{bytes}");
    // The letters of the run wait for nobody.
    assert_eq!(office.deliver().await.accepted, 2);
}

#[tokio::test]
async fn a_scan_by_hand_is_told_to_nobody() {
    let office = office().await;
    office.scan().await;
    daemon::write_digest(&office.shell, &creditor(&office), Some(0)).await.unwrap();
    assert_eq!(mails(&office).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_digest_whose_daemon_died_is_written_by_the_next_one() {
    let office = office().await;
    office.scan_as(&scheduled()).await.unwrap();
    daemon::write_digest(&office.shell, &creditor(&office), None).await.unwrap();
    assert_eq!(mails(&office).await, Vec::<String>::new(), "its own daemon may still be about to");
    office.sql("UPDATE dunning.run SET completed_at = completed_at - interval '6 minutes'").await;
    daemon::write_digest(&office.shell, &creditor(&office), None).await.unwrap();
    assert_eq!(mails(&office).await.len(), 2);
}

#[tokio::test]
async fn what_the_relay_defers_is_tried_until_it_is_accepted() {
    let office = office().await;
    office.scan_as(&scheduled()).await.unwrap();
    daemon::write_digest(&office.shell, &creditor(&office), Some(0)).await.unwrap();
    office.smtp.once(Phase::RcptTo, Reply::code(451, "4.2.0 later"));
    let done = send(&office).await;
    assert_eq!((done.accepted, done.deferred), (1, 1));
    let first = office.smtp.messages()[0].message_id.clone();
    assert_eq!(send(&office).await, Dispatched::default(), "not before its time");
    office.sql("UPDATE dunning.operator_mail SET next_try_at = now()").await;
    assert_eq!(send(&office).await.accepted, 1);
    assert_ne!(office.smtp.messages()[1].message_id, first);
    assert_eq!(office.count("dunning.operator_mail WHERE state = 'accepted'").await, 2);
}

#[tokio::test]
async fn what_the_relay_defers_for_ever_is_given_up() {
    let office = office().await;
    office.scan_as(&scheduled()).await.unwrap();
    daemon::write_digest(&office.shell, &creditor(&office), Some(0)).await.unwrap();
    office.smtp.on(Phase::RcptTo, Reply::code(451, "4.2.0 later"));
    for _ in 0..12 {
        assert_eq!(send(&office).await.deferred, 2);
        office.sql("UPDATE dunning.operator_mail SET next_try_at = now()").await;
    }
    assert_eq!(send(&office).await, Dispatched::default());
    assert_eq!(office.count("dunning.operator_mail WHERE state = 'refused'").await, 2);
}

#[tokio::test]
async fn a_daemon_does_not_end_the_try_of_another() {
    let office = office().await;
    office.scan_as(&scheduled()).await.unwrap();
    daemon::write_digest(&office.shell, &creditor(&office), Some(0)).await.unwrap();
    let ids = office.lines("SELECT mail_id::text FROM dunning.operator_mail ORDER BY mail_id").await;
    let mail = ids[0].parse().unwrap();
    let mut connection = office.shell.pool.acquire().await.unwrap();
    assert!(record::take_operator_mail(&mut connection, mail).await.unwrap());
    let deferred = Outcome::Deferred {
        phase: dunningd::model::Phase::RcptTo,
        reply: None,
        detail: "not for the one who has it".into(),
        fault: Fault::Recipient,
    };
    let again = Some(office.shell.clock.wall());
    record::settle_operator_mail(&mut connection, mail, false, &deferred, again).await.unwrap();
    assert_eq!(office.count("dunning.operator_mail WHERE state = 'in_flight'").await, 1);
    record::settle_operator_mail(&mut connection, mail, true, &deferred, again).await.unwrap();
    assert_eq!(office.count("dunning.operator_mail WHERE state = 'queued'").await, 2);
}

#[tokio::test]
async fn a_mail_of_which_nobody_knows_is_never_sent_again() {
    let office = office().await;
    office.scan_as(&scheduled()).await.unwrap();
    daemon::write_digest(&office.shell, &creditor(&office), Some(0)).await.unwrap();
    // One sender died on the wire, the other is still at it.
    office
        .sql(
            "UPDATE dunning.operator_mail SET state = 'in_flight', changed_at = now() - interval '2 hours'
             WHERE recipient LIKE 'desk%';
             UPDATE dunning.operator_mail SET state = 'in_flight', changed_at = now() WHERE recipient LIKE 'boss%'",
        )
        .await;
    assert_eq!(send(&office).await, Dispatched::default());
    assert_eq!(
        mails(&office).await,
        ["2026-03-10 digest run_completed desk unknown", "2026-03-10 digest run_completed boss in_flight"]
    );
    assert_eq!(office.smtp.messages().len(), 0);
}

#[tokio::test]
async fn a_refused_run_alarms_once_a_day_and_two_missing_days_once_more() {
    let mut office = office().await;
    office.scan_as(&scheduled()).await.unwrap();
    let alarms = async |office: &Office| {
        // The schedule asks every minute.
        for _ in 0..2 {
            let _ = office.scan_as(&scheduled()).await;
            daemon::write_alarms(&office.shell, &creditor(office), false).await.unwrap();
        }
        let mails = mails(office).await;
        mails.into_iter().filter(|line| line.contains(" desk ")).collect::<Vec<_>>()
    };
    assert_eq!(alarms(&office).await, Vec::<String>::new());
    let rome = chrono_tz::Europe::Rome;
    // The payments of Tuesday never come; nobody looks on Wednesday, Thursday, Friday.
    office.shell.clock = dunningd::clock::Clock::fixed_on(day_plus(1), rome);
    assert_eq!(alarms(&office).await, ["2026-03-11 alarm refused stale_ledger desk queued"]);
    office.shell.clock = dunningd::clock::Clock::fixed_on(day_plus(3), rome);
    assert_eq!(
        alarms(&office).await,
        [
            "2026-03-11 alarm refused stale_ledger desk queued",
            "2026-03-13 alarm no_run desk queued",
            "2026-03-13 alarm refused stale_ledger desk queued",
        ]
    );
    daemon::write_alarms(&office.shell, &creditor(&office), true).await.unwrap();
    assert_eq!(office.count("dunning.operator_mail WHERE cause = 'contract'").await, 2);
    assert_eq!(send(&office).await.accepted, 8);
}

#[tokio::test]
async fn a_breaker_that_is_open_for_an_hour_alarms_once_for_each_time_it_opened() {
    let office = office().await;
    office.scan().await;
    office.smtp.on(Phase::MailFrom, Reply::code(550, "5.1.8 no such domain"));
    let time_passes = async || {
        office
            .sql(
                "UPDATE dunning.notice SET next_try_at = clock_timestamp() WHERE state = 'deferred';
                 UPDATE dunning.breaker SET until = clock_timestamp() WHERE until IS NOT NULL",
            )
            .await;
    };
    let alarms = async || {
        for _ in 0..2 {
            daemon::write_delivery_alarms(&office.shell).await.unwrap();
        }
        office.count("dunning.operator_mail WHERE kind = 'alarm'").await
    };
    for _ in 0..2 {
        office.deliver().await;
        time_passes().await;
    }
    assert_eq!(alarms().await, 0);
    office.sql("UPDATE dunning.breaker SET open_since = open_since - interval '61 minutes'").await;
    // A probe that fails does not open it anew.
    office.deliver().await;
    assert_eq!(alarms().await, 2);
    office.smtp.on(Phase::MailFrom, Reply::code(250, "2.1.0 Ok"));
    assert_eq!(send(&office).await.accepted, 2);
    let sent = office.smtp.messages().pop().unwrap();
    let parsed = MessageParser::default().parse(&sent.bytes).unwrap();
    let subject = parsed.subject().unwrap();
    assert!(subject.ends_with(": the sender tre_aquiloni has been stopped for an hour"), "{subject}");
    assert!(parsed.body_text(0).unwrap().contains("failures: mail_from: 550 5.1.8"));
    office.sql("UPDATE dunning.breaker SET open_since = clock_timestamp() - interval '2 hours'").await;
    assert_eq!(alarms().await, 4);
}

#[tokio::test]
async fn that_nothing_may_be_sent_from_here_alarms_once_a_day() {
    let office = office().await;
    for why in ["the contact log is not the one", "it is still not the one"] {
        daemon::write_stopped_alarm(&office.shell, why).await.unwrap();
    }
    assert_eq!(
        mails(&office).await,
        ["2026-03-10 alarm delivery stopped desk queued", "2026-03-10 alarm delivery stopped boss queued"]
    );
}

/// What the digest of the newest run tells of letters.
async fn delivered(office: &Office) -> Delivered {
    let query = "SELECT run_id::text FROM dunning.run ORDER BY business_date DESC LIMIT 1";
    let run = office.lines(query).await.remove(0).parse().unwrap();
    let mut connection = office.shell.pool.acquire().await.unwrap();
    let facts = record::digest_facts(&mut connection, &creditor(office).id, run).await.unwrap();
    facts.unwrap().delivered
}

#[tokio::test]
async fn a_digest_tells_what_became_of_the_letters_since_the_last_one() {
    let mut office = office().await;
    office.scan_as(&scheduled()).await.unwrap();
    office.smtp.on_recipient(Phase::RcptTo, "conti@a01.test", Reply::code(550, "5.1.1 no such user"));
    office.deliver().await;
    let told = delivered(&office).await;
    assert_eq!(told, Delivered { accepted: 1, refused: 1, expired: 0, queued: 0 });
    office.go_to(day_plus(1)).await;
    office.account("B1", "it", "conti@b1.test").await;
    office.invoice("J1", "B1", 6, "100.00 EUR").await;
    office.scan_as(&scheduled()).await.unwrap();
    let told = delivered(&office).await;
    assert_eq!((told.queued, told.expired), (1, 0));
}

#[tokio::test]
async fn without_a_list_nothing_is_written() {
    let office = Office::new().await;
    office.scan_as(&scheduled()).await.unwrap();
    daemon::write_digest(&office.shell, &creditor(&office), Some(0)).await.unwrap();
    daemon::write_alarms(&office.shell, &creditor(&office), true).await.unwrap();
    assert_eq!(office.count("dunning.operator_mail").await, 0);
}

/// An office that signs its log and has two auditors.
async fn audited() -> (Office, tempfile::TempDir) {
    let keys = tempfile::tempdir().unwrap();
    let path = keys.path().join("log.key");
    write_secret(&path, &key().secret_text());
    let service = "[log]\ncheckpoint_to = [\"audit@revisori.test\", \"board@tre-aquiloni.test\"]\n";
    let setup = Setup { service, ..Setup::default() }.with("LOG__SIGNING_KEY_FILE", path.to_str().unwrap());
    let office = Office::with(setup).await;
    office.accounts(1).await;
    (office, keys)
}

#[tokio::test]
async fn auditors_get_the_newest_checkpoint_once_a_day_byte_for_byte() {
    let (mut office, _keys) = audited().await;
    // Nothing is signed yet.
    daemon::write_checkpoint(&office.shell).await.unwrap();
    assert_eq!(mails(&office).await, Vec::<String>::new());
    office.scan().await;
    let checkpoint = daemon::anchor(&office.shell).await.unwrap();
    for _ in 0..2 {
        daemon::write_checkpoint(&office.shell).await.unwrap();
        send(&office).await;
    }
    assert_eq!(
        mails(&office).await,
        ["2026-03-10 checkpoint daily board accepted", "2026-03-10 checkpoint daily audit accepted"]
    );
    let sent = office.smtp.messages();
    let to: Vec<_> = sent.iter().flat_map(|mail| mail.to.clone()).collect();
    assert_eq!((sent.len(), to), (2, vec!["audit@revisori.test".to_owned(), "board@tre-aquiloni.test".to_owned()]));
    let parsed = MessageParser::default().parse(&sent[0].bytes).unwrap();
    let text = checkpoint_text(&checkpoint, day());
    assert_eq!(parsed.subject(), Some(text.subject.as_str()));
    assert_eq!(parsed.body_text(0).unwrap().replace("\r\n", "\n"), text.text);
    let file = parsed.attachment(0).unwrap();
    assert_eq!(file.attachment_name(), Some(format!("checkpoint-{}.txt", checkpoint.size).as_str()));
    assert_eq!(file.contents(), checkpoint.note.as_bytes());
    // The auditor's file is the checkpoint, and its signature holds.
    let note = String::from_utf8(file.contents().to_vec()).unwrap();
    record::read_checkpoints([("theirs".to_owned(), note)], &[key().verifier()]).unwrap();

    // The next day it comes again, whether the log grew or not: silence would mean something.
    office.go_to(day_plus(1)).await;
    daemon::write_checkpoint(&office.shell).await.unwrap();
    assert_eq!(send(&office).await.accepted, 2);
}

/// An office that signs its log and has somebody to alarm, with a log of which a checkpoint was signed.
async fn signed() -> (Office, tempfile::TempDir) {
    let keys = tempfile::tempdir().unwrap();
    let path = keys.path().join("log.key");
    write_secret(&path, &key().secret_text());
    let setup = Setup { service: "[digest]\nto = [\"desk@tre-aquiloni.test\"]\n", ..Setup::default() };
    let office = Office::with(setup.with("LOG__SIGNING_KEY_FILE", path.to_str().unwrap())).await;
    office.accounts(1).await;
    office.scan().await;
    daemon::anchor(&office.shell).await.unwrap();
    (office, keys)
}

/// `unasked`: also where no run asked for a checkpoint.
async fn alarms_of_a_log(office: &Office, harm: &str, unasked: bool, told: &str) {
    office.sql("UPDATE dunning.checkpoint SET made_at = made_at - interval '25 hours'").await;
    assert!(daemon::anchor_when_due(&office.shell).await.is_ok(), "nothing is wrong yet");
    assert_eq!(office.count("dunning.operator_mail").await, 0);
    office.sql(harm).await;
    for _ in 0..3 {
        office.sql("UPDATE dunning.checkpoint SET made_at = made_at - interval '25 hours'").await;
        assert_eq!(daemon::anchor_when_due(&office.shell).await.is_err(), unasked);
        assert!(daemon::anchor_after_run(&office.shell).await.is_some());
    }
    let cause = office.lines("SELECT kind || ' ' || cause FROM dunning.operator_mail").await;
    assert!(cause.len() == 1 && cause[0].starts_with("alarm log ") && cause[0].contains(told), "{cause:?}");
    assert_eq!(send(office).await.accepted, 1);
    let sent = office.smtp.messages().pop().unwrap();
    let parsed = MessageParser::default().parse(&sent.bytes).unwrap();
    assert_eq!(parsed.subject(), Some("[dunningd] ALARM 2026-03-10: the contact log does not hold together"));
    assert!(parsed.body_text(0).unwrap().replace("\r\n", " ").contains(told));
}

#[tokio::test]
async fn a_rewritten_log_alarms_the_operator_once_a_day_however_often_it_is_seen() {
    let (mut office, _keys) = signed().await;
    let harm = "UPDATE dunning.event SET chain_hash = sha256('x'), leaf_hash = sha256('y')";
    let told = "its chain hash is not the one of the last checkpoint: the log was rewritten";
    alarms_of_a_log(&office, harm, false, told).await;
    office.go_to(day_plus(1)).await;
    assert!(daemon::anchor_after_run(&office.shell).await.is_some());
    assert_eq!(send(&office).await.accepted, 1, "it lasts");
}

#[tokio::test]
async fn a_log_whose_tail_was_cut_off_alarms_the_operator_before_it_grows_again() {
    let (office, _keys) = signed().await;
    let harm = "DELETE FROM dunning.event WHERE seq = (SELECT seq FROM dunning.event_head);
                UPDATE dunning.event_head h SET seq = e.seq, chain_hash = e.chain_hash
                FROM dunning.event e WHERE e.seq = h.seq - 1";
    alarms_of_a_log(&office, harm, true, "it is missing, and the last checkpoint signed it").await;
}

#[tokio::test]
async fn a_log_that_log_verify_finds_broken_alarms_the_operator_and_a_wrong_key_does_not() {
    let office = Office::new().await;
    office.accounts(1).await;
    office.scan().await;
    let program = Program::new(&office.database, office.smtp.address.port()).await;
    program.replace("dunningd.toml", r#"# to = ["receivables@example.com"]"#, r#"to = ["desk@tre-aquiloni.test"]"#);
    let key = key().verifier().to_string();
    program.run(&["log", "verify", "--key", &key]).await.failed(6);
    assert_eq!(office.count("dunning.operator_mail").await, 0);
    office.sql("UPDATE dunning.event SET bytes = bytes || ' ' WHERE seq = 2").await;
    for _ in 0..2 {
        program.run(&["log", "verify", "--key", &key]).await.failed(6);
        program.run(&["log", "verify"]).await.failed(6);
    }
    assert_eq!(
        office.lines("SELECT cause FROM dunning.operator_mail").await,
        ["log the log does not hold together: event 2: its bytes were altered: they do not give the leaf hash"]
    );
}

#[tokio::test]
async fn without_auditors_a_checkpoint_is_mailed_to_nobody() {
    let office = office().await;
    daemon::write_checkpoint(&office.shell).await.unwrap();
    assert_eq!(office.count("dunning.operator_mail").await, 0);
}
