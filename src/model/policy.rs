//! The written policy, parsed: a `Policy` that exists is valid. `config` builds it and refuses impossible ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono_tz::Tz;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::codes::codes;
use super::{
    Account, Amounts, ApprovalPolicy, BrakePolicy, Calendars, Cause, Country, Creditor, CreditorId, Currency, Hours,
    LadderName, Language, PartyKind, StageName, TaskKind,
};

/// How urgent a stage sounds. Ordered: from `Final` on a named deadline blocks everything else, and only the items
/// that reached the stage are demanded unless the policy says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tone {
    Courtesy,
    Friendly,
    Firm,
    Final,
    Formal,
    Handover,
}

impl Tone {
    /// Every tone, mildest first.
    pub const ALL: [Self; 6] = [Self::Courtesy, Self::Friendly, Self::Firm, Self::Final, Self::Formal, Self::Handover];

    /// The one text form.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Courtesy => "courtesy",
            Self::Friendly => "friendly",
            Self::Firm => "firm",
            Self::Final => "final",
            Self::Formal => "formal",
            Self::Handover => "handover",
        }
    }

    /// The tone of that text form, if there is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tone| tone.as_str() == text)
    }
}

/// The way a stage reaches the debtor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    #[default]
    Email,
    Call,
    Letter,
    Handover,
}

impl Channel {
    /// Every channel.
    pub const ALL: [Self; 4] = [Self::Email, Self::Call, Self::Letter, Self::Handover];

    /// The one text form.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Call => "call",
            Self::Letter => "letter",
            Self::Handover => "handover",
        }
    }

    /// The channel of that text form, if there is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|channel| channel.as_str() == text)
    }

    /// The task of the person who performs it; none for e-mail, which needs nobody.
    #[must_use]
    pub fn task(self) -> Option<TaskKind> {
        match self {
            Self::Email => None,
            Self::Call => Some(TaskKind::MakeCall),
            Self::Letter => Some(TaskKind::PostLetter),
            Self::Handover => Some(TaskKind::HandOver),
        }
    }
}

/// Which candidates a notice demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Demands {
    /// Every candidate whose next stage is this one or an earlier one.
    AllOverdue,
    /// Only the candidates that reached this very stage.
    Reached,
}

/// What happens when nobody knows whether a notice was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUnknown {
    /// A person decides.
    Review,
    /// The same bytes go out once more after 24 h without evidence, and the log says so; then a person decides.
    ResendOnce,
}

impl OnUnknown {
    /// The one text form.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Review => "review",
            Self::ResendOnce => "resend_once",
        }
    }
}

/// When a stage applies at all. Unmet, the stage acts as if it were disabled.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StageCondition {
    /// Least net overdue remainder per currency; a currency without a row takes that of the base currency times its
    /// rate ([`Minimums::of_stage`]). Empty: any remainder does.
    pub min: Amounts,
    /// Empty: every kind.
    pub party_kinds: BTreeSet<PartyKind>,
    /// Empty: every segment.
    pub segments: BTreeSet<String>,
}

/// One step of a ladder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    pub name: StageName,
    pub tone: Tone,
    /// Days past due from which the stage is due; negative before the due day.
    pub days: i32,
    /// The first of them completes the stage, unless `completes_on` says otherwise.
    pub channels: Vec<Channel>,
    #[serde(default)]
    pub completes_on: Option<Channel>,
    /// The folder under `templates/`.
    pub template: String,
    pub enabled: bool,
    /// Whole days after the completion of the previous stage; by default the difference of `days`.
    pub gap: Option<u32>,
    /// Calendar days that the notice gives the debtor to answer.
    pub respond_within: Option<u32>,
    /// The same for debtors of a country.
    #[serde(default)]
    pub respond_within_by_country: BTreeMap<Country, u32>,
    /// The same for natural persons of a country, traders among them.
    #[serde(default)]
    pub respond_within_of_persons: BTreeMap<Country, u32>,
    /// Working days after which the stage counts as complete although no person did its task; none: never.
    #[serde(default)]
    pub lapse_after_working_days: Option<u32>,
    /// Calls that nobody answered after which the stage is complete.
    #[serde(default = "one")]
    pub attempts: u32,
    pub approval: bool,
    pub demands: Demands,
    pub when: StageCondition,
    pub on_unknown: OnUnknown,
    /// `policy.toml:12`, for explanations.
    pub location: Arc<str>,
}

fn one() -> u32 {
    1
}

impl Stage {
    /// The channel that completes the stage.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.completes_on.or_else(|| self.channels.first().copied()).unwrap_or_default()
    }

    /// Whether the debtor gets an e-mail copy of what a person does.
    #[must_use]
    pub fn copies_by_email(&self) -> bool {
        self.channel() != Channel::Email && self.channels.contains(&Channel::Email)
    }

    /// It speaks of what is not due yet, up to and including the due day.
    #[must_use]
    pub fn is_before_due(&self) -> bool {
        self.days < 0
    }

    /// Calendar days that a debtor of that country and kind gets to answer.
    #[must_use]
    pub fn days_to_respond(&self, country: Option<Country>, kind: PartyKind) -> Option<u32> {
        let person = matches!(kind, PartyKind::Consumer | PartyKind::SoleTrader | PartyKind::Unknown);
        let of = |days: &BTreeMap<Country, u32>| days.get(&country?).copied();
        let of_persons = Some(&self.respond_within_of_persons).filter(|_| person).and_then(of);
        of_persons.or_else(|| of(&self.respond_within_by_country)).or(self.respond_within)
    }
}

/// The ordered stages of a policy; days strictly rise, names are unique.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ladder {
    pub name: LadderName,
    pub stages: Vec<Stage>,
}

impl Ladder {
    /// Where that stage stands.
    #[must_use]
    pub fn position(&self, stage: &StageName) -> Option<usize> {
        self.stages.iter().position(|s| &s.name == stage)
    }

    /// Whether it says the same; where its stages stand in the file is no difference.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        let unplaced = |ladder: &Self| {
            let mut ladder = ladder.clone();
            ladder.stages.iter_mut().for_each(|stage| stage.location = "".into());
            ladder
        };
        unplaced(self) == unplaced(other)
    }
}

/// At most `contacts` in any `days` consecutive days. "1 per 7 days" means the next one is allowed 7 days later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactCap {
    pub contacts: u32,
    pub days: u32,
}

/// The least remainder worth a letter.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Minimums {
    pub by_currency: BTreeMap<Currency, Decimal>,
    /// Used for a currency without a row: this amount times that currency's rate.
    pub base: Option<Decimal>,
    /// The currency that rates convert from.
    #[serde(default)]
    pub base_currency: Option<Currency>,
    /// Units of the currency for one unit of the base currency.
    pub rates: BTreeMap<Currency, Decimal>,
}

impl Minimums {
    /// The currencies that have a threshold.
    pub fn currencies(&self) -> impl Iterator<Item = Currency> {
        self.by_currency.keys().chain(self.rates.keys()).copied()
    }

    /// The threshold in that currency; none when there is neither a row nor a rate.
    #[must_use]
    pub fn of(&self, currency: Currency) -> Option<Decimal> {
        self.or_converted(currency, self.by_currency.get(&currency).copied(), self.base)
    }

    /// The same for the thresholds of a stage: its row, else its row in the base currency times that currency's rate.
    #[must_use]
    pub fn of_stage(&self, min: &Amounts, currency: Currency) -> Option<Decimal> {
        let base = self.base_currency.and_then(|base| min.row(base));
        self.or_converted(currency, min.row(currency), base)
    }

    fn or_converted(&self, currency: Currency, row: Option<Decimal>, base: Option<Decimal>) -> Option<Decimal> {
        row.or_else(|| base?.checked_mul(*self.rates.get(&currency)?))
    }
}

/// How credits without a document of their own reduce what is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreditNetting {
    /// The oldest items of that currency first.
    OldestFirst,
    /// The oldest items of the same contract number and currency first; what names no contract then goes to the oldest
    /// items of its currency.
    PerContract,
}

/// Which (template, language) pairs exist and passed their check at load.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateCatalog(pub BTreeSet<(String, Language)>);

impl TemplateCatalog {
    /// Whether a letter of that template exists in that language.
    #[must_use]
    pub fn has(&self, template: &str, language: Language) -> bool {
        self.0.contains(&(template.to_owned(), language))
    }
}

/// After how many months personal data goes; what has none is kept. A legal hold stands above all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// Letters with recipients, and the snapshots and the reasoning behind them.
    pub messages_months: Option<u32>,
    /// The words of notes.
    pub notes_months: Option<u32>,
    /// What relays answered.
    pub smtp_months: Option<u32>,
}

codes! {
    /// What a recorded cause stops.
    CauseHold {
        None = "none", "Nothing.";
        Item = "item", "What it was recorded on: the item, or the account when no item was named.";
        Account = "account", "The whole account, also when it was recorded on an item.";
    }
}

/// What follows from a recorded cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CauseRule {
    pub hold: CauseHold,
    /// Working days for which it holds; without them, until the cause is cleared.
    pub hold_working_days: Option<u32>,
    pub task: Option<TaskKind>,
    /// The wait for the next stage begins anew on the day on which the cause was recorded.
    pub restart_wait: bool,
    /// The next stage comes after this part of its gap; below 100 the days past due of the stage are not waited for
    /// either.
    pub gap_percent: u32,
}

impl CauseRule {
    /// A cause from which nothing follows.
    pub const NOTHING: Self =
        Self { hold: CauseHold::None, hold_working_days: None, task: None, restart_wait: false, gap_percent: 100 };

    /// What follows from a cause about which the policy says nothing.
    #[must_use]
    pub fn shipped(cause: Cause) -> Self {
        let task = |task| Self { task: Some(task), ..Self::NOTHING };
        let held = |kind| Self { hold: CauseHold::Item, ..task(kind) };
        match cause {
            Cause::NotReceived => Self { restart_wait: true, ..task(TaskKind::SendCopy) },
            Cause::CashProblem => task(TaskKind::ProposePlan),
            Cause::WrongDetails => held(TaskKind::CorrectInvoice),
            Cause::Dispute => held(TaskKind::SettleDispute),
            Cause::SaysPaid => Self { hold_working_days: Some(5), ..held(TaskKind::FindPayment) },
            Cause::Dissatisfied => Self { hold_working_days: Some(10), ..held(TaskKind::LookInto) },
            Cause::Withholding => task(TaskKind::LookInto),
            // What is about the debtor is about everything that he owes.
            Cause::Insolvency | Cause::Represented | Cause::WrongParty | Cause::Deceased => {
                Self { hold: CauseHold::Account, ..task(TaskKind::LookInto) }
            }
            Cause::Unwilling => Self { gap_percent: 50, ..Self::NOTHING },
            Cause::Unknown => Self::NOTHING,
        }
    }
}

/// Everything a decision depends on besides the snapshot and the day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    pub creditors: BTreeMap<CreditorId, Creditor>,
    pub templates: TemplateCatalog,
    pub calendars: Calendars,
    /// Languages that letters may be written in.
    pub languages: BTreeSet<Language>,
    /// The language of a country, when neither recipient nor account names one.
    pub country_languages: BTreeMap<Country, Language>,
    /// Always holds `default`.
    pub ladders: BTreeMap<LadderName, Arc<Ladder>>,
    pub minimums: Minimums,
    /// A cause without a row has its shipped rule.
    #[serde(default)]
    pub causes: BTreeMap<Cause, CauseRule>,
    /// Days past due up to which an item is not demanded; from the next day on it counts with its full days.
    pub item_grace_days: u32,
    /// Days past due that the oldest item must have reached before the account is contacted.
    pub account_min_arrears_days: u32,
    pub contact_caps: Vec<ContactCap>,
    /// Days after acceptance in which a bounce may still come; the next stage waits for them.
    pub bounce_window_days: u32,
    /// Working days after a direct debit in which its failure may still be booked.
    pub direct_debit_wait_days: u32,
    /// Days between two notices in the tone `formal` to one account.
    pub formal_gap_days: u32,
    pub credit_netting: CreditNetting,
    /// More accounts than this on one mailbox are a task for a person.
    pub accounts_per_mailbox: u32,
    /// Rows printed in a letter; with more, the oldest are printed and all of them attached as CSV.
    pub rows_in_letter: u32,
    /// Days after the planned send day for which the text of a letter stays true.
    pub valid_days: u32,
    /// Hours of the debtor's day in which letters go out; none: at any hour.
    #[serde(default)]
    pub send_window: Option<Hours>,
    /// Minutes after planning in which a person may still drop a notice before it goes out.
    #[serde(default)]
    pub review_window_minutes: u32,
    /// Days in which a withdrawn item that comes back unchanged is taken up again without a person.
    pub restore_days: u32,
    pub brake: BrakePolicy,
    pub approval: ApprovalPolicy,
    pub retention: Retention,
    /// `policy.toml:12` per key, for explanations.
    pub locations: BTreeMap<String, Arc<str>>,
}

impl Policy {
    /// The ladder that the ledger names for an account; `default` where it names none.
    #[must_use]
    pub fn ladder(&self, name: Option<&str>) -> Option<&Arc<Ladder>> {
        let name = name.map_or_else(|| Some(LadderName::default()), |name| LadderName::parse(name).ok());
        self.ladders.get(&name?)
    }

    /// What follows from a cause.
    #[must_use]
    pub fn cause(&self, cause: Cause) -> CauseRule {
        self.causes.get(&cause).copied().unwrap_or_else(|| CauseRule::shipped(cause))
    }

    /// Where a key stands in the configuration, for explanations: `policy.toml:12`.
    #[must_use]
    pub fn location(&self, key: &str) -> Option<&Arc<str>> {
        self.locations.get(key)
    }

    /// The country whose rules protect a debtor, and whose days he lives by: his own, else the creditor's.
    #[must_use]
    pub fn country_of(&self, account: &Account) -> Option<Country> {
        account.country.or_else(|| self.creditors.get(&account.creditor).map(|creditor| creditor.country))
    }

    /// The zone of that creditor's business dates; UTC for a creditor that is not configured.
    #[must_use]
    pub fn zone(&self, creditor: &CreditorId) -> Tz {
        self.creditors.get(creditor).map_or(Tz::UTC, |c| c.time_zone)
    }
}
