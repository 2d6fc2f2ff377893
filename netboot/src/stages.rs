//! Which loader a machine was sent to, and whether it has shown a sign since: the next in its list is offered when one
//! stays silent. Bounded, in memory only; a machine that does not fit gets the first of its list.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use spec::Mac;

/// Machines that are followed at the same time.
const CAPACITY: usize = 4096;
/// What nobody asked about for so long is forgotten.
const FORGET: Duration = Duration::from_secs(3600);

/// The loaders under way.
#[derive(Debug, Default)]
pub struct Stages(Mutex<HashMap<Mac, Stage>>);

#[derive(Clone, Copy, Debug)]
struct Stage {
    index: usize,
    since: Instant,
    sign: bool,
}

impl Stages {
    /// Which of `count` loaders is this machine's turn, and whether that is a new one.
    pub fn choose(&self, mac: Mac, count: usize, patience: Duration, now: Instant) -> (usize, bool) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stage) = table.get_mut(&mac) {
            let silent = !stage.sign && now.duration_since(stage.since) >= patience;
            if silent {
                stage.index += 1;
            }
            // One that has worked is begun with again, and its patience anew.
            if silent || stage.sign {
                (stage.since, stage.sign) = (now, false);
            }
            return (stage.index % count.max(1), silent);
        }
        if table.len() >= CAPACITY {
            table.retain(|_, stage| now.duration_since(stage.since) < FORGET);
        }
        if table.len() < CAPACITY {
            table.insert(mac, Stage { index: 0, since: now, sign: false });
        }
        (0, false)
    }

    /// What was loaded runs.
    pub fn sign(&self, mac: Mac) {
        if let Some(stage) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&mac) {
            stage.sign = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::MAC;

    const PATIENCE: Duration = Duration::from_secs(180);

    #[test]
    fn the_next_loader_comes_after_silence_only() {
        let (stages, start) = (Stages::default(), Instant::now());
        let choose = |seconds| stages.choose(MAC, 2, PATIENCE, start + Duration::from_secs(seconds)).0;
        // A firmware asks several times within a boot.
        assert_eq!([choose(0), choose(4), choose(100)], [0, 0, 0]);
        assert_eq!([choose(200), choose(210)], [1, 1]);
        stages.sign(MAC);
        assert_eq!([choose(1000), choose(1100)], [1, 1], "what has worked is kept");
        assert_eq!([choose(1300), choose(1500)], [0, 1], "and the list goes round");
    }

    #[test]
    fn a_flood_of_strangers_is_bounded() {
        let (stages, now) = (Stages::default(), Instant::now());
        for i in 0..100_000_u32 {
            let [a, b, c, d] = i.to_be_bytes();
            stages.choose(Mac::new([2, 0, a, b, c, d]), 2, PATIENCE, now);
        }
        assert_eq!(stages.0.lock().unwrap().len(), CAPACITY);
    }
}
