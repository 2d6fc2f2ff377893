//! The OCI runtime configuration of an action: what the image says, what the action changes of it, and what it is given.
//! The machine's network, as there is no engine that could make another. Pure, but for looking at what a volume names.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use spec::privileges::Privileges;
use spec::{Action, Code, Failure, paths};

use super::seccomp;
use crate::executor::image::ImageConfig;
use crate::executor::place::{EVENTS_FILE, WORKFLOW_TARGET};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything that the configuration is made of.
#[derive(Debug)]
pub struct Request<'a> {
    /// What to run.
    pub action: &'a Action,
    /// What its image says.
    pub config: &'a ImageConfig,
    /// What it is given.
    pub privileges: &'a Privileges,
    /// What we have ourselves: nobody can give more away.
    pub own: Vec<String>,
    /// User and group, looked up in the image.
    pub user: (u32, u32),
    /// On this machine, in the shim's mounts: its root file system.
    pub root: PathBuf,
    /// Host name in the container.
    pub hostname: String,
    /// Its own group; none where groups cannot be used.
    pub cgroup: Option<String>,
    /// On this machine, for the action's `/workflow`.
    pub workflow: PathBuf,
    /// On this machine, for the action's `/run/ironhook`.
    pub events: PathBuf,
    /// On this machine: `/etc/resolv.conf` and `/etc/hosts` for it.
    pub network_files: Vec<(PathBuf, &'static str)>,
}

/// The configuration.
pub fn config(request: &Request<'_>) -> Result<Value, Failure> {
    let Request { action, config, privileges, .. } = request;
    let mut args = config.entrypoint.clone().unwrap_or_default();
    if action.command.is_empty() {
        args.extend(config.cmd.iter().flatten().cloned());
    } else {
        args.extend(action.command.iter().cloned());
    }
    if args.is_empty() {
        return Err(Failure::new(Code::Start, "neither the image nor the action names a program to run"));
    }
    if privileges.memory.or(privileges.pids.map(u64::from)).is_some() && request.cgroup.is_none() {
        return Err(Failure::new(
            Code::Start,
            "its image declares limits, and this machine has no cgroup v2 to keep them",
        ));
    }
    let capabilities: Vec<String> =
        privileges.granted().into_iter().filter(|name| !privileges.privileged || request.own.contains(name)).collect();
    let cwd = if config.working_dir.is_empty() { "/" } else { &config.working_dir };
    let (mounts, mut namespaces) =
        (mounts(request)?, vec![json!({"type": "mount"}), json!({"type": "ipc"}), json!({"type": "uts"})]);
    if action.pid != "host" {
        namespaces.push(json!({"type": "pid"}));
    }
    let confined = !privileges.privileged;
    Ok(json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": request.user.0, "gid": request.user.1},
            "args": args,
            "env": environment(request),
            "cwd": cwd,
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "noNewPrivileges": false,
        },
        "root": {"path": request.root, "readonly": false},
        "hostname": request.hostname,
        "mounts": mounts,
        "linux": {
            "namespaces": namespaces,
            "cgroupsPath": request.cgroup,
            "resources": resources(request),
            "devices": devices(privileges),
            "seccomp": (confined && !privileges.unconfined).then(|| seccomp::profile(&capabilities)),
            "maskedPaths": if confined { json!(["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"]) } else { json!([]) },
            "readonlyPaths": if confined { json!(["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]) } else { json!([]) },
        },
    }))
}

/// The image's, then the action's; the last of a name counts, as engines have it.
fn environment(request: &Request<'_>) -> Vec<String> {
    let events = format!("{}={}/{EVENTS_FILE}", paths::EVENTS_ENV, paths::RUN);
    let all = request.config.env.iter().flatten().chain(&request.action.environment).chain([&events]);
    let mut merged: Vec<String> = vec![PATH.to_owned(), format!("HOSTNAME={}", request.hostname)];
    for entry in all {
        let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
        match merged.iter_mut().find(|other| name(other) == name(entry)) {
            Some(other) => other.clone_from(entry),
            None => merged.push(entry.clone()),
        }
    }
    merged
}

fn mounts(request: &Request<'_>) -> Result<Vec<Value>, Failure> {
    let mut mounts = standard_mounts(request.privileges.privileged);
    let own = [(&request.workflow, WORKFLOW_TARGET), (&request.events, paths::RUN)];
    let files = request.network_files.iter().map(|(source, target)| (source, *target));
    let volumes = request.action.volumes.iter().map(|text| volume(text)).collect::<Result<Vec<_>, _>>()?;
    for (source, target) in own.into_iter().chain(files) {
        // What the template mounts there itself has precedence.
        if !volumes.iter().any(|(other, _)| other == target) {
            mounts.push(
                json!({"type": "bind", "source": source, "destination": target, "options": ["rbind", "rprivate"]}),
            );
        }
    }
    // A volume at /dev or /sys takes the place of the standard one, and comes where that would have come.
    for (target, mount) in volumes {
        match mounts.iter_mut().find(|other| other["destination"] == target.as_str()) {
            Some(other) => *other = mount,
            None => mounts.push(mount),
        }
    }
    let all = mounts.clone();
    let below = |path: &str| all.iter().any(|mount| mount["destination"] == path && mount["type"] == "bind");
    // What is below a directory of the machine is the machine's already.
    mounts.retain(|mount| {
        let parent = mount["destination"].as_str().and_then(|path| Path::new(path).parent()?.to_str()).unwrap_or("/");
        mount["type"] == "bind"
            || !matches!(parent, "/dev" | "/sys/fs")
            || !below(if parent == "/dev" { "/dev" } else { "/sys" })
    });
    Ok(mounts)
}

fn standard_mounts(privileged: bool) -> Vec<Value> {
    let mount = |kind: &str, target: &str, options: &[&str]| json!({"type": kind, "source": kind, "destination": target, "options": options});
    // Below /sys are the machine's groups; who is not privileged sees none of them.
    let (access, depth) = if privileged { ("rw", "rbind") } else { ("ro", "bind") };
    let dev = if privileged {
        json!({"type": "bind", "source": "/dev", "destination": "/dev", "options": ["rbind", "rslave"]})
    } else {
        mount("tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"])
    };
    vec![
        mount("proc", "/proc", &["nosuid", "noexec", "nodev"]),
        dev,
        mount("devpts", "/dev/pts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        mount("tmpfs", "/dev/shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("mqueue", "/dev/mqueue", &["nosuid", "noexec", "nodev"]),
        json!({"type": "bind", "source": "/sys", "destination": "/sys", "options": [depth, "nosuid", "noexec", "nodev", access]}),
    ]
}

/// `source:target[:options]`, as the engine takes it; a source that is not there becomes a directory, as with the engine.
fn volume(text: &str) -> Result<(String, Value), Failure> {
    let bad = |problem: String| Failure::new(Code::BadMount, format!("volume {text:?}: {problem}"));
    let mut parts = text.split(':');
    let (source, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if !source.starts_with('/') {
        return Err(bad("its source is no absolute path; volumes with names are the docker engine's".into()));
    }
    if !target.starts_with('/') || Path::new(target).components().any(|part| part.as_os_str() == "..") {
        return Err(bad("its target is no absolute path".into()));
    }
    let mut options = vec!["rbind".to_owned()];
    for option in parts.flat_map(|options| options.split(',')) {
        match option {
            "ro" | "rw" | "private" | "rprivate" | "slave" | "rslave" | "nosuid" | "nodev" | "noexec" => {
                options.push(option.to_owned());
            }
            // Words for SELinux, and for a file system that is not this one.
            "z" | "Z" | "nocopy" | "cached" | "delegated" | "consistent" => {}
            other => {
                return Err(bad(format!(
                    "option {other:?} is not one of ro, rw, [r]private, [r]slave, nosuid, nodev, noexec"
                )));
            }
        }
    }
    let there = Path::new(source).try_exists().unwrap_or(false);
    if !there {
        std::fs::create_dir_all(source).map_err(|error| bad(format!("its source cannot be made: {error}")))?;
    }
    let target = target.trim_end_matches('/');
    let target = if target.is_empty() { "/" } else { target };
    Ok((target.to_owned(), json!({"type": "bind", "source": source, "destination": target, "options": options})))
}

fn devices(privileges: &Privileges) -> Vec<Value> {
    // Those of every container are crun's own affair.
    let node = |device: &spec::privileges::Device| {
        let (kind, major, minor) = sys::node::kind_and_number(Path::new(&device.path)).ok()?;
        Some(json!({"path": device.path, "type": kind, "major": major, "minor": minor}))
    };
    privileges.devices.iter().filter_map(node).collect()
}

fn resources(request: &Request<'_>) -> Value {
    if request.cgroup.is_none() {
        return Value::Null;
    }
    let privileges = request.privileges;
    let rule = |allow: bool, rest: Value| {
        let mut rule = json!({"allow": allow, "access": "rwm"});
        if let (Some(rule), Some(rest)) = (rule.as_object_mut(), rest.as_object()) {
            rule.extend(rest.clone());
        }
        rule
    };
    let mut devices = vec![rule(privileges.privileged, json!({}))];
    for device in &privileges.devices {
        if let Ok((kind, major, minor)) = sys::node::kind_and_number(Path::new(&device.path)) {
            devices.push(json!({"allow": true, "type": kind, "major": major, "minor": minor, "access": device.access}));
        }
    }
    json!({
        "devices": devices,
        "memory": privileges.memory.map(|limit| json!({"limit": limit, "swap": limit})),
        "pids": privileges.pids.map(|limit| json!({"limit": limit})),
        "cpu": privileges.millicpus.map(|millis| json!({"period": 100_000, "quota": i64::from(millis) * 100})),
    })
}

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
