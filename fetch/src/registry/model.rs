//! The JSON of registries as far as a reader needs it; what else is there is left alone.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What kinds of manifest we accept, for the header of that name.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// What kind of machine an image is for.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Platform {
    /// Go's name: `amd64`, `arm64`.
    pub architecture: String,
    /// `linux`.
    pub os: String,
}

/// A reference to bytes in the same repository.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What they are.
    #[serde(default)]
    pub media_type: String,
    /// `sha256:` and 64 hex digits.
    pub digest: String,
    /// How many.
    pub size: u64,
    /// Of an entry of an index.
    #[serde(default)]
    pub platform: Option<Platform>,
    /// Names and the like.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Index {
    pub(crate) manifests: Vec<Descriptor>,
}

/// An image for one platform, or an artifact.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The configuration.
    pub config: Descriptor,
    /// Layers of an image, the lowest first; files of an artifact.
    pub layers: Vec<Descriptor>,
    /// What an artifact is.
    #[serde(default)]
    pub artifact_type: Option<String>,
    /// Names and the like.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// The part of an image's configuration that says for which machine it is.
#[derive(Debug, Deserialize)]
pub(crate) struct Machine {
    pub(crate) architecture: String,
}

#[derive(Deserialize)]
pub(crate) struct Token {
    #[serde(default)]
    pub(crate) token: String,
    #[serde(default)]
    pub(crate) access_token: String,
}

#[derive(Deserialize)]
pub(crate) struct Refusal {
    #[serde(default)]
    pub(crate) errors: Vec<RefusalEntry>,
}

#[derive(Deserialize)]
pub(crate) struct RefusalEntry {
    #[serde(default)]
    pub(crate) code: String,
    #[serde(default)]
    pub(crate) message: String,
}
