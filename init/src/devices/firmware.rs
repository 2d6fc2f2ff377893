//! What the kernel's log says about firmware that was asked for and is not there. Reads text only.

use sys::kmsg::Record;

/// A file that was not found, and the device in the words of the driver core.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Missing {
    /// As the driver asked for it.
    pub file: String,
    /// On the PCI bus, if the record says so.
    pub pci_address: Option<String>,
}

/// Before and after the file's name: the kernel's own words, and those of Debian's.
const SENTENCES: [(&str, &str); 2] =
    [("Direct firmware load for ", " failed with error"), ("firmware: failed to load ", " (")];

/// None for any other record.
pub fn missing(record: &Record) -> Option<Missing> {
    let file = SENTENCES.iter().find_map(|(before, after)| {
        let rest = record.text.split_once(before)?.1;
        Some(rest.split_once(after)?.0.to_owned())
    })?;
    let pci_address = record.device.as_ref().and_then(|device| device.strip_prefix("+pci:")).map(str::to_owned);
    (!file.is_empty()).then_some(Missing { file, pci_address })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str, device: Option<&str>) -> Option<(String, Option<String>)> {
        let record = Record { text: text.into(), device: device.map(str::to_owned) };
        missing(&record).map(|missing| (missing.file, missing.pci_address))
    }

    #[test]
    fn both_kernels_are_understood() {
        let expected = Some(("bnx2/bnx2-mips-09.fw".to_owned(), Some("0000:02:00.0".to_owned())));
        let device = Some("+pci:0000:02:00.0");
        assert_eq!(
            said("bnx2 0000:02:00.0: Direct firmware load for bnx2/bnx2-mips-09.fw failed with error -2", device),
            expected
        );
        assert_eq!(said("bnx2 0000:02:00.0: firmware: failed to load bnx2/bnx2-mips-09.fw (-2)", device), expected);
        let regulatory =
            said("platform regulatory.0: Direct firmware load for regulatory.db failed with error -2", None);
        assert_eq!(regulatory, Some(("regulatory.db".to_owned(), None)));
        assert_eq!(said("e100 0000:00:04.0: direct-loading firmware e100/d102e_ucode.bin", device), None);
    }
}
