//! What the plan needs to know of this machine: its authorities, the bundle's certificates, where syslog is.

use std::fs;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use spec::cmdline::{Cmdline, SYSLOG_HOST};
use spec::paths::SITE;

use super::plan::Facts;
use crate::lease::{self, LeaseError};

const KNOWN: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Of a certificate or key.
const LARGEST: u64 = 1 << 20;

/// Something of the machine cannot be found out.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// A file or directory.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not a certificate's size.
    #[error("{0} is too large for a certificate or key")]
    Large(PathBuf),
    /// A name needs the network.
    #[error(transparent)]
    Lease(#[from] LeaseError),
}

/// Finds out.
pub fn gather(line: &Cmdline, own_authorities: bool) -> Result<Facts, FactsError> {
    let known =
        if own_authorities { fs::read_to_string(KNOWN).map_err(failed(Path::new(KNOWN)))? } else { String::new() };
    Ok(Facts { authorities: known, certs: certs(&Path::new(SITE).join("certs.d"))?, syslog: syslog(line)? })
}

/// `certs.d/<registry>/<file>` as dockerd has it.
fn certs(dir: &Path) -> Result<Vec<(String, Vec<u8>)>, FactsError> {
    let mut found = Vec::new();
    for registry in entries(dir)? {
        for file in entries(&registry)? {
            let size = fs::metadata(&file).map_err(failed(&file))?.len();
            if size > LARGEST {
                return Err(FactsError::Large(file));
            }
            let name = file.strip_prefix(dir).map(|name| name.display().to_string()).unwrap_or_default();
            found.push((name, fs::read(&file).map_err(failed(&file))?));
        }
    }
    Ok(found)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, FactsError> {
    let read = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(failed(dir))?,
    };
    let mut paths = read.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>().map_err(failed(dir))?;
    paths.sort();
    Ok(paths)
}

/// Its address. A container does not start when its log's receiver has none, so a name is looked up here, once.
fn syslog(line: &Cmdline) -> Result<Option<IpAddr>, FactsError> {
    let Some(host) = line.get(&SYSLOG_HOST) else { return Ok(None) };
    if let Ok(address) = host.parse() {
        return Ok(Some(address));
    }
    // The ISO path of the field says host:port.
    let bare = host.rsplit_once(':').map_or(host, |(host, _)| host);
    if let Ok(address) = bare.parse() {
        return Ok(Some(address));
    }
    lease::wait("engine")?;
    Ok((bare, 514).to_socket_addrs().ok().and_then(|mut found| found.next()).map(|address| address.ip()))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> FactsError {
    let path = path.to_owned();
    move |source| FactsError::Read { path, source }
}
