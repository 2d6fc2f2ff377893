//! The pump against a disk in memory.

use super::*;
use proptest::prelude::*;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// A disk in memory that fails at one offset.
struct Memory {
    bytes: Mutex<Vec<u8>>,
    bad: Option<u64>,
    zeroes: bool,
    /// How often it had to empty its cache.
    settled: Mutex<u32>,
}

impl Bytes for Trickle<'_> {}

impl Sink for Memory {
    fn settle(&self) -> io::Result<()> {
        *self.settled.lock().unwrap() += 1;
        Ok(())
    }

    fn can_zero(&self) -> bool {
        self.zeroes
    }

    fn zero(&self, offset: u64, len: u64) -> io::Result<bool> {
        assert_eq!((offset % 4096, len % 512), (0, 0));
        self.bytes.lock().unwrap()[offset as usize..][..len as usize].fill(0);
        Ok(true)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        assert_eq!((offset % 512, bytes.len() % 512, bytes.as_ptr() as usize % 512), (0, 0, 0));
        if self.bad.is_some_and(|bad| (offset..offset + bytes.len() as u64).contains(&bad)) {
            return Err(io::Error::other("bad sector"));
        }
        self.bytes.lock().unwrap()[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

/// Gives few bytes at a time.
struct Trickle<'a>(&'a [u8], usize);

impl Read for Trickle<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = buf.len().min(self.1);
        self.0.read(&mut buf[..n])
    }
}

fn disk(size: u64, bad: Option<u64>) -> Memory {
    Memory { bytes: Mutex::new(vec![0xaa; size as usize]), bad, zeroes: false, settled: Mutex::new(0) }
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|n| ((n * 31) >> 3) as u8 | 1).collect()
}

fn run(content: &[u8], step: usize, sink: &Memory, depth: Depth) -> Result<Streamed, Error> {
    let size = sink.bytes.lock().unwrap().len() as u64;
    pump(&mut Trickle(content, step), sink, Geometry { size, sector: 512 }, depth, &mut |_| ())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn body_and_held_ends_together_are_the_content(
        len in 0usize..14 << 20, size in 2u64..14, step in 100usize..1 << 20,
    ) {
        let size = size << 20;
        let sink = disk(size, None);
        let content = content(len);
        match run(&content, step, &sink, Depth::Full) {
            Err(Error::TooLarge { .. }) => prop_assert!(len as u64 > size),
            result => {
                let streamed = result.unwrap();
                prop_assert_eq!(streamed.length, len as u64);
                let mut bytes = sink.bytes.into_inner().unwrap();
                prop_assert!(bytes[..END as usize].iter().all(|b| *b == 0xaa), "the head was written");
                prop_assert!(bytes[(size - END) as usize..].iter().all(|b| *b == 0xaa), "the tail was written");
                bytes[..END as usize].copy_from_slice(&streamed.held.head);
                bytes[(size - END) as usize..].copy_from_slice(&streamed.held.tail);
                prop_assert!(bytes[..len] == content[..], "content differs");
                for sample in &streamed.samples {
                    let on_disk = &bytes[sample.offset as usize..][..sample.len];
                    prop_assert_eq!(<[u8; 32]>::from(Sha256::digest(on_disk)), sample.sha256);
                }
            }
        }
    }
}

#[test]
fn the_last_sector_is_padded_with_zeros() {
    let sink = disk(4 << 20, None);
    let streamed = run(&content((1 << 20) + 700), 999, &sink, Depth::Sample).unwrap();
    assert_eq!(streamed.samples.len(), 1);
    let bytes = sink.bytes.into_inner().unwrap();
    let at = (1 << 20) + 700;
    assert!(bytes[at..(1 << 20) + 1024].iter().all(|b| *b == 0));
    assert_eq!(bytes[(1 << 20) + 1024], 0xaa);
}

#[test]
fn first_and_last_chunk_are_always_samples() {
    let sink = disk(64 << 20, None);
    let streamed = run(&content(60 << 20), 1 << 20, &sink, Depth::Sample).unwrap();
    assert_eq!(streamed.samples.first().unwrap().offset, END);
    let last = streamed.samples.last().unwrap();
    assert_eq!(last.offset + last.len as u64, 60 << 20);
}

#[test]
fn a_bad_sector_is_named() {
    let sink = disk(64 << 20, Some(30 << 20));
    let error = run(&content(60 << 20), 1 << 20, &sink, Depth::None).unwrap_err();
    assert!(matches!(error, Error::Write { lba, offset, .. } if (lba, offset) == (30 << 11, 30 << 20)), "{error}");
}

#[test]
fn a_broken_content_ends_the_write() {
    struct Broken(u64);
    impl Bytes for Broken {}
    impl Read for Broken {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(buf.len() as u64).ok_or_else(|| io::Error::other("cut"))?;
            Ok(buf.len())
        }
    }
    let sink = disk(64 << 20, None);
    let geometry = Geometry { size: 64 << 20, sector: 512 };
    let error = pump(&mut Broken(20 << 20), &sink, geometry, Depth::Sample, &mut |_| ()).unwrap_err();
    assert!(matches!(error, Error::Content(_)), "{error}");
}

#[test]
fn zeros_are_made_or_written_but_never_left_out() {
    let mut content = content(30 << 20);
    content[(2 << 20)..(2 << 20) + 5000].fill(0);
    content[(5 << 20) + 100..(11 << 20)].fill(0);
    content[(29 << 20)..].fill(0);
    for zeroes in [false, true] {
        let sink = Memory { zeroes, ..disk(40 << 20, None) };
        let streamed = run(&content, 1 << 20, &sink, Depth::Full).unwrap();
        let bytes = sink.bytes.into_inner().unwrap();
        assert!(bytes[END as usize..content.len()] == content[END as usize..], "{zeroes}");
        assert_eq!(streamed.samples.iter().map(|s| s.len).sum::<usize>(), content.len() - END as usize);
    }
}

#[test]
fn holes_of_the_content_become_zeros() {
    /// Bytes, a hole of 20 MiB, bytes.
    struct Holed(u64);
    impl Read for Holed {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let left = (28 << 20) - self.0;
            let len = buf.len().min(left as usize).min(1 << 20);
            buf[..len].fill(9);
            self.0 += len as u64;
            Ok(len)
        }
    }
    impl Bytes for Holed {
        fn skip_zeros(&mut self, most: u64) -> io::Result<u64> {
            let hole = if (5 << 20..25 << 20).contains(&self.0) { most.min((25 << 20) - self.0) } else { 0 };
            self.0 += hole;
            Ok(hole)
        }
    }
    for (zeroes, depth) in [(false, Depth::Full), (true, Depth::Sample), (false, Depth::None)] {
        let sink = Memory { zeroes, ..disk(40 << 20, None) };
        let geometry = Geometry { size: 40 << 20, sector: 512 };
        let streamed = pump(&mut Holed(0), &sink, geometry, depth, &mut |_| ()).unwrap();
        assert_eq!(streamed.length, 28 << 20);
        let bytes = sink.bytes.into_inner().unwrap();
        assert!(bytes[1 << 20..5 << 20].iter().all(|b| *b == 9));
        assert!(bytes[5 << 20..25 << 20].iter().all(|b| *b == 0));
        assert!(bytes[25 << 20..28 << 20].iter().all(|b| *b == 9));
        for sample in &streamed.samples {
            let on_disk = &bytes[sample.offset as usize..][..sample.len];
            assert_eq!(<[u8; 32]>::from(Sha256::digest(on_disk)), sample.sha256);
        }
    }
}

/// A disk that fails once, at a write or when its cache is to be emptied, and else takes everything.
struct FailsOnce {
    refuses: bool,
    has_failed: AtomicBool,
}

impl FailsOnce {
    fn done(&self, fails: bool) -> io::Result<()> {
        if fails && !self.has_failed.swap(true, Ordering::Relaxed) { Err(io::Error::other("gone")) } else { Ok(()) }
    }
}

impl Sink for FailsOnce {
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        self.done(self.refuses)
    }

    fn settle(&self) -> io::Result<()> {
        self.done(!self.refuses)
    }
}

struct Endless;

impl Read for Endless {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        buf.fill(1);
        Ok(buf.len())
    }
}

impl Bytes for Endless {}

#[test]
fn a_long_write_empties_the_cache_as_it_goes() {
    let sink = disk(3 * SETTLE as u64 + (4 << 20), None);
    run(&content(3 * SETTLE), 1 << 20, &sink, Depth::None).unwrap();
    assert!(*sink.settled.lock().unwrap() >= 1);
}

#[test]
fn the_first_failure_ends_a_write_that_would_never_end() {
    let geometry = Geometry { size: 1 << 60, sector: 512 };
    let write = |refuses| {
        let sink = FailsOnce { refuses, has_failed: AtomicBool::new(false) };
        pump(&mut Endless, &sink, geometry, Depth::None, &mut |_| ())
    };
    assert!(matches!(write(true), Err(Error::Write { .. })));
    assert!(matches!(write(false), Err(Error::Settle(_))));
}
