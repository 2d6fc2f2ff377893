//! Reading from an OCI registry: a name becomes a manifest for a machine, a manifest's blobs become streams whose
//! digest is checked. Anonymous, by password or by token. Must not unpack, cache or push.
//!
//! ```no_run
//! use std::io::Read as _;
//! let reference = fetch::registry::Reference::parse("quay.io/tinkerbell/actions/image2disk:latest")?;
//! let mut repository = fetch::registry::Repository::new(&reference, &fetch::registry::Access::default())?;
//! let image = repository.image("amd64")?;
//! for layer in &image.manifest.layers {
//!     let mut bytes = Vec::new();
//!     repository.blob(layer)?.read_to_end(&mut bytes)?;
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod authfile;
mod blob;
mod challenge;
mod error;
mod login;
mod model;
mod reference;

use std::io::Read;

use reqwest::StatusCode;
use reqwest::blocking;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use spec::Secret;

use crate::backoff::Backoff;
use crate::body;
use crate::client::Client;
use crate::{Options, Ranged};

pub use authfile::credentials;
pub use blob::Blob;
pub use error::Error;
pub use model::{Descriptor, Manifest, Platform};
pub use reference::Reference;

use model::Machine;

/// The longest manifest, index or configuration; what registries themselves allow.
const DOCUMENT: u64 = 4 << 20;

/// Who asks, and how.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Time limits, certificate authorities, proxies.
    pub fetch: Options,
    /// At most one is used: the one whose host is exactly the registry's as the name has it (`docker.io`,
    /// `registry:5000`).
    pub credentials: Vec<Credential>,
    /// Registries that speak HTTP without TLS, by exactly the same word.
    pub plain_http: Vec<String>,
}

/// A user of a registry.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The registry.
    pub host: String,
    /// The user.
    pub user: String,
    /// His password or token.
    pub password: Secret,
}

/// An image for one machine, or an artifact.
#[derive(Clone, Debug)]
pub struct Image {
    /// The manifest's own digest.
    pub digest: String,
    /// What the registry calls the manifest.
    pub media_type: String,
    /// The manifest as it came, for whoever stores it.
    pub bytes: Vec<u8>,
    /// What it says.
    pub manifest: Manifest,
}

/// A repository of a registry, and what we are allowed to read there.
#[derive(Debug)]
pub struct Repository {
    reference: Reference,
    access: Access,
    client: Client,
    authorization: Option<HeaderValue>,
}

impl Repository {
    /// The repository of a name; asks nothing yet.
    pub fn new(reference: &Reference, access: &Access) -> Result<Self, Error> {
        let plain = access.plain_http.iter().any(|host| host == reference.host());
        let scheme = if plain { "http" } else { "https" };
        let base = format!("{scheme}://{}/v2/{}/", reference.api_host(), reference.path());
        let client = Client::new(&base, &access.fetch)?;
        Ok(Self { reference: reference.clone(), access: access.clone(), client, authorization: None })
    }

    /// The image of the name for a machine, by Go's name of it. One for another machine is an error.
    pub fn image(&mut self, architecture: &str) -> Result<Image, Error> {
        let (bytes, media_type, digest) = self.manifest(self.reference.wanted().to_owned(), None)?;
        if !is_index(&media_type) {
            let image = self.parsed(bytes, media_type, digest)?;
            let kind = &image.manifest.config.media_type;
            if kind.ends_with("container.image.v1+json") || kind.ends_with("image.config.v1+json") {
                let configuration = self.document(&image.manifest.config)?;
                let machine: Machine = self.json("the configuration", &configuration)?;
                if machine.architecture != architecture {
                    return Err(self.wrong(machine.architecture, architecture));
                }
            }
            return Ok(image);
        }
        let index: model::Index = self.json("the index", &bytes)?;
        let mut found = Vec::new();
        for entry in index.manifests {
            match &entry.platform {
                Some(platform) if platform.os == "linux" && platform.architecture == architecture => {
                    let (bytes, media_type, digest) = self.manifest(entry.digest.clone(), Some(&entry))?;
                    return self.parsed(bytes, media_type, digest);
                }
                Some(platform) => found.push(format!("{}/{}", platform.os, platform.architecture)),
                None => found.push("a machine it does not name".into()),
            }
        }
        Err(self.wrong(found.join(", "), architecture))
    }

    /// The artifact of the name: a manifest for no machine in particular. An index is an error.
    pub fn artifact(&mut self) -> Result<Image, Error> {
        let (bytes, media_type, digest) = self.manifest(self.reference.wanted().to_owned(), None)?;
        self.parsed(bytes, media_type, digest)
    }

    /// A small blob whole, checked: a configuration.
    pub fn document(&mut self, blob: &Descriptor) -> Result<Vec<u8>, Error> {
        if blob.size > DOCUMENT {
            return Err(self.too_large("a document"));
        }
        let mut bytes = Vec::new();
        self.blob(blob)?.read_to_end(&mut bytes).map_err(|error| self.of_read(error))?;
        Ok(bytes)
    }

    /// A blob as a stream; broken transfers are taken up again, and its end is only read when its digest fits.
    pub fn blob(&mut self, blob: &Descriptor) -> Result<Blob, Error> {
        if !reference::is_sha256(&blob.digest) {
            return Err(self.digest_kind(&blob.digest));
        }
        let (client, response) = self.get(&format!("blobs/{}", blob.digest), "*/*")?;
        let body = body::start(client, response).reader;
        Ok(Blob::new(body, self.reference.to_string(), blob.clone()))
    }

    /// A blob that is read in any order, by ranges. Nothing checks its digest: whoever reads it so has read it whole
    /// before, and compares.
    pub fn ranged(&mut self, blob: &Descriptor) -> Result<Ranged, Error> {
        if !reference::is_sha256(&blob.digest) {
            return Err(self.digest_kind(&blob.digest));
        }
        let (client, response) = self.get(&format!("blobs/{}", blob.digest), "*/*")?;
        Ok(Ranged::begin(body::start(client, response))?)
    }

    fn manifest(&mut self, wanted: String, named: Option<&Descriptor>) -> Result<(Vec<u8>, String, String), Error> {
        if wanted.contains(':') && !reference::is_sha256(&wanted) {
            return Err(self.digest_kind(&wanted));
        }
        let (client, response) = self.get(&format!("manifests/{wanted}"), model::ACCEPT)?;
        let header = response.headers().get(reqwest::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let header = header.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_owned();
        let mut bytes = Vec::new();
        let body = body::start(client, response).reader;
        body.take(DOCUMENT + 1).read_to_end(&mut bytes).map_err(|error| self.of_read(error))?;
        if bytes.len() as u64 > DOCUMENT {
            return Err(self.too_large("the manifest"));
        }
        let actual = format!("sha256:{}", hex(&Sha256::digest(&bytes)));
        let size = named.map_or(bytes.len() as u64, |named| named.size);
        if (wanted.contains(':') && wanted != actual) || size != bytes.len() as u64 {
            let (reference, got) = (self.reference.to_string(), bytes.len() as u64);
            return Err(Error::Digest { reference, digest: wanted, actual, got, size });
        }
        Ok((bytes, header, actual))
    }

    fn parsed(&self, bytes: Vec<u8>, media_type: String, digest: String) -> Result<Image, Error> {
        let known = ["image.manifest.v1+json", "distribution.manifest.v2+json"];
        if !known.iter().any(|kind| media_type.ends_with(kind)) {
            return Err(Error::MediaType { reference: self.reference.to_string(), media_type });
        }
        let manifest = self.json("the manifest", &bytes)?;
        Ok(Image { digest, media_type, bytes, manifest })
    }

    /// Asks for something below the repository; who we are is told when the registry wants to know it, once.
    fn get(&mut self, path: &str, accept: &'static str) -> Result<(Client, blocking::Response), Error> {
        let mut told = false;
        loop {
            let mut headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            headers.extend(self.authorization.clone().map(|value| (AUTHORIZATION, value)));
            let client = self.client.below(path, headers)?;
            let response = body::answer(&client, &mut Backoff::new(self.access.fetch.patience))?;
            match response.status() {
                StatusCode::OK => return Ok((client, response)),
                StatusCode::UNAUTHORIZED if !told => {
                    told = true;
                    self.log_in(&response)?;
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(self.unauthorized()),
                StatusCode::NOT_FOUND => return Err(Error::NotFound { reference: Box::new(self.reference.clone()) }),
                status => return Err(self.refused(path, status, response)),
            }
        }
    }

    fn log_in(&mut self, response: &blocking::Response) -> Result<(), Error> {
        let host = self.reference.host();
        let headers = response.headers().get_all(WWW_AUTHENTICATE);
        let texts: Vec<&str> = headers.iter().filter_map(|value| value.to_str().ok()).collect();
        let challenge = challenge::parse(texts.iter().copied()).ok_or_else(|| Error::Challenge {
            host: host.to_owned(),
            challenge: texts.join(", ").chars().take(200).collect(),
        })?;
        let credential = self.access.credentials.iter().find(|credential| credential.host == host);
        let header = login::authorization(&challenge, credential, &self.client, &self.reference)?;
        self.authorization = Some(header.ok_or_else(|| self.unauthorized())?);
        Ok(())
    }

    fn unauthorized(&self) -> Error {
        let known = self.access.credentials.iter().any(|credential| credential.host == self.reference.host());
        let why = if known { "the credentials for it were refused" } else { "no credentials for it were given" };
        let (host, repository) = (self.reference.host().to_owned(), self.reference.path().to_owned());
        Error::Unauthorized { host, repository, why }
    }

    fn refused(&self, path: &str, status: StatusCode, response: blocking::Response) -> Error {
        let mut text = Vec::new();
        // Only for the message: what cannot be read is left out.
        let _ = response.take(64 << 10).read_to_end(&mut text);
        let first =
            serde_json::from_slice::<model::Refusal>(&text).ok().and_then(|refusal| refusal.errors.into_iter().next());
        let message = first.map(|first| format!("{} {}", first.code, first.message)).unwrap_or_default();
        let message = message.chars().filter(|c| !c.is_control()).take(200).collect::<String>().trim().to_owned();
        let what = format!("{}/{path}", self.reference.path());
        Error::Status { host: self.reference.host().to_owned(), what, status: status.as_u16(), message }
    }

    fn json<T: DeserializeOwned>(&self, what: &'static str, bytes: &[u8]) -> Result<T, Error> {
        let reference = self.reference.to_string();
        serde_json::from_slice(bytes).map_err(|source| Error::Malformed { what, reference, source })
    }

    fn too_large(&self, what: &'static str) -> Error {
        Error::TooLarge { what, reference: self.reference.to_string(), limit: DOCUMENT }
    }

    fn digest_kind(&self, digest: &str) -> Error {
        Error::DigestKind { reference: self.reference.to_string(), digest: digest.chars().take(200).collect() }
    }

    fn wrong(&self, found: String, wanted: &str) -> Error {
        Error::Architecture { reference: self.reference.to_string(), found, wanted: wanted.to_owned() }
    }

    /// An I/O error of a body is one of ours inside.
    fn of_read(&self, error: std::io::Error) -> Error {
        match error.downcast::<Error>() {
            Ok(own) => own,
            Err(error) => Error::Fetch(error.downcast::<crate::Error>().unwrap_or_else(|error| {
                crate::Error::Connect { url: self.reference.to_string(), source: error.into() }
            })),
        }
    }
}

fn is_index(media_type: &str) -> bool {
    media_type.ends_with("image.index.v1+json") || media_type.ends_with("manifest.list.v2+json")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
