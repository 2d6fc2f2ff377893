//! Any bytes as packed ones: cut into members and frames and unpacked on threads, they give what the plain decoders give.
//! Shared by the fuzz target and the replay of its corpus.

use std::io::{Cursor, Read};

use actions::image::decode::{FrameWalk, decoder};
use actions::image::format::Packing;

/// More is not unpacked.
const MOST: u64 = 4 << 20;

fn ours(packing: Packing, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let decoder = decoder(packing, Box::new(Cursor::new(bytes.to_vec()))).ok()?;
    decoder.take(MOST).read_to_end(&mut out).ok()?;
    Some(out)
}

fn theirs(reader: impl Read) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    reader.take(MOST).read_to_end(&mut out).ok()?;
    Some(out)
}

/// The first byte chooses the format.
pub fn check(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let mut walk = FrameWalk::default();
    if let Ok(true) = walk.walk(bytes) {
        assert!(!walk.is_empty());
    }
    let (packing, plain) = match kind % 5 {
        0 => (Packing::Zstd, zstd::stream::read::Decoder::new(bytes).ok().and_then(theirs)),
        1 => (Packing::Gzip, theirs(flate2::read::MultiGzDecoder::new(bytes))),
        2 => (Packing::Xz, None),
        3 => (Packing::Bzip2, None),
        _ => (Packing::Lz4, None),
    };
    if let (Some(ours), Some(plain)) = (ours(packing, bytes), plain) {
        assert!(ours == plain, "{packing:?}: other bytes than the plain decoder");
    }
}
