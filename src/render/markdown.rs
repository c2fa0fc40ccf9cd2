//! One Markdown source becomes the plain text and the HTML of a letter. Only what reads the same in both is allowed.

use std::fmt::Write as _;

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

use super::clean::{self, VALUE_MARK};

/// Plain text is folded here, at spaces only: amounts hold together by U+00A0.
const WIDTH: usize = 76;

const BLOCK_OPEN: char = '\u{e001}';
const BLOCK_CLOSE: char = '\u{e002}';

/// What a block variable prints, until its two forms replace it.
pub(super) fn placeholder(name: &str) -> String {
    format!("{BLOCK_OPEN}{name}{BLOCK_CLOSE}")
}

/// A part with a form of its own in text and in HTML.
pub(super) struct Block {
    pub(super) name: &'static str,
    pub(super) text: String,
    pub(super) html: String,
}

/// Both forms of a letter's body.
pub(super) struct Body {
    pub(super) text: String,
    pub(super) html: String,
}

impl Body {
    /// Puts a paragraph of ours before the words of the letter.
    pub(super) fn begin_with(&mut self, words: &str) {
        self.text = format!("{}\n\n{}", wrap(words, ""), self.text);
        self.html = format!("<p style=\"margin:0 0 16px\">{}</p>\n{}", clean::html(words), self.html);
    }
}

/// What a letter may not hold, in words for its author, and a piece of text by which to find it.
#[derive(Debug)]
pub(super) struct NotAllowed {
    pub(super) message: String,
    pub(super) near: String,
}

impl NotAllowed {
    fn new(message: impl Into<String>, near: impl Into<String>) -> Self {
        Self { message: message.into(), near: near.into() }
    }
}

/// Converts a rendered letter.
pub(super) fn convert(markdown: &str, blocks: &[Block]) -> Result<Body, NotAllowed> {
    let mut writer = Writer { blocks, text: String::new(), html: String::new(), inline: Vec::new(), lists: Vec::new() };
    for event in Parser::new_ext(markdown, Options::empty()) {
        writer.event(event)?;
    }
    Ok(Body { text: writer.text.trim().to_owned(), html: writer.html })
}

struct Inline {
    text: String,
    html: String,
    /// Of a link: its address, and where its text begins.
    link: Option<(String, usize)>,
}

struct Writer<'a> {
    blocks: &'a [Block],
    text: String,
    html: String,
    inline: Vec<Inline>,
    /// The next number of each open list, none for bullets.
    lists: Vec<Option<u64>>,
}

impl Writer<'_> {
    fn event(&mut self, event: Event<'_>) -> Result<(), NotAllowed> {
        match event {
            Event::Start(tag) => self.start(&tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => {
                let plain: String = text.chars().filter(|c| *c != VALUE_MARK).collect();
                // A dash does not begin a line.
                let plain = plain.replace(" — ", "\u{a0}— ").replace(" – ", "\u{a0}– ");
                let html = clean::html(&plain);
                self.write(&plain, &html);
                Ok(())
            }
            Event::SoftBreak => {
                self.write(" ", " ");
                Ok(())
            }
            Event::HardBreak => {
                self.write("\n", "<br>\n");
                Ok(())
            }
            Event::Rule => {
                self.text.push_str("---\n\n");
                self.html.push_str("<hr style=\"border:0;border-top:1px solid #cbd2d9;margin:24px 0\">\n");
                Ok(())
            }
            Event::Html(html) | Event::InlineHtml(html) => {
                Err(NotAllowed::new(format!("raw HTML is not allowed: {}", html.trim()), html.trim()))
            }
            Event::Code(code) => Err(NotAllowed::new(format!("code is not allowed: `{code}`"), code.as_ref())),
            _ => Err(NotAllowed::new("this kind of Markdown is not allowed in a letter", "")),
        }
    }

    fn start(&mut self, tag: &Tag<'_>) -> Result<(), NotAllowed> {
        match tag {
            Tag::Heading { level: HeadingLevel::H1, .. } => {
                return Err(NotAllowed::new(
                    "`#` is not allowed: the subject is the one heading of that level; use `##`",
                    "\n# ",
                ));
            }
            Tag::Paragraph | Tag::Heading { .. } => self.open(),
            Tag::List(first) => {
                self.close_item_text();
                self.lists.push(*first);
                self.html.push_str(if first.is_some() {
                    "<ol style=\"margin:0 0 16px;padding-left:24px\">\n"
                } else {
                    "<ul style=\"margin:0 0 16px;padding-left:24px\">\n"
                });
            }
            Tag::Item => {
                self.html.push_str("<li style=\"margin:0 0 6px\">");
                self.open();
            }
            Tag::Emphasis => self.write("", "<em>"),
            Tag::Strong => self.write("", "<strong>"),
            Tag::Link { dest_url, .. } => {
                let url: String = dest_url.chars().filter(|c| *c != VALUE_MARK).collect();
                let address = url.strip_prefix("mailto:").map(str::to_owned);
                if address.is_none() && clean::link(&url).is_none() {
                    let message = format!("{url:?} is no address that a letter may link to (http, https or mailto)");
                    return Err(NotAllowed::new(message, url));
                }
                self.write("", &format!("<a href=\"{}\" style=\"color:#0b5394\">", clean::html(&url)));
                if let Some(inline) = self.inline.last_mut() {
                    inline.link = Some((address.unwrap_or(url), inline.text.len()));
                }
            }
            Tag::BlockQuote(_) => self.html.push_str("<blockquote style=\"margin:0 0 16px;padding-left:16px\">\n"),
            // Raw HTML is reported by the event inside.
            Tag::HtmlBlock => {}
            Tag::Image { .. } => return Err(NotAllowed::new("an image is not allowed: a letter loads nothing", "![")),
            Tag::CodeBlock(_) => {
                let message = "a code block is not allowed; four spaces at the beginning of a line make one";
                return Err(NotAllowed::new(message, "```"));
            }
            _ => return Err(NotAllowed::new("this kind of Markdown is not allowed in a letter", "")),
        }
        Ok(())
    }

    fn end(&mut self, tag: TagEnd) -> Result<(), NotAllowed> {
        match tag {
            TagEnd::Paragraph => self.paragraph()?,
            TagEnd::Heading(level) => {
                let inline = self.close();
                self.push_text(&inline.text);
                let _ = writeln!(
                    self.html,
                    "<{level} style=\"margin:24px 0 12px;font-size:18px;line-height:1.4\">{}</{level}>",
                    inline.html
                );
            }
            TagEnd::List(_) => {
                let ordered = self.lists.pop().flatten().is_some();
                self.html.push_str(if ordered { "</ol>\n" } else { "</ul>\n" });
                self.text.push('\n');
            }
            TagEnd::Item => {
                self.close_item_text();
                self.html.push_str("</li>\n");
            }
            TagEnd::Emphasis => self.write("", "</em>"),
            TagEnd::Strong => self.write("", "</strong>"),
            TagEnd::Link => {
                if let Some(inline) = self.inline.last_mut()
                    && let Some((url, start)) = inline.link.take()
                    && inline.text[start..] != url
                {
                    let _ = write!(inline.text, ": {url}");
                }
                self.write("", "</a>");
            }
            TagEnd::BlockQuote(_) => self.html.push_str("</blockquote>\n"),
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self) {
        self.inline.push(Inline { text: String::new(), html: String::new(), link: None });
    }

    fn close(&mut self) -> Inline {
        self.inline.pop().unwrap_or(Inline { text: String::new(), html: String::new(), link: None })
    }

    fn write(&mut self, text: &str, html: &str) {
        if let Some(inline) = self.inline.last_mut() {
            inline.text.push_str(text);
            inline.html.push_str(html);
        }
    }

    fn paragraph(&mut self) -> Result<(), NotAllowed> {
        let inline = self.close();
        let name = inline.text.strip_prefix(BLOCK_OPEN).and_then(|rest| rest.strip_suffix(BLOCK_CLOSE));
        if let Some(block) = name.and_then(|name| self.blocks.iter().find(|block| block.name == name)) {
            self.text.push_str(&block.text);
            self.text.push_str("\n\n");
            self.html.push_str(&block.html);
            return Ok(());
        }
        if let Some((_, rest)) = inline.text.split_once(BLOCK_OPEN) {
            let name = rest.split(BLOCK_CLOSE).next().unwrap_or_default();
            let message = format!("the block `{name}` must stand alone between two blank lines");
            return Err(NotAllowed::new(message, format!("{{{{ {name} }}}}")));
        }
        // A paragraph inside a list item belongs to the item.
        if self.lists.is_empty() {
            self.push_text(&inline.text);
            let _ = writeln!(self.html, "<p style=\"margin:0 0 16px\">{}</p>", inline.html);
        } else {
            self.write(&inline.text, &inline.html);
        }
        Ok(())
    }

    fn push_text(&mut self, text: &str) {
        self.text.push_str(&wrap(text, ""));
        self.text.push_str("\n\n");
    }

    /// What an item says before a nested list or its own end.
    fn close_item_text(&mut self) {
        let depth = self.lists.len();
        if depth == 0 || self.inline.is_empty() {
            return;
        }
        let inline = self.close();
        self.html.push_str(&inline.html);
        if inline.text.is_empty() {
            return;
        }
        let bullet = match self.lists.last_mut() {
            Some(Some(number)) => {
                *number += 1;
                format!("{}. ", *number - 1)
            }
            _ => "- ".to_owned(),
        };
        let margin = "  ".repeat(depth - 1);
        let indent = format!("{margin}{}", " ".repeat(bullet.len()));
        let wrapped = wrap(&inline.text, &indent);
        let _ = writeln!(self.text, "{margin}{bullet}{}", wrapped.trim_start());
    }
}

/// Folds each line at spaces. U+00A0 and U+202F are no spaces here; a longer word stays whole.
pub(super) fn wrap(text: &str, indent: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for (n, line) in text.split('\n').enumerate() {
        if n > 0 {
            out.push('\n');
        }
        let mut width = 0;
        let mut words = line.split(' ').filter(|word| !word.is_empty()).peekable();
        while let Some(word) = words.next() {
            let mut word = word.to_owned();
            // A day stays with its month, `№` with its number.
            while is_glue(word.rsplit(' ').next().unwrap_or_default())
                && let Some(next) = words.next()
            {
                word = format!("{word} {next}");
            }
            let length = word.chars().count();
            if width == 0 {
                out.push_str(indent);
                width = indent.len();
            } else if width + 1 + length > WIDTH {
                out.push('\n');
                out.push_str(indent);
                width = indent.len();
            } else {
                out.push(' ');
                width += 1;
            }
            out.push_str(&word);
            width += length;
        }
    }
    out
}

fn is_glue(word: &str) -> bool {
    matches!(word, "№" | "n." | "nr") || word.len() <= 2 && word.bytes().all(|b| b.is_ascii_digit())
}
