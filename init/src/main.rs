//! `ironhook-init`: as process 1 it boots the machine, called as `modprobe` it loads modules for the kernel.
//! The story is in `boot`; this file only tells the two apart and never lets process 1 end.

mod boot;
mod bundle;
mod cmdline;
mod console;
mod container;
mod devices;
mod entropy;
mod filesystems;
mod handover;
mod host;
mod later;
mod log;
mod modules;
mod onboot;
mod output;
mod reaper;
mod recovery;
mod root;
mod service;
mod shutdown;
mod stage;
mod timeline;
mod volumes;
mod watchdog;

use spec::error::one_line;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;

use console::Console;

const USAGE: &str = "ironhook-init is the first program of a machine: the kernel starts it as process 1.\n\
                     Under the name modprobe it loads modules: modprobe [-q] [-a] [--] NAME...";

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let name = arguments.next().unwrap_or_default();
    if Path::new(&name).file_name().is_some_and(|name| name == "modprobe") {
        return modules::modprobe::main(arguments);
    }
    if std::process::id() != 1 {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    let console = Console::default();
    recovery::report_panics(&console);
    let failure = match catch_unwind(AssertUnwindSafe(|| boot::run(&console))) {
        Ok(Ok(never)) => match never {},
        Ok(Err(error)) => one_line(&error),
        Err(_) => "init panicked; its last words are above".to_owned(),
    };
    recovery::last_resort(&console, &failure)
}
