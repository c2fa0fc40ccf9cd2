//! The brakes: what of a run may go out by itself, and which notices a person has to see first.

use chrono::{Datelike as _, NaiveDate};

use crate::model::{
    Account, ApprovalCause, BrakeCode, BrakePolicy, Braked, Decision, ItemCode, ItemDecision, PartyKind, Policy,
    Release, RunFigures, Snapshot, Verdict,
};

use super::ladder_of;

/// What may go out after the last account of a live run. A brake holds everything; only the first runs against a ledger
/// with a history send a part, and then twice as many each time, until everything that is due goes out at once.
#[must_use]
pub fn brake(figures: &RunFigures, policy: &BrakePolicy) -> Release {
    let notices = figures.notices;
    let mut braked = Vec::new();
    for changed in &figures.changed_accounts {
        let why = format!(
            "{} of the letters in {} name the bank account {} instead of {} (account {} is one); look at \
             creditors.toml and the ledger, and ask whoever changed it, by a way you knew before",
            changed.notices, changed.currency, changed.new, changed.old, changed.example
        );
        braked.push(Braked { brake: BrakeCode::BankAccount, why });
    }
    let base = match figures.last_ramp {
        Some(last) if last.sent_today.is_some() || !figures.accepted_before => Some(last.limit),
        Some(last) => Some(last.limit.saturating_mul(2)),
        None if figures.accepted_before => None,
        None => Some(policy.first_run_notices),
    };
    let sent = figures.last_ramp.and_then(|last| last.sent_today).unwrap_or_default();
    let ramp = base.map(|base| (base, base.saturating_sub(sent).min(policy.notices_per_run)));
    if let Some((base, limit)) = ramp.filter(|(_, limit)| notices > *limit) {
        if !braked.is_empty() {
            return Release::Hold(braked);
        }
        let why = format!(
            "{notices} notices are due in a ledger that was never written about as a whole: the {limit} oldest cases go \
             out, the others are decided again the next working day, when {} may",
            base.saturating_mul(2)
        );
        return Release::Ramp { limit, base, braked: Braked { brake: BrakeCode::FirstRuns, why } };
    }
    if notices > policy.notices_per_run {
        let why = format!(
            "{notices} notices, and a run may send {} (policy.toml, brake.notices_per_run)",
            policy.notices_per_run
        );
        braked.push(Braked { brake: BrakeCode::NoticesPerRun, why });
    }
    if let Some((forecast, limit)) = figures.forecast.map(|forecast| (forecast, expected_at_most(forecast, policy)))
        && notices > limit
    {
        let why = format!(
            "{notices} notices, and the last run expected {forecast}, so at most {limit} ({} % and {} more)",
            policy.forecast_percent, policy.forecast_margin
        );
        braked.push(Braked { brake: BrakeCode::Forecast, why });
    }
    if braked.is_empty() { Release::All } else { Release::Hold(braked) }
}

fn expected_at_most(forecast: u64, policy: &BrakePolicy) -> u64 {
    (forecast.saturating_mul(policy.forecast_percent) / 100).saturating_add(policy.forecast_margin)
}

/// Whether the next working day may bring this account a notice, as far as today knows: the day its decision names has
/// come by then, or it was to be written to today and is again when that does not go out. An estimate from above: most
/// of what goes out today is not due tomorrow.
#[must_use]
pub fn expected_by(decision: &Decision, next_working_day: NaiveDate) -> bool {
    match &decision.verdict {
        Verdict::Contact(_) => true,
        Verdict::No { next_date, .. } => next_date.is_some_and(|day| day <= next_working_day),
    }
}

/// Why a person has to see the notice of this decision before it goes out, whatever the mode.
#[must_use]
pub fn needs_approval(policy: &Policy, snapshot: &Snapshot, decision: &Decision) -> Option<ApprovalCause> {
    let Verdict::Contact(contacting) = &decision.verdict else { return None };
    let ladder = ladder_of(policy, snapshot);
    if ladder.stages.iter().any(|stage| stage.name == contacting.stage && stage.approval) {
        return Some(ApprovalCause::Stage);
    }
    let due_date = |item: &ItemDecision| snapshot.items.iter().find(|one| one.id == item.item)?.due_date;
    let demanded = decision.items.iter().filter(|item| item.code == ItemCode::Demanded).map(|item| Claimed {
        due_date: due_date(item),
        is_reminded: item.reminded_on.is_some(),
        days_late: item.days_past_due,
    });
    cause_to_look(policy, &snapshot.account, demanded, decision.business_date)
}

/// What a notice demands, as far as it decides whether a person has to see it.
pub(super) struct Claimed {
    pub(super) due_date: Option<NaiveDate>,
    pub(super) is_reminded: bool,
    pub(super) days_late: Option<i64>,
}

/// Why a person has to see a notice that demands this, whatever its stage.
pub(super) fn cause_to_look(
    policy: &Policy,
    account: &Account,
    demanded: impl Iterator<Item = Claimed>,
    today: NaiveDate,
) -> Option<ApprovalCause> {
    let late = i64::from(policy.brake.never_reminded_days);
    let mut never_reminded = false;
    for one in demanded {
        if time_barred(policy, account, one.due_date, today) {
            return Some(ApprovalCause::TimeBarred);
        }
        never_reminded |= !one.is_reminded && one.days_late.is_some_and(|days| days > late);
    }
    never_reminded.then_some(ApprovalCause::NeverReminded)
}

/// A consumer's debt whose due date lies the years of limitation of his country back. Only a lawyer knows whether it is
/// barred (the period may begin later, and end later when it was interrupted); a person has to look.
fn time_barred(policy: &Policy, account: &Account, due_date: Option<NaiveDate>, today: NaiveDate) -> bool {
    if !matches!(account.party_kind, PartyKind::Consumer | PartyKind::Unknown) {
        return false;
    }
    let years = policy.country_of(account).and_then(|country| policy.brake.limitation_years.get(&country));
    let (Some(years), Some(due)) = (years, due_date) else { return false };
    let end = i32::try_from(*years).ok().and_then(|years| {
        let year = due.year() + years;
        // 29 February ends with the month.
        due.with_year(year).or_else(|| NaiveDate::from_ymd_opt(year, due.month(), 28))
    });
    end.is_some_and(|end| today > end)
}
