//! A disk on its way to a new content, each step a type, so that none can be left out or done twice:
//!
//! `Found` -> `Claimed` (exclusively ours) -> `Written` (ends blank, body on it, content proven whole) -> `Verified`
//! (body read back from the medium) -> committed (tail, then head, then the table re-read).

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use sha2::{Digest, Sha256};
use spec::Code;
use sys::block::{self, Device, Reread};
use sys::sysfs::Sysfs;

use crate::disk::aligned::Aligned;
use crate::disk::find::Found;
use crate::disk::gpt::Table;
use crate::disk::grow::{self, grow_partition};
use crate::disk::held::{END, Held, View};
use crate::disk::nodes::{self, Extent};
use crate::disk::sink;
use crate::disk::stream::{self, Depth, Geometry, Sample, Streamed, pump};
use crate::failed::{Coded, Failed};
use crate::report::Report;

/// Room for both ends and something between them.
pub const SMALLEST: u64 = 4 * END;
/// How long a prober may keep a partition open.
const PATIENCE: Duration = Duration::from_secs(10);
/// Boot record and GPT header: written after everything else, in one piece.
const FIRST: usize = 4096;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not ours.
    #[error("cannot take {} for ourselves", path.display())]
    Claim {
        /// The disk.
        path: PathBuf,
        /// What is wrong.
        source: block::Error,
    },
    /// Not worth calling a disk.
    #[error("{} has {has} bytes, {needed} are needed", path.display())]
    TooSmall {
        /// The disk.
        path: PathBuf,
        /// Its size.
        has: u64,
        /// What has to go onto it.
        needed: u64,
    },
    /// One request of a kernel.
    #[error("the disk failed")]
    Device(#[source] block::Error),
    /// An end could not be written.
    #[error("cannot write the {what} of {}", path.display())]
    Ends {
        /// Head or tail.
        what: &'static str,
        /// The disk.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Reading back failed.
    #[error("cannot read back {len} bytes at byte {offset} of {}", path.display())]
    ReadBack {
        /// The disk.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// How much.
        len: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// The disk is done; the kernel is not.
    #[error(
        "{} is written and verified, only the kernel of this machine did not take its new partition table: reboot, or \
         close what has a partition open",
        path.display()
    )]
    NotTaken {
        /// The disk.
        path: PathBuf,
        /// Of the cause.
        code: Code,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The medium has something else than was written.
    #[error("{} does not hold what was written: {len} bytes at byte {offset} differ", path.display())]
    Differs {
        /// The disk.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// How much was compared.
        len: usize,
    },
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::Claim { source: block::Error::Busy { .. }, .. } => Code::DiskBusy,
            Self::Claim { source: block::Error::NotBlock { .. }, .. } => Code::DiskNotFound,
            Self::TooSmall { .. } => Code::DiskTooSmall,
            Self::Claim { .. } | Self::Device(_) | Self::Ends { .. } | Self::ReadBack { .. } => Code::DiskIo,
            Self::Differs { .. } => Code::VerifyMismatch,
            Self::NotTaken { code, .. } => *code,
        }
    }
}

/// Bytes to be written, which know at their end whether they were whole.
pub trait Content: stream::Bytes {
    /// What a broken read means.
    fn explain(&mut self, error: io::Error) -> Failed;
    /// Called after the last byte: whether every byte came, and the right ones.
    fn prove(&mut self) -> Result<(), Failed>;
    /// How far the transfer is: done, total or 0.
    fn position(&self) -> (u64, u64);
}

/// How a body is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct How {
    /// How much is read back.
    pub depth: Depth,
    /// Whether the ends of earlier partitions are blanked, too.
    pub is_stale_wiped: bool,
    /// Whether the device is told first that nothing is needed.
    pub is_discarded: bool,
    /// Whether the device may make zeros by itself.
    pub is_punched: bool,
}

/// What of the image's table becomes otherwise than it came, besides fitting it to the disk.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Change {
    /// The partition that becomes larger, or the last one.
    pub grow: Option<Option<u32>>,
    /// Every GUID is a new one.
    pub new_guids: bool,
}

/// A disk that nobody else has.
#[derive(Debug)]
pub struct Claimed {
    found: Found,
    device: Device,
    /// Around the page cache, where the driver can.
    direct: Option<Device>,
    /// Its measures.
    pub geometry: Geometry,
}

impl Claimed {
    /// Opens it exclusively.
    pub fn claim(found: Found) -> Result<Self, Error> {
        let claim = |source| Error::Claim { path: found.path.clone(), source };
        let device = Device::claim(&found.path).map_err(claim)?;
        let geometry =
            Geometry { size: device.size().map_err(claim)?, sector: device.logical_sector().map_err(claim)? };
        if geometry.size < SMALLEST {
            return Err(Error::TooSmall { path: found.path.clone(), has: geometry.size, needed: SMALLEST });
        }
        let direct = device.direct().ok();
        Ok(Self { found, device, direct, geometry })
    }

    /// The disk it is.
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// Through the page cache, for small and unaligned requests.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// For large aligned requests.
    pub fn raw(&self) -> &Device {
        self.direct.as_ref().unwrap_or(&self.device)
    }

    /// Zeroes the first and the last bytes of a range, which is the whole disk or a partition of it.
    pub fn blank(&self, start: u64, len: u64) -> Result<(), Error> {
        let zeros = Aligned::zeroed(END.min(len) as usize);
        let tail = start + len - zeros.len() as u64;
        self.write("tail", &zeros, tail)?;
        self.write("head", &zeros, start)?;
        self.device.sync().map_err(Error::Device)
    }

    /// Blanks both ends of every partition that the kernel shows, so that nothing of them is found again.
    fn forget_partitions(&self) -> Result<(), Error> {
        let sector = u64::from(self.geometry.sector);
        for partition in &self.found.disk.partitions {
            let end = (partition.start + partition.size).min(self.geometry.size) / sector * sector;
            let start = partition.start / sector * sector;
            if start < end {
                self.blank(start, end - start)?;
            }
        }
        Ok(())
    }

    /// Blanks the ends, then writes the body; success means that the content was whole.
    pub fn fill<C: Content>(self, content: &mut C, how: How, report: &Report) -> Result<Written, Failed> {
        // First, so that whatever was there no longer boots when the rest of it goes.
        self.blank(0, self.geometry.size)?;
        if how.is_stale_wiped && self.found.partition.is_none() {
            self.forget_partitions()?;
        }
        self.reread()?;
        if how.is_discarded {
            if self.device.discard(0, self.geometry.size).is_err() {
                report.info("the device cannot be told what is not needed (DISCARD_FIRST)");
            }
            // What is read of it now may be anything, also what was there before.
            self.blank(0, self.geometry.size)?;
        }
        let mut tick = |content: &C| {
            let (done, total) = content.position();
            report.progress("writing", done, total);
        };
        let sink = sink::Disk::new(self.raw(), how.is_punched && self.direct.is_some());
        let streamed = match pump(content, &sink, self.geometry, how.depth, &mut tick) {
            Ok(streamed) => streamed,
            Err(stream::Error::Content(e)) => return Err(content.explain(e)),
            Err(e) => return Err(e.into()),
        };
        content.prove()?;
        let (done, total) = content.position();
        report.progress_end("writing", done, total);
        self.device.sync().map_err(Error::Device)?;
        Ok(Written { claimed: self, streamed })
    }

    /// Makes the kernel see the table that is on the disk now.
    pub fn reread(&self) -> Result<Reread, Error> {
        self.device.reread_table(PATIENCE).map_err(Error::Device)
    }

    /// Makes the kernel see the table, and these partitions of it; nothing on a device that cannot have any.
    pub fn publish(&self, extents: &[Extent], sysfs: &Sysfs) -> Result<Vec<PathBuf>, Failed> {
        match self.reread()? {
            Reread::Unpartitionable => Ok(Vec::new()),
            Reread::Done => Ok(nodes::publish(&self.device, &self.found.disk.name, extents, sysfs)?),
        }
    }

    fn write(&self, what: &'static str, bytes: &[u8], offset: u64) -> Result<(), Error> {
        let failed = |source| Error::Ends { what, path: self.found.path.clone(), source };
        self.raw().write_at(bytes, offset).map_err(failed)
    }

    /// Reads from the medium, not from memory.
    pub fn read_back(&self, buf: &mut [u8], offset: u64) -> Result<(), Error> {
        if self.direct.is_none() {
            self.device.drop_cache().map_err(Error::Device)?;
        }
        let len = buf.len();
        let failed = |source| Error::ReadBack { path: self.found.path.clone(), offset, len, source };
        self.raw().read_at(buf, offset).map_err(failed)
    }

    /// That the medium holds these bytes.
    pub fn expect(&self, bytes: &[u8], offset: u64) -> Result<(), Error> {
        let mut found = Aligned::zeroed(bytes.len());
        self.read_back(&mut found, offset)?;
        if *found == *bytes { Ok(()) } else { Err(self.differs(offset, bytes.len())) }
    }

    fn differs(&self, offset: u64, len: usize) -> Error {
        Error::Differs { path: self.found.path.clone(), offset, len }
    }
}

/// Body on the disk, ends still blank; the content was whole.
#[derive(Debug)]
pub struct Written {
    claimed: Claimed,
    streamed: Streamed,
}

impl Written {
    /// Reads back what `Depth` chose while writing, around the page cache.
    pub fn verify(self, report: &Report) -> Result<Verified, Error> {
        let total = self.streamed.samples.iter().map(|s| s.len as u64).sum();
        let mut done = 0;
        let mut buffer = Aligned::zeroed(stream::CHUNK);
        for Sample { offset, len, sha256 } in &self.streamed.samples {
            let bytes = &mut buffer[..*len];
            self.claimed.read_back(bytes, *offset)?;
            if <[u8; 32]>::from(Sha256::digest(&*bytes)) != *sha256 {
                return Err(self.claimed.differs(*offset, *len));
            }
            done += *len as u64;
            report.progress("verifying", done, total);
        }
        if total > 0 {
            report.progress_end("verifying", done, total);
        }
        Ok(Verified { claimed: self.claimed, length: self.streamed.length, held: self.streamed.held })
    }
}

/// Body proven, ends still blank.
#[derive(Debug)]
pub struct Verified {
    claimed: Claimed,
    held: Held,
    length: u64,
}

/// What a finished disk looks like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Committed {
    /// Bytes of content.
    pub length: u64,
    /// Partitions of its GPT; none when the content has no GPT.
    pub partitions: Option<Vec<Extent>>,
    /// Their paths, in the same order; empty when this kind of device has no partitions.
    pub paths: Vec<PathBuf>,
    /// The partition that was made larger.
    pub grown: Option<u32>,
}

impl Verified {
    /// Fits the partition table to the disk, writes tail and head, reads both back; blanks the ends again when that
    /// fails. Then the kernel re-reads the table: when it does not, the disk stays complete and the error says so.
    pub fn commit(mut self, sysfs: &Sysfs, change: Change) -> Result<Committed, Failed> {
        let (partitions, grown) = self.fit_table(change)?;
        if let Err(error) = self.write_ends() {
            // The first error is the one that counts.
            let _ = self.claimed.blank(0, self.claimed.geometry.size);
            return Err(error.into());
        }
        let not_taken = |failed: Failed| {
            let (code, source) = failed.into_parts();
            Error::NotTaken { path: self.claimed.found.path.clone(), code, source }
        };
        let paths = self.claimed.publish(partitions.as_deref().unwrap_or_default(), sysfs).map_err(not_taken)?;
        Ok(Committed { length: self.length, partitions, paths, grown })
    }

    /// In memory: the backup goes to the end of this disk, the protective MBR covers it, and what shall change does.
    fn fit_table(&mut self, change: Change) -> Result<(Option<Vec<Extent>>, Option<u32>), Failed> {
        let sector = self.claimed.geometry.sector;
        let mut view = View::new(&mut self.held, &self.claimed.device);
        let Some(mut table) = Table::read(&mut view, sector)? else {
            return match change {
                Change { grow: None, new_guids: false } => Ok((None, None)),
                _ => Err(grow::Error::NoTable.into()),
            };
        };
        if change.new_guids {
            table.renew_guids()?;
        }
        let grown = change.grow.map(|number| grow_partition(&mut table, number)).transpose()?;
        let extents = table.extents()?;
        table.write(&mut view)?;
        Ok((Some(extents), grown))
    }

    fn write_ends(&self) -> Result<(), Error> {
        let (head, tail_start) = (&self.held.head, self.held.tail_start());
        self.claimed.write("tail", &self.held.tail, tail_start)?;
        self.claimed.write("head", &head[FIRST..], FIRST as u64)?;
        self.claimed.device.sync().map_err(Error::Device)?;
        self.claimed.expect(&self.held.tail, tail_start)?;
        self.claimed.write("head", &head[..FIRST], 0)?;
        self.claimed.device.sync().map_err(Error::Device)?;
        self.claimed.expect(head, 0)
    }
}
