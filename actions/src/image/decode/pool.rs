//! Buffers for unpacked pieces, which go round between who unpacks and who writes. Bounded by what the user of it says.
//! Must not know what is in them.

use std::sync::mpsc::{Receiver, Sender, channel};

use crate::disk::aligned::{Aligned, Piece};

/// Sizes are multiples of this, so that pieces of about the same size share buffers.
const STEP: usize = 64 << 10;

pub struct Pool {
    free: Vec<Aligned>,
    back: Receiver<Aligned>,
    owner: Sender<Aligned>,
    /// Bytes of all buffers, wherever they are.
    taken: usize,
}

impl Pool {
    pub fn new() -> Self {
        let (owner, back) = channel();
        Self { free: Vec::new(), back, owner, taken: 0 }
    }

    /// A buffer of at least `room` bytes; nothing while all of them together would have more than `most`.
    pub fn get(&mut self, room: usize, most: usize) -> Option<Aligned> {
        self.free.extend(self.back.try_iter());
        // The one that came back last may still be in the processor's cache.
        if let Some(index) = self.free.iter().rposition(|buffer| buffer.len() >= room) {
            return Some(self.free.swap_remove(index));
        }
        let size = room.max(1).next_multiple_of(STEP);
        while self.taken + size > most {
            self.taken -= self.free.pop()?.len();
        }
        self.taken += size;
        Some(Aligned::zeroed(size))
    }

    /// Waits until a buffer that was lent comes back; false when none was.
    pub fn wait(&mut self) -> bool {
        let free: usize = self.free.iter().map(|buffer| buffer.len()).sum();
        if self.taken == free {
            return false;
        }
        self.free.extend(self.back.recv());
        true
    }

    /// Takes one back that was not lent.
    pub fn put(&mut self, buffer: Aligned) {
        self.free.push(buffer);
    }

    /// The first `len` bytes of a buffer, which comes back by itself.
    pub fn lend(&self, buffer: Aligned, len: usize) -> Piece {
        Piece::new(buffer, len, self.owner.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_buffers_together_stay_below_the_limit_and_are_used_again() {
        let mut pool = Pool::new();
        let most = 3 * STEP;
        let first = pool.get(STEP, most).unwrap();
        let second = pool.get(2 * STEP - 5, most).unwrap();
        assert!(pool.get(1, most).is_none(), "more than allowed");
        let piece = pool.lend(second, 10);
        pool.put(first);
        assert_eq!(pool.get(10, most).map(|buffer| buffer.len()), Some(STEP));
        drop(piece);
        assert!(pool.wait());
        // A larger one takes the place of what is free.
        assert_eq!(pool.get(2 * STEP, most).map(|buffer| buffer.len()), Some(2 * STEP));
    }
}
