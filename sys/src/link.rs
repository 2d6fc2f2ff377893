//! Network interfaces over ioctls: up, address, MTU, default route; and the two sockets that a DHCP client needs.
//! IPv4 and one address per interface. What to set, and when, is decided elsewhere.

use std::ffi::CString;
use std::io;
use std::mem;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, SockaddrIn, bind, recv, setsockopt, socket,
    sockopt,
};

/// What failed, and on which interface.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No interface can be called this.
    #[error("{0:?} is no name of an interface")]
    Name(String),
    /// A socket to speak to the kernel through.
    #[error("cannot open a socket")]
    Socket(#[source] io::Error),
    /// Setting flags.
    #[error("cannot bring {0} up")]
    Up(String, #[source] io::Error),
    /// Setting the MTU.
    #[error("cannot set the mtu of {interface} to {mtu}")]
    Mtu {
        /// Of which interface.
        interface: String,
        /// To what.
        mtu: u16,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Setting or taking away the address.
    #[error("cannot set the address of {interface} to {address}/{prefix}")]
    Address {
        /// Of which interface.
        interface: String,
        /// To what; 0.0.0.0 takes it away.
        address: Ipv4Addr,
        /// Bits of the network part.
        prefix: u8,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Setting or taking away a route.
    #[error("cannot set the default route of {interface} to {gateway}")]
    Route {
        /// Of which interface.
        interface: String,
        /// Through whom; 0.0.0.0 for all of the interface.
        gateway: Ipv4Addr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Binding a DHCP client's socket.
    #[error("cannot listen for dhcp on {0}")]
    Dhcp(String, #[source] io::Error),
    /// Listening to the kernel.
    #[error("cannot listen for changes of interfaces")]
    Events(#[source] io::Error),
    /// Setting the host's name.
    #[error("cannot set the host name to {0}")]
    Hostname(String, #[source] io::Error),
}

/// Brings an interface up; one that is up stays as it is. The kernel gives `lo` its address by itself.
pub fn set_up(interface: &str) -> Result<(), LinkError> {
    let failed = |source| LinkError::Up(interface.to_owned(), source);
    let (socket, mut request) = prepare(interface)?;
    ioctl(&socket, libc::SIOCGIFFLAGS, &mut request).map_err(failed)?;
    let up = libc::IFF_UP as libc::c_short;
    // SAFETY: SIOCGIFFLAGS filled this member of the union (netdevice(7)).
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    if flags & up != 0 {
        return Ok(());
    }
    request.ifr_ifru.ifru_flags = flags | up;
    ioctl(&socket, libc::SIOCSIFFLAGS, &mut request).map_err(failed)
}

/// Sets the MTU.
pub fn set_mtu(interface: &str, mtu: u16) -> Result<(), LinkError> {
    let (socket, mut request) = prepare(interface)?;
    request.ifr_ifru.ifru_mtu = mtu.into();
    ioctl(&socket, libc::SIOCSIFMTU, &mut request).map_err(|source| LinkError::Mtu {
        interface: interface.to_owned(),
        mtu,
        source,
    })
}

/// The first IPv4 address, with the bits of its network part.
pub fn address(interface: &str) -> Result<Option<(Ipv4Addr, u8)>, LinkError> {
    let (socket, mut request) = prepare(interface)?;
    let mut read = |code| match ioctl(&socket, code, &mut request) {
        // SAFETY: both requests fill this member of the union with an AF_INET address (netdevice(7)).
        Ok(()) => Ok(Some(from_sockaddr(unsafe { request.ifr_ifru.ifru_addr }))),
        Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Ok(None),
        Err(source) => {
            let (address, prefix) = (Ipv4Addr::UNSPECIFIED, 0);
            Err(LinkError::Address { interface: interface.to_owned(), address, prefix, source })
        }
    };
    let Some(address) = read(libc::SIOCGIFADDR)? else { return Ok(None) };
    let mask = read(libc::SIOCGIFNETMASK)?.unwrap_or(Ipv4Addr::BROADCAST);
    // Contiguous, because the kernel takes no other.
    Ok(Some((address, mask.to_bits().leading_ones() as u8)))
}

/// Makes this the only address. The kernel drops the routes of the one before it.
pub fn set_address(interface: &str, address: Ipv4Addr, prefix: u8) -> Result<(), LinkError> {
    let failed = |source| LinkError::Address { interface: interface.to_owned(), address, prefix, source };
    let mask = mask(prefix).ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    let (socket, mut request) = prepare(interface)?;
    request.ifr_ifru.ifru_addr = to_sockaddr(address);
    ioctl(&socket, libc::SIOCSIFADDR, &mut request).map_err(failed)?;
    request.ifr_ifru.ifru_netmask = to_sockaddr(mask);
    ioctl(&socket, libc::SIOCSIFNETMASK, &mut request).map_err(failed)?;
    if prefix < 31 {
        request.ifr_ifru.ifru_broadaddr = to_sockaddr(address | !mask);
        ioctl(&socket, libc::SIOCSIFBRDADDR, &mut request).map_err(failed)?;
    }
    Ok(())
}

/// Takes the address away, and with it its routes. None to take away is fine.
pub fn clear_address(interface: &str) -> Result<(), LinkError> {
    if address(interface)?.is_none() {
        return Ok(());
    }
    let (socket, mut request) = prepare(interface)?;
    let address = Ipv4Addr::UNSPECIFIED;
    request.ifr_ifru.ifru_addr = to_sockaddr(address);
    ioctl(&socket, libc::SIOCSIFADDR, &mut request).map_err(|source| LinkError::Address {
        interface: interface.to_owned(),
        address,
        prefix: 0,
        source,
    })
}

/// Makes this the only default route through the interface; none takes it away. A gateway outside of the network of
/// the address gets a route of its own.
pub fn set_default_route(interface: &str, gateway: Option<Ipv4Addr>) -> Result<(), LinkError> {
    let any = Ipv4Addr::UNSPECIFIED;
    loop {
        match route(interface, libc::SIOCDELRT, &Route { to: any, mask: any, through: None }) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => break,
            Err(source) => return Err(LinkError::Route { interface: interface.to_owned(), gateway: any, source }),
        }
    }
    let Some(gateway) = gateway else { return Ok(()) };
    let failed = |source| LinkError::Route { interface: interface.to_owned(), gateway, source };
    let near =
        address(interface)?.is_some_and(|(own, prefix)| mask(prefix).is_some_and(|mask| own & mask == gateway & mask));
    if !near {
        let direct = Route { to: gateway, mask: Ipv4Addr::BROADCAST, through: None };
        match route(interface, libc::SIOCADDRT, &direct) {
            Err(error) if error.raw_os_error() != Some(libc::EEXIST) => return Err(failed(error)),
            _ => {}
        }
    }
    route(interface, libc::SIOCADDRT, &Route { to: any, mask: any, through: Some(gateway) }).map_err(failed)
}

/// Sets the name of the host.
pub fn set_hostname(name: &str) -> Result<(), LinkError> {
    nix::unistd::sethostname(name).map_err(|errno| LinkError::Hostname(name.to_owned(), errno.into()))
}

/// A socket at the port of DHCP clients that sends and receives through one interface only, which needs no address.
/// It does not block.
pub fn dhcp_socket(interface: &str) -> Result<UdpSocket, LinkError> {
    let failed = |errno: Errno| LinkError::Dhcp(interface.to_owned(), errno.into());
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Inet, SockType::Datagram, flags, None).map_err(failed)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true).map_err(failed)?;
    setsockopt(&fd, sockopt::Broadcast, &true).map_err(failed)?;
    setsockopt(&fd, sockopt::BindToDevice, &interface.into()).map_err(failed)?;
    bind(fd.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, 68)).map_err(failed)?;
    Ok(fd.into())
}

/// Becomes readable whenever an interface appears, vanishes, or changes its state.
#[derive(Debug)]
pub struct LinkEvents(OwnedFd);

impl LinkEvents {
    /// Changes from now on are seen: look at the interfaces after this, not before.
    pub fn listen() -> Result<Self, LinkError> {
        let failed = |errno: Errno| LinkError::Events(errno.into());
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute).map_err(failed)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, libc::RTMGRP_LINK as u32)).map_err(failed)?;
        Ok(Self(fd))
    }

    /// Forgets what has happened so far. An overflow is one more reason to look, not an error.
    pub fn drain(&self) -> Result<(), LinkError> {
        let mut buffer = [0; 8192];
        loop {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(_) | Err(Errno::EINTR | Errno::ENOBUFS) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(errno) => return Err(LinkError::Events(errno.into())),
            }
        }
    }
}

impl AsFd for LinkEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits until one of these can be read or has failed, for a time or for ever. Returns early on a signal.
pub fn wait_readable(fds: &[BorrowedFd<'_>], limit: Option<Duration>) -> io::Result<()> {
    let mut fds: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    // A millisecond more than asked, or a caller would spin in the last one.
    let limit = limit.map_or(PollTimeout::NONE, |limit| {
        PollTimeout::try_from(limit + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
    });
    match poll(&mut fds, limit) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

struct Route {
    to: Ipv4Addr,
    mask: Ipv4Addr,
    through: Option<Ipv4Addr>,
}

fn route(interface: &str, code: libc::c_ulong, route: &Route) -> io::Result<()> {
    let name = CString::new(interface)?;
    let socket = ioctl_socket()?;
    // SAFETY: the structure is plain data for which zeroes are valid (a null `rt_dev` names no device).
    let mut entry: libc::rtentry = unsafe { mem::zeroed() };
    entry.rt_dst = to_sockaddr(route.to);
    entry.rt_genmask = to_sockaddr(route.mask);
    entry.rt_flags = libc::RTF_UP as _;
    entry.rt_dev = name.as_ptr().cast_mut();
    if let Some(gateway) = route.through {
        entry.rt_gateway = to_sockaddr(gateway);
        entry.rt_flags |= libc::RTF_GATEWAY as libc::c_ushort;
    }
    if route.mask == Ipv4Addr::BROADCAST {
        entry.rt_flags |= libc::RTF_HOST as libc::c_ushort;
    }
    ioctl(&socket, code, &mut entry)
}

fn prepare(interface: &str) -> Result<(OwnedFd, libc::ifreq), LinkError> {
    let name = interface.as_bytes();
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains(&0) {
        return Err(LinkError::Name(interface.to_owned()));
    }
    // SAFETY: the structure is plain data for which zeroes are valid.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    Ok((ioctl_socket().map_err(LinkError::Socket)?, request))
}

fn ioctl_socket() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?)
}

fn ioctl<T>(socket: &OwnedFd, code: libc::c_ulong, argument: &mut T) -> io::Result<()> {
    // SAFETY: every caller pairs the request with the structure that netdevice(7) or rtnetlink's ioctls name for it,
    // and it lives beyond the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), code as _, std::ptr::from_mut(argument)) };
    Errno::result(result).map(drop).map_err(io::Error::from)
}

fn mask(prefix: u8) -> Option<Ipv4Addr> {
    let host_bits = 32u32.checked_sub(prefix.into())?;
    Some(Ipv4Addr::from_bits(u32::MAX.checked_shl(host_bits).unwrap_or(0)))
}

fn to_sockaddr(address: Ipv4Addr) -> libc::sockaddr {
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) },
        sin_zero: [0; 8],
    };
    // SAFETY: both are plain data of the same size, and ip(7) has an AF_INET `sockaddr` look like this.
    unsafe { mem::transmute(address) }
}

fn from_sockaddr(address: libc::sockaddr) -> Ipv4Addr {
    // SAFETY: both are plain data of the same size; whatever the bytes are, they are valid integers.
    let address: libc::sockaddr_in = unsafe { mem::transmute(address) };
    Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lo_has_its_address_and_stays_up() {
        set_up("lo").unwrap_or_else(|error| assert!(matches!(error, LinkError::Up(..)), "{error}"));
        assert_eq!(address("lo").unwrap(), Some((Ipv4Addr::LOCALHOST, 8)));
    }

    #[test]
    fn a_name_that_cannot_be_is_refused_before_the_kernel_sees_it() {
        for name in ["", "a-name-of-more-than-15", "a\0b"] {
            assert!(matches!(set_up(name), Err(LinkError::Name(_))), "{name:?}");
        }
    }

    #[test]
    fn masks() {
        assert_eq!(mask(24), Some(Ipv4Addr::new(255, 255, 255, 0)));
        assert_eq!((mask(0), mask(32)), (Some(Ipv4Addr::UNSPECIFIED), Some(Ipv4Addr::BROADCAST)));
        assert_eq!(mask(33), None);
    }
}
