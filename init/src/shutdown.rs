//! The orderly end: onshutdown in order, services asked then killed, everything written out, then reboot(2).
//! No step that fails keeps the next one from being tried, and none that hangs keeps the machine: it has to go down.

use std::path::Path;
use std::time::{Duration, Instant};

use spec::handover::Request;
use sys::{mounts, power, reap};

use crate::bundle::{self, Kind};
use crate::console::Console;
use crate::onboot;
use crate::one_line;
use crate::reaper::Reaper;
use crate::service::{self, Service};
use crate::watchdog::{self, Watchdog};

/// What no service owns gets this long after SIGTERM, and again after SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

/// Takes the machine down. Returns only when the kernel refuses, with its reason.
pub fn run(reaper: &Reaper, console: &Console, services: Vec<Service>, request: &Request) -> std::io::Error {
    let mode = request.mode;
    let watchdog = Watchdog::start(console, mode);
    console.say(&format!("{mode}: {}", request.reason));
    run_onshutdown(reaper, console, &watchdog);
    watchdog.step("stopping the services");
    service::stop_all(services);
    watchdog.step("ending the processes");
    end_processes();
    watchdog.step("sync");
    power::sync();
    for target in mounts::on_block_devices(&std::fs::read_to_string("/proc/self/mounts").unwrap_or_default()) {
        watchdog.step(format!("unmount of {}", target.display()));
        unmount(console, &target);
    }
    watchdog.step("the last sync");
    power::sync();
    watchdog.step(mode.to_string());
    console.say(&format!("{mode} now"));
    power::end(watchdog::how(mode))
}

fn run_onshutdown(reaper: &Reaper, console: &Console, watchdog: &Watchdog) {
    let steps = bundle::all(Kind::Onshutdown).unwrap_or_else(|error| {
        console.say(&format!("warning: onshutdown left out: {}", one_line(&error)));
        Vec::new()
    });
    for step in steps {
        watchdog.step(format!("onshutdown {}", step.name));
        if let Err(error) = onboot::run_step(reaper, console, &step, &format!("onshutdown.{}", step.name)) {
            console.say(&format!("warning: {}", one_line(&error)));
        }
    }
}

/// What the services have left behind, containers of the engine among it. A killed process may still be writing
/// until it is gone, and keeps its file system busy.
fn end_processes() {
    let _ = reap::terminate_all();
    wait_until_gone();
    let _ = reap::kill_all();
    wait_until_gone();
}

/// One that hangs in the kernel is not waited for longer.
fn wait_until_gone() {
    let end = Instant::now() + GRACE;
    while Instant::now() < end && others() {
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Whether there is a process of user space but us: kernel threads have no command line.
fn others() -> bool {
    let Ok(entries) = Path::new("/proc").read_dir() else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let number = name.to_string_lossy().parse::<u32>().unwrap_or(1);
        number != 1 && std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| !line.is_empty())
    })
}

/// A busy file system is at least made read-only, which writes it out.
fn unmount(console: &Console, target: &Path) {
    let result = mounts::unmount(target).or_else(|_| mounts::remount_read_only(target));
    if let Err(error) = result {
        console.say(&format!("warning: {}", one_line(&error)));
    }
}
