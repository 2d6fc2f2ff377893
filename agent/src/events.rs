//! What an action tells while it runs: reads the file of its events as it grows. The action is not trusted with it:
//! size and line length are bounded, a link or a pipe in its place is not followed, and a bad line is only logged.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use spec::event::{Event, MAX_FILE, MAX_LINE, Progress};
use spec::failure::Failure;
use spec::handover::Mode;
use tokio::sync::watch;

use crate::progress::Reporter;
use crate::text::chain;

const LOOK: Duration = Duration::from_millis(200);

/// What an action has told.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Why it fails, by its own account; the last word counts.
    pub failure: Option<Failure>,
    /// What is to happen to the machine after its success.
    pub handover: Option<Mode>,
    /// How far it was last.
    pub progress: Option<Progress>,
}

/// Follows the file until `ended`, and once more then; progress goes out as it comes.
pub async fn follow(path: PathBuf, progress: Reporter, mut ended: watch::Receiver<bool>) -> Told {
    let mut tail = Tail::new(path);
    loop {
        let over = *ended.borrow_and_update();
        tail.read(&progress);
        if over {
            return tail.told;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            // A sender that is gone has nothing more to say either.
            changed = ended.changed() => if changed.is_err() { return tail.told },
        }
    }
}

struct Tail {
    path: PathBuf,
    file: Option<File>,
    offset: u64,
    partial: Vec<u8>,
    /// Skipping the rest of a line that is too long.
    skipping: bool,
    complained: bool,
    told: Told,
}

impl Tail {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            offset: 0,
            partial: Vec::new(),
            skipping: false,
            complained: false,
            told: Told::default(),
        }
    }

    /// Takes in what was added since the last time.
    fn read(&mut self, progress: &Reporter) {
        match self.added() {
            Ok(bytes) => self.take(&bytes, progress),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.complain(&format!("cannot read the events: {error}")),
        }
    }

    fn added(&mut self) -> io::Result<Vec<u8>> {
        if self.file.is_none() {
            let mut options = OpenOptions::new();
            let file = options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&self.path)?;
            if !file.metadata()?.is_file() {
                return Err(io::Error::other("not a regular file"));
            }
            self.file = Some(file);
        }
        let mut bytes = Vec::new();
        if let Some(file) = &mut self.file {
            file.seek(SeekFrom::Start(self.offset))?;
            file.take(MAX_FILE.saturating_sub(self.offset)).read_to_end(&mut bytes)?;
        }
        self.offset += bytes.len() as u64;
        if self.offset >= MAX_FILE {
            self.complain(&format!("the events are not read beyond {MAX_FILE} bytes"));
        }
        Ok(bytes)
    }

    fn take(&mut self, bytes: &[u8], progress: &Reporter) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let ends = piece.ends_with(b"\n");
            if !self.skipping {
                self.partial.extend_from_slice(piece);
            }
            if self.partial.len() > MAX_LINE {
                self.complain(&format!("an event is longer than {MAX_LINE} bytes"));
                self.partial.clear();
                self.skipping = true;
            }
            if ends {
                let line = std::mem::take(&mut self.partial);
                if !std::mem::take(&mut self.skipping) {
                    self.line(&line, progress);
                }
            }
        }
    }

    fn line(&mut self, line: &[u8], progress: &Reporter) {
        let line = String::from_utf8_lossy(line);
        if line.trim().is_empty() {
            return;
        }
        match Event::parse(line.trim_end()) {
            Ok(Event::Progress(how_far)) => {
                self.told.progress = Some(how_far.clone());
                progress.say(how_far);
            }
            Ok(Event::Error(failure)) => self.told.failure = Some(failure),
            Ok(Event::Handover { mode }) => self.told.handover = Some(mode),
            Err(error) => self.complain(&format!("{}: {:?}", chain(&error), line.trim_end())),
        }
    }

    /// Once is enough: a broken action must not fill the log.
    fn complain(&mut self, what: &str) {
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!(file = %self.path.display(), "{what}; further problems with this file are not logged");
        }
    }
}

#[cfg(test)]
mod tests;
