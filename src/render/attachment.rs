//! The file with every item, for a letter that prints only the oldest ones.

use rust_decimal::Decimal;

use super::blocks::{self, Speaker};
use super::clean;
use super::labels::{Labels, upper_first};
use super::locale;
use crate::model::{Attachment, Currency, Language, Letter, LetterRow};

/// Of an account number: what is around it in the name of the file fits beside it.
const ACCOUNT_MAX: usize = 45;

/// The name of the file, when the letter needs one: ASCII only, made from the account number.
pub(super) fn file_name(letter: &Letter) -> Option<String> {
    let left_out = blocks::count(letter) > blocks::shown(letter).len();
    (left_out || letter.information.len() > blocks::limit(letter)).then(|| {
        let account: String = letter
            .account_id
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' })
            .take(ACCOUNT_MAX)
            .collect();
        let account = account.trim_matches('-');
        format!("open-items-{}.csv", if account.is_empty() { "account" } else { account })
    })
}

/// All items and the same totals as in the letter, as a spreadsheet of that language opens it: UTF-8 with its mark,
/// semicolons and decimal commas except in English.
pub(super) fn csv(speaker: &Speaker<'_>, file_name: &str) -> Attachment {
    let Speaker { letter, labels, .. } = speaker;
    let sheet = Sheet { english: letter.language == Language::En };
    let mut out = String::from("\u{feff}");
    sheet.line(&mut out, &head(labels));
    for demand in &letter.demands {
        let payee = clean::line(&demand.payee.holder);
        for row in &demand.rows {
            sheet.line(&mut out, &sheet.row(speaker, &labels.csv.demanded, &payee, demand.currency, row));
        }
        let money = |amount| sheet.amount(amount, demand.currency);
        let mut total = vec![labels.csv.total.clone(), demand.currency.to_string(), payee];
        total.resize(9, String::new());
        total.extend([money(demand.open), money(demand.credited), money(demand.to_pay)]);
        total.push(String::new());
        sheet.line(&mut out, &total);
    }
    for (currency, row) in &letter.information {
        sheet.line(&mut out, &sheet.row(speaker, &labels.csv.also_open, "", *currency, row));
    }
    Attachment {
        file_name: file_name.to_owned(),
        content_type: "text/csv; charset=utf-8".to_owned(),
        bytes: out.into_bytes(),
    }
}

fn head(labels: &Labels) -> Vec<String> {
    [
        &labels.csv.list,
        &labels.csv.currency,
        &labels.csv.payee,
        &labels.document,
        &labels.issue_date,
        &labels.due_date,
        &labels.days_past_due,
        &labels.customer_reference,
        &labels.amount,
        &labels.open,
        &labels.credited,
        &labels.to_pay,
        &labels.reference,
    ]
    .into_iter()
    .cloned()
    .collect()
}

struct Sheet {
    english: bool,
}

impl Sheet {
    fn row(&self, speaker: &Speaker<'_>, list: &str, payee: &str, currency: Currency, row: &LetterRow) -> Vec<String> {
        let optional = |text: &Option<String>| text.as_deref().map(clean::line).unwrap_or_default();
        vec![
            list.to_owned(),
            currency.to_string(),
            payee.to_owned(),
            upper_first(&speaker.title(row)),
            row.issue_date.to_string(),
            row.due_date.to_string(),
            row.days_past_due.to_string(),
            optional(&row.customer_reference),
            self.amount(row.amount, currency),
            self.amount(row.open, currency),
            self.amount(row.credited, currency),
            self.amount(row.to_pay, currency),
            optional(&row.payment_reference),
        ]
    }

    /// Digits and a decimal sign only, so that it stays a number in a spreadsheet.
    fn amount(&self, amount: Decimal, currency: Currency) -> String {
        let text = locale::exact(amount, currency).to_string();
        if self.english { text } else { text.replace('.', ",") }
    }

    fn line(&self, out: &mut String, cells: &[String]) {
        let separator = if self.english { "," } else { ";" };
        let cells: Vec<String> = cells.iter().map(|cell| quoted(cell)).collect();
        out.push_str(&cells.join(separator));
        out.push_str("\r\n");
    }
}

/// One cell (RFC 4180). Text that a spreadsheet would take for a formula gets an apostrophe; negative numbers stay.
fn quoted(cell: &str) -> String {
    let number = cell.strip_prefix('-').is_some_and(|rest| {
        rest.starts_with(|c: char| c.is_ascii_digit())
            && rest.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | ','))
    });
    let guard = if cell.starts_with(['=', '+', '-', '@']) && !number { "'" } else { "" };
    if cell.contains([',', ';', '"', '\n', '\r', '\'']) {
        format!("\"{guard}{}\"", cell.replace('"', "\"\""))
    } else {
        format!("{guard}{cell}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_no_formulas() {
        assert_eq!(quoted("=HYPERLINK(\"x\")"), "\"'=HYPERLINK(\"\"x\"\")\"");
        assert_eq!(quoted("+7 495"), "'+7 495");
        assert_eq!(quoted("@SUM"), "'@SUM");
        assert_eq!(quoted("-1+2"), "'-1+2");
        assert_eq!(quoted("-12,50"), "\"-12,50\"");
        assert_eq!(quoted("-12.50"), "-12.50");
    }
}
