//! The configuration as a specification: what is accepted, what is refused, and the exact words of a refusal.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use dunningd::config::{
    FindingCode, Findings, FreshnessRule, Loaded, Mail, Part, Secret, Security, Service, Source, load, load_from,
};
use dunningd::model::{
    BankAccount, Cause, CauseRule, CreditorId, Currency, Demands, EmailAddress, LadderName, OnUnknown, PartyKind,
    Policy, Retention, Tone,
};
use rust_decimal::Decimal;
use secrecy::ExposeSecret as _;

use crate::support::command::write_secret;

/// One change of a shipped file: the file, what is replaced, by what.
type Edit<'a> = (&'a str, &'a str, &'a str);

fn edited(edits: &[Edit<'_>]) -> Vec<Source> {
    let mut sources = Source::shipped();
    for (name, from, to) in edits {
        let holds = |source: &&mut Source| source.name == *name && source.text.contains(from);
        let Some(source) = sources.iter_mut().find(holds) else { panic!("{name} no longer holds {from:?}") };
        source.text = source.text.replacen(from, to, 1);
    }
    sources
}

fn variables(env: &[(&str, &str)]) -> Vec<(String, String)> {
    env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn read(edits: &[Edit<'_>], env: &[(&str, &str)]) -> Result<Loaded, Findings> {
    load_from(&edited(edits), Path::new("/etc/dunningd"), variables(env), None)
}

/// The shipped configuration with these edits and variables is refused in exactly these words.
#[track_caller]
fn check(edits: &[Edit<'_>], env: &[(&str, &str)], words: &str) {
    let Err(findings) = read(edits, env) else { panic!("the configuration is accepted") };
    same(&findings.to_string(), words);
}

#[track_caller]
fn same(said: &str, words: &str) {
    assert_eq!(said.trim_end(), words.trim(), "\n<<<\n{}\n>>>", said.trim_end());
}

/// Like [`check`], with the edits only.
#[track_caller]
fn refused(edits: &[Edit<'_>], words: &str) {
    check(edits, &[], words);
}

fn service(edits: &[Edit<'_>], env: &[(&str, &str)]) -> Service {
    read(edits, env).unwrap_or_else(|findings| panic!("{findings}")).config.service
}

fn policy(edits: &[Edit<'_>]) -> Policy {
    read(edits, &[]).unwrap_or_else(|findings| panic!("{findings}")).config.policy
}

const FILE_MAIL: &str = "transport = \"file\"\n\n# For \"file\": the folder, made when it does not exist. No default.\n\
                         directory = \"mail\"";
const SMTP_MAIL: &str = "transport = \"smtp\"\nhost = \"relay.example.com\"";

/// A creditor with nothing of the sample in it, and only what has no default.
const OWN_CREDITOR: &str = r#"
[[creditor]]
id = "gelber_drachen"
name = "Gelber Drachen GmbH"
address = ["Am Deich 3", "20459 Hamburg"]
country = "DE"
time_zone = "Europe/Berlin"
language = "en"
sender = "accounts@gelber-drachen.de"
bank = { EUR = { iban = "DE89370400440532013000" } }
"#;

#[test]
fn the_shipped_configuration_has_no_finding() {
    let loaded = read(&[], &[]).unwrap_or_else(|findings| panic!("{findings}"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    assert_eq!(loaded.config.policy.creditors.len(), 2);
    assert!(loaded.config.policy.templates.0.is_empty());
}

#[test]
fn the_shipped_ladder_is_whole_and_what_a_person_does_is_approved_first() {
    let policy = policy(&[]);
    let ladder = policy.ladder(None).unwrap();
    let on = || ladder.stages.iter().filter(|stage| stage.enabled);
    assert_eq!(ladder.stages.len(), 7);
    let stages: Vec<_> = on().map(|s| (s.name.as_str(), s.days, s.tone, s.demands, s.on_unknown)).collect();
    assert_eq!(
        stages,
        [
            ("friendly", 5, Tone::Friendly, Demands::AllOverdue, OnUnknown::ResendOnce),
            ("firm", 14, Tone::Firm, Demands::AllOverdue, OnUnknown::ResendOnce),
            ("final", 28, Tone::Final, Demands::Reached, OnUnknown::Review),
            ("formal", 42, Tone::Formal, Demands::Reached, OnUnknown::Review),
            ("handover", 75, Tone::Handover, Demands::Reached, OnUnknown::Review),
        ]
    );
    assert!(on().all(|stage| stage.approval == (stage.tone >= Tone::Formal)));
    let last = on().find(|stage| stage.tone == Tone::Final).unwrap();
    assert_eq!(last.respond_within, Some(10));
    for currency in ["EUR", "GBP", "PLN", "RUB"].map(|code| Currency::parse(code).unwrap()) {
        assert_eq!(last.when.min.get(currency), policy.minimums.of(currency).unwrap() * Decimal::from(5));
    }
}

/// Where a word first stands in the shipped policy, as an explanation names it.
fn line_of(word: &str) -> String {
    let line = Source::shipped()[1].text.lines().position(|line| line.starts_with(word));
    format!("policy.toml:{}", line.map_or(0, |line| line + 1))
}

#[test]
fn an_explanation_finds_the_line_of_every_key_and_stage() {
    let policy = policy(&[]);
    for (key, word) in [
        ("bounce_window_days", "bounce_window_days ="),
        ("minimum.RUB", "RUB ="),
        ("contact_cap", "[[contact_cap]]"),
        ("contact_cap.0", "[[contact_cap]]"),
        ("rates.CZK", "CZK ="),
    ] {
        assert_eq!(policy.location(key).map(|at| &**at), Some(line_of(word).as_str()), "{key}");
    }
    let first = &policy.ladder(None).unwrap().stages[0];
    assert_eq!(*first.location, line_of("[[ladder.default.stage]]"));
}

#[test]
fn the_shipped_causes_are_those_of_a_policy_that_says_nothing_about_them() {
    let policy = policy(&[]);
    for cause in Cause::ALL {
        assert_eq!(policy.causes[cause], CauseRule::shipped(*cause), "{}", cause.as_str());
    }
    assert_eq!(policy.causes[&Cause::SaysPaid].hold_working_days, Some(5));
    assert_eq!(policy.causes[&Cause::Unwilling].gap_percent, 50);
}

#[test]
fn a_cause_can_be_given_another_path() {
    let policy = policy(&[("policy.toml", "hold_working_days = 5", "hold_working_days = 0")]);
    assert_eq!(policy.cause(Cause::SaysPaid).hold_working_days, None);
}

#[test]
fn causes_that_do_not_exist_and_paths_that_make_no_sense_are_refused() {
    let said = read(
        &[
            ("policy.toml", "[cause.says_paid]\nhold = \"item\"", "[cause.say_paid]\nhold = \"none\""),
            ("policy.toml", "gap_percent = 50", "gap_percent = 5"),
            ("policy.toml", "task = \"propose_plan\"", "task = \"fix_data\""),
            ("policy.toml", "[cause.dissatisfied]\nhold = \"item\"", "[cause.dissatisfied]\nhold = \"none\""),
        ],
        &[],
    );
    let said = said.unwrap_err().to_string();
    for words in [
        "`say_paid` is no cause; known are not_received, ",
        "did you mean `says_paid`?",
        "`cause.unwilling.gap_percent` must be a whole number from 10 to 100",
        "fix_data",
        "`cause.dissatisfied.hold_working_days` without a hold: set `hold`, or remove it",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
}

#[test]
fn no_stage_of_a_ladder_has_the_name_of_missed_instalments() {
    let said = read(&[("policy.toml", "name = \"firm\"\n", "name = \"plan_missed\"\ntone = \"firm\"\n")], &[]);
    let said = said.unwrap_err().to_string();
    assert!(said.contains("`plan_missed` is the stage of missed instalments: give this one another name"), "{said}");
}

#[test]
fn a_currency_without_a_minimum_takes_the_base_times_its_rate() {
    let minimums = policy(&[]).minimums;
    assert_eq!(minimums.of(Currency::parse("CZK").unwrap()), Some(Decimal::from(250)));
    assert_eq!(minimums.of(Currency::parse("JPY").unwrap()), None);
}

#[test]
fn every_bank_account_of_the_sample_is_valid_and_four_currencies_can_be_paid() {
    for creditor in policy(&[]).creditors.values() {
        let currencies: Vec<_> = creditor.bank_accounts.keys().map(Currency::code).collect();
        assert_eq!(currencies, ["EUR", "GBP", "PLN", "RUB"], "{}", creditor.id);
    }
    let polish = &policy(&[]).creditors[&CreditorId::parse("trzy_latawce").unwrap()];
    let zloty = &polish.bank_accounts[&Currency::parse("PLN").unwrap()];
    assert_eq!(zloty.account, BankAccount::Iban("PL61109010140000071219812874".to_owned()));
    assert_eq!(zloty.holder, "Trzy Latawce sp. z o.o.");
}

/// A key that nothing reads is a finding, so the sample proves it for its active keys. A key at rest is woken up here,
/// one at a time, and must at least be known.
#[test]
fn every_key_at_rest_in_the_shipped_files_is_known() {
    let shipped = &Source::shipped()[0].text;
    let (before, timeouts) = shipped.split_once("# [mail.timeouts]").unwrap();
    let after = &timeouts[timeouts.find("[dispatch]").unwrap()..];
    let sample = format!("{}{after}", before.replacen(FILE_MAIL, "transport = \"smtp\"", 1));
    let lines: Vec<&str> = sample.lines().collect();
    let mut woken = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        let Some((key, _)) = line.strip_prefix("# ").and_then(|rest| rest.split_once(" = ")) else { continue };
        if !key.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
            continue;
        }
        let mut awake = lines.clone();
        awake[n] = &line[2..];
        let sources = [Source::new(Part::Service, "dunningd.toml", awake.join("\n"))];
        let findings = load_from(&sources, Path::new("."), [], None).unwrap_err();
        assert!(findings.iter().all(|finding| finding.id != "C012" && finding.id != "C003"), "{key}: {findings}");
        woken.push(key);
    }
    assert_eq!(woken.len(), 26, "{woken:?}");
}

#[test]
fn whoever_is_told_about_runs_has_an_address_and_stands_in_the_list_once() {
    let list = |to: &'static str| ("dunningd.toml", "# to = [\"receivables@example.com\"]", to);
    let told =
        read(&[list("to = [\"desk@example.com\", \"boss@example.com\"]")], &[]).unwrap().config.service.digest.to;
    assert_eq!(told.iter().map(EmailAddress::as_str).collect::<Vec<_>>(), ["desk@example.com", "boss@example.com"]);
    assert!(read(&[], &[]).unwrap().config.service.digest.to.is_empty());
    let wrong =
        read(&[list("to = [\"desk@example.com\", \"desk@example.com\", \"nobody\"]")], &[]).err().unwrap().to_string();
    assert!(wrong.contains("`desk@example.com` stands in the list twice: remove one"), "{wrong}");
    assert!(wrong.contains("`digest.to`") && wrong.contains("nobody"), "{wrong}");
}

#[test]
fn an_unknown_key_is_an_error_in_every_section_of_every_file() {
    let mail = format!("{SMTP_MAIL}\n[mail.timeouts]\ndot = 600\n");
    let sample = edited(&[("dunningd.toml", FILE_MAIL, &mail)]);
    let mut tried = 0;
    for (n, source) in sample.iter().enumerate() {
        for (at, header) in source.text.match_indices("\n[").map(|(at, _)| (at, source.text[at + 1..].lines().next())) {
            let header = header.unwrap_or_default();
            let end = at + 1 + header.len();
            let mut sources = sample.clone();
            sources[n].text.insert_str(end, "\nno_such_key = \"1.00\"");
            let findings = load_from(&sources, Path::new("."), [], None).unwrap_err();
            let ids: Vec<_> = findings.iter().map(|finding| finding.id).collect();
            // Where the keys are currencies or countries, the key is a wrong one of those.
            let open = [
                "[minimum]",
                "[rates]",
                "[country_languages]",
                "[calendars]",
                "[effective_due_date]",
                "[brake.limitation_years]",
            ]
            .contains(&header);
            assert!(ids.contains(if open { &"C014" } else { &"C012" }), "{header}: {findings}");
            tried += 1;
        }
    }
    assert_eq!(tried, 55);
}

#[test]
fn doubtful_policies_are_used_and_doubted() {
    let loaded = read(
        &[
            (
                "policy.toml",
                "[[contact_cap]]\ncontacts = 1\ndays = 7\n\n[[contact_cap]]\ncontacts = 4\ndays = 30\n",
                "",
            ),
            ("policy.toml", "valid_days = 2", "valid_days = 2\ncontact_cap = []"),
            ("policy.toml", "days = -3", "days = -3\ngap = 3"),
            ("policy.toml", "name = \"final\"", "name = \"final\"\ntone = \"friendly\""),
        ],
        &[],
    );
    same(
        &loaded.unwrap().warnings.to_string(),
        r#"
warning[C040 doubtful]: without a cap nothing but the ladder limits how often a debtor is contacted
  --> policy.toml:43:15
   |
43 | contact_cap = []
   |               ^^

warning[C040 doubtful]: `gap` of `courtesy` is never used: no stage comes before it
   --> policy.toml:116:8
    |
116 | name = "courtesy"
    |        ^^^^^^^^^^

warning[C040 doubtful]: stage `final` sounds milder (friendly) than the stage before it (firm)
   --> policy.toml:144:8
    |
144 | name = "final"
    |        ^^^^^^^
"#,
    );
}

#[test]
fn the_timeouts_shown_at_rest_are_the_defaults() {
    let source = &Source::shipped()[0];
    let at = source.text.find("# [mail.timeouts]").unwrap();
    let rest: Vec<&str> = source.text[at..].lines().map_while(|line| line.strip_prefix("# ")).collect();
    let table = rest.join("\n");
    let with = service(&[("dunningd.toml", FILE_MAIL, &format!("{SMTP_MAIL}\n{table}"))], &[]);
    assert_eq!(with, service(&[("dunningd.toml", FILE_MAIL, SMTP_MAIL)], &[]));
}

#[test]
fn the_state_directory_is_the_one_that_is_named_else_the_one_that_systemd_gives() {
    let given = ("STATE_DIRECTORY", "/run/state/dunningd:/run/state/other");
    let named = ("DUNNINGD__STATE__DIRECTORY", "state");
    for (env, expected) in [
        (&[][..], "/var/lib/dunningd"),
        (&[given][..], "/run/state/dunningd"),
        (&[given, named][..], "/etc/dunningd/state"),
    ] {
        let read = load_from(&edited(&[]), Path::new("/etc/dunningd"), variables(env), None);
        let config = read.unwrap_or_else(|findings| panic!("{findings}")).config;
        assert_eq!(config.service.state.directory, Path::new(expected));
    }
}

#[test]
fn three_mistakes_in_two_files_are_reported_in_one_go() {
    refused(
        &[
            ("dunningd.toml", "lease_seconds = 150", "lease_second = 150"),
            ("dunningd.toml", "max_tries = 12", "max_tries = \"many\""),
            ("policy.toml", "EUR = \"10.00\"", "EUR = 10.00"),
        ],
        r#"
error[C012 unknown_key]: `dispatch.lease_second` is not a key of this version: correct or remove it
   --> dunningd.toml:120:1
    |
120 | lease_second = 150
    | ^^^^^^^^^^^^ did you mean `lease_seconds`?

error[C013 wrong_type]: `dispatch.max_tries` must be a whole number without quotes, not a text
   --> dunningd.toml:129:13
    |
129 | max_tries = "many"
    |             ^^^^^^

error[C017 money_not_quoted]: `minimum.EUR`: write the number in quotes, so that it stays exact: "10.00"
  --> policy.toml:60:7
   |
60 | EUR = 10.00
   |       ^^^^^
"#,
    );
}

#[test]
fn a_misspelt_section_is_reported_once_and_not_as_missing_too() {
    refused(
        &[("dunningd.toml", "[database]\n", "[databse]\n")],
        r"
error[C012 unknown_key]: `databse` is not a key of this version: correct or remove it
  --> dunningd.toml:16:2
   |
16 | [databse]
   |  ^^^^^^^ did you mean `database`?
",
    );
}

#[test]
fn an_unknown_key_deep_inside_a_creditor_names_its_whole_path() {
    refused(
        &[("creditors.toml", "more = [{ label = \"БИК\", value", "more = [{ label = \"БИК\", vaule")],
        r#"
error[C012 unknown_key]: `creditor.bank.RUB.more.vaule` is not a key of this version: correct or remove it
  --> creditors.toml:55:26
   |
55 | more = [{ label = "БИК", vaule = "044525999" }]
   |                          ^^^^^ did you mean `value`?
"#,
    );
}

#[test]
fn the_caret_counts_letters_not_bytes() {
    refused(
        &[("creditors.toml", "label = \"БИК\", value = \"044525999\"", "label = \"БИК «Пример»\", value = 44525999.0")],
        r#"
error[C013 wrong_type]: `creditor.bank.RUB.more.value` must be a text in quotes, not a decimal number
  --> creditors.toml:55:43
   |
55 | more = [{ label = "БИК «Пример»", value = 44525999.0 }]
   |                                           ^^^^^^^^^^
"#,
    );
    refused(
        &[("creditors.toml", "{ label = \"БИК\", value = \"0", "{ label = \"БИК\", wert = \"ü\", value = \"0")],
        r#"
error[C012 unknown_key]: `creditor.bank.RUB.more.wert` is not a key of this version: correct or remove it
  --> creditors.toml:55:26
   |
55 | more = [{ label = "БИК", wert = "ü", value = "044525999" }]
   |                          ^^^^
"#,
    );
}

#[test]
fn words_that_a_key_does_not_know_come_with_the_one_that_was_meant() {
    refused(
        &[
            ("dunningd.toml", "environment = \"test\"", "environment = \"prodution\""),
            ("dunningd.toml", "format = \"auto\"", "format = \"jurnald\""),
            ("policy.toml", "languages = [\"ru\", \"pl\"", "languages = [\"ru\", \"pll\""),
            ("policy.toml", "GBP = \"10.00\"", "GPB = \"10.00\""),
            ("policy.toml", "name = \"firm\"", "name = \"frim\""),
            ("creditors.toml", "Europe/Rome", "Europe/Roma"),
        ],
        r#"
error[C014 unknown_value]: `environment` must be "production" or "test"
  --> dunningd.toml:14:15
   |
14 | environment = "prodution"
   |               ^^^^^^^^^^^ did you mean `production`?

error[C014 unknown_value]: `log.format` must be "auto", "text", "json" or "journald"
   --> dunningd.toml:152:10
    |
152 | format = "jurnald"
    |          ^^^^^^^^^ did you mean `journald`?

error[C014 unknown_value]: `languages` must be "en", "it", "pl" or "ru"
 --> policy.toml:7:20
  |
7 | languages = ["ru", "pll", "it", "en"]
  |                    ^^^^^ did you mean `pl`?

error[C014 unknown_value]: `minimum.GPB`: "GPB" is not an ISO 4217 currency code such as EUR
  --> policy.toml:61:1
   |
61 | GPB = "10.00"
   | ^^^ did you mean `GBP`?

error[C011 missing_key]: `frim` is not the name of a tone: add `tone = …` (courtesy, friendly, firm, final, formal or handover)
   --> policy.toml:133:8
    |
133 | name = "frim"
    |        ^^^^^^ did you mean `firm`?

error[C014 unknown_value]: `creditor.time_zone` must be a time zone of the IANA database, such as "Europe/Rome"
  --> creditors.toml:31:13
   |
31 | time_zone = "Europe/Roma"
   |             ^^^^^^^^^^^^^ did you mean `Europe/Rome`?
"#,
    );
}

#[test]
fn a_syntax_error_hides_only_its_own_file() {
    refused(
        &[
            ("policy.toml", "valid_days = 2", "valid_days = two days"),
            ("policy.toml", "[minimum]", "[minimum"),
            ("creditors.toml", "country = \"PL\"", "country = \"pl\""),
        ],
        r#"
error[C003 syntax]: this is not valid TOML: string values must be quoted, expected literal string
  --> policy.toml:42:14
   |
42 | valid_days = two days
   |              ^^^^^^^^

error[C003 syntax]: this is not valid TOML: unclosed table, expected `]`
  --> policy.toml:59:9
   |
59 | [minimum
   |         ^

error[C016 invalid_value]: `creditor.country`: "pl" is not an ISO 3166-1 country code such as IT
  --> creditors.toml:61:11
   |
61 | country = "pl"
   |           ^^^^
"#,
    );
}

#[test]
fn a_key_written_twice_is_named_at_its_second_place() {
    refused(
        &[("dunningd.toml", "max_tries = 12", "max_tries = 12\nmax_tries = 13")],
        r"
error[C010 duplicate_key]: this key or section is written a second time in this file: keep one of the two
   --> dunningd.toml:130:1
    |
130 | max_tries = 13
    | ^^^^^^^^^
",
    );
}

#[test]
fn a_key_written_twice_does_not_hide_the_other_mistakes() {
    let findings = read(
        &[
            ("dunningd.toml", "max_tries = 12", "max_tries = 12\nmax_tries = 13"),
            ("dunningd.toml", "latest = \"18:00\"", "latest = \"05:00\""),
        ],
        &[],
    );
    let ids: Vec<_> = findings.unwrap_err().iter().map(|finding| finding.id).collect();
    assert_eq!(ids, ["C010", "C015"]);
}

#[test]
fn of_a_line_without_end_only_the_part_around_the_mistake_is_shown() {
    let long = format!("[schedule]\nearliest = \"{}\" # {}", "x".repeat(300), "y".repeat(300));
    let findings = read(&[("dunningd.toml", "[schedule]", &long)], &[]).unwrap_err();
    let shown = findings.to_string();
    let line = shown.lines().find(|line| line.contains("xxx") && line.contains(" | ")).unwrap();
    let part = line.split_once(" | ").unwrap().1;
    assert_eq!(part.chars().count(), 161, "{part}");
    assert!(part.starts_with("earliest = \"xxx") && part.ends_with("xxx…"), "{part}");
    let far = format!("[schedule]\nearliest = \"06:00\"{}; latest = 7", " ".repeat(300));
    let shown = read(&[("dunningd.toml", "[schedule]", &far)], &[]).unwrap_err().to_string();
    assert!(shown.lines().any(|line| line.contains(" | …") && line.ends_with("; latest = 7")), "{shown}");
}

#[test]
fn a_secret_in_a_url_is_refused_and_never_repeated() {
    for url in [
        "postgres://dunningd_app:hunter2@localhost/dunningd",
        "postgres://dunningd_app:hunter2/@x@localhost/dunningd",
        "postgres:///dunningd?password=hunter2",
        "postgres:///dunningd?PASSWORD=hunter2",
    ] {
        let findings =
            read(&[("dunningd.toml", "postgres:///dunningd?host=/run/postgresql&user=dunningd_app", url)], &[])
                .unwrap_err();
        let shown = format!("{findings}{}", serde_json::to_string(&findings).unwrap());
        assert_eq!(findings.0[0].id, "C020", "{findings}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    // Also where it is none, for a slip of the pen.
    for url in ["postgres//app:hunter2@localhost/x", "postgres:/app:hunter2@localhost/x", "app:hunter2@localhost/x"] {
        let findings =
            read(&[("dunningd.toml", "postgres:///dunningd?host=/run/postgresql&user=dunningd_app", url)], &[])
                .unwrap_err();
        let shown = format!("{findings}{}", serde_json::to_string(&findings).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    refused(
        &[(
            "dunningd.toml",
            "postgres:///dunningd?host=/run/postgresql&user=dunningd_app",
            "postgres://dunningd_app:hunter2@localhost/dunningd",
        )],
        r#"
error[C020 secret_inline]: `database.url` holds a password: put it into a file that only the daemon can read, and name the file in `database.password_file`
  --> dunningd.toml:19:7
   |
19 | url = "postgres://dunningd_app:***@localhost/dunningd"
   |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn a_secret_under_any_key_is_refused_and_never_repeated() {
    let mail = format!("{SMTP_MAIL}\npassword = \"hunter2\"");
    refused(
        &[("dunningd.toml", FILE_MAIL, &mail)],
        r"
error[C020 secret_inline]: `mail.password` would hold a secret, and no secret belongs in the configuration: put it into a file that only the daemon can read, and name that file in `mail.password_file`
  --> dunningd.toml:42:1
   |
42 | password = ***
   | ^^^^^^^^
",
    );
    let broken = [
        "password = hunter2",
        "password = \"hunter2",
        "password: hunter2",
        "relay = { password = \"hunter2\", x = }",
        "password = \"\"\"\nhunter2 \"\"\" x",
        "password = \"\"\"\na = b\nhunter2 \"\"\" x",
    ];
    for secret in broken {
        let mail = format!("{SMTP_MAIL}\n{secret}");
        let findings = read(&[("dunningd.toml", FILE_MAIL, &mail)], &[]).unwrap_err();
        let shown = format!("{findings}{}", serde_json::to_string(&findings).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn a_secret_in_a_variable_is_refused_and_never_repeated() {
    check(
        &[("dunningd.toml", FILE_MAIL, SMTP_MAIL)],
        &[("DUNNINGD__DATABASE__URL", "postgres://a:hunter2@localhost/b"), ("DUNNINGD__MAIL__PASSWORD", "hunter2")],
        r"
error[C020 secret_inline]: `database.url` holds a password: put it into a file that only the daemon can read, and name the file in `database.password_file`
 --> environment variable DUNNINGD__DATABASE__URL

error[C020 secret_inline]: `mail.password` would hold a secret, and no secret belongs in the configuration: put it into a file that only the daemon can read, and name that file in `mail.password_file`
 --> environment variable DUNNINGD__MAIL__PASSWORD
",
    );
}

#[test]
fn a_variable_wins_over_the_files() {
    let service = service(
        &[("dunningd.toml", FILE_MAIL, SMTP_MAIL)],
        &[
            ("DUNNINGD__MAIL__TIMEOUTS__DOT", "20"),
            ("DUNNINGD__DISPATCH__MAX_TRIES", "3"),
            ("DUNNINGD_OTHER", "not ours"),
            ("PATH", "/usr/bin"),
        ],
    );
    let Mail::Smtp(smtp) = service.mail else { panic!("no relay") };
    assert_eq!(smtp.timeouts.dot, Duration::from_secs(20));
    assert_eq!(service.dispatch.max_tries, 3);
}

#[test]
fn what_goes_to_the_relay_has_no_limit_unless_one_is_set() {
    let smtp = |mail: &str| {
        let service = service(&[("dunningd.toml", FILE_MAIL, &format!("{SMTP_MAIL}\n{mail}"))], &[]);
        let Mail::Smtp(smtp) = service.mail else { panic!("no relay") };
        (smtp.notify_success, smtp.per_hour, smtp.per_domain_per_hour, smtp.content_refusals)
    };
    assert_eq!(smtp(""), (false, None, None, 5));
    assert_eq!(
        smtp("notify_success = true\nper_hour = 600\nper_domain_per_hour = 100\ncontent_refusals = 2"),
        (true, Some(600), Some(100), 2)
    );
}

#[test]
fn a_misspelt_variable_is_an_error_and_names_the_one_that_was_meant() {
    check(
        &[],
        &[
            ("DUNNINGD__DISPATCH__MAX_TRYES", "3"),
            ("DUNNINGD__SHEDULE__LATEST", "17:00"),
            ("DUNNINGD__DISPATCH__LEASE_SECONDS", "soon"),
        ],
        r"
error[C015 out_of_range]: `dispatch.lease_seconds` must be a whole number from 10 to 3600
 --> environment variable DUNNINGD__DISPATCH__LEASE_SECONDS

error[C018 unknown_variable]: `dispatch.max_tryes` does not exist, so this variable sets nothing: correct or unset it
 --> environment variable DUNNINGD__DISPATCH__MAX_TRYES
     did you mean `DUNNINGD__DISPATCH__MAX_TRIES`?

error[C018 unknown_variable]: `shedule` does not exist, so this variable sets nothing: correct or unset it
 --> environment variable DUNNINGD__SHEDULE__LATEST
     did you mean `DUNNINGD__SCHEDULE__LATEST`?
",
    );
}

#[test]
fn a_domain_that_may_be_written_to_is_the_one_of_its_addresses_however_it_is_written() {
    let with = |domain: &str| -> (&str, &str, String) {
        let mail = format!("{SMTP_MAIL}\nsecurity = \"starttls\"\nallow_domains = [\"{domain}\"]");
        ("dunningd.toml", FILE_MAIL, mail)
    };
    for domain in ["müller.de", "MÜLLER.de", "xn--mller-kva.de", "XN--mller-kva.de"] {
        let (file, from, to) = with(domain);
        let Mail::Smtp(smtp) = service(&[(file, from, &to)], &[]).mail else { panic!("no relay") };
        for (address, allowed) in [("info@müller.de", true), ("info@post.müller.de", true), ("info@muller.de", false)]
        {
            assert_eq!(smtp.recipients.allow(&EmailAddress::parse(address).unwrap()), allowed, "{domain} {address}");
        }
    }
    for wrong in [".de", "a b.de", "info@müller.de", "-.*"] {
        let (file, from, to) = with(wrong);
        let Err(findings) = read(&[(file, from, &to)], &[]) else { panic!("{wrong} is accepted") };
        assert!(findings.to_string().contains("must be a domain alone"), "{findings}");
    }
}

#[test]
fn a_relay_off_this_machine_is_never_reached_in_the_open() {
    let mail = format!("{SMTP_MAIL}\nsecurity = \"plain\"");
    refused(
        &[("dunningd.toml", FILE_MAIL, &mail)],
        r#"
error[C021 plain_off_loopback]: letters and passwords would cross the network unencrypted to relay.example.com: use "starttls" or "implicit_tls"; "plain" is only for a relay on this machine (localhost, 127.0.0.0/8, ::1)
  --> dunningd.toml:42:12
   |
42 | security = "plain"
   |            ^^^^^^^
"#,
    );
    for host in ["localhost", "127.0.0.1", "127.8.8.8", "::1", "[::1]"] {
        let mail = mail.replace("relay.example.com", host);
        let Mail::Smtp(smtp) = service(&[("dunningd.toml", FILE_MAIL, &mail)], &[]).mail else { panic!("no relay") };
        assert_eq!((smtp.security, smtp.port), (Security::Plain, 25), "{host}");
    }
}

#[test]
fn the_port_follows_the_encryption() {
    for (security, port) in [("starttls", 587), ("implicit_tls", 465)] {
        let mail = format!("{SMTP_MAIL}\nsecurity = \"{security}\"");
        let Mail::Smtp(smtp) = service(&[("dunningd.toml", FILE_MAIL, &mail)], &[]).mail else { panic!("no relay") };
        assert_eq!(smtp.port, port);
    }
}

#[test]
fn a_key_of_the_other_transport_says_where_it_belongs() {
    refused(
        &[("dunningd.toml", "directory = \"mail\"", "directory = \"mail\"\nhost = \"relay\"")],
        r#"
error[C019 conflict]: `mail.host` has no meaning here: it belongs to `transport = "smtp"`
  --> dunningd.toml:44:1
   |
44 | host = "relay"
   | ^^^^
"#,
    );
}

#[test]
fn a_lease_must_outlast_the_timeouts_it_covers() {
    let mail = format!("{SMTP_MAIL}\n[mail.timeouts]\nmail_from = 100\nrcpt_to = 100");
    refused(
        &[("dunningd.toml", FILE_MAIL, &mail)],
        r"
error[C022 lease_too_short]: the lease of 150 s must be longer than the timeouts of MAIL FROM and RCPT TO together (200 s), 5 s claimed ahead, 10 s for a reset and 5 s for the last check: set `dispatch.lease_seconds` to more than 220, or shorten those timeouts
   --> dunningd.toml:121:17
    |
121 | lease_seconds = 150
    |                 ^^^
",
    );
    let at_the_edge = [("dunningd.toml", FILE_MAIL, SMTP_MAIL), ("dunningd.toml", "= 150", "= 141")];
    assert_eq!(service(&at_the_edge, &[]).dispatch.lease, Duration::from_secs(141));
    let below = [("dunningd.toml", FILE_MAIL, SMTP_MAIL), ("dunningd.toml", "= 150", "= 140")];
    assert_eq!(read(&below, &[]).unwrap_err().0[0].id, "C022");
}

fn in_production(mail: &str, creditors: &str) -> Result<Loaded, Findings> {
    let mut sources = edited(&[
        ("dunningd.toml", "environment = \"test\"", "environment = \"production\""),
        ("dunningd.toml", FILE_MAIL, mail),
    ]);
    creditors.clone_into(&mut sources[2].text);
    load_from(&sources, Path::new("/etc/dunningd"), [], None)
}

#[test]
fn production_waits_ten_minutes_for_the_last_reply() {
    let findings = in_production(&format!("{SMTP_MAIL}\n[mail.timeouts]\ndot = 599"), OWN_CREDITOR).unwrap_err();
    same(
        &findings.to_string(),
        r"
error[C015 out_of_range]: `mail.timeouts.dot` must be a whole number from 600 to 3600
  --> dunningd.toml:43:7
   |
43 | dot = 599
   |       ^^^
",
    );
    let enough = in_production(&format!("{SMTP_MAIL}\n[mail.timeouts]\ndot = 600"), OWN_CREDITOR);
    assert!(enough.is_ok_and(|loaded| loaded.warnings.is_empty()));
}

#[test]
fn production_refuses_the_addresses_and_accounts_of_the_sample() {
    let findings = in_production(SMTP_MAIL, &Source::shipped()[2].text).unwrap_err();
    assert!(findings.iter().all(|finding| finding.id == "C036"), "{findings}");
    assert_eq!(findings.0.len(), 2 * (2 + 4));
    same(
        &findings.0[0].to_string(),
        r#"
error[C036 placeholder]: `creditor.sender` is an address of the sample, tre-aquiloni.test reaches nobody: in production write your own
  --> creditors.toml:35:10
   |
35 | sender = "solleciti@tre-aquiloni.test"
   |          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
"#,
    );
    same(
        &findings.0[2].to_string(),
        r"
error[C036 placeholder]: `creditor.bank.EUR` is an account of the sample: in production write your own
  --> creditors.toml:40:16
   |
40 | [creditor.bank.EUR]
   |                ^^^
",
    );
}

#[test]
fn letters_that_become_files_in_production_are_doubted_but_allowed() {
    let loaded = in_production(FILE_MAIL, OWN_CREDITOR).unwrap();
    same(
        &loaded.warnings.to_string(),
        r#"
warning[C040 doubtful]: in production nobody receives letters that become files: set `transport = "smtp"`
  --> dunningd.toml:40:13
   |
40 | transport = "file"
   |             ^^^^^^
"#,
    );
}

#[test]
fn a_login_needs_both_name_and_password() {
    let mail = format!("{SMTP_MAIL}\nusername = \"dunning\"");
    refused(
        &[("dunningd.toml", FILE_MAIL, &mail)],
        r#"
error[C019 conflict]: with a username the daemon logs in: add `password_file` or `password_credential`
  --> dunningd.toml:42:12
   |
42 | username = "dunning"
   |            ^^^^^^^^^
"#,
    );
    let mail = format!("{SMTP_MAIL}\npassword_file = \"relay.password\"");
    refused(
        &[("dunningd.toml", FILE_MAIL, &mail)],
        r"
error[C019 conflict]: a password without `username` is never used: add the username or remove the password
  --> dunningd.toml:38:1
   |
38 | [mail]
   | ^^^^^^
",
    );
}

#[test]
fn a_secret_is_read_from_a_file_or_a_credential_when_it_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    write_secret(&dir.path().join("relay_password"), "correct horse\n");
    let mail = format!("{SMTP_MAIL}\nusername = \"dunning\"\npassword_credential = \"relay_password\"");
    let sources = edited(&[("dunningd.toml", FILE_MAIL, &mail)]);
    let secret = |credentials_dir: Option<&Path>| -> Secret {
        let service = load_from(&sources, Path::new("."), [], credentials_dir).unwrap().config.service;
        let Mail::Smtp(smtp) = service.mail else { panic!("no relay") };
        smtp.password.unwrap()
    };
    assert_eq!(secret(Some(dir.path())).read().unwrap().expose_secret(), "correct horse");
    assert_eq!(
        secret(None).read().unwrap_err().to_string(),
        "the credential `relay_password` is only there under systemd: add `LoadCredential=relay_password:…` to the \
         unit, or name a file"
    );
}

#[test]
fn a_secret_that_others_may_look_into_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("log.key");
    write_secret(&file, "correct horse\n");
    let places =
        [Secret::File(file.clone()), Secret::Credential { name: "log.key".to_owned(), file: Some(file.clone()) }];
    // Of a file of root, which is how systemd shows a credential, the group is a service that it is shared with.
    let is_root = fs::metadata(&file).unwrap().uid() == 0;
    let modes = [(0o600, true), (0o400, true), (0o440, is_root), (0o640, is_root), (0o644, false), (0o620, false)];
    for (mode, is_read) in modes {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        for secret in &places {
            assert_eq!(secret.read().is_ok(), is_read, "{mode:o}");
        }
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(
        places[0].read().unwrap_err().to_string(),
        format!(
            "the secret in {} is open to others: its mode is 0644. Take that from them: `chmod 600`; a file of root may \
             have 640",
            file.display()
        )
    );
}

#[test]
fn the_log_is_signed_only_with_a_key_and_from_one_place() {
    assert_eq!(service(&[], &[]).log.signing_key, None);
    let with = |lines: &str| format!("filter = \"info\"\n{lines}");
    let named = with("signing_key_file = \"log.key\"");
    let key = service(&[("dunningd.toml", "filter = \"info\"", &named)], &[]).log.signing_key;
    assert_eq!(key, Some(Secret::File("/etc/dunningd/log.key".into())));
    let twice = with("signing_key_file = \"log.key\"\nsigning_key_credential = \"log_key\"");
    let findings = read(&[("dunningd.toml", "filter = \"info\"", &twice)], &[]).unwrap_err();
    assert!(findings.to_string().contains("the secret has two places"), "{findings}");
}

#[test]
fn a_filter_of_the_log_that_nobody_can_read_is_found_by_the_check() {
    refused(
        &[("dunningd.toml", "filter = \"info\"", "filter = \"info,dunningd=loud\"")],
        r#"
error[C016 invalid_value]: `log.filter`: "info,dunningd=loud" is not a list of levels by module such as "info,dunningd=debug"
   --> dunningd.toml:155:10
    |
155 | filter = "info,dunningd=loud"
    |          ^^^^^^^^^^^^^^^^^^^^
"#,
    );
    let filter = "filter = \"warn,dunningd[run]=trace,sqlx=off\"";
    assert_eq!(service(&[("dunningd.toml", "filter = \"info\"", filter)], &[]).log.filter.len(), filter.len() - 11);
}

#[test]
fn only_a_stage_without_legal_effect_or_approval_is_sent_again_by_itself() {
    let said = |stage: &str, keys: &str| {
        let edit = format!("{stage}on_unknown = \"resend_once\"\n{keys}");
        read(&[("policy.toml", stage, &edit)], &[]).err().map_or(String::new(), |found| found.to_string())
    };
    assert_eq!(said("name = \"firm\"\ndays = 14\n", ""), "");
    assert_eq!(said("name = \"final\"\ndays = 28\n", ""), "");
    for (stage, keys) in [
        ("name = \"firm\"\ndays = 14\n", "approval = true\n"),
        ("name = \"formal\"\ndays = 42\n", ""),
        ("name = \"handover\"\ndays = 75\n", ""),
    ] {
        let found = said(stage, keys);
        let wanted = "error[C019 conflict]: `ladder.default.stage.on_unknown`: a stage that needs approval, or with the tone \
                      formal or handover, is not sent again by itself: write `on_unknown = \"review\"`, and a person decides \
                      by `dunningd outbox resolve`\n";
        assert!(found.starts_with(wanted), "{found}");
    }
    let approved = [("policy.toml", "name = \"firm\"\ndays = 14\n", "name = \"firm\"\ndays = 14\napproval = true\n")];
    assert_eq!(policy(&approved).ladder(None).unwrap().stages[2].on_unknown, OnUnknown::Review);
}

#[test]
fn auditors_are_mailed_checkpoints_only_where_a_key_makes_some() {
    let with = |lines: &str| format!("filter = \"info\"\n{lines}");
    let auditors = "checkpoint_to = [\"audit@revisori.test\"]";
    let named = with(&format!("signing_key_file = \"log.key\"\n{auditors}"));
    let log = service(&[("dunningd.toml", "filter = \"info\"", &named)], &[]).log;
    assert_eq!(log.checkpoint_to.iter().map(EmailAddress::as_str).collect::<Vec<_>>(), ["audit@revisori.test"]);
    let findings = read(&[("dunningd.toml", "filter = \"info\"", &with(auditors))], &[]).unwrap_err();
    assert!(
        findings.to_string().starts_with(
            "error[C019 conflict]: `log.checkpoint_to`: without a key no checkpoint is made: make one with `dunningd log \
             keygen` and name it in `signing_key_file` or `signing_key_credential`\n"
        ),
        "{findings}"
    );
}

#[test]
fn everything_is_kept_unless_the_policy_says_for_how_many_months() {
    assert_eq!(policy(&[]).retention, Retention::default());
    let edit = ("policy.toml", "# notes_months = 36", "notes_months = 36");
    assert_eq!(policy(&[edit]).retention, Retention { notes_months: Some(36), ..Retention::default() });
    let zero = ("policy.toml", "# smtp_months = 36", "smtp_months = 0");
    assert!(read(&[zero], &[]).unwrap_err().to_string().contains("`retention.smtp_months`"));
}

#[test]
fn stages_before_the_due_day_and_stages_of_people_are_checked() {
    let stage =
        |keys: &str| format!("name = \"friendly\"\ndays = 5\n\n[[ladder.default.stage]]\nname = \"x\"\n{keys}\n");
    let said = |keys: &str| {
        let sources = edited(&[("policy.toml", "name = \"friendly\"\ndays = 5\n", &stage(keys))]);
        let findings = load_from(&sources, Path::new("."), [], None).err().map(|found| found.to_string());
        findings.unwrap_or_default().lines().filter(|line| line.starts_with("error")).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(
        said("tone = \"firm\"\ndays = 7\nchannels = [\"call\"]\nattempts = 2\nlapse_after_working_days = 3"),
        ""
    );
    assert_eq!(said("tone = \"firm\"\ndays = 7\nchannels = [\"email\", \"letter\"]\ncompletes_on = \"letter\""), "");
    assert_eq!(
        said("tone = \"firm\"\ndays = 7\nchannels = [\"call\", \"email\"]"),
        "error[C033 not_in_this_version]: this version knows one channel per stage, or a letter that completes the stage \
         with an e-mail copy: `channels = [\"letter\", \"email\"]`; make the others stages of their own"
    );
    assert_eq!(
        said("tone = \"firm\"\ndays = 7\ncompletes_on = \"call\"\nattempts = 2"),
        "error[C019 conflict]: the stage has no channel `call` that could complete it: add it to `channels`"
    );
    assert_eq!(
        said("tone = \"firm\"\ndays = 7\nattempts = 2\nlapse_after_working_days = 3"),
        "error[C019 conflict]: `ladder.default.stage.attempts` counts calls, and this stage makes none: remove it\n\
         error[C019 conflict]: `ladder.default.stage.lapse_after_working_days` is for what a person does, and this \
         stage is sent: remove it"
    );
    assert!(said("tone = \"firm\"\ndays = 7\nrespond_within_by_country = { XX1 = 7 }").contains("XX1"));
    assert_eq!(said("tone = \"firm\"\ndays = 7\napproval = true"), "");
}

#[test]
fn only_a_courtesy_note_comes_before_the_due_day() {
    let before = |tone: &str, days: i32| {
        let stage = format!(
            "name = \"x\"\ntone = \"{tone}\"\ndays = {days}\ntemplate = \"courtesy\"\n\n[[ladder.default.stage]]\nname = \"friendly\"\ndays = 5\n"
        );
        let old = "name = \"courtesy\"\ndays = -3\nenabled = false\n\n# Assume an oversight.\n[[ladder.default.stage]]\nname = \"friendly\"\ndays = 5\n";
        let sources = edited(&[("policy.toml", old, &stage)]);
        let findings = load_from(&sources, Path::new("."), [], None).err().map(|found| found.to_string());
        findings.unwrap_or_default().lines().find(|line| line.starts_with("error")).unwrap_or_default().to_owned()
    };
    assert_eq!(before("courtesy", -3), "");
    assert!(
        before("friendly", -3)
            .ends_with("the tone `friendly` speaks of a debt: use the tone `courtesy`, or at least 1 day")
    );
    assert!(before("courtesy", 2).ends_with("this one would come 2 days after: use negative days, or another tone"));
    assert!(before("friendly", 0).contains("a stage on the due day itself would write before anything is overdue"));
}

#[test]
fn a_formal_demand_is_posted_with_a_copy_by_mail_and_gives_the_days_that_are_usual_in_the_country() {
    let ladder = policy(&[]);
    let formal = ladder.ladder(None).unwrap().stages.iter().find(|stage| stage.tone == Tone::Formal).unwrap();
    assert!(formal.enabled && formal.approval && formal.copies_by_email());
    let days =
        |country: &str, kind| formal.days_to_respond(Some(dunningd::model::Country::parse(country).unwrap()), kind);
    let company = ["IT", "PL", "RU", "GB", "DE"].map(|country| days(country, PartyKind::Company));
    assert_eq!(company, [Some(15), Some(7), Some(30), Some(14), Some(14)]);
    assert_eq!(days("GB", PartyKind::SoleTrader), Some(30));
}

#[test]
fn impossible_ladders_are_refused_with_their_place() {
    refused(
        &[
            ("policy.toml", "days = 14", "days = 5\nrespond_within = 0"),
            ("policy.toml", "name = \"final\"", "name = \"firm\"\ngap = 0"),
        ],
        r#"
error[C031 days_not_rising]: stage `firm` must come later than `friendly`, which is due at 5 days: raise `days`, or move the stage up
   --> policy.toml:134:8
    |
134 | days = 5
    |        ^

error[C015 out_of_range]: `ladder.default.stage.respond_within` must be a whole number from 1 to 365
   --> policy.toml:135:18
    |
135 | respond_within = 0
    |                  ^

error[C032 duplicate_name]: a stage `firm` exists already (policy.toml:132): give each stage its own name
   --> policy.toml:150:8
    |
150 | name = "firm"
    |        ^^^^^^

error[C015 out_of_range]: `ladder.default.stage.gap` must be a whole number from 1 to 365
   --> policy.toml:151:7
    |
151 | gap = 0
    |       ^
"#,
    );
}

#[test]
fn a_ladder_in_which_nothing_can_happen_is_refused() {
    let mut sources = Source::shipped();
    let at = sources[1].text.find("\n# Before the due day: what falls due").unwrap();
    sources[1].text.truncate(at);
    sources[1].text.push_str("\n[ladder.defautl]\n");
    let findings = load_from(&sources, Path::new("."), [], None).unwrap_err().to_string();
    same(
        &findings,
        r"
error[C030 ladder_incomplete]: there is no ladder for accounts that name none: add `[ladder.default]` with its stages, or rename `[ladder.defautl]`
   --> policy.toml:120:2
    |
120 | [ladder.defautl]
    |  ^^^^^^

error[C030 ladder_incomplete]: ladder `defautl` has no enabled stage: nobody on it would ever be contacted
   --> policy.toml:120:9
    |
120 | [ladder.defautl]
    |         ^^^^^^^
",
    );
}

#[test]
fn several_ladders_live_beside_each_other() {
    let public = "RUB = \"5000.00\" } }\n\n[[ladder.public.stage]]\nname = \"friendly\"\ndays = 30\n";
    let policy = policy(&[("policy.toml", "RUB = \"5000.00\" } }\n", public)]);
    let name = LadderName::parse("public").unwrap();
    assert_eq!(policy.ladder(Some(name.as_str())).unwrap().stages[0].days, 30);
    assert_eq!(policy.ladder(None).unwrap().stages.len(), 7);
}

#[test]
fn a_stage_says_when_it_applies_and_to_whom() {
    let stage = "name = \"reminder_two\"\ntone = \"firm\"\ntemplate = \"firm\"\ndays = 14\ngap = 10\n\
                 demands = \"reached\"\non_unknown = \"review\"\n\
                 when = { party_kind = [\"company\", \"sole_trader\"], segment = [\"retail\"] }\n";
    let policy = policy(&[("policy.toml", "name = \"firm\"\ndays = 14\n", stage)]);
    let stage = &policy.ladder(None).unwrap().stages[2];
    assert_eq!((stage.template.as_str(), stage.tone, stage.gap), ("firm", Tone::Firm, Some(10)));
    assert_eq!((stage.demands, stage.on_unknown), (Demands::Reached, OnUnknown::Review));
    assert!(stage.when.party_kinds.iter().eq(&[PartyKind::Company, PartyKind::SoleTrader]));
    assert!(stage.when.segments.contains("retail"));
}

#[test]
fn a_template_cannot_leave_its_folder() {
    let stage = "days = 14\ntemplate = \"../secrets\"";
    assert_eq!(read(&[("policy.toml", "days = 14", stage)], &[]).unwrap_err().0[0].id, "C016");
}

#[test]
fn payments_may_be_allowed_an_age_in_hours_instead_of_a_working_day() {
    let rule = "mode = \"previous_working_day\"";
    let with_hours = [("dunningd.toml", rule, "mode = \"max_age\"\nmax_age_hours = 30")];
    assert_eq!(service(&with_hours, &[]).freshness, FreshnessRule::MaxAge { hours: 30 });
    let without = [("dunningd.toml", rule, "mode = \"max_age\"")];
    assert_eq!(read(&without, &[]).unwrap_err().0[0].id, "C011");
    let idle = format!("{rule}\nmax_age_hours = 30");
    assert_eq!(read(&[("dunningd.toml", rule, &idle)], &[]).unwrap_err().0[0].id, "C019");
}

#[test]
fn money_is_exact_or_refused() {
    refused(
        &[
            ("policy.toml", "EUR = \"10.00\"", "EUR = 10"),
            ("policy.toml", "GBP = \"10.00\"", "GBP = \"1,000.00\""),
            ("policy.toml", "PLN = \"50.00\"", "PLN = \"50.001\""),
            ("policy.toml", "CHF = \"0.95\"", "CHF = 0.95"),
        ],
        r#"
error[C017 money_not_quoted]: `minimum.EUR`: write the number in quotes, so that it stays exact: "10"
  --> policy.toml:60:7
   |
60 | EUR = 10
   |       ^^

error[C016 invalid_value]: `minimum.GBP` must be a number of at least 0 in digits with a point and no thousands sign, such as "1000.00"
  --> policy.toml:61:7
   |
61 | GBP = "1,000.00"
   |       ^^^^^^^^^^

error[C016 invalid_value]: `minimum.PLN` has more decimals than PLN (2)
  --> policy.toml:62:7
   |
62 | PLN = "50.001"
   |       ^^^^^^^^

error[C017 money_not_quoted]: `rates.CHF`: write the number in quotes, so that it stays exact: "0.95"
  --> policy.toml:72:7
   |
72 | CHF = 0.95
   |       ^^^^
"#,
    );
}

#[test]
fn a_number_beyond_all_amounts_is_a_finding_and_not_a_currency_without_minimum() {
    let digits = "79228162514264337593543950335";
    refused(
        &[
            ("policy.toml", "base = \"10.00\"", &format!("base = \"{digits}\"")),
            ("policy.toml", "CHF = \"0.95\"", &format!("CHF = \"{digits}\"")),
            ("policy.toml", "EUR = \"10.00\"", "EUR = \"1000000000000.01\""),
        ],
        r#"
error[C015 out_of_range]: `minimum.EUR` must be at most 1000000000000
  --> policy.toml:60:7
   |
60 | EUR = "1000000000000.01"
   |       ^^^^^^^^^^^^^^^^^^

error[C015 out_of_range]: `minimum.base` must be at most 1000000000000
  --> policy.toml:66:8
   |
66 | base = "79228162514264337593543950335"
   |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

error[C015 out_of_range]: `rates.CHF` must be at most 1000000000000
  --> policy.toml:72:7
   |
72 | CHF = "79228162514264337593543950335"
   |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
"#,
    );
    assert_eq!(policy(&[("policy.toml", "USD = \"1.10\"", "USD = \"1000000000000\"")]).minimums.rates.len(), 4);
}

#[test]
fn a_currency_one_can_pay_in_needs_a_minimum() {
    refused(
        &[("policy.toml", "RUB = \"1000.00\"\n", "")],
        r#"
error[C034 no_minimum]: the policy has neither a minimum nor a rate for RUB: add `RUB = "…"` to `[minimum]` or `[rates]` in policy.toml
  --> creditors.toml:52:16
   |
52 | [creditor.bank.RUB]
   |                ^^^

error[C034 no_minimum]: the policy has neither a minimum nor a rate for RUB: add `RUB = "…"` to `[minimum]` or `[rates]` in policy.toml
  --> creditors.toml:83:16
   |
83 | [creditor.bank.RUB]
   |                ^^^
"#,
    );
}

#[test]
fn the_least_amount_of_a_stage_is_known_in_every_currency_of_the_policy() {
    refused(
        &[
            ("policy.toml", ", RUB = \"5000.00\"", ""),
            (
                "policy.toml",
                "days = 75\nchannels = [\"handover\"]\nwhen = { min = { EUR = \"250.00\", ",
                "days = 75\nchannels = [\"handover\"]\nwhen = { min = { ",
            ),
        ],
        r#"
error[C034 no_minimum]: `ladder.default.stage.when.min` says nothing about RUB: add a row for each, or one in `base_currency` and their `[rates]`
   --> policy.toml:152:10
    |
152 | when = { min = { EUR = "50.00", GBP = "50.00", PLN = "250.00" } }
    |          ^^^

error[C034 no_minimum]: `ladder.default.stage.when.min` says nothing about CHF, CZK, EUR, USD: add a row for each, or one in `base_currency` and their `[rates]`
   --> policy.toml:172:10
    |
172 | when = { min = { GBP = "250.00", PLN = "1000.00", RUB = "25000.00" } }
    |          ^^^
"#,
    );
    let policy = policy(&[]);
    let usd = Currency::parse("USD").unwrap();
    let of_stage = |name: &str| {
        let ladder = &policy.ladders[&LadderName::default()];
        let stage = ladder.stages.iter().find(|stage| stage.name.as_str() == name).unwrap();
        policy.minimums.of_stage(&stage.when.min, usd).map(|least| least.to_string())
    };
    assert_eq!([of_stage("final"), of_stage("formal")].map(Option::unwrap), ["55.0000", "275.0000"]);
    // No row at all is no condition.
    assert_eq!(of_stage("firm"), None);
}

#[test]
fn creditors_are_checked_like_bank_forms() {
    refused(
        &[
            ("creditors.toml", "id = \"trzy_latawce\"", "id = \"tre_aquiloni\""),
            ("creditors.toml", "iban = \"IT60", "iban = \"IT61"),
            ("creditors.toml", "sender = \"solleciti@", "sender = \"mailto:solleciti@"),
            ("creditors.toml", "name = \"Trzy Latawce sp. z o.o.\"\n", ""),
            ("creditors.toml", "bank = \"Banca di Prova\"", "bank = \"Banca di Prova\"\nbic = \"PROVAIT\""),
        ],
        r#"
error[C016 invalid_value]: `creditor.sender`: "mailto:solleciti@tre-aquiloni.test" is not one usable e-mail address such as office@example.com
  --> creditors.toml:35:10
   |
35 | sender = "mailto:solleciti@tre-aquiloni.test"
   |          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

error[C035 invalid_iban]: `creditor.bank.EUR.iban` is not a valid IBAN: its length or its check digits are wrong; compare it with the bank's papers, or write a national number as `number`
  --> creditors.toml:41:8
   |
41 | iban = "IT61 X054 2811 1010 0000 0123 456"
   |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

error[C016 invalid_value]: `creditor.bank.EUR.bic` must be a BIC of 8 or 11 capital letters and digits
  --> creditors.toml:43:7
   |
43 | bic = "PROVAIT"
   |       ^^^^^^^^^

error[C011 missing_key]: `creditor.name` is missing: add `name = "My Company Ltd"`
  --> creditors.toml:58:1
   |
58 | [[creditor]]
   | ^^^^^^^^^^^^

error[C032 duplicate_name]: a creditor `tre_aquiloni` exists already (creditors.toml:27): give each creditor its own id
  --> creditors.toml:59:6
   |
59 | id = "tre_aquiloni"
   |      ^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn findings_are_the_same_for_a_program() {
    let findings = read(&[("dunningd.toml", "max_tries = 12", "max_tryes = 12")], &[("DUNNINGD__LOG__FORMAT", "yaml")]);
    let json = serde_json::to_string_pretty(&findings.unwrap_err()).unwrap();
    same(
        &json,
        r#"
[
  {
    "id": "C012",
    "name": "unknown_key",
    "severity": "error",
    "file": "dunningd.toml",
    "line": 129,
    "column": 1,
    "source": "max_tryes = 12",
    "width": 9,
    "message": "`dispatch.max_tryes` is not a key of this version: correct or remove it",
    "suggestion": "max_tries"
  },
  {
    "id": "C014",
    "name": "unknown_value",
    "severity": "error",
    "variable": "DUNNINGD__LOG__FORMAT",
    "message": "`log.format` must be \"auto\", \"text\", \"json\" or \"journald\""
  }
]
"#,
    );
}

#[test]
fn ids_of_findings_are_unique() {
    let mut ids: Vec<_> = FindingCode::ALL.iter().map(|code| code.id()).collect();
    ids.dedup();
    assert_eq!(ids.len(), FindingCode::ALL.len());
    assert!(ids.is_sorted());
}

#[test]
fn the_folder_is_read_with_its_drop_ins_in_the_order_of_their_names() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("calendars")).unwrap();
    for source in Source::shipped() {
        fs::write(dir.path().join(source.name), source.text).unwrap();
    }
    fs::create_dir(dir.path().join("conf.d")).unwrap();
    let drop_in = |name: &str, text: &str| fs::write(dir.path().join("conf.d").join(name), text).unwrap();
    drop_in("20-site.toml", "[dispatch]\nmax_tries = 20\n");
    drop_in("10-base.toml", "[dispatch]\nmax_tries = 10\nretry_first_minutes = 7\n[log]\nformat = \"json\"\n");
    drop_in("notes.txt", "not a configuration");
    let config = load(dir.path(), [], None).unwrap_or_else(|findings| panic!("{findings}")).config;
    assert_eq!(config.service.dispatch.max_tries, 20);
    assert_eq!(config.service.dispatch.retry_first, Duration::from_mins(7));
    assert_eq!(config.service.dispatch.lease, Duration::from_secs(150));
    assert_eq!(config.texts.service.len(), 3);

    drop_in("20-site.toml", "[dispatch]\nmax_tries = 2000\nretry_frist_minutes = 2\n");
    fs::remove_file(dir.path().join("policy.toml")).unwrap();
    fs::write(dir.path().join("creditors.toml"), b"\xff\xfe").unwrap();
    let said = load(dir.path(), [], None).unwrap_err().to_string();
    let said = said.replace(dir.path().to_str().unwrap(), "config");
    same(
        &said,
        r"
error[C001 file_missing]: this file is missing: `dunningd init` writes a commented one
 --> config/policy.toml

error[C002 file_unreadable]: this file is not UTF-8: save it as UTF-8
 --> config/creditors.toml

error[C015 out_of_range]: `dispatch.max_tries` must be a whole number from 1 to 100
 --> config/conf.d/20-site.toml:2:13
  |
2 | max_tries = 2000
  |             ^^^^

error[C012 unknown_key]: `dispatch.retry_frist_minutes` is not a key of this version: correct or remove it
 --> config/conf.d/20-site.toml:3:1
  |
3 | retry_frist_minutes = 2
  | ^^^^^^^^^^^^^^^^^^^ did you mean `retry_first_minutes`?
",
    );
}

#[test]
fn calendars_are_read_and_their_mistakes_have_a_row_and_a_column() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("calendars")).unwrap();
    for source in Source::shipped() {
        fs::write(dir.path().join(source.name), source.text).unwrap();
    }
    let text = "# years: 2026-2027\ndate,kind,name,source\n2026-12-25,holliday,Christmas Day,law\n25.12.2026,holiday,x,y\n\
                2028-01-01,holiday,New Year's Day,law\n2026-12-26,holiday,law\n";
    fs::write(dir.path().join("calendars/it.csv"), text).unwrap();
    let policy = dir.path().join("policy.toml");
    let changed = fs::read_to_string(&policy)
        .unwrap()
        .replace("IT = \"it\"\nPL = \"pl\"\nRU = \"ru\"\n\n#", "IT = \"it\"\nPL = \"pol\"\nRU = \"ru\"\n\n#");
    fs::write(policy, changed).unwrap();
    let said = load(dir.path(), [], None).unwrap_err().to_string();
    let said = said.replace(dir.path().to_str().unwrap(), "config");
    same(
        &said,
        r#"
error[C014 unknown_value]: `calendars.PL`: there is no calendars/pol.csv: add it, or write "weekdays" when Monday to Friday are worked and no holiday is to be known
   --> config/policy.toml:250:6
    |
250 | PL = "pol"
    |      ^^^^^ did you mean `pl`?

error[C014 unknown_value]: `kind` must be "holiday" or "working"
 --> config/calendars/it.csv:3:12
  |
3 | 2026-12-25,holliday,Christmas Day,law
  |            ^^^^^^^^

error[C016 invalid_value]: write the date as 2026-12-25
 --> config/calendars/it.csv:4:1
  |
4 | 25.12.2026,holiday,x,y
  | ^^^^^^^^^^

error[C015 out_of_range]: 2028-01-01 is not in the years that the head of the file names; correct one of them
 --> config/calendars/it.csv:5:1
  |
5 | 2028-01-01,holiday,New Year's Day,law
  | ^^^^^^^^^^

error[C016 invalid_value]: a row has the four columns date,kind,name,source; a name with a comma stands in quotes
 --> config/calendars/it.csv:6:1
  |
6 | 2026-12-26,holiday,law
  | ^^^^^^^^^^^^^^^^^^^^^^
"#,
    );
}

#[test]
fn a_year_that_nobody_filled_in_is_not_covered() {
    let mut sources = Source::shipped();
    let italy = sources.iter_mut().find(|source| source.name == "calendars/it.csv").unwrap();
    italy.text = italy.text.replace("# years: 2012-2027", "# years: 2012-2028");
    let said = load_from(&sources, Path::new("."), [], None).unwrap_err().to_string();
    assert!(said.contains("no day of 2028 is given"), "{said}");
}

#[test]
fn weekdays_and_other_rules_are_said_in_the_policy() {
    let loaded = read(
        &[
            ("policy.toml", "IE = \"ie\"", "FR = \"weekdays\""),
            ("policy.toml", "PL = \"next_working_day\"", "PL = \"unmoved\"\nIT = \"next_working_day\""),
            ("policy.toml", "from = \"09:00\"\nto = \"18:00\"", "from = \"00:00\"\nto = \"24:00\""),
        ],
        &[],
    );
    let policy = loaded.unwrap().config.policy;
    let country = |code: &str| dunningd::model::Country::parse(code).unwrap();
    let day = |text: &str| text.parse().unwrap();
    let calendars = &policy.calendars;
    assert_eq!(policy.send_window, None);
    assert_eq!(calendars.is_working_day(country("FR"), day("2040-12-25")), Ok(true));
    assert_eq!(calendars.effective_due_date(Some(country("PL")), day("2026-04-04")), Ok(day("2026-04-04")));
    assert_eq!(calendars.effective_due_date(Some(country("IT")), day("2026-04-04")), Ok(day("2026-04-07")));
    assert_eq!(
        calendars.is_working_day(country("IE"), day("2026-12-24")).unwrap_err().to_string(),
        "IE has no calendar: add it to [calendars] in policy.toml, with a file in calendars/ that covers 2026, or as \
         \"weekdays\""
    );
}

#[test]
fn what_no_header_can_hold_is_found_in_the_names_and_addresses_of_a_creditor() {
    refused(
        &[
            ("creditors.toml", "name = \"Tre Aquiloni S.r.l.\"", "name = \"Tre =?utf-8?q?Aquiloni?=\""),
            ("creditors.toml", "sender_name = \"Tre Aquiloni, ", "sender_name = \"Tre\\u202e Aquiloni, "),
            ("creditors.toml", "sender = \"solleciti@", "sender = \"sollecità@"),
            ("creditors.toml", "reply_to = \"rozliczenia@", "reply_to = \"żółw@"),
        ],
        r#"
error[C016 invalid_value]: `creditor.name`: "Tre =?utf-8?q?Aquiloni?=" is not a name of 1 to 200 characters in one line that a mail can carry: without `=?`, and without marks that turn the direction of reading
  --> creditors.toml:28:8
   |
28 | name = "Tre =?utf-8?q?Aquiloni?="
   |        ^^^^^^^^^^^^^^^^^^^^^^^^^^

error[C016 invalid_value]: `creditor.sender_name`: "Tre\u{202e} Aquiloni, amministrazione clienti" is not a name of 1 to 200 characters in one line that a mail can carry: without `=?`, and without marks that turn the direction of reading
  --> creditors.toml:34:15
   |
34 | sender_name = "Tre\u202e Aquiloni, amministrazione clienti"
   |               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

error[C016 invalid_value]: `creditor.sender` has letters outside ASCII before the `@`, and few relays take those from a sender: write an address of yours without them
  --> creditors.toml:35:10
   |
35 | sender = "sollecità@tre-aquiloni.test"
   |          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

error[C016 invalid_value]: `creditor.reply_to` has letters outside ASCII before the `@`, and few relays take those from a sender: write an address of yours without them
  --> creditors.toml:67:12
   |
67 | reply_to = "żółw@trzy-latawce.test"
   |            ^^^^^^^^^^^^^^^^^^^^^^^^
"#,
    );
    for (name, accepted) in [("x".repeat(200), true), ("x".repeat(201), false), ("ж".repeat(200), true)] {
        let written = format!("sender_name = \"{name}\"");
        let edit = ("creditors.toml", "sender_name = \"Tre Aquiloni, amministrazione clienti\"", written.as_str());
        assert_eq!(read(&[edit], &[]).is_ok(), accepted, "{name}");
    }
}

#[test]
fn a_policy_that_could_never_write_is_told() {
    refused(
        &[(
            "policy.toml",
            "send_days = [\"monday\", \"tuesday\", \"wednesday\", \"thursday\", \"friday\"]",
            "send_days = [\"saturday\", \"sunday\"]",
        )],
        r#"
error[C016 invalid_value]: letters go out on working days only, and none of these days is one: nobody would ever be contacted; add one from Monday to Friday
  --> policy.toml:18:13
   |
18 | send_days = ["saturday", "sunday"]
   |             ^^^^^^^^^^^^^^^^^^^^^^
"#,
    );
    let doubtful = read(
        &[
            ("policy.toml", "account_min_arrears_days = 0", "account_min_arrears_days = 365"),
            ("policy.toml", "item_grace_days = 0", "item_grace_days = 75"),
            ("policy.toml", "valid_days = 2", "valid_days = 0"),
            ("policy.toml", "review_window_minutes = 120", "review_window_minutes = 1440"),
            ("policy.toml", "from = \"09:00\"\nto = \"18:00\"", "from = \"22:00\"\nto = \"24:00\""),
            ("policy.toml", "from = \"08-05\"", "from = \"01-07\""),
            ("policy.toml", "to = \"08-25\"", "to = \"12-23\""),
            ("policy.toml", "PL = \"pl\"\nRU = \"ru\"\n\n# What becomes", "RU = \"ru\"\n\n# What becomes"),
        ],
        &[],
    );
    same(
        &doubtful.unwrap_or_else(|findings| panic!("{findings}")).warnings.to_string(),
        r#"
warning[C040 doubtful]: `item_grace_days` outlasts ladder `default`, whose last stage is due at 75 days: none of its stages would come on its day; shorten the wait, or move the stages
  --> policy.toml:11:19
   |
11 | item_grace_days = 75
   |                   ^^

warning[C040 doubtful]: `account_min_arrears_days` outlasts ladder `default`, whose last stage is due at 75 days: none of its stages would come on its day; shorten the wait, or move the stages
  --> policy.toml:15:28
   |
15 | account_min_arrears_days = 365
   |                            ^^^

warning[C040 doubtful]: in IT natural persons are written to from 08:30 to 21:00 only, and `send_window` is closed then: no consumer, and no debtor of unknown kind, would ever be written to there
   --> policy.toml:264:6
    |
264 | to = "24:00"
    |      ^^^^^^^

warning[C040 doubtful]: in RU natural persons are written to from 08:00 to 22:00 only, and `send_window` is closed then: no consumer, and no debtor of unknown kind, would ever be written to there
   --> policy.toml:264:6
    |
264 | to = "24:00"
    |      ^^^^^^^

warning[C040 doubtful]: `send_window.review_window_minutes`: the review ends after the send window of the day, and with `valid_days = 0` a letter is true on that day only: none would ever go out without approval; shorten the review, or raise `valid_days`
   --> policy.toml:266:25
    |
266 | review_window_minutes = 1440
    |                         ^^^^

warning[C040 doubtful]: every day of the year is in a quiet period of IT: nothing in the tone final or later would ever be sent there
   --> policy.toml:271:11
    |
271 | country = "IT"
    |           ^^^^

warning[C040 doubtful]: the policy has no calendar for PL, so nothing would ever be sent for this creditor: add `PL = "…"` to `[calendars]` in policy.toml
  --> creditors.toml:61:11
   |
61 | country = "PL"
   |           ^^^^
"#,
    );
}
