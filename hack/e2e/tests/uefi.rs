//! The firmware's own PXE client, TFTP and snponly.efi lead to the same installation environment, and that listens on
//! no port.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{BOOT, disk, hardware, lab, random};
use e2e::manifests::{Step, workflow};
use e2e::network::ADDRESS;
use e2e::scan;
use e2e::vm::Firmware;

#[test]
fn ovmf_boots_over_pxe_to_the_agent() {
    let lab = lab("uefi");
    let machine = hardware(12, &random());
    let steps = [Step::new("disk-wipe", [("DEST_DISK", "/dev/vda".into())])];
    lab.apply("hardware", &machine.yaml()).unwrap();
    lab.apply("workflow", &workflow("uefi", &machine, &steps)).unwrap();

    let vm = lab.boot("uefi", machine.mac, Firmware::Ovmf, &[disk(&lab, "disk.raw")]).unwrap();
    // All of it: a line that is still being printed already counts.
    let ready = format!("ironhook: agent ready (worker {}, server {ADDRESS}:42113)", machine.mac);
    vm.wait_for(&ready, BOOT).unwrap_or_else(|e| panic!("{e}"));

    // Nobody can come in: the server's ports show that the scan finds what there is.
    let ours = scan::tcp(ADDRESS.into(), 7000..=7100);
    assert_eq!(ours.open, [7080], "{ours:?}");
    let theirs = scan::tcp(machine.address.into(), 1..=u16::MAX);
    assert_eq!(theirs, scan::Found::default(), "the installation environment listens");
}
