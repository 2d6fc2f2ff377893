//! The bounded channel that services tell what happens. Never waits: what does not fit is counted and gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use spec::Mac;
use spec::activity::{Activity, What};
use tokio::sync::mpsc;

/// A sender that can be cloned into every task.
#[derive(Clone, Debug)]
pub struct Sink {
    sender: mpsc::Sender<Activity>,
    dropped: Arc<AtomicU64>,
}

impl Sink {
    /// Sends into this channel.
    pub fn new(sender: mpsc::Sender<Activity>) -> Self {
        Self { sender, dropped: Arc::default() }
    }

    /// How many did not fit.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn emit(&self, mac: Option<Mac>, machine: Option<String>, what: What) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        if self.sender.try_send(Activity { at_ms, mac, machine, what }).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted() {
        let (sender, mut receiver) = mpsc::channel(1);
        let sink = Sink::new(sender);
        for boots in ["installer", "disk", "disk"] {
            sink.emit(None, None, What::Script { boots: boots.into() });
        }
        assert_eq!(sink.dropped(), 2);
        assert_eq!(receiver.try_recv().unwrap().what, What::Script { boots: "installer".into() });
    }
}
