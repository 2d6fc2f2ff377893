//! Virtual media: the ISO that the server makes for one machine, in its CD drive, booted by BIOS and by a UEFI that runs
//! only what is signed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::process::Command;

use common::{BOOT, hardware, lab, random};
use e2e::command::run;
use e2e::lab::HTTP;
use e2e::manifests::{Step, workflow};
use e2e::network::ADDRESS;
use e2e::vm::Firmware;

fn boots(name: &str, last: u8, firmware: Firmware, signs: &[&str]) {
    let lab = lab(&format!("media-{name}"));
    let machine = hardware(last, &random());
    let steps = [Step::new("disk-wipe", [("DEST_DISK", "/dev/vda".into())])];
    lab.apply("hardware", &machine.yaml()).unwrap();
    lab.apply("workflow", &workflow("media", &machine, &steps)).unwrap();
    // As a BMC does it that keeps what it was given.
    let media = lab.dir().join("media.iso");
    let url = format!("http://{HTTP}/iso/{}/ironhook.iso", machine.mac);
    run(Command::new("curl").args(["-sSf", "-o"]).arg(&media).arg(&url)).unwrap();
    let vm = lab.boot_media(name, machine.mac, firmware, &media).unwrap();
    for sign in signs {
        vm.wait_for(sign, BOOT).unwrap_or_else(|e| panic!("{e}"));
    }
    let ready = format!("ironhook: agent ready (worker {}, server {ADDRESS}:42113)", machine.mac);
    vm.wait_for(&ready, BOOT).unwrap_or_else(|e| panic!("{e}"));
    let log = std::fs::read_to_string(lab.server_log()).unwrap();
    assert!(!log.contains("HTTP: boot script") && !log.contains("TFTP: sent"), "it booted from the network: {log}");
}

#[test]
#[ignore = "make test-full: boots a machine"]
fn bios_boots_its_iso_to_the_agent() {
    boots("bios", 41, Firmware::SeaBios, &["ISOLINUX"]);
}

#[test]
#[ignore = "make test-full: boots a machine with SMM"]
fn uefi_boots_its_iso_with_secure_boot_to_the_agent() {
    boots("uefi", 42, Firmware::OvmfSecure, &["Secure boot enabled"]);
}
