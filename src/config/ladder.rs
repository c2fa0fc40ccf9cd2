//! `[ladder.<name>]`: the stages an account climbs. Impossible ladders are refused here, so that none reaches a
//! decision.

use std::collections::{BTreeMap, BTreeSet};

use super::findings::FindingCode;
use super::section::{Field, Section};
use super::tree::Origin;
use crate::model::{
    Amounts, Channel, Demands, Ladder, LadderName, Money, OnUnknown, PLAN_STAGE, PartyKind, Stage, StageCondition,
    StageName, Tone, is_plan_stage,
};

/// Why a stage of a later version is refused in this one.
const NO_TASKS: &str =
    "tasks and approvals do not exist in this version yet: set `enabled = false` or remove the stage";

/// Reads every ladder. `default` must be among them.
pub(super) fn read(section: Option<Section<'_>>, root: &Section<'_>) -> BTreeMap<LadderName, Ladder> {
    let mut ladders = BTreeMap::new();
    let mut names = Vec::new();
    let at = section.as_ref().map_or(root.origin(), Section::origin);
    for field in section.map(Section::rest).unwrap_or_default() {
        names.push(field.key);
        if let Some(ladder) = read_ladder(&field) {
            ladders.insert(ladder.name.clone(), ladder);
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

fn read_ladder(field: &Field<'_>) -> Option<Ladder> {
    let name = field.parsed_key(LadderName::parse, []);
    let mut section = field.section()?;
    let notes = section.notes;
    let at = field.key_at;
    let read: Vec<ReadStage<'_>> = section.sections("stage").into_iter().filter_map(read_stage).collect();
    section.close();

    let mut seen: BTreeMap<&StageName, String> = BTreeMap::new();
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

fn read_stage(mut section: Section<'_>) -> Option<ReadStage<'_>> {
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

    let channels = channels(&mut section, enabled);
    let template = match section.get("template") {
        // A template is a folder of that name: the same letters as a stage, and no way out of the templates folder.
        Some(field) => field.parsed(StageName::parse).map(|name| name.as_str().to_owned()),
        None => name.as_ref().map(|name| name.as_str().to_owned()),
    };
    let gap = section.get("gap").and_then(|field| field.number(1..=365));
    let respond_within = section.get("respond_within").and_then(|field| field.number(1..=365));
    let approval_field = section.get("approval");
    let approval = approval_field.as_ref().and_then(Field::flag).unwrap_or(false);
    let demands = section.get("demands");
    let demands =
        demands.and_then(|f| f.choice(&[("all_overdue", Demands::AllOverdue), ("reached", Demands::Reached)]));
    let on_unknown_field = section.get("on_unknown");
    let on_unknown = on_unknown_field
        .as_ref()
        .and_then(|f| f.choice(&[("review", OnUnknown::Review), ("resend_once", OnUnknown::ResendOnce)]));
    let when = section.section("when").map(condition).unwrap_or_default();
    section.close();

    if enabled {
        let tone_at = tone_field.as_ref().map_or(name_at, Field::origin);
        if let Some(tone @ (Tone::Formal | Tone::Handover)) = tone {
            let message = format!("the tone `{}` needs a person, and {NO_TASKS}", tone.as_str());
            notes.add(FindingCode::NotInThisVersion, tone_at, message);
        }
        if let Some(field) = approval_field.filter(|_| approval) {
            field.note(FindingCode::NotInThisVersion, format!("approval needs a person, and {NO_TASKS}"));
        }
        if let Some(field) = on_unknown_field.filter(|_| on_unknown == Some(OnUnknown::ResendOnce)) {
            let message = "sending again by itself does not exist in this version yet: write `on_unknown = \"review\"`, \
                           and a person decides by `dunningd outbox resolve`";
            field.note(FindingCode::NotInThisVersion, message);
        }
        if let Some(days) = days.filter(|days| *days < 1) {
            let message = format!(
                "a stage at {days} days would write before anything is overdue, and reminders before the due day do \
                 not exist in this version yet: set `enabled = false` or at least 1 day"
            );
            notes.add(FindingCode::NotInThisVersion, days_at, message);
        }
    }
    let tone = tone?;
    let from_final = tone >= Tone::Final;
    let stage = Stage {
        name: name?,
        tone,
        days: days?,
        channels,
        template: template?,
        enabled,
        gap,
        respond_within,
        approval,
        demands: demands.unwrap_or(if from_final { Demands::Reached } else { Demands::AllOverdue }),
        when,
        on_unknown: on_unknown.unwrap_or(OnUnknown::Review),
        location,
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

fn channels(section: &mut Section<'_>, enabled: bool) -> Vec<Channel> {
    let Some(field) = section.get("channels") else { return vec![Channel::Email] };
    let fields = field.list().unwrap_or_default();
    if fields.is_empty() {
        field.note(FindingCode::InvalidValue, "a stage needs at least one channel: write `channels = [\"email\"]`");
    }
    let words = Channel::ALL.map(|channel| (channel.as_str(), channel));
    let mut channels = Vec::new();
    for field in fields {
        let Some(channel) = field.choice(&words) else { continue };
        if channels.contains(&channel) {
            field.note(FindingCode::DuplicateName, format!("the channel `{}` is there twice", channel.as_str()));
        } else if enabled && channel != Channel::Email {
            let message = format!("the channel `{}` needs a person, and {NO_TASKS}", channel.as_str());
            field.note(FindingCode::NotInThisVersion, message);
        }
        channels.push(channel);
    }
    channels
}

fn condition(mut section: Section<'_>) -> StageCondition {
    let min = section.section("min").map(Section::rest).unwrap_or_default();
    let min: Amounts = min
        .iter()
        .filter_map(|field| {
            let currency = field.currency_key()?;
            Some(Money::new(field.money(currency)?, currency))
        })
        .collect();
    let kinds = PartyKind::ALL.map(|kind| (kind.as_str(), kind));
    let party_kinds = section.get("party_kind").and_then(|field| field.list()).unwrap_or_default();
    let party_kinds: BTreeSet<PartyKind> = party_kinds.iter().filter_map(|field| field.choice(&kinds)).collect();
    let segments = section.get("segment").and_then(|field| field.list()).unwrap_or_default();
    let segments = segments.iter().filter_map(|field| field.text().map(str::to_owned)).collect();
    section.close();
    StageCondition { min, party_kinds, segments }
}
