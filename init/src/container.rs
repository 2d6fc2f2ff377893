//! One container from start to end, by crun. Detached, it returns with the container's process as a child of ours, so
//! its end is told by the reaper and not by the runtime.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::Receiver;

use sys::reap::Exit;

use crate::bundle::Bundle;
use crate::output::Output;
use crate::reaper::Reaper;

const CRUN: &str = "/usr/bin/crun";
const STATE: &str = "/run/crun";
/// Where programs are, for crun and for no container: those have theirs in config.json.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// A container could not be made or started.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// crun did not run at all.
    #[error("run {CRUN} {verb} for {id}")]
    Runtime {
        /// What it was to do.
        verb: &'static str,
        /// With which container.
        id: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// crun ran and failed; what it said is in the container's output.
    #[error("{CRUN} {verb} for {id}: {exit}")]
    Refused {
        /// What it was to do.
        verb: &'static str,
        /// With which container.
        id: String,
        /// How crun ended.
        exit: Exit,
    },
    /// crun did not say which process it made.
    #[error("read the process number in {}", path.display())]
    Pid {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A container that has been started.
pub struct Running {
    /// Its first process.
    pub pid: i32,
    /// Told once, when that has ended.
    pub exit: Receiver<Exit>,
}

/// Makes and starts it.
pub fn start(reaper: &Reaper, bundle: &Bundle, output: &Output) -> Result<Running, ContainerError> {
    let pid_file = Path::new(STATE).join(format!("{}.pid", bundle.id));
    let adoption = reaper.adoption();
    let mut command = crun("run", Some(output), &bundle.id)?;
    command.arg("--detach").arg("--bundle").arg(&bundle.path).arg("--pid-file").arg(&pid_file).arg(&bundle.id);
    run(reaper, command, "run", &bundle.id)?;
    let pid = read_pid(&pid_file).map_err(|source| ContainerError::Pid { path: pid_file, source })?;
    Ok(Running { pid, exit: adoption.adopt(pid) })
}

/// Removes what is left of a container, its processes included.
pub fn delete(reaper: &Reaper, bundle: &Bundle, output: Option<&Output>) -> Result<(), ContainerError> {
    let mut delete = crun("delete", output, &bundle.id)?;
    delete.arg("--force").arg(&bundle.id);
    run(reaper, delete, "delete", &bundle.id)
}

fn crun(verb: &'static str, output: Option<&Output>, id: &str) -> Result<Command, ContainerError> {
    let stdio = || {
        output.map_or_else(|| Ok(Stdio::null()), Output::stdio).map_err(|source| ContainerError::Runtime {
            verb,
            id: id.to_owned(),
            source,
        })
    };
    let mut command = Command::new(CRUN);
    command.env_clear().env("PATH", PATH).args(["--root", STATE, "--cgroup-manager", "cgroupfs", verb]);
    command.stdin(Stdio::null()).stdout(stdio()?).stderr(stdio()?);
    Ok(command)
}

fn run(reaper: &Reaper, mut command: Command, verb: &'static str, id: &str) -> Result<(), ContainerError> {
    let exit =
        reaper.run(&mut command).map_err(|source| ContainerError::Runtime { verb, id: id.to_owned(), source })?;
    if exit.is_success() { Ok(()) } else { Err(ContainerError::Refused { verb, id: id.to_owned(), exit }) }
}

fn read_pid(path: &Path) -> std::io::Result<i32> {
    std::fs::read_to_string(path)?.trim().parse().map_err(std::io::Error::other)
}
