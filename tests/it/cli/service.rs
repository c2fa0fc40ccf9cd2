//! The service, the demonstration, and secrets.

use std::time::Duration;

use chrono::{Datelike as _, NaiveDate};
use dunningd::clock::Clock;
use dunningd::model::Weekdays;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr};
use tokio::time::timeout;

use crate::support::command::Program;
use crate::support::shell::Office;
use crate::support::smtp::{Options, SmtpServer};

use super::shows;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

struct Service {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    said: String,
}

impl Service {
    fn start(program: &Program) -> Self {
        let mut child = program.start(&["run"]);
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines, said: String::new() }
    }

    /// Reads on until it says that.
    async fn says(&mut self, text: &str) {
        let reading = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                self.said.push_str(&line);
                self.said.push('\n');
                if line.contains(text) {
                    return true;
                }
            }
            false
        };
        let found = timeout(PATIENCE, reading).await;
        assert_eq!(found, Ok(true), "it never said {text:?}:\n{}", self.said);
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().unwrap().try_into().unwrap()), signal).unwrap();
    }

    /// Its exit code, once it has ended, and everything it said.
    async fn ends(mut self) -> (Option<i32>, String) {
        let rest = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                self.said.push_str(&line);
                self.said.push('\n');
            }
            self.child.wait().await.unwrap().code()
        };
        let code = timeout(PATIENCE, rest).await.unwrap();
        (code, self.said)
    }
}

/// Accounts that are due today, by the machine's own clock.
async fn office() -> (Office, Program) {
    let office = Office::new().await;
    office.accounts(2).await;
    office
        .sql(
            "UPDATE ledger.item SET issue_date = current_date - 40, due_date = current_date - 8;
             UPDATE ledger.freshness SET invoices_as_of = now(), payments_as_of = now()",
        )
        .await;
    let program = Program::new(&office.database, office.smtp.address.port())
        .await
        .with("SCHEDULE__EARLIEST", "00:00")
        .with("SCHEDULE__LATEST", "23:59")
        .with("SCHEDULE__POLL_SECONDS", "1");
    program.replace(
        "policy.toml",
        r#"send_days = ["monday", "tuesday", "wednesday", "thursday", "friday"]"#,
        r#"send_days = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]"#,
    );
    // The tests run on every day of the year and at every hour.
    let year = Clock::system().today(chrono_tz::Tz::UTC).year();
    let weekends =
        (year - 1..=year + 1).flat_map(|year| NaiveDate::from_ymd_opt(year, 1, 1).unwrap().iter_days().take(365));
    let weekends = weekends.filter(|day| !Weekdays::MONDAY_TO_FRIDAY.contains(day.weekday()));
    let rows: Vec<String> = weekends.map(|day| format!("{day},working,,\n")).collect();
    let calendar = format!("# years: {}-{}\ndate,kind,name,source\n{}", year - 1, year + 1, rows.concat());
    program.write("config/calendars/every-day.csv", &calendar);
    program.replace(
        "policy.toml",
        "IE = \"ie\"\nIT = \"it\"\nPL = \"pl\"",
        "IE = \"ie\"\nIT = \"every-day\"\nPL = \"every-day\"",
    );
    program.replace("policy.toml", "from = \"09:00\"\nto = \"18:00\"", "from = \"00:00\"\nto = \"24:00\"");
    program.replace("policy.toml", "review_window_minutes = 120", "review_window_minutes = 0");
    (office, program)
}

async fn until(mut condition: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap();
}

#[tokio::test]
async fn the_service_scans_delivers_reloads_and_stops() {
    let (office, program) = office().await;
    let mut service = Service::start(&program);
    service.says("\"ready\"").await;
    until(async || office.count("dunning.notice WHERE state = 'accepted'").await == 2).await;
    assert_eq!(office.smtp.messages().len(), 2);
    // Both creditors, once, whatever the bell rings.
    until(async || office.count("dunning.run WHERE state = 'completed' AND scheduled").await == 2).await;

    program.replace("policy.toml", "valid_days = 2", "valid_days = 200");
    service.signal(Signal::SIGHUP);
    service.says("policy.toml:").await;
    service.says("the old one stays in force").await;
    program.replace("policy.toml", "valid_days = 200", "valid_days = 3");
    service.signal(Signal::SIGHUP);
    service.says("configuration reloaded").await;

    // What is fixed at the start is told at every reload, until it says again what it said then.
    program.replace("dunningd.toml", "filter = \"info\"", "filter = \"info,dunningd=debug\"");
    program.replace("dunningd.toml", "max_connections = 12", "max_connections = 13");
    for _ in 0..2 {
        service.signal(Signal::SIGHUP);
        service.says("\"keys\":\"database.max_connections, log.filter\"").await;
    }

    // Replies would go on into the old folder, and everybody else would look into the new one.
    let state = program.path("state").to_str().unwrap().to_owned();
    program.replace("dunningd.toml", &state, "elsewhere");
    service.signal(Signal::SIGHUP);
    service.says("error[C037 needs_restart]: the service keeps its journal of replies in ").await;
    service.says("the old one stays in force").await;

    service.signal(Signal::SIGTERM);
    let (code, said) = service.ends().await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(office.count("dunning.run").await, 2);
    // The service log knows accounts by their number only.
    assert!(said.contains("A01") && !said.contains("Debitore") && !said.contains("conti@"), "{said}");
    office.verified().await;
}

#[tokio::test]
async fn the_service_tells_the_operator_about_each_run() {
    let (office, program) = office().await;
    program.replace("dunningd.toml", r#"# to = ["receivables@example.com"]"#, r#"to = ["desk@tre-aquiloni.test"]"#);
    let mut service = Service::start(&program);
    service.says("\"ready\"").await;
    until(async || office.count("dunning.operator_mail WHERE state = 'accepted'").await == 2).await;
    until(async || office.count("dunning.notice WHERE state = 'accepted'").await == 2).await;
    service.signal(Signal::SIGTERM);
    assert_eq!(service.ends().await.0, Some(0));
    let digests = office.smtp.messages().into_iter().filter(|message| message.to == ["desk@tre-aquiloni.test"]);
    assert_eq!(digests.count(), 2);
}

#[tokio::test]
async fn a_broken_configuration_on_reload_is_told_in_full() {
    let (_office, program) = office().await;
    let mut service = Service::start(&program);
    service.says("\"ready\"").await;
    program.replace("policy.toml", "rows_in_letter = 10", "rows_in_leter = 10");
    service.signal(Signal::SIGHUP);
    service.says("error[C012 unknown_key]: ").await;
    service.says("the old one stays in force").await;
    service.signal(Signal::SIGINT);
    let (code, said) = service.ends().await;
    assert_eq!(code, Some(0));
    // Whoever reads the service log as JSON can read all of it.
    let lines: Vec<Value> =
        said.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let told = lines.iter().filter_map(|line| line["fields"]["message"].as_str());
    let finding = told.filter(|text| text.starts_with("error[")).collect::<String>();
    assert!(finding.contains("policy.toml:") && finding.contains("did you mean `rows_in_letter`?"), "{finding}");
}

#[tokio::test]
async fn a_configuration_that_could_not_deliver_is_not_put_in_force() {
    let (office, program) = office().await;
    office
        .sql(
            "INSERT INTO dunning.breaker (kind, subject, failures, opened, cause, until, probing)
             VALUES ('relay', 'relay.of.old:25', 3, 1, 'connect: refused', clock_timestamp(), false)",
        )
        .await;
    let mut service = Service::start(&program);
    service.says("\"ready\"").await;
    assert_eq!(office.count("dunning.breaker").await, 0, "that relay is not asked any more");
    program.replace(
        "dunningd.toml",
        "[mail]\n",
        "[mail]\nusername = \"d\"\npassword_file = \"/nonexistent/password\"\n",
    );
    service.signal(Signal::SIGHUP);
    service.says("/nonexistent/password").await;
    assert!(service.said.contains("the old one stays in force"), "{}", service.said);
    let refused = program.run(&["reload"]).await.failed(78);
    assert!(refused.contains("/nonexistent/password"), "{refused}");
    until(async || office.count("dunning.notice WHERE state = 'accepted'").await == 2).await;
    service.signal(Signal::SIGTERM);
    assert_eq!(service.ends().await.0, Some(0));
}

#[tokio::test]
async fn a_relay_that_is_down_keeps_the_operators_mails_with_one_line() {
    let (office, program) = office().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let program = program.with("MAIL__PORT", &nobody.to_string());
    program.replace("dunningd.toml", r#"# to = ["receivables@example.com"]"#, r#"to = ["desk@tre-aquiloni.test"]"#);
    let mut service = Service::start(&program);
    service.says("mails to the operator stay queued").await;
    // Each look at the schedule asks again whether there is something to send.
    tokio::time::sleep(Duration::from_secs(4)).await;
    service.signal(Signal::SIGTERM);
    let (_, said) = service.ends().await;
    let lines = said.lines().filter(|line| line.contains("mails to the operator stay queued"));
    // The relay cannot be reached; then it has failed too often.
    assert!(lines.count() <= 2, "{said}");
    assert!(office.count("dunning.operator_mail WHERE state = 'queued'").await > 0);
}

#[tokio::test]
async fn status_tells_what_fails_at_once_and_what_is_tried_again() {
    let (office, program) = office().await;
    office
        .sql(
            "INSERT INTO dunning.breaker (kind, subject, failures, opened, cause, until, probing) VALUES
             ('content', 'tre_aquiloni/firm/it', 2, 1, 'dot: 554 5.7.1', '2100-01-01 01:30Z', false),
             ('relay', '127.0.0.1:25', 1, 0, 'auth: 535 5.7.8', NULL, false),
             ('sender', 'tre_aquiloni', 3, 1, 'mail_from: 550 5.1.8', clock_timestamp(), false)",
        )
        .await;
    let said = program.run(&["status"]).await.done();
    let told: Vec<&str> = said.lines().skip(1).take(3).collect();
    assert_eq!(
        told,
        [
            "STOPPED content tre_aquiloni/firm/it until 2100-01-01 01:30 UTC after 2 failures in a row: dot: 554 5.7.1",
            "FAILING relay 127.0.0.1:25, after 1 failure in a row: auth: 535 5.7.8",
            "STOPPED sender tre_aquiloni, tried again with the next letter, after 3 failures in a row: mail_from: 550 5.1.8",
        ]
    );
}

#[tokio::test]
async fn what_keeps_a_run_from_happening_is_an_error_once_until_it_changes() {
    let (office, program) = office().await;
    let known_up_to = async |days: u32| {
        office.sql(format!("UPDATE ledger.freshness SET payments_as_of = now() - interval '{days} days'")).await;
    };
    known_up_to(30).await;
    let program = program.with("LOG__FILTER", "info,dunningd=debug");
    let mut service = Service::start(&program);
    let errors = |said: &str| {
        let told = said.lines().filter(|line| line.contains("run did not happen") && line.contains("stale_ledger"));
        told.filter(|line| line.contains("\"ERROR\"")).count()
    };
    // Each look at the schedule finds both creditors refused.
    for _ in 0..6 {
        service.says("run did not happen").await;
    }
    assert_eq!(errors(&service.said), 2, "{}", service.said);
    known_up_to(40).await;
    for _ in 0..6 {
        service.says("run did not happen").await;
    }
    assert_eq!(errors(&service.said), 4, "{}", service.said);
    let status = program.run(&["status"]).await.done();
    assert_eq!(status.matches(" refused (stale_ledger)").count(), 2, "{status}");
    service.signal(Signal::SIGTERM);
    assert_eq!(service.ends().await.0, Some(0));
}

#[tokio::test]
async fn the_service_goes_on_when_the_relay_is_down() {
    let (office, program) = office().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let program = program.with("MAIL__PORT", &nobody.to_string());
    let mut service = Service::start(&program);
    service.says("the relay cannot be used; nothing lost a try by it").await;
    assert_eq!(office.notices().await, ["A01 friendly queued", "A02 friendly queued"]);
    service.signal(Signal::SIGTERM);
    assert_eq!(service.ends().await.0, Some(0));
}

#[tokio::test]
async fn a_missing_password_file_keeps_the_service_from_starting() {
    let (_office, program) = office().await;
    let program = program.with("MAIL__USERNAME", "dunning").with("MAIL__PASSWORD_FILE", "/nonexistent/relay.password");
    let said = program.run(&["run"]).await;
    assert_eq!(said.exit, 78);
    assert!(said.err.contains("/nonexistent/relay.password"), "{}", said.err);
}

#[tokio::test]
async fn the_demonstration_runs_by_itself() {
    let program = Program::bare().await;
    let output = program.path("demo");
    let said = program.run(&["demo", "--output", output.to_str().unwrap()]).await.done();
    let told = program.settled(&said).replace(env!("CARGO_BIN_EXE_dunningd"), "[PROGRAM]");
    let (world, told) = told.split_once('\n').unwrap();
    assert!(world.starts_with("A private PostgreSQL in "), "{world}");
    shows("demo", told);
    let events = output.join("log/events.ndjson");
    let verified = program.run(&["log", "verify", "--from", events.to_str().unwrap()]).await.done();
    assert!(verified.starts_with("The log holds together: "), "{verified}");
    let again = program.run(&["demo", "--output", output.to_str().unwrap()]).await.failed(5);
    assert_eq!(again, format!("dunningd: {} is not empty; nothing was done\n", output.display()));
}

#[tokio::test]
async fn a_secret_is_never_shown() {
    const SECRET: &str = "Wombat-5417-quince";
    let office = Office::new().await;
    office.accounts(2).await;
    let program = Program::new(&office.database, office.smtp.address.port()).await;
    let relay = SmtpServer::with(Options {
        mechanisms: vec!["PLAIN"],
        login: Some(("dunning".into(), "another".into())),
        ..Options::default()
    })
    .await;
    let file = program.write("relay.password", &format!("{SECRET}\n"));
    let database = program.write("database.password", &format!("{SECRET}\n"));
    let program = program
        .with("MAIL__PORT", &relay.address.port().to_string())
        .with("MAIL__USERNAME", "dunning")
        .with("MAIL__PASSWORD_FILE", &file)
        .with("DATABASE__PASSWORD_FILE", &database)
        .with("LOG__FILTER", "trace");
    let mut heard = String::new();
    for arguments in [
        &["check"][..],
        &["check", "--json"],
        &["scan", "--as-of", "2026-03-10", "--deliver", "--why"],
        &["scan", "--as-of", "2026-03-10", "--deliver", "--json"],
        &["status"],
        &["status", "--json"],
        &["log", "show", "--json"],
        &["explain", "A01", "--json"],
    ] {
        let said = program.run(arguments).await;
        heard.push_str(&said.out);
        heard.push_str(&said.err);
    }
    assert!(heard.contains("auth: the relay answered 535"), "{heard}");
    let mut service = Service::start(&program);
    service.says("the relay cannot be used").await;
    service.signal(Signal::SIGTERM);
    heard.push_str(&service.ends().await.1);
    // Written by mistake where it does not belong: refused, and not repeated.
    program.replace("dunningd.toml", "transport = \"smtp\"", &format!("transport = \"smtp\"\npassword = \"{SECRET}\""));
    let said = program.run(&["check"]).await.failed(78);
    heard.push_str(&said);
    assert!(!heard.contains(SECRET) && !heard.contains("Wombat"), "a secret was shown");
    let stored = office.lines("SELECT body FROM dunning.text").await.join("\n");
    assert!(!stored.contains(SECRET));
}
