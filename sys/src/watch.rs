//! Waiting for a file without looking for it over and over: inotify(7).

use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// Waits until `name` is there in a directory that is there. A file that is written elsewhere and renamed is whole.
pub fn wait_for(directory: &Path, name: &str) -> io::Result<()> {
    let path = directory.join(name);
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
    inotify.add_watch(directory, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO)?;
    // Looked for after the watch is set, so that none slips through between the two.
    while !path.exists() {
        match inotify.read_events() {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_file_ends_the_wait_when_it_comes_and_when_it_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let waiting = std::thread::spawn(move || super::wait_for(&path, "wanted"));
        std::fs::write(directory.path().join("other"), "").unwrap();
        std::fs::write(directory.path().join("new"), "").unwrap();
        std::fs::rename(directory.path().join("new"), directory.path().join("wanted")).unwrap();
        waiting.join().unwrap().unwrap();
        super::wait_for(directory.path(), "wanted").unwrap();
        assert!(super::wait_for(&directory.path().join("none"), "x").is_err());
    }
}
