//! Who works on this machine: our agent, or a worker image by Hook's rules, and with what. Pure.

use spec::cmdline::{
    Cmdline, DOCKER_REGISTRY, GRPC_AUTHORITY, GRPC_CERT_URL, HTTP_PROXY, HTTPS_PROXY, INSECURE_REGISTRIES,
    IRONHOOK_ACTIONS, IRONHOOK_CONFIG, IRONHOOK_TICKET, IRONHOOK_WORKER, Key, NO_PROXY, REGISTRY_PASSWORD,
    REGISTRY_USERNAME, TINK_WORKER_IMAGE, TINKERBELL_INSECURE_TLS, TINKERBELL_TLS, WORKER_ID,
};
use spec::id::IdError;
use spec::{Mac, Secret, WorkerId};

use crate::config::Config;
use crate::docker::pull::Login;
use crate::engine::plan::proxies;

/// Why nobody works.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// There is no server to work for.
    #[error("no server to work for: grpc_authority is not on the kernel command line, nor in a file of the site")]
    NoServer,
    /// A key that decides has a value that decides nothing.
    #[error("{key}: {value:?} is not {expected}")]
    Key {
        /// Which.
        key: &'static str,
        /// As given.
        value: String,
        /// What it has to be.
        expected: String,
    },
    /// A worker image without a name.
    #[error("ironhook.worker=image, but neither tink_worker_image nor docker_registry says which")]
    NoImage,
    /// Not a name.
    #[error("tink_worker_image or docker_registry")]
    Image(#[source] fetch::registry::Error),
    /// The id of this machine.
    #[error("worker_id cannot be used")]
    Id(#[source] IdError),
}

/// Name and value in an environment.
pub type Env = Vec<(&'static str, Secret)>;

/// Who works.
#[derive(Debug)]
pub enum Plan {
    /// Our agent, with this environment.
    Builtin(Env),
    /// A worker image.
    Image(ImagePlan),
}

/// A worker image, as Hook runs it (wire reference §2, newest era).
#[derive(Debug)]
pub struct ImagePlan {
    /// Its full name.
    pub image: String,
    /// Its registry, as the name has it.
    pub registry: String,
    /// The credentials, if they are for its registry.
    pub login: Option<Login>,
    /// Every variable is always there, possibly empty.
    pub env: Env,
}

/// What can be known without a network; what is wrong with it is told at once, not after the wait.
pub fn check(line: &Cmdline) -> Result<(), PlanError> {
    if line.get(&IRONHOOK_CONFIG).is_some() {
        return Ok(());
    }
    worker_image(line)?;
    line.get(&GRPC_AUTHORITY).ok_or(PlanError::NoServer)?;
    flag(line, &TINKERBELL_TLS, true)?;
    flag(line, &TINKERBELL_INSECURE_TLS, false)?;
    named_id(line).map(drop)
}

impl Plan {
    /// Decides. `lease` names a machine that nobody else names; `ca` is where the site's authorities are, if it has any.
    pub fn new(config: &Config, lease: Mac, ca: Option<&str>) -> Result<Self, PlanError> {
        let line = &config.line;
        let image = worker_image(line)?;
        let authority = line.get(&GRPC_AUTHORITY).ok_or(PlanError::NoServer)?;
        let id = match named_id(line)? {
            Some(id) => id,
            None => lease.to_string().parse().map_err(PlanError::Id)?,
        };
        match image {
            None => Ok(Self::Builtin(builtin(line, authority, &id, ca)?)),
            Some(image) => Ok(Self::Image(ImagePlan::new(config, image, authority, &id)?)),
        }
    }
}

/// The name of the worker image; none for our agent.
fn worker_image(line: &Cmdline) -> Result<Option<String>, PlanError> {
    let registry =
        line.get(&DOCKER_REGISTRY).map(|registry| format!("{}/tink-worker:latest", registry.trim_end_matches('/')));
    let image = line.get(&TINK_WORKER_IMAGE).map(tagged).or(registry);
    match line.get(&IRONHOOK_WORKER) {
        Some("builtin") => Ok(None),
        Some("image") => image.map(Some).ok_or(PlanError::NoImage),
        Some(other) => Err(PlanError::Key {
            key: IRONHOOK_WORKER.name,
            value: other.to_owned(),
            expected: IRONHOOK_WORKER.kind.expected(),
        }),
        None => Ok(image),
    }
}

/// Without a tag the engine would pull all of them.
fn tagged(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or_default();
    if name.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

fn named_id(line: &Cmdline) -> Result<Option<WorkerId>, PlanError> {
    let named = line.get(&WORKER_ID).map(str::to_owned).or_else(|| Some(line.boot_mac()?.to_string()));
    named.map(WorkerId::try_from).transpose().map_err(PlanError::Id)
}

fn flag(line: &Cmdline, key: &'static Key, absent: bool) -> Result<bool, PlanError> {
    match (line.get(key), line.get_bool(key)) {
        (None, _) => Ok(absent),
        (Some(_), Some(flag)) => Ok(flag),
        (Some(value), None) => {
            Err(PlanError::Key { key: key.name, value: value.to_owned(), expected: key.kind.expected() })
        }
    }
}

/// TLS is always said: agents of different eras differ in what silence means (wire reference §12, 12).
fn builtin(line: &Cmdline, authority: &str, id: &WorkerId, ca: Option<&str>) -> Result<Env, PlanError> {
    let mut env: Env = vec![
        ("TINKERBELL_GRPC_AUTHORITY", Secret::new(authority)),
        ("TINKERBELL_TLS", Secret::new(flag(line, &TINKERBELL_TLS, true)?.to_string())),
        ("TINKERBELL_INSECURE_TLS", Secret::new(flag(line, &TINKERBELL_INSECURE_TLS, false)?.to_string())),
        ("WORKER_ID", Secret::new(id.to_string())),
        ("ID", Secret::new(id.to_string())),
    ];
    let passed: [(&Key, &'static str); 6] = [
        (&DOCKER_REGISTRY, "DOCKER_REGISTRY"),
        (&REGISTRY_USERNAME, "REGISTRY_USERNAME"),
        (&REGISTRY_PASSWORD, "REGISTRY_PASSWORD"),
        // For images that crun reads without an engine.
        (&INSECURE_REGISTRIES, "INSECURE_REGISTRIES"),
        (&IRONHOOK_ACTIONS, "IRONHOOK_ACTIONS"),
        (&IRONHOOK_TICKET, "IRONHOOK_TICKET"),
    ];
    env.extend(passed.into_iter().filter_map(|(key, name)| Some((name, Secret::new(line.get(key)?)))));
    env.extend(proxies(line));
    env.extend(ca.map(|path| ("IRONHOOK_CA_FILE", Secret::new(path))));
    Ok(env)
}

impl ImagePlan {
    fn new(config: &Config, image: String, authority: &str, id: &WorkerId) -> Result<Self, PlanError> {
        let line = &config.line;
        let registry = fetch::registry::Reference::parse(&image).map_err(PlanError::Image)?.host().to_owned();
        let raw = |key: &Key| Secret::new(line.get(key).unwrap_or_default());
        let mut env: Env = vec![
            ("DOCKER_REGISTRY", raw(&DOCKER_REGISTRY)),
            ("REGISTRY_USERNAME", raw(&REGISTRY_USERNAME)),
            ("REGISTRY_PASSWORD", raw(&REGISTRY_PASSWORD)),
            ("TINKERBELL_GRPC_AUTHORITY", Secret::new(authority)),
            ("TINKERBELL_TLS", raw(&TINKERBELL_TLS)),
            ("TINKERBELL_INSECURE_TLS", raw(&TINKERBELL_INSECURE_TLS)),
            ("WORKER_ID", Secret::new(id.to_string())),
            ("ID", Secret::new(id.to_string())),
            ("HTTP_PROXY", raw(&HTTP_PROXY)),
            ("HTTPS_PROXY", raw(&HTTPS_PROXY)),
            ("NO_PROXY", raw(&NO_PROXY)),
        ];
        // Of the classic eras, and only when they were given: newer ones have neither.
        env.extend(line.get(&GRPC_CERT_URL).map(|url| ("TINKERBELL_CERT_URL", Secret::new(url))));
        env.extend(config.container_uuid.as_ref().map(|id| ("container_uuid", Secret::new(id.as_str()))));
        Ok(Self { login: login(line, &registry), image, registry, env })
    }
}

/// Credentials go to their registry only.
fn login(line: &Cmdline, registry: &str) -> Option<Login> {
    let own = line.get(&DOCKER_REGISTRY)?;
    let own = own.trim_start_matches("https://").trim_start_matches("http://");
    let own = own.split('/').next().unwrap_or_default();
    let own = if matches!(own, "index.docker.io" | "registry-1.docker.io") { "docker.io" } else { own };
    let (user, password) = (line.get(&REGISTRY_USERNAME)?, line.get(&REGISTRY_PASSWORD)?);
    (own == registry).then(|| Login { user: user.to_owned(), password: Secret::new(password) })
}

#[cfg(test)]
mod tests;
