//! What passes between the parts of the agent: an action to run, its container, how it ended. Plain data.

use proto::convert::Attempt;
use serde::{Deserialize, Serialize};
use spec::handover::Mode;
use spec::{Action, Code, Outcome};

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
    /// A reaction to the end of this attempt: what it tells is told of that one.
    #[serde(default)]
    pub reacts_to: Option<Attempt>,
}

impl Job {
    /// As the server knows it.
    pub fn told_as(&self) -> &Attempt {
        self.reacts_to.as_ref().unwrap_or(&self.attempt)
    }

    /// What the template wants run after such an end: the same image and mounts with another command. A name of its own
    /// keeps its container apart from the one that failed.
    pub fn reaction(&self, outcome: &Outcome) -> Option<Self> {
        let (name, command) = match outcome {
            Outcome::Failed(failure) if failure.code != Code::Cancelled.as_str() => {
                ("on-failure", &self.action.on_failure)
            }
            Outcome::TimedOut(_) => ("on-timeout", &self.action.on_timeout),
            Outcome::Failed(_) | Outcome::Succeeded => return None,
        };
        if command.is_empty() || self.reacts_to.is_some() {
            return None;
        }
        let name = format!("{} ({name})", self.action.name);
        let action = Action {
            name: name.clone(),
            command: command.clone(),
            on_timeout: Vec::new(),
            on_failure: Vec::new(),
            background: false,
            ..self.action.clone()
        };
        Some(Self {
            action,
            attempt: Attempt { action: name, ..self.attempt.clone() },
            begun: false,
            untouched: true,
            claimed_ms: self.claimed_ms,
            reacts_to: Some(self.attempt.clone()),
        })
    }
}

/// The container of a job.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Container {
    /// The executor's own name of it.
    pub id: String,
    /// When its time began to count, in milliseconds since boot.
    pub started_ms: u64,
}

/// When an attempt ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Span {
    /// Whole seconds from taking it to its end.
    pub seconds: u64,
    /// Its end, in seconds of the Unix epoch.
    pub stop: i64,
}

impl Span {
    /// Over now, before it took any time.
    pub fn at_once() -> Self {
        Self { seconds: 0, stop: jiff::Timestamp::now().as_second() }
    }
}

/// A job, or one that could not be understood, at its end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ended {
    /// How reports name it.
    pub attempt: Attempt,
    /// How it ended.
    pub outcome: Outcome,
    /// When, and after how long.
    #[serde(flatten)]
    pub span: Span,
    /// What it asked for, to be done after the server has acknowledged its success.
    pub handover: Option<Mode>,
    /// An earlier try of this report may have been recorded without our knowing.
    pub doubt: bool,
    /// What was run because of this end; its container has to go too.
    #[serde(default)]
    pub reaction: Option<Attempt>,
}

impl Ended {
    /// The same end, after what the template wanted run because of it.
    pub fn after_reaction(mut self, reaction: &Job, outcome: &Outcome) -> Self {
        let how = match outcome {
            Outcome::Succeeded => "succeeded".to_owned(),
            Outcome::Failed(failure) => format!("failed: {}", failure.one_line()),
            Outcome::TimedOut(failure) => format!("timed out: {}", failure.one_line()),
        };
        let timed_out = matches!(self.outcome, Outcome::TimedOut(_));
        if let Outcome::Failed(failure) | Outcome::TimedOut(failure) = &mut self.outcome {
            let name = if timed_out { "on-timeout" } else { "on-failure" };
            failure.message = format!("{}; then {name} {how}", failure.message);
        }
        self.reaction = Some(reaction.attempt.clone());
        self
    }
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
        Job { attempt: Attempt::of(&action, 1), action, begun: false, untouched: true, claimed_ms: 0, reacts_to: None }
    }
}
