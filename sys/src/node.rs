//! Device nodes where no udev makes them: a container's own /dev does not show partitions that came later.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, mknod};

use crate::sysfs::Number;

/// Why there is no usable node.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// mknod(2) refused.
    #[error("cannot make the device node {} ({number})", path.display())]
    Make {
        /// Where.
        path: PathBuf,
        /// For which device.
        number: Number,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something else has the name.
    #[error("{} exists and is not block device {number}", path.display())]
    Taken {
        /// Where.
        path: PathBuf,
        /// For which device.
        number: Number,
    },
}

/// Makes sure that `path` is the node of the block device `number`; says whether it had to be made. A node of another
/// block device is replaced: numbers of partitions change when a table is read again, and no one else tidies up.
pub fn ensure(path: &Path, number: Number) -> Result<bool, Error> {
    if is_node(path, number) {
        return Ok(false);
    }
    let failed = |source| Error::Make { path: path.to_owned(), number, source };
    if path.symlink_metadata().is_ok_and(|m| m.file_type().is_block_device()) {
        fs::remove_file(path).map_err(failed)?;
    }
    match mknod(path, SFlag::S_IFBLK, Mode::S_IRUSR | Mode::S_IWUSR, number.to_raw()) {
        Ok(()) => Ok(true),
        Err(Errno::EEXIST) if is_node(path, number) => Ok(false),
        Err(Errno::EEXIST) => Err(Error::Taken { path: path.to_owned(), number }),
        Err(e) => Err(failed(e.into())),
    }
}

/// Whether `path` leads to the node of the block device `number`.
pub fn is_node(path: &Path, number: Number) -> bool {
    path.metadata().is_ok_and(|m| m.file_type().is_block_device() && Number::from_raw(m.rdev()) == number)
}

/// What a device node is: `b` or `c`, major, minor.
pub fn kind_and_number(path: &Path) -> io::Result<(&'static str, u32, u32)> {
    let metadata = path.metadata()?;
    let number = Number::from_raw(metadata.rdev());
    match metadata.file_type() {
        kind if kind.is_block_device() => Ok(("b", number.major, number.minor)),
        kind if kind.is_char_device() => Ok(("c", number.major, number.minor)),
        _ => Err(io::Error::other(format!("{} is no device", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_the_way_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = ensure(file.path(), Number { major: 7, minor: 0 }).unwrap_err();
        assert!(matches!(error, Error::Taken { .. }), "{error:?}");
    }

    #[test]
    fn a_node_of_another_device_is_replaced() {
        if !nix::unistd::geteuid().is_root() {
            // Around the capture of the test harness: a skip is always seen.
            let _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                b"SKIP a_node_of_another_device_is_replaced: needs root\n",
            );
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sda1");
        let number = |minor| Number { major: 259, minor };
        assert!(ensure(&path, number(1)).unwrap());
        assert!(!ensure(&path, number(1)).unwrap());
        assert!(ensure(&path, number(2)).unwrap());
        assert!(is_node(&path, number(2)));
    }
}
