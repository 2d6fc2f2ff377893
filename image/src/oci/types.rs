//! The JSON of OCI images, as far as we read and write it. Fields we do not know are left alone by readers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Of an image index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Of a manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Of an image's configuration.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Of an uncompressed layer.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// What kind of machine an image is for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Platform {
    /// Go's name: `amd64`, `arm64`.
    pub architecture: String,
    /// `linux`.
    pub os: String,
}

/// A reference to a blob.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: String,
    /// `sha256:` and 64 hex digits.
    pub digest: String,
    /// Length in bytes.
    pub size: u64,
    /// For entries of an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Names and the like.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A list of images: the layout's own, and that of one image for several platforms.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// 2.
    pub schema_version: u32,
    /// [`INDEX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Its entries.
    pub manifests: Vec<Descriptor>,
}

impl Index {
    /// An index of the given entries.
    pub fn of(manifests: Vec<Descriptor>) -> Self {
        Self { schema_version: 2, media_type: Some(INDEX.into()), manifests }
    }
}

/// An image for one platform.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// 2.
    pub schema_version: u32,
    /// [`MANIFEST`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// Layers, the lowest first.
    pub layers: Vec<Descriptor>,
}

/// An image's configuration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ImageConfig {
    /// Go's name of the machine.
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// How to run it.
    #[serde(default)]
    pub config: RunConfig,
    /// Digests of the uncompressed layers.
    pub rootfs: RootFs,
}

/// How an image wants to be run.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunConfig {
    /// Program and first arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Arguments that a command replaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// `NAME=value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// Where it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// What it says of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
}

/// The layers by their uncompressed digests.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// One a layer.
    pub diff_ids: Vec<String>,
}
