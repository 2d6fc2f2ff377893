//! Puts an image into a layout: one uncompressed layer, a manifest, an index with the platform, and the full
//! reference in both annotations, so that skopeo, containerd and the stock LinuxKit find it too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::read::{self, Layout};
use super::types::{
    CONFIG, Descriptor, INDEX, ImageConfig, Index, LAYER, MANIFEST, Manifest, Platform, RootFs, RunConfig,
};
use super::{IMAGE_NAME, INPUTS, REF_NAME};
use crate::tree::Tree;
use crate::{hex, output, tar};

/// An image that cannot be stored.
#[derive(Debug, Error)]
pub enum Error {
    /// A file of the layout.
    #[error(transparent)]
    File(#[from] output::Error),
    /// What is in the layout already cannot be read.
    #[error(transparent)]
    Read(#[from] read::Error),
    /// The layer cannot be packed.
    #[error("cannot pack the layer")]
    Pack(#[source] tar::Error),
    /// JSON cannot be written.
    #[error("cannot encode the image's documents")]
    Encode(#[source] serde_json::Error),
}

/// A layer in the layout, to be shared by several images.
pub struct Layer(Descriptor);

/// An image to be stored.
pub struct NewImage<'a> {
    /// Full reference.
    pub reference: &'a str,
    /// Go's name of the machine.
    pub architecture: &'a str,
    /// How to run it.
    pub run: RunConfig,
    /// Digest of everything it was made of.
    pub inputs: &'a str,
}

/// Packs a tree as a layer.
pub fn layer(directory: &Path, tree: &Tree) -> Result<Layer, Error> {
    let mut bytes = Vec::new();
    tar::write(tree, &mut bytes).map_err(Error::Pack)?;
    Ok(Layer(blob(directory, LAYER, &bytes)?))
}

/// Stores an image of one layer; an older one of the same reference gives way.
pub fn image(directory: &Path, layer: &Layer, new: NewImage) -> Result<(), Error> {
    let platform = Platform { architecture: new.architecture.to_owned(), os: "linux".to_owned() };
    let rootfs = RootFs { kind: "layers".into(), diff_ids: vec![layer.0.digest.clone()] };
    let config =
        ImageConfig { architecture: platform.architecture.clone(), os: platform.os.clone(), config: new.run, rootfs };
    let config = document(directory, CONFIG, &config)?;
    let manifest =
        Manifest { schema_version: 2, media_type: Some(MANIFEST.into()), config, layers: vec![layer.0.clone()] };
    let mut manifest = document(directory, MANIFEST, &manifest)?;
    manifest.platform = Some(platform);
    let mut entry = document(directory, INDEX, &Index::of(vec![manifest]))?;
    entry.annotations = BTreeMap::from([
        (REF_NAME.to_owned(), new.reference.to_owned()),
        (IMAGE_NAME.to_owned(), new.reference.to_owned()),
        (INPUTS.to_owned(), new.inputs.to_owned()),
    ]);
    enter(directory, new.reference, entry)
}

/// Names an entry in the layout's index; an older one of the same reference gives way.
pub fn enter(directory: &Path, reference: &str, entry: Descriptor) -> Result<(), Error> {
    let mut index = Layout::new(directory).index()?;
    index.manifests.retain(|old| old.annotations.get(REF_NAME).map(String::as_str) != Some(reference));
    index.manifests.push(entry);
    index.manifests.sort_by(|a, b| a.annotations.get(REF_NAME).cmp(&b.annotations.get(REF_NAME)));
    output::write(&directory.join("oci-layout"), super::LAYOUT.as_bytes())?;
    Ok(output::write(&directory.join("index.json"), &serde_json::to_vec_pretty(&index).map_err(Error::Encode)?)?)
}

/// Whether the layout holds the image, made of exactly these inputs, with all its blobs.
pub fn is_current(directory: &Path, reference: &str, inputs: &str) -> Result<bool, Error> {
    let layout = Layout::new(directory);
    let index = layout.index()?;
    let current = index.manifests.iter().find(|entry| {
        let has = |name: &str, value: &str| entry.annotations.get(name).map(String::as_str) == Some(value);
        has(REF_NAME, reference) && has(INPUTS, inputs)
    });
    let Some(entry) = current else { return Ok(false) };
    let mut blobs = BTreeSet::new();
    Ok(reachable(&layout, entry, &mut blobs).is_ok()
        && blobs.iter().all(|digest| layout.blob_path(digest).is_ok_and(|path| path.exists())))
}

/// Deletes the blobs that no image of the layout needs any more.
pub fn collect_garbage(directory: &Path) -> Result<(), Error> {
    let layout = Layout::new(directory);
    let mut needed = BTreeSet::new();
    for entry in &layout.index()?.manifests {
        reachable(&layout, entry, &mut needed)?;
    }
    let blobs = directory.join("blobs/sha256");
    let failed = |source| output::Error::new("read", &blobs, source);
    for file in fs::read_dir(&blobs).map_err(failed)? {
        let file = file.map_err(failed)?;
        if !needed.contains(&format!("sha256:{}", file.file_name().to_string_lossy())) {
            fs::remove_file(file.path()).map_err(|source| output::Error::new("delete", &file.path(), source))?;
        }
    }
    Ok(())
}

fn reachable(layout: &Layout, blob: &Descriptor, found: &mut BTreeSet<String>) -> Result<(), Error> {
    found.insert(blob.digest.clone());
    if read::is_index(blob) {
        let index: Index = serde_json::from_slice(&layout.blob(blob)?).map_err(Error::Encode)?;
        for manifest in &index.manifests {
            reachable(layout, manifest, found)?;
        }
    } else {
        let manifest: Manifest = serde_json::from_slice(&layout.blob(blob)?).map_err(Error::Encode)?;
        found.insert(manifest.config.digest);
        found.extend(manifest.layers.into_iter().map(|layer| layer.digest));
    }
    Ok(())
}

fn document(directory: &Path, media_type: &str, value: &impl Serialize) -> Result<Descriptor, Error> {
    blob(directory, media_type, &serde_json::to_vec(value).map_err(Error::Encode)?)
}

fn blob(directory: &Path, media_type: &str, bytes: &[u8]) -> Result<Descriptor, Error> {
    let hex = hex(&Sha256::digest(bytes));
    let path = directory.join("blobs/sha256").join(&hex);
    output::write(&path, bytes)?;
    let (digest, size) = (format!("sha256:{hex}"), bytes.len() as u64);
    Ok(Descriptor { media_type: media_type.to_owned(), digest, size, platform: None, annotations: BTreeMap::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Node;

    fn layout() -> (tempfile::TempDir, Descriptor) {
        let directory = tempfile::tempdir().unwrap();
        let mut tree = Tree::default();
        tree.insert("bin/x", Node::file(vec![1; 3000], 0o755)).unwrap();
        let layer = layer(directory.path(), &tree).unwrap();
        let run = RunConfig { entrypoint: Some(vec!["/bin/x".into()]), ..RunConfig::default() };
        let new = NewImage { reference: "docker.io/ironhook/x:dev", architecture: "amd64", run, inputs: "1" };
        image(directory.path(), &layer, new).unwrap();
        (directory, layer.0)
    }

    #[test]
    fn an_image_is_read_back_by_reference_and_architecture() {
        let (directory, _) = layout();
        let layout = Layout::new(directory.path());
        let image = layout.image("docker.io/ironhook/x:dev", "amd64").unwrap();
        assert_eq!(image.config.config.entrypoint.unwrap(), ["/bin/x"]);
        assert_eq!(image.tree.iter().count(), 2);
        let error = layout.image("docker.io/ironhook/x:dev", "arm64").err().unwrap().to_string();
        assert_eq!(error, "image `docker.io/ironhook/x:dev` is for amd64, not for arm64");
        let error = layout.image("docker.io/ironhook/y:dev", "amd64").err().unwrap().to_string();
        assert!(error.contains("no image `docker.io/ironhook/y:dev`; it holds docker.io/ironhook/x:dev;"), "{error}");
    }

    #[test]
    fn changed_and_truncated_layers_are_named_with_their_digest() {
        let (directory, layer) = layout();
        let layout = Layout::new(directory.path());
        let path = layout.blob_path(&layer.digest).unwrap();
        let bytes = fs::read(&path).unwrap();
        let mut changed = bytes.clone();
        changed[600] ^= 1;
        for damaged in [&changed[..], &bytes[..bytes.len() / 2]] {
            fs::write(&path, damaged).unwrap();
            let error = layout.image("docker.io/ironhook/x:dev", "amd64").err().unwrap().to_string();
            assert!(error.contains(&layer.digest) && error.contains("has sha256"), "{error}");
        }
    }

    #[test]
    fn current_means_same_inputs_and_every_blob() {
        let (directory, layer) = layout();
        let current = |inputs| is_current(directory.path(), "docker.io/ironhook/x:dev", inputs).unwrap();
        assert!(current("1") && !current("2"));
        let stray = directory.path().join("blobs/sha256").join("0".repeat(64));
        fs::write(&stray, "").unwrap();
        collect_garbage(directory.path()).unwrap();
        assert!(!stray.exists() && current("1"));
        fs::remove_file(Layout::new(directory.path()).blob_path(&layer.digest).unwrap()).unwrap();
        assert!(!current("1"));
    }
}
