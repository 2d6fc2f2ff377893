//! The names below /dev/disk that udev would give a disk, computed from what the kernel says: where no udev runs, and in a
//! container's own /dev, they still lead to the disk. Pure.

use std::path::Path;

/// What names are made of.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Facts {
    /// The kernel's name of the disk.
    pub name: String,
    /// Model.
    pub model: String,
    /// Serial number.
    pub serial: String,
    /// World-wide name as the kernel writes it.
    pub wwn: String,
    /// How it is connected.
    pub transport: String,
    /// Its place below /sys/devices.
    pub place: std::path::PathBuf,
}

/// Names of the whole disk below /dev/disk, as `by-id/…` and `by-path/…`.
pub fn names(facts: &Facts) -> Vec<String> {
    let mut names: Vec<String> = by_id(facts).into_iter().map(|name| format!("by-id/{name}")).collect();
    names.extend(by_path(&facts.place, &facts.name).into_iter().map(|name| format!("by-path/{name}")));
    names
}

/// The part of a name that says which disk, and the number of its partition (`…-part2`).
pub fn partition_of(name: &str) -> (&str, Option<u32>) {
    match name.rsplit_once("-part") {
        Some((disk, number)) if number.bytes().all(|b| b.is_ascii_digit()) => (disk, number.parse().ok()),
        _ => (name, None),
    }
}

fn by_id(facts: &Facts) -> Vec<String> {
    let (model, serial) = (word(&facts.model), word(&facts.serial));
    let both = if model.is_empty() { serial.clone() } else { format!("{model}_{serial}") };
    let mut names = Vec::new();
    let has_serial = !serial.is_empty();
    match facts.transport.as_str() {
        "virtio" if has_serial => names.push(format!("virtio-{serial}")),
        "nvme" if has_serial => {
            names.push(format!("nvme-{both}"));
            names.push(format!("nvme-{both}_{}", facts.name.rsplit('n').next().unwrap_or_default()));
        }
        "sata" if has_serial => names.extend([format!("ata-{both}"), format!("scsi-SATA_{both}")]),
        "usb" if has_serial => names.push(format!("usb-{both}-0:0")),
        "mmc" if has_serial => names.push(format!("mmc-{both}")),
        "sas" | "scsi" | "iscsi" | "fc" if has_serial => names.push(format!("scsi-{both}")),
        _ => {}
    }
    if let Some(number) = facts.wwn.strip_prefix("naa.") {
        names.push(format!("wwn-0x{number}"));
        names.push(format!("scsi-3{number}"));
    } else if !facts.wwn.is_empty() {
        let kind = if facts.transport == "nvme" { "nvme" } else { "wwn" };
        names.push(format!("{kind}-{}", word(&facts.wwn)));
    }
    names
}

/// As udev writes it: blanks as one `_`, nothing at the ends.
fn word(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join("_")
}

/// By the innermost PCI device and what hangs on it.
fn by_path(place: &Path, name: &str) -> Vec<String> {
    let parts: Vec<String> = place.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let Some(at) = parts.iter().rposition(|part| is_pci(part)) else { return Vec::new() };
    let pci = format!("pci-{}", parts[at]);
    let below = &parts[at + 1..];
    let has = |prefix: &str| below.iter().find_map(|part| numbered(part, prefix));
    if below.iter().any(|part| part == "nvme") {
        let namespace = name.rsplit('n').next().unwrap_or_default();
        return vec![format!("{pci}-nvme-{namespace}")];
    }
    let address = below.iter().find(|part| part.split(':').count() == 4 && part.split(':').all(is_number));
    if let Some(port) = has("ata") {
        let lun = address.and_then(|a| a.rsplit(':').nth(1)).unwrap_or("0");
        return vec![format!("{pci}-ata-{port}"), format!("{pci}-ata-{port}.{lun}")];
    }
    match address {
        Some(address) => {
            // The number of the host is not stable; within its device the first is 0.
            let rest: Vec<&str> = address.split(':').skip(1).collect();
            let scsi = format!("scsi-0:{}", rest.join(":"));
            match below
                .iter()
                .find(|part| part.contains(':') && part.contains('.') && part.starts_with(|c: char| c.is_ascii_digit()))
            {
                Some(usb) if below.iter().any(|part| numbered(part, "usb").is_some()) => {
                    let port = usb.split_once('-').map_or(usb.as_str(), |(_, port)| port);
                    vec![format!("{pci}-usb-0:{port}-{scsi}")]
                }
                _ => vec![format!("{pci}-{scsi}")],
            }
        }
        None if has("virtio").is_some() => vec![pci.clone(), format!("virtio-{pci}")],
        None => Vec::new(),
    }
}

fn is_pci(part: &str) -> bool {
    let shape = part.bytes().map(|b| if b.is_ascii_hexdigit() { b'h' } else { b }).collect::<Vec<_>>();
    shape == b"hhhh:hh:hh.h"
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn numbered<'a>(part: &'a str, prefix: &str) -> Option<&'a str> {
    part.strip_prefix(prefix).filter(|rest| is_number(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(name: &str, transport: &str, wwn: &str, place: &str) -> Facts {
        Facts {
            name: name.into(),
            model: "Some  Disk 1T".into(),
            serial: "AB 12".into(),
            wwn: wwn.into(),
            transport: transport.into(),
            place: place.into(),
        }
    }

    #[test]
    fn names_are_those_of_udev() {
        let pci = "/sys/devices/pci0000:00/0000:00:1c.0/0000:03:00.0";
        for (facts, wanted) in [
            (
                facts("nvme0n1", "nvme", "eui.0025", &format!("{pci}/nvme/nvme0/nvme0n1")),
                vec!["by-id/nvme-Some_Disk_1T_AB_12", "by-id/nvme-eui.0025", "by-path/pci-0000:03:00.0-nvme-1"],
            ),
            (
                facts("vda", "virtio", "", &format!("{pci}/virtio2/block/vda")),
                vec!["by-id/virtio-AB_12", "by-path/pci-0000:03:00.0", "by-path/virtio-pci-0000:03:00.0"],
            ),
            (
                facts("sda", "sata", "naa.5000c5", &format!("{pci}/ata3/host2/target2:0:0/2:0:0:0/block/sda")),
                vec!["by-id/ata-Some_Disk_1T_AB_12", "by-id/wwn-0x5000c5", "by-path/pci-0000:03:00.0-ata-3"],
            ),
            (
                facts("sdb", "scsi", "naa.6", &format!("{pci}/host7/target7:0:1/7:0:1:2/block/sdb")),
                vec!["by-id/scsi-36", "by-path/pci-0000:03:00.0-scsi-0:0:1:2"],
            ),
        ] {
            let names = names(&facts);
            for name in wanted {
                assert!(names.iter().any(|n| n == name), "{name} is not in {names:?}");
            }
        }
    }

    #[test]
    fn a_disk_without_a_serial_has_no_name_by_it() {
        let bare = Facts { name: "sda".into(), transport: "sata".into(), ..Facts::default() };
        assert_eq!(names(&bare), Vec::<String>::new());
    }

    #[test]
    fn partitions_are_told_from_names_that_only_look_so() {
        assert_eq!(partition_of("by-id/x-part12"), ("by-id/x", Some(12)));
        assert_eq!(partition_of("by-id/x-parts"), ("by-id/x-parts", None));
        assert_eq!(partition_of("by-id/x-part"), ("by-id/x", None));
    }
}
