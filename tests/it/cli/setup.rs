//! Before anything works: usage, configuration, schema, database, relay.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;

use crate::support::command::Program;
use crate::support::postgres::Database;
use crate::support::shell::Office;

use super::shows;

#[tokio::test]
async fn the_version_is_told() {
    let program = Program::bare().await;
    let said = program.run(&["--version"]).await.done();
    assert_eq!(said, format!("dunningd {}\n", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn every_command_has_a_help() {
    let program = Program::bare().await;
    let help = program.run(&["--help"]).await.done();
    shows("help", &help);
    let commands = help.lines().filter_map(|line| {
        line.strip_prefix("  ")?
            .split_whitespace()
            .next()
            .filter(|_| line.as_bytes().get(2).is_some_and(u8::is_ascii_lowercase))
    });
    let mut count = 0;
    for command in commands {
        if command == "help" {
            continue;
        }
        let said = program.run(&[command, "--help"]).await;
        assert!(said.exit == 0 && said.out.contains("Usage: dunningd"), "{command}: {said:?}");
        count += 1;
    }
    assert!(count > 15, "{help}");
}

#[tokio::test]
async fn a_command_line_that_makes_no_sense_ends_with_2() {
    let program = Program::bare().await;
    for arguments in [
        &[][..],
        &["sacn"],
        &["scan", "--dry-run", "--deliver"],
        &["scan", "--as-of", "yesterday"],
        &["hold", "A1"],
        &["hold", "A1", "--reason", ""],
        &["import", "csv", "x.csv"],
        &["log", "forge"],
    ] {
        let said = program.run(arguments).await;
        assert_eq!((said.exit, said.out.as_str()), (2, ""), "{arguments:?}: {}", said.err);
    }
    let typo = program.run(&["explian"]).await.err;
    assert!(
        typo.starts_with("error: unrecognized subcommand 'explian'\n\n  tip: a similar subcommand exists: 'explain'"),
        "{typo}"
    );
}

#[tokio::test]
async fn init_writes_nothing_over_what_is_there() {
    let program = Program::bare().await;
    let config = program.config();
    let said = program.run(&["init", config.to_str().unwrap()]).await.failed(5);
    assert_eq!(said, format!("dunningd: {} is not empty; nothing was written\n", config.display()));
    let check = program.run(&["check"]).await.done();
    assert_eq!(
        program.settled(&check),
        "[FOLDER]/config is valid.\n  \
           letters    test: into files in [FOLDER]/config/mail; nobody receives them\n  \
           log        not signed: [log] names no key, so there are no checkpoints\n  \
           creditors  tre_aquiloni, trzy_latawce\n  \
           languages  en, it, pl, ru\n  \
           ladder     default: courtesy -3 (off), friendly +5, firm +14, call +21 (off), final +28, formal +42, handover +75\n  \
           templates  32 letters\n"
    );
}

#[tokio::test]
async fn three_mistakes_in_two_files_are_listed_at_once() {
    let program = Program::bare().await;
    program.replace("dunningd.toml", "max_connections = 12", "max_conections = 12");
    program.replace("dunningd.toml", "poll_seconds = 60", "poll_seconds = 0");
    program.replace("policy.toml", "rows_in_letter = 10", "rows_in_letter = \"ten\"");
    let said = program.run(&["check"]).await.failed(78);
    shows("three_mistakes", &program.settled(&said));
    // Whatever was asked for, the same is said, and nothing is done.
    for arguments in [&["status"][..], &["scan"], &["run"], &["migrate"], &["explain", "A1"]] {
        assert_eq!(program.run(arguments).await.failed(78), said);
    }
    let json = program.run(&["check", "--json"]).await;
    assert_eq!((json.exit, json.err.as_str()), (78, ""));
    let value: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(value["exit"], 78);
    assert_eq!(value["detail"]["config"].as_array().unwrap().len(), 3, "{value}");
}

#[tokio::test]
async fn check_names_the_letters_that_no_bank_account_of_a_currency_could_ask_for() {
    let program = Program::bare().await;
    program.replace("creditors.toml", "[creditor.bank.GBP]", "[creditor.bank.JPY]");
    program.replace("policy.toml", "[rates]\n", "[rates]\nJPY = \"0.006\"\n");
    let said = program.run(&["check"]).await.done();
    let warning = "warning: no letter in JPY could be written: templates/formal/pl.md:";
    assert_eq!(said.matches("warning: no letter").count(), 1, "{said}");
    assert!(said.contains(warning) && said.contains("there are no words for an amount in JPY"), "{said}");
    let json = program.run(&["check", "--json"]).await.done();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["unwritable"].as_array().unwrap().len(), 1, "{value}");
}

#[tokio::test]
async fn a_configuration_without_its_templates_sends_no_others_in_their_place() {
    let program = Program::bare().await;
    let templates = program.config().join("templates");
    let elsewhere = program.path("letters");
    std::fs::rename(&templates, &elsewhere).unwrap();
    let words = "templates/: there is no folder templates/ beside dunningd.toml\n  hint: `dunningd init` writes one into a new \
                 folder: copy it from there";
    let refused = async || {
        for arguments in [&["check"][..], &["scan"], &["preview", "firm"]] {
            let said = program.run(arguments).await.failed(78);
            assert!(said.contains(words), "{said}");
        }
    };
    refused().await;
    std::os::unix::fs::symlink(program.path("nowhere"), &templates).unwrap();
    refused().await;
    std::fs::remove_file(&templates).unwrap();
    std::fs::write(&templates, "letters").unwrap();
    refused().await;
    std::fs::remove_file(&templates).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &templates).unwrap();
    program.run(&["check"]).await.done();
    // Without any configuration the letters that come with the program can be looked at.
    std::fs::remove_file(program.config().join("dunningd.toml")).unwrap();
    program.run(&["preview", "firm"]).await.done();
}

#[tokio::test]
async fn a_folder_without_a_configuration_says_how_to_get_one() {
    let program = Program::bare().await;
    std::fs::remove_dir_all(program.config()).unwrap();
    let said = program.run(&["check"]).await.failed(78);
    assert_eq!(said.matches("this file is missing: `dunningd init` writes a commented one").count(), 3, "{said}");
}

#[tokio::test]
async fn a_stage_without_its_letter_in_a_listed_language_is_refused() {
    let program = Program::bare().await;
    std::fs::remove_file(program.config().join("templates/firm/pl.md")).unwrap();
    let said = program.run(&["check"]).await.failed(78);
    shows("missing_language", &program.settled(&said));
}

#[tokio::test]
async fn an_unknown_variable_in_a_template_is_refused_at_load() {
    let program = Program::bare().await;
    program.replace("templates/firm/en.md", "{{ demands }}", "{{ demands }}\n\n{{ account.segmnt }}");
    let said = program.run(&["check"]).await.failed(78);
    assert_eq!(
        said,
        "dunningd: the configuration is refused, 1 finding; nothing was done\n\n\
         templates/firm/en.md:25:12: `account` has no `segmnt`\n25 | {{ account.segmnt }}\n   |            ^\n  \
           hint: known here: address, id, is_person, kind, name, tax_id\n"
    );
}

#[tokio::test]
async fn a_database_that_cannot_be_reached_is_69_and_told_by_its_reason() {
    let begun = std::time::Instant::now();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (url, place, reason) in [
        (
            "postgres:///dunningd?host=/nonexistent&user=dunningd_app".to_owned(),
            "/nonexistent, port 5432".to_owned(),
            "No such file or directory (os error 2)",
        ),
        (
            format!("postgres://dunningd_app@127.0.0.1:{nobody}/dunningd"),
            format!("127.0.0.1, port {nobody}"),
            "Connection refused (os error 111)",
        ),
    ] {
        let program = Program::bare().await.with("DATABASE__URL", &url).with("DATABASE__ADMIN_URL", &url);
        for arguments in [&["status"][..], &["scan"], &["run"], &["migrate"], &["log", "verify"], &["ledger", "check"]]
        {
            let said = program.run(arguments).await.failed(69);
            assert_eq!(
                said,
                format!(
                    "dunningd: the database dunningd at {place}, cannot be reached: error communicating with database: {reason}; see \
                     [database] in dunningd.toml. Nothing was done.\n"
                ),
                "{arguments:?}"
            );
        }
    }
    assert!(begun.elapsed().as_secs() < 120, "a refusal is not waited for");
}

#[tokio::test]
async fn a_database_or_role_that_does_not_exist_is_69() {
    let database = Database::new().await;
    let url = database.url("dunningd_app").replace(&database.name, "nowhere");
    let said = Program::bare().await.with("DATABASE__URL", &url).run(&["status"]).await.failed(69);
    assert!(said.contains("database \"nowhere\" does not exist"), "{said}");
    let url = database.url("nobody_at_all");
    let said = Program::bare().await.with("DATABASE__URL", &url).run(&["status"]).await.failed(69);
    assert!(said.contains("role \"nobody_at_all\" does not exist"), "{said}");
}

#[tokio::test]
async fn a_schema_that_is_behind_is_78_with_the_command_to_run() {
    let office = Office::new().await;
    office.sql("DROP SCHEMA dunning CASCADE").await;
    let program = Program::new(&office.database, 25).await;
    let migrations = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap().count();
    for arguments in [&["status"][..], &["scan"], &["run"], &["log", "show"]] {
        let said = program.run(arguments).await.failed(78);
        let behind = format!("the database schema is behind by {migrations} migrations");
        assert_eq!(said, format!("dunningd: {behind}; run `dunningd migrate`\n"));
    }
    assert_eq!(
        program.run(&["migrate"]).await.done(),
        format!(
            "{migrations} migrations applied.\nThis database may send from this machine; a copy of it, or another machine, \
             needs `dunningd adopt`.\n"
        )
    );
    assert_eq!(program.run(&["migrate"]).await.done(), "The schema is current.\n");
    program.run(&["status"]).await.done();
    // As after a restore without its grants.
    office.sql("REVOKE USAGE ON SCHEMA dunning FROM dunningd_app").await;
    let said = program.run(&["status"]).await.failed(78);
    assert!(said.starts_with("dunningd: this role may not use the database's schema dunning: "), "{said}");
}

#[tokio::test]
async fn a_schema_from_the_future_is_78() {
    let office = Office::new().await;
    office
        .sql("INSERT INTO dunning.migration SELECT 9999, 'later', now(), true, checksum, 0 FROM dunning.migration LIMIT 1")
        .await;
    let program = Program::new(&office.database, 25).await;
    let said = program.run(&["status"]).await.failed(78);
    assert_eq!(
        said,
        "dunningd: the database schema is newer than this program; install the version that migrated it, or a newer one\n"
    );
}

#[tokio::test]
async fn a_database_that_does_not_answer_is_named_with_what_to_do() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let url = format!("postgres://dunningd_app@127.0.0.1:{port}/dunning");
    let said = Program::bare().await.with("DATABASE__URL", &url).run(&["status"]).await.failed(69);
    assert_eq!(
        said,
        format!(
            "dunningd: the database dunning at 127.0.0.1, port {port}, did not answer within 10 seconds: see whether it \
             runs there and lets this machine in, and [database] in dunningd.toml. Nothing was done.\n"
        )
    );
}

#[tokio::test]
async fn completions_and_the_manual_page_are_printed() {
    let program = Program::bare().await;
    assert!(program.run(&["completions", "bash"]).await.done().contains("_dunningd"));
    assert!(program.run(&["man"]).await.done().contains(".TH dunningd"));
}

#[tokio::test]
async fn nobody_waits_for_a_pipe_in_the_place_of_a_file() {
    let pipe = |path: &Path| {
        drop(fs::remove_file(path));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR).unwrap();
    };
    let refused = async |program: &Program, why: &str| {
        let said = timeout(Duration::from_secs(20), program.run(&["check"])).await.unwrap_or_else(|_| panic!("{why}"));
        let said = said.failed(78);
        assert!(said.contains("it is a named pipe, not a file"), "{why}: {said}");
    };
    let files = ["dunningd.toml", "conf.d/local.toml", "policy.toml", "creditors.toml", "calendars/it.csv"];
    for file in files.into_iter().chain(["templates/firm/it.md"]) {
        let program = Program::bare().await;
        pipe(&program.config().join(file));
        refused(&program, file).await;
    }
    let program = Program::bare().await;
    pipe(&program.path("password"));
    let named = "# password_file = \"/etc/dunningd/database.password\"";
    program.replace("dunningd.toml", named, "password_file = \"../password\"");
    refused(&program, "password_file").await;
}

#[tokio::test]
async fn whoever_stops_reading_ends_a_command_in_peace() {
    let program = Program::bare().await;
    for arguments in [
        &["completions", "bash"][..],
        &["completions", "zsh"],
        &["completions", "fish"],
        &["man"],
        &["--help"],
        &["scan", "--help"],
        &["--version"],
        &["check"],
        &["check", "--json"],
        &["template", "list"],
        &["template", "vars"],
        &["preview", "friendly"],
        &["preview", "friendly", "--json"],
        &["ledger", "contract"],
    ] {
        assert_eq!(program.unread(arguments).await, (0, String::new()), "{arguments:?}");
    }
}
