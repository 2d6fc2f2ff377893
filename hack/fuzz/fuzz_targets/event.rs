//! Any line of an action: no panic, and an event that was read fits a line again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spec::Event;
use spec::event::MAX_LINE;

fuzz_target!(|line: &str| {
    if let Ok(event) = Event::parse(line) {
        let again = event.to_line();
        assert!(again.len() <= MAX_LINE);
        assert!(Event::parse(&again).is_ok());
    }
});
