//! Partitions after a change of the table: sees to it that the kernel knows them and that they have nodes, without udev.

use std::path::{Path, PathBuf};

use spec::Code;
use sys::block::{self, Device};
use sys::sysfs::{self, Sysfs};

use crate::disk::find::{self, Found};
use crate::failed::Coded;

/// Why partitions cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel does not have them.
    #[error("the kernel does not show partition {number} of {disk}")]
    Missing {
        /// Of the table.
        number: u32,
        /// The disk.
        disk: String,
    },
    /// The kernel has others by that number.
    #[error("the kernel shows partition {number} of {disk} elsewhere than the table has it")]
    Elsewhere {
        /// Of the table.
        number: u32,
        /// The disk.
        disk: String,
    },
    /// The kernel will not take it.
    #[error("cannot tell the kernel of partition {number} of {disk}")]
    Add {
        /// Of the table.
        number: u32,
        /// The disk.
        disk: String,
        /// What the kernel said.
        source: block::Error,
    },
    /// /sys is unreadable.
    #[error("cannot look up the partitions of {disk}")]
    Lookup {
        /// The disk.
        disk: String,
        /// What is wrong.
        source: sysfs::Error,
    },
    /// A node cannot be made.
    #[error("cannot make a node for {}", path.display())]
    Node {
        /// Of the partition.
        path: PathBuf,
        /// What is wrong.
        source: find::Error,
    },
}

impl Coded for Error {
    fn code(&self) -> Code {
        Code::PartitionTable
    }
}

/// A partition that has to be usable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// In the table.
    pub number: u32,
    /// Bytes from the start of the disk.
    pub start: u64,
    /// Bytes.
    pub length: u64,
}

impl Extent {
    /// Whether the kernel shows this one, and not another by its number.
    pub fn is(&self, shown: &sysfs::Partition) -> bool {
        (shown.index, shown.start, shown.size) == (self.number, self.start, self.length)
    }
}

/// Paths of these partitions, in the same order, once the kernel has re-read the table. A kernel that cannot read this
/// kind of table is told of them.
pub fn publish(device: &Device, disk: &str, wanted: &[Extent], sysfs: &Sysfs) -> Result<Vec<PathBuf>, Error> {
    let look = || sysfs.disk(disk).map_err(|source| Error::Lookup { disk: disk.to_owned(), source });
    let now = look()?;
    for extent in wanted.iter().filter(|extent| !now.partitions.iter().any(|p| p.index == extent.number)) {
        let failed = |source| Error::Add { number: extent.number, disk: disk.to_owned(), source };
        device.add_partition(extent.number, extent.start, extent.length).map_err(failed)?;
    }
    let now = look()?;
    let path = |extent: &Extent| match now.partitions.iter().find(|p| p.index == extent.number) {
        Some(partition) if extent.is(partition) => node(&now, partition),
        Some(_) => Err(Error::Elsewhere { number: extent.number, disk: disk.to_owned() }),
        None => Err(Error::Missing { number: extent.number, disk: disk.to_owned() }),
    };
    wanted.iter().map(path).collect()
}

fn node(disk: &sysfs::Disk, partition: &sysfs::Partition) -> Result<PathBuf, Error> {
    let path = Path::new("/dev").join(partition.name.replace('!', "/"));
    let found = Found { path: path.clone(), disk: disk.clone(), partition: Some(partition.clone()) };
    find::reach(&found).map_err(|source| Error::Node { path: path.clone(), source })?;
    Ok(path)
}
