//! The vocabulary: pure values that every part of the flow speaks in. Nothing here does IO, reads a clock or logs.

mod account;
mod calendar;
mod codes;
mod conduct;
mod creditor;
mod decision;
mod event;
mod guard;
mod ids;
mod item;
mod letter;
mod mail;
mod money;
mod notice;
mod plan;
mod policy;
mod promise;
mod register;
mod run;
mod snapshot;

pub use account::{Account, Contact, ContactRole, EmailKind, PartyKind};
pub use calendar::{Calendar, CalendarMissing, Calendars, DayKind, DueDateRule, QuietPeriod, Weekdays};
pub use conduct::{ContactLaw, Hours, zone_of};
pub use creditor::{BankAccount, Creditor, Requisites};
pub use decision::{
    CaseChange, Check, Contacting, Decision, DecisionKind, ItemCode, ItemDecision, Netted, ReasonCode, TaskKind,
    TaskRequest, Verdict,
};
pub use event::{Actor, Event, EventKind, GENESIS, canonical, chain_hash, leaf_hash};
pub use guard::{CancelReason, RefusalCode};
pub use ids::{
    AccountId, ContactId, Country, CreditorId, EmailAddress, ItemId, LadderName, Language, NoticeId, ParseError, RunId,
    StageName,
};
pub use item::{Dispute, Instalment, Item, ItemKind};
pub use letter::{Demand, InformationRow, Letter, LetterRow, Payee};
pub use mail::{Attachment, Mail, Mailbox, Rendered};
pub use money::{Amounts, Currency, Money};
pub use notice::{NoticeState, Outcome, Phase, Reply};
pub use plan::{
    Every, OnMissed, PLAN_ITEM_PREFIX, PLAN_STAGE, PartOfPlan, Plan, PlanInstalment, PlanStanding, PlanState,
    equal_parts, is_plan_stage, open_after_credit_notes,
};
pub use policy::{
    CauseHold, CauseRule, Channel, ContactCap, CreditNetting, Demands, Ladder, Minimums, OnUnknown, Policy, Stage,
    StageCondition, TemplateCatalog, Tone,
};
pub use promise::{Promise, PromiseState, PromisedItem, Standing};
pub use register::{
    CallOutcome, Cause, ContactEntry, Handover, HandoverItem, Hold, HoldTarget, RecordedCause, WriteOff,
};
pub use run::{Bucket, OverdueTotals, RunTotals};
pub use snapshot::{Case, Freshness, History, MailboxUse, PastNotice, Snapshot, Waiver};
