//! A checked set of templates, and the way from a letter to its text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use chrono::Days;
use rust_decimal::Decimal;
use sha2::{Digest as _, Sha256};
use tera::{Context, Tera};

use super::blocks::{self, Speaker};
use super::finding::TemplateFinding;
use super::fixtures::Fixtures;
use super::labels::Labels;
use super::load;
use super::locale::Locale;
use super::{attachment, clean, context, files, markdown};
use crate::model::{
    Currency, Language, Letter, LetterRow, PROTOCOL_DAYS_TO_REPLY, Rendered, TemplateCatalog, without_encoded_words,
};

/// Templates that were checked: every letter in it was rendered for every sample situation.
#[derive(Debug, Clone)]
pub struct TemplateSet {
    pub(super) files: BTreeMap<String, String>,
    pub(super) voices: BTreeMap<Language, Voice>,
    pub(super) letters: BTreeSet<(String, Language)>,
    pub(super) layout: Tera,
    pub(super) fixtures: Fixtures,
}

/// What one language needs besides its letters.
#[derive(Debug, Clone)]
pub(super) struct Voice {
    pub(super) tera: Tera,
    pub(super) labels: Labels,
}

/// Why there is no letter. Nothing is sent then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// No file, or none that passed its check.
    #[error("there is no template {template}/{language}.md")]
    NoTemplate { template: String, language: Language },
    /// A template failed on this letter.
    #[error("{0}")]
    Template(Box<TemplateFinding>),
    /// It lacks what the law of the debtor asks for.
    #[error(
        "{file}: under the Pre-Action Protocol for Debt Claims, a claim against a natural person in Great Britain {problem}"
    )]
    Protocol { file: String, problem: String },
    /// The letter is in itself not right: an empty demand, or totals that are not the sums of their rows.
    #[error("the letter does not add up: {0}")]
    Letter(String),
}

impl TemplateSet {
    /// Reads and checks a directory of templates.
    ///
    /// # Errors
    /// All findings at once: what cannot be read, parsed or rendered, with its place.
    pub fn load(dir: &Path) -> Result<Self, Vec<TemplateFinding>> {
        load::check(files::read(dir)?)
    }

    /// The templates that come with the program.
    ///
    /// # Errors
    /// Never for the shipped files; a test loads them.
    pub fn builtin() -> Result<Self, Vec<TemplateFinding>> {
        load::check(files::FILES.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect())
    }

    /// Which letters exist, for the policy.
    #[must_use]
    pub fn catalog(&self) -> TemplateCatalog {
        TemplateCatalog(self.letters.clone())
    }

    /// A finding for each letter that is wanted and not there.
    #[must_use]
    pub fn missing<'a>(&self, wanted: impl IntoIterator<Item = (&'a str, Language)>) -> Vec<TemplateFinding> {
        let absent =
            |(template, language): &(&str, Language)| !self.letters.contains(&((*template).to_owned(), *language));
        wanted
            .into_iter()
            .filter(absent)
            .map(|(template, language)| {
                TemplateFinding::whole(
                    &format!("{template}/{language}.md"),
                    "a stage of the policy needs this letter, and there is none",
                )
                .hint("write it, or change the stage's `template` or the `languages` of policy.toml")
            })
            .collect()
    }

    /// Every source in one text, the same for the same files: path, length in bytes, content.
    #[must_use]
    pub fn sources(&self) -> String {
        let mut out = String::new();
        for (file, text) in &self.files {
            let _ = writeln!(out, "{file}\n{}\n{text}", text.len());
        }
        out
    }

    /// SHA-256 of [`Self::sources`], in hex.
    #[must_use]
    pub fn sha256(&self) -> String {
        hex::encode(Sha256::digest(self.sources().as_bytes()))
    }

    /// The names of the sample situations.
    pub fn fixture_names(&self) -> impl Iterator<Item = &str> {
        self.fixtures.names()
    }

    /// The letter of a sample situation, for a preview or a test.
    #[must_use]
    pub fn fixture(&self, name: &str, template: &str, language: Language) -> Option<Letter> {
        self.fixtures.letter(name, template, language)
    }

    /// Why a letter cannot be written in a currency, such as one that `words` has no words for.
    #[must_use]
    pub fn unwritable(&self, template: &str, language: Language, currency: Currency) -> Option<RenderError> {
        let samples = || self.fixture_names().filter_map(|name| self.fixture(name, template, language));
        // Letters about one document and about several say different things.
        [true, false].into_iter().find_map(|one| {
            let mut letter = samples().find(|letter| (blocks::count(letter) == 1) == one)?;
            for demand in &mut letter.demands {
                demand.currency = currency;
            }
            self.render(&letter).err()
        })
    }

    /// Every sample letter of a language, by situation and template.
    #[must_use]
    pub fn fixtures(&self, language: Language) -> Vec<(String, Letter)> {
        let templates = self.letters.iter().filter(|(_, l)| *l == language).map(|(template, _)| template);
        templates
            .flat_map(|template| {
                self.fixture_names()
                    .filter_map(move |name| Some((name.to_owned(), self.fixture(name, template, language)?)))
            })
            .collect()
    }

    /// The letter as subject, text, HTML and attachments.
    ///
    /// # Errors
    /// When there is no such template, when it fails on this letter, or when the letter does not add up. Then nothing
    /// may be sent.
    pub fn render(&self, letter: &Letter) -> Result<Rendered, RenderError> {
        let no_template = || RenderError::NoTemplate { template: letter.template.clone(), language: letter.language };
        if !self.letters.contains(&(letter.template.clone(), letter.language)) {
            return Err(no_template());
        }
        let voice = self.voices.get(&letter.language).ok_or_else(no_template)?;
        adds_up(letter)?;

        let file_name = attachment::file_name(letter);
        let locale = Locale::from(letter.language);
        let speaker = Speaker { letter, labels: &voice.labels, locale, attachment: file_name };
        let blocks = blocks::blocks(&speaker);
        let context = context::context(&speaker, &blocks);
        let file = format!("{}/{}.md", letter.template, letter.language);
        let wrong = |message: String| RenderError::Template(Box::new(TemplateFinding::whole(&file, message)));

        let subject = clean::line(&self.template(&voice.tera, &format!("{file}#subject"), &context)?);
        let subject = without_encoded_words(&subject);
        if subject.is_empty() {
            return Err(wrong("the subject is empty for this letter".to_owned()));
        }
        let preheader = clean::line(&self.template(&voice.tera, &format!("{file}#preheader"), &context)?);
        let source = self.template(&voice.tera, &file, &context)?;
        for block in blocks.iter().filter(|block| !block.html.is_empty()) {
            if !source.contains(&markdown::placeholder(block.name)) {
                return Err(wrong(format!("the letter never prints `{{{{ {} }}}}`", block.name)));
            }
        }
        let mut body = markdown::convert(&source, &blocks).map_err(|e| {
            let partials = format!("partials/{}/", letter.language);
            let mut sources = self.files.iter().filter(|(name, _)| **name == file || name.starts_with(&partials));
            match sources
                .find_map(|(name, text)| Some((name, text, text.find(&e.near).filter(|_| !e.near.is_empty())?)))
            {
                Some((name, text, at)) => {
                    RenderError::Template(Box::new(TemplateFinding::at(name, text, at, e.message)))
                }
                None => wrong(e.message),
            }
        })?;

        if letter.copy_of_post {
            body.begin_with(&voice.labels.copy_of_post);
        }
        if letter.protocol_claim
            && let Some(problem) = against_protocol(letter, &body.text)
        {
            return Err(RenderError::Protocol { file, problem });
        }

        let mut frame = Context::new();
        frame.insert("language", letter.language.code());
        frame.insert("subject", &subject);
        frame.insert("preheader", &preheader);
        frame.insert("creditor_name", &clean::line(&letter.creditor_name));
        frame.insert_value("body", tera::Value::safe_string(&body.html));
        let html = self.template(&self.layout, load::LAYOUT_HTML, &frame)?;

        let attachments = speaker.attachment.iter().map(|name| attachment::csv(&speaker, name)).collect();
        Ok(Rendered { subject, text: format!("{}\n", body.text), html, attachments })
    }

    fn template(&self, tera: &Tera, name: &str, context: &Context) -> Result<String, RenderError> {
        tera.render(name, context)
            .map_err(|e| RenderError::Template(Box::new(load::tera_finding(&self.files, name, &e))))
    }
}

/// What a claim under the Pre-Action Protocol for Debt Claims lacks: its enclosures (paragraph 3.1) or the days to reply
/// (4.1).
fn against_protocol(letter: &Letter, text: &str) -> Option<String> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some(missing) =
        ["Information Sheet", "Reply Form", "Financial Statement"].iter().find(|enclosed| !text.contains(**enclosed))
    {
        return Some(format!("must name the {missing} that is enclosed"));
    }
    let earliest = letter.date.checked_add_days(Days::new(PROTOCOL_DAYS_TO_REPLY));
    letter
        .respond_by
        .zip(earliest)
        .is_none_or(|(deadline, earliest)| deadline < earliest)
        .then(|| format!("must leave {PROTOCOL_DAYS_TO_REPLY} days to reply"))
}

/// Sum of printed rows = printed total, in every table.
fn adds_up(letter: &Letter) -> Result<(), RenderError> {
    let wrong = |what: String| Err(RenderError::Letter(what));
    if letter.demands.is_empty() {
        return wrong("it demands nothing".to_owned());
    }
    for demand in &letter.demands {
        let currency = demand.currency;
        if demand.rows.is_empty() {
            return wrong(format!("its table in {currency} is empty"));
        }
        if let Some(row) = demand.rows.iter().find(|row| row.open - row.credited != row.to_pay) {
            return wrong(format!("{} in {currency}: open less credited is not to pay", clean::line(&row.document_no)));
        }
        let covers = |row: &LetterRow| row.credits.iter().map(|credit| credit.amount).sum::<Decimal>();
        if let Some(row) = demand.rows.iter().find(|row| !row.credits.is_empty() && covers(row) != row.credited) {
            return wrong(format!("{} in {currency}: its credits are not what it says", clean::line(&row.document_no)));
        }
        let sums = [
            ("open", demand.rows.iter().map(|row| row.open).sum(), demand.open),
            ("credited", demand.rows.iter().map(|row| row.credited).sum(), demand.credited),
            ("to pay", demand.rows.iter().map(|row| row.to_pay).sum(), demand.to_pay),
        ];
        for (what, sum, total) in sums {
            let sum: Decimal = sum;
            if sum != total {
                return wrong(format!("{what} in {currency}: the rows make {sum}, the total says {total}"));
            }
        }
    }
    Ok(())
}
