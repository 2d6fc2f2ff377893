//! The socket of a DHCP service: port 67 or 4011 of one interface, able to broadcast. Says and reads nothing.

use std::ffi::OsString;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind as bind_fd, setsockopt, socket, sockopt};
use tokio::net::UdpSocket;

use super::Port;

const CLIENT: u16 = 68;
/// Room for some thousand messages, as the kernel counts them.
const BURST: usize = 4 << 20;

/// The service cannot listen.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen for dhcp on port {port} of interface {interface:?} (it takes CAP_NET_BIND_SERVICE, and no other dhcp server there)"
)]
pub struct BindError {
    interface: String,
    port: u16,
    #[source]
    source: io::Error,
}

/// Listens on one interface; other interfaces are left to other servers. Needs a tokio runtime.
pub fn bind(interface: &str, port: Port) -> Result<UdpSocket, BindError> {
    bind_at(interface, port.number())
}

/// The same on any port; 0 takes a free one.
pub fn bind_at(interface: &str, port: u16) -> Result<UdpSocket, BindError> {
    open(interface, port).map_err(|source| BindError { interface: interface.into(), port, source })
}

/// A client's socket, which other clients of this machine may have as well.
pub(crate) fn open_client(interface: &str) -> io::Result<UdpSocket> {
    open(interface, CLIENT)
}

fn open(interface: &str, port: u16) -> io::Result<UdpSocket> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd: OwnedFd = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
    setsockopt(&fd, sockopt::Broadcast, &true)?;
    // A rack that powers on asks at once. Without CAP_NET_ADMIN the kernel's own limit is what there is.
    if setsockopt(&fd, sockopt::RcvBufForce, &BURST).is_err() {
        setsockopt(&fd, sockopt::RcvBuf, &BURST)?;
    }
    if port == CLIENT {
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    }
    // The device comes first: the port then collides only with servers of the same interface.
    setsockopt(&fd, sockopt::BindToDevice, &OsString::from(interface))?;
    let [a, b, c, d] = Ipv4Addr::UNSPECIFIED.octets();
    bind_fd(fd.as_raw_fd(), &SockaddrIn::new(a, b, c, d, port))?;
    UdpSocket::from_std(fd.into())
}
