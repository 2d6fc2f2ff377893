//! A partition table that was made for sectors of one size, for a disk with sectors of another: every partition keeps its
//! bytes. Refuses what would not work afterwards. Must not write to a disk.

use std::io::{Read, Seek, SeekFrom};

use spec::Code;

use crate::disk::gpt::{Disk, Error as TableError, Table};
use crate::disk::nodes::Extent;
use crate::failed::{Coded, Failed};

/// Bytes of a partition that tell the sectors of its file system.
const LOOK: usize = 2048;

/// Why the image cannot be used with these sectors.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A sector would be half a partition's.
    #[error(
        "the partition table cannot be converted: partition {number} {what} at byte {byte}, which no sector of {sector} \
         bytes does"
    )]
    Boundary {
        /// Of the partition.
        number: u32,
        /// Begins or ends.
        what: &'static str,
        /// Where.
        byte: u64,
        /// Of the disk.
        sector: u32,
    },
    /// The table needs that place.
    #[error(
        "the partition table cannot be converted: partition {number} begins at byte {byte}, where the table has to be"
    )]
    Start {
        /// Of the partition.
        number: u32,
        /// Where.
        byte: u64,
    },
    /// The boot record has partitions, too.
    #[error("the partition table cannot be converted: the image has a hybrid MBR, whose partitions count sectors, too")]
    Hybrid,
    /// What is in a partition counts sectors, too.
    #[error(
        "the partition table was converted, but the {kind} in partition {number} has blocks of {has} bytes: it does not \
         work on a disk with sectors of {sector} bytes"
    )]
    FileSystem {
        /// Of the partition.
        number: u32,
        /// Which.
        kind: &'static str,
        /// Its smallest unit.
        has: u32,
        /// Of the disk.
        sector: u32,
    },
    /// It cannot be looked at.
    #[error("cannot read the start of partition {number}")]
    Look {
        /// Of the partition.
        number: u32,
        /// What the kernel said.
        source: std::io::Error,
    },
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::Look { .. } => Code::DiskIo,
            _ => Code::PartitionTable,
        }
    }
}

/// The table for sectors of the size `to`, which is not yet on the disk; the one for the size `from` is gone from it.
pub fn table(disk: &mut impl Disk, from: u32, to: u32) -> Result<Table, Failed> {
    let old = Table::read(disk, from)?.ok_or(TableError::Damaged)?;
    if is_hybrid(disk)? {
        return Err(Error::Hybrid.into());
    }
    let mut new = Table::empty(disk, to)?;
    new.take_guid(&old);
    let (old_size, new_size) = (u64::from(from), u64::from(to));
    let partitions = old.partitions()?;
    for (number, partition) in &partitions {
        let start = partition.first_lba * old_size;
        let end = (partition.last_lba + 1) * old_size;
        let wrong = |what, byte| Error::Boundary { number: *number, what, byte, sector: to };
        if !start.is_multiple_of(new_size) {
            return Err(wrong("begins", start).into());
        }
        // A few unused sectors more do no harm where nobody has them.
        let rounded = end.next_multiple_of(new_size);
        let is_free = partitions
            .values()
            .all(|p| p == partition || p.first_lba * old_size >= rounded || p.last_lba < partition.first_lba);
        if !is_free {
            return Err(wrong("ends", end).into());
        }
        let mut partition = partition.clone();
        (partition.first_lba, partition.last_lba) = (start / new_size, rounded / new_size - 1);
        if partition.first_lba < new.usable().0 {
            return Err(Error::Start { number: *number, byte: start }.into());
        }
        new.set(*number, &partition)?;
    }
    erase(disk, old_size, old.usable().0)?;
    Ok(new)
}

/// Whether the boot record has partitions of its own beside the one that protects the table.
fn is_hybrid(disk: &mut impl Disk) -> Result<bool, TableError> {
    let failed = |source| TableError::Io { what: "read", source };
    let mut record = [0; 512];
    disk.seek(SeekFrom::Start(0)).map_err(failed)?;
    disk.read_exact(&mut record).map_err(failed)?;
    let kinds = (0..4).map(|n| record[446 + 16 * n + 4]);
    Ok(record[510..] == [0x55, 0xaa] && kinds.into_iter().any(|kind| !matches!(kind, 0 | 0xee)))
}

/// Header and entries; the boot record before them stays.
fn erase(disk: &mut impl Disk, sector: u64, first_usable: u64) -> Result<(), TableError> {
    let failed = |source| TableError::Io { what: "erase", source };
    disk.seek(SeekFrom::Start(sector)).map_err(failed)?;
    let len = (first_usable.saturating_sub(1) * sector).min(1 << 19);
    disk.write_all(&vec![0; len as usize]).map_err(failed)
}

/// That what is in the partitions works with these sectors, too.
pub fn check(disk: &mut (impl Read + Seek), extents: &[Extent], sector: u32) -> Result<(), Error> {
    for extent in extents {
        let number = extent.number;
        let mut bytes = [0; LOOK];
        let len = LOOK.min(extent.length as usize);
        let read = disk.seek(SeekFrom::Start(extent.start)).and_then(|_| disk.read_exact(&mut bytes[..len]));
        read.map_err(|source| Error::Look { number, source })?;
        if let Some((kind, has)) = unit(&bytes).filter(|(_, has)| *has < sector) {
            return Err(Error::FileSystem { number, kind, has, sector });
        }
    }
    Ok(())
}

/// The smallest unit that a file system reads and writes, of those where it is fixed in the superblock.
fn unit(bytes: &[u8; LOOK]) -> Option<(&'static str, u32)> {
    let is_boot_sector = bytes[510..512] == [0x55, 0xaa];
    let jumps = bytes[0] == 0xeb || bytes[0] == 0xe9;
    if is_boot_sector && jumps {
        let kind = match () {
            () if bytes[3..11] == *b"EXFAT   " => return Some(("exFAT", 1u32.checked_shl(bytes[108].into())?)),
            () if bytes[3..11] == *b"NTFS    " => "NTFS",
            () if bytes[0x36..0x39] == *b"FAT" || bytes[0x52..0x55] == *b"FAT" => "FAT",
            // Boot code in front of another file system.
            () => "",
        };
        if !kind.is_empty() {
            return Some((kind, u16::from_le_bytes([bytes[11], bytes[12]]).into()));
        }
    }
    if bytes[..4] == *b"XFSB" {
        return Some(("xfs", u16::from_be_bytes([bytes[102], bytes[103]]).into()));
    }
    if bytes[0x438..0x43a] == [0x53, 0xef] {
        return Some(("ext4", 1024u32.checked_shl(bytes[0x418].into())?));
    }
    None
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
