//! A GUID partition table, read from whichever header is whole and written to both places, the protective MBR included.
//! The `gpt` crate decodes and encodes; entries are kept as bytes and under their own numbers here, because its
//! `GptDisk::write` packs used entries to the front, which would make vda14 and vda15 of a cloud image vda2 and vda3.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};

use gpt::disk::LogicalBlockSize;
use gpt::header::{Header, HeaderBuilder};
use gpt::partition::{Partition, file_read_partitions};
use spec::Code;
use uuid::Uuid;

use crate::disk::nodes::Extent;
use crate::failed::Coded;

/// Bytes of an entry; other sizes are allowed by the standard and in use nowhere.
const ENTRY: u32 = 128;
/// More than any tool writes, less than what could hurt.
const MAX_ENTRIES: u32 = 4096;
const SIGNATURE: &[u8; 8] = b"EFI PART";

/// Why a table cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk.
    #[error("cannot {what} the partition table")]
    Io {
        /// Read or write.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Signatures, but no header and table that belong together.
    #[error("the partition table is damaged: neither its primary nor its backup copy is whole")]
    Damaged,
    /// A table for disks with other sectors.
    #[error(
        "the partition table is made for sectors of {of} bytes, the disk has sectors of {has} bytes: it would not boot"
    )]
    SectorSize {
        /// Of the table.
        of: u32,
        /// Of the disk.
        has: u32,
    },
    /// Its numbers count sectors of an unknown size, which is nearly always 512 bytes.
    #[error(
        "the image has a DOS partition table, which is made for sectors of 512 bytes, the disk has sectors of {has} \
         bytes: it would not boot (SECTOR_SIZE_POLICY=ignore to write it all the same)"
    )]
    DosTable {
        /// Of the disk.
        has: u32,
    },
    /// Sectors of a size that no table is defined for.
    #[error("sectors of {0} bytes are not supported")]
    UnknownSectorSize(u32),
    /// A partition reaches where the backup has to be.
    #[error("partition {number} ends at LBA {last}, the disk's last usable LBA is {usable}")]
    NoRoom {
        /// Of the partition.
        number: u32,
        /// Its last LBA.
        last: u64,
        /// What the disk has.
        usable: u64,
    },
    /// The disk cannot even hold an empty table.
    #[error("the disk is too small for a partition table")]
    TooSmall,
    /// The table has no such entry.
    #[error("the partition table has no entry {number}, only {capacity}")]
    NoSlot {
        /// Of the partition.
        number: u32,
        /// How many entries there are.
        capacity: u32,
    },
    /// The crate could not encode.
    #[error("cannot encode the partition table")]
    Encode(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::Io { .. } => Code::DiskIo,
            _ => Code::PartitionTable,
        }
    }
}

/// Whatever a table can be read from and written to; its end is the end of the disk.
pub trait Disk: Read + Write + Seek + Debug {}

impl<T: Read + Write + Seek + Debug> Disk for T {}

/// A table in memory.
#[derive(Clone, Debug)]
pub struct Table {
    sector: LogicalBlockSize,
    /// Of the disk as it is now, wherever the table thought it was.
    last_lba: u64,
    header: Header,
    entries: Vec<u8>,
}

impl Table {
    /// Reads the table, if the disk has one.
    pub fn read(disk: &mut impl Disk, sector: u32) -> Result<Option<Self>, Error> {
        let size = block_size(sector)?;
        let last_lba = last_lba(disk, size)?;
        let mut signs = false;
        for lba in [1, last_lba] {
            match header_at(disk, lba, size)? {
                Sign::None => {}
                Sign::Header(header) => {
                    signs = true;
                    if let Some(entries) = entries_of(disk, &header, size)? {
                        let table = Self { sector: size, last_lba, header, entries };
                        if table.is_sound() {
                            return Ok(Some(table));
                        }
                    }
                }
                Sign::Damaged => signs = true,
            }
        }
        let other = if sector == 512 { LogicalBlockSize::Lb4096 } else { LogicalBlockSize::Lb512 };
        if let Sign::Header(_) = header_at(disk, 1, other)? {
            return Err(Error::SectorSize { of: other.as_u64() as u32, has: sector });
        }
        if signs { Err(Error::Damaged) } else { Ok(None) }
    }

    /// Whether every partition has a first and a last byte that can be counted.
    fn is_sound(&self) -> bool {
        let ends = |p: &Partition| p.last_lba.checked_add(1)?.checked_mul(self.sector()).filter(|end| *end < 1 << 63);
        let sound = |p: &Partition| p.first_lba <= p.last_lba && ends(p).is_some();
        self.partitions().is_ok_and(|all| all.values().all(sound))
    }

    /// An empty table for this disk.
    pub fn empty(disk: &mut impl Disk, sector: u32) -> Result<Self, Error> {
        let sector = block_size(sector)?;
        let last_lba = last_lba(disk, sector)?;
        let mut header = HeaderBuilder::new()
            .backup_lba(last_lba)
            .disk_guid(Uuid::new_v4())
            .build(sector)
            .map_err(|_| Error::TooSmall)?;
        let entries = vec![0; (header.num_parts * ENTRY) as usize];
        header.crc32_parts = crc_of(&entries);
        Ok(Self { sector, last_lba, header, entries })
    }

    /// Bytes of a sector.
    pub fn sector(&self) -> u64 {
        self.sector.as_u64()
    }

    /// The LBAs that partitions may have, both ends included.
    pub fn usable(&self) -> (u64, u64) {
        (self.header.first_usable, self.last_usable())
    }

    /// How many partitions it can have.
    pub fn capacity(&self) -> u32 {
        self.header.num_parts
    }

    /// Whether the table ends where the disk does.
    pub fn is_in_place(&self) -> bool {
        self.is_primary() && self.header.backup_lba == self.last_lba
    }

    /// Whether it was read from its primary copy, or is new.
    pub fn is_primary(&self) -> bool {
        self.header.current_lba == 1
    }

    /// Used entries by number.
    pub fn partitions(&self) -> Result<BTreeMap<u32, Partition>, Error> {
        let mut header = self.header.clone();
        header.part_start = 0;
        let all = file_read_partitions(&mut Cursor::new(&self.entries), &header, self.sector)
            .map_err(|e| Error::Encode(e.into()))?;
        Ok(all.into_iter().filter(|(_, p)| p.is_used()).collect())
    }

    /// Used entries as bytes on the disk.
    pub fn extents(&self) -> Result<Vec<Extent>, Error> {
        let extent = |(number, partition): (u32, Partition)| {
            let (start, length) = (partition.bytes_start(self.sector), partition.bytes_len(self.sector));
            let bad = |e: io::Error| Error::Encode(e.into());
            Ok(Extent { number, start: start.map_err(bad)?, length: length.map_err(bad)? })
        };
        self.partitions()?.into_iter().map(extent).collect()
    }

    /// New GUIDs for the disk and for each partition.
    pub fn renew_guids(&mut self) -> Result<(), Error> {
        self.header.disk_guid = Uuid::new_v4();
        for (number, mut partition) in self.partitions()? {
            partition.part_guid = Uuid::new_v4();
            self.set(number, &partition)?;
        }
        Ok(())
    }

    /// The disk's GUID becomes that of another table.
    pub fn take_guid(&mut self, other: &Self) {
        self.header.disk_guid = other.header.disk_guid;
    }

    /// Removes every entry whose number is not wanted.
    pub fn keep_only(&mut self, is_wanted: impl Fn(u32) -> bool) {
        for (number, entry) in (1..).zip(self.entries.chunks_mut(ENTRY as usize)) {
            if !is_wanted(number) {
                entry.fill(0);
            }
        }
        self.header.crc32_parts = crc_of(&self.entries);
    }

    /// Sets one entry to the bytes of another table's.
    pub fn copy(&mut self, number: u32, other: &Self, was: u32) -> Result<(), Error> {
        let place = |number: u32| {
            let start = number.saturating_sub(1) as usize * ENTRY as usize;
            start..start + ENTRY as usize
        };
        let capacity = self.capacity();
        let missing = |number| Error::NoSlot { number, capacity };
        let bytes = other.entries.get(place(was)).ok_or_else(|| missing(was))?;
        self.entries.get_mut(place(number)).ok_or_else(|| missing(number))?.copy_from_slice(bytes);
        self.header.crc32_parts = crc_of(&self.entries);
        Ok(())
    }

    /// Sets one entry, whatever was there.
    pub fn set(&mut self, number: u32, partition: &Partition) -> Result<(), Error> {
        if !(1..=self.capacity()).contains(&number) {
            return Err(Error::NoSlot { number, capacity: self.capacity() });
        }
        let mut entries = Cursor::new(std::mem::take(&mut self.entries));
        let index = u64::from(number.saturating_sub(1));
        let done = partition.write_to_device(&mut entries, index, 0, self.sector, ENTRY);
        self.entries = entries.into_inner();
        done.map_err(|e| Error::Encode(e.into()))?;
        self.header.crc32_parts = crc_of(&self.entries);
        Ok(())
    }

    /// Writes the backup to the end of the disk, the primary, then the protective MBR's size. The copy that it was read
    /// from is written after the other one is on the medium: a power loss leaves one of them whole.
    pub fn write(mut self, disk: &mut impl Disk) -> Result<(), Error> {
        let usable = self.last_usable();
        for (number, partition) in self.partitions()? {
            if partition.last_lba > usable {
                return Err(Error::NoRoom { number, last: partition.last_lba, usable });
            }
        }
        let was_primary = self.is_primary();
        self.header.current_lba = 1;
        self.header.backup_lba = self.last_lba;
        self.header.last_usable = usable;
        // The backup's header names the backup's array; behind the primary header it starts at LBA 2.
        self.header.part_start = if was_primary { self.header.part_start } else { 2 };
        let mut backup = self.header.clone();
        backup.current_lba = self.last_lba;
        backup.backup_lba = 1;
        backup.part_start = usable + 1;
        if was_primary {
            self.write_copy(disk, &mut backup)?;
        }
        let mut primary = self.header.clone();
        self.write_copy(disk, &mut primary)?;
        if !was_primary {
            self.write_copy(disk, &mut backup)?;
        }
        write_protective_mbr(disk, self.last_lba)?;
        disk.flush().map_err(writing)
    }

    /// Entries, then the header that makes them count, each on the medium before anything else is written.
    fn write_copy(&self, disk: &mut impl Disk, header: &mut Header) -> Result<(), Error> {
        self.write_entries(disk, header.part_start)?;
        disk.flush().map_err(writing)?;
        let written = match header.current_lba {
            1 => header.write_primary(disk, self.sector),
            _ => header.write_backup(disk, self.sector),
        };
        written.map_err(|e| Error::Encode(e.into()))?;
        disk.flush().map_err(writing)
    }

    fn write_entries(&self, disk: &mut impl Disk, lba: u64) -> Result<(), Error> {
        disk.seek(SeekFrom::Start(lba * self.sector())).map_err(writing)?;
        disk.write_all(&self.entries).map_err(writing)
    }

    fn last_usable(&self) -> u64 {
        self.last_lba.saturating_sub(1 + (self.entries.len() as u64).div_ceil(self.sector()))
    }
}

/// What a sector that could hold a header holds.
enum Sign {
    None,
    Damaged,
    Header(Header),
}

/// The crate's reader for the primary header works at any sector when it is told that the disk begins one earlier.
fn header_at(disk: &mut impl Disk, lba: u64, sector: LogicalBlockSize) -> Result<Sign, Error> {
    let mut bytes = vec![0; sector.as_usize() * 2];
    disk.seek(SeekFrom::Start(lba * sector.as_u64())).map_err(reading)?;
    disk.read_exact(&mut bytes[sector.as_usize()..]).map_err(reading)?;
    if bytes[sector.as_usize()..][..8] != *SIGNATURE {
        return Ok(Sign::None);
    }
    let mut shifted = Cursor::new(bytes);
    match gpt::header::read_header_from_arbitrary_device(&mut shifted, sector) {
        Ok(header) if is_sane(&header, lba) => Ok(Sign::Header(header)),
        _ => Ok(Sign::Damaged),
    }
}

/// What the crate takes on trust: it would allocate, overflow or panic on other values.
fn is_sane(header: &Header, lba: u64) -> bool {
    header.part_size == ENTRY
        && (1..=MAX_ENTRIES).contains(&header.num_parts)
        && header.current_lba == lba
        && header.part_start >= 2
        && header.first_usable >= 2
}

/// The array of entries, when it is the one that the header was made for.
fn entries_of(disk: &mut impl Disk, header: &Header, sector: LogicalBlockSize) -> Result<Option<Vec<u8>>, Error> {
    let mut entries = vec![0; (header.num_parts * ENTRY) as usize];
    let Some(start) = header.part_start.checked_mul(sector.as_u64()) else { return Ok(None) };
    disk.seek(SeekFrom::Start(start)).map_err(reading)?;
    match disk.read_exact(&mut entries) {
        Ok(()) => Ok((crc_of(&entries) == header.crc32_parts).then_some(entries)),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(reading(e)),
    }
}

fn last_lba(disk: &mut impl Disk, sector: LogicalBlockSize) -> Result<u64, Error> {
    let size = disk.seek(SeekFrom::End(0)).map_err(reading)?;
    // Both copies of a table of 128 entries and one sector for use.
    if size < 64 << 10 { Err(Error::TooSmall) } else { Ok(size / sector.as_u64() - 1) }
}

fn block_size(sector: u32) -> Result<LogicalBlockSize, Error> {
    LogicalBlockSize::try_from(u64::from(sector)).map_err(|_| Error::UnknownSectorSize(sector))
}

/// Keeps boot code and disk signature. A hybrid MBR, with more than the one protective record, is left alone.
fn write_protective_mbr(disk: &mut impl Disk, last_lba: u64) -> Result<(), Error> {
    let mut mbr = [0; 512];
    disk.seek(SeekFrom::Start(0)).map_err(reading)?;
    disk.read_exact(&mut mbr).map_err(reading)?;
    let record = |n: usize| 446 + 16 * n;
    let used: Vec<usize> = (0..4).filter(|n| mbr[record(*n) + 4] != 0).collect();
    let signed = mbr[510..] == [0x55, 0xaa];
    let slot = match used.as_slice() {
        _ if !signed => 0,
        [] => 0,
        [one] if mbr[record(*one) + 4] == 0xee => *one,
        _ => return Ok(()),
    };
    if !signed {
        mbr[446..510].fill(0);
    }
    let at = record(slot);
    if mbr[at + 4] != 0xee {
        // Status, start and end in cylinders, heads and sectors: LBA 1 to the end (UEFI 2.10 §5.2.3).
        mbr[at..at + 8].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
        mbr[at + 8..at + 12].copy_from_slice(&1u32.to_le_bytes());
    }
    let sectors = u32::try_from(last_lba).unwrap_or(u32::MAX);
    mbr[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    disk.seek(SeekFrom::Start(0)).map_err(writing)?;
    disk.write_all(&mbr).map_err(writing)
}

/// CRC-32 as the standard wants it, bit by bit: an array of entries is 16 KiB.
fn crc_of(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

fn reading(source: io::Error) -> Error {
    Error::Io { what: "read", source }
}

fn writing(source: io::Error) -> Error {
    Error::Io { what: "write", source }
}

#[cfg(test)]
#[path = "gpt_tests.rs"]
mod tests;
