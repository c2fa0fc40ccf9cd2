//! Reads the tags of a template the way an operator means them and checks every name against the contract. Tera itself
//! is silent on `{% if typo %}`, and it only sees what a given letter happens to reach.

use super::contract::{FILTERS, Kind, LOOP, STATEMENTS, Variable};
use super::finding::{TemplateFinding, suggest};

/// Where a piece of template text stands and what it may name.
pub(super) struct Scan<'a> {
    pub(super) file: &'a str,
    /// The text of the whole file, for positions.
    pub(super) source: &'a str,
    pub(super) variables: &'static [Variable],
    /// Subjects and preheaders are read on locked screens: no amounts there.
    pub(super) amounts_allowed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Name(&'a str),
    Text,
    Number,
    Sign(char),
}

struct Local<'a> {
    name: &'a str,
    kind: Kind,
    /// How many loops were open when it was made.
    depth: usize,
    /// What `set` took it from, when that may be missing.
    maybe: Option<String>,
}

const WORDS: &[&str] = &["and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "null"];

impl<'a> Scan<'a> {
    /// The findings in `source[from..to]`.
    pub(super) fn run(&self, from: usize, to: usize) -> Vec<TemplateFinding> {
        let mut findings = Vec::new();
        let mut locals: Vec<Local<'a>> = Vec::new();
        let mut depth = 0;
        let mut asked: Vec<Vec<String>> = Vec::new();
        // The statements that wait for their end, and where each begins.
        let mut open_statements: Vec<(&str, usize)> = Vec::new();
        let mut at = from;
        while let Some(open) = self.source[at..to].find('{').map(|i| at + i) {
            at = open + 1;
            let (end, statement) = match self.source.as_bytes()[open..to].get(1) {
                Some(b'{') => ("}}", false),
                Some(b'%') => ("%}", true),
                Some(b'#') => {
                    at = self.source[open..to].find("#}").map_or(to, |i| open + i + 2);
                    continue;
                }
                _ => continue,
            };
            let close = self.source[open..to].find(end).map(|i| open + i);
            let next = ["{{", "{%"].into_iter().filter_map(|tag| self.source[at + 1..to].find(tag)).min();
            let next = next.map(|i| at + 1 + i);
            let Some(close) = close.filter(|close| next.is_none_or(|next| *close < next)) else {
                let message = format!("`{}` is never closed: add `{end}`", &self.source[open..open + 2]);
                findings.push(TemplateFinding::at(self.file, self.source, open, message));
                at = next.unwrap_or(to);
                continue;
            };
            // `{%-` and `-%}` trim white space; they are no minus.
            let trimmed = self.source[open + 2..close].trim_end_matches('-');
            let inner = trimmed.trim_start_matches('-');
            let tokens = tokens(inner, open + 2 + trimmed.len() - inner.len());
            if statement {
                self.pair(open, &tokens, &mut open_statements, &mut findings);
                self.statement(&tokens, &mut locals, &mut depth, &asked, &mut findings);
                ask(&tokens, &mut asked);
            } else {
                self.optional(&tokens, &locals, &asked, &mut findings);
                self.expression(&tokens, &locals, depth, &mut findings);
                self.printed(&tokens, &locals, depth, &mut findings);
            }
            at = close + 2;
        }
        for (word, open) in open_statements {
            let message = format!("`{{% {word} %}}` is never closed: add `{{% end{word} %}}`");
            findings.push(TemplateFinding::at(self.file, self.source, open, message));
        }
        findings
    }

    /// Matches `if` with `endif` and `for` with `endfor`.
    fn pair(
        &self,
        open: usize,
        tokens: &[(usize, Token<'a>)],
        open_statements: &mut Vec<(&'a str, usize)>,
        findings: &mut Vec<TemplateFinding>,
    ) {
        let Some((_, Token::Name(word))) = tokens.first() else { return };
        match *word {
            "if" | "for" => open_statements.push((word, open)),
            "endif" | "endfor" => {
                let begin = word.trim_start_matches("end");
                if open_statements.last().is_some_and(|(word, _)| *word == begin) {
                    open_statements.pop();
                } else {
                    let message = match open_statements.last() {
                        Some((word, _)) => format!("`{{% end{begin} %}}` stands where `{{% end{word} %}}` is due"),
                        None => format!("`{{% end{begin} %}}` closes nothing: there is no `{{% {begin} %}}` before it"),
                    };
                    findings.push(TemplateFinding::at(self.file, self.source, open, message));
                }
            }
            _ => {}
        }
    }

    fn statement(
        &self,
        tokens: &[(usize, Token<'a>)],
        locals: &mut Vec<Local<'a>>,
        depth: &mut usize,
        asked: &[Vec<String>],
        findings: &mut Vec<TemplateFinding>,
    ) {
        let Some(((start, Token::Name(word)), rest)) = tokens.split_first() else { return };
        match *word {
            "for" => {
                let names = rest.iter().position(|(_, token)| *token == Token::Name("in")).unwrap_or(0);
                let over = rest.get(names + 1..).unwrap_or_default();
                self.expression(over, locals, *depth, findings);
                let kind = match self.kind_of(over, locals, *depth) {
                    Some(Kind::List(fields)) => Kind::Group(fields),
                    Some(Kind::Amounts) => Kind::Money,
                    Some(Kind::Any) | None => Kind::Any,
                    Some(_) => {
                        let at = over.first().map_or(*start, |(at, _)| *at);
                        findings.push(TemplateFinding::at(self.file, self.source, at, "`for` wants a list"));
                        Kind::Any
                    }
                };
                *depth += 1;
                for (_, token) in &rest[..names] {
                    if let Token::Name(name) = token {
                        locals.push(Local { name, kind, depth: *depth, maybe: None });
                    }
                }
            }
            "endfor" => {
                locals.retain(|local| local.depth < *depth);
                *depth = depth.saturating_sub(1);
            }
            "set" => {
                if let Some((_, Token::Name(name))) = rest.first() {
                    let value = rest.get(2..).unwrap_or_default();
                    self.expression(value, locals, *depth, findings);
                    let kind = self.kind_of(value, locals, *depth).unwrap_or(Kind::Any);
                    let maybe = self.missing(value, locals, asked);
                    locals.push(Local { name, kind, depth: *depth, maybe });
                }
            }
            "if" | "elif" | "include" => self.expression(rest, locals, *depth, findings),
            "else" | "endif" => {}
            other => findings.push(
                TemplateFinding::at(self.file, self.source, *start, format!("unknown statement `{other}`"))
                    .hint(suggest(other, STATEMENTS.iter().copied())),
            ),
        }
    }

    fn expression(
        &self,
        tokens: &[(usize, Token<'a>)],
        locals: &[Local<'a>],
        depth: usize,
        findings: &mut Vec<TemplateFinding>,
    ) {
        let sign = |n: usize, c: char| tokens.get(n).is_some_and(|(_, token)| *token == Token::Sign(c));
        let mut n = 0;
        while let Some((start, token)) = tokens.get(n) {
            let after_name = n > 0 && matches!(tokens[n - 1].1, Token::Name(name) if !WORDS.contains(&name));
            let indexed = *token == Token::Sign('[') && (after_name || n > 0 && sign(n - 1, ']'));
            let numbered = *token == Token::Sign('.') && matches!(tokens.get(n + 1), Some((_, Token::Number)));
            if indexed || numbered && after_name {
                let message = "parts are named as `a.b`; those of a list are reached with `{% for %}`";
                findings.push(TemplateFinding::at(self.file, self.source, *start, message));
            }
            let Token::Name(name) = token else {
                n += 1;
                continue;
            };
            let before = n.checked_sub(1).map(|b| tokens[b].1);
            let finding = |message: String| TemplateFinding::at(self.file, self.source, *start, message);
            if before == Some(Token::Sign('|')) {
                if !FILTERS.iter().any(|(known, ..)| known == name) {
                    let hint = suggest(name, FILTERS.iter().map(|(known, ..)| *known));
                    findings.push(finding(format!("unknown filter `{name}`")).hint(hint));
                } else if matches!(*name, "money" | "words") && !self.amounts_allowed {
                    findings.push(finding("an amount has no place in a subject or preheader".to_owned()));
                }
            } else if sign(n + 1, '=') && !sign(n + 2, '=') {
                // The name of an argument.
            } else if before == Some(Token::Name("is")) || is_not(tokens, n) {
                // A test; Tera knows which there are.
            } else if sign(n + 1, '(') {
                findings.push(
                    finding(format!("unknown function `{name}`")).hint("there are only filters: `value | filter`"),
                );
            } else if !WORDS.contains(name) {
                let path = path(&tokens[n..]);
                if let Err((step, known)) = self.resolve(&path, locals, depth) {
                    let (at, wrong) = path[step];
                    let message = if step == 0 {
                        format!("unknown variable `{wrong}`")
                    } else {
                        let parent: Vec<&str> = path[..step].iter().map(|(_, name)| *name).collect();
                        format!("`{}` has no `{wrong}`", parent.join("."))
                    };
                    let hint = if known.is_empty() { "it has no parts".to_owned() } else { suggest(wrong, known) };
                    findings.push(TemplateFinding::at(self.file, self.source, at, message).hint(hint));
                }
                n += path.len() * 2 - 1;
                continue;
            }
            n += 1;
        }
    }

    /// A value printed as it is must be something that reads well as it is.
    fn printed(
        &self,
        tokens: &[(usize, Token<'a>)],
        locals: &[Local<'a>],
        depth: usize,
        findings: &mut Vec<TemplateFinding>,
    ) {
        let path = path(tokens);
        let Some((start, _)) = path.first().filter(|_| path.len() * 2 - 1 == tokens.len()) else { return };
        let Ok(kind) = self.resolve(&path, locals, depth) else { return };
        let names: Vec<&str> = path.iter().map(|(_, name)| *name).collect();
        let name = names.join(".");
        let advice = match kind {
            Kind::Date => format!("`{name}` is a date: write `{{{{ {name} | date }}}}`"),
            Kind::Money | Kind::Amounts => format!("`{name}` is an amount: write `{{{{ {name} | money }}}}`"),
            Kind::Flag => format!("`{name}` is yes or no: ask `{{% if {name} %}}`"),
            Kind::Group(_) | Kind::List(_) => format!("`{name}` has several parts and cannot be printed as a whole"),
            Kind::Text | Kind::Number | Kind::Block | Kind::Any => return,
        };
        findings.push(TemplateFinding::at(self.file, self.source, *start, advice));
    }

    /// What may be missing would be printed as nothing, in silence: it stands inside an `if` that asks for it.
    fn optional(
        &self,
        tokens: &[(usize, Token<'a>)],
        locals: &[Local<'a>],
        asked: &[Vec<String>],
        findings: &mut Vec<TemplateFinding>,
    ) {
        if let (Some((start, _)), Some(name)) = (tokens.first(), self.missing(tokens, locals, asked)) {
            let message = format!("`{name}` may be missing: print it inside `{{% if {name} %}}`");
            findings.push(TemplateFinding::at(self.file, self.source, *start, message));
        }
    }

    /// The part of a path that may be missing and that no open `if` asks for.
    fn missing(&self, tokens: &[(usize, Token<'a>)], locals: &[Local<'a>], asked: &[Vec<String>]) -> Option<String> {
        let path = path(tokens);
        let (_, first) = path.first()?;
        if tokens.iter().any(|(_, token)| matches!(token, Token::Name("or" | "if"))) {
            return None;
        }
        let is_asked = |name: &str| asked.iter().flatten().any(|asked| asked == name);
        let local = locals.iter().rev().find(|local| local.name == *first);
        let own = self.variables.iter().find(|variable| variable.name == *first);
        let (mut kind, maybe) = match (local, own) {
            (Some(local), _) => (local.kind, local.maybe.as_ref().is_some_and(|source| !is_asked(source))),
            (None, Some(variable)) => (variable.kind, variable.optional),
            (None, None) => return None,
        };
        let mut name = (*first).to_owned();
        if maybe && !is_asked(&name) {
            return Some(name);
        }
        for (_, step) in path.iter().skip(1) {
            let Kind::Group(fields) = kind else { return None };
            let field = fields.iter().find(|field| field.name == *step)?;
            name = format!("{name}.{step}");
            if field.optional && !is_asked(&name) {
                return Some(name);
            }
            kind = field.kind;
        }
        None
    }

    /// What a plain path is; none of anything else.
    fn kind_of(&self, tokens: &[(usize, Token<'a>)], locals: &[Local<'a>], depth: usize) -> Option<Kind> {
        let path = path(tokens);
        (path.len() * 2 == tokens.len() + 1).then(|| self.resolve(&path, locals, depth).ok()).flatten()
    }

    /// What a path names, or the step that names nothing and the names known there.
    fn resolve(
        &self,
        path: &[(usize, &'a str)],
        locals: &[Local<'a>],
        depth: usize,
    ) -> Result<Kind, (usize, Vec<&'a str>)> {
        let Some((_, first)) = path.first() else { return Ok(Kind::Any) };
        let local = locals.iter().rev().find(|local| local.name == *first).map(|local| local.kind);
        let in_loop = (*first == "loop" && depth > 0).then_some(Kind::Group(LOOP));
        let own = self.variables.iter().find(|v| v.name == *first).map(|v| v.kind);
        let known = || {
            let locals = locals.iter().map(|local| local.name);
            (0, self.variables.iter().map(|v| v.name).chain(locals).collect())
        };
        let mut kind = local.or(in_loop).or(own).ok_or_else(known)?;
        for (step, (_, name)) in path.iter().enumerate().skip(1) {
            kind = match kind {
                Kind::Any => return Ok(Kind::Any),
                Kind::Group(fields) => match fields.iter().find(|field| field.name == *name) {
                    Some(field) => field.kind,
                    None => return Err((step, fields.iter().map(|field| field.name).collect())),
                },
                _ => return Err((step, Vec::new())),
            };
        }
        Ok(kind)
    }
}

/// Keeps, for every open `if`, the names that its conditions mention.
fn ask(tokens: &[(usize, Token<'_>)], asked: &mut Vec<Vec<String>>) {
    let Some(((_, Token::Name(word)), rest)) = tokens.split_first() else { return };
    match *word {
        "if" => asked.push(Vec::new()),
        "endif" => {
            asked.pop();
        }
        _ => {}
    }
    if let ("if" | "elif", Some(names)) = (*word, asked.last_mut()) {
        let mut n = 0;
        while n < rest.len() {
            let path = path(&rest[n..]);
            let joined: Vec<&str> = path.iter().map(|(_, name)| *name).collect();
            n += (path.len() * 2).saturating_sub(1).max(1);
            names.push(joined.join("."));
        }
    }
}

fn is_not(tokens: &[(usize, Token<'_>)], n: usize) -> bool {
    n >= 2 && tokens[n - 1].1 == Token::Name("not") && tokens[n - 2].1 == Token::Name("is")
}

/// The leading `a.b.c` with the position of each name.
fn path<'a>(tokens: &[(usize, Token<'a>)]) -> Vec<(usize, &'a str)> {
    let mut path = Vec::new();
    for pair in tokens.chunks(2) {
        let (at, Token::Name(name)) = pair[0] else { break };
        path.push((at, name));
        if pair.get(1).is_none_or(|(_, token)| *token != Token::Sign('.')) {
            break;
        }
    }
    path
}

fn tokens(text: &str, offset: usize) -> Vec<(usize, Token<'_>)> {
    let mut tokens = Vec::new();
    let mut rest = text.char_indices().peekable();
    while let Some((start, c)) = rest.next() {
        let token = match c {
            '"' | '\'' | '`' => {
                rest.by_ref().find(|(_, end)| *end == c);
                Token::Text
            }
            c if c.is_alphabetic() || c == '_' => {
                let mut end = start + c.len_utf8();
                while let Some((at, next)) = rest.next_if(|(_, next)| next.is_alphanumeric() || *next == '_') {
                    end = at + next.len_utf8();
                }
                Token::Name(&text[start..end])
            }
            c if c.is_ascii_digit() => {
                while rest.next_if(|(_, next)| next.is_ascii_digit() || *next == '.').is_some() {}
                Token::Number
            }
            c if c.is_whitespace() => continue,
            c => Token::Sign(c),
        };
        tokens.push((offset + start, token));
    }
    tokens
}
