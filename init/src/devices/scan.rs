//! Devices that no driver has taken, as the kernel shows them in `/sys/bus`. It looks and changes nothing.

use std::path::Path;

use spec::devices::{Bus, Device};

/// All of them, without names, in the order of their addresses.
pub fn without_driver(sys: &Path) -> Vec<Device> {
    let mut found = Vec::new();
    for (bus, read) in [(Bus::Pci, pci as fn(&Path) -> Option<Device>), (Bus::Usb, usb)] {
        let Ok(entries) = sys.join(format!("bus/{bus}/devices")).read_dir() else { continue };
        let idle = entries.flatten().filter(|entry| !entry.path().join("driver").exists());
        found.extend(idle.filter_map(|entry| read(&entry.path())));
    }
    found.retain(|device| !never_driven(device));
    found.sort_by(|a, b| (a.bus as u8, &a.address).cmp(&(b.bus as u8, &b.address)));
    found
}

/// The device at a place of `/sys/bus/pci/devices`, whether it has a driver or not.
pub fn pci(path: &Path) -> Option<Device> {
    let id = format!("{}:{}", hex(path, "vendor", 4)?, hex(path, "device", 4)?);
    Some(Device { bus: Bus::Pci, address: name_of(path)?, id, class: hex(path, "class", 6)?, name: None })
}

/// One interface at a place of `/sys/bus/usb/devices`; the devices themselves always have a driver.
pub fn usb(path: &Path) -> Option<Device> {
    let class = ["bInterfaceClass", "bInterfaceSubClass", "bInterfaceProtocol"].map(|name| hex(path, name, 2));
    let class = class.into_iter().collect::<Option<String>>()?;
    let device = path.canonicalize().ok()?.parent()?.to_owned();
    let id = format!("{}:{}", hex(&device, "idVendor", 4)?, hex(&device, "idProduct", 4)?);
    Some(Device { bus: Bus::Usb, address: name_of(path)?, id, class, name: None })
}

/// What people lack when it does not work: disks and controllers of disks, network, and the buses that they are on.
pub fn is_missed(device: &Device) -> Option<&'static str> {
    let class = device.class.as_str();
    let starts = |prefix: &str| class.starts_with(prefix);
    match device.bus {
        Bus::Pci if starts("01") => Some("storage"),
        Bus::Pci if starts("02") => Some("network"),
        Bus::Pci if starts("0c03") => Some("usb"),
        Bus::Pci if starts("0c04") || starts("0c06") => Some("fabric"),
        Bus::Usb if starts("08") => Some("storage"),
        Bus::Usb if starts("02") => Some("network"),
        // Adapters that speak a language of their own, most of them for a network.
        Bus::Usb if starts("ff") => Some("vendor-specific"),
        _ => None,
    }
}

/// Bridges between buses, memory, and what the processor is made of: the kernel needs no driver for them.
fn never_driven(device: &Device) -> bool {
    device.bus == Bus::Pci && ["05", "06", "08", "11"].iter().any(|class| device.class.starts_with(class))
}

/// `0x8086` or `8086` in a file, as the digits of a number of that many.
fn hex(directory: &Path, file: &str, digits: usize) -> Option<String> {
    let text = std::fs::read_to_string(directory.join(file)).ok()?;
    let number = u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()?;
    Some(format!("{number:0digits$x}"))
}

fn name_of(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn write(directory: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(directory).unwrap();
        for (name, text) in files {
            fs::write(directory.join(name), format!("{text}\n")).unwrap();
        }
    }

    #[test]
    fn what_has_a_driver_or_never_needs_one_is_left_out() {
        let top = tempfile::tempdir().unwrap();
        let bus = top.path().join("bus/pci/devices");
        let files = |class| [("vendor", "0x8086"), ("device", "0x100e"), ("class", class)];
        write(&bus.join("0000:00:00.0"), &files("0x060000"));
        write(&bus.join("0000:00:04.0"), &files("0x030000"));
        write(&bus.join("0000:00:03.0"), &files("0x020000"));
        write(&bus.join("0000:00:05.0"), &files("0x010601"));
        fs::create_dir(bus.join("0000:00:05.0/driver")).unwrap();
        let found = without_driver(top.path());
        let seen: Vec<_> = found.iter().map(|device| (device.address.as_str(), is_missed(device))).collect();
        assert_eq!(seen, [("0000:00:03.0", Some("network")), ("0000:00:04.0", None)]);
        assert_eq!((found[0].id.as_str(), found[0].class.as_str()), ("8086:100e", "020000"));
    }

    #[test]
    fn an_interface_of_usb_has_the_numbers_of_its_device() {
        let top = tempfile::tempdir().unwrap();
        let device = top.path().join("devices/usb1/1-1");
        write(&device, &[("idVendor", "0bda"), ("idProduct", "8153")]);
        let class = [("bInterfaceClass", "ff"), ("bInterfaceSubClass", "ff"), ("bInterfaceProtocol", "00")];
        write(&device.join("1-1:1.0"), &class);
        let bus = top.path().join("bus/usb/devices");
        fs::create_dir_all(&bus).unwrap();
        std::os::unix::fs::symlink(&device, bus.join("1-1")).unwrap();
        std::os::unix::fs::symlink(device.join("1-1:1.0"), bus.join("1-1:1.0")).unwrap();
        let found = without_driver(top.path());
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].id.as_str(), found[0].class.as_str()), ("0bda:8153", "ffff00"));
        assert_eq!(is_missed(&found[0]), Some("vendor-specific"));
    }
}
