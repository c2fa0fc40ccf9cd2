//! A scan that is killed, again and again, and at last runs through: the notices are those of an undisturbed run.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dunningd::config::{Part, Source};
use dunningd::demo;
use dunningd::model::{Actor, CreditorId, RunId};
use dunningd::record::{self, RecordError};

use crate::support::shell::{CREDITOR, Office, link_templates};

const ACCOUNTS: u32 = 600;
const KILLS: u64 = 20;

/// Accounts with one to three items each; one in six owes something that is late.
const LEDGER: &str = "
    INSERT INTO ledger.account (account_id, creditor, name, party_kind, country, language, time_zone)
    SELECT 'A' || lpad(i::text, 5, '0'), 'tre_aquiloni', 'Debtor ' || i, 'company', 'IT',
        (ARRAY['it','pl','en','ru'])[1 + i % 4], 'Europe/Rome' FROM generate_series(1, $accounts) i;
    INSERT INTO ledger.contact (contact_id, account_id, role, name, email, is_primary, no_email)
    SELECT account_id || '-1', account_id, 'billing', 'Ada', lower(account_id) || '@debtor.test', true, false
    FROM ledger.account;
    INSERT INTO ledger.item (item_id, account_id, kind, document_no, issue_date, due_date, currency, amount, open_amount)
    SELECT account_id || '-' || n, account_id, 'invoice', 'FT ' || account_id || '/' || n, day - 30, day, 'EUR', 90, 90
    FROM (SELECT account_id, n, CASE WHEN right(account_id, 5)::int % 6 > 0 THEN date '2026-03-10' + 20
                                     ELSE date '2026-03-10' - 8 - n END AS day
          FROM ledger.account, generate_series(1, 3) n WHERE n <= 1 + right(account_id, 5)::int / 6 % 3) i";

const NOTICES: &str = "
    SELECT concat_ws(' ', n.account_id, n.stage, string_agg(i.item_id || '=' || i.stage, ',' ORDER BY i.item_id))
    FROM dunning.notice n JOIN dunning.notice_item i USING (notice_id)
    WHERE n.state = 'queued' AND i.live GROUP BY n.notice_id ORDER BY 1";

async fn office(folder: &Path) -> Office {
    let office = Office::new().await;
    office.sql(LEDGER.replace("$accounts", &ACCOUNTS.to_string())).await;
    let (app, admin) = (office.database.url("dunningd_app"), office.database.url("dunningd_admin"));
    for Source { part, text, .. } in demo::configuration(&app, &admin, "127.0.0.1", office.smtp.address.port()) {
        let name = match part {
            Part::Service => "dunningd.toml",
            Part::Policy => "policy.toml",
            Part::Creditors => "creditors.toml",
            // Without the folder the shipped ones are used.
            Part::Calendar => continue,
        };
        std::fs::write(folder.join(name), text).unwrap();
    }
    link_templates(folder);
    office
}

fn scan(folder: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_dunningd"))
        .arg("--config")
        .arg(folder)
        .args(["scan", "--creditor", "tre_aquiloni", "--as-of", "2026-03-10"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A scan that nobody disturbs. The server may hold the lock of a process that was killed for a moment longer.
async fn scan_through(folder: &Path) {
    loop {
        let done = scan(folder).wait_with_output().unwrap();
        match done.status.code() {
            Some(0) => return,
            Some(75) => tokio::time::sleep(Duration::from_millis(20)).await,
            _ => panic!("{}: {}", done.status, String::from_utf8_lossy(&done.stderr)),
        }
    }
}

/// A process that was killed may have left a page behind that the server is still writing.
#[tokio::test]
async fn a_run_is_not_taken_over_while_a_page_of_it_is_being_written() {
    let office = Office::new().await;
    let run = RunId(office.shell.clock.new_id());
    office
        .sql(format!(
            "INSERT INTO dunning.text VALUES ('t', 'policy', '');
             INSERT INTO dunning.run (run_id, creditor, business_date, scheduled, as_of, state, policy_sha256,
                 templates_sha256, creditors_sha256, started_at)
             VALUES ('{run}', '{CREDITOR}', '2026-03-10', false, false, 'running', 't', 't', 't', now())"
        ))
        .await;
    let creditor = CreditorId::parse(CREDITOR).unwrap();
    let actor = Actor { os_user: "tester".into(), person: "Tessa".into() };
    let mut page = office.shell.pool.begin().await.unwrap();
    record::still_running(&mut page, run).await.unwrap();

    let mut next = office.shell.pool.begin().await.unwrap();
    sqlx::raw_sql("SET LOCAL lock_timeout = '50ms'").execute(&mut *next).await.unwrap();
    assert!(record::recover(&mut next, &creditor, &actor).await.is_err(), "it waits for the page");
    next.rollback().await.unwrap();

    page.commit().await.unwrap();
    let mut next = office.shell.pool.begin().await.unwrap();
    record::recover(&mut next, &creditor, &actor).await.unwrap();
    next.commit().await.unwrap();
    let mut page = office.shell.pool.begin().await.unwrap();
    let refused = record::still_running(&mut page, run).await;
    assert!(matches!(refused, Err(RecordError::TakenOver)), "{refused:?}");
}

#[tokio::test]
async fn a_scan_killed_twenty_times_ends_with_the_notices_of_an_undisturbed_one() {
    let (quiet_folder, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let quiet = office(quiet_folder.path()).await;
    let began = Instant::now();
    scan_through(quiet_folder.path()).await;
    let whole = began.elapsed();
    let expected = quiet.lines(NOTICES).await;
    assert_eq!(expected.len(), ACCOUNTS as usize / 6);

    let office = office(folder.path()).await;
    let mut moments = Vec::new();
    for n in 0..KILLS {
        let moment = whole * rand::random_range(2..95) / 100;
        moments.push(moment);
        let mut child = scan(folder.path());
        // Every other one is let come to its run first: on a busy machine most would die before it.
        while n % 2 == 1
            && child.try_wait().unwrap().is_none()
            && office.count("dunning.run WHERE state = 'running'").await == 0
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(moment / if n % 2 == 1 { 4 } else { 1 }).await;
        // It may have found the lock held, and ended by itself.
        let _ = child.kill();
        child.wait().unwrap();
    }
    scan_through(folder.path()).await;
    assert_eq!(office.lines(NOTICES).await, expected, "killed after {moments:?} of {whole:?}");
    let left = office.count("dunning.notice WHERE state NOT IN ('queued', 'cancelled')").await;
    assert_eq!(left, 0, "killed after {moments:?} of {whole:?}");
    let live = office
        .count("dunning.notice_item i JOIN dunning.notice n USING (notice_id) WHERE i.live AND n.state = 'cancelled'");
    assert_eq!(live.await, 0);
    assert!(office.count("dunning.run WHERE state = 'failed'").await > 0, "no scan was caught at work");
    office.verified().await;
}
