//! The option codes that we read or write, by the words of RFC 2132, 3004, 3046 and 4578. Numbers only.

/// Filler without length.
pub const PAD: u8 = 0;
/// Subnet mask.
pub const SUBNET_MASK: u8 = 1;
/// Routers, in order of preference.
pub const ROUTER: u8 = 3;
/// Domain name servers, in order of preference.
pub const DNS: u8 = 6;
/// The client's name.
pub const HOST_NAME: u8 = 12;
/// The broadcast address of the subnet.
pub const BROADCAST: u8 = 28;
/// NTP servers, in order of preference.
pub const NTP: u8 = 42;
/// Vendor specific information: sub-options of PXE.
pub const VENDOR: u8 = 43;
/// The address that a client would like to have.
pub const REQUESTED_ADDRESS: u8 = 50;
/// Seconds that a lease is good for.
pub const LEASE_TIME: u8 = 51;
/// Says that `file` or `sname` hold options.
pub const OVERLOAD: u8 = 52;
/// See [`super::MessageType`].
pub const MESSAGE_TYPE: u8 = 53;
/// The server's address, as its identity.
pub const SERVER_ID: u8 = 54;
/// Option codes that the client asks for.
pub const PARAMETERS: u8 = 55;
/// Why a server refuses, as text.
pub const MESSAGE: u8 = 56;
/// The largest message that the client takes.
pub const MAX_SIZE: u8 = 57;
/// Vendor class: `PXEClient...`, `HTTPClient...`.
pub const VENDOR_CLASS: u8 = 60;
/// How the client identifies itself.
pub const CLIENT_ID: u8 = 61;
/// Name of the boot server.
pub const TFTP_SERVER: u8 = 66;
/// Name of the boot file, when it is not in `file`.
pub const BOOT_FILE: u8 = 67;
/// User class: `iPXE`.
pub const USER_CLASS: u8 = 77;
/// What a relay added, to be returned to it.
pub const RELAY_AGENT: u8 = 82;
/// Client architectures.
pub const ARCHITECTURE: u8 = 93;
/// Client network interface identifier.
pub const INTERFACE_ID: u8 = 94;
/// Client machine identifier.
pub const MACHINE_ID: u8 = 97;
/// Ends the options.
pub const END: u8 = 255;
