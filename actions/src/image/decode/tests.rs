//! Every format: what was packed comes out again, whole or not at all.

use std::io::{self, BufReader, Cursor, Read, Write};

use proptest::prelude::*;

use super::*;

const FORMATS: [Packing; 5] = [Packing::Gzip, Packing::Zstd, Packing::Xz, Packing::Bzip2, Packing::Lz4];

fn pack(packing: Packing, bytes: &[u8]) -> Vec<u8> {
    match packing {
        Packing::Plain => bytes.to_vec(),
        Packing::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Packing::Zstd => {
            let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
            encoder.include_checksum(true).unwrap();
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Packing::Xz => {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Packing::Bzip2 => {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Packing::Lz4 => {
            let info = lz4_flex::frame::FrameInfo::new().content_checksum(true).block_checksums(true);
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
    }
}

fn unpack(packing: Packing, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    // A small buffer, so that headers lie across its borders.
    decoder(packing, Box::new(BufReader::with_capacity(4099, Cursor::new(bytes))))?.read_to_end(&mut out)?;
    Ok(out)
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8 & 0x3f
    };
    std::iter::repeat_with(next).take(len).collect()
}

#[test]
fn many_members_come_out_in_order() {
    let pieces: Vec<Vec<u8>> = (1..40).map(|n| noise(n * n * 311)).chain([vec![], vec![7], noise(3 << 20)]).collect();
    for packing in FORMATS {
        let packed: Vec<u8> = pieces.iter().flat_map(|piece| pack(packing, piece)).collect();
        assert!(unpack(packing, packed).unwrap() == pieces.concat(), "{packing:?}");
    }
}

#[test]
fn a_piece_too_large_to_be_held_is_streamed_between_small_ones() {
    let large = noise(parallel::LARGEST + 12345);
    for packing in [Packing::Gzip, Packing::Zstd] {
        let packed = [pack(packing, b"before"), pack(packing, &large), pack(packing, b"after")].concat();
        let content = [b"before".as_slice(), &large, b"after"].concat();
        assert!(unpack(packing, packed).unwrap() == content, "{packing:?}");
    }
}

#[test]
fn frames_of_every_kind_of_header() {
    let content = noise(300_000);
    let mut packed = vec![0x5a, 0x2a, 0x4d, 0x18, 5, 0, 0, 0, 1, 2, 3, 4, 5];
    for len in [0, 1, 200, 255, 256, 300, 65_000, 70_000, 300_000] {
        // With its size announced, in each of its widths, and as a stream without.
        packed.extend(zstd::bulk::compress(&content[..len], 3).unwrap());
        packed.extend(pack(Packing::Zstd, &content[..len]));
    }
    let sizes = [0usize, 1, 200, 255, 256, 300, 65_000, 70_000, 300_000];
    let expected: Vec<u8> = sizes.iter().flat_map(|len| [&content[..*len], &content[..*len]].concat()).collect();
    assert!(unpack(Packing::Zstd, packed).unwrap() == expected);
}

#[test]
fn bytes_that_look_like_a_header_are_no_member() {
    // Stored blocks keep the bytes as they are, so that false headers stand in the packed file.
    let mut content = noise(2 << 20);
    for at in (1000..content.len() - 8).step_by(100_003) {
        content[at..at + 8].copy_from_slice(&[0x1f, 0x8b, 8, 0, 0, 16, 0, 0]);
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    encoder.write_all(&content).unwrap();
    let packed = [pack(Packing::Gzip, b"first"), encoder.finish().unwrap(), pack(Packing::Gzip, b"last")].concat();
    assert!(unpack(Packing::Gzip, packed).unwrap() == [b"first".as_slice(), &content, b"last"].concat());
}

/// All of it, in pieces where they can be had, and how many these were.
fn in_pieces(packing: Packing, bytes: Vec<u8>) -> (Vec<u8>, usize) {
    let mut decoder = decoder(packing, Box::new(BufReader::with_capacity(4099, Cursor::new(bytes)))).unwrap();
    let (mut out, mut pieces) = (Vec::new(), 0);
    loop {
        while let Some(piece) = decoder.piece(1 << 20).unwrap() {
            assert!(!piece.is_empty() && piece.len() <= 1 << 20 && piece.len().is_multiple_of(4096));
            assert!((piece.as_ptr() as usize).is_multiple_of(4096));
            out.extend_from_slice(&piece);
            pieces += 1;
        }
        let mut part = [0; 10_000];
        match decoder.read(&mut part).unwrap() {
            0 => return (out, pieces),
            n => out.extend_from_slice(&part[..n]),
        }
    }
}

#[test]
fn pieces_lie_as_a_disk_wants_them_and_none_is_lost() {
    let sizes = [5 << 20, (2 << 20) + 123, 4096, 0, parallel::LARGEST + 4096, 3 << 20];
    let contents = sizes.map(noise);
    for packing in [Packing::Gzip, Packing::Zstd] {
        let packed: Vec<u8> = contents.iter().flat_map(|content| pack(packing, content)).collect();
        let (out, pieces) = in_pieces(packing, packed);
        assert!(out == contents.concat(), "{packing:?}");
        assert!(pieces >= 8, "{packing:?}: only {pieces} pieces");
    }
}

#[test]
fn an_early_end_is_an_error_wherever_it_is() {
    let content = noise(40_000);
    for packing in FORMATS {
        let whole = [pack(packing, &content), pack(packing, &content[..5000])].concat();
        let boundary = pack(packing, &content).len();
        for len in (1..whole.len()).step_by(97).chain(whole.len() - 30..whole.len()).chain(boundary - 12..boundary + 12)
        {
            // Exactly between two members nothing is missing that the format knows of.
            let result = unpack(packing, whole[..len].to_vec());
            assert!(result.is_err() || len == boundary, "{packing:?} cut to {len} of {}", whole.len());
        }
    }
}

#[test]
fn what_follows_the_last_member_is_an_error() {
    for packing in FORMATS {
        for garbage in [b"x".as_slice(), b"not a member at all, but long enough for a header"] {
            let packed = [pack(packing, &noise(9000)), garbage.to_vec()].concat();
            assert!(unpack(packing, packed).is_err(), "{packing:?}");
        }
    }
}

#[test]
fn a_changed_byte_is_an_error() {
    let content = noise(60_000);
    for packing in FORMATS {
        let packed = pack(packing, &content);
        for at in (20..packed.len()).step_by(packed.len() / 50) {
            let mut bad = packed.clone();
            bad[at] ^= 0x10;
            let result = unpack(packing, bad);
            assert!(result.is_err() || result.is_ok_and(|out| out == content), "{packing:?} changed at {at}");
        }
    }
}

#[test]
fn padding_between_streams_is_that_of_xz() {
    let packed = [pack(Packing::Xz, b"one"), vec![0; 8], pack(Packing::Xz, b"two"), vec![0; 4]].concat();
    assert_eq!(unpack(Packing::Xz, packed).unwrap(), b"onetwo");
    assert!(unpack(Packing::Xz, [pack(Packing::Xz, b"one"), vec![0; 3]].concat()).is_err());
}

#[test]
fn a_window_larger_than_memory_is_refused() {
    // A frame header that asks for 2 GiB, without a size.
    let mut packed = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 21 << 3];
    for _ in 0..200 {
        // Blocks of 128 KiB of the same byte.
        packed.extend([&((128u32 << 10) << 3 | 2).to_le_bytes()[..3], &[7]].concat());
    }
    packed.extend([1, 0, 0]);
    assert!(unpack(Packing::Zstd, packed).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_cut_of_any_content(pieces in proptest::collection::vec(0usize..200_000, 1..6), n in 0usize..5) {
        let packing = FORMATS[n];
        let pieces: Vec<Vec<u8>> = pieces.into_iter().map(noise).collect();
        let packed: Vec<u8> = pieces.iter().flat_map(|piece| pack(packing, piece)).collect();
        prop_assert!(unpack(packing, packed).unwrap() == pieces.concat());
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(start in 0usize..5, bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let magic: &[u8] = match FORMATS[start] {
            Packing::Gzip => &[0x1f, 0x8b, 8],
            Packing::Zstd => &[0x28, 0xb5, 0x2f, 0xfd],
            Packing::Xz => &[0xfd, b'7', b'z', b'X', b'Z', 0],
            Packing::Bzip2 => b"BZh9",
            _ => &[4, 0x22, 0x4d, 0x18],
        };
        let _ = unpack(FORMATS[start], [magic, &bytes].concat());
    }
}
