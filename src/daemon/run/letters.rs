//! From the decisions of a page to what will be sent or given to a person, frozen.

use chrono::{Days, NaiveDate};
use uuid::Uuid;

use crate::config::Recipients;
use crate::daemon::compose;
use crate::daemon::window::{SendWindow, send_windows};
use crate::decide::{days_with_a_person, ladder_of, needs_approval};
use crate::deliver;
use crate::model::{
    Channel, Contacting, Decision, EmailAddress, Letter, Mailbox, OnUnknown, ReasonCode, Snapshot, Tone, Verdict,
    without_encoded_words,
};
use crate::record::{Planned, PlannedCopy};

use super::{Concluded, Run};

impl Run<'_> {
    /// Gives every contact its frozen content. Whatever cannot be rendered is not sent: the decision says so.
    pub(super) fn letters(&self, concluded: &mut [Concluded]) {
        for one in concluded.iter_mut().filter(|one| one.planned.is_none()) {
            let Verdict::Contact(contacting) = &one.decision.verdict else { continue };
            let send_windows = self.send_windows(&one.snapshot, contacting.tone);
            let valid_until = self.valid_until(&one.snapshot, &one.decision, one.snapshot.approvals.all);
            let opens_in_time =
                |window: &SendWindow| window.from.with_timezone(&self.creditor.time_zone).date_naive() <= valid_until;
            if send_windows.as_ref().is_some_and(|windows| !windows.iter().any(opens_in_time)) {
                let zone = match one.snapshot.account.time_zone {
                    Some(_) => "",
                    None => " (nobody knows his `time_zone`, so the hours are those of his country)",
                };
                let problem =
                    format!("no hour of the send window is left on the days for which the letter would be true{zone}");
                one.decision.withdraw(ReasonCode::OutsideSendDays, &problem);
                continue;
            }
            match self.compose(&one.snapshot, &one.decision, contacting) {
                Ok(planned) => {
                    let windows = send_windows.unwrap_or_default();
                    let send_windows = windows.into_iter().map(|window| (window.from, window.to)).collect();
                    one.planned = Some(Planned { send_windows, ..planned });
                }
                Err(problem) => one.decision.withdraw(ReasonCode::NoTemplate, &problem),
            }
        }
    }

    /// The last day on which a notice may go out: as long as its text is true, which is longer where it waits for a person,
    /// when `waits` or when its decision asks for one; and not into a quiet period.
    pub(in crate::daemon) fn valid_until(&self, snapshot: &Snapshot, decision: &Decision, waits: bool) -> NaiveDate {
        let policy = &self.live.config.policy;
        let posted = matches!(&decision.verdict, Verdict::Contact(one) if one.channel == Channel::Letter);
        // Who posts a letter needs the time of one who approves.
        let by_a_person = waits || posted || needs_approval(policy, snapshot, decision).is_some();
        let tone = match &decision.verdict {
            Verdict::Contact(contacting) => contacting.tone,
            Verdict::No { .. } => Tone::Friendly,
        };
        let account = &snapshot.account;
        let country = account.country.or(Some(self.creditor.country));
        let with_a_person = || days_with_a_person(policy, tone, country, account.party_kind);
        let days = if by_a_person { with_a_person() } else { policy.valid_days };
        let days = self.today.iter_days().take(usize::try_from(days).unwrap_or_default().saturating_add(1));
        let quiet = self.quiet(snapshot, tone);
        days.take_while(|day| !quiet(*day)).last().unwrap_or(self.today)
    }

    /// The days on which nothing in that tone goes out.
    fn quiet(&self, snapshot: &Snapshot, tone: Tone) -> impl Fn(NaiveDate) -> bool {
        let country = snapshot.account.country.unwrap_or(self.creditor.country);
        let calendars = &self.live.config.policy.calendars;
        move |day| calendars.keeps_quiet(country, tone, day)
    }

    /// The hours in which a notice planned now may go out. Where the domain clock stands still, as with `--as-of`, they
    /// would never come: nothing is deferred there. As far as the text of a notice that waits for approval stays true:
    /// a brake may yet make any of them wait.
    pub(in crate::daemon) fn send_windows(&self, snapshot: &Snapshot, tone: Tone) -> Option<Vec<SendWindow>> {
        if self.clock.stands_still() {
            return None;
        }
        let policy = &self.live.config.policy;
        let last = self.today + Days::new(u64::from(policy.valid_days.max(policy.approval.valid_days)));
        let (days, quiet) = ((self.today, last), self.quiet(snapshot, tone));
        send_windows(policy, self.creditor, &snapshot.account, days, quiet, self.clock.now())
    }

    pub(in crate::daemon) fn compose(
        &self,
        snapshot: &Snapshot,
        decision: &Decision,
        contacting: &Contacting,
    ) -> Result<Planned, String> {
        let policy = &self.live.config.policy;
        let payments_as_of = snapshot.freshness.map_or(self.clock.now(), |freshness| freshness.payments_as_of);
        let letter = compose::letter(policy, self.creditor, snapshot, decision, contacting, payments_as_of);
        if letter.protocol_claim && contacting.channel != Channel::Letter {
            return Err("a claim against a natural person in Great Britain is posted, not sent by e-mail".to_owned());
        }
        let notice = self.shell.clock.new_id();
        let redirect_to = match self.recipients() {
            Some(Recipients::Redirect(to)) => Some(to.clone()),
            _ => None,
        };
        let rendered = |letter: &Letter| {
            let mut rendered = self.live.templates.render(letter).map_err(|error| error.to_string())?;
            if let Some(instead_of) = contacting.recipient.as_ref().filter(|_| redirect_to.is_some()) {
                let subject = format!("[trial: not sent to {instead_of}] {}", rendered.subject);
                rendered.subject = without_encoded_words(&subject);
            }
            Ok::<_, String>(rendered)
        };
        let e_mail = |notice: Uuid, to: &EmailAddress, letter: &Letter| {
            let message_id = format!("<n.{notice}@{}>", self.creditor.sender.domain());
            let now = self.clock.now();
            let mut mail = compose::mail(self.creditor, snapshot, contacting, to.clone(), message_id.clone(), now);
            if let Some(to) = &redirect_to {
                mail.to = Mailbox { name: None, address: to.clone() };
            }
            let bytes = deliver::build(&mail, &rendered(letter)?).map_err(|error| error.to_string())?;
            Ok::<_, String>((message_id, bytes))
        };
        let mut copy = None;
        let (to, message_id, bytes) = match (contacting.channel, &contacting.recipient) {
            (Channel::Email, Some(to)) => {
                let (message_id, bytes) = e_mail(notice, to, &letter)?;
                (redirect_to.as_ref().unwrap_or(to).to_string(), message_id, bytes)
            }
            (Channel::Email, None) => return Err("there is no address to send it to".to_owned()),
            (channel, copied_to) => {
                if let Some(copied_to) = copied_to {
                    let notice = self.shell.clock.new_id();
                    let copied = Letter { copy_of_post: true, ..letter.clone() };
                    let (message_id, bytes) = e_mail(notice, copied_to, &copied)?;
                    copy = Some(PlannedCopy { notice, message_id, bytes });
                }
                let posted_to = || snapshot.account.postal_address.clone();
                let to = contacting.phone.clone().or_else(|| posted_to().filter(|_| channel == Channel::Letter));
                let rendered = rendered(&letter)?;
                let text = format!("{}\n\n{}", rendered.subject, rendered.text);
                (to.unwrap_or_default(), String::new(), text.into_bytes())
            }
        };
        let approval = needs_approval(policy, snapshot, decision);
        let ladder = ladder_of(policy, snapshot);
        let stage = ladder.stages.iter().find(|stage| stage.name == contacting.stage);
        Ok(Planned {
            notice,
            copy,
            attempts: stage.map_or(1, |stage| stage.attempts),
            contacting: contacting.clone(),
            to,
            on_unknown: stage.map_or(OnUnknown::Review, |stage| stage.on_unknown),
            message_id,
            sender: self.creditor.sender.clone(),
            bytes,
            salt: rand::random(),
            send_windows: Vec::new(),
            valid_until: self.valid_until(snapshot, decision, false),
            as_of: self.request.as_of,
            fingerprint: String::new(),
            letter: serde_json::to_string(&letter).unwrap_or_default(),
            approval,
            redirect_to,
        })
    }
}
