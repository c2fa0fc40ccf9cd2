//! `demo`: the main job from ledger to delivered mail and verified log, without a person and in a world of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, PgConnection};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::daemon::{self, Dispatched, Live, ScanReport, ScanRequest, Shell};
use crate::demo::{self, Cluster, ClusterOptions, Sink};
use crate::model::{Letter, Mode, ReasonCode};
use crate::render::TemplateSet;
use crate::{config, ledger, record};

use super::args::{Cli, DemoArgs};
use super::connect::actor;
use super::failure::{Exit, Failure};
use super::log;
use super::output::{say, say_part};

pub(super) async fn demo(cli: &Cli, args: &DemoArgs) -> Result<Exit, Failure> {
    let output = output_folder(args.output.clone())?;
    let cluster = Cluster::start(ClusterOptions { durable: args.keep, roomy: false })
        .await
        .map_err(|error| Failure::new(Exit::UNAVAILABLE, error.to_string()))?;
    let sink = Sink::start().await.map_err(|error| Failure::unexpected(error.to_string()))?;
    let (host, port) = relay(args, &sink)?;
    let shell = world(&cluster, &output, &host, port).await?;
    tell(
        cli,
        &format!(
            "A private PostgreSQL in {}, a mail server on {host}:{port}, the clock frozen on {}.",
            cluster.socket_dir().display(),
            demo::business_date()
        ),
    );
    fill(cli, &shell, &output).await?;

    let report = daemon::scan(&shell, &ScanRequest::default(), &mut |_| {}).await?;
    let transport = daemon::transport(&shell.live().config.service.mail)?;
    let dispatched = daemon::dispatch(&shell, &transport, &CancellationToken::new()).await?;
    let again = daemon::scan(&shell, &ScanRequest::default(), &mut |_| {}).await?;

    let received = if args.relay.is_some() { None } else { Some(sink.received()) };
    let mails = write_mails(&shell, &output, received.as_deref()).await?;
    let mut connection = shell.pool.acquire().await?;
    let (report_of_log, contradictions) = log::verify_database(&mut connection, &[], &[]).await?;
    let verified = report_of_log.log.ok_or_else(|| Failure::unexpected("the log was not verified"))?;
    log::export_into(&mut connection, &output.join("log")).await?;
    drop(connection);

    let good = dispatched.all_accepted()
        && dispatched.accepted == report.total.contacted
        && again.total.contacted == 0
        && contradictions.is_empty()
        && mails.altered == 0;
    if cli.json {
        say!(
            "{}",
            serde_json::json!({ "scan": report, "delivery": dispatched, "second_scan": again.total,
                "log": verified, "contradictions": contradictions, "output": output })
        );
    } else {
        say_part!("{}", summary(&report, &dispatched, &again, &mails, &output));
        say!("The contact log verifies: {} events, no gap, head {}.", verified.events, verified.head);
        say!("\n{}", next_steps(&output, &mails));
    }
    if args.keep {
        keep(&cluster).await?;
    }
    Ok(if good { Exit::DONE } else { Exit::FINDINGS })
}

fn tell(cli: &Cli, text: &str) {
    if !cli.json {
        say!("{text}");
    }
}

fn output_folder(wanted: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let folder = wanted
        .unwrap_or_else(|| std::env::temp_dir().join(format!("dunningd-demo-{}", Clock::system().new_id().simple())));
    let io = |error: std::io::Error| Failure::unexpected(format!("{}: {error}", folder.display()));
    if folder.exists() && fs::read_dir(&folder).map_err(io)?.next().is_some() {
        return Err(Failure::new(Exit::REFUSED, format!("{} is not empty; nothing was done", folder.display())));
    }
    fs::create_dir_all(folder.join("mails")).map_err(io)?;
    Ok(folder)
}

fn relay(args: &DemoArgs, sink: &Sink) -> Result<(String, u16), Failure> {
    let Some(relay) = &args.relay else { return Ok(("127.0.0.1".to_owned(), sink.port())) };
    relay
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)))
        .ok_or_else(|| Failure::new(Exit::USAGE, "--relay wants HOST:PORT, such as 127.0.0.1:25"))
}

/// A shell over a fresh database, as the application's role, with a clock that stands still.
async fn world(cluster: &Cluster, output: &Path, host: &str, port: u16) -> Result<Shell, Failure> {
    let cluster_failed = |error: demo::ClusterError| Failure::new(Exit::UNAVAILABLE, error.to_string());
    cluster.create_database("demo").await.map_err(cluster_failed)?;
    cluster.prepare("demo").await.map_err(cluster_failed)?;
    let (app, admin) = (cluster.url("demo", "dunningd_app"), cluster.url("demo", "dunningd_admin"));
    let mut connection = PgConnection::connect(&admin).await?;
    record::migrate(&mut connection).await.map_err(|error| Failure::unexpected(error.to_string()))?;
    connection.close().await?;

    let sources = demo::configuration(&app, &admin, host, port);
    let state = output.join("state").display().to_string();
    let variables = BTreeMap::from([("DUNNINGD__STATE__DIRECTORY".to_owned(), state)]);
    let loaded = config::load_from(&sources, Path::new("."), variables, None)
        .map_err(|findings| Failure::new(Exit::CONFIG, findings.to_string()))?;
    let templates = TemplateSet::builtin()
        .map_err(|findings| daemon::LoadError { config: config::Findings::default(), templates: findings })?;
    let options = PgConnectOptions::from_str(&app)?;
    let pool = PgPoolOptions::new().max_connections(8).connect_with(options).await?;
    let live = Live::new(loaded, templates)?;
    let zone = live.config.policy.creditors.values().next().map_or(chrono_tz::Tz::UTC, |c| c.time_zone);
    let shell = Shell::new(pool, live, Clock::fixed_on(demo::business_date(), zone), actor(Some("demo")));
    let mut transaction = shell.pool.begin().await?;
    record::adopt(&mut transaction, &shell.host, "a world of its own", &shell.actor).await?;
    record::set_mode(&mut transaction, Mode::Live, "nobody but this machine receives anything", &shell.actor).await?;
    transaction.commit().await?;
    Ok(shell)
}

/// Imports the made-up ledger, the way an operator would.
async fn fill(cli: &Cli, shell: &Shell, output: &Path) -> Result<(), Failure> {
    let file = output.join("ledger.csv");
    fs::write(&file, demo::LEDGER).map_err(|error| Failure::unexpected(error.to_string()))?;
    let profile = super::ledger::shipped_profile("generic")?;
    let url = shell.live().config.service.database.admin_url.clone().unwrap_or_default();
    let mut connection = PgConnection::connect(&url).await?;
    let options = ledger::ImportOptions { payments_as_of: Some(demo::payments_as_of()), ..Default::default() };
    let imported = ledger::import_csv(&mut connection, &profile, &file, &options)
        .await
        .map_err(|error| Failure::unexpected(error.to_string()))?;
    connection.close().await?;
    tell(cli, &format!("Imported {} rows of made-up accounts from {}.\n", imported.rows, file.display()));
    Ok(())
}

/// The mails of the demonstration on disk.
struct Mails {
    written: Vec<String>,
    /// Received with other bytes than were frozen.
    altered: usize,
    compared: usize,
}

/// Writes each message as sent and its HTML part, and compares what the mail server got with what was frozen.
async fn write_mails(shell: &Shell, output: &Path, received: Option<&[demo::Received]>) -> Result<Mails, Failure> {
    let io = |error: std::io::Error| Failure::unexpected(format!("{}: {error}", output.display()));
    let live = shell.live();
    let mut connection = shell.pool.acquire().await?;
    let mut mails = Mails { written: Vec::new(), altered: 0, compared: 0 };
    for notice in record::notices_made(&mut connection, None).await? {
        let Some(message) = record::message_of(&mut connection, notice).await? else { continue };
        let letter: Letter = serde_json::from_value(message.letter)
            .map_err(|error| Failure::unexpected(format!("letter of notice {notice}: {error}")))?;
        let rendered = live.templates.render(&letter).map_err(|error| Failure::unexpected(error.to_string()))?;
        let name = format!("{}-{}-{}", letter.account_id, letter.stage, letter.language);
        fs::write(output.join("mails").join(format!("{name}.eml")), &message.bytes).map_err(io)?;
        fs::write(output.join("mails").join(format!("{name}.html")), rendered.html).map_err(io)?;
        if let Some(received) = received {
            mails.compared += 1;
            let same = received.iter().filter(|one| one.to == message.recipient && one.bytes == message.bytes).count();
            mails.altered += usize::from(same != 1);
        }
        mails.written.push(name);
    }
    mails.written.sort();
    Ok(mails)
}

fn summary(report: &ScanReport, dispatched: &Dispatched, again: &ScanReport, mails: &Mails, output: &Path) -> String {
    let mut out = super::scan::human(report, Some(dispatched));
    if mails.compared > 0 {
        let _ = writeln!(
            out,
            "The mail server got {} of {} mails byte for byte as the log froze them.",
            mails.compared - mails.altered,
            mails.compared
        );
    }
    let _ = writeln!(
        out,
        "\nA second scan of the same day: considered {}, contacted {}; {} wait because {}.",
        again.total.considered,
        again.total.contacted,
        again.total.reasons.get("too_soon").copied().unwrap_or_default(),
        ReasonCode::TooSoon.meaning().trim_end_matches('.').to_lowercase()
    );
    let _ = writeln!(out, "Mails as sent (.eml) and as seen (.html): {}", output.join("mails").display());
    out
}

fn next_steps(output: &Path, mails: &Mails) -> String {
    let first = mails.written.first().map_or("", String::as_str);
    let program = std::env::current_exe().map_or_else(|_| "dunningd".into(), |path| path.display().to_string());
    format!(
        "Try next:\n  {program} log verify --from {}\n  {program} preview final --lang pl --fixture many\n  \
         {program} init ./my-dunningd\nand open {} in a browser.",
        output.join("log").display(),
        output.join("mails").join(format!("{first}.html")).display(),
    )
}

async fn keep(cluster: &Cluster) -> Result<(), Failure> {
    say!("\nThe database stays until you press Enter: psql '{}'", cluster.url("demo", "dunningd_auditor"));
    let mut line = String::new();
    tokio::task::spawn_blocking(move || std::io::stdin().read_line(&mut line))
        .await
        .map_err(|error| Failure::unexpected(error.to_string()))?
        .map_err(|error| Failure::unexpected(error.to_string()))?;
    Ok(())
}
