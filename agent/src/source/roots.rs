//! Whom we believe and who we are over TLS: the system's certificate authorities, those of the site beside them, and a
//! certificate of our own. Reads files; a file that is named and cannot be used is an error, never skipped.

use std::path::{Path, PathBuf};

use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use super::authorities;
use crate::config::Config;

/// Where distributions keep their authorities, as one file.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// A file that TLS needs cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// It cannot be read.
    #[error("cannot read {what} {path}")]
    Read {
        /// What it holds.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It is not what it should be.
    #[error("{path} holds no {what} as PEM")]
    Pem {
        /// What it should hold.
        what: &'static str,
        /// Which file.
        path: PathBuf,
    },
}

/// Believes the system and the site.
pub fn trusted(config: &Config) -> Result<ClientTlsConfig, RootsError> {
    // Those that a server of 0.6 hands out are instead of the system's.
    let handed_out = config.cert_url.is_some().then(|| authorities::place(config));
    let named = handed_out.or_else(|| std::env::var_os("SSL_CERT_FILE").map(PathBuf::from));
    let system = match &named {
        Some(path) => Some(read("certificate authorities", path, "CERTIFICATE")?),
        None => SYSTEM.iter().find_map(|path| read("certificate authorities", Path::new(path), "CERTIFICATE").ok()),
    };
    let mut tls = match system {
        Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
        // An image without a list: the one that was built in.
        None => ClientTlsConfig::new().with_webpki_roots(),
    };
    if let Some(path) = &config.ca_file {
        tls = tls.ca_certificate(Certificate::from_pem(read("certificate authorities", path, "CERTIFICATE")?));
    }
    identified(tls, config)
}

/// With our certificate, if there is one.
pub fn identified(tls: ClientTlsConfig, config: &Config) -> Result<ClientTlsConfig, RootsError> {
    let Some((cert, key)) = &config.identity else { return Ok(tls) };
    let (cert, key) = (read("certificate", cert, "CERTIFICATE")?, read("private key", key, "PRIVATE KEY")?);
    Ok(tls.identity(Identity::from_pem(cert, key)))
}

fn read(what: &'static str, path: &Path, label: &str) -> Result<Vec<u8>, RootsError> {
    let pem = std::fs::read(path).map_err(|source| RootsError::Read { what, path: path.into(), source })?;
    let end = format!("{label}-----");
    if pem.windows(end.len()).any(|window| window == end.as_bytes()) {
        Ok(pem)
    } else {
        Err(RootsError::Pem { what, path: path.into() })
    }
}
