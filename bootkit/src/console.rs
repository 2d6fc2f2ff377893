//! What a person at the console reads, and the timeline that travels to the server. One line each; no decisions.

use std::collections::HashSet;
use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::time::Duration;

use spec::paths::TIMELINE;
use spec::phase::Phase;
use sys::clock;

/// When waiting is told again for the first time; each further time is twice as far away.
const AGAIN: u64 = 10_000;

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

/// The status line of a step that waits: for what, since when, and why it is not there yet.
pub struct Waiting {
    who: &'static str,
    what: String,
    since: u64,
    next: u64,
    told: bool,
    why: String,
}

impl Waiting {
    /// Says nothing yet: what is there at once was not waited for.
    pub fn new(who: &'static str, what: impl Into<String>) -> Self {
        let since = clock::boot_ms();
        Self { who, what: what.into(), since, next: AGAIN, told: false, why: String::new() }
    }

    /// It is not there: told at first, when the reason changes, and now and then.
    pub fn still(&mut self, why: &str) {
        let lasted = clock::boot_ms().saturating_sub(self.since);
        let due = lasted >= self.next;
        if self.told && !due && self.why == why {
            return;
        }
        if due {
            self.next = lasted.saturating_mul(2);
        }
        (self.told, self.why) = (true, why.to_owned());
        let reason = if why.is_empty() { String::new() } else { format!(": {why}") };
        let since = if lasted < 1000 { String::new() } else { format!(", for {} s", lasted / 1000) };
        say(format_args!("{}: waiting for {}, since {} ms after boot{since}{reason}", self.who, self.what, self.since));
    }

    /// Since it began.
    pub fn lasted(&self) -> Duration {
        Duration::from_millis(clock::boot_ms().saturating_sub(self.since))
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
