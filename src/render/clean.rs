//! What debtors and ledgers wrote, made harmless: readable in a subject, in Markdown and in HTML, and nothing more.

use std::io::Write;

/// Stands around every printed value in Markdown, so that no value can begin a line: a document number `15` before a
/// full stop would otherwise open a numbered list. Private use, removed from all data and again from the result.
pub(super) const VALUE_MARK: char = '\u{e000}';

/// A name longer than this is cut: nobody reads it, and it must not push the demand out of sight.
const LONGEST: usize = 300;

/// Foreign text as one line: control, bidirectional, invisible and private-use characters are dropped, line breaks and
/// runs of white space become one space.
pub(super) fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, ' ' | '\t' | '\r' | '\n' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}') {
            if !out.ends_with(' ') {
                out.push(' ');
            }
        } else if !c.is_control() && !is_invisible(c) {
            out.push(c);
        }
    }
    let trimmed = out.trim();
    match trimmed.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &trimmed[..end]),
        None => trimmed.to_owned(),
    }
}

/// One line whose parts stay together, such as a telephone number.
pub(super) fn together(text: &str) -> String {
    line(text).replace(' ', "\u{a0}")
}

/// Lines of foreign text, each made harmless, as one line with commas.
pub(super) fn lines(text: &str) -> String {
    let parts: Vec<String> = text.lines().map(line).filter(|part| !part.is_empty()).collect();
    line(&parts.join(", "))
}

fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{e000}'..='\u{f8ff}'
        | '\u{feff}'
        | '\u{fff0}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}'
        | '\u{f0000}'..='\u{10ffff}')
}

/// Tera's escape function for Markdown: every ASCII punctuation character becomes itself by a backslash (CommonMark
/// §2.4), which holds in text, in link texts and in link targets alike.
pub(super) fn markdown(text: &str, out: &mut dyn Write) -> std::io::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    let mut escaped = String::with_capacity(text.len() * 2);
    escaped.push(VALUE_MARK);
    for c in text.chars() {
        if c.is_ascii_punctuation() {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped.push(VALUE_MARK);
    out.write_all(escaped.as_bytes())
}

/// Text for an HTML element or a quoted attribute.
pub(super) fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(c),
        }
    }
    out
}

/// An address that may become a link: http or https, a plain host without user name, printable ASCII only.
pub(super) fn link(url: &str) -> Option<String> {
    let url = url.trim();
    let rest = ["https://", "http://"].iter().find_map(|scheme| {
        url.get(..scheme.len()).filter(|head| head.eq_ignore_ascii_case(scheme)).map(|head| &url[head.len()..])
    })?;
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host_fits = host.contains(|c: char| c.is_ascii_alphanumeric())
        && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']'));
    let rest_fits = rest.chars().all(|c| c.is_ascii_graphic() && !"\"'<>\\^`{|}".contains(c));
    (host_fits && rest_fits && url.len() <= 2000).then(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_becomes_one_readable_line() {
        assert_eq!(line(" ООО\r\nBcc: a@b.c\t\u{202e}evil\u{200b}\u{0}\u{e000} "), "ООО Bcc: a@b.c evil");
    }

    #[test]
    fn only_plain_web_addresses_become_links() {
        for good in ["https://pay.example/i/1?x=2&y=3", "HTTP://Example.com", "https://a.b:8443/#x"] {
            assert!(link(good).is_some(), "{good}");
        }
        let bad = [
            "javascript:alert(1)",
            "https://",
            "https://bank.example@evil.test/",
            "https://a.b/\"onclick=",
            "https://a.b/<x>",
            "ftp://a.b",
            "//a.b",
            "https://bänk.example",
        ];
        for bad in bad {
            assert!(link(bad).is_none(), "{bad}");
        }
    }
}
