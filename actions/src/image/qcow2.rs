//! A QEMU image (docs/interop/qcow2.rst of QEMU) as the bytes that a guest would see, in order. Only what can be read
//! without any other file: no backing file, no external data, no encryption. Every number of the header is checked before
//! it is used; tables are read piece by piece, so that memory does not depend on what the header claims.

use std::io::{self, Read};

use crate::disk::stream::{Bytes, GRANULE};

/// A file that can be read anywhere.
pub trait ReadAt: Send {
    /// Reads all of `buf` from `offset`.
    fn read_at(&mut self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// Bytes of the file.
    fn length(&self) -> u64;
}

/// Why an image is not read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// Its header is no such header.
    #[error("its header is not valid: {0}")]
    Header(&'static str),
    /// It says something that is possible, but not done here.
    #[error("it has {0}, which is not supported: convert it by `qemu-img convert -O qcow2`")]
    Unsupported(&'static str),
    /// A table that contradicts the file.
    #[error("its {table} table is not valid: {problem}")]
    Table {
        /// L1 or L2.
        table: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// A packed cluster.
    #[error("a packed cluster is damaged")]
    Cluster,
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// Bytes of a version 3 header as far as they are read.
const HEADER: usize = 112;
/// QEMU itself makes no larger table.
const LARGEST_L1: u64 = 32 << 20;
/// Where an entry's cluster is in the file.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const PACKED: u64 = 1 << 62;
const ZERO: u64 = 1;
/// Incompatible features: dirty and a compression type can be read.
const DIRTY: u64 = 1;
const COMPRESSION: u64 = 8;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Compression {
    Deflate,
    Zstd,
}

/// What the header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Header {
    cluster_bits: u32,
    size: u64,
    l1_entries: u64,
    l1_offset: u64,
    compression: Compression,
}

/// An image that is read from its first byte to its last.
pub struct Qcow2 {
    file: Box<dyn ReadAt>,
    header: Header,
    at: u64,
    /// The part of the table that was used last, by its number.
    l1: Option<(u64, Vec<u8>)>,
    l2: Option<(u64, Vec<u8>)>,
    /// The last packed cluster, unpacked.
    unpacked: Option<(u64, Vec<u8>)>,
}

/// What a cluster of the guest is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cluster {
    Zero,
    At(u64),
    Packed { offset: u64, len: u64 },
}

impl Header {
    fn read(file: &mut dyn ReadAt) -> io::Result<Self> {
        let mut bytes = [0; HEADER];
        let known = HEADER.min(usize::try_from(file.length()).unwrap_or(HEADER));
        file.read_at(&mut bytes[..known], 0)?;
        Ok(Self::parse(&bytes, file.length())?)
    }

    fn parse(bytes: &[u8; HEADER], length: u64) -> Result<Self, Error> {
        let word = |at: usize| be(&bytes[at..at + 4]);
        let long = |at: usize| be(&bytes[at..at + 8]);
        if bytes[..4] != *b"QFI\xfb" || length < 72 {
            return Err(Error::Header("it does not begin like one"));
        }
        let version = word(4);
        if !(2..=3).contains(&version) {
            return Err(Error::Unsupported("another version than 2 and 3"));
        }
        if long(8) != 0 {
            return Err(Error::Unsupported("a backing file"));
        }
        let cluster_bits = word(20) as u32;
        if !(9..=21).contains(&cluster_bits) {
            return Err(Error::Header("clusters are not between 512 bytes and 2 MiB"));
        }
        if word(32) != 0 {
            return Err(Error::Unsupported("encryption"));
        }
        let is_extended = version == 3 && word(100) >= 104 && word(100) <= length;
        let features = if version == 3 { long(72) } else { 0 };
        match features & !(DIRTY | COMPRESSION) {
            0 => {}
            f if f & 2 != 0 => return Err(Error::Unsupported("been marked corrupt")),
            f if f & 4 != 0 => return Err(Error::Unsupported("an external data file")),
            f if f & 16 != 0 => return Err(Error::Unsupported("extended L2 entries")),
            _ => return Err(Error::Unsupported("features of a newer version")),
        }
        if version == 3 && !is_extended {
            return Err(Error::Header("its length is not valid"));
        }
        let compression = match if features & COMPRESSION != 0 && word(100) > 104 { bytes[104] } else { 0 } {
            0 => Compression::Deflate,
            1 => Compression::Zstd,
            _ => return Err(Error::Unsupported("a compression other than zlib and zstd")),
        };
        let header = Self { cluster_bits, size: long(24), l1_entries: word(36), l1_offset: long(40), compression };
        header.check(length)?;
        Ok(header)
    }

    fn check(&self, length: u64) -> Result<(), Error> {
        let bad = |problem| Err(Error::Table { table: "L1", problem });
        // What one entry of L1 covers; at most 2^39 bytes.
        let covered = 1u64 << (2 * self.cluster_bits - 3);
        if self.size == 0 || self.size > 1 << 56 {
            return Err(Error::Header("its size is not possible"));
        }
        if self.l1_entries * 8 > LARGEST_L1 {
            return bad("it is too large");
        }
        if self.l1_entries < self.size.div_ceil(covered) {
            return bad("it is too small for the size");
        }
        if !self.l1_offset.is_multiple_of(self.cluster()) || self.l1_offset == 0 {
            return bad("it is not at the start of a cluster");
        }
        match self.l1_offset.checked_add(self.l1_entries * 8) {
            Some(end) if end <= length => Ok(()),
            _ => bad("it is not in the file"),
        }
    }

    fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }
}

impl Qcow2 {
    /// Reads and checks the header.
    pub fn open(mut file: Box<dyn ReadAt>) -> io::Result<Self> {
        let header = Header::read(file.as_mut())?;
        Ok(Self { file, header, at: 0, l1: None, l2: None, unpacked: None })
    }

    /// Bytes that a guest would see.
    pub fn size(&self) -> u64 {
        self.header.size
    }

    /// Bytes seen so far.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Where the cluster of a guest's byte is.
    fn look_up(&mut self, at: u64) -> io::Result<Cluster> {
        let header = self.header;
        let (cluster, bits) = (header.cluster(), header.cluster_bits);
        let per_l2 = cluster / 8;
        let index = at >> bits;
        let l1 = entry(self.file.as_mut(), &mut self.l1, header.l1_offset, index / per_l2, header.l1_entries)?;
        let l2_offset = l1 & OFFSET;
        if l2_offset == 0 {
            return Ok(Cluster::Zero);
        }
        if !l2_offset.is_multiple_of(cluster) || l2_offset.saturating_add(cluster) > self.file.length() {
            return Err(Error::Table { table: "L1", problem: "it points outside the file" }.into());
        }
        let found = entry(self.file.as_mut(), &mut self.l2, l2_offset, index % per_l2, per_l2)?;
        if found & PACKED != 0 {
            return Ok(self.packed(found)?);
        }
        let offset = found & OFFSET;
        if found & ZERO != 0 || offset == 0 {
            return Ok(Cluster::Zero);
        }
        if !offset.is_multiple_of(cluster) || offset >= self.file.length() {
            return Err(Error::Table { table: "L2", problem: "it points outside the file" }.into());
        }
        Ok(Cluster::At(offset))
    }

    fn packed(&self, found: u64) -> Result<Cluster, Error> {
        let shift = 62 - (self.header.cluster_bits - 8);
        let offset = found & ((1 << shift) - 1);
        let sectors = ((found & !(PACKED | 1 << 63)) >> shift) + 1;
        // The last sector may reach beyond the end of the file.
        let len = (sectors * 512 - offset % 512).min(self.file.length().saturating_sub(offset));
        if len == 0 || len > 2 * self.header.cluster() + 512 {
            return Err(Error::Table { table: "L2", problem: "it points outside the file" });
        }
        Ok(Cluster::Packed { offset, len })
    }

    /// The cluster that begins at `start`, unpacked and kept.
    fn unpack(&mut self, start: u64, offset: u64, len: u64) -> io::Result<&[u8]> {
        if self.unpacked.as_ref().is_none_or(|(kept, _)| *kept != start) {
            let mut bytes = vec![0; len as usize];
            self.file.read_at(&mut bytes, offset)?;
            let cluster = self.header.cluster() as usize;
            let out = match self.header.compression {
                Compression::Deflate => fill(flate2::read::DeflateDecoder::new(bytes.as_slice()), cluster),
                Compression::Zstd => {
                    let decoder = zstd::stream::read::Decoder::with_buffer(bytes.as_slice())?.single_frame();
                    fill(decoder, cluster)
                }
            };
            self.unpacked = Some((start, out?));
        }
        Ok(self.unpacked.as_ref().map(|(_, bytes)| bytes.as_slice()).unwrap_or_default())
    }
}

impl Read for Qcow2 {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let cluster = self.header.cluster();
        let inside = self.at % cluster;
        let len = (buf.len() as u64).min(cluster - inside).min(self.header.size - self.at) as usize;
        if len == 0 {
            return Ok(0);
        }
        let buf = &mut buf[..len];
        match self.look_up(self.at)? {
            Cluster::Zero => buf.fill(0),
            Cluster::At(offset) => self.file.read_at(buf, offset + inside)?,
            Cluster::Packed { offset, len: packed } => {
                let bytes = self.unpack(self.at - inside, offset, packed)?;
                buf.copy_from_slice(&bytes[inside as usize..][..len]);
            }
        }
        self.at += len as u64;
        Ok(len)
    }
}

impl Bytes for Qcow2 {
    fn skip_zeros(&mut self, most: u64) -> io::Result<u64> {
        let step = self.header.cluster().max(GRANULE as u64);
        let start = self.at;
        while self.at.is_multiple_of(step) && self.header.size - self.at >= step && self.at - start + step <= most {
            let mut at = self.at;
            while at < self.at + step && self.look_up(at)? == Cluster::Zero {
                at += self.header.cluster();
            }
            if at < self.at + step {
                break;
            }
            self.at += step;
        }
        Ok(self.at - start)
    }
}

/// Entries of a table that are read at once.
const PIECE: u64 = 4096 / 8;

/// One entry of a table, with the piece of it that is kept.
fn entry(
    file: &mut dyn ReadAt,
    kept: &mut Option<(u64, Vec<u8>)>,
    table: u64,
    index: u64,
    entries: u64,
) -> io::Result<u64> {
    let piece = index / PIECE * PIECE;
    let offset = table + piece * 8;
    if kept.as_ref().is_none_or(|(at, _)| *at != offset) {
        let mut bytes = vec![0; (PIECE.min(entries - piece) * 8) as usize];
        file.read_at(&mut bytes, offset)?;
        *kept = Some((offset, bytes));
    }
    let at = ((index - piece) * 8) as usize;
    Ok(kept.as_ref().and_then(|(_, bytes)| bytes.get(at..at + 8)).map_or(0, be))
}

/// Exactly one cluster, and the end.
fn fill(mut decoder: impl Read, cluster: usize) -> io::Result<Vec<u8>> {
    let mut out = vec![0; cluster];
    decoder.read_exact(&mut out).map_err(|_| Error::Cluster)?;
    Ok(out)
}

fn be(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

#[cfg(test)]
#[path = "qcow2_tests.rs"]
mod tests;
