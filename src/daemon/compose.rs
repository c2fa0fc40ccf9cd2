//! From a decision to a letter: only facts that the log knows too.

use chrono::{DateTime, NaiveDate, Utc};

use crate::model::{
    Channel, ContactRole, Contacting, Creditor, Decision, DisplayName, EmailAddress, ItemCode, Language, Letter, Mail,
    Mailbox, Policy, Snapshot, is_protocol_claim,
};
use crate::{claim, decide};

/// The letter that a decision asks for.
#[must_use]
pub fn letter(
    policy: &Policy,
    creditor: &Creditor,
    snapshot: &Snapshot,
    decision: &Decision,
    contacting: &Contacting,
    payments_as_of: DateTime<Utc>,
) -> Letter {
    let snapshot = &*decide::seen(policy, snapshot, decision.business_date);
    let account = &snapshot.account;
    let contact = snapshot.contacts.iter().find(|contact| contacting.contact.as_ref() == Some(&contact.id));
    // The operator's words are used only where they are known to be in the letter's language.
    let salutation = contact
        .filter(|contact| {
            contact
                .language
                .as_deref()
                .or(account.language.as_deref())
                .is_some_and(|tag| Language::parse(tag).is_ok_and(|language| language == contacting.language))
        })
        .and_then(|contact| contact.salutation.clone());
    Letter {
        language: contacting.language,
        stage: contacting.stage.clone(),
        tone: contacting.tone,
        template: contacting.template.clone(),
        creditor_name: creditor.name.clone(),
        creditor_address: creditor.address.clone(),
        creditor_tax_ids: creditor.tax_ids.clone(),
        creditor_email: creditor.reply_to.to_string(),
        creditor_phone: creditor.phone.clone(),
        contact_person: creditor.contact_person.clone(),
        account_id: account.id.to_string(),
        account_name: account.name.clone(),
        account_address: account.postal_address.clone(),
        account_tax_id: account.tax_id.clone(),
        party_kind: account.party_kind,
        protocol_claim: is_protocol_claim(
            contacting.tone,
            account.country.or(Some(creditor.country)),
            account.party_kind,
        ),
        salutation,
        date: decision.business_date,
        // The last day that the payments cover: midnight is the end of the day before it.
        payments_as_of: (payments_as_of - chrono::Duration::seconds(1)).with_timezone(&creditor.time_zone).date_naive(),
        respond_by: contacting.respond_by,
        reminded_on: reminded_on(snapshot, decision),
        next_tone: contacting.next_tone,
        escalated: contacting.escalated,
        rows_in_letter: (contacting.channel == Channel::Email).then_some(policy.rows_in_letter),
        by_post: contacting.channel == Channel::Letter,
        copy_of_post: false,
        demands: claim::demands(snapshot, decision, contacting),
        information: claim::information(snapshot, decision),
    }
}

/// The day of the last letter or e-mail that named every one of the demanded items.
fn reminded_on(snapshot: &Snapshot, decision: &Decision) -> Option<NaiveDate> {
    let demanded: Vec<_> = decision.items.iter().filter(|item| item.code == ItemCode::Demanded).collect();
    snapshot
        .history
        .notices
        .iter()
        .filter(|notice| notice.was_written())
        .filter(|notice| demanded.iter().all(|one| notice.items.iter().any(|(item, _)| item == &one.item)))
        .filter_map(|notice| notice.accepted_on)
        .max()
}

/// What the message needs besides the letter.
#[must_use]
pub fn mail(
    creditor: &Creditor,
    snapshot: &Snapshot,
    contacting: &Contacting,
    recipient: EmailAddress,
    message_id: String,
    at: DateTime<Utc>,
) -> Mail {
    let contact = snapshot.contacts.iter().find(|contact| contacting.contact.as_ref() == Some(&contact.id));
    // A person's name stands beside the address; a mailbox without one is called by the account's.
    let of_account = |_| DisplayName::of(&snapshot.account.name);
    let name = contact.and_then(|contact| {
        let own = contact.name.as_deref().and_then(DisplayName::of);
        own.or_else(|| Some(contact).filter(|c| c.role != ContactRole::Legal).and_then(of_account))
    });
    Mail {
        from: Mailbox { name: Some(creditor.sender_name.clone()), address: creditor.sender.clone() },
        reply_to: Mailbox { name: DisplayName::of(&creditor.name), address: creditor.reply_to.clone() },
        to: Mailbox { name, address: recipient },
        message_id,
        references: contacting.references.clone(),
        date: at.with_timezone(&creditor.time_zone).fixed_offset(),
        language: contacting.language,
    }
}
