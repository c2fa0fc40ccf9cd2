//! The words inside tables and blocks: one closed set per language, in `labels/<lang>.toml`.

use serde::Deserialize;

use super::finding::{TemplateFinding, suggest};
use crate::model::{ItemKind, LetterRow, is_unseen};

/// Every word that a block needs. Labels stand before a colon or over a column, so that no noun has to follow a number.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Labels {
    pub(super) customer: String,
    pub(super) customer_no: String,
    pub(super) demands: String,
    pub(super) also_open: String,
    pub(super) document: String,
    pub(super) issue_date: String,
    pub(super) due_date: String,
    pub(super) days_past_due: String,
    pub(super) amount: String,
    pub(super) open: String,
    /// What is left of an item that a letter lists without demanding it.
    pub(super) balance: String,
    pub(super) credited: String,
    /// `{title}`, `{date}`: a credit note or payment that covers something of an item.
    pub(super) credit: String,
    /// `{amount}`, `{whole}`: how much of it does, when that is not all of it.
    pub(super) credit_part: String,
    pub(super) to_pay: String,
    pub(super) total_open: String,
    pub(super) total_credited: String,
    pub(super) total_to_pay: String,
    pub(super) customer_reference: String,
    pub(super) contract: String,
    pub(super) pay_online: String,
    pub(super) see_document: String,
    /// `{shown}`, `{count}`, `{file}`.
    pub(super) more: String,
    pub(super) payment: String,
    pub(super) holder: String,
    pub(super) iban: String,
    pub(super) account: String,
    pub(super) bic: String,
    pub(super) bank: String,
    pub(super) reference: String,
    /// `{account}`: what to write when the documents do not fit into a payment reference.
    pub(super) reference_many: String,
    /// The first words of an e-mail that repeats a posted letter.
    pub(super) copy_of_post: String,
    pub(super) phone: String,
    pub(super) email: String,
    /// `{no}`, `{count}`.
    pub(super) instalment: String,
    /// `{no}`, `{count}`, `{date}`: an instalment of an agreed plan.
    pub(super) plan: String,
    /// `{no}` each.
    pub(super) kinds: Kinds,
    pub(super) csv: Csv,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kinds {
    invoice: String,
    debit_note: String,
    fee: String,
    credit_note: String,
    payment: String,
}

/// Column heads of the attached file that no table has.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Csv {
    pub(super) list: String,
    pub(super) demanded: String,
    pub(super) also_open: String,
    pub(super) total: String,
    pub(super) currency: String,
    pub(super) payee: String,
}

impl Labels {
    pub(super) fn parse(file: &str, source: &str) -> Result<Self, Vec<TemplateFinding>> {
        let labels: Self = toml::from_str(source).map_err(|e| {
            let message = e.message().trim().replace('\n', " ");
            if message.starts_with("missing field ") {
                let message = message.replace("missing field", "every label is needed, and here is no");
                return vec![
                    TemplateFinding::whole(file, message).hint("`dunningd init` writes all of them into a new folder"),
                ];
            }
            let at = e.span().map_or(0, |span| span.start);
            vec![match message.split_once(", expected one of ") {
                Some((wrong, known)) => TemplateFinding::at(file, source, at, wrong)
                    .hint(suggest(wrong.split('`').nth(1).unwrap_or_default(), known.split('`').skip(1).step_by(2))),
                None => TemplateFinding::at(file, source, at, message),
            }]
        })?;
        // An escape says what the file itself may not hold.
        let table: toml::Table = toml::from_str(source).unwrap_or_default();
        let unseen: Vec<_> = table
            .iter()
            .filter(|(_, value)| holds_unseen(value))
            .map(|(key, _)| {
                TemplateFinding::whole(file, format!("`{key}` holds a character that nobody sees: remove it"))
            })
            .collect();
        if !unseen.is_empty() {
            return Err(unseen);
        }
        let wanted = [
            ("more", &labels.more, ["{shown}", "{count}", "{file}"].as_slice()),
            ("credit", &labels.credit, &["{title}", "{date}"]),
            ("credit_part", &labels.credit_part, &["{amount}", "{whole}"]),
            ("reference_many", &labels.reference_many, &["{account}"]),
            ("instalment", &labels.instalment, &["{no}", "{count}"]),
            ("plan", &labels.plan, &["{no}", "{count}", "{date}"]),
            ("invoice", &labels.kinds.invoice, &["{no}"]),
            ("debit_note", &labels.kinds.debit_note, &["{no}"]),
            ("fee", &labels.kinds.fee, &["{no}"]),
            ("credit_note", &labels.kinds.credit_note, &["{no}"]),
            ("payment", &labels.kinds.payment, &["{no}"]),
        ];
        let findings: Vec<_> = wanted
            .into_iter()
            .flat_map(|(key, text, places)| {
                places.iter().filter(move |place| !text.contains(**place)).map(move |place| {
                    let at = source.find(&format!("\n{key} =")).map_or(0, |at| at + 1);
                    TemplateFinding::at(file, source, at, format!("`{key}` does not say {place}"))
                })
            })
            .collect();
        if findings.is_empty() { Ok(labels) } else { Err(findings) }
    }

    /// `invoice 2026/113`, `faktura nr 15, rata 2 z 4`, `instalment 2 of 4 of the plan agreed on 1 March 2026`; the
    /// document number is made harmless and the day of the plan written out by the caller.
    pub(super) fn title(&self, row: &LetterRow, document_no: &str, agreed_on: Option<&str>) -> String {
        if let (Some(day), Some(no), Some(count)) = (agreed_on, row.instalment_no, row.instalment_count) {
            let places = [("{no}", &*no.to_string()), ("{count}", &*count.to_string()), ("{date}", day)];
            return fill(&self.plan, &places);
        }
        let mut title = self.document_title(row.kind, document_no);
        if let (Some(no), Some(count)) = (row.instalment_no, row.instalment_count) {
            title.push_str(", ");
            title.push_str(&fill(&self.instalment, &[("{no}", &no.to_string()), ("{count}", &count.to_string())]));
        }
        title
    }

    /// `credit note CN-2`, `faktura nr 15`: a document as a whole.
    pub(super) fn document_title(&self, kind: ItemKind, document_no: &str) -> String {
        let kind = match kind {
            ItemKind::Invoice => &self.kinds.invoice,
            ItemKind::DebitNote => &self.kinds.debit_note,
            ItemKind::Fee => &self.kinds.fee,
            ItemKind::CreditNote => &self.kinds.credit_note,
            ItemKind::Payment => &self.kinds.payment,
        };
        fill(kind, &[("{no}", document_no)])
    }
}

fn holds_unseen(value: &toml::Value) -> bool {
    match value {
        toml::Value::String(text) => text.contains(is_unseen),
        toml::Value::Table(table) => table.values().any(holds_unseen),
        _ => false,
    }
}

/// Puts values into the places of a label, in one pass: a value that looks like a place stays what it is.
pub(super) fn fill(label: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::new();
    let mut rest = label;
    while let Some(open) = rest.find('{') {
        out.push_str(&rest[..open]);
        rest = &rest[open..];
        if let Some((place, value)) = values.iter().find(|(place, _)| rest.starts_with(place)) {
            out.push_str(value);
            rest = &rest[place.len()..];
        } else {
            out.push('{');
            rest = &rest[1..];
        }
    }
    out + rest
}

/// The text with its first letter as a capital.
pub(super) fn upper_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
