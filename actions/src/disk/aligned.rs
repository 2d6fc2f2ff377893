//! A buffer that O_DIRECT accepts: aligned in memory to what any disk wants.

use std::ops::{Deref, DerefMut};

/// Larger than every logical sector in use.
const ALIGNMENT: usize = 4096;

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
}
