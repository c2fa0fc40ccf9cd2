//! The MJML layout, compiled once. mrml takes unknown tags and attributes in silence and rewrites what it does not
//! understand, so both are compared with a list here, and Tera's tags travel through it as opaque words.

use std::collections::HashMap;

use mrml::prelude::render::RenderOptions;

use super::contract::LAYOUT;
use super::finding::{TemplateFinding, suggest};
use super::scan::Scan;

/// Every tag that a layout may use, with its attributes. Nothing here loads anything over the network.
const TAGS: &[(&str, &[&str])] = &[
    ("mjml", &["lang", "dir"]),
    ("mj-head", &[]),
    ("mj-title", &[]),
    ("mj-preview", &[]),
    ("mj-breakpoint", &["width"]),
    ("mj-attributes", &[]),
    ("mj-all", &["font-family", "font-size", "line-height", "color", "padding"]),
    ("mj-style", &[]),
    ("mj-body", &["width", "background-color", "css-class"]),
    ("mj-wrapper", &["background-color", "padding", "border", "border-radius", "css-class"]),
    (
        "mj-section",
        &["background-color", "padding", "border", "border-top", "border-bottom", "border-radius", "css-class"],
    ),
    ("mj-column", &["width", "padding", "background-color", "vertical-align", "css-class"]),
    (
        "mj-text",
        &[
            "font-family",
            "font-size",
            "font-weight",
            "font-style",
            "line-height",
            "color",
            "align",
            "padding",
            "css-class",
        ],
    ),
    ("mj-divider", &["border-width", "border-style", "border-color", "padding", "width"]),
    ("mj-spacer", &["height"]),
    ("mj-raw", &[]),
    ("h1", &["style"]),
    ("p", &["style"]),
    ("div", &["style"]),
    ("span", &["style", "lang"]),
    ("strong", &["style"]),
    ("em", &["style"]),
    ("br", &[]),
    ("meta", &["name", "content"]),
];

const REQUIRED: &[&str] = &["body", "subject", "language"];

/// The layout as HTML with Tera's tags in their places.
pub(super) fn compile(file: &str, source: &str) -> Result<String, Vec<TemplateFinding>> {
    let mut findings = Scan { file, source, variables: LAYOUT, amounts_allowed: false }.run(0, source.len());
    let (opaque, tags) = hide_tags(file, source, &mut findings);
    lint(file, source, &opaque, &mut findings);
    for name in REQUIRED {
        if !tags.values().any(|tag| tag.trim_matches(['{', '}', ' ']) == *name) {
            findings.push(TemplateFinding::whole(file, format!("the layout never prints `{name}`")));
        }
    }
    if !findings.is_empty() {
        return Err(findings);
    }
    let html = render(&opaque).map_err(|message| vec![TemplateFinding::whole(file, message)])?;
    let mut restored = html;
    for (token, tag) in &tags {
        if !restored.contains(token.as_str()) {
            let message = format!("`{tag}` is lost when the layout is compiled: MJML does not print what stands there");
            let at = source.find(tag.as_str()).unwrap_or(0);
            return Err(vec![TemplateFinding::at(file, source, at, message)]);
        }
        restored = restored.replace(token.as_str(), tag);
    }
    Ok(restored)
}

fn render(opaque: &str) -> Result<String, String> {
    use std::error::Error as _;
    let parsed = mrml::parse(opaque).map_err(|e| {
        let cause = e.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("this is no MJML: {e}{cause}")
    })?;
    // Without its table of web fonts, mrml has nothing to link to.
    let options = RenderOptions { disable_comments: true, fonts: HashMap::new(), ..RenderOptions::default() };
    parsed.element.render(&options).map_err(|e| format!("the layout cannot be compiled: {e}"))
}

/// Replaces each `{{ ... }}` by a word that survives as text and inside an attribute. Padded to the length of the tag
/// where possible, so that positions hardly move.
fn hide_tags(file: &str, source: &str, findings: &mut Vec<TemplateFinding>) -> (String, HashMap<String, String>) {
    let mut opaque = String::with_capacity(source.len());
    let mut tags = HashMap::new();
    let mut at = 0;
    while let Some(open) = source[at..].find("{{").map(|i| at + i) {
        let Some(close) = source[open..].find("}}").map(|i| open + i + 2) else { break };
        let token = format!("tag{}x", tags.len());
        opaque.push_str(&source[at..open]);
        opaque.push_str(&token);
        tags.insert(token, source[open..close].to_owned());
        at = close;
    }
    opaque.push_str(&source[at..]);
    if let Some(statement) = source.find("{%") {
        let message = "the layout prints values only; decisions belong into the letters";
        findings.push(TemplateFinding::at(file, source, statement, message));
    }
    (opaque, tags)
}

/// Names every tag and attribute that is not on the list.
fn lint(file: &str, source: &str, opaque: &str, findings: &mut Vec<TemplateFinding>) {
    let bytes = opaque.as_bytes();
    let mut at = 0;
    // Positions are found again in the real source: the n-th `<` there is the n-th `<` here.
    let angles: Vec<usize> = source.match_indices('<').map(|(i, _)| i).collect();
    let mut seen = 0;
    while let Some(open) = opaque[at..].find('<').map(|i| at + i) {
        let place = angles.get(seen).copied().unwrap_or(0);
        seen += 1;
        at = open + 1;
        if opaque[open..].starts_with("<!--") {
            let end = opaque[open..].find("-->").map_or(opaque.len(), |i| open + i + 3);
            seen += opaque[at..end].matches('<').count();
            at = end;
            continue;
        }
        if bytes.get(at).is_some_and(|b| *b == b'/') {
            continue;
        }
        let Some(end) = opaque[open..].find('>').map(|i| open + i) else { break };
        let inner = opaque[at..end].trim_end_matches('/');
        let name = inner.split(char::is_whitespace).next().unwrap_or_default();
        let Some((_, attributes)) = TAGS.iter().find(|(known, _)| *known == name) else {
            findings.push(
                TemplateFinding::at(file, source, place, format!("unknown tag `<{name}>`"))
                    .hint(suggest(name, TAGS.iter().map(|(known, _)| *known))),
            );
            continue;
        };
        for attribute in attribute_names(&inner[name.len()..]) {
            if !attributes.contains(&attribute) {
                let column = source[place..].find(attribute).map_or(place, |i| place + i);
                findings.push(
                    TemplateFinding::at(file, source, column, format!("unknown attribute `{attribute}` of `<{name}>`"))
                        .hint(suggest(attribute, attributes.iter().copied())),
                );
            }
        }
        at = end;
    }
}

fn attribute_names(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = rest.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(rest.len());
        names.push(&rest[..end]);
        rest = rest[end..].trim_start();
        if let Some(value) = rest.strip_prefix('=') {
            let value = value.trim_start();
            let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
            let after = match quote {
                Some(quote) => value[1..].find(quote).map_or("", |end| &value[end + 2..]),
                None => value.split_once(char::is_whitespace).map_or("", |(_, after)| after),
            };
            rest = after.trim_start();
        }
    }
    names
}
