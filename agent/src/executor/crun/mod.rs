//! Actions under crun, without an engine: the image's root file system, an OCI bundle, and a shim that outlives the agent.
//! An action is found again by its directory, so nothing but that has to survive the agent.

mod bundle;
mod follow;
mod output;
mod seccomp;
pub mod shim;
mod state;
mod user;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use proto::convert::Attempt;
use spec::{Code, Failure, Outcome};
use tokio::process::Command;
use tokio::sync::{oneshot, watch};

use crate::config::{Config, Privileges};
use crate::events;
use crate::executor::image::{Image, Images, Stopper};
use crate::executor::logs::{Live, Printer};
use crate::executor::outcome::{Exit, Known, outcome};
use crate::executor::{Executor, place};
use crate::job::{Container, Finish, Job};
use crate::progress::{Reporter, describe};
use crate::text::chain;
use sys::clock::boot_ms;

use bundle::Request;
use shim::Orders;
use state::{Found, Place, Record};

/// Between the request to end and the kill.
const GRACE: Duration = Duration::from_secs(5);
/// For the shim to see the end that it was asked for.
const END: Duration = Duration::from_secs(30);
/// Before every id, so that it is never taken for one of another executor.
pub const PREFIX: &str = "crun:";

/// crun, and how actions are run with it.
#[derive(Debug)]
pub struct Crun {
    images: Images,
    registry: Option<String>,
    privileges: Privileges,
    run_dir: PathBuf,
    worker_dir: PathBuf,
    printer: Printer,
}

impl Crun {
    /// Touches nothing yet.
    pub fn new(config: &Config) -> Self {
        Self {
            images: Images::new(config),
            registry: config.registry.clone(),
            privileges: config.privileges,
            run_dir: config.run_dir.clone(),
            worker_dir: config.worker_dir.clone(),
            printer: Printer::new(io::stdout()),
        }
    }

    /// Whether the machine has an image, and crun to run it.
    pub fn has(&self, image: &str) -> bool {
        Path::new(shim::CRUN).exists() && self.images.has(image)
    }

    /// Whether something of this attempt is here.
    pub fn knows(&self, attempt: &Attempt) -> bool {
        self.place(attempt).path().exists()
    }

    fn place(&self, attempt: &Attempt) -> Place {
        Place::new(self.run_dir.join("actions").join(place::name(attempt)))
    }

    /// Where each shim mounts its action's root, for itself alone. Apart from the action's directory, which is then taken
    /// away without waiting for mounts.
    fn root(&self) -> PathBuf {
        self.run_dir.join("root")
    }

    fn crun_root(&self) -> PathBuf {
        self.run_dir.join("crun")
    }

    /// Reads or gets the image, on a thread of its own, which stops soon after nobody waits any more.
    async fn image(&self, job: &Job, progress: &Reporter) -> Result<Image, Failure> {
        let name = crate::executor::docker::reference(self.image_registry(job), &job.action.image);
        let (tell, told) = oneshot::channel();
        let stopper = Stopper::default();
        let (images, progress, stop) = (self.images.clone(), progress.clone(), stopper.stop());
        std::thread::spawn(move || {
            // Nobody waits any more for one that was given up.
            let _ = tell.send(images.get(&name, &progress, &stop));
        });
        let image = told.await.unwrap_or_else(|_| Err(Failure::new(Code::ImagePull, "getting the image broke off")));
        drop(stopper);
        image
    }

    /// Writes the bundle. Blocking, not for long.
    fn bundle(&self, job: &Job, image: Image, resumed: bool) -> Result<(), Failure> {
        let labels = image.config.labels.clone().unwrap_or_default();
        if resumed && !job.untouched && !place::may_repeat(&labels) {
            return Err(place::cut_off());
        }
        let privileges = place::privileges(self.privileges, &labels)?;
        place::make_directories(&self.worker_dir, &job.attempt)?;
        let place = self.place(&job.attempt);
        let failed = |error: &io::Error| written(place.path(), error);
        fs::create_dir_all(place.path()).map_err(|error| failed(&error))?;
        let id = place::name(&job.attempt);
        let cgroup = has_cgroups().then(|| format!("/ironhook/{id}"));
        let network_files = network_files(&place).map_err(|error| failed(&error))?;
        let request = Request {
            action: &job.action,
            config: &image.config,
            privileges: &privileges,
            own: own_capabilities(),
            user: user::look_up(&image.root, &image.config.user)?,
            root: self.root(),
            hostname: format!("{:012x}", crate::text::digest(&[&id]) >> 16),
            cgroup: cgroup.clone(),
            workflow: self.worker_dir.join(job.action.workflow.as_str()),
            events: place::events_dir(&self.worker_dir, &job.attempt),
            network_files,
        };
        let config = bundle::config(&request)?;
        let orders = Orders { id, crun_root: self.crun_root(), lower: image.root, root: self.root(), cgroup };
        let write = |path: PathBuf, value: serde_json::Result<Vec<u8>>| fs::write(path, value?);
        write(place.path().join("config.json"), serde_json::to_vec(&config)).map_err(|error| failed(&error))?;
        write(place.overlay(), serde_json::to_vec(&orders)).map_err(|error| failed(&error))
    }

    /// What is embedded in the machine has the name that the operator wrote, whatever stands in front of it elsewhere.
    fn image_registry(&self, job: &Job) -> Option<&str> {
        let plain = crate::executor::docker::reference(None, &job.action.image);
        if self.images.has(&plain) { None } else { self.registry.as_deref() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(shim::CRUN);
        command.arg("--root").arg(self.crun_root()).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    async fn signal(&self, id: &str, signal: &str) {
        // One that has ended in between refuses.
        let _ = self.command(&["kill", id, signal]).status().await;
    }

    /// Waits for the end, and brings it about after its time or when that is asked for.
    async fn wait(&self, place: &Place, job: &Job, container: &Container, progress: &Reporter) -> Exit {
        let id = place::name(&job.attempt);
        let elapsed = Duration::from_millis(boot_ms().saturating_sub(container.started_ms));
        let mut over = until_over(place.clone());
        let exit = tokio::select! {
            _ = &mut over => return Exit::Lost,
            () = tokio::time::sleep(job.action.timeout.saturating_sub(elapsed)) => Exit::TimedOut(job.action.timeout),
            reason = progress.cancelled() => Exit::Cancelled(reason),
        };
        tracing::warn!(container = id, "stopping it: {exit:?}");
        self.signal(&id, "TERM").await;
        if tokio::time::timeout(GRACE, &mut over).await.is_err() {
            self.signal(&id, "KILL").await;
            if tokio::time::timeout(END, over).await.is_err() {
                tracing::error!(container = id, "it does not end although it was killed");
            }
        }
        exit
    }
}

impl Executor for Crun {
    async fn prepare(&self, job: &Job, resumed: bool, progress: &Reporter) -> Result<String, Failure> {
        let place = self.place(&job.attempt);
        let id = format!("{PREFIX}{}", place::name(&job.attempt));
        if place.path().join("overlay.json").exists() && resumed {
            tracing::info!(container = id, "taking up the container of an earlier life");
            return Ok(id);
        }
        self.clear(&job.attempt).await;
        let image = self.image(job, progress).await?;
        tokio::task::block_in_place(|| self.bundle(job, image, resumed))?;
        Ok(id)
    }

    async fn run(&self, job: &Job, container: &Container, progress: &Reporter) -> Finish {
        let place = self.place(&job.attempt);
        match place.look() {
            Ok(Found::New(lock)) => {
                if let Err(error) = start(&place, lock) {
                    let known = Known { start_error: error.to_string(), ..Known::default() };
                    return Finish::from(outcome(Exit::Status(128), known));
                }
            }
            Ok(Found::Runs | Found::Ended(_)) => {}
            Ok(Found::Lost) => return Finish::from(outcome(Exit::Lost, Known::default())),
            Err(error) => return Finish::from(Outcome::Failed(unreadable(&place, &error))),
        }
        let (done, ended) = watch::channel(false);
        let waiting = async {
            let exit = self.wait(&place, job, container, progress).await;
            done.send_replace(true);
            exit
        };
        let file = place::events_file(&self.worker_dir, &job.attempt);
        let live = Live { action: &job.action.name, printer: &self.printer, progress };
        let (exit, log_tail, told) = tokio::join!(
            waiting,
            follow::log(place.logs(), &live, ended.clone()),
            events::follow(file, progress.clone(), ended),
        );
        let record = match place.look() {
            Ok(Found::Ended(record)) => record,
            Ok(_) => return Finish::from(outcome(Exit::Lost, Known { log_tail, ..Known::default() })),
            Err(error) => return Finish::from(Outcome::Failed(unreadable(&place, &error))),
        };
        // An agent that comes back late may see the time over before it sees the end; the shim knows which was first.
        let by_record = matches!(exit, Exit::Lost | Exit::TimedOut(_));
        let exit = if by_record { judged(&record, job, container) } else { exit };
        let known = Known {
            out_of_memory: record.out_of_memory,
            start_error: record.start_error,
            told: told.failure,
            progress: told.progress.as_ref().map(describe),
            log_tail,
        };
        Finish { outcome: outcome(exit, known), handover: told.handover }
    }

    async fn remove(&self, attempt: &Attempt) {
        self.clear(attempt).await;
        let _ = fs::remove_dir_all(place::events_dir(&self.worker_dir, attempt));
    }
}

impl Crun {
    /// Ends what runs of it, and takes its directory away.
    async fn clear(&self, attempt: &Attempt) {
        let place = self.place(attempt);
        if !place.path().exists() {
            return;
        }
        if matches!(place.look(), Ok(Found::Runs)) {
            self.signal(&place::name(attempt), "KILL").await;
            let _ = tokio::time::timeout(END, until_over(place.clone())).await;
        }
        // After a shim that was killed, crun may still have the container; one that has told an end has seen to that.
        if !matches!(place.look(), Ok(Found::Ended(_))) {
            let _ = self.command(&["delete", "--force", &place::name(attempt)]).status().await;
        }
        if let Err(error) = fs::remove_dir_all(place.path()) {
            tracing::warn!(%attempt, "left in place: {}: {error}", place.path().display());
        }
    }
}

/// How it ended by itself. One that ended after its time, while no agent was there to stop it, is late.
fn judged(record: &Record, job: &Job, container: &Container) -> Exit {
    let ran = Duration::from_millis(record.ended_ms.saturating_sub(container.started_ms));
    if ran > job.action.timeout {
        return Exit::TimedOut(job.action.timeout);
    }
    match (record.status, record.signal) {
        (Some(status), _) => Exit::Status(status.into()),
        (None, Some(signal)) => Exit::Status(i64::from(signal) + 128),
        (None, None) => Exit::Status(128),
    }
}

/// The shim, with the lock as its standard input: it is there from its first moment to its last.
fn start(place: &Place, lock: fs::File) -> io::Result<()> {
    let mut shim = std::process::Command::new(std::env::current_exe()?);
    shim.arg("shim").arg(place.path()).stdin(lock).stdout(Stdio::null()).stderr(Stdio::null());
    // Its name in lists of processes; nothing of the agent's environment, which may hold passwords.
    shim.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let child = Command::from(shim).spawn()?;
    // It is reaped when it ends, and goes on when we do.
    drop(child);
    Ok(())
}

/// Told when no shim is there any more. A thread of its own: the runtime would wait for one of its own at the agent's end.
fn until_over(place: Place) -> oneshot::Receiver<()> {
    let (tell, told) = oneshot::channel();
    std::thread::spawn(move || {
        if let Err(error) = place.wait() {
            tracing::error!("cannot wait for {}: {}", place.path().display(), chain(&error));
        }
        // Nobody waits any more for one that was given up.
        let _ = tell.send(());
    });
    told
}

/// What this process may do, as capabilities are called; all of them when the kernel does not say.
fn own_capabilities() -> Vec<String> {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = text.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    spec::privileges::Privileges::all()
        .granted()
        .into_iter()
        .filter(|name| set.is_none_or(|set| spec::privileges::is_in(set, name)))
        .collect()
}

/// Whether actions can have groups with limits.
fn has_cgroups() -> bool {
    let path = Path::new(shim::CGROUPS).join("cgroup.controllers");
    fs::read_to_string(path).is_ok_and(|text| text.split_whitespace().any(|controller| controller == "memory"))
}

/// The machine's resolver and names, as files of the action's own: it may change them without changing the machine.
fn network_files(place: &Place) -> io::Result<Vec<(PathBuf, &'static str)>> {
    let mut files = Vec::new();
    for (name, target) in [("resolv.conf", "/etc/resolv.conf"), ("hosts", "/etc/hosts")] {
        let text = fs::read(target).unwrap_or_else(|_| b"127.0.0.1 localhost\n".to_vec());
        let path = place.path().join(name);
        fs::write(&path, text)?;
        files.push((path, target));
    }
    Ok(files)
}

fn written(path: &Path, error: &io::Error) -> Failure {
    let code = if error.kind() == io::ErrorKind::StorageFull { Code::NoSpace } else { Code::Start };
    Failure { causes: vec![error.to_string()], ..Failure::new(code, format!("cannot write {}", path.display())) }
}

fn unreadable(place: &Place, error: &io::Error) -> Failure {
    let message = format!("cannot read how the action stands in {}", place.path().display());
    Failure { causes: vec![error.to_string()], ..Failure::new(Code::Lost, message) }
}
