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
/// Content of a layout's file `oci-layout`.
pub const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
/// Marks an entry that `--pull` fetched, and may fetch again.
pub const PULLED: &str = "dev.ironhook.pulled";
/// Label of an image that our own builder made: [`crate::sbom::Contents`] as JSON.
pub const CONTENTS: &str = "dev.ironhook.contents";
/// Of which inputs our own builder made the entry.
pub const INPUTS: &str = "dev.ironhook.inputs";
