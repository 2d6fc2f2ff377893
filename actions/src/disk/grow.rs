//! Making use of a disk that is larger than the image: one partition to where the next one, or the disk, ends, and the
//! file system in it by the kernel's own request. Must not move or shrink anything.

use std::io;
use std::path::{Path, PathBuf};

use spec::Code;
use sys::block::{self, Device};
use sys::mount::{self, Mount};

use crate::disk::gpt::Table;
use crate::disk::mounted::{self, Place};
use crate::disk::superblock::{self, Content};
use crate::failed::{Coded, Failed};

/// Partitions end at a multiple of this.
const ALIGNMENT: u64 = 1 << 20;

/// Why nothing grew. The disk is complete but for that, if it was written at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No GPT, no partitions.
    #[error("the image has no GPT, so there is no partition that could grow or get a new GUID")]
    NoTable,
    /// None at all, or not that one.
    #[error("the image has no partition {which} that could grow")]
    NoPartition {
        /// As asked for.
        which: Which,
    },
    /// More than one has that label.
    #[error("the image has several partitions with the label {label:?}, name the one that shall grow by its number")]
    Labels {
        /// As asked for.
        label: String,
    },
    /// The kernel does not show it.
    #[error("the image is on the disk, but its file system did not grow: the kernel shows no partitions of this disk")]
    NotShown,
    /// Nothing that can be made larger.
    #[error("the image is on the disk, but its file system did not grow: {} holds {what}, not ext4, xfs or btrfs", path.display())]
    Kind {
        /// The partition.
        path: PathBuf,
        /// What is on it.
        what: String,
    },
    /// It cannot be looked at.
    #[error("the image is on the disk, but its file system did not grow: cannot read {}", path.display())]
    Look {
        /// The partition.
        path: PathBuf,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No place for the mount.
    #[error("the image is on the disk, but its file system did not grow")]
    Place(#[source] mounted::Error),
    /// It cannot be mounted or unmounted.
    #[error("the image is on the disk, but its file system did not grow: cannot mount {}", path.display())]
    Mount {
        /// The partition.
        path: PathBuf,
        /// What is wrong.
        source: mount::Error,
    },
    /// The kernel refused.
    #[error("the image is on the disk, but the {kind} of {} did not grow", path.display())]
    Refused {
        /// The partition.
        path: PathBuf,
        /// Its kind.
        kind: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::NoTable | Self::NoPartition { .. } | Self::Labels { .. } | Self::NotShown => Code::PartitionTable,
            _ => Code::Mount,
        }
    }
}

/// A partition of the image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Which {
    /// The one that ends last.
    Last,
    /// By its number.
    Number(u32),
    /// By its label, the name in its entry.
    Label(String),
}

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Last => f.write_str("at all"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Label(label) => write!(f, "with the label {label:?}"),
        }
    }
}

/// The number of the partition that is meant.
pub fn find(table: &Table, which: &Which) -> Result<u32, Failed> {
    let partitions = table.partitions()?;
    let found = match which {
        Which::Last => partitions.iter().max_by_key(|(_, p)| p.last_lba).map(|(number, _)| *number),
        Which::Number(number) => partitions.contains_key(number).then_some(*number),
        Which::Label(label) => {
            let mut fitting = partitions.iter().filter(|(_, p)| p.name == *label).map(|(number, _)| *number);
            let first = fitting.next();
            if fitting.next().is_some() {
                return Err(Error::Labels { label: label.clone() }.into());
            }
            first
        }
    };
    Ok(found.ok_or_else(|| Error::NoPartition { which: which.clone() })?)
}

/// In memory: as far as the next one, or the disk, allows.
pub fn grow_partition(table: &mut Table, number: u32) -> Result<u32, Failed> {
    let partitions = table.partitions()?;
    let mut partition = partitions.get(&number).cloned().ok_or(Error::NoPartition { which: Which::Number(number) })?;
    let after = partitions.values().map(|p| p.first_lba).filter(|first| *first > partition.last_lba).min();
    let end = after.unwrap_or(table.usable().1 + 1);
    let step = ALIGNMENT / table.sector();
    let last_lba = (end / step * step).saturating_sub(1);
    if last_lba > partition.last_lba {
        partition.last_lba = last_lba;
        table.set(number, &partition)?;
    }
    Ok(number)
}

/// On the disk, which nobody else has open. The kind of the file system.
pub fn grow_file_system(path: &Path, size: u64) -> Result<&'static str, Error> {
    let owned = || path.to_owned();
    let look = |source| Error::Look { path: owned(), source };
    let content = Device::read(path)
        .map_err(|e: block::Error| look(e.into()))
        .and_then(|device| superblock::of(&device, size).map_err(|e| look(e.into())))?;
    let kind = match content {
        Content::FileSystem(kind @ ("ext4" | "xfs" | "btrfs")) => kind,
        Content::FileSystem(what) | Content::Other(what) => {
            return Err(Error::Kind { path: owned(), what: what.into() });
        }
        Content::Unknown => return Err(Error::Kind { path: owned(), what: "something unknown".into() }),
    };
    let place = Place::make().map_err(Error::Place)?;
    let mount = Mount::device(path, kind, place.path()).map_err(|source| Error::Mount { path: owned(), source })?;
    let grown = sys::grow::grow(kind, mount.at(), size);
    mount.unmount().map_err(|source| Error::Mount { path: owned(), source })?;
    grown.map(|_| kind).map_err(|source| Error::Refused { path: owned(), kind, source })
}
