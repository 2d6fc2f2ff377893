//! The root file system: is it whole, and can containers be made on it. The kernel boots on with a tree that was
//! cut short for want of memory, so the last entry of the archive is looked for before anything is relied on.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use spec::paths::{END_MARKER, ENTRIES};
use sys::mounts::{self, MountsError};

const ADVICE: &str = "give the machine more memory, or rootfstype=ramfs on the kernel command line";
/// A directory that is there in every image, and empty.
const STEP: &str = "/mnt";

/// The root file system cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The archive was not unpacked to its end.
    #[error("truncated initramfs: {found}; {ADVICE}")]
    Truncated {
        /// What of it is there.
        found: String,
    },
    /// The end marker holds no number.
    #[error("end marker {END_MARKER} holds {text:?}, not the number of entries; build the image again")]
    Marker {
        /// What it holds.
        text: String,
    },
    /// The tree cannot be read.
    #[error("count the entries of {}", path.display())]
    Count {
        /// Where it stopped.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The place to bind the root to.
    #[error("make directory {STEP}")]
    Step(#[source] std::io::Error),
    /// Binding, moving or asking failed.
    #[error("make / a root that containers can be made on")]
    Mounts(#[from] MountsError),
}

/// Whether `/` is what the kernel unpacked an archive into.
pub fn is_initramfs() -> Result<bool, RootError> {
    Ok(mounts::is_in_memory(Path::new("/"))?)
}

/// Refuses a tree that was cut short. It is looked at through a bind, where nothing is mounted over its directories;
/// the bind stays, for [`re_root`].
pub fn check_complete() -> Result<(), RootError> {
    let step = Path::new(STEP);
    std::fs::create_dir_all(step).map_err(RootError::Step)?;
    mounts::bind(Path::new("/"), step)?;
    let found = count(step)?;
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    judge(found, &read(END_MARKER), &read(ENTRIES))
}

/// `marker` is the content of the last entry, `entries` of one of the first; what is not there, or had no room for
/// its data, is empty.
fn judge(found: u64, marker: &str, entries: &str) -> Result<(), RootError> {
    let truncated = |found| Err(RootError::Truncated { found });
    let number =
        |text: &str| text.trim().parse::<u64>().map_err(|_| RootError::Marker { text: text.trim().to_owned() });
    if marker.trim().is_empty() {
        return match number(entries) {
            Ok(expected) => truncated(format!("{} of {expected} entries", found.min(expected))),
            Err(_) => truncated(format!("{found} entries without the last, {END_MARKER}")),
        };
    }
    let expected = number(marker)?;
    if found < expected { truncated(format!("{found} of {expected} entries")) } else { Ok(()) }
}

/// Entries of the file system at `top`, itself included; what is mounted on it is not counted.
fn count(top: &Path) -> Result<u64, RootError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| RootError::Count { path, source }
    };
    let device = top.symlink_metadata().map_err(failed(top))?.dev();
    let mut entries = 1;
    let mut pending = vec![top.to_owned()];
    while let Some(directory) = pending.pop() {
        if directory.symlink_metadata().map_err(failed(&directory))?.dev() != device {
            continue;
        }
        for entry in directory.read_dir().map_err(failed(&directory))? {
            let entry = entry.map_err(failed(&directory))?;
            entries += 1;
            if entry.file_type().map_err(failed(&entry.path()))?.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    Ok(entries)
}

/// Puts the bind that [`check_complete`] has made over the kernel's first root, without copying: pivot_root(2), which
/// container runtimes use, is impossible on the first one. Kernel threads share our root, so request_module finds
/// the same files.
pub fn re_root() -> Result<(), RootError> {
    let step = Path::new(STEP);
    for name in crate::filesystems::BEFORE_ROOT {
        mounts::move_mount(&Path::new("/").join(name), &step.join(name))?;
    }
    mounts::move_over_root(step)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_empty_marker_means_cut_short() {
        let said = |found, marker, entries| judge(found, marker, entries).unwrap_err().to_string();
        for marker in ["", "\n"] {
            let sentence = "truncated initramfs: 812 of 1695 entries; give the machine more memory, or \
                            rootfstype=ramfs on the kernel command line";
            assert_eq!(said(812, marker, "1695\n"), sentence);
            assert!(said(812, marker, "").starts_with("truncated initramfs: 812 entries without the last"));
        }
        assert!(said(1, "1234\n", "1234\n").starts_with("truncated initramfs: 1 of 1234 entries"));
        assert!(matches!(judge(1, "many", "1"), Err(RootError::Marker { .. })));
        judge(1235, "1234\n", "1234\n").unwrap();
    }

    #[test]
    fn every_entry_counts_once() {
        let top = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(top.path().join("a/b")).unwrap();
        std::fs::write(top.path().join("a/file"), "x").unwrap();
        std::os::unix::fs::symlink("a", top.path().join("link")).unwrap();
        assert_eq!(count(top.path()).unwrap(), 5);
    }
}
