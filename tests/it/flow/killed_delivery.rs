//! Delivery that is killed, stopped, cut off and doubled at random moments: nothing is lost, nothing goes out twice, and
//! nothing is called sent that was not.
//!
//! `./dev bench crash [KILLS] [NOTICES]` runs the same with other figures.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use dunningd::config::{Part, Source};
use dunningd::demo;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::process::{Child, Command};

use crate::support::shell::Office;
use crate::support::smtp::{Phase, Reply};

const CONNECTIONS: usize = 4;

/// One item each, six days late; the first account owes nothing.
const LEDGER: &str = "
    INSERT INTO ledger.account (account_id, creditor, name, party_kind, country, language, time_zone)
    SELECT 'A' || lpad(i::text, 6, '0'), 'tre_aquiloni', 'Debtor ' || i, 'company', 'IT', 'it', 'Europe/Rome'
    FROM generate_series(0, $notices) i;
    INSERT INTO ledger.contact (contact_id, account_id, role, name, email, is_primary, no_email)
    SELECT account_id || '-1', account_id, 'billing', 'Ada', lower(account_id) || '@debtor.test', true, false
    FROM ledger.account;
    INSERT INTO ledger.item (item_id, account_id, kind, document_no, issue_date, due_date, currency, amount, open_amount)
    SELECT 'I' || account_id, account_id, 'invoice', 'FT ' || account_id, '2026-02-02', '2026-03-04', 'EUR', 90, 90
    FROM ledger.account WHERE account_id > 'A000000'";

/// What time would do: waits and leases end, breakers close. What a stopped process has locked waits for it.
const TIME_PASSES: &str = "
    UPDATE dunning.notice SET lease_until = clock_timestamp() - interval '1 second' WHERE notice_id IN
        (SELECT notice_id FROM dunning.notice WHERE state IN ('claimed', 'in_flight') FOR UPDATE SKIP LOCKED);
    UPDATE dunning.notice SET next_try_at = clock_timestamp() WHERE notice_id IN
        (SELECT notice_id FROM dunning.notice WHERE state = 'deferred' FOR UPDATE SKIP LOCKED);
    DELETE FROM dunning.breaker WHERE ctid IN (SELECT ctid FROM dunning.breaker FOR UPDATE SKIP LOCKED)";

/// Every connection of the application is cut.
const CUT: &str = "SELECT count(pg_terminate_backend(pid))::text FROM pg_stat_activity
                   WHERE datname = current_database() AND usename = 'dunningd_app'";

struct World {
    office: Office,
    folder: tempfile::TempDir,
}

impl World {
    async fn new(notices: usize) -> Self {
        let office = Office::new().await;
        office.sql(LEDGER.replace("$notices", &notices.to_string())).await;
        let folder = tempfile::tempdir().unwrap();
        let (app, admin) = (office.database.url("dunningd_app"), office.database.url("dunningd_admin"));
        for Source { part, text, .. } in demo::configuration(&app, &admin, "127.0.0.1", office.smtp.address.port()) {
            let name = match part {
                Part::Service => "dunningd.toml",
                Part::Policy => "policy.toml",
                Part::Creditors => "creditors.toml",
                // Without the folder the shipped ones are used.
                Part::Calendar => continue,
            };
            // The brakes are for another test.
            let text = text.replace("first_run_notices = 100", "first_run_notices = 1000000");
            let text = text.replace("notices_per_run = 2000", "notices_per_run = 1000000");
            let text = text.replace("notices_per_hour = 500", "notices_per_hour = 1000000");
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let world = Self { office, folder };
        let scan = world.start(&["scan", "--creditor", "tre_aquiloni", "--as-of", "2026-03-10"]);
        assert!(scan.wait_with_output().await.unwrap().status.success());
        assert_eq!(world.office.count("dunning.notice WHERE state = 'queued'").await, i64::try_from(notices).unwrap());
        world.office.smtp.on(Phase::Dot, Reply::code(250, "2.0.0 Ok").after(Duration::from_millis(5)));
        world
    }

    fn start(&self, arguments: &[&str]) -> Child {
        let path: &Path = self.folder.path();
        Command::new(env!("CARGO_BIN_EXE_dunningd"))
            .arg("--config")
            .arg(path)
            .args(arguments)
            .env("DUNNINGD__STATE__DIRECTORY", path.join("state"))
            .env("DUNNINGD__MAIL__CONNECTIONS", CONNECTIONS.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    /// Looks at the account that owes nothing, and delivers what is due.
    fn deliver(&self) -> Child {
        self.start(&[
            "scan",
            "--creditor",
            "tre_aquiloni",
            "--as-of",
            "2026-03-10",
            "--account",
            "A000000",
            "--deliver",
        ])
    }

    /// Waits until it sends, has ended because nothing was left, or cannot go on because another one, which was stopped,
    /// holds a lock.
    async fn sending(&self, child: &mut Child) {
        let before = self.office.smtp.received_count();
        let until = Instant::now() + Duration::from_secs(3);
        while self.office.smtp.received_count() == before
            && child.try_wait().unwrap().is_none()
            && Instant::now() < until
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn states(&self) -> BTreeMap<String, String> {
        let rows = self.office.lines("SELECT concat_ws(' ', message_id, state, reason) FROM dunning.notice").await;
        rows.into_iter().map(|row| row.split_once(' ').map(|(id, state)| (id.into(), state.into())).unwrap()).collect()
    }
}

async fn killed(mut child: Child) {
    // It may have ended by itself.
    let _ = child.kill().await;
}

fn signal(child: &Child, signal: Signal) {
    if let Some(pid) = child.id() {
        kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
    }
}

fn figure(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(usual)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p23_delivery_killed_twenty_times_loses_nothing_and_sends_nothing_twice() {
    let (kills, notices) = (figure("DUNNINGD_CRASH_KILLS", 20), figure("DUNNINGD_CRASH_NOTICES", 300));
    let seed = figure("DUNNINGD_CRASH_SEED", rand::random_range(0..1_000_000));
    println!("seed {seed} (DUNNINGD_CRASH_SEED)");
    let mut chance = StdRng::seed_from_u64(seed as u64);
    let began = Instant::now();
    let world = World::new(notices).await;
    let (mut done, mut reset) = (0, 0);
    for round in 0..kills {
        let mut child = world.deliver();
        world.sending(&mut child).await;
        done += usize::from(child.try_wait().unwrap().is_none());
        let moment = Duration::from_micros(chance.random_range(0..30_000));
        match round % 5 {
            // The machine, or a person, stops it and lets it go on when its leases are over and another one works.
            2 => {
                tokio::time::sleep(moment).await;
                signal(&child, Signal::SIGSTOP);
                world.office.sql(TIME_PASSES).await;
                let mut other = world.deliver();
                world.sending(&mut other).await;
                signal(&child, Signal::SIGCONT);
                tokio::time::sleep(moment).await;
                killed(other).await;
            }
            // Another one works beside it; the database cuts both off.
            3 => {
                let mut other = world.deliver();
                world.sending(&mut other).await;
                world.office.lines(CUT).await;
                tokio::time::sleep(moment).await;
                killed(other).await;
            }
            // The relay breaks off.
            4 => {
                world.office.smtp.once(Phase::Dot, Reply::reset());
                reset += 1;
                tokio::time::sleep(moment).await;
            }
            _ => tokio::time::sleep(moment).await,
        }
        killed(child).await;
        world.office.sql(TIME_PASSES).await;
    }
    // The rules that were not used up.
    world.office.smtp.on(Phase::Dot, Reply::code(250, "2.0.0 Ok"));
    while world.office.count("dunning.notice WHERE state IN ('queued', 'deferred', 'claimed', 'in_flight')").await > 0 {
        world.office.sql(TIME_PASSES).await;
        world.deliver().wait().await.unwrap();
    }

    let states = world.states().await;
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    for message in world.office.smtp.messages() {
        *taken.entry(message.message_id).or_default() += 1;
    }
    let named = |state: &str| states.values().filter(|other| *other == state).count();
    let doubled = taken.values().filter(|times| **times > 1).count();
    let lost = states
        .iter()
        .filter(|(id, state)| *state != "accepted" && !state.starts_with("unknown") && !taken.contains_key(*id));
    let lost = lost.count();
    let (accepted, died, without_reply) = (named("accepted"), named("unknown instance_died"), named("unknown"));
    println!(
        "{kills} rounds, {done} caught at work, {notices} messages in {:.0?}: {accepted} accepted, {died} unknown after a kill \
         ({:.2} per kill, bar {CONNECTIONS} and 50 ms of sends), {without_reply} unknown without a reply ({reset} resets), \
         {doubled} doubled, {lost} lost",
        began.elapsed(),
        f64::from(u32::try_from(died).unwrap()) / f64::from(u32::try_from(done.max(1)).unwrap()),
    );
    assert_eq!((doubled, lost, states.len()), (0, 0, notices), "seed {seed}");
    for (id, state) in &states {
        let taken = taken.contains_key(id);
        assert!(taken || state != "accepted", "seed {seed}: {id} is {state}, and the relay does not know it");
        assert!(
            !taken || state == "accepted" || state.starts_with("unknown"),
            "seed {seed}: {id} was taken and is {state}"
        );
    }
    assert!(died <= 2 * kills * CONNECTIONS, "seed {seed}: {died} unknown after {kills} rounds");
    assert_eq!(accepted + died + without_reply, notices, "seed {seed}");
    assert_eq!(world.office.count("dunning.notice WHERE tries > 12").await, 0);
    world.office.verified().await;
}
