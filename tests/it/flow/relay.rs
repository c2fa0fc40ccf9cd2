//! Whatever the relay does: no letter is lost, none goes out twice, and nothing is called sent that was not.

use dunningd::daemon::Dispatched;

use crate::support::command::write_secret;
use crate::support::shell::{Office, Setup, day_plus, deliver};
use crate::support::smtp::{Options, Phase, Reply};

async fn queued(accounts: u32) -> Office {
    queued_with(accounts, Setup::default().with("MAIL__CONNECTIONS", "1")).await
}

async fn queued_with(accounts: u32, setup: Setup) -> Office {
    let office = Office::with(setup).await;
    office.accounts(accounts).await;
    assert_eq!(office.scan().await.queued, u64::from(accounts));
    office
}

/// The time until the next try is over.
async fn wait_for_retry(office: &Office) {
    office.sql("UPDATE dunning.notice SET next_try_at = clock_timestamp() WHERE state = 'deferred'").await;
}

#[tokio::test]
async fn two_dispatchers_at_once_send_each_notice_once() {
    let office = queued_with(30, Setup::default()).await;
    let other = office.second_shell().await;
    let (one, two) = tokio::join!(office.deliver(), deliver(&other));
    assert_eq!(one.accepted + two.accepted, 30);
    let mut ids: Vec<String> = office.smtp.received().into_iter().map(|message| message.message_id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), office.smtp.received().len()), (30, 30));
    assert_eq!(office.count("dunning.attempt").await, 30);
    office.verified().await;
}

#[tokio::test]
async fn while_the_relay_is_down_nothing_is_lost_and_no_try_is_burnt() {
    // A port that nobody listens on.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let office = queued_with(2, Setup::default()).await;
    let with_relay = office.shell.live();
    let down = Office::with(Setup::default().with("MAIL__PORT", &closed.to_string())).await;
    office.shell.live.store(down.shell.live());
    let done = office.deliver().await;
    assert_eq!(done.accepted + done.deferred + done.refused + done.unknown, 0);
    assert_eq!(done.relay_error, Some(format!("127.0.0.1:{closed}: connect: connection refused")));
    assert!(!done.all_accepted());
    assert_eq!(office.notices().await, ["A01 friendly queued", "A02 friendly queued"]);
    assert_eq!(office.count("dunning.attempt").await, 0);
    office.shell.live.store(with_relay);
    assert_eq!(office.deliver().await.accepted, 2);
    office.verified().await;
}

#[tokio::test]
async fn a_refused_login_costs_no_notice_a_try() {
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    write_secret(&password, "wrong-9184\n");
    let relay = Options {
        mechanisms: vec!["PLAIN"],
        login: Some(("dunning".into(), "right-2957".into())),
        ..Options::default()
    };
    let setup = Setup { relay, ..Setup::default() }
        .with("MAIL__USERNAME", "dunning")
        .with("MAIL__PASSWORD_FILE", password.to_str().unwrap())
        .with("MAIL__CONNECTIONS", "1");
    let office = queued_with(2, setup).await;
    let done = office.deliver().await;
    assert!(done.credentials_refused);
    assert!(done.relay_error.unwrap().ends_with(": auth: the relay answered 535"));
    assert_eq!(office.notices().await, ["A01 friendly queued", "A02 friendly queued"]);
    assert_eq!(office.count("dunning.attempt").await, 0);
    // Once, and not once per notice: more would lock the account.
    assert_eq!(office.smtp.connections(), 1);
    std::fs::write(&password, "right-2957\n").unwrap();
    assert_eq!(office.deliver().await.accepted, 2);
    assert_eq!(office.smtp.messages()[0].user.as_deref(), Some("dunning"));
    office.verified().await;
}

#[tokio::test]
async fn a_refused_sender_is_our_own_fault_and_burns_no_try() {
    let office = queued(1).await;
    office.smtp.once(Phase::MailFrom, Reply::code(553, "5.7.1 not your address"));
    assert_eq!(office.deliver().await, Dispatched { deferred: 1, ..Dispatched::default() });
    assert_eq!(office.lines("SELECT concat_ws(' ', state, tries) FROM dunning.notice").await, ["deferred 0"]);
    wait_for_retry(&office).await;
    assert_eq!(office.deliver().await.accepted, 1);
}

#[tokio::test]
async fn an_unknown_recipient_is_refused_for_good_and_stops_the_account_until_a_person_looks() {
    let mut office = queued(2).await;
    let no_such_user = Reply::code(550, "5.1.1 <conti@a01.test>: no such user");
    office.smtp.on_recipient(Phase::RcptTo, "conti@a01.test", no_such_user);
    assert_eq!(office.deliver().await, Dispatched { refused: 1, accepted: 1, ..Dispatched::default() });
    assert_eq!(office.notices().await, ["A01 friendly refused", "A02 friendly accepted"]);
    // Not a contact, not a stage; the item may have another notice once somebody has resolved this one.
    assert_eq!(office.count("dunning.notice_item WHERE live AND item_id = 'I01'").await, 0);
    assert_eq!(
        office.lines("SELECT concat_ws(' ', phase, reply_code) FROM dunning.attempt WHERE outcome = 'refused'").await,
        ["rcpt_to 550"]
    );
    for n in 1..=3 {
        office.go_to(day_plus(n)).await;
        let verdicts = office.verdicts().await;
        let expected = if n < 4 { "A02 too_soon" } else { "A02 not_overdue" };
        assert_eq!(verdicts, ["A01 previous_stage_incomplete", expected]);
    }
    assert_eq!(office.tasks().await, ["A01 resolve_notice"]);
    assert_eq!(office.smtp.received().len(), 1);
    office.verified().await;
}

#[tokio::test]
async fn a_busy_mailbox_is_tried_again_later_with_the_same_bytes() {
    let office = queued(1).await;
    office.smtp.once(Phase::RcptTo, Reply::code(451, "4.7.1 greylisted, come back"));
    assert_eq!(office.deliver().await, Dispatched { deferred: 1, ..Dispatched::default() });
    let waits = office
        .lines(
            "SELECT concat_ws(' ', state, tries, next_try_at - changed_at BETWEEN '4 min 59 s' AND '5 min 31 s')
             FROM dunning.notice",
        )
        .await;
    assert_eq!(waits, ["deferred 1 t"]);
    // Not before its time.
    assert_eq!(office.deliver().await, Dispatched::default());
    let frozen: Vec<u8> =
        sqlx::query_scalar("SELECT bytes FROM dunning.message").fetch_one(&office.hand).await.unwrap();
    wait_for_retry(&office).await;
    assert_eq!(office.deliver().await.accepted, 1);
    let received = office.smtp.received();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].bytes, frozen);
    assert_eq!(
        office.lines("SELECT concat_ws(' ', number, outcome, phase) FROM dunning.attempt ORDER BY number").await,
        ["1 deferred rcpt_to", "2 accepted dot"]
    );
    office.verified().await;
}

#[tokio::test]
async fn a_content_that_is_refused_for_now_goes_out_again_byte_for_byte() {
    let office = queued(1).await;
    office.smtp.once(Phase::Dot, Reply::code(452, "4.3.1 disk full"));
    assert_eq!(office.deliver().await.deferred, 1);
    wait_for_retry(&office).await;
    assert_eq!(office.deliver().await.accepted, 1);
    let received = office.smtp.received();
    assert_eq!(received.len(), 2);
    assert_eq!(received[0].bytes, received[1].bytes);
    assert_eq!((received[0].accepted, received[1].accepted), (false, true));
    // One contact, whatever it took.
    assert_eq!(office.count("dunning.notice WHERE counted_on IS NOT NULL").await, 1);
}

#[tokio::test]
async fn after_its_last_try_a_notice_is_given_up_and_becomes_a_task() {
    let setup = Setup::default().with("MAIL__CONNECTIONS", "1").with("DISPATCH__MAX_TRIES", "3");
    let mut office = queued_with(1, setup).await;
    office.smtp.on(Phase::RcptTo, Reply::code(450, "4.2.0 later"));
    for _ in 0..5 {
        office.deliver().await;
        wait_for_retry(&office).await;
    }
    assert_eq!(office.notices().await, ["A01 friendly refused gave_up"]);
    assert_eq!(office.count("dunning.attempt").await, 3);
    office.go_to(day_plus(1)).await;
    assert_eq!(office.verdicts().await, ["A01 previous_stage_incomplete"]);
    assert_eq!(office.tasks().await, ["A01 resolve_notice"]);
    office.verified().await;
}

#[tokio::test]
async fn a_connection_lost_after_the_body_leaves_an_unknown_that_is_never_resent() {
    let mut office = queued(2).await;
    // The relay took the message and died before it could say so.
    office.smtp.once(Phase::Dot, Reply::close());
    assert_eq!(office.deliver().await, Dispatched { unknown: 1, accepted: 1, ..Dispatched::default() });
    assert_eq!(office.notices().await, ["A01 friendly unknown", "A02 friendly accepted"]);
    for n in 0..=30 {
        office.go_to(day_plus(n)).await;
        office.scan().await;
        office.deliver().await;
    }
    let to_first = office.smtp.received().into_iter().filter(|message| message.to == ["conti@a01.test"]).count();
    assert_eq!(to_first, 1);
    assert_eq!(office.notices().await[..2], ["A01 friendly unknown", "A02 friendly accepted"]);
    assert_eq!(office.verdicts().await[0], "A01 previous_stage_incomplete");
    assert_eq!(office.tasks().await, ["A01 resolve_notice"]);
    office.verified().await;
}

#[tokio::test]
async fn a_relay_that_hangs_up_in_the_middle_of_the_body_leaves_an_unknown() {
    let office = queued(1).await;
    office.smtp.once(Phase::Body, Reply::reset());
    assert_eq!(office.deliver().await.unknown, 1);
    assert_eq!(office.notices().await, ["A01 friendly unknown"]);
    office.verified().await;
}
