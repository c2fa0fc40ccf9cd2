//! What delivery costs beside a bare mail source of the same size: claim, last check, exact bytes, journal, one event for
//! each contact, on a database that keeps what it is told.
//!
//!   ./dev bench deliver [NOTICES]       20000 when none is given
//!
//! Ratios of one run on one machine, interleaved; nothing here is a promise in seconds. Over 1, 8 and 32 connections into
//! one sink: the whole path of one daemon, and of two on one database, each a process of its own; the same conversations
//! from memory, without database and journal; Postfix's `smtp-source` with messages of the same size. Over 8 also with
//! something else writing to the disk all the time, and into a real Postfix that keeps every message on the disk (as root
//! only, because it starts one). One connection takes a quarter of the notices. `smtp-sink` is the far end of all, and
//! where Postfix is not installed a thread here for each connection.
//!
//! `BENCH_ROUNDS` sets the rounds. `BENCH_PEER` names a program to compare with: it is run as `$BENCH_PEER send MAILS
//! CONNECTIONS intent PORT` with PGHOST, PGUSER and PGDATABASE, keeps each mail and its state in that database, and
//! prints its rate as `N msg/s`.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has failed")]
#![expect(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "ratios of times")]

mod figures;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Seek as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
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
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use figures::{forget_peak, median, peak_kib};

const CONNECTIONS: [usize; 3] = [1, 8, 32];
const SINK: &str = "/usr/sbin/smtp-sink";
const SOURCE: &str = "/usr/sbin/smtp-source";
const POSTFIX: &str = "/usr/sbin/postfix";
/// What a daemon process is started with.
const DAEMON: &str = "--daemon";

const WHOLE: &str = "whole path";
const TWO: &str = "two daemons";
const BARE: &str = "without log";
const SOURCED: &str = "smtp-source";
const PEER: &str = "peer";

/// Where the messages go, and beside what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Sink,
    BusyDisk,
    Postfix,
}

impl Place {
    fn words(self) -> &'static str {
        match self {
            Self::Sink => "",
            Self::BusyDisk => ", disk busy",
            Self::Postfix => ", into Postfix",
        }
    }
}

/// One rate beside another.
const RATIOS: [(Place, usize, &str, &str, Option<f64>); 14] = [
    (Place::Sink, 1, WHOLE, SOURCED, Some(0.3)),
    (Place::Sink, 8, WHOLE, SOURCED, Some(0.25)),
    (Place::Sink, 32, WHOLE, SOURCED, None),
    (Place::Sink, 1, WHOLE, BARE, None),
    (Place::Sink, 8, WHOLE, BARE, Some(0.65)),
    (Place::Sink, 32, WHOLE, BARE, None),
    (Place::Sink, 1, WHOLE, PEER, None),
    (Place::Sink, 8, WHOLE, PEER, Some(10.0)),
    (Place::Sink, 32, WHOLE, PEER, None),
    (Place::Sink, 1, TWO, WHOLE, None),
    (Place::Sink, 8, TWO, WHOLE, Some(1.0)),
    (Place::Sink, 32, TWO, WHOLE, None),
    (Place::BusyDisk, 8, WHOLE, SOURCED, None),
    (Place::Postfix, 8, WHOLE, SOURCED, Some(0.5)),
];
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

/// So many are in the queue again, and nothing else.
const AGAIN: &str = "
    -- Nothing refers to what goes; looking for it would take longer than the delivery.
    SET LOCAL session_replication_role = replica;
    DELETE FROM dunning.attempt;
    UPDATE dunning.notice n SET state = CASE WHEN place <= $notices THEN 'queued' ELSE 'cancelled' END, accepted_on = NULL,
        counted_on = NULL, tries = 0, lease_token = NULL, not_before = NULL, send_windows = NULL
    FROM (SELECT notice_id, row_number() OVER (ORDER BY notice_id) AS place FROM dunning.notice) p
    WHERE p.notice_id = n.notice_id";

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
        let mut command = Command::new(SINK);
        if is_root() {
            command.args(["-u", "nobody"]);
        }
        let mut program = command.args([&format!("127.0.0.1:{port}"), "128"]).spawn().unwrap();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(program.try_wait().unwrap().is_none(), "smtp-sink ended");
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
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, app, admin, port, state, connections] = arguments.as_slice()
        && flag == DAEMON
    {
        let (port, connections) = (port.parse().unwrap(), connections.parse().unwrap());
        let (app, admin, state) = (app.clone(), admin.clone(), PathBuf::from(state));
        // As the service does it.
        let served = runtime.spawn(async move { serve(&app, &admin, port, &state, connections).await });
        runtime.block_on(served).unwrap();
        return;
    }
    let notices = arguments.iter().find_map(|argument| argument.replace('_', "").parse().ok());
    runtime.block_on(Bench::start(notices.unwrap_or(20_000)));
}

/// One daemon: ready, then one round of delivery when it is told to, then what it did.
async fn serve(app: &str, admin: &str, port: u16, state: &Path, connections: usize) {
    let shell = shell(app, admin, port, state, connections).await;
    let transport = daemon::transport(&shell.live().config.service.mail).unwrap();
    drop(shell.pool.acquire().await.unwrap());
    println!("ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    forget_peak();
    let done = daemon::dispatch(&shell, &transport, &CancellationToken::new()).await.unwrap();
    assert!(done.all_accepted(), "{done:?}");
    println!("{} {}", done.accepted, peak_kib());
    shell.pool.close().await;
}

struct Daemon {
    process: Child,
    said: BufReader<ChildStdout>,
}

impl Daemon {
    fn start(cluster: &Cluster, port: u16, state: &Path, connections: usize) -> Self {
        let (app, admin) = (cluster.url("bench", "dunningd_app"), cluster.url("bench", "dunningd_admin"));
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args([DAEMON, &app, &admin, &port.to_string(), &state.display().to_string(), &connections.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(process.stdout.take().unwrap());
        let mut daemon = Self { process, said };
        assert_eq!(daemon.line(), "ready");
        daemon
    }

    fn go(&mut self) {
        drop(self.process.stdin.take());
    }

    /// How many were accepted, and the peak memory in KiB.
    fn done(&mut self) -> (usize, u64) {
        let line = self.line();
        let (accepted, peak) = line.split_once(' ').unwrap();
        (accepted.parse().unwrap(), peak.parse().unwrap())
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.wait();
    }
}

/// Something else that writes to the disk, and waits for it, all the time.
struct Hog {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Hog {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let block = vec![b'x'; 1024 * 1024];
            let mut file = tempfile::tempfile().unwrap();
            for written in 0_u64.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                if written % 256 == 0 {
                    file.rewind().unwrap();
                }
                file.write_all(&block).unwrap();
                file.sync_data().unwrap();
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A Postfix of its own: it keeps every message on the disk before it answers, then throws it away. It has no way to
/// hand a message on.
struct Postfix {
    folder: TempDir,
    port: u16,
}

impl Postfix {
    const MAIN: &str = "
        compatibility_level = 3.6
        queue_directory = $folder/queue
        data_directory = $folder/data
        inet_interfaces = 127.0.0.1
        inet_protocols = ipv4
        myhostname = relay.bench.example
        mydestination =
        mynetworks = 127.0.0.0/8
        default_transport = discard:bench
        relay_transport = discard:bench
        local_transport = discard:bench
        virtual_transport = discard:bench
        local_recipient_maps =
        smtpd_recipient_restrictions = permit_mynetworks, reject
        smtpd_client_connection_count_limit = 0
        disable_dns_lookups = yes
        smtp_host_lookup = native
        notify_classes =
        bounce_queue_lifetime = 0";
    const MASTER: &str = "
        127.0.0.1:$port inet n - n - 100 smtpd
        pickup unix n - n 60 1 pickup
        tlsmgr unix - - n 1000? 1 tlsmgr
        cleanup unix n - n - 0 cleanup
        qmgr unix n - n 300 1 qmgr
        rewrite unix - - n - - trivial-rewrite
        bounce unix - - n - 0 bounce
        defer unix - - n - 0 bounce
        trace unix - - n - 0 bounce
        verify unix - - n - 1 verify
        flush unix n - n 1000? 0 flush
        proxymap unix - - n - - proxymap
        anvil unix - - n - 1 anvil
        scache unix - - n - 1 scache
        showq unix n - n - - showq
        error unix - - n - - error
        retry unix - - n - - error
        discard unix - - n - - discard";

    fn start() -> Option<Self> {
        if !Path::new(POSTFIX).exists() || !is_root() {
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["etc", "data", "queue"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Command::new("chown").arg("postfix").arg(at("data")).status().unwrap().success());
        let write = |name: &str, text: &str| {
            let text =
                text.replace("$folder", &folder.path().display().to_string()).replace("$port", &port.to_string());
            let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
            std::fs::write(at("etc").join(name), lines.join("\n") + "\n").unwrap();
        };
        write("main.cf", Self::MAIN);
        write("master.cf", Self::MASTER);
        let postfix = Self { folder, port };
        postfix.control("start");
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(postfix)
    }

    fn control(&self, order: &str) {
        let etc = self.folder.path().join("etc");
        let _ =
            Command::new(POSTFIX).arg("-c").arg(etc).arg(order).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }

    /// Waits until it has thrown everything away.
    fn drained(&self) {
        let waits = |name: &str| {
            let folder = self.folder.path().join("queue").join(name);
            std::fs::read_dir(folder).is_ok_and(|mut files| files.next().is_some())
        };
        while waits("incoming") || waits("active") {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        self.control("stop");
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

struct Bench {
    cluster: Cluster,
    /// As the superuser.
    hand: PgPool,
    sink: Sink,
    state: TempDir,
    /// Octets of a message, on average, and one that has as many.
    size: i64,
    letter: Vec<u8>,
    rates: BTreeMap<(Place, usize, &'static str), Vec<f64>>,
    peaks: BTreeMap<usize, u64>,
    /// How long the disk takes to keep 8 kB, in ms.
    disk: Vec<f64>,
}

impl Bench {
    async fn start(notices: usize) {
        let cluster = Cluster::start(ClusterOptions { durable: true, roomy: true }).await.unwrap();
        cluster.create_database("bench").await.unwrap();
        cluster.prepare("bench").await.unwrap();
        let mut admin = PgConnection::connect(&cluster.url("bench", "dunningd_admin")).await.unwrap();
        record::migrate(&mut admin).await.unwrap();
        admin.close().await.unwrap();
        let hand = PgPool::connect(&cluster.url("bench", "dunning")).await.unwrap();
        run(&hand, LEDGER.replace("$notices", &notices.to_string())).await;
        let (sink, state) = (Sink::start(), tempfile::tempdir().unwrap());
        let (app, admin) = (cluster.url("bench", "dunningd_app"), cluster.url("bench", "dunningd_admin"));
        let shell = shell(&app, &admin, sink.port, state.path(), 1).await;
        let mut transaction = shell.pool.begin().await.unwrap();
        record::adopt(&mut transaction, &shell.host, "benchmark", &shell.actor).await.unwrap();
        record::set_mode(&mut transaction, Mode::Live, "benchmark", &shell.actor).await.unwrap();
        transaction.commit().await.unwrap();
        let request = ScanRequest { creditor: Some(CreditorId::parse("tre_aquiloni").unwrap()), ..Default::default() };
        let report = daemon::scan(&shell, &request, &mut |_| ()).await.unwrap();
        assert_eq!(report.runs[0].queued, notices as u64);
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
        let (rates, peaks, disk) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let mut bench = Self { cluster, hand, sink, state, size, letter, rates, peaks, disk };
        let Transport::Smtp(relay) = daemon::transport(&shell.live().config.service.mail).unwrap() else {
            panic!("the transport is a relay")
        };
        shell.pool.close().await;
        let postfix = Postfix::start();
        let rounds = std::env::var("BENCH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(3);
        for _ in 0..rounds {
            bench.round(notices, &relay, postfix.as_ref()).await;
        }
        bench.print(notices, rounds);
        bench.hand.close().await;
    }

    async fn round(&mut self, notices: usize, relay: &Relay, postfix: Option<&Postfix>) {
        let (port, size) = (self.sink.port, self.size);
        for connections in CONNECTIONS {
            self.disk.push(disk_ms());
            let count = if connections == 1 { notices / 4 } else { notices };
            self.deliver(Place::Sink, WHOLE, connections, count, port).await;
            let took = bare(relay, connections, count, &self.letter).await;
            self.note(Place::Sink, connections, BARE, count, took);
            if Path::new(SOURCE).exists() {
                self.note(Place::Sink, connections, SOURCED, count, source(port, connections, count, size));
            }
            self.deliver(Place::Sink, TWO, connections, count, port).await;
            if let Ok(peer) = std::env::var("BENCH_PEER") {
                let rate = peer_rate(&peer, &self.cluster, connections, notices / 10, port);
                self.rates.entry((Place::Sink, connections, PEER)).or_default().push(rate);
            }
        }
        {
            let _hog = Hog::start();
            self.deliver(Place::BusyDisk, WHOLE, 8, notices, port).await;
            if Path::new(SOURCE).exists() {
                self.note(Place::BusyDisk, 8, SOURCED, notices, source(port, 8, notices, size));
            }
        }
        if let Some(postfix) = postfix {
            let count = notices / 4;
            self.deliver(Place::Postfix, WHOLE, 8, count, postfix.port).await;
            postfix.drained();
            self.note(Place::Postfix, 8, SOURCED, count, source(postfix.port, 8, count, size));
            postfix.drained();
        }
    }

    async fn deliver(&mut self, place: Place, what: &'static str, connections: usize, count: usize, port: u16) {
        run(&self.hand, AGAIN.replace("$notices", &count.to_string())).await;
        run(&self.hand, "VACUUM ANALYZE dunning.notice, dunning.attempt, dunning.event".to_owned()).await;
        run(&self.hand, "CHECKPOINT".to_owned()).await;
        let daemons = if what == TWO { 2 } else { 1 };
        let mut daemons: Vec<Daemon> =
            (0..daemons).map(|_| Daemon::start(&self.cluster, port, self.state.path(), connections)).collect();
        let began = Instant::now();
        daemons.iter_mut().for_each(Daemon::go);
        let done: Vec<(usize, u64)> = daemons.iter_mut().map(Daemon::done).collect();
        let took = began.elapsed();
        assert_eq!(done.iter().map(|(accepted, _)| accepted).sum::<usize>(), count, "{done:?}");
        let peak = self.peaks.entry(connections).or_default();
        *peak = done.iter().map(|(_, peak)| *peak).fold(*peak, u64::max);
        self.note(place, connections, what, count, took);
    }

    fn note(&mut self, place: Place, connections: usize, what: &'static str, count: usize, took: Duration) {
        self.rates.entry((place, connections, what)).or_default().push(count as f64 / took.as_secs_f64());
    }

    fn print(&self, notices: usize, rounds: usize) {
        println!("{notices} messages of {} octets, {rounds} rounds: median (min-max) a second", self.size);
        for ((place, connections, what), all) in &self.rates {
            let what = format!("{what}{}", place.words());
            println!("  {connections:>2} connections, {what:<26} {}", spread(all, 0));
        }
        for (place, connections, what, other, bar) in RATIOS {
            let of = |what| self.rates.get(&(place, connections, what));
            let (Some(these), Some(those)) = (of(what), of(other)) else { continue };
            let ratios: Vec<f64> = these.iter().zip(those).map(|(one, other)| one / other).collect();
            let bar = bar.map_or(String::new(), |bar| format!("  bar {bar}"));
            let what = format!("{what} / {other}{}", place.words());
            println!("  {connections:>2} connections, {what:<42} {}{bar}", spread(&ratios, 2));
        }
        println!("  the disk keeps 8 kB in ms: {}", spread(&self.disk, 2));
        for (connections, peak) in &self.peaks {
            println!("  {connections:>2} connections, peak memory of a daemon {} MiB  bar {PEAK_BAR_MIB}", peak / 1024);
        }
    }
}

/// What every commit waits for: it may be many times as long while something else writes.
fn disk_ms() -> f64 {
    let mut file = tempfile::tempfile().unwrap();
    let block = [b'x'; 8192];
    file.write_all(&block.repeat(200)).unwrap();
    file.sync_all().unwrap();
    file.rewind().unwrap();
    let took = |()| {
        let began = Instant::now();
        file.write_all(&block).unwrap();
        file.sync_data().unwrap();
        began.elapsed().as_secs_f64() * 1000.0
    };
    median(&std::iter::repeat_n((), 200).map(took).collect::<Vec<_>>())
}

/// Median (lowest-highest).
fn spread(all: &[f64], places: usize) -> String {
    let (low, high) = (all.iter().copied().fold(f64::MAX, f64::min), all.iter().copied().fold(0.0, f64::max));
    format!("{:>8.places$} ({low:.places$}-{high:.places$})", median(all))
}

/// As it says itself.
fn peer_rate(peer: &str, cluster: &Cluster, connections: usize, count: usize, port: u16) -> f64 {
    let done = Command::new(peer)
        .args(["send", &count.to_string(), &connections.to_string(), "intent", &port.to_string()])
        .env("PGHOST", cluster.socket_dir())
        .env("PGUSER", "dunning")
        .env("PGDATABASE", "bench")
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let said = String::from_utf8_lossy(&done.stdout);
    let (before, _) = said.split_once(" msg/s").unwrap();
    before.rsplit(' ').next().unwrap().parse().unwrap()
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

async fn shell(app: &str, admin: &str, port: u16, state: &Path, connections: usize) -> Shell {
    let mut sources = demo::configuration(app, admin, "127.0.0.1", port);
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
    Shell::new(PgPool::connect(app).await.unwrap(), live, Clock::fixed_on(day, Rome), actor)
}
