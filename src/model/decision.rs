//! What a run concluded for one account, and why.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::codes::codes;
use super::{
    AccountId, Bucket, CancelReason, Channel, ContactId, CreditorId, EmailAddress, EventKind, ItemId, Language, Money,
    NoticeId, Requisites, StageName, Tone,
};

codes! {
    /// Why an account was not contacted: the first that applies, in this order.
    ReasonCode {
        Paused = "paused", "Everything is paused.";
        HandedOver = "handed_over", "The account was handed over; there is no automatic contact any more.";
        AccountHold = "account_hold", "A hold stops the whole account.";
        NoticePending = "notice_pending", "An earlier notice is still waiting or on its way.";
        PreviousStageIncomplete = "previous_stage_incomplete", "The last notice was refused, bounced or has an unknown outcome, and nobody has resolved it.";
        DeadlineRunning = "deadline_running", "The deadline that the last notice named is not over.";
        NothingOpen = "nothing_open", "No item is open.";
        NotOverdue = "not_overdue", "No open item is past its due date.";
        AllItemsOut = "all_items_out", "Every overdue item is out, each for its own reason.";
        AccountInCredit = "account_in_credit", "Credits and unallocated payments cover everything that is overdue and not out.";
        BelowMinimum = "below_minimum", "What is overdue is less than the least amount worth a letter.";
        InGrace = "in_grace", "Every overdue item is within its days of grace.";
        AccountMinArrears = "account_min_arrears", "The oldest item is not late enough for the account to be contacted.";
        BeforeFirstStage = "before_first_stage", "The first stage is not due yet.";
        TooSoon = "too_soon", "The next stage is not due yet.";
        LadderExhausted = "ladder_exhausted", "Every stage that applies is complete; a person decides what follows.";
        ApprovalLimit = "approval_limit", "More notices wait for approval than the policy allows.";
        ContactCap = "contact_cap", "The account or the mailbox was contacted too recently or too often.";
        SharedMailbox = "shared_mailbox", "The mailbox already gets a notice today, or too many accounts share it.";
        OutsideSendDays = "outside_send_days", "Nothing is sent on this day.";
        CalendarMissing = "calendar_missing", "No calendar covers this year for a country that matters.";
        NoAddress = "no_address", "The stage has no usable address or number to reach the debtor at.";
        NoPaymentAccount = "no_payment_account", "We have no bank account in the currency of what is due.";
        NoTemplate = "no_template", "The stage has no letter in the account's language, or it could not be made.";
        NotRecorded = "not_recorded", "What was concluded could not be written down, so nothing is done; the run's warnings say why.";
    }
}

codes! {
    /// What became of one item.
    ItemCode {
        Settled = "settled", "Nothing is open on it.";
        Withdrawn = "withdrawn", "It vanished from the ledger while open and came back changed or late.";
        BadData = "bad_data", "Its row breaks the contract; it is quarantined.";
        DataDueDateMissing = "data_due_date_missing", "It has no due date.";
        Assigned = "assigned", "It is payable to somebody else.";
        WrittenOff = "written_off", "It was written off.";
        Disputed = "disputed", "The debtor disputes it.";
        ItemHold = "item_hold", "A hold stops it.";
        DirectDebit = "direct_debit", "We collect it ourselves, or did so too recently to know that it failed.";
        PromiseRunning = "promise_running", "The debtor promised to pay it by a day that is not over.";
        InPlan = "in_plan", "It is part of an instalment plan.";
        Credit = "credit", "It is a credit; it reduces other items.";
        CalendarMissing = "calendar_missing", "No calendar says when it is due, or how long we wait for a direct debit.";
        NotOverdue = "not_overdue", "It is not past its due date, which some countries' laws move to a working day.";
        Covered = "covered", "Credits and unallocated payments cover it.";
        BelowMinimum = "below_minimum", "What is overdue in its currency is less than the least amount worth a letter.";
        InGrace = "in_grace", "It is within its days of grace.";
        BeforeFirstStage = "before_first_stage", "Its first stage is not due yet.";
        TooSoon = "too_soon", "Its next stage is not due yet.";
        LadderExhausted = "ladder_exhausted", "All its stages that apply are complete.";
        FormalTooSoon = "formal_too_soon", "A formal notice went to the account within the last weeks; this one waits or goes to a person.";
        NoPaymentAccount = "no_payment_account", "We have no bank account in its currency.";
        Reached = "reached", "Its next stage is due.";
        Demanded = "demanded", "The notice demands it.";
        Information = "information", "The notice lists it without demanding it.";
    }
}

impl ItemCode {
    /// Whether it takes the item out before anything is added up.
    #[must_use]
    pub fn is_out(self) -> bool {
        matches!(
            self,
            Self::Settled
                | Self::Withdrawn
                | Self::BadData
                | Self::DataDueDateMissing
                | Self::Assigned
                | Self::WrittenOff
                | Self::Disputed
                | Self::ItemHold
                | Self::DirectDebit
                | Self::PromiseRunning
                | Self::InPlan
        )
    }
}

impl ItemCode {
    /// What would bring the item back into play, in general; none when nothing stands in its way. A decision says it
    /// with the item's own values ([`Remedy`]).
    #[must_use]
    pub fn remedy(self) -> Option<&'static str> {
        Some(match self {
            Self::Settled | Self::Credit | Self::Reached | Self::Demanded | Self::Information => return None,
            Self::Withdrawn => {
                "`dunningd restore ACCOUNT --item ITEM` takes it up again, once somebody knows why it was gone."
            }
            Self::BadData => "Its row in the ledger is mended; `dunningd ledger check` names the fault.",
            Self::DataDueDateMissing => "The ledger gives it a due date.",
            Self::Assigned => "The ledger removes its payee, when it is ours again.",
            Self::WrittenOff => "The ledger takes the write-off back.",
            Self::Disputed => {
                "`dunningd dispute ACCOUNT --item ITEM --resolved` ends a dispute of ours, the ledger ends its own."
            }
            Self::ItemHold => {
                "The hold ends after its last day; `dunningd release ACCOUNT --item ITEM` lifts one of ours, the ledger \
                 lifts its own."
            }
            Self::DirectDebit => "The days in which a failed debit is booked are over, and it is still open.",
            Self::PromiseRunning => {
                "The promise runs out unpaid, or is taken back: `dunningd promise ACCOUNT --withdraw NUMBER`."
            }
            Self::InPlan => "The plan ends.",
            Self::CalendarMissing => "The calendar of that country and year is added under calendars/.",
            Self::NotOverdue => "It passes its due date.",
            Self::Covered => "The credits that cover it are used elsewhere.",
            Self::BelowMinimum => "More falls overdue in its currency, up to the minimum of the policy.",
            Self::InGrace => "Its days of grace are over.",
            Self::BeforeFirstStage | Self::TooSoon | Self::FormalTooSoon => "The day of its next stage comes.",
            Self::LadderExhausted => "A person decides what follows.",
            Self::NoPaymentAccount => "creditors.toml gets a bank account in its currency.",
        })
    }

    /// Whether it says by itself why nothing is demanded; else the account's reason does.
    fn has_own_reason(self) -> bool {
        self.is_out() || matches!(self, Self::NotOverdue | Self::Covered | Self::BelowMinimum | Self::NoPaymentAccount)
    }
}

impl ReasonCode {
    /// `wait` for a day, `hold` for a person, or `skip`: there is nothing to do.
    #[must_use]
    pub fn kind(self) -> DecisionKind {
        match self {
            Self::NotOverdue
            | Self::DeadlineRunning
            | Self::InGrace
            | Self::AccountMinArrears
            | Self::BeforeFirstStage
            | Self::TooSoon
            | Self::ContactCap
            | Self::OutsideSendDays
            | Self::NoticePending => DecisionKind::Wait,
            Self::Paused
            | Self::HandedOver
            | Self::AccountHold
            | Self::PreviousStageIncomplete
            | Self::ApprovalLimit
            | Self::SharedMailbox
            | Self::CalendarMissing
            | Self::NoAddress
            | Self::NoPaymentAccount
            | Self::NoTemplate
            | Self::NotRecorded => DecisionKind::Hold,
            Self::NothingOpen
            | Self::AllItemsOut
            | Self::AccountInCredit
            | Self::BelowMinimum
            | Self::LadderExhausted => DecisionKind::Skip,
        }
    }

    /// What would change the answer, in general; a decision says it with the account's own values ([`Remedy`]).
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Paused => "`dunningd resume` ends the pause.",
            Self::HandedOver => "`dunningd handover ACCOUNT --back` takes it back, when it is ours again.",
            Self::AccountHold => {
                "The hold ends after its last day; `dunningd release ACCOUNT` lifts one of ours, the ledger lifts its own."
            }
            Self::NoticePending => "The notice comes to its end.",
            Self::PreviousStageIncomplete => {
                "`dunningd outbox resolve NOTICE`, once it is known what became of the notice."
            }
            Self::DeadlineRunning => "The deadline passes, or what the notice demanded is paid.",
            Self::NothingOpen => "A new item is open.",
            Self::NotOverdue => "An open item passes its due date.",
            Self::AllItemsOut => "One of the items is no longer out; each says what that takes.",
            Self::AccountInCredit => "More falls overdue than the credits cover.",
            Self::BelowMinimum => "More falls overdue, up to the minimum of the policy.",
            Self::InGrace => "The days of grace are over.",
            Self::AccountMinArrears => "The oldest item is as late as the policy asks for.",
            Self::BeforeFirstStage | Self::TooSoon => "The day of the next stage comes.",
            Self::LadderExhausted => {
                "A person decides: `dunningd handover ACCOUNT --to WHOM`, or `dunningd ladder ACCOUNT --to NAME`."
            }
            Self::ApprovalLimit => "Somebody decides about the notices that wait for approval.",
            Self::ContactCap => "The last contacts are long enough ago.",
            Self::SharedMailbox => "The next day comes, or the accounts get mailboxes of their own in the ledger.",
            Self::OutsideSendDays => "The next sending day comes.",
            Self::CalendarMissing => "The calendar of that year is added.",
            Self::NoAddress => {
                "The ledger gets what the stage needs: a contact with one usable e-mail address that wants e-mail, a \
                 telephone number, or a postal address."
            }
            Self::NoPaymentAccount => "creditors.toml gets a bank account in that currency.",
            Self::NoTemplate => {
                "What stands in the way is mended, in the letter or in the ledger: the check `no_template` names it."
            }
            Self::NotRecorded => "What the run's warning names is mended; the next run decides anew.",
        }
    }

    /// The task that a person gets, when the reason needs one: one task as long as the reason lasts.
    #[must_use]
    pub fn task(self) -> Option<TaskKind> {
        match self {
            Self::PreviousStageIncomplete => Some(TaskKind::ResolveNotice),
            Self::SharedMailbox => Some(TaskKind::SharedMailbox),
            Self::CalendarMissing => Some(TaskKind::AddCalendar),
            Self::NoAddress => Some(TaskKind::FindAddress),
            Self::NoPaymentAccount => Some(TaskKind::AddBankAccount),
            Self::NoTemplate => Some(TaskKind::WriteTemplate),
            Self::NotRecorded => Some(TaskKind::NotRecorded),
            _ => None,
        }
    }
}

/// The four kinds of conclusion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionKind {
    Contact,
    Wait,
    Skip,
    Hold,
}

impl DecisionKind {
    /// The one text form.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Contact => "contact",
            Self::Wait => "wait",
            Self::Skip => "skip",
            Self::Hold => "hold",
        }
    }
}

codes! {
    /// Something for a person.
    TaskKind {
        FindAddress = "find_address", "Find out where the debtor can be reached.";
        AddBankAccount = "add_bank_account", "The creditor has no bank account in a currency.";
        WriteTemplate = "write_template", "A letter is missing or cannot be made.";
        AddCalendar = "add_calendar", "A calendar of a year is missing.";
        ResolveNotice = "resolve_notice", "Nobody knows, or has said, what became of a notice.";
        SharedMailbox = "shared_mailbox", "Too many accounts use one mailbox.";
        FixData = "fix_data", "A row of the ledger or a key of the policy has to be mended.";
        AfterLastStage = "after_last_stage", "Every stage is complete; somebody decides what follows.";
        NotRecorded = "not_recorded", "What was decided about the account could not be written down; find out why.";
        FormalTooSoon = "formal_too_soon", "More items reached the formal stage soon after a formal notice.";
        MakeCall = "make_call", "Call the debtor; `dunningd task show` has the script.";
        PostLetter = "post_letter", "Print and post the letter.";
        HandOver = "hand_over", "Hand the account over.";
        CheckLetter = "check_letter", "The relay keeps refusing what a letter says.";
        SendCopy = "send_copy", "Send a copy of the invoice.";
        CorrectInvoice = "correct_invoice", "Find out what is wrong with the invoice and correct it.";
        SettleDispute = "settle_dispute", "Settle the dispute before anything is demanded again.";
        ProposePlan = "propose_plan", "Agree on instalments or a later day.";
        FindPayment = "find_payment", "Look for the payment that the debtor says was made.";
        LookInto = "look_into", "Look into the account and decide how it goes on.";
        PromiseBroken = "promise_broken", "A promise was not kept; ask why.";
        PaymentAfterHandover = "payment_after_handover", "Money came in on an account that was handed over; tell whoever pursues it.";
    }
}

impl TaskKind {
    /// Whether it is opened once for its subject and never again, also after a person has closed it.
    #[must_use]
    pub fn is_opened_once(self) -> bool {
        matches!(self, Self::AfterLastStage | Self::PromiseBroken | Self::PaymentAfterHandover)
            || self.is_about_a_cause()
    }

    /// What the log calls it when it is opened.
    #[must_use]
    pub fn event(self) -> EventKind {
        match self {
            Self::PromiseBroken => EventKind::PromiseBroken,
            Self::PaymentAfterHandover => EventKind::PaymentAfterHandover,
            _ => EventKind::TaskOpened,
        }
    }

    /// Whether the policy may open it for a cause.
    #[must_use]
    pub fn is_about_a_cause(self) -> bool {
        matches!(
            self,
            Self::SendCopy
                | Self::CorrectInvoice
                | Self::SettleDispute
                | Self::ProposePlan
                | Self::FindPayment
                | Self::LookInto
        )
    }
}

/// A task that should exist, once, for as long as its cause lasts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskRequest {
    pub kind: TaskKind,
    /// What it is about within the account: an item, a notice, a currency, a mailbox key; empty for the account.
    pub subject: String,
    pub text: String,
}

/// One question that was asked on the way, with its inputs and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// The reason code it would give, or the name of a step.
    pub rule: Cow<'static, str>,
    pub passed: bool,
    /// What went in, readable: `oldest item 5 days late, policy asks for 6`.
    pub inputs: Cow<'static, str>,
    /// `policy.toml:12`.
    pub location: Option<Arc<str>>,
}

/// What would change the answer, with the values of this account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remedy {
    /// The reason code, of the account or of the item, that it would lift.
    pub code: String,
    /// The item that it is about; none for the account.
    pub item: Option<ItemId>,
    /// The day on which it comes about by itself, where one is known.
    pub on: Option<NaiveDate>,
    /// `6.00 EUR more overdue would reach the minimum of 10.00 EUR (policy.toml:75).`
    pub text: String,
}

/// An amount by which a credit reduces an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Netted {
    pub credit: ItemId,
    pub item: ItemId,
    pub amount: Decimal,
}

/// What became of one item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is true or not, independently of the others")]
pub struct ItemDecision {
    pub item: ItemId,
    pub code: ItemCode,
    pub is_credit: bool,
    pub disputed: bool,
    /// From the effective due date; negative before it; none without a due date.
    pub days_past_due: Option<i64>,
    /// Past the due date that its document names, whatever a country's law makes of it.
    #[serde(default)]
    pub past_contractual_due: bool,
    /// A plan that lives stands for it, whatever else takes it out.
    #[serde(skip)]
    pub in_plan: bool,
    pub open: Money,
    /// How much of it credits cover; zero or positive.
    pub credited: Decimal,
    pub next_stage: Option<StageName>,
    /// The day the next stage is due.
    pub due_on: Option<NaiveDate>,
    /// The day of the last accepted notice that named this very item.
    pub reminded_on: Option<NaiveDate>,
}

impl ItemDecision {
    /// Whether it counts as overdue debt: a debit, open, past the due date that its document names. The totals of a run
    /// agree with any count by due dates, also where a law gives the debtor more time. Of a plan its instalments count,
    /// not the items behind them.
    #[must_use]
    pub fn is_overdue_debit(&self) -> bool {
        !self.is_credit
            && self.code != ItemCode::InPlan
            && !self.in_plan
            && self.open.amount > Decimal::ZERO
            && self.past_contractual_due
    }

    /// Open less what credits cover.
    #[must_use]
    pub fn to_pay(&self) -> Money {
        Money::new(self.open.amount - self.credited, self.open.currency)
    }
}

/// What is to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contacting {
    pub stage: StageName,
    pub tone: Tone,
    pub template: String,
    /// The item whose stage decides the tone.
    pub anchor: ItemId,
    pub language: Language,
    /// What completes the stage: `email` is sent, anything else is a task for a person.
    #[serde(default)]
    pub channel: Channel,
    /// None for a letter to an account without contacts, and for a hand-over.
    pub contact: Option<ContactId>,
    /// Where the e-mail goes, or the e-mail copy of what a person does; none without either.
    pub recipient: Option<EmailAddress>,
    /// The number to call.
    #[serde(default)]
    pub phone: Option<String>,
    /// The last day on which a person can do it, after which it lapses.
    #[serde(default)]
    pub lapses_on: Option<NaiveDate>,
    /// The deadline that the letter names, already on a working day.
    pub respond_by: Option<NaiveDate>,
    /// Where each demanded item is paid to.
    pub requisites: Vec<(ItemId, Requisites)>,
    /// The next enabled stage after this one.
    pub next_tone: Option<Tone>,
    /// The account was written to in a firmer tone than this stage's before, in this case.
    pub escalated: bool,
    /// Message-IDs of accepted notices about the same items, oldest first.
    pub references: Vec<String>,
}

/// The conclusion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Contact(Box<Contacting>),
    No { code: ReasonCode, next_date: Option<NaiveDate> },
}

/// What becomes of a notice that was with a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TakenBack {
    /// What it demands is no longer to be demanded.
    Cancelled(CancelReason),
    /// Nobody did it in time: complete as of that day, without a contact.
    Lapsed(NaiveDate),
}

/// What happens to the account's case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaseChange {
    None,
    Open,
    Close,
}

/// What a run concluded for one account, with the whole reasoning as data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    pub account: AccountId,
    pub creditor: CreditorId,
    pub business_date: NaiveDate,
    pub verdict: Verdict,
    /// In the order of their ids.
    pub items: Vec<ItemDecision>,
    pub netted: Vec<Netted>,
    pub case: CaseChange,
    /// Notices that are a person's task no longer; the decision counts on that.
    #[serde(default)]
    pub taken_back: Vec<(NoticeId, TakenBack)>,
    pub tasks: Vec<TaskRequest>,
    pub checks: Vec<Check>,
    /// What would change the answer: the account's own reason first, then items. Empty for decisions of versions that
    /// did not say it.
    #[serde(default)]
    pub remedies: Vec<Remedy>,
}

impl Decision {
    /// `contact`, `wait`, `skip` or `hold`.
    #[must_use]
    pub fn kind(&self) -> DecisionKind {
        match &self.verdict {
            Verdict::Contact(_) => DecisionKind::Contact,
            Verdict::No { code, .. } => code.kind(),
        }
    }

    /// The reason code, or `contact`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match &self.verdict {
            Verdict::Contact(_) => "contact",
            Verdict::No { code, .. } => code.as_str(),
        }
    }

    /// Where an overdue item is counted.
    #[must_use]
    pub fn bucket(&self, item: &ItemDecision) -> Bucket {
        match (&self.verdict, item.code) {
            (Verdict::Contact(_), ItemCode::Demanded) => Bucket::Demanded,
            (Verdict::Contact(_), ItemCode::Information) => Bucket::Information,
            (Verdict::No { code, .. }, item) if !item.has_own_reason() => Bucket::Account(*code),
            (_, code) => Bucket::Out(code),
        }
    }

    /// Takes a contact back because its letter could not be made: nothing is sent, and a person gets a task.
    pub fn withdraw(&mut self, code: ReasonCode, problem: &str) {
        self.verdict = Verdict::No { code, next_date: None };
        let (name, text) = (code.as_str().to_owned(), code.remedy().to_owned());
        self.remedies.insert(0, Remedy { code: name, item: None, on: None, text });
        for item in &mut self.items {
            if item.code == ItemCode::Demanded {
                item.code = ItemCode::Reached;
            }
        }
        if let Some(kind) = code.task() {
            self.tasks.push(TaskRequest { kind, subject: String::new(), text: problem.to_owned() });
        }
        self.checks.push(Check {
            rule: code.as_str().into(),
            passed: false,
            inputs: problem.to_owned().into(),
            location: None,
        });
    }

    /// What makes this decision differ from the account's previous one: outcome, code, stage, date and items, but not
    /// the days late, nor items that are not overdue, of which the next date says enough. Also the leaf of the run's
    /// digest.
    #[must_use]
    pub fn identity(&self) -> String {
        let mut identity = format!("{}|{}|{}|", self.account, self.kind().as_str(), self.code());
        // Writing to a text cannot fail.
        let _ = match &self.verdict {
            Verdict::Contact(c) => {
                let to = c.recipient.as_ref().map_or(c.channel.as_str(), EmailAddress::as_str);
                write!(identity, "{} {} {to} {}", c.stage, c.language, c.anchor)
            }
            Verdict::No { next_date: Some(day), .. } => write!(identity, "{day}"),
            Verdict::No { next_date: None, .. } => Ok(()),
        };
        let mut between = '|';
        for item in self.items.iter().filter(|item| item.code != ItemCode::NotOverdue) {
            let _ = write!(identity, "{between}{}={}:{}", item.item, item.code.as_str(), item.to_pay());
            between = ',';
        }
        if between == '|' {
            identity.push(between);
        }
        identity
    }

    /// SHA-256 of [`Self::identity`].
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.identity()).into()
    }
}
