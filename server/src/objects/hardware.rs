//! The parts of a Hardware that the server uses. Names are literal, snake_case in `dhcp` included (wire §12.35).

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use spec::Mac;

use crate::workflow::canonical_worker;

/// `Hardware.spec`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HardwareSpec {
    /// Who its worker is, when that is not the MAC address.
    #[serde(rename = "agentID", skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// Its network interfaces.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub interfaces: Vec<Interface>,
    /// Its disks.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub disks: Vec<Disk>,
    /// What it is told about itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
    /// For the operating system's first boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_data: Option<String>,
    /// For the operating system's first boot, from the site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor_data: Option<String>,
}

/// A disk.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Disk {
    /// Its path, as the installation environment sees it.
    pub device: String,
}

/// A network interface.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Interface {
    /// Whether and what it boots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netboot: Option<Netboot>,
    /// What DHCP gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dhcp: Option<Dhcp>,
    /// Virtual media of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isoboot: Option<Isoboot>,
    /// Not ours to address.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub disable_dhcp: bool,
}

/// Whether and what an interface boots.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Netboot {
    /// False unless said otherwise.
    #[serde(rename = "allowPXE", skip_serializing_if = "Option::is_none")]
    pub allow_pxe: Option<bool>,
    /// Kept, without effect (wire §12.38).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_workflow: Option<bool>,
    /// Another installation environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub osie: Option<Osie>,
    /// An iPXE script or loader of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipxe: Option<Ipxe>,
    /// A pxelinux configuration of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pxelinux: Option<Pxelinux>,
}

/// What an interface boots instead of the installation environment.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ipxe {
    /// A script to be chained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The script itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contents: Option<String>,
    /// The loader to be sent to first; several, separated by commas, are tried in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binary: Option<String>,
}

/// For clients that run pxelinux.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Pxelinux {
    /// The file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
}

/// Virtual media of a machine.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Isoboot {
    /// An existing ISO with the placeholder.
    #[serde(rename = "sourceISO", skip_serializing_if = "Option::is_none")]
    pub source_iso: Option<String>,
}

/// What differs in the installation environment of this machine.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Osie {
    /// Where kernel and initramfs are.
    #[serde(rename = "baseURL", skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// The kernel's name there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// The initramfs' name there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initrd: Option<String>,
    /// After the kernel arguments of the site.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub kernel_params: Vec<String>,
}

/// What DHCP gives an interface.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Dhcp {
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// The machine's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Seconds; 0 and absent mean a day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_time: Option<i64>,
    /// DNS.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub name_servers: Vec<IpAddr>,
    /// NTP; names are possible, only addresses travel in DHCP.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub time_servers: Vec<String>,
    /// `x86_64` or `aarch64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// Whether it boots by UEFI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uefi: Option<bool>,
    /// As the operator calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iface_name: Option<String>,
    /// The tag of its VLAN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan_id: Option<String>,
    /// Reserved for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<Ip>,
}

/// A reserved address.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Ip {
    /// The address.
    pub address: IpAddr,
    /// Of its network.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "blank_is_none")]
    pub netmask: Option<IpAddr>,
    /// The default route.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "blank_is_none")]
    pub gateway: Option<IpAddr>,
}

/// What a machine is told about itself.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// As the facility sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facility: Option<BTreeMap<String, Value>>,
    /// As its tenant sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<Instance>,
}

/// The machine as its tenant sees it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Instance {
    /// Its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// What its owner is at: `provisioning`, `active`; netboot's rules can ask for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The environment at every boot, whether or not a workflow waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub always_pxe: Option<bool>,
    /// What it boots instead of the environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipxe_script_url: Option<String>,
    /// Free words.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub tags: Vec<String>,
    /// Public keys for its first user.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub ssh_keys: Vec<String>,
    /// Its addresses.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub ips: Vec<InstanceIp>,
    /// `slug`, `distro`, `version`, `image_tag`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operating_system: Option<BTreeMap<String, Value>>,
    /// For the rootio actions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<Value>,
}

/// One address of an instance.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceIp {
    /// The address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Of its network.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "blank_is_none")]
    pub netmask: Option<IpAddr>,
    /// The default route.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "blank_is_none")]
    pub gateway: Option<IpAddr>,
    /// 4 or 6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<i64>,
    /// Reachable from outside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public: Option<bool>,
}

impl HardwareSpec {
    /// The machine as its tenant has it.
    pub fn instance(&self) -> Option<&Instance> {
        self.metadata.as_ref()?.instance.as_ref()
    }

    /// Who the worker of this machine can say it is.
    pub fn worker_ids(&self) -> Vec<String> {
        let macs = self.interfaces.iter().filter_map(|i| i.dhcp.as_ref()?.mac).map(|mac| mac.to_string());
        let instance = self.instance().and_then(|i| i.id.clone());
        macs.chain(self.agent_id.iter().chain(&instance).map(|id| canonical_worker(id))).collect()
    }
}

fn null_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::<Vec<T>>::deserialize(from)?.unwrap_or_default())
}

fn blank_is_none<'de, D: Deserializer<'de>>(from: D) -> Result<Option<IpAddr>, D::Error> {
    match Option::<String>::deserialize(from)?.filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => {
            text.parse().map(Some).map_err(|_| serde::de::Error::custom(format_args!("{text:?} is no IP address")))
        }
    }
}
