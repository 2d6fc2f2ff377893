//! One child and the signals of its parent: the child ends with the parent, and the parent waits for both at once.
//! Which signal means what is decided elsewhere.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::unistd::{Pid, getpid, getppid};

/// The signals that a parent waits for, blocked.
#[derive(Debug)]
pub struct Signals(SigSet);

/// What a parent is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    /// It is to end: SIGTERM or SIGINT.
    End,
    /// A child has changed its state: SIGCHLD.
    Child,
}

impl Signals {
    /// Blocks the signals in this thread and in those that it starts: call it before the first.
    pub fn block() -> io::Result<Self> {
        let set: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD].into_iter().collect();
        set.thread_block()?;
        Ok(Self(set))
    }

    /// Waits for the next one.
    pub fn wait(&self) -> io::Result<Told> {
        loop {
            match self.0.wait() {
                Ok(Signal::SIGCHLD) => return Ok(Told::Child),
                Ok(_) => return Ok(Told::End),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// Starts a program with no signal blocked, that is sent SIGTERM when the calling thread ends, however that happens.
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    let parent = getpid();
    let prepare = move || {
        SigSet::empty().thread_set_mask()?;
        set_pdeathsig(Signal::SIGTERM)?;
        // The parent may have ended before the line above took hold.
        if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
    };
    // SAFETY: between fork(2) and execve(2) only system calls that are async-signal-safe are made (signal-safety(7)).
    unsafe { command.pre_exec(prepare) };
    command.spawn()
}

/// Has SIGTERM and SIGINT end the process, also as the first process of a PID namespace, where they are ignored
/// otherwise. A program run in place of this one starts without it.
pub fn end_on_signals() -> io::Result<()> {
    extern "C" fn end(signal: libc::c_int) {
        // SAFETY: _exit(2) is one of the calls of signal-safety(7).
        unsafe { libc::_exit(128 + signal) }
    }
    let action = SigAction::new(SigHandler::Handler(end), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        // SAFETY: the handler makes no call but the one above, and touches no memory.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// Asks a child to end. One that has ended is fine.
pub fn terminate(child: &Child) -> io::Result<()> {
    let pid = i32::try_from(child.id()).map_err(|_| io::Error::from(Errno::ESRCH))?;
    match kill(Pid::from_raw(pid), Signal::SIGTERM) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::ExitStatusExt;
    use std::process::Stdio;

    use super::*;

    #[test]
    fn a_child_starts_with_no_signal_blocked_and_ends_when_asked() {
        let _signals = Signals::block().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "grep SigBlk /proc/self/status; exec sleep 600"]).stdout(Stdio::piped());
        let mut child = spawn(&mut command).unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "SigBlk:\t0000000000000000\n");
        terminate(&child).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
    }
}
