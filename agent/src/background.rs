//! Actions that run beside the others until their workflow ends: kept going, found again after a restart, stopped at the
//! end. The list is on disk before one counts as begun. What becomes of them later changes no report.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proto::convert::Attempt;
use serde::{Deserialize, Serialize};
use spec::{Outcome, WorkflowId};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::executor::Executor;
use crate::job::{Container, Finish, Job};
use crate::progress::Reporter;
use crate::source::Source;
use crate::text::chain;
use crate::timeline::boot_id;

/// One that runs this long has begun.
const BEGUN: Duration = Duration::from_secs(2);
/// For the executor to stop one.
const STOP: Duration = Duration::from_secs(15);

/// What is on disk of one.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    boot_id: String,
    job: Job,
    container: Container,
}

struct Running {
    entry: Entry,
    cancel: watch::Sender<Option<String>>,
    task: JoinHandle<Finish>,
}

/// All of them.
pub struct Background {
    path: PathBuf,
    running: Vec<Running>,
}

impl Background {
    /// Takes up those of an earlier life of the agent.
    pub fn recall<E: Executor + 'static>(run_dir: &Path, executor: &Arc<E>, source: &Source) -> Self {
        let path = run_dir.join("agent/background.json");
        let mut all = Self { path, running: Vec::new() };
        let entries: Vec<Entry> = match fs::read(&all.path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                tracing::error!("{} is damaged, look for what may still run: {error}", all.path.display());
                Vec::new()
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                tracing::error!("cannot read {}: {error}", all.path.display());
                Vec::new()
            }
        };
        let here = boot_id();
        for entry in entries.into_iter().filter(|entry| entry.boot_id == here) {
            tracing::info!(attempt = %entry.job.attempt, "still beside the others");
            let started = start(entry, executor, source);
            all.running.push(started);
        }
        all
    }

    /// Runs one: an end within moments is its own, else it counts as begun and goes on.
    pub async fn run<E>(&mut self, job: Job, container: Container, executor: &Arc<E>, source: &Source) -> Finish
    where
        E: Executor + 'static,
    {
        let attempt = job.attempt.clone();
        self.running.retain(|running| running.entry.job.attempt != attempt);
        let mut running = start(Entry { boot_id: boot_id(), job, container }, executor, source);
        tokio::select! {
            ended = &mut running.task => match ended {
                Ok(finish) => finish,
                Err(error) => Finish::from(Outcome::Failed(spec::Failure::new(spec::Code::Lost, error.to_string()))),
            },
            () = tokio::time::sleep(BEGUN) => {
                tracing::info!(%attempt, "runs beside the others from here on");
                self.running.push(running);
                self.keep();
                Finish::from(Outcome::Succeeded)
            }
        }
    }

    /// Whether this one goes on.
    pub fn has(&self, attempt: &Attempt) -> bool {
        self.running.iter().any(|running| running.entry.job.attempt == *attempt)
    }

    /// Ends all that are not of this workflow.
    pub async fn end_others<E: Executor>(&mut self, workflow: Option<&WorkflowId>, executor: &E) {
        let (stay, go): (Vec<_>, Vec<_>) =
            self.running.drain(..).partition(|running| Some(&running.entry.job.attempt.workflow) == workflow);
        self.running = stay;
        if go.is_empty() {
            return;
        }
        for mut running in go {
            let attempt = &running.entry.job.attempt;
            tracing::info!(%attempt, "its workflow is over, stopping it");
            running.cancel.send_replace(Some("its workflow is over".to_owned()));
            if tokio::time::timeout(STOP, &mut running.task).await.is_err() {
                tracing::warn!(%attempt, "not stopped within {STOP:?}, removing it");
                running.task.abort();
            }
            executor.remove(attempt).await;
        }
        self.keep();
    }

    /// A restart that does not find one here finds its container by the workflow's next report at the latest.
    fn keep(&self) {
        let entries: Vec<&Entry> = self.running.iter().map(|running| &running.entry).collect();
        let fresh = self.path.with_extension("new");
        let kept = serde_json::to_vec(&entries)
            .map_err(std::io::Error::from)
            .and_then(|text| fs::write(&fresh, text))
            .and_then(|()| fs::rename(&fresh, &self.path));
        if let Err(error) = kept {
            tracing::error!("a restart now could forget what runs in the background: {}", chain(&error));
        }
    }
}

fn start<E: Executor + 'static>(entry: Entry, executor: &Arc<E>, source: &Source) -> Running {
    let (reporter, listener) = Reporter::new();
    // Forwarding has the line's other end; we stop through a copy of it.
    let cancel = listener.cancel.clone();
    let forward = source.forward(entry.job.told_as().clone(), listener);
    let (executor, job, container) = (Arc::clone(executor), entry.job.clone(), entry.container.clone());
    let task = tokio::spawn(async move {
        let run = async move { executor.run(&job, &container, &reporter).await };
        crate::work::alongside(run, forward).await
    });
    Running { entry, cancel, task }
}
