//! Who asks for a file or a script: by the MAC address in its path, by the address it asks from, or by what the
//! kernel's neighbour table says of that address. Asks the rules for it; keeps nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use spec::activity::What;
use spec::{Mac, Secret};

use crate::rules::{Decision, Subject};
use crate::script::Boot;
use crate::{Facts, History, Machine, Netboot, Settings};

/// A client of TFTP or HTTP.
pub(crate) struct Asker {
    pub netboot: Netboot,
    /// Of the site, as this client reaches it.
    pub settings: Arc<Settings>,
    pub peer: SocketAddr,
    pub mac: Option<Mac>,
    pub machine: Option<Arc<Machine>>,
    pub history: History,
}

impl Asker {
    /// `mac`: said by the client, and believed; else it is looked up.
    pub(crate) fn new(netboot: Netboot, peer: SocketAddr, mac: Option<Mac>) -> Self {
        let settings = netboot.settings();
        let address = v4(peer);
        let known = || address.and_then(|address| netboot.machines.by_address(address));
        let machine = match mac {
            Some(mac) => netboot.machines.by_mac(mac),
            None => known().or_else(|| netboot.machines.by_mac(neighbour(address?)?)),
        };
        let mac = mac.or_else(|| machine.as_ref().map(|machine| machine.mac)).or_else(|| neighbour(address?));
        let mut history = mac.map(|mac| netboot.machines.history(mac)).unwrap_or_default();
        history.facts.learn(Facts { mac, address, ..Facts::default() });
        Self { netboot, settings, peer, mac, machine, history }
    }

    /// Told under another of our addresses, as the client's own request says it.
    pub(crate) fn reached_at(mut self, address: Option<Ipv4Addr>) -> Self {
        if let Some(address) = address.filter(|a| *a != self.settings.address && self.settings.is_ours(*a)) {
            self.settings = Arc::new(self.settings.at(address));
        }
        self
    }

    /// What the rules say, and why.
    pub(crate) fn decide(&self) -> Decision {
        self.settings.rules.decide(Subject { machine: self.machine.as_deref(), history: &self.history })
    }

    /// All that a script is made of.
    pub(crate) fn boot<'a>(&'a self, mac: Mac, ticket: Option<&'a Secret>) -> Boot<'a> {
        Boot { mac, machine: self.machine.as_deref(), history: &self.history, settings: &self.settings, ticket }
    }

    /// Remembered by the server, so that metadata finds the machine where we never gave it the address.
    pub(crate) fn remember(&self) {
        if let (Some(mac), Some(address)) = (self.mac, v4(self.peer)) {
            self.netboot.sink.facts(mac, Facts { mac: Some(mac), address: Some(address), ..Facts::default() });
        }
    }

    pub(crate) fn name(&self) -> Option<String> {
        self.machine.as_ref().map(|machine| machine.name.clone())
    }

    pub(crate) fn emit(&self, what: What) {
        self.netboot.sink.emit(self.mac, self.name(), what);
    }
}

pub(crate) fn v4(peer: SocketAddr) -> Option<Ipv4Addr> {
    match peer.ip().to_canonical() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// What the kernel knows of a neighbour; clients behind a relay are none.
fn neighbour(address: Ipv4Addr) -> Option<Mac> {
    if address.is_loopback() {
        return None;
    }
    in_table(&std::fs::read_to_string("/proc/net/arp").ok()?, address)
}

fn in_table(table: &str, address: Ipv4Addr) -> Option<Mac> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let found = fields.next()?.parse() == Ok(address);
        // The third is the flags: 0x0 is a neighbour that has not answered.
        let mac = fields.nth(2)?;
        mac.parse().ok().filter(|mac: &Mac| found && mac.octets() != [0; 6])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbour_is_read_from_the_kernels_table() {
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
                     10.0.0.9         0x1         0x0         00:00:00:00:00:00     *        br0\n\
                     10.0.0.5         0x1         0x2         52:54:00:00:00:01     *        br0\n";
        assert_eq!(in_table(table, Ipv4Addr::new(10, 0, 0, 5)), Some(crate::tests::MAC));
        assert_eq!(in_table(table, Ipv4Addr::new(10, 0, 0, 9)), None);
        assert_eq!(in_table("", Ipv4Addr::new(10, 0, 0, 5)), None);
    }
}
