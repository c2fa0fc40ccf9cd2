//! Who is written to, in which language, and where the money should go.

use crate::model::{Contact, Creditor, Item, Language, Policy, Requisites, Snapshot, Tone};

/// The contact for a notice in that tone: by role, primary first, then by id; `legal` only from `formal` on; never one
/// that asked for no e-mail, and never the creditor's own domain.
pub(super) fn recipient<'a>(snapshot: &'a Snapshot, creditor: Option<&Creditor>, tone: Tone) -> Option<&'a Contact> {
    let own_domain = creditor.map(|creditor| creditor.sender.domain());
    let usable = |contact: &&Contact| {
        !contact.no_email
            && contact.email.as_ref().is_some_and(|email| Some(email.domain()) != own_domain)
            && (contact.role != crate::model::ContactRole::Legal || tone >= Tone::Formal)
    };
    snapshot
        .contacts
        .iter()
        .filter(usable)
        .min_by(|a, b| (a.role, !a.is_primary, &a.id).cmp(&(b.role, !b.is_primary, &b.id)))
}

/// The first of recipient, account, country default and creditor default whose primary subtag the policy lists.
pub(super) fn language(
    policy: &Policy,
    snapshot: &Snapshot,
    contact: &Contact,
    creditor: Option<&Creditor>,
) -> Option<(Language, &'static str)> {
    let listed = |language: &Language| policy.languages.contains(language);
    let by_tag = |tag: Option<&str>| tag.and_then(|tag| Language::parse(tag).ok()).filter(listed);
    let by_country = || {
        let country = snapshot.account.country?;
        policy.country_languages.get(&country).copied().filter(listed)
    };
    by_tag(contact.language.as_deref())
        .map(|language| (language, "the recipient's language"))
        .or_else(|| by_tag(snapshot.account.language.as_deref()).map(|language| (language, "the account's language")))
        .or_else(|| by_country().map(|language| (language, "the country's language")))
        .or_else(|| creditor.map(|c| c.language).filter(listed).map(|language| (language, "the creditor's language")))
}

/// Where an item is paid to: its own requisites, else the account's (a virtual account), else the creditor's account
/// for the currency.
pub(super) fn requisites<'a>(
    snapshot: &'a Snapshot,
    creditor: Option<&'a Creditor>,
    item: &'a Item,
) -> Option<&'a Requisites> {
    item.requisites
        .as_ref()
        .or(snapshot.account.requisites.as_ref())
        .or_else(|| creditor.and_then(|creditor| creditor.bank_accounts.get(&item.currency)))
}
