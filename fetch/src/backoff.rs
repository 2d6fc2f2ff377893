//! How long to wait before the next attempt: doubling, capped, jittered, and within a budget that any progress renews.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use crate::Options;

const FIRST: Duration = Duration::from_millis(200);
const CAP: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Backoff {
    patience: Duration,
    most: u32,
    failures: u32,
    since: Option<Instant>,
}

impl Backoff {
    pub(crate) fn new(patience: Duration) -> Self {
        Self { patience, most: u32::MAX, failures: 0, since: None }
    }

    /// As the options say.
    pub(crate) fn of(options: &Options) -> Self {
        Self { most: options.retries.unwrap_or(u32::MAX), ..Self::new(options.patience) }
    }

    /// Bytes came: the budget is whole again.
    pub(crate) fn progress(&mut self) {
        self.failures = 0;
        self.since = None;
    }

    /// The wait before the next attempt, or nothing when the budget is spent.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Duration> {
        let since = *self.since.get_or_insert(now);
        let left = self.patience.saturating_sub(now - since);
        if left.is_zero() || self.failures >= self.most {
            return None;
        }
        let whole = FIRST.saturating_mul(1 << self.failures.min(16)).min(CAP);
        self.failures += 1;
        Some(whole.mul_f64(jitter()).min(left))
    }
}

/// Between a half and one, so that a rack that lost its server does not come back in step.
fn jitter() -> f64 {
    let random = RandomState::new().hash_one(0);
    0.5 + (random as f64 / u64::MAX as f64) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_end_with_the_budget() {
        let start = Instant::now();
        let mut backoff = Backoff::new(Duration::from_secs(60));
        for n in 0..20 {
            let wait = backoff.next(start).unwrap();
            let whole = (FIRST * (1 << n.min(10))).min(CAP);
            assert!(wait <= whole && wait >= whole / 2, "{n}: {wait:?}");
        }
        assert!(backoff.next(start + Duration::from_secs(59)).unwrap() <= Duration::from_secs(1));
        assert_eq!(backoff.next(start + Duration::from_secs(60)), None);
        backoff.progress();
        assert!(backoff.next(start + Duration::from_secs(61)).unwrap() <= FIRST);
    }

    #[test]
    fn attempts_can_be_counted_too() {
        let mut backoff = Backoff::of(&Options { retries: Some(2), ..Options::default() });
        let now = Instant::now();
        assert!(backoff.next(now).is_some() && backoff.next(now).is_some());
        assert_eq!(backoff.next(now), None);
        backoff.progress();
        assert!(backoff.next(now).is_some());
    }

    #[test]
    fn no_patience_means_no_second_attempt() {
        assert_eq!(Backoff::new(Duration::ZERO).next(Instant::now()), None);
    }
}
