//! The newer workflow service: its action with every field checked, and what became of it as it wants to hear it.
//! Where it leaves out what the classic one has (names of tasks, reactions), that stays empty here.

use std::time::Duration;

use spec::{Action, Outcome};

use crate::agent::{ActionMessage, ActionResponse, ActionStatusRequest, StateType};
use crate::convert::{
    ActionError, Attempt, Era, check, environment_problem, id, key_of, named, pid, timeout, volume_problem,
};

/// The names in an answer to `GetAction`, even of one that [`action`] refuses.
pub fn attempt(wire: &ActionResponse) -> Result<Attempt, ActionError> {
    Ok(Attempt {
        workflow: id("workflow_id", &wire.workflow_id)?,
        task: named("task_id", &wire.task_id)?,
        action: named("name", &wire.name)?,
        worker: id("agent_id", &wire.agent_id)?,
        number: 1,
        id: named("action_id", &wire.action_id)?,
        era: Era::Newer,
    })
}

/// The action to run.
pub fn action(wire: ActionResponse) -> Result<Action, ActionError> {
    let names = attempt(&wire)?;
    let image = named("image", &wire.image)?;
    check("command", &wire.command, |entry| entry.contains('\0').then_some("not free of NUL"), str::to_owned)?;
    check("environment", &wire.environment, environment_problem, key_of)?;
    check("volumes", &wire.volumes, volume_problem, str::to_owned)?;
    let namespaces = wire.namespaces.unwrap_or_default();
    Ok(Action {
        workflow: names.workflow,
        task: names.task,
        name: names.action,
        worker: names.worker,
        image,
        timeout: timeout(wire.timeout)?,
        command: wire.command,
        on_timeout: Vec::new(),
        on_failure: Vec::new(),
        volumes: wire.volumes,
        environment: wire.environment,
        pid: pid(if wire.pid.is_empty() { namespaces.pid } else { wire.pid })?,
        network: network(namespaces.network)?,
        background: false,
    })
}

/// What an action may ask for as its network.
pub fn network(text: String) -> Result<String, ActionError> {
    match text.as_str() {
        "" | "host" | "bridge" | "none" => Ok(text),
        other if other.strip_prefix("container:").is_some_and(|name| !name.is_empty()) => Ok(text),
        _ => Err(ActionError::Network(text)),
    }
}

/// The report that an action is about to start, as the field's agent words it, but without its year 1.
pub fn running(attempt: &Attempt, now: prost_types::Timestamp) -> ActionStatusRequest {
    ActionStatusRequest {
        execution_start: Some(now),
        ..status(attempt, StateType::Running, "running action".to_owned())
    }
}

/// The terminal report of an action that ended at `stop`.
pub fn ended(attempt: &Attempt, outcome: &Outcome, seconds: u64, stop: prost_types::Timestamp) -> ActionStatusRequest {
    let (state, message) = match outcome {
        Outcome::Succeeded => (StateType::Success, "finished execution successfully".to_owned()),
        Outcome::Failed(failure) => (StateType::Failed, failure.one_line()),
        Outcome::TimedOut(failure) => (StateType::Timeout, failure.one_line()),
    };
    let start = stop.seconds.saturating_sub_unsigned(seconds);
    ActionStatusRequest {
        execution_start: Some(prost_types::Timestamp { seconds: start, nanos: stop.nanos }),
        execution_stop: Some(stop),
        execution_duration: go_duration(Duration::from_secs(seconds)),
        ..status(attempt, state, message)
    }
}

fn status(attempt: &Attempt, state: StateType, message: String) -> ActionStatusRequest {
    ActionStatusRequest {
        workflow_id: attempt.workflow.to_string(),
        agent_id: attempt.worker.to_string(),
        task_id: attempt.task.clone(),
        action_id: attempt.id.clone(),
        action_name: attempt.action.clone(),
        action_state: state.into(),
        message: Some(ActionMessage { message }),
        ..ActionStatusRequest::default()
    }
}

/// Two units at most, as the field's agent writes it: `1h2m`, `3m4s`, `5s`.
fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, _) => format!("{h}h{m}m"),
    }
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;
    use spec::{Code, Failure};

    use super::*;
    use crate::agent::Namespaces;

    fn wire() -> ActionResponse {
        ActionResponse {
            workflow_id: "default/w".into(),
            task_id: "T1".into(),
            agent_id: "52:54:00:00:00:01".into(),
            action_id: "A1".into(),
            name: "write image".into(),
            image: "image-write:1".into(),
            environment: vec!["MODE=0644".into()],
            volumes: vec!["/dev:/dev:ro".into()],
            namespaces: Some(Namespaces { network: "host".into(), pid: "host".into() }),
            ..ActionResponse::default()
        }
    }

    #[test]
    fn an_absent_timeout_is_an_hour_and_namespaces_count() {
        let action = action(wire()).unwrap();
        assert_eq!(action.timeout, Duration::from_secs(3600));
        assert_eq!((action.pid.as_str(), action.network.as_str()), ("host", "host"));
        assert_eq!((action.task.as_str(), action.name.as_str()), ("T1", "write image"));
        let older = ActionResponse { pid: "container:x".into(), namespaces: None, ..wire() };
        assert_eq!(super::action(older).unwrap().pid, "container:x");
    }

    #[test]
    fn every_bad_field_is_named() {
        for (bad, want) in [
            (ActionResponse { action_id: String::new(), ..wire() }, "field action_id is empty"),
            (ActionResponse { timeout: -1, ..wire() }, "field timeout is negative: -1 s"),
            (ActionResponse { environment: vec!["secret".into()], ..wire() }, "entry 0 of field environment"),
            (ActionResponse { volumes: vec!["/dev".into()], ..wire() }, "entry 0 of field volumes"),
            (
                ActionResponse {
                    namespaces: Some(Namespaces { network: "mars".into(), ..Default::default() }),
                    ..wire()
                },
                "field namespaces.network is \"mars\"",
            ),
        ] {
            let error = action(bad).unwrap_err().to_string();
            assert!(error.starts_with(want), "{error}");
        }
    }

    #[test]
    fn reports_echo_the_ids_and_carry_times_that_can_be() {
        let attempt = attempt(&wire()).unwrap();
        let stop = Timestamp { seconds: 1_000, nanos: 5 };
        let failure = Failure::new(Code::ExitStatus, "seven");
        let told = ended(&attempt, &Outcome::Failed(failure), 62, stop);
        assert_eq!((told.task_id.as_str(), told.action_id.as_str()), ("T1", "A1"));
        assert_eq!(told.agent_id, "52:54:00:00:00:01");
        assert_eq!((told.execution_start.unwrap().seconds, told.execution_stop.unwrap().seconds), (938, 1_000));
        assert_eq!(
            (told.execution_duration.as_str(), told.message.unwrap().message.as_str()),
            ("1m2s", "exit_status: seven")
        );
        assert_eq!(go_duration(Duration::from_secs(7_260)), "2h1m");
        assert!(running(&attempt, stop).execution_start.unwrap().seconds > 0);
    }
}
