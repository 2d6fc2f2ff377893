//! When the boot has failed: say why once, count down where people can see it, start the machine again.
//! Never ends, never panics, needs nothing that the boot may not have come to.

use std::time::Duration;

use sys::power::{self, End};

use crate::cmdline;
use crate::console::Console;

/// Panics of any thread are told on the console; whether the boot has failed with one is the caller's affair.
pub fn report_panics(console: &Console) {
    let console = console.clone();
    std::panic::set_hook(Box::new(move |info| console.say(&format!("panic: {info}").replace('\n', " "))));
}

/// Shows the failure, then starts the machine again after `ironhook.panic_seconds`.
pub fn last_resort(console: &Console, failure: &str) -> ! {
    console.say(&format!("FAILED: {failure}"));
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
