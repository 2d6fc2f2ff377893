//! What happens, for eyes: the last of it in a ring, the rest live. Nothing that must not be lost is kept here.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use spec::Mac;
use spec::activity::{Activity, What};
use spec::event::Progress;
use tokio::sync::broadcast;

/// How much is replayed to who comes late.
const RING: usize = 4096;
/// How far a live listener may lag behind.
const LIVE: usize = 1024;

/// The longest text that is kept and sent, in bytes; workers write what they like.
const TEXT: usize = 1024;

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
    pub fn pass_on(&self, mut activity: Activity) {
        cut(&mut activity);
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

/// Cuts every text there is.
fn cut(activity: &mut Activity) {
    let Activity { at_ms: _, mac: _, machine, what } = activity;
    let texts: [Option<&mut String>; 5] = match what {
        What::Dhcp { address: _, client } => [Some(client), None, None, None, None],
        What::Refused { asked, why } => [Some(asked), Some(why), None, None, None],
        What::Script { boots } => [Some(boots), None, None, None, None],
        What::File { service, path, bytes: _, total: _, ms: _ } => [Some(service), Some(path), None, None, None],
        What::Phase { phase } => [Some(&mut phase.name), None, None, None, None],
        What::Action { workflow, task, action, state, message } => {
            [Some(workflow), Some(task), Some(action), Some(state), Some(message)]
        }
        What::Progress { workflow, action, progress: Progress { done: _, total: _, unit, message } } => {
            [Some(workflow), Some(action), Some(unit), Some(message), None]
        }
        What::Workflow { workflow, state, message } => [Some(workflow), Some(state), Some(message), None, None],
    };
    for text in texts.into_iter().flatten().chain(machine) {
        if text.len() > TEXT {
            const MORE: &str = "...";
            text.truncate(text.floor_char_boundary(TEXT - MORE.len()));
            text.push_str(MORE);
            text.shrink_to_fit();
        }
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

    #[test]
    fn long_texts_are_cut_wherever_they_are() {
        let log = ActivityLog::new();
        let (_, mut live) = log.listen();
        let long = || "é".repeat(100_000);
        let progress = Progress { unit: long(), message: long(), ..Progress::default() };
        log.tell(None, Some(long()), What::Progress { workflow: "default/w".into(), action: long(), progress });
        log.tell(None, None, What::Refused { asked: long(), why: long() });
        for kept in log.listen().0.into_iter().chain([live.try_recv().unwrap(), live.try_recv().unwrap()]) {
            let json = serde_json::to_string(&kept).unwrap();
            assert!(json.len() < 4 * TEXT + 300, "{}", json.len());
            assert!(json.contains("é...\"") && (json.contains("default/w") || json.contains("refused")), "{json}");
        }
    }
}
