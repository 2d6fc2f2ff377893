//! The line between an executor and the server while an action runs: how far it is (the latest counts), what it writes
//! (soft: the executor never waits for the server), and the other way whether it is to be ended.

use spec::event::Progress;
use tokio::sync::watch;

use crate::backlog::{Lines, Waiting, backlog};

/// Bytes of lines that may wait for the server.
const WAITING: usize = 4 << 20;

/// The executor's end. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reporter {
    progress: watch::Sender<Option<Progress>>,
    log: Lines,
    cancel: watch::Receiver<Option<String>>,
}

/// The server's end.
#[derive(Debug)]
pub struct Listener {
    /// How far it is; ends with the last reporter.
    pub progress: watch::Receiver<Option<Progress>>,
    /// What it writes; ends with the last reporter.
    pub log: Waiting,
    /// Ends it, with the reason.
    pub cancel: watch::Sender<Option<String>>,
}

impl Reporter {
    /// Both ends.
    pub fn new() -> (Self, Listener) {
        let (progress, how_far) = watch::channel(None);
        let (log, lines) = backlog(WAITING);
        let (end, cancel) = watch::channel(None);
        (Self { progress, log, cancel }, Listener { progress: how_far, log: lines, cancel: end })
    }

    /// Says how far it is. Never waits, never fails: progress is soft.
    pub fn say(&self, progress: Progress) {
        self.progress.send_replace(Some(progress));
    }

    /// Passes on what the action writes, a line each, without their ends. Never waits: what the server does not take in
    /// time is only counted; the end of the log is kept elsewhere.
    pub fn log(&self, lines: &[String]) {
        for line in lines {
            self.log.push(line.clone());
        }
    }

    /// Waits until the action is to be ended, and gives the reason. The executor then stops it as after a timeout and
    /// judges it with `Exit::Cancelled`.
    pub async fn cancelled(&self) -> String {
        let mut cancel = self.cancel.clone();
        match cancel.wait_for(Option::is_some).await.map(|reason| reason.clone()) {
            Ok(reason) => reason.unwrap_or_default(),
            // Nobody is left who could end it.
            Err(_) => std::future::pending().await,
        }
    }
}

/// For a person: `writing, 12 of 40 bytes`.
pub fn describe(progress: &Progress) -> String {
    let Progress { done, total, unit, message } = progress;
    let amount = if *total == 0 { format!("{done} {unit}") } else { format!("{done} of {total} {unit}") };
    if message.is_empty() { amount } else { format!("{message}, {amount}") }.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_reads_as_a_phrase() {
        let mut progress = Progress { done: 12, total: 40, unit: "bytes".into(), message: "writing".into() };
        assert_eq!(describe(&progress), "writing, 12 of 40 bytes");
        progress = Progress { total: 0, message: String::new(), unit: String::new(), ..progress };
        assert_eq!(describe(&progress), "12");
    }

    #[tokio::test]
    async fn lines_that_nobody_takes_are_counted_and_the_reason_for_an_end_arrives() {
        let (reporter, mut listener) = Reporter::new();
        reporter.log(&["line".to_owned(), "x".repeat(WAITING)]);
        assert_eq!(listener.log.dropped(), 1);
        assert_eq!(listener.log.recv().await.as_deref(), Some("line"));
        listener.cancel.send_replace(Some("by the operator".into()));
        assert_eq!(reporter.cancelled().await, "by the operator");
    }
}
