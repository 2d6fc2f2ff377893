//! The mounts that make a root file system: mounting, propagation, re-rooting, and taking all of it down again.
//! What goes where is decided by the caller. Guards that own a mount are in `mount`.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};
use nix::unistd::{chdir, chroot};

pub use nix::mount::MsFlags as Flags;

/// Not in libc: statfs(2).
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);

/// A failed call, with what it was about.
#[derive(Debug, thiserror::Error)]
pub enum MountsError {
    /// mount(2).
    #[error("mount {kind} on {}", target.display())]
    Mount {
        /// The kind of file system, or `bind`.
        kind: String,
        /// Where.
        target: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// mount(2) with a propagation flag.
    #[error("set propagation of {}", target.display())]
    Propagation {
        /// Where.
        target: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// umount2(2).
    #[error("unmount {}", target.display())]
    Unmount {
        /// Where.
        target: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// chdir(2), mount(2) with MS_MOVE, chroot(2).
    #[error("move {} over /", root.display())]
    MoveRoot {
        /// What was to become the root.
        root: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// statfs(2).
    #[error("ask for the kind of {}", path.display())]
    Kind {
        /// Of what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// One mount to make.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mount {
    /// A device, a directory, or just a name.
    pub source: PathBuf,
    /// Where.
    pub target: PathBuf,
    /// Empty for a bind.
    pub kind: String,
    /// Flags of mount(2).
    pub flags: Flags,
    /// Options that only the file system knows.
    pub data: String,
}

impl Mount {
    /// Makes it.
    pub fn apply(&self) -> Result<(), MountsError> {
        let kind = (!self.kind.is_empty()).then_some(self.kind.as_str());
        let data = (!self.data.is_empty()).then_some(self.data.as_str());
        nix::mount::mount(Some(&self.source), &self.target, kind, self.flags, data).map_err(|errno| {
            let kind = kind.unwrap_or("bind").to_owned();
            MountsError::Mount { kind, target: self.target.clone(), source: errno.into() }
        })
    }
}

/// Makes the file system at `source` visible at `target` too, without what is mounted on it.
pub fn bind(source: &Path, target: &Path) -> Result<(), MountsError> {
    with_flag(source, target, Flags::MS_BIND)
}

/// Moves a mount, with all below it, to another place.
pub fn move_mount(source: &Path, target: &Path) -> Result<(), MountsError> {
    with_flag(source, target, Flags::MS_MOVE)
}

fn with_flag(source: &Path, target: &Path, flags: Flags) -> Result<(), MountsError> {
    Mount { source: source.into(), target: target.into(), kind: String::new(), flags, data: String::new() }.apply()
}

/// Makes the mount at `root` the root of this process and of all that share its root, kernel threads included.
pub fn move_over_root(root: &Path) -> Result<(), MountsError> {
    let moved = || {
        chdir(root)?;
        nix::mount::mount(Some("."), "/", None::<&str>, Flags::MS_MOVE, None::<&str>)?;
        chroot(".")?;
        chdir("/")
    };
    moved().map_err(|errno: Errno| MountsError::MoveRoot { root: root.to_owned(), source: errno.into() })
}

/// Sets how mounts below `target` travel between namespaces: one of the propagation flags, with MS_REC or without.
pub fn set_propagation(target: &Path, flags: Flags) -> Result<(), MountsError> {
    nix::mount::mount(None::<&str>, target, None::<&str>, flags, None::<&str>)
        .map_err(|errno| MountsError::Propagation { target: target.to_owned(), source: errno.into() })
}

/// Unmounts; what is busy fails.
pub fn unmount(target: &Path) -> Result<(), MountsError> {
    umount2(target, MntFlags::UMOUNT_NOFOLLOW)
        .map_err(|errno| MountsError::Unmount { target: target.to_owned(), source: errno.into() })
}

/// Takes a mount and all below it out of the tree; it ends when its last user does.
pub fn detach(target: &Path) -> Result<(), MountsError> {
    umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
        .map_err(|errno| MountsError::Unmount { target: target.to_owned(), source: errno.into() })
}

/// Makes a mounted file system read-only, which writes it out: the second best end of one that is busy.
pub fn remount_read_only(target: &Path) -> Result<(), MountsError> {
    let flags = Flags::MS_REMOUNT | Flags::MS_RDONLY;
    nix::mount::mount(None::<&str>, target, None::<&str>, flags, None::<&str>).map_err(|errno| MountsError::Mount {
        kind: "read-only".to_owned(),
        target: target.to_owned(),
        source: errno.into(),
    })
}

/// Whether the directory is in memory, as the kernel's first root file system is.
pub fn is_in_memory(path: &Path) -> Result<bool, MountsError> {
    let kind = statfs(path)
        .map_err(|errno| MountsError::Kind { path: path.to_owned(), source: errno.into() })?
        .filesystem_type();
    Ok(kind == TMPFS_MAGIC || kind == RAMFS_MAGIC)
}

/// Where file systems of block devices are mounted, by the text of `/proc/self/mounts`, in the order to unmount them.
pub fn on_block_devices(mounts: &str) -> Vec<PathBuf> {
    let mut targets: Vec<_> = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (device, target) = (fields.next()?, fields.next()?);
            (device.starts_with("/dev/") && fields.next()? != "devtmpfs").then(|| unescape(target))
        })
        .collect();
    targets.reverse();
    targets
}

/// `\040` and its like, as getmntent(3) has them.
fn unescape(field: &str) -> PathBuf {
    let mut text = field.to_owned();
    for (escape, plain) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        text = text.replace(escape, plain);
    }
    PathBuf::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_block_devices_are_listed_last_mounted_first() {
        let mounts = "proc /proc proc rw 0 0\n/dev/sda1 /mnt ext4 rw 0 0\n/dev/sda2 /mnt/a\\040b xfs rw 0 0\n\
                      overlay /x overlay rw 0 0\n";
        assert_eq!(on_block_devices(mounts), [PathBuf::from("/mnt/a b"), PathBuf::from("/mnt")]);
    }

    #[test]
    fn a_refused_mount_names_its_place() {
        let mount = Mount {
            source: "none".into(),
            target: "/nonexistent/place".into(),
            kind: "no-such-kind".into(),
            flags: Flags::empty(),
            data: String::new(),
        };
        let error = mount.apply().unwrap_err();
        assert_eq!(error.to_string(), "mount no-such-kind on /nonexistent/place");
    }
}
