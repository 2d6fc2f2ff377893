//! Wire to `spec` with every field checked, and what the agent knows to wire.
//! Nothing is touched, guessed or defaulted here except where the wire reference fixes the default.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use spec::action::DEFAULT_TIMEOUT;
use spec::id::IdError;
use spec::phase::Phase;
use spec::{Action, Failure, Outcome, WorkerId, WorkflowId};

use crate::{ironhook, workflow};

/// The most bytes that `ironhook.v1.Inventory` has for devices.
pub const MAX_DEVICES: usize = 64 << 10;

/// What the server sent cannot be an action. Says which field, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    /// A field that names something is empty.
    #[error("field {field} is empty")]
    Empty {
        /// As on the wire.
        field: &'static str,
    },
    /// An id cannot serve as one.
    #[error("field {field} is no id")]
    Id {
        /// As on the wire.
        field: &'static str,
        /// What is wrong with it.
        #[source]
        source: IdError,
    },
    /// A negative time.
    #[error("field timeout is negative: {seconds} s")]
    Timeout {
        /// As sent.
        seconds: i64,
    },
    /// One entry of a list is malformed. An environment entry is shown by its key only: values may be secret.
    #[error("entry {index} of field {field} ({entry:?}) is {problem}")]
    Entry {
        /// As on the wire.
        field: &'static str,
        /// Counts from 0.
        index: usize,
        /// The entry, or its key.
        entry: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Not a PID namespace that an action may have.
    #[error("field pid is {0:?} (expected nothing, \"host\" or \"container:<name>\")")]
    Pid(String),
    /// Not a network namespace that an action may have.
    #[error(
        "field namespaces.network is {0:?} (expected nothing, \"host\", \"bridge\", \"none\" or \"container:<name>\")"
    )]
    Network(String),
}

/// Which of the two workflow services an action came from; its reports go back there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Era {
    /// Under either of its prefixes.
    #[default]
    Classic,
    /// `GetAction`.
    Newer,
}

/// One attempt at one action, as reports name it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Attempt {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The task within the workflow: its name, or its id where the newer service tells nothing else.
    pub task: String,
    /// The action within the task.
    pub action: String,
    /// Who runs it.
    pub worker: WorkerId,
    /// Counts from 1.
    pub number: u32,
    /// The server's own id of this attempt; empty when it tells none.
    #[serde(default)]
    pub id: String,
    /// Where it came from.
    #[serde(default)]
    pub era: Era,
}

impl Attempt {
    /// The names in an action that came over the wire, even of one that [`action`] refuses.
    pub fn of_wire(workflow_id: &str, wire: &workflow::WorkflowAction, number: u32) -> Result<Self, ActionError> {
        Ok(Self {
            workflow: id("workflow_id", workflow_id)?,
            task: named("task_name", &wire.task_name)?,
            action: named("name", &wire.name)?,
            worker: id("worker_id", &wire.worker_id)?,
            number,
            id: String::new(),
            era: Era::Classic,
        })
    }

    /// The names of an action, for its attempt of this number.
    pub fn of(action: &Action, number: u32) -> Self {
        Self {
            workflow: action.workflow.clone(),
            task: action.task.clone(),
            action: action.name.clone(),
            worker: action.worker.clone(),
            number,
            id: String::new(),
            era: Era::Classic,
        }
    }

    /// Whether the two are attempts at one action.
    pub fn same_action(&self, other: &Self) -> bool {
        (&self.workflow, &self.task, &self.action) == (&other.workflow, &other.task, &other.action)
    }

    /// Whether the server says that the two are one attempt; nothing when it does not say.
    pub fn same_id(&self, other: &Self) -> Option<bool> {
        (!self.id.is_empty() && !other.id.is_empty()).then(|| self.id == other.id)
    }
}

impl std::fmt::Display for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.workflow, self.task, self.action)
    }
}

/// One action of the list that `GetWorkflowActions` answers with.
pub fn action(workflow_id: &str, wire: workflow::WorkflowAction) -> Result<Action, ActionError> {
    let names = Attempt::of_wire(workflow_id, &wire, 1)?;
    let image = named("image", &wire.image)?;
    for (field, entries) in
        [("command", &wire.command), ("on_timeout", &wire.on_timeout), ("on_failure", &wire.on_failure)]
    {
        check(field, entries, |entry| entry.contains('\0').then_some("not free of NUL"), str::to_owned)?;
    }
    check("environment", &wire.environment, environment_problem, key_of)?;
    check("volumes", &wire.volumes, volume_problem, str::to_owned)?;
    Ok(Action {
        workflow: names.workflow,
        task: names.task,
        name: names.action,
        worker: names.worker,
        image,
        timeout: timeout(wire.timeout)?,
        command: wire.command,
        on_timeout: wire.on_timeout,
        on_failure: wire.on_failure,
        volumes: wire.volumes,
        environment: wire.environment,
        pid: pid(wire.pid)?,
        network: String::new(),
        background: false,
    })
}

pub(crate) fn named(field: &'static str, text: &str) -> Result<String, ActionError> {
    if text.trim().is_empty() { Err(ActionError::Empty { field }) } else { Ok(text.to_owned()) }
}

pub(crate) fn id<T: std::str::FromStr<Err = IdError>>(field: &'static str, text: &str) -> Result<T, ActionError> {
    text.parse().map_err(|source| ActionError::Id { field, source })
}

pub(crate) fn timeout(seconds: i64) -> Result<Duration, ActionError> {
    match u64::try_from(seconds) {
        Ok(0) => Ok(DEFAULT_TIMEOUT),
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => Err(ActionError::Timeout { seconds }),
    }
}

pub(crate) fn pid(text: String) -> Result<String, ActionError> {
    match text.as_str() {
        "" | "host" => Ok(text),
        other if other.strip_prefix("container:").is_some_and(|name| !name.is_empty()) => Ok(text),
        _ => Err(ActionError::Pid(text)),
    }
}

pub(crate) fn check(
    field: &'static str,
    entries: &[String],
    problem: impl Fn(&str) -> Option<&'static str>,
    shown: impl Fn(&str) -> String,
) -> Result<(), ActionError> {
    for (index, entry) in entries.iter().enumerate() {
        if let Some(problem) = problem(entry) {
            return Err(ActionError::Entry { field, index, entry: shown(entry), problem });
        }
    }
    Ok(())
}

pub(crate) fn environment_problem(entry: &str) -> Option<&'static str> {
    match entry.split_once('=') {
        _ if entry.contains('\0') => Some("not free of NUL"),
        None => Some("not KEY=VALUE"),
        Some(("", _)) => Some("without a key"),
        Some(_) => None,
    }
}

pub(crate) fn key_of(entry: &str) -> String {
    match entry.split_once('=') {
        Some((key, _)) => format!("{key}=..."),
        None => "...".to_owned(),
    }
}

/// Docker's bind syntax: source, target, and options if any.
pub(crate) fn volume_problem(entry: &str) -> Option<&'static str> {
    let mut parts = entry.splitn(3, ':');
    match (parts.next(), parts.next()) {
        _ if entry.contains('\0') => Some("not free of NUL"),
        (Some(""), _) => Some("without a source"),
        (Some(_), Some(target)) if target.starts_with('/') => None,
        (Some(_), Some(_)) => Some("without an absolute target"),
        _ => Some("not SOURCE:TARGET[:OPTIONS]"),
    }
}

/// The report that an action is about to start, as the field words it.
pub fn running(attempt: &Attempt) -> workflow::WorkflowActionStatus {
    status(attempt, workflow::State::Running, 0, "Started execution".to_owned())
}

/// The terminal report of an action.
pub fn ended(attempt: &Attempt, outcome: &Outcome, seconds: u64) -> workflow::WorkflowActionStatus {
    let (state, message) = match outcome {
        Outcome::Succeeded => (workflow::State::Success, "finished execution successfully".to_owned()),
        Outcome::Failed(failure) => (workflow::State::Failed, failure.one_line()),
        Outcome::TimedOut(failure) => (workflow::State::Timeout, failure.one_line()),
    };
    status(attempt, state, i64::try_from(seconds).unwrap_or(i64::MAX), message)
}

fn status(attempt: &Attempt, state: workflow::State, seconds: i64, message: String) -> workflow::WorkflowActionStatus {
    workflow::WorkflowActionStatus {
        workflow_id: attempt.workflow.to_string(),
        task_name: attempt.task.clone(),
        action_name: attempt.action.clone(),
        action_status: state.into(),
        seconds,
        message,
        // The field's worker never sets it (wire reference §5.2).
        created_at: None,
        worker_id: attempt.worker.to_string(),
    }
}

/// Names an attempt in the messages of `ironhook.v1`.
pub fn action_ref(attempt: &Attempt) -> ironhook::ActionRef {
    ironhook::ActionRef {
        workflow_id: attempt.workflow.to_string(),
        task_name: attempt.task.clone(),
        action_name: attempt.action.clone(),
        worker_id: attempt.worker.to_string(),
        attempt: attempt.number,
        action_id: attempt.id.clone(),
    }
}

/// Why an attempt failed.
pub fn failure_detail(attempt: &Attempt, failure: &Failure) -> ironhook::FailureDetail {
    ironhook::FailureDetail {
        action: Some(action_ref(attempt)),
        code: failure.code.clone(),
        message: failure.message.clone(),
        causes: failure.causes.clone(),
        exit_status: failure.exit_status,
        log_tail: failure.log_tail.clone(),
    }
}

/// How far an attempt is.
pub fn progress(attempt: &Attempt, progress: &spec::event::Progress) -> ironhook::Progress {
    ironhook::Progress {
        action: Some(action_ref(attempt)),
        done: progress.done,
        total: progress.total,
        unit: progress.unit.clone(),
        message: progress.message.clone(),
    }
}

/// What the boot of a machine spent its time on.
pub fn timeline(worker: &WorkerId, boot_id: &str, phases: &[Phase]) -> ironhook::Timeline {
    let phase = |phase: &Phase| ironhook::Phase {
        name: phase.name.clone(),
        start_ms: phase.start_ms,
        duration_ms: phase.duration_ms,
    };
    ironhook::Timeline {
        worker_id: worker.to_string(),
        boot_id: boot_id.to_owned(),
        phases: phases.iter().map(phase).collect(),
    }
}

#[cfg(test)]
mod tests;
