//! The contact log under attack: by the role that serves the daemon, by the owner of the tables, and by whoever gets
//! hold of an export.

#![expect(clippy::unwrap_used, reason = "what tests call fails like a test")]

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use dunningd::model::{Actor, Event, EventKind, Users, canonical, chain_hash, leaf_hash};
use dunningd::record;
use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::command::Program;
use crate::support::shell::{Office, Setup, day_plus};
use crate::support::smtp::{Phase, Reply};

#[test]
fn who_gave_a_command_is_told_by_the_kernel_and_by_sudo_only_where_nobody_is_but_by_sudo() {
    let (alice, bob, service) = (1001, 1002, 999);
    let check = |session, sudo, process, login| {
        let users = Users { session, sudo, process, service: Some(service) };
        assert_eq!(users.login(), login, "{users:?}");
    };
    check(Some(alice), None, alice, alice);
    check(Some(alice), None, service, alice);
    // What the kernel kept is not overwritten by a variable.
    check(Some(alice), Some(bob), service, alice);
    check(Some(alice), Some(bob), 0, alice);
    // No login began the session.
    check(None, Some(alice), service, alice);
    check(None, Some(alice), 0, alice);
    check(None, Some(bob), alice, alice);
    // The service itself.
    check(None, None, service, service);
    let elsewhere = Users { session: None, sudo: Some(bob), process: service, service: None };
    assert_eq!(elsewhere.login(), service);
}

/// A log with something of everything: contacts, a refusal, an unknown, a hold, a pause, tasks, a withdrawn item.
pub(super) async fn busy() -> Office {
    let mut office = Office::with(Setup::default().with("MAIL__CONNECTIONS", "1")).await;
    office.accounts(4).await;
    office.invoice("I98", "A04", 0, "10.50 EUR").await;
    office.scan().await;
    office.smtp.on_recipient(
        Phase::RcptTo,
        "conti@a01.test",
        Reply::code(550, "5.1.1 <conti@a01.test> Debitore A01 is unknown"),
    );
    office.smtp.on_recipient(Phase::Dot, "conti@a02.test", Reply::close());
    office.deliver().await;
    let account = dunningd::model::AccountId::parse("A03").unwrap();
    let mut connection = office.shell.pool.acquire().await.unwrap();
    let actor = &office.shell.actor;
    record::place_hold(&mut connection, &account, None, None, "reclamo", day_plus(0), actor).await.unwrap();
    record::pause(&mut connection, "verifica", actor).await.unwrap();
    record::resume(&mut connection, "verificato", actor).await.unwrap();
    drop(connection);
    office.go_to(day_plus(1)).await;
    office.sql("DELETE FROM ledger.item WHERE item_id = 'I98'").await;
    office.scan().await;
    office
}

pub(super) async fn program(office: &Office) -> Program {
    Program::new(&office.database, office.smtp.address.port()).await
}

async fn code_of(pool: &PgPool, statement: &str) -> String {
    let error = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(pool).await.unwrap_err();
    error.as_database_error().unwrap().code().unwrap().into_owned()
}

const INSUFFICIENT_PRIVILEGE: &str = "42501";

#[tokio::test]
async fn the_daemons_role_cannot_touch_what_is_written() {
    let office = busy().await;
    let before = office.verified().await;
    // A warning, and no right.
    sqlx::query("GRANT INSERT ON dunning.event TO dunningd_app").execute(&office.shell.pool).await.unwrap();
    for statement in [
        "INSERT INTO dunning.event VALUES (1000, '', '', '', 'paused', NULL, NULL, now())",
        "UPDATE dunning.event SET bytes = '' WHERE seq = 1",
        "DELETE FROM dunning.event WHERE seq = 1",
        "TRUNCATE dunning.event",
        "INSERT INTO dunning.event_head (only_row, seq, chain_hash) VALUES (true, 0, '')",
        "UPDATE dunning.event_head SET seq = 0",
        "DELETE FROM dunning.event_head",
        "TRUNCATE dunning.event_head",
        "SELECT * FROM dunning.event_head FOR UPDATE",
        "ALTER TABLE dunning.event ADD COLUMN x int",
        "DROP TABLE dunning.event",
        "CREATE TRIGGER t BEFORE INSERT ON dunning.event FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CREATE OR REPLACE FUNCTION dunning.append(events text[]) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'",
        "ALTER FUNCTION dunning.append(text[]) SECURITY INVOKER",
        "SET ROLE dunningd_owner",
        "SET SESSION AUTHORIZATION dunning",
        "SET session_replication_role = replica",
        "DELETE FROM dunning.notice",
        "DELETE FROM dunning.decision",
        "UPDATE dunning.decision SET code = 'contact'",
        "DELETE FROM dunning.run",
        "UPDATE dunning.message SET bytes = ''",
        "UPDATE dunning.text SET body = ''",
        "DELETE FROM dunning.known_item",
        "UPDATE dunning.checkpoint SET note = ''",
        "DELETE FROM dunning.checkpoint",
        "TRUNCATE dunning.checkpoint",
        "DELETE FROM dunning.message",
        "DELETE FROM dunning.note_text",
        "DELETE FROM dunning.legal_hold",
        "UPDATE dunning.legal_hold SET reason = ''",
        "UPDATE dunning.hold SET account_id = 'A01'",
        "UPDATE dunning.hold SET reason = '', placed_by = 'nobody'",
        "UPDATE dunning.attempt SET notice_id = notice_id",
        "UPDATE dunning.attempt SET started_at = now()",
        "UPDATE dunning.notice SET account_id = 'A01'",
        "UPDATE dunning.notice SET stage = 'final'",
        "UPDATE dunning.notice SET message_id = ''",
        "UPDATE dunning.notice SET recipient_key = ''",
        "UPDATE dunning.notice SET business_date = business_date + 1",
        "UPDATE dunning.notice SET fingerprint = ''",
        "UPDATE dunning.notice_item SET to_pay = 0",
        "UPDATE dunning.notice_item SET item_id = 'I99'",
        "UPDATE dunning.task SET subject = ''",
        "UPDATE dunning.task SET text = ''",
        "UPDATE dunning.run SET creditor = ''",
        "UPDATE dunning.run SET business_date = business_date + 1",
        "UPDATE dunning.debt_case SET opened_on = opened_on + 1",
        "ALTER TABLE dunning.event DISABLE TRIGGER ALL",
        "DROP FUNCTION dunning.erase",
    ] {
        assert_eq!(code_of(&office.shell.pool, statement).await, INSUFFICIENT_PRIVILEGE, "{statement}");
    }
    assert_eq!(office.verified().await, before);
}

#[tokio::test]
async fn an_auditor_reads_and_writes_nothing() {
    let office = busy().await;
    let auditor = office.database.pool("dunningd_auditor").await;
    let read: i64 = sqlx::query_scalar("SELECT count(*) FROM dunning.event").fetch_one(&auditor).await.unwrap();
    assert!(read > 0);
    for statement in
        ["SELECT dunning.append(ARRAY['{\"facts\":{},\"kind\":\"paused\"}'])", "UPDATE dunning.pause SET reason = 'x'"]
    {
        assert_eq!(code_of(&auditor, statement).await, INSUFFICIENT_PRIVILEGE, "{statement}");
    }
}

/// Appends a text as the daemon's role and returns the stored bytes.
async fn append(office: &Office, event: &str) -> Result<Value, String> {
    let appended: Result<i64, sqlx::Error> =
        sqlx::query_scalar("SELECT dunning.append(ARRAY[$1])").bind(event).fetch_one(&office.shell.pool).await;
    let seq = appended.map_err(|error| error.as_database_error().unwrap().message().to_owned())?;
    let bytes: Vec<u8> = sqlx::query_scalar("SELECT bytes FROM dunning.event WHERE seq = $1")
        .bind(seq)
        .fetch_one(&office.shell.pool)
        .await
        .unwrap();
    Ok(serde_json::from_slice(&bytes).unwrap())
}

#[tokio::test]
async fn neither_number_nor_time_nor_session_user_is_for_the_caller_to_choose() {
    let office = Office::new().await;
    let claimed =
        r#"{"at":"1999-01-01T00:00:00Z","facts":{"session_user":"nobody"},"kind":"paused","seq":"77","v":"9"}"#;
    let stored = append(&office, claimed).await.unwrap();
    assert_eq!(stored["seq"], "1");
    assert_eq!(stored["v"], "1");
    assert!(stored["at"].as_str().unwrap() > "2020");
    assert_eq!(stored["event"]["session_user"], "dunningd_app");
    for forged in [
        r#"{"facts":{},"kind":"paused","session_user":"dunningd_admin"}"#,
        r#"{"facts":{},"kind":"paused","session\u005fuser":"dunningd_admin"}"#,
        r#"{"facts":{},"kind":"paused"} "#,
        r#"{"kind":"paused"}"#,
        r#"{"facts":{}}"#,
        r#"[{"facts":{},"kind":"paused"}]"#,
    ] {
        assert_eq!(
            append(&office, forged).await.unwrap_err(),
            "an event is an object with kind and facts, and without session_user",
            "{forged}"
        );
    }
    // Breaking out of the object is no JSON any more.
    let out = append(&office, r#"{"facts":{},"kind":"paused"},"seq":"9","x":{}"#).await.unwrap_err();
    assert_eq!(out, "invalid input syntax for type json");
    let stored = append(&office, r#"{"facts":{},"kind":"paused"}"#).await.unwrap();
    assert_eq!(stored["seq"], "2", "what was refused left no gap");
    office.verified().await;
}

#[tokio::test]
async fn a_transaction_that_rolls_back_leaves_no_gap() {
    let office = Office::new().await;
    let event = Event::new(EventKind::Paused, office.shell.actor.clone(), json!({ "reason": "a" }));
    let mut transaction = office.shell.pool.begin().await.unwrap();
    assert_eq!(record::append(&mut transaction, std::slice::from_ref(&event)).await.unwrap(), 1);
    transaction.rollback().await.unwrap();
    let mut connection = office.shell.pool.acquire().await.unwrap();
    assert_eq!(record::append(&mut connection, &[event.clone(), event]).await.unwrap(), 2);
    assert_eq!(office.verified().await, 2);
}

#[tokio::test]
async fn appending_from_eight_connections_leaves_no_gap_and_no_fork() {
    let office = Office::new().await;
    let writers = (0..8).map(|writer| {
        let pool = office.shell.pool.clone();
        async move {
            let actor = Actor { os_user: "tester".into(), person: format!("writer {writer}") };
            for n in 0..25 {
                let event = Event::new(EventKind::Paused, actor.clone(), json!({ "reason": n }));
                let mut transaction = pool.begin().await.unwrap();
                record::append(&mut transaction, &[event.clone(), event]).await.unwrap();
                // Every fourth one is taken back.
                if n % 4 == 0 { transaction.rollback().await.unwrap() } else { transaction.commit().await.unwrap() }
            }
        }
    });
    join_all(writers).await;
    assert_eq!(office.verified().await, 8 * 18 * 2);
}

#[tokio::test]
async fn a_snapshot_that_could_fork_the_chain_is_refused() {
    let office = Office::new().await;
    let mut transaction = office.shell.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    let event = Event::new(EventKind::Paused, office.shell.actor.clone(), json!({}));
    let error = record::append(&mut transaction, &[event]).await.unwrap_err();
    assert_eq!(error.to_string(), "database: dunning.append needs READ COMMITTED (25001)");
}

#[tokio::test]
async fn stored_bytes_are_canonical_and_their_hashes_are_what_they_are_said_to_be() {
    let office = busy().await;
    let mut connection = office.shell.pool.acquire().await.unwrap();
    let events = record::event_lines(&mut connection, 0, None, i64::MAX).await.unwrap();
    let mut head = [0_u8; 32];
    for (n, event) in events.iter().enumerate() {
        let text = std::str::from_utf8(&event.bytes).unwrap();
        let value: Value = serde_json::from_str(text).unwrap();
        // Sorted keys, no white space, no bare number: canonical again gives the same bytes, but for the one key that
        // the database adds at the end.
        let (before, after) = text.split_once(r#","session_user":"dunningd_app"}"#).unwrap();
        let without = format!("{before}}}{after}");
        assert_eq!(canonical(&serde_json::from_str(&without).unwrap()), without);
        assert_no_number(&value);
        assert_eq!(value["seq"], (n + 1).to_string());
        assert_eq!(event.leaf_hash, leaf_hash(&event.bytes));
        head = chain_hash(head, leaf_hash(&event.bytes));
        assert_eq!(event.chain_hash, head);
    }
    assert!(events.len() > 20);
}

fn assert_no_number(value: &Value) {
    match value {
        Value::Number(number) => panic!("{number} is written as a number"),
        Value::Array(values) => values.iter().for_each(assert_no_number),
        Value::Object(object) => object.values().for_each(assert_no_number),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[tokio::test]
async fn no_event_names_a_debtor_an_address_or_what_a_relay_said() {
    let office = busy().await;
    let events = office.lines("SELECT convert_from(bytes, 'UTF8') FROM dunning.event").await.join("\n");
    for secret in ["Debitore", "Ada", "conti@", "a01.test", "5.1.1 ", "unknown\"", "2.0.0 Ok", "FT I01", "Sollecito"] {
        // The one allowed meeting: the kind `notice_unknown` is not what the relay said.
        let found = events.lines().find(|line| line.contains(secret) && !line.contains("notice_unknown"));
        assert_eq!(found, None, "{secret}");
    }
    // But it is proved what was said, to whoever has the words.
    assert!(events.contains("recipient_commitment") && events.contains("reply_commitment"));
}

// --- exports -----------------------------------------------------------------------------------------------------------

/// The lines of an export that verifies alone, without a database.
async fn exported(office: &Office, program: &Program) -> Vec<String> {
    let folder = program.path("export");
    let said = program.run(&["log", "export", folder.to_str().unwrap()]).await.done();
    let events = office.count("dunning.event").await;
    let messages = office.count("dunning.message").await;
    let file = folder.join("events.ndjson");
    assert_eq!(
        said,
        format!(
            "{events} events, {messages} messages and 0 checkpoints written into {}.\nAnybody can verify them: dunningd log verify --from {}\n",
            folder.display(),
            folder.display()
        )
    );
    std::fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
}

/// What `log verify` says about those lines, on a machine without a database or configuration.
async fn verdict(folder: &Path, lines: &[String]) -> (i32, String) {
    let path = folder.join("tampered.ndjson");
    std::fs::write(&path, lines.join("\n")).unwrap();
    let said = tokio::process::Command::new(env!("CARGO_BIN_EXE_dunningd"))
        .env_clear()
        .args(["log", "verify", "--from", path.to_str().unwrap()])
        .output()
        .await
        .unwrap();
    let text = if said.status.success() { said.stdout } else { said.stderr };
    (said.status.code().unwrap(), String::from_utf8(text).unwrap())
}

/// The export's line with its bytes changed, and with hashes that fit.
fn rewritten(line: &str, old: &str, new: &str, previous: &str) -> String {
    let mut value: Value = serde_json::from_str(line).unwrap();
    let bytes = BASE64_STANDARD.decode(value["bytes"].as_str().unwrap()).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.contains(old), "{text}");
    let bytes = text.replacen(old, new, 1).into_bytes();
    let previous: Value = serde_json::from_str(previous).unwrap();
    let before: [u8; 32] = hex::decode(previous["chain"].as_str().unwrap()).unwrap().try_into().unwrap();
    let leaf = leaf_hash(&bytes);
    value["bytes"] = BASE64_STANDARD.encode(&bytes).into();
    value["leaf"] = hex::encode(leaf).into();
    value["chain"] = hex::encode(chain_hash(before, leaf)).into();
    value.to_string()
}

#[tokio::test]
async fn the_messages_of_an_export_are_what_the_log_commits_to() {
    let office = busy().await;
    let program = program(&office).await;
    exported(&office, &program).await;
    let folder = program.path("export");
    let verify = async || program.run(&["log", "verify", "--from", folder.to_str().unwrap()]).await;
    let count = office.count("dunning.message").await;
    let said = verify().await.done();
    assert!(said.contains(&format!("{count} messages are byte for byte what the log commits to.\n")), "{said}");

    let message = std::fs::read_dir(folder.join("messages")).unwrap().next().unwrap().unwrap().path();
    let name = format!("messages/{}", message.file_name().unwrap().to_str().unwrap());
    let bytes = std::fs::read(&message).unwrap();
    std::fs::write(&message, [&bytes[..], b"\r\n"].concat()).unwrap();
    let said = verify().await.failed(6);
    assert!(said.ends_with(&format!("its message {name} was altered: the log commits to other bytes\n")), "{said}");
    std::fs::remove_file(&message).unwrap();
    let said = verify().await.failed(6);
    assert!(said.ends_with("its message is missing, and no event says that it was erased\n"), "{said}");

    std::fs::write(folder.join("events.ndjson"), "").unwrap();
    let said = verify().await.failed(6);
    assert!(said.contains("there is not a single event"), "{said}");
}

type Tamper = Box<dyn Fn(&mut Vec<String>)>;

#[tokio::test]
async fn an_export_verifies_alone_and_whatever_is_done_to_it_is_named() {
    let office = busy().await;
    let program = program(&office).await;
    let lines = exported(&office, &program).await;
    let count = lines.len();
    let folder = tempfile::tempdir().unwrap();
    let head: Value = serde_json::from_str(&lines[count - 1]).unwrap();
    let whole = format!(
        "The log holds together: {count} events, no gap, head {}.\n\
         There is no checkpoint, so there was no signature to check.\n\
         That nothing was cut off at the end shows in the head: compare it with one that you kept.\n",
        head["chain"].as_str().unwrap()
    );
    assert_eq!(verdict(folder.path(), &lines).await, (0, whole));

    let altered = "its bytes were altered: they do not give the leaf hash";
    let broken = "the chain breaks here: an event before it was altered, added, removed or moved";
    let edit = |n: usize, key: &'static str, value: String| -> Tamper {
        Box::new(move |lines| {
            let mut line: Value = serde_json::from_str(&lines[n - 1]).unwrap();
            line[key] = value.clone().into();
            lines[n - 1] = line.to_string();
        })
    };
    let cases: Vec<(&str, Tamper, u64, String)> = vec![
        (
            "a changed byte",
            Box::new(|lines| {
                let mut line: Value = serde_json::from_str(&lines[4]).unwrap();
                let mut bytes = BASE64_STANDARD.decode(line["bytes"].as_str().unwrap()).unwrap();
                bytes[30] ^= 1;
                line["bytes"] = BASE64_STANDARD.encode(bytes).into();
                lines[4] = line.to_string();
            }),
            5,
            altered.into(),
        ),
        ("a removed line", Box::new(|lines| drop(lines.remove(6))), 7, "number 7 is missing; the line says 8".into()),
        (
            "the first line removed",
            Box::new(|lines| drop(lines.remove(0))),
            1,
            "number 1 is missing; the line says 2".into(),
        ),
        ("swapped lines", Box::new(|lines| lines.swap(8, 9)), 9, "number 9 is missing; the line says 10".into()),
        (
            "a doubled line",
            Box::new(|lines| lines.insert(3, lines[2].clone())),
            4,
            "number 4 is missing; the line says 3".into(),
        ),
        (
            "the last line cut off in the middle",
            Box::new(|lines| {
                let last = lines.last_mut().unwrap();
                last.truncate(last.len() / 2);
            }),
            count as u64,
            "the line is not an exported event; it was altered or cut".into(),
        ),
        ("an edited number", edit(11, "seq", "12".into()), 11, "number 11 is missing; the line says 12".into()),
        (
            "a number written another way",
            edit(11, "seq", "011".into()),
            11,
            "number 11 is missing; the line says 011".into(),
        ),
        ("another chain hash", edit(12, "chain", "0".repeat(64)), 12, broken.into()),
        ("another leaf hash", edit(12, "leaf", "0".repeat(64)), 12, altered.into()),
        ("no base64", edit(2, "bytes", "***".into()), 2, "its bytes are not base64".into()),
        (
            "one more key",
            edit(2, "note", "seen".into()),
            2,
            "the line is not an exported event; it was altered or cut".into(),
        ),
        (
            "an event rewritten with hashes that fit",
            Box::new(|lines| lines[4] = rewritten(&lines[4], "tester", "nobody", &lines[3])),
            6,
            broken.into(),
        ),
        (
            "an event that carries another number inside",
            Box::new(|lines| lines[4] = rewritten(&lines[4], r#""seq":"5""#, r#""seq":"6""#, &lines[3])),
            5,
            "its bytes carry another number".into(),
        ),
    ];
    for (what, tamper, seq, expected) in cases {
        let mut lines = lines.clone();
        tamper(&mut lines);
        let said = format!("dunningd: the log does not hold together: event {seq}: {expected}\n");
        assert_eq!(verdict(folder.path(), &lines).await, (6, said), "{what}");
    }
}

#[tokio::test]
async fn an_export_never_overwrites_and_a_missing_one_is_named() {
    let office = busy().await;
    let program = program(&office).await;
    exported(&office, &program).await;
    let folder = program.path("export");
    let again = program.run(&["log", "export", folder.to_str().unwrap()]).await.failed(5);
    assert_eq!(again, format!("dunningd: {} is not empty; nothing was written\n", folder.display()));
    let missing = program.run(&["log", "verify", "--from", "nowhere.ndjson"]).await.failed(4);
    assert_eq!(missing, "dunningd: nowhere.ndjson: No such file or directory (os error 2)\n");
    // Every message stands beside the log exactly as it was frozen.
    let frozen: Vec<(String, Vec<u8>)> =
        sqlx::query_as("SELECT notice_id::text, bytes FROM dunning.message").fetch_all(&office.hand).await.unwrap();
    for (notice, bytes) in frozen {
        assert_eq!(std::fs::read(folder.join("messages").join(format!("{notice}.eml"))).unwrap(), bytes);
    }
}

// --- the owner of the tables -------------------------------------------------------------------------------------------

/// What `log verify` says after a superuser did that.
async fn after(office: &Office, program: &Program, statements: &str) -> String {
    office.sql(statements).await;
    program.run(&["log", "verify"]).await.failed(6)
}

#[tokio::test]
async fn an_event_edited_by_the_owner_is_named() {
    let office = busy().await;
    let program = program(&office).await;
    program.run(&["log", "verify"]).await.done();
    let said = after(
        &office,
        &program,
        "UPDATE dunning.event SET bytes = convert_to(replace(convert_from(bytes, 'UTF8'), 'Tessa', 'Nessa'), 'UTF8')
         WHERE seq = 4",
    )
    .await;
    assert_eq!(
        said,
        "dunningd: the log does not hold together: event 4: its bytes were altered: they do not give the leaf hash\n"
    );
    // With the leaf hash mended as well, the chain says it.
    let said =
        after(&office, &program, "UPDATE dunning.event SET leaf_hash = sha256('\\x00'::bytea || bytes) WHERE seq = 4")
            .await;
    assert_eq!(
        said,
        "dunningd: the log does not hold together: event 4: the chain breaks here: an event before it was altered, added, \
         removed or moved\n"
    );
}

#[tokio::test]
async fn an_event_taken_out_by_the_owner_is_named() {
    let office = busy().await;
    let program = program(&office).await;
    let said = after(&office, &program, "DELETE FROM dunning.event WHERE seq = 5").await;
    assert_eq!(said, "dunningd: the log does not hold together: event 5: number 5 is missing; the line says 6\n");
}

#[tokio::test]
async fn a_tail_cut_off_in_the_database_is_noticed() {
    let office = busy().await;
    let program = program(&office).await;
    let events = office.verified().await;
    let kept = events - 3;
    let said = after(&office, &program, &format!("DELETE FROM dunning.event WHERE seq > {kept}")).await;
    assert_eq!(
        said,
        format!("dunningd: the log ends at event {kept}, but its head is {events}: its tail was cut or altered\n")
    );
    // Whoever sets the head back too, is contradicted by the states of the notices.
    let said = after(
        &office,
        &program,
        "DELETE FROM dunning.event WHERE seq > 8;
         UPDATE dunning.event_head SET seq = 8, chain_hash = (SELECT chain_hash FROM dunning.event WHERE seq = 8)",
    )
    .await;
    assert!(
        said.starts_with("dunningd: the log holds together, but what stands beside it contradicts it:\nnotice "),
        "{said}"
    );
}

#[tokio::test]
async fn an_event_hidden_from_look_ups_is_named() {
    let office = busy().await;
    let program = program(&office).await;
    for (column, value) in
        [("account_id", "'A99'"), ("kind", "'paused'"), ("notice_id", "NULL"), ("at", "at - interval '1 day'")]
    {
        let kept = office.lines(format!("SELECT {column}::text FROM dunning.event WHERE seq = 3")).await;
        let said =
            after(&office, &program, &format!("UPDATE dunning.event SET {column} = {value} WHERE seq = 3")).await;
        assert_eq!(
            said, "dunningd: the log does not hold together: event 3: its columns for look-ups differ from its bytes\n",
            "{column}"
        );
        let kind = if column == "notice_id" {
            "uuid"
        } else if column == "at" {
            "timestamptz"
        } else {
            "text"
        };
        office.sql(format!("UPDATE dunning.event SET {column} = '{}'::{kind} WHERE seq = 3", kept[0])).await;
    }
    program.run(&["log", "verify"]).await.done();
}

#[tokio::test]
async fn a_notice_that_contradicts_its_last_event_is_named() {
    let office = busy().await;
    let program = program(&office).await;
    let refused = office.lines("SELECT notice_id::text FROM dunning.notice WHERE state = 'refused'").await.remove(0);
    let event =
        office.lines(format!("SELECT max(seq)::text FROM dunning.event WHERE notice_id = '{refused}'")).await.remove(0);
    let said = after(&office, &program, "UPDATE dunning.notice SET state = 'accepted' WHERE state = 'refused'").await;
    assert_eq!(
        said,
        format!(
            "dunningd: the log holds together, but what stands beside it contradicts it:\n\
             notice {refused} is accepted, but event {event} says notice_refused\n"
        )
    );
}

#[tokio::test]
async fn what_stands_beside_the_events_and_differs_from_them_is_named() {
    let office = busy().await;
    let program = program(&office).await;
    let contact = [
        "contact",
        "A03",
        "--add",
        "--role",
        "dunning",
        "--email",
        "ada@a03.test",
        "--phone",
        "+39 02 5550",
        "--reason",
        "al telefono",
    ];
    program.run(&contact).await.done();
    program.run(&["log", "verify"]).await.done();
    let unknown = "INSERT INTO dunning.attempt (attempt_id, notice_id, number, started_at, ended_at, outcome, phase)
                   SELECT gen_random_uuid(), notice_id, 9, now(), now(), 'accepted', 'dot' FROM dunning.notice
                   WHERE account_id = 'A03' LIMIT 1";
    for (harm, mend, told) in [
        (
            "UPDATE dunning.message SET recipient = 'x' || recipient",
            "UPDATE dunning.message SET recipient = substr(recipient, 2)",
            "the recipient of its message was altered: the log commits to another",
        ),
        (
            "UPDATE dunning.contact_data SET phone = '9' || phone",
            "UPDATE dunning.contact_data SET phone = substr(phone, 2)",
            "the data of its contact was altered: the log commits to other data",
        ),
        (
            "UPDATE dunning.text SET body = body || ' ' WHERE kind = 'ladder'",
            "UPDATE dunning.text SET body = left(body, -1) WHERE kind = 'ladder'",
            "was altered: its words have another hash",
        ),
        (
            "UPDATE dunning.attempt SET outcome = 'deferred' WHERE outcome = 'refused'",
            "UPDATE dunning.attempt SET outcome = 'refused' WHERE outcome = 'deferred'",
            "its attempt was altered: the log tells another notice, outcome, phase or code",
        ),
        // An outcome without a reply: the connection was closed.
        (
            "UPDATE dunning.attempt SET outcome = 'refused' WHERE outcome = 'unknown'",
            "UPDATE dunning.attempt SET outcome = 'unknown' WHERE reply_code IS NULL",
            "its attempt was altered: the log tells another notice, outcome, phase or code",
        ),
        (unknown, "DELETE FROM dunning.attempt WHERE number = 9", "the log knows no such end of attempt"),
        (
            "UPDATE dunning.notice SET message_id = 'x' || message_id",
            "UPDATE dunning.notice SET message_id = substr(message_id, 2)",
            "differs from what event",
        ),
        (
            "UPDATE dunning.notice_item SET to_pay = to_pay + 1",
            "UPDATE dunning.notice_item SET to_pay = to_pay - 1",
            "differs from what event",
        ),
        (
            "UPDATE dunning.notice SET accepted_on = accepted_on - 1 WHERE state = 'accepted'",
            "UPDATE dunning.notice SET accepted_on = accepted_on + 1 WHERE state = 'accepted'",
            "was accepted on",
        ),
    ] {
        let said = after(&office, &program, harm).await;
        assert!(said.contains(told), "{harm}: {said}");
        office.sql(mend).await;
        program.run(&["log", "verify"]).await.done();
    }
}

#[tokio::test]
async fn what_people_recorded_cannot_be_changed_added_or_taken_out_beside_the_log() {
    let office = Office::new().await;
    office.accounts(9).await;
    let program = program(&office).await;
    let why = ["--reason", "accordo telefonico"];
    for command in [
        "hold A01",
        "release A01",
        "hold A01 --item I01 --until 2099-01-31",
        "dispute A02 --item I02 --cause withholding",
        "dispute A02 --item I02 --resolved",
        "dispute A02 --item I02 --cause dispute",
        "cause A03 --cause cash_problem",
        "cause A03 --clear",
        "cause A03 --item I03 --cause not_received",
        "promise A04 --amount 10.00 --currency EUR --by-day 2099-01-31",
        "promise A04 --withdraw",
        "promise A04 --amount 10.5 --currency EUR --by-day 2099-02-28 --tolerance 3",
        "plan A05 --currency EUR --parts 2 --every month --from 2099-01-31",
        "plan A05 --restructure 1 --parts 4 --every quarter --from 2099-01-31 --on-missed all --tolerance 2",
        "plan A05 --end",
        "plan A05 --currency EUR --parts 3 --every month --from 2099-01-31",
        "waive A06 --item I06 --stage friendly",
        "write-off A07 --item I07",
        "write-off A07 --item I07 --undo",
        "write-off A07 --item I07",
        "handover A08 --to Rossi",
        "handover A08 --back",
        "handover A08 --to Bianchi",
        "contact A09 --add --role dunning --email ada@a09.test",
        "contact A09 --contact A09-1 --no-email",
        "contact A09 --contact A09-1 --remove",
        "contact A09 --contact A09-1 --no-email",
        "legal-hold A09",
        "legal-hold A09 --lift",
        "legal-hold A09",
        "pause",
    ] {
        let words: Vec<&str> = command.split(' ').chain(why).collect();
        program.run(&words).await.done();
    }
    program.run(&["call", "A09", "--outcome", "refuses"]).await.done();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("opening.csv");
    std::fs::write(&path, "item_id,stage,done_on,by\nI09,friendly,2026-03-01,Ada\n").unwrap();
    program.run(&["import", "opening", path.to_str().unwrap()]).await.done();
    program.run(&["log", "verify"]).await.done();
    let mut connection = office.shell.pool.acquire().await.unwrap();
    for (table, harms) in [
        (
            "hold",
            &[
                "UPDATE dunning.hold SET until = '2098-01-01' WHERE until IS NOT NULL",
                "UPDATE dunning.hold SET released_at = now(), released_by = 'x', release_reason = 'x' WHERE cause IS NULL",
                "UPDATE dunning.hold SET released_by = 'x' WHERE cause = 'withholding'",
                "UPDATE dunning.hold SET since = since - 1 WHERE cause = 'dispute'",
                "INSERT INTO dunning.hold (account_id, reason, since, placed_by) VALUES ('A06', 'x', '2026-01-01', 'x')",
            ][..],
        ),
        (
            "cause",
            &[
                "UPDATE dunning.cause SET cause = 'says_paid' WHERE cause = 'not_received'",
                "UPDATE dunning.cause SET cleared_at = NULL, cleared_by = NULL, cleared_reason = NULL
                 WHERE cause = 'cash_problem'",
            ],
        ),
        (
            "promise",
            &[
                "UPDATE dunning.promise SET amount = amount + 0.01 WHERE withdrawn_at IS NULL",
                "UPDATE dunning.promise SET by_day = by_day + 1 WHERE withdrawn_at IS NULL",
                "UPDATE dunning.promise SET tolerance_days = 0 WHERE withdrawn_at IS NULL",
                "UPDATE dunning.promise SET made_on = made_on - 1",
            ],
        ),
        ("promise_item", &["UPDATE dunning.promise_item SET open_then = open_then - 1"]),
        (
            "plan",
            &[
                "UPDATE dunning.plan SET on_missed = 'instalment' WHERE on_missed = 'all'",
                "UPDATE dunning.plan SET ended_on = ended_on - 1",
                "UPDATE dunning.plan SET ended_at = now(), ended_by = 'x', ended_reason = 'x' WHERE ended_at IS NULL",
                "UPDATE dunning.plan SET ended_at = NULL, ended_on = NULL, ended_by = NULL, ended_reason = NULL
                 WHERE version = 2",
            ],
        ),
        ("plan_item", &["DELETE FROM dunning.plan_item WHERE version = 2"]),
        (
            "plan_instalment",
            &[
                "UPDATE dunning.plan_instalment SET due_on = due_on + 1 WHERE number = 3",
                "UPDATE dunning.plan_instalment SET amount = amount + 1 WHERE number = 3",
            ],
        ),
        (
            "waiver",
            &[
                "UPDATE dunning.waiver SET stage = 'firm' WHERE item_id = 'I06'",
                "UPDATE dunning.waiver SET waived_on = waived_on - 1 WHERE item_id = 'I09'",
                "DELETE FROM dunning.waiver WHERE item_id = 'I06'",
            ],
        ),
        ("write_off", &["UPDATE dunning.write_off SET item_id = 'I06'", "DELETE FROM dunning.write_off"]),
        (
            "handover",
            &[
                "UPDATE dunning.handover SET handed_to = 'x' WHERE back_at IS NULL",
                "UPDATE dunning.handover SET back_at = now(), back_by = 'x', back_reason = 'x' WHERE back_at IS NULL",
            ],
        ),
        (
            "contact_entry",
            &[
                "UPDATE dunning.contact_entry SET no_email = false WHERE contact_id = 'A09-1'",
                "UPDATE dunning.contact_entry SET ended_at = now(), ended_by = 'x', ended_reason = 'x'
                 WHERE ended_at IS NULL",
            ],
        ),
        ("call", &["UPDATE dunning.call SET called_on = called_on - 1", "UPDATE dunning.call SET outcome = 'other'"]),
        (
            "legal_hold",
            &["UPDATE dunning.legal_hold SET lifted_at = now(), lifted_by = 'x', lift_reason = 'x'
                 WHERE lifted_at IS NULL"],
        ),
        ("pause", &["UPDATE dunning.pause SET reason = NULL, since = NULL, by_person = NULL"]),
    ] {
        for harm in harms {
            office.sql(&format!("CREATE TABLE public.kept AS TABLE dunning.{table}; {}", without_triggers(harm))).await;
            assert_ne!(record::verify_register(&mut connection).await.unwrap(), [""; 0], "{harm}");
            let mend = format!(
                "DELETE FROM dunning.{table};
                 INSERT INTO dunning.{table} OVERRIDING SYSTEM VALUE TABLE public.kept; DROP TABLE public.kept"
            );
            office.sql(&without_triggers(&mend)).await;
        }
    }
    program.run(&["log", "verify"]).await.done();
    let said = after(
        &office,
        &program,
        "UPDATE dunning.promise SET amount = 9 WHERE withdrawn_at IS NULL; DELETE FROM dunning.call;
         INSERT INTO dunning.write_off (creditor, account_id, item_id, reason, since, written_off_by)
         VALUES ('AC', 'A06', 'I06', 'x', '2026-01-01', 'x')",
    )
    .await;
    let last = "SELECT max(seq)::text FROM dunning.event WHERE kind IN ('promise_made', 'call_logged') GROUP BY kind ORDER BY 1";
    let events = office.lines(last).await;
    assert_eq!(
        said,
        format!(
            "dunningd: the log holds together, but what stands beside it contradicts it:\n\
             promise 2 differs from what event {} says of it\n\
             call 1 is not there, but event {} tells of it\n\
             write-off 3 stands there, but the log does not know it\n",
            events[0], events[1]
        )
    );
}

/// As a superuser does it who wants nothing to stand in his way.
fn without_triggers(statement: &str) -> String {
    format!("SET session_replication_role = replica; {statement}; SET session_replication_role = DEFAULT")
}

#[tokio::test]
async fn why_nobody_was_written_to_cannot_be_changed_afterwards() {
    let office = Office::new().await;
    office.accounts(2).await;
    office.invoice("I09", "A01", 2, "30.00 EUR").await;
    office.account("A03", "it", "conti@a03.test").await;
    assert_eq!(office.verdicts().await, ["A01 contact", "A02 contact", "A03 nothing_open"]);
    office.deliver().await;
    assert_eq!(office.verdicts().await, ["A01 before_first_stage", "A02 too_soon", "A03 nothing_open"]);
    let program = program(&office).await;
    program.run(&["log", "verify"]).await.done();
    office.sql("CREATE TABLE public.kept AS TABLE dunning.decision").await;
    for harm in [
        "UPDATE dunning.decision SET code = 'account_hold' WHERE account_id = 'A03'",
        "UPDATE dunning.decision SET next_date = '2027-01-01' WHERE account_id = 'A02' AND code = 'too_soon'",
        "DELETE FROM dunning.decision WHERE account_id = 'A03'",
        "INSERT INTO dunning.decision (run_id, creditor, account_id, business_date, kind, code, identity_sha256)
         SELECT run_id, creditor, 'A09', business_date, kind, code, '' FROM dunning.decision WHERE account_id = 'A03'",
    ] {
        let said = after(&office, &program, harm).await;
        assert!(said.contains("decisions of run ") && said.contains(" says of them"), "{harm}: {said}");
        office
            .sql("DELETE FROM dunning.decision; INSERT INTO dunning.decision OVERRIDING SYSTEM VALUE TABLE public.kept")
            .await;
    }
    program.run(&["log", "verify"]).await.done();
}

#[tokio::test]
async fn a_ladder_whose_words_were_altered_decides_nothing() {
    let office = busy().await;
    office.sql("UPDATE dunning.text SET body = replace(body, 'friendly', 'unfriendly') WHERE kind = 'ladder'").await;
    let error = office.scan_as(&Office::request()).await.unwrap_err().to_string();
    assert!(error.contains("table dunning.text, column sha256"), "{error}");
}

#[tokio::test]
async fn an_empty_log_is_whole() {
    let office = Office::new().await;
    let said = program(&office).await.run(&["log", "verify"]).await.done();
    let whole = format!("The log holds together: 0 events, no gap, head {}.\n", "0".repeat(64));
    assert!(said.starts_with(&whole), "{said}");
}
