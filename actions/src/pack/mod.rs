//! From a disk's bytes to an image for others: packed or not, with digests of both, and a map of what is not zero. A
//! stream that is read; must not know where the bytes come from or go to.

mod frames;
mod map;

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::Compression;
use flate2::read::GzEncoder;
use sha2::{Digest, Sha256};
use spec::bmap::Map;

use frames::Frames;
use map::Mapper;

/// Bytes handled at once.
const UNIT: usize = 1 << 20;

/// How the image is packed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Packing {
    /// Not at all.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// Zstandard in frames, with a table of them.
    Zstd,
}

/// What is known of an image when all of it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packed {
    /// Bytes of content.
    pub length: u64,
    /// Of the content, `sha256:<hex>`.
    pub content_sha256: String,
    /// Bytes as published.
    pub published: u64,
    /// Of them, `sha256:<hex>`.
    pub published_sha256: String,
    /// What of the content is not zero.
    pub map: Map,
}

impl Packed {
    /// The map as a file.
    pub fn bmap(&self) -> String {
        self.map.to_xml(|bytes| hex(&Sha256::digest(bytes)))
    }

    /// Bytes that are not zero, in whole blocks.
    pub fn mapped(&self) -> u64 {
        self.map.mapped()
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where the reader of a stream tells how far it is and what came of it.
#[derive(Clone, Debug, Default)]
pub struct End {
    got: Arc<AtomicU64>,
    packed: Arc<OnceLock<Packed>>,
    broken: Arc<OnceLock<(io::ErrorKind, String)>>,
}

impl End {
    /// Bytes of content read so far.
    pub fn position(&self) -> u64 {
        self.got.load(Ordering::Relaxed)
    }

    /// What came of it; an error when it was not read to its end.
    pub fn packed(&self) -> io::Result<Packed> {
        let short = || io::Error::new(io::ErrorKind::UnexpectedEof, "the image was not read to its end");
        self.packed.get().cloned().ok_or_else(|| self.broken().unwrap_or_else(short))
    }

    /// Why the content could not be read, when that was it.
    pub fn broken(&self) -> Option<io::Error> {
        self.broken.get().map(|(kind, text)| io::Error::new(*kind, text.clone()))
    }
}

/// The content, looked at while it passes.
struct Content {
    inner: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    at: usize,
    hash: Sha256,
    mapper: Mapper,
    end: End,
}

impl Content {
    fn fill(&mut self) -> io::Result<()> {
        self.buffer.resize(UNIT, 0);
        let mut len = 0;
        while len < UNIT {
            match self.inner.read(&mut self.buffer[len..]) {
                Ok(0) => break,
                Ok(n) => len += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    let _ = self.end.broken.set((e.kind(), e.to_string()));
                    return Err(e);
                }
            }
        }
        self.buffer.truncate(len);
        self.at = 0;
        self.hash.update(&self.buffer);
        self.mapper.feed(&self.buffer);
        self.end.got.fetch_add(len as u64, Ordering::Relaxed);
        Ok(())
    }
}

impl Read for Content {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.buffer.len() && !buf.is_empty() {
            self.fill()?;
        }
        let n = (&self.buffer[self.at..]).read(buf)?;
        self.at += n;
        Ok(n)
    }
}

enum Encoder {
    None(Content),
    Gzip(Box<GzEncoder<Content>>),
    Zstd(Frames<Content>),
}

impl Encoder {
    fn content(self) -> Content {
        match self {
            Self::None(content) => content,
            Self::Gzip(encoder) => encoder.into_inner(),
            Self::Zstd(frames) => frames.into_inner(),
        }
    }

    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::None(content) => content.read(buf),
            Self::Gzip(encoder) => encoder.read(buf),
            Self::Zstd(frames) => frames.read(buf),
        }
    }
}

/// The image as it is published.
pub struct Pack {
    /// Gone at the end.
    encoder: Option<Encoder>,
    hash: Sha256,
    published: u64,
    /// Where it ends, when that is known before: whoever sends so many bytes asks for no more.
    length: Option<u64>,
    end: End,
}

impl Pack {
    /// Of this content, whose length may be known.
    pub fn new(content: Box<dyn Read + Send>, packing: Packing, length: Option<u64>) -> (Self, End) {
        let end = End::default();
        let content = Content {
            inner: content,
            buffer: Vec::new(),
            at: 0,
            hash: Sha256::new(),
            mapper: Mapper::default(),
            end: end.clone(),
        };
        let encoder = match packing {
            Packing::None => Encoder::None(content),
            Packing::Gzip => Encoder::Gzip(Box::new(GzEncoder::new(content, Compression::default()))),
            Packing::Zstd => Encoder::Zstd(Frames::new(content)),
        };
        let length = length.filter(|_| packing == Packing::None);
        (Self { encoder: Some(encoder), hash: Sha256::new(), published: 0, length, end: end.clone() }, end)
    }

    /// All of it to a file, zeros as holes. `tick` is called now and then.
    pub fn write_to<W: Write + Seek>(mut self, to: &mut W, mut tick: impl FnMut(u64)) -> Result<Packed, WriteError> {
        let mut buffer = vec![0; UNIT];
        let mut is_hole = false;
        loop {
            let n = self.read(&mut buffer).map_err(WriteError::Read)?;
            if n == 0 {
                break;
            }
            is_hole = buffer[..n].iter().all(|byte| *byte == 0);
            match is_hole {
                true => drop(to.seek(SeekFrom::Current(n as i64)).map_err(WriteError::Write)?),
                false => to.write_all(&buffer[..n]).map_err(WriteError::Write)?,
            }
            tick(self.end.position());
        }
        if is_hole {
            to.seek(SeekFrom::Current(-1)).and_then(|_| to.write_all(&[0])).map_err(WriteError::Write)?;
        }
        self.end.packed().map_err(WriteError::Read)
    }

    fn finish(&mut self) {
        let Some(encoder) = self.encoder.take() else { return };
        let content = encoder.content();
        let (length, ranges) = content.mapper.finish();
        let _ = self.end.packed.set(Packed {
            length,
            content_sha256: format!("sha256:{}", hex(&content.hash.finalize())),
            published: self.published,
            published_sha256: format!("sha256:{}", hex(&std::mem::take(&mut self.hash).finalize())),
            map: Map { size: length, ranges },
        });
    }
}

/// Which side broke.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The content.
    #[error("cannot read the content")]
    Read(#[source] io::Error),
    /// The file.
    #[error("cannot write the image")]
    Write(#[source] io::Error),
}

impl Read for Pack {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(encoder) = &mut self.encoder else { return Ok(0) };
        let n = encoder.read(buf)?;
        self.hash.update(&buf[..n]);
        self.published += n as u64;
        if (n == 0 && !buf.is_empty()) || self.length == Some(self.published) {
            self.finish();
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests;
