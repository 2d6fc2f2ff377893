//! What was told within the last minute, so that a machine that asks every second fills no log. Bounded.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

const SPAN: Duration = Duration::from_secs(60);
const CAPACITY: usize = 1024;
/// A full table is looked through for what is old this often, not at every message of a flood.
const SWEEP: Duration = Duration::from_secs(1);

/// Things told, with the time.
#[derive(Debug)]
pub(super) struct Recent<T> {
    told: HashMap<T, Instant>,
    swept: Option<Instant>,
}

impl<T: Eq + Hash> Recent<T> {
    pub(super) fn new() -> Self {
        Self { told: HashMap::new(), swept: None }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.told.len()
    }

    /// Whether this is to be told now. While the table is full of things younger than a minute, nothing new is.
    pub(super) fn first(&mut self, thing: T, now: Instant) -> bool {
        if let Some(told) = self.told.get(&thing)
            && now.duration_since(*told) < SPAN
        {
            return false;
        }
        if self.told.len() >= CAPACITY && self.swept.is_none_or(|then| now.duration_since(then) >= SWEEP) {
            self.told.retain(|_, told| now.duration_since(*told) < SPAN);
            self.swept = Some(now);
        }
        let room = self.told.len() < CAPACITY;
        if room {
            self.told.insert(thing, now);
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
