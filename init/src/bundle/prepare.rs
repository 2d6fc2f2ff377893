//! Carrying out a plan of `runtime`, and taking down the mounts of a bundle that is done with.

use std::path::{Path, PathBuf};

use sys::mounts::{self, MountsError};

use super::runtime::Step;

/// A bundle cannot be made ready.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// A directory.
    #[error("make directory {}", path.display())]
    Directory {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A mount.
    #[error("make the mounts of runtime.json")]
    Mount(#[from] MountsError),
}

/// Does it, in order.
pub fn apply(steps: &[Step]) -> Result<(), PrepareError> {
    for step in steps {
        match step {
            Step::Directory(path) => std::fs::create_dir_all(path)
                .map_err(|source| PrepareError::Directory { path: path.clone(), source })?,
            Step::Mount(mount) => mount.apply()?,
            Step::Propagation(target, flags) => mounts::set_propagation(target, *flags)?,
        }
    }
    Ok(())
}

/// Takes down the root file system of a bundle that will not run again, and with it the memory of its upper layer.
pub fn release(bundle: &Path) {
    for name in ["rootfs", "tmp"] {
        // Not mounted, for a bundle that is read-only; and a leftover costs memory, not the boot.
        let _ = mounts::detach(&bundle.join(name));
    }
}
