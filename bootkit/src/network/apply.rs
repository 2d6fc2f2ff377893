//! A lease put to use and taken out of use: address, route, MTU, host name, resolver, and the lease file that tells
//! everybody else. The file comes last and goes first: while it is there, the rest holds.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use spec::Mac;
use spec::dhcp::lease::Lease;
use spec::paths::LEASE;
use sys::link::{self, LinkError};

use super::message::Granted;
use crate::chain;
use crate::console::say;

/// Bound into every component.
pub const RESOLV_CONF: &str = "/run/resolvconf/resolv.conf";
/// IPv4 needs this much (RFC 791); a smaller one is a mistake.
const SMALLEST_MTU: u16 = 576;

/// A lease cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The kernel refused.
    #[error("cannot use the lease of {interface}")]
    Link {
        /// Whose lease.
        interface: String,
        /// What it refused.
        #[source]
        source: LinkError,
    },
    /// A file for the others.
    #[error("cannot write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The lease file.
    #[error("cannot remove {LEASE}")]
    Remove(#[source] io::Error),
}

/// Puts a lease to use. What holds already, from `before` or from an earlier run, is left as it is: taking an address
/// or a route away, even for a moment, would cut connections.
pub fn take(interface: &str, mac: Mac, granted: &Granted, before: Option<&Granted>) -> Result<(), ApplyError> {
    let failed = |source| ApplyError::Link { interface: interface.to_owned(), source };
    if let Some(mtu) = granted.mtu.filter(|mtu| before.is_none_or(|before| before.mtu != Some(*mtu))) {
        set_mtu(interface, mtu);
    }
    let wanted = Some((granted.address, granted.prefix));
    let moved = link::address(interface).map_err(failed)? != wanted;
    if moved {
        link::set_address(interface, granted.address, granted.prefix).map_err(failed)?;
    }
    if moved || before.is_none_or(|before| before.gateway != granted.gateway) {
        link::set_default_route(interface, granted.gateway).map_err(failed)?;
    }
    if let Some(name) = granted.hostname.as_deref().filter(|name| hostname().as_deref() != Some(*name)) {
        // A convenience: the machine works under any name.
        link::set_hostname(name).unwrap_or_else(|error| say(format_args!("network: {}", chain(&error))));
    }
    write_in_place(Path::new(RESOLV_CONF), &resolv_conf(interface, granted))?;
    write_lease(&lease(interface, mac, granted))
}

/// Takes it out of use.
pub fn leave(interface: &str) -> Result<(), ApplyError> {
    forget()?;
    link::clear_address(interface).map_err(|source| ApplyError::Link { interface: interface.to_owned(), source })
}

/// Removes the lease file. None is fine.
pub fn forget() -> Result<(), ApplyError> {
    match fs::remove_file(LEASE) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ApplyError::Remove(error)),
        _ => Ok(()),
    }
}

fn set_mtu(interface: &str, mtu: u16) {
    if mtu < SMALLEST_MTU {
        return say(format_args!("network: the dhcp server's mtu of {mtu} is too small to be meant, and is ignored"));
    }
    // Hardware may allow less than the server believes; the connection is better than none.
    link::set_mtu(interface, mtu).unwrap_or_else(|error| say(format_args!("network: {}", chain(&error))));
}

fn hostname() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/hostname").ok()?.trim_end().to_owned())
}

fn resolv_conf(interface: &str, granted: &Granted) -> String {
    let mut text = format!("# from the dhcp server {} on {interface}\n", granted.server);
    if let Some(domain) = &granted.domain {
        text += &format!("search {domain}\n");
    }
    text.extend(granted.dns.iter().map(|server| format!("nameserver {server}\n")));
    text
}

fn lease(interface: &str, mac: Mac, granted: &Granted) -> Lease {
    Lease {
        interface: interface.to_owned(),
        mac,
        address: granted.address,
        prefix: granted.prefix,
        gateway: granted.gateway,
        dns: granted.dns.clone(),
        hostname: granted.hostname.clone(),
        server: granted.server,
        seconds: granted.seconds,
    }
}

/// Components bind the file itself, so a new one put in its place would not reach those that run.
fn write_in_place(path: &Path, text: &str) -> Result<(), ApplyError> {
    let write = || {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        file.write_all(text.as_bytes())?;
        file.set_len(text.len() as u64)
    };
    write().map_err(|source| ApplyError::Write { path: path.to_owned(), source })
}

/// By rename, so that nobody reads half of it.
fn write_lease(lease: &Lease) -> Result<(), ApplyError> {
    let write = || {
        let text = serde_json::to_string(lease)?;
        let new = format!("{LEASE}.new");
        if let Some(parent) = Path::new(LEASE).parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&new, text + "\n")?;
        fs::rename(&new, LEASE)
    };
    write().map_err(|source| ApplyError::Write { path: LEASE.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shorter_text_leaves_nothing_of_the_longer_and_keeps_the_file() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/resolv.conf");
        write_in_place(&path, "nameserver 10.0.0.1\n").unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        write_in_place(&path, "x\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "x\n");
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    }

    #[test]
    fn causes_follow_their_error() {
        let source = LinkError::Name("a/b".into());
        let error = ApplyError::Link { interface: "eth0".into(), source };
        assert_eq!(chain(&error), "cannot use the lease of eth0: \"a/b\" is no name of an interface");
    }
}
