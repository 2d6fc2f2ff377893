//! What containers say: read line by line from one pipe, into a bounded log, to the console if asked for, and the
//! last lines remembered for the story of a failure.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::console::Console;
use crate::log::{LIMIT, Log};

/// Lines that are remembered.
const TAIL: usize = 20;
/// A program that never ends its line gets one here.
const MAX_LINE: u64 = 16 << 10;
/// A process left behind may hold the pipe open for ever.
const PATIENCE: Duration = Duration::from_secs(1);

/// Which lines go to the console.
#[derive(Clone)]
pub enum Show {
    /// Every line.
    All(Console),
    /// Those of our own programs, which begin with `ironhook:`; the rest stays in the log.
    Own(Console),
    /// None.
    #[cfg(test)]
    Nothing,
}

impl Show {
    /// As the annotation of the component says.
    pub fn of(all: bool, console: &Console) -> Self {
        if all { Self::All(console.clone()) } else { Self::Own(console.clone()) }
    }
}

/// Takes the output of one container, through all its restarts.
pub struct Output {
    writer: PipeWriter,
    tail: Arc<Mutex<VecDeque<String>>>,
    drained: Receiver<()>,
}

impl Output {
    /// Begins to read. `name` is put before lines on the console.
    pub fn start(name: &str, log: &Path, show: Show) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let mut pump =
            Pump { prefix: format!("{name}: "), log: Some(Log::open(log, LIMIT)?), show, tail: Arc::default() };
        let tail = pump.tail.clone();
        let (drained_now, drained) = mpsc::channel();
        thread::Builder::new().name(format!("output of {name}")).spawn(move || {
            pump.run(reader);
            drop(drained_now);
        })?;
        Ok(Self { writer, tail, drained })
    }

    /// An end for a program to write to.
    pub fn stdio(&self) -> io::Result<Stdio> {
        Ok(Stdio::from(File::from(OwnedFd::from(self.writer.try_clone()?))))
    }

    /// The last lines since this was asked before.
    pub fn take_tail(&self) -> Vec<String> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    /// When all writers are gone: the last lines.
    pub fn finish(self) -> Vec<String> {
        let Self { writer, tail, drained } = self;
        drop(writer);
        // Disconnected is what we wait for; after the time is up, what has come has to do.
        let _ = drained.recv_timeout(PATIENCE);
        tail.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }
}

struct Pump {
    prefix: String,
    log: Option<Log>,
    show: Show,
    tail: Arc<Mutex<VecDeque<String>>>,
}

impl Pump {
    fn run(&mut self, pipe: PipeReader) {
        let mut reader = BufReader::new(pipe);
        loop {
            let mut line = Vec::new();
            match reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => self.take(line),
            }
        }
    }

    fn take(&mut self, mut line: Vec<u8>) {
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        // A log that cannot be written must not stop the program that speaks.
        if self.log.as_mut().is_some_and(|log| log.append(&line).is_err()) {
            self.log = None;
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        match &self.show {
            Show::All(console) => console.line(&on_console(&self.prefix, &text)),
            Show::Own(console) if is_ours(&text) => console.line(&on_console(&self.prefix, &text)),
            _ => {}
        }
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(text);
    }
}

fn is_ours(line: &str) -> bool {
    line.starts_with("ironhook:")
}

/// Our own programs say what they have to say themselves; others are told apart by name. What could move the cursor
/// is shown, not sent.
fn on_console(prefix: &str, text: &str) -> String {
    let prefix = if is_ours(text) { "" } else { prefix };
    let shown = text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c });
    prefix.chars().chain(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn our_own_lines_stand_as_they_are() {
        assert_eq!(on_console("worker: ", "ironhook: agent ready"), "ironhook: agent ready");
        assert_eq!(on_console("worker: ", "ironhooked\u{1b}[2J"), "worker: ironhooked\u{fffd}[2J");
    }

    #[test]
    fn all_lines_are_logged_and_the_last_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.log");
        let output = Output::start("x", &path, Show::Nothing).unwrap();
        let mut writer = output.writer.try_clone().unwrap();
        for i in 0..30 {
            writeln!(writer, "line {i}").unwrap();
        }
        write!(writer, "no end").unwrap();
        drop(writer);
        let tail = output.finish();
        assert_eq!((tail.len(), tail[0].as_str(), tail[19].as_str()), (TAIL, "line 11", "no end"));
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 31);
    }
}
