//! What an action says while it runs: lines for a person on stdout, events for the agent in the file that
//! `IRONHOOK_EVENTS` names, and at its end the result as JSON where that was asked for. Owns the rate of progress.

use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;
use spec::event::{MAX_FILE, MAX_LINE, Progress};
use spec::paths::EVENTS_ENV;
use spec::{Event, Failure};

use crate::failed::Failed;
use crate::input::{Common, Level};

/// At most four events a second.
const EVENT_INTERVAL: Duration = Duration::from_millis(250);
/// Progress leaves this much room for the events that must not be lost.
const ROOM: u64 = 64 << 10;
/// Steps of a plan that are remembered for the result.
const MOST_STEPS: usize = 1000;
/// How long a server may take to accept a result.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where an action reports to.
#[derive(Debug)]
pub struct Report {
    common: Common,
    events: Option<(PathBuf, File)>,
    line_interval: Cell<Duration>,
    last_event: Cell<Option<Instant>>,
    last_line: Cell<Option<Instant>>,
    /// What that line said, until the end of its step.
    said: RefCell<Option<(String, u64, u64)>>,
    plan: RefCell<Vec<String>>,
    facts: RefCell<serde_json::Map<String, serde_json::Value>>,
}

/// What an action was to do and what became of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome<'a> {
    v: u32,
    action: &'a str,
    outcome: &'a str,
    plan: &'a [String],
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    facts: &'a serde_json::Map<String, serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<&'a Failure>,
}

impl Report {
    /// Opens the file of events, if there is to be one.
    pub fn from_environment(common: Common) -> Self {
        let mut report = Self { common, ..Self::silent() };
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
            common: Common::default(),
            events: None,
            line_interval: Cell::new(Duration::from_secs(3)),
            last_event: Cell::new(None),
            last_line: Cell::new(None),
            said: RefCell::new(None),
            plan: RefCell::new(Vec::new()),
            facts: RefCell::default(),
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
        self.line(Level::Info, line);
    }

    /// A line that should not be overlooked.
    pub fn warn(&self, line: &str) {
        match self.common.is_json {
            true => self.line(Level::Warn, line),
            false => self.line(Level::Warn, &format!("warning: {line}")),
        }
    }

    /// One step of what is going to be done, before anything is.
    pub fn plan(&self, step: &str) {
        let mut plan = self.plan.borrow_mut();
        if plan.len() < MOST_STEPS {
            plan.push(step.to_owned());
        }
        self.info(&format!("plan: {step}"));
    }

    /// Something about what was done, for the result.
    pub fn fact(&self, key: &str, value: impl Into<serde_json::Value>) {
        self.facts.borrow_mut().insert(key.to_owned(), value.into());
    }

    fn line(&self, level: Level, line: &str) {
        if level < self.common.level {
            return;
        }
        let word = match level {
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        };
        // A log that nobody reads any more must not stop the work on a disk.
        let _ = match self.common.is_json {
            true => writeln!(io::stdout(), "{}", serde_json::json!({ "level": word, "msg": line })),
            false => writeln!(io::stdout(), "{line}"),
        };
    }

    /// One event, one write; an error of its own when the file is full.
    pub fn event(&self, event: &Event) -> io::Result<()> {
        let Some((_, file)) = &self.events else { return Ok(()) };
        let line = event.to_line();
        if file.metadata()?.len() + line.len().max(MAX_LINE) as u64 > MAX_FILE {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file of events is full"));
        }
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

    /// The reason of a failure, once on stdout and once as the last event; the result where it is wanted.
    pub fn failed(&self, action: &str, failed: &Failed) {
        let failure = failed.failure();
        self.result(action, Some(&failure));
        self.line(Level::Error, &format!("failed: {}", failure.one_line()));
        if let Err(e) = self.event(&Event::Error(failure)) {
            self.warn(&format!("cannot write the event of the failure: {e}"));
        }
    }

    /// The result where it is wanted.
    pub fn succeeded(&self, action: &str) {
        self.result(action, None);
    }

    fn result(&self, action: &str, failure: Option<&Failure>) {
        let Common { is_json, report_path, report_url, .. } = &self.common;
        if !*is_json && report_path.is_none() && report_url.is_none() {
            return;
        }
        let (plan, facts) = (self.plan.borrow(), self.facts.borrow());
        let outcome = if failure.is_some() { "failed" } else { "succeeded" };
        let outcome = Outcome { v: 1, action, outcome, plan: &plan, facts: &facts, failure };
        // Strings and numbers can always be written.
        let text = serde_json::to_string(&outcome).unwrap_or_default();
        if let Some(path) = report_path
            && let Err(e) = std::fs::write(path, format!("{text}\n"))
        {
            self.warn(&format!("cannot write the result to {}: {e}", path.display()));
        }
        if let Some(url) = report_url
            && let Err(e) = send(url, &text)
        {
            self.warn(&format!("the result was not taken: {e}"));
        }
        if *is_json && failure.is_none() {
            let _ = writeln!(io::stdout(), "{text}");
        }
    }
}

fn send(url: &str, text: &str) -> Result<(), fetch::Error> {
    let bytes = text.as_bytes().to_vec();
    let options = fetch::Options { stall: PATIENCE, patience: Duration::ZERO, ..fetch::Options::default() };
    let upload = fetch::push::Upload {
        how: fetch::push::How::Post,
        content_type: "application/json".into(),
        length: Some(bytes.len() as u64),
        body: Box::new(io::Cursor::new(bytes)),
    };
    fetch::push::push(url, &options, upload, &mut || ())
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
    use spec::Code;

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

    fn into(file: &tempfile::NamedTempFile) -> Report {
        let events = OpenOptions::new().append(true).open(file.path()).unwrap();
        Report { events: Some((file.path().to_owned(), events)), ..Report::silent() }
    }

    #[test]
    fn progress_is_limited_and_the_last_one_is_not() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let report = into(&file);
        for done in 0..1000 {
            report.progress("writing", done, 1000);
        }
        report.progress_end("writing", 1000, 1000);
        let text = std::fs::read_to_string(file.path()).unwrap();
        let events: Vec<_> = text.lines().map(|l| Event::parse(l).unwrap()).collect();
        assert!(events.len() < 10, "{}", events.len());
        assert!(matches!(events.last(), Some(Event::Progress(p)) if p.done == 1000));
    }

    #[test]
    fn the_file_of_events_never_grows_beyond_its_limit_and_keeps_room_for_the_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(MAX_FILE - ROOM).unwrap();
        let report = into(&file);
        report.progress_end("writing", 1, 2);
        assert_eq!(file.as_file().metadata().unwrap().len(), MAX_FILE - ROOM, "progress used the room for the end");
        let failure = Failure::new(Code::DiskIo, "x".repeat(3000));
        for _ in 0..1000 {
            let _ = report.event(&Event::Error(failure.clone()));
        }
        let len = file.as_file().metadata().unwrap().len();
        assert!(len <= MAX_FILE && len > MAX_FILE - ROOM, "{len}");
    }
}
