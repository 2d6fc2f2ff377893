//! Lines on their way to somebody slower: bounded in bytes and never waited for; what does not fit is counted.
//! Must not look at the lines.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::mpsc;

/// What a line costs beside its bytes.
const OVERHEAD: usize = 64;

/// The end where lines come in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Lines {
    sender: mpsc::UnboundedSender<String>,
    fill: Arc<Fill>,
}

/// The end where they are taken.
#[derive(Debug)]
pub struct Waiting {
    receiver: mpsc::UnboundedReceiver<String>,
    fill: Arc<Fill>,
}

#[derive(Debug)]
struct Fill {
    most: usize,
    bytes: AtomicUsize,
    dropped: AtomicU64,
}

/// Both ends of one that holds at most so many bytes.
pub fn backlog(most: usize) -> (Lines, Waiting) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let fill = Arc::new(Fill { most, bytes: AtomicUsize::new(0), dropped: AtomicU64::new(0) });
    (Lines { sender, fill: Arc::clone(&fill) }, Waiting { receiver, fill })
}

impl Lines {
    /// Adds a line, or counts it as lost.
    pub fn push(&self, line: String) {
        let size = line.len() + OVERHEAD;
        let before = self.fill.bytes.fetch_add(size, Ordering::Relaxed);
        if before + size > self.fill.most || self.sender.send(line).is_err() {
            self.fill.bytes.fetch_sub(size, Ordering::Relaxed);
            self.fill.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Waiting {
    /// The next line; none when nobody is left who could add one.
    pub async fn recv(&mut self) -> Option<String> {
        let line = self.receiver.recv().await;
        line.map(|line| self.taken(line))
    }

    /// The same, for a thread of its own.
    pub fn blocking_recv(&mut self) -> Option<String> {
        let line = self.receiver.blocking_recv();
        line.map(|line| self.taken(line))
    }

    /// How many lines were lost since this was asked last.
    pub fn dropped(&self) -> u64 {
        self.fill.dropped.swap(0, Ordering::Relaxed)
    }

    fn taken(&self, line: String) -> String {
        self.fill.bytes.fetch_sub(line.len() + OVERHEAD, Ordering::Relaxed);
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_does_not_fit_is_counted_and_room_comes_back() {
        let (lines, mut waiting) = backlog(2 * (OVERHEAD + 3));
        for line in ["one", "two", "six"] {
            lines.push(line.to_owned());
        }
        assert_eq!((waiting.dropped(), waiting.dropped()), (1, 0));
        assert_eq!(waiting.recv().await.as_deref(), Some("one"));
        lines.push("ten".to_owned());
        drop(lines);
        assert_eq!(waiting.recv().await.as_deref(), Some("two"));
        assert_eq!(waiting.recv().await.as_deref(), Some("ten"));
        assert_eq!((waiting.recv().await, waiting.dropped()), (None, 0));
    }
}
