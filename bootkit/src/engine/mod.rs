//! `bootkit engine`: the entrypoint of the docker component: command line → [`plan::Plan`] → applied → dockerd, watched
//! until it ends. Whether it is started again is init's business.

mod dockerd;
mod plan;
mod ready;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use spec::cmdline::Cmdline;
use sys::clock;

use self::dockerd::DockerdError;
use self::plan::Plan;
use crate::console::say;

/// Where Debian has it.
pub const DOCKERD: &str = "/usr/sbin/dockerd";

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The image lacks it.
    #[error("no dockerd at {0}: the docker component of this image is incomplete")]
    Missing(PathBuf),
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
    /// The program itself.
    #[error(transparent)]
    Dockerd(#[from] DockerdError),
}

/// Runs until dockerd ends; no error when it was asked to.
pub fn run(line: &Cmdline, dockerd: &Path) -> Result<(), EngineError> {
    let started = clock::boot_ms();
    let plan = Plan::new(line);
    if !dockerd.is_file() {
        return Err(EngineError::Missing(dockerd.to_owned()));
    }
    for note in &plan.notes {
        say(format_args!("engine: {note}"));
    }
    apply(&plan)?;
    Ok(dockerd::run(dockerd, &plan, started)?)
}

fn apply(plan: &Plan) -> Result<(), EngineError> {
    for path in &plan.dirs {
        fs::create_dir_all(path).map_err(|source| EngineError::Directory { path: path.into(), source })?;
    }
    // Its number may belong to another process by now, which would keep dockerd from starting.
    for path in [plan::PIDFILE, plan::SOCKET] {
        match fs::remove_file(path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(EngineError::Remove { path: path.into(), source });
            }
            _ => {}
        }
    }
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(plan::CONFIG)?;
        file.write_all(plan.daemon_json.as_bytes())
    };
    write().map_err(|source| EngineError::Write { path: plan::CONFIG.into(), source })
}
