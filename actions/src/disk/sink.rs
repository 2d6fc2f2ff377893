//! A disk as the place where bytes go: written around the page cache, zeros made by the device itself where it has proven
//! once that it really does so.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};

use sys::block::Device;

use crate::disk::aligned::Aligned;
use crate::disk::stream::Sink;

/// Bytes that are read back from each end of the first hole.
const PROBE: u64 = 64 << 10;

const UNTRIED: u8 = 0;
const PROVEN: u8 = 1;
const USELESS: u8 = 2;

/// Such a disk.
#[derive(Debug)]
pub struct Disk<'a> {
    device: &'a Device,
    zeroing: AtomicU8,
}

impl<'a> Disk<'a> {
    /// A device that is open around the page cache, or was never read through it.
    pub fn new(device: &'a Device, is_punched: bool) -> Self {
        Self { device, zeroing: AtomicU8::new(if is_punched { UNTRIED } else { USELESS }) }
    }

    /// Whether a hole reads as zeros. Only a device with a command for it gets here; some have one that does nothing.
    fn reads_zero(&self, offset: u64, len: u64) -> io::Result<bool> {
        let mut bytes = Aligned::zeroed(PROBE.min(len) as usize);
        for at in [offset, offset + len - bytes.len() as u64] {
            bytes.fill(0xff);
            self.device.read_at(&mut bytes, at)?;
            if bytes.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Sink for Disk<'_> {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.device.write_at(bytes, offset)
    }

    fn settle(&self) -> io::Result<()> {
        self.device.sync().map_err(io::Error::other)
    }

    fn can_zero(&self) -> bool {
        self.zeroing.load(Ordering::Relaxed) != USELESS
    }

    fn zero(&self, offset: u64, len: u64) -> io::Result<bool> {
        match self.zeroing.load(Ordering::Relaxed) {
            USELESS => return Ok(false),
            PROVEN => return self.device.punch(offset, len),
            _ => {}
        }
        let works = self.device.punch(offset, len)? && self.reads_zero(offset, len)?;
        // Of several that try at once one failure counts for all.
        match works {
            true => drop(self.zeroing.compare_exchange(UNTRIED, PROVEN, Ordering::Relaxed, Ordering::Relaxed)),
            false => self.zeroing.store(USELESS, Ordering::Relaxed),
        }
        Ok(works)
    }
}
