//! See checks/bmap.rs.
#![no_main]

#[path = "../checks/bmap.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check::check(bytes));
