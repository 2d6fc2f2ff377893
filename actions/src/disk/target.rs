//! A disk on its way to a new content, each step a type, so that none can be left out or done twice:
//!
//! `Found` -> `Claimed` (exclusively ours) -> `Written` (ends blank, body on it, content proven whole) -> `Verified`
//! (body read back from the medium) -> committed (tail, then head, then the table re-read).

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use spec::Code;
use sys::block::{self, Device, Reread};
use sys::sysfs::Sysfs;

use crate::disk::aligned::Aligned;
use crate::disk::convert;
use crate::disk::find::Found;
use crate::disk::fit::{Change, Fitted, fit};
use crate::disk::gpt::Table;
use crate::disk::held::{END, Held, View, Whole};
use crate::disk::nodes::{self, Extent};
use crate::disk::preserve::Kept;
use crate::disk::sink;
use crate::disk::stream::{self, Geometry, Sample, Streamed, Way, pump};
use crate::disk::upto::Upto;
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
    /// The driver cannot.
    #[error("{} cannot be written around the page cache (WRITE_MODE=auto does without)", path.display())]
    NotDirect {
        /// The disk.
        path: PathBuf,
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
            Self::NotDirect { .. } => Code::BadInput,
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
    /// In which steps, and how much is read back.
    pub way: Way,
    /// Whether the ends of earlier partitions are blanked, too.
    pub is_stale_wiped: bool,
    /// Whether the device is told first that nothing is needed.
    pub is_discarded: bool,
    /// What becomes of zeros.
    pub zeros: Zeros,
    /// Around the page cache, or through it.
    pub mode: Mode,
}

/// What becomes of zeros.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Zeros {
    /// The device may make them by itself.
    #[default]
    Punch,
    /// They are written.
    Write,
}

/// How writes reach the device.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Mode {
    /// Around the page cache, where the driver can.
    #[default]
    Auto,
    /// Around the page cache.
    Direct,
    /// Through the page cache.
    Buffered,
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
    /// What stays on it.
    kept: Kept,
}

/// The measures of an open disk, if it is one.
pub fn measure(device: &Device, path: &Path) -> Result<Geometry, Error> {
    let size = device.size().map_err(Error::Device)?;
    if size < SMALLEST {
        return Err(Error::TooSmall { path: path.to_owned(), has: size, needed: SMALLEST });
    }
    Ok(Geometry { size, sector: device.logical_sector().map_err(Error::Device)? })
}

impl Claimed {
    /// Opens it exclusively.
    pub fn claim(found: Found) -> Result<Self, Error> {
        let device = Device::claim(&found.path).map_err(|source| Error::Claim { path: found.path.clone(), source })?;
        let geometry = measure(&device, &found.path)?;
        let direct = device.direct().ok();
        Ok(Self { found, device, direct, geometry, kept: Kept::default() })
    }

    /// How writes reach it from now on.
    pub fn written_by(mut self, mode: Mode) -> Result<Self, Error> {
        match mode {
            Mode::Auto => {}
            Mode::Direct if self.direct.is_none() => {
                return Err(Error::NotDirect { path: self.found.path.clone() });
            }
            Mode::Direct => {}
            Mode::Buffered => self.direct = None,
        }
        Ok(self)
    }

    /// These partitions are not written to from now on.
    pub fn keep(self, kept: Kept) -> Self {
        Self { kept, ..self }
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

    /// Zeroes the first bytes of the disk: nothing boots from it, and what it holds is still known from its end.
    pub fn behead(&self) -> Result<(), Error> {
        self.write("head", &Aligned::zeroed(END as usize), 0)?;
        self.device.sync().map_err(Error::Device)
    }

    /// Where its partitions are, by the kernel and by its table, of which the kernel may have been told nothing since an
    /// earlier run was interrupted. None of a partition.
    pub fn partitions(&self) -> Vec<Range<u64>> {
        if self.found.partition.is_some() {
            return Vec::new();
        }
        let Geometry { size, sector } = self.geometry;
        let sector = u64::from(sector);
        // A damaged table names nothing.
        let table = Table::read(&mut Whole::new(&self.device, size), sector as u32).ok().flatten();
        let extents = table.and_then(|table| table.extents().ok()).unwrap_or_default();
        let shown = self.found.disk.partitions.iter().map(|p| (p.start, p.size));
        let all = shown.chain(extents.iter().map(|extent| (extent.start, extent.length)));
        let whole = |(start, len): (u64, u64)| start / sector * sector..(start + len).min(size) / sector * sector;
        let mut ranges: Vec<_> = all.map(whole).filter(|range| range.start < range.end).collect();
        ranges.sort_unstable_by_key(|range| (range.start, range.end));
        ranges.dedup();
        ranges
    }

    /// Takes what is on the disk out of reach, so that it no longer boots when the rest of it goes: both ends become zero,
    /// or those of a disk that has nothing but what is kept.
    fn forget(&self) -> Result<(), Failed> {
        let Some((held, is_head_first)) = self.kept.alone(&self.device, self.geometry)? else {
            return Ok(self.blank(0, self.geometry.size)?);
        };
        let tail = ("tail", &held.tail, held.tail_start());
        let head = ("head", &held.head, 0);
        for (what, bytes, at) in if is_head_first { [head, tail] } else { [tail, head] } {
            self.write(what, bytes, at)?;
            self.device.sync().map_err(Error::Device)?;
        }
        Ok(())
    }

    /// Tells the device that nothing but what is kept is needed, and the table that says what that is.
    fn discard(&self, report: &Report) -> Result<(), Failed> {
        let size = self.geometry.size;
        let all = if self.kept.is_empty() { 0..size } else { END..size - END };
        let refused = |part: &Range<u64>| self.device.discard(part.start, part.end - part.start).is_err();
        if self.kept.spare(all).iter().any(refused) {
            report.info("the device cannot be told what is not needed (DISCARD_FIRST)");
        }
        // What is read of it now may be anything, also what was there before.
        self.forget()
    }

    /// Blanks both ends of these partitions, so that nothing of them is found again.
    fn forget_partitions(&self, partitions: &[Range<u64>]) -> Result<(), Error> {
        partitions.iter().try_for_each(|range| self.blank(range.start, range.end - range.start))
    }

    /// Blanks the ends, then writes the body; success means that the content was whole.
    pub fn fill<C: Content>(self, content: &mut C, how: How, report: &Report) -> Result<Written, Failed> {
        let stale = if how.is_stale_wiped { self.partitions() } else { Vec::new() };
        if self.kept.is_empty() {
            // Interrupted here, the next run still finds them by the end of the disk.
            self.behead()?;
            self.forget_partitions(&stale)?;
            self.forget()?;
        } else {
            self.forget()?;
            self.forget_partitions(&stale)?;
        }
        self.reread()?;
        if how.is_discarded {
            self.discard(report)?;
        }
        let mut tick = |content: &Upto<'_, C>| {
            let (done, total) = content.content.position();
            report.progress("writing", done, total);
        };
        let sink = sink::Disk::new(self.raw(), how.zeros != Zeros::Write && self.direct.is_some());
        let mut beginning = Upto::new(content, self.kept.start());
        let streamed = pump(&mut beginning, &sink, self.geometry, how.way, &mut tick).and_then(|mut streamed| {
            let size = self.geometry.size;
            streamed.length += beginning.rest(size.saturating_sub(streamed.length), size)?;
            Ok(streamed)
        });
        let streamed = match streamed {
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
        self.kept.spare(offset..offset + bytes.len() as u64).into_iter().try_for_each(|part| {
            let bytes = &bytes[(part.start - offset) as usize..(part.end - offset) as usize];
            self.raw().write_at(bytes, part.start).map_err(failed)
        })
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
        let ours = self.kept.spare(offset..offset + bytes.len() as u64).into_iter();
        let mut ours = ours.map(|part| (part.start - offset) as usize..(part.end - offset) as usize);
        if ours.all(|part| found[part.clone()] == bytes[part]) {
            Ok(())
        } else {
            Err(self.differs(offset, bytes.len()))
        }
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
        let largest = self.streamed.samples.iter().map(|s| s.len).max().unwrap_or(0);
        let mut buffer = Aligned::zeroed(largest);
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
#[derive(Debug)]
pub struct Committed {
    /// Bytes of content.
    pub length: u64,
    /// Paths of the partitions of its GPT, in their order; empty when this kind of device has none.
    pub paths: Vec<PathBuf>,
    /// What became of its table.
    pub fitted: Fitted,
}

impl Verified {
    /// Fits the partition table to the disk, writes tail and head, reads both back; blanks the ends again when that
    /// fails. Then the kernel re-reads the table: when it does not, the disk stays complete and the error says so.
    pub fn commit(mut self, sysfs: &Sysfs, change: &Change) -> Result<Committed, Failed> {
        let Claimed { device, geometry, kept, .. } = &self.claimed;
        let fitted = fit(&mut self.held, device, *geometry, change, kept)?;
        let extents = fitted.extents.as_deref().unwrap_or_default();
        if fitted.was_for.is_some() {
            convert::check(&mut View::new(&mut self.held, device), extents, geometry.sector)?;
        }
        if let Err(error) = self.write_ends() {
            // The first error is the one that counts.
            let _ = self.claimed.forget();
            return Err(error.into());
        }
        let not_taken = |failed: Failed| {
            let (code, source) = failed.into_parts();
            Error::NotTaken { path: self.claimed.found.path.clone(), code, source }
        };
        let paths = self.claimed.publish(extents, sysfs).map_err(not_taken)?;
        Ok(Committed { length: self.length, paths, fitted })
    }

    fn write_ends(&self) -> Result<(), Error> {
        let (head, tail_start) = (&self.held.head, self.held.tail_start());
        self.claimed.write("tail", &self.held.tail, tail_start)?;
        if !self.claimed.kept.is_empty() {
            // One of the two tables that say where the kept ones are is always whole.
            self.claimed.device.sync().map_err(Error::Device)?;
        }
        self.claimed.write("head", &head[FIRST..], FIRST as u64)?;
        self.claimed.device.sync().map_err(Error::Device)?;
        self.claimed.expect(&self.held.tail, tail_start)?;
        self.claimed.write("head", &head[..FIRST], 0)?;
        self.claimed.device.sync().map_err(Error::Device)?;
        self.claimed.expect(head, 0)
    }
}
