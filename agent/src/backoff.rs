//! How long to wait before the next try: doubling, capped, jittered so that a rack of machines does not knock in step.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);

/// The waits of one series of tries.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    cap: Duration,
}

impl Backoff {
    /// Starts at a quarter of a second, ends at `cap`.
    pub fn new(cap: Duration) -> Self {
        Self { next: FIRST.min(cap), cap }
    }

    /// Waits for its turn.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.step(random())).await;
    }

    /// The next wait: between half and all of the doubling value.
    fn step(&mut self, random: u64) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(self.cap);
        let half = full / 2;
        half + half.mul_f64(random as f64 / u64::MAX as f64)
    }
}

/// The seed of a hash map is random enough for spreading load.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_never_vanish() {
        let mut backoff = Backoff::new(Duration::from_secs(1));
        let most: Vec<u128> = (0..4).map(|_| backoff.step(u64::MAX).as_millis()).collect();
        assert_eq!(most, [250, 500, 1000, 1000]);
        assert_eq!(backoff.step(0), Duration::from_millis(500));
    }
}
