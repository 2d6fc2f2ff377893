//! What a disk is, as /sys tells: world-wide name, transport, whether it turns, and where it is plugged in. Nothing here
//! needs udev. Must not open a device.

use std::fs;
use std::path::{Path, PathBuf};

/// What tells one disk from another besides model, serial and size.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Identity {
    /// As the kernel writes it (`naa.5000…`, `eui.0025…`); empty when it has none.
    pub wwn: String,
    /// `nvme`, `sata`, `sas`, `scsi`, `usb`, `virtio`, `mmc`, `iscsi`, `fc`, `virtual`; empty when unknown.
    pub transport: String,
    /// Whether it has platters.
    pub rotational: bool,
    /// Its serial by the SCSI page for it, for disks that show none elsewhere.
    pub unit_serial: String,
    /// Its place among the devices, below `/sys/devices`.
    pub place: PathBuf,
}

/// Of the disk with this directory in /sys.
pub fn of(dir: &Path) -> Identity {
    let text = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default().trim().to_owned();
    let place = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let wwn = [text("wwid"), text("device/wwid")].into_iter().find(|name| !name.is_empty()).unwrap_or_default();
    Identity {
        wwn,
        transport: transport(&place).to_owned(),
        rotational: text("queue/rotational") == "1",
        unit_serial: unit_serial(&fs::read(dir.join("device/vpd_pg80")).unwrap_or_default()),
        place,
    }
}

/// By the devices above it.
fn transport(place: &Path) -> &'static str {
    let names: Vec<String> = place.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    let any = |prefix: &str| {
        names.iter().any(|name| {
            name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit() || c == '-'))
        })
    };
    let has = |word: &str| names.iter().any(|name| name == word);
    match () {
        () if has("virtual") && !any("nvme") => "virtual",
        () if any("usb") => "usb",
        () if has("nvme") || any("nvme") || any("nvme-subsys") => "nvme",
        () if any("session") => "iscsi",
        () if any("rport") => "fc",
        () if any("end_device") || any("sas_host") => "sas",
        () if any("ata") => "sata",
        () if any("mmc") => "mmc",
        () if any("host") => "scsi",
        () if any("virtio") => "virtio",
        () => "",
    }
}

/// Page 80h: four bytes of header, the last two the length (SPC-4, 7.8.18).
fn unit_serial(page: &[u8]) -> String {
    let Some([_, _, high, low]) = page.first_chunk::<4>() else { return String::new() };
    let len = usize::from(u16::from_be_bytes([*high, *low]));
    let text = page.get(4..4 + len).unwrap_or_default();
    String::from_utf8_lossy(text).trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports_are_told_by_the_devices_above() {
        for (place, wanted) in [
            ("/sys/devices/pci0000:00/0000:00:04.0/virtio1/block/vda", "virtio"),
            ("/sys/devices/pci0000:00/0000:00:05.0/nvme/nvme0/nvme0n1", "nvme"),
            ("/sys/devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1", "nvme"),
            ("/sys/devices/pci0000:00/0000:00:1f.2/ata3/host2/target2:0:0/2:0:0:0/block/sda", "sata"),
            ("/sys/devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1:1.0/host6/target6:0:0/6:0:0:0/block/sdb", "usb"),
            ("/sys/devices/pci0000:00/0000:00:06.0/host0/port-0:0/end_device-0:0/target0:0:0/0:0:0:0/block/sdc", "sas"),
            ("/sys/devices/pci0000:00/0000:00:07.0/virtio3/host3/target3:0:0/3:0:0:1/block/sdd", "scsi"),
            ("/sys/devices/platform/host4/session1/target4:0:0/4:0:0:0/block/sde", "iscsi"),
            ("/sys/devices/platform/soc/mmc_host/mmc0/mmc0:0001/block/mmcblk0", "mmc"),
            ("/sys/devices/virtual/block/loop0", "virtual"),
            ("/sys/devices/elsewhere/block/x", ""),
        ] {
            assert_eq!(transport(Path::new(place)), wanted, "{place}");
        }
    }

    #[test]
    fn serials_of_the_page_are_bounded_by_it() {
        assert_eq!(unit_serial(b"\0\x80\0\x06 ABC12"), "ABC12");
        assert_eq!(unit_serial(b"\0\x80\xff\xffABC"), "");
        assert_eq!(unit_serial(b"\0\x80"), "");
    }
}
