//! gzip members (RFC 1952). Where one ends cannot be known without unpacking it, so a cut is a guess: where the next
//! header seems to begin. A guess counts only when the piece unpacks to exactly what its trailer says.

use std::io;

use flate2::bufread::GzDecoder;
use memchr::memmem;

use super::damaged;
use super::parallel::{Cut, Format, LARGEST, Unpack};
use super::window::Window;

/// Further than this no second member is looked for.
const FAR: usize = 8 << 20;
/// Header, an empty block, trailer.
const SMALLEST: usize = 20;
/// What DEFLATE packs best is 1032 to 1.
const BEST: usize = 1040;

/// The format.
#[derive(Default)]
pub struct Gzip {
    /// Up to here no header was found.
    scanned: usize,
}

impl Format for Gzip {
    const GUESSES: bool = true;
    type One = GzDecoder<Window>;

    fn cut(&mut self, ahead: &[u8], ended: bool) -> io::Result<Cut> {
        let mut from = self.scanned.max(SMALLEST);
        while let Some(at) = next_header(ahead, from) {
            if let Some(room) = room(&ahead[..at]) {
                self.scanned = 0;
                return Ok(Cut::At { len: at, room });
            }
            from = at + 1;
        }
        self.scanned = from.max(ahead.len().saturating_sub(3));
        if ahead.len() < FAR && !ended {
            return Ok(Cut::More);
        }
        self.scanned = 0;
        match room(ahead).filter(|_| ended && ahead.len() < FAR) {
            Some(room) => Ok(Cut::At { len: ahead.len(), room }),
            None => Ok(Cut::Alone),
        }
    }

    fn reset(&mut self) {
        self.scanned = 0;
    }

    fn unpacker() -> io::Result<Unpack> {
        let mut decoder = libdeflater::Decompressor::new();
        Ok(Box::new(move |piece, out| match decoder.gzip_decompress(piece, out) {
            Ok(len) if len == out.len() => Ok(len),
            Ok(_) => Err(damaged("a member of another length than it says")),
            Err(e) => Err(damaged(e.to_string())),
        }))
    }

    fn one(window: Window) -> io::Result<Self::One> {
        Ok(GzDecoder::new(window))
    }

    fn back(one: Self::One) -> Window {
        one.into_inner()
    }
}

/// Everything that could be the header of a member, so that none is passed over.
fn next_header(bytes: &[u8], mut from: usize) -> Option<usize> {
    loop {
        let at = from + memmem::find(bytes.get(from..)?, &[0x1f, 0x8b, 8])?;
        match bytes.get(at + 3)? {
            flags if flags & 0xe0 == 0 => return Some(at),
            _ => from = at + 1,
        }
    }
}

/// What a member that ends here says it unpacks to, when that can be.
fn room(member: &[u8]) -> Option<usize> {
    let (_, last) = member.split_last_chunk::<4>()?;
    let room = u32::from_le_bytes(*last) as usize;
    (room <= LARGEST && room <= member.len() * BEST).then_some(room)
}
