//! Who is written to, in which language, and how often.

use std::collections::BTreeMap;

use dunningd::decide::no_longer_right;
use dunningd::model::{Cause, ContactCap, ContactRole, Country, HoldTarget, Language, MailboxUse, OnMissed, PartyKind};

use crate::support::world::{World, check, check_tasks, item_id, stage_name, t_plus};

fn one() -> World {
    World::new().owes("A", 30, "100 EUR")
}

fn mailbox(accounts: u32, notice_today: bool, contacts: &[i64]) -> MailboxUse {
    MailboxUse {
        contacts: contacts.iter().map(|ago| t_plus(-ago)).collect(),
        notice_today,
        accounts,
        ..Default::default()
    }
}

fn with_mailbox(usage: MailboxUse) -> World {
    let mut world = one();
    world.snapshot.mailboxes = BTreeMap::from([("office@debtor.example".to_owned(), usage)]);
    world
}

#[test]
fn without_an_address_no_stage_is_counted_and_a_person_is_asked() {
    let world = one().contacts(&[]);
    check(&world, "hold no_address");
    check_tasks(&world, "find_address");
    check(&one().contact(0, |contact| contact.email = None), "hold no_address");
}

#[test]
fn recipients_are_sought_by_role_primary_first_and_never_against_their_will() {
    let roles = [
        (ContactRole::Legal, "legal@debtor.example"),
        (ContactRole::General, "general@debtor.example"),
        (ContactRole::Decision, "decision@debtor.example"),
        (ContactRole::Billing, "billing-a@debtor.example"),
        (ContactRole::Billing, "billing-b@debtor.example"),
        (ContactRole::Dunning, "dunning@debtor.example"),
    ];
    let to = |world: &World| world.contacting().recipient.unwrap().to_string();
    let world = one().contacts(&roles);
    assert_eq!(to(&world), "dunning@debtor.example");
    let world = world.contact(5, |dunning| dunning.no_email = true);
    assert_eq!(to(&world), "billing-a@debtor.example");
    let world = world.contact(4, |billing| billing.is_primary = true);
    assert_eq!(to(&world), "billing-b@debtor.example");
    let world = world.contacts(&roles[..3]);
    assert_eq!(to(&world), "decision@debtor.example");
    let world = world.contacts(&roles[..2]);
    assert_eq!(to(&world), "general@debtor.example");
}

#[test]
fn the_legal_department_is_written_to_from_the_formal_stage_on() {
    let world = one().contacts(&[(ContactRole::Legal, "legal@debtor.example")]);
    check(&world, "hold no_address");
    let formal = world.reminded("friendly", 27, &["A"]).reminded("firm", 20, &["A"]).reminded("final", 10, &["A"]);
    check(&formal, "contact formal: demands A");
    assert_eq!(formal.contacting().recipient.unwrap().as_str(), "legal@debtor.example");
}

#[test]
fn our_own_domain_is_never_a_recipient() {
    check(&one().contacts(&[(ContactRole::Dunning, "sales@creditor.example")]), "hold no_address");
}

#[test]
fn the_primary_subtag_decides_the_language() {
    assert_eq!(one().account(|a| a.language = Some("it-CH".to_owned())).contacting().language, Language::It);
}

#[test]
fn the_first_listed_language_of_recipient_account_country_and_creditor_is_taken() {
    let world = one().account(|account| account.language = Some("de".to_owned()));
    assert_eq!(world.contacting().language, Language::En);
    let world = world.policy(|policy| {
        policy.country_languages.insert(Country::parse("PL").unwrap(), Language::Pl);
    });
    assert_eq!(world.contacting().language, Language::Pl);
    let world = world.account(|account| account.language = Some("ru".to_owned()));
    assert_eq!(world.contacting().language, Language::Ru);
    let world = world.contact(0, |contact| contact.language = Some("it".to_owned()));
    assert_eq!(world.contacting().language, Language::It);
    let unlisted = world.policy(|policy| policy.languages.retain(|language| *language != Language::It));
    assert_eq!(unlisted.contacting().language, Language::Ru);
}

#[test]
fn a_stage_without_a_letter_in_that_language_sends_nothing() {
    let world = one().account(|account| account.language = Some("it".to_owned()));
    let world = world.policy(|policy| policy.templates.0.retain(|pair| *pair != ("friendly".to_owned(), Language::It)));
    check(&world, "hold no_template");
    check_tasks(&world, "write_template");
}

#[test]
fn the_cap_allows_the_next_contact_after_whole_days() {
    let world = one().called(4);
    check(&world, "wait contact_cap until T+1");
    check(&world.on(1), "contact friendly: demands A");
    let monthly = world.policy(|policy| policy.contact_caps.push(ContactCap { contacts: 2, days: 30 })).called(12);
    check(&monthly, "wait contact_cap until T+18");
}

#[test]
fn a_mailbox_has_its_cap_over_all_accounts_and_creditors() {
    check(&with_mailbox(mailbox(2, false, &[3])), "wait contact_cap until T+2");
    check(&with_mailbox(mailbox(2, false, &[5])), "contact friendly: demands A");
}

#[test]
fn a_mailbox_gets_one_notice_a_day_and_a_person_hears_of_many_accounts_on_it() {
    let busy = with_mailbox(mailbox(40, true, &[]));
    check(&busy, "hold shared_mailbox until T+5");
    check_tasks(&busy, "shared_mailbox office@debtor.example");
    check_tasks(&with_mailbox(mailbox(3, false, &[])), "");
}

#[test]
fn a_natural_person_is_not_written_to_more_often_than_practice_allows_whatever_the_policy_says() {
    let often = |kind: PartyKind| {
        one().policy(|policy| policy.contact_caps.clear()).account(|a| a.party_kind = kind).called(0).called(3)
    };
    check(&often(PartyKind::Company), "contact friendly: demands A");
    check(&often(PartyKind::Consumer), "wait contact_cap until T+4");
    check(&often(PartyKind::Unknown), "wait contact_cap until T+4");
}

#[test]
fn the_notice_that_a_mailbox_has_today_counts_once_beside_its_earlier_contacts() {
    let twice = |contacts: &[i64]| {
        with_mailbox(mailbox(2, true, contacts)).policy(|p| p.contact_caps = vec![ContactCap { contacts: 2, days: 5 }])
    };
    check(&twice(&[2]), "hold shared_mailbox until T+3");
    check(&twice(&[0]), "hold shared_mailbox until T+1");
    check(&twice(&[]), "hold shared_mailbox until T+1");
}

#[test]
fn a_notice_that_waits_for_approval_is_right_no_longer_for_what_became_of_its_items() {
    let items = [(item_id("A"), stage_name("friendly"))];
    let why = |world: World| {
        no_longer_right(&world.policy, &world.snapshot, &items, world.today).map(dunningd::model::CancelReason::as_str)
    };
    let on_a = || HoldTarget::Item(item_id("A"));
    assert_eq!(why(one()), None);
    assert_eq!(why(one().owes("B", 30, "50 EUR").disputed("B", Cause::Dispute)), None);
    assert_eq!(why(one().paid(&["A"])), Some("paid_before_send"));
    assert_eq!(why(one().unallocated("P", "100 EUR")), Some("paid_before_send"));
    assert_eq!(why(one().disputed("A", Cause::Dispute)), Some("disputed_before_send"));
    assert_eq!(why(one().hold(on_a(), None)), Some("held_before_send"));
    assert_eq!(why(one().cause(Cause::SaysPaid, Some("A"), 0)), Some("cause_before_send"));
    assert_eq!(why(one().promised("100 EUR", 5, 2, &["A"])), Some("promised_before_send"));
    let plan = [(10, "100 EUR")];
    assert_eq!(why(one().planned(&plan, 2, OnMissed::Instalment, &["A"])), Some("planned_before_send"));
    assert_eq!(why(one().waived("friendly", 0, "A")), Some("waived_before_send"));
    assert_eq!(why(one().handed_over()), Some("handed_over_before_send"));
}
