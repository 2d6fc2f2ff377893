//! `ironhook-image` as a library: LinuxKit YAML and OCI images to kernel and initramfs, component descriptions to OCI
//! images. Deterministic, and offline but for the packages of the lock and what `--pull` asks for.

pub mod artifacts;
pub mod cli;
pub mod component;
pub mod compress;
pub mod cpio;
pub mod debs;
mod glob;
pub mod inspect;
pub mod linuxkit;
pub mod oci;
pub mod output;
pub mod progress;
pub mod pull;
pub mod relock;
pub mod sbom;
pub mod squashfs;
pub mod tar;
pub mod tree;
pub mod yaml;

/// The machine we build for: Go's name in OCI images, the kernel's name in our artifacts.
pub const ARCHITECTURE: (&str, &str) = ("amd64", "x86_64");

/// Bytes as lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
