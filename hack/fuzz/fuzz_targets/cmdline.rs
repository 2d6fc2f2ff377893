//! Any text is a command line and a site file: no panic, what was parsed is rendered back, and what is told about a
//! line is the same whatever its secrets are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spec::cmdline::{Cmdline, KEYS, Origin, site};

fuzz_target!(|text: &str| {
    let mut line = Cmdline::parse(text);
    assert!(Cmdline::parse(&line.render()) == line);
    let told = (line.problems(), line.describe());
    for key in KEYS.iter().filter(|key| key.secret) {
        let Some(secret) = line.get(key) else { continue };
        // Its first character stays, because a quote there is a problem of its own.
        let first: String = secret.chars().take(1).collect();
        let (field, another) = (format!("{}={secret}", key.name), format!("{}={first}another", key.name));
        let fields = text.split([' ', '\t', '\n', '\r']).map(|one| if one == field { &another } else { one });
        let other = Cmdline::parse(&fields.collect::<Vec<_>>().join(" "));
        assert!((other.problems(), other.describe()) == told, "{} is shown", key.name);
    }
    let _ = (line.boot_mac(), line.unknown());
    match site::parse(text, text.len() % 2 == 0) {
        Err(mistakes) => assert!(!mistakes.is_empty()),
        Ok(entries) => {
            let again = site::render(entries.iter().map(|(key, value)| (*key, value.as_str())));
            let read = site::parse(&again, false).expect("a rendered file");
            let pair = |(key, value): &(&'static spec::cmdline::Key, String)| (key.name, value.clone());
            assert!(read.iter().map(pair).eq(entries.iter().map(pair)));
            for (key, value) in &entries {
                line.add(Origin::Site, key, value);
            }
            let _ = line.problems();
        }
    }
});
