//! `[ladder.<name>]`: the stages an account climbs. Impossible ladders are refused here, so that none reaches a
//! decision.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::findings::FindingCode;
use super::section::{Field, Notes, Section};
use super::tree::Origin;
use crate::model::{
    Amounts, Channel, Country, Demands, Ladder, LadderName, Minimums, Money, OnUnknown, PLAN_STAGE, PartyKind, Stage,
    StageCondition, StageName, Tone, is_plan_stage,
};

/// Working days after which a call that nobody made lapses, unless the policy says otherwise.
const CALL_LAPSES_AFTER: u32 = 5;

/// Calls that nobody answered after which one was tried often enough, unless the policy says otherwise.
const CALL_ATTEMPTS: u32 = 3;

/// Reads every ladder. `default` must be among them.
pub(super) fn read(
    section: Option<Section<'_>>,
    root: &Section<'_>,
    minimums: &Minimums,
) -> BTreeMap<LadderName, Arc<Ladder>> {
    let mut ladders = BTreeMap::new();
    let mut names = Vec::new();
    let at = section.as_ref().map_or(root.origin(), Section::origin);
    for field in section.map(Section::rest).unwrap_or_default() {
        names.push(field.key);
        if let Some(ladder) = read_ladder(&field, minimums) {
            ladders.insert(ladder.name.clone(), Arc::new(ladder));
        }
    }
    if !names.contains(&"default") {
        let message = "there is no ladder for accounts that name none: add `[ladder.default]` with its stages";
        let suggestion = super::suggest::closest("default", names).map(|name| format!("ladder.{name}"));
        let message = match suggestion {
            Some(near) => format!("{message}, or rename `[{near}]`"),
            None => message.to_owned(),
        };
        root.notes.add(FindingCode::LadderIncomplete, at, message);
    }
    ladders
}

fn read_ladder(field: &Field<'_>, minimums: &Minimums) -> Option<Ladder> {
    let name = field.parsed_key(LadderName::parse, []);
    let mut section = field.section()?;
    let notes = section.notes;
    let at = field.key_at;
    let read: Vec<ReadStage<'_>> =
        section.sections("stage").into_iter().filter_map(|section| read_stage(section, minimums)).collect();
    section.close();

    let mut seen: BTreeMap<&StageName, Arc<str>> = BTreeMap::new();
    for ReadStage { stage, name_at, .. } in &read {
        if let Some(first) = seen.get(&stage.name) {
            let message = format!("a stage `{}` exists already ({first}): give each stage its own name", stage.name);
            notes.add(FindingCode::DuplicateName, name_at, message);
        } else {
            seen.insert(&stage.name, stage.location.clone());
        }
    }
    if let Some(reserved) = read.iter().find(|read| is_plan_stage(&read.stage.name)) {
        let message = format!("`{PLAN_STAGE}` is the stage of missed instalments: give this one another name");
        notes.add(FindingCode::Conflict, reserved.name_at, message);
    }
    for pair in read.windows(2) {
        let [before, after] = pair else { continue };
        if after.stage.days <= before.stage.days {
            let message = format!(
                "stage `{}` must come later than `{}`, which is due at {} days: raise `days`, or move the stage up",
                after.stage.name, before.stage.name, before.stage.days
            );
            notes.add(FindingCode::DaysNotRising, after.days_at, message);
        }
        if after.stage.tone < before.stage.tone {
            let message = format!(
                "stage `{}` sounds milder ({}) than the stage before it ({})",
                after.stage.name,
                after.stage.tone.as_str(),
                before.stage.tone.as_str()
            );
            notes.add(FindingCode::Doubtful, after.name_at, message);
        }
    }
    if let Some(first) = read.first().filter(|first| first.stage.gap.is_some()) {
        let message = format!("`gap` of `{}` is never used: no stage comes before it", first.stage.name);
        notes.add(FindingCode::Doubtful, first.name_at, message);
    }
    if !read.iter().any(|read| read.stage.enabled) {
        let message = format!("ladder `{}` has no enabled stage: nobody on it would ever be contacted", field.key);
        notes.add(FindingCode::LadderIncomplete, at, message);
    }
    Some(Ladder { name: name?, stages: read.into_iter().map(|read| read.stage).collect() })
}

struct ReadStage<'a> {
    stage: Stage,
    name_at: &'a Origin,
    days_at: &'a Origin,
}

fn read_stage<'a>(mut section: Section<'a>, minimums: &Minimums) -> Option<ReadStage<'a>> {
    let notes = section.notes;
    let location = section.origin().location(notes.sources);
    let enabled = section.flag("enabled", true);

    let name_field = section.need("name", "\"friendly\"");
    let name_at = name_field.as_ref().map_or(section.origin(), Field::origin);
    let name = name_field.and_then(|field| field.parsed(StageName::parse));

    let tones = Tone::ALL.map(|tone| (tone.as_str(), tone));
    let tone_field = section.get("tone");
    let tone = match &tone_field {
        Some(field) => field.choice(&tones),
        None => name.as_ref().and_then(|name| tone_of_name(name, &section, name_at)),
    };

    let days_field = section.need("days", "5");
    let days_at = days_field.as_ref().map_or(section.origin(), Field::origin);
    let days: Option<i32> = days_field.and_then(|field| field.number(-60..=3650));

    let (channels, completes_on) = channels(&mut section, enabled);
    let template = match section.get("template") {
        // A template is a folder of that name: the same letters as a stage, and no way out of the templates folder.
        Some(field) => field.parsed(StageName::parse).map(|name| name.as_str().to_owned()),
        None => name.as_ref().map(|name| name.as_str().to_owned()),
    };
    let gap = section.get("gap").and_then(|field| field.number(1..=365));
    let respond_within = section.get("respond_within").and_then(|field| field.number(1..=365));
    let respond_within_by_country = by_country(&mut section, "respond_within_by_country");
    let respond_within_of_persons = by_country(&mut section, "respond_within_of_persons");
    let calls = completes_on.or_else(|| channels.first().copied()) == Some(Channel::Call);
    let lapse = section.get("lapse_after_working_days");
    let attempts = section.get("attempts");
    for field in attempts.iter().filter(|_| !calls) {
        let message = format!("`{}` counts calls, and this stage makes none: remove it", field.path);
        field.note(FindingCode::Conflict, message);
    }
    let by_email = completes_on.or_else(|| channels.first().copied()) == Some(Channel::Email);
    for field in lapse.iter().filter(|_| by_email) {
        let message = format!("`{}` is for what a person does, and this stage is sent: remove it", field.path);
        field.note(FindingCode::Conflict, message);
    }
    let lapse_after_working_days = lapse.map_or(calls.then_some(CALL_LAPSES_AFTER), |field| field.number(1..=60));
    let attempts = attempts.and_then(|field| field.number(1..=10)).unwrap_or(CALL_ATTEMPTS);
    let approval = section.flag("approval", false);
    let demands = section.get("demands");
    let demands =
        demands.and_then(|f| f.choice(&[("all_overdue", Demands::AllOverdue), ("reached", Demands::Reached)]));
    let on_unknown_field = section.get("on_unknown");
    let on_unknown_words = [OnUnknown::Review, OnUnknown::ResendOnce].map(|word| (word.as_str(), word));
    let on_unknown = on_unknown_field.as_ref().and_then(|field| field.choice(&on_unknown_words));
    let when = section.section("when").map(|when| condition(when, minimums)).unwrap_or_default();
    section.close();

    if enabled && let (Some(days), Some(tone)) = (days, tone) {
        before_due(notes, days_at, days, tone);
    }
    let tone = tone?;
    let from_final = tone >= Tone::Final;
    // A letter with legal effect, or one that a person let out, is not repeated by a machine.
    if let Some(field) = on_unknown_field.filter(|_| approval || tone >= Tone::Formal)
        && on_unknown == Some(OnUnknown::ResendOnce)
    {
        let message = format!(
            "`{}`: a stage that needs approval, or with the tone formal or handover, is not sent again by itself: write \
             `on_unknown = \"review\"`, and a person decides by `dunningd outbox resolve`",
            field.path
        );
        field.note(FindingCode::Conflict, message);
    }
    let usual = if from_final || approval { OnUnknown::Review } else { OnUnknown::ResendOnce };
    let stage = Stage {
        name: name?,
        tone,
        days: days?,
        channels,
        completes_on,
        template: template?,
        enabled,
        gap,
        respond_within,
        respond_within_by_country,
        respond_within_of_persons,
        lapse_after_working_days,
        attempts,
        approval,
        demands: demands.unwrap_or(if from_final { Demands::Reached } else { Demands::AllOverdue }),
        when,
        on_unknown: on_unknown.unwrap_or(usual),
        location: location.into(),
    };
    Some(ReadStage { stage, name_at, days_at })
}

/// The tone of a stage that names none.
fn tone_of_name(name: &StageName, section: &Section<'_>, name_at: &Origin) -> Option<Tone> {
    let tone = Tone::parse(name.as_str());
    if tone.is_none() {
        let suggestion = super::suggest::closest(name.as_str(), Tone::ALL.map(Tone::as_str)).map(str::to_owned);
        let message = format!(
            "`{name}` is not the name of a tone: add `tone = …` (courtesy, friendly, firm, final, formal or handover)"
        );
        section.notes.add_with(FindingCode::MissingKey, name_at, message, suggestion);
    }
    tone
}

/// What comes before the due day speaks of no debt, and nothing else does.
fn before_due(notes: &Notes<'_>, days_at: &Origin, days: i32, tone: Tone) {
    let wrong = match (days, tone) {
        (0, _) => "a stage on the due day itself would write before anything is overdue: write at least 1 day, or a \
                   negative number for a courtesy note before it"
            .to_owned(),
        (..0, Tone::Courtesy) | (1.., Tone::Friendly | Tone::Firm | Tone::Final | Tone::Formal | Tone::Handover) => {
            return;
        }
        (..0, _) => format!(
            "a stage at {days} days writes before anything is overdue, and the tone `{}` speaks of a debt: use the \
             tone `courtesy`, or at least 1 day",
            tone.as_str()
        ),
        (1.., Tone::Courtesy) => format!(
            "a courtesy note speaks of what is not due yet, and this one would come {days} days after: use negative \
             days, or another tone"
        ),
    };
    notes.add(FindingCode::InvalidValue, days_at, wrong);
}

/// Days per country: `{ IT = 15, PL = 7 }`.
fn by_country(section: &mut Section<'_>, key: &'static str) -> BTreeMap<Country, u32> {
    const USUAL: [&str; 5] = ["IT", "PL", "RU", "GB", "IE"];
    let fields = section.section(key).map(Section::rest).unwrap_or_default();
    fields.iter().filter_map(|field| Some((field.parsed_key(Country::parse, USUAL)?, field.number(1..=365)?))).collect()
}

/// The channels of a stage, and the one that completes it when that is not the first.
fn channels(section: &mut Section<'_>, enabled: bool) -> (Vec<Channel>, Option<Channel>) {
    let words = Channel::ALL.map(|channel| (channel.as_str(), channel));
    let listed = section.get("channels");
    let completes = section.get("completes_on");
    let completes_on = completes.as_ref().and_then(|field| field.choice(&words));
    let mut channels = Vec::new();
    for field in listed.as_ref().and_then(Field::list).unwrap_or_default() {
        let Some(channel) = field.choice(&words) else { continue };
        if channels.contains(&channel) {
            field.note(FindingCode::DuplicateName, format!("the channel `{}` is there twice", channel.as_str()));
        }
        channels.push(channel);
    }
    match &listed {
        None => channels.push(Channel::Email),
        Some(field) if channels.is_empty() => {
            field.note(FindingCode::InvalidValue, "a stage needs at least one channel: write `channels = [\"email\"]`");
        }
        Some(field) => {
            let first = completes_on.or_else(|| channels.first().copied());
            let copied = first == Some(Channel::Letter)
                && channels.iter().all(|c| [Channel::Letter, Channel::Email].contains(c));
            if enabled && channels.len() > 1 && !copied {
                let message = "this version knows one channel per stage, or a letter that completes the stage with an \
                               e-mail copy: `channels = [\"letter\", \"email\"]`; make the others stages of their own";
                field.note(FindingCode::NotInThisVersion, message);
            }
        }
    }
    if let (Some(field), Some(channel)) = (completes, completes_on)
        && !channels.contains(&channel)
    {
        let message =
            format!("the stage has no channel `{}` that could complete it: add it to `channels`", channel.as_str());
        field.note(FindingCode::Conflict, message);
    }
    (channels, completes_on)
}

fn condition(mut section: Section<'_>, minimums: &Minimums) -> StageCondition {
    let notes = section.notes;
    let min_field = section.get("min");
    let min = min_field.as_ref().and_then(Field::section).map(Section::rest).unwrap_or_default();
    let unread = min.len();
    let min: Amounts = min
        .iter()
        .filter_map(|field| {
            let currency = field.currency_key()?;
            Some(Money::new(field.money(currency)?, currency))
        })
        .collect();
    // A row that could not be read has a finding of its own.
    let is_read = min.iter().count() == unread && !min.is_empty();
    if let Some(field) = min_field.filter(|_| is_read) {
        let known = minimums.currencies().filter(|currency| minimums.of(*currency).is_some());
        let unknown = known.filter(|currency| minimums.of_stage(&min, *currency).is_none());
        let unknown: BTreeSet<String> = unknown.map(|currency| currency.to_string()).collect();
        if !unknown.is_empty() {
            let message = format!(
                "`{}` says nothing about {}: add a row for each, or one in `base_currency` and their `[rates]`",
                field.path,
                unknown.into_iter().collect::<Vec<_>>().join(", ")
            );
            notes.add(FindingCode::NoMinimum, field.key_at, message);
        }
    }
    let kinds = PartyKind::ALL.map(|kind| (kind.as_str(), kind));
    let party_kinds = section.get("party_kind").and_then(|field| field.list()).unwrap_or_default();
    let party_kinds: BTreeSet<PartyKind> = party_kinds.iter().filter_map(|field| field.choice(&kinds)).collect();
    let segments = section.get("segment").and_then(|field| field.list()).unwrap_or_default();
    let segments = segments.iter().filter_map(|field| field.text().map(str::to_owned)).collect();
    section.close();
    StageCondition { min, party_kinds, segments }
}
