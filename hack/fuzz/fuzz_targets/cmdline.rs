//! Any text is a command line and a site file: no panic, no secret shown, and what was parsed is rendered back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spec::cmdline::{Cmdline, KEYS, Origin, site};

fuzz_target!(|text: &str| {
    let mut line = Cmdline::parse(text);
    assert!(Cmdline::parse(&line.render()) == line);
    let told = format!("{:?} {:?}", line.problems(), line.describe());
    for key in KEYS.iter().filter(|key| key.secret) {
        // A secret of a few letters may stand in other words; a long one may not.
        let hidden = |secret: &str| secret.len() < 12 || text.matches(secret).count() > 1 || !told.contains(secret);
        assert!(line.get(key).is_none_or(hidden), "{} is shown", key.name);
    }
    let _ = (line.boot_mac(), line.unknown());
    match site::parse(text, text.len() % 2 == 0) {
        Err(mistakes) => assert!(!mistakes.is_empty()),
        Ok(entries) => {
            let again = site::render(entries.iter().map(|(key, value)| (*key, value.as_str())));
            let read = site::parse(&again, false).expect("a rendered file");
            assert!(read.iter().map(|(key, value)| (key.name, value)).eq(entries.iter().map(|(key, value)| (key.name, value))));
            for (key, value) in &entries {
                line.add(Origin::Site, key, value);
            }
            let _ = line.problems();
        }
    }
});
