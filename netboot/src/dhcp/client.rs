//! What kind of client sent a request, and which loaders its firmware can run. Pure; knows nothing of machines.

use spec::Mac;
use spec::dhcp::option::{ARCHITECTURE, VENDOR_CLASS};
use spec::dhcp::{Options, Packet};

const BIOS: &[&str] = &["undionly.kpxe"];
/// shim comes last: it is what a firmware with Secure Boot runs, after it has silently refused the others.
const UEFI_X86_64: &[&str] = &["snponly.efi", "ipxe.efi", "shimx64.efi"];
const UEFI_ARM64: &[&str] = &["ipxe-arm64.efi"];

/// Loaders without which no machine of their kind boots: Debian's iPXE, unmodified.
pub const LOADERS: [&str; 3] = ["undionly.kpxe", "snponly.efi", "ipxe-arm64.efi"];

/// Prefixes of the Raspberry Pi's makers; its boot program says architecture 0, which is BIOS (wire reference §7.1).
const RASPBERRY: [[u8; 3]; 5] =
    [[0xb8, 0x27, 0xeb], [0xdc, 0xa6, 0x32], [0xe4, 0x5f, 0x01], [0x28, 0xcd, 0xc1], [0xd8, 0x3a, 0xdd]];

/// The architecture of a Raspberry Pi in IANA's registry.
pub(super) const PI: u16 = 41;

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Client {
    /// An operating system.
    Plain,
    /// The PXE program of a firmware.
    Rom,
    /// The HTTP boot of a UEFI firmware.
    Http,
    /// iPXE, which runs scripts.
    Ipxe,
    /// The boot program of a Raspberry Pi, which loads files by TFTP without being told their names.
    Pi,
}

impl Client {
    /// Netboot clients say so in option 60 and name an architecture. Unlike smee, we do not insist on options 94
    /// and 97, which some firmware leaves out or fills wrongly.
    pub(super) fn of(request: &Packet) -> Self {
        let options = &request.options;
        let class = options.get(VENDOR_CLASS).unwrap_or_default();
        if !options.has(ARCHITECTURE) {
            Self::Plain
        } else if class.starts_with(b"HTTPClient") {
            Self::Http
        } else if !class.starts_with(b"PXEClient") {
            Self::Plain
        } else if options.has_user_class(b"iPXE") || options.has_user_class(b"Tinkerbell") {
            Self::Ipxe
        } else if architectures(request).first() == Some(&PI) {
            Self::Pi
        } else {
            Self::Rom
        }
    }

    /// As [`spec::activity::What::Dhcp`] says it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Rom => "PXEClient",
            Self::Http => "HTTPClient",
            Self::Ipxe => "iPXE",
            Self::Pi => "Raspberry Pi",
        }
    }
}

/// Option 93, with what a Raspberry Pi should have said.
pub(super) fn architectures(request: &Packet) -> Vec<u16> {
    let mut list = request.options.architectures();
    if list.first() == Some(&0) && request.mac().is_some_and(is_raspberry) {
        list[0] = PI;
    }
    list
}

/// Whether a maker's prefix says so.
fn is_raspberry(mac: Mac) -> bool {
    let [a, b, c, ..] = mac.octets();
    RASPBERRY.contains(&[a, b, c])
}

/// The loaders of an architecture (numbers of IANA's registry). 6 and 15 are 32-bit in the registry and 64-bit in
/// some firmware; a 32-bit one refuses what it cannot run.
pub(super) fn loaders(arch: u16) -> Option<&'static [&'static str]> {
    match arch {
        0 | 20 => Some(BIOS),
        6..=9 | 15 | 16 => Some(UEFI_X86_64),
        11 | 19 => Some(UEFI_ARM64),
        _ => None,
    }
}

/// What comes back in option 60 for these options.
pub(super) fn is_http(options: &Options) -> bool {
    options.get(VENDOR_CLASS).is_some_and(|class| class.starts_with(b"HTTPClient"))
}
