//! A block map (bmap-tools, versions 1.4 and 2.0): which blocks of an image hold data, with a digest of each run of them.
//! Read strictly: whatever is not exactly such a file is an error. What passes is checked run by run, and what the map
//! leaves out has to be zero.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

use crate::disk::stream::{Bytes, GRANULE};
use crate::image::qcow2::ReadAt;

/// More text than a map of many terabytes has.
pub const LARGEST: usize = 64 << 20;

/// Why a map is not believed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// Not this kind of text.
    #[error("the block map is not valid: {0}")]
    Text(&'static str),
    /// A line of it.
    #[error("the block map is not valid: range {range:?} {problem}")]
    Range {
        /// As it stands there.
        range: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// It was changed after it was made.
    #[error("the block map does not have the checksum that it says")]
    Checksum,
    /// The image is another one.
    #[error("bytes {start} to {end} of the image are not what its block map says")]
    Differs {
        /// The first byte.
        start: u64,
        /// The byte after the last.
        end: u64,
    },
    /// The image is another one.
    #[error("the image has not the {size} bytes that its block map says")]
    Size {
        /// As the map says.
        size: u64,
    },
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

impl Error {
    /// The error inside an I/O error.
    pub fn within(error: &io::Error) -> Option<&Self> {
        error.get_ref().and_then(|inner| inner.downcast_ref())
    }
}

/// Bytes that hold data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Run {
    start: u64,
    end: u64,
    sha256: [u8; 32],
}

/// The map of one image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Map {
    size: u64,
    runs: Vec<Run>,
}

impl Map {
    /// Reads the text and checks its own checksum.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > LARGEST {
            return Err(Error::Text("it is too large"));
        }
        let body = text.split_once("<bmap version=\"").ok_or(Error::Text("it is no bmap"))?.1;
        if !["1.4\"", "2.0\""].iter().any(|version| body.starts_with(version)) {
            return Err(Error::Text("its version is neither 1.4 nor 2.0"));
        }
        if element(body, "ChecksumType")? != "sha256" {
            return Err(Error::Text("its checksums are not sha256"));
        }
        let checksum = element(body, "BmapFileChecksum")?;
        if unhex(checksum).is_none() || text.matches(checksum).count() != 1 {
            return Err(Error::Text("its own checksum is no sha256"));
        }
        let zeroed = text.replace(checksum, &"0".repeat(64));
        if unhex(checksum) != Some(Sha256::digest(zeroed).into()) {
            return Err(Error::Checksum);
        }
        let size = number(element(body, "ImageSize")?)?;
        let block = number(element(body, "BlockSize")?)?;
        if !(512..=1 << 20).contains(&block) || !block.is_power_of_two() || size == 0 || size > 1 << 56 {
            return Err(Error::Text("its sizes are not possible"));
        }
        if number(element(body, "BlocksCount")?)? != size.div_ceil(block) {
            return Err(Error::Text("its blocks are not those of its size"));
        }
        let runs = runs(element(body, "BlockMap")?, block, size)?;
        if runs.iter().map(|run| run.end.div_ceil(block) - run.start / block).sum::<u64>()
            != number(element(body, "MappedBlocksCount")?)?
        {
            return Err(Error::Text("its blocks are not as many as it says"));
        }
        Ok(Self { size, runs })
    }

    /// Bytes of the image.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// The text inside the only element of a name.
fn element<'t>(text: &'t str, name: &'static str) -> Result<&'t str, Error> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let inner = text.split_once(&open).and_then(|(_, rest)| rest.split_once(&close));
    match inner {
        Some((inner, after)) if !after.contains(&open) => Ok(inner.trim()),
        _ => Err(Error::Text("an element is missing or there twice")),
    }
}

fn number(text: &str) -> Result<u64, Error> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain).ok_or(Error::Text("something that should be a number is none"))
}

fn runs(text: &str, block: u64, size: u64) -> Result<Vec<Run>, Error> {
    let mut runs: Vec<Run> = Vec::new();
    let mut rest = text;
    while let Some((before, line)) = rest.split_once("<Range ") {
        let (line, after) = line.split_once("</Range>").ok_or(Error::Text("a range has no end"))?;
        let bad = |problem| Error::Range { range: line.chars().take(120).collect(), problem };
        if before.contains('<') && !before.trim_start().starts_with("<!--") {
            return Err(bad("follows something unknown"));
        }
        let (attribute, blocks) = line.split_once('>').ok_or_else(|| bad("has no blocks"))?;
        let digest = attribute.trim().strip_prefix("chksum=\"").and_then(|hex| hex.strip_suffix('"'));
        let sha256 = digest.and_then(unhex).ok_or_else(|| bad("has no sha256"))?;
        let (first, last) = blocks.trim().split_once('-').unwrap_or((blocks.trim(), blocks.trim()));
        let (first, last) = (number(first)?, number(last)?);
        let start = first.checked_mul(block).filter(|start| *start < size).ok_or_else(|| bad("is beyond the image"))?;
        let end = last.checked_add(1).and_then(|after| after.checked_mul(block)).ok_or_else(|| bad("is too large"))?;
        if first > last || end > size.next_multiple_of(block) || runs.last().is_some_and(|run| run.end > start) {
            return Err(bad("is not after the one before it and inside the image"));
        }
        runs.push(Run { start, end: end.min(size), sha256 });
        rest = after;
    }
    Ok(runs)
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// Where the bytes of the runs come from.
pub enum Origin {
    /// Everything, in order.
    Stream(Box<dyn Read + Send>),
    /// Any place: what the map leaves out is not even asked for.
    File(Box<dyn ReadAt>),
}

/// The content of an image that has a map.
pub struct Mapped {
    map: Map,
    from: Origin,
    at: u64,
    /// The run that is next, or that we are in.
    run: usize,
    hash: Sha256,
}

impl Mapped {
    /// From its first byte.
    pub fn new(map: Map, from: Origin) -> Self {
        Self { map, from, at: 0, run: 0, hash: Sha256::new() }
    }

    /// Bytes of the image.
    pub fn size(&self) -> u64 {
        self.map.size
    }

    /// Bytes seen so far.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Where the next change between data and zeros is, and whether there is data before it.
    fn next(&self) -> (u64, bool) {
        match self.map.runs.get(self.run) {
            Some(run) if self.at >= run.start => (run.end, true),
            Some(run) => (run.start, false),
            None => (self.map.size, false),
        }
    }

    fn fill(&mut self, buf: &mut [u8], is_data: bool) -> io::Result<()> {
        match &mut self.from {
            Origin::Stream(stream) => stream.read_exact(buf).map_err(|e| match e.kind() {
                io::ErrorKind::UnexpectedEof if e.get_ref().is_none() => Error::Size { size: self.map.size }.into(),
                _ => e,
            })?,
            Origin::File(file) if is_data => file.read_at(buf, self.at)?,
            Origin::File(_) => buf.fill(0),
        }
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.hash.update(bytes);
        let Some(run) = self.map.runs.get(self.run).copied() else { return Ok(()) };
        if self.at + bytes.len() as u64 == run.end {
            self.run += 1;
            if <[u8; 32]>::from(self.hash.finalize_reset()) != run.sha256 {
                return Err(Error::Differs { start: run.start, end: run.end });
            }
        }
        Ok(())
    }
}

impl Read for Mapped {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.map.size {
            // A stream must not have more than that.
            let more = match &mut self.from {
                Origin::Stream(stream) => stream.read(&mut [0])?,
                Origin::File(_) => 0,
            };
            return if more == 0 { Ok(0) } else { Err(Error::Size { size: self.at }.into()) };
        }
        let (end, is_data) = self.next();
        let len = (buf.len() as u64).min(end - self.at) as usize;
        let buf = &mut buf[..len];
        self.fill(buf, is_data)?;
        if is_data {
            self.data(buf)?;
        } else if buf.iter().any(|byte| *byte != 0) {
            return Err(Error::Differs { start: self.at, end: self.at + len as u64 }.into());
        }
        self.at += len as u64;
        Ok(len)
    }
}

impl Bytes for Mapped {
    fn skip_zeros(&mut self, most: u64) -> io::Result<u64> {
        let granule = GRANULE as u64;
        match (&self.from, self.next()) {
            (Origin::File(_), (end, false)) if self.at.is_multiple_of(granule) => {
                let hole = (end - self.at).min(most) / granule * granule;
                self.at += hole;
                Ok(hole)
            }
            _ => Ok(0),
        }
    }
}

#[cfg(test)]
#[path = "bmap_tests.rs"]
mod tests;
