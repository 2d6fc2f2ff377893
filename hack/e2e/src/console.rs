//! The serial console of a machine: every line with the time it came, in memory and in a log file.
//! Whoever waits for a line is woken by it, and told the last lines when it does not come.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How many lines an error shows.
const SHOWN: usize = 15;

/// A line of the console.
#[derive(Clone, Debug)]
pub struct Line {
    /// Since the machine was switched on.
    pub at: Duration,
    /// Without escape sequences and end of line.
    pub text: String,
}

/// What was waited for did not come.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// Not in time.
    #[error("no {wanted:?} on the console within {}s; its log is {log}; its last lines:\n{last}", .after.as_secs())]
    TimedOut {
        /// The texts, any of which would have done.
        wanted: Vec<String>,
        /// How long was waited.
        after: Duration,
        /// Where all lines are.
        log: PathBuf,
        /// The last lines.
        last: String,
    },
    /// The machine said that it can go no further, or was switched off.
    #[error("the machine stopped ({reason}) before {wanted:?}; its log is {log}; its last lines:\n{last}")]
    Stopped {
        /// What it said.
        reason: String,
        /// The texts, any of which would have done.
        wanted: Vec<String>,
        /// Where all lines are.
        log: PathBuf,
        /// The last lines.
        last: String,
    },
}

#[derive(Debug, Default)]
struct Seen {
    lines: Vec<Line>,
    /// What has no end of line yet, as a prompt.
    open: String,
    closed: bool,
    followers: Vec<Sender<Line>>,
}

/// The console; reading ends when the machine's end of it closes.
#[derive(Debug)]
pub struct Console {
    shared: Arc<(Mutex<Seen>, Condvar)>,
    log: PathBuf,
    reader: Option<JoinHandle<()>>,
}

/// What a kernel says when it will not go on.
const FATAL: [&str; 2] = ["Kernel panic - not syncing", "---[ end Kernel panic"];

impl Console {
    /// Starts to read. Every line is also written to `log`.
    pub fn new(input: impl Read + Send + 'static, log: &Path) -> io::Result<Self> {
        let shared = Arc::new((Mutex::default(), Condvar::new()));
        let mut file = File::create(log)?;
        let for_reader = Arc::clone(&shared);
        let reader = std::thread::Builder::new().name("console".into()).spawn(move || {
            read(input, &mut file, &for_reader);
        })?;
        Ok(Self { shared, log: log.to_owned(), reader: Some(reader) })
    }

    /// Where all lines are.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How many lines there are so far; a place to look from.
    pub fn position(&self) -> usize {
        self.seen().lines.len()
    }

    /// The lines from a position on that are there now.
    pub fn lines_from(&self, position: usize) -> Vec<Line> {
        self.seen().lines.get(position..).unwrap_or_default().to_vec()
    }

    /// All lines, those to come included, until the machine is switched off.
    pub fn follow(&self) -> Receiver<Line> {
        let (to, lines) = channel();
        let mut seen = self.seen();
        for line in &seen.lines {
            // Cannot fail: the other end is in this function.
            let _ = to.send(line.clone());
        }
        if !seen.closed {
            seen.followers.push(to);
        }
        lines
    }

    /// Waits for a line that holds one of the texts, at or after a position.
    pub fn wait_for(&self, wanted: &[&str], from: usize, after: Duration) -> Result<Line, ConsoleError> {
        let end = Instant::now() + after;
        let mut seen = self.seen();
        let mut next = from;
        loop {
            if let Some(line) = find(&seen, next, wanted) {
                return Ok(line);
            }
            if let Some(reason) = stopped(&seen, next) {
                return Err(ConsoleError::Stopped {
                    reason,
                    wanted: owned(wanted),
                    log: self.log.clone(),
                    last: last(&seen),
                });
            }
            next = next.max(seen.lines.len());
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ConsoleError::TimedOut {
                    wanted: owned(wanted),
                    after,
                    log: self.log.clone(),
                    last: last(&seen),
                });
            }
            seen = self.shared.1.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // The machine is gone by now, and with it the other end of what the thread reads.
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn owned(wanted: &[&str]) -> Vec<String> {
    wanted.iter().map(|&text| text.to_owned()).collect()
}

fn find(seen: &Seen, from: usize, wanted: &[&str]) -> Option<Line> {
    let open = Line { at: seen.lines.last().map_or(Duration::ZERO, |line| line.at), text: seen.open.clone() };
    let lines = seen.lines.get(from..).unwrap_or_default().iter().chain([&open]);
    lines.into_iter().find(|line| wanted.iter().any(|text| line.text.contains(text))).cloned()
}

fn stopped(seen: &Seen, from: usize) -> Option<String> {
    let lines = seen.lines.get(from..).unwrap_or_default();
    let fatal = lines.iter().find(|line| FATAL.iter().any(|text| line.text.contains(text)));
    fatal.map(|line| line.text.clone()).or_else(|| seen.closed.then(|| "it was switched off".to_owned()))
}

fn last(seen: &Seen) -> String {
    let start = seen.lines.len().saturating_sub(SHOWN);
    let lines: Vec<String> =
        seen.lines[start..].iter().map(|line| format!("  {:7.2} {}", line.at.as_secs_f64(), line.text)).collect();
    lines.join("\n")
}

fn read(mut input: impl Read, log: &mut File, shared: &(Mutex<Seen>, Condvar)) {
    let start = Instant::now();
    let mut buffer = [0; 4096];
    let mut pending = Vec::new();
    loop {
        let n = match input.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => break,
            Ok(n) => n,
        };
        pending.extend_from_slice(&buffer[..n]);
        let mut seen = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(end) = pending.iter().position(|&byte| byte == b'\n') {
            let line = Line { at: start.elapsed(), text: plain(&pending[..end]) };
            pending.drain(..=end);
            // A full disk must not stop the machine: the lines are in memory as well.
            let _ = writeln!(log, "{:9.3} {}", line.at.as_secs_f64(), line.text);
            seen.followers.retain(|follower| follower.send(line.clone()).is_ok());
            seen.lines.push(line);
        }
        seen.open = plain(&pending);
        shared.1.notify_all();
    }
    let mut seen = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
    seen.closed = true;
    seen.followers.clear();
    drop(seen);
    shared.1.notify_all();
}

/// The text without escape sequences and other control characters.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut result = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' if chars.next_if_eq(&'[').is_some() => {
                while chars.next_if(|c| !('@'..='~').contains(c)).is_some() {}
                chars.next();
            }
            '\u{1b}' => {
                chars.next();
            }
            c if c.is_control() && c != '\t' => {}
            c => result.push(c),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn console(text: &'static [u8]) -> (Console, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        (Console::new(text, &dir.path().join("serial.log")).unwrap(), dir)
    }

    #[test]
    fn escape_sequences_are_left_out() {
        assert_eq!(plain(b"[\x1b[0;32m  OK  \x1b[0m] Started\x1bc.\r"), "[  OK  ] Started.");
        assert_eq!(plain(b"\x1b["), "");
    }

    #[test]
    fn a_line_is_found_from_a_position_only_and_a_prompt_without_its_end() {
        let (console, _dir) = console(b"one two\nthree\nlogin: ");
        assert_eq!(console.wait_for(&["login:"], 0, SOON).unwrap().text, "login: ");
        assert_eq!(console.wait_for(&["nine", "two"], 0, SOON).unwrap().text, "one two");
        assert!(matches!(console.wait_for(&["two"], 1, SOON), Err(ConsoleError::Stopped { .. })));
    }

    #[test]
    fn a_panic_ends_the_wait_at_once_with_the_last_lines() {
        let (console, _dir) = console(b"a\n[    1.0] Kernel panic - not syncing: no init\n");
        let error = console.wait_for(&["ready"], 0, SOON).unwrap_err().to_string();
        assert!(error.contains("no init") && error.contains(" a\n"), "{error}");
    }
}
