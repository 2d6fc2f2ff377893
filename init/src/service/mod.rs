//! Services: one thread each, which alone starts, watches, restarts and stops its container.
//!
//! ```text
//! prepare -> create+start -> runs -> ended -> delete -> wait -> create+start ...
//!                             stop: SIGTERM, grace, SIGKILL -> gone
//! ```

mod policy;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sys::reap::{self, Exit};

use self::policy::{Decision, Policy, Tell};
use crate::bundle::Bundle;
use crate::console::Console;
use crate::container::{self, Running};
use crate::one_line;
use crate::output::{Output, Show};
use crate::reaper::Reaper;
use crate::stage::Stage;

/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// Lines of a failed run that are shown; all of them are in its log.
const LAST_WORDS: usize = 3;

/// A supervised service.
pub struct Service {
    stop: Sender<Told>,
    thread: JoinHandle<()>,
}

/// What a service's thread is told.
enum Told {
    Ready,
    Ended(Exit),
    Stop,
}

struct Supervisor {
    reaper: Reaper,
    console: Console,
    bundle: Bundle,
    output: Output,
    log: PathBuf,
    policy: Policy,
    told: Receiver<Told>,
    tell: Sender<Told>,
}

/// Starts to supervise. The service itself comes up on its own time.
pub fn start(reaper: &Reaper, console: &Console, stage: Option<&Stage>, bundle: Bundle) -> io::Result<Service> {
    let log = Path::new("/var/log").join(format!("{}.log", bundle.name));
    let output = Output::start(&bundle.name, &log, Show::of(bundle.console, console))?;
    let (tell, told) = mpsc::channel();
    let stop = tell.clone();
    let stage = stage.filter(|_| bundle.second_stage).cloned();
    let policy = Policy::new(bundle.restart);
    let name = format!("service {}", bundle.name);
    let supervisor =
        Supervisor { reaper: reaper.clone(), console: console.clone(), bundle, output, log, policy, told, tell };
    let thread = thread::Builder::new().name(name).spawn(move || supervisor.run(stage))?;
    Ok(Service { stop, thread })
}

/// Stops all at once and waits until they are gone.
pub fn stop_all(services: Vec<Service>) {
    for service in &services {
        // One whose thread has ended is stopped.
        let _ = service.stop.send(Told::Stop);
    }
    for service in services {
        let _ = service.thread.join();
    }
}

impl Supervisor {
    fn run(mut self, stage: Option<Stage>) {
        if stage.is_some_and(|stage| !self.is_ready(&stage)) {
            return;
        }
        if let Err(error) = self.bundle.prepare() {
            self.say(&format!("will not start: {}", one_line(&error)));
            return;
        }
        loop {
            let started = Instant::now();
            let exit = match container::start(&self.reaper, &self.bundle, &self.output) {
                Ok(running) => match self.until_ended(running) {
                    Some(exit) => Some(exit),
                    None => return,
                },
                Err(error) => {
                    self.say(&format!("did not start: {}", one_line(&error)));
                    None
                }
            };
            let decision = self.policy.ended(exit, started.elapsed());
            self.report(exit, decision);
            // Also when it is left: what it started must not stay behind without it.
            let _ = container::delete(&self.reaper, &self.bundle, Some(&self.output));
            let Decision::After(wait) = decision else { return };
            match self.told.recv_timeout(wait) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(_) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Whether its files are there; not, when it was told to stop before they were.
    fn is_ready(&self, stage: &Stage) -> bool {
        let tell = self.tell.clone();
        stage.when_mounted(move || {
            // Nobody listens any more when the machine goes down.
            let _ = tell.send(Told::Ready);
        });
        match self.told.try_recv() {
            Ok(told) => matches!(told, Told::Ready),
            Err(_) => {
                self.say("waits for stage two");
                matches!(self.told.recv(), Ok(Told::Ready))
            }
        }
    }

    /// Its end, or none when it was told to stop and is gone.
    fn until_ended(&self, running: Running) -> Option<Exit> {
        let Running { pid, exit } = running;
        let tell = self.tell.clone();
        thread::spawn(move || exit.recv().map(|exit| tell.send(Told::Ended(exit))));
        match self.told.recv() {
            Ok(Told::Ended(exit)) => Some(exit),
            Ok(Told::Stop | Told::Ready) | Err(_) => {
                self.stop(pid);
                None
            }
        }
    }

    fn stop(&self, pid: i32) {
        let _ = reap::terminate(pid);
        if self.told.recv_timeout(GRACE).is_err() {
            self.say(&format!("did not end within {} s of SIGTERM, so it is killed", GRACE.as_secs()));
        }
        let _ = container::delete(&self.reaper, &self.bundle, Some(&self.output));
    }

    fn report(&self, exit: Option<Exit>, decision: Decision) {
        let tail = self.output.take_tail();
        let ended = exit.map_or("before it was started".to_owned(), |exit| format!("with {exit}"));
        let next = match decision {
            Decision::After(wait) => format!("again in {} s", wait.as_secs()),
            Decision::Leave => "not started again".to_owned(),
        };
        match (self.policy.tell(), decision) {
            (Tell::Loop(times), Decision::After(_)) => {
                let last = tail.last().map_or(String::new(), |line| format!(" (it said: {line})"));
                self.say(&format!(
                    "dies in a loop: ended {times} times, last {ended}{last}; tried {next}, then at most every {} s; \
                     its output is in {}",
                    policy::LAST.as_secs(),
                    self.log.display()
                ));
            }
            (Tell::Nothing, Decision::After(_)) => {}
            _ => {
                if exit.is_none_or(|exit| !exit.is_success()) {
                    self.show_last_words(&tail);
                }
                self.say(&format!("ended {ended}, {next}"));
            }
        }
    }

    /// The last words of a run that went wrong, if they were not on the console when they were said.
    fn show_last_words(&self, tail: &[String]) {
        if !self.bundle.console {
            let last = &tail[tail.len().saturating_sub(LAST_WORDS)..];
            last.iter().for_each(|line| self.console.line(&format!("{}: {line}", self.bundle.name)));
        }
    }

    fn say(&self, text: &str) {
        self.console.say(&format!("service {}: {text}", self.bundle.name));
    }
}
