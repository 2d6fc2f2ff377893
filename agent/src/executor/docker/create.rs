//! The container of a job as the engine is asked for it: name, labels, mounts, environment. Pure.

use std::collections::HashMap;
use std::path::Path;

use bollard::models::{ContainerCreateBody, DeviceMapping, HostConfig};
use spec::paths;
use spec::privileges::{Device, Privileges};

use crate::executor::place::{EVENTS_FILE, LABEL, WORKFLOW_TARGET, label, name};
use crate::job::Job;

/// What the engine is asked for.
pub fn body(job: &Job, image: String, privileges: &Privileges, worker_dir: &Path) -> ContainerCreateBody {
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
            privileged: Some(privileges.privileged),
            cap_add: Some(privileges.capabilities.clone()),
            devices: Some(privileges.devices.iter().map(device).collect()),
            memory: privileges.memory.and_then(|bytes| i64::try_from(bytes).ok()),
            // What is written to disk instead would not be a limit.
            memory_swap: privileges.memory.and_then(|bytes| i64::try_from(bytes).ok()),
            pids_limit: privileges.pids.map(i64::from),
            nano_cpus: privileges.millicpus.map(|millis| i64::from(millis) * 1_000_000),
            security_opt: privileges.unconfined.then(|| vec!["seccomp=unconfined".to_owned()]),
            pid_mode: Some(action.pid.clone()).filter(|pid| !pid.is_empty()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

fn device(device: &Device) -> DeviceMapping {
    DeviceMapping {
        path_on_host: Some(device.path.clone()),
        path_in_container: Some(device.path.clone()),
        cgroup_permissions: Some(device.access.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::tests::job;

    #[test]
    fn the_engine_is_asked_for_what_the_field_expects() {
        let body = body(&job(), "i:latest".into(), &Privileges::all(), Path::new("/worker"));
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
    fn what_a_label_declares_is_all_that_is_given() {
        let privileges =
            "cap:SYS_BOOT device:/dev/kvm:rw memory:64M pids:9 cpus:0.5 seccomp:unconfined".parse().unwrap();
        let host = body(&job(), "i".into(), &privileges, Path::new("/worker")).host_config.unwrap();
        assert_eq!((host.privileged, host.cap_add), (Some(false), Some(vec!["SYS_BOOT".to_owned()])));
        assert_eq!(host.devices.unwrap()[0].path_on_host.as_deref(), Some("/dev/kvm"));
        assert_eq!((host.memory, host.pids_limit, host.nano_cpus), (Some(64 << 20), Some(9), Some(500_000_000)));
        assert_eq!(host.security_opt, Some(vec!["seccomp=unconfined".to_owned()]));
    }

    #[test]
    fn a_template_that_mounts_there_itself_keeps_its_mount() {
        let mut job = job();
        job.action.volumes = vec!["/mine:/workflow:ro".into()];
        let binds =
            body(&job, "i".into(), &Privileges::all(), Path::new("/worker")).host_config.unwrap().binds.unwrap();
        assert_eq!(binds.iter().filter(|bind| bind.contains(":/workflow")).count(), 1);
    }
}
