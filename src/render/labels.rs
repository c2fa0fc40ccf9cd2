//! The words inside tables and blocks: one closed set per language, in `labels/<lang>.toml`.

use serde::Deserialize;
use toml::de::{DeTable, DeValue};

use super::files::FILES;
use super::finding::{TemplateFinding, suggest};
use crate::model::{ItemKind, LetterRow, is_unseen};

/// What stands before a number to say that it is one.
const SIGNS: &[&str] = &["№", "no", "no.", "nr", "nr.", "n.", "n°", "nº", "#"];

/// The places of each label that has any: those that it must have, and those that it may have.
const PLACES: &[(&str, &[&str], &[&str])] = &[
    ("credit", &["{title}", "{date}"], &[]),
    ("credit_part", &["{amount}", "{whole}"], &[]),
    ("more", &["{shown}", "{count}", "{file}"], &[]),
    ("reference_one", &["{no}"], &["{date}"]),
    ("reference_several", &["{no}"], &[]),
    ("reference_many", &["{account}"], &[]),
    ("instalment", &["{no}", "{count}"], &[]),
    ("plan", &["{no}", "{count}", "{date}"], &[]),
    ("kinds.invoice", &["{no}"], &[]),
    ("kinds.debit_note", &["{no}"], &[]),
    ("kinds.fee", &["{no}"], &[]),
    ("kinds.credit_note", &["{no}"], &[]),
    ("kinds.payment", &["{no}"], &[]),
];

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
    /// `{no}`, `{date}`: what to write for one document, when nobody says otherwise.
    pub(super) reference_one: String,
    /// `{no}`: what to write for several of them.
    pub(super) reference_several: String,
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
        let missing = missing(file, source);
        if !missing.is_empty() {
            return Err(missing);
        }
        let labels: Self = toml::from_str(source).map_err(|e| {
            let message = e.message().trim().replace('\n', " ");
            let at = e.span().map_or(0, |span| span.start);
            vec![match message.split_once(", expected one of ") {
                Some((wrong, known)) => TemplateFinding::at(file, source, at, wrong)
                    .hint(suggest(wrong.split('`').nth(1).unwrap_or_default(), known.split('`').skip(1).step_by(2))),
                None => TemplateFinding::at(file, source, at, message),
            }]
        })?;
        let mut findings = Vec::new();
        let table = DeTable::parse(source).map_err(|e| vec![TemplateFinding::whole(file, e.message())])?;
        check(file, source, table.get_ref(), "", &mut findings);
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
        fill(kind, &[("{no}", without_sign(kind, document_no))])
    }
}

/// Every label that the shipped file has and this one lacks, with the words of the shipped one. Where a key is no label,
/// it may be the missing one, written wrongly: that is told first.
fn missing(file: &str, source: &str) -> Vec<TemplateFinding> {
    let shipped = FILES.iter().find(|(name, _)| *name == file).and_then(|(_, text)| text.parse::<toml::Table>().ok());
    let (Some(shipped), Ok(own)) = (shipped, source.parse::<toml::Table>()) else { return Vec::new() };
    let sections =
        shipped.iter().filter_map(|(name, value)| Some((name, value.as_table()?, own.get(name)?.as_table()?)));
    let mut findings = lacking(file, source, None, &shipped, &own);
    for (name, shipped, own) in sections {
        findings.extend(lacking(file, source, Some(name), shipped, own));
    }
    findings
}

fn lacking(
    file: &str,
    source: &str,
    section: Option<&str>,
    shipped: &toml::Table,
    own: &toml::Table,
) -> Vec<TemplateFinding> {
    if own.keys().any(|key| !shipped.contains_key(key)) {
        return Vec::new();
    }
    let head = section.and_then(|section| source.find(&format!("[{section}]")));
    let finding = |(key, value): (&String, &toml::Value)| {
        let name = section.map_or_else(|| key.clone(), |section| format!("{section}.{key}"));
        let message = format!("every label is needed, and here is no `{name}`");
        let finding = match head {
            Some(head) => TemplateFinding::at(file, source, head, message),
            None => TemplateFinding::whole(file, message),
        };
        finding.hint(match value.as_str() {
            Some(_) => format!("the shipped file says {key} = {value}"),
            None => format!("the shipped file has a section [{key}]"),
        })
    };
    shipped.iter().filter(|(key, _)| !own.contains_key(*key)).map(finding).collect()
}

/// What each label says or leaves out.
fn check(file: &str, source: &str, table: &DeTable<'_>, section: &str, findings: &mut Vec<TemplateFinding>) {
    for (key, value) in table {
        let name = format!("{section}{}", key.get_ref());
        let text = match value.get_ref() {
            DeValue::String(text) => text,
            DeValue::Table(table) => {
                check(file, source, table, &format!("{name}."), findings);
                continue;
            }
            _ => continue,
        };
        let mut found = |at: usize, message: String| {
            findings.push(TemplateFinding::at(file, source, at, message));
        };
        // An escape says what the file itself may not hold.
        if text.contains(|c| is_unseen(c) || matches!(c, '\t' | '\u{85}' | '\u{2028}' | '\u{2029}')) {
            found(key.span().start, format!("`{name}` holds a character that nobody sees: remove it"));
        } else if text.contains(['\n', '\r']) {
            found(key.span().start, format!("`{name}` holds a line break: a label is one line"));
        } else if text.trim().is_empty() {
            found(key.span().start, format!("`{name}` is blank: say what it stands for"));
        }
        let (needed, more) = PLACES
            .iter()
            .find(|(label, ..)| *label == name)
            .map_or((&[] as &[&str], &[] as &[&str]), |(_, needed, more)| (needed, more));
        for place in needed.iter().filter(|place| !text.contains(**place)) {
            found(key.span().start, format!("`{name}` does not say {place}"));
        }
        let known: Vec<&str> = needed.iter().chain(more).copied().collect();
        let mut rest = &**text;
        while let Some(open) = rest.find(['{', '}']) {
            rest = &rest[open..];
            let place = rest.find('}').map_or(rest, |close| &rest[..=close]);
            if !known.contains(&place) {
                let at = source[value.span()].find(place).unwrap_or_default();
                let finding = format!("`{name}` knows no place {place}");
                let finding = TemplateFinding::at(file, source, value.span().start + at, finding);
                findings.push(finding.hint(match &*known {
                    [] => "there are none in this label".to_owned(),
                    known => format!("known here: {}", known.join(", ")),
                }));
            }
            rest = &rest[place.len()..];
        }
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

/// A document number without the sign that the label brings already: `№ 15` after `счёт № {no}` is `15`.
pub(super) fn without_sign<'a>(label: &str, document_no: &'a str) -> &'a str {
    let before = label.split_once("{no}").map_or("", |(before, _)| before).trim_end().to_lowercase();
    let word = before.rsplit(char::is_whitespace).next().unwrap_or_default();
    if !SIGNS.contains(&word) {
        return document_no;
    }
    let lower = document_no.to_lowercase();
    let doubled = SIGNS.iter().filter(|sign| lower.len() == document_no.len() && lower.starts_with(**sign));
    doubled
        .filter_map(|sign| {
            let rest = &document_no[sign.len()..];
            let ends = sign.ends_with(|c: char| !c.is_alphanumeric()) || rest.starts_with(char::is_whitespace);
            Some(rest.trim_start()).filter(|rest| ends && rest.contains(char::is_alphanumeric))
        })
        .min_by_key(|rest| rest.len())
        .unwrap_or(document_no)
}

/// The text with its first letter as a capital.
pub(super) fn upper_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_is_not_doubled() {
        let after =
            |label: &str, numbers: [&str; 3]| numbers.map(|no| fill(label, &[("{no}", without_sign(label, no))]));
        assert_eq!(after("счёт № {no}", ["№ 15", "№15", "15"]), ["счёт № 15"; 3]);
        assert_eq!(after("faktura nr {no}", ["nr 7", "Nr. 7", "NR 7"]), ["faktura nr 7"; 3]);
        assert_eq!(after("fattura n. {no}", ["n. 3", "N.3", "n° 3"]), ["fattura n. 3"; 3]);
        assert_eq!(after("invoice no. {no}", ["No. 9", "no 9", "# 9"]), ["invoice no. 9"; 3]);
        // Part of the number, or all that there is of it.
        let kept = ["NO15", "nr", "№"];
        assert_eq!(after("счёт № {no}", kept), kept.map(|no| format!("счёт № {no}")));
        assert_eq!(after("invoice {no}", ["No. 9", "№ 15", "#4"]), ["invoice No. 9", "invoice № 15", "invoice #4"]);
    }
}
