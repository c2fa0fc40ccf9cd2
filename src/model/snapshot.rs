//! Everything known about one account on one day: the input of a decision.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::{
    Account, Channel, Contact, Handover, Hold, Item, ItemId, Ladder, NoticeId, NoticeState, Plan, Promise,
    RecordedCause, StageName, Tone, WriteOff,
};

/// How current the ledger is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freshness {
    pub invoices_as_of: DateTime<Utc>,
    /// Payments are imported up to here; "as of" in a letter is this moment.
    pub payments_as_of: DateTime<Utc>,
}

/// One account's run through a ladder. It keeps the ladder it started with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// Shared by all the cases that keep it.
    pub ladder: Arc<Ladder>,
    pub opened_on: NaiveDate,
}

/// A notice of the past, or one still on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PastNotice {
    pub id: NoticeId,
    pub stage: StageName,
    pub tone: Tone,
    #[serde(default)]
    pub channel: Channel,
    pub state: NoticeState,
    /// The business date it was decided for.
    pub decided_on: NaiveDate,
    /// The business date on which it reached `in_flight`, whatever came of it, or its letter was posted: it counts for
    /// the caps from then on. A call counts by itself, and the copy of a letter with its letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted_on: Option<NaiveDate>,
    /// The business date of acceptance, or on which a person did it or it lapsed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_on: Option<NaiveDate>,
    /// With a person: the last day to do it, after which it lapses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lapses_on: Option<NaiveDate>,
    /// Of a letter: the last day to post it, as its text is true until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post_by: Option<NaiveDate>,
    /// The deadline that it named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub respond_by: Option<NaiveDate>,
    /// The items it demanded; only these complete a stage, each its own: item and stage. None for a copy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<(ItemId, StageName)>,
    /// With a person: what it demands on each item.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub to_pay: BTreeMap<ItemId, Decimal>,
    /// A call that was tried as often as its stage asks for, and that nobody answered.
    #[serde(default)]
    pub unanswered: bool,
    /// Something it demanded is gone from the ledger without being settled.
    #[serde(default)]
    pub vanished: bool,
    /// `EmailAddress::mailbox_key` of its recipient.
    pub mailbox: String,
    /// Empty when it was no e-mail.
    pub message_id: String,
}

impl PastNotice {
    /// It completed its stage, and the debtor heard of it.
    #[must_use]
    pub fn was_heard(&self) -> bool {
        self.state.completes_stage() && self.state != NoticeState::Lapsed && !self.unanswered
    }

    /// The debtor has it in writing.
    #[must_use]
    pub fn was_written(&self) -> bool {
        matches!(self.channel, Channel::Email | Channel::Letter) && self.was_heard()
    }

    /// It completes that stage of the items that it demanded for it. What the debtor never heard completes its own stage
    /// alone, by policy: nothing was said about what it took along at an earlier one.
    #[must_use]
    pub fn completes(&self, stage: &StageName) -> bool {
        self.state.completes_stage() && (*stage == self.stage || self.was_heard())
    }
}

/// A stage that a person declared done without a contact, with a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiver {
    pub item: ItemId,
    pub stage: StageName,
    /// The date the stage was due, or on which it was done elsewhere.
    pub on: NaiveDate,
    pub reason: String,
    /// Who did it, for a stage that was not waived but done elsewhere.
    #[serde(default)]
    pub elsewhere: Option<String>,
}

/// What was done about this account before.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<PastNotice>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waivers: Vec<Waiver>,
    /// Logged calls and other contacts by hand; they count for the caps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_contacts: Vec<NaiveDate>,
}

/// What is known about one mailbox over all accounts and creditors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxUse {
    /// Business dates of counted contacts by any account of any creditor.
    pub contacts: Vec<NaiveDate>,
    /// Whether this creditor already has a notice for it today, or makes one for an account that has waited longer.
    pub notice_today: bool,
    /// Accounts that owe something and use it.
    pub accounts: u32,
    /// Letters that a person is still to post and whose e-mail copy then goes there: each is one contact of today in
    /// `contacts`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<NoticeId>,
}

/// Open debits that are not overdue and about which nothing else is to be said. A scan of a whole ledger counts them
/// instead of reading each: they are most of it, and nothing is asked about them but when the first falls due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotDue {
    pub items: u64,
    /// The first due date that their documents name.
    pub first_due: Option<NaiveDate>,
}

/// One account with everything the decision needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    pub account: Account,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contacts: Vec<Contact>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<Item>,
    /// Further items, that are not in `items`.
    #[serde(default)]
    pub not_due: NotDue,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub case: Option<Case>,
    pub history: History,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<Hold>,
    /// Somebody else pursues the account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handover: Option<Handover>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub promises: Vec<Promise>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plans: Vec<Plan>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<RecordedCause>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub write_offs: Vec<WriteOff>,
    /// By `EmailAddress::mailbox_key`.
    pub mailboxes: BTreeMap<String, MailboxUse>,
    /// Everything is stopped, with this reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freshness: Option<Freshness>,
    #[serde(default)]
    pub approvals: Approvals,
}

/// What waits for a person's approval, over all accounts of the creditor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approvals {
    pub waiting: u32,
    /// Every notice waits, whatever its stage.
    pub all: bool,
}
