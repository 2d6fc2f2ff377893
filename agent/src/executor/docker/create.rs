//! The container of a job as the engine is asked for it: name, labels, mounts, environment. Pure.

use std::collections::HashMap;
use std::path::Path;

use bollard::models::{ContainerCreateBody, HostConfig};
use proto::convert::Attempt;
use spec::paths;

use crate::job::Job;
use crate::text::{digest, sanitised};

/// Finds the container of an action again.
pub const LABEL: &str = "dev.ironhook.action";
/// What an action's image asks for, where privileges are given only to those that declare them.
pub const PRIVILEGES_LABEL: &str = "dev.ironhook.privileges";
/// What an action's image says about being run again after a run that was cut off: `safe`, `resume` or `never`.
pub const REPEAT_LABEL: &str = "dev.ironhook.repeat";
/// Where an action sees its workflow's directory.
const WORKFLOW_TARGET: &str = "/workflow";
const EVENTS_FILE: &str = "events.jsonl";

/// Unique per action of a workflow, readable, and legal for the engine: `ironhook_<task>_<action>_<digest>`.
pub fn name(attempt: &Attempt) -> String {
    let digest = digest(&[attempt.workflow.as_str(), &attempt.task, &attempt.action]) as u32;
    let short = |text: &str| sanitised(text).chars().take(60).collect::<String>();
    format!("ironhook_{}_{}_{digest:08x}", short(&attempt.task), short(&attempt.action))
}

/// The value of [`LABEL`].
pub fn label(attempt: &Attempt) -> String {
    attempt.to_string()
}

/// Whether an image's labels allow its action to be run again after a run that was cut off.
pub fn may_repeat(labels: &HashMap<String, String>) -> bool {
    labels.get(REPEAT_LABEL).is_some_and(|value| matches!(value.as_str(), "safe" | "resume"))
}

/// Whether an image's labels ask for privileges.
pub fn declares_privileges(labels: &HashMap<String, String>) -> bool {
    labels.get(PRIVILEGES_LABEL).is_some_and(|value| value == "privileged")
}

/// What the engine is asked for.
pub fn body(job: &Job, image: String, privileged: bool, worker_dir: &Path) -> ContainerCreateBody {
    let action = &job.action;
    let worker = worker_dir.display();
    let mut environment = action.environment.clone();
    environment.push(format!("{}={}/{EVENTS_FILE}", paths::EVENTS_ENV, paths::RUN));
    let mut binds = action.volumes.clone();
    // What the template mounts there itself has precedence: the engine refuses two mounts at one place.
    for (source, target) in [
        (format!("{worker}/{}", action.workflow), WORKFLOW_TARGET),
        (format!("{worker}/events/{}", name(&job.attempt)), paths::RUN),
    ] {
        if !action.volumes.iter().any(|volume| volume.split(':').nth(1) == Some(target)) {
            binds.push(format!("{source}:{target}"));
        }
    }
    ContainerCreateBody {
        image: Some(image),
        cmd: Some(action.command.clone()).filter(|command| !command.is_empty()),
        env: Some(environment),
        labels: Some(HashMap::from([
            (LABEL.to_owned(), label(&job.attempt)),
            ("dev.ironhook.workflow".to_owned(), action.workflow.to_string()),
        ])),
        host_config: Some(HostConfig {
            binds: Some(binds),
            privileged: Some(privileged),
            pid_mode: Some(action.pid.clone()).filter(|pid| !pid.is_empty()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// The directory of an attempt's events, as agent and engine see it.
pub fn events_dir(worker_dir: &Path, attempt: &Attempt) -> std::path::PathBuf {
    worker_dir.join("events").join(name(attempt))
}

/// The file in it.
pub fn events_file(worker_dir: &Path, attempt: &Attempt) -> std::path::PathBuf {
    events_dir(worker_dir, attempt).join(EVENTS_FILE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::tests::job;

    #[test]
    fn the_engine_is_asked_for_what_the_field_expects() {
        let body = body(&job(), "i:latest".into(), true, Path::new("/worker"));
        let host = body.host_config.unwrap();
        let name = name(&job().attempt);
        assert_eq!(
            host.binds.unwrap(),
            ["/dev:/dev", "/worker/default/install:/workflow", &format!("/worker/events/{name}:/run/ironhook")]
        );
        assert_eq!((host.privileged, host.pid_mode.as_deref(), host.network_mode), (Some(true), Some("host"), None));
        assert_eq!(body.env.unwrap(), ["K=V", "IRONHOOK_EVENTS=/run/ironhook/events.jsonl"]);
        assert_eq!((body.cmd, body.entrypoint), (Some(vec!["a".to_owned()]), None));
        assert_eq!(body.labels.unwrap()[LABEL], "default/install/os install/write/é");
    }

    #[test]
    fn a_template_that_mounts_there_itself_keeps_its_mount() {
        let mut job = job();
        job.action.volumes = vec!["/mine:/workflow:ro".into()];
        let binds = body(&job, "i".into(), true, Path::new("/worker")).host_config.unwrap().binds.unwrap();
        assert_eq!(binds.iter().filter(|bind| bind.contains(":/workflow")).count(), 1);
    }

    #[test]
    fn only_an_image_that_says_so_is_run_again() {
        let labels = |value: &str| HashMap::from([(REPEAT_LABEL.to_owned(), value.to_owned())]);
        for (value, may) in [("safe", true), ("resume", true), ("never", false), ("", false), ("SAFE", false)] {
            assert_eq!(may_repeat(&labels(value)), may, "{value}");
        }
        assert!(!may_repeat(&HashMap::new()));
    }

    #[test]
    fn names_are_legal_and_differ_between_workflows_and_look_alikes() {
        let mut other = job().attempt;
        assert!(name(&other).starts_with("ironhook_os_install_write___"), "{}", name(&other));
        other.workflow = "default/other".parse().unwrap();
        assert_ne!(name(&other), name(&job().attempt));
        let mut alike = job().attempt;
        alike.task = "os_install".into();
        assert_ne!(name(&alike), name(&job().attempt));
    }
}
