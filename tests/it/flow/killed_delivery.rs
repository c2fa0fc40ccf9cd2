//! Delivery that is killed, stopped, cut off and doubled at random moments, with its database and its relay, while
//! people pay, complain and are spared: nothing is lost, nothing goes out twice, and nothing is called sent that was not.
//!
//! `./dev bench crash [ROUNDS] [NOTICES]` runs the same with other figures, `./dev bench crash postfix` against a Postfix.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dunningd::config::{Part, Source};
use dunningd::deliver::Ending;
use dunningd::demo;
use dunningd::model::Outcome;
use dunningd::record;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::support::postfix::Postfix;
use crate::support::postgres::Database;
use crate::support::shell::{Office, Setup, link_templates};
use crate::support::smtp::{Phase, Reply};

const CONNECTIONS: usize = 4;
const MAX_TRIES: i64 = 12;
/// Each may cost a notice a try.
const LEASES_CUT: usize = 5;
/// The day of the first stage, and one on which the second is due.
const DAYS: [&str; 2] = ["2026-03-10", "2026-03-20"];

/// One item each, six days late on the first day.
const LEDGER: &str = "
    INSERT INTO ledger.account (account_id, creditor, name, party_kind, country, language, time_zone)
    SELECT 'A' || lpad(i::text, 6, '0'), 'tre_aquiloni', 'Debtor ' || i, 'company', 'IT', 'it', 'Europe/Rome'
    FROM generate_series(1, $accounts) i;
    INSERT INTO ledger.contact (contact_id, account_id, role, name, email, is_primary, no_email)
    SELECT account_id || '-1', account_id, 'billing', 'Ada', lower(account_id) || '@debtor.test', true, false
    FROM ledger.account;
    INSERT INTO ledger.item (item_id, account_id, kind, document_no, issue_date, due_date, currency, amount, open_amount)
    SELECT 'I' || account_id, account_id, 'invoice', 'FT ' || account_id, '2026-02-02', '2026-03-04', 'EUR', 90, 90
    FROM ledger.account";

/// What time would do: waits and leases end, breakers close. What a stopped process has locked waits for it.
const TIME_PASSES: &str = "
    UPDATE dunning.notice SET lease_until = clock_timestamp() - interval '1 second' WHERE notice_id IN
        (SELECT notice_id FROM dunning.notice WHERE state IN ('claimed', 'in_flight') FOR UPDATE SKIP LOCKED);
    UPDATE dunning.notice SET next_try_at = clock_timestamp() WHERE notice_id IN
        (SELECT notice_id FROM dunning.notice WHERE state = 'deferred' FOR UPDATE SKIP LOCKED);
    DELETE FROM dunning.breaker WHERE ctid IN (SELECT ctid FROM dunning.breaker FOR UPDATE SKIP LOCKED)";

const WAITS_END: &str = "UPDATE dunning.notice SET next_try_at = clock_timestamp() WHERE state = 'deferred';
                         DELETE FROM dunning.breaker";

/// Every connection of the application is cut.
const CUT: &str = "SELECT count(pg_terminate_backend(pid))::text FROM pg_stat_activity
                   WHERE datname = current_database() AND usename = 'dunningd_app'";

const UNFINISHED: &str = "dunning.notice WHERE state IN ('queued', 'deferred', 'claimed', 'in_flight')";

/// Events behind that number which do not follow from the one before them.
const BROKEN_LINKS: &str = "
    SELECT count(*)::text FROM (
        SELECT e.*, lag(seq, 1, 0::bigint) OVER w AS before,
            lag(chain_hash, 1, decode(repeat('00', 32), 'hex')) OVER w AS link
        FROM dunning.event e WHERE seq >= $from WINDOW w AS (ORDER BY seq)) e
    WHERE seq > $from
      AND (seq <> before + 1 OR leaf_hash <> sha256('\\x00'::bytea || bytes) OR chain_hash <> sha256(link || leaf_hash))";

/// What becomes of an account while letters go out: it pays, it is spared, it complains.
const CHANGES: [&str; 3] = [
    "UPDATE ledger.item SET open_amount = 0, settled_on = '2026-03-10' WHERE account_id = '$account'",
    "UPDATE ledger.account SET hold_reason = 'called' WHERE account_id = '$account'",
    "UPDATE ledger.item SET disputed_since = '2026-03-10' WHERE account_id = '$account'",
];

/// Who takes the letters: the scripted server of the office, or a Postfix.
enum Relay {
    Scripted,
    Postfix(Postfix),
}

/// What was taken by the relay, under one name.
#[derive(Default)]
struct Taken {
    times: usize,
    to: String,
    /// When the recipient was granted, each time; the last check came after that.
    granted: Vec<Instant>,
}

/// What people did to accounts meanwhile.
#[derive(Default)]
struct Changes {
    tried: BTreeSet<String>,
    /// When the commit had returned.
    done: Vec<(String, Instant)>,
}

struct World {
    office: Office,
    relay: Relay,
    folder: tempfile::TempDir,
    changes: Arc<Mutex<Changes>>,
    /// The log was looked at as far as this.
    looked_at: i64,
}

/// A notice as the database knows it.
struct Notice {
    id: String,
    message_id: String,
    account: String,
    stage: String,
    state: String,
    reason: String,
}

impl World {
    async fn new(accounts: usize, relay: Relay) -> Self {
        let office = Office::on(Database::that_may_crash().await, Setup::default()).await;
        office.sql(LEDGER.replace("$accounts", &accounts.to_string())).await;
        let folder = tempfile::tempdir().unwrap();
        let (app, admin) = (office.database.url("dunningd_app"), office.database.url("dunningd_admin"));
        let port = match &relay {
            Relay::Scripted => office.smtp.address.port(),
            Relay::Postfix(postfix) => postfix.port,
        };
        for Source { part, text, .. } in demo::configuration(&app, &admin, "127.0.0.1", port) {
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
            let text = text.replace("forecast_margin = 20", "forecast_margin = 100000");
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        link_templates(folder.path());
        office.smtp.on(Phase::Dot, Reply::code(250, "2.0.0 Ok").after(Duration::from_millis(5)));
        let world = Self { office, relay, folder, changes: Arc::default(), looked_at: 0 };
        world.scan(DAYS[0]).await;
        assert_eq!(world.office.count("dunning.notice WHERE state = 'queued'").await, i64::try_from(accounts).unwrap());
        world
    }

    fn start(&self, arguments: &[&str]) -> Child {
        let path: &Path = self.folder.path();
        let log = std::fs::File::options().create(true).append(true).open(path.join("log")).unwrap();
        Command::new(env!("CARGO_BIN_EXE_dunningd"))
            .arg("--config")
            .arg(path)
            .args(arguments)
            .env("DUNNINGD__STATE__DIRECTORY", path.join("state"))
            .env("DUNNINGD__MAIL__CONNECTIONS", CONNECTIONS.to_string())
            // The runs are made by hand.
            .env("DUNNINGD__SCHEDULE__EARLIEST", "00:00")
            .env("DUNNINGD__SCHEDULE__LATEST", "00:01")
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    fn daemon(&self) -> Child {
        self.start(&["run"])
    }

    async fn scan(&self, day: &str) {
        let mut child = self.start(&["scan", "--creditor", "tre_aquiloni", "--as-of", day]);
        let status = child.wait().await.unwrap();
        assert!(status.success(), "{}", self.said());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The notices of which a daemon said that they were accepted.
    fn said_accepted(&self) -> BTreeSet<String> {
        let log = self.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let accepted = lines.filter(|line| line["fields"]["outcome"] == "accepted");
        accepted.filter_map(|line| Some(line["fields"]["notice.id"].as_str()?.to_owned())).collect()
    }

    /// How many daemons have been ready.
    fn starts(&self) -> usize {
        self.log().matches(r#""message":"ready""#).count()
    }

    /// The last words of the daemons.
    fn said(&self) -> String {
        self.log().lines().rev().take(20).collect::<Vec<_>>().join("\n")
    }

    fn taken_count(&self) -> usize {
        match &self.relay {
            Relay::Scripted => self.office.smtp.received_count(),
            Relay::Postfix(postfix) => postfix.count(),
        }
    }

    /// What the relay took, by Message-ID.
    fn taken(&self) -> BTreeMap<String, Taken> {
        let mut all: BTreeMap<String, Taken> = BTreeMap::new();
        match &self.relay {
            Relay::Scripted => self.office.smtp.each_message(|message| {
                let one = all.entry(message.message_id.clone()).or_default();
                one.times += 1;
                one.to = message.to.concat();
                one.granted.push(message.granted);
            }),
            Relay::Postfix(postfix) => {
                let mut seen = BTreeSet::new();
                for letter in tokio::task::block_in_place(|| postfix.delivered()) {
                    if seen.insert(letter.queue_id) {
                        let one = all.entry(letter.message_id).or_default();
                        one.times += 1;
                        one.to = letter.to;
                    }
                }
            }
        }
        all
    }

    /// Waits until the daemon sends, has ended, has nothing to do, or cannot go on because another one, which was
    /// stopped, holds a lock.
    async fn sending(&self, child: &mut Child) {
        let before = self.taken_count();
        let until = Instant::now() + Duration::from_secs(3);
        let mut polls = 0;
        while self.taken_count() == before && child.try_wait().unwrap().is_none() && Instant::now() < until {
            polls += 1;
            if polls % 50 == 0 && self.office.count(UNFINISHED).await == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn notices(&self) -> Vec<Notice> {
        let rows: Vec<(String, String, String, String, String, String)> = sqlx::query_as(
            "SELECT notice_id::text, message_id, account_id, stage, state, coalesce(reason, '') FROM dunning.notice",
        )
        .fetch_all(&self.office.hand)
        .await
        .unwrap();
        rows.into_iter()
            .map(|(id, message_id, account, stage, state, reason)| Notice {
                id,
                message_id,
                account,
                stage,
                state,
                reason,
            })
            .collect()
    }

    async fn attempts(&self, notice: &str) -> Vec<String> {
        let attempts =
            "SELECT concat_ws(' ', number, started_at, ended_at, outcome, phase, reply_code, reply_text, detail)
                        FROM dunning.attempt";
        self.office.lines(format!("{attempts} WHERE notice_id = '{notice}' ORDER BY number")).await
    }

    /// What the journals say was accepted, by notice.
    fn accepted_by_journal(&self) -> BTreeSet<String> {
        let files = std::fs::read_dir(self.folder.path().join("state")).into_iter().flatten().flatten();
        let texts = files.map(|file| String::from_utf8_lossy(&std::fs::read(file.path()).unwrap()).into_owned());
        let mut accepted = BTreeSet::new();
        for text in texts {
            // The last line of a process that was killed may be torn.
            let lines = text.lines().filter_map(|line| line.split_once(' ').map(|(_, json)| json));
            for ending in lines.filter_map(|json| serde_json::from_str::<serde_json::Value>(json).ok()) {
                let ending = ending.get("ending").and_then(|one| serde_json::from_value::<Ending>(one.clone()).ok());
                if let Some(Ending { notice, outcome: Outcome::Accepted { .. }, .. }) = ending {
                    accepted.insert(notice.to_string());
                }
            }
        }
        accepted
    }

    /// People go on living while letters go out: what they did, and when that was committed, is noted.
    fn life(&self, chance: &mut StdRng) -> JoinHandle<()> {
        let (hand, changes, mut chance) =
            (self.office.hand.clone(), Arc::clone(&self.changes), StdRng::from_rng(chance));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(chance.random_range(200..900))).await;
                // Without the database nobody can do anything.
                let _ = live_on(&hand, &changes, &mut chance).await;
            }
        })
    }

    /// What has to hold at any moment at which no daemon works.
    async fn check(&mut self, when: &str) {
        let journal = self.accepted_by_journal();
        let notices = self.notices().await;
        let taken = self.taken();
        let tried = self.changes.lock().unwrap().tried.clone();
        let friendly_accepted: BTreeSet<&str> = notices
            .iter()
            .filter(|one| one.stage == "friendly" && one.state == "accepted")
            .map(|one| one.account.as_str())
            .collect();
        let of_notice: BTreeMap<&str, &Notice> = notices.iter().map(|one| (one.message_id.as_str(), one)).collect();
        for one in &notices {
            let (id, state) = (&one.message_id, one.state.as_str());
            let times = taken.get(id).map_or(0, |taken| taken.times);
            // I1
            assert!(times > 0 || state != "accepted", "{when}: {id} is accepted, and the relay does not know it");
            assert!(
                times > 0 || !journal.contains(&one.id),
                "{when}: the journal accepts {id}, and the relay does not know it"
            );
            // I2
            let fits = matches!(state, "accepted" | "unknown" | "in_flight");
            assert!(times == 0 || fits, "{when}: {id} was taken, and is {state} {}", one.reason);
            // I3: nothing is ever sent again by itself.
            let attempts = if times > 1 { self.attempts(&one.id).await } else { Vec::new() };
            assert!(times <= 1, "{when}: {id} was taken {times} times, and is {state}: {attempts:#?}");
            // I5
            let follows = one.stage != "firm" || friendly_accepted.contains(one.account.as_str());
            assert!(follows, "{when}: {} has a second letter, and its first is not accepted", one.account);
            assert!(
                state != "cancelled" || tried.contains(&one.account),
                "{when}: {id} was cancelled ({}), and nobody did anything",
                one.reason
            );
            assert!(state != "refused", "{when}: {id} was given up");
        }
        for (id, taken) in &taken {
            assert!(of_notice.contains_key(id.as_str()), "{when}: the relay took {id}, of which nobody knows");
            let account = of_notice[id.as_str()].account.to_lowercase();
            assert!(taken.to.starts_with(&account), "{when}: {id} went to {}", taken.to);
        }
        // I4
        let done = self.changes.lock().unwrap().done.clone();
        for (account, at) in &done {
            for one in notices.iter().filter(|one| one.account == *account) {
                let after =
                    taken.get(&one.message_id).is_some_and(|taken| taken.granted.iter().any(|granted| at < granted));
                assert!(!after, "{when}: {} was sent after {account} had paid, or was to be spared", one.message_id);
            }
        }
        // I6
        let from = self.looked_at.to_string();
        assert_eq!(self.office.lines(BROKEN_LINKS.replace("$from", &from)).await, ["0"], "{when}");
        let mut connection = self.office.shell.pool.acquire().await.unwrap();
        assert_eq!(record::verify_against_notices(&mut connection).await.unwrap(), Vec::<String>::new(), "{when}");
        self.looked_at = record::head(&mut connection).await.unwrap().0;
        // I7
        let worn = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM dunning.notice WHERE tries > $1").bind(MAX_TRIES);
        assert_eq!(worn.fetch_one(&mut *connection).await.unwrap(), 0, "{when}");
    }
}

async fn live_on(hand: &PgPool, changes: &Mutex<Changes>, chance: &mut StdRng) -> Result<(), sqlx::Error> {
    // One of those whose letter is about to go.
    let next = "SELECT account_id FROM dunning.notice WHERE state IN ('queued', 'claimed')
                ORDER BY created_at, notice_id OFFSET $1 LIMIT 1";
    let account: Option<String> =
        sqlx::query_scalar(next).bind(chance.random_range(0..12_i64)).fetch_optional(hand).await?;
    let Some(account) = account else { return Ok(()) };
    changes.lock().unwrap().tried.insert(account.clone());
    let change = CHANGES[chance.random_range(0..CHANGES.len())].replace("$account", &account);
    sqlx::raw_sql(AssertSqlSafe(change)).execute(hand).await?;
    changes.lock().unwrap().done.push((account, Instant::now()));
    Ok(())
}

async fn killed(mut child: Child) -> usize {
    let alive = usize::from(child.try_wait().unwrap().is_none());
    let _ = child.kill().await;
    alive
}

fn signal(child: &Child, signal: Signal) {
    if let Some(pid) = child.id() {
        kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
    }
}

fn figure(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(usual)
}

/// What was done to the daemons, and how often.
#[derive(Default)]
struct Done {
    kills: usize,
    stopped: usize,
    cut: usize,
    database_crashes: usize,
    relay_stops: usize,
    resets: usize,
    overtaken: usize,
}

/// One round: a daemon at work, and what happens to it. It is dead when this returns.
async fn round(world: &mut World, number: usize, chance: &mut StdRng, done: &mut Done) {
    let starts = world.starts();
    let mut child = world.daemon();
    world.sending(&mut child).await;
    let moment = Duration::from_micros(chance.random_range(0..250_000));
    match number % 7 {
        // The machine, or a person, stops it, and lets it go on when its leases are over and another one works.
        1 => {
            tokio::time::sleep(moment).await;
            signal(&child, Signal::SIGSTOP);
            done.stopped += 1;
            world.office.sql(TIME_PASSES).await;
            let mut other = world.daemon();
            world.sending(&mut other).await;
            signal(&child, Signal::SIGCONT);
            tokio::time::sleep(moment).await;
            done.kills += killed(other).await;
        }
        // Another one works beside it; the database cuts both off.
        2 => {
            let mut other = world.daemon();
            world.sending(&mut other).await;
            tokio::time::sleep(moment).await;
            world.office.lines(CUT).await;
            done.cut += 1;
            tokio::time::sleep(moment).await;
            done.kills += killed(other).await;
        }
        // The relay ends, and comes back.
        3 => {
            match &world.relay {
                Relay::Scripted => world.office.smtp.stop().await,
                Relay::Postfix(postfix) => tokio::task::block_in_place(|| postfix.kill()),
            }
            done.relay_stops += 1;
            tokio::time::sleep(moment).await;
            match &world.relay {
                Relay::Scripted => world.office.smtp.go_on().await,
                Relay::Postfix(postfix) => tokio::task::block_in_place(|| postfix.go_on()),
            }
        }
        // The database ends without a word, and comes back: before the daemon is killed, or after it.
        4 => {
            // One that has not started yet ends without its database, and its service manager starts it again.
            while world.starts() == starts {
                assert!(child.try_wait().unwrap().is_none(), "it does not start: {}", world.said());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::time::sleep(moment).await;
            let survives = done.database_crashes.is_multiple_of(2);
            let cluster = world.office.database.own.as_mut().unwrap();
            tokio::task::block_in_place(|| cluster.crash()).unwrap();
            done.database_crashes += 1;
            tokio::time::sleep(moment).await;
            if !survives {
                done.kills += usize::from(child.try_wait().unwrap().is_none());
                let _ = child.kill().await;
            }
            let cluster = world.office.database.own.as_mut().unwrap();
            tokio::task::block_in_place(|| cluster.go_on()).unwrap();
            if survives {
                let before = world.taken_count();
                let until = Instant::now() + Duration::from_mins(1);
                while world.taken_count() == before && world.office.count(UNFINISHED).await > 0 {
                    assert!(Instant::now() < until, "it does not come back to its database: {}", world.said());
                    world.office.sql(TIME_PASSES).await;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        // The relay breaks off after the dot.
        5 => {
            if let Relay::Scripted = world.relay {
                world.office.smtp.once(Phase::Dot, Reply::reset());
                done.resets += 1;
            }
            tokio::time::sleep(moment).await;
        }
        // Everything takes longer than a lease: what is claimed is claimed again, by the same one too.
        6 => {
            let granted = Reply::code(250, "2.1.5 Ok");
            world.office.smtp.on(Phase::RcptTo, granted.clone().after(Duration::from_millis(20)));
            for _ in 0..LEASES_CUT {
                tokio::time::sleep(Duration::from_millis(chance.random_range(5..40))).await;
                world.office.sql(TIME_PASSES).await;
            }
            world.office.smtp.on(Phase::RcptTo, granted);
            done.overtaken += 1;
        }
        _ => tokio::time::sleep(moment).await,
    }
    done.kills += killed(child).await;
}

async fn storm(name: &str, relay: Relay, rounds: usize, accounts: usize) {
    let seed = figure("DUNNINGD_CRASH_SEED", rand::random_range(0..1_000_000));
    println!("seed {seed} (DUNNINGD_CRASH_SEED)");
    let mut chance = StdRng::seed_from_u64(seed as u64);
    let began = Instant::now();
    let mut world = World::new(accounts, relay).await;
    let life = world.life(&mut chance);
    let mut done = Done::default();
    for number in 0..rounds {
        let when = format!("seed {seed}, round {number}");
        round(&mut world, number, &mut chance, &mut done).await;
        world.check(&when).await;
        world.office.sql(TIME_PASSES).await;
        // The next stage, of those whose first letter is known to be accepted.
        if number == rounds / 2 || number == rounds * 3 / 4 {
            world.scan(DAYS[1]).await;
        }
    }
    life.abort();
    let _ = life.await;
    // The rules that were not used up.
    world.office.smtp.on(Phase::Dot, Reply::code(250, "2.0.0 Ok"));
    for _ in 0..2 {
        // The server may still have worked for one that was killed.
        tokio::time::sleep(Duration::from_millis(300)).await;
        world.office.sql(TIME_PASSES).await;
        let mut last = world.daemon();
        while world.office.count(UNFINISHED).await > 0 {
            assert!(last.try_wait().unwrap().is_none(), "{}", world.said());
            // Nothing is taken out of the hands of one that works.
            world.office.sql(WAITS_END).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        signal(&last, Signal::SIGTERM);
        let status = last.wait().await.unwrap();
        // Where nothing was left to do it may be asked to end before it listens.
        let asked_early = status.signal() == Some(Signal::SIGTERM as i32);
        assert!(status.success() || asked_early, "{status}: {}", world.said());
        world.scan(DAYS[1]).await;
    }
    world.check(&format!("seed {seed}, at the end")).await;

    let (notices, taken) = (world.notices().await, world.taken());
    // A daemon says so when its journal has it: from then on no death makes it unknown.
    let said = world.said_accepted();
    for one in notices.iter().filter(|one| said.contains(&one.id)) {
        assert_eq!(
            one.state, "accepted",
            "seed {seed}: a daemon knew that {} was accepted: {}",
            one.message_id, one.reason
        );
    }
    let in_state = |state: &str| notices.iter().filter(|one| one.state == state).count();
    let died = notices.iter().filter(|one| one.reason == "instance_died" && one.state == "unknown").count();
    let (accepted, unknown, cancelled) = (in_state("accepted"), in_state("unknown"), in_state("cancelled"));
    let doubled = taken.values().filter(|taken| taken.times > 1).count();
    // Each is known to be accepted, known to be unknown, or was stopped for a reason that somebody gave.
    let lost = notices.len() - accepted - unknown - cancelled;
    let (tried, changed) = {
        let changes = world.changes.lock().unwrap();
        (changes.tried.len(), changes.done.len())
    };
    let firm = notices.iter().filter(|one| one.stage == "firm").count();
    let ends = done.kills + done.stopped + done.cut * 2 + done.database_crashes;
    println!(
        "{name}: {rounds} rounds in {:.0?}: {} kills, {} stopped and resumed, {} cut off by the database, {} crashes of the \
         database, {} stops of the relay, {} resets after the dot, {} times leases that end too soon; {changed} payments, holds and disputes meanwhile ({tried} \
         tried)\n{name}: {} messages ({firm} of the second stage): {accepted} accepted, {unknown} unknown ({died} after a \
         death, of {} that it may be), {cancelled} cancelled by what people did, {doubled} doubled, {lost} lost",
        began.elapsed(),
        done.kills,
        done.stopped,
        done.cut,
        done.database_crashes,
        done.relay_stops,
        done.resets,
        done.overtaken,
        notices.len(),
        ends * CONNECTIONS,
    );
    assert_eq!((doubled, lost), (0, 0), "seed {seed}");
    assert!(died <= ends * CONNECTIONS, "seed {seed}: {died} unknown after {ends} ends");
    world.office.verified().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p23_delivery_killed_twenty_times_loses_nothing_and_sends_nothing_twice() {
    let (rounds, notices) = (figure("DUNNINGD_CRASH_ROUNDS", 20), figure("DUNNINGD_CRASH_NOTICES", 600));
    storm("scripted relay", Relay::Scripted, rounds, notices / 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p23_what_is_taken_by_a_postfix_that_is_killed_too_is_neither_lost_nor_doubled() {
    if let Some(why) = Postfix::missing() {
        println!("skipped: {why}");
        return;
    }
    let (rounds, notices) = (figure("DUNNINGD_CRASH_ROUNDS", 6), figure("DUNNINGD_CRASH_NOTICES", 200));
    let postfix = tokio::task::block_in_place(Postfix::start);
    storm("Postfix", Relay::Postfix(postfix), rounds, notices / 2).await;
}
