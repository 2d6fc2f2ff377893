//! Any datagram on the TFTP port: no panic, terms within their bounds, no path that leaves its directory.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| netboot::tftp::probe(bytes));
