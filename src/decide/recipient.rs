//! Who is written to, in which language, and where the money should go.

use crate::model::{
    Channel, Contact, ContactRole, Creditor, EmailAddress, Item, Language, Policy, Requisites, Snapshot, Stage, Tone,
    is_protocol_claim,
};

use super::gates::Question;

/// How a stage reaches the debtor.
#[derive(Default)]
pub(super) struct Reach<'a> {
    /// Who is written to or called, where that is a person or mailbox of the ledger.
    pub(super) contact: Option<&'a Contact>,
    /// Where the e-mail goes, or the e-mail copy of a letter.
    pub(super) email: Option<&'a EmailAddress>,
    pub(super) phone: Option<&'a str>,
}

/// How that stage reaches the debtor, by the channel that completes it.
pub(super) fn reach<'a>(snapshot: &'a Snapshot, creditor: Option<&Creditor>, stage: &Stage) -> Reach<'a> {
    let mailbox = || recipient(snapshot, creditor, stage.tone);
    let account = &snapshot.account;
    let country = account.country.or_else(|| creditor.map(|creditor| creditor.country));
    let by_post_only = is_protocol_claim(stage.tone, country, account.party_kind);
    let copied = || mailbox().filter(|_| stage.copies_by_email() && !by_post_only);
    let mail = |contact: Option<&'a Contact>| contact.and_then(|contact| contact.email.as_ref());
    match stage.channel() {
        Channel::Email => Reach { contact: mailbox(), email: mail(mailbox()), phone: None },
        Channel::Call => {
            let contact = by_role(snapshot, stage.tone, |contact| contact.phone.is_some());
            Reach { contact, email: None, phone: contact.and_then(|contact| contact.phone.as_deref()) }
        }
        Channel::Letter => {
            let contact = copied().or_else(|| by_role(snapshot, stage.tone, |_| true));
            Reach { contact, email: mail(copied()), phone: None }
        }
        Channel::Handover => Reach::default(),
    }
}

/// The contact for a notice in that tone: by role, primary first, then by id; `legal` only from `formal` on; never one
/// that asked for no e-mail, and never the creditor's own domain.
pub(super) fn recipient<'a>(snapshot: &'a Snapshot, creditor: Option<&Creditor>, tone: Tone) -> Option<&'a Contact> {
    let own_domain = creditor.map(|creditor| creditor.sender.domain());
    by_role(snapshot, tone, |contact| {
        !contact.no_email && contact.email.as_ref().is_some_and(|email| Some(email.domain()) != own_domain)
    })
}

fn by_role(snapshot: &Snapshot, tone: Tone, usable: impl Fn(&Contact) -> bool) -> Option<&Contact> {
    let allowed = |contact: &&Contact| contact.role != ContactRole::Legal || tone >= Tone::Formal;
    let contacts = snapshot.contacts.iter().filter(allowed).filter(|contact| usable(contact));
    contacts.min_by(|a, b| (a.role, !a.is_primary, &a.id).cmp(&(b.role, !b.is_primary, &b.id)))
}

/// The first of recipient, account, country default and creditor default whose primary subtag the policy lists; for a
/// hand-over, which stays among ourselves, the creditor's.
pub(super) fn language(
    policy: &Policy,
    snapshot: &Snapshot,
    stage: &Stage,
    contact: Option<&Contact>,
    creditor: Option<&Creditor>,
) -> Option<(Language, &'static str)> {
    let listed = |language: &Language| policy.languages.contains(language);
    let by_tag = |tag: Option<&str>| tag.and_then(|tag| Language::parse(tag).ok()).filter(listed);
    let by_country = || {
        let country = snapshot.account.country?;
        policy.country_languages.get(&country).copied().filter(listed)
    };
    let by_creditor =
        || creditor.map(|c| c.language).filter(listed).map(|language| (language, "the creditor's language"));
    if stage.channel() == Channel::Handover {
        return by_creditor();
    }
    by_tag(contact.and_then(|contact| contact.language.as_deref()))
        .map(|language| (language, "the recipient's language"))
        .or_else(|| by_tag(snapshot.account.language.as_deref()).map(|language| (language, "the account's language")))
        .or_else(|| by_country().map(|language| (language, "the country's language")))
        .or_else(by_creditor)
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

/// Whether there is anywhere to pay an item to.
pub(super) fn is_payable(q: &Question<'_>, item: &Item) -> bool {
    requisites(q.snapshot, q.creditor(), item).is_some()
}
