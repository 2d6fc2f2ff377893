//! The agent's part of the boot's timeline: its own phase, and what is sent to the server.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use spec::phase::Phase;
use sys::clock::boot_ms;

const READY: &str = "agent ready";

/// The timeline of this boot.
#[derive(Debug)]
pub struct Timeline {
    path: PathBuf,
    start_ms: u64,
}

impl Timeline {
    /// The agent's own phase begins now.
    pub fn start(run_dir: &Path) -> Self {
        Self { path: run_dir.join("timeline.jsonl"), start_ms: boot_ms() }
    }

    /// Ends the agent's phase. An agent started for a second time in a boot adds nothing.
    pub fn ready(&self) -> Result<(), std::io::Error> {
        if self.phases().iter().any(|phase| phase.name == READY) {
            return Ok(());
        }
        let duration_ms = boot_ms().saturating_sub(self.start_ms);
        let phase = Phase { name: READY.to_owned(), start_ms: self.start_ms, duration_ms };
        let mut file = OpenOptions::new().append(true).create(true).open(&self.path)?;
        file.write_all(phase.to_line().as_bytes())
    }

    /// All phases so far, of every program.
    pub fn phases(&self) -> Vec<Phase> {
        Phase::parse_lines(&fs::read_to_string(&self.path).unwrap_or_default())
    }

    /// The file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The kernel's id of this boot; empty where there is none.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phase_is_added_once_after_those_of_others() {
        let dir = tempfile::tempdir().unwrap();
        let timeline = Timeline::start(dir.path());
        let other = Phase { name: "modules".into(), start_ms: 1, duration_ms: 2 };
        fs::write(timeline.path(), other.to_line()).unwrap();
        timeline.ready().unwrap();
        timeline.ready().unwrap();
        let names: Vec<String> = timeline.phases().into_iter().map(|phase| phase.name).collect();
        assert_eq!(names, ["modules", "agent ready"]);
    }
}
