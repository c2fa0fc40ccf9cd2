//! Who owes: accounts and the people behind them.

use chrono::NaiveDate;
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::{AccountId, ContactId, Country, CreditorId, EmailAddress, Requisites};

/// What sort of debtor it is. Decides caps, interest and whether a formal step may be automatic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartyKind {
    Company,
    SoleTrader,
    Consumer,
    PublicBody,
    PublicHealthcare,
    /// Treated with a natural person's caps; never an automatic `formal`.
    Unknown,
}

impl PartyKind {
    /// Every kind, in the order of the contract.
    pub const ALL: [Self; 6] =
        [Self::Company, Self::SoleTrader, Self::Consumer, Self::PublicBody, Self::PublicHealthcare, Self::Unknown];

    /// The one text form, in the ledger, the configuration and the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Company => "company",
            Self::SoleTrader => "sole_trader",
            Self::Consumer => "consumer",
            Self::PublicBody => "public_body",
            Self::PublicHealthcare => "public_healthcare",
            Self::Unknown => "unknown",
        }
    }

    /// The kind of that text form, if there is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// A debtor of one creditor, as the ledger describes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Account {
    pub id: AccountId,
    pub creditor: CreditorId,
    pub name: String,
    pub party_kind: PartyKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<Country>,
    /// BCP 47 as the ledger has it; its primary subtag is compared with the policy's languages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<Tz>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postal_address: Option<String>,
    /// The same debtor under several creditors or branches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub party_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<AccountId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
    /// As the ledger names it: the policy may have none of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ladder: Option<String>,
    /// Where this account pays to (a virtual account), instead of the creditor's account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requisites: Option<Requisites>,
    /// Last day of a hold on everything; a reason without a day holds until it is cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_until: Option<NaiveDate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_reason: Option<String>,
}

/// What a contact is for; recipients are sought in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContactRole {
    Dunning,
    Billing,
    Decision,
    General,
    /// Only for `formal` and later.
    Legal,
}

impl ContactRole {
    /// Every role, in the order in which recipients are sought.
    pub const ALL: [Self; 5] = [Self::Dunning, Self::Billing, Self::Decision, Self::General, Self::Legal];

    /// The one text form.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dunning => "dunning",
            Self::Billing => "billing",
            Self::Decision => "decision",
            Self::General => "general",
            Self::Legal => "legal",
        }
    }

    /// The role of that text form, if there is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

/// How an address is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EmailKind {
    Email,
    /// Italian certified mail (PEC).
    Pec,
}

/// A person or mailbox at a debtor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contact {
    pub id: ContactId,
    pub role: ContactRole,
    pub name: Option<String>,
    /// Written out by the operator, such as `Gentile Sig.ra Rossi,`; we never guess a gender or decline a name.
    pub salutation: Option<String>,
    /// Present only when it is one usable address.
    pub email: Option<EmailAddress>,
    /// Whether the ledger holds a text here that is not one usable address.
    pub unusable_email: bool,
    pub phone: Option<String>,
    pub language: Option<String>,
    pub is_primary: bool,
    pub no_email: bool,
    pub email_kind: EmailKind,
    #[serde(default, skip_serializing_if = "Entered::is_nothing")]
    pub entered: Entered,
}

/// What people of ours said about a contact, beside the ledger.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entered {
    #[default]
    Nothing,
    Something,
    /// The person wants no e-mail.
    NoEmail,
    /// What they said was erased. It may have been another address or number, so the ledger's are not used.
    Erased,
}

impl Entered {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn is_nothing(&self) -> bool {
        *self == Self::Nothing
    }
}
