//! Why a run did not begin, and why a notice that was queued did not go out.

use serde::{Deserialize, Serialize};

use super::codes::codes;

/// How many of so many open items may be gone, or open again, at once: 2 %, and never so few that a normal day is refused
/// (design of the ledger contract).
#[must_use]
pub fn changes_at_once(open_before: i64) -> i64 {
    20.max(open_before / 50)
}

codes! {
    /// Why a whole run was refused. Nothing was decided and nothing marked.
    RefusalCode {
        CalendarMissing = "calendar_missing", "No calendar says which was the previous working day of the creditor's bank.";
        StaleLedger = "stale_ledger", "It is not known which payments came in up to the creditor's previous working day.";
        BeforeLastRun = "before_last_run", "The business date lies before the last completed run.";
        LedgerShrunk = "ledger_shrunk", "Too many open items are gone at once.";
        LedgerReopened = "ledger_reopened", "Too many settled items are open again at once.";
        NotAdopted = "not_adopted", "Nobody said that this database, on this machine, may send.";
        NoRecipients = "no_recipients", "Outside production nobody may be written to as long as neither `allow_domains` nor `redirect_to` says who.";
    }
}

codes! {
    /// Why a recorded notice was not sent after all: the first that applies.
    CancelReason {
        Shadow = "shadow", "The mode is shadow: everything is decided, nothing is sent.";
        Ramped = "ramped", "One of the first runs sends only so many; this one is decided again the next day.";
        Dropped = "dropped", "A person dropped it before it went out.";
        ApprovalVoid = "approval_void", "Something grew or changed after a person approved it, so it is decided again.";
        DoneBefore = "done_before", "What it replaced, or was made beside, had been posted or handed over, which was said later.";
        Renewed = "renewed", "It demands less than what was approved: a new letter with the smaller amount took its place.";
        RecipientNotAllowed = "recipient_not_allowed", "This installation may not write to its recipient: see `allow_domains` and `redirect_to`.";
        CreditorRemoved = "creditor_removed", "Its creditor is no longer in creditors.toml.";
        RunFailed = "run_failed", "Its run broke off before its notices were released.";
        Paused = "paused", "Everything was paused.";
        Expired = "expired", "The last day on which its text is true is over, or the last hours in which it may be sent.";
        StaleLedger = "stale_ledger", "It is no longer known which payments came in.";
        WithdrawnBeforeSend = "withdrawn_before_send", "Something it demands is gone from the ledger, which is not the same as paid.";
        PaidBeforeSend = "paid_before_send", "Something it demands was paid, in full or in part.";
        HandedOverBeforeSend = "handed_over_before_send", "The account was handed over.";
        HeldBeforeSend = "held_before_send", "A hold was placed on the account or on an item it demands.";
        DisputedBeforeSend = "disputed_before_send", "An item it demands was disputed.";
        PromisedBeforeSend = "promised_before_send", "The debtor promised to pay something it demands.";
        WrittenOffBeforeSend = "written_off_before_send", "An item it demands was written off.";
        PlannedBeforeSend = "planned_before_send", "An instalment plan over something it demands was agreed, changed or ended.";
        CauseBeforeSend = "cause_before_send", "A cause was recorded for the account or for something it demands, or cleared.";
        ContactBeforeSend = "contact_before_send", "A contact of the account was changed or no longer wants e-mail, or the debtor was called.";
        WaivedBeforeSend = "waived_before_send", "A stage that it stands for was waived for one of its items.";
        ResolvedNotSent = "resolved_not_sent", "A person decided that it had not gone out.";
        LedgerChanged = "ledger_changed", "Something else about the account, its credits or the items changed.";
    }
}
