//! The file systems that are mounted in every boot, as tables, in order. Mounts of containers are in `bundle`.

use std::path::{Path, PathBuf};

use sys::mounts::{self, Flags, Mount, MountsError};

/// Directories that are mounted before the root is moved and travel with it.
pub const BEFORE_ROOT: &[&str] = &["proc", "sys", "dev"];

const CGROUP: &str = "/sys/fs/cgroup";

/// A file system that the machine needs is not there.
#[derive(Debug, thiserror::Error)]
pub enum FilesystemsError {
    /// The mount point.
    #[error("make directory {}", path.display())]
    Directory {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The mount.
    #[error("mount the file systems of the machine")]
    Mount(#[from] MountsError),
    /// Controllers cannot be passed on to containers.
    #[error("enable {controllers:?} in {CGROUP}/cgroup.subtree_control")]
    Controllers {
        /// What was written.
        controllers: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// One row: kind, place, flags, options.
type Row = (&'static str, &'static str, Flags, &'static str);

fn early() -> [Row; 3] {
    let quiet = Flags::MS_NOSUID | Flags::MS_NODEV | Flags::MS_NOEXEC;
    [("proc", "/proc", quiet, ""), ("sysfs", "/sys", quiet, ""), ("devtmpfs", "/dev", Flags::MS_NOSUID, "mode=755")]
}

fn needed() -> [Row; 7] {
    let quiet = Flags::MS_NOSUID | Flags::MS_NODEV | Flags::MS_NOEXEC;
    let data = Flags::MS_NOSUID | Flags::MS_NODEV;
    [
        // The engine keeps its images on /run: the largest user of memory, so it may have more than the usual half.
        ("tmpfs", "/run", data, "mode=755,size=75%"),
        ("tmpfs", "/tmp", data, "mode=1777"),
        ("tmpfs", "/var", data, "mode=755"),
        ("devpts", "/dev/pts", Flags::MS_NOSUID | Flags::MS_NOEXEC, "mode=620,gid=5,ptmxmode=666"),
        ("tmpfs", "/dev/shm", data, "mode=1777"),
        ("mqueue", "/dev/mqueue", quiet, ""),
        ("cgroup2", CGROUP, quiet, "nsdelegate"),
    ]
}

/// Not every kernel or firmware has them.
fn if_there() -> [Row; 4] {
    let quiet = Flags::MS_NOSUID | Flags::MS_NODEV | Flags::MS_NOEXEC;
    [
        ("bpf", "/sys/fs/bpf", quiet, "mode=700"),
        ("efivarfs", "/sys/firmware/efi/efivars", quiet, ""),
        ("pstore", "/sys/fs/pstore", quiet, ""),
        ("securityfs", "/sys/kernel/security", quiet, ""),
    ]
}

/// What the rest of the boot stands on: `/proc`, `/sys`, `/dev`.
pub fn mount_early() -> Result<(), FilesystemsError> {
    early().into_iter().try_for_each(mount)
}

/// Everything else, and `/` shared, so that mounts of one container reach those that asked for them.
pub fn mount_all() -> Result<(), FilesystemsError> {
    needed().into_iter().try_for_each(mount)?;
    // Looked for first: asked for one that it does not have, the kernel would load a module for nothing.
    for row in if_there().into_iter().filter(|row| Path::new(row.1).exists()) {
        // Told by its absence in /proc/mounts; nothing of ours depends on one of them.
        let _ = mount(row);
    }
    enable_controllers(Path::new(CGROUP))?;
    mounts::set_propagation(Path::new("/"), Flags::MS_SHARED | Flags::MS_REC)?;
    Ok(())
}

fn mount((kind, target, flags, data): Row) -> Result<(), FilesystemsError> {
    let target = Path::new(target);
    // Below /sys the kernel makes the directories, and their absence says what is not there.
    if !target.starts_with("/sys/") {
        std::fs::create_dir_all(target)
            .map_err(|source| FilesystemsError::Directory { path: target.to_owned(), source })?;
    }
    let mount = Mount { source: kind.into(), target: target.into(), kind: kind.into(), flags, data: data.into() };
    Ok(mount.apply()?)
}

/// Passes every controller on to the groups of containers.
fn enable_controllers(root: &Path) -> Result<(), FilesystemsError> {
    let there = std::fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    let controllers = subtree_control(&there);
    std::fs::write(root.join("cgroup.subtree_control"), &controllers)
        .map_err(|source| FilesystemsError::Controllers { controllers, source })
}

fn subtree_control(controllers: &str) -> String {
    let enabled: Vec<String> = controllers.split_whitespace().map(|name| format!("+{name}")).collect();
    enabled.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_controllers_are_passed_on() {
        assert_eq!(subtree_control("cpuset cpu io memory pids\n"), "+cpuset +cpu +io +memory +pids");
    }

    #[test]
    fn what_travels_with_the_root_is_what_is_mounted_before_it() {
        let early: Vec<_> = early().iter().map(|row| row.1.trim_start_matches('/')).collect();
        assert_eq!(early, BEFORE_ROOT);
    }
}
