//! Zstandard frames (RFC 8878): where they end, without unpacking them.

use std::io;

use super::parallel::{Cut, Format, LARGEST, Unpack};
use super::window::Window;
use super::{damaged, short};

const MAGIC: u32 = 0xfd2f_b528;
/// The sixteen kinds of skippable frames.
const SKIPPABLE: u32 = 0x184d_2a50;
/// No block unpacks to more.
const BLOCK: u64 = 128 << 10;
/// `zstd --long=27` is accepted, as by the tool itself: the window is memory.
const LARGEST_WINDOW_LOG: u32 = 27;

/// A walk over the headers of one frame.
#[derive(Debug, Default)]
pub struct FrameWalk {
    /// Of the next header, from the start of the frame.
    at: u64,
    part: Part,
    has_checksum: bool,
    /// Announced by the header.
    content: Option<u64>,
    blocks: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Part {
    #[default]
    Start,
    Block,
    End,
}

impl FrameWalk {
    /// Walks on over what is there of the frame; true when its end is known, which may be further than `bytes` reach.
    pub fn walk(&mut self, bytes: &[u8]) -> io::Result<bool> {
        while self.part != Part::End {
            let Some(rest) = usize::try_from(self.at).ok().and_then(|at| bytes.get(at..)) else { return Ok(false) };
            let known = match self.part {
                Part::Start => self.start(rest)?,
                _ => self.block(rest)?,
            };
            if !known {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Bytes of the frame, once its end is known; of its walked part before.
    pub fn len(&self) -> u64 {
        self.at
    }

    /// Whether nothing was walked yet.
    pub fn is_empty(&self) -> bool {
        self.at == 0
    }

    /// At most so many bytes come out of what was walked, or of the whole frame if it says.
    pub fn room(&self) -> u64 {
        self.content.unwrap_or(self.blocks.saturating_mul(BLOCK))
    }

    fn start(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let Some(magic) = le(bytes, 0, 4) else { return Ok(false) };
        if magic as u32 & !0xf == SKIPPABLE {
            let Some(len) = le(bytes, 4, 4) else { return Ok(false) };
            (self.at, self.content, self.part) = (8 + len, Some(0), Part::End);
            return Ok(true);
        }
        if magic as u32 != MAGIC {
            return Err(damaged("something that is no frame follows a frame"));
        }
        let Some(descriptor) = bytes.get(4) else { return Ok(false) };
        let is_single = descriptor & 0x20 != 0;
        let window = usize::from(!is_single);
        let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let size = match descriptor >> 6 {
            0 => usize::from(is_single),
            n => 1 << n,
        };
        let Some(announced) = le(bytes, 5 + window + dictionary, size) else { return Ok(false) };
        self.has_checksum = descriptor & 4 != 0;
        self.content = match size {
            0 => None,
            2 => Some(announced + 256),
            _ => Some(announced),
        };
        self.at = (5 + window + dictionary + size) as u64;
        self.part = Part::Block;
        Ok(true)
    }

    fn block(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let Some(header) = le(bytes, 0, 3) else { return Ok(false) };
        let len = match (header >> 1) & 3 {
            1 => 1,
            3 => return Err(damaged("a block of a reserved kind")),
            _ => header >> 3,
        };
        self.at += 3 + len;
        self.blocks += 1;
        if header & 1 == 1 {
            self.at += if self.has_checksum { 4 } else { 0 };
            self.part = Part::End;
        }
        Ok(true)
    }
}

/// A little-endian number, when all of it is there.
fn le(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    Some(bytes.get(at..at + len)?.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte)))
}

/// The format.
#[derive(Default)]
pub struct Zstd {
    walk: FrameWalk,
}

impl Format for Zstd {
    const GUESSES: bool = false;
    type One = zstd::stream::read::Decoder<'static, Window>;

    fn cut(&mut self, ahead: &[u8], ended: bool) -> io::Result<Cut> {
        let is_known = self.walk.walk(ahead)?;
        let (len, room) = (self.walk.len(), self.walk.room());
        if len.max(room) > LARGEST as u64 {
            self.reset();
            return Ok(Cut::Alone);
        }
        if !is_known || len > ahead.len() as u64 {
            return if ended { Err(short("a frame")) } else { Ok(Cut::More) };
        }
        self.reset();
        Ok(Cut::At { len: len as usize, room: room as usize })
    }

    fn reset(&mut self) {
        self.walk = FrameWalk::default();
    }

    fn unpacker() -> io::Result<Unpack> {
        let mut decoder = zstd::bulk::Decompressor::new()?;
        Ok(Box::new(move |piece, out| decoder.decompress_to_buffer(piece, out)))
    }

    fn one(window: Window) -> io::Result<Self::One> {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(window)?.single_frame();
        decoder.window_log_max(LARGEST_WINDOW_LOG)?;
        Ok(decoder)
    }

    fn back(one: Self::One) -> Window {
        one.finish()
    }
}
