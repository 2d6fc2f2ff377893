//! `Workflow.spec` and `Workflow.status` with the monorepo's names, and our `failure` beside them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use spec::Failure;
use spec::event::Progress;

/// `Workflow.spec`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkflowSpec {
    /// The Template in the same namespace.
    pub template_ref: String,
    /// The Hardware in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware_ref: Option<String>,
    /// Values for the template, at its top level.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hardware_map: BTreeMap<String, String>,
    /// Kept from being served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// How the machine is brought to boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_options: Option<BootOptions>,
}

/// How the machine is brought to boot.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BootOptions {
    /// The machine may netboot while the workflow is active, whatever its Hardware says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toggle_allow_netboot: Option<bool>,
    /// For boot modes that need a BMC.
    #[serde(default, rename = "isoURL", skip_serializing_if = "Option::is_none")]
    pub iso_url: Option<String>,
    /// Needs a BMC, whatever it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_mode: Option<String>,
    /// For boot modes that need a BMC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customboot_config: Option<Value>,
}

/// Where a workflow or an action stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// The machine is being brought to boot.
    Preparing,
    /// Waiting for its worker.
    #[default]
    Pending,
    /// Under way.
    Running,
    /// All actions done, the machine is being put back.
    Post,
    /// Ended well.
    Success,
    /// Ended by a failure.
    Failed,
    /// Ended by its time.
    Timeout,
    /// Ended by an operator.
    Cancelled,
}

impl State {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Preparing => "PREPARING",
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Post => "POST",
            Self::Success => "SUCCESS",
            Self::Failed => "FAILED",
            Self::Timeout => "TIMEOUT",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// Nothing changes it any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Success | Self::Failed | Self::Timeout | Self::Cancelled)
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `Workflow.status`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkflowStatus {
    /// Who has to work next.
    #[serde(rename = "agentID")]
    pub agent_id: String,
    /// Where it stands.
    pub state: State,
    /// Always `successful`: what cannot be rendered is not stored.
    pub template_rendering: String,
    /// Seconds from the start of the first action; 0 for no limit.
    pub global_timeout: i64,
    /// When that time is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global_execution_stop: Option<Timestamp>,
    /// The action last reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_state: Option<CurrentState>,
    /// What there is to do, and what became of it.
    pub tasks: Vec<Task>,
}

/// The action last reported.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct CurrentState {
    #[serde(rename = "agentID")]
    pub agent_id: String,
    #[serde(rename = "taskID")]
    pub task_id: String,
    #[serde(rename = "actionID")]
    pub action_id: String,
    pub state: State,
    pub action_name: String,
    pub task_name: String,
}

/// A task: actions of one worker.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Task {
    /// Made when the template was rendered.
    pub id: String,
    /// Unique in its workflow.
    pub name: String,
    /// Who has to do it.
    #[serde(rename = "agentID")]
    pub agent_id: String,
    /// In order.
    pub actions: Vec<Action>,
    /// Before those of each action.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// Beneath those of each action.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
}

/// An action and what became of it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Action {
    /// Made when the template was rendered.
    pub id: String,
    /// Unique in its task.
    pub name: String,
    /// As the operator wrote it.
    pub image: String,
    /// Seconds, never 0.
    pub timeout: i64,
    /// Replaces the image's Cmd.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Run after a timeout.
    #[serde(rename = "on-timeout", skip_serializing_if = "Vec::is_empty")]
    pub on_timeout: Vec<String>,
    /// Run after a failure.
    #[serde(rename = "on-failure", skip_serializing_if = "Vec::is_empty")]
    pub on_failure: Vec<String>,
    /// After those of its task.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// Over that of its task.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Empty or `host`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pid: String,
    /// Other namespaces than its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Namespaces>,
    /// How often it is tried again after a failure.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: u32,
    /// The next one begins once it runs; it is ended with the workflow. Agents of ours only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub background: bool,
    /// Which try this is; 0 as 1.
    #[serde(skip_serializing_if = "is_zero")]
    pub attempt: u32,
    /// Where it stands.
    pub state: State,
    /// When the server learnt that it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_start: Option<Timestamp>,
    /// When the server learnt that it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_stop: Option<Timestamp>,
    /// Between the two, as Go writes durations.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub execution_duration: String,
    /// One line.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// How far it was, at most ten seconds ago.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// Namespaces of an action that are not its own.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Namespaces {
    /// As the engine takes it: `host`, `bridge`, `none`, `container:<name>`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub network: String,
    /// As `pid`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pid: String,
}

// As serde wants it.
#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl WorkflowStatus {
    /// All actions with their tasks, in the order in which they run.
    pub fn actions(&self) -> impl Iterator<Item = (&Task, &Action)> {
        self.tasks.iter().flat_map(|task| task.actions.iter().map(move |action| (task, action)))
    }

    /// Position over all tasks of the first action that has not succeeded.
    pub fn next(&self) -> Option<usize> {
        self.actions().position(|(_, action)| action.state != State::Success)
    }

    /// Why the workflow ended, in one line; empty unless it failed.
    pub fn reason(&self) -> String {
        let failed = self.actions().find(|(_, a)| a.state.is_final() && a.state != State::Success);
        match failed {
            None => String::new(),
            Some((task, action)) => match &action.failure {
                Some(failure) => format!("{}/{}: {}", task.name, action.name, failure.one_line()),
                None => format!("{}/{}: {}", task.name, action.name, action.message),
            },
        }
    }
}
