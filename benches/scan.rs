//! What a scan costs beside the yardstick: the server's time for the ordered join of the overdue rows.
//!
//!   ./dev bench scan [SIZE…]        open items; 10000, 100000 and 1000000 when none is given
//!
//! Ratios of one run on one machine, interleaved; nothing here is a promise in seconds. The ledger is the same every
//! time: every value is a hash of its row's number. Each size has a process of its own, so that its peak memory is its
//! own.
//!
//! A first scan freezes each notice: its rendering and its message bytes (`letters`), then its row of bytes, snapshot and
//! letter (`freezing`, a part of `writes`). Two lines take those off the time of the whole scan: "less letters" the first
//! of them, "less letters and freezing" both. What is taken off is each part's own time. Letters are made while the page
//! before them is written, so a scan that did neither would gain less than their sum.
//!
//! `BENCH_PEER` names a program to compare with: it is run as `$BENCH_PEER scan peer`, with PGHOST, PGUSER and
//! PGDATABASE, beside a schema `peer` of the same overdue items: `invoice (id, account_id, number, due_date, amount,
//! paid, currency, disputed)` and `account (id, lang, email, last_stage, on_hold)`. `BENCH_ROUNDS` sets the rounds.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has failed")]
#![expect(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "ratios of times")]

mod figures;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chrono::NaiveDate;
use chrono_tz::Europe::Rome;
use dunningd::clock::Clock;
use dunningd::config;
use dunningd::daemon::{self, Live, ScanReport, ScanRequest, Shell};
use dunningd::demo::{self, Cluster, ClusterOptions};
use dunningd::model::{Actor, CreditorId, Mode};
use dunningd::record;
use dunningd::render::TemplateSet;
use futures_util::TryStreamExt as _;
use rust_decimal::Decimal;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool, Row as _};

use figures::{forget_peak, median, peak_kib};

const CREDITOR: &str = "tre_aquiloni";

/// What the ratios to the join, the memory and the growth must not exceed.
const BARS: [(&str, f64); 4] =
    [(DECIDE, 3.0), (FIRST_WITHOUT_LETTERS, 8.0), (FIRST_WITHOUT_NOTICES, 8.0), (SECOND, 3.5)];
const PEAK_BAR_MIB: f64 = 96.0;
const PEAK_GROWTH_BAR: f64 = 1.5;
const DECADE_BAR: f64 = 13.0;

const JOIN_SERVER: &str = "1 join, on the server";
const JOIN_STREAMED: &str = "2 join, streamed";
const DECIDE: &str = "3 dry run, deciding only";
const DRY: &str = "4 dry run, with letters";
const FIRST: &str = "5 first scan";
const FIRST_WITHOUT_LETTERS: &str = "5 first scan, less letters";
const FIRST_WITHOUT_NOTICES: &str = "5 first scan, less letters and freezing";
const SECOND: &str = "6 second scan of the day";
const PEER: &str = "7 peer";

/// Thirty of a hundred items overdue, four languages and currencies, 2 % of the accounts held, 1 % of the items
/// disputed, 5 % part paid, few large accounts, three of four accounts contacted before.
const LEDGER: &str = "
    CREATE FUNCTION u(i bigint, s bigint) RETURNS float8 LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    $$ SELECT (hashint8extended(i, 20260115 + s) & 9007199254740991)::float8 / 9007199254740992.0 $$;
    INSERT INTO ledger.account (account_id, creditor, name, party_kind, country, language, time_zone, hold_reason)
    SELECT 'A' || lpad(i::text, 8, '0'), 'tre_aquiloni', 'Debtor & Sons ' || i, 'company', 'IT',
        (ARRAY['ru','pl','it','en'])[1 + floor(u(i,1)*4)::int], 'Europe/Rome',
        CASE WHEN u(i,2) < 0.02 THEN 'agreed by telephone' END
    FROM generate_series(1, $accounts) i;
    INSERT INTO ledger.contact (contact_id, account_id, role, name, email, is_primary, no_email)
    SELECT account_id || '-1', account_id, 'billing', 'Ada', lower(account_id) || '@d' || right(account_id, 3) || '.test',
        true, false FROM ledger.account;
    INSERT INTO ledger.item (item_id, account_id, kind, document_no, issue_date, due_date, currency, amount, open_amount,
        disputed_since)
    SELECT 'I' || lpad(i::text, 8, '0'), 'A' || lpad(account::text, 8, '0'), 'invoice', 'FT ' || i, due - 30, due,
        (ARRAY['EUR','PLN','RUB','GBP'])[1 + floor(u(account,1)*4)::int], amount,
        round((CASE WHEN u(i,10) < 0.05 THEN amount * (0.2 + 0.7 * u(i,11)::numeric) ELSE amount END)::numeric, 2),
        CASE WHEN u(i,12) < 0.01 THEN date '2026-01-02' END
    FROM (SELECT i, (1 + floor($accounts * power(u(i,5), 1.5)))::bigint AS account,
              round((20 + 5000 * power(u(i,9), 4))::numeric, 2) AS amount,
              CASE WHEN u(i,6) < 0.30 THEN date '2026-01-15' - (1 + floor(u(i,7)*u(i,8)*180)::int)
                   ELSE date '2026-01-15' + floor(u(i,7)*60)::int END AS due
          FROM generate_series(1, $items) i) g;
    INSERT INTO ledger.freshness VALUES ('erp', NULL, '2026-01-15 06:00Z', '2026-01-15 06:00Z');
    INSERT INTO dunning.text VALUES ('of the past', 'past', '');
    INSERT INTO dunning.run (run_id, creditor, business_date, scheduled, as_of, state, policy_sha256, templates_sha256,
        creditors_sha256, started_at)
    VALUES ('00000000-0000-7000-8000-000000000000', 'tre_aquiloni', '2025-12-20', false, false, 'completed',
        'of the past', 'of the past', 'of the past', '2025-12-20 08:00Z');
    INSERT INTO dunning.notice (notice_id, run_id, creditor, account_id, stage, tone, language, state, business_date,
        valid_until, recipient_key, message_id, fingerprint, demanded, on_unknown, counted_on, accepted_on)
    SELECT md5(item_id)::uuid, '00000000-0000-7000-8000-000000000000', 'tre_aquiloni', account_id, 'friendly', 'friendly',
        'en', 'accepted', '2025-12-20', '2025-12-22', lower(account_id) || '@d' || right(account_id, 3) || '.test',
        '<' || item_id || '@past>', '', '{}', 'review', '2025-12-20', '2025-12-20'
    FROM (SELECT DISTINCT ON (account_id) account_id, item_id FROM ledger.item
          WHERE due_date < '2025-12-10' AND u(right(item_id, 8)::bigint, 3) < 0.75 ORDER BY account_id, item_id) i;
    INSERT INTO dunning.notice_item (notice_id, item_id, stage, currency, to_pay)
    SELECT n.notice_id, i.item_id, 'friendly', i.currency, i.open_amount FROM dunning.notice n
    JOIN ledger.item i ON i.account_id = n.account_id AND i.due_date < '2025-12-10';";

/// As `pg_scan` asks it of a ledger: what any program that decides about overdue items has to read.
const JOIN: &str = "
    SELECT i.account_id, i.document_no, i.due_date, i.amount, i.open_amount, i.currency, a.language, c.email
    FROM ledger.item i JOIN ledger.account a USING (account_id) JOIN ledger.contact c USING (account_id)
    WHERE i.due_date < '2026-01-15' AND i.disputed_since IS NULL AND a.hold_reason IS NULL AND i.open_amount > 0
    ORDER BY i.account_id COLLATE \"C\"";

/// Everything of the run that stands between the yardstick and a first scan.
const FORGET: &str = "
    -- Nothing refers to what goes; looking for it would take longer than the scan.
    SET LOCAL session_replication_role = replica;
    TRUNCATE dunning.decision, dunning.debt_case, dunning.task, dunning.known_item, dunning.message,
        dunning.event;
    UPDATE dunning.event_head SET seq = 0, chain_hash = decode(repeat('00', 32), 'hex');
    DELETE FROM dunning.notice_item i USING dunning.notice n WHERE n.notice_id = i.notice_id AND n.state <> 'accepted';
    DELETE FROM dunning.notice WHERE state <> 'accepted';
    DELETE FROM dunning.run WHERE business_date = '2026-01-15';";

/// As the peer reads it.
const PEER_SCHEMA: &str = "
    CREATE SCHEMA peer;
    CREATE TABLE peer.account AS
    SELECT a.account_id AS id, a.language AS lang, c.email, 1::smallint AS last_stage,
        a.hold_reason IS NOT NULL AS on_hold FROM ledger.account a JOIN ledger.contact c USING (account_id);
    CREATE TABLE peer.invoice AS
    SELECT item_id AS id, account_id, document_no AS number, due_date, amount, amount - open_amount AS paid, currency,
        disputed_since IS NOT NULL AS disputed FROM ledger.item;
    ALTER TABLE peer.account ADD PRIMARY KEY (id);
    CREATE INDEX ON peer.invoice (account_id);
    CREATE INDEX ON peer.invoice (due_date) INCLUDE (account_id, currency, amount, paid, disputed);";

fn main() {
    // `cargo bench` passes `--bench` along.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [flag, size] = arguments.as_slice()
        && flag == "--only"
    {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(bench(size.parse().unwrap()));
        return;
    }
    let mut sizes: Vec<u64> = arguments.iter().filter_map(|argument| argument.replace('_', "").parse().ok()).collect();
    if sizes.is_empty() {
        sizes = vec![10_000, 100_000, 1_000_000];
    }
    let mut summaries: Vec<(u64, f64, f64)> = Vec::new();
    for size in sizes {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--only", &size.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            match line.strip_prefix(SUMMARY) {
                Some(numbers) => {
                    let numbers: Vec<f64> = numbers.split_whitespace().map(|number| number.parse().unwrap()).collect();
                    summaries.push((size, numbers[0], numbers[1]));
                }
                None => println!("{line}"),
            }
        }
        assert!(child.wait().unwrap().success(), "{size} items");
    }
    for pair in summaries.windows(2) {
        let [(small, time, _), (large, more_time, _)] = pair else { continue };
        let per_decade = (more_time / time).powf(1.0 / (*large as f64 / *small as f64).log10());
        println!("{small} -> {large} items: deciding costs {per_decade:.1} x per decade (bar {DECADE_BAR})");
    }
    if let (Some((small, _, peak)), Some((large, _, more))) = (summaries.first(), summaries.last())
        && small != large
    {
        println!("{small} -> {large} items: peak memory grows {:.2} x (bar {PEAK_GROWTH_BAR})", more / peak);
    }
}

/// Before the median time of deciding, in ms, and the peak memory, in MiB.
const SUMMARY: &str = "summary ";

async fn bench(items: u64) {
    let cluster = Cluster::start(ClusterOptions { durable: false, roomy: true }).await.unwrap();
    let name = format!("bench_{items}");
    cluster.create_database(&name).await.unwrap();
    cluster.prepare(&name).await.unwrap();
    let mut admin = PgConnection::connect(&cluster.url(&name, "dunningd_admin")).await.unwrap();
    record::migrate(&mut admin).await.unwrap();
    admin.close().await.unwrap();
    let hand = PgPool::connect(&cluster.url(&name, "dunning")).await.unwrap();
    let ledger = LEDGER.replace("$accounts", &(items / 4).to_string()).replace("$items", &items.to_string());
    run(&hand, ledger).await;
    let peer = std::env::var("BENCH_PEER").ok();
    if peer.is_some() {
        run(&hand, PEER_SCHEMA.to_owned()).await;
    }
    run(&hand, "VACUUM ANALYZE".to_owned()).await;
    let shell = shell(&cluster, &name).await;
    let mut transaction = shell.pool.begin().await.unwrap();
    record::adopt(&mut transaction, &shell.host, "benchmark", &shell.actor).await.unwrap();
    record::set_mode(&mut transaction, Mode::Live, "benchmark", &shell.actor).await.unwrap();
    transaction.commit().await.unwrap();
    let dry = ScanRequest { creditor: Some(CreditorId::parse(CREDITOR).unwrap()), dry_run: true, ..Default::default() };
    let decide = ScanRequest { decide_only: true, ..dry.clone() };
    let live = ScanRequest { dry_run: false, ..dry.clone() };

    let rounds = std::env::var("BENCH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let rounds: usize = rounds.unwrap_or(if items < 1_000_000 { 5 } else { 3 });
    let mut times: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut peaks: BTreeMap<&str, u64> = BTreeMap::new();
    let mut phases: BTreeMap<&str, Vec<[f64; 9]>> = BTreeMap::new();
    for _ in 0..rounds {
        run(&hand, FORGET.to_owned()).await;
        run(&hand, "VACUUM ANALYZE dunning.notice, dunning.notice_item".to_owned()).await;
        run(&hand, "CHECKPOINT".to_owned()).await;
        times.entry(JOIN_SERVER).or_default().push(server_time(&hand).await);
        times.entry(JOIN_STREAMED).or_default().push(streamed(&shell.pool).await);
        let mut digests = Vec::new();
        for (what, request) in [(DECIDE, &decide), (DRY, &dry), (FIRST, &live), (SECOND, &live)] {
            forget_peak();
            let began = Instant::now();
            let report = daemon::scan(&shell, request, &mut |_| ()).await.unwrap();
            let took = millis(began.elapsed());
            let peak = peaks.entry(what).or_default();
            *peak = (*peak).max(peak_kib());
            times.entry(what).or_default().push(took);
            let spent = spent(&report);
            if what == FIRST {
                let without_letters = took - spent[LETTERS];
                times.entry(FIRST_WITHOUT_LETTERS).or_default().push(without_letters);
                times.entry(FIRST_WITHOUT_NOTICES).or_default().push(without_letters - spent[FREEZING]);
            }
            phases.entry(what).or_default().push(spent);
            if what != SECOND {
                digests.push(report.runs[0].digest.clone());
            }
        }
        assert!(digests.windows(2).all(|two| two[0] == two[1]), "dry or live, the decisions are the same");
        if let Some(peer) = &peer {
            times.entry(PEER).or_default().push(peer_time(peer, &cluster, &name));
        }
    }
    let join = median(&times[JOIN_SERVER]);
    println!("{items} open items, {} accounts, {rounds} rounds: median (min-max) in ms, ratio to the join", items / 4);
    for (what, all) in &times {
        let (low, high) = (all.iter().copied().fold(f64::MAX, f64::min), all.iter().copied().fold(0.0, f64::max));
        let middle = median(all);
        let bar = BARS.iter().find(|(of, _)| of == what).map_or(String::new(), |(_, bar)| format!(" (bar {bar})"));
        let peak = peaks.get(what).map_or(String::new(), |kib| format!("  peak {} MiB", kib / 1024));
        println!("  {what:<39} {middle:>9.1} ({low:.1}-{high:.1})  {:>6.2} x{bar}{peak}", middle / join);
    }
    println!("  where the time goes, medians in ms; reading, deciding and writing overlap:");
    println!("  {:<39} {}", "", PHASES.map(|phase| format!("{phase:>13}")).concat());
    for (what, all) in &phases {
        let at = |n: usize| median(&all.iter().map(|spent| spent[n]).collect::<Vec<_>>());
        let line: Vec<String> = (0..PHASES.len()).map(|n| format!("{:>13.0}", at(n))).collect();
        println!("  {what:<39} {}", line.concat());
    }
    let peak = peaks.values().copied().max().unwrap_or_default() as f64 / 1024.0;
    println!("  peak memory {peak:.0} MiB (bar {PEAK_BAR_MIB})");
    println!("{SUMMARY}{} {peak}", median(&times[DECIDE]));
    hand.close().await;
    shell.pool.close().await;
}

const PHASES: [&str; 9] =
    ["check", "guards", "ledger", "history", "decide", "letters", "fingerprints", "writes", "freezing"];
const LETTERS: usize = 5;
const FREEZING: usize = 8;

fn spent(report: &ScanReport) -> [f64; 9] {
    let spent = report.runs[0].spent;
    [
        report.checked_in,
        spent.guards,
        spent.ledger,
        spent.history,
        spent.decide,
        spent.letters,
        spent.fingerprints,
        spent.writes,
        spent.freezing,
    ]
    .map(millis)
}

/// Wall time of the whole program.
fn peer_time(peer: &str, cluster: &Cluster, name: &str) -> f64 {
    let began = Instant::now();
    let done = Command::new(peer)
        .args(["scan", "peer"])
        .env("PGHOST", cluster.socket_dir())
        .env("PGUSER", "dunning")
        .env("PGDATABASE", name)
        .output()
        .unwrap();
    let took = millis(began.elapsed());
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    print!("  {}", String::from_utf8_lossy(&done.stdout));
    took
}

async fn run(pool: &PgPool, statements: String) {
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(pool).await.unwrap();
}

async fn shell(cluster: &Cluster, name: &str) -> Shell {
    let (app, admin) = (cluster.url(name, "dunningd_app"), cluster.url(name, "dunningd_admin"));
    let sources = demo::configuration(&app, &admin, "127.0.0.1", 25);
    let loaded = config::load_from(&sources, Path::new("."), [], None).unwrap();
    let live = Live::new(loaded, TemplateSet::builtin().unwrap()).unwrap_or_else(|_| panic!("templates are missing"));
    let actor = Actor { os_user: "bench".into(), person: "bench".into() };
    let day = NaiveDate::from_ymd_opt(2026, 1, 15).unwrap();
    Shell::new(PgPool::connect(&app).await.unwrap(), live, Clock::fixed_on(day, Rome), actor)
}

/// Execution time as the server measures it.
async fn server_time(pool: &PgPool) -> f64 {
    let explain = AssertSqlSafe(format!("EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {JOIN}"));
    let plan: serde_json::Value = sqlx::query_scalar(explain).fetch_one(pool).await.unwrap();
    plan[0]["Execution Time"].as_f64().unwrap()
}

/// The same rows, typed, through the driver.
async fn streamed(pool: &PgPool) -> f64 {
    let began = Instant::now();
    let mut rows = sqlx::query(JOIN).fetch(pool);
    let mut sum = Decimal::ZERO;
    while let Some(row) = rows.try_next().await.unwrap() {
        let (_, _): (&str, &str) = (row.get(0), row.get(1));
        let (_, _): (NaiveDate, Decimal) = (row.get(2), row.get(3));
        sum += row.get::<Decimal, _>(4);
        let (_, _, _): (&str, &str, &str) = (row.get(5), row.get(6), row.get(7));
    }
    std::hint::black_box(sum);
    millis(began.elapsed())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
