//! A step that does not get on: its code, sentence and hint on the console, and a note for the report.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use spec::boot::{BootCode, BootFailure};
use spec::paths::{FAILURES, RUN};
use sys::clock;

use crate::console::say;

/// The longest message in a note; an engine's last words are.
const LONGEST: usize = 16 << 10;

/// An error that has a code.
pub trait Coded: std::error::Error {
    /// Why the boot does not get on.
    fn code(&self) -> BootCode;
}

/// Says it, and leaves it for the report. One line but for what the message itself quotes.
pub fn tell(step: &str, code: BootCode, message: &str) {
    say(format_args!("{step} failed [{code}]: {message}"));
    say(format_args!("{step}: what helps: {}", code.hint()));
    if let Err(error) = note(step, code, message) {
        say(format_args!("{step}: the report will lack this: cannot write below {FAILURES}: {error}"));
    }
}

fn note(step: &str, code: BootCode, message: &str) -> io::Result<()> {
    let path = path(step);
    // An onboot step has no part in what is reported: the boot ends with it.
    if !Path::new(RUN).is_dir() {
        return Ok(());
    }
    fs::create_dir_all(FAILURES)?;
    let before: Option<BootFailure> = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let before = before.filter(|before| before.code == code.as_str());
    let message: String = message.chars().take(LONGEST).collect();
    let failure = BootFailure {
        step: step.to_owned(),
        code: code.as_str().to_owned(),
        message,
        hint: code.hint().to_owned(),
        since_ms: before.as_ref().map_or_else(clock::boot_ms, |before| before.since_ms),
        count: before.map_or(0, |before| before.count).saturating_add(1),
    };
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_vec(&failure)?)?;
    fs::rename(new, path)
}

/// It gets on now.
pub fn forget(step: &str) {
    // Not there is what is wanted.
    let _ = fs::remove_file(path(step));
}

fn path(step: &str) -> PathBuf {
    PathBuf::from(FAILURES).join(format!("{step}.json"))
}
