//! Processes that run beside the lab: each has a log file, a name for messages, and ends with its owner.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

/// A running process.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

/// A process did not start, or did not stay.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started.
    #[error("cannot start {name} (make deps and make image provide what is missing)")]
    Start {
        /// Which one.
        name: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its log cannot be written.
    #[error("cannot write {path}")]
    Log {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its state cannot be asked for.
    #[error("cannot wait for {name}")]
    Wait {
        /// Which one.
        name: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended by itself.
    #[error("{name} ended ({status}); its log is {log}; its last lines: {said}")]
    Ended {
        /// Which one.
        name: &'static str,
        /// How.
        status: ExitStatus,
        /// Where it wrote.
        log: PathBuf,
        /// What it wrote last.
        said: String,
    },
}

impl Process {
    /// Starts a program; standard output and error are appended to `log`.
    pub fn spawn(name: &'static str, command: &mut Command, log: &Path) -> Result<Self, ProcessError> {
        command.stdout(append(log)?);
        Self::start(name, command, log)
    }

    /// Starts a program whose standard output the caller reads; only its standard error goes to `log`.
    pub fn piped(name: &'static str, command: &mut Command, log: &Path) -> Result<(Self, ChildStdout), ProcessError> {
        command.stdout(Stdio::piped());
        let mut process = Self::start(name, command, log)?;
        let source = || io::Error::other("no pipe to its standard output");
        let stdout = process.child.stdout.take().ok_or_else(|| ProcessError::Start { name, source: source() })?;
        Ok((process, stdout))
    }

    fn start(name: &'static str, command: &mut Command, log: &Path) -> Result<Self, ProcessError> {
        command.stdin(Stdio::null()).stderr(append(log)?);
        let child = command.spawn().map_err(|source| ProcessError::Start { name, source })?;
        Ok(Self { name, child, log: log.to_owned() })
    }

    /// Fails, with the last lines of its log, when the process has ended.
    pub fn check(&mut self) -> Result<(), ProcessError> {
        match self.child.try_wait().map_err(|source| ProcessError::Wait { name: self.name, source })? {
            None => Ok(()),
            Some(status) => {
                Err(ProcessError::Ended { name: self.name, status, log: self.log.clone(), said: tail(&self.log) })
            }
        }
    }

    /// Of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // Fails only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

fn append(log: &Path) -> Result<File, ProcessError> {
    let open = || {
        log.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        File::options().create(true).append(true).open(log)
    };
    open().map_err(|source| ProcessError::Log { path: log.to_owned(), source })
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" | ")
}
