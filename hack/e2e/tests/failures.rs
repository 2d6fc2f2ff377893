//! One machine, three workflows: what goes wrong is told with its numbers and leaves no disk that boots;
//! a server that is killed in the middle loses nothing and lets nothing happen twice.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{BOOT, INSTALL, SOON, disk, hardware, lab, random, state};
use e2e::fault;
use e2e::lab::{HTTP, Lab};
use e2e::manifests::{Hardware, Step, workflow};
use e2e::network::ADDRESS;
use e2e::vm::{Firmware, Vm};
use e2e::witness::Witness;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Well into the image, well before its end.
const CUT: u64 = 20 << 20;

#[test]
fn failures_are_told_and_leave_nothing_that_boots_and_a_killed_server_loses_nothing() {
    let mut lab = lab("failures");
    lab.push("witness").unwrap();
    let machine = hardware(13, &random());
    let disks = [disk(&lab, "first.raw"), disk(&lab, "second.raw")];
    lab.apply("hardware", &machine.yaml()).unwrap();

    let vm = wrong_digest(&mut lab, &machine, &disks);
    cut_download(&mut lab, &machine);
    killed_server(&mut lab, &machine);
    drop(vm);
    nothing_boots(&lab, &disks);
}

fn wrong_digest(lab: &mut Lab, machine: &Hardware, disks: &[PathBuf]) -> Vm {
    let (actual, wanted) = (lab.target().sha256.clone(), random().repeat(2));
    let step = write("/dev/vda", &format!("http://{HTTP}/files/target.raw.zst"), &wanted);
    lab.apply("digest", &workflow("digest", machine, &[step])).unwrap();
    let vm = lab.boot("failures", machine.mac, Firmware::SeaBios, disks).unwrap();
    vm.wait_for("ironhook: agent ready", BOOT).unwrap_or_else(|e| panic!("{e}"));
    let reason = reason(lab, "digest", "digest_mismatch");
    assert!(reason.contains(&wanted) && reason.contains(&actual), "{reason}");
    vm
}

fn cut_download(lab: &mut Lab, machine: &Hardware) {
    let proxy = fault::cutting(ADDRESS, HTTP, CUT).unwrap();
    let length = std::fs::metadata(&lab.target().file).unwrap().len();
    let step = write("/dev/vdb", &format!("http://{proxy}/files/target.raw.zst"), &lab.target().sha256);
    lab.apply("cut", &workflow("cut", machine, &[step])).unwrap();
    let reason = reason(lab, "cut", "truncated");
    assert!(reason.contains(&CUT.to_string()) && reason.contains(&length.to_string()), "{reason}");
}

fn killed_server(lab: &mut Lab, machine: &Hardware) {
    let witness = Witness::start(ADDRESS).unwrap();
    let step = |name: &'static str| Step {
        name,
        image: "witness",
        environment: vec![("WITNESS_URL", witness.url()), ("WITNESS_LINE", format!("killed/{name}"))],
    };
    lab.apply("killed", &workflow("killed", machine, &[step("first"), step("second")])).unwrap();
    assert!(witness.wait_for(1, BOOT), "the first action never ran");
    lab.kill_server();
    // It ends while nobody is there to hear of it.
    witness.open();
    lab.start_server().unwrap();
    let workflow = lab.finished("killed", INSTALL).unwrap();
    assert_eq!(state(&workflow), "SUCCESS", "{workflow:#}");
    assert_eq!(witness.lines(), ["killed/first", "killed/second"]);
}

/// Each alone, because a BIOS tries only the first hard disk.
fn nothing_boots(lab: &Lab, disks: &[PathBuf]) {
    for (name, disk) in ["first-alone", "second-alone"].into_iter().zip(disks) {
        assert!(std::fs::metadata(disk).unwrap().blocks() > 0, "nothing was ever written to {}", disk.display());
        let vm = lab.boot_disks(name, std::slice::from_ref(disk)).unwrap();
        vm.wait_for("not a bootable disk", SOON).unwrap_or_else(|e| panic!("{e}"));
        vm.wait_for("No bootable device", SOON).unwrap_or_else(|e| panic!("{e}"));
    }
}

fn write(disk: &str, url: &str, sha256: &str) -> Step {
    let checksum = format!("sha256:{sha256}");
    // A proxy without ranges that cuts every answer at the same byte is worth the default's ten minutes to nobody here.
    let budget = ("RETRY_BUDGET_SECONDS", "10".into());
    Step::new("image-write", [("DEST_DISK", disk.into()), ("IMG_URL", url.into()), ("IMG_CHECKSUM", checksum), budget])
}

/// Waits for the failure of a workflow's only action; its message and causes.
fn reason(lab: &mut Lab, name: &str, code: &str) -> String {
    let workflow = lab.finished(name, INSTALL).unwrap();
    assert_eq!(state(&workflow), "FAILED", "{workflow:#}");
    let failure = &workflow["status"]["tasks"][0]["actions"][0]["failure"];
    assert_eq!(failure["code"], code, "{workflow:#}");
    format!("{} {}", failure["message"], failure["causes"])
}
