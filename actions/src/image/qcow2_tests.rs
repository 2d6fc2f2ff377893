//! Images of qemu-img itself, and ones that nobody should believe.

use std::process::Command;

use proptest::prelude::*;

use super::*;

struct Memory(Vec<u8>);

impl ReadAt for Memory {
    fn read_at(&mut self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).ok().and_then(|at| self.0.get(at..)).unwrap_or_default();
        let from = from.get(..buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(from);
        Ok(())
    }

    fn length(&self) -> u64 {
        self.0.len() as u64
    }
}

fn open(bytes: Vec<u8>) -> io::Result<Qcow2> {
    Qcow2::open(Box::new(Memory(bytes)))
}

/// Bytes, with holes of many sizes.
fn content() -> Vec<u8> {
    let mut bytes = vec![0; 9 << 20];
    for (n, chunk) in bytes.chunks_mut(100_000).enumerate().filter(|(n, _)| n % 3 != 1 && !(30..75).contains(n)) {
        for (at, byte) in chunk.iter_mut().enumerate() {
            *byte = ((at * 31 + n * 7) >> 3) as u8 | 1;
        }
    }
    bytes
}

/// What qemu-img makes of it; nothing where there is no qemu-img.
fn converted(content: &[u8], options: &[&str]) -> Option<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let (raw, image) = (dir.path().join("raw"), dir.path().join("image"));
    std::fs::write(&raw, content).unwrap();
    let mut run = Command::new("qemu-img");
    run.args(["convert", "-f", "raw", "-O", "qcow2"]).args(options).args([&raw, &image]);
    match run.status() {
        Ok(status) => assert!(status.success(), "{options:?}"),
        Err(_) => return None,
    }
    Some(std::fs::read(&image).unwrap())
}

#[test]
fn what_qemu_img_made_reads_as_it_was() {
    let content = content();
    for options in [
        &[][..],
        &["-o", "compat=0.10"],
        &["-o", "cluster_size=512"],
        &["-o", "cluster_size=2M"],
        &["-c"],
        &["-c", "-o", "cluster_size=4k"],
        &["-c", "-o", "compression_type=zstd"],
        &["-W"],
    ] {
        let Some(image) = converted(&content, options) else {
            eprintln!("SKIP what_qemu_img_made_reads_as_it_was: needs qemu-img");
            return;
        };
        let mut read = Vec::new();
        open(image.clone()).unwrap().read_to_end(&mut read).unwrap();
        assert!(read == content, "{options:?}");
        let mut image = open(image).unwrap();
        let (mut read, mut skipped) = (Vec::new(), 0);
        loop {
            let hole = image.skip_zeros(4 << 20).unwrap();
            read.resize(read.len() + hole as usize, 0);
            skipped += hole;
            let mut buf = [0; GRANULE];
            match image.read(&mut buf).unwrap() {
                0 => break,
                n => read.extend_from_slice(&buf[..n]),
            }
        }
        assert!(read == content, "{options:?} with holes");
        assert!(skipped > 1 << 20, "{options:?}: only {skipped} bytes were skipped");
    }
}

fn header(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = vec![0; 256 << 10];
    bytes[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    bytes[20..24].copy_from_slice(&16u32.to_be_bytes());
    bytes[24..32].copy_from_slice(&(1u64 << 30).to_be_bytes());
    bytes[36..40].copy_from_slice(&2u32.to_be_bytes());
    bytes[40..48].copy_from_slice(&(64u64 << 10).to_be_bytes());
    bytes[100..104].copy_from_slice(&112u32.to_be_bytes());
    change(&mut bytes);
    bytes
}

#[test]
fn what_needs_another_file_or_makes_no_sense_is_refused() {
    assert_eq!(open(header(|_| ())).unwrap().size(), 1 << 30);
    let long = |at: usize, value: u64| move |b: &mut [u8]| b[at..at + 8].copy_from_slice(&value.to_be_bytes());
    let word = |at: usize, value: u32| move |b: &mut [u8]| b[at..at + 4].copy_from_slice(&value.to_be_bytes());
    for (bytes, word) in [
        (header(long(8, 1 << 16)), "a backing file"),
        (header(word(32, 1)), "encryption"),
        (header(long(72, 4)), "an external data file"),
        (header(long(72, 16)), "extended L2"),
        (header(long(72, 2)), "corrupt"),
        (header(long(72, 1 << 40)), "newer version"),
        (header(word(4, 4)), "version"),
        (header(word(20, 63)), "clusters"),
        (header(word(20, 8)), "clusters"),
        (header(long(24, 0)), "size"),
        (header(long(24, u64::MAX)), "size"),
        (header(long(24, 1 << 50)), "too small"),
        (header(word(36, u32::MAX)), "too large"),
        (header(long(40, u64::MAX - 0xffff)), "not in the file"),
        (header(long(40, 12345)), "start of a cluster"),
        (b"QFI\xfb".to_vec(), "begin"),
    ] {
        let error = open(bytes).err().unwrap();
        assert!(error.to_string().contains(word), "{word}: {error}");
    }
}

#[test]
fn tables_that_point_outside_are_errors_and_cost_no_memory() {
    let l1 = 64 << 10;
    for (l1_entry, l2_entry) in [(u64::MAX, 0), (1 << 40, 0), (128 << 10, 1 << 50), (128 << 10, !1u64)] {
        let mut bytes = header(|b| b[l1..l1 + 8].copy_from_slice(&u64::to_be_bytes(l1_entry)));
        bytes[128 << 10..][..8].copy_from_slice(&l2_entry.to_be_bytes());
        assert!(open(bytes).unwrap().read(&mut [0; 512]).is_err(), "{l1_entry:x} {l2_entry:x}");
    }
}

#[test]
fn a_large_empty_disk_is_passed_over() {
    // 1 TiB in a file of 256 KiB: an L1 table of 2048 entries, all of them empty.
    let mut image = open(header(|b| {
        b[24..32].copy_from_slice(&(1u64 << 40).to_be_bytes());
        b[36..40].copy_from_slice(&2048u32.to_be_bytes());
    }))
    .unwrap();
    let mut skipped = 0;
    for _ in 0..4 {
        skipped += image.skip_zeros(256 << 20).unwrap();
    }
    assert_eq!(skipped, 1 << 30);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(flips in proptest::collection::vec((0usize..200_000, any::<u8>()), 1..40)) {
        let mut bytes = header(|b| {
            b[64 << 10..][..8].copy_from_slice(&(128u64 << 10).to_be_bytes());
            b[128 << 10..][..8].copy_from_slice(&(192u64 << 10).to_be_bytes());
        });
        for (at, byte) in flips {
            bytes[at % if at % 2 == 0 { 112 } else { 200_000 }] = byte;
        }
        if let Ok(mut image) = open(bytes) {
            let _ = image.skip_zeros(1 << 20);
            for _ in 0..20 {
                if image.read(&mut [0; 70_000]).is_err() {
                    break;
                }
            }
        }
    }
}
