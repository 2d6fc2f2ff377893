//! Processes as PID 1 sees them: any child's end, told before it is reaped, and signals. Whose child it was is
//! the caller's affair.

use std::fmt;
use std::io;

use nix::errno::Errno;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// With a status.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

impl Exit {
    /// Whether it ended well.
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }

    /// As a shell tells it: 128 and the signal's number for a signal.
    pub fn shell_status(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(number) => 128 + number,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal(number) => match Signal::try_from(*number) {
                Ok(signal) => write!(f, "killed by {signal}"),
                Err(_) => write!(f, "killed by signal {number}"),
            },
        }
    }
}

/// A child that has ended and is not reaped, so its number is not in use again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended {
    /// Its number.
    pub pid: i32,
    /// How it ended.
    pub exit: Exit,
}

/// Waits until some child has ended and leaves it unreaped; none without children.
pub fn wait_any() -> io::Result<Option<Ended>> {
    loop {
        // SAFETY: waitid(2) fills the structure we own; all zero is a valid value of it.
        let (result, info) = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let result = libc::waitid(libc::P_ALL, 0, &mut info, libc::WEXITED | libc::WNOWAIT);
            (Errno::result(result), info)
        };
        match result {
            Ok(_) => {
                // SAFETY: waitid(2): after success for an ended child these fields of the union are set.
                let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
                let exit = if info.si_code == libc::CLD_EXITED { Exit::Code(status) } else { Exit::Signal(status) };
                return Ok(Some(Ended { pid, exit }));
            }
            Err(Errno::ECHILD) => return Ok(None),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Reaps a child that [`wait_any`] has told of.
pub fn reap(pid: i32) -> io::Result<()> {
    loop {
        let mut status = 0;
        // SAFETY: waitpid(2) writes one int, which we own.
        match Errno::result(unsafe { libc::waitpid(pid, &mut status, 0) }) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Asks one process to end (SIGTERM); one that is gone is fine.
pub fn terminate(pid: i32) -> io::Result<()> {
    send(Pid::from_raw(pid), Signal::SIGTERM)
}

/// Ends one process (SIGKILL); one that is gone is fine.
pub fn kill(pid: i32) -> io::Result<()> {
    send(Pid::from_raw(pid), Signal::SIGKILL)
}

/// As PID 1: asks every other process to end.
pub fn terminate_all() -> io::Result<()> {
    send(Pid::from_raw(-1), Signal::SIGTERM)
}

/// As PID 1: ends every other process.
pub fn kill_all() -> io::Result<()> {
    send(Pid::from_raw(-1), Signal::SIGKILL)
}

fn send(pid: Pid, signal: Signal) -> io::Result<()> {
    match signal::kill(pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_said_as_people_say_them() {
        assert_eq!(Exit::Code(3).to_string(), "exit status 3");
        assert_eq!(Exit::Signal(9).to_string(), "killed by SIGKILL");
        assert_eq!(Exit::Signal(40).to_string(), "killed by signal 40");
        assert_eq!(Exit::Signal(15).shell_status(), 143);
    }
}
