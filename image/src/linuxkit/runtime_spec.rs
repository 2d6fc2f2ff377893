//! A merged container in the words of the OCI runtime specification: config.json. Pure.
//! Defaults are LinuxKit's: network, IPC and UTS of the machine, PID and mounts of its own, no capabilities.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use thiserror::Error;

use super::model::{Container, Device, Mount};

/// A key whose value has no meaning.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("container `{container}`, key `{key}`: `{value}` {problem}")]
pub struct Error {
    container: String,
    key: &'static str,
    value: String,
    problem: String,
}

/// All capabilities of kernel 6.12, in the order of their numbers.
const CAPABILITIES: &str = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP \
    LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT \
    SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE \
    AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE";

const NO_LIMIT: u64 = u64::MAX;

/// The document, ready to be written.
pub fn config_json(name: &str, container: &Container) -> Result<Value, Error> {
    let fail = |key, value: &str, problem: &str| Error {
        container: name.to_owned(),
        key,
        value: value.to_owned(),
        problem: problem.to_owned(),
    };
    let args = container.command.clone().unwrap_or_default();
    if args.is_empty() {
        return Err(fail("command", "", "is empty, and the image has no entrypoint either"));
    }
    let capabilities = capabilities(container).map_err(|bad| fail("capabilities", &bad, "is no capability"))?;
    let mounts = mounts(container).map_err(|(key, bad, problem)| fail(key, &bad, problem))?;
    let (nodes, resources) = devices(container).map_err(|(bad, problem)| fail("devices", &bad, problem))?;
    let mut process = json!({
        "terminal": false,
        "user": {"uid": container.uid.unwrap_or(0), "gid": container.gid.unwrap_or(0)},
        "args": args,
        "env": container.env.clone().unwrap_or_default(),
        "cwd": container.cwd.as_deref().unwrap_or("/"),
        "capabilities": {
            "bounding": capabilities, "effective": capabilities, "inheritable": capabilities, "permitted": capabilities,
        },
        "noNewPrivileges": container.no_new_privileges.unwrap_or(false),
    });
    let limits = rlimits(container).map_err(|bad| fail("rlimits", &bad, "is not `name,soft[,hard]`"))?;
    set(&mut process, "rlimits", (!limits.is_empty()).then(|| Value::from(limits)));
    set(&mut process, "oomScoreAdj", container.oom_score_adj.map(Value::from));
    let mut linux = json!({"namespaces": namespaces(container), "resources": resources});
    set(&mut linux, "devices", (!nodes.is_empty()).then(|| Value::from(nodes)));
    set(&mut linux, "rootfsPropagation", container.rootfs_propagation.clone().map(Value::from));
    set(&mut linux, "cgroupsPath", container.cgroups_path.clone().map(Value::from));
    set(&mut linux, "sysctl", container.sysctl.as_ref().map(|sysctl| json!(sysctl)));
    let mut document = json!({
        "ociVersion": "1.2.1",
        "process": process,
        "root": {"path": "rootfs", "readonly": container.readonly.unwrap_or(false)},
        "mounts": mounts,
        "linux": linux,
    });
    set(&mut document, "hostname", container.hostname.clone().map(Value::from));
    set(&mut document, "annotations", container.annotations.as_ref().map(|annotations| json!(annotations)));
    Ok(document)
}

fn set(object: &mut Value, key: &str, value: Option<Value>) {
    if let Some(value) = value {
        object[key] = value;
    }
}

fn capabilities(container: &Container) -> Result<Vec<String>, String> {
    let all = || CAPABILITIES.split(' ').map(|name| format!("CAP_{name}"));
    let asked = container.capabilities.clone().unwrap_or_default();
    match asked.iter().map(|name| name.to_ascii_lowercase()).collect::<Vec<_>>()[..] {
        [ref only] if only == "all" => return Ok(all().collect()),
        [ref only] if only == "none" => return Ok(Vec::new()),
        _ => {}
    }
    match asked.iter().find(|asked| !all().any(|known| known == **asked)) {
        Some(unknown) => Err(unknown.clone()),
        None => Ok(asked),
    }
}

fn namespaces(container: &Container) -> Vec<Value> {
    let mut namespaces = Vec::new();
    let kinds = [
        ("network", container.net.as_deref().unwrap_or("host")),
        ("pid", container.pid.as_deref().unwrap_or("new")),
        ("ipc", container.ipc.as_deref().unwrap_or("host")),
        ("uts", container.uts.as_deref().unwrap_or("host")),
    ];
    for (kind, wish) in kinds {
        match wish {
            "host" | "root" => {}
            "" | "new" | "none" => namespaces.push(json!({"type": kind})),
            path => namespaces.push(json!({"type": kind, "path": path})),
        }
    }
    namespaces.push(json!({"type": "mount"}));
    namespaces
}

fn mount(destination: &str, kind: &str, source: &str, options: &str) -> Mount {
    let options = options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
    Mount { destination: destination.to_owned(), kind: kind.to_owned(), source: source.to_owned(), options }
}

fn mounts(container: &Container) -> Result<Vec<Mount>, (&'static str, String, &'static str)> {
    let read_only = if container.readonly == Some(true) { ",ro" } else { "" };
    let mut all = vec![
        mount("/proc", "proc", "proc", "nosuid,nodev,noexec,relatime"),
        mount("/dev", "tmpfs", "tmpfs", &format!("nosuid,strictatime,mode=755,size=65536k{read_only}")),
        mount("/dev/pts", "devpts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620"),
        mount("/sys", "sysfs", "sysfs", &format!("nosuid,noexec,nodev{read_only}")),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid,noexec,nodev,relatime,ro"),
    ];
    for text in container.tmpfs.iter().flatten() {
        let (destination, options) = text.split_once(':').unwrap_or((text, ""));
        all.push(mount(destination, "tmpfs", "tmpfs", options));
    }
    for text in container.binds.iter().flatten() {
        let bind = match text.split(':').collect::<Vec<_>>()[..] {
            [source, destination] => mount(destination, "bind", source, "rw,rbind,rshared"),
            [source, destination, options] => mount(destination, "bind", source, &format!("{options},rbind")),
            _ => return Err(("binds", text.clone(), "is not `source:destination[:options]`")),
        };
        all.push(bind);
    }
    for mount in container.mounts.iter().flatten() {
        let mut mount = mount.clone();
        let named_by_source = ["mqueue", "devpts", "proc", "sysfs", "cgroup", "tmpfs"].contains(&mount.source.as_str());
        if mount.kind.is_empty() && named_by_source {
            mount.kind = mount.source.clone();
        }
        all.push(mount);
    }
    let mut by_destination = BTreeMap::new();
    for mount in all {
        if !mount.destination.starts_with('/') {
            return Err(("mounts", mount.destination, "is no absolute path"));
        }
        by_destination.insert(mount.destination.clone(), mount);
    }
    Ok(by_destination.into_values().collect())
}

fn devices(container: &Container) -> Result<(Vec<Value>, Value), (String, &'static str)> {
    let mut resources = container.resources.clone().unwrap_or_else(|| json!({}));
    let Some(object) = resources.as_object_mut() else {
        return Err(("resources".into(), "must be a mapping"));
    };
    let mut rules = object.remove("devices").and_then(|rules| rules.as_array().cloned()).unwrap_or_default();
    let mut nodes = Vec::new();
    for device in container.devices.iter().flatten() {
        let Device { path, kind, major, minor, mode } = device;
        if !["b", "c"].contains(&kind.as_str()) {
            return Err((path.clone(), "has a type that is neither `b` nor `c`"));
        }
        if path == "all" {
            rules.push(json!({"allow": true, "type": kind, "access": "rwm"}));
            continue;
        }
        let mode = mode.as_deref().and_then(|mode| u32::from_str_radix(mode, 8).ok());
        let mode = mode.ok_or_else(|| (path.clone(), "needs an octal mode in quotes"))?;
        nodes.push(json!({"path": path, "type": kind, "major": major, "minor": minor, "fileMode": mode}));
        rules.push(json!({"allow": true, "type": kind, "major": major, "minor": minor, "access": "rwm"}));
    }
    if !rules.is_empty() {
        object.insert("devices".into(), rules.into());
    }
    Ok((nodes, Value::Object(std::mem::take::<Map<_, _>>(object))))
}

fn rlimits(container: &Container) -> Result<Vec<Value>, String> {
    let number = |text: &str| match text {
        "unlimited" => Some(NO_LIMIT),
        text => text.parse().ok(),
    };
    let limit = |text: &String| {
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        let (name, soft, hard) = match parts[..] {
            [name, both] => (name, number(both)?, number(both)?),
            [name, soft, hard] => (name, number(soft)?, number(hard)?),
            _ => return None,
        };
        Some(json!({"type": format!("RLIMIT_{}", name.to_ascii_uppercase()), "soft": soft, "hard": hard}))
    };
    container.rlimits.iter().flatten().map(|text| limit(text).ok_or_else(|| text.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(yaml: &str) -> Result<Value, Error> {
        let mut container: Container = crate::yaml::parse("test", yaml).unwrap();
        container.command.get_or_insert_with(|| vec!["/x".into()]);
        config_json("x", &container)
    }

    #[test]
    fn defaults_are_linuxkits() {
        let config = config("{}").unwrap();
        assert_eq!(config["ociVersion"], "1.2.1");
        assert_eq!(config["linux"]["namespaces"], json!([{"type": "pid"}, {"type": "mount"}]));
        assert_eq!(config["process"]["capabilities"]["bounding"], json!([]));
        let destinations: Vec<_> =
            config["mounts"].as_array().unwrap().iter().map(|m| m["destination"].clone()).collect();
        assert_eq!(destinations, ["/dev", "/dev/pts", "/proc", "/sys", "/sys/fs/cgroup"]);
    }

    #[test]
    fn the_shape_of_a_privileged_service() {
        let config = config(
            "{capabilities: [all], net: host, pid: host, ipc: /run/ns/ipc, rootfsPropagation: shared,
              binds: ['/dev:/dev:rw,rslave', '/run/docker:/run'], devices: [{path: all, type: b}],
              mounts: [{type: cgroup2, source: cgroup2, destination: /sys/fs/cgroup, options: [rw]}],
              rlimits: ['nofile,1024,unlimited'], resources: {pids: {limit: 9}}}",
        )
        .unwrap();
        assert_eq!(config["process"]["capabilities"]["effective"].as_array().unwrap().len(), 41);
        assert_eq!(config["linux"]["namespaces"], json!([{"type": "ipc", "path": "/run/ns/ipc"}, {"type": "mount"}]));
        assert_eq!(config["mounts"][0]["options"], json!(["rw", "rslave", "rbind"]));
        assert_eq!(
            config["mounts"][3],
            json!({"destination": "/run", "type": "bind", "source": "/run/docker", "options": ["rw", "rbind", "rshared"]})
        );
        assert_eq!(config["mounts"][5]["type"], "cgroup2");
        let rule = json!({"allow": true, "type": "b", "access": "rwm"});
        assert_eq!(config["linux"]["resources"], json!({"pids": {"limit": 9}, "devices": [rule]}));
        assert_eq!(config["process"]["rlimits"][0], json!({"type": "RLIMIT_NOFILE", "soft": 1024, "hard": NO_LIMIT}));
    }

    #[test]
    fn nonsense_is_named_with_container_and_key() {
        for (yaml, expected) in [
            ("{capabilities: [CAP_FLY]}", "container `x`, key `capabilities`: `CAP_FLY` is no capability"),
            ("{binds: [/a]}", "container `x`, key `binds`: `/a` is not"),
            ("{rlimits: ['nofile,many']}", "container `x`, key `rlimits`: `nofile,many`"),
            ("{devices: [{path: /dev/x, type: c}]}", "container `x`, key `devices`: `/dev/x` needs"),
            ("{command: []}", "container `x`, key `command`"),
        ] {
            let error = config(yaml).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
