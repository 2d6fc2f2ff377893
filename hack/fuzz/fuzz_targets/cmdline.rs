//! Any text is a command line: no panic, no secret shown, and what is known can be rendered back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spec::cmdline::{Cmdline, REGISTRY_PASSWORD};

fuzz_target!(|text: &str| {
    let line = Cmdline::parse(text);
    let told = format!("{:?} {:?}", line.problems(), line.describe());
    if let Some(secret) = line.get(&REGISTRY_PASSWORD) {
        // A secret of a few letters may stand in other words; a long one may not.
        let elsewhere = text.matches(secret).count() > 1;
        assert!(secret.len() < 12 || elsewhere || !told.contains(secret));
    }
    let _ = (line.boot_mac(), line.unknown());
});
