//! Device nodes where no udev makes them: a container's own /dev does not show partitions that came later.

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

/// Makes sure that `path` is the node of the block device `number`; says whether it had to be made.
pub fn ensure(path: &Path, number: Number) -> Result<bool, Error> {
    let kind = SFlag::S_IFBLK;
    match mknod(path, kind, Mode::S_IRUSR | Mode::S_IWUSR, number.to_raw()) {
        Ok(()) => Ok(true),
        Err(Errno::EEXIST) if is_node(path, number) => Ok(false),
        Err(Errno::EEXIST) => Err(Error::Taken { path: path.to_owned(), number }),
        Err(e) => Err(Error::Make { path: path.to_owned(), number, source: e.into() }),
    }
}

/// Whether `path` leads to the node of the block device `number`.
pub fn is_node(path: &Path, number: Number) -> bool {
    path.metadata().is_ok_and(|m| m.file_type().is_block_device() && Number::from_raw(m.rdev()) == number)
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
}
