//! What a process needs to look after a container: mounts of its own, the orphans of its children, and not being the
//! child of whoever started it. Must not decide what is run.

use std::io;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::unistd::setsid;

/// From now on what this process mounts is seen by it and its children only; what the machine mounts, also by it.
pub fn own_mounts() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    Ok(mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?)
}

/// Orphans among its descendants become its children, to be waited for.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(prctl::set_child_subreaper(true)?)
}

/// In a session of its own: no signal of a terminal or of its parent's process group reaches it.
pub fn own_session() -> io::Result<()> {
    Ok(setsid().map(|_| ())?)
}
