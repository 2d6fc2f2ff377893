//! ISO images for virtual media that exist only as they are read: kernel and initramfs from their files, this machine's
//! configuration between them. Any part read in any pieces gives the same bytes as the whole.

mod fat;
mod layout;
mod patch;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::Bytes;

pub use patch::{PLACEHOLDER, PatchError, Spots, find, patched};

use crate::Loaders;

/// Bytes of a sector.
const SECTOR: u64 = 2048;

/// What stands where.
#[derive(Debug)]
enum Segment {
    Memory(Bytes),
    /// From the start of a file, which must not change meanwhile.
    File(Arc<File>),
    /// The same, from a place on.
    Part(Arc<File>, u64),
}

/// An image.
#[derive(Debug)]
pub struct Image {
    /// Where each begins, and its length; in order, with gaps of zeros.
    segments: Vec<(u64, u64, Segment)>,
    total: u64,
    /// Of what it is made of, in quotes.
    pub etag: String,
}

/// No image can be made.
#[derive(Debug, thiserror::Error)]
pub enum IsoError {
    /// Of the directory of loaders.
    #[error("the directory of loaders has no {0}, which virtual media of this architecture need")]
    Loader(&'static str),
    /// There is none.
    #[error("virtual media of architecture {0:?} cannot be made; x86_64 can")]
    Architecture(String),
    /// Kernel or initramfs.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of 4 GiB or more.
    #[error("{path} is too large for an ISO image")]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
}

/// What boot programs on the media read.
#[derive(Clone, Debug)]
pub struct Configs {
    /// `/boot/grub/grub.cfg`.
    pub grub: String,
    /// `/isolinux/isolinux.cfg`.
    pub isolinux: String,
}

/// Media that boot kernel and initramfs of `osie` under UEFI, Secure Boot included, and under BIOS.
pub fn make(arch: &str, osie: &Path, loaders: &dyn Loaders, configs: &Configs) -> Result<Image, IsoError> {
    if arch != "x86_64" {
        return Err(IsoError::Architecture(arch.to_owned()));
    }
    let loader = |name: &'static str| loaders.get(name).ok_or(IsoError::Loader(name));
    let efi = fat::image(&[("BOOTX64 EFI", &loader("shimx64.efi")?), ("GRUBX64 EFI", &loader("gcdx64.efi")?)]);
    let mut disc = layout::Disc::default();
    disc.memory(".disk/info", "Ironhook\n");
    disc.memory("boot/grub/grub.cfg", configs.grub.clone());
    disc.file("boot/vmlinuz-x86_64", &osie.join("vmlinuz-x86_64"))?;
    disc.file("boot/initramfs-x86_64", &osie.join("initramfs-x86_64"))?;
    disc.efi(efi);
    // Without these it boots under UEFI only.
    if let (Some(boot), Some(library)) = (loaders.get("isolinux.bin"), loaders.get("ldlinux.c32")) {
        disc.bios(&boot);
        disc.memory("isolinux/ldlinux.c32", library);
        disc.memory("isolinux/isolinux.cfg", configs.isolinux.clone());
    }
    Ok(disc.finish())
}

impl Image {
    /// How long it is.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// A part of it, which must lie within.
    pub fn read(&self, from: u64, length: u64) -> io::Result<Vec<u8>> {
        let mut out = vec![0; length as usize];
        let end = from + length;
        let first = self.segments.partition_point(|(start, size, _)| start + size <= from);
        for (start, size, segment) in &self.segments[first..] {
            if *start >= end {
                break;
            }
            let (low, high) = (from.max(*start), end.min(start + size));
            if low >= high {
                continue;
            }
            let into = &mut out[(low - from) as usize..(high - from) as usize];
            match segment {
                Segment::Memory(bytes) => {
                    into.copy_from_slice(&bytes[(low - start) as usize..(high - start) as usize]);
                }
                Segment::File(file) => file.read_exact_at(into, low - start)?,
                Segment::Part(file, place) => file.read_exact_at(into, place + low - start)?,
            }
        }
        Ok(out)
    }
}

/// The same for the same bytes, in every run.
fn tag(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}
