//! The file that `ironhook serve` is given. An unknown key, a missing one or a bad value is an error with its line.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use netboot::Mode;
use netboot::http::Caps;
use netboot::rules::Rule;
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
    /// What DHCP is on `interface`: off, reservation (also: on), proxy or auto. Its port is 67 whatever happens.
    #[serde(default)]
    pub dhcp: Dhcp,
    /// More interfaces, each with its own mode. A VLAN is the interface of its tag.
    #[serde(default)]
    pub interfaces: Vec<OtherInterface>,
    /// UDP.
    #[serde(default)]
    pub tftp: Service,
    /// Boot files.
    #[serde(default)]
    pub http: Service,
    /// The same with TLS.
    #[serde(default)]
    pub https: Option<Https>,
    /// Who boots what, and how.
    #[serde(default)]
    pub netboot: Netboot,
    /// The workflow service.
    #[serde(default)]
    pub grpc: Listen,
    /// Besides the same on the port of `http`.
    #[serde(default)]
    pub metadata: Service,
    /// A file of keys (docs/command-line.md) that metadata tells every machine of ours: credentials of registries, proxies.
    #[serde(default)]
    pub credentials: Option<PathBuf>,
    /// The operator's, on loopback.
    #[serde(default)]
    pub api: Listen,
}

/// An interface besides `interface`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OtherInterface {
    /// The kernel's name.
    pub name: String,
    /// What DHCP is there.
    #[serde(default)]
    pub mode: Mode,
    /// What machines there reach the server at, when it is not `address`.
    #[serde(default)]
    pub address: Option<Ipv4Addr>,
}

/// HTTPS. iPXE checks RSA signatures only.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Https {
    /// `ip:port`; port 7443 of all addresses unless said.
    #[serde(default)]
    pub listen: Option<SocketAddr>,
    /// The chain, PEM.
    pub certificate: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

/// Who boots what, and how.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Netboot {
    /// Before the defaults (docs/netboot.md).
    pub rules: Vec<Rule>,
    /// By the number of option 93, instead of the built-in lists.
    pub loaders: BTreeMap<u16, Vec<String>>,
    /// How long a loader may show no sign before the next of its list is offered.
    pub next_loader_minutes: u64,
    /// Big files sent by HTTP at the same time, in all.
    pub transfers: usize,
    /// And to one subnet of 256 addresses.
    pub transfers_per_subnet: usize,
    /// TFTP transfers stay on the service's port.
    pub tftp_single_port: bool,
    /// Firmware of Raspberry Pis.
    pub raspberry: Option<PathBuf>,
    /// Whether scripts carry boot tickets.
    pub tickets: bool,
}

impl Default for Netboot {
    fn default() -> Self {
        let caps = Caps::default();
        Self {
            rules: Vec::new(),
            loaders: BTreeMap::new(),
            next_loader_minutes: 3,
            transfers: caps.transfers,
            transfers_per_subnet: caps.per_subnet,
            tftp_single_port: false,
            raspberry: None,
            tickets: true,
        }
    }
}

impl Netboot {
    /// Of one loader.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.next_loader_minutes.saturating_mul(60))
    }

    /// Of HTTP.
    pub fn caps(&self) -> Caps {
        Caps { transfers: self.transfers, per_subnet: self.transfers_per_subnet }
    }
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
pub struct Dhcp(pub Mode);

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
        if config.dhcp.0 != Mode::Off && config.interface.as_ref().is_none_or(String::is_empty) {
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
        Ok(match from.deserialize_any(OffOr { words: SWITCH })? {
            Said::Word("off") => Self::Off,
            Said::Word(_) => Self::default(),
            Said::Listen(listen) => Self::On(listen),
        })
    }
}

impl<'de> Deserialize<'de> for Dhcp {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match from.deserialize_any(OffOr { words: MODES })? {
            Said::Word(word) => Ok(Self(match word {
                "off" => Mode::Off,
                "proxy" => Mode::Proxy,
                "auto" => Mode::Auto,
                _ => Mode::Reservation,
            })),
            Said::Listen(Listen { listen: None }) => Ok(Self(Mode::Reservation)),
            Said::Listen(Listen { listen: Some(address) }) if address.port() == 67 => Ok(Self(Mode::Reservation)),
            Said::Listen(_) => {
                Err(D::Error::custom("DHCP is answered on port 67 of `interface`, nothing else is possible"))
            }
        }
    }
}

const SWITCH: &[&str] = &["off", "on"];
const MODES: &[&str] = &["off", "on", "reservation", "proxy", "auto"];

/// One of some words, or a map. YAML's readers disagree on whether `off` is a word.
struct OffOr {
    words: &'static [&'static str],
}

enum Said {
    Word(&'static str),
    Listen(Listen),
}

impl<'de> Visitor<'de> for OffOr {
    type Value = Said;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "one of {} or `{{listen: ip:port}}`", self.words.join(", "))
    }

    fn visit_bool<E: Error>(self, on: bool) -> Result<Said, E> {
        Ok(Said::Word(if on { "on" } else { "off" }))
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Said, E> {
        let known = self.words.iter().find(|known| **known == word);
        known.map(|word| Said::Word(word)).ok_or_else(|| {
            E::custom(format_args!("{word:?} is neither {} nor `{{listen: ip:port}}`", self.words.join(", ")))
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Said, A::Error> {
        Listen::deserialize(MapAccessDeserializer::new(map)).map(Said::Listen)
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
        assert!(matches!((config.dhcp, config.tftp), (Dhcp(Mode::Reservation), Service::On(_))));
        let config = read(&format!("{GOOD}dhcp: off\ntftp: \"off\"\nmetadata: {{listen: 127.0.0.1:0}}\n")).unwrap();
        assert!(matches!((config.dhcp, config.tftp), (Dhcp(Mode::Off), Service::Off)));
        assert!(matches!(config.metadata, Service::On(Listen { listen: Some(a) }) if a.port() == 0));
    }

    #[test]
    fn modes_rules_and_more_interfaces_are_read() {
        let text = format!(
            "{GOOD}dhcp: proxy\ninterfaces:\n  - {{name: eth1, mode: auto, address: 10.1.0.1}}\nnetboot:\n  rules:\n    - name: lab\n      when: {{known: false}}\n      then: enroll\n"
        );
        let config = read(&text).unwrap();
        assert_eq!((config.dhcp, config.interfaces[0].mode), (Dhcp(Mode::Proxy), Mode::Auto));
        assert_eq!((config.netboot.rules.len(), config.netboot.next_loader_minutes), (1, 3));
    }

    #[test]
    fn mistakes_have_their_line() {
        for (text, expected) in [
            (format!("{GOOD}htpp: {{}}\n"), ":7: unknown field \"htpp\""),
            (format!("{GOOD}tftp: {{lisen: 1.2.3.4:5}}\n"), ":7: unknown field \"lisen\""),
            (format!("{GOOD}tftp: maybe\n"), ":7: "),
            (format!("{GOOD}dhcp: maybe\n"), ":7: \"maybe\" is neither off, on, reservation, proxy, auto nor"),
            (format!("{GOOD}netboot:\n  rules:\n    - {{name: a, when: {{colour: 1}}, then: disk}}\n"), ":9: "),
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
