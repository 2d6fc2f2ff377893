//! The executor of tests: an action's command as plain processes on this host. It keeps the promises of the others: what
//! runs outlives the agent and is found again, and nothing is started twice. Not part of what ships.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::convert::Attempt;
use spec::{Code, Failure, paths};
use tokio::process::Command;

use crate::config::Config;
use crate::events;
use crate::executor::Executor;
use crate::executor::logs::{Live, Log, Printer, Stream};
use crate::executor::outcome::{Exit, Known, outcome};
use crate::job::{Container, Finish, Job};
use crate::progress::{Reporter, describe};
use crate::text::{digest, sanitised};
use sys::clock::boot_ms;

/// The one who makes `started` runs the command; whoever comes later finds it made.
const SHIM: &str = r#"mkdir started 2>/dev/null || exit 0
echo $$ >started/pid.new; mv started/pid.new started/pid
"$@" >log 2>&1
echo $? >status.new; mv status.new status"#;
const LOOK: Duration = Duration::from_millis(10);
const GRACE: Duration = Duration::from_secs(5);

/// Directories of actions, and where their output goes.
#[derive(Debug)]
pub struct Process {
    dir: PathBuf,
    printer: Printer,
}

impl Process {
    /// Keeps its actions beneath the directory of run-time state.
    pub fn new(config: &Config) -> Self {
        Self { dir: config.run_dir.join("process"), printer: Printer::new(std::io::stdout()) }
    }

    fn place(&self, attempt: &Attempt) -> PathBuf {
        let digest = digest(&[attempt.workflow.as_str(), &attempt.task, &attempt.action]) as u32;
        self.dir.join(format!("{}-{digest:08x}", sanitised(&attempt.action)))
    }
}

impl Executor for Process {
    async fn prepare(&self, job: &Job, resumed: bool, _: &Reporter) -> Result<String, Failure> {
        let place = self.place(&job.attempt);
        if place.exists() {
            if resumed {
                return Ok(place.display().to_string());
            }
            self.remove(&job.attempt).await;
        }
        if resumed && !job.untouched {
            return Err(Failure::new(Code::Lost, "it was cut off by a restart of the machine"));
        }
        if job.action.image == "missing" {
            return Err(Failure::new(Code::ImageNotFound, "there is no image \"missing\""));
        }
        let made = fs::create_dir_all(&place);
        made.map_err(|error| Failure::new(Code::Start, format!("cannot make {}: {error}", place.display())))?;
        Ok(place.display().to_string())
    }

    async fn run(&self, job: &Job, container: &Container, progress: &Reporter) -> Finish {
        let place = Path::new(&container.id);
        let events_file = place.join("events.jsonl");
        if !place.join("started").exists() {
            let environment = job.action.environment.iter().filter_map(|entry| entry.split_once('='));
            let mut shim = Command::new("sh");
            shim.args(["-c", SHIM, "shim"]).args(&job.action.command).current_dir(place).process_group(0);
            shim.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").envs(environment);
            shim.env(paths::EVENTS_ENV, &events_file).stdin(std::process::Stdio::null());
            if let Err(error) = shim.spawn() {
                let known = Known { start_error: error.to_string(), ..Known::default() };
                return Finish::from(outcome(Exit::Status(128), known));
            }
        }
        let (done, ended) = tokio::sync::watch::channel(false);
        let watching = async {
            let mut log = Follower { log: Log::default(), read: 0 };
            let exit = self.watch(job, container, progress, &mut log).await;
            done.send_replace(true);
            (exit, log.log.tail())
        };
        let ((exit, log_tail), told) = tokio::join!(watching, events::follow(events_file, progress.clone(), ended));
        let known =
            Known { told: told.failure, progress: told.progress.as_ref().map(describe), log_tail, ..Known::default() };
        Finish { outcome: outcome(exit, known), handover: told.handover }
    }

    async fn remove(&self, attempt: &Attempt) {
        let place = self.place(attempt);
        kill(&place, "KILL").await;
        let _ = fs::remove_dir_all(&place);
    }
}

impl Process {
    /// Until its end, however that comes; the log is shown as it grows.
    async fn watch(&self, job: &Job, container: &Container, progress: &Reporter, log: &mut Follower) -> Exit {
        let place = Path::new(&container.id);
        let live = Live { action: &job.action.name, printer: &self.printer, progress };
        let elapsed = Duration::from_millis(boot_ms().saturating_sub(container.started_ms));
        let end = tokio::select! {
            exit = until_status(place) => exit,
            () = tokio::time::sleep(job.action.timeout.saturating_sub(elapsed)) => Exit::TimedOut(job.action.timeout),
            reason = progress.cancelled() => Exit::Cancelled(reason),
            () = async { loop {
                let lines = log.grown(place);
                live.show(&lines);
                tokio::time::sleep(LOOK).await;
            } } => Exit::Lost,
        };
        if matches!(end, Exit::TimedOut(_) | Exit::Cancelled(_)) {
            kill(place, "TERM").await;
            if tokio::time::timeout(GRACE, until_status(place)).await.is_err() {
                kill(place, "KILL").await;
            }
        }
        let mut lines = log.grown(place);
        lines.extend(log.log.end());
        live.show(&lines);
        end
    }
}

struct Follower {
    log: Log,
    read: u64,
}

impl Follower {
    fn grown(&mut self, place: &Path) -> Vec<String> {
        let mut bytes = Vec::new();
        if let Ok(mut file) = File::open(place.join("log")) {
            let _ = file.seek(SeekFrom::Start(self.read)).and_then(|_| file.read_to_end(&mut bytes));
        }
        self.read += bytes.len() as u64;
        self.log.push(Stream::Out, &bytes)
    }
}

/// Its exit status, or that it is gone without one.
async fn until_status(place: &Path) -> Exit {
    loop {
        let alive = alive(place);
        if let Some(status) = number(&place.join("status")) {
            return Exit::Status(status);
        }
        // Looked at before the status, so one that has just ended is not taken for one that vanished.
        if alive == Some(false) {
            return Exit::Lost;
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn alive(place: &Path) -> Option<bool> {
    let pid = number(&place.join("started/pid"))?;
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    Some(state.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z')))
}

async fn kill(place: &Path, signal: &str) {
    if let Some(pid) = number(&place.join("started/pid")) {
        let _ = Command::new("kill").args([&format!("-{signal}"), "--", &format!("-{pid}")]).output().await;
    }
}

fn number(path: &Path) -> Option<i64> {
    let mut text = String::new();
    OpenOptions::new().read(true).open(path).ok()?.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
