//! The files of a template set: those that come with the program, and those of a directory.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::finding::TemplateFinding;
use crate::files;
use crate::model::is_unseen;

macro_rules! files {
    ($($file:literal),* $(,)?) => {
        &[$(($file, include_str!(concat!("../../templates/", $file)))),*]
    };
}

/// The shipped templates: `templates/` of the source tree, nothing else. A test compares the list with the directory.
pub const FILES: &[(&str, &str)] = files![
    "call/en.md",
    "call/it.md",
    "call/pl.md",
    "call/ru.md",
    "courtesy/en.md",
    "courtesy/it.md",
    "courtesy/pl.md",
    "courtesy/ru.md",
    "final/en.md",
    "final/it.md",
    "final/pl.md",
    "final/ru.md",
    "firm/en.md",
    "firm/it.md",
    "firm/pl.md",
    "firm/ru.md",
    "fixtures/bare.toml",
    "fixtures/before_due.toml",
    "fixtures/consumer.toml",
    "fixtures/escalated.toml",
    "fixtures/hostile.toml",
    "fixtures/instalments.toml",
    "fixtures/many.toml",
    "fixtures/one_item.toml",
    "fixtures/part_paid.toml",
    "fixtures/parties.toml",
    "fixtures/person_in_britain.toml",
    "fixtures/plan.toml",
    "fixtures/plan_broken.toml",
    "fixtures/posted.toml",
    "fixtures/two_currencies.toml",
    "fixtures/two_payees.toml",
    "formal/en.md",
    "formal/it.md",
    "formal/pl.md",
    "formal/ru.md",
    "friendly/en.md",
    "friendly/it.md",
    "friendly/pl.md",
    "friendly/ru.md",
    "handover/en.md",
    "handover/it.md",
    "handover/pl.md",
    "handover/ru.md",
    "labels/en.toml",
    "labels/it.toml",
    "labels/pl.toml",
    "labels/ru.toml",
    "layout.mjml",
    "partials/en/closing.md",
    "partials/en/salutation.md",
    "partials/it/closing.md",
    "partials/it/salutation.md",
    "partials/pl/closing.md",
    "partials/pl/salutation.md",
    "partials/ru/closing.md",
    "partials/ru/salutation.md",
    "plan_missed/en.md",
    "plan_missed/it.md",
    "plan_missed/pl.md",
    "plan_missed/ru.md",
];

/// Folders inside folders: `partials/en/closing.md` and no deeper.
const DEPTH: usize = 3;

/// Every template file below a directory, by its path with `/`. Line ends become LF, so that the same templates have
/// the same hash wherever they were edited.
pub(super) fn read(dir: &Path) -> Result<BTreeMap<String, String>, Vec<TemplateFinding>> {
    if !dir.is_dir() {
        let name = dir.file_name().unwrap_or(dir.as_os_str()).to_string_lossy();
        let finding = TemplateFinding::whole("", format!("there is no folder {name}/ beside dunningd.toml"));
        return Err(vec![finding.hint("`dunningd init` writes one into a new folder: copy it from there")]);
    }
    let mut files = BTreeMap::new();
    let mut findings = Vec::new();
    collect(dir, "", DEPTH, &mut files, &mut findings);
    if findings.is_empty() { Ok(files) } else { Err(findings) }
}

fn collect(
    dir: &Path,
    prefix: &str,
    depth: usize,
    files: &mut BTreeMap<String, String>,
    findings: &mut Vec<TemplateFinding>,
) {
    let shown = if prefix.is_empty() { dir.display().to_string() } else { prefix.trim_end_matches('/').to_owned() };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) => {
            findings.push(TemplateFinding::whole(&shown, format!("this directory cannot be read: {e}")));
            return;
        }
    };
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(e) => {
                findings.push(TemplateFinding::whole(&shown, format!("this directory cannot be read: {e}")));
                continue;
            }
        };
        let name = entry.file_name().to_string_lossy().into_owned();
        let file = format!("{prefix}{name}");
        let path = entry.path();
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            if depth > 1 {
                collect(&path, &format!("{file}/"), depth - 1, files, findings);
            }
        } else if [".md", ".toml", ".mjml"].iter().any(|ending| name.ends_with(ending)) {
            match files::text(&path) {
                Ok(text) => {
                    // Some editors of Windows begin a file with a mark that nobody sees.
                    let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
                    if let Some((at, unseen)) = text.char_indices().find(|(_, c)| is_unseen(*c)) {
                        let message = format!("a character that nobody sees, U+{:04X}: remove it", u32::from(unseen));
                        findings.push(TemplateFinding::at(&file, &text, at, message));
                    }
                    files.insert(file, text);
                }
                Err(e) => findings.push(TemplateFinding::whole(&file, format!("this file cannot be read: {e}"))),
            }
        }
    }
}
