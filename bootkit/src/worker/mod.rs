//! `bootkit worker`: decides who works on this machine, waits for the network, and becomes the agent, or runs a worker
//! image for as long as the machine lives. The decision is pure ([`plan`]).

mod container;
mod image;
mod plan;

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use spec::boot::BootCode;
use spec::cmdline::Cmdline;
use spec::paths::{AUTHORITIES, DOCKER_SOCKET, IMAGES_READY};
use sys::child::end_on_signals;

use self::image::ImageError;
use self::plan::{Env, Plan, PlanError};
use crate::config::{self, ConfigError};
use crate::console::Waiting;
use crate::engine;
use crate::failure::{self, Coded};
use crate::lease::{self, LeaseError};

/// Where the agent's component has it.
pub const AGENT: &str = "/usr/bin/ironhook-agent";
/// Between two looks for a file.
const LOOK: Duration = Duration::from_millis(200);
const STEP: &str = "worker";

/// Why nobody works.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The configuration says nothing that can be done.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A source of the configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The network.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// Being asked to end.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    /// For the programs on this machine.
    #[error("cannot write {AUTHORITIES}")]
    Authorities(#[source] io::Error),
    /// The agent.
    #[error("cannot run {path}")]
    Run {
        /// Which program.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The worker image.
    #[error(transparent)]
    Image(#[from] ImageError),
}

impl Coded for WorkerError {
    fn code(&self) -> BootCode {
        match self {
            Self::Plan(PlanError::NoServer) => BootCode::NoServer,
            Self::Plan(_) => BootCode::BadConfig,
            Self::Config(error) => error.code(),
            Self::Lease(_) => BootCode::Network,
            Self::Run { .. } => BootCode::Program,
            Self::Image(error) => error.code(),
            Self::Signals(_) | Self::Authorities(_) => BootCode::Internal,
        }
    }
}

/// Ends only with an error: else the process is the agent, or watches the worker's container.
pub fn run(line: &Cmdline, agent: &Path) -> Result<Infallible, WorkerError> {
    plan::check(line)?;
    end_on_signals().map_err(WorkerError::Signals)?;
    let lease = lease::wait(STEP)?;
    let config = config::whole(line, STEP)?;
    let ca = (!config.authorities.is_empty()).then_some(AUTHORITIES);
    if ca.is_some() {
        fs::write(AUTHORITIES, config.authorities.join("\n")).map_err(WorkerError::Authorities)?;
    }
    let plan = Plan::new(&config, lease.mac, ca)?;
    wait_for_images();
    match plan {
        Plan::Builtin(env) => Err(become_agent(agent, &env)),
        Plan::Image(plan) => Ok(image::run(&plan, &config)?),
    }
}

fn become_agent(agent: &Path, env: &Env) -> WorkerError {
    failure::forget(STEP);
    let env = env.iter().map(|(name, value)| (*name, value.expose()));
    let error = Command::new(agent).args(["--docker-socket", DOCKER_SOCKET]).envs(env).exec();
    WorkerError::Run { path: agent.to_owned(), source: error }
}

/// A worker that comes before its images would ask a registry for them. One without an engine reads them itself.
fn wait_for_images() {
    let no_engine = std::env::var_os("IRONHOOK_EXECUTOR").is_some_and(|executor| executor == "crun");
    let layouts = engine::layouts();
    if no_engine || layouts.is_empty() {
        return;
    }
    let mut waiting = Waiting::new(STEP, format!("the engine to have the images of {}", engine::named(&layouts)));
    while !Path::new(IMAGES_READY).exists() {
        waiting.still("");
        thread::sleep(LOOK);
    }
}
