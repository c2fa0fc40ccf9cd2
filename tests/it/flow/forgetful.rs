//! A database that forgets, under a delivery that goes on: it crashes before a commit that did not wait for its disk is on
//! it, or another one with an older state takes its place. What the relay took is in the journal, and goes out once.

use std::process::Command;
use std::time::Duration;

use dunningd::daemon;
use dunningd::demo::Cluster;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::support::postgres::Database;
use crate::support::shell::{Office, Setup};
use crate::support::smtp::{Phase, Reply};

/// How long the relay thinks about the second letter: enough for a server to end and to start again.
const THINKS: Duration = Duration::from_secs(6);

/// One connection, three letters in the queue, and a database that brings to its disk only what somebody waits for.
async fn queued() -> Office {
    let office = Office::on(Database::that_may_crash().await, Setup::default().with("MAIL__CONNECTIONS", "1")).await;
    office.accounts(3).await;
    office.scan().await;
    // From now on it writes nothing by itself for ten seconds, in which the delivery has to meet its crash.
    office.sql("ALTER SYSTEM SET wal_writer_delay = '10s'").await;
    office.sql("ALTER SYSTEM SET wal_writer_flush_after = '1GB'").await;
    office.sql("SELECT pg_reload_conf()").await;
    office
}

/// One round of delivery, which may end with an error.
async fn round(office: &Office) -> Result<daemon::Dispatched, dunningd::record::RecordError> {
    let transport = daemon::transport(&office.shell.live().config.service.mail).unwrap();
    daemon::dispatch(&office.shell, &transport, &CancellationToken::new()).await
}

/// A round of delivery goes on while something happens to the database, once the first letter is accepted and what is said
/// of the second one holds.
async fn while_it_delivers(office: &mut Office, second: &str, happens: impl FnOnce(&mut Cluster)) {
    let Office { shell, hand, database, .. } = office;
    let transport = daemon::transport(&shell.live().config.service.mail).unwrap();
    let stop = CancellationToken::new();
    let delivering = daemon::dispatch(shell, &transport, &stop);
    let happening = async {
        let reached = "SELECT count(*) = 2 FROM dunning.notice
                       WHERE account_id = 'A01' AND state = 'accepted' OR account_id = 'A02' AND state = ANY ($1)";
        let states: Vec<&str> = second.split(' ').collect();
        while !sqlx::query_scalar::<_, bool>(reached).bind(&states).fetch_one(&*hand).await.unwrap() {
            sleep(Duration::from_millis(5)).await;
        }
        // Until the delivery has heard of the commit that is seen here: it would offer again what it did not hear.
        sleep(Duration::from_millis(500)).await;
        tokio::task::block_in_place(|| happens(database.own.as_mut().unwrap()));
    };
    // It may end with an error: its database was gone.
    let (_, ()) = tokio::join!(delivering, happening);
}

fn taken(office: &Office) -> Vec<String> {
    let mut to: Vec<String> = office.smtp.messages().iter().map(|message| message.to.concat()).collect();
    to.sort();
    to
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_database_forgets_in_a_crash_under_a_living_delivery_the_journal_tells_it_again() {
    let mut office = queued().await;
    office.smtp.on_nth(Phase::RcptTo, 2, Reply::code(250, "2.1.5 Ok").after(THINKS));
    while_it_delivers(&mut office, "claimed", |cluster| {
        cluster.crash().unwrap();
        cluster.go_on().unwrap();
    })
    .await;
    assert_eq!(
        office.notices().await[0],
        "A01 friendly in_flight",
        "nobody had waited for the commit of its acceptance"
    );
    assert_eq!(taken(&office).len(), 1);
    office
        .sql("UPDATE dunning.notice SET lease_until = clock_timestamp() - interval '1 second', next_try_at = NULL")
        .await;
    let done = round(&office).await.unwrap();
    assert_eq!((done.accepted, done.stopped), (2, None));
    let all = ["A01 friendly accepted", "A02 friendly accepted", "A03 friendly accepted"];
    assert_eq!(office.notices().await, all, "the relay had accepted the first one");
    assert_eq!(taken(&office), ["conti@a01.test", "conti@a02.test", "conti@a03.test"]);
    office.verified().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_a_database_that_an_older_one_replaces_while_letters_are_on_the_wire_nothing_goes_out_twice() {
    let mut office = queued().await;
    let data = office.lines("SHOW data_directory").await.remove(0);
    let older = format!("{data}.older");
    let copy = |from: &str, to: &str| {
        assert!(Command::new("rm").args(["-rf", to]).status().unwrap().success());
        assert!(Command::new("cp").args(["-a", from, to]).status().unwrap().success());
    };
    tokio::task::block_in_place(|| {
        let cluster = office.database.own.as_mut().unwrap();
        cluster.crash().unwrap();
        copy(&data, &older);
        cluster.go_on().unwrap();
    });

    office.smtp.on_nth(Phase::Dot, 2, Reply::code(250, "2.0.0 Ok").after(THINKS));
    while_it_delivers(&mut office, "in_flight", |cluster| {
        cluster.crash().unwrap();
        copy(&older, &data);
        cluster.go_on().unwrap();
    })
    .await;
    assert_eq!(taken(&office).len(), 2);
    for _ in 0..2 {
        let stopped = round(&office).await.unwrap().stopped.unwrap();
        assert!(stopped.contains("--accept-database"), "{stopped}");
    }
    assert_eq!(taken(&office).len(), 2, "what it calls queued went out already");

    daemon::accept_database(&office.shell, "failed over to the second machine").await.unwrap();
    let done = round(&office).await.unwrap();
    assert_eq!((done.accepted, done.stopped), (1, None));
    let all = ["A01 friendly accepted", "A02 friendly accepted", "A03 friendly accepted"];
    assert_eq!(office.notices().await, all, "the replies to the first two are in the journal");
    assert_eq!(taken(&office), ["conti@a01.test", "conti@a02.test", "conti@a03.test"]);
    office.verified().await;
}
