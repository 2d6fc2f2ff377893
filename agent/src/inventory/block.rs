//! Disks, from `/sys/block`: what they hang on, how large they are, who made them and what number they have.

use serde::Serialize;

use super::{Tree, size};

/// The kernel counts in these, whatever the disk's own sectors are.
const SECTOR: u64 = 512;

/// A disk. All words, as the wire has it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Block {
    /// `sda`, `nvme0n1`, ...
    pub name: String,
    /// `NVMe`, `SCSI`, `virtio`, `IDE`, `MMC`.
    pub controller_type: String,
    /// `SSD`, `HDD`, `ODD`.
    pub drive_type: String,
    /// For people.
    pub size: String,
    /// For people.
    pub physical_block_size: String,
    /// Its maker.
    pub vendor: String,
    /// Its model.
    pub model: String,
    /// Its world wide name.
    pub wwn: String,
    /// Its serial number.
    pub serial_number: String,
}

/// Controllers by the beginning of the device's name; a device of none of them is left out.
const CONTROLLERS: [(&str, &str); 6] =
    [("nvme", "NVMe"), ("sd", "SCSI"), ("sr", "SCSI"), ("vd", "virtio"), ("hd", "IDE"), ("mmcblk", "MMC")];

pub(super) fn read(tree: &Tree) -> Vec<Block> {
    tree.names("sys/block").iter().filter_map(|name| disk(tree, name)).collect()
}

fn disk(tree: &Tree, name: &str) -> Option<Block> {
    let (prefix, controller) = CONTROLLERS.iter().find(|(prefix, _)| name.starts_with(prefix))?;
    // Parts of a memory card that hold nothing of a person's.
    if name.contains("boot") || name.contains("rpmb") {
        return None;
    }
    let at = |file: &str| format!("sys/block/{name}/{file}");
    let first = |files: &[&str]| files.iter().map(|file| tree.text(&at(file))).find(|text| !text.is_empty());
    let rotates = tree.number(&at("queue/rotational")) == Some(1);
    let drive_type = match *prefix {
        "sr" => "ODD",
        "nvme" | "mmcblk" => "SSD",
        _ if rotates => "HDD",
        _ => "SSD",
    };
    let physical = tree.number(&at("queue/physical_block_size"));
    Some(Block {
        name: name.to_owned(),
        controller_type: (*controller).to_owned(),
        drive_type: drive_type.to_owned(),
        size: size(tree.number(&at("size")).unwrap_or(0).saturating_mul(SECTOR)),
        physical_block_size: physical.map(size).unwrap_or_default(),
        vendor: first(&["device/vendor"]).filter(|vendor| !vendor.starts_with("0x")).unwrap_or_default(),
        model: first(&["device/model", "device/name"]).unwrap_or_default(),
        wwn: first(&["wwid", "device/wwid"]).unwrap_or_default(),
        serial_number: first(&["serial", "device/serial"])
            .or_else(|| unit_serial(&tree.bytes(&at("device/vpd_pg80"))))
            .unwrap_or_default(),
    })
}

/// The serial number of a SCSI device's page 80h: four bytes of head, then text.
fn unit_serial(page: &[u8]) -> Option<String> {
    let length = usize::from(u16::from_be_bytes([*page.get(2)?, *page.get(3)?]));
    let text = page.get(4..4 + length)?;
    Some(String::from_utf8_lossy(text).trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned())
}
