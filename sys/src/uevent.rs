//! The kernel's announcements of devices, as they come: netlink(7), NETLINK_KOBJECT_UEVENT.
//! It splits messages into fields; what a device is good for is decided elsewhere.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt, socket, sockopt,
};

/// The kernel's own group; 2 would be udev's.
const KERNEL_GROUP: u32 = 1;
/// A storm of events at cold plug must not overflow.
const RECEIVE_BUFFER: usize = 16 << 20;

/// A socket that hears the kernel.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
}

/// What was heard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard {
    /// A device changed.
    Event(Event),
    /// The kernel had to drop events: what is there must be looked at again.
    Overflow,
}

/// One change of one device.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Event {
    /// `add`, `remove`, `change`, ...
    pub action: String,
    /// Below `/sys`.
    pub path: String,
    /// What the bus says about the device, matched by drivers.
    pub modalias: Option<String>,
}

impl Socket {
    /// Opens it; everything from now on is heard.
    pub fn open() -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkKObjectUEvent,
        )?;
        // Without CAP_NET_ADMIN the system's limit stays, and overflows are told.
        let _ = setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER);
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, KERNEL_GROUP))?;
        Ok(Self { fd })
    }

    /// Waits for the next one.
    pub fn hear(&mut self) -> io::Result<Heard> {
        let mut buffer = [0; 8192];
        loop {
            match recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => {
                    if let Some(event) = Event::parse(&buffer[..length]) {
                        return Ok(Heard::Event(event));
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => return Ok(Heard::Overflow),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl Event {
    /// `action@path`, then `KEY=value`, each ended by a NUL. Other messages are none.
    pub fn parse(message: &[u8]) -> Option<Self> {
        let mut fields = message.split(|byte| *byte == 0);
        let (action, path) = std::str::from_utf8(fields.next()?).ok()?.split_once('@')?;
        let modalias = fields.find_map(|field| field.strip_prefix(b"MODALIAS="));
        Some(Self {
            action: action.to_owned(),
            path: path.to_owned(),
            modalias: modalias.map(|value| String::from_utf8_lossy(value).into_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_with_a_modalias_is_read() {
        let message = b"add@/devices/pci0000:00/0000:00:03.0\0ACTION=add\0MODALIAS=pci:v00001AF4d00001000\0SEQNUM=1\0";
        let event = Event::parse(message).unwrap();
        assert_eq!(event.action, "add");
        assert_eq!(event.path, "/devices/pci0000:00/0000:00:03.0");
        assert_eq!(event.modalias.as_deref(), Some("pci:v00001AF4d00001000"));
    }

    #[test]
    fn a_message_of_udev_or_an_empty_one_is_none() {
        assert_eq!(Event::parse(b"libudev\0\xfe\xed\xca\xfe"), None);
        assert_eq!(Event::parse(b""), None);
    }
}
