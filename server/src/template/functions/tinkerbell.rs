//! Tinkerbell's own functions.

use std::net::Ipv4Addr;

use gotmpl::Value;

use super::{Function, failed, ok, text};

pub(super) const TABLE: &[Function] = &[
    ("formatPartition", 2, |a| ok(partition(&text(&a[0]), &text(&a[1])))),
    ("netmaskToPrefixLength", 1, |a| {
        let written = text(&a[0]);
        let mask: u32 = written.parse::<Ipv4Addr>().map_err(|_| failed(format!("{written:?} is no netmask")))?.into();
        if mask.leading_ones() + mask.trailing_zeros() < 32 {
            return Err(failed(format!("{written:?} is no netmask")));
        }
        Ok(Value::Int(i64::from(mask.leading_ones())))
    }),
];

/// As the monorepo does it: udev's links, then kernel names that end in a digit, then the rest.
fn partition(device: &str, number: &str) -> String {
    if device.starts_with("/dev/disk/") {
        format!("{device}-part{number}")
    } else if device.ends_with(|c: char| c.is_ascii_digit()) {
        format!("{device}p{number}")
    } else {
        format!("{device}{number}")
    }
}

#[cfg(test)]
mod tests {
    use super::partition;

    #[test]
    fn names_of_partitions() {
        for (device, expected) in [
            ("/dev/sda", "/dev/sda1"),
            ("/dev/nvme0n1", "/dev/nvme0n1p1"),
            ("/dev/vda", "/dev/vda1"),
            ("/dev/mmcblk0", "/dev/mmcblk0p1"),
            ("/dev/disk/by-id/wwn-0x5", "/dev/disk/by-id/wwn-0x5-part1"),
        ] {
            assert_eq!(partition(device, "1"), expected);
        }
    }
}
