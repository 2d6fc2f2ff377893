//! A content of which only the beginning goes onto the disk: what lies beyond, up to the size of the disk, is read for its
//! proof and dropped. Must not decide where that is.

use std::io::{self, Read};

use crate::disk::aligned::Piece;
use crate::disk::stream::{Bytes, Error, GRANULE};

/// Bytes that are dropped at once.
const DROPPED: usize = 256 << 10;

/// The beginning of it.
pub struct Upto<'a, C> {
    /// All of it.
    pub content: &'a mut C,
    left: u64,
}

impl<'a, C: Bytes> Upto<'a, C> {
    /// The first `limit` bytes, or all.
    pub fn new(content: &'a mut C, limit: Option<u64>) -> Self {
        Self { content, left: limit.unwrap_or(u64::MAX) }
    }

    /// Reads the rest, of which there may be `most` bytes on a disk of `size` bytes. How many there were.
    pub fn rest(&mut self, most: u64, size: u64) -> Result<u64, Error> {
        if self.left > 0 {
            return Ok(0);
        }
        let mut dropped = 0;
        let mut buffer = vec![0; DROPPED];
        loop {
            match self.content.read(&mut buffer) {
                Ok(0) => return Ok(dropped),
                Ok(n) => dropped += n as u64,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::Content(e)),
            }
            if dropped > most {
                return Err(Error::TooLarge { size });
            }
        }
    }

    fn most(&self, wanted: usize) -> usize {
        wanted.min(usize::try_from(self.left).unwrap_or(usize::MAX))
    }
}

impl<C: Bytes> Read for Upto<'_, C> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = self.most(buf.len());
        if most == 0 {
            return Ok(0);
        }
        let n = self.content.read(&mut buf[..most])?;
        self.left -= n as u64;
        Ok(n)
    }
}

impl<C: Bytes> Bytes for Upto<'_, C> {
    fn skip_zeros(&mut self, most: u64) -> io::Result<u64> {
        let granule = GRANULE as u64;
        let n = match most.min(self.left / granule * granule) {
            0 => 0,
            most => self.content.skip_zeros(most)?,
        };
        self.left -= n;
        Ok(n)
    }

    fn piece(&mut self, most: usize) -> io::Result<Option<Piece>> {
        let most = self.most(most);
        if most == 0 {
            return Ok(None);
        }
        let piece = self.content.piece(most)?;
        self.left -= piece.as_ref().map_or(0, |piece| piece.len() as u64);
        Ok(piece)
    }
}
