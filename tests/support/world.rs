//! One debtor and what is known about it, in as few words as a case needs.
//!
//! The plainest fixture: business date `T` in Warsaw; ladder friendly +3, firm +10, final +20, formal +30, all by
//! e-mail, no approval, no deadlines, gaps by the difference of days; one contact per account in five days; minimum
//! 10.00 in EUR, USD and PLN; letters go out every day; no bounce window; templates in every language.
#![expect(clippy::unwrap_used, reason = "a fixture that cannot be built is a broken test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{Duration, NaiveDate};
use dunningd::decide::decide;
use dunningd::model::{
    Account, AccountId, ApprovalPolicy, Approvals, BankAccount, BrakePolicy, Calendars, Case, CaseChange, Cause,
    Channel, Contact, ContactCap, ContactId, ContactRole, Contacting, Country, CreditNetting, Creditor, CreditorId,
    Currency, Decision, Demands, DisplayName, EmailAddress, EmailKind, Handover, HandoverItem, History, Hold,
    HoldTarget, Item, ItemCode, ItemId, ItemKind, Ladder, LadderName, Language, Minimums, Money, NotDue, NoticeId,
    NoticeState, OnMissed, OnUnknown, PLAN_STAGE, PartyKind, PastNotice, Plan, PlanInstalment, Policy, Promise,
    PromisedItem, RecordedCause, Requisites, Retention, Snapshot, Stage, StageCondition, StageName, TemplateCatalog,
    Tone, Verdict, Waiver, Weekdays, WriteOff,
};
use rust_decimal::Decimal;

/// `T`: a Wednesday.
pub(crate) fn t() -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 3, 18).unwrap()
}

/// `T+days`.
pub(crate) fn t_plus(days: i64) -> NaiveDate {
    t() + Duration::days(days)
}

/// `100 EUR`.
pub(crate) fn money(text: &str) -> Money {
    let (amount, currency) = text.split_once(' ').unwrap();
    Money::new(amount.parse().unwrap(), Currency::parse(currency).unwrap())
}

pub(crate) fn item_id(id: &str) -> ItemId {
    ItemId::parse(id).unwrap()
}

pub(crate) fn stage_name(name: &str) -> StageName {
    StageName::parse(name).unwrap()
}

pub(crate) fn email(address: &str) -> EmailAddress {
    EmailAddress::parse(address).unwrap()
}

/// An account in which money can be received.
pub(crate) fn requisites(number: &str) -> Requisites {
    Requisites {
        holder: "Wierzyciel sp. z o.o.".to_owned(),
        account: BankAccount::Number(number.to_owned()),
        bic: None,
        bank: None,
        more: Vec::new(),
    }
}

/// A policy, what is known about one account, and a day.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) policy: Policy,
    pub(crate) snapshot: Snapshot,
    pub(crate) today: NaiveDate,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { policy: policy(), snapshot: snapshot(), today: t() }
    }

    /// An invoice that many days past due on `T` (negative: due after it).
    pub(crate) fn owes(self, id: &str, days_late: i64, amount: &str) -> Self {
        self.with_item(new_item(id, ItemKind::Invoice, days_late, money(amount)))
    }

    /// A credit note without a document of its own.
    pub(crate) fn credit_note(self, id: &str, amount: &str) -> Self {
        self.with_item(new_item(id, ItemKind::CreditNote, 0, negative(amount)))
    }

    /// A credit note for that invoice.
    pub(crate) fn credit_note_for(self, id: &str, invoice: &str, amount: &str) -> Self {
        let mut note = new_item(id, ItemKind::CreditNote, 0, negative(amount));
        note.refers_to = Some(item_id(invoice));
        self.with_item(note)
    }

    /// Money received and not yet allocated.
    pub(crate) fn unallocated(self, id: &str, amount: &str) -> Self {
        self.with_item(new_item(id, ItemKind::Payment, 0, negative(amount)))
    }

    fn with_item(mut self, item: Item) -> Self {
        self.snapshot.items.push(item);
        self
    }

    /// What the ledger says about that item from now on.
    pub(crate) fn item(mut self, id: &str, change: impl FnOnce(&mut Item)) -> Self {
        change(self.snapshot.items.iter_mut().find(|item| item.id.as_str() == id).unwrap());
        self
    }

    /// Those invoices were paid in full.
    pub(crate) fn paid(self, ids: &[&str]) -> Self {
        ids.iter().fold(self, |world, id| world.item(id, |item| item.open_amount = Decimal::ZERO))
    }

    /// An accepted notice that demanded those items at that stage, so many days before `T`.
    pub(crate) fn reminded(self, stage: &str, days_ago: i64, items: &[&str]) -> Self {
        self.notice(NoticeState::Accepted, stage, days_ago, items)
    }

    /// A notice that came to that end.
    pub(crate) fn notice(mut self, state: NoticeState, stage: &str, days_ago: i64, items: &[&str]) -> Self {
        let day = t_plus(-days_ago);
        let number = self.snapshot.history.notices.len() + 1;
        let tone = self.policy.ladders[&LadderName::default()].stages.iter().find(|s| s.name.as_str() == stage);
        self.snapshot.history.notices.push(PastNotice {
            id: NoticeId(format!("00000000-0000-7000-8000-{number:012}").parse().unwrap()),
            stage: stage_name(stage),
            tone: tone.unwrap().tone,
            state,
            channel: Channel::Email,
            decided_on: day,
            lapses_on: None,
            post_by: None,
            counted_on: (!state.is_pending() && state != NoticeState::Cancelled).then_some(day),
            accepted_on: (state.completes_stage() || state == NoticeState::Bounced).then_some(day),
            respond_by: None,
            items: items.iter().map(|id| (item_id(id), stage_name(stage))).collect(),
            to_pay: self.with_person(state, items),
            unanswered: false,
            vanished: false,
            mailbox: "office@debtor.example".to_owned(),
            message_id: format!("<{number}@creditor.example>"),
        });
        self.case_since(days_ago)
    }

    /// What a notice that is with a person demands on each of those items: what is open on it.
    fn with_person(&self, state: NoticeState, items: &[&str]) -> BTreeMap<ItemId, Decimal> {
        let demanded = self.snapshot.items.iter().filter(|item| items.contains(&item.id.as_str()));
        let demanded = demanded.filter(|_| state == NoticeState::WithPerson);
        demanded.map(|item| (item.id.clone(), item.open_amount)).collect()
    }

    /// The last notice is performed by a person: not sent, and with that last day, counted from `T`.
    pub(crate) fn by(mut self, channel: Channel, lapses_on: Option<i64>) -> Self {
        let notice = self.snapshot.history.notices.last_mut().unwrap();
        notice.channel = channel;
        notice.counted_on = notice.counted_on.filter(|_| channel == Channel::Letter);
        notice.lapses_on = lapses_on.map(t_plus);
        notice.message_id = String::new();
        self
    }

    /// The last notice named a deadline that many days after it.
    pub(crate) fn naming(mut self, days: i64) -> Self {
        let notice = self.snapshot.history.notices.last_mut().unwrap();
        notice.respond_by = Some(notice.decided_on + Duration::days(days));
        self
    }

    /// The case is open, at least since that many days before `T`, on today's default ladder.
    pub(crate) fn case_since(mut self, days_ago: i64) -> Self {
        let opened_on = t_plus(-days_ago);
        let case = self
            .snapshot
            .case
            .get_or_insert_with(|| Case { ladder: self.policy.ladders[&LadderName::default()].clone(), opened_on });
        case.opened_on = case.opened_on.min(opened_on);
        self
    }

    /// A person waived that stage, which was due so many days before `T`.
    pub(crate) fn waived(mut self, stage: &str, days_ago: i64, item: &str) -> Self {
        self.snapshot.history.waivers.push(Waiver {
            item: item_id(item),
            stage: stage_name(stage),
            on: t_plus(-days_ago),
            reason: "agreed by phone".to_owned(),
            elsewhere: None,
        });
        self
    }

    /// A contact by hand, so many days before `T`.
    pub(crate) fn called(mut self, days_ago: i64) -> Self {
        self.snapshot.history.other_contacts.push(t_plus(-days_ago));
        self
    }

    fn next_hold(&self) -> i64 {
        i64::try_from(self.snapshot.holds.len()).unwrap() + 1
    }

    /// A hold recorded by a person; the last day is counted from `T`.
    pub(crate) fn hold(mut self, target: HoldTarget, last_day: Option<i64>) -> Self {
        let until = last_day.map(t_plus);
        let (number, reason) = (self.next_hold(), "under review".to_owned());
        self.snapshot.holds.push(Hold { number, target, until, reason, cause: None, since: t(), handed_over: None });
        self
    }

    /// A dispute recorded by a person of ours.
    pub(crate) fn disputed(mut self, item: &str, cause: Cause) -> Self {
        let target = HoldTarget::Item(item_id(item));
        let (number, reason) = (self.next_hold(), "two boxes missing".to_owned());
        let hold = Hold { number, target, until: None, reason, cause: Some(cause), since: t(), handed_over: None };
        self.snapshot.holds.push(hold);
        self
    }

    /// So much was promised today, on what is open on those items, by a day counted from `T`.
    pub(crate) fn promised(mut self, amount: &str, by: i64, tolerance_days: u32, items: &[&str]) -> Self {
        let open = |id: &str| self.snapshot.items.iter().find(|item| item.id.as_str() == id).map(|i| i.open_amount);
        let items = items.iter().map(|id| PromisedItem {
            item: item_id(id),
            open_then: open(id).unwrap_or_default(),
            vanished: false,
        });
        let promise = Promise {
            number: i64::try_from(self.snapshot.promises.len()).unwrap() + 1,
            amount: money(amount),
            made_on: self.today,
            by_day: t_plus(by),
            tolerance_days,
            items: items.collect(),
            reason: "the director called".to_owned(),
            withdrawn: false,
            paid_in_time: None,
        };
        self.snapshot.promises.push(promise);
        self
    }

    /// Agreed today, on what is open on those items: instalments by days counted from `T`.
    pub(crate) fn planned(mut self, parts: &[(i64, &str)], tolerance_days: u32, on: OnMissed, items: &[&str]) -> Self {
        let open = |id: &str| self.snapshot.items.iter().find(|item| item.id.as_str() == id).map(|i| i.open_amount);
        let items: Vec<PromisedItem> = items
            .iter()
            .map(|id| PromisedItem { item: item_id(id), open_then: open(id).unwrap(), vanished: false })
            .collect();
        let number = i64::try_from(self.snapshot.plans.len()).unwrap() + 1;
        let instalments = (1..).zip(parts).map(|(number, (day, amount))| PlanInstalment {
            number,
            due_on: t_plus(*day),
            amount: money(amount).amount,
        });
        self.snapshot.plans.push(Plan {
            number,
            version: 1,
            currency: money(parts[0].1).currency,
            agreed_on: self.today,
            tolerance_days,
            on_missed: on,
            items,
            instalments: instalments.collect(),
            reason: "agreed by phone".to_owned(),
            ended: false,
        });
        self
    }

    /// A cause recorded by a person, so many days before `T`; without an item, for the account.
    pub(crate) fn cause(mut self, cause: Cause, item: Option<&str>, days_ago: i64) -> Self {
        let number = i64::try_from(self.snapshot.causes.len()).unwrap() + 1;
        let (item, since) = (item.map(item_id), t_plus(-days_ago));
        let reason = "told by phone".to_owned();
        self.snapshot.causes.push(RecordedCause { number, cause, item, reason, since });
        self
    }

    pub(crate) fn written_off(mut self, item: &str) -> Self {
        let reason = "not worth a lawsuit".to_owned();
        self.snapshot.write_offs.push(WriteOff { item: item_id(item), reason, since: t() });
        self
    }

    pub(crate) fn handed_over(mut self) -> Self {
        let then = |item: &Item| HandoverItem {
            item: item.id.clone(),
            currency: item.currency,
            open_then: item.open_amount,
            vanished: false,
        };
        let items = self.snapshot.items.iter().map(then).collect();
        let (to, reason) = ("Collector".to_owned(), "no answer for months".to_owned());
        self.snapshot.handover = Some(Handover { to, reason, since: t(), number: 1, items });
        self
    }

    pub(crate) fn policy(mut self, change: impl FnOnce(&mut Policy)) -> Self {
        change(&mut self.policy);
        self
    }

    pub(crate) fn account(mut self, change: impl FnOnce(&mut Account)) -> Self {
        change(&mut self.snapshot.account);
        self
    }

    /// A stage of the default ladder; call it before anything opens a case.
    pub(crate) fn stage(mut self, name: &str, change: impl FnOnce(&mut Stage)) -> Self {
        let ladder = Arc::make_mut(self.policy.ladders.get_mut(&LadderName::default()).unwrap());
        change(ladder.stages.iter_mut().find(|stage| stage.name.as_str() == name).unwrap());
        self
    }

    /// Instead of the one contact; in the order given, none of them primary.
    pub(crate) fn contacts(mut self, contacts: &[(ContactRole, &str)]) -> Self {
        self.snapshot.contacts = contacts.iter().map(|(role, address)| contact(*role, address)).collect();
        self
    }

    pub(crate) fn contact(mut self, number: usize, change: impl FnOnce(&mut Contact)) -> Self {
        change(&mut self.snapshot.contacts[number]);
        self
    }

    /// The same on `T+days`.
    pub(crate) fn on(&self, days: i64) -> Self {
        Self { today: t_plus(days), ..self.clone() }
    }

    pub(crate) fn decide(&self) -> Decision {
        decide(&self.policy, &self.snapshot, self.today)
    }

    /// The contact that is due; the case is broken when there is none.
    pub(crate) fn contacting(&self) -> Contacting {
        match self.decide().verdict {
            Verdict::Contact(contacting) => *contacting,
            Verdict::No { code, .. } => panic!("no contact: {}", code.as_str()),
        }
    }

    /// What happens next when the relay accepts what was decided: the notice becomes history, the case opens or closes.
    pub(crate) fn happen(&mut self, decision: &Decision) {
        match decision.case {
            CaseChange::Open => {
                let ladder = dunningd::decide::ladder_of(&self.policy, &self.snapshot);
                self.snapshot.case = Some(Case { ladder, opened_on: self.today });
            }
            CaseChange::Close => self.snapshot.case = None,
            CaseChange::None => {}
        }
        if let Verdict::Contact(contacting) = &decision.verdict {
            let number = self.snapshot.history.notices.len() + 1;
            let by_email = contacting.channel == Channel::Email;
            self.snapshot.history.notices.push(PastNotice {
                id: NoticeId(format!("00000000-0000-7000-8000-{number:012}").parse().unwrap()),
                stage: contacting.stage.clone(),
                tone: contacting.tone,
                state: if by_email { NoticeState::Accepted } else { NoticeState::Done },
                channel: contacting.channel,
                decided_on: self.today,
                lapses_on: None,
                post_by: None,
                counted_on: (contacting.channel != Channel::Handover).then_some(self.today),
                accepted_on: Some(self.today),
                respond_by: contacting.respond_by,
                items: completed_by(decision),
                to_pay: BTreeMap::new(),
                unanswered: false,
                vanished: false,
                mailbox: contacting.recipient.as_ref().map(EmailAddress::mailbox_key).unwrap_or_default(),
                message_id: format!("<{number}@creditor.example>"),
            });
        }
    }

    /// Lives that many days from today on; says each contact in a line.
    pub(crate) fn live(&mut self, days: i64) -> Vec<String> {
        let mut diary = Vec::new();
        for _ in 0..days {
            let decision = self.decide();
            self.happen(&decision);
            if let Verdict::Contact(contacting) = &decision.verdict {
                let items = with_code(&decision, ItemCode::Demanded).join(" ");
                diary.push(format!("{} {}: {items}", day(self.today), contacting.stage));
            }
            self.today += Duration::days(1);
        }
        diary
    }
}

/// The items that a notice completes a stage of, each its own.
pub(crate) fn completed_by(decision: &Decision) -> Vec<(ItemId, StageName)> {
    let demanded = decision.items.iter().filter(|item| item.code == ItemCode::Demanded);
    demanded.filter_map(|item| Some((item.item.clone(), item.next_stage.clone()?))).collect()
}

/// The ids of the items that carry that code.
pub(crate) fn with_code(decision: &Decision, code: ItemCode) -> Vec<String> {
    decision.items.iter().filter(|item| item.code == code).map(|item| item.item.to_string()).collect()
}

/// `T+7`.
pub(crate) fn day(day: NaiveDate) -> String {
    match (day - t()).num_days() {
        0 => "T".to_owned(),
        days => format!("T{days:+}"),
    }
}

/// The decision in one line: `contact friendly: demands A; also open B`, or `wait too_soon until T+7`.
pub(crate) fn summary(decision: &Decision) -> String {
    match &decision.verdict {
        Verdict::Contact(contacting) => {
            let deadline = contacting.respond_by.map_or(String::new(), |until| format!(" by {}", day(until)));
            let neutral = if contacting.escalated { " in neutral words" } else { "" };
            let demanded = with_code(decision, ItemCode::Demanded).join(", ");
            let also = with_code(decision, ItemCode::Information);
            let also = if also.is_empty() { String::new() } else { format!("; also open {}", also.join(", ")) };
            format!("contact {}{deadline}{neutral}: demands {demanded}{also}", contacting.stage)
        }
        Verdict::No { code, next_date } => {
            let until = next_date.map_or(String::new(), |until| format!(" until {}", day(until)));
            format!("{} {}{until}", code.kind().as_str(), code.as_str())
        }
    }
}

/// Compares the decision, in one line, with what the case says.
#[track_caller]
pub(crate) fn check(world: &World, expected: &str) {
    let decision = world.decide();
    assert_eq!(summary(&decision), expected, "\nchecks: {:#?}", decision.checks);
}

/// Compares what became of each item: `A demanded, B disputed`.
#[track_caller]
pub(crate) fn check_items(world: &World, expected: &str) {
    let items: Vec<String> =
        world.decide().items.iter().map(|item| format!("{} {}", item.item, item.code.as_str())).collect();
    assert_eq!(items.join(", "), expected);
}

/// Compares the tasks that should exist: `resolve_notice 1, fix_data A`.
#[track_caller]
pub(crate) fn check_tasks(world: &World, expected: &str) {
    let tasks: Vec<String> = world
        .decide()
        .tasks
        .iter()
        .map(|task| format!("{} {}", task.kind.as_str(), task.subject).trim_end().to_owned())
        .collect();
    assert_eq!(tasks.join(", "), expected);
}

fn negative(amount: &str) -> Money {
    let money = money(amount);
    Money::new(-money.amount, money.currency)
}

fn new_item(id: &str, kind: ItemKind, days_late: i64, money: Money) -> Item {
    let due_date = t_plus(-days_late);
    Item {
        id: item_id(id),
        kind,
        document_no: format!("FV/{id}"),
        instalment: None,
        issue_date: due_date - Duration::days(14),
        due_date: (!kind.is_credit()).then_some(due_date),
        currency: money.currency,
        amount: money.amount,
        open_amount: money.amount,
        written_off_on: None,
        dispute: None,
        hold_until: None,
        hold_reason: None,
        payment_reference: None,
        customer_reference: None,
        contract_no: None,
        refers_to: None,
        payee: None,
        document_url: None,
        pay_url: None,
        direct_debit_on: None,
        requisites: None,
        withdrawn: false,
        bad_data: None,
        part_of_plan: None,
    }
}

fn contact(role: ContactRole, address: &str) -> Contact {
    Contact {
        id: ContactId::parse(address).unwrap(),
        role,
        name: None,
        salutation: None,
        email: Some(email(address)),
        unusable_email: false,
        phone: None,
        language: None,
        is_primary: false,
        no_email: false,
        email_kind: EmailKind::Email,
        entered: dunningd::model::Entered::Nothing,
    }
}

fn snapshot() -> Snapshot {
    Snapshot {
        account: Account {
            id: AccountId::parse("K-1").unwrap(),
            creditor: CreditorId::parse("us").unwrap(),
            name: "Dłużnik sp. z o.o.".to_owned(),
            party_kind: PartyKind::Company,
            country: Some(Country::parse("PL").unwrap()),
            language: Some("pl".to_owned()),
            time_zone: None,
            tax_id: None,
            postal_address: None,
            party_id: None,
            parent_id: None,
            owner: None,
            segment: None,
            ladder: None,
            requisites: None,
            hold_until: None,
            hold_reason: None,
        },
        contacts: vec![contact(ContactRole::Dunning, "office@debtor.example")],
        items: Vec::new(),
        not_due: NotDue::default(),
        case: None,
        history: History::default(),
        holds: Vec::new(),
        handover: None,
        promises: Vec::new(),
        plans: Vec::new(),
        causes: Vec::new(),
        write_offs: Vec::new(),
        mailboxes: BTreeMap::new(),
        paused: None,
        freshness: None,
        approvals: Approvals::default(),
    }
}

fn stage(name: &str, tone: Tone, days: i32) -> Stage {
    Stage {
        name: stage_name(name),
        tone,
        days,
        channels: vec![Channel::Email],
        completes_on: None,
        respond_within_by_country: BTreeMap::new(),
        respond_within_of_persons: BTreeMap::new(),
        lapse_after_working_days: None,
        attempts: 1,
        template: name.to_owned(),
        enabled: true,
        gap: None,
        respond_within: None,
        approval: false,
        demands: if tone >= Tone::Final { Demands::Reached } else { Demands::AllOverdue },
        when: StageCondition::default(),
        on_unknown: OnUnknown::Review,
        location: format!("policy.toml:{name}").into(),
    }
}

fn policy() -> Policy {
    let ladder = Ladder {
        name: LadderName::default(),
        stages: vec![
            stage("friendly", Tone::Friendly, 3),
            stage("firm", Tone::Firm, 10),
            stage("final", Tone::Final, 20),
            stage("formal", Tone::Formal, 30),
        ],
    };
    let pairs = |stage: &Stage| Language::ALL.map(|language| (stage.template.clone(), language));
    let instalments = Language::ALL.map(|language| (PLAN_STAGE.to_owned(), language));
    let templates = TemplateCatalog(ladder.stages.iter().flat_map(pairs).chain(instalments).collect());
    let currency = |code: &str| Currency::parse(code).unwrap();
    let bank_accounts = ["EUR", "USD", "PLN", "JPY"].map(|code| (currency(code), requisites(&format!("{code} 1"))));
    let creditor = Creditor {
        id: CreditorId::parse("us").unwrap(),
        name: "Wierzyciel sp. z o.o.".to_owned(),
        address: vec!["ul. Prosta 1, 00-001 Warszawa".to_owned()],
        country: Country::parse("PL").unwrap(),
        time_zone: chrono_tz::Europe::Warsaw,
        language: Language::En,
        tax_ids: Vec::new(),
        sender_name: DisplayName::parse("Wierzyciel").unwrap(),
        sender: email("receivables@creditor.example"),
        reply_to: email("receivables@creditor.example"),
        phone: None,
        contact_person: None,
        bank_accounts: bank_accounts.into_iter().collect(),
    };
    Policy {
        creditors: BTreeMap::from([(creditor.id.clone(), creditor)]),
        templates,
        calendars: Calendars::weekly(Weekdays::EVERY_DAY),
        languages: BTreeSet::from(Language::ALL),
        country_languages: BTreeMap::new(),
        ladders: BTreeMap::from([(LadderName::default(), Arc::new(ladder))]),
        minimums: Minimums {
            by_currency: ["EUR", "USD", "PLN"].map(|code| (currency(code), Decimal::TEN)).into(),
            base: None,
            base_currency: None,
            rates: BTreeMap::new(),
        },
        item_grace_days: 0,
        account_min_arrears_days: 0,
        contact_caps: vec![ContactCap { contacts: 1, days: 5 }],
        bounce_window_days: 0,
        direct_debit_wait_days: 7,
        formal_gap_days: 30,
        credit_netting: CreditNetting::OldestFirst,
        accounts_per_mailbox: 3,
        rows_in_letter: 10,
        valid_days: 2,
        send_window: None,
        review_window_minutes: 0,
        restore_days: 7,
        brake: BrakePolicy {
            notices_per_run: 100,
            notices_per_hour: 100,
            forecast_percent: 150,
            forecast_margin: 20,
            first_run_notices: 10,
            never_reminded_days: 180,
            limitation_years: BTreeMap::from([(Country::parse("PL").unwrap(), 2)]),
        },
        approval: ApprovalPolicy { waiting_limit: 200, valid_days: 5, same_person: false },
        retention: Retention::default(),
        causes: BTreeMap::new(),
        locations: ["contact_cap", "send_days", "languages", "minimum.EUR", "item_grace_days"]
            .map(|key| (key.to_owned(), format!("policy.toml:{key}").into()))
            .into(),
    }
}
