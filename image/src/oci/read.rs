//! Reads an image out of a layout: by full reference and architecture, every digest checked, layers applied.
//! An image for another machine, or one that is not there, is an error; nothing is fetched.

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::types::{Descriptor, ImageConfig, Index, Manifest};
use super::{IMAGE_NAME, REF_NAME};
use crate::tree::Tree;
use crate::{hex, output, tar};

/// An image that cannot be used.
#[derive(Debug, Error)]
pub enum Error {
    /// A file of the layout cannot be read.
    #[error(transparent)]
    File(#[from] output::Error),
    /// The layout has no such image.
    #[error("{} holds no image `{reference}`; it holds {known}", layout.display())]
    NotFound {
        /// The layout.
        layout: PathBuf,
        /// The full reference.
        reference: String,
        /// What is there.
        known: String,
    },
    /// The image is for other machines.
    #[error("image `{reference}` is for {found}, not for {wanted}")]
    WrongArchitecture {
        /// The full reference.
        reference: String,
        /// What it is for.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// A blob's bytes are not those its name promises.
    #[error("blob {digest} in {} has sha256 {actual} and {size} bytes instead of {expected_size}", layout.display())]
    Digest {
        /// The layout.
        layout: PathBuf,
        /// As referred to.
        digest: String,
        /// Of the bytes.
        actual: String,
        /// Length of the bytes.
        size: usize,
        /// Length as referred to.
        expected_size: u64,
    },
    /// A digest of another kind, or a malformed one.
    #[error("`{digest}` is no sha256 digest")]
    DigestKind {
        /// As referred to.
        digest: String,
    },
    /// A document of the image cannot be parsed.
    #[error("{what} of image `{reference}` is malformed")]
    Parse {
        /// Index, manifest or configuration.
        what: &'static str,
        /// The full reference.
        reference: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A layer cannot be applied.
    #[error("layer {digest} of image `{reference}` cannot be applied")]
    Layer {
        /// The layer.
        digest: String,
        /// The full reference.
        reference: String,
        /// Why.
        #[source]
        source: Box<tar::Error>,
    },
    /// A layer that cannot be decompressed.
    #[error("layer {digest} of image `{reference}` cannot be decompressed")]
    Decompress {
        /// The layer.
        digest: String,
        /// The full reference.
        reference: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A layer in a format we do not know.
    #[error("layer of image `{reference}` is of unknown type `{media_type}`")]
    LayerType {
        /// The full reference.
        reference: String,
        /// As the manifest says it.
        media_type: String,
    },
}

/// An image at hand.
pub struct Image {
    /// How it wants to be run.
    pub config: ImageConfig,
    /// Its files.
    pub tree: Tree,
}

/// A directory with `index.json` and `blobs`.
pub struct Layout {
    directory: PathBuf,
}

impl Layout {
    /// A layout that may still be empty.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// The layout's own index; empty when there is none yet.
    pub fn index(&self) -> Result<Index, Error> {
        let path = self.directory.join("index.json");
        if !path.exists() {
            return Ok(Index::of(Vec::new()));
        }
        let source = |source| Error::Parse { what: "the index", reference: path.display().to_string(), source };
        serde_json::from_slice(&output::read(&path)?).map_err(source)
    }

    /// Where a blob lies.
    pub fn blob_path(&self, digest: &str) -> Result<PathBuf, Error> {
        let hex =
            digest.strip_prefix("sha256:").filter(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let hex = hex.ok_or_else(|| Error::DigestKind { digest: digest.to_owned() })?;
        Ok(self.directory.join("blobs/sha256").join(hex))
    }

    /// The bytes of a blob, checked.
    pub fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        let bytes = output::read(&self.blob_path(&descriptor.digest)?)?;
        let actual = format!("sha256:{}", hex(&Sha256::digest(&bytes)));
        if actual == descriptor.digest && bytes.len() as u64 == descriptor.size {
            return Ok(bytes);
        }
        let (layout, digest, expected_size) = (self.directory.clone(), descriptor.digest.clone(), descriptor.size);
        Err(Error::Digest { layout, digest, actual, size: bytes.len(), expected_size })
    }

    /// The image of a full reference for a machine, by Go's name of it.
    pub fn image(&self, reference: &str, architecture: &str) -> Result<Image, Error> {
        let entry = self.entry(reference)?;
        let manifest: Manifest =
            self.document("the manifest", reference, &self.manifest(reference, entry, architecture)?)?;
        let config: ImageConfig = self.document("the configuration", reference, &manifest.config)?;
        if config.architecture != architecture {
            return Err(wrong(reference, &config.architecture, architecture));
        }
        let mut tree = Tree::default();
        for layer in &manifest.layers {
            self.apply(&mut tree, reference, layer)?;
        }
        Ok(Image { config, tree })
    }

    fn entry(&self, reference: &str) -> Result<Descriptor, Error> {
        let index = self.index()?;
        let name = |entry: &Descriptor| {
            let name = entry.annotations.get(REF_NAME).or_else(|| entry.annotations.get(IMAGE_NAME));
            name.cloned().unwrap_or_default()
        };
        if let Some(found) = index.manifests.iter().find(|entry| name(entry) == reference) {
            return Ok(found.clone());
        }
        let mut known: Vec<String> = index.manifests.iter().map(name).collect();
        known.sort();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Err(Error::NotFound { layout: self.directory.clone(), reference: reference.to_owned(), known })
    }

    fn manifest(&self, reference: &str, entry: Descriptor, architecture: &str) -> Result<Descriptor, Error> {
        if !entry.media_type.ends_with("index.v1+json") && !entry.media_type.ends_with("manifest.list.v2+json") {
            return Ok(entry);
        }
        let index: Index = self.document("the index", reference, &entry)?;
        let mut found = Vec::new();
        for manifest in index.manifests {
            match &manifest.platform {
                Some(platform) if platform.architecture == architecture => return Ok(manifest),
                Some(platform) => found.push(platform.architecture.clone()),
                None => found.push("a machine it does not name".into()),
            }
        }
        Err(wrong(reference, &found.join(", "), architecture))
    }

    fn document<T: DeserializeOwned>(
        &self,
        what: &'static str,
        reference: &str,
        blob: &Descriptor,
    ) -> Result<T, Error> {
        let source = |source| Error::Parse { what, reference: reference.to_owned(), source };
        serde_json::from_slice(&self.blob(blob)?).map_err(source)
    }

    fn apply(&self, tree: &mut Tree, reference: &str, layer: &Descriptor) -> Result<(), Error> {
        let (digest, reference) = (layer.digest.clone(), reference.to_owned());
        let bytes = Cursor::new(self.blob(layer)?);
        let result = match layer.media_type.rsplit(['.', '+']).next().unwrap_or_default() {
            "tar" => tar::apply_layer(tree, bytes),
            "gzip" => tar::apply_layer(tree, flate2::read::MultiGzDecoder::new(bytes)),
            "zstd" => match zstd::Decoder::new(bytes) {
                Ok(decoder) => tar::apply_layer(tree, decoder.take(u64::MAX)),
                Err(source) => return Err(Error::Decompress { digest, reference, source }),
            },
            _ => return Err(Error::LayerType { reference, media_type: layer.media_type.clone() }),
        };
        result.map_err(|source| Error::Layer { digest, reference, source: Box::new(source) })
    }
}

fn wrong(reference: &str, found: &str, wanted: &str) -> Error {
    Error::WrongArchitecture { reference: reference.to_owned(), found: found.to_owned(), wanted: wanted.to_owned() }
}
