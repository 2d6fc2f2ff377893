//! Whether it is this worker's turn in a workflow, and with which action: the field's rule (wire reference §5.2),
//! with its reason when it is not. Pure.

use proto::workflow::{State, WorkflowAction, WorkflowContext};

/// What a workflow wants of a worker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Run this action now.
    Run {
        /// Its place in the list.
        index: usize,
        /// The server already holds it for running.
        begun: bool,
    },
    /// Nothing, and why.
    NotNow(String),
}

/// Judges one workflow. Works for servers whose index is the last reported action and for those whose index is the
/// next to run: the state that comes with it tells (trap 7).
pub fn turn(context: &WorkflowContext, actions: &[WorkflowAction], me: &str) -> Turn {
    let workflow = &context.workflow_id;
    let Some(first) = actions.first() else {
        return Turn::NotNow(format!("workflow {workflow} has no actions"));
    };
    if context.current_action.is_empty() && first.worker_id == me {
        return Turn::Run { index: 0, begun: false };
    }
    let current = usize::try_from(context.current_action_index).ok().filter(|index| *index < actions.len());
    let Some(current) = current else {
        let (index, count) = (context.current_action_index, actions.len());
        return Turn::NotNow(format!("workflow {workflow} is at action {index}, but has {count} actions"));
    };
    let name = &actions[current].name;
    let (index, begun) = match State::try_from(context.current_action_state) {
        Ok(State::Success) if current + 1 == actions.len() => {
            return Turn::NotNow(format!("workflow {workflow} is finished"));
        }
        Ok(State::Success) => (current + 1, false),
        Ok(State::Pending) => (current, false),
        Ok(State::Running) => (current, true),
        Ok(State::Failed) => return Turn::NotNow(format!("workflow {workflow} has failed at action {name:?}")),
        Ok(State::Timeout) => return Turn::NotNow(format!("workflow {workflow} has timed out at action {name:?}")),
        Err(_) => {
            let state = context.current_action_state;
            return Turn::NotNow(format!("workflow {workflow} is in a state that is not known here ({state})"));
        }
    };
    let action = &actions[index];
    if action.worker_id == me {
        Turn::Run { index, begun }
    } else {
        let (name, other) = (&action.name, &action.worker_id);
        let hint = if other.eq_ignore_ascii_case(me) { ", which differs from ours in case only" } else { "" };
        Turn::NotNow(format!("workflow {workflow} waits for worker {other:?} with action {name:?}{hint}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(workers: &[&str]) -> Vec<WorkflowAction> {
        let action = |(i, worker): (usize, &&str)| WorkflowAction {
            name: format!("a{i}"),
            worker_id: (*worker).to_owned(),
            ..Default::default()
        };
        workers.iter().enumerate().map(action).collect()
    }

    fn at(action: &str, index: i64, state: State) -> WorkflowContext {
        WorkflowContext {
            workflow_id: "w".into(),
            current_action: action.into(),
            current_action_index: index,
            current_action_state: state.into(),
            ..Default::default()
        }
    }

    fn run(index: usize, begun: bool) -> Turn {
        Turn::Run { index, begun }
    }

    #[test]
    fn index_and_state_together_say_what_is_next() {
        let actions = list(&["me", "me", "me"]);
        for (context, want) in [
            (at("", 0, State::Pending), run(0, false)),
            (at("", 2, State::Failed), run(0, false)),
            (at("a0", 0, State::Pending), run(0, false)),
            (at("a1", 1, State::Running), run(1, true)),
            (at("a0", 0, State::Success), run(1, false)),
            (at("a1", 1, State::Success), run(2, false)),
        ] {
            assert_eq!(turn(&context, &actions, "me"), want, "{context:?}");
        }
    }

    #[test]
    fn every_other_case_says_why_not() {
        let actions = list(&["me", "Other"]);
        for (context, me, want) in [
            (at("a1", 1, State::Success), "me", "is finished"),
            (at("a0", 0, State::Failed), "me", "has failed at action \"a0\""),
            (at("a0", 0, State::Timeout), "me", "has timed out at action \"a0\""),
            (at("a0", 0, State::Success), "me", "waits for worker \"Other\" with action \"a1\""),
            (at("a1", 1, State::Pending), "other", "differs from ours in case only"),
            (at("a0", -1, State::Pending), "me", "is at action -1, but has 2"),
            (at("a0", 2, State::Pending), "me", "is at action 2, but has 2"),
            (WorkflowContext { current_action_state: 9, ..at("a0", 0, State::Pending) }, "me", "not known here (9)"),
        ] {
            assert!(matches!(turn(&context, &actions, me), Turn::NotNow(why) if why.contains(want)), "{want}");
        }
        assert_eq!(turn(&at("", 0, State::Pending), &[], "me"), Turn::NotNow("workflow w has no actions".into()));
    }

    proptest! {
        #[test]
        fn a_turn_is_always_ours(
            index in any::<i64>(), state in any::<i32>(), named in any::<bool>(),
            workers in proptest::collection::vec("me|you", 0..4),
        ) {
            let workers: Vec<&str> = workers.iter().map(String::as_str).collect();
            let actions = list(&workers);
            let mut context = at(if named { "a" } else { "" }, index, State::Pending);
            context.current_action_state = state;
            if let Turn::Run { index, .. } = turn(&context, &actions, "me") {
                prop_assert_eq!(actions[index].worker_id.as_str(), "me");
            }
        }
    }
}
