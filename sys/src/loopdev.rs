//! A file as a read-only block device that ends with its last user: loop(4). What is in the file is the caller's affair.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

/// linux/loop.h
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
/// linux/loop.h, Linux 5.8
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// Somebody else may take the free device before we do.
const TRIES: usize = 16;

/// struct loop_info64
#[repr(C)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// struct loop_config
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// A device on a file. Mount it before this is dropped: without a user the device lets go of the file.
#[derive(Debug)]
pub struct Loop {
    /// `/dev/loop0`.
    pub path: PathBuf,
    _device: File,
}

impl Loop {
    /// Puts the file on a free device.
    pub fn open(file: &Path) -> io::Result<Self> {
        let backing = File::open(file)?;
        let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
        for _ in 0..TRIES {
            let number = get_free(control.as_raw_fd())?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = File::open(&path)?;
            match configure(device.as_raw_fd(), backing.as_raw_fd()) {
                Ok(()) => return Ok(Self { path, _device: device }),
                Err(Errno::EBUSY) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(Errno::EBUSY.into())
    }
}

fn get_free(control: RawFd) -> io::Result<i32> {
    // SAFETY: loop(4): LOOP_CTL_GET_FREE takes no argument and returns a number.
    Ok(Errno::result(unsafe { libc::ioctl(control, LOOP_CTL_GET_FREE as _) })?)
}

fn configure(device: RawFd, backing: RawFd) -> Result<(), Errno> {
    // SAFETY: all zero is a valid value of both structures, which hold numbers and bytes only.
    let mut config: Config = unsafe { std::mem::zeroed() };
    config.fd = u32::try_from(backing).map_err(|_| Errno::EBADF)?;
    config.info.flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR;
    // SAFETY: loop(4): LOOP_CONFIGURE reads one struct loop_config, which is ours.
    Errno::result(unsafe { libc::ioctl(device, LOOP_CONFIGURE as _, &raw const config) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn the_structures_are_as_large_as_the_kernels() {
        assert_eq!((size_of::<Info>(), size_of::<Config>()), (232, 304));
    }

    #[test]
    fn a_file_is_read_through_its_device() {
        if !Path::new("/dev/loop-control").exists() || File::open("/dev/loop-control").is_err() {
            return eprintln!("SKIP a_file_is_read_through_its_device: needs root and loop devices");
        }
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, &[7; 4096]).unwrap();
        let device = Loop::open(file.path()).unwrap();
        let mut bytes = Vec::new();
        File::open(&device.path).unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, [7; 4096]);
    }
}
