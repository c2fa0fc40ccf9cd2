//! Every question with its inputs and its answer, in the order in which it was asked.

use std::borrow::Cow;
use std::sync::Arc;

use crate::model::{CalendarMissing, Check, Policy};

/// The checks made so far.
pub(super) struct Trail<'a> {
    policy: &'a Policy,
    checks: Vec<Check>,
    calendar_missing: Option<CalendarMissing>,
}

impl<'a> Trail<'a> {
    pub(super) fn new(policy: &'a Policy) -> Self {
        Self { policy, checks: Vec::new(), calendar_missing: None }
    }

    /// Notes a question; `key` is the configuration key that the rule comes from.
    pub(super) fn note(
        &mut self,
        rule: &'static str,
        passed: bool,
        inputs: impl Into<Cow<'static, str>>,
        key: Option<&str>,
    ) {
        let location = key.and_then(|key| self.policy.location(key)).cloned();
        self.checks.push(Check { rule: rule.into(), passed, inputs: inputs.into(), location });
    }

    /// Notes a question whose rule stands at a known place.
    pub(super) fn note_at(
        &mut self,
        rule: &'static str,
        passed: bool,
        inputs: impl Into<Cow<'static, str>>,
        location: Option<&Arc<str>>,
    ) {
        let location = location.filter(|location| !location.is_empty()).cloned();
        self.checks.push(Check { rule: rule.into(), passed, inputs: inputs.into(), location });
    }

    /// Remembers why the question about the calendar could not be answered, for the task.
    pub(super) fn remember(&mut self, missing: CalendarMissing) {
        self.calendar_missing = Some(missing);
    }

    pub(super) fn calendar_missing(&self) -> Option<&CalendarMissing> {
        self.calendar_missing.as_ref()
    }

    /// What went into that question, when it was asked.
    pub(super) fn said(&self, rule: &str) -> Option<&str> {
        self.checks.iter().rev().find(|check| check.rule == rule).map(|check| &*check.inputs)
    }

    pub(super) fn into_checks(self) -> Vec<Check> {
        self.checks
    }
}
