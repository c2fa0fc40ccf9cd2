//! From files to a checked set: every mistake that can be found before a letter is needed, all at once.

use std::collections::{BTreeMap, BTreeSet};

use tera::{ErrorKind, Tera};

use super::contract::LETTER;
use super::finding::{TemplateFinding, suggest};
use super::fixtures::Fixtures;
use super::labels::Labels;
use super::scan::Scan;
use super::set::{RenderError, TemplateSet, Voice};
use super::{clean, filters, layout};
use crate::model::Language;

const LAYOUT: &str = "layout.mjml";
/// The compiled layout's name; its ending turns on Tera's HTML escaping.
pub(super) const LAYOUT_HTML: &str = "layout.mjml.html";
/// Folders that hold no letters.
const RESERVED: &[&str] = &["fixtures", "labels", "letter", "partials"];
const KEYS: &[&str] = &["subject", "preheader"];

pub(super) fn check(files: BTreeMap<String, String>) -> Result<TemplateSet, Vec<TemplateFinding>> {
    let mut findings = Vec::new();
    let mut collect = |more: Vec<TemplateFinding>| findings.extend(more);

    let layout = compiled_layout(&files).map_err(&mut collect).ok();
    let fixtures = Fixtures::parse(&files).map_err(&mut collect).ok();
    let mut letters = BTreeSet::new();
    for (file, path) in files.keys().filter_map(|file| Some((file, file.strip_suffix(".md")?))) {
        let Some((folder, name)) = path.split_once('/') else { continue };
        if RESERVED.contains(&folder) {
            continue;
        }
        match Language::ALL.into_iter().find(|language| language.code() == name) {
            Some(language) => {
                letters.insert((folder.to_owned(), language));
            }
            None => findings.push(
                TemplateFinding::whole(file, format!("{name:?} is no language that letters exist in"))
                    .hint(suggest(name, Language::ALL.iter().map(|language| language.code()))),
            ),
        }
    }
    if letters.is_empty() {
        findings.push(TemplateFinding::whole("", "there is no letter: expected <stage>/<language>.md"));
    }
    let mut voices = BTreeMap::new();
    let languages: BTreeSet<Language> = letters.iter().map(|(_, language)| *language).collect();
    for language in languages {
        match voice(&files, &letters, language) {
            Ok(voice) => {
                voices.insert(language, voice);
            }
            Err(more) => findings.extend(more),
        }
    }
    if let (true, Some(layout), Some(fixtures)) = (findings.is_empty(), layout, fixtures) {
        let set = TemplateSet { files, voices, letters, layout, fixtures };
        findings = try_out(&set);
        if findings.is_empty() {
            return Ok(set);
        }
    }
    findings.sort_by(|a, b| (&a.file, a.line, a.column, &a.message).cmp(&(&b.file, b.line, b.column, &b.message)));
    findings.dedup();
    Err(findings)
}

fn compiled_layout(files: &BTreeMap<String, String>) -> Result<Tera, Vec<TemplateFinding>> {
    let source = files.get(LAYOUT).ok_or_else(|| vec![TemplateFinding::whole(LAYOUT, "there is no such file")])?;
    let html = layout::compile(LAYOUT, source)?;
    let mut tera = Tera::default();
    tera.add_raw_template(LAYOUT_HTML, &html)
        .map_err(|e| vec![TemplateFinding::whole(LAYOUT, format!("its tags cannot be read: {e}"))])?;
    Ok(tera)
}

/// Everything of one language: labels, partials and letters.
fn voice(
    files: &BTreeMap<String, String>,
    letters: &BTreeSet<(String, Language)>,
    language: Language,
) -> Result<Voice, Vec<TemplateFinding>> {
    let mut findings = Vec::new();
    let label_file = format!("labels/{language}.toml");
    let labels = files
        .get(&label_file)
        .ok_or_else(|| vec![TemplateFinding::whole(&label_file, "there is no such file")])
        .and_then(|source| Labels::parse(&label_file, source))
        .map_err(|more| findings.extend(more))
        .ok();
    let mut templates: Vec<(String, String)> = Vec::new();
    let partials = format!("partials/{language}/");
    for (file, source) in files.iter().filter(|(file, _)| file.starts_with(&partials)) {
        let scan = Scan { file, source, variables: LETTER, amounts_allowed: true };
        findings.extend(scan.run(0, source.len()));
        templates.push((file.clone(), source.clone()));
    }
    for (folder, _) in letters.iter().filter(|(_, l)| *l == language) {
        let file = format!("{folder}/{language}.md");
        if let Some(source) = files.get(&file) {
            match letter(&file, source) {
                Ok(parts) => templates.extend(parts),
                Err(more) => findings.extend(more),
            }
        }
    }
    // One by one first: Tera stops at the first file that it cannot parse.
    for (name, source) in &templates {
        if let Err(e) = language_tera(language).add_raw_template(name, source)
            && matches!(e.kind(), ErrorKind::SyntaxError(_))
        {
            findings.push(tera_finding(files, name, &e));
        }
    }
    let mut tera = language_tera(language);
    if findings.is_empty()
        && let Err(e) = tera.add_raw_templates(templates.iter().map(|(name, source)| (name, source)))
    {
        findings.push(tera_finding(files, &partials, &e));
    }
    match labels {
        Some(labels) if findings.is_empty() => Ok(Voice { tera, labels }),
        _ => Err(findings),
    }
}

fn language_tera(language: Language) -> Tera {
    let mut tera = Tera::default();
    tera.autoescape_on([".md"]);
    tera.set_escape_fn(clean::markdown);
    filters::register(&mut tera, language);
    tera
}

/// A letter's subject, preheader and body as three templates, each at its own place in the file, so that positions in
/// Tera's messages are those of the file.
fn letter(file: &str, source: &str) -> Result<Vec<(String, String)>, Vec<TemplateFinding>> {
    let mut findings = Vec::new();
    let Some(front) = source.strip_prefix("---\n") else {
        let finding = TemplateFinding::on(file, source, 1, 1, "a letter begins with a line of three dashes");
        return Err(vec![finding.hint("---, then `subject: ...`, then `preheader: ...`, then ---")]);
    };
    let Some(length) = front.find("\n---\n").map(|end| end + 1) else {
        return Err(vec![TemplateFinding::on(
            file,
            source,
            1,
            1,
            "the front matter has no end: a line of three dashes",
        )]);
    };
    let body = 4 + length + 4;
    let mut parts: Vec<(String, String)> = Vec::new();
    let mut at = 4;
    for line in source[4..4 + length].split_inclusive('\n') {
        let start = at;
        at += line.len();
        let line = line.trim_end();
        if line.is_empty() {
            continue;
        }
        let Some((key, value)) = line.split_once(':') else {
            findings.push(TemplateFinding::at(file, source, start, "expected `key: value`"));
            continue;
        };
        if !KEYS.contains(&key) {
            let finding = TemplateFinding::at(file, source, start, format!("unknown key `{key}`"));
            findings.push(finding.hint(suggest(key, KEYS.iter().copied())));
            continue;
        }
        let name = format!("{file}#{key}");
        if parts.iter().any(|(known, _)| *known == name) {
            findings.push(TemplateFinding::at(file, source, start, format!("`{key}` is given twice")));
            continue;
        }
        if value.trim().is_empty() {
            findings.push(TemplateFinding::at(file, source, start, format!("`{key}` is empty")));
            continue;
        }
        let value_at = start + key.len() + 1;
        let scan = Scan { file, source, variables: LETTER, amounts_allowed: false };
        findings.extend(scan.run(value_at, start + line.len()));
        let before = source[..start].matches('\n').count();
        parts.push((name, format!("{}{}{value}", "\n".repeat(before), " ".repeat(key.chars().count() + 1))));
    }
    for key in KEYS {
        let given = findings.iter().any(|f| f.message == format!("`{key}` is empty"));
        if !given && !parts.iter().any(|(name, _)| *name == format!("{file}#{key}")) {
            findings.push(TemplateFinding::on(file, source, 1, 1, format!("`{key}` is missing")));
        }
    }
    if source[body..].trim().is_empty() {
        findings.push(TemplateFinding::whole(file, "the letter has no body"));
    }
    findings.extend(Scan { file, source, variables: LETTER, amounts_allowed: true }.run(body, source.len()));
    let before = source[..body].matches('\n').count();
    parts.push((file.to_owned(), format!("{}{}", "\n".repeat(before), &source[body..])));
    if findings.is_empty() { Ok(parts) } else { Err(findings) }
}

/// Every letter in every situation. One finding per place, naming the first situation that shows it.
fn try_out(set: &TemplateSet) -> Vec<TemplateFinding> {
    let mut findings: Vec<TemplateFinding> = Vec::new();
    for (template, language) in &set.letters {
        for name in set.fixtures.names() {
            let Some(letter) = set.fixtures.letter(name, template, *language) else { continue };
            let mut finding = match set.render(&letter) {
                Ok(_) => continue,
                Err(RenderError::Template(finding)) => *finding,
                Err(e @ (RenderError::NoTemplate { .. } | RenderError::Protocol { .. } | RenderError::Letter(_))) => {
                    TemplateFinding::whole(&format!("fixtures/{name}.toml"), e.to_string())
                }
            };
            let same =
                |f: &&mut TemplateFinding| (&f.file, f.line, f.column) == (&finding.file, finding.line, finding.column);
            if findings.iter_mut().find(same).is_none() {
                finding.message = format!("{} (in the situation `{name}`)", finding.message);
                findings.push(finding);
            }
        }
    }
    findings
}

/// A mistake that Tera found, at its place in the operator's file.
pub(super) fn tera_finding(files: &BTreeMap<String, String>, name: &str, error: &tera::Error) -> TemplateFinding {
    let file_of = |name: &str| name.split('#').next().unwrap_or_default().trim_end_matches(".html").to_owned();
    let text_of = |file: &str| files.get(file).map_or("", String::as_str).to_owned();
    match error.kind() {
        ErrorKind::SyntaxError(report) | ErrorKind::RenderingError(report) => {
            let named = if report.filename().is_empty() { name } else { report.filename() };
            let file = file_of(named);
            let span = report.span();
            let column = span.start_col + 1;
            TemplateFinding::on(&file, &text_of(&file), span.start_line, column, report.message())
        }
        ErrorKind::CircularInclude { tpl, include_chain } => {
            // The file that closes the circle.
            let last = include_chain.iter().rev().nth(1).unwrap_or(tpl);
            let (file, text) = (file_of(last), text_of(&file_of(last)));
            let names = [format!("\"{tpl}\""), format!("'{tpl}'")];
            let at = names.iter().find_map(|name| text.find(name)).unwrap_or_default();
            let circle = include_chain.iter().skip_while(|name| *name != tpl).map(|name| format!("`{name}`"));
            let circle = circle.collect::<Vec<_>>().join(" includes ");
            TemplateFinding::at(&file, &text, at, format!("the files include each other without end: {circle}"))
        }
        other => {
            // Reports without data of their own: `error: <message>`, then `--> <file>:<line>:<column>`.
            let text = other.to_string();
            let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            let place = text.lines().find_map(|line| line.trim().strip_prefix("--> "));
            let mut parts = place.unwrap_or_default().rsplitn(3, ':');
            let column = parts.next().and_then(|n| n.parse().ok());
            let line = parts.next().and_then(|n| n.parse().ok());
            match (parts.next(), line, column) {
                (Some(named), Some(line), Some(column)) => {
                    let file = file_of(named);
                    TemplateFinding::on(&file, &text_of(&file), line, column, message)
                }
                _ => TemplateFinding::whole(&file_of(name), message),
            }
        }
    }
}
