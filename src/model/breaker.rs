//! When to stop trying, and when to try again: a circuit breaker as a value, with time and chance as arguments.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// What a breaker protects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerKind {
    /// The relay: subject is `host:port`.
    Relay,
    /// The sender's address of a creditor: subject is the creditor.
    Sender,
    /// A letter: subject is `stage/language`.
    Content,
}

impl BreakerKind {
    /// The one text form.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Sender => "sender",
            Self::Content => "content",
        }
    }
}

/// After how many failures a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerRule {
    /// Failures in a row.
    pub failures: u32,
    /// The first wait; it doubles each time the probe fails.
    pub first: Duration,
    /// The longest wait, before the tenth that chance may add.
    pub last: Duration,
}

/// Closed, open until a moment, or half open: then one message or session is the probe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Breaker {
    /// In a row, since the last success.
    pub failures: u32,
    /// How often it opened in a row.
    pub opened: u32,
    /// Of the last failure, in our words.
    pub cause: String,
    /// Nothing goes before that.
    pub until: Option<DateTime<Utc>>,
    /// A probe is on its way, and `until` is how long it may take.
    pub probing: bool,
}

/// What a breaker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    Go,
    /// One, and the others after it has succeeded.
    Probe,
    Wait(DateTime<Utc>),
}

impl Breaker {
    /// Whether something may go now.
    #[must_use]
    pub fn permit(&self, now: DateTime<Utc>) -> Permit {
        match self.until {
            None => Permit::Go,
            Some(until) if now < until => Permit::Wait(until),
            Some(_) => Permit::Probe,
        }
    }

    /// The probe is on its way: nobody else goes for as long as it may take. One that never ends, because its process
    /// died, is followed by another.
    #[must_use]
    pub fn probing(self, now: DateTime<Utc>, at_most: Duration) -> Self {
        Self { until: Some(later(now, at_most)), probing: true, ..self }
    }

    /// One more failure. What was on its way when the breaker opened does not open it again. `jitter` is 0 to 999.
    #[must_use]
    pub fn failed(self, rule: BreakerRule, now: DateTime<Utc>, cause: &str, jitter: u32) -> Self {
        let failures = self.failures.saturating_add(1);
        let cause = cause.to_owned();
        let is_open = !self.probing && matches!(self.permit(now), Permit::Wait(_));
        if is_open || failures < rule.failures {
            return Self { failures, cause, ..self };
        }
        let wait = backoff(self.opened, rule.first, rule.last, jitter);
        Self { failures, opened: self.opened.saturating_add(1), cause, until: Some(later(now, wait)), probing: false }
    }
}

/// The first wait doubled so many times, up to the last, with up to a tenth more so that what was down is not met by
/// everything at once. `jitter` is 0 to 999.
#[must_use]
pub fn backoff(times: u32, first: Duration, last: Duration, jitter: u32) -> Duration {
    let wait = first.saturating_mul(2_u32.saturating_pow(times.min(20))).min(last);
    wait + wait / 10 * jitter.min(999) / 1_000
}

fn later(now: DateTime<Utc>, wait: Duration) -> DateTime<Utc> {
    chrono::Duration::from_std(wait).ok().and_then(|wait| now.checked_add_signed(wait)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULE: BreakerRule = BreakerRule { failures: 3, first: Duration::from_mins(5), last: Duration::from_mins(67) };

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + chrono::Duration::minutes(minutes)
    }

    fn failed(breaker: Breaker, minutes: i64) -> Breaker {
        breaker.failed(RULE, at(minutes), "connection refused", 0)
    }

    #[test]
    fn the_third_failure_in_a_row_opens_it_for_five_minutes_and_each_failed_probe_for_twice_as_long() {
        let mut breaker = Breaker::default();
        for n in 0..2 {
            assert_eq!(breaker.permit(at(n)), Permit::Go);
            breaker = failed(breaker, n);
        }
        breaker = failed(breaker, 2);
        let mut now = 2;
        for wait in [5, 10, 20, 40, 67, 67] {
            assert_eq!(breaker.permit(at(now)), Permit::Wait(at(now + wait)));
            assert_eq!(breaker.permit(at(now + wait) - chrono::Duration::seconds(1)), Permit::Wait(at(now + wait)));
            now += wait;
            assert_eq!(breaker.permit(at(now)), Permit::Probe);
            breaker = breaker.probing(at(now), Duration::from_mins(2));
            assert_eq!(breaker.permit(at(now)), Permit::Wait(at(now + 2)), "one probe at a time");
            breaker = failed(breaker, now);
        }
    }

    #[test]
    fn what_was_on_its_way_when_it_opened_does_not_make_the_wait_longer() {
        let open = (0..3).fold(Breaker::default(), |breaker, _| failed(breaker, 0));
        let later = failed(open.clone(), 1);
        assert_eq!((later.until, later.opened), (open.until, 1));
    }

    #[test]
    fn a_probe_that_never_ends_is_followed_by_another() {
        let open = (0..3).fold(Breaker::default(), |breaker, _| failed(breaker, 0));
        let probing = open.probing(at(5), Duration::from_mins(2));
        assert_eq!(probing.permit(at(7)), Permit::Probe);
    }

    proptest! {
        #[test]
        fn it_is_never_closed_after_enough_failures_nor_longer_than_its_longest_wait(
            steps in prop::collection::vec((0..200_i64, any::<bool>(), 0..2_000_u32), 1..60),
        ) {
            let (mut breaker, mut now, mut in_a_row) = (Breaker::default(), 0, 0);
            for (minutes, success, jitter) in steps {
                now += minutes;
                let permit = breaker.permit(at(now));
                prop_assert_eq!(permit == Permit::Go, in_a_row < RULE.failures);
                if let Permit::Wait(until) = permit {
                    prop_assert!(until <= at(now) + chrono::Duration::seconds(67 * 66));
                    continue;
                }
                if permit == Permit::Probe {
                    breaker = breaker.probing(at(now), Duration::from_mins(2));
                }
                if success {
                    (breaker, in_a_row) = (Breaker::default(), 0);
                } else {
                    breaker = breaker.failed(RULE, at(now), "x", jitter);
                    in_a_row += 1;
                }
            }
        }
    }
}
