//! From a stream of bytes to a disk: one thread reads what others fetch, hash and decode, two write, a few aligned buffers
//! go round between them. The ends of the disk are held back. Must not know what the bytes are.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

use sha2::{Digest, Sha256};
use spec::Code;

use crate::disk::aligned::{Aligned, Piece};
use crate::disk::held::{END, Held};
use crate::failed::Coded;

/// Bytes of one write.
pub const CHUNK: usize = 4 << 20;
/// Buffers that go round besides those that are being written.
const WAITING: usize = 4;
/// Threads that write, so that the disk has something to do while one of them looks for zeros.
const WRITERS: usize = 2;
/// All the memory a write takes.
pub const MEMORY: usize = (WAITING + WRITERS + 1) * CHUNK;
/// A run of zeros shorter than this is written like anything else.
pub const GRANULE: usize = 64 << 10;
/// Bytes after which a thread has the disk put them out of its cache, which is not all left to the end then.
const SETTLE: usize = 32 << 20;
/// The longest hole that is made at once.
const HOLE: u64 = 256 << 20;

/// Why the body did not get onto the disk.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream broke; its owner knows what that means.
    #[error("the content broke")]
    Content(#[source] io::Error),
    /// The disk refused.
    #[error("cannot write LBA {lba} (byte {offset}) of the disk")]
    Write {
        /// The first sector that was refused.
        lba: u64,
        /// The same in bytes.
        offset: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// The disk could not keep what it had taken.
    #[error("the disk cannot empty its write cache")]
    Settle(#[source] io::Error),
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
            Self::Write { .. } | Self::Settle(_) | Self::Writer => Code::DiskIo,
            Self::TooLarge { .. } => Code::DiskTooSmall,
        }
    }
}

/// Where bytes go.
pub trait Sink: Sync {
    /// Writes all of `bytes` at `offset`; both are multiples of the sector size.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Puts what was written out of the disk's cache.
    fn settle(&self) -> io::Result<()> {
        Ok(())
    }

    /// Whether [`Sink::zero`] may do something.
    fn can_zero(&self) -> bool {
        false
    }

    /// Makes bytes zero without writing them; false when they have to be written after all.
    fn zero(&self, _offset: u64, _len: u64) -> io::Result<bool> {
        Ok(false)
    }
}

/// What goes onto the disk, in order.
pub trait Bytes: Read {
    /// Passes over zeros that need not be read, at most so many; a multiple of [`GRANULE`].
    fn skip_zeros(&mut self, _most: u64) -> io::Result<u64> {
        Ok(0)
    }

    /// The next bytes as they lie in memory, at most so many, where a disk takes them from there: whole pages, and not
    /// none. Nothing where they have to be read.
    fn piece(&mut self, _most: usize) -> io::Result<Option<Piece>> {
        Ok(None)
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

/// In which steps the disk is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Way {
    /// How much is read back.
    pub depth: Depth,
    /// Bytes of one write, a multiple of [`GRANULE`] and at most [`CHUNK`].
    pub block: usize,
    /// Writes at the same time.
    pub queue: usize,
}

impl From<Depth> for Way {
    fn from(depth: Depth) -> Self {
        Self { depth, block: CHUNK, queue: WRITERS }
    }
}

impl Way {
    /// Bytes of its buffers, that of zeros among them.
    pub fn memory(&self) -> usize {
        (WAITING + self.queue + 1) * self.block
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
    fn of(offset: u64, bytes: &[u8]) -> Self {
        Self { offset, len: bytes.len(), sha256: Sha256::digest(bytes).into() }
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

/// Work for a writing thread.
struct Chunk {
    offset: u64,
    what: What,
    /// Whether it is to be read back.
    is_sample: bool,
}

/// Where the threads take their chunks; gone when one of them failed.
type Queue = Mutex<Option<Receiver<Chunk>>>;

enum What {
    /// The first so many of these bytes.
    Bytes(Aligned, usize),
    /// All of these.
    Piece(Piece),
    Zeros(u64),
}

/// Brings all of `content` onto the disk but for its ends. `tick` is called after each chunk.
pub fn pump<C: Bytes + ?Sized>(
    content: &mut C,
    sink: &dyn Sink,
    geometry: Geometry,
    way: impl Into<Way>,
    tick: &mut dyn FnMut(&C),
) -> Result<Streamed, Error> {
    let way @ Way { block, queue, .. } = way.into();
    let (to_reader, buffers) = channel();
    for _ in 0..WAITING + queue {
        // The receiver is two lines up.
        let _ = to_reader.send(Aligned::zeroed(block));
    }
    let zeros = OnceLock::new();
    thread::scope(|scope| {
        let (to_writers, chunks) = channel();
        let chunks = Arc::new(Queue::new(Some(chunks)));
        let mut writers = Vec::new();
        for _ in 0..queue {
            let (to_reader, chunks) = (to_reader.clone(), Arc::clone(&chunks));
            let writer = Writer { sink, sector: geometry.sector, block, zeros: &zeros };
            writers.push(scope.spawn(move || {
                let written = writer.write_all(&chunks, &to_reader);
                if let (Err(_), Ok(mut chunks)) = (&written, chunks.lock()) {
                    // Nobody goes on when one has failed.
                    *chunks = None;
                }
                written
            }));
        }
        drop((to_reader, chunks));
        let mut pipe = Pipe { to_writers, buffers, way, count: 0, held_back: None };
        let read = read_all(content, geometry, &mut pipe, tick).and_then(|done| pipe.flush().map(|()| done));
        drop(pipe);
        let mut samples = Vec::new();
        let mut first = Ok(());
        for writer in writers {
            match writer.join() {
                Ok(Ok(some)) => samples.extend(some),
                Ok(Err(e)) => first = first.and(Err(e)),
                Err(_) => first = first.and(Err(Error::Writer)),
            }
        }
        // When a writer failed, the reader only noticed that it was gone.
        first?;
        let (length, held) = read?;
        samples.sort_unstable_by_key(|sample| sample.offset);
        Ok(Streamed { length, held, samples })
    })
}

/// The reader's side. Bounded by the number of buffers.
struct Pipe {
    to_writers: Sender<Chunk>,
    buffers: Receiver<Aligned>,
    way: Way,
    count: u64,
    /// The last one is always a sample, and which one that is shows only at the end.
    held_back: Option<Chunk>,
}

impl Pipe {
    fn send(&mut self, offset: u64, what: What) -> Result<(), Error> {
        let is_sample = self.way.depth.wants(self.count);
        match self.held_back.replace(Chunk { offset, what, is_sample }) {
            Some(chunk) => self.pass(chunk),
            None => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), Error> {
        let Some(mut chunk) = self.held_back.take() else { return Ok(()) };
        chunk.is_sample = self.way.depth != Depth::None;
        self.pass(chunk)
    }

    fn pass(&mut self, chunk: Chunk) -> Result<(), Error> {
        self.count += 1;
        self.to_writers.send(chunk).map_err(|_| Error::Writer)
    }
}

fn read_all<C: Bytes + ?Sized>(
    content: &mut C,
    geometry: Geometry,
    pipe: &mut Pipe,
    tick: &mut dyn FnMut(&C),
) -> Result<(u64, Held), Error> {
    let mut held = Held::new(geometry.size);
    let tail_start = held.tail_start();
    let mut length = fill(content, &mut held.head)? as u64;
    tick(content);
    while length >= END && length < tail_start {
        let most = if pipe.way.depth == Depth::Full { pipe.way.block as u64 } else { HOLE };
        let hole = content.skip_zeros(most.min((tail_start - length) / GRANULE as u64 * GRANULE as u64));
        let hole = hole.map_err(Error::Content)?;
        if hole > 0 {
            pipe.send(length, What::Zeros(hole))?;
            length += hole;
            tick(content);
            continue;
        }
        let room = (pipe.way.block as u64).min(tail_start - length) as usize;
        if let Some(piece) = content.piece(room).map_err(Error::Content)? {
            let len = piece.len() as u64;
            pipe.send(length, What::Piece(piece))?;
            length += len;
            tick(content);
            continue;
        }
        let mut bytes = pipe.buffers.recv().map_err(|_| Error::Writer)?;
        let got = fill(content, &mut bytes[..room])?;
        let len = got.next_multiple_of(geometry.sector as usize);
        bytes[got..len].fill(0);
        if got > 0 {
            pipe.send(length, What::Bytes(bytes, len))?;
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

/// A thread's side.
struct Writer<'a> {
    sink: &'a dyn Sink,
    sector: u32,
    block: usize,
    /// A block of zeros, made when it is needed first.
    zeros: &'a OnceLock<Aligned>,
}

impl Writer<'_> {
    /// Whoever is free takes the next chunk.
    fn write_all(&self, chunks: &Queue, buffers: &Sender<Aligned>) -> Result<Vec<Sample>, Error> {
        let Self { sink, sector, block, zeros } = *self;
        let mut samples = Vec::new();
        let mut unsettled = 0;
        let next = || chunks.lock().ok()?.as_ref()?.recv().ok();
        while let Some(Chunk { offset, what, is_sample }) = next() {
            match what {
                What::Bytes(bytes, len) => {
                    unsettled += len;
                    put_all(sink, sector, &bytes[..len], offset)?;
                    samples.extend(is_sample.then(|| Sample::of(offset, &bytes[..len])));
                    // The reader may have ended.
                    let _ = buffers.send(bytes);
                }
                What::Piece(piece) => {
                    unsettled += piece.len();
                    put_all(sink, sector, &piece, offset)?;
                    samples.extend(is_sample.then(|| Sample::of(offset, &piece)));
                }
                What::Zeros(len) => {
                    put_zeros(sink, || zeros.get_or_init(|| Aligned::zeroed(block)), offset, len)
                        .map_err(|(at, source)| refused(sector, at, source))?;
                    if is_sample {
                        samples.push(Sample::of(offset, &vec![0; len.min(block as u64) as usize]));
                    }
                }
            }
            if unsettled >= SETTLE {
                unsettled = 0;
                sink.settle().map_err(Error::Settle)?;
            }
        }
        Ok(samples)
    }
}

fn put_all(sink: &dyn Sink, sector: u32, bytes: &[u8], offset: u64) -> Result<(), Error> {
    put(sink, bytes, offset).map_err(|e| located(sink, sector, bytes, offset, e))
}

/// Writes what is not zero; what is zero need not travel where the disk can make it so by itself.
fn put(sink: &dyn Sink, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut start = 0;
    while start < bytes.len() {
        let (len, is_zero) = if sink.can_zero() { run(&bytes[start..]) } else { (bytes.len() - start, false) };
        let at = offset + start as u64;
        if !(is_zero && sink.zero(at, len as u64)?) {
            sink.write_at(&bytes[start..start + len], at)?;
        }
        start += len;
    }
    Ok(())
}

fn put_zeros<'a>(
    sink: &dyn Sink,
    zeros: impl FnOnce() -> &'a Aligned,
    offset: u64,
    len: u64,
) -> Result<(), (u64, io::Error)> {
    if sink.can_zero() && sink.zero(offset, len).map_err(|e| (offset, e))? {
        return Ok(());
    }
    let zeros = zeros();
    let mut at = offset;
    while at < offset + len {
        let part = zeros.len().min((offset + len - at) as usize);
        sink.write_at(&zeros[..part], at).map_err(|e| (at, e))?;
        at += part as u64;
    }
    Ok(())
}

/// Which sector of a chunk it was: the first that is refused alone, too.
fn located(sink: &dyn Sink, sector: u32, bytes: &[u8], offset: u64, error: io::Error) -> Error {
    let mut sectors = bytes.chunks(sector as usize).enumerate();
    let first = sectors.find_map(|(n, bytes)| {
        let at = offset + n as u64 * u64::from(sector);
        sink.write_at(bytes, at).err().map(|e| (at, e))
    });
    let (at, source) = first.unwrap_or((offset, error));
    refused(sector, at, source)
}

fn refused(sector: u32, offset: u64, source: io::Error) -> Error {
    Error::Write { lba: offset / u64::from(sector.max(1)), offset, source }
}

/// How many bytes from the start are all zero, or all worth writing, in whole granules.
fn run(bytes: &[u8]) -> (usize, bool) {
    let mut granules = bytes.chunks(GRANULE).map(|granule| (granule.len(), is_zero(granule)));
    let Some((mut len, first)) = granules.next() else { return (0, false) };
    len += granules.take_while(|(_, zero)| *zero == first).map(|(len, _)| len).sum::<usize>();
    (len, first)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(512).all(|part| part.iter().fold(0, |all, byte| all | byte) == 0)
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
