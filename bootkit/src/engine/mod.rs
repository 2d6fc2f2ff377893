//! `bootkit engine`: the entrypoint of the docker component: configuration → [`plan::Plan`] → applied → dockerd, watched
//! until it ends; what the site bundle brings is loaded. Whether it is started again is init's business.

mod dockerd;
mod embedded;
mod facts;
pub mod plan;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use spec::boot::BootCode;
use spec::cmdline::Cmdline;
use spec::paths::IMAGES_READY;
use sys::child::Signals;
use sys::clock;

use self::dockerd::DockerdError;
use self::facts::FactsError;
use self::plan::Plan;

pub use self::embedded::{available, layouts, named};
use crate::config::{self, ConfigError};
use crate::console::say;
use crate::failure::Coded;

/// Where Debian has it.
pub const DOCKERD: &str = "/usr/sbin/dockerd";

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The image lacks it.
    #[error("no dockerd at {0}: the docker component of this image is incomplete")]
    Missing(PathBuf),
    /// A source of the configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// This machine.
    #[error(transparent)]
    Facts(#[from] FactsError),
    /// Preparing the ground.
    #[error("cannot make the directory {path}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Its configuration.
    #[error("cannot write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// What an earlier run left.
    #[error("cannot remove {path}, left by an earlier run")]
    Remove {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Being asked to end.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    /// The program itself.
    #[error(transparent)]
    Dockerd(#[from] DockerdError),
}

impl Coded for EngineError {
    fn code(&self) -> BootCode {
        match self {
            Self::Missing(_) => BootCode::EngineMissing,
            Self::Config(error) => error.code(),
            _ => BootCode::Engine,
        }
    }
}

/// Runs until dockerd ends; no error when it was asked to.
pub fn run(line: &Cmdline, dockerd: &Path) -> Result<(), EngineError> {
    let started = clock::boot_ms();
    if !dockerd.is_file() {
        return Err(EngineError::Missing(dockerd.to_owned()));
    }
    let config = config::whole(line, "engine")?;
    let own = !(config.authorities.is_empty() && config.registry_authorities.is_empty());
    let plan = Plan::new(&config, &facts::gather(&config.line, own)?);
    for note in &plan.notes {
        say(format_args!("engine: {note}"));
    }
    // Before the first thread, so that all of them leave the signals to this one.
    let signals = Signals::block().map_err(EngineError::Signals)?;
    apply(&plan)?;
    Ok(dockerd::run(dockerd, &plan, &signals, started)?)
}

fn apply(plan: &Plan) -> Result<(), EngineError> {
    for path in &plan.dirs {
        directory(Path::new(path))?;
    }
    // The process number may belong to another by now, which would keep dockerd from starting.
    for path in [plan::PIDFILE, plan::SOCKET, IMAGES_READY] {
        // An engine that is asked for a container while it ends makes a directory of a socket that is gone.
        match fs::remove_file(path).or_else(|error| fs::remove_dir(path).map_err(|_| error)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(EngineError::Remove { path: path.into(), source });
            }
            _ => {}
        }
    }
    for file in &plan.files {
        let path = Path::new(&file.path);
        directory(path.parent().unwrap_or(path))?;
        let write = || {
            let mut to = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
            to.write_all(&file.bytes)
        };
        write().map_err(|source| EngineError::Write { path: path.into(), source })?;
    }
    Ok(())
}

fn directory(path: &Path) -> Result<(), EngineError> {
    fs::create_dir_all(path).map_err(|source| EngineError::Directory { path: path.into(), source })
}
