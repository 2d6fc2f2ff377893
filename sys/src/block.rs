//! One block device behind an open descriptor: exclusive open, its sizes, flush, table re-read, zero-out, discard.
//! Must not decide whether a device may be written; whoever claims one has asked `sysfs` first.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;

use crate::sysfs::Number;

mod ioctl {
    //! Numbers from linux/fs.h.
    use nix::libc::{c_char, c_int, c_longlong, c_void};
    use nix::{ioctl_none_bad, ioctl_read, ioctl_read_bad, ioctl_write_ptr_bad, request_code_none};

    ioctl_read!(size64, 0x12, 114, usize);
    ioctl_read_bad!(logical_sector, request_code_none!(0x12, 104), c_int);
    ioctl_read_bad!(physical_sector, request_code_none!(0x12, 123), u32);
    ioctl_read_bad!(read_only, request_code_none!(0x12, 94), c_int);
    ioctl_none_bad!(flush, request_code_none!(0x12, 97));
    ioctl_none_bad!(reread, request_code_none!(0x12, 95));
    ioctl_write_ptr_bad!(discard, request_code_none!(0x12, 119), [u64; 2]);
    ioctl_write_ptr_bad!(zero_out, request_code_none!(0x12, 127), [u64; 2]);
    ioctl_write_ptr_bad!(partition, request_code_none!(0x12, 105), Request);

    /// `struct blkpg_ioctl_arg` of linux/blkpg.h.
    #[repr(C)]
    pub struct Request {
        pub op: c_int,
        pub flags: c_int,
        pub len: c_int,
        pub data: *mut c_void,
    }

    /// `struct blkpg_partition` of linux/blkpg.h.
    #[repr(C)]
    pub struct Partition {
        pub start: c_longlong,
        pub length: c_longlong,
        pub number: c_int,
        pub device: [c_char; 64],
        pub volume: [c_char; 64],
    }

    /// `BLKPG_ADD_PARTITION`.
    pub const ADD: c_int = 1;
}

/// Why an operation on a block device failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing there, or no permission.
    #[error("cannot open {}", path.display())]
    Open {
        /// The device.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Somebody else holds it: a mount, a mapping, a swap area, another program.
    #[error("{} is in use by the kernel or by another program", path.display())]
    Busy {
        /// The device.
        path: PathBuf,
    },
    /// A file, a directory, a character device.
    #[error("{} is not a block device", path.display())]
    NotBlock {
        /// What was named.
        path: PathBuf,
    },
    /// One request failed.
    #[error("cannot {what} {}", path.display())]
    Request {
        /// The request, as a verb.
        what: &'static str,
        /// The device.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What became of the wish to read the partition table again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reread {
    /// The kernel has the new table.
    Done,
    /// This kind of device has no partitions (a loop device without `-P`, a partition).
    Unpartitionable,
}

/// An open block device.
#[derive(Debug)]
pub struct Device {
    file: File,
    path: PathBuf,
}

impl Device {
    /// Opens for reading and writing, and keeps every other exclusive user out (`O_EXCL`, open(2)).
    pub fn claim(path: &Path) -> Result<Self, Error> {
        Self::open_with(path, true, libc::O_EXCL)
    }

    /// Opens for reading only.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::open_with(path, false, 0)
    }

    /// The same device again, around the page cache (`O_DIRECT`). Offsets, lengths and buffers then have to be
    /// multiples of the logical sector size.
    pub fn direct(&self) -> Result<Self, Error> {
        let again = Self::open_with(&self.path, true, libc::O_DIRECT)?;
        if again.number()? == self.number()? { Ok(again) } else { Err(Error::NotBlock { path: self.path.clone() }) }
    }

    fn open_with(path: &Path, write: bool, flags: i32) -> Result<Self, Error> {
        let owned = || path.to_owned();
        let file =
            OpenOptions::new().read(true).write(write).custom_flags(flags | libc::O_CLOEXEC).open(path).map_err(
                |source| match source.raw_os_error() {
                    Some(libc::EBUSY) => Error::Busy { path: owned() },
                    _ => Error::Open { path: owned(), source },
                },
            )?;
        let meta = file.metadata().map_err(|source| Error::Open { path: owned(), source })?;
        if !meta.file_type().is_block_device() {
            return Err(Error::NotBlock { path: owned() });
        }
        Ok(Self { file, path: owned() })
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its device number.
    pub fn number(&self) -> Result<Number, Error> {
        let meta = self.file.metadata().map_err(|source| self.failed("look at", source))?;
        Ok(Number::from_raw(meta.rdev()))
    }

    /// Its size in bytes.
    pub fn size(&self) -> Result<u64, Error> {
        let mut size = 0usize;
        // SAFETY: BLKGETSIZE64 (linux/fs.h) writes one size_t, and `size` is one that lives for the call.
        unsafe { ioctl::size64(self.file.as_raw_fd(), &mut size) }.map_err(|e| self.refused("get the size of", e))?;
        Ok(size as u64)
    }

    /// Bytes a sector has as the device is addressed: 512 or 4096.
    pub fn logical_sector(&self) -> Result<u32, Error> {
        let mut bytes = 0;
        // SAFETY: BLKSSZGET (linux/fs.h) writes one int, and `bytes` is one that lives for the call.
        unsafe { ioctl::logical_sector(self.file.as_raw_fd(), &mut bytes) }
            .map_err(|e| self.refused("get the sector size of", e))?;
        Ok(bytes.unsigned_abs())
    }

    /// Bytes a sector has as the medium is written.
    pub fn physical_sector(&self) -> Result<u32, Error> {
        let mut bytes = 0;
        // SAFETY: BLKPBSZGET (linux/fs.h) writes one unsigned int, and `bytes` is one that lives for the call.
        unsafe { ioctl::physical_sector(self.file.as_raw_fd(), &mut bytes) }
            .map_err(|e| self.refused("get the physical sector size of", e))?;
        Ok(bytes)
    }

    /// Whether the kernel refuses writes.
    pub fn is_read_only(&self) -> Result<bool, Error> {
        let mut flag = 0;
        // SAFETY: BLKROGET (linux/fs.h) writes one int, and `flag` is one that lives for the call.
        unsafe { ioctl::read_only(self.file.as_raw_fd(), &mut flag) }
            .map_err(|e| self.refused("get the read-only flag of", e))?;
        Ok(flag != 0)
    }

    /// Reads exactly `buf` from `offset`.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    /// Writes all of `buf` at `offset`.
    pub fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(buf, offset)
    }

    /// Everything written so far is on the medium, its own cache included, when this returns.
    pub fn sync(&self) -> Result<(), Error> {
        self.file.sync_all().map_err(|source| self.failed("flush", source))
    }

    /// Drops what the page cache holds of the device, so that the next read comes from the medium.
    pub fn drop_cache(&self) -> Result<(), Error> {
        // SAFETY: BLKFLSBUF (linux/fs.h) takes no argument.
        unsafe { ioctl::flush(self.file.as_raw_fd()) }.map_err(|e| self.refused("drop the cache of", e))?;
        Ok(())
    }

    /// Makes the bytes zero, by an offload of the device where it has one, by writing otherwise.
    pub fn zero_out(&self, offset: u64, len: u64) -> Result<(), Error> {
        // SAFETY: BLKZEROOUT (linux/fs.h) reads two u64, offset and length; the array lives for the call.
        unsafe { ioctl::zero_out(self.file.as_raw_fd(), &[offset, len]) }.map_err(|e| self.refused("zero", e))?;
        Ok(())
    }

    /// Makes the bytes zero without transferring them (fallocate(2), `FALLOC_FL_PUNCH_HOLE`); false when the device has no
    /// such command. Never falls back to writing.
    pub fn punch(&self, offset: u64, len: u64) -> io::Result<bool> {
        let range = |n: u64| i64::try_from(n).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let (offset, len) = (range(offset)?, range(len)?);
        // SAFETY: fallocate(2) takes no pointers, and the descriptor is open for the call.
        match unsafe { libc::fallocate(self.file.as_raw_fd(), mode, offset, len) } {
            0 => Ok(true),
            _ => match Errno::last() {
                Errno::EOPNOTSUPP | Errno::ENODEV | Errno::ENOSYS | Errno::EINVAL => Ok(false),
                errno => Err(errno.into()),
            },
        }
    }

    /// Tells the device that the bytes are not needed; promises nothing about what is read afterwards.
    pub fn discard(&self, offset: u64, len: u64) -> Result<(), Error> {
        // SAFETY: BLKDISCARD (linux/fs.h) reads two u64, offset and length; the array lives for the call.
        unsafe { ioctl::discard(self.file.as_raw_fd(), &[offset, len]) }.map_err(|e| self.refused("discard", e))?;
        Ok(())
    }

    /// Makes the kernel read the partition table, trying again while a partition is open (a prober looks at new
    /// partitions for a moment).
    pub fn reread_table(&self, patience: Duration) -> Result<Reread, Error> {
        let deadline = Instant::now() + patience;
        loop {
            // SAFETY: BLKRRPART (linux/fs.h) takes no argument.
            match unsafe { ioctl::reread(self.file.as_raw_fd()) } {
                Ok(_) => return Ok(Reread::Done),
                Err(Errno::EINVAL | Errno::ENOTTY) => return Ok(Reread::Unpartitionable),
                Err(Errno::EBUSY) if Instant::now() < deadline => thread::sleep(Duration::from_millis(100)),
                Err(e) => return Err(self.refused("re-read the partition table of", e)),
            }
        }
    }

    /// Tells the kernel of one partition, for kernels that do not read this kind of table themselves. Bytes.
    pub fn add_partition(&self, number: u32, start: u64, length: u64) -> Result<(), Error> {
        let too_large = |_| self.refused("add a partition of", Errno::EINVAL);
        let mut partition = ioctl::Partition {
            start: i64::try_from(start).map_err(too_large)?,
            length: i64::try_from(length).map_err(too_large)?,
            number: i32::try_from(number).map_err(too_large)?,
            device: [0; 64],
            volume: [0; 64],
        };
        let request = ioctl::Request {
            op: ioctl::ADD,
            flags: 0,
            len: size_of::<ioctl::Partition>() as i32,
            data: (&raw mut partition).cast(),
        };
        // SAFETY: BLKPG (linux/blkpg.h) reads the request and the partition it points to; both live for the call.
        unsafe { ioctl::partition(self.file.as_raw_fd(), &request) }
            .map_err(|e| self.refused("add a partition of", e))?;
        Ok(())
    }

    fn failed(&self, what: &'static str, source: io::Error) -> Error {
        Error::Request { what, path: self.path.clone(), source }
    }

    fn refused(&self, what: &'static str, errno: Errno) -> Error {
        self.failed(what, errno.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_block_device_is_named_so() {
        assert!(matches!(Device::read(Path::new("/dev/null")), Err(Error::NotBlock { .. })));
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(Device::claim(file.path()), Err(Error::NotBlock { .. })));
    }

    #[test]
    fn a_missing_device_is_not_created() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sdx");
        assert!(matches!(Device::claim(&path), Err(Error::Open { .. })));
        assert!(!path.exists());
    }
}
