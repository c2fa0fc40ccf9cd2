//! Several daemons on one database, as processes: what one of them holds when it is stopped or dies, the others get.

use std::fs::{self, DirEntry};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::time::{Instant, sleep};

use crate::support::command::Program;
use crate::support::shell::{CREDITOR, Office, Setup};
use crate::support::smtp::{Phase, Reply};

const DAY: &str = "2026-03-10";

/// The application's connections in such a state.
fn connections(state: &str) -> String {
    format!("pg_stat_activity WHERE datname = current_database() AND usename = 'dunningd_app' AND {state}")
}

async fn until_there_are(office: &Office, rows: &str) {
    let limit = Instant::now() + Duration::from_mins(1);
    while office.count(rows).await == 0 {
        assert!(Instant::now() < limit, "there are no {rows}");
        sleep(Duration::from_millis(3)).await;
    }
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().unwrap().try_into().unwrap()), signal).unwrap();
}

/// Stops a process, every thread of it: on a busy machine some go on for a while.
async fn stop(child: &Child) {
    signal(child, Signal::SIGSTOP);
    let threads = format!("/proc/{}/task", child.id().unwrap());
    let goes_on = |thread: &DirEntry| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // Its state stands behind its name, which is in brackets.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('T'))
    };
    while fs::read_dir(&threads).unwrap().any(|thread| goes_on(&thread.unwrap())) {
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stopped_process_has_locked_is_free_again_after_ten_seconds() {
    let office = Office::with(Setup::default()).await;
    office.accounts(1).await;
    let program = Program::new(&office.database, office.smtp.address.port()).await.without_schedule();
    program.run(&["scan", "--creditor", CREDITOR, "--as-of", DAY]).await;
    assert_eq!(office.notices().await, ["A01 friendly queued"]);

    // The head of the log is held up, so that it is seen waiting for it; then it gets it, and is stopped.
    let mut head = office.hand.begin().await.unwrap();
    sqlx::query("SELECT FROM dunning.event_head FOR UPDATE").execute(&mut *head).await.unwrap();
    let child = program.start(&["run"]);
    while office.smtp.received().is_empty() {
        sleep(Duration::from_millis(3)).await;
    }
    until_there_are(&office, &connections("wait_event_type = 'Lock' AND query LIKE '%append%'")).await;
    stop(&child).await;
    head.rollback().await.unwrap();
    until_there_are(&office, &connections("state = 'idle in transaction' AND query LIKE '%append%'")).await;

    let began = Instant::now();
    let mut head = office.hand.begin().await.unwrap();
    sqlx::query("SELECT FROM dunning.event_head FOR UPDATE").execute(&mut *head).await.unwrap();
    head.rollback().await.unwrap();
    let waited = began.elapsed();
    assert!((Duration::from_secs(5)..Duration::from_secs(30)).contains(&waited), "{waited:?}");

    signal(&child, Signal::SIGCONT);
    until_there_are(&office, "dunning.notice WHERE state = 'accepted'").await;
    assert_eq!(office.smtp.received().len(), 1);
    office.verified().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_that_is_interrupted_while_it_delivers_finishes_what_is_on_the_wire() {
    for asked in [Signal::SIGINT, Signal::SIGTERM] {
        let office = Office::new().await;
        office.accounts(40).await;
        office.smtp.on(Phase::Dot, Reply::code(250, "2.0.0 Ok").after(Duration::from_millis(700)));
        let program = Program::new(&office.database, office.smtp.address.port()).await;
        let mut child = program.start(&["scan", "--creditor", CREDITOR, "--as-of", DAY, "--deliver"]);
        until_there_are(&office, "dunning.notice WHERE state = 'in_flight'").await;
        signal(&child, asked);
        assert_eq!(child.wait().await.unwrap().code(), Some(130));
        assert_eq!(office.count("dunning.notice WHERE state NOT IN ('queued', 'accepted')").await, 0);
        let accepted = office.count("dunning.notice WHERE state = 'accepted'").await;
        assert!((1..40).contains(&accepted), "{accepted}");
        assert_eq!(office.smtp.messages().len(), usize::try_from(accepted).unwrap());
        office.verified().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_daemon_that_makes_a_run_dies_another_makes_it_within_seconds() {
    let office = Office::new().await;
    office
        .sql(
            "INSERT INTO ledger.account (account_id, creditor, name, party_kind, country, language, time_zone)
             SELECT 'A' || i, 'tre_aquiloni', 'Debtor ' || i, 'company', 'IT', 'it', 'Europe/Rome'
             FROM generate_series(10000, 13000) i;
             INSERT INTO ledger.item (item_id, account_id, kind, document_no, issue_date, due_date, currency, amount,
                 open_amount)
             SELECT 'I' || account_id, account_id, 'invoice', 'FT ' || account_id, '2026-02-02', '2026-03-04', 'EUR', 90, 90
             FROM ledger.account;
             INSERT INTO ledger.freshness VALUES ('erp', NULL, now(), now())
             ON CONFLICT (source, creditor) DO UPDATE SET invoices_as_of = now(), payments_as_of = now()",
        )
        .await;
    let program = Program::new(&office.database, office.smtp.address.port()).await;
    // The bell rings once a minute: it is not what wakes the other one.
    let program = program.with("SCHEDULE__EARLIEST", "00:00").with("SCHEDULE__LATEST", "23:59");
    let of_creditor = format!("creditor = '{CREDITOR}'");
    let mut leader = program.start(&["run"]);
    until_there_are(&office, &format!("dunning.run WHERE state = 'running' AND {of_creditor}")).await;
    stop(&leader).await;
    let _other = program.start(&["run"]);
    // It has looked for work, and found that somebody is at it.
    sleep(Duration::from_secs(4)).await;
    assert_eq!(office.count(&format!("dunning.run WHERE state = 'completed' AND {of_creditor}")).await, 0);

    let began = Instant::now();
    leader.kill().await.unwrap();
    until_there_are(
        &office,
        &format!(
            "dunning.run WHERE state = 'running' AND {of_creditor} AND started_at >
        (SELECT max(started_at) FROM dunning.run WHERE state = 'failed' AND {of_creditor})"
        ),
    )
    .await;
    let taken_over = began.elapsed();
    until_there_are(&office, &format!("dunning.run WHERE state = 'completed' AND {of_creditor}")).await;
    println!("taken over after {taken_over:.1?}, completed after {:.1?}", began.elapsed());
    assert!(taken_over < Duration::from_secs(20), "{taken_over:?}");
    let ended =
        format!("SELECT concat_ws(' ', state, reason) FROM dunning.run WHERE {of_creditor} ORDER BY started_at");
    assert_eq!(office.lines(ended).await, ["failed instance_died", "completed"]);
    office.verified().await;
}
