//! What the fuzzers have found interesting, again, on the stable compiler: no panic, and the same bytes as the plain
//! decoders.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

#[path = "../../hack/fuzz/checks/bmap.rs"]
mod bmap;
#[path = "../../hack/fuzz/checks/frames.rs"]
mod frames;
#[path = "../../hack/fuzz/checks/qcow2.rs"]
mod qcow2;

fn replay(target: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hack/fuzz/seeds").join(target);
    let mut count = 0;
    for entry in fs::read_dir(corpus).unwrap() {
        check(&fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 6, "{target}: only {count} files");
}

#[test]
fn packed_files() {
    replay("frames", frames::check);
}

#[test]
fn qemu_images() {
    replay("qcow2", qcow2::check);
}

#[test]
fn block_maps() {
    replay("bmap", bmap::check);
}
