//! Ending what sits on a block device: swap, a device-mapper device, an md array. One request each; nobody's data is
//! touched. Must not decide whether it may end, nor in which order.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::{Mode, SFlag, mknod};

use crate::sysfs::Number;

mod ioctl {
    //! Numbers from linux/dm-ioctl.h and linux/raid/md_u.h.
    use nix::{ioctl_none, ioctl_readwrite};

    /// `struct dm_ioctl`.
    #[repr(C)]
    pub struct Mapping {
        pub version: [u32; 3],
        pub data_size: u32,
        pub data_start: u32,
        pub target_count: u32,
        pub open_count: i32,
        pub flags: u32,
        pub event: u32,
        pub padding: u32,
        pub device: u64,
        pub name: [u8; 128],
        pub uuid: [u8; 129],
        pub data: [u8; 7],
    }

    ioctl_readwrite!(remove, 0xfd, 4, Mapping);
    ioctl_none!(stop_array, 9, 0x32);
}

/// Where device-mapper takes requests.
const CONTROL: &str = "/dev/mapper/control";
/// Its number; the minor one is fixed since Linux 2.6.36.
const CONTROL_NUMBER: Number = Number { major: 10, minor: 236 };

/// Why it goes on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// swapoff(2).
    #[error("cannot end swapping to {}", path.display())]
    Swap {
        /// The device.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// device-mapper cannot be asked.
    #[error("cannot open {CONTROL}")]
    Control(#[source] io::Error),
    /// `DM_DEV_REMOVE`.
    #[error("cannot remove the mapping {number}")]
    Mapping {
        /// The device.
        number: Number,
        /// What the kernel said.
        source: io::Error,
    },
    /// `STOP_ARRAY`.
    #[error("cannot stop the array {}", path.display())]
    Array {
        /// The device.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Brings back what was swapped to a device, and ends that.
pub fn swap_off(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::Swap { path: path.to_owned(), source };
    let text = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).map_err(|e| failed(io::Error::other(e)))?;
    // SAFETY: swapoff(2) reads a path that ends with a zero byte and lives for the call.
    match unsafe { libc::swapoff(text.as_ptr()) } {
        0 => Ok(()),
        _ => Err(failed(Errno::last().into())),
    }
}

/// Removes a device-mapper device that nobody has open.
pub fn remove_mapping(number: Number) -> Result<(), Error> {
    let control = control().map_err(Error::Control)?;
    let size = size_of::<ioctl::Mapping>() as u32;
    let (major, minor) = (u64::from(number.major), u64::from(number.minor));
    let mut request = ioctl::Mapping {
        version: [4, 0, 0],
        data_size: size,
        data_start: size,
        target_count: 0,
        open_count: 0,
        flags: 0,
        event: 0,
        padding: 0,
        // The kernel's own encoding of a device number.
        device: (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12),
        name: [0; 128],
        uuid: [0; 129],
        data: [0; 7],
    };
    // SAFETY: DM_DEV_REMOVE (linux/dm-ioctl.h) reads and writes one structure of `data_size` bytes, which lives for the call.
    unsafe { ioctl::remove(control.as_raw_fd(), &mut request) }
        .map_err(|e| Error::Mapping { number, source: e.into() })?;
    Ok(())
}

/// Stops an md array that nobody else has open.
pub fn stop_array(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::Array { path: path.to_owned(), source };
    let device = File::open(path).map_err(failed)?;
    // SAFETY: STOP_ARRAY (linux/raid/md_u.h) takes no argument.
    unsafe { ioctl::stop_array(device.as_raw_fd()) }.map_err(|e| failed(e.into()))?;
    Ok(())
}

/// A container's own /dev may lack it.
fn control() -> io::Result<File> {
    let open = || OpenOptions::new().read(true).write(true).custom_flags(libc::O_CLOEXEC).open(CONTROL);
    match open() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all("/dev/mapper")?;
            mknod(CONTROL, SFlag::S_IFCHR, Mode::S_IRUSR | Mode::S_IWUSR, CONTROL_NUMBER.to_raw())?;
            open()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structure_has_the_size_of_the_kernel() {
        assert_eq!(size_of::<ioctl::Mapping>(), 312);
    }

    #[test]
    fn what_is_not_there_is_named() {
        let swap = swap_off(Path::new("/dev/no-such-swap")).unwrap_err();
        assert_eq!(swap.to_string(), "cannot end swapping to /dev/no-such-swap");
        assert!(stop_array(Path::new("/dev/no-such-array")).is_err());
    }
}
