//! Images of an OCI layout into the engine, without a registry: the engine's own archive is made on the way, with the
//! layers as they are. The engine checks the layers; this checks that the layout is whole before anything is sent.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::http::Request;
use super::{Docker, DockerError};

const SILENCE: Duration = Duration::from_secs(600);
/// Of an index or manifest.
const DOCUMENT: u64 = 4 << 20;
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const IMAGE_NAME: &str = "io.containerd.image.name";
const BLOCK: u64 = 512;

/// The layout cannot be used, or the engine does not take an image.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file of the layout.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not what it is named for.
    #[error("{path} is malformed")]
    Malformed {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// An index entry that names no image.
    #[error("{path}: {problem}")]
    Layout {
        /// Which.
        path: PathBuf,
        /// What.
        problem: String,
    },
    /// The engine.
    #[error("cannot load {name}")]
    Engine {
        /// The image.
        name: String,
        /// Why.
        #[source]
        source: DockerError,
    },
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// An image of a layout.
pub struct Embedded {
    /// Its full name, as it is pulled.
    pub name: String,
    /// What the engine will call it.
    pub id: String,
    blobs: Vec<Blob>,
    manifest_json: Vec<u8>,
}

struct Blob {
    path: PathBuf,
    name: String,
    size: u64,
}

/// All images of a layout for this machine, named and whole; none if there is no layout.
pub fn layout(dir: &Path) -> Result<Vec<Embedded>, LoadError> {
    let path = dir.join("index.json");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let index: Index = document(&path)?;
    index.manifests.iter().map(|entry| embedded(dir, &path, entry)).collect()
}

fn embedded(dir: &Path, index: &Path, entry: &Descriptor) -> Result<Embedded, LoadError> {
    let problem = |problem: String| LoadError::Layout { path: index.to_owned(), problem };
    let name = [REF_NAME, IMAGE_NAME].iter().find_map(|key| entry.annotations.get(*key));
    let name = name.ok_or_else(|| problem(format!("{} has no name ({REF_NAME})", entry.digest)))?.clone();
    if !name.contains(['/', ':']) {
        return Err(problem(format!("{name:?} ({REF_NAME}) is a tag only; the full name of the image is needed")));
    }
    let arch = std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64");
    let manifest: Manifest =
        if entry.media_type.ends_with("image.index.v1+json") || entry.media_type.ends_with("manifest.list.v2+json") {
            let inner: Index = document(&blob(dir, entry)?.path)?;
            let fits = |d: &&Descriptor| d.platform.as_ref().is_some_and(|p| p.os == "linux" && p.architecture == arch);
            let fitting =
                inner.manifests.iter().find(fits).ok_or_else(|| problem(format!("{name} is not there for {arch}")))?;
            document(&blob(dir, fitting)?.path)?
        } else {
            document(&blob(dir, entry)?.path)?
        };
    let config = blob(dir, &manifest.config)?;
    let layers = manifest.layers.iter().map(|layer| blob(dir, layer)).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<&str> = layers.iter().map(|blob| blob.name.as_str()).collect();
    let manifest_json =
        json!([{ "Config": config.name, "RepoTags": [name], "Layers": names }]).to_string().into_bytes();
    let mut blobs = vec![config];
    for layer in layers {
        if blobs.iter().all(|other| other.name != layer.name) {
            blobs.push(layer);
        }
    }
    Ok(Embedded { id: manifest.config.digest, name, blobs, manifest_json })
}

/// Where a blob is, if it has its size.
fn blob(dir: &Path, descriptor: &Descriptor) -> Result<Blob, LoadError> {
    let hex = descriptor.digest.strip_prefix("sha256:").unwrap_or_default();
    let path = dir.join("blobs/sha256").join(hex);
    if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(LoadError::Layout { path, problem: format!("{:?} is no sha256 digest", descriptor.digest) });
    }
    let size = fs::metadata(&path).map_err(|source| LoadError::Read { path: path.clone(), source })?.len();
    if size != descriptor.size {
        let problem = format!("it has {size} bytes, {} are announced", descriptor.size);
        return Err(LoadError::Layout { path, problem });
    }
    Ok(Blob { path, name: format!("blobs/sha256/{hex}"), size })
}

fn document<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, LoadError> {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(DOCUMENT).read_to_end(&mut text));
    read.map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
    serde_json::from_slice(&text).map_err(|source| LoadError::Malformed { path: path.to_owned(), source })
}

impl Embedded {
    /// Bytes of its blobs.
    pub fn size(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.size).sum()
    }

    /// Of the archive: each entry has a head, and all is padded to blocks; two empty blocks end it.
    fn length(&self) -> u64 {
        let entry = |size: u64| BLOCK + size.div_ceil(BLOCK) * BLOCK;
        self.blobs.iter().map(|blob| entry(blob.size)).sum::<u64>() + entry(self.manifest_json.len() as u64) + 2 * BLOCK
    }

    fn write(&self, to: &mut UnixStream) -> io::Result<()> {
        let mut archive = tar::Builder::new(to);
        let mut header = |name: &str, size: u64, content: &mut dyn Read| {
            let mut header = tar::Header::new_ustar();
            header.set_size(size);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, content)
        };
        for blob in &self.blobs {
            header(&blob.name, blob.size, &mut File::open(&blob.path)?.take(blob.size))?;
        }
        header("manifest.json", self.manifest_json.len() as u64, &mut self.manifest_json.as_slice())?;
        archive.finish()
    }
}

impl Docker {
    /// Loads an image under its name, unless the engine has it already; whether it had to.
    pub fn load(&self, image: &Embedded) -> Result<bool, LoadError> {
        let failed = |source| LoadError::Engine { name: image.name.clone(), source };
        if self.image(&image.name).map_err(failed)?.is_some_and(|id| id == image.id) {
            return Ok(false);
        }
        let headers = [("Content-Type", "application/x-tar")];
        let request =
            Request { method: "POST", path: "/images/load?quiet=1", headers: &headers, silence: Some(SILENCE) };
        let answer = self.send(&request, image.length(), |stream| image.write(stream));
        let answer = answer.map_err(|source| failed(self.lost(source)))?;
        let mut said = String::new();
        let mut body = self.agreed(answer, format!("load {}", image.name)).map_err(failed)?.body.take(DOCUMENT);
        body.read_to_string(&mut said).map_err(|source| failed(self.lost(source)))?;
        match self.image(&image.name).map_err(failed)? {
            Some(id) if id == image.id => Ok(true),
            // Its errors come in the stream, as those of a pull do.
            _ => {
                Err(failed(DockerError::Refused { what: "load".into(), status: 200, message: said.trim().to_owned() }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_that_is_not_whole_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        assert!(layout(folder.path()).unwrap().is_empty());
        let hex = "ab".repeat(32);
        let write = |index: &str| fs::write(folder.path().join("index.json"), index).unwrap();
        let told = || layout(folder.path()).map(|_| ()).unwrap_err();
        write("{");
        assert!(matches!(told(), LoadError::Malformed { .. }));
        write(&format!(r#"{{"manifests":[{{"digest":"sha256:{hex}","size":1}}]}}"#));
        assert!(told().to_string().contains("has no name"), "{}", told());
        let named = |name: &str, digest: &str, size: u32| {
            format!(
                r#"{{"manifests":[{{"digest":"{digest}","size":{size},"annotations":{{"{REF_NAME}":"{name}"}}}}]}}"#
            )
        };
        write(&named("latest", &format!("sha256:{hex}"), 1));
        assert!(told().to_string().contains("is a tag only"), "{}", told());
        write(&named("r/a:1", "sha256:../../../etc/passwd", 1));
        assert!(told().to_string().contains("no sha256 digest"), "{}", told());
        write(&named("r/a:1", &format!("sha256:{hex}"), 7));
        assert!(matches!(told(), LoadError::Read { .. }));
        fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
        fs::write(folder.path().join("blobs/sha256").join(&hex), "{}").unwrap();
        assert!(told().to_string().contains("has 2 bytes, 7 are announced"), "{}", told());
    }
}
