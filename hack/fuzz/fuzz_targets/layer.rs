//! Any bytes as the layers of an image: see image/tests/common/hostile.rs.
#![no_main]

#[path = "../../../image/tests/common/hostile.rs"]
#[allow(dead_code, reason = "the other target's half")]
mod hostile;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| hostile::layer(bytes));
