//! Flags and environment, with the names of both generations of workers, become one checked configuration or all
//! problems at once. A flag beats a variable; a variable that is set but empty counts as unset (wire reference §5.1).

mod flags;
mod values;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::convert::Era;
use spec::dhcp::lease::Lease;
use spec::{Secret, WorkerId, paths};

pub use crate::config::flags::Flags;
use crate::config::values::{authority, boolean, duration, socket};

/// How long a registry that is away is waited for.
const PULL: Duration = Duration::from_secs(300);
/// Most bytes of `/workflow/data`, as the field has it.
const LARGEST_DATA: u64 = 10 << 20;

/// How to speak to the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tls {
    /// In the clear.
    Off,
    /// Against the public roots.
    Verified,
    /// Encrypted, with whomever it is.
    Unverified,
}

/// Which workflow service to speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// Whichever the server has, with `ironhook.v1` beside it if it has that.
    Auto,
    /// Under either of its prefixes.
    Classic,
    /// Of 0.6 to 0.8 only.
    ClassicOld,
    /// `GetAction`.
    Newer,
    /// Classic with `ironhook.v1`, and nothing less.
    Ironhook,
}

impl Protocol {
    /// The service, if only one is possible.
    pub const fn era(self) -> Option<Era> {
        match self {
            Self::Auto => None,
            Self::Classic | Self::ClassicOld | Self::Ironhook => Some(Era::Classic),
            Self::Newer => Some(Era::Newer),
        }
    }
}

/// Which containers are privileged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Privileges {
    /// All, as the field has it.
    Privileged,
    /// Those whose image says so.
    Declared,
}

/// Who we are to a registry.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Which registry they are for; no other ever gets them.
    pub server: String,
    /// The name.
    pub username: String,
    /// The password.
    pub password: Secret,
}

/// Everything that is configured, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who we are.
    pub worker: WorkerId,
    /// `host:port` of the server.
    pub authority: String,
    /// How to speak to it.
    pub tls: Tls,
    /// Believed beside the system's certificate authorities, PEM.
    pub ca_file: Option<PathBuf>,
    /// Where the only authorities to believe are handed out, instead of the system's.
    pub cert_url: Option<String>,
    /// Our certificate and its key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// From the boot script, single use. Only ever sent over verified TLS.
    pub ticket: Option<Secret>,
    /// Which service to speak.
    pub protocol: Protocol,
    /// What is put in front of every image.
    pub registry: Option<String>,
    /// For its registry only.
    pub credentials: Option<Credentials>,
    /// The engine's socket is the first of these that exists.
    pub sockets: Vec<PathBuf>,
    /// Shared with engine and actions.
    pub worker_dir: PathBuf,
    /// Run-time state.
    pub run_dir: PathBuf,
    /// The longest wait between two tries.
    pub retry_interval: Duration,
    /// How long a pull whose failures pass is tried again.
    pub pull_timeout: Duration,
    /// Which containers are privileged.
    pub privileges: Privileges,
    /// One of [`crate::executor::Any::NAMES`].
    pub executor: String,
    /// OCI layouts of images that need no registry.
    pub images: Vec<PathBuf>,
    /// Registries without TLS, for images without an engine.
    pub plain_registries: Vec<String>,
    /// Stock actions are run as ours.
    pub builtin_actions: bool,
    /// The engine keeps its images in memory.
    pub images_in_memory: bool,
    /// The server is told what this machine is.
    pub detection: bool,
    /// Most bytes of `/workflow/data`.
    pub largest_data: u64,
}

/// All that is wrong with flags and environment.
#[derive(Debug)]
pub struct ConfigError(Vec<String>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "configuration: {}", self.0.join("; "))
    }
}

impl std::error::Error for ConfigError {}

/// Looks options up and collects what is wrong with them.
struct Reader<'a> {
    environment: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<String>,
}

impl Reader<'_> {
    /// Where the value came from, and the value. An empty flag counts as unset, as an empty variable does.
    fn find(&self, flag: (&str, Option<String>), variables: &[&str]) -> Option<(String, String)> {
        let given = flag.1.map(|value| (flag.0.to_owned(), value));
        let from = |name: &&str| (self.environment)(name).map(|value| ((*name).to_owned(), value));
        given.into_iter().chain(variables.iter().filter_map(from)).find(|(_, value)| !value.is_empty())
    }

    fn text(&self, flag: (&str, Option<String>), variables: &[&str]) -> Option<String> {
        self.find(flag, variables).map(|(_, value)| value)
    }

    fn parsed<T>(
        &mut self,
        flag: (&str, Option<String>),
        variables: &[&str],
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (from, value) = self.find(flag, variables)?;
        parse(&value).map_err(|problem| self.problems.push(format!("{from}: {problem}"))).ok()
    }
}

impl Config {
    /// As [`Config::resolve`], for a run without a server: who works and for whom need not be said.
    pub fn local(mut flags: Flags, environment: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        flags.id.get_or_insert_with(|| "local".to_owned());
        flags.tinkerbell_grpc_authority.get_or_insert_with(|| "localhost:1".to_owned());
        Self::resolve(flags, environment)
    }

    /// Flags first, then environment, then defaults.
    pub fn resolve(flags: Flags, environment: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut read = Reader { environment: &environment, problems: Vec::new() };
        let run_dir = read.text(("--run-dir", flags.run_dir), &["IRONHOOK_RUN_DIR"]);
        let run_dir = PathBuf::from(run_dir.unwrap_or_else(|| paths::RUN.to_owned()));
        let worker = worker(&mut read, flags.id, &run_dir);
        let authority = server(&mut read, flags.tinkerbell_grpc_authority);
        let tls = tls(&mut read, flags.tinkerbell_tls, flags.tinkerbell_insecure_tls);
        let ca_file = read.text(("--ca-file", flags.ca_file), &["IRONHOOK_CA_FILE"]).map(PathBuf::from);
        let cert_url = read.parsed(("--cert-url", flags.cert_url), &["TINKERBELL_CERT_URL"], values::url);
        let identity = identity(&mut read, flags.client_cert, flags.client_key);
        // Authorities that came over the network are nobody's word.
        let is_verified = tls == Tls::Verified && cert_url.is_none();
        let ticket = read.text(("", None), &["IRONHOOK_TICKET"]).map(Secret::new).filter(|_| is_verified);
        let protocol = read.parsed(("--protocol", flags.protocol), &["IRONHOOK_PROTOCOL"], values::protocol);
        let registry = read.text(("--docker-registry", flags.docker_registry), &["DOCKER_REGISTRY"]);
        let named = read.text(("--registry-name", flags.registry_name), &["AGENT_REGISTRY_NAME"]);
        let credentials = credentials(&mut read, flags.registry_username, registry.clone().or(named));
        let sockets =
            read.parsed(("--docker-socket", flags.docker_socket), &["AGENT_DOCKER_SOCKET", "DOCKER_HOST"], socket);
        let worker_dir = read.text(("--worker-dir", flags.worker_dir), &["IRONHOOK_WORKER_DIR"]);
        let variables = ["RETRY_INTERVAL", "AGENT_BACKOFF_MAX_INTERVAL"];
        let retry = read.parsed(("--retry-interval", flags.retry_interval), &variables, duration);
        let variables = ["IRONHOOK_EXECUTOR", "AGENT_RUNTIME"];
        let executor = read.parsed(("--executor", flags.executor), &variables, values::executor);
        let privileges = read.parsed(("--privileges", flags.privileges), &["IRONHOOK_PRIVILEGES"], values::privileges);
        let pull = read.parsed(("--pull-timeout", flags.pull_timeout), &["IRONHOOK_PULL_TIMEOUT"], duration);
        let images = images(&read, flags.images);
        let plain = read.text(("--insecure-registries", flags.insecure_registries), &["INSECURE_REGISTRIES"]);
        let actions = read.parsed(("--actions", flags.actions), &["IRONHOOK_ACTIONS"], values::builtin);
        let in_memory = ("--images-in-memory", flags.images_in_memory);
        let in_memory = read.parsed(in_memory, &["IRONHOOK_IMAGES_IN_MEMORY"], boolean);
        let detection = ("--attribute-detection", flags.attribute_detection);
        let detection = read.parsed(detection, &["AGENT_ATTRIBUTE_DETECTION"], boolean);
        let largest = read.parsed(("--max-file-size", flags.max_file_size), &["MAX_FILE_SIZE"], values::bytes);
        read.parsed(("--log-level", flags.log_level), &["AGENT_LOG_LEVEL"], values::level);
        read.parsed(("--transport", flags.transport), &["AGENT_TRANSPORT"], values::transport);
        if flags.idle.registry_password.is_some() {
            read.problems.push("--registry-password: give it as REGISTRY_PASSWORD, not for all to see".to_owned());
        }
        match (worker, authority, read.problems) {
            (Some(worker), Some(authority), problems) if problems.is_empty() => Ok(Self {
                worker,
                authority,
                tls,
                ca_file,
                cert_url: cert_url.filter(|_| tls == Tls::Verified),
                identity,
                ticket,
                protocol: protocol.unwrap_or(Protocol::Auto),
                registry,
                credentials,
                sockets: sockets.map_or_else(default_sockets, |socket| vec![socket]),
                worker_dir: PathBuf::from(worker_dir.unwrap_or_else(|| paths::WORKER.to_owned())),
                run_dir,
                retry_interval: retry.unwrap_or(Duration::from_secs(3)),
                pull_timeout: pull.unwrap_or(PULL),
                privileges: privileges.unwrap_or(Privileges::Privileged),
                executor: executor.unwrap_or_else(|| "auto".to_owned()),
                images,
                plain_registries: plain
                    .iter()
                    .flat_map(|list| list.split(','))
                    .map(|it| it.trim().to_owned())
                    .collect(),
                builtin_actions: actions.unwrap_or(false),
                images_in_memory: in_memory.unwrap_or(false),
                detection: detection.unwrap_or(true),
                largest_data: largest.unwrap_or(LARGEST_DATA),
            }),
            (_, _, problems) => Err(ConfigError(problems)),
        }
    }
}

fn images(read: &Reader<'_>, flags: Vec<PathBuf>) -> Vec<PathBuf> {
    if !flags.is_empty() {
        return flags;
    }
    match read.text(("", None), &["IRONHOOK_IMAGES"]) {
        Some(list) => list.split(':').filter(|dir| !dir.is_empty()).map(PathBuf::from).collect(),
        None => vec![PathBuf::from(paths::BUILTIN_IMAGES), PathBuf::from(paths::SITE_IMAGES)],
    }
}

fn default_sockets() -> Vec<PathBuf> {
    vec![PathBuf::from(paths::DOCKER_SOCKET), PathBuf::from("/var/run/docker.sock")]
}

fn worker(read: &mut Reader<'_>, flag: Option<String>, run_dir: &Path) -> Option<WorkerId> {
    let parse = |text: &str| text.parse().map_err(|error: spec::id::IdError| error.to_string());
    // The order in which the newer generation's agent lets them win.
    let variables = ["WORKER_ID", "ID", "AGENT_ID"];
    if read.find(("--id", flag.clone()), &variables).is_some() {
        return read.parsed(("--id", flag), &variables, parse);
    }
    let path = run_dir.join("lease.json");
    let lease = std::fs::read(&path)
        .map_err(|error| error.to_string())
        .and_then(|text| serde_json::from_slice::<Lease>(&text).map_err(|error| error.to_string()));
    match lease {
        Ok(lease) => parse(&lease.mac.to_string()).map_err(|problem| read.problems.push(problem)).ok(),
        Err(error) => {
            let path = path.display();
            read.problems.push(format!("no worker id: give --id or WORKER_ID, or a lease in {path} ({error})"));
            None
        }
    }
}

fn server(read: &mut Reader<'_>, flag: Option<String>) -> Option<String> {
    let variables = ["TINKERBELL_GRPC_AUTHORITY", "AGENT_GRPC_SERVER"];
    let flag = ("--tinkerbell-grpc-authority", flag);
    if read.find(flag.clone(), &variables).is_none() {
        read.problems.push("no server: give --tinkerbell-grpc-authority or TINKERBELL_GRPC_AUTHORITY".to_owned());
    }
    read.parsed(flag, &variables, authority)
}

fn tls(read: &mut Reader<'_>, tls: Option<String>, insecure: Option<String>) -> Tls {
    let on = read.parsed(("--tinkerbell-tls", tls), &["TINKERBELL_TLS", "AGENT_GRPC_TLS"], boolean);
    let variables = ["TINKERBELL_INSECURE_TLS", "AGENT_GRPC_INSECURE_TLS"];
    let insecure = read.parsed(("--tinkerbell-insecure-tls", insecure), &variables, boolean);
    match (on.unwrap_or(true), insecure.unwrap_or(false)) {
        (false, _) => Tls::Off,
        (true, false) => Tls::Verified,
        (true, true) => Tls::Unverified,
    }
}

fn identity(read: &mut Reader<'_>, cert: Option<String>, key: Option<String>) -> Option<(PathBuf, PathBuf)> {
    let cert = read.text(("--client-cert", cert), &["IRONHOOK_CLIENT_CERT"]);
    let key = read.text(("--client-key", key), &["IRONHOOK_CLIENT_KEY"]);
    match (cert, key) {
        (Some(cert), Some(key)) => Some((cert.into(), key.into())),
        (None, None) => None,
        _ => {
            read.problems.push("--client-cert and --client-key are given together or not at all".to_owned());
            None
        }
    }
}

fn credentials(read: &mut Reader<'_>, user: Option<String>, server: Option<String>) -> Option<Credentials> {
    let username = read.text(("--registry-username", user), &["REGISTRY_USERNAME", "AGENT_REGISTRY_USER"])?;
    let password = read.text(("", None), &["REGISTRY_PASSWORD", "AGENT_REGISTRY_PASS"]).unwrap_or_default();
    let Some(server) = server else {
        // The engine would send them to whichever registry an image names.
        tracing::warn!("registry user name without DOCKER_REGISTRY or AGENT_REGISTRY_NAME: it is not used");
        return None;
    };
    Some(Credentials { server, username, password: Secret::new(password) })
}

#[cfg(test)]
mod tests;
