//! The YAML as it is written: every key we take, nothing resolved. An unknown key is an error.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// A whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// The kernel and its modules.
    pub kernel: Kernel,
    /// Images unpacked over the root, in order.
    #[serde(default)]
    pub init: Vec<String>,
    /// Run in order, each to its end, before the services.
    #[serde(default)]
    pub onboot: Vec<Container>,
    /// Run in order at the end.
    #[serde(default)]
    pub onshutdown: Vec<Container>,
    /// Run all at once, for ever.
    #[serde(default)]
    pub services: Vec<Container>,
    /// Added last, over everything.
    #[serde(default)]
    pub files: Vec<File>,
}

/// Where kernel and modules come from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// An image with `kernel` and `kernel.tar`.
    pub image: String,
    /// Command line for boot loaders that take one from the build.
    #[serde(default)]
    pub cmdline: String,
    /// Another name for `kernel`.
    #[serde(default)]
    pub binary: Option<String>,
    /// Another name for `kernel.tar`, or `none`.
    #[serde(default)]
    pub tar: Option<String>,
}

/// A container; also the shape of the label `org.mobyproject.config`, which has neither name nor image.
#[derive(Clone, Default, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Container {
    /// What its directory is called.
    pub name: Option<String>,
    /// Its root file system.
    pub image: Option<String>,
    /// Replaces entrypoint and command of the image.
    pub command: Option<Vec<String>>,
    /// Replaces the environment of the image.
    pub env: Option<Vec<String>>,
    /// Where it starts.
    pub cwd: Option<String>,
    /// `all`, `none`, or names as `CAP_NET_ADMIN`.
    pub capabilities: Option<Vec<String>>,
    /// More of them.
    #[serde(rename = "capabilities.add")]
    pub capabilities_add: Option<Vec<String>>,
    /// `source:destination[:options]`.
    pub binds: Option<Vec<String>>,
    /// More of them.
    #[serde(rename = "binds.add")]
    pub binds_add: Option<Vec<String>>,
    /// Mounts in the runtime specification's words.
    pub mounts: Option<Vec<Mount>>,
    /// `destination[:options]`.
    pub tmpfs: Option<Vec<String>>,
    /// Nodes, or `all`.
    pub devices: Option<Vec<Device>>,
    /// `host`, `new`, or a path.
    pub net: Option<String>,
    /// `host`, `new`, or a path.
    pub pid: Option<String>,
    /// `host`, `new`, or a path.
    pub ipc: Option<String>,
    /// `host`, `new`, or a path.
    pub uts: Option<String>,
    /// Of a new UTS name space.
    pub hostname: Option<String>,
    /// No overlay over the root file system.
    pub readonly: Option<bool>,
    /// `shared`, `slave`, `private`.
    pub rootfs_propagation: Option<String>,
    /// `name,soft[,hard]`.
    pub rlimits: Option<Vec<String>>,
    /// Of its name spaces.
    pub sysctl: Option<BTreeMap<String, String>>,
    /// Limits in the runtime specification's words.
    pub resources: Option<Value>,
    /// Number of the user.
    pub uid: Option<u32>,
    /// Number of the group.
    pub gid: Option<u32>,
    /// Its control group.
    pub cgroups_path: Option<String>,
    /// Of the process.
    pub oom_score_adj: Option<i32>,
    /// No new privileges by exec.
    pub no_new_privileges: Option<bool>,
    /// Free text for init.
    pub annotations: Option<BTreeMap<String, String>>,
    /// What init prepares before the container runs.
    pub runtime: Option<Runtime>,
}

/// A mount in the runtime specification's words.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Where to.
    pub destination: String,
    /// File system; empty for binds and remounts.
    #[serde(rename = "type", default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// What.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// How.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// A device, or the permission for all of a kind.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// `/dev/...`, or `all`.
    pub path: String,
    /// `b` or `c`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Major number of a node.
    #[serde(default)]
    pub major: i64,
    /// Minor number of a node.
    #[serde(default)]
    pub minor: i64,
    /// Octal mode of a node.
    #[serde(default)]
    pub mode: Option<String>,
}

/// What init prepares before the container runs.
#[derive(Clone, Default, Debug, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Runtime {
    /// Control groups to make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroups: Option<Vec<String>>,
    /// Mounts on the machine itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mounts: Option<Vec<Mount>>,
    /// Directories on the machine itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mkdir: Option<Vec<String>>,
    /// Network interfaces to move or make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interfaces: Option<Vec<Value>>,
    /// Name spaces to keep at a path.
    #[serde(rename = "bindNS", skip_serializing_if = "Option::is_none")]
    pub bind_ns: Option<BTreeMap<String, String>>,
    /// containerd's name space; we have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// A file, link or directory added to the finished tree.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Where.
    pub path: String,
    /// Its text.
    #[serde(default)]
    pub contents: Option<String>,
    /// A file of the host, relative to the YAML.
    #[serde(default)]
    pub source: Option<String>,
    /// Target of a symbolic link.
    #[serde(default)]
    pub symlink: Option<String>,
    /// A directory.
    #[serde(default)]
    pub directory: bool,
    /// A source that may be missing.
    #[serde(default)]
    pub optional: bool,
    /// Octal, in quotes.
    #[serde(default)]
    pub mode: Option<String>,
    /// Owner.
    #[serde(default)]
    pub uid: u32,
    /// Group.
    #[serde(default)]
    pub gid: u32,
}
