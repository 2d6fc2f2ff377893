//! dockerd as a child: its output passed on and its end kept in mind, its readiness told, SIGTERM handed to it.
//! The main thread waits for signals only; one thread copies output, one asks whether it is ready.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, PipeReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use sys::child::{Signals, Told, spawn, terminate};

use super::embedded;
use super::plan::{CONFIG, Plan, SOCKET};
use crate::console::phase;
use crate::docker::Docker;
use crate::failure;

/// What is kept of the output for the error.
const TAIL: usize = 50;
/// Between two looks for the socket.
const LOOK: Duration = Duration::from_millis(50);
/// For the last lines after the end; containers that outlive dockerd may hold the pipe open.
const LAST_LINES: Duration = Duration::from_millis(500);

/// Why it does not run any more.
#[derive(Debug, thiserror::Error)]
pub enum DockerdError {
    /// Starting it.
    #[error("cannot start {path}")]
    Start {
        /// Which program.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Waiting for it.
    #[error("cannot wait for dockerd")]
    Wait(#[source] io::Error),
    /// It gave up by itself; what it said is the best there is.
    #[error("dockerd ended before it was ready ({status}); its last lines were:\n{tail}")]
    NotReady {
        /// How.
        status: ExitStatus,
        /// Its output.
        tail: String,
    },
    /// It served, and then ended.
    #[error("dockerd ended by itself ({0}); its output is in this service's log")]
    Ended(ExitStatus),
}

/// Runs it to its end; no error when it was asked to end and did.
pub fn run(path: &Path, plan: &Plan, signals: &Signals, started: u64) -> Result<(), DockerdError> {
    let start = |source| DockerdError::Start { path: path.to_owned(), source };
    let (reader, writer) = io::pipe().map_err(start)?;
    let mut command = Command::new(path);
    command.args(["--config-file", CONFIG]).envs(plan.env.iter().map(|(name, value)| (name, value.expose())));
    command.stdin(Stdio::null()).stdout(writer.try_clone().map_err(start)?).stderr(writer);
    let mut child = spawn(&mut command).map_err(start)?;
    // The command holds the other end of the pipe.
    drop(command);
    let tail = Tail::follow(reader);
    let ready = watch(started);
    let mut asked = false;
    let status = loop {
        // Before the wait: it may have ended before the signals were blocked for good.
        if let Some(status) = child.try_wait().map_err(DockerdError::Wait)? {
            break status;
        }
        if signals.wait().map_err(DockerdError::Wait)? == Told::End {
            asked = true;
            terminate(&child).map_err(DockerdError::Wait)?;
        }
    };
    match (asked, ready.load(Ordering::Acquire)) {
        (true, _) => Ok(()),
        (false, true) => Err(DockerdError::Ended(status)),
        (false, false) => Err(DockerdError::NotReady { status, tail: tail.end() }),
    }
}

/// Tells the phase when it answers, and loads what was brought along. The thread ends then, or with the process.
fn watch(started: u64) -> Arc<AtomicBool> {
    let ready = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&ready);
    thread::spawn(move || {
        let docker = Docker::new(SOCKET);
        while !docker.ping() {
            thread::sleep(LOOK);
        }
        set.store(true, Ordering::Release);
        phase("engine", started, "engine ready");
        failure::forget("engine");
        embedded::load(&docker);
    });
    ready
}

/// The end of an output that is passed on line by line.
struct Tail {
    lines: Arc<Mutex<VecDeque<String>>>,
    over: Receiver<()>,
}

impl Tail {
    fn follow(reader: PipeReader) -> Self {
        let lines = Arc::new(Mutex::new(VecDeque::with_capacity(TAIL)));
        let (running, over) = mpsc::channel();
        let kept = Arc::clone(&lines);
        thread::spawn(move || {
            let _running = running;
            copy(reader, &kept);
        });
        Self { lines, over }
    }

    fn end(self) -> String {
        // Nothing is ever sent: it ends when the copying does, or after a moment.
        let _ = self.over.recv_timeout(LAST_LINES);
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
    }
}

fn copy(reader: PipeReader, kept: &Mutex<VecDeque<String>>) {
    for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        // The log is for a person; losing it must not end the engine.
        let _ = writeln!(io::stdout(), "{line}");
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == TAIL {
            kept.pop_front();
        }
        kept.push_back(line);
    }
}
