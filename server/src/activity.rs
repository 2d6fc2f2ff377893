//! What happens, for eyes: the last of it in a ring, the rest live. Nothing that must not be lost is kept here.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use spec::Mac;
use spec::activity::{Activity, What};
use tokio::sync::broadcast;

/// How much is replayed to who comes late.
const RING: usize = 4096;
/// How far a live listener may lag behind.
const LIVE: usize = 1024;

/// Where everything that happens goes through.
pub struct ActivityLog {
    ring: Mutex<VecDeque<Activity>>,
    live: broadcast::Sender<Activity>,
}

impl ActivityLog {
    /// With nothing in it.
    pub fn new() -> Self {
        Self { ring: Mutex::default(), live: broadcast::channel(LIVE).0 }
    }

    /// Tells of something that happened now.
    pub fn tell(&self, mac: Option<Mac>, machine: Option<String>, what: What) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.pass_on(Activity { at_ms, mac, machine, what });
    }

    /// Tells of something that somebody else has seen.
    pub fn pass_on(&self, activity: Activity) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.len() == RING {
            ring.pop_front();
        }
        ring.push_back(activity.clone());
        // Nobody listening is fine. Sent under the lock, so that a listener's replay and its live part fit together.
        drop(self.live.send(activity));
    }

    /// What was and what will be, without a gap or an overlap.
    pub fn listen(&self) -> (Vec<Activity>, broadcast::Receiver<Activity>) {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        (ring.iter().cloned().collect(), self.live.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_listener_misses_nothing_and_the_ring_is_bounded() {
        let log = ActivityLog::new();
        let tell = |n: usize| log.tell(None, None, What::Script { boots: n.to_string() });
        (0..RING + 5).for_each(tell);
        let (past, mut live) = log.listen();
        tell(99_999);
        assert_eq!(past.len(), RING);
        assert_eq!(past[0].what, What::Script { boots: "5".into() });
        assert_eq!(live.try_recv().unwrap().what, What::Script { boots: "99999".into() });
        assert!(live.try_recv().is_err());
    }
}
