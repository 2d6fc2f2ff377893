//! The bounded channel that services tell what happens. Never waits: what does not fit is counted and gone.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use spec::Mac;
use spec::activity::{Activity, What};
use tokio::sync::mpsc;

use crate::facts::Facts;

/// What netboot sees.
#[derive(Clone, PartialEq, Debug)]
pub enum Sighting {
    /// For eyes.
    Activity(Activity),
    /// What a machine said of itself.
    Facts(Mac, Box<Facts>),
    /// How far a machine is.
    Step {
        /// Milliseconds since 1970.
        at_ms: u64,
        /// Which.
        mac: Mac,
        /// How far.
        step: Step,
    },
}

/// What happens too often for the activity, kept per machine.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Step {
    /// It looks for servers.
    Discover {
        /// `PXEClient`, `HTTPClient`, `iPXE`, or empty for an operating system.
        client: String,
    },
    /// It was offered something.
    Offer {
        /// `reservation`, `proxy`, `auto`; `4011` for the boot server's port.
        mode: String,
        /// The boot file, if any.
        file: String,
    },
    /// It took the offer of somebody else.
    ChoseOther {
        /// Who that is.
        server: Ipv4Addr,
    },
    /// The loader before showed no sign.
    NextLoader {
        /// What it is sent to now.
        file: String,
    },
    /// A boot script was handed out, for this purpose.
    Script {
        /// `installer`, `disk`, `park`, `custom`, ...
        boots: String,
        /// The rule that decided.
        rule: String,
    },
}

/// A sender that can be cloned into every task.
#[derive(Clone, Debug)]
pub struct Sink {
    sender: mpsc::Sender<Sighting>,
    dropped: Arc<AtomicU64>,
}

impl Sink {
    /// Sends into this channel.
    pub fn new(sender: mpsc::Sender<Sighting>) -> Self {
        Self { sender, dropped: Arc::default() }
    }

    /// How many did not fit.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn emit(&self, mac: Option<Mac>, machine: Option<String>, what: What) {
        self.send(Sighting::Activity(Activity { at_ms: now_ms(), mac, machine, what }));
    }

    pub(crate) fn step(&self, mac: Mac, step: Step) {
        self.send(Sighting::Step { at_ms: now_ms(), mac, step });
    }

    pub(crate) fn facts(&self, mac: Mac, facts: Facts) {
        self.send(Sighting::Facts(mac, Box::new(facts)));
    }

    fn send(&self, sighting: Sighting) {
        if self.sender.try_send(sighting).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
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
        let Sighting::Activity(first) = receiver.try_recv().unwrap() else { panic!("no activity") };
        assert_eq!(first.what, What::Script { boots: "installer".into() });
    }
}
