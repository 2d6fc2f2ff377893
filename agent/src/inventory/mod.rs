//! What this machine is, as the newer protocol's agent attributes have it: read from sysfs, procfs and DMI below a root, so
//! that recorded trees are read as machines are. No device is opened, nothing is written.

mod block;
pub mod devices;
mod firmware;
mod network;
mod pci;
mod processor;
mod wire;

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

pub use block::Block;
pub use firmware::{Baseboard, Bios, Chassis, Product};
pub use network::Network;
pub use pci::Pci;
pub use processor::{Cpu, Memory};
pub use wire::encoded;

/// More than any attribute has; files of procfs may be larger.
const MOST: u64 = 4 << 20;

/// A machine.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// Its processors.
    pub cpu: Cpu,
    /// Its memory.
    pub memory: Memory,
    /// Its disks, in order of name; loop devices and what is made of disks left out.
    pub block: Vec<Block>,
    /// Its network cards, in order of name; virtual ones left out.
    pub network: Vec<Network>,
    /// What is on its PCI buses, in order of address.
    pub pci: Vec<Pci>,
    /// Those of them that are display controllers.
    pub gpu: Vec<Pci>,
    /// Its case.
    pub chassis: Chassis,
    /// Its firmware.
    pub bios: Bios,
    /// Its main board.
    pub baseboard: Baseboard,
    /// Itself.
    pub product: Product,
}

/// Reads the machine whose root file system this is: `/` for this one.
pub fn read(root: &Path) -> Inventory {
    let tree = Tree(root.to_owned());
    let pci = pci::read(&tree);
    Inventory {
        cpu: processor::cpu(&tree),
        memory: processor::memory(&tree),
        block: block::read(&tree),
        network: network::read(&tree),
        gpu: pci.iter().filter(|device| device.is_display()).cloned().collect(),
        pci,
        chassis: firmware::chassis(&tree),
        bios: firmware::bios(&tree),
        baseboard: firmware::baseboard(&tree),
        product: firmware::product(&tree),
    }
}

/// `ironhook-agent inventory`.
pub fn print() -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(&read(Path::new("/")))?;
    writeln!(std::io::stdout(), "{text}").context("cannot write to standard output")
}

/// The files of a machine. What is not there, or not readable, is empty: no machine has everything.
struct Tree(PathBuf);

impl Tree {
    fn path(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    fn bytes(&self, path: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Ok(file) = fs::File::open(self.path(path)) {
            // What was read before an error counts.
            let _ = file.take(MOST).read_to_end(&mut bytes);
        }
        bytes
    }

    fn text(&self, path: &str) -> String {
        let text = String::from_utf8_lossy(&self.bytes(path)).into_owned();
        text.trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned()
    }

    fn number(&self, path: &str) -> Option<u64> {
        self.text(path).parse().ok()
    }

    /// Names in a directory, in order.
    fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().filter_map(Result::ok);
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// The last word of what a link says.
    fn link_name(&self, path: &str) -> String {
        let target = fs::read_link(self.path(path)).unwrap_or_default();
        target.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// `239GB`: in the largest binary unit that there is one of, rounded up, as the field's agent writes sizes.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KB", "MB", "GB", "TB", "PB"];
    let step = (0..UNITS.len()).rev().find(|i| bytes >> (10 * i) > 0).unwrap_or(0);
    format!("{}{}", bytes.div_ceil(1 << (10 * step)), UNITS[step])
}

#[cfg(test)]
mod tests;
