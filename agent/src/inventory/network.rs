//! Network cards, from `/sys/class/net`. What a card is able to do beyond its speed would have to be asked of its driver.

use serde::Serialize;

use super::Tree;

/// A network card's port.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// `eth0`, ...
    pub name: String,
    /// Its hardware address.
    pub mac: String,
    /// `1000Mb/s`; empty without a link.
    pub speed: String,
    /// The kernel's driver of it; not on the wire.
    pub driver: String,
    /// What is switched on of what the card can do.
    pub enabled_capabilities: Vec<String>,
}

pub(super) fn read(tree: &Tree) -> Vec<Network> {
    let port = |name: &String| {
        let at = |file: &str| format!("sys/class/net/{name}/{file}");
        // Bridges, bonds, tunnels and the loopback have no device below them.
        tree.path(&at("device")).exists().then(|| Network {
            name: name.clone(),
            mac: tree.text(&at("address")).to_ascii_lowercase(),
            speed: tree.number(&at("speed")).map(|speed| format!("{speed}Mb/s")).unwrap_or_default(),
            driver: tree.link_name(&at("device/driver")),
            enabled_capabilities: Vec::new(),
        })
    };
    tree.names("sys/class/net").iter().filter_map(port).collect()
}
