//! lz4 frames, one after the other. The decoder takes an end between two blocks for the end of the file, so the frames
//! are walked beside it: only after an end mark may a file end.

use std::io::{self, Read};

use lz4_flex::frame::FrameDecoder;

use super::{Input, damaged, short};

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];

/// The content of such a file.
pub struct Lz4 {
    /// One for each frame: it does not take a second one that has larger blocks.
    decoder: Option<FrameDecoder<Watched>>,
}

impl Lz4 {
    pub fn new(input: Input) -> Self {
        Self { decoder: Some(FrameDecoder::new(Watched { input, walk: Walk::default(), ended: false })) }
    }
}

impl Read for Lz4 {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = &mut self.decoder {
            let n = decoder.read(buf)?;
            if n > 0 || buf.is_empty() {
                return Ok(n);
            }
            let watched = decoder.get_ref();
            if watched.ended {
                return if watched.walk.is_between() { Ok(0) } else { Err(short("a frame")) };
            }
            self.decoder = self.decoder.take().map(|decoder| FrameDecoder::new(decoder.into_inner()));
        }
        Ok(0)
    }
}

struct Watched {
    input: Input,
    walk: Walk,
    ended: bool,
}

impl Read for Watched {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(buf)?;
        self.ended |= n == 0 && !buf.is_empty();
        self.walk.feed(&buf[..n])?;
        Ok(n)
    }
}

/// Where in a frame the bytes read so far end.
#[derive(Default)]
struct Walk {
    part: Part,
    /// Of a header that is not all there yet.
    header: Vec<u8>,
    /// Still to come of what a header announced.
    skip: u64,
    block_checksums: bool,
    content_checksum: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Part {
    #[default]
    Start,
    Block,
}

impl Walk {
    fn is_between(&self) -> bool {
        self.part == Part::Start && self.header.is_empty() && self.skip == 0
    }

    fn feed(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let skipped = bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            self.skip -= skipped as u64;
            bytes = &bytes[skipped..];
            let Some((first, rest)) = bytes.split_first() else { break };
            self.header.push(*first);
            bytes = rest;
            match self.part {
                Part::Start => self.start()?,
                Part::Block => self.block(),
            }
        }
        Ok(())
    }

    fn start(&mut self) -> io::Result<()> {
        let &[a, b, c, d, flags] = self.header.as_slice() else { return Ok(()) };
        if [a, b, c, d] != MAGIC {
            return Err(damaged("something that is no frame follows a frame"));
        }
        self.block_checksums = flags & 0x10 != 0;
        self.content_checksum = flags & 0x04 != 0;
        // Descriptor byte, content size, dictionary, checksum of the header.
        self.skip = 2 + if flags & 0x08 != 0 { 8 } else { 0 } + if flags & 0x01 != 0 { 4 } else { 0 };
        self.header.clear();
        self.part = Part::Block;
        Ok(())
    }

    fn block(&mut self) {
        let Ok(header) = <[u8; 4]>::try_from(self.header.as_slice()) else { return };
        self.header.clear();
        match u32::from_le_bytes(header) & 0x7fff_ffff {
            0 => {
                self.skip = if self.content_checksum { 4 } else { 0 };
                self.part = Part::Start;
            }
            len => self.skip = u64::from(len) + if self.block_checksums { 4 } else { 0 },
        }
    }
}
