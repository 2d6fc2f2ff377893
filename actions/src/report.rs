//! What an action says while it runs: lines for a person on stdout, events for the agent in the file that
//! `IRONHOOK_EVENTS` names. Without that variable no event is written. Owns the rate of progress.

use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use spec::Event;
use spec::event::{MAX_FILE, Progress};
use spec::paths::EVENTS_ENV;

use crate::failed::Failed;

/// At most four events a second.
const EVENT_INTERVAL: Duration = Duration::from_millis(250);
/// Progress leaves this much room for the events that must not be lost.
const ROOM: u64 = 64 << 10;

/// Where an action reports to.
#[derive(Debug)]
pub struct Report {
    events: Option<(PathBuf, File)>,
    line_interval: Cell<Duration>,
    last_event: Cell<Option<Instant>>,
    last_line: Cell<Option<Instant>>,
    /// What that line said, until the end of its step.
    said: RefCell<Option<(String, u64, u64)>>,
}

impl Report {
    /// Opens the file of events, if there is to be one.
    pub fn from_environment() -> Self {
        let mut report = Self::silent();
        if let Some(path) = std::env::var_os(EVENTS_ENV).filter(|p| !p.is_empty()).map(PathBuf::from) {
            match OpenOptions::new().append(true).create(true).open(&path) {
                Ok(file) => report.events = Some((path, file)),
                Err(e) => report.warn(&format!("cannot open {} for events: {e}", path.display())),
            }
        }
        report
    }

    /// Without a file of events.
    pub fn silent() -> Self {
        Self {
            events: None,
            line_interval: Cell::new(Duration::from_secs(3)),
            last_event: Cell::new(None),
            last_line: Cell::new(None),
            said: RefCell::new(None),
        }
    }

    /// Whether someone reads events.
    pub fn has_events(&self) -> bool {
        self.events.is_some()
    }

    /// How often progress is a line on stdout.
    pub fn set_line_interval(&self, interval: Duration) {
        self.line_interval.set(interval);
    }

    /// A line of the human log.
    pub fn info(&self, line: &str) {
        // A log that nobody reads any more must not stop the work on a disk.
        let _ = writeln!(io::stdout(), "{line}");
    }

    /// A line that should not be overlooked.
    pub fn warn(&self, line: &str) {
        self.info(&format!("warning: {line}"));
    }

    /// One event, one write.
    pub fn event(&self, event: &Event) -> io::Result<()> {
        let Some((_, file)) = &self.events else { return Ok(()) };
        let line = event.to_line();
        let mut file = file;
        match file.write(line.as_bytes())? {
            n if n == line.len() => Ok(()),
            n => Err(io::Error::new(io::ErrorKind::WriteZero, format!("{n} of {} bytes written", line.len()))),
        }
    }

    /// How far we are; dropped when the last one was a moment ago.
    pub fn progress(&self, message: &str, done: u64, total: u64) {
        self.tell(message, done, total, false);
    }

    /// The last progress of a step, never dropped.
    pub fn progress_end(&self, message: &str, done: u64, total: u64) {
        self.tell(message, done, total, true);
    }

    fn tell(&self, message: &str, done: u64, total: u64, last: bool) {
        if last || due(&self.last_event, EVENT_INTERVAL) {
            let progress = Progress { done, total, unit: "bytes".into(), message: message.into() };
            let room =
                self.events.as_ref().and_then(|(_, f)| f.metadata().ok()).is_some_and(|m| m.len() + ROOM < MAX_FILE);
            if room && let Err(e) = self.event(&Event::Progress(progress)) {
                self.warn(&format!("cannot write an event: {e}"));
            }
        }
        let is_due = last || due(&self.last_line, self.line_interval.get());
        if is_due && self.is_news(message, done, total, last) {
            match total {
                0 => self.info(&format!("{message}: {}", size(done))),
                _ => self.info(&format!("{message}: {} of {} ({} %)", size(done), size(total), percent(done, total))),
            }
        }
    }

    /// Whether the last line of this step said something else.
    fn is_news(&self, message: &str, done: u64, total: u64, last: bool) -> bool {
        let now = Some((message.to_owned(), done, total));
        let before = self.said.replace(now.clone().filter(|_| !last));
        before != now
    }

    /// The reason of a failure, once on stdout and once as the last event.
    pub fn failed(&self, failed: &Failed) {
        let failure = failed.failure();
        self.info(&format!("failed: {}", failure.one_line()));
        if let Err(e) = self.event(&Event::Error(failure)) {
            self.warn(&format!("cannot write the event of the failure: {e}"));
        }
    }
}

fn due(last: &Cell<Option<Instant>>, interval: Duration) -> bool {
    let now = Instant::now();
    let due = last.get().is_none_or(|last| now - last >= interval);
    if due {
        last.set(Some(now));
    }
    due
}

fn percent(done: u64, total: u64) -> u64 {
    (u128::from(done) * 100 / u128::from(total.max(1))) as u64
}

/// A size for a person: `1.5 GiB`.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"].iter();
    let mut unit = units.next().copied().unwrap_or_default();
    while value >= 1024.0
        && let Some(next) = units.next()
    {
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        for (bytes, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (10 << 30, "10.0 GiB")] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn the_end_of_a_step_is_said_once() {
        let report = Report::silent();
        for _ in 0..2 {
            assert!(report.is_news("writing", 5, 9, false));
            assert!(report.is_news("writing", 9, 9, false));
            assert!(!report.is_news("writing", 9, 9, true));
        }
        assert!(report.is_news("verifying", 9, 9, true));
        assert!(report.is_news("verifying", 9, 9, true), "another step");
    }

    #[test]
    fn progress_is_limited_and_the_last_one_is_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let events = OpenOptions::new().append(true).open(file.path()).unwrap();
        let report = Report { events: Some((file.path().to_owned(), events)), ..Report::silent() };
        for done in 0..1000 {
            report.progress("writing", done, 1000);
        }
        report.progress_end("writing", 1000, 1000);
        let text = std::fs::read_to_string(file.path()).unwrap();
        let events: Vec<_> = text.lines().map(|l| Event::parse(l).unwrap()).collect();
        assert!(events.len() < 10, "{}", events.len());
        assert!(matches!(events.last(), Some(Event::Progress(p)) if p.done == 1000));
    }
}
