//! How far an action is, from whoever knows (pull, events) to the server: the latest counts, older ones are dropped.

use spec::event::Progress;
use tokio::sync::watch;

/// Where an executor says how far it is. Cheap to clone; ends when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Reporter(watch::Sender<Option<Progress>>);

impl Reporter {
    /// A reporter and where it is read.
    pub fn new() -> (Self, watch::Receiver<Option<Progress>>) {
        let (sender, receiver) = watch::channel(None);
        (Self(sender), receiver)
    }

    /// Says how far it is. Never waits, never fails: progress is soft.
    pub fn say(&self, progress: Progress) {
        self.0.send_replace(Some(progress));
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
}
