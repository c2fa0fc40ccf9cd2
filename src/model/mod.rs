//! The vocabulary: pure values that every part of the flow speaks in. Nothing here does IO, reads a clock or logs.

mod account;
mod breaker;
mod calendar;
mod checkpoint;
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
mod merkle;
mod money;
mod notice;
mod plan;
mod policy;
mod printable;
mod promise;
mod register;
mod release;
mod run;
mod snapshot;
mod timeouts;
mod words;

pub use account::{Account, Contact, ContactRole, EmailKind, Entered, PartyKind};
pub use breaker::{Breaker, BreakerKind, BreakerRule, Permit, backoff};
pub use calendar::{
    Calendar, CalendarMissing, Calendars, DayKind, DueDateRule, FIRST_DAY, LAST_DAY, QuietPeriod, Weekdays, days_after,
    parse_day,
};
pub use checkpoint::{Checkpoint, CheckpointKey, VerifierKey};
pub use conduct::{
    ContactLaw, Hours, PROTOCOL_DAYS_TO_POST, PROTOCOL_DAYS_TO_REPLY, how_to_post, is_protocol_claim, zone_of,
};
pub use creditor::{BankAccount, Creditor, Requisites};
pub use decision::{
    CaseChange, Check, Contacting, Decision, DecisionKind, ItemCode, ItemDecision, Netted, ReasonCode, Remedy,
    TakenBack, TaskKind, TaskRequest, Verdict,
};
pub use event::{Actor, Event, EventKind, GENESIS, Users, canonical, chain_hash, leaf_hash};
pub use guard::{CancelReason, RefusalCode, changes_at_once};
pub use ids::{
    AccountId, ContactId, Country, CreditorId, EmailAddress, ItemId, LadderName, Language, NoticeId, ParseError, RunId,
    StageName,
};
pub use item::{Dispute, Instalment, Item, ItemKind};
pub use letter::{AppliedCredit, Demand, InformationRow, Letter, LetterRow, Payee};
pub use mail::{Attachment, DisplayName, Mail, Mailbox, Rendered, misleads, without_encoded_words};
pub use merkle::{Edge, Hash, Prover, extends, includes, node_hash};
pub use money::{Amounts, Currency, Money};
pub use notice::{EnhancedStatus, Fault, NoticeState, Outcome, Phase, Reply};
pub use plan::{
    DueEarly, Every, OnMissed, PLAN_ITEM_PREFIX, PLAN_STAGE, PartOfPlan, Plan, PlanInstalment, PlanStanding, PlanState,
    equal_parts, is_plan_stage, open_after_credit_notes,
};
pub use policy::{
    CauseHold, CauseRule, Channel, ContactCap, CreditNetting, Demands, Ladder, Minimums, OnUnknown, Policy, Retention,
    Stage, StageCondition, TemplateCatalog, Tone,
};
pub use printable::{as_argument, is_unseen, printable};
pub use promise::{Promise, PromiseState, PromisedItem, Standing};
pub use register::{
    CallOutcome, Cause, ContactEntry, Handover, HandoverItem, Hold, HoldTarget, RecordedCause, WriteOff,
};
pub use release::{
    ApprovalCause, ApprovalPolicy, BrakeCode, BrakePolicy, Braked, ChangedAccount, LastRamp, Mode, Release,
    ReleaseState, Released, RunFigures,
};
pub use run::{Bucket, OverdueTotals, RunTotals};
pub use snapshot::{Approvals, Case, Freshness, History, MailboxUse, NotDue, PastNotice, Snapshot, Waiver};
pub use timeouts::Timeouts;
pub use words::{Called, NoteWords, Reason, counted};
