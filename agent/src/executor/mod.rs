//! What an executor does for the agent: a container for a job, its run, its removal. The agent drives it in this
//! order and writes down each step before the next, so an executor must find what an earlier life of the agent made.

mod any;
mod auto;
pub mod crun;
pub mod docker;
mod image;
mod logs;
mod memory;
mod outcome;
mod place;
#[cfg(debug_assertions)]
mod process;

use proto::convert::Attempt;
use spec::Failure;

use crate::job::{Container, Finish, Job};
use crate::progress::Reporter;

any::executors! {
    Auto(auto::Auto) = "auto",
    Docker(docker::Docker) = "docker",
    Crun(crun::Crun) = "crun",
    #[cfg(debug_assertions)]
    Process(process::Process) = "process",
}

/// Runs actions as containers.
pub trait Executor: Send + Sync {
    /// Gives the id of a container for the job that is ready to be started. When `resumed`, one of an earlier life is
    /// taken up in whatever state it is; otherwise a left-over one is removed first.
    fn prepare(
        &self,
        job: &Job,
        resumed: bool,
        progress: &Reporter,
    ) -> impl Future<Output = Result<String, Failure>> + Send;

    /// Starts the container unless that has happened before, and waits for its end or its timeout.
    fn run(&self, job: &Job, container: &Container, progress: &Reporter) -> impl Future<Output = Finish> + Send;

    /// Removes what is left of an attempt; what cannot be removed is logged.
    fn remove(&self, attempt: &Attempt) -> impl Future<Output = ()> + Send;
}
