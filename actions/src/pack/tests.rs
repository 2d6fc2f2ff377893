//! What is packed comes out again, with the digests and the map that were told.

use super::*;
use proptest::prelude::*;
use spec::bmap::BLOCK;

fn packed(bytes: &[u8], packing: Packing) -> (Vec<u8>, Packed) {
    let (mut pack, end) = Pack::new(Box::new(io::Cursor::new(bytes.to_vec())), packing, None);
    let mut out = Vec::new();
    pack.read_to_end(&mut out).unwrap();
    assert_eq!(end.position(), bytes.len() as u64);
    (out, end.packed().unwrap())
}

fn unpacked(bytes: &[u8], packing: Packing) -> Vec<u8> {
    let mut out = Vec::new();
    match packing {
        Packing::None => out.extend_from_slice(bytes),
        Packing::Gzip => drop(flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap()),
        Packing::Zstd => out = zstd::decode_all(bytes).unwrap(),
    }
    out
}

#[test]
fn every_packing_gives_the_content_back_with_its_digests() {
    let mut content: Vec<u8> = (0..20 << 20).map(|n: u32| (n >> 12) as u8).collect();
    content[5 << 20..9 << 20].fill(0);
    content.extend([1, 2, 3]);
    let sha = |bytes: &[u8]| format!("sha256:{}", hex(&Sha256::digest(bytes)));
    for packing in [Packing::None, Packing::Gzip, Packing::Zstd] {
        for content in [&content[..], &content[..16 << 20], b"x", b""] {
            let (out, packed) = packed(content, packing);
            assert!(unpacked(&out, packing) == content, "{packing:?}");
            assert_eq!((packed.length, packed.published), (content.len() as u64, out.len() as u64));
            assert_eq!(packed.content_sha256, sha(content));
            assert_eq!(packed.published_sha256, sha(&out));
        }
    }
}

#[test]
fn a_file_has_holes_where_the_content_is_zero() {
    use std::os::unix::fs::MetadataExt;
    let mut content = vec![0; 32 << 20];
    content[3 << 20] = 1;
    let (pack, _) = Pack::new(Box::new(io::Cursor::new(content.clone())), Packing::None, None);
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut to = file.reopen().unwrap();
    let packed = pack.write_to(&mut to, |_| ()).unwrap();
    assert!(std::fs::read(file.path()).unwrap() == content);
    assert!(file.as_file().metadata().unwrap().blocks() * 512 < 4 << 20, "the holes are filled");
    assert_eq!(packed.mapped(), BLOCK);
}

#[test]
fn who_asks_for_no_more_than_the_length_has_it_all() {
    let (mut pack, end) = Pack::new(Box::new(io::Cursor::new(vec![5; 3 << 20])), Packing::None, Some(3 << 20));
    pack.read_exact(&mut vec![0; 3 << 20]).unwrap();
    assert_eq!(end.packed().unwrap().length, 3 << 20);
}

#[test]
fn a_content_that_breaks_is_no_image() {
    struct Breaks(usize);
    impl Read for Breaks {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(1).ok_or_else(|| io::Error::other("bad sector"))?;
            buf.fill(1);
            Ok(buf.len())
        }
    }
    for packing in [Packing::None, Packing::Gzip, Packing::Zstd] {
        let (mut pack, end) = Pack::new(Box::new(Breaks(40)), packing, None);
        assert!(io::copy(&mut pack, &mut io::sink()).is_err());
        assert_eq!(end.packed().unwrap_err().to_string(), "bad sector");
    }
}

#[test]
fn a_map_of_very_many_runs_stays_small() {
    let mut mapper = Mapper::default();
    let mut pair = vec![0; 2 * BLOCK as usize];
    pair[0] = 1;
    for _ in 0..100_000 {
        mapper.feed(&pair);
    }
    let (size, ranges) = mapper.finish();
    assert_eq!(size, 100_000 * 2 * BLOCK);
    assert!(ranges.len() <= 8192 + 1, "{}", ranges.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_not_in_the_map_is_zero_and_what_is_has_its_digest(blocks in prop::collection::vec(any::<bool>(), 0..60), tail in 0usize..4096) {
        let mut content = Vec::new();
        for (n, is_data) in blocks.iter().enumerate() {
            content.extend(vec![if *is_data { n as u8 + 1 } else { 0 }; BLOCK as usize]);
        }
        content.extend(vec![9; tail]);
        let (_, packed) = packed(&content, Packing::None);
        let mut rest = content.clone();
        for range in &packed.map.ranges {
            let bytes = (range.first * BLOCK) as usize..(((range.last + 1) * BLOCK) as usize).min(content.len());
            prop_assert_eq!(hex(&Sha256::digest(&content[bytes.clone()])), range.sha256.clone());
            rest[bytes].fill(0);
        }
        prop_assert!(rest.iter().all(|b| *b == 0), "data outside of the map");
    }
}
