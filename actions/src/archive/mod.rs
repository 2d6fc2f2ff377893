//! Tar archives: read without trusting them, extracted into a tree that cannot be left. Where an archive comes from and
//! where it goes is `cmd::archive_extract`'s.

pub mod acl;
pub mod extract;
pub mod header;
pub mod pax;
pub mod reader;
pub mod rules;
pub mod source;
pub mod sparse;
