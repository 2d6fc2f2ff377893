//! What passes between the parts of the agent: an action to run, its container, how it ended. Plain data.

use proto::convert::Attempt;
use serde::{Deserialize, Serialize};
use spec::handover::Mode;
use spec::{Action, Outcome};

/// An action that the server wants this worker to run now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Job {
    /// What to run.
    pub action: Action,
    /// How reports name it.
    pub attempt: Attempt,
    /// The server already holds it for running: this worker, or an earlier life of it, has begun it.
    pub begun: bool,
    /// Nothing of it has been started yet, for all that this boot's journal knows; its container may exist.
    #[serde(default)]
    pub untouched: bool,
    /// When it was taken, in milliseconds since boot.
    pub claimed_ms: u64,
}

/// The container of a job.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Container {
    /// The executor's own name of it.
    pub id: String,
    /// When its time began to count, in milliseconds since boot.
    pub started_ms: u64,
}

/// A job, or one that could not be understood, at its end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ended {
    /// How reports name it.
    pub attempt: Attempt,
    /// How it ended.
    pub outcome: Outcome,
    /// Whole seconds from taking it to its end.
    pub seconds: u64,
    /// What it asked for, to be done after the server has acknowledged its success.
    pub handover: Option<Mode>,
    /// An earlier try of this report may have been recorded without our knowing.
    pub doubt: bool,
}

/// What an executor says at the end of a container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finish {
    /// How the action ended.
    pub outcome: Outcome,
    /// What it asked for in its events.
    pub handover: Option<Mode>,
}

impl From<Outcome> for Finish {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, handover: None }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A job as the server offers it, for the tests of every part.
    pub fn job() -> Job {
        let action = Action {
            workflow: "default/install".parse().unwrap(),
            task: "os install".into(),
            name: "write/é".into(),
            worker: "w".parse().unwrap(),
            image: "i".into(),
            timeout: std::time::Duration::from_secs(1),
            command: vec!["a".into()],
            on_timeout: vec![],
            on_failure: vec![],
            volumes: vec!["/dev:/dev".into()],
            environment: vec!["K=V".into()],
            pid: "host".into(),
            network: String::new(),
            background: false,
        };
        Job { attempt: Attempt::of(&action, 1), action, begun: false, untouched: true, claimed_ms: 0 }
    }
}
