//! Both ends of a disk, kept in memory until the rest is on it and proven: what makes a disk boot is written last.
//! Must not write to the disk itself.

use std::io::{self, Read, Seek, SeekFrom, Write};

use sys::block::Device;

use crate::disk::aligned::Aligned;

/// Bytes held back at each end: both copies of any partition table, boot code, and most signatures fit.
pub const END: u64 = 1 << 20;

/// The ends of a disk of `size` bytes.
#[derive(Debug)]
pub struct Held {
    /// From the first byte.
    pub head: Aligned,
    /// To the last byte.
    pub tail: Aligned,
    size: u64,
}

impl Held {
    /// Zeroed ends.
    pub fn new(size: u64) -> Self {
        Self { head: Aligned::zeroed(END as usize), tail: Aligned::zeroed(END as usize), size }
    }

    /// Where the tail begins.
    pub fn tail_start(&self) -> u64 {
        self.size - END
    }
}

/// The disk as it will be: its ends from memory, between them what is on it already.
#[derive(Debug)]
pub struct View<'a> {
    held: &'a mut Held,
    device: &'a Device,
    at: u64,
}

impl<'a> View<'a> {
    /// From its start.
    pub fn new(held: &'a mut Held, device: &'a Device) -> Self {
        Self { held, device, at: 0 }
    }
}

impl Read for View<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let (at, size, tail_start) = (self.at, self.held.size, self.held.tail_start());
        let region_end = [END, tail_start, size].into_iter().find(|end| at < *end).unwrap_or(at);
        let len = buf.len().min((region_end - at) as usize);
        let buf = &mut buf[..len];
        if at < END {
            buf.copy_from_slice(&self.held.head[at as usize..][..len]);
        } else if at >= tail_start && len > 0 {
            buf.copy_from_slice(&self.held.tail[(at - tail_start) as usize..][..len]);
        } else {
            self.device.read_at(buf, at)?;
        }
        self.at += len as u64;
        Ok(len)
    }
}

impl Write for View<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let (at, tail_start) = (self.at, self.held.tail_start());
        let (room, start) = match at {
            _ if at < END => (&mut self.held.head, at),
            _ if at >= tail_start => (&mut self.held.tail, at - tail_start),
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "partition table outside the ends of the disk",
                ));
            }
        };
        let len = buf.len().min(room.len().saturating_sub(start as usize));
        room[start as usize..][..len].copy_from_slice(&buf[..len]);
        self.at += len as u64;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for View<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = seek(to, self.at, self.held.size)?;
        Ok(self.at)
    }
}

/// The disk as it is, as one stream.
#[derive(Debug)]
pub struct Whole<'a> {
    device: &'a Device,
    size: u64,
    at: u64,
}

impl<'a> Whole<'a> {
    /// From its start.
    pub fn new(device: &'a Device, size: u64) -> Self {
        Self { device, size, at: 0 }
    }
}

impl Read for Whole<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = buf.len().min(self.size.saturating_sub(self.at) as usize);
        self.device.read_at(&mut buf[..len], self.at)?;
        self.at += len as u64;
        Ok(len)
    }
}

impl Write for Whole<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.device.write_at(buf, self.at)?;
        self.at += buf.len() as u64;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.device.sync().map_err(io::Error::other)
    }
}

impl Seek for Whole<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = seek(to, self.at, self.size)?;
        Ok(self.at)
    }
}

fn seek(to: SeekFrom, at: u64, size: u64) -> io::Result<u64> {
    let target = match to {
        SeekFrom::Start(target) => Some(target),
        SeekFrom::End(by) => size.checked_add_signed(by),
        SeekFrom::Current(by) => at.checked_add_signed(by),
    };
    target.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "seek before the start"))
}
