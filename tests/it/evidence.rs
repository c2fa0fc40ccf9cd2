//! What strangers are given: checkpoints, exports, proofs and dossiers, checked by this program and by docs/verify.py.

#![expect(clippy::unwrap_used, reason = "what tests call fails like a test")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use dunningd::daemon;
use dunningd::model::{CheckpointKey, Edge, chain_hash, leaf_hash};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::log::{busy, program};
use crate::support::command::{Program, write_secret};
use crate::support::shell::{Office, Setup};

pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// A busy log with a call and a note, a key that signs it, and the public key.
pub(super) async fn signed() -> (Office, Program, String) {
    let office = busy().await;
    let program = program(&office).await;
    let path = program.path("log.key").to_str().unwrap().to_owned();
    let said = program.run(&["log", "keygen", "--origin", "example.com/dunning", "--out", &path]).await.done();
    let key = said.lines().next().unwrap().to_owned();
    let program = program.with("LOG__SIGNING_KEY_FILE", &path);
    program.run(&["call", "A01", "--outcome", "no_answer", "--note", "Segreteria della sig.ra Conti"]).await.done();
    program.run(&["note", "A02", "La sig.ra Bruni paga il lunedì"]).await.done();
    (office, program, key)
}

pub(super) fn read_folder(folder: &Path, prefix: &str, files: &mut Files) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.path().is_dir() {
            read_folder(&entry.path(), &format!("{name}/"), files);
        } else {
            files.insert(name, fs::read(entry.path()).unwrap());
        }
    }
}

pub(super) async fn export(program: &Program, name: &str) -> Files {
    let folder = program.path(name);
    program.run(&["log", "export", folder.to_str().unwrap()]).await.done();
    let mut files = Files::new();
    read_folder(&folder, "", &mut files);
    files
}

pub(super) async fn dossier(program: &Program, account: &str, name: &str) -> Files {
    let path = program.path(name);
    program.run(&["dossier", account, "--out", path.to_str().unwrap()]).await.done();
    let mut packed = zip::ZipArchive::new(Cursor::new(fs::read(path).unwrap())).unwrap();
    (0..packed.len())
        .map(|index| {
            let mut file = packed.by_index(index).unwrap();
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).unwrap();
            (file.name().unwrap().into_owned(), bytes)
        })
        .collect()
}

fn run(command: &mut Command) -> (bool, String) {
    let ended = command.output().unwrap();
    let said = String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap();
    (ended.status.success(), said)
}

/// What docs/verify.py says, where there is a Python with the package that it needs.
fn script(arguments: &[&str]) -> Option<(bool, String)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/verify.py");
    let needed = ["-c", "import cryptography"];
    let python = Command::new("python3").args(needed).output().is_ok_and(|said| said.status.success());
    if !python {
        println!("python3 with its package cryptography is not installed: docs/verify.py was not run");
    }
    python.then(|| run(Command::new("python3").arg(script).args(arguments)))
}

/// What this program says about those files, and what docs/verify.py says where it can run.
fn verdicts(files: &Files, key: Option<&str>) -> ((bool, String), Option<(bool, String)>) {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let mut ours = Command::new(env!("CARGO_BIN_EXE_dunningd"));
    ours.env_clear().args(["log", "verify", "--from"]).arg(folder.path());
    ours.args(key.iter().flat_map(|key| ["--key", key]));
    let path = folder.path().to_str().unwrap();
    (run(&mut ours), script(&[&[path][..], key.as_slice()].concat()))
}

#[track_caller]
pub(super) fn accepted(files: &Files, key: &str) -> String {
    let ((ours, said), theirs) = verdicts(files, Some(key));
    assert!(ours, "{said}");
    if let Some((theirs, told)) = theirs {
        assert!(theirs && told.starts_with("holds together: "), "{told}");
    }
    said
}

#[track_caller]
pub(super) fn rejected(what: &str, files: &Files, key: &str) {
    let ((ours, said), theirs) = verdicts(files, Some(key));
    assert!(!ours && said.starts_with("dunningd: "), "{what}: {said}");
    if let Some((theirs, told)) = theirs {
        assert!(!theirs && told.starts_with("REJECTED: "), "{what}: {told}");
    }
}

pub(super) fn text<'a>(files: &'a Files, name: &str) -> &'a str {
    std::str::from_utf8(&files[name]).unwrap()
}

pub(super) fn edit(files: &mut Files, name: &str, change: impl FnOnce(String) -> String) {
    let before = text(files, name).to_owned();
    let after = change(before.clone());
    assert_ne!(before, after, "{name} was not changed");
    files.insert(name.to_owned(), after.into_bytes());
}

/// The first file whose name begins like that.
fn first(files: &Files, prefix: &str) -> String {
    files.keys().find(|name| name.starts_with(prefix)).unwrap().clone()
}

/// The log with a text replaced, its hashes and the chain made to fit.
fn recomputed(events: &str, old: &str, new: &str) -> String {
    let mut head = [0; 32];
    let mut out = String::new();
    for line in events.lines() {
        let mut line: Value = serde_json::from_str(line).unwrap();
        let bytes = BASE64_STANDARD.decode(line["bytes"].as_str().unwrap()).unwrap();
        let bytes = String::from_utf8(bytes).unwrap().replace(old, new).into_bytes();
        let leaf = leaf_hash(&bytes);
        head = chain_hash(head, leaf);
        line["bytes"] = BASE64_STANDARD.encode(&bytes).into();
        line["leaf"] = hex::encode(leaf).into();
        line["chain"] = hex::encode(head).into();
        out += &line.to_string();
        out.push('\n');
    }
    out
}

/// The checkpoint of that log by a key of the same name that somebody else made.
fn forged(events: &str) -> (CheckpointKey, String) {
    let key = CheckpointKey::new("example.com/dunning", [5; 32]).unwrap();
    let mut edge = Edge::default();
    for line in events.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        edge.push(hex::decode(line["leaf"].as_str().unwrap()).unwrap().try_into().unwrap());
    }
    let note = key.sign(edge.size(), edge.root());
    (key, note)
}

/// Lines of a text without those that hold a word.
fn without(text: &str, word: &str) -> String {
    text.lines().filter(|line| !line.contains(word)).fold(String::new(), |all, line| all + line + "\n")
}

type Mutation = Box<dyn Fn(&mut Files)>;

#[tokio::test]
async fn an_export_is_accepted_by_both_verifiers_and_every_mutation_is_rejected() {
    let (office, program, key) = signed().await;
    program.run(&["log", "anchor"]).await.done();
    program.run(&["note", "A03", "Richiamare"]).await.done();
    let first_size = office.verified().await - 1;
    let note = program.run(&["log", "anchor"]).await.done();
    let files = export(&program, "export").await;
    let said = accepted(&files, &key);
    let size = first_size + 1;
    for told in [
        format!(
            "2 checkpoints signed this very log, up to event {size}.\nTheir signatures hold under the given key.\n"
        ),
        "3 notes and 3 replies of relays are what the log commits to.\n".to_owned(),
    ] {
        assert!(said.contains(&told), "{said}");
    }
    assert_eq!(text(&files, &format!("checkpoints/{size}.txt")), note);
    let anchor = format!("checkpoints/{size}.txt");
    let message = first(&files, "messages/");
    let name = message.clone();
    let id = message.trim_start_matches("messages/").trim_end_matches(".eml").to_owned();
    let both = anchor.clone();
    let mutations: Vec<(&str, Mutation)> = vec![
        (
            "a byte of an event",
            Box::new(|files| edit(files, "events.ndjson", |all| all.replacen("eyJhdCI6I", "eyJhdCI7I", 1))),
        ),
        (
            "the tail cut off",
            Box::new(|files| {
                edit(files, "events.ndjson", |all| {
                    all.lines()
                        .rev()
                        .skip(1)
                        .collect::<Vec<_>>()
                        .into_iter()
                        .rev()
                        .fold(String::new(), |a, l| a + l + "\n")
                });
            }),
        ),
        (
            "the log rewritten and its chain recomputed",
            Box::new(|files| edit(files, "events.ndjson", |all| recomputed(&all, "Tessa", "Nessa"))),
        ),
        ("a message altered", Box::new(move |files| edit(files, &message, |all| all + "\r\n"))),
        ("a message taken out", Box::new(move |files| drop(files.remove(&name)))),
        (
            "a message not named any more",
            Box::new({
                let id = id.clone();
                move |files| edit(files, "messages.ndjson", |all| without(&all, &id))
            }),
        ),
        (
            "a message called erased that no event erased",
            Box::new(move |files| {
                edit(files, "messages.ndjson", |all| {
                    without(&all, &id) + &format!("{{\"notice\":\"{id}\",\"erased\":true}}\n")
                });
            }),
        ),
        (
            "a message that nothing names",
            Box::new(|files| drop(files.insert("messages/forged.eml".into(), b"Subject: forged\r\n\r\n".to_vec()))),
        ),
        (
            "a file that no export has",
            Box::new(|files| drop(files.insert("index.html".into(), b"<p>all paid</p>".to_vec()))),
        ),
        ("a note altered", Box::new(|files| edit(files, "notes.ndjson", |all| all.replace("lunedì", "martedì")))),
        (
            "what a relay answered altered",
            Box::new(|files| edit(files, "attempts.ndjson", |all| all.replace("is unknown", "is welcome"))),
        ),
        (
            "the code of a relay altered",
            Box::new(|files| edit(files, "attempts.ndjson", |all| all.replace("\"550\"", "\"250\""))),
        ),
        (
            "how an attempt without a reply ended altered",
            Box::new(|files| edit(files, "attempts.ndjson", |all| all.replace("\"unknown\"", "\"refused\""))),
        ),
        (
            "an event with a remark",
            Box::new(|files| edit(files, "events.ndjson", |all| all.replacen('{', "{\"remark\":\"x\",", 1))),
        ),
        (
            "a message with a remark",
            Box::new(|files| edit(files, "messages.ndjson", |all| all.replacen('{', "{\"remark\":\"x\",", 1))),
        ),
        (
            "a note with a remark",
            Box::new(|files| edit(files, "notes.ndjson", |all| all.replacen('{', "{\"remark\":null,", 1))),
        ),
        (
            "an attempt with a remark",
            Box::new(|files| edit(files, "attempts.ndjson", |all| all.replacen('{', "{\"remark\":\"x\",", 1))),
        ),
        (
            "the number of an attempt not as a text",
            Box::new(|files| edit(files, "attempts.ndjson", |all| all.replacen("\"number\":\"1\"", "\"number\":1", 1))),
        ),
        ("an attempt taken out", Box::new(|files| edit(files, "attempts.ndjson", |all| without(&all, "\"unknown\"")))),
        (
            "an attempt that no event knows",
            Box::new(|files| {
                edit(files, "attempts.ndjson", |all| {
                    let mut line: Value = serde_json::from_str(all.lines().next().unwrap()).unwrap();
                    line["attempt"] = "00000000-0000-7000-8000-000000000000".into();
                    line["reply_text"] = Value::Null;
                    format!("{all}{line}\n")
                });
            }),
        ),
        (
            "a checkpoint of another size",
            Box::new(move |files| {
                edit(files, &anchor, |note| note.replacen(&size.to_string(), &(size - 1).to_string(), 1));
            }),
        ),
        ("the checkpoints taken out", Box::new(|files| files.retain(|name, _| !name.starts_with("checkpoints/")))),
        (
            "everything rewritten and signed with another key",
            Box::new(move |files| {
                edit(files, "events.ndjson", |all| recomputed(&all, "Tessa", "Nessa"));
                let (key, note) = forged(text(files, "events.ndjson"));
                files.retain(|name, _| !name.starts_with("checkpoints/"));
                files.insert(both.clone(), note.into_bytes());
                files.insert("keys.txt".to_owned(), format!("{}\n", key.verifier()).into_bytes());
            }),
        ),
    ];
    for (what, mutate) in mutations {
        let mut files = files.clone();
        mutate(&mut files);
        rejected(what, &files, &key);
    }
}

fn manifest(files: &mut Files) {
    files.remove("MANIFEST.sha256");
    let lines = files.iter().map(|(name, bytes)| format!("{}  {name}\n", hex::encode(Sha256::digest(bytes))));
    let manifest = lines.collect::<String>();
    files.insert("MANIFEST.sha256".to_owned(), manifest.into_bytes());
}

#[tokio::test]
async fn a_dossier_is_accepted_by_both_verifiers_and_every_mutation_is_rejected() {
    let (_office, program, key) = signed().await;
    let files = dossier(&program, "A01", "case.zip").await;
    let said = accepted(&files, &key);
    assert!(said.contains("events of account A01 stand in the signed log of"), "{said}");
    // The same log gives the same bytes.
    dossier(&program, "A01", "again.zip").await;
    assert_eq!(fs::read(program.path("case.zip")).unwrap(), fs::read(program.path("again.zip")).unwrap());
    // The zip file itself is accepted as well.
    let case = program.path("case.zip").to_str().unwrap().to_owned();
    program.run(&["log", "verify", "--from", &case, "--key", &key]).await.done();
    // Two files with one name: some programs show the first, some the last.
    let mut packed = fs::read(&case).unwrap();
    let is_name = |at: &usize| {
        let head = |before: usize, mark: &[u8]| *at >= before && packed[at - before..].starts_with(mark);
        packed[*at..].starts_with(b"LIMITS.txt") && (head(30, b"PK\x03\x04") || head(46, b"PK\x01\x02"))
    };
    let places: Vec<usize> = (0..packed.len() - 10).filter(is_name).collect();
    assert_eq!(places.len(), 2, "the name stands before the file and in the directory");
    for at in places {
        packed[at..at + 10].copy_from_slice(b"index.html");
    }
    fs::write(program.path("twice.zip"), packed).unwrap();
    let twice = program.path("twice.zip").to_str().unwrap().to_owned();
    let said = program.run(&["log", "verify", "--from", &twice, "--key", &key]).await;
    assert!(said.exit != 0 && said.err.contains("a file stands in it twice"), "{}", said.err);
    assert!(script(&[&twice, &key]).is_none_or(|(theirs, _)| !theirs));
    // With a checkpoint that somebody kept, it has to be that one.
    let own = program.write("own.txt", text(&files, "checkpoint.txt"));
    program.run(&["note", "A01", "Dopo"]).await.done();
    let other = program.write("other.txt", &program.run(&["log", "anchor"]).await.done());
    for (kept, holds) in [(&own, true), (&other, false)] {
        let said = program.run(&["log", "verify", "--from", &case, "--key", &key, "--checkpoint", kept]).await;
        assert_eq!((said.exit == 0, said.err.contains("is not the checkpoint of this dossier")), (holds, !holds));
        if let Some((theirs, told)) = script(&[&case, &key, kept]) {
            assert_eq!(theirs, holds, "{told}");
        }
    }

    let page = text(&files, "index.html");
    for shown in ["Debitore A01", "FT I01", "5.1.1", "Segreteria della sig.ra Conti", "refused", "example.com/dunning"]
    {
        assert!(page.contains(shown), "{shown}\n{page}");
    }
    // Nothing about anybody else.
    for (name, bytes) in files.iter().filter(|(name, _)| !name.starts_with("texts/")) {
        let told = String::from_utf8_lossy(bytes);
        assert!(!["\"A02\"", "conti@a02.test", "FT I02", "Bruni"].iter().any(|other| told.contains(other)), "{name}");
    }
    let proof = |files: &mut Files, change: &dyn Fn(&mut Value)| {
        edit(files, "proof.json", |all| {
            let mut value: Value = serde_json::from_str(&all).unwrap();
            change(&mut value);
            value.to_string()
        });
    };
    let mutations: Vec<(&str, Mutation)> = vec![
        (
            "an event altered",
            Box::new(move |files| {
                proof(files, &|value| {
                    let bytes = BASE64_STANDARD.decode(value["events"][1]["bytes"].as_str().unwrap()).unwrap();
                    let altered = String::from_utf8(bytes).unwrap().replace("tester", "nobody");
                    value["events"][1]["bytes"] = BASE64_STANDARD.encode(altered).into();
                });
            }),
        ),
        (
            "a node of a proof altered",
            Box::new(move |files| {
                proof(files, &|value| value["events"][0]["proof"][0] = BASE64_STANDARD.encode([7; 32]).into());
            }),
        ),
        (
            "a proof cut short",
            Box::new(move |files| {
                proof(files, &|value| drop(value["events"][0]["proof"].as_array_mut().unwrap().pop()));
            }),
        ),
        (
            "an event under another number",
            Box::new(move |files| proof(files, &|value| value["events"][0]["seq"] = "2".into())),
        ),
        (
            "an event twice",
            Box::new(move |files| {
                proof(files, &|value| {
                    let events = value["events"].as_array_mut().unwrap();
                    events.push(events[0].clone());
                });
            }),
        ),
        (
            "an event of the proof with a remark",
            Box::new(move |files| proof(files, &|value| value["events"][0]["remark"] = "x".into())),
        ),
        ("a proof with a remark", Box::new(move |files| proof(files, &|value| value["remark"] = "x".into()))),
        ("another account", Box::new(move |files| proof(files, &|value| value["account"] = "A02".into()))),
        (
            "a checkpoint signed with another key",
            Box::new(move |files| {
                proof(files, &|value| {
                    let key = CheckpointKey::new("example.com/dunning", [5; 32]).unwrap();
                    let lines: Vec<String> = value["checkpoint"].as_str().unwrap().lines().map(str::to_owned).collect();
                    let root = BASE64_STANDARD.decode(&lines[2]).unwrap().try_into().unwrap();
                    value["checkpoint"] = key.sign(lines[1].parse().unwrap(), root).into();
                });
            }),
        ),
        (
            "a message altered",
            Box::new(|files| {
                let name = first(files, "messages/");
                edit(files, &name, |all| all + "\r\n");
            }),
        ),
        (
            "a note called erased",
            Box::new(|files| {
                edit(files, "notes.ndjson", |all| {
                    let line: Value = serde_json::from_str(all.trim()).unwrap();
                    format!("{{\"note\":{},\"erased\":true}}\n", line["note"])
                });
            }),
        ),
        (
            "what a relay answered taken out",
            Box::new(|files| {
                edit(files, "attempts.ndjson", |all| {
                    let mut line: Value = serde_json::from_str(all.trim()).unwrap();
                    line["reply_text"] = Value::Null;
                    format!("{line}\n")
                });
            }),
        ),
        (
            "another policy under its own hash",
            Box::new(|files| {
                let name = first(files, "texts/");
                let altered = [&files.remove(&name).unwrap()[..], b" "].concat();
                files.insert(format!("texts/{}.txt", hex::encode(Sha256::digest(&altered))), altered);
            }),
        ),
    ];
    for (what, mutate) in mutations {
        let mut files = files.clone();
        mutate(&mut files);
        manifest(&mut files);
        rejected(what, &files, &key);
    }
    let mut one_more = files.clone();
    one_more.insert("one_more.txt".to_owned(), b"x".to_vec());
    rejected("a file that the manifest does not list", &one_more, &key);
    let mut page = files.clone();
    edit(&mut page, "index.html", |all| all.replace("refused", "accepted"));
    rejected("the page altered", &page, &key);
}

#[tokio::test]
async fn a_dossier_tells_plans_causes_write_offs_and_contacts_and_no_word_that_was_erased() {
    let (_office, program, key) = signed().await;
    let agree = ["plan", "A01", "--currency", "EUR", "--parts", "2", "--every", "month", "--from", "2199-01-31"];
    program.run(&[&agree[..], &["--reason", "al telefono"]].concat()).await.done();
    let changed = ["--restructure", "1", "--tolerance", "5", "--on-missed", "all", "--reason", "non ce la fa"];
    program.run(&[&agree[..], &changed].concat()).await.done();
    program.run(&["plan", "A01", "--end", "--reason", "disdetto"]).await.done();
    let item = |command: &'static str| [command, "A01", "--item", "I01"];
    program.run(&[&item("cause")[..], &["--cause", "says_paid", "--reason", "lunedì"]].concat()).await.done();
    program.run(&[&item("cause")[..], &["--clear", "--reason", "trovato"]].concat()).await.done();
    program.run(&[&item("write-off")[..], &["--reason", "fallita"]].concat()).await.done();
    let add =
        ["contact", "A01", "--add", "--role", "dunning", "--email", "nuova@a01.test", "--phone", "+39 02 7755331"];
    program.run(&[&add[..], &["--name", "Bice Neri", "--reason", "dal sito"]].concat()).await.done();

    let files = dossier(&program, "A01", "case.zip").await;
    accepted(&files, &key);
    let index: Value = serde_json::from_str(text(&files, "index.json")).unwrap();
    let told = |index: &Value| -> Vec<String> {
        let lines = index["register"].as_array().unwrap().iter();
        let kinds = ["cause", "write_off", "contact"].map(Some);
        let lines = lines.filter(|line| kinds.contains(&line["kind"].as_str()));
        let parts =
            lines.map(|line| ["kind", "item", "words", "end_words"].map(|part| line[part].as_str().unwrap_or("-")));
        parts.map(|parts| parts.join(" | ")).collect()
    };
    assert_eq!(
        told(&index),
        [
            "cause | I01 | says_paid, lunedì | trovato",
            "write_off | I01 | fallita | -",
            "contact | - | own:1, dunning, Bice Neri, nuova@a01.test, +39 02 7755331, dal sito | -",
        ]
    );
    let plans: Vec<String> = index["plans"]
        .as_array()
        .unwrap()
        .iter()
        .map(|plan| {
            let parts = ["version", "tolerance_days", "on_missed", "items", "instalments", "words", "end_words"];
            parts.map(|part| plan[part].to_string()).join(" ")
        })
        .collect();
    let covers = r#"["I01: 100 EUR"] ["1: 50 EUR by 2199-01-31","2: 50 EUR by 2199-02-28"]"#;
    assert_eq!(
        plans,
        [
            format!(r#"1 0 "instalment" {covers} "al telefono" "non ce la fa""#),
            format!(r#"2 5 "all" {covers} "non ce la fa" "disdetto""#),
        ]
    );
    let page = text(&files, "index.html");
    for shown in ["1, version 2", "2: 50 EUR by 2199-02-28", "says_paid, lunedì", "fallita", "nuova@a01.test"] {
        assert!(page.contains(shown), "{shown}\n{page}");
    }
    // The calendars that the run decided by.
    let run = index["timeline"].as_array().unwrap().iter().find(|line| line["kind"] == "run_started");
    assert!(run.is_some() && files.keys().filter(|name| name.starts_with("texts/")).count() == 5, "{:?}", files.keys());

    program.run(&["contact", "A01", "--contact", "own:1", "--remove", "--reason", "cambiata"]).await.done();
    program.run(&["erase", "A01", "--reason", "richiesta dell'interessata"]).await.done();
    let files = dossier(&program, "A01", "after.zip").await;
    accepted(&files, &key);
    let index: Value = serde_json::from_str(text(&files, "index.json")).unwrap();
    assert_eq!(told(&index)[2], "contact | - | own:1, dunning, (erased), dal sito | cambiata");
    for (name, bytes) in &files {
        let all = String::from_utf8_lossy(bytes);
        assert!(!["Bice Neri", "nuova@a01.test", "7755331"].iter().any(|word| all.contains(word)), "{name}");
    }
}

#[tokio::test]
async fn a_hostile_name_is_only_a_text_on_the_page() {
    let (office, program, _) = signed().await;
    office.sql("UPDATE ledger.account SET name = '<script>alert(1)</script>' WHERE account_id = 'A01'").await;
    let files = dossier(&program, "A01", "case.zip").await;
    let page = text(&files, "index.html");
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script>"), "{page}");
}

#[tokio::test]
async fn a_proof_shows_one_account_and_that_the_log_only_grew() {
    let (_office, program, key) = signed().await;
    let old = program.run(&["log", "anchor"]).await.done();
    let kept = program.write("kept.txt", &old);
    program.run(&["note", "A01", "Ancora"]).await.done();
    let path = program.path("a01.proof").to_str().unwrap().to_owned();
    program.run(&["log", "prove", "A01", "--out", &path, "--since", &kept]).await.done();
    let said = program.run(&["log", "verify", "--proof", &path, "--key", &key, "--checkpoint", &kept]).await.done();
    assert!(said.contains("That log only grew since the checkpoint of"), "{said}");
    let shown: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let events: Vec<String> = shown["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| String::from_utf8(BASE64_STANDARD.decode(event["bytes"].as_str().unwrap()).unwrap()).unwrap())
        .collect();
    assert!(events.iter().any(|event| event.contains("\"account\":\"A01\"")), "{events:?}");
    assert!(events.iter().all(|event| !event.contains("A02")), "{events:?}");
    let nobody = program.path("nobody").to_str().unwrap().to_owned();
    let said = program.run(&["log", "prove", "A99", "--out", &nobody]).await.failed(4);
    assert_eq!(said, "dunningd: the log knows nothing about an account A99\n");

    let other = CheckpointKey::new("example.com/dunning", [1; 32]).unwrap();
    let said =
        program.run(&["log", "verify", "--proof", &path, "--key", &other.verifier().to_string()]).await.failed(6);
    assert!(said.contains("no signature of it holds under the given key"), "{said}");
    let said = program.run(&["log", "verify", "--proof", &path]).await.done();
    assert!(said.contains("Signatures were NOT checked against a key from elsewhere"), "{said}");
    let forged = program.write("forged.txt", &other.sign(3, [3; 32]));
    let since = program.path("since").to_str().unwrap().to_owned();
    program.run(&["log", "prove", "A01", "--out", &since, "--since", &forged]).await.done();
    program.run(&["log", "verify", "--proof", &since, "--key", &key]).await.failed(6);
}

#[tokio::test]
async fn without_a_key_nothing_is_signed_and_check_says_so() {
    let office = busy().await;
    let program = program(&office).await;
    let said = program.run(&["check"]).await.done();
    assert!(said.contains("not signed: [log] names no key, so there are no checkpoints\n"), "{said}");
    let said = program.run(&["log", "anchor"]).await.failed(78);
    assert!(said.contains("names no [log] signing_key_file"), "{said}");
    let path = program.write("log.key", "not a key\n");
    let program = program.with("LOG__SIGNING_KEY_FILE", &path);
    let said = program.run(&["check"]).await.failed(78);
    assert!(said.contains("a signing key as `dunningd log keygen` writes it") && !said.contains("not a key"), "{said}");
}

#[tokio::test]
async fn of_an_export_without_a_checkpoint_neither_verifier_says_that_signatures_were_checked() {
    let office = busy().await;
    let program = program(&office).await;
    let files = export(&program, "export").await;
    let ((holds, said), theirs) = verdicts(&files, None);
    assert!(holds, "{said}");
    let (summary, rest) = said.split_once('\n').unwrap();
    assert_eq!(
        rest,
        "4 messages are byte for byte what the log commits to.\n\
         0 notes and 3 replies of relays are what the log commits to.\n\
         There is no checkpoint, so there was no signature to check.\n\
         That nothing was cut off at the end shows in the head: compare it with one that you kept.\n"
    );
    let (_, head) = summary.split_once(" head ").unwrap();
    let events = text(&files, "events.ndjson").lines().count();
    assert_eq!(summary, format!("The log holds together: {events} events, no gap, head {head}"));
    if let Some((holds, told)) = theirs {
        let head = head.trim_end_matches('.');
        assert_eq!(
            told,
            format!(
                "holds together: {events} events, 0 checkpoints, head {head}\n\
                 there is no checkpoint, so there was no signature to check\n"
            )
        );
        assert!(holds);
    }
}

#[tokio::test]
async fn what_follows_the_last_checkpoint_is_told_to_be_signed_by_nobody() {
    let (_office, program, key) = signed().await;
    program.run(&["log", "anchor"]).await.done();
    let signed = accepted(&export(&program, "signed").await, &key);
    assert!(!signed.contains("by nobody"), "{signed}");
    program.run(&["note", "A03", "Richiamare"]).await.done();
    let said = accepted(&export(&program, "export").await, &key);
    assert!(said.contains("is signed by nobody yet.\n"), "{said}");
    let folder = program.path("export").to_str().unwrap().to_owned();
    if let Some((holds, told)) = script(&[&folder, &key]) {
        assert!(holds && told.contains(" are signed by nobody yet\n"), "{told}");
    }
}

#[tokio::test]
async fn a_log_whose_key_was_changed_is_checked_with_all_its_keys_and_with_no_fewer() {
    let (_office, program, old) = signed().await;
    let kept = program.write("kept.txt", &program.run(&["log", "anchor"]).await.done());
    let path = program.path("new.key").to_str().unwrap().to_owned();
    let said = program.run(&["log", "keygen", "--origin", "example.com/dunning", "--out", &path]).await.done();
    let new = said.lines().next().unwrap().to_owned();
    let program = program.with("LOG__SIGNING_KEY_FILE", &path);
    program.run(&["note", "A03", "Richiamare"]).await.done();
    let newest = program.run(&["log", "anchor"]).await.done();
    let files = export(&program, "export").await;
    let folder = program.path("export").to_str().unwrap().to_owned();
    assert_eq!(text(&files, "keys.txt").lines().count(), 2);

    let both = format!("{old} {new}");
    let ours = ["log", "verify", "--from", &folder, "--key", &old, "--key", &new, "--checkpoint", &kept];
    let said = program.run(&ours).await.done();
    assert!(said.contains("2 checkpoints signed this very log"), "{said}");
    program.run(&["log", "verify", "--key", &old, "--key", &new, "--checkpoint", &kept]).await.done();
    if let Some((holds, told)) = script(&[&folder, &both, &kept]) {
        assert!(holds && told.contains(" 2 checkpoints, ") && !told.contains("ONLY"), "{told}");
    }
    for one in [&old, &new] {
        rejected("one of two keys", &files, one);
    }
    // The new key's line is genuine, the old key's is not: whoever has both keys sees that somebody tried.
    let (_, line) = newest.rsplit_once("\n\n").unwrap();
    let (head, body) = line.trim_end().rsplit_once(' ').unwrap();
    let mut signature = BASE64_STANDARD.decode(body).unwrap();
    let id = old.split('+').nth(1).unwrap();
    signature[..4].copy_from_slice(&hex::decode(id).unwrap());
    let spoilt = format!("{newest}{head} {}\n", BASE64_STANDARD.encode(signature));
    let spoilt = program.write("spoilt.txt", &spoilt);
    let refused = ["log", "verify", "--from", &folder, "--key", &old, "--key", &new, "--checkpoint", &spoilt];
    let said = program.run(&refused).await.failed(6);
    assert!(said.contains("spoilt.txt: no signature of it holds"), "{said}");
    if let Some((holds, told)) = script(&[&folder, &both, &spoilt]) {
        assert!(!holds && told.starts_with("REJECTED: "), "{told}");
    }
}

#[tokio::test]
async fn without_a_key_both_verifiers_say_that_the_signature_of_a_kept_checkpoint_was_not_checked() {
    let (_office, program, key) = signed().await;
    let note = program.run(&["log", "anchor"]).await.done();
    export(&program, "export").await;
    let folder = program.path("export").to_str().unwrap().to_owned();
    let (text, line) = note.rsplit_once("\n\n").unwrap();
    let (head, _) = line.trim_end().rsplit_once(' ').unwrap();
    let junk = program.write("junk.txt", &format!("{text}\n\n{head} {}\n", BASE64_STANDARD.encode([7; 68])));
    let unchecked = "The signatures of the checkpoints that you gave with --checkpoint were NOT checked: give the public key \
                     with --key.\n";
    for place in [&["--from", &folder][..], &[]] {
        let verify = [&["log", "verify", "--checkpoint", &junk][..], place].concat();
        let said = program.run(&verify).await.done();
        assert!(said.contains(unchecked), "{said}");
        let json: Value =
            serde_json::from_str(&program.run(&[&verify[..], &["--json"]].concat()).await.done()).unwrap();
        assert_eq!(json["kept_signatures_checked"], false);
        let said = program.run(&[&verify[..], &["--key", &key]].concat()).await.failed(6);
        assert!(said.contains("junk.txt: no signature of it holds under the given key"), "{said}");
    }
    if let (Some((holds, told)), Some((holds_too, said))) =
        (script(&[&folder, "", &junk]), script(&[&folder, &key, &junk]))
    {
        let unchecked = "signatures of the checkpoints that you kept were NOT checked; give the public key\n";
        assert!(holds && told.ends_with(unchecked), "{told}");
        assert!(!holds_too && said.starts_with("REJECTED: "), "{said}");
    }
}

#[tokio::test]
async fn a_key_is_for_its_owner_alone_and_never_overwritten() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_office, program, key) = signed().await;
    let path = program.path("log.key");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let again = ["log", "keygen", "--origin", "example.com/dunning", "--out", path.to_str().unwrap()];
    assert!(program.run(&again).await.failed(5).contains("exists already: delete it or name another"));
    let said = program.run(&["check"]).await.done();
    assert!(said.contains(&format!("signed; public key {key}\n")), "{said}");
}

#[tokio::test]
async fn each_run_leaves_a_checkpoint_and_a_quiet_day_none() {
    let key = CheckpointKey::new("example.com/dunning", [4; 32]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.key");
    write_secret(&path, &key.secret_text());
    let office = Office::with(Setup::default().with("LOG__SIGNING_KEY_FILE", path.to_str().unwrap())).await;
    assert!(daemon::anchor_after_run(&office.shell).await.is_none());
    assert_eq!(office.count("dunning.checkpoint").await, 0);
    office.accounts(2).await;
    office.scan().await;
    assert!(daemon::anchor_after_run(&office.shell).await.is_none());
    let one = daemon::anchor(&office.shell).await.unwrap();
    assert_eq!(one.size, office.verified().await);
    assert_eq!(daemon::anchor(&office.shell).await.unwrap(), one);
    office.deliver().await;
    assert!(daemon::anchor(&office.shell).await.unwrap().size > one.size);
    assert_eq!(office.count("dunning.checkpoint").await, 2);
}

// --- the owner of the tables -------------------------------------------------------------------------------------------

/// Rewrites the log as its owner would: a name replaced, every leaf, the chain and the head recomputed.
const REWRITE: &str = "
    DO $$ DECLARE r record; head bytea := decode(repeat('00', 32), 'hex'); line bytea; leaf bytea; BEGIN
        FOR r IN SELECT * FROM dunning.event ORDER BY seq LOOP
            line := convert_to(replace(convert_from(r.bytes, 'UTF8'), 'Tessa', 'Nessa'), 'UTF8');
            leaf := sha256('\\x00'::bytea || line);
            head := sha256(head || leaf);
            UPDATE dunning.event SET bytes = line, leaf_hash = leaf, chain_hash = head WHERE seq = r.seq;
        END LOOP;
        UPDATE dunning.event_head SET chain_hash = head;
        UPDATE dunning.hold SET placed_by = replace(placed_by, 'Tessa', 'Nessa');
    END $$";

#[tokio::test]
async fn a_log_rewritten_by_its_owner_is_shown_by_checkpoints_and_not_signed() {
    let (office, program, key) = signed().await;
    let note = program.run(&["log", "anchor"]).await.done();
    let kept = program.write("kept.txt", &note);
    program.run(&["log", "verify", "--key", &key, "--checkpoint", &kept]).await.done();
    let size = office.verified().await;
    let honest = program.path("honest").to_str().unwrap().to_owned();
    program.run(&["log", "export", &honest]).await.done();
    office.sql(REWRITE).await;
    let said = program.run(&["log", "verify"]).await.failed(6);
    let contradicts = format!(
        "signed another log: between this event and event {size} at least one is not the one that was signed\n"
    );
    assert!(said.contains(": event 1: ") && said.ends_with(&contradicts), "{said}");
    program.run(&["note", "A01", "Dopo"]).await.done();
    let said = program.run(&["log", "anchor"]).await.failed(6);
    assert!(said.contains("so nothing was signed") && said.contains("the log was rewritten"), "{said}");
    assert_eq!(office.count("dunning.checkpoint").await, 1);
    // Whoever takes out the checkpoints as well is shown by the one that this machine has on its disk, and elsewhere by
    // the one that somebody kept.
    office.sql("DELETE FROM dunning.checkpoint").await;
    let said = program.run(&["log", "verify"]).await.failed(6);
    assert!(said.contains("state/checkpoint signed another log"), "{said}");
    let program = super::log::program(&office).await;
    program.run(&["log", "verify"]).await.done();
    let kept = program.write("kept.txt", &fs::read_to_string(&kept).unwrap());
    let said = program.run(&["log", "verify", "--checkpoint", &kept]).await.failed(6);
    assert!(said.contains("kept.txt signed another log"), "{said}");
    let rewritten = program.path("rewritten").to_str().unwrap().to_owned();
    program.run(&["log", "export", &rewritten]).await.done();
    if let (Some((holds, told)), Some((holds_too, said))) =
        (script(&[&honest, &key, &kept]), script(&[&rewritten, &key, &kept]))
    {
        assert!(holds && told.starts_with("holds together: "), "{told}");
        assert!(!holds_too && said.contains("a kept checkpoint signed another log"), "{said}");
    }
}

#[tokio::test]
async fn what_this_machine_signed_last_is_never_contradicted_until_a_person_accepts_the_database() {
    let (office, program, _) = signed().await;
    let note = program.run(&["log", "anchor"]).await.done();
    let size = office.verified().await;
    let file = program.path("state/checkpoint");
    assert_eq!(fs::read_to_string(&file).unwrap(), note);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    let refused = async |told: &str| {
        let said = program.run(&["log", "anchor"]).await.failed(6);
        let signed = format!("the log does not extend the one of {size} events that this machine signed last");
        assert!(said.contains(&signed) && said.contains(told) && said.contains("--accept-database"), "{said}");
        assert_eq!(office.count("dunning.checkpoint").await, 0);
        assert_eq!(fs::read_to_string(&file).unwrap(), note);
    };
    // The tail is cut off, with everything that the database says was signed.
    office.sql("CREATE TABLE public.events AS SELECT * FROM dunning.event").await;
    office
        .sql(format!(
            "DELETE FROM dunning.checkpoint; DELETE FROM dunning.event WHERE seq = {size};
             UPDATE dunning.event_head h SET seq = e.seq, chain_hash = e.chain_hash FROM dunning.event e
             WHERE e.seq = {size} - 1"
        ))
        .await;
    refused(&format!("event {size}: it is missing")).await;
    office
        .sql(format!(
            "INSERT INTO dunning.event SELECT * FROM public.events WHERE seq = {size};
             UPDATE dunning.event_head h SET seq = e.seq, chain_hash = e.chain_hash FROM dunning.event e
             WHERE e.seq = {size}"
        ))
        .await;
    // It is rewritten, and grows.
    office.sql(REWRITE).await;
    program.run(&["note", "A01", "Dopo"]).await.done();
    refused(&format!("event {size}: at least one event up to this one is not the one that was signed")).await;
    // Somebody else's checkpoint of it does not help.
    let events = program.path("rewritten").to_str().unwrap().to_owned();
    program.run(&["log", "export", &events]).await.done();
    let other = program.path("other.key").to_str().unwrap().to_owned();
    let stranger = super::log::program(&office).await.with("LOG__SIGNING_KEY_FILE", &other);
    program.run(&["log", "keygen", "--origin", "example.com/dunning", "--out", &other]).await.done();
    stranger.run(&["log", "anchor"]).await.done();
    let said = program.run(&["log", "anchor"]).await.failed(6);
    assert!(said.contains("that this machine signed last"), "{said}");
    office.sql("DELETE FROM dunning.checkpoint").await;

    program.run(&["scan", "--accept-database", "--reason", "riscritto da noi"]).await;
    let accepted = "SELECT convert_from(bytes, 'UTF8') FROM dunning.event WHERE kind = 'database_accepted'";
    let told = office.lines(accepted).await;
    assert!(told.len() == 1 && told[0].contains(&format!(r#""signed_events":"{size}""#)), "{told:?}");
    let note = program.run(&["log", "anchor"]).await.done();
    assert_eq!(fs::read_to_string(&file).unwrap(), note);

    fs::write(&file, "example.com/dunning\n").unwrap();
    let said = program.run(&["log", "anchor"]).await.failed(78);
    assert!(said.contains("state/checkpoint is not the checkpoint that was written there"), "{said}");
}

#[tokio::test]
async fn a_database_restored_from_yesterday_is_shown_by_a_kept_checkpoint() {
    let (office, program, key) = signed().await;
    let kept = program.write("kept.txt", &program.run(&["log", "anchor"]).await.done());
    let events = office.verified().await;
    // The last two events were a call and a note; their rows go with them.
    office
        .sql(format!(
            "DELETE FROM dunning.note_text; DELETE FROM dunning.note; DELETE FROM dunning.call;
             DELETE FROM dunning.event WHERE seq > {0}; DELETE FROM dunning.checkpoint;
             UPDATE dunning.event_head SET seq = {0}, chain_hash = (SELECT chain_hash FROM dunning.event WHERE seq = {0})",
            events - 2
        ))
        .await;
    let gone = format!("event {}: it is missing", events - 1);
    assert!(program.run(&["log", "verify"]).await.failed(6).contains(&gone), "this machine signed more");
    let elsewhere = super::log::program(&office).await;
    elsewhere.run(&["log", "verify"]).await.done();
    let said = elsewhere.run(&["log", "verify", "--key", &key, "--checkpoint", &kept]).await.failed(6);
    assert!(said.contains(&gone), "{said}");
}

#[tokio::test]
async fn an_export_must_extend_the_one_of_an_earlier_day() {
    let (_office, program, _) = signed().await;
    export(&program, "monday").await;
    program.run(&["note", "A01", "Martedì"]).await.done();
    export(&program, "tuesday").await;
    let (monday, tuesday) = (program.path("monday"), program.path("tuesday"));
    let (monday, tuesday) = (monday.to_str().unwrap(), tuesday.to_str().unwrap());
    let said = program.run(&["log", "verify", "--from", monday, "--against", tuesday]).await.done();
    assert!(said.ends_with("The later export extends it by 1 events; nothing before them differs.\n"), "{said}");
    let said = program.run(&["log", "verify", "--from", tuesday, "--against", monday]).await.failed(6);
    assert!(said.contains("its tail was cut off, or the two were swapped"), "{said}");
    let events = fs::read_to_string(program.path("monday").join("events.ndjson")).unwrap();
    let fork = program.write("fork.ndjson", &recomputed(&events, "Tessa", "Nessa"));
    let said = program.run(&["log", "verify", "--from", &fork, "--against", tuesday]).await.failed(6);
    assert!(said.contains("event 1: the two logs part here"), "{said}");
}

#[tokio::test]
async fn a_message_or_note_altered_or_taken_out_of_the_database_is_named() {
    let (office, program, _) = signed().await;
    program.run(&["log", "verify"]).await.done();
    for (harm, told) in [
        ("UPDATE dunning.note_text SET body = 'x' WHERE note_id = 1", "its note was altered"),
        (
            "UPDATE dunning.note_text SET body = 'Segreteria della sig.ra Conti' WHERE note_id = 1;
          UPDATE dunning.attempt SET reply_text = 'ok' WHERE reply_code = 550",
            "the reply of its attempt was altered",
        ),
        ("DELETE FROM dunning.message", "its message is missing, and no event says that it was erased"),
    ] {
        office.sql(harm).await;
        let said = program.run(&["log", "verify"]).await.failed(6);
        assert!(said.contains(told), "{said}");
    }
}
