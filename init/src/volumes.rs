//! Volumes of the LinuxKit file: what the image brings for one is below, what containers write is above, in memory.
//! Who binds a volume is written in the bundles; the layout is the assembler's.

use std::path::{Path, PathBuf};
use std::{fs, io};

use sys::mounts::{Flags, Mount, MountsError};

/// Where they lie, a directory each: `lower`, `tmp`, `merged`.
pub const VOLUMES: &str = "/containers/volumes";

/// A volume cannot be made ready.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// Which volumes there are.
    #[error("list {VOLUMES}")]
    List(#[source] io::Error),
    /// Somewhere to write.
    #[error("make directory {}", path.display())]
    Directory {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A mount.
    #[error("mount the volume {}", path.display())]
    Mount {
        /// Which volume.
        path: PathBuf,
        /// Why.
        #[source]
        source: MountsError,
    },
}

/// The volumes of the image, in order of name; none where the file names none.
pub fn all() -> Result<Vec<PathBuf>, VolumeError> {
    let entries = match fs::read_dir(VOLUMES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(VolumeError::List)?,
    };
    let mut volumes: Vec<PathBuf> =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>().map_err(VolumeError::List)?;
    volumes.sort();
    Ok(volumes)
}

/// Mounts one, for containers to bind `merged`.
pub fn mount(volume: &Path) -> Result<(), VolumeError> {
    let failed = |source| VolumeError::Mount { path: volume.to_owned(), source };
    let tmp = volume.join("tmp");
    let (upper, work) = (tmp.join("upper"), tmp.join("work"));
    let memory = Mount {
        source: "tmpfs".into(),
        target: tmp,
        kind: "tmpfs".into(),
        flags: Flags::MS_NODEV,
        data: "mode=755".into(),
    };
    memory.apply().map_err(failed)?;
    for path in [&upper, &work] {
        fs::create_dir(path).map_err(|source| VolumeError::Directory { path: path.clone(), source })?;
    }
    let data =
        format!("lowerdir={},upperdir={},workdir={}", volume.join("lower").display(), upper.display(), work.display());
    let overlay = Mount {
        source: "overlay".into(),
        target: volume.join("merged"),
        kind: "overlay".into(),
        flags: Flags::empty(),
        data,
    };
    overlay.apply().map_err(failed)
}
