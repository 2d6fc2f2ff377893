//! OCI image layouts on disk: the words, a reader that checks every digest, and a deterministic writer.
//! No registry and no network.

pub mod read;
pub mod reference;
pub mod types;
pub mod write;

/// Annotation of an index entry that holds its full reference, by the OCI specification.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The same for containerd and the stock `linuxkit cache import`.
pub const IMAGE_NAME: &str = "io.containerd.image.name";
/// Of which inputs our own builder made the entry.
pub const INPUTS: &str = "dev.ironhook.inputs";
