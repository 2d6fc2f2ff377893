//! `bootkit worker`: decides who works on this machine, waits for the network, and becomes the agent.
//! The decision is pure and comes first: what is wrong with the command line is said at once, not after the wait.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use spec::cmdline::{
    Cmdline, DOCKER_REGISTRY, GRPC_AUTHORITY, HTTP_PROXY, HTTPS_PROXY, IRONHOOK_WORKER, Key, NO_PROXY,
    REGISTRY_PASSWORD, REGISTRY_USERNAME, TINK_WORKER_IMAGE, TINKERBELL_INSECURE_TLS, TINKERBELL_TLS, WORKER_ID,
};
use spec::dhcp::lease::Lease;
use spec::id::IdError;
use spec::paths::{DOCKER_SOCKET, LEASE};
use spec::{Secret, WorkerId};
use sys::child::end_on_signals;
use sys::clock;

use crate::console::say;

/// Where the agent's component has it.
pub const AGENT: &str = "/usr/bin/ironhook-agent";
/// Between two looks for the lease.
const LOOK: Duration = Duration::from_millis(100);

/// Why nobody works.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// There is no server to work for.
    #[error(
        "no server to work for: grpc_authority is not on the kernel command line; \
         the boot script of the server adds it (grpc_authority=<host>:42113)"
    )]
    NoServer,
    /// A key that decides has a value that decides nothing.
    #[error("{key}: {value:?} is not {expected}")]
    Key {
        /// Which.
        key: &'static str,
        /// As given.
        value: String,
        /// What it has to be.
        expected: &'static str,
    },
    /// Not our agent.
    #[error(
        "{0} asks for a worker image, which this version cannot run; \
         remove it, or say ironhook.worker=builtin to have the built-in agent work"
    )]
    Image(&'static str),
    /// The id of this machine.
    #[error("worker_id cannot be used")]
    Id(#[source] IdError),
    /// Being asked to end.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    /// The lease file.
    #[error("cannot read {LEASE}")]
    Read(#[source] io::Error),
    /// The lease file's content.
    #[error("{LEASE} is no lease")]
    Parse(#[source] serde_json::Error),
    /// The agent.
    #[error("cannot run {path}")]
    Run {
        /// Which program.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Ends only with an error: else the process is the agent.
pub fn run(line: &Cmdline, agent: &Path) -> Result<Infallible, WorkerError> {
    let plan = Plan::new(line)?;
    end_on_signals().map_err(WorkerError::Signals)?;
    let lease = wait_for_lease()?;
    let id = plan.id.clone().map_or_else(|| lease.mac.to_string().parse().map_err(WorkerError::Id), Ok)?;
    let error = Command::new(agent).args(["--docker-socket", DOCKER_SOCKET]).envs(environment(&plan, &id)).exec();
    Err(WorkerError::Run { path: agent.to_owned(), source: error })
}

/// The built-in agent's part of the command line.
#[derive(Debug)]
struct Plan {
    /// None: the MAC address of the interface that has the lease.
    id: Option<WorkerId>,
    authority: String,
    tls: bool,
    insecure_tls: bool,
    /// Passed on as they are, when given.
    passed: Vec<(&'static str, Secret)>,
}

/// Key and name in the environment (wire reference §2, newest era).
const PASSED: [(&Key, &str); 6] = [
    (&DOCKER_REGISTRY, "DOCKER_REGISTRY"),
    (&REGISTRY_USERNAME, "REGISTRY_USERNAME"),
    (&REGISTRY_PASSWORD, "REGISTRY_PASSWORD"),
    (&HTTP_PROXY, "HTTP_PROXY"),
    (&HTTPS_PROXY, "HTTPS_PROXY"),
    (&NO_PROXY, "NO_PROXY"),
];

impl Plan {
    fn new(line: &Cmdline) -> Result<Self, WorkerError> {
        refuse_images(line)?;
        let authority = line.get(&GRPC_AUTHORITY).ok_or(WorkerError::NoServer)?.to_owned();
        let named = line.get(&WORKER_ID).map(str::to_owned).or_else(|| Some(line.boot_mac()?.to_string()));
        Ok(Self {
            id: named.map(WorkerId::try_from).transpose().map_err(WorkerError::Id)?,
            authority,
            tls: flag(line, &TINKERBELL_TLS, true)?,
            insecure_tls: flag(line, &TINKERBELL_INSECURE_TLS, false)?,
            passed: PASSED.into_iter().filter_map(|(key, name)| Some((name, Secret::new(line.get(key)?)))).collect(),
        })
    }
}

fn refuse_images(line: &Cmdline) -> Result<(), WorkerError> {
    match line.get(&IRONHOOK_WORKER) {
        Some("builtin") => Ok(()),
        Some("image") => Err(WorkerError::Image(IRONHOOK_WORKER.name)),
        Some(other) => {
            Err(WorkerError::Key { key: IRONHOOK_WORKER.name, value: other.to_owned(), expected: "builtin or image" })
        }
        None => match [&TINK_WORKER_IMAGE, &DOCKER_REGISTRY].into_iter().find(|key| line.get(key).is_some()) {
            Some(key) => Err(WorkerError::Image(key.name)),
            None => Ok(()),
        },
    }
}

fn flag(line: &Cmdline, key: &'static Key, absent: bool) -> Result<bool, WorkerError> {
    match (line.get(key), line.get_bool(key)) {
        (None, _) => Ok(absent),
        (Some(_), Some(value)) => Ok(value),
        (Some(value), None) => {
            Err(WorkerError::Key { key: key.name, value: value.to_owned(), expected: "true or false" })
        }
    }
}

/// TLS is always said: agents of different eras differ in what silence means (wire reference §12, 12).
fn environment(plan: &Plan, id: &WorkerId) -> Vec<(&'static str, String)> {
    let mut env = vec![
        ("TINKERBELL_GRPC_AUTHORITY", plan.authority.clone()),
        ("TINKERBELL_TLS", plan.tls.to_string()),
        ("TINKERBELL_INSECURE_TLS", plan.insecure_tls.to_string()),
        ("WORKER_ID", id.to_string()),
        ("ID", id.to_string()),
    ];
    env.extend(plan.passed.iter().map(|(name, value)| (*name, value.expose().to_owned())));
    env
}

fn wait_for_lease() -> Result<Lease, WorkerError> {
    let mut told = false;
    loop {
        match fs::read_to_string(LEASE) {
            Ok(text) => return serde_json::from_str(&text).map_err(WorkerError::Parse),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(WorkerError::Read(error)),
        }
        if !told {
            say(format_args!("worker: waiting for the network ({LEASE}), {} ms after boot", clock::boot_ms()));
            told = true;
        }
        thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> Result<Plan, String> {
        Plan::new(&Cmdline::parse(text)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_environment_is_the_one_of_the_field() {
        let text = "grpc_authority=10.0.0.1:42113 tinkerbell_tls=false worker_id=w1 hw_addr=02:00:00:00:00:01 \
                    registry_username=bob registry_password=a=b= HTTP_PROXY=http://p:1 ironhook.worker=builtin";
        let plan = plan(text).unwrap();
        let id = plan.id.clone().unwrap();
        let env: Vec<String> =
            environment(&plan, &id).into_iter().map(|(name, value)| name.to_owned() + "=" + &value).collect();
        assert_eq!(
            env,
            [
                "TINKERBELL_GRPC_AUTHORITY=10.0.0.1:42113",
                "TINKERBELL_TLS=false",
                "TINKERBELL_INSECURE_TLS=false",
                "WORKER_ID=w1",
                "ID=w1",
                "REGISTRY_USERNAME=bob",
                "REGISTRY_PASSWORD=a=b=",
                "HTTP_PROXY=http://p:1",
            ]
        );
        assert!(!format!("{plan:?}").contains("a=b="));
    }

    #[test]
    fn without_an_id_the_boot_interface_is_it_and_then_the_one_with_the_lease() {
        let id = |text| plan(text).unwrap().id.map(String::from);
        assert_eq!(id("grpc_authority=a:1 BOOTIF=01-02-00-00-00-00-AA").as_deref(), Some("02:00:00:00:00:aa"));
        assert_eq!(id("grpc_authority=a:1"), None);
    }

    #[test]
    fn tls_is_on_unless_it_is_switched_off() {
        assert!(plan("grpc_authority=a:1").unwrap().tls);
        assert!(plan("grpc_authority=a:1 tinkerbell_tls=").unwrap().tls);
        assert!(!plan("grpc_authority=a:1 tinkerbell_tls=0").unwrap().tls);
        let error = plan("grpc_authority=a:1 tinkerbell_tls=maybe").unwrap_err();
        assert_eq!(error, "tinkerbell_tls: \"maybe\" is not true or false");
    }

    #[test]
    fn a_worker_image_is_refused_by_the_key_that_asks_for_it_unless_the_operator_decides() {
        for (text, key) in [
            ("tink_worker_image=r/w", "tink_worker_image"),
            ("docker_registry=r", "docker_registry"),
            ("ironhook.worker=image", "ironhook.worker"),
        ] {
            let error = plan(&format!("grpc_authority=a:1 {text}")).unwrap_err();
            assert!(error.starts_with(&format!("{key} asks for a worker image")), "{error}");
        }
        assert!(plan("grpc_authority=a:1 ironhook.worker=builtin tink_worker_image=r/w docker_registry=r").is_ok());
        assert_eq!(plan("ironhook.worker=x").unwrap_err(), "ironhook.worker: \"x\" is not builtin or image");
    }

    #[test]
    fn without_a_server_the_hint_names_the_key() {
        assert!(plan("worker_id=a").unwrap_err().contains("grpc_authority=<host>:42113"));
    }
}
