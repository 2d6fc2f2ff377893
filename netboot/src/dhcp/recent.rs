//! What was told within the last minute, so that a machine that asks every second fills no log. Bounded.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

const SPAN: Duration = Duration::from_secs(60);
const CAPACITY: usize = 1024;

/// Things told, with the time.
#[derive(Debug)]
pub(super) struct Recent<T>(HashMap<T, Instant>);

impl<T: Eq + Hash> Recent<T> {
    pub(super) fn new() -> Self {
        Self(HashMap::new())
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether this is to be told now. While the table is full of things younger than a minute, nothing new is.
    pub(super) fn first(&mut self, thing: T, now: Instant) -> bool {
        if let Some(told) = self.0.get(&thing)
            && now.duration_since(*told) < SPAN
        {
            return false;
        }
        if self.0.len() >= CAPACITY {
            self.0.retain(|_, told| now.duration_since(*told) < SPAN);
        }
        let room = self.0.len() < CAPACITY;
        if room {
            self.0.insert(thing, now);
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_a_minute_and_never_more_than_fits() {
        let (mut recent, start) = (Recent::new(), Instant::now());
        assert!(recent.first(0, start));
        assert!(!recent.first(0, start + SPAN / 2));
        assert!(recent.first(0, start + SPAN));
        let told = (1..5000).filter(|i| recent.first(*i, start + SPAN)).count();
        assert_eq!(told, CAPACITY - 1);
        assert!(recent.first(5000, start + 2 * SPAN));
    }
}
