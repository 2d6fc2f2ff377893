//! What a worker tells of an action, what that does to its workflow, and the reasons for which it does nothing. Types
//! only; the rules are in the module `state`.

use spec::Failure;

use crate::objects::workflow::{State, WorkflowStatus};

/// What a worker tells about one action.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Report {
    /// Who tells it; a worker of an older generation leaves it empty.
    pub worker: String,
    /// Which task; a worker of the newer generation leaves it empty and gives the id.
    pub task: String,
    /// Which action of it.
    pub action: String,
    /// Our own id of the attempt; a worker of an older generation leaves it empty.
    pub id: String,
    /// What became of it.
    pub news: News,
}

/// What became of an action.
#[derive(Clone, PartialEq, Debug, Default)]
pub enum News {
    /// It runs.
    #[default]
    Running,
    /// It ended well.
    Succeeded {
        /// As the worker says it.
        message: String,
    },
    /// It failed.
    Failed {
        /// As the worker says it.
        message: String,
    },
    /// It was ended after its time.
    TimedOut {
        /// As the worker says it.
        message: String,
    },
    /// Why it is going to be reported as failed.
    Detail(Failure),
}

/// What a report did.
#[derive(Clone, PartialEq, Debug)]
pub enum Applied {
    /// This is the status now.
    Changed(Box<WorkflowStatus>),
    /// It was known already, or is a detail that came too late to matter.
    Known,
}

/// The report does not fit the workflow.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// No such action.
    #[error("there is no action {task}/{action} in this workflow")]
    NoSuchAction {
        /// Which task was named.
        task: String,
        /// Which action was named.
        action: String,
    },
    /// The task belongs to another worker.
    #[error("action {task}/{action} belongs to worker {owner}, not to {worker}")]
    NotYours {
        /// Which task was named.
        task: String,
        /// Which action was named.
        action: String,
        /// Whose it is.
        owner: String,
        /// Who told.
        worker: String,
    },
    /// An earlier action has not ended.
    #[error("action {task}/{action} is not the current one, {current} is")]
    NotCurrent {
        /// Which task was named.
        task: String,
        /// Which action was named.
        action: String,
        /// `task/action` that is expected.
        current: String,
    },
    /// The action has ended, and otherwise than this report would have it.
    #[error("action {task}/{action} has ended with {state} already")]
    Late {
        /// Which task was named.
        task: String,
        /// Which action was named.
        action: String,
        /// How it ended.
        state: State,
    },
    /// It is about an earlier attempt, or a workflow of the same name that was deleted.
    #[error("action {task}/{action} has not been started in this workflow: the report is of an earlier one")]
    Replaced {
        /// Which task was named.
        task: String,
        /// Which action was named.
        action: String,
    },
    /// The workflow has ended.
    #[error("the workflow has ended with {state}, action {task}/{action} must not run")]
    Ended {
        /// Which task was named.
        task: String,
        /// Which action was named.
        action: String,
        /// How it ended.
        state: State,
    },
}

impl Refused {
    /// The report comes too late to count for anything.
    pub const fn is_late(&self) -> bool {
        matches!(self, Self::Late { .. } | Self::Replaced { .. })
    }
}
