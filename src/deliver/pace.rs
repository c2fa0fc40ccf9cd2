//! How fast letters go: token buckets, with the time as an argument. It is that of a clock nobody can set, from any moment
//! on.

use std::collections::BTreeMap;
use std::time::Duration;

/// Letters an hour; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    pub per_hour: Option<u32>,
    /// To the addresses of one domain.
    pub per_domain_per_hour: Option<u32>,
}

/// What was sent lately, as far as it limits what may be sent now. One per process: it begins full.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    all: TokenBucket,
    domains: BTreeMap<String, TokenBucket>,
}

impl Pace {
    /// The domains that have to wait, while others may go.
    ///
    /// # Errors
    /// How long nothing may go, when nothing may.
    pub fn waiting_domains(&self, limits: Limits, now: Duration) -> Result<Vec<String>, Duration> {
        if let Some(wait) = limits.per_hour.and_then(|limit| self.all.waits(limit, now)) {
            return Err(wait);
        }
        let Some(limit) = limits.per_domain_per_hour else { return Ok(Vec::new()) };
        let waiting = self.domains.iter().filter(|(_, bucket)| bucket.waits(limit, now).is_some());
        Ok(waiting.map(|(domain, _)| domain.clone()).collect())
    }

    /// A letter goes to that domain. Whoever goes although it should wait, because others asked at the same moment,
    /// makes the next one wait longer.
    pub fn took(&mut self, domain: &str, limits: Limits, now: Duration) {
        if let Some(limit) = limits.per_hour {
            self.all.take(limit, now);
        }
        if let Some(limit) = limits.per_domain_per_hour {
            self.domains.retain(|_, bucket| !bucket.is_full(now));
            self.domains.entry(domain.to_owned()).or_default().take(limit, now);
        }
    }
}

/// Tokens that come back evenly over the hour, a tenth of which may be saved up.
#[derive(Debug, Clone, Copy, Default)]
struct TokenBucket {
    /// When it is full again.
    full_at: Option<Duration>,
}

impl TokenBucket {
    /// How long no token is there; `None` when one is.
    fn waits(&self, per_hour: u32, now: Duration) -> Option<Duration> {
        let saved = (per_hour / 10).max(1);
        let at = self.full_at?.saturating_sub(interval(per_hour) * (saved - 1));
        at.checked_sub(now).filter(|wait| !wait.is_zero())
    }

    fn take(&mut self, per_hour: u32, now: Duration) {
        self.full_at = Some(self.full_at.map_or(now, |at| at.max(now)) + interval(per_hour));
    }

    fn is_full(&self, now: Duration) -> bool {
        self.full_at.is_none_or(|at| at <= now)
    }
}

fn interval(per_hour: u32) -> Duration {
    Duration::from_micros(3_600_000_000 / u64::from(per_hour.max(1)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn without_limits_everything_goes() {
        let mut pace = Pace::default();
        for _ in 0..1_000 {
            assert_eq!(pace.waiting_domains(Limits::default(), at(0)), Ok(Vec::new()));
            pace.took("a.test", Limits::default(), at(0));
        }
    }

    #[test]
    fn a_tenth_of_an_hour_goes_at_once_and_the_rest_evenly() {
        let limits = Limits { per_hour: Some(60), per_domain_per_hour: None };
        let mut pace = Pace::default();
        for _ in 0..6 {
            assert_eq!(pace.waiting_domains(limits, at(0)), Ok(Vec::new()));
            pace.took("a.test", limits, at(0));
        }
        assert_eq!(pace.waiting_domains(limits, at(0)), Err(at(60)));
        assert_eq!(pace.waiting_domains(limits, at(60)), Ok(Vec::new()));
    }

    #[test]
    fn a_domain_that_has_had_its_share_does_not_hold_up_the_others() {
        let limits = Limits { per_hour: None, per_domain_per_hour: Some(1) };
        let mut pace = Pace::default();
        pace.took("a.test", limits, at(0));
        pace.took("b.test", limits, at(1800));
        assert_eq!(pace.waiting_domains(limits, at(1800)), Ok(vec!["a.test".into(), "b.test".into()]));
        assert_eq!(pace.waiting_domains(limits, at(3600)), Ok(vec!["b.test".into()]));
        pace.took("c.test", limits, at(9000));
        assert_eq!(pace.domains.len(), 1, "what is full again is forgotten");
    }

    proptest! {
        #[test]
        fn no_hour_sees_more_than_its_limit_and_a_tenth(
            limit in 1..500_u32, gaps in prop::collection::vec(0..120_u64, 1..800),
        ) {
            let limits = Limits { per_hour: Some(limit), per_domain_per_hour: None };
            let (mut pace, mut now, mut sent) = (Pace::default(), 0, Vec::new());
            for gap in gaps {
                now += gap;
                if pace.waiting_domains(limits, at(now)).is_ok() {
                    pace.took("a.test", limits, at(now));
                    sent.push(now);
                }
            }
            for &from in &sent {
                let within = sent.iter().filter(|&&at| (from..from + 3_600).contains(&at)).count();
                prop_assert!(within <= (limit + (limit / 10).max(1)) as usize);
            }
        }
    }
}
