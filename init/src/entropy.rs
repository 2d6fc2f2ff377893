//! Random numbers that can be relied on, as a phase of the boot. The kernel gathers while the boot goes on, and a
//! machine that has none is told of, not waited for.

use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use spec::phase::Phase;

use crate::console::Console;
use crate::timeline::Timeline;

/// After this long the boot goes on without.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waiting that has begun.
pub struct Waiting {
    start_ms: u64,
    ready: Receiver<u64>,
}

/// Has the kernel begin to gather, in a thread of its own: only while someone waits does it do what it can.
pub fn begin() -> Waiting {
    let (tell, ready) = mpsc::channel();
    thread::spawn(move || {
        if sys::entropy::wait().is_ok() {
            // Nobody listens any more when it took too long.
            let _ = tell.send(sys::clock::boot_ms());
        }
    });
    Waiting { start_ms: sys::clock::boot_ms(), ready }
}

impl Waiting {
    /// The phase, when its time has come.
    pub fn end(self, console: &Console, timeline: &mut Timeline) {
        match self.ready.recv_timeout(PATIENCE) {
            Ok(end_ms) => {
                let duration_ms = end_ms.saturating_sub(self.start_ms);
                timeline.record(&Phase { name: "entropy".to_owned(), start_ms: self.start_ms, duration_ms });
            }
            Err(_) => console.say(&format!(
                "warning: no entropy after {} s, going on without: TLS waits until the kernel has gathered some; \
                 give the machine a hardware generator (RDRAND, TPM, virtio-rng)",
                PATIENCE.as_secs()
            )),
        }
    }
}
