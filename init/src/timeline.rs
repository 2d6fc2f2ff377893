//! The phases of the boot: timed, told on the console, kept in [`spec::paths::TIMELINE`]. One line on the console
//! for a phase that is quick; one more, at its start, for a phase that lets people wait.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use spec::phase::Phase;

use crate::console::Console;

/// After this long a person wants to know what it is that takes so long.
const PATIENCE: Duration = Duration::from_millis(300);

/// Tells of phases and keeps them.
pub struct Timeline {
    console: Console,
    file: Option<&'static Path>,
    waiting: String,
}

impl Timeline {
    /// Nothing is kept on disk until [`Timeline::keep`].
    pub fn new(console: Console) -> Self {
        Self { console, file: None, waiting: String::new() }
    }

    /// From now on phases are appended to the file, those before now included.
    pub fn keep(&mut self, file: &'static Path) -> std::io::Result<()> {
        self.file = Some(file);
        append(file, &std::mem::take(&mut self.waiting))
    }

    /// Runs a phase; one that fails is not on the timeline, its error is the story.
    pub fn phase<T, E>(&mut self, name: &str, run: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let start_ms = sys::clock::boot_ms();
        let result = {
            let (_running, ended) = mpsc::channel::<()>();
            let (console, started) = (self.console.clone(), format!("{name} ..."));
            thread::spawn(move || {
                if ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                    console.say(&started);
                }
            });
            run()
        };
        if result.is_ok() {
            let duration_ms = sys::clock::boot_ms() - start_ms;
            self.record(&Phase { name: name.to_owned(), start_ms, duration_ms });
        }
        result
    }

    /// Tells of a phase that has ended, and keeps it.
    pub fn record(&mut self, phase: &Phase) {
        self.console.say(&format!("{} ... {} ms", phase.name, phase.duration_ms));
        match self.file {
            None => self.waiting.push_str(&phase.to_line()),
            Some(file) => {
                if let Err(error) = append(file, &phase.to_line()) {
                    self.console.say(&format!("timeline not kept in {}: {error}", file.display()));
                }
            }
        }
    }
}

fn append(file: &Path, lines: &str) -> std::io::Result<()> {
    OpenOptions::new().create(true).append(true).open(file)?.write_all(lines.as_bytes())
}
