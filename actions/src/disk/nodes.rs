//! Partitions after a change of the table: waits for the kernel to know them and makes their nodes where no udev does.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use spec::Code;
use sys::sysfs::{self, Sysfs};

use crate::disk::find::{self, Found};
use crate::failed::Coded;

/// How long the kernel may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why partitions cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel does not have them.
    #[error("the kernel does not show partition {number} of {disk} after {} s", PATIENCE.as_secs())]
    Missing {
        /// Of the table.
        number: u32,
        /// The disk.
        disk: String,
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

/// Paths of the partitions with these numbers, in the same order.
pub fn wait(disk: &str, numbers: &[u32], sysfs: &Sysfs) -> Result<Vec<PathBuf>, Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = sysfs.disk(disk).map_err(|source| Error::Lookup { disk: disk.to_owned(), source })?;
        let missing = numbers.iter().find(|n| now.partitions.iter().all(|p| p.index != **n));
        match missing {
            None => {
                let wanted = numbers.iter().filter_map(|n| now.partitions.iter().find(|p| p.index == *n));
                return wanted.map(|p| node(&now, p)).collect();
            }
            Some(number) if Instant::now() >= deadline => {
                return Err(Error::Missing { number: *number, disk: disk.to_owned() });
            }
            Some(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn node(disk: &sysfs::Disk, partition: &sysfs::Partition) -> Result<PathBuf, Error> {
    let path = Path::new("/dev").join(partition.name.replace('!', "/"));
    let found = Found { path: path.clone(), disk: disk.clone(), partition: Some(partition.clone()) };
    find::reach(&found).map_err(|source| Error::Node { path: path.clone(), source })?;
    Ok(path)
}
