//! A workflow as a file: the field's template (`tasks` with `actions`), alone or as `spec.data` of a Template object, or
//! the newer agent's plain list of actions. Every problem is told with its key; nothing is filled in. Pure.

use std::time::Duration;

use serde::Deserialize;
use spec::action::DEFAULT_TIMEOUT;
use spec::{Action, WorkerId, WorkflowId};

/// The file cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It has placeholders.
    #[error("line {line}: {text:?} is filled in by the server; put the value there")]
    Placeholder {
        /// Where.
        line: usize,
        /// What.
        text: String,
    },
    /// It is no workflow.
    #[error("not a workflow: expected a template with `tasks`, a Template object, or a list of actions")]
    Unknown,
    /// It cannot be read as what it is.
    #[error("cannot be read as a workflow")]
    Shape(#[source] serde_saphyr::Error),
    /// A value that means nothing.
    #[error("{key}: {problem}")]
    Value {
        /// Where.
        key: String,
        /// What.
        problem: String,
    },
    /// Nothing to do.
    #[error("it has no actions")]
    Empty,
}

#[derive(Deserialize)]
struct Object {
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    data: String,
}

#[derive(Deserialize)]
struct Template {
    #[serde(default)]
    name: String,
    tasks: Vec<Task>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Task {
    name: String,
    #[serde(default)]
    #[allow(dead_code)]
    worker: String,
    #[serde(default)]
    volumes: Vec<String>,
    #[serde(default)]
    environment: Environment,
    actions: Vec<RawAction>,
}

/// Values as texts, whatever YAML makes of them.
type Environment = std::collections::BTreeMap<String, Text>;

#[derive(Deserialize, Clone)]
#[serde(untagged)]
enum Text {
    Word(String),
    Bool(bool),
    Integer(i64),
    Float(f64),
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Word(text) => f.write_str(text),
            Self::Bool(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
        }
    }
}

#[derive(Deserialize)]
struct Variable {
    key: String,
    value: Text,
}

#[derive(Deserialize, Default)]
struct Namespaces {
    #[serde(default)]
    network: String,
    #[serde(default)]
    pid: String,
}

/// An action of either generation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAction {
    name: String,
    image: String,
    #[serde(default)]
    #[allow(dead_code)]
    id: String,
    #[serde(default, alias = "timeoutSeconds")]
    timeout: i64,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    cmd: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default, rename = "on-timeout")]
    on_timeout: Vec<String>,
    #[serde(default, rename = "on-failure")]
    on_failure: Vec<String>,
    #[serde(default)]
    volumes: Vec<String>,
    #[serde(default)]
    environment: Environment,
    #[serde(default)]
    env: Vec<Variable>,
    #[serde(default)]
    pid: String,
    #[serde(default)]
    namespaces: Namespaces,
    #[serde(default)]
    retries: u32,
    #[serde(default)]
    background: bool,
}

/// An action, and how often it is tried.
#[derive(Debug)]
pub struct Step {
    /// What to run.
    pub action: Action,
    /// At least once.
    pub tries: u32,
}

/// All actions in their order. `name` is the workflow's, where the file has none.
pub fn parse(text: &str, name: &str) -> Result<Vec<Step>, DocumentError> {
    // Which kind it is comes first, so that an error is about that kind, and names its line.
    let kind: serde_json::Value = serde_saphyr::from_str(text).map_err(DocumentError::Shape)?;
    let template = match &kind {
        serde_json::Value::Array(_) => {
            let actions = serde_saphyr::from_str(text).map_err(DocumentError::Shape)?;
            let (worker, volumes, environment) = (String::new(), Vec::new(), Environment::new());
            Template {
                name: name.into(),
                tasks: vec![Task { name: name.into(), worker, volumes, environment, actions }],
            }
        }
        serde_json::Value::Object(keys) if keys.contains_key("spec") => {
            let object: Object = serde_saphyr::from_str(text).map_err(DocumentError::Shape)?;
            return parse(&object.spec.data, name);
        }
        serde_json::Value::Object(keys) if keys.contains_key("tasks") => {
            serde_saphyr::from_str(text).map_err(DocumentError::Shape)?
        }
        _ => return Err(DocumentError::Unknown),
    };
    placeholders(text)?;
    let id = if template.name.is_empty() { name } else { &template.name };
    let value = |key: String| move |error: spec::id::IdError| DocumentError::Value { key, problem: error.to_string() };
    let workflow: WorkflowId = format!("local/{}", crate::text::sanitised(id)).parse().map_err(value("name".into()))?;
    let worker: WorkerId = "local".parse().map_err(value("worker".into()))?;
    let mut steps = Vec::new();
    for task in &template.tasks {
        for raw in &task.actions {
            steps.push(step(raw, task, &workflow, &worker)?);
        }
    }
    if steps.is_empty() { Err(DocumentError::Empty) } else { Ok(steps) }
}

/// Two actions of a task with one name could not be told apart.
fn step(raw: &RawAction, task: &Task, workflow: &WorkflowId, worker: &WorkerId) -> Result<Step, DocumentError> {
    let wrong = |what: &str, problem: &str| DocumentError::Value {
        key: format!("action {:?} of task {:?}, {what}", raw.name, task.name),
        problem: problem.to_owned(),
    };
    if raw.name.is_empty() || raw.image.is_empty() {
        return Err(wrong("name and image", "must not be empty"));
    }
    if task.actions.iter().filter(|other| other.name == raw.name).count() > 1 {
        return Err(wrong("name", "is used twice in its task"));
    }
    if raw.background {
        return Err(wrong("background", "a file is run one action after the other"));
    }
    if !matches!(raw.pid.as_str(), "" | "host") || !matches!(raw.namespaces.pid.as_str(), "" | "host") {
        return Err(wrong("pid", "is neither empty nor host"));
    }
    let seconds = u64::try_from(raw.timeout).map_err(|_| wrong("timeout", "is negative"))?;
    let mut environment = task.environment.clone();
    environment.extend(raw.environment.clone());
    environment.extend(raw.env.iter().map(|it| (it.key.clone(), it.value.clone())));
    let newer = Some(raw.cmd.clone()).filter(|cmd| !cmd.is_empty()).into_iter().chain(raw.args.clone());
    let action = Action {
        workflow: workflow.clone(),
        task: task.name.clone(),
        name: raw.name.clone(),
        worker: worker.clone(),
        image: raw.image.clone(),
        timeout: if seconds == 0 { DEFAULT_TIMEOUT } else { Duration::from_secs(seconds) },
        command: if raw.command.is_empty() { newer.collect() } else { raw.command.clone() },
        on_timeout: raw.on_timeout.clone(),
        on_failure: raw.on_failure.clone(),
        volumes: task.volumes.iter().chain(&raw.volumes).cloned().collect(),
        environment: environment.iter().map(|(key, value)| format!("{key}={value}")).collect(),
        pid: if raw.pid.is_empty() { raw.namespaces.pid.clone() } else { raw.pid.clone() },
        network: raw.namespaces.network.clone(),
        background: false,
    };
    Ok(Step { action, tries: raw.retries.saturating_add(1) })
}

fn placeholders(text: &str) -> Result<(), DocumentError> {
    let found = text.lines().enumerate().find(|(_, line)| line.contains("{{"));
    match found {
        None => Ok(()),
        Some((i, line)) => Err(DocumentError::Placeholder { line: i + 1, text: line.trim().to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEMPLATE: &str = r#"
version: "0.1"
name: install
global_timeout: 600
tasks:
  - name: os
    worker: local
    volumes: [/dev:/dev]
    environment: {A: task, B: 1}
    actions:
      - name: write
        image: ironhook/image-write
        timeout: 90
        environment: {A: action, MODE: "0644"}
        on-failure: [/bin/false]
      - {name: boot, image: x, pid: host, volumes: ["/a:/b"], command: [go]}
"#;

    #[test]
    fn a_template_is_its_actions_in_order_with_what_the_task_adds() {
        let steps = parse(TEMPLATE, "file").unwrap();
        let first = &steps[0].action;
        assert_eq!((first.workflow.as_str(), first.timeout.as_secs(), steps[0].tries), ("local/install", 90, 1));
        assert_eq!(first.environment, ["A=action", "B=1", "MODE=0644"]);
        assert_eq!(
            (&first.volumes[..], &first.on_failure[..]),
            (&["/dev:/dev".to_owned()][..], &["/bin/false".to_owned()][..])
        );
        let second = &steps[1].action;
        assert_eq!((second.pid.as_str(), second.timeout, second.volumes.len()), ("host", DEFAULT_TIMEOUT, 2));
        let indented = TEMPLATE.replace('\n', "\n    ");
        let object = format!("apiVersion: tinkerbell.org/v1alpha1\nkind: Template\nspec:\n  data: |\n    {indented}");
        assert_eq!(parse(&object, "file").unwrap().len(), 2);
    }

    #[test]
    fn the_newer_agents_list_is_run_too() {
        let list = "- {name: a, image: i, cmd: sh, args: [-c, x], env: [{key: K, value: 7}], retries: 2, timeoutSeconds: 5, namespaces: {network: host}}";
        let steps = parse(list, "file").unwrap();
        let action = &steps[0].action;
        assert_eq!(
            (&action.command[..], action.environment[0].as_str()),
            (&["sh", "-c", "x"].map(str::to_owned)[..], "K=7")
        );
        assert_eq!((steps[0].tries, action.timeout.as_secs(), action.network.as_str()), (3, 5, "host"));
    }

    #[test]
    fn what_cannot_be_run_is_told_with_its_place() {
        for (text, want) in [
            ("tasks: [{name: t, actions: [{name: a, image: '{{.disk}}'}]}]", "line 1: "),
            ("tasks: []", "no actions"),
            ("a: 1", "not a workflow"),
            ("tasks: [{name: t, actions: [{name: a, image: ''}]}]", "action \"a\" of task \"t\", name and image"),
            ("tasks: [{name: t, actions: [{name: a, image: i, timeout: -1}]}]", "timeout: is negative"),
            ("tasks: [{name: t, actions: [{name: a, image: i}, {name: a, image: i}]}]", "used twice"),
            ("tasks: [{name: t, actions: [{name: a, image: i, pid: x}]}]", "pid: is neither"),
        ] {
            let error = parse(text, "file").unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(tasks|name|actions|spec|data|image|[-:{}\\[\\] \n'\"|a-z0-9]){0,40}") {
            let _ = parse(&text, "file");
        }
    }
}
