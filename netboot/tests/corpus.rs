//! What the fuzz targets begin with, and a few thousand mutations of it, as plain tests: hostile datagrams on the DHCP and
//! TFTP ports do no harm.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

#[path = "../../hack/fuzz/checks/dhcp.rs"]
mod dhcp;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hack/fuzz/seeds").join(target);
    let all: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
    assert!(all.len() >= 5, "{target}: {} seeds", all.len());
    all
}

/// Bytes changed, a length that lies, an end cut off, another end.
fn mutated(target: &str) -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<Index>(), any::<u8>()), 0..8);
    (select(seeds(target)), changes, any::<Index>(), vec(any::<u8>(), 0..40)).prop_map(
        |(mut bytes, changes, cut, end)| {
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if end.len().is_multiple_of(2) {
                bytes.truncate(cut.index(bytes.len()) + 1);
            }
            bytes.extend(end);
            bytes
        },
    )
}

#[test]
fn seeds_do_no_harm() {
    seeds("dhcp").iter().for_each(|bytes| dhcp::check(bytes));
    seeds("tftp").iter().for_each(|bytes| netboot::tftp::probe(bytes));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn mutations_of_real_dhcp_messages_do_no_harm(bytes in mutated("dhcp")) {
        dhcp::check(&bytes);
    }

    #[test]
    fn mutations_of_tftp_requests_do_no_harm(bytes in mutated("tftp")) {
        netboot::tftp::probe(&bytes);
    }
}
