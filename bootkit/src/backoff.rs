//! How long to wait before trying again: doubling, capped, jittered, for ever, and never less than a moment.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const CAP: Duration = Duration::from_secs(30);

/// Counts failures in a row.
#[derive(Debug, Default)]
pub struct Backoff(u32);

impl Backoff {
    /// The wait after one more failure.
    pub fn next(&mut self) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.0.min(8)).min(CAP);
        self.0 += 1;
        // So that a rack that lost its registry does not come back in step.
        let random = RandomState::new().hash_one(self.0) as f64 / u64::MAX as f64;
        whole.mul_f64(0.75 + random / 4.0)
    }

    /// It went well.
    pub fn reset(&mut self) {
        self.0 = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_start_again() {
        let mut backoff = Backoff::default();
        for n in 0..12 {
            let (wait, whole) = (backoff.next(), (FIRST * (1 << n.min(6))).min(CAP));
            assert!(wait <= whole && wait >= whole.mul_f64(0.7), "{n}: {wait:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
