//! Vendor and product in words, from the lists of the field (`pci.ids`, `usb.ids`). Read only when there is something
//! to name: most machines never open them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use spec::devices::Bus;

const DIRECTORY: &str = "/usr/share/misc";

/// The name of `vendor:product`; the vendor alone when only that is known.
pub fn name(bus: Bus, id: &str) -> Option<String> {
    let file = File::open(Path::new(DIRECTORY).join(format!("{bus}.ids"))).ok()?;
    find(BufReader::new(file), id)
}

/// Lines of `vvvv  Vendor`, each followed by those of its products, `<tab>pppp  Product`; what is indented further is
/// of no use here, and so is what comes after the vendors.
fn find(mut list: impl BufRead, id: &str) -> Option<String> {
    let (vendor, product) = id.split_once(':')?;
    let mut found: Option<String> = None;
    let mut line = Vec::new();
    while list.read_until(b'\n', &mut line).ok()? > 0 {
        let text = String::from_utf8_lossy(&line).into_owned();
        line.clear();
        match (&found, text.strip_prefix('\t')) {
            (Some(vendor), Some(text)) => {
                if let Some(name) = named(text, product) {
                    return Some(format!("{vendor} {name}"));
                }
            }
            (Some(_), None) if !text.starts_with('#') && !text.trim().is_empty() => break,
            (None, None) => found = named(&text, vendor).map(str::to_owned),
            _ => {}
        }
    }
    found
}

fn named<'a>(text: &'a str, number: &str) -> Option<&'a str> {
    Some(text.strip_prefix(number)?.strip_prefix("  ")?.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "# comment\n1af4  Red Hat, Inc.\n\t1000  Virtio network device\n8086  Intel Corporation\n\
                        \t100e  82540EM Gigabit Ethernet Controller\n\t\t1af4 1100  QEMU Virtual Machine\n\n\
                        \t100f  82545EM\n8087  Other\n\t0001  Thing\nC 02  Network controller\n\t00  Ethernet\n";

    #[test]
    fn vendor_and_product_are_named_as_far_as_they_are_known() {
        let find = |id| find(LIST.as_bytes(), id);
        assert_eq!(find("8086:100e").unwrap(), "Intel Corporation 82540EM Gigabit Ethernet Controller");
        assert_eq!(find("8086:100f").unwrap(), "Intel Corporation 82545EM");
        assert_eq!(find("8086:0001").unwrap(), "Intel Corporation", "another vendor's product is not it");
        assert_eq!(find("ffff:0001"), None);
        assert_eq!(find("nonsense"), None);
    }
}
