//! Reads an image out of a layout: by full reference and architecture, every digest checked, layers applied.
//! An image for another machine, or one that is not there, is an error; nothing is fetched.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::types::{Descriptor, ImageConfig, Index, Manifest};
use super::{IMAGE_NAME, REF_NAME};
use crate::tree::{self, Node, Tree};
use crate::{hex, output, tar};

/// An image that cannot be used.
#[derive(Debug, Error)]
pub enum Error {
    /// A file of the layout cannot be read.
    #[error(transparent)]
    File(#[from] output::Error),
    /// The layout has no such image.
    #[error("{} holds no image `{reference}`; it holds {known}; `--pull` fetches what is missing", layout.display())]
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
        size: u64,
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
    /// The files of a layout clash; its digests are file names, so this cannot be.
    #[error(transparent)]
    Tree(#[from] tree::Error),
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
    /// Digest of its manifest.
    pub digest: String,
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
        let mut bytes = Vec::new();
        let mut blob = self.open(descriptor)?;
        let read = blob.read_to_end(&mut bytes);
        self.finish(blob, descriptor)?;
        read.map_err(|source| self.unreadable(descriptor, source))?;
        Ok(bytes)
    }

    /// The image of a full reference for a machine, by Go's name of it.
    pub fn image(&self, reference: &str, architecture: &str) -> Result<Image, Error> {
        let entry = self.entry(reference)?;
        let descriptor = self.manifest(reference, entry, architecture)?;
        let manifest: Manifest = self.document("the manifest", reference, &descriptor)?;
        let config: ImageConfig = self.document("the configuration", reference, &manifest.config)?;
        if config.architecture != architecture {
            return Err(wrong(reference, &config.architecture, architecture));
        }
        let mut tree = Tree::default();
        for layer in &manifest.layers {
            self.apply(&mut tree, reference, layer)?;
        }
        Ok(Image { digest: descriptor.digest, config, tree })
    }

    /// Whether there is an image of a full reference, complete or not.
    pub fn has(&self, reference: &str) -> Result<bool, Error> {
        match self.entry(reference) {
            Ok(_) => Ok(true),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A layout with this image alone, for all machines or those named as `linux/amd64`.
    pub fn subset(&self, reference: &str, platforms: &[String]) -> Result<Tree, Error> {
        let mut entry = self.entry(reference)?;
        let mut tree = Tree::default();
        let mut wanted = Vec::new();
        if is_index(&entry) {
            let mut index: Index = self.document("the index", reference, &entry)?;
            let named = |one: &Descriptor| {
                one.platform.as_ref().map(|platform| format!("{}/{}", platform.os, platform.architecture))
            };
            index
                .manifests
                .retain(|one| platforms.is_empty() || named(one).is_some_and(|name| platforms.contains(&name)));
            if index.manifests.is_empty() {
                return Err(wrong(reference, "other machines", &platforms.join(", ")));
            }
            wanted.clone_from(&index.manifests);
            let source = |source| Error::Parse { what: "the index", reference: reference.to_owned(), source };
            let bytes = serde_json::to_vec(&index).map_err(source)?;
            (entry.digest, entry.size) = (format!("sha256:{}", hex(&Sha256::digest(&bytes))), bytes.len() as u64);
            insert_blob(&mut tree, &entry, bytes)?;
        } else {
            wanted.push(entry.clone());
        }
        for descriptor in &wanted {
            let manifest: Manifest = self.document("the manifest", reference, descriptor)?;
            for blob in manifest.layers.iter().chain([&manifest.config, descriptor]) {
                insert_blob(&mut tree, blob, self.blob(blob)?)?;
            }
        }
        let source = |source| Error::Parse { what: "the index", reference: reference.to_owned(), source };
        let index = serde_json::to_vec(&Index::of(vec![entry])).map_err(source)?;
        tree.insert("index.json", Node::file(index, 0o644))?;
        tree.insert("oci-layout", Node::file(super::LAYOUT, 0o644))?;
        Ok(tree)
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
        if !is_index(&entry) {
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
        let mut blob = self.open(layer)?;
        let result = match layer.media_type.rsplit(['.', '+']).next().unwrap_or_default() {
            "tar" => tar::apply_layer(tree, &mut blob),
            "gzip" => tar::apply_layer(tree, flate2::read::MultiGzDecoder::new(&mut blob)),
            "zstd" => match zstd::Decoder::with_buffer(BufReader::with_capacity(1 << 17, &mut blob)) {
                Ok(decoder) => tar::apply_layer(tree, decoder),
                Err(source) => return Err(Error::Decompress { digest, reference, source }),
            },
            _ => return Err(Error::LayerType { reference, media_type: layer.media_type.clone() }),
        };
        // Damaged bytes explain whatever the unpacking met.
        self.finish(blob, layer)?;
        result.map_err(|source| Error::Layer { digest, reference, source: Box::new(source) })
    }

    fn open(&self, descriptor: &Descriptor) -> Result<Blob, Error> {
        let path = self.blob_path(&descriptor.digest)?;
        let file = File::open(&path).map_err(|source| output::Error::new("read", &path, source))?;
        Ok(Blob { file: BufReader::with_capacity(1 << 17, file), hash: Sha256::new(), size: 0 })
    }

    /// Reads the rest of a blob and checks its digest.
    fn finish(&self, mut blob: Blob, descriptor: &Descriptor) -> Result<(), Error> {
        io::copy(&mut blob, &mut io::sink()).map_err(|source| self.unreadable(descriptor, source))?;
        let actual = format!("sha256:{}", hex(&blob.hash.finalize()));
        if actual == descriptor.digest && blob.size == descriptor.size {
            return Ok(());
        }
        let (layout, digest, expected_size) = (self.directory.clone(), descriptor.digest.clone(), descriptor.size);
        Err(Error::Digest { layout, digest, actual, size: blob.size, expected_size })
    }

    fn unreadable(&self, descriptor: &Descriptor, source: io::Error) -> Error {
        let path = self.blob_path(&descriptor.digest).unwrap_or_default();
        Error::File(output::Error::new("read", &path, source))
    }
}

/// A file of the layout that is hashed while it is read.
struct Blob {
    file: BufReader<File>,
    hash: Sha256,
    size: u64,
}

impl Read for Blob {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buf)?;
        self.hash.update(&buf[..read]);
        self.size += read as u64;
        Ok(read)
    }
}

/// Whether an entry stands for several images.
pub fn is_index(entry: &Descriptor) -> bool {
    entry.media_type.ends_with("index.v1+json") || entry.media_type.ends_with("manifest.list.v2+json")
}

fn insert_blob(tree: &mut Tree, blob: &Descriptor, bytes: Vec<u8>) -> Result<(), tree::Error> {
    let hex = blob.digest.trim_start_matches("sha256:");
    tree.insert(&format!("blobs/sha256/{hex}"), Node::file(bytes, 0o644))
}

fn wrong(reference: &str, found: &str, wanted: &str) -> Error {
    Error::WrongArchitecture { reference: reference.to_owned(), found: found.to_owned(), wanted: wanted.to_owned() }
}
