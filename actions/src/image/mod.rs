//! Where the bytes of a disk image come from: fetched, hashed, decoded, checked for being an image at all.

pub mod ahead;
pub mod bmap;
pub mod checksum;
pub mod decode;
pub mod format;
pub mod member;
pub mod proof;
pub mod published;
pub mod qcow2;
pub mod random;
pub mod source;
pub mod sums;
