//! Sample situations: the letters that every template is tried on when it is loaded, and that previews show.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::finding::TemplateFinding;
use crate::model::{
    AppliedCredit, Country, Currency, Demand, DueEarly, ItemKind, Language, Letter, LetterRow, PartyKind, Requisites,
    StageName, Tone, is_protocol_claim,
};

/// Who writes to whom, once per language.
const PARTIES: &str = "fixtures/parties.toml";

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parties {
    currency: Currency,
    second_currency: Currency,
    creditor_name: String,
    creditor_address: Vec<String>,
    creditor_tax_ids: Vec<(String, String)>,
    creditor_email: String,
    creditor_phone: Option<String>,
    contact_person: Option<String>,
    account_id: String,
    account_name: String,
    account_address: Option<String>,
    account_tax_id: Option<String>,
    salutation: String,
    payee: Requisites,
    second_payee: Requisites,
    factor: Requisites,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is true or not, independently of the others")]
struct Situation {
    date: NaiveDate,
    payments_as_of: NaiveDate,
    respond_by: Option<NaiveDate>,
    reminded_on: Option<NaiveDate>,
    #[serde(default = "company")]
    party_kind: PartyKind,
    /// Where the debtor is, for letters in the language of that country.
    country: Option<Country>,
    #[serde(default)]
    escalated: bool,
    /// Whether the operator knows how to address the person.
    #[serde(default)]
    salutation: bool,
    /// Whether this is the last stage of its ladder.
    #[serde(default)]
    last_stage: bool,
    #[serde(default = "ten")]
    rows_in_letter: u32,
    /// Whether it goes out on paper.
    #[serde(default)]
    by_post: bool,
    account_id: Option<String>,
    account_name: Option<String>,
    account_address: Option<String>,
    items: Vec<SampleItem>,
    #[serde(default)]
    information: Vec<SampleItem>,
}

fn company() -> PartyKind {
    PartyKind::Company
}

fn ten() -> u32 {
    10
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Payee {
    #[default]
    Own,
    /// In the second currency.
    Second,
    /// In the main currency, to somebody else's account.
    Factor,
}

/// The instalment of a plan with which all the rest fell due.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Missed {
    no: u32,
    due_date: NaiveDate,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct SampleItem {
    #[serde(default = "invoice")]
    kind: ItemKind,
    document_no: String,
    instalment_no: Option<u32>,
    instalment_count: Option<u32>,
    plan_agreed_on: Option<NaiveDate>,
    /// It is due early, since that one was missed.
    missed: Option<Missed>,
    issue_date: NaiveDate,
    due_date: NaiveDate,
    amount: Decimal,
    open: Option<Decimal>,
    #[serde(default)]
    credited: Decimal,
    /// What `credited` is made of, where it is known.
    #[serde(default)]
    credits: Vec<AppliedCredit>,
    #[serde(default)]
    payee: Payee,
    payment_reference: Option<String>,
    customer_reference: Option<String>,
    contract_no: Option<String>,
    pay_url: Option<String>,
    document_url: Option<String>,
    /// That many of it, a day apart, numbered.
    repeat: Option<u32>,
}

fn invoice() -> ItemKind {
    ItemKind::Invoice
}

/// The situations of a template directory.
#[derive(Debug, Clone, Default)]
pub(super) struct Fixtures {
    parties: BTreeMap<Language, Parties>,
    situations: BTreeMap<String, Situation>,
}

impl Fixtures {
    pub(super) fn parse(files: &BTreeMap<String, String>) -> Result<Self, Vec<TemplateFinding>> {
        let mut fixtures = Self::default();
        let mut findings = Vec::new();
        for (file, source) in files.iter().filter(|(file, _)| file.starts_with("fixtures/")) {
            let Some(name) = file.strip_prefix("fixtures/").and_then(|name| name.strip_suffix(".toml")) else {
                continue;
            };
            if file == PARTIES {
                match parse(file, source) {
                    Ok(parties) => fixtures.parties = parties,
                    Err(finding) => findings.push(finding),
                }
            } else {
                match parse::<Situation>(file, source) {
                    Ok(situation) if situation.items.is_empty() => {
                        findings.push(TemplateFinding::whole(file, "a situation needs at least one of [[items]]"));
                    }
                    Ok(situation) => {
                        fixtures.situations.insert(name.to_owned(), situation);
                    }
                    Err(finding) => findings.push(finding),
                }
            }
        }
        if findings.is_empty() && fixtures.situations.is_empty() {
            findings.push(TemplateFinding::whole("fixtures", "there is no sample situation to try the letters on"));
        }
        for language in Language::ALL {
            if findings.is_empty() && !fixtures.parties.contains_key(&language) {
                findings.push(TemplateFinding::whole(PARTIES, format!("[{language}] is missing")));
            }
        }
        if findings.is_empty() { Ok(fixtures) } else { Err(findings) }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.situations.keys().map(String::as_str)
    }

    /// The letter of that situation, in the tone that the template's name says (`firm` when it says none).
    pub(super) fn letter(&self, name: &str, template: &str, language: Language) -> Option<Letter> {
        let situation = self.situations.get(name)?;
        let parties = self.parties.get(&language)?;
        let tone = Tone::parse(template).unwrap_or(Tone::Firm);
        let next_tone = Tone::ALL.into_iter().find(|next| *next > tone).filter(|_| !situation.last_stage);
        let stage = StageName::parse(template).or_else(|_| StageName::parse("sample")).ok()?;
        let (main, second) = (parties.currency, parties.second_currency);
        let mut rows: Vec<(Payee, LetterRow)> =
            situation.items.iter().flat_map(|item| item.rows(situation.date)).collect();
        rows.sort_by_key(|(payee, row)| (*payee, row.due_date));
        let demands = [
            (Payee::Own, main, &parties.payee),
            (Payee::Second, second, &parties.second_payee),
            (Payee::Factor, main, &parties.factor),
        ]
        .into_iter()
        .filter_map(|(payee, currency, requisites)| {
            let rows: Vec<LetterRow> = rows.iter().filter(|(p, _)| *p == payee).map(|(_, row)| row.clone()).collect();
            (!rows.is_empty()).then(|| demand(currency, requisites, rows))
        })
        .collect();
        let information = situation
            .information
            .iter()
            .flat_map(|item| item.rows(situation.date))
            .map(|(payee, row)| (if payee == Payee::Second { second } else { main }, row))
            .collect();
        Some(Letter {
            language,
            stage,
            tone,
            template: template.to_owned(),
            creditor_name: parties.creditor_name.clone(),
            creditor_address: parties.creditor_address.clone(),
            creditor_tax_ids: parties.creditor_tax_ids.clone(),
            creditor_email: parties.creditor_email.clone(),
            creditor_phone: parties.creditor_phone.clone(),
            contact_person: parties.contact_person.clone(),
            account_id: situation.account_id.clone().unwrap_or_else(|| parties.account_id.clone()),
            account_name: situation.account_name.clone().unwrap_or_else(|| parties.account_name.clone()),
            account_address: situation.account_address.clone().or_else(|| parties.account_address.clone()),
            account_tax_id: parties.account_tax_id.clone(),
            party_kind: situation.party_kind,
            protocol_claim: language == Language::En
                && is_protocol_claim(tone, situation.country, situation.party_kind),
            salutation: situation.salutation.then(|| parties.salutation.clone()),
            date: situation.date,
            payments_as_of: situation.payments_as_of,
            respond_by: situation.respond_by,
            reminded_on: situation.reminded_on,
            next_tone,
            escalated: situation.escalated,
            rows_in_letter: (!situation.by_post).then_some(situation.rows_in_letter),
            by_post: situation.by_post,
            copy_of_post: false,
            demands,
            information,
        })
    }
}

fn parse<T: DeserializeOwned>(file: &str, source: &str) -> Result<T, TemplateFinding> {
    toml::from_str(source).map_err(|e| {
        TemplateFinding::at(file, source, e.span().map_or(0, |span| span.start), e.message().trim().replace('\n', " "))
    })
}

fn demand(currency: Currency, payee: &Requisites, rows: Vec<LetterRow>) -> Demand {
    Demand {
        currency,
        payee: payee.clone(),
        open: rows.iter().map(|row| row.open).sum(),
        credited: rows.iter().map(|row| row.credited).sum(),
        to_pay: rows.iter().map(|row| row.to_pay).sum(),
        rows,
    }
}

impl SampleItem {
    fn rows(&self, today: NaiveDate) -> Vec<(Payee, LetterRow)> {
        let row = |document_no: String, later: chrono::Days| {
            let due_date = self.due_date.checked_add_days(later).unwrap_or(self.due_date);
            let open = self.open.unwrap_or(self.amount);
            let row = LetterRow {
                kind: self.kind,
                document_no,
                instalment_no: self.instalment_no,
                instalment_count: self.instalment_count,
                issue_date: self.issue_date.checked_add_days(later).unwrap_or(self.issue_date),
                due_date,
                days_past_due: (today - due_date).num_days(),
                amount: self.amount,
                open,
                credited: self.credited,
                credits: self.credits.clone(),
                to_pay: open - self.credited,
                payment_reference: self.payment_reference.clone(),
                customer_reference: self.customer_reference.clone(),
                contract_no: self.contract_no.clone(),
                pay_url: self.pay_url.clone(),
                document_url: self.document_url.clone(),
                plan_agreed_on: self.plan_agreed_on,
                due_early: self.missed.map(|missed| DueEarly {
                    agreed_due: due_date,
                    missed: missed.no,
                    missed_due: missed.due_date,
                }),
                reminded_on: None,
            };
            (self.payee, row)
        };
        match self.repeat {
            None => vec![row(self.document_no.clone(), chrono::Days::new(0))],
            Some(count) => (0..count)
                .map(|n| row(format!("{}-{:02}", self.document_no, n + 1), chrono::Days::new(u64::from(n))))
                .collect(),
        }
    }
}
