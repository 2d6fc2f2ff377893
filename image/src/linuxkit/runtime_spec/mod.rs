//! A merged container in the words of the OCI runtime specification: config.json. Pure.
//! Defaults are LinuxKit's: network, IPC and UTS of the machine, PID and mounts of its own, no capabilities.

mod mounts;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use thiserror::Error;

use super::ids::Ids;
use super::model::{Container, Device, DeviceRule};
use mounts::mounts;

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

/// What `rlimits` may name, without `RLIMIT_`.
const LIMITS: [&str; 16] = [
    "AS",
    "CORE",
    "CPU",
    "DATA",
    "FSIZE",
    "LOCKS",
    "MEMLOCK",
    "MSGQUEUE",
    "NICE",
    "NOFILE",
    "NPROC",
    "RSS",
    "RTPRIO",
    "RTTIME",
    "SIGPENDING",
    "STACK",
];

/// The document, ready to be written.
pub fn config_json(name: &str, container: &Container, ids: &Ids) -> Result<Value, Error> {
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
    let mounts = mounts(container).map_err(|(key, bad, problem)| fail(key, &bad, problem))?;
    let (nodes, resources) = devices(container).map_err(|(bad, problem)| fail("devices", &bad, problem))?;
    let limits = rlimits(container).map_err(|bad| fail("rlimits", &bad, "is not `name,soft,hard` of a known limit"))?;
    let capabilities = capability_sets(container).map_err(|(key, bad)| fail(key, &bad, "is no capability"))?;
    let mut process = json!({
        "terminal": false,
        "user": user(container, ids).map_err(|(key, bad)| fail(key, &bad, "is neither a number nor a container"))?,
        "args": args,
        "env": container.env.clone().unwrap_or_default(),
        "cwd": container.cwd.as_deref().unwrap_or("/"),
        "capabilities": capabilities,
        "noNewPrivileges": container.no_new_privileges.unwrap_or(false),
    });
    set(&mut process, "rlimits", (!limits.is_empty()).then(|| Value::from(limits)));
    set(&mut process, "oomScoreAdj", container.oom_score_adj.map(Value::from));
    let mut linux = json!({"namespaces": namespaces(container), "resources": resources});
    set(&mut linux, "devices", (!nodes.is_empty()).then(|| Value::from(nodes)));
    set(&mut linux, "rootfsPropagation", container.rootfs_propagation.clone().map(Value::from));
    set(&mut linux, "cgroupsPath", container.cgroups_path.clone().map(Value::from));
    set(&mut linux, "sysctl", container.sysctl.as_ref().map(|sysctl| json!(sysctl)));
    set(&mut linux, "maskedPaths", container.masked_paths.as_ref().map(|paths| json!(paths)));
    set(&mut linux, "readonlyPaths", container.readonly_paths.as_ref().map(|paths| json!(paths)));
    set(&mut linux, "uidMappings", container.uid_mappings.as_ref().map(|mappings| json!(mappings)));
    set(&mut linux, "gidMappings", container.gid_mappings.as_ref().map(|mappings| json!(mappings)));
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

fn user(container: &Container, ids: &Ids) -> Result<Value, (&'static str, String)> {
    let uid = ids.number(container.uid.as_ref()).map_err(|bad| ("uid", bad))?;
    let gid = ids.number(container.gid.as_ref()).map_err(|bad| ("gid", bad))?;
    let mut user = json!({"uid": uid, "gid": gid});
    let more = container.additional_gids.iter().flatten().map(|id| ids.number(Some(id)));
    let more: Vec<u32> = more.collect::<Result<_, _>>().map_err(|bad| ("additionalGids", bad))?;
    set(&mut user, "additionalGids", (!more.is_empty()).then(|| Value::from(more)));
    Ok(user)
}

fn set(object: &mut Value, key: &str, value: Option<Value>) {
    if let Some(value) = value {
        object[key] = value;
    }
}

/// What is asked for is effective; it and the ambient ones are the bound of what can be had.
fn capability_sets(container: &Container) -> Result<Value, (&'static str, String)> {
    let asked = capabilities(&container.capabilities).map_err(|bad| ("capabilities", bad))?;
    let ambient = capabilities(&container.ambient).map_err(|bad| ("ambient", bad))?;
    let bound: BTreeSet<&String> = asked.iter().chain(&ambient).collect();
    let mut sets = json!({"bounding": bound, "effective": asked, "inheritable": bound, "permitted": bound});
    set(&mut sets, "ambient", (!ambient.is_empty()).then(|| json!(ambient)));
    Ok(sets)
}

fn capabilities(asked: &Option<Vec<String>>) -> Result<Vec<String>, String> {
    let all = || CAPABILITIES.split(' ').map(|name| format!("CAP_{name}"));
    let asked = asked.clone().unwrap_or_default();
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
        ("user", container.userns.as_deref().unwrap_or("host")),
    ];
    for (kind, wish) in kinds {
        match wish {
            "host" | "root" => {}
            "none" if kind == "network" => namespaces.push(json!({"type": kind})),
            "" | "new" => namespaces.push(json!({"type": kind})),
            path => namespaces.push(json!({"type": kind, "path": path})),
        }
    }
    namespaces.push(json!({"type": "mount"}));
    namespaces
}

fn devices(container: &Container) -> Result<(Vec<Value>, Value), (String, &'static str)> {
    let mut resources = container.resources.clone().unwrap_or_default();
    let rules = resources.devices.get_or_insert_default();
    let rule = |kind: &str, numbers: Option<(i64, i64)>| DeviceRule {
        allow: Some(true),
        kind: Some(kind.to_owned()),
        major: numbers.map(|(major, _)| major),
        minor: numbers.map(|(_, minor)| minor),
        access: Some("rwm".to_owned()),
    };
    let mut nodes = Vec::new();
    for device in container.devices.iter().flatten() {
        let Device { path, kind, major, minor, mode } = device;
        if !["b", "c"].contains(&kind.as_str()) {
            return Err((path.clone(), "has a type that is neither `b` nor `c`"));
        }
        if path == "all" {
            rules.push(rule(kind, None));
            continue;
        }
        let mode = mode.as_deref().and_then(|mode| u32::from_str_radix(mode, 8).ok());
        let mode = mode.ok_or_else(|| (path.clone(), "needs an octal mode in quotes"))?;
        nodes.push(json!({"path": path, "type": kind, "major": major, "minor": minor, "fileMode": mode}));
        rules.push(rule(kind, Some((*major, *minor))));
    }
    if rules.is_empty() {
        resources.devices = None;
    }
    Ok((nodes, json!(resources)))
}

fn rlimits(container: &Container) -> Result<Vec<Value>, String> {
    let number = |text: &str| {
        if text.eq_ignore_ascii_case("unlimited") { Some(NO_LIMIT) } else { text.parse().ok() }
    };
    let limit = |text: &String| {
        let [name, soft, hard] = text.split(',').map(str::trim).collect::<Vec<_>>()[..] else { return None };
        let name = name.to_ascii_uppercase();
        let name = name.strip_prefix("RLIMIT_").unwrap_or(&name);
        let (soft, hard) = (number(soft)?, number(hard)?);
        LIMITS.contains(&name).then(|| json!({"type": format!("RLIMIT_{name}"), "soft": soft, "hard": hard}))
    };
    container.rlimits.iter().flatten().map(|text| limit(text).ok_or_else(|| text.clone())).collect()
}

#[cfg(test)]
mod tests;
