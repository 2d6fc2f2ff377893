//! A worker image through the engine: pulled, run as the container `tink-worker`, watched for as long as the machine
//! lives. What time can mend is waited for; the rest ends with its cause.

use std::convert::Infallible;
use std::thread;
use std::time::Duration;

use fetch::Options;
use fetch::registry::{Access, Credential, Reference, Repository};
use spec::boot::BootCode;
use spec::cmdline::INSECURE_REGISTRIES;
use spec::paths::DOCKER_SOCKET;
use sys::clock;

use super::container::{self, NAME};
use super::plan::ImagePlan;
use super::{LOOK, STEP};
use crate::backoff::Backoff;
use crate::chain;
use crate::config::Config;
use crate::console::{Waiting, phase, say};
use crate::docker::cause::{self, Remedy};
use crate::docker::pull::{Progress, PullError};
use crate::docker::{Docker, DockerError};
use crate::engine::available;
use crate::failure::{self, Coded};

/// A worker that lives so long has started.
const ALIVE: Duration = Duration::from_secs(3);
/// A registry that is asked too often.
const LATER: Duration = Duration::from_secs(30);
/// Accidents do not happen more often in a row.
const FEW: u32 = 3;
/// Between two lines about the progress of a pull.
const PROGRESS: u64 = 10_000;
/// Of the worker's last words.
const LINES: u32 = 20;
/// Unpacked, layers take about this many times their size, beside the download.
const UNPACKED: u64 = 3;

/// Why the worker image does not run.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Asking again would not help.
    #[error("cannot pull {image}")]
    Pull {
        /// Which.
        image: String,
        /// What kind of failure.
        code: BootCode,
        /// The engine's words.
        #[source]
        source: PullError,
    },
    /// The killer of the kernel would come first.
    #[error("{image} needs about {need} MiB of memory, {free} MiB are free")]
    Memory {
        /// Which.
        image: String,
        /// In MiB.
        need: u64,
        /// In MiB.
        free: u64,
    },
}

impl Coded for ImageError {
    fn code(&self) -> BootCode {
        match self {
            Self::Pull { code, .. } => *code,
            Self::Memory { .. } => BootCode::Memory,
        }
    }
}

/// Ends only when nothing is to be hoped for.
pub fn run(plan: &ImagePlan, config: &Config) -> Result<Infallible, ImageError> {
    let docker = Docker::new(DOCKER_SOCKET);
    let mut backoff = Backoff::default();
    loop {
        wait_for_engine(&docker);
        let id = pull(&docker, plan, config)?;
        let begun = clock::boot_ms();
        let (code, message) = match start(&docker, plan, &id).and_then(|()| watch(&docker)) {
            Ok(ended) => (BootCode::Worker, ended),
            Err(error) => (BootCode::Engine, chain(&error)),
        };
        failure::tell(STEP, code, &message);
        if clock::boot_ms().saturating_sub(begun) > 60_000 {
            backoff.reset();
        }
        thread::sleep(backoff.next());
    }
}

fn wait_for_engine(docker: &Docker) {
    let mut waiting = Waiting::new(STEP, "the container engine");
    while !docker.ping() {
        waiting.still("");
        thread::sleep(LOOK);
    }
}

/// The id of the image, pulled or, when it cannot be, the engine's own.
fn pull(docker: &Docker, plan: &ImagePlan, config: &Config) -> Result<String, ImageError> {
    let (started, image) = (clock::boot_ms(), &plan.image);
    let mut waiting = Waiting::new(STEP, format!("image {image}"));
    let (mut backoff, mut accidents) = (Backoff::default(), 0);
    loop {
        let own = docker.image(image).ok().flatten();
        if own.is_none() {
            enough_memory(plan, config)?;
        }
        let mut told = clock::boot_ms();
        let pulled = docker.pull(image, plan.login.as_ref(), &mut |progress| match progress {
            Progress::Again => waiting.still("[registry] a layer broke off, the engine asks for it again"),
            Progress::Bytes(done, total) if clock::boot_ms().saturating_sub(told) >= PROGRESS => {
                told = clock::boot_ms();
                say(format_args!("{STEP}: pulling {image}: {} of {} MiB", done >> 20, total >> 20));
            }
            Progress::Bytes(..) => {}
        });
        let source = match pulled.and_then(|()| Ok(docker.image(image)?)) {
            Ok(Some(id)) => {
                phase("worker image", started, format_args!("{STEP}: pulled {image}"));
                return Ok(id);
            }
            Ok(None) => PullError::Cut,
            Err(error) => error,
        };
        let why = chain(&source).replace('\n', " ");
        if let Some(id) = own {
            say(format_args!("{STEP}: {image} cannot be pulled, so the engine's own copy is used: {why}"));
            return Ok(id);
        }
        let (code, remedy) = cause::of(&why);
        accidents += u32::from(remedy == Remedy::Few);
        if remedy == Remedy::None || accidents >= FEW {
            return Err(ImageError::Pull { image: image.clone(), code, source });
        }
        waiting.still(&format!("[{code}] {why}"));
        let pause = backoff.next();
        thread::sleep(if remedy == Remedy::Later { pause.max(LATER) } else { pause });
        wait_for_engine(docker);
    }
}

/// Before anything is downloaded, if the registry says how much that is. A registry that cannot be asked decides
/// nothing here: the engine will say why.
fn enough_memory(plan: &ImagePlan, config: &Config) -> Result<(), ImageError> {
    let Some(bytes) = layers(plan, config) else { return Ok(()) };
    let Some(free) = available() else { return Ok(()) };
    let need = bytes.saturating_mul(1 + UNPACKED);
    if need > free {
        return Err(ImageError::Memory { image: plan.image.clone(), need: need >> 20, free: free >> 20 });
    }
    Ok(())
}

fn layers(plan: &ImagePlan, config: &Config) -> Option<u64> {
    let credential = |login: &crate::docker::pull::Login| Credential {
        host: plan.registry.clone(),
        user: login.user.clone(),
        password: login.password.clone(),
    };
    let ca = std::path::PathBuf::from(spec::paths::AUTHORITIES);
    let access = Access {
        fetch: Options { ca_file: ca.exists().then_some(ca), patience: Duration::ZERO, ..Options::default() },
        credentials: plan.login.iter().map(credential).collect(),
        plain_http: config.line.items(&INSECURE_REGISTRIES).map(str::to_owned).collect(),
    };
    let reference = Reference::parse(&plan.image).ok()?;
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let image = Repository::new(&reference, &access).ok()?.image(arch).ok()?;
    Some(image.manifest.layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add))
}

fn start(docker: &Docker, plan: &ImagePlan, image_id: &str) -> Result<(), DockerError> {
    if docker.container(NAME)?.is_some_and(|found| container::is_wanted(&found, plan, image_id)) {
        say(format_args!("{STEP}: container {NAME} is already running {}", plan.image));
        return Ok(());
    }
    docker.remove(NAME)?;
    let id = docker.create(NAME, &container::spec(plan))?;
    docker.start(&id)
}

/// Until it has ended, however often the engine is started again meanwhile; how it ended, with its last words.
fn watch(docker: &Docker) -> Result<String, DockerError> {
    let started = clock::boot_ms();
    thread::sleep(ALIVE);
    let mut ready = false;
    loop {
        let Some(found) = docker.container(NAME)? else { return Ok(format!("container {NAME} was removed")) };
        if found["State"]["Running"] != true {
            let status = found["State"]["ExitCode"].as_i64().unwrap_or(-1);
            let killed = if found["State"]["OOMKilled"] == true { ", for want of memory" } else { "" };
            let tail = docker.tail(NAME, LINES).unwrap_or_default();
            let tail: String = tail.lines().map(|line| format!("\n  {line}")).collect();
            return Ok(format!("container {NAME} ended with status {status}{killed}; its last lines were:{tail}"));
        }
        if !std::mem::replace(&mut ready, true) {
            failure::forget(STEP);
            phase(STEP, started, format_args!("{STEP}: container {NAME} runs"));
        }
        if let Err(error) = docker.wait(NAME) {
            // The engine may be on its way down; the container outlives it.
            say(format_args!("{STEP}: {}", chain(&error)));
            wait_for_engine(docker);
        }
    }
}
