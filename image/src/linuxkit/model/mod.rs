//! The YAML as it is written: every key of LinuxKit's schema, nothing resolved. An unknown key is an error.

mod container;
mod resources;

use serde::{Deserialize, Serialize};

pub use container::{BindNs, Container, Device, Mount, Runtime};
pub use resources::DeviceRule;

/// A whole file, or several merged.
#[derive(Clone, Default, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    /// The kernel and its modules.
    pub kernel: Kernel,
    /// Images unpacked over the root, in order.
    pub init: Vec<String>,
    /// Directories that containers share.
    pub volumes: Vec<Volume>,
    /// Run in order, each to its end, before the services.
    pub onboot: Vec<Container>,
    /// Run in order at the end.
    pub onshutdown: Vec<Container>,
    /// Run all at once, for ever.
    pub services: Vec<Container>,
    /// Added last, over everything.
    pub files: Vec<File>,
    /// Of old LinuxKit; without effect there too.
    #[serde(skip_serializing)]
    pub trust: Option<Trust>,
}

/// Where kernel and modules come from. Every key may stand in any of the files.
#[derive(Clone, Default, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kernel {
    /// An image with `kernel` and `kernel.tar`.
    pub image: String,
    /// Command line for boot loaders that take one from the build.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cmdline: String,
    /// Another name for `kernel`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binary: Option<String>,
    /// Another name for `kernel.tar`, or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tar: Option<String>,
    /// A microcode archive in the image, to come before the initramfs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ucode: Option<String>,
}

/// A directory that containers share, by name.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// What `binds` call it.
    pub name: String,
    /// What is in it at first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Nobody writes to it.
    #[serde(default)]
    pub readonly: bool,
    /// How the image lies in it.
    #[serde(default)]
    pub format: Format,
    /// Machines whose images an OCI layout shall hold, as `linux/amd64`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
}

/// How the image of a volume lies in it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Unpacked.
    #[default]
    Filesystem,
    /// As an OCI layout.
    Oci,
}

/// What old LinuxKit verified.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// Images.
    #[serde(default)]
    pub image: Vec<String>,
    /// Organisations.
    #[serde(default)]
    pub org: Vec<String>,
}

/// A user or group: a number, `root`, or the name of a container, which stands for the id that is its own.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Id {
    /// As it is.
    Number(u32),
    /// Of a container.
    Name(String),
}

/// A file, link or directory added to the finished tree.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Where.
    pub path: String,
    /// Its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<String>,
    /// A file of the host, relative to the YAML.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Target of a symbolic link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symlink: Option<String>,
    /// The merged YAML itself: `yaml` or `json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
    /// A directory.
    #[serde(default)]
    pub directory: bool,
    /// A source that may be missing.
    #[serde(default)]
    pub optional: bool,
    /// Octal, in quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<Id>,
    /// Group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<Id>,
}

/// In which language the merged YAML is put into the image.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Metadata {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}
