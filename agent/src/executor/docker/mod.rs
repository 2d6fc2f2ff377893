//! Actions as containers of the Docker engine. This file is the order of things; the parts are beside it.
//! A container is found again by its label, so nothing but the journal's `id` has to survive the agent.

mod create;
mod engine;
mod follow;
mod pull;
mod reference;
mod state;

pub(super) use reference::{reference, registry_host};

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use self::pull::Wanted;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, ContainerState};
use bollard::query_parameters::{
    CreateContainerOptions, InspectContainerOptions, ListContainersOptions, RemoveContainerOptions,
    StartContainerOptions, StopContainerOptions, WaitContainerOptions,
};
use futures_util::StreamExt;
use proto::convert::Attempt;
use spec::{Code, Failure};
use tokio::sync::watch;

use crate::backoff::Backoff;
use crate::config::{Config, Credentials, Privileges};
use crate::events;
use crate::executor::image::Images;
use crate::executor::logs::{Live, Printer};
use crate::executor::outcome::{Exit, Known, outcome, start_failure as start_failure_of};
use crate::executor::{Executor, place};
use crate::job::{Container, Finish, Job};
use crate::progress::{Reporter, describe};
use crate::text::chain;
use sys::clock::boot_ms;

/// Between the request to end and the kill.
const GRACE_SECONDS: i32 = 5;
const REMOVE: Duration = Duration::from_secs(10);
/// For the engine to end what it does for an agent that is gone.
const NAME: Duration = Duration::from_secs(60);

/// The engine, and how actions are run on it.
#[derive(Debug)]
pub struct Docker {
    sockets: Vec<PathBuf>,
    registry: Option<String>,
    credentials: Option<Credentials>,
    worker_dir: PathBuf,
    privileges: Privileges,
    images: Images,
    images_in_memory: bool,
    pull_timeout: Duration,
    printer: Printer,
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
            images: Images::new(config),
            images_in_memory: config.images_in_memory,
            pull_timeout: config.pull_timeout,
            printer: Printer::new(std::io::stdout()),
        }
    }
}

impl Executor for Docker {
    async fn prepare(&self, job: &Job, resumed: bool, progress: &Reporter) -> Result<String, Failure> {
        let attempt = &job.attempt;
        for id in self.ask("cannot list containers", move |docker| find(docker, attempt)).await? {
            // What an earlier life had the engine make, and did not come to know of, may vanish with its request.
            let unused = job.untouched && self.never_started(&id).await?;
            if resumed && !unused {
                tracing::info!(container = short(&id), "taking up the container of an earlier life");
                return Ok(id);
            }
            let id = &id;
            self.ask("cannot remove a left-over container", move |docker| remove(docker, id)).await?;
        }
        let reference = self.image(&job.action.image, progress).await?;
        let name = &reference;
        let labels = self.ask("cannot read the image's labels", move |docker| labels(docker, name)).await?;
        if resumed && !job.untouched && !place::may_repeat(&labels) {
            return Err(place::cut_off());
        }
        let privileges = place::privileges(self.privileges, &labels)?;
        place::make_directories(&self.worker_dir, attempt)?;
        let body = &create::body(job, reference.clone(), &privileges, &self.worker_dir);
        self.ask("the container could not be created", move |docker| create(docker, attempt, body)).await
    }

    async fn run(&self, job: &Job, container: &Container, progress: &Reporter) -> Finish {
        let (id, timeout) = (container.id.as_str(), job.action.timeout);
        let elapsed = Duration::from_millis(boot_ms().saturating_sub(container.started_ms));
        let started = match engine::answer(&self.sockets, move |docker| start_if_new(docker, id)).await {
            Ok(started) => started,
            Err(failure) => return Finish::from(spec::Outcome::Failed(failure)),
        };
        // How it has ended already, perhaps while nobody looked, counts for more than what the clock says now.
        let (over, start_error) = match started {
            Ok(state) => (state::exit(&state, timeout, elapsed), String::new()),
            Err(error) if is_missing(&error) => return Finish::from(outcome(Exit::Lost, Known::default())),
            Err(error) => (Some(Exit::Status(128)), chain(&error)),
        };
        let docker = match engine::ready(&self.sockets, Some(engine::BUDGET)).await {
            Ok(docker) => docker,
            Err(failure) => return Finish::from(spec::Outcome::Failed(failure)),
        };
        let (done, ended) = watch::channel(false);
        let exit = async {
            let exit = match over {
                Some(exit) => exit,
                None => self.wait(&docker, container, job, progress).await,
            };
            done.send_replace(true);
            exit
        };
        let file = place::events_file(&self.worker_dir, &job.attempt);
        let live = Live { action: &job.action.name, printer: &self.printer, progress };
        let (exit, log_tail, told) = tokio::join!(
            exit,
            follow::log(&docker, id, &live, ended.clone()),
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
            let found = find(docker.clone(), attempt).await;
            for id in found.map_err(|error| start_failure("cannot list containers", &error))? {
                let removed = remove(docker.clone(), &id).await;
                removed.map_err(|error| start_failure("cannot remove a container", &error))?;
            }
            Ok::<(), Failure>(())
        });
        match removed.await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => tracing::warn!(%attempt, "left in place: {}", failure.one_line()),
            Err(_) => tracing::warn!(%attempt, "left in place: the engine takes longer than {REMOVE:?} to remove it"),
        }
        let _ = fs::remove_dir_all(place::events_dir(&self.worker_dir, attempt));
    }
}

impl Docker {
    /// Sees to it that the engine has the image, and gives the engine's name of it. What came with the machine has the
    /// name that the operator wrote, whatever stands in front of it elsewhere, and is not pulled.
    async fn image(&self, image: &str, progress: &Reporter) -> Result<String, Failure> {
        let docker = engine::ready(&self.sockets, Some(engine::BUDGET)).await?;
        let plain = reference::reference(None, image);
        if self.images.has(&plain) && docker.inspect_image(&plain).await.is_ok() {
            tracing::info!(image = plain, "no pull: the machine has it");
            return Ok(plain);
        }
        let reference = reference::reference(self.registry.as_deref(), image);
        let wanted = Wanted {
            reference: &reference,
            credentials: self.credentials.as_ref(),
            in_memory: self.images_in_memory,
            patience: self.pull_timeout,
        };
        pull::pull(&docker, wanted, progress).await?;
        Ok(reference)
    }

    /// Whether nothing of a container has ever run; one that is gone counts.
    async fn never_started(&self, id: &str) -> Result<bool, Failure> {
        let look = move |docker: bollard::Docker| async move {
            match inspect(&docker, id).await {
                Err(error) if is_missing(&error) => Ok(true),
                found => found.map(|state| state::is_new(&state)),
            }
        };
        self.ask("cannot look at the container of an earlier life", look).await
    }

    /// Asks the engine for what a job needs before it runs.
    async fn ask<T, F>(&self, what: &str, call: impl Fn(bollard::Docker) -> F + Send + Sync) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Error>> + Send,
    {
        engine::answer(&self.sockets, call).await?.map_err(|error| start_failure(what, &error))
    }

    /// Waits for the container's end, over restarts of the engine, and ends it after its time.
    async fn wait(&self, docker: &bollard::Docker, container: &Container, job: &Job, progress: &Reporter) -> Exit {
        let id = container.id.as_str();
        let elapsed = Duration::from_millis(boot_ms().saturating_sub(container.started_ms));
        let left = job.action.timeout.saturating_sub(elapsed);
        let exit = tokio::select! {
            exit = self.wait_for_end(docker, id) => return exit,
            () = tokio::time::sleep(left) => Exit::TimedOut(job.action.timeout),
            reason = progress.cancelled() => Exit::Cancelled(reason),
        };
        tracing::warn!(container = short(id), timeout = job.action.timeout.as_secs(), "stopping it: {exit:?}");
        stop(docker, id).await;
        exit
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

async fn find(docker: bollard::Docker, attempt: &Attempt) -> Result<Vec<String>, Error> {
    let label = format!("{}={}", place::LABEL, place::label(attempt));
    let options = ListContainersOptions {
        all: true,
        filters: Some(HashMap::from([("label".to_owned(), vec![label])])),
        ..ListContainersOptions::default()
    };
    let found = docker.list_containers(Some(options)).await?;
    Ok(found.into_iter().filter_map(|container| container.id).collect())
}

async fn labels(docker: bollard::Docker, reference: &str) -> Result<HashMap<String, String>, Error> {
    let image = docker.inspect_image(reference).await?;
    Ok(image.config.and_then(|config| config.labels).unwrap_or_default())
}

async fn create(docker: bollard::Docker, attempt: &Attempt, body: &ContainerCreateBody) -> Result<String, Error> {
    let name = place::name(attempt);
    let (begun, mut backoff) = (Instant::now(), Backoff::new(Duration::from_secs(1)));
    let created = loop {
        let options = CreateContainerOptions { name: Some(name.clone()), ..CreateContainerOptions::default() };
        match docker.create_container(Some(options), body.clone()).await {
            // The name is taken by one that was never started: nobody else names theirs so, and ours were looked for. The
            // engine may still be making it, for an agent that was killed, and until it has cannot remove it.
            Err(Error::DockerResponseServerError { status_code: 409, message }) if begun.elapsed() < NAME => {
                tracing::warn!(container = name, "the name is taken, removing what has it: {message}");
                remove(docker.clone(), &name).await?;
            }
            created => break created?,
        }
        backoff.wait().await;
    };
    for warning in created.warnings {
        tracing::warn!(container = name, "{warning}");
    }
    Ok(created.id)
}

async fn inspect(docker: &bollard::Docker, id: &str) -> Result<ContainerState, Error> {
    let found = docker.inspect_container(id, None::<InspectContainerOptions>).await?;
    Ok(found.state.unwrap_or_default())
}

/// Starts it unless that has happened before, and gives what it found; missed answers can so be asked for again.
async fn start_if_new(docker: bollard::Docker, id: &str) -> Result<ContainerState, Error> {
    let found = inspect(&docker, id).await?;
    if state::is_new(&found) {
        docker.start_container(id, None::<StartContainerOptions>).await?;
    }
    Ok(found)
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

async fn remove(docker: bollard::Docker, id: &str) -> Result<(), Error> {
    let options = RemoveContainerOptions { force: true, v: true, ..RemoveContainerOptions::default() };
    match docker.remove_container(id, Some(options)).await {
        // Another request, of an agent that was killed perhaps, is removing it.
        Err(Error::DockerResponseServerError { status_code: 409, message })
            if message.contains("already in progress") =>
        {
            Ok(())
        }
        Err(error) if !is_missing(&error) => Err(error),
        _ => Ok(()),
    }
}

fn is_missing(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 404, message } if message.contains("No such container"))
}

fn start_failure(what: &str, error: &Error) -> Failure {
    let why = chain(error);
    let (code, message) = start_failure_of(&why);
    let message = if code == Code::Start { what } else { message };
    Failure { causes: vec![why], ..Failure::new(code, message) }
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
mod tests;
