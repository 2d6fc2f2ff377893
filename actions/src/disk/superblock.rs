//! Which file system a device holds, by the magic of its superblock. Knows what can be mounted, and names what cannot.

use sys::block::Device;

/// What a device holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// A file system, as mount(2) calls it.
    FileSystem(&'static str),
    /// Something else that is known.
    Other(&'static str),
    /// Nothing known.
    Unknown,
}

/// The header of a GPT.
pub const GPT: Content = Content::Other("a partition table, so name a partition");

/// Bytes that [`recognise`] looks at.
const LOOK: usize = 0x10048;

/// Bytes that [`names_in`] looks at.
const NAMES: usize = 0x10300;

/// Magic numbers: offset, bytes, what it is. Offsets of swap are for pages of 4 KiB.
const KNOWN: &[(usize, &[u8], Content)] = &[
    (0, b"LUKS\xba\xbe", Content::Other("LUKS")),
    (0, b"XFSB", Content::FileSystem("xfs")),
    (0x10040, b"_BHRfS_M", Content::FileSystem("btrfs")),
    (0x438, &[0x53, 0xef], Content::FileSystem("ext4")),
    (0x218, b"LVM2 001", Content::Other("an LVM physical volume")),
    (4086, b"SWAPSPACE2", Content::Other("swap")),
    (0x1000, &[0xfc, 0x4e, 0x2b, 0xa9], Content::Other("an md member")),
    (0, b"hsqs", Content::FileSystem("squashfs")),
    (0x52, b"FAT32   ", Content::FileSystem("vfat")),
    (0x36, b"FAT16   ", Content::FileSystem("vfat")),
    (0x36, b"FAT12   ", Content::FileSystem("vfat")),
    (3, b"NTFS    ", Content::Other("NTFS")),
    (3, b"EXFAT   ", Content::Other("exFAT")),
    (0x200, b"EFI PART", GPT),
];

/// Looks at the device.
pub fn of(device: &Device, size: u64) -> std::io::Result<Content> {
    let mut bytes = vec![0; LOOK.min(usize::try_from(size).unwrap_or(LOOK))];
    device.read_at(&mut bytes, 0)?;
    Ok(recognise(&bytes))
}

/// Looks at its first bytes.
pub fn recognise(bytes: &[u8]) -> Content {
    let matches = |at: usize, magic: &[u8]| bytes.get(at..at + magic.len()) == Some(magic);
    KNOWN.iter().find(|(at, magic, _)| matches(*at, magic)).map_or(Content::Unknown, |(_, _, content)| *content)
}

/// Label and UUID of the file system that a device holds, as blkid(8) writes them.
pub fn names(device: &Device, size: u64) -> Option<(String, String)> {
    let mut bytes = vec![0; NAMES.min(usize::try_from(size).unwrap_or(NAMES))];
    device.read_at(&mut bytes, 0).ok()?;
    names_in(&bytes)
}

/// The same, from its first bytes.
pub fn names_in(bytes: &[u8]) -> Option<(String, String)> {
    let Content::FileSystem(kind) = recognise(bytes) else { return None };
    let (label, uuid) = match kind {
        "ext4" => (0x478..0x488, 0x468..0x478),
        "xfs" => (108..120, 32..48),
        "btrfs" => (0x1012b..0x1022b, 0x10020..0x10030),
        "vfat" if bytes.get(0x52..0x57)? == b"FAT32" => (0x47..0x52, 0x43..0x47),
        "vfat" => (0x2b..0x36, 0x27..0x2b),
        _ => return None,
    };
    let label = bytes.get(label)?;
    let end = label.iter().position(|byte| *byte == 0).unwrap_or(label.len());
    let label = String::from_utf8_lossy(&label[..end]).trim_end().to_owned();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let uuid = match bytes.get(uuid)? {
        [a, b, c, d] => format!("{}-{}", hex(&[*d, *c]), hex(&[*b, *a])).to_uppercase(),
        uuid => [&uuid[..4], &uuid[4..6], &uuid[6..8], &uuid[8..10], &uuid[10..]].map(hex).join("-"),
    };
    Some((label, uuid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_magic_is_recognised_and_short_input_is_not() {
        for (at, magic, content) in KNOWN {
            let mut bytes = vec![0; LOOK];
            bytes[*at..at + magic.len()].copy_from_slice(magic);
            assert_eq!(recognise(&bytes), *content);
        }
        assert_eq!(recognise(&[0; 100]), Content::Unknown);
        assert_eq!(recognise(b""), Content::Unknown);
    }
}
