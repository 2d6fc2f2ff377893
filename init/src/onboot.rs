//! Bundles that run once, in order, each to its end: `onboot` before the services, `onshutdown` when the machine
//! goes down. One that fails stops those after it; whether that matters is the caller's affair.

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use sys::reap::Exit;

use crate::bundle::{self, Bundle, PrepareError};
use crate::console::Console;
use crate::container::{self, ContainerError};
use crate::output::{Output, Show};
use crate::reaper::Reaper;
use crate::stage::Stage;

/// A step did not come to a good end. Its last lines are on the console: what it says is seen as it says it.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// Its place could not be made ready.
    #[error("prepare {name}")]
    Prepare {
        /// Which step.
        name: String,
        /// Why.
        #[source]
        source: PrepareError,
    },
    /// Its log could not be opened.
    #[error("open {}", path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Its container could not be made or started.
    #[error("start {name}")]
    Start {
        /// Which step.
        name: String,
        /// Why.
        #[source]
        source: ContainerError,
    },
    /// It ran and failed.
    #[error("{name} failed with {exit}; its output is above and in {}", log.display())]
    Exit {
        /// Which step.
        name: String,
        /// How it ended.
        exit: Exit,
        /// Where its output is.
        log: PathBuf,
    },
    /// Its files are not here, and nothing can fetch them yet.
    #[error(
        "{name} is in stage two, and onboot comes before the network: bring the layer as a second initramfs, or take \
         the annotation {} away",
        spec::stage::ANNOTATION
    )]
    Stage {
        /// Which step.
        name: String,
    },
    /// Its files cannot be had; why is on the console.
    #[error("{name} is in stage two, which could not be mounted")]
    NoStage {
        /// Which step.
        name: String,
    },
    /// Nobody knows how it ended.
    #[error("the end of {name} was not told")]
    Lost {
        /// Which step.
        name: String,
    },
}

/// Runs one to its end; what it leaves behind is for [`clean`]. `log` names the file of its output, without `.log`.
pub fn run_step(reaper: &Reaper, console: &Console, step: &Bundle, log: &str) -> Result<(), StepError> {
    let log = Path::new("/var/log").join(format!("{log}.log"));
    let name = || step.name.clone();
    step.prepare().map_err(|source| StepError::Prepare { name: name(), source })?;
    let show = Show::of(step.console, console);
    let output =
        Output::start(&step.name, &log, show).map_err(|source| StepError::Log { path: log.clone(), source })?;
    let result = to_the_end(reaper, step, &output, &log);
    let tail = output.finish();
    if result.is_err() && !step.console {
        tail.iter().for_each(|line| console.line(&format!("{}: {line}", step.name)));
    }
    result
}

/// Takes away what is left of one that has ended.
pub fn clean(reaper: &Reaper, step: &Bundle) {
    // Best effort: nothing stands on a container that is done with.
    let _ = container::delete(reaper, step, None);
    bundle::release(&step.path);
}

/// Waits for the layer, if the step's files are in it.
pub fn await_stage(step: &Bundle, stage: Option<&Stage>) -> Result<(), StepError> {
    let Some(stage) = stage.filter(|_| step.second_stage) else { return Ok(()) };
    if !stage.local {
        return Err(StepError::Stage { name: step.name.clone() });
    }
    let (tell, told) = mpsc::channel();
    stage.when_mounted(move || {
        // Heard below, always.
        let _ = tell.send(());
    });
    told.recv().map_err(|_| StepError::NoStage { name: step.name.clone() })
}

fn to_the_end(reaper: &Reaper, step: &Bundle, output: &Output, log: &Path) -> Result<(), StepError> {
    let name = || step.name.clone();
    let running = container::start(reaper, step, output).map_err(|source| StepError::Start { name: name(), source })?;
    match running.exit.recv() {
        Ok(exit) if exit.is_success() => Ok(()),
        Ok(exit) => Err(StepError::Exit { name: name(), exit, log: log.to_owned() }),
        Err(_) => Err(StepError::Lost { name: name() }),
    }
}
