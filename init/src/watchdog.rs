//! The bound of the shutdown: a step that does not end, on a disk that does not answer for instance, must not keep
//! the machine. It watches from a thread of its own and touches nothing until a step is overdue.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use spec::handover::Mode;
use sys::power::{self, End};

use crate::console::Console;

/// For one step. None is so long when all is well.
const PATIENCE: Duration = Duration::from_secs(60);
/// What earlier steps have written gets this long to reach the disks that still answer.
const LAST_SYNC: Duration = Duration::from_secs(10);

/// Ends the machine if a step takes too long. Dropping it ends the watching.
pub struct Watchdog {
    steps: Sender<String>,
}

impl Watchdog {
    /// Begins to watch; `mode` is how the machine ends if it comes to that.
    pub fn start(console: &Console, mode: Mode) -> Self {
        let (steps, told) = mpsc::channel();
        let on_hang = {
            let console = console.clone();
            move |step: &str| end(&console, mode, step)
        };
        let started = thread::Builder::new().name("watchdog".to_owned()).spawn(move || watch(&told, PATIENCE, on_hang));
        if let Err(error) = started {
            console.say(&format!("warning: shutdown: nothing watches over it: {error}"));
        }
        Self { steps }
    }

    /// The step before has ended and this one begins.
    pub fn step(&self, name: impl Into<String>) {
        // Without a watchdog the shutdown goes on as well as it can.
        let _ = self.steps.send(name.into());
    }
}

/// Calls `on_hang` with the step that has had all of `patience`; ends when nobody tells of steps any more.
fn watch(told: &Receiver<String>, patience: Duration, on_hang: impl FnOnce(&str)) {
    let mut current = "its beginning".to_owned();
    loop {
        match told.recv_timeout(patience) {
            Ok(step) => current = step,
            Err(RecvTimeoutError::Timeout) => return on_hang(&current),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn end(console: &Console, mode: Mode, step: &str) {
    console.say(&overdue(step));
    let (done, told) = mpsc::channel::<()>();
    // In a thread: on the disk that made the step hang this would hang as well.
    thread::spawn(move || {
        power::sync();
        drop(done);
    });
    let _ = told.recv_timeout(LAST_SYNC);
    let error = power::end(how(mode));
    console.say(&format!("the kernel refuses to {mode}: {error}; it is rebooted"));
    let error = power::end(End::Reboot);
    console.say(&format!("cannot reboot: {error}; switch the machine off and on"));
}

fn overdue(step: &str) -> String {
    format!("shutdown: {step} has not ended for {} s, going on without it", PATIENCE.as_secs())
}

/// What is asked for, in the kernel's terms.
pub fn how(mode: Mode) -> End {
    match mode {
        Mode::Reboot => End::Reboot,
        Mode::Kexec => End::Kexec,
        Mode::Poweroff => End::PowerOff,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_that_hangs_is_named_and_those_before_it_are_not() {
        let (steps, told) = mpsc::channel();
        for name in ["onshutdown cleanup", "unmount /mnt"] {
            steps.send(name.to_owned()).unwrap();
        }
        let mut hung = Vec::new();
        // The sender lives on, as in a shutdown that has not ended.
        watch(&told, Duration::from_millis(20), |step| hung.push(overdue(step)));
        assert_eq!(hung, ["shutdown: unmount /mnt has not ended for 60 s, going on without it"]);
        drop(steps);
    }

    #[test]
    fn a_shutdown_that_has_ended_is_not_watched() {
        let (steps, told) = mpsc::channel();
        steps.send("sync".to_owned()).unwrap();
        drop(steps);
        watch(&told, Duration::from_secs(600), |step| panic!("{step} was said to hang"));
    }
}
