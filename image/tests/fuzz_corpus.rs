//! The seeds of the fuzz targets `linuxkit` and `layer` (hack/fuzz), and damage done to them, as stable tests.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

#[path = "common/hostile.rs"]
mod hostile;

use std::path::Path;

use proptest::prelude::*;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hack/fuzz/seeds").join(target);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn seeds_of_the_yaml_reader() {
    let seeds = seeds("linuxkit");
    assert!(seeds.len() >= 5);
    seeds.iter().for_each(|seed| hostile::linuxkit(&String::from_utf8_lossy(seed)));
}

#[test]
fn seeds_of_the_layer_reader() {
    let seeds = seeds("layer");
    assert!(seeds.len() >= 5);
    seeds.iter().for_each(|seed| hostile::layer(seed));
}

proptest! {
    #[test]
    fn damaged_layers(seed in 0usize..64, at in 0usize..8192, value: u8, cut in 0usize..8192) {
        let seeds = seeds("layer");
        let mut bytes = seeds[seed % seeds.len()].clone();
        if at < bytes.len() {
            bytes[at] = value;
        }
        hostile::layer(&bytes);
        bytes.truncate(cut);
        hostile::layer(&bytes);
    }

    #[test]
    fn damaged_yaml(seed in 0usize..64, at in 0usize..2048, piece in "[-a-z:{}\\[\\]\"'&*!|>%@ \n]{0,3}") {
        let seeds = seeds("linuxkit");
        let text = String::from_utf8_lossy(&seeds[seed % seeds.len()]).into_owned();
        let at = text.char_indices().map(|(index, _)| index).nth(at).unwrap_or(text.len());
        hostile::linuxkit(&format!("{}{piece}{}", &text[..at], &text[at..]));
        hostile::linuxkit(&text[..at]);
    }
}
