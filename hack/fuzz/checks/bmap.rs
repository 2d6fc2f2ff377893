//! Any text as a block map: an error, or a map whose image can be read to its end. Shared by the fuzz target and the
//! replay of its corpus.

use std::io::Read;

use actions::image::bmap::{Map, Mapped, Origin};

/// Reads an image of zeros with it; its digests cannot fit, but nothing else may go wrong.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(map) = Map::parse(text) else { return };
    let size = map.size();
    let mut image = Mapped::new(map, Origin::Stream(Box::new(std::io::repeat(0).take(size.min(8 << 20)))));
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read) = image.read(&mut buffer) {
        assert!(image.position() <= size);
        if read == 0 {
            break;
        }
    }
}
