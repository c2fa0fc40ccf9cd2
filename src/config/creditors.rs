//! `creditors.toml`: for whom the daemon writes.

use std::collections::BTreeMap;

use chrono_tz::{TZ_VARIANTS, Tz};

use super::findings::FindingCode;
use super::policy::language;
use super::section::{Field, Section};
use super::service::Environment;
use super::source::SHIPPED_CREDITORS;
use super::suggest::closest;
use crate::model::{
    BankAccount, Country, Creditor, CreditorId, Currency, DisplayName, EmailAddress, Policy, Requisites,
};

/// Of our own domain: it stands in each Message-ID beside a name of ours.
const DOMAIN_MAX: usize = 200;

/// Reads every creditor. What the policy must know about them is checked when there is a policy; addresses of the
/// sample are refused in production.
pub(super) fn read(
    mut root: Section<'_>,
    environment: Option<Environment>,
    policy: Option<&Policy>,
) -> BTreeMap<CreditorId, Creditor> {
    let sections = root.sections("creditor");
    if sections.is_empty() {
        let message = "there is nobody to write for: add a `[[creditor]]`";
        root.notes.add(FindingCode::MissingKey, root.origin(), message);
    }
    let mut places: BTreeMap<CreditorId, String> = BTreeMap::new();
    let mut creditors = BTreeMap::new();
    for mut section in sections {
        let notes = section.notes;
        let id_field = section.need("id", "\"my_company\"");
        let id = id_field.as_ref().and_then(|field| field.parsed(CreditorId::parse));
        if let (Some(field), Some(id)) = (&id_field, &id) {
            if let Some(first) = places.get(id) {
                let message = format!("a creditor `{id}` exists already ({first}): give each creditor its own id");
                field.note(FindingCode::DuplicateName, message);
            }
            places.entry(id.clone()).or_insert_with(|| field.origin().location(notes.sources));
        }
        let creditor = read_creditor(section, id, environment, policy);
        creditors.extend(creditor.map(|creditor| (creditor.id.clone(), creditor)));
    }
    root.close();
    creditors
}

fn read_creditor(
    mut section: Section<'_>,
    id: Option<CreditorId>,
    environment: Option<Environment>,
    policy: Option<&Policy>,
) -> Option<Creditor> {
    let name = section.need("name", "\"My Company Ltd\"").and_then(|field| field.parsed(DisplayName::parse));
    let address = section.need("address", "[\"1 High Street\", \"London EC1A 1AA\"]").map(|field| lines(&field));
    let country_field = section.need("country", "\"IT\"");
    let country = country_field.as_ref().and_then(|field| field.parsed(Country::parse));
    if let (Some(field), Some(country), Some(policy)) = (&country_field, country, policy)
        && !policy.calendars.by_country.contains_key(&country)
        && !policy.locations.contains_key(&format!("calendars.{country}"))
    {
        let message = format!(
            "the policy has no calendar for {country}, so nothing would ever be sent for this creditor: add `{country} = \
             \"…\"` to `[calendars]` in policy.toml"
        );
        field.note(FindingCode::Doubtful, message);
    }
    let time_zone = section.need("time_zone", "\"Europe/Rome\"").and_then(|field| time_zone(&field));
    let language_field = section.need("language", "\"en\"");
    let language = language_field.as_ref().and_then(language);
    if let (Some(field), Some(language), Some(policy)) = (&language_field, language, policy)
        && !policy.languages.contains(&language)
    {
        let message = format!("`{language}` is not among the `languages` of the policy: add it there");
        field.note(FindingCode::Conflict, message);
    }
    let tax_ids = section.get("tax_ids").map(|field| labelled(&field)).unwrap_or_default();
    let sender_name = section.get("sender_name").and_then(|field| field.parsed(DisplayName::parse));
    let sender = section.need("sender", "\"accounts@example.com\"").and_then(|field| mailbox(&field, environment));
    let reply_to = section.get("reply_to").and_then(|field| mailbox(&field, environment));
    let phone = section.text("phone");
    let contact_person = section.text("contact_person");
    let bank = section.need("bank", "{ EUR = { iban = \"…\" } }").and_then(|field| field.section());
    let mut bank_accounts = BTreeMap::new();
    for field in bank.map(Section::rest).unwrap_or_default() {
        let currency = field.currency_key();
        let requisites = requisites(&field, name.as_ref().map(DisplayName::as_str));
        if let Some(account) = requisites.as_ref().map(|requisites| &requisites.account)
            && environment == Some(Environment::Production)
            && is_of_the_sample(account)
        {
            let message = format!("`{}` is an account of the sample: in production write your own", field.path);
            section.notes.add(FindingCode::Placeholder, field.key_at, message);
        }
        let Some(currency) = currency else { continue };
        if policy.is_some_and(|policy| no_minimum(policy, currency)) {
            let message = format!(
                "the policy has neither a minimum nor a rate for {currency}: add `{currency} = \"…\"` to `[minimum]` \
                 or `[rates]` in policy.toml"
            );
            section.notes.add(FindingCode::NoMinimum, field.key_at, message);
        }
        bank_accounts.extend(requisites.map(|requisites| (currency, requisites)));
    }
    section.close();
    let name = name?;
    let sender = sender?;
    Some(Creditor {
        id: id?,
        address: address?,
        country: country?,
        time_zone: time_zone?,
        language: language?,
        tax_ids,
        name: name.as_str().to_owned(),
        sender_name: sender_name.unwrap_or(name),
        reply_to: reply_to.unwrap_or_else(|| sender.clone()),
        sender,
        phone,
        contact_person,
        bank_accounts,
    })
}

fn lines(field: &Field<'_>) -> Vec<String> {
    let fields = field.list().unwrap_or_default();
    if fields.is_empty() {
        field.note(FindingCode::InvalidValue, format!("`{}` needs at least one line", field.path));
    }
    fields.iter().filter_map(|line| line.text().map(str::to_owned)).collect()
}

fn time_zone(field: &Field<'_>) -> Option<Tz> {
    let text = field.text()?;
    let zone = text.parse::<Tz>().ok();
    if zone.is_none() {
        let suggestion = closest(text, TZ_VARIANTS.iter().map(|zone| zone.name())).map(str::to_owned);
        let message = format!("`{}` must be a time zone of the IANA database, such as \"Europe/Rome\"", field.path);
        field.note_with(FindingCode::UnknownValue, message, suggestion);
    }
    zone
}

/// Lines printed as they are: `[{ label = "P. IVA", value = "07643520567" }]`.
fn labelled(field: &Field<'_>) -> Vec<(String, String)> {
    let row = |field: Field<'_>| {
        let mut section = field.section()?;
        let label = section.need("label", "\"…\"").and_then(|field| field.text());
        let value = section.need("value", "\"…\"").and_then(|field| field.text());
        section.close();
        Some((label?.to_owned(), value?.to_owned()))
    };
    field.list().unwrap_or_default().into_iter().filter_map(row).collect()
}

/// An address of ours. Names reserved for examples and tests (RFC 2606, RFC 6761) reach nobody.
fn mailbox(field: &Field<'_>, environment: Option<Environment>) -> Option<EmailAddress> {
    const RESERVED: [&str; 4] = ["test", "example", "invalid", "localhost"];
    let address = field.parsed(EmailAddress::parse)?;
    let labels: Vec<&str> = address.domain().rsplit('.').collect();
    let reserved = match labels.as_slice() {
        [top, ..] if RESERVED.contains(top) => true,
        [top, second, ..] => *second == "example" && ["com", "net", "org"].contains(top),
        _ => false,
    };
    if reserved && environment == Some(Environment::Production) {
        let message = format!(
            "`{}` is an address of the sample, {} reaches nobody: in production write your own",
            field.path,
            address.domain()
        );
        field.note(FindingCode::Placeholder, message);
    }
    if address.needs_smtputf8() {
        let message = format!(
            "`{}` has letters outside ASCII before the `@`, and few relays take those from a sender: write an address of \
             yours without them",
            field.path
        );
        field.note(FindingCode::InvalidValue, message);
    }
    if address.domain().len() > DOMAIN_MAX {
        let message =
            format!("`{}`: a Message-ID has no room for a domain of more than {DOMAIN_MAX} characters", field.path);
        field.note(FindingCode::InvalidValue, message);
    }
    Some(address)
}

fn requisites(field: &Field<'_>, creditor: Option<&str>) -> Option<Requisites> {
    let mut section = field.section()?;
    let holder = section.text("holder").or_else(|| creditor.map(str::to_owned));
    let iban = section.get("iban");
    let number = section.get("number");
    let account = match (&iban, &number) {
        (Some(field), None) => iban_of(field),
        (None, Some(field)) => field.text().map(|text| BankAccount::Number(text.to_owned())),
        (Some(_), Some(field)) => {
            let message = format!("`{}`: an account has either an `iban` or a `number`", field.path);
            field.note(FindingCode::Conflict, message);
            None
        }
        (None, None) => {
            section.need("iban", "\"…\"");
            None
        }
    };
    let bic = section.get("bic").and_then(|field| bic(&field));
    let bank = section.text("bank");
    let more = section.get("more").map(|field| labelled(&field)).unwrap_or_default();
    section.close();
    Some(Requisites { holder: holder?, account: account?, bic, bank, more })
}

/// Money sent to an account of the sample would be lost.
fn is_of_the_sample(account: &BankAccount) -> bool {
    let bare = |text: &str| text.replace(' ', "");
    let account = bare(account.as_str());
    account.len() >= 8 && bare(SHIPPED_CREDITORS).contains(&account)
}

fn iban_of(field: &Field<'_>) -> Option<BankAccount> {
    let text = field.text()?;
    let account = BankAccount::parse_iban(text).ok();
    if account.is_none() {
        let message = format!(
            "`{}` is not a valid IBAN: its length or its check digits are wrong; compare it with the bank's papers, or \
             write a national number as `number`",
            field.path
        );
        field.note(FindingCode::InvalidIban, message);
    }
    account
}

/// Neither a minimum nor a rate. A row of that currency, or one whose currency could not be read, has a finding of its
/// own.
fn no_minimum(policy: &Policy, currency: Currency) -> bool {
    let reported = |key: &String| {
        let row = key.strip_prefix("minimum.").or_else(|| key.strip_prefix("rates."));
        let row = row.filter(|row| !["base", "base_currency"].contains(row));
        row.is_some_and(|row| row == currency.code() || Currency::parse(row).is_err())
    };
    policy.minimums.of(currency).is_none() && !policy.locations.keys().any(reported)
}

/// 8 or 11 letters and digits (ISO 9362).
fn bic(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    let shaped = [8, 11].contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
        && text.bytes().take(6).all(|b| b.is_ascii_uppercase());
    if !shaped {
        let message = format!("`{}` must be a BIC of 8 or 11 capital letters and digits", field.path);
        field.note(FindingCode::InvalidValue, message);
    }
    shaped.then(|| text.to_owned())
}
