//! What DHCP gave a machine, as the network service leaves it for others to read.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::mac::Mac;

/// The content of [`crate::paths::LEASE`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Lease {
    /// The kernel's name of the interface.
    pub interface: String,
    /// Its address.
    pub mac: Mac,
    /// What the server gave.
    pub address: Ipv4Addr,
    /// Bits of the network part.
    pub prefix: u8,
    /// The default route, if any.
    #[serde(default)]
    pub gateway: Option<Ipv4Addr>,
    /// In order of preference.
    #[serde(default)]
    pub dns: Vec<Ipv4Addr>,
    /// The name that the server gave.
    #[serde(default)]
    pub hostname: Option<String>,
    /// Who gave the lease.
    pub server: Ipv4Addr,
    /// Seconds it is good for.
    pub seconds: u32,
}
