//! Images from registries into the layout of the cache, only when asked. What our own builder made is left alone.
//! A name that was fetched before is looked up again, and fetched when it stands for another image now.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fetch::registry::{self, Access, Descriptor, Reference, Repository};
use thiserror::Error;

use crate::oci::read::{self, Layout};
use crate::oci::types::{self, Platform};
use crate::oci::{IMAGE_NAME, PULLED, REF_NAME, write};
use crate::output;
use crate::progress::Progress;

/// An image that cannot be fetched.
#[derive(Debug, Error)]
pub enum Error {
    /// Registry or network.
    #[error("cannot pull `{reference}`")]
    Registry {
        /// What was wanted.
        reference: String,
        /// Why not.
        #[source]
        source: Box<registry::Error>,
    },
    /// The connection broke, or a blob is not what its digest promises.
    #[error("cannot pull `{reference}`: layer {digest} did not arrive")]
    Blob {
        /// What was wanted.
        reference: String,
        /// The blob.
        digest: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Credentials.
    #[error(transparent)]
    Credentials(Box<registry::Error>),
    /// The layout.
    #[error(transparent)]
    Read(#[from] read::Error),
    /// The layout.
    #[error(transparent)]
    Write(#[from] write::Error),
    /// A file of the layout.
    #[error(transparent)]
    File(#[from] output::Error),
}

/// How registries are asked.
#[derive(Debug, Default)]
pub struct Ways {
    /// Credentials, as docker, podman and skopeo keep them.
    pub authfile: Option<PathBuf>,
    /// More trusted certificate authorities.
    pub ca_file: Option<PathBuf>,
    /// Registries without TLS.
    pub plain_http: Vec<String>,
}

/// Fetches what a layout lacks of these images, by full reference; returns those that are new.
pub fn pull(
    layout: &Path,
    references: &[String],
    architecture: &str,
    ways: &Ways,
    progress: &mut Progress,
) -> Result<Vec<String>, Error> {
    let access = access(ways)?;
    let mut fetched = Vec::new();
    for reference in references {
        if is_wanted(layout, reference)? && one(layout, reference, architecture, &access, progress)? {
            fetched.push(reference.clone());
        }
    }
    Ok(fetched)
}

fn access(ways: &Ways) -> Result<Access, Error> {
    let fetch =
        fetch::Options { ca_file: ways.ca_file.clone(), patience: Duration::from_secs(60), ..Default::default() };
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".docker/config.json"));
    let file = ways.authfile.clone().or_else(|| home().filter(|path| path.exists()));
    let credentials = file.map(|file| registry::credentials(&file)).transpose();
    let credentials = credentials.map_err(|error| Error::Credentials(Box::new(error)))?.unwrap_or_default();
    Ok(Access { fetch, credentials, plain_http: ways.plain_http.clone() })
}

fn is_wanted(layout: &Path, reference: &str) -> Result<bool, Error> {
    let index = Layout::new(layout).index()?;
    let named = |entry: &&types::Descriptor| entry.annotations.get(REF_NAME).is_some_and(|name| name == reference);
    Ok(index.manifests.iter().find(named).is_none_or(|entry| entry.annotations.contains_key(PULLED)))
}

fn one(
    layout: &Path,
    reference: &str,
    architecture: &str,
    access: &Access,
    progress: &mut Progress,
) -> Result<bool, Error> {
    let failed = |source| Error::Registry { reference: reference.to_owned(), source: Box::new(source) };
    progress.step(&format!("asking for {reference}"));
    let parsed = Reference::parse(reference).map_err(failed)?;
    let mut repository = Repository::new(&parsed, access).map_err(failed)?;
    let image = repository.image(architecture).map_err(failed)?;
    let known = Layout::new(layout).index()?.manifests.iter().any(|entry| {
        entry.digest == image.digest && entry.annotations.get(REF_NAME).map(String::as_str) == Some(reference)
    });
    let mut new = !known;
    for blob in image.manifest.layers.iter().chain([&image.manifest.config]) {
        new |= fetch_blob(layout, reference, blob, &mut repository, progress)?;
    }
    let digest = image.digest.clone();
    output::write(&Layout::new(layout).blob_path(&digest)?, &image.bytes)?;
    let annotations = [(REF_NAME, reference), (IMAGE_NAME, reference), (PULLED, "true")];
    let entry = types::Descriptor {
        media_type: image.media_type,
        digest,
        size: image.bytes.len() as u64,
        platform: Some(Platform { architecture: architecture.to_owned(), os: "linux".to_owned() }),
        annotations: BTreeMap::from(annotations.map(|(name, value)| (name.to_owned(), value.to_owned()))),
    };
    write::enter(layout, reference, entry)?;
    Ok(new)
}

/// Fetches a blob that is not there; returns whether it was not.
fn fetch_blob(
    layout: &Path,
    reference: &str,
    blob: &Descriptor,
    repository: &mut Repository,
    progress: &mut Progress,
) -> Result<bool, Error> {
    let path = Layout::new(layout).blob_path(&blob.digest)?;
    if path.metadata().is_ok_and(|metadata| metadata.len() == blob.size) {
        return Ok(false);
    }
    let failed = |source| Error::Registry { reference: reference.to_owned(), source: Box::new(source) };
    let mut stream = repository.blob(blob).map_err(failed)?;
    output::write_with(&path, |out| {
        let broken = |source| Error::Blob { reference: reference.to_owned(), digest: blob.digest.clone(), source };
        let (mut buffer, mut done) = (vec![0; 1 << 17], 0);
        loop {
            let read = stream.read(&mut buffer).map_err(broken)?;
            if read == 0 {
                return Ok::<_, Error>(());
            }
            out.write_all(&buffer[..read]).map_err(broken)?;
            done += read as u64;
            progress.bytes(&format!("pulling {reference}"), done, blob.size);
        }
    })?;
    Ok(true)
}
