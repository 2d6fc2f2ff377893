//! What every program expects of a machine: directories to meet in, a name, the loopback interface, device links.

use std::path::{Path, PathBuf};

use crate::console::Console;
use crate::one_line;

/// Directories below `/run` and `/var`, made before any container is.
const DIRECTORIES: &[&str] = &[
    "/run/ironhook",
    "/run/docker",
    "/run/worker",
    "/run/images",
    "/run/log",
    "/run/lock",
    "/run/resolvconf",
    "/run/crun",
    "/var/log",
    "/var/lib",
    "/var/cache",
    "/var/tmp",
];
/// Links that programs look for and devtmpfs does not make.
const LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("/run", "/var/run"),
];

/// The machine lacks a place that others rely on.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A directory.
    #[error("make directory {}", path.display())]
    Directory {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A link.
    #[error("link {}", path.display())]
    Link {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Makes the directories and links.
pub fn make_places() -> Result<(), HostError> {
    for path in DIRECTORIES.iter().map(Path::new) {
        std::fs::create_dir_all(path).map_err(|source| HostError::Directory { path: path.into(), source })?;
    }
    for (target, path) in LINKS.iter().map(|(target, path)| (target, Path::new(path))) {
        match std::os::unix::fs::symlink(target, path) {
            Err(source) if source.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(HostError::Link { path: path.into(), source });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Gives the machine its name, if the image has one, and brings `lo` up. A machine without either still installs, so
/// a failure is told and not an end.
pub fn set_up(console: &Console) {
    if let Ok(name) = std::fs::read_to_string("/etc/hostname")
        && let Err(error) = sys::link::set_hostname(name.trim())
    {
        console.say(&format!("warning: {}", one_line(&error)));
    }
    if let Err(error) = sys::link::set_up("lo") {
        console.say(&format!("warning: {}", one_line(&error)));
    }
}
