//! What a scan costs beside the yardstick: the server's time for the ordered join of the overdue rows.
//!
//!   ./dev bench scan [SIZE…]        open items; 10000, 100000 and 1000000 when none is given
//!
//! Ratios of one run on one machine, interleaved; nothing here is a promise in seconds. The ledger is the same every
//! time: every value is a hash of its row's number.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run has failed")]
#![expect(clippy::float_arithmetic, reason = "ratios of times")]

use std::collections::BTreeMap;
use std::path::Path;
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

const CREDITOR: &str = "tre_aquiloni";
const ROUNDS: usize = 5;

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
        valid_until, recipient_key, sender_domain, message_id, fingerprint, demanded, on_unknown, counted_on, accepted_on)
    SELECT md5(item_id)::uuid, '00000000-0000-7000-8000-000000000000', 'tre_aquiloni', account_id, 'friendly', 'friendly',
        'en', 'accepted', '2025-12-20', '2025-12-22', lower(account_id) || '@d' || right(account_id, 3) || '.test',
        'tre-aquiloni.test', '<' || item_id || '@past>', '', '{}', 'review', '2025-12-20', '2025-12-20'
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
    TRUNCATE dunning.decision, dunning.debt_case, dunning.task, dunning.known_item, dunning.message, dunning.attempt;
    DELETE FROM dunning.notice_item i USING dunning.notice n WHERE n.notice_id = i.notice_id AND n.state <> 'accepted';
    DELETE FROM dunning.notice WHERE state <> 'accepted';
    DELETE FROM dunning.run WHERE business_date = '2026-01-15';";

#[tokio::main(worker_threads = 2)]
async fn main() {
    // `cargo bench` passes `--bench` along.
    let mut sizes: Vec<u64> = std::env::args().skip(1).filter_map(|arg| arg.replace('_', "").parse().ok()).collect();
    if sizes.is_empty() {
        sizes = vec![10_000, 100_000, 1_000_000];
    }
    let cluster = Cluster::start(ClusterOptions { durable: false }).await.unwrap();
    for size in sizes {
        bench(&cluster, size).await;
    }
}

async fn bench(cluster: &Cluster, items: u64) {
    let name = format!("bench_{items}");
    cluster.create_database(&name).await.unwrap();
    cluster.prepare(&name).await.unwrap();
    let mut admin = PgConnection::connect(&cluster.url(&name, "dunningd_admin")).await.unwrap();
    record::migrate(&mut admin).await.unwrap();
    admin.close().await.unwrap();
    let hand = PgPool::connect(&cluster.url(&name, "dunning")).await.unwrap();
    let ledger = LEDGER.replace("$accounts", &(items / 4).to_string()).replace("$items", &items.to_string());
    run(&hand, ledger).await;
    run(&hand, "VACUUM ANALYZE".to_owned()).await;
    let shell = shell(cluster, &name).await;
    let mut transaction = shell.pool.begin().await.unwrap();
    record::adopt(&mut transaction, &shell.host, "benchmark", &shell.actor).await.unwrap();
    record::set_mode(&mut transaction, Mode::Live, "benchmark", &shell.actor).await.unwrap();
    transaction.commit().await.unwrap();
    let dry = ScanRequest { creditor: Some(CreditorId::parse(CREDITOR).unwrap()), dry_run: true, ..Default::default() };
    let live = ScanRequest { dry_run: false, ..dry.clone() };

    let mut times: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut peaks: BTreeMap<&str, u64> = BTreeMap::new();
    for _ in 0..ROUNDS {
        run(&hand, FORGET.to_owned()).await;
        run(&hand, "CHECKPOINT".to_owned()).await;
        let mut note = |what, time: f64| times.entry(what).or_default().push(time);
        note("1 join, server", server_time(&hand).await);
        note("2 join, streamed", streamed(&shell.pool).await);
        for (names, request) in [
            (["3 dry run", "3 dry run, letters", "3 dry run without letters"], &dry),
            (["4 first scan", "4 first scan, letters", "4 first scan without letters"], &live),
            (["5 second scan", "5 second scan, letters", "5 second scan without letters"], &live),
        ] {
            forget_peak();
            let began = Instant::now();
            let report = daemon::scan(&shell, request, &mut |_| ()).await.unwrap();
            let took = millis(began.elapsed());
            let peak = peaks.entry(names[0]).or_default();
            *peak = (*peak).max(peak_kib());
            let letters = millis(report.runs[0].spent.letters);
            note(names[0], took);
            note(names[1], letters);
            note(names[2], took - letters);
            if std::env::var_os("BENCH_DETAILS").is_some() {
                details(names[0], &report);
            }
        }
    }
    let join = median(&times["1 join, server"]);
    println!("{items} open items, {} accounts, {ROUNDS} rounds: median (min-max) in ms, ratio to the join", items / 4);
    for (what, all) in &times {
        let (low, high) = (all.iter().copied().fold(f64::MAX, f64::min), all.iter().copied().fold(0.0, f64::max));
        let middle = median(all);
        let peak = peaks.get(what).map_or(String::new(), |kib| format!("  peak {} MiB", kib / 1024));
        println!("  {what:<32} {middle:>9.1} ({low:.1}-{high:.1})  {:>6.2} x{peak}", middle / join);
    }
    hand.close().await;
    shell.pool.close().await;
}

fn details(what: &str, report: &ScanReport) {
    let spent = report.runs[0].spent;
    eprintln!(
        "  {what}: check {:.0} guards {:.0} ledger {:.0} history {:.0} decide {:.0} letters {:.0} writes {:.0}; {} contacts",
        millis(report.checked_in),
        millis(spent.guards),
        millis(spent.ledger),
        millis(spent.history),
        millis(spent.decide),
        millis(spent.letters),
        millis(spent.writes),
        report.total.contacted
    );
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
