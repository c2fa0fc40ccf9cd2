//! What is wrong with a template, and where.

use std::fmt;

use crate::model::is_unseen;

/// Of a line more than twice as long, so many characters before and after the mistake are shown: a paragraph is one line.
const AROUND: usize = 50;

/// One mistake in one file, shown with its line and a caret.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TemplateFinding {
    /// Relative to the template directory, with `/`.
    pub file: String,
    /// From 1; 0 when the file as a whole is meant.
    pub line: usize,
    /// From 1, in characters; 0 when the file as a whole is meant.
    pub column: usize,
    pub message: String,
    /// The line of the source, empty when the file as a whole is meant.
    pub source_line: String,
    pub hint: Option<String>,
}

impl TemplateFinding {
    /// About a file as a whole.
    pub(super) fn whole(file: &str, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: 0,
            column: 0,
            message: message.into(),
            source_line: String::new(),
            hint: None,
        }
    }

    /// About the character at that byte of the file's text.
    pub(super) fn at(file: &str, source: &str, byte: usize, message: impl Into<String>) -> Self {
        let mut byte = byte.min(source.len());
        while !source.is_char_boundary(byte) {
            byte -= 1;
        }
        let before = &source[..byte];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self::on(file, source, before.matches('\n').count() + 1, before[line_start..].chars().count() + 1, message)
    }

    /// About that line and column, both from 1.
    pub(super) fn on(file: &str, source: &str, line: usize, column: usize, message: impl Into<String>) -> Self {
        let source_line = source.lines().nth(line.saturating_sub(1)).unwrap_or_default();
        // A terminal would obey what nobody sees.
        let source_line = source_line.replace(is_unseen, "\u{fffd}");
        Self { line, column, source_line, ..Self::whole(file, message) }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for TemplateFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            write!(f, "{}: {}", self.file, self.message)?;
        } else {
            let number = self.line.to_string();
            let margin = " ".repeat(number.len());
            let at = self.column.saturating_sub(1);
            let length = self.source_line.chars().count();
            let (from, to) = if length > 2 * AROUND { (at.saturating_sub(AROUND), at + AROUND) } else { (0, length) };
            let part = |from: usize, to: usize| self.source_line.chars().take(to).skip(from).collect::<String>();
            let ellipsis = |cut: bool| if cut { "…" } else { "" };
            let shown = format!("{}{}", ellipsis(from > 0), part(from, at));
            let after = part(at, to);
            let more = ellipsis(to < length);
            // Tabs stay tabs, so that the caret stands under its character whatever their width.
            let indent: String = shown.chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            writeln!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
            writeln!(f, "{number} | {shown}{after}{more}")?;
            write!(f, "{margin} | {indent}^")?;
        }
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// `did you mean ...?` where one of the known names is close, and the names themselves.
pub(super) fn suggest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let mut known: Vec<&str> = known.into_iter().collect();
    known.sort_unstable();
    known.dedup();
    let near = known.iter().min_by_key(|name| strsim::damerau_levenshtein(wrong, name));
    let near = near.filter(|name| strsim::damerau_levenshtein(wrong, name) <= 1.max(wrong.len() / 3));
    let list = known.join(", ");
    match near {
        Some(name) => format!("did you mean `{name}`? known here: {list}"),
        None => format!("known here: {list}"),
    }
}
