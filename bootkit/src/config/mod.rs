//! From the sources of the configuration to one [`Config`]: command line, site bundle, and, when they say so, a file and
//! a metadata service of the network. Who may say what is the table's business (`spec::cmdline`).

mod metadata;
mod remote;

use std::fs;
use std::io;
use std::path::Path;

use spec::boot::BootCode;
use spec::cmdline::{
    Cmdline, IRONHOOK_CA, IRONHOOK_CONFIG, IRONHOOK_METADATA, Origin, PACKET_BASE_URL, TINKERBELL, site,
};
use spec::paths::SITE_CA;

use crate::failure::Coded;
use crate::lease;

pub use remote::RemoteError;

const PATH: &str = "/proc/cmdline";

/// The configuration cannot be read, or not obeyed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No procfs, not text, ...
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of keys with mistakes.
    #[error("{path}: {told}")]
    Mistakes {
        /// Where it came from.
        path: String,
        /// All of them, with their lines.
        told: String,
    },
    /// The network is not to be had.
    #[error(transparent)]
    Lease(#[from] lease::LeaseError),
    /// A source of the network.
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

impl Coded for ConfigError {
    fn code(&self) -> BootCode {
        match self {
            Self::Read { .. } | Self::Mistakes { .. } => BootCode::BadConfig,
            Self::Lease(_) => BootCode::Network,
            Self::Remote(RemoteError::Digest { .. }) => BootCode::Digest,
            Self::Remote(_) => BootCode::ConfigFetch,
        }
    }
}

/// What the machine itself knows: command line and site bundle.
pub struct Local {
    /// Split and classified.
    pub fields: Cmdline,
    /// Of the command line, in bytes, without the end of the line.
    pub length: usize,
    /// Booted by EFI, whose stub cuts a little earlier.
    pub efi: bool,
    /// There is a site file.
    pub site: bool,
}

/// Everything that is known, whoever said it.
#[derive(Debug, Default)]
pub struct Config {
    /// All keys.
    pub line: Cmdline,
    /// Certificate authorities of the site, PEM: of the bundle and of `ironhook.ca`.
    pub authorities: Vec<String>,
    /// Believed for registries only: what metadata says, PEM.
    pub registry_authorities: Vec<String>,
    /// Believed for `docker_registry` only, because nobody vouches for it: `ca.pem` below `packet_base_url`.
    pub one_registry: Option<String>,
    /// The classic `id` of metadata.
    pub container_uuid: Option<String>,
}

/// Reads the line of the running kernel and the site bundle's file.
pub fn local() -> Result<Local, ConfigError> {
    let text = fs::read_to_string(PATH).map_err(|source| ConfigError::Read { path: PATH, source })?;
    let mut fields = Cmdline::parse(&text);
    let site = optional(site::PATH, site::LARGEST)?;
    if let Some(text) = &site {
        add(&mut fields, Origin::Site, site::PATH, text)?;
    }
    Ok(Local {
        length: text.trim_end_matches('\n').len(),
        efi: Path::new("/sys/firmware/efi").exists(),
        site: site.is_some(),
        fields,
    })
}

/// Whether more is to be had from the network.
pub fn needs_network(line: &Cmdline) -> bool {
    [&IRONHOOK_CONFIG, &IRONHOOK_CA, &IRONHOOK_METADATA, &TINKERBELL, &PACKET_BASE_URL]
        .into_iter()
        .any(|key| line.get(key).is_some())
}

/// Everything that is known; waits for the network when a source is there. `who` is told on the console.
pub fn whole(line: &Cmdline, who: &'static str) -> Result<Config, ConfigError> {
    let mut config = Config { line: line.clone(), ..Config::default() };
    config.authorities.extend(optional(SITE_CA, remote::LARGEST)?);
    if needs_network(line) {
        lease::wait(who)?;
        remote::add(&mut config, who)?;
    }
    Ok(config)
}

/// The keys of a file, or all its mistakes.
fn add(line: &mut Cmdline, origin: Origin, path: &str, text: &str) -> Result<(), ConfigError> {
    let told = |mistakes: Vec<site::Mistake>| ConfigError::Mistakes {
        path: path.to_owned(),
        told: mistakes.iter().map(|m| format!("line {}: {}", m.line, m.what)).collect::<Vec<_>>().join("; "),
    };
    for (key, value) in site::parse(text, origin == Origin::Config).map_err(told)? {
        line.add(origin, key, &value);
    }
    Ok(())
}

/// A file that may be there; an oversized one is an error.
fn optional(path: &'static str, largest: usize) -> Result<Option<String>, ConfigError> {
    match fs::read_to_string(path) {
        Ok(text) if text.len() > largest => {
            let source = io::Error::other(format!("it has {} bytes, {largest} are possible", text.len()));
            Err(ConfigError::Read { path, source })
        }
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigError::Read { path, source }),
    }
}
