//! What a person at the console reads, and the timeline that travels to the server. One line each; no decisions.

use std::collections::HashSet;
use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::{self, Write};

use spec::paths::TIMELINE;
use spec::phase::Phase;
use sys::clock;

/// Prints a line.
pub fn say(text: impl Display) {
    // Nobody is left to tell when the console is gone, and the work goes on without it.
    let _ = writeln!(io::stdout(), "ironhook: {text}");
}

/// Prints a phase that began at `start_ms` and ends now, and appends it to the timeline under its name.
pub fn phase(name: &str, start_ms: u64, shown: impl Display) {
    let duration_ms = clock::boot_ms().saturating_sub(start_ms);
    say(format_args!("{shown} ... {duration_ms} ms"));
    let line = Phase { name: name.to_owned(), start_ms, duration_ms }.to_line();
    let written = OpenOptions::new().append(true).create(true).open(TIMELINE);
    if let Err(error) = written.and_then(|mut file| file.write_all(line.as_bytes())) {
        say(format_args!("the phase {name} is missing in {TIMELINE}: {error}"));
    }
}

/// Says a thing once, not on every turn of a loop.
#[derive(Default)]
pub struct Teller(HashSet<String>);

impl Teller {
    /// Prints a line unless it has been printed before.
    pub fn say(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.0.contains(&text) {
            say(&text);
            self.0.insert(text);
        }
    }

    /// What was said may be said again: things have changed.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}
