//! The blocks of a letter: what is demanded, what else is open, who writes. Text and HTML come from the same facts, so
//! that no number can be in one and not in the other.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write as _;

use rust_decimal::Decimal;

use super::clean;
use super::filters;
use super::labels::{Labels, fill, upper_first, without_sign};
use super::locale::{self, DateStyle, Locale};
use super::markdown::{Block, wrap};
use crate::model::{AppliedCredit, BankAccount, Currency, Demand, Letter, LetterRow};

/// A payment reference of a SEPA transfer holds 140 characters.
const REFERENCE: usize = 140;

const TABLE: &str =
    "width:100%;border-collapse:collapse;margin:0 0 20px;font-size:15px;line-height:1.45;text-align:left";
const CAPTION: &str = "text-align:left;font-weight:bold;font-size:16px;padding:0 0 6px";
const HEAD: &str =
    "padding:6px 8px 6px 0;border-bottom:2px solid #52606d;vertical-align:bottom;text-align:left;word-break:normal";
/// MJML lets text break inside words; in a table only what is longer than its cell may.
const CELL: &str = "padding:8px 8px 8px 0;border-bottom:1px solid #cbd2d9;vertical-align:top;text-align:left;word-break:normal;overflow-wrap:anywhere";
const AMOUNT: &str = "padding:8px 0;border-bottom:1px solid #cbd2d9;vertical-align:top;text-align:right;white-space:nowrap;word-break:normal;width:1%";
const SMALL: &str = "font-weight:normal;font-size:14px;color:#52606d";
const LINK: &str = "color:#0b5394";

/// A letter together with the words of its language.
pub(super) struct Speaker<'a> {
    pub(super) letter: &'a Letter,
    pub(super) labels: &'a Labels,
    pub(super) locale: Locale,
    /// The file with all items, when the letter does not print all of them.
    pub(super) attachment: Option<String>,
}

/// With more credits on one row, their sum tells more than their list.
const CREDITS: usize = 5;

struct Fact<'a> {
    label: Cow<'a, str>,
    value: String,
}

impl<'a> Fact<'a> {
    fn new(label: impl Into<Cow<'a, str>>, value: String) -> Self {
        Self { label: label.into(), value }
    }
}

/// The three blocks.
pub(super) fn blocks(speaker: &Speaker<'_>) -> Vec<Block> {
    vec![speaker.demands(), speaker.also_open(), speaker.sender()]
}

/// The rows that a letter prints, as (demand, row): the oldest of each demand, whose total would say nothing without a
/// row, then the oldest of all together.
pub(super) fn shown(letter: &Letter) -> BTreeSet<(usize, usize)> {
    // In each demand the oldest stands first.
    let mut shown: BTreeSet<_> = (0..letter.demands.len()).map(|d| (d, 0)).collect();
    let rows = |(d, demand): (usize, &Demand)| -> Vec<_> {
        demand.rows.iter().enumerate().skip(1).map(|(r, row)| (row.due_date, d, r)).collect()
    };
    let mut rest: Vec<_> = letter.demands.iter().enumerate().flat_map(rows).collect();
    rest.sort_unstable();
    let left = limit(letter).saturating_sub(shown.len());
    shown.extend(rest.into_iter().take(left).map(|(_, d, r)| (d, r)));
    shown
}

/// How many rows a list of the letter may have.
pub(super) fn limit(letter: &Letter) -> usize {
    letter.rows_in_letter.map_or(usize::MAX, |rows| rows as usize)
}

/// How many items are demanded.
pub(super) fn count(letter: &Letter) -> usize {
    letter.demands.iter().map(|demand| demand.rows.len()).sum()
}

impl Speaker<'_> {
    fn money(&self, amount: Decimal, currency: Currency) -> String {
        locale::money(self.locale, amount, currency)
    }

    fn date(&self, date: chrono::NaiveDate) -> String {
        locale::date(self.locale, date, DateStyle::Long)
    }

    fn number(&self, number: &impl ToString) -> String {
        let digits = number.to_string();
        locale::number(self.locale, &digits).unwrap_or(digits)
    }

    pub(super) fn title(&self, row: &LetterRow) -> String {
        let agreed_on = row.plan_agreed_on.map(|day| self.date(day));
        self.labels.title(row, &clean::line(&row.document_no), agreed_on.as_deref())
    }

    fn demands(&self) -> Block {
        let mut text = String::new();
        let mut html = String::new();
        self.customer(&mut text, &mut html);
        let shown = shown(self.letter);
        for (n, demand) in self.letter.demands.iter().enumerate() {
            let rows: Vec<&LetterRow> =
                demand.rows.iter().enumerate().filter(|(r, _)| shown.contains(&(n, *r))).map(|(_, row)| row).collect();
            self.demand(demand, &rows, &mut text, &mut html);
        }
        Block { name: "demands", text: text.trim_end().to_owned(), html }
    }

    /// Whose items these are: the debtor's office keeps the letter by it.
    fn customer(&self, text: &mut String, html: &mut String) {
        let facts = [
            (&self.labels.customer, clean::line(&self.letter.account_name)),
            (&self.labels.customer_no, clean::line(&self.letter.account_id)),
        ];
        let lines: Vec<String> = facts.iter().map(|(label, value)| format!("{label}: {value}")).collect();
        let folded: Vec<String> = lines.iter().map(|line| wrap(line, "")).collect();
        let _ = writeln!(text, "{}\n", folded.join("\n"));
        let lines: Vec<String> = lines.iter().map(|line| clean::html(line)).collect();
        let _ = writeln!(html, "<p style=\"margin:0 0 16px\">{}</p>", lines.join("<br>\n"));
    }

    fn demand(&self, demand: &Demand, rows: &[&LetterRow], text: &mut String, html: &mut String) {
        let mut caption = self.labels.demands.clone();
        if self.letter.demands.len() > 1 {
            let holder = clean::line(&demand.payee.holder);
            caption = format!("{caption}: {}, {holder}", demand.currency);
        }
        let credits = !demand.credited.is_zero();
        let more = self.more(rows.len(), demand.rows.len());

        let _ = writeln!(text, "{}\n", wrap(&caption, ""));
        self.open_table(html, &caption, &self.labels.to_pay);
        for row in rows {
            self.row(row, demand.currency, &self.labels.to_pay, text, html);
        }
        html.push_str("</tbody>\n<tfoot>\n");
        let mut totals = Vec::new();
        if credits {
            totals.push((&self.labels.total_open, demand.open));
            totals.push((&self.labels.total_credited, demand.credited));
        }
        totals.push((&self.labels.total_to_pay, demand.to_pay));
        for (label, amount) in totals {
            let amount = self.money(amount, demand.currency);
            let _ = writeln!(text, "{label}: {amount}");
            let _ = writeln!(
                html,
                "<tr><th scope=\"row\" style=\"{CELL}\">{}</th><td style=\"{AMOUNT};font-weight:bold\">{}</td></tr>",
                clean::html(label),
                clean::html(&amount)
            );
        }
        html.push_str("</tfoot>\n</table>\n");
        if let Some(more) = more {
            let _ = writeln!(text, "\n{}", wrap(&more, ""));
            let _ = writeln!(html, "<p style=\"margin:0 0 16px\">{}</p>", clean::html(&more));
        }
        text.push('\n');
        self.payment(demand, text, html);
    }

    fn more(&self, shown: usize, count: usize) -> Option<String> {
        let file = self.attachment.as_deref().filter(|_| shown < count)?;
        let (shown, count) = (self.number(&shown), self.number(&count));
        Some(fill(&self.labels.more, &[("{shown}", &shown), ("{count}", &count), ("{file}", file)]))
    }

    /// Two columns fit a narrow screen without scrolling; everything else about an item stands below its name.
    fn open_table(&self, html: &mut String, caption: &str, amounts: &str) {
        let (caption, document, amounts) =
            (clean::html(caption), clean::html(&self.labels.document), clean::html(amounts));
        let _ = writeln!(
            html,
            "<table style=\"{TABLE}\">\n<caption style=\"{CAPTION}\">{caption}</caption>\n<thead><tr><th scope=\"col\" style=\"{HEAD}\">{document}</th><th scope=\"col\" style=\"{HEAD};padding-right:0;text-align:right;white-space:nowrap\">{amounts}</th></tr></thead>\n<tbody>"
        );
    }

    fn row(&self, row: &LetterRow, currency: Currency, net: &str, text: &mut String, html: &mut String) {
        let labels = self.labels;
        let title = upper_first(&self.title(row));
        let to_pay = self.money(row.to_pay, currency);
        let mut facts = Vec::new();
        // An instalment of a plan is no document: the day it was agreed on stands in its title.
        if row.plan_agreed_on.is_none() {
            facts.push(Fact::new(&labels.issue_date, self.date(row.issue_date)));
        }
        let references = [(&labels.customer_reference, &row.customer_reference), (&labels.contract, &row.contract_no)];
        for (label, value) in references {
            if let Some(value) = value.as_deref().map(clean::line).filter(|value| !value.is_empty()) {
                facts.push(Fact::new(label, value));
            }
        }
        facts.push(Fact::new(&labels.due_date, self.date(row.due_date)));
        if row.days_past_due > 0 {
            facts.push(Fact::new(&labels.days_past_due, self.number(&row.days_past_due)));
        }
        if row.amount != row.open {
            facts.push(Fact::new(&labels.amount, self.money(row.amount, currency)));
        }
        if !row.credited.is_zero() {
            facts.push(Fact::new(&labels.open, self.money(row.open, currency)));
            facts.extend(self.credits(row, currency));
        }
        let links = [(&labels.pay_online, &row.pay_url), (&labels.see_document, &row.document_url)];
        let links: Vec<(&String, String)> =
            links.into_iter().filter_map(|(label, url)| Some((label, clean::link(url.as_deref()?)?))).collect();

        let _ = writeln!(text, "{}", wrap(&title, ""));
        for fact in &facts {
            let _ = writeln!(text, "  {}: {}", fact.label, fact.value);
        }
        let _ = writeln!(text, "  {net}: {to_pay}");
        for (label, url) in &links {
            let _ = writeln!(text, "  {label}: {url}");
        }
        text.push('\n');

        let _ = write!(html, "<tr><th scope=\"row\" style=\"{CELL}\">{}", clean::html(&title));
        for fact in &facts {
            let (label, value) = (clean::html(&fact.label), clean::html(&fact.value));
            let _ = write!(html, "<br><span style=\"{SMALL}\">{label}: {value}</span>");
        }
        for (label, url) in &links {
            let (url, label) = (clean::html(url), clean::html(label));
            let _ = write!(html, "<br><a href=\"{url}\" style=\"{SMALL};{LINK}\">{label}</a>");
        }
        let _ = writeln!(html, "</th><td style=\"{AMOUNT};font-weight:bold\">{}</td></tr>", clean::html(&to_pay));
    }

    /// What covers something of a row: each credit note and payment by its name, and how much of it.
    fn credits(&self, row: &LetterRow, currency: Currency) -> Vec<Fact<'_>> {
        if row.credits.is_empty() || row.credits.len() > CREDITS {
            return vec![Fact::new(&self.labels.credited, self.money(row.credited, currency))];
        }
        let named = |credit: &AppliedCredit| {
            let title = self.labels.document_title(credit.kind, &clean::line(&credit.document_no));
            let places = [("{title}", &*upper_first(&title)), ("{date}", &*self.date(credit.issue_date))];
            let mut amount = self.money(-credit.amount, currency);
            if credit.amount != credit.whole {
                let whole = self.money(credit.whole, currency);
                amount = fill(&self.labels.credit_part, &[("{amount}", &amount), ("{whole}", &whole)]);
            }
            Fact::new(fill(&self.labels.credit, &places), amount)
        };
        row.credits.iter().map(named).collect()
    }

    fn payment(&self, demand: &Demand, text: &mut String, html: &mut String) {
        let labels = self.labels;
        let payee = &demand.payee;
        let mut facts = vec![Fact::new(&labels.holder, clean::line(&payee.holder))];
        facts.push(match &payee.account {
            BankAccount::Iban(iban) => Fact::new(&labels.iban, filters::iban(iban)),
            BankAccount::Number(number) => Fact::new(&labels.account, clean::line(number)),
        });
        for (label, value) in [(&labels.bic, &payee.bic), (&labels.bank, &payee.bank)] {
            if let Some(value) = value {
                facts.push(Fact::new(label, clean::line(value)));
            }
        }
        let more: Vec<(String, String)> = payee.more.iter().map(|(l, v)| (clean::line(l), clean::line(v))).collect();
        facts.extend(more.into_iter().map(|(label, value)| Fact::new(label, value)));
        facts.push(Fact::new(&labels.reference, self.reference(demand)));

        let _ = writeln!(text, "{}", labels.payment);
        for fact in &facts {
            let _ = writeln!(text, "  {}: {}", fact.label, fact.value);
        }
        text.push('\n');
        let caption = clean::html(&labels.payment);
        let _ = writeln!(html, "<table style=\"{TABLE}\">\n<caption style=\"{CAPTION}\">{caption}</caption>\n<tbody>");
        for fact in &facts {
            let _ = writeln!(
                html,
                "<tr><th scope=\"row\" style=\"{CELL};{SMALL};width:38%\">{}</th><td style=\"{CELL}\">{}</td></tr>",
                clean::html(&fact.label),
                // A line may break between the groups of an account number on a narrow screen.
                clean::html(&fact.value).replace(locale::NBSP, " ")
            );
        }
        html.push_str("</tbody>\n</table>\n");
    }

    /// What the debtor writes into his transfer: the documents, or his number when they do not fit, and for an
    /// instalment of a plan, whose number no bookkeeper looks for.
    fn reference(&self, demand: &Demand) -> String {
        let of_plan = demand.rows.iter().any(|row| row.plan_agreed_on.is_some());
        let of_documents = (!of_plan).then(|| self.reference_of_documents(demand));
        of_documents.filter(|reference| reference.chars().count() <= REFERENCE).unwrap_or_else(|| {
            fill(&self.labels.reference_many, &[("{account}", &clean::line(&self.letter.account_id))])
        })
    }

    fn reference_of_documents(&self, demand: &Demand) -> String {
        let own = |row: &LetterRow| {
            let own = row.payment_reference.as_deref().map(clean::line);
            own.filter(|own| !own.is_empty() && *own != clean::line(&row.document_no))
        };
        let as_the_ledger_says = demand.rows.iter().any(|row| own(row).is_some());
        let label = |one: bool| if one { &self.labels.reference_one } else { &self.labels.reference_several };
        let mut references: Vec<String> = Vec::new();
        for row in &demand.rows {
            let number = clean::line(&row.document_no);
            let reference = if as_the_ledger_says {
                own(row).unwrap_or(number)
            } else {
                without_sign(label(demand.rows.len() == 1), &number).to_owned()
            };
            if !references.contains(&reference) {
                references.push(reference);
            }
        }
        let joined = references.join(", ");
        match (&demand.rows[..], as_the_ledger_says) {
            (_, true) | ([], _) => joined,
            ([first, ..], false) => {
                let date = locale::date(self.locale, first.issue_date, DateStyle::Short);
                fill(label(references.len() == 1), &[("{no}", &joined), ("{date}", &date)])
            }
        }
    }

    fn also_open(&self) -> Block {
        let mut text = String::new();
        let mut html = String::new();
        let rows = &self.letter.information;
        if !rows.is_empty() {
            let _ = writeln!(text, "{}\n", wrap(&self.labels.also_open, ""));
            self.open_table(&mut html, &self.labels.also_open, &self.labels.balance);
            let printed = limit(self.letter).min(rows.len());
            for (currency, row) in &rows[..printed] {
                self.row(row, *currency, &self.labels.balance, &mut text, &mut html);
            }
            html.push_str("</tbody>\n</table>\n");
            if let Some(more) = self.more(printed, rows.len()) {
                let _ = writeln!(text, "{}", wrap(&more, ""));
                let _ = writeln!(html, "<p style=\"margin:0 0 16px\">{}</p>", clean::html(&more));
            }
        }
        Block { name: "also_open", text: text.trim_end().to_owned(), html }
    }

    fn sender(&self) -> Block {
        let letter = self.letter;
        let mut lines: Vec<String> = Vec::new();
        lines.extend(letter.contact_person.as_deref().map(clean::line));
        lines.push(clean::line(&letter.creditor_name));
        if let Some(phone) = &letter.creditor_phone {
            lines.push(format!("{}: {}", self.labels.phone, clean::together(phone)));
        }
        let email = clean::line(&letter.creditor_email);
        let email_line = lines.len();
        lines.push(format!("{}: {email}", self.labels.email));
        lines.extend(letter.creditor_address.iter().map(|line| clean::line(line)));
        lines.extend(
            letter.creditor_tax_ids.iter().map(|(label, id)| format!("{}: {}", clean::line(label), clean::line(id))),
        );
        lines.retain(|line| !line.is_empty());
        let mut html: Vec<String> = lines.iter().map(|line| clean::html(line)).collect();
        if let Some(line) = html.get_mut(email_line) {
            let (label, email) = (clean::html(&self.labels.email), clean::html(&email));
            *line = format!("{label}: <a href=\"mailto:{email}\" style=\"{LINK}\">{email}</a>");
        }
        let html = format!("<p style=\"margin:0 0 16px\">{}</p>\n", html.join("<br>\n"));
        Block { name: "sender", text: lines.join("\n"), html }
    }
}
