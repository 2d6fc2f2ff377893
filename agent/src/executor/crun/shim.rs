//! `ironhook-agent shim PLACE`: looks after one container of crun from its creation to its end, whatever becomes of the
//! agent, and writes down how it ended. Standard input is the lock of the place. It reports to nobody.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sys::mounts::{Flags, Mount, MountsError};
use sys::reap::{self, Exit};
use sys::supervise;

use super::output;
use super::state::{Place, Record};
use sys::clock::boot_ms;

/// Where Debian has it.
pub const CRUN: &str = "/usr/bin/crun";
/// The machine's groups, of version 2.
pub const CGROUPS: &str = "/sys/fs/cgroup";
/// Of shims: the agent's own group may be emptied without asking.
const SHIMS: &str = "/sys/fs/cgroup/ironhook-shims";

/// For the rest of what the container wrote.
const LAST_BYTES: Duration = Duration::from_secs(2);

/// What the agent tells the shim.
#[derive(Debug, Serialize, Deserialize)]
pub struct Orders {
    /// The container's name.
    pub id: String,
    /// crun's own state.
    pub crun_root: PathBuf,
    /// The image's root file system.
    pub lower: PathBuf,
    /// Where the container's is put together.
    pub root: PathBuf,
    /// The container's group below [`CGROUPS`].
    pub cgroup: Option<String>,
}

/// The shim cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// Its orders.
    #[error("cannot read {path}")]
    Orders {
        /// Where they should be.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A step.
    #[error("cannot {what}")]
    Step {
        /// The step, as a verb.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The root file system.
    #[error("the root file system cannot be put together")]
    Root(#[from] MountsError),
    /// crun refused.
    #[error("{0}")]
    Crun(String),
}

/// Runs the container to its end.
pub fn run(path: &Path) -> Result<(), ShimError> {
    let place = Place::new(path.to_owned());
    let step = |what| move |source| ShimError::Step { what, source };
    place.begin().map_err(step("say that the action has begun"))?;
    let record = match supervised(&place) {
        Ok(record) => record,
        Err(error) => Record { start_error: crate::text::chain(&error), ..Record::default() },
    };
    place.end(&Record { ended_ms: boot_ms(), ..record }).map_err(step("write down how it ended"))?;
    // Nobody has to wait while the kernel takes our mounts down.
    let lock = io::stdin().as_fd().try_clone_to_owned().map_err(step("let go of the lock"))?;
    fs::File::from(lock).unlock().map_err(step("let go of the lock"))
}

fn supervised(place: &Place) -> Result<Record, ShimError> {
    let step = |what| move |source| ShimError::Step { what, source };
    let path = place.overlay();
    let text = fs::read(&path).map_err(|source| ShimError::Orders { path: path.clone(), source })?;
    let orders: Orders =
        serde_json::from_slice(&text).map_err(|error| ShimError::Orders { path, source: error.into() })?;
    supervise::own_session().map_err(step("leave the agent's session"))?;
    supervise::adopt_orphans().map_err(step("adopt the container"))?;
    supervise::own_mounts().map_err(step("have mounts of its own"))?;
    if orders.cgroup.is_some() {
        // Where that cannot be, the shim lives as long as the agent's group.
        let _ = fs::create_dir_all(SHIMS)
            .and_then(|()| fs::write(Path::new(SHIMS).join("cgroup.procs"), std::process::id().to_string()));
    }
    mount_root(place, &orders)?;
    let crun = Crun { place, orders: &orders };
    let result = crun.run();
    // Also what a failed start has left behind.
    let _ = crun.command(&["delete", "--force", &orders.id]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    result
}

/// The image below, what the action writes above it.
fn mount_root(place: &Place, orders: &Orders) -> Result<(), ShimError> {
    let (path, lower) = (place.path(), &orders.lower);
    let (upper, work) = (path.join("upper"), path.join("work"));
    for directory in [&upper, &work, &orders.root] {
        let made = fs::create_dir_all(directory);
        made.map_err(|source| ShimError::Step { what: "make the directories of its root", source })?;
    }
    let data = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    let mount = |data| Mount {
        source: "overlay".into(),
        target: orders.root.clone(),
        kind: "overlay".into(),
        flags: Flags::empty(),
        data,
    };
    // What is written goes with the action: it need not reach a disk when that ends. Kernels before 5.10 insist.
    mount(format!("{data},volatile")).apply().or_else(|_| mount(data).apply()).map_err(ShimError::from)
}

struct Crun<'a> {
    place: &'a Place,
    orders: &'a Orders,
}

impl Crun<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(CRUN);
        let manager = if self.orders.cgroup.is_some() { "cgroupfs" } else { "disabled" };
        command.arg("--root").arg(&self.orders.crun_root).args(["--cgroup-manager", manager]);
        command.arg("--log").arg(self.place.crun_log()).args(arguments).stdin(Stdio::null());
        command
    }

    fn run(&self) -> Result<Record, ShimError> {
        let step = |what| move |source| ShimError::Step { what, source };
        let (over, streams) = mpsc::channel();
        let [out, err] = self.place.logs().map(|path| kept(path, over.clone()));
        let pid_file = self.place.path().join("pid");
        let bundle = self.place.path().display().to_string();
        let pid_path = pid_file.display().to_string();
        let mut run = self.command(&["run", "--detach", "--bundle", &bundle, "--pid-file", &pid_path, &self.orders.id]);
        run.stdout(out.map_err(step("take its output"))?).stderr(err.map_err(step("take its output"))?);
        self.done(&mut run)?;
        // With it goes our end of the streams, so that they end with the container.
        drop(run);
        let pid = fs::read_to_string(&pid_file).map_err(step("read the number of its process"))?;
        let pid: i32 =
            pid.trim().parse().map_err(|error| step("read the number of its process")(io::Error::other(error)))?;
        let exit = wait_for(pid).map_err(step("wait for its end"))?;
        for _ in self.place.logs() {
            // A process that outlives the container may still have one.
            let _ = streams.recv_timeout(LAST_BYTES);
        }
        let record = Record { out_of_memory: self.out_of_memory(), ..Record::default() };
        Ok(match exit {
            Exit::Code(code) => Record { status: Some(code), ..record },
            Exit::Signal(signal) => Record { signal: Some(signal), ..record },
        })
    }

    fn done(&self, command: &mut Command) -> Result<(), ShimError> {
        let status = command.status().map_err(|source| ShimError::Step { what: "run /usr/bin/crun", source })?;
        if status.success() {
            return Ok(());
        }
        let said = fs::read_to_string(self.place.crun_log()).unwrap_or_default();
        // `<time>: <words>`, of which the last line is the cause.
        let last = said.lines().next_back().unwrap_or_default();
        Err(ShimError::Crun(if last.is_empty() { format!("crun ended with {status}") } else { last.to_owned() }))
    }

    fn out_of_memory(&self) -> bool {
        let Some(cgroup) = &self.orders.cgroup else { return false };
        let path = format!("{CGROUPS}{cgroup}/memory.events");
        let text = fs::read_to_string(path).unwrap_or_default();
        let killed = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok());
        killed.is_some_and(|killed| killed > 0)
    }
}

/// Where a stream of the container is written to; a thread keeps it at `path` and tells its end.
fn kept(path: PathBuf, over: mpsc::Sender<()>) -> io::Result<io::PipeWriter> {
    let (reader, writer) = io::pipe()?;
    std::thread::spawn(move || {
        output::keep(reader, &path);
        // Nobody waits any more for one that came too late.
        let _ = over.send(());
    });
    Ok(writer)
}

/// Reaps whoever ends, until it is the one.
fn wait_for(pid: i32) -> io::Result<Exit> {
    loop {
        let ended = reap::wait_any()?.ok_or_else(|| io::Error::other("it is not a child of the shim"))?;
        reap::reap(ended.pid)?;
        if ended.pid == pid {
            return Ok(ended.exit);
        }
    }
}
