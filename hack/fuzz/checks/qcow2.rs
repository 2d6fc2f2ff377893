//! Any bytes as a QEMU image: an error or content, never a panic, never more memory than a few clusters. Shared by the
//! fuzz target and the replay of its corpus.

use std::io::{self, Read};

use actions::disk::stream::Bytes;
use actions::image::qcow2::{Qcow2, ReadAt};

struct Memory(Vec<u8>);

impl ReadAt for Memory {
    fn read_at(&mut self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).ok().and_then(|at| self.0.get(at..)).unwrap_or_default();
        buf.copy_from_slice(from.get(..buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn length(&self) -> u64 {
        self.0.len() as u64
    }
}

/// Reads what can be read of the first megabytes, in both ways.
pub fn check(bytes: &[u8]) {
    let Ok(mut image) = Qcow2::open(Box::new(Memory(bytes.to_vec()))) else { return };
    let mut buffer = vec![0; 70_000];
    for _ in 0..32 {
        let before = image.position();
        let Ok(skipped) = image.skip_zeros(1 << 20) else { return };
        let Ok(read) = image.read(&mut buffer) else { return };
        assert_eq!(image.position(), before + skipped + read as u64);
        assert!(image.position() <= image.size());
        if read == 0 {
            break;
        }
    }
}
