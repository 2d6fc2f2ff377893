//! From a stream of bytes to a disk: one thread reads (fetches, hashes, decodes), one writes, a few aligned buffers go
//! round between them. The ends of the disk are held back. Must not know what the bytes are.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use sha2::{Digest, Sha256};
use spec::Code;

use crate::disk::aligned::Aligned;
use crate::disk::held::{END, Held};
use crate::failed::Coded;

/// Bytes of one write.
pub const CHUNK: usize = 4 << 20;
/// Buffers that go round; this times [`CHUNK`] is all the memory a write takes.
const BUFFERS: usize = 5;

/// Why the body did not get onto the disk.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream broke; its owner knows what that means.
    #[error("the content broke")]
    Content(#[source] io::Error),
    /// The disk refused.
    #[error("cannot write {len} bytes at byte {offset} of the disk")]
    Write {
        /// Where.
        offset: u64,
        /// How much.
        len: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// More content than disk.
    #[error("the content is larger than the disk of {size} bytes")]
    TooLarge {
        /// Of the disk.
        size: u64,
    },
    /// The writing thread is gone.
    #[error("the writing thread ended unexpectedly")]
    Writer,
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::Content(_) => Code::Decode,
            Self::Write { .. } | Self::Writer => Code::DiskIo,
            Self::TooLarge { .. } => Code::DiskTooSmall,
        }
    }
}

/// Where bytes go.
pub trait Sink: Sync {
    /// Writes all of `bytes` at `offset`; both are multiples of the sector size.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
}

impl Sink for sys::block::Device {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        Self::write_at(self, bytes, offset)
    }
}

/// How much is read back.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Depth {
    /// Nothing but the ends.
    None,
    /// The first and the last chunk, and one in sixteen of the others.
    #[default]
    Sample,
    /// Everything.
    Full,
}

impl Depth {
    fn wants(self, chunk: u64) -> bool {
        match self {
            Self::None => false,
            // Spread over the disk, but not at a distance that a striped array could have, too.
            Self::Sample => chunk == 0 || chunk.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60 == 0,
            Self::Full => true,
        }
    }
}

/// What one chunk on the disk has to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sample {
    /// Where.
    pub offset: u64,
    /// How much, padding included.
    pub len: usize,
    /// Of those bytes.
    pub sha256: [u8; 32],
}

impl Sample {
    fn of(chunk: &Chunk) -> Self {
        let bytes = &chunk.bytes[..chunk.len];
        Self { offset: chunk.offset, len: bytes.len(), sha256: Sha256::digest(bytes).into() }
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Streamed {
    /// Bytes of content.
    pub length: u64,
    /// The ends, not yet on the disk.
    pub held: Held,
    /// What to read back.
    pub samples: Vec<Sample>,
}

/// The disk that is written.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    /// Bytes, at least twice [`END`].
    pub size: u64,
    /// Bytes of a sector.
    pub sector: u32,
}

struct Chunk {
    offset: u64,
    bytes: Aligned,
    len: usize,
}

/// Brings all of `content` onto the disk but for its ends. `tick` is called after each chunk.
pub fn pump<C: Read + ?Sized>(
    content: &mut C,
    sink: &dyn Sink,
    geometry: Geometry,
    depth: Depth,
    tick: &mut dyn FnMut(&C),
) -> Result<Streamed, Error> {
    let (to_writer, chunks) = channel();
    let (to_reader, buffers) = channel();
    for _ in 0..BUFFERS {
        // The receiver is two lines up.
        let _ = to_reader.send(Aligned::zeroed(CHUNK));
    }
    thread::scope(|scope| {
        let writer = scope.spawn(move || write_all(sink, &chunks, &to_reader, depth));
        let read = read_all(content, geometry, &Pipe { to_writer, buffers }, tick);
        let samples = writer.join().map_err(|_| Error::Writer)?;
        // When the writer failed, the reader only noticed that it was gone.
        let (samples, (length, held)) = (samples?, read?);
        Ok(Streamed { length, held, samples })
    })
}

/// The reader's side. Bounded by the number of buffers.
struct Pipe {
    to_writer: Sender<Chunk>,
    buffers: Receiver<Aligned>,
}

fn read_all<C: Read + ?Sized>(
    content: &mut C,
    geometry: Geometry,
    pipe: &Pipe,
    tick: &mut dyn FnMut(&C),
) -> Result<(u64, Held), Error> {
    let mut held = Held::new(geometry.size);
    let tail_start = held.tail_start();
    let mut length = fill(content, &mut held.head)? as u64;
    tick(content);
    while length >= END && length < tail_start {
        let mut bytes = pipe.buffers.recv().map_err(|_| Error::Writer)?;
        let room = CHUNK.min((tail_start - length) as usize);
        let got = fill(content, &mut bytes[..room])?;
        let len = got.next_multiple_of(geometry.sector as usize);
        bytes[got..len].fill(0);
        if got > 0 {
            pipe.to_writer.send(Chunk { offset: length, bytes, len }).map_err(|_| Error::Writer)?;
        }
        length += got as u64;
        tick(content);
        if got < room {
            break;
        }
    }
    if length == tail_start {
        length += fill(content, &mut held.tail)? as u64;
    }
    if length == geometry.size && fill(content, &mut [0])? > 0 {
        return Err(Error::TooLarge { size: geometry.size });
    }
    tick(content);
    Ok((length, held))
}

fn fill<C: Read + ?Sized>(content: &mut C, buf: &mut [u8]) -> Result<usize, Error> {
    let mut got = 0;
    while got < buf.len() {
        match content.read(&mut buf[got..]) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::Content(e)),
        }
    }
    Ok(got)
}

fn write_all(
    sink: &dyn Sink,
    chunks: &Receiver<Chunk>,
    buffers: &Sender<Aligned>,
    depth: Depth,
) -> Result<Vec<Sample>, Error> {
    let mut samples = Vec::new();
    // Kept until the next one comes, because the last one is always a sample.
    let mut last: Option<Chunk> = None;
    for (index, chunk) in (0..).zip(chunks) {
        sink.write_at(&chunk.bytes[..chunk.len], chunk.offset).map_err(|source| Error::Write {
            offset: chunk.offset,
            len: chunk.len,
            source,
        })?;
        if depth.wants(index) {
            samples.push(Sample::of(&chunk));
        }
        if let Some(done) = last.replace(chunk) {
            // The reader may have ended.
            let _ = buffers.send(done.bytes);
        }
    }
    if let Some(chunk) = last.filter(|_| depth != Depth::None) {
        let sample = Sample::of(&chunk);
        if samples.last() != Some(&sample) {
            samples.push(sample);
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Mutex;

    /// A disk in memory that fails at one offset.
    struct Memory {
        bytes: Mutex<Vec<u8>>,
        bad: Option<u64>,
    }

    impl Sink for Memory {
        fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
            assert_eq!((offset % 512, bytes.len() % 512, bytes.as_ptr() as usize % 512), (0, 0, 0));
            if self.bad.is_some_and(|bad| (offset..offset + bytes.len() as u64).contains(&bad)) {
                return Err(io::Error::other("bad sector"));
            }
            self.bytes.lock().unwrap()[offset as usize..][..bytes.len()].copy_from_slice(bytes);
            Ok(())
        }
    }

    /// Gives few bytes at a time.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let n = buf.len().min(self.1);
            self.0.read(&mut buf[..n])
        }
    }

    fn disk(size: u64, bad: Option<u64>) -> Memory {
        Memory { bytes: Mutex::new(vec![0xaa; size as usize]), bad }
    }

    fn content(len: usize) -> Vec<u8> {
        (0..len).map(|n| ((n * 31) >> 3) as u8 | 1).collect()
    }

    fn run(content: &[u8], step: usize, sink: &Memory, depth: Depth) -> Result<Streamed, Error> {
        let size = sink.bytes.lock().unwrap().len() as u64;
        pump(&mut Trickle(content, step), sink, Geometry { size, sector: 512 }, depth, &mut |_| ())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn body_and_held_ends_together_are_the_content(
            len in 0usize..14 << 20, size in 2u64..14, step in 100usize..1 << 20,
        ) {
            let size = size << 20;
            let sink = disk(size, None);
            let content = content(len);
            match run(&content, step, &sink, Depth::Full) {
                Err(Error::TooLarge { .. }) => prop_assert!(len as u64 > size),
                result => {
                    let streamed = result.unwrap();
                    prop_assert_eq!(streamed.length, len as u64);
                    let mut bytes = sink.bytes.into_inner().unwrap();
                    prop_assert!(bytes[..END as usize].iter().all(|b| *b == 0xaa), "the head was written");
                    prop_assert!(bytes[(size - END) as usize..].iter().all(|b| *b == 0xaa), "the tail was written");
                    bytes[..END as usize].copy_from_slice(&streamed.held.head);
                    bytes[(size - END) as usize..].copy_from_slice(&streamed.held.tail);
                    prop_assert!(bytes[..len] == content[..], "content differs");
                    for sample in &streamed.samples {
                        let on_disk = &bytes[sample.offset as usize..][..sample.len];
                        prop_assert_eq!(<[u8; 32]>::from(Sha256::digest(on_disk)), sample.sha256);
                    }
                }
            }
        }
    }

    #[test]
    fn the_last_sector_is_padded_with_zeros() {
        let sink = disk(4 << 20, None);
        let streamed = run(&content((1 << 20) + 700), 999, &sink, Depth::Sample).unwrap();
        assert_eq!(streamed.samples.len(), 1);
        let bytes = sink.bytes.into_inner().unwrap();
        let at = (1 << 20) + 700;
        assert!(bytes[at..(1 << 20) + 1024].iter().all(|b| *b == 0));
        assert_eq!(bytes[(1 << 20) + 1024], 0xaa);
    }

    #[test]
    fn first_and_last_chunk_are_always_samples() {
        let sink = disk(64 << 20, None);
        let streamed = run(&content(60 << 20), 1 << 20, &sink, Depth::Sample).unwrap();
        assert_eq!(streamed.samples.first().unwrap().offset, END);
        let last = streamed.samples.last().unwrap();
        assert_eq!(last.offset + last.len as u64, 60 << 20);
    }

    #[test]
    fn a_bad_sector_is_named() {
        let sink = disk(64 << 20, Some(30 << 20));
        let error = run(&content(60 << 20), 1 << 20, &sink, Depth::None).unwrap_err();
        assert!(matches!(error, Error::Write { offset, .. } if offset == (29 << 20)), "{error}");
    }

    #[test]
    fn a_broken_content_ends_the_write() {
        struct Broken(u64);
        impl Read for Broken {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(buf.len() as u64).ok_or_else(|| io::Error::other("cut"))?;
                Ok(buf.len())
            }
        }
        let sink = disk(64 << 20, None);
        let geometry = Geometry { size: 64 << 20, sector: 512 };
        let error = pump(&mut Broken(20 << 20), &sink, geometry, Depth::Sample, &mut |_| ()).unwrap_err();
        assert!(matches!(error, Error::Content(_)), "{error}");
    }
}
