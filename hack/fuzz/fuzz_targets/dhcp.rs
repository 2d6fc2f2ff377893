//! See checks/dhcp.rs.
#![no_main]

#[path = "../checks/dhcp.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check::check(bytes));
