//! A buffer that O_DIRECT accepts: aligned in memory to what any disk wants. And parts of one that goes back to where it
//! came from, so that bytes need not be copied between the thread that makes them and the one that writes them.

use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// Larger than every logical sector in use.
pub const ALIGNMENT: usize = 4096;

/// Zeroed bytes at an aligned address.
#[derive(Debug)]
pub struct Aligned {
    store: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// `len` zero bytes.
    pub fn zeroed(len: usize) -> Self {
        let store = vec![0; len + ALIGNMENT];
        // The vector is never resized, so its address stays.
        let start = store.as_ptr().align_offset(ALIGNMENT);
        Self { store, start, len }
    }
}

impl Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.store[self.start..self.start + self.len]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.store[self.start..self.start + self.len]
    }
}

/// Bytes of a buffer that returns to its owner when all its pieces are gone.
#[derive(Clone, Debug)]
pub struct Piece {
    lent: Arc<Lent>,
    range: Range<usize>,
}

#[derive(Debug)]
struct Lent {
    /// Gone when it is on its way back.
    buffer: Option<Aligned>,
    owner: Sender<Aligned>,
}

impl Piece {
    /// The first `len` bytes.
    pub fn new(buffer: Aligned, len: usize, owner: Sender<Aligned>) -> Self {
        let range = 0..len.min(buffer.len());
        Self { lent: Arc::new(Lent { buffer: Some(buffer), owner }), range }
    }

    /// Takes at most `most` bytes off its beginning.
    pub fn split(&mut self, most: usize) -> Self {
        let middle = self.range.start + most.min(self.range.len());
        let lent = self.lent.clone();
        Self { lent, range: std::mem::replace(&mut self.range.start, middle)..middle }
    }

    /// Whether a disk takes these bytes as they lie in memory, but for their length.
    pub fn is_aligned(&self) -> bool {
        self.range.start.is_multiple_of(ALIGNMENT)
    }
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.lent.buffer.as_ref().map_or(&[], |buffer| &buffer[self.range.clone()])
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // The owner may have ended.
        let _ = self.buffer.take().map(|buffer| self.owner.send(buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_aligned_and_as_long_as_asked() {
        for len in [0, 1, 512, 4096, 1 << 20] {
            let buffer = Aligned::zeroed(len);
            assert_eq!(buffer.as_ptr() as usize % ALIGNMENT, 0);
            assert_eq!(buffer.len(), len);
        }
    }

    #[test]
    fn a_buffer_goes_back_with_its_last_piece() {
        let (owner, back) = std::sync::mpsc::channel();
        let mut buffer = Aligned::zeroed(3 * ALIGNMENT);
        buffer[ALIGNMENT] = 7;
        let mut rest = Piece::new(buffer, 2 * ALIGNMENT + 5, owner);
        let first = rest.split(ALIGNMENT);
        assert_eq!((first.len(), rest.len(), rest[0]), (ALIGNMENT, ALIGNMENT + 5, 7));
        assert!(first.is_aligned() && rest.is_aligned());
        let second = rest.split(10);
        assert!(second.is_aligned() && !rest.is_aligned());
        assert_eq!(rest.split(usize::MAX).len(), ALIGNMENT - 5);
        assert!(rest.is_empty());
        drop((first, second));
        assert!(back.try_recv().is_err(), "it is still being read");
        drop(rest);
        assert_eq!(back.try_recv().unwrap().len(), 3 * ALIGNMENT);
    }
}
