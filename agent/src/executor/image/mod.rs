//! Images without an engine: an OCI layout of the machine or a registry becomes a root file system and what the image says
//! of itself. An image is unpacked once and shared by its actions, which never write to it. Blocking.

mod layout;
mod stop;
mod unpack;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use fetch::registry::{Access, Credential, Descriptor, Manifest, Reference, Repository};
use serde::{Deserialize, Serialize};
use spec::event::Progress;
use spec::{Code, Failure};

use crate::config::Config;
use crate::executor::memory;
use crate::progress::Reporter;
use crate::text::chain;

use layout::{Layout, LayoutError};
use stop::Watched;
pub use stop::{Stop, Stopper};
pub use unpack::Budget;

/// Between two words about how far a pull is.
const WORD: u64 = 1 << 20;
/// What is being unpacked ends so.
const UNFINISHED: &str = "new";

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
            fetch: fetch::Options {
                ca_file: config.ca_file.clone(),
                patience: config.pull_timeout,
                ..fetch::Options::default()
            },
        };
        Self { layouts: config.images.clone(), cache: config.run_dir.join("images"), access }
    }

    /// Whether a layout of the machine has it.
    pub fn has(&self, name: &str) -> bool {
        let Ok(reference) = Reference::parse(name) else { return false };
        fetch::layouts(&self.layouts)
            .iter()
            .any(|dir| Layout::new(dir).find(&reference).is_ok_and(|found| found.is_some()))
    }

    /// Gets it, unless it is there, and unpacks it. Ends when it is stopped, at the next byte.
    pub fn get(&self, name: &str, progress: &Reporter, stop: &Stop) -> Result<Image, Failure> {
        let reference = Reference::parse(name).map_err(|error| {
            Failure::new(Code::ImageNotFound, "the name of the image is malformed").with_cause(&error)
        })?;
        for dir in fetch::layouts(&self.layouts) {
            let layout = Layout::new(&dir);
            let found = layout.find(&reference).map_err(|error| unusable(name, &error))?;
            if let Some((digest, manifest)) = found {
                tracing::info!(image = name, layout = %dir.display(), "no pull: the machine has it");
                let config = layout.document(&manifest.config).map_err(|error| damaged(name, &error))?;
                let found = Described { name, digest: &digest, manifest: &manifest, config: &config };
                return self.unpacked(&found, &mut |layer| layout.blob(layer));
            }
        }
        self.pull(name, &reference, progress, stop)
    }

    fn pull(&self, name: &str, reference: &Reference, progress: &Reporter, stop: &Stop) -> Result<Image, Failure> {
        tracing::info!(image = name, "pulling");
        let mut repository = Repository::new(reference, &self.access).map_err(|error| refused(name, &error))?;
        let image = repository.image(architecture()).map_err(|error| refused(name, &error))?;
        let config = repository.document(&image.manifest.config).map_err(|error| refused(name, &error))?;
        let total: u64 = image.manifest.layers.iter().map(|layer| layer.size).sum();
        // Layers become about three times as large, and are in memory only once: they are unpacked as they come.
        if sys::mounts::is_in_memory(&self.cache_dir()?).unwrap_or(false) {
            memory::check(total.saturating_mul(3), &format!("image {name}"))?;
        }
        let mut before = 0;
        let found = Described { name, digest: &image.digest, manifest: &image.manifest, config: &config };
        self.unpacked(&found, &mut |layer| {
            let (progress, message, start) = (progress.clone(), format!("pulling {name}"), before);
            before += layer.size;
            let mut said = None;
            let tell = move |read: u64| {
                if said.is_none_or(|said| read - said >= WORD) {
                    said = Some(read);
                    progress.say(Progress {
                        done: start + read,
                        total,
                        unit: "bytes".into(),
                        message: message.clone(),
                    });
                }
            };
            let blob = repository.blob(layer).map_err(io::Error::other)?;
            Ok(Box::new(Watched::new(blob, stop.clone(), tell)))
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
            return Err(elsewhere(name, &file.architecture, architecture()));
        }
        let home = self.cache_dir()?.join(digest.trim_start_matches("sha256:"));
        let root = home.join("root");
        if root.is_dir() {
            return Ok(Image { root, config: file.config });
        }
        let (fresh, _lock) = self.unfinished(&home)?;
        let mut budget = Budget::of(&fresh);
        let unpacked = manifest.layers.iter().try_for_each(|layer| {
            let digest = layer.digest.as_str();
            let mut reader = open(layer).map_err(|error| not_unpacked(name, digest, &error))?;
            let unpacked = unpack::layer(&mut reader, &fresh.join("root"), &mut budget);
            unpacked.map_err(|error| not_unpacked(name, digest, &error))
        });
        let done = unpacked.and_then(|()| match fs::rename(&fresh, &home) {
            // Somebody else has put the same there meanwhile.
            Err(_) if root.is_dir() => Ok(()),
            renamed => renamed.map_err(|error| no_place(&home, &error)),
        });
        let _ = fs::remove_dir_all(&fresh);
        done.map(|()| Image { root, config: file.config })
    }

    /// A place to unpack to, and what says that somebody does. Places of those who are not there any more are removed.
    fn unfinished(&self, home: &Path) -> Result<(PathBuf, File), Failure> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        // Nobody removes what another one has made and not yet locked.
        static ONE: Mutex<()> = Mutex::new(());
        let _one = ONE.lock();
        for entry in fs::read_dir(&self.cache).into_iter().flatten().flatten() {
            let path = entry.path();
            let ours = path.extension().is_some_and(|extension| extension == UNFINISHED);
            if ours && File::open(&path).is_ok_and(|lock| lock.try_lock().is_ok()) {
                let _ = fs::remove_dir_all(&path);
            }
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let fresh = home.with_extension(format!("{}-{number}.{UNFINISHED}", std::process::id()));
        let made = fs::create_dir_all(&fresh).and_then(|()| File::open(&fresh));
        let lock = made.and_then(|lock| lock.try_lock().map(|()| lock).map_err(io::Error::other));
        let made = lock.and_then(|lock| fs::create_dir(fresh.join("root")).map(|()| lock));
        made.map(|lock| (fresh.clone(), lock)).map_err(|error| no_place(&fresh, &error))
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

fn unusable(name: &str, error: &LayoutError) -> Failure {
    match error {
        LayoutError::Platform { offered, own } => elsewhere(name, offered, own),
        LayoutError::Read { .. } | LayoutError::Malformed { .. } => damaged(name, error),
    }
}

fn elsewhere(name: &str, offered: &str, own: &str) -> Failure {
    Failure::new(Code::ImageNotFound, format!("image {name} is for {offered}, this machine is {own}"))
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
