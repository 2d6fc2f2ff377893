//! The map of an image, made while its bytes pass: runs of blocks that are not all zero. Bounded: the more runs there are,
//! the longer a gap has to be to end one.

use sha2::{Digest, Sha256};
use spec::bmap::{BLOCK, Range};

use super::hex;

/// After so many runs the shortest gap doubles.
const STEP: usize = 8192;
const ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];

#[derive(Default)]
pub struct Mapper {
    size: u64,
    block: u64,
    /// Zero blocks since the last that was not.
    gap: u64,
    open: Option<(u64, Sha256)>,
    ranges: Vec<Range>,
}

impl Mapper {
    /// The next bytes; all but the last call bring whole blocks.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        for block in bytes.chunks(BLOCK as usize) {
            if *block == ZEROS[..block.len()] {
                self.gap += 1;
            } else {
                self.data(block);
            }
            self.block += 1;
        }
    }

    fn data(&mut self, block: &[u8]) {
        let shortest = 1u64 << (self.ranges.len() / STEP).min(40);
        if self.gap > 0 && self.gap >= shortest {
            self.close();
        }
        let (_, hash) = self.open.get_or_insert_with(|| (self.block, Sha256::new()));
        for _ in 0..std::mem::take(&mut self.gap).min(shortest) {
            hash.update(ZEROS);
        }
        hash.update(block);
    }

    fn close(&mut self) {
        if let Some((first, hash)) = self.open.take() {
            let last = self.block - self.gap - 1;
            self.ranges.push(Range { first, last, sha256: hex(&hash.finalize()) });
        }
        self.gap = 0;
    }

    /// Bytes, and the runs.
    pub fn finish(mut self) -> (u64, Vec<Range>) {
        self.close();
        (self.size, self.ranges)
    }
}
