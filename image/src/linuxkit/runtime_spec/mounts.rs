//! The mounts of a container: LinuxKit's defaults, then `tmpfs`, `binds` and `mounts`; a later one of the same
//! destination replaces an earlier one. Sorted, so that a parent comes before what is mounted in it. Pure.

use std::collections::BTreeMap;

use super::super::model::{Container, Mount};

/// Key, value and what is wrong with it.
type Problem = (&'static str, String, &'static str);

fn mount(destination: &str, kind: &str, source: &str, options: &str) -> Mount {
    let options = options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
    let (destination, kind, source) = (destination.to_owned(), kind.to_owned(), source.to_owned());
    Mount { destination, kind, source, options, uid_mappings: Vec::new(), gid_mappings: Vec::new() }
}

/// All of them.
pub fn mounts(container: &Container) -> Result<Vec<Mount>, Problem> {
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
        all.push(completed(mount.clone())?);
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

/// A mount of the YAML with what its kind or source leaves to be understood.
fn completed(mut mount: Mount) -> Result<Mount, Problem> {
    if mount.kind.is_empty() {
        mount.kind = match (mount.source.as_str(), mount.destination.as_str()) {
            (source @ ("mqueue" | "devpts" | "proc" | "sysfs" | "cgroup"), _) => source.to_owned(),
            (_, "/dev") => "tmpfs".to_owned(),
            (source, destination) => {
                let shown = if destination.is_empty() { source } else { destination };
                return Err(("mounts", shown.to_owned(), "needs a `type`"));
            }
        };
    }
    if mount.source.is_empty() {
        mount.source = mount.kind.clone();
    }
    if mount.destination.is_empty() {
        mount.destination = match mount.kind.as_str() {
            "proc" => "/proc",
            "devpts" => "/dev/pts",
            "sysfs" => "/sys",
            "cgroup" => "/sys/fs/cgroup",
            "mqueue" => "/dev/mqueue",
            _ => return Err(("mounts", mount.kind, "needs a `destination`")),
        }
        .to_owned();
    }
    Ok(mount)
}
