//! The file that `ironhook serve` is given. An unknown key, a missing one or a bad value is an error with its line.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::de::{Error, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};

use crate::yaml;

/// Everything the site decides.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// The address that machines reach us at.
    pub address: Ipv4Addr,
    /// The interface that DHCP is answered on.
    #[serde(default)]
    pub interface: Option<String>,
    /// The directory of the database.
    pub state: PathBuf,
    /// The directory with `vmlinuz-<arch>` and `initramfs-<arch>`.
    pub artifacts: PathBuf,
    /// The directory of the network boot programs.
    pub loaders: PathBuf,
    /// The directory that is served as `/files`.
    pub files: PathBuf,
    /// Kernel arguments for every machine.
    #[serde(default)]
    pub kernel_args: String,
    /// Its port is 67 whatever happens.
    #[serde(default)]
    pub dhcp: Dhcp,
    /// UDP.
    #[serde(default)]
    pub tftp: Service,
    /// Boot files.
    #[serde(default)]
    pub http: Listen,
    /// The workflow service.
    #[serde(default)]
    pub grpc: Listen,
    /// Besides the same on the port of `http`.
    #[serde(default)]
    pub metadata: Service,
    /// The operator's, on loopback.
    #[serde(default)]
    pub api: Listen,
}

/// A service that is always on.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// `ip:port`; port 0 takes any.
    pub listen: Option<SocketAddr>,
}

/// A service that may be `off`.
#[derive(Clone, Copy, Debug)]
pub enum Service {
    /// Not offered.
    Off,
    /// Offered.
    On(Listen),
}

/// DHCP takes no address: it answers on an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dhcp {
    /// Not offered.
    Off,
    /// Offered.
    #[default]
    On,
}

impl Default for Service {
    fn default() -> Self {
        Self::On(Listen::default())
    }
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file.
    #[error("cannot read the configuration {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What is in it.
    #[error("{path}:{line}: {message}", path = .path.display())]
    Mistake {
        /// Which file.
        path: PathBuf,
        /// Counts from 1.
        line: usize,
        /// One line.
        message: String,
    },
}

impl Config {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
        let mistake = |line, message| ConfigError::Mistake { path: path.into(), line, message };
        let config: Self = yaml::one(&text).map_err(|problem| mistake(problem.line, problem.message))?;
        if config.dhcp == Dhcp::On && config.interface.as_ref().is_none_or(String::is_empty) {
            return Err(mistake(1, "interface is missing (the one to answer DHCP on; or set dhcp to off)".into()));
        }
        let api = config.api.listen.map(|address| address.ip());
        if api.is_some_and(|ip| !ip.is_loopback()) {
            return Err(mistake(1, "api must listen on a loopback address, it asks nobody who they are".into()));
        }
        Ok(config)
    }
}

impl Listen {
    /// The address to listen on.
    pub fn or(self, ip: impl Into<IpAddr>, port: u16) -> SocketAddr {
        self.listen.unwrap_or_else(|| SocketAddr::new(ip.into(), port))
    }
}

impl<'de> Deserialize<'de> for Service {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(OffOr)
    }
}

impl<'de> Deserialize<'de> for Dhcp {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match from.deserialize_any(OffOr)? {
            Service::Off => Ok(Self::Off),
            Service::On(Listen { listen: None }) => Ok(Self::On),
            Service::On(Listen { listen: Some(address) }) if address.port() == 67 => Ok(Self::On),
            Service::On(_) => {
                Err(D::Error::custom("DHCP is answered on port 67 of `interface`, nothing else is possible"))
            }
        }
    }
}

/// `off`, or a map. YAML's readers disagree on whether `off` is a word.
struct OffOr;

impl<'de> Visitor<'de> for OffOr {
    type Value = Service;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`off` or `{listen: ip:port}`")
    }

    fn visit_bool<E: Error>(self, on: bool) -> Result<Service, E> {
        Ok(if on { Service::default() } else { Service::Off })
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Service, E> {
        match word {
            "off" => Ok(Service::Off),
            "on" => Ok(Service::default()),
            _ => Err(E::custom(format_args!("{word:?} is neither `off` nor `{{listen: ip:port}}`"))),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Service, A::Error> {
        Listen::deserialize(MapAccessDeserializer::new(map)).map(Service::On)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "address: 10.0.0.1\ninterface: br0\nstate: /s\nartifacts: /a\nloaders: /l\nfiles: /f\n";

    fn read(text: &str) -> Result<Config, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::read(file.path())
            .map_err(|e| e.to_string().rsplit_once(file.path().to_str().unwrap()).unwrap().1.into())
    }

    #[test]
    fn services_are_on_unless_off() {
        let config = read(GOOD).unwrap();
        assert!(matches!((config.dhcp, config.tftp), (Dhcp::On, Service::On(_))));
        let config = read(&format!("{GOOD}dhcp: off\ntftp: \"off\"\nmetadata: {{listen: 127.0.0.1:0}}\n")).unwrap();
        assert!(matches!((config.dhcp, config.tftp), (Dhcp::Off, Service::Off)));
        assert!(matches!(config.metadata, Service::On(Listen { listen: Some(a) }) if a.port() == 0));
    }

    #[test]
    fn mistakes_have_their_line() {
        for (text, expected) in [
            (format!("{GOOD}htpp: {{}}\n"), ":7: unknown field \"htpp\""),
            (format!("{GOOD}tftp: {{lisen: 1.2.3.4:5}}\n"), ":7: unknown field \"lisen\""),
            (format!("{GOOD}tftp: maybe\n"), ":7: "),
            (GOOD.replace("10.0.0.1", "10.0.0"), ":1: "),
            (GOOD.replace("state: /s\n", ""), ":5: state is missing"),
            (GOOD.replace("interface: br0\n", ""), ":1: interface is missing"),
            (format!("{GOOD}api: {{listen: 0.0.0.0:7480}}\n"), ":1: api must listen on a loopback address"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
