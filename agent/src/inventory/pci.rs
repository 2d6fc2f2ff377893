//! What is on the PCI buses, from `/sys/bus/pci`. Makers and products are numbers: the names of all of them would be
//! larger than the agent; of classes the few that PCI itself names are given.

use serde::Serialize;

use super::Tree;

/// A PCI device.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pci {
    /// Four hex digits.
    pub vendor: String,
    /// Four hex digits.
    pub product: String,
    /// As PCI calls the base class, or its two hex digits.
    pub class: String,
    /// The kernel's driver of it; empty without.
    pub driver: String,
}

const DISPLAY: &str = "Display controller";
const CLASSES: [(&str, &str); 16] = [
    ("01", "Mass storage controller"),
    ("02", "Network controller"),
    ("03", DISPLAY),
    ("04", "Multimedia controller"),
    ("05", "Memory controller"),
    ("06", "Bridge"),
    ("07", "Communication controller"),
    ("08", "Generic system peripheral"),
    ("09", "Input device controller"),
    ("0b", "Processor"),
    ("0c", "Serial bus controller"),
    ("0d", "Wireless controller"),
    ("0e", "Intelligent controller"),
    ("10", "Encryption controller"),
    ("11", "Signal processing controller"),
    ("12", "Processing accelerators"),
];

impl Pci {
    /// Whether it is for a screen.
    pub fn is_display(&self) -> bool {
        self.class == DISPLAY
    }
}

pub(super) fn read(tree: &Tree) -> Vec<Pci> {
    let device = |address: &String| {
        let hex = |file: &str| {
            tree.text(&format!("sys/bus/pci/devices/{address}/{file}")).trim_start_matches("0x").to_owned()
        };
        let class: String = hex("class").chars().take(2).collect();
        let named = CLASSES.iter().find(|(number, _)| *number == class).map(|(_, name)| (*name).to_owned());
        Pci {
            vendor: hex("vendor"),
            product: hex("device"),
            class: named.unwrap_or(class),
            driver: tree.link_name(&format!("sys/bus/pci/devices/{address}/driver")),
        }
    };
    tree.names("sys/bus/pci/devices").iter().map(device).collect()
}
