//! `Document` -> `WorkflowStatus`: a rendered and checked template becomes tasks and actions that wait.

use std::collections::BTreeMap;

use serde_saphyr::Spanned;

use super::canonical_worker;
use crate::objects::workflow::{Action, Namespaces, State, Task, WorkflowStatus};
use crate::template::document::{self, Document, Text, retries, seconds, text, truth};

/// What is served for an action without a timeout, in seconds (wire §12.21: never 0).
const DEFAULT_TIMEOUT: i64 = spec::action::DEFAULT_TIMEOUT.as_secs().cast_signed();

/// A workflow that waits for its worker; each task and action gets an id of its own.
pub fn build(document: &Document, new_id: &mut dyn FnMut() -> String) -> WorkflowStatus {
    let tasks = document.tasks.iter().flatten().map(|written| task(&written.value, new_id)).collect::<Vec<_>>();
    let waits = |task: &&Task| task.actions.iter().any(|action| action.state != State::Success);
    let first = tasks.iter().find(waits);
    WorkflowStatus {
        agent_id: first.or(tasks.first()).map(|task| task.agent_id.clone()).unwrap_or_default(),
        // Every condition may be false.
        state: if first.is_some() { State::Pending } else { State::Success },
        template_rendering: "successful".into(),
        global_timeout: seconds(document.global_timeout.as_ref()).unwrap_or(0),
        tasks,
        ..WorkflowStatus::default()
    }
}

fn task(written: &document::Task, new_id: &mut dyn FnMut() -> String) -> Task {
    Task {
        id: new_id(),
        name: text(written.name.as_ref()).to_owned(),
        agent_id: canonical_worker(text(written.worker.as_ref())),
        actions: written.actions.iter().flatten().map(|written| action(written, new_id)).collect(),
        volumes: texts(written.volumes.as_ref()),
        environment: environment(written.environment.as_ref()),
    }
}

fn action(written: &Spanned<document::Action>, new_id: &mut dyn FnMut() -> String) -> Action {
    let written = &written.value;
    let timeout = written.timeout.as_ref().or(written.timeout_seconds.as_ref());
    let own = written.namespaces.as_ref();
    // Older agents know `pid` only.
    let pid = match text(written.pid.as_ref()) {
        "" => text(own.and_then(|own| own.pid.as_ref())),
        pid => pid,
    };
    let left_out = truth(written.condition.as_ref(), true) == Some(false);
    Action {
        id: new_id(),
        name: text(written.name.as_ref()).to_owned(),
        image: text(written.image.as_ref()).to_owned(),
        timeout: seconds(timeout).filter(|s| *s > 0).unwrap_or(DEFAULT_TIMEOUT),
        command: texts(written.command.as_ref()),
        on_timeout: texts(written.on_timeout.as_ref()),
        on_failure: texts(written.on_failure.as_ref()),
        volumes: texts(written.volumes.as_ref()),
        environment: environment(written.environment.as_ref()),
        pid: pid.to_owned(),
        namespaces: own.map(|own| Namespaces {
            network: text(own.network.as_ref()).to_owned(),
            pid: text(own.pid.as_ref()).to_owned(),
        }),
        retries: retries(written.retries.as_ref()).unwrap_or(0),
        background: truth(written.background.as_ref(), false).unwrap_or(false),
        state: if left_out { State::Success } else { State::Pending },
        message: if left_out { "left out, its condition is false".to_owned() } else { String::new() },
        ..Action::default()
    }
}

fn texts(written: Option<&Vec<Text>>) -> Vec<String> {
    written.into_iter().flatten().map(|text| text.0.clone()).collect()
}

fn environment(written: Option<&BTreeMap<String, Text>>) -> BTreeMap<String, String> {
    written.into_iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect()
}
