//! One mount with an owner: made, used, unmounted by name, or at the latest when its guard is dropped; and what is
//! mounted now. The file systems that init needs at boot are in `mounts`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, umount2};

use crate::sysfs::Number;

/// Why a mount could not be made, undone or listed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// mount(2) refused.
    #[error("cannot mount {} ({fs_type}) at {}", device.display(), at.display())]
    Mount {
        /// What.
        device: PathBuf,
        /// As what.
        fs_type: String,
        /// Where.
        at: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// umount2(2) refused until the end of our patience.
    #[error("cannot unmount {}", at.display())]
    Unmount {
        /// Where.
        at: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The list of mounts is unreadable.
    #[error("cannot read {}", path.display())]
    List {
        /// The list.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A mount that is ours to undo.
#[derive(Debug)]
pub struct Mount {
    at: PathBuf,
    mounted: bool,
}

/// How long a busy mount is tried again before we give up.
const PATIENCE: Duration = Duration::from_secs(5);

impl Mount {
    /// Mounts a device for reading and writing, without devices and set-uid programs coming to life from it.
    pub fn device(device: &Path, fs_type: &str, at: &Path) -> Result<Self, Error> {
        let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        nix::mount::mount(Some(device), at, Some(fs_type), flags, None::<&str>).map_err(|e| Error::Mount {
            device: device.to_owned(),
            fs_type: fs_type.to_owned(),
            at: at.to_owned(),
            source: e.into(),
        })?;
        Ok(Self { at: at.to_owned(), mounted: true })
    }

    /// Where it is.
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// Unmounts, trying again while something still has a file open. The medium holds everything afterwards.
    pub fn unmount(mut self) -> Result<(), Error> {
        self.undo()
    }

    fn undo(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        while self.mounted {
            match umount2(&self.at, MntFlags::UMOUNT_NOFOLLOW) {
                Ok(()) => self.mounted = false,
                Err(Errno::EBUSY) if Instant::now() < deadline => thread::sleep(Duration::from_millis(50)),
                Err(e) => {
                    self.mounted = false;
                    return Err(Error::Unmount { at: self.at.clone(), source: e.into() });
                }
            }
        }
        Ok(())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A drop has no one to tell; whoever cares calls `unmount`.
        let _ = self.undo();
    }
}

/// One line of mountinfo (proc_pid_mountinfo(5)).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The device below the file system.
    pub number: Number,
    /// Where it is mounted.
    pub at: PathBuf,
    /// The kind of file system.
    pub fs_type: String,
    /// What was given to mount(2).
    pub source: String,
}

/// Every mount this process sees.
pub fn list() -> Result<Vec<Entry>, Error> {
    let path = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(path).map_err(|source| Error::List { path: path.to_owned(), source })?;
    Ok(text.lines().filter_map(parse).collect())
}

/// Fields: id, parent, major:minor, root, mount point, options, any number of optional ones, `-`, type, source.
fn parse(line: &str) -> Option<Entry> {
    let (head, tail) = line.split_once(" - ")?;
    let mut head = head.split(' ');
    let number = head.nth(2)?.parse().ok()?;
    let at = unescape(head.nth(1)?);
    let mut tail = tail.split(' ');
    Some(Entry { number, at: at.into(), fs_type: tail.next()?.to_owned(), source: unescape(tail.next()?) })
}

/// Space, tab, line end and backslash come as `\ooo`.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(byte) if byte.is_ascii() => {
                out.push(char::from(byte));
                rest = &rest[at + 4..];
            }
            _ => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_optional_fields_and_escapes_is_read() {
        let line = r"36 35 98:0 /mnt1 /mnt/a\040b rw,noatime shared:1 master:2 - ext3 /dev/root rw,errors=continue";
        let entry = parse(line).unwrap();
        assert_eq!(entry.number, Number { major: 98, minor: 0 });
        assert_eq!(entry.at, Path::new("/mnt/a b"));
        assert_eq!((entry.fs_type.as_str(), entry.source.as_str()), ("ext3", "/dev/root"));
    }

    #[test]
    fn a_backslash_that_escapes_nothing_stays() {
        assert_eq!(unescape(r"a\9\134b\"), r"a\9\b\");
    }

    #[test]
    fn this_process_has_mounts() {
        assert!(list().unwrap().iter().any(|e| e.at == Path::new("/")));
    }
}
