//! The seeds of the fuzz target `tar` (hack/fuzz), and damage done to them, as stable tests.
#![allow(clippy::unwrap_used)] // Also in what the tests share.

#[path = "common/hostile_tar.rs"]
mod hostile_tar;

use std::path::Path;

use proptest::prelude::*;

fn seeds() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hack/fuzz/seeds/tar");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn seeds_of_the_tar_reader() {
    let seeds = seeds();
    assert!(seeds.len() >= 8);
    seeds.iter().for_each(|seed| hostile_tar::check(seed));
}

/// The sum of a header's bytes, so that damage in it gets further than its checksum.
fn mend(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn damaged_archives(
        seed in 0usize..64,
        damage in prop::collection::vec((0usize..8192, any::<u8>()), 0..8),
        mended in prop::collection::vec(0usize..16, 0..4),
        cut in 0usize..16384,
    ) {
        let seeds = seeds();
        let mut bytes = seeds[seed % seeds.len()].clone();
        for (at, value) in damage {
            if at < bytes.len() {
                bytes[at] = value;
            }
        }
        for block in mended {
            if let Some(block) = bytes.chunks_exact_mut(512).nth(block) {
                mend(block);
            }
        }
        bytes.truncate(cut.max(1));
        hostile_tar::check(&bytes);
    }
}
