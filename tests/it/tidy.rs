//! The rules of the house that no compiler knows: who may name whom, where the time, SQL and SMTP live, how long a file
//! may be, and that the documents name things that exist.

#![expect(clippy::unwrap_used, reason = "a file that cannot be read has failed the test")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms of `src` in reading order, and the rooms each may name. Their tests may name anything.
const ROOMS: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("files", &[]),
    ("model", &[]),
    ("decide", &["model"]),
    ("claim", &["model"]),
    ("ledger", &["clock", "files", "model"]),
    ("render", &["files", "model"]),
    ("deliver", &["clock", "files", "model"]),
    ("record", &["clock", "model"]),
    ("config", &["clock", "files", "model"]),
    ("daemon", &["clock", "files", "model", "decide", "claim", "ledger", "render", "deliver", "record", "config"]),
    ("demo", &["clock", "model", "decide", "claim", "ledger", "render", "deliver", "record", "config", "daemon"]),
    (
        "cli",
        &["clock", "model", "decide", "claim", "ledger", "render", "deliver", "record", "config", "daemon", "demo"],
    ),
    ("main", &["cli"]),
    ("lib", &[]),
];

/// What only some rooms may name. A pattern is a run of path segments, found anywhere in a path, or from its start when
/// it begins with `::`.
const ONLY: &[(&str, &[&str], &str)] = &[
    ("Utc::now", &["clock"], "only clock.rs asks the time"),
    ("Local::now", &["clock"], "only clock.rs asks the time"),
    ("SystemTime::now", &["clock"], "only clock.rs asks the time"),
    ("Uuid::now_v7", &["clock"], "only clock.rs makes ids"),
    ("Uuid::new_v4", &["clock"], "ids are version 7 and made by clock.rs"),
    ("::sqlx", &["ledger", "record", "daemon", "demo", "cli"], "the database is reached through `ledger` and `record`"),
    // Pools and transactions are handed through the shell; statements are not written there. A private cluster makes
    // its databases, which is no business of `record`.
    ("::sqlx::query", SQL, NO_SQL),
    ("::sqlx::query_as", SQL, NO_SQL),
    ("::sqlx::query_scalar", SQL, NO_SQL),
    ("::sqlx::query_with", SQL, NO_SQL),
    ("::sqlx::query_file", SQL, NO_SQL),
    ("::sqlx::raw_sql", SQL, NO_SQL),
    ("::sqlx::AssertSqlSafe", SQL, NO_SQL),
    ("::sqlx::QueryBuilder", SQL, NO_SQL),
    ("::sqlx::Executor", SQL, NO_SQL),
    ("::lettre", &["deliver"], "mail is built and sent in `deliver`"),
    ("::tera", &["render"], "templates belong to `render`"),
    ("::mrml", &["render"], "templates belong to `render`"),
    ("::pulldown_cmark", &["render"], "templates belong to `render`"),
    ("::tokio_cron_scheduler", &["daemon"], "the bell hangs in `daemon`"),
    ("::sd_notify", &["daemon"], "the service manager is the daemon's to talk to"),
    ("::clap", &["cli", "main"], "the command line ends in `cli`"),
    ("::tokio", IO, PURE),
    ("::tracing", IO, PURE),
    ("::std::env", IO, PURE),
    ("::std::fs", IO, PURE),
    ("::std::net", IO, PURE),
    ("::std::process", IO, PURE),
    ("Instant::now", IO, PURE),
];
const SQL: &[&str] = &["ledger", "record", "demo"];
const NO_SQL: &str = "SQL is written in `ledger` and `record`";
const IO: &[&str] = &["files", "ledger", "render", "deliver", "record", "config", "daemon", "demo", "cli", "main"];
const PURE: &str = "`model`, `decide` and `claim` are pure: values in, values out";

/// Macros by name, the rooms that may call them, and why.
const MACROS: &[(&str, &[&str], &str)] = &[
    ("dbg", &[], "left over from debugging"),
    ("todo", &[], "what is not there yet is not called"),
    ("unimplemented", &[], "what is not there yet is not called"),
    ("println", &["cli", "main", "demo"], "only commands print; the daemon logs"),
    ("print", &["cli", "main", "demo"], "only commands print; the daemon logs"),
    ("eprintln", &["cli", "main", "demo"], "only commands print; the daemon logs"),
    ("eprint", &["cli", "main", "demo"], "only commands print; the daemon logs"),
];

const SOURCE_LINES_MAX: usize = 800;
const ARCHITECTURE_LINES_MAX: usize = 150;
/// Documents that send the reader to files.
const MAPS: &[&str] = &["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md", "deploy/README.md"];
/// A word that starts like this is a path of this repository.
const ROOTS: &[&str] =
    &["src/", "tests/", "deploy/", "docs/", "migrations/", "benches/", "examples/", ".ci/", "config/"];
/// Never part of a committed file. Written in halves, so that this file may be one.
const LEAKS: &[(&str, &str)] = &[
    (concat!("/ho", "me/"), "a path of somebody's machine"),
    (concat!("/Us", "ers/"), "a path of somebody's machine"),
    (concat!("/ro", "ot/"), "a path of somebody's machine"),
    (concat!("/wo", "rk/"), "a path of somebody's machine"),
    (concat!("PRIVATE ", "KEY--"), "a private key"),
    (concat!("AKIA", "I"), "a cloud key"),
    (concat!("<<<<", "<<< "), "a merge that was not finished"),
];

#[test]
fn every_room_names_only_what_it_may() {
    assert_tidy(sources().iter().flat_map(|file| check_source(&file.room, &file.name, &file.text)));
}

#[test]
fn no_source_file_is_too_long() {
    let files = sources();
    assert!(files.len() > 10, "src has not been found");
    let long = files.iter().filter(|file| file.text.lines().count() > SOURCE_LINES_MAX);
    assert_tidy(long.map(|file| format!("{}: more than {SOURCE_LINES_MAX} lines; it holds two ideas", file.name)));
}

#[test]
fn no_test_holds_leftovers() {
    let mut files = Vec::new();
    walk(&root().join("tests"), &mut files);
    let rust = files.iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
    assert_tidy(rust.flat_map(|path| {
        let tokens = tokens(&fs::read_to_string(path).unwrap());
        check_macros("tests", &relative(path), &tokens, &MACROS[..3])
    }));
}

#[test]
fn documents_name_what_exists() {
    for map in MAPS {
        let text = fs::read_to_string(root().join(map)).unwrap_or_else(|error| panic!("{map}: {error}"));
        assert_tidy(dangling(map, &text, |path| root().join(path).exists()));
    }
}

#[test]
fn the_architecture_stays_short() {
    let lines = fs::read_to_string(root().join("ARCHITECTURE.md")).map_or(0, |text| text.lines().count());
    assert!(lines <= ARCHITECTURE_LINES_MAX, "ARCHITECTURE.md has {lines} lines; {ARCHITECTURE_LINES_MAX} get read");
}

#[test]
fn nothing_of_a_machine_or_a_secret_is_committed() {
    let mut files = Vec::new();
    for entry in fs::read_dir(root()).unwrap() {
        let path = entry.unwrap().path();
        let name = relative(&path);
        if path.is_dir() && ROOTS.contains(&format!("{name}/").as_str()) {
            walk(&path, &mut files);
        } else if path.is_file() && !name.starts_with('.') {
            files.push(path);
        }
    }
    // What is not text holds no such words.
    let texts = files.iter().filter_map(|path| Some((relative(path), fs::read_to_string(path).ok()?)));
    assert_tidy(texts.flat_map(|(name, text)| leaks(&name, &text)));
}

/// One file of `src`.
struct Source {
    room: String,
    name: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    let mut paths = Vec::new();
    walk(&src, &mut paths);
    let rust = paths.iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
    rust.map(|path| {
        let first = path.strip_prefix(&src).unwrap().iter().next().unwrap().to_string_lossy();
        let room = first.trim_end_matches(".rs").to_owned();
        Source { room, name: relative(path), text: fs::read_to_string(path).unwrap() }
    })
    .collect()
}

fn check_source(room: &str, name: &str, text: &str) -> Vec<String> {
    let Some((_, may_name)) = ROOMS.iter().find(|(known, _)| *known == room) else {
        return vec![format!(
            "{name}: room `{room}` is not in the table of tests/it/tidy.rs; say there whom it may name"
        )];
    };
    let all = tokens(text);
    let mut findings = check_macros(room, name, &all, MACROS);
    if is_test_file(name) {
        return findings;
    }
    for Named { line, path } in paths(&without_tests(&all)) {
        if let Some(other) = room_named(room, name, &path)
            && !may_name.contains(&other)
            && room != "lib"
        {
            let may = if may_name.is_empty() { "no other room".to_owned() } else { may_name.join(", ") };
            findings.push(format!("{name}:{line}: `{room}` names `{other}`, and may name {may}"));
        }
        for (pattern, rooms, why) in ONLY {
            if matches(&path, pattern) && !rooms.contains(&room) {
                findings.push(format!("{name}:{line}: `{}` in `{room}`: {why}", path.join("::")));
            }
        }
    }
    findings
}

fn check_macros(room: &str, name: &str, tokens: &[Token], rules: &[(&str, &[&str], &str)]) -> Vec<String> {
    // A test may print: it is shown when it fails.
    let quiet = without_tests(tokens);
    let calls = |tokens: &[Token], wanted: &str| -> Vec<usize> {
        tokens
            .windows(2)
            .filter(|pair| pair[0].text == wanted && pair[1].text == "!")
            .map(|pair| pair[0].line)
            .collect()
    };
    let mut findings = Vec::new();
    for (wanted, rooms, why) in rules {
        if !rooms.contains(&room) {
            let lines = calls(if rooms.is_empty() { tokens } else { &quiet }, wanted);
            findings.extend(lines.iter().map(|line| format!("{name}:{line}: {wanted}!: {why}")));
        }
    }
    findings
}

/// The room of this crate that a path leads to, unless it is the one the path stands in.
fn room_named(room: &str, name: &str, path: &[String]) -> Option<&'static str> {
    let supers = path.iter().take_while(|segment| *segment == "super").count();
    // src/clock.rs is one step below the root, src/decide/gates.rs two, and so is src/decide/mod.rs less one.
    let depth = name.split('/').count() - 1 - usize::from(name.ends_with("/mod.rs"));
    let target = match path.first()?.as_str() {
        "crate" => path.get(1)?,
        "dunningd" if room == "main" => path.get(1)?,
        "super" if supers >= depth => path.get(supers)?,
        _ => return None,
    };
    ROOMS.iter().map(|(known, _)| *known).find(|known| known == target && *known != room)
}

fn matches(path: &[String], pattern: &str) -> bool {
    if let Some(start) = pattern.strip_prefix("::") {
        let wanted: Vec<&str> = start.split("::").collect();
        return path.len() >= wanted.len() && path.iter().zip(&wanted).all(|(a, b)| a == b);
    }
    let wanted: Vec<&str> = pattern.split("::").collect();
    path.windows(wanted.len()).any(|run| run == wanted)
}

fn is_test_file(name: &str) -> bool {
    name.ends_with("/tests.rs") || name.contains("/tests/")
}

/// The words of a document that look like paths of this repository and lead nowhere.
fn dangling(document: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for word in line.split(|c: char| c.is_whitespace() || "`()[]\"',;|".contains(c)) {
            let word = word.trim_start_matches("./").trim_end_matches(['.', ':']);
            if !ROOTS.iter().any(|start| word.starts_with(start)) {
                continue;
            }
            // `calendars/*.csv` and `migrations/NNNN_name.sql` promise their folder.
            let vague = word.find(['*', '{', '<', '…']).or_else(|| word.find("NNN"));
            let promised = vague.map_or(word, |at| &word[..=word[..at].rfind('/').unwrap_or(0)]);
            let promised = promised.split('#').next().unwrap_or(promised);
            if !exists(promised) {
                findings.push(format!("{document}:{}: {word} does not exist", index + 1));
            }
        }
    }
    findings
}

fn leaks(name: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut say = |what: &str| findings.push(format!("{name}:{}: {what}", index + 1));
        for (word, what) in LEAKS {
            if line.contains(word) {
                say(what);
            }
        }
        let ours = name.starts_with("config/") || name.starts_with("deploy/");
        let settings = ours && Path::new(name).extension().is_some_and(|e| e == "toml");
        if settings && let Some((key, value)) = line.split_once('=') {
            let secret = ["password", "secret", "token"].iter().any(|word| key.trim().ends_with(word));
            if secret && !value.trim().trim_matches('"').is_empty() {
                say("a secret; name the file that holds it (…_file)");
            }
        }
    }
    findings
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    line: usize,
    text: String,
}

/// A path as written at one place, its groups and renames resolved.
#[derive(Debug, PartialEq, Eq)]
struct Named {
    line: usize,
    path: Vec<String>,
}

/// The words and signs of Rust source, without comments, strings, characters and lifetimes. `::` is one sign.
fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let (mut at, mut line, mut out) = (0, 1, Vec::new());
    let starts = |at: usize, what: &str| what.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c));
    let word = |c: &char| c.is_alphanumeric() || *c == '_';
    while let Some(&c) = chars.get(at) {
        let start = at;
        if starts(at, "//") {
            at += chars[at..].iter().take_while(|c| **c != '\n').count();
        } else if starts(at, "/*") {
            let mut depth = 0;
            while at < chars.len() {
                if starts(at, "/*") {
                    (depth, at) = (depth + 1, at + 2);
                } else if starts(at, "*/") {
                    (depth, at) = (depth - 1, at + 2);
                } else {
                    at += 1;
                }
                if depth == 0 {
                    break;
                }
            }
        } else if let Some(end) = raw_string_end(&chars, at) {
            at = end;
        } else if c == '"' {
            at += 1;
            while at < chars.len() && chars[at] != '"' {
                at += if chars[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if c == '\'' {
            // 'x' and '\n' are characters; 'a is a lifetime.
            at += match chars.get(at + 1) {
                Some('\\') => 3 + chars[(at + 3).min(chars.len())..].iter().take_while(|c| **c != '\'').count() + 1,
                Some(_) if chars.get(at + 2) == Some(&'\'') => 3,
                _ => 1 + chars[at + 1..].iter().take_while(|c| word(c)).count(),
            };
        } else if word(&c) {
            at += chars[at..].iter().take_while(|c| word(c)).count();
            out.push(Token { line, text: chars[start..at].iter().collect() });
        } else {
            at += if starts(at, "::") { 2 } else { 1 };
            if !c.is_whitespace() {
                out.push(Token { line, text: chars[start..at].iter().collect() });
            }
        }
        at = at.min(chars.len());
        line += chars[start..at].iter().filter(|c| **c == '\n').count();
    }
    out
}

/// Where the raw string that starts here ends: `r"…"`, `r#"…"#`, `br"…"`.
fn raw_string_end(chars: &[char], at: usize) -> Option<usize> {
    if at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_') {
        return None;
    }
    let prefix = chars[at..].iter().take_while(|c| "bcr".contains(**c)).count();
    let hashes = chars[at + prefix..].iter().take_while(|c| **c == '#').count();
    let open = at + prefix + hashes;
    if prefix == 0 || chars[at + prefix - 1] != 'r' || chars.get(open) != Some(&'"') {
        return None;
    }
    let closes =
        |i: usize| chars[i] == '"' && chars[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
    Some((open + 1..chars.len()).find(|i| closes(*i)).map_or(chars.len(), |i| i + 1 + hashes))
}

/// The tokens without the items marked `#[cfg(test)]`.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let marker = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut out = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let marked = tokens[at..].iter().map(|t| t.text.as_str()).take(marker.len()).eq(marker);
        if !marked {
            out.push(tokens[at].clone());
            at += 1;
            continue;
        }
        at += marker.len();
        let mut depth = 0_usize;
        while at < tokens.len() {
            match tokens[at].text.as_str() {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth = depth.saturating_sub(1),
                _ => {}
            }
            let text = tokens[at].text.as_str();
            at += 1;
            if depth == 0 && (text == ";" || text == "}") {
                break;
            }
        }
    }
    out
}

/// Every path in the tokens, `use a::{b, c::d}` as `a::b` and `a::c::d`. A name imported under another, or a crate
/// imported whole, is found where it is imported.
fn paths(tokens: &[Token]) -> Vec<Named> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let follows = at > 0 && [".", "::"].contains(&tokens[at - 1].text.as_str()) && tokens[at].text != "crate";
        if is_word(&tokens[at].text) && !follows {
            at = path_from(tokens, at, &[], &mut out);
        } else {
            at += 1;
        }
    }
    out
}

/// Reads one path or group from there, prefixed; returns where it ends.
fn path_from(tokens: &[Token], mut at: usize, prefix: &[String], out: &mut Vec<Named>) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |t| t.text.as_str());
    let line = tokens[at].line;
    let mut path = prefix.to_vec();
    while is_word(text(at)) {
        path.push(text(at).to_owned());
        at += 1;
        if text(at) != "::" {
            break;
        }
        if text(at + 1) == "{" {
            at += 2;
            while at < tokens.len() && text(at) != "}" {
                at = if is_word(text(at)) && text(at) != "as" { path_from(tokens, at, &path, out) } else { at + 1 };
                if text(at) == "as" {
                    at += 2;
                }
            }
            return at + 1;
        }
        at += 1;
    }
    out.push(Named { line, path });
    at
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() { walk(&path, files) } else { files.push(path) }
    }
}

fn assert_tidy(findings: impl IntoIterator<Item = String>) {
    let all = findings.into_iter().fold(String::new(), |mut all, finding| {
        let _ = write!(all, "\n  {finding}");
        all
    });
    assert!(all.is_empty(), "{all}\n");
}

/// The rules themselves, on samples that break them.
mod samples {
    use super::*;

    #[track_caller]
    fn check(name: &str, text: &str, expected: &[&str]) {
        let room = name.split('/').nth(1).unwrap().trim_end_matches(".rs").to_owned();
        assert_eq!(check_source(&room, name, text), expected);
    }

    #[test]
    fn a_sibling_is_found_however_it_is_named() {
        let told = |line: usize| format!("src/decide/gates.rs:{line}: `decide` names `ledger`, and may name model");
        let text = "use crate::model::Money;\nuse crate::{model::{Item, Day}, ledger as l};\nfn f() { crate::ledger::read() }\n\
                    use super::super::ledger::x;\nuse super::ledger::mine;\nuse crate::decide::ledger;\n";
        check("src/decide/gates.rs", text, &[&told(2), &told(3), &told(4)]);
        check(
            "src/clock.rs",
            "use super::model;",
            &["src/clock.rs:1: `clock` names `model`, and may name no other room"],
        );
        check("src/cli/run.rs", "use crate::{daemon, demo};", &[]);
        check(
            "src/main.rs",
            "fn main() { dunningd::daemon::run() }",
            &["src/main.rs:1: `main` names `daemon`, and may name cli"],
        );
        check(
            "src/daemon/scan.rs",
            "use crate::demo::Cluster;",
            &["src/daemon/scan.rs:1: `daemon` names `demo`, and may name \
             clock, files, model, decide, claim, ledger, render, deliver, record, config"],
        );
    }

    #[test]
    fn the_pure_rooms_touch_nothing() {
        let text =
            "use std::{fmt, fs};\nuse tracing::info;\nfn f() { let t = chrono::Utc::now(); std::env::var(\"A\"); }";
        check(
            "src/decide/mod.rs",
            text,
            &[
                "src/decide/mod.rs:1: `std::fs` in `decide`: `model`, `decide` and `claim` are pure: values in, values out",
                "src/decide/mod.rs:2: `tracing::info` in `decide`: `model`, `decide` and `claim` are pure: values in, values out",
                "src/decide/mod.rs:3: `chrono::Utc::now` in `decide`: only clock.rs asks the time",
                "src/decide/mod.rs:3: `std::env::var` in `decide`: `model`, `decide` and `claim` are pure: values in, values out",
            ],
        );
        check("src/ledger/mod.rs", "use std::fs; fn f() { tokio::spawn(x()) }", &[]);
    }

    #[test]
    fn sql_mail_and_templates_stay_in_their_rooms() {
        check(
            "src/daemon/scan.rs",
            "use sqlx::PgPool;\nfn f() { sqlx::query!(\"SELECT 1\") }",
            &["src/daemon/scan.rs:2: `sqlx::query` in `daemon`: SQL is written in `ledger` and `record`"],
        );
        check(
            "src/render/mod.rs",
            "use sqlx::PgPool;",
            &["src/render/mod.rs:1: `sqlx::PgPool` in `render`: the database is reached through `ledger` and `record`"],
        );
        check(
            "src/record/mod.rs",
            "use lettre::Message;\nuse tera::Tera;",
            &[
                "src/record/mod.rs:1: `lettre::Message` in `record`: mail is built and sent in `deliver`",
                "src/record/mod.rs:2: `tera::Tera` in `record`: templates belong to `render`",
            ],
        );
    }

    #[test]
    fn what_is_not_code_is_not_read() {
        let text = "// crate::ledger\n/* crate::ledger /* */ crate::ledger */\nconst A: &str = \"crate::ledger \\\" dbg!\";\n\
                    const B: &str = r#\"\" crate::ledger\"#;\nfn f<'a>(c: char) -> bool { c == '\"' || c == '\\'' || c == 'x' }\n\
                    #[cfg(test)]\nmod tests { use crate::ledger; fn g() { println!() } }\n\
                    #[cfg(test)]\nuse crate::ledger;\nuse crate::record::Row;\n";
        check("src/decide/mod.rs", text, &["src/decide/mod.rs:10: `decide` names `record`, and may name model"]);
    }

    #[test]
    fn leftovers_are_found_in_tests_too() {
        check(
            "src/model/mod.rs",
            "fn f() { println!() }\n#[cfg(test)] mod tests { fn g() { todo!(); println!() } }",
            &[
                "src/model/mod.rs:2: todo!: what is not there yet is not called",
                "src/model/mod.rs:1: println!: only commands print; the daemon logs",
            ],
        );
        check("src/cli/mod.rs", "fn f() { println!() }", &[]);
    }

    #[test]
    fn an_unknown_room_must_be_entered_in_the_table() {
        check(
            "src/attic/mod.rs",
            "",
            &["src/attic/mod.rs: room `attic` is not in the table of tests/it/tidy.rs; say there whom it may name"],
        );
    }

    #[test]
    fn a_path_that_leads_nowhere_is_found() {
        let text = "See `src/lib.rs`, (src/gone.rs) and\nmigrations/NNNN_name.sql, nowhere/*.csv, docs/*.md.";
        let there = ["src/lib.rs", "migrations/"];
        assert_eq!(
            dangling("A.md", text, |path| there.contains(&path)),
            ["A.md:1: src/gone.rs does not exist", "A.md:2: docs/*.md does not exist",]
        );
    }

    #[test]
    fn a_leak_is_found() {
        let text = format!("path = \"{}ann\"\npassword = \"x\"\npassword_file = \"x\"\ntoken = \"\"", LEAKS[0].0);
        assert_eq!(
            leaks("config/dunningd.toml", &text),
            [
                "config/dunningd.toml:1: a path of somebody's machine",
                "config/dunningd.toml:2: a secret; name the file that holds it (…_file)",
            ]
        );
        assert_eq!(leaks("src/lib.rs", "password = \"x\""), Vec::<String>::new());
    }
}
