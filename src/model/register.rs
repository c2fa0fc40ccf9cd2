//! What people record about an account: holds, disputes, which are holds with a cause, hand-overs and calls.

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use super::codes::codes;
use super::{AccountId, Contact, ContactId, ContactRole, Currency, EmailAddress, EmailKind, Entered, ItemId};
use rust_decimal::Decimal;

codes! {
    /// Why something is unpaid, as far as a person knows.
    Cause {
        NotReceived = "not_received", "The goods, the service or the invoice did not arrive.";
        CashProblem = "cash_problem", "The debtor cannot pay for now.";
        WrongDetails = "wrong_details", "The invoice names a wrong amount, order, address or tax id.";
        Dissatisfied = "dissatisfied", "The debtor is not satisfied with what was delivered.";
        Dispute = "dispute", "The debtor disputes the claim itself.";
        SaysPaid = "says_paid", "The debtor says that it is paid.";
        Withholding = "withholding", "The debtor keeps a part back, for tax or as security.";
        Insolvency = "insolvency", "Insolvency proceedings are open or announced.";
        Represented = "represented", "Somebody else speaks for the debtor.";
        WrongParty = "wrong_party", "It is owed by somebody else.";
        Deceased = "deceased", "The debtor has died.";
        Unwilling = "unwilling", "The debtor could pay and does not want to.";
        Unknown = "unknown", "Nobody knows yet.";
    }
}

codes! {
    /// What came of a call. A promise or a dispute is recorded by its own command as well.
    CallOutcome {
        NoAnswer = "no_answer", "Nobody answered.";
        NotReceived = "not_received", "The goods, the service or the invoice did not arrive.";
        Promise = "promise", "The debtor promised to pay.";
        Dispute = "dispute", "The debtor disputes the claim.";
        WrongDetails = "wrong_details", "The invoice names a wrong amount, order, address or tax id.";
        WantsPlan = "wants_plan", "The debtor asks to pay in instalments.";
        Refuses = "refuses", "The debtor does not want to pay.";
        SaysPaid = "says_paid", "The debtor says that it is paid.";
        Other = "other", "Something else; the note says what.";
    }
}

impl CallOutcome {
    /// The cause that a call with this outcome tells.
    #[must_use]
    pub fn cause(self) -> Option<Cause> {
        match self {
            Self::NotReceived => Some(Cause::NotReceived),
            Self::Dispute => Some(Cause::Dispute),
            Self::WrongDetails => Some(Cause::WrongDetails),
            Self::WantsPlan => Some(Cause::CashProblem),
            Self::Refuses => Some(Cause::Unwilling),
            Self::SaysPaid => Some(Cause::SaysPaid),
            Self::NoAnswer | Self::Promise | Self::Other => None,
        }
    }
}

/// What a hold stops.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldTarget {
    Account(AccountId),
    Item(ItemId),
}

/// A stop with a reason, recorded by a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// 0 for one that follows from something else: a cause, a hand-over.
    #[serde(default)]
    pub number: i64,
    pub target: HoldTarget,
    /// Last day; without one it holds until it is released.
    pub until: Option<NaiveDate>,
    pub reason: String,
    /// Makes a hold on an item a dispute.
    #[serde(default)]
    pub cause: Option<Cause>,
    /// The business date on which it was recorded.
    pub since: NaiveDate,
    /// The account that the item stood with before and that is handed over: this lasts as long as that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handed_over: Option<AccountId>,
}

/// Why something is unpaid, as a person recorded it. The policy says what follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedCause {
    pub number: i64,
    pub cause: Cause,
    /// Without one, the whole account.
    pub item: Option<ItemId>,
    pub reason: String,
    /// The business date on which it was recorded.
    pub since: NaiveDate,
}

impl RecordedCause {
    /// Whether it is about that item.
    #[must_use]
    pub fn concerns(&self, item: &ItemId) -> bool {
        self.item.as_ref().is_none_or(|own| own == item)
    }

    /// `says_paid since 2026-05-02, item A: paid on Monday`.
    #[must_use]
    pub fn tell(&self) -> String {
        let item = self.item.as_ref().map_or(String::new(), |item| format!(", item {item}"));
        format!("{} since {}{item}: {}", self.cause.as_str(), self.since, self.reason)
    }
}

/// An item that a person wrote off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteOff {
    pub item: ItemId,
    pub reason: String,
    /// The business date on which it was recorded.
    pub since: NaiveDate,
}

/// What a person of ours knows better about a contact than the ledger, or a contact that the ledger does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactEntry {
    pub contact: ContactId,
    /// Set for a contact that the ledger does not have.
    pub role: Option<ContactRole>,
    pub email: Option<EmailAddress>,
    /// The person asked for no e-mail, or for it again.
    pub no_email: Option<bool>,
    pub language: Option<String>,
    pub phone: Option<String>,
    pub name: Option<String>,
    /// Its address, number and name were erased; which of them it had, nobody knows.
    pub erased: bool,
}

impl ContactEntry {
    /// What is entered now, over what was entered before.
    #[must_use]
    pub fn over(self, before: Self) -> Self {
        Self {
            contact: self.contact,
            role: self.role.or(before.role),
            email: self.email.or(before.email),
            no_email: self.no_email.or(before.no_email),
            language: self.language.or(before.language),
            phone: self.phone.or(before.phone),
            name: self.name.or(before.name),
            erased: self.erased,
        }
    }

    /// Puts what was entered over the ledger's contacts. An entry about a contact that the ledger no longer has changes
    /// nothing.
    pub fn apply(&self, contacts: &mut Vec<Contact>) {
        if let Some(role) = self.role {
            contacts.push(Contact {
                id: self.contact.clone(),
                role,
                name: self.name.clone(),
                salutation: None,
                email: self.email.clone(),
                unusable_email: false,
                phone: self.phone.clone(),
                language: self.language.clone(),
                is_primary: true,
                no_email: self.no_email.unwrap_or(false),
                email_kind: EmailKind::Email,
                entered: self.entered(),
            });
        } else if let Some(contact) = contacts.iter_mut().find(|contact| contact.id == self.contact) {
            contact.entered = self.entered();
            if self.erased {
                (contact.email, contact.phone) = (None, None);
                contact.unusable_email = false;
            }
            if let Some(email) = &self.email {
                contact.email = Some(email.clone());
                contact.unusable_email = false;
            }
            contact.no_email = self.no_email.unwrap_or(contact.no_email);
            contact.language = self.language.clone().or(contact.language.take());
            contact.phone = self.phone.clone().or(contact.phone.take());
            contact.name = self.name.clone().or(contact.name.take());
        }
    }

    fn entered(&self) -> Entered {
        match (self.erased, self.no_email) {
            (true, _) => Entered::Erased,
            (false, Some(true)) => Entered::NoEmail,
            (false, _) => Entered::Something,
        }
    }
}

impl Hold {
    /// Whether it stops anything on that day: the last day is still held.
    #[must_use]
    pub fn covers(&self, day: NaiveDate) -> bool {
        self.until.is_none_or(|last| day <= last)
    }
}

/// The account was given to somebody else, who pursues it: no automatic contact any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    pub to: String,
    pub reason: String,
    /// The business date on which it was recorded.
    pub since: NaiveDate,
    #[serde(default)]
    pub number: i64,
    /// What was open then; empty for one recorded before this was kept.
    #[serde(default)]
    pub items: Vec<HandoverItem>,
}

/// What was open on an item when its account was handed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandoverItem {
    pub item: ItemId,
    pub currency: Currency,
    /// Negative on credits and payments.
    pub open_then: Decimal,
    /// It vanished from the ledger while open, which is not a payment.
    pub vanished: bool,
}
