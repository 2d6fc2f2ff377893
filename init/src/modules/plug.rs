//! From devices to modules: all that are there (cold), and every one that comes (hot). Drivers make new devices
//! appear, so the cold part looks again until a look finds nothing new.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use sys::module::ModuleError;
use sys::uevent::{Heard, Socket};

use super::Loader;
use crate::console::Console;
use crate::devices::Watch;
use crate::one_line;

/// Loading is the kernel's work in the caller's thread: unpacking, and waiting for hardware that answers slowly. So
/// also a machine with one processor has something to do for all of them.
const THREADS: usize = 4;
/// What processors can do is announced like devices. It makes ciphers and sums faster and nothing possible, and the
/// kernel tests each of them, so it has time until the services are up.
const LATER: &str = "cpu:";
/// More kinds of devices than any machine has.
const MOST_SEEN: usize = 1 << 16;
/// A driver that makes devices for ever must not keep the boot.
const LOOKS: usize = 8;

/// What a cold plug has come to.
pub struct Plugged {
    /// Distinct modaliases that were seen.
    pub seen: HashSet<String>,
    /// Modules that would not load, told once each.
    pub failures: Vec<ModuleError>,
    /// Modaliases that are left for later.
    pub later: Vec<String>,
}

/// Loads the drivers of all devices below `devices`.
pub fn cold_plug(loader: &Loader, devices: &Path) -> Plugged {
    let mut seen = HashSet::new();
    let mut failures = Vec::new();
    let mut later = Vec::new();
    for _ in 0..LOOKS {
        let mut found = Vec::new();
        collect(devices, &mut found);
        let new: Vec<String> = found.into_iter().filter(|modalias| seen.insert(modalias.clone())).collect();
        if new.is_empty() {
            break;
        }
        let (postponed, now): (Vec<_>, Vec<_>) = new.into_iter().partition(|modalias| modalias.starts_with(LATER));
        later.extend(postponed);
        failures.extend(load_all(loader, &now));
    }
    failures.retain(|failure| !failure.is_no_device());
    Plugged { seen, failures, later }
}

fn load_all(loader: &Loader, modaliases: &[String]) -> Vec<ModuleError> {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..THREADS.min(modaliases.len()) {
            scope.spawn(|| {
                while let Some(modalias) = modaliases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let failed = loader.load_for_device(modalias);
                    failures.lock().unwrap_or_else(PoisonError::into_inner).extend(failed);
                }
            });
        }
    });
    failures.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Every modalias below a directory. Devices may go while we look, so what cannot be read is left out.
fn collect(directory: &Path, found: &mut Vec<String>) {
    let Ok(entries) = directory.read_dir() else { return };
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(&entry.path(), found),
            Ok(kind) if kind.is_file() && entry.file_name() == "modalias" => {
                if let Ok(text) = std::fs::read_to_string(entry.path()) {
                    found.extend(Some(text.trim().to_owned()).filter(|text| !text.is_empty()));
                }
            }
            _ => {}
        }
    }
}

/// Loads the drivers of devices as they come, those since the socket was opened included: open it before the cold
/// plug, so that none is missed. What that has `seen` needs no second look: modules stay.
pub fn hot_plug(
    mut socket: Socket,
    loader: Arc<Loader>,
    mut seen: HashSet<String>,
    console: Console,
    watch: Watch,
) -> io::Result<()> {
    thread::Builder::new().name("hot plug".to_owned()).spawn(move || {
        loop {
            let failures = match socket.hear() {
                Ok(Heard::Event(event)) => {
                    if event.path.contains("/tty/") {
                        console.open();
                    }
                    if event.modalias.is_some() {
                        watch.changed();
                    }
                    match event.modalias {
                        Some(modalias) if event.action == "add" && is_new(&mut seen, &modalias) => {
                            loader.load_for_device(&modalias)
                        }
                        _ => continue,
                    }
                }
                Ok(Heard::Overflow) => cold_plug(&loader, Path::new("/sys/devices")).failures,
                Err(error) => {
                    console.say(&format!("warning: devices that come from now on get no driver: {error}"));
                    return;
                }
            };
            for failure in failures.iter().filter(|failure| !failure.is_no_device()) {
                console.say(&format!("warning: {}", one_line(failure)));
            }
        }
    })?;
    Ok(())
}

/// A device that comes under ever new names must not fill the memory.
fn is_new(seen: &mut HashSet<String>, modalias: &str) -> bool {
    if seen.len() >= MOST_SEEN {
        seen.clear();
    }
    seen.insert(modalias.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modaliases_are_found_at_any_depth_and_links_are_not_followed() {
        let top = tempfile::tempdir().unwrap();
        let device = top.path().join("pci0000:00/0000:00:03.0/virtio0");
        std::fs::create_dir_all(&device).unwrap();
        std::fs::write(device.join("modalias"), "virtio:d1v1\n").unwrap();
        std::fs::write(device.parent().unwrap().join("modalias"), "pci:v1\n").unwrap();
        std::os::unix::fs::symlink(top.path(), device.join("subsystem")).unwrap();
        let mut found = Vec::new();
        collect(top.path(), &mut found);
        found.sort();
        assert_eq!(found, ["pci:v1", "virtio:d1v1"]);
    }
}
