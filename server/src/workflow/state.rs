//! The one place that changes a workflow's status: (`WorkflowStatus`, `Report`) -> new status, nothing, or `Refused`.
//! Must not read a clock or touch the store; whoever calls it makes the result durable before answering.

use jiff::{SignedDuration, Timestamp};
use spec::{Code, Failure};

use crate::objects::workflow::{Action, CurrentState, State, WorkflowStatus};

/// What `status` holds of an action's log (design §5).
const TAIL_BYTES: usize = 4 << 10;
const TAIL_LINES: usize = 20;

/// What a worker tells about one action.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// Who tells it; a worker of an older generation leaves it empty.
    pub worker: String,
    /// Which task.
    pub task: String,
    /// Which action of it.
    pub action: String,
    /// What became of it.
    pub news: News,
}

/// What became of an action.
#[derive(Clone, PartialEq, Debug)]
pub enum News {
    /// It runs.
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

/// What became of the workflow through this report at this time.
pub fn apply(status: &WorkflowStatus, report: &Report, now: Timestamp) -> Result<Applied, Refused> {
    let place = check(status, report)?;
    let known = status.actions().nth(place).map(|(_, action)| action.state).unwrap_or_default();
    match (known, &report.news) {
        (State::Success, News::Succeeded { .. } | News::Detail(_))
        | (State::Failed, News::Failed { .. } | News::Detail(_))
        | (State::Timeout, News::TimedOut { .. } | News::Detail(_)) => Ok(Applied::Known),
        (state, _) if state.is_final() => {
            Err(Refused::Late { task: report.task.clone(), action: report.action.clone(), state })
        }
        (State::Running, News::Running) => Ok(Applied::Known),
        (_, News::Detail(failure)) => {
            let failure = bounded(failure.clone());
            Ok(changed(status, |new| new.with_action(place, |action| action.failure = Some(failure))))
        }
        (_, News::Running) => Ok(changed(status, |new| new.start(place, now))),
        (_, News::Succeeded { message }) => Ok(changed(status, |new| new.end(place, now, State::Success, message))),
        (_, News::Failed { message }) => Ok(changed(status, |new| new.end(place, now, State::Failed, message))),
        (_, News::TimedOut { message }) => Ok(changed(status, |new| new.end(place, now, State::Timeout, message))),
    }
}

/// Ends a workflow whose global time is over.
pub fn expire(status: &WorkflowStatus, now: Timestamp) -> Applied {
    let over = status.global_execution_stop.is_some_and(|stop| now >= stop);
    match status.next() {
        Some(place) if over && !status.state.is_final() => changed(status, |new| {
            let message = format!("the workflow took longer than its global timeout of {} s", status.global_timeout);
            new.end(place, now, State::Timeout, &message);
        }),
        _ => Applied::Known,
    }
}

/// The position of the action, when this worker may report it now.
fn check(status: &WorkflowStatus, report: &Report) -> Result<usize, Refused> {
    let (task, action) = (report.task.clone(), report.action.clone());
    let found = status.actions().enumerate().find(|(_, (t, a))| t.name == task && a.name == action);
    let Some((place, (owner, found))) = found else {
        return Err(Refused::NoSuchAction { task, action });
    };
    if !report.worker.is_empty() && report.worker != owner.agent_id {
        return Err(Refused::NotYours { task, action, owner: owner.agent_id.clone(), worker: report.worker.clone() });
    }
    match status.next() {
        _ if found.state.is_final() => Ok(place),
        _ if status.state.is_final() => Err(Refused::Ended { task, action, state: status.state }),
        Some(next) if next < place => {
            let current = status.actions().nth(next).map(|(t, a)| format!("{}/{}", t.name, a.name));
            Err(Refused::NotCurrent { task, action, current: current.unwrap_or_default() })
        }
        _ => Ok(place),
    }
}

fn changed(status: &WorkflowStatus, change: impl FnOnce(&mut WorkflowStatus)) -> Applied {
    let mut new = status.clone();
    change(&mut new);
    Applied::Changed(Box::new(new))
}

impl WorkflowStatus {
    fn start(&mut self, place: usize, now: Timestamp) {
        self.begin_clock(now);
        self.state = State::Running;
        self.with_action(place, |action| {
            action.state = State::Running;
            action.execution_start = Some(now);
        });
        self.point_at(place);
    }

    fn end(&mut self, place: usize, now: Timestamp, state: State, message: &str) {
        self.begin_clock(now);
        self.with_action(place, |action| {
            action.state = state;
            action.execution_stop = Some(now);
            let taken = now.duration_since(action.execution_start.unwrap_or(now));
            action.execution_duration = format!("{}s", taken.as_millis() as f64 / 1000.0);
            action.message = words(message);
            let code = if state == State::Timeout { Code::Timeout } else { Code::Unknown };
            // A detail may have come first, even of an attempt that did not fail in the end.
            action.failure = match (state, action.failure.take()) {
                (State::Success, _) => None,
                (_, Some(told)) => Some(told),
                (_, None) => Some(Failure::new(code, words(message))),
            };
        });
        self.point_at(place);
        self.state = match (state, self.next()) {
            (State::Success, None) => State::Success,
            (State::Success, Some(_)) => State::Running,
            (end, _) => end,
        };
        if let Some((task, _)) = self.next().and_then(|next| self.actions().nth(next)) {
            self.agent_id = task.agent_id.clone();
        }
    }

    fn begin_clock(&mut self, now: Timestamp) {
        if self.global_timeout > 0 && self.global_execution_stop.is_none() {
            self.global_execution_stop = now.checked_add(SignedDuration::from_secs(self.global_timeout)).ok();
        }
    }

    fn with_action(&mut self, place: usize, change: impl FnOnce(&mut Action)) {
        if let Some(action) = self.tasks.iter_mut().flat_map(|task| &mut task.actions).nth(place) {
            change(action);
        }
    }

    fn point_at(&mut self, place: usize) {
        let current = self.actions().nth(place).map(|(task, action)| CurrentState {
            agent_id: task.agent_id.clone(),
            task_id: task.id.clone(),
            action_id: action.id.clone(),
            state: action.state,
            action_name: action.name.clone(),
            task_name: task.name.clone(),
        });
        self.current_state = current;
    }
}

/// What a worker tells in words is kept up to this length; it is a sentence, not a log.
const WORDS: usize = 1 << 10;
/// Causes of a failure that are kept.
const CAUSES: usize = 16;

fn words(text: &str) -> String {
    text.chars().take(WORDS).collect()
}

/// Keeps of a failure what `status` may hold; of the log its last lines, cut at the front.
fn bounded(mut failure: Failure) -> Failure {
    failure.code = words(&failure.code);
    failure.message = words(&failure.message);
    failure.causes.truncate(CAUSES);
    failure.causes.iter_mut().for_each(|cause| *cause = words(cause));
    let tail = failure.log_tail.trim_end_matches('\n');
    let from = tail.rmatch_indices('\n').nth(TAIL_LINES - 1).map_or(0, |(at, _)| at + 1);
    let mut from = from.max(tail.len().saturating_sub(TAIL_BYTES));
    while !tail.is_char_boundary(from) {
        from += 1;
    }
    failure.log_tail = tail[from..].to_owned();
    failure
}
