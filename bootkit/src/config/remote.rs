//! The sources of the network, each asked until it has answered, each told on the console while it is waited for.
//! They are asked directly: proxies are configured by what they say.

use std::io::Read;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use fetch::{Error, Options};
use sha2::{Digest, Sha256};
use spec::cmdline::{
    DOCKER_REGISTRY, IRONHOOK_CA, IRONHOOK_CONFIG, IRONHOOK_METADATA, Key, Origin, PACKET_BASE_URL, TINKERBELL, site,
    unseal,
};
use spec::paths::SITE_CA;

use super::{Config, ConfigError, metadata};
use crate::backoff::Backoff;
use crate::console::{Waiting, say};

/// Of certificate authorities and answers.
pub const LARGEST: usize = 1 << 20;
/// The field's classic sources are not worth a machine that never works.
const CLASSIC: Duration = Duration::from_secs(30);
const CLASSIC_PORT: u16 = 50061;
/// Below the base of a service of the EC2 kind.
const EC2_ID: &str = "2009-04-04/meta-data/instance-id";

/// A source of the network cannot be used; asking again would not help.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// No such file, not allowed, not a URL.
    #[error("{key}: cannot get the file")]
    Fetch {
        /// Who names it.
        key: &'static str,
        /// Why.
        #[source]
        source: Error,
    },
    /// Reading it.
    #[error("{key}: the file broke off or is not text")]
    Read {
        /// Who names it.
        key: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Nobody's certificates or keys are so long.
    #[error("{key}: the file has more than {LARGEST} bytes")]
    Large {
        /// Who names it.
        key: &'static str,
    },
    /// The wrong file.
    #[error("{key}: the file has the sha256 {found}, expected {expected}")]
    Digest {
        /// Who names it.
        key: &'static str,
        /// What was asked for.
        expected: String,
        /// What came.
        found: String,
    },
    /// Not certificates.
    #[error("{key}: there is no certificate in the file (expected PEM)")]
    NoCertificate {
        /// Who names it.
        key: &'static str,
    },
}

/// Adds all of them, in the order in which one may depend on the other.
pub fn add(config: &mut Config, who: &'static str) -> Result<(), ConfigError> {
    if let Some(value) = config.line.get(&IRONHOOK_CONFIG).map(str::to_owned) {
        let text = sealed(&IRONHOOK_CONFIG, &value, who)?;
        super::add(&mut config.line, Origin::Config, IRONHOOK_CONFIG.name, &text)?;
    }
    if let Some(value) = config.line.get(&IRONHOOK_CA).map(str::to_owned) {
        let pem = sealed(&IRONHOOK_CA, &value, who)?;
        config.authorities.push(certificates(&IRONHOOK_CA, pem)?);
    }
    if let Some(base) = config.line.get(&PACKET_BASE_URL).map(str::to_owned)
        && config.line.get(&DOCKER_REGISTRY).is_some()
        && let Ok(pem) = classic(&PACKET_BASE_URL, &format!("{}/ca.pem", base.trim_end_matches('/')), who)
    {
        match certificates(&PACKET_BASE_URL, pem) {
            Ok(pem) => config.one_registry = Some(pem),
            Err(error) => say(format_args!("{who}: {error}; it is not believed")),
        }
    }
    add_metadata(config, who)
}

/// `/metadata` has all there is to know; where it is missing or says no id, the EC2 tree may have one.
fn add_metadata(config: &mut Config, who: &'static str) -> Result<(), ConfigError> {
    let trimmed = |key: &Key| config.line.get(key).map(|base| base.trim_end_matches('/').to_owned());
    let (key, base, first) = match (trimmed(&IRONHOOK_METADATA), trimmed(&TINKERBELL)) {
        (Some(base), _) => {
            let first = patiently(&IRONHOOK_METADATA, &format!("{base}/metadata"), who);
            (&IRONHOOK_METADATA, base, first)
        }
        (None, Some(host)) => {
            let base = format!("{host}:{CLASSIC_PORT}");
            let first = classic(&TINKERBELL, &format!("{base}/metadata"), who);
            (&TINKERBELL, base, first)
        }
        (None, None) => return Ok(()),
    };
    let missing = match first {
        Ok(text) => {
            config.container_uuid = obey(config, &text, who);
            None
        }
        Err(error) if absent(&error) => Some(error),
        Err(_) if key.name == TINKERBELL.name => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if config.container_uuid.is_none() {
        config.container_uuid =
            classic(key, &format!("{base}/{EC2_ID}"), who).ok().and_then(|text| metadata::id(&text));
    }
    match missing {
        Some(error) if config.container_uuid.is_none() && key.name != TINKERBELL.name => Err(error.into()),
        _ => Ok(()),
    }
}

/// The id of an answer; what it has besides is in the configuration then.
fn obey(config: &mut Config, text: &str, who: &'static str) -> Option<String> {
    match metadata::obey(text, &mut config.line) {
        Ok(found) => {
            found.told.iter().for_each(|told| say(format_args!("{who}: {told}")));
            config.registry_authorities.extend(found.authorities);
            found.id
        }
        Err(why) => {
            say(format_args!("{who}: metadata: {why}; it is not obeyed"));
            None
        }
    }
}

/// The service is there, and has nothing at this path.
fn absent(error: &RemoteError) -> bool {
    matches!(error, RemoteError::Fetch { source: Error::Status { status: 404, .. }, .. })
}

/// A file that may have a digest, which is then checked.
fn sealed(key: &Key, value: &str, who: &'static str) -> Result<String, RemoteError> {
    let (url, expected) = unseal(value).unwrap_or((value, None));
    let text = patiently(key, url, who)?;
    if let Some(expected) = expected {
        let found: String = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        if found != expected {
            return Err(RemoteError::Digest { key: key.name, expected: expected.to_owned(), found });
        }
    } else if url.starts_with("http://") {
        say(format_args!(
            "{who}: {} has no digest and comes without TLS: whoever is between here and there can change it",
            key.name
        ));
    }
    Ok(text)
}

/// Until it is there. Only an answer that says no ends it.
fn patiently(key: &Key, url: &str, who: &'static str) -> Result<String, RemoteError> {
    let mut waiting = Waiting::new(who, format!("{} ({})", key.name, fetch::redacted(url)));
    let mut backoff = Backoff::default();
    loop {
        match once(key, url) {
            Err(RemoteError::Fetch { source, .. }) if passes(&source) => {
                waiting.still(&crate::chain(&source));
                thread::sleep(backoff.next());
            }
            Err(RemoteError::Read { source, .. }) if source.kind() != std::io::ErrorKind::InvalidData => {
                waiting.still(&source.to_string());
                thread::sleep(backoff.next());
            }
            result => return result,
        }
    }
}

/// For half a minute; then the boot goes on without, as the field's did.
fn classic(key: &Key, url: &str, who: &'static str) -> Result<String, RemoteError> {
    let mut waiting = Waiting::new(who, format!("{} ({})", key.name, fetch::redacted(url)));
    let mut backoff = Backoff::default();
    loop {
        match once(key, url) {
            Err(RemoteError::Fetch { source, .. }) if passes(&source) && waiting.lasted() < CLASSIC => {
                waiting.still(&crate::chain(&source));
                thread::sleep(backoff.next());
            }
            Err(error) => {
                say(format_args!("{who}: going on without {url}: {}", crate::chain(&error)));
                return Err(error);
            }
            Ok(text) => return Ok(text),
        }
    }
}

fn passes(error: &Error) -> bool {
    match error {
        Error::Status { status, .. } => *status >= 500 || *status == 429 || *status == 408,
        Error::Url { .. } | Error::Authorities { .. } | Error::Client { .. } => false,
        _ => true,
    }
}

fn once(key: &Key, url: &str) -> Result<String, RemoteError> {
    let key = key.name;
    let ca = PathBuf::from(SITE_CA);
    let options = Options { ca_file: ca.exists().then_some(ca), patience: Duration::ZERO, ..Options::default() };
    let response = fetch::open(url, &options).map_err(|source| RemoteError::Fetch { key, source })?;
    let mut text = String::new();
    let mut reader = response.reader.take(LARGEST as u64 + 1);
    reader.read_to_string(&mut text).map_err(|source| RemoteError::Read { key, source })?;
    if text.len() > LARGEST { Err(RemoteError::Large { key }) } else { Ok(text) }
}

fn certificates(key: &Key, pem: String) -> Result<String, RemoteError> {
    if pem.contains("-----BEGIN CERTIFICATE-----") {
        Ok(pem)
    } else {
        Err(RemoteError::NoCertificate { key: key.name })
    }
}

const _: () = assert!(site::LARGEST <= LARGEST);
