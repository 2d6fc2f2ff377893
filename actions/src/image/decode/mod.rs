//! From packed bytes to content: gzip, bzip2, xz, zstd, lz4, with any number of members, streams and frames, on several
//! cores where the format allows it. An end that comes too early is an error in every format. Memory is bounded whatever
//! a file claims. Knows nothing of disks, but for how they want bytes to lie in memory, and of where the bytes come from.

mod gz;
mod lz4;
mod parallel;
mod pool;
mod window;
mod xz;
mod zst;

use std::io::{self, BufRead};

use crate::disk::stream::Bytes;
use crate::image::format::Packing;
use window::Window;

pub use zst::FrameWalk;

/// Packed bytes, from wherever.
pub type Input = Box<dyn BufRead + Send>;

/// What `input` unpacks to, until its end: bytes that do not belong to the format are an error.
pub fn decoder(packing: Packing, input: Input) -> io::Result<Box<dyn Bytes + Send>> {
    Ok(match packing {
        Packing::Plain => Box::new(input),
        Packing::Gzip => Box::new(parallel::Parallel::new(gz::Gzip::default(), Window::new(input))?),
        Packing::Zstd => Box::new(parallel::Parallel::new(zst::Zstd::default(), Window::new(input))?),
        Packing::Xz => Box::new(xz::Xz::new(input)?),
        Packing::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
        Packing::Lz4 => Box::new(lz4::Lz4::new(input)),
    })
}

impl Bytes for Input {}
impl Bytes for xz::Xz {}
impl Bytes for bzip2::bufread::MultiBzDecoder<Input> {}
impl Bytes for lz4::Lz4 {}

/// How many pieces are unpacked at once.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(8)
}

fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

fn short(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("it ends inside {what}"))
}

#[cfg(test)]
mod tests;
