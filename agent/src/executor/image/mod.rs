//! Images without an engine: an OCI layout of the machine or a registry becomes a root file system and what the image says
//! of itself. An image is unpacked once and shared by its actions, which never write to it. Blocking.

mod layout;
mod unpack;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fetch::registry::{Access, Credential, Descriptor, Manifest, Reference, Repository};
use serde::{Deserialize, Serialize};
use spec::event::Progress;
use spec::{Code, Failure};

use crate::config::Config;
use crate::executor::memory;
use crate::progress::Reporter;
use crate::text::chain;

use layout::Layout;
pub use unpack::Budget;

/// An image that can be run.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its root file system; not to be written to.
    pub root: PathBuf,
    /// What it says.
    pub config: ImageConfig,
}

/// What an image says of itself, as far as it is run.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    /// `KEY=VALUE`.
    pub env: Option<Vec<String>>,
    /// The program, and arguments that stay.
    pub entrypoint: Option<Vec<String>>,
    /// Arguments that an action replaces.
    pub cmd: Option<Vec<String>>,
    /// Where it starts; empty for `/`.
    pub working_dir: String,
    /// `user[:group]`, by name or number; empty for root.
    pub user: String,
    /// Its labels.
    pub labels: Option<HashMap<String, String>>,
}

#[derive(Deserialize)]
struct ConfigFile {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    config: ImageConfig,
}

/// Where images come from and are kept.
#[derive(Clone, Debug)]
pub struct Images {
    layouts: Vec<PathBuf>,
    cache: PathBuf,
    access: Access,
}

impl Images {
    /// From layouts of the machine, else from registries.
    pub fn new(config: &Config) -> Self {
        let credentials = config.credentials.iter().map(|it| Credential {
            host: super::docker::registry_host(&it.server).to_owned(),
            user: it.username.clone(),
            password: it.password.clone(),
        });
        let access = Access {
            credentials: credentials.collect(),
            plain_http: config.plain_registries.clone(),
            fetch: fetch::Options { ca_file: config.ca_file.clone(), ..fetch::Options::default() },
        };
        Self { layouts: config.images.clone(), cache: config.run_dir.join("images"), access }
    }

    /// Whether a layout of the machine has it.
    pub fn has(&self, name: &str) -> bool {
        let Ok(reference) = Reference::parse(name) else { return false };
        self.layouts.iter().any(|dir| Layout::new(dir).find(&reference).is_ok_and(|found| found.is_some()))
    }

    /// Gets it, unless it is there, and unpacks it.
    pub fn get(&self, name: &str, progress: &Reporter) -> Result<Image, Failure> {
        let reference = Reference::parse(name).map_err(|error| {
            Failure::new(Code::ImageNotFound, "the name of the image is malformed").with_cause(&error)
        })?;
        for dir in &self.layouts {
            let layout = Layout::new(dir);
            let found = layout.find(&reference).map_err(|error| damaged(name, &error))?;
            if let Some((digest, manifest)) = found {
                tracing::info!(image = name, layout = %dir.display(), "no pull: the machine has it");
                let config = layout.document(&manifest.config).map_err(|error| damaged(name, &error))?;
                let found = Described { name, digest: &digest, manifest: &manifest, config: &config };
                return self.unpacked(&found, &mut |layer| layout.blob(layer));
            }
        }
        self.pull(name, &reference, progress)
    }

    fn pull(&self, name: &str, reference: &Reference, progress: &Reporter) -> Result<Image, Failure> {
        tracing::info!(image = name, "pulling");
        let mut repository = Repository::new(reference, &self.access).map_err(|error| refused(name, &error))?;
        let image = repository.image(architecture()).map_err(|error| refused(name, &error))?;
        let config = repository.document(&image.manifest.config).map_err(|error| refused(name, &error))?;
        let total: u64 = image.manifest.layers.iter().map(|layer| layer.size).sum();
        // Layers become about three times as large, and are in memory only once: they are unpacked as they come.
        if sys::mounts::is_in_memory(&self.cache_dir()?).unwrap_or(false) {
            memory::check(total.saturating_mul(3), &format!("image {name}"))?;
        }
        let mut done = 0;
        let found = Described { name, digest: &image.digest, manifest: &image.manifest, config: &config };
        self.unpacked(&found, &mut |layer| {
            let message = format!("pulling {name}");
            progress.say(Progress { done, total, unit: "bytes".into(), message });
            done += layer.size;
            repository.blob(layer).map(|blob| Box::new(blob) as Box<dyn io::Read>).map_err(io::Error::other)
        })
    }

    fn cache_dir(&self) -> Result<PathBuf, Failure> {
        fs::create_dir_all(&self.cache).map_err(|error| no_place(&self.cache, &error))?;
        Ok(self.cache.clone())
    }

    /// The image in the cache; what is there under its digest is whole, because it came there by a rename.
    fn unpacked(
        &self,
        found: &Described<'_>,
        open: &mut dyn FnMut(&Descriptor) -> io::Result<Box<dyn io::Read>>,
    ) -> Result<Image, Failure> {
        let Described { name, digest, manifest, config } = *found;
        let file: ConfigFile = serde_json::from_slice(config).map_err(|error| damaged(name, &error))?;
        if !file.architecture.is_empty() && file.architecture != architecture() {
            let message = format!("image {name} is for {}, this machine is {}", file.architecture, architecture());
            return Err(Failure::new(Code::ImageNotFound, message));
        }
        let home = self.cache_dir()?.join(digest.trim_start_matches("sha256:"));
        let root = home.join("root");
        if root.is_dir() {
            return Ok(Image { root, config: file.config });
        }
        let fresh = home.with_extension("new");
        let _ = fs::remove_dir_all(&fresh);
        fs::create_dir_all(fresh.join("root")).map_err(|error| no_place(&fresh, &error))?;
        let mut budget = Budget::of(&fresh);
        let unpacked = manifest.layers.iter().try_for_each(|layer| {
            let digest = layer.digest.as_str();
            let mut reader = open(layer).map_err(|error| not_unpacked(name, digest, &error))?;
            let unpacked = unpack::layer(&mut reader, &fresh.join("root"), &mut budget);
            unpacked.map_err(|error| not_unpacked(name, digest, &error))
        });
        if let Err(failure) = unpacked.and_then(|()| fs::rename(&fresh, &home).map_err(|error| no_place(&home, &error)))
        {
            let _ = fs::remove_dir_all(&fresh);
            return Err(failure);
        }
        Ok(Image { root, config: file.config })
    }
}

/// What an image consists of, its layers not yet opened.
struct Described<'a> {
    name: &'a str,
    digest: &'a str,
    manifest: &'a Manifest,
    config: &'a [u8],
}

/// This machine's, by Go's name of it.
fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

fn damaged(name: &str, error: &dyn std::error::Error) -> Failure {
    let message = format!("image {name} of this machine is damaged");
    Failure { causes: vec![chain(error)], ..Failure::new(Code::ImageNotFound, message) }
}

fn no_place(path: &Path, error: &io::Error) -> Failure {
    let code = if error.kind() == io::ErrorKind::StorageFull { Code::NoSpace } else { Code::ImagePull };
    Failure { causes: vec![error.to_string()], ..Failure::new(code, format!("cannot write {}", path.display())) }
}

/// A registry's answer that asking again cannot change, or one that was asked for long enough.
fn refused(name: &str, error: &fetch::registry::Error) -> Failure {
    use fetch::registry::Error;
    let (code, message) = match error {
        Error::Unauthorized { .. } | Error::NotFound { .. } | Error::Reference { .. } => {
            (Code::ImageNotFound, format!("image {name} does not exist or may not be pulled"))
        }
        Error::Architecture { .. } | Error::MediaType { .. } => {
            (Code::ImageNotFound, format!("image {name} is not one for this machine"))
        }
        _ => (Code::ImagePull, format!("image {name} could not be pulled")),
    };
    Failure { causes: vec![chain(error)], ..Failure::new(code, message) }
}

fn not_unpacked(name: &str, layer: &str, error: &(dyn std::error::Error + 'static)) -> Failure {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(unpack::UnpackError::Budget { .. }) = cause.downcast_ref() {
            return Failure::new(Code::InsufficientMemory, format!("image {name} does not fit: {cause}"));
        }
        let full = |error: &io::Error| error.kind() == io::ErrorKind::StorageFull;
        if cause.downcast_ref::<io::Error>().is_some_and(full) {
            return Failure::new(Code::NoSpace, format!("no room left to unpack image {name}"));
        }
        next = cause.source();
    }
    let message = format!("layer {} of image {name} cannot be unpacked", layer.get(..19).unwrap_or(layer));
    Failure { causes: vec![chain(error)], ..Failure::new(Code::ImagePull, message) }
}

trait WithCause {
    fn with_cause(self, error: &dyn std::error::Error) -> Self;
}

impl WithCause for Failure {
    fn with_cause(mut self, error: &dyn std::error::Error) -> Self {
        self.causes.push(chain(error));
        self
    }
}
