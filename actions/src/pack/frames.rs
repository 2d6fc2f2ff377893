//! Content as Zstandard frames that do not depend on each other, packed on several cores, with a table of them at the
//! end: what can be unpacked at once, and from the middle.

use std::io::{self, Read};
use std::thread;

use spec::seekable::{self, Frame};

/// Bytes of content in a frame.
const FRAME: usize = 8 << 20;
/// Quick to make, as quick to unpack as any.
const LEVEL: i32 = 6;

pub struct Frames<R> {
    inner: R,
    cores: usize,
    ready: io::Cursor<Vec<u8>>,
    frames: Vec<Frame>,
    ended: bool,
}

impl<R: Read> Frames<R> {
    pub fn new(inner: R) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from).min(8);
        Self { inner, cores, ready: io::Cursor::default(), frames: Vec::new(), ended: false }
    }

    pub fn into_inner(self) -> R {
        self.inner
    }

    /// As many frames as there are cores; after the last the table.
    fn more(&mut self) -> io::Result<()> {
        let mut pieces = Vec::new();
        while pieces.len() < self.cores {
            let mut piece = Vec::with_capacity(FRAME);
            self.inner.by_ref().take(FRAME as u64).read_to_end(&mut piece)?;
            self.ended = piece.len() < FRAME;
            // No content at all is one empty frame.
            if !piece.is_empty() || (self.frames.is_empty() && pieces.is_empty()) {
                pieces.push(piece);
            }
            if self.ended {
                break;
            }
        }
        let packed: Vec<io::Result<Vec<u8>>> = thread::scope(|scope| {
            let threads: Vec<_> = pieces.iter().map(|piece| scope.spawn(|| pack(piece))).collect();
            let failed = || io::Error::other("a packing thread ended unexpectedly");
            threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err(failed()))).collect()
        });
        let mut out = Vec::new();
        for (packed, piece) in packed.into_iter().zip(&pieces) {
            let packed = packed?;
            self.frames.push((packed.len() as u32, piece.len() as u32));
            out.extend(packed);
        }
        if self.ended {
            out.extend(seekable::table(&self.frames));
        }
        self.ready = io::Cursor::new(out);
        Ok(())
    }
}

fn pack(piece: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::bulk::Compressor::new(LEVEL)?;
    encoder.include_checksum(true)?;
    encoder.include_contentsize(true)?;
    encoder.compress(piece)
}

impl<R: Read> Read for Frames<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.ready.read(buf)? {
                0 if buf.is_empty() || self.ended => return Ok(0),
                0 => self.more()?,
                n => return Ok(n),
            }
        }
    }
}
