//! What is the same for every executor: how an action's container is named and found again, where its events are, and
//! what its image's labels allow.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use proto::convert::Attempt;
use spec::privileges::{self, Privileges};
use spec::{Code, Failure};

use crate::config;
use crate::text::{digest, sanitised};

/// Finds the container of an action again.
pub const LABEL: &str = "dev.ironhook.action";
/// What an action's image says about being run again after a run that was cut off: `safe`, `resume` or `never`.
pub const REPEAT_LABEL: &str = "dev.ironhook.repeat";
/// Where an action sees its workflow's directory.
pub const WORKFLOW_TARGET: &str = "/workflow";
/// In the directory of an attempt's events.
pub const EVENTS_FILE: &str = "events.jsonl";

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

/// What an action is given: everything, as the field expects, or what the label of its image declares.
pub fn privileges(mode: config::Privileges, labels: &HashMap<String, String>) -> Result<Privileges, Failure> {
    if mode == config::Privileges::Privileged {
        return Ok(Privileges::all());
    }
    let declared = labels.get(privileges::LABEL).map(String::as_str).unwrap_or_default();
    declared.parse().map_err(|error: privileges::PrivilegesError| Failure::new(Code::Start, error.to_string()))
}

/// No container is there for what the server holds for running, and this boot did not claim it.
pub fn cut_off() -> Failure {
    let message = format!(
        "the machine restarted while it ran, and its image does not say that it may run twice (label {REPEAT_LABEL}=safe)"
    );
    Failure::new(Code::Lost, message)
}

/// The directories of the workflow and of the attempt's events; the latter empty, and open to every user, since an
/// action need not be root.
pub fn make_directories(worker_dir: &Path, attempt: &Attempt) -> Result<(), Failure> {
    let events = events_dir(worker_dir, attempt);
    let _ = fs::remove_dir_all(&events);
    let make = |path: PathBuf, mode| {
        fs::create_dir_all(&path).and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode))).map_err(
            |error| {
                let code = if error.kind() == ErrorKind::StorageFull { Code::NoSpace } else { Code::Start };
                Failure::new(code, format!("cannot make {}: {error}", path.display()))
            },
        )
    };
    make(worker_dir.join(attempt.workflow.as_str()), 0o755)?;
    make(events, 0o777)
}

/// The directory of an attempt's events, as agent and engine see it.
pub fn events_dir(worker_dir: &Path, attempt: &Attempt) -> PathBuf {
    worker_dir.join("events").join(name(attempt))
}

/// The file in it.
pub fn events_file(worker_dir: &Path, attempt: &Attempt) -> PathBuf {
    events_dir(worker_dir, attempt).join(EVENTS_FILE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::tests::job;

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
