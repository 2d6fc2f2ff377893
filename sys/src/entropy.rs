//! Whether the kernel's random numbers can be relied on yet: getrandom(2). What to do meanwhile is the caller's affair.

use std::io;

use nix::errno::Errno;

/// Whether they can.
pub fn is_ready() -> io::Result<bool> {
    match get(libc::GRND_NONBLOCK) {
        Ok(()) => Ok(true),
        Err(Errno::EAGAIN) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Waits until they can, for ever if need be; the kernel gathers what is missing while someone waits.
pub fn wait() -> io::Result<()> {
    loop {
        match get(0) {
            Ok(()) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn get(flags: libc::c_uint) -> Result<(), Errno> {
    let mut byte = 0_u8;
    // SAFETY: getrandom(2) writes at most the one byte that is ours.
    Errno::result(unsafe { libc::getrandom((&raw mut byte).cast(), 1, flags) }).map(drop)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_machine_that_has_run_for_a_while_is_ready() {
        super::wait().unwrap();
        assert!(super::is_ready().unwrap());
    }
}
