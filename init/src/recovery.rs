//! When the boot has failed: say why once, count down where people can see it, start the machine again.
//! Never ends, never panics, needs nothing that the boot may not have come to.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sys::power::{self, End};

use crate::cmdline;
use crate::console::Console;

/// Only a debug flavour has one (linuxkit/debug.yaml).
const SHELL: &str = "/bin/sh";

/// Panics of any thread are told on the console; whether the boot has failed with one is the caller's affair.
pub fn report_panics(console: &Console) {
    let console = console.clone();
    std::panic::set_hook(Box::new(move |info| console.say(&format!("panic: {info}").replace('\n', " "))));
}

/// Shows the failure, then starts the machine again after `ironhook.panic_seconds`.
pub fn last_resort(console: &Console, failure: &str) -> ! {
    console.say(&format!("FAILED: {failure}"));
    if cmdline::rescue() {
        rescue(console, Path::new(SHELL));
    }
    match cmdline::panic_seconds() {
        0 => {
            console.say("waiting for a person, as ironhook.panic_seconds=0 says");
            sleep_for_ever();
        }
        seconds => countdown(console, seconds),
    }
    power::sync();
    let error = power::end(End::Reboot);
    console.say(&format!("cannot reboot: {error}; switch the machine off and on"));
    sleep_for_ever()
}

/// A shell on the kernel's console until the person leaves it.
fn rescue(console: &Console, shell: &Path) {
    if !shell.exists() {
        return console.say("ironhook.rescue: this image has no shell; build it with linuxkit/debug.yaml added");
    }
    console.say("ironhook.rescue: a shell on /dev/console; leaving it starts the machine again");
    let terminal = || std::fs::OpenOptions::new().read(true).write(true).open("/dev/console");
    let run = || {
        let mut command = Command::new(shell);
        command.env_clear().envs([
            ("PATH", "/usr/sbin:/usr/bin"),
            ("HOME", "/root"),
            ("TERM", "vt102"),
            ("PS1", "rescue# "),
        ]);
        command.stdin(terminal()?).stdout(terminal()?).stderr(terminal()?);
        // Reaped here or by the reaper, if it is at work: the shell has ended either way.
        command.spawn().map(|mut shell| drop(shell.wait()))
    };
    if let Err(error) = run() {
        console.say(&format!("ironhook.rescue: run {}: {error}", shell.display()));
    }
}

fn countdown(console: &Console, seconds: u32) {
    for left in (1..=seconds).rev() {
        if left == seconds || left % 10 == 0 || left <= 5 {
            console.say(&format!("starting again in {left} s (ironhook.panic_seconds=0 on the command line waits)"));
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn sleep_for_ever() -> ! {
    loop {
        std::thread::park();
    }
}
