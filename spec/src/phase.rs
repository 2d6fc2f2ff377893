//! A step of the boot and what it took, as one JSON line of [`crate::paths::TIMELINE`].

use serde::{Deserialize, Serialize};

/// A finished phase. Times count from the start of the kernel, so phases of several programs fit together.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Phase {
    /// Lower case, a few words: `modules`, `engine`, `agent ready`.
    pub name: String,
    /// Milliseconds since the kernel started.
    pub start_ms: u64,
    /// Milliseconds from start to end.
    pub duration_ms: u64,
}

impl Phase {
    /// The line for the timeline, with its end of line.
    pub fn to_line(&self) -> String {
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }

    /// All phases of a timeline; a line cut short by a crash is left out.
    pub fn parse_lines(text: &str) -> Vec<Self> {
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_round_trip_and_a_torn_one_is_dropped() {
        let phase = Phase { name: "re-root".into(), start_ms: 812, duration_ms: 9 };
        let text = phase.to_line() + "{\"name\":\"tor";
        assert_eq!(Phase::parse_lines(&text), [phase]);
    }
}
