//! An OCI image layout on this machine: which image a name means, and its blobs, whose digests are checked as they are
//! read. Sizes are bounded by what the layout itself says and by a limit for documents.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use fetch::registry::{Descriptor, Manifest, Reference};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

/// Of an index, manifest or configuration.
const DOCUMENT: u64 = 4 << 20;
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const IMAGE_NAME: &str = "io.containerd.image.name";

/// The layout cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file of it.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A document of it.
    #[error("{path} is malformed")]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The image is for other machines.
    #[error("it is for {offered}, this machine is {own}")]
    Platform {
        /// What the image is for.
        offered: String,
        /// What this machine is.
        own: &'static str,
    },
}

/// A layout.
#[derive(Debug)]
pub struct Layout<'a> {
    dir: &'a Path,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

impl<'a> Layout<'a> {
    /// The one in this directory, which has to be there.
    pub fn new(dir: &'a Path) -> Self {
        Self { dir }
    }

    /// The image's digest and manifest, if the layout has it.
    pub fn find(&self, wanted: &Reference) -> Result<Option<(String, Manifest)>, LayoutError> {
        let index: Index = self.read(&self.dir.join("index.json"), None)?;
        let Some(entry) = index.manifests.into_iter().find(|entry| is_named(entry, wanted)) else { return Ok(None) };
        let entry = self.for_this_machine(entry)?;
        Ok(Some((entry.digest.clone(), self.read(&self.path(&entry), Some(&entry))?)))
    }

    fn for_this_machine(&self, entry: Descriptor) -> Result<Descriptor, LayoutError> {
        if !entry.media_type.contains("index") && !entry.media_type.contains("manifest.list") {
            return Ok(entry);
        }
        let index: Index = self.read(&self.path(&entry), Some(&entry))?;
        let own = super::architecture();
        let of = |it: &Descriptor| it.platform.as_ref().map(|it| it.architecture.clone()).unwrap_or_default();
        let offered: Vec<_> = index.manifests.iter().map(of).collect();
        let platform = || LayoutError::Platform { offered: offered.join(", "), own };
        index.manifests.iter().find(|it| of(it) == own).cloned().ok_or_else(platform)
    }

    /// A small blob whole.
    pub fn document(&self, blob: &Descriptor) -> Result<Vec<u8>, LayoutError> {
        let path = self.path(blob);
        let read = || {
            let mut bytes = Vec::new();
            self.blob(blob)?.take(DOCUMENT).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|source| LayoutError::Read { path: path.clone(), source })
    }

    /// A blob as a stream, which fails at its end when its digest is another.
    pub fn blob(&self, blob: &Descriptor) -> io::Result<Box<dyn Read>> {
        let file = File::open(self.path(blob))?;
        Ok(Box::new(Checked { inner: file.take(blob.size), hash: Some(Sha256::new()), wanted: blob.digest.clone() }))
    }

    fn read<T: DeserializeOwned>(&self, path: &Path, blob: Option<&Descriptor>) -> Result<T, LayoutError> {
        let bytes = match blob {
            Some(blob) => self.document(blob)?,
            None => {
                let mut bytes = Vec::new();
                let read = File::open(path).and_then(|file| file.take(DOCUMENT).read_to_end(&mut bytes));
                read.map_err(|source| LayoutError::Read { path: path.to_owned(), source })?;
                bytes
            }
        };
        serde_json::from_slice(&bytes).map_err(|source| LayoutError::Malformed { path: path.to_owned(), source })
    }

    fn path(&self, blob: &Descriptor) -> PathBuf {
        let hex: String = blob.digest.trim_start_matches("sha256:").chars().filter(char::is_ascii_hexdigit).collect();
        self.dir.join("blobs/sha256").join(hex)
    }
}

fn is_named(entry: &Descriptor, wanted: &Reference) -> bool {
    let names = [REF_NAME, IMAGE_NAME].into_iter().filter_map(|key| entry.annotations.get(key));
    let mut names = names.filter_map(|name| Reference::parse(name).ok());
    match wanted.digest() {
        Some(digest) => entry.digest == digest,
        None => names.any(|name| with_tag(&name) == with_tag(wanted)),
    }
}

fn with_tag(reference: &Reference) -> String {
    let text = reference.to_string();
    if text.rsplit('/').next().is_some_and(|last| last.contains(':')) { text } else { format!("{text}:latest") }
}

/// Reads on to its end, and says there whether the bytes were the right ones.
struct Checked<R> {
    inner: R,
    hash: Option<Sha256>,
    wanted: String,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        if let Some(hash) = &mut self.hash {
            hash.update(&buffer[..n]);
        }
        let over = n == 0 && !buffer.is_empty();
        if let Some(hash) = self.hash.take_if(|_| over) {
            let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            if self.wanted != format!("sha256:{found}") {
                return Err(io::Error::other(format!("{} came as sha256:{found}", self.wanted)));
            }
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;

    /// A layout with one name for several machines, and its manifests' digests.
    fn layout(architectures: &[&str]) -> (tempfile::TempDir, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let blobs = dir.path().join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let blob = |kind: &str, value: &Value| {
            let bytes = value.to_string();
            let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            fs::write(blobs.join(&digest), &bytes).unwrap();
            json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len()})
        };
        let manifests: Vec<Value> = architectures
            .iter()
            .map(|&own| {
                let config = blob("application/vnd.oci.image.config.v1+json", &json!({"architecture": own}));
                let manifest = json!({"schemaVersion": 2, "config": config, "layers": []});
                let mut entry = blob("application/vnd.oci.image.manifest.v1+json", &manifest);
                entry["platform"] = json!({"architecture": own, "os": "linux"});
                entry
            })
            .collect();
        let digests = manifests.iter().map(|entry| entry["digest"].as_str().unwrap().to_owned()).collect();
        let kind = "application/vnd.oci.image.index.v1+json";
        let mut entry = blob(kind, &json!({"schemaVersion": 2, "manifests": manifests}));
        entry["annotations"] = json!({REF_NAME: "docker.io/site/tool:1"});
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        fs::write(dir.path().join("index.json"), index.to_string()).unwrap();
        (dir, digests)
    }

    #[test]
    fn of_an_image_for_many_machines_this_ones_is_taken_or_what_there_is_named() {
        let own = super::super::architecture();
        let wanted = Reference::parse("docker.io/site/tool:1").unwrap();
        let (dir, digests) = layout(&["riscv64", own, "s390x"]);
        let (digest, _) = Layout::new(dir.path()).find(&wanted).unwrap().unwrap();
        assert_eq!(digest, digests[1]);
        let (dir, _) = layout(&["riscv64", "s390x"]);
        let error = Layout::new(dir.path()).find(&wanted).unwrap_err();
        assert_eq!(error.to_string(), format!("it is for riscv64, s390x, this machine is {own}"));
    }
}
