//! Whether an agent should go on with what it does, judged by the workflow's record. Pure.

use crate::objects::workflow::{Action, State, Task, WorkflowStatus};

/// The action that an agent means: by our id if it has one, else by its names.
pub fn named<'a>(status: &'a WorkflowStatus, task: &str, action: &str, id: &str) -> Option<(&'a Task, &'a Action)> {
    let by_id = status.actions().find(|(_, a)| !id.is_empty() && a.id == id);
    by_id.or_else(|| status.actions().find(|(t, a)| id.is_empty() && t.name == task && a.name == action))
}

/// Why the agent must end the action now; nothing while it should go on.
pub fn reason_to_end(status: &WorkflowStatus, found: Option<&Action>) -> Option<String> {
    let Some(action) = found else {
        return Some("the workflow of that name is another one now".to_owned());
    };
    match (action.state, status.state) {
        (State::Cancelled, _) => Some(action.message.clone()),
        // Not yet told that it runs, or kept going by its own clock while the server's says otherwise.
        (State::Pending | State::Running, state) if !state.is_final() => None,
        (State::Success, _) if action.background && !status.state.is_final() => None,
        (State::Pending | State::Running, state) => Some(format!("the workflow has ended with {state}")),
        (state, _) => Some(format!("the action has ended with {state} already")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_goes_on_as_long_as_the_record_says_so() {
        let status = |state| WorkflowStatus { state, ..WorkflowStatus::default() };
        let action = |state| Action { state, message: "by the operator".into(), ..Action::default() };
        for (workflow, state, ends) in [
            (State::Pending, State::Pending, None),
            (State::Running, State::Running, None),
            (State::Cancelled, State::Cancelled, Some("by the operator")),
            (State::Timeout, State::Running, Some("the workflow has ended with TIMEOUT")),
            (State::Running, State::Success, Some("the action has ended with SUCCESS already")),
        ] {
            assert_eq!(reason_to_end(&status(workflow), Some(&action(state))).as_deref(), ends, "{workflow} {state}");
        }
        assert!(reason_to_end(&status(State::Running), None).is_some());
        let background = Action { background: true, ..action(State::Success) };
        assert_eq!(reason_to_end(&status(State::Running), Some(&background)), None);
        assert!(reason_to_end(&status(State::Success), Some(&background)).is_some());
    }
}
