//! Terminals to write to and never to own: no controlling terminal, no waiting for a line that takes nothing.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{ControlFlags, OutputFlags, SetArg, tcgetattr, tcsetattr};

/// How long a terminal may refuse to take anything before the rest of a text is given up.
const PATIENCE_MS: u16 = 500;

/// A terminal to print on.
#[derive(Debug)]
pub struct Terminal {
    file: File,
    /// It let the last text wait in vain: the next one is not waited for until it takes something again.
    stuck: bool,
}

impl Terminal {
    /// Opens it for writing; it does not become the caller's controlling terminal.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_CLOEXEC;
        Ok(Self { file: OpenOptions::new().write(true).custom_flags(flags).open(path)?, stuck: false })
    }

    /// Sets a serial line that nobody has set up: speed, eight bits, no flow control (termios(3)).
    pub fn set_line(&self, baud: u32) -> io::Result<()> {
        let mut line = tcgetattr(&self.file)?;
        let cleared = ControlFlags::CRTSCTS | ControlFlags::PARENB | ControlFlags::CSTOPB | ControlFlags::CBAUD;
        line.control_flags &= !cleared;
        line.control_flags |= ControlFlags::CS8 | ControlFlags::CLOCAL | speed(baud)?;
        line.output_flags |= OutputFlags::OPOST | OutputFlags::ONLCR;
        Ok(tcsetattr(&self.file, SetArg::TCSANOW, &line)?)
    }

    /// Writes the text as far as the terminal takes it; a line held by flow control must not hold the caller.
    pub fn print(&mut self, text: &str) -> io::Result<()> {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    rest = &rest[count..];
                    self.stuck = false;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.stuck => {
                    self.stuck = !self.wait()?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether it takes something in time.
    fn wait(&self) -> io::Result<bool> {
        match poll(&mut [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)], PollTimeout::from(PATIENCE_MS)) {
            Ok(0) => Ok(false),
            Ok(_) | Err(Errno::EINTR) => Ok(true),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Among the control flags, as the kernel takes it: cfsetospeed(3) does not link statically.
fn speed(baud: u32) -> io::Result<ControlFlags> {
    let bits = match baud {
        9600 => libc::B9600,
        19_200 => libc::B19200,
        38_400 => libc::B38400,
        57_600 => libc::B57600,
        115_200 => libc::B115200,
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    Ok(ControlFlags::from_bits_retain(bits))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_terminal_that_takes_nothing_lets_wait_once_and_never_again() {
        let pair = nix::pty::openpty(None, None).unwrap();
        let path = nix::unistd::ttyname(&pair.slave).unwrap();
        let mut terminal = Terminal::open(&path).unwrap();
        terminal.set_line(115_200).unwrap();
        let text = "x".repeat(1 << 20);
        assert!(terminal.print(&text).is_err(), "nobody reads the other end");
        let start = Instant::now();
        for _ in 0..20 {
            assert!(terminal.print(&text).is_err());
        }
        assert!(start.elapsed() < Duration::from_millis(u64::from(PATIENCE_MS) * 10), "{:?}", start.elapsed());
    }
}
