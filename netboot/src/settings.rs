//! What the site decides, and the URLs that follow from it. Replaced as a whole when the site decides otherwise; a
//! service takes the newest at every request, so that nothing under way is cut.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use spec::Mac;

use crate::rules::Rules;

/// Settings of all services.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The address that machines reach us at; the DHCP server's identity.
    pub address: Ipv4Addr,
    /// The interfaces that DHCP is answered on, each in its own way. A VLAN is the interface of its tag.
    pub interfaces: Vec<Interface>,
    /// Where the HTTP service listens.
    pub http_port: u16,
    /// `host:port` of the workflow service, for the kernel command line.
    pub grpc_authority: String,
    /// Whether the workflow service speaks TLS.
    pub grpc_tls: bool,
    /// Whether machines accept any certificate of the workflow service.
    pub grpc_insecure_tls: bool,
    /// Kernel arguments for every machine, before its own.
    pub kernel_args: Vec<String>,
    /// Holds `vmlinuz-<arch>` and `initramfs-<arch>`; served as `/misc/osie/current`.
    pub osie: PathBuf,
    /// Served as `/files`.
    pub files: PathBuf,
    /// Firmware of Raspberry Pis, served below their serial numbers.
    pub raspberry: Option<PathBuf>,
    /// Who may boot what.
    pub rules: Arc<Rules>,
    /// Loaders by architecture (option 93), in order, instead of the built-in ones.
    pub loaders: BTreeMap<u16, Vec<String>>,
    /// How long a loader may show no sign before the next in its list is offered.
    pub patience: Duration,
}

/// An interface and what DHCP does on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// The kernel's name.
    pub name: String,
    /// What we are there.
    pub mode: Mode,
    /// What machines there reach us at, when it is not the site's address.
    pub address: Option<Ipv4Addr>,
}

/// What DHCP does on an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Nothing.
    Off,
    /// Addresses and boot files, to machines that have a Hardware.
    #[default]
    Reservation,
    /// Boot files beside somebody else's DHCP, to machines that have a Hardware.
    Proxy,
    /// The same, to every machine: what an unknown one boots is said by the rules.
    Auto,
}

impl Mode {
    /// Whether addresses come from somebody else.
    pub const fn is_proxy(self) -> bool {
        matches!(self, Self::Proxy | Self::Auto)
    }
}

impl Settings {
    /// The interface of this name.
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|each| each.name == name)
    }

    /// The same site, as machines see it that reach us at another of our addresses.
    pub fn at(&self, address: Ipv4Addr) -> Self {
        let grpc_authority = match self.grpc_authority.rsplit_once(':') {
            Some((host, port)) if host == self.address.to_string() => format!("{address}:{port}"),
            _ => self.grpc_authority.clone(),
        };
        Self { address, grpc_authority, ..self.clone() }
    }

    /// Whether this is one of the addresses that machines are told.
    pub fn is_ours(&self, address: Ipv4Addr) -> bool {
        address == self.address || self.interfaces.iter().any(|each| each.address == Some(address))
    }

    /// Of a path that begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}:{}{path}", self.address, self.http_port)
    }

    /// Where a machine finds its boot script.
    pub fn script_url(&self, mac: Mac) -> String {
        self.url(&format!("/ipxe/script/{mac}/auto.ipxe"))
    }

    /// Where a machine finds a loader.
    pub fn loader_url(&self, mac: Mac, loader: &str) -> String {
        self.url(&format!("/ipxe/binary/{mac}/{loader}"))
    }
}
