//! The shortest boot there can be, for `make bench-boot`: a process 1 that says how long the kernel took to start it,
//! and switches the machine off. It runs in place of ours, from the same bytes.

use std::path::PathBuf;

use sys::mounts::{Flags, Mount};
use sys::power::{self, End};

fn main() {
    let ready = sys::clock::boot_ms();
    let proc = Mount {
        source: PathBuf::from("proc"),
        target: PathBuf::from("/proc"),
        kind: "proc".to_owned(),
        flags: Flags::empty(),
        data: String::new(),
    };
    // The archive need not have the directory; without it only the idle time is missing.
    let _ = std::fs::create_dir_all("/proc");
    let uptime = proc.apply().ok().and_then(|()| std::fs::read_to_string("/proc/uptime").ok()).unwrap_or_default();
    println!("bare: {ready} ms, uptime {}", uptime.trim());
    let error = power::end(End::PowerOff);
    println!("bare: cannot switch off: {error}");
    loop {
        std::thread::park();
    }
}
