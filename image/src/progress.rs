//! What is being done, for a person who waits: one line of a terminal, rewritten; nothing where nobody looks.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

const RATE: Duration = Duration::from_millis(200);

/// The line.
#[derive(Debug)]
pub struct Progress {
    visible: bool,
    last: Option<Instant>,
}

impl Progress {
    /// On standard error, when that is a terminal.
    pub fn new() -> Self {
        Self { visible: std::io::stderr().is_terminal(), last: None }
    }

    /// A step begins.
    pub fn step(&mut self, what: &str) {
        self.show(what);
    }

    /// A step goes on; shown a few times a second.
    pub fn bytes(&mut self, what: &str, done: u64, total: u64) {
        if self.last.is_none_or(|last| last.elapsed() >= RATE) {
            self.show(&format!("{what}: {} of {} MiB", done >> 20, total.div_ceil(1 << 20)));
        }
    }

    fn show(&mut self, text: &str) {
        self.last = Some(Instant::now());
        if self.visible {
            // A terminal that is gone is no reason to stop.
            let _ = write!(std::io::stderr(), "\r\x1b[K{text}");
            let _ = std::io::stderr().flush();
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.visible && self.last.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
