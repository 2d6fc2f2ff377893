//! What netboot knows of a machine, as the server tells it on every question. Nothing of it is kept here.

use std::net::Ipv4Addr;

use spec::{Mac, WorkerId};

/// The answer of [`Machines`] to a question about one interface of one machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// `namespace/name` of its Hardware.
    pub name: String,
    /// The interface that was asked about.
    pub mac: Mac,
    /// What DHCP gives it; none when the interface is not ours to address.
    pub lease: Option<Lease>,
    /// Whether it may be given boot files at all.
    pub allow_pxe: bool,
    /// `x86_64` or `aarch64`.
    pub arch: String,
    /// What its next boot is for.
    pub boot: Boot,
}

/// What DHCP gives an interface.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Reserved for it.
    pub address: Ipv4Addr,
    /// Of its network.
    pub netmask: Ipv4Addr,
    /// Its default route.
    pub gateway: Option<Ipv4Addr>,
    /// In order of preference.
    pub name_servers: Vec<Ipv4Addr>,
    /// NTP servers.
    pub time_servers: Vec<Ipv4Addr>,
    /// Its name, without a domain.
    pub hostname: Option<String>,
    /// Lease time; never 0.
    pub seconds: u32,
}

/// What the next boot is for.
#[derive(Clone, Debug)]
pub enum Boot {
    /// Into the installation environment.
    Installer(Installer),
    /// From its own disk.
    Disk {
        /// For the log and the machine's screen: `no workflow is waiting`.
        why: String,
    },
}

/// What the installation environment is told.
#[derive(Clone, Debug)]
pub struct Installer {
    /// Who the machine is to the workflow service.
    pub worker_id: WorkerId,
    /// Free text of the site, for stock environments.
    pub facility: Option<String>,
    /// Kernel arguments of this machine, after those of the site.
    pub extra_args: Vec<String>,
}

/// Where answers come from. Implemented by the server on a snapshot in memory; never blocks.
pub trait Machines: Send + Sync + 'static {
    /// The machine with this interface.
    fn by_mac(&self, mac: Mac) -> Option<Machine>;
    /// The machine whose reserved address this is.
    fn by_address(&self, address: Ipv4Addr) -> Option<Machine>;
}
