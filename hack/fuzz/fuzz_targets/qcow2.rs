//! See checks/qcow2.rs.
#![no_main]

#[path = "../checks/qcow2.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check::check(bytes));
