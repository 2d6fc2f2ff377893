//! Any bytes as a tar archive: names stay below the target, maps of holes fit, nothing panics.
#![no_main]

#[path = "../../../actions/tests/common/hostile_tar.rs"]
mod hostile_tar;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| hostile_tar::check(bytes));
