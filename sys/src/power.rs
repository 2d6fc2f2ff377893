//! The last calls of a machine's life: write everything out, then reboot(2).

use std::io;
use std::path::Path;

use nix::sys::reboot::{RebootMode, reboot};

/// How the machine goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Through the firmware.
    Reboot,
    /// Off.
    PowerOff,
    /// Into the kernel that was loaded before.
    Kexec,
}

/// Writes every dirty page of every file system out and waits for it: sync(2).
pub fn sync() {
    nix::unistd::sync();
}

/// Ends the machine at once, without writing anything out. Returns only when the kernel refuses.
pub fn end(how: End) -> io::Error {
    let mode = match how {
        End::Reboot => RebootMode::RB_AUTOBOOT,
        End::PowerOff => RebootMode::RB_POWER_OFF,
        End::Kexec => RebootMode::RB_KEXEC,
    };
    match reboot(mode) {
        Ok(never) => match never {},
        Err(errno) => errno.into(),
    }
}

/// Whether a kernel is loaded to go on into.
pub fn kexec_loaded() -> bool {
    std::fs::read_to_string(Path::new("/sys/kernel/kexec_loaded")).is_ok_and(|text| text.trim() == "1")
}
