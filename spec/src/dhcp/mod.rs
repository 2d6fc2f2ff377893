//! DHCPv4 on the wire (RFC 2131, 2132, 3396), for the server in netboot and the client in bootkit.
//! Order and unknown options survive; firmware is odd, so nothing here judges what it reads.

pub mod lease;
pub mod option;
mod options;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;

pub use options::Options;

use crate::mac::Mac;

/// `op` of what clients send.
pub const BOOTREQUEST: u8 = 1;
/// `op` of what servers send.
pub const BOOTREPLY: u8 = 2;
/// In `flags`: the client cannot be reached by its address yet.
pub const FLAG_BROADCAST: u16 = 0x8000;
/// Clients and relays older than DHCP take no packet shorter than this.
pub const MIN_SIZE: usize = 300;

const COOKIE: [u8; 4] = [99, 130, 83, 99];
const SNAME: usize = 44;
const FILE: usize = 108;
const OPTIONS: usize = 240;

/// One message, after the names of RFC 2131.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packet {
    /// [`BOOTREQUEST`] or [`BOOTREPLY`].
    pub op: u8,
    /// 1 for Ethernet.
    pub htype: u8,
    /// Used octets of `chaddr`.
    pub hlen: u8,
    /// Relays passed.
    pub hops: u8,
    /// Which reply belongs to which request.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// See [`FLAG_BROADCAST`].
    pub flags: u16,
    /// The client's address, when it already has it.
    pub ciaddr: Ipv4Addr,
    /// The address that it is given.
    pub yiaddr: Ipv4Addr,
    /// The server of its next step.
    pub siaddr: Ipv4Addr,
    /// The relay that took the request.
    pub giaddr: Ipv4Addr,
    /// The client's hardware address.
    pub chaddr: [u8; 16],
    /// Name of the server, without its NULs, at most 64 bytes. Empty when the field held options.
    pub sname: Vec<u8>,
    /// The boot file, without its NULs, at most 128 bytes. Empty when the field held options.
    pub file: Vec<u8>,
    /// All options, also those that stood in `file` and `sname`.
    pub options: Options,
}

/// What a message is for (option 53).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum MessageType {
    /// A client looks for servers.
    Discover = 1,
    /// A server offers.
    Offer = 2,
    /// A client takes an offer, or wants to keep what it has.
    Request = 3,
    /// A client found its address in use.
    Decline = 4,
    /// A server gives.
    Ack = 5,
    /// A server refuses.
    Nak = 6,
    /// A client gives its address back.
    Release = 7,
    /// A client with an address asks for the rest.
    Inform = 8,
}

impl MessageType {
    /// From the number on the wire.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Discover, Self::Offer, Self::Request, Self::Decline, Self::Ack, Self::Nak, Self::Release, Self::Inform]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }
}

/// The bytes are no DHCP message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The fixed part is not complete.
    #[error("{0} bytes are no dhcp message: the fixed part alone has 240")]
    Short(usize),
    /// BOOTP, or nothing of the kind.
    #[error("no dhcp message: the magic cookie is {0:02x?}")]
    Cookie([u8; 4]),
}

impl Packet {
    /// The beginning of a client's message; its type and all else are for the caller to add.
    pub fn request(mac: Mac, xid: u32) -> Self {
        let mut chaddr = [0; 16];
        chaddr[..6].copy_from_slice(&mac.octets());
        Self {
            op: BOOTREQUEST,
            htype: 1,
            hlen: 6,
            hops: 0,
            xid,
            secs: 0,
            flags: 0,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            chaddr,
            sname: Vec::new(),
            file: Vec::new(),
            options: Options::default(),
        }
    }

    /// Reads a message. Only what is not DHCP at all is an error; see [`Options::truncated`] for the rest.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let short = || DecodeError::Short(bytes.len());
        let (fixed, area) = bytes.split_first_chunk::<OPTIONS>().ok_or_else(short)?;
        let cookie = part(fixed, OPTIONS - 4);
        if cookie != COOKIE {
            return Err(DecodeError::Cookie(cookie));
        }
        let (sname, file) = (&fixed[SNAME..FILE], &fixed[FILE..OPTIONS - 4]);
        let mut options = Options::default();
        let overload = options.read(area);
        let (in_file, in_sname) = (overload & 1 != 0, overload & 2 != 0);
        if in_file {
            options.read(file);
        }
        if in_sname {
            options.read(sname);
        }
        Ok(Self {
            op: fixed[0],
            htype: fixed[1],
            hlen: fixed[2],
            hops: fixed[3],
            xid: u32::from_be_bytes(part(fixed, 4)),
            secs: u16::from_be_bytes(part(fixed, 8)),
            flags: u16::from_be_bytes(part(fixed, 10)),
            ciaddr: part::<4>(fixed, 12).into(),
            yiaddr: part::<4>(fixed, 16).into(),
            siaddr: part::<4>(fixed, 20).into(),
            giaddr: part::<4>(fixed, 24).into(),
            chaddr: part(fixed, 28),
            sname: if in_sname { Vec::new() } else { until_nul(sname) },
            file: if in_file { Vec::new() } else { until_nul(file) },
            options,
        })
    }

    /// The message, padded to [`MIN_SIZE`]. A `file` or `sname` that does not fit its field is left out, never cut:
    /// options 67 and 66 carry long names.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.op, self.htype, self.hlen, self.hops];
        bytes.extend(self.xid.to_be_bytes());
        bytes.extend(self.secs.to_be_bytes());
        bytes.extend(self.flags.to_be_bytes());
        for address in [self.ciaddr, self.yiaddr, self.siaddr, self.giaddr] {
            bytes.extend(address.octets());
        }
        bytes.extend(self.chaddr);
        for (name, end) in [(&self.sname, FILE), (&self.file, OPTIONS - COOKIE.len())] {
            if bytes.len() + name.len() <= end {
                bytes.extend(name);
            }
            bytes.resize(end, 0);
        }
        bytes.extend(COOKIE);
        self.options.write(&mut bytes);
        bytes.resize(bytes.len().max(MIN_SIZE), 0);
        bytes
    }

    /// The client's address, if it is an Ethernet one.
    pub fn mac(&self) -> Option<Mac> {
        (self.htype == 1 && self.hlen == 6).then(|| Mac::new(part(&self.chaddr, 0)))
    }

    /// Option 53; none for BOOTP and for numbers that we do not know.
    pub fn message_type(&self) -> Option<MessageType> {
        self.options.message_type()
    }
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|i| bytes[at + i])
}

fn until_nul(field: &[u8]) -> Vec<u8> {
    field.iter().copied().take_while(|byte| *byte != 0).collect()
}
