//! Which interfaces there are, from sysfs, and which of them may be asked for an address. Changes nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use spec::Mac;

const NET: &str = "/sys/class/net";
/// ARPHRD_ETHER of linux/if_arp.h.
const ETHERNET: &str = "1";

/// An Ethernet interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// The kernel's name.
    pub name: String,
    /// Its address.
    pub mac: Mac,
    /// There is hardware behind it: no bridge, VLAN or tunnel.
    pub hardware: bool,
    /// The other end of the cable is there. False also while the interface is down.
    pub carrier: bool,
}

/// The interfaces cannot be listed.
#[derive(Debug, thiserror::Error)]
#[error("cannot list the interfaces in {path}")]
pub struct ListError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// All Ethernet interfaces but wireless ones, by name. One that vanishes meanwhile is left out.
pub fn list() -> Result<Vec<Interface>, ListError> {
    let failed = |source| ListError { path: NET.into(), source };
    let mut list = Vec::new();
    for entry in fs::read_dir(NET).map_err(failed)? {
        list.extend(read(&entry.map_err(failed)?.path()));
    }
    list.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(list)
}

/// With a MAC, the one interface that has it, hardware first (a bridge or VLAN has the MAC of what it stands on);
/// without, all hardware.
pub fn candidates(all: &[Interface], boot: Option<Mac>) -> Vec<Interface> {
    let Some(mac) = boot else { return all.iter().filter(|each| each.hardware).cloned().collect() };
    let mut named: Vec<&Interface> = all.iter().filter(|each| each.mac == mac).collect();
    named.sort_by_key(|each| !each.hardware);
    named.into_iter().take(1).cloned().collect()
}

fn read(path: &Path) -> Option<Interface> {
    let text = |file: &str| fs::read_to_string(path.join(file)).map(|text| text.trim().to_owned()).ok();
    let wireless = path.join("wireless").exists() || path.join("phy80211").exists();
    if text("type")? != ETHERNET || wireless {
        return None;
    }
    Some(Interface {
        name: path.file_name()?.to_str()?.to_owned(),
        mac: text("address")?.parse().ok()?,
        hardware: path.join("device").exists(),
        carrier: text("carrier").as_deref() == Some("1"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, last: u8, hardware: bool) -> Interface {
        Interface { name: name.into(), mac: Mac::new([2, 0, 0, 0, 0, last]), hardware, carrier: true }
    }

    fn names(boot: Option<u8>) -> Vec<String> {
        let all = [
            interface("br0", 2, false),
            interface("docker0", 9, false),
            interface("eth0", 1, true),
            interface("eth1", 2, true),
        ];
        let boot = boot.map(|last| Mac::new([2, 0, 0, 0, 0, last]));
        candidates(&all, boot).into_iter().map(|each| each.name).collect()
    }

    #[test]
    fn the_interface_that_booted_is_alone() {
        assert_eq!(names(Some(1)), ["eth0"]);
        assert_eq!(names(Some(2)), ["eth1"]);
        assert_eq!(names(Some(9)), ["docker0"]);
        assert_eq!(names(Some(5)), [""; 0]);
    }

    #[test]
    fn without_a_name_all_hardware_is_asked() {
        assert_eq!(names(None), ["eth0", "eth1"]);
    }
}
