//! Growing a mounted file system to the end of its device: one ioctl of ext4, xfs or btrfs each, no tools. Must not mount,
//! nor decide what is to grow.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::libc;

mod ioctl {
    //! Numbers from fs/ext4/ext4.h, fs/xfs/libxfs/xfs_fs.h and linux/btrfs.h.
    use nix::{ioctl_read, ioctl_write_ptr};

    ioctl_write_ptr!(ext4_resize, b'f', 16, u64);
    ioctl_read!(xfs_geometry, b'X', 100, XfsGeometry);
    ioctl_write_ptr!(xfs_grow, b'X', 110, XfsGrow);
    ioctl_write_ptr!(btrfs_resize, 0x94, 3, BtrfsArgs);

    /// `struct xfs_fsop_geom_v1`, as far as it is of use here.
    #[repr(C)]
    pub struct XfsGeometry {
        pub block: u32,
        pub unused: [u32; 6],
        pub imaxpct: u32,
        pub rest: [u64; 10],
    }

    /// `struct xfs_growfs_data`.
    #[repr(C)]
    pub struct XfsGrow {
        pub blocks: u64,
        pub imaxpct: u32,
    }

    /// `struct btrfs_ioctl_vol_args`.
    #[repr(C)]
    pub struct BtrfsArgs {
        pub fd: i64,
        pub name: [u8; 4088],
    }
}

/// Grows the file system of `kind`, mounted at `at`, on a device of `size` bytes. False for kinds that cannot grow.
pub fn grow(kind: &str, at: &Path, size: u64) -> io::Result<bool> {
    let root = File::open(at)?;
    let fd = root.as_raw_fd();
    match kind {
        "ext4" => {
            let block = nix::sys::statvfs::statvfs(at)?.fragment_size();
            let blocks = size / block.max(1);
            // SAFETY: EXT4_IOC_RESIZE_FS reads one u64, which lives for the call.
            unsafe { ioctl::ext4_resize(fd, &blocks) }?;
        }
        "xfs" => {
            let mut geometry = ioctl::XfsGeometry { block: 0, unused: [0; 6], imaxpct: 0, rest: [0; 10] };
            // SAFETY: XFS_IOC_FSGEOMETRY_V1 writes one structure of 112 bytes, which lives for the call.
            unsafe { ioctl::xfs_geometry(fd, &mut geometry) }?;
            let blocks = size / u64::from(geometry.block.max(1));
            let wanted = ioctl::XfsGrow { blocks, imaxpct: geometry.imaxpct };
            // SAFETY: XFS_IOC_FSGROWFSDATA reads one structure of 16 bytes, which lives for the call.
            unsafe { ioctl::xfs_grow(fd, &wanted) }?;
        }
        "btrfs" => {
            let mut name = [0; 4088];
            name[..3].copy_from_slice(b"max");
            // SAFETY: BTRFS_IOC_RESIZE reads one structure of 4096 bytes, which lives for the call.
            unsafe { ioctl::btrfs_resize(fd, &ioctl::BtrfsArgs { fd: 0, name }) }?;
        }
        _ => return Ok(false),
    }
    // SAFETY: syncfs(2) takes no pointers, and the descriptor is open for the call.
    match unsafe { libc::syncfs(fd) } {
        0 => Ok(true),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_sizes_of_the_kernel() {
        assert_eq!(size_of::<ioctl::XfsGeometry>(), 112);
        assert_eq!(size_of::<ioctl::XfsGrow>(), 16);
        assert_eq!(size_of::<ioctl::BtrfsArgs>(), 4096);
    }

    #[test]
    fn an_unknown_kind_is_left_alone() {
        assert!(!grow("vfat", Path::new("/"), 1 << 30).unwrap());
    }
}
