//! Actions as containers of the Docker engine. This file is the order of things; the parts are beside it.
//! A container is found again by its label, so nothing but the journal's `id` has to survive the agent.

mod create;
mod engine;
mod image;
mod pull;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::models::ContainerState;
use bollard::query_parameters::{
    CreateContainerOptions, InspectContainerOptions, ListContainersOptions, LogsOptions, RemoveContainerOptions,
    StopContainerOptions, WaitContainerOptions,
};
use futures_util::StreamExt;
use proto::convert::Attempt;
use spec::{Code, Failure};
use tokio::sync::watch;

use crate::backoff::Backoff;
use crate::config::{Config, Credentials, Privileges};
use crate::events;
use crate::executor::Executor;
use crate::executor::logs::{Log, Stream};
use crate::executor::outcome::{Exit, Known, outcome};
use crate::job::{Container, Finish, Job};
use crate::progress::{Reporter, describe};
use crate::text::chain;
use crate::timeline::now_ms;

/// How long the engine may take to come up before that is the action's failure.
const ENGINE: Duration = Duration::from_secs(600);
/// Between the request to end and the kill.
const GRACE_SECONDS: i32 = 5;
/// The engine closes the log soon after the container's end.
const LOG_END: Duration = Duration::from_secs(5);
const REMOVE: Duration = Duration::from_secs(10);

/// The engine, and how actions are run on it.
#[derive(Debug)]
pub struct Docker {
    sockets: Vec<PathBuf>,
    registry: Option<String>,
    credentials: Option<Credentials>,
    worker_dir: PathBuf,
    privileges: Privileges,
}

impl Docker {
    /// Connects when first used.
    pub fn new(config: &Config) -> Self {
        Self {
            sockets: config.sockets.clone(),
            registry: config.registry.clone(),
            credentials: config.credentials.clone(),
            worker_dir: config.worker_dir.clone(),
            privileges: config.privileges,
        }
    }
}

impl Executor for Docker {
    async fn prepare(&self, job: &Job, resumed: bool, progress: &Reporter) -> Result<String, Failure> {
        let docker = engine::ready(&self.sockets, Some(ENGINE)).await?;
        for id in find(&docker, &job.attempt).await? {
            if resumed {
                tracing::info!(container = short(&id), "taking up the container of an earlier life");
                return Ok(id);
            }
            remove(&docker, &id).await.map_err(|error| start_failure("cannot remove a left-over container", &error))?;
        }
        let reference = image::reference(self.registry.as_deref(), &job.action.image);
        pull::pull(&docker, &reference, self.credentials.as_ref(), progress).await?;
        self.make_directories(&job.attempt)?;
        let privileged = self.privileged(&docker, &reference).await?;
        create(&docker, job, create::body(job, reference, privileged, &self.worker_dir)).await
    }

    async fn run(&self, job: &Job, container: &Container, progress: &Reporter) -> Finish {
        let id = container.id.as_str();
        let elapsed = Duration::from_millis(now_ms().saturating_sub(container.started_ms));
        let left = job.action.timeout.saturating_sub(elapsed);
        let docker = match engine::ready(&self.sockets, Some(ENGINE)).await {
            Ok(docker) => docker,
            Err(failure) => return Finish::from(spec::Outcome::Failed(failure)),
        };
        let start_error = match start_if_new(&docker, id).await {
            Ok(()) => String::new(),
            Err(error) if is_missing(&error) => return Finish::from(outcome(Exit::Lost, Known::default())),
            Err(error) => chain(&error),
        };
        let (done, ended) = watch::channel(false);
        let exit = async {
            let exit = if start_error.is_empty() {
                self.wait(&docker, id, left, job.action.timeout).await
            } else {
                Exit::Status(128)
            };
            done.send_replace(true);
            exit
        };
        let file = create::events_file(&self.worker_dir, &job.attempt);
        let (exit, log_tail, told) = tokio::join!(
            exit,
            follow_log(&docker, id, &job.action.name, ended.clone()),
            events::follow(file, progress.clone(), ended),
        );
        let state = inspect(&docker, id).await.ok();
        let known = Known {
            out_of_memory: state.as_ref().and_then(|state| state.oom_killed).unwrap_or(false),
            start_error,
            told: told.failure,
            progress: told.progress.as_ref().map(describe),
            log_tail,
        };
        Finish { outcome: outcome(exit, known), handover: told.handover }
    }

    async fn remove(&self, attempt: &Attempt) {
        let removed = tokio::time::timeout(REMOVE, async {
            // An engine that is not there has nothing that could be in the way.
            let docker = engine::ready(&self.sockets, Some(Duration::ZERO)).await?;
            for id in find(&docker, attempt).await? {
                remove(&docker, &id).await.map_err(|error| start_failure("cannot remove a container", &error))?;
            }
            Ok::<(), Failure>(())
        });
        match removed.await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => tracing::warn!(%attempt, "left in place: {}", failure.one_line()),
            Err(_) => tracing::warn!(%attempt, "left in place: the engine takes longer than {REMOVE:?} to remove it"),
        }
        let _ = fs::remove_dir_all(create::events_dir(&self.worker_dir, attempt));
    }
}

impl Docker {
    /// The directories of the workflow and of the attempt's events; the latter empty, and open to every user, since
    /// an action need not be root.
    fn make_directories(&self, attempt: &Attempt) -> Result<(), Failure> {
        let events = create::events_dir(&self.worker_dir, attempt);
        let _ = fs::remove_dir_all(&events);
        let make = |path: PathBuf, mode| {
            fs::create_dir_all(&path)
                .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
                .map_err(|error| Failure::new(Code::Start, format!("cannot make {}: {error}", path.display())))
        };
        make(self.worker_dir.join(attempt.workflow.as_str()), 0o755)?;
        make(events, 0o777)
    }

    async fn privileged(&self, docker: &bollard::Docker, reference: &str) -> Result<bool, Failure> {
        if self.privileges == Privileges::Privileged {
            return Ok(true);
        }
        let image = docker.inspect_image(reference).await;
        let image = image.map_err(|error| start_failure("cannot read the image's labels", &error))?;
        let labels = image.config.and_then(|config| config.labels).unwrap_or_default();
        Ok(labels.get(create::PRIVILEGES_LABEL).is_some_and(|value| value == "privileged"))
    }

    /// Waits for the container's end, over restarts of the engine, and ends it after its time.
    async fn wait(&self, docker: &bollard::Docker, id: &str, left: Duration, timeout: Duration) -> Exit {
        match tokio::time::timeout(left, self.wait_for_end(docker, id)).await {
            Ok(exit) => exit,
            Err(_) => {
                tracing::warn!(container = short(id), "stopping it after its timeout of {} s", timeout.as_secs());
                stop(docker, id).await;
                Exit::TimedOut(timeout)
            }
        }
    }

    async fn wait_for_end(&self, docker: &bollard::Docker, id: &str) -> Exit {
        let mut backoff = Backoff::new(Duration::from_secs(2));
        loop {
            let options = WaitContainerOptions { condition: "not-running".to_owned() };
            match docker.wait_container(id, Some(options)).next().await {
                Some(Ok(response)) => return Exit::Status(response.status_code),
                // A status other than zero comes as an error of this kind.
                Some(Err(Error::DockerContainerWaitError { code, .. })) => return Exit::Status(code),
                Some(Err(error)) if is_missing(&error) => return Exit::Lost,
                Some(Err(error)) => tracing::warn!("the engine broke off, waiting for it: {}", chain(&error)),
                None => tracing::warn!("the engine broke off, waiting for it"),
            }
            backoff.wait().await;
            // The budget is the action's own timeout.
            let _ = engine::ready(&self.sockets, None).await;
        }
    }
}

async fn find(docker: &bollard::Docker, attempt: &Attempt) -> Result<Vec<String>, Failure> {
    let label = format!("{}={}", create::LABEL, create::label(attempt));
    let options = ListContainersOptions {
        all: true,
        filters: Some(HashMap::from([("label".to_owned(), vec![label])])),
        ..ListContainersOptions::default()
    };
    let found = docker.list_containers(Some(options)).await;
    let found = found.map_err(|error| start_failure("cannot list containers", &error))?;
    Ok(found.into_iter().filter_map(|container| container.id).collect())
}

async fn create(
    docker: &bollard::Docker,
    job: &Job,
    body: bollard::models::ContainerCreateBody,
) -> Result<String, Failure> {
    let name = create::name(&job.attempt);
    let options = || CreateContainerOptions { name: Some(name.clone()), ..CreateContainerOptions::default() };
    let created = match docker.create_container(Some(options()), body.clone()).await {
        // The name is taken by a container without our label: nobody else names theirs so.
        Err(Error::DockerResponseServerError { status_code: 409, message }) => {
            tracing::warn!(container = name, "the name is taken, removing what has it: {message}");
            remove(docker, &name)
                .await
                .map_err(|error| start_failure("cannot remove a left-over container", &error))?;
            docker.create_container(Some(options()), body).await
        }
        created => created,
    };
    let created = created.map_err(|error| start_failure("the container could not be created", &error))?;
    for warning in created.warnings {
        tracing::warn!(container = name, "{warning}");
    }
    Ok(created.id)
}

async fn inspect(docker: &bollard::Docker, id: &str) -> Result<ContainerState, Error> {
    let found = docker.inspect_container(id, None::<InspectContainerOptions>).await?;
    Ok(found.state.unwrap_or_default())
}

/// A container that has run, or runs, is not started again: its action may not be repeatable.
async fn start_if_new(docker: &bollard::Docker, id: &str) -> Result<(), Error> {
    use bollard::models::ContainerStateStatusEnum::CREATED;
    let state = inspect(docker, id).await?;
    if state.status != Some(CREATED) || state.error.as_deref().is_some_and(|error| !error.is_empty()) {
        return Ok(());
    }
    docker.start_container(id, None::<bollard::query_parameters::StartContainerOptions>).await
}

async fn stop(docker: &bollard::Docker, id: &str) {
    let mut backoff = Backoff::new(Duration::from_secs(2));
    for _ in 0..3 {
        let options = StopContainerOptions { t: Some(GRACE_SECONDS), ..StopContainerOptions::default() };
        match docker.stop_container(id, Some(options)).await {
            Ok(()) => return,
            Err(error) if is_missing(&error) => return,
            Err(error) => tracing::warn!(container = short(id), "cannot stop it: {}", chain(&error)),
        }
        backoff.wait().await;
    }
}

async fn remove(docker: &bollard::Docker, id: &str) -> Result<(), Error> {
    let options = RemoveContainerOptions { force: true, v: true, ..RemoveContainerOptions::default() };
    match docker.remove_container(id, Some(options)).await {
        Err(error) if !is_missing(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Prints the log until the container has ended and the engine has closed it; gives its last 64 KiB.
async fn follow_log(docker: &bollard::Docker, id: &str, action: &str, ended: watch::Receiver<bool>) -> String {
    let mut log = Log::new(action, std::io::stdout());
    let mut end = std::pin::pin!(async {
        let mut ended = ended;
        let _ = ended.wait_for(|ended| *ended).await;
        tokio::time::sleep(LOG_END).await;
    });
    let options = LogsOptions { follow: true, stdout: true, stderr: true, ..LogsOptions::default() };
    let mut lines = docker.logs(id, Some(options));
    loop {
        let item = tokio::select! {
            item = lines.next() => item,
            () = &mut end => break,
        };
        match item {
            Some(Ok(LogOutput::StdErr { message })) => log.push(Stream::Error, &message),
            Some(Ok(output)) => log.push(Stream::Out, &output.into_bytes()),
            Some(Err(error)) => {
                tracing::warn!(container = short(id), "its log cannot be read on: {}", chain(&error));
                break;
            }
            None => break,
        }
    }
    log.finish()
}

fn is_missing(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 404, message } if message.contains("No such container"))
}

fn start_failure(what: &str, error: &Error) -> Failure {
    Failure { causes: vec![chain(error)], ..Failure::new(Code::Start, what) }
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
mod tests;
