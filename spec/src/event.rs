//! What an action tells the agent while it runs: one JSON object per line, appended to the file that the
//! environment variable `IRONHOOK_EVENTS` names. Without that variable nothing is written.

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::handover;

/// The version that every line carries in `v`.
pub const VERSION: u32 = 1;
/// A line is one write of at most this many bytes, its end of line included, so that writers never mix.
pub const MAX_LINE: usize = 4096;
/// The agent reads no further than this.
pub const MAX_FILE: u64 = 16 << 20;

/// One event.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Event {
    /// How far the action is.
    Progress(Progress),
    /// Why it failed; the last event of an action that fails.
    Error(Failure),
    /// The machine has to be handed over once the success of this action is on record.
    Handover {
        /// How to go on.
        mode: handover::Mode,
    },
}

/// How far an action is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Progress {
    /// What is done of `total`.
    pub done: u64,
    /// 0 when unknown.
    #[serde(default)]
    pub total: u64,
    /// `bytes`, or what is counted.
    #[serde(default)]
    pub unit: String,
    /// What is being done, in a few words.
    #[serde(default)]
    pub message: String,
}

#[derive(Serialize, Deserialize)]
struct Line {
    v: u32,
    #[serde(flatten)]
    event: Event,
}

/// A line that is no event of ours.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// Not a known event as JSON.
    #[error("not an event")]
    Shape(#[source] serde_json::Error),
    /// Written by a newer action.
    #[error("event version {0} is not known here")]
    Version(u32),
}

impl Event {
    /// The line to append, never longer than [`MAX_LINE`]: first an error's log and causes are left out, then texts are cut.
    pub fn to_line(&self) -> String {
        let mut line = render(self);
        if let (true, Self::Error(failure)) = (line.len() > MAX_LINE, self) {
            line = render(&Self::Error(Failure { causes: Vec::new(), log_tail: String::new(), ..failure.clone() }));
        }
        if line.len() > MAX_LINE { render(&self.cut()) } else { line }
    }

    fn cut(&self) -> Self {
        match self.clone() {
            Self::Error(Failure { code, message, exit_status, .. }) => {
                Self::Error(Failure { code: cut(&code), message: cut(&message), exit_status, ..Failure::default() })
            }
            Self::Progress(progress) => {
                Self::Progress(Progress { unit: cut(&progress.unit), message: cut(&progress.message), ..progress })
            }
            handover @ Self::Handover { .. } => handover,
        }
    }

    /// Reads one line.
    pub fn parse(line: &str) -> Result<Self, LineError> {
        let line: Line = serde_json::from_str(line).map_err(LineError::Shape)?;
        if line.v == VERSION { Ok(line.event) } else { Err(LineError::Version(line.v)) }
    }
}

fn render(event: &Event) -> String {
    // Serialising plain strings and numbers cannot fail.
    let mut line = serde_json::to_string(&Line { v: VERSION, event: event.clone() }).unwrap_or_default();
    line.push('\n');
    line
}

/// Two such texts fit a line: no character takes more than six bytes in JSON.
fn cut(text: &str) -> String {
    text.chars().take(MAX_LINE / 16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Code;

    #[test]
    fn lines_round_trip() {
        for event in [
            Event::Progress(Progress { done: 1, total: 2, unit: "bytes".into(), message: "writing".into() }),
            Event::Error(Failure::new(Code::DigestMismatch, "expected a, got b")),
            Event::Handover { mode: handover::Mode::Reboot },
        ] {
            assert_eq!(Event::parse(&event.to_line()).unwrap(), event);
        }
    }

    #[test]
    fn the_shape_on_the_wire_is_fixed() {
        let line = Event::Handover { mode: handover::Mode::Kexec }.to_line();
        assert_eq!(line, "{\"v\":1,\"type\":\"handover\",\"mode\":\"kexec\"}\n");
    }

    #[test]
    fn an_error_too_long_keeps_code_and_start_of_message() {
        let failure = Failure::new(Code::Mount, "\u{1}".repeat(9000));
        let line = Event::Error(failure).to_line();
        assert!(line.len() <= MAX_LINE, "{}", line.len());
        assert!(matches!(Event::parse(&line).unwrap(), Event::Error(f) if f.code == "mount"));
    }

    #[test]
    fn progress_too_long_is_cut() {
        let progress = Progress { unit: "\u{1}".repeat(5000), message: "é".repeat(5000), ..Progress::default() };
        let line = Event::Progress(progress).to_line();
        assert!(line.len() <= MAX_LINE, "{}", line.len());
        assert!(Event::parse(&line).is_ok());
    }

    #[test]
    fn a_newer_version_is_refused_by_number() {
        let line = r#"{"v":2,"type":"handover","mode":"reboot"}"#;
        assert!(matches!(Event::parse(line), Err(LineError::Version(2))));
    }
}
