//! Images that were made to hurt: streams without end from a few bytes, claims of more than there is, tables that lead
//! nowhere. Each is refused with its code, nothing boots, and memory stays within its bound.

#![allow(clippy::unwrap_used)] // Helpers of tests; the lint knows only test functions.

mod common;

use std::io::Write as _;

use common::server::{Faults, serve};
use common::{Loop, MIB, gzip, image, peak, root, zstd};

/// The most that any image may take.
const MOST: u64 = 256;

/// Packed zeros, again and again: far more than any disk.
fn endless(packed: Vec<u8>, times: usize) -> Vec<u8> {
    packed.repeat(times)
}

/// A frame that wants two GiB of window, and blocks of one repeated byte.
fn wide_window() -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3];
    let block = |last: u32| (128 << 10) << 3 | 1 << 1 | last;
    for n in 0..2000 {
        frame.extend(&u32::to_le_bytes(block(u32::from(n == 1999)))[..3]);
        frame.push(b'x');
    }
    frame
}

/// A stream whose dictionary is said to have four GiB less one byte.
fn wide_dictionary() -> Vec<u8> {
    let crc = |bytes: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum().to_le_bytes()
    };
    let mut stream = b"\xfd7zXZ\0\0\x01".to_vec();
    stream.extend(crc(&[0, 1]));
    let header = [0x02, 0x00, 0x21, 0x01, 40, 0, 0, 0];
    stream.extend(header);
    stream.extend(crc(&header));
    // A chunk that is not packed, with a new dictionary.
    for _ in 0..64 {
        stream.extend([0x01, 0xff, 0xff]);
        stream.extend([7; 65536]);
    }
    stream
}

/// One MiB that says it is a disk of one TiB, with tables beyond its end.
fn qcow2(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = vec![0; MIB];
    bytes[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    bytes[20..24].copy_from_slice(&16u32.to_be_bytes());
    bytes[24..32].copy_from_slice(&(1u64 << 40).to_be_bytes());
    bytes[36..40].copy_from_slice(&2048u32.to_be_bytes());
    bytes[40..48].copy_from_slice(&(64u64 << 10).to_be_bytes());
    bytes[100..104].copy_from_slice(&112u32.to_be_bytes());
    change(&mut bytes);
    bytes
}

#[test]
fn hostile_images_are_refused_in_bounded_memory() {
    if !root("hostile_images_are_refused_in_bounded_memory") {
        return;
    }
    let zeros = vec![0; 64 * MIB];
    let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
    lz4.write_all(&zeros).unwrap();
    let cases = [
        ("zstd without end", endless(zstd(&zeros), 400), "disk_too_small"),
        ("gzip without end", endless(gzip(&zeros), 40), "disk_too_small"),
        ("lz4 without end", endless(lz4.finish().unwrap(), 20), "disk_too_small"),
        ("zstd with a wide window", wide_window(), "decode"),
        ("xz with a wide dictionary", wide_dictionary(), "decode"),
        ("qcow2 of one TiB in one MiB", qcow2(|_| ()), "disk_too_small"),
        ("qcow2 with a backing file", qcow2(|b| b[14] = 1), "decode"),
        ("qcow2 with an absurd table", qcow2(|b| b[36..40].fill(0xff)), "decode"),
    ];
    for (name, file, code) in cases {
        let disk = Loop::new(160 * MIB, 512);
        let url = serve(file, Faults::default());
        let (failed, used) = peak(&[
            ("IMG_URL", &url),
            ("DEST_DISK", disk.path()),
            ("IMG_CHECKSUM", "none"),
            ("RETRY_ENABLED", "false"),
            ("WAIT_DEVICE_SECONDS", "0"),
        ]);
        println!("{name}: {failed}, {used} MiB");
        assert_eq!(failed, code, "{name}");
        assert!(used <= MOST, "{name}: {used} MiB");
        disk.assert_nothing_new_boots();
    }
}

#[test]
fn a_block_map_without_end_is_refused_in_bounded_memory() {
    if !root("a_block_map_without_end_is_refused_in_bounded_memory") {
        return;
    }
    let disk = Loop::new(16 * MIB, 512);
    let url = serve(image(8 * MIB, 512), Faults::default());
    let map = serve(b"<Range>".repeat(20 * MIB), Faults::default());
    let (failed, used) = peak(&[
        ("IMG_URL", &url),
        ("IMG_BMAP", &map),
        ("DEST_DISK", disk.path()),
        ("IMG_CHECKSUM", "none"),
        ("WAIT_DEVICE_SECONDS", "0"),
    ]);
    assert!(failed == "bad_input" && used <= MOST, "{failed}, {used} MiB");
    disk.assert_untouched();
}
