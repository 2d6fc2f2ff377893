//! Where the bytes of a disk image come from: fetched, hashed, decoded, checked for being an image at all.

pub mod checksum;
pub mod format;
pub mod source;
