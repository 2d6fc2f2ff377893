//! The boot as a flat list of phases, then waiting for the request that ends it.
//! A phase that fails ends the boot; what to do then is `recovery`'s.

use std::collections::HashSet;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use spec::handover::Request;
use spec::paths;
use sys::uevent::Socket;

use crate::bundle::{self, BundleError, Kind};
use crate::console::Console;
use crate::filesystems::{self, FilesystemsError};
use crate::handover::{self, HandoverError};
use crate::host::{self, HostError};
use crate::later::Later;
use crate::modules::{self, Index, IndexError, Loader};
use crate::onboot::{self, StepError};
use crate::reaper::Reaper;
use crate::root::{self, RootError};
use crate::service::{self, Service};
use crate::stage::{self, StageError};
use crate::timeline::Timeline;
use crate::volumes::{self, VolumeError};
use crate::{cmdline, devices, entropy, one_line, shutdown};

/// The boot cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// `/proc`, `/sys`, `/dev` and the rest.
    #[error("mounts")]
    Filesystems(#[from] FilesystemsError),
    /// Cut short, or not to be moved.
    #[error("root file system")]
    Root(#[from] RootError),
    /// Directories to meet in.
    #[error("places")]
    Host(#[from] HostError),
    /// The file of the phases.
    #[error("begin {}", paths::TIMELINE)]
    Timeline(#[source] std::io::Error),
    /// Which modules there are.
    #[error("modules: the index of kernel {release} cannot be used")]
    Index {
        /// The running kernel.
        release: String,
        /// Why.
        #[source]
        source: IndexError,
    },
    /// Something to run on: threads, sockets, the kernel's name.
    #[error("{what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Who may ask for the end.
    #[error("handover")]
    Handover(#[from] HandoverError),
    /// What there is to run.
    #[error("bundles")]
    Bundles(#[from] BundleError),
    /// Directories that containers share.
    #[error("volumes")]
    Volume(#[from] VolumeError),
    /// The layer of components that can wait.
    #[error("stage two")]
    Stage(#[from] StageError),
    /// A step of onboot.
    #[error("onboot")]
    Step(#[from] StepError),
    /// The end was asked for and the kernel refused.
    #[error("the kernel refuses to {mode}")]
    End {
        /// What was asked for.
        mode: spec::handover::Mode,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Boots, then serves until the machine goes down.
pub fn run(console: &Console) -> Result<Infallible, BootError> {
    let mut timeline = Timeline::new(console.clone());
    let entropy = entropy::begin();
    prepare_root(console, &mut timeline)?;
    let loader = timeline.phase("module index", read_index)?;
    let events = Socket::open().map_err(|source| BootError::System { what: "listen for devices", source })?;
    let mut later = Later::default();
    let seen = timeline.phase("modules", || load_modules(console, &loader, &mut later))?;
    let watch = devices::watch(console)
        .map_err(|source| BootError::System { what: "watch for devices without a driver", source })?;
    modules::hot_plug(events, loader, seen, console.clone(), watch)
        .map_err(|source| BootError::System { what: "listen for devices", source })?;
    // A serial card or a virtual port may have come with its driver.
    console.open();
    entropy.end(console, &mut timeline);
    host::set_up(console);
    let system = |what| move |source| BootError::System { what, source };
    let reaper = Reaper::start().map_err(system("start the reaper"))?;
    let (tell, told) = mpsc::channel();
    handover::listen(Path::new(paths::INIT_SOCKET), tell.clone(), console.clone())?;
    // All bundles are read before the first runs: what is wrong with the last is known now.
    let (steps, services) = (bundle::all(Kind::Onboot)?, bundle::all(Kind::Service)?);
    for volume in volumes::all()? {
        volumes::mount(&volume)?;
    }
    let stage = stage::begin(console)?;
    for step in steps {
        onboot::await_stage(&step, stage.as_ref())?;
        let name = format!("onboot {}", step.name);
        timeline.phase(&name, || onboot::run_step(&reaper, console, &step, &format!("onboot.{}", step.name)))?;
        let reaper = reaper.clone();
        later.add(move || onboot::clean(&reaper, &step));
    }
    handover::watch_reboot_file(tell, console.clone())?;
    let services = timeline.phase("services", || {
        services
            .into_iter()
            .map(|bundle| service::start(&reaper, console, stage.as_ref(), bundle))
            .collect::<Result<Vec<Service>, _>>()
            .map_err(system("start to supervise the services"))
    })?;
    later.start().map_err(system("start what was put off"))?;
    serve(&reaper, console, services, &told)
}

/// From the kernel's first root to one that containers can be made on.
fn prepare_root(console: &Console, timeline: &mut Timeline) -> Result<(), BootError> {
    timeline.phase("first mounts", || {
        filesystems::mount_early()?;
        console.open();
        Ok::<_, BootError>(())
    })?;
    if root::is_initramfs()? {
        timeline.phase("whole image", root::check_complete)?;
        timeline.phase("re-root", root::re_root)?;
    }
    timeline.phase("mounts", || {
        filesystems::mount_all()?;
        host::make_places()?;
        Ok::<_, BootError>(())
    })?;
    timeline.keep(Path::new(paths::TIMELINE)).map_err(BootError::Timeline)
}

fn read_index() -> Result<Arc<Loader>, BootError> {
    let release = sys::module::kernel_release()
        .map_err(|source| BootError::System { what: "ask for the kernel's release", source })?;
    let directory = PathBuf::from("/usr/lib/modules").join(&release);
    let index = Index::read(&directory).map_err(|source| BootError::Index { release, source })?;
    Ok(Arc::new(Loader::new(index, cmdline::module_options())))
}

/// Drivers of what is there, and from now on of what comes. A driver that fails is told, and no end: the machine
/// may well install without it.
fn load_modules(console: &Console, loader: &Arc<Loader>, later: &mut Later) -> Result<HashSet<String>, BootError> {
    let mut failures: Vec<_> = modules::ALWAYS.iter().flat_map(|name| loader.load(name)).collect();
    let plugged = modules::cold_plug(loader, Path::new("/sys/devices"));
    failures.extend(plugged.failures);
    for failure in failures {
        console.say(&format!("warning: {}", one_line(&failure)));
    }
    console.say(&format!("{} modules for {} kinds of devices", loader.count(), plugged.seen.len()));
    let loader = loader.clone();
    // Without a word: the machine does everything without them, only slower.
    later.add(move || plugged.later.iter().for_each(|modalias| drop(loader.load_for_device(modalias))));
    Ok(plugged.seen)
}

/// Waits for the end to be asked for, and brings it about.
fn serve(
    reaper: &Reaper,
    console: &Console,
    services: Vec<Service>,
    told: &mpsc::Receiver<Request>,
) -> Result<Infallible, BootError> {
    let request = told
        .recv()
        .map_err(|error| BootError::System { what: "wait for the end", source: std::io::Error::other(error) })?;
    let source = shutdown::run(reaper, console, services, &request);
    Err(BootError::End { mode: request.mode, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_end_is_said_in_words_for_people() {
        let source = std::io::Error::from(std::io::ErrorKind::InvalidInput);
        let error = BootError::End { mode: spec::handover::Mode::Kexec, source };
        assert_eq!(error.to_string(), "the kernel refuses to kexec");
    }
}
