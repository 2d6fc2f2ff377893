//! What of the machine is not at work, as JSON in [`crate::paths::DEVICES`]: devices without a driver, and firmware
//! that a driver asked for in vain. Written by init whenever it changes; read by whoever reports the machine.

use serde::{Deserialize, Serialize};

/// The whole file.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Devices {
    /// Bridges and memory apart, which never have one.
    #[serde(default)]
    pub without_driver: Vec<Device>,
    /// One entry a file and device.
    #[serde(default)]
    pub missing_firmware: Vec<Firmware>,
}

/// Where a device is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bus {
    /// PCI, PCI Express.
    Pci,
    /// USB; one entry an interface of a device.
    Usb,
}

/// A device.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Device {
    /// Where.
    pub bus: Bus,
    /// On its bus: `0000:00:03.0`, `1-1:1.0`.
    pub address: String,
    /// `vendor:product`, four hex digits each.
    pub id: String,
    /// Six hex digits: class, subclass, interface.
    pub class: String,
    /// Vendor and product in words, if the image's lists know them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A file that is not in the image.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Firmware {
    /// Below `/usr/lib/firmware`.
    pub file: String,
    /// Whose driver asked, if the kernel said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Device>,
}

impl std::fmt::Display for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pci => "pci",
            Self::Usb => "usb",
        })
    }
}

impl std::fmt::Display for Device {
    /// `pci 0000:00:03.0 [8086:100e] Intel Corporation 82540EM Gigabit Ethernet Controller`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} [{}]", self.bus, self.address, self.id)?;
        self.name.as_ref().map_or(Ok(()), |name| write!(f, " {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_what_others_read() {
        let device = Device {
            bus: Bus::Pci,
            address: "0000:00:03.0".into(),
            id: "8086:100e".into(),
            class: "020000".into(),
            name: None,
        };
        let firmware = Firmware { file: "e100/d102e_ucode.bin".into(), device: Some(device.clone()) };
        let devices = Devices { without_driver: vec![device], missing_firmware: vec![firmware] };
        let text = serde_json::to_string(&devices).unwrap();
        assert!(text.starts_with(
            r#"{"without_driver":[{"bus":"pci","address":"0000:00:03.0","id":"8086:100e","class":"020000"}]"#
        ));
        assert_eq!(serde_json::from_str::<Devices>(&text).unwrap(), devices);
        assert_eq!(devices.without_driver[0].to_string(), "pci 0000:00:03.0 [8086:100e]");
    }
}
