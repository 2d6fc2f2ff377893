//! Any text as LinuxKit YAML and as an image's label: see image/tests/common/hostile.rs.
#![no_main]

#[path = "../../../image/tests/common/hostile.rs"]
#[allow(dead_code, reason = "the other target's half")]
mod hostile;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| hostile::linuxkit(text));
