//! What would change the answer, with the values of this account. Said for the reason that decided, and for every
//! overdue item that has a reason of its own.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use rust_decimal::Decimal;

use crate::model::{
    CalendarMissing, Channel, Contact, ContactCap, ContactLaw, Currency, EmailAddress, Entered, Hold, HoldTarget,
    ItemCode, ItemId, Money, NoticeState, OnUnknown, Plan, ReasonCode, RecordedCause, Remedy, Stage, Tone, Verdict,
    as_argument, counted, days_after,
};

use super::gates::{self, Comes, Question};
use super::items::{self, Assessed};
use super::{ladder, notice, recipient, register};

/// A way out: the day on which it comes about by itself, where one is known, and the sentence.
type Way = (Option<NaiveDate>, String);

/// Every way to another answer; the account's own reason first, then items in the order of their ids.
pub(super) fn remedies(
    q: &Question<'_>,
    assessed: &[Assessed<'_>],
    verdict: &Verdict,
    missing: Option<&CalendarMissing>,
) -> Vec<Remedy> {
    let (code, next_date) = match verdict {
        Verdict::Contact(_) => (None, None),
        Verdict::No { code, next_date } => (Some(*code), *next_date),
    };
    let mut remedies = Vec::new();
    if let Some(code) = code {
        let ways = match (code, missing) {
            (ReasonCode::CalendarMissing, Some(missing)) => vec![(None, add_calendar(missing))],
            _ => of_account(q, assessed, code, next_date),
        };
        let remedy = |(on, text)| Remedy { code: code.as_str().to_owned(), item: None, on, text };
        remedies.extend(ways.into_iter().map(remedy));
        // Items that are out speak for themselves below.
        if remedies.is_empty() && code != ReasonCode::AllItemsOut {
            remedies.push(remedy((next_date, code.remedy().to_owned())));
        }
    }
    // What stops an account whatever it owes comes first: its items do not matter until that is over.
    if code.is_some_and(|code| code <= ReasonCode::DeadlineRunning) {
        return remedies;
    }
    let told_above = code.map_or("", ReasonCode::as_str);
    for one in assessed.iter().filter(|one| one.is_debit() && (one.is_overdue() || one.days.is_none())) {
        // What stops an instalment is said of the item behind it.
        let alive = || q.plans.iter().filter(|(_, standing)| standing.state.is_alive());
        let gone = || alive().any(|(plan, _)| of_plan(one, plan) && register::vanished(plan).is_some());
        let stopped_behind = one.code.is_out() && one.item.part_of_plan.is_some() && !gone();
        if one.code.as_str() == told_above || stopped_behind {
            continue;
        }
        let id = &one.item.id;
        let stops: Vec<_> = one.stops.iter().map(|stop| (stop.code, stop.over_on)).collect();
        let reasons = if stops.is_empty() { vec![(one.code, one.released_on)] } else { stops };
        for (code, over_on) in reasons {
            let remedy = |(on, text): Way| {
                let code = code.as_str().to_owned();
                Remedy { code, item: Some(id.clone()), on, text: format!("Item {id}: {text}") }
            };
            remedies.extend(of_item(q, assessed, one, code, over_on).into_iter().map(remedy));
        }
    }
    remedies
}

/// Whether it is an instalment of that plan.
fn of_plan(one: &Assessed<'_>, plan: &Plan) -> bool {
    one.item.part_of_plan.as_ref().is_some_and(|part| part.plan == plan.number)
}

fn of_account(q: &Question<'_>, assessed: &[Assessed<'_>], code: ReasonCode, next_date: Option<NaiveDate>) -> Vec<Way> {
    let account = &q.snapshot.account;
    match code {
        ReasonCode::Paused => vec![(None, "`dunningd resume --reason …` ends the pause for everybody.".to_owned())],
        ReasonCode::HandedOver => {
            let id = as_argument(account.id.as_str());
            vec![(None, format!("`dunningd handover {id} --back --reason …`, once it is ours again."))]
        }
        ReasonCode::AccountHold => {
            let on_account = |hold: &Hold| matches!(&hold.target, HoldTarget::Account(id) if *id == account.id);
            let by_ledger = (account.hold_until, account.hold_reason.as_deref());
            let release = format!("dunningd release {}", as_argument(account.id.as_str()));
            of_hold(q, on_account, by_ledger, next_date, &release, "account")
        }
        ReasonCode::NoticePending => pending(q),
        ReasonCode::PreviousStageIncomplete => unresolved(q, assessed),
        ReasonCode::DeadlineRunning => deadline(q, assessed, next_date),
        // What is out has a sentence of its own below.
        ReasonCode::NotOverdue | ReasonCode::AllItemsOut => coming(q, assessed).into_iter().collect(),
        ReasonCode::AccountInCredit => coming(q, assessed).into_iter().chain(in_credit(q, assessed)).collect(),
        ReasonCode::BelowMinimum => {
            let remainder = items::overdue_remainder(assessed);
            let more = remainder.iter().filter_map(|money| below_minimum(q, money)).map(|text| (None, text));
            coming(q, assessed).into_iter().chain(more).collect()
        }
        ReasonCode::InGrace => {
            let waiting = assessed.iter().filter(|one| one.code == ItemCode::InGrace);
            let first = waiting.filter_map(|one| Some((items::end_of_grace(q.policy, one)?, &one.item.id))).min();
            let days = counted(i64::from(q.policy.item_grace_days), "day");
            let at = at(q, "item_grace_days");
            let text = |(day, id)| {
                (Some(day), format!("Item {id} is past its {days} of grace{at} on {}.", day_of_letter(q, day)))
            };
            first.map(text).into_iter().collect()
        }
        ReasonCode::AccountMinArrears => {
            let oldest = assessed.iter().filter(|one| one.keeps_case_open()).max_by_key(|one| (one.days, &one.item.id));
            let wanted = q.policy.account_min_arrears_days;
            let day = oldest.and_then(|one| Some((&one.item.id, days_after(one.effective_due?, wanted))));
            let at = at(q, "account_min_arrears_days");
            let text = |(id, day)| {
                (
                    Some(day),
                    format!("Item {id} is {wanted} days late, as the policy asks{at}, on {}.", day_of_letter(q, day)),
                )
            };
            day.map(text).into_iter().collect()
        }
        ReasonCode::BeforeFirstStage | ReasonCode::TooSoon => {
            let older = older_ladder(q);
            let due = assessed.iter().filter(|one| one.is_active() || one.code == ItemCode::InGrace);
            let first =
                due.filter_map(|one| Some((one.due_on?, &one.item.id, one))).min_by_key(|(day, id, _)| (*day, *id));
            let told = |(_, id, one)| stage_due(q, one).map(|(on, text)| (on, format!("Item {id} {text}")));
            let first = first.and_then(told);
            let sooner = coming(q, assessed).filter(|(on, _)| first.as_ref().is_none_or(|(day, _)| on < day));
            sooner.into_iter().chain(first).chain(older).collect()
        }
        ReasonCode::LadderExhausted => {
            coming(q, assessed).into_iter().chain(exhausted(q)).chain(older_ladder(q)).collect()
        }
        ReasonCode::ContactCap => contact_cap(q, notice::stage(q, assessed)).into_iter().collect(),
        ReasonCode::SharedMailbox => next_date
            .map(|day| {
                let capped = day > days_after(q.today, 1_u32);
                let counts =
                    if capped { format!(", which counts for the cap{}", at(q, "contact_cap")) } else { String::new() };
                (Some(day), format!("On {}: the mailbox already has its notice of today{counts}.", weekday(day)))
            })
            .into_iter()
            .collect(),
        ReasonCode::OutsideSendDays => next_date
            .map(|day| {
                let tone = notice::stage(q, assessed).tone;
                let (_, key) = gates::why_no_sending_day(q, tone);
                (Some(day), format!("On {}, the next sending day{}.", weekday(day), at(q, key)))
            })
            .into_iter()
            .collect(),
        ReasonCode::NoAddress => no_address(q, assessed).into_iter().map(|text| (None, text)).collect(),
        ReasonCode::NoPaymentAccount => no_payment_account(q, assessed),
        ReasonCode::NoTemplate => no_template(q, assessed).map(|text| (None, text)).into_iter().collect(),
        ReasonCode::NothingOpen | ReasonCode::CalendarMissing | ReasonCode::ApprovalLimit | ReasonCode::NotRecorded => {
            Vec::new()
        }
    }
}

/// What ends that reason of an item; `over_on` is the day on which it ends by itself.
fn of_item(
    q: &Question<'_>,
    assessed: &[Assessed<'_>],
    one: &Assessed<'_>,
    code: ItemCode,
    over_on: Option<NaiveDate>,
) -> Vec<Way> {
    let item = one.item;
    let (account, id) = (as_argument(q.snapshot.account.id.as_str()), as_argument(item.id.as_str()));
    let general = || code.remedy().map(|text| (None, lower(text))).into_iter().collect();
    match code {
        ItemCode::WrittenOff if item.written_off_on.is_some_and(|day| day <= q.today) => {
            vec![(None, "the ledger takes the write-off back (`ledger.item.written_off_on`).".to_owned())]
        }
        ItemCode::WrittenOff => {
            vec![(None, format!("`dunningd write-off {account} --item {id} --undo --reason …` takes it back."))]
        }
        ItemCode::Disputed => match (&item.dispute, items::dispute(q.snapshot, item)) {
            (Some(by_ledger), _) => {
                let column = if by_ledger.since.is_some() { "disputed_since" } else { "dispute_reason" };
                vec![(None, format!("the ledger ends the dispute (`ledger.item.{column}`)."))]
            }
            (None, Some((_, dispute))) => match told_by(q, dispute) {
                Some(cause) => vec![(None, format!("{}, once it is settled.", clear(q, cause)))],
                None => vec![(
                    None,
                    format!("`dunningd dispute {account} --item {id} --resolved --reason …`, once it is settled."),
                )],
            },
            (None, None) => general(),
        },
        ItemCode::ItemHold => {
            let on_item =
                |hold: &Hold| matches!(&hold.target, HoldTarget::Item(id) if *id == item.id) && hold.cause.is_none();
            let by_ledger = (item.hold_until, item.hold_reason.as_deref());
            let release = format!("dunningd release {account} --item {id}");
            let ways = of_hold(q, on_item, by_ledger, over_on, &release, "item");
            ways.into_iter().map(|(on, text)| (on, lower(&text))).collect()
        }
        ItemCode::InPlan => {
            let plans = q.plans.iter().filter(|(plan, standing)| {
                standing.state.is_alive() && plan.items.iter().any(|planned| planned.item == item.id)
            });
            let way = |number| format!("`dunningd plan {account} --end {number} --reason …` ends the plan it is in.");
            plans.map(|(plan, _)| (None, way(plan.number))).collect()
        }
        ItemCode::DirectDebit => over_on
            .map(|day| {
                let days = counted(i64::from(q.policy.direct_debit_wait_days), "working day");
                let at = at(q, "direct_debit_wait_days");
                (
                    Some(day),
                    format!("on {}, {days} after the direct debit{at}, if it is still open.", day_of_letter(q, day)),
                )
            })
            .into_iter()
            .collect(),
        ItemCode::PromiseRunning => over_on
            .map(|day| {
                let numbers = q.promises.iter().filter(|(promise, standing)| {
                    standing.state == crate::model::PromiseState::Running
                        && promise.items.iter().any(|promised| promised.item == item.id)
                });
                let number = numbers.map(|(promise, _)| promise.number).max().unwrap_or_default();
                let withdraw = format!("`dunningd promise {account} --withdraw {number} --reason …` takes it back");
                (Some(day), format!("on {}, if the promise was not kept by then; {withdraw}.", day_of_letter(q, day)))
            })
            .into_iter()
            .collect(),
        ItemCode::BadData => {
            let ladder = items::unknown_ladder(q.policy, q.snapshot).filter(|_| item.bad_data.is_none());
            let way = ladder.map_or_else(
                || bad_data(item.bad_data.as_deref(), item.currency),
                |named| format!("`ledger.account.ladder` is corrected, or the policy gets that ladder: {named}."),
            );
            vec![(None, way)]
        }
        ItemCode::BelowMinimum => {
            let have = items::overdue_remainder(assessed).get(item.currency);
            below_minimum(q, Money::new(have, item.currency)).map(|text| (None, text)).into_iter().collect()
        }
        ItemCode::FormalTooSoon => stage_due(q, one).map(|(on, text)| (on, format!("it {text}"))).into_iter().collect(),
        ItemCode::NoPaymentAccount => {
            vec![(None, lower(&bank_account(q, &item.currency.to_string())))]
        }
        ItemCode::Withdrawn if item.part_of_plan.is_some() => {
            let number = item.part_of_plan.as_ref().map_or(0, |part| part.plan);
            let end = format!("`dunningd plan {account} --end {number} --reason …` ends it");
            vec![(None, format!("its plan is agreed anew without what is gone; {end}."))]
        }
        code if code.is_out() && code != ItemCode::Settled => general(),
        _ => Vec::new(),
    }
}

/// A hold of a person is released by a command, the hold of a cause with the cause, and one of the ledger there; each
/// ends by itself after its last day.
fn of_hold(
    q: &Question<'_>,
    is_on_target: impl Fn(&Hold) -> bool,
    by_ledger: (Option<NaiveDate>, Option<&str>),
    ends: Option<NaiveDate>,
    release: &str,
    table: &str,
) -> Vec<Way> {
    let mut ways: Vec<Way> =
        ends.map(|day| (Some(day), format!("The hold is over on {}.", day_of_letter(q, day)))).into_iter().collect();
    let ours: Vec<&Hold> = q.snapshot.holds.iter().filter(|hold| is_on_target(hold) && hold.covers(q.today)).collect();
    if ours.iter().any(|hold| hold.handed_over.is_none() && told_by(q, hold).is_none()) {
        ways.push((None, format!("`{release} --reason …` lifts what people placed.")));
    }
    for account in ours.iter().filter_map(|hold| hold.handed_over.as_ref()) {
        let back = format!("dunningd handover {} --back --reason …", as_argument(account.as_str()));
        ways.push((None, format!("`{back}`, once that account is ours again.")));
    }
    for cause in ours.iter().filter_map(|hold| told_by(q, hold)) {
        ways.push((None, format!("{}, once that is settled.", clear(q, cause))));
        if let Err(missing) = register::last_day(q.policy, q.snapshot, cause) {
            ways.push((None, add_calendar(&missing)));
        }
    }
    if by_ledger.0.map_or(by_ledger.1.is_some(), |last| q.today <= last) {
        ways.push((None, format!("The ledger lifts its own hold (`ledger.{table}.hold_until` and `hold_reason`).")));
    }
    ways
}

fn told_by<'a>(q: &Question<'a>, hold: &Hold) -> Option<&'a RecordedCause> {
    register::told_by(q.policy, q.snapshot, hold, q.today)
}

fn clear(q: &Question<'_>, cause: &RecordedCause) -> String {
    let item = cause.item.as_ref().map_or(String::new(), |item| format!(" --item {}", as_argument(item.as_str())));
    let (account, name) = (as_argument(q.snapshot.account.id.as_str()), cause.cause.as_str());
    format!("`dunningd cause {account}{item} --cause {name} --clear --reason …`")
}

fn add_calendar(missing: &CalendarMissing) -> String {
    let CalendarMissing { country, year, calendar } = missing;
    match calendar {
        Some(name) => format!("The calendar of {country} gets the days of {year} (`calendars/{name}.csv`)."),
        None => format!("{country} gets a calendar that covers {year} (`[calendars]` in policy.toml)."),
    }
}

fn pending(q: &Question<'_>) -> Vec<Way> {
    let pending = q.snapshot.history.notices.iter().filter(|notice| notice.state.is_pending());
    let text = |notice: &crate::model::PastNotice| {
        let (id, stage, account) = (notice.id, &notice.stage, as_argument(q.snapshot.account.id.as_str()));
        match notice.state {
            NoticeState::AwaitingApproval => {
                let what = format!("Somebody decides about the {stage} notice, which waits for approval");
                vec![(None, format!("{what}; `dunningd outbox show {id}`."))]
            }
            NoticeState::WithPerson => {
                let what = match notice.channel {
                    Channel::Call => "makes the call",
                    Channel::Letter => "posts the letter",
                    Channel::Email | Channel::Handover => "does it",
                };
                let lapse = notice.lapses_on.map(|last| {
                    let day = days_after(last, 1_u32);
                    (Some(day), format!("On {}, when the task of the {stage} stage has lapsed.", weekday(day)))
                });
                let done = format!(
                    "Somebody {what} and says so, `dunningd task done TASK`, or that nobody will, `dunningd task drop \
                     TASK --reason …`; `dunningd task list --account {account}` names the task."
                );
                lapse.into_iter().chain([(None, done)]).collect()
            }
            _ => {
                vec![(
                    None,
                    format!("The {stage} notice that is on its way comes to its end; `dunningd outbox show {id}`."),
                )]
            }
        }
    };
    pending.min_by_key(|notice| notice.id).map(text).unwrap_or_default()
}

fn unresolved(q: &Question<'_>, assessed: &[Assessed<'_>]) -> Vec<Way> {
    let text = |notice: &crate::model::PastNotice| {
        let resolve = format!("`dunningd outbox resolve {}", notice.id);
        let stage = q.ladder.stages.iter().find(|stage| stage.name == notice.stage);
        // What may have reached the debtor counts for the caps, whatever became of it.
        let capped = stage.filter(|stage| stage.channel() != Channel::Handover);
        let capped = capped.and_then(|stage| contact_cap(q, stage)?.0).filter(|day| *day > q.today);
        let when = capped
            .map_or(String::new(), |day| format!(" as soon as the contact cap allows, on {}", day_of_letter(q, day)));
        let text = if notice.state == NoticeState::Refused {
            format!("{resolve} --not-sent --reason …`, once the address is mended: the stage is then sent again{when}.")
        } else {
            format!("{resolve} --accepted --reason …` if it arrived, or `--not-sent` to have it sent again{when}.")
        };
        let again =
            stage.filter(|stage| notice.state == NoticeState::Unknown && stage.on_unknown == OnUnknown::ResendOnce);
        let again = again.map(|stage| {
            let (name, at) = (&stage.name, in_brackets(&stage.location));
            let text = format!(
                "Where nothing becomes known within a day, the {name} notice is sent once more by itself{at}, if it was \
                 not already."
            );
            (None, text)
        });
        [(None, text)].into_iter().chain(again)
    };
    let mut notices: Vec<_> = gates::unresolved(q, assessed).collect();
    notices.sort_by_key(|notice| notice.id);
    notices.into_iter().flat_map(text).collect()
}

fn deadline(q: &Question<'_>, assessed: &[Assessed<'_>], next_date: Option<NaiveDate>) -> Vec<Way> {
    let named = q.snapshot.history.notices.iter().filter(|notice| {
        notice.tone >= Tone::Final
            && notice.was_heard()
            && notice.items.iter().any(|(item, _)| gates::still_owed(assessed, item))
    });
    let Some(notice) = named.filter(|notice| notice.respond_by.is_some()).max_by_key(|notice| notice.respond_by) else {
        return Vec::new();
    };
    let (Some(deadline), Some(day)) = (notice.respond_by, next_date) else { return Vec::new() };
    let stage = q.ladder.stages.iter().find(|stage| stage.name == notice.stage);
    let at = stage.map_or(String::new(), |stage| in_brackets(&stage.location));
    let owed = notice.items.iter().filter(|(item, _)| gates::still_owed(assessed, item));
    let owed: BTreeSet<&str> = owed.map(|(item, _)| item.as_str()).collect();
    let owed = owed.into_iter().collect::<Vec<_>>().join(", ");
    vec![
        (
            Some(day),
            format!(
                "On {}: the {} notice of {} gave time up to and including {deadline}{at}.",
                day_of_letter(q, day),
                notice.stage,
                notice.accepted_on.unwrap_or(notice.decided_on)
            ),
        ),
        (None, format!("Once nothing of what it demanded is owed any more ({owed}).")),
    ]
}

fn in_credit(q: &Question<'_>, assessed: &[Assessed<'_>]) -> Vec<Way> {
    let overdue: BTreeSet<Currency> =
        assessed.iter().filter(|one| one.code == ItemCode::Covered).map(|one| one.item.currency).collect();
    let left = |currency: Currency| -> Decimal {
        let of = |one: &&Assessed<'_>| one.item.currency == currency;
        let credits = assessed.iter().filter(of).filter(|one| one.code == ItemCode::Credit);
        let given: Decimal = credits.map(|one| -one.item.open_amount).sum();
        given - assessed.iter().filter(of).map(|one| spoken_for(assessed, one)).sum::<Decimal>()
    };
    overdue
        .into_iter()
        .map(|currency| {
            let minimum = q.policy.minimums.of(currency).unwrap_or_default();
            let left = left(currency).max(Decimal::ZERO);
            let more = Money::new(left + minimum, currency);
            let at = at(q, &items::minimum_key(q.policy, currency));
            let what =
                if left.is_zero() { "which is the minimum" } else { "what is left of the credits, and the minimum" };
            let comma = if left.is_zero() { "," } else { ":" };
            (None, format!("{more} more would have to fall overdue{comma} {what}{at}."))
        })
        .collect()
}

/// What credits cover of an item and would not cover of another one that falls overdue today: all of it when it is overdue
/// itself, else what was credited to that very item.
fn spoken_for(assessed: &[Assessed<'_>], one: &Assessed<'_>) -> Decimal {
    if one.is_overdue() {
        return one.credited;
    }
    let notes = assessed.iter().filter(|note| note.code == ItemCode::Credit && note.item.currency == one.item.currency);
    let own = notes.filter(|note| note.item.refers_to.as_ref() == Some(&one.item.id));
    own.map(|note| -note.item.open_amount).sum::<Decimal>().min(one.credited)
}

fn below_minimum(q: &Question<'_>, have: Money) -> Option<String> {
    let currency = have.currency;
    let minimum = q.policy.minimums.of(currency)?;
    let at = at(q, &items::minimum_key(q.policy, currency));
    let (more, minimum) = (Money::new(minimum - have.amount, currency), Money::new(minimum, currency));
    Some(format!("{more} more overdue would reach the minimum of {minimum}{at}."))
}

/// The first day on which an item that is not overdue yet can be demanded, or lets another one be demanded. What is out
/// for a time has a sentence of its own.
fn coming(q: &Question<'_>, assessed: &[Assessed<'_>]) -> Option<Way> {
    let gates::Coming { on, what } = gates::coming(q, assessed)?;
    let is_out = |id: &ItemId| assessed.iter().any(|one| one.item.id == *id && one.code.is_out());
    let what = match &what {
        Comes::Item(id) if is_out(id) => return None,
        Comes::Item(id) => format!("Item {id}"),
        Comes::NotDue => "An item that is not due yet".to_owned(),
        Comes::MoreOverdue => return None,
    };
    Some((Some(on), format!("{what} can first be demanded on {}.", day_of_letter(q, on))))
}

/// What is said of an item: `comes to stage firm (policy.toml:120) on Monday 2026-11-23.`
fn stage_due(q: &Question<'_>, one: &Assessed<'_>) -> Option<Way> {
    let (position, name) = one.next_stage.as_ref()?;
    let day = one.due_on?;
    let at = q.ladder.stages.get(*position).map_or(String::new(), |stage| in_brackets(&stage.location));
    let restarted =
        ladder::restarted_on(q.policy, q.snapshot, one).filter(|(since, _)| Some(*since) >= one.reminded_on);
    let reminded = match (restarted, one.reminded_on) {
        (Some((since, cause)), _) => {
            format!(", {} after the wait began anew on {since} (cause {})", days(since, day), cause.as_str())
        }
        (None, Some(last)) => format!(", {} after the last notice about it", days(last, day)),
        (None, None) => String::new(),
    };
    Some((Some(day), format!("comes to stage {name}{at} on {}{reminded}.", day_of_letter(q, day))))
}

/// Where the open case keeps a ladder that reads otherwise in the policy by now.
fn older_ladder(q: &Question<'_>) -> Option<Way> {
    let case = q.snapshot.case.as_ref()?;
    let (account, name) = (as_argument(q.snapshot.account.id.as_str()), &case.ladder.name);
    let today = q.policy.ladders.get(name).filter(|today| !today.is_same_as(&case.ladder))?;
    let what = format!("The case keeps the ladder {name} as it was when the case began on {}", case.opened_on);
    Some((None, format!("{what}; `dunningd ladder {account} --to {} --reason …` moves it to today's.", today.name)))
}

fn exhausted(q: &Question<'_>) -> Vec<Way> {
    let account = as_argument(q.snapshot.account.id.as_str());
    let mut ways: Vec<Way> = Vec::new();
    for passed in q.passed_over {
        let Some(stage) = q.ladder.stages.get(passed.position) else { continue };
        let (name, at) = (&stage.name, in_brackets(&stage.location));
        let why = passed.why.split_once(": ").map_or(passed.why.as_str(), |(_, why)| why);
        ways.push((None, format!("Stage {name}{at} follows once it applies: {why}.")));
    }
    ways.push((
        None,
        format!("A person decides what follows, such as `dunningd handover {account} --to … --reason …`."),
    ));
    let others: Vec<&str> =
        q.policy.ladders.keys().filter(|name| **name != q.ladder.name).map(crate::model::LadderName::as_str).collect();
    if !others.is_empty() {
        let others = others.join(", ");
        ways.push((
            None,
            format!("`dunningd ladder {account} --to … --reason …` moves it to another ladder: {others}."),
        ));
    }
    ways
}

/// The cap that holds longest, of the account or of its mailbox.
fn contact_cap(q: &Question<'_>, stage: &Stage) -> Option<Way> {
    let email = recipient::reach(q.snapshot, q.creditor(), stage).email;
    let history = &q.snapshot.history;
    let of_account: Vec<NaiveDate> =
        history.notices.iter().filter_map(|n| n.counted_on).chain(history.other_contacts.iter().copied()).collect();
    let key = email.map(EmailAddress::mailbox_key);
    let of_mailbox =
        key.and_then(|key| q.snapshot.mailboxes.get(&key)).map_or(Vec::new(), |usage| usage.contacts.clone());

    let policy = q.policy.contact_caps.iter().enumerate().map(|(n, cap)| (*cap, cap_at(q, n)));
    let account = &q.snapshot.account;
    let legal = ContactLaw::of(account.party_kind, q.debtor_country()).flat_map(|law| law.caps);
    let legal = legal.map(|cap| (*cap, " to a natural person".to_owned()));
    let caps: Vec<(ContactCap, String)> = policy.chain(legal).collect();

    let mut longest: Option<(NaiveDate, String)> = None;
    for (mut contacts, whom) in [(of_account, ""), (of_mailbox, " to the mailbox")] {
        contacts.sort_by_key(|day| std::cmp::Reverse(*day));
        for (cap, from) in &caps {
            let Some(counts) = (cap.contacts as usize).checked_sub(1).and_then(|n| contacts.get(n)) else { continue };
            let day = days_after(*counts, cap.days);
            if longest.as_ref().is_none_or(|(known, _)| day > *known) {
                let last = contacts.first().unwrap_or(counts);
                let within = counted(i64::from(cap.days), "day");
                let text = format!(
                    "The next contact{whom} is allowed on {}: {} in {within}{from}, the last was on {last}.",
                    day_of_letter(q, day),
                    cap.contacts
                );
                longest = Some((day, text));
            }
        }
    }
    longest.map(|(day, text)| (Some(day), text))
}

fn cap_at(q: &Question<'_>, number: usize) -> String {
    let own_row = at(q, &format!("contact_cap.{number}"));
    if own_row.is_empty() { at(q, "contact_cap") } else { own_row }
}

fn no_template(q: &Question<'_>, assessed: &[Assessed<'_>]) -> Option<String> {
    let stage = notice::stage(q, assessed);
    let contact = recipient::reach(q.snapshot, q.creditor(), stage).contact;
    let template = &stage.template;
    let (language, _) = recipient::language(q.policy, q.snapshot, stage, contact, q.creditor())?;
    Some(format!(
        "The letter {template} is written in {language} (templates/{template}/{language}.md), then `dunningd check`."
    ))
}

/// By the ledger, and by an entry of ours where there can be one.
fn no_address(q: &Question<'_>, assessed: &[Assessed<'_>]) -> Vec<String> {
    let account = as_argument(q.snapshot.account.id.as_str());
    let contacts = &q.snapshot.contacts;
    let option = match notice::stage(q, assessed).channel() {
        Channel::Email => "--email",
        Channel::Call => "--phone",
        Channel::Letter | Channel::Handover => return vec![by_ledger(q, assessed)],
    };
    // Whoever wants no e-mail is not asked for another address.
    let reached = || contacts.iter().filter(|contact| option == "--phone" || !contact.no_email);
    let mended = reached().find(|contact| contact.unusable_email).or(reached().next());
    let which = match mended {
        Some(contact) => format!("--contact {} {option} …", as_argument(contact.id.as_str())),
        None if option == "--phone" => "--add --role dunning --email … --phone …".to_owned(),
        None => "--add --role dunning --email …".to_owned(),
    };
    let here = format!(
        "`dunningd contact {account} {which} --reason …` enters one here, where the ledger cannot be mended soon."
    );
    let removes = |contact: &Contact| {
        let contact = as_argument(contact.id.as_str());
        format!("`dunningd contact {account} --contact {contact} --remove --reason …`")
    };
    let entered = |what: Entered| contacts.iter().find(move |contact| contact.entered == what);
    if let Some(contact) = entered(Entered::Erased) {
        return vec![
            format!(
                "What was entered here about contact {} was erased, and it may have been another address: {} goes back to \
                 the ledger's.",
                contact.id,
                removes(contact)
            ),
            here,
        ];
    }
    if let Some(contact) =
        entered(Entered::NoEmail).filter(|_| option == "--email" && contacts.iter().all(|one| one.no_email))
    {
        let taken_back = format!("{} takes back that contact {} wants no e-mail.", removes(contact), contact.id);
        return vec![taken_back, here];
    }
    vec![by_ledger(q, assessed), here]
}

fn by_ledger(q: &Question<'_>, assessed: &[Assessed<'_>]) -> String {
    let account = &q.snapshot.account.id;
    let contacts = &q.snapshot.contacts;
    let channel = notice::stage(q, assessed).channel();
    if channel == Channel::Letter {
        format!("The ledger gets the postal address of account {account} (`ledger.account.postal_address`).")
    } else if channel == Channel::Call {
        format!("The ledger gets a telephone number for a contact of account {account} (`ledger.contact.phone`).")
    } else if contacts.is_empty() {
        format!("The ledger gets a contact with an e-mail address for account {account} (`ledger.contact`).")
    } else if contacts.iter().all(|contact| contact.no_email) {
        format!("The ledger gets a contact of account {account} that wants e-mail (`ledger.contact.no_email`).")
    } else {
        let unusable = contacts.iter().find(|contact| contact.unusable_email && !contact.no_email);
        let which = unusable.map_or(String::new(), |contact| format!(", such as contact {}", contact.id));
        format!("The ledger gets one usable e-mail address for account {account}{which} (`ledger.contact.email`).")
    }
}

fn no_payment_account(q: &Question<'_>, assessed: &[Assessed<'_>]) -> Vec<Way> {
    let currencies: BTreeSet<String> = assessed
        .iter()
        .filter(|one| one.code == ItemCode::NoPaymentAccount)
        .map(|one| one.item.currency.to_string())
        .collect();
    currencies.iter().map(|currency| (None, bank_account(q, currency))).collect()
}

fn bank_account(q: &Question<'_>, currency: &str) -> String {
    let creditor = &q.snapshot.account.creditor;
    format!("Creditor {creditor} gets a bank account in {currency} (`[creditor.bank.{currency}]` in creditors.toml).")
}

fn bad_data(problem: Option<&str>, currency: Currency) -> String {
    problem.map_or_else(
        || format!("policy.toml gets a minimum or a rate for {currency}."),
        |problem| format!("its row in the ledger is mended: {problem}."),
    )
}

/// ` (policy.toml:12)`, or nothing when the key is not given.
fn at(q: &Question<'_>, key: &str) -> String {
    q.policy.location(key).map_or(String::new(), |location| in_brackets(location))
}

fn in_brackets(location: &str) -> String {
    if location.is_empty() { String::new() } else { format!(" ({location})") }
}

/// `Monday 2026-11-23`; of a day without letters also the next one with: `Sunday 2026-11-22, and letters go out again on
/// Monday 2026-11-23`.
fn day_of_letter(q: &Question<'_>, day: NaiveDate) -> String {
    match gates::next_sending_day(q, day) {
        Some(next) if next > day => format!("{}, and letters go out again on {}", weekday(day), weekday(next)),
        _ => weekday(day),
    }
}

/// `Monday 2026-11-23`.
fn weekday(day: NaiveDate) -> String {
    day.format("%A %Y-%m-%d").to_string()
}

fn days(from: NaiveDate, to: NaiveDate) -> String {
    counted((to - from).num_days(), "day")
}

fn lower(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
