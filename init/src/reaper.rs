//! The only waitpid in process 1. Every child's end comes through here and goes to whoever started or adopted it;
//! orphans that nobody asked for are reaped and forgotten.
//!
//! A child is reaped under the lock that starting one holds, so a number never means two processes.

use std::collections::HashMap;
use std::io;
use std::process::Command;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use sys::reap::{self, Exit};

/// Without a child there is nothing to wait for; one that comes wakes the reaper, this is only the second net.
const IDLE: Duration = Duration::from_secs(1);

/// Starts, adopts and reaps. Copies are the same reaper.
#[derive(Clone)]
pub struct Reaper {
    shared: Arc<Shared>,
}

struct Shared {
    table: Mutex<Table>,
    started: Condvar,
}

#[derive(Default)]
struct Table {
    watched: HashMap<i32, OnExit>,
    /// While someone is about to adopt, ends of unknown children are kept for him.
    adopters: usize,
    unclaimed: HashMap<i32, Exit>,
}

type OnExit = Box<dyn FnOnce(Exit) + Send>;

/// The right to adopt a process that may have ended before it is known. Dropping it ends the waiting.
pub struct Adoption {
    reaper: Reaper,
}

impl Reaper {
    /// Begins reaping.
    pub fn start() -> io::Result<Self> {
        let reaper = Self { shared: Arc::new(Shared { table: Mutex::default(), started: Condvar::new() }) };
        let looping = reaper.clone();
        thread::Builder::new().name("reaper".to_owned()).spawn(move || looping.reap_for_ever())?;
        Ok(reaper)
    }

    /// Starts a program; its end goes to `on_exit`, which must not block.
    pub fn spawn(&self, command: &mut Command, on_exit: impl FnOnce(Exit) + Send + 'static) -> io::Result<i32> {
        let mut table = self.table();
        let child = command.spawn()?;
        // Process numbers are positive and below 2^22.
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        table.watched.insert(pid, Box::new(on_exit));
        self.shared.started.notify_one();
        Ok(pid)
    }

    /// Runs a program to its end.
    pub fn run(&self, command: &mut Command) -> io::Result<Exit> {
        let (tell, told) = mpsc::channel();
        self.spawn(command, to(tell))?;
        told.recv().map_err(io::Error::other)
    }

    /// To be called before a process is made that will be adopted.
    pub fn adoption(&self) -> Adoption {
        self.table().adopters += 1;
        Adoption { reaper: self.clone() }
    }

    fn reap_one(&self) -> io::Result<bool> {
        let Some(ended) = reap::wait_any()? else { return Ok(false) };
        let mut table = self.table();
        reap::reap(ended.pid)?;
        match table.watched.remove(&ended.pid) {
            Some(on_exit) => on_exit(ended.exit),
            None if table.adopters > 0 => drop(table.unclaimed.insert(ended.pid, ended.exit)),
            None => {}
        }
        Ok(true)
    }

    fn reap_for_ever(&self) {
        loop {
            if self.reap_one().unwrap_or(false) {
                continue;
            }
            let table = self.table();
            drop(self.shared.started.wait_timeout(table, IDLE));
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.shared.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Adoption {
    /// The end of the process, whether it has come or not.
    pub fn adopt(self, pid: i32) -> Receiver<Exit> {
        let (tell, told) = mpsc::channel();
        let mut table = self.reaper.table();
        match table.unclaimed.remove(&pid) {
            Some(exit) => to(tell)(exit),
            None => drop(table.watched.insert(pid, Box::new(to(tell)))),
        }
        told
    }
}

/// Passes an end on; one that nobody waits for any more is no loss.
fn to(tell: Sender<Exit>) -> impl FnOnce(Exit) + Send + 'static {
    move |exit| {
        let _ = tell.send(exit);
    }
}

impl Drop for Adoption {
    fn drop(&mut self) {
        let mut table = self.reaper.table();
        table.adopters -= 1;
        if table.adopters == 0 {
            table.unclaimed.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // One test only: the reaper takes every child of the process, another test's too.
    #[test]
    fn every_end_goes_to_whom_it_concerns() {
        let reaper = Reaper::start().unwrap();
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        assert_eq!(reaper.run(&mut shell("exit 3")).unwrap(), Exit::Code(3));
        assert_eq!(reaper.run(&mut shell("kill -9 $$")).unwrap(), Exit::Signal(9));
        assert!(reaper.run(&mut Command::new("/nonexistent")).is_err());

        let adoption = reaper.adoption();
        let mut unknown = shell("exit 4").spawn().unwrap();
        // When this has ended, the one before it may or may not have been seen: both ways have to work.
        assert_eq!(reaper.run(&mut shell("exit 0")).unwrap(), Exit::Code(0));
        let told = adoption.adopt(i32::try_from(unknown.id()).unwrap());
        assert_eq!(told.recv().unwrap(), Exit::Code(4));
        assert!(unknown.wait().is_err(), "reaped twice");
        assert!(reaper.table().watched.is_empty() && reaper.table().unclaimed.is_empty());
    }
}
