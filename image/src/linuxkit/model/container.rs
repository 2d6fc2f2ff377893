//! A container as it is written, in the YAML and in the label `org.mobyproject.config`: every key we take, nothing
//! resolved. An unknown key is an error.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Id;
use super::resources::Resources;

/// A container; also the shape of the label `org.mobyproject.config`, which has neither name nor image.
#[derive(Clone, Default, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Container {
    /// What its directory is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its root file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Replaces entrypoint and command of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Replaces the environment of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// Where it starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// `all`, `none`, or names as `CAP_NET_ADMIN`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<String>>,
    /// More of them.
    #[serde(rename = "capabilities.add", skip_serializing_if = "Option::is_none")]
    pub capabilities_add: Option<Vec<String>>,
    /// Those that programs without file capabilities keep over exec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ambient: Option<Vec<String>>,
    /// `source:destination[:options]`; a source without a slash is a volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binds: Option<Vec<String>>,
    /// More of them.
    #[serde(rename = "binds.add", skip_serializing_if = "Option::is_none")]
    pub binds_add: Option<Vec<String>>,
    /// Mounts in the runtime specification's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mounts: Option<Vec<Mount>>,
    /// `destination[:options]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs: Option<Vec<String>>,
    /// Nodes, or `all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub devices: Option<Vec<Device>>,
    /// `host`, `new`, or a path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub net: Option<String>,
    /// `host`, `new`, or a path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<String>,
    /// `host`, `new`, or a path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipc: Option<String>,
    /// `host`, `new`, or a path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uts: Option<String>,
    /// `host`, `new`, or a path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub userns: Option<String>,
    /// Of a new UTS name space.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// No overlay over the root file system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readonly: Option<bool>,
    /// Paths that read as nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masked_paths: Option<Vec<String>>,
    /// Paths that cannot be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readonly_paths: Option<Vec<String>>,
    /// `shared`, `slave`, `private`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rootfs_propagation: Option<String>,
    /// `name,soft,hard`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rlimits: Option<Vec<String>>,
    /// Of its name spaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sysctl: Option<BTreeMap<String, String>>,
    /// Limits in the runtime specification's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// The user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<Id>,
    /// The group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<Id>,
    /// More groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub additional_gids: Option<Vec<Id>>,
    /// Users of a new user name space.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid_mappings: Option<Vec<IdMapping>>,
    /// Groups of a new user name space.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid_mappings: Option<Vec<IdMapping>>,
    /// Its control group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroups_path: Option<String>,
    /// Of the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// No new privileges by exec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_new_privileges: Option<bool>,
    /// Free text for init.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// What init prepares before the container runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
}

/// A mount in the runtime specification's words.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Where to; may be left out where the kind says it.
    #[serde(default)]
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
    /// Users of an idmapped mount.
    #[serde(
        rename(deserialize = "uidmappings", serialize = "uidMappings"),
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub uid_mappings: Vec<IdMapping>,
    /// Groups of an idmapped mount.
    #[serde(
        rename(deserialize = "gidmappings", serialize = "gidMappings"),
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    pub gid_mappings: Vec<IdMapping>,
}

/// A range of ids outside and inside a container.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IdMapping {
    /// First id outside.
    #[serde(rename = "hostID")]
    pub host: u32,
    /// First id inside.
    #[serde(rename = "containerID")]
    pub container: u32,
    /// How many.
    pub size: u32,
}

/// A device, or the permission for all of a kind.
#[derive(Clone, Debug, Deserialize, Serialize)]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
}

/// What init prepares before the container runs.
#[derive(Clone, Default, Debug, Deserialize, Serialize)]
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
    pub interfaces: Option<Vec<Interface>>,
    /// Name spaces to keep at a path.
    #[serde(rename = "bindNS", skip_serializing_if = "Option::is_none")]
    pub bind_ns: Option<BindNs>,
    /// containerd's name space; we have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// A network interface of a container.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// Its name inside.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What kind to make.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub add: String,
    /// The other end of a veth pair.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub peer: String,
    /// Make it on the machine and then move it.
    #[serde(default, rename = "createInRoot")]
    pub create_in_root: bool,
}

/// Where name spaces are kept, by kind.
#[derive(Clone, Default, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct BindNs {
    /// Control groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// Interprocess communication.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipc: Option<String>,
    /// Mounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mnt: Option<String>,
    /// Network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub net: Option<String>,
    /// Processes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<String>,
    /// Users.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Host and domain name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uts: Option<String>,
}
