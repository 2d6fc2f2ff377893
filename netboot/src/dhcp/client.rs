//! What kind of client sent a request, and which loader its firmware can run. Pure; knows nothing of machines.

use spec::dhcp::Options;
use spec::dhcp::option::{ARCHITECTURE, VENDOR_CLASS};

const BIOS: &str = "undionly.kpxe";
const UEFI_X86_64: &str = "snponly.efi";
const UEFI_ARM64: &str = "ipxe-arm64.efi";

/// Every loader that a client may be sent to: Debian's iPXE, unmodified.
pub const LOADERS: [&str; 3] = [BIOS, UEFI_X86_64, UEFI_ARM64];

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
}

impl Client {
    /// Netboot clients say so in option 60 and name an architecture. Unlike smee, we do not insist on options 94
    /// and 97, which some firmware leaves out or fills wrongly.
    pub(super) fn of(options: &Options) -> Self {
        let class = options.get(VENDOR_CLASS).unwrap_or_default();
        if !options.has(ARCHITECTURE) {
            Self::Plain
        } else if class.starts_with(b"HTTPClient") {
            Self::Http
        } else if !class.starts_with(b"PXEClient") {
            Self::Plain
        } else if options.has_user_class(b"iPXE") || options.has_user_class(b"Tinkerbell") {
            Self::Ipxe
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
        }
    }
}

/// The loader for the first architecture of option 93 that we have one for (numbers of IANA's registry).
pub(super) fn loader(options: &Options) -> Option<&'static str> {
    options.architectures().into_iter().find_map(|number| match number {
        0 | 20 => Some(BIOS),
        7 | 9 | 16 => Some(UEFI_X86_64),
        11 | 19 => Some(UEFI_ARM64),
        _ => None,
    })
}
