//! A file system of a disk, mounted at a place of our own for as long as an action needs it. Recognises what it is, and
//! waits while a prober has it open. Must not write to it.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use spec::Code;
use sys::block::{self, Device};
use sys::mount::{self, Mount};

use crate::disk::find::Found;
use crate::disk::superblock::{self, Content};
use crate::failed::Coded;

/// Why a file system cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device cannot be read.
    #[error("cannot look at {}", path.display())]
    Look {
        /// The device.
        path: PathBuf,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Not a file system, or an unknown one.
    #[error("{} holds {what}; set FS_TYPE if that is wrong", path.display())]
    Content {
        /// The device.
        path: PathBuf,
        /// What it holds.
        what: &'static str,
    },
    /// No directory to mount at.
    #[error("cannot make a place to mount at")]
    Place(#[source] io::Error),
    /// mount(2) refused.
    #[error("cannot mount {}", path.display())]
    Mount {
        /// The device.
        path: PathBuf,
        /// What is wrong.
        source: mount::Error,
    },
    /// What was written is not known to be on the medium.
    #[error("cannot finish writing to {}", path.display())]
    Unmount {
        /// The device.
        path: PathBuf,
        /// What is wrong.
        source: mount::Error,
    },
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::Look { .. } => Code::DiskIo,
            Self::Content { .. } | Self::Place(_) | Self::Mount { .. } => Code::Mount,
            Self::Unmount { .. } => Code::FileIo,
        }
    }
}

/// The kind that was said, else the kind that is seen.
pub fn fs_type(said: Option<&str>, found: &Found) -> Result<String, Error> {
    if let Some(fs_type) = said {
        return Ok(fs_type.to_owned());
    }
    let path = found.path.clone();
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Look { path: path.clone(), source };
    let device = Device::read(&found.path).map_err(|e: block::Error| failed(e.into()))?;
    match superblock::of(&device, found.size()).map_err(|e| failed(e.into()))? {
        Content::FileSystem(name) => Ok(name.to_owned()),
        Content::Other(what) => Err(Error::Content { path, what }),
        Content::Unknown => Err(Error::Content { path, what: "no file system that is known here" }),
    }
}

/// Mounts at a directory that is there. A prober may have the device open for a moment after its table changed.
pub fn mount_at(found: &Found, fs_type: &str, at: &Path, deadline: Instant) -> Result<Mount, Error> {
    loop {
        match Mount::device(&found.path, fs_type, at) {
            Ok(mount) => return Ok(mount),
            Err(mount::Error::Mount { source, .. })
                if source.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline =>
            {
                thread::sleep(Duration::from_millis(100));
            }
            Err(source) => return Err(Error::Mount { path: found.path.clone(), source }),
        }
    }
}

/// Ends a mount; the medium holds everything when this succeeds.
pub fn unmount(mount: Mount, found: &Found) -> Result<(), Error> {
    mount.unmount().map_err(|source| Error::Unmount { path: found.path.clone(), source })
}

/// An empty directory of our own; removed when dropped, which cannot remove anything that is in it.
#[derive(Debug)]
pub struct Place(PathBuf);

impl Place {
    /// Makes it.
    pub fn make() -> Result<Self, Error> {
        let base = std::env::temp_dir();
        std::fs::create_dir_all(&base).map_err(Error::Place)?;
        let path = base.join(format!("ironhook-target-{}", std::process::id()));
        match std::fs::create_dir(&path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(Error::Place(e)),
            // An earlier action with our process id was killed here.
            _ => Ok(Self(path)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Stays when something is still mounted at it.
        let _ = std::fs::remove_dir(&self.0);
    }
}
