//! What delivery costs beside a bare mail source of the same size: claim, last check, exact bytes, journal, one event for
//! each contact, on a database that keeps what it is told.
//!
//!   ./dev bench deliver [NOTICES]       20000 when none is given
//!
//! Ratios of one run on one machine, interleaved; nothing here is a promise in seconds. Three ways over 1, 8 and 32
//! connections into one sink: the daemon's whole path; the same conversations from memory, without database and journal;
//! Postfix's `smtp-source` with messages of the same size. Its `smtp-sink` is the far end of all three, and where Postfix
//! is not installed a thread here for each connection. `BENCH_ROUNDS` sets the rounds.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has failed")]
#![expect(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "ratios of times")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chrono::NaiveDate;
use chrono_tz::Europe::Rome;
use dunningd::clock::Clock;
use dunningd::config::{self, Part, Source};
use dunningd::daemon::{self, Live, ScanRequest, Shell};
use dunningd::deliver::{Envelope, Relay, Transport};
use dunningd::demo::{self, Cluster, ClusterOptions};
use dunningd::model::{Actor, CreditorId, EmailAddress, Mode, Outcome};
use dunningd::record;
use dunningd::render::TemplateSet;
use futures_util::future::join_all;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

const CONNECTIONS: [usize; 3] = [1, 8, 32];
const SINK: &str = "/usr/sbin/smtp-sink";
const SOURCE: &str = "/usr/sbin/smtp-source";

const WHOLE: &str = "whole path";
const BARE: &str = "without log";
const PEER: &str = "smtp-source";

/// Of the rate of the whole path: beside `smtp-source` on one connection and on eight, and beside its own without log.
const BARS: [(usize, &str, f64); 3] = [(1, PEER, 0.3), (8, PEER, 0.25), (8, BARE, 0.65)];
const PEAK_BAR_MIB: u64 = 96;

const LEDGER: &str = "
    INSERT INTO ledger.account (account_id, creditor, name, party_kind, country, language, time_zone)
    SELECT 'A' || lpad(i::text, 6, '0'), 'tre_aquiloni', 'Debtor ' || i, 'company', 'IT',
        (ARRAY['it','pl','en','ru'])[1 + i % 4], 'Europe/Rome' FROM generate_series(1, $notices) i;
    INSERT INTO ledger.contact (contact_id, account_id, role, name, email, is_primary, no_email)
    SELECT account_id || '-1', account_id, 'billing', 'Ada', lower(account_id) || '@debtor.test', true, false
    FROM ledger.account;
    INSERT INTO ledger.item (item_id, account_id, kind, document_no, issue_date, due_date, currency, amount, open_amount)
    SELECT 'I' || account_id, account_id, 'invoice', 'FT ' || account_id, '2025-12-01', '2026-01-08', 'EUR', 90, 90
    FROM ledger.account;
    INSERT INTO ledger.freshness VALUES ('erp', NULL, '2026-01-15 06:00Z', '2026-01-15 06:00Z')";

/// Everything is in the queue again.
const AGAIN: &str = "
    TRUNCATE dunning.attempt;
    UPDATE dunning.notice SET state = 'queued', accepted_on = NULL, counted_on = NULL, tries = 0, lease_token = NULL,
        not_before = NULL, send_windows = NULL;";

/// The far end.
struct Sink {
    port: u16,
    program: Option<Child>,
}

impl Sink {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        if !Path::new(SINK).exists() {
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    std::thread::spawn(move || take_everything(stream.unwrap()));
                }
            });
            return Self { port, program: None };
        }
        drop(listener);
        let program = Command::new(SINK).args([&format!("127.0.0.1:{port}"), "128"]).spawn().unwrap();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { port, program: Some(program) }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(program) = &mut self.program {
            let _ = program.kill();
            let _ = program.wait();
        }
    }
}

fn take_everything(mut stream: TcpStream) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut lines = BufReader::new(stream.try_clone().ok()?);
    stream.write_all(b"220 sink ESMTP\r\n").ok()?;
    let mut line = Vec::new();
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
        match line.get(..4) {
            Some(b"DATA") => {
                stream.write_all(b"354 go on\r\n").ok()?;
                while line != b".\r\n" {
                    line.clear();
                    lines.read_until(b'\n', &mut line).ok()?;
                }
                stream.write_all(b"250 2.0.0 Ok\r\n").ok()?;
            }
            Some(b"EHLO") => stream.write_all(b"250-sink\r\n250 8BITMIME\r\n").ok()?,
            _ => stream.write_all(b"250 2.0.0 Ok\r\n").ok()?,
        }
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let notices = std::env::args().skip(1).find_map(|argument| argument.replace('_', "").parse().ok());
    runtime.block_on(bench(notices.unwrap_or(20_000)));
}

async fn bench(notices: usize) {
    let cluster = Cluster::start(ClusterOptions { durable: true, roomy: true }).await.unwrap();
    cluster.create_database("bench").await.unwrap();
    cluster.prepare("bench").await.unwrap();
    let mut admin = PgConnection::connect(&cluster.url("bench", "dunningd_admin")).await.unwrap();
    record::migrate(&mut admin).await.unwrap();
    admin.close().await.unwrap();
    let hand = PgPool::connect(&cluster.url("bench", "dunning")).await.unwrap();
    run(&hand, LEDGER.replace("$notices", &notices.to_string())).await;
    let (sink, state) = (Sink::start(), tempfile::tempdir().unwrap());
    let shell = shell(&cluster, sink.port, state.path(), 1).await;
    let mut transaction = shell.pool.begin().await.unwrap();
    record::adopt(&mut transaction, &shell.host, "benchmark", &shell.actor).await.unwrap();
    record::set_mode(&mut transaction, Mode::Live, "benchmark", &shell.actor).await.unwrap();
    transaction.commit().await.unwrap();
    let request = ScanRequest { creditor: Some(CreditorId::parse("tre_aquiloni").unwrap()), ..Default::default() };
    let report = daemon::scan(&shell, &request, &mut |_| ()).await.unwrap();
    assert_eq!(report.runs[0].queued, notices as u64);
    drop(shell);
    let size: i64 = sqlx::query_scalar("SELECT avg(octet_length(bytes))::bigint FROM dunning.message")
        .fetch_one(&hand)
        .await
        .unwrap();
    let letter: Vec<u8> =
        sqlx::query_scalar("SELECT bytes FROM dunning.message ORDER BY abs(octet_length(bytes) - $1) LIMIT 1")
            .bind(size)
            .fetch_one(&hand)
            .await
            .unwrap();

    let rounds = std::env::var("BENCH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    let mut rates: BTreeMap<(usize, &str), Vec<f64>> = BTreeMap::new();
    let mut peak = 0;
    for _ in 0..rounds {
        for connections in CONNECTIONS {
            run(&hand, AGAIN.to_owned()).await;
            run(&hand, "VACUUM ANALYZE dunning.notice, dunning.attempt, dunning.event".to_owned()).await;
            run(&hand, "CHECKPOINT".to_owned()).await;
            let shell = self::shell(&cluster, sink.port, state.path(), connections).await;
            let transport = daemon::transport(&shell.live().config.service.mail).unwrap();
            forget_peak();
            let began = Instant::now();
            let done = daemon::dispatch(&shell, &transport, &CancellationToken::new()).await.unwrap();
            let took = began.elapsed();
            peak = peak.max(peak_kib() / 1024);
            assert_eq!(done.accepted, notices as u64, "{done:?}");
            let mut note = |what, took: Duration| {
                rates.entry((connections, what)).or_default().push(notices as f64 / took.as_secs_f64());
            };
            note(WHOLE, took);
            let Transport::Smtp(relay) = &transport else { panic!("the transport is a relay") };
            note(BARE, bare(relay, connections, notices, &letter).await);
            if Path::new(SOURCE).exists() {
                note(PEER, source(sink.port, connections, notices, size));
            }
            shell.pool.close().await;
        }
    }
    println!("{notices} messages of {size} octets, {rounds} rounds: median (min-max) a second");
    for ((connections, what), all) in &rates {
        let (low, high) = (all.iter().copied().fold(f64::MAX, f64::min), all.iter().copied().fold(0.0, f64::max));
        println!("  {connections:>2} connections, {what:<12} {:>8.0} ({low:.0}-{high:.0})", median(all));
    }
    for connections in CONNECTIONS {
        for other in [PEER, BARE] {
            let Some(of) = rates.get(&(connections, other)) else { continue };
            let ratios: Vec<f64> = rates[&(connections, WHOLE)].iter().zip(of).map(|(whole, of)| whole / of).collect();
            let bar = BARS.iter().find(|(at, of, _)| (*at, *of) == (connections, other));
            let bar = bar.map_or(String::new(), |(_, _, bar)| format!(" (bar {bar})"));
            println!("  {connections:>2} connections, {WHOLE} / {other}: {:.2}{bar}", median(&ratios));
        }
    }
    println!("  peak memory {peak} MiB (bar {PEAK_BAR_MIB})");
    hand.close().await;
}

/// The same conversations, from memory.
async fn bare(relay: &Relay, connections: usize, notices: usize, letter: &[u8]) -> Duration {
    let from = EmailAddress::parse("fatture@tre-aquiloni.test").unwrap();
    let to = EmailAddress::parse("conti@debtor.test").unwrap();
    let left = AtomicUsize::new(notices);
    let take = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
    let began = Instant::now();
    join_all((0..connections).map(async |_| {
        let mut session = relay.connect().await.unwrap();
        while take() {
            if session.accepted() == 100 {
                session.quit().await;
                session = relay.connect().await.unwrap();
            }
            let envelope = Envelope { from: &from, to: &to, id: "0190b3a2-0000-7000-8000-000000000000", bytes: letter };
            let Ok(ready) = session.envelope(&envelope).await else { panic!("the sink takes everything") };
            let (kept, outcome) = ready.data(letter, || true).await;
            assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
            session = kept.unwrap();
        }
        session.quit().await;
    }))
    .await;
    began.elapsed()
}

fn source(port: u16, connections: usize, notices: usize, size: i64) -> Duration {
    let began = Instant::now();
    let done = Command::new(SOURCE)
        .args(["-d", "-s", &connections.to_string(), "-m", &notices.to_string(), "-l", &size.to_string()])
        .args(["-f", "fatture@tre-aquiloni.test", "-t", "conti@debtor.test", &format!("127.0.0.1:{port}")])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    let took = began.elapsed();
    assert!(done.success());
    took
}

async fn run(pool: &PgPool, statements: String) {
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(pool).await.unwrap();
}

async fn shell(cluster: &Cluster, port: u16, state: &Path, connections: usize) -> Shell {
    let (app, admin) = (cluster.url("bench", "dunningd_app"), cluster.url("bench", "dunningd_admin"));
    let mut sources = demo::configuration(&app, &admin, "127.0.0.1", port);
    for source in sources.iter_mut().filter(|source| source.part == Part::Policy) {
        let unbraked = ["first_run_notices = 100", "notices_per_run = 2000", "notices_per_hour = 500"];
        let text = unbraked.iter().fold(source.text.clone(), |text, key| {
            assert!(text.contains(key), "policy.toml has no {key}");
            text.replace(key, &format!("{} = 1000000", key.split(' ').next().unwrap()))
        });
        *source = Source::new(Part::Policy, source.name.clone(), text);
    }
    let variables = [
        ("DUNNINGD__STATE__DIRECTORY".to_owned(), state.display().to_string()),
        ("DUNNINGD__MAIL__CONNECTIONS".to_owned(), connections.to_string()),
    ];
    let loaded = config::load_from(&sources, Path::new("."), variables, None).unwrap();
    let live = Live::new(loaded, TemplateSet::builtin().unwrap()).unwrap_or_else(|_| panic!("templates are missing"));
    let actor = Actor { os_user: "bench".into(), person: "bench".into() };
    let day = NaiveDate::from_ymd_opt(2026, 1, 15).unwrap();
    Shell::new(PgPool::connect(&app).await.unwrap(), live, Clock::fixed_on(day, Rome), actor)
}

fn median(all: &[f64]) -> f64 {
    let mut all = all.to_vec();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// The high-water mark of this process's memory starts anew; where the system cannot, it only grows.
fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
}
