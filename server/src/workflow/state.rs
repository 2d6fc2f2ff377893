//! The one place that changes a workflow's status: (`WorkflowStatus`, `Report`) -> new status, nothing, or `Refused`.
//! Must not read a clock or touch the store; whoever calls it makes the result durable before answering.

use jiff::{SignedDuration, Timestamp};
use spec::event::Progress;
use spec::{Code, Failure};

use super::bounds::{bounded, words};
pub use super::report::{Applied, News, Refused, Report};
use crate::objects::workflow::{Action, CurrentState, State, WorkflowStatus};

/// What became of the workflow through this report at this time.
pub fn apply(status: &WorkflowStatus, report: &Report, now: Timestamp) -> Result<Applied, Refused> {
    let place = check(status, report)?;
    let known = status.actions().nth(place).map(|(_, action)| action.state).unwrap_or_default();
    match (known, &report.news) {
        (State::Success, News::Succeeded { .. } | News::Detail(_))
        | (State::Failed, News::Failed { .. } | News::Detail(_))
        | (State::Timeout, News::TimedOut { .. } | News::Detail(_))
        // Whoever was told to end it says that it has ended.
        | (State::Cancelled, News::Failed { .. } | News::TimedOut { .. } | News::Detail(_)) => Ok(Applied::Known),
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
        (_, News::Failed { message }) => Ok(changed(status, |new| new.fail(place, now, State::Failed, message))),
        (_, News::TimedOut { message }) => Ok(changed(status, |new| new.fail(place, now, State::Timeout, message))),
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

/// Ends a workflow because an operator says so; nothing to do for one that has ended.
pub fn cancel(status: &WorkflowStatus, reason: &str, now: Timestamp) -> Applied {
    match status.next() {
        Some(place) if !status.state.is_final() => changed(status, |new| {
            new.with_action(place, |action| action.failure = Some(Failure::new(Code::Cancelled, words(reason))));
            new.end(place, now, State::Cancelled, reason);
        }),
        _ => Applied::Known,
    }
}

/// How far a running action is, to be seen in its status.
pub fn advance(status: &WorkflowStatus, id: &str, progress: &Progress) -> Applied {
    let place = status.actions().position(|(_, action)| action.id == id && action.state == State::Running);
    let news = |action: &Action| action.progress.as_ref() != Some(progress);
    match place {
        Some(place) if status.actions().nth(place).is_some_and(|(_, action)| news(action)) => changed(status, |new| {
            let (unit, message) = (words(&progress.unit), words(&progress.message));
            new.with_action(place, |action| action.progress = Some(Progress { unit, message, ..progress.clone() }));
        }),
        _ => Applied::Known,
    }
}

/// The position of the action, when this worker may report it now.
fn check(status: &WorkflowStatus, report: &Report) -> Result<usize, Refused> {
    let (task, action) = (report.task.clone(), report.action.clone());
    let by_id = |a: &Action| !report.id.is_empty() && a.id == report.id;
    let by_name = |t: &str, a: &Action| t == report.task && a.name == report.action;
    let found = status.actions().enumerate().find(|(_, (_, a))| by_id(a));
    let Some((place, (owner, found))) =
        found.or_else(|| status.actions().enumerate().find(|(_, (t, a))| by_name(&t.name, a)))
    else {
        let earlier = status.actions().any(|(_, a)| !report.id.is_empty() && a.is_later_attempt_of(&report.id));
        return Err(if earlier { Refused::Replaced { task, action } } else { Refused::NoSuchAction { task, action } });
    };
    if !report.worker.is_empty() && report.worker != owner.agent_id {
        return Err(Refused::NotYours { task, action, owner: owner.agent_id.clone(), worker: report.worker.clone() });
    }
    if !report.id.is_empty() && found.id != report.id || ends_what_never_began(status, place, &report.news) {
        return Err(Refused::Replaced { task, action });
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

/// An end without a start is of another workflow of this name, or of an earlier attempt. Only in the middle of its turn
/// may a worker leave the start out (wire reference §5.2): then its action before this one has succeeded here.
fn ends_what_never_began(status: &WorkflowStatus, place: usize, news: &News) -> bool {
    let Some((task, action)) = status.actions().nth(place) else { return false };
    let in_its_turn = action.attempt <= 1
        && place.checked_sub(1).and_then(|before| status.actions().nth(before)).is_some_and(|(owner, before)| {
            owner.agent_id == task.agent_id && before.state == State::Success && before.execution_stop.is_some()
        });
    let next = status.next() == Some(place);
    next && action.state == State::Pending && !matches!(news, News::Running) && !in_its_turn
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

    /// An attempt that failed; the template may allow another one.
    fn fail(&mut self, place: usize, now: Timestamp, state: State, message: &str) {
        let again = self
            .actions()
            .nth(place)
            .is_some_and(|(_, action)| u64::from(action.attempt.max(1)) <= u64::from(action.retries));
        self.end(place, now, state, message);
        if again {
            self.state = State::Running;
            self.with_action(place, Action::begin_again);
            self.point_at(place);
        }
    }

    fn end(&mut self, place: usize, now: Timestamp, state: State, message: &str) {
        self.begin_clock(now);
        self.with_action(place, |action| {
            action.state = state;
            action.execution_stop = Some(now);
            let taken = now.duration_since(action.execution_start.unwrap_or(now));
            action.execution_duration = format!("{}s", taken.as_millis() as f64 / 1000.0);
            action.message = words(message);
            action.progress = None;
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

impl Action {
    /// Waits for its next attempt, which has an id of its own; why the last one failed stays to be seen.
    fn begin_again(&mut self) {
        let failed = self.attempt.max(1);
        self.id = format!("{}-{}", self.first_id(), failed + 1);
        self.attempt = failed + 1;
        self.state = State::Pending;
        let reason = self.failure.take().map_or_else(String::new, |failure| failure.one_line());
        self.message = words(&format!("attempt {failed} of {} failed: {reason}", u64::from(self.retries) + 1));
        (self.execution_start, self.execution_stop) = (None, None);
        self.execution_duration.clear();
    }

    fn first_id(&self) -> &str {
        match self.attempt {
            0 | 1 => &self.id,
            _ => self.id.rsplit_once('-').map_or(&self.id, |(first, _)| first),
        }
    }

    /// Whether an id was that of an attempt before the one that counts now.
    fn is_later_attempt_of(&self, id: &str) -> bool {
        let first = self.first_id();
        id != self.id && id.strip_prefix(first).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }
}
