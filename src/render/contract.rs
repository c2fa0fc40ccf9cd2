//! What templates may name: the variables, filters and statements. One list for the check at load, for the fixtures and
//! for `docs/templates.md`.

use std::fmt::Write as _;

/// What a variable is, and so how it may be printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Number,
    Flag,
    /// Printed with `date`.
    Date,
    /// Printed with `money`.
    Money,
    /// Several amounts in different currencies, printed with `money`.
    Amounts,
    /// A part that looks different in text and in HTML; stands alone between two blank lines.
    Block,
    Group(&'static [Variable]),
    List(&'static [Variable]),
    /// Not ours to judge, such as a name that the template set itself.
    Any,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Variable {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// May be missing: ask `{% if name %}` first.
    pub(super) optional: bool,
    pub(super) meaning: &'static str,
}

const fn always(name: &'static str, kind: Kind, meaning: &'static str) -> Variable {
    Variable { name, kind, optional: false, meaning }
}

const fn maybe(name: &'static str, kind: Kind, meaning: &'static str) -> Variable {
    Variable { name, kind, optional: true, meaning }
}

const ITEM: &[Variable] = &[
    always(
        "title",
        Kind::Text,
        "what it is called in the letter's language, such as `invoice 2026/113`, with its part when it has parts",
    ),
    always("kind", Kind::Text, "`invoice`, `debit_note` or `fee`"),
    always("no", Kind::Text, "document number"),
    always("issue_date", Kind::Date, "date of the document"),
    always("due_date", Kind::Date, "contractual due date"),
    always("days_past_due", Kind::Number, "whole days past due"),
    maybe("plan_agreed_on", Kind::Date, "it is an instalment of a plan that was agreed on this day"),
    maybe("instalment_no", Kind::Number, "which part of the document or the plan it is"),
    maybe("instalment_count", Kind::Number, "how many parts there are"),
    always("amount", Kind::Money, "original amount of the document, or of the part that the item is"),
    always("open", Kind::Money, "still open before credits"),
    always("credited", Kind::Money, "covered by payments and credit notes not yet allocated"),
    always("to_pay", Kind::Money, "open less credited"),
];

/// The variables of a letter.
pub(super) const LETTER: &[Variable] = &[
    always(
        "demands",
        Kind::Block,
        "the debtor's name and number, and the tables of what is demanded, one per currency and payee, each with its totals and payment details; every letter prints it",
    ),
    always(
        "also_open",
        Kind::Block,
        "overdue items that this letter lists without demanding them; nothing when there are none; every letter prints it",
    ),
    always(
        "sender",
        Kind::Block,
        "who writes: person to ask, creditor, telephone, e-mail, address, tax numbers; every letter prints it",
    ),
    always("item_count", Kind::Number, "how many items are demanded"),
    maybe("document", Kind::Group(ITEM), "the demanded item, when it is exactly one"),
    always("oldest", Kind::Group(ITEM), "the demanded item with the oldest due date"),
    always("items", Kind::List(ITEM), "the demanded items, oldest first, at most as many as the table shows"),
    maybe(
        "missed_instalment",
        Kind::Group(&[
            always("no", Kind::Number, "its number in the plan"),
            always("due_date", Kind::Date, "the day that was agreed for it"),
        ]),
        "the instalment of a plan that was missed, when all the rest of the plan fell due with it",
    ),
    always("totals", Kind::Amounts, "what is to pay, one amount per currency"),
    always("part_paid", Kind::Flag, "less is to pay than the documents say: something was paid, received or credited"),
    always("date", Kind::Date, "the day of the letter"),
    always("payments_as_of", Kind::Date, "payments are known up to this day"),
    maybe("respond_by", Kind::Date, "the deadline that this letter names"),
    maybe("reminded_on", Kind::Date, "the day of the last letter or e-mail that named every demanded item"),
    maybe(
        "next_stage",
        Kind::Text,
        "what follows: `firm`, `final`, `formal` or `handover`; the only consequence a letter may name",
    ),
    always(
        "by_post",
        Kind::Flag,
        "it goes out on paper: nobody can reply to it as to an e-mail, and every row is printed",
    ),
    always("escalated", Kind::Flag, "the account has had a firmer letter about older items: write neutrally"),
    always(
        "protocol_claim",
        Kind::Flag,
        "English: a formal letter to a natural person or sole trader in Great Britain; it goes out only with at least 30 \
         days to reply, and when it names the enclosed Information Sheet, Reply Form and Financial Statement",
    ),
    maybe(
        "salutation",
        Kind::Text,
        "the operator's own words for this person; without a sign that ends them, a comma is added, in Russian \"!\"",
    ),
    always(
        "to_one_person",
        Kind::Flag,
        "Italian: write Lei and not Voi; the operator's words greet one person, or do not tell and the debtor is one",
    ),
    always(
        "by_name",
        Kind::Flag,
        "English: the operator's words name the reader, whom the letter leaves `Yours sincerely`",
    ),
    always("language", Kind::Text, "`ru`, `pl`, `it` or `en`"),
    always(
        "account",
        Kind::Group(&[
            always("id", Kind::Text, "customer number"),
            always("name", Kind::Text, "name; never to be declined"),
            always(
                "kind",
                Kind::Text,
                "`company`, `sole_trader`, `consumer`, `public_body`, `public_healthcare` or `unknown`",
            ),
            always("is_person", Kind::Flag, "a consumer, or nobody knows: written to as one person"),
            maybe("address", Kind::Text, "postal address in one line"),
            maybe("tax_id", Kind::Text, "tax number"),
        ]),
        "the debtor",
    ),
    always(
        "creditor",
        Kind::Group(&[
            always("name", Kind::Text, "our company"),
            always("email", Kind::Text, "where answers go"),
            maybe("phone", Kind::Text, "telephone"),
            maybe("contact_person", Kind::Text, "the person to ask"),
            maybe("address", Kind::Text, "postal address in one line"),
            maybe("tax_ids", Kind::Text, "tax and company numbers in one line, each with its name"),
        ]),
        "who is owed",
    ),
];

/// The variables of `layout.mjml`.
pub(super) const LAYOUT: &[Variable] = &[
    always("body", Kind::Text, "the letter as HTML; required"),
    always("subject", Kind::Text, "the subject, also the one `<h1>`; required"),
    always("preheader", Kind::Text, "the hidden line that mail clients show in the list"),
    always("language", Kind::Text, "for `<html lang>`; required"),
    always("creditor_name", Kind::Text, "our company"),
];

/// Filters, with their arguments and what they do.
pub(super) const FILTERS: &[(&str, &str, &str)] = &[
    ("money", "", "an amount with its currency: `1 234,50 zł`, `£1,234.50`; several amounts are joined with \"and\""),
    (
        "words",
        "",
        "an amount in words with its currency, as demands and cheques have it: `pięć złotych 07/100`, `One pound and one \
         penny`; CHF, CZK, EUR, GBP, PLN, RUB and USD; any other currency stops the letter",
    ),
    (
        "date",
        "style=\"short|medium|long|full\"",
        "a date; `long` unless told otherwise: `1 марта 2026 г.`, `1 March 2026`",
    ),
    ("number", "", "a number with the groups and the decimal sign of the language"),
    (
        "plural",
        "one=, few=, many=, other=",
        "the word that fits a number; `other` is required, a missing form falls back to it",
    ),
    ("days", "", "a number of days with its word: `21 день`, `21 dni`, `1 giorno`, `1 day`"),
    ("iban", "", "an IBAN in groups of four; any other account number as it is"),
    ("upper_first", "", "the first letter as a capital"),
    ("upper", "", "all capitals"),
    ("lower", "", "no capitals"),
    ("length", "", "how many there are in a list"),
];

pub(super) const STATEMENTS: &[&str] = &["if", "elif", "else", "endif", "for", "endfor", "set", "include"];

/// What `loop` knows inside `{% for %}`.
pub(super) const LOOP: &[Variable] = &[
    always("index", Kind::Number, "from 1"),
    always("index0", Kind::Number, "from 0"),
    always("first", Kind::Flag, ""),
    always("last", Kind::Flag, ""),
    always("length", Kind::Number, ""),
];

/// The reference for people who edit templates, as Markdown: `docs/templates.md` is this text.
#[must_use]
pub fn reference() -> String {
    let mut out = String::from(include_str!("reference.md"));
    out.push_str("\n## Variables of a letter\n\n");
    table(&mut out, "", LETTER);
    out.push_str("\n## Fields of an item\n\nOf `document`, `oldest` and each of `items`.\n\n");
    table(&mut out, "", ITEM);
    out.push_str("\n## Variables of `layout.mjml`\n\n");
    table(&mut out, "", LAYOUT);
    out.push_str("\n## Filters\n\n| filter | arguments | result |\n|---|---|---|\n");
    for (name, arguments, meaning) in FILTERS {
        let arguments =
            if arguments.is_empty() { String::new() } else { format!("`{}`", arguments.replace('|', "\\|")) };
        let _ = writeln!(out, "| `{name}` | {arguments} | {meaning} |");
    }
    let statements: Vec<String> = STATEMENTS.iter().map(|name| format!("`{name}`")).collect();
    let _ = write!(out, "\n## Statements\n\n{}.\n", statements.join(", "));
    out
}

fn table(out: &mut String, prefix: &str, variables: &[Variable]) {
    if prefix.is_empty() {
        out.push_str("| name | is | always there | meaning |\n|---|---|---|---|\n");
    }
    for variable in variables {
        let kind = match variable.kind {
            Kind::Text => "text",
            Kind::Number => "number",
            Kind::Flag => "yes or no",
            Kind::Date => "date, print with `date`",
            Kind::Money => "amount, print with `money`",
            Kind::Amounts => "amounts, print with `money`",
            Kind::Block => "block",
            Kind::Group(_) => "group",
            Kind::List(_) => "list, for `for`",
            Kind::Any => "",
        };
        let there = if variable.optional { "no" } else { "yes" };
        let _ = writeln!(out, "| `{prefix}{}` | {kind} | {there} | {} |", variable.name, variable.meaning);
        if let Kind::Group(fields) = variable.kind
            && fields != ITEM
        {
            table(out, &format!("{}.", variable.name), fields);
        }
    }
}
