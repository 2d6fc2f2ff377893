//! An action as the agent runs it: validated, with units.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{WorkerId, WorkflowId};

/// What the classic worker does with a timeout of 0: an hour, never at once (wire reference §5.3).
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3600);

/// One action of a workflow.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Action {
    /// The workflow it belongs to.
    pub workflow: WorkflowId,
    /// The task within the workflow.
    pub task: String,
    /// The action within the task.
    pub name: String,
    /// Who has to run it.
    pub worker: WorkerId,
    /// Which image to run, as written by the operator.
    pub image: String,
    /// From the start of the container to its end.
    pub timeout: Duration,
    /// Replaces the image's Cmd, never its Entrypoint. Empty keeps the image's.
    pub command: Vec<String>,
    /// Run instead of `command` after a timeout.
    pub on_timeout: Vec<String>,
    /// Run instead of `command` after a failure.
    pub on_failure: Vec<String>,
    /// Docker's bind syntax, in the engine's view of the file system.
    pub volumes: Vec<String>,
    /// `KEY=VALUE`, in order.
    pub environment: Vec<String>,
    /// PID namespace: empty for one of its own, or `host`.
    pub pid: String,
    /// Network namespace: empty for the engine's default, or `host`.
    #[serde(default)]
    pub network: String,
    /// The next action begins once this one runs; it is ended with the workflow.
    #[serde(default)]
    pub background: bool,
}
