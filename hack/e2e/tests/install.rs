//! From an empty disk to the installed OS, over PXE with BIOS: what `make demo` shows, asserted.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{BOOT, INSTALL, disk, hardware, lab, random, state};
use e2e::lab::HTTP;
use e2e::manifests::{announcement, installation, workflow};
use e2e::vm::Firmware;

#[test]
fn an_empty_disk_becomes_an_installed_os_that_knows_its_name_and_its_user_data() {
    let mut lab = lab("install");
    let marker = random();
    let machine = hardware(11, &marker);
    let steps = installation(&format!("http://{HTTP}/files/target.raw.zst"), &lab.target().sha256);
    lab.apply("hardware", &machine.yaml()).unwrap();
    lab.apply("workflow", &workflow("install", &machine, &steps)).unwrap();

    let vm = lab.boot("install", machine.mac, Firmware::SeaBios, &[disk(&lab, "disk.raw")]).unwrap();
    vm.wait_for("ironhook: agent ready", BOOT).unwrap_or_else(|e| panic!("{e}"));
    let workflow = lab.finished("install", INSTALL).unwrap();
    assert_eq!(state(&workflow), "SUCCESS", "{workflow:#}");

    let spoken = announcement(&machine.hostname, &marker);
    vm.wait_for(&spoken, BOOT).unwrap_or_else(|e| panic!("{e}"));
}
